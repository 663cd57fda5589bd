"""Pictures from files that nobody vouches for: every byte is hostile until it is pixels.

What is taken is decided by content, never by a file's name: JPEG, PNG, WebP, GIF, BMP and PPM, up to 64 MiB
and 25 megapixels, both checked before anything is decoded; one picture each (an animation is refused).
EXIF orientation is applied, palettes, grey, CMYK and 16-bit values become 8-bit RGB, and what is
transparent becomes white. The shorter side is scaled to ``size`` (bicubic) and the centre square is kept.

JPEGs much larger than ``size`` are decoded at half, quarter or eighth scale, never below twice ``size``.
"""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from stolon import pictures, settings
from stolon.errors import ImageError
from stolon.pictures import (
    FORMATS,
    MAX_BYTES,
    MAX_PIXELS,
    MAX_SIZE,
    RECIPE,
    SQUEEZED,
    check_size,
    printable,
    read,
)

__all__ = [
    "FORMATS",
    "MAX_BYTES",
    "MAX_PIXELS",
    "MAX_SIZE",
    "RECIPE",
    "SQUEEZED",
    "check_size",
    "decode",
    "decode_many",
    "empty",
    "printable",
    "read_many",
    "usable_cores",
]

_CHUNK = 16  # pictures per piece of work


def decode(image: str | Path | bytes, size: int) -> Tensor:
    """One picture as uint8 [3, size, size].

    Args:
        image: a path, or a file's content.
        size: side of the square in pixels, 1 to 2048.

    Raises:
        ImageError: not a picture that we take; says what was found and what to do.
        SettingError: ``size`` is out of its range.

    Example:
        >>> decode(b"P6 1 1 255 " + bytes([255, 0, 0]), 1).flatten()
        tensor([255,   0,   0], dtype=torch.uint8)
    """
    check_size(size)
    if isinstance(image, bytes):
        return torch.from_numpy(pictures.square(image, size, "image"))
    return torch.from_numpy(pictures.square(read(Path(image)), size, printable(image)))


def decode_many(paths: Sequence[str | Path], size: int, *, workers: int = 0) -> Tensor:
    """Pictures as uint8 [N, 3, size, size], in the order given.

    Args:
        paths: files.
        size: side of the square in pixels, 1 to 2048.
        workers: threads that decode; 0 takes one per core that this process may use.

    Raises:
        ImageError: one or more are no pictures that we take; names all of them.
        SettingError: ``size`` or ``workers`` is out of its range.
    """
    pixels = empty(len(paths), size)
    answers = read_many([Path(path) for path in paths], size, out=pixels, workers=workers)
    errors = [answer for answer in answers if isinstance(answer, ImageError)]
    if errors:
        raise ImageError("\n".join(map(str, errors)), errors[0].kind)
    return pixels


def empty(count: int, size: int) -> Tensor:
    """Room for pictures, uint8 [count, 3, size, size], to be filled by :func:`read_many`."""
    check_size(size)
    return torch.empty((count, 3, size, size), dtype=torch.uint8)


def read_many(
    paths: Sequence[Path], size: int, *, out: Tensor | None = None, workers: int = 0, squeeze: bool = False
) -> list[str | ImageError]:
    """Read, check and decode files once: for each the SHA-256 of its bytes, or what is wrong with it.

    Args:
        paths: files.
        size: side of the square in pixels.
        out: where the pixels go, uint8 [N, 3, size, size]; without it they are dropped after the check.
        workers: threads that decode; 0 takes one per core that this process may use.
        squeeze: take whole pictures, whatever their proportions; else their centre squares.

    Raises:
        SettingError: ``size`` or ``workers`` is out of its range.
    """
    check_size(size)
    settings.within("workers", workers, 0, 256)
    target = None if out is None else out.numpy()

    def one(index: int) -> str | ImageError:
        try:
            data = read(paths[index])
            pixels = pictures.square(data, size, printable(paths[index]), squeeze=squeeze)
        except ImageError as error:
            return error
        if target is not None:
            target[index] = pixels
        return hashlib.sha256(data).hexdigest()

    pieces = [range(start, min(start + _CHUNK, len(paths))) for start in range(0, len(paths), _CHUNK)]
    threads = min(workers or usable_cores(), len(pieces))
    with pictures.quiet_pillow():
        if threads <= 1:
            return [one(index) for index in range(len(paths))]
        # Threads, not processes: Pillow and hashlib release the GIL while they work, pixels land in place,
        # and nothing is started or copied. Measured numbers are in docs/streams.md.
        with ThreadPoolExecutor(threads) as pool:
            return [answer for piece in pool.map(lambda p: [one(i) for i in p], pieces) for answer in piece]


def usable_cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
