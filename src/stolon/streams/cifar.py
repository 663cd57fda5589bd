"""CIFAR-10 and CIFAR-100, their classes dealt out to tasks.

Read from the published *binary* version (the "python" version is a pickle, and unpickling runs whatever a
file says), or from the ``.npz`` of CIFAR-100 and the image folder of CIFAR-10 that come with shared/data.
A record of the binary version is a label byte (CIFAR-100: coarse, then fine) and 3072 bytes: red, green and
blue planes of 32x32.
"""

import zipfile
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stolon.errors import DataError, DataMissingError
from stolon.streams import options
from stolon.streams.labelled import Deal, Labelled
from stolon.streams.parts import class_groups, counts
from stolon.streams.views import Scale
from stolon.tasks import Stream

STANDARD = Scale((0.507, 0.487, 0.441), (0.267, 0.256, 0.276))
"""CIFAR-100's usual mean and standard deviation per channel, used for CIFAR-10 as well."""

_PIXELS = 3 * 32 * 32
_MAX_UNPACKED = 2**31  # bytes; a small .npz can hold far more
_SITE = "https://www.cs.toronto.edu/~kriz"
_CLASSES_10 = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

# Rostami et al.'s ten tasks (LASEM, classification/gen_data.py), as fine labels.
LASEM = (
    (4, 1, 54, 9, 0, 5, 6, 3, 12, 8),
    (30, 32, 62, 10, 51, 20, 7, 42, 17, 13),
    (55, 67, 70, 16, 53, 25, 14, 43, 37, 48),
    (72, 73, 82, 28, 57, 84, 18, 88, 68, 58),
    (95, 91, 92, 61, 83, 94, 24, 97, 76, 90),
    (22, 23, 15, 34, 26, 2, 27, 36, 47, 41),
    (39, 33, 19, 63, 45, 11, 29, 50, 52, 69),
    (40, 49, 21, 64, 77, 35, 44, 65, 56, 81),
    (86, 60, 31, 66, 79, 46, 78, 74, 59, 85),
    (87, 71, 38, 75, 99, 98, 93, 80, 96, 89),
)
"""The classes of LASEM's ten CIFAR-100 tasks; with train_per_class=20 and val_share=0.15, its 4 % sample."""


def split10(
    *,
    root: str | Path | None = None,
    seed: int = 0,
    tasks: int | None = None,
    classes_per_task: int | None = None,
    order: str = "sequential",
    val_share: float = 0.1,
    train_per_class: int | None = None,
    normalize: bool = False,
) -> Stream:
    """The classes of CIFAR-10, dealt out to tasks: two each by default.

    Args:
        root: the folder that holds ``cifar-10-batches-bin/``, or ``cifar10/train/CLASS/*`` as images.
        seed: decides the validation data, and the order of classes if that is seeded.
        tasks: how many tasks; by default as many as the classes allow.
        classes_per_task: how many classes in each; by default the classes are divided evenly.
        order: ``"sequential"`` or ``"seeded"``: the order in which classes are dealt out.
        val_share: the share of training images that is validation data.
        train_per_class: keep this many images of each class, validation included; all by default.
        normalize: standardise with the usual figures; images are uint8 otherwise.

    Raises:
        SettingError: an option is out of its range.
        DataMissingError: the files are not there.
        DataError: the files are damaged.
    """
    counts(tasks, classes_per_task)
    options.choice("order", order, ("sequential", "seeded"))
    deal = Deal(seed, val_share, train_per_class, STANDARD if options.flag("normalize", normalize) else None)
    data = load10(options.root(root))
    groups = class_groups(len(data.classes), tasks, classes_per_task, order, seed)
    return _stream("cifar10-split", data, deal, groups)


