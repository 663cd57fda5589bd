import torch
from tests.learner_contract import LearnerContract, toy_task

from stolon import learners


class TestFinetuneKeepsTheContract(LearnerContract):
    @staticmethod
    def make():
        return learners.make("finetune", net="mlp-32-32", epochs=12, batch_size=8, learning_rate=0.05)


class TestFinetuneWithAdamAndDropoutKeepsTheContract(LearnerContract):
    @staticmethod
    def make():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = torch.nn.Sequential(
                torch.nn.Flatten(),
                torch.nn.Linear(64, 32),
                torch.nn.BatchNorm1d(32),
                torch.nn.ReLU(),
                torch.nn.Dropout(0.2),
            )
        return learners.make(
            "finetune", net=net, epochs=10, batch_size=8, learning_rate=0.01, optimizer="adam"
        )


def test_it_forgets():
    """The same inputs under other labels: the second task overwrites the features of the first."""
    learner = learners.make("finetune", net="mlp-16", epochs=20, batch_size=8, learning_rate=0.1)
    first, second = toy_task("first", 1), toy_task("second", 2)
    list(learner.learn(first))
    x, _ = first.test.batch(torch.arange(24))
    before = learner.logits(x, "first")
    list(learner.learn(second))
    assert not torch.equal(before, learner.logits(x, "first"))
