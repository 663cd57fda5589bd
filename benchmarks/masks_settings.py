"""Two settings of supermasks and impressions that our defaults do otherwise than the papers: does it pay?

    python benchmarks/masks_settings.py --root ../shared/data/datasets [--seeds 3]

LeNet-300-100, rotated MNIST by one degree a task (54,000 training images), density 0.1, one epoch a mask:

- accuracy of a task's own mask with kept weights scaled by the root of their share, and without (as SupSup has it);
- accuracy of the next three tasks as sums of the first ten tasks' masks (scaled), two epochs, by RMSprop at several
  learning rates (the paper's is 0.002).

Means and 95 % Student intervals over seeds (of network, scores and orders), on the 10,000 test images. Writes
benchmarks/results/masks_settings.json.
"""

import argparse

import torch
from results import write

from stolon import learners, measure, streams

RATES = (2e-3, 1e-2, 2e-2, 5e-2)
NEW = 3
BASIS = 10


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tasks = streams.make("mnist-rotated", root=options.root, tasks=BASIS + NEW, step_degrees=1.0)
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)
        print(name, f"{value:.4f}", flush=True)

    for seed in range(options.seeds):
        common = {"net": "lenet-300-100", "epochs": 1, "backbone_seed": seed}
        for scaled in (True, False):
            note(
                f"own mask, scaled={scaled}",
                of(learners.make("supsup", scaled=scaled, **common), [tasks[BASIS]], seed),
            )
        learner = learners.make("impressions", impressions=BASIS, scaled=True, **common)
        for task in tasks[:BASIS]:
            list(learner.learn(task, seed=seed))
        record = learner.record()
        for rate in RATES:
            again = learners.make(
                "impressions",
                impressions=BASIS,
                scaled=True,
                alpha_optimizer="rmsprop",
                alpha_schedule="constant",
                alpha_learning_rate=rate,
                **common,
            )
            note(f"sums, rate {rate}", of(again.restore(record), tasks[BASIS:], seed))
    rows = {name: measure.interval(values) for name, values in found.items()}
    for name, interval in rows.items():
        print(f"{name}: {100 * interval.mean:.1f} +- {100 * interval.half_width:.1f} %")
    write(
        "masks_settings",
        {
            "seeds": options.seeds,
            "rows": {name: [round(i.mean, 4), round(i.half_width, 4)] for name, i in rows.items()},
        },
    )


def of(learner, tasks, seed: int) -> float:
    """Mean test accuracy of these tasks, learned one after the other."""
    scores = []
    for task in tasks:
        list(learner.learn(task, seed=seed))
        x, y = task.test.batch(torch.arange(len(task.test)))
        scores.append(float((learner.logits(x, task.name).argmax(1) == y).float().mean()))
    return sum(scores) / len(scores)


if __name__ == "__main__":
    main()
