"""The report of a search over grow sequences: its Pareto plot, its best solutions and why they grew as they did.

Everything is drawn from the journal alone, also while the search goes on.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stolon.experiments import report
from stolon.experiments.bindings import explained
from stolon.experiments.drawing import COLOURS, Figure, canvas, legend, short, svg
from stolon.experiments.report_parts import Section, Table
from stolon.experiments.results import Record
from stolon.growth.search import Tried, Written, best, read
from stolon.growth.sequences import Outcome
from stolon.records import Json

COLUMNS = (
    "trial",
    "gain [points]",
    "of test [points]",
    "Δ",
    "parameters",
    "of full growth",
    "bytes",
    "sequence",
)
_RELOAD_S = 5
_MANY = 8  # more solutions than this are not labelled


def publish(journal: Path, *, is_live: bool = False) -> Path:
    """Draw a search's journal as ``report.html`` and ``report.md`` beside it; the path of the former.

    Args:
        journal: the search's.
        is_live: whether the search goes on: a browser then loads the page again every few seconds.

    Raises:
        StoreError: the journal cannot be read, or the reports not be written.
    """
    written = read(journal)
    title = f"Search over grow sequences: {written.recipe['stream']}"
    page, _ = report.publish(journal.parent, title, sections(written), reload_s=_RELOAD_S if is_live else 0)
    return page


def sections(written: Written) -> list[Section]:
    """The front, what was tried, why solutions grew as they did, and where it all comes from."""
    chosen = best(written.trials)
    return [
        front(written, chosen),
        Section(
            "Why they grew as they did",
            f"What was decided for each task of the solutions above; scores are {_measured(written)}.",
            sections=[
                _why(trial, trial.outcome, int(written.recipe["search"]["seed"]))
                for trial in chosen
                if trial.outcome is not None
            ],
        ),
        _tried(written.trials),
        report.provenance([_begun(written)]),
    ]


def _measured(written: Written) -> str:
    settings = written.recipe["settings"]
    kind = "similarities, as released" if settings["as_released"] else "dissimilarities"
    return f"{kind} ({settings['similarity']})"


def front(written: Written, chosen: Sequence[Tried]) -> Section:
    """The Pareto plot, and its solutions as a table."""
    done = [trial for trial in written.trials if trial.outcome is not None]
    text = (
        f"{len(done)} of {len(written.trials)} trial(s) are done. The gain is the mean validation accuracy after the "
        "last task less that of networks that each learn one task alone; no choice is made by test accuracy. Δ is the "
        "paper's sum of relative changes of validation error: below 0 is better. Solutions of the front are those that "
        "no other beats in both gain and parameters."
    )
    return Section(
        "The Pareto front",
        text if done else "No trial has ended yet.",
        [Table(COLUMNS, [_row(trial, trial.outcome) for trial in chosen if trial.outcome is not None])]
        if done
        else [],
        [picture(done, chosen)] if done else [],
    )


def picture(done: Sequence[Tried], chosen: Sequence[Tried]) -> Figure:
    """All trials by parameters and gain; the front as a line, its solutions labelled by their delta or number.

    Args:
        done: trials that ended well; at least one.
        chosen: those of the front, by ascending parameters.
    """
    points = [(*_place(trial), trial) for trial in done]
    line = [_place(trial) for trial in chosen]
    with canvas(4.2) as (figure, axes):
        axes.scatter(
            [x for x, _, _ in points], [y for _, y, _ in points], s=28, color="#9a9a9a", label="tried"
        )
        axes.plot(
            *zip(*line, strict=True),
            drawstyle="steps-post",
            color=COLOURS[0],
            linewidth=1.2,
            zorder=2,
        )
        axes.scatter(*zip(*line, strict=True), s=64, marker="s", facecolors="none", edgecolors=COLOURS[0],
                     linewidths=1.6, label="not dominated", zorder=3)  # fmt: skip
        if len(chosen) <= _MANY:
            for (x, y), trial in zip(line, chosen, strict=True):
                axes.annotate(label(trial), (x, y), xytext=(6, -11), textcoords="offset points", fontsize=9)
        axes.axhline(0, color="#888888", linestyle="--", linewidth=1)
        axes.set(title="Gain and size of all trials", xlabel="parameters", ylabel="average gain [points]")
        axes.xaxis.set_major_formatter(lambda value, _: _si(value))
        axes.grid(visible=True)
        axes.set_axisbelow(True)
        legend(figure, 2)
        told = "; ".join(f"{label(trial)}: {y:+.1f} points with {_si(x)} parameters" for (x, y), trial in
                         zip(line, chosen, strict=True))  # fmt: skip
        return Figure(
            svg(figure),
            f"Average gain in points of validation accuracy, by parameters. Not dominated: {told}.",
            "Each point is a trial; above the dashed line tasks gain from each other.",
        )


def label(trial: Tried) -> str:
    """A trial in a word: its delta, where all tasks share one, or its number."""
    deltas = {step.delta for step in trial.sequence.steps[1:]}
    return f"δ {deltas.pop():g}" if len(deltas) == 1 else f"#{trial.number}"


def row(outcome: Outcome) -> tuple[str, ...]:
    """An outcome as the tables tell it: all of :data:`COLUMNS` but the first and the last."""
    test = outcome.test_gain
    return (
        f"{100 * outcome.gain:+.2f}",
        "–" if test is None else f"{100 * test:+.2f}",
        f"{outcome.error_change:+.3f}",
        f"{outcome.parameters:,}",
        f"{100 * outcome.parameters / outcome.parameters_apart:.1f} %",
        f"{outcome.bytes:,}",
    )


def _row(trial: Tried, outcome: Outcome) -> tuple[str, ...]:
    return (str(trial.number), *row(outcome), str(trial.sequence))


def _place(trial: Tried) -> tuple[float, float]:
    assert trial.outcome is not None
    return float(trial.outcome.parameters), 100 * trial.outcome.gain


def _why(trial: Tried, outcome: Outcome, seed: int) -> Section:
    """A solution's accuracies, its joint network, and the scores that it follows from."""
    rows = [
        (
            step.task,
            f"{100 * outcome.val[step.task]:.1f}",
            f"{100 * outcome.alone_val[step.task]:.1f}",
            str(growth),
        )
        for step, growth in zip(trial.sequence.steps, outcome.growths, strict=True)
    ]
    columns = ("task", "accuracy", "alone", "what was decided")
    accuracies = Table(columns, rows, "Validation accuracy in percent", collapsed=True)
    found = {growth.task: growth.to_json() for growth in outcome.growths}
    why = explained(_title(trial), [(seed, found)])
    return replace(why, tables=[accuracies, *why.tables])


