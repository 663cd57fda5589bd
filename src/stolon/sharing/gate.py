r"""What a module would take from the tasks that are known already, measured on held-out samples.

Let every known task :math:`t` have samples that no anchor was fitted to: the agent's own local probes for its own
tasks; for the others, what their anchors brought (held-out features, and examples each left out of its class and
covariance in turn: :attr:`~stolon.light.mappers.TaskMapper.samples`). With mapper :math:`A` before and :math:`B`
after a module :math:`m` joins, of the samples that :math:`A` gives to :math:`t`,

- :math:`m` *takes* those that :math:`B` gives to it, or that it scores nearly as high as their own task (a copied
  anchor would otherwise win or lose by its name), and
- those that :math:`B` calls unknown or gives to a third task are *lost*.

And far inputs (own probes mirrored, own probes with their numbers shuffled, random directions) must stay unknown.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

import torch
from torch import Tensor

from stolon import randomness, settings
from stolon.light.anchoring import Anchor
from stolon.light.mappers import TaskMapper

TIE: Final = 0.01
"""Scores (log densities, float32 of some hundreds) that differ by less are equal ..."""
NEARLY: Final = 0.15
"""... and, for the agent's own probes, so are those that differ by less than this share of the temperature: of two
such tasks each is at least 46 % as likely as both. Few probes lie where an attacker draws the line, more near it."""
ENOUGH_PROBES: Final = 20
"""An own task with fewer local probes is also judged by what its anchor brings."""
FAR: Final = 64
"""Far inputs of each kind."""


@final
@dataclass(frozen=True)
class GateSettings:
    """How much may be taken.

    Attributes:
        taken: most of a known task's samples (of an own task: its probes) that one author's modules may take
            together, and that joining ones may make unknown, 0 to 1.
        lost: most of an own task's probes that may become unknown in all, 0 to 1.
        loosened: most by which the share of far inputs that are called known may rise in all, 0 to 1.
        doubt: a share of few samples says little: what tasks of others lose, and what becomes unknown, counts once
            chance alone would cause it with at most this probability in a task that loses ``taken``; above 0, up
            to 1. What is taken from own tasks counts as it is.
        weak: several modules are tried one by one where a task keeps less than this of its samples with all of them,
            0 to 1: they might share what one of them alone would take.
        strikes: an author of whom so many modules were held is not tried again: trying costs time; at least 1.
        samples: most class means, examples and probes that one author's anchors bring together, at least 1.

    Raises:
        SettingError: a value is out of its range.
    """

    taken: float = 0.05
    lost: float = 0.1
    loosened: float = 0.05
    doubt: float = 0.2
    weak: float = 0.7
    strikes: int = 20
    samples: int = 20_000

    def __post_init__(self) -> None:
        settings.within("taken", self.taken, 0, 1)
        settings.within("lost", self.lost, 0, 1)
        settings.within("loosened", self.loosened, 0, 1)
        settings.above("doubt", self.doubt, 0)
        settings.within("doubt", self.doubt, 0, 1)
        settings.within("weak", self.weak, 0, 1)
        settings.at_least("strikes", self.strikes, 1)
        settings.at_least("samples", self.samples, 1)


@final
@dataclass(frozen=True, eq=False)
class Candidate:
    """A task that could be answered from.

    Attributes:
        id: of its module; anything unique.
        name: as it would be answered.
        author: who signed it.
        anchor: what tells it from others.
        probes: raw features of the agent's own inputs of it [P, D], where it learned the task itself.
    """

    id: str
    name: str
    author: str
    anchor: Anchor
    probes: Tensor | None = None


@final
@dataclass(frozen=True)
class Fault:
    """Why modules cannot join.

    Attributes:
        blamed: position of the module that does it, or None where it cannot be told.
        share: of what is lost, 0 to 1.
        reason: in words.
    """

    blamed: int | None
    share: float
    reason: str


@final
class View:
    """How a mapper of some tasks sees the samples of each.

    Args:
        members: the tasks; the order counts: earlier ones are to be protected from later ones.
        own: how many of them, from the first, are the agent's own.
        mapper: of all of them, by name.
        far: inputs that belong to none [F, D].
    """

    def __init__(self, members: Sequence[Candidate], own: int, mapper: TaskMapper, far: Tensor) -> None:
        self.members, self.own, self.mapper = tuple(members), own, mapper
        position = {member.name: i for i, member in enumerate(members)}
        self._columns = torch.tensor([mapper.tasks.index(member.name) for member in members])
        self._places = torch.tensor([position[name] for name in mapper.tasks])
        self._far = far
        near = max(TIE, NEARLY * mapper.temperature)
        self._ties = [near if i < own else TIE for i in range(len(members))]

    @cached_property
    def far_known(self) -> float:
        """Share of far inputs that are called known."""
        return float((self.mapper.nearness(self._far).margins >= 0).float().mean()) if len(self._far) else 0.0

    @cached_property
    def taker(self) -> tuple[Tensor, ...]:
        """Of each member: the position of the task that each sample goes to [n], of equals another one."""
        return tuple(_taker(scores, i, self._ties[i]) for i, (scores, _) in enumerate(self._samples))

    @cached_property
    def right(self) -> tuple[Tensor, ...]:
        """Of each member: whether each sample is given to it and to it alone [n], bool."""
        return tuple(
            (taker == i) & (margins >= 0)
            for i, (taker, (_, margins)) in enumerate(zip(self.taker, self._samples, strict=True))
        )

    def held_against_earlier(self, i: int) -> Tensor:
        """Whether each sample of member i would be given to it if no later member were there [n], bool."""
        return _taker(self._samples[i][0][:, : i + 1], i, self._ties[i]) == i

    def margins(self, i: int) -> Tensor:
        """Margins of the samples of member i [n]; below 0 they are unknown."""
        return self._samples[i][1]

    @cached_property
    def _samples(self) -> list[tuple[Tensor, Tensor]]:
        """Of each member: scores [n, T] by position, and margins [n]."""
        owner, scores, margins = self.mapper.samples
        places, scores = self._places[owner], scores[:, self._columns]
        found = []
        for i, member in enumerate(self.members):
            brought = places == i
            rows = [(scores[brought], margins[brought])]
            if i < self.own and member.probes is not None and len(member.probes):
                near = self.mapper.nearness(member.probes.float())
                probes = (near.scores[:, self._columns], near.margins)
                rows = [probes] if len(member.probes) >= ENOUGH_PROBES else [probes, *rows]
            found.append((torch.cat([s for s, _ in rows]), torch.cat([m for _, m in rows])))
        return found


def _taker(scores: Tensor, own: int, tie: float) -> Tensor:
    """The column that each row goes to [n]: ``own`` where it is best by itself, else the first of the best others."""
    others = scores >= scores.amax(1, keepdim=True) - tie
    others[:, own] = False
    return torch.where(others.any(1), others.int().argmax(1), own)


def far_inputs(members: Sequence[Candidate], dimensions: int, seed: int = 0) -> Tensor:
    """Inputs that belong to no task [F, D]; from the agent's own probes, or from directions alone without them."""
    g = randomness.generator(seed, "far", dimensions)
    directions = torch.nn.functional.normalize(torch.randn(FAR, dimensions, generator=g), dim=1)
    probes = [member.probes.float() for member in members if member.probes is not None]
    own = torch.cat([torch.zeros(0, dimensions), *probes])
    if not len(own):
        return directions
    own = own[torch.randperm(len(own), generator=g)[:FAR]]
    shuffled = own.gather(1, torch.rand(own.shape, generator=g).argsort(1))
    return torch.cat([directions * float(own.norm(dim=1).mean()), -own, shuffled])


