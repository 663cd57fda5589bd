"""Real threads, over a network in memory; every wait is for something that happens, with a limit."""

import logging
import random
import threading
import time

import pytest
from benchmarks.exchange_world import Stand, make, name
from tests.sharing.exchange.ends import add, stocked

from stolon.errors import LinkError
from stolon.links.memory import MemoryLink, MemoryNetwork
from stolon.sharing.codes import Code, Refused
from stolon.sharing.exchange import driver as module
from stolon.sharing.exchange.driver import Driver
from stolon.sharing.exchange.engine import Exchange
from stolon.sharing.exchange.messages import Hint
from stolon.sharing.exchange.ports import ExchangeSettings, GiveUp, Offer, Reopen

QUICK = ExchangeSettings(hint_s=0.5, round_s=0.1, haste_s=0.01)


def until(what, limit_s: float = 20.0) -> None:
    """Wait for something to come true."""
    end = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


@pytest.fixture
def start():
    """Start drivers, and stop them in the end."""
    running: list[Driver] = []

    def begin(number: int, holdings: Stand, link, **callbacks) -> Driver:
        exchange = Exchange(name(number), holdings, random.Random(number), QUICK)
        made = Driver(exchange, holdings, link, **callbacks)
        running.append(made)
        made.start()
        return made

    yield begin
    for one in running:
        one.stop()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stolon-")]


class Scripted:
    """A link that does what a test says."""

    def __init__(self) -> None:
        self.opened = self.closed = self.reopened = 0
        self.published: list[bytes] = []
        self.on_hint = self.on_ask = self.on_peer = None
        self.replies = lambda peer, payload: None
        self.fails = False

    def open(self, me, on_hint, on_ask, on_peer):
        if self.fails:
            raise LinkError("no network")
        self.opened += 1
        self.on_hint, self.on_ask, self.on_peer = on_hint, on_ask, on_peer

    def publish(self, payload):
        self.published.append(payload)

    def ask(self, peer, payload, timeout_s, then):
        then(self.replies(peer, payload))

    def close(self):
        self.closed += 1

    def reopen(self):
        self.reopened += 1
        raise LinkError("still no network")


def test_agents_become_equal_and_are_told_what_came_in(start):
    network = MemoryNetwork()
    banks = [stocked(*range(10 * number, 10 * number + 10)) for number in range(5)]
    everything = frozenset().union(*(bank.ids() for bank in banks))
    told = [set() for _ in banks]
    own = [bank.ids() for bank in banks]
    for number, bank in enumerate(banks):
        start(number, bank, network.link(), on_change=told[number].update)
    until(lambda: all(bank.ids() == everything for bank in banks))
    until(lambda: all(told[number] == everything - own[number] for number in range(5)))


def test_a_change_travels_at_once(start):
    network = MemoryNetwork()
    banks = [Stand(), Stand()]
    drivers = [start(number, bank, network.link()) for number, bank in enumerate(banks)]
    until(lambda: all(len(driver.peers()) == 1 for driver in drivers))
    id_ = add(banks[0], *make(b"M", b"L001", 1, [b"new"]))
    drivers[0].changed()
    until(lambda: id_ in banks[1].ids())
    sent, received = drivers[1].traffic()
    assert received.blob == 4
    assert sent.envelope == 33
    until(lambda: drivers[1].peers()[0].equal)


def test_changes_are_told_together(start):
    network = MemoryNetwork()
    banks = [stocked(*range(40)), Stand()]
    calls = []
    start(0, banks[0], network.link())
    start(1, banks[1], network.link(), on_change=calls.append)
    until(lambda: sum(map(len, calls)) == 40)
    assert len(calls) < 20


def test_starting_and_stopping_twice_is_once_and_it_can_be_started_again(start):
    network = MemoryNetwork()
    banks = [stocked(1), Stand()]
    start(0, banks[0], network.link())
    driver = start(1, banks[1], network.link())
    driver.start()
    assert driver.is_running
    until(lambda: banks[1].ids() == banks[0].ids())
    driver.stop()
    driver.stop()
    assert not driver.is_running
    assert not any(peer.linked for peer in driver.peers())
    add(banks[0], *make(b"M", b"L001", 7, []))
    driver.start()
    until(lambda: banks[1].ids() == banks[0].ids())


def test_what_came_in_last_is_told_before_it_stops(start, monkeypatch):
    monkeypatch.setattr(module, "COALESCE_S", 1000.0)
    network = MemoryNetwork()
    banks = [stocked(1), Stand()]
    calls = []
    start(0, banks[0], network.link())
    driver = start(1, banks[1], network.link(), on_change=calls.append)
    until(lambda: banks[1].ids() == banks[0].ids())
    assert calls == []
    driver.stop()
    assert calls == [banks[0].ids()]


def test_without_a_network_it_does_not_start():
    link = Scripted()
    link.fails = True
    driver = Driver(Exchange(name(0), Stand(), random.Random(0)), Stand(), link)
    with pytest.raises(LinkError, match="no network"):
        driver.start()
    assert not driver.is_running
    driver.stop()
    assert link.closed == 0


