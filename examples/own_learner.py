"""A learner from scratch: one prototype per class, moved by learning vector quantisation (LVQ1).

    python examples/own_learner.py

A class is a point among the inputs, at first the mean of its images. In each epoch every image pulls its
nearest prototype if that has the right class, and pushes it away if not. Tasks share nothing, so nothing is
forgotten; without a task's name, the nearest prototype of all tasks answers.

Source:
    Kohonen, "Self-Organization and Associative Memory", 1988. Unlike there, steps are taken in batches.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from stolon import streams
from stolon.experiments import evaluate
from stolon.learner import Epoch, Learner, Prediction, Size
from stolon.randomness import permutation
from stolon.records import Json
from stolon.settings import at_least, within
from stolon.tasks import Split, Task, to_float


@dataclass(frozen=True)
class PrototypesConfig:
    """How prototypes are moved: ``epochs`` >= 1, ``batch_size`` >= 1, ``rate`` 0 to 1, falling to nothing."""

    epochs: int = 5
    batch_size: int = 32
    rate: float = 0.1

    def __post_init__(self) -> None:
        at_least("epochs", self.epochs, 1)
        at_least("batch_size", self.batch_size, 1)
        within("rate", self.rate, 0, 1)


def class_means(split: Split, classes: int) -> Tensor:
    """The mean input of each class [C, D]; infinitely far where a class has no samples."""
    x, y = split.batch(torch.arange(len(split)))
    x = to_float(x).flatten(1)
    sums = torch.zeros(classes, x.shape[1]).index_add_(0, y, x)
    counts = y.bincount(minlength=classes)[:, None]
    return torch.where(counts > 0, sums / counts.clamp(min=1), torch.inf)


def distances(x: Tensor, prototypes: Tensor) -> Tensor:
    """Squared distances [B, C] of inputs [B, D] to prototypes [C, D]."""
    return (x[:, None] - prototypes).square().sum(2)


def moved(prototypes: Tensor, x: Tensor, y: Tensor, rate: float) -> Tensor:
    """The prototypes after one LVQ1 step; each moves by the mean of what its images ask for."""
    nearest = distances(x, prototypes).argmin(1)
    sign = torch.where(nearest == y, rate, -rate)[:, None]
    pull = torch.zeros_like(prototypes).index_add_(0, nearest, sign * (x - prototypes[nearest]))
    return prototypes + pull / nearest.bincount(minlength=len(prototypes)).clamp(min=1)[:, None]


@final
class Prototypes(Learner):
    """One prototype per class and task, on the inputs as they are."""

    name: ClassVar[str] = "prototypes"
    Config: ClassVar[type[PrototypesConfig]] = PrototypesConfig

    def __init__(self, config: PrototypesConfig) -> None:
        super().__init__()
        self._config = config
        self._prototypes: dict[str, Tensor] = {}  # [C, D] by task, the one under way included
        self._epoch = 0  # epochs done of the task under way

    def settings(self) -> Mapping[str, Json]:
        """All settings; it has no net, which is a value too."""
        return {"net": "none", **asdict(self._config)}

    def logits(self, x: Tensor, task: str) -> Tensor:
        """Scores [B, C]: the nearer, the higher."""
        self._check_input(x, task)
        return -distances(to_float(x).flatten(1), self._prototypes[task])

    def size(self) -> Size:
        """Nothing shared; the prototypes of each task."""
        return Size.of({}, {task: {"prototypes": own} for task, own in self._prototypes.items()})

    def _learn(self, task: Task, seed: int) -> Iterator[Epoch]:
        config = self._config
        if task.name not in self._prototypes:
            self._prototypes[task.name] = class_means(task.train, len(task.classes))
        while self._epoch < config.epochs:
            order = permutation(len(task.train), seed, "order", task.name, self._epoch)
            rate = config.rate * (1 - self._epoch / config.epochs)
            prototypes = self._prototypes[task.name]
            for indices in order.split(config.batch_size):
                x, y = task.train.batch(indices)
                prototypes = moved(prototypes, to_float(x).flatten(1), y, rate)
            self._prototypes[task.name], self._epoch = prototypes, self._epoch + 1
            yield Epoch(task.name, "train", self._epoch, config.epochs)
        self._epoch = 0

    def _infer(self, x: Tensor) -> Prediction:
        if not self.tasks:
            return super()._infer(x)  # refuses
        owners = [(task, label) for task in self.tasks for label in range(len(self.classes(task)))]
        confidence, best = torch.cat([self.logits(x, task) for task in self.tasks], 1).softmax(1).max(1)
        answers = [owners[index] for index in best.tolist()]
        return Prediction(
            labels=torch.tensor([label for _, label in answers]),
            classes=tuple(self.classes(task)[label] for task, label in answers),
            tasks=tuple(task for task, _ in answers),
            confidence=confidence,
        )

    def _state(self) -> tuple[Mapping[str, Json], Mapping[str, Mapping[str, Tensor]]]:
        groups = {f"task:{task}": {"prototypes": own} for task, own in self._prototypes.items()}
        return {"epoch": self._epoch}, groups

    def _restore(self, document: Mapping[str, Json], groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        epoch = int(document["state"]["epoch"])
        found = {name.removeprefix("task:"): tensors["prototypes"] for name, tensors in groups.items()}
        self._prototypes, self._epoch = found, epoch


if __name__ == "__main__":
    stream = streams.make("digits-split", seed=0)
    learner = Prototypes(PrototypesConfig())
    for task in stream:
        for _ in learner.learn(task):
            pass
    for task in stream:
        named, unnamed = evaluate(learner, task), evaluate(learner, task, named=False)
        assert named is not None
        assert unnamed is not None
        print(f"{task.name}: task named {named.accuracy:.2f}, not named {unnamed.accuracy:.2f}")
