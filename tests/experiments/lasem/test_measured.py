import math

import pytest
from tests.experiments.lasem.records import trial, two_tasks

from stolon.experiments.lasem.measured import Measured, apart, difference, number, percent, points, ratio
from stolon.experiments.lasem.methods import Wanted
from stolon.experiments.lasem.plans import plans
from stolon.measure import interval


@pytest.fixture(scope="module")
def plan():
    (found,) = plans(Wanted("lasem-table3", transfers=("hard",)))
    return found


def test_values_are_by_seed_of_finished_trials_only(plan):
    method = plan.find(kind="static")[0]
    records = [
        *trial(method.label, 0, [([0.5], 0.6), ([0.25, 0.7], 0.8)], seconds=4.0),
        *trial(method.label, 1, [([0.5], 0.6)], done=False),
    ]
    found = Measured(plan, records)
    assert found.peak(method) == {0: pytest.approx(0.7)}
    assert found.final(method) == {0: pytest.approx(0.475)}
    assert found.kept(method) == {0: pytest.approx(0.5)}
    assert found.kept_of_peak(method) == {0: pytest.approx(0.25 / 0.6)}
    assert found.seconds(method) == {0: pytest.approx(4.0)}


def test_what_has_not_begun_has_no_values(plan):
    found = Measured(plan, [])
    assert found.peak(plan.methods[0]) == {}
    assert found.best(plan.methods) is None
    assert found.span(plan.methods) is None
    assert percent({}) == points({}) == number({}) == "–"


def test_the_best_is_that_of_the_highest_mean(plan):
    low, high, _ = plan.methods
    records = [
        *(r for seed in (0, 1) for r in two_tasks(low.label, seed, (0.9 - 0.5 * seed, 0.9 - 0.5 * seed))),
        *(r for seed in (0, 1) for r in two_tasks(high.label, seed, (0.7, 0.7))),
    ]
    found = Measured(plan, records)
    assert found.best(plan.methods) == high
    assert found.span(plan.methods) == (pytest.approx(0.65), pytest.approx(0.7))


def test_differences_and_ratios_are_of_the_same_seeds():
    one, other = {0: 0.5, 1: 0.6, 2: 0.9}, {0: 0.4, 1: 0.3}
    assert difference(one, other) == {0: pytest.approx(0.1), 1: pytest.approx(0.3)}
    assert ratio(one, other) == {0: pytest.approx(1.25), 1: pytest.approx(2.0)}
    assert ratio(one, {0: 0.0}) == {}


def test_numbers_are_told_with_student_intervals():
    values = {0: 0.39, 1: 0.41, 2: 0.40}
    mean, half = interval(values.values())
    assert percent(values) == f"{100 * mean:.1f} ± {100 * half:.1f}" == "40.0 ± 2.5"
    assert points({0: -0.01, 1: -0.03}).startswith("-2.0 ± 12.7")
    assert points({0: 0.02}) == "+2.0"
    assert number({0: 1.5}) == "1.50"


def test_intervals_that_touch_are_not_apart():
    assert apart({0: 0.5, 1: 0.51, 2: 0.5}, {0: 0.3, 1: 0.31, 2: 0.3})
    assert not apart({0: 0.3, 1: 0.31, 2: 0.3}, {0: 0.5, 1: 0.51, 2: 0.5})
    assert not apart({0: 0.9, 1: 0.1}, {0: 0.2, 1: 0.1})
    assert not apart({0: 0.9}, {0: 0.1})
    assert math.isnan(interval([0.9]).half_width)


def test_the_base_of_times_is_one(plan):
    first, brute, _ = plan.methods
    records = [
        *two_tasks(first.label, 0, (0.5, 0.5), seconds=2.0),
        *two_tasks(brute.label, 0, (0.5, 0.5), seconds=11.0),
    ]
    found = Measured(plan, records)
    assert found.time(first, first) == "1"
    assert found.time(brute, first) == "5.50"
