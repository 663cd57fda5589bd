"""One bind-and-grow step's decisions, by a learner's settings: measured, decided, and told; nothing is changed."""

import torch
from torch import Tensor

from stolon.growth import conflict
from stolon.growth.config import BINDINGS, BindAndGrowConfig
from stolon.growth.explanation import Growth
from stolon.growth.independent import Independent
from stolon.growth.joint import JointNetwork
from stolon.growth.similarity import LEAST, dissimilarities, signatures
from stolon.growth.task_network import TaskNetwork
from stolon.randomness import number
from stolon.tasks import Task, to_float
from stolon.training import accuracy


def compares(config: BindAndGrowConfig, task: str) -> bool:
    """Whether anything about a later task is decided by conflicts, so that it needs an independent network."""
    return config.bind_of(task) == "least-conflict" or config.grow == "nucleus"


def decide(
    joint: JointNetwork, alone: Independent | None, task: Task, seed: int, config: BindAndGrowConfig
) -> tuple[Growth, list[int]]:
    """Whom a task binds to, and the positions of the units that it grows.

    Args:
        joint: with the candidates' networks as they are now.
        alone: the task's independent network; None where nothing is decided by conflicts.
        task: the task.
        seed: what is drawn is a function of it and the task.
        config: the rules.
    """
    rule, labels = config.bind_of(task.name), [joint.structure.label(unit) for unit in joint.structure.units]
    found = None if alone is None else measure(joint, alone, task, seed, config)
    choices = seed if config.draw == 0 else number(seed, "draw", config.draw)
    bound = _bound(rule, joint.tasks, found, choices, task.name)
    masses: list[float] = []
    if found is not None:
        spread = conflict.distribution_as_released if config.as_released else conflict.distribution
        masses = spread(found.conflicts[bound])
    if config.grow == "random":
        delta, grown = None, conflict.random_units(len(labels), choices, task.name)
    else:
        delta = config.delta_of(task.name)
        grown = (conflict.nucleus_as_released if config.as_released else conflict.nucleus)(masses, delta)
    growth = Growth(
        task=task.name,
        bound=bound,
        binding=rule if rule in BINDINGS else "given",
        delta=delta,
        units=tuple(labels),
        grown=tuple(labels[i] for i in grown),
        distribution=tuple(masses),
        parameters=joint.parameters_of(bound),
        independent_accuracy=None if alone is None else accuracy(alone, task.val),
        **({} if found is None else found._asdict()),
    )
    return growth, grown


@torch.no_grad()
def measure(
    joint: JointNetwork, alone: Independent, task: Task, seed: int, config: BindAndGrowConfig
) -> conflict.Measured:
    """Compare a task's independent network with every candidate's as it is now.

    Raises:
        TaskError: a network has blown up.
    """
    if config.as_released:
        x, source = conflict.inputs_as_released(task.train, config.samples, seed, task.name)
    else:
        x, source = conflict.inputs(task, config.samples, LEAST, seed)

    def signed(network: Independent | TaskNetwork) -> list[Tensor]:
        return signatures(
            lambda block: network.activations(to_float(block)), x, config.similarity, memory=config.memory
        )

    ours = signed(alone)
    conflicts = {name: dissimilarities(ours, signed(joint.network(name))) for name in joint.tasks}
    if config.as_released:
        conflicts = {name: [1 - value for value in values] for name, values in conflicts.items()}
    score = conflict.score_as_released if config.as_released else conflict.score
    return conflict.Measured(
        conflicts={name: tuple(values) for name, values in conflicts.items()},
        scores={name: score(values) for name, values in conflicts.items()},
        inputs=len(x),
        source=source,
    )


def _bound(
    rule: str, candidates: tuple[str, ...], found: conflict.Measured | None, seed: int, task: str
) -> str:
    match rule:
        case "least-conflict":
            assert found is not None
            return conflict.least(found.scores)
        case "random":
            return conflict.random_task(candidates, seed, task)
        case "first":
            return candidates[0]
        case "last":
            return candidates[-1]
        case _:
            return rule
