"""Hostile files, made by rule: bombs, cut and flipped pictures, polyglots, loops, and odd ones that are right."""

import gzip
import io
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from benchmarks.hostile_requests import MIB, Case, form, picture, saved
from PIL import Image


def cases() -> Iterator[Case]:
    """All uploads of files, in a fixed order."""
    yield from _files("odd but right", right_ones(), "answered")
    yield from _files("formats", all_formats(), None)
    yield from _files("bombs", bombs(), "refused")
    yield from _files("cut", cut(), "either")
    yield from _files("flipped", flipped(60), "either")
    yield from _files("polyglots", polyglots(), None)
    yield from _files("metadata", metadata(), "either")
    yield from _files("sizes", sizes(), "refused")


def _files(group: str, files: Iterable[tuple], expect: str | None) -> Iterator[Case]:
    for name, data, *own in files:
        made = data if callable(data) else lambda data=data: data
        yield Case(
            group,
            name,
            lambda made=made: [form(made())],
            own[0] if own else expect or "refused",
            callable(data),
        )


def right_ones() -> Iterator[tuple[str, bytes]]:
    green = Image.new("RGB", (64, 48), (30, 200, 60))
    for kind in ("JPEG", "PNG", "WEBP"):
        yield f"{kind}", saved(green, kind)
        for turn in range(1, 10):
            exif = Image.Exif()
            exif[0x0112] = turn
            yield f"{kind} turned {turn}", saved(green, kind, exif=exif)
    yield "palette", saved(green.quantize(4), "PNG")
    yield "palette with clear", saved(green.quantize(4), "PNG", transparency=bytes([255] * 4))
    yield "RGBA", saved(green.convert("RGBA"), "PNG")
    yield "CMYK", saved(Image.new("CMYK", (64, 48), (200, 20, 200, 0)), "JPEG")
    yield "progressive", saved(green, "JPEG", progressive=True)
    yield "lossless", saved(green, "WEBP", lossless=True)
    yield "large profile", saved(green, "PNG", icc_profile=random.Random(0).randbytes(100_000))  # noqa: S311
    large = Image.new("RGB", (5000, 5000), (30, 200, 60))
    yield "25 megapixels", lambda: saved(large, "PNG")
    yield "25 megapixels JPEG", lambda: saved(large, "JPEG")
    yield "25 megapixels progressive", lambda: saved(large, "JPEG", progressive=True)
    yield "25 megapixels WebP", lambda: saved(large, "WEBP", method=0)
    yield "one row", saved(Image.new("RGB", (16000, 1), (30, 200, 60)), "PNG")
    yield "one pixel", saved(Image.new("RGB", (1, 1), (30, 200, 60)), "PNG")
    yield "with a script behind it", saved(green, "PNG") + b"<script>alert(1)</script>"
    yield "with a zip behind it", saved(green, "JPEG") + _zip()


def all_formats() -> Iterator[tuple[str, bytes, str]]:
    Image.init()
    for name in sorted(Image.SAVE):
        for mode in ("RGB", "L", "1", "P", "F", "I;16", "RGBA"):
            try:
                data = saved(Image.new("RGB", (64, 48), (30, 200, 60)).convert(mode), name)
            except Exception:  # noqa: BLE001, S112 - a format that cannot hold this mode, or be written at all
                continue
            if data:
                yield (
                    f"{name} {mode}",
                    data,
                    "either" if name in ("JPEG", "PNG", "WEBP", "MPO") else "refused",
                )
                break
    values = np.full((48, 64), 40_000, np.uint16)
    yield "PNG of 16 bits", saved(Image.fromarray(values), "PNG"), "either"


