"""Ways to bind and grow against each other: who dominates whom, fronts, hypervolumes."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from stolon.experiments.by_seed import BySeed
from stolon.experiments.growth.measured import Measured, Solution
from stolon.experiments.growth.plans import Item, Kind
from stolon.growth.pareto import Point, dominates, front, hypervolume

_WIDEST: Final = 1.05
"""The reference's share of independent networks' parameters: a little more than full growth has."""
_HALF: Final = 0.5


@final
@dataclass(frozen=True)
class Pick:
    """A small solution, chosen by validation accuracy.

    Attributes:
        item: which.
        share: its parameters, as a share of full growth's.
        accuracy: on test data, 0 to 1.
        change: of that against full growth.
    """

    item: Item
    share: float
    accuracy: float
    change: float


@final
class Fronts:
    """Solutions as points of test gain in points, and parameters as a share of independent networks'.

    Args:
        found: what was measured, of a figure with a sweep and random growth.

    Attributes:
        kinds: what is compared.
    """

    def __init__(self, found: Measured) -> None:
        self._found = found
        seeds = range(found.plan.setting.seeds)
        self.kinds: tuple[Kind, ...] = tuple(kind for kind in found.plan.kinds if kind != "independent")
        self._solutions: dict[Kind, list[dict[Item, Solution]]] = {
            kind: [found.solutions(found.plan.items(kind), seed) for seed in seeds] for kind in self.kinds
        }

    def points(self, kind: Kind, seed: int) -> list[Point]:
        """Of a seed."""
        return [_point(solution) for solution in self._solutions[kind][seed].values()]

    def reference(self) -> Point | None:
        """The lowest gain of all solutions of all kinds and seeds, with a little more than all parameters."""
        gains = [
            100 * solution.gain
            for of_kind in self._solutions.values()
            for of_seed in of_kind
            for solution in of_seed.values()
        ]
        return Point(min(gains), _WIDEST) if gains else None

    def reference_told(self) -> str:
        """In a sentence."""
        reference = self.reference()
        if reference is None:
            return ""
        return (
            f"The reference, the same for all, is the lowest gain of any solution, {reference.gain:+.2f} points, with "
            f"{100 * reference.parameters:.0f} % of those parameters."
        )

    def hypervolumes(self, kind: Kind) -> BySeed:
        """By seed, of seeds whose solutions of this kind are all there."""
        reference, wanted = self.reference(), len(self._found.plan.items(kind))
        return {
            seed: hypervolume(self.points(kind, seed), reference)
            for seed, solutions in enumerate(self._solutions[kind])
            if reference is not None and len(solutions) == wanted
        }

    def dominated(self, item: Item) -> BySeed:
        """Of each seed the percentage of random growths that an item dominates."""
        return self._compared(item, dominates)

    def dominating(self, item: Item) -> BySeed:
        """Of each seed the percentage of random growths that dominate an item."""
        return self._compared(item, lambda ours, draw: dominates(draw, ours))

    def of_draws(
        self, of: Callable[[Solution], float], choose: Callable[[Iterable[float]], float] | None
    ) -> BySeed:
        """By seed the mean over random growths, or what is chosen among them."""
        found = {
            seed: [of(solution) for solution in solutions.values()]
            for seed, solutions in enumerate(self._solutions["random"])
            if solutions
        }
        return {
            seed: math.fsum(values) / len(values) if choose is None else choose(values)
            for seed, values in found.items()
        }

    def full(self, seed: int) -> Solution | None:
        """Full growth: delta 1 of the sweep; None where it is not there."""
        sweep = self._solutions["sweep"][seed]
        return next((solution for item, solution in sweep.items() if item.delta == 1), None)

    def picks(self, kind: Kind) -> Mapping[int, Pick]:
        """Of each seed the solution of best validation gain that has at most half the parameters of full growth."""
        found: dict[int, Pick] = {}
        for seed, solutions in enumerate(self._solutions[kind]):
            full = self.full(seed)
            if full is None:
                continue
            small = [
                (item, solution)
                for item, solution in solutions.items()
                if solution.parameters <= _HALF * full.parameters
            ]
            if small:
                item, best = max(small, key=lambda pair: (pair[1].val_gain or 0.0, -pair[1].parameters))
                found[seed] = Pick(
                    item, best.parameters / full.parameters, best.accuracy, best.accuracy - full.accuracy
                )
        return found

    @staticmethod
    def lines(
        series: Mapping[str, Sequence[tuple[float, float]]],
    ) -> dict[str, list[tuple[float, float]]]:
        """The fronts of points (parameters, gain), by series, by ascending parameters."""
        return {
            name: [points[place] for place in front([Point(y, x) for x, y in points])]
            for name, points in series.items()
        }

    def _compared(self, item: Item, holds: Callable[[Point, Point], bool]) -> BySeed:
        found: dict[int, float] = {}
        for seed, solutions in enumerate(self._solutions["sweep"]):
            draws = self.points("random", seed)
            if item in solutions and draws:
                ours = _point(solutions[item])
                found[seed] = 100 * sum(holds(ours, draw) for draw in draws) / len(draws)
        return found


def _point(solution: Solution) -> Point:
    return Point(100 * solution.gain, solution.share)
