"""``stolon search``: over grow sequences; and ``stolon search pick``, which takes a solution."""

import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from stolon.errors import SettingError
from stolon.shell import exit_codes
from stolon.shell.output import print_json
from stolon.shell.terminal import console as make_console

if TYPE_CHECKING:
    from rich.console import Console

    from stolon.experiments.search.plan import SearchPlan
    from stolon.experiments.search.searching import Happened

PICK: Final = "pick"


@dataclass(frozen=True)
class Wanted:
    """What was asked for, beside the words that are no options; None is what the file, or the library, says.

    Attributes:
        stream: its name.
        root: where the data are.
        net: its name.
        tasks: how many of the stream's.
        epochs: of each task.
        batch_size: samples of a step.
        learning_rate: of what is new.
        trials: how many in all.
        sampler: how sequences are chosen.
        population: of NSGA-II.
        startup: random trials that a Gaussian process begins with.
        together: trials of a round.
        deltas: ``"shared"`` or ``"each"``.
        step: between deltas.
        binds: ``"conflict"`` or ``"searched"``.
        order: ``"fixed"`` or ``"searched"``.
        seed: of everything random.
        workers: processes.
        ray: the address of a cluster of Ray's.
        cache_gb: gigabytes that shared work may take.
        out: the search's folder; for pick, where the solution is saved.
        max_parameters: pick: the budget.
        max_bytes: pick: the budget.
        json: pick: for programs.
    """

    stream: str | None = None
    root: str | None = None
    net: str | None = None
    tasks: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    trials: int | None = None
    sampler: str | None = None
    population: int | None = None
    startup: int | None = None
    together: int | None = None
    deltas: str | None = None
    step: float | None = None
    binds: str | None = None
    order: str | None = None
    seed: int | None = None
    workers: int | None = None
    ray: str | None = None
    cache_gb: float | None = None
    out: str | None = None
    max_parameters: int | None = None
    max_bytes: int | None = None
    json: bool = False


PICKS: Final = ("max_parameters", "max_bytes", "json")
"""What only pick has a use for."""
BOTH: Final = ("out", "root")
_OF_ONE_SAMPLER: Final = {"population": "nsga2", "startup": "gp"}


def search(*, what: Sequence[str], **options: Any) -> int:  # noqa: ANN401 - those of Wanted
    """Search, or take a solution.

    Args:
        what: nothing, an experiment's file, or ``pick`` and a search's folder.
        options: the fields of :class:`Wanted`.

    Raises:
        SettingError: an option is out of its range, of no use here, or missing.
    """
    wanted = Wanted(**options)
    is_pick = list(what[:1]) == [PICK]
    for entry in fields(wanted):
        is_of_use = entry.name in BOTH or (entry.name in PICKS) == is_pick
        if getattr(wanted, entry.name) != entry.default and not is_of_use:
            raise SettingError(f"{entry.name}: of no use to search{' pick' if is_pick else ''}; leave it out")
    if is_pick:
        if len(what) != 2:
            raise SettingError("search pick: expected the folder of one search: stolon search pick FOLDER")
        return _pick(what[1], wanted)
    if len(what) > 1:
        raise SettingError(f"search: expected one experiment's file, found {', '.join(what)}")
    return _search(what[0] if what else None, wanted)


def _search(file: str | None, wanted: Wanted) -> int:
    from stolon.experiments.on_ray import RayExecutor
    from stolon.experiments.search import searching
    from stolon.growth.cache import MOST_BYTES

    plan = _plan(file, wanted)
    folder = Path(
        wanted.out or (f"search/{plan.stream.label}" if file is None else Path(file).with_suffix(""))
    )
    command, console = shlex.join(["stolon", *sys.argv[1:]]), make_console()
    events = searching.run(
        plan,
        folder,
        trials=20 if wanted.trials is None else wanted.trials,
        workers=1 if wanted.workers is None else wanted.workers,
        most_bytes=MOST_BYTES if wanted.cache_gb is None else int(wanted.cache_gb * 2**30),
        command=command,
        make_executor=None if wanted.ray is None else partial(RayExecutor, address=wanted.ray),
    )
    try:
        _show(events, console)
    except KeyboardInterrupt:
        console.print(f"\nstopped; the same command goes on:\n  {command}", soft_wrap=True)
        return exit_codes.INTERRUPTED
    console.print(f"report: {folder / 'report.html'}", soft_wrap=True)
    console.print(f"next: stolon search pick {folder} --max-parameters N", soft_wrap=True)
    return exit_codes.OK


