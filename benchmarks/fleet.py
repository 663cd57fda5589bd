"""Several small agents (benchmarks/agents.py), each pair connected through a proxy of its own (benchmarks/proxy.py).

with Fleet(8, folder) as fleet:
fleet.start()
fleet.agents[0].add(10)
seconds = fleet.until_equal(60)
"""

import contextlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, Self

from proxy import Network, Proxy

WORKER = Path(__file__).with_name("agents.py")


class Agent:
    """One worker process, seen from outside."""

    def __init__(
        self, number: int, folder: Path, roster: Path, key: str, port: int, connect: list[str]
    ) -> None:
        self.number, self.folder, self.roster, self.key, self.port = number, folder, roster, key, port
        self.connect = connect
        self.added: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._news = threading.Condition()
        self._last: dict[str, dict[str, Any]] = {}
        self._serial = itertools.count()

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Begin (again); returns at once."""
        command = [
            sys.executable,
            str(WORKER),
            str(self.folder),
            str(self.roster),
            f"tcp/127.0.0.1:{self.port}",
        ]
        with self._news:
            self._last.clear()
        with (self.folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self.connect],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout as output:
            self._read_lines(process, output)

    def _read_lines(self, process: "subprocess.Popen[str]", output: IO[str]) -> None:
        for line in output:
            try:
                said = json.loads(line)
            except ValueError:
                continue  # killed in the middle of a line: not said
            with self._news:
                if process is not self._process:
                    continue
                if said["said"] == "added":
                    self.added.append(said["id"])  # acknowledged: from now on it must never be missing
                self._last[said["said"]] = said
                self._news.notify_all()

    def tell(self, order: str) -> None:
        """Give an order; nothing happens where the process is gone."""
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # gone, or hung up on
            self._process.stdin.write(order + "\n")
            self._process.stdin.flush()

    def wait_for(
        self, word: str, timeout_s: float = 30.0, serial: int | None = None
    ) -> dict[str, Any] | None:
        """The last thing it said of this kind; None if it does not come in time."""

        def has_come() -> bool:
            said = self._last.get(word)
            return said is not None and (serial is None or said.get("serial") == serial)

        with self._news:
            return self._last[word] if self._news.wait_for(has_come, timeout_s) else None

    def ask(self, order: str, timeout_s: float = 10.0) -> dict[str, Any] | None:
        """Give an order and wait for the answer to it."""
        serial = next(self._serial)
        self.tell(f"{order} serial={serial}")
        return self.wait_for(order.split(maxsplit=1)[0], timeout_s, serial)

    def add(self, count: int) -> None:
        """Order it to add modules; they are in :attr:`added` as they are durable."""
        self.tell(f"add {count}")

    def signal(self, number: int) -> None:
        """Send a signal, such as SIGSTOP."""
        if self.is_running:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._hang_up()

    def quit(self) -> int | None:
        """Close its input, which is the order to end; the exit code, or None if it does not end in 15 s."""
        if self._process is None:
            return 0
        self.tell("quit")
        try:
            code = self._process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()
            return None
        self._hang_up()
        return code

    def _hang_up(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it was in the middle of an order
            self._process.stdin.close()


class Fleet:
    """Agents that trust each other, each pair connected through a proxy of its own."""

    def __init__(self, count: int, folder: Path, *, seed: int = 0) -> None:
        from stolon.sharing.keys import Key

        self.network = Network()
        self.proxies: dict[frozenset[int], Proxy] = {}
        self.agents: list[Agent] = []
        rng = random.Random(seed)  # noqa: S311 - no secret
        keys = [Key(rng.randbytes(32)) for _ in range(count)]
        roster = folder / "roster.json"
        roster.write_text(json.dumps([key.public for key in keys]))
        for number, (key, port) in enumerate(zip(keys, free_ports(count), strict=True)):
            home = folder / f"agent-{number}"
            home.mkdir()
            key.write(home / "key")
            connect = []
            for other in self.agents:
                proxy = self.network.proxy(other.port, framed=True)
                self.proxies[frozenset((number, other.number))] = proxy
                connect.append(f"tcp/127.0.0.1:{proxy.port}")
            self.agents.append(Agent(number, home, roster, key.public, port, connect))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for agent in self.agents:
            agent.signal(signal.SIGCONT)
            agent.tell("quit")
        for agent in self.agents:
            agent.quit()
        self.network.close()

    def start(self, timeout_s: float = 120.0) -> None:
        """Start all and wait until each sees each."""
        for agent in self.agents:
            agent.start()
        for agent in self.agents:
            if agent.wait_for("ready", timeout_s) is None:
                log = (agent.folder / "log.txt").read_text()
                raise RuntimeError(f"agent {agent.number} did not start:\n{log[-2000:]}")
        if not self.until_all_see_all(timeout_s):
            raise RuntimeError("the agents do not see each other")

    def until_all_see_all(self, timeout_s: float) -> bool:
        """Whether all links come up in time."""
        return wait_until(
            lambda: all(len(state["peers"]) == len(self.agents) - 1 for state in self.states()), timeout_s
        )

    def between(self, group: Iterable[int]) -> list[Proxy]:
        """The proxies between a group and the others."""
        inside = set(group)
        return [proxy for pair, proxy in self.proxies.items() if len(pair & inside) == 1]

    def states(self) -> list[dict[str, Any]]:
        """Of all running agents that answer: digest, count, peers, memory."""
        running = [agent for agent in self.agents if agent.is_running]
        return [state for agent in running if (state := agent.ask("state")) is not None]

    def added(self) -> set[str]:
        """All modules that an agent has acknowledged."""
        return {id_ for agent in self.agents for id_ in list(agent.added)}

    def until_equal(self, timeout_s: float, among: Iterable[int] | None = None) -> float | None:
        """Seconds until the chosen agents hold the same set, all that they acknowledged among it; None: they do not."""
        chosen = [self.agents[number] for number in (among if among is not None else range(len(self.agents)))]
        began = time.monotonic()
        while time.monotonic() - began < timeout_s:
            states = [agent.ask("state") for agent in chosen]
            if all(states) and len({state["digest"] for state in states if state}) == 1:
                ids = chosen[0].ask("ids")
                expected = {id_ for agent in chosen for id_ in list(agent.added)}
                if (
                    ids is not None
                    and states[0] is not None
                    and expected <= set(ids["ids"])
                    and ids["digest"] == states[0]["digest"]
                ):
                    return time.monotonic() - began
            time.sleep(0.1)
        return None

    @property
    def passed(self) -> int:
        """Bytes through all proxies, both ways."""
        return sum(proxy.passed for proxy in self.proxies.values())


def free_ports(count: int) -> list[int]:
    """Ports below those that the system gives to outgoing connections, so that a restarted agent finds its own free."""
    found: list[int] = []
    rng = random.Random(os.getpid())  # noqa: S311 - no secret
    while len(found) < count:
        port = rng.randrange(15_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether a condition comes true in time."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(0.1)
    return True
