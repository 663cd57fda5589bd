import hashlib
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.sharing.samples import ADA, BACKBONE, BEN, EVE, LISTED, ROOT, a_module, parts, sealed

from stolon.sharing import acceptance, blobs, envelope, manifest, module, revocation
from stolon.sharing.acceptance import Accepted, Wanted, accept, judge
from stolon.sharing.codes import Code, Refused
from stolon.sharing.envelope import MODULE, TRUST, open_envelope, payload_id, seal
from stolon.sharing.limits import MAX_ENVELOPE

SEALED, BLOBS = parts()
MANIFEST = manifest.parse(open_envelope(SEALED).payload)
ID = payload_id(MANIFEST.to_payload())


def held(*, revoked=False, room=True, word=True):
    class Some:
        def is_revoked(self, id_, author):
            return revoked

        def has_room(self, id_, module):
            return room

        def has_room_for_word(self, id_, said):
            return word

    return Some()


def signed(found, *keys, kind=MODULE):
    return seal(kind, found.to_payload(), *(keys or (ADA,)))


def code(decided):
    return decided.code if isinstance(decided, Refused) else None


def test_a_good_module_is_wanted_and_then_accepted():
    wanted = judge(SEALED, LISTED, backbone=BACKBONE)
    assert wanted == Wanted(ID, tuple((file.sha256, file.bytes) for file in MANIFEST.files), MANIFEST)
    accepted = accept(SEALED, BLOBS, LISTED, backbone=BACKBONE)
    assert (accepted.id, accepted.envelope, accepted.blobs) == (ID, SEALED, BLOBS)
    assert (accepted.module.author, accepted.module.id) == (ADA.public, ID)
    assert accepted.module.tensors.keys() == {"head", "anchor"}


def test_what_is_accepted_is_what_was_packed():
    made, found = a_module(), accept(SEALED, BLOBS, LISTED).module
    for field in ("method", "task", "classes", "backbone", "counts", "settings", "seq", "replaces"):
        assert getattr(found, field) == getattr(made, field)
    for role, tensors in made.tensors.items():
        assert all(torch.equal(found.tensors[role][name], value) for name, value in tensors.items())


def test_a_revocation_is_an_item_without_blobs():
    word = revocation.revoke(ADA, ID)
    wanted = judge(word, LISTED)
    assert wanted == Wanted(payload_id(open_envelope(word).payload), revocation=wanted.revocation)
    accepted = accept(word, {}, LISTED)
    assert accepted.revocation.modules == {ID}
    assert accepted.module is accepted.manifest is None


def test_of_a_module_that_its_author_took_back_only_the_envelope_is_wanted():
    gone = held(revoked=True)
    assert judge(SEALED, LISTED, held=gone) == Wanted(ID, (), MANIFEST, is_revoked=True)
    for blobs_ in ({}, BLOBS):
        accepted = accept(SEALED, blobs_, LISTED, held=gone)
        assert (accepted.manifest, accepted.module, accepted.blobs) == (MANIFEST, None, {})


# In the order of the checks


def test_an_envelope_that_is_too_large_is_refused_before_it_is_looked_into():
    assert code(judge(b"x" * (MAX_ENVELOPE + 1), LISTED)) == Code.TOO_LARGE
    assert code(judge(b"x" * MAX_ENVELOPE, LISTED)) == Code.MALFORMED


def test_trust_lists_are_no_items():
    assert code(judge(sealed(LISTED, ROOT), LISTED)) == Code.WRONG_TYPE
    assert code(acceptance.recognise(sealed(LISTED, ROOT))) == Code.WRONG_TYPE


def test_a_module_has_exactly_one_signature():
    assert code(judge(signed(MANIFEST, ADA, BEN), LISTED)) == Code.MALFORMED


def test_a_stranger_is_refused_whatever_was_signed():
    stranger = seal(MODULE, b"not even JSON", EVE)
    assert code(judge(stranger, LISTED)) == Code.UNKNOWN_AUTHOR
    revoked = replace(LISTED, revoked_keys=frozenset({EVE.public}))
    assert code(judge(stranger, revoked)) == Code.REVOKED_KEY


def test_a_signature_is_checked_before_the_manifest_is_parsed(monkeypatch):
    opened = open_envelope(seal(MODULE, b"not even JSON", ADA))
    forged = replace(opened, signatures=((ADA.public, bytes(64)),)).encode()
    monkeypatch.setattr(manifest, "parse", lambda _: pytest.fail("parsed before it was verified"))
    assert code(judge(forged, LISTED)) == Code.BAD_SIGNATURE


def test_what_is_signed_must_be_a_manifest():
    assert code(judge(seal(MODULE, b"[]", ADA), LISTED)) == Code.BAD_MANIFEST


def test_the_author_named_must_be_the_signer():
    assert code(judge(signed(MANIFEST, BEN), LISTED)) == Code.AUTHOR_MISMATCH


def test_a_signature_for_another_type_does_not_pass():
    opened = open_envelope(signed(MANIFEST, kind=TRUST))
    assert code(judge(replace(opened, type=MODULE).encode(), LISTED)) == Code.BAD_SIGNATURE


def test_a_method_of_a_later_version_is_unsupported():
    assert code(judge(signed(replace(MANIFEST, method="heavyweight")), LISTED)) == Code.UNSUPPORTED


