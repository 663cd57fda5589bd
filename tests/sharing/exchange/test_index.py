import hashlib

from hypothesis import given
from hypothesis import strategies as st

from stolon.sharing.exchange.index import Index

ids = st.frozensets(st.binary(min_size=32, max_size=32).map(bytes.hex), max_size=40)


def naive(found: frozenset[str]) -> bytes:
    """The fingerprint, from its definition."""
    digests = b""
    for bucket in range(256):
        members = sorted(id_ for id_ in found if id_.startswith(f"{bucket:02x}"))
        digests += hashlib.sha256(b"".join(bytes.fromhex(id_) for id_ in members)).digest()[:16]
    return hashlib.sha256(digests).digest()


@given(ids, ids)
def test_an_index_made_from_another_one_is_the_index_of_its_ids(before, after):
    index = Index.of(before).having(after)
    assert index.ids == after
    assert index.fingerprint == naive(after) == Index.of(after).fingerprint
    assert index.sorted() == tuple(sorted(after)) == index.sorted()
    assert index.buckets == Index.of(after).buckets
    assert index.digests == Index.of(after).digests


@given(ids, ids)
def test_fingerprints_are_equal_for_equal_sets_only(one, other):
    assert (Index.of(one).fingerprint == Index.of(other).fingerprint) == (one == other)


@given(ids)
def test_what_did_not_change_is_the_same_object(found):
    index = Index.of(found)
    assert index.having(found) is index
    assert index.having(index.ids) is index
    assert index.having(frozenset(sorted(found))) is index
