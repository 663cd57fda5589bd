"""Learn to bind and grow: a new task binds to the earlier one of least conflict, and grows where the two conflict most.

"Learn to Bind and Grow Neural Structures", Algorithm 1. The first task is trained from scratch. For every later one an
independent network is trained; its activations, layer by layer, are compared with those of each earlier task's network
as it is now; the task is bound to the one of least conflict, gets copies of the layers on which they conflict most (the
nucleus of its grow coefficient), shares the others, and is trained: what is new at the full rate, what is shared at a
tenth of it (the paper's section 4), which is how earlier tasks can forget, and gain.

Deliberate differences, beside those of :mod:`stolon.growth.conflict` and :mod:`stolon.growth.similarity`:

- where a task has no validation data its training data are compared on (the records say so);
- a task's normalisation has running statistics of its own (:mod:`stolon.growth.joint`);
- a shared head is a shared layer: trained at the rate of bound layers, frozen with them.
"""

import dataclasses
from collections.abc import Iterator, Mapping, MutableMapping
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from stolon import nets
from stolon.errors import DataError, RecipeChangedError, TaskUnknownError
from stolon.growth.config import BINDINGS, BindAndGrowConfig
from stolon.growth.deciding import compares, decide
from stolon.growth.explanation import Growth
from stolon.growth.independent import Independent, key
from stolon.growth.joint import JointNetwork
from stolon.growth.similarity import LEAST
from stolon.growth.structure import Structure, Tensors, canonical
from stolon.learner import Learner
from stolon.nets.stages import split
from stolon.outcomes import Epoch, Size
from stolon.records import Json
from stolon.tasks import Task, to_float
from stolon.training import Fit, Group, accuracy

Independents = MutableMapping[str, Mapping[str, Tensor]]
"""Where trained independent networks are kept, by :func:`stolon.growth.independent.key`."""


@final
@dataclasses.dataclass
class Work:
    """A task under way.

    Attributes:
        independent: its independent network, until it is bound.
        shared: the parts of its network that it was given in common with earlier tasks, by name.
        before: what these were before it, where they are trained.
        fit: the training that goes on in this process.
        saved: that training's state, where it was loaded.
    """

    independent: Independent | None = None
    shared: tuple[str, ...] = ()
    before: dict[str, Tensors] = dataclasses.field(default_factory=dict)
    fit: Fit | None = None
    saved: Tensors = dataclasses.field(default_factory=dict)


