"""Threads of the Zenoh link: work that may block is done here, never in Zenoh's threads nor in the caller's.

All threads are daemons: should Zenoh ever hang, the process still ends.
"""

import heapq
import itertools
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

log: Final = logging.getLogger(__name__)

Fetch = Callable[[str, bytes, float], bytes | None]
"""Called with (peer, request, seconds left); blocks until there is a reply or None."""

Then = Callable[[bytes | None], None]


class Workers:
    """A fixed number of threads that do what is handed to them, in order, with bounded waiting.

    Args:
        name: of the threads, for people who look at them.
        threads: how many.
        waiting: how many jobs may wait for one.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(waiting + threads)
        self._waiting = waiting
        self.threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]
        self._closed = False
        for thread in self.threads:
            thread.start()

    def submit(self, job: Callable[[], None]) -> bool:
        """Hand a job over; False, and nothing is done, where too many wait already or after :meth:`close`."""
        if self._closed or self._jobs.qsize() >= self._waiting:
            return False
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            return False
        return True

    def close(self) -> None:
        """Let go of the threads once they are idle; waits for none. What still waits is dropped."""
        self._closed = True
        with suppress(queue.Empty):
            while True:
                self._jobs.get_nowait()
        for _ in self.threads:
            with suppress(queue.Full):
                self._jobs.put_nowait(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None and not self._closed:
            try:
                job()
            except Exception:
                log.exception("a link's job failed; the link goes on")


@dataclass(order=True)
class _Pending:
    deadline: float
    number: int
    then: Then = field(compare=False)
    is_open: bool = field(compare=False, default=True)


class Asks:
    """Requests under way: each ends exactly once, by its reply, its deadline or :meth:`close`.

    The deadline is kept here and not left to Zenoh, so that it also holds when Zenoh hangs.

    Args:
        fetch: does the asking and blocks; called from one of the threads.
        threads: how many requests may be under way at once.
        per_peer: how many of one peer may be under way or wait, so that a silent one does not take all threads;
            the next one ends with None at once.
        waiting: how many may wait for their turn; likewise.
    """

    def __init__(self, fetch: Fetch, *, threads: int = 16, per_peer: int = 4, waiting: int = 64) -> None:
        self._fetch = fetch
        self._per_peer = per_peer
        self._of_peer: Counter[str] = Counter()
        self._workers = Workers("stolon-link-ask", threads, waiting)
        self._changed = threading.Condition()
        self._heap: list[_Pending] = []
        self._numbers = itertools.count()
        self._closed = False
        self._watch = threading.Thread(
            target=self._watch_deadlines, name="stolon-link-deadlines", daemon=True
        )
        self._watch.start()

    def ask(self, peer: str, payload: bytes, timeout_s: float, then: Then) -> None:
        """Begin a request; never blocks, never raises. ``then`` is called once, from any thread."""
        pending = _Pending(time.monotonic() + timeout_s, next(self._numbers), then)
        with self._changed:
            has_room = not self._closed and self._of_peer[peer] < self._per_peer
            if has_room:
                self._of_peer[peer] += 1
                heapq.heappush(self._heap, pending)
                self._changed.notify()
        if not has_room:
            self._end(pending, None)
        elif not self._workers.submit(lambda: self._run(pending, peer, payload)):
            self._leave(peer)
            self._end(pending, None)

    @property
    def threads(self) -> list[threading.Thread]:
        """Of the requests and their deadlines; they end soon after :meth:`close`."""
        return [*self._workers.threads, self._watch]

    def close(self) -> None:
        """End everything under way with None."""
        with self._changed:
            self._closed = True
            left, self._heap = self._heap, []
            self._changed.notify()
        self._workers.close()
        for pending in left:
            self._end(pending, None)

    def _run(self, pending: _Pending, peer: str, payload: bytes) -> None:
        left_s = pending.deadline - time.monotonic()
        reply: bytes | None = None
        try:
            if pending.is_open and left_s > 0:
                reply = self._fetch(peer, payload, left_s)
        finally:
            self._leave(peer)
            self._end(pending, reply)

    def _leave(self, peer: str) -> None:
        with self._changed:
            self._of_peer[peer] -= 1
            if not self._of_peer[peer]:
                del self._of_peer[peer]

    def _end(self, pending: _Pending, reply: bytes | None) -> None:
        with self._changed:
            was_open, pending.is_open = pending.is_open, False
        if was_open:
            try:
                pending.then(reply)
            except Exception:
                log.exception("what was to be done with a reply failed; the link goes on")

    def _watch_deadlines(self) -> None:
        while True:
            with self._changed:
                while self._heap and not self._heap[0].is_open:
                    heapq.heappop(self._heap)
                if self._closed:
                    return
                left_s = self._heap[0].deadline - time.monotonic() if self._heap else None
                if left_s is None or left_s > 0:
                    self._changed.wait(left_s)
                    continue
                late = heapq.heappop(self._heap)
            self._end(late, None)
