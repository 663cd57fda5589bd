"""The phases in which the lightweight learner learns one task: features, head, maybe biases."""

from collections.abc import Iterator, Mapping
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from stolon.learner import Epoch
from stolon.light.best_fit import BestFit, Schedule
from stolon.light.biases import BiasSites
from stolon.light.config import LightweightConfig
from stolon.light.features import FeaturePass
from stolon.light.shifts import offsets, shifted
from stolon.nets.backbone import BATCH, Backbone
from stolon.randomness import seeded
from stolon.tasks import Task

Parameters = Mapping[str, Tensor]


@final
class TaskRun:
    """The learning of one task; complete, as tensors, at every yield.

    Args:
        backbone: frozen.
        config: how to learn.
        task: what.
        seed: all randomness is a function of it.
        state: what :meth:`state` gave, to go on from there; empty for a new run.
    """

    def __init__(
        self, backbone: Backbone, config: LightweightConfig, task: Task, seed: int, state: Parameters
    ) -> None:
        self._backbone, self._config, self._task, self._seed = backbone, config, task, seed
        self._splits = {"train": task.train, "val": task.val}
        self._passes = {
            part: FeaturePass(backbone, split, state.get(f"features.{part}"))
            for part, split in self._splits.items()
        }
        self._sites = None if config.biases == "none" else BiasSites(backbone.module, config.biases)
        self._head = self._head_fit(below("head.", state)) if "head.epoch" in state else None
        self._tuned = self._bias_fit(below("biases.", state)) if "biases.epoch" in state else None

    def run(self) -> Iterator[Epoch]:
        """Learn to the end; yields after every chunk of features and after every epoch."""
        yield from self._compute_features()
        if self._head is None:
            self._head = self._head_fit(None)
        yield from self._head.run(self._task.name, "head", self._seed)
        if self._sites is None:
            return
        if self._tuned is None:
            self._tuned = self._bias_fit(None)
        yield from self._tuned.run(self._task.name, "biases", self._seed)

    def features(self, part: str) -> Tensor:
        """Features of ``"train"`` or ``"val"``, float [N, D]."""
        return self._passes[part].features

    def found(self) -> tuple[Tensor, Tensor, Tensor]:
        """The best head and biases so far; a head of zeros, which knows nothing, before there is one."""
        classes = len(self._task.classes)
        if self._head is None:
            width = self._backbone.features(self._task.train.batch(torch.tensor([0]))[0]).shape[1]
            return torch.zeros(classes, width), torch.zeros(classes), torch.zeros(0)
        tuned = self._tuned
        # Without validation data both are infinite, and what was asked for is kept.
        if tuned is None or tuned.lowest > self._head.lowest:
            return self._head.best["weight"], self._head.best["bias"], torch.zeros(0)
        return tuned.best["weight"], tuned.best["bias"], tuned.best["biases"]

    def state(self) -> dict[str, Tensor]:
        """Everything as tensors."""
        state = {f"features.{part}": passed.features for part, passed in self._passes.items()}
        for prefix, fit in (("head.", self._head), ("biases.", self._tuned)):
            if fit is not None:
                state |= {prefix + key: value for key, value in fit.state().items()}
        return state

    def _compute_features(self) -> Iterator[Epoch]:
        total, before = sum(len(split) for split in self._splits.values()), 0
        for part, passed in self._passes.items():
            for done in passed.run():
                yield Epoch(self._task.name, "features", before + done, total)
            before += len(self._splits[part])

    def _head_fit(self, state: Parameters | None) -> BestFit:
        features, held_out = self.features("train"), self.features("val")
        labels = self._task.val.labels
        return BestFit(
            self._fresh_head("head"),
            lambda own, indices, _: linear(features[indices], own["weight"], own["bias"]),
            self._task.train.labels,
            lambda own: (
                _verdict(linear(held_out, own["weight"], own["bias"]), labels) if len(labels) else None
            ),
            Schedule(
                self._config.epochs,
                self._config.patience,
                self._config.batch_size,
                dict.fromkeys(("weight", "bias"), self._config.learning_rate),
            ),
            state=state,
        )

    def _fresh_head(self, purpose: str) -> dict[str, Tensor]:
        with seeded(self._seed, purpose, self._task.name):
            head = nn.Linear(self.features("train").shape[1], len(self._task.classes))
        return {"weight": head.weight, "bias": head.bias}

    def _bias_fit(self, state: Parameters | None) -> BestFit:
        assert self._sites is not None
        assert self._head is not None
        backbone, sites, train, val = self._backbone, self._sites, self._task.train, self._task.val

        def scores(own: Parameters, x: Tensor) -> Tensor:
            return linear(backbone.features(x, sites.parameters(own["biases"])), own["weight"], own["bias"])

        def validate(own: Parameters) -> tuple[float, float] | None:
            if not len(val):
                return None
            batches = [val.batch(indices) for indices in torch.arange(len(val)).split(BATCH)]
            return _verdict(
                torch.cat([scores(own, x) for x, _ in batches]), torch.cat([y for _, y in batches])
            )

        def moved(own: Parameters, indices: Tensor, epoch: int) -> Tensor:
            x = train.batch(indices)[0]
            reach = int(self._config.shift * min(x.shape[2:])) if x.ndim == 4 else 0
            if reach:
                by = offsets(len(train), reach, self._seed, self._task.name, epoch)
                x = shifted(x, by[indices])
            return scores(own, x)

        # A fresh head, as in the paper: one that has learned the training images already leaves the biases
        # nothing to learn from (measured at 96 pixels: trashnet 73 % against 69 %, seedlings 68 % against 63 %).
        return BestFit(
            {**self._fresh_head("biases"), "biases": sites.zeros()},
            moved,
            train.labels,
            validate,
            Schedule(
                self._config.bias_epochs,
                self._config.bias_epochs,  # the falling rate ends it, not patience
                self._config.batch_size,
                {
                    **dict.fromkeys(("weight", "bias"), self._config.learning_rate),
                    "biases": self._config.bias_learning_rate,
                },
                decays=True,
            ),
            state=state,
        )


def _verdict(scores: Tensor, labels: Tensor) -> tuple[float, float]:
    with torch.no_grad():
        loss = float(cross_entropy(scores, labels))
        return loss, float((scores.argmax(1) == labels).float().mean())


def below(prefix: str, tensors: Parameters) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, by what comes after it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
