"""``stolon reproduce TABLE``: the papers' tables and figures, with what is measured here beside them."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from rich.console import Console

from stolon.errors import SettingError, UnknownNameError
from stolon.shell import exit_codes
from stolon.shell.terminal import console as make_console


@dataclass(frozen=True)
class Wanted:
    """What was asked for; a table refuses what it has no use for.

    Attributes:
        table: its name.
        scale: ``"quick"``, ``"half"`` or ``"full"``.
        agents: how many, None as the scale says.
        tasks: how many, None as the scale says.
        root: a folder with data, None for what needs none.
        out: where results and report go.
        seed: of everything random.
        in_process: without processes of its own.
        anchors: kinds of anchors, None for all.
        biases: ``"both"``, ``"with"`` or ``"without"``.
    """

    table: str
    scale: str
    agents: int | None
    tasks: int | None
    root: str | None
    out: Path
    seed: int
    in_process: bool
    anchors: tuple[str, ...] | None
    biases: str


def reproduce(
    *,
    table: str,
    scale: str = "quick",
    agents: int | None = None,
    tasks: int | None = None,
    root: str | None = None,
    out: str | None = None,
    seed: int = 0,
    in_process: bool = False,
    anchors: Sequence[str] | None = None,
    biases: str = "both",
) -> int:
    """Make a table anew; ends by naming its report.

    Raises:
        UnknownNameError: no such table.
        SettingError: an option is out of its range, or of no use to this table.
    """
    if table not in TABLES:
        raise UnknownNameError("table", table, tuple(TABLES))
    if biases not in BIASES:
        raise SettingError(f"biases: expected one of {', '.join(BIASES)}, found {biases!r}")
    wanted = Wanted(
        table=table,
        scale=scale,
        agents=agents,
        tasks=tasks,
        root=root,
        out=Path(out or f"reproduce/{table}"),
        seed=seed,
        in_process=in_process,
        anchors=None if anchors is None else tuple(anchors),
        biases=biases,
    )
    return TABLES[table](wanted, make_console())


def _skill_figure10(wanted: Wanted, console: Console) -> int:
    from stolon.experiments import skill, skill_report

    config = skill.SkillConfig(
        scale=wanted.scale,  # type: ignore[arg-type]  # checked there
        agents=wanted.agents,
        tasks=wanted.tasks,
        root=wanted.root,
        seed=wanted.seed,
        in_process=wanted.in_process,
        anchors=wanted.anchors or skill.ANCHORS,
        biases=BIASES[wanted.biases],
    )
    world, found = skill.run(config, wanted.out, lambda text: console.print(text, soft_wrap=True))
    for table in skill_report.terminal(world, found):
        console.print(table)
    console.print(skill_report.verdict(world, found), soft_wrap=True)
    page = skill_report.publish(config, world, found, wanted.out, shlex.join(["stolon", *sys.argv[1:]]))
    console.print(f"report: {page}", soft_wrap=True)
    alike = all(variant.equal and variant.complete for variant in found)
    return exit_codes.OK if alike else exit_codes.FAILED


def _skill_scale(wanted: Wanted, console: Console) -> int:
    from stolon.experiments import report, skill_scale

    for name in ("agents", "root", "in_process", "anchors"):
        if getattr(wanted, name):
            raise SettingError(f"{name}: of no use to skill-scale, whose tasks are made up; leave it out")
    if wanted.biases != "both":
        raise SettingError("biases: of no use to skill-scale, whose tasks are made up; leave it out")
    most = {"quick": 100, "half": 1_000, "full": 10_000}.get(wanted.scale)
    if most is None:
        raise SettingError(f"scale: expected quick, half or full, found {wanted.scale!r}")
    geometry = skill_scale.Geometry.measured(skill_scale.DIMENSIONS, wanted.seed)
    rows = []
    for count in (10, 100, 1_000, 10_000):
        if count <= (wanted.tasks or most):
            for kind in skill_scale.KINDS:
                console.print(f"{count} tasks, {kind}")
                rows.append(skill_scale.grow(count, geometry, kind, seed=wanted.seed))
    section = skill_scale.section(rows)
    for row in section.tables[0].rows:
        console.print(", ".join(f"{a}: {b}" for a, b in zip(section.tables[0].columns, row, strict=True)))
    page, _ = report.publish(wanted.out, "SKILL: how task mappers grow", [section])
    console.print(f"report: {page}", soft_wrap=True)
    return exit_codes.OK


BIASES: Final[Mapping[str, tuple[bool, ...]]] = MappingProxyType(
    {"both": (False, True), "without": (False,), "with": (True,)}
)
TABLES: Final[Mapping[str, Callable[[Wanted, Console], int]]] = MappingProxyType(
    {"skill-figure10": _skill_figure10, "skill-scale": _skill_scale}
)
"""What can be made anew, by name."""
