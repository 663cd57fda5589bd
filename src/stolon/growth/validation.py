"""The data that choices are made on, where weights are trained on others."""

from typing import NamedTuple, final

import torch
from torch import Tensor

from stolon.errors import DataError
from stolon.randomness import permutation
from stolon.tasks import Split, Task


@final
class Parts(NamedTuple):
    """A task's data, divided.

    Attributes:
        train: of which training data weights are trained, as indices.
        held: where the data lie that choices are made on.
        indices: which of these.
        source: ``"validation"`` or ``"training"``.
    """

    train: Tensor
    held: Split
    indices: Tensor
    source: str


def divide(task: Task, seed: int) -> Parts:
    """All of the training and the validation data; without the latter a seeded tenth of the former is held out.

    Raises:
        DataError: there is nothing to hold out.
    """
    count = len(task.train)
    if len(task.val):
        return Parts(torch.arange(count), task.val, torch.arange(len(task.val)), "validation")
    check(task)
    order, held = permutation(count, seed, "held out", task.name), max(1, count // 10)
    return Parts(order[held:].sort().values, task.train, order[:held].sort().values, "training")


def check(task: Task) -> None:
    """Refuse a task that has nothing to make choices on.

    Raises:
        DataError: it has no validation data, and too little training data to hold some out.
    """
    if not len(task.val) and len(task.train) < 2:
        raise DataError(
            f"task {task.name!r}: expected validation data, or at least 2 training samples to hold some out, "
            f"found {len(task.train)}; give some"
        )
