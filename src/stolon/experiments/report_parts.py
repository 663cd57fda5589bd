"""What a report is made of; :mod:`stolon.experiments.report` writes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from stolon.experiments.drawing import Figure


@final
@dataclass(frozen=True)
class Table:
    """Rows of text.

    Attributes:
        columns: headings.
        rows: as many entries each.
        caption: what it shows.
        collapsed: shown only when asked for.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    collapsed: bool = False


@final
@dataclass(frozen=True)
class Section:
    """A part of a report; everything is optional but the title.

    Attributes:
        title: its heading.
        text: plain text; an empty line begins a new paragraph.
        tables: shown after the text.
        figures: shown after the tables.
        html: more, for the HTML report; escaped unless it is a ``markupsafe.Markup``, which is trusted.
        markdown: the same for the Markdown report; taken as it is.
        sections: parts of this one.
    """

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    html: str = ""
    markdown: str = ""
    sections: Sequence["Section"] = ()

    @property
    def paragraphs(self) -> list[str]:
        """The text, cut at empty lines."""
        return [part.strip() for part in self.text.split("\n\n") if part.strip()]
