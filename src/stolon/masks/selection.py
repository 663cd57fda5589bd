"""The largest entries of a tensor, without sorting all of them.

Edge-popup asks at every step which scores are among the largest. Sorting all of them costs several times the rest of
the step; here a small sample says between which two values the threshold lies, and only the entries between them are
looked at more closely. The result is exact, whatever the sample says.
"""

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_SAMPLE = 4096
_DEVIATIONS = 3.0  # that the threshold may lie off what the sample says before all entries are looked at
_MOVES = 0.005  # that a threshold moves at most from step to step, relatively, before it is looked for anew


def top_mask(values: Tensor, keep: int) -> Tensor:
    """Which entries are the ``keep`` largest, bool, of the shape of ``values``; of equals the first.

    Args:
        values: float32, finite.
        keep: 0 up to the number of entries.

    Example:
        >>> import torch
        >>> top_mask(torch.tensor([3.0, 1.0, 2.0, 3.0]), 2)
        tensor([ True, False, False,  True])
    """
    found = values.detach().clone()
    mark_top_(found, keep)
    return found.bool()


def mark_top_(values: Tensor, keep: int, near: float = math.nan) -> float:
    """The same in place and as numbers, 1 for the ``keep`` largest entries, 0 for the others; returns the threshold.

    Numbers in place of bool: on CPUs comparing and multiplying floats is several times as fast as selecting by bool.

    Args:
        values: what becomes the mask.
        keep: how many.
        near: where the threshold is thought to be, such as where it was a step before; nothing but time depends on it.
    """
    flat = values.view(-1)
    if keep <= 0:
        values.zero_()
        return math.inf
    if keep >= len(flat):
        values.fill_(1)
        return -math.inf
    least, count = _kth(flat, len(flat) - keep, near)
    surplus = count - keep
    equal = (flat == least).nonzero().flatten() if surplus else None
    values.ge_(least)
    if equal is not None:  # of those that equal the threshold the last ones go
        flat[equal[-surplus:]] = 0
    return least


def _kth(flat: Tensor, k: int, near: float) -> tuple[float, int]:
    """The k-th smallest entry, counted from 0, and how many entries are not below it."""
    if flat.is_cuda:
        least = float(flat.kthvalue(k + 1).values)
        return least, int((flat >= least).sum())
    array = flat.numpy()
    if math.isfinite(near):
        margin = _MOVES * abs(near)
        found = _between(array, k, near - margin, near + margin)
        if found is not None:
            return found
    found = _between(array, k, *_bracket(array, k))
    if found is not None:
        return found
    least = float(np.partition(array, k)[k])  # the sample was not like the whole
    return least, int(np.count_nonzero(array >= least))


def _between(array: NDArray[np.float32], k: int, low: float, high: float) -> tuple[float, int] | None:
    """The same, where that entry lies between; else None. Each entry is compared twice, those between once more."""
    chosen = array >= low
    above = int(np.count_nonzero(chosen))
    place = k - (len(array) - above)
    if place < 0:
        return None
    chosen &= array <= high
    within = array.take(np.flatnonzero(chosen))
    if place >= len(within):
        return None
    least = float(np.partition(within, place)[place])
    return least, above - len(within) + int(np.count_nonzero(within >= least))


def _bracket(array: NDArray[np.float32], k: int) -> tuple[float, float]:
    """Two values between which the k-th smallest entry almost surely lies, from every so many-th entry."""
    sample = np.sort(array[:: max(1, len(array) // _SAMPLE)])
    count, share = len(sample), k / len(array)
    margin = _DEVIATIONS * math.sqrt(share * (1 - share) / count) + 2 / count
    first, last = math.floor((share - margin) * count), math.ceil((share + margin) * count)
    low = -math.inf if first < 0 else float(sample[first])
    high = math.inf if last >= count else float(sample[last])
    return low, high
