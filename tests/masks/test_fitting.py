"""Masks trained together are those trained alone; the loop is the naive one."""

import math

import pytest
import torch
from tests.learner_contract import SHAPE, toy_task
from torch import nn
from torch.nn.functional import cross_entropy

from stolon.errors import DataError, SettingError, TaskError
from stolon.masks.fitting import Job, MaskTraining, PopupFit
from stolon.masks.frozen import FrozenNet
from stolon.masks.parallel import train_masks
from stolon.masks.popup import MaskRule, begin_scores
from stolon.randomness import permutation
from stolon.tasks import Split, Task, to_float

RULE = MaskRule(density=0.4)


def frozen(outputs=6):
    return FrozenNet("mlp-32", (1, 8, 8), outputs)


def normed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(3), nn.Flatten())
    return FrozenNet(net, (1, 8, 8), 6)


def fitted(net, jobs, training, rule=RULE):
    fit = PopupFit(net, jobs, rule, training)
    return fit, list(fit.run())


def test_a_training_is_the_naive_loop():
    net, task = frozen(), toy_task("t", 1)
    training = MaskTraining(epochs=2, batch_size=20, learning_rate=0.05, optimizer="sgd", schedule="cosine")
    fit, epochs = fitted(net, [Job(task, 3)], training)
    scores = [begin_scores(shape, RULE, 3, "t", i) for i, shape in enumerate(net.shapes)]
    x, y = task.train.batch(torch.arange(48))
    large = [w * RULE.scale(w.shape) for w in net.weights]
    losses = []
    for epoch in range(2):
        total, rate = 0.0, 0.05 * (1 + math.cos(math.pi * epoch / 2)) / 2
        for rows in permutation(48, 3, "order", "t", epoch).split(20):
            weights = []
            for layer, weight in zip(scores, large, strict=True):
                keep = layer.abs().flatten().argsort(descending=True)[: RULE.keep(layer.shape)]
                mask = torch.zeros(layer.numel()).index_fill(0, keep, 1.0).view(layer.shape)
                weights.append((weight * mask).requires_grad_())
            hidden = (to_float(x[rows]).flatten(1) @ weights[0].T).relu()
            loss = cross_entropy(hidden @ weights[1].T, y[rows])
            gradients = torch.autograd.grad(loss, weights)
            scores = [
                layer - rate * g * w * layer.sign()
                for layer, g, w in zip(scores, gradients, large, strict=True)
            ]
            total += float(loss.detach()) * len(rows)
        losses.append(total / 48)
    assert [epoch.loss for epoch in epochs] == pytest.approx(losses, rel=1e-4)
    for found, expected in zip(fit.scores, scores, strict=True):
        torch.testing.assert_close(found[0].detach(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", [frozen, normed])
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam"])
def test_together_is_alone(make, optimizer):
    net = make()
    training = MaskTraining(epochs=1, batch_size=10, learning_rate=1e-3, optimizer=optimizer)
    jobs = [Job(toy_task("a", 1), 0), Job(toy_task("b", 2), 0), Job(toy_task("a", 1), 5)]
    together, (epoch,) = fitted(net, jobs, training)
    alone = [fitted(net, [job], training) for job in jobs]
    assert epoch.loss == pytest.approx(sum(epochs[0].loss for _, epochs in alone) / 3, rel=1e-3)
    for i, (fit, _) in enumerate(alone):
        for found, expected in zip(together.scores, fit.scores, strict=True):
            difference = (found[i] - expected[0]).abs().mean() / expected.abs().mean()
            assert float(difference.detach()) < 1e-3  # a score at the threshold can turn by rounding
        for name, value in fit.statistics_of(0).items():
            torch.testing.assert_close(together.statistics_of(i)[name], value, rtol=1e-2, atol=1e-3)


def test_begun_from_given_scores():
    net, task = frozen(), toy_task("t", 1)
    start = tuple(torch.randn(shape) for shape in net.shapes)
    fit = PopupFit(net, [Job(task, 0, start)], RULE, MaskTraining())
    for layer, given in zip(fit.scores, start, strict=True):
        assert torch.equal(layer[0].detach(), given)
        layer.data.zero_()
        assert given.any()  # its giver's are left alone


def test_tasks_of_unequal_size_are_refused():
    small = toy_task("b", 2)
    x, y = small.train.batch(torch.arange(30))
    part = Task("b", small.classes, Split.of(x, y), small.val, small.test)
    with pytest.raises(DataError, match=r"\[30, 48\]"):
        PopupFit(frozen(), [Job(toy_task("a", 1), 0), Job(part, 0)], RULE, MaskTraining())


def test_scores_of_other_layers_are_refused():
    frozen = FrozenNet("mlp-8", SHAPE, 3)
    start = tuple(torch.zeros(shape) for shape in FrozenNet("mlp-9", SHAPE, 3).shapes)
    with pytest.raises(DataError, match=r"scores of the network's layers .*8, 64.* found ones of .*9, 64"):
        PopupFit(frozen, [Job(toy_task("a"), 0, start)], MaskRule(), MaskTraining())


def test_too_many_classes_are_refused():
    with pytest.raises(DataError, match="at most 2 classes"):
        PopupFit(frozen(2), [Job(toy_task("a", 1), 0)], RULE, MaskTraining())


def test_a_training_that_blows_up_says_so():
    task = toy_task("t", 1)
    x, y = task.train.batch(torch.arange(48))
    wild = Task("t", task.classes, Split.of(x * 1e38, y), task.val, task.test)
    with pytest.raises(TaskError, match="stays finite"):
        fitted(frozen(), [Job(wild, 0)], MaskTraining())


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_groups_give_masks_in_order(at_once):
    net, training = frozen(), MaskTraining(epochs=1, learning_rate=0.01)
    jobs = [Job(toy_task(str(i), i), i) for i in range(5)]
    masks = list(train_masks(net, jobs, RULE, training, at_once=at_once))
    assert len(masks) == 5
    for job, mask in zip(jobs, masks, strict=True):
        fit, _ = fitted(net, [job], training)
        for found, expected in zip(mask.masks(net.shapes), fit.masks(0), strict=True):
            assert (found != expected).float().mean() < 0.01


def test_groups_can_run_elsewhere():
    """Any map will do; backwards, they still come in order."""
    net, training = frozen(), MaskTraining(epochs=1, learning_rate=0.01)
    jobs = [Job(toy_task(str(i), i), i) for i in range(4)]

    def backwards(function, groups):
        found = [function(group) for group in reversed(list(groups))]
        return reversed(found)

    here = list(train_masks(net, jobs, RULE, training, at_once=2))
    there = list(train_masks(net, jobs, RULE, training, at_once=2, run=backwards))
    for a, b in zip(here, there, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.layers, b.layers, strict=True))


def test_in_processes():
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    net, training = frozen(), MaskTraining(epochs=1, learning_rate=0.01)
    jobs = [Job(toy_task(str(i), i), i) for i in range(2)]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there = list(train_masks(net, jobs, RULE, training, at_once=1, run=pool.map))
    here = list(train_masks(net, jobs, RULE, training, at_once=1))
    for a, b in zip(here, there, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.layers, b.layers, strict=True))


def test_bad_groups_are_refused():
    with pytest.raises(DataError, match="at least one"):
        list(train_masks(frozen(), [], RULE, MaskTraining()))
    with pytest.raises(SettingError, match="at_once"):
        list(train_masks(frozen(), [Job(toy_task("t", 1), 0)], RULE, MaskTraining(), at_once=0))
