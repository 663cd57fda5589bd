"""Agents on a network: hints by publication, requests by query and reply, presence by liveliness, all by Zenoh.

Zenoh is a pipe here and is trusted with nothing: messages are bounded, keys are checked, and what counts is signed
inside the messages. What the exchange needs is that no peer, and no trouble inside Zenoh, can block the agent:

- hints are dropped for a peer that is congested; requests and replies wait for it, each in a thread of ours;
- what arrives waits in rings that drop the oldest, since a full queue would block Zenoh's own threads;
- every request has our own deadline, and closing does not wait for Zenoh for ever.

Agents speak with those they are connected to; Zenoh's peers do not forward. What an agent takes in it offers to
its neighbours in turn, so that a connected network is enough.

Source: eclipse-zenoh 1.10 (EPL-2.0 or Apache-2.0), zenoh.io.
"""

import atexit
import itertools
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import zenoh
from zenoh.handlers import FifoChannel, RingChannel

from stolon.errors import LinkError
from stolon.links.zenoh_settings import Keys, ZenohSettings, as_json5, configuration
from stolon.links.zenoh_work import Asks, Then, Workers
from stolon.sharing.exchange.ports import OnAsk, OnHint, OnPeer
from stolon.sharing.limits import MAX_HINT, MAX_MESSAGE, MAX_PEERS, PULLS_PER_PEER

log: Final = logging.getLogger(__name__)

CLOSE_S: Final = 6.0
"""Seconds that Zenoh is given to close: twice what connections that are just being opened may take."""
REOPEN_S: Final = 10.0
"""Seconds for which a port that is still being given back is tried again."""
JOIN_S: Final = 2.0
"""Seconds that our own threads are then given to end."""
ANSWERS: Final = 8
"""Requests answered at the same time; each may wait for a slow peer."""
ANSWERS_PER_PEER: Final = 2 * PULLS_PER_PEER
"""Of these, and of the waiting ones, for one peer: what it may pull, and as many questions about what there is."""
MAX_PRESENT: Final = 4096
"""Peers that are told of; far more than are spoken with, so that one who pretends to be many does not hide others."""
MAX_REPLIES: Final = 8
"""To one request, of which the first good one counts."""

_HEX: Final = frozenset("0123456789abcdef")


_T = TypeVar("_T", covariant=True)  # noqa: PLC0105 - the place's usual short name


class _Source(Protocol[_T]):
    """What messages are received from: a subscriber or a queryable with a ring."""

    def recv(self) -> _T: ...


@dataclass(frozen=True)
class _Opening:
    """What :meth:`ZenohLink.open` was given."""

    me: str
    on_hint: OnHint
    on_ask: OnAsk
    on_peer: OnPeer