def split100(
    *,
    root: str | Path | None = None,
    seed: int = 0,
    tasks: int | None = None,
    classes_per_task: int | None = None,
    order: str = "sequential",
    val_share: float = 0.1,
    train_per_class: int | None = None,
    normalize: bool = False,
) -> Stream:
    """The classes of CIFAR-100, dealt out to tasks: ten tasks of ten by default.

    Args:
        root: the folder that holds ``cifar-100-binary/``, or ``CIFAR100/*.npz``.
        seed: decides the validation data, and the order of classes if that is seeded.
        tasks: how many tasks; by default as many as the classes allow.
        classes_per_task: how many classes in each; by default the classes are divided evenly.
        order: ``"sequential"``, ``"seeded"``, or ``"lasem"`` for that paper's ten tasks of ten.
        val_share: the share of training images that is validation data.
        train_per_class: keep this many images of each class, validation included; all by default.
        normalize: standardise with the usual figures; images are uint8 otherwise.

    Raises:
        SettingError: an option is out of its range.
        DataMissingError: the files are not there.
        DataError: the files are damaged.
    """
    counts(tasks, classes_per_task)
    options.choice("order", order, ("sequential", "seeded", "lasem"))
    if tasks is None and classes_per_task is None:
        tasks = 10
    if order == "lasem":
        if tasks is not None:
            options.whole("tasks (order lasem)", tasks, 1, 10)
        if classes_per_task is not None:
            options.whole("classes_per_task (order lasem)", classes_per_task, 10, 10)
        groups = [list(group) for group in LASEM[:tasks]]
    else:
        groups = class_groups(100, tasks, classes_per_task, order, seed)
    deal = Deal(seed, val_share, train_per_class, STANDARD if options.flag("normalize", normalize) else None)
    return _stream("cifar100-split", load100(options.root(root)), deal, groups)


def _stream(name: str, data: Labelled, deal: Deal, groups: Sequence[Sequence[int]]) -> Stream:
    return Stream(
        name, [partial(deal.task, data, f"{name}-{i}", classes=group) for i, group in enumerate(groups)]
    )


def load10(root: Path) -> Labelled:
    """CIFAR-10 as published in binary form, or as a folder of images.

    Raises:
        DataMissingError: the files are not there.
        DataError: the files are damaged.
    """
    folder = root / "cifar-10-batches-bin"
    if folder.is_dir():
        paths = [folder / f"data_batch_{i}.bin" for i in range(1, 6)]
        _require([*paths, folder / "test_batch.bin"], "CIFAR-10", "cifar-10-binary.tar.gz", root)
        parts = [_records(path, label_bytes=1, classes=10) for path in paths]
        test, test_labels = _records(folder / "test_batch.bin", label_bytes=1, classes=10)
        train, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return Labelled("CIFAR10", _CLASSES_10, train, labels, test, test_labels)
    images = root / "cifar10"
    if images.is_dir():
        return _from_folder(images)
    raise _missing("CIFAR-10", "cifar-10-binary.tar.gz", root, [folder, images])


def load100(root: Path) -> Labelled:
    """CIFAR-100 as published in binary form, or as arrays.

    Raises:
        DataMissingError: the files are not there.
        DataError: the files are damaged.
    """
    folder = root / "cifar-100-binary"
    if folder.is_dir():
        paths = [folder / name for name in ("train.bin", "test.bin", "fine_label_names.txt")]
        _require(paths, "CIFAR-100", "cifar-100-binary.tar.gz", root)
        train, labels = _records(paths[0], label_bytes=2, classes=100)
        test, test_labels = _records(paths[1], label_bytes=2, classes=100)
        names = tuple(paths[2].read_text(encoding="ascii", errors="replace").split())
        if len(names) != 100:
            raise DataError(f"{paths[2]}: expected 100 class names, found {len(names)}; get it again")
        return Labelled("CIFAR100", names, train, labels, test, test_labels)
    arrays = sorted((root / "CIFAR100").glob("*.npz"))
    if len(arrays) > 1:
        raise DataError(
            f"{arrays[0].parent}: expected one .npz, found {len(arrays)}; keep the one that is meant"
        )
    if arrays:
        return _from_npz(arrays[0])
    raise _missing("CIFAR-100", "cifar-100-binary.tar.gz", root, [folder, root / "CIFAR100"])


