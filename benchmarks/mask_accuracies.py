"""What the scripts that compare settings of masks by the accuracy of tasks have in common."""

import argparse
from collections.abc import Callable

import torch
from results import write

from stolon import measure

Note = Callable[[str, float], None]


def compare(about: str, kept: str, one_seed: Callable[[str, int, Note], None]) -> None:
    """Measure for every seed, print means and 95 % Student intervals, and write them down.

    Args:
        about: what the script's help says.
        kept: the name of the results file.
        one_seed: takes the folder of data, a seed, and what notes a value under a name.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)
        print(name, f"{value:.4f}", flush=True)

    for seed in range(options.seeds):
        one_seed(options.root, seed, note)
    rows = {name: measure.interval(values) for name, values in found.items()}
    for name, interval in rows.items():
        print(f"{name}: {100 * interval.mean:.1f} +- {100 * interval.half_width:.1f} %")
    write(
        kept,
        {
            "seeds": options.seeds,
            "rows": {name: [round(i.mean, 4), round(i.half_width, 4)] for name, i in rows.items()},
        },
    )


def learned(learner, tasks, seed: int) -> float:
    """Mean test accuracy of these tasks, learned one after the other."""
    scores = []
    for task in tasks:
        list(learner.learn(task, seed=seed))
        x, y = task.test.batch(torch.arange(len(task.test)))
        scores.append(float((learner.logits(x, task.name).argmax(1) == y).float().mean()))
    return sum(scores) / len(scores)
