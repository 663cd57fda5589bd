"""Where a bank's files lie, and how they are read, written, set aside and swept; no decisions.

::

    LOCK                        one writer at a time
    blobs/ab/<sha256>           immutable
    modules/<id>.dsse           a module's envelope: present = accepted
    revocations/<id>.dsse       a revocation's envelope
    trust/<version>.dsse        a trust list's envelope, and the same again in <version>.copy
    quarantine/<id>.json        why a module is not answered from
    damaged/                    what was set aside because its bytes are not those that were written
"""

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, final

from stolon import durable
from stolon.errors import StoreFullError
from stolon.sharing import strict_json
from stolon.sharing.limits import MAX_BLOB, MAX_ENVELOPE, RESERVE

Kind = Literal["modules", "revocations"]

ENVELOPE: Final = ".dsse"
NOTE: Final = ".json"
_TRUST_COPY: Final = ".copy"


@final
class BankFiles:
    """The folder of a bank. What is not there is None or empty; what is there but cannot be read raises OSError.

    Telling the two apart matters: an envelope that a disk or a want of descriptors hides for a moment must not
    make its blobs look like litter.

    Args:
        folder: need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # Envelopes

    def envelope_path(self, kind: Kind, id_: str) -> Path:
        """Where the envelope of a module or revocation lies."""
        return self.folder / kind / f"{id_}{ENVELOPE}"

    def envelope_ids(self, kind: Kind) -> list[str]:
        """The ids in the names of the envelopes there, sorted."""
        return sorted(path.stem for path in _listed(self.folder / kind) if path.suffix == ENVELOPE)

    def read(self, path: Path) -> bytes | None:
        """A file's bytes as they lie there, unchecked; None where there is none.

        Raises:
            OSError: it is there, and cannot be read.
        """
        return _read(path, MAX_BLOB)

    def arrived(self, path: Path) -> float:
        """When an envelope was written, by this machine's clock, seconds since 1970; 0 where it is gone."""
        with contextlib.suppress(OSError):
            return path.stat().st_mtime
        return 0.0

    # Blobs

    def blob_path(self, sha: str) -> Path:
        """Where a blob lies."""
        return self.folder / "blobs" / sha[:2] / sha

    def blob_sizes(self) -> dict[str, int]:
        """The size of every blob there, by digest."""
        sizes: dict[str, int] = {}
        for folder in _listed(self.folder / "blobs"):
            if folder.is_dir():
                with os.scandir(folder) as entries:
                    sizes |= {entry.name: entry.stat().st_size for entry in entries}
        return sizes

    def write(self, path: Path, data: bytes) -> bool:
        """Put a file there, durably, unless its very bytes are; returns whether it was written.

        Raises:
            StoreFullError: the disk refused.
        """
        with contextlib.suppress(OSError):  # what cannot be read is written anew
            if _read(path, len(data)) == data:
                return False
        durable.write(path, data)
        return True

    # Trust lists

    def trust_versions(self) -> list[int]:
        """The versions of the trust lists there, ascending."""
        names = {path.stem for path in _listed(self.folder / "trust")}
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def trust_paths(self, version: int) -> tuple[Path, Path]:
        """Where a trust list lies, twice: no peer could give it back."""
        return tuple(self.folder / "trust" / f"{version}{end}" for end in (ENVELOPE, _TRUST_COPY))  # type: ignore[return-value]

    def trust(self, version: int) -> tuple[bytes | None, bytes | None]:
        """Both copies, unchecked; one that cannot be read is like one that is not there."""
        first, second = self.trust_paths(version)
        return _read_or_none(first), _read_or_none(second)

    def write_trust(self, version: int, data: bytes) -> None:
        """Put a trust list there, durably; and its copy, which is made later where the disk refuses it.

        Raises:
            StoreFullError: the disk refused.
        """
        first, second = self.trust_paths(version)
        durable.write(first, data)
        with contextlib.suppress(StoreFullError):
            durable.write(second, data)

    # Notes

    def note_path(self, id_: str) -> Path:
        """Where the reason lies why a module is held back."""
        return self.folder / "quarantine" / f"{id_}{NOTE}"

    def write_note(self, id_: str, reason: str) -> None:
        """Put a reason there, durably.

        Raises:
            StoreFullError: the disk refused.
        """
        durable.write(self.note_path(id_), strict_json.dumps({"reason": reason}))

    def notes(self) -> dict[str, str]:
        """All reasons, by module id; those that cannot be read are left out."""
        found = {}
        for path in _listed(self.folder / "quarantine"):
            data = _read_or_none(path) if path.suffix == NOTE else None
            if data is not None:
                with contextlib.suppress(strict_json.JsonError, KeyError, TypeError):
                    found[path.stem] = str(strict_json.loads(data, most=MAX_ENVELOPE, depth=1)["reason"])
        return found

    # Housekeeping: failures are no errors, what is left lying is litter until the next time

    def set_aside(self, path: Path) -> None:
        """Move a damaged file out of the way, where somebody may still look at it."""
        with contextlib.suppress(OSError):
            target = self.folder / "damaged"
            target.mkdir(exist_ok=True)
            path.replace(target / path.name)

    def remove(self, path: Path) -> bool:
        """Delete a file; whether there is none now."""
        try:
            path.unlink(missing_ok=True)
        except OSError:
            return False
        return True

    def sweep(self, blobs: Iterable[str]) -> None:
        """Delete what killed writers left: unfinished files, and all blobs but these."""
        wanted = set(blobs)
        with contextlib.suppress(OSError):
            kinds = ("modules", "revocations", "trust", "quarantine")
            folders = [self.folder, *(self.folder / kind for kind in kinds), *_listed(self.folder / "blobs")]
            for path in itertools.chain.from_iterable(map(_listed, folders)):
                if path.name.startswith(durable.TEMPORARY):
                    self.remove(path)
            for sha in self.blob_sizes().keys() - wanted:
                self.remove(self.blob_path(sha))

    def has_room(self, needed: int) -> bool:
        """Whether this many bytes can be written with the reserve left: 64 MiB, or a twentieth of a small disk."""
        try:
            disk = shutil.disk_usage(self.folder)
        except OSError:
            return True  # writing will say what is wrong
        return disk.free - needed >= min(RESERVE, disk.total // 20)


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir(), key=lambda path: path.name)  # names compare faster than paths
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read(path: Path, most: int) -> bytes | None:
    """At most one byte more than any such file may have: whatever lies there does not fill the memory."""
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(most + 1) or b""
    except (FileNotFoundError, NotADirectoryError):
        return None


def _read_or_none(path: Path) -> bytes | None:
    with contextlib.suppress(OSError):
        return _read(path, MAX_ENVELOPE)
    return None
