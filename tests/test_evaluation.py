"""How well tasks are answered: shares of right classes, and R^2 of numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stolon import learners
from stolon.errors import DataError, SettingError
from stolon.evaluation import determination, evaluate, explained
from stolon.outcomes import Prediction
from stolon.tasks import Split, Task


class Parrot:
    """Answers class 1 of task "t", whatever it is asked."""

    def __init__(self):
        self.asked = []

    def predict(self, x, task=None):
        self.asked.append((len(x), task))
        n = len(x)
        return Prediction(torch.ones(n, dtype=torch.int64), ("b",) * n, ("t",) * n, torch.ones(n))


def task_of(y, name="t"):
    split = Split.of(torch.rand(len(y), 1, 2, 2), y)
    return Task(name, ("a", "b"), split, Split.of(torch.zeros(0, 1, 2, 2), y[:0]), split)


def test_right_answers_are_counted_over_batches():
    parrot = Parrot()
    found = evaluate(parrot, task_of(torch.tensor([0, 1, 1, 1, 0])), batch_size=2)
    assert found.accuracy == 0.6
    assert found.tasks == ("t",) * 5
    assert parrot.asked == [(2, "t"), (2, "t"), (1, "t")]


def test_without_a_name_the_task_has_to_be_right_too():
    assert evaluate(Parrot(), task_of(torch.tensor([1, 1])), named=False).accuracy == 1
    assert evaluate(Parrot(), task_of(torch.tensor([1, 1]), "other"), named=False).accuracy == 0


def test_an_empty_split_has_no_answer():
    assert evaluate(Parrot(), task_of(torch.tensor([1, 1])), part="val") is None
    with pytest.raises(SettingError, match="batch_size"):
        evaluate(Parrot(), task_of(torch.tensor([1])), batch_size=0)


def test_numbers_are_no_classes_to_be_right_about():
    split = Split.of(torch.rand(3, 1, 2, 2), torch.rand(3, 2))
    with pytest.raises(DataError, match=r"'t' predicts numbers"):
        evaluate(Parrot(), Task("t", ("a", "b"), split, split, split))


def test_determination_by_hand():
    targets = torch.tensor([[1.0], [2.0], [6.0]])  # mean 3, squares around it 4 + 1 + 9
    assert determination(targets + 1, targets) == pytest.approx(1 - 3 / 14)
    assert determination(torch.full((3, 1), 3.0), targets) == pytest.approx(0)
    assert determination(torch.full((3, 1), 100.0), targets) < -100
    # of two outputs the mean of both
    both = torch.cat([targets, targets], 1)
    found = determination(torch.cat([targets, targets + 1], 1), both)
    assert found == pytest.approx((1 + 1 - 3 / 14) / 2)


@given(st.integers(2, 20), st.integers(1, 3), st.integers(0, 999))
def test_determination_is_one_minus_the_share_of_variance_that_is_left(n, outputs, seed):
    g = torch.Generator().manual_seed(seed)
    targets, found = torch.randn(n, outputs, generator=g), torch.randn(n, outputs, generator=g)
    left = ((found - targets) ** 2).sum(0).double() / ((targets - targets.mean(0)) ** 2).sum(0).double()
    assert determination(found, targets) == pytest.approx(
        float(np.mean((1 - left).numpy())), rel=1e-3, abs=1e-3
    )


def test_one_number_has_no_determination_and_raises_no_warning():
    assert determination(torch.zeros(1, 1), torch.ones(1, 1)) is None


def test_regression_is_refused_where_it_is_not_learned():
    split = Split.of(torch.rand(3, 1, 2, 2), torch.rand(3, 2))
    task = Task("t", ("a", "b"), split, split, split)
    for name in ("finetune", "single-task"):
        with pytest.raises(DataError, match="learns no regression"):
            learners.make(name, net="mlp-4").learn(task)


class Says:
    """Answers with what it was made with."""

    def __init__(self, outputs):
        self.outputs = outputs

    def logits(self, x, task):
        return self.outputs[x[:, 0].long()]


def test_explained_is_the_determination_of_a_split_and_never_below_0():
    x, y = torch.arange(5.0)[:, None], torch.tensor([[1.0], [2.0], [4.0], [1.0], [0.0]])
    split, one = Split.of(x, y), Split.of(x[:1], y[:1])
    task = Task("t", ("a",), split, one, split)
    for outputs in (y, y + 0.5, y.flip(0)):
        expected = determination(outputs, y)
        assert explained(Says(outputs), task, batch_size=2) == pytest.approx(max(0, expected))
    assert explained(Says(y + 100), task) == 0
    assert explained(Says(y), task, part="val") is None  # one sample has no variance
