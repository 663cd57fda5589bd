"""What a running agent has been asked to learn: one folder after the other, in a thread of its own.

The list is kept on disk (``STORE/jobs.json``): an agent that was killed, and started again, goes on where it stopped.
"""

import json
import logging
import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

from stolon import durable
from stolon.agent import Agent
from stolon.errors import StolonError
from stolon.learner import Epoch
from stolon.shell.learning import Event, learn_folder

FILE: Final = "jobs.json"

_log = logging.getLogger(__name__)


@final
@dataclass
class Job:
    """One folder to learn.

    Attributes:
        folder: an absolute path.
        seed: of everything random.
        settings: of :class:`~stolon.light.config.LightweightConfig`, for this and what comes after.
    """

    folder: str
    seed: int
    settings: Mapping[str, Any]
    _said: "queue.Queue[Event | StolonError | None]" = field(default_factory=queue.Queue)

    def events(self) -> Iterator[Event]:
        """How it goes, to the end; the job goes on whether or not anybody listens.

        Raises:
            StolonError: it was refused, or failed.
        """
        while (said := self._said.get()) is not None:
            if isinstance(said, StolonError):
                raise said
            yield said

    def say(self, event: Event | StolonError | None) -> None:
        """Tell the listener; None: there is nothing more to come."""
        self._said.put(event)

    def document(self) -> dict[str, Any]:
        """As it is kept on disk."""
        return {"folder": self.folder, "seed": self.seed, "settings": dict(self.settings)}


@final
class Jobs:
    """The learning thread.

    Args:
        agent: who learns; nobody else lets it learn meanwhile.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._file = agent.folder / FILE
        self._waiting: list[Job] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._progress: Epoch | None = None
        self._thread = threading.Thread(target=self._run, name="learning", daemon=True)

    @property
    def progress(self) -> Epoch | None:
        """The last step of what is being learned; None while nothing is."""
        return self._progress

    @property
    def waiting(self) -> tuple[str, ...]:
        """Folders that are being learned or wait for it."""
        with self._changed:
            return tuple(job.folder for job in self._waiting)

    def start(self) -> None:
        """Begin, with what an earlier process did not get to the end of."""
        for document in _read(self._file):
            self._waiting.append(Job(**document))
        self._thread.start()

    def add(self, folder: str, seed: int, settings: Mapping[str, Any]) -> Job:
        """Learn a folder when those before it are done.

        Raises:
            StoreFullError: the disk refused to note it.
        """
        job = Job(folder, seed, settings)
        with self._changed:
            self._note([*self._waiting, job])
            self._waiting.append(job)
            self._changed.notify()
        return job

    def stop(self) -> None:
        """Stop at the next chance, saved, and wait for it."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                finished = self._learn(job)
            except StolonError as error:
                _log.warning("not learned", extra={"folder": job.folder, "error": str(error)})
                job.say(error)
                finished = True
            except Exception as error:  # noqa: BLE001 - a fault must not end the thread without a word
                _log.exception("learning failed", extra={"folder": job.folder})
                job.say(
                    StolonError(f"{job.folder}: {error!r}; this is a fault of stolon, see the agent's log")
                )
                finished = True
            self._progress = None
            if not finished:
                return  # the process ends; the job stays on the list
            self._done(job)

    def _next(self) -> Job | None:
        with self._changed:
            while not self._waiting and not self._stopping:
                self._changed.wait()
            return None if self._stopping else self._waiting[0]

    def _learn(self, job: Job) -> bool:
        """Learn one folder; False where the process is to end before."""
        if job.settings:
            self._agent.store.configure(**job.settings)
        _log.info("learning", extra={"folder": job.folder, "seed": job.seed})
        for event in learn_folder(self._agent, Path(job.folder), job.seed):
            if isinstance(event, Epoch):
                self._progress = event
            else:
                _log.info(event.words, extra={"folder": job.folder})
            job.say(event)
            if self._stopping:
                self._agent.store.save()
                job.say(StolonError("the agent was stopped; it goes on when it is started again"))
                return False
        return True

    def _done(self, job: Job) -> None:
        with self._changed:
            self._waiting.remove(job)
            try:
                self._note(self._waiting)
            except StolonError:  # learned it is; at worst it is found learned already after a restart
                _log.exception("cannot note that a job is done", extra={"folder": job.folder})
        job.say(None)

    def _note(self, jobs: list[Job]) -> None:
        durable.write(self._file, json.dumps([job.document() for job in jobs]).encode())


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        return list(json.loads(file.read_bytes()))
    except FileNotFoundError:
        return []
    except ValueError:
        _log.warning("%s is damaged; folders that were waiting have to be given again", file)
        return []
