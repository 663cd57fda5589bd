"""What is to be fetched, from whom, in which order; nothing is fetched twice at a time."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, final

from stolon.sharing.exchange.peers import Peer
from stolon.sharing.limits import MIB, PULLS, PULLS_PER_PEER

MAX_OPEN: Final = 1024
"""Ids noted of one peer at a time; the rest is noted when these are done."""
ALONE_PATIENCE: Final = 4
"""Where a blob must come from one peer, up to so many times as many more lost requests are borne."""
MAX_ORPHANS: Final = 64
"""Modules begun that no peer gives any more, whose beginnings are kept."""
MAX_BUFFERED: Final = 64 * MIB
"""Bytes of unfinished modules kept in memory. One module alone may have more."""
DOUBTFUL_PULLS: Final = PULLS // 2
"""Requests under way to all doubtful peers together: the others keep the rest."""


@dataclass(slots=True, eq=False)
class Pull:
    """One module or revocation being fetched.

    Attributes:
        id: of it.
        sources: peers that list it, with how many requests for it in a row each left unanswered.
        envelope: its envelope, judged; None until it is there.
        teller: id of the peer that gave the envelope.
        missing: digest and size of the blobs that are not there yet; the first is being fetched.
        got: those that are.
        buffer: the beginning of the first missing one.
        givers: ids of the peers that the buffer is from, each once.
        is_alone: a blob put together from several peers was wrong: the next one comes from one peer only.
        is_committing: everything is there and the bank has it.
        touched: when something of it last came, counted in pieces.
    """

    id: str
    sources: dict[str, int] = field(default_factory=dict)
    envelope: bytes | None = None
    teller: str = ""
    missing: list[tuple[str, int]] = field(default_factory=list)
    got: dict[str, bytes] = field(default_factory=dict)
    buffer: bytearray = field(default_factory=bytearray)
    givers: list[str] = field(default_factory=list)
    is_alone: bool = False
    is_committing: bool = False
    touched: int = 0

    @property
    def buffered(self) -> int:
        """Bytes of blobs in memory."""
        return len(self.buffer) + sum(len(blob) for blob in self.got.values())

    def clear(self) -> None:
        """Forget the beginning of the blob being fetched."""
        self.buffer, self.givers = bytearray(), []


@final
class Pulls:
    """The queue of what is fetched.

    A pull has one request under way at a time: for its envelope, then for one blob after the other. It goes on
    with the peer that answered; where a peer does not answer, another that listed the same takes over.

    Attributes:
        asked: by the pull's id, the peer that a request for it is under way to.
        done: peers of whom nothing is open any more, since this list was last emptied.
    """

    def __init__(self) -> None:
        self.asked: dict[str, Peer] = {}
        self.done: list[Peer] = []
        self._pulls: dict[str, Pull] = {}
        self._judged: dict[str, Pull] = {}  # those with an envelope: few, since they are finished first
        self._peers: dict[str, Peer] = {}
        self._orphans: dict[str, Pull] = {}  # those that nobody gives any more, begun
        self._claims: dict[str, Pull] = {}  # by a blob's digest, who fetches it
        self._count = 0
        self._is_stuck = False  # nothing can be asked for until something happens

    def __len__(self) -> int:
        """How many there are that some peer may give."""
        return len(self._pulls) - len(self._orphans)

    def get(self, id_: str) -> Pull | None:
        """The pull of that id, if there is one."""
        return self._pulls.get(id_)

    def note(self, peer: Peer, id_: str) -> bool:
        """A peer listed something we want; False where too much of it is noted already."""
        if len(peer.open) >= MAX_OPEN:
            return False
        pull = self._pulls.get(id_)
        if pull is None:
            pull = self._pulls[id_] = Pull(id_)
        self._orphans.pop(id_, None)
        pull.sources[peer.id] = 0
        peer.open[id_] = None
        peer.queue.append(id_)
        self._peers[peer.id] = peer
        self._is_stuck = False
        return True

    def is_asked(self, pull: Pull, peer: Peer) -> bool:
        """Whether a request of this very pull is under way to this peer."""
        return self._pulls.get(pull.id) is pull and self.asked.get(pull.id) is peer

    def next(self) -> tuple[Peer, Pull] | None:
        """Whom to ask for what next, or None where nothing can be asked for now."""
        if self._is_stuck or len(self.asked) >= PULLS:
            return None
        under_way = list(self.asked.values())
        is_full = sum(peer.is_doubtful for peer in under_way) >= DOUBTFUL_PULLS
        ready = []
        for peer in self._peers.values():
            if peer.queue:
                count, is_doubtful = under_way.count(peer), peer.is_doubtful
                if count < (1 if is_doubtful else PULLS_PER_PEER) and not (is_doubtful and is_full):
                    ready.append((is_doubtful, count, peer.turn, peer.id, peer))
        for *_, peer in sorted(ready):
            pull = self._pop(peer)
            if pull is not None:
                return peer, pull
        self._is_stuck = True
        return None

    def begin(self, peer: Peer, pull: Pull) -> None:
        """A request for it goes to this peer."""
        self._count += 1
        peer.turn = self._count
        self.asked[pull.id] = peer
        if pull.missing:
            self._claims[pull.missing[0][0]] = pull
            if pull.is_alone and pull.givers != [peer.id]:
                pull.clear()

    def end(self, pull: Pull) -> None:
        """Its request was answered; goes on with the same peer, if that is still of use for it."""
        self._is_stuck = False
        peer = self.asked.pop(pull.id, None)
        if peer is not None:
            pull.sources[peer.id] = 0
            peer.queue.appendleft(pull.id)

    def lost(self, pull: Pull, peer: Peer, most: int) -> None:
        """Its request was not answered: others that list it go first; this peer gets ``most`` more chances."""
        self._is_stuck = False
        del self.asked[pull.id]
        pull.sources[peer.id] += 1
        if pull.is_alone and pull.givers == [peer.id]:
            # Another peer would have to begin anew: the more is there, the more is borne.
            most += int(most * ALONE_PATIENCE * len(pull.buffer) / pull.missing[0][1])
        if pull.sources[peer.id] > most:
            peer.look.has_failed = True
            self.leave(pull, peer)
        else:
            peer.queue.appendleft(pull.id)
            self._requeue(pull, besides=peer.id)

    def leave(self, pull: Pull, peer: Peer) -> None:
        """This peer is of no use for it."""
        self._is_stuck = False
        if self.asked.get(pull.id) is peer:
            del self.asked[pull.id]
        del pull.sources[peer.id]
        self._close(peer, pull.id)
        if pull.sources or pull.is_committing:
            self._requeue(pull)
        elif pull.envelope is None:
            self.finish(pull)
        else:
            # It is something real: what is there of it is kept for the next peer that lists it.
            self._unclaim_all(pull)
            self._orphans[pull.id] = pull
            if len(self._orphans) > MAX_ORPHANS:
                self.finish(next(iter(self._orphans.values())))

    def leave_all(self, peer: Peer) -> None:
        """Fetch nothing from this peer any more."""
        for id_ in list(peer.open):
            self.leave(self._pulls[id_], peer)
        peer.queue.clear()
        self._peers.pop(peer.id, None)

    def finish(self, pull: Pull) -> None:
        """It is taken in, or given up."""
        self._is_stuck = False
        del self._pulls[pull.id]
        self._judged.pop(pull.id, None)
        self.asked.pop(pull.id, None)
        for id_ in pull.sources:
            self._close(self._peers[id_], pull.id)
        self._orphans.pop(pull.id, None)
        self._unclaim_all(pull)

    def judge(self, pull: Pull, envelope: bytes, blobs: Iterable[tuple[str, int]], teller: str) -> None:
        """Its envelope is there and is wanted."""
        pull.envelope, pull.teller = envelope, teller
        for sha, size in blobs:
            # What another pull has got is not in the bank yet.
            holder = next((one for one in self._judged.values() if sha in one.got), None)
            if holder is None:
                pull.missing.append((sha, size))
            else:
                pull.got[sha] = holder.got[sha]
        self._judged[pull.id] = pull

    def add(self, pull: Pull, peer: Peer, data: bytes) -> None:
        """A piece of its first missing blob came."""
        self._count += 1
        pull.touched = self._count
        pull.buffer += data
        if peer.id not in pull.givers:
            pull.givers.append(peer.id)
        self._trim()

    def complete(self, pull: Pull) -> bool:
        """All bytes of its first missing blob are there; whether they are the right ones.

        The wrong ones are forgotten. The right ones also go to other pulls that list the same blob.
        """
        sha, _ = pull.missing[0]
        data = bytes(pull.buffer)
        pull.clear()
        if hashlib.sha256(data).hexdigest() != sha:
            return False
        for one in self._judged.values():
            if any(wanted == sha for wanted, _ in one.missing):
                one.got[sha] = data
                one.missing = [(wanted, size) for wanted, size in one.missing if wanted != sha]
        self._unclaim(sha)
        return True

    def _trim(self) -> None:
        """Give up what was not touched for longest, until unfinished modules fit the memory meant for them."""
        total = sum(pull.buffered for pull in self._judged.values())
        idle = [one for one in self._judged.values() if one.id not in self.asked and not one.is_committing]
        for pull in sorted(idle, key=lambda pull: pull.touched):
            if total <= MAX_BUFFERED:
                break
            total -= pull.buffered
            for id_ in pull.sources:
                self._peers[id_].look.has_failed = True
            self.finish(pull)

    def _pop(self, peer: Peer) -> Pull | None:
        """The next of a peer's queue that can be asked for; skips what is under way elsewhere."""
        while peer.queue:
            pull = self._pulls.get(peer.queue.popleft())
            if pull is None or peer.id not in pull.sources or pull.is_committing or pull.id in self.asked:
                continue
            if pull.missing and self._claims.get(pull.missing[0][0], pull) is not pull:
                continue  # another pull fetches this very blob: it is put back when that one has it, or not
            giver = pull.givers[0] if pull.is_alone and pull.givers else peer.id
            if giver != peer.id and giver in pull.sources:
                continue  # what that one began, it shall finish, as long as it answers
            return pull
        return None

    def _requeue(self, pull: Pull, besides: str = "") -> None:
        """Put it first in the queues of its sources, all but one; there it may be more than once."""
        for id_ in pull.sources:
            if id_ != besides:
                self._peers[id_].queue.appendleft(pull.id)

    def _unclaim(self, sha: str) -> None:
        """Nobody fetches this blob now: whoever waited for it goes on."""
        del self._claims[sha]
        for pull in self._judged.values():
            if pull.id not in self.asked:
                self._requeue(pull)

    def _unclaim_all(self, pull: Pull) -> None:
        for sha in [sha for sha, claimer in self._claims.items() if claimer is pull]:
            self._unclaim(sha)

    def _close(self, peer: Peer, id_: str) -> None:
        del peer.open[id_]
        if not peer.open:
            self.done.append(peer)
