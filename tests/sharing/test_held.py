import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sharing.samples import ADA, BEN, EVE, LISTED, ROOT
from tests.sharing.test_manifest import GOOD

from stolon.sharing import held as holding
from stolon.sharing import limits, view
from stolon.sharing.envelope import open_envelope, payload_id
from stolon.sharing.held import Held, Known
from stolon.sharing.revocation import revoke, revoke_as_root
from stolon.sharing.trust import Author, Trust

SIZE = view.size(GOOD)


def module(task="t", seq=1, key=ADA):
    found = replace(GOOD, task=task, seq=seq, author=key.public)
    return payload_id(found.to_payload()), Known("0" * 64, 1, 0.0, found)


def word(data):
    return payload_id(open_envelope(data).payload), Known(
        hashlib.sha256(data).hexdigest(), len(data), 0.0, word=data
    )


def taken(id_, key=ADA):
    return word(revoke(key, id_))


ONE, TWO, OTHER = module("one"), module("two"), module("three", key=BEN)


def test_without_a_trust_list_nothing_is_held():
    assert Held(dict([ONE, taken(ONE[0])])).ids == set()


def test_modules_of_listed_authors_are_held():
    found = Held(dict([ONE, OTHER, module("x", key=EVE)]), LISTED)
    assert found.ids == {ONE[0], OTHER[0]}
    assert found.is_live(ONE[0])
    assert not found.is_live("0" * 64)


def test_what_its_author_took_back_is_held_but_not_live():
    back = taken(ONE[0])
    found = Held(dict([ONE, TWO, back]), LISTED)
    assert found.ids == {ONE[0], TWO[0], back[0]}
    assert found.is_revoked(ONE[0], ADA.public)
    assert [found.is_live(id_) for id_ in (ONE[0], TWO[0])] == [False, True]


def test_nobody_takes_back_what_another_taught():
    found = Held(dict([ONE, taken(ONE[0], BEN)]), LISTED)
    assert found.is_live(ONE[0])


def test_what_a_root_revoked_is_not_held():
    gone = word(revoke_as_root([ROOT], modules=[ONE[0]]))
    found = Held(dict([ONE, TWO, gone]), LISTED)
    assert found.ids == {TWO[0], gone[0]}
    assert found.trust.revoked_modules == {ONE[0]}
    assert found.base == LISTED


def test_a_revoked_key_takes_its_modules_and_its_words_with_it():
    out = word(revoke_as_root([ROOT], keys=[ADA.public]))
    found = Held(dict([ONE, OTHER, taken(TWO[0]), out]), LISTED)
    assert found.ids == {OTHER[0], out[0]}
    assert not found.admits(ONE[0], ADA.public)


def test_a_strangers_word_is_not_held():
    assert Held(dict([taken(ONE[0], EVE)]), LISTED).ids == set()


def listed(**quota):
    return Trust(1, (ROOT.public,), 1, (Author(ADA.public, "Ada", **quota), Author(BEN.public, "Ben")))


def test_each_author_has_a_quota_of_their_own():
    many = [module(f"t{i}", seq=i) for i in range(1, 5)]
    found = Held(dict([*many, OTHER]), listed(modules=2))
    assert found.ids == {many[2][0], many[3][0], OTHER[0]}
    newer, older = module("new", 9), module("old", 1)
    assert found.has_room(newer[0], newer[1].manifest)
    assert found.has_room(many[3][0], many[3][1].manifest)
    assert not found.has_room(older[0], older[1].manifest)
    assert found.add_module(newer[0], newer[1].manifest) == {many[2][0]}
    assert found.ids == {many[3][0], newer[0], OTHER[0]}


def test_a_stranger_has_no_room():
    id_, one = module(key=EVE)
    assert not Held({}, LISTED).has_room(id_, one.manifest)


def test_versions_taken_back_still_count():
    versions = [module("t", seq) for seq in range(1, 5)]
    found = Held(dict([*versions, *(taken(id_) for id_, _ in versions)]), LISTED)
    oldest = module("t", 0)
    assert not found.has_room(oldest[0], oldest[1].manifest)


def test_words_are_bounded_and_those_with_the_lowest_ids_stay(monkeypatch):
    monkeypatch.setattr(holding, "MAX_WORDS", 3)
    said = sorted(taken(f"{i:064x}") for i in range(5))
    found = Held(dict(said), LISTED)
    assert found.ids == {id_ for id_, _ in said[:3]}
    accepted = {id_: open_envelope(one.word) for id_, one in said}
    assert len(accepted) == 5
    first, last = (found.words[said[0][0]], said[4][0])
    assert not found.has_room_for_word(last, first)
    assert found.has_room_for_word("0" * 64, first)
    assert found.has_room_for_word(said[0][0], first)
    assert Held({}, LISTED).has_room_for_word(last, first)
    root = word(revoke_as_root([ROOT], modules=[ONE[0]]))
    assert Held(dict([*said, root]), LISTED).ids == {*(id_ for id_, _ in said[:3]), root[0]}


def test_roots_words_are_not_counted(monkeypatch):
    monkeypatch.setattr(holding, "MAX_WORDS", 0)
    root = word(revoke_as_root([ROOT], modules=[ONE[0]]))
    found = Held(dict([root]), LISTED)
    assert found.ids == {root[0]}
    assert found.has_room_for_word("f" * 64, found.words[root[0]])


def test_words_are_verified_once_for_one_trust_list(monkeypatch):
    said = dict([taken(ONE[0]), taken(TWO[0]), OTHER])
    before = Held(said, LISTED)
    again = Held(said, LISTED, before)
    assert again.words == before.words
    monkeypatch.setattr(holding, "accept_revocation", lambda *_: pytest.fail("verified again"))
    assert Held(said, LISTED, before).words == before.words
    monkeypatch.undo()
    other = replace(LISTED, version=2, authors=LISTED.authors[1:])
    assert Held(said, other, before).words == {}


KEYS = (ADA, BEN)


@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.integers(1, 7), st.sampled_from(KEYS)), max_size=12),
    st.integers(1, 4),
    st.integers(1, 6),
    st.randoms(use_true_random=False),
)
def test_one_by_one_or_all_at_once_is_the_same(rows, modules, sizes, rng):
    trust = listed(modules=modules, bytes=sizes * SIZE)
    known = dict(module(task, seq, key) for task, seq, key in rows)
    found = Held({}, trust)
    order = list(known)
    rng.shuffle(order)
    for _ in range(len(order) + 1):
        for id_ in order:
            if found.has_room(id_, known[id_].manifest):
                before = found.ids
                left = found.add_module(id_, known[id_].manifest)
                assert found.ids == (before | {id_}) - left
    assert found.ids == Held(known, trust).ids


def test_the_limit_of_words_is_the_modules_limit():
    assert holding.MAX_WORDS == limits.MAX_MODULES_PER_AUTHOR
