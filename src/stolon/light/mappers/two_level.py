r"""Name the task of an input among thousands, without comparing it with every part of every task.

The first level has one number per task: how near the middle of its parts is. The second level, the parts
themselves, is only looked at for tasks that can still win. With parts :math:`u_k` of task t, their mean
:math:`m_t`, and all else as in :class:`~stolon.light.mappers.base.Parts`:

.. math::
    s_t = \max_{k \in t} \left(z \cdot u_k + b'_k\right) \qquad
    \hat s_t = z \cdot m_t + g_t

For some inputs of known tasks (the probes that anchors carry) both are computed for all tasks once. Half of
them give :math:`g_t` and :math:`\sigma_t`, the mean and the standard deviation of :math:`s_t - z \cdot m_t`. Of the
n others let R be the :math:`\lceil (n + 1)(1 - \varepsilon) \rceil`-th smallest of
:math:`(s_t - \hat s_t) / \sigma_t` of the winning tasks. An input visits the tasks of highest :math:`\hat s` first,
then every task with :math:`\hat s_t + R \sigma_t` at least the best s found. So the flat mapper's winner is missed
only if it exceeds its estimate by more than :math:`R \sigma_t`, which for one more input like those n happens
with a probability of at most :math:`\varepsilon` (split conformal prediction: true for any distribution). With
n below :math:`1 / \varepsilon - 1`, R is infinite: every task is visited, and the answer is the flat one.

A bound that holds for every single input, the triangle inequality on :math:`\lVert z - m_t \rVert` and the
task's radius, is kept beside it as :meth:`TwoLevelMapper.proven`; in hundreds of dimensions it rules out next to
nothing (docs/methods/sharing-costs.md).

Source:
    Middles before parts: the inverted file of Sivic and Zisserman, ICCV 2003, with tasks as its lists. The
    guarantee: Vovk, Gammerman, Shafer, "Algorithmic learning in a random world", 2005.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple, Self, final

import torch
from torch import Tensor

from stolon import settings
from stolon.errors import SettingError
from stolon.light.anchors.gaussian import GaussianAnchor, GaussianConfig
from stolon.light.mappers import covariance
from stolon.light.mappers.base import Parts, TaskMapper
from stolon.light.mappers.gaussian import GaussianMapper, in_order, log_priors, shares
from stolon.light.mappers.mahalanobis import MahalanobisMapper

MISSES: Final = 0.002
"""Largest share of inputs whose task the first level may hide from the second (epsilon above)."""
SAMPLES: Final = 2048
"""Most probes that the levels are fitted to."""
FIRST: Final = 16
"""Tasks that are visited before anything is known of the best score."""

_CHUNK = 200  # tasks that are whitened, or compared with inputs, at once
_ROWS = 4096  # inputs that are compared with them


class _Levels(NamedTuple):
    """Everything whitened, float32.

    Attributes:
        parts: [K, D], those of a task one after the other.
        constants: what is added to z u_k [K].
        first: the row of each task's first part, and K behind the last [T + 1].
        middles: [T, D].
        gains: what is added to z m_t [T].
        spreads: how far s_t scatters around its estimate [T].
        reach: how many spreads a winner may exceed its estimate by (R).
    """

    parts: Tensor
    constants: Tensor
    first: tuple[int, ...]
    middles: Tensor
    gains: Tensor
    spreads: Tensor
    reach: float


@final
class TwoLevelMapper(TaskMapper):
    """A task mapper for thousands of tasks: the flat one's answers, at a fraction of its work.

    Only :meth:`map` goes by two levels. There scores of tasks that were not visited are their estimates, lowered where
    needed so that none beats the best that was found; confidences differ from the flat mapper's by what that is
    off. :meth:`scores`, :meth:`nearness` and :attr:`samples`, by which modules are judged, are the flat mapper's:
    an estimate could make a task look untouched that is taken from, or the other way round.

    Args:
        anchors: Gaussian, by task name; in any order.
        config: the settings that they were fitted with, ``covariance="pooled"``; ``None``: the defaults.
        misses: largest share of inputs like the probes that may get another task than by the flat mapper,
            above 0 and below 1.
        samples: most probes to fit the levels and thresholds to, at least 1, taken from all tasks in turn. Beside
            them :attr:`samples` has one of each task that none was taken of: the mean of its heaviest component.

    Raises:
        DataError: no anchor, one that is not what it should be, or of other dimensions than the rest.
        SettingError: ``covariance`` is ``"own"``: without a shared covariance there are no middles to compare.
        TaskError: a name is no task's name.

    Example:
        >>> from stolon.light.anchors import fit_gaussian
        >>> config = GaussianConfig(transform="none", unknown_quantile=None)
        >>> anchors = {f"task {t}": fit_gaussian(9 * t + torch.rand(50, 2), config) for t in range(3)}
        >>> mapper = TwoLevelMapper(anchors, config)
        >>> [mapper.tasks[t] for t in mapper.map(torch.tensor([[0.5, 0.5], [18.1, 18.5]])).tasks]
        ['task 0', 'task 2']
    """

    def __init__(
        self,
        anchors: Mapping[str, GaussianAnchor],
        config: GaussianConfig | None = None,
        *,
        misses: float = MISSES,
        samples: int = SAMPLES,
    ) -> None:
        config = config or GaussianConfig()
        settings.at_least("samples", samples, 1)
        _check_misses(misses)
        if config.covariance != "pooled":
            raise SettingError(f"covariance: expected 'pooled' for two levels, found {config.covariance!r}")
        self._names, self._dimensions, ordered = in_order(anchors, config)
        self._transform = config.transform
        self._owner = torch.arange(len(ordered))
        prior = log_priors(config.prior, ordered).float()
        self._middle, whiten = _whitening(ordered, config.spread)
        self._whiten = whiten.float()
        parts, first = _whitened(ordered, self._middle, whiten)
        self._middle = self._middle.float()
        constants = prior - parts.square().sum(1) / 2
        probes, whose = _probes(ordered, samples)
        z = self._whitened(probes)
        self._levels, scores = _fit(parts, constants, first, z, misses)
        self._radii, self._tops = _extents(self._levels)
        heaviest = torch.stack([a.means[a.weights.argmax()].float() for a in ordered])
        self._calibrate(scores, self._background(probes), whose, heaviest, config)

    @classmethod
    def of(
        cls, flat: GaussianMapper | MahalanobisMapper, features: Tensor, *, misses: float = MISSES
    ) -> Self:
        """The same mapper in two levels, with the flat one's own thresholds and temperature.

        Args:
            flat: of either kind of anchor, with one covariance for all.
            features: raw features of inputs of known tasks [n, D] that no anchor was fitted to.
            misses: as above.

        Raises:
            DataError: not finite floats [n, D].
            SettingError: each part of the flat mapper has a covariance of its own.
        """
        _check_misses(misses)
        densities = flat._densities
        if not isinstance(densities, Parts):
            raise SettingError("flat: expected a mapper with one covariance for all, found one for each part")
        made = cls.__new__(cls)
        made._names, made._dimensions, made._transform = flat._names, flat._dimensions, flat._transform
        made._calibration, made._samples = flat._calibration, flat._samples
        made._owner = torch.arange(len(made._names))
        made._middle, made._whiten = densities._offset, densities._whiten
        counts = flat._owner.bincount(minlength=len(made._names)).tolist()
        first = tuple(torch.tensor([0, *counts]).cumsum(0).tolist())
        z = made._whitened(made._prepare(features))
        made._levels, _ = _fit(densities.centres.float(), densities._constants, first, z, misses)
        made._radii, made._tops = _extents(made._levels)
        return made

    @property
    def bytes(self) -> int:
        """What it keeps in memory."""
        tensors = (*self._levels[:2], *self._levels[3:6], self._whiten, self._middle)
        return sum(value.nbytes for value in (*tensors, self._radii, self._tops))

    @property
    def parts(self) -> int:
        """Components or classes of all tasks."""
        return len(self._levels.parts)

    @torch.no_grad()
    def estimates(self, features: Tensor) -> Tensor:
        """What :meth:`map` goes by [B, T]: scores of the tasks that were visited, and estimates of the others.

        Args:
            features: raw features of the frozen backbone [B, D].

        Raises:
            DataError: not finite floats [B, D].
        """
        return self._decisive(self._prepare(features))

    @torch.no_grad()
    def visited(self, features: Tensor) -> Tensor:
        """How many tasks the second level looks at for each input [B], int64.

        Args:
            features: raw features of the frozen backbone [B, D].

        Raises:
            DataError: not finite floats [B, D].
        """
        return self._look(self._whitened(self._prepare(features)))[1].sum(1)

    @torch.no_grad()
    def proven(self, features: Tensor) -> Tensor:
        """Whether the triangle inequality rules out every task that was not visited [B], bool.

        Args:
            features: raw features of the frozen backbone [B, D].

        Raises:
            DataError: not finite floats [B, D].
        """
        z = self._whitened(self._prepare(features))
        scores, seen = self._look(z)
        best = scores.amax(1, keepdim=True)
        near = (torch.cdist(z, self._levels.middles) - self._radii).clamp(min=0)
        most = self._tops - near.square() / 2 + _half_square(z)
        return ((most < best) | seen).all(1)

    def _background(self, x: Tensor) -> Tensor:
        return -self._whitened(x).square().sum(1) / 2

    def _parts(self, x: Tensor) -> Tensor:
        z = self._whitened(x)
        return _flat(self._levels.parts, self._levels.constants, self._levels.first, z) - _half_square(z)

    def _decisive(self, x: Tensor) -> Tensor:
        z = self._whitened(x)
        return self._look(z)[0] - _half_square(z)

    def _whitened(self, x: Tensor) -> Tensor:
        return (x - self._middle) @ self._whiten

    def _look(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of all tasks [B, T] less the input's own square, and which of them are exact [B, T], bool."""
        levels = self._levels
        estimates = torch.addmm(levels.gains, z, levels.middles.T)
        scores = torch.full_like(estimates, -torch.inf)
        seen = torch.zeros_like(estimates, dtype=torch.bool)
        seen.scatter_(1, estimates.topk(min(FIRST, estimates.shape[1]), 1).indices, value=True)
        self._visit(z, seen, scores)
        best = scores.amax(1, keepdim=True)
        more = (estimates + levels.reach * levels.spreads >= best) & ~seen
        self._visit(z, more, scores)
        seen |= more
        best = scores.amax(1, keepdim=True)
        # an estimate never wins: what was not visited stays below what was
        below = torch.nextafter(best, torch.full_like(best, -torch.inf))
        return torch.where(seen, scores, torch.minimum(estimates, below)), seen

    def _visit(self, z: Tensor, wanted: Tensor, scores: Tensor) -> None:
        """Fill in the scores of the wanted tasks, task by task: each one's parts are read once per batch."""
        levels = self._levels
        pairs = wanted.T.nonzero()
        if not len(pairs):
            return
        tasks, counts = pairs[:, 0].unique_consecutive(return_counts=True)
        if len(tasks) > len(levels.middles) / 2:  # so many one by one would take longer than all at once
            scores[wanted] = _flat(levels.parts, levels.constants, levels.first, z)[wanted]
            return
        for task, rows in zip(tasks.tolist(), pairs[:, 1].split(counts.tolist()), strict=True):
            part = slice(levels.first[task], levels.first[task + 1])
            scores[rows, task] = torch.addmm(levels.constants[part], z[rows], levels.parts[part].T).amax(1)


