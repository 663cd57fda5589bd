"""Runs a search over grow sequences, in this process or in others, and tells what happens.

First the tasks' independent networks are trained, each once, then trials, a round at a time
(:mod:`stolon.growth.search`). The search's folder holds the journal with all that was tried, a cache of work that
trials share, and a report that is drawn anew as trials end. Closing the generator (Ctrl-C) stops the workers where they
are; the same command goes on, and ends as if it had never stopped.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, final

from stolon import durable
from stolon.errors import SettingError, StoreError, TrialsFailedError
from stolon.experiments.attendance import POLL_S, processes
from stolon.experiments.results import Record
from stolon.experiments.search import search_report
from stolon.experiments.search.plan import SearchPlan
from stolon.experiments.trial import stamped
from stolon.growth.cache import MOST_BYTES, GrowthCache
from stolon.growth.search import Search, Tried
from stolon.growth.sequence_run import check_tasks, run_sequence, train_alone
from stolon.growth.sequences import GrowSequence, Outcome
from stolon.settings import whole
from stolon.streams.options import DEFAULT_ROOT
from stolon.tasks import Task

JOURNAL: Final = "journal.log"
CACHE: Final = "cache"
_COSTLY: Final = 20  # drawing takes at most 1/20 of the time


@final
@dataclass(frozen=True)
class Happened:
    """A step of a search.

    Attributes:
        done: trials that are done, earlier runs and failed ones included.
        of: how many there will be.
        task: whose independent network was trained; empty where a trial ended.
        trial: the trial that ended.
    """

    done: int
    of: int
    task: str = ""
    trial: Tried | None = None


@final
@dataclass(frozen=True)
class Bench:
    """What a job is done with, in any process.

    Attributes:
        plan: the search.
        cache: the folder of shared work.
        most_bytes: that it may take.
    """

    plan: SearchPlan
    cache: Path
    most_bytes: int


def run(
    plan: SearchPlan,
    folder: str | Path,
    *,
    trials: int = 20,
    workers: int = 1,
    most_bytes: int = MOST_BYTES,
    command: str = "",
    make_executor: Callable[[int], Executor] | None = None,
) -> Iterator[Happened]:
    """Search, or go on with a search; yields as things happen.

    Args:
        plan: the search.
        folder: takes the journal, the cache and the report.
        trials: how many in all, >= 1; more than the last time goes on from there.
        workers: processes, >= 0; 0 does everything in this one. What is found does not depend on it.
        most_bytes: that shared work may take; see :class:`stolon.growth.cache.GrowthCache`.
        command: what was typed, for the report.
        make_executor: makes whatever runs the jobs, of the number of workers; by default processes on this machine. Any
            ``concurrent.futures.Executor`` will do whose workers are processes that reach the folder, such as those of
            :class:`stolon.experiments.on_ray.RayExecutor` on many machines; threads would draw from one generator of
            PyTorch's at once.

    Raises:
        SettingError: a number is out of its range, the net takes no such inputs, or the folder holds another report.
        RecipeChangedError: the folder holds another search, or this one with other settings; it is as it was.
        StoreLockedError: another process runs in this folder.
        StoreError: the folder cannot be read or written.
        DataError: the data are not there, not what they should be, or without validation data; or inputs differ.
        TaskError: tasks that share a head have different numbers of classes.
        TrialsFailedError: at the end, if trials failed; or at once, if a worker was killed.
    """
    whole("trials", trials, 1)
    whole("workers", workers, 0)
    place = Path(folder).absolute()  # workers may be in folders of their own
    _check_place(place)
    root = Path(plan.stream.root or DEFAULT_ROOT).absolute()
    plan = replace(plan, stream=replace(plan.stream, root=str(root)))
    bench = Bench(plan, place / CACHE, most_bytes)
    GrowthCache(bench.cache, most_bytes)  # refuses what cannot be
    return _Run(bench, place, trials, workers, command, make_executor or executor).events()


def _check_place(place: Path) -> None:
    """Refuse a folder with a report of something else, which the search's would replace."""
    for name in ("report.html", "report.md"):
        if (place / name).exists() and not (place / JOURNAL).exists():
            raise SettingError(
                f"{place}: expected a search's folder or one without reports, found {name}; choose another folder"
            )


def executor(workers: int) -> Executor:
    """Processes on this machine, or for 0 this one."""
    if workers == 0:
        return Here()
    return processes(workers)


@final
class Here(Executor):
    """Does what it is given at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401 - as the base
        """Do it; the future has ended."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - the future tells it
            future.set_exception(error)
        return future


def do_alone(bench: Bench, index: int) -> None:
    """A job: the independent network of a task."""
    plan = bench.plan
    with _threads(plan.threads):
        train_alone(
            _tasks(plan)[index],
            net=plan.net,
            config=plan.config(),
            seed=plan.seed,
            cache=GrowthCache(bench.cache, bench.most_bytes),
            is_first=index == 0,
        )


def do_trial(bench: Bench, sequence: GrowSequence) -> Outcome:
    """A job: one trial."""
    plan = bench.plan
    with _threads(plan.threads):
        return run_sequence(
            sequence,
            _tasks(plan),
            net=plan.net,
            config=plan.config(),
            seed=plan.seed,
            cache=GrowthCache(bench.cache, bench.most_bytes),
        )


