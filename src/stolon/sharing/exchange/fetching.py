"""Fetching what is wanted: the envelope first, which is judged, then its blobs, piece by piece."""

import logging
from collections import OrderedDict
from typing import Final, final

from stolon.sharing.codes import Code, Refused
from stolon.sharing.exchange.messages import EnvelopeIs, GetBlob, GetEnvelope, Piece
from stolon.sharing.exchange.outbox import SLOW_BYTES_S, Asked, Outbox
from stolon.sharing.exchange.peers import Peer
from stolon.sharing.exchange.ports import Commit, ExchangeSettings, Holdings, Offer, Wanted
from stolon.sharing.exchange.pulls import Pull, Pulls
from stolon.sharing.limits import CHUNK, KIB, MAX_OFFERS, MIB

MAX_JUNK: Final = MIB
"""Bytes of envelopes of no use that one look at a peer may bring."""
MAX_ABSENT: Final = 16
"""Things that a peer may list and not have, in one look at it."""
MAX_REFUSED: Final = 4096
"""Ids of modules that were refused with all their blobs, and are not fetched again."""
LEAST_PIECE: Final = 64 * KIB
LEAST_DRAG: Final = 0.5
"""A busy machine may pause for a second or two: not even a quick peer is expected to be quicker than this."""
_QUICK_S: Final = 1.0
_GROW_AFTER: Final = 2
"""Where a third of the requests is lost, pieces shrink: a large one lost takes long to be missed."""
_FULL_S: Final = 60.0
"""Nothing is fetched for so long after the disk was found full."""
_PASSING: Final = (Code.DISK_FULL, Code.MISSING_BLOB)

_log = logging.getLogger(__name__)


