"""``stolon reproduce TABLE``: the papers' tables and figures, with what is measured here beside them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeVar

import rich.table
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from stolon.errors import SettingError, TrialsFailedError, UnknownNameError
from stolon.experiments import run as run_experiment
from stolon.shell import exit_codes, reproduce_skill
from stolon.shell.experiment_commands import show
from stolon.shell.reproduce_options import Wanted, command_line
from stolon.shell.terminal import console as make_console

if TYPE_CHECKING:
    from stolon.experiments import Event
    from stolon.experiments.growth import plans as growth_plans
    from stolon.experiments.impress import plans as impress_plans
    from stolon.experiments.lasem import plans as lasem_plans
    from stolon.experiments.report_parts import Section

_P = TypeVar("_P")  # a plan of some paper's table


def reproduce(*, table: str, out: str | None = None, **options: Any) -> int:  # noqa: ANN401 - those of Wanted
    """Make a table anew; ends by naming its report.

    Args:
        table: its name.
        out: where results and report go.
        options: the other fields of :class:`~stolon.shell.reproduce_options.Wanted`.

    Raises:
        UnknownNameError: no such table.
        SettingError: an option is out of its range, or of no use to this table; or the folder is a search's.
    """
    if table not in TABLES:
        raise UnknownNameError("table", table, tuple(TABLES))
    wanted = Wanted(table=table, out=Path(out or f"reproduce/{table}"), **options)
    make, uses = TABLES[table]
    for entry in fields(wanted):
        given = getattr(wanted, entry.name) != entry.default
        if given and entry.name not in (*uses, "table", "out", "scale"):
            raise SettingError(f"{entry.name}: of no use to {table}; leave it out")
    if wanted.biases not in reproduce_skill.BIASES:
        raise SettingError(
            f"biases: expected one of {', '.join(reproduce_skill.BIASES)}, found {wanted.biases!r}"
        )
    from stolon.experiments.search.searching import JOURNAL

    if (wanted.out / JOURNAL).exists():
        raise SettingError(
            f"out: expected a folder of its own, found a search in {wanted.out}; choose another --out"
        )
    return make(wanted, make_console())


def _lasem(wanted: Wanted, console: Console) -> int:
    from stolon.experiments.lasem import methods, plans, report
    from stolon.experiments.results import Results

    command = command_line()
    asked = methods.Wanted(
        table=wanted.table,  # type: ignore[arg-type]  # it is one
        scale=wanted.scale,
        streams=tuple(wanted.stream or ()),
        root=wanted.root,
        seeds=wanted.seeds,
        transfers=None if wanted.transfer is None else tuple(wanted.transfer),
        variants=tuple(wanted.lasem or ("default",)),
        tasks=wanted.tasks,
        epochs=wanted.epochs,
        learning_rate=wanted.learning_rate,
        fixed=wanted.fixed or "top-2",
        workers=wanted.processes,
    )
    opened = [(plan, report.Data.of(plans.open_stream(plan))) for plan in plans.plans(asked)]

    def run(plan: "lasem_plans.Plan") -> None:
        count = len(plan.methods) * len(plan.experiment.seeds)
        console.print(f"{plan.stream}: {len(plan.methods)} methods, {count} trials", soft_wrap=True)
        show(run_experiment(plan.experiment, wanted.out / plan.stream, command=command), console)

    def runs() -> list[report.Run]:
        return [
            report.Run(plan, data, Results(wanted.out / plan.stream / "results.jsonl").read())
            for plan, data in opened
        ]

    return _run_and_tell([plan for plan, _ in opened], run, wanted, console, report=report, runs=runs)


def _impress(wanted: Wanted, console: Console) -> int:
    from stolon.experiments.impress import plans, report, running

    command = command_line()
    asked = plans.Wanted(
        figure=wanted.table,  # type: ignore[arg-type]  # it is one
        scale=wanted.scale,
        streams=tuple(wanted.stream or ()),
        root=wanted.root,
        seeds=wanted.seeds,
        tasks=wanted.tasks,
        epochs=wanted.epochs,
        alpha_epochs=wanted.alpha_epochs,
        sizes=None if wanted.sizes is None else tuple(wanted.sizes),
        densities=None if wanted.densities is None else tuple(wanted.densities),
        images=wanted.images,
        dataset=wanted.dataset,
        among=wanted.among,
        workers=wanted.processes,
    )
    opened = [(plan, plans.open_stream(plan)) for plan in plans.plans(asked)]

    def run(plan: "impress_plans.Plan") -> None:
        console.print(f"{plan.stream}: {len(plan.units())} units of work", soft_wrap=True)
        _show_impress(plan, running.run(plan, wanted.out / plan.stream, command=command), console)

    def runs() -> list[report.Run]:
        return [
            report.Run.of(plan, stream[0], running.results_of(wanted.out / plan.stream).read())
            for plan, stream in opened
        ]

    return _run_and_tell([plan for plan, _ in opened], run, wanted, console, report=report, runs=runs)


def _growth(wanted: Wanted, console: Console) -> int:
    from stolon.experiments.growth import plans, report, running

    command = command_line()
    asked = plans.Wanted(
        figure=wanted.table,  # type: ignore[arg-type]  # it is one
        scale=wanted.scale,
        streams=tuple(wanted.stream or ()),
        root=wanted.root,
        seeds=wanted.seeds,
        tasks=wanted.tasks,
        epochs=wanted.epochs,
        draws=wanted.draws,
        workers=wanted.processes,
    )
    opened = plans.plans(asked)
    for plan in opened:
        plans.open_stream(plan)

    def run(plan: "growth_plans.Plan") -> None:
        count = sum(len(plan.items(unit.kind)) for unit in plan.units())
        console.print(f"{plan.stream}: {count} runs over {plan.setting.tasks} tasks", soft_wrap=True)
        for event in running.run(plan, wanted.out / plan.stream, command=command):
            if line := report.line(event.record):
                console.print(f"{line} ({event.done} of {event.of})", soft_wrap=True, markup=False)

    def runs() -> list[report.Run]:
        return [report.Run(plan, running.results_of(wanted.out / plan.stream).read()) for plan in opened]

    return _run_and_tell(opened, run, wanted, console, report=report, runs=runs)


def _run_and_tell(
    plans: Sequence[_P],
    run: Callable[[_P], None],
    wanted: Wanted,
    console: Console,
    *,
    report: ModuleType,
    runs: Callable[[], Sequence[Any]],
) -> int:
    """Run plans one after the other, then tell, keep and publish what is there, also where some failed.

    Args:
        plans: of some paper's table.
        run: runs one of them.
        wanted: what was asked for.
        console: where it is told.
        report: that paper's, with its ``keep`` and ``publish``.
        runs: what there is of each plan, as the report takes it.

    Raises:
        TrialsFailedError: at the end, if trials failed; says which and why.
    """
    command, failures = command_line(), []
    try:
        for plan in plans:
            try:
                run(plan)
            except TrialsFailedError as error:
                failures.append(error)
    except KeyboardInterrupt:
        console.print(f"\nstopped; the same command goes on:\n  {command}", soft_wrap=True)
        return exit_codes.INTERRUPTED
    there = runs()
    for each in there:
        _print_section(each.plan.stream, each.figure(), console)
    report.keep(there, wanted.out / f"{wanted.table}.json", command=command)
    console.print(f"report: {report.publish(there, wanted.out, command=command)}", soft_wrap=True)
    if failures:
        raise TrialsFailedError("\n".join(map(str, failures)))
    return exit_codes.OK


def _print_section(stream: str, section: "Section", console: Console) -> None:
    for part in (*section.sections, section):
        for table in part.tables:
            console.print(_for_terminal(f"{stream}: {table.caption}", table.columns, table.rows))
        console.print(part.text, soft_wrap=True)


def _show_impress(plan: "impress_plans.Plan", events: Iterable["Event"], console: Console) -> None:
    """A bar for each unit at work, a line for each group of results."""
    from stolon.experiments.impress.telling import Telling

    telling = Telling(plan)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        bars: dict[str, TaskID] = {}
        for event in events:
            record, name = event.record, telling.name(event.record)
            if record.kind == "trial":
                bars[name] = progress.add_task(name, total=record.data["results"])
            elif record.kind == "epoch":
                masks = f"{name}: {record.data['masks']} of {record.data['of']} masks"
                progress.update(bars[name], description=masks)
            elif record.kind == "task":
                progress.update(bars[name], description=name, advance=1)
            elif name in bars:
                progress.remove_task(bars.pop(name))
            if line := telling.line(record):
                console.print(line, soft_wrap=True)


def _impress_table2(wanted: Wanted, console: Console) -> int:
    from stolon.experiments.impress import table2

    if wanted.scale != "quick":
        raise SettingError("scale: of no use to impress-table2; leave it out")
    section = table2.section()
    for table in section.tables:
        console.print(_for_terminal(table.caption, table.columns, table.rows))
    console.print(section.text, soft_wrap=True)
    page = table2.publish(wanted.out, command_line())
    console.print(f"report: {page}", soft_wrap=True)
    return exit_codes.OK


def _for_terminal(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> rich.table.Table:
    shown = rich.table.Table(*columns, title=caption, title_justify="left")
    for row in rows:
        shown.add_row(*row)
    return shown


LASEM_OPTIONS: Final = (
    "root", "tasks", "stream", "seeds", "workers", "transfer", "lasem", "epochs", "learning_rate",
)  # fmt: skip
IMPRESS_OPTIONS: Final = (
    "root", "tasks", "stream", "seeds", "workers", "epochs", "alpha_epochs", "sizes", "densities", "images", "dataset",
    "among",
)  # fmt: skip
GROWTH_OPTIONS: Final = ("root", "tasks", "stream", "seeds", "workers", "epochs")
RANDOM_GROWTH: Final = (*GROWTH_OPTIONS, "draws")
TABLES: Final[Mapping[str, tuple[Callable[[Wanted, Console], int], tuple[str, ...]]]] = MappingProxyType(
    {
        "skill-figure10": (
            reproduce_skill.figure10,
            ("agents", "tasks", "root", "seed", "in_process", "anchors", "biases"),
        ),
        "skill-scale": (reproduce_skill.scale, ("tasks", "seed")),
        "lasem-figure1": (_lasem, tuple(name for name in LASEM_OPTIONS if name != "lasem")),
        "lasem-figure4": (_lasem, LASEM_OPTIONS),
        "lasem-figure6": (_lasem, (*LASEM_OPTIONS, "fixed")),
        "lasem-table1": (_lasem, LASEM_OPTIONS),
        "lasem-table2": (_lasem, LASEM_OPTIONS),
        "lasem-table3": (_lasem, LASEM_OPTIONS),
        "impress-figure2": (_impress, IMPRESS_OPTIONS),
        "impress-figure3": (_impress, IMPRESS_OPTIONS),
        "impress-figure4": (_impress, IMPRESS_OPTIONS),
        "impress-figure6": (_impress, IMPRESS_OPTIONS),
        "impress-figure7": (_impress, IMPRESS_OPTIONS),
        "impress-figure10": (_impress, IMPRESS_OPTIONS),
        "impress-table2": (_impress_table2, ()),
        "growth-figure2": (_growth, RANDOM_GROWTH),
        "growth-figure4": (_growth, GROWTH_OPTIONS),
        "growth-figure6": (_growth, GROWTH_OPTIONS),
        "growth-pareto": (_growth, RANDOM_GROWTH),
    }
)
"""What can be made anew, by name: how, and which options it has a use for."""
