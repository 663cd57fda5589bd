"""Epochs of mini-batches: learning rates, what is left out, what is told, and what cannot go on."""

from itertools import pairwise

import pytest
import torch
from tests.learner_contract import toy_task
from tests.transfer.making import linear_map, make, random_task, set_up

from stolon.errors import SettingError, TaskError
from stolon.tasks import Split, Task
from stolon.transfer.configurations import Configuration
from stolon.transfer.fit import Fit, Strategy, TransferTraining
from stolon.transfer.static import One, StaticConfig


class Recorder(Strategy):
    """Trains one number; remembers what it was shown."""

    def __init__(self, losses=1):
        self.weight = torch.ones(1)
        self.batches, self.seen, self.rates, self.count = [], [], [], losses

    @property
    def configuration(self):
        return Configuration.from_text("1")

    def leaves(self):
        return [self.weight]

    def losses(self, x, y, epoch, step):
        self.batches.append((epoch, step, len(y)))
        self.seen += x[:, 0, 0, 0].tolist()
        for _ in range(self.count):
            yield (self.weight * 2.0).sum()


def fit_of(strategy, training, task, before=0):
    return Fit(strategy, training, set_up(task=task), before)


def numbered(n):
    x = torch.arange(float(n)).view(n, 1, 1, 1).expand(n, 1, 8, 8).contiguous()
    split = Split.of(x, torch.zeros(n, dtype=torch.int64))
    return Task("t", ("a",), split, split, split)


@pytest.mark.parametrize(
    ("n", "batch_size", "drop_last", "sizes"),
    [
        (10, 4, True, [4, 4]), (10, 4, False, [4, 4, 2]), (8, 4, True, [4, 4]), (3, 10, True, [3]), (3, 10, False, [3]),
        (10, 10, True, [10]), (1, 1, True, [1]), (11, 10, True, [10]),
    ],
)  # fmt: skip
def test_the_last_smaller_batch_is_left_out_unless_it_is_the_only_one(n, batch_size, drop_last, sizes):
    strategy = Recorder()
    training = TransferTraining(epochs=2, batch_size=batch_size, drop_last=drop_last)
    list(fit_of(strategy, training, numbered(n)).run())
    assert strategy.batches == [(epoch, step, size) for epoch in (0, 1) for step, size in enumerate(sizes)]


def test_every_epoch_has_an_order_of_its_own_and_every_sample_once():
    strategy = Recorder()
    list(fit_of(strategy, TransferTraining(epochs=2, batch_size=4, drop_last=False), numbered(12)).run())
    first, second = strategy.seen[:12], strategy.seen[12:]
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second


def test_the_learning_rate_falls_with_the_epochs_of_all_tasks():
    strategy = Recorder()
    training = TransferTraining(
        epochs=3, batch_size=4, learning_rate=0.1, optimizer="sgd", momentum=0.0, decay=0.5
    )
    epochs = fit_of(strategy, training, numbered(4), before=4).run()
    values = [1.0, *(float(strategy.weight.detach()) for _ in epochs)]
    steps = [a - b for a, b in pairwise(values)]  # one step per epoch, gradient 2
    assert steps == pytest.approx([2 * 0.1 / (1 + 0.5 * epoch) for epoch in (4, 5, 6)], rel=1e-5)


def test_a_learner_counts_the_epochs_of_its_earlier_tasks(tmp_path):
    def steps(learner, task):
        return [epoch.loss for epoch in learner.learn(task)]

    common = {
        "optimizer": "sgd",
        "momentum": 0.0,
        "learning_rate": 0.05,
        "epochs": 3,
        "configuration": "none",
    }
    first, second = toy_task("a", 1), toy_task("b", 2)
    decayed, plain = make("static", decay=0.5, **common), make("static", **common)
    assert steps(decayed, first)[0] == steps(plain, first)[0]
    # nothing is shared: the second task alone, begun at the rate of epoch 3
    alone = make("static", decay=0.5 / (1 + 0.5 * 3), **{**common, "learning_rate": 0.05 / (1 + 0.5 * 3)})
    assert steps(decayed, second) == pytest.approx(steps(alone, second), rel=1e-5)
    decayed.save(tmp_path)
    assert make("static", decay=0.5, **common).load(tmp_path).record().document["state"]["epochs"] == 6


