"""What the figures on impressions have in common: lines of columns, and box plots of them."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

from stolon.experiments.box_plots import boxes
from stolon.experiments.by_seed import NOTHING, difference, mean, percent, points
from stolon.experiments.drawing import Figure
from stolon.experiments.impress.measured import Column, Measured
from stolon.experiments.report_parts import Table

MEAN: Final = "mean ± half-width of the 95 % Student interval over runs"
_COEFFICIENT: Final = 2  # bytes, in half precision, as measured and as learners keep them


def table(found: Measured, columns: Sequence[Column], caption: str, line: Column | None) -> Table:
    """A line for each column, with storage, each density, all of them, and what is missing to the line to reach."""
    densities = found.plan.setting.densities
    heads = [
        "",
        "what",
        "coefficients",
        "bytes",
        *(f"density {density:g}" for density in densities),
        "all densities",
        *([] if line is None else [f"− {line.label} [points]"]),
        "paper",
    ]
    rows = []
    for column in columns:
        pooled = found.pooled(column)
        row = [column.label, column.words, *_storage(found, column)]
        row += [percent(found.at(column, density)) for density in densities]
        row.append(percent(pooled))
        if line is not None:
            missing = difference(pooled, found.pooled(line))
            row.append(NOTHING if column == line else points(missing))
        row.append(_printed(found, column))
        rows.append(tuple(row))
    return Table(heads, rows, caption)


def _printed(found: Measured, column: Column) -> str:
    protocol = found.plan.setting.paper
    return str(protocol.wrong) if protocol is not None and column.label == "X" else NOTHING


def _storage(found: Measured, column: Column) -> tuple[str, str]:
    """Coefficients of a new task, and bytes of these or of its mask."""
    weights = found.facts.get("weights")
    if weights is None or column.label == "X":
        return NOTHING, NOTHING
    if column.kind == "supsup" or column.items[0].what in ("gg", "gn-in-batch", "gn-alone"):
        plain = sum(-(-count // 8) for count in weights)
        coded = _coded(found, column) if column.kind == "supsup" else ""  # only told of new tasks' own masks
        return "0", f"{plain:,}{coded}"
    is_hybrid = column.items[0].what == "hybrid"
    # hybrid ones too keep a row for the last layer, which has a mask besides
    count = column.size * len(weights)
    last = -(-weights[-1] // 8) if is_hybrid else 0
    return f"{count:,}", f"{_COEFFICIENT * count + last:,}"


def _coded(found: Measured, column: Column) -> str:
    """The masks' mean size, coded, from the sparsest to the densest."""
    means = [
        found.value(column.kind, density, run, column.items, "coded_bytes")
        for density in found.plan.setting.densities
        for run in range(found.plan.setting.runs)
    ]
    known = [value for value in means if value is not None]
    if not known:
        return ""
    low, high = f"{min(known):,.0f}", f"{max(known):,.0f}"
    return f" (coded {low})" if low == high else f" (coded {low} to {high})"


def pictures(
    found: Measured,
    series: Mapping[str, Mapping[str, Column]],
    title: str,
    x_title: str,
    *,
    line: Column | None = None,
) -> list[Figure]:
    """The picture; none where nothing is there yet."""
    values = {
        name: {label: found.points(column) for label, column in columns.items() if found.points(column)}
        for name, columns in series.items()
    }
    shown = {name: boxes_ for name, boxes_ in values.items() if boxes_}
    if not shown:
        return []
    goal = None if line is None else found.pooled(line)
    told = [
        f"{label} ({name}) {100 * median(found_):.1f} %"
        for name, of_one in shown.items()
        for label, found_ in of_one.items()
    ]
    dashed = f" The dashed line is {line.label}'s mean." if line is not None and goal else ""
    return [
        boxes(
            shown,
            title=title,
            x_title=x_title,
            y_title="test accuracy",
            alt=f"{title}, medians: {', '.join(told)}.",
            caption=f"Boxes of all runs and densities; each dot is one run at one density, a mean over tasks.{dashed}",
            line=(f"{line.label}, mean", mean(goal)) if line is not None and goal else None,
        )
    ]
