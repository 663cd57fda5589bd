"""Which tasks of bind-and-grow were bound to which, where they grew, and why: a part of reports.

Read from the notes of the epochs alone (:class:`stolon.growth.explanation.Growth`), from which the joint network
follows: on a unit that a task grew its own node stands on its route, on the others the node of the task that it was
bound to.

Source:
    "Learn to Bind and Grow Neural Structures", figure 1: the joint network.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from stolon.experiments.drawing import Figure
from stolon.experiments.network_picture import network
from stolon.experiments.report_parts import Section, Table
from stolon.experiments.summary import Group, Outcome


def growths(outcome: Outcome) -> dict[str, Mapping[str, Any]]:
    """What was decided for each task that was learned, in order; empty where the method grows nothing.

    The first task, for which nothing was to be decided, is there with nobody that it was bound to.
    """
    told = {note.task: note.said for note in outcome.notes if {"bound", "grown", "units"} <= set(note.said)}
    tasks = [task for task in outcome.matrix.tasks if task in told]
    if not tasks:
        return {}
    first = outcome.matrix.tasks[0]
    units = told[tasks[0]]["units"]
    return {first: {"bound": None, "grown": units, "units": units}, **{task: told[task] for task in tasks}}


def routes(found: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """For each task the tasks that the nodes on its route were made for, unit by unit.

    Example:
        >>> routes(
        ...     {
        ...         "a": {"bound": None, "grown": ["1", "2"], "units": ["1", "2"]},
        ...         "b": {"bound": "a", "grown": ["2"], "units": ["1", "2"]},
        ...     }
        ... )
        {'a': ('a', 'a'), 'b': ('a', 'b')}
    """
    made: dict[str, tuple[str, ...]] = {}
    for task, said in found.items():
        bound = said["bound"]
        made[task] = tuple(
            task if bound is None or unit in said["grown"] else made[bound][i]
            for i, unit in enumerate(said["units"])
        )
    return made


def section(group: Group) -> Section | None:
    """A learner's joint network, drawn and explained; None where it has none."""
    told = [(outcome.seed, found) for outcome in group.drawn if (found := growths(outcome))]
    return explained(group.learner, told) if told else None


def explained(learner: str, told: Sequence[tuple[int, Mapping[str, Mapping[str, Any]]]]) -> Section:
    """The joint network of the first of several seeds, drawn and explained, and what all have in common.

    Args:
        learner: what it is called.
        told: seeds, and for each task in order what was decided (as :func:`growths` gives it); at least one.
    """
    seed, found = told[0]
    every = [said for _, of_one in told for said in of_one.values() if said["bound"] is not None]
    seeds = "one seed" if len(told) == 1 else f"{len(told)} seeds"
    return Section(
        f"{learner}: the joint network",
        _words(every, seeds),
        [_decisions(seed, found), *_conflicts(seed, found)],
        _picture(learner, seed, found),
    )


def _words(every: Sequence[Mapping[str, Any]], seeds: str) -> str:
    units = every[0]["units"]
    shares = ", ".join(
        f"layer {unit} {100 * sum(unit in said['grown'] for said in every) / len(every):.0f} %"
        for unit in units
    )
    text = (
        f"Of {len(every)} tasks that were bound to an earlier one ({seeds}) so many grew copies of their own: "
        f"{shares}."
    )
    gains = [said["independent_accuracy"] for said in every if said.get("independent_accuracy") is not None]
    if gains:
        text += (
            f" Alone, their independent networks reached {100 * sum(gains) / len(gains):.1f} % of the validation data "
            "on the mean."
        )
    return text


def _decisions(seed: int, found: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = []
    for number, (task, said) in enumerate(found.items(), start=1):
        bound, scores = said["bound"], said.get("scores") or {}
        delta = said.get("delta")
        rows.append(
            (
                f"{number}  {task}",
                "–" if bound is None else bound,
                f"{scores[bound]:.3f}" if bound in scores else "–",
                ", ".join(said["grown"]) or "none",
                "–" if delta is None else f"{delta:g}",
                str(said["binding"]) if "binding" in said else "first task",
            )
        )
    columns = ("task", "bound to", "conflict with it", "layers of its own", "grow coefficient", "rule")
    return Table(columns, rows, f"Seed {seed}: whom each task was bound to, and where it grew")


def _conflicts(seed: int, found: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """The scores behind the decisions, on which nothing else depends; none where nothing was compared."""
    rows = []
    for task, said in found.items():
        for candidate, values in (said.get("conflicts") or {}).items():
            is_it = candidate == said["bound"]
            rows.append(
                (
                    task,
                    candidate + (" (bound)" if is_it else ""),
                    f"{said['scores'][candidate]:.3f}",
                    *(f"{value:.3f}" for value in values),
                )
            )
    if not rows:
        return []
    units = next(said["units"] for said in found.values() if said.get("conflicts"))
    columns = ("task", "candidate", "conflict", *(f"layer {unit}" for unit in units))
    caption = f"Seed {seed}: conflict of each task with every candidate, as a whole and layer by layer"
    return [Table(columns, rows, caption, collapsed=True)]


def _picture(learner: str, seed: int, found: Mapping[str, Mapping[str, Any]]) -> list[Figure]:
    """The joint network; no picture where the sizes of layers are not told."""
    said = next(said for said in found.values() if said["bound"] is not None)
    if not said.get("parameters"):
        return []
    made = routes(found)
    own = {task: sum(owner == task for owner in route) for task, route in made.items()}
    told = ", ".join(f"{task} {count}" for task, count in own.items())
    binds = ", ".join(
        f"{task} to {said['bound']}" for task, said in found.items() if said["bound"] is not None
    )
    return [
        network(
            made,
            said["units"],
            said["parameters"],
            title=f"{learner}: the joint network",
            alt=f"A graph of layers and their copies. Layers that each task has of its own: {told}. Bound: {binds}.",
            caption="Each line is a task's route; a box is a copy of a layer and says whose it is; it is the wider the "
            f"more parameters it has. An arrow leads from a task to the one that it was bound to (seed {seed}).",
            bound={task: said["bound"] for task, said in found.items()},
        )
    ]
