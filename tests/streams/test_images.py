import os
import threading
import warnings
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.streams.making import picture, png_of_size

from stolon import pictures
from stolon.errors import ImageError, SettingError
from stolon.streams import images


def saved(image: Image.Image, form: str, **options) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def outcome(data: bytes) -> str:
    try:
        pixels = images.decode(data, 8)
    except ImageError as error:
        return "refused" if str(error).startswith("image: expected") else str(error)
    return "pixels" if pixels.shape == (3, 8, 8) else str(pixels.shape)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM"])
def test_every_format_of_the_list_is_read(form, tmp_path):
    path = tmp_path / "named_wrongly.dat"
    path.write_bytes(saved(Image.new("RGB", (30, 20), (200, 100, 50)), form))
    pixels = images.decode(path, 8)
    assert pixels.shape == (3, 8, 8)
    assert pixels.dtype == torch.uint8
    assert (pixels.float().mean((1, 2)) - torch.tensor([200.0, 100.0, 50.0])).abs().max() < 4
    assert torch.equal(images.decode(path.read_bytes(), 8), pixels)


def test_an_image_of_the_right_size_is_unchanged():
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    assert np.array_equal(
        images.decode(saved(Image.fromarray(noise), "PNG"), 9).permute(1, 2, 0).numpy(), noise
    )


def test_the_centre_square_is_kept():
    image = Image.new("RGB", (30, 10), "black")
    image.paste((255, 255, 255), (10, 0, 20, 10))
    assert images.decode(saved(image, "PNG"), 10).min() == 255


def test_scaling_is_that_of_the_shorter_side_by_bicubic_then_cropping():
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 80, 3), dtype=np.uint8))
    naive = noise.resize((32, 16), Image.Resampling.BICUBIC).crop((8, 0, 24, 16))
    ours = images.decode(saved(noise, "PNG"), 16).permute(1, 2, 0).numpy().astype(int)
    difference = np.abs(ours - np.asarray(naive).astype(int))
    assert difference[:, 3:-3].max() <= 1  # the naive way also looks a little beyond the edges


def test_a_large_jpeg_decoded_at_a_smaller_scale_looks_the_same():
    ramp = np.add.outer(np.arange(800), np.arange(900)) / 1700 * 255
    data = saved(Image.fromarray(ramp.astype(np.uint8)), "JPEG", quality=95)
    whole = Image.open(BytesIO(data)).resize((32, 32), Image.Resampling.BICUBIC, box=(50, 0, 850, 800))
    ours = images.decode(data, 32)[0].numpy().astype(int)
    assert np.abs(ours - np.asarray(whole).astype(int)).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied(orientation, form):
    upright = Image.new("RGB", (16, 16), "white")
    upright.paste((255, 0, 0), (0, 0, 8, 8))
    upright.paste((0, 0, 255), (8, 0, 16, 8))
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that the viewer's one undoes
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = images.decode(saved(stored, form, exif=exif, quality=100), 16).float()
    assert (pixels[:, 2, 2] - torch.tensor([255.0, 0, 0])).abs().max() < 40
    assert (pixels[:, 2, 13] - torch.tensor([0.0, 0, 255])).abs().max() < 40


@given(st.binary(max_size=80))
def test_damaged_exif_is_no_reason_to_refuse_an_image(exif):
    data = saved(Image.new("RGB", (8, 8), "white"), "JPEG", exif=b"Exif\x00\x00" + exif)
    assert images.decode(data, 4).shape == (3, 4, 4)


def test_sixteen_bits_are_scaled_not_cut_off():
    values = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    pixels = images.decode(saved(Image.fromarray(values), "PNG"), 8)
    assert (pixels[0].numpy() - values / 257).max() <= 0.5
    assert torch.equal(pixels[0], pixels[2])


def test_cmyk_becomes_rgb():
    red = images.decode(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100), 8)
    assert red[0].min() > 240
    assert red[1:].max() < 15


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_becomes_white(mode):
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0)).convert(mode)
    assert images.decode(saved(clear, "PNG"), 4).min() == 255


def test_a_palette_with_transparency_becomes_white_where_it_is_clear():
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, 200, 100, 0])
    image.paste(1, (4, 0, 8, 8))
    pixels = images.decode(saved(image, "PNG", transparency=bytes([0, 255])), 8)
    assert pixels[:, 0, 0].tolist() == [255, 255, 255]
    assert pixels[:, 0, 7].tolist() == [200, 100, 0]


def test_one_bit_becomes_black_and_white():
    assert images.decode(png_of_size(8, 8), 8).max() == 0


