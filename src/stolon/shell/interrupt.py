"""Ctrl-C that waits for a moment at which everything is complete."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import final

from rich.console import Console


@final
class StopWish:
    """Whether the person has asked to stop."""

    def __init__(self) -> None:
        self.made = False


@contextmanager
def gentle_interrupt(console: Console) -> Iterator[StopWish]:
    """Within it, the first Ctrl-C is a wish that the loop may look at; the second stops at once.

    Work is only complete between epochs, so stopping in the middle of one would throw it away.
    """
    wish = StopWish()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if wish.made:
            signal.default_int_handler(number, frame)
        wish.made = True
        console.print("\nfinishing this epoch, then saving (Ctrl-C again stops at once)")

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield wish
    finally:
        signal.signal(signal.SIGINT, before)
