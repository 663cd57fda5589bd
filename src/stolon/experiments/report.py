"""The report of a results file: one HTML file that needs no other, and the same as Markdown.

Everything is drawn from the results file alone. A report is a list of :class:`Section`, so that others can
add theirs. All text is escaped: names of tasks and classes are whatever somebody called a folder.
"""

import base64
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stolon import durable, measure
from stolon.errors import StoreDamagedError
from stolon.experiments import bindings
from stolon.experiments.drawing import Figure
from stolon.experiments.figures import curves, heat_map
from stolon.experiments.lasem import choices
from stolon.experiments.report_parts import Section, Table
from stolon.experiments.results import Record, Results
from stolon.experiments.summary import COLUMNS, Group, groups

__all__ = ["Figure", "Section", "Table", "html", "markdown", "publish", "sections", "write"]


def write(
    results: str | Path, folder: str | Path | None = None, *, extra: Sequence[Section] = (), title: str = ""
) -> tuple[Path, Path]:
    """Draw a results file as ``report.html`` and ``report.md`` (with its pictures in ``report-figures``).

    Args:
        results: the results file.
        folder: where the reports go; beside the results by default.
        extra: sections shown after the summary.
        title: of the report; the experiment's name by default.

    Returns:
        The paths of the HTML and of the Markdown file.

    Raises:
        StoreError: the results cannot be read, or the reports not be written.
    """
    path = Path(results)
    records = Results(path).read()
    if not records:
        raise StoreDamagedError(
            f"expected records of an experiment in {path}, found none; is this the right file?"
        )
    return publish(
        path.parent if folder is None else Path(folder),
        title or f"Experiment {records[0].experiment}",
        sections(records, extra),
    )


def publish(folder: Path, title: str, parts: Sequence[Section], *, reload_s: int = 0) -> tuple[Path, Path]:
    """Write sections as ``report.html`` and ``report.md`` (with its pictures in ``report-figures``).

    Args:
        folder: where they go.
        title: their heading.
        parts: what they say.
        reload_s: after so many seconds a browser loads the page again; 0: never.

    Returns:
        The paths of the HTML and of the Markdown file.

    Raises:
        StoreError: the reports could not be written.
    """
    page, text = folder / "report.html", folder / "report.md"
    durable.write(page, html(title, parts, reload_s=reload_s).encode())
    for figure_path, figure in _named(parts):
        durable.write(folder / figure_path, figure.data)
    durable.write(text, markdown(title, parts).encode())
    return page, text


def sections(records: Sequence[Record], extra: Sequence[Section] = ()) -> list[Section]:
    """What the records say, as sections: summary, extra ones, each stream, where it all comes from.

    Raises:
        StoreDamagedError: a record lacks what its kind has.
    """
    try:
        found = groups(records)
        by_stream: dict[str, list[Group]] = {}
        for group in found:
            by_stream.setdefault(group.stream, []).append(group)
        return [
            _summary(found),
            *extra,
            *(_stream(stream, members) for stream, members in by_stream.items()),
            provenance(records),
        ]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise StoreDamagedError(f"a record of the results lacks something: {error!r}") from error


