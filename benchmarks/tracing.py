"""Doing something under strace, which kills it before a system call or makes one fail; for the two *_faults.py."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

ASKS_FOR_ROOM = {"write", "fsync", "openat", "mkdir", "rename", "close"}
CALLS = "%file,%desc"  # system calls that take a path or a descriptor; others change nothing on a disk
DONE, FULL, OTHER = 0, 6, 99


class CannotTraceError(RuntimeError):
    """strace may not attach to processes here."""


def killing(name: str, n: int) -> str:
    """For strace: kill before the n-th call of this name."""
    return f"inject={name}:signal=SIGKILL:when={n}"


def failing(name: str, n: int, error: str, *, always: bool) -> str:
    """For strace: let that call (and all later ones of its name, where it is ``always``) fail."""
    return f"inject={name}:error={error}:when={n}{'+' * always}"


def traced(prepare: Callable[[], Callable[[], int]], expression: str, log: Path | None = None) -> int:
    """Do something in a process of its own, under strace.

    Args:
        prepare: called in that process before it is traced; gives what to do, whose result is the exit status.
        expression: strace's.
        log: where strace writes what it saw.

    Returns:
        The exit status; :data:`OTHER` for an error that escaped, the negative number of the signal that killed it.

    Raises:
        CannotTraceError: strace may not attach.
    """
    ready, say = os.pipe()
    child = os.fork()
    if child == 0:
        status = OTHER
        try:
            do = prepare()
            os.write(say, b"x")
            while _errno_of_readlink("BEGIN") != errno.EXDEV:  # no tracer yet
                time.sleep(0.001)
            status = do()
        finally:
            _errno_of_readlink("END")
            os._exit(status)
    os.read(ready, 1)  # calls are counted from when the tracer comes: let it come to a child at rest
    os.close(ready)
    os.close(say)
    tracer = subprocess.Popen(
        [
            *("strace", "-qq", "-p", str(child), "-o", str(log or os.devnull)),
            *("-e", "inject=readlink:error=EXDEV", "-e", expression),
        ],
        stderr=subprocess.PIPE,
    )
    _, complaint = tracer.communicate()
    if tracer.returncode and b"attach" in complaint:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise CannotTraceError(complaint.decode().strip())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def calls(log: Path) -> Iterator[tuple[str, int, str]]:
    """Name, number among those of its name, and whole line of each system call of what was done."""
    names: Counter[str] = Counter()
    found: list[tuple[str, int, str]] = []
    for line in log.read_text().splitlines():
        match = re.match(r"(\w+)\(", line)
        if match is None:
            continue
        names[match[1]] += 1
        if "BEGIN" in line:
            found = []
        elif "END" in line:
            break
        else:
            found.append((match[1], names[match[1]], line))
    yield from found


def missing() -> str:
    """Why nothing can be traced here; empty where it can."""
    if not sys.platform.startswith("linux"):
        return "strace is a tool of Linux"
    return "" if shutil.which("strace") else "no strace here (apt-get install strace)"


def _errno_of_readlink(path: str) -> int:
    """A system call that neither stores nor banks make, and by which the tracer is noticed."""
    try:
        Path(path).readlink()
    except OSError as error:
        return error.errno or 0
    return 0
