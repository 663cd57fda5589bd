"""What the records of a results file say, gathered per learner and stream; no drawing here."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from stolon import measure
from stolon.experiments.results import Record
from stolon.measure import AccuracyMatrix, Interval


@final
@dataclass(frozen=True)
class Note:
    """What a method said after an epoch.

    Attributes:
        task: the task that was being learned.
        phase: the epoch's.
        val_accuracy: as it was looked at after the epoch, 0 to 1.
        said: its own words, such as the posterior over configurations.
    """

    task: str
    phase: str
    val_accuracy: float | None
    said: Mapping[str, Any]


@final
@dataclass(frozen=True)
class Outcome:
    """What one trial came to.

    Attributes:
        seed: the trial's.
        matrix: accuracies with the tasks' names.
        tasks: the data of its ``"task"`` records, in order.
        is_done: whether all tasks were learned.
        failure: what went wrong, if it did.
        notes: of all epochs in which the method had something to say, in order.
    """

    seed: int
    matrix: AccuracyMatrix
    tasks: tuple[Mapping[str, Any], ...]
    is_done: bool
    failure: str | None
    notes: tuple[Note, ...] = ()

    @property
    def last(self) -> Mapping[str, Any]:
        """The data of its last task; empty before the first."""
        return self.tasks[-1] if self.tasks else {}


@final
@dataclass(frozen=True)
class Group:
    """The trials of one learner on one stream.

    Attributes:
        learner: its label.
        stream: its label.
        outcomes: by seed.
    """

    learner: str
    stream: str
    outcomes: tuple[Outcome, ...]

    @property
    def finished(self) -> tuple[Outcome, ...]:
        """Those that are done: only they enter means."""
        return tuple(outcome for outcome in self.outcomes if outcome.is_done)

    @property
    def drawn(self) -> tuple[Outcome, ...]:
        """Those that are drawn: done ones, or else the one that got furthest."""
        begun = sorted((o for o in self.outcomes if o.tasks), key=lambda o: -len(o.tasks))
        return self.finished or tuple(begun[:1])

    def mean_matrix(self) -> npt.NDArray[np.float64]:
        """Mean over seeds of the accuracy matrix, NaN where a task was not yet learned."""
        return _mean_of([outcome.matrix.array() for outcome in self.drawn])

    def mean_confusion(self) -> npt.NDArray[np.float64] | None:
        """Mean over seeds of the shares [T, T + 1] of each task's inputs taken for each task, or unknown."""
        counts = [np.array(o.last["confusion"], float) for o in self.drawn if o.last.get("confusion")]
        if not counts:
            return None
        return _mean_of([count / np.maximum(count.sum(1, keepdims=True), 1) for count in counts])

    def task_names(self) -> tuple[str, ...]:
        """The tasks, in order; where seeds differ in them, those of the first."""
        return self.drawn[0].matrix.tasks if self.drawn else ()


@final
@dataclass(frozen=True)
class Column:
    """One measure of the summary table.

    Attributes:
        title: its heading.
        unit: ``"%"``, ``"ratio"``, ``"MAC"``, ``"B"`` or ``"s"``.
        explanation: one sentence.
        of: a trial's value; None where it has none.
    """

    title: str
    unit: str
    explanation: str
    of: Callable[[Outcome], float | None]

    def interval(self, group: Group) -> tuple[Interval, int] | None:
        """Mean and half-width over the finished trials that have a value, and how many those are."""
        found = [self.of(outcome) for outcome in group.finished]
        values = [value for value in found if value is not None and math.isfinite(value)]
        return (measure.interval(values), len(values)) if values else None


def groups(records: Iterable[Record]) -> tuple[Group, ...]:
    """Learner by learner on stream by stream, in the order in which they were begun."""
    by: dict[tuple[str, str], dict[int, list[Record]]] = {}
    for record in records:
        if record.kind != "experiment":
            learner, stream, seed = record.trial
            by.setdefault((stream, learner), {}).setdefault(seed, []).append(record)
    streams = list(dict.fromkeys(stream for stream, _ in by))
    return tuple(
        Group(learner, stream, tuple(_outcome(seed, found) for seed, found in sorted(seeds.items())))
        for (stream, learner), seeds in sorted(by.items(), key=lambda item: streams.index(item[0][0]))
    )


