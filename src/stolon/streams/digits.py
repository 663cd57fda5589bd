"""Scikit-learn's handwritten digits: 1797 images of 8x8 pixels, floats 0 to 1, that need no download.

They are divided by the seed into training, validation and test data, class by class; an image is in the
same part in every task.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from stolon.errors import SettingError
from stolon.streams import options
from stolon.streams.parts import class_groups, counts, stratified
from stolon.streams.views import PixelMap, Scale, relabelled
from stolon.tasks import Split, Stream, Task

STANDARD = Scale((0.3053,), (0.3760,))
"""Mean and standard deviation of all pixels."""

_SIDE = 8


def split(
    *,
    root: str | Path | None = None,
    seed: int = 0,
    tasks: int | None = None,
    classes_per_task: int | None = None,
    order: str = "sequential",
    classes: Sequence[int] = tuple(range(10)),
    val_share: float = 0.1,
    test_share: float = 0.2,
    normalize: bool = False,
) -> Stream:
    """The digits, dealt out to tasks: two each by default.

    Args:
        root: not used; the digits come with scikit-learn.
        seed: decides the parts, and the order of classes if that is seeded.
        tasks: how many tasks; by default as many as the classes allow.
        classes_per_task: how many classes in each; by default the classes are divided evenly.
        order: ``"sequential"`` or ``"seeded"``: the order in which classes are dealt out.
        classes: the digits to use.
        val_share: the share of all images that is validation data.
        test_share: the share of all images that is test data.
        normalize: standardise with mean 0.3053 and standard deviation 0.3760.

    Raises:
        SettingError: an option is out of its range.
    """
    counts(tasks, classes_per_task)
    options.choice("order", order, ("sequential", "seeded"))
    digits = _Digits(root, seed, classes, val_share, test_share, normalize=normalize)
    groups = class_groups(len(digits.classes), tasks, classes_per_task, order, seed)
    return Stream(
        "digits-split",
        [
            partial(digits.task, f"digits-split-{i}", classes=[digits.classes[label] for label in group])
            for i, group in enumerate(groups)
        ],
    )


def rotated(
    *,
    root: str | Path | None = None,
    seed: int = 0,
    tasks: int = 5,
    step_degrees: float = 36.0,
    classes: Sequence[int] = tuple(range(10)),
    val_share: float = 0.1,
    test_share: float = 0.2,
    normalize: bool = False,
) -> Stream:
    """All digits in every task, turned by ``step_degrees`` more in each.

    Args:
        root: not used; the digits come with scikit-learn.
        seed: decides the parts.
        tasks: how many tasks.
        step_degrees: counter-clockwise turn from one task to the next; the first is upright.
        classes: the digits to use.
        val_share: the share of all images that is validation data.
        test_share: the share of all images that is test data.
        normalize: standardise with mean 0.3053 and standard deviation 0.3760.

    Raises:
        SettingError: an option is out of its range.
    """
    options.whole("tasks", tasks, 1, 10_000)
    step = options.real("step_degrees", step_degrees, -360.0, 360.0)
    digits = _Digits(root, seed, classes, val_share, test_share, normalize=normalize)

    def make(index: int) -> Task:
        return digits.task(f"digits-rotated-{index}", change=PixelMap.rotated(_SIDE, _SIDE, step * index))

    return Stream("digits-rotated", [partial(make, index) for index in range(tasks)])


def permuted(
    *,
    root: str | Path | None = None,
    seed: int = 0,
    tasks: int = 5,
    first_plain: bool = True,
    classes: Sequence[int] = tuple(range(10)),
    val_share: float = 0.1,
    test_share: float = 0.2,
    normalize: bool = False,
) -> Stream:
    """All digits in every task, the pixels in another random order in each.

    Args:
        root: not used; the digits come with scikit-learn.
        seed: decides the orders and the parts; no two seeds share an order.
        tasks: how many tasks.
        first_plain: whether the first task has its pixels in place.
        classes: the digits to use.
        val_share: the share of all images that is validation data.
        test_share: the share of all images that is test data.
        normalize: standardise with mean 0.3053 and standard deviation 0.3760.

    Raises:
        SettingError: an option is out of its range.
    """
    options.whole("tasks", tasks, 1, 10_000)
    options.flag("first_plain", first_plain)
    digits = _Digits(root, seed, classes, val_share, test_share, normalize=normalize)

    def make(index: int) -> Task:
        plain = first_plain and index == 0
        change = _same if plain else PixelMap.permuted(_SIDE * _SIDE, seed, index)
        return digits.task(f"digits-permuted-{index}", change=change)

    return Stream("digits-permuted", [partial(make, index) for index in range(tasks)])


def mixed(
    *,
    root: str | Path | None = None,
    seed: int = 0,
    classes: Sequence[int] = tuple(range(10)),
    val_share: float = 0.1,
    test_share: float = 0.2,
    normalize: bool = False,
) -> Stream:
    """Six unlike tasks made of the digits: two halves, a quarter turn, inverted, permuted, upside down.

    Args:
        root: not used; the digits come with scikit-learn.
        seed: decides the parts and the order of pixels.
        classes: the digits to use, four or more.
        val_share: the share of all images that is validation data.
        test_share: the share of all images that is test data.
        normalize: standardise with mean 0.3053 and standard deviation 0.3760.

    Raises:
        SettingError: an option is out of its range.
    """
    digits = _Digits(root, seed, classes, val_share, test_share, normalize=normalize)
    if len(digits.classes) < 4:
        raise SettingError(f"classes: expected four digits or more, two for each half, found {classes!r}")
    middle = (len(digits.classes) + 1) // 2
    changes: list[tuple[str, Sequence[int], Callable[[Tensor], Tensor]]] = [
        ("lower", digits.classes[:middle], _same),
        ("upper", digits.classes[middle:], _same),
        ("turned", digits.classes, PixelMap.rotated(_SIDE, _SIDE, 90.0)),
        ("inverted", digits.classes, _inverted),
        ("permuted", digits.classes, PixelMap.permuted(_SIDE * _SIDE, seed, 0)),
        ("upside-down", digits.classes, PixelMap.rotated(_SIDE, _SIDE, 180.0)),
    ]
    return Stream(
        "digits-mixed",
        [
            partial(digits.task, f"digits-{name}", classes=chosen, change=change)
            for name, chosen, change in changes
        ],
    )


class _Digits:
    """The digits and their parts: the options that all of these streams share, checked."""

    def __init__(
        self,
        root: str | Path | None,
        seed: int,
        classes: Sequence[int],
        val_share: float,
        test_share: float,
        *,
        normalize: bool,
    ) -> None:
        options.root(root)
        self.classes = options.numbers("classes", classes, 0, 9)
        self._seed = options.seed(seed)
        self._shares = options.shares(val_share, test_share)
        self._scale = STANDARD if options.flag("normalize", normalize) else None

    def task(
        self,
        name: str,
        *,
        classes: Sequence[int] | None = None,
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> Task:
        images, labels = _load()
        chosen = list(self.classes if classes is None else classes)
        parts = stratified(
            labels, self._shares, self._seed, "digits"
        )  # over all digits: the same in all tasks
        splits = []
        for rows in parts:
            own = rows[torch.isin(labels[rows], torch.tensor(chosen))]
            x = (change or _same)(images[own])
            splits.append(
                Split.of(x if self._scale is None else self._scale(x), relabelled(labels[own], chosen))
            )
        return Task(name, tuple(map(str, chosen)), *splits)


@cache
def _load() -> tuple[Tensor, Tensor]:
    """All digits as floats [1797, 1, 8, 8], 0 to 1, and their labels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images).float() / 16
    return images[:, None], torch.from_numpy(digits.target).long()


def _same(x: Tensor) -> Tensor:
    return x


def _inverted(x: Tensor) -> Tensor:
    return 1 - x
