"""What a worker process does first, whatever its work is."""

import os
import signal
import threading
import time
from concurrent.futures import Executor
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


def processes(workers: int, threads: int = 1) -> Executor:
    """So many worker processes of loky's, that attend; numbers depend on the threads of each."""
    from joblib.externals.loky import ProcessPoolExecutor

    env = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))  # before workers import torch
    made: Executor = ProcessPoolExecutor(
        max_workers=workers, initializer=attend, initargs=(os.getpid(),), env=env
    )  # type: ignore[no-untyped-call]
    return made
