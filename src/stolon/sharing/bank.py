"""The bank: a folder of signed modules and revocations. The directory is the database.

A module is in the bank as soon as its envelope lies in ``modules/``; its blobs were written before. So a process
that is killed at any instant leaves the module in or out, and opening needs no repair. Nothing is used or
passed on before its hash was compared; what does not fit is set aside, and its id is no longer among
:meth:`Bank.ids`, so that the exchange fetches it again.

What is held is a function of the set of everything that was ever offered, and of the trust list, not of the
order in which it came (:mod:`stolon.sharing.held`): modules of listed authors within their quota, and
revocations. Modules that a root revoked, or whose key was revoked, leave the bank. Of a module that its *author*
took back, the envelope stays, so that its version still counts; its blobs leave the disk. Modules of an
author who is merely no longer listed stay on the disk, unused and unshared, for the case that he is again.
"""

import errno
import hashlib
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Self, final

from stolon import durable
from stolon.errors import (
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreMissingError,
)
from stolon.sharing import acceptance, bank_reading, module, view
from stolon.sharing.acceptance import Accepted, Wanted
from stolon.sharing.bank_files import BankFiles, Kind
from stolon.sharing.codes import Code, Refused
from stolon.sharing.contents import Contents, Stored
from stolon.sharing.held import Known
from stolon.sharing.task_module import TaskModule
from stolon.sharing.trust import Trust, accept_trust

__all__ = ["Bank", "Stored"]

REASON: Final = 500
"""Most characters of the reason why a module is held back."""


