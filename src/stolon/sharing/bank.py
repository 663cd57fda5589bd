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

import contextlib
import hashlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, final

import filelock

from stolon import durable
from stolon.errors import (
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreMissingError,
)
from stolon.sharing import acceptance, module, strict_json, view
from stolon.sharing.acceptance import Accepted, Wanted
from stolon.sharing.bank_files import BankFiles, Kind
from stolon.sharing.codes import Code, Refused
from stolon.sharing.held import NOBODY, Held, Known
from stolon.sharing.limits import MAX_ENVELOPE
from stolon.sharing.manifest import File, Manifest
from stolon.sharing.task_module import TaskModule
from stolon.sharing.trust import Trust, accept_trust

KINDS: Final[tuple[Kind, ...]] = ("modules", "revocations")
REASON: Final = 500
"""Most characters of the reason why a module is held back."""


@final
@dataclass(frozen=True)
class Stored:
    """One module of the bank.

    Attributes:
        id: of the module.
        manifest: what its author says of it.
        arrived: when it came, by this machine's clock, seconds since 1970; for people, nothing is decided by it.
        bytes: of its files and its envelope.
    """

    id: str
    manifest: Manifest
    arrived: float
    bytes: int


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
    """

    def __init__(self, folder: str | Path, *, write: bool = True) -> None:
        self.folder = Path(folder)
        self._files = BankFiles(self.folder)
        self._guard = threading.RLock()
        self._lock = _acquire(self.folder) if write else None
        self._trust: Trust | None = None
        self._known: dict[str, Known] = {}
        self._damaged: dict[str, str] = {}  # known, but not to be had from this disk, and why
        self._lost: set[str] = set()  # of these, whose envelope it is
        self._held = Held({})
        self._uses: dict[str, set[str]] = {}
        self._ids: frozenset[str] = frozenset()
        self._last_blob: tuple[str, bytes] = ("", b"")
        try:
            self._load()
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
        return self._ids

    def digest(self) -> str:
        """SHA-256 over the sorted ids: equal for equal banks."""
        return hashlib.sha256("\n".join(sorted(self._ids)).encode()).hexdigest()

    def modules(self) -> tuple[Stored, ...]:
        """The current version of every author's tasks, sorted by id; not those that were revoked or are damaged."""
        with self._guard:
            whole = {id_: one for id_, one in self._held.modules.items() if id_ in self._ids}
            return self._stored(sorted(filter(self._held.is_live, view.current(whole))))

    def versions(self, author: str, task: str) -> tuple[Stored, ...]:
        """All modules held of one author's task, oldest first, also those that were taken back."""
        with self._guard:
            found = {
                id_: one
                for id_, one in self._held.modules.items()
                if (one.author, one.task) == (author, task)
            }
            return self._stored(sorted(found, key=lambda id_: view.rank(id_, found[id_])))

    def module(self, id_: str) -> TaskModule:
        """What a module knows, checked as it was when it was accepted.

        Raises:
            StoreMissingError: it is not held, or was revoked.
            StoreDamagedError: its bytes are not those that were written; they were set aside.
        """
        with self._guard:
            self._require_held(id_)
            manifest = self._held.modules[id_]
            blobs = {file.sha256: self._blob(file.sha256) for file in manifest.files}
            found = acceptance.assemble(id_, manifest, {sha: data for sha, data in blobs.items() if data})
            if isinstance(found, Refused):
                self._lose([id_], found.detail)
                if not self.is_writable:
                    self._load()  # perhaps the process that writes has just removed it
                    self._require_held(id_)
                raise StoreDamagedError(
                    f"the module {id_} in {self.folder} is damaged: {found.detail}; it will be fetched again from a "
                    "peer, or import its file again"
                )
            return found

    def file(self, id_: str) -> bytes:
        """A module as one file.

        Raises:
            StoreError: as :meth:`module`.
        """
        with self._guard:
            self.module(id_)
            envelope = self.envelope(id_)
            blobs = [self._blob(file.sha256) for file in self._held.modules[id_].files]
            if envelope is None or None in blobs:
                raise StoreDamagedError(
                    f"the module {id_} in {self.folder} is damaged: its envelope; it will be fetched again from a peer"
                )
            return module.join(envelope, [blob for blob in blobs if blob is not None])

    def envelope(self, id_: str) -> bytes | None:
        """The envelope of what is held, checked; None where it is not held, or damaged."""
        with self._guard:
            if id_ not in self._ids:
                return None
            known = self._known[id_]
            path = self._files.envelope_path(_kind(known), id_)
            data = self._files.read(path)
            if data is None or hashlib.sha256(data).hexdigest() != known.sha256:
                self._lost.add(id_)
                self._lose([id_], "its envelope is not the one that was written")
                if self.is_writable:
                    self._files.set_aside(path)
                return None
            return data

    def blob(self, sha: str) -> bytes | None:
        """A blob of a module that is held, checked; None where there is none, or it is damaged."""
        with self._guard:
            return self._blob(sha) if sha in self._uses else None

    def damaged(self) -> dict[str, str]:
        """Modules that were held and are set aside until they are fetched again, and why."""
        with self._guard:
            return dict(self._damaged)

    def check(self) -> tuple[str, ...]:
        """Compare every byte with its hash; the ids of what was found damaged, and is now to be fetched again."""
        before = self._ids
        for id_ in sorted(before):
            self.envelope(id_)
        for sha in sorted(self._uses):
            self.blob(sha)
        return tuple(sorted(before - self._ids))

    # Taking in

    def judge(self, envelope: bytes, backbone: str | None = None) -> Wanted | Refused:
        """:func:`stolon.sharing.acceptance.judge`, for this bank."""
        with self._guard:
            return acceptance.judge(envelope, self._held.trust, backbone=backbone, held=self._held)

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
            if isinstance(data, Accepted):
                # it may have been accepted under another trust list, or beside other modules
                accepted = acceptance.accept(
                    data.envelope, data.blobs, self._held.trust, backbone=backbone, held=self._held
                )
            else:
                accepted = module.read(data, self._held.trust, backbone=backbone, held=self._held)
            if isinstance(accepted, Refused):
                raise accepted.to_error()
            if accepted.manifest is not None and accepted.module is None:
                raise Refused(Code.REVOKED, f"its author took the module {accepted.id[:12]} back").to_error()
            self._store(accepted)
            return accepted.id

    def commit(
        self, envelope: bytes, blobs: Mapping[str, bytes], backbone: str | None = None
    ) -> str | Refused:
        """Take in what a peer sent, if it is acceptable and the disk has room to spare; durably.

        Returns:
            The id, or why it was refused; then nothing was changed.
        """
        with self._guard:
            self._require_writable()
            accepted = acceptance.accept(
                envelope, blobs, self._held.trust, backbone=backbone, held=self._held
            )
            if isinstance(accepted, Refused):
                return accepted
            needed = len(envelope) + sum(map(len, accepted.blobs.values()))
            if not self._files.has_room(needed):
                return Refused(Code.DISK_FULL, "less than the reserve would be left; free some space")
            try:
                self._store(accepted)
            except StoreFullError as error:
                return Refused(Code.DISK_FULL, str(error))
            return accepted.id

    def revoke(self, data: bytes) -> str:
        """Take in a revocation; what it takes out leaves the view at once, and the disk.

        Raises:
            ModuleRefusedError: says why by a code; nothing was changed.
            StoreFullError: the disk refused; nothing was changed.
            StoreLockedError: the bank was opened for reading, or is closed.
        """
        with self._guard:
            self._require_writable()
            accepted = acceptance.accept(data, {}, self._held.trust, held=self._held)
            if isinstance(accepted, Accepted) and accepted.revocation is None:
                accepted = Refused(Code.WRONG_TYPE, "expected a revocation, found a module")
            if isinstance(accepted, Refused):
                raise accepted.to_error()
            self._store(accepted)
            return accepted.id

    def set_trust(self, data: bytes) -> Trust:
        """Take on a trust list; what it no longer lets in is out of use at once.

        Raises:
            ModuleRefusedError: says why by a code; nothing was changed.
            StoreFullError: the disk refused.
            StoreLockedError: the bank was opened for reading, or is closed.
        """
        with self._guard:
            self._require_writable()
            made = accept_trust(data, self._trust)
            if isinstance(made, Refused):
                raise made.to_error()
            self._files.write_trust(made.version, data)
            self._trust = made
            self._settle()
            return made

    # Notes of what is not answered from: this agent's own opinion, which is never passed on

    def hold(self, id_: str, reason: str) -> None:
        """Note why a module is not answered from.

        Raises:
            StoreFullError: the disk refused.
            StoreLockedError: the bank was opened for reading, or is closed.
        """
        with self._guard:
            self._require_writable()
            durable.write(self._files.note_path(id_), strict_json.dumps({"reason": reason[:REASON]}))

    def release(self, id_: str) -> None:
        """Drop the note, if there is one.

        Raises:
            StoreLockedError: the bank was opened for reading, or is closed.
        """
        with self._guard:
            self._require_writable()
            self._files.remove(self._files.note_path(id_))

    def held(self) -> dict[str, str]:
        """The reasons, by module id; a damaged note is none."""
        found = {}
        for id_, data in self._files.notes().items():
            with contextlib.suppress(strict_json.JsonError, KeyError, TypeError):
                found[id_] = str(strict_json.loads(data, most=MAX_ENVELOPE, depth=1)["reason"])
        return found

    # Opening and closing

    def refresh(self) -> None:
        """Read the folder again, where another process may have written to it.

        Raises:
            StoreDamagedError: both copies of the trust list are damaged.
        """
        with self._guard:
            self._load()

    def close(self) -> None:
        """Let go of the lock; may be called again."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(self) -> None:
        self._trust = self._read_trust()
        listed: dict[str, Known] = {}
        for kind in KINDS:
            for id_ in self._files.envelope_ids(kind):
                known = self._known.get(id_) or self._recognise(kind, id_)
                if known is not None:
                    listed[id_] = known
        self._known, self._uses, self._damaged, self._lost = listed, {}, {}, set()
        sizes = self._files.blob_sizes()
        for id_, known in listed.items():
            if any(sizes.get(file.sha256) != file.bytes for file in _blobs_of(known)):
                self._damaged[id_] = "a file is missing, or has another size"
        self._settle()
        if self.is_writable:
            self._files.sweep(self._uses)

    def _recognise(self, kind: Kind, id_: str) -> Known | None:
        """What lies there under this name, if its bytes are what the name says; else it is set aside."""
        path = self._files.envelope_path(kind, id_)
        data = self._files.read(path)
        if data is None:
            return None  # gone since the folder was listed
        found = acceptance.recognise(data)
        if isinstance(found, Refused) or found[0] != id_ or (found[1] is None) != (kind == "revocations"):
            if self.is_writable:
                self._files.set_aside(path)
            return None
        return Known(
            hashlib.sha256(data).hexdigest(),
            len(data),
            self._files.arrived(path),
            found[1],
            data if found[1] is None else b"",
        )

    def _read_trust(self) -> Trust | None:
        versions = self._files.trust_versions()
        if not versions:
            return None
        copies = self._files.trust(versions[-1])
        for data in copies:
            made = None if data is None else accept_trust(data, None)
            if isinstance(made, Trust) and data is not None:
                if self.is_writable and copies != (data, data):
                    self._files.write_trust(versions[-1], data)
                return made
        raise StoreDamagedError(
            f"{self.folder}: version {versions[-1]} of the trust list is damaged, in both copies; put "
            f"{self.folder / 'trust'} back from a copy of the folder"
        )

    # Changing

    def _store(self, accepted: Accepted) -> None:
        """Write what was accepted, blobs first; then it counts."""
        id_, is_word = accepted.id, accepted.revocation is not None
        path = self._files.envelope_path("revocations" if is_word else "modules", id_)
        written: list[str] = []
        try:
            for sha, data in accepted.blobs.items():
                if self._files.write_blob(sha, data):
                    written.append(sha)
            if self._files.read(path) != accepted.envelope:
                durable.write(path, accepted.envelope)
        except StoreFullError:
            self._undo(path, id_, written)
            raise
        self._known[id_] = Known(
            hashlib.sha256(accepted.envelope).hexdigest(),
            len(accepted.envelope),
            self._files.arrived(path),
            accepted.manifest,
            accepted.envelope if is_word else b"",
        )
        self._damaged.pop(id_, None)
        self._lost.discard(id_)
        if accepted.manifest is None:
            self._settle()
            return
        self._use(id_, accepted.blobs)
        for left in self._held.add_module(id_, accepted.manifest):
            self._remove(left)
        self._ids |= {id_}

    def _undo(self, path: Path, id_: str, written: Iterable[str]) -> None:
        """Take back what was half written: the disk may have refused after the envelope was in place."""
        if id_ in self._known:
            return
        self._files.remove(path)
        if not path.exists():
            for sha in written:
                if sha not in self._uses:
                    self._files.remove(self._files.blob_path(sha))

    def _settle(self) -> None:
        """Derive what is held from all that is known, and bring the files into line."""
        self._held = Held(self._known, self._trust or NOBODY)
        needed = {}
        for id_, known in list(self._known.items()):
            if known.manifest is None:
                continue
            if self._held.is_live(id_) or self._is_dormant(id_, known.manifest.author):
                needed[id_] = known
            elif id_ not in self._held.modules:
                self._remove(id_)
        old, self._uses = self._uses, {}
        for id_, known in needed.items():
            self._use(id_, [file.sha256 for file in _blobs_of(known)])
        if self.is_writable:
            for sha in set(old) - set(self._uses):
                self._files.remove(self._files.blob_path(sha))
        self._count()

    def _is_dormant(self, id_: str, author: str) -> bool:
        """Whether a module is kept on the disk although its author is not listed: nobody revoked it."""
        trust = self._held.trust
        return (
            trust.author(author) is None
            and author not in trust.revoked_keys
            and id_ not in trust.revoked_modules
        )

    def _count(self) -> None:
        """Who is held whole: of what was taken back, the envelope is all there need be."""
        held = self._held
        lost = {id_ for id_ in self._damaged if held.is_live(id_) or id_ in self._lost}
        self._ids = held.ids - lost

    def _use(self, id_: str, blobs: Iterable[str]) -> None:
        for sha in blobs:
            self._uses.setdefault(sha, set()).add(id_)

    def _remove(self, id_: str) -> None:
        """A module leaves: its envelope first, then the blobs that no other has."""
        known = self._known[id_]
        self._ids -= {id_}
        self._damaged.pop(id_, None)
        if not self.is_writable:
            return
        del self._known[id_]
        self._files.remove(self._files.envelope_path("modules", id_))
        for file in _blobs_of(known):
            users = self._uses.get(file.sha256, set())
            users.discard(id_)
            if not users:
                self._uses.pop(file.sha256, None)
                self._files.remove(self._files.blob_path(file.sha256))

    # Reading

    def _blob(self, sha: str) -> bytes | None:
        if self._last_blob[0] == sha:  # the exchange asks for one in pieces
            return self._last_blob[1]
        data = self._files.blob(sha)
        if data is None or hashlib.sha256(data).hexdigest() != sha:
            self._lose(self._uses.get(sha, ()), "a file of it is not the one that was written")
            if self.is_writable:
                self._files.set_aside(self._files.blob_path(sha))
            return None
        self._last_blob = (sha, data)
        return data

    def _lose(self, ids: Iterable[str], reason: str) -> None:
        """Damage was noticed: no longer held, so that it is fetched again."""
        for id_ in ids:
            self._damaged[id_] = reason
        self._count()

    def _stored(self, ids: Iterable[str]) -> tuple[Stored, ...]:
        known = self._known
        return tuple(
            Stored(
                id_,
                self._held.modules[id_],
                known[id_].arrived,
                known[id_].size + self._held.modules[id_].total_bytes,
            )
            for id_ in ids
        )

    def _require_held(self, id_: str) -> None:
        if not self._held.is_live(id_) or id_ in self._damaged:
            why = self._damaged.get(id_, "it was never there, or was revoked")
            raise StoreMissingError(f"expected the module {id_} in {self.folder}, found none: {why}")

    def _require_writable(self) -> None:
        if not self.is_writable:
            raise StoreLockedError(
                f"{self.folder} was opened for reading, or is closed; open it with write=True to change it"
            )


def _kind(known: Known) -> Kind:
    return "revocations" if known.manifest is None else "modules"


def _blobs_of(known: Known) -> tuple[File, ...]:
    return () if known.manifest is None else known.manifest.files


def _acquire(folder: Path) -> filelock.BaseFileLock:
    lock = filelock.FileLock(folder / "LOCK")
    try:
        durable.make_folder(folder)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise StoreLockedError(
            f"{folder} is locked: another process is writing to it; wait for it to end, or stop it"
        ) from None
    except OSError as error:
        raise StoreError(
            f"cannot write to {folder}: {error.strerror or error}; check its permissions"
        ) from error
    return lock
