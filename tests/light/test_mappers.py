import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import ledoit_wolf as sklearn_ledoit_wolf
from sklearn.mixture import GaussianMixture
from torch.distributions import MultivariateNormal

from stolon.errors import DataError, TaskError
from stolon.light.anchors import (
    GaussianAnchor,
    GaussianConfig,
    MahalanobisAnchor,
    MahalanobisConfig,
    fit_gaussian,
    fit_mahalanobis,
)
from stolon.light.mappers import GaussianMapper, MahalanobisMapper, covariance

RAW = replace(MahalanobisConfig(), transform="none")
PLAIN = replace(MahalanobisConfig.as_published(), examples=1000)
RAW_GAUSS = replace(GaussianConfig(), transform="none", samples_per_component=5)
KINDS = ["gaussian", "published gaussian", "mahalanobis", "published mahalanobis"]
few = settings(max_examples=15, deadline=None)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def tasks(seed=0, number=4, d=6, n=60, apart=4.0):
    """Features [n, d] and labels of three classes, per task."""
    g = generator(seed)
    found = {}
    for t in range(number):
        classes = apart * torch.randn(1, d, generator=g) + torch.randn(3, d, generator=g)
        y = torch.arange(n) % 3
        found[f"task {t}"] = (classes[y] + torch.randn(n, d, generator=g), y)
    return found


def make(kind, data, **changes):
    """A mapper of tasks and the function that makes one of anchors in a given order."""
    published = kind.startswith("published")
    if "gaussian" in kind:
        config = GaussianConfig.as_published() if published else RAW_GAUSS
        config = replace(config, **changes)
        anchors = {name: fit_gaussian(x, config) for name, (x, _) in data.items()}
        return GaussianMapper, anchors, config
    config = replace(MahalanobisConfig.as_published() if published else RAW, **changes)
    anchors = {name: fit_mahalanobis(x, y, config) for name, (x, y) in data.items()}
    return MahalanobisMapper, anchors, config


# Small closed forms


def test_a_point_between_two_unit_gaussians_belongs_to_each_with_probability_one_half():
    anchors = {
        name: GaussianAnchor(
            torch.tensor([[m]]), torch.ones(1, 1), torch.ones(1), torch.tensor(5), torch.zeros(0, 1)
        )
        for name, m in (("left", -1.0), ("right", 1.0))
    }
    mapper = GaussianMapper(anchors, GaussianConfig.as_published())
    found = mapper.responsibilities(torch.tensor([[0.0], [1.0]]))
    # N(1 | 1, 1) / (N(1 | 1, 1) + N(1 | -1, 1)) = 1 / (1 + e^-2)
    expected = torch.tensor([[0.5, 0.5], [1 - 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-2))]])
    torch.testing.assert_close(found, expected)


def test_counts_weigh_components_as_in_the_released_code():
    anchors = {
        name: GaussianAnchor(
            torch.zeros(1, 1), torch.ones(1, 1), torch.ones(1), torch.tensor(n), torch.zeros(0, 1)
        )
        for name, n in (("large", 30), ("small", 10))
    }
    mapper = GaussianMapper(anchors, GaussianConfig.as_published())
    torch.testing.assert_close(mapper.responsibilities(torch.zeros(1, 1)), torch.tensor([[0.75, 0.25]]))


def test_mahalanobis_distances_of_a_known_covariance():
    # residuals (+-2, 0), (0, +-1): covariance diag(2, 1/2) times the mean's 4 / 3
    x = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    y = torch.zeros(4, dtype=torch.long)
    mapper = MahalanobisMapper({"a": fit_mahalanobis(x, y, PLAIN)}, PLAIN)
    scores = mapper.scores(torch.tensor([[2.0, 0.0], [0.0, 1.0], [2.0, 1.0]]))
    torch.testing.assert_close(scores[:, 0], -0.5 * torch.tensor([1.5, 1.5, 3.0]))


# Naive twins, from the papers' formulas


