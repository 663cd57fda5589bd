"""The joint network: a directed acyclic graph of stages, and a route through it for every task.

A *node* holds the parameters of one unit of one stage; a *route* names for every unit the node that a task uses. Tasks
that name the same node share it, by reference; growing copies a node. Every route runs through the stages in order, so
that the graph is acyclic by construction, and all tasks' networks have one arrangement ("Learn to Bind and Grow Neural
Structures", section 2: a bijective mapping between the layers of each pair of tasks).

Running statistics of normalisation are no knowledge to be shared: they describe one task's data. Each task has its own,
beginning as those of the task that it was bound to. (The paper keeps them apart in one of its experiments only.)
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final, final

import torch
from torch import Tensor, nn

from stolon.errors import StoreDamagedError, TaskError, TaskExistsError, TaskUnknownError
from stolon.growth.graph import Edge, Node, Route, edges_of
from stolon.growth.structure import Structure, Tensors, Unit, canonical
from stolon.growth.task_network import TaskNetwork
from stolon.nets.heads import load_head
from stolon.outcomes import Size
from stolon.records import Json

HEADS: Final = ("own", "shared")
HEAD: Final = ""
"""What a head is called among the nodes of a route."""
Groups = dict[str, Mapping[str, Tensor]]


@final
class JointNetwork:
    """Nodes, routes and heads.

    Args:
        structure: the arrangement of every task's network.
        head: ``"own"``: each task has one; ``"shared"``: one for all, made for the first.
    """

    def __init__(self, structure: Structure, head: str = "own") -> None:
        self.structure, self._shares_head = structure, head == "shared"
        self._nodes: dict[str, Node] = {}
        self._routes: dict[str, Route] = {}
        self._heads: dict[str, nn.Linear] = {}  # by task, or by HEAD where it is shared

    # What there is

    @property
    def nodes(self) -> Mapping[str, Node]:
        """By name, such as ``"3:2"``: the second that was made for layer 3."""
        return self._nodes

    @property
    def routes(self) -> Mapping[str, Route]:
        """By task, in the order in which they came."""
        return self._routes

    @property
    def tasks(self) -> tuple[str, ...]:
        """Those that have a route, in order."""
        return tuple(self._routes)

    @property
    def has_shared_head(self) -> bool:
        """Whether one head answers for all tasks."""
        return self._shares_head

    def head(self, task: str) -> nn.Linear:
        """The head that answers for a task.

        Raises:
            TaskUnknownError: no such task.
        """
        self._route(task)
        return self._heads[self._head_of(task)]

    def nodes_of(self, task: str) -> tuple[str, ...]:
        """The nodes on a task's route, in order of their units.

        Raises:
            TaskUnknownError: no such task.
        """
        return tuple(self._route(task).nodes.values())

    def tasks_of(self, node: str) -> tuple[str, ...]:
        """The tasks whose routes name a node, in order.

        Raises:
            TaskError: no such node.
        """
        if node not in self._nodes:
            raise TaskError(f"expected a node of the joint network, found {node!r}; there are {self._told()}")
        return tuple(task for task, route in self._routes.items() if node in route.nodes.values())

    def bindings(self) -> dict[str, str | None]:
        """Which task each was bound to; None for one that was bound to none."""
        return {task: route.bound for task, route in self._routes.items()}

    def edges(self) -> tuple[Edge, ...]:
        """The graph, with the tasks that use each edge; as data, for drawing."""
        heads = {task: self._head_of(task) for task in self._routes}
        return edges_of(self._routes, heads, self.structure.depth)

    # How large it is

    def size(self) -> Size:
        """Nodes and heads that several tasks use count once, as shared; the rest, and statistics, are a task's own."""
        shared: dict[str, Tensor] = {}
        own: dict[str, dict[str, Tensor]] = {task: {} for task in self._routes}
        for name, node in self._nodes.items():
            users = self.tasks_of(name)
            place = own[users[0]] if len(users) == 1 else shared
            place.update({f"{name}/{key}": value for key, value in node.tensors.items()})
        for name, head in self._heads.items():
            place = own[name or self.tasks[0]] if name or len(self._routes) == 1 else shared
            place.update({f"head:{name}/{key}": value for key, value in head.state_dict().items()})
        for task, route in self._routes.items():
            own[task].update(_flat(route.statistics))
        return Size.of(shared, own)

    def parameters(self) -> int:
        """Of all nodes and heads: what the paper minimises. Statistics are not counted."""
        nodes = sum(value.numel() for node in self._nodes.values() for value in node.tensors.values())
        return nodes + sum(value.numel() for head in self._heads.values() for value in head.parameters())

    def parameters_of(self, task: str) -> tuple[int, ...]:
        """Of the nodes on a task's route, in order of their units.

        Raises:
            TaskUnknownError: no such task.
        """
        nodes = [self._nodes[name] for name in self.nodes_of(task)]
        return tuple(sum(value.numel() for value in node.tensors.values()) for node in nodes)

    def parameters_apart(self) -> int:
        """What :meth:`parameters` would be if nothing were shared: that of the degenerate network."""
        return sum(
            value.numel()
            for task in self._routes
            for tensors in self.parts_of(task).values()
            for value in tensors.values()
        )

    @property
    def is_degenerate(self) -> bool:
        """Whether no two tasks share anything."""
        return self.parameters() == self.parameters_apart()

    # Networks

    def network(self, task: str) -> TaskNetwork:
        """A task's network; its tensors are the nodes' own.

        Raises:
            TaskUnknownError: no such task.
        """
        route = self._route(task)
        units = {unit: self._nodes[name].tensors for unit, name in route.nodes.items()}
        return TaskNetwork(self.structure, units, route.statistics, self.head(task))

    def parts_of(self, task: str) -> dict[str, dict[str, nn.Parameter]]:
        """All that a task's network can be trained by: of its nodes in order, and of its head as :data:`HEAD`.

        Raises:
            TaskUnknownError: no such task.
        """
        parts = {name: dict(self._nodes[name].tensors) for name in self.nodes_of(task)}
        return {**parts, HEAD: dict(self.head(task).named_parameters())}

    def shared_parts_of(self, task: str) -> tuple[str, ...]:
        """The names of those that other tasks use too.

        Raises:
            TaskUnknownError: no such task.
        """
        names = [name for name in self.nodes_of(task) if len(self.tasks_of(name)) > 1]
        return (*names, HEAD) if self._shares_head and len(self._routes) > 1 else tuple(names)

    # Changing

    @torch.no_grad()
    def put_back(self, task: str, before: Mapping[str, Tensors]) -> None:
        """Give parts of a task's network the numbers that they had before.

        Raises:
            TaskUnknownError: no such task.
        """
        parts = self.parts_of(task)
        for part, tensors in before.items():
            for name, value in tensors.items():
                parts[part][name].copy_(value)

    def check_head(self, task: str, classes: int) -> None:
        """Refuse a task with other classes than the shared head has.

        Raises:
            TaskError: it has.
        """
        head = self._heads.get(HEAD)
        if head is not None and head.out_features != classes:
            raise TaskError(
                f"task {task!r}: expected {head.out_features} classes, as the shared head has, found {classes}; "
                "use head='own'"
            )

    def found(
        self, task: str, units: Iterable[tuple[Unit, Tensors]], statistics: Iterable[Tensors], head: nn.Linear
    ) -> None:
        """Add a task that shares nothing but a shared head; everything is copied.

        Raises:
            TaskExistsError: there is a route for it.
            TaskError: the head takes other features, or the shared head has other classes.
        """
        self._check_new(task, head)
        nodes = {unit: self._new(unit, tensors, task) for unit, tensors in units}
        self._routes[task] = Route(nodes, _copied(statistics))
        self._heads.setdefault(self._head_of(task), _head(head.state_dict()))

    def bind(
        self, task: str, to: str, grown: Collection[Unit], head: nn.Linear, *, source: str | None = None
    ) -> None:
        """Add a task that shares an earlier one's nodes, except for copies of some.

        Args:
            task: the new one.
            to: the one that it is bound to.
            grown: units of which it gets copies of its own.
            head: its own head, copied; not used where heads are shared.
            source: the task whose nodes are copied; by default the one that it is bound to.

        Raises:
            TaskExistsError: there is a route for it.
            TaskUnknownError: no such task to bind to.
            TaskError: a unit is not the structure's, the head takes other features, or the shared head has other
                classes.
        """
        route, origin = self._route(to), self._route(source or to)
        self._check_new(task, head)
        self._check_known(task, grown)
        nodes = dict(route.nodes)
        for unit in self.structure.units:
            if unit in grown:
                name = origin.nodes[unit]
                nodes[unit] = self._new(unit, self._nodes[name].tensors, task, copy_of=name)
        self._routes[task] = Route(nodes, _copied(route.statistics), bound=to)
        self._heads.setdefault(self._head_of(task), _head(head.state_dict()))

    def route(
        self, task: str, nodes: Mapping[Unit, str], head: nn.Linear, *, bound: str | None = None
    ) -> None:
        """Add a task whose route is given; its statistics begin as those of the task it is bound to, or freshly drawn.

        Raises:
            TaskExistsError: there is a route for it.
            TaskUnknownError: no such task to be bound to.
            TaskError: a node is missing or another unit's, a unit is not the structure's, the head takes other
                features, or the shared head has other classes.
        """
        self._check_new(task, head)
        self._check_route(task, nodes)
        statistics = self.structure.statistics() if bound is None else self._route(bound).statistics
        ordered = {unit: nodes[unit] for unit in self.structure.units}
        self._routes[task] = Route(ordered, _copied(statistics), bound)
        self._heads.setdefault(self._head_of(task), _head(head.state_dict()))

    def forget(self, task: str) -> None:
        """Drop a task's route and head, and the nodes that no other task uses.

        Raises:
            TaskUnknownError: no such task.
        """
        self._route(task)
        del self._routes[task]
        used = {name for route in self._routes.values() for name in route.nodes.values()}
        self._nodes = {name: node for name, node in self._nodes.items() if name in used}
        if not self._shares_head or not self._routes:
            del self._heads[self._head_of(task)]

    # Saving

    def state(self) -> tuple[dict[str, Json], Groups]:
        """A JSON document and tensors, by reference."""
        document: dict[str, Json] = {
            "nodes": {
                name: {"unit": list(node.unit), "task": node.task, "copy_of": node.copy_of}
                for name, node in self._nodes.items()
            },
            "routes": {
                task: {"nodes": list(route.nodes.values()), "bound": route.bound}
                for task, route in self._routes.items()
            },
        }
        groups: Groups = {}
        for name, node in self._nodes.items():
            groups[f"node:{name}"] = {key: value.detach() for key, value in node.tensors.items()}
        for task, route in self._routes.items():
            groups[f"statistics:{task}"] = _flat(route.statistics)
        for name, head in self._heads.items():
            groups[f"head:{name}"] = head.state_dict()
        return document, groups

    @classmethod
    def of_state(
        cls, structure: Structure, head: str, document: Mapping[str, Json], groups: Mapping[str, Tensors]
    ) -> "JointNetwork":
        """What :meth:`state` gave, as a network of its own; tensors are copied.

        Raises:
            StoreDamagedError: a route names a node that is not there.
        """
        joint = cls(structure, head)
        for name, entry in document["nodes"].items():
            tensors = _as_parameters(groups[f"node:{name}"])
            joint._nodes[name] = Node(Unit(*entry["unit"]), tensors, entry["task"], entry["copy_of"])
        for task, entry in document["routes"].items():
            nodes = dict(zip(structure.units, entry["nodes"], strict=True))
            try:
                joint._check_route(task, nodes)
            except TaskError as error:
                raise StoreDamagedError(f"the saved state cannot be used: {error}") from error
            statistics = _unflat(groups[f"statistics:{task}"], structure.depth)
            joint._routes[task] = Route(nodes, statistics, entry["bound"])
            joint._heads[joint._head_of(task)] = _head(groups[f"head:{joint._head_of(task)}"])
        return joint

    # Helpers

    def _route(self, task: str) -> Route:
        if task not in self._routes:
            known = ", ".join(self._routes) or "none yet"
            raise TaskUnknownError(f"no route for task {task!r} in the joint network; there are: {known}")
        return self._routes[task]

    def _head_of(self, task: str) -> str:
        return HEAD if self._shares_head else task

    def _check_new(self, task: str, head: nn.Linear) -> None:
        if task in self._routes:
            raise TaskExistsError(f"task {task!r} has a route in the joint network; forget it first")
        if head.in_features != self.structure.width:
            raise TaskError(
                f"task {task!r}: expected a head of {self.structure.width} features, which the last layer gives, found "
                f"one of {head.in_features}"
            )
        self.check_head(task, head.out_features)

    def _check_known(self, task: str, units: Iterable[Unit]) -> None:
        unknown = sorted(set(units) - set(self.structure.units))
        if unknown:
            labels = ", ".join(self.structure.label(unit) for unit in unknown)
            raise TaskError(
                f"task {task!r}: expected layers of the joint network, "
                f"{', '.join(map(self.structure.label, self.structure.units))}, found {labels}"
            )

    def _check_route(self, task: str, nodes: Mapping[Unit, str]) -> None:
        self._check_known(task, nodes)
        for unit in self.structure.units:
            name = nodes.get(unit)
            node = self._nodes.get(name or "")
            if node is None or node.unit != unit:
                found = (
                    "none"
                    if name is None
                    else f"{name!r}, which is "
                    + ("missing" if node is None else f"of layer {self.structure.label(node.unit)}")
                )
                raise TaskError(
                    f"task {task!r}: expected a node of layer {self.structure.label(unit)} on its route, found "
                    f"{found}; there are {self._told()}"
                )

    def _told(self) -> str:
        return ", ".join(self._nodes) or "none yet"

    def _new(self, unit: Unit, tensors: Tensors, task: str, copy_of: str | None = None) -> str:
        start = f"{self.structure.label(unit)}:"
        numbers = [int(name.removeprefix(start)) for name in self._nodes if name.startswith(start)]
        name = f"{start}{max(numbers, default=0) + 1}"
        self._nodes[name] = Node(unit, _as_parameters(tensors), task, copy_of)
        return name


def _as_parameters(tensors: Tensors) -> dict[str, nn.Parameter]:
    """Copies in order of name, which is the order that an optimiser knows them by."""
    return {name: nn.Parameter(canonical(tensors[name]), requires_grad=False) for name in sorted(tensors)}


def _copied(statistics: Iterable[Tensors]) -> tuple[Tensors, ...]:
    return tuple({name: canonical(value) for name, value in stage.items()} for stage in statistics)


def _head(tensors: Tensors) -> nn.Linear:
    """A copy that wants no gradients until it is trained."""
    return load_head(tensors).requires_grad_(requires_grad=False)


def _flat(statistics: Iterable[Tensors]) -> dict[str, Tensor]:
    return {f"{i}/{name}": value for i, stage in enumerate(statistics) for name, value in stage.items()}


def _unflat(tensors: Tensors, depth: int) -> tuple[Tensors, ...]:
    stages: list[dict[str, Tensor]] = [{} for _ in range(depth)]
    for key, value in tensors.items():
        index, _, name = key.partition("/")
        stages[int(index)][name] = canonical(value)
    return tuple(stages)
