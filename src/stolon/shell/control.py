"""What a running agent does for the command line: a small HTTP service on this machine, behind a token.

The page for people is another service (:mod:`stolon.shell.web`); this one can change things, and takes only who
can read ``STORE/agent.json``.
"""

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Annotated, Any, Final

import torch
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse

from stolon.agent import Agent
from stolon.errors import DataError, SettingError, StolonError
from stolon.learner import Epoch
from stolon.shell import rows, trust_commands
from stolon.shell.jobs import Job, Jobs
from stolon.shell.learning import input_size
from stolon.shell.quiet import quiet_app
from stolon.shell.remote import as_json

MAX_BODY: Final = 2**28
"""Largest request in bytes: 600 pictures of 384 x 384 pixels."""

REFUSED: Final = 422


def make_control(agent: Agent, jobs: Jobs, token: str, told: Mapping[str, Any]) -> FastAPI:
    """The service.

    Args:
        agent: what it speaks for.
        jobs: where learning is put.
        token: what every request must carry.
        told: what ``/status`` says beside what the agent knows.
    """

    def authorized(authorization: Annotated[str, Header()] = "") -> None:
        if not secrets.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "expected the token of STORE/agent.json")

    app = quiet_app(dependencies=[Depends(authorized)])

    @app.exception_handler(StolonError)
    def refused(_: Request, error: StolonError) -> JSONResponse:
        return JSONResponse(as_json(error), REFUSED)

    @app.get("/status")
    def get_status() -> dict[str, Any]:
        backbone = agent.store.learner.backbone
        sent, received = agent.traffic()
        own = {
            "sent": sent.total,
            "received": received.total,
            "key": agent.key.public,
            "backbone": backbone.name,
            "input_size": input_size(backbone),
        }
        return {**own, "waiting": jobs.waiting, **told}

    @app.get("/tasks")
    def get_tasks() -> dict[str, Any]:
        return {"tasks": rows.task_rows(agent), "unfinished": agent.store.learner.unfinished}

    @app.get("/peers")
    def get_peers() -> list[dict[str, Any]]:
        return rows.peer_rows(agent)

    @app.post("/learn")
    async def learn(request: Request) -> StreamingResponse:
        asked = json.loads(await _body(request))
        job = await run_in_threadpool(jobs.add, str(asked["folder"]), int(asked["seed"]), asked["settings"])
        return StreamingResponse(_lines(job), media_type="application/x-ndjson")

    @app.post("/classify")
    async def classify(
        request: Request, count: int, size: int, task: str | None = None
    ) -> list[dict[str, Any]]:
        data = await _body(request)
        if len(data) != count * 3 * size * size or not data:
            raise DataError(f"expected {count} x 3 x {size} x {size} bytes of pixels, found {len(data)}")
        pixels = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(count, 3, size, size)
        return rows.answer_rows(await run_in_threadpool(agent.predict, pixels, task))

    @app.post("/forget")
    async def forget(request: Request) -> dict[str, Any]:
        name = str(json.loads(await _body(request))["task"])
        await run_in_threadpool(agent.forget, name)
        return {}

    @app.post("/import")
    async def receive(request: Request) -> dict[str, Any]:
        id_ = await run_in_threadpool(agent.receive, await _body(request))
        return {"id": id_}

    @app.get("/export")
    def export(task: str, precision: str | None = None) -> Response:
        return Response(rows.export(agent, task, precision), media_type="application/octet-stream")

    @app.get("/trust")
    def get_trust() -> dict[str, Any]:
        return trust_commands.rows(agent.trust, agent.key.public)

    @app.post("/trust")
    async def change_trust(request: Request) -> dict[str, Any]:
        asked = json.loads(await _body(request))
        said = await run_in_threadpool(trust_commands.change, agent.bank, agent.key, asked)
        await run_in_threadpool(agent.look_anew)
        return {"said": said}

    return app


async def _body(request: Request) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY:
            raise SettingError(f"expected at most {MAX_BODY:,} bytes in one request; ask for fewer at once")
    return bytes(data)


def _lines(job: Job) -> Iterator[bytes]:
    try:
        for event in job.events():
            body = {"epoch": asdict(event)} if isinstance(event, Epoch) else {"said": event.words}
            yield json.dumps(body).encode() + b"\n"
        yield b'{"end": true}\n'
    except StolonError as error:
        yield json.dumps(as_json(error)).encode() + b"\n"
