"""A set of ids in the form in which two peers compare theirs: 256 buckets, their digests, one fingerprint."""

import hashlib
import itertools
from collections.abc import Iterable
from typing import Final, final

from stolon.sharing.exchange.messages import BUCKET_DIGEST, BUCKETS

_EMPTY: Final = hashlib.sha256(b"").digest()[:BUCKET_DIGEST]


@final
class Index:
    """An immutable set of ids, with digests.

    Plain hashes over the sorted ids, not sums of hashes: those can be forged (reliability.md 4.4).

    Attributes:
        ids: the set, identifiers of 64 hexadecimal characters.
        buckets: for each first byte its ids, ascending.
        digests: for each bucket the first 16 bytes of SHA-256 over its ids' bytes.
        fingerprint: SHA-256 over all digests, 32 bytes: equal for equal sets only.

    Example:
        >>> few, more = Index.of(["aa" * 32]), Index.of(["aa" * 32, "ab" * 32])
        >>> few.fingerprint == more.fingerprint
        False
        >>> few.having(more.ids).fingerprint == more.fingerprint
        True
    """

    __slots__ = ("_sorted", "buckets", "digests", "fingerprint", "ids")

    def __init__(
        self, ids: frozenset[str], buckets: tuple[tuple[str, ...], ...], digests: tuple[bytes, ...]
    ) -> None:
        self.ids = ids
        self.buckets = buckets
        self.digests = digests
        self.fingerprint = hashlib.sha256(b"".join(digests)).digest()
        self._sorted: tuple[str, ...] | None = None

    @classmethod
    def of(cls, ids: Iterable[str]) -> "Index":
        """The index of these ids."""
        return cls(frozenset(), ((),) * BUCKETS, (_EMPTY,) * BUCKETS).having(frozenset(ids))

    def having(self, ids: frozenset[str]) -> "Index":
        """The index of other ids, made from this one: only the buckets that differ are hashed again."""
        if ids is self.ids:
            return self
        gone, new = self.ids - ids, ids - self.ids
        if not gone and not new:
            return self
        changed: dict[int, list[str]] = {}
        for id_ in gone | new:
            changed.setdefault(int(id_[:2], 16), [])
        buckets, digests = list(self.buckets), list(self.digests)
        for number, members in changed.items():
            members.extend(id_ for id_ in buckets[number] if id_ not in gone)
        for id_ in new:
            changed[int(id_[:2], 16)].append(id_)
        for number, members in changed.items():
            members.sort()
            buckets[number] = tuple(members)
            digests[number] = hashlib.sha256(bytes.fromhex("".join(members))).digest()[:BUCKET_DIGEST]
        return Index(ids, tuple(buckets), tuple(digests))

    def sorted(self) -> tuple[str, ...]:
        """All ids, ascending."""
        if self._sorted is None:
            self._sorted = tuple(itertools.chain.from_iterable(self.buckets))
        return self._sorted
