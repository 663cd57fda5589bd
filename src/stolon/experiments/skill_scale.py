"""How task mappers and traffic grow: 10 to 10,000 tasks of synthetic anchors, up to 1,000 agents.

Real data sets for 10,000 tasks are not to be had, so tasks are drawn from a distribution whose scales were measured
on 24 real image sets (features of MobileNetV2 at 160 pixels, divided by their length; ``Geometry``). Tasks come
in families, as photographs, letters and drawings do. In a ``spread`` world there are more families the more tasks
there are; in a ``crowded`` one there are six, however many tasks, so that tasks lie ever closer together.

An input of a task lies around its task's middle and only in part around a component, as real inputs do: with 24 tasks
in six families the mapper is right 94 times in a hundred, as on the 24 real sets.
"""

import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, NamedTuple, final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from stolon import measure
from stolon.experiments.figures import growth
from stolon.experiments.report import Section, Table
from stolon.light.anchors.gaussian import GaussianAnchor, GaussianConfig
from stolon.light.mappers.gaussian import GaussianMapper
from stolon.light.mappers.two_level import SAMPLES, TwoLevelMapper
from stolon.randomness import generator

Kind = Literal["spread", "crowded"]

KINDS: Final[tuple[Kind, ...]] = ("spread", "crowded")
DIMENSIONS: Final = 1280
COMPONENTS: Final = 25
PROBES: Final = 4
"""Held-out inputs that each anchor brings; one where there are so many tasks that no more would be used."""
FLAT_MOST: Final = 1_000
"""Tasks up to which the flat mapper is made; beyond, its formula alone is timed: making it would take 20 GB."""
LIMIT_S: Final = 0.05
"""An answer should take no longer."""

# Measured on 24 real sets: see the module's docstring.
_MIDDLE: Final = 0.59
_TRACES: Final = {"task": 0.161, "component": 0.170, "input": 0.341}
_RANKS: Final = {"task": 35.0, "component": 120.0, "input": 386.0}
_COMPONENT_SHARES: Final = (0.5, 1.6)
_INPUT_SHARES: Final = (0.5, 1.6)
_APART: Final = 0.03
_AROUND: Final = 0.1


class Geometry(NamedTuple):
    """How task middles, components and inputs scatter: square roots of covariances [D, D].

    Attributes:
        middle: of all tasks [D].
        task: of families of tasks.
        component: of components around their task's middle.
        inputs: of inputs around where components put them.
    """

    middle: Tensor
    task: Tensor
    component: Tensor
    inputs: Tensor

    @classmethod
    def measured(cls, dimensions: int, seed: int) -> "Geometry":
        """Of any number of dimensions, with the measured scales: falling spectra in random directions.

        A spectrum falls as a power whose exponent gives the measured effective rank, (sum)^2 / (sum of squares).
        """
        roots = {}
        for name, rank in _RANKS.items():
            spectrum = _spectrum(dimensions, min(rank, 0.8 * dimensions)) * _TRACES[name]
            noise = torch.randn(dimensions, dimensions, generator=generator(seed, "scale", name))
            directions, _ = torch.linalg.qr(noise)
            roots[name] = directions * spectrum.sqrt()
        middle = normalize(torch.rand(dimensions, generator=generator(seed, "scale", "middle")), dim=0)
        return cls(_MIDDLE * middle, roots["task"], roots["component"], roots["input"])


