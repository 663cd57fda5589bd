"""What the decoding process does, in this one; test_decoding.py has it as a process."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.streams.making import picture, png_of_size

from stolon import pictures
from stolon.shell import decoding_worker as worker

SIZE = 6
PNG, JPEG, WEBP = (picture(1, format=form) for form in worker.FORMATS[1::-1] + worker.FORMATS[2:])


def answer(data: bytes) -> tuple[str, bytes]:
    """The head and the rest of an answer, whose length is checked."""
    said = worker._answer(data, SIZE)
    (length,) = worker.LENGTH.unpack(said[1:5])
    assert len(said) == 5 + length
    return said[:1].decode(), said[5:]


def chunks(count: int) -> bytes:
    data = b"tEXt" + b"a\0b"
    return (struct.pack(">I", 3) + data + struct.pack(">I", zlib.crc32(data))) * count


@pytest.mark.parametrize("data", [PNG, JPEG, WEBP], ids=["PNG", "JPEG", "WEBP"])
def test_a_picture_is_answered_by_its_pixels(data):
    assert answer(data) == ("+", pictures.square(data, SIZE).tobytes())


@pytest.mark.parametrize(
    "data", [b"", b"text", PNG[:-40], picture(1, format="GIF"), png_of_size(9000, 9000)], ids=range(5)
)
def test_a_refusal_is_a_kind_and_a_message(data):
    head, said = answer(data)
    assert head == "-"
    assert len(said) <= worker.MAX_REFUSAL
    kind, message = said.decode().split("\0")
    assert kind in ("not an image", "broken image", "image too large")
    assert message.startswith("image: expected")


def test_parts_are_counted_up_to_the_picture_itself():
    assert worker._png_parts(PNG) == 3
    assert worker._png_parts(PNG[:33] + chunks(7) + PNG[33:] + chunks(50)) == 10
    plain = worker._jpeg_parts(JPEG)
    assert 4 <= plain <= 12
    assert worker._jpeg_parts(JPEG[:2] + b"\xff\xfe\0\4ab" * 7 + b"ab" + b"\xff" * 3 + JPEG[2:]) == plain + 12


@pytest.mark.parametrize("count", [worker.MAX_PARTS - 3, worker.MAX_PARTS - 2])
def test_so_many_parts_and_no_more(count):
    head, said = answer(PNG[:33] + chunks(count) + PNG[33:])
    assert head == ("+" if count == worker.MAX_PARTS - 3 else "-")
    assert (b"image too costly" in said) == (head == "-")


@given(
    st.sampled_from([PNG, JPEG, WEBP, *(PNG[:n] for n in (8, 33, 50)), *(JPEG[:n] for n in (2, 3, 20))]),
    st.integers(0, 400),
    st.binary(max_size=40),
)
def test_damaged_pictures_are_answered_or_refused(data, position, bytes_):
    head, said = answer(data[:position] + bytes_ + data[position + len(bytes_) :])
    assert head == "-" or len(said) == 3 * SIZE * SIZE


@given(st.binary(max_size=300), st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd8"]))
def test_counting_ends_whatever_the_bytes_are(rest, magic):
    data = magic + rest
    assert 0 <= worker._png_parts(data) <= len(data)
    assert 0 <= worker._jpeg_parts(data) <= 2 * len(data)
