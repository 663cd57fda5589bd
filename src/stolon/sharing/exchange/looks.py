"""Looking at what a peer holds: its fingerprint, then its ids, or those in the buckets that differ."""

import random
from collections.abc import Callable
from typing import Final, final

from stolon.sharing.codes import Code, Refused
from stolon.sharing.exchange.index import Index
from stolon.sharing.exchange.messages import (
    BUCKET_DIGEST,
    BUCKETS,
    Buckets,
    Compare,
    Ids,
    Known,
    ListIds,
    Same,
)
from stolon.sharing.exchange.outbox import Asked, Outbox
from stolon.sharing.exchange.peers import NOTHING, Look, Peer
from stolon.sharing.exchange.ports import ExchangeSettings
from stolon.sharing.exchange.pulls import Pulls
from stolon.sharing.limits import KIB

BUCKETS_AT_ONCE: Final = 32
"""Buckets listed in one reply, so that a set of 100,000 ids fits."""
_LONGEST_WAIT_S: Final = 60.0
BACKLOG: Final = 16
"""With more than this to be fetched, another look is not urgent."""
_IN_VAIN_S: Final = 1.0
_IN_VAIN_BYTES: Final = 64 * KIB
"""After a look in vain a peer waits a second, and another one for each 64 KiB that it listed."""
_BUSY: Final = 5.0
"""While something is being fetched, looks may wait so much longer: what is on its way need not be listed again."""


@final
class Looks:
    """Looks at peers, one request at a time for each of them.

    Args:
        settings: how soon, and how often a lost request is sent again.
        rng: how long a look waits, and in which order things are fetched.
        outbox: takes the requests.
        pulls: takes what is wanted.
        wanted: which of the ids that a peer lists are to be fetched from it.
    """

    def __init__(
        self,
        settings: ExchangeSettings,
        rng: random.Random,
        outbox: Outbox,
        pulls: Pulls,
        wanted: Callable[[Peer, tuple[str, ...]], list[str]],
    ) -> None:
        self._settings = settings
        self._rng = rng
        self._outbox = outbox
        self._pulls = pulls
        self._wanted = wanted
        self._dues: dict[Peer, float] = {}  # when to look at whom

    def soon(self, peer: Peer, now: float) -> None:
        """Look at it within moments, at random: not all agents at the same instant."""
        longest = self._settings.haste_s
        if len(self._pulls) > BACKLOG:
            longest = self._settings.round_s
        elif self._pulls.asked:
            longest *= _BUSY
        at = max(now + self._rng.uniform(0, longest), peer.wait_until)
        self._dues[peer] = min(self._dues.get(peer, at), at)

    def due(self) -> float:
        """When the next look is due."""
        return min(self._dues.values(), default=float("inf"))

    def overdue(self, now: float) -> list[Peer]:
        """Peers to be looked at now."""
        return [peer for peer, due in self._dues.items() if due <= now]

    def begin(self, peer: Peer, index: Index, now: float) -> None:
        """Ask what it holds, unless that is being done, or it is busy with our requests."""
        self._dues.pop(peer, None)
        if peer.is_looking or peer in self._pulls.asked.values():
            return  # what it said last is looked at when that is over: see settle
        if not peer.open:
            peer.look = Look()
        peer.is_looking = True
        self._outbox.ask(peer, Compare(index.fingerprint, peer.known), now)

    def compared(self, asked: Asked, reply: Same | Known | Ids | Buckets, index: Index, now: float) -> None:
        """It answered what it holds."""
        peer = asked.peer
        peer.is_looking = False
        match asked.request, reply:
            case Compare(fingerprint=fingerprint), Same():
                peer.fingerprint = fingerprint
            case _, Known():
                peer.fingerprint = peer.known
            case _, Ids():
                peer.fingerprint = peer.look.fingerprint = reply.fingerprint
                self._note(peer, reply.ids)
            case _:
                assert isinstance(reply, Buckets)
                peer.look.listed += len(reply.digests) * BUCKET_DIGEST
                peer.fingerprint = peer.look.fingerprint = reply.fingerprint
                peer.count = reply.count
                start = self._rng.randrange(BUCKETS)
                order = [(start + step) % BUCKETS for step in range(BUCKETS)]
                peer.look.buckets = [b for b in order if reply.digests[b] != index.digests[b]]
                self._list(peer, now)

    def listed(self, asked: Asked, reply: Ids, now: float) -> Refused | None:
        """It listed the ids of some buckets."""
        assert isinstance(asked.request, ListIds)
        peer = asked.peer
        peer.is_looking = False
        buckets = frozenset(asked.request.buckets)
        if any(int(id_[:2], 16) not in buckets for id_ in reply.ids):
            return Refused(Code.MALFORMED, "it lists ids of buckets that it was not asked for")
        self._note(peer, reply.ids)
        self._list(peer, now)
        return None

    def lost(self, asked: Asked, now: float) -> None:
        """It did not answer."""
        if asked.tries < self._settings.retries:
            self._outbox.ask(asked.peer, asked.request, now, tries=asked.tries + 1)
        else:
            self.fail(asked.peer)

    def fail(self, peer: Peer) -> None:
        """This look leads nowhere."""
        peer.is_looking = False
        peer.look.buckets = []
        peer.look.has_failed = True

    def settle(self, peer: Peer, index: Index, now: float) -> None:
        """Where all that was wanted of it is got or given up: remember so, or look again."""
        look = peer.look
        if peer.is_looking or peer.open or look.fingerprint == NOTHING:
            return
        peer.look = Look()
        if look.gained:
            peer.patience = 0
        else:
            # In vain: it may be catching up itself, and may be lying. A liar's lists cost little this way.
            peer.wait(now + _IN_VAIN_S + look.listed / _IN_VAIN_BYTES)
        if not look.is_complete:
            self.soon(peer, now)
        elif not look.has_failed:
            peer.known = look.fingerprint
        if peer.fingerprint != look.fingerprint and peer.may_differ(index.fingerprint):
            self.soon(peer, now)  # it said something new meanwhile

    def cut_short(self, peer: Peer, now: float) -> None:
        """It wastes our time: next time it has to wait, each time twice as long. What it gives resets that."""
        self.fail(peer)
        peer.patience += 1
        wait = self._settings.round_s * 2 ** min(peer.patience, 10)
        peer.wait(now + min(wait, _LONGEST_WAIT_S))
        self._dues.pop(peer, None)

    def stop(self, peer: Peer) -> None:
        """Do not look at it any more."""
        peer.is_looking = False
        self._dues.pop(peer, None)

    def _list(self, peer: Peer, now: float) -> None:
        """Ask for the next buckets."""
        part, peer.look.buckets = peer.look.buckets[:BUCKETS_AT_ONCE], peer.look.buckets[BUCKETS_AT_ONCE:]
        if part:
            peer.is_looking = True
            self._outbox.ask(peer, ListIds(tuple(sorted(part))), now)

    def _note(self, peer: Peer, ids: tuple[str, ...]) -> None:
        """Queue what is wanted, in random order: agents that fetch the same then help each other sooner."""
        peer.look.listed += len(ids) * 32
        wanted = self._wanted(peer, ids)
        self._rng.shuffle(wanted)
        for id_ in wanted:
            if not self._pulls.note(peer, id_):
                peer.look.is_complete = False
                peer.look.buckets = []
                break
