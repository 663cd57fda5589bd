"""The arrangement that all tasks' networks have in common: stages, and the units that they are divided into.

A *unit* is what can be shared or grown by itself: a stage (a convolution or fully connected layer with its
normalisation, activation and pooling), or one of some groups of a stage's output channels. The structure holds no
knowledge: it is called with the tensors of a task's route.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from stolon import nets
from stolon.errors import SettingError
from stolon.nets.heads import new_head
from stolon.nets.registry import feature_count
from stolon.nets.stages import CONVOLUTIONS, Stage, Staged, split
from stolon.randomness import number

Tensors = Mapping[str, Tensor]
"""A stage's tensors by their names within it, such as ``"body.0.weight"``; of a unit, its part of each."""


class Unit(NamedTuple):
    """Where in the structure: a stage and a group of its output channels, both counted from 0."""

    stage: int
    part: int


@final
class Structure:
    """Stages without knowledge.

    Args:
        net: a name of :func:`stolon.nets.names`, or an ``nn.Sequential`` (see :func:`stolon.nets.stages.split`; fully
            connected layers are stages too).
        input_shape: of one input.
        parts: into how many groups the output channels of each stage are divided.

    Attributes:
        staged: the stages; their own parameters want no gradients and mean nothing.
        parts: as given.
        units: all of them, in order.
        width: features that the last stage gives.

    Raises:
        SettingError: the net cannot be split, or not into so many parts; or it takes no such inputs.
    """

    def __init__(self, net: str | nn.Module, input_shape: tuple[int, ...], parts: int = 1) -> None:
        self._net, self._shape = net, input_shape
        self.staged = self.fresh(0, "structure").requires_grad_(requires_grad=False)
        self.parts = parts
        self.units = tuple(Unit(stage, part) for stage in range(len(self.staged)) for part in range(parts))
        self.width = feature_count(self.staged, input_shape)  # refuses inputs that do not fit
        if parts > 1:
            _check_parts(self.staged, input_shape, parts)

    @property
    def convolves(self) -> bool:
        """Whether there are convolutions."""
        return any(isinstance(module, CONVOLUTIONS) for module in self.staged.modules())

    @property
    def depth(self) -> int:
        """How many stages there are."""
        return len(self.staged)

    def label(self, unit: Unit) -> str:
        """A unit as people count: ``"3"``, or ``"3.2"`` where layers have parts."""
        return str(unit.stage + 1) if self.parts == 1 else f"{unit.stage + 1}.{unit.part + 1}"

    def fresh(self, seed: int, *purpose: str) -> Staged:
        """A newly drawn network, or a copy of the given module: a function of seed and purpose."""
        net = nets.build(self._net, input_shape=self._shape, seed=number(seed, "growth", *purpose))
        return split(net, linear=True)

    def head(self, classes: int, seed: int, task: str) -> nn.Linear:
        """A newly drawn head: a function of seed and task."""
        return new_head(self.staged, self._shape, classes, seed, task)

    def statistics(self) -> list[dict[str, Tensor]]:
        """Each stage's buffers as they are drawn."""
        return statistics_of(self.staged)

    # Dividing stages

    def divide(self, stages: Sequence[Tensors]) -> Iterator[tuple[Unit, dict[str, Tensor]]]:
        """Each unit's part of stages' parameters; copies. Lone numbers belong to the first part."""
        for unit in self.units:
            pieces = {
                name: value.tensor_split(self.parts)[unit.part] if value.ndim else value
                for name, value in sorted(stages[unit.stage].items())
                if value.ndim or unit.part == 0
            }
            yield unit, {name: canonical(value) for name, value in pieces.items()}

    def join(self, units: Mapping[Unit, Tensors]) -> list[dict[str, Tensor]]:
        """Stages' parameters of their units' parts; gradients flow, and nothing is copied where a unit is a stage."""
        if self.parts == 1:
            return [dict(units[Unit(stage, 0)]) for stage in range(self.depth)]
        return [self._joined(units, stage) for stage in range(self.depth)]

    def _joined(self, units: Mapping[Unit, Tensors], stage: int) -> dict[str, Tensor]:
        pieces = [units[Unit(stage, part)] for part in range(self.parts)]
        return {
            name: torch.cat([piece[name] for piece in pieces]) if value.ndim else value
            for name, value in pieces[0].items()
        }

    # Running

    def features(self, stages: Sequence[Tensors], x: Tensor) -> Tensor:
        """Features [B, F] of inputs [B, ...], computed with these tensors; statistics are updated in training mode."""
        named = {f"layers.{i}.{name}": value for i, made in enumerate(stages) for name, value in made.items()}
        features: Tensor = functional_call(self.staged, named, (x,))
        return features

    def activations(self, stages: Sequence[Tensors], x: Tensor) -> list[Tensor]:
        """Of each unit [B, F]: behind its stage's activation function, before the pooling; in evaluation mode."""

        def body(i: int, stage: Stage, x: Tensor) -> tuple[Tensor, Tensor]:
            named = {name.removeprefix("body."): value for name, value in stages[i].items()}
            y: Tensor = functional_call(stage.body, named, (x,))
            return y, y

        return walk(self.staged.eval(), x, self.parts, body)


