"""Honest peers: everything is fetched, once, soon, and with few bytes."""

import random

import pytest
from benchmarks.exchange_world import Stand, make, name
from tests.sharing.exchange.ends import HOLD, ME, End, add, honest, stocked

from stolon.sharing.codes import Code, Refused
from stolon.sharing.exchange import messages as m
from stolon.sharing.exchange.answers import FEW_IDS
from stolon.sharing.exchange.engine import Exchange
from stolon.sharing.exchange.index import Index
from stolon.sharing.exchange.ports import Ask, Commit, GiveUp, Publish, Reopen
from stolon.sharing.limits import CHUNK, HINT_BURST, PULLS, PULLS_PER_PEER


@pytest.mark.parametrize("count", [0, 1, 20, FEW_IDS, FEW_IDS + 1, 1500])
def test_everything_a_peer_holds_is_fetched_within_a_round(count):
    theirs = stocked(*range(count))
    end = End()
    peer = end.meet(1, honest(theirs))
    end.run(5)
    assert end.holdings.ids() == theirs.ids()
    assert end.holdings.blobs == theirs.blobs
    assert end.state(peer).equal
    assert end.state(peer).pulled == count


def test_nothing_is_asked_for_twice_where_several_peers_offer_the_same():
    theirs = stocked(*range(50), blobs=2)
    end = End()
    for number in (1, 2, 3, 4):
        end.meet(number, honest(theirs, number))
    end.run(5)
    assert end.holdings.ids() == theirs.ids()
    for kind in (m.GetEnvelope, m.GetBlob):
        assert (
            len(end.requests(kind))
            == len(set(end.requests(kind)))
            == {m.GetEnvelope: 50, m.GetBlob: 100}[kind]
        )


def test_a_peer_whose_hint_differs_is_looked_at_within_moments():
    theirs = stocked(1)
    end = End()
    peer = end.meet(1, honest(theirs))
    end.run(10)
    add(theirs, *make(b"M", b"L001", 2, [b"new"]))
    end.hear(peer, Index.of(theirs.ids()).fingerprint)
    end.run(0.2)
    assert end.holdings.ids() == theirs.ids()


def test_equal_peers_exchange_hints_and_one_short_question_a_round():
    theirs = stocked(*range(100))
    end = End(holdings=theirs.copy())
    end.meet(1, honest(theirs))
    end.run(5)
    before, already = len(end.log), len(end.asked)
    end.run(100)
    assert 15 <= sum(isinstance(action, Publish) for action in end.log[before:]) <= 30
    assert 40 <= len(end.asked) - already <= 65
    assert all(isinstance(request, m.Compare) for _, request in end.asked[already:])
    assert sum(isinstance(action, Ask) and len(action.payload) > 65 for action in end.log) == 0


def test_a_peer_that_lacks_what_we_hold_is_not_listed_again_and_again():
    end = End(holdings=stocked(*range(100)))
    theirs = stocked(*range(50))
    end.meet(1, honest(theirs))
    end.run(60)
    sent, received = end.exchange.traffic()
    assert received.index < 50 * 32 + 33 + 40  # once everything, then a byte each time
    assert sent.envelope == received.envelope == 0


def test_a_change_of_ours_is_hinted_to_all_at_once():
    end = End()
    end.meet(1, honest(Stand()))
    end.run(3)
    before = end.count(Publish)
    id_ = add(end.holdings, *make(b"M", b"L001", 5, []))
    end.do(end.exchange.changed(end.now))
    assert end.count(Publish) == before + 1
    hint = m.read_hint(end.log[-1].payload)
    assert hint == m.Hint(ME, Index.of([id_]).fingerprint, 1)
    end.do(end.exchange.changed(end.now))
    assert end.count(Publish) == before + 1  # nothing changed since


def test_many_changes_at_once_are_hinted_no_faster_than_receivers_allow_and_the_last_one_is():
    end = End()
    end.meet(1, honest(Stand()))
    before = end.count(Publish)
    for number in range(100):
        add(end.holdings, *make(b"M", b"L001", number, []))
        end.do(end.exchange.changed(end.now))
    assert end.count(Publish) - before <= HINT_BURST
    end.run(2)
    last = [action for action in end.log if isinstance(action, Publish)][-1]
    assert m.read_hint(last.payload).fingerprint == Index.of(end.holdings.ids()).fingerprint


