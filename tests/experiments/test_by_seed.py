import math

import pytest

from stolon.experiments.by_seed import apart, difference, number, percent, points, ratio
from stolon.measure import interval


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
