"""Pixels from bytes that nobody vouches for, by Pillow and NumPy alone: no torch, no files, no network.

Every byte is hostile until it is pixels. What is taken is decided by content: a list of formats, at most 25
megapixels, checked before anything is decoded, one picture (an animation is refused). EXIF orientation is
applied, palettes, grey, CMYK and 16-bit values become 8-bit RGB, and what is transparent becomes white. The
shorter side is scaled to ``size`` (bicubic) and the centre square is kept.

JPEGs much larger than ``size`` are decoded at half, quarter or eighth scale, never below twice ``size``.

Many files are read by :mod:`stolon.streams.images`; uploads are decoded in a process of their own by
:mod:`stolon.shell.decoding`, which is why this module imports so little.
"""

import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import (
    Image,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401 - Pillow finds it only by importing all forty of its parsers
)

from stolon.errors import ImageError, SettingError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM")
"""The formats that are tried; Pillow knows over forty, most of which few people have looked at."""

MAX_BYTES = 64 * 2**20
"""Largest file, in bytes."""

MAX_PIXELS = 25_000_000
"""Largest picture, in pixels; 10 kB can hold 81 megapixels, which take 400 MB as RGB."""

MAX_SIZE = 2048
"""Largest ``size``, in pixels."""

RECIPE = "rgb8/bicubic/centre/1"
SQUEEZED = "rgb8/bicubic/whole/1"
"""Names how pixels are made from files; part of the digest of data read from files."""

# Pillow documents OSError. Damaged and made-up files raise these as well, from its parsers' insides.
DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError,
    AssertionError, RuntimeError, NotImplementedError, MemoryError, struct.error, zlib.error,
)  # fmt: skip
MAGIC = {
    "JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n", "WEBP": b"RIFF", "GIF": b"GIF8", "BMP": b"BM",
    "PPM": b"P6",
}  # fmt: skip
"""How files of each format begin."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation


def printable(path: str | Path) -> str:
    """A path as it can be shown anywhere: control characters and bytes that are no text are escaped."""
    text = str(path)
    return text if text.isprintable() else repr(text)[1:-1]


def check_size(size: int) -> None:
    """Refuse a size that is no whole number from 1 to 2048.

    Raises:
        SettingError: it is not.
    """
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_SIZE:
        raise SettingError(f"size: expected a whole number of pixels from 1 to {MAX_SIZE}, found {size!r}")


def read(path: Path) -> bytes:
    """A regular file's content, if it is not too large; a pipe or device would never end.

    Raises:
        ImageError: it cannot be read, is no file, or is larger than :data:`MAX_BYTES`.
    """
    name = printable(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{name}: expected a file, found something else; remove it", "not an image")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)  # bounded again: the file may have grown since
    except OSError as error:
        reason = error.strerror or error
        raise ImageError(
            f"{name}: expected a readable file, found: {reason}; check that it is there and may be read",
            "unreadable file",
        ) from error
    if len(data) > MAX_BYTES:
        raise ImageError(
            f"{name}: expected at most {MAX_BYTES:,} bytes, found {max(status.st_size, len(data)):,}; "
            "save it smaller",
            "image too large",
        )
    return data


def square(
    data: bytes,
    size: int,
    name: str = "image",
    *,
    formats: tuple[str, ...] = FORMATS,
    squeeze: bool = False,
) -> NDArray[np.uint8]:
    """One picture as uint8 [3, size, size].

    Args:
        data: a file's content.
        size: side of the square in pixels, 1 to 2048.
        name: what the picture is called in messages.
        formats: the formats to try, of :data:`FORMATS`.
        squeeze: take the whole picture, whatever its proportions; else its centre square.

    Raises:
        ImageError: not a picture that we take; says what was found and what to do.
        SettingError: ``size`` is out of its range.

    Example:
        >>> square(b"P6 1 1 255 " + bytes([255, 0, 0]), 1).flatten().tolist()
        [255, 0, 0]
    """
    check_size(size)
    try:
        with quiet_pillow(), Image.open(BytesIO(data), formats=formats) as image:
            _check_header(image, name)
            pixels: NDArray[np.uint8] = np.asarray(_upright_square(image, size, name, squeeze=squeeze))
            return np.array(pixels.transpose(2, 0, 1), order="C")  # a copy of its own, writable
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{name}: expected at most {MAX_PIXELS / 1e6:.0f} megapixels, found far more ({error}); remove "
            "it or save it smaller",
            "image too large",
        ) from error
    except UnidentifiedImageError as error:
        if data.startswith(tuple(MAGIC[form] for form in formats)):
            raise ImageError(
                f"{name}: expected a whole image, found only the beginning of one ({len(data):,} bytes); "
                "replace or remove it"
            ) from error
        known = ", ".join(formats)
        found = "an empty file" if not data else f"{len(data):,} bytes beginning {data[:8]!r}"
        raise ImageError(
            f"{name}: expected an image ({known}), found {found}; remove it, or save it as one of these",
            "not an image",
        ) from error
    except MemoryError as error:
        raise ImageError(
            f"{name}: expected an image that fits into memory, found one that does not; save it smaller",
            "image too large",
        ) from error
    except DECODER_ERRORS as error:
        raise ImageError(
            f"{name}: expected a whole image, found a damaged one ({str(error) or type(error).__name__}); "
            "replace or remove it"
        ) from error


def _check_header(image: Image.Image, name: str) -> None:
    """Refuse by what the header says, before anything is decoded."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name}: expected at most {MAX_PIXELS / 1e6:.0f} megapixels, found {width}x{height} "
            f"({width * height / 1e6:.0f} megapixels); save it smaller",
            "image too large",
        )
    # Many cameras append a preview to a JPEG (format MPO); its first picture is the picture.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise ImageError(
            f"{name}: expected one picture, found an animation; save the frame that is meant", "animation"
        )


