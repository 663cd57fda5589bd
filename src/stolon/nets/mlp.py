"""Fully connected nets: LeNet-300-100, FC-1024 and any other widths."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def mlp(inputs: int, widths: Sequence[int]) -> nn.Sequential:
    """Flatten, then a fully connected layer and a ReLU for each width: one stage each.

    Args:
        inputs: numbers in one input.
        widths: outputs of each layer; the last is the number of features.
    """
    sizes = [inputs, *widths]
    stages = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(sizes)]
    return nn.Sequential(nn.Flatten(), *stages)
