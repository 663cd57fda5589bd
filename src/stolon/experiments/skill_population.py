"""N agents that learn T tasks between them and share: as processes of their own, or all in this one.

Both run :class:`Member`. In one process the members share a network in memory; as processes
(:mod:`stolon.experiments.skill_worker`) they speak over Zenoh on the loopback interface. The agents are real:
:class:`stolon.agent.Agent`, each with its store, key and bank.
"""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import torch

from stolon import streams
from stolon.agent import Agent
from stolon.errors import StolonError, TrialsFailedError
from stolon.evaluation import evaluate
from stolon.experiments import skill_costs
from stolon.experiments.skill_costs import Lesson
from stolon.light.config import LightweightConfig
from stolon.links.memory import MemoryNetwork
from stolon.measure.costs import flop_counter
from stolon.nets.backbone import Backbone
from stolon.sharing import lightweight
from stolon.sharing.activation import GateSettings
from stolon.sharing.exchange.ports import Link
from stolon.sharing.limits import MAX_BANK
from stolon.sharing.trust import Author
from stolon.tasks import Stream, Task

Say = Callable[[str], None]

PATIENCE_S: Final = 300.0
"""Longest that agents may take to have everything once all is learned."""
OPEN: Final = GateSettings(taken=0.99, loosened=1.0, weak=0.0)
"""The paper's agents have no gate: whatever comes is used."""


@final
@dataclass(frozen=True)
class Job:
    """One population's work, as JSON values.

    Attributes:
        folder: holds the agents' folders.
        agents: N.
        tasks: T; task i is agent i mod N's.
        stream: name of the stream.
        root: where its data are.
        options: the stream's own.
        seed: of stream and learning.
        threads: of PyTorch in each process.
    """

    folder: str
    agents: int
    tasks: int
    stream: str
    root: str | None
    options: dict[str, Any]
    seed: int
    threads: int = 1

    def make_stream(self) -> Stream:
        """All T tasks."""
        made = streams.make(self.stream, root=self.root, seed=self.seed, **self.options)
        return made[: self.tasks]

    def agent_folder(self, index: int) -> Path:
        """Where an agent lives."""
        return Path(self.folder) / f"agent-{index:02d}"


@final
@dataclass(frozen=True)
class TaskAnswers:
    """One agent's answers for one task.

    Attributes:
        named: accuracy with the task named, 0 to 1.
        mapper: share of inputs whose task was found, unknown counted as wrong.
        joint: accuracy without the task named: task and class must both be right.
    """

    named: float
    mapper: float
    joint: float


