"""A network inside one process: for tests, and for agents that share a process."""

import heapq
import itertools
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final, final

from stolon.errors import LinkError
from stolon.sharing.exchange.ports import OnAsk, OnHint, OnPeer
from stolon.sharing.limits import MAX_HINT, MAX_MESSAGE

_FOREVER_S: Final = 3600.0


@final
class MemoryNetwork:
    """Connects the links that it makes.

    Each open link has a thread of its own, in which all its callbacks run.

    Args:
        delay_s: how long each message is on its way.
        loss: share of the messages that are lost, 0 to 1; hints, questions and replies each for themselves.
        seed: of which ones are.

    Example:
        >>> import queue
        >>> network = MemoryNetwork()
        >>> one, other = network.link(), network.link()
        >>> one.open("aa" * 32, print, lambda peer, question: b"", lambda peer, alive: None)
        >>> other.open("bb" * 32, print, lambda peer, question: b"an answer", lambda peer, alive: None)
        >>> answers = queue.SimpleQueue()
        >>> one.ask("bb" * 32, b"a question", 10.0, answers.put)
        >>> answers.get()
        b'an answer'
        >>> one.close(), other.close()
        (None, None)
    """

    def __init__(self, *, delay_s: float = 0.0, loss: float = 0.0, seed: int = 0) -> None:
        self._delay_s = delay_s
        self._loss = loss
        self._rng = random.Random(seed)  # noqa: S311 - which messages are lost is no secret
        self._lock = threading.RLock()
        self._members: dict[str, MemoryLink] = {}
        self._cuts: set[frozenset[str]] = set()

    def link(self) -> "MemoryLink":
        """A new link, not yet open."""
        return MemoryLink(self)

    def cut(self, one: str, other: str) -> None:
        """Let nothing through between two agents; each sees the other disappear."""
        with self._lock:
            if frozenset((one, other)) not in self._cuts:
                self._cuts.add(frozenset((one, other)))
                self._tell(one, other, alive=False)

    def heal(self) -> None:
        """Undo all cuts."""
        with self._lock:
            cuts, self._cuts = self._cuts, set()
            for one, other in sorted(tuple(sorted(cut)) for cut in cuts):
                self._tell(one, other, alive=True)

    def freeze(self, agent: str, *, frozen: bool = True) -> None:
        """Stop an agent's link without anybody being told, as SIGSTOP does; or let it go on."""
        with self._lock:
            self._members[agent].freeze(frozen=frozen)

    # The links call these.

    def join(self, link: "MemoryLink", me: str) -> None:
        """A link opens.

        Raises:
            LinkError: somebody of that name is there.
        """
        with self._lock:
            if me in self._members:
                raise LinkError(f"an agent {me} is on this network already; each needs a key of its own")
            self._members[me] = link
            for other in self._members:
                if other != me and frozenset((me, other)) not in self._cuts:
                    self._tell(me, other, alive=True)

    def part(self, me: str) -> None:
        """A link closes."""
        with self._lock:
            del self._members[me]
            for other in self._members:
                if frozenset((me, other)) not in self._cuts:
                    self._members[other].see(me, alive=False)

    def others(self, me: str) -> list[str]:
        """Everybody else on the network."""
        with self._lock:
            return [other for other in self._members if other != me]

    def send(self, sender: str, receiver: str, deliver: Callable[["MemoryLink"], None]) -> bool:
        """Deliver to a member, in its thread, unless lost; False where it is known not to be there."""
        with self._lock:
            link = self._members.get(receiver)
            if link is None or frozenset((sender, receiver)) in self._cuts:
                return False
            if self._rng.random() >= self._loss:
                link.post(self._delay_s, partial(deliver, link))
            return True

    def _tell(self, one: str, other: str, *, alive: bool) -> None:
        if one in self._members and other in self._members:
            self._members[one].see(other, alive=alive)
            self._members[other].see(one, alive=alive)


