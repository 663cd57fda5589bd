"""A value for each seed, and how tables tell it: means with 95 % Student intervals, differences seed by seed."""

import math
from collections.abc import Mapping

from stolon import measure
from stolon.measure import Interval

BySeed = Mapping[int, float]
NOTHING = "–"


def mean(values: BySeed) -> float:
    """Over seeds."""
    return math.fsum(values.values()) / len(values)


def interval(values: BySeed) -> Interval | None:
    """Mean and half-width of the 95 % Student interval; None for no values."""
    return measure.interval(values.values()) if values else None


def difference(one: BySeed, other: BySeed) -> BySeed:
    """Of each seed that both have."""
    return {seed: value - other[seed] for seed, value in one.items() if seed in other}


def ratio(one: BySeed, other: BySeed) -> BySeed:
    """Of each seed that both have."""
    return {seed: value / other[seed] for seed, value in one.items() if other.get(seed)}


def apart(one: BySeed, other: BySeed) -> bool:
    """Whether the first's interval lies wholly above the other's; never with a single seed.

    Example:
        >>> apart({0: 0.40, 1: 0.41}, {0: 0.10, 1: 0.12}), apart({0: 0.4}, {0: 0.1})
        (True, False)
    """
    a, b = interval(one), interval(other)
    return a is not None and b is not None and a.mean - a.half_width > b.mean + b.half_width


def percent(values: BySeed) -> str:
    """Shares in percent.

    Example:
        >>> percent({0: 0.39, 1: 0.41}), percent({0: 0.4}), percent({})
        ('40.0 ± 12.7', '40.0', '–')
    """
    return _told(values, "{:.1f}", 100)


def points(values: BySeed) -> str:
    """Differences of shares, in points, with their sign."""
    return _told(values, "{:+.1f}", 100)


def number(values: BySeed) -> str:
    """Ratios."""
    return _told(values, "{:.2f}")


def seconds(values: BySeed) -> str:
    """Seconds."""
    return _told(values, "{:.0f}")


def _told(values: BySeed, shape: str, scale: float = 1) -> str:
    found = interval(values)
    if found is None:
        return NOTHING
    told = shape.format(scale * found.mean)
    if not math.isfinite(found.half_width):
        return told
    return f"{told} ± {shape.replace('+', '').format(scale * found.half_width)}"
