"""E- and M-steps of LASEM against naive sums over all configurations, each run alone in float64."""

import itertools
from dataclasses import replace
from itertools import pairwise

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.transfer.making import MECHANISMS, linear_map, naive_features, normed, random_task, set_up, tiny
from torch import nn

from stolon.transfer import lasem
from stolon.transfer.configurations import Space
from stolon.transfer.em import LIKELIHOODS, Belief
from stolon.transfer.fit import Lesson
from stolon.transfer.lasem import EM, LasemConfig
from stolon.transfer.network import Parts, copied, copied_parts
from stolon.transfer.sampling import draw, spread

X, Y = random_task(n=6).train.batch(torch.arange(6))


def em_of(lesson, belief=None, space=None, **settings):
    """E- and M-steps on a lesson whose tensors want gradients."""
    space = space or Space.every(lesson.network.depth, parts=settings.get("parts", 1))
    for leaf in (*(t for layer in lesson.shared for t in layer.values()), *lesson.parts.leaves()):
        leaf.requires_grad_()
    for stage in lesson.network.stages:
        stage.train()
    config = LasemConfig(**{"e_every": 1, **settings})
    return EM(lesson, space, belief or Belief(len(space)), config)


def tensors_of(lesson):
    layers = (*lesson.shared, *lesson.parts.own, *lesson.parts.factors)
    return [*(t for layer in layers for t in layer.values()), *lesson.parts.tail.parameters()]


def gradients(lesson, loss):
    found = torch.autograd.grad(loss, tensors_of(lesson), allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors_of(lesson), found, strict=True)]


def doubled(lesson) -> Lesson:
    """A copy in float64, with gradients."""
    parts, shared = copied_parts(lesson.parts), copied(lesson.shared)
    for layers in (shared, parts.own, parts.factors):
        for layer in layers:
            for name, value in layer.items():
                layer[name] = value.double().requires_grad_()
    parts.tail.double().requires_grad_()
    return replace(lesson, shared=shared, parts=Parts(parts.own, parts.factors, parts.statistics, parts.tail))


def naive_loss(transfer, lesson, choice, x, y, *, orthogonality=0.1):
    """Of one configuration alone: cross entropy or half squared error, and the penalty of what it shares."""
    outputs = lesson.parts.tail(naive_features(transfer, lesson, choice, x))
    if y.is_floating_point():
        found = ((outputs - y) ** 2).sum(1).mean() / 2
    else:
        found = -(outputs - outputs.logsumexp(1, keepdim=True))[range(len(y)), y].mean()
    if transfer == "tensor-factorization":
        for layer, row in zip(lesson.parts.factors, choice.shared, strict=True):
            for name, u in layer.items():
                if "/u" in name and any(row):
                    found = found + orthogonality * (u.T @ u - torch.eye(len(u))).square().sum().sqrt()
    return found


def naive_gradients(transfer, lesson, space, posterior, x, y):
    """The posterior-weighted sum over all configurations, each run alone."""
    twin = doubled(lesson)
    total = [torch.zeros_like(t) for t in tensors_of(twin)]
    for p, choice in zip(posterior.tolist(), space.choices, strict=True):
        alone = gradients(
            twin, naive_loss(transfer, twin, choice, x.double(), y.double() if y.is_floating_point() else y)
        )
        total = [t + p * g for t, g in zip(total, alone, strict=True)]
    return total


def assert_close(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5 * float(b.abs().max()) + 1e-8)


def some_posterior(count, seed=0):
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(0)


@pytest.mark.parametrize("transfer", MECHANISMS)
@pytest.mark.parametrize("parts", [1, 2])
def test_the_exact_gradient_is_the_naive_sum_over_all_configurations(transfer, parts):
    lesson, space = set_up(transfer, parts=parts), Space.every(2, parts=parts)
    posterior = some_posterior(len(space))
    em = em_of(lesson, Belief(len(space), fixed=posterior), exact=True, parts=parts)
    found = gradients(lesson, next(em.losses(X, Y, 0, 0)))
    assert_close(found, naive_gradients(transfer, lesson, space, posterior, X, Y))