def test_a_module_of_another_backbone_is_ignored():
    refused = judge(SEALED, LISTED, backbone="c" * 64)
    assert (refused.code, refused.code.is_reject) == (Code.OTHER_BACKBONE, False)
    assert isinstance(judge(SEALED, LISTED, backbone=None), Wanted)


def test_shapes_that_the_method_cannot_have_are_refused_before_anything_is_fetched():
    head = MANIFEST.files[1]
    layout = {**head.tensors, "weight": ("I8", (3, 9))}
    wider = replace(
        MANIFEST, files=(MANIFEST.files[0], replace(head, tensors=layout, bytes=blobs.size(layout)))
    )
    assert code(judge(signed(wider), LISTED)) == Code.BAD_KNOWLEDGE


def test_what_a_root_revoked_is_refused():
    assert code(judge(SEALED, replace(LISTED, revoked_modules=frozenset({ID})))) == Code.REVOKED


def test_what_there_is_no_room_for_is_refused_but_may_come_again():
    refused = judge(SEALED, LISTED, held=held(room=False))
    assert (refused.code, refused.code.is_reject) == (Code.OVER_QUOTA, False)
    word = revocation.revoke(ADA, ID)
    assert code(judge(word, LISTED, held=held(word=False))) == Code.OVER_QUOTA


def test_a_revocation_of_a_stranger_is_refused():
    assert code(judge(revocation.revoke(EVE, ID), LISTED)) == Code.UNKNOWN_AUTHOR


# Blobs


def test_every_blob_must_be_there_and_no_other():
    first, second = BLOBS
    assert code(accept(SEALED, {first: BLOBS[first]}, LISTED)) == Code.MISSING_BLOB
    assert code(accept(SEALED, {}, LISTED)) == Code.MISSING_BLOB
    assert code(accept(SEALED, {**BLOBS, "0" * 64: b""}, LISTED)) == Code.MALFORMED
    assert second in BLOBS


@pytest.mark.parametrize(
    "change", [lambda b: b + b"\0", lambda b: b[:-1], lambda b: b[:-1] + b"\x77", lambda _: b""]
)
def test_a_blob_that_is_not_the_one_signed_is_refused(change):
    for sha in BLOBS:
        assert code(accept(SEALED, {**BLOBS, sha: change(BLOBS[sha])}, LISTED)) == Code.WRONG_HASH


def signed_with(role, data, **changes):
    """The module with another blob in place of one of its own, rightly signed."""
    files = tuple(
        replace(file, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data)) if file.role == role else file
        for file in MANIFEST.files
    )
    found = {file.sha256: data if file.role == role else BLOBS[file.sha256] for file in files}
    return signed(replace(MANIFEST, files=files, **changes)), found


def test_a_signed_blob_in_another_form_is_refused():
    good = BLOBS[MANIFEST.files[1].sha256]
    assert code(accept(*signed_with("head", good[:8] + b" " + good[9:]), LISTED)) == Code.WRONG_TENSORS
    assert code(accept(*signed_with("head", b"\xff" + good[1:]), LISTED)) == Code.BAD_BLOB


def stored(role, **changed):
    tensors = a_module().tensors[role]
    return blobs.encode({**tensors, **changed})


def test_signed_numbers_that_are_not_finite_are_refused():
    for bad in (math.nan, math.inf):
        data = stored("head", **{"weight.scale": torch.tensor([1.0, bad, 1.0])})
        assert code(accept(*signed_with("head", data), LISTED)) == Code.NOT_FINITE


def test_signed_numbers_that_cannot_be_learned_are_refused():
    data = stored("head", **{"weight.scale": torch.full((3,), 1e6)})
    assert code(accept(*signed_with("head", data), LISTED)) == Code.BAD_KNOWLEDGE


# Never raises


@given(st.binary(max_size=300))
def test_no_bytes_raise(data):
    assert isinstance(judge(data, LISTED), Refused)
    assert isinstance(accept(data, {}, LISTED), Refused)
    assert isinstance(acceptance.recognise(data), Refused)
    assert isinstance(judge(seal(MODULE, data, ADA), LISTED), Refused)


@given(st.data())
def test_no_changed_byte_of_an_envelope_is_accepted(data):
    changed = bytearray(SEALED)
    changed[data.draw(st.integers(0, len(SEALED) - 1))] ^= data.draw(st.integers(1, 255))
    assert isinstance(judge(bytes(changed), LISTED), Refused)
    assert isinstance(acceptance.recognise(bytes(changed)), Refused)


def test_what_lies_on_a_disk_is_recognised_without_a_trust_list():
    assert acceptance.recognise(SEALED) == (ID, MANIFEST)
    word = revocation.revoke(EVE, ID)
    assert acceptance.recognise(word) == (payload_id(open_envelope(word).payload), None)
    assert code(acceptance.recognise(signed(MANIFEST, BEN))) == Code.AUTHOR_MISMATCH


def test_judging_and_accepting_change_nothing_and_answer_alike_again():
    assert judge(SEALED, LISTED) == judge(SEALED, LISTED)
    first, again = accept(SEALED, BLOBS, LISTED), accept(SEALED, BLOBS, LISTED)
    assert isinstance(first, Accepted)
    assert first.id == again.id
    assert module.join(first.envelope, first.blobs.values()) == module.join(SEALED, BLOBS.values())
    assert envelope.open_envelope(first.envelope).encode() == SEALED
