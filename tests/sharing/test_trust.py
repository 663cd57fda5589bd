import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stolon.errors import ModuleRefusedError
from stolon.sharing import strict_json
from stolon.sharing import trust as trust_module
from stolon.sharing.codes import Code, Refused
from stolon.sharing.envelope import MODULE, TRUST, Envelope, open_envelope, seal
from stolon.sharing.keys import Key
from stolon.sharing.limits import (
    MAX_BANK,
    MAX_BYTES_PER_AUTHOR,
    MAX_MODULES_PER_AUTHOR,
    MAX_ROOTS,
)
from stolon.sharing.trust import Author, Trust, accept_trust, parse

ME, ADA, BEN, EVE = (Key(bytes([number]) * 32) for number in (1, 2, 3, 66))
FRESH = Trust.fresh(ME.public)
IDENTITY = (1).to_bytes(32, "little").hex()
MODULE_ID = "12" * 32


def sealed(trust, *keys):
    return seal(TRUST, trust.to_payload(), *(keys or (ME,)))


def rooted(*keys, threshold=1, version=1, **fields):
    roots = tuple(sorted(key.public for key in keys))
    return Trust(version, roots, threshold, (Author(ME.public, "me"),), **fields)


def changed(**fields):
    """The payload of a fresh list with some of its JSON fields replaced."""
    return strict_json.dumps({**json.loads(FRESH.to_payload()), **fields})


def author(**fields):
    return {**json.loads(FRESH.to_payload())["authors"][0], **fields}


def code_of(decided):
    return decided.code if isinstance(decided, Refused) else None


# What a list says


def test_a_fresh_agent_trusts_only_itself():
    assert FRESH.roots == (ME.public,)
    assert FRESH.threshold == 1
    assert FRESH.authors == (Author(ME.public, "me", True, MAX_MODULES_PER_AUTHOR, MAX_BYTES_PER_AUTHOR),)
    assert FRESH.revoked_keys == FRESH.revoked_modules == frozenset()
    assert FRESH.author(ADA.public) is None
    assert accept_trust(sealed(FRESH), None) == FRESH


def test_a_list_comes_back_from_its_payload():
    full = rooted(
        ME,
        ADA,
        threshold=2,
        version=7,
        revoked_keys=frozenset({BEN.public}),
        revoked_modules=frozenset({MODULE_ID}),
    ).adding(Author(ADA.public, "Åsa (lab 3)", activate=False, modules=5, bytes=1000))
    assert parse(full.to_payload()) == full
    assert full.version == 8
    assert full.author(ADA.public) == full.authors[1]


def test_adding_keeps_the_order_and_counts_up():
    trust = FRESH.adding(Author(BEN.public, "Ben")).adding(Author(ADA.public, "Ada"))
    assert trust.version == 3
    assert [one.name for one in trust.authors] == ["me", "Ben", "Ada"]


def test_adding_somebody_again_changes_name_and_quota_in_their_place():
    trust = FRESH.adding(Author(BEN.public, "Ben")).adding(Author(ADA.public, "Ada"))
    renamed = trust.adding(Author(BEN.public, "Benjamin", bytes=10))
    assert renamed.authors == (FRESH.authors[0], Author(BEN.public, "Benjamin", bytes=10), trust.authors[2])


def test_a_revoked_key_stays_revoked():
    trust = FRESH.adding(Author(ADA.public, "Ada")).revoking(ADA.public)
    assert trust.version == 3
    assert trust.author(ADA.public) is None
    assert trust.revoked_keys == {ADA.public}
    with pytest.raises(ModuleRefusedError, match=r"revoked-key: .* was revoked; ask Ada for a new one"):
        trust.adding(Author(ADA.public, "Ada"))


def test_what_is_no_listed_key_is_a_module():
    trust = FRESH.revoking(MODULE_ID)
    assert trust.revoked_modules == {MODULE_ID}
    assert trust.revoked_keys == frozenset()


def test_revoking_twice_changes_nothing():
    trust = FRESH.adding(Author(ADA.public, "Ada")).revoking(ADA.public).revoking(MODULE_ID)
    assert trust.revoking(ADA.public) is trust
    assert trust.revoking(MODULE_ID) is trust


def test_no_agent_revokes_its_own_root():
    with pytest.raises(
        ModuleRefusedError, match=r"bad-trust: .* is a root of this list; only a list with other roots"
    ):
        FRESH.revoking(ME.public)


