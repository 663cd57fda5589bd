"""Tiny folders of pictures that are easy to learn, and the command as its user meets it."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stolon import records

BACKBONE = "digits-conv?shape=3x16x16"
SIDE = 16

RED, GREEN, BLUE, YELLOW = (220, 40, 40), (40, 200, 60), (40, 60, 220), (230, 220, 40)
FRUIT = {"apple": RED, "lime": GREEN}
SKY = {"day": BLUE, "dusk": YELLOW}


def picture(path: Path, colour: tuple[int, int, int], number: int, *, striped: bool = False) -> Path:
    """A colour with some noise, which differs by number; every other row is dark where it is striped."""
    noise = np.random.default_rng(number).normal(0, 12, (SIDE, SIDE, 3))
    pixels = np.array(colour) + noise
    if striped:
        pixels[::2] *= 0.2
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, "PNG")
    return path


def single(root: Path, classes: dict[str, tuple[int, int, int]], count: int = 20, *, start: int = 0) -> Path:
    """NAME/CLASS/*; other numbers to start from give other pictures."""
    for label, (name, colour) in enumerate(classes.items()):
        for index in range(count):
            picture(
                root / name / f"{index:03}.png",
                colour,
                start + 1000 * label + index,
                striped=classes is SKY,
            )
    return root


def divided(root: Path, classes: dict[str, tuple[int, int, int]]) -> Path:
    """NAME/train|val|test/CLASS/*, all pictures different."""
    for place, (part, count) in enumerate({"train": 12, "val": 4, "test": 6}.items()):
        single(root / part, classes, count, start=10_000 * (place + 1))
    return root


def content(folder: Path) -> dict[str, bytes]:
    """All bytes of a store but its lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "LOCK"
    }


def knowledge(folder: Path) -> tuple[dict, dict]:
    """The document and all tensors of a store's knowledge, as values; the seconds that it took left out."""
    record = records.load(folder / "knowledge", "store")
    document = json.loads(json.dumps(dict(record.document)))
    for facts in document["facts"].values():
        facts.pop("seconds")
    tensors = {
        (group, name): (str(tensor.dtype), tuple(tensor.shape), tensor.numpy().tobytes())
        for group, named in record.groups.items()
        for name, tensor in named.items()
    }
    return document, tensors


# A process for each command, without the seconds of importing torch

_SERVER = """
import json, os, signal, sys
import stolon.shell.store_commands
from stolon.shell.main import main

pids = {}
for line in sys.stdin:
    asked = json.loads(line)
    if "arguments" in asked:
        pid = os.fork()
        if pid == 0:
            os.chdir(asked["folder"])
            os.environ.update(asked["environment"])
            for number, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
            sys.argv = ["stolon", *asked["arguments"]]
            try:
                main()
            except SystemExit as error:
                sys.stdout.flush()
                os._exit(error.code)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(99)
        print(json.dumps(pid), flush=True)
    else:
        done, status = os.waitpid(asked["wait"], 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)
"""


class Warm:
    """Forks processes that run the command; the first one alone pays for the imports."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def start(self, folder: Path, *arguments: str, **environment: str) -> "Running":
        """Start the command in a folder, which also takes what it prints."""
        stdout, stderr = folder / "stdout.txt", folder / "stderr.txt"
        pid = self._ask(
            folder=str(folder),
            arguments=arguments,
            environment=environment,
            stdout=str(stdout),
            stderr=str(stderr),
        )
        return Running(self, pid, stdout, stderr)

    def run(self, folder: Path, *arguments: str, **environment: str) -> "Ended":
        """Start the command and wait for its end."""
        return self.start(folder, *arguments, **environment).wait()

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def _ask(self, **request: object) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        answer: int = json.loads(self._server.stdout.readline())
        return answer


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Running:
    """A command that was started."""

    server: Warm
    pid: int
    stdout: Path
    stderr: Path

    def wait(self) -> Ended:
        """Wait for its end; a negative code is a signal's number."""
        code = self.server._ask(wait=self.pid)
        return Ended(code, self.stdout.read_text(), self.stderr.read_text())

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; one that comes too late is none."""
        os.kill(self.pid, number)

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        state = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state != "Z"

    def after_saves(self, store: Path, count: int = 1) -> bool:
        """Wait until the store's knowledge was replaced so many times; False where it ended before."""
        path, seen = store / "knowledge" / records.RECORD, 0
        before = _identity(path)
        while seen < count:
            if not self.is_running():
                return False
            now = _identity(path)
            seen += now != before
            before = now
            time.sleep(0.002)
        return True


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def assert_refused(ended: Ended, code: int, *words: str) -> None:
    """It ended with this code, said why in one line without a traceback, and answered nothing."""
    assert ended.code == code, ended.err
    assert ended.err.startswith("stolon ")
    assert ended.err.count("\n") == 1
    assert ended.out == ""
    for word in words:
        assert word in ended.err
