"""A fully connected network that grows by columns: units that read earlier ones, and are read by later ones only.

The units that came with one task are its *generation*. A unit of generation s reads all units of the layer before of
generations up to s. So whatever is added later, the network of the first s generations computes what it did.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from stolon import nets
from stolon.errors import SettingError
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
        weights: for each hidden layer [units, units of the layer before, of this and all earlier generations].
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


def activations(generations: Sequence[Generation], x: Tensor, depth: int) -> list[Tensor]:
    """Inputs [B, ...] as rows, and what each hidden layer makes of them, generation after generation.

    Args:
        generations: in order; none is a network without units.
        x: inputs.
        depth: how many hidden layers there are.
    """
    layers = [to_float(x).flatten(1)]
    for i in range(depth):
        before = layers[-1]
        made = [
            linear(before[:, : each.weights[i].shape[1]], each.weights[i], each.biases[i]).relu()
            for each in generations
        ]
        layers.append(torch.cat(made, 1) if made else before[:, :0])
    return layers


def units(generations: Sequence[Generation], depth: int) -> tuple[int, ...]:
    """How many units each hidden layer has."""
    return tuple(sum(len(each.biases[i]) for each in generations) for i in range(depth))


@final
class Child(nn.Module):
    """New columns beside old ones, and a head on all of them; takes what :class:`Seen` gives.

    Args:
        inputs: numbers in one input.
        old: units that each hidden layer has.
        new: units that each is given.
        classes: outputs of the head.
        seed: of the weights.
        purpose: what they are drawn for.
    """

    def __init__(
        self,
        inputs: int,
        old: Sequence[int],
        new: Sequence[int],
        classes: int,
        seed: int,
        *purpose: str | int,
    ) -> None:
        super().__init__()
        g = generator(seed, "columns", *purpose)
        self._widths = [inputs, *old]
        whole = [inputs, *(a + b for a, b in zip(old, new, strict=True))]
        self.weights = nn.ParameterList(
            _drawn(count, before, g) for count, before in zip(new, whole[:-1], strict=True)
        )
        self.biases = nn.ParameterList(torch.full((count,), BIAS) for count in new)
        self.head_weight = nn.Parameter(_drawn(classes, whole[-1], g))
        self.head_bias = nn.Parameter(torch.full((classes,), BIAS))

    def forward(self, x: Tensor) -> Tensor:
        """Scores [B, C] of inputs with the old units' activations, [B, all widths]."""
        before, *old = x.split(self._widths, 1)
        for kept, weight, bias in zip(old, self.weights, self.biases, strict=True):
            before = torch.cat([kept, linear(before, weight, bias).relu()], 1)
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
        depth: how many hidden layers there are.
        memory: bytes that may be taken; where it is not enough, and where there are no old columns, everything is
            computed when it is asked for.
    """

    def __init__(
        self, base: Split, indices: Tensor, generations: Sequence[Generation], depth: int, memory: int
    ) -> None:
        self._base, self._indices, self._generations, self._depth = base, indices, generations, depth
        self._width = math.prod(base.shape) + sum(units(generations, depth))
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
        return torch.cat(activations(self._generations, x, self._depth), 1), y


def hidden_widths(net: str | nn.Module) -> tuple[int, ...]:
    """The widths of a fully connected net: a name such as ``"mlp-312-128"``, or Flatten, then Linear and ReLU in turns.

    Raises:
        SettingError: it is another net.
    """
    if isinstance(net, str) and not net.startswith(("mlp-", "lenet-", "fc-")):
        raise SettingError(
            f"net: expected a fully connected one such as 'mlp-312-128', found {net!r}; rcl adds units to hidden layers"
        )
    made = nets.make(net, input_shape=(1,)) if isinstance(net, str) else net
    widths = tuple(layer.out_features for layer in _hidden(made))
    if not widths:
        raise SettingError("net: expected at least one hidden layer, found none")
    return widths


def input_width(net: str | nn.Module) -> int | None:
    """How many numbers a fully connected module takes; None for a name, which is made to the data."""
    return None if isinstance(net, str) else next(_hidden(net)).in_features


def _hidden(net: nn.Module) -> Iterator[nn.Linear]:
    """The layers of a net that is nothing but Flatten, then Linear and ReLU in turns."""
    modules = [module for module in net.modules() if type(module) is not nn.Sequential]
    modules = modules[1:] if modules and type(modules[0]) is nn.Flatten else modules
    kinds = [type(module) for module in modules]
    if kinds != [nn.Linear, nn.ReLU] * (len(kinds) // 2):
        found = ", ".join(kind.__name__ for kind in kinds)
        raise SettingError(
            f"net: expected nn.Flatten, then nn.Linear and nn.ReLU in turns, found {found}; "
            "rcl adds units to fully connected hidden layers only"
        )
    return (module for module in modules if isinstance(module, nn.Linear))


def _drawn(rows: int, columns: int, g: torch.Generator) -> Tensor:
    """From a normal of sigma 0.01 cut at two sigma, as TensorFlow's."""
    made = torch.empty(rows, columns)
    if made.numel():
        nn.init.trunc_normal_(made, std=DEVIATION, a=-2 * DEVIATION, b=2 * DEVIATION, generator=g)
    return made