@pytest.mark.parametrize(
    ("key", "name", "words"),
    [
        (IDENTITY, "Eve", "weak-key: .*small order"),
        ("xy", "Eve", "bad-trust: .*of the form"),
        (EVE.public, "", "bad-trust: .*author name"),
        (EVE.public, "<script>", "bad-trust: .*author name"),
        (EVE.public, "E" * 65, "bad-trust: .*author name"),
        (EVE.public, "ada", "bad-trust: two authors have the name 'ada'"),
    ],
)
def test_an_author_that_breaks_a_rule_is_not_added(key, name, words):
    trust = FRESH.adding(Author(ADA.public, "Ada"))
    with pytest.raises(ModuleRefusedError, match=words):
        trust.adding(Author(key, name))


def test_what_is_no_id_is_not_revoked():
    with pytest.raises(ModuleRefusedError, match=r"bad-trust: .*of the form"):
        FRESH.revoking("digits")


@given(st.lists(st.integers(1, MAX_BYTES_PER_AUTHOR), min_size=1, max_size=40))
def test_quotas_are_cut_to_an_equal_share_only_where_they_must(quotas):
    trust = FRESH
    for number, quota in enumerate(quotas):
        trust = trust.adding(Author(Key(bytes([100 + number]) * 32).public, f"agent {number}", bytes=quota))
    given_ = [MAX_BYTES_PER_AUTHOR, *quotas]
    kept = [one.bytes for one in trust.authors]
    assert sum(kept) <= MAX_BANK
    assert all(new <= old for new, old in zip(kept, given_, strict=True))
    if sum(given_) <= MAX_BANK:
        assert kept == given_
    else:
        level = max(kept)
        assert all(new == old or new >= level - len(kept) for new, old in zip(kept, given_, strict=True))
        assert MAX_BANK - sum(kept) < len(kept) * len(kept)  # nearly all is given out


