r"""The training of coefficients: a new task as a sum of masks that are there (ImpressLearn, Eq. 1 and 2).

Layer l of the task's network is :math:`W_l \odot \sum_i \alpha_{li} M_{li}`; the coefficients begin at 1 / m and are
trained by gradient, with :math:`\lambda \sum_l (\lVert \alpha_l \rVert_1 - 1)^2` added to the loss.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from stolon.errors import DataError, TaskError
from stolon.masks.fitting import MaskTraining, accuracy, check_classes
from stolon.masks.frozen import FrozenNet
from stolon.masks.memory import LARGEST, Kept, StoredMask
from stolon.masks.mixing import LayeredMasks
from stolon.masks.popup import MaskRule, begin_scores, masked, scaled
from stolon.outcomes import Epoch
from stolon.randomness import permutation, seeded
from stolon.tasks import Task, to_float
from stolon.training import load_optimizer, make_optimizer, mini_batches, optimizer_tensors


@final
class CoefficientFit:
    """Trains one task's coefficients; complete, as tensors, between any two epochs.

    Args:
        frozen: the network.
        masks: the basis.
        scales: what each layer's sum is multiplied by.
        task: what to learn.
        seed: the order of the data is a function of it.
        training: how.
        penalty: lambda of Eq. 2.
        start: coefficients [d, m] to begin with; by default 1 / m.
        hybrid: the rule of a mask that the last layer gets of its own (appendix A.5); None for none.
        last: the last layer's own mask where it has one that stays as it is.

    Raises:
        DataError: the network cannot answer the task, or the masks are not of its layers.
    """

    def __init__(
        self,
        frozen: FrozenNet,
        masks: LayeredMasks,
        scales: Sequence[float],
        task: Task,
        *,
        seed: int,
        training: MaskTraining,
        penalty: float = 0.0,
        start: Tensor | None = None,
        hybrid: MaskRule | None = None,
        last: StoredMask | None = None,
    ) -> None:
        check_classes(frozen, task)
        if [tuple(shape) for shape in masks.shapes] != [tuple(shape) for shape in frozen.shapes]:
            raise DataError(
                f"expected masks of the network's layers {[tuple(s) for s in frozen.shapes]}, found ones of "
                f"{[tuple(s) for s in masks.shapes]}"
            )
        expected = (len(frozen.weights), masks.count)
        if start is not None and tuple(start.shape) != expected:
            raise DataError(
                f"expected coefficients {list(expected)} to begin with, found {list(start.shape)}"
            )
        self._frozen, self._masks, self._scales = frozen, masks, tuple(scales)
        self._task, self._seed, self._training = task, seed, training
        self._penalty, self._hybrid, self._kept_last = penalty, hybrid, last
        self._fixed = None if last is None else last.last_weight(frozen)
        begun = torch.full((len(frozen.weights), masks.count), 1 / masks.count) if start is None else start
        self._begun = begun.detach().float()
        self.alpha = self._begun.clone().requires_grad_()
        self.scores: Tensor | None = None
        self._last = frozen.weights[-1]
        if hybrid is not None:
            self._last = scaled(frozen.weights, hybrid)[-1]
            self.scores = begin_scores(frozen.shapes[-1], hybrid, seed, task.name, "hybrid").requires_grad_()
        self.statistics = frozen.begin_statistics()
        self._leaves = [self.alpha] if self.scores is None else [self.alpha, self.scores]
        for leaf in self._leaves:
            leaf.grad = torch.zeros_like(leaf)
        self._optimizer = make_optimizer(self._leaves, training)
        self._epoch = 0

    def run(self) -> Iterator[Epoch]:
        """Train to the end; yields after every epoch."""
        task, training = self._task, self._training
        while self._epoch < training.epochs:
            for group in self._optimizer.param_groups:
                group["lr"] = training.rate(self._epoch)
            loss = self._one_epoch()
            if not math.isfinite(loss):
                raise self._blown_up(f"loss {loss}")
            self._epoch += 1
            yield Epoch(task.name, "coefficients", self._epoch, training.epochs, loss, self.accuracy())

    def weights(self) -> list[Tensor]:
        """The weights of each layer now; gradients flow to the coefficients."""
        found = mixed_weights(self._frozen, self._masks, self._scales, self.alpha)
        if self.scores is not None:
            assert self._hybrid is not None
            found[-1] = masked(self.scores, self._last, self._hybrid)
        elif self._fixed is not None:
            found[-1] = self._fixed
        return found

    @torch.no_grad()
    def accuracy(self) -> float | None:
        """On the validation data, 0 to 1; None where there are none."""
        if not len(self._task.val):
            return None
        return accuracy(
            self._frozen, self.weights(), self.statistics, self._task.val, len(self._task.classes)
        )

    def kept(self) -> Kept:
        """What is kept of the task, coefficients in half precision."""
        last = self._kept_last
        if self.scores is not None:
            assert self._hybrid is not None
            last = StoredMask.of(
                [self._hybrid.mask(self.scores)], [self._hybrid.scale(self.scores.shape)], {}
            )
        statistics = {name: value.clone() for name, value in self.statistics.items()}
        return Kept(-1, self.alpha.detach().half(), statistics, last)

    def _one_epoch(self) -> float:
        task, total = self._task, torch.zeros(())
        order = permutation(len(task.train), self._seed, "order", task.name, self._epoch)
        with seeded(self._seed, "dropout", task.name, self._epoch):
            for indices in mini_batches(order, self._training.batch_size):
                x, y = task.train.batch(indices)
                loss = cross_entropy(
                    self._frozen(to_float(x), self.weights(), self.statistics, training=True), y
                )
                total += loss.detach() * len(y)
                if self._penalty:
                    used = self.alpha[:-1] if self._has_own_last else self.alpha
                    loss = loss + self._penalty * ((used.abs().sum(1) - 1) ** 2).sum()
                self._optimizer.zero_grad(set_to_none=False)
                loss.backward()
                self._optimizer.step()
                if not bool((self.alpha.detach().abs() <= LARGEST).all()):  # nor is NaN
                    raise self._blown_up(
                        f"coefficients that half precision cannot hold (at most {LARGEST:,.0f})"
                    )
                if self._has_own_last:
                    self._idle()
        return total.item() / len(task.train)

    @property
    def _has_own_last(self) -> bool:
        """Whether the last layer has a mask of its own, so that its coefficients are of no use."""
        return self.scores is not None or self._fixed is not None

    @torch.no_grad()
    def _idle(self) -> None:
        """Put back the last layer's coefficients, which nothing trains: weight decay would shrink them."""
        self.alpha[-1] = self._begun[-1]

    def _blown_up(self, found: str) -> TaskError:
        return TaskError(
            f"task {self._task.name!r}: expected a training that stays finite, found {found} in epoch "
            f"{self._epoch + 1}; lower the learning rate or scale the data"
        )

    def state(self) -> dict[str, Tensor]:
        """Everything as tensors."""
        scores = {} if self.scores is None else {"scores": self.scores.detach()}
        statistics = {f"statistics.{name}": value for name, value in self.statistics.items()}
        return {
            "epoch": torch.tensor(self._epoch),
            "alpha": self.alpha.detach(),
            **scores,
            **statistics,
            **optimizer_tensors(self._optimizer),
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`state` gave."""
        self._epoch = int(state["epoch"])
        with torch.no_grad():
            self.alpha.copy_(state["alpha"])
            if self.scores is not None:
                self.scores.copy_(state["scores"])
        for name, value in self.statistics.items():
            value.copy_(state[f"statistics.{name}"])
        load_optimizer(self._optimizer, state)


def mixed_weights(
    frozen: FrozenNet, masks: LayeredMasks, scales: Sequence[float], alpha: Tensor
) -> list[Tensor]:
    """The weights of each layer under coefficients [d, m]; gradients flow to these."""
    return [
        (mask if scale == 1 else mask * scale) * weight
        for mask, scale, weight in zip(masks.mix(alpha.T), scales, frozen.weights, strict=True)
    ]