@pytest.mark.parametrize("transfer", MECHANISMS)
def test_of_regression_too(transfer):
    task = linear_map(outputs=2)
    lesson, space = set_up(transfer, task=task), Space.every(2)
    x, y = task.train.batch(torch.arange(6))
    posterior = some_posterior(4)
    em = em_of(lesson, Belief(4, fixed=posterior), exact=True)
    found = gradients(lesson, next(em.losses(x, y, 0, 0)))
    assert_close(found, naive_gradients(transfer, lesson, space, posterior, x, y))


@pytest.mark.parametrize(
    "tail",
    [(nn.LeakyReLU(0.2, inplace=True),), (nn.Linear(144, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True))],
    ids=["in place", "normalised"],
)
def test_the_exact_loss_is_the_naive_one_whatever_the_tail_does(tail):
    """An E-step shares its forward pass with the M-step: what it does in place must not reach it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), *tail)  # noqa: E731
        lesson = set_up(net=net)
    em = em_of(lesson, exact=True)
    (loss,) = em.losses(X, Y, 1, 1)
    posterior, twin = em.belief.posterior, doubled(lesson)
    twin.parts.tail.train()
    expected = sum(
        p * naive_loss("hard", twin, choice, X.double(), Y)
        for p, choice in zip(posterior.tolist(), em._space.choices, strict=True)
    )
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


@settings(max_examples=6)
@given(st.lists(st.sampled_from([0.0, 1e-12, 0.1, 1.0]), min_size=4, max_size=4).filter(any))
def test_whatever_the_posterior_gives_no_weight(weights):
    posterior = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    lesson, space = set_up(), Space.every(2)
    em = em_of(lesson, Belief(4, fixed=posterior), exact=True)
    found = gradients(lesson, next(em.losses(X, Y, 0, 0)))
    assert_close(found, naive_gradients("hard", lesson, space, posterior, X, Y))


@pytest.mark.parametrize("kind", LIKELIHOODS)
@pytest.mark.parametrize("exact", [False, True])
def test_the_e_step_is_prior_times_likelihood(kind, exact):
    lesson, space = set_up(), Space.every(2)
    em = em_of(lesson, exact=exact, likelihood=kind)
    twin = doubled(lesson)
    probabilities = torch.stack(
        [
            twin.parts.tail(naive_features("hard", twin, c, X.double())).softmax(1)[range(6), Y].detach()
            for c in space.choices
        ]
    )
    match kind:
        case "joint":
            likelihood = probabilities.prod(1)
        case "geometric-mean":
            likelihood = probabilities.prod(1) ** (1 / 6)
        case "mean-probability":
            likelihood = probabilities.mean(1)
    next(em.losses(X, Y, 0, 0))
    torch.testing.assert_close(em.belief.posterior, likelihood / likelihood.sum(), rtol=1e-4, atol=1e-6)
    # once more: what won has counted once
    prior = (torch.nn.functional.one_hot(likelihood.argmax(), 4) + 1).double() / 5
    next(em.losses(X, Y, 0, 1))
    expected = prior * likelihood / (prior @ likelihood)
    torch.testing.assert_close(em.belief.posterior, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("exact", [False, True])
def test_the_likelihood_of_numbers_is_gaussian(exact):
    task = linear_map(outputs=2)
    lesson, space = set_up(task=task), Space.every(2)
    x, y = task.train.batch(torch.arange(6))
    em, twin = em_of(lesson, exact=exact), doubled(lesson)
    next(em.losses(x, y, 0, 0))
    errors = torch.stack(
        [
            ((twin.parts.tail(naive_features("hard", twin, c, x.double())) - y) ** 2).sum().detach()
            for c in space.choices
        ]
    )
    torch.testing.assert_close(em.belief.posterior, (-errors / 2).softmax(0), rtol=1e-4, atol=1e-6)


def test_a_sharp_posterior_leaves_exact_gradients_as_they_are():
    """With most configurations of no weight the M-step runs the others alone; the sum is the same."""
    lesson, space = set_up(), Space.every(2)
    em = em_of(lesson, exact=True)
    em.belief.see(torch.tensor([0.0, -200.0, -200.0, -200.0]))
    em._broad = False  # as after a batch like this
    found = gradients(lesson, next(em.losses(X, Y, 0, 0)))
    assert_close(found, naive_gradients("hard", lesson, space, em.belief.posterior, X, Y))


@pytest.mark.parametrize("transfer", MECHANISMS)
def test_shared_tensors_that_no_weighed_configuration_shares_get_no_gradient(transfer):
    lesson, space = set_up(transfer), Space.every(2)
    # 10 and 00: nobody shares the second layer
    posterior = torch.tensor([0.0, 0.0, 0.4, 0.6], dtype=torch.float64)
    assert [str(c) for c in space.choices] == ["11", "01", "10", "00"]
    em = em_of(lesson, Belief(4, fixed=posterior), exact=True)
    next(em.losses(X, Y, 0, 0)).backward()

    def moved(layers, layer):
        return any(t.grad is not None and bool(t.grad.any()) for t in layers[layer].values())

    assert moved(lesson.shared, 0)
    assert not moved(lesson.shared, 1)
    assert not moved(lesson.parts.factors, 1)
    assert moved(lesson.parts.own, 0)
    assert moved(lesson.parts.own, 1)


@pytest.mark.parametrize("transfer", MECHANISMS)
def test_the_sampled_gradient_averaged_over_all_draws_is_the_exact_one(transfer, monkeypatch):
    lesson, space = set_up(transfer), Space.every(2)
    posterior = some_posterior(4)
    em = em_of(lesson, Belief(4, fixed=posterior), draw_for="batch")
    total = [torch.zeros_like(t) for t in tensors_of(lesson)]
    for i, p in enumerate(posterior.tolist()):
        monkeypatch.setattr(lasem, "draw", lambda *_, i=i: {i: 1.0})
        drawn = gradients(lesson, next(em.losses(X, Y, 0, 0)))
        total = [t + p * g for t, g in zip(total, drawn, strict=True)]
    assert_close(total, naive_gradients(transfer, lesson, space, posterior, X, Y))


def test_several_draws_are_weighed_by_how_often_they_came(monkeypatch):
    lesson, space = set_up(), Space.every(2)
    em = em_of(lesson, Belief(4, fixed=some_posterior(4)), samples=3, draw_for="batch")
    monkeypatch.setattr(lasem, "draw", lambda *_: {2: 2 / 3, 0: 1 / 3})
    found = gradients(lesson, next(em.losses(X, Y, 0, 0)))
    weights = torch.tensor([1 / 3, 0, 2 / 3, 0], dtype=torch.float64)
    assert_close(found, naive_gradients("hard", lesson, space, weights, X, Y))


@pytest.mark.parametrize("transfer", MECHANISMS)
@pytest.mark.parametrize("samples", [1, 2])
def test_draws_for_each_sample_give_the_gradients_of_each_alone(transfer, samples, monkeypatch):
    lesson, space = set_up(transfer), Space.every(2)
    em = em_of(lesson, samples=samples)
    drawn = [3, 0, 2, 2, 1, 0, 0, 0, 1, 3, 2, 1][: 6 * samples]
    monkeypatch.setattr(lasem, "spread", lambda *_: drawn)
    found = gradients(lesson, next(em.losses(X, Y, 0, 0)))
    twin = doubled(lesson)
    total = [torch.zeros_like(t) for t in tensors_of(twin)]
    for i, chosen in enumerate(drawn):
        row = slice(i % 6, i % 6 + 1)
        alone = gradients(twin, naive_loss(transfer, twin, space.choices[chosen], X[row].double(), Y[row]))
        total = [t + g / len(drawn) for t, g in zip(total, alone, strict=True)]
    assert_close(found, total)


@pytest.mark.parametrize("transfer", MECHANISMS)
def test_their_mean_over_all_ways_to_draw_is_the_exact_gradient(transfer, monkeypatch):
    """Two samples have 4 x 4 ways to go."""
    lesson, space = set_up(transfer), Space.every(2)
    posterior, x, y = some_posterior(4), X[:2], Y[:2]
    em = em_of(lesson, Belief(4, fixed=posterior))
    total = [torch.zeros_like(t) for t in tensors_of(lesson)]
    for ways in itertools.product(range(4), repeat=2):
        monkeypatch.setattr(lasem, "spread", lambda *_, ways=ways: list(ways))
        p = float(posterior[list(ways)].prod())
        total = [
            t + p * g for t, g in zip(total, gradients(lesson, next(em.losses(x, y, 0, 0))), strict=True)
        ]
    assert_close(total, naive_gradients(transfer, lesson, space, posterior, x, y))


def test_batch_normalisation_gets_the_mini_batch_whole(monkeypatch):
    em = em_of(set_up(net=normed))
    monkeypatch.setattr(lasem, "spread", lambda *_: pytest.fail("samples would be normalised by few others"))
    assert next(em.losses(X, Y, 0, 0)).isfinite()


@settings(max_examples=30)
@given(
    st.integers(1, 40), st.integers(0, 2**40), st.lists(st.floats(0, 1), min_size=2, max_size=9).filter(any)
)
def test_a_mini_batch_is_spread_as_the_posterior_says_up_to_one(count, seed, weights):
    posterior = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    drawn = spread(posterior, count, seed, "t", 0, 0, 0)
    assert len(drawn) == count
    assert drawn == spread(posterior, count, seed, "t", 0, 0, 0)
    for i, p in enumerate(posterior.tolist()):
        assert abs(drawn.count(i) - count * p) < 1 + 1e-9
        assert p > 0 or drawn.count(i) == 0


def test_which_sample_gets_which_is_chance_and_without_bias():
    posterior = torch.tensor([0.05, 0.4, 0.0, 0.25, 0.3], dtype=torch.float64)
    counts = torch.zeros(3, 5)
    for step in range(600):
        for sample, chosen in enumerate(spread(posterior, 3, 0, "t", 0, step, 0)):
            counts[sample, chosen] += 1
    assert not counts[:, 2].any()
    possible = posterior > 0
    for row in counts:
        assert scipy.stats.chisquare(row[possible].double(), (posterior * 600)[possible]).pvalue > 0.01


@pytest.mark.parametrize("samples", [1, 2, 5])
def test_draws_come_as_often_as_the_posterior_says(samples):
    posterior = torch.tensor([0.05, 0.4, 0.0, 0.25, 0.3], dtype=torch.float64)
    counts = torch.zeros(5)
    for step in range(600):
        drawn = draw(posterior, samples, 0, "t", 0, step, 0)
        assert sum(drawn.values()) == pytest.approx(1)
        for i, share in drawn.items():
            counts[i] += share * samples
    assert counts[2] == 0
    possible = posterior > 0
    found, expected = counts[possible].double(), (posterior * 600 * samples)[possible]
    assert scipy.stats.chisquare(found.numpy(), expected.numpy()).pvalue > 0.01


def test_draws_are_a_function_of_seed_and_place_and_differ_between_them():
    posterior = torch.full((16,), 1 / 16, dtype=torch.float64)

    def series(seed, *purpose):
        return [next(iter(draw(posterior, 1, seed, *purpose, step))) for step in range(20)]

    assert series(0, "t", 0) == series(0, "t", 0)
    assert (
        len({tuple(s) for s in (series(0, "t", 0), series(1, "t", 0), series(0, "u", 0), series(0, "t", 1))})
        == 4
    )


def watched(em, monkeypatch):
    """The belief's E-steps, counted."""
    seen, see = [], em.belief.see
    monkeypatch.setattr(
        em.belief, "see", lambda *args, **kwargs: (seen.append(True), see(*args, **kwargs))[1]
    )
    return seen