def test_what_was_fetched_is_hinted_on_so_that_it_travels_further():
    theirs = stocked(*range(5))
    end = End()
    end.meet(1, honest(theirs))
    end.run(0.5)
    last = [action for action in end.log if isinstance(action, Publish)][-1]
    assert m.read_hint(last.payload).count == 5


def test_nobody_there_nothing_said():
    end = End(holdings=stocked(1))
    end.run(60)
    end.do(end.exchange.changed(end.now))
    assert end.log == []


def test_a_changed_bank_is_noticed_even_if_nobody_told():
    end = End()
    end.meet(1, honest(Stand()))
    end.run(5)
    id_ = add(end.holdings, *make(b"M", b"L001", 5, []))
    end.run(3)
    last = [action for action in end.log if isinstance(action, Publish)][-1]
    assert m.read_hint(last.payload).fingerprint == Index.of([id_]).fingerprint


def test_large_blobs_come_in_pieces_that_grow_with_a_quick_peer():
    theirs = stocked(1, size=5 * CHUNK + 17)
    end = End()
    end.meet(1, honest(theirs))
    end.run(1)
    lengths = [request.length for request in end.requests(m.GetBlob)]
    assert end.holdings.blobs == theirs.blobs
    assert lengths[0] == CHUNK // 8
    assert max(lengths) == CHUNK
    assert sum(lengths) == 5 * CHUNK + 17


def test_requests_under_way_are_bounded_per_peer_and_in_all():
    theirs = stocked(*range(40))
    end = End()
    waiting: list[Ask] = []

    def run(actions):
        for action in actions:
            if isinstance(action, Ask):
                request = m.read_request(action.payload)
                if isinstance(request, m.Compare):
                    run(end.exchange.answered(action.ticket, honest(theirs)(action.payload), end.now))
                else:
                    waiting.append(action)

    for number in (1, 2, 3):
        run(end.exchange.linked(name(number), end.now))
    for _ in range(100):
        end.now = max(end.exchange.next_due(end.now), end.now + 0.001)
        if end.now > 1001:
            break
        run(end.exchange.tick(end.now))
    assert len(waiting) == PULLS
    assert max(sum(ask.peer == name(n) for ask in waiting) for n in (1, 2, 3)) == PULLS_PER_PEER


def test_lost_requests_are_sent_again_within_the_round():
    theirs = stocked(*range(10), size=1000)
    rng = random.Random(5)
    answer = honest(theirs)
    end = End()
    end.meet(1, lambda payload: answer(payload) if rng.random() < 0.6 else None)
    end.run(6)
    assert end.holdings.ids() == theirs.ids()


def test_a_peer_that_never_answers_is_asked_once_and_three_times_more():
    end = End()
    peer = end.meet(1, lambda payload: None)
    end.hear(peer)
    end.run(1)
    assert len(end.requests(m.Compare)) == 4
    assert end.state(peer).replied is None


def test_what_one_peer_stops_giving_another_one_gives():
    theirs = stocked(1, size=3 * CHUNK)
    good, first = honest(theirs), honest(theirs)
    given = []

    def fails(payload):
        if isinstance(m.read_request(payload), m.GetBlob):
            given.append(payload)
            return first(payload) if len(given) < 3 else None
        return first(payload)

    end = End()
    one = end.meet(1, fails)
    end.run(0.5)
    assert not end.holdings.ids()
    other = end.meet(2, good)
    end.run(3)
    assert end.holdings.blobs == theirs.blobs
    offsets = [request.offset for request in end.requests(m.GetBlob, other)]
    assert min(offsets) > 0, "what was there already was fetched again"
    assert end.requests(m.GetBlob, one)


def test_a_link_that_never_calls_back_does_not_hold_anything_up_for_ever():
    end = End()
    asks = []
    end.exchange.linked(name(1), end.now)
    for _ in range(200):
        end.now = max(end.exchange.next_due(end.now), end.now + 1e-3)
        asks += [action for action in end.exchange.tick(end.now) if isinstance(action, Ask)]
    assert len(asks) > 10
    late = end.exchange.answered(asks[0].ticket, m.Same().to_bytes(), end.now)
    assert late == []
    assert end.exchange.peers(end.now)[0].replied is None


