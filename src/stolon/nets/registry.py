"""Nets by name."""

import copy
import hashlib
import math

import torch
from torch import nn

from stolon.errors import SettingError, UnknownNameError
from stolon.nets import plain
from stolon.nets.convnets import digits_conv, growth_conv
from stolon.nets.gem import gem_resnet18
from stolon.nets.mlp import mlp
from stolon.nets.resnet import resnet18, resnet50
from stolon.randomness import seeded

_MLP = {"lenet-300-100": (300, 100), "fc-1024": (1024, 1024)}
_IMAGES = {
    "digits-conv": digits_conv,
    "growth-conv": growth_conv,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "gem-resnet18": gem_resnet18,
}
_NAMES = (*_MLP, "mlp-WIDTH-WIDTH...", *plain.NAMES, *_IMAGES, "timm:NAME")


def names() -> tuple[str, ...]:
    """The names that :func:`make` knows; words in capitals stand for values."""
    return _NAMES


def make(name: str, *, input_shape: tuple[int, ...] = (1, 28, 28), seed: int = 0) -> nn.Module:
    """A fresh net, randomly initialised.

    Args:
        name: one of :func:`names`, such as ``"mlp-100-100"``; ``"timm:resnet18"`` is any model of timm,
            without weights (for pretrained ones see :func:`stolon.nets.backbone.pretrained`).
        input_shape: the shape of one input; images are [channels, height, width].
        seed: the initial weights are a function of it and the name.

    Raises:
        UnknownNameError: no such net.
        SettingError: the net does not take inputs of that shape.
    """
    with seeded(seed, "net", name):
        if name in _MLP:
            return mlp(math.prod(input_shape), _MLP[name])
        if name.startswith("mlp-"):
            return mlp(math.prod(input_shape), _widths(name))
        if name in plain.NAMES:
            return plain.plain(name, input_shape)
        if name in _IMAGES:
            return _IMAGES[name](input_shape)
        if name.startswith("timm:"):
            from stolon.nets.backbone import timm_model  # timm takes a second to import

            return timm_model(name, pretrained=False, options={"in_chans": input_shape[0]})
    raise UnknownNameError("net", name, _NAMES)


def own(net: str | nn.Module) -> str | nn.Module:
    """The name, checked, or a copy of the module that its giver cannot change any more.

    Raises:
        UnknownNameError: no such net.
        SettingError: neither a name nor a module.
    """
    if isinstance(net, nn.Module):
        return copy.deepcopy(net)
    if not isinstance(net, str):
        raise SettingError(f"net: expected a name or a module, found {type(net).__name__}")
    if net.startswith("mlp-"):
        _widths(net)
    elif net not in (*_MLP, *plain.NAMES, *_IMAGES) and not net.startswith("timm:"):
        raise UnknownNameError("net", net, _NAMES)
    return net


def build(net: str | nn.Module, *, input_shape: tuple[int, ...], seed: int) -> nn.Module:
    """A net of one's own: made by name, or a copy of the given module."""
    return make(net, input_shape=input_shape, seed=seed) if isinstance(net, str) else copy.deepcopy(net)


def describe(net: str | nn.Module) -> str:
    """What two learners must share to share a state: the name, or a hash of a module's structure."""
    if isinstance(net, str):
        return net
    layout = [(name, list(value.shape), str(value.dtype)) for name, value in net.state_dict().items()]
    return f"{type(net).__name__}:{hashlib.sha256(repr((str(net), layout)).encode()).hexdigest()[:16]}"


def feature_count(net: nn.Module, input_shape: tuple[int, ...]) -> int:
    """How many features F the net gives for one input.

    Raises:
        SettingError: the net does not take such inputs, or gives no [B, F].
    """
    was_training = net.training
    try:
        with torch.no_grad():
            features = net.eval()(torch.zeros(1, *input_shape))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise SettingError(f"this net does not take inputs {input_shape}: {error}") from error
    finally:
        net.train(was_training)
    if features.ndim != 2:
        raise SettingError(f"expected a net that gives features [B, F], found {list(features.shape)}")
    return int(features.shape[1])


def _widths(name: str) -> tuple[int, ...]:
    parts = name.split("-")[1:]
    if not parts or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise SettingError(f"expected a name like 'mlp-100-100' with positive widths, found {name!r}")
    return tuple(int(part) for part in parts)
