"""``stolon reproduce skill-figure10``: N agents learn T tasks and share; what that costs, and what it is worth.

Four variants, as in the paper: Gaussian and Mahalanobis anchors, without and with beneficial biases. In each, N agents
learn their share of T tasks, pass everything on, and end with all tasks and the same answers, which is checked bit
for bit. The costs are accounted for by the paper's definition (:mod:`stolon.experiments.skill_costs`).

Source: Ge et al., TMLR 2023, arXiv:2305.15591, section 6, Fig. 10.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, final

from stolon import durable, settings
from stolon.errors import DataMissingError, SettingError, StoreExistsError
from stolon.experiments import provenance, skill_costs, skill_population
from stolon.experiments.demo import TASK_DIGITS, DigitsPretraining
from stolon.experiments.skill_costs import Accounting, Lesson
from stolon.experiments.skill_population import Job, Report
from stolon.light.config import LightweightConfig
from stolon.nets.backbone import Backbone, pretrained

Scale = Literal["quick", "half", "full"]
SCALES: Final = ("quick", "half", "full")
ANCHORS: Final = ("gmm", "mahalanobis")
NAME: Final = "skill-figure10"
WORDS: Final = {"gmm": "Gaussian", "mahalanobis": "Mahalanobis"}


@final
@dataclass(frozen=True)
class SkillConfig:
    """What is run; where a value is None, the scale and the data decide.

    Attributes:
        scale: ``"quick"`` (minutes), ``"half"`` or ``"full"`` (all tasks, biases trained as long as by default).
        agents: N, at least 2.
        tasks: T, at least N.
        root: a folder with ``datasets/`` and ``backbones/``: image folders on MobileNetV2; None: scikit-learn's digits.
        seed: of everything random.
        in_process: all agents in this process, over a network in memory; otherwise processes of their own.
        anchors: which kinds.
        biases: which variants: without (False), with (True).

    Raises:
        SettingError: a value is out of its range.
    """

    scale: Scale = "quick"
    agents: int | None = None
    tasks: int | None = None
    root: str | None = None
    seed: int = 0
    in_process: bool = False
    anchors: tuple[str, ...] = ANCHORS
    biases: tuple[bool, ...] = (False, True)

    def __post_init__(self) -> None:
        settings.one_of("scale", self.scale, SCALES)
        settings.at_least("seed", self.seed, 0)
        for name in self.anchors:
            settings.one_of("anchors", name, ANCHORS)
        if self.agents is not None:
            settings.at_least("agents", self.agents, 2)
        if self.tasks is not None:
            settings.at_least("tasks", self.tasks, self.agents or 2)
        if not self.anchors or not self.biases:
            raise SettingError("anchors, biases: expected at least one of each, found none")


@final
@dataclass(frozen=True)
class World:
    """What the agents live in, as the configuration and the data give it.

    Attributes:
        backbone: the frozen one.
        stream: its name.
        options: the stream's.
        agents: N.
        tasks: T.
        learning: settings of the learner, by whether it has biases.
        words: what it is, for people.

    Raises:
        SettingError: there are more agents than tasks.
    """

    backbone: Backbone
    stream: str
    options: dict[str, Any]
    agents: int
    tasks: int
    learning: dict[bool, dict[str, Any]]
    words: str

    def __post_init__(self) -> None:
        if self.agents > self.tasks:
            raise SettingError(
                f"agents: expected at most one for each of the {self.tasks} tasks, found {self.agents}"
            )


@final
@dataclass(frozen=True)
class Variant:
    """What one of the four gave.

    Attributes:
        anchor: ``"gmm"`` or ``"mahalanobis"``.
        biases: with them.
        costs: by the definition.
        module_bytes: of all modules together.
        sent: bytes that all agents gave to their links, mean per agent.
        received: and got from them, mean per agent.
        student_macs_all: what a student computes with the gate and unpacking counted too.
        named: accuracy with the task named, mean over tasks, 0 to 1.
        mapper: share of inputs whose task was found.
        joint: accuracy without the task named.
        equal: all agents gave the same answers, bit for bit.
        complete: all agents answer for all tasks.
        held: what our gate, by its default settings, would hold back from whom, in words.
        biased: tasks that kept biases; the others' validation loss was lower without.
        complete_s: seconds from the last task learned to the last agent having everything.
        lessons: what each task's learning went through.
        macs: teacher MACs of each task.
        tasks: named, mapper and joint accuracy of each task.
    """

    anchor: str
    biases: bool
    costs: Accounting
    module_bytes: int
    sent: float
    received: float
    student_macs_all: float
    named: float
    mapper: float
    joint: float
    equal: bool
    complete: bool
    held: tuple[str, ...]
    biased: tuple[str, ...]
    complete_s: float
    lessons: tuple[Lesson, ...]
    macs: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As the table calls it."""
        return f"{WORDS[self.anchor]}, {'' if self.biases else 'no '}biases"

    @property
    def efficiency_sent(self) -> float:
        """E with the bytes really received, and all that a student computes, in place of the definition's."""
        costs = dataclasses.replace(
            self.costs, received_bytes=self.received, student_macs=self.student_macs_all
        )
        return costs.efficiency


