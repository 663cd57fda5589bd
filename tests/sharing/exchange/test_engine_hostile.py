"""Hostile peers: they cost little, are found out, and keep nobody from the honest ones."""

import random
import string

import pytest
from benchmarks.exchange_world import TAG, Stand, make, name
from tests.sharing.exchange.ends import End, add, honest, stocked

from stolon.sharing.codes import Code, Refused
from stolon.sharing.exchange import fetching, pulls
from stolon.sharing.exchange import messages as m
from stolon.sharing.exchange.fetching import MAX_ABSENT, MAX_JUNK
from stolon.sharing.exchange.index import Index
from stolon.sharing.exchange.ports import GiveUp, Offer, Reopen
from stolon.sharing.limits import CHUNK, HINT_BURST, MAX_ENVELOPE, MAX_MESSAGE, MAX_OFFERS, MAX_PEERS

NONE = bytes(32)


def lying(theirs: Stand, **lies):
    """An honest peer but for its answers to some kinds of questions."""
    answer = honest(theirs)

    def lie(payload):
        request = m.read_request(payload)
        made = lies.get(type(request).__name__)
        if made is None:
            return answer(payload)
        reply = made(request) if callable(made) else made
        return reply if reply is None or isinstance(reply, bytes) else reply.to_bytes()

    return lie


def listing(*ids: str) -> m.Ids:
    return m.Ids(bytes(31) + b"L", tuple(sorted(ids)))


