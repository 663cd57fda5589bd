"""Hostile requests, made by rule: broken forms and headers, foreign hosts and origins, bodies without end."""

import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from PIL import Image

HOST = "127.0.0.1"
MIB = 2**20
RIGHT = b'<p class="label"><bdi>green</bdi></p>'


@dataclass(frozen=True)
class Case:
    """One upload.

    Attributes:
        group: what it is one of.
        name: which of these.
        pieces: what is sent, made anew each time.
        expect: ``"answered"`` (rightly), ``"refused"``, or ``"either"``.
        heavy: made only when it is sent, since it takes long or is large.
    """

    group: str
    name: str
    pieces: Callable[[], Iterable[bytes]]
    expect: str
    heavy: bool = False

    def failure(self, status: int, body: bytes) -> str:
        """What is wrong with an answer; empty where nothing is."""
        refused = status == 0 or 400 <= status < 500
        answered = status == 200 and (RIGHT in body or self.expect == "either")
        if {"answered": answered, "refused": refused, "either": answered or refused}[self.expect]:
            return ""
        return f"expected it {self.expect}, found {status} {body[:200]!r}"


def picture(colour: str = "green", form: str = "PNG", size: tuple[int, int] = (64, 48), **options) -> bytes:
    """A file of one colour."""
    return saved(
        Image.new("RGB", size, {"green": (30, 200, 60), "blue": (20, 30, 220)}[colour]), form, **options
    )


def saved(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def form(data: bytes, **changes) -> bytes:
    """A whole request that uploads ``data`` as the page does.

    Args:
        data: the file.
        changes: ``file`` its name, ``part`` more lines in the part's head, ``kind`` the content type, ``boundary``,
            ``head`` more header lines, ``host``, ``length`` what it says its length is, ``field`` the field's name,
            ``path``.
    """
    boundary = changes.get("boundary", "xyzzy")
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{changes.get("field", "picture")}"; '
        f'filename="{changes.get("file", "a.png")}"\r\n{changes.get("part", "Content-Type: image/png")}\r\n\r\n'
    ).encode() + data + f"\r\n--{boundary}--\r\n".encode()  # fmt: skip
    return request(body, **changes)


def request(body: bytes, **changes) -> bytes:
    """A POST with a body of any kind; ``changes`` as for :func:`form`."""
    kind = changes.get("kind", f"multipart/form-data; boundary={changes.get('boundary', 'xyzzy')}")
    head = (
        f"POST {changes.get('path', '/classify')} HTTP/1.1\r\nHost: {changes.get('host', HOST)}\r\nHX-Request: true\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {changes.get('length', len(body))}\r\nConnection: close\r\n"
        f"{changes.get('head', '')}\r\n"
    )
    return head.encode("latin-1", "replace") + body


def names() -> Iterator[Case]:
    files = (
        "../../../etc/passwd", "/etc/passwd", "a\0.png", "<script>alert(1)</script>", "x" * 3000, "CON", "a.php", "",
        "\u202egnp.exe", "..\\..\\windows", "'; drop table x; --", "%00", "${jndi:ldap://x}", "{{7*7}}",
        "a" * 255 + ".png",
    )  # fmt: skip
    for file in files:
        yield Case("file names", repr(file[:40]), lambda file=file: [form(picture(), file=file)], "either")


def forms() -> Iterator[Case]:
    green = picture()

    def case(name: str, sent: bytes, expect: str = "refused") -> Case:
        return Case("forms", name, lambda: [sent], expect)

    kinds = (
        "", "text/plain", "image/png", "application/json", "application/x-www-form-urlencoded", "multipart/form-data",
        "multipart/form-data; boundary=", "multipart/mixed; boundary=xyzzy", "a" * 5000,
        "multipart/form-data; boundary=" + "b" * 500,
    )  # fmt: skip
    for kind in kinds:
        yield case(f"of type {kind[:40]!r}", form(green, kind=kind))
    for part in ("Content-Type: text/html", "Content-Type: application/x-sh", "Content-Type: <script>"):
        yield case(f"whose part says {part}", form(green, part=part), "answered")
    yield case("of the raw picture", request(green, kind="image/png"))
    yield case("of another field", form(green, field="other"))
    yield case("of a field of 3,000 letters", form(green, field="p" * 3000))
    yield case("whose part has 100 headers", form(green, part="X: y\r\n" * 99 + "X: y"))
    yield case("whose part has a header of 100 kB", form(green, part="X: " + "y" * 100_000))
    yield case("whose part encodes", form(green, part="Content-Transfer-Encoding: base64"), "answered")
    two = b'--xyzzy\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\n' + green + b"\r\n"
    yield case("of two pictures", request(two * 2 + b"--xyzzy--\r\n"))
    yield case("of 10,000 parts", request((b"--xyzzy\r\na: b\r\n\r\n\r\n") * 10_000 + b"--xyzzy--\r\n"))
    yield case("without an end", request(two))
    yield case("that begins with lines", request(b"\r\n" * 1000 + two + b"--xyzzy--\r\n"), "either")
    yield case("that ends with 4 MiB of lines", request(two + b"--xyzzy--\r\n" + b"\r\n" * 2 * MIB), "either")
    yield case("with a wrong boundary", form(green, kind="multipart/form-data; boundary=other"))
    yield case("with forms in it", form(form(green)))
    yield case("that is empty", request(b""))
    yield case("to another place", form(green, path="/"))
    yield case("to a file", form(green, path="/static/page.css"))
    for value in ("true", "false", "<script>", "x" * 4000):
        yield case(f"with HX-Request {value[:9]}", form(green, head=f"HX-Request: {value}\r\n"), "either")