@final
class BindAndGrow(Learner):
    """The learner; see the module.

    Args:
        net: a name of :func:`stolon.nets.names`, or an ``nn.Sequential`` (copied; every task's independent network
            begins as it is). Fully connected layers are stages too.
        config: its settings.
        independents: where trained independent networks are kept, for other learners of the same net, training, task
            and seed; by default nowhere. With one that is found there a task ends with the same bits as with its own.

    Raises:
        SettingError: the module has no stages.
    """

    name: ClassVar[str] = "bind-and-grow"
    Config: ClassVar[type[BindAndGrowConfig]] = BindAndGrowConfig

    def __init__(
        self, net: str | nn.Module, config: BindAndGrowConfig, *, independents: Independents | None = None
    ) -> None:
        super().__init__()
        self._net, self.config, self.independents = nets.own(net), config, independents
        if isinstance(net, nn.Module):
            split(net, linear=True)  # one that cannot be is refused now
        self._joint: JointNetwork | None = None
        self._growths: dict[str, Growth] = {}
        self._work: Work | None = None

    # The verbs

    def settings(self) -> Mapping[str, Json]:
        """The net, how it is trained, and how it grows."""
        return {"net": nets.describe(self._net), **dataclasses.asdict(self.config)}

    @torch.no_grad()
    def logits(self, x: Tensor, task: str) -> Tensor:
        """Scores [B, C] by the nodes on the task's route as they are now; before, by the network it has alone."""
        self._check_input(x, task)
        scores: Tensor = self._network(task).eval()(to_float(x))
        return scores

    def size(self) -> Size:
        """What several tasks use is shared; what one task uses is its own, as are statistics."""
        return Size.of({}, {}) if self._joint is None else self._joint.size()

    def growth(self, task: str) -> Growth:
        """Whom a task was bound to, where it grew, and by which numbers.

        Raises:
            TaskUnknownError: no such task, or it is under way and not bound yet.
        """
        self._require(task)
        if task not in self._growths:
            raise TaskUnknownError(
                f"task {task!r} is not bound yet: its independent network is being trained"
            )
        return self._growths[task]

    @property
    def joint(self) -> JointNetwork:
        """The joint network; not to be changed.

        Raises:
            TaskUnknownError: nothing was learned yet.
        """
        if self._joint is None:
            raise TaskUnknownError("no joint network: no task was learned yet")
        return self._joint

    # Learning

    def _learn(self, task: Task, seed: int) -> Iterator[Epoch]:
        joint, work = self._begin(task)
        if task.name not in joint.routes:
            if not joint.routes or compares(self.config, task.name):
                yield from self._train_alone(joint, work, task, seed)
            self._growths[task.name] = self._add(joint, work, task, seed)
            work.independent, work.shared = None, joint.shared_parts_of(task.name)
        if self._growths[task.name].bound is not None:
            yield from self._train_bound(joint, work, task, seed)
        self._work = None

    def _begin(self, task: Task) -> tuple[JointNetwork, Work]:
        """Refuse what cannot be learned; then the joint network and the work, new or as far as they have come."""
        self._check_task(task)
        if self._joint is None:
            structure = Structure(self._net, task.shape, self.config.parts)
            self._joint = JointNetwork(structure, self.config.head)
        if self._work is None:
            self._work = Work()
        return self._joint, self._work

    def _check_task(self, task: Task) -> None:
        self._check_alike(task)
        if self._joint is None or not self.tasks:
            return
        self._joint.check_head(task.name, len(task.classes))
        rule = self.config.bind_of(task.name)
        if rule not in BINDINGS and rule not in self.tasks:
            raise TaskUnknownError(
                f"task {task.name!r}: expected to bind to a learned task, one of {', '.join(self.tasks)}, "
                f"found {rule!r}"
            )
        inputs = len(task.train) if self.config.as_released else max(len(task.val), len(task.train))
        if compares(self.config, task.name) and inputs < LEAST:
            raise DataError(
                f"task {task.name!r}: expected at least {LEAST} inputs to compare networks on, found {inputs}"
            )

    def _train_alone(self, joint: JointNetwork, work: Work, task: Task, seed: int) -> Iterator[Epoch]:
        """Train the task's independent network, or take it from where such networks are kept."""
        phase = "independent" if joint.routes else "train"
        is_bare = self._is_bare(joint)
        name = key(self._net, self.config, task, seed, is_bare=is_bare)
        if work.independent is None:
            work.independent = Independent(
                joint.structure, task.name, len(task.classes), seed, is_bare=is_bare
            )
            kept = None if self.independents is None else self.independents.get(name)
            if kept is not None:
                work.independent.load_state_dict(dict(kept))
                work.saved = {"epoch": torch.tensor(self.config.epochs)}
                score = accuracy(work.independent, task.val)
                total = self.config.epochs
                yield Epoch(task.name, phase, total, total, val_accuracy=score, notes={"reused": True})
        if work.fit is None:
            work.fit = Fit(work.independent, self.config, task, seed, work.saved)
        for epoch in work.fit.run():
            yield dataclasses.replace(epoch, phase=phase)
        work.fit, work.saved = None, {}
        if self.independents is not None:
            self.independents[name] = {k: v.clone() for k, v in work.independent.state_dict().items()}

    def _is_bare(self, joint: JointNetwork) -> bool:
        """Whether the next independent network is as the released code's."""
        return self.config.as_released and bool(joint.routes) and joint.structure.convolves

    def _train_bound(self, joint: JointNetwork, work: Work, task: Task, seed: int) -> Iterator[Epoch]:
        """Train what is new at the full rate and what is shared at its own; the notes say what was decided, and why."""
        notes, total = self._growths[task.name].to_json(), self.config.epochs
        network = joint.network(task.name)
        groups = self._groups(joint, work, task.name)
        if not groups:  # everything is shared, and frozen
            yield Epoch(
                task.name, "train", total, total, val_accuracy=accuracy(network, task.val), notes=notes
            )
            return
        if work.fit is None:
            for tensor in (tensor for group in groups for tensor in group.parameters):
                tensor.requires_grad_()
            work.fit = Fit(network, self.config, task, seed, work.saved, groups=groups)
        for epoch in work.fit.run():
            yield dataclasses.replace(epoch, notes=notes)
        _put_down(joint, task.name)

    def _groups(self, joint: JointNetwork, work: Work, task: str) -> list[Group]:
        """What is trained, and how fast; of what is shared, what it is now is remembered."""
        parts, scale = joint.parts_of(task), self.config.bound_scale()
        new = [t for name, part in parts.items() if name not in work.shared for t in part.values()]
        shared = [t for name in work.shared for t in parts[name].values()]
        if scale > 0 and not work.before:
            work.before = {
                name: {key: canonical(value) for key, value in parts[name].items()} for name in work.shared
            }
        groups = [Group(new), *([Group(shared, scale)] if scale > 0 else [])]
        return [group for group in groups if group.parameters]

    # Deciding

    def _add(self, joint: JointNetwork, work: Work, task: Task, seed: int) -> Growth:
        """Add the task to the joint network; what was decided."""
        units = joint.structure.units
        labels = tuple(joint.structure.label(unit) for unit in units)
        alone = work.independent
        if not joint.routes:
            assert alone is not None
            parts = joint.structure.divide(alone.parameters_by_stage())
            joint.found(task.name, parts, alone.statistics(), alone.head)
            score = accuracy(alone, task.val)
            return Growth(task.name, None, "first task", None, labels, labels, independent_accuracy=score)
        growth, grown = decide(joint, alone, task, seed, self.config)
        source = joint.tasks[0] if self.config.as_released else growth.bound
        head = joint.structure.head(len(task.classes), seed, task.name)
        assert growth.bound is not None
        joint.bind(task.name, growth.bound, [units[i] for i in grown], head, source=source)
        return growth

    # State

    def _network(self, task: str) -> nn.Module:
        if self._joint is not None and task in self._joint.routes:
            return self._joint.network(task)
        assert self._work is not None
        assert self._work.independent is not None
        return self._work.independent

    def _drop(self, task: str) -> None:
        self._growths.pop(task, None)
        joint, work = self._joint, self._work
        if joint is not None and task in joint.routes:
            if task == self.unfinished and work is not None:
                _put_down(joint, task)
                joint.put_back(task, work.before)  # what was half learned is no knowledge
            joint.forget(task)
        if task == self.unfinished:
            self._work = None
        if joint is not None and not joint.routes and self._work is None:
            self._joint = None  # made to the shape of a task that is gone

    def _state(self) -> tuple[Mapping[str, Json], Mapping[str, Mapping[str, Tensor]]]:
        document: dict[str, Json] = {
            "growths": {task: growth.to_json() for task, growth in self._growths.items()},
            "shared": [] if self._work is None else list(self._work.shared),
        }
        groups: dict[str, Mapping[str, Tensor]] = {}
        if self._joint is not None:
            document["joint"], groups = self._joint.state()
        if (work := self._work) is not None:
            groups["fit"] = work.fit.state() if work.fit is not None else work.saved
            if work.independent is not None:
                groups["independent"] = work.independent.state_dict()
            for name, tensors in work.before.items():
                groups[f"before:{name}"] = tensors
        return document, groups

    def _restore(self, document: Mapping[str, Json], groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        for setting in ("parts", "head"):
            theirs, mine = document["settings"][setting], getattr(self.config, setting)
            if theirs != mine:
                raise RecipeChangedError(
                    f"saved with {setting}={theirs!r}, this learner has {mine!r}; make it as it was saved"
                )
        state, shapes = document["state"], list(document["shapes"].values())
        growths = {task: Growth.of_json(values) for task, values in state["growths"].items()}
        joint = work = None
        if "joint" in state:
            structure = Structure(self._net, tuple(shapes[0]), self.config.parts)
            joint = JointNetwork.of_state(structure, self.config.head, state["joint"], groups)
            if document["unfinished"] is not None:
                shared = tuple(state["shared"])
                work = self._restored_work(joint, document["unfinished"], shared, groups)
        self._joint, self._growths, self._work = joint, growths, work

    def _restored_work(
        self,
        joint: JointNetwork,
        recipe: Mapping[str, Json],
        shared: tuple[str, ...],
        groups: Mapping[str, Mapping[str, Tensor]],
    ) -> Work:
        work = Work(shared=shared, saved=dict(groups["fit"]))
        if "independent" in groups:
            is_bare = self._is_bare(joint)
            work.independent = Independent(
                joint.structure, recipe["task"], len(recipe["classes"]), int(recipe["seed"]), is_bare=is_bare
            )
            work.independent.load_state_dict(dict(groups["independent"]))
        start = "before:"
        work.before = {
            name.removeprefix(start): {k: canonical(v) for k, v in tensors.items()}
            for name, tensors in groups.items()
            if name.startswith(start)
        }
        return work


def _put_down(joint: JointNetwork, task: str) -> None:
    """Nothing of a task's network wants gradients any more."""
    for tensors in joint.parts_of(task).values():
        for tensor in tensors.values():
            tensor.requires_grad = False
            tensor.grad = None
