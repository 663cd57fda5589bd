"""Bind-and-grow obeys the laws of every learner, in each of its ways."""

import pytest
import torch
from tests.growth.making import conv
from tests.learner_contract import LearnerContract, assert_same_state, toy_task

from stolon import learners

ADAM = {"optimizer": "adam", "learning_rate": 0.02}
FAST = {"epochs": 2, "learning_rate": 0.1, "batch_size": 8}


def make(net="mlp-16-12", **settings):
    return learners.make("bind-and-grow", net=net, **{**FAST, **settings})


class TestPaper(LearnerContract):
    def make(self):
        return make()


class TestNormedConvolutionsInParts(LearnerContract):
    def make(self):
        net = conv(normed=True, seed=1)
        return make(net, parts=2, delta={"second": 0.3, "*": 0.8}, epochs=6, **ADAM)


class TestAsReleased(LearnerContract):
    def make(self):
        return make(as_released=True)


class TestFrozenAndRandom(LearnerContract):
    def make(self):
        return make(bound_rate=0, bind="random", grow="random")


@pytest.mark.parametrize("stop", [1, 3, 4, 6])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bound_rate": 0.0, "delta": 0.0},
        {"head": "shared"},
        {"head": "shared", "bound_rate": 0.0, "delta": 0.0},
    ],
    ids=["paper", "frozen", "shared head", "nothing to train"],
)
def test_stopped_at_any_yield_of_both_phases_a_third_task_ends_with_the_same_bits(settings, stop, tmp_path):
    tasks = [toy_task(f"t{i}", i) for i in range(3)]

    def new():
        return make(epochs=3, **settings)

    whole, stopped = new(), new()
    for task in tasks:
        epochs = list(whole.learn(task))
    for task in tasks[:2]:
        list(stopped.learn(task))
    steps = stopped.learn(tasks[2])
    found = [next(steps) for _ in range(min(stop, len(epochs)))]
    stopped.save(tmp_path)
    again = new().load(tmp_path)
    x = tasks[2].test.batch(torch.arange(24))[0]
    assert torch.equal(again.logits(x, "t2"), stopped.logits(x, "t2"))
    found += list(again.learn(tasks[2]))
    assert_same_state(whole, again)
    if len(epochs) > 4:
        assert found == epochs
