import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stolon.sharing import envelope as envelopes
from stolon.sharing import manifest, revocation, trust
from stolon.sharing.codes import Code, Refused
from stolon.sharing.envelope import (
    MODULE,
    REVOCATION,
    TRUST,
    TYPES,
    Envelope,
    check_signers,
    open_envelope,
    pae,
    payload_id,
    seal,
    verify,
)
from stolon.sharing.keys import Key
from stolon.sharing.limits import MAX_ENVELOPE, MAX_MANIFEST, MAX_SIGNATURES

VECTORS = sorted((Path(__file__).parent / "vectors").glob("*.json"))
KEY = Key(b"\x01" * 32)
OTHER = Key(b"\x02" * 32)
SEALED = seal(MODULE, b'{"a":1}', KEY)


def changed(**fields):
    """The sealed envelope with some of its JSON fields replaced, written canonically."""
    value = {**json.loads(SEALED), **fields}
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def signature(keyid=KEY.public, sig=b"\0" * 64, **more):
    return {"keyid": keyid, "sig": base64.b64encode(sig).decode(), **more}


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_the_format_is_the_one_that_earlier_versions_wrote(path):
    """Frozen bytes: should this fail, a new version of the format is needed, not a new file."""
    vector = json.loads(path.read_text())
    key, payload = Key(bytes.fromhex(vector["seed"])), vector["payload"].encode()
    assert key.public == vector["public"]
    assert pae(vector["type"], payload) == vector["pae"].encode()
    assert key.sign(pae(vector["type"], payload)).hex() == vector["signature"]
    assert payload_id(payload) == vector["id"]
    assert seal(vector["type"], payload, key) == vector["envelope"].encode()
    opened = open_envelope(vector["envelope"].encode())
    assert opened == Envelope(vector["type"], payload, ((key.public, bytes.fromhex(vector["signature"])),))
    assert verify(opened, key.public)


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_what_earlier_versions_signed_is_still_read_and_written_the_same(path):
    vector = json.loads(path.read_text())
    parse = {MODULE: manifest.parse, TRUST: trust.parse, REVOCATION: revocation.parse}[vector["type"]]
    read = parse(vector["payload"].encode())
    assert not isinstance(read, Refused)
    assert read.to_payload() == vector["payload"].encode()


def test_there_is_a_vector_of_each_type():
    assert {json.loads(path.read_text())["type"] for path in VECTORS} == set(TYPES)


def test_what_is_signed_is_the_encoding_of_dsse():
    """The example of DSSE's protocol.md, and one with bytes that are more than characters."""
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "


@given(st.sampled_from(TYPES), st.binary(max_size=300), st.sets(st.integers(0, 20), min_size=1, max_size=8))
def test_what_was_sealed_is_opened_and_every_signer_verified(kind, payload, numbers):
    signers = [Key(bytes([number]) * 32) for number in numbers]
    opened = open_envelope(seal(kind, payload, *signers))
    assert (opened.type, opened.payload) == (kind, payload)
    assert set(opened.signers) == {key.public for key in signers}
    assert all(verify(opened, key.public) for key in signers)
    assert not verify(opened, Key(b"\xff" * 32).public)
    assert check_signers(opened) is None


def test_the_order_and_number_of_the_same_keys_make_no_difference():
    assert seal(TRUST, b"x", KEY, OTHER) == seal(TRUST, b"x", OTHER, KEY, OTHER)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_by_a_code(data):
    assert isinstance(open_envelope(data), Refused)


