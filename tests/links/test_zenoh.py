import os
import subprocess
import sys
import threading
import time

import pytest
from tests.links.ears import A, B, C, X, connected, listening, until

from stolon.errors import LinkError
from stolon.links import zenoh as links_zenoh
from stolon.links.zenoh import ANSWERS_PER_PEER, ZenohLink
from stolon.links.zenoh_settings import FLOOD, ZenohSettings
from stolon.sharing.limits import MAX_HINT, MAX_MESSAGE


def test_hints_reach_all_who_are_connected_and_not_their_sender():
    with listening(A) as a, connected(B, a) as b, connected(C, a) as c:
        assert until(lambda: a.sees(B) and a.sees(C) and b.sees(A))
        a.link.publish(b"hint of a")
        b.link.publish(b"hint of b")
        assert until(lambda: len(a.hints) == 1 and len(b.hints) == 1 and len(c.hints) == 1)
        assert (a.hints, b.hints, c.hints) == ([(B, b"hint of b")], [(A, b"hint of a")], [(A, b"hint of a")])


def test_a_request_is_answered_by_the_peer_meant_and_by_nobody_else():
    with listening(A) as a, connected(B, a) as b, connected(C, a) as c:
        assert until(lambda: a.sees(B) and a.sees(C))
        assert a.ask(B, b"you?") == b"echo you?"
        assert (b.asked, c.asked) == ([(A, b"you?")], [])


def test_a_request_to_nobody_ends_without_a_reply_and_soon():
    with listening(A) as a, connected(B, a):
        assert until(lambda: a.sees(B))
        began = time.monotonic()
        assert a.ask(X, b"anyone?", timeout_s=5) is None
        assert a.ask("no id", b"anyone?", timeout_s=5) is None
        assert time.monotonic() - began < 2


def test_a_request_without_a_reply_ends_at_its_time():
    stop = threading.Event()

    def silent(peer: str, payload: bytes) -> bytes:
        stop.wait(10)
        return b"too late"

    with listening(A) as a, connected(B, a, answer=silent):
        assert until(lambda: a.sees(B))
        began = time.monotonic()
        assert a.ask(B, b"?", timeout_s=0.5) is None
        assert 0.4 < time.monotonic() - began < 1.5
        stop.set()


def test_asking_and_publishing_never_block():
    stop = threading.Event()
    replies: list[bytes | None] = []

    def slow(peer: str, payload: bytes) -> bytes:
        stop.wait(10)
        return b"late"

    with listening(A) as a, connected(B, a, answer=slow):
        assert until(lambda: a.sees(B))
        began = time.monotonic()
        for _ in range(200):  # far more than may be under way or wait
            a.link.ask(B, b"?", 2.0, replies.append)
            a.link.publish(b"hint")
        assert time.monotonic() - began < 1.0
        assert until(lambda: len(replies) == 200, 5), "each request ends once"
        stop.set()


def test_one_peer_cannot_take_all_answering_threads():
    stop = threading.Event()

    def slow_for_b(peer: str, payload: bytes) -> bytes:
        if peer == B:
            stop.wait(10)
        return b"here"

    with listening(A, answer=slow_for_b) as a, connected(B, a) as b, connected(C, a) as c:
        assert until(lambda: b.sees(A) and c.sees(A))
        for _ in range(50):
            b.link.ask(A, b"?", 5.0, lambda reply: None)
        assert until(lambda: len(a.asked) == ANSWERS_PER_PEER)
        assert c.ask(A, b"me too", timeout_s=3) == b"here"
        assert len([peer for peer, _ in a.asked if peer == B]) == ANSWERS_PER_PEER
        stop.set()


def test_a_failing_answer_is_no_answer_and_the_link_goes_on():
    def fails_once(peer: str, payload: bytes) -> bytes:
        if payload == b"break":
            raise RuntimeError("ours")
        return b"fine"

    with listening(A, answer=fails_once) as a, connected(B, a) as b:
        assert until(lambda: b.sees(A))
        assert b.ask(A, b"break", timeout_s=3) is None
        assert b.ask(A, b"go on", timeout_s=3) == b"fine"


