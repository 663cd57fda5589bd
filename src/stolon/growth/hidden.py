"""The hidden layers of a net that can be given units one by one: fully connected ones, and convolutions.

A layer's *units* are its outputs, or the channels of its feature map. Whatever is between layers acts on each unit by
itself (ReLU, pooling), so that units can be added without others noticing. Layers are written and read as rows: unit
after unit, each with all places of its map.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Final, final

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from stolon import nets
from stolon.errors import DataError, SettingError
from stolon.nets.pooling import SameMaxPool2d

_POOLS: Final = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, SameMaxPool2d)
_TOLD: Final = 12  # modules of a net that is refused; a large one has hundreds
_TRIED: Final = ((1,), (3, 64, 64))
"""Shapes that a net is made for to see its widths, which do not depend on them."""


@final
@dataclass(frozen=True)
class Hidden:
    """A hidden layer.

    Attributes:
        layer: as the net has it; its weights are not used.
        after: what acts on its outputs, unit by unit, in order.
        reads: the map of each unit that it reads: () of plain numbers, or (height, width).
        makes: the map of each of its own units.
    """

    layer: nn.Linear | nn.Conv2d
    after: tuple[nn.Module, ...]
    reads: tuple[int, ...] = ()
    makes: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """How many units the net has there."""
        return _width(self.layer)

    def columns(self, units: int) -> int:
        """How many numbers of a row so many of its units are."""
        return units * prod(self.makes)

    def weight_shape(self, units: int, read: int) -> tuple[int, ...]:
        """Of the weights of so many units, which read so many of the layer before."""
        if isinstance(self.layer, nn.Conv2d):
            return (units, read, *self.layer.kernel_size)
        return (units, read * prod(self.reads))

    def outputs(self, before: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """What units make of rows, as rows. They read as many units of the layer before, from the first, as they can.

        Args:
            before: rows of the layer before [B, at least what they read].
            weight: of the units, as :meth:`weight_shape` says.
            bias: one for each.
        """
        if not len(bias):
            return before[:, :0]
        if isinstance(self.layer, nn.Conv2d):
            read = weight.shape[1]
            maps = before[:, : read * prod(self.reads)].unflatten(1, (read, *self.reads))
            made = conv2d(maps, weight, bias, self.layer.stride, self.layer.padding, self.layer.dilation)
        else:
            made = linear(before[:, : weight.shape[1]], weight, bias)
        for module in self.after:
            made = module(made)
        return made.flatten(1)


def hidden_widths(net: str | nn.Module) -> tuple[int, ...]:
    """How many units each hidden layer of a net has.

    Args:
        net: a name such as ``"mlp-312-128"`` or ``"growth-conv"``, or an ``nn.Sequential``: convolutions and pooling,
            then Flatten and linear layers, with a ReLU behind each.

    Raises:
        SettingError: it is another net.
    """
    return tuple(_width(layer) for layer, _ in _layers(_made(net)))


def hidden_layers(net: str | nn.Module, shape: Sequence[int]) -> tuple[Hidden, ...]:
    """The hidden layers of a net, for inputs of a shape.

    Raises:
        SettingError: it is a net of another kind.
        DataError: inputs of this shape do not fit it.
    """
    try:
        made = nets.make(net, input_shape=tuple(shape)) if isinstance(net, str) else net
    except SettingError as error:
        raise DataError(f"expected inputs that the net takes, found {list(shape)}: {error}") from error
    layers = list(_layers(made))
    _check_first(layers[0][0], shape)
    found, units, reads = [], shape[0], tuple(shape[1:])
    for layer, after in layers:
        if isinstance(layer, nn.Linear) and layer.in_features != units * prod(reads):
            raise DataError(
                f"expected inputs that give the net's {layer.in_features} features, found {list(shape)}, which give "
                f"{units * prod(reads)}; resize them"
            )
        makes = _map(layer, after, reads, shape)
        found.append(Hidden(layer, after, reads, makes))
        units, reads = found[-1].width, makes
    return tuple(found)


def _made(net: str | nn.Module) -> nn.Module:
    if not isinstance(net, str):
        return net
    for shape in _TRIED[:-1]:
        try:
            return nets.make(net, input_shape=shape)
        except SettingError:
            continue  # one for images; a name that does not exist is told below
    return nets.make(net, input_shape=_TRIED[-1])


def _layers(net: nn.Module) -> Iterator[tuple[nn.Linear | nn.Conv2d, tuple[nn.Module, ...]]]:
    """Each layer with what is behind it.

    Raises:
        SettingError: the net has something else.
    """
    named = net.named_modules(remove_duplicate=False)  # one ReLU may stand in several places
    modules = [module for _, module in named if not isinstance(module, (nn.Sequential, nn.Flatten))]
    places = [i for i, module in enumerate(modules) if isinstance(module, (nn.Linear, nn.Conv2d))]
    kinds = [isinstance(modules[place], nn.Conv2d) for place in places]
    if (
        not places
        or places[0] > 0
        or kinds != sorted(kinds, reverse=True)
        or not isinstance(net, nn.Sequential)
    ):
        raise _refused(modules, net)
    for start, stop in pairwise([*places, len(modules)]):
        layer, after = modules[start], tuple(modules[start + 1 : stop])
        assert isinstance(layer, (nn.Linear, nn.Conv2d))
        pools = () if isinstance(layer, nn.Linear) else _POOLS
        rectifiers = sum(type(module) is nn.ReLU for module in after)
        if rectifiers != 1 or not all(type(module) in (nn.ReLU, *pools) for module in after):
            raise _refused(modules, net)
        if isinstance(layer, nn.Conv2d) and (layer.groups > 1 or layer.padding_mode != "zeros"):
            raise SettingError(
                f"net: expected convolutions of one group, padded with zeros, found {layer}; rcl adds whole channels"
            )
        yield layer, after


def _refused(modules: Sequence[nn.Module], net: nn.Module) -> SettingError:
    kinds = [type(module).__name__ for module in modules[:_TOLD]]
    found = ", ".join([*kinds, "..."] if len(modules) > _TOLD else kinds) or type(net).__name__
    return SettingError(
        "net: expected an nn.Sequential of convolutions and pooling, nn.Flatten, then linear layers, with one nn.ReLU "
        f"behind each layer, found {found}; rcl adds units to such layers only"
    )


def _check_first(layer: nn.Linear | nn.Conv2d, shape: Sequence[int]) -> None:
    if isinstance(layer, nn.Conv2d):
        if len(shape) != 3 or shape[0] != layer.in_channels:
            raise DataError(f"expected images of {layer.in_channels} channels, found inputs {list(shape)}")
    elif layer.in_features != prod(shape):
        raise DataError(f"expected inputs of {layer.in_features} numbers, found {prod(shape)}")


def _map(
    layer: nn.Linear | nn.Conv2d, after: Sequence[nn.Module], reads: tuple[int, ...], shape: Sequence[int]
) -> tuple[int, ...]:
    """The map of each unit of a layer."""
    if isinstance(layer, nn.Linear):
        return ()
    try:
        with torch.no_grad():
            made: Tensor = nn.Sequential(layer, *after)(torch.zeros(1, layer.in_channels, *reads))
    except RuntimeError as error:
        raise DataError(
            f"expected images that the net's convolutions leave something of, found {list(shape)}; enlarge them"
        ) from error
    return tuple(made.shape[2:])


def _width(layer: nn.Linear | nn.Conv2d) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
