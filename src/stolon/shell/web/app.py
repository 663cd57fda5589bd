"""The page as an ASGI application."""

import hashlib
from collections.abc import Callable, Coroutine, Iterable
from importlib import resources
from typing import Any, Final

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from stolon.errors import ImageError, StolonError
from stolon.shell.decoding import Decoder
from stolon.shell.quiet import quiet_app
from stolon.shell.web.drawing import PARTS, Drawing, seen_as
from stolon.shell.web.facade import AgentView, Answer
from stolon.shell.web.guard import LOCAL_HOSTS, Guard
from stolon.shell.web.limits import Limits
from stolon.shell.web.uploads import Uploads
from stolon.shell.web.wording import refusal

__all__ = ["make_app"]

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def make_app(
    view: AgentView,
    decoder: Decoder,
    *,
    allowed_hosts: Iterable[str] = LOCAL_HOSTS,
    limits: Limits | None = None,
) -> FastAPI:
    """The page of one agent.

    Args:
        view: the agent.
        decoder: makes pixels of uploads; of the view's size. Whoever made it closes it.
        allowed_hosts: what this machine is called by in a browser's address bar, without ports; see
            :class:`~stolon.shell.web.guard.Guard`.
        limits: how much is taken.
    """
    limits = limits or Limits()
    files = _static_files()
    drawing = Drawing(view, limits, {name: mark for name, (_, _, mark) in files.items()})
    uploads = Uploads(limits)
    handlers: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
        HTTPException: _refused(drawing),
        RequestValidationError: _misaddressed,
    }
    app = quiet_app(
        title="stolon",
        middleware=[Middleware(Guard, allowed_hosts=tuple(allowed_hosts))],
        exception_handlers=handlers,
    )

    @app.api_route("/", methods=["GET", "HEAD"], response_class=HTMLResponse)
    def page(page: int = 1) -> str:
        return drawing.page(page)

    @app.get("/parts/{name}", response_class=HTMLResponse)
    def part(name: str, seen: str = "", page: int = 1) -> Response:
        if name not in PARTS:
            raise HTTPException(404, "There is no such part.")
        drawn = drawing.part(name, page)
        return Response(status_code=204) if drawn.mark == seen else HTMLResponse(drawn.html)

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in files:
            raise HTTPException(404, "There is no such file.")
        content, kind, _ = files[name]
        forever = {"Cache-Control": "public, max-age=31536000, immutable"}  # its address has its version
        return Response(content, media_type=kind, headers=forever)

    @app.post("/classify", response_class=HTMLResponse)
    async def classify(request: Request) -> Response:
        async with uploads.picture(request) as upload, uploads.turn():
            try:
                pixels = await run_in_threadpool(decoder.decode, upload.pieces)
                upload.drop()
                answer = await run_in_threadpool(_classify, view, pixels)
            except ImageError as error:
                status, sentence = refusal(error)
                raise HTTPException(status, sentence) from None
            except StolonError as error:
                raise HTTPException(422, str(error)) from None
        html = await run_in_threadpool(lambda: drawing.answer(answer, seen_as(pixels)))
        return await _answered(drawing, request, html, 200)

    return app


def _classify(view: AgentView, pixels: NDArray[np.uint8]) -> Answer:
    import torch

    return view.classify(torch.from_numpy(pixels.copy())[None])


async def _answered(drawing: Drawing, request: Request, html: str, status: int) -> Response:
    """The answer alone for a page that puts it in place, a whole page for a browser without scripts."""
    if request.headers.get("hx-request") != "true":
        html = await run_in_threadpool(drawing.page, 1, html)
    return HTMLResponse(html, status)


def _refused(drawing: Drawing) -> Callable[[Request, Any], Coroutine[Any, Any, Response]]:
    async def handle(request: Request, error: HTTPException) -> Response:
        if request.method != "POST":
            return Response(f"{error.detail}\n", error.status_code, media_type="text/plain")
        response = await _answered(drawing, request, drawing.refusal(error.detail), error.status_code)
        response.headers.update(error.headers or {})
        return response

    return handle


async def _misaddressed(_: Request, __: Exception) -> Response:
    return Response("That address makes no sense here.\n", 400, media_type="text/plain")


def _static_files() -> dict[str, tuple[bytes, str, str]]:
    """The files beside the templates, in memory: name to content, type and version."""
    found = {}
    for file in (resources.files("stolon.shell.web") / "static").iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if suffix in _TYPES:
            content = file.read_bytes()
            found[file.name] = (content, _TYPES[suffix], hashlib.sha256(content).hexdigest()[:12])
    return found
