import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import max_pool2d

from stolon.nets.pooling import SameMaxPool2d


def naive(x, window):
    """One window after the other; pixels outside the image are minus infinity, so they are left out."""
    height, width = x.shape[-2:]

    def windows(n):
        outputs = math.ceil(n / window)
        before = ((outputs - 1) * window + window - n) // 2
        return [
            [j for j in range(i * window - before, (i + 1) * window - before) if 0 <= j < n]
            for i in range(outputs)
        ]

    rows = [
        torch.stack([x[:, :, ys][:, :, :, xs].amax((2, 3)) for xs in windows(width)], dim=-1)
        for ys in windows(height)
    ]
    return torch.stack(rows, dim=-2)


@given(st.integers(1, 5), st.integers(1, 20), st.integers(1, 20), st.integers(0, 1000))
def test_every_window_is_that_of_the_formula(window, height, width, seed):
    x = torch.randn(2, 2, height, width, generator=torch.Generator().manual_seed(seed)) - 3
    assert torch.equal(SameMaxPool2d(window)(x), naive(x, window))


@pytest.mark.parametrize(
    ("n", "window", "first", "last"),
    [
        # Office-Home: n pixels, the pixels of the first and of the last window, counted by hand
        (128, 3, (0, 2), (126, 127)),  # one is missing: after the last
        (43, 3, (0, 1), (41, 42)),  # two are missing: one on both sides, which ceil_mode gets wrong
        (15, 2, (0, 1), (14, 14)),
        (8, 2, (0, 1), (6, 7)),
        (32, 3, (0, 2), (30, 31)),  # STL-10: 96 -> 32 -> 11 -> 4
        (11, 3, (0, 2), (9, 10)),
    ],
)
def test_windows_of_the_papers_nets_lie_where_tensorflow_puts_them(n, window, first, last):
    def seen_by(output):
        """Which pixels an output sees: those that become its maximum when they are large."""
        return [
            pixel
            for pixel in range(n)
            if SameMaxPool2d(window)(torch.eye(n)[pixel].view(1, 1, 1, n))[0, 0, 0, output] == 1
        ]

    assert seen_by(0) == list(range(first[0], first[1] + 1))
    assert seen_by(-1) == list(range(last[0], last[1] + 1))


def test_the_pitfall_is_real():
    x = torch.arange(43.0).view(1, 1, 1, 43).expand(1, 1, 43, 43)
    right, wrong = SameMaxPool2d(3)(x), max_pool2d(x, 3, ceil_mode=True)
    assert right.shape == wrong.shape == (1, 1, 15, 15)
    assert not torch.equal(right, wrong)


def test_padding_never_wins_and_gets_no_gradient():
    x = torch.full((1, 1, 7, 7), -1e30, requires_grad=True)
    y = SameMaxPool2d(3)(x)
    assert torch.equal(y, torch.full((1, 1, 3, 3), -1e30))
    y.sum().backward()
    assert x.grad.sum() == 9


def test_without_padding_it_is_plain_pooling_and_the_memory_format_stays():
    x = torch.randn(2, 8, 12, 12).to(memory_format=torch.channels_last)
    y = SameMaxPool2d(3)(x)
    assert torch.equal(y, max_pool2d(x, 3))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert SameMaxPool2d(3)(x[..., :10]).shape == (2, 8, 4, 4)


def test_it_says_its_window():
    assert repr(SameMaxPool2d(3)) == "SameMaxPool2d(3)"
