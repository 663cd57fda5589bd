r"""How similar two tasks are, by features: the weight of an earlier task's choices in a new task's prior.

The papers leave open how tasks are compared ("via a task descriptor", or "the task model's relation to shared
knowledge"). Here a task's *profile* is the mean of the activations behind the last layer before the tail, one number
per channel, over its training data when it was learned. A new task's data go through the earlier task's network; the
similarity is the correlation of both profiles, at least 0: channels that fire alike on average mean data that the
earlier task's features describe alike.
"""

from typing import Final

import torch
from torch import Tensor

from stolon.tasks import Split, to_float
from stolon.transfer.configurations import Configuration
from stolon.transfer.network import Layers, Network, Parts

SAMPLES: Final = 512
"""Training samples that are looked at, the first ones: a mean needs no more."""
BATCH: Final = 128


@torch.no_grad()
def profile(
    network: Network, shared: Layers, parts: Parts, configuration: Configuration, split: Split
) -> Tensor:
    """Mean activation of each channel behind the last layer [C], over a split's first samples."""
    chosen, sums = network.chosen(shared, parts, configuration), []
    for indices in torch.arange(min(len(split), SAMPLES)).split(BATCH):
        x = network.activations(chosen, parts.statistics, to_float(split.batch(indices)[0]))
        sums.append(x.flatten(2).mean(2) if x.ndim > 2 else x)
    return torch.cat(sums).mean(0)


def similarity(one: Tensor, other: Tensor) -> float:
    """Correlation of two profiles [C], at least 0; 0 where one of them is constant.

    Example:
        >>> round(similarity(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 6.0])), 6)
        1.0
        >>> similarity(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0]))
        0.0
    """
    a, b = one.double() - one.double().mean(), other.double() - other.double().mean()
    norms = float(a.norm() * b.norm())
    return min(1.0, max(0.0, float(a @ b) / norms)) if norms else 0.0