def test_the_loss_of_an_epoch_is_the_mean_of_its_steps():
    strategy = Recorder(losses=2)
    training = TransferTraining(epochs=1, batch_size=4, learning_rate=0.1, optimizer="sgd", momentum=0.0)
    (epoch,) = fit_of(strategy, training, numbered(8)).run()
    # the weight falls by 0.2 at each of four steps, and the loss is twice it
    assert epoch.loss == pytest.approx(sum(2 * (1 - 0.2 * i) for i in range(4)) / 4, rel=1e-5)
    assert (epoch.phase, epoch.number, epoch.total, epoch.val_accuracy) == ("train", 1, 1, None)
    assert epoch.notes == {"configuration": "1"}


def test_what_a_step_does_not_touch_is_left_by_the_optimiser_of_the_papers():
    lesson = set_up()
    one = One(lesson, Configuration.from_text("10"), 0.0)
    before = {name: value.clone() for name, value in lesson.shared[1].items()}
    list(Fit(one, TransferTraining(epochs=1, batch_size=4), lesson, 0).run())
    assert all(torch.equal(value, before[name]) for name, value in lesson.shared[1].items())


def test_global_randomness_is_not_touched_by_dropout():
    learner = make("static", "cifar-conv4", epochs=1)
    torch.manual_seed(5)
    list(learner.learn(random_task(shape=(1, 8, 8))))
    after = torch.rand(2)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(2))


@pytest.mark.parametrize("batch_size", [8, 100])  # 100: one step, whose loss is still finite
@pytest.mark.parametrize("name", ["static", "lasem", "brute-force", "darts"])
@pytest.mark.parametrize("task", [random_task(n=24), linear_map(n=24)], ids=["classes", "numbers"])
def test_a_training_that_blows_up_says_so_and_leaves_no_trace(name, task, batch_size):
    # exact: a single step of the default trains one configuration, and another may be the answer
    exact = {"exact": True} if name == "lasem" else {}
    learner = make(name, learning_rate=1e30, optimizer="sgd", epochs=1, batch_size=batch_size, **exact)
    with pytest.raises(TaskError, match=r"stays finite, found .*; lower the learning rate"):
        list(learner.learn(task))
    assert learner.tasks == ()
    assert learner.unfinished is None
    assert learner.size().parameters == 0


def test_what_was_learned_before_a_training_blew_up_is_intact():
    learner, first = make("static", epochs=2, optimizer="sgd"), toy_task("first", 1)
    list(learner.learn(first))
    x = first.test.batch(torch.arange(24))[0]
    before = learner.logits(x, "first")
    huge = random_task("huge")
    split = Split.of(1e30 * huge.train.batch(torch.arange(24))[0], huge.train.labels)
    with pytest.raises(TaskError, match="scale the data"):
        list(learner.learn(Task("huge", huge.classes, split, split, split)))
    assert learner.tasks == ("first",)
    assert torch.equal(learner.logits(x, "first"), before)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"decay": -0.1}, "decay"), ({"decay": float("inf")}, "decay"), ({"batch_size": 0}, "batch_size")],
)
def test_trainings_out_of_range_are_refused(settings, words):
    with pytest.raises(SettingError, match=words):
        TransferTraining(**settings)


def test_the_papers_training_is_the_default():
    config = StaticConfig()
    assert (config.batch_size, config.learning_rate, config.optimizer, config.drop_last) == (
        10, 1e-4, "rmsprop-tf", True
    )  # fmt: skip
