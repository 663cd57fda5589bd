"""A bad network between agents: TCP proxies that can cut, hold, starve, delay, throttle and garble, and count bytes.

    with Network() as network:
        proxy = network.proxy(7447)                  # agents connect to proxy.port instead
        proxy.throttle(64_000)                        # bytes per second, each way
        proxy.cut()                                   # reset what there is, refuse what comes
        proxy.heal()                                  # as at first

All proxies share one thread. Orders take effect at once, also on connections that exist.
"""

import asyncio
import contextlib
import enum
import random
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Self

SMALL_BUFFER = 16 * 1024
"""Bytes that the kernel keeps for a throttled connection, so that the sender notices the throttle soon."""
KEEP_ALIVE = b"\x01\x00\x04"
"""Zenoh's sign of life: two bytes of length and one of kind."""


class Mode(enum.Enum):
    """What a proxy does with bytes.

    CUT resets connections and refuses new ones. HOLD lets nothing through and says nothing: a cable pulled, and an
    endpoint that accepts but never answers.
    """

    OPEN = "open"
    CUT = "cut"
    HOLD = "hold"


class Proxy:
    """One listening port in front of one target; made by :meth:`Network.proxy`.

    Attributes:
        port: where it listens, on 127.0.0.1.
        framed: it moves whole batches of Zenoh's, as :meth:`starve` needs; not for TLS.
        up, down: bytes passed on to the target, and from it.
    """

    def __init__(self, host: str, target: int, *, framed: bool = False) -> None:
        self.host, self.target, self.port = host, target, 0
        self.framed = framed
        self.up = self.down = 0
        self.mode = Mode.OPEN
        self._rate: float | None = None
        self._delay_s = 0.0
        self._garble: random.Random | None = None
        self._garble_share = 0.0
        self._count = 0  # connections so far; those up to `_starved` are starved
        self._starved = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def passed(self) -> int:
        """Bytes passed on, both ways together."""
        return self.up + self.down

    def cut(self) -> None:
        """Reset all connections and refuse new ones."""
        self._order(Mode.CUT)

    def hold(self) -> None:
        """Let nothing through; connections stay and new ones are accepted, but nobody answers."""
        self._order(Mode.HOLD)

    def starve(self) -> None:
        """Pass only signs of life on the connections there are: they look alive and do nothing. New ones work.

        Needs :attr:`framed`.
        """
        assert self.framed
        self._starved = self._count

    def heal(self) -> None:
        """Pass everything, at full speed and whole."""
        self._rate, self._delay_s, self._garble, self._starved = None, 0.0, None, 0
        self._order(Mode.OPEN)

    def throttle(self, rate: float) -> None:
        """Pass at most so many bytes per second each way."""
        self._rate = rate

    def delay(self, seconds: float) -> None:
        """Pass everything later by so many seconds."""
        self._delay_s = seconds

    def garble(self, share: float, seed: int = 0) -> None:
        """Change one byte in this share of the pieces (about 64 KiB) that pass."""
        self._garble_share, self._garble = share, random.Random(seed)  # noqa: S311 - no secret

    # In the network's thread.

    async def start(self) -> None:
        """Listen."""
        self._loop = asyncio.get_running_loop()
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        self._server = await asyncio.start_server(self._accept, sock=listening)

    async def stop(self) -> None:
        """Cut, and listen no more."""
        self._set_mode(Mode.CUT)
        if self._server is not None:
            self._server.close()

    def _order(self, mode: Mode) -> None:
        assert self._loop is not None
        done = threading.Event()

        def carry_out() -> None:
            self._set_mode(mode)
            done.set()

        self._loop.call_soon_threadsafe(carry_out)
        if not done.wait(10):
            raise TimeoutError("the network's thread does not answer")

    def _set_mode(self, mode: Mode) -> None:
        self.mode = mode
        self._changed.set()
        self._changed = asyncio.Event()
        if mode is Mode.CUT:
            for writer in self._writers:
                writer.transport.abort()

    async def _may_pass(self) -> None:
        while self.mode is Mode.HOLD:
            await self._changed.wait()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._count += 1
        number = self._count
        writers = {writer}
        self._writers.add(writer)
        try:
            await self._may_pass()
            if self.mode is Mode.CUT:
                return
            there, back = await asyncio.open_connection(self.host, self.target)
            writers.add(back)
            self._writers.add(back)
            if self._rate is not None:
                for each in writers:
                    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                        each.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, SMALL_BUFFER)
            ways = {
                asyncio.create_task(self._pump(number, reader, back, up=True)),
                asyncio.create_task(self._pump(number, there, writer, up=False)),
            }
            _, left = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in left:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            pass  # the target is not there, or somebody hung up
        finally:
            self._writers -= writers
            for each in writers:
                each.transport.abort()

    async def _pump(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1024)
        sending = asyncio.create_task(self._send_late(late, writer))
        try:
            while not sending.done():
                piece = await self._read_batch(reader) if self.framed else await self._read(reader)
                await self._may_pass()
                if number <= self._starved:
                    piece = (
                        KEEP_ALIVE  # as many as there was traffic: Zenoh sends its own only when it is idle
                    )
                if self._rate is not None:
                    await asyncio.sleep(len(piece) / self._rate)
                piece = self._spoil(piece)
                if self._delay_s or not late.empty():
                    await late.put((asyncio.get_running_loop().time() + self._delay_s, piece))
                else:
                    writer.write(piece)
                    await writer.drain()
                if up:
                    self.up += len(piece)
                else:
                    self.down += len(piece)
        except (OSError, EOFError):
            pass  # one side hung up
        finally:
            sending.cancel()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        piece = await reader.read(4096 if self._rate is not None else 65536)
        if not piece:
            raise EOFError
        return piece

    async def _read_batch(self, reader: asyncio.StreamReader) -> bytes:
        """One batch of Zenoh's: two bytes of length, little-endian, and as many bytes."""
        length = await reader.readexactly(2)
        return length + await reader.readexactly(int.from_bytes(length, "little"))

    async def _send_late(
        self, late: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter
    ) -> None:
        while True:
            due, piece = await late.get()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            await self._may_pass()
            writer.write(piece)
            await writer.drain()

    def _spoil(self, piece: bytes) -> bytes:
        if self._garble is None or self._garble.random() >= self._garble_share:
            return piece
        spoiled = bytearray(piece)
        spoiled[self._garble.randrange(len(spoiled))] ^= 1 << self._garble.randrange(8)
        return bytes(spoiled)


class Network:
    """Proxies and their thread; a context manager that leaves nothing behind."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()
        self._proxies: list[Proxy] = []

    def proxy(self, target: int, host: str = "127.0.0.1", *, framed: bool = False) -> Proxy:
        """A new proxy in front of ``host:target``."""
        proxy = Proxy(host, target, framed=framed)
        self._run(proxy.start)
        self._proxies.append(proxy)
        return proxy

    def close(self) -> None:
        """Cut everything and stop."""
        for proxy in self._proxies:
            self._run(proxy.stop)
        self._run(_cancel_all)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, make: Callable[[], Coroutine[None, None, None]]) -> None:
        asyncio.run_coroutine_threadsafe(make(), self._loop).result(10)


async def _cancel_all() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
