from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from stolon.errors import DataError, SettingError
from stolon.light import anchors
from stolon.light.anchors import (
    GaussianAnchor,
    GaussianConfig,
    ImageAnchor,
    MahalanobisAnchor,
    MahalanobisConfig,
)
from stolon.light.anchors.values import size, transform

RAW = replace(MahalanobisConfig(), transform="none")
RAW_GAUSS = replace(GaussianConfig(), transform="none")


def features(n, d=5, seed=0):
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed))


# Mahalanobis


def test_class_means_are_the_means_of_each_class():
    x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [5.0, 5.0]])
    anchor = anchors.fit_mahalanobis(x, torch.tensor([0, 0, 7]), RAW)
    assert torch.equal(anchor.means, torch.tensor([[1.0, 0.0], [5.0, 5.0]]))
    assert anchor.counts.tolist() == [2, 1]


def test_at_most_five_examples_of_each_class_are_chosen_and_they_are_of_that_class():
    y = torch.arange(40) % 3
    x = torch.stack([y.float(), torch.arange(40.0)], 1)
    anchor = anchors.fit_mahalanobis(x, y, RAW, seed=1)
    assert anchor.labels.bincount().tolist() == [5, 5, 5]
    assert torch.equal(anchor.examples[:, 0], anchor.labels.float())
    assert len(anchor.examples.unique(dim=0)) == 15


def test_the_seed_chooses_the_examples_and_nothing_else():
    x, y = features(60), torch.arange(60) % 2
    one, again, other = (anchors.fit_mahalanobis(x, y, seed=s) for s in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one.examples, other.examples)
    assert torch.equal(one.means, other.means)


def test_probes_come_from_the_held_out_samples_alone():
    anchor = anchors.fit_mahalanobis(
        features(9), torch.zeros(9, dtype=torch.long), RAW, held_out=features(50) + 9
    )
    assert anchor.probes.shape == (32, 5)
    assert bool((anchor.probes >= 9).all())


def test_an_image_anchor_becomes_the_feature_anchor_by_the_receivers_backbone():
    images = torch.randint(0, 256, (20, 3, 4, 4), dtype=torch.uint8)
    y = torch.arange(20) % 2

    def backbone(x):
        return x.float().flatten(1)[:, :6]

    sent = anchors.fit_mahalanobis_images(backbone(images), y, lambda i: images[i], seed=3)
    received = anchors.from_images(ImageAnchor.from_tensors(sent.tensors()), backbone)
    own = anchors.fit_mahalanobis(backbone(images), y, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(received, own, strict=True))


# Gaussian


def test_one_component_is_the_mean_and_the_variance_of_the_features():
    x = features(200)
    config = replace(RAW_GAUSS, components=1, probes=0, regularization=1e-9)
    anchor = anchors.fit_gaussian(x, config)
    torch.testing.assert_close(anchor.means[0], x.mean(0))
    torch.testing.assert_close(anchor.variances[0], x.var(0, correction=0), rtol=1e-4, atol=1e-6)
    assert anchor.weights.tolist() == [1.0]


def test_clusters_far_apart_are_found():
    x = torch.cat([features(50), features(50) + 100, features(100) - 100])
    anchor = anchors.fit_gaussian(x, replace(RAW_GAUSS, components=3, probes=0))
    assert torch.allclose(anchor.means.mean(1).sort().values, torch.tensor([-99.5, 0.5, 100.5]), atol=0.2)
    assert torch.allclose(anchor.weights.sort().values, torch.tensor([0.25, 0.25, 0.5]), atol=1e-3)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 1), (39, 1), (40, 2), (600, 25)])
def test_small_tasks_have_fewer_components(n, k):
    assert len(anchors.fit_gaussian(features(n), replace(RAW_GAUSS, probes=0)).means) == k


def test_a_floating_point_flag_of_the_linear_algebra_library_is_not_a_warning(monkeypatch):
    fit = GaussianMixture.fit

    def flagged(self, points):
        np.float32("inf") - np.float32("inf")  # what OpenBLAS leaves behind on some processors
        return fit(self, points)

    with pytest.raises(RuntimeWarning):
        flagged(GaussianMixture(), np.eye(3))
    monkeypatch.setattr(GaussianMixture, "fit", flagged)
    assert len(anchors.fit_gaussian(features(2)).means) == 1


@pytest.mark.parametrize("n", [1, 3, 30])
def test_as_published_takes_tasks_of_fewer_samples_than_components(n):
    anchor = anchors.fit_gaussian(features(n), GaussianConfig.as_published())
    assert anchor.variances.shape == (min(n, 25), 5)


def test_clusters_of_one_sample_are_fitted_in_double_precision_where_single_fails():
    x = features(30, 200) * 50
    anchor = anchors.fit_gaussian(x, GaussianConfig.as_published())
    assert bool((anchor.variances > 0).all())


def test_equal_samples_make_one_component_and_no_warning():
    anchor = anchors.fit_gaussian(torch.ones(100, 4))
    assert anchor.means.shape == (1, 4)


