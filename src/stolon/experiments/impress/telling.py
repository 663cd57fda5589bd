"""What is told while a figure on impressions is made: a line for each group of results, a share for bars."""

from typing import Any, Final, final

from stolon.experiments.impress.plans import Plan
from stolon.experiments.results import Record

_WORDS: Final = {
    "own": "masks of their own",
    "wrong": "masks of other tasks",
    "new": "new tasks",
    "hybrid": "new tasks, hybrid",
    "found-in-batch": "new tasks found, a batch",
    "found-alone": "new tasks found, a sample",
    "basis-gn": "tasks of the basis, not named",
    "gg": "tasks of the basis, named",
    "gn-in-batch": "tasks of the basis found, a batch",
    "gn-alone": "tasks of the basis found, a sample",
}


@final
class Telling:
    """Puts records into words.

    Args:
        plan: what is run.
    """

    def __init__(self, plan: Plan) -> None:
        self._wanted: dict[tuple[Any, ...], int] = {}
        for unit in plan.units():
            for item in plan.items(unit.kind):
                key = (unit.label, unit.run, item.what, item.size, item.among)
                self._wanted[key] = self._wanted.get(key, 0) + 1
        self._values: dict[tuple[Any, ...], list[float]] = {}

    @staticmethod
    def name(record: Record) -> str:
        """Which unit a record is of."""
        return f"{record.stream} {record.seed}, {record.learner}"

    def line(self, record: Record) -> str | None:
        """A line when all tasks of a group of results are done in this run; None otherwise."""
        if record.kind == "failed":
            return f"{self.name(record)}: failed: {record.data['error']}: {record.data['message']}"
        if record.kind != "task":
            return None
        what, size, _, among = record.where
        key = (record.learner, record.seed, what, size, among)
        values = self._values.setdefault(key, [])
        values.append(record.data["found" if among else "accuracy"])
        if len(values) < self._wanted.get(key, 0):
            return None
        masks = f"{size} masks, " if size else ""
        others = f" among {among}" if among else ""
        mean = sum(values) / len(values)
        return f"{self.name(record)}: {masks}{_WORDS[str(what)]}{others}: {mean:.1%}"
