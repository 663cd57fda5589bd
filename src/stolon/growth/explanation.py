"""Why a task is bound to another, and why some of its layers are its own: the numbers that it was decided by."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from stolon.records import Json


@final
@dataclass(frozen=True)
class Growth:
    """What was decided for one task, and by what.

    Attributes:
        task: its name.
        bound: the task that it was bound to; None for the first.
        binding: by what rule: ``"first task"``, ``"least-conflict"``, ``"random"``, ``"first"``, ``"last"``, or
            ``"given"``.
        delta: the grow coefficient; None where it decided nothing (the first task, random growth).
        units: the labels of all units, such as ``("1", "2", "3")``, in the order of the scores.
        grown: the labels of those that the task got copies of; all of them for the first task.
        conflicts: for each candidate the score of each unit: dissimilarity, or similarity as released; empty where
            nothing was decided by them.
        scores: each candidate's task score.
        distribution: the masses of the units by which the nucleus was chosen; empty as the conflicts are.
        inputs: how many inputs the networks were compared on.
        source: where they came from, ``"validation"`` or ``"training"``; empty where there were none.
        parameters: how many each unit has.
        independent_accuracy: of the independent network on the task's validation data, 0 to 1, where there is either.
    """

    task: str
    bound: str | None
    binding: str
    delta: float | None
    units: tuple[str, ...]
    grown: tuple[str, ...]
    conflicts: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    distribution: tuple[float, ...] = ()
    inputs: int = 0
    source: str = ""
    parameters: tuple[int, ...] = ()
    independent_accuracy: float | None = None

    def to_json(self) -> dict[str, Json]:
        """As JSON values, for records and notes."""
        return {
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            "units": list(self.units),
            "grown": list(self.grown),
            "parameters": list(self.parameters),
            "conflicts": {task: list(values) for task, values in self.conflicts.items()},
            "scores": dict(self.scores),
            "distribution": list(self.distribution),
        }

    @staticmethod
    def of_json(values: Mapping[str, Any]) -> "Growth":
        """Take back what :meth:`to_json` gave."""
        return Growth(
            **{
                **values,
                "units": tuple(values["units"]),
                "grown": tuple(values["grown"]),
                "parameters": tuple(values["parameters"]),
                "conflicts": {task: tuple(found) for task, found in values["conflicts"].items()},
                "distribution": tuple(values["distribution"]),
            }
        )

    def __str__(self) -> str:
        """In one sentence, as a report tells it."""
        if self.bound is None:
            return f"{self.task} is the first task: all of its layers are its own."
        conflict = f", score {self.scores[self.bound]:.3g}" if self.scores else ""
        grown = f"grows {_listed(self.grown)} of {len(self.units)}" if self.grown else "grows nothing"
        by = "" if self.delta is None else f" at delta {self.delta:g}"
        return f"{self.task} binds to {self.bound} ({self.binding}{conflict}) and {grown}{by}."


def _listed(labels: tuple[str, ...]) -> str:
    return ("layer " if len(labels) == 1 else "layers ") + ", ".join(labels)
