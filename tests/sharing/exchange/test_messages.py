import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stolon.sharing.codes import Code, Refused
from stolon.sharing.exchange import messages as m
from stolon.sharing.limits import CHUNK, MAX_BLOB, MAX_ENVELOPE, MAX_HINT, MAX_MESSAGE

ID = "ab" * 32
LOW, HIGH = "00" * 32, "ff" * 32
READERS = (m.read_hint, m.read_request, m.read_reply)

hashes = st.binary(min_size=32, max_size=32)
ids = hashes.map(bytes.hex)
hints = st.builds(m.Hint, ids, hashes, st.integers(0, 2**32 - 1))
requests = st.one_of(
    st.builds(m.Compare, hashes, hashes),
    st.builds(m.ListIds, st.sets(st.integers(0, 255)).map(lambda found: tuple(sorted(found)))),
    st.builds(m.GetEnvelope, ids),
    st.builds(m.GetBlob, ids, st.integers(0, MAX_BLOB), st.integers(0, CHUNK)),
)
digests = st.binary(min_size=16, max_size=16)
replies = st.one_of(
    st.just(m.Same()),
    st.just(m.Known()),
    st.just(m.Absent()),
    st.builds(m.Ids, hashes, st.sets(ids, max_size=9).map(lambda found: tuple(sorted(found)))),
    st.builds(
        m.Buckets,
        hashes,
        st.integers(0, 2**32 - 1),
        digests.map(lambda one: tuple(bytes([i]) + one[1:] for i in range(256))),
    ),
    st.builds(m.EnvelopeIs, st.binary(min_size=1, max_size=200)),
    st.builds(m.Piece, st.binary(max_size=200)),
)


@given(hints)
def test_a_hint_is_read_as_it_was_written_in_69_bytes(hint):
    assert len(hint.to_bytes()) == 69
    assert m.read_hint(hint.to_bytes()) == hint


@given(requests)
def test_a_request_is_read_as_it_was_written(request):
    assert m.read_request(request.to_bytes()) == request


@given(replies)
def test_a_reply_is_read_as_it_was_written(reply):
    assert m.read_reply(reply.to_bytes()) == reply


@given(st.one_of(hints, requests, replies), st.data())
def test_fixed_messages_with_a_byte_more_or_less_are_malformed(message, data):
    if isinstance(message, m.EnvelopeIs | m.Piece):
        return
    read = (
        m.read_hint
        if isinstance(message, m.Hint)
        else m.read_request
        if isinstance(message, m.Request)
        else m.read_reply
    )
    whole = message.to_bytes()
    for broken in (whole[:-1], whole + b"\0"):
        refused = read(broken)
        assert isinstance(refused, Refused)
        assert refused.code is Code.MALFORMED


@given(st.one_of(st.binary(max_size=200), st.text(max_size=50).map(str.encode)))
def test_no_bytes_raise_and_what_is_accepted_has_one_form(data):
    for read in READERS:
        found = read(data)
        assert isinstance(found, Refused) or found.to_bytes() == data


def test_twenty_thousand_mutations_neither_raise_nor_have_a_second_form():
    rng = random.Random(7)
    seeds = [
        m.Hint(ID, bytes(32), 5).to_bytes(),
        m.Compare(bytes(32), bytes(32)).to_bytes(),
        m.ListIds((1, 255)).to_bytes(),
        m.GetEnvelope(ID).to_bytes(),
        m.GetBlob(ID, 7, 9).to_bytes(),
        m.Ids(bytes(32), (LOW, ID, HIGH)).to_bytes(),
        m.EnvelopeIs(b"abc").to_bytes(),
        m.Piece(b"").to_bytes(),
        m.Same().to_bytes(),
    ]
    accepted = 0
    for _ in range(20_000):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        for read in READERS:
            found = read(bytes(data))
            if not isinstance(found, Refused):
                accepted += 1
                assert found.to_bytes() == data
    assert accepted > 2_000


def test_nothing_at_all_is_malformed():
    for read in READERS:
        assert read(b"").code is Code.MALFORMED
    assert "without a kind" in m.read_reply(b"").detail


@pytest.mark.parametrize(
    ("read", "at_limit", "above"),
    [
        (m.read_reply, m.EnvelopeIs(bytes(MAX_ENVELOPE)), m.EnvelopeIs(bytes(MAX_ENVELOPE + 1))),
        (m.read_reply, m.Piece(bytes(CHUNK)), m.Piece(bytes(CHUNK + 1))),
        (m.read_request, m.GetBlob(ID, MAX_BLOB, CHUNK), m.GetBlob(ID, MAX_BLOB + 1, CHUNK)),
        (m.read_request, m.GetBlob(ID, 0, CHUNK), m.GetBlob(ID, 0, CHUNK + 1)),
        (
            m.read_reply,
            m.Ids(bytes(32), tuple(f"{i:064x}" for i in range(m.MAX_IDS))),
            m.Ids(bytes(32), tuple(f"{i:064x}" for i in range(m.MAX_IDS + 1))),
        ),
    ],
    ids=["envelope", "piece", "offset", "length", "ids"],
)
def test_what_is_at_the_limit_is_read_and_one_more_is_too_large(read, at_limit, above):
    assert read(at_limit.to_bytes()) == at_limit
    assert len(at_limit.to_bytes()) <= MAX_MESSAGE
    assert read(above.to_bytes()).code is Code.TOO_LARGE


def test_a_hint_above_its_limit_is_too_large_before_it_is_looked_at():
    assert m.read_hint(bytes(MAX_HINT)).code is Code.MALFORMED
    assert m.read_hint(bytes(MAX_HINT + 1)).code is Code.TOO_LARGE


def test_ids_out_of_order_or_twice_are_malformed():
    for wrong in ((HIGH, LOW), (ID, ID)):
        assert "ascending" in m.read_reply(m.Ids(bytes(32), wrong).to_bytes()).detail


def test_an_empty_envelope_is_malformed_and_an_empty_piece_is_not():
    assert m.read_reply(m.EnvelopeIs(b"").to_bytes()).code is Code.MALFORMED
    assert m.read_reply(m.Piece(b"").to_bytes()) == m.Piece(b"")


def test_unknown_kinds_are_malformed():
    for kind in (0, 6, 15, 23, 255):
        for read in READERS:
            assert read(bytes([kind]) * 33).code is Code.MALFORMED


def test_a_count_above_four_bytes_is_sent_as_the_largest():
    assert m.read_hint(m.Hint(ID, bytes(32), 2**40).to_bytes()).count == 2**32 - 1
    assert m.read_reply(m.Buckets(bytes(32), 2**40, (bytes(16),) * 256).to_bytes()).count == 2**32 - 1
