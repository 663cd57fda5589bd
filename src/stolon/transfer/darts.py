r"""DARTS over {shared, own} for every layer: the papers' comparison with differentiable architecture search.

Each layer mixes its shared and its own variant, after the activation and before the pooling, by the softmax of two
logits that begin equal (Liu et al. 2018). Steps on the logits and on the weights alternate, first order. The task gets
the larger logit's variant in every layer (its own where they are equal).

By default the logits are trained as in the DARTS paper, whose settings the LASEM papers say they use: on validation
data, by Adam with learning rate 3e-4, betas 0.5 and 0.999, weight decay 1e-3; trainings much shorter than the papers'
have a larger rate (:func:`stolon.training.architecture_rate`), or nothing would be chosen. The released code trains
them on the same training mini-batch as the weights, by RMSProp with their learning rate: ``released=True``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, final

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from stolon.errors import DataError, SettingError
from stolon.randomness import generator
from stolon.settings import above
from stolon.tasks import to_float
from stolon.training import architecture_rate, load_optimizer, make_optimizer, optimizer_tensors
from stolon.transfer import prefix
from stolon.transfer.configurations import Configuration
from stolon.transfer.fit import Lesson, Strategy
from stolon.transfer.learner import TransferConfig, TransferLearner
from stolon.transfer.network import OWN, SHARED, as_input
from stolon.transfer.objectives import loss

BETAS: Final = (0.5, 0.999)
WEIGHT_DECAY: Final = 1e-3


@final
@dataclass(frozen=True)
class DartsConfig(TransferConfig):
    """Settings of :class:`Darts`; the others are those of :class:`~stolon.transfer.learner.TransferConfig`.

    Attributes:
        released: train the logits as the released code does; see the module.
        architecture_learning_rate: of the logits, > 0; None is by the training's length
            (:func:`stolon.training.architecture_rate`); as released they have the weights'.
    """

    released: bool = False
    architecture_learning_rate: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.architecture_learning_rate is not None:
            above("architecture_learning_rate", self.architecture_learning_rate, 0)
        if self.parts != 1:
            raise SettingError(f"parts: expected 1, darts chooses whole layers, found {self.parts}")


@final
class Mixture(Strategy):
    """Trains a mixture of both variants of every layer.

    Args:
        lesson: what is trained, on what; mini-batches of its validation data train the logits.
        config: how.
    """

    def __init__(self, lesson: Lesson, config: DartsConfig) -> None:
        self._network, self._shared, self._parts = lesson.network, lesson.shared, lesson.parts
        self._task, self._config, self._seed = lesson.task, config, lesson.seed
        self._wanted = [(SHARED, OWN)] * lesson.network.depth
        self.logits = torch.zeros(lesson.network.depth, 2, requires_grad=True)
        """Of each layer: shared, own."""
        rate = config.architecture_learning_rate or architecture_rate(
            len(lesson.task.train), config.batch_size, config.epochs
        )
        self._optimizer: Optimizer = (
            make_optimizer([self.logits], config)
            if config.released
            else Adam([self.logits], rate, BETAS, weight_decay=WEIGHT_DECAY)
        )

    @property
    def configuration(self) -> Configuration:
        """The larger logit of each layer."""
        return Configuration.of(int(shared > own) for shared, own in self.logits.tolist())

    def leaves(self) -> Sequence[Tensor]:
        """All weights; the logits have an optimiser of their own."""
        return [*(t for layer in self._shared for t in layer.values()), *self._parts.leaves()]

    def losses(self, x: Tensor, y: Tensor, epoch: int, step: int) -> Iterator[Tensor]:
        """A step on the logits, then the weights' loss."""
        held = (x, y) if self._config.released else self._held_out(len(x), epoch, step)
        (self.logits.grad,) = torch.autograd.grad(self._loss(*held), [self.logits])
        self._optimizer.step()
        yield self._loss(x, y)
        self.logits.grad = None  # the weights' loss is not theirs

    def begin_epoch(self, learning_rate: float) -> None:
        """As released the logits have the weights' rate, which falls."""
        if self._config.released:
            for group in self._optimizer.param_groups:
                group["lr"] = learning_rate

    def notes(self) -> dict[str, Any]:
        """The choice, and how much each layer is shared."""
        weights = self.logits.detach().softmax(1)[:, 0].tolist()
        return {"configuration": str(self.configuration), "shared": [round(weight, 4) for weight in weights]}

    def state(self) -> dict[str, Tensor]:
        """The logits and their optimiser."""
        return {"logits": self.logits.detach().clone(), **optimizer_tensors(self._optimizer)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`state` gave."""
        with torch.no_grad():
            self.logits.copy_(state["logits"])
        load_optimizer(self._optimizer, state)

    def _held_out(self, count: int, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        val = self._task.val
        g = generator(self._seed, "architecture", self._task.name, epoch, step)
        x, y = val.batch(torch.randperm(len(val), generator=g)[:count])
        return to_float(x), y

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        made = self._network.compose(self._shared, self._parts, self._wanted)
        weights = self.logits.softmax(1)
        x = as_input(x)
        for stage, layer, weight in zip(self._network.stages, made, weights, strict=True):
            shared, own = (prefix.body(stage, layer[variant], x) for variant in (SHARED, OWN))
            x = prefix.pooled(stage, weight[0] * shared + weight[1] * own)
        found = loss(self._parts.tail.train()(x)[None], y)[0]
        penalty = self._network.penalty(self._parts, weights[:, 0].detach())
        return found if penalty is None else found + self._config.orthogonality * penalty


@final
class Darts(TransferLearner):
    """Chooses the layers that a task shares by differentiable architecture search.

    Args:
        net: a name of :func:`stolon.nets.names`, or an ``nn.Sequential`` (see :func:`stolon.nets.stages.split`).
        config: how.
    """

    name: ClassVar[str] = "darts"
    Config: ClassVar[type[DartsConfig]] = DartsConfig
    config: DartsConfig

    def _strategy(self, lesson: Lesson) -> Strategy:
        if not self.config.released and not len(lesson.task.val):
            raise DataError(
                f"task {lesson.task.name!r}: expected validation data to train the logits on, found none; "
                "give some, or set released=True"
            )
        return Mixture(lesson, self.config)
