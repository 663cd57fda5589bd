"""SKILL's table and the plot of speed-up, for the terminal and for the report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import rich.table

from stolon.experiments import provenance, report
from stolon.experiments.drawing import Figure
from stolon.experiments.figures import growth
from stolon.experiments.skill import SkillConfig, Variant, World
from stolon.experiments.skill_costs import PAPER, PAPER_AGENTS, PaperRow

COLUMNS: Final = (
    "variant",
    "teacher [MACs]",
    "received [bytes]",
    "student [MACs]",
    "total [MACs]",
    "efficiency",
    "speed-up",
)
ACCURACIES: Final = ("task named", "task mapper", "neither told")
OURS: Final = (*COLUMNS, *ACCURACIES, "biases kept")
THEIRS: Final = (*COLUMNS, "printed", "accuracy")

_HONEST: Final = (
    "Efficiency is S / (N (S / N + 1000 bytes + student)), the definition in the caption of the paper's Fig. 10, "
    "with S the MACs of one agent that learns everything. The efficiencies printed there do not follow it: three "
    "rows divide the bytes' cost by S instead of by S / N, and the Mahalanobis rows fit neither. By the definition, "
    "the paper's own byte counts give 0.962 for Mahalanobis without biases (printed: 0.997) and 0.9995 for Gaussian "
    "(printed: 0.99999519); its claim of more than 0.99 N for all variants does not hold."
)


def terminal(world: World, found: Sequence[Variant]) -> list[rich.table.Table]:
    """Ours, and the paper's: a measure per line, as a dozen columns would not fit a terminal."""
    return [
        _upright(f"{world.agents} agents, {world.tasks} tasks", OURS, [_ours(variant) for variant in found]),
        _upright(f"The paper, N = T = {PAPER_AGENTS}", THEIRS, [_theirs(row) for row in PAPER]),
    ]


