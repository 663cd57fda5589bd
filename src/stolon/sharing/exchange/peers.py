"""What is remembered of each peer: what it said, how it behaves, and for how long it is ignored."""

import random
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final, final

from stolon.sharing.codes import Code
from stolon.sharing.exchange.ports import ExchangeSettings, PeerState
from stolon.sharing.limits import CHUNK, HINT_BURST, HINTS_PER_SECOND, MAX_PEERS

MAX_REMEMBERED: Final = 256
"""Peers that are gone and of whom is remembered how they behaved."""
MAX_WAITING: Final = 1024
"""Visible peers beyond the limit, who wait for their turn."""
MAX_REFUSED: Final = 2048
"""Ids, for each peer, whose envelopes were refused and are not fetched from it again."""
NOTHING: Final = bytes(32)
"""The fingerprint of no set: that of a peer at which was never looked."""
PIECE: Final = CHUNK // 8
"""What is asked of a blob at first; more from quick peers, less from slow ones."""
_DOUBTFUL: Final = 2


@final
class Allowance:
    """So many things per second, and a few at once (a token bucket).

    Args:
        rate: per second, on average.
        burst: at once, after a pause.
    """

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._left = burst
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Use one up, if there is one."""
        if self._at is not None:
            self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


@final
class Pace:
    """How quickly a peer answers small requests (RFC 6298's estimate of a time-out)."""

    __slots__ = ("_mean", "_spread")

    def __init__(self) -> None:
        self._mean: float | None = None
        self._spread = 0.0

    def note(self, seconds: float) -> None:
        """A reply took so long."""
        if self._mean is None:
            self._mean, self._spread = seconds, seconds / 2
        else:
            self._spread += (abs(seconds - self._mean) - self._spread) / 4
            self._mean += (seconds - self._mean) / 8

    def patience(self, most: float) -> float:
        """Seconds after which a reply is late; ``most`` where none ever came."""
        return most if self._mean is None else min(self._mean + 4 * self._spread, most)


@dataclass(slots=True)
class Look:
    """One look at what a peer holds, and how fetching from it goes.

    Attributes:
        fingerprint: of what was listed.
        buckets: numbers of the buckets that remain to be listed.
        is_complete: everything wanted was noted; False where there was too much for one look.
        has_failed: something wanted was not got, so it is worth looking again.
        listed: bytes of the listing.
        gained: modules and revocations taken in.
        absent: envelopes and blobs that the peer listed but did not have.
        junk: bytes of envelopes that we had no use for.
    """

    fingerprint: bytes = NOTHING
    buckets: list[int] = field(default_factory=list)
    is_complete: bool = True
    has_failed: bool = False
    listed: int = 0
    gained: int = 0
    absent: int = 0
    junk: int = 0


@dataclass(slots=True, eq=False)
class Peer:
    """What is remembered of one peer. Times are of the exchange's clock.

    Attributes:
        id: its public key, as it says.
        hints: how many hints it may still send.
        heard: when it last said anything.
        replied: when it last answered properly.
        fingerprint: of what it holds, by its last word.
        count: how much it says it holds.
        known: fingerprint at which there was nothing left to want of it.
        is_looking: a request for a listing is under way.
        look: the last one.
        open: ids that it listed and that are neither got nor given up; an ordered set.
        queue: those of them to be asked for next.
        pace: how quickly it answers.
        failures: requests in a row that it left unanswered.
        piece: bytes of a blob to ask it for at once.
        drag: how much slower than expected its pieces come.
        quick: such pieces in a row that came quickly.
        patience: looks in a row that were cut short.
        wait_until: no look before this time.
        strikes: when it sent bad messages.
        bans: how often it was ignored.
        ignored_until: it is ignored until then.
        refused: ids whose envelopes from it were refused, with why; oldest first.
        pulled: modules and revocations taken from it.
        turn: when it was last asked for something, counted in requests.
    """

    id: str
    hints: Allowance
    heard: float | None = None
    replied: float | None = None
    fingerprint: bytes | None = None
    count: int | None = None
    known: bytes = NOTHING
    is_looking: bool = False
    look: Look = field(default_factory=Look)
    open: dict[str, None] = field(default_factory=dict)
    queue: deque[str] = field(default_factory=deque)
    pace: Pace = field(default_factory=Pace)
    failures: int = 0
    piece: int = PIECE
    drag: float = 1.0
    quick: int = 0
    patience: int = 0
    wait_until: float = float("-inf")
    strikes: deque[float] = field(default_factory=deque)
    bans: int = 0
    ignored_until: float = float("-inf")
    refused: OrderedDict[str, Code] = field(default_factory=OrderedDict)
    pulled: int = 0
    turn: int = 0

    @property
    def is_doubtful(self) -> bool:
        """It did not answer of late, or did not have what it listed: it may not hold up what others could give."""
        return self.failures >= _DOUBTFUL or self.patience > 0 or self.look.absent > 0

    def may_differ(self, fingerprint: bytes) -> bool:
        """Whether it said to hold something that may be new to a holder of ``fingerprint``."""
        return self.fingerprint not in (None, fingerprint, self.known)

    def wait(self, until: float) -> None:
        """Do not look at it before that time."""
        self.wait_until = max(self.wait_until, until)

    def refuse(self, id_: str, code: Code) -> None:
        """Remember that this peer's envelope of that id is of no use."""
        self.refused[id_] = code
        if len(self.refused) > MAX_REFUSED:
            self.refused.popitem(last=False)

    def reset(self) -> None:
        """Forget what it holds."""
        self.look, self.fingerprint, self.known = Look(), None, NOTHING


@final
class Peers:
    """The peers that are visible, at most 64 at a time, and a memory of those that were.

    Where more are visible, the others wait, and each round one of them takes another's place: a crowd of
    invented peers can slow the way to an honest one, not close it.

    Args:
        settings: how bad messages are counted.
        rng: picks who takes whose place.
    """

    def __init__(self, settings: ExchangeSettings, rng: random.Random) -> None:
        self.linked: dict[str, Peer] = {}
        self._settings = settings
        self._rng = rng
        self._waiting: dict[str, None] = {}
        self._gone: OrderedDict[str, Peer] = OrderedDict()

    def link(self, id_: str) -> Peer | None:
        """A peer became visible; the peer, or None where it waits or is known to be there."""
        if id_ in self.linked or id_ in self._waiting:
            return None
        if len(self.linked) >= MAX_PEERS:
            if len(self._waiting) < MAX_WAITING:
                self._waiting[id_] = None
            return None
        peer = self._gone.pop(id_, None) or Peer(id_, Allowance(HINTS_PER_SECOND, HINT_BURST))
        self.linked[id_] = peer
        return peer

    def unlink(self, id_: str) -> Peer | None:
        """A peer is gone; the peer, or None where nothing was under way with it."""
        self._waiting.pop(id_, None)
        peer = self.linked.pop(id_, None)
        if peer is not None:
            self._gone[id_] = peer
            if len(self._gone) > MAX_REMEMBERED:
                # Those who are ignored go last: being forgotten would free them.
                least = min(self._gone.values(), key=lambda peer: peer.ignored_until)
                del self._gone[least.id]
        return peer

    def rotate(self, now: float) -> tuple[Peer, Peer] | None:
        """Where some wait, one takes another's place; (who left, who came).

        Ignored and unanswering peers leave first.
        """
        if not self._waiting:
            return None
        leaver = max(
            self.linked.values(),
            key=lambda peer: (self.is_ignored(peer, now), peer.failures > 0, self._rng.random()),
        )
        id_ = self._rng.choice(list(self._waiting))
        del self._waiting[id_]
        self.unlink(leaver.id)
        comer = self.link(id_)
        assert comer is not None
        self._waiting[leaver.id] = None
        return leaver, comer

    def all(self) -> list[Peer]:
        """Those who are visible and those who were."""
        return [*self.linked.values(), *self._gone.values()]

    def is_ignored(self, peer: Peer, now: float) -> bool:
        """Whether the peer is being ignored for its bad messages."""
        return now < peer.ignored_until

    def strike(self, peer: Peer, now: float) -> bool:
        """Count a bad message; True where the peer is to be ignored from now on."""
        settings = self._settings
        self._forget_strikes(peer, now)
        peer.strikes.append(now)
        if len(peer.strikes) < settings.strikes:
            return False
        # 2**20 times anything is above the longest already; the power itself must not overflow.
        length = min(settings.ignore_s * 2 ** min(peer.bans, 20), settings.ignore_most_s)
        peer.ignored_until = now + length
        peer.bans += 1
        peer.strikes.clear()
        return True

    def states(self, fingerprint: bytes, now: float) -> tuple[PeerState, ...]:
        """All peers as people see them, by id."""
        found = sorted(self.all(), key=lambda peer: peer.id)
        return tuple(self._state(peer, fingerprint, now) for peer in found)

    def _state(self, peer: Peer, fingerprint: bytes, now: float) -> PeerState:
        since = now - self._settings.strike_s
        return PeerState(
            id=peer.id,
            linked=peer.id in self.linked,
            heard=peer.heard,
            replied=peer.replied,
            equal=None if peer.fingerprint is None else peer.fingerprint == fingerprint,
            count=peer.count,
            pulled=peer.pulled,
            rejects=sum(1 for at in tuple(peer.strikes) if at > since),
            ignored_until=peer.ignored_until if self.is_ignored(peer, now) else None,
        )

    def _forget_strikes(self, peer: Peer, now: float) -> None:
        while peer.strikes and peer.strikes[0] <= now - self._settings.strike_s:
            peer.strikes.popleft()
