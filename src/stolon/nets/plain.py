"""The convolutional nets of selective layer transfer: no normalisation, stride 1, max-pooling.

Lee, Behpour and Eaton, "Sharing Less is More: Lifelong Learning in Deep Networks with Selective Layer Transfer",
ICML 2021. The figures are those of the released code (papers/methods.md 1.2): every convolution has an odd
kernel, padding that keeps the size, and a ReLU; pooling pads so that nothing is lost
(:class:`stolon.nets.pooling.SameMaxPool2d`); between flatten and the first hidden fully connected layer, and only
there, half of the features drop out. Weights are drawn by
:func:`stolon.nets.initialisation.truncated_normal`, those of the heads too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Final, final

from torch import Tensor, nn
from torch.nn.functional import relu

from stolon.errors import SettingError
from stolon.nets.initialisation import truncated_normal
from stolon.nets.pooling import SameMaxPool2d

_OF_RESNET18: Final[Mapping[int, tuple[tuple[int, ...], ...]]] = {
    4: ((1, 2, 3), (4, 5), (6, 7), (8, 9)),
    5: ((1, 2, 3), (4, 5), (6, 7), (8,), (9,)),
    6: ((1, 2, 3), (4, 5), (6,), (7,), (8,), (9,)),
    7: ((1, 2, 3), (4,), (5,), (6,), (7,), (8,), (9,)),
    8: ((1, 2), (3,), (4,), (5,), (6,), (7,), (8,), (9,)),
}
GROUPS: Final[Mapping[str, Mapping[int, tuple[tuple[int, ...], ...]]]] = MappingProxyType(
    {
        "stl-conv9": {3: ((1, 2, 3), (4, 5, 6), (7, 8, 9))},
        "resnet18-plain": _OF_RESNET18,
        "resnet18": _OF_RESNET18,
    }
)
"""The papers' groups of layers: net, number of groups -> stages (counted from 1) of each group.

Stage 1 of ``resnet18-plain``, and of the standard ``resnet18``, is convolution 1, stage s > 1 the convolutions 2s - 2
and 2s - 1; in convolutions its groups are 4: [5, 4, 4, 4]; 5: [5, 4, 4, 2, 2]; 6: [5, 4, 2, 2, 2, 2];
7: [5, 2, 2, 2, 2, 2, 2]; 8: [3, 2, ... 2].
"""


@dataclass(frozen=True)
class _Layout:
    kernels: tuple[int, ...]
    widths: tuple[int, ...]
    windows: tuple[int, ...]  # of the pooling after each convolution; 1 is none
    hidden: tuple[int, ...]


_STL6 = ((3,) * 6, (32, 32, 64, 64, 128, 128), (1, 3, 1, 3, 1, 3))
_LAYOUTS: Final = {
    "cifar-conv4": _Layout((3, 3, 3, 3), (32, 32, 64, 64), (1, 2, 1, 2), (64,)),
    "office-conv4": _Layout((11, 5, 3, 3), (64, 256, 256, 256), (3, 3, 2, 2), (256, 64)),
    "stl-conv6": _Layout(*_STL6, (128, 16)),
    "stl-conv6-128": _Layout(*_STL6, (128,)),
    "stl-conv9": _Layout((3,) * 9, (32,) * 3 + (64,) * 3 + (128,) * 3, (1, 1, 3) * 3, (128, 16)),
}
NAMES: Final = (*_LAYOUTS, "resnet18-plain")


@final
class PlainNet(nn.Sequential):
    """An ``nn.Sequential`` that draws its weights, and those of its heads, as the papers' code does."""

    @staticmethod  # so that who keeps it does not keep the net
    def initialise(module: nn.Module) -> None:
        """Draw the weights of a module that belongs to such a net."""
        truncated_normal(module)


@final
class PlainPair(nn.Module):
    """Two convolutions of 3 x 3, each with its ReLU: what :func:`resnet18_plain` repeats.

    Where both sides are equally wide the input is added to the output, after the second ReLU. Where they are
    not there is no skip, and the image is halved by max-pooling after the first convolution.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.pool = None if inputs == outputs else SameMaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, outputs, H, W] of x [B, inputs, H, W]; half as high and wide without a skip."""
        y = relu(self.first(x))
        if self.pool is None:
            return relu(self.second(y)) + x
        return relu(self.second(self.pool(y)))


def plain(name: str, input_shape: tuple[int, ...]) -> PlainNet:
    """A net of the papers by its name, for images of any size that leaves its pooling something to pool.

    Args:
        name: one of :data:`NAMES`: ``"cifar-conv4"`` (images of 32 x 32 in the papers), ``"office-conv4"``
            (128 x 128), ``"stl-conv6"`` (96 x 96), ``"stl-conv6-128"`` (with the single hidden layer that
            the code gives it for tensor factorization), ``"stl-conv9"`` (96 x 96), ``"resnet18-plain"`` (32 x 32).
        input_shape: channels, height, width.

    Raises:
        SettingError: these are no images, or too small ones.
    """
    if name == "resnet18-plain":
        return resnet18_plain(input_shape)
    layout = _LAYOUTS[name]
    flat = _flat_size(name, input_shape, layout.windows, layout.widths[-1])
    modules: list[nn.Module] = []
    widths = (input_shape[0], *layout.widths)
    for (inputs, outputs), kernel, window in zip(
        pairwise(widths), layout.kernels, layout.windows, strict=True
    ):
        modules += [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.ReLU()]
        if window > 1:
            modules.append(SameMaxPool2d(window))
    return _net(modules, flat, layout.hidden)


def resnet18_plain(input_shape: tuple[int, ...]) -> PlainNet:
    """The papers' ResNet-18: 17 convolutions without normalisation, projections, strides or global pooling.

    Counted from 1, a skip joins the convolutions (2, 3), (4, 5), (8, 9), (12, 13) and (16, 17); max-pooling
    follows the convolutions 1, 6, 10 and 14. As stages: the first convolution, then the eight pairs.

    Args:
        input_shape: channels, height, width; 2048 features before the hidden layer of 1000 for 32 x 32.

    Raises:
        SettingError: these are no images, or too small ones.
    """
    flat = _flat_size("resnet18-plain", input_shape, (2, 2, 2, 2), 512)
    modules: list[nn.Module] = [nn.Conv2d(input_shape[0], 64, 7, padding=3), nn.ReLU(), SameMaxPool2d(2)]
    modules += [PlainPair(*sides) for sides in pairwise((64, 64, 64, 128, 128, 256, 256, 512, 512))]
    return _net(modules, flat, (1000,))


def _net(modules: Sequence[nn.Module], flat: int, hidden: Sequence[int]) -> PlainNet:
    tail: list[nn.Module] = [nn.Flatten(), nn.Dropout(0.5)]
    for inputs, outputs in pairwise((flat, *hidden)):
        tail += [nn.Linear(inputs, outputs), nn.ReLU()]
    net = PlainNet(*modules, *tail)
    truncated_normal(net)
    return net


def _flat_size(name: str, input_shape: tuple[int, ...], windows: Sequence[int], width: int) -> int:
    """Features that are left when all pooling is done."""
    least = math.prod(windows)
    if len(input_shape) != 3 or min(input_shape) < 1 or min(input_shape[1:]) < least:
        raise SettingError(
            f"{name}: expected images [C, H, W] of {least} x {least} pixels or more, found {list(input_shape)}; "
            "enlarge the images or take a net with less pooling"
        )
    height, width_px = input_shape[1:]
    for window in windows:
        height, width_px = -(-height // window), -(-width_px // window)
    return width * height * width_px
