"""Running units of work that record what they give in one file: alone in a folder, in worker processes, told when lost.

What a unit is, and what it gives, is its plan's; here is what all such runners do.
"""

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from stolon import durable
from stolon.errors import RecipeChangedError
from stolon.experiments.attendance import POLL_S, processes
from stolon.experiments.results import Record, Results
from stolon.experiments.trial import stamped
from stolon.records import Json

THREADS: Final = 1
"""Of a worker; numbers depend on it."""
_U = TypeVar("_U")


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder, made if need be, against other processes.

    Raises:
        StoreLockedError: another process runs an experiment there.
    """
    lock = durable.lock(folder, doing="running an experiment there")
    try:
        yield
    finally:
        lock.release()


def begin(
    results: Results, name: str, recipe: Mapping[str, Json], command: str, *, threads: int = THREADS
) -> None:
    """Write down what the experiment is, or see that it is what was written down.

    Args:
        results: where.
        name: of the experiment.
        recipe: all that its numbers depend on.
        command: what was typed.
        threads: of each worker.

    Raises:
        RecipeChangedError: it is another.
    """
    records = results.read() if results.path.exists() else ()
    written = [record for record in records if record.kind == "experiment"]
    if not written:
        data = {"recipe": dict(recipe), "command": command}
        results.append(stamped(Record("experiment", name, data=data), threads))
        return
    old = written[0].data["recipe"]
    for key in sorted({*old, *recipe}):
        if old.get(key) != recipe.get(key):
            raise RecipeChangedError(
                f"{results.path} was begun with {key} = {old.get(key)!r}, found {recipe.get(key)!r}; use what "
                "it was begun with, or another folder"
            )


def added(results: Results, record: Record) -> Record:
    """The record, appended."""
    results.append(record)
    return record


def failed(results: Results, about: Record, error: BaseException, *, threads: int = THREADS) -> Record:
    """Write down that something failed, and why.

    Args:
        results: where.
        about: whose learner, stream and seed the record takes.
        error: what came.
        threads: of each worker.
    """
    data: dict[str, Any] = {
        "error": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error))[-4000:],
    }
    return added(results, stamped(replace(about, kind="failed", data=data, where=()), threads))


def pooled(
    units: Sequence[_U],
    work: Callable[[_U], None],
    results: Results,
    workers: int,
    lost: Callable[[_U, BaseException], object],
    *,
    ready: Callable[[Sequence[_U], Iterable[_U]], Sequence[_U]] | None = None,
) -> Iterator[Record]:
    """Units in worker processes; yields what they wrote, as it appears in the file.

    Args:
        units: what to do, first things first.
        work: does one; sent to the workers, so a function of a module, or a partial of one.
        results: where the workers write.
        workers: how many.
        lost: told of a unit whose process ended with an error, or was killed.
        ready: of those that wait, beside those at work, the ones that can begin; all by default.
    """
    offset = results.path.stat().st_size
    waiting, running = list(units), dict[Future[None], _U]()
    pool: Any = processes(workers, THREADS)
    try:
        while waiting or running:
            while len(running) < workers and waiting:
                can = waiting if ready is None else ready(waiting, running.values())
                if not can:
                    break
                unit = can[0]
                waiting.remove(unit)
                running[pool.submit(work, unit)] = unit
            ended, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
            is_broken = False
            for future in ended:
                unit, error = running.pop(future), future.exception()
                if isinstance(error, BrokenExecutor):
                    is_broken = True
                    error = RuntimeError("a process was killed; out of memory? take fewer --workers")
                if error is not None:
                    lost(unit, error)
            if is_broken:  # all that were in flight are lost with it; what they recorded is not
                for unit in running.values():
                    lost(unit, RuntimeError("stopped with another process that was killed"))
                running.clear()
                waiting.clear()
            for record, after in results.follow(offset):
                offset = after
                yield record
    finally:
        pool.shutdown(wait=True, kill_workers=True)
