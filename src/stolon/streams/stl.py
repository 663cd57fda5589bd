"""STL-10, and LASEM's recipe of many small tasks from ten classes, with noise and swapped channels.

Read from the published binary version, ``stl10_binary/``: images of 3x96x96 bytes, each channel column by
column, and labels 1 to 10, a byte each. The 100,000 images without labels are not read.

The recipe, which CIFAR-10 can be put through as well: each task has a set of classes of its own, a share of
their training images, a mean and a deviation of Gaussian noise, and an order of the colour channels. Values
go from -0.5 to 0.5.

Source:
    Lee et al., "Sharing less is more", submission to ICLR 2021, section 4, appendices A and E;
    Lifelong-ML/LASEM, classification/gen_data.py.

Deliberate differences: an image is in the same part in every task, also where two tasks draw it (the
released code deals each task anew, so one task validates with what another is trained on); noise belongs to
an image and a task, and is made when it is asked for.
"""

import itertools
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stolon import randomness
from stolon.errors import DataError, DataMissingError, SettingError
from stolon.streams import download as downloads
from stolon.streams import options
from stolon.streams.cifar import load10
from stolon.streams.labelled import Labelled, of_classes, part
from stolon.streams.noise import Disturbance
from stolon.tasks import Stream, Task

CLASSES = 10
"""Classes of either set."""

VARIANTS = {"20x3": (20, 3, 0.25, 0.15), "15x5": (15, 5, 0.1, 0.5)}
"""Tasks, classes of each, share of the training images, and share of these that is validation data."""

NOISES = {
    "released": ((-0.05, -0.025, 0.0, 0.025), (0.0, 0.025)),
    "paper": ((-0.1, -0.05, 0.0, 0.05, 0.1), (0.0, 0.05, 0.1)),
    "none": ((0.0,), (0.0,)),
}
"""What means and deviations of noise are drawn from, as shares of the range of pixels."""

_SIDE = 96
_PIXELS = 3 * _SIDE * _SIDE
_PAGE = "https://cs.stanford.edu/~acoates/stl10/"


def stl10(
    *,
    root: str | Path | None = None,
    seed: int = 0,
    variant: str = "20x3",
    tasks: int | None = None,
    classes_per_task: int | None = None,
    data_share: float | None = None,
    val_share: float | None = None,
    noise: str = "released",
    swap_channels: bool = True,
    design: int = 0,
    download: bool = False,
) -> Stream:
    """LASEM's STL-10: 20 tasks of three classes, 318 training, 57 validation and 2,400 test images each.

    Args:
        root: the folder that holds ``stl10_binary/``, or its files.
        seed: decides which images a task has, and every value of the noise.
        variant: ``"20x3"``, or ``"15x5"``: 15 tasks of five classes with a tenth of the images, half of it
            validation data. It stands for the next four, each of which may be given instead.
        tasks: how many tasks; there are 120 sets of three classes, and 252 of five.
        classes_per_task: how many classes in each, 2 to 10.
        data_share: the share of a class's training images that a task has, validation included.
        val_share: the share of those that is validation data.
        noise: ``"released"``: the mean is -5, -2.5, 0 or 2.5 % of the range of pixels, the deviation 0 or
            2.5 %; ``"paper"``: the mean is -10, -5, 0, 5 or 10 %, the deviation 0, 5 or 10 % (the paper has
            the variance negative as well, which there is not); ``"none"``.
        swap_channels: whether a task has red, green and blue in an order of its own.
        design: decides each task's classes, noise and channels. One for all seeds, as in the authors' five
            runs.
        download: fetch the set (2.6 GB, of which 0.4 are kept) unless it is there.

    Raises:
        SettingError: an option is out of its range.
        DataMissingError: the files are not there, or could not be fetched.
        DataError: the files are damaged, or a class has too few images.
    """
    recipe = _Recipe.checked(
        variant,
        tasks,
        classes_per_task,
        shares=(data_share, val_share),
        noise=noise,
        swap_channels=swap_channels,
        seeds=(seed, design),
    )
    fetch = options.flag("download", download)
    folder = options.root(root)
    if fetch:
        downloads.fetch_stl10(folder)
    return recipe.stream("stl10-lasem", load(folder))


