"""Learning a grow sequence, with what other sequences have left in common with it."""

import hashlib
import time
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from stolon import nets
from stolon.errors import DataError, TaskError, TaskUnknownError
from stolon.growth.bind_and_grow import BindAndGrow
from stolon.growth.cache import GrowthCache
from stolon.growth.config import BindAndGrowConfig
from stolon.growth.independent import Independent, key
from stolon.growth.prefixes import Prefixes
from stolon.growth.sequences import GrowSequence, Outcome
from stolon.growth.structure import Structure
from stolon.tasks import Task
from stolon.training import Fit, accuracy


class Alone(NamedTuple):
    """How well a task is answered by the network that it has alone.

    Attributes:
        val: accuracy on validation data, 0 to 1.
        test: on test data; None where there are none.
    """

    val: float
    test: float | None


def run_sequence(
    sequence: GrowSequence,
    tasks: Sequence[Task],
    *,
    net: str | nn.Module,
    config: BindAndGrowConfig,
    seed: int = 0,
    cache: GrowthCache | None = None,
) -> Outcome:
    """Learn tasks as a grow sequence says, and measure what came of it; with a cache the outcome is the same.

    Args:
        sequence: order, bindings and coefficients.
        tasks: at least those of the sequence, in any order: a stream, for one. All need validation data.
        net: a name of :func:`stolon.nets.names`, or an ``nn.Sequential``.
        config: how the learner trains and decides; its deltas are the sequence's, and so are bindings where it says.
        seed: of the learning; the same for all sequences that are compared.
        cache: work that other sequences left is taken from it, and new work put into it.

    Raises:
        TaskUnknownError: the sequence names a task that is not among those given.
        DataError: a task has no validation data, or does not fit the net.
        SettingError: the net cannot be made of stages.
    """
    begun = time.perf_counter()
    chosen, lab = chosen_tasks(sequence, tasks), _Lab(net, sequence.configured(config), seed, cache)
    known = lab.known(sequence, chosen)
    if known is not None:
        return replace(known, learned=(), seconds=time.perf_counter() - begun)
    learner, place, learned = lab.learn(chosen)
    alone = {task.name: lab.alone(task, is_first=task is chosen[0]) for task in chosen}
    joint = learner.joint
    val = {task.name: accuracy(joint.network(task.name), task.val) for task in chosen}
    outcome = Outcome(
        sequence=sequence,
        val={name: value for name, value in val.items() if value is not None},
        test={task.name: accuracy(joint.network(task.name), task.test) for task in chosen},
        alone_val={name: found.val for name, found in alone.items()},
        alone_test={name: found.test for name, found in alone.items()},
        inputs={task.name: len(task.val) for task in chosen},
        parameters=joint.parameters(),
        parameters_apart=joint.parameters_apart(),
        bytes=learner.size().bytes,
        growths=tuple(learner.growth(task.name) for task in chosen),
        learned=learned,
        seconds=time.perf_counter() - begun,
    )
    if cache is not None:
        cache.keep_note(_outcome_key(place, chosen), outcome.to_json())
    return outcome


def learn_sequence(
    sequence: GrowSequence,
    tasks: Sequence[Task],
    *,
    net: str | nn.Module,
    config: BindAndGrowConfig,
    seed: int = 0,
    cache: GrowthCache | None = None,
) -> BindAndGrow:
    """The learner that :func:`run_sequence` measures; its arguments and errors are the same."""
    return _Lab(net, sequence.configured(config), seed, cache).learn(chosen_tasks(sequence, tasks))[0]


def train_alone(
    task: Task,
    *,
    net: str | nn.Module,
    config: BindAndGrowConfig,
    seed: int,
    cache: GrowthCache,
    is_first: bool,
) -> Alone:
    """Train a task's independent network, if it is not kept yet, and measure it.

    Args:
        task: which.
        net: as of :func:`run_sequence`.
        config: how it is trained.
        seed: of the learning.
        cache: where it is kept.
        is_first: as the first task of a sequence, whose network is never as bare as the released code's.

    Raises:
        DataError: the task has no validation data, or does not fit the net.
        SettingError: the net cannot be made of stages.
    """
    require_validation(task)
    return _Lab(net, config, seed, cache).alone(task, is_first=is_first)


def chosen_tasks(sequence: GrowSequence, tasks: Sequence[Task]) -> list[Task]:
    """A sequence's tasks, in its order.

    Raises:
        TaskUnknownError: the sequence names a task that is not among those given.
        DataError: a task has no validation data.
    """
    by_name = {task.name: task for task in tasks}
    for name in sequence.tasks:
        if name not in by_name:
            raise TaskUnknownError(
                f"grow sequence: expected one of the tasks {', '.join(by_name)}, found {name!r}"
            )
        require_validation(by_name[name])
    return [by_name[name] for name in sequence.tasks]


