"""Hostile agents for :mod:`benchmarks.exchange_world`: each does one kind of harm, to everybody, for ever.

They see everything that honest agents hold, and answer whatever helps them; what they cannot do is sign.
"""

# ruff: noqa: D102, ARG002 - overriding a documented method; not every lie depends on the question
import hashlib
import random

from benchmarks.exchange_world import TAG, Liar, World, make, name

from stolon.sharing.codes import Refused
from stolon.sharing.exchange import messages
from stolon.sharing.exchange.index import Index
from stolon.sharing.limits import CHUNK, MAX_ENVELOPE, MAX_MESSAGE


class Mirror(Liar):
    """Says what the truth would be; the others lie on top of that."""

    every_s = 2.0

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self.index = Index.of(())
        self.looked = -1.0

    def truth(self) -> Index:
        """Everything that any honest agent holds, as of the last second."""
        if self.world.t >= self.looked + 1.0:
            self.looked = self.world.t
            self.index = self.index.having(
                frozenset().union(*(agent.holdings.ids() for agent in self.world.agents.values()))
            )
        return self.index

    def hints(self) -> tuple[float, list[bytes]]:
        return self.every_s, [self.hint(self.truth().fingerprint)]

    def hint(self, fingerprint: bytes) -> bytes:
        return messages.Hint(name(self.number), fingerprint, self.rng.randrange(2**32)).to_bytes()

    def asked(self, asker: int, payload: bytes) -> bytes | None:
        request = messages.read_request(payload)
        assert not isinstance(request, Refused)
        match request:
            case messages.Compare():
                return self.compare(request)
            case messages.ListIds():
                ids = tuple(id_ for b in request.buckets for id_ in self.truth().buckets[b])
                return messages.Ids(self.truth().fingerprint, ids).to_bytes()
            case messages.GetEnvelope():
                return self.envelope(request.id)
            case messages.GetBlob():
                return self.blob(request)
        return None

    def compare(self, request: messages.Compare) -> bytes | None:
        return messages.Ids(self.truth().fingerprint, self.truth().sorted()).to_bytes()

    def envelope(self, id_: str) -> bytes | None:
        found = (agent.holdings.envelope(id_) for agent in self.world.agents.values())
        envelope = next((one for one in found if one is not None), None)
        return messages.Absent().to_bytes() if envelope is None else messages.EnvelopeIs(envelope).to_bytes()

    def blob(self, request: messages.GetBlob) -> bytes | None:
        return messages.Piece(self.read(request)).to_bytes()

    def read(self, request: messages.GetBlob) -> bytes:
        found = (agent.holdings.blob(request.sha) for agent in self.world.agents.values())
        blob = next((one for one in found if one is not None), b"")
        return blob[request.offset : request.offset + request.length]


class FalseFingerprints(Mirror):
    """Another fingerprint each time, and ids that do not exist."""

    every_s = 0.5

    def hints(self) -> tuple[float, list[bytes]]:
        return self.every_s, [self.hint(self.rng.randbytes(32))]

    def compare(self, request: messages.Compare) -> bytes | None:
        ids = {self.rng.randbytes(32).hex() for _ in range(self.rng.randrange(300))}
        if self.rng.random() < 0.3:
            digests = tuple(self.rng.randbytes(16) for _ in range(256))
            return messages.Buckets(self.rng.randbytes(32), self.rng.randrange(2**32), digests).to_bytes()
        return messages.Ids(self.rng.randbytes(32), tuple(sorted(ids))).to_bytes()


class Garbage(FalseFingerprints):
    """Bytes of any length, also none and far too many, and hints that are none."""

    def hints(self) -> tuple[float, list[bytes]]:
        return self.every_s, [self.noise(), self.hint(self.rng.randbytes(32))]

    def asked(self, asker: int, payload: bytes) -> bytes | None:
        if self.rng.random() < 0.01:
            return bytes([self.rng.randrange(16, 23)]) * self.rng.choice((MAX_MESSAGE, MAX_MESSAGE + 1))
        return self.noise()

    def noise(self) -> bytes:
        noise = self.rng.randbytes(self.rng.choice((0, 1, 2, 33, 65, 400)))
        return bytes([self.rng.randrange(24)]) + noise[1:] if self.rng.random() < 0.7 else noise


class Forger(Mirror):
    """True ids, and envelopes whose signatures are spoilt."""

    def envelope(self, id_: str) -> bytes | None:
        reply = super().envelope(id_)
        return reply[:-TAG] + self.rng.randbytes(TAG)