@final
@dataclass(frozen=True)
class _Run:
    """What :func:`run` was given."""

    bench: Bench
    place: Path
    trials: int
    workers: int
    command: str
    make_executor: Callable[[int], Executor]

    def events(self) -> Iterator[Happened]:
        """All of it, under the folder's lock."""
        plan, tasks = self.bench.plan, _tasks(self.bench.plan)
        if len(tasks) < 2:
            raise SettingError(
                f"tasks: expected at least 2, found {len(tasks)}; a single one has nothing to bind to"
            )
        check_tasks(tasks, net=plan.net, config=plan.config())
        about = {"command": self.command, "root": plan.stream.root, "most_bytes": self.bench.most_bytes}
        begun = stamped(Record("experiment", "search", data=about), plan.threads)
        lock = durable.lock(self.place)
        try:
            pool = self.make_executor(self.workers)  # first: where there can be none, nothing is written
            try:
                names = [task.name for task in tasks]
                search = Search(self.place / JOURNAL, plan.search, names, plan.recipe(tasks), asdict(begun))
                yield from self._search(search, tasks, pool)
            finally:
                stop(pool)
        finally:
            lock.release()

    def _search(self, search: Search, tasks: Sequence[Task], pool: Executor) -> Iterator[Happened]:
        of, artist = search.most(self.trials), _Artist(self.place)
        done = sum(not trial.is_open for trial in search.trials)
        if search.open(self.trials):
            for index, future in self._each(pool, do_alone, range(len(tasks))):
                _result(future)  # what is wrong with one of them is wrong with every trial
                yield Happened(done, of, task=tasks[index].name)
        try:
            for count, trial in enumerate(self._do_trials(search, pool), done + 1):
                artist.draw()
                yield Happened(count, of, trial=trial)
        except BaseException:  # stopped, or broken off: what there is, and no longer live
            with suppress(StoreError):  # a full disk, for one: the first error is the one to tell
                artist.finish()
            raise
        artist.finish()
        failed = [trial for trial in search.trials if trial.error]
        if failed:
            told = "\n".join(f"  - trial {trial.number}: {trial.error}" for trial in failed)
            raise TrialsFailedError(f"{len(failed)} of {of} trial(s) failed; the others are done\n{told}")

    def _do_trials(self, search: Search, pool: Executor) -> Iterator[Tried]:
        """Do what is open, round after round, and write it down; gives trials as they end."""
        while opened := search.open(self.trials):
            for place, future in self._each(pool, do_trial, [trial.sequence for trial in opened]):
                number = opened[place].number
                try:
                    search.tell(number, _result(future))
                except (StoreError, TrialsFailedError):
                    raise  # no fault of the trial's: it stays open
                except Exception as error:  # noqa: BLE001 - whatever one trial does, the others go on
                    search.fail(number, f"{type(error).__name__}: {error}")
                yield search.trials[number]

    def _each(
        self, pool: Executor, work: Callable[[Bench, Any], Any], items: Sequence[Any]
    ) -> Iterator[tuple[int, Future[Any]]]:
        """Do all items; gives places and futures as they end."""
        waiting, running = deque(range(len(items))), dict[Future[Any], int]()
        while waiting or running:
            while waiting and len(running) < max(self.workers, 1):
                place = waiting.popleft()
                running[pool.submit(work, self.bench, items[place])] = place
            ended, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
            for future in ended:
                yield running.pop(future), future


def _result(future: Future[Any]) -> Any:  # noqa: ANN401 - whatever the job gives
    try:
        return future.result()
    except BrokenExecutor as error:
        raise TrialsFailedError(
            "a process was killed; out of memory? take fewer --workers; the same command goes on"
        ) from error


def stop(pool: Executor) -> None:
    """Stop the workers where they are, if they are processes of loky's; others when they are done."""
    from joblib.externals.loky import ProcessPoolExecutor

    if isinstance(pool, ProcessPoolExecutor):
        pool.shutdown(wait=True, kill_workers=True)  # type: ignore[no-untyped-call]
    else:
        pool.shutdown(wait=True, cancel_futures=True)


@final
class _Artist:
    """Draws the report from the journal, but not so often that the search would suffer."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._next = folder, 0.0

    def draw(self) -> None:
        """Something has changed: draw now, if it is time."""
        begun = time.monotonic()
        if begun >= self._next:
            search_report.publish(self._folder / JOURNAL, is_live=True)
            self._next = time.monotonic() + _COSTLY * (time.monotonic() - begun)

    def finish(self) -> None:
        """Draw all of it, for the last time: the page is not loaded again by itself."""
        search_report.publish(self._folder / JOURNAL)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _tasks(plan: SearchPlan) -> tuple[Task, ...]:
    """A plan's tasks; a process makes them once."""
    key = json.dumps([asdict(plan.stream), plan.seed], sort_keys=True)
    if key not in _MADE:
        _MADE.clear()
        _MADE[key] = plan.tasks()
    return _MADE[key]


_MADE: Final[dict[str, tuple[Task, ...]]] = {}
"""Of this process, the tasks of the last plan: loading them for every trial would cost."""
