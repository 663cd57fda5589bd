"""One configuration for all tasks: the laws of learners, and what it trains."""

import pytest
import torch
from tests.learner_contract import LearnerContract
from tests.transfer.making import MECHANISMS, make, random_task, set_up

from stolon.errors import SettingError
from stolon.transfer.configurations import Configuration
from stolon.transfer.static import One


class TestStaticKeepsTheContract(LearnerContract):
    @staticmethod
    def make():
        return make("static", configuration="top-1")


@pytest.mark.parametrize("transfer", MECHANISMS)
@pytest.mark.parametrize("configuration", ["11", "10", "01", "00"])
def test_only_what_the_configuration_uses_is_trained_and_all_of_it(transfer, configuration):
    lesson = set_up(transfer)
    one = One(lesson, Configuration.from_text(configuration), 0.1)
    leaves = {id(leaf) for leaf in one.leaves()}
    x, y = lesson.task.train.batch(torch.arange(8))
    for leaf in one.leaves():
        leaf.requires_grad_()
    next(one.losses(x, y, 0, 0)).backward()
    for layer, digit in enumerate(configuration):
        for tensors, is_used in (
            (lesson.shared[layer], digit == "1"),
            (lesson.parts.factors[layer], digit == "1"),
            (lesson.parts.own[layer], digit == "0"),
        ):
            for tensor in tensors.values():
                assert (id(tensor) in leaves) == is_used
                assert (tensor.grad is not None and bool(tensor.grad.any())) == is_used
    assert all(id(parameter) in leaves for parameter in lesson.parts.tail.parameters())


def test_the_penalty_of_layers_that_are_not_shared_is_left_out():
    lesson = set_up("tensor-factorization")
    x, y = lesson.task.train.batch(torch.arange(8))
    for text in ("11", "10", "01", "00"):
        configuration = Configuration.from_text(text)
        bare, full = (
            float(next(One(lesson, configuration, weight).losses(x, y, 0, 0)).detach())
            for weight in (0.0, 0.5)
        )
        expected = sum(
            float((u.T @ u - torch.eye(len(u))).square().sum().sqrt())
            for layer, digit in zip(lesson.parts.factors, text, strict=True)
            if digit == "1"
            for name, u in layer.items()
            if "/u" in name
        )
        assert full - bare == pytest.approx(0.5 * expected, rel=1e-5)


@pytest.mark.parametrize("text", ["top-3", "4", "some", "", "10|11"])
def test_a_configuration_that_the_net_has_not_is_refused_and_leaves_no_trace(text):
    learner = make("static", configuration=text)
    with pytest.raises(SettingError, match="configuration"):
        next(learner.learn(random_task()))
    assert learner.unfinished is None
    assert learner.tasks == ()
    assert learner.size().parameters == 0


def test_parts_of_layers_are_shared_by_digits():
    learner = make("static", configuration="10|01", parts=2, epochs=1)
    list(learner.learn(random_task()))
    assert str(learner.configuration("t")) == "10|01"
