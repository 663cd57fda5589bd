"""The contents of an opened bank, in memory: what lies there, what of it is held, and what of that is whole.

It also keeps the files in line with that: what leaves the set leaves the disk. Not thread-safe; the bank's
lock guards it.
"""

import contextlib
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from stolon.sharing.acceptance import Accepted
from stolon.sharing.bank_files import BankFiles, Kind
from stolon.sharing.held import NOBODY, Held, Known
from stolon.sharing.manifest import File, Manifest
from stolon.sharing.trust import Trust


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
class Contents:
    """What a bank's folder holds.

    Args:
        files: of the bank.
        known: everything there that is signed rightly, by id.
        trust: whom to listen to; None: nobody.
        write: whether files may be removed.
        sweep: whether what is not needed may be taken for litter: everything there is known.

    Attributes:
        known: by id.
        held: what of it the trust list and the quotas let in.
        damaged: what is held but cannot be had from this disk, and why, by id.
        ids: of all that is held whole.
    """

    def __init__(
        self, files: BankFiles, known: dict[str, Known], trust: Trust | None, *, write: bool, sweep: bool
    ) -> None:
        self.known = known
        self.held = Held({})
        self.damaged: dict[str, str] = {}
        self.ids: frozenset[str] = frozenset()
        self._files, self._write = files, write
        self._lacking: dict[str, str] = {}  # a file or the envelope, whether needed or not
        self._without_envelope: set[str] = set()
        self._uses: dict[str, set[str]] = {}
        sizes = _sizes(files)
        for id_, one in known.items():
            if any(sizes.get(file.sha256) != file.bytes for file in _blobs(one)):
                self._lacking[id_] = "a file is missing, or has another size"
        self.settle(trust)
        if write and sweep:
            files.sweep(self._uses)

    def settle(self, trust: Trust | None) -> None:
        """Derive what is held from all that is known, and remove files that are needed no more."""
        self.held = Held(self.known, trust or NOBODY, self.held)
        before, self._uses = self._uses, {}
        for id_, one in list(self.known.items()):
            if self.held.is_live(id_) or self._is_dormant(id_, one):
                self._use(id_, (file.sha256 for file in _blobs(one)))
            elif one.manifest is not None and id_ not in self.held.modules:
                self._remove_envelope(id_)
        self._remove_blobs(before)
        self._count()

    def take(self, accepted: Accepted, trust: Trust | None) -> None:
        """What was accepted lies there now."""
        kind: Kind = "revocations" if accepted.manifest is None else "modules"
        self.known[accepted.id] = Known(
            hashlib.sha256(accepted.envelope).hexdigest(),
            len(accepted.envelope),
            self._files.arrived(self._files.envelope_path(kind, accepted.id)),
            accepted.manifest,
            accepted.envelope if accepted.manifest is None else b"",
        )
        self._lacking.pop(accepted.id, None)
        self._without_envelope.discard(accepted.id)
        if accepted.manifest is None:
            self.settle(trust)
            return
        self.damaged.pop(accepted.id, None)
        self._use(accepted.id, accepted.blobs)
        for left in self.held.add_module(accepted.id, accepted.manifest):
            self.ids -= {left}
            self.damaged.pop(left, None)
            gone = self.known[left]
            self._remove_envelope(left)
            for file in _blobs(gone):
                self._uses.get(file.sha256, set()).discard(left)
            self._uses = {sha: users for sha, users in self._uses.items() if users}
            self._remove_blobs(file.sha256 for file in _blobs(gone))
        self.ids |= {accepted.id}

    def lose(self, ids: Iterable[str], reason: str, *, envelope: bool = False) -> None:
        """Damage was noticed: these are not held whole any more, so that they are fetched again."""
        for id_ in ids:
            self._lacking[id_] = reason
            if envelope:
                self._without_envelope.add(id_)
        self._count()

    def stored(self, ids: Iterable[str]) -> tuple[Stored, ...]:
        """These modules, in this order."""
        return tuple(self._stored(id_, self.known[id_], self.held.modules[id_]) for id_ in ids)

    @staticmethod
    def _stored(id_: str, known: Known, manifest: Manifest) -> Stored:
        return Stored(id_, manifest, known.arrived, known.size + manifest.total_bytes)

    def users(self, sha: str) -> frozenset[str]:
        """The modules that need a blob."""
        return frozenset(self._uses.get(sha, ()))

    def needed_by(self, id_: str) -> tuple[str, ...]:
        """The blobs that a module needs; none of one that its author took back, or that is not held."""
        if id_ not in self.held.ids:
            return ()
        return tuple(file.sha256 for file in _blobs(self.known[id_]) if id_ in self.users(file.sha256))

    def _is_dormant(self, id_: str, one: Known) -> bool:
        """Whether a module is kept on the disk although its author is not listed: nobody revoked it."""
        trust = self.held.trust
        return (
            one.manifest is not None
            and trust.author(one.manifest.author) is None
            and one.manifest.author not in trust.revoked_keys
            and id_ not in trust.revoked_modules
        )

    def _count(self) -> None:
        """What is held whole: of a module that its author took back, the envelope is all there need be."""
        self.damaged = {
            id_: why
            for id_, why in self._lacking.items()
            if self.held.is_live(id_) or (id_ in self._without_envelope and id_ in self.held.ids)
        }
        self.ids = self.held.ids.difference(self.damaged)  # minus a view of keys would be a set that changes

    def _use(self, id_: str, blobs: Iterable[str]) -> None:
        for sha in blobs:
            self._uses.setdefault(sha, set()).add(id_)

    def _remove_envelope(self, id_: str) -> None:
        del self.known[id_]
        self._lacking.pop(id_, None)
        if self._write:
            self._files.remove(self._files.envelope_path("modules", id_))

    def _remove_blobs(self, blobs: Iterable[str]) -> None:
        """Delete those of these that nobody needs any more."""
        for sha in blobs:
            if self._write and sha not in self._uses:
                self._files.remove(self._files.blob_path(sha))


def _blobs(known: Known) -> tuple[File, ...]:
    return () if known.manifest is None else known.manifest.files


def _sizes(files: BankFiles) -> dict[str, int]:
    """What cannot be listed is missing, for now; peers are asked for it, and it is written anew."""
    with contextlib.suppress(OSError):
        return files.blob_sizes()
    return {}
