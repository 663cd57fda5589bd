"""Whether the network still answers: measured by other agents' replies, never by asking oneself."""

from typing import Final, final

from stolon.sharing.exchange.ports import ExchangeSettings, GiveUp, Reopen

_FEW: Final = 3
"""Requests without an answer before silence means anything."""


@final
class Watchdog:
    """Finds a link that shows peers but carries nothing, as happens after unclean ends (zenoh#1876).

    The first time after ``silent_s``, then after twice and four times that, the link is opened anew. If that did
    not help either, and one of the visible peers did answer once, the agent should end. Peers that never said a
    word do not make it end: anybody can invent those.

    Args:
        settings: ``silent_s`` and ``reopenings``.
    """

    def __init__(self, settings: ExchangeSettings) -> None:
        self._settings = settings
        self._unanswered = 0
        self._reopened = 0
        self._since: float | None = None  # None: nobody is visible, so silence is no wonder

    def answered(self, now: float) -> None:
        """A peer answered a request properly."""
        self._unanswered = self._reopened = 0
        self._since = now

    def unanswered(self) -> None:
        """A request was not answered."""
        self._unanswered += 1

    def due(self) -> float:
        """When silence will have lasted too long."""
        if self._since is None or self._unanswered < _FEW:
            return float("inf")
        times = min(self._reopened, self._settings.reopenings)
        return self._since + self._settings.silent_s * (1 << times)

    def check(self, now: float, *, are_visible: bool, have_answered: bool) -> Reopen | GiveUp | None:
        """What is to be done now.

        Args:
            now: the exchange's clock.
            are_visible: there are peers.
            have_answered: one of them did answer, at some time.
        """
        if not are_visible:
            self._since = None
            return None
        if self._since is None:
            self._since, self._unanswered = now, 0
        if now < self.due():
            return None
        self._since, self._unanswered = now, 0
        self._reopened += 1
        if self._reopened > self._settings.reopenings and have_answered:
            return GiveUp()
        return Reopen()
