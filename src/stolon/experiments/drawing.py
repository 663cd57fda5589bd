"""What all pictures of a report have in common: style, axes, labels, and the :class:`Figure` that they become."""

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, final

PNG: Final = "image/png"
SVG: Final = "image/svg+xml"

# Okabe and Ito's palette: told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",  # text stays text: searchable, and any script that the reader's fonts know
    "svg.hashsalt": "stolon",  # the same picture has the same bytes
    "font.family": "sans-serif",
    "text.parse_math": False,  # names are names, not formulas
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.grid": False,
    "grid.color": "#e4e4e4",
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "legend.frameon": False,
}
_WIDTH = 6.4  # inches; 640 CSS pixels, scaled down on phones
_LEGEND = 92  # letters of a legend's size side by side in that width
_MARK = 7  # and as many are a mark and the space around it


@final
@dataclass(frozen=True)
class Figure:
    """A picture with words for those who do not see it.

    Attributes:
        data: its bytes.
        alt: what it shows.
        caption: one line under it.
        media_type: ``"image/svg+xml"`` or ``"image/png"``.
    """

    data: bytes
    alt: str
    caption: str = ""
    media_type: str = SVG

    @property
    def suffix(self) -> str:
        """How a file of it ends."""
        return {SVG: ".svg", PNG: ".png"}.get(self.media_type, ".img")


@contextmanager
def canvas(height: float) -> Iterator[tuple[Any, Any]]:
    """A figure and its axes in our style, without windows, without touching anybody's settings."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # Our fonts may lack a script; as text in the SVG the reader's fonts have it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        drawn = Canvas(figsize=(_WIDTH, height), layout="constrained")
        yield drawn, drawn.subplots()


def svg(drawn: Any) -> bytes:  # noqa: ANN401 - matplotlib's own
    """Its bytes."""
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def lines(axes: Any, names: Sequence[str], *, percent: bool) -> None:  # noqa: ANN401 - as above
    """A line of the picture for each name, the first on top."""
    axes.set_yticks(range(len(names)), [short(name, 22) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=True, axis="x")
    axes.set_axisbelow(True)
    if percent:
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")


def label_ticks(axis: Any, names: Sequence[str], *, first: int = 0, rotation: int = 0) -> None:  # noqa: ANN401 - as above
    """Label every place, or every so many where there are too many."""
    step = max(1, math.ceil(len(names) / 24))
    places = range(0, len(names), step)
    options = {"rotation": rotation, "ha": "right", "rotation_mode": "anchor"} if rotation else {}
    axis.set_ticks(
        [place + first for place in places], [short(names[place], 22) for place in places], **options
    )


def fits(names: Sequence[str]) -> bool:
    """Whether names have room side by side."""
    return sum(min(len(name), 22) + 2 for name in names) <= 62


def short(name: str, most: int) -> str:
    """Cut in the middle: names of tasks often differ at their ends."""
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-(most // 2) :]}"


def legend(figure: Any, most: int = 3) -> None:  # noqa: ANN401 - matplotlib is imported late
    """A legend under a picture of :func:`canvas`, in as many columns as its labels have room in."""
    labels = [label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]]
    room = _LEGEND // (max(map(len, labels)) + _MARK)
    figure.legend(loc="outside lower center", ncols=max(1, min(most, len(labels), room)), fontsize=9)


def plain(name: str) -> str:
    """A label that the legend shows: matplotlib hides those that begin with an underscore."""
    return f" {name}" if name.startswith("_") else name
