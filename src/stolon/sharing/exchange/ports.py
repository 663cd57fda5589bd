"""What the exchange asks of its surroundings, and what it tells them to do: types only, no behaviour.

:class:`Holdings` is the exchange's view of a bank, :class:`Link` its view of a network. Between them the
exchange itself does no input or output: it takes events and gives back actions, which
:class:`stolon.sharing.exchange.driver.Driver` carries out.

Identifiers, digests and public keys are lower-case hexadecimal strings of 64 characters. Times are seconds
of any clock that never goes back (``time.monotonic``); no two agents' clocks are ever compared.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from stolon.sharing.codes import Refused

OnHint = Callable[[str, bytes], None]
"""Called with (peer, payload) when a peer's hint arrives."""

OnAsk = Callable[[str, bytes], bytes]
"""Called with (peer, request); returns the reply. May be called from several threads at once; never raises."""

OnPeer = Callable[[str, bool], None]
"""Called with (peer, alive) when a peer appears (True) or is gone (False)."""


@dataclass(frozen=True)
class Wanted:
    """An envelope that may be taken in as soon as its blobs are there.

    Attributes:
        id: of the module or revocation: SHA-256 of the envelope's payload.
        blobs: digest and size in bytes of every blob it lists; empty for a revocation.
    """

    id: str
    blobs: tuple[tuple[str, int], ...] = ()


class Holdings(Protocol):
    """What the exchange needs of a bank.

    Laws: every method may be called from any thread; :meth:`ids`, :meth:`envelope` and :meth:`blob` are
    called while answering peers, so they must be quick; none raises because of what a peer sent.
    """

    def ids(self) -> frozenset[str]:
        """Identifiers of all modules and revocations held: what peers should be given."""
        ...

    def envelope(self, id: str) -> bytes | None:  # noqa: A002 - the field's own word
        """The signed envelope of a module or revocation, or None where it is not held."""
        ...

    def blob(self, sha: str) -> bytes | None:
        """A blob's bytes, checked against its digest, or None where it is not held or damaged."""
        ...

    def judge(self, envelope: bytes) -> "Wanted | Refused":
        """Check everything that can be checked before blobs are fetched; changes nothing."""
        ...

    def commit(self, envelope: bytes, blobs: Mapping[str, bytes]) -> "str | Refused":
        """Take a module or revocation in, durably; its id. Called by the driver's thread only.

        ``blobs`` holds all blobs that :meth:`judge` listed, by digest.
        """
        ...


class Link(Protocol):
    """What moves bytes between agents; knows nothing of what they mean.

    Laws: callbacks may come from any thread, and none of them blocks; after :meth:`close` returns, none
    comes any more. A peer's id is what the peer says it is: links need not authenticate, since only
    signatures inside the messages count.
    """

    def open(self, me: str, on_hint: OnHint, on_ask: OnAsk, on_peer: OnPeer) -> None:
        """Join the network as ``me`` (the public key).

        Raises:
            stolon.errors.LinkError: the network cannot be joined; says why.
        """
        ...

    def publish(self, payload: bytes) -> None:
        """Give a small message (at most 1 KiB) to all peers; it may be lost. Never blocks, never raises."""
        ...

    def ask(self, peer: str, payload: bytes, timeout_s: float, then: Callable[[bytes | None], None]) -> None:
        """Send a request to one peer; never blocks, never raises.

        ``then`` is called exactly once, from any thread (also from within this call): with the reply, or with
        None if there was none within ``timeout_s`` or it was above ``MAX_MESSAGE``.
        """
        ...

    def close(self) -> None:
        """Leave the network; pending requests end with None. May be called again."""
        ...

    def reopen(self) -> None:
        """Leave and join anew, with the same callbacks; peers are reported again.

        Raises:
            stolon.errors.LinkError: the network cannot be joined any more.
        """
        ...


