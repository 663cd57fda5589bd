"""The laws of learners with every method and mechanism; the whole contract is in each method's own file."""

from itertools import islice

import pytest
import torch
from tests.learner_contract import assert_same_state, toy_task
from tests.transfer.making import MECHANISMS, METHODS, method, normed


@pytest.mark.parametrize("transfer", MECHANISMS)
@pytest.mark.parametrize("which", METHODS)
def test_same_bits_however_often_it_is_stopped(which, transfer, tmp_path):
    """Stopped after the first step, and after two thirds of all, saved, and gone on with by a new learner."""
    first, second = toy_task("first", 1), toy_task("second", 2, classes=2)
    settings = {"transfer": transfer, "decay": 0.1}
    whole, stopped = method(which, **settings), method(which, **settings)
    list(whole.learn(first))
    total = len(list(whole.learn(second)))
    list(stopped.learn(first))
    for steps in (1, total * 2 // 3 - 1):
        list(islice(stopped.learn(second), steps))
        stopped.save(tmp_path)
        stopped = method(which, **settings).load(tmp_path)
        assert stopped.unfinished == "second"
    list(stopped.learn(second))
    assert_same_state(whole, stopped)
    x = first.test.batch(torch.arange(24))[0]
    assert torch.equal(whole.logits(x, "first"), stopped.logits(x, "first"))


@pytest.mark.parametrize("net", [normed, "digits-conv", "mlp-8-8"])
@pytest.mark.parametrize("which", ["static", "lasem", "exact", "brute-force", "darts"])
def test_same_bits_with_other_nets(which, net, tmp_path):
    task = toy_task("t", 1)
    whole, stopped = method(which, net=net), method(which, net=net)
    list(whole.learn(task))
    next(stopped.learn(task))
    stopped.save(tmp_path)
    stopped = method(which, net=net).load(tmp_path)
    x = task.test.batch(torch.arange(4))[0]
    assert stopped.logits(x, "t").shape == (4, 3)
    list(stopped.learn(task))
    assert_same_state(whole, stopped)
