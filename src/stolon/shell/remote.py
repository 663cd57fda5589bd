"""How the command line speaks to the agent that runs on a store: HTTP on this machine, by a token only its owner reads.

``STORE/agent.json`` says where the agent listens. While one runs it holds the store's lock, and every command
that would change the store is carried out by it.
"""

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, Final, final

from stolon import durable, errors
from stolon.errors import AgentUnreachableError, StolonError

ADDRESS: Final = "agent.json"
TIMEOUT_S: Final = 60.0
"""Longest silence of a healthy agent: it may be answering for hundreds of pictures."""

Json = Any


@final
class Remote:
    """An agent that runs in another process.

    Args:
        address: what the agent wrote into ``agent.json``.
    """

    def __init__(self, address: Mapping[str, Json]) -> None:
        self._base = f"http://127.0.0.1:{int(address['port'])}"
        self._token = str(address["token"])

    def get(self, path: str, **query: str) -> Json:
        """Ask for a JSON value.

        Raises:
            StolonError: what the agent raised, by its own name.
            AgentUnreachableError: it does not answer.
        """
        with self._send("GET", path, query) as response:
            return json.loads(response.read())

    def fetch(self, path: str, **query: str) -> bytes:
        """Ask for bytes; errors as :meth:`get`."""
        with self._send("GET", path, query) as response:
            return response.read()

    def post(self, path: str, body: Json | bytes, **query: str) -> Json:
        """Tell the agent something, as JSON or as bytes; errors as :meth:`get`."""
        with self._send("POST", path, query, body) as response:
            return json.loads(response.read())

    def follow(self, path: str, body: Json) -> Iterator[Json]:
        """Tell the agent something that takes long, and hear how it goes, a JSON value at a time."""
        with self._send("POST", path, {}, body, timeout_s=None) as response:
            while True:
                try:
                    line = response.readline()
                    event = json.loads(line) if line else {}
                except (OSError, HTTPException, ValueError) as error:
                    raise AgentUnreachableError(
                        f"the agent went away: {error}; what it had saved is kept, start it again"
                    ) from error
                if not line:  # a killed agent's stream just ends, so a whole one says that it is
                    raise AgentUnreachableError(
                        "the agent went away; what it had saved is kept, start it again"
                    )
                if "error" in event:
                    raise _error(event)
                if "end" in event:
                    return
                yield event

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Json | bytes | None = None,
        timeout_s: float | None = TIMEOUT_S,
    ) -> HTTPResponse:
        url = f"{self._base}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        request = urllib.request.Request(url, data, method=method)  # noqa: S310 - our own address, always http
        request.add_header("Authorization", f"Bearer {self._token}")
        request.add_header("Content-Type", kind)
        # no proxy from the environment: this never leaves the machine
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            response: HTTPResponse = opener.open(request, timeout=timeout_s)
        except urllib.error.HTTPError as error:
            raise _error(_body(error)) from None
        except (OSError, HTTPException) as error:
            raise AgentUnreachableError(
                f"the agent that runs on this store does not answer: {error}; stop it (it is named in "
                f"{ADDRESS}) or wait"
            ) from error
        return response


def running(folder: Path) -> Remote | None:
    """The agent that runs on a store, if one does.

    Raises:
        AgentUnreachableError: one runs, and does not answer.
    """
    try:
        address = json.loads((folder / ADDRESS).read_bytes())
        pid = int(address["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not _is_alive(pid):
        return None  # it was killed: what it left says nothing
    remote = Remote(address)
    try:
        remote.get("/status")
    except AgentUnreachableError:
        if not _is_alive(pid):
            return None
        raise
    except StolonError:
        return None  # some other program has its process number and its port now
    return remote


def announce(folder: Path, port: int, token: str) -> None:
    """Write where this process listens, readable by its owner alone.

    Raises:
        StoreFullError: the disk refused.
    """
    before = os.umask(0o077)
    try:
        body = json.dumps({"pid": os.getpid(), "port": port, "token": token})
        durable.write(folder / ADDRESS, body.encode())
    finally:
        os.umask(before)


def withdraw(folder: Path) -> None:
    """Take the address back."""
    (folder / ADDRESS).unlink(missing_ok=True)


def as_json(error: StolonError) -> dict[str, Json]:
    """An error as the agent sends it."""
    return {"error": type(error).__name__, "message": str(error)}


def _error(body: Mapping[str, Json]) -> StolonError:
    """The error that the agent raised: of its own class, so that it ends the command with its own code."""
    kind = getattr(errors, str(body.get("error")), None)
    if not (isinstance(kind, type) and issubclass(kind, StolonError)):
        kind = AgentUnreachableError
    message = str(body.get("message") or body.get("detail") or "the agent gave no reason")
    # some take other arguments than a message, which are not sent: only what they are and say counts here
    told = type(kind.__name__, (kind,), {"__init__": lambda self, words: setattr(self, "args", (words,))})
    error: StolonError = told(message)
    return error


def _body(error: urllib.error.HTTPError) -> Mapping[str, Json]:
    try:
        found = json.loads(error.read())
    except (OSError, ValueError):
        found = None
    return found if isinstance(found, dict) else {"message": f"the agent answered {error.code}"}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's process
    return True
