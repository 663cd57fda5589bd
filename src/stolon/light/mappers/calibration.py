"""Thresholds for "unknown" and a temperature for confidence, from samples of known tasks."""

from typing import NamedTuple

import torch
from torch import Tensor

FIRM = 10
"""How many samples of the other tasks' spread a task's own spread is mixed with."""


class Calibration(NamedTuple):
    """What a mapper decides by.

    Attributes:
        thresholds: the least evidence of each kind with which each task is still known [T, 2]; minus
            infinity: nothing is unknown.
        spreads: the standard deviation of each kind of evidence within each task [T, 2], above 0.
        temperature: what scores are divided by before they become probabilities.
    """

    thresholds: Tensor
    spreads: Tensor
    temperature: float


def evidence(score: Tensor, background: Tensor) -> Tensor:
    """Two kinds of evidence that an input belongs to its nearest task [B, 2].

    The score itself falls for inputs far from everything (noise). The score less the background's, how much
    nearer the task is than the middle of all tasks, falls for inputs that lie between tasks: pictures of
    another task. Each misses what the other finds (docs/decisions/0003-anchors.md).
    """
    return torch.stack([score, score - background], 1)


def calibrate(
    scores: Tensor, background: Tensor, owner: Tensor, quantile: float | None, temperature: float | None
) -> Calibration:
    r"""Thresholds and temperature from samples whose task is known and that no anchor was fitted to.

    Each kind of evidence has a mean :math:`m_t` and a spread :math:`s_t` in a task, the latter mixed with that of
    all tasks as if :data:`FIRM` more samples had shown it. The quantile is that of all tasks' standardised
    evidence together, so that a task with a handful of samples has a steady threshold:
    :math:`\theta_t = m_t + s_t\, Q_{(1-q)/2}`, half of what may be lost to each kind. The temperature minimises
    the mean negative log likelihood of the true task over a grid from 1 to 1000.

    Args:
        scores: of every task for each sample [n, T].
        background: log density of each sample around the middle of all tasks [n].
        owner: the task of each sample [n].
        quantile: the share of samples to keep within; ``None``: no thresholds.
        temperature: taken as it is, if given.
    """
    n, tasks = scores.shape
    if temperature is None:
        temperature = _temperature(scores, owner) if n and tasks > 1 else 1.0
    if quantile is None or not n:
        endless = scores.new_full((tasks, 2), -torch.inf)
        return Calibration(endless, torch.ones_like(endless), temperature)
    own = evidence(scores.gather(1, owner[:, None])[:, 0], background).double()
    counts = owner.bincount(minlength=tasks).double()[:, None]
    zeros = torch.zeros(tasks, 2, dtype=torch.float64, device=scores.device)
    means = zeros.index_add(0, owner, own) / counts.clamp(min=1)
    away = own - means[owner]
    squares = zeros.index_add(0, owner, away.square())
    freedom = (counts - 1).clamp(min=0)
    pooled = squares.sum(0) / freedom.sum().clamp(min=1)
    # 1e-6: equal samples have no spread, and a distance in spreads must stay a number
    spreads = ((squares + FIRM * pooled) / (freedom + FIRM)).sqrt().clamp(min=1e-6)
    known = means + spreads * (away / spreads[owner]).quantile((1 - quantile) / 2, dim=0)
    # a task without samples takes the middle of the others: better than accepting, or refusing, everything
    has = counts[:, 0] > 0
    known = torch.where(has[:, None], known, known[has].median(0).values)
    return Calibration(known.to(scores.dtype), spreads.to(scores.dtype), temperature)


def _temperature(scores: Tensor, owner: Tensor) -> float:
    grid = torch.logspace(0, 3, 61, dtype=torch.float64).tolist()
    losses = [float(torch.nn.functional.cross_entropy(scores.double() / tau, owner)) for tau in grid]
    return float(grid[min(range(len(grid)), key=losses.__getitem__)])
