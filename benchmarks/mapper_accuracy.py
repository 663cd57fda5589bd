"""Task-mapper accuracy and "unknown" on cached backbone features: the variants that were tried, side by side.

    python benchmarks/mapper_accuracy.py --features DIR [--noise FILE] [--seeds 0 1 2] [--sets folder all]

DIR holds one NAME.npz per data set with train_x, train_y, test_x, test_y (features [N, D]). An eighth of the
training part, class by class, is held out as validation: the default Mahalanobis anchor takes its probes from
it and nothing else reads it. Every figure is a mean over tasks of figures on the test part. Appends one JSON
line per row to benchmarks/results/mapper_accuracy.jsonl.
"""

import argparse
import json
import platform
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import sklearn
import torch
from feature_sets import NOT_FOLDERS, load
from sklearn.metrics import roc_auc_score

from stolon.light.anchors import (
    GaussianAnchor,
    GaussianConfig,
    MahalanobisAnchor,
    MahalanobisConfig,
    fit_gaussian,
    fit_mahalanobis,
    size,
)
from stolon.light.mappers import GaussianMapper, MahalanobisMapper

MAHA, GAUSS = MahalanobisConfig(), GaussianConfig()
OWN = replace(GAUSS, covariance="own", samples_per_component=1)
VARIANTS = {
    "mahalanobis, as published (pinv)": MahalanobisConfig.as_published(),
    "+ Ledoit-Wolf, Cholesky": replace(MahalanobisConfig.as_published(), shrinkage="ledoit-wolf"),
    "+ features of length 1": replace(MAHA, spread=0.0, task_weight=0.0),
    "+ scatter of classes within tasks": replace(MAHA, task_weight=0.0),
    "mahalanobis, default (+ task mean)": MAHA,
    "default, sqrt-l2": replace(MAHA, transform="sqrt-l2"),
    "default, 2 examples": replace(MAHA, examples=2),
    "default, 1 example": replace(MAHA, examples=1),
    "gaussian, as published (k 25)": GaussianConfig.as_published(),
    "as published, k 5": replace(GaussianConfig.as_published(), components=5),
    "own diagonals, length 1": OWN,
    "own diagonals shrunk 0.9": replace(OWN, shrinkage=0.9),
    "pooled diagonal, N / 20": replace(GAUSS, spread=0.0),
    "pooled + scatter, k 25": replace(GAUSS, samples_per_component=1),
    "gaussian, default (N / 20)": GAUSS,
}
READING = {"spread", "task_weight", "shrinkage", "prior", "temperature", "unknown_quantile"}
Config = MahalanobisConfig | GaussianConfig
Anchor = MahalanobisAnchor | GaussianAnchor


_FITTED: dict[str, Anchor] = {}


def fit(name: str, part: dict[str, torch.Tensor], config: Config, seed: int) -> Anchor:
    """An anchor; made once for all configs that differ only in how anchors are read."""
    made_by = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in READING}
    key = repr((type(config).__name__, made_by, name, seed))
    if key not in _FITTED:
        if isinstance(config, MahalanobisConfig):
            _FITTED[key] = fit_mahalanobis(part["x"], part["y"], config, seed, part["val"])
        else:
            _FITTED[key] = fit_gaussian(part["x"], config, seed)
    return _FITTED[key]


def mapper(anchors: dict[str, Anchor], config: Config):
    kind = MahalanobisMapper if isinstance(config, MahalanobisConfig) else GaussianMapper
    return kind(anchors, config)


