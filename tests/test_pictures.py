"""What streams/test_images.py does not test through files already."""

import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from tests.streams.making import picture

from stolon import pictures
from stolon.errors import ImageError, SettingError


def png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_pixels_are_had_without_torch():
    done = subprocess.run(
        [sys.executable, "-c", "import stolon.pictures, sys; sys.exit('torch' in sys.modules)"], check=False
    )
    assert done.returncode == 0


def test_the_square_is_rgb_with_channels_first():
    image = Image.new("RGB", (20, 10), (250, 20, 90))
    square = pictures.square(png(image), 4)
    assert square.dtype == np.uint8
    assert square.shape == (3, 4, 4)
    assert square.reshape(3, -1).T.tolist() == [[250, 20, 90]] * 16


@pytest.mark.parametrize("size", [(7, 3), (1, 5), (900, 1300)])  # the last is scaled in more than one piece
def test_sixteen_bits_become_eight_as_if_done_at_once(size):
    values = np.random.default_rng(0).integers(0, 65536, size, dtype=np.uint16)
    once = Image.fromarray((values.astype(np.float32) / 257 + 0.5).astype(np.uint8))
    assert np.array_equal(pictures.square(png(Image.fromarray(values)), 5), pictures.square(png(once), 5))


@pytest.mark.parametrize("form", ["GIF", "BMP", "PPM"])
def test_a_format_that_is_not_asked_for_is_no_image(form):
    data = picture(0, format=form)
    assert pictures.square(data, 4).shape == (3, 4, 4)
    with pytest.raises(ImageError, match=r"x: expected an image \(JPEG, PNG\), found") as caught:
        pictures.square(data, 4, "x", formats=("JPEG", "PNG"))
    assert caught.value.kind == "not an image"


def test_an_image_that_does_not_fit_into_memory_is_refused(monkeypatch):
    def load(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pictures, "_upright_square", load)
    with pytest.raises(ImageError, match="fits into memory") as caught:
        pictures.square(picture(0), 4)
    assert caught.value.kind == "image too large"


def test_a_size_out_of_range_is_refused_before_the_bytes_are_looked_at():
    with pytest.raises(SettingError, match="size: expected"):
        pictures.square(b"", 0)
