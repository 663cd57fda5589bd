import queue
import threading
import time

import pytest

from stolon.errors import LinkError
from stolon.links.memory import MemoryNetwork
from stolon.sharing.limits import MAX_HINT, MAX_MESSAGE

A, B, C = "aa" * 32, "bb" * 32, "cc" * 32


class Ear:
    """An open link, and what was heard on it."""

    def __init__(
        self, network: MemoryNetwork, me: str, answer=lambda peer, payload: b"yes: " + payload
    ) -> None:
        self.hints, self.peers, self.replies = queue.SimpleQueue(), queue.SimpleQueue(), queue.SimpleQueue()
        self.link = network.link()
        self.answer = answer
        self.link.open(
            me,
            lambda peer, payload: self.hints.put((peer, payload)),
            lambda peer, payload: self.answer(peer, payload),  # noqa: PLW0108 - it may be replaced later
            lambda peer, alive: self.peers.put((peer, alive)),
        )

    def ask(self, peer: str, payload: bytes = b"?", timeout_s: float = 20.0):
        self.link.ask(peer, payload, timeout_s, self.replies.put)
        return self.replies.get(timeout=20)


@pytest.fixture
def network():
    made = MemoryNetwork()
    yield made
    for link in list(made._members.values()):
        link.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stolon-memory")]


def test_peers_see_each_other_come_and_go(network):
    one = Ear(network, A)
    other = Ear(network, B)
    assert one.peers.get(timeout=20) == (B, True)
    assert other.peers.get(timeout=20) == (A, True)
    other.link.close()
    assert one.peers.get(timeout=20) == (B, False)


def test_hints_reach_everybody_else(network):
    ears = [Ear(network, me) for me in (A, B, C)]
    ears[0].link.publish(b"hello")
    assert ears[1].hints.get(timeout=20) == (A, b"hello")
    assert ears[2].hints.get(timeout=20) == (A, b"hello")
    assert ears[0].hints.empty()


def test_hints_above_their_limit_are_dropped(network):
    one, other = Ear(network, A), Ear(network, B)
    one.link.publish(bytes(MAX_HINT + 1))
    one.link.publish(bytes(MAX_HINT))
    assert other.hints.get(timeout=20) == (A, bytes(MAX_HINT))


def test_questions_are_answered(network):
    one, _ = Ear(network, A), Ear(network, B)
    assert one.ask(B, b"are you there?") == b"yes: are you there?"


def test_nobody_there_no_answer_at_once(network):
    assert Ear(network, A).ask(B, timeout_s=3600) is None


def test_an_answer_above_the_limit_is_none(network):
    one = Ear(network, A)
    other = Ear(network, B, answer=lambda peer, payload: bytes(MAX_MESSAGE + 1))
    assert one.ask(B) is None
    other.answer = lambda peer, payload: bytes(MAX_MESSAGE)
    assert len(one.ask(B)) == MAX_MESSAGE


def test_a_frozen_peer_is_seen_and_does_not_answer_until_it_goes_on(network):
    one, other = Ear(network, A), Ear(network, B)
    network.freeze(B)
    assert one.ask(B, timeout_s=0.05) is None
    assert one.peers.get(timeout=20) == (B, True)
    one.link.publish(b"hello")
    network.freeze(B, frozen=False)
    assert other.hints.get(timeout=20) == (A, b"hello")
    assert one.ask(B) == b"yes: ?"


def test_then_is_called_once_though_the_answer_comes_late(network):
    gate = threading.Event()
    one = Ear(network, A)
    Ear(network, B, answer=lambda peer, payload: b"late" if gate.wait(20) else b"")
    assert one.ask(B, timeout_s=0.02) is None
    gate.set()
    assert one.ask(B) == b"late"
    assert one.replies.empty()


def test_what_is_cut_off_is_gone_and_comes_back(network):
    one, other, third = Ear(network, A), Ear(network, B), Ear(network, C)
    network.cut(A, B)
    network.cut(B, A)
    assert one.ask(B) is None
    one.link.publish(b"hello")
    assert third.hints.get(timeout=20) == (A, b"hello")
    network.heal()
    seen = [one.peers.get(timeout=20) for _ in range(4)]
    assert seen == [(B, True), (C, True), (B, False), (B, True)]
    assert one.ask(B) == b"yes: ?"
    assert other.hints.empty()


def test_who_joins_or_leaves_during_a_cut_is_not_seen_across_it(network):
    one = Ear(network, A)
    network.cut(A, B)
    other = Ear(network, B)
    other.link.close()
    Ear(network, C)
    assert one.peers.get(timeout=20) == (C, True)


def test_lost_messages_end_at_their_time(network):
    losing = MemoryNetwork(loss=1.0)
    one, other = Ear(losing, A), Ear(losing, B)
    assert one.ask(B, timeout_s=0.02) is None
    one.link.close()
    other.link.close()


def test_messages_take_their_time():
    slow = MemoryNetwork(delay_s=0.05)
    one, other = Ear(slow, A), Ear(slow, B)
    begin = time.monotonic()
    assert one.ask(B) == b"yes: ?"
    assert time.monotonic() - begin >= 0.1
    one.link.close()
    other.link.close()


def test_closing_ends_what_was_asked_and_may_be_repeated(network):
    one = Ear(network, A)
    Ear(network, B)
    network.freeze(B)
    one.link.ask(B, b"?", 3600, one.replies.put)
    one.link.close()
    one.link.close()
    assert one.replies.get_nowait() is None
    one.link.ask(B, b"?", 3600, one.replies.put)
    assert one.replies.get_nowait() is None
    one.link.publish(b"to nobody")


def test_a_link_may_be_closed_from_its_own_callback(network):
    closed = threading.Event()
    link = network.link()

    def leave(peer, alive):
        link.close()
        closed.set()

    link.open(A, lambda *_: None, lambda *_: b"", leave)
    Ear(network, B)
    assert closed.wait(20)


def test_opened_anew_everybody_is_seen_again(network):
    one, other = Ear(network, A), Ear(network, B)
    assert one.peers.get(timeout=20) == (B, True)
    one.link.reopen()
    assert one.peers.get(timeout=20) == (B, True)
    assert [other.peers.get(timeout=20) for _ in range(3)] == [(A, True), (A, False), (A, True)]
    assert one.ask(B) == b"yes: ?"


def test_a_name_is_used_once_and_a_link_opened_once(network):
    one = Ear(network, A)
    with pytest.raises(LinkError, match="a key of its own"):
        Ear(network, A)
    with pytest.raises(LinkError, match="open already"):
        one.link.open(B, lambda *_: None, lambda *_: b"", lambda *_: None)
