"""What a peer is told when it asks: read from the bank, bounded, and safe to be called from any thread."""

import logging
import threading
from typing import Final, final

from stolon.sharing.codes import Refused
from stolon.sharing.exchange import messages
from stolon.sharing.exchange.index import Index
from stolon.sharing.exchange.ports import Holdings
from stolon.sharing.exchange.traffic import Counter, kind_of
from stolon.sharing.limits import MAX_ENVELOPE

FEW_IDS: Final = 256
"""A set of up to so many ids is listed outright: its buckets would cost a round trip, and half as much."""

_log = logging.getLogger(__name__)
_ABSENT: Final = messages.Absent().to_bytes()


MAX_MARKS: Final = 256
"""Earlier states of the set that are remembered, so that what came since can be told."""


@final
class Answers:
    """Answers requests from what is held; changes nothing but its counts.

    Args:
        holdings: the bank.
        index: what it holds.
    """

    def __init__(self, holdings: Holdings, index: Index) -> None:
        self.sent, self.received = Counter(), Counter()
        self._index = index
        # What came in, in order, and how much that was at each fingerprint: a peer that saw an earlier state
        # is told what came since. After a removal nobody can be told so, and it begins anew.
        self._news: list[str] = []
        self._marks: dict[bytes, int] = {index.fingerprint: 0}
        self._holdings = holdings
        self._lock = threading.Lock()
        # Pieces of one blob are asked for one after the other, and each reading hashes the whole blob.
        self._last: tuple[str, bytes] = ("", b"")

    def replace(self, index: Index) -> None:
        """What is held has changed."""
        with self._lock:
            if self._index.ids <= index.ids:
                self._news += sorted(index.ids - self._index.ids)
            else:
                self._news, self._marks = [], {}
            self._marks[index.fingerprint] = len(self._news)
            self._index = index
            if len(self._marks) > MAX_MARKS:
                oldest = next(iter(self._marks))
                drop = self._marks.pop(oldest)
                self._news = self._news[drop:]
                self._marks = {mark: length - drop for mark, length in self._marks.items()}

    def answer(self, payload: bytes) -> bytes:
        """The reply to a request; never raises because of its bytes.

        A request that is not understood, a hostile one or that of a later version, is answered like one for
        something that is not held.
        """
        request = messages.read_request(payload)
        reply = _ABSENT if isinstance(request, Refused) else self._reply(request)
        kind = "index" if isinstance(request, Refused) else kind_of(request)
        with self._lock:
            self.received.add(kind, len(payload))
            self.sent.add(kind, len(reply))
        return reply

    def _reply(self, request: messages.Request) -> bytes:
        match request:
            case messages.Compare():
                return self._compare(request).to_bytes()
            case messages.ListIds():
                index = self._index  # one set for the whole answer, whatever is committed meanwhile
                ids = tuple(id_ for number in request.buckets for id_ in index.buckets[number])
                return messages.Ids(index.fingerprint, ids[: messages.MAX_IDS]).to_bytes()
            case messages.GetEnvelope():
                return self._envelope(request.id)
        return self._piece(request)

    def _compare(self, request: messages.Compare) -> messages.Reply:
        with self._lock:
            index = self._index
            mark = self._marks.get(request.known)
            news = None if mark is None else tuple(self._news[mark : mark + FEW_IDS + 1])
        if request.fingerprint == index.fingerprint:
            return messages.Same()
        if request.known == index.fingerprint:
            return messages.Known()
        if news is not None and len(news) <= FEW_IDS:
            return messages.Ids(index.fingerprint, tuple(sorted(news)))
        if len(index.ids) <= FEW_IDS:
            return messages.Ids(index.fingerprint, index.sorted())
        return messages.Buckets(index.fingerprint, len(index.ids), index.digests)

    def _envelope(self, id_: str) -> bytes:
        try:
            envelope = self._holdings.envelope(id_)
        except OSError:
            _log.exception("envelope %s cannot be read; told the peer that it is not held", id_)
            return _ABSENT
        if envelope is None or not 0 < len(envelope) <= MAX_ENVELOPE:
            return _ABSENT
        return messages.EnvelopeIs(envelope).to_bytes()

    def _piece(self, request: messages.GetBlob) -> bytes:
        sha, data = self._last
        if sha != request.sha:
            try:
                read = self._holdings.blob(request.sha)
            except OSError:
                _log.exception("blob %s cannot be read; told the peer that it is not held", request.sha)
                return _ABSENT
            if read is None:
                return _ABSENT
            data = read
            self._last = (request.sha, data)
        return messages.Piece(data[request.offset : request.offset + request.length]).to_bytes()
