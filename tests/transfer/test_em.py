"""Prior, likelihood and posterior against the papers' equations, worked by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stolon.transfer.em import LIKELIHOODS, Belief, batch_log_likelihood

PROBABILITIES = [[0.5, 0.5, 0.5], [0.9, 0.9, 0.1], [0.2, 1.0, 0.3]]


def logs(*likelihoods):
    return torch.tensor(likelihoods, dtype=torch.float64).log()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("joint", [0.125, 0.081, 0.06]),
        ("geometric-mean", [0.5, 0.081 ** (1 / 3), 0.06 ** (1 / 3)]),
        ("mean-probability", [0.5, 1.9 / 3, 0.5]),
    ],
)
def test_the_three_likelihoods_by_hand(kind, expected):
    found = batch_log_likelihood(torch.tensor(PROBABILITIES, dtype=torch.float64).log(), kind)
    assert found.exp().tolist() == pytest.approx(expected, rel=1e-12)
    assert found.dtype == torch.float64


def test_likelihoods_of_large_batches_do_not_vanish():
    samples = torch.full((2, 1000), -50.0)
    samples[1] -= 0.01
    assert batch_log_likelihood(samples, "joint").tolist() == pytest.approx([-50_000, -50_010], rel=1e-6)
    assert batch_log_likelihood(samples, "mean-probability").tolist() == pytest.approx(
        [-50, -50.01], rel=1e-6
    )
    posterior = Belief(2).see(batch_log_likelihood(samples, "joint"))
    assert posterior.tolist() == pytest.approx([1 / (1 + math.exp(-10)), 1 / (1 + math.exp(10))], rel=1e-2)


@given(st.sampled_from(LIKELIHOODS), st.integers(1, 5), st.integers(1, 6), st.integers(0, 99))
def test_the_order_of_a_batch_does_not_matter(kind, count, batch, seed):
    g = torch.Generator().manual_seed(seed)
    samples = -5 * torch.rand(count, batch, generator=g)
    again = samples[:, torch.randperm(batch, generator=g)]
    torch.testing.assert_close(batch_log_likelihood(samples, kind), batch_log_likelihood(again, kind))


def test_equation_1_by_hand():
    belief = Belief(3)
    assert belief.prior.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    # uniform prior: the posterior is the likelihoods' share
    assert belief.see(logs(0.1, 0.3, 0.1)).tolist() == pytest.approx([0.2, 0.6, 0.2])
    # n = (0, 1, 0): prior (1, 2, 1) / 4
    assert belief.prior.tolist() == pytest.approx([0.25, 0.5, 0.25])
    assert belief.see(logs(0.6, 0.1, 0.2)).tolist() == pytest.approx([0.6, 0.2, 0.2])
    # n = (1, 1, 0): prior (2, 2, 1) / 5, the posterior (2 x 0.2, 2 x 0.3, 1 x 0.5) / 1.5
    assert belief.prior.tolist() == pytest.approx([0.4, 0.4, 0.2])
    assert belief.see(logs(0.2, 0.3, 0.5)).tolist() == pytest.approx([4 / 15, 6 / 15, 5 / 15])
    assert belief.wins.tolist() == [1, 2, 0]
    assert belief.choice == 1


def test_ties_go_to_the_first():
    belief = Belief(4)
    assert belief.choice == 0
    belief.see(logs(0.2, 0.4, 0.4, 0.2))
    assert belief.wins.tolist() == [0, 1, 0, 0]
    belief = Belief(2)
    belief.see(logs(0.1, 0.9))
    belief.see(logs(0.9, 0.1))  # prior (1, 2) / 3: the first wins by 0.3 against 0.067
    assert belief.wins.tolist() == [1, 1]
    assert belief.choice == 0


def test_the_running_mean_is_the_mean_of_the_posteriors():
    belief, posteriors, prior = Belief(2, running_mean=True), [], np.array([0.5, 0.5])
    for likelihood in ([0.2, 0.6], [0.9, 0.3], [0.5, 0.1]):
        expected = prior * likelihood / (prior @ likelihood)
        assert belief.prior.tolist() == pytest.approx(prior.tolist())
        assert belief.see(logs(*likelihood)).tolist() == pytest.approx(expected.tolist())
        posteriors.append(expected)
        prior = np.mean(posteriors, 0)
    assert belief.prior.tolist() == pytest.approx(prior.tolist())
    assert belief.choice == int(prior.argmax())


def test_the_choice_of_the_running_mean_is_the_largest_mean_and_not_the_most_wins():
    belief = Belief(2, running_mean=True)
    belief.see(logs(0.01, 0.99))
    for _ in range(3):
        belief.see(logs(0.99999, 0.00001))
    assert belief.wins.argmax() == 0
    assert belief.choice == 0
    belief = Belief(2, running_mean=True)
    belief.see(logs(0.0001, 0.9999))
    belief.see(logs(0.9999999, 0.00001))
    belief.see(logs(0.5, 0.6))
    assert belief.choice == int(belief.prior.argmax())


def test_what_is_counted_from_before_adds_to_the_prior_and_not_to_the_choice():
    belief = Belief(2, before=torch.tensor([0.0, 8.0]))
    assert belief.prior.tolist() == pytest.approx([0.1, 0.9])
    belief.see(logs(0.99, 0.01))
    assert belief.posterior.tolist() == pytest.approx([0.099 / 0.108, 0.009 / 0.108])
    assert belief.prior.tolist() == pytest.approx([2 / 11, 9 / 11])
    assert belief.choice == 0


def test_a_fixed_posterior_stays():
    fixed = torch.tensor([0.1, 0.7, 0.2])
    belief = Belief(3, fixed=fixed)
    for _ in range(3):
        assert belief.see(logs(0.9, 0.01, 0.01)).tolist() == pytest.approx(fixed.tolist())
    assert belief.is_fixed
    assert belief.choice == 1
    assert belief.wins.tolist() == [0, 0, 0]
    assert belief.mean_since(belief.state()).tolist() == pytest.approx(fixed.tolist())


@given(st.booleans(), st.lists(st.lists(st.floats(-1e4, 0), min_size=3, max_size=3), max_size=8))
def test_prior_and_posterior_are_distributions_whatever_comes(running_mean, batches):
    belief = Belief(3, running_mean=running_mean)
    for batch in batches:
        posterior = belief.see(torch.tensor(batch))
        for found in (posterior, belief.prior):
            assert float(found.sum()) == pytest.approx(1)
            assert bool((found >= 0).all())


def test_what_was_impossible_can_come_back():
    belief = Belief(2, running_mean=True)
    belief.see(torch.tensor([0.0, -torch.inf]))
    assert belief.prior.tolist() == [1, 0]
    assert float(belief.see(torch.tensor([-1000.0, 0.0]))[1]) == pytest.approx(1)


@pytest.mark.parametrize("running_mean", [False, True])
def test_a_belief_goes_on_from_its_state(running_mean):
    batches = [torch.randn(4, generator=torch.Generator().manual_seed(i)) for i in range(6)]
    whole, first = (Belief(4, running_mean=running_mean, before=torch.ones(4)) for _ in range(2))
    for batch in batches[:3]:
        whole.see(batch)
        first.see(batch)
    second = Belief(4, running_mean=running_mean)
    second.load(first.state())
    for batch in batches[3:]:
        whole.see(batch)
        second.see(batch)
    assert all(torch.equal(value, second.state()[name]) for name, value in whole.state().items())


def test_the_mean_of_an_epoch_is_that_of_its_batches():
    belief = Belief(2)
    belief.see(logs(0.5, 0.1))
    mark = belief.state()
    later = [belief.see(logs(*pair)).tolist() for pair in ((0.2, 0.4), (0.9, 0.1))]
    assert belief.mean_since(mark).tolist() == pytest.approx(np.mean(later, 0).tolist())
    assert belief.mean_since(belief.state()).tolist() == pytest.approx(later[-1])


@pytest.mark.parametrize("running_mean", [False, True])
def test_a_configuration_that_gives_no_number_is_impossible_and_spoils_no_other(running_mean):
    belief = Belief(3, running_mean=running_mean)
    nan = float("nan")
    assert belief.see(torch.tensor([nan, -1.0, -1.0])).tolist() == pytest.approx([0, 0.5, 0.5])
    assert belief.choice == 1
    before = belief.state()
    assert belief.see(torch.tensor([nan, nan, -torch.inf])).tolist() == pytest.approx([0, 0.5, 0.5])
    assert all(torch.equal(value, before[name]) for name, value in belief.state().items())
