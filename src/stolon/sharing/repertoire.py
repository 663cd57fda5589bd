"""What an agent answers from: its bank, seen through its trust list, its opinion and the gate."""

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final, final

import torch
from torch import Tensor

from stolon.errors import StoreError
from stolon.light.answering import Answering, TaskKnowledge
from stolon.light.features import FeatureMemo
from stolon.light.lightweight import Lightweight
from stolon.records import Json
from stolon.sharing import lightweight, roster
from stolon.sharing.activation import Activation, Candidate, GateSettings, activate
from stolon.sharing.bank import Bank
from stolon.sharing.trust import Trust

CONFUSION_TASKS: Final = 64
"""Most tasks of which the confusion is told."""


@final
@dataclasses.dataclass(frozen=True)
class ModuleStatus:
    """One module, as people are told of it.

    Attributes:
        id: of the module.
        task: the task's name, as its author gave it.
        name: what it is called in answers; the task's name unless another agent taught one of that name.
        classes: class names.
        author: public key of who taught it.
        author_name: what the trust list calls them.
        is_own: this agent taught it.
        arrived: when it came here, seconds since 1970 by this machine's clock.
        bytes: of the module, all files and the envelope.
        metrics: what its author measured, such as ``test_accuracy``.
        costs: what its author spent, such as ``seconds``.
        has_biases: it re-tunes the backbone.
        active: answers are given from it.
        reason: why not; empty where it is active.
    """

    id: str
    task: str
    name: str
    classes: tuple[str, ...]
    author: str
    author_name: str
    is_own: bool
    arrived: float
    bytes: int
    metrics: Mapping[str, float]
    costs: Mapping[str, float]
    has_biases: bool
    active: bool
    reason: str


@final
@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What is answered from at one moment; replaced as a whole, so that no answer mixes two.

    Attributes:
        basis: all that it was made from; equal where nothing has changed.
        answering: None where there is no active module.
        statuses: of all current modules, active or not.
    """

    basis: object
    answering: Answering | None
    statuses: tuple[ModuleStatus, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of what is answered for, sorted."""
        return () if self.answering is None else tuple(sorted(self.answering.tasks))


