"""SupSup: every task a mask over one random, frozen network (Wortsman et al., NeurIPS 2020).

A task's mask is trained by edge-popup and stored as bits. Tasks share nothing that is trained, so none is forgotten; an
input's task is found by which mask makes the network sure (:mod:`stolon.masks.inference`).

Difference from the released code: normalisation's statistics are always the task's own (theirs on ImageNet are all
tasks').
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from stolon.errors import DataError
from stolon.masks.adoption import own_mask, try_out
from stolon.masks.base import MaskConfig, MaskLearner
from stolon.masks.fitting import Job, PopupFit
from stolon.masks.frozen import FrozenNet
from stolon.masks.memory import Kept, StoredMask
from stolon.masks.popup import masked, scaled
from stolon.outcomes import Epoch, Size
from stolon.records import Json
from stolon.tasks import Task


@final
@dataclass(frozen=True)
class SupSupConfig(MaskConfig):
    """Settings of :class:`SupSup`; the others are those of :class:`~stolon.masks.base.MaskConfig`.

    Attributes:
        transfer: whether a task's scores begin as the mean of earlier tasks' scores at their end.
    """

    transfer: bool = False


@final
class SupSup(MaskLearner):
    """A mask for each task.

    Args:
        net: a name of :func:`stolon.nets.names`, or a module that gives features [B, F].
        config: how.

    Example:
        >>> from stolon.tasks import Split, Task
        >>> split = Split.of(torch.rand(8, 4), torch.arange(8) % 2)
        >>> learner = SupSup("mlp-16", SupSupConfig(epochs=1))
        >>> for name in ("a", "b"):
        ...     for epoch in learner.learn(Task(name, ("x", "y"), split, split, split)):
        ...         pass
        >>> set(learner.predict(torch.rand(3, 4)).tasks) <= {"a", "b"}
        True
    """

    name: ClassVar[str] = "supsup"
    Config: ClassVar[type[SupSupConfig]] = SupSupConfig
    config: SupSupConfig

    def __init__(self, net: str | nn.Module, config: SupSupConfig) -> None:
        super().__init__(net, config)
        self._kept: dict[str, StoredMask] = {}
        self._fit: PopupFit | None = None
        self._saved: Mapping[str, Tensor] = {}  # of a fit that was loaded and has not gone on yet
        self._mean_scores: tuple[Tensor, ...] = ()
        self._mean_of = 0  # tasks, forgotten ones included

    def size(self) -> Size:
        """The network, and each task's bits."""
        shared = (
            {} if self._frozen is None else dict(zip(self.frozen.names, self.frozen.weights, strict=True))
        )
        return Size.of(shared, {name: kept.tensors() for name, kept in self._kept.items()})

    def mask(self, task: str) -> StoredMask:
        """A learned task's mask.

        Raises:
            TaskUnknownError: no such task.
        """
        self._require_learned(task)
        return self._kept[task]

    def knowledge(self, task: str) -> StoredMask:
        """See :meth:`MaskLearner.knowledge`: the task's mask."""
        return self.mask(task)

    def _adopt(self, task: str, knowledge: StoredMask | Kept, frozen: FrozenNet, basis: str) -> None:  # noqa: ARG002 - the base's
        if not isinstance(knowledge, StoredMask):
            raise DataError(
                f"task {task!r}: expected a mask, found coefficients, which mean nothing without their basis; give "
                "them to an impressions learner"
            )
        mask = own_mask(knowledge, frozen.shapes, frozen.begin_statistics())
        try_out(frozen, mask.weights(frozen), mask.statistics)
        self._kept[task] = mask

    def _task_weights(self, task: str) -> list[Tensor]:
        if task != self.unfinished:
            return self._kept[task].weights(self.frozen)
        rule, scores = self.config.mask_rule(), self._under_way("scores.")
        return [
            masked(scores[str(i)], weight, rule) for i, weight in enumerate(scaled(self.frozen.weights, rule))
        ]

    def _task_statistics(self, task: str) -> Mapping[str, Tensor]:
        return self._under_way("statistics.") if task == self.unfinished else self._kept[task].statistics

    def _under_way(self, start: str) -> dict[str, Tensor]:
        """What the task that is being learned has so far, whether it was loaded or goes on here."""
        state = self._saved if self._fit is None else self._fit.state()
        return {name.removeprefix(start): value[0] for name, value in state.items() if name.startswith(start)}

    def _learn(self, task: Task, seed: int) -> Iterator[Epoch]:
        frozen = self._begin(task)
        rule = self.config.mask_rule()
        if self._fit is None:
            start = self._mean_scores if self.config.transfer else ()
            self._fit = PopupFit(frozen, [Job(task, seed, start)], rule, self.config)
            if self._saved:
                self._fit.load(self._saved)
        for epoch in self._fit.run():
            self._ready = None
            yield epoch
        scales = [rule.scale(shape) for shape in frozen.shapes]
        self._kept[task.name] = StoredMask.of(self._fit.masks(0), scales, self._fit.statistics_of(0))
        if self.config.transfer:
            self._remember([layer[0].detach() for layer in self._fit.scores])
        self._fit, self._saved, self._ready = None, {}, None

    def _remember(self, scores: list[Tensor]) -> None:
        """Take scores into the mean of those of all tasks that were learned here."""
        self._mean_of += 1
        before = self._mean_scores or tuple(torch.zeros_like(layer) for layer in scores)
        self._mean_scores = tuple(
            old.lerp(new, 1 / self._mean_of) for old, new in zip(before, scores, strict=True)
        )

    # Saving

    def _drop(self, task: str) -> None:
        self._kept.pop(task, None)
        self._ready = None
        if task == self.unfinished:
            self._fit, self._saved = None, {}
        if not self._kept and self.unfinished in (None, task):
            self._frozen, self._mean_scores, self._mean_of = None, (), 0  # made to a shape that is gone

    def _state(self) -> tuple[Mapping[str, Json], Mapping[str, Mapping[str, Tensor]]]:
        document, groups = self._frozen_state()
        groups |= {f"task:{name}": kept.tensors() for name, kept in self._kept.items()}
        groups["fit"] = self._saved if self._fit is None else self._fit.state()
        groups["mean"] = {str(i): layer for i, layer in enumerate(self._mean_scores)}
        document["mean_of"] = self._mean_of
        return document, groups

    def _restore(self, document: Mapping[str, Json], groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        frozen = self._saved_frozen(document, groups)
        kept = {name: StoredMask.from_tensors(groups[f"task:{name}"]) for name in document["tasks"]}
        mean = tuple(groups["mean"][str(i)] for i in range(len(groups["mean"])))
        saved, mean_of = dict(groups["fit"]), int(document["state"].get("mean_of", len(kept)))
        self._frozen, self._kept, self._mean_scores, self._mean_of = frozen, kept, mean, mean_of
        self._fit, self._saved, self._ready = None, saved, None
