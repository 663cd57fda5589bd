"""From how many tasks on a mapper has two levels, and that agents answer, judge and tell the same by it."""

from functools import cache, partial

import pytest
import torch

from stolon import randomness
from stolon.light import anchoring
from stolon.light.anchoring import Anchoring
from stolon.light.mappers import GaussianMapper, MahalanobisMapper, TwoLevelMapper
from stolon.light.mappers import two_level as levels
from stolon.sharing.activation import Candidate, activate

WIDTH, NUMBER, OWN = 24, 30, 3


def name(number):
    return f"task {number:02d}"


@cache
def features(number, part):
    n = {"train": 60, "val": 60, "test": 20}[part]
    centre = torch.randn(WIDTH, generator=randomness.generator(0, "anchoring", number))
    noise = torch.randn(n, WIDTH, generator=randomness.generator(0, "anchoring", number, part))
    return centre + 0.3 * noise


@cache
def anchor(kind, number):
    labels = torch.arange(60) % 3
    return Anchoring(kind, {}).fit(features(number, "train"), labels, features(number, "val"), 0, list)


def anchors(kind, number=NUMBER):
    return {name(t): anchor(kind, t) for t in range(number)}


@pytest.fixture
def many(monkeypatch):
    """A dozen tasks are many, and so few visits suffice that there is something to get wrong."""
    monkeypatch.setattr(anchoring, "MANY", 12)
    monkeypatch.setattr(levels, "FIRST", 2)
    monkeypatch.setattr(anchoring, "TwoLevelMapper", partial(TwoLevelMapper, misses=0.02))


def mapper(kind, number=NUMBER, **settings):
    return Anchoring(kind, settings).mapper(anchors(kind, number), list)


def test_many_gaussian_anchors_are_compared_in_two_levels_and_nothing_else_is(many):
    assert isinstance(mapper("gmm", 13), TwoLevelMapper)
    assert isinstance(mapper("gmm", 12), GaussianMapper)
    assert isinstance(mapper("gmm", 13, covariance="own"), GaussianMapper)
    assert isinstance(mapper("mahalanobis", 13), MahalanobisMapper)
    assert anchoring.MANY < 3500 < 10_000  # docs/methods/sharing-costs.md: where the flat one takes 50 ms


def test_every_task_shows_some_samples_however_many_there_are(many, monkeypatch):
    monkeypatch.setattr(anchoring, "SCORES", 10)
    assert mapper("gmm").samples.owner.tolist() == list(range(NUMBER))
    monkeypatch.setattr(anchoring, "SCORES", 5 * NUMBER**2)
    assert mapper("gmm").samples.owner.bincount().tolist() == [5] * NUMBER


def decided(others=()):
    mine = [
        Candidate(f"own-{t}", name(t), "me", anchor("gmm", t), features(t, "val").half()) for t in range(OWN)
    ]
    honest = [Candidate(f"id-{t}", name(t), "ada", anchor("gmm", t)) for t in range(OWN, NUMBER)]
    return activate(mine, [*honest, *others], Anchoring("gmm", {}), list)


def hostile():
    own, theirs = anchor("gmm", 0), anchor("gmm", 20)
    for number, a in enumerate((own, theirs, own._replace(means=0.999 * own.means, probes=own.probes[:0]))):
        yield Candidate(f"zz-{number}", f"!bad {number}", f"mallory {number}", a)
    # a claim to half of the way between two tasks, one of them not among those that are visited first
    between = (own.means[:1] + theirs.means[:1]) / 2
    yield Candidate("zz-3", "!bad 3", "eve", own._replace(means=torch.cat([between, theirs.means[1:]])))


def test_the_same_modules_are_active_and_held_for_the_same_reasons(many, monkeypatch):
    found = decided(hostile())
    assert isinstance(found.mapper, TwoLevelMapper)
    monkeypatch.setattr(anchoring, "MANY", 1000)
    expected = decided(hostile())
    assert isinstance(expected.mapper, GaussianMapper)
    assert len(expected.held) >= 3
    assert len(expected.active) >= NUMBER
    assert found.active == expected.active
    assert dict(found.held) == dict(expected.held)
    assert found.built == expected.built


def test_answers_are_the_same_and_made_without_looking_at_all_tasks(many, monkeypatch):
    found = decided().mapper
    monkeypatch.setattr(anchoring, "MANY", 1000)
    expected = decided().mapper
    x = torch.cat([features(t, "test") for t in range(NUMBER)])
    assert float(found.visited(x).float().mean()) < NUMBER / 2
    ours, theirs = found.map(x), expected.map(x)
    assert torch.equal(ours.tasks, theirs.tasks)
    assert torch.equal(ours.known, theirs.known)
    torch.testing.assert_close(ours.confidence, theirs.confidence, rtol=0, atol=1e-3)
    assert found.temperature == expected.temperature
