"""Scatter plots of a report: solutions by what they cost and what they give, with their Pareto fronts."""

from collections.abc import Mapping, Sequence

from stolon.experiments.drawing import COLOURS, MARKERS, Figure, canvas, legend, plain, short, svg

_MOST_LABELS = 16  # more would cover each other


def scatter(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    x_title: str,
    y_title: str,
    alt: str,
    caption: str = "",
    fronts: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    labels: Sequence[tuple[float, float, str]] = (),
    level: float | None = None,
) -> Figure:
    """Points of several series, a colour and a marker for each.

    Args:
        series: by name, points (x, y).
        title: over the picture.
        x_title: under the axis.
        y_title: beside the axis.
        alt: what it shows, in words.
        caption: one line under it.
        fronts: by the name of a series, its points that none dominates (few of x, much of y), by ascending x: a line
            of steps.
        labels: words beside points: x, y and the words.
        level: a dashed line at this y.

    Returns:
        The picture.
    """
    with canvas(4.2) as (figure, axes):
        if level is not None:
            axes.axhline(level, color="#888888", linestyle="--", linewidth=1)
        for index, (name, points) in enumerate(series.items()):
            colour = COLOURS[index % len(COLOURS)]
            marker = MARKERS[index % len(MARKERS)]
            x, y = [x for x, _ in points], [y for _, y in points]
            axes.scatter(x, y, s=26, color=colour, marker=marker, alpha=0.75, linewidths=0,
                         label=plain(short(name, 40)), zorder=3)  # fmt: skip
            line = (fronts or {}).get(name)
            if line:
                axes.plot(*zip(*line, strict=True), drawstyle="steps-post", color=colour, linewidth=1.2)
        for x_, y_, words in labels[:_MOST_LABELS]:
            axes.annotate(words, (x_, y_), xytext=(5, -11), textcoords="offset points", fontsize=8)
        axes.set(title=short(title, 70), xlabel=x_title, ylabel=y_title)
        axes.grid(visible=True)
        axes.set_axisbelow(True)
        legend(figure)
        return Figure(svg(figure), alt, caption)
