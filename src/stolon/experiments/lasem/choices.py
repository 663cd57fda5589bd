"""What methods of selective transfer chose, how sure they were, and how they came to it: a part of reports.

Read from the notes of the epochs alone: ``"configuration"`` is the choice at that moment, ``"posterior"`` the mean
posterior of the epoch (LASEM), ``"shared"`` the weight of each layer's shared variant (DARTS). Brute force trains one
candidate per phase; its choice is the one of the best validation accuracy, of equals the first.

Source:
    Lee et al., ICML 2021, figure 5, and its submission to ICLR 2021, figures 4 and 8: the histogram of chosen
    configurations, and the share of tasks that transfer each layer.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np

from stolon.experiments.drawing import Figure
from stolon.experiments.figures import bars, heat_map, timeline
from stolon.experiments.report_parts import Section, Table
from stolon.experiments.summary import Group, Note, Outcome

MOST: Final = 8
"""Configurations of a histogram, as many as in the paper's; the others are told together."""


@final
@dataclass(frozen=True)
class Choice:
    """What was chosen for a task.

    Attributes:
        task: its name.
        configuration: as the notes have it: a digit for each layer, ``"10|11"`` where layers have parts.
        layers: how surely each layer is shared at the end, 0 to 1: marginal posterior, DARTS' weight, or 0 and 1.
        probability: posterior of the choice in the last epoch; None where the method has none.
        moved: ``layers`` after each epoch.
    """

    task: str
    configuration: str
    layers: tuple[float, ...]
    probability: float | None
    moved: tuple[tuple[float, ...], ...]

    @property
    def words(self) -> str:
        """The layers that it shares, for people."""
        return shared_words(self.configuration)


def shared_words(configuration: str) -> str:
    """The layers that a configuration shares, counted from 1.

    Example:
        >>> shared_words("0101"), shared_words("000"), shared_words("10|11")
        ('2, 4', 'none', '1 (1/2), 2')
    """
    told = []
    for number, share in enumerate(_rows(configuration), start=1):
        if share:
            parts = len(configuration.split("|")[number - 1]) if "|" in configuration else 1
            told.append(str(number) if share == 1 else f"{number} ({round(share * parts)}/{parts})")
    return ", ".join(told) or "none"


def marginals(said: Mapping[str, Any]) -> tuple[float, ...]:
    """How surely each layer is shared by what a note says, 0 to 1.

    Example:
        >>> marginals({"configuration": "10", "posterior": {"10": 0.75, "11": 0.25}})
        (1.0, 0.25)
    """
    if posterior := said.get("posterior"):
        whole = sum(posterior.values())  # the least probable are not told
        rows = [(weight / whole, _rows(text)) for text, weight in posterior.items()]
        return tuple(sum(w * row[layer] for w, row in rows) for layer in range(len(rows[0][1])))
    if shared := said.get("shared"):
        return tuple(map(float, shared))
    return _rows(said["configuration"])


def choices(outcome: Outcome) -> tuple[Choice, ...]:
    """What was chosen for each task that was learned, in order; empty where the method tells no configurations."""
    learned = set(outcome.matrix.tasks)
    found = []
    for task, group in itertools.groupby(outcome.notes, key=lambda note: note.task):
        notes = [note for note in group if "configuration" in note.said]
        if notes and task in learned:
            found.append(_choice(task, notes))
    return tuple(found)


def section(group: Group) -> Section | None:
    """A learner's choices, explained; None where it did not choose."""
    told = [(outcome, choices(outcome)) for outcome in group.drawn]
    told = [(outcome, made) for outcome, made in told if made]
    if not told or not _chooses(told[0][0]):
        return None
    outcome, made = told[0]
    every = [choice for _, of_one in told for choice in of_one]
    seeds = "one seed" if len(told) == 1 else f"{len(told)} seeds"
    figures = [] if not made[0].moved else [_moved(group.learner, outcome.seed, made)]
    figures += [_histogram(group.learner, every, seeds), _layers(group.learner, every, seeds)]
    if len({len(of_one) for _, of_one in told}) == 1:
        figures.append(_map(group.learner, [of_one for _, of_one in told], seeds))
    return Section(
        f"{group.learner}: which layers are shared",
        _words(every),
        [_table(outcome.seed, made)],
        figures,
    )


def _choice(task: str, notes: Sequence[Note]) -> Choice:
    if len({note.phase for note in notes}) > 1:  # a phase for each candidate
        best = max(notes, key=lambda note: -1.0 if note.val_accuracy is None else note.val_accuracy)
        return Choice(task, best.said["configuration"], _rows(best.said["configuration"]), None, ())
    last = notes[-1].said
    configuration = last["configuration"]
    posterior = last.get("posterior")
    return Choice(
        task,
        configuration,
        marginals(last),
        None if posterior is None else float(posterior.get(configuration, 0.0)),
        tuple(marginals(note.said) for note in notes),
    )


