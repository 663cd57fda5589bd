"""Requests under way and actions to be given back."""

from dataclasses import dataclass
from typing import Final, final

from stolon.sharing.exchange.messages import GetBlob, Request
from stolon.sharing.exchange.peers import Peer
from stolon.sharing.exchange.ports import Action, Ask, ExchangeSettings
from stolon.sharing.exchange.pulls import Pull
from stolon.sharing.exchange.traffic import Counter, kind_of
from stolon.sharing.limits import KIB

LEAST_TIMEOUT_S: Final = 0.3
SLOW_BYTES_S: Final = 64 * KIB
"""A piece of a blob is given the time that it takes at this rate: asking again too early would double the bytes."""
_GRACE_S: Final = 1.0
"""A link tells itself that a reply did not come; so long after that it is not waited for any more."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A request under way.

    Attributes:
        peer: whom it went to.
        request: what was asked.
        pull: what it is for; None where it is for a listing.
        at: when it was sent.
        deadline: when it counts as lost, whatever the link says.
        tries: how often it was lost before.
    """

    peer: Peer
    request: Request
    pull: Pull | None
    at: float
    deadline: float
    tries: int


@final
class Outbox:
    """Numbers requests, and collects actions until they are taken.

    Args:
        settings: the time that replies are given.
    """

    def __init__(self, settings: ExchangeSettings) -> None:
        self.sent = Counter()
        self._settings = settings
        self._asked: dict[int, Asked] = {}
        self._actions: list[Action] = []
        self._tickets = 0

    def do(self, action: Action) -> None:
        """Add an action."""
        self._actions.append(action)

    def take(self) -> list[Action]:
        """All actions since the last time."""
        actions, self._actions = self._actions, []
        return actions

    def ask(
        self, peer: Peer, request: Request, now: float, *, pull: Pull | None = None, tries: int = 0
    ) -> None:
        """Send a request."""
        settings = self._settings
        most = settings.index_timeout_s
        timeout = max(peer.pace.patience(most), LEAST_TIMEOUT_S) * (1 << tries)
        if isinstance(request, GetBlob):
            timeout, most = timeout + request.length / SLOW_BYTES_S * peer.drag, settings.blob_timeout_s
        timeout = min(timeout, most)
        self._tickets += 1
        self._asked[self._tickets] = Asked(peer, request, pull, now, now + timeout + _GRACE_S, tries)
        payload = request.to_bytes()
        self.sent.add(kind_of(request), len(payload))
        self.do(Ask(peer.id, self._tickets, payload, timeout))

    def close(self, ticket: int) -> Asked | None:
        """A request is over; what it was, or None where nobody waits for it any more."""
        return self._asked.pop(ticket, None)

    def forget(self, peer: Peer) -> None:
        """Nobody waits for this peer's replies any more."""
        for ticket in [ticket for ticket, asked in self._asked.items() if asked.peer is peer]:
            del self._asked[ticket]

    def overdue(self, now: float) -> list[int]:
        """Tickets of the requests that count as lost."""
        return [ticket for ticket, asked in self._asked.items() if asked.deadline <= now]

    def due(self) -> float:
        """When the next request counts as lost."""
        return min((asked.deadline for asked in self._asked.values()), default=float("inf"))
