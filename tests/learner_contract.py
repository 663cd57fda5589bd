"""The laws of stolon.learner that every learner, present and future, must pass.

A method's own test file makes one subclass of :class:`LearnerContract` and says how it is made.
"""

import copy
from collections.abc import Callable
from itertools import islice

import pytest
import torch

from stolon.errors import (
    DataError,
    RecipeChangedError,
    StoreDamagedError,
    TaskError,
    TaskExistsError,
    TaskUnfinishedError,
    TaskUnknownError,
)
from stolon.learner import Learner
from stolon.outcomes import Epoch
from stolon.tasks import Split, Task

SHAPE = (1, 8, 8)
_LEARNED: dict[tuple[object, ...], tuple[Learner, list[Epoch]]] = {}
"""What learners of the class whose tests run learned, by the class and the tasks' names."""


def toy_task(name: str, seed: int = 0, classes: int = 3, shape: tuple[int, ...] = SHAPE) -> Task:
    """Noisy copies of a few random images: easy, and different for every name and seed."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.rand(classes, *shape, generator=g)

    def split(n: int) -> Split:
        y = torch.arange(n) % classes
        noise = 0.1 * torch.randn(n, *shape, generator=g)
        return Split.of((centres[y] + noise).clamp(0, 1), y)

    return Task(name, tuple(f"{name}-{i}" for i in range(classes)), split(48), split(12), split(24))


class LearnerContract:
    """Subclass it as ``class TestX(LearnerContract)`` with ``make``."""

    make: Callable[[], Learner]
    infers = False  # whether it can tell which task an input belongs to
    is_copied = True  # whether it can be: one with a lock cannot

    def learned(self, *tasks: Task) -> Learner:
        """A learner that has learned these tasks: a copy of one that is made once for all tests of the class."""
        return self._learned(tasks)[0]

    def epochs(self, *tasks: Task) -> list[Epoch]:
        """What the last of these tasks gave when it was learned."""
        return self._learned(tasks)[1]

    def _learned(self, tasks: tuple[Task, ...]) -> tuple[Learner, list[Epoch]]:
        if not tasks:
            return self.make(), []
        if not self.is_copied:
            learner, _ = self._learned(tasks[:-1])
            return learner, list(learner.learn(tasks[-1]))
        key = (type(self), *((task.name, task.digest()) for task in tasks))
        if key not in _LEARNED:
            if any(each[0] is not type(self) for each in _LEARNED):
                _LEARNED.clear()
            learner, _ = self._learned(tasks[:-1])
            _LEARNED[key] = learner, list(learner.learn(tasks[-1]))
        learner, epochs = _LEARNED[key]
        return copy.deepcopy(learner), epochs

    @pytest.fixture
    def first(self) -> Task:
        return toy_task("first", 1)

    @pytest.fixture
    def second(self) -> Task:
        return toy_task("second", 2, classes=2)

    def test_learns_what_is_easy(self, first):
        learner = self.make()
        epochs = list(learner.learn(first))
        assert epochs
        assert {epoch.task for epoch in epochs} == {"first"}
        assert learner.tasks == ("first",)
        assert learner.unfinished is None
        x, y = first.test.batch(torch.arange(24))
        assert (learner.logits(x, "first").argmax(1) == y).float().mean() > 0.9

    def test_answers_with_names_of_the_task(self, first, second):
        learner = self.learned(first, second)
        x, _ = second.test.batch(torch.arange(5))
        answer = learner.predict(x, "second")
        assert answer.tasks == ("second",) * 5
        assert set(answer.classes) <= set(second.classes)
        assert ((answer.confidence > 0) & (answer.confidence <= 1)).all()
        assert [second.classes[i] for i in answer.labels.tolist()] == list(answer.classes)

    def test_infers_the_task_or_says_that_it_cannot(self, first, second):
        learner = self.learned(first, second)
        x, _ = second.test.batch(torch.arange(24))
        if not self.infers:
            with pytest.raises(TaskUnknownError, match="name the task"):
                learner.predict(x)
            return
        answer = learner.predict(x)
        assert sum(task == "second" for task in answer.tasks) >= 20
        for task, label, name in zip(answer.tasks, answer.labels.tolist(), answer.classes, strict=True):
            assert name == (None if task is None else learner.classes(task)[label])
            assert (task is None) == (label == -1)

    def test_same_seed_gives_the_same_bits(self, first):
        a, b = self.make(), self.make()
        assert list(a.learn(first, seed=3)) == list(b.learn(first, seed=3))
        assert_same_state(a, b)

    def test_another_seed_gives_another_result(self, first):
        a, b = self.make(), self.make()
        list(a.learn(first, seed=3))
        list(b.learn(first, seed=4))
        x = first.test.batch(torch.arange(4))[0]
        assert not torch.equal(a.logits(x, "first"), b.logits(x, "first"))

    def test_saved_and_loaded_it_answers_the_same_bits(self, first, second, tmp_path):
        learner = self.learned(first, second)
        learner.save(tmp_path)
        loaded = self.make().load(tmp_path)
        assert loaded.tasks == ("first", "second")
        assert loaded.classes("second") == second.classes
        assert_same_state(learner, loaded)
        for task in (first, second):
            x = task.test.batch(torch.arange(24))[0]
            assert torch.equal(learner.logits(x, task.name), loaded.logits(x, task.name))
            if self.infers:
                assert learner.predict(x).tasks == loaded.predict(x).tasks

    @pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 1.0])
    def test_stopped_at_any_yield_and_loaded_it_ends_with_the_same_bits(self, first, second, tmp_path, part):
        whole, stopped = self.learned(first, second), self.learned(first)
        steps = len(self.epochs(first, second))
        list(islice(stopped.learn(second), max(1, round(part * steps))))
        stopped.save(tmp_path)
        again = self.make().load(tmp_path)
        assert again.unfinished == "second"
        assert again.tasks == ("first",)
        list(again.learn(second))
        assert again.tasks == ("first", "second")
        assert_same_state(whole, again)

    def test_an_abandoned_generator_is_gone_on_with_in_the_same_process(self, first):
        whole, stopped = self.learned(first), self.make()
        next(iter(stopped.learn(first)))
        list(stopped.learn(first))
        assert_same_state(whole, stopped)

    def test_a_known_task_is_not_learned_again(self, first):
        learner = self.learned(first)
        with pytest.raises(TaskExistsError, match="known already"):
            learner.learn(first)

    def test_another_task_has_to_wait_for_the_unfinished_one(self, first, second):
        learner = self.make()
        next(iter(learner.learn(first)))
        with pytest.raises(TaskUnfinishedError, match="'first' is under way"):
            learner.learn(second)

    def test_changed_data_or_seed_do_not_go_on_silently(self, first, tmp_path):
        learner = self.make()
        next(iter(learner.learn(first)))
        learner.save(tmp_path)
        other = toy_task("first", seed=9)
        with pytest.raises(RecipeChangedError, match="data"):
            self.make().load(tmp_path).learn(other)
        with pytest.raises(RecipeChangedError, match="seed"):
            self.make().load(tmp_path).learn(first, seed=1)

    def test_of_two_learnings_begun_at_once_the_first_that_starts_wins(self, first, second):
        whole, learner = self.learned(first), self.make()
        one, other = learner.learn(first), learner.learn(second)
        next(one)
        with pytest.raises(TaskUnfinishedError, match="'first' is under way"):
            next(other)
        list(one)
        assert learner.tasks == ("first",)
        assert_same_state(whole, learner)

    def test_a_learning_ends_where_a_later_one_a_load_or_a_forget_came_since(self, first, second, tmp_path):
        learner = self.learned(second)
        learner.save(tmp_path)
        for supersede in (
            lambda: next(learner.learn(first)),
            lambda: learner.load(tmp_path),
            lambda: learner.forget("first"),
        ):
            learner.load(tmp_path)
            old = learner.learn(first)
            next(old)
            supersede()
            with pytest.raises(TaskError, match="has ended"):
                next(old)
            assert learner.tasks == ("second",)

    def test_an_error_inside_an_epoch_cannot_be_saved_or_gone_on_with(self, first, second, tmp_path):
        whole, learner = self.learned(second, first), self.learned(second)
        failing = Task("first", first.classes, Failing(first.train), first.val, first.test)
        steps = learner.learn(failing)
        next(steps)
        learner.save(tmp_path)
        failing.train.fails = True
        try:
            list(steps)
        except DataError:
            with pytest.raises(TaskError, match="in the middle of an epoch"):
                learner.save(tmp_path)
            with pytest.raises(TaskError, match="in the middle of an epoch"):
                learner.learn(first)
            learner.load(tmp_path)
            list(learner.learn(first))
        assert_same_state(whole, learner)

    def test_a_task_refused_at_its_first_step_leaves_no_trace(self, first, second):
        whole, learner = self.learned(second, first), self.learned(second)
        failing = Task("first", first.classes, Failing(first.train), first.val, first.test)
        failing.train.fails = True
        with pytest.raises(DataError, match="cannot be read"):
            list(learner.learn(failing))
        assert learner.unfinished is None
        list(learner.learn(first))
        assert_same_state(whole, learner)

    def test_a_forgotten_task_is_unknown_and_can_be_learned_again(self, first, second):
        learner = self.learned(first, second)
        learner.forget("second")
        assert learner.tasks == ("first",)
        with pytest.raises(TaskUnknownError):
            learner.logits(torch.zeros(1, *SHAPE), "second")
        list(learner.learn(second))
        assert learner.tasks == ("first", "second")

    def test_a_task_can_be_forgotten_while_another_is_under_way(self, first, second, tmp_path):
        learner = self.learned(first)
        steps = learner.learn(second)
        next(steps)
        learner.forget("first")
        assert learner.tasks == ()
        assert learner.unfinished == "second"
        learner.save(tmp_path)
        again = self.make().load(tmp_path)
        assert again.tasks == ()
        for each in (learner, again):
            list(each.learn(second))
            assert each.tasks == ("second",)
            x = second.test.batch(torch.arange(24))[0]
            assert each.logits(x, "second").isfinite().all()
        assert_same_state(learner, again)

    def test_an_unknown_task_is_named_in_the_refusal(self, first):
        learner = self.learned(first)
        with pytest.raises(TaskUnknownError, match=r"'other'.*first"):
            learner.logits(torch.zeros(1, *SHAPE), "other")
        with pytest.raises(TaskUnknownError, match="other"):
            learner.classes("other")

    def test_a_task_without_training_data_is_refused(self, first):
        empty = Split.of(torch.zeros(0, *SHAPE), torch.zeros(0, dtype=torch.int64))
        with pytest.raises(DataError, match="training data"):
            self.make().learn(Task("empty", ("a",), empty, empty, empty))

    def test_learns_without_validation_and_test_data(self, first):
        empty = Split.of(torch.zeros(0, *SHAPE), torch.zeros(0, dtype=torch.int64))
        learner = self.make()
        list(learner.learn(Task("bare", first.classes, first.train, empty, empty)))
        assert learner.tasks == ("bare",)

    def test_size_adds_up(self, first, second):
        learner = self.learned(first, second)
        size = learner.size()
        assert size.parameters == size.shared + sum(size.per_task.values())
        assert set(size.per_task) == {"first", "second"}
        assert size.bytes >= size.parameters

    def test_a_damaged_state_is_refused_and_changes_nothing(self, first, second, tmp_path):
        learner = self.learned(first)
        learner.save(tmp_path)
        blob = max((tmp_path / "tensors").iterdir(), key=lambda path: path.stat().st_size)
        data = bytearray(blob.read_bytes())
        data[-1] ^= 1
        blob.write_bytes(bytes(data))
        other = self.learned(second)
        before = other.record()
        with pytest.raises(StoreDamagedError, match="damaged"):
            other.load(tmp_path)
        assert other.tasks == ("second",)
        assert other.record().document == before.document

    def test_global_randomness_is_neither_used_nor_disturbed(self, first):
        torch.manual_seed(11)
        a = self.make()
        list(a.learn(first))
        after = torch.rand(3)
        torch.manual_seed(11)
        assert torch.equal(after, torch.rand(3))
        torch.manual_seed(12)
        b = self.make()
        list(b.learn(first))
        assert_same_state(a, b)


class Failing(Split):
    """A split that cannot be read any more once ``fails`` is set; otherwise the given one."""

    def __init__(self, base: Split) -> None:
        self.base, self.fails = base, False

    def __len__(self):
        return len(self.base)

    def batch(self, indices):
        if self.fails:
            raise DataError("the file cannot be read")
        return self.base.batch(indices)

    @property
    def labels(self):
        return self.base.labels

    @property
    def shape(self):
        return self.base.shape

    def digest(self):
        return self.base.digest()


def assert_same_state(a: Learner, b: Learner) -> None:
    """Every tensor and every value of both is equal, bit for bit."""
    mine, theirs = a.record(), b.record()
    assert dict(mine.document) == dict(theirs.document)
    assert mine.groups.keys() == theirs.groups.keys()
    for group, tensors in mine.groups.items():
        assert tensors.keys() == theirs.groups[group].keys()
        for name, tensor in tensors.items():
            assert torch.equal(tensor, theirs.groups[group][name]), f"{group}/{name} differs"
