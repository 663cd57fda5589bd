"""The demo's second half: three agents, each a process, learn two tasks each, share, and answer for all six."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import torch
from PIL import Image
from rich.console import Console

from stolon.experiments import report
from stolon.nets.backbone import Backbone
from stolon.sharing.gate import GateSettings
from stolon.shell import population
from stolon.shell.learning import input_size
from stolon.streams import folders
from stolon.tasks import Task

NAMES: Final = ("ant", "bee", "cat")
MAY_TAKE: Final = 0.15
"""Small pictures of the same six digits look alike; by the default of 5 % some tasks would be held back."""
WITHIN_S: Final = 120.0
"""How long the agents may take to be equal before the demo says that something is wrong."""


@final
@dataclass(frozen=True)
class Outcome:
    """What the three agents did.

    Attributes:
        taught: which tasks each agent taught.
        accuracy: share of test images for which task and class were both right, by agent and task.
        tasks: rows of ``stolon tasks --json``, of the agent that started last.
        are_equal: all agents gave the same answers, to the last digit.
        equal_s: seconds from the end of the last learning until each answered for every task.
        sent: bytes that all of them sent, as the exchange counts them.
    """

    taught: Mapping[str, Sequence[str]]
    accuracy: Mapping[str, Mapping[str, float]]
    tasks: Sequence[Mapping[str, object]]
    are_equal: bool
    equal_s: float
    sent: int


def run(backbone: Backbone, pictures: Sequence[Path], folder: Path, seed: int, console: Console) -> Outcome:
    """Found the agents, let them learn, wait until they are equal, and ask each about every task.

    Args:
        backbone: what all of them have.
        pictures: folders of images; each becomes one task of one of the agents.
        folder: where their stores go; an earlier demo's are replaced.
        seed: of everything random.
        console: is told what happens.

    Raises:
        AgentUnreachableError: an agent did not start, or they did not become equal.
    """
    stores = {name: folder / name for name in NAMES}
    for store in stores.values():
        shutil.rmtree(store, ignore_errors=True)
    taught = {name: pictures[i :: len(NAMES)] for i, name in enumerate(NAMES)}
    tasks = [folders.read_task(path, size=input_size(backbone), seed=seed) for path in pictures]
    with console.status("founding three agents that trust each other"):
        population.found(stores, backbone, GateSettings(taken=MAY_TAKE))
    with population.running(stores) as members:
        for member in members:
            said = ", ".join(path.name for path in taught[member.name])
            console.print(f"{member.name}: process {member.process.pid}, learns {said}", highlight=False)
        with console.status("learning, each its own tasks"):
            population.learn_all(members, taught, seed)
        with console.status("sharing"):
            equal_s = population.wait_until_equal(members, [task.name for task in tasks], WITHIN_S)
        with console.status("asking every agent about every task"):
            answers = {member.name: [member.answers(task) for task in tasks] for member in members}
        rows = members[-1].remote.get("/tasks")["tasks"]
        sent = sum(member.remote.get("/status")["sent"] for member in members)
    return Outcome(
        {name: [path.name for path in paths] for name, paths in taught.items()},
        {
            name: {
                task.name: _accuracy(task, given) for task, given in zip(tasks, answers[name], strict=True)
            }
            for name in NAMES
        },
        rows,
        all(answers[name] == answers[NAMES[0]] for name in NAMES),
        equal_s,
        sent,
    )


def as_folders(tasks: Iterable[Task], folder: Path) -> list[Path]:
    """Write each task of grey pictures in memory as a folder of PNG files, as a person would have it."""
    paths = []
    for task in tasks:
        path = folder / task.name
        shutil.rmtree(path, ignore_errors=True)
        for part in ("train", "val", "test"):
            split = getattr(task, part)
            x, y = split.batch(torch.arange(len(split)))
            pixels = (x[:, 0] * 255).round().to(torch.uint8).numpy()
            for label, name in enumerate(task.classes):
                (path / part / name).mkdir(parents=True)
                for number in (y == label).nonzero()[:, 0].tolist():
                    Image.fromarray(pixels[number]).save(path / part / name / f"{number:04}.png")
        paths.append(path)
    return paths


def section(outcome: Outcome) -> report.Section:
    """The part of the report that shows it."""
    tasks = list(outcome.accuracy[NAMES[0]])
    teacher = {task: name for name, taught in outcome.taught.items() for task in taught}
    total = sum(int(str(row["bytes"])) for row in outcome.tasks)
    equal = (
        "All three gave the same answers to all questions, to the last digit."
        if outcome.are_equal
        else "Their answers differ."
    )
    return report.Section(
        "Three agents without a server",
        f"Three processes on this machine, each with the same frozen backbone and a key of its own, trust each other. "
        f"Each learned two tasks from folders of pictures; what it learned went to the others as signed modules. "
        f"{outcome.equal_s:.1f} seconds after the last one had learned, each answered for all {len(tasks)} tasks. "
        f"{equal}\n\n"
        f"The modules take {total / 1000:.0f} kB together; the agents sent {outcome.sent / 1000:.0f} kB in all, to two "
        "others each.\n\n"
        f"A module may take up to {MAY_TAKE:.0%} of what is known. The default is 5 %, and small pictures of the same "
        "digits look too much alike for it.",
        tables=[
            report.Table(
                ["task", "taught by", *(f"{name} answers [%]" for name in NAMES)],
                [
                    [
                        task,
                        teacher[task],
                        *(f"{100 * outcome.accuracy[name][task]:.1f}" for name in NAMES),
                    ]
                    for task in tasks
                ],
                "Test images for which task and class were both right; the task was not named.",
            ),
            report.Table(
                ["task", "taught by", "kB", "came", "module"],
                [
                    [
                        str(row["task"]),
                        str(row["taught_by"]),
                        f"{int(str(row['bytes'])) / 1000:.1f}",
                        str(row["arrived"]),
                        str(row["id"])[:12],
                    ]
                    for row in outcome.tasks
                ],
                f"What {NAMES[-1]} holds.",
            ),
        ],
    )


def _accuracy(task: Task, answers: Sequence[Mapping[str, object]]) -> float:
    _, y = task.test.batch(torch.arange(len(task.test)))
    right = [
        (answer["task"], answer["class"]) == (task.name, task.classes[label])
        for answer, label in zip(answers, y.tolist(), strict=True)
    ]
    return sum(right) / len(right)