def _outcome(seed: int, records: Sequence[Record]) -> Outcome:
    tasks = sorted((r.data for r in records if r.kind == "task"), key=lambda data: int(data["index"]))
    matrix = AccuracyMatrix()
    for data in tasks:
        matrix = matrix.with_row(data["task"], data["row"], peak=data["peak"])
    is_done = any(record.kind == "done" for record in records)
    failures = [f"{r.data['error']}: {r.data['message']}" for r in records if r.kind == "failed"]
    failure = failures[-1] if failures and not is_done else None
    notes = tuple(
        Note(r.data["task"], r.data["phase"], r.data["val_accuracy"], r.data["notes"])
        for r in records
        if r.kind == "epoch" and r.data.get("notes")
    )
    return Outcome(seed, matrix, tuple(tasks), is_done, failure, notes)


def _unnamed(outcome: Outcome) -> float | None:
    row = [value for value in outcome.last.get("unnamed_row") or () if value is not None]
    return math.fsum(row) / len(row) if row else None


def _size(outcome: Outcome) -> measure.Stored | None:
    size = outcome.last.get("size")
    if size is None:
        return None
    return measure.stored(size["bytes"], size["bytes_per_task"])


def _own(outcome: Outcome) -> float | None:
    size = _size(outcome)
    return math.fsum(size.per_task.values()) / len(size.per_task) if size and size.per_task else None


def _shared(outcome: Outcome) -> float | None:
    size = _size(outcome)
    return None if size is None else float(size.shared)


def _sum(key: str) -> Callable[[Outcome], float | None]:
    def of(outcome: Outcome) -> float | None:
        values = [data.get(key) for data in outcome.tasks]
        found = [float(value) for value in values if value is not None]
        return math.fsum(found) if found and len(found) == len(values) else None

    return of


COLUMNS: Final = (
    Column(
        "peak",
        "%",
        "Test accuracy of each task at the epoch of its own training with the best validation accuracy; mean.",
        lambda o: o.matrix.peak(),
    ),
    Column(
        "final",
        "%",
        "Test accuracy on all tasks after the last one; mean over tasks.",
        lambda o: o.matrix.final(),
    ),
    Column(
        "kept (end)",
        "ratio",
        "Forgetting ratio: final accuracy over that at the end of the task's own training; 1 is none forgotten.",
        lambda o: o.matrix.forgetting_ratio("end"),
    ),
    Column(
        "kept (peak)",
        "ratio",
        "The same over the task's peak.",
        lambda o: o.matrix.forgetting_ratio("peak"),
    ),
    Column(
        "no names",
        "%",
        "Final accuracy when the task is not named: task and class must both be right.",
        _unnamed,
    ),
    Column(
        "mapper",
        "%",
        "Share of inputs whose task is named rightly, after the last task; mean over tasks.",
        lambda o: o.last.get("mapper_accuracy"),
    ),
    Column(
        "MACs learning",
        "MAC",
        "Multiply-accumulates of learning all tasks, forward and backward.",
        _sum("macs"),
    ),
    Column(
        "MACs answering",
        "MAC",
        "Multiply-accumulates of answering one input.",
        lambda o: o.last.get("answer_macs"),
    ),
    Column("own bytes", "B", "Bytes stored for each task alone; mean over tasks.", _own),
    Column("shared bytes", "B", "Bytes stored that all tasks use.", _shared),
    Column("time", "s", "Seconds of learning, without evaluation.", _sum("seconds")),
)


def _mean_of(arrays: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Entry-wise mean of arrays of one shape; those of another shape than the first are left out."""
    same = np.stack([array for array in arrays if array.shape == arrays[0].shape])
    mean: npt.NDArray[np.float64] = same.mean(axis=0)
    return mean
