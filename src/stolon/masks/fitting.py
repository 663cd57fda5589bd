"""The training of masks: one, or many at once that share the frozen network.

Many masks of one network differ only in their scores, so their layers are stacked and computed together: on a small
network most of a step is overhead that is then paid once. All of it is exact: each mask's numbers are those it would
have alone, up to rounding (but where a net drops out: what is dropped is drawn for all of them).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from stolon.errors import DataError, TaskError
from stolon.masks.frozen import FrozenNet
from stolon.masks.popup import MaskRule, Room, begin_scores, masked, scaled
from stolon.outcomes import Epoch
from stolon.randomness import number, permutation, seeded
from stolon.settings import one_of
from stolon.tasks import Split, Task, to_float
from stolon.training import (
    EVALUATION_BATCH,
    OptimizerName,
    Training,
    load_optimizer,
    make_optimizer,
    mini_batches,
    optimizer_tensors,
)

Schedule = Literal["constant", "cosine"]
SCHEDULES: Final = ("constant", "cosine")


@dataclass(frozen=True)
class MaskTraining(Training):
    """How masks are trained; by default as SupSup's on MNIST, for two epochs.

    Attributes:
        epochs: passes over the training data, >= 1.
        batch_size: samples per step, >= 1.
        learning_rate: at first, > 0.
        optimizer: see :class:`~stolon.training.Training`.
        momentum: of SGD and RMSprop, 0 to 1.
        weight_decay: >= 0.
        schedule: of the learning rate: ``"constant"``, or ``"cosine"``: down to 0 over the epochs.

    Raises:
        SettingError: a value is out of its range.
    """

    epochs: int = 2
    batch_size: int = 128
    learning_rate: float = 1e-4
    optimizer: OptimizerName = "rmsprop"
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: Schedule = "constant"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("schedule", self.schedule, SCHEDULES)

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))


@final
@dataclass(frozen=True)
class Job:
    """One mask to train.

    Attributes:
        task: what it is to know.
        seed: its first scores and the order of its data are functions of it.
        start: scores to begin with, one tensor for each layer; by default they are drawn.
    """

    task: Task
    seed: int
    start: tuple[Tensor, ...] = field(default=(), hash=False)


def mask_seed(seed: int, index: int) -> int:
    """The seed of the i-th of several masks of one task; the first has the task's own."""
    return seed if index == 0 else number(seed, "impression", index)


