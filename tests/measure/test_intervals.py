import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stolon.errors import SettingError
from stolon.measure import interval

values = st.lists(st.floats(-100, 100), min_size=2, max_size=10)


@given(values, st.sampled_from([0.5, 0.95, 0.99]))
def test_it_agrees_with_scipys_own_interval(found, confidence):
    mean, half = interval(found, confidence=confidence)
    error = stats.sem(found)
    if error == 0:
        assert half == pytest.approx(0, abs=1e-9)
    else:
        low, high = stats.t.interval(confidence, len(found) - 1, loc=sum(found) / len(found), scale=error)
        assert (mean - half, mean + half) == pytest.approx((low, high), abs=1e-6)


def test_five_runs_by_the_printed_table():
    """t(0.975; 4 degrees) = 2.776 in every table."""
    mean, half = interval([1, 2, 3, 4, 5])
    assert mean == 3
    assert half == pytest.approx(2.776 * math.sqrt(2.5) / math.sqrt(5), rel=1e-3)


@given(values, st.floats(0.1, 10), st.floats(-10, 10))
def test_scaling_and_shifting_carry_over(found, scale, shift):
    mean, half = interval(found)
    new_mean, new_half = interval([scale * v + shift for v in found])
    assert new_mean == pytest.approx(scale * mean + shift, abs=1e-6)
    assert new_half == pytest.approx(scale * half, abs=1e-6)


def test_one_value_has_no_interval():
    mean, half = interval([0.5])
    assert mean == 0.5
    assert math.isnan(half)


@pytest.mark.parametrize("found", [[], [math.nan, 1.0], [math.inf]])
def test_what_has_no_mean_is_refused(found):
    with pytest.raises(SettingError, match="finite"):
        interval(found)


@pytest.mark.parametrize("confidence", [0, 1, 95, math.nan])
def test_a_confidence_out_of_range_is_refused(confidence):
    with pytest.raises(SettingError, match="confidence"):
        interval([1, 2], confidence=confidence)
