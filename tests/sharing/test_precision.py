import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stolon.errors import DataError, SettingError
from stolon.sharing import precision

FLOATS = st.floats(-1e4, 1e4, width=32)


def matrix(rows):
    return torch.tensor(rows, dtype=torch.float32)


def test_full_is_bit_for_bit():
    x = torch.randn(5, 7)
    stored = precision.store({"x": x, "n": torch.tensor([3])}, "full", ["x"])
    assert stored.keys() == {"x", "n"}
    assert torch.equal(precision.read(stored)["x"], x)


@given(st.lists(st.lists(FLOATS, min_size=3, max_size=3), min_size=1, max_size=5))
def test_compact_is_within_half_a_step_of_each_row(rows):
    x = matrix(rows)
    stored = precision.store({"x": x}, "compact", ["x"])
    assert stored["x"].dtype == torch.int8
    back = precision.read(stored)["x"]
    step = x.abs().amax(1, keepdim=True) / 127
    assert bool(((back - x).abs() <= step * 0.5 + 1e-6 * x.abs() + 1e-37).all())


@given(st.lists(FLOATS, min_size=1, max_size=20))
def test_half_is_within_float16s_own_rounding(values):
    x = matrix(values)
    back = precision.read(precision.store({"x": x}, "half"))["x"]
    # relative, and for what lies 2**29 below the largest, absolute
    assert bool(((back - x).abs() <= x.abs() * 2**-11 + x.abs().max() * 2**-38).all())


def test_variances_that_float16_would_flush_to_nothing_stay_above_it():
    variances = torch.tensor([[1e-9, 3e-8, 2e-3]])
    assert float(variances.half()[0, 0]) == 0
    back = precision.read(precision.store({"variances": variances}, "compact", []))["variances"]
    assert torch.allclose(back, variances, rtol=1e-3, atol=0)


def test_the_scale_of_halves_is_a_power_of_two():
    stored = precision.store({"x": torch.tensor([3.0, 1000.0])}, "half")
    mantissa, _ = math.frexp(float(stored["x.scale"][0]))
    assert mantissa == 0.5


def test_zeros_emptiness_and_the_smallest_numbers_round_trip():
    for mode in ("compact", "half", "full"):
        for x in (torch.zeros(2, 3), torch.zeros(0, 3), torch.zeros(2, 0), torch.full((1, 3), 1e-45)):
            back = precision.read(precision.store({"x": x}, mode, ["x"]))["x"]
            assert back.shape == x.shape
            assert bool(torch.isfinite(back).all())
            assert bool((back - x).abs().max() <= 1e-43) if x.numel() else True


def test_the_largest_numbers_do_not_overflow():
    x = torch.tensor([[3.4e38, -3.4e38]])
    for mode in ("compact", "half"):
        back = precision.read(precision.store({"x": x}, mode, ["x"]))["x"]
        assert torch.allclose(back, x, rtol=1e-2)


def test_integers_are_stored_as_they_are_and_doubles_as_floats():
    stored = precision.store({"n": torch.tensor([5]), "d": torch.ones(2, dtype=torch.float64)}, "full")
    assert stored["n"].dtype == torch.int64
    assert stored["d"].dtype == torch.float32


def test_storing_twice_gives_the_same_bytes_and_reading_does_too():
    x = torch.randn(4, 9)
    first, second = (precision.store({"x": x}, "compact", ["x"]) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(precision.read(first)["x"], precision.read(second)["x"])


def test_an_unknown_precision_is_refused():
    with pytest.raises(SettingError, match="compact, half, full"):
        precision.store({}, "quarter")


GOOD = precision.store({"x": torch.ones(2, 3)}, "compact", ["x"])


@pytest.mark.parametrize(
    "scale",
    [
        None,
        torch.ones(3),
        torch.ones(2, 1),
        torch.ones(2).half(),
        torch.tensor([1.0, math.nan]),
        torch.tensor([1.0, math.inf]),
        torch.tensor([1.0, -1.0]),
    ],
)
def test_a_scale_that_cannot_be_is_refused(scale):
    stored = {"x": GOOD["x"]} | ({} if scale is None else {"x.scale": scale})
    with pytest.raises(DataError, match="scale"):
        precision.read(stored)


def test_a_scale_of_nothing_is_refused():
    for rest in ({}, {"y": torch.ones(1)}):
        with pytest.raises(DataError, match=r"y\.scale"):
            precision.read({**GOOD, **rest, "y.scale": torch.ones(1)})
