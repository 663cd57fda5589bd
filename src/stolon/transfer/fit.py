"""The training of one task's parameters, by whatever strategy; complete, as tensors, between any two epochs."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from stolon.errors import TaskError
from stolon.outcomes import Epoch
from stolon.randomness import permutation, seeded
from stolon.settings import at_least
from stolon.tasks import Task, to_float
from stolon.training import (
    OptimizerName,
    Training,
    load_optimizer,
    make_optimizer,
    mini_batches,
    optimizer_tensors,
)
from stolon.transfer.configurations import Configuration
from stolon.transfer.network import Layers, Network, Parts


@dataclass(frozen=True)
class TransferTraining(Training):
    """How a task is trained; by default as in the papers' CIFAR-100 experiment, but for fewer epochs and no decay.

    Attributes:
        epochs: passes over the training data, >= 1 (the papers: 500 to 2000).
        batch_size: samples per step, >= 1.
        learning_rate: at first, > 0.
        optimizer: see :class:`~stolon.training.Training`; the papers use TensorFlow's RMSProp.
        momentum: of SGD and RMSprop, 0 to 1.
        weight_decay: >= 0.
        decay: the learning rate is divided by 1 + decay x epochs so far, those of earlier tasks included, >= 0
            (the papers: 1 / 4000).
        drop_last: leave out the last, smaller mini-batch of an epoch, as the papers do (not where it is the only one).
    """

    epochs: int = 100
    batch_size: int = 10
    learning_rate: float = 1e-4
    optimizer: OptimizerName = "rmsprop-tf"
    momentum: float = 0.0
    decay: float = 0.0
    drop_last: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("decay", self.decay, 0)


@final
@dataclass(frozen=True)
class Lesson:
    """What there is to train, and on what.

    Attributes:
        network: the structure.
        shared: what tasks share.
        parts: the task's own.
        task: the task.
        seed: everything random is a function of it.
    """

    network: Network
    shared: Layers
    parts: Parts
    task: Task
    seed: int


class Strategy(ABC):
    """Says what is minimised at a step, and which configuration the task would have now."""

    @property
    @abstractmethod
    def configuration(self) -> Configuration:
        """What the task would be answered with now."""

    @abstractmethod
    def losses(self, x: Tensor, y: Tensor, epoch: int, step: int) -> Iterator[Tensor]:
        """Losses to step on for one mini-batch; the parameters are updated after each."""

    @abstractmethod
    def leaves(self) -> Sequence[Tensor]:
        """What is trained; none of it is replaced while training."""

    def begin_epoch(self, learning_rate: float) -> None:  # noqa: B027 - most have no optimiser of their own
        """An epoch begins; the weights are trained with this rate."""

    def notes(self) -> dict[str, Any]:
        """What there is to tell after an epoch."""
        return {"configuration": str(self.configuration)}

    def state(self) -> dict[str, Tensor]:
        """What it remembers, beside the parameters."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:  # noqa: B027 - one that remembers nothing
        """Take back what :meth:`state` gave."""


@final
class Fit:
    """Epochs of mini-batches.

    Args:
        strategy: what to minimise.
        training: how.
        lesson: on what.
        before: epochs of earlier tasks, for the decay of the learning rate.
    """

    def __init__(self, strategy: Strategy, training: TransferTraining, lesson: Lesson, before: int) -> None:
        self.strategy, self._training, self._lesson, self._before = strategy, training, lesson, before
        self._leaves = leaves = list(strategy.leaves())
        for leaf in leaves:
            leaf.requires_grad_()
            leaf.grad = torch.zeros_like(leaf)  # from the first step on; see _one_epoch
        self._optimizer = make_optimizer(leaves, training)
        self._epoch = 0

    def run(self) -> Iterator[Epoch]:
        """Train to the end; yields after every epoch, with no validation accuracy.

        Raises:
            TaskError: the training has blown up; nothing could be chosen by its numbers.
        """
        training, name = self._training, self._lesson.task.name
        while self._epoch < training.epochs:
            for stage in self._lesson.network.stages:
                stage.train()
            rate = training.learning_rate / (1 + training.decay * (self._before + self._epoch))
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            self.strategy.begin_epoch(rate)
            loss = self._one_epoch()
            if not (math.isfinite(loss) and all(bool(leaf.isfinite().all()) for leaf in self._leaves)):
                raise blown_up(name, f"loss {loss} in epoch {self._epoch + 1}")
            self._epoch += 1
            yield Epoch(name, "train", self._epoch, training.epochs, loss, notes=self.strategy.notes())

    def _one_epoch(self) -> float:
        task, seed, epoch = self._lesson.task, self._lesson.seed, self._epoch
        order = permutation(len(task.train), seed, "order", task.name, epoch)
        training = self._training
        batches = mini_batches(order, training.batch_size, drop_last=training.drop_last)
        total, steps = torch.zeros(()), 0
        with seeded(seed, "dropout", task.name, epoch):
            for step, indices in enumerate(batches):
                x, y = task.train.batch(indices)
                for loss in self.strategy.losses(to_float(x), y, epoch, step):
                    # zeros, not None: what a step does not touch still counts in the optimiser's averages
                    self._optimizer.zero_grad(set_to_none=False)
                    loss.backward()
                    self._optimizer.step()
                    total += loss.detach()
                    steps += 1
        return total.item() / steps

    def state(self) -> dict[str, Tensor]:
        """Epochs done, the optimiser's tensors, the strategy's memory; the parameters are their owner's."""
        memory = {f"strategy.{name}": value for name, value in self.strategy.state().items()}
        return {"epoch": torch.tensor(self._epoch), **optimizer_tensors(self._optimizer), **memory}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`state` gave."""
        self._epoch = int(state["epoch"])
        load_optimizer(self._optimizer, state)
        start = "strategy."
        self.strategy.load({k.removeprefix(start): v for k, v in state.items() if k.startswith(start)})


def blown_up(task: str, found: str) -> TaskError:
    """What to raise where numbers have become infinite or none: nothing could be chosen by them."""
    return TaskError(
        f"task {task!r}: expected a training that stays finite, found {found}; lower the "
        "learning rate or scale the data"
    )
