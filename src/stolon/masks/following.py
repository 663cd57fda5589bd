"""Feeds tasks to a learner that is not told their borders (:mod:`stolon.masks.borders`), and counts what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, final

import torch

from stolon.errors import DataError
from stolon.masks.borders import Borderless, Decision
from stolon.masks.fitting import check_classes
from stolon.masks.inference import Per
from stolon.randomness import permutation
from stolon.tasks import Stream
from stolon.training import mini_batches


@final
@dataclass(frozen=True)
class Report:
    """How tasks were told apart that came one after the other.

    Attributes:
        masks: how many there are at the end.
        borders: places where one task followed another.
        noticed: those where the first look behind them, before the next border, began a mask.
        false_alarms: masks begun at any other look, the first of all excepted.
        accuracies: share of each task's test inputs that were labelled rightly, their mask unnamed.
    """

    masks: int
    borders: int
    noticed: int
    false_alarms: int
    accuracies: tuple[float, ...]


TEST_BATCH: Final = 128  # inputs of one task that are answered together, as released


def follow(learner: Borderless, stream: Stream, *, seed: int = 0, per: Per = "sample") -> Report:
    """Feed the tasks of a stream one after the other, without their names or borders, and see what came of it.

    Epochs of a task's data, and the size of mini-batches, are those of the learner's training. Then all test data are
    answered.

    Args:
        learner: what learns.
        stream: tasks that share their labels.
        seed: the order of the data is a function of it.
        per: a mask for each ``"sample"``, or for each ``"batch"`` of 128 test inputs of one task, as in the paper.

    Raises:
        DataError: a task has other inputs, or more classes than the learner.
    """
    begins, looks = [], len(learner.history)
    for task in stream:
        check_classes(learner.frozen, task)
        if len(task.classes) > learner.classes:
            raise DataError(
                f"task {task.name!r}: expected at most {learner.classes} classes, found {len(task.classes)}"
            )
        begins.append(learner.batches)
        for epoch in range(learner.training.epochs):
            order = permutation(len(task.train), seed, "order", task.name, epoch)
            for indices in mini_batches(order, learner.training.batch_size):
                learner.observe(*task.train.batch(indices))
    accuracies = []
    for task in stream:
        parts = [task.test.batch(indices) for indices in torch.arange(len(task.test)).split(TEST_BATCH)]
        right = sum(int((learner.predict(x, per=per).labels == y).sum()) for x, y in parts)
        accuracies.append(right / max(1, len(task.test)))
    noticed, alarms = noticed_borders(learner.history[looks:], [*begins, learner.batches])
    return Report(learner.tasks, len(stream) - 1, noticed, alarms, tuple(accuracies))


def noticed_borders(history: Sequence[Decision], places: Sequence[int]) -> tuple[int, int]:
    """How many borders the first look behind them noticed, and how many other masks were begun.

    Args:
        history: the looks.
        places: the first mini-batch of each task, and the end.
    """
    noticed = begun_first = 0
    for number, (begin, end) in enumerate(pairwise(places)):
        looks = [decision for decision in history if begin <= decision.batch < end]
        if looks and looks[0].is_new:
            begun_first += 1
            noticed += number > 0
    return noticed, sum(decision.is_new for decision in history) - begun_first
