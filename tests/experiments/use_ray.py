"""What a process finds on Ray, and by itself, as JSON, for test_on_ray.py.

A process of its own, for Ray leaves children behind that a test's would be blamed for.
"""

import hashlib
import json
import os
import sys
from concurrent.futures import BrokenExecutor, Executor
from pathlib import Path

from tests.experiments.search.making import PLAN, trials
from tests.learner_contract import toy_task

from stolon.errors import SettingError
from stolon.experiments.on_ray import RayExecutor
from stolon.experiments.search.searching import run
from stolon.masks.fitting import Job, MaskTraining
from stolon.masks.frozen import FrozenNet
from stolon.masks.parallel import train_masks
from stolon.masks.popup import MaskRule


class Lent(Executor):
    """A cluster that a search leaves as it is."""

    def __init__(self, cluster):
        self.submit = cluster.submit

    def shutdown(self, wait=True, *, cancel_futures=False):
        pass


def raised(call):
    try:
        call()
    except (ZeroDivisionError, BrokenExecutor, SettingError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def masks(way):
    frozen = FrozenNet("mlp-12", (1, 8, 8), 3)
    jobs = [Job(toy_task(f"t{i}", i), i) for i in range(3)]
    training = MaskTraining(epochs=2, batch_size=16, learning_rate=0.01)
    digest = hashlib.sha256()
    for mask in train_masks(frozen, jobs, MaskRule(density=0.3), training, at_once=1, run=way):
        for name, value in sorted(mask.tensors().items()):
            digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def search(folder, **how):
    list(run(PLAN, folder, trials=3, **how))
    return trials(folder)


def main(folder):
    here = search(folder / "here", workers=0)
    with RayExecutor(2) as ray:
        found = {
            "is_another_process": ray.submit(os.getpid).result() != os.getpid(),
            "map": list(ray.map(len, ["a", "bb", ""])),
            "raised": raised(ray.submit(divmod, 7, 0).result),
            "killed": raised(ray.submit(os._exit, 1).result),
            "after": ray.submit(abs, -1).result(),
            "second": raised(lambda: RayExecutor(1)),
            "masks": [masks(map), masks(ray.map)],
            "search": search(folder / "there", workers=2, make_executor=lambda _: Lent(ray)) == here,
            "done": sum(trial.outcome is not None for trial in here),
        }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
