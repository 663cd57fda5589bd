"""What a mapper keeps of the samples that anchors brought: how it sees inputs that it was not fitted to."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.light.test_mappers import KINDS, RAW, RAW_GAUSS, make, tasks
from torch.nn.functional import cross_entropy

from stolon.errors import DataError
from stolon.light.anchoring import Anchoring
from stolon.light.anchors import fit_mahalanobis
from stolon.light.mappers import MahalanobisMapper, mahalanobis
from stolon.light.mappers.calibration import _temperature


@pytest.mark.parametrize("kind", ["gaussian", "mahalanobis"])
def test_carried_probes_are_seen_as_any_input_is(kind):
    data = tasks(seed=3)
    mapper_of, anchors, config = make(kind, data)
    if kind == "mahalanobis":
        held = {name: x for name, (x, _) in tasks(seed=4).items()}
        anchors = {name: fit_mahalanobis(*data[name], config, held_out=held[name]) for name in data}
    mapper = mapper_of(anchors, config)
    owner, scores, margins = mapper.samples
    for t, name in enumerate(mapper.tasks):
        n = len(anchors[name].probes)
        mine = mapper.nearness(anchors[name].probes)
        torch.testing.assert_close(scores[owner == t][-n:], mine.scores)
        torch.testing.assert_close(margins[owner == t][-n:], mine.margins)


def test_examples_are_seen_as_if_the_mapper_had_been_made_without_them():
    """So they are a little farther from their own class than the mapper itself would say."""
    data = tasks(seed=1)
    mapper_of, anchors, config = make("mahalanobis", data)
    mapper = mapper_of(anchors, config)
    owner, scores, _ = mapper.samples
    for t, name in enumerate(mapper.tasks):
        inside = mapper.scores(anchors[name].examples)
        left_out = scores[owner == t][:, t]
        assert (left_out <= inside[:, t] + 1e-3).all()
        assert left_out.mean() < inside[:, t].mean() - 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_nearness_is_scores_and_margins_at_once(kind):
    data = tasks(seed=2)
    mapper_of, anchors, config = make(kind, data)
    mapper = mapper_of(anchors, config)
    x = data["task 1"][0]
    near = mapper.nearness(x)
    assert torch.equal(near.scores, mapper.scores(x))
    assert torch.equal(near.margins, mapper.margins(x))
    assert torch.equal(mapper.map(x).known, near.margins >= 0)


@pytest.mark.parametrize("config", [RAW, RAW_GAUSS])
def test_a_task_that_brought_no_sample_has_its_means(config):
    kind = "mahalanobis" if config is RAW else "gaussian"
    mapper_of, anchors, config = make(kind, tasks())
    first = anchors["task 0"]
    bare = {"probes": first.probes[:0]}
    if kind == "mahalanobis":
        bare["counts"] = torch.ones_like(first.counts)  # the only example of a class is its mean
    anchors["task 0"] = first._replace(**bare)
    mapper = mapper_of(anchors, config)
    rows = mapper.samples.owner == 0
    assert int(rows.sum()) == len(first.means)
    torch.testing.assert_close(mapper.samples.scores[rows], mapper.scores(first.means))
    others = mapper_of({name: a for name, a in anchors.items() if name != "task 0"}, config)
    assert len(mapper.samples.owner) - int(rows.sum()) == len(others.samples.owner)


def test_samples_of_one_task_are_in_the_same_order_in_every_mapper():
    data = tasks()
    mapper_of, anchors, config = make("mahalanobis", data)
    alone = MahalanobisMapper({"task 1": anchors["task 1"]}, config).samples
    owner, scores, _ = mapper_of(anchors, config).samples
    nearest = scores[owner == 1][:, 1].argsort()
    assert len(alone.scores) == len(nearest)
    # of one covariance or another, what is far from its class stays so
    ranks = torch.stack([alone.scores[:, 0].argsort().argsort(), nearest.argsort()]).double()
    assert float(torch.corrcoef(ranks)[0, 1]) > 0.8


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(2, 6), st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 10.0, 1e4]))
def test_the_temperature_is_the_best_of_all_81(n, tasks_, seed, scale):
    g = torch.Generator().manual_seed(seed)
    scores, owner = scale * torch.randn(n, tasks_, generator=g), torch.randint(tasks_, (n,), generator=g)
    grid = torch.logspace(-1, 3, 81, dtype=torch.float64).tolist()
    losses = [float(cross_entropy(scores.double() / tau, owner, label_smoothing=2 / (n + 2))) for tau in grid]
    found = losses[grid.index(_temperature(scores, owner))]
    assert found == pytest.approx(min(losses), rel=1e-12, abs=1e-12)


def test_an_anchor_of_another_kind_is_no_anchor_here():
    _, gaussians, _ = make("gaussian", tasks())
    _, classes, _ = make("mahalanobis", tasks())
    with pytest.raises(DataError, match="expected an anchor for mahalanobis"):
        Anchoring("mahalanobis", {}).check(gaussians["task 0"])
    with pytest.raises(DataError, match="expected an anchor for gmm"):
        Anchoring("gmm", {}).check(classes["task 0"])
    with pytest.raises(DataError, match="longer than 1"):
        Anchoring("mahalanobis", {}).check(classes["task 0"])
    raw = Anchoring("mahalanobis", {"transform": "none"})
    assert raw.check(classes["task 0"]) is classes["task 0"]
    assert raw.read(classes["task 0"], lambda _: torch.zeros(0)) is classes["task 0"]


def test_examples_are_left_out_in_parts_with_the_same_result(monkeypatch):
    mapper_of, anchors, config = make("mahalanobis", tasks())
    whole = mapper_of(anchors, config).samples
    monkeypatch.setattr(mahalanobis, "CHUNK", 7)
    parts = mapper_of(anchors, config).samples
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other)
