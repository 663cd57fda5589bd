"""DARTS over {shared, own}: the laws of learners, and its steps by hand."""

import pytest
import torch
from tests.learner_contract import LearnerContract, toy_task
from tests.transfer.making import MECHANISMS, make, naive_parameters, random_task, set_up
from torch.func import functional_call

from stolon.errors import DataError, SettingError
from stolon.tasks import Split, Task
from stolon.training import architecture_rate
from stolon.transfer.darts import DartsConfig, Mixture
from stolon.transfer.fit import Fit


class TestDartsKeepsTheContract(LearnerContract):
    @staticmethod
    def make():
        return make("darts")

    def test_learns_without_validation_and_test_data(self, first):
        empty = Split.of(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))
        bare = Task("bare", first.classes, first.train, empty, empty)
        learner = self.make()
        with pytest.raises(DataError, match=r"validation data to train the logits on.*released=True"):
            next(learner.learn(bare))
        assert learner.unfinished is None
        released = make("darts", released=True, epochs=1)
        list(released.learn(bare))
        assert released.tasks == ("bare",)


def naive_loss(transfer, lesson, logits, x, y, orthogonality=0.1):
    """Both variants of every layer mixed by softmax, after the activation and before the pooling."""
    weights = logits.exp() / logits.exp().sum(1, keepdim=True)
    for i, stage in enumerate(lesson.network.stages):
        both = [
            functional_call(
                stage.body,
                {
                    name.removeprefix("body."): value
                    for name, value in naive_parameters(
                        transfer, lesson, i, (shares,), lesson.shared, lesson.parts
                    ).items()
                },
                (x,),
            )
            for shares in (True, False)
        ]
        x = stage.pool(weights[i, 0] * both[0] + weights[i, 1] * both[1])
    outputs = lesson.parts.tail(x)
    found = -outputs.log_softmax(1)[range(len(y)), y].mean()
    if transfer == "tensor-factorization":
        for i, layer in enumerate(lesson.parts.factors):
            for name, u in layer.items():
                if "/u" in name:
                    found = (
                        found + orthogonality * weights[i, 0].detach() * (u.T @ u - torch.eye(len(u))).norm()
                    )
    return found


@pytest.mark.parametrize("transfer", MECHANISMS)
@pytest.mark.parametrize("released", [False, True])
def test_a_step_on_the_logits_and_then_one_on_the_weights(transfer, released):
    lesson = set_up(transfer)
    config = DartsConfig(
        released=released, optimizer="sgd", momentum=0.0, learning_rate=0.1, architecture_learning_rate=0.01
    )
    mixture = Mixture(lesson, config)
    for leaf in mixture.leaves():
        leaf.requires_grad_()
    x, y = lesson.task.train.batch(torch.arange(8))
    # all of the validation data: the batch is as large as they are
    held = (x, y) if released else lesson.task.val.batch(torch.arange(8))
    logits = torch.zeros(2, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(naive_loss(transfer, lesson, logits, *held), [logits])
    steps = mixture.losses(x, y, 0, 0)
    loss = next(steps)
    moved = mixture.logits.detach()
    if released:  # with the weights' optimiser and rate
        torch.testing.assert_close(moved, -0.1 * gradient, rtol=1e-4, atol=1e-6)
    else:  # Adam's first step is its rate, whatever the gradient's size
        torch.testing.assert_close(moved, -0.01 * gradient.sign(), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(loss, naive_loss(transfer, lesson, moved, x, y), rtol=1e-4, atol=1e-6)
    loss.backward()
    assert list(steps) == []
    assert mixture.logits.grad is None
    assert all(leaf.grad is not None for leaf in mixture.leaves())


def test_the_choice_is_the_larger_logit_and_its_own_where_they_are_equal():
    mixture = Mixture(set_up(), DartsConfig())
    assert str(mixture.configuration) == "00"
    with torch.no_grad():
        mixture.logits.copy_(torch.tensor([[0.2, 0.1], [0.1, 0.2]]))
    assert str(mixture.configuration) == "10"
    assert mixture.notes() == {"configuration": "10", "shared": [0.525, 0.475]}


def test_as_released_the_logits_rate_falls_with_the_weights():
    lesson = set_up()
    config = DartsConfig(
        released=True, optimizer="sgd", learning_rate=0.1, decay=1.0, epochs=2, batch_size=24
    )
    mixture = Mixture(lesson, config)
    rates = [mixture._optimizer.param_groups[0]["lr"] for _ in Fit(mixture, config, lesson, before=1).run()]
    assert rates == pytest.approx([0.1 / 2, 0.1 / 3])
    falling = DartsConfig(decay=1.0)
    other = Mixture(lesson, falling)
    list(Fit(other, DartsConfig(decay=1.0, epochs=1), lesson, before=1).run())
    assert other._optimizer.param_groups[0]["lr"] == architecture_rate(
        len(lesson.task.train), falling.batch_size, falling.epochs
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"architecture_learning_rate": 0}, "architecture_learning_rate"),
        ({"parts": 2}, "parts: .*whole layers"),
    ],
)
def test_settings_that_it_cannot_follow_are_refused(settings, words):
    with pytest.raises(SettingError, match=words):
        DartsConfig(**settings)


def test_the_notes_tell_how_much_each_layer_is_shared():
    learner = make("darts", "digits-conv", epochs=2, architecture_learning_rate=0.05)
    for epoch in learner.learn(toy_task("first", 1)):
        shared = epoch.notes["shared"]
        assert all(0 < weight < 1 and weight != 0.5 for weight in shared)
        assert epoch.notes["configuration"] == "".join("01"[weight > 0.5] for weight in shared)
    assert str(learner.configuration("first")) == epoch.notes["configuration"]


def test_a_module_of_ones_own_is_no_tie_for_ever():
    learner = make("darts", epochs=3, architecture_learning_rate=0.05)
    list(learner.learn(toy_task("first", 1)))
    *_, last = learner.learn(toy_task("second", 2))
    assert any(weight != 0.5 for weight in last.notes["shared"])


def test_mini_batches_of_validation_data_are_a_function_of_seed_and_step():
    mixture = Mixture(set_up(task=random_task(n=24)), DartsConfig())
    a, b, c = (mixture._held_out(4, 0, step)[1].tolist() for step in (0, 0, 1))
    x = [mixture._held_out(4, 0, step)[0] for step in (0, 0, 1)]
    assert a == b
    assert torch.equal(x[0], x[1])
    assert not torch.equal(x[0], x[2])
    assert len(c) == 4
    assert len(mixture._held_out(100, 0, 0)[1]) == 8
