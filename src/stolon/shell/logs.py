"""What a running agent writes while it runs: one line per event, for people or for machines."""

import logging
import sys
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Text(logging.Formatter):
    """The message, then what came with it: ``12:30:01 learning folder=/data/birds seed=0``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        extra = {key: value for key, value in vars(record).items() if key not in _OWN}
        words = "".join(f" {key}={value}" for key, value in extra.items())
        # names come from peers: a line break in one must not begin a line of its own
        return super().format(record) + "".join(c if c.isprintable() else repr(c)[1:-1] for c in words)


def start_logging(form: Literal["text", "json"], level: str) -> None:
    """Send all of stolon's log to the standard error output.

    Args:
        form: ``"text"`` for people, ``"json"`` for machines: one object per line.
        level: the least that is said: ``"debug"``, ``"info"``, ``"warning"``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )
        if form == "json"
        else _Text()
    )
    root = logging.getLogger("stolon")
    root.handlers = [handler]
    root.setLevel(level.upper())
    root.propagate = False
