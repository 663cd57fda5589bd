"""From an agent's values to HTML: each part of the page on its own, so that it can be refreshed on its own."""

import base64
import hashlib
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from stolon.shell.web.facade import AgentView, Answer, Confusion
from stolon.shell.web.limits import Limits
from stolon.shell.web.wording import FILTERS

__all__ = ["PARTS", "Drawing", "Part", "seen_as"]

PARTS: Final = {"learning": 2, "tasks": 3, "confusion": 10, "offers": 5, "peers": 3, "costs": 5}
"""The parts that are refreshed, with the seconds between two refreshes."""


@final
@dataclass(frozen=True)
class Part:
    """A part of the page.

    Attributes:
        name: one of :data:`PARTS`.
        mark: changes with the content; a browser that says it has this one is sent nothing.
        html: all of it.
    """

    name: str
    mark: str
    html: Markup


@final
class Drawing:
    """Draws the page of one agent.

    Args:
        view: the agent.
        limits: how much is shown at once.
        files: the version of each static file, by its name; part of their addresses.
    """

    def __init__(self, view: AgentView, limits: Limits, files: Mapping[str, str]) -> None:
        self._view = view
        self._limits = limits
        self._environment = Environment(
            loader=PackageLoader("stolon.shell.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(FILTERS)
        self._environment.globals.update(files=dict(files), limits=limits)
        self._values: dict[str, Callable[[int], dict[str, Any]]] = {
            "learning": lambda _: {"progress": view.learning()},
            "tasks": self._tasks,
            "confusion": lambda _: _confusion(view.confusion(), limits.matrix),
            "offers": lambda _: {"offers": view.offers()},
            "peers": lambda _: {"peers": view.peers()},
            "costs": lambda _: {"costs": view.costs()},
        }

    def page(self, number: int = 1, answer: Markup | str = "") -> str:
        """The whole page.

        Args:
            number: which page of the list of tasks it shows, from 1.
            answer: what is shown as the answer, drawn already.
        """
        parts = {name: self.part(name, number).html for name in PARTS}
        return self._draw("page", agent=self._view.identity(), parts=parts, answer=answer)

    def part(self, name: str, number: int = 1) -> Part:
        """One part; ``number`` as in :meth:`page`.

        Raises:
            KeyError: there is no such part.
        """
        content = Markup(self._draw(name, **self._values[name](number)))  # noqa: S704 - drawn with escaping
        mark = hashlib.sha256(content.encode()).hexdigest()[:16]
        every = PARTS[name]
        html = self._draw("part", name=name, mark=mark, content=content, every=every, number=number)
        return Part(name, mark, Markup(html))  # noqa: S704 - as above

    def answer(self, answer: Answer, picture: str) -> Markup:
        """The answer to a picture, which is shown as ``picture``, a ``data:`` address."""
        return Markup(self._draw("answer", answer=answer, picture=picture, size=self._view.size))  # noqa: S704

    def refusal(self, sentence: str) -> Markup:
        """Why there is no answer."""
        return Markup(self._draw("refusal", sentence=sentence))  # noqa: S704 - as above

    def _draw(self, template: str, **values: Any) -> str:  # noqa: ANN401 - whatever the template takes
        return self._environment.get_template(f"{template}.html.jinja").render(values)

    def _tasks(self, number: int) -> dict[str, Any]:
        tasks = self._view.tasks()
        pages = max(1, math.ceil(len(tasks) / self._limits.rows))
        number = min(max(number, 1), pages)
        start = (number - 1) * self._limits.rows
        return {
            "tasks": tasks[start : start + self._limits.rows],
            "total": len(tasks),
            "active": sum(task.active for task in tasks),
            "number": number,
            "pages": pages,
        }


def seen_as(pixels: NDArray[np.uint8]) -> str:
    """Pixels uint8 [3, S, S] as the ``data:`` address of a PNG, drawn from them and not from the upload."""
    file = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(file, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _confusion(found: Confusion | None, most: int) -> dict[str, Any]:
    """The matrix in steps of a tenth, or, for many tasks, what is most often taken for something else."""
    if found is None or not found.tasks:
        return {"tasks": (), "rows": (), "largest": (), "right": None}
    tasks = tuple(found.tasks)
    right = [row[i] for i, row in enumerate(found.shares) if math.isfinite(row[i])]
    mean = sum(right) / len(right) if right else None
    if len(tasks) <= most:
        rows = [
            (name, [(share, _step(share), column == row) for column, share in enumerate(shares)])
            for row, (name, shares) in enumerate(zip(tasks, found.shares, strict=True))
        ]
        return {"tasks": tasks, "rows": rows, "largest": (), "right": mean}
    names = (*tasks, None)  # None: unknown
    pairs = [
        (share, tasks[row], names[column])
        for row, shares in enumerate(found.shares)
        for column, share in enumerate(shares)
        if column != row and share >= 0.005
    ]
    pairs.sort(key=lambda pair: -pair[0])
    return {"tasks": tasks, "rows": (), "largest": pairs[:20], "right": mean}


def _step(share: float) -> int:
    """0 to 10; what is there at all is at least 1."""
    if not share >= 0.005:
        return 0
    return min(max(round(share * 10), 1), 10)
