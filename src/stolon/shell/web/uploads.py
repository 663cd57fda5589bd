"""Reading an upload: counted while it is read, against the clock, never to disk."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from stolon.shell.web.limits import Limits

__all__ = ["FIELD", "Upload", "Uploads"]

FIELD: Final = "picture"
"""The one field of the form."""

_DISPOSITION: Final = b"content-disposition"
_PIECE: Final = 2**18
_quiet = logging.getLogger(__name__)  # the parser warns of everything that it refuses, which anybody may send
_quiet.setLevel(logging.ERROR)


@final
class Uploads:
    """All uploads that are being read or worked on, and the memory they share.

    Args:
        limits: what is taken.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._all: list[Upload] = []
        self._reading: list[Upload] = []
        self._turns = asyncio.Semaphore(limits.decodes)
        self._waiting = 0

    @property
    def held(self) -> int:
        """Bytes of all files in memory."""
        return sum(upload.size for upload in self._all)

    @asynccontextmanager
    async def picture(self, request: Request) -> AsyncIterator["Upload"]:
        """The uploaded file, whole; its memory is counted until it is dropped or the block is left.

        Raises:
            HTTPException: what was sent is no form of one picture, too large, or too slow; or there is too much
                else to do. The detail is a sentence for people.
        """
        upload = Upload(request, self._limits.body)
        self._all.append(upload)
        try:
            await self._read(upload)
            yield upload
        finally:
            self._all.remove(upload)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until there is something free to decode and classify with.

        Raises:
            HTTPException: too many wait for it already.
        """
        if self._waiting >= self._limits.queue:
            raise _busy()
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turns.release()

    async def _read(self, upload: "Upload") -> None:
        declared = int(upload.request.headers.get("content-length") or 0)
        if declared > self._limits.drained:
            raise _too_large(self._limits.body)
        too_large = declared > self._limits.body
        count = 0
        self._reading.append(upload)
        try:
            async with asyncio.timeout(self._limits.body_s) as upload.clock:
                async for chunk in upload.request.stream():
                    count += len(chunk)
                    too_large = too_large or count > self._limits.body
                    if count > self._limits.drained:
                        break
                    if not too_large:
                        upload.take(chunk)
                        self._make_room()
                    else:
                        upload.drop()
        except TimeoutError:
            if upload.evicted:
                raise _busy() from None
            raise HTTPException(408, "The picture took too long to arrive.") from None
        except ClientDisconnect:
            raise HTTPException(400, "The picture did not arrive.") from None
        finally:
            if upload in self._reading:
                self._reading.remove(upload)
        if too_large:
            raise _too_large(self._limits.body)
        if upload.evicted:  # in the very moment in which it was complete
            raise _busy()
        upload.finish()

    def _make_room(self) -> None:
        """While more is held than may be, give up the largest upload that is still arriving."""
        while self.held > self._limits.held and self._reading:
            largest = max(self._reading, key=lambda upload: upload.size)
            self._reading.remove(largest)
            largest.evict()


@final
class Upload:
    """One form on its way in.

    Attributes:
        pieces: the file's content.
        size: bytes of it.
        evicted: whether it had to make room for others.
    """

    def __init__(self, request: Request, most: int) -> None:
        self.request = request
        self.pieces: list[bytes] = []
        self.size = 0
        self._piece = bytearray()
        self.clock: asyncio.Timeout | None = None
        self.evicted = False
        self._parts = 0
        self._name = bytearray()
        self._value = bytearray()
        self._field: str | None = None
        self._whole = False
        kind, options = parse_options_header(request.headers.get("content-type"))
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise HTTPException(415, "Only a form with one picture is taken.")
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._on_part,
                    "on_header_field": _into(self._name),
                    "on_header_value": _into(self._value),
                    "on_header_end": self._on_header,
                    "on_headers_finished": self._on_headers,
                    "on_part_data": self._on_data,
                    "on_end": self._on_end,
                },
                max_size=most,
            )
        except FormParserError:
            raise _malformed() from None
        self._parser.logger = _quiet

    def take(self, chunk: bytes) -> None:
        """Parse the next bytes."""
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise _malformed() from None

    def finish(self) -> None:
        """Everything has arrived.

        Raises:
            HTTPException: it has not, or there is no file.
        """
        if not self._whole or self._field is None:
            raise _malformed()
        if not self.size:
            raise HTTPException(422, "Choose a picture first.")
        self._cut()

    def drop(self) -> None:
        """Let go of the file."""
        self.pieces.clear()
        self._piece.clear()
        self.size = 0

    def _cut(self) -> None:
        self.pieces.append(bytes(self._piece))
        self._piece.clear()

    def evict(self) -> None:
        """Let go of the file, and make whoever reads the rest of it stop."""
        self.evicted = True
        self.drop()
        if self.clock is not None:
            self.clock.reschedule(asyncio.get_running_loop().time())

    def _on_part(self) -> None:
        self._parts += 1
        if self._parts > 1:
            raise _malformed()

    def _on_header(self) -> None:
        if bytes(self._name).lower() == _DISPOSITION:
            _, options = parse_options_header(self._value.decode("latin-1"))
            self._field = options.get(b"name", b"").decode("latin-1")
        self._name.clear()
        self._value.clear()

    def _on_headers(self) -> None:
        if self._field != FIELD:
            raise _malformed()

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        # One buffer would be copied again and again while it grows; pieces as they come may be of a byte each.
        self._piece += memoryview(data)[start:end]
        self.size += end - start
        if len(self._piece) >= _PIECE:
            self._cut()

    def _on_end(self) -> None:
        self._whole = True


def _into(target: bytearray) -> Callable[[bytes, int, int], None]:
    def append(data: bytes, start: int, end: int) -> None:
        target.extend(memoryview(data)[start:end])

    return append


def _busy() -> HTTPException:
    return HTTPException(429, "Too many pictures at once. Try again in a moment.", {"Retry-After": "2"})


def _too_large(most: int) -> HTTPException:
    return HTTPException(413, f"The picture is too large. Up to {most / 2**20:.0f} MB are taken.")


def _malformed() -> HTTPException:
    return HTTPException(400, f"Only a form with one file, called {FIELD}, is taken.")