@given(st.data())
def test_every_envelope_that_is_opened_is_written_back_as_it_was(data):
    sealed = bytearray(SEALED)
    for _ in range(data.draw(st.integers(0, 3))):
        sealed[data.draw(st.integers(0, len(sealed) - 1))] = data.draw(st.integers(0, 255))
    opened = open_envelope(bytes(sealed))
    assert isinstance(opened, Refused) or opened.encode() == bytes(sealed)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"[]", "an object of exactly payload, payloadType, signatures"),
        (SEALED + b"\n", "another form"),
        (b" " + SEALED, "another form"),
        (SEALED.replace(b",", b", "), "another form"),
        (SEALED.replace(b'"payload"', b'"pa\\u0079load"'), "another form"),
        (SEALED.replace(b'{"payload":', b'{"payload":"","payload":', 1), "'payload' comes twice"),
        (changed(extra=1), "an object of exactly payload, payloadType, signatures"),
        (changed(payload=5), "expected a text"),
        (changed(payload=[[[[]]]]), "nested deeper than 3"),
        (changed(payload="eyJhIjoxfR=="), "another form"),  # bits that belong to no byte
        (changed(payload="eyJhIjoxfQ="), "padding"),
        (changed(payload="eyJh IjoxfQ=="), "base64"),
        (changed(payload="eyJh-joxfQ=="), "base64"),  # the alphabet for addresses
        (changed(payload="é"), "ASCII"),
        (changed(payloadType=None), "expected a text"),
        (changed(signatures={}), "a list of 1 to 8 signatures"),
        (changed(signatures=[]), "a list of 1 to 8 signatures"),
        (changed(signatures=["a"]), "an object of exactly keyid, sig"),
        (changed(signatures=[signature(more=1)]), "an object of exactly keyid, sig"),
        (changed(signatures=[signature("A" * 64)]), "of the form"),
        (changed(signatures=[signature("a" * 63)]), "of the form"),
        (changed(signatures=[signature(None)]), "of the form"),
        (changed(signatures=[signature(sig=b"\0" * 63)]), "64 bytes, found 63"),
        (changed(signatures=[signature(sig=b"\0" * 65)]), "64 bytes, found 65"),
        (changed(signatures=[signature(), signature()]), "each key once"),
        (changed(signatures=[signature("b" * 64), signature("a" * 64)]), "in the order of their keys"),
    ],
)
def test_an_envelope_has_one_form(data, words):
    refused = open_envelope(data)
    assert isinstance(refused, Refused)
    assert refused.code is Code.MALFORMED
    assert words in refused.detail


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("application/vnd.stolon.module.v2+json", Code.UNSUPPORTED),
        ("application/vnd.stolon.hint.v1+json", Code.UNSUPPORTED),
        ("application/vnd.stolon.module.v0+json", Code.WRONG_TYPE),
        ("application/vnd.stolon.module.v1+jsoN", Code.WRONG_TYPE),
        ("application/vnd.in-toto+json", Code.WRONG_TYPE),
        ("", Code.WRONG_TYPE),
    ],
)
def test_types_of_newer_versions_are_told_from_nonsense(kind, code):
    refused = open_envelope(changed(payloadType=kind))
    assert isinstance(refused, Refused)
    assert refused.code is code
    assert repr(kind) in refused.detail


@pytest.mark.parametrize("signed_as", TYPES)
@pytest.mark.parametrize("shown_as", TYPES)
def test_a_signature_for_one_type_never_passes_for_another(signed_as, shown_as):
    opened = open_envelope(seal(signed_as, b"payload", KEY))
    swapped = Envelope(shown_as, opened.payload, opened.signatures)
    assert verify(open_envelope(swapped.encode()), KEY.public) == (signed_as == shown_as)


def test_an_extra_signature_that_is_wrong_is_noticed():
    opened = open_envelope(seal(TRUST, b"payload", KEY))
    for public, code in ((OTHER.public, Code.BAD_SIGNATURE), ("0" * 64, Code.WEAK_KEY)):
        pairs = tuple(sorted([*opened.signatures, (public, b"\0" * 64)]))
        assert check_signers(Envelope(TRUST, b"payload", pairs)).code is code


def test_the_size_of_a_payload_is_checked_at_the_limit():
    assert isinstance(open_envelope(seal(MODULE, b"x" * MAX_MANIFEST, KEY)), Envelope)
    too_much = Envelope(MODULE, b"x" * (MAX_MANIFEST + 1), ((KEY.public, b"\0" * 64),)).encode()
    assert len(too_much) < MAX_ENVELOPE
    refused = open_envelope(too_much)
    assert refused.code is Code.TOO_LARGE
    assert "at most 65,536 bytes, this has 65,537" in refused.detail


def test_the_size_of_an_envelope_is_checked_at_the_limit(monkeypatch):
    monkeypatch.setattr(envelopes, "MAX_ENVELOPE", len(SEALED))
    assert isinstance(open_envelope(SEALED), Envelope)
    monkeypatch.setattr(envelopes, "MAX_ENVELOPE", len(SEALED) - 1)
    refused = open_envelope(SEALED)
    assert refused.code is Code.TOO_LARGE
    assert "an envelope has at most" in refused.detail


def test_the_number_of_signatures_is_checked_at_the_limit():
    signers = [Key(bytes([number]) * 32) for number in range(MAX_SIGNATURES + 1)]
    assert len(open_envelope(seal(TRUST, b"", *signers[1:])).signers) == MAX_SIGNATURES
    pairs = tuple(sorted((key.public, b"\0" * 64) for key in signers))
    assert open_envelope(Envelope(TRUST, b"", pairs).encode()).code is Code.MALFORMED


@pytest.mark.parametrize(
    ("payload", "signers"),
    [
        (b"", []),
        (b"", [Key(bytes([n]) * 32) for n in range(MAX_SIGNATURES + 1)]),
        (b"x" * (MAX_MANIFEST + 1), [KEY]),
    ],
    ids=["no key", "nine keys", "large"],
)
def test_nothing_is_sealed_that_nobody_would_open(payload, signers):
    with pytest.raises(ValueError, match="1 to 8 signatures and at most 65,536 bytes"):
        seal(MODULE, payload, *signers)


def test_another_signature_makes_no_other_id():
    one, two = open_envelope(seal(REVOCATION, b"x", KEY)), open_envelope(seal(REVOCATION, b"x", OTHER))
    assert payload_id(one.payload) == payload_id(two.payload)
    assert payload_id(b"x") == "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
