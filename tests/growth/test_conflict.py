"""Binding and growing from scores: the paper's way, the authors' code's way, and the controls."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stolon.growth import conflict
from stolon.tasks import Split, Task

CONFLICTS = st.lists(st.floats(-0.5, 2), min_size=1, max_size=6)
DELTA = st.floats(0, 1)


@given(CONFLICTS)
def test_a_distribution_sums_to_one_and_keeps_the_order(values):
    masses = conflict.distribution(values)
    assert math.fsum(masses) == pytest.approx(1)
    assert all(mass >= 0 for mass in masses)
    for i, j in itertools.permutations(range(len(values)), 2):
        assert values[i] < values[j] or masses[i] >= masses[j] or not any(v > 0 for v in values)


def test_where_nothing_conflicts_all_layers_are_alike():
    assert conflict.distribution([0.0, -0.2, 0.0, 0.0]) == [0.25] * 4
    assert conflict.distribution_as_released([0.0, 0.0]) == [0.5, 0.5]


def test_rounding_is_no_conflict():
    assert conflict.distribution([1e-16, 0.0, -2e-16]) == [1 / 3] * 3


@given(CONFLICTS)
def test_delta_0_grows_nothing_and_delta_1_everything(values):
    masses = conflict.distribution(values)
    assert conflict.nucleus(masses, 0) == []
    assert conflict.nucleus(masses, 1) == list(range(len(values)))


@given(CONFLICTS, DELTA, DELTA)
def test_a_nucleus_only_grows_with_delta(values, one, other):
    masses = conflict.distribution(values)
    small, large = (set(conflict.nucleus(masses, delta)) for delta in sorted((one, other)))
    assert small <= large


@given(CONFLICTS, DELTA)
def test_a_nucleus_is_the_smallest_set_that_reaches_delta(values, delta):
    """By trying every set: none smaller reaches it, and none of the same size has more mass."""
    masses = conflict.distribution(values)
    found = conflict.nucleus(masses, delta)
    mass = math.fsum(masses[i] for i in found)
    assert mass >= delta - 1e-9
    if delta == 1:
        return
    for size in range(len(found) + 1):
        for chosen in itertools.combinations(range(len(masses)), size):
            other = math.fsum(masses[i] for i in chosen)
            assert other <= mass + 1e-9
            assert size == len(found) or other < delta + 1e-9


@pytest.mark.parametrize(
    ("delta", "grown"), [(0.2, [0]), (0.4, [0, 1]), (0.6, [0, 1, 2]), (0.61, [0, 1, 2, 3])]
)
def test_of_equal_layers_the_earlier_grow_and_rounding_adds_none(delta, grown):
    assert conflict.nucleus([0.2] * 5, delta) == grown


def test_a_tasks_score_is_the_norm_and_the_least_binds_the_earlier_of_two():
    assert conflict.score([1.0, -2.0, 2.0]) == pytest.approx(3.0)
    assert conflict.least({"a": 2.0, "b": 1.0, "c": 1.0}) == "b"


# papers/methods.md 4.3, by hand


def test_as_released_a_score_is_half_the_norm_of_similarities_rounded():
    assert conflict.score_as_released([0.6, 0.8001]) == 0.5
    assert conflict.score_as_released([0.1234]) == 0.062


def test_as_released_a_distribution_is_rounded_and_can_be_negative():
    assert conflict.distribution_as_released([0.5, 0.25, 0.0]) == [0.667, 0.333, 0.0]
    assert conflict.distribution_as_released([0.5, -0.1]) == [1.25, -0.25]


def test_as_released_the_most_similar_layers_grow_while_the_sum_is_below():
    masses = conflict.distribution_as_released([0.9, 0.5, 0.6])
    assert masses == [0.45, 0.25, 0.3]
    assert conflict.nucleus_as_released(masses, 0.45) == [0]
    assert conflict.nucleus_as_released(masses, 0.46) == [0, 2]
    assert conflict.nucleus_as_released(masses, 0) == []
    # rounded masses that reach 1 early leave the rest out, and negative ones too
    assert conflict.nucleus_as_released([1.25, -0.25], 1) == [0]
    assert conflict.nucleus([1.0, 0.0], 1) == [0, 1]


# Inputs


def numbered(n, start=0):
    return Split.of(
        torch.arange(start, start + n, dtype=torch.float32)[:, None], torch.zeros(n, dtype=torch.int64)
    )


def test_inputs_come_from_the_validation_data_and_are_a_function_of_seed_and_task():
    task = Task("t", ("a",), numbered(50), numbered(40, 1000), numbered(0))
    x, source = conflict.inputs(task, 10, 4, seed=0)
    assert source == "validation"
    assert len(x) == len(x.unique()) == 10
    assert x.min() >= 1000
    assert torch.equal(x, conflict.inputs(task, 10, 4, seed=0)[0])
    assert not torch.equal(x, conflict.inputs(task, 10, 4, seed=1)[0])
    assert torch.equal(conflict.inputs(task, 500, 4, seed=1)[0], task.val.batch(torch.arange(40))[0])


def test_without_enough_validation_data_inputs_come_from_the_training_data():
    task = Task("t", ("a",), numbered(50), numbered(3, 1000), numbered(0))
    x, source = conflict.inputs(task, 10, 4, seed=0)
    assert source == "training"
    assert x.max() < 50


def test_as_released_inputs_come_from_the_first_5000_training_images():
    x, source = conflict.inputs_as_released(numbered(6000), 500, 0, "t")
    assert source == "training"
    assert len(x.unique()) == 500
    assert x.max() < 5000


# Controls


def test_random_choices_are_functions_of_seed_and_task_and_reach_everything():
    assert {conflict.random_task(("a", "b", "c"), seed, "t") for seed in range(40)} == {"a", "b", "c"}
    assert conflict.random_task(("a", "b", "c"), 3, "t") == conflict.random_task(("a", "b", "c"), 3, "t")
    found = [tuple(conflict.random_units(3, seed, "t")) for seed in range(200)]
    assert set(found) == {subset for k in range(4) for subset in itertools.combinations(range(3), k)}
    assert [found.count(()) > 20, found.count((0, 1, 2)) > 20] == [
        True,
        True,
    ]  # the number is uniform, not the set
    assert conflict.random_units(3, 5, "t") == conflict.random_units(3, 5, "t")