def walk(
    staged: Staged, x: Tensor, parts: int, body: Callable[[int, Stage, Tensor], tuple[Tensor, Tensor]]
) -> list[Tensor]:
    """Activations of each unit [B, F] on the way of inputs through the stages.

    Of images the features are in the order of places, then channels: as they lie in memory, where convolutions are
    fastest on CPUs. No comparison depends on the order.

    Args:
        staged: the stages.
        x: inputs [B, ...].
        parts: of each stage's output channels.
        body: given a stage and its position, computes of its inputs the activations, and what goes on to its pooling.
    """
    found: list[Tensor] = []
    if x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    for i, stage in enumerate(staged):
        y, x = body(i, stage, _kept(x, stage.body))
        y = y.movedim(1, -1)
        found += [part.flatten(1) for part in y.tensor_split(parts, dim=-1)]
        x = stage.pool(_kept(x, stage.pool))
    return found


def _kept(x: Tensor, following: nn.Sequential) -> Tensor:
    """What modules are given where what they are given is still needed: some work in place, or on a view."""
    first = next(iter(following), None)
    is_harmless = isinstance(first, (*CONVOLUTIONS, nn.Linear)) or "Pool" in type(first).__name__
    return x if first is None or is_harmless else x.clone()


def parameters_of(staged: Staged) -> list[dict[str, Tensor]]:
    """Each stage's parameters, detached."""
    return [{name: value.detach() for name, value in stage.named_parameters()} for stage in staged]


def statistics_of(staged: Staged) -> list[dict[str, Tensor]]:
    """A copy of each stage's buffers: running statistics of normalisation."""
    return [{name: canonical(value) for name, value in stage.named_buffers()} for stage in staged]


def canonical(tensor: Tensor) -> Tensor:
    """A copy whose strides are its shape's alone.

    Files keep no strides, and a convolution's last bits depend on them: new tensors and loaded ones must have the same.
    """
    return tensor.detach().clone(memory_format=torch.contiguous_format)


@torch.no_grad()
def _check_parts(staged: Staged, input_shape: tuple[int, ...], parts: int) -> None:
    """Refuse to divide what has too few output channels, or other channels of parameters than of activations."""
    channels: list[int] = []

    def body(_: int, stage: Stage, x: Tensor) -> tuple[Tensor, Tensor]:
        y: Tensor = stage.body(x)
        channels.append(y.shape[1])
        return y, y

    walk(staged.eval(), torch.zeros(1, *input_shape), 1, body)
    for i, stage in enumerate(staged):
        if any(isinstance(module, nn.modules.conv._ConvTransposeNd) for module in stage.modules()):
            raise SettingError(
                "parts: expected 1 with transposed convolutions, whose rows are input channels; grow them whole"
            )
        if stage.width < parts:
            raise SettingError(
                f"parts: expected at most the {stage.width} output channels of layer {i + 1}, found {parts}"
            )
        if stage.width != channels[i]:
            raise SettingError(
                f"parts: expected 1, since layer {i + 1} makes {channels[i]} channels of its {stage.width} (a gated "
                "activation, for one): groups of them are no groups of its parameters; grow it whole"
            )
