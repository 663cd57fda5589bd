r"""ImpressLearn's Table 2: what a task costs to store, by the paper's formula and in bits.

The paper compares a mask for each task (SupSup) with m masks for all and m numbers per layer for each task:

.. math::
    \Phi = \frac{m \cdot \mathrm{mask}}{\mathrm{tasks}} + \frac{4\, m\, d}{1024} \;\text{kB},
    \qquad C = \frac{\mathrm{mask}}{\Phi},
    \qquad \mathrm{mask} = \frac{\mathrm{weights}}{4 \cdot 1024} \;\text{kB},

with d layers of weights. The paper does not give these formulas; they reproduce every number it prints
(papers/methods.md 2.3). Its masks are "16-bit integers", at two bits per weight; a bit per weight is half of that, and
entropy allows for less. It counts no statistics of batch normalisation, of which every task has its own.

What the paper prints and what does not fit:

- pre-ResNet-200: \|M\| = 100, but \|alpha\|, Phi and C are those of 75 masks; 75 is taken here.
- ResNet-18: 6.2 million parameters; the network of the code, GEM's, has 1.09 million weights.
- VGG 16: 137.9 million parameters; it has 138.4 million.
- Counts of the other networks for CIFAR and ImageNet are those of all parameters, with normalisation and a last layer
  of 1000 outputs, though "weights only" is said, and though tasks have 5 or 10 classes. "Wide" ResNet-18 and 34 are
  the ordinary ones.
- Layers: with the last, linear one for LeNet, ResNet-18 and 34 and VGG, without it for the others.

Source:
    "ImpressLearn: Continual Learning via Combined Task Impressions", submission to ICLR 2022, Table 2.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Final

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stolon import nets
from stolon.errors import SettingError
from stolon.masks.storage import entropy_bits
from stolon.nets.registry import feature_count

DENSITY: Final = 0.1
"""The density at which masks are counted by their entropy."""

HALF: Final = 2
"""Bytes of a number in half precision, as coefficients are kept."""
SINGLE: Final = 4
"""Bytes of a number in single precision, as statistics are kept."""


@dataclass(frozen=True)
class Printed:
    r"""What the paper prints of a row.

    Attributes:
        parameters: O.
        mask_kb: of a SupSup mask.
        masks: \|M\|.
        layers: of weights.
        alphas: \|alpha\|, of a task.
        phi_kb: Phi, of a task.
        ratio: C.
    """

    parameters: int
    mask_kb: float
    masks: int
    layers: int
    alphas: int
    phi_kb: float
    ratio: float


@dataclass(frozen=True)
class Counted:
    """What a network consists of.

    Attributes:
        weights: of convolutions and linear layers: what a mask chooses from.
        layers: how many of these there are.
        channels: that batch normalisation keeps a mean and a variance of.
        parameters: all, with biases and normalisation's.
    """

    weights: int
    layers: int
    channels: int
    parameters: int


@dataclass(frozen=True)
class Formula:
    """The paper's formula.

    Attributes:
        mask_kb: a SupSup mask, 2 bits per weight.
        alphas: numbers of a task, m x layers.
        phi_kb: Phi, of a task: its share of the masks, and its numbers at 4 bytes each.
        ratio: C, mask_kb / phi_kb.
    """

    mask_kb: float
    alphas: int
    phi_kb: float
    ratio: float


@dataclass(frozen=True)
class Honest:
    """The same in bits, with all that a task keeps.

    Attributes:
        mask_kb: a mask, 1 bit per weight.
        entropy_kb: a mask of density 0.1 at its entropy, which :func:`stolon.masks.storage.smallest` comes within
            some hundredths of.
        alpha_kb: a task's m x layers numbers in half precision, 2 bytes each.
        statistics_kb: a task's means and variances of batch normalisation in single precision, 2 x 4 bytes for each
            channel. (Learners keep 8 bytes a layer more: of how many mini-batches they are.)
        phi_kb: a task of ImpressLearn: its share of the masks at 1 bit per weight, its numbers, its statistics.
        ratio: a task of SupSup, which keeps its mask and its statistics as well, over phi_kb.
        ratio_coded: the same where masks are stored at their entropy, a task's own and the basis.
        ratio_mask_alone: its mask alone over phi_kb: as if SupSup kept no statistics of its own.
    """

    mask_kb: float
    entropy_kb: float
    alpha_kb: float
    statistics_kb: float
    phi_kb: float
    ratio: float
    ratio_coded: float
    ratio_mask_alone: float


@dataclass(frozen=True)
class Row:
    """A network on a data set.

    Attributes:
        data: the data set.
        network: as the paper calls it.
        tasks: that the masks' storage is shared by; infinite for the 784! of PermutedMNIST.
        masks: m.
        printed: what the paper prints.
        recomputed: the paper's formula on the paper's own counts.
        counted: the network with as many outputs as a task has classes, without biases.
        published: the network as published, with 1000 outputs, which the paper seems to count; None where it
            counts the task's own.
        formula: the paper's formula on what was counted.
        honest: storage in bits of what was counted.
    """

    data: str
    network: str
    tasks: float
    masks: int
    printed: Printed
    recomputed: Formula
    counted: Counted
    published: Counted | None
    formula: Formula
    honest: Honest


def by_formula(weights: float, layers: int, masks: int, tasks: float) -> Formula:
    """The paper's costs.

    Args:
        weights: that a mask chooses from.
        layers: of weights, d.
        masks: m.
        tasks: how many share the masks; may be infinite.

    Raises:
        SettingError: one is not positive.

    Example:
        >>> cost = by_formula(266_000, 3, 5, 359)  # RotatedMNIST; the paper prints 64.9, 15, 0.96, 67.4
        >>> round(cost.mask_kb, 1), cost.alphas, round(cost.phi_kb, 2), round(cost.ratio, 1)
        (64.9, 15, 0.96, 67.4)
    """
    _check(weights=weights, layers=layers, masks=masks, tasks=tasks)
    mask_kb = weights * 0.25 / 1024
    alphas = masks * layers
    phi_kb = masks * mask_kb / tasks + 4 * alphas / 1024
    return Formula(mask_kb, alphas, phi_kb, mask_kb / phi_kb)


def in_bits(counted: Counted, masks: int, tasks: float) -> Honest:
    """What SupSup and ImpressLearn keep of a task when masks are bits and statistics count.

    Args:
        counted: the network.
        masks: m.
        tasks: how many share the masks; may be infinite.

    Raises:
        SettingError: one is not positive.
    """
    _check(weights=counted.weights, layers=counted.layers, masks=masks, tasks=tasks)
    mask_kb = counted.weights / 8 / 1024
    alpha_kb = HALF * masks * counted.layers / 1024
    statistics_kb = 2 * SINGLE * counted.channels / 1024
    phi_kb = masks * mask_kb / tasks + alpha_kb + statistics_kb
    entropy_kb = mask_kb * entropy_bits(DENSITY)
    return Honest(
        mask_kb=mask_kb,
        entropy_kb=entropy_kb,
        alpha_kb=alpha_kb,
        statistics_kb=statistics_kb,
        phi_kb=phi_kb,
        ratio=(mask_kb + statistics_kb) / phi_kb,
        ratio_coded=(entropy_kb + statistics_kb) / (masks * entropy_kb / tasks + alpha_kb + statistics_kb),
        ratio_mask_alone=mask_kb / phi_kb,
    )


def count(network: nn.Module) -> Counted:
    """What a network consists of; it may be on the ``meta`` device.

    Example:
        >>> count(nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)))
        Counted(weights=216, layers=1, channels=8, parameters=232)
    """
    parts = list(network.modules())
    weights = [part.weight.numel() for part in parts if isinstance(part, nn.Conv2d | nn.Linear)]
    channels = sum(part.num_features for part in parts if isinstance(part, _BatchNorm))
    return Counted(sum(weights), len(weights), channels, sum(p.numel() for p in network.parameters()))


@cache
def rows() -> tuple[Row, ...]:
    """The table's rows, in its order; networks are built without memory for their weights."""
    return tuple(_row(entry) for entry in _ENTRIES)


