"""Statistics of normalisation: a task's own, of the configuration that it is answered with."""

import pytest
import torch
from tests.learner_contract import toy_task
from tests.transfer.making import make, naive_parameters, normed, random_task, set_up
from torch import nn
from torch.func import functional_call

from stolon.transfer import statistics
from stolon.transfer.configurations import Configuration
from stolon.transfer.statistics import BATCH, SAMPLES, measured


@pytest.mark.parametrize("text", ["11", "10", "01", "00"])
@pytest.mark.parametrize("n", [20, BATCH + 40])
def test_they_are_the_means_over_batches_of_means_and_variances(text, n):
    lesson, configuration = set_up(net=normed, task=random_task(n=n)), Configuration.from_text(text)
    found = measured(lesson.network, lesson.shared, lesson.parts, configuration, lesson.task.train)
    batches = lesson.task.train.batch(torch.arange(n))[0].split(BATCH)
    sums = [[], []]
    for batch in batches:
        x = batch
        for i, (stage, row) in enumerate(zip(lesson.network.stages, configuration.shared, strict=True)):
            made = naive_parameters("hard", lesson, i, row, lesson.shared, lesson.parts)
            y = nn.functional.conv2d(x, made["body.0.weight"], padding=1)
            sums[i].append((y.mean((0, 2, 3)), y.transpose(0, 1).flatten(1).var(1)))
            y = (y - y.mean((0, 2, 3), keepdim=True)) / (
                y.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5
            ).sqrt()
            y = y * made["body.1.weight"].view(-1, 1, 1) + made["body.1.bias"].view(-1, 1, 1)
            x = stage.pool(y.relu())
    for layer, pairs in zip(found, sums, strict=True):
        means, variances = (torch.stack(values).mean(0) for values in zip(*pairs, strict=True))
        torch.testing.assert_close(layer["body.1.running_mean"], means, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer["body.1.running_var"], variances, rtol=1e-4, atol=1e-5)


def test_only_the_first_samples_are_looked_at(monkeypatch):
    monkeypatch.setattr(statistics, "SAMPLES", 16)
    lesson, configuration = set_up(net=normed, task=random_task(n=40)), Configuration.from_text("10")
    few = set_up(net=normed, task=random_task(n=40))
    args = lesson.network, lesson.shared, lesson.parts, configuration
    found = measured(*args, lesson.task.train)
    x, y = lesson.task.train.batch(torch.arange(16))
    expected = measured(*args, few.task.train.of(x, y))
    assert all(
        torch.equal(v, expected[i][name]) for i, layer in enumerate(found) for name, v in layer.items()
    )
    assert SAMPLES > BATCH


def test_measuring_leaves_the_structure_as_it_was():
    lesson = set_up(net=normed)
    momenta = [
        m.momentum for s in lesson.network.stages for m in s.modules() if isinstance(m, nn.BatchNorm2d)
    ]
    measured(lesson.network, lesson.shared, lesson.parts, Configuration.from_text("11"), lesson.task.train)
    found = [m.momentum for s in lesson.network.stages for m in s.modules() if isinstance(m, nn.BatchNorm2d)]
    assert found == momenta == [0.1, 0.1]


def test_a_task_is_answered_by_its_own_statistics():
    first = toy_task("first", 1)
    learner = make("static", normed, configuration="all", epochs=2)
    list(learner.learn(first))
    own = learner._kept["first"].parts.statistics
    x = first.test.batch(torch.arange(24))[0]
    features, stages = x, learner._network.stages
    for i, stage in enumerate(stages):
        shared = {name.removesuffix("/weight"): value for name, value in learner._shared[i].items()}
        features = functional_call(stage.eval(), {**shared, **own[i]}, (features,))
    with torch.no_grad():
        expected = learner._kept["first"].parts.tail.eval()(features)
    torch.testing.assert_close(learner.logits(x, "first"), expected, rtol=1e-5, atol=1e-6)
    list(learner.learn(toy_task("second", 2)))
    other = learner._kept["second"].parts.statistics
    assert not torch.equal(own[0]["body.1.running_mean"], other[0]["body.1.running_mean"])
    assert learner._kept["first"].parts.statistics is own


def test_nets_without_statistics_measure_none():
    assert not set_up().network.has_statistics
    assert set_up(net=normed).network.has_statistics
    assert set_up().parts.statistics == [{}, {}]
