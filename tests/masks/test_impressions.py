"""ImpressLearn obeys the laws of learners; its coefficients are what the formulas say."""

import pytest
import torch
from tests.learner_contract import SHAPE, LearnerContract, assert_same_state, toy_task
from torch import nn
from torch.nn.functional import cross_entropy

from stolon import learners
from stolon.errors import DataError, RecipeChangedError, SettingError, TaskError, TaskUnknownError
from stolon.masks.basis import layered, random_mask
from stolon.masks.coefficients import CoefficientFit, mixed_weights
from stolon.masks.fitting import MaskTraining
from stolon.masks.frozen import FrozenNet
from stolon.masks.impressions import Impressions
from stolon.masks.inference import Candidates, TaskSearch
from stolon.masks.popup import MaskRule
from stolon.tasks import Split, Task, to_float

FAST = {
    "epochs": 6, "batch_size": 8, "learning_rate": 0.02, "optimizer": "adam", "density": 0.3, "outputs": 8,
    "alpha_epochs": 12, "alpha_batch_size": 8, "alpha_learning_rate": 0.1, "alpha_optimizer": "adam",
}  # fmt: skip


def make(net="mlp-128", **settings) -> Impressions:
    learner = learners.make("impressions", net=net, **{**FAST, "impressions": 3, **settings})
    assert isinstance(learner, Impressions)
    return learner


def normed() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.AvgPool2d(3), nn.Flatten()
        )


def learned(learner, *tasks, seed=0):
    for task in tasks:
        list(learner.learn(task, seed=seed))
    return learner


def tasks(count):
    return [toy_task(str(i), i) for i in range(count)]


def accuracy(learner, task, name=None):
    x, y = task.test.batch(torch.arange(len(task.test)))
    return float((learner.logits(x, name or task.name).argmax(1) == y).float().mean())


SURE = {"outputs": 100, "objective": "superfluous", "rule": "nonnegative", "epochs": 12}


class TestHeterogeneous(LearnerContract):
    """One task leaves the only mask, the next is a sum."""

    infers = True
    make = staticmethod(lambda: make("mlp-256", impressions=2, **SURE))


class TestHomogeneous(LearnerContract):
    infers = True
    make = staticmethod(
        lambda: make(
            "mlp-256",
            basis="homogeneous",
            impressions=5,
            at_once=2,
            **{**SURE, "per": "batch", "objective": "entropy"},
        )
    )


class TestRandom(LearnerContract):
    infers = True
    make = staticmethod(
        lambda: make(
            "mlp-256", basis="random", impressions=20, **{**SURE, "per": "batch", "objective": "entropy"}
        )
    )


class TestNormalisedHybrid(LearnerContract):
    infers = True
    make = staticmethod(
        lambda: make(normed(), impressions=1, hybrid=True, **{**SURE, "per": "batch", "objective": "entropy"})
    )


@pytest.mark.parametrize("form", ["fast", "bits", "plain"])
def test_a_coefficient_of_one_alone_is_that_supermask(form):
    learner = learned(make(form=form), *tasks(3))
    for i, weights in enumerate(learner._task_weights(str(i)) for i in range(3)):
        alpha = torch.zeros(2, 3)
        alpha[:, i] = 1
        mixed = mixed_weights(learner.frozen, learner._ready_masks(), learner._scales(), alpha)
        for one, other in zip(mixed, weights, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=0)


@pytest.mark.parametrize("penalty", [0.0, 0.5])
def test_the_first_step_is_that_of_the_formula(penalty):
    """Eq. 1 and 2 by autograd over explicit sums, and plain gradient descent."""
    learner = learned(make(), *tasks(3))
    task, frozen = toy_task("new", 7), learner.frozen
    fit = CoefficientFit(
        frozen, learner._ready_masks(), learner._scales(), task,
        seed=0, training=MaskTraining(epochs=1, batch_size=48, optimizer="sgd", learning_rate=0.3), penalty=penalty,
    )  # fmt: skip
    assert torch.equal(fit.alpha.detach(), torch.full((2, 3), 1 / 3))
    list(fit.run())
    alpha = torch.full((2, 3), 1 / 3, dtype=torch.float64, requires_grad=True)
    masks = [[layer.double() for layer in mask.masks(frozen.shapes)] for mask in learner.basis]
    weights = [
        scale * sum(alpha[layer, i] * masks[i][layer] * frozen.weights[layer].double() for i in range(3))
        for layer, scale in enumerate(learner._scales())
    ]
    x, y = task.train.batch(torch.arange(48))
    hidden = (x.double().flatten(1) @ weights[0].T).relu()
    loss = cross_entropy(hidden @ weights[1].T, y)
    loss = loss + penalty * ((alpha.abs().sum(1) - 1) ** 2).sum()
    (gradient,) = torch.autograd.grad(loss, alpha)
    torch.testing.assert_close(
        fit.alpha.detach().double(), alpha.detach() - 0.3 * gradient, rtol=1e-4, atol=1e-6
    )


