"""Learning a task by its head alone, features included, against the bare forward passes over its images.

    python benchmarks/head_only_cost.py --data ../shared/data

One thread; images are decoded beforehand for both. Bare: pre-processing and the backbone in inference mode, in
batches of the same size and memory format, nothing kept. Ours: everything that `learn` does: digest of the
data, features, head to its best epoch, anchor. Alternating in one run; goal: a median ratio of 1.15 or less.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from results import write

from stolon import learners
from stolon.nets.backbone import BATCH, pretrained
from stolon.streams import folders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--set", default="trashnet")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    backbone = pretrained(
        f"timm:mobilenetv2_100?pad_type=same&size={options.size}",
        options.data / "backbones" / "mobilenetv2_100.safetensors",
    )
    task = folders.read_task(options.data / "datasets" / options.set, size=options.size)
    images = torch.cat([part.batch(torch.arange(len(part)))[0] for part in (task.train, task.val)])

    def bare() -> float:
        begun = time.perf_counter()
        with torch.inference_mode():
            for part in images.split(BATCH):
                backbone.module(backbone.preprocessing(part).contiguous(memory_format=torch.channels_last))
        return time.perf_counter() - begun

    def ours() -> float:
        learner = learners.make("lightweight", net=backbone)
        begun = time.perf_counter()
        list(learner.learn(task))
        return time.perf_counter() - begun

    bare(), ours()  # the first optimiser imports a second's worth of modules
    ratios = [ours() / bare() for _ in range(options.rounds)]
    figures = {
        "set": options.set,
        "images": len(images),
        "size": options.size,
        "seed": 0,
        "ratio_median": round(statistics.median(ratios), 3),
        "ratios": [round(r, 3) for r in ratios],
        "goal": 1.15,
    }
    print(figures)
    write("head_only_cost", figures)


if __name__ == "__main__":
    main()