def faults(first: View | None, before: View | None, after: View, config: GateSettings) -> Iterator[Fault]:
    """Why the modules that ``after`` has beyond ``before`` cannot join; nothing where they can.

    Args:
        first: with the agent's own tasks alone; None where it has none.
        before: with what was active so far; None where nothing was.
        after: with the modules that would join, later than all of ``before``.
        config: how much may be taken.
    """
    known = len(before.members) if before else 0
    if not bool(after.mapper.samples.scores.isfinite().all()):
        yield Fault(None, 1.0, "makes scores that are no numbers")
        return
    for i, places, share in overruns(first, after, config):
        joining = [j for j in places if j >= known]
        if joining:  # else those that join did not do it, and overruns() is asked again at the end
            yield Fault(joining[0], share, overlap(after.members[i].name, share, len(places)))
    if first:
        yield from _unknown_in_all(first, after, config)
    if before:
        yield from _astray(before, after, config)
    if len(after.members) > known + 1:
        yield from _look_closer(after, config)
    risen = after.far_known - (first.far_known if first else 0.0)
    if risen > config.loosened:
        # thresholds are pulled by samples that lie far from their own task: whoever brought most of them did it
        far = [float((after.margins(i) < 0).float().mean()) for i in range(known, len(after.members))]
        blamed = known + far.index(max(far)) if max(far) else None
        yield Fault(blamed, risen, f"makes {_percent(risen)} more of far inputs known")