def cifar10(
    *,
    root: str | Path | None = None,
    seed: int = 0,
    variant: str = "20x3",
    tasks: int | None = None,
    classes_per_task: int | None = None,
    data_share: float | None = None,
    val_share: float | None = None,
    noise: str = "released",
    swap_channels: bool = True,
    design: int = 0,
) -> Stream:
    """The recipe of :func:`stl10` with the images of CIFAR-10.

    Published, CIFAR-10 has 5,000 training images of each class, and a quarter of them are 1,250. Of the 150
    in shared/data a quarter are 37: 93 training and 18 validation images in a task of three classes;
    ``data_share=1.0`` takes all.

    Args:
        root: the folder that holds ``cifar-10-batches-bin/``, or ``cifar10/train/CLASS/*`` as images.
        seed: decides which images a task has, and every value of the noise.
        variant: ``"20x3"`` or ``"15x5"``, as for :func:`stl10`.
        tasks: how many tasks.
        classes_per_task: how many classes in each, 2 to 10.
        data_share: the share of a class's training images that a task has, validation included.
        val_share: the share of those that is validation data.
        noise: ``"released"``, ``"paper"`` or ``"none"``.
        swap_channels: whether a task has red, green and blue in an order of its own.
        design: decides each task's classes, noise and channels.

    Raises:
        SettingError: an option is out of its range.
        DataMissingError: the files are not there.
        DataError: the files are damaged, or a class has too few images.
    """
    recipe = _Recipe.checked(
        variant,
        tasks,
        classes_per_task,
        shares=(data_share, val_share),
        noise=noise,
        swap_channels=swap_channels,
        seeds=(seed, design),
    )
    return recipe.stream("cifar10-stl", load10(options.root(root)))


def load(root: Path) -> Labelled:
    """STL-10's labelled images as published in binary form, in ``root/stl10_binary`` or in ``root``.

    Raises:
        DataMissingError: the files are not there.
        DataError: the files are damaged.
    """
    folder = root if (root / "train_X.bin").is_file() else root / "stl10_binary"
    absent = [folder / name for name in downloads.STL10_FILES if not (folder / name).is_file()]
    if absent:
        raise DataMissingError(
            f"STL-10: expected {' and '.join(str(path.absolute()) for path in absent)}, found none; get "
            f"stl10_binary.tar.gz from {_PAGE} and unpack it in {root.absolute()}, pass root=, or "
            "download=True"
        )
    names = tuple((folder / "class_names.txt").read_text(encoding="ascii", errors="replace").split())
    if len(names) != CLASSES or len(set(names)) != CLASSES:
        raise DataError(
            f"{folder / 'class_names.txt'}: expected {CLASSES} class names, found {len(set(names))}; get it "
            "again"
        )
    return Labelled("STL10", names, *_part(folder, "train"), *_part(folder, "test"))


