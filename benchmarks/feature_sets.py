"""Cached backbone features of data sets, as features.py writes them."""

from pathlib import Path

import numpy as np
import torch

from stolon import randomness

NOT_FOLDERS = {"ArabicCharacters", "CIFAR100", "FashionMNIST", "KannadaMNIST", "MNIST", "NotMNIST"}


def load(folder: Path, seed: int) -> dict[str, dict[str, torch.Tensor]]:
    """Every set, with an eighth of each class of its training part held out as validation."""
    sets = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            part = {key: torch.from_numpy(file[key]) for key in file.files}
        y = part["train_y"].long()
        order = randomness.permutation(len(y), seed, "benchmark", path.stem)
        order = order[y[order].argsort(stable=True)]
        counts = y.bincount()
        rank = torch.arange(len(y)) - (counts.cumsum(0) - counts)[y[order]]
        held = rank < (counts[y[order]] / 8).round().clamp(min=1)
        sets[path.stem] = {
            "x": part["train_x"][order[~held]],
            "y": y[order[~held]],
            "val": part["train_x"][order[held]],
            "val_y": y[order[held]],
            "test": part["test_x"],
            "test_y": part["test_y"].long(),
        }
    return sets
