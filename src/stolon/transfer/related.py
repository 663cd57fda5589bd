r"""How similar two tasks are, by features: the weight of an earlier task's choices in a new task's prior.

The papers leave open how tasks are compared ("via a task descriptor", or "the task model's relation to shared
knowledge"). Here a task's *profile* is how each channel behind the last layer before the tail is distributed over the
task's training data when it was learned: mean and deviation over samples of the channel's mean over an image. A new
task's data go through the earlier task's network; the similarity is the Bhattacharyya coefficient of both, as normal
distributions, the geometric mean over channels:

.. math::
    \exp \Big( -\tfrac1C \sum_c \tfrac{(\mu_c - \nu_c)^2}{4 (\sigma_c^2 + \tau_c^2)}
        + \tfrac12 \ln \tfrac{\sigma_c^2 + \tau_c^2}{2 \sigma_c \tau_c} \Big)

It is 1 where channels are distributed alike. (The correlation of the means alone tells little: through a network that
has learned nothing yet it is near 1 even for noise.)
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
_LEAST: Final = 1e-3


@torch.no_grad()
def profile(
    network: Network, shared: Layers, parts: Parts, configuration: Configuration, split: Split
) -> Tensor:
    """Mean and deviation [2, C] of each channel behind the last layer, over a split's first samples."""
    chosen, sums = network.chosen(shared, parts, configuration), []
    for indices in torch.arange(min(len(split), SAMPLES)).split(BATCH):
        x = network.activations(chosen, parts.statistics, to_float(split.batch(indices)[0]))
        sums.append(x.flatten(2).mean(2) if x.ndim > 2 else x)
    by_sample = torch.cat(sums).double()
    return torch.stack([by_sample.mean(0), by_sample.std(0, correction=0)]).float()


def similarity(one: Tensor, other: Tensor) -> float:
    """Bhattacharyya coefficient of two profiles [2, C], 0 to 1.

    Channels that are constant in both (dead ones) say nothing and are left out; ones constant in one alone count as if
    it had a thousandth of the other's deviation.

    Example:
        >>> a = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
        >>> similarity(a, a)
        1.0
        >>> round(similarity(a, torch.tensor([[2.0, 3.0], [1.0, 1.0]])), 3)  # two deviations apart
        0.607
    """
    (mean, deviation), (other_mean, other_deviation) = one.double(), other.double()
    largest = torch.maximum(deviation, other_deviation)
    alive = largest > 0
    if not bool(alive.any()):
        return float(torch.equal(mean, other_mean))
    a, b = deviation.clamp(min=_LEAST * largest)[alive], other_deviation.clamp(min=_LEAST * largest)[alive]
    variance = a**2 + b**2
    apart = (mean - other_mean)[alive] ** 2 / (4 * variance)
    distance = apart + 0.5 * (variance / (2 * a * b)).log()
    return float((-distance.mean()).exp())
