"""A whole set in memory, and how it is dealt out to tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from stolon.streams import options
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
        scale: how to standardise, if at all.

    Raises:
        SettingError: an option is out of its range.
    """

    def __init__(self, seed: int, val_share: float, train_per_class: int | None, scale: Scale | None) -> None:
        self._seed = options.seed(seed)
        self._val_share, _ = options.shares(val_share)
        self._limit = train_per_class
        if train_per_class is not None:
            options.whole("train_per_class", train_per_class, 2, 10**9)
        self._scale = scale

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
            DataError: a class has too few images for validation data.
        """
        chosen = list(range(len(data.classes))) if classes is None else list(classes)
        rows = torch.arange(len(data.train_labels))
        if self._limit is not None:
            rows = per_class(rows, data.train_labels, self._limit, self._seed, "kept", data.name)
        # Dealt over all classes of the set, so that an image is in the same part in every task.
        kept = data.train_labels[rows]
        train, val = (
            rows[part] for part in stratified(kept, [self._val_share], self._seed, "val", data.name)
        )
        make = partial(_of_classes, chosen, pixels=pixels, scale=self._scale)
        return Task(
            name,
            tuple(data.classes[label] for label in chosen),
            make(data.train, data.train_labels, train),
            make(data.train, data.train_labels, val),
            make(data.test, data.test_labels, torch.arange(len(data.test_labels))),
        )


def _of_classes(
    classes: Sequence[int],
    images: Tensor,
    labels: Tensor,
    rows: Tensor,
    *,
    pixels: PixelMap | None,
    scale: Scale | None,
) -> MappedSplit:
    """Those of the rows that are of these classes, labelled within them."""
    own = rows[torch.isin(labels[rows], torch.tensor(classes))]
    return MappedSplit(images, own, relabelled(labels[own], classes), pixels=pixels, scale=scale)
