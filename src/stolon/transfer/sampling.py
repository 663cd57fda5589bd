"""What is drawn in place of being computed: configurations by their posterior, and how often an E-step comes."""

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from stolon.randomness import number, permutation
from stolon.transfer.prefix import Plan

E_SHARE: Final = 0.4
"""Most that E-steps cost, of M-steps, where their number is not set."""
BACKWARD: Final = 3
"""A training step costs about three forward passes."""


def e_step_interval(macs: Sequence[int], plan: Plan) -> int:
    """Mini-batches per E-step such that E-steps cost at most :data:`E_SHARE` of what M-steps cost.

    Args:
        macs: of each layer, for one configuration.
        plan: of all configurations, which an E-step computes forwards.

    Example:
        >>> from stolon.transfer.configurations import Space
        >>> e_step_interval([100, 100], Plan(Space.every(2).choices))  # 2 and 4 nodes: 600 MACs against 3 x 200
        3
    """
    forward = sum(cost * level.nodes for cost, level in zip(macs, plan.levels, strict=True))
    step = BACKWARD * sum(macs)
    return max(1, math.ceil(forward / (E_SHARE * step)))


def draw(posterior: Tensor, samples: int, seed: int, *purpose: str | int) -> dict[int, float]:
    """Configurations drawn from a posterior [K], with the share of the draws that each got.

    Example:
        >>> draw(torch.tensor([0.0, 1.0, 0.0]), 2, 0, "test")
        {1: 1.0}
    """
    cumulative = posterior.cumsum(0)
    found: dict[int, float] = {}
    for i in range(samples):
        point = number(seed, "configuration", *purpose, i) / 2**63 * float(cumulative[-1])
        chosen = min(int(torch.searchsorted(cumulative, point, right=True)), len(posterior) - 1)
        found[chosen] = found.get(chosen, 0.0) + 1 / samples
    return found


def spread(posterior: Tensor, count: int, seed: int, *purpose: str | int) -> list[int]:
    """As many draws from a posterior [K], in random order; each comes up as often as expected, up to one.

    Systematic sampling: one random number for all draws.

    Example:
        >>> sorted(spread(torch.tensor([0.5, 0.0, 0.5]), 6, 0, "test"))
        [0, 0, 0, 2, 2, 2]
    """
    cumulative = posterior.cumsum(0)
    begin = number(seed, "configuration", *purpose) / 2**63
    points = (torch.arange(count, dtype=torch.float64) + begin) / count * cumulative[-1]
    found = torch.searchsorted(cumulative, points, right=True).clamp_max(len(posterior) - 1)
    order = permutation(count, seed, "configuration", *purpose)
    return found[order].tolist()