def protocol() -> Iterator[Case]:
    green = picture()

    def case(name: str, sent: bytes, expect: str = "refused") -> Case:
        return Case("protocol", name, lambda: [sent], expect)

    for host in (
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:80",
        "[::2]",
        "10.0.0.1",
        "",
        "127.0.0.1@evil",
    ):
        yield case(f"host {host!r}", form(green, host=host))
    for origin in (
        "http://evil.example",
        "null",
        "http://127.0.0.1:1",
        "https://localhost",
        "file://",
        "http://127.0.0.1.evil.example",
    ):
        yield case(f"origin {origin}", form(green, head=f"Origin: {origin}\r\n"))
    for site in ("cross-site", "same-site"):
        yield case(f"a form from {site}", form(green, head=f"Sec-Fetch-Site: {site}\r\n"))
    yield case("a header of 300 kB", form(green, head="X: " + "y" * 300_000 + "\r\n"))
    yield case("a header of 20 kB", form(green, head="X: " + "y" * 20_000 + "\r\n"))
    yield case("20,000 headers", form(green, head="X: y\r\n" * 20_000))
    yield case("a cookie of 60 kB", form(green, head="Cookie: " + "y" * 60_000 + "\r\n"))
    yield case("a path of 300 kB", form(green, path="/" + "x" * 300_000))
    yield case("a length of less than nothing", form(green, length=-1))
    yield case("a length of 10^18", form(green, length=10**18))
    yield case("a length in words", form(green, length="many"))
    yield case("a length that is short", form(green, length=200))
    yield case("two lengths", form(green, head="Content-Length: 5\r\n"))
    yield case("two hosts", form(green, head="Host: evil.example\r\n"))
    yield case("a length and chunks", form(green, head="Transfer-Encoding: chunked\r\n"))
    yield case("a method that is none", b"BREW / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    yield case("DELETE", b"DELETE / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    yield case("TRACE", b"TRACE / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    yield case("CONNECT", b"CONNECT evil.example:443 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nContent-Length: 1\r\n\r\nx"
    yield case("a websocket", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + upgrade)
    yield case("HTTP/2 without asking", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100))
    yield case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600) + b"\r\n\r\n")
    yield case("no host", b"GET / HTTP/1.1\r\n\r\n")
    yield case("a request in a request", form(b"GET / HTTP/1.1\r\nHost: evil\r\n\r\n"))
    yield case("lines without returns", b"GET / HTTP/1.1\nHost: evil.example\n\n")
    yield case("folded headers", b"GET / HTTP/1.1\r\nHost: evil\r\n example\r\n\r\n")
    yield case("a path upwards", b"GET /static/../../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    yield case(
        "a path upwards, encoded", b"GET /static/%2e%2e%2f%2e%2e%2fapp.py HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    )
    yield case("another's address", b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n")

    def long(name: str, head: bytes, piece: bytes, count: int) -> Case:
        return Case(
            "protocol",
            name,
            lambda: itertools.chain([head], itertools.repeat(piece, count)),
            "refused",
            heavy=True,
        )

    head = form(green, length=10**9).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    yield long("a body without end", head, bytes(65536), 3000)
    yield long("a body of 30 MiB", head.replace(b"1000000000", b"%d" % (30 * MIB)), bytes(4096), 7680)
    chunks = head.replace(b"Content-Length: 1000000000", b"Transfer-Encoding: chunked")
    yield long("chunks of one byte", chunks, b"1\r\nx\r\n" * 1000, 2000)
    yield Case("protocol", "a picture byte by byte", lambda: (bytes([b]) for b in form(green)), "answered")
