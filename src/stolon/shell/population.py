"""A small population of agents on this machine, each a process of its own: ``stolon agent``, started and asked."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from stolon.agent import Agent
from stolon.errors import AgentUnreachableError, StolonError
from stolon.nets.backbone import Backbone
from stolon.sharing.gate import GateSettings
from stolon.sharing.trust import Author
from stolon.shell import remote
from stolon.shell.remote import Remote
from stolon.tasks import Task

START_S: Final = 60.0
"""Longest that an agent's process may take to be there; a busy machine imports PyTorch in ten."""
STOP_S: Final = 20.0


@final
@dataclass
class Member:
    """One running agent.

    Attributes:
        name: what the others call it.
        folder: its store.
        process: its process.
        remote: how to speak to it.
        endpoints: where it can be connected to.
    """

    name: str
    folder: Path
    process: "subprocess.Popen[bytes]"
    remote: Remote
    endpoints: tuple[str, ...]

    def tasks(self) -> tuple[str, ...]:
        """What it answers for."""
        return tuple(row["task"] for row in self.remote.get("/tasks")["tasks"] if row["active"])

    def learn(self, folder: Path, seed: int) -> None:
        """Have it learn a folder; returns when it has.

        Raises:
            StolonError: what the agent raised.
        """
        body = {"folder": str(folder.resolve()), "seed": seed, "settings": {}}
        for _ in self.remote.follow("/learn", body):
            pass

    def answers(self, task: Task) -> list[dict[str, Any]]:
        """Its answers for the test images of a task, without being told which task it is."""
        import torch

        x, _ = task.test.batch(torch.arange(len(task.test)))
        body = x.contiguous().numpy().tobytes()
        query = {"count": str(len(x)), "size": str(x.shape[-1])}
        found: list[dict[str, Any]] = self.remote.post("/classify", body, **query)
        return found


def found(folders: Mapping[str, Path], backbone: Backbone, gate: GateSettings | None = None) -> None:
    """Make a store for each name, and let every one trust all others."""
    keys = {}
    for name, folder in folders.items():
        with Agent.create(folder, backbone, gate=gate) as agent:
            keys[name] = agent.key.public
    for name, folder in folders.items():
        with Agent(folder, backbone) as agent:
            trust = agent.trust
            for other, key in keys.items():
                if other != name:
                    trust = trust.adding(Author(key, other))
                    agent.set_trust(trust)


@contextmanager
def running(folders: Mapping[str, Path]) -> Iterator[tuple[Member, ...]]:
    """Start ``stolon agent`` on each store, each connected to the one before it; stop them at the end.

    Raises:
        AgentUnreachableError: one did not start; says what it wrote.
    """
    with ExitStack() as stack:
        members: list[Member] = []
        for name, folder in folders.items():
            connect = members[-1].endpoints if members else ()
            member = _start(name, folder, connect)
            stack.callback(_stop, member)
            members.append(member)
        yield tuple(members)


def learn_all(members: Sequence[Member], taught: Mapping[str, Sequence[Path]], seed: int) -> None:
    """Have every member learn its folders, all at the same time.

    Raises:
        StolonError: the first that one of them raised.
    """
    errors: list[StolonError] = []

    def one(member: Member) -> None:
        try:
            for folder in taught[member.name]:
                member.learn(folder, seed)
        except StolonError as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(member,)) for member in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def wait_until_equal(members: Sequence[Member], tasks: Sequence[str], within_s: float) -> float:
    """Wait until every member answers for all tasks; how many seconds that took.

    Raises:
        AgentUnreachableError: it takes longer.
    """
    begun = time.monotonic()
    while any(set(member.tasks()) != set(tasks) for member in members):
        if time.monotonic() - begun > within_s:
            state = "; ".join(f"{member.name}: {', '.join(member.tasks())}" for member in members)
            raise AgentUnreachableError(
                f"expected every agent to answer for {', '.join(tasks)} within {within_s:g} s; found {state}"
            )
        time.sleep(0.1)
    return time.monotonic() - begun


def _start(name: str, folder: Path, connect: Sequence[str]) -> Member:
    command = [sys.executable, "-m", "stolon.shell.main", "agent", "--store", str(folder), "--log", "json"]
    if connect:
        command += ["--connect", *connect]
    (folder / remote.ADDRESS).unlink(missing_ok=True)
    with (folder / "agent.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)  # noqa: S603 - ourselves
    begun = time.monotonic()
    while process.poll() is None and time.monotonic() - begun < START_S:
        if (folder / remote.ADDRESS).exists():
            reached = remote.running(folder)
            if reached is not None:
                endpoints = tuple(reached.get("/status")["endpoints"])
                return Member(name, folder, process, reached, endpoints)
        time.sleep(0.05)
    process.kill()
    process.wait()
    raise AgentUnreachableError(
        f"the agent on {folder} did not start; it wrote: {(folder / 'agent.log').read_text()[-2000:]}"
    )


def _stop(member: Member) -> None:
    member.process.terminate()
    try:
        member.process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        member.process.kill()
        member.process.wait()
