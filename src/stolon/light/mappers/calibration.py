"""Thresholds for "unknown" and a temperature for confidence, from samples of known tasks."""

from typing import NamedTuple

import torch
from torch import Tensor


class Calibration(NamedTuple):
    """What a mapper decides by.

    Attributes:
        thresholds: the least evidence of each kind with which an input is still known [2]; minus
            infinity: nothing is unknown.
        spreads: the standard deviation of each kind of evidence [2], above 0.
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

    One pair of thresholds serves all tasks: each kind of evidence may lose half of the share that may be lost
    of all samples, every task counting the same. Thresholds of each task's own would keep a task of scattered
    inputs whole, but then most far inputs, which end up in such a task, are known too (measured in
    docs/decisions/0003-anchors.md). The temperature minimises the mean negative log likelihood of the true
    task over a grid from 0.1 to 1000, with Platt's smoothed labels: where the samples are told apart without an error,
    the sharpest temperature would win otherwise.

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
        return Calibration(scores.new_full((2,), -torch.inf), scores.new_ones(2), temperature)
    own = evidence(scores.gather(1, owner[:, None])[:, 0], background)
    weights = 1 / owner.bincount(minlength=tasks)[owner].double()
    order = own.argsort(0)
    reached = weights[order].cumsum(0) / weights.sum()
    first = (reached < (1 - quantile) / 2).sum(0, keepdim=True).clamp(max=n - 1)
    thresholds = own.gather(0, order).gather(0, first)[0]
    # 1e-6: equal samples have no spread, and a distance in spreads must stay a number
    return Calibration(thresholds, own.std(0, correction=0).clamp(min=1e-6), temperature)


def _temperature(scores: Tensor, owner: Tensor) -> float:
    grid: list[float] = torch.logspace(-1, 3, 81, dtype=torch.float64).tolist()
    smoothing = 2 / (len(owner) + 2)
    exact = scores.double()

    def loss(i: int) -> float:
        return float(torch.nn.functional.cross_entropy(exact / grid[i], owner, label_smoothing=smoothing))

    # convex in 1 / temperature: 14 of the 81 tell where it is least
    low, high = 0, len(grid) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if loss(middle) <= loss(middle + 1) else (middle + 1, high)
    return grid[low]
