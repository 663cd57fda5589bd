"""Reading a bank again and again, slowly, so that what rots on the disk is noticed while peers still have it.

What is used or passed on is compared with its hash anyway. A module that nobody asks for would rot unseen, and the
peer that it could be fetched from may be gone by the time that somebody does.
"""

import logging
import threading
from bisect import bisect_right
from collections.abc import Callable
from typing import Final, final

from stolon.errors import StolonError
from stolon.sharing.bank import Bank

PAUSE_S: Final = 2.0
"""Seconds between two modules: a thousand are read within 40 minutes."""
RATE: Final = 2**20
"""Most bytes that are read per second, on the average."""

_log = logging.getLogger(__name__)


@final
class Upkeep:
    """A thread that checks one module or revocation of a bank after the other, in the order of their ids, for ever.

    Args:
        bank: open for writing.
        damaged: called in that thread after something was found damaged and set aside, so that it is fetched again.
    """

    def __init__(self, bank: Bank, damaged: Callable[[], None]) -> None:
        self._bank, self._damaged = bank, damaged
        self._last = ""
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin, after a pause."""
        self._thread.start()

    def stop(self) -> None:
        """End, once what is being read was read; may be called again."""
        self._ends.set()
        if self._thread.is_alive():
            self._thread.join()

    def step(self) -> float:
        """Check what comes after what was checked last.

        Returns:
            Seconds to wait before the next step.
        """
        ids = sorted(self._bank.ids())
        if not ids:
            return PAUSE_S
        self._last = ids[bisect_right(ids, self._last) % len(ids)]
        read = self._bank.check_one(self._last)
        reason = self._bank.damaged().get(self._last)
        if reason is not None:
            _log.warning("damage was found on the disk", extra={"id": self._last[:12], "reason": reason})
            self._damaged()
        return max(PAUSE_S, read / RATE)

    def _run(self) -> None:
        wait = PAUSE_S
        while not self._ends.wait(wait):
            try:
                wait = self.step()
            except (OSError, StolonError):
                # what is damaged cannot be set aside; it is out of use all the same
                _log.exception("cannot check %s", self._last[:12])
                wait = PAUSE_S
