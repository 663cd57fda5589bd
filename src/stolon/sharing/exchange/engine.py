"""The exchange: a state machine that makes the banks of agents equal, without input or output of its own.

Each agent hints to all what it holds, looks at one random peer after the other, and fetches what it lacks
(reliability.md 4.4). Sets, hashes and counters decide; no two clocks are compared.

Every event gives back the actions that it calls for. The same events with the same random generator give the
same actions: time comes from arguments, and no set's order decides anything.
"""

import logging
import random
from typing import Final, final

from stolon.sharing.codes import Code, Refused
from stolon.sharing.exchange.answers import Answers
from stolon.sharing.exchange.fetching import Fetching
from stolon.sharing.exchange.index import Index
from stolon.sharing.exchange.looks import Looks
from stolon.sharing.exchange.messages import (
    Absent,
    Buckets,
    Compare,
    EnvelopeIs,
    GetBlob,
    GetEnvelope,
    Hint,
    Ids,
    Known,
    ListIds,
    Piece,
    Reply,
    Same,
    read_hint,
    read_reply,
)
from stolon.sharing.exchange.outbox import Asked, Outbox
from stolon.sharing.exchange.peers import NOTHING, Allowance, Peer, Peers
from stolon.sharing.exchange.ports import (
    Action,
    ExchangeSettings,
    Holdings,
    PeerState,
    Publish,
    Traffic,
)
from stolon.sharing.exchange.pulls import Pulls
from stolon.sharing.exchange.traffic import Counter, kind_of
from stolon.sharing.exchange.watchdog import Watchdog
from stolon.sharing.limits import HINT_BURST, HINTS_PER_SECOND

_log = logging.getLogger(__name__)
_DIFFERING: Final = 0.75
"""Share of rounds that go to a peer that said to hold something else, if there is one. Not all: hints lie."""


