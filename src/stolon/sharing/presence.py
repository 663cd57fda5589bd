"""An agent among others: the exchange, what strangers offer, and deciding anew when something came."""

import logging
import random
import threading
from collections.abc import Callable
from typing import final

from stolon.errors import StolonError
from stolon.sharing import envelope, manifest
from stolon.sharing.bank import Bank
from stolon.sharing.codes import Refused
from stolon.sharing.exchange.driver import Driver
from stolon.sharing.exchange.engine import Exchange
from stolon.sharing.exchange.ports import ExchangeSettings, Link, Offer, PeerState, Traffic
from stolon.sharing.holdings import BankHoldings
from stolon.sharing.limits import MAX_OFFERS
from stolon.sharing.upkeep import Upkeep

_log = logging.getLogger(__name__)


@final
class Presence:
    """What runs while an agent is online: the exchange's thread, one that decides what to answer from, and upkeep's.

    Args:
        me: the agent's public key.
        bank: open for writing.
        backbone: fingerprint of the only backbone whose modules are taken.
        link: to the others; opened by :meth:`start`.
        settings: how often to ask others, and the like.
        clock: seconds; never goes back.
        refresh: decides anew what is answered from; called in a thread of its own after something came.
        on_lost: called once if the network is lost for good.
    """

    def __init__(
        self,
        me: str,
        bank: Bank,
        backbone: str,
        link: Link,
        *,
        settings: ExchangeSettings,
        clock: Callable[[], float],
        refresh: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        holdings = BankHoldings(bank, backbone)
        rng = random.SystemRandom()  # jitter and the choice of peers: nothing that is learned depends on it
        self._driver = Driver(
            Exchange(me, holdings, rng, settings),
            holdings,
            link,
            clock,
            on_change=self._came,
            on_offer=self._offered,
            on_give_up=lambda _: on_lost(),
        )
        self._upkeep = Upkeep(bank, self._driver.changed)
        self._refresh = refresh
        self._stale = threading.Event()
        self._is_closing = False
        self._refresher = threading.Thread(target=self._keep_refreshed, name="activation", daemon=True)
        self._offers: dict[str, tuple[str, str]] = {}
        self._offers_lock = threading.Lock()

    def start(self) -> None:
        """Join the network.

        Raises:
            LinkError: it cannot be joined.
        """
        self._driver.start()
        self._refresher.start()
        self._upkeep.start()

    def stop(self) -> None:
        """Leave the network, and wait until all threads have ended."""
        self._upkeep.stop()
        self._driver.stop()
        self._is_closing = True
        self._stale.set()
        if self._refresher.is_alive():
            self._refresher.join()

    def changed(self, *, trust: bool = False) -> None:
        """The bank was changed here; ``trust``: its trust list, too."""
        if trust:
            self._driver.trust_changed()
        self._driver.changed()

    def peers(self) -> tuple[PeerState, ...]:
        """Who was heard, and when."""
        return self._driver.peers()

    def traffic(self) -> tuple[Traffic, Traffic]:
        """Bytes sent and received since the start."""
        return self._driver.traffic()

    def offers(self) -> tuple[tuple[str, str], ...]:
        """What strangers offer, lately: public key and task; signed by that key, and nothing else is checked."""
        with self._offers_lock:
            return tuple(self._offers.values())

    def _came(self, ids: frozenset[str]) -> None:
        _log.info("modules came", extra={"count": len(ids), "ids": sorted(id_[:12] for id_ in ids)})
        self._stale.set()

    def _keep_refreshed(self) -> None:
        """Whatever arrives while it works is seen to together afterwards."""
        while self._stale.wait() and not self._is_closing:
            self._stale.clear()
            try:
                self._refresh()
            except StolonError:  # the bank's folder cannot be read, or an own task's anchor is damaged
                _log.exception("cannot decide anew what to answer from; the answers stay as they were")

    def _offered(self, offer: Offer) -> None:
        opened = envelope.open_envelope(offer.envelope)
        if isinstance(opened, Refused) or not envelope.verify(opened, opened.signers[0]):
            return
        said = manifest.parse(opened.payload)
        if isinstance(said, Refused):
            return
        with self._offers_lock:
            self._offers[offer.id] = (opened.signers[0], said.task)
            while len(self._offers) > MAX_OFFERS:
                del self._offers[next(iter(self._offers))]
