"""Many masks of one network: in groups that are trained at once, the groups in this process, in others, or on Ray."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import final

import torch
from torch import Tensor

from stolon.errors import DataError
from stolon.masks.fitting import Job, MaskTraining, PopupFit
from stolon.masks.frozen import FrozenNet
from stolon.masks.memory import StoredMask
from stolon.masks.popup import MaskRule
from stolon.settings import whole

Tensors = dict[str, Tensor]
Map = Callable[[Callable[[Sequence[Job]], list[Tensors]], Iterable[Sequence[Job]]], Iterable[list[Tensors]]]
"""What ``map`` is: the built-in one, ``ProcessPoolExecutor(...).map``, or that of a ``RayExecutor`` (see below)."""


def train_masks(
    frozen: FrozenNet,
    jobs: Sequence[Job],
    rule: MaskRule,
    training: MaskTraining,
    *,
    at_once: int = 10,
    run: Map = map,
) -> Iterator[StoredMask]:
    """Train a mask for each job; gives them in order, a group as soon as it and those before it are done.

    Args:
        frozen: the network that they share.
        jobs: what to train; those of a group have equally many training samples.
        rule: how scores become masks.
        training: how.
        at_once: masks that are trained together, >= 1.
        run: how groups are run.

    Raises:
        SettingError: ``at_once`` is out of its range.
        DataError: tasks that do not fit the network, or each other; no jobs.

    Example:
        >>> from stolon.experiments.on_ray import RayExecutor
        >>> with RayExecutor(8) as pool:  # doctest: +SKIP
        ...     masks = list(train_masks(frozen, jobs, rule, training, run=pool.map))
    """
    whole("at_once", at_once, 1)
    if not jobs:
        raise DataError("expected at least one mask to train, found none")
    groups = [jobs[i : i + at_once] for i in range(0, len(jobs), at_once)]
    for made in run(Group(frozen, rule, training), groups):
        yield from map(StoredMask.from_tensors, made)


@final
class Group:
    """Trains one group; can be sent to another process.

    Args:
        frozen: the network.
        rule: how scores become masks.
        training: how.
    """

    def __init__(self, frozen: FrozenNet, rule: MaskRule, training: MaskTraining) -> None:
        self._frozen, self._rule, self._training = frozen, rule, training
        self._threads = torch.get_num_threads()

    def __call__(self, jobs: Sequence[Job]) -> list[Tensors]:
        """The masks of these jobs, as tensors."""
        torch.set_num_threads(self._threads)
        fit = PopupFit(self._frozen, jobs, self._rule, self._training)
        for _ in fit.run():
            pass
        scales = [self._rule.scale(shape) for shape in self._frozen.shapes]
        return [StoredMask.of(fit.masks(i), scales, fit.statistics_of(i)).tensors() for i in range(len(jobs))]
