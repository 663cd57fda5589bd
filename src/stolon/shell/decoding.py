"""Uploaded pictures become pixels in processes of their own, which hold nothing and may do little.

A parser of hostile bytes can be made to take all memory, all time, or worse. So each picture is decoded by a
child process (:mod:`stolon.shell.decoding_worker`) with limits that the operating system enforces; when it dies,
the picture is refused and the next one gets a new child.
"""

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from stolon import pictures, settings
from stolon.errors import ImageError
from stolon.shell import decoding_worker
from stolon.shell.decoding_worker import FORMATS, LENGTH, MAX_REFUSAL

__all__ = ["FORMATS", "MAX_BYTES", "Decoder"]

MAX_BYTES = 8 * 2**20
"""Largest picture, in bytes."""

WORKERS = 4
MEMORY = 512 * 2**20
CPU_S = 5
WALL_S = 8.0
"""Longer than the processor time: on a busy machine the child waits for its turn."""

_START_S = 60.0  # importing NumPy on a machine that does much else
_IDLE_S = 30.0  # a second child that had nothing to do for so long is ended
_ENVIRONMENT = (
    "PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "LANG",
    "SYSTEMROOT",
    "COVERAGE_PROCESS_START",
)


@final
class Decoder:
    """Decodes pictures in up to ``workers`` child processes; safe to use from many threads.

    Children are started when they are needed: one, unless pictures come at the same time. Who finds all of
    them busy waits.

    Args:
        size: side of the square that pictures become, in pixels.
        workers: most child processes.
        memory: address space of each, in bytes; reading the largest picture takes about 400 MB.
        cpu_s: processor time for one picture, in whole seconds.
        wall_s: time for one picture.

    Raises:
        SettingError: one of them is out of its range.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (6, 4), "red").save(file, "PNG")
        >>> png = file.getvalue()
        >>> with Decoder(2) as decoder:
        ...     decoder.decode(png).tolist()
        [[[255, 255], [255, 255]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]]
    """

    def __init__(
        self,
        size: int,
        *,
        workers: int = WORKERS,
        memory: int = MEMORY,
        cpu_s: int = CPU_S,
        wall_s: float = WALL_S,
    ) -> None:
        pictures.check_size(size)
        settings.within("workers", workers, 1, 64)
        settings.whole("cpu_s", cpu_s, 1)
        settings.above("wall_s", wall_s, 0)
        settings.whole("memory", memory, 2**27)
        self.size = size
        self._command = [
            sys.executable,
            "-P",
            "-m",
            decoding_worker.__name__,
            str(size),
            str(cpu_s),
            str(memory),
        ]
        self._wall_s = wall_s
        self._turns = threading.Semaphore(workers)
        self._lock = threading.Lock()
        self._idle: list[_Child] = []  # the one used last is at the end, and is used next
        self._all: set[_Child] = set()
        self._closed = False

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the children that live."""
        with self._lock:
            return tuple(child.pid for child in self._all)

    def start(self) -> None:
        """Start one child now, so that the first picture need not wait for it."""
        with self._lock:
            if not self._all and not self._closed:
                self._idle.append(self._new())

    def decode(self, data: bytes | Sequence[bytes]) -> NDArray[np.uint8]:
        """One picture as uint8 [3, size, size].

        Args:
            data: a file's content, at most 8 MiB, whole or in pieces.

        Raises:
            ImageError: not a picture that we take, or it took more time or memory than one may; says what
                was found and what to do.
        """
        pieces = [data] if isinstance(data, bytes) else data
        length = sum(map(len, pieces))
        if length > MAX_BYTES:
            raise ImageError(
                f"image: expected at most {MAX_BYTES:,} bytes, found {length:,}; save it smaller",
                "image too large",
            )
        with self._turns:
            for _ in range(3):  # a child that died while it had nothing to do is no fault of this picture
                child = self._take()
                if child.ready():
                    break
                self._drop(child)
            else:
                raise ImageError("image: the process that decodes pictures cannot be started", "no decoder")
            try:
                answer = child.ask(pieces, 3 * self.size * self.size, time.monotonic() + self._wall_s)
            except (EOFError, TimeoutError, OSError) as error:
                self._drop(child)
                self.start()  # its imports are done by the time the next picture comes
                raise ImageError(
                    "image: expected a picture that is decoded with little time and memory, found one that "
                    "takes more; open it in an editor and save it again",
                    "image too costly",
                ) from error
            self._give_back(child)
        if isinstance(answer, ImageError):
            raise answer
        return np.frombuffer(answer, np.uint8).reshape(3, self.size, self.size)

    def close(self) -> None:
        """End all children; a picture that is being decoded is refused. May be called again."""
        with self._lock:
            self._closed = True
            children = tuple(self._all)
            self._all.clear()
            self._idle.clear()
        for child in children:
            child.end()

    def _take(self) -> "_Child":
        with self._lock:
            if self._closed:
                raise ImageError("image: the agent is stopping", "no decoder")
            return self._idle.pop() if self._idle else self._new()

    def _give_back(self, child: "_Child") -> None:
        now = time.monotonic()
        child.used = now
        with self._lock:
            if child in self._all:
                self._idle.append(child)
            stale = [one for one in self._idle[:-1] if now - one.used > _IDLE_S]
            self._idle = [one for one in self._idle if one not in stale]
            self._all.difference_update(stale)
        for one in stale:
            one.end()

    def _new(self) -> "_Child":
        child = _Child(self._command)
        self._all.add(child)
        return child

    def _drop(self, child: "_Child") -> None:
        with self._lock:
            self._all.discard(child)
        child.end()


@final
class _Child:
    """The parent's end of a child process. What comes back from it is as hostile as the picture."""

    def __init__(self, command: list[str]) -> None:
        environment = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
        self._process = subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the agent
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self._greeted = False
        self.used = time.monotonic()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ready(self) -> bool:
        """Whether the child lives and waits for a picture; waits for its start."""
        with contextlib.suppress(EOFError, TimeoutError, OSError):
            if not self._greeted:
                self._greeted = self._read(1, time.monotonic() + _START_S) == b"+"
            return self._greeted and self._process.poll() is None
        return False

    def ask(self, pieces: Sequence[bytes], expected: int, deadline: float) -> bytes | ImageError:
        """Have a picture decoded.

        Raises:
            EOFError: the child died, or answered what it should not.
            TimeoutError: the deadline passed.
            OSError: the child died while it was written to.
        """
        for piece in (LENGTH.pack(sum(map(len, pieces))), *pieces):
            self._write(piece, deadline)
        head = self._read(5, deadline)
        (length,) = LENGTH.unpack(head[1:])
        if head[:1] == b"+" and length == expected:
            return self._read(length, deadline)
        if head[:1] == b"-" and length <= MAX_REFUSAL:
            kind, _, message = self._read(length, deadline).decode(errors="replace").partition("\0")
            return ImageError(pictures.printable(message), pictures.printable(kind))
        raise EOFError

    def end(self) -> None:
        """Kill the child and wait for it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()

    def _write(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            _wait(self._in, select.POLLOUT, deadline)
            with contextlib.suppress(BlockingIOError):
                view = view[os.write(self._in, view[: 2**20]) :]

    def _read(self, count: int, deadline: float) -> bytes:
        got = bytearray()
        while len(got) < count:
            _wait(self._out, select.POLLIN, deadline)
            part = os.read(self._out, min(count - len(got), 2**20))
            if not part:
                raise EOFError
            got += part
        return bytes(got)


def _wait(descriptor: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    left = deadline - time.monotonic()
    if left <= 0 or not poll.poll(left * 1000):
        raise TimeoutError