@final
class Exchange:
    """Makes what is held here equal to what peers hold.

    All methods but :meth:`asked` and :meth:`peers` are for one thread.

    Args:
        me: this agent's public key.
        holdings: the bank.
        rng: makes every random choice.
        settings: times and counts.
    """

    def __init__(
        self, me: str, holdings: Holdings, rng: random.Random, settings: ExchangeSettings | None = None
    ) -> None:
        settings = settings or ExchangeSettings()
        self._me = me
        self._holdings = holdings
        self._rng = rng
        self._settings = settings
        self._index = Index.of(holdings.ids())
        self._answers = Answers(holdings, self._index)
        self._received = Counter()
        self._outbox = Outbox(settings)
        self._peers = Peers(settings, rng)
        self._pulls = Pulls()
        self._fetching = Fetching(settings, holdings, self._outbox, self._pulls)
        self._looks = Looks(settings, rng, self._outbox, self._pulls, self._wanted)
        self._watchdog = Watchdog(settings)
        # Half of what receivers allow: none of ours is ever dropped for being one too many.
        self._hints = Allowance(HINTS_PER_SECOND, HINT_BURST // 2)
        self._hint_at: float | None = None
        self._round_at: float | None = None
        self._due: float | None = None  # of the next tick; None: to be found out

    @property
    def me(self) -> str:
        """This agent's public key."""
        return self._me

    def next_due(self, now: float) -> float:
        """When :meth:`tick` is to be called at the latest; at once where it never was."""
        if self._hint_at is None or self._round_at is None:
            return now
        if self._due is None:
            self._due = min(
                self._hint_at,
                self._round_at,
                self._looks.due(),
                self._outbox.due(),
                self._watchdog.due(),
                self._fetching.due(now),
            )
        return self._due

    def tick(self, now: float) -> list[Action]:
        """Time has passed."""
        for ticket in self._outbox.overdue(now):
            self._answered(ticket, None, now)
        for peer in self._looks.overdue(now):
            if self._peers.is_ignored(peer, now):
                self._looks.stop(peer)
            else:
                self._looks.begin(peer, self._index, now)
        if self._round_at is None or self._round_at <= now:
            if self._round_at is not None:
                if self._refresh():  # a damaged module was set aside, or another process wrote
                    self._hint(now)
                self._round(now)
            self._round_at = now + self._varied(self._settings.round_s)
        if self._hint_at is None or self._hint_at <= now:
            self._hint(now)
        linked = self._peers.linked.values()
        have_answered = any(peer.replied is not None for peer in linked)
        alarm = self._watchdog.check(now, are_visible=bool(linked), have_answered=have_answered)
        if alarm is not None:
            _log.warning("%d peers are visible, none answers: %s", len(linked), type(alarm).__name__)
            self._outbox.do(alarm)
        return self._finish(now)

    def changed(self, now: float) -> list[Action]:
        """What is held has changed: all peers are told at once."""
        if self._refresh():
            self._hint(now)
        return self._finish(now)

    def trust_changed(self, now: float) -> list[Action]:
        """Who is trusted has changed: what was refused is looked at again."""
        self._fetching.forget()
        for peer in self._peers.all():
            peer.refused.clear()
            peer.known, peer.patience, peer.wait_until = NOTHING, 0, now
        actions = self.changed(now)
        for peer in self._peers.linked.values():
            if peer.may_differ(self._index.fingerprint):
                self._looks.soon(peer, now)
                self._due = None
        return actions

    def heard(self, peer_id: str, payload: bytes, now: float) -> list[Action]:
        """A hint came. Bad ones are dropped without blame: nothing proves who sent them."""
        self._received.add("hint", len(payload))
        peer = self._peers.linked.get(peer_id)
        if peer is None or not peer.hints.take(now) or self._peers.is_ignored(peer, now):
            return []
        hint = read_hint(payload)
        if isinstance(hint, Refused) or hint.me != peer_id:
            return []
        peer.heard = now
        peer.fingerprint, peer.count = hint.fingerprint, hint.count
        if peer.may_differ(self._index.fingerprint):
            self._looks.soon(peer, now)
            self._due = None
        return []

    def asked(self, peer_id: str, payload: bytes) -> bytes:  # noqa: ARG002 - anybody may ask
        """The reply to a peer's request; from any thread. Whoever asks, the answer is the same."""
        return self._answers.answer(payload)

    def answered(self, ticket: int, payload: bytes | None, now: float) -> list[Action]:
        """A reply came, or is known not to come (None)."""
        self._answered(ticket, payload, now)
        return self._finish(now)

    def committed(self, id_: str, refused: Refused | None, now: float) -> list[Action]:
        """The bank has taken something in, or refused it."""
        pull = self._pulls.get(id_)
        if pull is not None and pull.is_committing:
            linked = self._peers.linked
            sources = [linked[peer] for peer in pull.sources]
            self._fetching.committed(pull, refused, sources, now)
            teller = linked.get(pull.teller)
            if refused is not None and refused.code.is_reject and teller is not None:
                self._blame(teller, refused, now)
        if self._refresh():
            self._hint_soon(now)
        return self._finish(now)

    def linked(self, peer_id: str, now: float) -> list[Action]:
        """A peer became visible."""
        peer = self._peers.link(peer_id) if peer_id != self._me else None
        if peer is not None:
            self._meet(peer, now)
        return []

    def unlinked(self, peer_id: str, now: float) -> list[Action]:
        """A peer is gone."""
        peer = self._peers.unlink(peer_id)
        if peer is not None:
            self._drop(peer)
            peer.reset()
        return self._finish(now)

    def peers(self, now: float) -> tuple[PeerState, ...]:
        """What is known of each peer, by id; from any thread."""
        return self._peers.states(self._index.fingerprint, now)

    def traffic(self) -> tuple[Traffic, Traffic]:
        """Bytes sent and received so far. A hint counts once for each peer."""
        return self._outbox.sent.plus(self._answers.sent), self._received.plus(self._answers.received)

    # What follows is called from the events above.

    def _answered(self, ticket: int, payload: bytes | None, now: float) -> None:
        asked = self._outbox.close(ticket)
        if asked is None or (asked.pull is not None and not self._pulls.is_asked(asked.pull, asked.peer)):
            return  # nobody waits for it any more
        peer, pull = asked.peer, asked.pull
        if payload is None:
            peer.failures += 1
            self._watchdog.unanswered()
            if pull is not None:
                self._fetching.lost(asked, pull)
            else:
                self._looks.lost(asked, now)
                self._looks.settle(peer, self._index, now)
            return
        self._received.add(kind_of(asked.request), len(payload))
        peer.heard = now
        reply = read_reply(payload)
        refused = reply if isinstance(reply, Refused) else self._read(asked, reply, now)
        if refused is None:
            peer.failures //= 2
            if not isinstance(asked.request, GetBlob):
                peer.pace.note(now - asked.at)
            peer.replied = now
            self._watchdog.answered(now)
            if self._fetching.wastes_time(peer):
                self._looks.cut_short(peer, now)
                self._drop(peer)
        else:
            if pull is not None and peer.id in pull.sources:
                peer.look.has_failed = True
                self._pulls.leave(pull, peer)
            elif pull is None:
                self._looks.fail(peer)
            self._blame(peer, refused, now)
        if pull is not None:
            self._pulls.end(pull)
        self._looks.settle(peer, self._index, now)

    def _read(self, asked: Asked, reply: Reply, now: float) -> Refused | None:
        """Give a reply to whom it concerns; a refusal where it is none to the question, or bad."""
        match asked.request, reply:
            case Compare(), Same() | Known() | Ids() | Buckets():
                self._looks.compared(asked, reply, self._index, now)
                return None
            case ListIds(), Ids():
                return self._looks.listed(asked, reply, now)
            case GetEnvelope(), EnvelopeIs():
                return self._fetching.judge(asked, reply)
            case GetBlob(), Piece():
                return self._fetching.take(asked, reply, now)
            case _, Absent():
                if asked.pull is not None:
                    self._fetching.lack(asked.peer, asked.pull)
                else:
                    self._looks.cut_short(asked.peer, now)  # it does not understand us
                return None
        return Refused(
            Code.MALFORMED, f"a {type(reply).__name__} is no reply to a {type(asked.request).__name__}"
        )

    def _wanted(self, peer: Peer, ids: tuple[str, ...]) -> list[str]:
        """Those neither held, nor known to be of no use, nor noted of this peer already."""
        held, refused, its_refused, noted = self._index.ids, self._fetching.refused, peer.refused, peer.open
        return [
            id_
            for id_ in ids
            if id_ not in held and id_ not in noted and id_ not in refused and id_ not in its_refused
        ]

    def _meet(self, peer: Peer, now: float) -> None:
        """A peer is new: look at it, and let it hear of us."""
        self._due = None
        self._looks.soon(peer, now)
        self._hint_soon(now)

    def _drop(self, peer: Peer) -> None:
        """End everything that is under way with a peer."""
        self._pulls.leave_all(peer)
        self._outbox.forget(peer)
        self._looks.stop(peer)

    def _blame(self, peer: Peer, refused: Refused, now: float) -> None:
        """A peer sent what no honest peer sends."""
        _log.info("bad message from %s: %s: %s", peer.id, refused.code, refused.detail)
        if self._peers.strike(peer, now):
            _log.warning("ignoring %s for %.0f s", peer.id, peer.ignored_until - now)
            self._drop(peer)

    def _refresh(self) -> bool:
        """Read anew what is held; whether it changed."""
        index = self._index.having(self._holdings.ids())
        if index is self._index:
            return False
        gone, new = self._index.ids - index.ids, index.ids - self._index.ids
        self._index = index
        self._answers.replace(index)
        if gone:
            # There may be room for what was over its quota, and we may lack what we once had of a peer.
            self._fetching.forget(Code.OVER_QUOTA)
            for peer in self._peers.all():
                peer.known = NOTHING
                for id_ in [id_ for id_, why in peer.refused.items() if why is Code.OVER_QUOTA]:
                    del peer.refused[id_]
        for id_ in sorted(new):
            pull = self._pulls.get(id_)
            if pull is not None and not pull.is_committing:
                self._pulls.finish(pull)  # it came in another way
        return True

    def _round(self, now: float) -> None:
        """Look at one random peer."""
        places = self._peers.rotate(now)
        if places is not None:
            self._drop(places[0])
            places[0].reset()
            self._meet(places[1], now)
        busy = self._pulls.asked.values()
        free = [
            peer
            for peer in self._peers.linked.values()
            if not peer.is_looking
            and peer.wait_until <= now
            and not self._peers.is_ignored(peer, now)
            and peer not in busy
        ]
        differing = [peer for peer in free if peer.may_differ(self._index.fingerprint)]
        if differing and self._rng.random() < _DIFFERING:
            free = differing
        if free:
            self._looks.begin(self._rng.choice(free), self._index, now)

    def _hint(self, now: float) -> None:
        """Tell all peers what is held, or do so as soon as it may be."""
        if not self._hints.take(now):
            self._hint_at = now + 1 / HINTS_PER_SECOND
            return
        self._hint_at = now + self._varied(self._settings.hint_s)
        count = len(self._peers.linked)
        if count:
            payload = Hint(self._me, self._index.fingerprint, len(self._index.ids)).to_bytes()
            self._outbox.sent.add("hint", len(payload) * count)
            self._outbox.do(Publish(payload))

    def _hint_soon(self, now: float) -> None:
        """Tell all peers within moments, and what else changes until then."""
        soon = now + self._rng.uniform(0, self._settings.haste_s)
        self._hint_at = soon if self._hint_at is None else min(self._hint_at, soon)

    def _varied(self, seconds: float) -> float:
        return seconds * self._rng.uniform(1 - self._settings.jitter, 1 + self._settings.jitter)

    def _finish(self, now: float) -> list[Action]:
        """Settle and ask for what can be, then give back all actions."""
        while self._pulls.done:
            self._looks.settle(self._pulls.done.pop(), self._index, now)
        self._fetching.pump(now)
        self._due = None
        return self._outbox.take()
