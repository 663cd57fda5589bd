import torch
from tests.learner_contract import LearnerContract, toy_task

from stolon import learners


class TestSingleTaskKeepsTheContract(LearnerContract):
    @staticmethod
    def make():
        return learners.make("single-task", net="mlp-32-32", epochs=12, batch_size=8, learning_rate=0.05)


def test_it_forgets_nothing_bit_for_bit():
    learner = learners.make("single-task", net="mlp-16", epochs=3)
    first, second = toy_task("first", 1), toy_task("second", 2)
    list(learner.learn(first))
    x, _ = first.test.batch(torch.arange(24))
    before = learner.logits(x, "first")
    list(learner.learn(second))
    assert torch.equal(before, learner.logits(x, "first"))
    assert learner.size().shared == 0
