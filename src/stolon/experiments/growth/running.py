"""Runs the units of a plan, in this process or in others, and tells what happens.

Results go to one append-only file, each as soon as it is known; work that items share is kept beside it, and other
learners' checkpoints. Closing the generator (Ctrl-C) stops the workers where they are; the same command does what is
not recorded yet, from the last task that was learned (other learners: from the last checkpoint).
"""

import os
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from stolon import durable
from stolon.errors import RecipeChangedError, StoreLockedError, TrialsFailedError
from stolon.experiments.attendance import POLL_S, attend
from stolon.experiments.growth.plans import LEARNERS, Item, Plan, Unit
from stolon.experiments.growth.work import Work
from stolon.experiments.results import Record, Results
from stolon.experiments.runner import Event
from stolon.experiments.trial import stamped

_THREADS: Final = 1  # of a worker; numbers depend on it


def results_of(folder: Path) -> Results:
    """The results file of an experiment's folder."""
    return Results(folder / "results.jsonl")


def run(plan: Plan, folder: str | Path, *, command: str = "") -> Iterator[Event]:
    """Do what is not recorded yet; yields events as they happen: items begun, tasks learned, items done.

    Args:
        plan: what to run.
        folder: takes ``results.jsonl``, the cache and checkpoints.
        command: what was typed, for the report.

    Raises:
        RecipeChangedError: the folder holds results of other settings.
        StoreLockedError: another process runs an experiment there.
        TrialsFailedError: at the end, if items failed; says which and why.
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


def recorded(records: Iterable[Record]) -> set[tuple[str, int]]:
    """Labels and seeds of what is done."""
    return {(record.learner, record.seed) for record in records if record.kind == "done"}


def missing(plan: Plan, unit: Unit, there: set[tuple[str, int]]) -> list[Item]:
    """What a unit has still to give."""
    return [item for item in plan.items(unit.kind) if (item.label, unit.seed) not in there]


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
    there = recorded(results_of(folder).read())
    units = plan.units()
    of = sum(len(plan.items(unit.kind)) for unit in units)
    todo = [unit for unit in units if missing(plan, unit, there)]
    done = of - sum(len(missing(plan, unit, there)) for unit in todo)
    failed: dict[tuple[str, str, int], Record] = {}
    for record in _in_turn(plan, todo, folder):
        if record.kind == "done":
            done += 1
            failed.pop(record.trial, None)
        elif record.kind == "failed":
            failed[record.trial] = record
        yield Event(record, done, of)
    if failed:
        told = "\n".join(
            f"  - {record.learner}, seed {record.seed}: {record.data['error']}: {record.data['message']}"
            for record in failed.values()
        )
        raise TrialsFailedError(
            f"{len(failed)} of {of} item(s) failed; run the same command to try them again\n{told}"
        )


def _in_turn(plan: Plan, todo: list[Unit], folder: Path) -> Iterator[Record]:
    if plan.wanted.workers > 1:
        yield from _pooled(plan, todo, folder)
        return
    for unit in todo:
        yield from _unit(plan, unit, folder)


def _unit(plan: Plan, unit: Unit, folder: Path) -> Iterator[Record]:
    """Do a unit; appends records and yields them."""
    import torch

    results = results_of(folder)
    todo = missing(plan, unit, recorded(results.read()))
    threads = torch.get_num_threads()
    torch.set_num_threads(_THREADS)
    item = todo[0]
    try:
        work = Work(plan, unit, folder)
        for item in todo:
            try:
                yield from _item(plan, unit, item, work, results)
            except Exception as error:  # noqa: BLE001 - told in the results; other items go on
                yield _failed(plan, unit, item, results, error)
    except Exception as error:  # noqa: BLE001 - as above
        yield _failed(plan, unit, item, results, error)
    finally:
        torch.set_num_threads(threads)


def _item(plan: Plan, unit: Unit, item: Item, work: Work, results: Results) -> Iterator[Record]:
    if item.kind in LEARNERS:
        yield from work.trial(item)  # appends them itself
        return
    about = Record("", plan.name, item.label, plan.stream, unit.seed)
    yield _added(results, stamped(replace(about, kind="trial", data=work.facts()), _THREADS))
    yield _added(results, stamped(replace(about, kind="done", data=work.give(item)), _THREADS))


def _pooled(plan: Plan, todo: list[Unit], folder: Path) -> Iterator[Record]:
    """Units in worker processes; what they wrote, as it appears in the file."""
    from joblib.externals.loky import ProcessPoolExecutor

    results = results_of(folder)
    offset = results.path.stat().st_size
    waiting, running = list(todo), dict[Future[None], Unit]()
    threads = str(_THREADS)
    env = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}  # before the workers import torch
    pool: Any = ProcessPoolExecutor(
        max_workers=plan.wanted.workers, initializer=attend, initargs=(os.getpid(),), env=env
    )  # type: ignore[no-untyped-call]
    try:
        while waiting or running:
            while len(running) < plan.wanted.workers and (ready := _ready(waiting, running.values())):
                unit = ready[0]
                waiting.remove(unit)
                running[pool.submit(_work, plan, unit, str(folder))] = unit
            ended, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
            broken: list[tuple[Unit, BaseException]] = []
            for future in ended:
                unit, error = running.pop(future), future.exception()
                if isinstance(error, BrokenExecutor):
                    error = RuntimeError("a process was killed; out of memory? take fewer --workers")
                    broken.append((unit, error))
                elif error is not None:
                    _lost(plan, unit, results, error)
            if broken:  # all that were in flight are lost with it; what they recorded is not
                stopped = RuntimeError("stopped with another process that was killed")
                for unit, error in [*broken, *((unit, stopped) for unit in running.values())]:
                    _lost(plan, unit, results, error)
                running.clear()
                waiting.clear()
            for record, after in results.follow(offset):
                offset = after
                yield record
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def _ready(waiting: Iterable[Unit], running: Iterable[Unit]) -> list[Unit]:
    """Units that can begin: after the independent networks of their seed, so that no two processes train the same."""
    open_ = {unit.seed for unit in (*waiting, *running) if unit.kind == "independent"}
    return [unit for unit in waiting if unit.kind == "independent" or unit.seed not in open_]


def _work(plan: Plan, unit: Unit, folder: str) -> None:
    """In a worker: one unit; its records go to the results file."""
    for _ in _unit(plan, unit, Path(folder)):
        pass


def _lost(plan: Plan, unit: Unit, results: Results, error: BaseException) -> None:
    """A unit's process ended: what it had still to give failed."""
    for item in missing(plan, unit, recorded(results.read())):
        _failed(plan, unit, item, results, error)


def _added(results: Results, record: Record) -> Record:
    results.append(record)
    return record


def _failed(plan: Plan, unit: Unit, item: Item, results: Results, error: BaseException) -> Record:
    data: dict[str, Any] = {
        "error": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error))[-4000:],
    }
    record = Record("failed", plan.name, item.label, plan.stream, unit.seed, data)
    return _added(results, stamped(record, _THREADS))
