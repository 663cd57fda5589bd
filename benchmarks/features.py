"""Backbone features of all sets of shared/data, as mapper_accuracy.py reads them.

    python benchmarks/features.py --data ../shared/data --size 160 --out FOLDER

One NAME.npz per set with train_x, train_y, test_x, test_y (features [N, D]). Folder sets whole; of the sets in
MNIST's file form 1,000 training and 500 test images, of CIFAR-100 2,000 and 1,000, chosen by the seed. Also
NOISE-SIZE.npz beside the folder's files, in `noise/`: uniform noise, plain colours, blurred noise.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from stolon import streams
from stolon.nets.backbone import BATCH, Backbone, pretrained
from stolon.randomness import generator, permutation
from stolon.tasks import Split, Task


def features(backbone: Backbone, split: Split, limit: int | None, seed: int, name: str) -> tuple:
    chosen = permutation(len(split), seed, "features", name)[:limit].sort().values
    rows = [backbone.features(split.batch(part)[0]) for part in chosen.split(BATCH)]
    return torch.cat(rows).numpy(), split.labels[chosen].numpy()


def save(backbone: Backbone, task: Task, out: Path, limits: tuple, seed: int) -> None:
    begun = time.perf_counter()
    train = [
        features(backbone, part, limits[0], seed, task.name) for part in (task.train, task.val) if len(part)
    ]
    test_x, test_y = features(backbone, task.test, limits[1], seed, task.name)
    train_x, train_y = (np.concatenate(parts)[: limits[0]] for parts in zip(*train, strict=True))
    np.savez(out / f"{task.name}.npz", train_x=train_x, train_y=train_y, test_x=test_x, test_y=test_y)
    print(task.name, len(train_y), len(test_y), f"{time.perf_counter() - begun:.0f} s", flush=True)


def noise(backbone: Backbone, out: Path, size: int, seed: int) -> None:
    g = generator(seed, "noise", size)
    small = torch.rand(128, 3, 8, 8, generator=g)
    kinds = {
        "uniform noise": torch.rand(128, 3, size, size, generator=g),
        "one colour": torch.rand(128, 3, 1, 1, generator=g).expand(-1, -1, size, size),
        "blurred noise": torch.nn.functional.interpolate(small, (size, size), mode="bilinear"),
    }
    (out / "noise").mkdir(exist_ok=True)
    found = {name: backbone.features(x).numpy() for name, x in kinds.items()}
    np.savez(out / "noise" / f"noise-{size}.npz", **found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    backbone = pretrained(
        f"timm:mobilenetv2_100?pad_type=same&size={options.size}",
        options.data / "backbones" / "mobilenetv2_100.safetensors",
    )
    options.out.mkdir(parents=True, exist_ok=True)
    noise(backbone, options.out, options.size, options.seed)
    root = options.data / "datasets"
    for task in streams.make("folders", root=root, size=options.size, seed=options.seed):
        save(backbone, task, options.out, (None, None), options.seed)
    for task in streams.make("idx", root=root, seed=options.seed):
        save(backbone, task, options.out, (1000, 500), options.seed)
    whole = streams.make("cifar100-split", root=root, seed=options.seed, tasks=1, classes_per_task=100)[0]
    cifar = Task("CIFAR100", whole.classes, whole.train, whole.val, whole.test)
    save(backbone, cifar, options.out, (2000, 1000), options.seed)


if __name__ == "__main__":
    main()
