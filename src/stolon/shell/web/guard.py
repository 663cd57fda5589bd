"""Who may ask, and what browsers are told to refuse on our behalf.

A page on this machine is reachable by every page that its owner's browser shows. Three checks keep those out:
the ``Host`` header must be one of ours (a foreign name may be made to point to this machine), ``Origin`` must be
this very host and port where there is one, and what changes nothing may not have a body.
"""

import asyncio
import ipaddress
import logging
import re
from collections.abc import Iterable
from typing import Final, final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["ANY_ADDRESS", "HEADERS", "LOCAL_HOSTS", "MAX_HEADERS", "Guard"]

LOCAL_HOSTS: Final = ("127.0.0.1", "localhost", "[::1]")
"""What a browser on the same machine calls it."""

ANY_ADDRESS: Final = "any address"
"""Allows every IP address, for machines that others reach by theirs: unlike a name, nobody can make another machine's
address point here."""

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with "no-referrer", browsers send "Origin: null" with our own form
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
"""Sent with every answer."""

_HOST: Final = re.compile(r"([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_LENGTH: Final = re.compile("[0-9]{1,18}")
_log = logging.getLogger(__name__)


MAX_HEADERS: Final = 16 * 2**10
"""Bytes of all headers together; h11 lets pass what happens to arrive in one piece."""


@final
class Guard:
    """Refuses foreign requests before anything reads them, and puts :data:`HEADERS` on every answer.

    Args:
        app: who gets the other requests.
        allowed_hosts: names and addresses that this machine is called by, without ports, IPv6 in brackets; and
            :data:`ANY_ADDRESS`.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Iterable[str] = LOCAL_HOSTS) -> None:
        self.app = app
        self.allowed = frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no websockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        method = scope["method"]
        begun = False

        async def guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
                if message["status"] >= 400 and method not in ("GET", "HEAD"):
                    headers["Connection"] = "close"  # there may be a body that nobody is going to read
            await send(message)

        refusal = self._refusal(method, Headers(scope=scope))
        if refusal is not None:
            await _tell(*refusal)(scope, receive, guarded)
            return
        try:
            await self.app(scope, receive, guarded)
        except asyncio.CancelledError:  # only by a server that stops, and waits no longer
            if not begun:
                await _tell(503, "The agent is stopping.")(scope, receive, guarded)
        except Exception:
            _log.exception("the page failed at %s", scope["path"])
            if begun:
                raise
            await _tell(500, "Something went wrong here. The agent's log says what.")(scope, receive, guarded)

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        """Why a request is refused by its method and headers alone."""
        if sum(len(name) + len(value) for name, value in headers.raw) > MAX_HEADERS:
            return 431, "The request's headers are too large."
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(_without_port(hosts[0].lower())):
            return 400, "This page is not served under that name."
        if _is_foreign(method, hosts[0].lower(), headers):
            return 403, "Another page may not use this one."
        return _wrong_body(method, headers)

    def _is_ours(self, host: str) -> bool:
        if host in self.allowed:
            return True
        try:
            ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            return False
        return ANY_ADDRESS in self.allowed


def _is_foreign(method: str, host: str, headers: Headers) -> bool:
    """Whether a browser says that another page asks."""
    for origin in headers.getlist("origin"):
        scheme, _, rest = origin.lower().partition("://")
        if scheme not in ("http", "https") or rest != host:
            return True
    site = headers.get("sec-fetch-site", "none")
    return method == "POST" and site not in ("same-origin", "none")  # links to here may be followed


def _wrong_body(method: str, headers: Headers) -> tuple[int, str] | None:
    """Why a request is refused for having a body, or none of known length."""
    length = headers.get("content-length", "")
    if method in ("GET", "HEAD"):
        if "transfer-encoding" in headers or length not in ("", "0"):
            return 400, "Only an upload has a body."
    elif method != "POST":
        return 405, "Only GET, HEAD and POST are answered."
    elif "transfer-encoding" in headers or not _LENGTH.fullmatch(length):
        # Browsers always know how long a form is. Chunks of one byte each would keep us busy for long.
        return 411, "An upload must say how long it is."
    return None


def _tell(status: int, sentence: str) -> PlainTextResponse:
    return PlainTextResponse(sentence + "\n", status, {"Connection": "close"})


def _without_port(host: str) -> str:
    """The name or address in a ``Host`` header; empty where it is none."""
    found = _HOST.fullmatch(host)
    return found[1] if found else ""