def test_who_comes_late_is_seen_and_sees_and_who_leaves_is_gone():
    with listening(A) as a:
        with connected(B, a) as b:
            assert until(lambda: a.sees(B) and b.sees(A))
            with connected(C, a, b) as c:
                assert until(lambda: a.sees(C) and b.sees(C) and c.sees(A) and c.sees(B))
        assert until(lambda: not a.sees(B) and not a.sees(C))


def test_an_agent_that_was_not_there_when_we_began_is_met_when_it_comes():
    with listening(B) as first:
        place = first.link.endpoints
    with listening(A, connect=place) as a:
        assert a.ask(B, b"?", timeout_s=1) is None
        with listening(B, listen=place):
            assert until(lambda: a.sees(B))
            assert a.ask(B, b"?") == b"echo ?"


def test_agents_on_a_local_network_find_each_other_where_they_want_to():
    # A population of its own, since other agents on this network may be looking, too.
    alone: dict[str, object] = {"listen": ("tcp/0.0.0.0:0",), "population": f"test-{os.getpid()}"}
    with (
        listening(A, scout=True, **alone) as a,
        listening(C, **alone) as c,
        listening(B, scout=True, **alone) as b,
    ):
        if not until(lambda: a.sees(B), 5):
            pytest.skip("multicast does not work on this machine")
        assert until(lambda: b.sees(A))
        assert a.ask(B, b"?") == b"echo ?"
        assert c.peers == []
        assert c.ask(A, b"?", timeout_s=1) is None


def test_populations_do_not_hear_each_other():
    with (
        listening(A, population="birds") as a,
        connected(B, a, population="fish") as b,
        connected(C, a, population="birds") as c,
    ):
        assert until(lambda: a.sees(C) and c.sees(A))
        a.link.publish(b"for birds")
        assert until(lambda: len(c.hints) == 1)
        assert b.ask(A, b"?", timeout_s=1) is None
        assert (b.hints, b.peers, a.sees(B)) == ([], [], False)


def test_messages_up_to_the_limit_pass_and_larger_ones_do_not():
    sizes = {b"fits": MAX_MESSAGE, b"too large": MAX_MESSAGE + 1}
    with listening(A, answer=lambda peer, payload: bytes(sizes[payload])) as a, connected(B, a) as b:
        assert until(lambda: b.sees(A) and a.sees(B))
        assert b.ask(A, b"fits", timeout_s=10) == bytes(MAX_MESSAGE)
        assert b.ask(A, b"too large", timeout_s=2) is None
        a.link.publish(bytes(MAX_HINT + 1))
        a.link.publish(bytes(MAX_HINT))
        assert until(lambda: len(b.hints) == 1)
        assert b.hints == [(A, bytes(MAX_HINT))]


def test_a_flood_of_hints_is_thinned_and_does_not_drown_others():
    with listening(A) as a, connected(B, a) as b, connected(C, a) as c:
        assert until(lambda: a.sees(B) and a.sees(C) and b.sees(A) and c.sees(A))
        began = time.monotonic()
        for number in range(5):
            for _ in range(1000):
                b.link.publish(b"flood")
            c.link.publish(b"%d" % number)
            time.sleep(0.03)
        assert until(lambda: len([peer for peer, _ in a.hints if peer == C]) == 5)
        took = time.monotonic() - began
        assert 0 < len([peer for peer, _ in a.hints if peer == B]) <= 2 + FLOOD * (took + 0.5)


def open_elsewhere(*endpoints: str) -> None:
    ZenohLink(ZenohSettings(listen=endpoints)).open(B, lambda *_: None, lambda *_: b"", lambda *_: None)


def test_a_port_in_use_and_an_address_of_others_are_named():
    in_use = r"cannot be opened.*Address already in use.*choose a free port"
    with listening(A) as a, pytest.raises(LinkError, match=in_use):
        open_elsewhere(*a.link.endpoints)
    with pytest.raises(LinkError, match=r"cannot be opened \(listening at tcp/192\.0\.2\.1:7447\)"):
        open_elsewhere("tcp/192.0.2.1:7447")