def _records(path: Path, *, label_bytes: int, classes: int) -> tuple[Tensor, Tensor]:
    """Images uint8 [N, 3, 32, 32] and (fine) labels of one file of the binary version."""
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{path}: expected a readable file, found: {error.strerror or error}") from error
    record = label_bytes + _PIXELS
    if not len(data) or len(data) % record:
        raise DataError(
            f"{path}: expected records of {record} bytes, found {len(data):,} bytes; get it again"
        )
    rows = torch.from_numpy(data).view(-1, record)
    labels = rows[:, label_bytes - 1].long()
    if int(labels.max()) >= classes:
        raise DataError(
            f"{path}: expected labels 0 to {classes - 1}, found {int(labels.max())}; get it again"
        )
    return rows[:, label_bytes:].reshape(-1, 3, 32, 32), labels


def _from_npz(path: Path) -> Labelled:
    """CIFAR-100 as arrays: {train,test}_{images,fine} and fine_names."""
    keys = ("train_images", "train_fine", "test_images", "test_fine", "fine_names")
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        with np.load(path, allow_pickle=False) as file:
            absent = [key for key in keys if key not in file]
            arrays = [] if absent or unpacked > _MAX_UNPACKED else [file[key] for key in keys]
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: expected a whole .npz without objects, found: {error}; get it again"
        ) from error
    if not arrays:
        raise DataError(
            f"{path}: expected arrays {', '.join(keys)} of at most {_MAX_UNPACKED:,} bytes, found "
            f"{unpacked:,} bytes{' without ' if absent else ''}{', '.join(absent)}; get it again"
        )
    train, labels, test, test_labels, names = arrays
    for images, own in ((train, labels), (test, test_labels)):
        if images.dtype != np.uint8 or images.shape != (len(own), 32, 32, 3) or own.dtype.kind not in "iu":
            raise DataError(
                f"{path}: expected images uint8 [N, 32, 32, 3] and integer labels [N], found {images.dtype} "
                f"{list(images.shape)} and {own.dtype} {list(own.shape)}; get it again"
            )
        if names.shape != (100,) or not len(own) or not 0 <= own.min() <= own.max() < 100:
            raise DataError(f"{path}: expected 100 names and labels 0 to 99, found others; get it again")
    return Labelled(
        "CIFAR100",
        tuple(map(str, names)),
        torch.from_numpy(train).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(labels.astype(np.int64)),
        torch.from_numpy(test).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(test_labels.astype(np.int64)),
    )


def _from_folder(path: Path) -> Labelled:
    """CIFAR-10 as images of 32x32 pixels in train/CLASS and test/CLASS."""
    from stolon.streams import folders

    task = folders.read_task(path, size=32, val_share=0.0)
    if task.classes != _CLASSES_10:
        raise DataError(
            f"{path}: expected the classes {', '.join(_CLASSES_10)}, found {', '.join(task.classes)}"
        )
    (train, labels), (test, test_labels) = (
        part.batch(torch.arange(len(part))) for part in (task.train, task.test)
    )
    return Labelled("CIFAR10", task.classes, train, labels, test, test_labels)


def _require(paths: Sequence[Path], what: str, archive: str, root: Path) -> None:
    absent = [path for path in paths if not path.is_file()]
    if absent:
        raise _missing(what, archive, root, absent)


def _missing(what: str, archive: str, root: Path, paths: Sequence[Path]) -> DataMissingError:
    listed = " or ".join(str(path.absolute()) for path in paths)
    return DataMissingError(
        f"{what}: expected {listed}, found none; get the binary version from {_SITE}/{archive} (the python "
        f"version is a pickle and is not read), unpack it in {root.absolute()}, or pass root="
    )