@final
@dataclass(frozen=True)
class Report:
    """What an agent ended with.

    Attributes:
        agent: its index.
        lessons: what it learned itself.
        modules: bytes of every module, by task.
        held: tasks that our gate would hold back, by its default settings, and why.
        biased: tasks whose module has biases: where they did not help, none were kept.
        answers: by task.
        digest: SHA-256 over all its answers, bit for bit.
        sent: bytes that it gave to the link.
        received: bytes that it got from it.
        mapper_macs: of merging all anchors into a task mapper.
        student_macs: of all that it does with what it received: unpacking, the gate, the task mapper.
        complete_s: from the last task learned anywhere to everything being here; as seen by this agent.
    """

    agent: int
    lessons: tuple[Lesson, ...]
    modules: dict[str, int]
    held: dict[str, str]
    biased: tuple[str, ...]
    answers: dict[str, TaskAnswers]
    digest: str
    sent: int
    received: int
    mapper_macs: int
    student_macs: int
    complete_s: float

    def to_json(self) -> dict[str, Any]:
        """As JSON values; :meth:`from_json` is the way back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Report":
        """What :meth:`to_json` gave."""
        lessons = tuple(Lesson(**lesson) for lesson in value["lessons"])
        answers = {task: TaskAnswers(**answer) for task, answer in value["answers"].items()}
        biased = tuple(value["biased"])
        return cls(**{**value, "lessons": lessons, "answers": answers, "biased": biased})


@final
class Member:
    """One agent of the population, from joining to its report."""

    def __init__(self, job: Job, index: int, backbone: Backbone | None, link: Link) -> None:
        self._job, self._index = job, index
        self.agent = Agent(job.agent_folder(index), backbone, link, gate=OPEN)
        self._lessons: list[Lesson] = []
        self._complete_s = 0.0

    def learn(self, say: Say) -> None:
        """Learn its own tasks, one after the other; each is shared as soon as it is learned."""
        for task in self._job.make_stream()[self._index :: self._job.agents]:
            epochs: dict[str, int] = {}
            begun = time.monotonic()
            with skill_costs.counted_clustering() as clustering:
                for epoch in self.agent.learn(task, seed=self._job.seed):
                    epochs[epoch.phase] = epoch.number
            seconds = round(time.monotonic() - begun, 2)
            epochs.pop("features", None)
            self._lessons.append(
                Lesson(
                    task.name,
                    self._index,
                    len(task.train),
                    len(task.val),
                    len(task.classes),
                    epochs,
                    sum(clustering),
                    seconds,
                )
            )
            say(f"agent {self._index} learned {task.name} in {seconds:.1f} s")

    def wait(self) -> None:
        """Return once it holds a module of every task.

        Raises:
            StolonError: some did not come in time; says which.
        """
        begun = time.monotonic()
        while len(self.agent.modules()) < self._job.tasks:
            if time.monotonic() - begun > PATIENCE_S:
                have = ", ".join(status.task for status in self.agent.modules())
                raise StolonError(
                    f"agent {self._index} has {have or 'nothing'} after {PATIENCE_S:.0f} s, expected "
                    f"{self._job.tasks} tasks; is the loopback interface up, and the machine not too busy?"
                )
            time.sleep(0.02)
        self._complete_s = round(time.monotonic() - begun, 2)

    def report(self) -> Report:
        """Ask it everything."""
        statuses = self.agent.modules()
        sent, received = self.agent.traffic()
        sha = hashlib.sha256()
        answers = {
            task.name: _answers(self.agent, task, sha)
            for task in self._job.make_stream()
            if task.name in self.agent.tasks
        }
        mapper, everything, held = self._student()
        return Report(
            agent=self._index,
            lessons=tuple(self._lessons),
            modules={status.task: status.bytes for status in statuses},
            held=held,
            biased=tuple(status.task for status in statuses if status.has_biases),
            answers=answers,
            digest=sha.hexdigest(),
            sent=sent.total,
            received=received.total,
            mapper_macs=mapper,
            student_macs=everything,
            complete_s=self._complete_s,
        )

    def _student(self) -> tuple[int, int, dict[str, str]]:
        """MACs of the task mapper alone, and of all that our students do, done once more; whom the gate holds back."""
        learner = self.agent.store.learner
        anchors = {
            status.name: lightweight.knowledge(self.agent.bank.module(status.id)).anchor
            for status in self.agent.modules()
            if status.active
        }
        mapper = skill_costs.student(learner.anchoring, anchors, learner.backbone.features)
        dimensions = int(next(iter(anchors.values())).means.shape[1])
        with (
            flop_counter() as counter,
            Agent(self.agent.folder, learner.backbone, write=False) as again,
        ):
            held = {status.task: status.reason for status in again.modules() if not status.active}
        # two mappers for an honest set: of its own tasks, and of all
        return mapper, counter.get_total_flops() // 2 + 2 * dimensions**3, held


def create(job: Job, backbone: Backbone, config: LightweightConfig) -> None:
    """Make the agents' folders and let each trust all the others."""
    keys = {}
    for index in range(job.agents):
        with Agent.create(job.agent_folder(index), backbone, config) as agent:
            keys[index] = agent.key.public
    share = min(MAX_BANK // job.agents, 2**30)
    for index in range(job.agents):
        with Agent(job.agent_folder(index), backbone) as agent:
            trust = agent.trust
            for other, key in keys.items():
                if other != index:
                    trust = trust.adding(Author(key, f"agent {other}", bytes=share))
            agent.set_trust(trust)


def in_process(job: Job, backbone: Backbone, say: Say) -> list[Report]:
    """The whole population in this process; agents learn one after the other."""
    before = torch.get_num_threads()
    torch.set_num_threads(job.threads)
    network = MemoryNetwork()
    try:
        with ExitStack() as stack:
            members = []
            for index in range(job.agents):
                member = Member(job, index, backbone, network.link())
                stack.enter_context(member.agent)
                member.agent.start()
                members.append(member)
            for member in members:
                member.learn(say)
            for member in members:
                member.wait()
            return [member.report() for member in members]
    finally:
        torch.set_num_threads(before)


def as_processes(job: Job, say: Say) -> list[Report]:
    """Each agent in a process of its own; they learn at the same time.

    Raises:
        TrialsFailedError: a process ended early; says what it said last.
    """
    with ExitStack() as stack:
        # all at once: most of a start is spent importing, and each needs to know the others only after that
        workers = [stack.enter_context(_started(job, index)) for index in range(job.agents)]
        endpoints: list[str] = []
        for worker in workers:
            worker.tell(connect=endpoints)
            endpoints.append(worker.hear("endpoint"))
        for worker in workers:
            worker.tell(step="learn")
        for worker in workers:
            for line in worker.until("learned"):
                say(line)
        for worker in workers:
            worker.tell(step="wait")
        for worker in workers:
            worker.hear("complete")
        for worker in workers:
            worker.tell(step="report")
        reports = [Report.from_json(worker.hear("report")) for worker in workers]
        for worker in workers:
            worker.tell(step="stop")
        return reports


@final
class _Worker:
    """A process, spoken to by lines of JSON."""

    def __init__(self, index: int, process: "subprocess.Popen[str]", errors: Path) -> None:
        self.index, self.process, self._errors = index, process, errors

    def tell(self, **message: object) -> None:
        """Send a message."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._failed() from None

    def hear(self, what: str) -> Any:  # noqa: ANN401 - JSON values
        """Wait for a message of this name; what it says."""
        while True:
            message = self._next()
            if what in message:
                return message[what]

    def until(self, what: str) -> Iterator[str]:
        """What it tells people until a message of this name."""
        while what not in (message := self._next()):
            if "say" in message:
                yield message["say"]

    def _next(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise self._failed()
        return dict(json.loads(line))

    def _failed(self) -> TrialsFailedError:
        self.process.wait(10)
        last = self._errors.read_text(errors="replace").strip().splitlines()[-3:]
        return TrialsFailedError(
            f"agent {self.index} ended early ({self.process.returncode}): {' / '.join(last) or 'no word'}; "
            f"all it said is in {self._errors}"
        )


@contextmanager
def _started(job: Job, index: int) -> Iterator[_Worker]:
    errors = Path(job.folder) / f"agent-{index:02d}.log"
    given = json.dumps({**dataclasses.asdict(job), "index": index})
    with errors.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - this very program
            [sys.executable, "-m", "stolon.experiments.skill_worker", given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(job.threads)},
        )
    try:
        yield _Worker(index, process, errors)
    except BaseException:
        process.kill()  # in the middle of a task it would not notice for minutes
        raise
    finally:
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _answers(agent: Agent, task: Task, sha: Any) -> TaskAnswers:  # noqa: ANN401 - hashlib's own
    """Accuracies on a task's test images; every answer goes into the digest."""
    named = evaluate(agent, task)
    unnamed = evaluate(agent, task, named=False)
    assert named is not None
    assert unnamed is not None
    for indices in torch.arange(len(task.test)).split(256):
        x, _ = task.test.batch(indices)
        for answer in (agent.predict(x), agent.predict(x, task.name)):
            sha.update(json.dumps([answer.tasks, answer.classes]).encode())
            sha.update(answer.labels.numpy().tobytes() + answer.confidence.detach().numpy().tobytes())
    found = sum(name == task.name for name in unnamed.tasks) / len(unnamed.tasks)
    return TaskAnswers(named.accuracy, found, unnamed.accuracy)


def busiest(reports: Sequence[Report], macs: dict[str, int]) -> int:
    """MACs of the agent that had most to learn."""
    return max(sum(macs[lesson.task] for lesson in report.lessons) for report in reports)
