"""Max-pooling whose windows cover the whole image."""

from typing import final

import torch.nn.functional as F  # noqa: N812 - torch's own usage
from torch import Tensor, nn


@final
class SameMaxPool2d(nn.Module):
    """Max-pooling with stride = window and TensorFlow's "SAME" padding: n pixels become ceil(n / window).

    What is missing to full windows, ``ceil(n / window) * window - n``, is padded by minus infinity: half of it,
    rounded down, before the first pixel and the rest after the last. (torch's ``ceil_mode`` alone pads only
    after the last, and takes other maxima wherever two or more are missing.)

    Args:
        window: pixels, >= 1.

    Example:
        >>> import torch
        >>> SameMaxPool2d(3)(torch.arange(7.0).view(1, 1, 1, 7))  # windows -01 234 56-
        tensor([[[[1., 4., 6.]]]])
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        """Maxima [B, C, ceil(H / window), ceil(W / window)] of x [B, C, H, W]."""
        # max_pool2d pads by minus infinity without a copy: by half of what is missing on both sides, and
        # ceil_mode adds the odd pixel after the last.
        before = [(-n % self.window) // 2 for n in x.shape[-2:]]
        return F.max_pool2d(x, self.window, padding=before, ceil_mode=True)

    def extra_repr(self) -> str:
        """What print shows."""
        return str(self.window)