def _upright(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> rich.table.Table:
    table = rich.table.Table(title, *(row[0] for row in rows))
    for index, heading in enumerate(headings[1:], start=1):
        table.add_row(heading, *(row[index] for row in rows))
    return table


def publish(config: SkillConfig, world: World, found: Sequence[Variant], folder: Path, command: str) -> Path:
    """Write ``report.html`` and ``report.md``; the path of the former.

    Raises:
        StoreError: the reports could not be written.
    """
    parts = [
        _figure10(config, world, found),
        _speed_up(world, found),
        _sharing(world, found),
        _each_task(found),
        _provenance(config, world, command),
    ]
    page, _ = report.publish(folder, "SKILL, Figure 10: what sharing costs", parts)
    return page


def verdict(world: World, found: Sequence[Variant]) -> str:
    """Whether all agents ended alike, in a sentence."""
    wrong = [variant.name for variant in found if not (variant.equal and variant.complete)]
    if wrong:
        return f"NOT all agents ended with all tasks and the same answers: {', '.join(wrong)}"
    return (
        f"all {world.agents} agents ended with all {world.tasks} tasks and the same answers, bit for bit, in "
        f"{'each of ' if len(found) > 1 else ''}{len(found)} variant{'s' if len(found) > 1 else ''}"
    )


def _figure10(config: SkillConfig, world: World, found: Sequence[Variant]) -> report.Section:
    ours = _table(
        OURS,
        [_ours(variant) for variant in found],
        f"Measured here: {world.words}; N = {world.agents}, T = {world.tasks}",
    )
    theirs = _table(
        THEIRS,
        [_theirs(row) for row in PAPER],
        f"The paper's numbers (N = T = {PAPER_AGENTS}), efficiency and speed-up by its definition",
    )
    where = (
        "in one process, over a network in memory" if config.in_process else "as real processes, over Zenoh"
    )
    text = (
        f"{world.agents} agents {where} learned {world.tasks} tasks between them and passed them on: "
        f"{verdict(world, found)}.\n\n{_HONEST}"
    )
    return report.Section("The table", text, [ours, theirs])


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> report.Table:
    """A measure per row, a variant per column: the other way round would not fit a page."""
    turned = [(heading, *(row[index] for row in rows)) for index, heading in enumerate(headings[1:], start=1)]
    return report.Table(("", *(row[0] for row in rows)), turned, caption)


def _speed_up(world: World, found: Sequence[Variant]) -> report.Section:
    ours = {
        variant.name: [
            (float(n), variant.costs.speed_up(n, variant.module_bytes)) for n in range(1, world.tasks + 1)
        ]
        for variant in found
    }
    theirs = {
        row.name: [
            (
                float(n),
                row.accounting.speed_up(n, row.received_bytes * PAPER_AGENTS / (PAPER_AGENTS - 1)),
            )
            for n in range(1, PAPER_AGENTS + 1)
        ]
        for row in PAPER[:4]
    }
    return report.Section(
        "Speed-up against the number of agents",
        "The same T tasks on N agents: N times the efficiency. One agent receives nothing and merges nothing.",
        figures=[
            _curve(ours, world.tasks, "Measured here"),
            _curve(theirs, PAPER_AGENTS, "The paper's numbers, by its definition"),
        ],
    )


def _curve(lines: dict[str, list[tuple[float, float]]], most: int, title: str) -> Figure:
    ends = " ".join(f"{name}: {points[-1][1]:.2f} for {most} agents." for name, points in lines.items())
    return growth(
        lines,
        title=title,
        x_title="agents",
        y_title="speed-up",
        ideal=[(1.0, 1.0), (float(most), float(most))],
        alt=f"Speed-up over one agent against the number of agents. {ends}",
        caption=f"{title}: times faster than one agent. Dashed: as many times as there are agents.",
    )


def _sharing(world: World, found: Sequence[Variant]) -> report.Section:
    rows = [
        (
            variant.name,
            f"{variant.module_bytes / world.tasks / 1e3:.1f} kB",
            f"{variant.costs.received_bytes / 1e3:.1f} kB",
            f"{variant.received / 1e3:.1f} kB",
            f"{variant.sent / 1e3:.1f} kB",
            f"{variant.complete_s:.2f} s",
            f"{variant.student_macs_all:.3g}",
            f"{variant.efficiency_sent:.4f}",
            f"{variant.costs.efficiency_of_slowest:.4f}",
        )
        for variant in found
    ]
    table = _table(
        (
            "variant",
            "a module, mean",
            "modules received",
            "bytes received",
            "bytes sent",
            "complete after",
            "student with gate [MACs]",
            "efficiency with these",
            "efficiency of the busiest",
        ),
        rows,
        "Mean per agent. Modules received: their own size, which the definition counts; bytes: all that was given to "
        "the links, as the exchange counts it. Busiest: the agent with most to learn, in place of S / N",
    )
    held = report.Table(
        ("variant", "agent", "would hold back"),
        [(variant.name, *each.split(": ", 1)) for variant in found for each in variant.held],
        "What our gate would hold back, by its default settings",
        collapsed=True,
    )
    words = (
        "The population runs without our gate, as the paper's does: everything that comes is used. By its default "
        f"settings the gate would hold back {len(held.rows) or 'nothing'}"
        f"{' of ' + str(len(found) * world.agents * world.tasks) + ' modules' if held.rows else ''}."
    )
    return report.Section("What was really sent", words, [table, *([held] if held.rows else [])])


def _each_task(found: Sequence[Variant]) -> report.Section:
    tables = []
    for variant in found:
        rows = [
            (
                lesson.task,
                str(lesson.agent),
                str(lesson.train),
                ", ".join(f"{phase} {number}" for phase, number in lesson.epochs.items()),
                f"{variant.macs[lesson.task]:.3g}",
                f"{lesson.seconds:.1f} s",
                *(f"{100 * value:.1f} %" for value in variant.tasks.get(lesson.task, ())),
            )
            for lesson in variant.lessons
        ]
        tables.append(
            report.Table(
                ("task", "agent", "images", "epochs", "MACs", "took", *ACCURACIES),
                rows,
                variant.name,
                collapsed=True,
            )
        )
    return report.Section("Each task", tables=tables)


def _provenance(config: SkillConfig, world: World, command: str) -> report.Section:
    rows = [("command", command)] if command else []
    rows += [
        ("data", world.words),
        ("backbone", f"{world.backbone.name}, {world.backbone.fingerprint[:12]}"),
        ("scale", config.scale),
        ("seed", str(config.seed)),
        ("versions", ", ".join(f"{key} {value}" for key, value in provenance.versions().items())),
        ("hardware", ", ".join(f"{key} {value}" for key, value in provenance.hardware().items())),
    ]
    return report.Section("Where this comes from", tables=[report.Table(("what", "value"), rows)])


def _ours(variant: Variant) -> tuple[str, ...]:
    costs = variant.costs
    return (
        variant.name,
        f"{costs.teacher_macs:.3g}",
        f"{costs.received_bytes:.3g}",
        f"{costs.student_macs:.3g}",
        f"{costs.total_macs:.3g}",
        f"{costs.efficiency:.4f}",
        f"{costs.agents * costs.efficiency:.2f}",
        *(f"{100 * value:.1f} %" for value in (variant.named, variant.mapper, variant.joint)),
        f"{len(variant.biased)} of {len(variant.lessons)}" if variant.biases else "–",
    )


def _theirs(row: PaperRow) -> tuple[str, ...]:
    costs = row.accounting
    return (
        row.name,
        f"{costs.teacher_macs:.3g}",
        f"{costs.received_bytes:.3g}",
        f"{costs.student_macs:.3g}",
        f"{costs.total_macs:.3g}",
        _close_to_one(costs.efficiency),
        f"{costs.agents * costs.efficiency:.2f}",
        f"{row.printed:.9g}",
        f"{100 * row.accuracy:.1f} %",
    )


def _close_to_one(value: float) -> str:
    """Enough digits to see what is missing."""
    return f"{value:.3f}" if value < 0.99 else f"{value:.6f}"
