"""Adapters: a frozen layer and a few numbers of a task's own that are added to its output.

Learn-to-Grow adapts a convolution by a 1 x 1 convolution beside it whose output is added to the convolution's. That is
a convolution again: with the 1 x 1 kernel added to one place of the larger kernel, the middle one. So an adapted layer
is made as tensors, in place of the layer's own, which costs no second pass, and strides, padding, dilation, groups and
blocks of several convolutions need no care: shapes agree by construction. The 1 x 1 convolution is taken to have the
stride of the layer and to look at the input where the kernel's middle lies (of an even kernel: behind the middle).

Ours, the paper adapts convolutions only:

- A layer whose kernel has one place only (a fully connected layer, a 1 x 1 convolution) would get an adapter as large
  as itself, no smaller than a new layer. It gets a product of two thin matrices in place of that, a bottleneck beside
  the layer: W + U V.
- A bias is adapted by numbers added to it; what else a layer has (normalisation's scale and shift) stays as it is.
- Adapters begin as no change: kernels and U are zero.
"""

import math
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import pad

from stolon.growth.structure import Tensors
from stolon.nets.stages import Stage
from stolon.randomness import generator

MIDDLE: Final = ":middle"
"""Added to the middle place of a kernel, [rows, columns]."""
UP: Final = ":up"
"""U [rows, rank]."""
DOWN: Final = ":down"
"""V [rank, columns]."""
SHIFT: Final = ":shift"
"""Added to a bias."""


def new_adapter(stage: Stage, rank: int, seed: int, *purpose: str | int) -> dict[str, Tensor]:
    """Numbers that change nothing yet; V is drawn, as a fully connected layer's weights are.

    Args:
        stage: the layer that is adapted.
        rank: of U V, at most; it has at most half as many numbers as the layer (or rank 1).
        seed: of what is drawn.
        purpose: what it is drawn for.
    """
    g = generator(seed, "adapter", *purpose)
    adapter: dict[str, Tensor] = {}
    for name, value in stage.named_parameters():
        if name in stage.kernels:
            rows, columns = value.shape[:2]
            if value[0, 0].numel() > 1:
                adapter[name + MIDDLE] = torch.zeros(rows, columns)
                continue
            least = min(rank, max(1, rows * columns // (2 * (rows + columns))))
            adapter[name + UP] = torch.zeros(rows, least)
            bound = 1 / math.sqrt(columns)
            adapter[name + DOWN] = torch.empty(least, columns).uniform_(-bound, bound, generator=g)
        elif name in biases(stage):
            adapter[name + SHIFT] = torch.zeros_like(value)
    return adapter


def biases(stage: Stage) -> tuple[str, ...]:
    """The names of the biases of convolutions and fully connected layers, where they have any."""
    found = (name.removesuffix("weight") + "bias" for name in stage.kernels)
    return tuple(name for name in found if name in stage.others)


def adapted(tensors: Tensors, adapter: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A layer's tensors with an adapter's numbers added; gradients flow to both."""
    made = dict(tensors)
    for name, value in tensors.items():
        if name + MIDDLE in adapter:
            made[name] = value + _placed(adapter[name + MIDDLE], value.shape[2:])
        elif name + UP in adapter:
            made[name] = value + (adapter[name + UP] @ adapter[name + DOWN]).view(value.shape)
        elif name + SHIFT in adapter:
            made[name] = value + adapter[name + SHIFT]
    return made


def _placed(middle: Tensor, window: tuple[int, ...]) -> Tensor:
    """A kernel of zeros but for its middle place."""
    around = [width for size in reversed(window) for width in (size // 2, size - 1 - size // 2)]
    return pad(middle[(...,) + (None,) * len(window)], around)