def run(
    config: SkillConfig, folder: Path, say: Callable[[str], None] = lambda _: None
) -> tuple[World, list[Variant]]:
    """Run all variants; writes ``skill-figure10.json`` into the folder.

    Args:
        config: what to run.
        folder: takes the agents' folders and the results; an earlier run's are replaced.
        say: told how it goes.

    Raises:
        DataMissingError: the data are not there.
        StoreExistsError: the folder holds something else.
        StolonError: an agent failed.
    """
    _clear(folder)
    world = make_world(config, say)
    found = []
    for anchor in config.anchors:
        for biases in config.biases:
            found.append(_variant(config, world, folder, anchor, say, biases=biases))
            _write(config, world, found, folder)
    return world, found


def make_world(config: SkillConfig, say: Callable[[str], None]) -> World:
    """Backbone and stream, and how many agents share how many tasks.

    Raises:
        DataMissingError: the data are not there.
    """
    if config.root is None:
        return _digits(config, say)
    return _folders(config, Path(config.root))


def _digits(config: SkillConfig, say: Callable[[str], None]) -> World:
    say("training the frozen backbone on the digits 0 to 3")
    pretraining = DigitsPretraining(config.seed)
    for _ in pretraining.run():
        pass
    tasks = config.tasks or 6
    few = tasks <= 6
    head = {"learning_rate": 1e-2}
    return World(
        backbone=pretraining.backbone,
        stream="digits-mixed" if few else "digits-permuted",
        options={"classes": list(TASK_DIGITS)} | ({} if few else {"tasks": tasks}),
        agents=config.agents or (3 if config.scale == "quick" else tasks),
        tasks=tasks,
        learning={False: head, True: {**head, "bias_epochs": {"quick": 3, "half": 10}.get(config.scale, 30)}},
        words=f"scikit-learn's digits 4 to 9 in {tasks} {'views' if few else 'orders of their pixels'}, on a "
        "backbone trained on the digits 0 to 3",
    )


def _folders(config: SkillConfig, data: Path) -> World:
    weights = data / "backbones" / "mobilenetv2_100.safetensors"
    sets = data / "datasets"
    if not weights.is_file() or not sets.is_dir():
        raise DataMissingError(
            f"expected {sets} and {weights}, found no such folder or file; leave --root out for digits"
        )
    size, most, agents, passes = {
        "quick": (96, 4, 2, 1),
        "half": (96, 12, 6, 5),
        "full": (160, None, None, 30),
    }[config.scale]
    from stolon import streams

    there = len(streams.make("folders", root=sets, seed=config.seed, size=size))
    tasks = min(config.tasks or most or there, there)
    return World(
        backbone=pretrained(f"timm:mobilenetv2_100?pad_type=same&size={size}", weights),
        stream="folders",
        options={"size": size},
        agents=config.agents or agents or tasks,
        tasks=tasks,
        learning={False: {}, True: {"bias_epochs": passes}},
        words=f"the first {tasks} image folders of {sets} at {size} x {size} pixels, on MobileNetV2",
    )


