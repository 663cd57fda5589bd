"""How similar tasks are, by what an earlier task's features see of them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from tests.transfer.making import naive_features, random_task, set_up
from torch.nn.functional import interpolate

from stolon.nets import make
from stolon.tasks import Split
from stolon.transfer import related
from stolon.transfer.configurations import Configuration
from stolon.transfer.related import profile, similarity


@pytest.mark.parametrize("text", ["11", "10", "00"])
def test_a_profile_is_mean_and_deviation_of_each_channel(text):
    lesson, configuration = set_up(task=random_task(n=150)), Configuration.from_text(text)
    found = profile(lesson.network, lesson.shared, lesson.parts, configuration, lesson.task.train)
    x = lesson.task.train.batch(torch.arange(150))[0]
    channels = naive_features("hard", lesson, configuration, x).mean((2, 3))
    expected = torch.stack([channels.mean(0), channels.std(0, correction=0)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_only_the_first_samples_count(monkeypatch):
    monkeypatch.setattr(related, "SAMPLES", 10)
    lesson, configuration = set_up(task=random_task(n=24)), Configuration.from_text("11")
    args = lesson.network, lesson.shared, lesson.parts, configuration
    x, y = lesson.task.train.batch(torch.arange(10))
    assert torch.equal(profile(*args, lesson.task.train), profile(*args, Split.of(x, y)))


def test_features_of_fully_connected_nets_have_profiles_too():
    lesson = set_up(net=lambda: make("mlp-8-6", input_shape=(4,)), task=random_task(shape=(4,)))
    found = profile(
        lesson.network, lesson.shared, lesson.parts, Configuration.from_text("10"), lesson.task.train
    )
    assert found.shape == (2, 6)


NORMALS = st.tuples(st.floats(-10, 10), st.floats(0.1, 5))


@given(st.lists(NORMALS, min_size=2, max_size=2), st.lists(NORMALS, min_size=2, max_size=2))
def test_similarity_is_the_overlap_of_normal_distributions(a, b):
    """Bhattacharyya: the integral of the root of both densities, channels by geometric mean."""
    one, other = torch.tensor(a, dtype=torch.float64).T, torch.tensor(b, dtype=torch.float64).T
    x = np.linspace(-60, 60, 24_001)
    overlaps = [
        np.trapezoid(np.sqrt(norm.pdf(x, *theirs) * norm.pdf(x, *ours)), x)
        for theirs, ours in zip(a, b, strict=True)
    ]
    assert similarity(one, other) == pytest.approx(np.prod(overlaps) ** 0.5, rel=1e-3, abs=1e-9)
    assert similarity(one, other) == pytest.approx(similarity(other, one))


def test_dead_channels_say_nothing_and_one_that_died_much():
    alive = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    assert similarity(alive, alive) == 1
    assert similarity(alive, torch.tensor([[1.0, 0.0], [0.0, 0.0]])) < 0.05
    dead = torch.zeros(2, 2)
    assert similarity(dead, dead) == 1
    assert similarity(dead, torch.tensor([[1.0, 0.0], [0.0, 0.0]])) == 0


def test_noise_is_unlike_what_was_learned_and_more_of_the_same_is_like_it():
    """Means of channels alone are not enough: through a fresh network they correlate, whatever the data."""
    lesson, configuration = set_up(), Configuration.from_text("11")
    g = torch.Generator().manual_seed(0)

    def smooth(n):
        coarse = torch.rand(n, 1, 2, 2, generator=g)
        return Split.of(interpolate(coarse, size=(8, 8), mode="bilinear"), torch.zeros(n, dtype=torch.int64))

    noise = Split.of(torch.rand(300, 1, 8, 8, generator=g), torch.zeros(300, dtype=torch.int64))
    args = lesson.network, lesson.shared, lesson.parts, configuration
    learned = profile(*args, smooth(300))
    assert similarity(learned, profile(*args, smooth(300))) > 0.98
    assert similarity(learned, profile(*args, noise)) < 0.75