def overruns(first: View | None, now: View, config: GateSettings) -> Iterator[tuple[int, list[int], float]]:
    """Tasks of which one author's later modules take too much together.

    Yields:
        The task's position, those of the modules that take anything, and the share.
    """
    for i in range(len(now.members)):
        n = len(now.taker[i])
        mine = first.right[i] if first and i < now.own else now.held_against_earlier(i)
        counts = torch.bincount(now.taker[i][mine], minlength=len(now.members)).tolist()
        authors: dict[str, list[int]] = {}
        for j in range(max(i + 1, now.own), len(now.members)):
            if counts[j]:
                authors.setdefault(now.members[j].author, []).append(j)
        most = math.floor(config.taken * n) if i < now.own else tolerated(n, config.taken, config.doubt)
        for places in authors.values():
            total = sum(counts[j] for j in places)
            if total > most:
                yield i, places, total / n


def _unknown_in_all(first: View, after: View, config: GateSettings) -> Iterator[Fault]:
    """Own tasks of which too much is unknown, whoever did it."""
    for i in range(after.own):
        gone = first.right[i] & ~after.right[i] & (after.taker[i] < after.own)
        share = float(gone.float().mean())
        if share > config.lost:
            reason = f"with the others, makes {_percent(share)} of task {first.members[i].name!r} unknown"
            yield Fault(None, share, reason)


def _astray(before: View, after: View, config: GateSettings) -> Iterator[Fault]:
    """Active tasks of which the joining ones make too much unknown, or give it to a third task."""
    known = len(before.members)
    for i, member in enumerate(before.members):
        n = len(before.right[i])
        gone = before.right[i] & ~after.right[i] & (after.taker[i] < known)
        if int(gone.sum()) > tolerated(n, config.taken, config.doubt):
            share = int(gone.sum()) / n
            reason = f"makes {_percent(share)} of task {member.name!r} unknown or taken for other tasks"
            yield Fault(None, share, reason)


def _look_closer(after: View, config: GateSettings) -> Iterator[Fault]:
    """Tasks that keep so little that several modules may share the rest among themselves."""
    for i, member in enumerate(after.members):
        mine = after.held_against_earlier(i)
        if int(after.right[i].sum()) < config.weak * int(mine.sum()):
            yield Fault(None, 0.0, f"leaves little of task {member.name!r}")


def overlap(task: str, share: float, modules: int = 1) -> str:
    """The reason in words why modules of one author, one or more, that take this share of a task are held."""
    does = "takes" if modules == 1 else "its author's modules together take"
    return f"overlaps task {task!r}: {does} {_percent(share)} of it"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def tolerated(n: int, share: float, doubt: float) -> int:
    """The largest loss of n samples that a task losing ``share`` exceeds with a probability of at most ``doubt``."""
    if share >= 1:
        return n  # all may be lost; below, that would divide by nothing
    below, k = (1 - share) ** n, 0
    chance = below
    while 1 - below > doubt and k < n:
        k += 1
        chance *= (n - k + 1) / k * share / (1 - share)
        below += chance
    return k
