"""Training that keeps its best state: the loop under heads and biases, complete between any two epochs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam

from stolon.learner import Epoch
from stolon.randomness import permutation
from stolon.training import load_optimizer, optimizer_tensors


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        epochs: at most, >= 1.
        patience: stop after more epochs than this without a better validation loss.
        batch_size: samples per step, >= 1.
        learning_rates: of Adam, by parameter; > 0.
        decays: whether the rates fall to nothing, linearly over all steps; else they stay.
    """

    epochs: int
    patience: int
    batch_size: int
    learning_rates: Mapping[str, float]
    decays: bool = False


@final
class BestFit:
    """Adam on a few parameters until the validation loss stops falling; the best epoch's values are kept.

    The best epoch is chosen on validation data (the released SKILL code chooses it on the test set), by
    cross-entropy; the start is a candidate too. With a few dozen validation images, accuracy is too coarse
    to choose by (tried once on ten sets, one seed, not kept as a benchmark: 75.8 % test accuracy by loss, 74.5 %
    by accuracy). Without validation data the last epoch is kept.

    Args:
        parameters: what is trained, by name; the tensors are copied.
        logits: scores of training samples, given the parameters, the samples' indices and the epoch.
        labels: of the training samples, int64 [N].
        validate: mean validation loss and accuracy given the parameters, or None without validation data.
        schedule: how long and how fast.
        state: what :meth:`state` gave, to go on from there.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        logits: Callable[[Mapping[str, Tensor], Tensor, int], Tensor],
        labels: Tensor,
        validate: Callable[[Mapping[str, Tensor]], tuple[float, float] | None],
        schedule: Schedule,
        *,
        state: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._logits, self._labels, self._validate, self._schedule = logits, labels, validate, schedule
        current = {key: (state or {}).get(f"now.{key}", value) for key, value in parameters.items()}
        self._now = {key: nn.Parameter(value.detach().clone()) for key, value in current.items()}
        groups = [{"params": [p], "lr": schedule.learning_rates[key]} for key, p in self._now.items()]
        self._optimizer = Adam(groups, fused=True)
        self._epoch, self._stale, self._lowest = 0, 0, float("inf")
        self._best = {key: value.detach().clone() for key, value in parameters.items()}
        if state:
            self._epoch, self._stale = int(state["epoch"]), int(state["stale"])
            self._lowest = float(state["lowest"])
            self._best = {key: state[f"best.{key}"].clone() for key in parameters}
            load_optimizer(self._optimizer, state)
        elif (verdict := validate(self._best)) is not None:
            self._lowest = verdict[0]  # the start is a candidate too: training may only better it

    @property
    def best(self) -> dict[str, Tensor]:
        """The parameters of the best epoch so far."""
        return self._best

    @property
    def lowest(self) -> float:
        """The validation loss of :attr:`best`; infinite without validation data."""
        return self._lowest

    def run(self, task: str, phase: str, seed: int) -> Iterator[Epoch]:
        """Train on; yields after every epoch."""
        schedule = self._schedule
        while self._epoch < schedule.epochs and self._stale <= schedule.patience:
            loss = self._train(seed, task, phase)
            self._epoch += 1
            accuracy = self._judge()
            yield Epoch(task, phase, self._epoch, schedule.epochs, loss, accuracy)

    def state(self) -> dict[str, Tensor]:
        """Everything as tensors."""
        counters = {
            "epoch": torch.tensor(self._epoch),
            "stale": torch.tensor(self._stale),
            "lowest": torch.tensor(self._lowest, dtype=torch.float64),
        }
        now = {f"now.{key}": value.detach() for key, value in self._now.items()}
        best = {f"best.{key}": value for key, value in self._best.items()}
        return {**counters, **now, **best, **optimizer_tensors(self._optimizer)}

    def _train(self, seed: int, task: str, phase: str) -> float:
        order = permutation(len(self._labels), seed, "order", task, phase, self._epoch)
        batches = order.split(self._schedule.batch_size)
        total = torch.zeros(())
        for step, indices in enumerate(batches):
            if self._schedule.decays:
                self._set_rates(1 - (self._epoch + step / len(batches)) / self._schedule.epochs)
            loss = cross_entropy(self._logits(self._now, indices, self._epoch), self._labels[indices])
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            total += loss.detach() * len(indices)
        return total.item() / len(order)

    def _set_rates(self, share: float) -> None:
        for key, group in zip(self._now, self._optimizer.param_groups, strict=True):
            group["lr"] = self._schedule.learning_rates[key] * share

    def _judge(self) -> float | None:
        with torch.no_grad():
            verdict = self._validate({key: value.detach() for key, value in self._now.items()})
        if verdict is None or verdict[0] < self._lowest:
            self._best = {key: value.detach().clone() for key, value in self._now.items()}
            self._stale = 0
        else:
            self._stale += 1
        if verdict is None:
            return None
        self._lowest = min(self._lowest, verdict[0])
        return verdict[1]
