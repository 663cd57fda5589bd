"""What an experiment on growth gave: a solution for each method and seed, and what is told of it."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from stolon.experiments.by_seed import BySeed
from stolon.experiments.growth.plans import LEARNERS, Item, Plan
from stolon.experiments.results import Record
from stolon.growth.explanation import Growth
from stolon.measure import AccuracyMatrix


@final
@dataclass(frozen=True)
class Solution:
    """One method's run over the tasks with one seed. Accuracies are shares of 0 to 1.

    Attributes:
        matrix: test accuracies after each task.
        alone: test accuracy of each task's independent network.
        inputs: test inputs of each task.
        parameters: numbers that answers need, heads included.
        apart: those of the independent networks together.
        seconds: that learning took by itself; None where some of its work had been done before.
        val_gain: validation accuracy less that of the independent networks, mean over tasks; None where it was not
            measured.
    """

    matrix: AccuracyMatrix
    alone: tuple[float, ...]
    inputs: tuple[int, ...]
    parameters: int
    apart: int
    seconds: float | None
    val_gain: float | None

    @property
    def accuracy(self) -> float:
        """Mean over tasks after the last."""
        return self.matrix.final()

    @property
    def gain(self) -> float:
        """Accuracy less that of independent networks, mean over tasks: higher is better."""
        return self.matrix.gain(self.alone).difference

    @property
    def relative_gain(self) -> float:
        """The same as a share of the accuracy of each independent network."""
        return self.matrix.gain(self.alone).relative

    @property
    def error_change(self) -> float:
        """The paper's Δ, the sum over tasks of (E - E_alone) / E_alone, of test data: LOWER is better.

        The paper's errors are of validation data, as those of a search are here.

        Where E_alone is 0, half an input's error stands in its place, as in
        :attr:`stolon.growth.sequences.Outcome.error_change`.
        """
        return math.fsum(
            (alone - now) / max(1 - alone, 0.5 / inputs)
            for now, alone, inputs in zip(self.matrix.rows[-1], self.alone, self.inputs, strict=True)
        )

    @property
    def forgetting(self) -> float:
        """The forgetting ratio: 1 is nothing forgotten."""
        return self.matrix.forgetting_ratio()

    @property
    def share(self) -> float:
        """Parameters, as a share of those of independent networks."""
        return self.parameters / self.apart


@final
class Measured:
    """Solutions of a plan, as far as they are there.

    Args:
        plan: what was wanted.
        records: of the results file.
    """

    def __init__(self, plan: Plan, records: Iterable[Record]) -> None:
        self.plan = plan
        self.facts: Mapping[str, Any] = {}
        self._done: dict[tuple[str, int], Mapping[str, Any]] = {}
        self._tasks: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
        for record in records:
            key = (record.learner, record.seed)
            if record.kind == "done":
                self._done[key] = record.data
            elif record.kind == "task":
                self._tasks.setdefault(key, []).append(record.data)
            elif record.kind == "trial" and "inputs" in record.data:
                self.facts = record.data

    def done(self) -> tuple[int, int]:
        """Items that are done, and all that are wanted."""
        wanted = [
            (item.label, unit.seed) for unit in self.plan.units() for item in self.plan.items(unit.kind)
        ]
        return sum(key in self._done for key in wanted), len(wanted)

    def solution(self, item: Item, seed: int) -> Solution | None:
        """What an item gave; None unless it and the independent networks are done."""
        found, alone = self._done.get((item.label, seed)), self._done.get(("independent", seed))
        if found is None or alone is None:
            return None
        names: Sequence[str] = self.facts["tasks"]
        val_gain = None
        if item.kind == "independent":
            rows = [alone["test"][: count + 1] for count in range(len(names))]
            parameters, seconds = alone["parameters"], _sum(alone["seconds"])
            val_gain = 0.0
        elif item.kind in LEARNERS:
            tasks = sorted(self._tasks[item.label, seed], key=lambda task: int(task["index"]))
            rows = [task["row"] for task in tasks]
            parameters, seconds = tasks[-1]["size"]["parameters"], found["seconds"]
        else:
            rows, parameters = found["rows"], found["parameters"]
            seconds = _seconds(found, alone, len(names))
            val_gain = _mean([a - b for a, b in zip(found["val"], alone["val"], strict=True)])
        peaks = [row[-1] for row in rows]
        return Solution(
            AccuracyMatrix(tuple(names), tuple(map(tuple, rows)), tuple(peaks)),
            tuple(alone["test"]),
            tuple(self.facts["inputs"]),
            int(parameters),
            int(alone["parameters"]),
            seconds,
            val_gain,
        )

    def solutions(self, items: Iterable[Item], seed: int) -> dict[Item, Solution]:
        """Those of several items that are there, in order."""
        found = {item: self.solution(item, seed) for item in items}
        return {item: solution for item, solution in found.items() if solution is not None}

    def at(self, item: Item, of: Callable[[Solution], float | None]) -> BySeed:
        """A number of an item, by seed, where it is there."""
        found: dict[int, float] = {}
        for seed in range(self.plan.setting.seeds):
            solution = self.solution(item, seed)
            value = None if solution is None else of(solution)
            if value is not None and math.isfinite(value):
                found[seed] = value
        return found

    def told(self, item: Item, name: str) -> BySeed:
        """A number that a grow sequence's record has, by seed."""
        found = {seed: self._done.get((item.label, seed)) for seed in range(self.plan.setting.seeds)}
        return {seed: float(data[name]) for seed, data in found.items() if data is not None}

    def growths(self, item: Item, seed: int) -> list[Growth]:
        """What was decided for each task, in order; nothing for what does not bind."""
        return [Growth.of_json(said) for said in self._done.get((item.label, seed), {}).get("growths", [])]

    def worked(self) -> float:
        """Seconds that all items took."""
        found = 0.0
        for data in self._done.values():
            seconds = data["seconds"]
            each = seconds if isinstance(seconds, list) else [seconds]
            found += math.fsum(value for value in each if value is not None)
        return found


def _seconds(found: Mapping[str, Any], alone: Mapping[str, Any], tasks: int) -> float | None:
    """What the item took, with the independent networks that it is decided by."""
    if found.get("learned", tasks) < tasks:
        return None
    extra = _sum(alone["seconds"][: found["alone"]])
    return None if extra is None else float(found["seconds"]) + extra


def _sum(seconds: Sequence[float | None]) -> float | None:
    known = [value for value in seconds if value is not None]
    return math.fsum(known) if len(known) == len(seconds) else None


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
