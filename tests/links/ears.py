"""An agent without a mind, for the tests of links: it remembers what it hears and answers with an echo."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stolon.links.zenoh import ZenohLink
from stolon.links.zenoh_settings import ZenohSettings

A, B, C, X = (letter * 64 for letter in "abcd")


class Ears:
    def __init__(
        self, me: str, settings: ZenohSettings, answer: Callable[[str, bytes], bytes] | None = None
    ) -> None:
        self.me = me
        self.hints: list[tuple[str, bytes]] = []
        self.asked: list[tuple[str, bytes]] = []
        self.peers: list[tuple[str, bool]] = []
        self.answer = answer or (lambda peer, payload: b"echo " + payload)
        self.link = ZenohLink(settings)

    def open(self) -> "Ears":
        self.link.open(self.me, self._hint, self._ask, self._peer)
        return self

    def _hint(self, peer: str, payload: bytes) -> None:
        self.hints.append((peer, payload))

    def _ask(self, peer: str, payload: bytes) -> bytes:
        self.asked.append((peer, payload))
        return self.answer(peer, payload)

    def _peer(self, peer: str, alive: bool) -> None:
        self.peers.append((peer, alive))

    def sees(self, peer: str) -> bool:
        return dict(self.peers).get(peer, False)

    def ask(self, peer: str, payload: bytes, timeout_s: float = 5.0) -> bytes | None:
        """Ask and wait; fails unless the answer comes exactly once."""
        done, replies = threading.Event(), []

        def then(reply: bytes | None) -> None:
            replies.append(reply)
            done.set()

        self.link.ask(peer, payload, timeout_s, then)
        assert done.wait(timeout_s + 2), "neither a reply nor a time-out"
        assert len(replies) == 1
        return replies[0]


@contextmanager
def listening(
    me: str = A, *, answer: Callable[[str, bytes], bytes] | None = None, **settings: object
) -> Iterator[Ears]:
    ears = Ears(me, ZenohSettings(**settings), answer).open()  # type: ignore[arg-type]
    try:
        yield ears
    finally:
        ears.link.close()


def connected(me: str, *to: Ears, **settings: object):
    return listening(me, connect=tuple(end for ears in to for end in ears.link.endpoints), **settings)


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Wait for a condition; False if it does not come true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(0.01)
    return True