def test_the_penalty_pulls_the_norm_to_one():
    found = {}
    for penalty in (0.0, 10.0):
        learner = learned(make(penalty=penalty, alpha_learning_rate=0.05), *tasks(4))
        found[penalty] = (learner.coefficients("3").abs().sum(1) - 1).abs().max()
    assert found[10.0] < 0.2 < found[0.0]


def test_new_tasks_are_learned_and_nothing_learned_changes_by_a_bit():
    stream = tasks(6)
    learner = make("mlp-256", basis="mixed", impressions=12, masks_per_task=4)
    x = torch.rand(5, 1, 8, 8)
    answers = {}
    for task in stream:
        learned(learner, task)
        answers[task.name] = learner.logits(x, task.name)
        for name, before in answers.items():
            assert torch.equal(learner.logits(x, name), before)
    assert all(accuracy(learner, task) > 0.9 for task in stream)
    assert learner.coefficients("4").shape == (2, 12)
    assert learner.size().per_task["4"] == 24
    assert learner.size().bytes_per_task["4"] == 48
    assert learner.size().bytes_per_task["0"] == 0


@pytest.mark.parametrize(
    ("settings", "after"),
    [
        ({"basis": "heterogeneous", "impressions": 3}, [1, 2, 3, 3]),
        ({"basis": "homogeneous", "impressions": 3}, [3, 3, 3, 3]),
        ({"basis": "mixed", "impressions": 5, "masks_per_task": 2}, [2, 4, 5, 5]),
        ({"basis": "random", "impressions": 3}, [3, 3, 3, 3]),
    ],
)
def test_what_a_basis_is_made_of(settings, after):
    learner = make(epochs=1, alpha_epochs=1, **settings)
    found = []
    for task in tasks(4):
        learned(learner, task)
        found.append(len(learner.basis))
    assert found == after
    masks = [
        torch.cat([layer.flatten() for layer in mask.masks(learner.frozen.shapes)]) for mask in learner.basis
    ]
    assert all(not torch.equal(a, b) for i, a in enumerate(masks) for b in masks[:i])
    rule = learner.config.mask_rule()
    assert {int(mask.sum()) for mask in masks} == {sum(map(rule.keep, learner.frozen.shapes))}


def test_masks_trained_at_once_are_those_trained_alone():
    task = toy_task("t", 1)
    alone = learned(make(basis="homogeneous", impressions=4, at_once=1, epochs=2), task)
    together = learned(make(basis="homogeneous", impressions=4, at_once=3, epochs=2), task)
    for one, other in zip(alone.basis, together.basis, strict=True):
        for a, b in zip(one.masks(alone.frozen.shapes), other.masks(alone.frozen.shapes), strict=True):
            assert (a != b).float().mean() < 0.01  # rounding can turn a score that lies at the threshold


def test_what_is_answered_while_a_mask_is_trained_is_what_is_kept():
    task = toy_task("t", 1)
    learner = make()
    x, _ = task.test.batch(torch.arange(24))
    for _ in learner.learn(task):
        under_way = learner.logits(x, "t")
    torch.testing.assert_close(learner.logits(x, "t"), under_way)


@pytest.mark.parametrize(
    "changed", [{"density": 0.5}, {"impressions": 4}, {"scaled": True}, {"basis": "mixed"}]
)
def test_a_state_of_other_settings_is_refused(changed, tmp_path):
    """They say how coefficients are read, and what becomes of the next task."""
    learned(make(), *tasks(4)).save(tmp_path / "s")
    other = make(**changed)
    with pytest.raises(RecipeChangedError, match=next(iter(changed))):
        other.load(tmp_path / "s")
    assert other.tasks == ()


def test_convolutions_are_not_stacked_unless_asked():
    config = make().config
    assert config.together([(4, 3), (2, 4)]) == 10
    assert config.together([(4, 3, 3, 3), (2, 4)]) == 1
    assert make(at_once=7).config.together([(4, 3, 3, 3)]) == 7


def test_epochs_are_numbered_through_the_groups():
    learner = make(basis="homogeneous", impressions=5, at_once=2, epochs=2)
    numbers = [(epoch.number, epoch.total) for epoch in learner.learn(toy_task("t", 1))]
    assert numbers == [(i, 6) for i in range(1, 7)]


