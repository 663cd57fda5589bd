"""What is signed, forged in the ways that the design names; for benchmarks/forgeries.py and the tests."""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch

from stolon import randomness
from stolon.errors import ModuleRefusedError
from stolon.light.anchoring import Anchoring
from stolon.light.answering import TaskKnowledge
from stolon.sharing import acceptance, lightweight, module, strict_json
from stolon.sharing.bank import Bank
from stolon.sharing.codes import Code, Refused
from stolon.sharing.envelope import (
    MODULE,
    REVOCATION,
    TRUST,
    Envelope,
    open_envelope,
    payload_id,
    seal,
)
from stolon.sharing.keys import Key
from stolon.sharing.revocation import Revocation, accept_revocation, revoke, revoke_as_root
from stolon.sharing.task_module import TaskModule
from stolon.sharing.trust import Author, Trust, accept_trust

ROOT, ADA, BEN, EVE = (Key(bytes([number]) * 32) for number in (1, 2, 3, 66))
OLD_ROOT = Key(b"\x04" * 32)
BACKBONE, OTHER_BACKBONE = "b0" * 32, "b1" * 32
ORDER = 2**252 + 27742317777372353535851937790883648493
IDENTITY = (1).to_bytes(32, "little").hex()
FIRST = Trust(1, (OLD_ROOT.public,), 1, (Author(ROOT.public, "root"), Author(ADA.public, "Ada")))
TRUSTED = replace(FIRST, version=2, roots=(ROOT.public,), authors=(*FIRST.authors, Author(BEN.public, "Ben")))


@dataclass(frozen=True)
class Forgery:
    """Something forged, and what must become of it.

    Attributes:
        name: the kind that the design names.
        variant: which of several ways.
        expected: the code that it must be refused with.
        kind: what it is handed in as: ``"item"`` (a module's envelope with its blobs), ``"file"``, ``"word"`` (a
            revocation) or ``"trust"``.
        data: its bytes.
        blobs: by digest.
        trust: whom the receiver trusts.
        in_bank: the code that a bank must refuse it with, where it is another one.
    """

    name: str
    variant: str
    expected: Code
    kind: str
    data: bytes
    blobs: dict[str, bytes] = field(default_factory=dict)
    trust: Trust = TRUSTED
    in_bank: Code | None = None

    def decide(self) -> object:
        """What the pure functions say."""
        if self.kind == "item":
            return acceptance.accept(self.data, self.blobs, self.trust, backbone=BACKBONE)
        if self.kind == "file":
            return module.read(self.data, self.trust, backbone=BACKBONE)
        return (accept_revocation if self.kind == "word" else accept_trust)(self.data, self.trust)

    def give(self, bank: Bank) -> object:
        """What a bank says."""
        try:
            if self.kind == "item":
                return bank.commit(self.data, self.blobs, BACKBONE)
            if self.kind == "file":
                return bank.add(self.data, BACKBONE)
            return (bank.revoke if self.kind == "word" else bank.set_trust)(self.data)
        except ModuleRefusedError as error:
            return Refused(Code(error.code), str(error))


def make_module(
    key: Key = ADA, seed: int = 0, *, backbone: str = BACKBONE, classes: int = 3, width: int = 16
) -> bytes:
    """A module file with knowledge of random numbers."""
    generator = randomness.generator(seed, "forgeries")
    features = torch.randn(20 * classes, width, generator=generator)
    labels = torch.arange(20 * classes) % classes
    anchoring = Anchoring("gmm", {})
    anchor = anchoring.fit(features, labels, features[:5], seed, lambda _: features)
    own = TaskKnowledge(
        torch.randn(classes, width, generator=generator),
        torch.zeros(classes),
        torch.zeros(0),
        anchor,
    )
    names = tuple(f"class {number}" for number in range(classes))
    about = TaskModule(
        "lightweight", f"task {seed}", names, {}, "toy", backbone, metrics={"test_accuracy": 0.5}
    )
    return module.pack(lightweight.of_knowledge(own, about, anchoring, "compact"), key)


