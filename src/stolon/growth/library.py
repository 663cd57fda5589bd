"""The layers that tasks choose among, and what each task chose: Learn-to-Grow's growing "super network".

A *node* holds the parameters of one layer. A task's *plan* names for every layer a node that is reused or adapted, or
one that is new with it; adapters, running statistics of normalisation and the head are the task's own.
(:class:`stolon.growth.joint.JointNetwork` has no place for adapters, and its tasks begin as copies of one another.)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, final

from torch import Tensor, nn

from stolon.errors import StoreDamagedError, TaskUnknownError
from stolon.growth.adapters import adapted
from stolon.growth.structure import Structure, Tensors, canonical
from stolon.nets.heads import load_head
from stolon.outcomes import Size
from stolon.records import Json

REUSE: Final = "reuse"
ADAPT: Final = "adapt"
NEW: Final = "new"
KINDS: Final = (REUSE, ADAPT, NEW)


class Choice(NamedTuple):
    """What a task does about one layer.

    Attributes:
        kind: ``"reuse"``, ``"adapt"`` or ``"new"``.
        node: the earlier node, such as ``"3:2"`` (the second that was made for layer 3), or the one that is new.
    """

    kind: str
    node: str

    def __str__(self) -> str:
        return f"{self.kind} {self.node}"


@final
@dataclass(frozen=True)
class Plan:
    """What one task uses.

    Attributes:
        choices: for each layer.
        adapters: of each layer; empty where none is adapted.
        statistics: of each layer, the task's own.
        head: maps features to scores.
    """

    choices: tuple[Choice, ...]
    adapters: tuple[Mapping[str, nn.Parameter], ...]
    statistics: tuple[Tensors, ...]
    head: nn.Linear


@final
class ChosenNetwork(nn.Module):
    """A task's network; its tensors are the nodes' and the plan's own.

    Args:
        structure: the arrangement.
        nodes: the parameters of each layer, by reference.
        plan: the task's.
    """

    def __init__(self, structure: Structure, nodes: Sequence[Tensors], plan: Plan) -> None:
        super().__init__()
        self.staged, self.head = structure.staged, plan.head  # modules, so that train() and eval() reach them
        self._structure, self._nodes, self._plan = structure, nodes, plan

    def forward(self, x: Tensor) -> Tensor:
        """Scores [B, C] of inputs [B, ...]."""
        plan = self._plan
        parts = zip(self._nodes, plan.adapters, plan.statistics, strict=True)
        made = [{**adapted(node, adapter), **measured} for node, adapter, measured in parts]
        scores: Tensor = self.head(self._structure.features(made, x))
        return scores


@final
class Library:
    """Nodes and plans.

    Args:
        structure: the arrangement of every task's network, in whole layers.
    """

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self.nodes: dict[str, dict[str, nn.Parameter]] = {}
        self.plans: dict[str, Plan] = {}

    # What there is

    def candidates(self, layer: int) -> tuple[str, ...]:
        """The nodes of a layer, counted from 0, in the order in which they came."""
        return tuple(name for name in self.nodes if _layer(name) == layer)

    def plan(self, task: str) -> Plan:
        """What a task uses.

        Raises:
            TaskUnknownError: nothing was chosen for it.
        """
        if task not in self.plans:
            raise TaskUnknownError(
                f"nothing was chosen yet for task {task!r}; there are plans for: "
                + (", ".join(self.plans) or "none yet")
            )
        return self.plans[task]

    def network(self, task: str) -> ChosenNetwork:
        """A task's network.

        Raises:
            TaskUnknownError: nothing was chosen for it.
        """
        plan = self.plan(task)
        return ChosenNetwork(self.structure, [self.nodes[choice.node] for choice in plan.choices], plan)

    def own(self, task: str) -> list[nn.Parameter]:
        """What is trained of a task's network and is no earlier task's: new nodes, adapters, the head."""
        plan = self.plan(task)
        new = [self.nodes[choice.node] for choice in plan.choices if choice.kind == NEW]
        return [
            *(p for each in (*new, *plan.adapters) for p in each.values()),
            *plan.head.parameters(),
        ]

    def reused(self, task: str) -> dict[str, dict[str, nn.Parameter]]:
        """The nodes that a task reuses as they are, by name."""
        nodes = [choice.node for choice in self.plan(task).choices if choice.kind == REUSE]
        return {name: self.nodes[name] for name in nodes}

    def tasks_of(self, node: str) -> tuple[str, ...]:
        """The tasks that reuse or adapt a node, or came with it, in order."""
        return tuple(
            task for task, plan in self.plans.items() if any(choice.node == node for choice in plan.choices)
        )

    def size(self) -> Size:
        """Nodes that several tasks use count once, as shared; all else is a task's own."""
        shared: dict[str, Tensor] = {}
        own: dict[str, dict[str, Tensor]] = {}
        for task, plan in self.plans.items():
            parts = {"head": plan.head.state_dict()}
            parts |= {f"adapter:{i}": dict(adapter) for i, adapter in enumerate(plan.adapters)}
            parts |= {f"statistics:{i}": dict(measured) for i, measured in enumerate(plan.statistics)}
            own[task] = {f"{part}/{k}": v for part, tensors in parts.items() for k, v in tensors.items()}
        for name, node in self.nodes.items():
            users = self.tasks_of(name)
            place = own[users[0]] if len(users) == 1 else shared
            place.update({f"node:{name}/{key}": value for key, value in node.items()})
        return Size.of(shared, own)

    # Changing

    def add(
        self,
        task: str,
        choices: Sequence[Choice | None],
        fresh: Sequence[Tensors],
        adapters: Sequence[Tensors],
        head: nn.Linear,
    ) -> None:
        """Add a task.

        Args:
            task: its name.
            choices: for each layer an earlier node, or None for one that is new.
            fresh: what a new node holds at first, of each layer; copied.
            adapters: of each layer, copied; empty where none is adapted.
            head: copied.
        """
        made: list[Choice] = []
        for layer, choice in enumerate(choices):
            if choice is not None:
                made.append(choice)
                continue
            numbers = [int(name.partition(":")[2]) for name in self.candidates(layer)]
            name = f"{layer + 1}:{max(numbers, default=0) + 1}"
            self.nodes[name] = _as_parameters(fresh[layer])
            made.append(Choice(NEW, name))
        self.plans[task] = Plan(
            tuple(made),
            tuple(_as_parameters(adapter) for adapter in adapters),
            tuple(self.structure.statistics()),
            load_head(head.state_dict()).requires_grad_(requires_grad=False),
        )

    def forget(self, task: str) -> None:
        """Drop a task's plan; its nodes stay until :meth:`prune`.

        Raises:
            TaskUnknownError: it has none.
        """
        self.plan(task)
        del self.plans[task]

    def prune(self) -> None:
        """Drop the nodes that no task uses."""
        self.nodes = {name: node for name, node in self.nodes.items() if self.tasks_of(name)}

    # Saving

    def state(self) -> tuple[dict[str, Json], dict[str, Tensors]]:
        """A JSON document and tensors, by reference."""
        document: dict[str, Json] = {
            "nodes": list(self.nodes),
            "plans": {task: [list(choice) for choice in plan.choices] for task, plan in self.plans.items()},
        }
        groups: dict[str, Tensors] = {
            f"node:{name}": {key: value.detach() for key, value in node.items()}
            for name, node in self.nodes.items()
        }
        for task, plan in self.plans.items():
            groups[f"plan:{task}"] = {
                **{f"head/{key}": value for key, value in plan.head.state_dict().items()},
                **{f"adapter/{name}": value.detach() for name, value in flat(plan.adapters)},
                **{f"statistics/{name}": value for name, value in flat(plan.statistics)},
            }
        return document, groups

    @classmethod
    def of_state(
        cls, structure: Structure, document: Mapping[str, Json], groups: Mapping[str, Tensors]
    ) -> "Library":
        """What :meth:`state` gave, as a library of its own; tensors are copied.

        Raises:
            StoreDamagedError: a plan names a node that is not there.
        """
        library = cls(structure)
        for name in document["nodes"]:
            library.nodes[name] = _as_parameters(groups[f"node:{name}"])
        for task, entries in document["plans"].items():
            choices = tuple(Choice(kind, node) for kind, node in entries)
            for layer, (kind, node) in enumerate(choices):
                if kind not in KINDS or node not in library.candidates(layer):
                    raise StoreDamagedError(
                        f"the saved state cannot be used: task {task!r} is to {kind} {node!r} in layer {layer + 1}; "
                        f"there are {', '.join(library.nodes)}"
                    )
            parts: dict[str, dict[str, Tensor]] = {"head": {}, "adapter": {}, "statistics": {}}
            for key, value in groups[f"plan:{task}"].items():
                part, _, name = key.partition("/")
                parts[part][name] = value
            library.plans[task] = Plan(
                choices,
                tuple(_as_parameters(each) for each in unflat(parts["adapter"], structure.depth)),
                tuple(_copied(each) for each in unflat(parts["statistics"], structure.depth)),
                load_head(parts["head"]).requires_grad_(requires_grad=False),
            )
        return library


def flat(layers: Sequence[Tensors]) -> Iterator[tuple[str, Tensor]]:
    """Tensors of layers with the layer in the name: ``"0/body.0.weight"``."""
    return ((f"{i}/{name}", value) for i, layer in enumerate(layers) for name, value in layer.items())


def unflat(tensors: Tensors, depth: int) -> list[dict[str, Tensor]]:
    """What :func:`flat` gave, of so many layers."""
    layers: list[dict[str, Tensor]] = [{} for _ in range(depth)]
    for key, value in tensors.items():
        index, _, name = key.partition("/")
        layers[int(index)][name] = value
    return layers


def _layer(node: str) -> int:
    return int(node.partition(":")[0]) - 1


def _as_parameters(tensors: Tensors) -> dict[str, nn.Parameter]:
    """Copies in order of name, which is the order that an optimiser knows them by."""
    return {name: nn.Parameter(canonical(tensors[name]), requires_grad=False) for name in sorted(tensors)}


def _copied(tensors: Tensors) -> dict[str, Tensor]:
    return {name: canonical(value) for name, value in tensors.items()}
