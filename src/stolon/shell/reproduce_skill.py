"""The tables of ``stolon reproduce`` on SKILL: agents that exchange modules, and what finds a task among many."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from rich.console import Console

from stolon.errors import SettingError
from stolon.shell import exit_codes
from stolon.shell.reproduce_options import Wanted, command_line

BIASES: Final[Mapping[str, tuple[bool, ...]]] = MappingProxyType(
    {"both": (False, True), "without": (False,), "with": (True,)}
)


def figure10(wanted: Wanted, console: Console) -> int:
    """Exchange modules among agents, and tell what that costs."""
    from stolon.experiments import skill, skill_report

    config = skill.SkillConfig(
        scale=wanted.scale,  # type: ignore[arg-type]  # checked there
        agents=wanted.agents,
        tasks=wanted.tasks,
        root=wanted.root,
        seed=wanted.seed,
        in_process=wanted.in_process,
        anchors=tuple(wanted.anchors or skill.ANCHORS),
        biases=BIASES[wanted.biases],
    )
    world, found = skill.run(config, wanted.out, lambda text: console.print(text, soft_wrap=True))
    for table in skill_report.terminal(world, found):
        console.print(table)
    console.print(skill_report.verdict(world, found), soft_wrap=True)
    page = skill_report.publish(config, world, found, wanted.out, command_line())
    console.print(f"report: {page}", soft_wrap=True)
    alike = all(variant.equal and variant.complete for variant in found)
    return exit_codes.OK if alike else exit_codes.FAILED


def scale(wanted: Wanted, console: Console) -> int:
    """Grow task mappers, and tell what they find and cost."""
    from stolon.experiments import report, skill_scale

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