def _title(trial: Tried) -> str:
    found = label(trial)
    return f"Trial {trial.number}" if found.startswith("#") else f"Trial {trial.number} ({found})"


def _tried(trials: Sequence[Tried]) -> Section:
    done = [_row(trial, trial.outcome) for trial in trials if trial.outcome is not None]
    tables = [Table(COLUMNS, done, "All that is done", collapsed=True)] if done else []
    failed = [
        (str(trial.number), short(trial.error, 400), str(trial.sequence)) for trial in trials if trial.error
    ]
    if failed:
        tables.append(Table(("trial", "error", "sequence"), failed, "Trials that failed"))
    outcomes = [trial.outcome for trial in trials if trial.outcome is not None]
    learned = sum(len(outcome.learned) for outcome in outcomes)
    tasks = sum(len(outcome.sequence.steps) for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    text = (
        f"Trials took {seconds:,.1f} s in all by the clock. Of {tasks} tasks to learn {learned} were learned; the "
        "other beginnings of sequences were decided as in earlier trials, and taken from there."
    )
    return Section("What was tried", text if outcomes else "", tables)


def _begun(written: Written) -> Record:
    about: Mapping[str, Any] = written.about
    known = {field.name for field in dataclasses.fields(Record)}
    told: dict[str, Json] = {key: value for key, value in about.items() if key in known}
    data = {"command": told.pop("data", {}).get("command", ""), "recipe": dict(written.recipe)}
    return Record(**{"kind": "experiment", "experiment": "search", **told, "data": data, "where": ()})


def _si(value: float) -> str:
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:g}"
