"""The masks of a basis trained side by side in processes, and then a new task as a sum of them.

On a cluster of Ray's (pip install 'stolon[ray]'), in place of the pool: ``RayExecutor(8, "10.0.0.1:6379")`` of
:mod:`stolon.experiments.on_ray`.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from stolon import learners, streams
from stolon.evaluation import evaluate
from stolon.masks.fitting import Job, MaskTraining
from stolon.masks.frozen import FrozenNet
from stolon.masks.parallel import train_masks
from stolon.masks.popup import MaskRule

NET, MASKS, CLASSES = "mlp-256", 12, 10


def main() -> None:
    """Train the masks, then learn one more task."""
    tasks = streams.make("digits-rotated", tasks=MASKS + 1, step_degrees=5.0)
    frozen = FrozenNet(NET, tasks[0].shape, CLASSES)
    jobs = [Job(task, seed=0) for task in tasks[:MASKS]]
    training = MaskTraining(epochs=8, batch_size=32, learning_rate=1e-2)
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        masks = list(train_masks(frozen, jobs, MaskRule(density=0.5), training, at_once=2, run=pool.map))

    learner = learners.make("impressions", net=NET, density=0.5, impressions=MASKS, alpha_epochs=30)
    learner.take_basis(masks, frozen.identity())
    new = tasks[MASKS]
    for epoch in learner.learn(new):
        print(epoch.task, epoch.phase, epoch.number, epoch.val_accuracy)
    found = evaluate(learner, new)
    assert found is not None
    print(f"{found.accuracy:.2f} right with {learner.coefficients(new.name).numel()} coefficients")


if __name__ == "__main__":
    main()
