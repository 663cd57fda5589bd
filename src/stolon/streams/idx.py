"""The idx file form of MNIST and its kin: ``NAME/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]``.

An idx file is a big-endian magic number (two zero bytes, the type, the number of axes), the length of each
axis, and the values. Only unsigned bytes are read; that is what all of these sets hold.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from stolon.errors import DataError, DataMissingError
from stolon.streams.labelled import Labelled

MAX_BYTES = 2**31
"""Most bytes that one file may unpack to; a small .gz can hold far more."""

_UNSIGNED_BYTE = 8
_DIGITS = tuple("0123456789")
_LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_CLASSES: dict[str, tuple[str, ...]] = {
    "FashionMNIST": (
        "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ),
    "NotMNIST": _LETTERS[:10],
    "KMNIST": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    "EMNIST-letters": _LETTERS,
    "EMNIST-balanced": (*_DIGITS, *_LETTERS, *"abdefghnqrt"),
    "EMNIST-bymerge": (*_DIGITS, *_LETTERS, *"abdefghnqrt"),
    "EMNIST-byclass": (*_DIGITS, *_LETTERS, *"abcdefghijklmnopqrstuvwxyz"),
}  # fmt: skip
_SOURCES = {
    "MNIST": "http://yann.lecun.com/exdb/mnist, or pass download=True",
    "FashionMNIST": "https://github.com/zalandoresearch/fashion-mnist, or pass download=True",
    "KMNIST": "https://codh.rois.ac.jp/kmnist, or pass download=True",
    "EMNIST": "https://www.nist.gov/itl/products-and-services/emnist-dataset, or pass download=True",
    "KannadaMNIST": "https://github.com/vinayprabhu/Kannada_MNIST",
    "NotMNIST": "https://github.com/davidflanagan/notMNIST-to-MNIST",
    "ArabicCharacters": "https://github.com/mloey/Arabic-Handwritten-Characters-Dataset",
}


def folder(root: Path, name: str) -> Path:
    """Where a set's files belong; the parts of EMNIST share a folder."""
    return root / name.partition("-")[0] / "raw"


def file_stems(name: str) -> tuple[str, str, str, str]:
    """The four files of a set, without ``.gz``: training images and labels, test images and labels."""
    if name.startswith("EMNIST-"):
        part = f"emnist-{name.partition('-')[2]}"
        parts = (f"{part}-train", f"{part}-test")
    else:
        parts = ("train", "t10k")
    train, test = ((f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte") for part in parts)
    return (*train, *test)


def found(root: Path) -> tuple[str, ...]:
    """The sets whose folders are under a root, sorted."""
    if not root.is_dir():
        return ()
    return tuple(
        sorted(
            entry.name for entry in root.iterdir() if any((entry / "raw").glob("*train-images-idx3-ubyte*"))
        )
    )


def missing(root: Path, name: str) -> tuple[Path, ...]:
    """The files of a set that are there neither unpacked nor packed."""
    paths = [folder(root, name) / stem for stem in file_stems(name)]
    return tuple(path for path in paths if not path.is_file() and not _packed(path).is_file())


def require(root: Path, names: Sequence[str]) -> None:
    """Refuse to go on without all files of these sets.

    Raises:
        DataMissingError: some are missing; says where to get them and where to put them.
    """
    lines = []
    for name in names:
        absent = missing(root, name)
        if absent:
            files = ", ".join(f"{path.name}[.gz]" for path in absent)
            source = _SOURCES.get(name.partition("-")[0], "whoever publishes it in MNIST's file form")
            lines.append(
                f"{name}: expected {files} in {folder(root, name).absolute()}, found none; get them from "
                f"{source}, and put them there, or pass root="
            )
    if lines:
        raise DataMissingError("\n".join(lines))


def load(root: Path, name: str) -> Labelled:
    """Read a whole set.

    Raises:
        DataMissingError: files are missing.
        DataError: files are damaged, or do not belong together.
    """
    require(root, [name])
    paths = [folder(root, name) / stem for stem in file_stems(name)]
    train, train_labels, test, test_labels = (
        read(path if path.is_file() else _packed(path), axes=1 if "labels" in path.name else 3)
        for path in paths
    )
    for images, labels, path in ((train, train_labels, paths[0]), (test, test_labels, paths[2])):
        if len(images) != len(labels) or not len(images):
            raise DataError(
                f"{path}: expected an image for each label, found {len(images)} images and {len(labels)} "
                "labels; get both files again"
            )
    if train.shape[1:] != test.shape[1:]:
        raise DataError(
            f"{name}: expected test images of {list(train.shape[1:])}, found {list(test.shape[1:])}; get "
            "the files again"
        )
    if name.startswith("EMNIST"):  # published with rows and columns exchanged
        train, test = (images.transpose(1, 2).contiguous() for images in (train, test))
    first = 1 if name == "EMNIST-letters" else 0
    y, y_test = train_labels.long() - first, test_labels.long() - first
    count = int(y.max()) + 1
    learned, tested = (torch.unique(own).tolist() for own in (y, y_test))
    if learned != list(range(count)) or not set(tested) <= set(learned):
        raise DataError(
            f"{name}: expected labels from {first} on without a gap, and none in the test part that training "
            f"lacks, found {len(learned)} labels up to {count - 1 + first} in training, {len(tested)} in "
            "test; get the files again"
        )
    named = _CLASSES.get(name, ())
    classes = named if len(named) == count else tuple(str(label) for label in range(count))
    return Labelled(name, classes, train[:, None], y, test[:, None], y_test)


def read(path: Path, *, axes: int) -> Tensor:
    """One idx file of unsigned bytes, packed or not, as uint8 with this many axes.

    Raises:
        DataError: it is not such a file, is cut off, or has something after its end.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(4 + 4 * axes)
            expected = struct.pack(">HBB", 0, _UNSIGNED_BYTE, axes)
            if header[:4] != expected or len(header) < 4 + 4 * axes:
                raise DataError(
                    f"{path}: expected an idx file of bytes with {axes} axes (it begins {expected!r}), found "
                    f"{header[:4]!r}; get it again"
                )
            shape = struct.unpack(f">{axes}I", header[4:])
            count = math.prod(shape)
            if count > MAX_BYTES:
                raise DataError(f"{path}: expected at most {MAX_BYTES:,} values, found {count:,}")
            data = bytearray(file.read(count + 1))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: expected a whole gzip file, found {error}; get it again") from error
    except OSError as error:
        raise DataError(f"{path}: expected a readable file, found: {error.strerror or error}") from error
    if len(data) != count:
        length = f"{len(data):,}" if len(data) < count else "more"
        raise DataError(f"{path}: expected {count:,} values for {list(shape)}, found {length}; get it again")
    return torch.frombuffer(data, dtype=torch.uint8).view(shape) if count else torch.empty(shape).byte()


def _packed(path: Path) -> Path:
    return path.with_name(path.name + ".gz")
