"""Runs the units of a plan, in this process or in others, and tells what happens.

Results go to one append-only file, each as soon as it is known; masks and coefficients are kept beside it. Closing the
generator (Ctrl-C) stops the workers where they are; the same command does what is not recorded yet.
"""

import os
import time
import traceback
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from stolon import durable
from stolon.errors import RecipeChangedError, StoreLockedError, TrialsFailedError
from stolon.experiments.attendance import POLL_S, attend
from stolon.experiments.impress.plans import Item, Plan, Unit
from stolon.experiments.impress.work import Work
from stolon.experiments.results import Record, Results
from stolon.experiments.runner import Event
from stolon.experiments.trial import stamped

_THREADS: Final = 1  # of a worker; numbers depend on it
Key = tuple[str, int, tuple[str | int, ...]]
"""Of a result: the unit's label and run, and the item."""


def results_of(folder: Path) -> Results:
    """The results file of an experiment's folder."""
    return Results(folder / "results.jsonl")


def run(plan: Plan, folder: str | Path, *, command: str = "") -> Iterator[Event]:
    """Do what is not recorded yet; yields events as they happen: units begun, masks trained, results, units done.

    Args:
        plan: what to run.
        folder: takes ``results.jsonl``, and masks and coefficients.
        command: what was typed, for the report.

    Raises:
        RecipeChangedError: the folder holds results of other settings.
        StoreLockedError: another process runs an experiment there.
        DataError: the data are not there, or not what they should be.
        TrialsFailedError: at the end, if units failed; says which and why.
    """
    from filelock import FileLock, Timeout

    place = Path(folder)
    durable.make_folder(place)
    lock = FileLock(place / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise StoreLockedError(
            f"{place}: another process runs an experiment there; wait for it, or choose another folder"
        ) from None
    try:
        _begin(plan, results_of(place), command)
        yield from _run_units(plan, place)
    finally:
        lock.release()


def recorded(records: Iterator[Record] | tuple[Record, ...]) -> set[Key]:
    """Which results there are."""
    return {(record.learner, record.seed, record.where) for record in records if record.kind == "task"}


def missing(plan: Plan, unit: Unit, there: set[Key]) -> list[Item]:
    """What a unit has still to give."""
    return [item for item in plan.items(unit.kind) if (unit.label, unit.run, item.where) not in there]


def _begin(plan: Plan, results: Results, command: str) -> None:
    """Write down what the experiment is, or see that it is what was written down."""
    recipe = plan.recipe()
    records = results.read() if results.path.exists() else ()
    written = [record for record in records if record.kind == "experiment"]
    if not written:
        data = {"recipe": recipe, "command": command}
        results.append(stamped(Record("experiment", plan.name, data=data), _THREADS))
        return
    old = written[0].data["recipe"]
    for key in sorted({*old, *recipe}):
        if old.get(key) != recipe.get(key):
            raise RecipeChangedError(
                f"{results.path} was begun with {key} = {old.get(key)!r}, found {recipe.get(key)!r}; use what "
                "it was begun with, or another folder"
            )


def _run_units(plan: Plan, folder: Path) -> Iterator[Event]:
    results = results_of(folder)
    there = recorded(results.read())
    units = plan.units()
    todo = [unit for unit in units if missing(plan, unit, there)]
    done, failed = len(units) - len(todo), dict[tuple[str, str, int], Record]()
    for record in _here(plan, todo, folder) if plan.wanted.workers == 0 else _pooled(plan, todo, folder):
        if record.kind == "done":
            done += 1
        elif record.kind == "failed":
            failed[record.trial] = record
        yield Event(record, done, len(units))
    if failed:
        told = "\n".join(
            f"  - {record.learner}, run {record.seed}: {record.data['error']}: {record.data['message']}"
            for record in failed.values()
        )
        raise TrialsFailedError(
            f"{len(failed)} of {len(units)} unit(s) failed; run the same command to try them again\n{told}"
        )


def _unit(plan: Plan, unit: Unit, folder: Path) -> Iterator[Record]:
    """Do a unit; appends records and yields them."""
    import torch

    results = results_of(folder)
    there = recorded(results.read())
    todo = missing(plan, unit, there)
    about = Record("", plan.name, unit.label, plan.stream, unit.run)
    threads = torch.get_num_threads()
    torch.set_num_threads(_THREADS)
    try:
        work = Work(plan, unit, folder)
        facts = {**work.facts(), "results": len(todo), "density": unit.density}
        yield _added(results, stamped(replace(about, kind="trial", data=facts), _THREADS))
        groups = work.groups()
        for first, jobs in groups:
            begun = time.monotonic()
            work.train(first, jobs)
            made = first + len(jobs)
            data = {
                "masks": made,
                "of": groups[-1][0] + len(groups[-1][1]),
                "seconds": time.monotonic() - begun,
            }
            yield _added(results, replace(about, kind="epoch", data=data, where=("masks", made)))
        for item in todo:
            begun = time.monotonic()
            data = {**work.give(item), "seconds": time.monotonic() - begun}
            yield _added(results, replace(about, kind="task", data=data, where=item.where))
        yield _added(results, stamped(replace(about, kind="done"), _THREADS))
    except Exception as error:  # noqa: BLE001 - told in the results; other units go on
        yield _failed(plan, unit, results, error)
    finally:
        torch.set_num_threads(threads)


def _here(plan: Plan, todo: list[Unit], folder: Path) -> Iterator[Record]:
    for unit in todo:
        yield from _unit(plan, unit, folder)


def _pooled(plan: Plan, todo: list[Unit], folder: Path) -> Iterator[Record]:
    """Units in worker processes; what they wrote, as it appears in the file."""
    from joblib.externals.loky import ProcessPoolExecutor

    results = results_of(folder)
    offset = results.path.stat().st_size
    waiting, running = deque(todo), dict[Future[None], Unit]()
    threads = str(_THREADS)
    env = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}  # before the workers import torch
    pool: Any = ProcessPoolExecutor(
        max_workers=plan.wanted.workers, initializer=attend, initargs=(os.getpid(),), env=env
    )  # type: ignore[no-untyped-call]
    try:
        while waiting or running:
            while waiting and len(running) < plan.wanted.workers:
                unit = waiting.popleft()
                running[pool.submit(_work, plan, unit, str(folder))] = unit
            ended, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
            broken = False
            for future in ended:
                unit, error = running.pop(future), future.exception()
                if error is None:
                    continue
                if isinstance(error, BrokenExecutor):
                    broken = True
                    error = RuntimeError("a process was killed; out of memory? take fewer --workers")
                _failed(plan, unit, results, error)
            if broken:  # all that were in flight are lost with it; what they recorded is not
                for unit in running.values():
                    _failed(plan, unit, results, RuntimeError("stopped with another process that was killed"))
                running.clear()
                waiting.clear()
            for record, after in results.follow(offset):
                offset = after
                yield record
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def _work(plan: Plan, unit: Unit, folder: str) -> None:
    """In a worker: one unit; its records go to the results file."""
    for _ in _unit(plan, unit, Path(folder)):
        pass


def _added(results: Results, record: Record) -> Record:
    results.append(record)
    return record


def _failed(plan: Plan, unit: Unit, results: Results, error: BaseException) -> Record:
    data: dict[str, Any] = {
        "error": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error))[-4000:],
    }
    record = Record("failed", plan.name, unit.label, plan.stream, unit.run, data)
    return _added(results, stamped(record, _THREADS))