def html(title: str, parts: Sequence[Section], *, reload_s: int = 0) -> str:
    """The report as one HTML page; pictures are inside, nothing is loaded from elsewhere.

    ``reload_s`` is as :func:`publish` has it.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("stolon.experiments"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    return environment.get_template("report.html.jinja").render(
        title=title, sections=parts, reload_s=reload_s
    )


def markdown(title: str, parts: Sequence[Section]) -> str:
    """The report as Markdown; its pictures are files that :func:`write` puts beside it."""
    names = {id(figure): path for path, figure in _named(parts)}
    lines = [f"# {_md(title)}", ""]
    for part in parts:
        lines += _markdown(part, 2, names)
    return "\n".join(lines)


# What is told


def _summary(found: Sequence[Group]) -> Section:
    rows = []
    for group in found:
        row = [group.stream, group.learner, f"{len(group.finished)}/{len(group.outcomes)}"]
        for column in COLUMNS:
            interval = column.interval(group)
            row.append("–" if interval is None else _number(*interval[0], column.unit))
        rows.append(row)
    headings = [f"{c.title} [%]" if c.unit == "%" else c.title for c in COLUMNS]
    shown = [i for i in range(len(COLUMNS)) if any(row[i + 3] != "–" for row in rows)]
    table = Table(
        ("stream", "learner", "seeds", *(headings[i] for i in shown)),
        [(*row[:3], *(row[i + 3] for i in shown)) for row in rows],
        "Mean ± half-width of the 95 % Student interval over seeds",
    )
    meaning = Table(
        ("column", "meaning"),
        [(headings[i], COLUMNS[i].explanation) for i in shown],
        "What the columns mean",
        collapsed=True,
    )
    failures = [(g.stream, g.learner, str(o.seed), o.failure) for g in found for o in g.outcomes if o.failure]
    tables = [table, meaning]
    if failures:
        tables.append(Table(("stream", "learner", "seed", "error"), failures, "Trials that failed"))
    open_ = sum(not o.is_done and not o.failure for g in found for o in g.outcomes)
    text = f"{open_} trial(s) are not finished; means are over the finished ones." if open_ else ""
    return Section("Summary", text if found else "No trial has begun.", tables if found else ())


def _stream(stream: str, members: Sequence[Group]) -> Section:
    drawn = [group for group in members if group.drawn]
    average = {g.learner: _over_time(g, lambda o: o.matrix.average_over_time()) for g in drawn}
    first = {g.learner: _over_time(g, lambda o: o.matrix.over_time()) for g in drawn}
    band = " Bands are 95 % intervals over seeds." if any(len(g.drawn) > 1 for g in drawn) else ""
    figures = []
    if drawn:
        name = drawn[0].task_names()[0]
        for title, lines, what in (
            ("All tasks so far", average, "mean accuracy on all tasks learned so far"),
            (f"The first task, {name}", first, f"accuracy on the first task, {name}"),
        ):
            figures.append(
                curves(
                    lines,
                    title=title,
                    x_title="tasks learned",
                    y_title="test accuracy",
                    alt=f"Curves of the {what}, after each task. {_ends(lines)}",
                    caption=f"{what[0].upper()}{what[1:]}.{band}",
                )
            )
    return Section(
        f"Stream {stream}",
        "" if drawn else "No task was learned yet.",
        figures=figures,
        sections=[_group(group) for group in drawn],
    )


def _group(group: Group) -> Section:
    names, matrix = group.task_names(), group.mean_matrix()
    seeds = "" if len(group.drawn) == 1 else f", mean over {len(group.drawn)} seeds"
    figures = [
        heat_map(
            matrix,
            [f"{i + 1}  {name}" for i, name in enumerate(names)],
            names,
            title=f"{group.learner}: accuracy after each task",
            row_title="after learning",
            column_title="on",
            alt=f"Heat map of {group.learner}'s test accuracy on each task after each task. "
            f"The numbers are in the table.",
            caption=f"Test accuracy in percent with the task's name given{seeds}.",
        ),
        curves(
            {
                name: [(i + 1, matrix[i, j], math.nan) for i in range(j, len(names))]
                for j, name in enumerate(names)
            },
            title=f"{group.learner}: each task over time",
            x_title="tasks learned",
            y_title="test accuracy",
            alt=f"Curves of {group.learner}'s accuracy on each task after it was learned.",
            caption=f"Each task from when it was learned{seeds}.",
        ),
    ]
    confusion = group.mean_confusion()
    if confusion is not None:
        figures.append(
            heat_map(
                confusion,
                names,
                [*names, "unknown"],
                title=f"{group.learner}: which task is an input taken for?",
                row_title="true task",
                column_title="inferred task",
                alt=f"Heat map of the confusion among tasks. Rightly named are "
                f"{_percent(float(confusion.diagonal().mean()))} on the mean over tasks.",
                caption=f"Share of each task's test inputs, after the last task{seeds}.",
            )
        )
    table = Table(
        ("after", *names),
        [
            (name, *(_percent(value) if math.isfinite(value) else "" for value in row))
            for name, row in zip(names, matrix.tolist(), strict=True)
        ],
        "Accuracies as a table",
        collapsed=True,
    )
    explained = [part for part in (choices.section(group), bindings.section(group)) if part is not None]
    return Section(group.learner, tables=[table], figures=figures, sections=explained)


def provenance(records: Sequence[Record]) -> Section:
    begun = [record for record in records if record.kind == "experiment"]
    rows: list[tuple[str, str]] = []
    if begun:
        rows += [("experiment", begun[0].experiment), ("begun", begun[0].time)]
        rows += [("command", begun[0].data["command"])] if begun[0].data.get("command") else []
    rows += [("seeds", ", ".join(map(str, sorted({r.seed for r in records if r.seed >= 0}))))]
    for title, values in (
        ("versions", [r.versions for r in records]),
        ("hardware", [r.hardware for r in records]),
    ):
        for each in dict.fromkeys(json.dumps(dict(value), sort_keys=True) for value in values):
            told = ", ".join(f"{key} {value}" for key, value in json.loads(each).items())
            rows.append((title, told))
    recipe = json.dumps(begun[0].data["recipe"], indent=1, sort_keys=True) if begun else ""
    settings = Table(("setting",), [(line,) for line in recipe.splitlines()], "Settings", collapsed=True)
    return Section(
        "Where this comes from", tables=[Table(("what", "value"), rows), *([settings] if recipe else [])]
    )


def _over_time(group: Group, of: Any) -> list[tuple[float, float, float]]:  # noqa: ANN401 - a lambda
    """Points (tasks learned, mean, half-width) over the outcomes drawn."""
    series = [of(outcome) for outcome in group.drawn]
    points = []
    for index in range(max(map(len, series))):
        mean, half = measure.interval(values[index] for values in series if index < len(values))
        points.append((float(index + 1), mean, half))
    return points


def _ends(lines: dict[str, list[tuple[float, float, float]]]) -> str:
    return " ".join(
        f"{name}: from {_percent(points[0][1])} to {_percent(points[-1][1])}."
        for name, points in lines.items()
    )


# How it is written


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _number(mean: float, half: float, unit: str) -> str:
    """A mean and its half-width in a readable unit."""
    if unit == "%":
        scale, digits, word = 0.01, 1, ""
    elif unit == "ratio":
        scale, digits, word = 1.0, 3, ""
    elif unit == "s":
        scale, digits, word = 1.0, 1, " s"
    else:
        power = min(max(int(math.log10(abs(mean)) // 3), 0), 6) if mean else 0
        prefix = ("", "k", "M", "G", "T", "P", "E")[power]
        scale, digits, word = 1000.0**power, 2 if power else 0, f" {prefix}{unit}"
    told = f"{mean / scale:.{digits}f}"
    if not math.isfinite(half) or (
        half == 0 and unit in ("MAC", "B")
    ):  # one seed, or counts that never differ
        return f"{told}{word}"
    return f"{told} ± {half / scale:.{digits}f}{word}"


def _data_uri(figure: Figure) -> str:
    return f"data:{figure.media_type};base64,{base64.b64encode(figure.data).decode()}"


def _named(parts: Iterable[Section]) -> list[tuple[str, Figure]]:
    """All figures with the paths, beside the report, that its Markdown shows them by."""
    found: list[Figure] = []

    def collect(part: Section) -> None:
        found.extend(part.figures)
        for inner in part.sections:
            collect(inner)

    for part in parts:
        collect(part)
    return [(f"report-figures/{index:03d}{figure.suffix}", figure) for index, figure in enumerate(found, 1)]


def _markdown(part: Section, level: int, names: dict[int, str]) -> list[str]:
    lines = [f"{'#' * level} {_md(part.title)}", ""]
    for paragraph in part.paragraphs:
        lines += [_md(paragraph), ""]
    for table in part.tables:
        if table.caption:
            lines += [f"{_md(table.caption)}:", ""]
        lines.append("| " + " | ".join(map(_md, table.columns)) + " |")
        lines.append("|" + " --- |" * len(table.columns))
        lines += ["| " + " | ".join(map(_md, row)) + " |" for row in table.rows]
        lines.append("")
    for figure in part.figures:
        lines += [f"![{_md(figure.alt)}]({names[id(figure)]})", ""]
        lines += [_md(figure.caption), ""] if figure.caption else []
    if part.markdown:
        lines += [part.markdown, ""]
    for inner in part.sections:
        lines += _markdown(inner, level + 1, names)
    return lines


def _md(text: str) -> str:
    """Text that Markdown, and HTML inside it, take as it is."""
    escaped = "".join(f"\\{c}" if c in r"\`*_{}[]()#+!|~$^" else c for c in " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
