"""Two settings of supermasks and impressions that our defaults do otherwise than the papers: does it pay?

    python benchmarks/masks_settings.py --root ../shared/data/datasets [--seeds 3]

LeNet-300-100, rotated MNIST by one degree a task (54,000 training images), density 0.1, one epoch a mask:

- accuracy of a task's own mask with kept weights scaled by the root of their share, and without (as SupSup has it);
- accuracy of the next three tasks as sums of the first ten tasks' masks (scaled), two epochs, by RMSprop at several
  learning rates (the paper's is 0.002).

Means and 95 % Student intervals over seeds (of network, scores and orders), on the 10,000 test images. Writes
benchmarks/results/masks_settings.json.
"""

from mask_accuracies import Note, compare, learned

from stolon import learners, streams

RATES = (2e-3, 1e-2, 2e-2, 5e-2)
NEW = 3
BASIS = 10


def one_seed(root: str, seed: int, note: Note) -> None:
    tasks = streams.make("mnist-rotated", root=root, tasks=BASIS + NEW, step_degrees=1.0)
    common = {"net": "lenet-300-100", "epochs": 1, "backbone_seed": seed}
    for scaled in (True, False):
        learner = learners.make("supsup", scaled=scaled, **common)
        note(f"own mask, scaled={scaled}", learned(learner, [tasks[BASIS]], seed))
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
        note(f"sums, rate {rate}", learned(again.restore(record), tasks[BASIS:], seed))


if __name__ == "__main__":
    compare(__doc__, "masks_settings", one_seed)
