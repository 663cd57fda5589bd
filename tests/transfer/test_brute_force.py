"""Task-wise brute force: the laws of learners, and that it keeps the best of all."""

import copy
from dataclasses import replace
from itertools import islice

import pytest
import torch
from tests.learner_contract import LearnerContract, assert_same_state, toy_task
from tests.transfer.making import linear_map, make, random_task, tiny
from torch import nn

from stolon.errors import DataError, SettingError
from stolon.tasks import Split, Task
from stolon.transfer.configurations import Space


def one_layer():
    """Two configurations only: the contract learns often."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())


class TestBruteForceKeepsTheContract(LearnerContract):
    @staticmethod
    def make():
        return make("brute-force", one_layer, epochs=4)

    def test_learns_without_validation_and_test_data(self, first):
        empty = Split.of(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))
        learner = self.make()
        with pytest.raises(DataError, match="expected validation data to choose by"):
            next(learner.learn(Task("bare", first.classes, first.train, empty, empty)))
        assert learner.unfinished is None


def test_every_configuration_is_trained_and_told_in_order():
    learner = make("brute-force", epochs=2)
    epochs = list(learner.learn(random_task()))
    assert [(epoch.phase, epoch.number, epoch.total) for epoch in epochs] == [
        (f"train {choice}", number, 2) for choice in Space.every(2).choices for number in (1, 2)
    ]


@pytest.mark.parametrize("task", [random_task("t"), linear_map("t")], ids=["classes", "numbers"])
def test_what_is_kept_is_the_static_learner_of_the_best_configuration(task):
    learner = make("brute-force", epochs=2, learning_rate=1e-3)
    first = toy_task("first", 1)
    list(learner.learn(first))
    record, scores = copy.deepcopy(learner.record()), {}
    for epoch in learner.learn(task):
        found = epoch.notes["configuration"]
        scores[found] = max(epoch.val_accuracy, scores.get(found, -torch.inf))
        assert epoch.notes["best"] == max(scores, key=scores.get)
    best = max(scores, key=scores.get)  # of equals the first
    assert str(learner.configuration("t")) == best
    # the same training by the static learner, from the same start
    layers = ",".join(str(i) for i, digit in enumerate(best, start=1) if digit == "1") or "none"
    static = make("static", epochs=2, learning_rate=1e-3, configuration=layers)
    static.restore(replace(record, document={**record.document, "method": "static"}))
    list(static.learn(task))
    x = task.test.batch(torch.arange(8))[0]
    assert torch.equal(static.logits(x, "t"), learner.logits(x, "t"))
    assert torch.equal(static.logits(first.test.batch(torch.arange(8))[0], "first"),
                       learner.logits(first.test.batch(torch.arange(8))[0], "first"))  # fmt: skip


def test_numbers_that_no_configuration_predicts_better_than_the_mean_are_told_apart():
    """All R^2 are below -1 here: the least bad is kept, and not the first."""
    task = linear_map("t", n=16)
    far = Split.of(task.val.batch(torch.arange(32))[0], task.val.labels * 0.01 + 100)
    learner = make("brute-force", epochs=1)
    scores = {e.notes["configuration"]: e.val_accuracy
              for e in learner.learn(Task("t", task.classes, task.train, far, task.test))}  # fmt: skip
    assert max(scores.values()) < -1
    assert str(learner.configuration("t")) == max(scores, key=scores.get)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 8])
def test_a_save_in_the_middle_of_the_candidates_goes_on_to_the_same_bits(steps, tmp_path):
    first, second = toy_task("first", 1), random_task("second")
    whole, stopped = make("brute-force", epochs=2), make("brute-force", epochs=2)
    for learner in (whole, stopped):
        list(learner.learn(first))
    rest = [epoch.val_accuracy for epoch in whole.learn(second)][steps:]
    list(islice(stopped.learn(second), steps))
    stopped.save(tmp_path)
    loaded = make("brute-force", epochs=2).load(tmp_path)
    assert loaded.configuration("second") == stopped.configuration("second")
    assert [epoch.val_accuracy for epoch in loaded.learn(second)] == rest
    assert_same_state(whole, loaded)


def test_a_state_that_lacks_the_best_candidate_is_refused_and_changes_nothing():
    learner, task = make("brute-force", epochs=1), random_task()
    list(islice(learner.learn(task), 3))
    record = learner.record()
    record.groups.pop("best")
    other = make("brute-force", epochs=1)
    list(other.learn(toy_task("mine", 2)))
    before = other.record()
    with pytest.raises(OSError, match="lacks"):
        other.restore(record)
    assert dict(other.record().document) == dict(before.document)
    assert other.tasks == ("mine",)


def test_grouped_layers_are_fewer_candidates():
    learner = make("brute-force", epochs=1, groups=[[1, 2]])
    assert [epoch.phase for epoch in learner.learn(random_task())] == ["train 11", "train 00"]
    with pytest.raises(SettingError, match="in exactly one group"):
        next(make("brute-force", tiny, groups=[[1]]).learn(random_task()))


def test_forgetting_in_the_middle_of_the_candidates_begins_anew():
    whole, learner, task = make("brute-force", epochs=1), make("brute-force", epochs=1), random_task()
    for each in (whole, learner):
        list(each.learn(toy_task("first", 1)))
    list(islice(learner.learn(task), 3))
    learner.forget("t")
    list(whole.learn(task))
    list(learner.learn(task))
    assert_same_state(whole, learner)
