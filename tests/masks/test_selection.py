"""The largest entries without sorting are those that sorting gives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stolon.masks import selection
from stolon.masks.selection import mark_top_, top_mask


def naive(values, keep):
    """Sort all; of equals the first."""
    order = sorted(range(values.numel()), key=lambda i: (-float(values.flatten()[i]), i))
    mask = torch.zeros(values.numel(), dtype=torch.bool)
    mask[order[:keep]] = True
    return mask.view(values.shape)


@given(
    st.lists(
        st.sampled_from([0.0, -1.0, 0.5, 1.0, 1e-30, 3e30]) | st.floats(-1e6, 1e6, width=32),
        min_size=1,
        max_size=60,
    ),
    st.integers(0, 61),
)
def test_small_ones_with_equals(values, keep):
    found = top_mask(torch.tensor(values), keep)
    assert torch.equal(found, naive(torch.tensor(values), min(keep, len(values))))


@settings(max_examples=25)
@given(
    st.integers(3_000, 40_000),
    st.floats(0, 1),
    st.integers(0, 2**31),
    st.sampled_from(["normal", "sorted", "few values", "one value", "periodic"]),
)
def test_large_ones_whatever_the_sample_says(count, share, seed, kind):
    g = torch.Generator().manual_seed(seed)
    values = torch.randn(count, generator=g)
    match kind:
        case "sorted":
            values = values.sort().values
        case "few values":
            values = values.round()
        case "one value":
            values = torch.full((count,), 0.25)
        case "periodic":  # every so many-th entry, which the sample takes, is unlike the others
            values[:: max(1, count // selection._SAMPLE)] += 1e3
    keep = int(share * count)
    found = top_mask(values, keep)
    assert int(found.sum()) == keep
    if 0 < keep < count:
        threshold = values.sort(descending=True).values[keep - 1]
        assert bool(found[values > threshold].all())
        assert not bool(found[values < threshold].any())
        equal = found[values == threshold]
        assert equal.tolist() == sorted(equal.tolist(), reverse=True)  # the first of equals


@pytest.mark.parametrize(
    "near", [-1e9, -1.0, 0.0, 0.1, 1.28, 1.2815, 1.3, 7.0, 1e9, float("nan"), float("inf")]
)
def test_whatever_is_thought_of_the_threshold(near):
    values = torch.randn(20_000, generator=torch.Generator().manual_seed(1))
    mask = values.clone()
    threshold = mark_top_(mask, 2_000, near)
    assert torch.equal(mask.bool(), top_mask(values, 2_000))
    assert threshold == float(values.sort(descending=True).values[1_999])


def test_of_any_shape_and_without_a_gradient():
    values = torch.rand(3, 4, 5, requires_grad=True)
    found = top_mask(values, 7)
    assert found.shape == values.shape
    assert not found.requires_grad
    assert torch.equal(found, naive(values.detach(), 7))


@pytest.mark.parametrize("keep", [0, -1, 12, 13])
def test_none_and_all(keep):
    found = top_mask(torch.rand(3, 4), keep)
    assert int(found.sum()) == max(0, min(12, keep))