@final
class Fetching:
    """Turns pulls into requests, and replies into commits.

    Args:
        settings: how often a lost request is sent again.
        holdings: judges envelopes, and may hold a blob already.
        outbox: takes requests, commits and offers.
        pulls: what is to be fetched.
    """

    def __init__(self, settings: ExchangeSettings, holdings: Holdings, outbox: Outbox, pulls: Pulls) -> None:
        self.refused: OrderedDict[str, Code] = OrderedDict()
        self._settings = settings
        self._holdings = holdings
        self._outbox = outbox
        self._pulls = pulls
        self._offered: set[str] = set()
        self._full_until = float("-inf")

    def pump(self, now: float) -> None:
        """Ask for as much as may be asked for at once."""
        while now >= self._full_until and (chosen := self._pulls.next()) is not None:
            peer, pull = chosen
            if pull.envelope is None:
                self._pulls.begin(peer, pull)
                self._outbox.ask(peer, GetEnvelope(pull.id), now, pull=pull, tries=pull.sources[peer.id])
                continue
            self._use_held(pull)
            if not pull.missing:
                pull.is_committing = True
                self._outbox.do(Commit(pull.teller, pull.id, pull.envelope, pull.got))
                continue
            self._pulls.begin(peer, pull)
            sha, size = pull.missing[0]
            offset = len(pull.buffer)
            request = GetBlob(sha, offset, min(peer.piece, size - offset))
            self._outbox.ask(peer, request, now, pull=pull, tries=pull.sources[peer.id])

    def judge(self, asked: Asked, reply: EnvelopeIs) -> Refused | None:
        """An envelope came; gives a refusal only where the peer is to blame."""
        peer, pull = asked.peer, asked.pull
        assert pull is not None
        verdict = self._verdict(reply.envelope)
        if not isinstance(verdict, Refused):
            if verdict.id == pull.id:
                self._pulls.judge(pull, reply.envelope, verdict.blobs, peer.id)
                return None
            verdict = Refused(Code.WRONG_HASH, f"asked for {pull.id}, it sent {verdict.id}")
        # Remembered for this peer only: a signature is not part of what an id is the hash of, so that
        # whoever spoils it could otherwise keep us from the honest copy.
        peer.refuse(pull.id, verdict.code)
        self._pulls.leave(pull, peer)
        if verdict.code.is_reject:
            return verdict
        peer.look.junk += len(reply.envelope)
        is_new = pull.id not in self._offered and len(self._offered) < MAX_OFFERS
        if verdict.code is Code.UNKNOWN_AUTHOR and is_new:
            self._offered.add(pull.id)
            self._outbox.do(Offer(peer.id, pull.id, reply.envelope))
        return None

    def take(self, asked: Asked, reply: Piece, now: float) -> Refused | None:
        """A piece of a blob came; gives a refusal where the peer is to blame."""
        peer, pull = asked.peer, asked.pull
        assert pull is not None
        assert isinstance(asked.request, GetBlob)
        length = asked.request.length
        if len(reply.data) != length:
            self._pulls.leave(pull, peer)
            return Refused(Code.MALFORMED, f"asked for {length} bytes, it sent {len(reply.data)}")
        took = now - asked.at
        if length >= LEAST_PIECE:  # smaller ones say more of the way than of its width
            peer.drag = max(LEAST_DRAG, peer.drag / 2, 2 * took * SLOW_BYTES_S / length)
        if length == peer.piece:
            peer.quick = peer.quick + 1 if took < _QUICK_S else 0
            if peer.quick >= _GROW_AFTER:
                peer.piece, peer.quick = min(2 * peer.piece, CHUNK), 0
        self._pulls.add(pull, peer, reply.data)
        if len(pull.buffer) < pull.missing[0][1]:
            return None
        sha, _ = pull.missing[0]
        is_from_one = len(pull.givers) == 1
        if self._pulls.complete(pull):
            return None
        if not is_from_one:
            pull.is_alone = True  # whose bytes were wrong cannot be told
            return None
        self._pulls.leave(pull, peer)
        return Refused(Code.WRONG_HASH, f"the bytes it sent are not blob {sha}")

    def lack(self, peer: Peer, pull: Pull) -> None:
        """The peer does not have what it listed."""
        peer.look.absent += 1
        peer.look.has_failed = True
        self._pulls.leave(pull, peer)

    def lost(self, asked: Asked, pull: Pull) -> None:
        """The peer did not answer."""
        if isinstance(asked.request, GetBlob):
            asked.peer.piece, asked.peer.quick = max(asked.peer.piece // 2, LEAST_PIECE), 0
        self._pulls.lost(pull, asked.peer, self._settings.retries)

    def wastes_time(self, peer: Peer) -> bool:
        """Whether too much of what a peer listed is of no use."""
        return peer.look.junk >= MAX_JUNK or peer.look.absent >= MAX_ABSENT

    def committed(self, pull: Pull, refused: Refused | None, sources: list[Peer], now: float) -> None:
        """The bank took it in, or did not."""
        for peer in sources:
            if refused is None and peer.id == pull.teller:
                peer.look.gained += 1
                peer.pulled += 1
            elif refused is not None and refused.code in _PASSING:
                peer.look.has_failed = True
        self._pulls.finish(pull)
        if refused is None:
            return
        _log.info("%s from %s was refused: %s: %s", pull.id, pull.teller, refused.code, refused.detail)
        if refused.code is Code.DISK_FULL:
            self._full_until = now + _FULL_S
        elif refused.code not in _PASSING:
            # The id is the hash of all that was refused, and was compared: the same from anybody else.
            self.refused[pull.id] = refused.code
            if len(self.refused) > MAX_REFUSED:
                self.refused.popitem(last=False)

    def forget(self, code: Code | None = None) -> None:
        """Forget what was refused, for all reasons or for one."""
        if code is None:
            self.refused.clear()
            self._offered.clear()
        for id_ in [id_ for id_, why in self.refused.items() if why is code]:
            del self.refused[id_]

    def due(self, now: float) -> float:
        """When fetching goes on after a full disk."""
        return self._full_until if now < self._full_until else float("inf")

    def _verdict(self, envelope: bytes) -> Wanted | Refused:
        try:
            return self._holdings.judge(envelope)
        except Exception:  # noqa: BLE001 - it should not raise; a bug must not hold one of few places for ever
            _log.exception("an envelope could not be judged; it is taken as refused")
            return Refused(Code.UNSUPPORTED, "judging it failed")

    def _use_held(self, pull: Pull) -> None:
        """Take what we hold already, of another module, instead of fetching it."""
        while pull.missing and not pull.buffer:
            sha, _ = pull.missing[0]
            try:
                held = self._holdings.blob(sha)
            except OSError:
                _log.exception("blob %s cannot be read; fetching it", sha)
                return
            if held is None:
                return
            pull.got[sha] = held
            del pull.missing[0]