def _plan(file: str | None, wanted: Wanted) -> "SearchPlan":
    from stolon.experiments.config import StreamSpec, read
    from stolon.experiments.search.plan import SearchPlan
    from stolon.growth.search import SearchSettings
    from stolon.growth.search_space import SearchSpace

    for name, sampler in _OF_ONE_SAMPLER.items():
        if getattr(wanted, name) is not None and (wanted.sampler or SearchSettings().sampler) != sampler:
            raise SettingError(f"{name}: of no use without --sampler {sampler}; leave it out")
    space = SearchSpace(**_given(wanted, "deltas", "step", "binds", "order"))
    settings = SearchSettings(
        space=space, **_given(wanted, "sampler", "population", "startup", "together", "seed")
    )
    training = _given(wanted, "epochs", "batch_size", "learning_rate")
    if file is None:
        if wanted.stream is None or wanted.net is None:
            raise SettingError("search: expected an experiment's file, or --stream and --net")
        stream = StreamSpec(wanted.stream, wanted.root, tasks=wanted.tasks)
        return SearchPlan(stream, wanted.net, training, settings)
    for name in ("stream", "net", "root", "tasks", *training):
        if getattr(wanted, name) is not None:
            raise SettingError(f"{name}: the experiment's file says it; change it there")
    return SearchPlan.of_experiment(read(file), settings)


def _given(wanted: Wanted, *names: str) -> dict[str, Any]:
    return {name: getattr(wanted, name) for name in names if getattr(wanted, name) is not None}


def _show(events: "Iterable[Happened]", console: "Console") -> None:
    """A bar, and a line for each trial."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        bar = progress.add_task("networks alone", total=None)
        for event in events:
            progress.update(bar, completed=event.done, total=event.of)
            trial = event.trial
            if trial is None:
                progress.update(bar, description=f"alone: {event.task}")
                continue
            progress.update(bar, description="trials")
            name = f"trial {trial.number} ({event.done} of {event.of})"
            if trial.outcome is None:
                console.print(f"{name} failed: {trial.error}", soft_wrap=True)
                continue
            found = trial.outcome
            console.print(
                f"{name}: gain {100 * found.gain:+.2f} points, {found.parameters:,} parameters, "
                f"{found.seconds:.1f} s: {trial.sequence}",
                soft_wrap=True,
            )


def _pick(folder: str, wanted: Wanted) -> int:
    from stolon.experiments.search import picking
    from stolon.experiments.search.search_report import COLUMNS, row

    picked = picking.pick(folder, max_parameters=wanted.max_parameters, max_bytes=wanted.max_bytes)
    console = make_console()
    if wanted.out is not None:
        picking.make(picked, folder, wanted.out, root=wanted.root)
    if wanted.json:
        print_json(picked.to_json())
        return exit_codes.OK
    console.print(f"trial {picked.trial.number}: {picked.trial.sequence}", soft_wrap=True)
    for name, value in zip(COLUMNS[1:-1], row(picked.outcome), strict=True):
        console.print(f"  {name}: {value}", soft_wrap=True)
    for growth in picked.outcome.growths:
        console.print(f"  {growth}", soft_wrap=True)
    if wanted.out is not None:
        net = picked.written.recipe["net"]
        console.print(
            f"saved: {wanted.out}\nnext: learners.make('bind-and-grow', net={net!r}).load({wanted.out!r})",
            soft_wrap=True,
        )
    else:
        again = shlex.join(["stolon", *sys.argv[1:], "--out", "LEARNER"])
        console.print(f"next: {again}", soft_wrap=True)
    return exit_codes.OK