def _fit(
    parts: Tensor, constants: Tensor, first: tuple[int, ...], z: Tensor, misses: float
) -> tuple[_Levels, Tensor]:
    """The levels, and the flat scores [n, T] of the whitened samples [n, D] that they were fitted to."""
    middles = torch.stack([parts[a:b].mean(0) for a, b in pairwise(first)])
    scores = _flat(parts, constants, first, z)
    coarse = z @ middles.T
    gaps = scores - coarse
    half = gaps[::2]
    # without samples any estimate will do, as every task is visited; equal gaps have no spread
    gains = half.mean(0) if len(half) else coarse.new_zeros(len(middles))
    spreads = (half.std(0) if len(half) > 1 else coarse.new_ones(len(middles))).clamp(min=1e-3)
    excess = ((gaps - gains) / spreads).gather(1, scores.argmax(1, keepdim=True))[1::2, 0].sort().values
    rank = math.ceil((len(excess) + 1) * (1 - misses))
    # a thousandth more: the same sums in another order differ in their last bits
    reach = float(excess[rank - 1]) + 1e-3 if rank <= len(excess) else math.inf
    levels = _Levels(parts, constants, first, middles, gains, spreads, reach)
    return levels, scores - _half_square(z)


def _flat(parts: Tensor, constants: Tensor, first: tuple[int, ...], z: Tensor) -> Tensor:
    """The best score of every task [B, T], less the input's own square."""
    found = z.new_empty(len(z), len(first) - 1)
    for rows in torch.arange(len(z)).split(_ROWS):
        blocks = [
            _best(torch.addmm(constants[a:b], z[rows], parts[a:b].T), sizes) for a, b, sizes in _chunks(first)
        ]
        found[rows] = torch.cat(blocks, 1)
    return found


