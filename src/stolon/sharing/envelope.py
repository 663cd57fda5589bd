"""The envelope: bytes with a type and signatures over both (DSSE).

::

    {"payload":"<base64>","payloadType":"application/vnd.stolon.module.v1+json",
     "signatures":[{"keyid":"<public key>","sig":"<base64>"}]}

What is signed is the pre-authentication encoding of type and payload, so that a signature for one type never
passes for another. There is one form of writing an envelope; every other is refused, so that a replayed
envelope is a byte-for-byte replay. An envelope is verified before its payload is parsed.

Source:
    DSSE 1.0, https://github.com/secure-systems-lab/dsse. Unlike there, the key's id is the public key.
"""

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from stolon.sharing import strict_json
from stolon.sharing.codes import Code, Refused
from stolon.sharing.keys import HEX, Key, check_public, verify_bytes
from stolon.sharing.limits import MAX_ENVELOPE, MAX_MANIFEST, MAX_SIGNATURES

MODULE: Final = "application/vnd.stolon.module.v1+json"
TRUST: Final = "application/vnd.stolon.trust.v1+json"
REVOCATION: Final = "application/vnd.stolon.revocation.v1+json"
TYPES: Final = (MODULE, TRUST, REVOCATION)

_FAMILY: Final = re.compile(r"application/vnd\.stolon\.[a-z]{1,32}\.v[1-9][0-9]{0,3}\+json")
_SIGNATURE_BYTES: Final = 64


@dataclass(frozen=True)
class Envelope:
    """An opened envelope; nothing in it is verified yet.

    Attributes:
        type: one of :data:`TYPES`.
        payload: what was signed.
        signatures: pairs of public key and signature, each key once, in the order of the keys.
    """

    type: str
    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]

    @property
    def signers(self) -> tuple[str, ...]:
        """The keys that are said to have signed."""
        return tuple(keyid for keyid, _ in self.signatures)

    def encode(self) -> bytes:
        """The one way of writing it."""
        return strict_json.dumps(
            {
                "payload": base64.b64encode(self.payload).decode(),
                "payloadType": self.type,
                "signatures": [
                    {"keyid": keyid, "sig": base64.b64encode(sig).decode()} for keyid, sig in self.signatures
                ],
            }
        )


def pae(type: str, payload: bytes) -> bytes:  # noqa: A002 - DSSE's own word
    """The bytes that are signed.

    Example:
        >>> pae("http://example.com/HelloWorld", b"hello world")
        b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(type: str, payload: bytes, *keys: Key) -> bytes:  # noqa: A002 - DSSE's own word
    """Sign a payload with each key and write the envelope; the same arguments give the same bytes.

    Raises:
        ValueError: no keys, too many, or a payload above its limit: nobody would accept that.
    """
    by_public = {key.public: key for key in keys}
    if not 1 <= len(by_public) <= MAX_SIGNATURES or len(payload) > MAX_MANIFEST:
        raise ValueError(
            f"an envelope has 1 to {MAX_SIGNATURES} signatures and at most {MAX_MANIFEST:,} bytes of payload, not "
            f"{len(by_public)} and {len(payload):,}"
        )
    signed = pae(type, payload)
    signatures = tuple((public, by_public[public].sign(signed)) for public in sorted(by_public))
    return Envelope(type, payload, signatures).encode()


def open_envelope(data: bytes) -> Envelope | Refused:
    """Read an envelope in its one form. Nothing is verified yet, and the payload is not looked into."""
    if len(data) > MAX_ENVELOPE:
        return Refused(
            Code.TOO_LARGE, f"an envelope has at most {MAX_ENVELOPE:,} bytes, this has {len(data):,}"
        )
    try:
        opened = _parse(strict_json.loads(data, most=MAX_ENVELOPE, depth=3))
    except ValueError as error:
        return Refused(Code.MALFORMED, f"not an envelope: {error}")
    if opened.encode() != data:
        return Refused(Code.MALFORMED, "not an envelope: written in another form than the canonical one")
    if len(opened.payload) > MAX_MANIFEST:
        return Refused(
            Code.TOO_LARGE, f"a payload has at most {MAX_MANIFEST:,} bytes, this has {len(opened.payload):,}"
        )
    if opened.type not in TYPES:
        code = Code.UNSUPPORTED if _FAMILY.fullmatch(opened.type) else Code.WRONG_TYPE
        return Refused(code, f"the type {opened.type[:80]!r} is unknown; known are: {', '.join(TYPES)}")
    return opened


def verify(envelope: Envelope, keyid: str) -> bool:
    """Whether the envelope carries a signature by this key, and it is right."""
    for public, signature in envelope.signatures:
        if public == keyid:
            return verify_bytes(public, pae(envelope.type, envelope.payload), signature)
    return False


def check_signers(envelope: Envelope) -> Refused | None:
    """What is wrong with any of the envelope's signatures, or None where all are right.

    For what only a few may sign (trust lists, revocations): there, an extra signature that is wrong is no
    harmless extra.
    """
    for keyid in envelope.signers:
        refused = check_public(keyid)
        if refused is not None:
            return refused
        if not verify(envelope, keyid):
            return Refused(Code.BAD_SIGNATURE, f"the signature is not that of {keyid}")
    return None


def payload_id(payload: bytes) -> str:
    """The id of what an envelope carries: its SHA-256; another signature makes no other module."""
    return hashlib.sha256(payload).hexdigest()


def _parse(value: strict_json.Json) -> Envelope:
    """Check the shape of the JSON; raises ValueError."""
    fields = strict_json.fields(value, "payload", "payloadType", "signatures")
    signatures = fields["signatures"]
    if not isinstance(signatures, list) or not 1 <= len(signatures) <= MAX_SIGNATURES:
        raise ValueError(f"expected a list of 1 to {MAX_SIGNATURES} signatures")
    pairs = tuple(_signature(strict_json.fields(entry, "keyid", "sig")) for entry in signatures)
    keyids = [keyid for keyid, _ in pairs]
    if keyids != sorted(set(keyids)):
        raise ValueError("expected signatures in the order of their keys, each key once")
    return Envelope(strict_json.text(fields["payloadType"]), _base64(fields["payload"]), pairs)


def _signature(entry: dict[str, strict_json.Json]) -> tuple[str, bytes]:
    signature = _base64(entry["sig"])
    if len(signature) != _SIGNATURE_BYTES:
        raise ValueError(f"expected a signature of {_SIGNATURE_BYTES} bytes, found {len(signature)}")
    return strict_json.text(entry["keyid"], HEX), signature


def _base64(value: strict_json.Json) -> bytes:
    return base64.b64decode(strict_json.text(value), validate=True)
