"""The picture of a joint network: which task uses which layer, and whose it was first."""

from collections.abc import Mapping, Sequence

from stolon.experiments.drawing import COLOURS, Figure, canvas, legend, plain, short, svg

_ARROWS = -0.5  # where those between tasks stand
_MOST_COLOURS = 8  # more tasks take their colours from a scale


def network(
    routes: Mapping[str, Sequence[str]],
    layers: Sequence[str],
    sizes: Sequence[int],
    *,
    title: str,
    alt: str,
    caption: str = "",
    bound: Mapping[str, str | None] | None = None,
) -> Figure:
    """A column for each layer, a box for each of its copies, a line for each task through the boxes that it uses.

    At the left an arrow leads from each task to the one that it was bound to.

    Args:
        routes: by task, in order, the task that each layer on its route was made for.
        layers: their labels.
        sizes: of each layer, parameters.
        title: over the picture.
        alt: what it shows, in words.
        caption: one line under it.
        bound: by task, the one that it was bound to; no arrows where it is not told.

    Returns:
        The picture; a box is as wide as its layer is large (the root of its share of the largest), and says the number
        of the task that it was made for.
    """
    tasks = list(routes)
    columns = [list(dict.fromkeys(route[i] for route in routes.values())) for i in range(len(layers))]
    rows = {task: number for number, task in enumerate(tasks)}  # a box stands at its task's height
    colours = _colours(len(tasks))
    with canvas(min(1.6 + 0.42 * len(tasks), 9.0)) as (figure, axes):
        for task, route in routes.items():
            shift = 0.3 * ((rows[task] + 0.5) / len(tasks) - 0.5)
            places = [rows[owner] + shift for owner in route]
            axes.plot(
                range(len(layers)),
                places,
                color=colours[rows[task]],
                linewidth=1.4,
                label=plain(f"{rows[task] + 1}  {short(task, 30)}"),
                zorder=1,
            )
        largest = max(sizes)
        for place, (owners, size) in enumerate(zip(columns, sizes, strict=True)):
            width = 0.14 + 0.5 * (size / largest) ** 0.5
            for owner in owners:
                axes.barh(
                    rows[owner],
                    width,
                    height=0.62,
                    left=place - width / 2,
                    color="#ffffff",
                    edgecolor=colours[rows[owner]],
                    linewidth=1.6,
                    alpha=0.92,
                    zorder=2,
                )
                axes.text(
                    place, rows[owner], str(rows[owner] + 1), ha="center", va="center", fontsize=9, zorder=3
                )
        axes.set_xticks(
            range(len(layers)),
            [f"{label}\n{_count(size)}" for label, size in zip(layers, sizes, strict=True)],
        )
        axes.set_yticks([])
        ends = [(rows[task], rows[to]) for task, to in (bound or {}).items() if to is not None]
        for start, end in ends:
            axes.annotate(
                "",
                xy=(_ARROWS, end),
                xytext=(_ARROWS, start),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": colours[start],
                    "linewidth": 1.4,
                    "connectionstyle": f"arc3,rad={-0.5 / (start - end) ** 0.5:.3f}",  # long ones less, to stay in view
                },
            )
        axes.set_xlim(_ARROWS - 0.55 if ends else -0.6, len(layers) - 0.4)
        axes.set_ylim(len(tasks) - 0.4, -0.6)
        axes.spines[:].set_visible(False)
        axes.set(title=short(title, 70), xlabel="layer, and its parameters")
        legend(figure)
        return Figure(svg(figure), alt, caption)


def _colours(count: int) -> list[str]:
    if count <= _MOST_COLOURS:
        return list(COLOURS[:count])
    import matplotlib as mpl
    from matplotlib.colors import to_hex

    scale = mpl.colormaps["viridis"]
    return [to_hex(scale(i / (count - 1))) for i in range(count)]


def _count(number: int) -> str:
    """A number of parameters in a few letters.

    Example:
        >>> _count(512), _count(4_196_352)
        ('512', '4.2 M')
    """
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return str(number)
