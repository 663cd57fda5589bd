"""How coefficients should be trained: new tasks as sums of a few masks, and of many.

    python benchmarks/masks_coefficients.py --root ../shared/data/datasets [--seeds 3]

LeNet-300-100, 18,000 training images, masks of density 0.1 trained for two epochs. Three new tasks as sums of the first
tasks' masks, ten of rotated and 25 of permuted MNIST, with coefficients trained for two epochs in several ways. The
first step of PyTorch's RMSprop is ten times the learning rate for each coefficient, whatever the gradient; coefficients
begin at one over the number of masks.

Means and 95 % Student intervals over seeds (of network, scores, orders and permutations), on the 10,000 test images.
Writes benchmarks/results/masks_coefficients.json.
"""

from mask_accuracies import Note, compare, learned

from stolon import learners, streams

TRAININGS = {
    "RMSprop 0.002 (paper, MNIST)": ("rmsprop", 2e-3, "constant"),
    "RMSprop 0.01": ("rmsprop", 1e-2, "constant"),
    "RMSprop 0.02": ("rmsprop", 2e-2, "constant"),
    "Adam 0.01, falling": ("adam", 1e-2, "cosine"),
    "Adam 0.02, falling (paper, CIFAR-100; code's schedule)": ("adam", 2e-2, "cosine"),
}
STREAMS = {"mnist-rotated": (10, {"step_degrees": 1.0}), "mnist-permuted": (25, {"first_plain": False})}
NEW = 3


def one_seed(root: str, seed: int, note: Note) -> None:
    common = {"net": "lenet-300-100", "epochs": 2, "backbone_seed": seed}
    for stream, (basis, settings) in STREAMS.items():
        tasks = streams.make(
            stream, root=root, seed=seed, tasks=basis + NEW, train_per_class=2000, normalize=True, **settings
        )
        learner = learners.make("impressions", impressions=basis, **common)
        for task in tasks[:basis]:
            list(learner.learn(task, seed=seed))
        record = learner.record()
        for name, (optimizer, rate, schedule) in TRAININGS.items():
            training = {
                "alpha_optimizer": optimizer,
                "alpha_learning_rate": rate,
                "alpha_schedule": schedule,
            }
            again = learners.make("impressions", impressions=basis, **training, **common)
            note(f"{stream}, sums of {basis}, {name}", learned(again.restore(record), tasks[basis:], seed))


if __name__ == "__main__":
    compare(__doc__, "masks_coefficients", one_seed)
