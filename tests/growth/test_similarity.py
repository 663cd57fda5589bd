"""Representational similarity against its formula: RDMs by numpy, ranks by scipy, CKA from centred features."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from stolon.errors import DataError, TaskError, UnknownNameError
from stolon.growth.products import SLICE, products
from stolon.growth.similarity import DECIMALS, MEASURES, dissimilarities, signatures


def compare(a, b, measure="rsa", **options):
    """The dissimilarity of activations [N, F] of the same inputs."""
    one, other = (
        signatures(
            lambda rows, found=found: [found[rows[:, 0]]],
            torch.arange(len(found))[:, None],
            measure,
            **options,
        )
        for found in (a, b)
    )
    return dissimilarities(one, other)[0]


def correlation_rdm(a):
    """1 - Pearson of all pairs, rows without variance correlating 0; ties as ties."""
    a = a.double().numpy()
    with np.errstate(invalid="ignore"):
        r = np.corrcoef(a)
    flat = a.std(1) == 0
    r[flat], r[:, flat] = 0, 0
    return (1 - r)[np.triu_indices(len(a), 1)]


def cosine_rdm(a):
    """1 - cosine of all pairs, zeros having cosine 0."""
    a = a.double().numpy()
    length = np.linalg.norm(a, axis=1, keepdims=True)
    a = np.divide(a, length, out=np.zeros_like(a), where=length > 0)
    return (1 - a @ a.T)[np.triu_indices(len(a), 1)]


def naive(a, b, measure):
    match measure:
        case "rsa":
            rounded = (correlation_rdm(x).round(DECIMALS) for x in (a, b))
            return 1 - spearmanr(*rounded)[0]
        case "rsa-pearson":
            return 1 - pearsonr(correlation_rdm(a), correlation_rdm(b))[0]
        case "rsa-cosine":
            return 1 - spearmanr(*(cosine_rdm(x).round(DECIMALS) for x in (a, b)))[0]
        case "cka-plain":
            x, y = (z.double().numpy() - z.double().numpy().mean(0) for z in (a, b))
            return 1 - np.sum((y.T @ x) ** 2) / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)
        case "cka":
            kernels = [z.double().numpy() @ z.double().numpy().T for z in (a, b)]
            return 1 - hsic(*kernels) / np.sqrt(hsic(kernels[0], kernels[0]) * hsic(kernels[1], kernels[1]))
    raise AssertionError(measure)


def hsic(k, m):
    """The unbiased estimator, Song et al., JMLR 2012, eq. 5."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    one = np.ones(n)
    total = np.trace(k @ m) + one @ k @ one * (one @ m @ one) / ((n - 1) * (n - 2))
    return (total - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def activations(n, features, seed, kind="dense"):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, features, generator=g)
    match kind:
        case "relu":
            return x.relu()
        case "dead units":
            return (x - 1.2).relu() * (torch.rand(features, generator=g) < 0.3)
        case "dead inputs":  # no unit fires for every third input; for some, all alike
            x = x.relu()
            x[::3] = 0
            x[1::9] = 0.1
            return x
        case "few values":
            return x.sign()
        case "twins":
            x[n // 2 :] = x[: n - n // 2]
            return x
    return x


KINDS = ["dense", "relu", "dead units", "dead inputs", "few values", "twins"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("measure", sorted(MEASURES))
def test_each_measure_is_its_formula(measure, kind):
    a, b = activations(40, 30, 1, kind), activations(40, 70, 2, kind)
    assert compare(a, b, measure) == pytest.approx(naive(a, b, measure), abs=1e-9)


@pytest.mark.parametrize("kind", ["dense", "relu"])
def test_the_published_form_without_rounding_gives_the_same(kind):
    a, b = activations(60, 50, 1, kind), activations(60, 20, 2, kind)
    plain = 1 - spearmanr(correlation_rdm(a), correlation_rdm(b))[0]
    assert compare(a, b) == pytest.approx(plain, abs=1e-6)


def test_more_features_than_are_computed_at_once():
    a, b = activations(60, SLICE + 100, 1, "relu"), activations(60, 40, 2)
    assert compare(a, b) == pytest.approx(naive(a, b, "rsa"), abs=1e-9)


@given(n=st.integers(4, 25), memory=st.integers(1, 4000), seed=st.integers(0, 99), centred=st.booleans())
@settings(max_examples=40, deadline=None)
def test_products_do_not_depend_on_the_memory_allowed(n, memory, seed, centred):
    a = activations(n, 17, seed, "dead inputs")
    rows, fed = torch.arange(n)[:, None], []

    def network(x):
        fed.append(len(x))
        return [a[x[:, 0]], a[x[:, 0], :5]]

    whole = products(network, rows, centred=centred)
    assert fed == [1, n]  # one to learn what an input takes, then all, once
    fed.clear()
    blocked = products(network, rows, centred=centred, memory=memory)
    assert max(fed) * 22 * 4 <= max(memory, 88)
    for one, other in zip(whole, blocked, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)
        assert torch.equal(other, other.T)
    x = a.double() - a.double().mean(1, keepdim=True) * centred
    torch.testing.assert_close(whole[0], x @ x.T, atol=1e-6, rtol=1e-6)


@given(seed=st.integers(0, 999), kind=st.sampled_from(KINDS), factor=st.floats(0.01, 100))
@settings(max_examples=40, deadline=None)
def test_neither_the_order_of_features_nor_a_positive_factor_matters(seed, kind, factor):
    a, b = activations(12, 9, seed, kind), activations(12, 7, seed + 1)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
    for measure in MEASURES:
        found = compare(a, b, measure)
        assert compare(a[:, order], b, measure) == pytest.approx(found, abs=1e-9)
        assert compare(factor * a.double(), b, measure) == pytest.approx(found, abs=1e-9)
        assert compare(b, a, measure) == pytest.approx(found, abs=1e-9)


@given(seed=st.integers(0, 999), kind=st.sampled_from(["dense", "relu", "dead inputs", "twins"]))
@settings(max_examples=20, deadline=None)
def test_nothing_is_unlike_itself_and_nothing_is_further_off_than_its_opposite(seed, kind):
    a, b = activations(12, 9, seed, kind), activations(12, 7, seed + 1)
    for measure in MEASURES:
        assert compare(a, a, measure) == pytest.approx(0, abs=1e-12)
        assert -1e-12 <= compare(a, b, measure) <= 2 + 1e-12


@pytest.mark.parametrize("measure", sorted(MEASURES))
def test_what_tells_no_inputs_apart_is_altogether_unlike_everything(measure):
    dead, alive = torch.zeros(8, 5), activations(8, 5, 0)
    for one, other in ((dead, alive), (alive, dead), (dead, dead)):
        assert compare(one, other, measure) == 1


def test_an_input_without_variance_correlates_with_nothing():
    a = torch.tensor([[1.0, 2.0, 4.0], [0.3, 0.3, 0.3], [2.0, 4.0, 8.5], [0.0, 0.0, 0.0]])
    total = products(lambda rows: [a[rows[:, 0]]], torch.arange(4)[:, None])[0]
    assert not total[[1, 3]].any()
    assert not total[:, [1, 3]].any()


def test_each_unit_of_a_network_is_compared_by_itself():
    a, b = activations(20, 12, 1), activations(20, 12, 2)
    x = torch.arange(20)[:, None]
    one = signatures(lambda rows: a[rows[:, 0]].split([5, 7], dim=1), x)
    other = signatures(lambda rows: b[rows[:, 0]].split([5, 7], dim=1), x)
    found = dissimilarities(one, other)
    assert found[0] == pytest.approx(compare(a[:, :5], b[:, :5]))
    assert found[1] == pytest.approx(compare(a[:, 5:], b[:, 5:]))


def test_refusals_say_what_was_expected():
    a = activations(8, 5, 0)
    with pytest.raises(UnknownNameError, match=r"unknown similarity 'euclid'; known are: rsa, .*cka"):
        compare(a, a, "euclid")
    with pytest.raises(UnknownNameError, match="unknown similarity"):
        compare(a, a, ["rsa"])
    with pytest.raises(DataError, match=r"at least 4 inputs .* found 3"):
        compare(a[:3], a[:3])
    with pytest.raises(DataError, match="found none"):
        products(lambda rows: [a[rows[:, 0]]], torch.zeros(0, 1, dtype=torch.int64))
    broken = a.clone()
    broken[0, 0] = torch.nan
    with pytest.raises(TaskError, match="finite activations"):
        compare(broken, a)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("centred", [True, False])
def test_activations_are_left_as_they_are(dtype, centred):
    a = activations(8, 5, 0).to(dtype)
    before = a.clone()
    products(lambda rows: [a[: len(rows)]], torch.arange(8)[:, None], centred=centred)
    assert torch.equal(a, before)


def test_a_mean_far_from_zero_costs_no_digits():
    a = activations(12, 40, 1).double()
    found = products(lambda rows: [1e6 + a[rows[:, 0]]], torch.arange(12)[:, None])[0]
    x = a - a.mean(1, keepdim=True)
    torch.testing.assert_close(found, x @ x.T, rtol=1e-6, atol=1e-6)
