"""Which task is an input taken for? Counts, and the mapper's accuracy."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from stolon.errors import SettingError

UNKNOWN: Final = None
"""The predicted task of an input that belongs to none."""


def task_confusion(
    predicted: Mapping[str, Sequence[str | None]], tasks: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Count the tasks that inputs are taken for.

    Args:
        predicted: for each true task, the predicted task of every input; None where unknown.
        tasks: all tasks, in order.

    Returns:
        int64 [T, T + 1]: row is the true task, column the predicted one, the last column "unknown".

    Raises:
        SettingError: a task is named that is not among ``tasks``.

    Example:
        >>> task_confusion({"a": ["a", "b", None], "b": ["b"]}, ["a", "b"])
        array([[1, 1, 1],
               [0, 1, 0]])
    """
    column: dict[str | None, int] = {name: index for index, name in enumerate(tasks)}
    column[UNKNOWN] = len(tasks)
    counts = np.zeros((len(tasks), len(tasks) + 1), dtype=np.int64)
    for true, answers in predicted.items():
        for answer in (*answers, true):
            if answer not in column:
                raise SettingError(f"expected tasks among {', '.join(tasks)}, found {answer!r}")
        np.add.at(counts[column[true]], [column[answer] for answer in answers], 1)
    return counts


def mapper_accuracy(confusion: npt.ArrayLike, *, mean_over: Literal["tasks", "samples"] = "tasks") -> float:
    """Share of inputs whose task is named rightly, 0 to 1.

    Args:
        confusion: counts [T, T + 1], as :func:`task_confusion` gives.
        mean_over: ``"tasks"`` gives every task the same weight, ``"samples"`` every input. Tasks without
            inputs are left out.

    Returns:
        The accuracy; NaN where there are no inputs at all.

    Raises:
        SettingError: not counts of this shape.

    Example:
        >>> counts = [[1, 1, 0], [0, 8, 0]]
        >>> mapper_accuracy(counts), mapper_accuracy(counts, mean_over="samples")
        (0.75, 0.9)

    Source:
        Ge et al., TMLR 2023, arXiv:2305.15591, section 6, Fig. 6.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[1] != counts.shape[0] + 1 or (counts < 0).any():
        raise SettingError(f"expected counts [T, T + 1], found an array of shape {list(counts.shape)}")
    right, total = np.diagonal(counts), counts.sum(axis=1)
    if not total.any():
        return float("nan")
    if mean_over == "samples":
        return float(right.sum() / total.sum())
    return float((right[total > 0] / total[total > 0]).mean())
