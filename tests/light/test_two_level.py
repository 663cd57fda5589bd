import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stolon.errors import DataError, SettingError
from stolon.light.anchors import (
    GaussianAnchor,
    GaussianConfig,
    MahalanobisConfig,
    fit_mahalanobis,
)
from stolon.light.mappers import GaussianMapper, MahalanobisMapper
from stolon.light.mappers.two_level import FIRST, TwoLevelMapper

RAW = replace(GaussianConfig(), transform="none")
PARTS, D, NOISE = 5, 8, 0.7
few = settings(max_examples=10, deadline=None)


def parts(task, seed=0, apart=1.5):
    """Components of a task: close enough to other tasks' that middles alone would not do."""
    g = torch.Generator().manual_seed(1000 * seed + task)
    return apart * torch.randn(1, D, generator=g) + 1.5 * torch.randn(PARTS, D, generator=g)


def drawn(task, n, purpose, seed=0, apart=1.5):
    g = torch.Generator().manual_seed(10**6 * (seed + 1) + 100 * task + purpose)
    means = parts(task, seed, apart)
    return means[torch.arange(n) % PARTS] + NOISE * torch.randn(n, D, generator=g)


def many(number=80, seed=0, probes=10, apart=1.5):
    return {
        f"task {t:03d}": GaussianAnchor(
            parts(t, seed, apart),
            torch.full((1, D), NOISE**2),
            torch.full((PARTS,), 1 / PARTS),
            torch.tensor(50 + t),
            drawn(t, probes, 1, seed, apart),
        )
        for t in range(number)
    }


def inputs(number=80, seed=0, apart=1.5):
    return torch.cat([drawn(t, 10, 2, seed, apart) for t in range(number)])


@pytest.fixture(scope="module")
def anchors():
    return many()


@pytest.fixture(scope="module")
def both(anchors):
    return GaussianMapper(anchors, RAW), TwoLevelMapper(anchors, RAW, misses=0.005)


# The naive twin is the flat mapper


def test_nearly_all_answers_are_the_flat_mappers(both):
    flat, two = both
    x = inputs()
    assert float((two.visited(x) < 80).float().mean()) > 0.9  # or there would be nothing to see here
    expected, found = flat.map(x), two.map(x)
    assert float((expected.tasks == found.tasks).float().mean()) >= 0.995
    assert float((flat.scores(x).argmax(1) == two.estimates(x).argmax(1)).float().mean()) >= 0.995
    assert float((expected.confidence - found.confidence).abs().max()) < 0.05


def test_scores_of_visited_tasks_are_the_flat_mappers_and_no_other_wins(both):
    flat, two = both
    x = inputs()[::7]
    scores, expected = two.estimates(x), flat.scores(x)
    right = torch.isclose(scores, expected, rtol=1e-4, atol=1e-3)
    assert bool(right.gather(1, scores.argmax(1, keepdim=True)).all())
    assert bool((right.sum(1) >= FIRST).all())


