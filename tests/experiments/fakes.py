"""A learner and streams small enough to be killed at any moment, many times."""

import dataclasses
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from stolon.errors import DataError
from stolon.experiments import LearnerSpec, StreamSpec
from stolon.learner import Epoch, Learner, Prediction, Size
from stolon.randomness import generator
from stolon.tasks import Split, Stream, Task, to_float


@dataclass(frozen=True)
class Config:
    epochs: int = 4
    pause_s: float = 0.0
    infers: bool = False
    fails_on: str = ""
    dies_on: str = ""


class Fake(Learner):
    """One linear layer per task, one full-batch step per epoch; it drifts, so that it forgets."""

    name: ClassVar[str] = "fake"
    Config: ClassVar[type] = Config

    def __init__(self, net: str, config: Config) -> None:
        super().__init__()
        self._net, self._config = net, config
        self._layers: dict[str, nn.Linear] = {}
        self._done = 0

    def settings(self):
        return {"net": self._net, **dataclasses.asdict(self._config)}

    def logits(self, x, task):
        self._require(task)
        with torch.no_grad():
            return self._layers[task](to_float(x).flatten(1))

    def _infer(self, x):
        if not self._config.infers:
            return super()._infer(x)
        names = list(self._layers)
        scores = [self.logits(x, name).max(1) for name in names]
        best = torch.stack([s.values for s in scores]).argmax(0)
        labels = torch.stack([s.indices for s in scores]).gather(0, best[None])[0]
        tasks = tuple(names[i] for i in best.tolist())
        classes = tuple(self.classes(t)[i] for t, i in zip(tasks, labels.tolist(), strict=True))
        return Prediction(labels, classes, tasks, torch.ones(len(x)))

    def size(self):
        return Size.of({}, {name: layer.state_dict() for name, layer in self._layers.items()})

    def _learn(self, task: Task, seed: int) -> Iterator[Epoch]:
        if task.name == self._config.fails_on:
            raise DataError(f"cannot learn <b>{task.name}</b>")
        if task.name == self._config.dies_on:
            os.abort()
        x, y = task.train.batch(torch.arange(len(task.train)))
        if task.name not in self._layers:
            layer = nn.Linear(x[0].numel(), len(task.classes))
            g = generator(seed, "init", task.name)
            with torch.no_grad():
                for parameter in layer.parameters():
                    parameter.normal_(generator=g)
            self._layers[task.name] = layer
        layer = self._layers[task.name]
        while self._done < self._config.epochs:
            time.sleep(self._config.pause_s)
            loss = nn.functional.cross_entropy(layer(to_float(x).flatten(1)), y)
            layer.zero_grad()
            loss.backward()
            noise = generator(seed, "drift", task.name, self._done)
            with torch.no_grad():
                for parameter in layer.parameters():
                    parameter.sub_(parameter.grad, alpha=0.5)
                for other in self._layers.values():
                    other.weight += 0.02 * torch.randn(other.weight.shape, generator=noise)
            self._done += 1
            yield Epoch(task.name, "train", self._done, self._config.epochs, loss.item())
        self._done = 0

    def _state(self):
        return {"done": self._done}, {name: layer.state_dict() for name, layer in self._layers.items()}

    def _restore(self, document, groups):
        layers = {}
        for name, tensors in groups.items():
            layers[name] = nn.Linear(tensors["weight"].shape[1], tensors["weight"].shape[0])
            layers[name].load_state_dict(dict(tensors))
        self._layers, self._done = layers, document["state"]["done"]


def toy_task(name: str, seed: int) -> Task:
    g = generator(seed, "data", name)
    centres = torch.rand(3, 1, 4, 4, generator=g)

    def split(n: int) -> Split:
        y = torch.arange(n) % 3
        return Split.of(centres[y] + 0.3 * torch.randn(n, 1, 4, 4, generator=g), y)

    return Task(name, tuple(f"{name}-{i}" for i in range(3)), split(24), split(15), split(30))


def make_learner(spec: LearnerSpec) -> Fake:
    return Fake(spec.net, Config(**spec.settings))


def make_stream(spec: StreamSpec, seed: int) -> Stream:
    return Stream(
        spec.name, [toy_task(f"{spec.name}-{i}", seed) for i in range(spec.options.get("tasks", 3))]
    )