@dataclass(frozen=True)
class Publish:
    """Give this hint to all peers: ``link.publish(payload)``."""

    payload: bytes


@dataclass(frozen=True)
class Ask:
    """Ask one peer: ``link.ask``; its outcome goes to ``exchange.answered(ticket, reply or None, now)``."""

    peer: str
    ticket: int
    payload: bytes
    timeout_s: float


@dataclass(frozen=True)
class Commit:
    """All is there: ``holdings.commit``; its outcome goes to ``exchange.committed(id, Refused or None, now)``."""

    peer: str
    id: str
    envelope: bytes
    blobs: Mapping[str, bytes]


@dataclass(frozen=True)
class Offer:
    """A peer holds something by an author whom we do not list; for people to see. Nothing more is fetched.

    Attributes:
        peer: who offered it (need not be its author).
        id: what the peer calls it.
        envelope: its bytes, at most 96 KiB, *not verified*: of a stranger.
    """

    peer: str
    id: str
    envelope: bytes


@dataclass(frozen=True)
class Reopen:
    """Peers are visible but none has answered for three rounds, or longer: ``link.reopen()``."""


@dataclass(frozen=True)
class GiveUp:
    """Opening the link anew did not help three times: the agent should end, with a code for its supervisor."""


Action = Publish | Ask | Commit | Offer | Reopen | GiveUp


@dataclass(frozen=True)
class PeerState:
    """What is known of a peer, for people.

    Attributes:
        id: the peer's public key, as it says.
        linked: it is visible now.
        heard: when its last hint or reply came (the exchange's clock), None if never.
        replied: when it last answered a request properly, None if never.
        equal: it holds what we hold, by its last word; None if it never said.
        count: how many modules and revocations it says it holds.
        pulled: modules and revocations taken from it.
        rejects: bad messages within the last ten minutes.
        ignored_until: until when it is ignored for them, or None.
    """

    id: str
    linked: bool
    heard: float | None
    replied: float | None
    equal: bool | None
    count: int | None
    pulled: int
    rejects: int
    ignored_until: float | None


@dataclass(frozen=True)
class Traffic:
    """Bytes sent and received, by kind: payloads as given to the link, without its own framing."""

    hint: int = 0
    index: int = 0
    envelope: int = 0
    blob: int = 0

    @property
    def total(self) -> int:
        """All kinds together."""
        return self.hint + self.index + self.envelope + self.blob


@dataclass(frozen=True)
class ExchangeSettings:
    """How the exchange behaves in time; its bounds in space are :mod:`stolon.sharing.limits`.

    Attributes:
        hint_s: seconds between hints when nothing changes.
        round_s: seconds between rounds, each with one random peer.
        jitter: share by which the two vary at random, so that agents do not march in step; 0 to 1.
        haste_s: longest random wait before a round that a peer's differing hint asks for at once.
        index_timeout_s: the longest wait for a listing or an envelope; shorter for peers that answer quickly.
        blob_timeout_s: the longest wait for a piece of a blob; shorter for small pieces.
        retries: how often a lost request is sent again within its round.
        strikes: bad messages within ``strike_s`` after which a peer is ignored.
        strike_s: how long a bad message counts, seconds.
        ignore_s: how long a peer is ignored at first, seconds; doubles each time.
        ignore_most_s: the longest that a peer is ignored, seconds.
        silent_s: seconds without any peer's reply after which the link is opened anew: three rounds and the
            time that their requests are given.
        reopenings: how often in a row that may happen before giving up.
    """

    hint_s: float = 5.0
    round_s: float = 2.0
    jitter: float = 0.2
    haste_s: float = 0.1
    index_timeout_s: float = 3.0
    blob_timeout_s: float = 10.0
    retries: int = 3
    strikes: int = 3
    strike_s: float = 600.0
    ignore_s: float = 600.0
    ignore_most_s: float = 86_400.0
    silent_s: float = 12.0
    reopenings: int = 3
