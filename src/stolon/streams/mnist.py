"""MNIST and every set in its file form: whole, split into classes, rotated, permuted.

A task's validation data are a seeded, stratified share of the published training part. An image that is
training data in one task is training data in all of them. The tasks of a stream share one copy of the
images; rotations and permutations are made batch by batch.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from stolon.errors import DataMissingError, SettingError
from stolon.streams import download as downloads
from stolon.streams import idx, options
from stolon.streams.labelled import Deal, Labelled
from stolon.streams.parts import class_groups, counts
from stolon.streams.views import PixelMap, Scale
from stolon.tasks import Stream, Task

STANDARD = Scale((0.1307,), (0.3081,))
"""MNIST's usual mean and standard deviation, used for all sets in its form."""


def whole(
    *,
    root: str | Path | None = None,
    seed: int = 0,
    dataset: str = "MNIST",
    val_share: float = 0.1,
    train_per_class: int | None = None,
    normalize: bool = False,
    download: bool = False,
) -> Stream:
    """A stream of one task: all classes of a set.

    Args:
        root: the folder that holds ``DATASET/raw/``.
        seed: decides which training images are validation data.
        dataset: the set's folder; parts of EMNIST as ``EMNIST-letters``.
        val_share: the share of training images that is validation data.
        train_per_class: keep this many images of each class, validation included; all by default.
        normalize: standardise with mean 0.1307 and standard deviation 0.3081.
        download: fetch the set if it is missing and torchvision offers it.

    Raises:
        SettingError: an option is out of its range.
        DataMissingError: the files are not there, or cannot be fetched.
        DataError: the files are damaged.
    """
    stream = sets(
        root=root,
        seed=seed,
        datasets=(_name(dataset),),
        val_share=val_share,
        train_per_class=train_per_class,
        normalize=normalize,
        download=download,
    )
    return Stream("mnist", [partial(stream.__getitem__, 0)])


def sets(
    *,
    root: str | Path | None = None,
    seed: int = 0,
    datasets: Sequence[str] | None = None,
    size: int | None = None,
    val_share: float = 0.1,
    train_per_class: int | None = None,
    normalize: bool = False,
    download: bool = False,
) -> Stream:
    """Whole sets as tasks, one for each, named after the set.

    Args:
        root: the folder that holds ``DATASET/raw/``.
        seed: decides which training images are validation data.
        datasets: which sets, in this order; by default all that are found under the root, sorted.
        size: bring images to this height and width, in pixels; by default they stay as published.
        val_share: the share of training images that is validation data.
        train_per_class: keep this many images of each class, validation included; all by default.
        normalize: standardise with mean 0.1307 and standard deviation 0.3081.
        download: fetch sets that are missing and that torchvision offers.

    Raises:
        SettingError: an option is out of its range.
        DataMissingError: files are not there, or cannot be fetched.
        DataError: files are damaged.
    """
    chosen = None if datasets is None else tuple(_name(name) for name in options.words("datasets", datasets))
    side = None if size is None else options.whole("size", size, 1, 512)
    sets_ = _Sets(root, seed, val_share, train_per_class, normalize=normalize, download=download)
    listed = idx.found(sets_.root) if chosen is None else chosen
    if not listed:
        raise DataMissingError(
            f"expected sets in {sets_.root.absolute()}, found none; put each there as NAME/raw/"
            "train-images-idx3-ubyte.gz and its three companions, or pass root="
        )
    sets_.require(listed)
    return Stream("idx", [partial(sets_.whole_task, name, side) for name in listed])


def split(
    *,
    root: str | Path | None = None,
    seed: int = 0,
    dataset: str = "MNIST",
    tasks: int | None = None,
    classes_per_task: int | None = None,
    order: str = "sequential",
    val_share: float = 0.1,
    train_per_class: int | None = None,
    normalize: bool = False,
    download: bool = False,
) -> Stream:
    """The classes of a set, dealt out to tasks: two each by default.

    Args:
        root: the folder that holds ``DATASET/raw/``.
        seed: decides the validation data, and the order of classes if that is seeded.
        dataset: the set's folder; parts of EMNIST as ``EMNIST-letters``.
        tasks: how many tasks; by default as many as the classes allow.
        classes_per_task: how many classes in each; by default the classes are divided evenly.
        order: ``"sequential"`` or ``"seeded"``: the order in which classes are dealt out.
        val_share: the share of training images that is validation data.
        train_per_class: keep this many images of each class, validation included; all by default.
        normalize: standardise with mean 0.1307 and standard deviation 0.3081.
        download: fetch the set if it is missing and torchvision offers it.

    Raises:
        SettingError: an option is out of its range.
        DataMissingError: the files are not there, or cannot be fetched.
        DataError: the files are damaged.
    """
    name = _name(dataset)
    counts(tasks, classes_per_task)
    options.choice("order", order, ("sequential", "seeded"))
    sets_ = _Sets(root, seed, val_share, train_per_class, normalize=normalize, download=download)
    data = sets_.load(name)
    groups = class_groups(len(data.classes), tasks, classes_per_task, order, seed)
    return Stream(
        "mnist-split",
        [
            partial(sets_.deal.task, data, f"{name}-split-{i}", classes=group)
            for i, group in enumerate(groups)
        ],
    )


