"""The tables of the papers on selective layer transfer: measured here, with the papers' numbers beside them.

Accuracies are mean peak per-task accuracies; ``kept`` is the forgetting ratio, over the accuracy at the end of a task's
own training or over its peak. Times are seconds of learning, as ratios between methods of the same seed.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from stolon.experiments.by_seed import NOTHING, difference, number, percent, points, ratio, seconds
from stolon.experiments.lasem import paper
from stolon.experiments.lasem.common import MEAN, all_of, data_of, printed_of, stands_for, verdict
from stolon.experiments.lasem.figures import figure1, figure4, figure6
from stolon.experiments.lasem.measured import Measured
from stolon.experiments.report_parts import Section, Table

NOT_BUILT: Final = ("DEN", "APD-Net", "ProgNN")
"""Of table 1; no learner of stolon's yet."""


def table(found: Measured) -> Section:
    """The table, or the figure with its numbers."""
    return _TABLES[found.plan.wanted.table](found)


def _table1(found: Measured) -> Section:
    plan = found.plan
    blank = (NOTHING,) * 4
    rows = [(name, "not built yet", *blank, *_line1(name, None)) for name in NOT_BUILT]
    for method in plan.methods:
        first = plan.find(transfer=method.transfer, kind="lasem")[0]
        rows.append(
            (
                method.label,
                percent(found.peak(method)),
                number(found.kept(method)),
                number(found.kept_of_peak(method)),
                seconds(found.seconds(method)),
                found.time(method, first),
                *_line1(method.label, first.label),
            )
        )
    office = "" if plan.stream == "office-home-lasem" else " The paper's numbers are those of Office-Home."
    heads = (
        "",
        "accuracy [%]",
        "kept (end)",
        "kept (peak)",
        "seconds",
        "time (LASEM = 1)",
        "paper: accuracy [%]",
        "paper: kept",
        "paper: 1000 s",
        "paper: time",
    )
    text = (
        "Other methods that share selectively. Times are relative to LASEM with the same mechanism; the paper's as "
        f"well, from its seconds.{office}"
    )
    return Section("Table 1: other selective methods", text, [Table(heads, rows, f"Peak accuracy, {MEAN}")])


def _line1(label: str, first: str | None) -> tuple[str, ...]:
    line = paper.TABLE1.get(label)
    if line is None:
        return (NOTHING,) * 4
    time = (
        NOTHING
        if first is None or first not in paper.TABLE1
        else f"{line.kiloseconds / paper.TABLE1[first].kiloseconds:.2f}"
    )
    return (str(line.accuracy), str(line.forgetting), f"{line.kiloseconds:g}", time)


def _table2(found: Measured) -> Section:
    plan = found.plan
    tasks = _paper_tasks(found)
    rows = []
    for transfer in plan.transfers:
        all_ = all_of(found, transfer)
        base = paper.TABLE2.get((data_of(found), transfer, tasks, 0))
        for method in plan.find(transfer=transfer):
            peak = found.peak(method)
            line = paper.TABLE2.get((data_of(found), transfer, tasks, method.groups))
            rows.append(
                (
                    method.label,
                    percent(peak),
                    points(difference(peak, found.peak(all_))) if method != all_ else NOTHING,
                    number(found.kept(method)),
                    number(found.kept_of_peak(method)),
                    seconds(found.seconds(method)),
                    found.time(method, all_),
                    NOTHING if line is None else str(line.accuracy),
                    NOTHING if line is None or line.forgetting is None else str(line.forgetting),
                    NOTHING if line is None or base is None else f"{line.kiloseconds / base.kiloseconds:.2f}",
                )
            )
    heads = (
        "",
        "accuracy [%]",
        "− All [points]",
        "kept (end)",
        "kept (peak)",
        "seconds",
        "time (All = 1)",
        "paper: accuracy [%]",
        "paper: kept",
        "paper: time",
    )
    text = (
        f"A deeper network ({plan.setting.protocol.net}), its layers tied into groups (4G: four of them). "
        f"{_growth(found)}{stands_for(found)}"
    )
    return Section(
        "Table 2: groups of layers",
        text,
        [Table(heads, rows, f"Peak accuracy, {MEAN}; time relative to All")],
    )


def _growth(found: Measured) -> str:
    """How time grows from the fewest to the most groups."""
    variant = found.plan.wanted.variants[0]
    lines = [m for m in found.plan.find(variant=variant) if m.transfer == found.plan.transfers[0]]
    if len(lines) < 2:
        return ""
    grown = ratio(found.seconds(lines[-1]), found.seconds(lines[0]))
    return (
        f"From {lines[0].groups} to {lines[-1].groups} groups time grows {number(grown)} times."
        if grown
        else ""
    )


def _table3(found: Measured) -> Section:
    plan = found.plan
    rows, words = [], []
    for transfer in plan.transfers:
        first = plan.find(transfer=transfer, kind="lasem")[0]
        printed = printed_of(found, transfer)
        for method in plan.find(transfer=transfer):
            theirs: tuple[str, str] = (NOTHING, NOTHING)
            if printed is not None:
                theirs = {
                    "lasem": (str(printed.lasem), "1"),
                    "brute-force": (str(printed.brute_force), f"{printed.brute_force_time:g}"),
                    "static": (str(printed.all_layers), f"{printed.all_time:g}"),
                }[method.kind]
            peak = found.peak(method)
            rows.append(
                (
                    method.label,
                    percent(peak),
                    points(difference(peak, found.peak(first))) if method != first else NOTHING,
                    found.time(method, first),
                    number(found.kept(method)),
                    number(found.kept_of_peak(method)),
                    *theirs,
                )
            )
        words.append(verdict(found, first, all_of(found, transfer)))
    heads = (
        "",
        "accuracy [%]",
        "− LASEM [points]",
        "time (LASEM = 1)",
        "kept (end)",
        "kept (peak)",
        "paper: accuracy [%]",
        "paper: time",
    )
    text = (
        f"Brute force trains all {2**plan.setting.protocol.layers} configurations for every task and keeps the best on "
        f"validation data. {' '.join(words)}{stands_for(found)}"
    )
    return Section("Table 3: brute force", text, [Table(heads, rows, f"Peak accuracy, {MEAN}")])


def _paper_tasks(found: Measured) -> int:
    """The number of tasks of table 2 that ours is compared with."""
    known = found.plan.setting.paper
    if known is not None and known.data == "CIFAR-100" and found.plan.setting.tasks == 40:
        return 40
    return 0 if known is None else known.tasks


_TABLES: Final[Mapping[str, Callable[[Measured], Section]]] = MappingProxyType(
    {
        "lasem-figure1": figure1,
        "lasem-figure4": figure4,
        "lasem-figure6": figure6,
        "lasem-table1": _table1,
        "lasem-table2": _table2,
        "lasem-table3": _table3,
    }
)
