"""What is read of a bank's folder when it is opened: the lock, the trust list, every envelope."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import filelock

from stolon import durable
from stolon.errors import StoreDamagedError, StoreError, StoreLockedError
from stolon.sharing import acceptance
from stolon.sharing.bank_files import BankFiles, Kind
from stolon.sharing.codes import Refused
from stolon.sharing.held import Known
from stolon.sharing.trust import Trust, accept_trust

KINDS: Final[tuple[Kind, ...]] = ("modules", "revocations")


def lock(folder: Path) -> filelock.BaseFileLock:
    """Make the folder, and its writer's lock, which any thread may let go of.

    Raises:
        StoreLockedError: another process has it.
        StoreError: the folder cannot be written to.
    """
    made = filelock.FileLock(folder / "LOCK", thread_local=False)
    try:
        durable.make_folder(folder)
        made.acquire(timeout=0)
    except filelock.Timeout:
        raise StoreLockedError(
            f"{folder} is locked: another process is writing to it; wait for it to end, or stop it"
        ) from None
    except OSError as error:
        raise StoreError(
            f"cannot write to {folder}: {error.strerror or error}; check its permissions"
        ) from error
    return made


def trust(files: BankFiles, *, write: bool) -> Trust | None:
    """The trust list of the highest version there, from whichever copy is whole; None where there is none.

    Args:
        files: of the bank.
        write: whether a damaged copy may be mended.

    Raises:
        StoreDamagedError: both copies are damaged. An older list is not taken instead: it may list keys that
            were revoked since.
    """
    versions = files.trust_versions()
    if not versions:
        return None
    copies = files.trust(versions[-1])
    for data in copies:
        made = None if data is None else accept_trust(data, None)
        if isinstance(made, Trust) and made.version == versions[-1]:
            if write and data is not None and copies != (data, data):
                files.write_trust(versions[-1], data)
            return made
    raise StoreDamagedError(
        f"{files.folder}: version {versions[-1]} of the trust list is damaged, in both copies; put "
        f"{files.folder / 'trust'} back from a copy of the folder"
    )


def known(files: BankFiles, before: Mapping[str, Known], *, write: bool) -> dict[str, Known]:
    """Everything there that is signed rightly, by id.

    Args:
        files: of the bank.
        before: what was read already, and is not read again.
        write: whether what is damaged may be set aside.
    """
    found = {}
    for kind in KINDS:
        for id_ in files.envelope_ids(kind):
            one = before.get(id_) or _recognise(files, kind, id_, write=write)
            if one is not None:
                found[id_] = one
    return found


def _recognise(files: BankFiles, kind: Kind, id_: str, *, write: bool) -> Known | None:
    """What lies there under this name, if its bytes are what the name says."""
    path = files.envelope_path(kind, id_)
    data = files.read(path)
    if data is None:
        return None  # gone since the folder was listed
    found = acceptance.recognise(data)
    if isinstance(found, Refused) or found[0] != id_ or (found[1] is None) != (kind == "revocations"):
        if write:
            files.set_aside(path)
        return None
    word = data if found[1] is None else b""
    return Known(hashlib.sha256(data).hexdigest(), len(data), files.arrived(path), found[1], word)
