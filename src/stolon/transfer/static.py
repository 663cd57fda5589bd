"""One configuration for every task, chosen beforehand: the static families of the papers' Figure 1."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from stolon.transfer.configurations import Configuration, parse
from stolon.transfer.fit import Lesson, Strategy
from stolon.transfer.learner import TransferConfig, TransferLearner
from stolon.transfer.objectives import loss
from stolon.transfer.prefix import Plan


@final
class One(Strategy):
    """Trains one configuration.

    Args:
        lesson: what is trained, on what.
        configuration: which; what it uses is trained.
        orthogonality: the weight of the mechanism's penalty.
    """

    def __init__(self, lesson: Lesson, configuration: Configuration, orthogonality: float) -> None:
        self._network, self._shared = lesson.network, lesson.shared
        self._parts = lesson.network.keep(lesson.parts, configuration)
        self._factors = lesson.parts  # all: the penalty is asked for layer by layer, times 0 where not shared
        self._configuration, self._orthogonality = configuration, orthogonality
        self._plan = Plan([configuration])
        self._wanted = [{variant} for variant in configuration.shared]
        self._weights = [float(any(variant)) for variant in configuration.shared]

    @property
    def configuration(self) -> Configuration:
        """The one."""
        return self._configuration

    def leaves(self) -> Sequence[Tensor]:
        """What the configuration uses."""
        rows = self._configuration.shared
        shared = [
            t for layer, row in zip(self._shared, rows, strict=True) if any(row) for t in layer.values()
        ]
        return [*shared, *self._parts.leaves()]

    def losses(self, x: Tensor, y: Tensor, epoch: int, step: int) -> Iterator[Tensor]:  # noqa: ARG002
        """The mean loss of the mini-batch, and the penalty of shared layers."""
        made = self._network.compose(self._shared, self._parts, self._wanted)
        outputs = self._parts.tail.train()(self._network.features(made, self._plan, x))
        penalty = self._network.penalty(self._factors, self._weights)
        found = loss(outputs[None], y)[0]
        yield found if penalty is None else found + self._orthogonality * penalty


@final
@dataclass(frozen=True)
class StaticConfig(TransferConfig):
    """Settings of :class:`Static`; the others are those of :class:`~stolon.transfer.learner.TransferConfig`.

    Attributes:
        configuration: which layers every task shares: ``"all"``, ``"none"``, ``"top-2"``, ``"bottom-1"``,
            ``"alternating"``, or layers counted from 1, such as ``"2,4"``.
    """

    configuration: str = "all"


@final
class Static(TransferLearner):
    """Shares the same layers for every task.

    Args:
        net: a name of :func:`stolon.nets.names`, or an ``nn.Sequential`` (see :func:`stolon.nets.stages.split`).
        config: how.

    Example:
        >>> import torch
        >>> from stolon.tasks import Split, Task
        >>> split = Split.of(torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
        >>> learner = Static("digits-conv", StaticConfig(epochs=1, configuration="bottom-2"))
        >>> [epoch.notes for epoch in learner.learn(Task("t", ("a", "b"), split, split, split))]
        [{'configuration': '110'}]
    """

    name: ClassVar[str] = "static"
    Config: ClassVar[type[StaticConfig]] = StaticConfig
    config: StaticConfig

    def _strategy(self, lesson: Lesson) -> Strategy:
        configuration = parse(self.config.configuration, lesson.network.depth, self.config.parts)
        return One(lesson, configuration, self.config.orthogonality)
