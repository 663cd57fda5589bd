"""What the trials of a table on selective transfer gave, by method and seed, and how it is told."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import final

from stolon import measure
from stolon.experiments.lasem.methods import Method
from stolon.experiments.lasem.plans import Plan
from stolon.experiments.results import Record
from stolon.experiments.summary import Group, Outcome, groups
from stolon.measure import Interval

BySeed = Mapping[int, float]
NOTHING = "–"


@final
class Measured:
    """A plan's results.

    Args:
        plan: what was run.
        records: what it gave.
    """

    def __init__(self, plan: Plan, records: Iterable[Record]) -> None:
        self.plan = plan
        self._groups = {group.learner: group for group in groups(records)}

    def group(self, method: Method) -> Group | None:
        """A method's trials; None where none has begun."""
        return self._groups.get(method.label)

    def peak(self, method: Method) -> BySeed:
        """Mean peak per-task accuracy, 0 to 1."""
        return self._of(method, lambda o: o.matrix.peak())

    def final(self, method: Method) -> BySeed:
        """Mean accuracy on all tasks after the last one, 0 to 1."""
        return self._of(method, lambda o: o.matrix.final())

    def kept(self, method: Method) -> BySeed:
        """Forgetting ratio: over the accuracy at the end of each task's own training."""
        return self._of(method, lambda o: o.matrix.forgetting_ratio("end"))

    def kept_of_peak(self, method: Method) -> BySeed:
        """Forgetting ratio: over each task's peak."""
        return self._of(method, lambda o: o.matrix.forgetting_ratio("peak"))

    def seconds(self, method: Method) -> BySeed:
        """Seconds of learning all tasks."""
        return self._of(method, lambda o: math.fsum(task["seconds"] for task in o.tasks))

    def time(self, method: Method, base: Method) -> str:
        """Seconds relative to those of another method, seed by seed, in words."""
        return "1" if method == base else number(ratio(self.seconds(method), self.seconds(base)))

    def best(self, methods: Iterable[Method]) -> Method | None:
        """The method of the highest mean peak, of equals the first; None where none has any."""
        means = {method: mean(self.peak(method)) for method in methods if self.peak(method)}
        return max(means, key=lambda method: means[method]) if means else None

    def span(self, methods: Iterable[Method]) -> tuple[float, float] | None:
        """The lowest and the highest mean peak."""
        means = [mean(self.peak(method)) for method in methods if self.peak(method)]
        return (min(means), max(means)) if means else None

    def _of(self, method: Method, value: Callable[[Outcome], float]) -> BySeed:
        group = self.group(method)
        found = {} if group is None else {o.seed: value(o) for o in group.finished}
        return {seed: number for seed, number in found.items() if math.isfinite(number)}


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