def parts(file: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The envelope and the blobs of a good module file."""
    found = module.split(file)
    assert not isinstance(found, Refused)
    return found


def opened(data: bytes) -> Envelope:
    """A good envelope."""
    found = open_envelope(data)
    assert isinstance(found, Envelope)
    return found


def handed(kind: str, data: bytes, blobs: dict[str, bytes] | None = None) -> Forgery:
    """Something genuine, in the form in which forgeries are handed in."""
    return Forgery("genuine", "", Code.MALFORMED, kind, data, blobs or {})


def good(kind: str, seed: int = 0) -> Forgery:
    """A genuine thing of each kind; the seed tells modules apart."""
    if kind == "file":
        return handed(kind, make_module(seed=seed))
    if kind == "item":
        return handed(kind, *parts(make_module(seed=seed)))
    data = revoke(ADA, "12" * 32) if kind == "word" else seal(TRUST, TRUSTED.to_payload(), ROOT, OLD_ROOT)
    return handed(kind, data)


def one_signature(data: bytes) -> bytes:
    """The same envelope with the new root's signature alone, or as it is."""
    found = opened(data)
    own = tuple(pair for pair in found.signatures if pair[0] == ROOT.public)
    return replace(found, signatures=own or found.signatures).encode()


def forgeries() -> Iterator[Forgery]:
    """Those that the design names; several ways of some."""
    envelope, blobs = parts(make_module())
    payload = opened(envelope).payload
    word, trust = good("word").data, one_signature(good("trust").data)

    def item(name: str, variant: str, code: Code, data: bytes, given=blobs, trusted=TRUSTED) -> Forgery:
        return Forgery(name, variant, code, "item", data, given, trusted)

    def of(kind: str) -> Callable[[str, str, Code, bytes], Forgery]:
        return lambda name, variant, code, data: Forgery(name, variant, code, kind, data)

    def listed(**changes: object) -> bytes:
        return seal(TRUST, replace(newer(), **changes).to_payload(), ROOT)

    file, spoken, listing = of("file"), of("word"), of("trust")

    name = "unlisted"
    yield item(name, "module", Code.UNKNOWN_AUTHOR, *parts(make_module(EVE)))
    yield spoken(name, "revocation", Code.UNKNOWN_AUTHOR, revoke(EVE, "12" * 32))
    yield listing(name, "trust list", Code.BAD_TRUST, seal(TRUST, newer().to_payload(), EVE))

    name = "revoked"
    yield item(name, "key", Code.REVOKED_KEY, envelope, trusted=TRUSTED.revoking(ADA.public))
    yield item(name, "module", Code.REVOKED, envelope, trusted=TRUSTED.revoking(payload_id(payload)))

    name = "author is not the signer"
    yield item(name, "module", Code.AUTHOR_MISMATCH, seal(MODULE, payload, BEN))
    hers = Revocation(ADA.public, frozenset({"12" * 32})).to_payload()
    yield spoken(name, "revocation", Code.AUTHOR_MISMATCH, seal(REVOCATION, hers, BEN))
    renamed = payload.replace(ADA.public.encode(), BEN.public.encode())
    kept = Envelope(MODULE, renamed, opened(envelope).signatures).encode()
    yield item(name, "signature kept", Code.BAD_SIGNATURE, kept)

    name = "swapped type"
    yield item(name, "module as revocation", Code.BAD_SIGNATURE, typed(envelope, REVOCATION))
    yield item(name, "revocation as module", Code.BAD_SIGNATURE, typed(word, MODULE))
    yield listing(name, "module as trust list", Code.BAD_SIGNATURE, typed(envelope, TRUST))
    yield spoken(name, "trust list as revocation", Code.BAD_SIGNATURE, typed(trust, REVOCATION))

    name, other = "swapped blobs", list(parts(make_module(seed=1))[1].values())
    yield item(name, "another module's", Code.WRONG_HASH, envelope, dict(zip(blobs, other, strict=True)))
    rotated = dict(zip(blobs, reversed(blobs.values()), strict=True))
    yield item(name, "among each other", Code.WRONG_HASH, envelope, rotated)
    yield file(name, "another module's, in a file", Code.MALFORMED, module.join(envelope, other))
    turned = module.join(envelope, reversed(blobs.values()))
    yield file(name, "among each other, in a file", Code.MALFORMED, turned)

    theirs = make_module(backbone=OTHER_BACKBONE)
    yield item("other backbone", "module", Code.OTHER_BACKBONE, *parts(theirs))
    yield file("other backbone", "module file", Code.OTHER_BACKBONE, theirs)

    name = "duplicate JSON keys"
    yield item(name, "envelope", Code.MALFORMED, doubled(envelope))
    yield item(name, "manifest", Code.BAD_MANIFEST, seal(MODULE, doubled(payload), ADA))
    yield spoken(name, "revocation", Code.MALFORMED, seal(REVOCATION, doubled(opened(word).payload), ADA))
    yield listing(name, "trust list", Code.MALFORMED, seal(TRUST, doubled(newer().to_payload()), ROOT))

    name, nobody = "small-order key", (*TRUSTED.authors, Author(IDENTITY, "nobody"))
    yield listing(name, "as author", Code.WEAK_KEY, listed(authors=nobody))
    yield listing(name, "as root", Code.WEAK_KEY, listed(roots=tuple(sorted([ROOT.public, IDENTITY]))))
    by_nobody = payload.replace(ADA.public.encode(), IDENTITY.encode())
    fits_all = bytes.fromhex(IDENTITY) + bytes(32)  # by the equation alone, a signature of every text
    signed = Envelope(MODULE, by_nobody, ((IDENTITY, fits_all),)).encode()
    yield item(name, "signs", Code.UNKNOWN_AUTHOR, signed)
    yield item(
        name, "signs, were it listed", Code.BAD_SIGNATURE, signed, trusted=replace(TRUSTED, authors=nobody)
    )

    yield item("malleated S", "module", Code.BAD_SIGNATURE, malleated(envelope))
    yield spoken("malleated S", "revocation", Code.BAD_SIGNATURE, malleated(word))
    yield listing("malleated S", "trust list", Code.BAD_SIGNATURE, malleated(listed()))

    name = "old trust version"
    yield listing(name, "by the root of then", Code.BAD_TRUST, seal(TRUST, FIRST.to_payload(), OLD_ROOT))
    yield listing(name, "by the root of now", Code.OLD_TRUST, listed(version=1))
    rival = listed(version=TRUSTED.version, authors=TRUSTED.authors[:1])
    yield listing(name, "another of the same version", Code.OLD_TRUST, rival)

    name, old = "old root", replace(newer(), roots=(OLD_ROOT.public,)).to_payload()
    yield listing(name, "signs a newer list", Code.BAD_TRUST, seal(TRUST, old, OLD_ROOT))
    yield spoken(name, "revokes a key", Code.UNKNOWN_AUTHOR, revoke_as_root([OLD_ROOT], keys=[ADA.public]))
    newcomer = tuple(sorted([ROOT.public, EVE.public]))
    yield listing(name, "takes in one that has not signed", Code.BAD_TRUST, listed(roots=newcomer))

    name = "cross-type replay"
    yield item(name, "trust list as module", Code.WRONG_TYPE, trust)
    yield file(name, "revocation as module file", Code.WRONG_TYPE, module.join(word, []))
    yield listing(name, "module as trust list", Code.WRONG_TYPE, envelope)
    yield listing(name, "revocation as trust list", Code.WRONG_TYPE, word)
    # A bank has one door for both, and there the module lacks its blobs.
    yield replace(spoken(name, "module as revocation", Code.WRONG_TYPE, envelope), in_bank=Code.MISSING_BLOB)
    yield spoken(name, "trust list as revocation", Code.WRONG_TYPE, trust)


def newer() -> Trust:
    """The next version, with nothing changed."""
    return replace(TRUSTED, version=TRUSTED.version + 1)


def typed(data: bytes, kind: str) -> bytes:
    """The same envelope under another type."""
    return replace(opened(data), type=kind).encode()


def doubled(data: bytes) -> bytes:
    """The same JSON object with its first key twice."""
    value = json.loads(data)
    key = min(value)
    entry = strict_json.dumps({key: value[key]})[1:-1]
    return data.replace(b"{" + entry, b"{" + entry + b"," + entry, 1)


def malleated(data: bytes) -> bytes:
    """The same envelope, S replaced by S + L: it satisfies the equation of Ed25519, too."""
    value = json.loads(data)
    for entry in value["signatures"]:
        signature = base64.b64decode(entry["sig"])
        scalar = int.from_bytes(signature[32:], "little") + ORDER
        entry["sig"] = base64.b64encode(signature[:32] + scalar.to_bytes(32, "little")).decode()
    return strict_json.dumps(value)