def test_eq_4_by_a_loop_over_components_of_torch_distributions():
    cls, anchors, config = make("published gaussian", tasks())
    x = torch.randn(20, 6, generator=generator(1)) * 4
    total = sum(float(a.samples) for a in anchors.values())
    columns = []
    for name in sorted(anchors):
        a = anchors[name]
        for m, v, w in zip(a.means, a.variances, a.weights, strict=True):
            normal = MultivariateNormal(m.double(), torch.diag(v.double()))
            columns.append(torch.log(w * a.samples / total) + normal.log_prob(x.double()))
    expected = torch.softmax(torch.stack(columns, 1), 1)
    torch.testing.assert_close(
        cls(anchors, config).responsibilities(x).double(), expected, rtol=1e-3, atol=1e-5
    )


def test_a_merged_published_mixture_is_scikit_learns():
    cls, anchors, config = make("published gaussian", tasks(), components=3)
    mapper = cls(anchors, config)
    ordered = [anchors[name] for name in mapper.tasks]
    merged = GaussianMixture(12, covariance_type="diag")
    merged.means_ = torch.cat([a.means for a in ordered]).double().numpy()
    merged.covariances_ = torch.cat([a.variances for a in ordered]).double().numpy()
    merged.weights_ = torch.cat([a.weights * a.samples for a in ordered]).double().numpy()
    merged.weights_ /= merged.weights_.sum()
    merged.precisions_cholesky_ = merged.covariances_**-0.5
    x = torch.randn(20, 6, generator=generator(1)) * 4
    expected = torch.from_numpy(merged.score_samples(x.double().numpy()))
    parts = mapper._parts(x)
    torch.testing.assert_close(torch.logsumexp(parts, 1).double(), expected, rtol=1e-4, atol=1e-4)
    labels = torch.from_numpy(merged.predict(x.double().numpy()))
    assert torch.equal(parts.argmax(1), labels)


def test_eq_5_by_a_loop_over_classes():
    data = tasks()
    cls, anchors, config = make("published mahalanobis", data)
    x = torch.randn(20, 6, generator=generator(1)) * 4
    rows = []
    for a in anchors.values():
        n = a.counts[a.labels]
        rows.append((a.examples - a.means[a.labels]) * (n / (n - 1)).sqrt()[:, None])
    r = torch.cat(rows).double()
    sigma = sum(torch.outer(v, v) for v in r) / len(r)
    expected = torch.stack(
        [
            torch.stack(
                [
                    -0.5 * ((x - m).double() @ torch.linalg.pinv(sigma) * (x - m).double()).sum(1)
                    for m in a.means
                ],
                1,
            ).amax(1)
            for _, a in sorted(anchors.items())
        ],
        1,
    )
    torch.testing.assert_close(cls(anchors, config).scores(x).double(), expected, rtol=1e-4, atol=1e-3)


def test_the_default_is_the_mean_of_distances_to_class_and_task():
    data = tasks()
    cls, anchors, config = make("mahalanobis", data, shrinkage=0.25, spread=2.0, task_weight=0.5)
    x = torch.randn(20, 6, generator=generator(1)) * 4
    rows, between = [], 0
    middle = {k: (a.means * a.counts[:, None]).sum(0) / a.counts.sum() for k, a in anchors.items()}
    for name, a in anchors.items():
        n = a.counts[a.labels]
        rows.append((a.examples - a.means[a.labels]) * (n / (n - 1)).sqrt()[:, None])
        for m, n_c in zip(a.means, a.counts, strict=True):
            between += torch.outer(m - middle[name], m - middle[name]) * n_c / a.counts.sum() / len(anchors)
    s = torch.cat(rows).T @ torch.cat(rows) / sum(map(len, rows))
    sigma = 0.75 * s + 0.25 * s.trace() / 6 * torch.eye(6) + 2 * between

    def distance(v):
        return (v @ torch.linalg.inv(sigma.double()).float() * v).sum(1)

    expected = torch.stack(
        [
            -0.5
            * torch.stack(
                [(distance(x - m) + 0.5 * distance(x - middle[name])) / 1.5 for m in anchors[name].means], 1
            ).amin(1)
            for name in sorted(anchors)
        ],
        1,
    )
    torch.testing.assert_close(cls(anchors, config).scores(x), expected, rtol=1e-3, atol=1e-3)