@pytest.mark.parametrize("size", [(9000, 9000), (13000, 13000), (19000, 19000), (1, 25_000_001)])
def test_a_bomb_is_refused_by_its_header(size):
    with pytest.raises(ImageError, match="megapixels") as caught:
        images.decode(png_of_size(*size), 8)
    assert caught.value.kind == "image too large"


def test_the_largest_image_allowed_is_read_whatever_its_shape():
    assert images.decode(png_of_size(1, 25_000_000), 8).shape == (3, 8, 8)


def test_a_file_over_the_limit_is_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(picture(0))
    monkeypatch.setattr(pictures, "MAX_BYTES", path.stat().st_size)
    images.decode(path, 4)
    monkeypatch.setattr(pictures, "MAX_BYTES", path.stat().st_size - 1)
    with pytest.raises(ImageError, match="expected at most"):
        images.decode(path, 4)


def test_an_animation_is_refused_and_a_still_gif_is_read():
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 100, 200)]
    for form in ("GIF", "PNG", "WEBP"):
        data = saved(frames[0], form, save_all=True, append_images=frames[1:])
        with pytest.raises(ImageError, match="animation") as caught:
            images.decode(data, 4)
        assert caught.value.kind == "animation"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "not an image"),
        (b"this is a text, whatever it is called", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image"),
        (b"\xff\xd8\xff", "broken image"),
        (picture(0, format="JPEG")[:-200], "broken image"),
        (picture(0)[:-100], "broken image"),
        (picture(0, format="WEBP")[:-50], "broken image"),
        (picture(0, format="GIF")[:-150], "broken image"),
        (picture(0, format="BMP")[:-50], "broken image"),
    ],
)
def test_what_is_no_whole_image_is_refused_with_path_and_remedy(data, kind, tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"picture\.jpg: expected .*, found .*; .*remove") as caught:
        images.decode(path, 8)
    assert caught.value.kind == kind


def test_a_pipe_a_folder_and_nothing_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", tmp_path, tmp_path / "absent.png"):
        with pytest.raises(ImageError, match="expected a"):
            images.decode(path, 8)


@given(st.sampled_from(images.FORMATS), st.integers(0, 2000), st.binary(min_size=1, max_size=4))
def test_a_damaged_file_gives_pixels_or_an_image_error(form, position, bytes_):
    data = bytearray(picture(3, format=form))
    position %= len(data)
    data[position : position + len(bytes_)] = bytes_
    assert outcome(bytes(data)) in ("pixels", "refused")


@given(
    st.sampled_from([b"", *pictures.MAGIC.values(), b"RIFF\x40\0\0\0WEBP", b"P6 5 5 255 "]),
    st.binary(max_size=200),
)
def test_made_up_files_give_an_image_error_or_pixels(magic, rest):
    assert outcome(magic + rest) in ("pixels", "refused")


def test_many_are_decoded_in_order_by_any_number_of_workers(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(40)]
    for i, path in enumerate(paths):
        path.write_bytes(picture(i))
    one_by_one = torch.stack([images.decode(path, 9) for path in paths])
    for workers in (0, 1, 3):
        assert torch.equal(images.decode_many(paths, 9, workers=workers), one_by_one)
    paths[3].write_bytes(b"x")
    paths[30].write_bytes(b"y")
    with pytest.raises(ImageError, match=r"(?s)3\.png.*30\.png"):
        images.decode_many(paths, 9)


def test_decoding_in_threads_leaves_the_warning_filters_as_they_were(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(picture(0))
    before = list(warnings.filters)
    threads = [threading.Thread(target=images.decode, args=(path, 8)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


@pytest.mark.parametrize("size", [0, -1, 2049, 1.5, True, "8"])
def test_a_size_out_of_range_is_refused(size):
    with pytest.raises(SettingError, match="size: expected a whole number"):
        images.decode(picture(0), size)


def test_file_names_are_shown_without_control_characters(tmp_path):
    path = tmp_path / "a\x1b[31m\n.png"
    path.write_bytes(b"no image")
    with pytest.raises(ImageError) as caught:
        images.decode(path, 8)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_squeezing_keeps_what_a_centre_square_cuts_off():
    wide = b"P6 4 2 255 " + bytes([255, 0, 0] + [0, 0, 0] * 2 + [0, 0, 255]) * 2
    cut, whole = (pictures.square(wide, 2, squeeze=squeeze) for squeeze in (False, True))
    assert not cut.any()
    assert whole[0, 0, 0] > 60
    assert whole[2, 0, 1] > 60
    assert whole.shape == (3, 2, 2)
