import json
import math

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from stolon.sharing import blobs
from stolon.sharing.codes import Code
from stolon.sharing.limits import MAX_BLOB, MAX_BLOB_HEADER, MAX_TENSORS

TENSORS = {
    "weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "scale": torch.tensor([0.5], dtype=torch.float16),
    "codes": torch.tensor([[-127, 5]], dtype=torch.int8),
    "images": torch.zeros(1, 3, 2, 2, dtype=torch.uint8),
    "counts": torch.tensor([7, -1]),
    "empty": torch.zeros(0, 4),
}
LAYOUT = blobs.layout(TENSORS)
DATA = blobs.encode(TENSORS)


def headed(header, payload=b""):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return len(text).to_bytes(8, "little") + text + payload


def test_what_was_written_is_read_bit_for_bit():
    read = blobs.check(DATA, LAYOUT)
    assert read.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


def test_the_bytes_are_those_of_the_safetensors_library_and_it_reads_them():
    assert safetensors.torch.save(TENSORS) == DATA
    assert torch.equal(safetensors.torch.load(DATA)["weight"], TENSORS["weight"])


def test_the_order_of_the_mapping_and_the_layout_in_memory_make_no_difference():
    again = {name: TENSORS[name] for name in reversed(TENSORS)}
    again["weight"] = TENSORS["weight"].T.contiguous().T
    assert blobs.encode(again) == DATA
    assert blobs.size(LAYOUT) == len(DATA)


def test_what_is_read_may_be_written_to_without_touching_the_bytes():
    blobs.check(DATA, LAYOUT)["weight"].zero_()
    assert float(blobs.check(DATA, LAYOUT)["weight"].sum()) == 15


@given(
    st.dictionaries(
        st.sampled_from(["a", "b.scale", "weight", "z"]),
        st.tuples(st.sampled_from(blobs.DTYPES), st.lists(st.integers(0, 4), max_size=4).map(tuple)),
        min_size=1,
    ),
    st.integers(0, 99),
)
def test_any_layout_round_trips_as_the_library_writes_it(found, seed):
    kinds = {dtype: kind for kind, dtype in blobs._NAMES.items()}
    g = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.randint(0, 9, shape, generator=g).to(kinds[dtype])
        for name, (dtype, shape) in found.items()
    }
    data = blobs.encode(tensors)
    assert blobs.size(found) == len(data)
    assert data == safetensors.torch.save(tensors)
    assert all(torch.equal(value, tensors[name]) for name, value in blobs.check(data, found).items())


def test_types_that_blobs_do_not_have_are_refused_when_writing():
    for dtype in (torch.float64, torch.bfloat16, torch.bool, torch.int32):
        with pytest.raises(ValueError, match="expected one of I64"):
            blobs.encode({"x": torch.zeros(1, dtype=dtype)})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["weight", "scale"])
def test_numbers_that_are_not_finite_are_refused(bad, name):
    tensor = TENSORS[name].clone()
    tensor.view(-1)[0] = bad
    assert blobs.check(blobs.encode({**TENSORS, name: tensor}), LAYOUT).code == Code.NOT_FINITE


ONE = {"w": torch.ones(2)}
ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
PAYLOAD = bytes(8)
LOOSE = {
    "with metadata": headed({"__metadata__": {"a": "b"}, "w": ENTRY}, PAYLOAD),
    "with another tensor": headed({"v": {**ENTRY, "data_offsets": [8, 16]}, "w": ENTRY}, PAYLOAD * 2),
    "with the key twice": headed(
        b'{"w":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"w":%s}' % json.dumps(ENTRY).encode(), PAYLOAD
    ),
    "with an unknown field": headed({"w": {**ENTRY, "x": 1}}, PAYLOAD),
    "with spaces": headed(b" " + json.dumps({"w": ENTRY}).encode(), PAYLOAD),
    "with other spaces at its end": headed(
        json.dumps({"w": ENTRY}, separators=(",", ":")).encode() + b" " * 80, PAYLOAD
    ),
    "of another name": headed({"../../etc/x": ENTRY}, PAYLOAD),
    "of another type": blobs.encode({"w": torch.ones(4, dtype=torch.float16)}),
    "of another shape": blobs.encode({"w": torch.ones(2, 1)}),
    "with a hole": headed({"w": {**ENTRY, "data_offsets": [8, 16]}}, PAYLOAD * 2),
    "with one byte more": blobs.encode(ONE) + b"\0",
    "with one byte less": blobs.encode(ONE)[:-1],
    "without its header": blobs.encode(ONE)[:8],
    "cut in its length": blobs.encode(ONE)[:5],
    "of nothing": b"",
    "with a huge header length": b"\xff" * 8 + blobs.encode(ONE)[8:],
    "with header length 0": bytes(8) + blobs.encode(ONE)[8:],
}


@pytest.mark.parametrize("data", LOOSE.values(), ids=LOOSE)
def test_a_blob_in_any_other_form_is_refused(data):
    assert blobs.check(data, blobs.layout(ONE)).code in {Code.BAD_BLOB, Code.WRONG_TENSORS}


@given(st.data())
def test_no_changed_byte_of_a_header_passes(data):
    place = data.draw(st.integers(0, 8 + len(blobs._header(LAYOUT)[0]) - 1))
    changed = bytearray(DATA)
    changed[place] ^= data.draw(st.integers(1, 255))
    assert blobs.check(bytes(changed), LAYOUT).code in {Code.BAD_BLOB, Code.WRONG_TENSORS}


def refusal(layout):
    with pytest.raises(ValueError, match=r"expected") as caught:
        blobs.size(layout)
    return str(caught.value)


def test_layouts_are_accepted_at_their_limits_and_refused_one_above():
    def many(n):
        return {f"t{i}": ("U8", (1,)) for i in range(n)}

    assert blobs.size(many(MAX_TENSORS)) == len(
        blobs.encode({f"t{i}": torch.zeros(1, dtype=torch.uint8) for i in range(MAX_TENSORS)})
    )
    assert "1 to 64 tensors" in refusal(many(MAX_TENSORS + 1))
    assert "1 to 64 tensors" in refusal({})
    overhead = blobs.size({"x": ("U8", (MAX_BLOB - 100,))}) - (MAX_BLOB - 100)
    assert blobs.size({"x": ("U8", (MAX_BLOB - overhead,))}) == MAX_BLOB
    assert "16,777,217" in refusal({"x": ("U8", (MAX_BLOB - overhead + 1,))})
    assert blobs.size({"x": ("U8", (1, 1, 1, 1))}) == blobs.size({"x": ("U8", (1, 1, 1, 1))})
    assert "4 dimensions" in refusal({"x": ("U8", (1, 1, 1, 1, 1))})
    assert blobs.size({"n" * (MAX_BLOB_HEADER - 200): ("U8", (1,))}) < MAX_BLOB_HEADER + 100
    assert "header" in refusal({"n" * MAX_BLOB_HEADER: ("U8", (1,))})
    assert "a type of" in refusal({"x": ("F64", (1,))})


@pytest.mark.parametrize("shape", [(2**62, 0), (2**24, 2**24, 0), (2**62,), (2**20, 2**20)])
def test_shapes_that_overflow_are_refused_without_allocating(shape):
    assert "numbers" in refusal({"x": ("F32", shape)})