@pytest.mark.parametrize(
    ("every", "expected"), [(1, [1] * 8), (3, [1, 0, 0, 1, 0, 0, 1, 0]), (9, [1] + [0] * 7)]
)
def test_an_e_step_comes_at_every_so_many_mini_batches(every, expected, monkeypatch):
    em = em_of(set_up(), e_every=every)
    seen, found = watched(em, monkeypatch), []
    for step in range(8):
        before = len(seen)
        list(em.losses(X, Y, 0, step))
        found.append(len(seen) - before)
    assert found == expected


@pytest.mark.parametrize("every", [1, 3])
def test_one_that_is_looked_at_counts_for_those_in_between(every):
    em = em_of(set_up(), e_every=every)
    for step in range(6):
        list(em.losses(X, Y, 0, step))
        assert float(em.belief.wins.sum()) == (step // every + 1) * every


def test_in_between_the_posterior_stays(monkeypatch):
    em = em_of(set_up(), e_every=2)
    posteriors = []
    for step in range(4):
        list(em.losses(X[step : step + 2], Y[step : step + 2], 0, step))
        posteriors.append(em.belief.posterior.clone())
    assert torch.equal(posteriors[0], posteriors[1])
    assert torch.equal(posteriors[2], posteriors[3])
    assert not torch.equal(posteriors[1], posteriors[2])


def test_exactly_every_mini_batch_has_an_e_step(monkeypatch):
    em = em_of(set_up(), exact=True, e_every=5)
    seen = watched(em, monkeypatch)
    for step in range(4):
        list(em.losses(X, Y, 0, step))
    assert len(seen) == 4


@pytest.mark.parametrize("exact", [False, True])
def test_every_mini_batch_has_one_e_step_and_as_many_m_steps_as_set(exact, monkeypatch):
    em = em_of(set_up(), exact=exact, m_steps=3)
    seen = watched(em, monkeypatch)
    losses = list(em.losses(X, Y, 0, 0))
    assert len(losses) == 3
    assert len(seen) == 1


@pytest.mark.parametrize("exact", [False, True])
def test_m_steps_see_the_parameters_as_the_step_before_left_them(exact):
    lesson = set_up()
    em = em_of(lesson, Belief(4, fixed=torch.tensor([1.0, 0, 0, 0])), exact=exact, m_steps=3)
    found = []
    optimizer = torch.optim.SGD(em.leaves(), 0.05)
    for loss in em.losses(X, Y, 0, 0):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    assert len(found) == 3
    assert all(after < before for before, after in pairwise(found))


def with_dropout(place):
    """The tiny net with half of everything dropped before its tail's end, or between the convolutions."""
    modules = [*tiny()]
    modules.insert(2 if place == "layers" else len(modules), nn.Dropout(0.5))
    return lambda: nn.Sequential(*modules)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(
    "place",
    [
        "tail",
        "layers",
    ],
)
def test_nothing_drops_out_in_the_e_step(place, exact):
    def posterior(seed):
        torch.manual_seed(seed)
        em = em_of(set_up(net=with_dropout(place)), exact=exact)
        next(em.losses(X, Y, 0, 0))
        return em.belief.posterior

    with torch.random.fork_rng():
        assert torch.equal(posterior(0), posterior(1))


@pytest.mark.parametrize("exact", [False, True])
def test_dropout_works_in_the_m_step(exact):
    def loss(seed):
        torch.manual_seed(seed)
        em = em_of(set_up(net=with_dropout("tail")), exact=exact)
        return float(next(em.losses(X, Y, 0, 0)).detach())

    with torch.random.fork_rng():
        assert loss(0) != loss(1)


def test_only_shared_tensors_that_some_configuration_shares_are_trained():
    lesson = set_up()
    space = Space(tuple(c for c in Space.every(2).choices if not any(c.shared[0])))
    em = em_of(lesson, space=space)
    places = {id(leaf) for leaf in em.leaves()}
    assert not any(id(t) in places for t in lesson.shared[0].values())
    assert all(id(t) in places for t in lesson.shared[1].values())
    assert all(id(t) in places for t in lesson.parts.leaves())


def test_a_configuration_of_no_weight_that_has_blown_up_does_no_harm():
    """0 x infinity is not a number: the others' gradient must stay one."""
    lesson = set_up()
    with torch.no_grad():
        lesson.parts.own[0]["body.0.weight"].fill_(1e30)
        lesson.parts.own[1]["body.0.weight"].fill_(1e30)
    em = em_of(lesson, Belief(4, fixed=torch.tensor([1.0, 0, 0, 0])), exact=True)
    found = gradients(lesson, next(em.losses(X, Y, 0, 0)))
    assert all(bool(torch.isfinite(g).all()) for g in found)


@pytest.mark.parametrize("exact", [False, True])
def test_what_is_seen_while_warming_up_does_not_count(exact):
    em = em_of(set_up(), exact=exact, e_every=1, warm_up=2)
    for epoch, batches in enumerate((0, 0, 1)):
        list(em.losses(X, Y, epoch, 0))
        assert int(em.belief.wins.sum()) == batches
        assert float(em.belief.posterior.sum()) == pytest.approx(1)
