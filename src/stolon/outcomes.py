"""What a learner gives: the steps of its learning, its answers, its size."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

UNKNOWN = -1
"""The label of an input that belongs to no task."""


@dataclass(frozen=True)
class Epoch:
    """One step of a learning that can be stopped after it and gone on with.

    Attributes:
        task: the name of the task that is being learned.
        phase: what was done, such as ``"features"`` or ``"train"``.
        number: how many steps of this phase are done, from 1.
        total: how many there are at most.
        loss: mean training loss, where the phase has one.
        val_accuracy: accuracy on the validation data, 0 to 1, where it was measured; of regression tasks the
            coefficient of determination, at most 1.
        notes: what else the method has to say, as JSON values, such as the posterior over configurations.
    """

    task: str
    phase: str
    number: int
    total: int
    loss: float | None = None
    val_accuracy: float | None = None
    notes: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Prediction:
    """Answers for a batch of B inputs.

    Attributes:
        labels: class indices within each input's task, int64 [B]; -1 where unknown.
        classes: class names; None where unknown.
        tasks: task names; None where unknown.
        confidence: probability that the learner gives its answer, float [B], 0 to 1; 0 where unknown.
    """

    labels: Tensor
    classes: tuple[str | None, ...]
    tasks: tuple[str | None, ...]
    confidence: Tensor

    @property
    def known(self) -> Tensor:
        """Whether each input belongs to any task, bool [B]."""
        return self.labels != UNKNOWN


@dataclass(frozen=True)
class Size:
    """How large a learner is.

    Attributes:
        parameters: all numbers that it stores for answering: shared and per task.
        shared: those that all tasks use.
        per_task: those that are a task's own, by task.
        bytes: what all of them take in memory and on disk, headers aside.
        bytes_per_task: what those of each task take.
    """

    parameters: int
    shared: int
    per_task: Mapping[str, int]
    bytes: int
    bytes_per_task: Mapping[str, int]

    @staticmethod
    def of(shared: Mapping[str, Tensor], per_task: Mapping[str, Mapping[str, Tensor]]) -> "Size":
        """Count tensors."""
        own = {task: sum(t.numel() for t in tensors.values()) for task, tensors in per_task.items()}
        common = sum(t.numel() for t in shared.values())
        everything = [*shared.values(), *(t for tensors in per_task.values() for t in tensors.values())]
        return Size(
            parameters=common + sum(own.values()),
            shared=common,
            per_task=own,
            bytes=sum(t.nbytes for t in everything),
            bytes_per_task={task: sum(t.nbytes for t in own.values()) for task, own in per_task.items()},
        )
