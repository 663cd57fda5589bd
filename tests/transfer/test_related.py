"""How similar tasks are, by what an earlier task's features see of them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.transfer.making import naive_features, random_task, set_up

from stolon.nets import make
from stolon.tasks import Split
from stolon.transfer import related
from stolon.transfer.configurations import Configuration
from stolon.transfer.related import profile, similarity


@pytest.mark.parametrize("text", ["11", "10", "00"])
def test_a_profile_is_the_mean_activation_of_each_channel(text):
    lesson, configuration = set_up(task=random_task(n=150)), Configuration.from_text(text)
    found = profile(lesson.network, lesson.shared, lesson.parts, configuration, lesson.task.train)
    x = lesson.task.train.batch(torch.arange(150))[0]
    expected = naive_features("hard", lesson, configuration, x).mean((0, 2, 3))
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
    assert found.shape == (6,)


@given(
    st.lists(st.floats(-100, 100), min_size=3, max_size=3),
    st.lists(st.floats(-100, 100), min_size=3, max_size=3),
)
def test_similarity_is_the_correlation_where_that_is_positive(a, b):
    found = similarity(torch.tensor(a), torch.tensor(b))
    assert 0 <= found <= 1
    assert found == pytest.approx(similarity(torch.tensor(b), torch.tensor(a)))
    one, other = np.float32(a), np.float32(b)
    if one.std() > 1e-3 and other.std() > 1e-3:
        expected = np.corrcoef(one.astype(float), other.astype(float))[0, 1]
        assert found == pytest.approx(max(0, expected), abs=1e-6)


def test_what_is_constant_is_like_nothing():
    assert similarity(torch.ones(3), torch.tensor([1.0, 2.0, 3.0])) == 0
    assert similarity(torch.zeros(3), torch.zeros(3)) == 0