def _half_square(z: Tensor) -> Tensor:
    return z.square().sum(1, keepdim=True) / 2


def _extents(levels: _Levels) -> tuple[Tensor, Tensor]:
    """Of each task the largest distance of a part from the middle, and the largest offset of a part, [T]."""
    radii, tops = [], []
    for task, (a, b) in enumerate(pairwise(levels.first)):
        own = levels.parts[a:b]
        radii.append(torch.linalg.vector_norm(own - levels.middles[task], dim=1).amax())
        tops.append((levels.constants[a:b] + own.square().sum(1) / 2).amax())
    return torch.stack(radii), torch.stack(tops)


def _chunks(first: tuple[int, ...]) -> Iterator[tuple[int, int, list[int]]]:
    """Rows of some tasks at a time, and how many parts each of these has."""
    for begin in range(0, len(first) - 1, _CHUNK):
        ends = first[begin : begin + _CHUNK + 1]
        yield ends[0], ends[-1], [b - a for a, b in pairwise(ends)]


def _best(parts: Tensor, sizes: Sequence[int]) -> Tensor:
    return torch.stack([own.amax(1) for own in parts.split(list(sizes), 1)], 1)


def _whitening(ordered: Sequence[GaussianAnchor], spread: float) -> tuple[Tensor, Tensor]:
    """The mean of all parts [D] and the whitening [D, D], float64: the flat mapper's, some tasks at a time."""
    d = ordered[0].means.shape[1]
    pooled, middle = torch.zeros(d, dtype=torch.float64), torch.zeros(d, dtype=torch.float64)
    between = torch.zeros(d, d, dtype=torch.float64)
    total = 0
    for begin in range(0, len(ordered), _CHUNK):
        some = ordered[begin : begin + _CHUNK]
        means = torch.cat([a.means.double() for a in some])
        weights = [shares(a) for a in some]
        owner = torch.cat([torch.full((len(a.means),), t) for t, a in enumerate(some)])
        scatter, _ = covariance.scatter(means, torch.cat(weights), owner, len(some))
        between += len(some) * scatter
        middle += means.sum(0)
        total += len(means)
        for weight, anchor in zip(weights, some, strict=True):
            pooled += weight @ anchor.variances.double().expand_as(anchor.means)
    shared = torch.diag(pooled / len(ordered)) + spread / len(ordered) * between
    return middle / total, covariance.whitener(shared)