def _upright_square(image: Image.Image, size: int, name: str, *, squeeze: bool) -> Image.Image:
    image.draft(None, (2 * size, 2 * size))  # JPEG only: skips work, but reads every byte all the same
    image.load()
    turn = _TURNS.get(_orientation(image.info.get("exif")))
    plain = _resizable(image, name)
    width, height = plain.size if squeeze else (min(plain.size),) * 2
    left, top = (plain.width - width) / 2, (plain.height - height) / 2
    # The square is cut out while scaling: scaling first would turn 1x25,000,000 pixels into a bomb.
    box = (left, top, left + width, top + height)
    square = plain.resize((size, size), Image.Resampling.BICUBIC, box=box)
    if square.mode in ("RGBA", "LA"):
        paper = Image.new("RGBA", square.size, "white")
        square = Image.alpha_composite(paper, square.convert("RGBA"))
    square = square.convert("RGB")
    return square if turn is None else square.transpose(turn)


def _resizable(image: Image.Image, name: str) -> Image.Image:
    """The image in a mode whose values can be averaged: L, LA, RGB, RGBA or CMYK with 8 bits."""
    mode = image.mode
    if mode == "I" or mode.startswith("I;16"):  # Pillow's own conversion cuts 16 bits off at 255
        return _eight_bits(image)
    if mode == "F":
        raise ImageError(f"{name}: expected 8 or 16 bits per value, found floating point; save it as PNG")
    if "transparency" in image.info or mode in ("PA", "La", "RGBa"):
        return image.convert("RGBA")
    if mode == "1":
        return image.convert("L")
    return image if mode in ("L", "LA", "RGB", "RGBA", "CMYK") else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """A 16-bit image in 8 bits, by a million pixels at a time: as a whole it would take 500 MB."""
    scaled = np.empty((image.height, image.width), np.uint8)
    rows = max(1, 2**20 // image.width)
    for top in range(0, image.height, rows):
        part = image.crop((0, top, image.width, min(top + rows, image.height)))
        values = np.asarray(part).astype(np.float32)
        scaled[top : top + rows] = (values.clip(0, 65535) / 257 + 0.5).astype(np.uint8)
    return Image.fromarray(scaled)


def _orientation(exif: Any) -> int:  # noqa: ANN401 - whatever a file's metadata decode to
    """The EXIF orientation, 1 (upright) where there is none or it cannot be made out.

    Read here because Pillow's reader walks all of the metadata and warns or fails on any damage, which
    cameras and editors leave often enough, while the pixels are well.
    """
    if not isinstance(exif, bytes):
        return 1
    body = exif.removeprefix(b"Exif\x00\x00")
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(body[:4])
    if order is None or len(body) < 8:
        return 1
    (start,) = struct.unpack_from(f"{order}I", body, 4)
    if start + 2 > len(body):
        return 1
    (count,) = struct.unpack_from(f"{order}H", body, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(body) - 11), 12):
        tag, kind, amount, value = struct.unpack_from(f"{order}HHIH", body, entry)
        if (tag, kind, amount) == (0x0112, 3, 1):
            return int(value)
    return 1


_QUIET = ExitStack()
_QUIET_LOCK = threading.Lock()
_quiet_users = 0


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Ignore Pillow's warnings about metadata, and make its warning about bombs an error.

    ``warnings.catch_warnings`` swaps a global list and is unsafe where threads overlap; so the first one
    in swaps it, and the last one out swaps it back.
    """
    global _quiet_users  # noqa: PLW0603 - the state that is shared is the interpreter's list of filters
    with _QUIET_LOCK:
        if _quiet_users == 0:
            _QUIET.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module=r"PIL\.")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
        _quiet_users += 1
    try:
        yield
    finally:
        with _QUIET_LOCK:
            _quiet_users -= 1
            if _quiet_users == 0:
                _QUIET.close()
