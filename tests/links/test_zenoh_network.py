"""Zenoh's link on a bad network: what it promises while connections are cut, silent, slow or spoilt, and after."""

import time
from collections.abc import Iterator

import pytest
from proxy import Network, Proxy
from tests.links.ears import A, B, C, Ears, connected, listening, until


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


def through(network: Network, me: str, to: Ears, *, framed: bool = False, **settings: object):
    """An agent that is connected to another one through a proxy: (context manager of its ears, the proxy)."""
    proxy = network.proxy(int(to.link.endpoints[0].rsplit(":", 1)[1]), framed=framed)
    return listening(me, connect=(f"tcp/127.0.0.1:{proxy.port}",), **settings), proxy


def test_a_connection_that_was_cut_comes_back_by_itself(network: Network):
    with listening(A) as a:
        opening, proxy = through(network, B, a, retry_s=0.1)
        with opening as b:
            assert until(lambda: a.sees(B) and b.sees(A))
            proxy.cut()
            assert until(lambda: not a.sees(B) and not b.sees(A), 3)
            assert b.ask(A, b"?", timeout_s=1) is None
            proxy.heal()
            assert until(lambda: a.sees(B) and b.sees(A), 5)
            assert b.ask(A, b"?") == b"echo ?"


def test_a_silent_peer_is_noticed_and_nobody_else_waits_for_it(network: Network):
    with listening(A, lease_s=2.0) as a, connected(C, a) as c:
        opening, proxy = through(network, B, a, lease_s=2.0)
        with opening:
            assert until(lambda: a.sees(B) and a.sees(C) and c.sees(A))
            proxy.hold()
            began, waited = time.monotonic(), []
            pending: list[bytes | None] = []
            for _ in range(10):
                a.link.ask(B, bytes(60_000), 30.0, pending.append)  # these fill what the kernel takes
            while a.sees(B) and time.monotonic() - began < 8:
                start = time.monotonic()
                a.link.publish(b"hint")
                assert a.ask(C, b"?", timeout_s=2) == b"echo ?"
                assert c.ask(A, b"?", timeout_s=2) == b"echo ?"
                waited.append(time.monotonic() - start)
                time.sleep(0.05)
            assert not a.sees(B), "a frozen peer must be noticed after its lease"
            assert time.monotonic() - began < 6
            assert max(waited) < 1.0, f"somebody waited {max(waited):.2f} s for the silent peer"
            assert until(lambda: pending == [None] * 10)
            proxy.heal()
            assert until(lambda: a.sees(B), 8)


def test_an_endpoint_that_accepts_and_never_answers_delays_neither_opening_nor_closing(network: Network):
    with listening(A) as a, listening(C) as c:
        opening, proxy = through(network, B, a)
        proxy.hold()
        mute = f"tcp/127.0.0.1:{proxy.port}"
        began = time.monotonic()
        with connected(B, c) as b:
            assert until(lambda: b.sees(C))
        with listening(B, connect=(mute, *c.link.endpoints)) as b:
            assert time.monotonic() - began < 2
            assert until(lambda: b.sees(C), 2)
            assert b.ask(C, b"?") == b"echo ?"
            assert not b.sees(A)
            place = b.link.endpoints
            began = time.monotonic()
            b.link.reopen()
            assert time.monotonic() - began < 6
            assert b.link.endpoints == place
            proxy.heal()
            assert until(lambda: b.sees(A), 8)
        del opening


def test_opening_anew_cures_a_connection_that_only_looks_alive(network: Network):
    with listening(A, lease_s=2.0) as a:
        opening, proxy = through(network, B, a, framed=True, lease_s=2.0)
        with opening as b:
            assert until(lambda: a.sees(B) and b.sees(A))
            proxy.starve()
            assert b.ask(A, b"lost", timeout_s=0.5) is None
            time.sleep(2.5)  # longer than the lease: it still looks alive
            assert a.sees(B)
            assert b.sees(A)
            assert b.ask(A, b"lost", timeout_s=0.5) is None
            b.link.reopen()
            assert until(lambda: a.sees(B) and b.sees(A))
            assert b.ask(A, b"there?") == b"echo there?"


def test_spoilt_bytes_break_nothing(network: Network):
    with listening(A) as a, connected(C, a) as c:
        opening, proxy = through(network, B, a, retry_s=0.1)
        with opening as b:
            assert until(lambda: a.sees(B) and c.sees(A))
            proxy.garble(0.2)
            replies = [b.ask(A, b"%d" % number, timeout_s=0.1) for number in range(40)]
            assert c.ask(A, b"?") == b"echo ?"
            proxy.heal()
            assert until(lambda: b.ask(A, b"whole", timeout_s=1) == b"echo whole", 15)
            assert replies.count(None) > 0


def test_a_slow_reader_gets_its_reply_and_others_do_not_wait(network: Network):
    def answer(peer: str, payload: bytes) -> bytes:
        return bytes(int(payload))

    with listening(A, answer=answer) as a, connected(C, a) as c:
        opening, proxy = through(network, B, a)
        proxy.throttle(64_000)
        with opening as b:
            assert until(lambda: b.sees(A) and c.sees(A))
            replies: list[bytes | None] = []
            for _ in range(2):
                b.link.ask(A, b"60000", 10.0, replies.append)
            began = time.monotonic()
            for _ in range(10):
                assert c.ask(A, b"1000000", timeout_s=5) == bytes(1_000_000)
            assert time.monotonic() - began < 1.5
            assert until(lambda: len(replies) == 2)
            assert replies == [bytes(60_000)] * 2


def test_the_proxy_counts_what_passes(network: Network):
    with listening(A, answer=lambda peer, payload: 20 * payload) as a:
        opening, proxy = through(network, B, a)
        with opening as b:
            assert until(lambda: b.sees(A))
            before = proxy.up, proxy.down
            assert len(b.ask(A, bytes(800)) or b"") == 16_000
            # counted once it has been passed on, which the answer can outrun
            assert until(lambda: proxy.up - before[0] > 800 and proxy.down - before[1] > 16_000)
            assert proxy.up - before[0] < 1100
            assert proxy.down - before[1] < 16_300


def test_a_delay_is_a_delay(network: Network):
    with listening(A) as a:
        opening, proxy = through(network, B, a)
        with opening as b:
            assert until(lambda: b.sees(A))
            proxy.delay(0.3)
            began = time.monotonic()
            assert b.ask(A, b"?") == b"echo ?"
            assert time.monotonic() - began > 0.55
            assert isinstance(proxy, Proxy)
