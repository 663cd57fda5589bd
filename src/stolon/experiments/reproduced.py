"""What the papers' tables and figures, made anew, have in common, whatever the paper."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stolon import durable
from stolon.errors import DataMissingError
from stolon.experiments import report
from stolon.experiments.report_parts import Section
from stolon.experiments.results import Record
from stolon.tasks import Stream


def opened(make: Callable[[], Stream], stream: str, known: Iterable[str]) -> Stream:
    """A stream, before anything runs: where its data are missing, that is told now.

    Args:
        make: makes it.
        stream: its name.
        known: all that there are settings for.

    Raises:
        DataMissingError: the data are not there; says which streams there are besides.
        DataError: the data are not what they should be.
    """
    try:
        return make()
    except DataMissingError as error:
        others = ", ".join(name for name in known if name != stream)
        raise DataMissingError(f"{error}; or take --stream from {others}") from error


def publish(folder: Path, title: str, streams: Sequence[tuple[str, Sequence[Section]]]) -> Path:
    """Write ``report.html`` and ``report.md``; the path of the former.

    Args:
        folder: where.
        title: of the page.
        streams: their names and what there is to tell of them, at least one.

    Raises:
        StoreError: the reports could not be written.
    """
    each = [Section(name, sections=parts) for name, parts in streams]
    page, _ = report.publish(folder, title, each if len(each) > 1 else each[0].sections)
    return page


def keep(path: Path, command: str, streams: Mapping[str, Any]) -> None:
    """Write what is worth keeping of each stream, JSON values, durably."""
    durable.write(path, (json.dumps({"command": command, "runs": streams}) + "\n").encode())


def kept_tables(parts: Iterable[Section]) -> list[dict[str, Any]]:
    """The tables of sections as JSON values."""
    return [
        {"caption": t.caption, "columns": list(t.columns), "rows": [list(row) for row in t.rows]}
        for part in parts
        for t in part.tables
    ]


def origin(records: Iterable[Record], command: str) -> Section:
    """Where numbers come from: of a folder that another figure may have begun, with this one's command."""
    begun = [
        replace(record, data={**record.data, "command": command})
        for record in records
        if record.kind in ("experiment", "trial")
    ]
    return report.provenance(begun)
