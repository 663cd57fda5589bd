"""`finetune` against a bare PyTorch loop, side by side in one run: samples per second as a ratio.

    python benchmarks/finetune_speed.py

60,000 MNIST-shaped images in memory, a 784-100-100-10 network, batches of 64, SGD with momentum, one thread.
Whole epochs, alternating, so that a busy moment of the machine hits both; the median of the ratios counts.
"""

import statistics
import time

import torch
from results import write
from torch import nn

from stolon import learners
from stolon.tasks import Split, Task

IMAGES, BATCH, ROUNDS = 60_000, 64, 9


def bare(x: torch.Tensor, y: torch.Tensor) -> float:
    """Seconds for one epoch of the shortest honest PyTorch loop."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10)
    )
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
    begun = time.perf_counter()
    for indices in torch.randperm(len(x)).split(BATCH):
        loss = nn.functional.cross_entropy(network(x[indices]), y[indices])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - begun


def ours(task: Task) -> float:
    """Seconds for the same epoch by the learner, everything it does included."""
    learner = learners.make("finetune", net="mlp-100-100", epochs=1, batch_size=BATCH, learning_rate=0.01)
    begun = time.perf_counter()
    list(learner.learn(task))
    return time.perf_counter() - begun


def main() -> None:
    torch.set_num_threads(1)
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(IMAGES, 1, 28, 28, generator=g), torch.randint(0, 10, (IMAGES,), generator=g)
    few = Split.of(x[:100], y[:100])
    task = Task("images", tuple("0123456789"), Split.of(x, y), few, few)
    bare(x, y), ours(task)  # torch's first optimiser imports a second's worth of modules
    pairs = [(bare(x, y), ours(task)) for _ in range(ROUNDS)]
    ratios = [a / b for a, b in pairs]
    figures = {
        "seed": 0,
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_low": round(min(ratios), 3),
        "ratio_high": round(max(ratios), 3),
        "goal": 0.8,
    }
    print(figures)
    write("finetune_speed", figures)


if __name__ == "__main__":
    main()