def permuted(
    *,
    root: str | Path | None = None,
    seed: int = 0,
    dataset: str = "MNIST",
    tasks: int = 10,
    first_plain: bool = True,
    val_share: float = 0.1,
    train_per_class: int | None = None,
    normalize: bool = False,
    download: bool = False,
) -> Stream:
    """All classes in every task, the pixels in another random order in each.

    Args:
        root: the folder that holds ``DATASET/raw/``.
        seed: decides the orders and the validation data; no two seeds share an order.
        dataset: the set's folder; parts of EMNIST as ``EMNIST-letters``.
        tasks: how many tasks.
        first_plain: whether the first task has its pixels in place.
        val_share: the share of training images that is validation data.
        train_per_class: keep this many images of each class, validation included; all by default.
        normalize: standardise with mean 0.1307 and standard deviation 0.3081.
        download: fetch the set if it is missing and torchvision offers it.

    Raises:
        SettingError: an option is out of its range.
        DataMissingError: the files are not there, or cannot be fetched.
        DataError: the files are damaged.
    """
    name = _name(dataset)
    options.whole("tasks", tasks, 1, 10_000)
    options.flag("first_plain", first_plain)
    sets_ = _Sets(root, seed, val_share, train_per_class, normalize=normalize, download=download)
    data = sets_.load(name)

    def make(index: int) -> Task:
        plain = first_plain and index == 0
        pixels = None if plain else PixelMap.permuted(data.train.shape[2] * data.train.shape[3], seed, index)
        return sets_.deal.task(data, f"{name}-permuted-{index}", pixels=pixels)

    return Stream("mnist-permuted", [partial(make, index) for index in range(tasks)])


def rotated(
    *,
    root: str | Path | None = None,
    seed: int = 0,
    dataset: str = "MNIST",
    tasks: int = 10,
    step_degrees: float = 10.0,
    val_share: float = 0.1,
    train_per_class: int | None = None,
    normalize: bool = False,
    download: bool = False,
) -> Stream:
    """All classes in every task, turned by ``step_degrees`` more in each; images are floats, 0 to 1.

    Args:
        root: the folder that holds ``DATASET/raw/``.
        seed: decides the validation data.
        dataset: the set's folder; parts of EMNIST as ``EMNIST-letters``.
        tasks: how many tasks.
        step_degrees: counter-clockwise turn from one task to the next; the first is upright.
        val_share: the share of training images that is validation data.
        train_per_class: keep this many images of each class, validation included; all by default.
        normalize: standardise with mean 0.1307 and standard deviation 0.3081.
        download: fetch the set if it is missing and torchvision offers it.

    Raises:
        SettingError: an option is out of its range.
        DataMissingError: the files are not there, or cannot be fetched.
        DataError: the files are damaged.
    """
    name = _name(dataset)
    options.whole("tasks", tasks, 1, 10_000)
    step = options.real("step_degrees", step_degrees, -360.0, 360.0)
    sets_ = _Sets(root, seed, val_share, train_per_class, normalize=normalize, download=download)
    data = sets_.load(name)

    def make(index: int) -> Task:
        pixels = PixelMap.rotated(data.train.shape[2], data.train.shape[3], step * index)
        return sets_.deal.task(data, f"{name}-rotated-{index}", pixels=pixels)

    return Stream("mnist-rotated", [partial(make, index) for index in range(tasks)])


class _Sets:
    """Sets under a root, and how they are dealt out: the options that these streams share, checked."""

    def __init__(
        self,
        root: str | Path | None,
        seed: int,
        val_share: float,
        train_per_class: int | None,
        *,
        normalize: bool,
        download: bool,
    ) -> None:
        self.root = options.root(root)
        self.deal = Deal(
            seed, val_share, train_per_class, STANDARD if options.flag("normalize", normalize) else None
        )
        self._download = options.flag("download", download)

    def require(self, names: Sequence[str]) -> None:
        if self._download:
            for name in names:
                downloads.fetch(self.root, name)
        idx.require(self.root, names)

    def load(self, name: str) -> Labelled:
        self.require([name])
        return idx.load(self.root, name)

    def whole_task(self, name: str, side: int | None) -> Task:
        data = idx.load(self.root, name)
        if side is not None and data.train.shape[2:] != (side, side):
            data = replace(data, train=_resized(data.train, side), test=_resized(data.test, side))
        return self.deal.task(data, name)


def _resized(images: Tensor, side: int) -> Tensor:
    """Images uint8 [N, C, H, W] brought to [N, C, side, side], some at a time to bound the floats."""
    pieces = [
        functional.interpolate(piece.float(), (side, side), mode="bilinear", antialias=True)
        .round()
        .clamp(0, 255)
        .byte()
        for piece in torch.split(images, 4096)
    ]
    return torch.cat(pieces)


def _name(value: object) -> str:
    """A set's name, which is a folder's: nothing that leads elsewhere."""
    if not isinstance(value, str) or not value or Path(value).name != value or value.startswith("."):
        raise SettingError(f"dataset: expected the name of a folder such as MNIST, found {value!r}")
    if value == "EMNIST":
        raise SettingError("dataset: expected a part of EMNIST, such as EMNIST-letters or EMNIST-balanced")
    return value
