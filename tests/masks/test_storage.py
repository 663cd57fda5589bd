import math
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from stolon.errors import DataError, SettingError
from stolon.masks import storage
from stolon.masks.storage import entropy_bits, pack, restore, smallest, unpack

shapes = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@st.composite
def masks(draw):
    """Masks of all densities, signed and not."""
    shape = draw(shapes)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    density = draw(st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.9, 1.0]))
    mask = torch.rand(shape, generator=generator) < density
    if draw(st.booleans()):
        return mask
    return mask.to(torch.int8) * (2 * torch.randint(0, 2, shape, generator=generator) - 1).to(torch.int8)


def same(one, other):
    return one.dtype == other.dtype and torch.equal(one, other)


def random_mask(count, density, *, signed=False):
    """Exactly this share of weights is chosen."""
    mask = torch.zeros(count, dtype=torch.bool)
    generator = torch.Generator().manual_seed(7)
    mask[torch.randperm(count, generator=generator)[: round(count * density)]] = True
    if not signed:
        return mask
    return mask.to(torch.int8) * (1 - 2 * torch.randint(0, 2, (count,), generator=generator).to(torch.int8))


# Bits


def naive_bits(bits):
    """One bit after the other, the first in the highest place."""
    packed = []
    for start in range(0, len(bits), 8):
        byte = 0
        for place, bit in enumerate(bits[start : start + 8]):
            byte |= int(bit) << (7 - place)
        packed.append(byte)
    return packed


@given(masks())
def test_packing_writes_bit_after_bit_and_unpacking_reads_them_back(mask):
    values = mask.flatten().tolist()
    expected = naive_bits([value != 0 for value in values])
    if mask.dtype == torch.int8:
        expected += naive_bits([value < 0 for value in values])
    assert pack(mask).tolist() == expected
    assert same(unpack(pack(mask), mask.shape), mask)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.float16, torch.float32])
def test_zeros_and_ones_of_a_type_other_than_bool_are_a_signed_mask(dtype):
    mask = torch.tensor([[0, 1, 1], [1, 0, 0]], dtype=dtype)
    assert same(unpack(pack(mask), (2, 3)), mask.to(torch.int8))
    assert same(restore(smallest(mask), (2, 3)), mask.to(torch.int8))


def test_a_mask_that_is_not_contiguous_is_packed_in_its_own_order():
    mask = torch.tensor([[True, False, False], [True, True, False]]).T
    assert same(unpack(pack(mask), (3, 2)), mask.contiguous())


@pytest.mark.parametrize(
    "wrong",
    [
        torch.tensor([0.5]),
        torch.tensor([2], dtype=torch.int8),
        torch.tensor([-2.0]),
        torch.tensor([float("nan")]),
        torch.tensor([1j]),
        torch.zeros(0, dtype=torch.bool),
        torch.zeros(3, 0),
    ],
)
def test_what_is_no_mask_is_refused(wrong):
    for way in (pack, smallest):
        with pytest.raises(DataError, match=r"expected a mask"):
            way(wrong)


def test_a_single_weight_is_a_mask():
    assert unpack(pack(torch.tensor(True)), ()).item() is True
    assert restore(smallest(torch.tensor(-1)), ()).item() == -1


@pytest.mark.parametrize("shape", [(0,), (3, -1), (-3, -1), (2**40,), (2**16, 2**16)])
def test_a_shape_that_no_mask_has_is_refused_before_anything_is_made(shape):
    for way in (unpack, restore):
        with pytest.raises(SettingError, match="expected a mask's shape"):
            way(torch.zeros(1, dtype=torch.uint8), shape)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "expected 2 bytes of a mask of 10 weights, found 0"),
        ([0], "found 1"),
        ([0, 0, 0], "found 3"),
        ([0] * 5, "found 5"),
        ([0, 1], "zeros behind the last of 10 bits"),
        ([0, 0, 0, 1], "zeros behind the last of 10 bits"),
        ([0, 64, 0, 128], "signs of chosen weights alone"),
    ],
)
def test_bits_that_packing_never_writes_are_refused(data, words):
    with pytest.raises(DataError, match=words):
        unpack(torch.tensor(data, dtype=torch.uint8), (2, 5))


@pytest.mark.parametrize("wrong", [torch.zeros(2, dtype=torch.int8), torch.zeros(1, 2, dtype=torch.uint8)])
def test_what_are_no_bytes_is_refused(wrong):
    for way in (unpack, restore):
        with pytest.raises(DataError, match=r"expected a mask's bytes, uint8 \[N\]"):
            way(wrong, (2, 5))


# The smallest form


def naive_distances(places):
    """Zeros before each one since the last, 255 at a time."""
    written, since = [], 0
    for place in places:
        if not place:
            since += 1
            continue
        while since >= 255:
            written.append(255)
            since -= 255
        written.append(since)
        since = 0
    return bytes(written)


@given(masks())
def test_the_smallest_form_reads_back_and_is_never_larger_than_the_bits_and_a_byte(mask):
    stored = smallest(mask)
    assert same(restore(stored, mask.shape), mask)
    assert len(stored) <= len(pack(mask)) + 1


@given(st.lists(st.integers(0, 800), max_size=20), st.integers(0, 600))
@example([254, 255, 256, 509, 510, 511], 0)
def test_distances_are_written_one_after_the_other(gaps, behind):
    places = np.concatenate([*[np.r_[np.zeros(gap), 1] for gap in gaps], np.zeros(behind + 1)]).astype(bool)
    written = storage._distances(places)
    assert written == naive_distances(places.tolist())
    assert np.array_equal(storage._places(written, len(places)), places)