def test_blobs_that_another_module_brought_are_not_fetched_again():
    blob = b"shared by two modules"
    theirs, end = Stand(), End()
    mine = make(b"M", b"L001", 1, [blob])
    add(end.holdings, *mine)
    add(theirs, *make(b"M", b"L001", 2, [blob, b"and one more"]))
    end.meet(1, honest(theirs))
    end.run(3)
    assert theirs.ids() <= end.holdings.ids()
    assert len(end.requests(m.GetBlob)) == 1


def test_modules_that_share_blobs_fetch_each_once_though_at_the_same_time():
    one, two, three = (bytes([n]) * 5000 for n in range(3))
    theirs = Stand()
    for number, blobs in enumerate(([one, two], [two, one], [two, three], [three])):
        add(theirs, *make(b"M", b"L001", number, list(blobs)))
    end = End()
    end.meet(1, honest(theirs))
    end.meet(2, honest(theirs, 2))
    end.run(5)
    assert end.holdings.ids() == theirs.ids()
    assert len(end.requests(m.GetBlob)) == 3


def test_a_blob_that_cannot_be_read_here_is_fetched():
    theirs = stocked(1)

    class Broken(Stand):
        def blob(self, sha):
            raise OSError("cannot be read")

    end = End(holdings=Broken())
    end.meet(1, honest(theirs))
    end.run(3)
    assert end.holdings.ids() == theirs.ids()


def test_empty_blobs_and_modules_without_blobs_are_taken_in():
    theirs = Stand()
    add(theirs, *make(b"M", b"L001", 1, [b""]))
    add(theirs, *make(b"M", b"L001", 2, []))
    end = End()
    end.meet(1, honest(theirs))
    end.run(3)
    assert end.holdings.ids() == theirs.ids()


def test_what_came_in_another_way_is_not_fetched_any_more():
    theirs = stocked(1, size=100)
    answer = honest(theirs)
    end = End()

    def imported(payload):
        if isinstance(m.read_request(payload), m.GetBlob):
            end.holdings.envelopes.update(theirs.envelopes)
            end.holdings.blobs.update(theirs.blobs)
            end.holdings._ids = theirs.ids()
            end.do(end.exchange.changed(end.now))
        return answer(payload)

    end.meet(1, imported)
    end.run(10)
    assert end.count(Commit) == 0
    assert len(end.requests(m.GetBlob)) == 1


def test_a_module_that_was_lost_here_is_fetched_again():
    theirs = stocked(1, 2)
    end = End()
    end.meet(1, honest(theirs))
    end.run(3)
    lost = min(theirs.ids())
    del end.holdings.envelopes[lost]
    end.holdings._ids = frozenset(end.holdings.envelopes)
    end.run(15)
    assert end.holdings.ids() == theirs.ids()


def test_a_peer_put_back_to_an_old_copy_gets_its_modules_back_and_gives_new_ones():
    theirs = stocked(*range(30))
    end = End()
    peer = end.meet(1, honest(theirs))
    end.run(3)
    end.leave(peer)
    old = stocked(1, 2, 99)
    end.meet(1, honest(old))
    end.run(3)
    assert end.holdings.ids() == theirs.ids() | old.ids()


def test_a_peer_that_is_gone_is_not_asked_and_comes_back_unharmed():
    theirs = stocked(*range(20))
    answer = honest(theirs)
    end = End()
    peer = end.meet(1, lambda payload: None)
    end.run(0.3)
    end.leave(peer)
    asked = len(end.asked)
    end.run(30)
    assert len(end.asked) == asked
    assert not end.state(peer).linked
    end.leave(peer)
    end.meet(1, answer)
    end.do(end.exchange.linked(peer, end.now))  # told twice
    end.run(3)
    assert end.holdings.ids() == theirs.ids()


def test_we_are_not_our_own_peer():
    end = End()
    end.do(end.exchange.linked(ME, end.now))
    assert end.exchange.peers(end.now) == ()


