import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stolon.sharing import strict_json
from stolon.sharing.codes import Code, Refused
from stolon.sharing.envelope import MODULE, REVOCATION, Envelope, open_envelope, payload_id, seal
from stolon.sharing.keys import Key
from stolon.sharing.revocation import (
    Revocation,
    accept_revocation,
    applied,
    parse,
    revoke,
    revoke_as_root,
)
from stolon.sharing.trust import Author, Trust

ROOT, SECOND, ADA, BEN, EVE = (Key(bytes([number]) * 32) for number in (1, 2, 3, 4, 66))
ONE, TWO = "1" * 64, "2" * 64
TRUST = Trust(
    1,
    tuple(sorted([ROOT.public, SECOND.public])),
    1,
    (Author(ADA.public, "Ada"), Author(BEN.public, "Ben")),
    revoked_keys=frozenset({EVE.public}),
)


def code_of(decided):
    return decided.code if isinstance(decided, Refused) else None


def said(word, *keys):
    return seal(REVOCATION, word.to_payload(), *keys)


def changed(**fields):
    value = json.loads(Revocation(ADA.public, frozenset({ONE, TWO})).to_payload())
    return strict_json.dumps({**value, **fields})


def test_an_authors_word_is_accepted_and_reaches_their_own_modules_alone():
    word = accept_revocation(revoke(ADA, ONE, TWO), TRUST)
    assert word == Revocation(ADA.public, modules=frozenset({ONE, TWO}))
    assert word.covers(ONE, author=ADA.public)
    assert not word.covers("3" * 64, author=ADA.public)
    assert not word.covers(ONE, author=BEN.public)


def test_an_authors_word_does_not_reach_further_when_the_author_is_a_root_too():
    both = replace(TRUST, authors=(*TRUST.authors, Author(ROOT.public, "root")))
    word = accept_revocation(revoke(ROOT, ONE), both)
    assert word.covers(ONE, author=ROOT.public)
    assert not word.covers(ONE, author=BEN.public)


def test_a_roots_word_reaches_any_module_and_any_key():
    word = accept_revocation(revoke_as_root([ROOT], modules=[ONE], keys=[BEN.public]), TRUST)
    assert word.covers(ONE, author=ADA.public)
    assert word.covers(TWO, author=BEN.public)
    assert not word.covers(TWO, author=ADA.public)


def test_the_same_word_has_the_same_id_and_bytes():
    assert revoke(ADA, ONE, TWO) == revoke(ADA, TWO, ONE, ONE)
    word = accept_revocation(revoke(ADA, ONE), TRUST)
    assert word.id == payload_id(open_envelope(revoke(ADA, ONE)).payload)


def test_a_word_said_again_is_the_same_word():
    data = revoke(ADA, ONE)
    assert len({accept_revocation(data, TRUST) for _ in range(1000)}) == 1


def test_as_many_roots_sign_as_a_trust_list_needs():
    strict = replace(TRUST, threshold=2)
    assert code_of(accept_revocation(revoke_as_root([ROOT], modules=[ONE]), strict)) is Code.BAD_TRUST
    assert code_of(accept_revocation(revoke_as_root([ROOT, SECOND], modules=[ONE]), strict)) is None
    assert code_of(accept_revocation(revoke_as_root([ROOT, ADA], modules=[ONE]), strict)) is Code.BAD_TRUST


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"{}", Code.MALFORMED),
        (seal(MODULE, Revocation(ADA.public, frozenset({ONE})).to_payload(), ADA), Code.WRONG_TYPE),
        (revoke(Key(b"\x09" * 32), ONE), Code.UNKNOWN_AUTHOR),
        (revoke(EVE, ONE), Code.REVOKED_KEY),
        (revoke_as_root([ADA], modules=[ONE]), Code.BAD_TRUST),
        (revoke_as_root([ROOT], keys=[SECOND.public]), Code.BAD_TRUST),
        (said(Revocation(ADA.public, frozenset({ONE}), frozenset({BEN.public})), ADA), Code.BAD_TRUST),
        (said(Revocation(ADA.public, keys=frozenset({ADA.public})), ADA), Code.BAD_TRUST),
        (said(Revocation(ADA.public, frozenset({ONE})), BEN), Code.AUTHOR_MISMATCH),
        (said(Revocation(ADA.public, frozenset({ONE})), ADA, BEN), Code.AUTHOR_MISMATCH),
        (said(Revocation(ADA.public, frozenset({ONE}), role="root"), ROOT), Code.AUTHOR_MISMATCH),
    ],
    ids=[
        "no envelope",
        "another type",
        "unlisted",
        "revoked",
        "author as root",
        "key of a root",
        "key by an author",
        "own key by an author",
        "in another's name",
        "with another",
        "root in another's name",
    ],
)
def test_who_may_not_say_so_is_refused(data, code):
    assert code_of(accept_revocation(data, TRUST)) is code


