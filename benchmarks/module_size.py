"""How large modules are in each precision, and what that costs in accuracy on real features.

    python benchmarks/module_size.py --features DIR [--seeds 0 1 2]

DIR holds one NAME.npz per data set, as features.py writes them. An eighth of each class of the training part is
held out: the head's best epoch is chosen on it, and Mahalanobis anchors take their probes from it. Heads are
trained as the learner trains them; each task's knowledge is packed in each precision, read back, and answers on
the test part: the head alone (task named), the task mapper alone (nearest task), both together, and how
many known inputs are called unknown. All figures are means over tasks, the same heads and anchors in each row.

The sizes are of whole module files, envelope and manifest included, for 49 classes of 2,048 features: the paper's
example, which takes 813.8 kB there (Ge et al., TMLR 2023, section 6). Writes benchmarks/results/module_size.json.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from feature_sets import NOT_FOLDERS, load
from results import write
from torch.nn.functional import linear

from stolon import randomness
from stolon.light.anchoring import Anchoring
from stolon.light.answering import TaskKnowledge
from stolon.light.best_fit import BestFit, Schedule
from stolon.light.config import LightweightConfig
from stolon.light.task_run import _verdict
from stolon.sharing import lightweight, module
from stolon.sharing.keys import Key
from stolon.sharing.precision import PRECISIONS
from stolon.sharing.task_module import TaskModule

KINDS = ("gmm", "mahalanobis")
PAPER_BYTES = 813_800
KEY = Key(bytes(32))


def about(task: str, classes: int) -> TaskModule:
    names = tuple(f"class number {label}" for label in range(classes))
    return TaskModule("lightweight", task, names, {}, "timm:mobilenetv2_100", "0" * 64)


def sizes(classes: int = 49, width: int = 2048, samples: int = 3000) -> dict:
    """Bytes of module files of a task of the paper's shape; the numbers in it do not matter."""
    generator = randomness.generator(0, "module size")
    features = torch.rand(samples, width, generator=generator)
    labels = torch.arange(samples) % classes
    found = {}
    for kind in KINDS:
        anchoring = Anchoring(kind, {})
        anchor = anchoring.fit(features, labels, features[:100], 0, lambda indices: indices)
        own = TaskKnowledge(torch.rand(classes, width), torch.rand(classes), torch.zeros(0), anchor)
        for precision in PRECISIONS:
            made = lightweight.of_knowledge(own, about("sites", classes), anchoring, precision)
            found[f"{kind}, {precision}"] = len(module.pack(made, KEY))
    return found


def head(task: str, part: dict[str, torch.Tensor], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A linear head, trained as :class:`stolon.light.task_run.TaskRun` does it."""
    config = LightweightConfig()
    with randomness.seeded(seed, "head", task):
        fresh = torch.nn.Linear(part["x"].shape[1], int(part["y"].max()) + 1)
    fit = BestFit(
        {"weight": fresh.weight, "bias": fresh.bias},
        lambda own, indices, _: linear(part["x"][indices], own["weight"], own["bias"]),
        part["y"],
        lambda own: _verdict(linear(part["val"], own["weight"], own["bias"]), part["val_y"]),
        Schedule(
            config.epochs,
            config.patience,
            config.batch_size,
            dict.fromkeys(("weight", "bias"), config.learning_rate),
        ),
    )
    for _ in fit.run(task, "head", seed):
        pass
    return fit.best["weight"], fit.best["bias"]


@torch.no_grad()
def answers(sets: dict, knowledge: dict[str, TaskKnowledge], anchoring: Anchoring) -> dict[str, float]:
    """Accuracies, each the mean over tasks."""
    mapper = anchoring.mapper({task: own.anchor for task, own in knowledge.items()}, lambda x: x)
    rows = []
    for position, task in enumerate(mapper.tasks):
        part, own = sets[task], knowledge[task]
        nearest = mapper.scores(part["test"]).argmax(1) == position
        right = linear(part["test"], own.weight, own.bias).argmax(1) == part["test_y"]
        unknown = mapper.map(part["test"]).tasks == -1
        rows.append([right, nearest, right & nearest, unknown])
    means = [float(np.mean([float(row[i].float().mean()) for row in rows])) for i in range(4)]
    return dict(zip(("head", "mapper", "joint", "unknown"), means, strict=True))


def measure(folder: Path, seeds: list[int]) -> list[dict]:
    found = []
    for seed in seeds:
        every = load(folder, seed)
        heads = {task: head(task, part, seed) for task, part in every.items()}
        for kind in KINDS:
            anchoring = Anchoring(kind, {})
            own = {
                task: TaskKnowledge(
                    *heads[task],
                    torch.zeros(0),
                    anchoring.fit(part["x"], part["y"], part["val"], seed, lambda indices: indices),
                )
                for task, part in every.items()
            }
            for which, names in (
                ("folders", [n for n in every if n not in NOT_FOLDERS]),
                ("all", list(every)),
            ):
                for precision in PRECISIONS:
                    found.append(row(every, own, names, anchoring, precision))
                    found[-1] = {"anchor": kind, "sets": which, "tasks": len(names), "seed": seed} | found[-1]
                    print(found[-1], flush=True)
    return found


def row(every: dict, own: dict, names: list[str], anchoring: Anchoring, precision: str) -> dict:
    read, sent = {}, []
    for task in names:
        made = lightweight.of_knowledge(own[task], about(task, len(own[task].weight)), anchoring, precision)
        sent.append(len(module.pack(made, KEY)))
        read[task] = lightweight.knowledge(made)
    sets = {task: every[task] for task in names}
    return {
        "precision": precision,
        **answers(sets, read, anchoring),
        "kilobytes_mean": float(np.mean(sent)) / 1000,
        "kilobytes_most": max(sent) / 1000,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = sizes()
    for name, size in found.items():
        print(f"49 x 2048, {name}: {size:,} bytes, {size / PAPER_BYTES:.3f} of the paper's")
    rows = measure(options.features, options.seeds)
    summary = [summarised(rows, kind, which) for kind in KINDS for which in ("folders", "all")]
    for line in summary:
        print(line)
    write("module_size", {"paper_bytes": PAPER_BYTES, "bytes_49x2048": found, "loss": summary, "rows": rows})


def summarised(rows: list[dict], kind: str, which: str) -> dict:
    """What a precision loses against full, in percentage points, the mean and the worst over the seeds."""
    chosen = [r for r in rows if (r["anchor"], r["sets"]) == (kind, which)]
    full = {r["seed"]: r for r in chosen if r["precision"] == "full"}
    line: dict = {"anchor": kind, "sets": which}
    for precision in ("half", "compact"):
        mine = [r for r in chosen if r["precision"] == precision]
        for figure in ("head", "mapper", "joint", "unknown"):
            lost = [100 * (full[r["seed"]][figure] - r[figure]) for r in mine]
            line[f"{precision}_{figure}_points_lost"] = {
                "mean": round(float(np.mean(lost)), 3),
                "each": [round(v, 3) for v in lost],
            }
    return line


if __name__ == "__main__":
    main()