class ZenohLink:
    """A :class:`stolon.sharing.exchange.ports.Link` over Zenoh, without any server.

    Args:
        settings: endpoints, population, TLS.

    Example:
        >>> link = ZenohLink(ZenohSettings(listen=("tcp/127.0.0.1:0",)))
        >>> link.open("ab" * 32, lambda peer, hint: None, lambda peer, request: b"", lambda peer, alive: None)
        >>> link.endpoints[0].startswith("tcp/127.0.0.1:")
        True
        >>> link.close()
    """

    def __init__(self, settings: ZenohSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()  # one opening or closing at a time
        self._opening: _Opening | None = None
        self._conversation: _Conversation | None = None
        self._listen = settings.listen

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where we can be reached, with the actual ports; empty while closed or where we listen nowhere."""
        conversation = self._conversation
        return conversation.endpoints if conversation is not None else ()

    def open(self, me: str, on_hint: OnHint, on_ask: OnAsk, on_peer: OnPeer) -> None:
        """Join the network as ``me``, the public key; ``on_ask`` may be called from several threads at once.

        Raises:
            LinkError: a port is in use, an address is not ours, or the link is open already.
        """
        if not _is_id(me):
            raise LinkError(f"expected a public key, 64 lower-case hexadecimal characters; found {me!r}")
        with self._lock:
            if self._conversation is not None:
                raise LinkError("this link is open already; close it first")
            self._begin(_Opening(me, on_hint, on_ask, on_peer))

    def publish(self, payload: bytes) -> None:
        """Give a hint to all peers; dropped for those that are congested, and while the link is not open."""
        conversation = self._conversation
        if conversation is not None:
            conversation.publish(payload)

    def ask(self, peer: str, payload: bytes, timeout_s: float, then: Then) -> None:
        """Ask one peer; ``then`` is called once, from any thread, with its reply or None."""
        conversation = self._conversation
        if conversation is None or not _is_id(peer):
            then(None)
        else:
            conversation.asks.ask(peer, payload, timeout_s, then)

    def close(self) -> None:
        """Leave the network. Requests under way end with None; no callback comes once this has returned."""
        with self._lock:
            self._end()
            self._opening = None

    def reopen(self) -> None:
        """Leave the network and join it anew, at the same endpoints.

        Raises:
            LinkError: it was never opened, or cannot be opened any more; it is closed then.
        """
        with self._lock:
            if self._opening is None:
                raise LinkError("a link that was never opened cannot be opened anew; call open() first")
            self._end()
            until = time.monotonic() + REOPEN_S
            while True:
                try:
                    return self._begin(self._opening)
                except LinkError:
                    if time.monotonic() >= until:
                        raise
                    time.sleep(0.2)  # the old session may not have given its port back yet

    def _begin(self, opening: _Opening) -> None:
        self._conversation = _Conversation(self.settings, self._listen, opening)
        self._opening = opening
        # Were it left open to the end of the program, our threads would come back from Zenoh into an interpreter that
        # is being taken down, which aborts.
        atexit.register(self._conversation.close)
        # A port that was taken as "any free one" is now the one that peers know.
        if any(endpoint.endswith(":0") for endpoint in self._listen) and self.endpoints:
            self._listen = self.endpoints
        log.info(
            "link open",
            extra={
                "listen": self.endpoints,
                "connect": self.settings.connect,
                "tls": self.settings.is_encrypted,
            },
        )

    def _end(self) -> None:
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            atexit.unregister(conversation.close)
            conversation.close()


class _Conversation:
    """One Zenoh session with its threads, from opening to closing."""

    def __init__(self, settings: ZenohSettings, listen: tuple[str, ...], opening: _Opening) -> None:
        self._me = me = opening.me
        self._keys = keys = Keys(settings.population, me)
        self._on_hint, self._on_ask, self._on_peer = opening.on_hint, opening.on_ask, opening.on_peer
        self._closed = False
        self._alive: set[str] = set()
        self._asked: Counter[str] = Counter()  # requests of each peer that wait or are being answered
        self._counting = threading.Lock()
        self._session = session = _open(settings, me, listen)
        try:
            self.endpoints = _locators(session) if listen else ()
            self._hints = session.declare_subscriber(
                keys.hint("*"), RingChannel(8 * MAX_PEERS), allowed_origin=zenoh.Locality.REMOTE
            )
            self._requests = session.declare_queryable(
                keys.ask(me), RingChannel(ANSWERS_PER_PEER * MAX_PEERS), allowed_origin=zenoh.Locality.REMOTE
            )
            self._presences = session.liveliness().declare_subscriber(
                keys.alive("*"), RingChannel(2 * MAX_PRESENT), history=True
            )
            self._publisher = session.declare_publisher(
                keys.hint(me),
                congestion_control=zenoh.CongestionControl.DROP,
                priority=zenoh.Priority.INTERACTIVE_HIGH,  # has a queue of its own: does not wait behind replies
                express=True,
            )
            self.asks = Asks(self._fetch)
            self._answers = Workers("stolon-link-answer", ANSWERS, ANSWERS_PER_PEER * MAX_PEERS)
            self._threads = [
                threading.Thread(target=_receive, args=(source, use), name=f"stolon-link-{name}", daemon=True)
                for name, source, use in (
                    ("hints", self._hints, self._heard),
                    ("requests", self._requests, self._asked_by),
                    ("presence", self._presences, self._seen),
                )
            ]
            for thread in self._threads:
                thread.start()
            # Last, so that whoever sees us can ask us.
            self._token = session.liveliness().declare_token(keys.alive(me))
        except zenoh.ZError as error:
            _close(session)
            raise LinkError(f"Zenoh opened but cannot be used: {_first_words(error)}") from error

    def publish(self, payload: bytes) -> None:
        if len(payload) > MAX_HINT:
            log.error("a hint above the limit was not sent", extra={"bytes": len(payload), "limit": MAX_HINT})
            return
        with suppress(zenoh.ZError):  # closed meanwhile: a hint may be lost
            self._publisher.put(payload)

    def close(self) -> None:
        self._closed = True
        closing = threading.Thread(target=self._close_session, name="stolon-link-close", daemon=True)
        closing.start()
        self.asks.close()
        self._answers.close()
        closing.join(CLOSE_S)
        if closing.is_alive():
            log.warning("Zenoh did not close in time and is left to itself", extra={"seconds": CLOSE_S})
        until = time.monotonic() + JOIN_S
        for thread in (*self._threads, *self._answers.threads, *self.asks.threads):
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))
        for peer in sorted(self._alive):
            self._tell(peer, alive=False)

    def _close_session(self) -> None:
        with suppress(zenoh.ZError):
            _close(self._session)

    # What arrives: each in a thread of its own.

    def _heard(self, sample: zenoh.Sample) -> None:
        peer = self._peer_of(sample.key_expr, self._keys.hint(""))
        if peer is not None and sample.kind == zenoh.SampleKind.PUT and len(sample.payload) <= MAX_HINT:
            self._on_hint(peer, sample.payload.to_bytes())

    def _seen(self, sample: zenoh.Sample) -> None:
        peer = self._peer_of(sample.key_expr, self._keys.alive(""))
        if peer is not None:
            self._tell(peer, alive=sample.kind == zenoh.SampleKind.PUT)

    def _tell(self, peer: str, *, alive: bool) -> None:
        if alive == (peer in self._alive) or (alive and len(self._alive) >= MAX_PRESENT):
            return
        (self._alive.add if alive else self._alive.discard)(peer)
        self._on_peer(peer, alive)

    def _asked_by(self, query: zenoh.Query) -> None:
        """Hand a request to a thread that may wait; too many of one peer end at once, without a reply."""
        peer = _sender(query)
        with self._counting:
            has_room = peer is not None and self._asked[peer] < ANSWERS_PER_PEER
            if peer is not None and has_room:
                self._asked[peer] += 1
        if peer is not None and has_room:
            if self._answers.submit(lambda: self._answer(peer, query)):
                return
            self._answered(peer)
        with query:
            pass  # leaving it ends it

    def _answer(self, peer: str, query: zenoh.Query) -> None:
        try:
            with query, suppress(zenoh.ZError):  # the peer may be gone when we have the reply
                if not self._closed and query.payload is not None:
                    query.reply(
                        self._keys.ask(self._me), self._on_ask(peer, query.payload.to_bytes()), express=True
                    )
        finally:
            self._answered(peer)

    def _answered(self, peer: str) -> None:
        with self._counting:
            self._asked[peer] -= 1
            if self._asked[peer] <= 0:
                del self._asked[peer]

    def _peer_of(self, key: zenoh.KeyExpr, prefix: str) -> str | None:
        """The id in a key, or None: also for our own, and for a key with wildcards that only meets ours."""
        text = str(key)
        peer = text.removeprefix(prefix)
        return (
            peer
            if text.startswith(prefix) and _is_id(peer) and peer != self._me and not self._closed
            else None
        )

    # What leaves: in a thread of the requests'.

    def _fetch(self, peer: str, payload: bytes, timeout_s: float) -> bytes | None:
        key = self._keys.ask(peer)
        try:
            replies = self._session.get(
                key,
                FifoChannel(MAX_REPLIES),  # a ring would lose what it holds as soon as the query is over
                consolidation=zenoh.ConsolidationMode.NONE,
                timeout=timeout_s,
                congestion_control=zenoh.CongestionControl.BLOCK,  # the reply does as its query: it is not dropped
                express=True,
                payload=payload,
                attachment=bytes.fromhex(self._me),
            )
            # A peer may send as many as it likes. Once we look no more the channel is gone, and blocks nobody.
            for reply in itertools.islice(replies, MAX_REPLIES):
                sample = reply.ok
                if sample is not None and sample.kind == zenoh.SampleKind.PUT and str(sample.key_expr) == key:
                    return sample.payload.to_bytes() if len(sample.payload) <= MAX_MESSAGE else None
        except zenoh.ZError:
            return None
        return None


def _receive(source: _Source[_T], use: Callable[[_T], None]) -> None:
    """Take what arrives until the session is closed."""
    while True:
        try:
            arrived = source.recv()
        except zenoh.ZError:
            return
        try:
            use(arrived)
        except Exception:
            log.exception("a message from the network was not handled; the link goes on")


def _open(settings: ZenohSettings, me: str, listen: tuple[str, ...]) -> zenoh.Session:
    config = zenoh.Config()
    for key, value in as_json5(configuration(settings, me, listen)):
        config.insert_json5(key, value)
    try:
        return zenoh.open(config)
    except zenoh.ZError as error:
        where = ", ".join(listen) or "nowhere"
        raise LinkError(
            f"the link cannot be opened (listening at {where}): {_first_words(error)}; choose a free port and an "
            "address of this machine, or port 0 for any free one"
        ) from error


def _close(session: zenoh.Session) -> None:
    session.close()  # type: ignore[no-untyped-call]  # Zenoh's stubs leave its return type out


def _locators(session: zenoh.Session) -> tuple[str, ...]:
    """Where the session really listens, from its own description of itself."""
    for reply in session.get(f"@/{session.zid()}/peer", FifoChannel(MAX_REPLIES), timeout=2.0):
        if reply.ok is not None:
            return tuple(json.loads(reply.ok.payload.to_bytes())["locators"])
    return ()


def _sender(query: zenoh.Query) -> str | None:
    """Who asks, by its own word: 32 bytes beside the request."""
    attachment = query.attachment
    return attachment.to_bytes().hex() if attachment is not None and len(attachment) == 32 else None


def _is_id(text: str) -> bool:
    return len(text) == 64 and _HEX.issuperset(text)


def _first_words(error: zenoh.ZError) -> str:
    """Zenoh's message without the places in its source code."""
    return str(error).split(" at /", 1)[0]
