"""The accuracy matrix, from which every accuracy over time is read."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self, final

import numpy as np
import numpy.typing as npt

from stolon.errors import SettingError

Denominator = Literal["end", "peak"]


class Gain(NamedTuple):
    """What learning together gives over learning each task alone; positive is better.

    Attributes:
        difference: mean over tasks of (accuracy - accuracy alone), -1 to 1.
        relative: mean over tasks of (accuracy - accuracy alone) / accuracy alone, without tasks of 0.
    """

    difference: float
    relative: float


@final
@dataclass(frozen=True)
class AccuracyMatrix:
    r"""Test accuracies after each task: an immutable value that grows by a row per task.

    :math:`R_{ij}` is the accuracy on task j after learning task i, for :math:`j \le i`, and :math:`p_j` task
    j's peak inside its own training (:func:`peak_accuracy`). With T tasks learned:

    .. math::
        \text{peak} &= \tfrac1T \textstyle\sum_j p_j \qquad
        \text{final} = \tfrac1T \sum_j R_{T-1,j} \\
        \text{forgetting ratio} &= \tfrac{1}{T-1} \textstyle\sum_{j<T-1} R_{T-1,j} / d_j, \qquad
        d_j = R_{jj} \text{ ("end") or } p_j \text{ ("peak")}

    A ratio of 1 is no forgetting, above 1 later tasks helped. The papers give no formula for the ratio, so
    both denominators are offered: "end" is the accuracy when the task's own training ended, which makes every
    parameter-isolating method exactly 1 (as published); "peak" also blames what was lost inside the task's
    own training.

    Attributes:
        tasks: names in the order learned.
        rows: row i holds i + 1 accuracies, 0 to 1.
        peaks: one per task, 0 to 1.

    Raises:
        SettingError: names repeat, shapes do not fit, or a value is not within 0 to 1.

    Example:
        >>> matrix = AccuracyMatrix().with_row("a", [0.8], peak=0.9).with_row("b", [0.4, 0.7], peak=0.7)
        >>> matrix[1, 0], round(matrix.peak(), 3), round(matrix.final(), 3)
        (0.4, 0.8, 0.55)
        >>> matrix.forgetting_ratio(), round(matrix.forgetting_ratio("peak"), 3)
        (0.5, 0.444)

    Source:
        Lee, Behpour, Eaton, ICML 2021 (peak per-task accuracy, forgetting ratio; their code for the peak);
        Ge et al., TMLR 2023, arXiv:2305.15591, section 6 (normalised accuracy, accuracy on task 1 over time).
    """

    tasks: tuple[str, ...] = ()
    rows: tuple[tuple[float, ...], ...] = ()
    peaks: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.tasks) == len(self.rows) == len(self.peaks) or len(set(self.tasks)) < len(self.tasks):
            raise SettingError(
                f"expected distinct tasks with a row and a peak each, found {len(self.tasks)} tasks "
                f"({', '.join(self.tasks)}), {len(self.rows)} rows and {len(self.peaks)} peaks"
            )
        for index, row in enumerate(self.rows):
            if len(row) != index + 1:
                raise SettingError(f"row {index}: expected {index + 1} accuracies, found {len(row)}")
        for value in (*self.peaks, *(value for row in self.rows for value in row)):
            if not 0 <= value <= 1:
                raise SettingError(f"expected accuracies of 0 to 1, found {value}")

    def with_row(self, task: str, row: Iterable[float], *, peak: float) -> Self:
        """The matrix after one more task; this one stays as it is.

        Args:
            task: the name of the task just learned.
            row: accuracies on all tasks so far, this one last, 0 to 1.
            peak: this task's peak, 0 to 1.

        Raises:
            SettingError: as for the matrix itself.
        """
        new = tuple(float(value) for value in row)
        return type(self)((*self.tasks, task), (*self.rows, new), (*self.peaks, float(peak)))

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: tuple[int, int]) -> float:
        after, on = index
        return self.rows[after][on]

    def array(self) -> npt.NDArray[np.float64]:
        """R as an array [T, T], NaN where a task was not yet learned."""
        found = np.full((len(self), len(self)), np.nan)
        for index, row in enumerate(self.rows):
            found[index, : index + 1] = row
        return found

    def peak(self) -> float:
        """Mean peak per-task accuracy, 0 to 1; NaN before the first task."""
        return _mean(self.peaks)

    def final(self) -> float:
        """Mean accuracy on all tasks after the last one, 0 to 1; NaN before the first task."""
        return _mean(self._last())

    def forgetting_ratio(self, denominator: Denominator = "end") -> float:
        """How much of earlier tasks is left after the last one: 1 is all, above 1 is more.

        Args:
            denominator: what counts as 1: the accuracy at the ``"end"`` of the task's own training, or its
                ``"peak"``.

        Returns:
            The mean over all tasks but the last, without those of accuracy 0; NaN where none is left.

        Raises:
            SettingError: an unknown denominator.
        """
        if denominator not in ("end", "peak"):
            raise SettingError(f"denominator: expected end or peak, found {denominator!r}")
        whole = self.peaks if denominator == "peak" else self._ends()
        return _mean(now / then for now, then in zip(self._last()[:-1], whole[:-1], strict=True) if then > 0)

    def normalized(self) -> npt.NDArray[np.float64]:
        """R[i, j] / R[j, j] as an array [T, T]: what is left of each task after each task.

        NaN where a task was not yet learned, or had accuracy 0 right after it was.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self.array() / np.asarray(self._ends()).reshape(1, -1)
        return np.where(np.isfinite(ratio), ratio, np.nan)

    def gain(self, single_task: Sequence[float] | Mapping[str, float]) -> Gain:
        """What the final accuracies gain over learning each task alone.

        Both ways of the literature, with one sign: more is better. (The paper's formula for growth takes
        errors, where less is better; its code takes the difference of accuracies, as here.)

        Args:
            single_task: accuracy alone, 0 to 1, in the order of the tasks or by their names.

        Raises:
            SettingError: a task is missing, or there are more than there are tasks.
        """
        if isinstance(single_task, Mapping):
            missing = [task for task in self.tasks if task not in single_task]
            if missing:
                raise SettingError(
                    f"expected the accuracy of every task alone, none for {', '.join(missing)}"
                )
            alone = [float(single_task[task]) for task in self.tasks]
        else:
            alone = [float(value) for value in single_task]
        if len(alone) != len(self):
            raise SettingError(f"expected {len(self)} accuracies of tasks alone, found {len(alone)}")
        pairs = list(zip(self._last(), alone, strict=True))
        return Gain(_mean(a - b for a, b in pairs), _mean((a - b) / b for a, b in pairs if b > 0))

    def over_time(self, task: int = 0) -> tuple[float, ...]:
        """Accuracy on one task after it and after each later one; the first task by default."""
        return tuple(row[task] for row in self.rows[task:])

    def average_over_time(self) -> tuple[float, ...]:
        """Mean accuracy on all tasks so far, after each task."""
        return tuple(_mean(row) for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; :meth:`from_json` is the way back."""
        return {
            "tasks": list(self.tasks),
            "rows": [list(row) for row in self.rows],
            "peaks": list(self.peaks),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` gave.

        Raises:
            SettingError: it is no such value.
        """
        try:
            rows = tuple(tuple(float(entry) for entry in row) for row in value["rows"])
            tasks, peaks = tuple(value["tasks"]), tuple(float(entry) for entry in value["peaks"])
        except (KeyError, TypeError, ValueError) as error:
            raise SettingError(f"expected tasks, rows and peaks of an accuracy matrix: {error!r}") from error
        return cls(tasks, rows, peaks)

    def _last(self) -> tuple[float, ...]:
        return self.rows[-1] if self.rows else ()

    def _ends(self) -> tuple[float, ...]:
        return tuple(row[-1] for row in self.rows)


def peak_accuracy(epochs: Iterable[tuple[float | None, float | None]]) -> float | None:
    """The test accuracy where the validation accuracy was best, the first of equals.

    Args:
        epochs: (validation, test) accuracy at the epochs of one task's own training, in order; None where it
            was not measured. A test accuracy is only needed where the validation accuracy beats all before.

    Returns:
        The peak; where nothing was validated, the last test accuracy; None where there is none at all.

    Raises:
        SettingError: the best epoch has no test accuracy.

    Example:
        >>> peak_accuracy([(0.5, 0.6), (0.8, 0.7), (0.8, 0.9), (0.7, 0.8)])
        0.7

    Source:
        Lee, Behpour, Eaton, ICML 2021: their train_selective_transfer.py (strict improvement, first kept).
    """
    best, peak, last, found = -math.inf, None, None, False
    for val, test in epochs:
        last = test if test is not None else last
        if val is not None and val > best:
            best, peak, found = val, test, True
    if found and peak is None:
        raise SettingError("expected a test accuracy at the epoch with the best validation accuracy")
    return peak if found else last


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return math.fsum(found) / len(found) if found else math.nan