def bombs() -> Iterator[tuple]:
    for side in (5001, 9000, 13000, 19000):
        yield f"PNG {side}", lambda side=side: saved(Image.new("1", (side, side)), "PNG")
    for width, height in (
        (65535, 65535),
        (2**31 - 1, 2**31 - 1),
        (2**31 - 1, 1),
        (1, 2**31 - 1),
        (0, 5),
        (5, 0),
    ):
        yield f"PNG that says {width}x{height}", _png(width, height)
    yield "PNG 1x25,000,001", _png(1, 25_000_001)
    yield "PNG that says little and holds much", lambda: _png(8, 8, _zeros(200 * MIB)), "either"
    for chunk, head in ((b"zTXt", b"k\0\0"), (b"iCCP", b"k\0\0"), (b"iTXt", b"k\0\1\0\0\0")):
        yield (
            f"PNG with a {chunk.decode()} bomb",
            lambda chunk=chunk, head=head: _png(8, 8, before=_chunk(chunk, head + _zeros(300 * MIB))),
            "either",
        )
    yield "PNG with 300,000 chunks", lambda: _png(8, 8, before=_chunk(b"tEXt", b"a\0b") * 300_000), "either"
    yield (
        "PNG with a chunk of 2 GB",
        _png(8, 8, before=struct.pack(">I", 2**31 - 1) + b"tEXt" + b"a"),
        "either",
    )
    for side, scans, expect in (
        (5000, 100, "refused"),
        (5000, 5000, "refused"),
        (5000, 9, "either"),
        (500, 1900, "either"),
    ):
        yield (
            f"JPEG of {side * side} pixels with {scans} scans more",
            lambda side=side, scans=scans: _scans(side, scans),
            expect,
        )
    plain = saved(Image.new("L", (64, 64)), "JPEG")
    at = plain.index(b"\xff\xc0") + 5
    for side in (65535, 65500, 20000):
        yield f"JPEG that says {side}", plain[:at] + struct.pack(">HH", side, side) + plain[at + 4 :]
    yield "JPEG with 100,000 comments", plain[:2] + b"\xff\xfe\x00\x04ab" * 100_000 + plain[2:], "either"
    yield "JPEG of fill bytes", lambda: b"\xff\xd8" + b"\xff" * 4 * MIB
    webp = picture(form="WEBP")
    at = webp.index(b"\x9d\x01\x2a") + 3
    yield "WebP that says 16383", webp[:at] + struct.pack("<HH", 16383, 16383) + webp[at + 4 :]
    yield "GIF that says 65535", b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(100)
    yield "GIF of 10,000 frames", lambda: _frames("GIF", 10_000)
    yield "PNG of 500 frames", lambda: _frames("PNG", 500)
    yield "WebP of 500 frames", lambda: _frames("WEBP", 500)
    yield "SVG of a billion laughs", _laughs()
    yield "gzip bomb", lambda: gzip.compress(bytes(200 * MIB))


def cut() -> Iterator[tuple[str, bytes]]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    for kind in ("JPEG", "PNG", "WEBP"):
        data = saved(noise, kind)
        for part in (1, 2, 4, 8, 13, 30, len(data) // 3, len(data) // 2, len(data) - 20, len(data) - 1):
            yield f"{kind} after {part} bytes", data[:part]


def flipped(count: int) -> Iterator[tuple[str, bytes]]:
    random_ = random.Random(1)  # noqa: S311 - nothing is kept secret
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    files = {kind: saved(noise, kind) for kind in ("JPEG", "PNG", "WEBP")}
    for number in range(count):
        kind = ("JPEG", "PNG", "WEBP")[number % 3]
        data = bytearray(files[kind])
        for _ in range(1 + number % 7):
            data[random_.randrange(len(data) if number % 2 else 200)] = random_.randrange(256)
        yield f"{kind} flipped {number}", bytes(data)


def polyglots() -> Iterator[tuple]:
    png, jpeg = picture(), picture(form="JPEG")
    script = b"<script>alert(1)</script>"
    yield "HTML", b"<!doctype html>" + script
    yield "HTML, then a picture", script + png
    yield (
        "SVG with a script",
        b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)">' + script + b"</svg>",
    )
    yield (
        "SVG that reads a file",
        (
            b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg xmlns="http://www.w3.org/2000/svg"><text>&x;</text></svg>'
        ),
    )
    yield "GIF that is a script", b"GIF89a/*" + bytes(20) + b"*/=1;alert(1)"
    yield "BMP that is a script", b"BM/*" + bytes(50) + b"*/=1;alert(1)"
    yield "JPEG with a script as its comment", jpeg[:2] + _marker(0xFE, script) + jpeg[2:], "answered"
    yield "PNG with PHP as its text", _with_text(png, b"<?php system($_GET[0]); ?>"), "answered"
    yield (
        "PDF that holds a JPEG",
        b"%PDF-1.7\n1 0 obj << /Filter /DCTDecode >> stream\n" + jpeg + b"\nendstream",
    )
    yield "PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file\n"
    yield (
        "ImageMagick's MVG",
        b"push graphic-context\nviewbox 0 0 9 9\nfill 'url(https://x/x.jpg\"|id\")'\npop graphic-context",
    )
    yield "zip", _zip()
    yield "zip, then a picture", _zip() + png
    yield "pickle", pickle.dumps({"a": 1})
    yield "ELF", Path("/bin/true").read_bytes()[:100_000]
    yield "RIFF that is no WebP", b"RIFF" + struct.pack("<I", 100) + b"WAVEfmt " + bytes(100)
    yield "WebP without a picture", b"RIFF" + struct.pack("<I", 4) + b"WEBP"
    yield "MP4", b"\0\0\0\x18ftypmp42" + bytes(200)
    yield "HEIC", b"\0\0\0\x18ftypheic" + bytes(200)
    yield "AVIF that says it is", b"\0\0\0\x20ftypavif" + bytes(200)
    yield "JPEG in a TIFF", b"II*\0\x08\0\0\0" + jpeg
    yield "PNG with the end of lines of Windows", png.replace(b"\n", b"\r\n")
    yield "JPEG 2000's magic", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100)
    yield "text", b"a picture, honestly"
    yield "UTF-16", "a picture".encode("utf-16")


