"""Pictures of a report, as SVG: each a pure function from arrays and names to a :class:`Figure`."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from stolon.experiments.drawing import (
    COLOURS,
    MARKERS,
    Figure,
    canvas,
    fits,
    label_ticks,
    legend,
    lines,
    plain,
    short,
    svg,
)

_VECTOR = 2000  # more cells than this are drawn as one image
_COLUMNS = 300  # of a timeline: more steps are averaged
_LEGIBLE = 12  # more tasks than this: no numbers in cells, fewer labels


def heat_map(
    values: npt.NDArray[np.float64],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    row_title: str,
    column_title: str,
    alt: str,
    caption: str = "",
) -> Figure:
    """Shares of 0 to 1 as colours, with the percentages in the cells while they are legible; NaN is blank."""
    with canvas(min(max(1.6 + 0.42 * len(rows), 2.4), 7.5)) as (figure, axes):
        shown, colours = np.ma.masked_invalid(values), {"cmap": "viridis", "vmin": 0, "vmax": 1}
        if values.size <= _VECTOR:
            edges = [np.arange(n + 1) - 0.5 for n in (values.shape[1], values.shape[0])]
            gap = 0.8 if max(values.shape) <= _LEGIBLE else 0.2
            image = axes.pcolormesh(*edges, shown, **colours, edgecolors="white", linewidth=gap)
            axes.invert_yaxis()
        else:
            image = axes.imshow(shown, **colours, aspect="auto")
        if max(values.shape) <= _LEGIBLE:
            for (i, j), value in np.ndenumerate(values):
                if math.isfinite(value):
                    colour = "black" if value > 0.6 else "white"
                    axes.text(j, i, f"{100 * value:.0f}", ha="center", va="center", color=colour, fontsize=9)
        label_ticks(axes.xaxis, columns, rotation=0 if fits(columns) else 40)
        label_ticks(axes.yaxis, rows)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set(title=short(title, 70), xlabel=column_title, ylabel=row_title)
        bar = figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02)
        bar.outline.set_visible(False)
        bar.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=["0 %", "25 %", "50 %", "75 %", "100 %"])
        return Figure(svg(figure), alt, caption)


def curves(
    lines: Mapping[str, Sequence[tuple[float, float, float]]],
    *,
    title: str,
    x_title: str,
    y_title: str,
    alt: str,
    caption: str = "",
    ticks: Sequence[str] | None = None,
) -> Figure:
    """Accuracies over time with bands; the axis begins at 0, 50 or 75 %, as the lowest of them allows.

    Args:
        lines: by name, points (x, mean, half-width); a half-width of NaN draws no band.
        title: over the picture.
        x_title: under the axis.
        y_title: beside the axis.
        alt: what it shows, in words.
        caption: one line under it.
        ticks: names of x = 1, 2, ...

    Returns:
        The picture.
    """
    with canvas(3.6) as (figure, axes):
        for index, (name, points) in enumerate(lines.items()):
            x, mean, half = (np.array(part, float) for part in zip(*points, strict=True))
            colour = COLOURS[index % len(COLOURS)]
            marker = MARKERS[index % len(MARKERS)] if len(x) <= 2 * _LEGIBLE else None
            style = ("-", "--", ":")[index // len(COLOURS) % 3]
            # Of a few lines the first are wider, so that equal ones do not hide each other.
            width = 1.8 + 1.6 * max(0, min(len(lines), 3) - 1 - index) * (len(lines) <= 4)
            label = plain(short(name, 40))
            axes.plot(x, mean, style, marker=marker, color=colour, linewidth=width, label=label)
            if np.isfinite(half).any():
                low, high = np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1)
                axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        lowest = min((mean for points in lines.values() for _, mean, _ in points), default=0.0)
        floor = next((bound for bound in (0.75, 0.5) if lowest >= bound + 0.05), 0.0)
        axes.set(title=short(title, 70), xlabel=x_title, ylabel=y_title)
        axes.set_ylim(floor - 0.02 * (1 - floor), 1 + 0.02 * (1 - floor))
        shown = np.linspace(floor, 1, 6 if floor == 0.75 else 5)
        axes.set_yticks(shown, [f"{100 * value:g} %" for value in shown.round(3)])
        axes.grid(visible=True, axis="y")
        axes.set_axisbelow(True)
        if ticks is not None:
            label_ticks(axes.xaxis, ticks, first=1, rotation=0 if fits(ticks) else 40)
        else:
            axes.xaxis.get_major_locator().set_params(integer=True)
        if 1 < len(lines) <= 24:  # a legend of more says nothing; the table beside it does
            legend(figure)
        return Figure(svg(figure), alt, caption)


def growth(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    x_title: str,
    y_title: str,
    alt: str,
    caption: str = "",
    ideal: Sequence[tuple[float, float]] = (),
    logarithmic: bool = False,
) -> Figure:
    """How quantities grow: a line each.

    Args:
        lines: by name, points (x, y).
        title: over the picture.
        x_title: under the axis.
        y_title: beside the axis.
        alt: what it shows, in words.
        caption: one line under it.
        ideal: a dashed line behind the others.
        logarithmic: both axes; every value is above 0 then.

    Returns:
        The picture.
    """
    with canvas(3.8) as (figure, axes):
        if ideal:
            axes.plot(*zip(*ideal, strict=True), "--", color="#888888", linewidth=1, label="ideal")
        for index, (name, points) in enumerate(lines.items()):
            marker = MARKERS[index % len(MARKERS)] if len(points) <= 2 * _LEGIBLE else None
            colour = COLOURS[index % len(COLOURS)]
            axes.plot(*zip(*points, strict=True), marker=marker, color=colour, label=plain(short(name, 40)))
        axes.set(title=short(title, 70), xlabel=x_title, ylabel=y_title)
        if logarithmic:
            axes.set_xscale("log")
            axes.set_yscale("log")
        else:
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
        axes.grid(visible=True)
        axes.set_axisbelow(True)
        legend(figure, 2)
        return Figure(svg(figure), alt, caption)


def dots(
    series: Mapping[str, Mapping[str, tuple[float, float]]],
    *,
    title: str,
    x_title: str,
    alt: str,
    caption: str = "",
    boxes: Mapping[str, tuple[float, float]] | None = None,
    percent: bool = True,
) -> Figure:
    """Means with their intervals, a line of the picture for each name, a colour for each series.

    Args:
        series: by name, by the line's name: mean and half-width; a half-width of NaN draws no interval.
        title: over the picture.
        x_title: under the axis.
        alt: what it shows, in words.
        caption: one line under it.
        boxes: behind them, by the line's name: from where to where.
        percent: the values are shares, told in percent.

    Returns:
        The picture.
    """
    names = list(dict.fromkeys([*(boxes or {}), *(name for values in series.values() for name in values)]))
    each = 0.6 if boxes else 0.3
    with canvas(min(1.7 + each * len(names), 9.0)) as (figure, axes):
        for name, (low, high) in (boxes or {}).items():
            place = names.index(name)
            axes.barh(place, high - low, left=low, height=0.6, color="#ececec", edgecolor="#222222")
        for index, (label, values) in enumerate(series.items()):
            shift = 0.48 * ((index + 0.5) / len(series) - 0.5)
            y = np.array([names.index(name) for name in values]) + shift
            mean, half = (np.array(part, float) for part in zip(*values.values(), strict=True))
            style = {"fmt": MARKERS[index % len(MARKERS)], "color": COLOURS[index % len(COLOURS)]}
            style["label"] = plain(short(label, 40))
            axes.errorbar(mean, y, xerr=np.nan_to_num(half), **style, capsize=2.5)
        lines(axes, names, percent=percent)
        axes.set(title=short(title, 70), xlabel=x_title)
        if len(series) > 1:
            legend(figure)
        return Figure(svg(figure), alt, caption)


def bars(shares: Mapping[str, float], *, title: str, x_title: str, alt: str, caption: str = "") -> Figure:
    """A bar for each share of 0 to 1, from the top down, with its percentage."""
    with canvas(1.2 + 0.28 * len(shares)) as (figure, axes):
        places = np.arange(len(shares))
        axes.barh(places, list(shares.values()), height=0.66, color=COLOURS[0])
        for place, share in zip(places, shares.values(), strict=True):
            axes.text(share + 0.01, place, f"{100 * share:.0f} %", va="center", fontsize=9)
        lines(axes, list(shares), percent=True)
        axes.set_xlim(0, 1.08)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        axes.set(title=short(title, 70), xlabel=x_title)
        return Figure(svg(figure), alt, caption)


def timeline(
    values: npt.NDArray[np.float64],
    rows: Sequence[str],
    ends: Sequence[int],
    *,
    title: str,
    x_title: str,
    alt: str,
    caption: str = "",
) -> Figure:
    """Shares of 0 to 1 over time as colours, a strip for each row.

    Args:
        values: [rows, steps].
        rows: their names.
        ends: how many steps there are up to the end of each part of it.
        title: over the picture.
        x_title: under the axis.
        alt: what it shows, in words.
        caption: one line under it.

    Returns:
        The picture.
    """
    count = values.shape[1]
    columns = [part.mean(1) for part in np.array_split(values, min(count, _COLUMNS), axis=1)]
    with canvas(1.5 + 0.3 * len(rows)) as (figure, axes):
        x, y = np.linspace(0, count, len(columns) + 1), np.arange(len(rows) + 1) - 0.5
        image = axes.pcolormesh(x, y, np.array(columns).T, cmap="viridis", vmin=0, vmax=1, rasterized=True)
        axes.invert_yaxis()
        for end in ends[:-1]:
            axes.axvline(end, color="white", linewidth=2)
            axes.axvline(end, color="black", linewidth=0.8)
        label_ticks(axes.yaxis, rows)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[:].set_visible(False)
        axes.set(title=short(title, 70), xlabel=x_title)
        bar = figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02)
        bar.outline.set_visible(False)
        bar.set_ticks([0, 0.5, 1], labels=["own", "50 %", "shared"])
        return Figure(svg(figure), alt, caption)