def made_up(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [rng.randbytes(32).hex() for _ in range(count)]


def spoilt(theirs: Stand):
    return lambda request: m.EnvelopeIs(theirs.envelopes[request.id][:-TAG] + bytes(TAG))


@pytest.mark.parametrize(
    ("lies", "kind"),
    [
        ({"GetEnvelope": spoilt(stocked(*range(5)))}, "bad signatures"),
        ({"GetEnvelope": m.EnvelopeIs(b"no envelope")}, "malformed envelopes"),
        ({"GetEnvelope": m.EnvelopeIs(bytes(MAX_ENVELOPE + 1))}, "envelopes too large"),
        ({"GetEnvelope": lambda r: m.EnvelopeIs(stocked(77).envelopes.popitem()[1])}, "other envelopes"),
        ({"GetEnvelope": m.Same()}, "replies to other questions"),
        ({"GetBlob": lambda r: m.Piece(bytes(r.length))}, "wrong bytes"),
        ({"GetBlob": lambda r: m.Piece(bytes(r.length + 1))}, "a byte too many"),
        ({"GetBlob": lambda r: m.Piece(b"")}, "pieces without bytes"),
        ({"GetBlob": m.EnvelopeIs(b"abc")}, "an envelope for a blob"),
        ({"GetBlob": b"\x14" + bytes(CHUNK + 1)}, "pieces too large"),
        ({"Compare": b"garbage"}, "garbage"),
        ({"Compare": b""}, "nothing"),
        ({"Compare": bytes(MAX_MESSAGE)}, "zeros"),
        ({"Compare": m.Piece(b"abc")}, "a piece for a listing"),
        ({"Compare": "\N{SNOWMAN}é".encode() * 99}, "text"),
        ({"Compare": m.Ids(NONE, ("bb" * 32, "aa" * 32))}, "ids out of order"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_three_bad_messages_and_a_peer_is_ignored(lies, kind):
    theirs = stocked(*range(5))
    end = End()
    peer = end.meet(1, lying(theirs, **lies))
    end.run(20)
    state = end.state(peer)
    assert state.ignored_until is not None, kind
    assert end.holdings.ids() == frozenset()
    asked = len(end.asked)
    end.hear(peer)
    assert end.state(peer) == state
    end.run(500)
    assert len(end.asked) == asked
    end.run(120)
    assert len(end.asked) > asked, "it gets another chance after ten minutes"
    honest_one = end.meet(2, honest(theirs, 2))
    end.run(10)
    assert end.holdings.ids() == theirs.ids()
    assert end.state(honest_one).rejects == 0


def test_being_ignored_doubles_up_to_a_day():
    end = End(hint_s=1e5, round_s=50.0)
    peer = end.meet(1, lambda payload: b"garbage")
    lengths = []
    for _ in range(10):
        while end.state(peer).ignored_until is None:
            end.run(50)
        until = end.state(peer).ignored_until
        lengths.append(round((until - end.now) / 600))
        end.run(until - end.now)
    assert lengths[:5] == [1, 2, 4, 8, 16]
    assert lengths[-2:] == [144, 144]


def test_being_gone_for_a_while_does_not_end_it():
    end = End()
    peer = end.meet(1, lambda payload: b"garbage")
    end.run(20)
    end.leave(peer)
    end.run(1)
    asked = len(end.asked)
    end.meet(1, lambda payload: b"garbage")
    end.run(60)
    assert len(end.asked) == asked


def test_two_bad_messages_in_ten_minutes_are_forgiven():
    theirs = stocked(1)
    wrong = [2]

    def sometimes(payload):
        if wrong[0] > 0 and isinstance(m.read_request(payload), m.Compare):
            wrong[0] -= 1
            return b"garbage"
        return honest(theirs)(payload)

    end = End()
    peer = end.meet(1, sometimes)
    end.run(10)
    assert end.state(peer).rejects == 2
    assert end.holdings.ids() == theirs.ids()
    end.run(601)
    assert end.state(peer).rejects == 0
    wrong[0] = 2
    end.run(30)
    assert end.state(peer).ignored_until is None


def test_a_spoilt_copy_does_not_keep_us_from_the_good_one():
    """A signature is no part of the id: whoever spoils it must not be able to have the id refused."""
    theirs = stocked(1, 2)
    end = End()
    bad = end.meet(1, lying(theirs, GetEnvelope=spoilt(theirs)))
    end.run(10)
    assert end.state(bad).rejects == 2
    end.meet(2, honest(theirs, 2))
    end.run(5)
    assert end.holdings.ids() == theirs.ids()
    assert len(end.requests(m.GetEnvelope, bad)) == 2


def test_of_unknown_authors_only_envelopes_are_fetched_once_and_offered():
    theirs = stocked(*range(30), author=b"X001")
    end = End()
    peer = end.meet(1, honest(theirs))
    end.run(120)
    offers = [action for action in end.log if isinstance(action, Offer)]
    assert {offer.id for offer in offers} == theirs.ids()
    assert {(offer.peer, offer.envelope) for offer in offers} == {
        (peer, e) for e in theirs.envelopes.values()
    }
    assert len(end.requests(m.GetEnvelope)) == len(offers) == 30
    assert end.requests(m.GetBlob) == []
    assert end.state(peer).rejects == 0


def test_offers_are_told_once_though_several_peers_make_them_and_no_more_than_the_limit():
    theirs = stocked(*range(MAX_OFFERS + 20), author=b"X001", blobs=0)
    end = End()
    end.meet(1, honest(theirs))
    end.meet(2, honest(theirs, 2))
    end.run(60)
    assert end.count(Offer) == MAX_OFFERS


def test_modules_of_another_backbone_are_ignored_without_blame_or_offer():
    theirs = stocked(1, 2, kind=b"B")
    end = End()
    peer = end.meet(1, honest(theirs))
    end.run(60)
    assert len(end.requests(m.GetEnvelope)) == 2
    assert (end.count(Offer), end.state(peer).rejects) == (0, 0)


def test_useless_envelopes_cost_a_megabyte_at_a_time_and_then_patience():
    blown = {}
    for number in range(100):
        envelope, _ = make(b"M", b"X001", number, [b"x" * n for n in range(2500)][:2000])
        blown[number] = envelope
    theirs = Stand()
    for envelope in blown.values():
        assert 60_000 < len(envelope) <= MAX_ENVELOPE
        add(theirs, envelope, {})
    end = End()
    end.meet(1, honest(theirs))
    end.run(1.9)
    fetched = len(end.requests(m.GetEnvelope)) * len(blown[0])
    assert MAX_JUNK <= fetched <= MAX_JUNK + 3 * MAX_ENVELOPE
    end.run(300)
    fetched = end.requests(m.GetEnvelope)
    assert len(set(fetched)) == 100, "an honest peer with other friends is heard out in the end"
    assert len(fetched) < 110


def test_things_that_are_listed_and_not_there_end_a_look():
    end = End()
    peer = end.meet(1, lying(Stand(), Compare=lambda r: listing(*made_up(1000)), GetEnvelope=m.Absent()))
    end.run(1)
    assert MAX_ABSENT <= len(end.requests(m.GetEnvelope)) <= MAX_ABSENT + 2
    end.run(300)
    assert len(end.requests(m.GetEnvelope, peer)) < 20 * MAX_ABSENT


def test_a_peer_of_another_version_is_left_alone_for_longer_and_longer():
    end = End()
    peer = end.meet(1, lambda payload: m.Absent().to_bytes())
    end.run(600)
    assert len(end.asked) < 25
    assert end.state(peer).rejects == 0


def test_a_flood_of_hints_is_dropped():
    end = End()
    peer = end.meet(1, lying(Stand(), Compare=lambda r: listing()))
    end.run(5)
    before = len(end.asked)
    rng = random.Random(1)
    for _ in range(100):
        for _ in range(100):
            end.hear(peer, rng.randbytes(32))
        end.run(0.01)
    assert len(end.asked) - before <= 3
    assert end.state(peer).count == 1
    taken = 0
    end.run(60)
    for count in range(100):
        end.hear(peer, rng.randbytes(32), count)
        taken += end.state(peer).count == count
    assert taken == HINT_BURST


def test_hints_that_are_none_or_not_ones_own_change_nothing():
    end = End()
    peer = end.meet(1, honest(Stand()))
    end.run(3)
    before = end.exchange.peers(end.now)
    hint = m.Hint(name(2), bytes(31) + b"x", 7).to_bytes()
    for payload in (b"", b"\x01", bytes(69), bytes(5000), hint, string.printable.encode(), hint[:-1]):
        end.run(1)
        before = end.exchange.peers(end.now)
        assert end.exchange.heard(peer, payload, end.now) == []
        assert end.exchange.heard("nobody", payload, end.now) == []
        assert end.exchange.heard(name(9), hint, end.now) == []
        assert end.exchange.peers(end.now) == before


def test_a_liar_that_always_differs_is_looked_at_once_a_second_at_most():
    rng = random.Random(4)
    end = End()
    peer = end.meet(1, lying(Stand(), Compare=lambda r: m.Ids(rng.randbytes(32), ())))
    for _ in range(120):
        end.hear(peer, rng.randbytes(32))
        end.run(0.5)
    assert len(end.asked) <= 62


def test_long_lists_in_vain_are_bought_with_waiting():
    known = made_up(m.MAX_IDS)
    end = End()
    end.holdings._ids = frozenset(known)
    end.do(end.exchange.changed(end.now))
    rng = random.Random(4)
    peer = end.meet(1, lying(Stand(), Compare=lambda r: m.Ids(rng.randbytes(32), tuple(sorted(known)))))
    for _ in range(240):
        end.hear(peer, rng.randbytes(32))
        end.run(0.5)
    _, received = end.exchange.traffic()
    assert received.index / 120 < 80_000, "bytes per second that a liar can make us read"


def test_ids_of_other_buckets_than_asked_for_are_malformed():
    digests = tuple(bytes([b]) * 16 for b in range(256))
    lies = {
        "Compare": m.Buckets(bytes(31) + b"B", 5, digests),
        "ListIds": lambda r: m.Ids(NONE, (f"{r.buckets[-1] + 1 & 255:02x}" + "00" * 31,)),
    }
    end = End()
    peer = end.meet(1, lying(Stand(), **lies))
    end.run(30)
    assert end.state(peer).ignored_until is not None


def test_buckets_without_a_difference_are_the_end_of_it():
    theirs = stocked(1)
    end = End()
    digests = Index.of(()).digests
    peer = end.meet(1, lying(theirs, Compare=m.Buckets(bytes(31) + b"B", 5, digests)))
    end.run(60)
    assert end.requests(m.ListIds) == []
    assert end.state(peer).rejects == 0
    assert end.state(peer).count == 5


def test_one_peer_cannot_have_more_than_a_thousand_ids_noted_and_the_rest_comes_later():
    theirs = stocked(*range(pulls.MAX_OPEN + 300), blobs=0)
    end = End()
    end.meet(1, honest(theirs))
    end.run(10)
    assert end.holdings.ids() == theirs.ids()
    everything = sorted(theirs.ids())
    end = End()
    end.meet(1, lying(theirs, Compare=m.Ids(bytes(31) + b"L", tuple(everything))))
    end.run(20)
    assert end.holdings.ids() == theirs.ids()


def test_withheld_blobs_are_got_from_others():
    theirs = stocked(*range(5), size=1000)
    end = End()
    end.meet(1, lying(theirs, GetBlob=None))
    silent = end.meet(2, lying(theirs, GetBlob=lambda r: None))
    lacking = end.meet(3, lying(theirs, GetBlob=m.Absent()))
    end.run(5)
    del silent, lacking
    assert end.holdings.ids() == theirs.ids()


def test_silent_peers_leave_room_for_the_others():
    theirs = stocked(*range(40))
    end = End()
    for number in range(2, 10):
        end.meet(number, lying(theirs, GetEnvelope=lambda r: None))
    end.run(20)
    under_way = [peer.id for peer in end.exchange._pulls.asked.values()]
    assert len(under_way) <= 2
    end.meet(1, honest(theirs))
    end.run(6)
    assert end.holdings.ids() == theirs.ids()


def test_bytes_of_two_peers_that_do_not_fit_are_nobodys_fault_and_then_come_from_one():
    theirs = stocked(1, size=3 * CHUNK)
    answer = honest(theirs)
    count = [0]

    def begins_wrong(request):
        count[0] += 1
        return m.Piece(bytes(request.length)) if count[0] == 1 else None

    end = End()
    spoiler = end.meet(1, lying(theirs, GetBlob=begins_wrong))
    end.run(0.3)
    pull = end.exchange._pulls.get(next(iter(theirs.ids())))
    good = end.meet(2, answer)
    end.run(60)
    assert pull.is_alone
    assert end.holdings.blobs == theirs.blobs
    assert end.state(spoiler).rejects == end.state(good).rejects == 0
    offsets = [request.offset for request in end.requests(m.GetBlob, good)]
    assert offsets.count(0) == 1
    assert offsets[0] > 0, "it went on where the spoiler began, and then began anew"


def test_where_a_blob_must_come_from_one_peer_a_lost_reply_does_not_begin_it_anew():
    theirs = stocked(1, size=2 * CHUNK)
    rng = random.Random(2)
    wrong = [True]

    def loses(request):
        blob = theirs.blobs[request.sha][request.offset : request.offset + request.length]
        if wrong[0]:
            wrong[0] = False
            return m.Piece(bytes(request.length))
        return m.Piece(blob) if rng.random() < 0.5 else None

    end = End()
    end.meet(1, lying(theirs, GetBlob=loses))
    end.meet(2, lying(theirs, GetBlob=loses))
    end.run(200)
    assert end.holdings.blobs == theirs.blobs
    starts = sum(request.offset == 0 for request in end.requests(m.GetBlob))
    assert starts < 12


def test_unfinished_modules_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(pulls, "MAX_BUFFERED", 3 * CHUNK)
    theirs = stocked(*range(12), size=CHUNK + 5)
    given: dict[str, int] = {}

    def stops(request):
        given[request.sha] = given.get(request.sha, 0) + 1
        return (
            None
            if request.offset > CHUNK // 2
            else m.Piece(theirs.blobs[request.sha][request.offset :][: request.length])
        )

    end = End()
    end.meet(1, lying(theirs, GetBlob=stops))
    most = 0
    for _ in range(200):
        end.run(1)
        most = max(most, sum(pull.buffered for pull in end.exchange._pulls._pulls.values()))
    assert CHUNK < most <= 3 * CHUNK + 2 * CHUNK
    end.meet(2, honest(theirs, 2))
    end.run(60)
    assert end.holdings.ids() == theirs.ids()


def test_few_beginnings_without_a_source_are_kept(monkeypatch):
    monkeypatch.setattr(pulls, "MAX_ORPHANS", 3)
    theirs = stocked(*range(10), size=1000)
    end = End()
    peer = end.meet(1, lying(theirs, GetBlob=m.Absent()))
    end.run(1)
    assert len(end.exchange._pulls._pulls) <= 3
    assert len(end.exchange._pulls) == 0
    end.leave(peer)
    end.meet(2, honest(theirs))
    end.run(5)
    assert end.holdings.ids() == theirs.ids()


def test_refusals_are_remembered_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(fetching, "MAX_REFUSED", 3)
    theirs = stocked(*range(8), kind=b"P")
    for id_ in theirs.ids():
        theirs.blobs.setdefault(id_, b"")
    end = End()
    for number in range(1, 6):
        end.meet(number, honest(theirs, number))
    end.run(30)
    assert len(end.exchange._fetching.refused) == 3


def test_a_crowd_of_silent_peers_does_not_close_the_way_to_an_honest_one():
    theirs = stocked(1, 2, 3)
    end = End()
    for number in range(2, 2 + MAX_PEERS):
        end.meet(number, lambda payload: None)
    end.meet(1, honest(theirs))
    assert sum(state.linked for state in end.exchange.peers(end.now)) == MAX_PEERS
    end.run(30)
    assert end.holdings.ids() == theirs.ids()


def test_peers_that_never_answered_cannot_make_us_end():
    end = End()
    for number in range(1, 9):
        end.meet(number, lambda payload: None)
    end.run(3600)
    assert end.count(GiveUp) == 0
    assert end.count(Reopen) > 3


def test_a_bug_in_a_check_costs_one_envelope_and_no_place(caplog):
    class Buggy(Stand):
        def judge(self, envelope):
            if envelope == bad:
                raise KeyError("a bug")
            return super().judge(envelope)

    theirs = stocked(*range(6))
    bad = min(theirs.envelopes.values())
    end = End(holdings=Buggy())
    peer = end.meet(1, honest(theirs))
    end.run(30)
    assert len(end.holdings.ids()) == 5
    assert "a bug" in caplog.text
    assert end.state(peer).rejects == 0
    assert end.exchange._pulls.asked == {}


def test_who_told_of_a_bad_module_is_blamed_also_when_it_is_gone():
    theirs = stocked(1, kind=b"P")
    end = End()
    peer = end.meet(1, honest(theirs))
    end.run(3)
    assert end.state(peer).rejects == 1
    commits = []

    class Slow(Stand):
        def commit(self, envelope, blobs):
            commits.append(envelope)
            end.exchange.unlinked(peer, end.now)
            return Refused(Code.NOT_FINITE, "late")

    end = End(holdings=Slow())
    peer = end.meet(1, honest(theirs))
    end.run(3)
    assert len(commits) == 1
    assert end.state(peer).rejects == 0
    assert end.exchange.committed("ab" * 32, None, end.now) == []
