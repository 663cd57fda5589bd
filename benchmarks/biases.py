"""Do beneficial biases raise accuracy where the head alone is below 0.8? On real image folders.

    python benchmarks/biases.py --data ../shared/data [--only NAME ...]

For each image-folder set: the lightweight learner's head alone, then, where its test accuracy is below 0.8,
the same with biases after every convolution. Test accuracy with the task named; same seed, same data.
Goal: biases raise accuracy on at least two thirds of those sets.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from results import FOLDER, provenance

from stolon import learners
from stolon.evaluation import evaluate
from stolon.nets.backbone import Backbone, pretrained
from stolon.streams import folders


def learned(backbone: Backbone, task, seed: int, **settings) -> tuple[float, bool, float]:
    """Test accuracy, whether biases were kept, and seconds."""
    begun = time.perf_counter()
    learner = learners.make("lightweight", net=backbone, **settings)
    for epoch in learner.learn(task, seed=seed):
        if epoch.phase == "biases":
            print(
                f"    {epoch.number}/{epoch.total} loss {epoch.loss:.3f} val {epoch.val_accuracy:.3f}",
                flush=True,
            )
    judged = evaluate(learner, task)
    assert judged is not None, "every set has test images"
    return judged.accuracy, bool(len(learner.knowledge(task.name).biases)), time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    backbone = pretrained(
        f"timm:mobilenetv2_100?pad_type=same&size={options.size}",
        options.data / "backbones" / "mobilenetv2_100.safetensors",
    )
    sets = sorted(p for p in (options.data / "datasets").iterdir() if (p / "train").is_dir())
    FOLDER.mkdir(exist_ok=True)
    for path in sets:
        if options.only and path.name not in options.only:
            continue
        task = folders.read_task(path, size=options.size, seed=options.seed)
        head, _, _ = learned(backbone, task, options.seed)
        row = {"set": path.name, "train": len(task.train), "test": len(task.test), "head": round(head, 4)}
        if head < 0.8:
            tuned, kept, took = learned(
                backbone, task, options.seed, biases="all", bias_epochs=options.epochs
            )
            row |= {"with_biases": round(tuned, 4), "kept": kept, "seconds": round(took)}
        print(row, flush=True)
        with (FOLDER / "biases.jsonl").open("a") as file:
            settings = {"size": options.size, "bias_epochs": options.epochs, "seed": options.seed}
            file.write(json.dumps({**row, **settings, **provenance()}) + "\n")


if __name__ == "__main__":
    main()
