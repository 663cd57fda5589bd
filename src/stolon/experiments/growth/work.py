"""Doing one item: what is bound and grown shares its work through a cache; other methods are trials of their own.

Accuracies are of test data, after each task on all tasks so far. Those of a grow sequence are found by running it as a
whole, then its beginnings from the longest down, whose states the whole has left in the cache: nothing is learned for
them. Where the cache has dropped a state it is learned again, to the same bits.

Draws of random growth have weights and orders of the run's seed, as all other items have, and choices of their own.
They need no independent networks, since nothing is decided by conflicts. Trials of the search are proposed by NSGA-II
as in ``stolon search``; its journal lies in the experiment's folder, and a trial that was under way is done first.
"""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final

import torch

from stolon import nets
from stolon.errors import DataError
from stolon.experiments.config import Experiment, LearnerSpec, StreamSpec
from stolon.experiments.growth.plans import GROWN, POPULATION, SPACE, Item, Plan, Unit
from stolon.experiments.results import Record
from stolon.experiments.runner import default_learner
from stolon.experiments.trial import Lab, Trial, run_trial
from stolon.growth.bind_and_grow import BindAndGrow
from stolon.growth.cache import GrowthCache
from stolon.growth.config import DELTA, BindAndGrowConfig
from stolon.growth.independent import key
from stolon.growth.search import Search, SearchSettings
from stolon.growth.sequence_run import learn_sequence, run_sequence, train_alone
from stolon.growth.sequences import GrowSequence, Outcome
from stolon.growth.structure import Structure
from stolon.nets.registry import feature_count
from stolon.tasks import Split, Task
from stolon.training import accuracy

CACHE: Final = "cache"
"""The folder of shared work, in the experiment's."""
SEARCHES: Final = "searches"
"""The folder of a search's journal for each seed, in the experiment's."""


