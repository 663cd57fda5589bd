"""Where the images of ImageNet and Tiny ImageNet lie, in the forms in which they are published; no image is read."""

import os
import re
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from stolon.errors import DataError, DataMissingError
from stolon.streams import images

_MAX_LIST: Final = 2**25  # bytes of a list of labels; the published ones have less than 3 MB
_FLAT: Final = re.compile(r"ILSVRC2012_val_([0-9]{8})\.JPEG")
_TRUTH: Final = "ILSVRC2012_validation_ground_truth.txt"


@dataclass(frozen=True)
class Published:
    """A published set, before its images are listed.

    Attributes:
        root: its folder.
        train: the folder of each class's training images, by class name, sorted.
        test: the folder of each class's test images, or their files: the published validation data.
    """

    root: Path
    train: Mapping[str, Path]
    test: Mapping[str, Path | Sequence[Path]]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted."""
        return tuple(self.train)

    def files(self, part: Literal["train", "test"], name: str) -> Sequence[Path]:
        """A class's images in a part, sorted by name.

        Raises:
            DataError: the folder cannot be read, or holds something else than files.
        """
        place = self.train[name] if part == "train" else self.test[name]
        return _listed(place, self.root, folders=False) if isinstance(place, Path) else place


def ilsvrc(home: Path) -> Published:
    """ImageNet: ``train/CLASS/*`` and ``val/CLASS/*``, or ``val/ILSVRC2012_val_*.JPEG`` with the devkit's labels.

    Args:
        home: the folder that holds it, or holds it in ``imagenet/``, ``ImageNet/`` or ``ILSVRC2012/``.

    Raises:
        DataMissingError: it is not there, or the labels are not.
        DataError: folders, files or labels are not as published.
    """
    root = _find(
        home,
        ("imagenet", "ImageNet", "ILSVRC2012", "."),
        ("val",),
        "ImageNet",
        "ILSVRC2012_img_train.tar (each archive within into train/CLASS) and ILSVRC2012_img_val.tar (into val) "
        "from https://image-net.org/download-images",
    )
    train, val = _classes(root / "train", root), root / "val"
    if not any(_FLAT.fullmatch(entry.name) for entry in _entries(val, root)):
        return _by_folders(root, train, val)
    files = _listed(val, root, folders=False)
    numbers = [int(match[1]) if (match := _FLAT.fullmatch(file.name)) else 0 for file in files]
    labels = _ground_truth((root, home))
    if numbers != list(range(1, len(labels) + 1)):
        raise DataError(
            f"{_shown(val)}: expected ILSVRC2012_val_00000001.JPEG to ILSVRC2012_val_{len(labels):08}.JPEG, one for "
            f"each of the labels, and nothing else, found {len(files):,} files; unpack ILSVRC2012_img_val.tar anew"
        )
    return _by_list(root, train, zip(labels, files, strict=True))


def tiny(home: Path) -> Published:
    """Tiny ImageNet: ``train/CLASS/images/*``, ``val/images/*`` and ``val/val_annotations.txt``, or class folders.

    Args:
        home: the folder that holds it, or holds it in ``tiny-imagenet-200/`` or ``tiny_imagenet/``.

    Raises:
        DataMissingError: it is not there.
        DataError: folders, files or labels are not as published.
    """
    root = _find(
        home,
        ("tiny-imagenet-200", "tiny_imagenet", "."),
        ("val", "test"),
        "Tiny ImageNet",
        "tiny-imagenet-200.zip from http://cs231n.stanford.edu",
    )
    train, val = _classes(root / "train", root), root / "val"
    annotations = val / "val_annotations.txt"
    if not annotations.exists():
        return _by_folders(root, train, val if val.is_dir() else root / "test")
    files = {file.name: file for file in _listed(val / "images", root, folders=False)}
    rows = [line.split("\t") for line in _lines(annotations)]
    labels = {row[0]: row[1] for row in rows if len(row) > 1}
    if len(labels) != len(rows) or labels.keys() != files.keys():
        raise DataError(
            f"{_shown(annotations)}: expected a line with a class for each of the {len(files):,} files in "
            f"val/images, found {len(rows):,} lines, of {len(labels):,} files; get it again"
        )
    return _by_list(root, train, ((labels[name], file) for name, file in files.items()))


def _find(home: Path, names: Sequence[str], tests: Sequence[str], what: str, source: str) -> Path:
    """The first of the folders that has training data and test data."""
    places = [home / name for name in names]
    for place in places:
        if (place / "train").is_dir() and any((place / test).is_dir() for test in tests):
            return place
    listed = " or ".join(_shown(place.absolute()) for place in places)
    raise DataMissingError(
        f"{what}: expected train/ and {' or '.join(f'{test}/' for test in tests)} in {listed}, found none; "
        f"unpack {source} there, or pass root="
    )


def _by_folders(root: Path, train: Mapping[str, Path], part: Path) -> Published:
    test = _classes(part, root)
    absent = [name for name in train if name not in test]
    others = [name for name in test if name not in train]
    if absent or others:
        found = [f"{', '.join(absent[:5])} missing"] * bool(absent)
        found += [f"{', '.join(others[:5])} besides"] * bool(others)
        raise DataError(
            f"{_shown(part)}: expected the {len(train):,} classes of train, found "
            f"{images.printable(' and '.join(found))}; get it again"
        )
    return Published(root, train, test)


def _by_list(root: Path, train: Mapping[str, Path], labelled: Iterable[tuple[str, Path]]) -> Published:
    test: dict[str, list[Path]] = defaultdict(list)
    for label, file in labelled:
        test[label].append(file)
    others = sorted(test.keys() - train.keys())
    if others:
        raise DataError(
            f"{_shown(root)}: expected labels of the {len(train):,} classes of train, found "
            f"{images.printable(', '.join(others[:5]))} besides; get train again"
        )
    return Published(root, train, {name: tuple(test[name]) for name in train})


def _classes(path: Path, root: Path) -> dict[str, Path]:
    """Where each class's images lie: in a folder of its name, or in ``images/`` within (Tiny ImageNet)."""
    folders = {folder.name: folder for folder in _listed(path, root, folders=True)}
    if not folders:
        raise DataError(f"{_shown(path)}: expected a folder for each class, found none; get it again")
    return {
        name: folder / "images" if (folder / "images").is_dir() else folder
        for name, folder in folders.items()
    }


def _listed(path: Path, root: Path, *, folders: bool) -> list[Path]:
    """The folders in a folder, or the files; it must hold nothing else."""
    entries = _entries(path, root)
    wrong = [entry.name for entry in entries if entry.is_dir() != folders]
    if wrong:
        kinds = ("folders", "a file") if folders else ("files", "a folder")
        raise DataError(
            f"{_shown(path)}: expected only {kinds[0]}, found {kinds[1]} {wrong[0]!r}; move or remove it"
        )
    return [path / entry.name for entry in entries]


def _entries(path: Path, root: Path) -> list["os.DirEntry[str]"]:
    """What is in a folder, sorted by name, without what begins with a dot; links must stay within the set."""
    try:
        with os.scandir(path) as listing:
            entries = sorted(
                (entry for entry in listing if not entry.name.startswith(".")), key=lambda entry: entry.name
            )
    except OSError as error:
        raise DataError(
            f"{_shown(path)}: expected a readable folder, found: {error.strerror or error}; get it again, or "
            "check its permissions"
        ) from error
    home = root.resolve()
    for entry in entries:
        if entry.is_symlink() and not _leads_inside(path / entry.name, home):
            raise DataError(
                f"{_shown(path / entry.name)}: expected a link to something in {_shown(home)}, found one to elsewhere "
                "or to nothing; copy it in, or remove it"
            )
    return entries


def _leads_inside(link: Path, home: Path) -> bool:
    try:
        return link.resolve(strict=True).is_relative_to(home)
    except (OSError, RuntimeError):  # Python 3.11 and 3.12 report a loop as RuntimeError
        return False


def _lines(path: Path) -> list[str]:
    """The lines of a list of labels, without empty ones."""
    return [line for line in _read(path).decode("ascii", "replace").splitlines() if line.strip()]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_LIST + 1)
    except OSError as error:
        raise DataError(
            f"{_shown(path)}: expected a readable file, found: {error.strerror or error}"
        ) from error
    if len(data) > _MAX_LIST:
        raise DataError(f"{_shown(path)}: expected at most {_MAX_LIST:,} bytes, found more; get it again")
    return data


def _ground_truth(homes: Sequence[Path]) -> list[str]:
    """The class of each validation image, in the order of their numbers, from the devkit."""
    places = [place for home in homes for place in (home, home / "ILSVRC2012_devkit_t12" / "data")]
    folder = next((p for p in places if (p / _TRUTH).is_file() and (p / "meta.mat").is_file()), None)
    if folder is None:
        listed = " or ".join(_shown(place.absolute()) for place in dict.fromkeys(places))
        raise DataMissingError(
            f"ImageNet: expected {_TRUTH} and meta.mat in {listed}, found none; unpack "
            "ILSVRC2012_devkit_t12.tar.gz from https://image-net.org/download-images there, or move the images of "
            "val into folders of their classes"
        )
    names = _class_names(folder / "meta.mat")
    numbers = [line.strip() for line in _lines(folder / _TRUTH)]
    unknown = [number for number in numbers if number not in names]
    if unknown or not numbers:
        found = repr(unknown[0][:20]) if unknown else "no lines"
        raise DataError(
            f"{_shown(folder / _TRUTH)}: expected a class number of meta.mat in each line, found {found}; get it again"
        )
    return [names[number] for number in numbers]


def _class_names(path: Path) -> dict[str, str]:
    """The class's name (WordNet id) for each number of the devkit, as text; its order is not that of the names."""
    from scipy.io.matlab import MatReadError, loadmat

    _read(path)  # not too large
    try:
        with path.open("rb") as file:
            content = loadmat(file, variable_names=["synsets"], squeeze_me=True)  # type: ignore[no-untyped-call]
        synsets = content["synsets"]
        numbers, names = np.atleast_1d(synsets["ILSVRC2012_ID"]), np.atleast_1d(synsets["WNID"])
        return {str(int(number)): str(name) for number, name in zip(numbers, names, strict=True)}
    # What scipy's reader raises where a file is not what it should be
    except (
        MatReadError, OSError, ValueError, TypeError, LookupError, EOFError, AttributeError, ArithmeticError,
        NotImplementedError, MemoryError, zlib.error, struct.error,
    ) as error:  # fmt: skip
        raise DataError(
            f"{_shown(path)}: expected the devkit's table of classes, found: {str(error) or type(error).__name__}; get "
            "it again"
        ) from error


def _shown(path: Path) -> str:
    return images.printable(path)
