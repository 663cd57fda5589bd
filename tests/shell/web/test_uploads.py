import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from tests.shell.web.conftest import picture

from stolon.shell.web.limits import Limits
from stolon.shell.web.uploads import Uploads

HEAD = b'--b\r\nContent-Disposition: form-data; name="picture"; filename="x"\r\n\r\n'
TAIL = b"\r\n--b--\r\n"


def form(data: bytes) -> bytes:
    return HEAD + data + TAIL


def request(
    pieces: Iterable[bytes | float], *, kind: str = "multipart/form-data; boundary=b", length: int = 0
) -> Request:
    """An upload that arrives in pieces; a number is a pause, in seconds; ... is a pause without end."""

    async def arrive() -> AsyncIterator[dict[str, object]]:
        for piece in pieces:
            if isinstance(piece, bytes):
                yield {"type": "http.request", "body": piece, "more_body": True}
            else:
                await asyncio.sleep(piece)
        yield {"type": "http.request", "body": b"", "more_body": False}

    pieces = list(pieces)
    length = length or sum(len(piece) for piece in pieces if isinstance(piece, bytes))
    headers = [(b"content-type", kind.encode()), (b"content-length", str(length).encode())]
    return Request({"type": "http", "method": "POST", "headers": headers}, arrive().__anext__)


def read(uploads: Uploads, sent: Request) -> bytes:
    async def run() -> bytes:
        async with uploads.picture(sent) as upload:
            return b"".join(upload.pieces)

    return asyncio.run(run())


def refusal(uploads: Uploads, sent: Request) -> int:
    with pytest.raises(HTTPException) as caught:
        read(uploads, sent)
    assert uploads.held == 0
    return caught.value.status_code


@pytest.fixture
def uploads() -> Uploads:
    return Uploads(Limits(body=1000, drained=4000, held=2500, body_s=0.2))


@pytest.mark.parametrize("step", [1, 7, 500])
def test_the_file_is_what_was_sent_however_it_is_cut(uploads, step):
    data = b"\r\n--b\r\n-not-"[3:] + bytes(range(256)) + b"\r\n--\r\n\r\n--c"
    sent = form(data)
    assert read(uploads, request(sent[i : i + step] for i in range(0, len(sent), step))) == data


def test_the_limit_is_of_the_whole_body(uploads):
    most = 1000 - len(form(b""))
    assert len(read(uploads, request([form(bytes(most))]))) == most
    assert refusal(uploads, request([form(bytes(most + 1))])) == 413


def test_a_body_longer_than_it_says_is_counted_while_it_is_read(uploads):
    assert refusal(uploads, request([form(bytes(2000))], length=500)) == 413


def test_a_larger_one_is_read_to_its_end_so_that_the_browser_sees_the_answer_but_not_for_ever(uploads):
    def unread(count: int, length: int) -> int:
        pieces = [HEAD, *[bytes(500)] * count]

        async def arrive() -> dict[str, object]:
            piece = pieces.pop(0) if pieces else b""
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        assert refusal(uploads, Request(request([], length=length).scope, arrive)) == 413
        return len(pieces)

    assert unread(6, 3000) == 0
    assert 90 <= unread(100, 600) <= 93  # it lied about its length
    assert unread(100, 50_000) == 101  # not a byte is read


def test_an_upload_that_takes_too_long_is_given_up(uploads):
    assert refusal(uploads, request([form(b"x")[:-3], 5.0])) == 408


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "image/png", "application/x-www-form-urlencoded", "multipart/form-data",
     "multipart/mixed; boundary=b", "multipart/form-data; boundary=", "multipart/form-data; boundary"],
)  # fmt: skip
def test_what_is_no_form_is_refused_by_its_type(uploads, kind):
    assert refusal(uploads, request([form(b"x")], kind=kind)) == 415


@pytest.mark.parametrize(
    "body",
    [
        b"nothing",
        b"--b--\r\n",
        HEAD + b"no end",
        form(b"x")[:-4],
        form(b"x").replace(b'"picture"', b'"other"'),
        form(b"x").replace(b'name="picture"; ', b""),
        form(b"x").replace(b"Content-Disposition", b"Content-Type"),
        HEAD + b"one\r\n" + HEAD + b"two" + TAIL,
        b"--b\r\n" + b"A: b\r\n" * 20 + HEAD[5:] + b"x" + TAIL,
        b"--b\r\nContent-Disposition: " + b"x" * 900,
        b"--b\r\nno colon\r\n\r\nx" + TAIL,
        form(b"x").replace(b"--b", b"--c"),
    ],
    ids=range(12),
)
def test_a_form_of_anything_but_one_picture_is_refused(uploads, body):
    assert refusal(uploads, request([body])) == 400


def test_a_boundary_that_is_too_long_is_refused(uploads):
    assert refusal(uploads, request([form(b"x")], kind="multipart/form-data; boundary=" + "b" * 300)) == 400


def test_no_file_chosen_is_told_as_such(uploads):
    assert refusal(uploads, request([form(b"")])) == 422


def test_memory_of_all_uploads_is_bounded_and_small_ones_are_not_pushed_out_by_large_ones():
    uploads = Uploads(Limits(body=1000, held=2500, body_s=20))

    async def upload(*pieces: bytes | float) -> int | bytes:
        try:
            async with uploads.picture(request(pieces)) as upload:
                return b"".join(upload.pieces)
        except HTTPException as error:
            return error.status_code

    async def run() -> tuple[list[int | bytes], int | bytes]:
        hogs = [asyncio.create_task(upload(HEAD + bytes(700 + i), 15.0, TAIL)) for i in range(3)]
        await asyncio.sleep(0.05)
        assert 2000 < uploads.held <= 2500
        answer = await upload(form(b"a" * 450))
        assert uploads.held <= 2500
        done, pending = await asyncio.wait(hogs, timeout=1)
        for one in pending:
            one.cancel()
        return [one.result() for one in done], answer

    refused, answer = asyncio.run(run())
    assert answer == b"a" * 450
    assert refused == [429]


def test_so_many_are_worked_on_so_many_wait_and_the_others_are_told_to_come_back():
    uploads = Uploads(Limits(decodes=2, queue=3))

    async def run() -> tuple[list[str], int]:
        told: list[str] = []
        go = asyncio.Event()

        async def work() -> None:
            try:
                async with uploads.turn():
                    told.append("begun")
                    await go.wait()
            except HTTPException as error:
                told.append(f"{error.status_code}, again in {error.headers['Retry-After']} s")

        tasks = [asyncio.create_task(work()) for _ in range(7)]
        await asyncio.sleep(0.05)
        before = sorted(told)
        go.set()
        await asyncio.gather(*tasks)
        return before, told.count("begun")

    assert asyncio.run(run()) == (["429, again in 2 s"] * 2 + ["begun"] * 2, 5)


def test_pixels_of_the_page_are_read_through_it(uploads):
    data = picture("red")
    assert read(uploads, request([form(data)])) == data