def _variant(
    config: SkillConfig,
    world: World,
    folder: Path,
    anchor: str,
    say: Callable[[str], None],
    *,
    biases: bool,
) -> Variant:
    name = f"{anchor}-{'biases' if biases else 'plain'}"
    say(f"{world.agents} agents, {world.tasks} tasks: {WORDS[anchor]}, {'biases' if biases else 'no biases'}")
    root = None if config.root is None else str(Path(config.root) / "datasets")
    job = Job(
        str(folder / "agents" / name),
        world.agents,
        world.tasks,
        world.stream,
        root,
        world.options,
        config.seed,
    )
    learner = LightweightConfig(
        anchor=anchor,  # type: ignore[arg-type]  # one of ANCHORS
        biases="all" if biases else "none",
        **world.learning[biases],
    )
    durable.make_folder(Path(job.folder))
    skill_population.create(job, world.backbone, learner)
    if config.in_process:
        reports = skill_population.in_process(job, world.backbone, say)
    else:
        reports = skill_population.as_processes(job, say)
    shape = job.make_stream()[0].shape
    return _account(world, learner, reports, shape)


def _account(
    world: World, learner: LightweightConfig, reports: list[Report], shape: tuple[int, ...]
) -> Variant:
    """From what the agents reported to one row of the table."""
    lessons = tuple(lesson for report in reports for lesson in report.lessons)
    macs = {
        lesson.task: skill_costs.teacher(world.backbone, shape, lesson, learner).macs for lesson in lessons
    }
    sizes = reports[0].modules
    learned_by = {lesson.task: lesson.agent for lesson in lessons}
    foreign = [
        sum(size for task, size in sizes.items() if learned_by[task] != report.agent) for report in reports
    ]
    answers = reports[0].answers
    held = tuple(
        f"agent {report.agent}: {task} {reason}" for report in reports for task, reason in report.held.items()
    )
    return Variant(
        anchor=learner.anchor,
        biases=learner.biases != "none",
        costs=Accounting(
            agents=world.agents,
            single_macs=sum(macs.values()),
            slowest_macs=skill_population.busiest(reports, macs),
            received_bytes=_mean(foreign),
            student_macs=_mean([report.mapper_macs for report in reports]),
        ),
        module_bytes=sum(sizes.values()),
        sent=_mean([report.sent for report in reports]),
        received=_mean([report.received for report in reports]),
        student_macs_all=_mean([report.student_macs for report in reports]),
        named=_mean([answer.named for answer in answers.values()]),
        mapper=_mean([answer.mapper for answer in answers.values()]),
        joint=_mean([answer.joint for answer in answers.values()]),
        equal=len({report.digest for report in reports}) == 1,
        complete=all(len(report.answers) == world.tasks for report in reports),
        held=held,
        biased=reports[0].biased,
        complete_s=max(report.complete_s for report in reports),
        lessons=lessons,
        macs=macs,
        tasks={task: (answer.named, answer.mapper, answer.joint) for task, answer in answers.items()},
    )


def _write(config: SkillConfig, world: World, found: list[Variant], folder: Path) -> None:
    value = {
        "experiment": NAME,
        "config": dataclasses.asdict(config),
        "world": {
            "words": world.words,
            "agents": world.agents,
            "tasks": world.tasks,
            "backbone": {"name": world.backbone.name, "fingerprint": world.backbone.fingerprint},
        },
        "variants": [
            {
                **dataclasses.asdict(variant),
                "efficiency": variant.costs.efficiency,
                "efficiency_of_slowest": variant.costs.efficiency_of_slowest,
                "efficiency_sent": variant.efficiency_sent,
            }
            for variant in found
        ],
        "versions": provenance.versions(),
        "hardware": provenance.hardware(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    durable.write(folder / f"{NAME}.json", (json.dumps(value, indent=1) + "\n").encode())


def _clear(folder: Path) -> None:
    """Remove an earlier run of this experiment; nobody else's folder is touched."""
    if folder.exists() and any(folder.iterdir()) and not (folder / f"{NAME}.json").is_file():
        if {path.name for path in folder.iterdir()} == {
            "agents"
        }:  # one that was stopped before its first result
            shutil.rmtree(folder)
            return
        raise StoreExistsError(f"{folder} is not an earlier {NAME}'s; give another place (--out FOLDER)")
    if (folder / "agents").exists():
        shutil.rmtree(folder / "agents")


def _mean(values: Iterator[float] | list[float] | list[int]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0
