"""A whole set in memory, and how it is dealt out to tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stolon import randomness
from stolon.errors import DataError
from stolon.streams import options
from stolon.streams.noise import Disturbance
from stolon.streams.parts import per_class, stratified
from stolon.streams.views import MappedSplit, PixelMap, Scale, relabelled
from stolon.tasks import Task


@dataclass(frozen=True)
class Labelled:
    """A whole set in memory.

    Attributes:
        name: what it is called.
        classes: class names.
        train: training images, uint8 [N, C, H, W].
        train_labels: their class indices, int64 [N].
        test: test images, uint8 [M, C, H, W].
        test_labels: their class indices, int64 [M].
    """

    name: str
    classes: tuple[str, ...]
    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


class Deal:
    """Makes tasks of a set; an image is in the same part in every task.

    Args:
        seed: decides which training images are kept, and which are validation data.
        val_share: the share of training images that is validation data.
        train_per_class: keep this many images of each class, validation included; None keeps all.
        scale: how to standardise: usual figures; ``"task"`` for those of a task's own training images;
            ``"part"`` for those of each part's own images; None leaves images as they are.
        groups: how many samples of ``train_per_class`` images, without one in common, a class must have room
            for.
        group: which of them is kept, from 0.
        order: reorders training and validation data, as a function of seed and this number; None keeps the
            set's order.

    Raises:
        SettingError: an option is out of its range.
    """

    def __init__(
        self,
        seed: int,
        val_share: float,
        train_per_class: int | None,
        scale: Scale | Literal["task", "part"] | None,
        *,
        groups: int = 1,
        group: int = 0,
        order: int | None = None,
    ) -> None:
        self._seed = options.seed(seed)
        self._val_share, _ = options.shares(val_share)
        self._limit = train_per_class
        if train_per_class is not None:
            options.whole("train_per_class", train_per_class, 2, 10**9)
        self._scale = scale
        self._groups, self._group, self._order = groups, group, order

    def task(
        self,
        data: Labelled,
        name: str,
        *,
        classes: Sequence[int] | None = None,
        pixels: PixelMap | None = None,
    ) -> Task:
        """A task of some classes, in the order given, with pixels mapped.

        Args:
            data: the set.
            name: the task's name.
            classes: which classes; None takes all.
            pixels: how to map pixels, if at all.

        Raises:
            DataError: a class has too few images for validation data, or for all groups.
        """
        chosen = list(range(len(data.classes))) if classes is None else list(classes)
        train, val = (of_classes(rows, data.train_labels, chosen) for rows in self._parts(data))
        test = of_classes(torch.arange(len(data.test_labels)), data.test_labels, chosen)
        scales = self._scales(data, train, val, test)
        parts = (
            part(images, labels, rows, chosen, pixels=pixels, scale=scale)
            for (images, labels), rows, scale in zip(_sources(data), (train, val, test), scales, strict=True)
        )
        return Task(name, tuple(data.classes[label] for label in chosen), *parts)

    def check(self, data: Labelled) -> None:
        """Refuse a set that has no room for all groups; tasks of it would be refused as well.

        Raises:
            DataError: a class has too few training images.
        """
        if self._limit is None or self._groups == 1:
            return
        expected = self._groups * self._limit
        counts = data.train_labels.bincount(minlength=len(data.classes))
        if int(counts.min()) < expected:
            raise DataError(
                f"{data.name}: expected at least {expected} training images of each class, {self._limit} for "
                f"each of {self._groups} groups, found {int(counts.min())} of "
                f"{data.classes[int(counts.argmin())]}; make train_per_class smaller"
            )

    def _scales(self, data: Labelled, *parts: Tensor) -> list[Scale | None]:
        """How to standardise training, validation and test data, of which these are the rows."""
        if self._scale is None or isinstance(self._scale, Scale):
            return [self._scale] * len(parts)
        if self._scale == "task":
            return [Scale.measured(data.train[parts[0]])] * len(parts)
        return [
            Scale.measured(images[rows]) if len(rows) else None
            for (images, _), rows in zip(_sources(data), parts, strict=True)
        ]

    def _parts(self, data: Labelled) -> tuple[Tensor, Tensor]:
        """The rows of training and of validation data, of all classes: what one task has, all have."""
        rows = torch.arange(len(data.train_labels))
        if self._limit is not None:
            self.check(data)
            rows = per_class(
                rows, data.train_labels, self._limit, self._seed, "kept", data.name, group=self._group
            )
        dealt = stratified(data.train_labels[rows], [self._val_share], self._seed, "val", data.name)
        train, val = (rows[part] for part in dealt)
        if self._order is None:
            return train, val
        purpose = ("order", data.name, self._order)
        return (
            train[randomness.permutation(len(train), self._seed, "train", *purpose)],
            val[randomness.permutation(len(val), self._seed, "val", *purpose)],
        )


def of_classes(rows: Tensor, labels: Tensor, classes: Sequence[int]) -> Tensor:
    """Those of the rows that are of these classes, in their order.

    Example:
        >>> of_classes(torch.tensor([0, 2, 3]), torch.tensor([5, 7, 7, 6]), [5, 7])
        tensor([0, 2])
    """
    return rows[torch.isin(labels[rows], torch.tensor(classes))]


def part(
    images: Tensor,
    labels: Tensor,
    rows: Tensor,
    classes: Sequence[int],
    *,
    pixels: PixelMap | None = None,
    scale: Scale | None = None,
    disturbance: Disturbance | None = None,
) -> MappedSplit:
    """Some rows of a set, labelled within these classes, which they must be of.

    Args:
        images: all images of the set.
        labels: their class indices.
        rows: which of them.
        classes: the task's classes.
        pixels: how to map pixels, if at all.
        scale: how to standardise, if at all.
        disturbance: noise and swapped channels, if any.
    """
    own = relabelled(labels[rows], classes)
    return MappedSplit(images, rows, own, pixels=pixels, scale=scale, disturbance=disturbance)


def _sources(data: Labelled) -> tuple[tuple[Tensor, Tensor], ...]:
    """The images and labels that training, validation and test data are rows of."""
    train = (data.train, data.train_labels)
    return train, train, (data.test, data.test_labels)
