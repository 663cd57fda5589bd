import threading
import time

from stolon.links.zenoh_work import Asks, Workers


def test_each_request_ends_once_by_its_reply():
    asks, replies = Asks(lambda peer, payload, left_s: payload + peer.encode()), []
    done = threading.Semaphore(0)
    for number in range(20):
        asks.ask(f"p{number % 7}", b"%d" % number, 5.0, lambda reply: (replies.append(reply), done.release()))
    for _ in range(20):
        assert done.acquire(timeout=5)
    asks.close()
    assert sorted(replies) == sorted(b"%dp%d" % (number, number % 7) for number in range(20))


def test_a_fetch_that_hangs_for_ever_ends_at_its_deadline_and_leaves_the_others_alone():
    hang = threading.Event()

    def fetch(peer: str, payload: bytes, left_s: float) -> bytes | None:
        if peer == "dead":
            hang.wait(30)
        return payload

    asks, ended = Asks(fetch, threads=2), {}
    began = time.monotonic()
    for name, peer, timeout_s in (("slow", "dead", 0.6), ("quick", "dead", 0.2)):
        asks.ask(
            peer,
            b"",
            timeout_s,
            lambda reply, name=name: ended.setdefault(name, (reply, time.monotonic() - began)),
        )
    # Both threads hang now; a third request waits for one and ends at its own deadline.
    asks.ask(
        "well", b"here", 0.3, lambda reply: ended.setdefault("waiting", (reply, time.monotonic() - began))
    )
    while len(ended) < 3 and time.monotonic() - began < 5:
        time.sleep(0.01)
    assert [reply for reply, _ in ended.values()] == [None] * 3
    assert list(ended) == ["quick", "waiting", "slow"]
    assert ended["quick"][1] >= 0.2
    assert ended["slow"][1] < 2
    hang.set()
    asks.close()


def test_a_silent_peer_takes_only_its_share_of_the_threads():
    hang, done = threading.Event(), threading.Event()

    def fetch(peer: str, payload: bytes, left_s: float) -> bytes | None:
        return b"here" if peer == "well" else hang.wait(30) and None

    asks, silent = Asks(fetch, threads=3, per_peer=2), []
    for _ in range(5):
        asks.ask("dead", b"", 20.0, silent.append)
    assert silent == [None] * 3
    for _ in range(20):
        done.clear()
        asks.ask("well", b"", 5.0, lambda reply: done.set())
        assert done.wait(2)
    hang.set()
    asks.close()


def test_a_late_reply_is_not_told_after_the_deadline():
    go_on, replies = threading.Event(), []

    def fetch(peer: str, payload: bytes, left_s: float) -> bytes | None:
        go_on.wait(30)
        return b"late"

    asks = Asks(fetch)
    asks.ask("p", b"", 0.1, replies.append)
    while not replies:
        time.sleep(0.01)
    go_on.set()
    asks.close()
    time.sleep(0.05)
    assert replies == [None]


def test_fetches_and_continuations_that_fail_are_contained(caplog):
    def fetch(peer: str, payload: bytes, left_s: float) -> bytes | None:
        if peer == "bad":
            raise RuntimeError("in fetch")
        return b"ok"

    def breaks(reply: bytes | None) -> None:
        seen.append(reply)
        raise RuntimeError("in then")

    seen: list[bytes | None] = []
    asks, done = Asks(fetch, threads=1), threading.Event()
    asks.ask("bad", b"", 5.0, seen.append)
    asks.ask("good", b"", 5.0, breaks)
    asks.ask("good", b"", 5.0, lambda reply: done.set())
    assert done.wait(5)
    asks.close()
    assert seen == [None, b"ok"]
    assert "in fetch" in caplog.text
    assert "in then" in caplog.text


def test_too_many_end_at_once_and_so_do_those_after_closing():
    hang, replies = threading.Event(), []
    asks = Asks(lambda peer, payload, left_s: hang.wait(30) and None, threads=1, per_peer=99, waiting=2)
    began = time.monotonic()
    for _ in range(10):
        asks.ask("p", b"", 20.0, replies.append)
    assert len(replies) >= 7  # one under way, two waiting
    asks.close()
    assert replies == [None] * 10
    asks.ask("p", b"", 20.0, replies.append)
    assert len(replies) == 11
    assert time.monotonic() - began < 2
    hang.set()


def test_workers_that_are_closed_take_nothing_and_let_go_of_their_threads():
    workers = Workers("test", threads=3, waiting=4)
    done = threading.Event()
    assert workers.submit(done.set)
    assert done.wait(5)
    workers.close()
    assert not workers.submit(lambda: None)
    for thread in workers.threads:
        thread.join(5)
        assert not thread.is_alive()