@final
class PopupFit:
    """Edge-popup for K jobs at once; complete, as tensors, between any two epochs.

    Args:
        frozen: the network.
        jobs: what to train; their tasks have equally many training samples.
        rule: how scores become masks.
        training: how.

    Raises:
        DataError: the tasks have unequally many training samples, or more classes than the network has outputs; or
            scores to begin with are not of its layers.
    """

    def __init__(
        self, frozen: FrozenNet, jobs: Sequence[Job], rule: MaskRule, training: MaskTraining
    ) -> None:
        sizes = sorted({len(job.task.train) for job in jobs})
        if len(sizes) > 1:
            raise DataError(
                f"expected as many training samples in each task that is trained at once, found {sizes}; "
                "train these one after the other"
            )
        for job in jobs:
            check_classes(frozen, job.task)
        self.frozen, self.jobs, self.rule, self._training = frozen, tuple(jobs), rule, training
        begun = [
            job.start
            or tuple(
                begin_scores(shape, rule, job.seed, job.task.name, layer)
                for layer, shape in enumerate(frozen.shapes)
            )
            for job in jobs
        ]
        for job, scores in zip(jobs, begun, strict=True):
            if [layer.shape for layer in scores] != list(frozen.shapes):
                raise DataError(
                    f"task {job.task.name!r}: expected scores of the network's layers "
                    f"{[tuple(shape) for shape in frozen.shapes]} to begin with, found ones of "
                    f"{[tuple(layer.shape) for layer in scores]}"
                )
        self.scores = [torch.stack(layer).requires_grad_() for layer in zip(*begun, strict=True)]
        self.statistics = {
            name: torch.stack([value] * len(jobs)) for name, value in frozen.begin_statistics().items()
        }
        for layer in self.scores:
            layer.grad = torch.zeros_like(layer)
        self._weights = scaled(frozen.weights, rule)
        self._rooms = [
            Room(layer if len(jobs) > 1 else layer[0], weight)
            for layer, weight in zip(self.scores, self._weights, strict=True)
        ]
        self._optimizer = make_optimizer(self.scores, training)
        self._epoch = 0

    def run(self) -> Iterator[Epoch]:
        """Train to the end; yields after every epoch, with the jobs' mean loss and validation accuracy."""
        training, name = self._training, self.jobs[0].task.name
        while self._epoch < training.epochs:
            for group in self._optimizer.param_groups:
                group["lr"] = training.rate(self._epoch)
            loss = self._one_epoch()
            if not math.isfinite(loss):
                raise TaskError(
                    f"task {name!r}: expected a training that stays finite, found loss {loss} in epoch "
                    f"{self._epoch + 1}; lower the learning rate or scale the data"
                )
            self._epoch += 1
            yield Epoch(name, "masks", self._epoch, training.epochs, loss, self.accuracy())

    def masks(self, job: int) -> tuple[Tensor, ...]:
        """A job's mask of each layer."""
        return tuple(self.rule.mask(layer[job]) for layer in self.scores)

    def statistics_of(self, job: int) -> dict[str, Tensor]:
        """A job's running statistics of normalisation."""
        return {name: value[job].clone() for name, value in self.statistics.items()}

    @torch.no_grad()
    def accuracy(self) -> float | None:
        """Mean validation accuracy of the jobs that have validation data; None where none has."""
        found = []
        for i, job in enumerate(self.jobs):
            if len(job.task.val):
                weights = [masked(layer[i], weight, self.rule) for layer, weight in self._layers()]
                found.append(
                    accuracy(self.frozen, weights, self.statistics_of(i), job.task.val, len(job.task.classes))
                )
        return sum(found) / len(found) if found else None

    def _layers(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(self.scores, self._weights, strict=True)

    def _one_epoch(self) -> float:
        splits = [job.task.train for job in self.jobs]
        orders = [
            permutation(len(job.task.train), job.seed, "order", job.task.name, self._epoch)
            for job in self.jobs
        ]
        total = torch.zeros(())
        first = self.jobs[0]
        with seeded(first.seed, "dropout", first.task.name, self._epoch):
            size = self._training.batch_size
            for indices in zip(*(mini_batches(order, size) for order in orders), strict=True):
                batches = [split.batch(chosen) for split, chosen in zip(splits, indices, strict=True)]
                loss = self._loss(batches)
                # the mean over samples of each job; jobs do not share a parameter, so their losses are summed
                self._optimizer.zero_grad(set_to_none=False)
                loss.backward()
                self._optimizer.step()
                total += loss.detach() * len(indices[0])
        return total.item() / len(splits[0]) / len(self.jobs)

    def _loss(self, batches: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        if len(self.jobs) == 1:
            (x, y), statistics = batches[0], {name: value[0] for name, value in self.statistics.items()}
            weights = [
                masked(layer.squeeze(0), weight, self.rule, room)
                for (layer, weight), room in zip(self._layers(), self._rooms, strict=True)
            ]
            return cross_entropy(self.frozen(to_float(x), weights, statistics, training=True), y)
        x = torch.stack([to_float(batch) for batch, _ in batches])
        y = torch.cat([labels for _, labels in batches])
        weights = [
            masked(layer, weight, self.rule, room)
            for (layer, weight), room in zip(self._layers(), self._rooms, strict=True)
        ]
        scores = self.frozen.at_once(x, weights, self.statistics, training=True)
        return cross_entropy(scores.flatten(0, 1), y) * len(batches)

    def state(self) -> dict[str, Tensor]:
        """Everything as tensors."""
        scores = {f"scores.{i}": layer.detach() for i, layer in enumerate(self.scores)}
        statistics = {f"statistics.{name}": value for name, value in self.statistics.items()}
        return {
            "epoch": torch.tensor(self._epoch),
            **scores,
            **statistics,
            **optimizer_tensors(self._optimizer),
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`state` gave."""
        self._epoch = int(state["epoch"])
        with torch.no_grad():
            for i, layer in enumerate(self.scores):
                layer.copy_(state[f"scores.{i}"])
        for name, value in self.statistics.items():
            value.copy_(state[f"statistics.{name}"])
        load_optimizer(self._optimizer, state)


@torch.no_grad()
def accuracy(
    frozen: FrozenNet, weights: Sequence[Tensor], statistics: Mapping[str, Tensor], split: Split, classes: int
) -> float:
    """Share of a split that is labelled rightly under these weights, among so many classes."""
    right = 0
    for indices in torch.arange(len(split)).split(EVALUATION_BATCH):
        x, y = split.batch(indices)
        scores = frozen(to_float(x), weights, statistics, training=False)[:, :classes]
        right += int((scores.argmax(1) == y).sum())
    return right / len(split)


def check_classes(frozen: FrozenNet, task: Task) -> None:
    """Refuse a task that the network cannot answer.

    Raises:
        DataError: it has other inputs, or more classes than there are outputs.
    """
    if task.shape != frozen.input_shape:
        raise DataError(
            f"task {task.name!r}: expected inputs {frozen.input_shape} as the frozen network takes them, found "
            f"{task.shape}"
        )
    if len(task.classes) > frozen.outputs:
        raise DataError(
            f"task {task.name!r}: expected at most {frozen.outputs} classes, the network's outputs, found "
            f"{len(task.classes)}; make the learner with more outputs"
        )