def _whitened(
    ordered: Sequence[GaussianAnchor], middle: Tensor, whiten: Tensor
) -> tuple[Tensor, tuple[int, ...]]:
    """All parts, whitened [K, D], float32, and where each task's begin [T + 1]."""
    first = tuple(torch.tensor([0, *(len(a.means) for a in ordered)]).cumsum(0).tolist())
    parts = torch.empty(first[-1], len(middle))
    for begin in range(0, len(ordered), _CHUNK):
        some = torch.cat([a.means for a in ordered[begin : begin + _CHUNK]]).double()
        parts[first[begin] : first[begin] + len(some)] = (some - middle) @ whiten
    return parts, first


def _probes(ordered: Sequence[GaussianAnchor], most: int) -> tuple[Tensor, Tensor]:
    """Up to so many probes [n, D], and their tasks [n]: one of every task, then a second, and so on."""
    counts = [len(a.probes) for a in ordered]
    turns = [(turn, t) for turn in range(max(counts)) for t, count in enumerate(counts) if turn < count]
    # of a turn that does not fit whole, tasks at equal steps: names must not decide who is heard
    if len(turns) > most:
        whole = [pair for pair in turns if pair[0] < turns[most][0]]
        rest = [pair for pair in turns if pair[0] == turns[most][0]]
        wanted = most - len(whole)
        turns = whole + [rest[i * len(rest) // wanted] for i in range(wanted)]
    turns.sort(key=lambda pair: (pair[1], pair[0]))
    if not turns:
        return torch.zeros(0, ordered[0].means.shape[1]), torch.zeros(0, dtype=torch.int64)
    probes = torch.stack([ordered[t].probes[turn].float() for turn, t in turns])
    return probes, torch.tensor([t for _, t in turns])


def _check_misses(misses: float) -> None:
    if not 0 < misses < 1:
        raise SettingError(f"misses: expected above 0 and below 1, found {misses}")