def _check(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise SettingError(f"{name}: expected a number above 0, found {value!r}")


@dataclass(frozen=True)
class _Entry:
    """A row before anything is counted."""

    data: str
    network: str
    tasks: float
    masks: int
    outputs: int
    build: Callable[[int], nn.Module]
    printed: Printed
    published: bool = False


def _row(entry: _Entry) -> Row:
    printed, masks, tasks = entry.printed, entry.masks, entry.tasks
    with torch.device("meta"):
        counted = count(entry.build(entry.outputs))
        published = count(entry.build(1000)) if entry.published else None
    return Row(
        data=entry.data,
        network=entry.network,
        tasks=tasks,
        masks=masks,
        printed=printed,
        recomputed=by_formula(printed.parameters, printed.layers, masks, tasks),
        counted=counted,
        published=published,
        formula=by_formula(counted.weights, counted.layers, masks, tasks),
        honest=in_bits(counted, masks, tasks),
    )


def _own(name: str, shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A net of this package with a linear layer behind it."""
    net = nets.make(name, input_shape=shape)
    return nn.Sequential(net, nn.Linear(feature_count(net, shape), outputs, bias=False))


def _torchvision(name: str, outputs: int) -> nn.Module:
    from stolon import _torchvision  # noqa: F401 - makes the next import possible beside a CPU build

    from torchvision import models  # isort: skip

    network: nn.Module = getattr(models, name)(num_classes=outputs)
    return network


def _pre_resnet200(outputs: int) -> nn.Module:
    """He et al., "Identity Mappings in Deep Residual Networks": timm has its parts, not its name."""
    from stolon import _torchvision  # noqa: F401 - makes the next import possible beside a CPU build

    from timm.layers.create_conv2d import create_conv2d  # isort: skip
    from timm.layers.norm_act import BatchNormAct2d
    from timm.models.resnetv2 import ResNetV2

    network: nn.Module = ResNetV2(
        [3, 24, 36, 3],
        num_classes=outputs,
        preact=True,
        stem_type="",
        conv_layer=create_conv2d,
        norm_layer=BatchNormAct2d,
    )
    return network


_LENET: Final = partial(_own, "lenet-300-100", (1, 28, 28))


def _cifar(network: str, build: Callable[[int], nn.Module], printed: Printed, *, published: bool) -> _Entry:
    return _Entry("Split CIFAR-100", network, 20, 10, 5, build, printed, published=published)


def _imagenet(network: str, build: Callable[[int], nn.Module], printed: Printed) -> _Entry:
    return _Entry("ImageNet", network, 2100, 75, 10, build, printed, published=True)


_ENTRIES: Final = (
    _Entry(
        "PermutedMNIST", "LeNet 300-100", math.inf, 100, 10, _LENET,
        Printed(266_000, 64.9, 100, 3, 300, 1.17, 55.5),
    ),
    _Entry("RotatedMNIST", "LeNet 300-100", 359, 5, 10, _LENET, Printed(266_000, 64.9, 5, 3, 15, 0.96, 67.4)),
    _cifar(
        "ResNet-18", partial(_own, "gem-resnet18", (3, 32, 32)),
        Printed(6_200_000, 1513, 10, 21, 210, 757.6, 1.99), published=False,
    ),
    _cifar(
        "Wide ResNet-18", partial(_torchvision, "resnet18"),
        Printed(11_700_000, 2856, 10, 21, 210, 1429, 1.99), published=True,
    ),
    _cifar(
        "Wide ResNet-34", partial(_torchvision, "resnet34"),
        Printed(21_800_000, 5322, 10, 37, 370, 2662, 1.99), published=True,
    ),
    _imagenet(
        "ResNet-50", partial(_own, "resnet50", (3, 224, 224)),
        Printed(25_600_000, 6250, 75, 53, 3975, 238.7, 26.2),
    ),
    _imagenet(
        "ResNet-101", partial(_torchvision, "resnet101"),
        Printed(44_500_000, 10864, 75, 104, 7800, 418.47, 25.9),
    ),
    _imagenet(
        "ResNet-152", partial(_torchvision, "resnet152"),
        Printed(60_200_000, 14697, 75, 155, 11625, 570.31, 25.7),
    ),
    _imagenet(
        "pre-ResNet-200", _pre_resnet200, Printed(64_700_000, 15795, 100, 203, 15225, 623.6, 25.3)
    ),
    _imagenet(
        "VGG 16", partial(_torchvision, "vgg16"), Printed(137_900_000, 33667, 75, 16, 1200, 1207, 27.89)
    ),
    _imagenet(
        "WRN-50-2-bottleneck", partial(_torchvision, "wide_resnet50_2"),
        Printed(68_900_000, 16821, 75, 53, 3975, 616.28, 27.2),
    ),
)  # fmt: skip
