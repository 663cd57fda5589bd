"""Downloads of the sets that torchvision offers in idx file form: its addresses, its checksums, its code.

Only the published archives are fetched; torchvision's own readers are not used, because they look for
pickled copies first.
"""

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from stolon.errors import DataMissingError, SettingError
from stolon.streams import idx

OFFERED = ("MNIST", "FashionMNIST", "KMNIST", "EMNIST")
"""The sets that can be downloaded; EMNIST in all its parts."""


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
