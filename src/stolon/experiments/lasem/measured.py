"""What the trials of a table on selective transfer gave, by method and seed, and how it is told."""

import math
from collections.abc import Callable, Iterable
from typing import final

from stolon.experiments.by_seed import BySeed, mean, number, ratio
from stolon.experiments.lasem.methods import Method
from stolon.experiments.lasem.plans import Plan
from stolon.experiments.results import Record
from stolon.experiments.summary import Group, Outcome, groups


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
