"""Runs a small experiment in the folder that is named; the tests kill it at random moments."""

import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from tests.experiments.fakes import make_learner, make_stream

from stolon.experiments import Experiment, LearnerSpec, StreamSpec, run


def experiment() -> Experiment:
    settings = {"epochs": 6, "pause_s": 0.004, "infers": True}
    return Experiment(
        "kill",
        [LearnerSpec("fake", "x", settings=settings)],
        [StreamSpec("s")],
        seeds=[0, 1],
        workers=0,
        checkpoint_every_s=0,
    )


def main(folder: str, kills: int) -> None:
    """Start it again and again, each time in a fresh process that is killed; at last let it end."""
    torch.set_num_threads(1)
    rng = random.Random(0)
    for _ in range(kills):
        if (child := os.fork()) == 0:
            go(folder)
        time.sleep(rng.uniform(0.0, 0.12))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        sys.stdout.write("killed\n" if os.WIFSIGNALED(status) else "ended\n")
        sys.stdout.flush()  # or the next child writes it too
    go(folder)


def go(folder: str) -> None:
    try:
        for _ in run(experiment(), folder, make_learner=make_learner, make_stream=make_stream):
            pass
    except BaseException:  # noqa: BLE001 - a child of a fork must not go on as its parent
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