def far(made, features: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Share called unknown, and how near each input is beside its nearest task's threshold."""
    margin = made.margins(features)
    return float((margin < 0).float().mean()), margin


def accuracy(made, sets) -> tuple[dict[str, float], dict[str, float], float, torch.Tensor]:
    """Per task: share mapped right whether near or not, share called unknown; calibration; margins."""
    right, unknown, margins, gaps = {}, {}, [], []
    for t, name in enumerate(made.tasks):
        scores = made.scores(sets[name]["test"])
        hit = (scores.argmax(1) == t).float()
        right[name] = float(hit.mean())
        unknown[name], margin = far(made, sets[name]["test"])
        margins.append(margin)
        gaps.append(torch.stack([made.map(sets[name]["test"]).confidence, hit]))
    confidence, hit = torch.cat(gaps, 1)
    bins = (confidence * 10).long().clamp(max=9)
    gap = sum(
        float((confidence[bins == b].mean() - hit[bins == b].mean()).abs() * (bins == b).float().mean())
        for b in bins.unique().tolist()
    )
    return right, unknown, gap, torch.cat(margins)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--noise", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sets", nargs="+", default=["folder", "all"])
    parser.add_argument("--only", nargs="+", default=[""], help="variants whose name has one of these")
    parser.add_argument("--no-unknown", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/mapper_accuracy.jsonl")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.parent.mkdir(exist_ok=True)
    where = {
        "features": arguments.features.name,
        "torch": torch.__version__,
        "sklearn": sklearn.__version__,
        "machine": platform.machine(),
        "threads": 1,
    }

    def write(row: dict) -> None:
        with arguments.out.open("a") as file:
            file.write(json.dumps(row | where) + "\n")

    every = {seed: load(arguments.features, seed) for seed in arguments.seeds}
    names = {"all": list(every[arguments.seeds[0]])}
    names["folder"] = [name for name in names["all"] if name not in NOT_FOLDERS]
    for label, config in VARIANTS.items():
        if not any(part in label for part in arguments.only):
            continue
        for which in arguments.sets:
            rows = []
            for seed in arguments.seeds:
                sets = {name: every[seed][name] for name in names[which]}
                began = time.perf_counter()
                anchors = {name: fit(name, part, config, seed) for name, part in sets.items()}
                fitted = time.perf_counter() - began
                made = mapper(anchors, config)
                right, unknown, gap, _ = accuracy(made, sets)
                rows.append([np.mean(list(right.values())), np.mean(list(unknown.values())), gap])
                kilobytes = [size(a.tensors(), half=True) / 1000 for a in anchors.values()]
                write(
                    {"variant": label, "sets": len(sets), "seed": seed, "accuracy": right, "unknown": unknown}
                    | {"mean": rows[-1][0], "calibration_gap": gap, "fit_s": fitted}
                    | {"temperature": made.temperature, "kilobytes_half": kilobytes}
                )
            mean, wide = np.mean(rows, 0), np.std(rows, 0)
            print(
                f"{label:36s} {len(sets):2d} sets  accuracy {mean[0]:.4f} ± {wide[0]:.4f}  "
                f"unknown {mean[1]:.4f}  calibration gap {mean[2]:.3f}  "
                f"kB at half precision {np.mean(kilobytes):.0f} (max {max(kilobytes):.0f})",
                flush=True,
            )
    seed = arguments.seeds[0]
    for label, config in VARIANTS.items():
        if arguments.no_unknown or "default (" not in label:
            continue
        sets = {name: every[seed][name] for name in names["folder"]}
        anchors = {name: fit(name, part, config, seed) for name, part in sets.items()}
        made = mapper(anchors, config)
        *_, near = accuracy(made, sets)
        print(f"\n{label}: share called unknown, and AUROC against the known sets' test images")
        inputs = {name: every[seed][name]["test"] for name in names["all"] if name in NOT_FOLDERS}
        if arguments.noise:
            with np.load(arguments.noise) as file:
                inputs |= {f"({key})": torch.from_numpy(file[key]) for key in file.files}
        for name, features in inputs.items():
            report(write, label, name, far(made, features), near)
        for name, part in sets.items():
            rest = {other: anchor for other, anchor in anchors.items() if other != name}
            made = mapper(rest, config)
            *_, near = accuracy(made, sets)
            report(write, label, name, far(made, part["test"]), near)


def report(write, label: str, name: str, found: tuple[float, torch.Tensor], near: torch.Tensor) -> None:
    share, margin = found
    truth = np.r_[np.ones(len(near)), np.zeros(len(margin))]
    auroc = roc_auc_score(truth, torch.cat([near, margin]).numpy())
    print(f"  {name:20s} unknown {share:.3f}  AUROC {auroc:.3f}", flush=True)
    write({"variant": label, "left_out": name, "unknown": share, "auroc": auroc})


if __name__ == "__main__":
    main()