@final
class Tasks:
    """So many synthetic tasks: their anchors, and inputs of them.

    Args:
        count: T.
        geometry: how they scatter.
        kind: ``"spread"`` or ``"crowded"``.
        seed: of everything random.
    """

    def __init__(self, count: int, geometry: Geometry, kind: Kind, seed: int) -> None:
        self._geometry, self._seed = geometry, seed
        self._probes = PROBES if count < SAMPLES else 1
        g = generator(seed, "scale", "tasks")
        families = 6 if kind == "crowded" else max(6, count // 4)
        places = geometry.middle + torch.randn(families, len(geometry.middle), generator=g) @ geometry.task.T
        apart = torch.randn(count, len(geometry.middle), generator=g) @ geometry.component.T
        self._middles = places[torch.arange(count) % families] + math.sqrt(_APART) * apart
        low, high = _COMPONENT_SHARES
        self._spread = (low + (high - low) * torch.rand(count, generator=g)).sqrt()
        low, high = _INPUT_SHARES
        self._noise = (low + (high - low) * torch.rand(count, generator=g)).sqrt()
        self._diagonal = geometry.inputs.square().sum(1)

    def __len__(self) -> int:
        return len(self._middles)

    def anchors(self) -> Iterator[tuple[str, GaussianAnchor]]:
        """Every task's anchor by name, in order."""
        for task in range(len(self)):
            means = self._middles[task] + self._away(task)
            probes = torch.cat([self._around(task, turn, means) for turn in range(self._probes)])
            yield (
                f"task {task:05d}",
                GaussianAnchor(
                    means / torch.linalg.vector_norm(means, dim=1, keepdim=True).clamp(min=1),
                    self._noise[task].square() * self._diagonal[None],
                    torch.full((COMPONENTS,), 1 / COMPONENTS),
                    torch.tensor(1000),
                    probes,
                ),
            )

    def inputs(self, count: int) -> tuple[Tensor, Tensor]:
        """Raw features [n, D] of new inputs, and their tasks [n], spread over all tasks."""
        tasks = torch.arange(count) * len(self) // count
        x = [
            self._around(task, 1000 + i, self._middles[task] + self._away(task))
            for i, task in enumerate(tasks.tolist())
        ]
        return torch.cat(x), tasks

    def _away(self, task: int) -> Tensor:
        """Components less their task's middle [K, D]; made anew each time, as all of them take gigabytes."""
        g = generator(self._seed, "scale", "components", task)
        return (
            self._spread[task]
            * torch.randn(COMPONENTS, self._middles.shape[1], generator=g)
            @ self._geometry.component.T
        )

    def _around(self, task: int, turn: int, means: Tensor) -> Tensor:
        """One input [1, D]."""
        g = generator(self._seed, "scale", "input", task, turn)
        own = means[torch.randint(COMPONENTS, (1,), generator=g)] - self._middles[task]
        free, noise = torch.randn(2, 1, means.shape[1], generator=g)
        x = self._middles[task] + math.sqrt(_AROUND) * own
        x = x + math.sqrt(1 - _AROUND) * self._spread[task] * free @ self._geometry.component.T
        return normalize(x + self._noise[task] * noise @ self._geometry.inputs.T, dim=1)


@final
@dataclass(frozen=True)
class Growth:
    """One number of tasks: a row of the table. Bytes are what mappers keep.

    Seconds are the processor's, of one thread, so that they can be told on a machine that does other things too; of
    answers medians, per input.

    Attributes:
        tasks: T.
        world: ``"spread"`` or ``"crowded"``.
        flat_build_s: making the flat mapper; None where it was not made.
        flat_bytes: what it keeps.
        flat_s: an answer of it, inputs one by one.
        flat_batch_s: the same in batches of 256.
        build_s: making the two-level mapper.
        bytes: what it keeps.
        s: an answer of it, inputs one by one.
        slow_s: the slowest of a hundred.
        batch_s: in batches of 256.
        visited: tasks whose parts are looked at, mean.
        accuracy: share of inputs whose task the flat mapper finds, nearest task.
        equal: share of inputs to which both give the same task.
        confidence: largest difference of confidences.
        proven: share of answers that the triangle inequality proves.
        peak_bytes: most memory the process had so far.
    """

    tasks: int
    world: str
    flat_build_s: float | None
    flat_bytes: int
    flat_s: float
    flat_batch_s: float
    build_s: float
    bytes: int
    s: float
    slow_s: float
    batch_s: float
    visited: float
    accuracy: float
    equal: float
    confidence: float
    proven: float
    peak_bytes: int


def grow(count: int, geometry: Geometry, kind: Kind, *, inputs: int = 512, seed: int = 0) -> Growth:
    """Make both mappers of so many tasks, and ask them.

    Args:
        count: T.
        geometry: how tasks scatter.
        kind: of world.
        inputs: to ask about, at least 256.
        seed: of everything random.
    """
    tasks = Tasks(count, geometry, kind, seed)
    x, truth = tasks.inputs(inputs)
    anchors = dict(tasks.anchors())
    config = GaussianConfig()
    begun = time.process_time()
    two = TwoLevelMapper(anchors, config)
    build_s = time.process_time() - begun
    flat_build_s = None
    if count <= FLAT_MOST:
        begun = time.process_time()
        flat = GaussianMapper(anchors, config)
        flat_build_s = time.process_time() - begun
        scores = flat.scores
    else:
        scores = two.scores
    del anchors
    ours = torch.cat([two.estimates(part) for part in x.split(256)])
    theirs = torch.cat([scores(part) for part in x.split(256)])
    singles = x[:100].split(1)
    one_by_one = [_seconds(partial(two.map, part), 1) for part in singles]
    most = (theirs / two.temperature).softmax(1).amax(1) - (ours / two.temperature).softmax(1).amax(1)
    keeps = 4 * two.parts * (x.shape[1] + 1)
    return Growth(
        tasks=count,
        world=kind,
        flat_build_s=flat_build_s,
        flat_bytes=3 * keeps,  # its parts in float32, and in float64 for samples left out
        flat_s=_seconds(lambda: scores(singles[0]), 5),
        flat_batch_s=_seconds(lambda: scores(x[:256]), 1) / 256,
        build_s=build_s,
        bytes=two.bytes,
        s=sorted(one_by_one)[len(one_by_one) // 2],
        slow_s=max(one_by_one),
        batch_s=_seconds(lambda: two.map(x[:256]), 1) / 256,
        visited=float(torch.cat([two.visited(part) for part in x.split(256)]).float().mean()),
        accuracy=float((theirs.argmax(1) == truth).float().mean()),
        equal=float((theirs.argmax(1) == ours.argmax(1)).float().mean()),
        confidence=float(most.abs().max()),
        proven=float(two.proven(x[:256]).float().mean()),
        peak_bytes=_peak_bytes(),
    )


@final
@dataclass(frozen=True)
class Traffic:
    """What agents receive until all have everything, by a formula that a simulation of the exchange checks.

    Attributes:
        agents: N.
        tasks: T, N's share of them each.
        module_bytes: of one module, envelope and files.
        overhead_bytes: beside it, for each module received: ids listed, requests, headers.
    """

    agents: int
    tasks: int
    module_bytes: int
    overhead_bytes: float

    @property
    def received(self) -> float:
        """By one agent: every module that it did not teach, once."""
        return self.tasks * (1 - 1 / self.agents) * (self.module_bytes + self.overhead_bytes)

    @property
    def total(self) -> float:
        """By all agents."""
        return self.agents * self.received

    @property
    def worth_macs(self) -> float:
        """What receiving is worth in MACs, per agent."""
        return measure.ALPHA * self.received


def section(rows: Sequence[Growth]) -> Section:
    """The rows as a table and a plot of seconds per input, asked one by one."""
    table = Table(
        ("tasks", "world", "flat", "two levels", "visited", "equal", "kept", "made in", "mapper accuracy"),
        [
            (
                str(row.tasks),
                row.world,
                f"{1e3 * row.flat_s:.1f} ms",
                f"{1e3 * row.s:.1f} ms",
                f"{row.visited:.0f}",
                f"{100 * row.equal:.1f} %",
                f"{row.bytes / 1e6:.0f} MB",
                f"{row.build_s:.1f} s",
                f"{100 * row.accuracy:.1f} %",
            )
            for row in rows
        ],
        "An answer for one input, in processor time of one thread",
    )
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        lines.setdefault(f"flat, {row.world}", []).append((row.tasks, 1e3 * row.flat_s))
        lines.setdefault(f"two levels, {row.world}", []).append((row.tasks, 1e3 * row.s))
    plot = growth(
        lines,
        title="An answer for one input",
        x_title="tasks",
        y_title="milliseconds",
        alt="Milliseconds of an answer against the number of tasks; the numbers are in the table.",
        logarithmic=True,
    )
    return Section("Synthetic tasks", __doc__.partition("\n")[2].replace("``", ""), [table], [plot])


def _seconds(call: Callable[[], object], times: int) -> float:
    """Median of so many calls."""
    took = []
    for _ in range(times):
        begun = time.process_time()
        call()
        took.append(time.process_time() - begun)
    return sorted(took)[len(took) // 2]


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _spectrum(dimensions: int, rank: float) -> Tensor:
    """Values that fall as a power, sum to 1 and have this effective rank [D]."""
    steps = torch.arange(1, dimensions + 1, dtype=torch.float64)
    low, high = 0.0, 4.0
    for _ in range(60):
        power = (low + high) / 2
        values = steps**-power
        if float(values.sum() ** 2 / values.square().sum()) > rank:
            low = power
        else:
            high = power
    values = steps ** -((low + high) / 2)
    return (values / values.sum()).float()
