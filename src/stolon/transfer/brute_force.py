"""Task-wise brute force: every configuration is trained from the same start, and the best on validation data kept.

The papers' reference for how well a configuration can be chosen (ICLR version, appendix C), at 2^d times the price.
The released code searches no configuration for the first task, which it trains alone and gives the second one's; here
every task is searched alike, as the paper's text has it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, final

from torch import Tensor

from stolon.errors import DataError
from stolon.outcomes import Epoch
from stolon.records import Json
from stolon.tasks import Task
from stolon.transfer.configurations import Configuration, Space
from stolon.transfer.fit import Lesson, Strategy
from stolon.transfer.learner import Groups, TransferConfig, TransferLearner, Work, in_order, parts_of
from stolon.transfer.network import Layers, Network, Parts, copied, copied_parts, flat, unflat
from stolon.transfer.static import One


@final
@dataclass(frozen=True)
class BruteForceConfig(TransferConfig):
    """Settings of :class:`BruteForce`; the others are those of :class:`~stolon.transfer.learner.TransferConfig`.

    Attributes:
        groups: layers that are shared together, counted from 1, such as ``[[1, 2], [3, 4]]``; none by default.
    """

    groups: list[list[int]] | None = None


@final
@dataclass(frozen=True)
class _Best:
    """The best candidate so far, as it was at its end."""

    score: float
    configuration: Configuration
    shared: Layers
    parts: Parts


@final
class BruteForce(TransferLearner):
    """Trains every configuration for every task and keeps the best.

    A configuration's score is its best validation accuracy of any epoch, of equals the first; what is kept are its
    parameters at the end. While a task is under way it is answered by the candidate that is being trained.

    Args:
        net: a name of :func:`stolon.nets.names`, or an ``nn.Sequential`` (see :func:`stolon.nets.stages.split`).
        config: how.
    """

    name: ClassVar[str] = "brute-force"
    Config: ClassVar[type[BruteForceConfig]] = BruteForceConfig
    config: BruteForceConfig
    _candidate = 0
    _score_now: float | None = None  # of the candidate under way; numbers' R^2 has no lower bound
    _best: _Best | None = None

    def _strategy(self, lesson: Lesson) -> Strategy:
        configuration = self._space(lesson.network).choices[self._candidate]
        return One(lesson, configuration, self.config.orthogonality)

    def _space(self, network: Network) -> Space:
        return Space.every(network.depth, groups=self.config.groups, parts=self.config.parts)

    def _learn(self, task: Task, seed: int) -> Iterator[Epoch]:
        least = 2 if task.is_regression else 1  # one number has no variance to explain
        if len(task.val) < least:
            raise DataError(
                f"task {task.name!r}: expected validation data to choose by, {least} or more, found {len(task.val)}"
            )
        network, work = self._begin(task, seed)
        space = self._space(network)
        while True:
            yield from self._one(network, work, task, seed)
            assert work.fit is not None
            score = self._score_now
            assert score is not None, "at least one epoch"
            if self._best is None or score > self._best.score:
                choice = space.choices[self._candidate]
                self._best = _Best(score, choice, copied(self._shared), copied_parts(work.parts))
            if self._candidate + 1 == len(space):
                break
            self._candidate, self._score_now = self._candidate + 1, None
            self._shared = copied(work.before)
            work = self._work = Work(work.before, self._new_parts(network, task, seed))
        best = self._best
        self._shared, work.parts = best.shared, best.parts
        self._keep(task.name, work, best.configuration)
        self._work = None
        self._candidate, self._score_now, self._best = 0, None, None

    def _one(self, network: Network, work: Work, task: Task, seed: int) -> Iterator[Epoch]:
        """Train one candidate to its end."""
        for epoch in self._train(network, work, task, seed):
            score = epoch.val_accuracy
            assert score is not None, "there are validation data"
            self._score_now = score if self._score_now is None else max(score, self._score_now)
            configuration = epoch.notes["configuration"]
            best = configuration
            if self._best is not None and self._best.score >= self._score_now:
                best = str(self._best.configuration)
            yield replace(epoch, phase=f"train {configuration}", notes={**epoch.notes, "best": best})

    def _drop(self, task: str) -> None:
        if task == self.unfinished:
            self._candidate, self._score_now, self._best = 0, None, None
        super()._drop(task)

    def _state(self) -> tuple[Mapping[str, Json], Groups]:
        document, groups = super()._state()
        search: dict[str, Json] = {"candidate": self._candidate, "score": self._score_now, "best": None}
        if self._best is not None:
            search["best"] = [self._best.score, str(self._best.configuration)]
            groups["best"] = {**flat("shared", self._best.shared), **self._best.parts.tensors()}
        return {**document, "search": search}, groups

    def _restore(self, document: Mapping[str, Json], groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        saved, search = self._read(document, groups), document["state"]["search"]
        best = None
        if search["best"] is not None:
            assert saved.network is not None, "a candidate has been trained"
            score, text = search["best"]
            shared = in_order(unflat("shared", groups["best"], saved.network.depth))
            best = _Best(
                score, Configuration.from_text(text), shared, parts_of(saved.network, groups["best"])
            )
        self._candidate, self._score_now, self._best = int(search["candidate"]), search["score"], best
        self._take(saved)
