"""Mean and 95 % interval over repetitions, such as seeds."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from stolon.errors import SettingError


class Interval(NamedTuple):
    """A mean and how far the true one may lie from it.

    Attributes:
        mean: of the values, in their unit.
        half_width: half of the confidence interval, in the values' unit; NaN for a single value.
    """

    mean: float
    half_width: float


def interval(values: Iterable[float], *, confidence: float = 0.95) -> Interval:
    r"""The mean of n values and the half-width of its Student t interval.

    .. math::
        \bar x \pm t_{n-1,\,(1+c)/2} \; s / \sqrt n , \qquad s^2 = \tfrac{1}{n-1} \sum_i (x_i - \bar x)^2

    Args:
        values: one per repetition; finite.
        confidence: c, above 0 and below 1.

    Raises:
        SettingError: there is no value, one is not finite, or the confidence is out of its range.

    Example:
        >>> mean, half_width = interval([0.7, 0.8, 0.9])
        >>> round(mean, 3), round(half_width, 3)
        (0.8, 0.248)

    Source:
        Student, "The probable error of a mean", Biometrika 1908.
    """
    found = [float(value) for value in values]
    if not found or not all(math.isfinite(value) for value in found):
        raise SettingError(f"values: expected one or more finite numbers, found {found}")
    if not 0 < confidence < 1:
        raise SettingError(f"confidence: expected above 0 and below 1, found {confidence}")
    n = len(found)
    mean = math.fsum(found) / n
    if n == 1:
        return Interval(mean, math.nan)
    from scipy.special import stdtrit  # the quantile alone: scipy.stats takes seconds to import

    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in found) / (n - 1))
    return Interval(mean, float(stdtrit(n - 1, (1 + confidence) / 2)) * deviation / math.sqrt(n))