def test_refused_by_the_bank_for_good_is_not_fetched_again_from_anybody():
    theirs = stocked(*range(2), kind=b"P")
    end = End()
    for number in (1, 2, 3):
        end.meet(number, honest(theirs, number))
    end.run(60)
    assert end.holdings.ids() == frozenset()
    assert end.count(Commit) == 2


def test_a_full_disk_pauses_everything_and_then_it_goes_on():
    theirs = stocked(*range(20))

    class Full(Stand):
        is_full = True

        def commit(self, envelope, blobs):
            return Refused(Code.DISK_FULL, "full") if self.is_full else super().commit(envelope, blobs)

    end = End(holdings=Full())
    end.meet(1, honest(theirs))
    end.run(50)
    assert 1 <= end.count(Commit) <= PULLS
    end.holdings.is_full = False
    end.run(60)
    assert end.holdings.ids() == theirs.ids()


def test_the_bank_may_ask_for_a_blob_again():
    theirs = stocked(1)

    class Picky(Stand):
        times = 0

        def commit(self, envelope, blobs):
            self.times += 1
            return Refused(Code.MISSING_BLOB, "?") if self.times < 3 else super().commit(envelope, blobs)

    end = End(holdings=Picky())
    end.meet(1, honest(theirs))
    end.run(30)
    assert end.holdings.ids() == theirs.ids()


def test_room_that_became_free_is_used():
    theirs = stocked(1, 2)

    class Quota(Stand):
        def judge(self, envelope):
            verdict = super().judge(envelope)
            if len(self.envelopes) >= 2 and verdict.id not in self.envelopes:
                return Refused(Code.OVER_QUOTA, "two are enough")
            return verdict

    end = End(holdings=Quota())
    own = add(end.holdings, *make(b"M", b"L009", 9, []))
    other = add(end.holdings, *make(b"M", b"L009", 10, []))
    end.do(end.exchange.changed(end.now))
    end.meet(1, honest(theirs))
    end.run(10)
    asked = len(end.requests(m.GetEnvelope))
    end.run(60)
    assert len(end.requests(m.GetEnvelope)) == asked == 2
    for gone in (own, other):
        del end.holdings.envelopes[gone]
    end.holdings._ids = frozenset(end.holdings.envelopes)
    end.do(end.exchange.changed(end.now))
    end.run(10)
    assert end.holdings.ids() == theirs.ids()


def test_what_was_refused_is_looked_at_again_when_trust_changes():
    class Trusting(Stand):
        trusts = False

        def judge(self, envelope):
            return super().judge(envelope) if self.trusts else Refused(Code.UNKNOWN_AUTHOR, "who?")

    theirs = stocked(1, 2)
    end = End(holdings=Trusting())
    peer = end.meet(1, honest(theirs))
    end.meet(2, lambda payload: m.Same().to_bytes())
    end.run(30)
    assert len(end.requests(m.GetEnvelope)) == 2
    assert end.state(peer).rejects == 0
    end.holdings.trusts = True
    end.do(end.exchange.trust_changed(end.now))
    end.run(0.5)
    assert end.holdings.ids() == theirs.ids()


def test_the_link_is_opened_anew_when_nobody_answers_and_given_up_after_three_times():
    end = End()
    theirs = stocked(1)
    answers = [True]
    answer = honest(theirs)
    end.meet(1, lambda payload: answer(payload) if answers[0] else None)
    end.run(5)
    answers[0] = False
    end.run(14)
    assert end.count(Reopen) == 1
    end.run(24 + 48)
    assert end.count(Reopen) == 3
    assert end.count(GiveUp) == 0
    end.run(100)
    assert end.count(GiveUp) == 1


def test_the_first_tick_is_due_at_once():
    assert Exchange(ME, Stand(), random.Random(0)).next_due(5.0) == 5.0


def test_a_hint_of_the_same_set_asks_for_nothing():
    end = End(holdings=stocked(1, 2))
    peer = end.meet(1, honest(stocked(1, 2)))
    end.run(3)
    asked = len(end.asked)
    end.hear(peer, Index.of(end.holdings.ids()).fingerprint)
    due = end.exchange.next_due(end.now)
    end.run(0.1)
    assert len(end.asked) == asked
    assert due > end.now - 0.1


