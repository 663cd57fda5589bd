r"""Where a new task would conflict with an earlier one, whom it binds to, and where it grows.

"Learn to Bind and Grow Neural Structures", section 3 and Algorithm 1, in the order of its steps: the conflict
:math:`C_{t,b}(l)` of task t's independent network with candidate b's current one is the dissimilarity of their
activations at layer l; the task's score is the norm of these; the least score binds; the scores as a distribution over
layers give the *nucleus*, the smallest set of layers whose mass reaches the grow coefficient :math:`\delta`: it grows.

Decided here, as the paper leaves it open: scores below 0 (which only some measures can give) count as 0 in the
distribution, the distribution is the scores divided by their sum, and uniform where all are 0; a nucleus reaches
:math:`\delta` where the paper says both "exceeds" and "upper bound", so that 0 grows nothing and 1 everything; ties are
the earlier layer's and the earlier task's.

The functions that end in ``as_released`` are those of the authors' code, which differ (papers/methods.md 4.3): scores
are similarities, so that a task binds to the least similar one and grows the most similar layers; scores are rounded.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

from stolon.randomness import generator
from stolon.tasks import Split, Task

ROUNDED: Final = 3
"""Decimals of task scores and distributions in the authors' code."""
FIRST_IMAGES: Final = 5000
"""Of which training images the authors' code draws."""
NOTHING: Final = 1e-9
"""A conflict up to this is none: representations that are the same differ by rounding."""
SLACK: Final = 1e-12
"""What sums may lack of the grow coefficient by rounding."""


class Measured(NamedTuple):
    """How a task's independent network compares with every candidate's.

    Attributes:
        conflicts: for each candidate the score of each unit; similarities as released.
        scores: each candidate's task score.
        inputs: on how many inputs.
        source: where they came from, ``"validation"`` or ``"training"``.
    """

    conflicts: Mapping[str, tuple[float, ...]]
    scores: Mapping[str, float]
    inputs: int
    source: str


# Which inputs


def draw(n: int, count: int, seed: int, task: str) -> Tensor:
    """Which of n inputs the networks are compared on: at most ``count``, in ascending order, int64.

    A function of seed and task.
    """
    if n <= count:
        return torch.arange(n)
    chosen = torch.randperm(n, generator=generator(seed, "conflict", task))[:count]
    return chosen.sort().values


def inputs(task: Task, count: int, least: int, seed: int) -> tuple[Tensor, str]:
    """Inputs [N, ...] that networks are compared on, and where they came from.

    Args:
        task: from its validation data they come, where there is enough of it.
        count: how many at most.
        least: how many at least; with fewer validation inputs they come from the training data.
        seed: the draw is a function of it and the task.
    """
    source, split = ("validation", task.val) if len(task.val) >= least else ("training", task.train)
    x, _ = split.batch(draw(len(split), count, seed, task.name))
    return x, source


def inputs_as_released(train: Split, count: int, seed: int, task: str) -> tuple[Tensor, str]:
    """Inputs from the first 5000 training images, as in the authors' code."""
    x, _ = train.batch(draw(min(len(train), FIRST_IMAGES), count, seed, task))
    return x, "training"


# Binding


def score(conflicts: Sequence[float]) -> float:
    """A task's conflict: the 2-norm of its units'.

    Example:
        >>> score([0.3, 0.4])
        0.5
    """
    return math.hypot(*conflicts)


def score_as_released(similarities: Sequence[float]) -> float:
    """Half the 2-norm of the units' similarities, rounded."""
    return round(math.hypot(*similarities) / 2, ROUNDED)


def least(scores: Mapping[str, float]) -> str:
    """The task with the least score; of several the earliest.

    Example:
        >>> least({"a": 0.5, "b": 0.2, "c": 0.2})
        'b'
    """
    return min(scores, key=lambda task: scores[task])


# Growing


def distribution(conflicts: Sequence[float]) -> list[float]:
    """The conflicts as masses that sum to 1; uniform where none is above 0.

    Example:
        >>> distribution([0.5, 1.5, -0.1])
        [0.25, 0.75, 0.0]
    """
    clipped = [value if value > NOTHING else 0.0 for value in conflicts]
    total = math.fsum(clipped)
    return [value / total for value in clipped] if total > 0 else [1 / len(clipped)] * len(clipped)


def distribution_as_released(similarities: Sequence[float]) -> list[float]:
    """The similarities divided by their sum and rounded; negative ones stay negative.

    Where they sum to 0 the code fails; here the distribution is uniform then.
    """
    total = sum(similarities)
    if total == 0:
        return [1 / len(similarities)] * len(similarities)
    return [round(value / total, ROUNDED) for value in similarities]


def nucleus(masses: Sequence[float], delta: float) -> list[int]:
    """The smallest set of units, by descending mass, whose masses together reach ``delta``; ascending.

    Args:
        masses: of each unit; they sum to 1.
        delta: the grow coefficient, 0 to 1: none for 0, all for 1 (those without mass too).

    Example:
        >>> nucleus([0.2, 0.5, 0.3], 0.6)
        [1, 2]
    """
    if delta >= 1:
        return list(range(len(masses)))
    return nucleus_as_released(masses, delta - SLACK)


def nucleus_as_released(masses: Sequence[float], delta: float) -> list[int]:
    """By descending mass, units are added while the sum so far is below ``delta``; ascending.

    The rounding of masses can leave the last units out at ``delta`` = 1, or take one more below.
    """
    chosen: list[int] = []
    total = 0.0
    for unit in sorted(range(len(masses)), key=lambda i: -masses[i]):
        if total < delta:
            total += masses[unit]
            chosen.append(unit)
    return sorted(chosen)


# Controls


def random_task(candidates: Sequence[str], seed: int, task: str) -> str:
    """Any of the candidates, alike likely: a function of seed and task."""
    return candidates[int(torch.randint(len(candidates), (), generator=generator(seed, "bind", task)))]


def random_units(count: int, seed: int, task: str) -> list[int]:
    """The paper's random growth: a random number of units, 0 to all, and which; ascending. A function of seed and task.

    (Whether the paper's number can be 0 is not said.)
    """
    g = generator(seed, "grow", task)
    number = int(torch.randint(count + 1, (), generator=g))
    return sorted(torch.randperm(count, generator=g)[:number].tolist())