@few
@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 10**6))
def test_ledoit_wolf_is_scikit_learns(n, d, seed):
    x = torch.randn(n, d, generator=generator(seed), dtype=torch.float64) * torch.arange(1, d + 1)
    expected = sklearn_ledoit_wolf(x.numpy(), assume_centered=True)[1]
    found = covariance.ledoit_wolf(x)
    # of one dimension every covariance is the target already; scikit-learn says 0, we say 1
    assert d == 1 or np.isclose(found, expected, atol=1e-9)


def test_without_full_rank_the_covariance_is_inverted_on_its_range():
    r = torch.randn(4, 9, generator=generator(0), dtype=torch.float64)
    whiten = covariance.whitener(r.T @ r)
    torch.testing.assert_close(whiten @ whiten.T, torch.linalg.pinv(r.T @ r))


def test_far_from_the_origin_nothing_cancels():
    data = {name: (x + 1000, y) for name, (x, y) in tasks().items()}
    for kind in KINDS:
        cls, anchors, config = make(kind, data, unknown_quantile=None)
        mapper = cls(anchors, config)
        for t, name in enumerate(mapper.tasks):
            assert float((mapper.map(data[name][0]).tasks == t).float().mean()) > 0.9, kind


# Laws


@few
@given(st.sampled_from(KINDS), st.permutations(range(4)), st.integers(0, 3))
def test_order_of_arrival_changes_no_bit(kind, order, seed):
    data = tasks(seed, n=30)
    cls, anchors, config = make(kind, data)
    x = torch.randn(9, 6, generator=generator(seed)) * 4
    names = list(anchors)
    one, other = cls(anchors, config), cls({names[i]: anchors[names[i]] for i in order}, config)
    assert one.tasks == other.tasks == tuple(sorted(names))
    assert torch.equal(one.scores(x), other.scores(x))
    assert all(torch.equal(a, b) for a, b in zip(one.map(x), other.map(x), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_anchor_twice_is_the_anchor_once(kind):
    cls, anchors, config = make(kind, tasks(n=30))
    twice = dict(anchors)
    twice.update({"task 1": anchors["task 1"]})
    x = torch.randn(9, 6, generator=generator(0))
    assert torch.equal(cls(anchors, config).scores(x), cls(twice, config).scores(x))


@few
@given(st.sampled_from(KINDS), st.floats(-50, 50))
def test_a_single_task_takes_everything_when_nothing_is_unknown(kind, where):
    cls, anchors, config = make(kind, tasks(number=1, n=30), unknown_quantile=None)
    found = cls(anchors, config).map(torch.full((3, 6), where))
    assert found.tasks.tolist() == [0, 0, 0]
    assert found.confidence.tolist() == [1, 1, 1]
    assert bool(found.known.all())


@few
@given(st.integers(0, 10**6))
def test_full_rank_mahalanobis_does_not_notice_an_invertible_linear_map(seed):
    data = tasks(seed % 5)
    g = generator(seed)
    a = torch.linalg.qr(torch.randn(6, 6, generator=g))[0] * (0.5 + torch.rand(6, generator=g))
    b = torch.randn(6, generator=g)
    config = replace(PLAIN, spread=1.0, task_weight=0.7)
    x = torch.randn(15, 6, generator=g) * 4
    plain = {name: fit_mahalanobis(f, y, config) for name, (f, y) in data.items()}
    mapped = {name: fit_mahalanobis(f @ a + b, y, config) for name, (f, y) in data.items()}
    one, other = MahalanobisMapper(plain, config), MahalanobisMapper(mapped, config)
    torch.testing.assert_close(one.scores(x), other.scores(x @ a + b), rtol=1e-3, atol=1e-2)


@few
@given(st.sampled_from(["gaussian", "published gaussian"]), st.integers(0, 3), st.floats(0.1, 30))
def test_responsibilities_sum_to_one(kind, seed, scale):
    cls, anchors, config = make(kind, tasks(seed, n=30))
    x = torch.randn(9, 6, generator=generator(seed)) * scale
    found = cls(anchors, config).responsibilities(x)
    torch.testing.assert_close(found.sum(1), torch.ones(9))


@pytest.mark.parametrize("kind", KINDS)
def test_a_rows_answer_does_not_depend_on_its_batch(kind):
    cls, anchors, config = make(kind, tasks(n=30))
    mapper = cls(anchors, config)
    x = torch.randn(9, 6, generator=generator(0))
    together, alone = mapper.scores(x), torch.cat([mapper.scores(row[None]) for row in x])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_no_input_is_no_answer(kind):
    cls, anchors, config = make(kind, tasks(n=30))
    found = cls(anchors, config).map(torch.zeros(0, 6))
    assert [len(part) for part in found] == [0, 0, 0]


# Unknown


@pytest.mark.parametrize("kind", ["gaussian", "mahalanobis"])
@pytest.mark.parametrize("number", [1, 6])
def test_own_inputs_stay_known_and_far_ones_do_not(kind, number):
    data = tasks(number=number, n=600, d=16, apart=3.0)
    halves = {name: (x[:300], y[:300]) for name, (x, y) in data.items()}
    more = {"examples": 60} if kind == "mahalanobis" else {"probes": 60}
    cls, anchors, config = make(kind, halves, **more)
    mapper = cls(anchors, config)
    lost = [float((~mapper.map(x[300:]).known).float().mean()) for x, _ in data.values()]
    assert sum(lost) / number < 0.08
    far = mapper.map(torch.randn(200, 16, generator=generator(9)) * 40)
    assert float(far.known.float().mean()) < 0.05
    assert bool((far.tasks[~far.known] == -1).all())


def test_thresholds_hold_for_small_tasks_of_many_dimensions():
    """More dimensions than examples: each example helped to make the covariance, so it must be left out."""
    data = tasks(number=5, n=400, d=120, apart=1.0)
    halves = {name: (x[:60], y[:60]) for name, (x, y) in data.items()}
    cls, anchors, config = make("mahalanobis", halves, spread=0.0, task_weight=0.0, examples=20)
    mapper = cls(anchors, config)
    lost = [float((~mapper.map(x[60:]).known).float().mean()) for x, _ in data.values()]
    assert sum(lost) / 5 < 0.08


def test_leaving_one_out_by_sherman_and_morrison_is_leaving_it_out():
    data = tasks(number=2, n=24)
    config = replace(PLAIN, shrinkage=0.3)
    anchors = {name: fit_mahalanobis(x, y, config) for name, (x, y) in data.items()}
    a = anchors["task 0"]
    n = 24 / 3
    r = torch.cat(
        [(b.examples - b.means[b.labels]) * math.sqrt(n / (n - 1)) for b in anchors.values()]
    ).double()
    s = r.T @ r / len(r)
    sigma = 0.7 * s + 0.3 * s.trace() / 6 * torch.eye(6, dtype=torch.float64)
    without = sigma - 0.7 / len(r) * torch.outer(r[0], r[0])
    c = int(a.labels[0])
    others = a.means[c].double() * n / (n - 1) - a.examples[0].double() / (n - 1)
    v = a.examples[0].double() - others
    expected = -0.5 * v @ torch.linalg.solve(without, v)

    from stolon.light.mappers import mahalanobis

    seen = {}

    def spy(*arguments):
        seen["densities"] = original(*arguments)
        return seen["densities"]

    original = mahalanobis._left_out
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mahalanobis, "_left_out", spy)
        MahalanobisMapper(anchors, config)
    torch.testing.assert_close(seen["densities"][0][0, c], expected)


def test_without_anything_to_calibrate_on_nothing_is_unknown():
    anchors = {"a": fit_mahalanobis(torch.eye(4), torch.arange(4), RAW)}
    assert bool(MahalanobisMapper(anchors, RAW).map(torch.full((2, 4), 100.0)).known.all())


@pytest.mark.parametrize("kind", ["gaussian", "mahalanobis"])
def test_confidence_is_about_as_often_right_as_it_says(kind):
    data = tasks(number=5, n=600, d=16, apart=0.5)
    cls, anchors, config = make(kind, {name: (x[:300], y[:300]) for name, (x, y) in data.items()})
    mapper = cls(anchors, replace(config, unknown_quantile=None))
    found = [(mapper.map(x[300:]), t) for t, (_, (x, _)) in enumerate(sorted(data.items()))]
    right = torch.cat([(m.tasks == t).float() for m, t in found]).mean()
    said = torch.cat([m.confidence for m, _ in found]).mean()
    assert abs(float(right - said)) < 0.08


# Hostile and mistaken


def test_a_wide_claimed_covariance_captures_nothing():
    data = tasks(n=60, number=4)
    cls, anchors, config = make("gaussian", data, unknown_quantile=None)
    hostile = anchors["task 3"]._replace(variances=anchors["task 3"].variances * 100)
    mapper = cls(anchors | {"task 3": hostile}, config)
    for t in range(3):
        assert float((mapper.map(data[f"task {t}"][0]).tasks == t).float().mean()) > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_an_anchor_that_is_not_finite_is_refused(kind):
    cls, anchors, config = make(kind, tasks(n=30))
    bad = anchors["task 0"].means.clone()
    bad[0, 0] = torch.nan
    with pytest.raises(DataError, match="finite"):
        cls(anchors | {"task 0": anchors["task 0"]._replace(means=bad)}, config)


@pytest.mark.parametrize("kind", KINDS)
def test_anchors_of_different_backbones_are_refused(kind):
    cls, anchors, config = make(kind, tasks(n=30, number=1))
    _, other, _ = make(kind, tasks(n=30, number=1, d=7))
    with pytest.raises(DataError, match="one backbone"):
        cls({"a": anchors["task 0"], "b": other["task 0"]}, config)


@pytest.mark.parametrize("cls", [GaussianMapper, MahalanobisMapper])
def test_no_anchor_is_refused(cls):
    with pytest.raises(DataError, match="at least one anchor"):
        cls({})


def test_an_anchor_of_raw_features_is_refused_where_their_length_should_be_one():
    x = torch.rand(30, 4) + 5
    anchor = fit_mahalanobis(x, torch.arange(30) % 2, RAW)
    with pytest.raises(DataError, match="no longer than 1"):
        MahalanobisMapper({"a": anchor})


def test_a_bad_name_is_refused():
    with pytest.raises(TaskError, match="name"):
        MahalanobisMapper({" ": fit_mahalanobis(torch.rand(4, 2), torch.zeros(4, dtype=torch.long))})


@pytest.mark.parametrize("bad", [torch.zeros(2, 5), torch.zeros(6), torch.full((1, 6), torch.nan)])
def test_features_that_do_not_fit_are_refused(bad):
    cls, anchors, config = make("mahalanobis", tasks(n=30))
    with pytest.raises(DataError, match="features"):
        cls(anchors, config).map(bad)


def test_half_precision_anchors_map_alike():
    data = tasks(n=60)
    for kind in ("gaussian", "mahalanobis"):
        cls, anchors, config = make(kind, data)
        halves = {
            name: type(a)(*(v.half() if v.is_floating_point() else v for v in a))
            for name, a in anchors.items()
        }
        assert all(isinstance(a, (GaussianAnchor, MahalanobisAnchor)) for a in halves.values())
        x = torch.cat([f for f, _ in data.values()])
        same = cls(anchors, config).scores(x).argmax(1) == cls(halves, config).scores(x).argmax(1)
        assert float(same.float().mean()) > 0.99
