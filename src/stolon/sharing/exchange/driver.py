"""Runs an exchange: one thread that waits, and moves bytes between the exchange, the bank and the link."""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar, final

from stolon.errors import LinkError
from stolon.sharing.codes import Code, Refused
from stolon.sharing.exchange.engine import Exchange
from stolon.sharing.exchange.ports import (
    Action,
    Ask,
    Commit,
    GiveUp,
    Holdings,
    Link,
    Offer,
    PeerState,
    Publish,
    Reopen,
    Traffic,
)

COALESCE_S: Final = 0.2
"""Changes within this time are told together."""
_MAX_HINTERS: Final = 1024
_LONGEST_WAIT_S: Final = 60.0

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

Event = Callable[[float], list[Action]]
"""Called in the driver's thread with the clock's time."""


def _ignore(_: object) -> None:
    """Do nothing."""


@final
class Driver:
    """One thread that drives an exchange.

    The link's callbacks only put events into a queue; questions from peers are answered in the link's threads.
    Whatever goes wrong inside is logged with its traceback, and the thread goes on.

    Args:
        exchange: what decides.
        holdings: the bank; its ``commit`` is called in this thread.
        link: the network.
        clock: seconds; never goes back.
        on_change: called in this thread with the ids that came in since the last call, at most every 0.2 s.
        on_offer: called in this thread with what strangers offer.
        on_give_up: called in this thread where the network stays silent: the agent should end.
    """

    def __init__(
        self,
        exchange: Exchange,
        holdings: Holdings,
        link: Link,
        clock: Callable[[], float] = time.monotonic,
        *,
        on_change: Callable[[frozenset[str]], None] = _ignore,
        on_offer: Callable[[Offer], None] = _ignore,
        on_give_up: Callable[[GiveUp], None] = _ignore,
    ) -> None:
        self._exchange = exchange
        self._holdings = holdings
        self._link = link
        self._clock = clock
        self._on_change = on_change
        self._on_offer = on_offer
        self._on_give_up = on_give_up
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._hints: dict[str, bytes] = {}  # the last one of each peer: a flood of them is one event
        self._hints_lock = threading.Lock()
        self._state_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._new: set[str] = set()
        self._tell_at = float("inf")

    @property
    def is_running(self) -> bool:
        """Between :meth:`start` and :meth:`stop`."""
        return self._thread is not None

    def start(self) -> None:
        """Join the network and begin. Without effect where it runs already.

        Raises:
            stolon.errors.LinkError: the network cannot be joined.
        """
        with self._state_lock:
            if self._thread is not None:
                return
            self._events = queue.SimpleQueue()
            self._link.open(self._exchange.me, self._heard, self._exchange.asked, self._seen)
            self._thread = threading.Thread(target=self._run, name="stolon-exchange", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Leave the network and end; what is being taken in is taken in first. May be called again."""
        with self._state_lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        self._link.close()
        self._events.put(None)
        if thread is not threading.current_thread():
            thread.join()

    def changed(self) -> None:
        """The bank was changed by somebody else than this driver: tell the peers. From any thread."""
        self._events.put(self._exchange.changed)

    def trust_changed(self) -> None:
        """The trust list was changed: look at everything anew. From any thread."""
        self._events.put(self._exchange.trust_changed)

    def peers(self) -> tuple[PeerState, ...]:
        """What is known of each peer. From any thread."""
        return self._exchange.peers(self._clock())

    def traffic(self) -> tuple[Traffic, Traffic]:
        """Bytes sent and received so far. From any thread."""
        return self._exchange.traffic()

    # The link calls these, from its threads.

    def _heard(self, peer: str, payload: bytes) -> None:
        with self._hints_lock:
            is_waiting = peer in self._hints
            if not is_waiting and len(self._hints) >= _MAX_HINTERS:
                return
            self._hints[peer] = payload
        if not is_waiting:
            self._events.put(partial(self._hear, peer))

    def _seen(self, peer: str, alive: bool) -> None:  # noqa: FBT001 - the link's callback
        event = self._exchange.linked if alive else self._exchange.unlinked
        self._events.put(partial(event, peer))

    def _replied(self, ticket: int, payload: bytes | None) -> None:
        self._events.put(partial(self._exchange.answered, ticket, payload))

    # The rest happens in the driver's thread.

    def _hear(self, peer: str, now: float) -> list[Action]:
        with self._hints_lock:
            payload = self._hints.pop(peer)
        return self._exchange.heard(peer, payload, now)

    def _run(self) -> None:
        events = self._events
        while True:
            wait = self._guarded(self._wait, default=1.0)
            try:
                event = events.get(timeout=wait) if wait > 0 else events.get_nowait()
            except queue.Empty:
                event = self._exchange.tick
            if event is None:
                break
            self._guarded(partial(self._handle, event), default=None)
            if self._clock() >= self._tell_at:
                self._guarded(self._tell, default=None)
        self._guarded(self._leave, default=None)
        self._guarded(self._tell, default=None)

    def _wait(self) -> float:
        """Seconds until something is to be done by itself."""
        now = self._clock()
        due = min(self._exchange.next_due(now), self._tell_at)
        return min(max(due - now, 0.0), _LONGEST_WAIT_S)

    def _handle(self, event: Event) -> None:
        actions = deque(event(self._clock()))
        while actions:
            actions.extend(self._guarded(partial(self._perform, actions.popleft()), default=[]))

    def _perform(self, action: Action) -> list[Action]:
        """Do what the exchange says; what follows from that."""
        match action:
            case Publish():
                self._link.publish(action.payload)
            case Ask():
                then = partial(self._replied, action.ticket)
                self._link.ask(action.peer, action.payload, action.timeout_s, then)
            case Commit():
                return self._commit(action)
            case Offer():
                self._on_offer(action)
            case Reopen():
                try:
                    self._link.reopen()
                except LinkError:
                    _log.exception("the link cannot be opened anew; trying again later")
            case _:
                self._on_give_up(action)
        return []

    def _commit(self, action: Commit) -> list[Action]:
        try:
            outcome = self._holdings.commit(action.envelope, action.blobs)
        except OSError as error:
            _log.exception("%s cannot be stored", action.id)
            outcome = Refused(Code.DISK_FULL, str(error))
        except Exception:  # noqa: BLE001 - a bug in a check must not end the thread
            # Not to be asked for again, and nobody's fault but ours.
            _log.exception("%s could not be taken in", action.id)
            outcome = Refused(Code.UNSUPPORTED, "taking it in failed")
        if isinstance(outcome, Refused):
            return self._exchange.committed(action.id, outcome, self._clock())
        self._new.add(action.id)
        self._tell_at = min(self._tell_at, self._clock() + COALESCE_S)
        return self._exchange.committed(action.id, None, self._clock())

    def _tell(self) -> None:
        """Tell what came in."""
        new, self._new = frozenset(self._new), set()
        self._tell_at = float("inf")
        if new:
            self._on_change(new)

    def _leave(self) -> None:
        """Nobody is visible any more."""
        for peer in self._exchange.peers(self._clock()):
            self._exchange.unlinked(peer.id, self._clock())

    def _guarded(self, step: Callable[[], _T], *, default: _T) -> _T:
        """Do one step; an error in it ends the step, not the thread."""
        try:
            return step()
        except Exception:  # noqa: BLE001 - logged with its traceback; the thread must go on
            _log.exception("an error inside the exchange; it goes on")
            return default
