"""What the tables on selective layer transfer have in common: the papers' numbers for a line, verdicts, pictures."""

from collections.abc import Mapping
from typing import Final

from stolon.experiments.by_seed import BySeed, apart, interval
from stolon.experiments.drawing import Figure
from stolon.experiments.figures import dots
from stolon.experiments.lasem import paper
from stolon.experiments.lasem.measured import Measured
from stolon.experiments.lasem.methods import Method

MEAN: Final = "mean ± half-width of the 95 % Student interval over seeds"


def data_of(found: Measured) -> str:
    """The paper's data set that this is, or stands for; empty for none."""
    known = found.plan.setting.paper
    return "" if known is None else known.data


def stands_for(found: Measured) -> str:
    """Whose numbers are printed beside ours, where the data are not the paper's."""
    data = data_of(found)
    if not data:
        return " The paper has nothing on these data."
    is_it = found.plan.stream.startswith(("cifar100", "office", "stl10"))
    return "" if is_it else f" The paper's numbers are those of {data}, whose recipe this stream follows."


def all_of(found: Measured, transfer: str) -> Method:
    """Transfer at all layers."""
    return found.plan.find(transfer=transfer, kind="static", configuration="all")[0]


def printed_of(found: Measured, transfer: str) -> paper.Compared | None:
    """What table 3 has of a mechanism; None for nothing."""
    return paper.TABLE3.get((data_of(found), transfer))


def verdict(found: Measured, method: Method, all_: Method) -> str:
    """Whether a method beats transfer at all layers, in a sentence."""
    ours, theirs = found.peak(method), found.peak(all_)
    if len(ours) < 2 or len(theirs) < 2:
        return f"{method.label}: fewer than two seeds are done, so there are no intervals to compare."
    if apart(ours, theirs):
        return f"{method.label} beats {all_.label}: the intervals do not overlap."
    if apart(theirs, ours):
        return f"{method.label} loses to {all_.label}: the intervals do not overlap."
    return f"{method.label} and {all_.label}: the intervals overlap."


def lines(values: Mapping[str, BySeed]) -> dict[str, tuple[float, float]]:
    """Means and half-widths, of those that have any."""
    intervals = {name: interval(each) for name, each in values.items()}
    return {name: (each.mean, each.half_width) for name, each in intervals.items() if each is not None}


def pictures(
    series: Mapping[str, Mapping[str, tuple[float, float]]],
    title: str,
    x_title: str,
    *,
    boxes: Mapping[str, tuple[float, float]] | None = None,
    is_share: bool = True,
) -> list[Figure]:
    """The picture; none where nothing is done yet."""
    shown = {label: values for label, values in series.items() if values}
    if not shown:
        return []
    told = [
        f"{label} {name} {_figure(mean, is_share=is_share)}".strip()
        for label, values in shown.items()
        for name, (mean, _) in values.items()
    ]
    return [
        dots(
            shown,
            title=title,
            x_title=x_title,
            alt=f"{title}: {', '.join(told)}.",
            caption="Means and 95 % intervals over seeds.",
            boxes=boxes,
            percent=is_share,
        )
    ]


def _figure(value: float, *, is_share: bool) -> str:
    return f"{100 * value:.1f} %" if is_share else f"{value:.2f}"