def _part(folder: Path, name: str) -> tuple[Tensor, Tensor]:
    """Images uint8 [N, 3, 96, 96] and labels 0 to 9."""
    image_path, label_path = folder / f"{name}_X.bin", folder / f"{name}_y.bin"
    pixels, labels = _bytes(image_path), _bytes(label_path)
    if not len(pixels) or len(pixels) % _PIXELS:
        raise DataError(
            f"{image_path}: expected images of {_PIXELS:,} bytes, found {len(pixels):,} bytes; get it again"
        )
    if len(labels) != len(pixels) // _PIXELS:
        raise DataError(
            f"{label_path}: expected a label for each of {len(pixels) // _PIXELS:,} images, found "
            f"{len(labels):,}; get it again"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 1 or high > CLASSES:
        raise DataError(f"{label_path}: expected labels 1 to {CLASSES}, found {low} to {high}; get it again")
    columns = torch.from_numpy(pixels).view(-1, 3, _SIDE, _SIDE)
    return columns.transpose(2, 3).contiguous(), torch.from_numpy(labels).long() - 1


def _bytes(path: Path) -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
    try:
        return np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{path}: expected a readable file, found: {error.strerror or error}") from error


@dataclass(frozen=True)
class _Recipe:
    """The options, checked."""

    tasks: int
    classes_per_task: int
    data_share: float
    val_share: float
    noise: str
    swap_channels: bool
    seed: int
    design: int

    @staticmethod
    def checked(
        variant: str,
        tasks: int | None,
        classes_per_task: int | None,
        *,
        shares: tuple[float | None, float | None],
        noise: str,
        swap_channels: bool,
        seeds: tuple[int, int],
    ) -> "_Recipe":
        options.choice("variant", variant, tuple(VARIANTS))
        usual = VARIANTS[variant]
        size = usual[1] if classes_per_task is None else classes_per_task
        options.whole("classes_per_task", size, 2, CLASSES)
        number = usual[0] if tasks is None else tasks
        options.whole("tasks", number, 1, math.comb(CLASSES, size))
        data_share = options.real("data_share", usual[2] if shares[0] is None else shares[0], 0.0, 1.0)
        if not data_share:
            raise SettingError("data_share: expected more than 0, found 0")
        val_share, _ = options.shares(usual[3] if shares[1] is None else shares[1])
        options.choice("noise", noise, tuple(NOISES))
        swap = options.flag("swap_channels", swap_channels)
        options.whole("design", seeds[1], -(2**63), 2**63 - 1)
        return _Recipe(number, size, data_share, val_share, noise, swap, options.seed(seeds[0]), seeds[1])

    def stream(self, name: str, data: Labelled) -> Stream:
        sets = list(itertools.combinations(range(CLASSES), self.classes_per_task))
        drawn = randomness.permutation(len(sets), self.design, "stl", "sets", self.classes_per_task)
        return Stream(
            name,
            [partial(self.task, name, data, i, sets[drawn[i]]) for i in range(self.tasks)],
        )

    def task(self, name: str, data: Labelled, number: int, members: tuple[int, ...]) -> Task:
        order = randomness.permutation(len(members), self.design, "stl", "classes", number)
        classes = [members[i] for i in order.tolist()]
        dealt = [self.deal(data, label, number) for label in classes]
        train, val = (torch.cat(rows).sort().values for rows in zip(*dealt, strict=True))
        test = of_classes(torch.arange(len(data.test_labels)), data.test_labels, classes)
        return Task(
            f"{name}-{number}",
            tuple(data.classes[label] for label in classes),
            part(data.train, data.train_labels, train, classes, disturbance=self.view(data, number, "train")),
            part(data.train, data.train_labels, val, classes, disturbance=self.view(data, number, "train")),
            part(data.test, data.test_labels, test, classes, disturbance=self.view(data, number, "test")),
        )

    def deal(self, data: Labelled, label: int, number: int) -> tuple[Tensor, Tensor]:
        """A class's rows for training and for validation: drawn for the task, from two pools for all tasks.

        The pools share the class as a task's own images are shared out, so each has enough to draw from.
        """
        rows = (data.train_labels == label).nonzero().flatten()
        used = math.floor(self.data_share * len(rows) + 1e-9)
        vals, val_pool = (math.ceil(self.val_share * count - 1e-9) for count in (used, len(rows)))
        if used - vals < 1:
            raise DataError(
                f"{data.name}: expected enough images of {data.classes[label]} to train on after a share of "
                f"{self.data_share} and validation data, found {len(rows)}; make data_share larger"
            )
        pools = rows[randomness.permutation(len(rows), self.seed, "stl", "pools", data.name, label)]
        train, val = (
            pool[randomness.permutation(len(pool), self.seed, "stl", which, data.name, number, label)[:count]]
            for which, pool, count in (
                ("train", pools[val_pool:], used - vals),
                ("val", pools[:val_pool], vals),
            )
        )
        return train, val

    def view(self, data: Labelled, number: int, images: str) -> Disturbance:
        """What a task does to the training or the test images of the set."""
        means, stds = NOISES[self.noise]
        mean = means[randomness.number(self.design, "stl", "mean", number) % len(means)]
        std = stds[randomness.number(self.design, "stl", "std", number) % len(stds)]
        order = randomness.permutation(3, self.design, "stl", "channels", number).tolist()
        channels = tuple(order) if self.swap_channels else (0, 1, 2)
        key = randomness.number(self.seed, "stl", "noise", data.name, images, number)
        return Disturbance(mean, std, channels, key)
