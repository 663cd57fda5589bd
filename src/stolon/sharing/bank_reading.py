"""What is read of a bank's folder when it is opened: the trust list, every envelope."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stolon.errors import StoreDamagedError, StoreError
from stolon.sharing import acceptance
from stolon.sharing.bank_files import BankFiles, Kind
from stolon.sharing.codes import Refused
from stolon.sharing.held import Known
from stolon.sharing.trust import Trust, accept_trust

KINDS: Final[tuple[Kind, ...]] = ("modules", "revocations")


@dataclass(frozen=True)
class Found:
    """What was found in a bank's folder.

    Attributes:
        trust: whom to listen to; None: there is no trust list yet.
        known: everything that is signed rightly, by id.
        is_complete: whether everything could be read; if not, nothing may be taken for litter.
    """

    trust: Trust | None
    known: dict[str, Known]
    is_complete: bool


def found(files: BankFiles, before: Mapping[str, Known], *, write: bool) -> Found:
    """Read a bank's folder.

    Args:
        files: of the bank.
        before: envelopes that were read already, and are not read again.
        write: whether what is damaged may be mended or set aside.

    Raises:
        StoreDamagedError: both copies of the newest trust list are damaged. An older one is not taken instead:
            it may list keys that were revoked since.
        StoreFullError: a copy of the trust list could not be mended.
        StoreError: the folder cannot be read.
    """
    try:
        listed = _trust(files, write=write)
        names = [(kind, id_) for kind in KINDS for id_ in files.envelope_ids(kind)]
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot read {files.folder}: {error.strerror or error}; try again") from error
    known, is_complete = {}, True
    for kind, id_ in names:
        try:
            one = before.get(id_) or _recognised(files, kind, id_, write=write)
        except OSError:
            one, is_complete = None, False  # perhaps another time
        if one is not None:
            known[id_] = one
    return Found(listed, known, is_complete)


def _trust(files: BankFiles, *, write: bool) -> Trust | None:
    """The trust list of the highest version there, from whichever copy is whole."""
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


def _recognised(files: BankFiles, kind: Kind, id_: str, *, write: bool) -> Known | None:
    """What lies there under this name, if its bytes are what the name says; else it is set aside."""
    path = files.envelope_path(kind, id_)
    data = files.read(path)
    if data is None:
        return None  # gone since the folder was listed
    read = acceptance.recognise(data)
    if isinstance(read, Refused) or read[0] != id_ or (read[1] is None) != (kind == "revocations"):
        if write:
            files.set_aside(path)
        return None
    word = data if read[1] is None else b""
    return Known(hashlib.sha256(data).hexdigest(), len(data), files.arrived(path), read[1], word)
