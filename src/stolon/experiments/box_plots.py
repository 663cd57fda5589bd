"""Box plots of a report."""

from collections.abc import Mapping, Sequence

from stolon.experiments.drawing import COLOURS, Figure, canvas, fits, label_ticks, legend, plain, short, svg


def boxes(
    series: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    title: str,
    x_title: str,
    y_title: str,
    alt: str,
    caption: str = "",
    line: tuple[str, float] | None = None,
) -> Figure:
    """Box plots of shares of 0 to 1, side by side, a colour for each series; every value is a dot besides.

    A box goes from the lower to the upper quartile with a line at the median, its whiskers to the last value within
    1.5 times its height.

    Args:
        series: by name, by the box's name: its values, at least one. Series share places where names are equal.
        title: over the picture.
        x_title: under the axis.
        y_title: beside the axis.
        alt: what it shows, in words.
        caption: one line under it.
        line: a dashed line to compare with: its name and where it is.

    Returns:
        The picture.
    """
    names = list(dict.fromkeys(name for values in series.values() for name in values))
    crowd = [sum(name in values for values in series.values()) for name in names]
    with canvas(3.9) as (figure, axes):
        if line is not None:
            axes.axhline(line[1], linestyle="--", color="#555555", linewidth=1.2, label=short(line[0], 40))
        for index, (label, values) in enumerate(series.items()):
            width = 0.72 / max(crowd)
            shift = 0.0 if max(crowd) == 1 else width * (index - (len(series) - 1) / 2)
            places = [names.index(name) + shift for name in values]
            colour = COLOURS[index % len(COLOURS)]
            drawn = axes.boxplot(
                list(values.values()),
                positions=places,
                widths=0.85 * width,
                patch_artist=True,
                showfliers=False,
                manage_ticks=False,
                medianprops={"color": "#222222"},
                boxprops={"facecolor": colour, "alpha": 0.35},
            )
            drawn["boxes"][0].set_label(plain(short(label, 40)))
            for place, found in zip(places, values.values(), strict=True):
                axes.plot([place] * len(found), found, "o", color=colour, markersize=3)
        label_ticks(axes.xaxis, names, rotation=0 if fits(names) else 40)
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        axes.grid(visible=True, axis="y")
        axes.set_axisbelow(True)
        axes.set(title=short(title, 70), xlabel=x_title, ylabel=y_title)
        legend(figure)
        return Figure(svg(figure), alt, caption)
