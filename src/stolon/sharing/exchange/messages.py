"""What peers say to each other: one byte for the kind, then fields of fixed size, big-endian.

=========== ============================================ ==========================
kind        fields after the first byte, in bytes        answered by
=========== ============================================ ==========================
Hint        sender 32, fingerprint 32, count 4           nobody: it goes to all
Compare     own fingerprint 32, a known fingerprint 32   Same, Known, Ids, Buckets
ListIds     bitmap of buckets 32                         Ids
GetEnvelope id 32                                        EnvelopeIs or Absent
GetBlob     digest 32, offset 4, length 4                Piece or Absent
Same        none                                         -
Known       none                                         -
Ids         fingerprint 32, ids 32 each, ascending       -
Buckets     fingerprint 32, count 4, 256 digests of 16   -
EnvelopeIs  1 byte to 96 KiB                             -
Piece       0 bytes to 1 MiB of a blob                   -
Absent      none                                         -
=========== ============================================ ==========================

Readers never raise: what is not exactly one of these is :class:`~stolon.sharing.codes.Refused`. What is
accepted has one form only: ``read_...(data).to_bytes() == data``.
"""

import itertools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

from stolon.sharing.codes import Code, Refused
from stolon.sharing.limits import CHUNK, MAX_BLOB, MAX_ENVELOPE, MAX_HINT

BUCKETS: Final = 256
"""Parts that a set of ids is compared in: by an id's first byte."""
BUCKET_DIGEST: Final = 16
"""Bytes of a bucket's digest: 128 bits, so that two sets that agree cannot be made in practice."""
MAX_IDS: Final = 16_384
"""Ids in one reply (512 KiB)."""

_ID: Final = 32
_HINT: Final = struct.Struct(">B32s32sI")
_COMPARE: Final = struct.Struct(">B32s32s")
_ONE: Final = struct.Struct(">B32s")
_GET_BLOB: Final = struct.Struct(">B32sII")
_BUCKETS: Final = struct.Struct(f">B32sI{BUCKETS * BUCKET_DIGEST}s")
_MAX_COUNT: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Hint:
    """What a peer holds, in brief: ``me`` (hex), the set's fingerprint (32 bytes) and its size."""

    KIND: ClassVar[int] = 1
    me: str
    fingerprint: bytes
    count: int

    def to_bytes(self) -> bytes:
        """As sent, 69 bytes; a count above 2**32 - 1 is sent as that."""
        return _HINT.pack(self.KIND, bytes.fromhex(self.me), self.fingerprint, min(self.count, _MAX_COUNT))


@dataclass(frozen=True, slots=True)
class Compare:
    """Do you hold something else than this fingerprint, and than what you held when I last looked?"""

    KIND: ClassVar[int] = 2
    fingerprint: bytes
    known: bytes

    def to_bytes(self) -> bytes:
        """As sent, 65 bytes."""
        return _COMPARE.pack(self.KIND, self.fingerprint, self.known)


@dataclass(frozen=True, slots=True)
class ListIds:
    """Which ids are in these buckets? ``buckets`` ascending, each once."""

    KIND: ClassVar[int] = 3
    buckets: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """As sent, 33 bytes: bit b of the number (1 << b) stands for bucket b."""
        bitmap = sum(1 << bucket for bucket in self.buckets)
        return _ONE.pack(self.KIND, bitmap.to_bytes(_ID, "big"))


@dataclass(frozen=True, slots=True)
class GetEnvelope:
    """Give me the envelope of this module or revocation."""

    KIND: ClassVar[int] = 4
    id: str

    def to_bytes(self) -> bytes:
        """As sent, 33 bytes."""
        return _ONE.pack(self.KIND, bytes.fromhex(self.id))


@dataclass(frozen=True, slots=True)
class GetBlob:
    """Give me ``length`` bytes of a blob from ``offset`` on, or what there is of them."""

    KIND: ClassVar[int] = 5
    sha: str
    offset: int
    length: int

    def to_bytes(self) -> bytes:
        """As sent, 41 bytes."""
        return _GET_BLOB.pack(self.KIND, bytes.fromhex(self.sha), self.offset, self.length)


Request = Compare | ListIds | GetEnvelope | GetBlob


@dataclass(frozen=True, slots=True)
class Same:
    """I hold what you hold."""

    KIND: ClassVar[int] = 16

    def to_bytes(self) -> bytes:
        """As sent, 1 byte."""
        return bytes([self.KIND])


@dataclass(frozen=True, slots=True)
class Known:
    """I hold what you knew of me already."""

    KIND: ClassVar[int] = 22

    def to_bytes(self) -> bytes:
        """As sent, 1 byte."""
        return bytes([self.KIND])


@dataclass(frozen=True, slots=True)
class Ids:
    """Ids held, ascending: all of a small set, or those of the buckets asked for."""

    KIND: ClassVar[int] = 17
    fingerprint: bytes
    ids: tuple[str, ...]

    def to_bytes(self) -> bytes:
        """As sent, 33 bytes and 32 for each id."""
        return bytes([self.KIND]) + self.fingerprint + bytes.fromhex("".join(self.ids))


@dataclass(frozen=True, slots=True)
class Buckets:
    """A large set, by the digests of its 256 buckets."""

    KIND: ClassVar[int] = 18
    fingerprint: bytes
    count: int
    digests: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """As sent, 4,133 bytes."""
        return _BUCKETS.pack(self.KIND, self.fingerprint, min(self.count, _MAX_COUNT), b"".join(self.digests))


