"""One exchange under test, and peers that are functions: questions in, answers out, at once, in fake time."""

import random
from collections import deque
from collections.abc import Callable

from benchmarks.exchange_world import Stand, make, name

from stolon.sharing.codes import Refused
from stolon.sharing.exchange import messages
from stolon.sharing.exchange.engine import Exchange
from stolon.sharing.exchange.ports import Action, Ask, Commit, ExchangeSettings

Answer = Callable[[bytes], bytes | None]

ME = name(0)
HOLD = b"(no answer yet)"
"""What a peer's function returns to answer later, by :meth:`End.answer_held`."""


class End:
    """An exchange, its bank, and what its peers say."""

    def __init__(self, *, seed: int = 0, holdings: Stand | None = None, **settings: float) -> None:
        self.holdings = Stand() if holdings is None else holdings
        self.exchange = Exchange(ME, self.holdings, random.Random(seed), ExchangeSettings(**settings))
        self.peers: dict[str, Answer] = {}
        self.log: list[Action] = []
        self.asked: list[tuple[str, messages.Request]] = []
        self.held: list[Ask] = []
        self.now = 1000.0
        self.do(self.exchange.tick(self.now))

    def meet(self, number: int, answer: Answer) -> str:
        """A peer appears."""
        peer = name(number)
        self.peers[peer] = answer
        self.do(self.exchange.linked(peer, self.now))
        return peer

    def leave(self, peer: str) -> None:
        self.do(self.exchange.unlinked(peer, self.now))

    def hear(self, peer: str, fingerprint: bytes = bytes(31) + b"x", count: int = 1) -> None:
        hint = messages.Hint(peer, fingerprint, count).to_bytes()
        self.do(self.exchange.heard(peer, hint, self.now))

    def do(self, actions: list[Action]) -> None:
        """Carry everything out, and what follows from it; no reply takes any time."""
        queue = deque(actions)
        while queue:
            action = queue.popleft()
            self.log.append(action)
            match action:
                case Ask():
                    request = messages.read_request(action.payload)
                    assert not isinstance(request, Refused)
                    self.asked.append((action.peer, request))
                    reply = self.peers[action.peer](action.payload)
                    if reply is HOLD:
                        self.held.append(action)
                    else:
                        queue.extend(self.exchange.answered(action.ticket, reply, self.now))
                case Commit():
                    outcome = self.holdings.commit(action.envelope, action.blobs)
                    refused = outcome if isinstance(outcome, Refused) else None
                    queue.extend(self.exchange.committed(action.id, refused, self.now))

    def run(self, seconds: float) -> None:
        """Let time pass, from one due moment to the next."""
        until = self.now + seconds
        while (due := self.exchange.next_due(self.now)) <= until:
            assert due > self.now - 1e-9 or due == self.now
            self.now = max(due, self.now)
            before = self.exchange.next_due(self.now)
            self.do(self.exchange.tick(self.now))
            if self.exchange.next_due(self.now) <= self.now:
                assert before is not None
                self.now += 1e-6  # no two ticks at one moment for ever
        self.now = until

    def answer_held(self) -> None:
        """Ask the peers again for what they did not answer yet."""
        held, self.held = self.held, []
        for action in held:
            reply = self.peers[action.peer](action.payload)
            self.do(self.exchange.answered(action.ticket, reply, self.now))

    def count(self, kind: type) -> int:
        """Actions of a kind so far."""
        return sum(isinstance(action, kind) for action in self.log)

    def requests(self, kind: type, peer: str | None = None) -> list[messages.Request]:
        """Requests of a kind so far."""
        return [request for whom, request in self.asked if isinstance(request, kind) and peer in (None, whom)]

    def state(self, peer: str):
        return next(one for one in self.exchange.peers(self.now) if one.id == peer)


def honest(holdings: Stand, number: int = 1) -> Answer:
    """A peer that answers as our own exchange would."""
    exchange = Exchange(name(number), holdings, random.Random(number))

    def answer(payload: bytes) -> bytes:
        exchange.changed(0.0)
        return exchange.asked(ME, payload)

    return answer


def stocked(
    *numbers: int, blobs: int = 1, size: int = 100, kind: bytes = b"M", author: bytes = b"L001"
) -> Stand:
    """A bank of stand-ins."""
    stand = Stand()
    for number in numbers:
        rng = random.Random(number)
        envelope, content = make(kind, author, number, [rng.randbytes(size) for _ in range(blobs)])
        assert add(stand, envelope, content)
    return stand


def add(stand: Stand, envelope: bytes, content: dict[str, bytes]) -> str:
    """Put a stand-in into a bank, also one that would be refused."""
    import hashlib

    from benchmarks.exchange_world import TAG

    id_ = hashlib.sha256(envelope[:-TAG]).hexdigest()
    stand.envelopes[id_] = envelope
    stand.blobs.update(content)
    stand._ids = frozenset(stand.envelopes)
    return id_
