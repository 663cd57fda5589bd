"""One trial: a learner learns a stream, task by task, and is asked after each; resumed after any kill.

The checkpoint is one atomic record of the learner's state together with everything told about the task under
way, so whatever is killed goes on from a point where both fit, and ends bit for bit as if never stopped. What
is told twice on the way has the same key in the results file, where the first counts.
"""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, final

import torch

from stolon import durable, measure, records
from stolon.errors import DataError, RecipeChangedError, TaskUnknownError
from stolon.evaluation import evaluate, explained
from stolon.experiments import provenance
from stolon.experiments.config import Experiment, LearnerSpec, StreamSpec
from stolon.experiments.progress import Progress
from stolon.experiments.results import Record, Results
from stolon.learner import Epoch, Learner
from stolon.tasks import Stream, Task

MakeLearner = Callable[[LearnerSpec], Learner]
MakeStream = Callable[[StreamSpec, int], Stream]
"""From a stream's spec and the seed."""

_COSTLY = 20  # a checkpoint takes at most 1/20 of the time


@final
@dataclass(frozen=True)
class Trial:
    """One combination of an experiment."""

    learner: LearnerSpec
    stream: StreamSpec
    seed: int

    @property
    def labels(self) -> tuple[str, str, int]:
        """Learner, stream and seed, as the records have them."""
        return (self.learner.label, self.stream.label, self.seed)

    @property
    def folder(self) -> str:
        """A folder's name of its own, safe on every file system."""
        digest = hashlib.sha256(repr(self.labels).encode()).hexdigest()[:8]
        plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in "-".join(map(str, self.labels)))
        return f"{plain[:80]}-{digest}"


def trials(experiment: Experiment) -> tuple[Trial, ...]:
    """Every combination, all of the first seed first: early results compare learners."""
    return tuple(
        Trial(learner, stream, seed)
        for seed in experiment.seeds
        for stream in experiment.streams
        for learner in experiment.learners
    )


@final
@dataclass(frozen=True)
class Lab:
    """Where and how trials are run.

    Attributes:
        experiment: how trials are measured and saved.
        folder: holds the results file and the trials' checkpoints.
        make_learner: makes a learner that knows nothing yet.
        make_stream: makes a stream of a seed.
    """

    experiment: Experiment
    folder: Path
    make_learner: MakeLearner
    make_stream: MakeStream

    @property
    def results(self) -> Results:
        """The one results file."""
        return Results(self.folder / "results.jsonl")


def run_trial(trial: Trial, lab: Lab) -> Iterator[Record]:
    """Run a trial, or go on with it; appends its records and yields each one that is new.

    Args:
        trial: which.
        lab: where and how.

    Raises:
        StolonError: the learner or the stream refuse, or the disk does; run again, it goes on.
    """
    from filelock import FileLock

    folder = lab.folder / "trials" / trial.folder
    durable.make_folder(folder)
    with FileLock(folder / "lock"):  # one that was orphaned by a killed runner may still be finishing
        yield from _Run(trial, lab, folder).run()


