"""A network that grows by columns: units, or channels, that read earlier ones, and are read by later ones only.

The units that came with one task are its *generation*. A unit of generation s reads all units of the layer before of
generations up to s. So whatever is added later, the network of the first s generations computes what it did.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from stolon.growth.hidden import Hidden
from stolon.growth.structure import Tensors, canonical
from stolon.randomness import generator
from stolon.tasks import Split, to_float
from stolon.training import EVALUATION_BATCH

DEVIATION: Final = 0.01
BIAS: Final = 0.1


@final
class Generation(NamedTuple):
    """Units that were added together.

    Attributes:
        weights: for each hidden layer [units, what they read of this and all earlier generations, ...]; see
            :meth:`stolon.growth.hidden.Hidden.weight_shape`.
        biases: for each hidden layer [units].
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def tensors(self) -> dict[str, Tensor]:
        """By name, for saving."""
        return {
            **{f"weight/{i}": value for i, value in enumerate(self.weights)},
            **{f"bias/{i}": value for i, value in enumerate(self.biases)},
        }

    @staticmethod
    def of(tensors: Tensors, depth: int) -> "Generation":
        """What :meth:`tensors` gave, of so many hidden layers; copied."""
        return Generation(
            tuple(canonical(tensors[f"weight/{i}"]) for i in range(depth)),
            tuple(canonical(tensors[f"bias/{i}"]) for i in range(depth)),
        )


def activations(generations: Sequence[Generation], x: Tensor, layers: Sequence[Hidden]) -> list[Tensor]:
    """Inputs [B, ...] as rows, and what each hidden layer makes of them, generation after generation.

    Args:
        generations: in order; none is a network without units.
        x: inputs.
        layers: the hidden ones.
    """
    found = [to_float(x).flatten(1)]
    for i, layer in enumerate(layers):
        before = found[-1]
        made = [layer.outputs(before, each.weights[i], each.biases[i]) for each in generations]
        found.append(torch.cat(made, 1) if made else before[:, :0])
    return found


def units(generations: Sequence[Generation], depth: int) -> tuple[int, ...]:
    """How many units each hidden layer has."""
    return tuple(sum(len(each.biases[i]) for each in generations) for i in range(depth))


@final
class Child(nn.Module):
    """New columns beside old ones, and a head on all of them; takes what :class:`Seen` gives.

    Args:
        layers: the hidden ones.
        shape: of one input.
        old: units that each hidden layer has.
        new: units that each is given.
        classes: outputs of the head.
        seed: of the weights.
        purpose: what they are drawn for.
    """

    def __init__(
        self,
        layers: Sequence[Hidden],
        shape: Sequence[int],
        old: Sequence[int],
        new: Sequence[int],
        *,
        classes: int,
        seed: int,
        purpose: Sequence[str | int],
    ) -> None:
        super().__init__()
        g = generator(seed, "columns", *purpose)
        convolves = any(layer.makes for layer in layers)
        self._layers = layers
        self._widths = [math.prod(shape), *_columns(layers, old)]
        whole = [a + b for a, b in zip(old, new, strict=True)]
        read = [shape[0], *whole[:-1]]
        self.weights = nn.ParameterList(
            _drawn(layer.weight_shape(count, before), g, of_fan_in=convolves)
            for layer, count, before in zip(layers, new, read, strict=True)
        )
        self.biases = nn.ParameterList(torch.full((count,), BIAS) for count in new)
        self.head_weight = nn.Parameter(_drawn((classes, layers[-1].columns(whole[-1])), g))
        self.head_bias = nn.Parameter(torch.full((classes,), BIAS))

    def forward(self, x: Tensor) -> Tensor:
        """Scores [B, C] of inputs with the old units' activations, [B, all widths]."""
        before, *old = x.split(self._widths, 1)
        for layer, kept, weight, bias in zip(self._layers, old, self.weights, self.biases, strict=True):
            before = torch.cat([kept, layer.outputs(before, weight, bias)], 1)
        return linear(before, self.head_weight, self.head_bias)

    def trained(self) -> list[nn.Parameter]:
        """All parameters that have any numbers."""
        return [value for value in self.parameters() if value.numel()]

    def generation(self) -> Generation:
        """A copy of the new columns."""
        return Generation(
            tuple(canonical(value) for value in self.weights),
            tuple(canonical(value) for value in self.biases),
        )

    def head(self) -> dict[str, Tensor]:
        """A copy of the head."""
        return {"weight": canonical(self.head_weight), "bias": canonical(self.head_bias)}


@final
class Seen(Split):
    """A split as new columns see it: each input as a row, with the old units' activations behind it.

    Old columns do not change, so that their activations are computed once for all trials, where they fit into memory.

    Args:
        base: the data.
        indices: which of them.
        generations: the old columns.
        layers: the hidden ones.
        memory: bytes that may be taken; where it is not enough, and where there are no old columns, everything is
            computed when it is asked for.
    """

    def __init__(
        self,
        base: Split,
        indices: Tensor,
        generations: Sequence[Generation],
        layers: Sequence[Hidden],
        memory: int,
    ) -> None:
        self._base, self._indices, self._generations, self._layers = base, indices, generations, layers
        self._width = math.prod(base.shape) + sum(_columns(layers, units(generations, len(layers))))
        self._labels = base.labels[indices]
        self._kept: Tensor | None = None
        if generations and len(indices) * self._width * 4 <= memory:
            self._kept = torch.empty(len(indices), self._width)
            for rows in torch.arange(len(indices)).split(EVALUATION_BATCH):
                self._kept[rows] = self._made(rows)[0]

    def __len__(self) -> int:
        return len(self._indices)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and labels at these indices."""
        if self._kept is None:
            return self._made(indices)
        return self._kept[indices], self._labels[indices]

    @property
    def labels(self) -> Tensor:
        """The labels of these data."""
        return self._labels

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of a row."""
        return (self._width,)

    def digest(self) -> str:
        """Of the data that they are made of."""
        return self._base.digest()

    @torch.no_grad()
    def _made(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self._base.batch(self._indices[rows])
        return torch.cat(activations(self._generations, x, self._layers), 1), y


def _columns(layers: Sequence[Hidden], counts: Sequence[int]) -> list[int]:
    """How long the rows of so many units of each layer are."""
    return [layer.columns(count) for layer, count in zip(layers, counts, strict=True)]


def _drawn(shape: Sequence[int], g: torch.Generator, *, of_fan_in: bool = False) -> Tensor:
    """From a normal cut at two sigma, as TensorFlow's: of sigma 0.01, or sqrt(2 / fan-in)."""
    made = torch.empty(*shape)
    if made.numel():
        deviation = math.sqrt(2 / math.prod(shape[1:])) if of_fan_in else DEVIATION
        nn.init.trunc_normal_(made, std=deviation, a=-2 * deviation, b=2 * deviation, generator=g)
    return made