def test_what_modules_are_judged_by_is_the_flat_mappers(both):
    """Also where the answer was made without looking at all tasks, and for samples."""
    flat, two = both
    x = inputs()[::7]
    assert not torch.allclose(two.estimates(x), two.scores(x), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(two.scores(x), flat.scores(x), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(two.nearness(x).scores, flat.nearness(x).scores, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(two.nearness(x).margins, flat.nearness(x).margins, rtol=1e-3, atol=1e-3)
    assert torch.equal(two.samples.owner, flat.samples.owner)
    torch.testing.assert_close(two.samples.scores, flat.samples.scores, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(two.samples.margins, flat.samples.margins, rtol=1e-3, atol=1e-3)


def test_as_many_probes_as_there_are_give_the_flat_mappers_thresholds(anchors, both):
    flat, two = both
    assert two.temperature == flat.temperature
    x = inputs()
    torch.testing.assert_close(two.margins(x), flat.margins(x), rtol=1e-3, atol=1e-3)


def test_too_few_probes_to_promise_anything_visit_everything():
    anchors = many(40, probes=1)
    flat, two = GaussianMapper(anchors, RAW), TwoLevelMapper(anchors, RAW)
    x = inputs(40)
    assert two.visited(x).unique().tolist() == [40]
    assert bool(two.proven(x).all())
    assert torch.equal(flat.map(x).tasks, two.map(x).tasks)
    torch.testing.assert_close(flat.scores(x), two.estimates(x), rtol=1e-4, atol=1e-3)


def test_without_any_probe_everything_is_visited_and_known():
    anchors = {name: a._replace(probes=a.probes[:0]) for name, a in many(20).items()}
    two = TwoLevelMapper(anchors, RAW)
    assert two.visited(inputs(20)).unique().tolist() == [20]
    assert bool(two.map(inputs(20)).known.all())


def test_fewer_misses_are_promised_by_more_visits(anchors):
    often, seldom = (TwoLevelMapper(anchors, RAW, misses=m) for m in (0.2, 0.004))
    x = inputs()
    assert float(often.visited(x).float().mean()) < float(seldom.visited(x).float().mean())


@pytest.mark.parametrize("misses", [0.02, 0.1])
def test_misses_on_new_inputs_stay_below_what_is_promised(misses):
    found = []
    for seed in range(1, 6):
        anchors = many(seed=seed)
        flat, two = GaussianMapper(anchors, RAW), TwoLevelMapper(anchors, RAW, misses=misses)
        x = inputs(seed=seed)
        found.append(float((flat.scores(x).argmax(1) != two.estimates(x).argmax(1)).float().mean()))
    assert sum(found) / len(found) <= misses


def test_what_is_proven_is_the_flat_answer(both):
    flat, two = both
    x = torch.cat([inputs(), 100 * torch.randn(50, D, generator=torch.Generator().manual_seed(1))])
    proven = two.proven(x)
    assert torch.equal(flat.scores(x[proven]).argmax(1), two.estimates(x[proven]).argmax(1))


def test_where_tasks_are_far_apart_answers_are_proven_without_visiting_all():
    two = TwoLevelMapper(many(60, apart=500.0), RAW, misses=0.05)
    x = inputs(60, apart=500.0)
    assert int(two.visited(x).max()) < 60
    assert float(two.proven(x).float().mean()) > 0.99


# The laws of every task mapper


@few
@given(st.randoms(use_true_random=False))
def test_the_order_of_anchors_changes_no_bit(rng):
    anchors = many(30)
    names = list(anchors)
    rng.shuffle(names)
    x = inputs(30)
    one, other = TwoLevelMapper(anchors, RAW), TwoLevelMapper({n: anchors[n] for n in names}, RAW)
    assert one.tasks == other.tasks
    for a, b in zip((*one.map(x), one.estimates(x)), (*other.map(x), other.estimates(x)), strict=True):
        assert torch.equal(a, b)


def test_an_input_is_answered_the_same_alone_and_among_others(both):
    _, two = both
    x = inputs()[::40]
    together = two.estimates(x)
    for row, alone in zip(together, x, strict=True):
        torch.testing.assert_close(two.estimates(alone[None])[0], row, rtol=1e-4, atol=1e-3)


def test_no_inputs_are_no_answers(both):
    assert len(both[1].map(torch.zeros(0, D)).tasks) == 0


# Made from a flat mapper


@pytest.mark.parametrize("kind", ["gaussian", "mahalanobis"])
def test_a_flat_mapper_in_two_levels_answers_alike(kind):
    number, y = 80, torch.arange(60) % PARTS
    if kind == "gaussian":
        flat = GaussianMapper(many(number), RAW)
    else:
        config = replace(MahalanobisConfig(), transform="none")
        flat = MahalanobisMapper(
            {f"task {t:03d}": fit_mahalanobis(drawn(t, 60, 3), y, config) for t in range(number)}, config
        )
    seen = torch.cat([drawn(t, 10, 4) for t in range(number)])
    two = TwoLevelMapper.of(flat, seen, misses=0.005)
    x = inputs(number)
    assert float(two.visited(x).float().mean()) < number
    expected, found = flat.map(x), two.map(x)
    assert float((expected.tasks == found.tasks).float().mean()) >= 0.995
    torch.testing.assert_close(two.margins(x), flat.margins(x), rtol=1e-3, atol=1e-2)
    assert two.samples is flat.samples


# Choosing probes


def test_probes_are_taken_from_all_tasks_in_turn(anchors):
    two = TwoLevelMapper(anchors, RAW, samples=200)
    counts = two.samples.owner.bincount(minlength=80)
    assert int(counts.sum()) == 200
    assert counts.min() >= 2
    assert counts.max() <= 3


def test_more_tasks_than_samples_are_heard_at_equal_steps(anchors):
    owner = TwoLevelMapper(anchors, RAW, samples=20).samples.owner
    assert owner[:20].tolist() == list(range(0, 80, 4))
    # a task of which nothing is seen could not be protected
    assert owner.unique().tolist() == list(range(80))


def test_a_task_that_brought_no_probes_shows_its_heaviest_component(anchors):
    name = sorted(anchors)[3]
    bare = anchors[name]._replace(probes=torch.zeros(0, D), weights=torch.tensor([0.1, 0.1, 0.5, 0.2, 0.1]))
    two = TwoLevelMapper({**anchors, name: bare}, RAW)
    shown = two.samples.scores[two.samples.owner == 3]
    torch.testing.assert_close(shown, two.scores(bare.means[2:3]))


# Refusals


def test_covariances_of_their_own_have_no_middles_to_compare(anchors):
    config = GaussianConfig.as_published()
    with pytest.raises(SettingError, match="pooled"):
        TwoLevelMapper(anchors, config)
    with pytest.raises(SettingError, match="one covariance for all"):
        TwoLevelMapper.of(GaussianMapper(anchors, config), torch.zeros(1, D))


@pytest.mark.parametrize("misses", [0.0, 1.0, -1.0])
def test_misses_are_a_share(anchors, misses):
    with pytest.raises(SettingError, match="misses"):
        TwoLevelMapper(anchors, RAW, misses=misses)


def test_no_anchor_and_bad_anchors_are_refused(anchors):
    with pytest.raises(DataError, match="at least one"):
        TwoLevelMapper({}, RAW)
    bad = GaussianAnchor(
        torch.full((1, D), float("nan")), torch.ones(1, D), torch.ones(1), torch.tensor(9), torch.zeros(0, D)
    )
    with pytest.raises(DataError, match="finite"):
        TwoLevelMapper({**anchors, "bad": bad}, RAW)
    with pytest.raises(DataError, match="finite"):
        TwoLevelMapper(anchors, RAW).map(torch.full((1, D), float("inf")))


def test_it_says_what_it_keeps(both):
    _, two = both
    assert two.parts == sum(len(a.means) for a in many(80).values())
    assert two.bytes >= 4 * two.parts * D


def test_priors_count_as_for_the_flat_mapper(anchors):
    names = random.Random(0).sample(sorted(anchors), 12)
    for prior in ("none", "weights", "counts"):
        config = replace(RAW, prior=prior)
        chosen = {name: anchors[name] for name in names}
        flat, two = GaussianMapper(chosen, config), TwoLevelMapper(chosen, config)
        torch.testing.assert_close(
            two.scores(inputs()[:40]), flat.scores(inputs()[:40]), rtol=1e-4, atol=1e-3
        )