@pytest.mark.parametrize("stop", range(1, 6))
def test_stopped_anywhere_in_the_groups_it_ends_the_same(stop, tmp_path):
    settings = {"basis": "homogeneous", "impressions": 5, "at_once": 2, "epochs": 2}
    task = toy_task("t", 1)
    whole, first = learned(make(**settings), task), make(**settings)
    steps = first.learn(task)
    for _ in range(stop):
        next(steps)
    first.save(tmp_path / "s")
    x, _ = task.test.batch(torch.arange(24))
    again = make(**settings).load(tmp_path / "s")
    assert torch.equal(again.logits(x, "t"), first.logits(x, "t"))
    list(again.learn(task))
    assert_same_state(again, whole)


@pytest.mark.parametrize("hybrid", [False, True])
def test_stopped_in_the_middle_of_coefficients_it_ends_the_same(hybrid, tmp_path):
    settings = {"hybrid": hybrid, "impressions": 1, "alpha_epochs": 3}
    first, task = tasks(2)
    whole, part = learned(make(**settings), first, task), learned(make(**settings), first)
    next(part.learn(task))
    part.save(tmp_path / "s")
    again = make(**settings).load(tmp_path / "s")
    x, _ = task.test.batch(torch.arange(24))
    assert torch.equal(again.logits(x, "1"), part.logits(x, "1"))
    list(again.learn(task))
    assert_same_state(again, whole)


def test_the_quick_slopes_are_those_of_the_weights_themselves():
    learner = learned(make("mlp-64-32", impressions=2, outputs=6), *tasks(5))
    quick = learner._candidates()
    slow = Candidates(learner.frozen, lambda i: learner._task_weights(str(i)), [{}] * 5)
    x = to_float(torch.rand(7, 1, 8, 8))
    for tasks_ in (range(5), [1, 3], [4]):
        for one, other in zip(quick.mixture(tasks_), slow.mixture(tasks_), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        found = [TaskSearch(each, 3).batch_gradient(x, tasks_) for each in (quick, slow)]
        torch.testing.assert_close(*found, rtol=1e-3, atol=1e-5)


def test_a_training_that_blows_up_says_so():
    learner = learned(make(), *tasks(3))
    with pytest.raises(TaskError, match="stays finite"):
        learned(make_wild(learner), toy_task("new", 7))


def make_wild(learner):
    """The same with a learning rate that no training survives."""
    wild = make(alpha_learning_rate=1e38, alpha_optimizer="sgd")
    return wild.restore(learner.record())


def drifted(task, by):
    def moved(split):
        x, y = split.batch(torch.arange(len(split)))
        return Split.of(x.roll(by, -1), y)

    return Task(task.name, task.classes, moved(task.train), moved(task.val), moved(task.test))


def test_coefficients_follow_a_drift_and_nothing_else_changes():
    stream = tasks(4)
    learner = learned(make("mlp-256", basis="mixed", impressions=12, masks_per_task=4), *stream)
    now = drifted(stream[3], 3)
    before, x = accuracy(learner, now), torch.rand(5, 1, 8, 8)
    others = [learner.logits(x, name) for name in "012"]
    steps = learner.follow("3", now)
    old = learner.coefficients("3")
    next(steps)
    assert torch.equal(learner.coefficients("3"), old)  # until it is through
    list(steps)
    assert accuracy(learner, now) > max(0.9, before)
    assert all(
        torch.equal(learner.logits(x, name), answer) for name, answer in zip("012", others, strict=True)
    )
    recipe = learner.recipe("3")
    assert (recipe["data"], recipe["followed"]) == (now.digest(), 1)
    assert "followed" not in learner.recipe("2")


def test_what_happens_to_a_task_ends_its_following(tmp_path):
    stream = tasks(4)
    learner = learned(make(), *stream)
    now = drifted(stream[3], 3)
    learner.save(tmp_path / "saved")

    def forget():
        learner.forget("3")

    def load():
        learner.load(tmp_path / "saved")

    def follow():
        list(learner.follow("3", drifted(stream[3], 2)))

    for happens in (load, follow, forget):
        steps = learner.follow("3", now)
        next(steps)
        happens()
        after = make().restore(learner.record())
        with pytest.raises(TaskError, match="'3' was forgotten, loaded or changed"):
            list(steps)
        assert_same_state(learner, after)
    nothing = Split.of(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))
    learned(learner, stream[3])
    with pytest.raises(DataError, match="expected training data"):
        next(learner.follow("3", Task("3", stream[3].classes, nothing, nothing, nothing)))


def test_what_is_loaded_in_the_middle_of_a_task_outlives_the_others(tmp_path):
    whole = learned(make(impressions=1, outputs=None), *tasks(2))
    learner = learned(make(impressions=1, outputs=None), *tasks(1))
    next(learner.learn(toy_task("1", 1)))
    learner.save(tmp_path / "saved")
    again = make(impressions=1, outputs=None).load(tmp_path / "saved")
    again.forget("0")
    x = torch.rand(3, 1, 8, 8)
    again.logits(x, "1")
    list(again.learn(toy_task("1", 1)))
    assert torch.equal(again.logits(x, "1"), whole.logits(x, "1"))


