"""Learning folders, one task each, as events: the same for a command of its own and for a running agent."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

from stolon.agent import Agent
from stolon.errors import TaskExistsError
from stolon.learner import Epoch
from stolon.nets.backbone import Backbone
from stolon.records import Json
from stolon.streams import folders
from stolon.tasks import Task


@final
@dataclass(frozen=True)
class Said:
    """A line for people: what has been reached."""

    words: str


Event = Epoch | Said


def input_size(backbone: Backbone) -> int:
    """The size in pixels at which a backbone wants its images decoded."""
    preprocessing = backbone.preprocessing
    return (preprocessing.size if preprocessing is not None else 0) or 224


def learn_folder(agent: Agent, path: Path, seed: int) -> Iterator[Event]:
    """Learn one folder; a task that is learned already, from the same data, is passed over.

    Raises:
        DataError: the folder is no set of images, or something in it is wrong.
        TaskError: a task of that name is known from other data, or another one is unfinished.
        RecipeChangedError: it was begun with other data, settings or platform.
        StoreFullError: the disk refused; what was saved before is intact.
    """
    begun = time.monotonic()
    task = folders.read_task(path, size=input_size(agent.store.learner.backbone), seed=seed)
    if _is_learned(agent, task):
        yield Said(f"{task.name}: learned already, from the same data")
        if task.name not in agent.store.facts:  # killed between learning and judging
            agent.finish(task)
            yield Said(_verdict(agent.store.facts[task.name], task, None))
        return
    yield from agent.learn(task, seed=seed)
    yield Said(_verdict(agent.store.facts[task.name], task, round(time.monotonic() - begun, 1)))


def _is_learned(agent: Agent, task: Task) -> bool:
    learner = agent.store.learner
    if task.name not in learner.tasks:
        return False
    if learner.recipe(task.name)["data"] == task.digest():
        return True
    raise TaskExistsError(
        f"task {task.name!r} is known already, from other data or by another seed; rename the folder, or "
        "`stolon forget` it first"
    )


def _verdict(facts: Json, task: Task, seconds: float | None) -> str:
    score = facts["test_accuracy"]
    words = "no test images" if score is None else f"{score:.1%} on {len(task.test)} test images"
    took = "" if seconds is None else f" in {seconds} s"
    return f"{task.name}: learned {len(task.classes)} classes{took}; {words}"