@final
class Repertoire:
    """Decides which modules of a bank are answered from, and answers.

    Args:
        bank: where the modules are.
        trust: gives the trust list in use.
        own: this agent's public key.
        learner: gives the learner that the agent learns with: its backbone, its kind of anchors, its own probes.
        gate: how much others' modules may take; None: the defaults.
    """

    def __init__(
        self,
        bank: Bank,
        trust: Callable[[], Trust],
        own: str,
        learner: Callable[[], Lightweight],
        gate: GateSettings | None = None,
    ) -> None:
        self._bank, self._trust, self._own, self._learner, self._gate = bank, trust, own, learner, gate
        self._memo = FeatureMemo(learner().backbone)
        self._known: dict[str, TaskKnowledge] = {}
        self._lock = threading.Lock()
        self._snapshot = Snapshot(None, None, ())

    @property
    def now(self) -> Snapshot:
        """What is answered from; never waits for :meth:`refresh`, but for the first one."""
        if self._snapshot.basis is None:
            self.refresh()
        return self._snapshot

    def refresh(self) -> None:
        """Decide anew which modules are active, if anything that matters has changed.

        Whoever asks meanwhile is answered from what was active before.

        Raises:
            StoreError: the bank's folder cannot be read.
            DataError: an own task's anchor is not what it should be.
        """
        with self._lock:
            settings = self._learner().settings()
            basis: Json = (
                self._bank.digest(),
                self._trust(),
                self._bank.held_back(),
                (settings["anchor"], settings["anchor_settings"]),
            )
            if self._snapshot.basis != basis:
                self._snapshot = self._compose(basis)

    def _compose(self, basis: object) -> Snapshot:
        """Everything from the bank, as one value."""
        entries = roster.order(self._bank.modules(), self._trust(), self._own)
        names = roster.shown_names(entries)
        declined = self._bank.held_back()
        reasons: dict[str, str] = {}
        knowledge: dict[str, TaskKnowledge] = {}
        for entry in entries:
            id_ = entry.stored.id
            if id_ in declined:
                reasons[id_] = declined[id_]
                continue
            method = entry.stored.manifest.method
            if method != lightweight.METHOD:  # signed over our backbone all the same
                reasons[id_] = f"of the method {method}, which this agent does not answer from"
                continue
            try:
                own = self._knowledge_of(id_)
            except StoreError as error:
                reasons[id_] = f"damaged: {error}"
                continue
            misfit = "" if id_ in self._known else lightweight.misfit(own, self._learner().backbone)
            if misfit:  # signed over the right fingerprint, and of another network
                reasons[id_] = misfit
            else:
                knowledge[id_] = own
        self._known = knowledge
        chosen = self._activate([entry for entry in entries if entry.stored.id in knowledge], names)
        reasons |= chosen.held
        active = [entry for entry in entries if entry.stored.id in set(chosen.active)]
        answering = Answering(
            self._memo,
            {names[entry.stored.id]: knowledge[entry.stored.id] for entry in active},
            {names[entry.stored.id]: entry.stored.manifest.classes for entry in active},
            self._learner().anchoring,
            chosen.mapper,
        )
        statuses = tuple(_status(entry, names, reasons) for entry in entries)
        return Snapshot(basis, answering if active else None, statuses)

    def _knowledge_of(self, id_: str) -> TaskKnowledge:
        """From memory, where the module was read before: modules never change."""
        return self._known[id_] if id_ in self._known else lightweight.knowledge(self._bank.module(id_))

    def _activate(self, entries: Sequence[roster.Entry], names: Mapping[str, str]) -> Activation:
        candidates = [
            Candidate(
                id=entry.stored.id,
                name=names[entry.stored.id],
                author=entry.stored.manifest.author,
                anchor=self._known[entry.stored.id].anchor,
                probes=self._probes(entry),
            )
            for entry in entries
        ]
        own = [one for one, entry in zip(candidates, entries, strict=True) if entry.is_own]
        others = [one for one, entry in zip(candidates, entries, strict=True) if not entry.is_own]
        return activate(own, others, self._learner().anchoring, self._memo.features, self._gate)

    def _probes(self, entry: roster.Entry) -> Tensor | None:
        return self._probes_of(entry.stored.manifest.task) if entry.is_own else None

    def confusion(self) -> tuple[tuple[str, ...], tuple[tuple[float, ...], ...]] | None:
        """Which task inputs are taken for, by the task that they are of.

        Own tasks are judged by the agent's local probes, others by the few samples that their anchors brought.

        Returns:
            Task names [N], at most 64, and N rows of N + 1 shares; the last is "unknown". Rows of tasks without
            samples hold NaN. None where nothing is active.
        """
        now = self.now
        if now.answering is None:
            return None
        mapper = now.answering.mapper
        tasks = mapper.tasks[:CONFUSION_TASKS]
        own = {status.name: status.task for status in now.statuses if status.is_own}
        brought = torch.where(mapper.samples.margins >= 0, mapper.samples.scores.argmax(1), -1)
        rows = []
        for index, name in enumerate(tasks):
            probes = self._probes_of(own[name]) if name in own else None
            if probes is not None and len(probes):
                mapped = mapper.map(probes).tasks
            else:
                mapped = brought[mapper.samples.owner == index]
            shares = torch.bincount(mapped + 1, minlength=len(mapper.tasks) + 1).double() / len(mapped)
            rows.append((*shares[1 : len(tasks) + 1].tolist(), float(shares[0])))
        return tasks, tuple(rows)

    def _probes_of(self, task: str) -> Tensor | None:
        learner = self._learner()
        return learner.probes(task).float() if task in learner.tasks else None


def _status(entry: roster.Entry, names: Mapping[str, str], reasons: Mapping[str, str]) -> ModuleStatus:
    stored, manifest_ = entry.stored, entry.stored.manifest
    return ModuleStatus(
        id=stored.id,
        task=manifest_.task,
        name=names[stored.id],
        classes=manifest_.classes,
        author=manifest_.author,
        author_name=entry.author_name,
        is_own=entry.is_own,
        arrived=stored.arrived,
        bytes=stored.bytes,
        metrics=manifest_.metrics,
        costs=manifest_.costs,
        has_biases=any(file.role == "biases" for file in manifest_.files),
        active=stored.id not in reasons,
        reason=reasons.get(stored.id, ""),
    )
