"""Downloads of the sets that torchvision offers in idx file form, and of STL-10: its addresses and checksums.

Only the published archives are fetched; torchvision's own readers are not used, because they look for
pickled copies first.
"""

import shutil
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

from stolon.errors import DataMissingError, SettingError
from stolon.streams import idx

OFFERED = ("MNIST", "FashionMNIST", "KMNIST", "EMNIST")
"""The sets that can be downloaded; EMNIST in all its parts."""

STL10_FILES = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "class_names.txt")
"""The files of STL-10 that are kept; its images without labels are not."""


def fetch(root: Path, name: str) -> None:
    """Fetch a set's files into their folder, unless all are there.

    Raises:
        SettingError: torchvision does not offer it.
        DataMissingError: it could not be had.
    """
    family = name.partition("-")[0]
    if family not in OFFERED:
        raise SettingError(
            f"download: expected one of {', '.join(OFFERED)}, found {name!r}; put its files in place"
        )
    if not idx.missing(root, name):
        return
    import stolon._torchvision  # noqa: F401 - makes the next import possible beside a CPU build

    # isort: split
    from torchvision import datasets

    folder = idx.folder(root, name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if family == "EMNIST":
            _fetch_emnist(datasets.EMNIST, folder, name)
        else:
            _fetch_files(getattr(datasets, family), folder)
    except (
        OSError,
        RuntimeError,
        KeyError,
        zipfile.BadZipFile,
    ) as error:  # its failed checksum is RuntimeError
        raise DataMissingError(
            f"{name}: expected to download it to {folder.absolute()}, found: {error}; check the network, or "
            "put the files there yourself"
        ) from error


def fetch_stl10(root: Path) -> None:
    """Fetch STL-10's labelled images into ``root/stl10_binary``, unless all are there.

    Raises:
        DataMissingError: they could not be had.
    """
    folder = root / "stl10_binary"
    if any(all((place / name).is_file() for name in STL10_FILES) for place in (root, folder)):
        return
    import stolon._torchvision  # noqa: F401 - makes the next import possible beside a CPU build

    # isort: split
    from torchvision.datasets import STL10, utils

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as beside:
            utils.download_url(STL10.url, beside, filename="stl10.tar.gz", md5=STL10.tgz_md5)
            with tarfile.open(Path(beside, "stl10.tar.gz")) as archive:
                for name in STL10_FILES:
                    _unpack(archive, f"stl10_binary/{name}", Path(beside, name))
            for name in STL10_FILES:
                Path(beside, name).replace(folder / name)
    except (OSError, RuntimeError, KeyError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataMissingError(
            f"STL-10: expected to download it to {folder.absolute()}, found: {error}; check the network, or "
            "put the files there yourself"
        ) from error


def _unpack(archive: tarfile.TarFile, name: str, path: Path) -> None:
    """Write a member's content, and nothing else of it, to a place of our own."""
    content = archive.extractfile(name)
    if content is None:
        raise OSError(f"{name} is no file in the archive")
    with content, path.open("wb") as target:
        shutil.copyfileobj(content, target)


def _fetch_files(published: Any, folder: Path) -> None:  # noqa: ANN401 - a class of torchvision's
    from torchvision.datasets import utils

    for filename, md5 in published.resources:
        problems = []
        for mirror in published.mirrors:
            try:
                # Beside its place first: what was cut off or fails its checksum must not look like the file.
                with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as beside:
                    utils.download_url(f"{mirror}{filename}", beside, filename=filename, md5=md5)
                    Path(beside, filename).replace(folder / filename)
                break
            except (OSError, RuntimeError) as error:
                problems.append(str(error))
        else:
            raise OSError(f"{filename}: {'; '.join(problems)}")


def _fetch_emnist(published: Any, folder: Path, name: str) -> None:  # noqa: ANN401
    from torchvision.datasets import utils

    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as beside:
        utils.download_url(published.url, beside, filename="emnist.zip", md5=published.md5)
        with zipfile.ZipFile(Path(beside, "emnist.zip")) as archive:
            for stem in idx.file_stems(name):
                unpacked = Path(beside, f"{stem}.gz")
                with archive.open(f"gzip/{stem}.gz") as source, unpacked.open("wb") as target:
                    shutil.copyfileobj(source, target)
                unpacked.replace(folder / unpacked.name)
