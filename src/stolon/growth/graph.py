"""The joint network as a graph: its nodes, the tasks' routes through them, and its edges as data for drawing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, final

from torch import nn

from stolon.growth.structure import Tensors, Unit

INPUT: Final = "input"
"""The graph's only source."""


@final
@dataclass(frozen=True)
class Node:
    """The parameters of one unit.

    Attributes:
        unit: of which.
        tensors: by their names within the stage, in order of name; what they hold changes with training.
        task: the task that it was made for, which may be gone.
        copy_of: the node that it began as a copy of, which may be gone; None for one that was drawn.
    """

    unit: Unit
    tensors: Mapping[str, nn.Parameter]
    task: str
    copy_of: str | None = None


@final
@dataclass(frozen=True)
class Route:
    """What a task uses.

    Attributes:
        nodes: the node of each unit, by name.
        statistics: the task's own buffers, for each stage.
        bound: the task that it was bound to, which may be gone; None where it was bound to none.
    """

    nodes: Mapping[Unit, str]
    statistics: tuple[Tensors, ...]
    bound: str | None = None


class Edge(NamedTuple):
    """From the output of one node to the input of another, for drawing.

    Attributes:
        source: a node, or :data:`INPUT`.
        target: a node, or ``"head:NAME"``.
        tasks: whose routes run along it, in order.
    """

    source: str
    target: str
    tasks: tuple[str, ...]


def edges_of(routes: Mapping[str, Route], heads: Mapping[str, str], depth: int) -> tuple[Edge, ...]:
    """All edges with the tasks that use them.

    Args:
        routes: by task.
        heads: by task the name of its head.
        depth: how many stages there are.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for task, route in routes.items():
        before = [INPUT]
        layers = [
            [name for unit, name in route.nodes.items() if unit.stage == stage] for stage in range(depth)
        ]
        for here in [*layers, [f"head:{heads[task]}"]]:
            for pair in ((a, b) for a in before for b in here):
                found.setdefault(pair, []).append(task)
            before = here
    return tuple(Edge(a, b, tuple(tasks)) for (a, b), tasks in found.items())
