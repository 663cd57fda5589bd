"""How well is a task answered, with its name and without?"""

from dataclasses import dataclass
from typing import Literal, Protocol, final

import torch
from torch import Tensor

from stolon.errors import DataError
from stolon.outcomes import Prediction
from stolon.settings import at_least
from stolon.tasks import Split, Task


class Answers(Protocol):
    """Whoever answers: a learner, or an agent."""

    def predict(self, x: Tensor, task: str | None = None) -> Prediction:
        """Answer a batch of inputs [B, ...]."""


class PredictsNumbers(Protocol):
    """Whoever answers regression tasks: a learner."""

    def logits(self, x: Tensor, task: str) -> Tensor:
        """The predicted numbers [B, K] of inputs [B, ...]."""


@final
@dataclass(frozen=True)
class Evaluation:
    """Answers to one task's inputs.

    Attributes:
        accuracy: share answered rightly, 0 to 1; without names, task and class must both be right.
        tasks: the task each input was taken for; None where unknown.
    """

    accuracy: float
    tasks: tuple[str | None, ...]


def evaluate(
    learner: Answers,
    task: Task,
    *,
    named: bool = True,
    batch_size: int = 256,
    part: Literal["train", "val", "test"] = "test",
) -> Evaluation | None:
    """Ask a learner about a task's inputs, in batches by index.

    Args:
        learner: whom to ask; nothing about it changes.
        task: one that it learned, or is learning.
        named: tell it the task's name; otherwise it infers it, per input.
        batch_size: inputs at once, >= 1.
        part: which split.

    Returns:
        The answers; None where the split is empty.

    Raises:
        TaskUnknownError: it does not know the task, or cannot infer tasks.
        DataError: a regression task: it has no right or wrong (see :func:`explained`).
        SettingError: the batch size is below 1.
    """
    at_least("batch_size", batch_size, 1)
    if task.is_regression:
        raise DataError(f"task {task.name!r} predicts numbers; expected classes to be right or wrong about")
    split: Split = getattr(task, part)
    if not len(split):
        return None
    right, tasks = 0, list[str | None]()
    for indices in torch.arange(len(split)).split(batch_size):
        x, y = split.batch(indices)
        answer = learner.predict(x, task.name if named else None)
        hits = answer.labels == y
        if not named:
            hits &= torch.tensor([name == task.name for name in answer.tasks])
        right += int(hits.sum())
        tasks += answer.tasks
    return Evaluation(right / len(split), tuple(tasks))


def explained(
    learner: PredictsNumbers,
    task: Task,
    *,
    batch_size: int = 256,
    part: Literal["train", "val", "test"] = "test",
) -> float | None:
    """What stands for accuracy with a regression task: the coefficient of determination, 0 where it is negative.

    Args:
        learner: whom to ask; nothing about it changes.
        task: one that it learned, or is learning.
        batch_size: inputs at once, >= 1.
        part: which split.

    Returns:
        0 to 1: predictions that are worse than the mean are worth nothing; None where there are fewer than two samples.

    Raises:
        TaskUnknownError: it does not know the task.
        SettingError: the batch size is below 1.
    """
    at_least("batch_size", batch_size, 1)
    split: Split = getattr(task, part)
    batches = [split.batch(indices) for indices in torch.arange(len(split)).split(batch_size)]
    if not batches:
        return None
    outputs = torch.cat([learner.logits(x, task.name) for x, _ in batches])
    found = determination(outputs, torch.cat([y for _, y in batches]))
    return None if found is None else max(0.0, found)


def determination(outputs: Tensor, targets: Tensor) -> float | None:
    """The coefficient of determination R^2 of predictions [N, K]: 1 is perfect, 0 as good as the mean.

    None for a single sample, which has no variance to explain.

    Example:
        >>> targets = torch.tensor([[0.0], [1.0]])
        >>> determination(targets, targets), determination(torch.full((2, 1), 0.5), targets)
        (1.0, 0.0)
    """
    if len(targets) < 2:
        return None
    from sklearn.metrics import r2_score  # a second to import

    return float(r2_score(targets.numpy(), outputs.numpy()))
