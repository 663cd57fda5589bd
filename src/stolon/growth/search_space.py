"""What a search over grow sequences may choose, and how its choices become a sequence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import prod
from typing import Any, Final, final

from stolon.errors import SettingError
from stolon.growth.sequences import GrowSequence, Step
from stolon.settings import one_of, within

DELTAS: Final = ("shared", "each")
BINDS: Final = ("conflict", "searched")
ORDERS: Final = ("fixed", "searched")
FINEST: Final = 0.001
"""The least step between deltas."""
KEY: Final = None
"""A dimension of real numbers in [0, 1], in place of its choices."""

Dimensions = Mapping[str, tuple[float, ...] | None]
"""By a parameter's name its choices, or :data:`KEY`."""


@final
@dataclass(frozen=True)
class SearchSpace:
    """What is searched; the defaults are the paper's low-budget setting.

    Attributes:
        deltas: ``"shared"``: one for all tasks; ``"each"``: one for each task.
        step: between the deltas that are tried, 0.001 to 1; the last is 1.
        binds: ``"conflict"``: bindings are left to the learner; ``"searched"``: any earlier task, for each.
        order: ``"fixed"``: as the stream has it; ``"searched"``: any. Then there is a key for each task, and tasks are
            learned in the order of their keys (random keys: Bean, ORSA Journal on Computing 1994), as crossover of
            permutations themselves makes no permutations.

    Raises:
        SettingError: a value is out of its range.
    """

    deltas: str = "shared"
    step: float = 0.05
    binds: str = "conflict"
    order: str = "fixed"

    def __post_init__(self) -> None:
        one_of("deltas", self.deltas, DELTAS)
        one_of("binds", self.binds, BINDS)
        one_of("order", self.order, ORDERS)
        within("step", self.step, FINEST, 1)
        if 1 % Decimal(str(self.step)):
            raise SettingError(
                f"step: expected one that goes into 1 without remainder, as 0.05, found {self.step}"
            )

    def dimensions(self, tasks: Sequence[str]) -> dict[str, tuple[float, ...] | None]:
        """What is chosen for these tasks, by name.

        Bindings are places among the tasks that come before, counted from 0. What is no choice is left out: the first
        task's delta where the order is fixed, the second's binding.
        """
        steps = round(1 / self.step)
        deltas = tuple(round(i * self.step, 10) for i in range(steps + 1))
        found: dict[str, tuple[float, ...] | None] = {}
        if self.order == "searched":
            found.update({f"key[{task}]": KEY for task in tasks})
        if self.deltas == "shared":
            found["delta"] = deltas
        else:
            chosen = tasks if self.order == "searched" else tasks[1:]
            found.update({f"delta[{task}]": deltas for task in chosen})
        if self.binds == "searched":
            found.update({f"bind[{i}]": tuple(range(i)) for i in range(2, len(tasks))})
        return found

    def sequence(self, chosen: Mapping[str, Any], tasks: Sequence[str]) -> GrowSequence:
        """The grow sequence that values of :meth:`dimensions` stand for."""
        order = list(tasks)
        if self.order == "searched":
            order.sort(
                key=lambda task: float(chosen[f"key[{task}]"])
            )  # stable: of equal keys as in the stream
        steps = []
        for i, task in enumerate(order):
            delta = chosen["delta"] if self.deltas == "shared" else chosen.get(f"delta[{task}]", 0.0)
            bind = order[int(chosen.get(f"bind[{i}]", 0))] if self.binds == "searched" and i else None
            steps.append(Step(task, round(float(delta), 10), bind))
        return GrowSequence(tuple(steps))

    def count(self, tasks: Sequence[str]) -> int:
        """How many points a grid of all choices has.

        Raises:
            SettingError: the order is searched: its keys are real numbers.
        """
        sizes = [len(choices) for choices in self.dimensions(tasks).values() if choices is not None]
        if self.order == "searched":
            raise SettingError("grid: expected a fixed order, found a searched one; use another sampler")
        return prod(sizes)

    def point(self, number: int, tasks: Sequence[str]) -> dict[str, float]:
        """A point of the grid by its number; those of one delta go from 0 to 1.

        Raises:
            SettingError: the order is searched.
        """
        rest = number % self.count(tasks)
        found = {}
        for name, choices in reversed(self.dimensions(tasks).items()):
            assert choices is not None
            rest, place = divmod(rest, len(choices))
            found[name] = choices[place]
        return dict(reversed(found.items()))
