"""Runs an experiment's trials, in this process or in a pool, and tells what happens.

Workers write records into the results file and nothing else; the events are read back from it, so what is
drawn is what is stored. Closing the generator (Ctrl-C) stops the workers where they are: every trial goes on
from its checkpoint when the same command runs again.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from stolon import learners, streams
from stolon.errors import TrialsFailedError
from stolon.experiments import units
from stolon.experiments.attendance import POLL_S, processes
from stolon.experiments.config import Experiment, LearnerSpec, StreamSpec, check
from stolon.experiments.results import Record
from stolon.experiments.trial import Lab, MakeLearner, MakeStream, Trial, run_trial, trials
from stolon.learner import Learner
from stolon.tasks import Stream


@final
@dataclass(frozen=True)
class Event:
    """Something happened.

    Attributes:
        record: the line that was added to the results.
        done: trials that are done, earlier runs included.
        of: all trials of the experiment.
    """

    record: Record
    done: int
    of: int


def run(
    experiment: Experiment,
    folder: str | Path,
    *,
    command: str = "",
    make_learner: MakeLearner | None = None,
    make_stream: MakeStream | None = None,
) -> Iterator[Event]:
    """Run what is not done yet; yields events as they happen.

    Args:
        experiment: what to run.
        folder: takes ``results.jsonl`` and the trials' checkpoints.
        command: what was typed, for the report.
        make_learner: in place of :func:`stolon.learners.make`; a function that processes can import.
        make_stream: in place of :func:`stolon.streams.make`.

    Raises:
        SettingError: a name, setting or option does not exist; nothing was run.
        RecipeChangedError: the folder holds another experiment, or this one with other settings.
        StoreLockedError: another process runs an experiment in this folder.
        TrialsFailedError: at the end, if trials failed; says which and why.
    """
    if make_learner is None or make_stream is None:
        check(experiment)
    lab = Lab(experiment, Path(folder), make_learner or default_learner, make_stream or default_stream)
    return _run(lab, command)


def default_learner(spec: LearnerSpec) -> Learner:
    """The learner that a spec names."""
    return learners.make(spec.name, net=spec.net, weights=spec.weights, **spec.settings)


def default_stream(spec: StreamSpec, seed: int) -> Stream:
    """The stream that a spec names."""
    return streams.make(spec.name, root=spec.root, seed=seed, **spec.options)


def _run(lab: Lab, command: str) -> Iterator[Event]:
    experiment = lab.experiment
    with units.alone_in(lab.folder):
        units.begin(lab.results, experiment.name, experiment.recipe(), command, threads=experiment.threads)
        yield from _run_trials(lab)


def _run_trials(lab: Lab) -> Iterator[Event]:
    every = trials(lab.experiment)
    before = lab.results.read()
    finished = {record.trial for record in before if record.kind == "done"}
    todo = [trial for trial in every if trial.labels not in finished]
    failed: dict[tuple[str, str, int], Record] = {}
    for record in _inline(todo, lab) if lab.experiment.workers == 0 else _pooled(todo, lab):
        if record.kind == "done":
            finished.add(record.trial)
            failed.pop(record.trial, None)
        elif record.kind == "failed":
            failed[record.trial] = record
        yield Event(record, len(finished), len(every))
    if failed:
        told = "\n".join(
            f"  - {', '.join(map(str, trial))}: {record.data['error']}: {record.data['message']}"
            for trial, record in failed.items()
        )
        raise TrialsFailedError(
            f"{len(failed)} of {len(every)} trial(s) failed; run the same command to try them again\n{told}"
        )


def _inline(todo: list[Trial], lab: Lab) -> Iterator[Record]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(lab.experiment.threads)
    try:
        for trial in todo:
            try:
                yield from run_trial(trial, lab)
            except Exception as error:  # noqa: BLE001 - whatever one trial does, the others go on
                yield _failed(trial, lab, error)
    finally:
        torch.set_num_threads(before)


def _pooled(todo: list[Trial], lab: Lab) -> Iterator[Record]:
    """Trials in worker processes; what they wrote, as it appears in the file."""
    offset = lab.results.path.stat().st_size
    waiting, suspects = deque(todo), deque[Trial]()
    pool = _Pool(lab)
    try:
        while waiting or suspects or pool.running:
            # When a process dies all in flight are suspects; each of them then runs alone, to be found out.
            alone = not waiting
            source, room = (suspects, 1) if alone else (waiting, lab.experiment.workers)
            while source and len(pool.running) < room:
                pool.submit(source.popleft())
            died = pool.settle()
            if len(died) == 1:
                _failed(died[0], lab, RuntimeError("its process was killed; out of memory?"))
            else:
                suspects += died
            for record, after in lab.results.follow(offset):
                offset = after
                yield record
    finally:
        pool.close()


@final
class _Pool:
    """Worker processes, started when first needed and again when one of them died."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._executor: Any = None
        self.running: dict[Future[None], Trial] = {}

    def submit(self, trial: Trial) -> None:
        """Give a trial to a worker."""
        if self._executor is None:
            experiment = self._lab.experiment
            self._executor = processes(experiment.workers, experiment.threads)
        self.running[self._executor.submit(_work, trial, self._lab)] = trial

    def settle(self) -> list[Trial]:
        """Wait a moment for trials to end; returns those in flight when a process died."""
        ended, _ = wait(self.running, timeout=POLL_S, return_when=FIRST_COMPLETED)
        died = False
        for future in ended:
            error = future.exception()
            if isinstance(error, BrokenExecutor):
                died = True
                continue
            trial = self.running.pop(future)
            if error is not None:  # what the worker itself could not tell
                _failed(trial, self._lab, error)
        if not died:
            return []
        lost = list(self.running.values())
        self.close()
        return lost

    def close(self) -> None:
        """Stop the workers where they are."""
        self.running.clear()
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
            self._executor = None


def _work(trial: Trial, lab: Lab) -> None:
    """In a worker: one trial; its records go to the results file."""
    import torch

    torch.set_num_threads(lab.experiment.threads)
    try:
        for _ in run_trial(trial, lab):
            pass
    except Exception as error:  # noqa: BLE001 - told in the results; the others go on
        _failed(trial, lab, error)


def _failed(trial: Trial, lab: Lab, error: BaseException) -> Record:
    about = Record("failed", lab.experiment.name, *trial.labels)
    return units.failed(lab.results, about, error, threads=lab.experiment.threads)
