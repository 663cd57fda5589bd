"""The learner: the few verbs that every method speaks, and the laws that they obey.

A learner is taught one task after the other and asked about inputs afterwards::

    learner = learners.make("lightweight", net="timm:mobilenetv2_100")
    for task in stream:
        for epoch in learner.learn(task):
            print(epoch)
    learner.predict(images)            # no task named: the learner infers it, per sample

Laws, tested for every learner by tests/learner_contract.py:

- Same seed, same machine, same thread count: same numbers.
- At every yield of ``learn`` the state is complete: saved there, loaded in a new process, and asked to
  learn the same task again, it ends bit for bit as if it had never stopped.
- Saved and loaded: same predictions, bit for bit.
- A task is in ``tasks`` once its ``learn`` has run to the end.
- A refusal changes nothing.
"""

import platform
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from stolon import records
from stolon.errors import (
    DataError,
    RecipeChangedError,
    StolonError,
    StoreDamagedError,
    TaskError,
    TaskExistsError,
    TaskUnfinishedError,
    TaskUnknownError,
)
from stolon.outcomes import UNKNOWN, Epoch, Prediction, Size
from stolon.tasks import Task

__all__ = ["UNKNOWN", "Epoch", "Learner", "Prediction", "Size"]


class Learner(ABC):
    """Learns tasks one after the other; see the module for the laws.

    A method implements ``_learn``, ``logits``, ``_state``, ``_restore``, ``settings`` and ``size``; one that
    can tell which task an input belongs to also overrides ``_infer``.
    """

    name: ClassVar[str]
    """The method's name in :mod:`stolon.learners`."""
    regresses: ClassVar[bool] = False
    """Whether it learns regression tasks too."""

    def __init__(self) -> None:
        self._classes: dict[str, tuple[str, ...]] = {}  # of the tasks learned, in order
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._recipes: dict[str, dict[str, records.Json]] = {}
        self._unfinished: dict[str, records.Json] | None = None  # recipe of the task under way
        self._turn: object = None  # of the generator that may go on; a later learn, load or forget ends it
        self._is_whole = True  # False inside an epoch, and for good where an error came out of one

    # The verbs

    @final
    def learn(self, task: Task, *, seed: int = 0) -> Iterator[Epoch]:
        """Learn a task; yields after every epoch. Asked again after an interruption, it goes on.

        Args:
            task: what to learn.
            seed: all randomness is a function of it, the task's name and the epoch.

        Raises:
            TaskExistsError: a task of that name is known.
            TaskUnfinishedError: the learning of another task is under way.
            RecipeChangedError: this task's learning is under way with other data, settings or platform.
            DataError: there is nothing to learn from.
            TaskError: an earlier error came out of the middle of an epoch; load the last save, or forget the task.
        """
        if not len(task.train):
            raise DataError(f"task {task.name!r}: expected training data, found none")
        if task.is_regression and not self.regresses:
            raise DataError(
                f"task {task.name!r}: expected classes, found numbers to predict; {self.name} learns no regression"
            )
        recipe = self._recipe(task, seed)
        self._admit(recipe)
        return self._drive(task, seed, recipe)

    @abstractmethod
    def logits(self, x: Tensor, task: str) -> Tensor:
        """Scores [B, C] of inputs [B, ...] for a task that is known by name (or is being learned).

        Of a regression task they are the predicted numbers [B, K].

        Raises:
            TaskUnknownError: no such task.
        """

    @final
    def predict(self, x: Tensor, task: str | None = None) -> Prediction:
        """Answer a batch of inputs [B, ...].

        Args:
            x: inputs, as those that were learned.
            task: the task's name, or None to let the learner infer it for each input.

        Raises:
            TaskUnknownError: no such task, or this learner cannot infer it.
            TaskError: a regression task's answers are no classes; ask :meth:`logits`.
        """
        if task is not None:
            if self.recipe(task).get("regression"):
                raise TaskError(f"task {task!r} predicts numbers, not classes; ask logits(x, {task!r})")
            confidence, labels = self.logits(x, task).softmax(1).max(1)
            classes = self.classes(task)
            return Prediction(
                labels, tuple(classes[i] for i in labels.tolist()), (task,) * len(labels), confidence
            )
        return self._infer(x)

    @property
    @final
    def tasks(self) -> tuple[str, ...]:
        """The tasks learned so far, in order."""
        return tuple(self._classes)

    @property
    @final
    def unfinished(self) -> str | None:
        """The task whose learning is under way, if any."""
        return None if self._unfinished is None else str(self._unfinished["task"])

    @final
    def classes(self, task: str) -> tuple[str, ...]:
        """The class names of a task that was learned.

        Raises:
            TaskUnknownError: no such task.
        """
        self._require(task)
        if task not in self._classes:
            return tuple((self._unfinished or {})["classes"])
        return self._classes[task]

    @final
    def recipe(self, task: str) -> Mapping[str, records.Json]:
        """What a learned task's result came from: data digest, seed, settings, versions, threads.

        Raises:
            TaskUnknownError: no such task.
        """
        self._require(task)
        return self._recipes.get(task, self._unfinished or {})

    @final
    def save(self, folder: str | Path) -> None:
        """Write the whole state into a folder, atomically and durably.

        Raises:
            StoreFullError: the disk refused; what was there before is intact.
        """
        records.save(self.record(), Path(folder))

    @final
    def load(self, folder: str | Path) -> Self:
        """Take on the state that :meth:`save` wrote; returns the learner itself.

        Raises:
            StoreError: no state, a damaged one, or one of a newer stolon; this learner is unchanged.
            RecipeChangedError: it was saved by another method or with another net.
        """
        return self.restore(records.load(Path(folder), "learner"))

    @final
    def forget(self, task: str) -> None:
        """Drop what is a task's own, or what there is of the unfinished one; what tasks share stays as it is.

        Raises:
            TaskUnknownError: no such task.
        """
        self._require(task)
        self._abandon(task)
        self._classes.pop(task, None)
        self._recipes.pop(task, None)

    @abstractmethod
    def size(self) -> Size:
        """How large it is, learned tasks included."""

    # Everything, as a value

    @final
    def record(self) -> records.Record:
        """The whole state as a value; tensors are not copied.

        Raises:
            TaskError: an error came out of the middle of an epoch, so that the state is none that was yielded.
        """
        self._require_whole()
        document, groups = self._state()
        return records.Record(
            "learner",
            {
                "method": self.name,
                "settings": dict(self.settings()),
                "tasks": {name: list(classes) for name, classes in self._classes.items()},
                "shapes": {name: list(shape) for name, shape in self._shapes.items()},
                "recipes": self._recipes,
                "unfinished": self._unfinished,
                "state": dict(document),
            },
            groups,
        )

    @final
    def restore(self, record: records.Record) -> Self:
        """Take on a state; see :meth:`load`."""
        document = record.document
        mine = {"method": self.name, "net": self.settings()["net"]}
        try:
            theirs = {"method": document["method"], "net": document["settings"]["net"]}
            if mine != theirs:
                raise RecipeChangedError(
                    f"saved by {theirs}, this learner is {mine}; make it as it was saved"
                )
            classes = {str(name): tuple(found) for name, found in document["tasks"].items()}
            shapes = {str(name): tuple(shape) for name, shape in document["shapes"].items()}
            recipes, unfinished = dict(document["recipes"]), document["unfinished"]
            self._restore(document, record.groups)
        except StolonError:
            raise
        except (KeyError, IndexError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise StoreDamagedError(
                f"the saved state lacks something this method needs: {error!r}"
            ) from error
        self._classes, self._shapes, self._recipes, self._unfinished = classes, shapes, recipes, unfinished
        self._turn, self._is_whole = None, True
        return self

    # What a method implements

    @abstractmethod
    def settings(self) -> Mapping[str, records.Json]:
        """All settings as JSON values; ``"net"`` among them is what learners must share to share a state."""

    @abstractmethod
    def _learn(self, task: Task, seed: int) -> Iterator[Epoch]:
        """Start or go on with a task; at each yield the state is complete."""

    @abstractmethod
    def _state(self) -> tuple[Mapping[str, records.Json], Mapping[str, Mapping[str, Tensor]]]:
        """A JSON document of the method's own and groups of tensors, for :meth:`_restore`."""

    @abstractmethod
    def _restore(
        self, document: Mapping[str, records.Json], groups: Mapping[str, Mapping[str, Tensor]]
    ) -> None:
        """Take on a state: the whole document, with the method's own part under ``"state"``.

        Whatever can fail comes before the first change.
        """

    def _drop(self, task: str) -> None:  # noqa: B027 - a method that keeps nothing of a task has nothing to drop
        """Drop what is kept of a task, also where it is only half there; by default nothing is."""

    def _infer(self, x: Tensor) -> Prediction:
        """Answer without a task's name; methods that cannot say so."""
        raise TaskUnknownError(
            f"{self.name} cannot infer which task its {len(x)} inputs belong to; name the task (task=...)"
        )

    # Helpers for methods

    @final
    def _require(self, task: str) -> None:
        if task not in self._classes and task != self.unfinished:
            known = ", ".join(self._classes) or "none yet"
            raise TaskUnknownError(f"unknown task {task!r}; learned: {known}")

    @final
    def _check_input(self, x: Tensor, task: str) -> None:
        """Refuse inputs of another shape than the task's, before a layer stumbles over them."""
        self._require(task)
        shape = self._shapes.get(task)
        if shape is not None and tuple(x.shape[1:]) != shape:
            raise DataError(f"task {task!r}: expected inputs [B, {shape}], found {list(x.shape)}")

    @final
    def _check_alike(self, task: Task) -> None:
        """For methods whose tasks share layers: refuse inputs of another shape than the other tasks'."""
        shape = next((shape for name, shape in self._shapes.items() if name != task.name), task.shape)
        if task.shape != shape:
            raise DataError(
                f"task {task.name!r}: expected inputs {shape} as in earlier tasks, found {task.shape}; "
                "resize them: shared layers want one size"
            )

    @final
    def _admit(self, recipe: Mapping[str, records.Json]) -> None:
        """Refuse a learning that cannot begin or go on now."""
        self._require_whole()
        if recipe["task"] in self._classes:
            raise TaskExistsError(
                f"task {recipe['task']!r} is known already; choose another name or forget it"
            )
        if self._unfinished is not None:
            _check_recipe(self._unfinished, recipe)

    @final
    def _drive(self, task: Task, seed: int, recipe: dict[str, records.Json]) -> Iterator[Epoch]:
        self._admit(recipe)  # again: another learning may have begun since this one was asked for
        turn = self._turn = object()
        is_new = self._unfinished is None
        self._unfinished = recipe
        self._shapes[task.name] = task.shape
        steps = self._learn(task, seed)
        while (epoch := self._step(steps, task.name, is_new=is_new)) is not None:
            is_new = False
            yield epoch
            if self._turn is not turn:
                raise TaskError(
                    f"this learning of {task.name!r} has ended: another learn, a load or a forget came since; "
                    "ask for a new one"
                )
        self._classes[task.name], self._recipes[task.name] = task.classes, recipe
        self._unfinished = None

    @final
    def _step(self, steps: Iterator[Epoch], task: str, *, is_new: bool) -> Epoch | None:
        """One step. A new task that is refused before its first yield leaves no trace."""
        self._is_whole = False
        try:
            with torch.enable_grad():
                epoch = next(steps, None)
            self._is_whole = True
        finally:
            if not self._is_whole and is_new:
                self._abandon(task)
        return epoch

    @final
    def _abandon(self, task: str) -> None:
        self._drop(task)
        self._shapes.pop(task, None)
        if task == self.unfinished:
            self._unfinished = None
        self._turn, self._is_whole = None, True

    @final
    def _require_whole(self) -> None:
        if not self._is_whole:
            raise TaskError(
                f"the learning of {self.unfinished!r} stopped in the middle of an epoch; load what was saved "
                "last and go on, or forget the task"
            )

    def _recipe(self, task: Task, seed: int) -> dict[str, records.Json]:
        """What the result depends on; a learning goes on only where all of it is the same."""
        return {
            "task": task.name,
            "classes": list(task.classes),
            "data": task.digest(),
            "seed": seed,
            "settings": dict(self.settings()),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
            **({"regression": True} if task.is_regression else {}),
        }


def _check_recipe(old: Mapping[str, records.Json], new: Mapping[str, records.Json]) -> None:
    if old["task"] != new["task"]:
        raise TaskUnfinishedError(
            f"the learning of task {old['task']!r} is under way; finish it before {new['task']!r}"
        )
    for key, value in new.items():
        if old.get(key) != value:
            raise RecipeChangedError(
                f"task {new['task']!r} was begun with {key} = {old.get(key)!r}, found {value!r}; "
                "use what it was begun with, or forget the unfinished task and begin anew"
            )