def test_while_something_is_fetched_other_looks_wait_a_little_and_with_a_backlog_longer():
    def slowest(count):
        """The longest of many random waits for a look, with so many modules still to be fetched."""
        theirs = stocked(*range(count))
        end = End(hint_s=1e5, round_s=10.0)
        end.meet(1, lambda p: HOLD if isinstance(m.read_request(p), m.GetEnvelope) else honest(theirs)(p))
        end.run(0.2)
        waits = []
        for number in range(10, 60):
            start = end.now
            end.exchange.linked(name(number), start)
            waits.append(end.exchange._looks._dues[end.exchange._peers.linked[name(number)]] - start)
        return max(waits)

    assert slowest(0) <= 0.1 < slowest(1) <= 0.5 < slowest(17) <= 10.0


def test_what_a_peer_said_while_it_was_looked_at_is_looked_at_afterwards():
    theirs = stocked(1)
    is_slow = [True]
    answer = honest(theirs)
    end = End(round_s=1000.0)
    slow = lambda p: HOLD if is_slow[0] and isinstance(m.read_request(p), m.GetEnvelope) else answer(p)  # noqa: E731
    peer = end.meet(1, slow)
    end.run(0.2)
    assert end.held
    add(theirs, *make(b"M", b"L001", 2, []))
    end.hear(peer, Index.of(theirs.ids()).fingerprint)
    end.run(0.1)
    is_slow[0] = False
    end.answer_held()
    end.run(0.2)
    assert end.holdings.ids() == theirs.ids()


def test_a_look_under_way_is_not_begun_twice():
    end = End(round_s=1000.0)
    peer = end.meet(1, lambda payload: HOLD)
    end.run(0.2)
    for number in range(5):
        end.hear(peer, bytes([number]) * 32)
        end.run(0.05)
    assert len(end.held) == 1


def test_a_quota_found_full_by_the_bank_itself_is_tried_again_when_there_is_room():
    class Quota(Stand):
        is_full = True

        def commit(self, envelope, blobs):
            return Refused(Code.OVER_QUOTA, "full") if self.is_full else super().commit(envelope, blobs)

    theirs = stocked(1)
    end = End(holdings=Quota())
    add(end.holdings, *make(b"M", b"L009", 9, []))
    end.do(end.exchange.changed(end.now))
    end.meet(1, honest(theirs))
    end.run(60)
    assert end.count(Commit) == 1
    end.holdings.envelopes.clear()
    end.holdings._ids = frozenset()
    end.holdings.is_full = False
    end.run(10)
    assert end.holdings.ids() == theirs.ids()


def test_settings_are_taken_and_messages_counted():
    theirs = stocked(1, size=1000)
    end = End(hint_s=1.0)
    end.meet(1, honest(theirs))
    end.run(10)
    sent, received = end.exchange.traffic()
    assert sent.hint == 69 * end.count(Publish) >= 69 * 8
    assert received.blob == 1 + 1000
    assert received.envelope == 1 + len(next(iter(theirs.envelopes.values())))
    assert sent.blob == 41
    assert sent.envelope == 33
    assert received.total == received.hint + received.index + received.envelope + received.blob
    assert Exchange(ME, Stand(), random.Random(0)).me == ME


def test_it_is_not_woken_more_often_than_there_is_something_to_do(monkeypatch):
    ticks = [0]
    tick = Exchange.tick

    def counted(self, now):
        ticks[0] += 1
        before = len(end.log) if ticks[0] > 1 else 0
        actions = tick(self, now)
        assert self.next_due(now) > now, f"due again at once, after {before} actions"
        return actions

    monkeypatch.setattr(Exchange, "tick", counted)
    end = End()
    theirs = stocked(*range(30))
    for number in range(1, 5):
        end.meet(number, honest(theirs, number))
    end.meet(5, lambda payload: None)
    end.meet(6, lambda payload: b"garbage")
    end.meet(7, lambda payload: m.Absent().to_bytes())
    end.run(600)
    assert end.holdings.ids() == theirs.ids()
    assert ticks[0] < 2000