def test_it_may_be_stopped_from_within(start):
    network = MemoryNetwork()
    stopped = threading.Event()

    def stop(ids):
        driver.stop()
        stopped.set()

    start(0, stocked(1), network.link())
    driver = start(1, Stand(), network.link(), on_change=stop)
    assert stopped.wait(20)


def test_an_error_in_a_callback_is_logged_and_the_thread_goes_on(start, caplog):
    network = MemoryNetwork()
    bank, mine = stocked(1), Stand()
    calls = []

    def fails(ids):
        calls.append(ids)
        raise ZeroDivisionError("in the callback")

    other = start(0, bank, network.link())
    with caplog.at_level(logging.ERROR):
        start(1, mine, network.link(), on_change=fails)
        until(lambda: len(calls) == 1)
        id_ = add(bank, *make(b"M", b"L001", 7, []))
        other.changed()
        until(lambda: id_ in mine.ids() and len(calls) == 2)
    assert "ZeroDivisionError: in the callback" in caplog.text


@pytest.mark.parametrize("error", [OSError("no space"), KeyError("a bug")])
def test_an_error_of_the_bank_refuses_the_module_and_not_the_others(start, caplog, error):
    class Fails(Stand):
        def commit(self, envelope, blobs):
            if envelope == bad:
                raise error
            return super().commit(envelope, blobs)

    theirs, mine = stocked(*range(3)), Fails()
    bad = max(theirs.envelopes.values())
    network = MemoryNetwork()
    start(0, theirs, network.link())
    fetching = start(1, mine, network.link())._exchange._fetching
    until(lambda: str(error) in caplog.text)
    if isinstance(error, KeyError):
        until(lambda: len(mine.ids()) == 2)
        assert len(fetching.refused) == 1
    else:  # perhaps there will be room: everything pauses, nothing is refused for good
        until(lambda: fetching._full_until > 0)
        assert not fetching.refused


def test_refusals_are_taken_back_to_the_exchange(start):
    class Refuses(Stand):
        times = 0

        def commit(self, envelope, blobs):
            self.times += 1
            return Refused(Code.OVER_QUOTA, "no")

    network, mine = MemoryNetwork(), Refuses()
    start(0, stocked(1), network.link())
    calls = []
    driver = start(1, mine, network.link(), on_change=calls.append)
    until(lambda: mine.times == 1)
    until(lambda: driver.peers()[0].replied is not None)
    assert calls == []


def test_offers_and_giving_up_are_passed_on(start):
    network = MemoryNetwork()
    theirs = stocked(1, author=b"X001")
    offers, ends = [], []
    start(0, theirs, network.link())
    driver = start(1, Stand(), network.link(), on_offer=offers.append, on_give_up=ends.append)
    until(lambda: offers)
    assert isinstance(offers[0], Offer)
    driver._events.put(lambda now: [GiveUp()])
    until(lambda: ends == [GiveUp()])


def test_trust_that_changed_is_passed_on(start):
    class Trusting(Stand):
        trusts = False

        def judge(self, envelope):
            return super().judge(envelope) if self.trusts else Refused(Code.UNKNOWN_AUTHOR, "who?")

    network, mine, offers = MemoryNetwork(), Trusting(), []
    start(0, stocked(1), network.link())
    driver = start(1, mine, network.link(), on_offer=offers.append)
    until(lambda: offers)
    mine.trusts = True
    driver.trust_changed()
    until(lambda: len(mine.ids()) == 1)


def test_a_link_that_cannot_be_opened_anew_is_logged(start, caplog):
    link = Scripted()
    driver = start(0, Stand(), link)
    driver._events.put(lambda now: [Reopen()])
    until(lambda: link.reopened == 1)
    until(lambda: "still no network" in caplog.text)
    assert driver.is_running


def test_a_flood_of_hints_is_one_event_a_peer_and_bounded(start, monkeypatch):
    monkeypatch.setattr(module, "_MAX_HINTERS", 3)
    link = Scripted()
    driver = start(0, Stand(), link)
    gate, begun = threading.Event(), threading.Event()

    def wait(now):
        begun.set()
        gate.wait(20)
        return []

    driver._events.put(wait)
    assert begun.wait(20)
    for step in range(1000):
        for number in range(1, 9):
            link.on_hint(name(number), Hint(name(number), bytes(32), step).to_bytes())
    assert driver._events.qsize() <= 3
    link.on_peer(name(1), True)
    gate.set()
    until(lambda: not driver._hints)
    until(driver.peers)
    link.on_hint(name(1), Hint(name(1), bytes(32), 5).to_bytes())
    until(lambda: driver.peers()[0].count == 5)
    link.on_peer(name(1), False)
    until(lambda: not driver.peers()[0].linked)


def test_questions_are_answered_while_the_thread_is_busy(start):
    network = MemoryNetwork()
    held = threading.Event()
    bank = stocked(1, 2, 3)
    driver = start(0, bank, network.link())
    driver._events.put(lambda now: held.wait(20) * [])
    mine = Stand()
    start(1, mine, network.link())
    until(lambda: mine.ids() == bank.ids())
    held.set()


def test_the_memory_link_is_one(start):
    assert isinstance(MemoryNetwork().link(), MemoryLink)
