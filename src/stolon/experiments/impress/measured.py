"""What a figure on impressions gave, as columns of a box plot or lines of a table."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, final

from stolon.experiments.by_seed import BySeed
from stolon.experiments.impress.plans import Item, Kind, Plan, What
from stolon.experiments.results import Record

Field = Literal["accuracy", "found", "found_each", "own_share", "own_largest"]

MARK: Final[Mapping[Kind, str]] = {"heterogeneous": "", "homogeneous": "^", "random": "r", "supsup": ""}
"""How a basis is marked behind its size."""


@final
@dataclass(frozen=True)
class Column:
    """One box of a figure, one line of its table.

    Attributes:
        label: as the paper's figure has it.
        words: what it is.
        kind: of the basis.
        items: whose mean over tasks it is.
        field: which of their numbers.
        size: masks of the basis; 0 for none.
    """

    label: str
    words: str
    kind: Kind
    items: tuple[Item, ...]
    field: Field = "accuracy"
    size: int = 0


@final
class Measured:
    """A plan's results.

    Args:
        plan: what was run.
        records: what it gave.
    """

    def __init__(self, plan: Plan, records: Iterable[Record]) -> None:
        self.plan = plan
        self._data: dict[tuple[str, int, tuple[str | int, ...]], Mapping[str, Any]] = {}
        self._facts: Mapping[str, Any] = {}
        for record in records:
            if record.kind == "task":
                self._data[record.learner, record.seed, record.where] = record.data
            elif record.kind == "trial":
                self._facts = record.data

    @property
    def facts(self) -> Mapping[str, Any]:
        """Weights of each layer, bytes of statistics, classes; empty before any unit has begun."""
        return self._facts

    def done(self) -> tuple[int, int]:
        """Results that there are, and all that are wanted."""
        wanted = [
            (unit.label, unit.run, item.where)
            for unit in self.plan.units()
            for item in self.plan.items(unit.kind)
        ]
        return sum(key in self._data for key in wanted), len(wanted)

    def value(self, kind: Kind, density: float, run: int, items: Iterable[Item], field: str) -> float | None:
        """Mean over items, such as all new tasks; None unless all are there."""
        label = f"{kind} {density:g}"
        found = [self._data.get((label, run, item.where)) for item in items]
        if not found or any(data is None for data in found):
            return None
        return sum(float(data[field]) for data in found if data is not None) / len(found)

    def at(self, column: Column, density: float) -> BySeed:
        """A column's values at a density, by run."""
        setting = self.plan.setting
        found = {
            run: self.value(column.kind, density, run, column.items, column.field)
            for run in range(setting.runs)
        }
        return {run: value for run, value in found.items() if value is not None}

    def pooled(self, column: Column) -> BySeed:
        """Mean over all densities, by run; of runs that have all."""
        each = [self.at(column, density) for density in self.plan.setting.densities]
        runs = set(each[0]).intersection(*each)
        return {run: sum(values[run] for values in each) / len(each) for run in sorted(runs)}

    def points(self, column: Column) -> list[float]:
        """A value for each density and run: what a box plot is drawn of (the paper pools them)."""
        return [
            value for density in self.plan.setting.densities for value in self.at(column, density).values()
        ]

    # Columns

    def own(self) -> Column:
        """A mask for each new task: SupSup."""
        return Column("SupSup", "a mask of its own for each new task", "supsup", self._new("own", 0))

    def wrong(self) -> Column | None:
        """Masks of other tasks; None where the figure has none."""
        kind = self.plan.wrong
        if kind is None:
            return None
        return Column("X", "a mask of another task", kind, self._new("wrong", 0))

    def sums(self, kind: Kind, *, hybrid: bool = False) -> list[Column]:
        """New tasks as sums of bases of all sizes."""
        what: What = "hybrid" if hybrid else "new"
        words = f"{kind} basis" + (", a mask of its own in the last layer" if hybrid else "")
        return [
            Column(
                f"{size}{'h' if hybrid else ''}{MARK[kind]}",
                words,
                kind,
                self._new(what, size),
                size=size,
            )
            for size in self.plan.sizes(kind)
        ]

    def basis(
        self, what: What, label: str, words: str, field: Field = "accuracy", *, among: bool = False
    ) -> list[Column]:
        """Tasks of heterogeneous bases of all sizes, learned or inferred."""
        return [
            Column(
                f"{size} {label}".strip(),
                words,
                "heterogeneous",
                tuple(
                    Item(what, 0 if what == "gg" else size, task, size if among else 0)
                    for task in self.plan.basis_tasks(size)
                ),
                field,
                size,
            )
            for size in self.plan.sizes("heterogeneous")
        ]

    def inferred(self, kind: Kind, size: int, among: int, what: What, field: Field = "found") -> Column:
        """New tasks that are inferred among so many."""
        words = "masks of their own" if kind == "supsup" else f"{size} masks, {kind}"
        items = tuple(Item(what, size, task, among) for task in range(among))
        return Column(f"{size or 'SupSup'}{MARK[kind]}", words, kind, items, field, size)

    def inferences(self) -> list[tuple[Kind, int, int]]:
        """Kind, size of the basis and number of tasks of every inference among new tasks."""
        found = [
            (kind, item.size, item.among)
            for kind in self.plan.spec.kinds
            for item in self.plan.items(kind)
            if item.what == "found-in-batch"
        ]
        return list(dict.fromkeys(found))

    def _new(self, what: What, size: int) -> tuple[Item, ...]:
        return tuple(Item(what, size, task) for task in range(self.plan.setting.new))
