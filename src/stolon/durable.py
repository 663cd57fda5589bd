"""Files that are wholly there or not there at all, also after a power cut.

Write to a temporary name beside the target, fsync, rename, fsync the folder: a reader sees the old bytes
or the new ones, never a mixture.
"""

import contextlib
import os
import uuid
from pathlib import Path

import filelock

from stolon.errors import StoreError, StoreFullError, StoreLockedError

TEMPORARY = ".tmp-"
"""How the names of unfinished files begin; they may be deleted whenever nobody writes."""


def write(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path``, atomically and durably, making parent folders as needed.

    Raises:
        StoreFullError: the disk refused (full, quota, I/O error); ``path`` is as it was before.
    """
    temporary: Path | None = None
    try:
        _make(path.parent)
        temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
        with temporary.open("xb") as file:  # unlike tempfile's, readable as the user's umask says
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):  # a disk that refuses may refuse this as well
                temporary.unlink(missing_ok=True)
        raise StoreFullError(
            f"cannot write {len(data):,} bytes to {path}: {error.strerror or error}; what was stored before "
            "is intact; free space or check permissions, then try again"
        ) from error


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, as needed, so that they survive a power cut.

    Raises:
        StoreFullError: the disk refused, or something else has that name.
    """
    try:
        _make(folder)
    except OSError as error:
        raise StoreFullError(
            f"cannot make the folder {folder}: {error.strerror or error}; give another place, or free space"
        ) from error


def _make(folder: Path) -> None:
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename or a deletion in this folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(folder: Path, remedy: str = "", *, doing: str = "writing to it") -> filelock.BaseFileLock:
    """Make a folder, and take its writer's lock (``LOCK``), which any thread may let go of.

    Args:
        folder: what only one process may write to.
        remedy: what else a person can do where the folder cannot be written to; ends the message.
        doing: what another process that has the lock is doing, for the message.

    Raises:
        StoreLockedError: another process has it.
        StoreError: the folder cannot be written to.
    """
    made = filelock.FileLock(folder / "LOCK", thread_local=False)  # an agent learns in a thread of its own
    try:
        make_folder(folder)
        made.acquire(timeout=0)
    except filelock.Timeout:
        raise StoreLockedError(
            f"{folder} is locked: another process is {doing}; wait for it to end, or stop it"
        ) from None
    except OSError as error:
        raise StoreError(
            f"cannot write to {folder}: {error.strerror or error}; check its permissions{remedy}"
        ) from error
    return made