class Replayer(Mirror):
    """Good envelopes and blobs, of something else than what was asked for."""

    def envelope(self, id_: str) -> bytes | None:
        return super().envelope(self.rng.choice(self.truth().sorted()))


class Withholder(Mirror):
    """Everything but the blobs: denies having them, or never answers."""

    def blob(self, request: messages.GetBlob) -> bytes | None:
        return self.rng.choice((None, messages.Absent().to_bytes()))


class WrongBytes(Mirror):
    """Blobs of the right length with wrong bytes, or of the wrong length."""

    def blob(self, request: messages.GetBlob) -> bytes | None:
        if self.rng.random() < 0.2:
            return messages.Piece(self.rng.randbytes(self.rng.randrange(2000))).to_bytes()
        return messages.Piece(self.rng.randbytes(request.length)).to_bytes()


class Spoiler(Mirror):
    """Wrong bytes at the beginning of a blob, then silence: another agent's honest rest does not fit them."""

    def blob(self, request: messages.GetBlob) -> bytes | None:
        if request.offset == 0 and request.length >= 16 * 1024:
            return messages.Piece(self.rng.randbytes(request.length)).to_bytes()
        return None


class Silent(Mirror):
    """Hints at what everybody lacks and never answers."""

    def hints(self) -> tuple[float, list[bytes]]:
        return 0.5, [self.hint(self.rng.randbytes(32))]

    def asked(self, asker: int, payload: bytes) -> bytes | None:
        return None


class HalfSilent(Mirror):
    """Answers every listing, and now and then something else: always in favour, never of use."""

    def envelope(self, id_: str) -> bytes | None:
        return super().envelope(id_) if self.rng.random() < 0.3 else None

    def blob(self, request: messages.GetBlob) -> bytes | None:
        return super().blob(request) if self.rng.random() < 0.3 else None


class Flooder(FalseFingerprints):
    """A stream of hints, and lists without end."""

    def hints(self) -> tuple[float, list[bytes]]:
        return 0.5, [self.hint(self.rng.randbytes(32)) for _ in range(10)]

    def compare(self, request: messages.Compare) -> bytes | None:
        start = self.rng.getrandbits(250)
        ids = tuple(f"{start + step:064x}" for step in range(2000))
        return messages.Ids(self.rng.randbytes(32), ids).to_bytes()

    def envelope(self, id_: str) -> bytes | None:
        return self.rng.choice((None, messages.EnvelopeIs(bytes(MAX_ENVELOPE)).to_bytes()))


class Stranger(Mirror):
    """Holds, beside everything true, modules of authors whom nobody lists, and of other backbones."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self.own: dict[str, bytes] = {}
        for step in range(100):
            kind, author = (b"B", b"L000") if step % 2 else (b"M", b"X%03d" % number)
            envelope, _ = make(kind, author, 10_000 * number + step, [b"a blob that nobody should ask for"])
            self.own[hashlib.sha256(envelope[:-TAG]).hexdigest()] = envelope

    def truth(self) -> Index:
        index = super().truth()
        self.index = index.having(index.ids | self.own.keys())
        return self.index

    def envelope(self, id_: str) -> bytes | None:
        own = self.own.get(id_)
        return super().envelope(id_) if own is None else messages.EnvelopeIs(own).to_bytes()


class Poisoner(Stranger):
    """Listed as an author, and signs modules that fail the last check, and ones whose blobs do not exist."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self.own.clear()
        self.bytes = self.rng.randbytes(CHUNK // 4 + 5)
        for step in range(20):
            envelope, _ = make(b"P", b"L%03d" % number, 10_000 * number + step, [self.bytes])
            self.own[hashlib.sha256(envelope[:-TAG]).hexdigest()] = envelope

    def read(self, request: messages.GetBlob) -> bytes:
        if request.sha == hashlib.sha256(self.bytes).hexdigest():
            return self.bytes[request.offset : request.offset + request.length]
        return super().read(request)


KINDS: tuple[type[Liar], ...] = (
    FalseFingerprints,
    Garbage,
    Forger,
    Replayer,
    Withholder,
    WrongBytes,
    Spoiler,
    Silent,
    HalfSilent,
    Flooder,
    Stranger,
    Poisoner,
)


def pick(rng: random.Random, count: int) -> list[type[Liar]]:
    """Some kinds, different ones as far as there are."""
    return rng.sample(KINDS, count)