def test_a_changed_word_is_refused_before_it_is_parsed(monkeypatch):
    opened = open_envelope(revoke(ADA, ONE))
    forged = Envelope(REVOCATION, opened.payload.replace(b"1", b"2"), opened.signatures).encode()
    monkeypatch.setattr("stolon.sharing.revocation.parse", lambda _: pytest.fail("parsed"))
    assert code_of(accept_revocation(forged, TRUST)) is Code.BAD_SIGNATURE
    assert code_of(accept_revocation(revoke(EVE, ONE), TRUST)) is Code.REVOKED_KEY


@pytest.mark.parametrize(
    ("payload", "code", "words"),
    [
        (b"", Code.MALFORMED, "not JSON"),
        (changed() + b" ", Code.MALFORMED, "canonical"),
        (changed().replace(b'{"a', b'{"role":"root","a', 1), Code.MALFORMED, "'role' comes twice"),
        (changed(keys=[5]), Code.BAD_TRUST, "of the form"),
        (changed(keys=[[]]), Code.MALFORMED, "nested deeper than 2"),
        (changed(schema=2), Code.UNSUPPORTED, "schema 1, found 2"),
        (changed(schema=True), Code.UNSUPPORTED, "schema 1, found True"),
        (changed(schema=1.0), Code.UNSUPPORTED, "schema 1, found 1.0"),
        (b"{}", Code.UNSUPPORTED, "schema 1, found None"),
        (b"[]", Code.BAD_TRUST, "an object of exactly"),
        (changed(more=1), Code.BAD_TRUST, "an object of exactly"),
        (changed(author="me"), Code.BAD_TRUST, "of the form"),
        (changed(role="king"), Code.BAD_TRUST, "role author or root, found 'king'"),
        (changed(role=["root"]), Code.BAD_TRUST, "role author or root"),
        (changed(modules="1"), Code.BAD_TRUST, "a list of texts"),
        (changed(modules=[]), Code.BAD_TRUST, "at least one id"),
        (changed(modules=[TWO, ONE]), Code.BAD_TRUST, "ascending order"),
        (changed(modules=[ONE, ONE]), Code.BAD_TRUST, "each once"),
    ],
)
def test_a_word_of_another_form_is_refused_although_it_is_signed(payload, code, words):
    refused = accept_revocation(seal(REVOCATION, payload, ADA), TRUST)
    assert code_of(refused) is code
    assert words in refused.detail


@given(st.binary(max_size=100))
def test_any_signed_bytes_are_refused_by_a_code(payload):
    assert isinstance(accept_revocation(seal(REVOCATION, payload, ADA), TRUST), Refused)


def test_a_word_comes_back_from_its_payload():
    for word in (
        Revocation(ADA.public, frozenset({ONE, TWO})),
        Revocation(ROOT.public, frozenset({ONE}), frozenset({ADA.public}), "root"),
    ):
        assert parse(word.to_payload()) == word


@given(st.permutations([0, 1, 2, 3]))
def test_what_roots_revoked_is_revoked_in_the_trust_list_in_any_order(order):
    words = [
        accept_revocation(data, TRUST)
        for data in (
            revoke_as_root([ROOT], keys=[BEN.public]),
            revoke_as_root([SECOND], modules=[ONE]),
            revoke_as_root([ROOT], modules=[ONE, TWO], keys=["7" * 64]),
            revoke(ADA, "3" * 64),
        )
    ]
    after = applied(TRUST, [words[index] for index in order])
    assert after.authors == (Author(ADA.public, "Ada"),)
    assert after.revoked_keys == {EVE.public, BEN.public, "7" * 64}
    assert after.revoked_modules == {ONE, TWO}
    assert (after.version, after.roots) == (TRUST.version, TRUST.roots)
    assert code_of(accept_revocation(revoke(BEN, ONE), after)) is Code.REVOKED_KEY


def test_no_revocations_change_nothing():
    assert applied(TRUST, []) == TRUST
