"""Runs the units of a plan, in this process or in others, and tells what happens.

Results go to one append-only file, each as soon as it is known; work that items share is kept beside it, and other
learners' checkpoints. Closing the generator (Ctrl-C) stops the workers where they are; the same command does what is
not recorded yet, from the last task that was learned (other learners: from the last checkpoint).
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from stolon.errors import TrialsFailedError
from stolon.experiments.growth.plans import LEARNERS, Item, Plan, Unit
from stolon.experiments.growth.work import Work
from stolon.experiments.results import Record, Results
from stolon.experiments.runner import Event
from stolon.experiments.trial import stamped
from stolon.experiments.units import THREADS, added, alone_in, begin, failed, pooled


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
    place = Path(folder)
    with alone_in(place):
        begin(results_of(place), plan.name, plan.recipe(), command)
        yield from _run_units(plan, place)


def recorded(records: Iterable[Record]) -> set[tuple[str, int]]:
    """Labels and seeds of what is done."""
    return {(record.learner, record.seed) for record in records if record.kind == "done"}


def missing(plan: Plan, unit: Unit, there: set[tuple[str, int]]) -> list[Item]:
    """What a unit has still to give."""
    return [item for item in plan.items(unit.kind) if (item.label, unit.seed) not in there]


def _run_units(plan: Plan, folder: Path) -> Iterator[Event]:
    there = recorded(results_of(folder).read())
    units = plan.units()
    of = sum(len(plan.items(unit.kind)) for unit in units)
    todo = [unit for unit in units if missing(plan, unit, there)]
    done = of - sum(len(missing(plan, unit, there)) for unit in todo)
    failures: dict[tuple[str, str, int], Record] = {}
    for record in _in_turn(plan, todo, folder):
        if record.kind == "done":
            done += 1
            failures.pop(record.trial, None)
        elif record.kind == "failed":
            failures[record.trial] = record
        yield Event(record, done, of)
    if failures:
        told = "\n".join(
            f"  - {record.learner}, seed {record.seed}: {record.data['error']}: {record.data['message']}"
            for record in failures.values()
        )
        raise TrialsFailedError(
            f"{len(failures)} of {of} item(s) failed; run the same command to try them again\n{told}"
        )


def _in_turn(plan: Plan, todo: list[Unit], folder: Path) -> Iterator[Record]:
    if plan.wanted.workers > 1:
        results = results_of(folder)
        work = functools.partial(_work, plan, str(folder))
        lost = functools.partial(_lost, plan, results)
        yield from pooled(todo, work, results, plan.wanted.workers, lost, ready=_ready)
        return
    for unit in todo:
        yield from _unit(plan, unit, folder)


def _unit(plan: Plan, unit: Unit, folder: Path) -> Iterator[Record]:
    """Do a unit; appends records and yields them."""
    import torch

    results = results_of(folder)
    todo = missing(plan, unit, recorded(results.read()))
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
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
    yield added(results, stamped(replace(about, kind="trial", data=work.facts()), THREADS))
    yield added(results, stamped(replace(about, kind="done", data=work.give(item)), THREADS))


def _ready(waiting: Sequence[Unit], running: Iterable[Unit]) -> list[Unit]:
    """Units that can begin: after the independent networks of their seed, so that no two processes train the same."""
    open_ = {unit.seed for unit in (*waiting, *running) if unit.kind == "independent"}
    return [unit for unit in waiting if unit.kind == "independent" or unit.seed not in open_]


def _work(plan: Plan, folder: str, unit: Unit) -> None:
    """In a worker: one unit; its records go to the results file."""
    for _ in _unit(plan, unit, Path(folder)):
        pass


def _lost(plan: Plan, results: Results, unit: Unit, error: BaseException) -> None:
    """A unit's process ended: what it had still to give failed."""
    for item in missing(plan, unit, recorded(results.read())):
        _failed(plan, unit, item, results, error)


def _failed(plan: Plan, unit: Unit, item: Item, results: Results, error: BaseException) -> Record:
    return failed(results, Record("failed", plan.name, item.label, plan.stream, unit.seed), error)