@final
class Bank:
    """A folder of modules; a context manager. Every method may be called from any thread.

    Args:
        folder: where it is; made if need be.
        write: take the lock. Without it, nothing on the disk is ever changed, and another process may write.

    Raises:
        StoreLockedError: another process is writing to it.
        StoreDamagedError: both copies of the trust list are damaged.
        StoreFullError: the disk refused.
        StoreError: the folder cannot be read.
    """

    _trust: Trust | None
    _contents: Contents

    def __init__(self, folder: str | Path, *, write: bool = True) -> None:
        self.folder = Path(folder)
        self._files = BankFiles(self.folder)
        self._guard = threading.RLock()
        self._lock = durable.lock(self.folder) if write else None
        self._last_blob: tuple[str, bytes] = ("", b"")
        try:
            self._read({}, write=write)
        except BaseException:
            self.close()
            raise

    # What it holds

    @property
    def is_writable(self) -> bool:
        """Whether it was opened for writing, and is still open."""
        return self._lock is not None and self._lock.is_locked

    @property
    def trust(self) -> Trust | None:
        """Whom it listens to, as the trust list in use says; None: nobody yet."""
        return self._trust

    def ids(self) -> frozenset[str]:
        """Of all modules and revocations that are held whole: what peers should be given."""
        return self._contents.ids

    def digest(self) -> str:
        """SHA-256 over the sorted ids: equal for equal banks."""
        return hashlib.sha256("\n".join(sorted(self.ids())).encode()).hexdigest()

    def modules(self) -> tuple[Stored, ...]:
        """The current version of every author's tasks, sorted by id; not those that were revoked or are damaged."""
        with self._guard:
            held, ids = self._contents.held, self._contents.ids
            newest = view.current({id_: one for id_, one in held.modules.items() if id_ in ids})
            return self._contents.stored(sorted(filter(held.is_live, newest)))

    def versions(self, author: str, task: str) -> tuple[Stored, ...]:
        """All modules held of one author's task, oldest first, also those that were taken back."""
        with self._guard:
            held = self._contents.held.modules
            found = {id_: one for id_, one in held.items() if (one.author, one.task) == (author, task)}
            return self._contents.stored(sorted(found, key=lambda id_: view.rank(id_, found[id_])))

    def module(self, id_: str) -> TaskModule:
        """What a module knows, checked as it was when it was accepted.

        Raises:
            StoreMissingError: it is not held, or was revoked.
            StoreDamagedError: its bytes are not those that were written; they were set aside.
            StoreError: it cannot be read at the moment.
        """
        with self._guard:
            self._require_held(id_)
            manifest = self._contents.held.modules[id_]
            blobs = {file.sha256: self._blob(file.sha256) for file in manifest.files}
            found = acceptance.assemble(id_, manifest, {sha: data for sha, data in blobs.items() if data})
            if not isinstance(found, Refused):
                return found
            if found.code == Code.MISSING_BLOB and id_ not in self._contents.damaged:
                raise StoreError(f"the module {id_} in {self.folder} cannot be read at the moment; try again")
            if not self.is_writable:
                self.refresh()  # perhaps the process that writes has just removed it
                self._require_held(id_)
            self._contents.lose([id_], found.detail)
            raise StoreDamagedError(
                f"the module {id_} in {self.folder} is damaged: {found.detail}; it will be fetched again from a "
                "peer, or add its file again"
            )

    def file(self, id_: str) -> bytes:
        """A module as one file.

        Raises:
            StoreError: as :meth:`module`.
        """
        with self._guard:
            self.module(id_)
            files = self._contents.held.modules[id_].files
            parts = [self.envelope(id_), *(self._blob(file.sha256) for file in files)]
            envelope, *blobs = [part for part in parts if part is not None] or [b""]
            if len(blobs) < len(files):
                raise StoreDamagedError(f"the module {id_} in {self.folder} was damaged just now; try again")
            return module.join(envelope, blobs)

    def envelope(self, id_: str) -> bytes | None:
        """The envelope of what is held, checked; None where it is not held, or damaged."""
        with self._guard:
            if id_ not in self._contents.ids:
                return None
            known = self._contents.known[id_]
            path = self._files.envelope_path("revocations" if known.manifest is None else "modules", id_)
            return self._checked(path, known.sha256, [id_], "its envelope", is_envelope=True)

    def blob(self, sha: str) -> bytes | None:
        """A blob of a module that is held, checked; None where there is none, or it is damaged."""
        with self._guard:
            return self._blob(sha) if self._contents.users(sha) else None

    def damaged(self) -> dict[str, str]:
        """What is set aside until it is fetched again, and why, by id."""
        with self._guard:
            return dict(self._contents.damaged)

    def check(self) -> tuple[str, ...]:
        """Compare every byte with its hash; the ids of what was found damaged, and is now to be fetched again."""
        before = self.ids()
        for id_ in sorted(before):
            self.check_one(id_)
        return tuple(sorted(before - self.ids()))

    def check_one(self, id_: str) -> int:
        """As :meth:`check`, of one module or revocation; the bytes read, 0 where it is not held."""
        with self._guard:
            read = len(self.envelope(id_) or b"")
            for sha in self._contents.needed_by(id_):
                read += len(self._read_blob(sha) or b"")
            return read

    # Taking in

    def judge(self, envelope: bytes, backbone: str | None = None) -> Wanted | Refused:
        """:func:`stolon.sharing.acceptance.judge`, for this bank."""
        with self._guard:
            held = self._contents.held
            return acceptance.judge(envelope, held.trust, backbone=backbone, held=held)

    def add(self, data: bytes | Accepted, backbone: str | None = None) -> str:
        """Take in a module file, because the owner of the machine says so; twice is once.

        Args:
            data: a module file, or what acceptance made of one.
            backbone: fingerprint of the only backbone to take; None takes any.

        Returns:
            The module's id.

        Raises:
            ModuleRefusedError: says why by a code; nothing was changed.
            StoreFullError: the disk refused; nothing was changed.
            StoreLockedError: the bank was opened for reading, or is closed.
        """
        with self._guard:
            self._require_writable()
            held = self._contents.held
            if isinstance(data, Accepted):  # perhaps under another trust list, or beside other modules
                data = module.join(data.envelope, data.blobs.values())
            accepted = module.read(data, held.trust, backbone=backbone, held=held)
            if isinstance(accepted, Refused):
                raise accepted.to_error()
            if accepted.module is None:
                raise Refused(Code.REVOKED, f"its author took the module {accepted.id[:12]} back").to_error()
            self._store(accepted)
            return accepted.id

    def commit(
        self, envelope: bytes, blobs: Mapping[str, bytes], backbone: str | None = None
    ) -> str | Refused:
        """Take in what a peer sent, if it is acceptable and the disk has room to spare; durably.

        Returns:
            The id, or why it was refused; then nothing was changed.

        Raises:
            StoreLockedError: the bank was opened for reading, or is closed.
        """
        with self._guard:
            self._require_writable()
            held = self._contents.held
            accepted = acceptance.accept(envelope, blobs, held.trust, backbone=backbone, held=held)
            if isinstance(accepted, Refused):
                return accepted
            if not self._files.has_room(len(envelope) + sum(map(len, accepted.blobs.values()))):
                return Refused(Code.DISK_FULL, "less than the reserve would be left; free some space")
            try:
                self._store(accepted)
            except StoreFullError as error:
                return Refused(Code.DISK_FULL, str(error))
            return accepted.id

    def revoke(self, data: bytes) -> str:
        """Take in a revocation; what it takes out leaves the view at once, and the disk.

        Returns:
            The revocation's id.

        Raises:
            StolonError: as :meth:`add`.
        """
        with self._guard:
            self._require_writable()
            held = self._contents.held
            accepted = acceptance.accept(data, {}, held.trust, held=held)
            if isinstance(accepted, Accepted) and accepted.revocation is None:
                accepted = Refused(Code.WRONG_TYPE, "expected a revocation, found a module")
            if isinstance(accepted, Refused):
                raise accepted.to_error()
            self._store(accepted)
            return accepted.id

    def set_trust(self, data: bytes) -> Trust:
        """Take on a trust list; what it no longer lets in is out of use at once.

        Raises:
            StolonError: as :meth:`add`.
        """
        with self._guard:
            self._require_writable()
            made = accept_trust(data, self._trust)
            if isinstance(made, Refused):
                raise made.to_error()
            self._files.write_trust(made.version, data)
            self._trust = made
            self._contents.settle(made)
            return made

    # Notes on what is not answered from: this agent's own opinion, which is never passed on

    def hold(self, id_: str, reason: str) -> None:
        """Note why a module is not answered from.

        Raises:
            StoreFullError: the disk refused.
            StoreLockedError: the bank was opened for reading, or is closed.
        """
        with self._guard:
            self._require_writable()
            self._files.write_note(id_, reason[:REASON])

    def release(self, id_: str) -> None:
        """Drop the note, if there is one.

        Raises:
            StoreLockedError: the bank was opened for reading, or is closed.
        """
        with self._guard:
            self._require_writable()
            self._files.remove(self._files.note_path(id_))

    def held_back(self) -> dict[str, str]:
        """The reasons noted, by module id; a damaged note is none."""
        return self._files.notes()

    # Opening and closing

    def refresh(self) -> None:
        """Read the folder again, where another process may have written to it.

        Raises:
            StoreError: as for the class; then it stays as it was.
        """
        with self._guard:
            self._read(self._contents.known, write=self.is_writable)

    def close(self) -> None:
        """Let go of the lock; may be called again."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, before: Mapping[str, Known], *, write: bool) -> None:
        found = bank_reading.found(self._files, before, write=write)
        self._trust = found.trust
        self._contents = Contents(self._files, found.known, found.trust, write=write, sweep=found.is_complete)

    # The rest

    def _store(self, accepted: Accepted) -> None:
        """Write what was accepted, blobs first; then it counts."""
        kind: Kind = "revocations" if accepted.manifest is None else "modules"
        path = self._files.envelope_path(kind, accepted.id)
        written: list[str] = []
        try:
            for sha, data in accepted.blobs.items():
                if self._files.write(self._files.blob_path(sha), data):
                    written.append(sha)
            self._files.write(path, accepted.envelope)
        except StoreFullError:
            if accepted.id not in self._contents.known:
                self._undo(path, written)
            raise
        self._contents.take(accepted, self._trust)

    def _undo(self, path: Path, written: Iterable[str]) -> None:
        """Take back what was half written; the disk may have refused when the envelope was in place already."""
        if self._files.remove(path):
            for sha in written:
                if not self._contents.users(sha):
                    self._files.remove(self._files.blob_path(sha))

    def _blob(self, sha: str) -> bytes | None:
        if self._last_blob[0] != sha:  # the exchange asks for one in pieces
            data = self._read_blob(sha)
            if data is None:
                return None
            self._last_blob = (sha, data)
        return self._last_blob[1]

    def _read_blob(self, sha: str) -> bytes | None:
        return self._checked(self._files.blob_path(sha), sha, self._contents.users(sha), "a file")

    def _checked(
        self, path: Path, sha: str, ids: Iterable[str], what: str, *, is_envelope: bool = False
    ) -> bytes | None:
        """A file's bytes if they are those written; else the modules or revocations they belong to are lost.

        What cannot be read at the moment is not lost, unless the disk says that it never will be.
        """
        try:
            data = self._files.read(path)
        except OSError as error:
            if error.errno == errno.EIO:
                self._contents.lose(ids, f"{what} cannot be read", envelope=is_envelope)
            return None
        if data is not None and hashlib.sha256(data).hexdigest() == sha:
            return data
        self._contents.lose(ids, f"{what} is not the one that was written", envelope=is_envelope)
        if self.is_writable:
            self._files.set_aside(path)
        return None

    def _require_held(self, id_: str) -> None:
        if not self._contents.held.is_live(id_) or id_ in self._contents.damaged:
            why = self._contents.damaged.get(id_, "it was never there, or was revoked")
            raise StoreMissingError(f"expected the module {id_} in {self.folder}, found none: {why}")

    def _require_writable(self) -> None:
        if not self.is_writable:
            raise StoreLockedError(
                f"{self.folder} was opened for reading, or is closed; open it with write=True to change it"
            )
