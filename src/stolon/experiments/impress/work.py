"""One unit of work: trains what is not kept yet, and says what each item gives.

Every item is a function of (stream, setting, unit, item) alone: done again, or after a kill, it gives the same.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from stolon.experiments.impress.paper import BATCH
from stolon.experiments.impress.plans import Item, Plan, Unit
from stolon.experiments.impress.settings import FEW, WEIGHTS, WRONG
from stolon.experiments.impress.shelf import Shelf
from stolon.masks.basis import Sums, layered, random_mask, summed
from stolon.masks.coefficients import CoefficientFit
from stolon.masks.fitting import Job, accuracy, mask_seed
from stolon.masks.frozen import FrozenNet
from stolon.masks.inference import Candidates, Per, TaskSearch, Weights
from stolon.masks.memory import Kept, StoredMask
from stolon.masks.mixing import LayeredMasks
from stolon.masks.parallel import train_masks
from stolon.masks.storage import smallest
from stolon.randomness import permutation
from stolon.tasks import Split, Task, to_float


@final
@dataclass(frozen=True)
class Known:
    """Tasks that inputs may belong to.

    Attributes:
        tasks: in order.
        candidates: the same, for the search.
        statistics: normalisation's of each.
    """

    tasks: tuple[Task, ...]
    candidates: Candidates
    statistics: Sequence[Mapping[str, Tensor]]


@final
class Work:
    """A unit.

    Args:
        plan: what it is part of.
        unit: which.
        folder: the experiment's; masks are kept below it.

    Raises:
        DataError: the data are not there, or not what they should be.
        SettingError: the net does not take them.
    """

    def __init__(self, plan: Plan, unit: Unit, folder: Path) -> None:
        self._plan, self._unit, self._setting = plan, unit, plan.setting
        backbone = self._setting.backbone(unit.run)
        self._stream = plan.make_stream(backbone)
        self._order = self._setting.order(len(self._stream))
        first = self._basis_task(0)
        self._rule = self._setting.rule(unit.density)
        self.frozen = FrozenNet(
            self._setting.net, first.shape, len(first.classes), weights=WEIGHTS, seed=backbone
        )
        self._scales = [self._rule.scale(shape) for shape in self.frozen.shapes]
        self._shelf = Shelf(folder / "units" / unit.folder)
        self._ready: tuple[int, LayeredMasks] | None = None  # the basis of the size used last
        self._known: tuple[tuple[object, ...], Known] | None = None  # the candidates asked among last

    # What there is to learn

    def _basis_task(self, index: int) -> Task:
        return self._task(index)

    def _new_task(self, index: int) -> Task:
        return self._task(self._setting.different + index)

    def _task(self, place: int) -> Task:
        """A task of the stream, without validation data: nothing is chosen by them, so nothing is measured on them."""
        task = self._stream[self._order[place]]
        nothing = Split.of(torch.zeros(0, *task.shape), torch.zeros(0, dtype=torch.int64))
        return dataclasses.replace(task, val=nothing)

    # What is trained

    def facts(self) -> dict[str, Any]:
        """What storage follows from: weights of each layer, bytes of normalisation's statistics of a task."""
        statistics = self.frozen.begin_statistics().values()
        return {
            "weights": list(self.frozen.entries),
            "statistics_bytes": sum(value.nbytes for value in statistics),
            "classes": self.frozen.outputs,
        }

    def groups(self) -> list[tuple[int, list[Job]]]:
        """Masks to train: groups that are trained together, each with its first mask's number."""
        run, kind = self._unit.run, self._unit.kind
        if kind == "random":
            return []
        if kind == "supsup":  # one by one: how many there are must not change what they become
            return [(i, [Job(self._new_task(i), run)]) for i in range(self._setting.new)]
        count = max(self._plan.sizes(kind))
        if kind == "heterogeneous":  # one seed for all, as in the paper (A.1)
            jobs = [Job(self._basis_task(i), run) for i in range(count)]
        else:
            jobs = [Job(self._basis_task(0), mask_seed(run, i)) for i in range(count)]
        at_once = self._setting.at_once
        return [(i, jobs[i : i + at_once]) for i in range(0, count, at_once)]

    def train(self, first: int, jobs: Sequence[Job]) -> list[StoredMask]:
        """The masks of a group, from disk if they are there."""
        setting = self._setting
        return self._shelf.masks(
            f"masks-{first:03d}",
            lambda: list(train_masks(self.frozen, jobs, self._rule, setting.masks, at_once=len(jobs))),
        )

    @cached_property
    def masks(self) -> list[StoredMask]:
        """All masks of the unit: the largest basis, or those of the new tasks."""
        if self._unit.kind == "random":
            return [
                random_mask(self.frozen, self._rule, self._unit.run, i)
                for i in range(max(self._plan.sizes("random")))
            ]
        return [mask for first, jobs in self.groups() for mask in self.train(first, jobs)]

    def _layered(self, size: int) -> LayeredMasks:
        if self._ready is None or self._ready[0] != size:
            self._ready = size, layered(self.masks[:size], self.frozen, "fast")
        return self._ready[1]

    def _learn(self, size: int, task: Task, *, hybrid: bool = False) -> Kept:
        """A task as coefficients, in half precision, as learners keep them."""
        setting = self._setting
        fit = CoefficientFit(
            self.frozen,
            self._layered(size),
            self._scales,
            task,
            seed=self._unit.run,
            training=setting.alphas,
            penalty=setting.penalty,
            hybrid=self._rule if hybrid else None,
        )
        for _ in fit.run():
            pass
        return fit.kept()

    def _kept(self, size: int, index: int) -> Kept:
        """A new task's coefficients, from disk if they are there: inference needs them all."""
        name = f"coefficients-{size:03d}/{index:03d}"
        return self._shelf.coefficients(name, lambda: self._learn(size, self._new_task(index)))

    # What it gives

    def give(self, item: Item) -> dict[str, Any]:
        """The data of an item's record."""
        what = item.what.partition("-in-")[0].removesuffix("-alone")
        found: dict[str, Any] = {
            "own": self._own,
            "wrong": self._wrong,
            "new": self._new,
            "hybrid": self._hybrid,
            "found": self._found,
            "basis-gn": self._basis_gn,
            "gg": self._gg,
            "gn": self._gn,
        }[what](item)
        return found

    def _own(self, item: Item) -> dict[str, Any]:
        task, mask = self._new_task(item.task), self.masks[item.task]
        whole = torch.cat([layer.flatten() for layer in mask.masks(self.frozen.shapes)])
        return {
            "task": task.name,
            "accuracy": self._under(mask, task),
            "mask_bytes": sum(layer.nbytes for layer in mask.layers),
            "coded_bytes": smallest(whole).nbytes,
        }

    def _wrong(self, item: Item) -> dict[str, Any]:
        task = self._new_task(item.task)
        found = [self._under(mask, task) for mask in self.masks[:WRONG]]
        return {"task": task.name, "accuracy": sum(found) / len(found), "each": found}

    def _new(self, item: Item) -> dict[str, Any]:
        task = self._new_task(item.task)
        return {
            "task": task.name,
            "accuracy": self._as_sum(item.size, self._kept(item.size, item.task), task),
        }

    def _hybrid(self, item: Item) -> dict[str, Any]:
        task = self._new_task(item.task)
        kept = self._learn(item.size, task, hybrid=True)
        return {"task": task.name, "accuracy": self._as_sum(item.size, kept, task)}

    def _basis_gn(self, item: Item) -> dict[str, Any]:
        task = self._basis_task(item.task)
        kept = self._learn(item.size, task)
        # How much of the coefficients, by magnitude, is on the task's own mask: does it find it?
        alpha = kept.alpha.float().abs()
        share = (alpha[:, item.task] / alpha.sum(1)).mean().item()
        largest = (alpha.argmax(1) == item.task).float().mean().item()
        return {
            "task": task.name,
            "accuracy": self._as_sum(item.size, kept, task),
            "own_share": share,
            "own_largest": largest,
        }

    def _gg(self, item: Item) -> dict[str, Any]:
        task = self._basis_task(item.task)
        return {"task": task.name, "accuracy": self._under(self.masks[item.task], task)}

    def _found(self, item: Item) -> dict[str, Any]:
        return self._infer(item, self._new_tasks(item.size, item.among))

    def _gn(self, item: Item) -> dict[str, Any]:
        return self._infer(item, self._basis_tasks(item.size))

    # Under which weights

    def _weights(self, size: int, kept: Kept) -> list[Tensor]:
        return summed(self.frozen, self._layered(size), self._scales, kept)

    def _as_sum(self, size: int, kept: Kept, task: Task) -> float:
        return self._accuracy(self._weights(size, kept), kept.statistics, task)

    def _under(self, mask: StoredMask, task: Task) -> float:
        return self._accuracy(mask.weights(self.frozen), mask.statistics, task)

    def _accuracy(self, weights: Weights, statistics: Mapping[str, Tensor], task: Task) -> float:
        return accuracy(self.frozen, weights, statistics, task.test, len(task.classes))

    # Which task

    def _new_tasks(self, size: int, among: int) -> Known:
        """New tasks, as sums of a basis of this size, or under masks of their own (size 0)."""
        key = ("new", size, among)
        if self._known is None or self._known[0] != key:
            tasks = tuple(self._new_task(i) for i in range(among))
            self._known = key, self._masked(tasks) if size == 0 else self._summed(tasks, size)
        return self._known[1]

    def _basis_tasks(self, size: int) -> Known:
        key = ("basis", size)
        if self._known is None or self._known[0] != key:
            self._known = key, self._masked(tuple(self._basis_task(i) for i in range(size)))
        return self._known[1]

    def _masked(self, tasks: tuple[Task, ...]) -> Known:
        masks = self.masks[: len(tasks)]
        weights, statistics = [mask.weights(self.frozen) for mask in masks], [m.statistics for m in masks]
        return Known(tasks, Candidates(self.frozen, weights.__getitem__, statistics), statistics)

    def _summed(self, tasks: tuple[Task, ...], size: int) -> Known:
        kept = [self._kept(size, i) for i in range(len(tasks))]
        statistics = [each.statistics for each in kept]
        candidates = Sums(
            self.frozen,
            lambda i: self._weights(size, kept[i]),
            statistics,
            masks=self._layered(size),
            scales=self._scales,
            alphas=torch.stack([each.alpha.float() for each in kept]),
        )
        return Known(tasks, candidates, statistics)

    @torch.no_grad()
    def _infer(self, item: Item, known: Known) -> dict[str, Any]:
        """Whether inputs of a task are found to be of it, and are then labelled rightly.

        As in SupSup's scoring, what is taken for another task counts as wrong.
        """
        task, classes = known.tasks[item.task], len(known.tasks[item.task].classes)
        search = TaskSearch(known.candidates, classes, "entropy")
        weights, statistics = known.candidates.weights(item.task), known.statistics[item.task]
        found, each, right = [], [], []
        is_batch = item.what.endswith("in-batch")
        for indices in self._batches(task) if is_batch else self._samples(task, len(known.tasks)):
            x, y = task.test.batch(indices)
            x = to_float(x)
            per: Per = "batch" if is_batch else "sample"
            is_it = search.find(x, "one-shot", per) == item.task
            each.append(search.find(x, "each", per) == item.task)
            scores = self.frozen(x, weights, statistics, training=False)[:, :classes]
            found.append(is_it)
            right.append(is_it & (scores.argmax(1) == y))
        return {
            "task": task.name,
            "found": torch.cat(found).float().mean().item(),
            "found_each": torch.cat(each).float().mean().item(),
            "accuracy": torch.cat(right).float().mean().item(),
        }

    def _batches(self, task: Task) -> list[Tensor]:
        """The first batch of each of some orders of the test data."""
        return [self._shuffled(task, i)[:BATCH] for i in range(self._setting.orders)]

    def _samples(self, task: Task, candidates: int) -> list[Tensor]:
        """Test data to infer one by one."""
        most = self._setting.samples if candidates <= FEW else min(self._setting.samples, BATCH)
        return [self._shuffled(task, 0)[:most]]

    def _shuffled(self, task: Task, order: int) -> Tensor:
        return permutation(len(task.test), self._unit.run, "impress", "test", task.name, order)
