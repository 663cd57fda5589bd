"""``stolon agent``: serve a store until stopped: learn what is put in front of it, share, receive, answer."""

import logging
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch

from stolon.agent import Agent
from stolon.errors import LinkError, SettingError, StoreLockedError
from stolon.links.zenoh import ZenohLink
from stolon.links.zenoh_settings import ZenohSettings
from stolon.sharing.keys import fingerprint
from stolon.sharing.opinion import read_gate, write_gate
from stolon.shell import exit_codes, remote
from stolon.shell.control import make_control
from stolon.shell.decoding import Decoder
from stolon.shell.jobs import Jobs
from stolon.shell.logs import start_logging
from stolon.shell.store_commands import place
from stolon.shell.view import View
from stolon.shell.web.app import make_app
from stolon.shell.web.guard import ANY_ADDRESS, LOCAL_HOSTS
from stolon.shell.web.limits import Limits
from stolon.shell.web.server import serve

_log = logging.getLogger(__name__)


def agent(
    *,
    store: str | None,
    listen: list[str],
    connect: list[str],
    scout: bool,
    population: str,
    tls_authority: str | None,
    tls_certificate: str | None,
    tls_key: str | None,
    tls_one_way: bool,
    http: str | None,
    http_anywhere: bool,
    may_take: float | None,
    log: Literal["text", "json"],
    log_level: Literal["debug", "info", "warning"],
) -> int:
    """Serve until SIGTERM or Ctrl-C; exit code 8 where the network is lost for good, for a supervisor."""
    start_logging(log, log_level)
    torch.set_num_threads(1)
    folder = place(store)
    if remote.running(folder) is not None:
        raise StoreLockedError(
            f"an agent runs on {folder} already; stop it first, or use another folder (--store)"
        )
    if may_take is not None and folder.is_dir():
        write_gate(folder, replace(read_gate(folder), taken=may_take))
    settings = ZenohSettings(
        listen=tuple(listen),
        connect=tuple(connect),
        scout=scout,
        population=population,
        tls_authority=None if tls_authority is None else Path(tls_authority),
        tls_certificate=None if tls_certificate is None else Path(tls_certificate),
        tls_key=None if tls_key is None else Path(tls_key),
        tls_mutual=not tls_one_way,
    )
    page = None if http is None else _address(http)
    stop = threading.Event()
    link = ZenohLink(settings)
    with ExitStack() as stack:
        stack.enter_context(_stopped_by_signals(stop))
        opened = stack.enter_context(Agent(folder, link=link, on_lost=stop.set))
        opened.start()
        jobs = Jobs(opened)
        jobs.start()
        stack.callback(jobs.stop)
        told: dict[str, Any] = {"endpoints": list(link.endpoints), "page": None}
        if page is not None:
            view = View(opened, jobs)
            decoder = stack.enter_context(Decoder(view.size))
            told["page"] = _serve_page(stack, view, decoder, page, anywhere=http_anywhere)
        _serve_control(stack, opened, jobs, told)
        _log.info("agent runs", extra={"agent": fingerprint(opened.key.public), "store": str(folder), **told})
        stop.wait()
        is_lost = opened.is_lost
        _log.info("agent stops", extra={"reason": "the network is lost" if is_lost else "asked to"})
    if is_lost:
        raise LinkError(
            "the network is lost: peers are visible, none answers, and opening it anew did not help; start again"
        )
    return exit_codes.OK


def _serve_control(stack: ExitStack, opened: Agent, jobs: Jobs, told: dict[str, Any]) -> None:
    token = secrets.token_urlsafe(32)
    # Only who has the token is read: generous limits, for pictures by the hundred and learning for hours.
    limits = Limits(body_s=3600, answer_s=7 * 86_400)
    server = stack.enter_context(serve(make_control(opened, jobs, token, told), limits=limits))
    remote.announce(opened.folder, server.port, token)
    stack.callback(remote.withdraw, opened.folder)


def _serve_page(
    stack: ExitStack, view: View, decoder: Decoder, page: tuple[str, int], *, anywhere: bool
) -> str:
    hosts = {*LOCAL_HOSTS, page[0], *((socket.gethostname(), ANY_ADDRESS) if anywhere else ())}
    decoder.start()  # so that the first picture need not wait for a process
    app = make_app(view, decoder, allowed_hosts=hosts)
    return stack.enter_context(serve(app, *page, anywhere=anywhere)).address


def _address(http: str) -> tuple[str, int]:
    host, _, port = http.rpartition(":")
    if not host or not port.isdigit():
        raise SettingError(f"http: expected HOST:PORT such as 127.0.0.1:8080, found {http!r}")
    return host, int(port)


@contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
