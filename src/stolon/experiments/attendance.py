"""What a worker process does first, whatever its work is."""

import os
import signal
import threading
import time
from typing import Final

POLL_S: Final = 0.2
"""How often it is looked whether something has ended."""


def attend(parent: int) -> None:
    """In a worker, first: end when the runner does, however it ended, and leave Ctrl-C to it.

    A worker whose runner was killed would wait for work for ever, or learn beside the runner's successor.
    Ending in the middle of anything is what trials are made for.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