@final
class _Run:
    def __init__(self, trial: Trial, lab: Lab, folder: Path) -> None:
        self._trial, self._lab, self._folder = trial, lab, folder
        self._experiment, self._results = lab.experiment, lab.results
        self._progress = Progress()
        self._told: set[tuple[str | int, ...]] = set()
        self._saved_at, self._save_took = time.monotonic(), 0.0

    def run(self) -> Iterator[Record]:
        """The whole trial, or what is left of it."""
        trial = self._trial
        self._told = {record.key for record, _ in self._results.follow() if record.trial == trial.labels}
        if self._record("done").key in self._told:
            return
        stream = self._lab.make_stream(trial.stream, trial.seed)[: trial.stream.tasks]
        self._learner = self._lab.make_learner(trial.learner)
        self._resume()
        _warm_up()
        yield from self._tell("trial", {"tasks": len(stream), **self._description()})
        for index in range(len(self._progress.matrix), len(stream)):
            _require_test(stream[index])
            yield from self._learn(stream[index], index, len(stream))
            yield from self._finish_task(stream[: index + 1], len(stream))
            self._save()
        yield from self._tell("done", {"macs": self._macs(), "seconds": self._progress.total_seconds})

    # One task

    def _learn(self, task: Task, index: int, of: int) -> Iterator[Record]:
        """Learn a task to its end, telling each epoch."""
        progress = self._progress
        epochs = self._learner.learn(task, seed=self._trial.seed)
        while True:
            counting = self._experiment.count_macs and progress.wants_count
            start = time.perf_counter()
            with measure.flop_counter() if counting else nullcontext() as counter:
                epoch = next(epochs, None)
            progress.seconds += time.perf_counter() - start
            progress.count(epoch, None if counter is None else counter.get_total_flops() // 2)
            if epoch is None:
                return
            val, test = self._look(task, epoch)
            yield from self._tell(
                "epoch",
                {
                    **{key: _finite(value) for key, value in dataclasses.asdict(epoch).items()},
                    "index": index,
                    "of": of,
                    "val_accuracy": val,
                    "test_accuracy": test,
                },
                (task.name, epoch.phase, epoch.number),
            )
            if time.monotonic() - self._saved_at >= max(
                self._experiment.checkpoint_every_s, _COSTLY * self._save_took
            ):
                self._save()

    def _look(self, task: Task, epoch: Epoch) -> tuple[float | None, float | None]:
        """Validation accuracy of an epoch, and test accuracy where that is the best so far."""
        progress, every = self._progress, self._experiment.evaluate_every
        val = epoch.val_accuracy
        if not every or epoch.number % every or (epoch.loss is None and val is None):
            return val, None
        with self._evaluating():
            if val is None:
                val = self._ask(task, "val")
            test = None
            if val is not None and val > progress.best:
                progress.best, test = val, self._ask(task, "test")
        progress.epochs.append((val, test))
        return val, test

    def _finish_task(self, tasks: Sequence[Task], of: int) -> Iterator[Record]:
        """Ask about every task so far, and tell what came of this one."""
        progress, task = self._progress, tasks[-1]
        with self._evaluating():
            row = [self._ask(known, "test") or 0.0 for known in tasks]  # there are test data: see run
            val = self._ask(task, "val")
            unnamed = self._ask_unnamed(tasks)
        # What is kept is a candidate too: of methods that keep their best epoch it is that epoch again.
        peak = measure.peak_accuracy([*progress.epochs, (val, row[-1])])
        assert peak is not None
        progress.matrix = progress.matrix.with_row(task.name, row, peak=peak)
        size = self._learner.size()
        yield from self._tell(
            "task",
            {
                "task": task.name,
                "index": len(tasks) - 1,
                "of": of,
                "classes": list(task.classes),
                "row": row,
                "peak": peak,
                "val_accuracy": val,
                **unnamed,
                "size": dataclasses.asdict(size),
                "macs": progress.macs if self._experiment.count_macs else None,
                "answer_macs": self._answer_macs(task),
                "seconds": progress.seconds,
                "evaluation_seconds": progress.evaluation_seconds,
            },
            (task.name,),
        )
        progress.next_task()

    # Asking

    def _ask(self, task: Task, part: Any) -> float | None:  # noqa: ANN401 - one of the splits' names
        batch = self._experiment.evaluate_batch
        if task.is_regression:
            return explained(self._learner, task, part=part, batch_size=batch)
        found = evaluate(self._learner, task, part=part, batch_size=batch)
        return None if found is None else found.accuracy

    def _ask_unnamed(self, tasks: Sequence[Task]) -> dict[str, Any]:
        """Accuracies without names and the confusion among tasks, where the learner infers tasks."""
        if not (self._experiment.infer_tasks and self._progress.unnamed) or any(
            t.is_regression for t in tasks
        ):
            return {}
        batch = self._experiment.evaluate_batch
        try:
            found = {
                task.name: evaluate(self._learner, task, named=False, batch_size=batch) for task in tasks
            }
        except TaskUnknownError:
            self._progress.unnamed = False
            return {}
        answers = {name: answer.tasks for name, answer in found.items() if answer is not None}
        counts = measure.task_confusion(answers, [task.name for task in tasks])
        return {
            "unnamed_row": [None if answer is None else answer.accuracy for answer in found.values()],
            "confusion": counts.tolist(),
            "mapper_accuracy": records.finite(measure.mapper_accuracy(counts)),
        }

    def _evaluating(self) -> "_Clock":
        return _Clock(self._progress)

    # MACs

    def _macs(self) -> int | None:
        return self._progress.total_macs if self._experiment.count_macs else None

    def _answer_macs(self, task: Task) -> int | None:
        """MACs of answering one input of a task that is named."""
        if not self._experiment.count_macs:
            return None
        x, _ = task.train.batch(torch.tensor([0]))
        with measure.flop_counter() as counter:
            self._learner.logits(x, task.name)
        return int(counter.get_total_flops() // 2)

    # Telling and saving

    def _record(
        self, kind: str, data: Mapping[str, Any] | None = None, where: tuple[str | int, ...] = ()
    ) -> Record:
        learner, stream, seed = self._trial.labels
        return Record(kind, self._experiment.name, learner, stream, seed, data or {}, where)

    def _tell(
        self, kind: str, data: Mapping[str, Any], where: tuple[str | int, ...] = ()
    ) -> Iterator[Record]:
        record = stamped(self._record(kind, data, where), self._experiment.threads)
        if record.key not in self._told:
            self._results.append(record)
            self._told.add(record.key)
            yield record

    def _save(self) -> None:
        start = time.monotonic()
        state = self._learner.record()
        document = {
            "trial": list(self._trial.labels),
            "progress": self._progress.to_json(),
            "learner": dict(state.document),
        }
        records.save(records.Record("trial", document, state.groups), self._folder)
        self._saved_at = time.monotonic()
        self._save_took = self._saved_at - start

    def _resume(self) -> None:
        if not records.exists(self._folder):
            return
        found = records.load(self._folder, "trial")
        if found.document["trial"] != list(self._trial.labels):
            raise RecipeChangedError(
                f"{self._folder}: expected the trial {self._trial.labels}, found another's"
            )
        self._learner.restore(records.Record("learner", found.document["learner"], found.groups))
        self._progress = Progress.from_json(found.document["progress"])

    def _description(self) -> dict[str, Any]:
        return {"method": self._learner.name, "settings": dict(self._learner.settings())}


@final
class _Clock:
    """Adds the time inside to the seconds of evaluation."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._progress.evaluation_seconds += time.perf_counter() - self._start


def stamped(record: Record, threads: int) -> Record:
    """The record with the versions, the hardware and the time of now."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    hardware = {**provenance.hardware(), "threads": threads}
    return dataclasses.replace(record, versions=provenance.versions(), hardware=hardware, time=now)


@cache
def _warm_up() -> None:
    """Load what PyTorch loads when it first trains or counts: seconds that are no task's."""
    weight = torch.zeros(1, 1, requires_grad=True)
    with measure.flop_counter():
        (weight @ weight).sum().backward()
    torch.optim.SGD([weight], 0.0).step()


def _require_test(task: Task) -> None:
    if not len(task.test):
        raise DataError(f"task {task.name!r}: expected test data to measure with, found none")


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    return records.finite(value) if isinstance(value, float) else value