def metadata() -> Iterator[tuple[str, bytes]]:
    jpeg = picture(form="JPEG")
    tiff = b"II*\0\x08\0\0\0"
    loop = tiff + struct.pack("<H", 1) + struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<I", 8)
    many = tiff + struct.pack("<H", 65535) + struct.pack("<HHII", 0x0112, 3, 1, 6) * 5000
    far = tiff[:4] + struct.pack("<I", 2**32 - 1)
    count = tiff + struct.pack("<H", 1) + struct.pack("<HHII", 0x0112, 2, 2**32 - 1, 8)
    for name, exif in {
        "loop": loop,
        "65,535 entries": many,
        "far away": far,
        "4 GB of text": count,
        "none": b"",
    }.items():
        yield f"EXIF {name}", jpeg[:2] + _marker(0xE1, b"Exif\0\0" + exif[:60_000]) + jpeg[2:]
        yield f"MPF {name}", jpeg[:2] + _marker(0xE2, b"MPF\0" + exif[:60_000]) + jpeg[2:]
    pictures = (
        tiff
        + struct.pack("<H", 2)
        + struct.pack("<HHII", 45057, 4, 1, 10**9)
        + struct.pack("<HHII", 45058, 7, 16, 8)
    )
    yield "MPF that says a billion pictures", jpeg[:2] + _marker(0xE2, b"MPF\0" + pictures) + jpeg[2:]
    yield "a profile in 255 pieces", jpeg[:2] + b"".join(
        _marker(0xE2, b"ICC_PROFILE\0" + bytes([i, 255]) + b"x" * 1000) for i in range(1, 256)
    ) + jpeg[2:]  # fmt: skip
    yield (
        "Photoshop's blocks without end",
        jpeg[:2] + _marker(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0" * 4000) + jpeg[2:],
    )
    yield "a table that is too short", jpeg[:2] + _marker(0xDB, b"\0") + jpeg[2:]
    yield "a marker of length zero", jpeg[:2] + b"\xff\xe1\0\0" + jpeg[2:]
    png = picture()
    yield "PNG with EXIF that loops", png[:33] + _chunk(b"eXIf", loop) + png[33:]
    yield "PNG with a palette of 10,000 colours", png[:33] + _chunk(b"PLTE", bytes(30_000)) + png[33:]
    yield "PNG with no data", png[:33] + _chunk(b"IEND", b"")
    yield "PNG with two headers", png[:33] + png[8:33] + png[33:]
    yield "PNG with wrong checksums", png[:29] + b"\0\0\0\0" + png[33:]


def sizes() -> Iterator[tuple]:
    yield "nothing", b""
    yield "one byte", b"\xff"
    for name, byte in (
        ("zeros", b"\0"),
        ("ones", b"\xff"),
        ("lines", b"\r\n"),
        ("boundaries", b"\r\n--xyzz"),
    ):
        yield f"8 MiB of {name}", lambda byte=byte: byte * ((8 * MIB - 1000) // len(byte))
    yield "8 MiB of noise", lambda: random.Random(0).randbytes(8 * MIB - 1000)  # noqa: S311
    yield "a picture in 8 MiB", lambda: picture() + bytes(8 * MIB - 5000), "answered"
    yield "8 MiB and one", lambda: bytes(8 * MIB + 1)
    yield "20 MiB", lambda: bytes(20 * MIB)
    yield "40 MiB", lambda: bytes(40 * MIB)


def _png(width: int, height: int, data: bytes | None = None, before: bytes = b"") -> bytes:
    """A PNG of one-bit pixels that says it is so large."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes(64)) if data is None else data
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + before + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    )  # fmt: skip


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _with_text(png: bytes, text: bytes) -> bytes:
    return png[:33] + _chunk(b"tEXt", b"Comment\0" + text) + png[33:]


def _marker(number: int, data: bytes) -> bytes:
    return bytes([0xFF, number]) + struct.pack(">H", len(data) + 2) + data


def _zeros(count: int) -> bytes:
    """So many zeros, compressed."""
    return zlib.compress(bytes(count), 9)


def _scans(side: int, count: int) -> bytes:
    """A progressive JPEG whose last scan comes so many times more."""
    data = saved(Image.new("L", (side, side)), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * count + data[-2:]


def _frames(kind: str, count: int) -> bytes:
    frames = [Image.new("L", (2, 2), i % 256).convert("RGB") for i in range(count)]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:])


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "a")
    return file.getvalue()


def _laughs() -> bytes:
    lines = ['<!ENTITY a0 "ha">'] + [f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10)]
    return f'<?xml version="1.0"?><!DOCTYPE svg [{"".join(lines)}]><svg>&a9;</svg>'.encode()