def _chooses(outcome: Outcome) -> bool:
    """Whether a method chose: one that always shares the same has nothing to explain."""
    phases = {note.phase for note in outcome.notes}
    return len(phases) > 1 or any(set(note.said) & {"posterior", "shared"} for note in outcome.notes)


def _rows(configuration: str) -> tuple[float, ...]:
    """Share of each layer's parts that are shared."""
    rows = configuration.split("|") if "|" in configuration else list(configuration)
    return tuple(row.count("1") / len(row) for row in rows)


def _table(seed: int, made: Sequence[Choice]) -> Table:
    layers = [f"layer {i}" for i in range(1, len(made[0].layers) + 1)]
    rows = [
        (
            choice.task,
            choice.words,
            choice.configuration,
            "–" if choice.probability is None else _percent(choice.probability),
            *map(_percent, choice.layers),
        )
        for choice in made
    ]
    return Table(
        ("task", "shares layers", "configuration", "how sure", *layers),
        rows,
        f"Seed {seed}: what each task shares; how sure of this configuration, and of sharing each layer, in the last "
        "epoch",
    )


def _words(every: Sequence[Choice]) -> str:
    counts = Counter(choice.configuration for choice in every)
    configuration, count = counts.most_common(1)[0]
    text = (
        f"In a configuration a 1 is a layer that is shared, the first layer first. {len(counts)} different ones were "
        f"chosen for {len(every)} tasks, most often {configuration} ({count} times)."
    )
    sure = [choice.probability for choice in every if choice.probability is not None]
    if sure:
        text += (
            f" The posterior of the choice in the last epoch was {_percent(min(sure))} to {_percent(max(sure))}, on "
            f"the mean {_percent(sum(sure) / len(sure))}."
        )
    return text


def _moved(learner: str, seed: int, made: Sequence[Choice]) -> Figure:
    values = np.array([row for choice in made for row in choice.moved]).T
    ends = np.cumsum([len(choice.moved) for choice in made]).tolist()
    return timeline(
        values,
        [f"layer {i}" for i in range(1, len(values) + 1)],
        ends,
        title=f"{learner}: how it came to it",
        x_title="epochs, task after task",
        alt=f"For each layer, how surely {learner} shares it after each epoch. Where it ends is in the table.",
        caption=f"How surely each layer is shared, epoch after epoch; lines are where a task ends (seed {seed}).",
    )


def _histogram(learner: str, every: Sequence[Choice], seeds: str) -> Figure:
    counts = Counter(choice.configuration for choice in every)
    common = counts.most_common(MOST)
    shares = {configuration: count / len(every) for configuration, count in common}
    if rest := len(every) - sum(count for _, count in common):
        shares[f"{len(counts) - MOST} others"] = rest / len(every)
    caption = f"Chosen configurations, most frequent first; all tasks of {seeds}."
    return _of_tasks(shares, f"{learner}: chosen configurations", caption)


def _layers(learner: str, every: Sequence[Choice], seeds: str) -> Figure:
    rows = np.array([_rows(choice.configuration) for choice in every]).mean(0)
    shares = {f"layer {i}": float(share) for i, share in enumerate(rows, start=1)}
    caption = f"Share of tasks that transfer each layer; all tasks of {seeds}."
    return _of_tasks(shares, f"{learner}: how often each layer is shared", caption)


def _of_tasks(shares: Mapping[str, float], title: str, caption: str) -> Figure:
    """Shares of tasks as bars, told in words too."""
    told = ", ".join(f"{name} {_percent(share)}" for name, share in shares.items())
    return bars(shares, title=title, x_title="share of tasks", alt=f"Bars: {told} of tasks.", caption=caption)


def _map(learner: str, made: Sequence[Sequence[Choice]], seeds: str) -> Figure:
    values = np.array([[choice.layers for choice in of_one] for of_one in made]).mean(0)
    return heat_map(
        values,
        [f"{i}  {choice.task}" for i, choice in enumerate(made[0], start=1)],
        [f"layer {i}" for i in range(1, values.shape[1] + 1)],
        title=f"{learner}: how surely each task shares each layer",
        row_title="task",
        column_title="",
        alt=f"Heat map of how surely each task shares each layer, mean over {seeds}.",
        caption=f"How surely each layer is shared in the last epoch, mean over {seeds}.",
    )


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"