def test_coefficients_that_half_precision_cannot_hold_are_no_knowledge():
    settings = {
        "alpha_optimizer": "sgd",
        "alpha_learning_rate": 3e7,
        "alpha_epochs": 1,
        "alpha_batch_size": 1000,
    }
    learner = learned(make(impressions=1, **settings), *tasks(1))
    with pytest.raises(TaskError, match=r"half precision cannot hold \(at most 65,504\)"):
        list(learner.learn(toy_task("1", 1)))
    assert learner.tasks == ("0",)
    x = torch.rand(3, 1, 8, 8)
    assert learner.infer(x) == ("0", "0", "0")


def test_nothing_trains_the_coefficients_of_a_last_layer_with_a_mask_of_its_own():
    learner = learned(make(impressions=1, hybrid=True, alpha_weight_decay=0.5, penalty=1.0), *tasks(2))
    assert learner.coefficients("1")[-1].tolist() == [1.0]
    assert learner.coefficients("1")[0].tolist() != [1.0]


def test_masks_of_another_network_are_refused():
    frozen, other = FrozenNet("mlp-16", SHAPE, 3), FrozenNet("mlp-12", SHAPE, 3)
    rule = MaskRule(density=0.5)
    masks = layered([random_mask(other, rule, 0, i) for i in range(2)], other, "fast")
    with pytest.raises(DataError, match=r"masks of the network's layers .*16, 64.* found ones of .*12, 64"):
        CoefficientFit(frozen, masks, [1, 1], toy_task("0"), seed=0, training=MaskTraining())
    masks = layered([random_mask(frozen, rule, 0, i) for i in range(2)], frozen, "fast")
    with pytest.raises(DataError, match=r"coefficients \[2, 2\] to begin with, found \[2, 3\]"):
        CoefficientFit(
            frozen, masks, [1, 1], toy_task("0"), seed=0, training=MaskTraining(), start=torch.ones(2, 3)
        )


def test_a_last_layers_own_mask_stays_while_coefficients_follow_a_drift():
    stream = tasks(4)
    learner = learned(make("mlp-256", hybrid=True, basis="mixed", impressions=12, masks_per_task=4), *stream)
    now, before = drifted(stream[3], 2), learner.knowledge("3")
    was = accuracy(learner, now)
    list(learner.follow("3", now))
    after = learner.knowledge("3")
    assert not torch.equal(before.alpha, after.alpha)
    assert after.last is before.last
    assert accuracy(learner, now) > was


def test_a_task_under_way_has_no_coefficients_yet():
    learner = learned(make(impressions=1), *tasks(1))
    next(learner.learn(toy_task("1", 1)))
    with pytest.raises(TaskUnknownError, match="being learned"):
        learner.coefficients("1")


def test_a_task_of_the_basis_cannot_follow():
    learner = learned(make(), *tasks(4))
    with pytest.raises(TaskError, match="of the basis"):
        next(learner.follow("0", toy_task("0", 0)))
    with pytest.raises(TaskUnknownError):
        next(learner.follow("9", toy_task("9", 9)))
    with pytest.raises(TaskError, match="expected its classes"):
        next(learner.follow("3", toy_task("3", 3, classes=2)))


def test_a_forgotten_tasks_mask_stays_for_those_that_are_sums_of_it():
    learner = learned(make(), *tasks(4))
    x = torch.rand(3, 1, 8, 8)
    before = learner.logits(x, "3")
    learner.forget("0")
    assert torch.equal(learner.logits(x, "3"), before)
    assert len(learner.basis) == 3


@pytest.mark.parametrize("values", ["signed", "real"])
def test_other_masks_can_be_summed(values):
    made = make("mlp-256", values=values, form="plain", basis="mixed", impressions=12, masks_per_task=4)
    learner = learned(made, *tasks(4))
    assert accuracy(learner, tasks(4)[3]) > 0.8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"impressions": 0}, "impressions"),
        ({"masks_per_task": 0}, "masks_per_task"),
        ({"at_once": 0}, "at_once"),
        ({"basis": "all"}, "basis"),
        ({"form": "small"}, "form"),
        ({"penalty": -1.0}, "penalty"),
        ({"alpha_epochs": 0}, "^alpha_epochs"),
        ({"alpha_learning_rate": 0.0}, "^alpha_learning_rate"),
        ({"hybrid": "no"}, "hybrid: expected True or False"),
        ({"basis": "random", "values": "signed"}, "random basis"),
        ({"values": "real"}, "plain"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        make(**settings)
