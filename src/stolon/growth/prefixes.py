"""Beginnings of grow sequences that need not be learned again.

What a learner is after some tasks depends on its net and settings, the seed, the data, and what was *decided* for each
task: whom it was bound to and which units it grew. Coefficients matter through these decisions alone, so that two
sequences whose deltas differ but lead to the same nuclei share their beginnings. What would be decided is known without
learning: the masses over units that a nucleus is taken from depend on the beginning and the rule of binding, not on
delta, and are remembered with the first growth that was decided there.
"""

import dataclasses
import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from typing import Final, final

from torch import nn

from stolon.growth import conflict
from stolon.growth.bind_and_grow import BindAndGrow
from stolon.growth.cache import GrowthCache
from stolon.growth.config import BindAndGrowConfig
from stolon.growth.explanation import Growth
from stolon.growth.independent import key as independent_key
from stolon.records import Json, Record
from stolon.tasks import Task

FORMAT: Final = 1
"""A part of every key: a change of what is kept, or of how it comes about, makes all that was kept another's."""


@final
class Prefixes:
    """Finds and keeps states of learners of one net, by what was decided.

    Args:
        cache: where.
        net: a name or a module.
        config: the settings, with deltas and bindings for all tasks that will be asked about.
        seed: of the learning.
    """

    def __init__(
        self, cache: GrowthCache, net: str | nn.Module, config: BindAndGrowConfig, seed: int
    ) -> None:
        self._cache, self._net, self._config, self._seed = cache, net, config, seed
        settings = {
            name: value
            for name, value in dataclasses.asdict(config).items()
            if name not in ("delta", "bind")  # looked at task by task, as what they decide
        }
        self._root = _digest({"format": FORMAT, "settings": settings, "machine": platform.machine()})

    def known(self, tasks: Sequence[Task]) -> tuple[list[Growth], list[str]]:
        """What will be decided for the first tasks, as far as it is known, and the keys of the states behind them."""
        growths: list[Growth] = []
        keys: list[str] = []
        before = self._root
        for task in tasks:
            growth = self._decided(before, task)
            if growth is None:
                break
            before = self.after(before, task, growth)
            growths.append(growth)
            keys.append(before)
        return growths, keys

    def resume(self, learner: BindAndGrow, tasks: Sequence[Task]) -> str:
        """Give a new learner the longest beginning that is kept; returns the key of the state that it is in.

        The learner ends as if it had learned these tasks itself, to the bit, records of its settings included.
        """
        growths, keys = self.known(tasks)
        for count in range(len(keys), 0, -1):
            record = self._cache.state(keys[count - 1])
            if record is not None:
                learner.restore(_as_own(record, growths[:count], learner.settings()))
                return keys[count - 1]
        return self._root

    def keep(self, before: str, learner: BindAndGrow, task: Task, *, is_last: bool) -> str:
        """Keep what was decided for a task that was just learned, and the state; returns the state's key.

        Args:
            before: the key of the state before it.
            learner: in the state after it.
            task: the task.
            is_last: no sequence goes on from here, so that the state, which is the largest, is not worth its room.
        """
        growth = learner.growth(task.name)
        place = self._decision(before, task)
        if self._cache.note(place) is None:
            self._cache.keep_note(place, growth.to_json())
        after = self.after(before, task, growth)
        if not is_last:
            self._cache.keep_state(after, learner.record())
        return after

    def after(self, before: str, task: Task, growth: Growth) -> str:
        """The key of the state behind a task for which this was decided."""
        return _digest([before, self._task(task), growth.bound, list(growth.grown)])

    def _decided(self, before: str, task: Task) -> Growth | None:
        """The growth of a task by its own delta, where the masses are known that it is decided by."""
        found = self._cache.note(self._decision(before, task))
        if found is None:
            return None
        growth = Growth.of_json(found)
        if growth.delta is None:  # the first task, or random growth
            return growth
        delta = self._config.delta_of(task.name)
        choose = conflict.nucleus_as_released if self._config.as_released else conflict.nucleus
        grown = choose(growth.distribution, delta)
        return dataclasses.replace(growth, delta=delta, grown=tuple(growth.units[i] for i in grown))

    def _decision(self, before: str, task: Task) -> str:
        rule = "" if before == self._root else self._config.bind_of(task.name)
        return _digest(["decision", before, self._task(task), rule])

    def _task(self, task: Task) -> str:
        """Net, training, data, seed, versions and threads, in one digest."""
        return independent_key(self._net, self._config, task, self._seed, is_bare=False)


def _as_own(record: Record, growths: Sequence[Growth], settings: Mapping[str, Json]) -> Record:
    """A state as a learner of these settings has it, which came to the same decisions by perhaps other deltas."""
    document = json.loads(json.dumps({**record.document, "settings": dict(settings)}))
    document["state"]["growths"] = {growth.task: growth.to_json() for growth in growths}
    for recipe in document["recipes"].values():
        recipe["settings"] = document["settings"]
    return Record(record.kind, document, record.groups)


def _digest(value: Json) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
