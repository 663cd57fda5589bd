"""Tasks whose answers are numbers."""

import pytest
import torch
from tests.learner_contract import toy_task
from tests.transfer.making import linear_map, method
from torch import nn

from stolon import learners
from stolon.errors import DataError, TaskError


@pytest.mark.parametrize(
    ("which", "transfer"),
    [
        ("static", "hard"), ("static", "tensor-factorization"), ("lasem", "deconvolution"), ("lasem", "hard"),
        ("exact", "tensor-factorization"), ("brute-force", "hard"), ("darts", "deconvolution"),
    ],
)  # fmt: skip
def test_a_small_convnet_learns_numbers(which, transfer):
    net = lambda: nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.Flatten())  # noqa: E731
    settings = {"static": {"configuration": "all"}}.get(which, {})
    learner = method(
        which,
        net=net,
        transfer=transfer,
        epochs=12,
        learning_rate=3e-3,
        optimizer="adam",
        batch_size=16,
        **settings,
    )
    task = linear_map(n=256, outputs=2)
    scores = [epoch.val_accuracy for epoch in learner.learn(task)]
    assert scores[-1] > scores[0]
    assert scores[-1] > 0.6
    x, y = task.test.batch(torch.arange(32))
    found = learner.logits(x, "map")
    assert found.shape == (32, 2)
    assert float(1 - ((found - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum()) > 0.6
    with pytest.raises(TaskError, match="predicts numbers, not classes"):
        learner.predict(x, "map")


@pytest.mark.parametrize("which", ["static", "lasem", "exact", "brute-force", "darts"])
def test_a_fully_connected_net_learns_numbers(which, tmp_path):
    net = lambda: nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh())  # noqa: E731
    learner = method(which, net=net, epochs=12, learning_rate=1e-2, optimizer="adam", batch_size=16)
    first, second = linear_map("a", 200, 1, (6,), 0), linear_map("b", 200, 3, (6,), 1)
    for task in (first, second):
        scores = [epoch.val_accuracy for epoch in learner.learn(task)]
        assert scores[-1] > 0.7
    learner.save(tmp_path)
    loaded = method(which, net=net).load(tmp_path)
    x = second.test.batch(torch.arange(32))[0]
    assert torch.equal(loaded.logits(x, "b"), learner.logits(x, "b"))
    assert loaded.recipe("b")["regression"] is True
    with pytest.raises(TaskError, match="numbers"):
        loaded.predict(x, "b")


def test_tasks_of_both_kinds_can_follow_each_other():
    learner = method("lasem", epochs=4)
    list(learner.learn(toy_task("classes", 1)))
    list(learner.learn(linear_map("numbers")))
    x = torch.rand(3, 1, 8, 8)
    assert learner.predict(x, "classes").labels.shape == (3,)
    assert learner.logits(x, "numbers").shape == (3, 2)
    assert "regression" not in learner.recipe("classes")


@pytest.mark.parametrize("name", ["finetune", "single-task"])
def test_other_learners_refuse_numbers(name):
    learner = learners.make(name, net="mlp-8", epochs=1)
    with pytest.raises(DataError, match=f"expected classes, found numbers.*{name} learns no regression"):
        learner.learn(linear_map())
    assert learner.unfinished is None
