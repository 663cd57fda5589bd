"""Which modules an agent answers from: those that take nothing from what it knows already.

A pure function of the set of modules, their fixed order, and the agent's own tasks and probes: the order in which
modules arrived changes nothing. The gate that each must pass is :mod:`stolon.sharing.gate`; what it promises, what
it was measured to do and what a hostile author can still do is in docs/decisions/0007-activation.md.

Trying every module by itself would cost a mapper each. So all are tried at once: losses are counted for each of
them, but in one mapper. Where that finds nothing, all join; else the first that is to blame is tried by itself,
and those before and after it together, or halves where nobody can be blamed. An honest set costs two mappers.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import final

import torch
from torch import Tensor

from stolon.errors import DataError, TaskError
from stolon.light.anchoring import Anchor, Anchoring
from stolon.light.mappers import TaskMapper
from stolon.sharing.gate import Candidate, Fault, GateSettings, View, far_inputs, faults, overlap, overruns
from stolon.tasks import check_name

__all__ = ["Activation", "Candidate", "GateSettings", "activate"]


@final
@dataclass(frozen=True, eq=False)
class Activation:
    """What an agent answers from.

    Attributes:
        active: ids of the tasks that are answered from: own ones first, then the others in their order.
        held: ids of those that are not, and why, in words.
        mapper: of the active tasks by name; None where there is none.
        built: how many mappers that took.
    """

    active: tuple[str, ...]
    held: Mapping[str, str]
    mapper: TaskMapper | None
    built: int


def activate(
    own: Sequence[Candidate],
    others: Sequence[Candidate],
    anchoring: Anchoring,
    features: Callable[[Tensor], Tensor],
    config: GateSettings | None = None,
) -> Activation:
    """Choose the modules to answer from.

    Args:
        own: the agent's own tasks, with their probes: always active, and sorted by id here.
        others: other modules in the order that all choices follow: earlier ones are protected from later ones.
        anchoring: how anchors are merged.
        features: raw features [M, D] of uint8 images, for anchors that bring images.
        config: how much may be taken.

    Raises:
        DataError: an own task's anchor is not what it should be.
    """
    own = [replace(each, anchor=anchoring.read(each.anchor, features)) for each in sorted(own, key=_id)]
    gate = _Gate(anchoring, own, config or GateSettings())
    gate.admit(gate.readable(others, features))
    gate.review()
    return gate.result()


@final
@dataclass
class _Gate:
    """The members so far, and who was held back."""

    anchoring: Anchoring
    own: Sequence[Candidate]
    config: GateSettings
    held: dict[str, str] = field(default_factory=dict)
    built: int = 0
    first: View | None = None
    now: View | None = None
    far: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    strikes: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if self.own:
            self._set_far(_width(self.own[0]))
            self.first = self.now = self._view(self.own)

    def readable(self, others: Sequence[Candidate], features: Callable[[Tensor], Tensor]) -> list[Candidate]:
        """Those whose names and anchors can be used; the rest is held back."""
        widths = Counter(_width(each) for each in self.own or others)
        width = max(widths, key=lambda w: (widths[w], w), default=0)
        taken = {each.name for each in self.own}
        room = Counter({each.author: self.config.samples for each in others})
        found = []
        for each in others:
            try:
                _check(each, taken, width)
                room[each.author] -= _rows(each.anchor)
                if room[each.author] < 0:
                    self.held[each.id] = f"its author's anchors bring more than {self.config.samples} samples"
                    continue
                anchor = self._read(each.anchor, features)
            except (DataError, TaskError) as error:
                self.held[each.id] = f"cannot be used: {error}"
                continue
            taken.add(each.name)
            found.append(replace(each, anchor=anchor, probes=None))
        if found and not self.own:
            self._set_far(width)
        return found

    def _read(self, anchor: Anchor, features: Callable[[Tensor], Tensor]) -> Anchor:
        return self.anchoring.check(self.anchoring.read(self.anchoring.check(anchor), features))

    def admit(self, group: Sequence[Candidate]) -> None:
        """Let those of the group join that harm nothing, in their order."""
        group = [each for each in group if not self._is_out(each)]
        if not group:
            return
        members = self.now.members if self.now else ()
        after, found = self._tried([*members, *group])
        if after and not found:
            self.now = after
        elif len(group) == 1:
            self.held[group[0].id] = max(found, key=lambda fault: fault.share).reason
            self.strikes[group[0].author] += 1
        else:
            for part in _parts(group, [f.blamed - len(members) for f in found if f.blamed is not None]):
                self.admit(part)

    def review(self) -> None:
        """Put back what takes too much of a task only since others joined after it."""
        while self.now:
            found = next(overruns(self.first, self.now, self.config), None)
            if found is None:
                return
            task, places, share = found
            members = list(self.now.members)
            last = members.pop(places[-1])
            self.held[last.id] = overlap(members[task].name, share, len(places))
            self.now = self._view(members)

    def result(self) -> Activation:
        """What was decided."""
        members = self.now.members if self.now else ()
        mapper = self.now.mapper if self.now else None
        ids = tuple(member.id for member in members)
        return Activation(ids, MappingProxyType(dict(self.held)), mapper, self.built)

    def _is_out(self, candidate: Candidate) -> bool:
        """Whether its author had enough chances; each costs mappers, and one author may send thousands."""
        is_out = self.strikes[candidate.author] >= self.config.strikes
        if is_out:
            self.held[candidate.id] = (
                f"not tried: {self.config.strikes} modules of its author were held before it"
            )
        return is_out

    def _tried(self, members: Sequence[Candidate]) -> tuple[View | None, list[Fault]]:
        try:
            after = self._view(members)
        except RuntimeError as error:  # a covariance that has no factors
            return None, [Fault(None, 1.0, f"cannot be used: {error}")]
        return after, list(faults(self.first, self.now, after, self.config))

    def _view(self, members: Sequence[Candidate]) -> View:
        self.built += 1
        anchors = {member.name: member.anchor for member in members}
        return View(members, len(self.own), self.anchoring.mapper(anchors, _no_images), self.far)

    def _set_far(self, width: int) -> None:
        self.far = far_inputs(self.own, width)


def _parts(group: Sequence[Candidate], blamed: Sequence[int]) -> list[Sequence[Candidate]]:
    """The group in parts, in order: before the first to blame, itself, the rest; or halves."""
    if not blamed:
        return [group[: len(group) // 2], group[len(group) // 2 :]]
    first = min(blamed)
    return [group[:first], group[first : first + 1], group[first + 1 :]]


def _check(candidate: Candidate, taken: set[str], width: int) -> None:
    check_name("task", candidate.name)
    if candidate.name in taken:
        raise TaskError(f"there is a task {candidate.name!r} already")
    if _width(candidate) != width:
        raise DataError(f"expected {width} dimensions, found {_width(candidate)}")


def _width(candidate: Candidate) -> int:
    means = candidate.anchor.means
    return int(means.shape[1]) if means.ndim == 2 else 0


def _rows(anchor: Anchor) -> int:
    """Class means, examples and probes, or images, that it brings."""
    return sum(
        len(value) for name, value in anchor.tensors().items() if value.ndim > 1 and name != "variances"
    )


def _id(candidate: Candidate) -> str:
    return candidate.id


def _no_images(x: Tensor) -> Tensor:
    raise AssertionError(f"images were read before: {list(x.shape)}")