def test_the_fit_does_not_see_its_probes():
    x = torch.arange(100.0)[:, None]
    anchor = anchors.fit_gaussian(x, replace(RAW_GAUSS, components=1, probes=10))
    assert int(anchor.samples) == 90
    seen = (x.sum() - anchor.probes.sum()) / 90
    torch.testing.assert_close(anchor.means[0, 0], seen)


def test_same_seed_same_mixture():
    one, again = (anchors.fit_gaussian(features(120), seed=4) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))


# Values


def fitted(kind):
    x = features(60)
    if kind == "gaussian":
        return GaussianAnchor, anchors.fit_gaussian(x)
    return MahalanobisAnchor, anchors.fit_mahalanobis(x, torch.arange(60) % 3, held_out=features(5))


@pytest.mark.parametrize("kind", ["gaussian", "mahalanobis"])
def test_tensors_go_round(kind):
    cls, anchor = fitted(kind)
    assert all(torch.equal(a, b) for a, b in zip(cls.from_tensors(anchor.tensors()), anchor, strict=True))


@pytest.mark.parametrize("kind", ["gaussian", "mahalanobis"])
def test_missing_tensors_are_told(kind):
    cls, anchor = fitted(kind)
    tensors = anchor.tensors()
    del tensors["means"]
    with pytest.raises(DataError, match="expected tensors means"):
        cls.from_tensors(tensors)


@pytest.mark.parametrize("kind", ["gaussian", "mahalanobis"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["means", "probes"])
def test_anchors_that_are_not_finite_are_refused(kind, bad, name):
    cls, anchor = fitted(kind)
    tensors = {key: value.clone() for key, value in anchor.tensors().items()}
    tensors[name][0, 0] = bad
    with pytest.raises(DataError, match="finite"):
        cls.from_tensors(tensors)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("counts", torch.tensor([0, 1, 1])),
        ("counts", torch.tensor([1.0, 1.0, 1.0])),
        ("labels", torch.full((15,), 3)),
        ("labels", torch.full((15,), -1)),
        ("examples", torch.zeros(15, 4)),
        ("means", torch.zeros(0, 5)),
    ],
)
def test_impossible_mahalanobis_anchors_are_refused(name, value):
    _, anchor = fitted("mahalanobis")
    with pytest.raises(DataError):
        anchor._replace(**{name: value}).check()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("variances", torch.zeros(1, 5)),
        ("variances", torch.ones(7, 5)),
        ("weights", torch.tensor([2.0, -1.0])),
        ("weights", torch.tensor([0.5, 0.1])),
        ("samples", torch.tensor(0)),
    ],
)
def test_impossible_gaussian_anchors_are_refused(name, value):
    _, anchor = fitted("gaussian")
    assert len(anchor.means) == 2
    with pytest.raises(DataError):
        anchor._replace(**{name: value}).check()


def test_means_longer_than_features_of_length_one_can_have_are_refused():
    _, anchor = fitted("mahalanobis")
    with pytest.raises(DataError, match="no longer than 1"):
        anchor._replace(means=anchor.means * 3).check(unit=True)


def test_sizes_count_bytes():
    _, anchor = fitted("mahalanobis")
    floats = (3 + 15 + 5) * 5
    assert size(anchor.tensors()) == floats * 4 + (3 + 15) * 8
    assert size(anchor.tensors(), half=True) == floats * 2 + (3 + 15) * 8


@pytest.mark.parametrize("name", ["none", "l2", "sqrt-l2"])
def test_transforms_keep_zeros_and_make_rows_of_length_one(name):
    x = transform(torch.tensor([[0.0, 0.0], [-4.0, 9.0]]), name)
    assert x[0].tolist() == [0, 0]
    if name != "none":
        torch.testing.assert_close(x[1].norm(), torch.tensor(1.0))
    assert x[1, 0] < 0 < x[1, 1]


@pytest.mark.parametrize(
    "bad", [torch.zeros(3), torch.zeros(2, 2, dtype=torch.long), torch.full((1, 1), torch.nan)]
)
def test_features_that_are_no_finite_matrix_are_refused(bad):
    with pytest.raises(DataError, match="features"):
        anchors.fit_gaussian(bad)


@pytest.mark.parametrize("labels", [torch.zeros(3, dtype=torch.long), torch.zeros(4)])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(DataError, match="labels"):
        anchors.fit_mahalanobis(features(4), labels)


@pytest.mark.parametrize(
    "settings",
    [
        {"components": 0},
        {"samples_per_component": 0},
        {"regularization": 0.0},
        {"transform": "log"},
        {"covariance": "full"},
        {"prior": "uniform"},
        {"shrinkage": 1.5},
        {"spread": -1.0},
        {"probes": -1},
        {"unknown_quantile": 1.0},
        {"temperature": 0.0},
    ],
)
def test_gaussian_settings_out_of_range_are_named(settings):
    with pytest.raises(SettingError, match=next(iter(settings))):
        GaussianConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"examples": 0},
        {"transform": "log"},
        {"shrinkage": "oas"},
        {"shrinkage": -0.1},
        {"spread": float("nan")},
        {"task_weight": -1.0},
        {"unknown_quantile": 0.0},
    ],
)
def test_mahalanobis_settings_out_of_range_are_named(settings):
    with pytest.raises(SettingError, match=next(iter(settings))):
        MahalanobisConfig(**settings)