@final
@dataclass(frozen=True)
class _Lab:
    """What a sequence is learned with; independent networks are kept for the sequence where there is no cache."""

    net: str | nn.Module
    config: BindAndGrowConfig
    seed: int
    cache: GrowthCache | None
    kept: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)

    @property
    def independents(self) -> MutableMapping[str, Mapping[str, Tensor]]:
        return self.kept if self.cache is None else self.cache.independents

    def learn(self, tasks: Sequence[Task]) -> tuple[BindAndGrow, str, tuple[str, ...]]:
        """The learner; the key of its state, where there is a cache; and the tasks that it learned here."""
        learner = BindAndGrow(self.net, self.config, independents=self.independents)
        prefixes = None if self.cache is None else Prefixes(self.cache, self.net, self.config, self.seed)
        place = "" if prefixes is None else prefixes.resume(learner, tasks)
        todo = tasks[len(learner.tasks) :]
        for task in todo:
            for _ in learner.learn(task, seed=self.seed):
                pass
            if prefixes is not None:
                place = prefixes.keep(place, learner, task, is_last=task is tasks[-1])
        return learner, place, tuple(task.name for task in todo)

    def known(self, sequence: GrowSequence, tasks: Sequence[Task]) -> Outcome | None:
        """The outcome of a sequence that came to the same decisions, as this one's."""
        if self.cache is None:
            return None
        growths, keys = Prefixes(self.cache, self.net, self.config, self.seed).known(tasks)
        if len(keys) < len(tasks):
            return None
        found = self.cache.note(_outcome_key(keys[-1], tasks))
        if found is None:
            return None
        return replace(Outcome.of_json(found), sequence=sequence, growths=tuple(growths))

    @torch.enable_grad()
    def alone(self, task: Task, *, is_first: bool) -> Alone:
        """A task's independent network, trained if need be, and measured."""
        is_bare = self.config.as_released and not is_first and self._structure(task).convolves
        name = key(self.net, self.config, task, self.seed, is_bare=is_bare)
        place = _joined(name, task.test.digest())
        told = None if self.cache is None else self.cache.note(place)
        if told is not None:  # the network itself may have been dropped: whoever needs it trains it again
            return Alone(told["val"], told["test"])
        network = Independent(self._structure(task), task.name, len(task.classes), self.seed, is_bare=is_bare)
        kept = self.independents.get(name)
        if kept is None:
            for _ in Fit(network, self.config, task, self.seed).run():
                pass
            self.independents[name] = {k: v.clone() for k, v in network.state_dict().items()}
        else:
            network.load_state_dict(dict(kept))
        val = accuracy(network, task.val)
        assert val is not None  # there are validation data: see chosen_tasks
        found = Alone(val, accuracy(network, task.test))
        if self.cache is not None:
            self.cache.keep_note(place, found._asdict())
        return found

    def _structure(self, task: Task) -> Structure:
        return Structure(nets.own(self.net), task.shape, self.config.parts)


def check_tasks(tasks: Sequence[Task], *, net: str | nn.Module, config: BindAndGrowConfig) -> None:
    """Refuse what no sequence of these tasks could be learned with, before anything is done.

    Args:
        tasks: at least one.
        net: as of :func:`run_sequence`.
        config: how the learner trains and decides.

    Raises:
        DataError: a task has no validation data, or other inputs than the first.
        TaskError: tasks that share a head have different numbers of classes.
        SettingError: the net cannot be made of stages, or not into so many parts; or it takes no such inputs.
    """
    first = tasks[0]
    for task in tasks:
        require_validation(task)
        if task.shape != first.shape:
            raise DataError(
                f"task {task.name!r}: expected inputs {first.shape}, as task {first.name!r} has, found {task.shape}; "
                "all tasks share layers: make the stream with one size"
            )
        if config.head == "shared" and len(task.classes) != len(first.classes):
            raise TaskError(
                f"task {task.name!r}: expected {len(first.classes)} classes, as task {first.name!r} has, found "
                f"{len(task.classes)}; use head='own'"
            )
    Structure(nets.own(net), first.shape, config.parts)


def require_validation(task: Task) -> None:
    """Refuse a task without validation data.

    Raises:
        DataError: it has none.
    """
    if not len(task.val):
        raise DataError(
            f"task {task.name!r}: expected validation data, which sequences are compared by, found none; "
            "make the stream with some (val_share=, for one)"
        )


def _outcome_key(state: str, tasks: Sequence[Task]) -> str:
    """A state's key holds what was learned from, not what is measured with."""
    return _joined(state, *(task.test.digest() for task in tasks))


def _joined(*digests: str) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()
