"""The examples run as a reader would run them, and the learner among them keeps the laws of learners."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from examples.own_learner import Prototypes, PrototypesConfig, distances, moved
from tests.learner_contract import LearnerContract

from stolon.errors import SettingError

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_runs_offline_in_an_empty_folder_and_prints_something(path, tmp_path):
    ended = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()
    assert not list(tmp_path.iterdir())


class TestPrototypes(LearnerContract):
    infers = True

    def make(self):
        return Prototypes(PrototypesConfig())


def test_prototypes_move_as_kohonens_rule_says():
    prototypes = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    x = torch.tensor([[0.2, 0.0], [0.9, 1.0], [0.1, 0.1]])
    y = torch.tensor([0, 0, 0])
    expected = prototypes.clone()
    nearest = distances(x, prototypes).argmin(1).tolist()
    assert nearest == [0, 1, 0]
    for c in (0, 1):
        steps = [(0.5 if y[i] == c else -0.5) * (x[i] - prototypes[c]) for i in range(3) if nearest[i] == c]
        expected[c] += torch.stack(steps).mean(0)
    assert torch.allclose(moved(prototypes, x, y, 0.5), expected)


def test_settings_out_of_range_are_refused_by_name():
    with pytest.raises(SettingError, match="rate"):
        PrototypesConfig(rate=2)