def test_misuse_is_named_and_harmless():
    link = ZenohLink(ZenohSettings())
    with pytest.raises(LinkError, match="64 lower-case hexadecimal"):
        link.open("AB" * 32, lambda *_: None, lambda *_: b"", lambda *_: None)
    with pytest.raises(LinkError, match="never opened"):
        link.reopen()
    link.publish(b"into the void")
    replies: list[bytes | None] = []
    link.ask(A, b"?", 1.0, replies.append)
    assert replies == [None]
    link.close()
    link.close()
    with listening(A) as a, pytest.raises(LinkError, match="open already"):
        a.open()


def test_closing_ends_what_is_under_way_and_nothing_is_heard_after():
    stop = threading.Event()
    replies: list[bytes | None] = []

    def slow(peer: str, payload: bytes) -> bytes:
        stop.wait(10)
        return b"late"

    with listening(B, answer=slow) as b, connected(A, b) as a:
        assert until(lambda: a.sees(B) and b.sees(A))
        for _ in range(20):
            a.link.ask(B, b"?", 30.0, replies.append)
        began = time.monotonic()
        a.link.close()
        assert replies == [None] * 20
        assert time.monotonic() - began < 5
        assert not a.link.endpoints
        assert until(lambda: not b.sees(A))
        stop.set()


def test_closing_does_not_wait_for_ever_for_a_zenoh_that_hangs(monkeypatch: pytest.MonkeyPatch):
    go_on, really_close = threading.Event(), links_zenoh._close
    monkeypatch.setattr(links_zenoh, "CLOSE_S", 0.3)
    monkeypatch.setattr(links_zenoh, "JOIN_S", 0.3)
    monkeypatch.setattr(links_zenoh, "_close", lambda session: (go_on.wait(20), really_close(session)))
    with listening(B) as b, connected(A, b) as a:
        assert until(lambda: a.sees(B))
        replies: list[bytes | None] = []
        a.link.ask(X, b"?", 30.0, replies.append)
        began = time.monotonic()
        a.link.close()
        assert time.monotonic() - began < 3
        assert replies == [None]
        go_on.set()


def test_reopening_keeps_the_place_and_finds_everybody_again():
    with listening(A) as a, connected(B, a) as b:
        assert until(lambda: b.sees(A) and a.sees(B))
        place = a.link.endpoints
        a.link.reopen()
        assert a.link.endpoints == place
        assert until(lambda: a.peers == [(B, True), (B, False), (B, True)]), a.peers
        assert until(lambda: b.peers == [(A, True), (A, False), (A, True)]), b.peers
        assert b.ask(A, b"again?") == b"echo again?"
        assert a.ask(B, b"again?") == b"echo again?"


def test_an_agent_that_is_back_before_its_old_self_is_noticed_missing_stays_visible():
    with listening(A) as a:
        old = connected(B, a)
        old.__enter__()
        assert until(lambda: a.sees(B))
        with connected(B, a) as new:
            assert until(lambda: new.sees(A))
            old.__exit__(None, None, None)
            with connected(C, a):
                assert until(lambda: a.sees(C))  # so the end of the old one has been noticed, too
            assert a.sees(B)
            assert a.ask(B, b"?") == b"echo ?"


SCRIPT = """
import atexit, sys, threading
sys.path.insert(0, {root!r})
from tests.links.ears import A, B, connected, listening, until
atexit.register(lambda: print("left:", [one.name for one in threading.enumerate() if "stolon" in one.name]))
with listening(A) as a, connected(B, a) as b:
    assert until(lambda: a.sees(B))
    assert b.ask(A, b"?") == b"echo ?"
    {end}
print("end of the program")
"""


@pytest.mark.parametrize("end", ["pass", "raise SystemExit(3)", "a.link.close = b.link.close = lambda: None"])
def test_the_process_ends(pytestconfig: pytest.Config, end: str):
    # Also where an exception passes, and where nobody closed the links.
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(root=str(pytestconfig.rootpath), end=end)],
        capture_output=True,
        timeout=20,
        check=False,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == (3 if "Exit" in end else 0), done.stderr
    assert ("end of the program" in done.stdout) == ("Exit" not in end)
    # Our threads would come back from Zenoh into an interpreter that is being taken down, which aborts at times.
    assert "left: []" in done.stdout
