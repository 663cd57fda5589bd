"""Training images moved by a few pixels: what keeps biases from learning a small task by heart."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from stolon.randomness import generator


def offsets(n: int, reach: int, seed: int, *purpose: str | int) -> Tensor:
    """How far each of ``n`` images is moved down and right, int64 [n, 2], from -reach to reach."""
    return torch.randint(-reach, reach + 1, (n, 2), generator=generator(seed, "shift", *purpose))


def shifted(x: Tensor, by: Tensor) -> Tensor:
    """Images [B, C, H, W] moved by ``by`` [B, 2] pixels; what enters is the image mirrored at its edge.

    One gather for the whole batch, each image by its own offset.

    Example:
        >>> x = torch.arange(9.0).view(1, 1, 3, 3)
        >>> shifted(x, torch.tensor([[1, 0]]))[0, 0]
        tensor([[3., 4., 5.],
                [0., 1., 2.],
                [3., 4., 5.]])
    """
    reach = int(by.abs().max()) if len(by) else 0
    if not reach:
        return x
    height, width = x.shape[2:]
    # Bytes cannot be padded by mirroring in every PyTorch; floats hold them exactly.
    padded = pad(x.float(), (reach,) * 4, mode="reflect")
    rows = (reach - by[:, 0])[:, None] + torch.arange(height)
    columns = (reach - by[:, 1])[:, None] + torch.arange(width)
    sample = torch.arange(len(x))[:, None, None]
    moved = padded[sample, :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2).to(x.dtype)
