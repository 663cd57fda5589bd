"""Local probes: a few features of a task's own inputs, kept to notice whether somebody else's task takes them."""

from typing import Final

import torch
from torch import Tensor

from stolon import randomness

PER_CLASS: Final = 32
"""Most probes of one class ..."""
PER_TASK: Final = 512
"""... and of one task: 1.3 MB of 1280 dimensions at half precision, however many classes there are."""


def choose(features: Tensor, labels: Tensor, seed: int) -> Tensor:
    """A random choice of features, as many of each class as there are of the others, float16 [P, D].

    Args:
        features: raw features of the frozen backbone [N, D].
        labels: class indices [N], int64.
        seed: same seed and features, same choice.

    Example:
        >>> choose(torch.rand(100, 4), torch.arange(100) % 2, seed=0).shape
        torch.Size([64, 4])
    """
    order = randomness.permutation(len(features), seed, "probes")
    order = order[labels[order].argsort(stable=True)]
    counts = labels.bincount()
    rank = torch.arange(len(order)) - (counts.cumsum(0) - counts)[labels[order]]
    # one of every class, then a second of every class, and so on: with many classes each has a few
    turns = rank.argsort(stable=True)
    chosen = order[turns[rank[turns] < PER_CLASS][:PER_TASK]]
    largest = torch.finfo(torch.float16).max
    return features[chosen].clamp(-largest, largest).half()
