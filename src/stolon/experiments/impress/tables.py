"""The figures on impressions as tables and box plots, with what the paper's text says beside them.

Accuracies are of test data, means over tasks. A line's intervals are over runs, at a density and of the means over all
densities; boxes pool runs and densities, as the paper's do.
"""

from collections.abc import Mapping

from stolon.experiments.by_seed import mean
from stolon.experiments.impress import inferred
from stolon.experiments.impress.common import MEAN, pictures, table
from stolon.experiments.impress.measured import Column, Measured
from stolon.experiments.report_parts import Section


def figure(found: Measured) -> Section:
    """The figure: its boxes, and their numbers."""
    parts = []
    spec = found.plan.spec
    if spec.new:
        parts.append(_new_tasks(found))
    if spec.basis_gn and not spec.gn:
        parts.append(inferred.basis_gn(found))
    if spec.gn:
        parts.append(inferred.gn(found))
    if spec.new and found.inferences():
        parts.append(inferred.new_tasks(found))
    done, of = found.done()
    open_ = f" {of - done} of {of} results are not there yet; a mean has all tasks, or is left out." * (
        done < of
    )
    text = (
        f"N is the number of masks in the basis; N^ are masks of one task (homogeneous), Nr random ones, Nh has a last "
        f"layer of its own, X is a mask of another task. The paper's figure is a picture: numbers are only told where "
        f"its text has them.{open_}"
    )
    return Section(spec.title, text, sections=parts)


# New tasks


def _new_tasks(found: Measured) -> Section:
    plan = found.plan
    panels = _panels(found)
    line = found.own()
    columns = [column for panel in panels.values() for column in panel.values()]
    every = list(dict.fromkeys([*columns, line]))
    figures = [
        each
        for title, panel in panels.items()
        for each in pictures(
            found,
            _by_kind(panel),
            title,
            "masks in the basis",
            line=line,
        )
    ]
    return Section(
        "New tasks as sums of masks",
        f"{plan.setting.new} new task(s). {_reached(found)}",
        [
            table(
                found,
                every,
                f"Accuracy on new tasks in %, {MEAN}; what a new task costs to store beside normalisation's statistics",
                line,
            )
        ],
        figures,
    )


def _panels(found: Measured) -> dict[str, dict[str, Column]]:
    """The boxes of each picture, in order, by label."""
    plan = found.plan
    wrong = found.wrong()
    kinds = [kind for kind in plan.spec.kinds if kind != "supsup"]
    first = [] if wrong is None else [wrong]
    if not plan.spec.hybrid:
        return {
            "New tasks": {
                c.label: c for c in [*first, *(column for kind in kinds for column in found.sums(kind))]
            }
        }
    return {
        f"New tasks, {kind} bases": {
            c.label: c
            for c in [
                *(first if kind == plan.wrong else []),
                *(
                    column
                    for pair in zip(found.sums(kind), found.sums(kind, hybrid=True), strict=True)
                    for column in pair
                ),
            ]
        }
        for kind in kinds
    }


def _by_kind(panel: Mapping[str, Column]) -> dict[str, dict[str, Column]]:
    series: dict[str, dict[str, Column]] = {}
    for label, column in panel.items():
        series.setdefault(column.words, {})[label] = column
    return series


def _reached(found: Measured) -> str:
    """From which size on each basis is within a point of SupSup, in words."""
    goal = found.pooled(found.own())
    told = []
    for kind in found.plan.spec.kinds:
        sizes = [(column, found.pooled(column)) for column in found.sums(kind)]
        if not sizes or not goal or not all(values for _, values in sizes):
            continue
        near = [column.size for column, values in sizes if mean(values) >= mean(goal) - 0.01]
        best, values = max(sizes, key=lambda each: mean(each[1]))
        told.append(
            f"{kind.capitalize()} bases come within a point of SupSup's mean with {near[0]} masks."
            if near
            else f"{kind.capitalize()} bases stay {100 * (mean(goal) - mean(values)):.1f} points below SupSup's mean "
            f"({best.size} masks)."
        )
    return " ".join(told)