@pytest.mark.parametrize("density", [0.0, 1e-4, 0.003, 0.05, 0.5, 0.97, 1 - 1e-4, 1.0])
@pytest.mark.parametrize("signed", [False, True])
def test_large_masks_of_all_densities_read_back(density, signed):
    mask = random_mask(30_000, density, signed=signed)
    assert same(restore(smallest(mask), mask.shape), mask)
    assert same(restore(smallest(mask), (30, 1000)), mask.reshape(30, 1000))


@pytest.mark.parametrize("density", [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.95])
def test_lenets_mask_is_within_three_hundredths_of_the_bound(density):
    mask = random_mask(266_200, density)
    bound = 266_200 * entropy_bits(density) / 8
    assert bound < len(smallest(mask)) < 1.03 * bound


def test_signs_cost_a_bit_for_each_chosen_weight():
    plain, signed = (len(smallest(random_mask(100_000, 0.1, signed=signed))) for signed in (False, True))
    assert signed == plain + 10_000 / 8


def test_what_repeats_is_found():
    rows = random_mask(500, 0.1).repeat(100)
    assert len(smallest(rows)) < 0.1 * 50_000 * entropy_bits(0.1) / 8


# Hostile bytes


@given(st.binary(max_size=60), shapes)
@example(b"\x02\x03\x00", [3])
@example(b"\x03\x03\x00", [3])
def test_whatever_the_bytes_are_they_are_a_mask_of_that_shape_or_refused(data, shape):
    stored = torch.tensor(list(data), dtype=torch.uint8)
    for way in (unpack, restore):
        try:
            mask = way(stored, shape)
        except DataError:
            continue
        assert list(mask.shape) == shape
        assert mask.dtype in (torch.bool, torch.int8)
        assert set(mask.flatten().tolist()) <= {-1, 0, 1}


@pytest.mark.parametrize("density", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("signed", [False, True])
def test_any_shortening_or_lengthening_is_refused(density, signed):
    mask = random_mask(400, density, signed=signed)
    stored = smallest(mask)
    for length in range(len(stored)):
        with pytest.raises(DataError):
            restore(stored[:length], mask.shape)
    for more in ([0], [0, 0], [3, 0], [255]):
        with pytest.raises(DataError):
            restore(torch.cat([stored, torch.tensor(more, dtype=torch.uint8)]), mask.shape)


@pytest.mark.parametrize("density", [0.05, 0.5, 0.95])
def test_another_shape_is_refused(density):
    mask = random_mask(4000, density)
    mask[-1] = density < 0.5  # a longer one is a mask with more zeros behind, as far as distances tell
    with pytest.raises(DataError, match="give its shape"):
        restore(smallest(mask), (3999 - 8,))


def stored_as(kind, data, behind=b""):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return torch.tensor(
        list(bytes([kind]) + packer.compress(data) + packer.flush() + behind), dtype=torch.uint8
    )


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (stored_as(6, b""), "begins with a byte from 0 to 5"),
        (stored_as(2, b"\xff"), "unfinished"),
        (stored_as(2, b"\x0a"), "found one chosen at 10"),
        (stored_as(2, b"\x00" * 11), "expected a mask of 10 weights, found more"),
        (stored_as(2, b"\xff" * 9 + b"\xfe"), "found one chosen at 2,549"),
        (stored_as(2, b"\x01", b"\x00"), "found 1 bytes behind it"),
        (stored_as(3, b"\x01"), "expected 1 bytes"),
        (stored_as(3, b"\x01", b"\x40"), "zeros behind the last of 1 bits"),
        (stored_as(3, b"\x01", b"\x80\x00"), "expected 1 bytes"),
        (torch.tensor([2, 255, 255], dtype=torch.uint8), "damaged bytes"),
    ],
)
def test_codes_that_are_never_written_are_refused(stored, words):
    with pytest.raises(DataError, match=words):
        restore(stored, (10,))


def test_codes_made_by_hand_are_read():
    assert restore(stored_as(2, b"\x05\x03"), (10,)).nonzero().flatten().tolist() == [5, 9]
    assert restore(stored_as(4, b"\x05\x03"), (10,)).logical_not().nonzero().flatten().tolist() == [5, 9]
    assert restore(stored_as(3, b"\x05\x03", b"\x40"), (10,)).tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, -1]
    assert restore(torch.tensor([0, 4, 64], dtype=torch.uint8), (10,)).nonzero().flatten().tolist() == [5, 9]


@pytest.mark.parametrize("value", [0, 254, 255])
def test_a_bomb_takes_no_more_memory_than_the_shape_says(value):
    bomb = stored_as(2, bytes([value]) * 50_000_000)
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"expected a mask of 1,000 weights, found more"):
            restore(bomb, (10, 100))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(bomb) + 100_000


# The bound


@given(st.floats(0, 1))
def test_the_bound_is_the_entropy_and_the_same_from_both_sides(density):
    bits = entropy_bits(density)
    assert 0 <= bits <= 1
    assert math.isclose(bits, entropy_bits(1 - density), abs_tol=1e-12)
    if 0 < density < 1:
        expected = -(density * math.log(density) + (1 - density) * math.log1p(-density)) / math.log(2)
        assert math.isclose(bits, expected, abs_tol=1e-12)


@pytest.mark.parametrize("density", [-0.1, 1.1, float("nan")])
def test_a_density_out_of_range_is_refused(density):
    with pytest.raises(SettingError, match="density: expected a share from 0 to 1"):
        entropy_bits(density)
