"""Serving the page: in a thread of its own, with limits on every connection, and a clean stop."""

import asyncio
import ipaddress
import logging
import socket
import threading
import time
from typing import Any, Final, final

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from stolon.errors import SettingError
from stolon.shell.web.limits import Limits

__all__ = ["Server", "serve"]

_LOOK_S: Final = 0.5
_STOP_S: Final = 5.0


@final
class Server:
    """A page that is being served; made by :func:`serve`.

    Attributes:
        host: the address that it is bound to.
        port: the port, the actual one.
    """

    def __init__(self, app: FastAPI, listening: socket.socket, limits: Limits) -> None:
        self.host, self.port = listening.getsockname()[:2]
        self._listening = listening
        self._connections = _Connections(limits)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=self._connections.protocol(),
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_config=None,
                log_level="error",  # at "warning" it tells of every line of rubbish that anybody sends
                access_log=False,
                server_header=False,
                proxy_headers=False,
                h11_max_incomplete_event_size=16 * 2**10,
                timeout_keep_alive=15,
                timeout_graceful_shutdown=1,
                backlog=limits.connections,
            )
        )
        self._thread = threading.Thread(target=self._run, name="stolon page", daemon=True)

    @property
    def address(self) -> str:
        """What to type into a browser."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to serve; returns once connections are accepted.

        Raises:
            SettingError: it did not come up.
        """
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise SettingError(f"the page at {self.address} did not come up; the log says why")
            time.sleep(0.005)

    def stop(self) -> None:
        """End all connections and wait until everything has ended. May be called again."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(_STOP_S)
        self._listening.close()

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        watch = asyncio.create_task(self._connections.watch())
        try:
            await self._server.serve(sockets=[self._listening])
        finally:
            watch.cancel()


def serve(
    app: FastAPI,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    anywhere: bool = False,
    limits: Limits | None = None,
) -> Server:
    """Serve a page in a thread.

    Args:
        app: from :func:`~stolon.shell.web.app.make_app`, whose ``allowed_hosts`` must have what browsers call
            this machine by.
        host: the address to bind to, or ``localhost``.
        port: the port; 0 takes a free one.
        anywhere: also bind to addresses that other machines reach. Whoever reaches the page sees all of it and may
            have pictures classified.
        limits: those of connections are used here.

    Raises:
        SettingError: the address is no loopback one and ``anywhere`` is False; or it cannot be bound.
    """
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
    except ValueError:
        raise SettingError(f"http: expected an IP address, such as 127.0.0.1, found {host!r}") from None
    if not address.is_loopback and not anywhere:
        raise SettingError(
            f"http: expected an address of this machine alone, such as 127.0.0.1, found {host}, which others reach; "
            "the page asks nobody who they are"
        )
    if not 0 <= port <= 65535:
        raise SettingError(f"http: expected a port from 0 to 65535, found {port}")
    listening = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((str(address), port))
        server = Server(app, listening, limits or Limits())
        server.start()
    except OSError as error:
        listening.close()
        raise SettingError(
            f"http: expected a free port at {host}, found {port}: {error.strerror}; choose another one"
        ) from error
    except BaseException:
        listening.close()
        raise
    return server


@final
class _Connections:
    """At most so many connections; nobody may sit on one without asking for something.

    uvicorn answers 503 to everybody while there are too many, so that whoever opens some and stays silent
    shuts out all others. Here who has kept us waiting longest, for a request or for an upload, makes room.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: dict[H11Protocol, tuple[object, float]] = {}  # what it was doing last, and since when

    def protocol(self) -> type[H11Protocol]:
        """The class that uvicorn makes one of for every connection."""
        connections = self

        class Bounded(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                # asyncio reads 256 KiB at a time otherwise, which h11 and uvicorn each copy, for each connection:
                # a flood of uploads then takes 40 MB more.
                setattr(transport, "max_size", 2**15)  # noqa: B010 - an attribute of asyncio's own class
                connections.opened(self)

            def send_400_response(self, msg: str) -> None:
                if self.cycle is not None and not self.cycle.response_complete:
                    # Its own answer would come after this one, and be logged as a failure.
                    self.cycle.disconnected = True
                super().send_400_response(msg)

            def connection_lost(self, exc: Exception | None) -> None:
                connections.closed(self)
                super().connection_lost(exc)

        return Bounded

    def opened(self, protocol: H11Protocol) -> None:
        """A connection was made; another one may have to go."""
        self._open[protocol] = (None, time.monotonic())
        if len(self._open) > self._limits.connections:
            self._look()
            waiting = [one for one in self._open if one is not protocol and _is_waited_for(one)]
            self._put_out(min(waiting, key=lambda one: self._open[one][1], default=protocol))

    def closed(self, protocol: H11Protocol) -> None:
        """A connection was lost."""
        self._open.pop(protocol, None)

    async def watch(self) -> None:
        """Put out who takes too long, for ever."""
        while True:
            await asyncio.sleep(_LOOK_S)
            self._look()
            now = time.monotonic()
            for protocol, (doing, since) in list(self._open.items()):
                most = self._limits.header_s if doing is None else self._limits.answer_s
                if now - since > most:
                    self._put_out(protocol)

    def _look(self) -> None:
        """Note who does something else than before."""
        now = time.monotonic()
        for protocol, (doing, _) in list(self._open.items()):
            cycle: Any = protocol.cycle
            current = None if cycle is None or cycle.response_complete else cycle
            if current is not doing:
                self._open[protocol] = (current, now)

    def _put_out(self, protocol: H11Protocol) -> None:
        logging.getLogger(__name__).debug("closed a connection from %s that took too long", protocol.client)
        self.closed(protocol)
        protocol.transport.abort()


def _is_waited_for(protocol: H11Protocol) -> bool:
    """Whether it is the other end's turn."""
    cycle: Any = protocol.cycle
    return cycle is None or cycle.response_complete or cycle.more_body
