import threading

import pytest
import torch
from tests.learner_contract import toy_task
from tests.light.test_lightweight import backbone, make

from stolon.errors import TaskUnknownError
from stolon.light.answering import Answering
from stolon.light.features import FeatureMemo

TASKS = [toy_task("first", 1), toy_task("second", 2, classes=2), toy_task("third", 3)]
X = torch.cat([task.test.batch(torch.arange(24))[0] for task in TASKS])


def same(mine, theirs):
    assert mine.tasks == theirs.tasks
    assert mine.classes == theirs.classes
    assert torch.equal(mine.labels, theirs.labels)
    assert torch.equal(mine.confidence, theirs.confidence)


@pytest.fixture(scope="module")
def taught():
    """Two learners that know all three tasks between them, one with biases; and one that learned them all."""
    alone, others = make(biases="all", bias_epochs=2), [make(biases="all", bias_epochs=2) for _ in TASKS]
    for task, other in zip(TASKS, others, strict=True):
        list(alone.learn(task))
        list(other.learn(task))
    return alone, others


def gathered(others, order=(0, 1, 2), **changes):
    names = [TASKS[i].name for i in order]
    knowledge = {name: others[i].knowledge(name) for i, name in zip(order, names, strict=True)}
    classes = {TASKS[i].name: TASKS[i].classes for i in order}
    given = {"backbone": backbone(), "knowledge": knowledge, "classes": classes} | changes
    return Answering(**given, anchoring=others[0].anchoring)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_knowledge_of_many_learners_answers_as_one_that_learned_it_all_bit_for_bit(taught, order):
    alone, others = taught
    answering = gathered(others, order)
    same(answering.predict(X), alone.predict(X))
    assert set(answering.tasks) == set(alone.tasks)
    for task in alone.tasks:
        assert torch.equal(answering.logits(X, task), alone.logits(X, task))
        same(answering.predict(X, task), alone.predict(X, task))


def test_later_learning_and_forgetting_change_no_answer():
    learner = make()
    list(learner.learn(TASKS[0]))
    answering = learner.answering()
    before = answering.predict(X)
    list(learner.learn(TASKS[1]))
    learner.forget("first")
    same(answering.predict(X), before)
    assert answering.tasks == ("first",)
    assert learner.answering().tasks == ("second",)


def test_a_mapper_that_was_made_already_is_not_made_again(taught):
    alone, others = taught
    answering = Answering(
        FeatureMemo(backbone()),
        {name: alone.knowledge(name) for name in alone.tasks},
        {name: alone.classes(name) for name in alone.tasks},
        others[0].anchoring,
        alone.mapper,
    )
    assert answering.mapper is alone.mapper


def test_many_threads_get_the_same_answers(taught):
    """All share one memo, which is too small for them."""
    _, others = taught
    answering = gathered(others, backbone=FeatureMemo(backbone(), most_bytes=1))
    expected = [answering.predict(x) for x in X.split(8)]
    found, errors = {}, []

    def ask(number):
        try:
            found[number] = [answering.predict(x) for x in X.split(8)]
        except Exception as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for answers in found.values():
        for mine, theirs in zip(answers, expected, strict=True):
            same(mine, theirs)


def test_unknown_tasks_and_half_given_ones_are_refused(taught):
    _, others = taught
    with pytest.raises(TaskUnknownError, match=r"'other'.*first, second, third"):
        gathered(others).logits(X, "other")
    with pytest.raises(TaskUnknownError, match="give both"):
        gathered(others, classes={"first": ("a",)})
    with pytest.raises(TaskUnknownError, match="learn one first"):
        gathered(others, order=()).predict(X)
