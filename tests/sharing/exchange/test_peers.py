import random

from benchmarks.exchange_world import name
from hypothesis import given
from hypothesis import strategies as st

from stolon.sharing.codes import Code
from stolon.sharing.exchange.peers import (
    MAX_REFUSED,
    MAX_REMEMBERED,
    MAX_WAITING,
    Allowance,
    Pace,
    Peer,
    Peers,
)
from stolon.sharing.exchange.ports import ExchangeSettings
from stolon.sharing.limits import MAX_PEERS


def many() -> Peers:
    return Peers(ExchangeSettings(), random.Random(0))


@given(st.lists(st.floats(0, 100), max_size=200), st.floats(0.1, 10), st.integers(1, 30))
def test_an_allowance_gives_its_burst_and_its_rate_and_no_more(gaps, rate, burst):
    allowance, now, taken = Allowance(rate, burst), 1e9, 0
    for gap in gaps:
        now += gap
        taken += allowance.take(now)
    assert taken <= burst + rate * sum(gaps) + 1e-3


def test_an_allowance_fills_up_again_and_no_clock_that_goes_back_harms_it():
    allowance = Allowance(2, 3)
    assert [allowance.take(5.0) for _ in range(5)] == [True, True, True, False, False]
    assert not allowance.take(1.0)
    assert allowance.take(2.0)
    assert [allowance.take(100.0) for _ in range(4)] == [True, True, True, False]


def test_patience_follows_a_peers_pace():
    pace = Pace()
    assert pace.patience(3.0) == 3.0
    for _ in range(50):
        pace.note(0.1)
    assert 0.1 < pace.patience(3.0) < 0.12
    pace.note(1.0)
    assert pace.patience(3.0) > 0.8
    for _ in range(50):
        pace.note(10.0)
    assert pace.patience(3.0) == 3.0


def test_visible_peers_above_the_limit_wait_for_their_turn_and_those_above_that_are_dropped():
    peers = many()
    for number in range(MAX_PEERS + 5):
        linked = peers.link(name(number))
        assert (linked is None) == (number >= MAX_PEERS)
    assert len(peers.linked) == MAX_PEERS
    for number in range(MAX_WAITING + 50):
        peers.link(f"{number:064x}")
    assert len(peers._waiting) == MAX_WAITING


def test_every_waiting_peer_gets_a_place_in_time():
    peers = many()
    for number in range(MAX_PEERS + 8):
        peers.link(name(number))
    seen = set(peers.linked)
    for _ in range(200):
        leaver, comer = peers.rotate(0.0)
        assert leaver.id not in peers.linked
        assert comer.id in peers.linked
        assert len(peers.linked) == MAX_PEERS
        seen |= peers.linked.keys()
    assert len(seen) == MAX_PEERS + 8


def test_ignored_and_silent_peers_give_their_places_first():
    peers = many()
    for number in range(MAX_PEERS + 2):
        peers.link(name(number))
    peers.linked[name(7)].failures = 1
    peers.linked[name(9)].ignored_until = 100.0
    assert peers.rotate(50.0)[0].id == name(9)
    assert peers.rotate(50.0)[0].id == name(7)


def test_nobody_gives_a_place_where_nobody_waits():
    peers = many()
    peers.link(name(1))
    assert peers.rotate(0.0) is None


def test_who_waits_and_goes_is_forgotten():
    peers = many()
    for number in range(MAX_PEERS + 1):
        peers.link(name(number))
    assert peers.unlink(name(MAX_PEERS)) is None
    assert peers.rotate(0.0) is None


def test_of_peers_that_are_gone_the_ignored_ones_are_remembered_longest():
    peers = many()
    bad = peers.link("ff" * 32)
    bad.ignored_until = 1000.0
    peers.unlink(bad.id)
    for number in range(MAX_REMEMBERED + 20):
        peers.link(f"{number:064x}")
        peers.unlink(f"{number:064x}")
    assert len(peers.all()) == MAX_REMEMBERED
    assert peers.link(bad.id) is bad


def test_refused_ids_are_remembered_up_to_a_limit_the_oldest_forgotten():
    peer = Peer("aa" * 32, Allowance(1, 1))
    for number in range(MAX_REFUSED + 10):
        peer.refuse(f"{number:064x}", Code.MALFORMED)
    assert len(peer.refused) == MAX_REFUSED
    assert f"{9:064x}" not in peer.refused
    assert f"{10:064x}" in peer.refused


def test_states_are_told_by_id():
    peers = many()
    for number in (3, 1, 2):
        peers.link(name(number))
    peers.unlink(name(2))
    states = peers.states(bytes(32), 0.0)
    assert [state.id for state in states] == sorted(name(number) for number in (1, 2, 3))
    assert {state.id: state.linked for state in states}[name(2)] is False
    assert {state.equal for state in states} == {None}
