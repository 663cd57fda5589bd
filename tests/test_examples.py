"""The examples run as a reader would run them, and the learner among them keeps the laws of learners."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from examples.own_learner import Prototypes, PrototypesConfig, distances, moved
from examples.own_transfer_mechanism import LowRank
from tests.learner_contract import LearnerContract, assert_same_state, toy_task

from stolon.errors import SettingError
from stolon.transfer.lasem import Lasem, LasemConfig

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


def test_a_low_rank_kernel_is_the_shared_weight_and_a_product():
    shape, g = torch.Size((4, 3, 2, 2)), torch.Generator().manual_seed(0)
    mechanism, initial = LowRank([shape]), torch.randn(4, 3, 2, 2, generator=g)
    shared, factors = mechanism.shared(0, initial, g), mechanism.factors(0, initial, g)
    assert torch.equal(mechanism.kernel(0, shared, factors), initial)  # a task begins with what is shared
    factors["a"] = torch.randn(4, 2, generator=g)
    expected, b = initial.clone(), factors["b"].view(2, 3, 2, 2)
    for o in range(4):
        for r in range(2):
            expected[o] += factors["a"][o, r] * b[r]
    torch.testing.assert_close(mechanism.kernel(0, shared, factors), expected)
    assert float(mechanism.penalty(factors)) == pytest.approx(
        float((expected - initial).square().sum()), rel=1e-5
    )


def test_a_learner_with_it_is_stopped_and_goes_on_with_the_same_bits(tmp_path):
    def make():
        return Lasem("digits-conv", LasemConfig(transfer=LowRank, epochs=2, learning_rate=1e-3))

    first, second, whole, stopped = toy_task("first", 1), toy_task("second", 2), make(), make()
    for learner in (whole, stopped):
        list(learner.learn(first))
    list(whole.learn(second))
    next(stopped.learn(second))
    stopped.save(tmp_path)
    loaded = make().load(tmp_path)
    list(loaded.learn(second))
    assert_same_state(whole, loaded)
