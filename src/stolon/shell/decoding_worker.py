r"""The process that decodes: ``python -m stolon.shell.decoding_worker SIZE CPU_SECONDS MEMORY``.

It imports NumPy and Pillow, no torch, gives up all that decoding does not need, and ends when its standard input
does. Parent and child exchange lengths and bytes over pipes, nothing that could be code::

    child  -> parent   b"+"                                          once, when it is ready
    parent -> child    length of the picture u32, picture            for each picture
    child  -> parent   b"+", length u32, pixels uint8 [3, S, S]      decoded
    child  -> parent   b"-", length u32, kind, b"\0", message        refused, in UTF-8
"""

import contextlib
import struct
import sys
from io import BytesIO

from PIL import Image

from stolon import pictures
from stolon.errors import ImageError

__all__ = ["FORMATS", "LENGTH", "MAX_PARTS", "MAX_REFUSAL", "MAX_SCANS", "main"]

FORMATS = ("JPEG", "PNG", "WEBP")
"""What the page takes: what cameras and browsers make."""

MAX_SCANS = 500_000_000
"""Largest product of a JPEG's scans and pixels. Every scan of a progressive JPEG goes over all of its pixels:
20 kB can keep a decoder busy for a minute. Editors write about ten scans."""

MAX_PARTS = 10_000
"""Most chunks of a PNG, and most segments of a JPEG's head; 8 MB in the 8 kB that are usual are a thousand."""

LENGTH = struct.Struct(">I")
MAX_REFUSAL = 2048
"""Most bytes of a kind and message."""

_WITHOUT_LENGTH = {0x00, 0x01, *range(0xD0, 0xDA)}  # JPEG's markers that are no segments


def main(arguments: list[str]) -> None:
    """Decode one picture after another until standard input ends.

    Args:
        arguments: side of the square in pixels, processor seconds per picture, bytes of address space.
    """
    size, cpu_s, memory = map(int, arguments)
    _limit_for_good(memory)
    source, target = sys.stdin.buffer, sys.stdout.buffer
    target.write(b"+")
    target.flush()
    while head := source.read(LENGTH.size):
        (length,) = LENGTH.unpack(head)
        data = source.read(length)
        _limit_processor_time(cpu_s)
        target.write(_answer(data, size))
        target.flush()


def _answer(data: bytes, size: int) -> bytes:
    try:
        _check_costs(data)
        pixels = pictures.square(data, size, formats=FORMATS).tobytes()
    except ImageError as error:
        refusal = f"{error.kind}\0{error}".encode(errors="replace")[:MAX_REFUSAL]
        return b"-" + LENGTH.pack(len(refusal)) + refusal
    return b"+" + LENGTH.pack(len(pixels)) + pixels


def _check_costs(data: bytes) -> None:
    """Refuse what Pillow would be busy with for long before it knows how large the picture is.

    Its parsers go over PNG's chunks and JPEG's segments one by one, and over junk between them byte by byte.

    Raises:
        ImageError: there are far more than any camera or editor writes.
    """
    if data.startswith(pictures.MAGIC["PNG"]):
        parts = _png_parts(data)
    elif data.startswith(pictures.MAGIC["JPEG"]):
        parts = _jpeg_parts(data)
        scans = data.count(b"\xff\xda")  # those of previews count as well
        if scans > 20 and scans * _pixels(data) > MAX_SCANS:
            parts = MAX_PARTS + 1
    else:
        return
    if parts > MAX_PARTS:
        raise ImageError(
            "image: expected a picture in a few parts, found one cut into many thousands; open it in an editor and "
            "save it again",
            "image too costly",
        )


def _png_parts(data: bytes) -> int:
    """How many chunks there are; at most one more than may be."""
    count, at = 0, 8
    while at + 8 <= len(data) and count <= MAX_PARTS:
        (length,) = LENGTH.unpack_from(data, at)
        count += 1
        if data[at + 4 : at + 8] == b"IEND":  # whatever comes behind is not looked at
            break
        at += 12 + length
    return count


def _jpeg_parts(data: bytes) -> int:
    """How many segments, and bytes between them, there are before the first scan; as above."""
    count, at = 0, 2
    while at + 4 <= len(data) and count <= MAX_PARTS:
        if data[at] != 0xFF:
            found = data.find(b"\xff", at)
            count, at = (count + found - at, found) if found > 0 else (count + len(data), len(data))
        elif data[at + 1] == 0xFF:
            count, at = count + 1, at + 1
        elif data[at + 1] == 0xDA:
            break
        elif data[at + 1] in _WITHOUT_LENGTH:
            count, at = count + 1, at + 2
        else:
            count, at = count + 1, at + 2 + max(2, int.from_bytes(data[at + 2 : at + 4]))
    return count


def _pixels(data: bytes) -> int:
    """What the header says; 0 where there is none that can be read, which is refused soon."""
    with (
        contextlib.suppress(*pictures.DECODER_ERRORS),
        pictures.quiet_pillow(),
        Image.open(BytesIO(data), formats=("JPEG",)) as image,
    ):
        return image.width * image.height
    return 0


def _limit_for_good(memory: int) -> None:
    """Give up what decoding never needs: memory, files, core dumps."""
    with contextlib.suppress(ImportError):  # Windows has no such limits; the clock still has
        import resource

        for what, most in (
            (resource.RLIMIT_AS, memory),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_NOFILE, 8),
            (resource.RLIMIT_CORE, 0),
        ):
            with contextlib.suppress(ValueError, OSError):  # macOS refuses a limit of address space
                resource.setrlimit(what, (most, most))


def _limit_processor_time(seconds: int) -> None:
    """Let the operating system kill this process after so much more processor time."""
    with contextlib.suppress(ImportError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