@dataclass(frozen=True, slots=True)
class EnvelopeIs:
    """The envelope asked for."""

    KIND: ClassVar[int] = 19
    envelope: bytes

    def to_bytes(self) -> bytes:
        """As sent."""
        return bytes([self.KIND]) + self.envelope


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of a blob asked for."""

    KIND: ClassVar[int] = 20
    data: bytes

    def to_bytes(self) -> bytes:
        """As sent."""
        return bytes([self.KIND]) + self.data


@dataclass(frozen=True, slots=True)
class Absent:
    """I do not hold it (any more), or do not understand the question."""

    KIND: ClassVar[int] = 21

    def to_bytes(self) -> bytes:
        """As sent, 1 byte."""
        return bytes([self.KIND])


Reply = Same | Known | Ids | Buckets | EnvelopeIs | Piece | Absent


def read_hint(data: bytes) -> Hint | Refused:
    """Read a hint that came by publication."""
    if len(data) > MAX_HINT:
        return Refused(Code.TOO_LARGE, f"a hint has at most {MAX_HINT} bytes, this one {len(data)}")
    if len(data) != _HINT.size or data[0] != Hint.KIND:
        return _malformed("a hint", data)
    _, me, fingerprint, count = _HINT.unpack(data)
    return Hint(me.hex(), fingerprint, count)


def read_request(data: bytes) -> Request | Refused:
    """Read what a peer asks."""
    kind = data[0] if data else 0
    match kind, len(data):
        case Compare.KIND, _COMPARE.size:
            _, fingerprint, known = _COMPARE.unpack(data)
            return Compare(fingerprint, known)
        case ListIds.KIND, _ONE.size:
            bitmap = int.from_bytes(data[1:], "big")
            return ListIds(tuple(bucket for bucket in range(BUCKETS) if bitmap >> bucket & 1))
        case GetEnvelope.KIND, _ONE.size:
            return GetEnvelope(data[1:].hex())
        case GetBlob.KIND, _GET_BLOB.size:
            _, sha, offset, length = _GET_BLOB.unpack(data)
            if offset > MAX_BLOB or length > CHUNK:
                return Refused(
                    Code.TOO_LARGE,
                    f"at most {CHUNK} bytes up to {MAX_BLOB} can be asked for: {offset}+{length}",
                )
            return GetBlob(sha.hex(), offset, length)
    return _malformed("a request", data)


def read_reply(data: bytes) -> Reply | Refused:
    """Read what a peer answered; whether it fits the question is for the asker to check."""
    reader = _REPLIES.get(data[0]) if data else None
    return _malformed("a reply", data) if reader is None else reader(data)


def _read_ids(data: bytes) -> Ids | Refused:
    """Read a list of ids, which must be ascending: nothing twice, and one form only."""
    if len(data) > 1 + _ID + MAX_IDS * _ID:
        return Refused(Code.TOO_LARGE, f"at most {MAX_IDS} ids can be listed at once: {len(data)} bytes")
    if len(data) <= _ID or (len(data) - 1) % _ID:
        return _malformed("a list of ids", data)
    text = data[1 + _ID :].hex()
    ids = tuple(text[i : i + 2 * _ID] for i in range(0, len(text), 2 * _ID))
    if any(first >= second for first, second in itertools.pairwise(ids)):
        return Refused(Code.MALFORMED, "the ids are not in ascending order, each once")
    return Ids(data[1 : 1 + _ID], ids)


def _read_buckets(data: bytes) -> Buckets | Refused:
    if len(data) != _BUCKETS.size:
        return _malformed("a list of buckets", data)
    _, fingerprint, count, digests = _BUCKETS.unpack(data)
    steps = range(0, len(digests), BUCKET_DIGEST)
    return Buckets(fingerprint, count, tuple(digests[i : i + BUCKET_DIGEST] for i in steps))


def _read_envelope(data: bytes) -> EnvelopeIs | Refused:
    if len(data) > 1 + MAX_ENVELOPE:
        return Refused(Code.TOO_LARGE, f"an envelope has at most {MAX_ENVELOPE} bytes, this {len(data) - 1}")
    return EnvelopeIs(data[1:]) if len(data) > 1 else _malformed("an envelope", data)


def _read_piece(data: bytes) -> Piece | Refused:
    if len(data) > 1 + CHUNK:
        return Refused(Code.TOO_LARGE, f"a piece has at most {CHUNK} bytes, this {len(data) - 1}")
    return Piece(data[1:])


_WORDS: Final[dict[int, Same | Known | Absent]] = {
    Same.KIND: Same(),
    Known.KIND: Known(),
    Absent.KIND: Absent(),
}


def _read_word(data: bytes) -> Same | Known | Absent | Refused:
    """Read a reply that is its kind and nothing else."""
    if len(data) != 1:
        return _malformed("a reply of one byte", data)
    return _WORDS[data[0]]


_REPLIES: Final[dict[int, Callable[[bytes], Reply | Refused]]] = {
    **dict.fromkeys(_WORDS, _read_word),
    Ids.KIND: _read_ids,
    Buckets.KIND: _read_buckets,
    EnvelopeIs.KIND: _read_envelope,
    Piece.KIND: _read_piece,
}


def _malformed(what: str, data: bytes) -> Refused:
    kind = f"of kind {data[0]}" if data else "without a kind"
    return Refused(Code.MALFORMED, f"{what} was expected; found {len(data)} bytes {kind}")