@final
class MemoryLink:
    """One agent's end of a :class:`MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork) -> None:
        self._network = network
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._waiting: dict[int, Callable[[bytes | None], None]] = {}
        self._is_frozen = False
        self._me = ""
        self._on_hint: OnHint
        self._on_ask: OnAsk
        self._on_peer: OnPeer

    def open(self, me: str, on_hint: OnHint, on_ask: OnAsk, on_peer: OnPeer) -> None:
        """See :meth:`stolon.sharing.exchange.ports.Link.open`.

        Raises:
            LinkError: it is open, or somebody of that name is there.
        """
        if self._thread is not None:
            raise LinkError(f"this link is open already, as {self._me}; close it first")
        self._me, self._on_hint, self._on_ask, self._on_peer = me, on_hint, on_ask, on_peer
        self._due, self._is_frozen = [], False
        self._network.join(self, me)
        self._thread = threading.Thread(target=self._run, name=f"stolon-memory-{me[:8]}", daemon=True)
        self._thread.start()

    def publish(self, payload: bytes) -> None:
        """See :meth:`stolon.sharing.exchange.ports.Link.publish`."""
        if self._thread is None or len(payload) > MAX_HINT:
            return
        me = self._me
        for other in self._network.others(me):
            self._network.send(me, other, lambda link: link._on_hint(me, payload))

    def ask(self, peer: str, payload: bytes, timeout_s: float, then: Callable[[bytes | None], None]) -> None:
        """See :meth:`stolon.sharing.exchange.ports.Link.ask`."""
        if self._thread is None:
            then(None)
            return
        number = next(self._count)
        self._waiting[number] = then
        self.post(timeout_s, partial(self._answer, number, None))
        if not self._network.send(self._me, peer, lambda link: link._asked(self._me, number, payload)):
            self.post(0.0, partial(self._answer, number, None))

    def close(self) -> None:
        """See :meth:`stolon.sharing.exchange.ports.Link.close`."""
        with self._wake:
            thread, self._thread = self._thread, None
            self._wake.notify()
        if thread is None:
            return
        self._network.part(self._me)
        if thread is not threading.current_thread():
            thread.join()
        for number in list(self._waiting):
            self._answer(number, None)

    def reopen(self) -> None:
        """See :meth:`stolon.sharing.exchange.ports.Link.reopen`."""
        self.close()
        self.open(self._me, self._on_hint, self._on_ask, self._on_peer)

    # The network calls these.

    def post(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call something in this link's thread, after a while."""
        with self._wake:
            heapq.heappush(self._due, (time.monotonic() + delay_s, next(self._count), call))
            self._wake.notify()

    def see(self, peer: str, *, alive: bool) -> None:
        """Somebody came or went."""
        self.post(0.0, lambda: self._on_peer(peer, alive))

    def freeze(self, *, frozen: bool) -> None:
        """Stop, or go on."""
        with self._wake:
            self._is_frozen = frozen
            self._wake.notify()

    def _asked(self, asker: str, number: int, payload: bytes) -> None:
        reply = self._on_ask(asker, payload)
        answer = None if len(reply) > MAX_MESSAGE else reply
        self._network.send(self._me, asker, lambda link: link._answer(number, answer))

    def _answer(self, number: int, reply: bytes | None) -> None:
        """End a request, once."""
        then = self._waiting.pop(number, None)
        if then is not None:
            then(reply)

    def _run(self) -> None:
        thread = threading.current_thread()
        while True:
            with self._wake:
                while self._thread is thread and (self._is_frozen or not self._is_due()):
                    left = (
                        self._due[0][0] - time.monotonic()
                        if self._due and not self._is_frozen
                        else _FOREVER_S
                    )
                    self._wake.wait(max(left, 0.0))
                if self._thread is not thread:
                    return
                _, _, call = heapq.heappop(self._due)
            call()

    def _is_due(self) -> bool:
        return bool(self._due) and self._due[0][0] <= time.monotonic()
