"""What every task mapper answers, and the laws it obeys."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple, Protocol, final

import torch
from torch import Tensor

from stolon.errors import DataError
from stolon.light.anchors import values
from stolon.light.mappers.calibration import Calibration, calibrate, evidence
from stolon.tasks import check_name


class Mapped(NamedTuple):
    """Which task each input belongs to.

    Attributes:
        tasks: positions in :attr:`TaskMapper.tasks` [B], int64; -1 where unknown.
        confidence: probability of the nearest task among the known ones [B], near enough or not.
        known: whether the input is near enough to any task [B], bool.
    """

    tasks: Tensor
    confidence: Tensor
    known: Tensor


class Decides(Protocol):
    """The settings of the decision, which every anchor's configuration has."""

    @property
    def unknown_quantile(self) -> float | None:
        """Share of known inputs to keep within the thresholds; None: no thresholds."""

    @property
    def temperature(self) -> float | None:
        """What divides scores; None: it is fitted."""


class Nearness(NamedTuple):
    """How near inputs are to every task.

    Attributes:
        scores: of every task [B, T], higher is nearer.
        margins: how far each input lies within the thresholds [B]; below 0 it is unknown.
    """

    scores: Tensor
    margins: Tensor


class Samples(NamedTuple):
    """Samples that anchors brought, as a mapper sees them that was not fitted to them.

    Attributes:
        owner: the task that each is from [n], a position in :attr:`TaskMapper.tasks`.
        scores: of every task [n, T].
        margins: as in :class:`Nearness` [n].
    """

    owner: Tensor
    scores: Tensor
    margins: Tensor


class TaskMapper(ABC):
    """Names the task of an input by its distance to anchors; an immutable value.

    Laws: the order of the mapping that it is made from changes no bit of any answer; a task added twice is
    a task added once (a mapping has it once); scores of a row depend on that row alone; a single task with
    ``unknown_quantile=None`` takes every input.
    """

    _names: tuple[str, ...]
    _owner: Tensor
    _dimensions: int
    _transform: str
    _calibration: Calibration
    _samples: Samples

    @property
    @final
    def tasks(self) -> tuple[str, ...]:
        """The known tasks, sorted by name."""
        return self._names

    @property
    @final
    def temperature(self) -> float:
        """What scores are divided by before they become probabilities."""
        return self._calibration.temperature

    @property
    @final
    def samples(self) -> Samples:
        """What thresholds and temperature were fitted to: held-out samples and examples, each left out in turn.

        A task that brought neither has its class or component means here, which it was fitted to.
        """
        return self._samples

    @torch.no_grad()
    @final
    def nearness(self, features: Tensor) -> Nearness:
        """Scores and margins at once.

        Args:
            features: raw features of the frozen backbone [B, D].

        Raises:
            DataError: not finite floats [B, D].
        """
        x = self._prepare(features)
        scores = self._best(self._parts(x))
        return Nearness(scores, self._margins(x, scores))

    @torch.no_grad()
    @final
    def scores(self, features: Tensor) -> Tensor:
        """Scores of every task [B, T], higher is nearer: the log density of its nearest part, unnormalised.

        Args:
            features: raw features of the frozen backbone [B, D].

        Raises:
            DataError: not finite floats [B, D].
        """
        return self._best(self._parts(self._prepare(features)))

    @torch.no_grad()
    @final
    def map(self, features: Tensor) -> Mapped:
        """The task of each input, or -1 where every task is too far.

        Args:
            features: raw features of the frozen backbone [B, D].

        Raises:
            DataError: not finite floats [B, D].
        """
        x = self._prepare(features)
        scores = self._decisive(x)
        task = scores.argmax(1)
        known = self._margins(x, scores) >= 0
        confidence = torch.softmax(scores / self._calibration.temperature, 1).gather(1, task[:, None])[:, 0]
        return Mapped(torch.where(known, task, -1), confidence, known)

    @torch.no_grad()
    @final
    def margins(self, features: Tensor) -> Tensor:
        """How far each input lies within the thresholds [B]; below 0 it is unknown.

        Args:
            features: raw features of the frozen backbone [B, D].

        Returns:
            Standard deviations of known inputs; infinity where nothing is ever unknown.

        Raises:
            DataError: not finite floats [B, D].
        """
        return self.nearness(features).margins

    def _decisive(self, x: Tensor) -> Tensor:
        """Scores [B, T] that name the nearest task; a mapper of thousands may only estimate those that lose."""
        return self._best(self._parts(x))

    @final
    def _margins(self, x: Tensor, scores: Tensor) -> Tensor:
        return self._inside(scores, self._background(x))

    @final
    def _inside(self, scores: Tensor, background: Tensor) -> Tensor:
        inside = evidence(scores.amax(1), background) - self._calibration.thresholds
        return (inside / self._calibration.spreads).amin(1)

    @final
    def _calibrate(
        self,
        scores: Tensor,
        background: Tensor,
        owner: Tensor,
        means: Tensor,
        config: Decides,
    ) -> None:
        """Set thresholds and temperature from samples [n], and keep how they are seen.

        Args:
            scores: of every task [n, T].
            background: log density around the middle of all tasks [n].
            owner: the task of each [n].
            means: of classes or components [K, D]: samples of tasks that brought none.
            config: the decision's settings.
        """
        self._calibration = calibrate(scores, background, owner, config.unknown_quantile, config.temperature)
        bare = (owner.bincount(minlength=len(self._names)) == 0)[self._owner]
        if bool(bare.any()):
            x = means[bare].float()
            scores = torch.cat([scores, self._best(self._parts(x))])
            background = torch.cat([background, self._background(x)])
            owner = torch.cat([owner, self._owner[bare]])
        self._samples = Samples(owner, scores, self._inside(scores, background))

    @abstractmethod
    def _background(self, x: Tensor) -> Tensor:
        """Log density of transformed features around the middle of all tasks [B], up to a constant."""

    @abstractmethod
    def _parts(self, x: Tensor) -> Tensor:
        """Log densities of every class or component [B, K], of transformed features."""

    @final
    def _prepare(self, features: Tensor) -> Tensor:
        values.check_matrix("features", features, columns=self._dimensions)
        return values.transform(features, self._transform).float()

    @final
    def _best(self, parts: Tensor) -> Tensor:
        best = parts.new_full((len(parts), len(self._names)), -torch.inf)
        return best.scatter_reduce(1, self._owner.expand_as(parts), parts, "amax")


