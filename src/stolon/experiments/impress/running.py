"""Runs the units of a plan, in this process or in others, and tells what happens.

Results go to one append-only file, each as soon as it is known; masks and coefficients are kept beside it. Closing the
generator (Ctrl-C) stops the workers where they are; the same command does what is not recorded yet.
"""

import functools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from stolon.errors import TrialsFailedError
from stolon.experiments.impress.plans import Item, Plan, Unit
from stolon.experiments.impress.work import Work
from stolon.experiments.results import Record, Results
from stolon.experiments.runner import Event
from stolon.experiments.trial import stamped
from stolon.experiments.units import THREADS, added, alone_in, begin, failed, pooled

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
    place = Path(folder)
    with alone_in(place):
        begin(results_of(place), plan.name, plan.recipe(), command)
        yield from _run_units(plan, place)


def recorded(records: Iterator[Record] | tuple[Record, ...]) -> set[Key]:
    """Which results there are."""
    return {(record.learner, record.seed, record.where) for record in records if record.kind == "task"}


def missing(plan: Plan, unit: Unit, there: set[Key]) -> list[Item]:
    """What a unit has still to give."""
    return [item for item in plan.items(unit.kind) if (unit.label, unit.run, item.where) not in there]


def _run_units(plan: Plan, folder: Path) -> Iterator[Event]:
    results = results_of(folder)
    there = recorded(results.read())
    units = plan.units()
    todo = [unit for unit in units if missing(plan, unit, there)]
    done, failures = len(units) - len(todo), dict[tuple[str, str, int], Record]()
    for record in _in_turn(plan, todo, folder):
        if record.kind == "done":
            done += 1
        elif record.kind == "failed":
            failures[record.trial] = record
        yield Event(record, done, len(units))
    if failures:
        told = "\n".join(
            f"  - {record.learner}, run {record.seed}: {record.data['error']}: {record.data['message']}"
            for record in failures.values()
        )
        raise TrialsFailedError(
            f"{len(failures)} of {len(units)} unit(s) failed; run the same command to try them again\n{told}"
        )


def _unit(plan: Plan, unit: Unit, folder: Path) -> Iterator[Record]:
    """Do a unit; appends records and yields them."""
    import torch

    results = results_of(folder)
    there = recorded(results.read())
    todo = missing(plan, unit, there)
    about = Record("", plan.name, unit.label, plan.stream, unit.run)
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        work = Work(plan, unit, folder)
        facts = {**work.facts(), "results": len(todo), "density": unit.density}
        yield added(results, stamped(replace(about, kind="trial", data=facts), THREADS))
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
            yield added(results, replace(about, kind="epoch", data=data, where=("masks", made)))
        for item in todo:
            begun = time.monotonic()
            data = {**work.give(item), "seconds": time.monotonic() - begun}
            yield added(results, replace(about, kind="task", data=data, where=item.where))
        yield added(results, stamped(replace(about, kind="done"), THREADS))
    except Exception as error:  # noqa: BLE001 - told in the results; other units go on
        yield _lost(plan, results, unit, error)
    finally:
        torch.set_num_threads(threads)


def _in_turn(plan: Plan, todo: list[Unit], folder: Path) -> Iterator[Record]:
    if plan.wanted.workers > 0:
        results = results_of(folder)
        work = functools.partial(_work, plan, str(folder))
        lost = functools.partial(_lost, plan, results)
        yield from pooled(todo, work, results, plan.wanted.workers, lost)
        return
    for unit in todo:
        yield from _unit(plan, unit, folder)


def _work(plan: Plan, folder: str, unit: Unit) -> None:
    """In a worker: one unit; its records go to the results file."""
    for _ in _unit(plan, unit, Path(folder)):
        pass


def _lost(plan: Plan, results: Results, unit: Unit, error: BaseException) -> Record:
    return failed(results, Record("failed", plan.name, unit.label, plan.stream, unit.run), error)
