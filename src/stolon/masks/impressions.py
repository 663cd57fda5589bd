"""ImpressLearn: new tasks as sums of a few masks, "impressions", that earlier tasks left.

The first tasks leave masks, trained by edge-popup as in SupSup: the basis. Every task after them is learned as one
coefficient for each mask and layer, some hundred numbers. What the basis is made of:

===================  =================================================================================================
``"heterogeneous"``  one mask of each of the first m tasks
``"homogeneous"``    m masks of the first task, which differ in their first scores and the order of the data
``"mixed"``          ``masks_per_task`` masks of each of the first tasks
``"random"``         m random masks, of no task
===================  =================================================================================================

A task that the basis was made of is answered by its own (first) mask. No task is forgotten: the basis never changes
once it is whole.

Differences from paper and released code: with ``scaled=True`` coefficients multiply masks of scaled weights, so
that the coefficients (0, .., 1, .., 0) are a supermask there too; coefficients are kept, and used, in half precision;
the network's weights are signed constants as in the code (paper, footnote 2: Kaiming normal, by name);
normalisation's statistics, which the paper's storage leaves out, are each task's own and counted.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from stolon.errors import DataError, SettingError, TaskError
from stolon.masks.adoption import fingerprint_of, own_basis, own_coefficients, own_mask, place_of, try_out
from stolon.masks.base import MaskLearner
from stolon.masks.basis import Sums, layered, random_mask, summed
from stolon.masks.coefficients import CoefficientFit, mixed_weights
from stolon.masks.fitting import Job, PopupFit, mask_seed
from stolon.masks.frozen import FrozenNet, Identity
from stolon.masks.impressions_config import ImpressionsConfig
from stolon.masks.inference import Candidates
from stolon.masks.memory import Kept, StoredMask, below
from stolon.masks.mixing import LayeredMasks
from stolon.masks.popup import masked, scaled
from stolon.outcomes import Epoch, Size
from stolon.records import Json
from stolon.tasks import Task

__all__ = ["Impressions", "ImpressionsConfig"]


@final
class Impressions(MaskLearner):
    """The first tasks leave masks, later ones are sums of them.

    Args:
        net: a name of :func:`stolon.nets.names`, or a module that gives features [B, F].
        config: how.

    Example:
        >>> from stolon.tasks import Split, Task
        >>> split = Split.of(torch.rand(8, 4), torch.arange(8) % 2)
        >>> learner = Impressions("mlp-16", ImpressionsConfig(epochs=1, impressions=2))
        >>> for name in ("a", "b", "c"):
        ...     for epoch in learner.learn(Task(name, ("x", "y"), split, split, split)):
        ...         pass
        >>> learner.coefficients("c").shape  # two layers, two masks
        torch.Size([2, 2])
    """

    name: ClassVar[str] = "impressions"
    Config: ClassVar[type[ImpressionsConfig]] = ImpressionsConfig
    config: ImpressionsConfig

    def __init__(self, net: str | nn.Module, config: ImpressionsConfig) -> None:
        super().__init__(net, config)
        self._basis: list[StoredMask] = []
        self._masks: LayeredMasks | None = None  # the same, ready for use
        self._is_taken = False  # whether the basis is another learner's
        self._kept: dict[str, Kept] = {}
        self._made: list[StoredMask] = []  # masks of the task under way
        self._fit: PopupFit | CoefficientFit | None = None
        self._saved: Mapping[str, Tensor] = {}  # of a fit that was loaded and has not gone on yet

    # What there is

    @property
    def basis(self) -> tuple[StoredMask, ...]:
        """The masks so far."""
        return tuple(self._basis)

    @property
    def is_whole(self) -> bool:
        """Whether the basis has all its masks, so that the next task is learned as coefficients."""
        return len(self._basis) >= self.config.impressions

    @property
    def basis_fingerprint(self) -> str:
        """What two learners on one network must share for coefficients of one to mean the same in the other: SHA-256.

        Raises:
            SettingError: there is no basis yet.
        """
        if not self._basis:
            raise SettingError("expected a learner with a basis, found one with none yet")
        return fingerprint_of(self._basis, self.frozen, self.config.mask_rule())

    def take_basis(self, masks: Sequence[StoredMask], network: Identity) -> None:
        """Begin with another learner's basis: every task is then learned, or adopted, as a sum of it.

        Args:
            masks: in their order, as many as the settings say.
            network: which network they choose from.

        Raises:
            BackboneMismatchError: it is another one than this learner's.
            DataError: no masks, or ones that this learner's settings do not make of this network.
            TaskError: tasks were learned with another basis, or one is being learned.
        """
        frozen, rule = self._identified(network), self.config.mask_rule()
        found = own_basis(masks, frozen, rule)
        if len(found) != self.config.impressions:
            raise DataError(
                f"expected a basis of {self.config.impressions} masks, found {len(found)}; make the learner with "
                f"impressions={len(found)}"
            )
        is_same = fingerprint_of(found, frozen, rule) == fingerprint_of(self._basis, frozen, rule)
        if self.unfinished is not None or (self.tasks and not is_same):
            raise TaskError(
                "expected a learner without tasks, found one with a basis of its own; make a new one"
            )
        self._frozen, self._basis, self._masks, self._is_taken = frozen, found, None, True

    def masks_of(self, task: str) -> range:
        """The places in the basis of the masks that a task left, its own first; empty for one learned as coefficients.

        Of a task that was adopted only its own is known.

        Raises:
            TaskUnknownError: no such task, or it is being learned.
        """
        self._require_learned(task)
        first = self._kept[task].mask
        if first < 0:
            return range(0)
        count = 1 if "adopted" in self.recipe(task) else self.config.masks_of_a_task()
        return range(first, min(first + count, len(self._basis)))

    def coefficients(self, task: str) -> Tensor:
        """A learned task's coefficients, float32 [d, m]; of one that the basis was made of, one 1 in each row.

        Raises:
            TaskUnknownError: no such task, or it is being learned.
        """
        self._require_learned(task)
        kept = self._kept[task]
        if kept.mask < 0:
            return kept.alpha.float()
        found = torch.zeros(len(self.frozen.weights), len(self._basis))
        found[:, kept.mask] = 1
        return found

    def size(self) -> Size:
        """The network and the basis, and each task's coefficients and statistics."""
        shared: dict[str, Tensor] = {}
        if self._frozen is not None:
            shared = dict(zip(self._frozen.names, self._frozen.weights, strict=True))
        for i, mask in enumerate(self._basis):
            shared |= {f"basis.{i}.{name}": value for name, value in mask.alone().items()}
        return Size.of(shared, {name: kept.tensors() for name, kept in self._kept.items()})

    # Answering

    def _task_weights(self, task: str) -> list[Tensor]:
        if task == self.unfinished:
            return self._weights_under_way()
        kept = self._kept[task]
        if kept.mask >= 0:
            return self._basis[kept.mask].weights(self.frozen)
        return summed(self.frozen, self._ready_masks(), self._scales(), kept)

    def _weights_under_way(self) -> list[Tensor]:
        state = self._saved if self._fit is None else self._fit.state()
        if "alpha" in state:
            with torch.no_grad():
                found = mixed_weights(self.frozen, self._ready_masks(), self._scales(), state["alpha"])
            if "scores" in state:
                rule = self.config.mask_rule()
                found[-1] = masked(state["scores"], scaled(self.frozen.weights, rule)[-1], rule)
            return found
        if self._made:
            return self._made[0].weights(self.frozen)
        rule = self.config.mask_rule()
        return [
            masked(state[f"scores.{i}"][0], weight, rule)
            for i, weight in enumerate(scaled(self.frozen.weights, rule))
        ]

    def _task_statistics(self, task: str) -> Mapping[str, Tensor]:
        if task != self.unfinished:
            return self._kept[task].statistics
        state = self._saved if self._fit is None else self._fit.state()
        if "alpha" in state:
            return below("statistics.", state)
        if self._made:
            return self._made[0].statistics
        return {name: value[0] for name, value in below("statistics.", state).items()}

    def _candidates(self) -> Candidates:
        kept = [self._kept[name] for name in self.tasks]
        if not self.is_whole or any(one.last is not None for one in kept):
            return super()._candidates()
        names, statistics = self.tasks, [one.statistics for one in kept]
        alphas = torch.stack([self.coefficients(name) for name in names])
        return Sums(
            self.frozen,
            lambda i: self._task_weights(names[i]),
            statistics,
            masks=self._ready_masks(),
            scales=self._scales(),
            alphas=alphas,
        )

    def _ready_masks(self) -> LayeredMasks:
        if self._masks is None:
            self._masks = layered(self._basis, self.frozen, self.config.form)
        return self._masks

    def _scales(self, frozen: FrozenNet | None = None) -> list[float]:
        rule = self.config.mask_rule()
        return [rule.scale(shape) for shape in (frozen or self.frozen).shapes]

    # What others learned

    def knowledge(self, task: str) -> StoredMask | Kept:
        """See :meth:`MaskLearner.knowledge`: a task's coefficients, or the mask of one that the basis was made of."""
        self._require_learned(task)
        kept = self._kept[task]
        if kept.mask < 0:
            return kept
        mask = self._basis[kept.mask]
        return StoredMask(mask.layers, mask.scales, kept.statistics)

    def _adopt(self, task: str, knowledge: StoredMask | Kept, frozen: FrozenNet, basis: str) -> None:
        masks, ready, rule = self._basis or self._first_basis(frozen), self._masks, self.config.mask_rule()
        if isinstance(knowledge, StoredMask):
            mask = own_mask(knowledge, frozen.shapes, frozen.begin_statistics())
            kept = Kept(place_of(mask, masks), torch.zeros(0), mask.statistics)
            weights = mask.weights(frozen)
            if kept.mask < 0:
                raise DataError(
                    f"task {task!r}: expected a mask of this learner's basis, found another; take its author's basis "
                    "first, or give the task to a supsup learner"
                )
        else:
            if len(masks) < self.config.impressions or basis != fingerprint_of(masks, frozen, rule):
                raise DataError(
                    f"task {task!r}: expected coefficients of this learner's basis of {self.config.impressions} masks, "
                    f"found ones of the basis {basis[:12]}; take their author's basis first"
                )
            kept = own_coefficients(knowledge, frozen, len(masks))
            ready = ready or layered(masks, frozen, self.config.form)
            weights = summed(frozen, ready, self._scales(frozen), kept)
        try_out(frozen, weights, kept.statistics)
        self._basis, self._masks, self._kept[task] = masks, ready, kept

    def _first_basis(self, frozen: FrozenNet) -> list[StoredMask]:
        """The masks there are before any task."""
        if self.config.basis != "random":
            return []
        rule, seed = self.config.mask_rule(), self.config.backbone_seed
        return [random_mask(frozen, rule, seed, i) for i in range(self.config.impressions)]

    # Learning

    def _learn(self, task: Task, seed: int) -> Iterator[Epoch]:
        frozen = self._begin(task)
        self._basis = self._basis or self._first_basis(frozen)
        if self.is_whole:
            yield from self._learn_coefficients(frozen, task, seed)
        else:
            yield from self._learn_masks(frozen, task, seed)
        self._fit, self._saved, self._made, self._ready = None, {}, [], None

    def _learn_masks(self, frozen: FrozenNet, task: Task, seed: int) -> Iterator[Epoch]:
        config, rule = self.config, self.config.mask_rule()
        at_once = config.together(frozen.shapes)
        wanted = min(config.masks_of_a_task(), config.impressions - len(self._basis))
        while len(self._made) < wanted:
            first = len(self._made)
            last = min(first + at_once, wanted)
            if self._fit is None:
                jobs = [Job(task, mask_seed(seed, i)) for i in range(first, last)]
                self._fit = PopupFit(frozen, jobs, rule, config)
                if self._saved:
                    self._fit.load(self._saved)
                    self._saved = {}
            assert isinstance(self._fit, PopupFit)
            for epoch in self._fit.run():
                self._ready = None
                steps = -(-wanted // at_once) * config.epochs
                done = first // at_once * config.epochs + epoch.number
                yield dataclasses.replace(epoch, number=done, total=steps)
            scales = self._scales()
            self._made += [
                StoredMask.of(self._fit.masks(i), scales, self._fit.statistics_of(i))
                for i in range(last - first)
            ]
            self._fit = None
        self._kept[task.name] = Kept(len(self._basis), torch.zeros(0), self._made[0].statistics)
        self._basis, self._masks = [*self._basis, *self._made], None

    def _learn_coefficients(self, frozen: FrozenNet, task: Task, seed: int) -> Iterator[Epoch]:
        if self._fit is None:
            self._fit = self._coefficient_fit(frozen, task, seed)
            if self._saved:
                self._fit.load(self._saved)
        assert isinstance(self._fit, CoefficientFit)
        for epoch in self._fit.run():
            self._ready = None
            yield epoch
        self._kept[task.name] = self._fit.kept()

    def _coefficient_fit(
        self, frozen: FrozenNet, task: Task, seed: int, kept: Kept | None = None
    ) -> CoefficientFit:
        """Of a new task; or of one that is kept, from its coefficients on, what else it has staying as it is."""
        is_hybrid = self.config.hybrid and kept is None
        return CoefficientFit(
            frozen,
            self._ready_masks(),
            self._scales(),
            task,
            seed=seed,
            training=self.config.alpha_training(),
            penalty=self.config.penalty,
            start=None if kept is None else kept.alpha,
            hybrid=self.config.mask_rule() if is_hybrid else None,
            last=None if kept is None else kept.last,
        )

    def follow(self, name: str, data: Task, *, seed: int = 0) -> Iterator[Epoch]:
        """Let a task that was learned as coefficients follow a drift of its data: the coefficients go on training.

        Nothing else of it changes but normalisation's statistics: with ``hybrid`` the last layer's mask stays. Its
        recipe then has the digest of the new data, the seed, and how often it followed (``"followed"``).

        The task has the new coefficients once this has run to the end; until then the old ones.

        Args:
            name: of the task.
            data: what it is like now: the same classes and inputs.
            seed: the order of the data is a function of it.

        Raises:
            TaskUnknownError: no such task.
            TaskError: the basis was made of it, so that it has no coefficients; the data have other classes; or the
                task was forgotten, loaded or changed since this began.
            DataError: other inputs, or none.
        """
        self._require(name)
        if name not in self._kept or self._kept[name].mask >= 0:
            raise TaskError(f"task {name!r}: expected one learned as coefficients, found one of the basis")
        if data.classes != self.classes(name):
            raise TaskError(f"task {name!r}: expected its classes {self.classes(name)}, found {data.classes}")
        if not len(data.train):
            raise DataError(f"task {name!r}: expected training data, found none")
        kept = self._kept[name]
        fit = self._coefficient_fit(self.frozen, data, seed, kept)
        fit.statistics = {key: value.clone() for key, value in kept.statistics.items()}
        for epoch in fit.run():
            yield epoch
            if self._kept.get(name) is not kept:
                raise TaskError(
                    f"task {name!r} was forgotten, loaded or changed since it began to follow; ask for that anew"
                )
        self._kept[name] = fit.kept()
        before = self._recipes[name]
        followed = int(before.get("followed", 0)) + 1
        self._recipes[name] = {**before, "data": data.digest(), "seed": seed, "followed": followed}
        self._ready = None

    # Saving

    def _drop(self, task: str) -> None:
        """Of a task that the basis was made of the mask stays: others are sums of it."""
        self._kept.pop(task, None)
        self._ready = None
        if task == self.unfinished:
            self._fit, self._saved, self._made = None, {}, []
        if not self._kept and self.unfinished in (None, task) and not self._is_taken:
            self._frozen, self._basis, self._masks = None, [], None

    def _state(self) -> tuple[Mapping[str, Json], Mapping[str, Mapping[str, Tensor]]]:
        document, groups = self._frozen_state()
        groups |= {f"task:{name}": kept.tensors() for name, kept in self._kept.items()}
        groups |= {f"basis:{i}": mask.tensors() for i, mask in enumerate(self._basis)}
        groups |= {f"made:{i}": mask.tensors() for i, mask in enumerate(self._made)}
        groups["fit"] = self._saved if self._fit is None else self._fit.state()
        document |= {
            "basis": len(self._basis),
            "taken": self._is_taken,
            "made": len(self._made),
            "masks": {name: kept.mask for name, kept in self._kept.items()},
        }
        return document, groups

    def _restore(self, document: Mapping[str, Json], groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.config.check_saved(document["settings"])
        frozen, state = self._saved_frozen(document, groups), document["state"]
        kept = {
            name: Kept.from_tensors(int(mask), groups[f"task:{name}"])
            for name, mask in state["masks"].items()
        }
        basis = [StoredMask.from_tensors(groups[f"basis:{i}"]) for i in range(int(state["basis"]))]
        made = [StoredMask.from_tensors(groups[f"made:{i}"]) for i in range(int(state["made"]))]
        saved = dict(groups["fit"])
        self._frozen, self._basis, self._masks, self._kept, self._made = frozen, basis, None, kept, made
        self._is_taken = bool(state.get("taken", False))
        self._fit, self._saved, self._ready = None, saved, None