class Parts:
    r"""Log densities of Gaussians that share one covariance, in one matrix product.

    .. math::
        -\tfrac12 \lVert z - u_k \rVert^2 + b_k
        = z u_k^\top - \tfrac12 \lVert u_k \rVert^2 + b_k - \tfrac12 \lVert z \rVert^2,
        \qquad z = (x - c) W

    Args:
        centres: [K, D], float64.
        offsets: b [K], float64.
        whiten: W [D, D], float64.
    """

    def __init__(self, centres: Tensor, offsets: Tensor, whiten: Tensor) -> None:
        # centred first: the square is expanded, and far from the origin float32 would cancel
        self._middle = centres.mean(0)
        whitened = (centres - self._middle) @ whiten
        self._whiten64, self._centres64 = whiten, whitened
        self._constants64 = offsets - whitened.square().sum(1) / 2
        self._offset = self._middle.float()
        self._whiten = whiten.float()
        self._centres = whitened.T.float().contiguous()
        self._constants = self._constants64.float()

    def whiten(self, x: Tensor) -> Tensor:
        """Whitened [B, D] of x [B, D]; both float64."""
        return (x - self._middle) @ self._whiten64

    def exact(self, z: Tensor) -> Tensor:
        """The same log densities [B, K] of float64 z, in float64."""
        return z @ self._centres64.T + self._constants64 - z.square().sum(1, keepdim=True) / 2

    @property
    def centres(self) -> Tensor:
        """Whitened centres [K, D], float64."""
        return self._centres64

    def background(self, x: Tensor) -> Tensor:
        """Log densities [B] around the middle of all centres, of float32 x [B, D]."""
        return -((x - self._offset) @ self._whiten).square().sum(1) / 2

    def __call__(self, x: Tensor) -> Tensor:
        """Log densities [B, K] of float32 x [B, D]."""
        z = (x - self._offset) @ self._whiten
        return torch.addmm(self._constants, z, self._centres) - z.square().sum(1, keepdim=True) / 2


def common(anchors: Mapping[str, Tensor]) -> tuple[tuple[str, ...], int]:
    """Task names, sorted, and the number of dimensions that all their means [K, D] share.

    Raises:
        DataError: there is no anchor, or they differ in dimensions.
        TaskError: a name is no task's name.
    """
    if not anchors:
        raise DataError("expected at least one anchor, found none; learn or receive a task first")
    names = tuple(sorted(anchors))
    for name in names:
        check_name("task", name)
    sizes = {anchors[name].shape[1] for name in names}
    if len(sizes) > 1:
        raise DataError(
            f"expected anchors of one backbone, found {sorted(sizes)} dimensions; ask who made them"
        )
    return names, sizes.pop()