def test_with_as_many_whole_quotas_as_fit_nobody_is_cut():
    trust = FRESH
    for number in range(7):
        trust = trust.adding(Author(Key(bytes([100 + number]) * 32).public, f"agent {number}"))
    assert {one.bytes for one in trust.authors} == {MAX_BYTES_PER_AUTHOR}
    ninth = trust.adding(Author(ADA.public, "Ada"))
    assert {one.bytes for one in ninth.authors} == {MAX_BANK // 9}


def test_a_list_that_has_grown_above_its_limit_is_refused():
    many = frozenset(f"{number:064x}" for number in range(1000))
    with pytest.raises(ModuleRefusedError, match="too-large: a trust list has at most 65,536 bytes"):
        replace(FRESH, revoked_modules=many).revoking(MODULE_ID)


# What is accepted


def test_a_newer_list_signed_by_the_root_is_accepted():
    newer = FRESH.adding(Author(ADA.public, "Ada"))
    assert accept_trust(sealed(newer), FRESH) == newer


def test_the_list_in_use_is_accepted_again_and_again():
    for _ in range(1000):
        assert accept_trust(sealed(FRESH), FRESH) == FRESH


def test_an_older_list_is_refused():
    newer = FRESH.adding(Author(ADA.public, "Ada"))
    refused = accept_trust(sealed(FRESH), newer)
    assert code_of(refused) is Code.OLD_TRUST
    assert "above 2, the one in use; found 1" in refused.detail


def test_another_list_of_the_same_version_is_refused():
    one, two = FRESH.adding(Author(ADA.public, "Ada")), FRESH.adding(Author(BEN.public, "Ben"))
    assert code_of(accept_trust(sealed(two), one)) is Code.OLD_TRUST


def test_a_list_signed_by_no_root_is_refused():
    newer = FRESH.adding(Author(EVE.public, "Eve"))
    refused = accept_trust(sealed(newer, EVE), FRESH)
    assert code_of(refused) is Code.BAD_TRUST
    assert "not signed by 1 of the roots of version 1" in refused.detail


def test_a_first_list_is_signed_by_its_own_roots():
    assert code_of(accept_trust(sealed(FRESH, EVE), None)) is Code.BAD_TRUST
    assert code_of(accept_trust(sealed(rooted(ME, ADA, threshold=2), ME), None)) is Code.BAD_TRUST
    assert code_of(accept_trust(sealed(rooted(ME, ADA, threshold=2), ME, ADA), None)) is None


@pytest.mark.parametrize(
    ("signers", "accepted"), [((ME,), False), ((ME, EVE), False), ((ME, ADA), True), ((ADA, BEN), True)]
)
def test_as_many_roots_sign_as_the_threshold_says(signers, accepted):
    current = rooted(ME, ADA, BEN, threshold=2)
    newer = replace(current, version=2)
    assert code_of(accept_trust(sealed(newer, *signers), current)) is (None if accepted else Code.BAD_TRUST)


@pytest.mark.parametrize(
    ("signers", "accepted"),
    [((ME,), False), ((ADA,), False), ((ME, EVE), False), ((ME, ADA), True)],
    ids=["old", "new", "another", "both"],
)
@pytest.mark.parametrize("keep_old", [True, False])
def test_a_new_root_is_signed_by_old_and_new(signers, accepted, keep_old):
    newer = rooted(*([ME, ADA] if keep_old else [ADA]), version=2)
    assert code_of(accept_trust(sealed(newer, *signers), FRESH)) is (None if accepted else Code.BAD_TRUST)


def test_a_root_may_leave_without_signing():
    current = rooted(ME, ADA)
    assert code_of(accept_trust(sealed(rooted(ME, version=2), ME), current)) is None


def test_a_root_that_left_signs_nothing_more():
    current = rooted(ADA, version=2)
    back = rooted(ME, ADA, version=3)
    assert code_of(accept_trust(sealed(back, ME), current)) is Code.BAD_TRUST


def test_a_raised_threshold_holds_for_the_list_that_raises_it():
    current = rooted(ME, ADA)
    raised = rooted(ME, ADA, threshold=2, version=2)
    assert code_of(accept_trust(sealed(raised, ME), current)) is Code.BAD_TRUST
    assert code_of(accept_trust(sealed(raised, ME, ADA), current)) is None


def test_an_extra_signature_that_is_wrong_is_refused():
    opened = open_envelope(sealed(FRESH))
    pairs = tuple(sorted([*opened.signatures, (ADA.public, b"\0" * 64)]))
    assert code_of(accept_trust(Envelope(TRUST, opened.payload, pairs).encode(), None)) is Code.BAD_SIGNATURE


def test_another_type_is_refused_before_anything_else():
    assert code_of(accept_trust(seal(MODULE, FRESH.to_payload(), ME), None)) is Code.WRONG_TYPE


def test_what_is_no_envelope_is_refused():
    assert code_of(accept_trust(b"{}", None)) is Code.MALFORMED


def test_nothing_is_parsed_before_it_is_verified(monkeypatch):
    opened = open_envelope(sealed(FRESH))
    forged = Envelope(TRUST, opened.payload.replace(b"1", b"2"), opened.signatures).encode()
    monkeypatch.setattr("stolon.sharing.trust.parse", lambda _: pytest.fail("parsed"))
    assert code_of(accept_trust(forged, None)) is Code.BAD_SIGNATURE
    assert code_of(accept_trust(sealed(FRESH, EVE), FRESH)) is Code.BAD_TRUST


@pytest.mark.parametrize(
    ("payload", "code", "words"),
    [
        (b"", Code.MALFORMED, "not JSON"),
        (FRESH.to_payload() + b"\n", Code.MALFORMED, "canonical"),
        (FRESH.to_payload().replace(b'{"a', b'{"version":1,"a', 1), Code.MALFORMED, "'version' comes twice"),
        (changed(authors=[[[[]]]]), Code.MALFORMED, "nested deeper than 3"),
        (changed(schema=2), Code.UNSUPPORTED, "schema 1, found 2"),
        (changed(schema=True), Code.UNSUPPORTED, "schema 1, found True"),
        (changed(schema=1.0), Code.UNSUPPORTED, "schema 1, found 1.0"),
        (strict_json.dumps({}), Code.UNSUPPORTED, "schema 1, found None"),
        (b"[]", Code.BAD_TRUST, "an object of exactly"),
        (changed(extra=1), Code.BAD_TRUST, "an object of exactly"),
        (changed(version=0), Code.BAD_TRUST, "an integer from 1"),
        (changed(version=2**53 + 1), Code.BAD_TRUST, "an integer from 1"),
        (changed(version=True), Code.BAD_TRUST, "an integer from 1"),
        (changed(threshold=0), Code.BAD_TRUST, "an integer from 1 to 1"),
        (changed(threshold=2), Code.BAD_TRUST, "an integer from 1 to 1"),
        (changed(roots=[]), Code.BAD_TRUST, "1 to 8 roots, found 0"),
        (changed(roots=ME.public), Code.BAD_TRUST, "a list of texts"),
        (changed(roots=[ME.public.upper()]), Code.BAD_TRUST, "of the form"),
        (changed(roots=[ME.public] * 2), Code.BAD_TRUST, "each once"),
        (changed(roots=sorted([ME.public, ADA.public])[::-1]), Code.BAD_TRUST, "ascending order"),
        (changed(roots=[IDENTITY]), Code.WEAK_KEY, "small order"),
        (changed(authors={}), Code.BAD_TRUST, "a list of authors"),
        (changed(authors=[author(more=1)]), Code.BAD_TRUST, "an object of exactly"),
        (changed(authors=[author(key=IDENTITY)]), Code.WEAK_KEY, "small order"),
        (changed(authors=[author(key=5)]), Code.BAD_TRUST, "of the form"),
        (changed(authors=[author(name="a\u202eb")]), Code.BAD_TRUST, "author name"),
        (changed(authors=[author(name=5)]), Code.BAD_TRUST, "author name"),
        (changed(authors=[author(activate=1)]), Code.BAD_TRUST, "true or false"),
        (changed(authors=[author(modules=0)]), Code.BAD_TRUST, "an integer from 1 to 2000"),
        (changed(authors=[author(modules=2001)]), Code.BAD_TRUST, "an integer from 1 to 2000"),
        (changed(authors=[author(bytes=0)]), Code.BAD_TRUST, "an integer from 1 to"),
        (changed(authors=[author(bytes=2**30 + 1)]), Code.BAD_TRUST, "an integer from 1 to"),
        (changed(authors=[author(), author(name="x")]), Code.BAD_TRUST, "two authors have the key"),
        (changed(authors=[author(), author(key=ADA.public)]), Code.BAD_TRUST, "two authors have the name"),
        (changed(revoked={}), Code.BAD_TRUST, "an object of exactly keys, modules"),
        (changed(revoked={"keys": [ADA.public] * 2, "modules": []}), Code.BAD_TRUST, "each once"),
        (changed(revoked={"keys": [], "modules": [MODULE_ID] * 2}), Code.BAD_TRUST, "each once"),
        (changed(revoked={"keys": [ME.public], "modules": []}), Code.BAD_TRUST, "yet a root or an author"),
    ],
)
def test_a_list_that_breaks_a_rule_is_refused_although_it_is_signed(payload, code, words):
    refused = accept_trust(seal(TRUST, payload, ME), None)
    assert code_of(refused) is code
    assert words in refused.detail


def test_a_revoked_author_may_not_stay_listed():
    trust = rooted(BEN, revoked_keys=frozenset({ME.public}))
    assert code_of(accept_trust(sealed(trust, BEN), None)) is Code.BAD_TRUST


def test_quotas_are_checked_at_the_banks_limit():
    full = [author(key=Key(bytes([n]) * 32).public, name=f"agent {n}") for n in range(1, 9)]
    assert code_of(parse(changed(authors=full))) is None
    over = [*full, author(key=Key(bytes([9]) * 32).public, name="agent 9", bytes=1)]
    refused = parse(changed(authors=over))
    assert code_of(refused) is Code.BAD_TRUST
    assert "add up to 8,589,934,593 bytes, and a bank holds 8,589,934,592" in refused.detail


def test_the_number_of_roots_is_checked_at_the_limit():
    keys = [Key(bytes([n]) * 32) for n in range(1, MAX_ROOTS + 2)]
    assert code_of(accept_trust(sealed(rooted(*keys[:-1]), *keys[:-1]), None)) is None
    assert code_of(parse(rooted(*keys).to_payload())) is Code.BAD_TRUST


def test_a_lowered_threshold_is_agreed_to_by_as_many_as_before():
    current = rooted(ME, ADA, BEN, threshold=2)
    lowered = rooted(ME, ADA, BEN, threshold=1, version=2)
    assert code_of(accept_trust(sealed(lowered, ME), current)) is Code.BAD_TRUST
    assert code_of(accept_trust(sealed(lowered, ME, BEN), current)) is None


def test_the_size_is_checked_at_the_limit(monkeypatch):
    payload = FRESH.to_payload()
    monkeypatch.setattr(trust_module, "MAX_MANIFEST", len(payload))
    assert parse(payload) == FRESH
    monkeypatch.setattr(trust_module, "MAX_MANIFEST", len(payload) - 1)
    assert code_of(parse(payload)) is Code.TOO_LARGE


@given(
    st.binary(max_size=100)
    | st.sampled_from(["authors", "roots", "revoked", "version"]).map(lambda f: changed(**{f: None}))
)
def test_any_signed_bytes_are_refused_by_a_code(payload):
    assert isinstance(accept_trust(seal(TRUST, payload, ME), None), Refused)
