"""What is learned: a :class:`Task` of three :class:`Split`, and a :class:`Stream` of tasks.

Inputs are images as uint8 (0 to 255) or floats. Floats are used as they are by networks that train from
scratch; frozen backbones with a pre-processing of their own expect floats between 0 and 1. Labels are
class indices within the task, int64; of a regression task they are numbers, float32, one for each output.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final, overload

import torch
from torch import Tensor

from stolon.errors import DataError, TaskError

MAX_NAME = 128
"""Longest name of a task or class, in characters."""


class Split(ABC):
    """A part of a task's data: inputs and labels that can be asked for by index.

    Laws: ``batch(indices)`` depends on ``indices`` alone (asking twice, or in another grouping, gives the
    same rows), and ``labels[i]`` is the label that ``batch([i])`` gives.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs [B, ...] and labels int64 [B] (regression: float32 [B, K]) at these int64 indices [B]."""

    @property
    @abstractmethod
    def labels(self) -> Tensor:
        """All labels, int64 [N] (regression: float32 [N, K]), without touching the inputs."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one input, such as (3, 32, 32)."""

    @abstractmethod
    def digest(self) -> str:
        """A SHA-256 over inputs and labels: equal data have equal digests in every process."""

    @staticmethod
    def of(x: Tensor, y: Tensor) -> "TensorSplit":
        """A split held in memory: inputs [N, ...], labels [N] or targets [N, K].

        Example:
            >>> split = Split.of(torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 0]))
            >>> len(split), split.shape
            (3, (1, 8, 8))
        """
        return TensorSplit(x, y)


@final
class TensorSplit(Split):
    """A split whose inputs lie in memory and are batched by indexing.

    Args:
        x: inputs [N, ...], uint8 or floating point.
        y: class indices [N], an integer type; for regression targets [N, K], floating point.

    Raises:
        DataError: lengths differ, or the types are not those above.
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        is_regression = y.is_floating_point() and y.ndim == 2
        if x.ndim < 2 or not (y.ndim == 1 or is_regression) or len(x) != len(y):
            raise DataError(
                "expected inputs [N, ...] and labels [N] or floating point targets [N, K], found "
                f"{list(x.shape)} and {list(y.shape)}"
            )
        if not (x.dtype == torch.uint8 or x.is_floating_point()):
            raise DataError(f"expected inputs as uint8 or floats, found {x.dtype}; convert them first")
        if (y.is_floating_point() and not is_regression) or y.dtype == torch.bool:
            raise DataError(
                f"expected labels as integers, found {y.dtype}; pass class indices, or targets [N, K] for regression"
            )
        y = y.float() if is_regression else y.long()
        for what, values in (("inputs", x), ("targets", y)):
            if values.is_floating_point() and not bool(torch.isfinite(values).all()):
                raise DataError(f"expected finite {what}, found NaN or infinity; clean the data first")
        self._x, self._y = x, y

    def __len__(self) -> int:
        return len(self._y)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and labels at these indices, by one gather each."""
        return self._x[indices], self._y[indices]

    @property
    def inputs(self) -> Tensor:
        """All inputs [N, ...]; not a copy."""
        return self._x

    @property
    def labels(self) -> Tensor:
        """All labels, int64 [N], or targets, float32 [N, K]."""
        return self._y

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return tuple(self._x.shape[1:])

    def digest(self) -> str:
        """SHA-256 over types, shapes and bytes."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        sha = hashlib.sha256()
        for tensor in (self._x, self._y):
            sha.update(f"{tensor.dtype}{list(tensor.shape)}".encode())
            sha.update(tensor.contiguous().view(torch.uint8).numpy().data)
        return sha.hexdigest()


@final
@dataclass(frozen=True)
class Task:
    """One classification or regression task.

    Attributes:
        name: what it is called; unique within a learner.
        classes: the class names; label i means ``classes[i]``. Of a regression task: the names of its outputs.
        train: what is learned from.
        val: what choices are made on (best epoch, thresholds); may be empty.
        test: what is reported; may be empty.

    Raises:
        TaskError: the name or the classes are empty, too long or not unique.
        DataError: a label has no class, the targets are not one for each output, or the splits differ in shape or
            kind.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split

    def __post_init__(self) -> None:
        check_name("task", self.name)
        for name in self.classes:
            check_name("class", name)
        if len(self.classes) < 1 or len(set(self.classes)) < len(self.classes):
            raise TaskError(f"task {self.name!r}: expected distinct class names, found {self.classes}")
        for part in (self.train, self.val, self.test):
            if not len(part):
                continue
            self._check_labels(part.labels)
            if part.shape != self.train.shape:
                raise DataError(f"task {self.name!r}: expected inputs {self.train.shape}, found {part.shape}")

    def _check_labels(self, labels: Tensor) -> None:
        if labels.is_floating_point() != self.is_regression:
            raise DataError(
                f"task {self.name!r}: expected labels in all splits, or targets in all, found both"
            )
        if self.is_regression:
            if labels.shape[1] != len(self.classes):
                raise DataError(
                    f"task {self.name!r}: expected targets [N, {len(self.classes)}], found {list(labels.shape)}"
                )
            return
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(self.classes):
            raise DataError(
                f"task {self.name!r}: expected labels 0 to {len(self.classes) - 1}, found {low} to {high}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self.train.shape

    @property
    def is_regression(self) -> bool:
        """Whether numbers are to be predicted, not classes."""
        return self.train.labels.is_floating_point()

    def digest(self) -> str:
        """A SHA-256 over name, classes, training and validation data: what learning depends on."""
        sha = hashlib.sha256(repr((self.name, self.classes)).encode())
        for part in (self.train, self.val):
            sha.update(part.digest().encode())
        return sha.hexdigest()


@final
class Stream(Sequence[Task]):
    """A named sequence of tasks, each made when it is first asked for.

    Args:
        name: what it is called.
        tasks: tasks, or functions of no arguments that make them.

    Example:
        >>> split = Split.of(torch.zeros(2, 1), torch.tensor([0, 1]))
        >>> stream = Stream("toy", [lambda: Task("a", ("no", "yes"), split, split, split)])
        >>> [task.name for task in stream]
        ['a']
    """

    def __init__(self, name: str, tasks: Sequence[Task | Callable[[], Task]]) -> None:
        self.name = name
        self._tasks = list(tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> "Stream": ...
    def __getitem__(self, index: int | slice) -> "Task | Stream":
        if isinstance(index, slice):
            return Stream(self.name, self._tasks[index])
        task = self._tasks[index]
        if not isinstance(task, Task):
            task = self._tasks[index] = task()
        return task

    def __iter__(self) -> Iterator[Task]:
        for index in range(len(self)):
            yield self[index]

    def __repr__(self) -> str:
        return f"Stream({self.name!r}, {len(self)} tasks)"


def check_name(kind: str, name: str) -> None:
    """Refuse a name that is empty, too long, or not printable.

    Raises:
        TaskError: the name is refused; says why.
    """
    if (
        not isinstance(name, str)
        or not name
        or name != name.strip()
        or len(name) > MAX_NAME
        or not name.isprintable()
    ):
        raise TaskError(
            f"expected a {kind} name of 1 to {MAX_NAME} printable characters without spaces around it, "
            f"found {name!r}"
        )


def to_float(x: Tensor) -> Tensor:
    """Inputs as 32-bit floats: uint8 images divided by 255, floats of any precision as they are.

    Example:
        >>> to_float(torch.tensor([0, 255], dtype=torch.uint8))
        tensor([0., 1.])
    """
    return x.float() / 255 if x.dtype == torch.uint8 else x.float()