@final
class Work:
    """Does the items of a unit.

    Args:
        plan: which figure's.
        unit: which.
        folder: of the experiment.

    Raises:
        DataError: the data are not there, not what they should be, or a task lacks validation or test data.
    """

    def __init__(self, plan: Plan, unit: Unit, folder: Path) -> None:
        self._plan, self._unit, self._folder = plan, unit, folder
        self._tasks = list(plan.make_stream(unit.seed))
        for task in self._tasks:
            if not len(task.test):
                raise DataError(f"task {task.name!r}: expected test data to measure with, found none")
        self._cache = GrowthCache(folder / CACHE, plan.setting.cache_bytes)

    def facts(self) -> dict[str, Any]:
        """Of the stream: names, test inputs and training inputs of its tasks."""
        return {
            "tasks": [task.name for task in self._tasks],
            "inputs": [len(task.test) for task in self._tasks],
            "train": [len(task.train) for task in self._tasks],
        }

    def alone(self) -> dict[str, Any]:
        """Train and measure each task's independent network; ``seconds`` are None for those that were there."""
        config, found = self._plan.config("independent"), []
        for task in self._tasks:
            name = key(self._plan.setting.net, config, task, self._unit.seed, is_bare=False)
            was_there = name in self._cache.independents
            begun = time.perf_counter()
            one = train_alone(
                task,
                net=self._plan.setting.net,
                config=config,
                seed=self._unit.seed,
                cache=self._cache,
                is_first=True,  # never as bare as the released code's
            )
            found.append((one.val, one.test, None if was_there else time.perf_counter() - begun))
        val, test, seconds = zip(*found, strict=True)
        return {
            "val": val,
            "test": test,
            "seconds": seconds,
            "parameters": sum(_parameters(self._plan.setting.net, task) for task in self._tasks),
        }

    def swept(self, item: Item) -> dict[str, Any]:
        """Learn with one coefficient for all tasks, bindings by the rule."""
        return self._sequence(item, GrowSequence.shared([task.name for task in self._tasks], item.delta))

    def searched(self, item: Item) -> dict[str, Any]:
        """Do a search's trials up to one; what that one gave, and its sequence.

        What is tried depends on validation data alone.
        """
        search, config = self._search, self._plan.config(item.kind)
        while item.draw >= len(search.trials) or search.trials[item.draw].is_open:
            for trial in search.open(item.draw + 1):
                search.tell(trial.number, self._run(trial.sequence, config))
        trial = search.trials[item.draw]
        assert trial.outcome is not None  # an error of a trial is the item's
        found = self._sequence(item, trial.sequence)  # from what the trial left in the cache
        took = {"seconds": trial.outcome.seconds, "learned": len(trial.outcome.learned)}
        return {"sequence": trial.sequence.to_json(), **found, **took}

    @cached_property
    def _search(self) -> Search:
        """The seed's: opened and checked once for all its trials."""
        recipe = {**self._plan.recipe(), "number": self._unit.seed}
        settings = SearchSettings(space=SPACE, population=POPULATION, seed=self._unit.seed)
        place = self._folder / SEARCHES / str(self._unit.seed) / "journal.log"
        return Search(place, settings, [task.name for task in self._tasks], recipe)

    def _run(self, sequence: GrowSequence, config: BindAndGrowConfig) -> Outcome:
        return run_sequence(
            sequence,
            self._tasks,
            net=self._plan.setting.net,
            config=config,
            seed=self._unit.seed,
            cache=self._cache,
        )

    def _sequence(self, item: Item, sequence: GrowSequence) -> dict[str, Any]:
        """Learn a grow sequence, and measure it after every task.

        ``learned`` is how many tasks were learned for it, the others' learning having been there; ``alone`` of how many
        tasks, from the first, the independent networks of :meth:`alone` were taken, whose training is not in
        ``seconds``: as released, of convolutional nets, later tasks' are other ones.
        """
        config, names = self._plan.config(item.kind), sequence.tasks
        is_bare = config.as_released and Structure(self._plan.setting.net, self._tasks[0].shape).convolves
        whole = self._run(sequence, config)
        beginnings = [GrowSequence(sequence.steps[:count]) for count in range(len(names) - 1, 0, -1)]
        outcomes = [self._run(beginning, config) for beginning in beginnings][::-1]
        return {
            "rows": [[each.test[name] for name in each.val] for each in (*outcomes, whole)],
            "val": [whole.val[name] for name in names],
            "parameters": whole.parameters,
            "bytes": whole.bytes,
            "growths": [growth.to_json() for growth in whole.growths],
            "seconds": whole.seconds,
            "learned": len(whole.learned),
            "alone": 1 if is_bare else len(names),
        }

    def random(self, item: Item) -> dict[str, Any]:
        """Learn with random bindings and random growth, the draw's own; weights and orders are everyone's."""
        config = dataclasses.replace(self._plan.config(item.kind), draw=item.draw)
        names = [task.name for task in self._tasks]

        def learn(count: int) -> BindAndGrow:
            return learn_sequence(
                GrowSequence.shared(names[:count], DELTA),  # which random growth does not look at
                self._tasks,
                net=self._plan.setting.net,
                config=config,
                seed=self._unit.seed,
                cache=self._cache,
            )

        begun = time.perf_counter()
        whole = learn(len(names))
        seconds = time.perf_counter() - begun
        found = [_tested(whole, self._tasks)]
        found += [_tested(learn(count), self._tasks[:count]) for count in range(len(names) - 1, 0, -1)]
        return {
            "rows": found[::-1],
            "val": [_accuracy(whole, task, task.val) for task in self._tasks],
            "parameters": whole.joint.parameters(),
            "bytes": whole.size().bytes,
            "growths": [whole.growth(name).to_json() for name in names],
            "seconds": seconds,
            "alone": 0,
        }

    def trial(self, item: Item) -> Iterator[Record]:
        """Run another learner as an experiment's trial, from its checkpoint if there is one; yields its records."""
        plan, seed = self._plan, self._unit.seed
        learner = LearnerSpec(item.kind, plan.setting.net, item.label, settings=plan.settings_of(item.kind))
        stream = StreamSpec(plan.stream)
        experiment = Experiment(
            plan.name,
            [learner],
            [stream],
            [seed],
            evaluate_every=0,
            infer_tasks=False,
            count_macs=False,
        )
        lab = Lab(experiment, self._folder, default_learner, lambda _, number: plan.make_stream(number))
        yield from run_trial(Trial(learner, stream, seed), lab)

    def give(self, item: Item) -> dict[str, Any]:
        """What a kind that is no learner of its own gives."""
        if item.kind == "independent":
            return self.alone()
        if item.kind in ("searched", "random"):
            return self.searched(item) if item.kind == "searched" else self.random(item)
        assert item.kind in GROWN
        return self.swept(item)


@torch.no_grad()
def _accuracy(learner: BindAndGrow, task: Task, split: Split) -> float:
    found = accuracy(learner.joint.network(task.name), split)
    assert found is not None  # none is empty: see Work and sequence_run
    return found


def _tested(learner: BindAndGrow, tasks: Sequence[Task]) -> list[float]:
    return [_accuracy(learner, task, task.test) for task in tasks]


def _parameters(net: str, task: Task) -> int:
    """Of a network for one task, with its head."""
    module = nets.make(net, input_shape=task.shape)
    head = (feature_count(module, task.shape) + 1) * len(task.classes)
    return head + sum(parameter.numel() for parameter in module.parameters())
