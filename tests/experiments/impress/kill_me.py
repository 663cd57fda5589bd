"""Runs a figure in the folder that is named, again and again, killed at random moments; at last it may end."""

import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import torch
from tests.experiments.impress.making import plan

from stolon.experiments.impress.running import run


def main(folder: str, kills: int) -> None:
    """Each try is a process of its own."""
    torch.set_num_threads(1)
    rng = random.Random(0)
    for _ in range(kills):
        if (child := os.fork()) == 0:
            go(folder)
        time.sleep(rng.uniform(0.1, 1.0))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        sys.stdout.write("killed\n" if os.WIFSIGNALED(status) else "ended\n")
        sys.stdout.flush()  # or the next child writes it too
    go(folder)


def go(folder: str) -> None:
    """One try."""
    try:
        for _ in run(plan(runs=1), folder):
            pass
    except BaseException:  # noqa: BLE001 - a child of a fork must not go on as its parent
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
