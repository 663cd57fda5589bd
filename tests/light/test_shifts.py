import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stolon.light.shifts import offsets, shifted


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 3), st.integers(0, 99))
def test_each_image_moves_by_its_own_offset(n, reach, seed):
    """The naive twin: one image at a time, pixel by pixel, mirrored at the edges."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (n, 2, 5, 7), dtype=torch.uint8, generator=g)
    by = offsets(n, reach, seed, "t")
    moved = shifted(x, by)
    assert moved.dtype == x.dtype
    assert moved.shape == x.shape

    def mirrored(i, size):
        i = abs(i)
        return i if i < size else 2 * (size - 1) - i

    for b in range(n):
        for r in range(5):
            for c in range(7):
                source = x[b, :, mirrored(r - int(by[b, 0]), 5), mirrored(c - int(by[b, 1]), 7)]
                assert torch.equal(moved[b, :, r, c], source)


def test_offsets_are_a_function_of_seed_and_purpose_and_stay_within_reach():
    a = offsets(100, 2, 0, "task", 1)
    assert torch.equal(a, offsets(100, 2, 0, "task", 1))
    assert not torch.equal(a, offsets(100, 2, 0, "task", 2))
    assert set(a.unique().tolist()) == {-2, -1, 0, 1, 2}
