"""One way for every command to reach a store: through the agent that runs on it, or by opening it.

A running agent holds the store's lock and has the backbone in memory, so it is asked where there is one; that
way no heavy library is loaded here.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

from stolon.errors import AgentUnreachableError, ImageError, StoreLockedError
from stolon.shell.remote import Remote, running

if TYPE_CHECKING:
    from stolon.agent import Agent
    from stolon.shell.learning import Event

Row = dict[str, Any]


class Client(Protocol):
    """What commands ask of a store."""

    def tasks(self) -> tuple[list[Row], str | None]:
        """Rows of :func:`stolon.shell.rows.task_rows`, and the task whose learning is unfinished."""
        ...

    def peers(self) -> list[Row]:
        """Rows of :func:`stolon.shell.rows.peer_rows`."""
        ...

    def classify(self, paths: Sequence[Path], task: str | None) -> list[Row]:
        """Answers for pictures; all are read before any is given."""
        ...

    def learn(self, folder: Path, seed: int, settings: Mapping[str, Any]) -> "Iterator[Event]":
        """Learn a folder as one task."""
        ...

    def save(self) -> None:
        """Make what was learned so far survive the end of this command."""
        ...

    def forget(self, task: str) -> None:
        """Drop a task."""
        ...

    def receive(self, data: bytes) -> str:
        """Take in a module file; its id."""
        ...

    def export(self, task: str, precision: str | None) -> bytes:
        """A task's module file."""
        ...


@contextmanager
def connect(folder: Path, *, write: bool, **changes: Any) -> Iterator[Client]:  # noqa: ANN401 - settings of several types
    """Reach the store: by the agent that runs on it, or by opening it.

    Args:
        folder: the store.
        write: whether something will be changed.
        changes: settings of learning, where the store is opened.

    Raises:
        StoreError: there is none, another process has it, or it is damaged.
        AgentUnreachableError: an agent runs on it, and does not answer.
    """
    reached = running(folder) or _opened(folder, write=write, **changes)
    if isinstance(reached, Remote):
        yield _Remotely(reached)
        return
    with reached as agent:
        yield _Here(agent)


def _opened(folder: Path, *, write: bool, **changes: Any) -> "Agent | Remote":  # noqa: ANN401 - as above
    """The store, opened; or the agent that has come up on it meanwhile."""
    from stolon.agent import Agent

    try:
        agent = Agent(folder, write=write, **changes)
        if write or not agent.unpacked:
            return agent
        # What was learned lies there, not packed: an older stolon's store, or a process killed at that moment.
        agent.close()
        with suppress(StoreLockedError), Agent(folder, write=True):
            pass
        return Agent(folder, write=False, **changes)
    except StoreLockedError:
        remote = running(folder)
        if remote is None:
            raise
        return remote


@final
class _Remotely:
    """By the running agent."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def tasks(self) -> tuple[list[Row], str | None]:
        found = self._remote.get("/tasks")
        return found["tasks"], found["unfinished"]

    def peers(self) -> list[Row]:
        found: list[Row] = self._remote.get("/peers")
        return found

    def classify(self, paths: Sequence[Path], task: str | None) -> list[Row]:
        size = int(self._remote.get("/status")["input_size"])
        data = b"".join(pixels.tobytes() for pixels in _read(paths, size))
        query = {} if task is None else {"task": task}
        found: list[Row] = self._remote.post(
            "/classify", data, count=str(len(paths)), size=str(size), **query
        )
        return found

    def learn(self, folder: Path, seed: int, settings: Mapping[str, Any]) -> "Iterator[Event]":
        from stolon.outcomes import Epoch
        from stolon.shell.learning import Said

        body = {"folder": str(folder.resolve()), "seed": seed, "settings": dict(settings)}
        for event in self._remote.follow("/learn", body):
            yield Epoch(**event["epoch"]) if "epoch" in event else Said(event["said"])

    def save(self) -> None:
        """The agent goes on by itself."""

    def forget(self, task: str) -> None:
        self._remote.post("/forget", {"task": task})

    def receive(self, data: bytes) -> str:
        return str(self._remote.post("/import", data)["id"])

    def export(self, task: str, precision: str | None) -> bytes:
        return self._remote.fetch(
            "/export", task=task, **({} if precision is None else {"precision": precision})
        )


@final
class _Here:
    """In this process."""

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent

    def tasks(self) -> tuple[list[Row], str | None]:
        from stolon.shell import rows

        return rows.task_rows(self._agent), self._agent.store.learner.unfinished

    def peers(self) -> list[Row]:
        raise AgentUnreachableError(
            f"no agent runs on {self._agent.folder}, so it has no peers; start one: stolon agent"
        )

    def classify(self, paths: Sequence[Path], task: str | None) -> list[Row]:
        import torch

        from stolon.shell import rows
        from stolon.shell.learning import input_size

        size = input_size(self._agent.store.learner.backbone)
        x = torch.stack([torch.from_numpy(pixels) for pixels in _read(paths, size)])
        return rows.answer_rows(self._agent.predict(x, task))

    def learn(self, folder: Path, seed: int, settings: Mapping[str, Any]) -> "Iterator[Event]":
        from stolon.shell.learning import learn_folder

        if settings:
            self._agent.store.configure(**settings)
        return learn_folder(self._agent, folder, seed)

    def save(self) -> None:
        self._agent.store.save()

    def forget(self, task: str) -> None:
        self._agent.forget(task)

    def receive(self, data: bytes) -> str:
        return self._agent.receive(data)

    def export(self, task: str, precision: str | None) -> bytes:
        from stolon.shell import rows

        return rows.export(self._agent, task, precision)


def _read(paths: Sequence[Path], size: int) -> list[Any]:
    """Pictures as uint8 [3, size, size]; what is wrong with any of them is told together."""
    from stolon import pictures

    decoded, broken = [], []
    for path in paths:
        try:
            decoded.append(pictures.square(pictures.read(path), size, pictures.printable(path)))
        except ImageError as error:
            broken.append(str(error))
    if broken:
        raise ImageError("; ".join(broken))
    return decoded
