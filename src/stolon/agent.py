"""An agent: a store that signs what it learned, takes in what others signed, and answers for all of it.

::

    STORE/key, STORE/bank/     who it is, signed modules, and whom it trusts (:mod:`stolon.sharing.identity`)
    STORE/gate/                how much others' modules may take from what is known, if not the default
    STORE/...                  what it learns with (:mod:`stolon.store`)

Without a link an agent is offline, and a store is just that: what it learned is packed, signed and put in its bank
all the same, and answers come from the bank. With a link it tells its peers, and takes in what they have.

Everything is answered from packed modules, its own tasks included, so that agents with the same modules give the same
answers, bit for bit.
"""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Self, final

from torch import Tensor

from stolon.errors import StoreLockedError, TaskError, TaskUnknownError
from stolon.evaluation import evaluate
from stolon.learner import Epoch
from stolon.light.answering import Answering
from stolon.light.config import LightweightConfig
from stolon.nets.backbone import Backbone
from stolon.outcomes import Prediction
from stolon.records import Json
from stolon.sharing import identity, lightweight, manifest, module, revocation
from stolon.sharing.activation import GateSettings
from stolon.sharing.exchange.ports import ExchangeSettings, Link, PeerState, Traffic
from stolon.sharing.limits import MAX_VERSIONS
from stolon.sharing.opinion import read_gate, write_gate
from stolon.sharing.precision import Precision
from stolon.sharing.presence import Presence
from stolon.sharing.repertoire import ModuleStatus, Repertoire
from stolon.sharing.trust import Trust
from stolon.store import Store
from stolon.tasks import Task

DECLINED: Final = "declined by you"
"""Why a module is not answered from when its owner said so."""

_log = logging.getLogger(__name__)


@final
class Agent:
    """A store that shares; a context manager.

    Args:
        folder: the store, made by :meth:`create` or ``stolon init``.
        backbone: what the store was made with; None rebuilds it from the store.
        link: to other agents; None: offline. It is opened by :meth:`start`.
        write: take the lock. Reading alone is possible while another process writes.
        exchange: how often to ask others, and the like.
        gate: how much others' modules may take from what it knows; None: as the store says.
        on_lost: called once if the network is lost for good: opening it anew did not help.
        changes: settings of :class:`~stolon.light.config.LightweightConfig` for what is learned from now on.

    Raises:
        StoreError: as :meth:`stolon.store.Store.open`.
        KeyFileError: the key file is damaged.
    """

    def __init__(
        self,
        folder: str | Path,
        backbone: Backbone | None = None,
        link: Link | None = None,
        *,
        write: bool = True,
        exchange: ExchangeSettings | None = None,
        gate: GateSettings | None = None,
        on_lost: Callable[[], None] | None = None,
        **changes: Json,
    ) -> None:
        self.folder = Path(folder)
        self.store = Store.open(self.folder, write=write, backbone=backbone, **changes)
        try:
            self.gate = gate or read_gate(self.folder)
            self.key, self.bank = identity.opened(self.folder, write=write)
        except BaseException:
            self.store.__exit__()
            raise
        self._link = link
        self._exchange_settings = exchange or ExchangeSettings()
        self._presence: Presence | None = None
        self._on_lost = on_lost
        self.is_lost = False
        """Whether the network was lost for good: opening it anew did not help."""
        self.clock: Callable[[], float] = time.monotonic
        """What :meth:`peers` tells times of; never goes back."""
        self._repertoire = Repertoire(
            self.bank, lambda: self.trust, self.key.public, lambda: self.store.learner, self.gate
        )
        if write:
            self._pack_what_is_not()

    def _pack_what_is_not(self) -> None:
        for task in self.unpacked:
            try:
                self._publish(task)
            except TaskError as error:  # learned when names could still be anything
                _log.warning("a task cannot be used", extra={"task": task, "reason": str(error)})

    @classmethod
    def create(
        cls,
        folder: str | Path,
        backbone: Backbone,
        config: LightweightConfig | None = None,
        gate: GateSettings | None = None,
    ) -> Self:
        """Make a store with a key of its own, and open it.

        Args:
            folder: where.
            backbone: what all that it will ever know is made for.
            config: how tasks are learned; None: the defaults.
            gate: how much others' modules may take from what it knows; None: the defaults.

        Raises:
            StoreError: as :meth:`stolon.store.Store.create`.
            BackboneMismatchError: there is a store already, made with another backbone.
        """
        with Store.create(Path(folder), backbone, config):
            if gate is not None:
                write_gate(Path(folder), gate)
        return cls(folder, backbone)

    # What it knows

    @property
    def trust(self) -> Trust:
        """Whom it listens to; a store that was never opened for writing trusts only itself."""
        return identity.trust_of(self.bank, self.key)

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it answers for, by the names that answers use, sorted."""
        return self._repertoire.now.tasks

    @property
    def unpacked(self) -> tuple[str, ...]:
        """Tasks learned here that no module in the bank is of: learned before there were agents, or a moment ago.

        Opening the store for writing packs them.
        """
        packed = {one.manifest.task for one in self.bank.modules() if one.manifest.author == self.key.public}
        return tuple(task for task in self.store.learner.tasks if task not in packed)

    def modules(self) -> tuple[ModuleStatus, ...]:
        """Every task that it holds a current module of, active or not: own ones first."""
        return self._repertoire.now.statuses

    def predict(self, x: Tensor, task: str | None = None) -> Prediction:
        """Answer a batch of inputs [B, ...] from all active modules.

        Args:
            x: inputs, as those that were learned.
            task: one of :attr:`tasks`; None infers it for each input.

        Raises:
            TaskUnknownError: no such task, or nothing is known at all.
            DataError: these are no such inputs.
        """
        return self.answering(task).predict(x, task)

    def answering(self, task: str | None = None) -> Answering:
        """What it answers from now: a value that later changes leave alone.

        Raises:
            TaskUnknownError: nothing is known at all; names the task that was asked for.
        """
        found = self._repertoire.now.answering
        if found is None:
            which = "" if task is None else f"unknown task {task!r}: "
            raise TaskUnknownError(f"{which}no task was learned or received yet; learn one first")
        return found

    # Learning and forgetting

    def learn(self, task: Task, *, seed: int = 0) -> Iterator[Epoch]:
        """Learn a task; then judge, pack and sign it, and tell the peers.

        Asked again after a kill, it goes on; the laws of :meth:`stolon.learner.Learner.learn` hold.

        Raises:
            TaskError: the task is known or another is under way, or a name cannot be shared.
            RecipeChangedError: it is under way with other data, settings or platform.
            StoreFullError: the disk refused; what was saved before is intact.
        """
        manifest.check_name("task", task.name)
        for name in task.classes:
            manifest.check_name("class", name)
        return self._learning(task, self.store.learn(task, seed=seed))

    def _learning(self, task: Task, epochs: Iterator[Epoch]) -> Iterator[Epoch]:
        begun = time.monotonic()
        yield from epochs
        self.finish(task, round(time.monotonic() - begun, 1))

    def finish(self, task: Task, seconds: float | None = None) -> None:
        """Judge a task that was learned, pack and sign it: what a kill right after learning left out.

        Doing it twice is doing it once.
        """
        if task.name not in self.store.facts:
            judged = evaluate(self.store.learner, task)
            self.store.facts[task.name] = {
                "images": len(task.train) + len(task.val),
                "test_images": len(task.test),
                "test_accuracy": None if judged is None else judged.accuracy,
                "seconds": seconds,
            }
            self.store.save()
        self._publish(task.name)

    def _publish(self, task: str) -> None:
        """Pack and sign what was learned of a task, unless that very result is in the bank."""
        earlier = self.bank.versions(self.key.public, task)
        made = lightweight.module_of(
            self.store.learner,
            task,
            facts=self.store.facts.get(task, {}),
            seq=1 + max((old.manifest.seq for old in earlier), default=0),
            replaces=tuple(sorted(old.id for old in earlier))[-MAX_VERSIONS:],
        )
        current = [one.manifest for one in self.bank.modules() if one.id in {old.id for old in earlier}]
        if any(old.recipe == made.recipe and old.metrics == made.metrics for old in current):
            return
        self.bank.add(module.pack(made, self.key))
        self._changed()

    def forget(self, name: str) -> None:
        """Drop a task: an own one everywhere, by a signed revocation; another agent's here alone.

        Args:
            name: as answers name it, or the task whose learning is unfinished.

        Raises:
            TaskUnknownError: no such task.
        """
        found = [status for status in self.modules() if name in (status.name, status.task)]
        found = [status for status in found if status.is_own] or found[:1]
        if name in self.store.learner.tasks or name == self.store.learner.unfinished:
            self.store.forget(name)
        elif not found:
            known = ", ".join(status.name for status in self.modules()) or "none yet"
            raise TaskUnknownError(f"unknown task {name!r}; known: {known}")
        for status in found:
            if status.is_own:
                self.bank.revoke(revocation.revoke(self.key, status.id))
            else:
                self.bank.hold(status.id, DECLINED)
        self._changed()

    # Modules in and out

    def receive(self, data: bytes) -> str:
        """Take in a module file, as if a peer had sent it.

        Returns:
            The module's id; it may be held back all the same, see :meth:`modules`.

        Raises:
            ModuleRefusedError: says why by a code; nothing was changed.
            StoreFullError: the disk refused.
        """
        backbone = self.store.learner.backbone.fingerprint
        id_ = self.bank.add(data, backbone)
        self.bank.release(id_)  # who takes it in by hand no longer declines it
        self._changed()
        return id_

    def export(self, name: str, precision: Precision | None = None) -> bytes:
        """A task's module as one file.

        Args:
            name: as answers name it.
            precision: None: the module as it is in the bank. Otherwise an own task is packed anew.

        Raises:
            TaskUnknownError: no such task, or it is another agent's and cannot be packed anew.
            StoreDamagedError: the module's bytes are not those that were written.
        """
        for status in self.modules():
            if name != status.name:
                continue
            if precision is None:
                return self.bank.file(status.id)
            if not status.is_own or status.task not in self.store.learner.tasks:
                raise TaskUnknownError(
                    f"{name!r} was not learned in this store; its module is passed on as it is, without --precision"
                )
            stored = next(one for one in self.bank.modules() if one.id == status.id)
            made = lightweight.module_of(
                self.store.learner,
                status.task,
                facts=self.store.facts.get(status.task, {}),
                precision=precision,
                seq=stored.manifest.seq,
                replaces=stored.manifest.replaces,
            )
            return module.pack(made, self.key)
        known = ", ".join(status.name for status in self.modules()) or "none yet"
        raise TaskUnknownError(f"unknown task {name!r}; known: {known}")

    def set_trust(self, trust: Trust) -> None:
        """Replace the trust list by a newer one; modules of authors who left it are out of use at once.

        Raises:
            ModuleRefusedError: this agent's key is no root of the list, or the list is not newer.
            StoreFullError: the disk refused.
        """
        identity.set_trust(self.bank, self.key, trust)
        self.look_anew()

    def look_anew(self) -> None:
        """Take note that the bank or its trust list was changed by somebody else in this process."""
        self._changed(trust=True)

    # Peers

    def start(self) -> None:
        """Open the link; pack what was learned offline; from now on share and receive.

        Raises:
            LinkError: the link cannot be opened.
            StoreLockedError: the store was opened for reading.
        """
        if not self.bank.is_writable:
            raise StoreLockedError(f"{self.folder} was opened for reading; open it with write=True to share")
        if self._link is None or self._presence is not None:
            return
        presence = Presence(
            self.key.public,
            self.bank,
            self.store.learner.backbone.fingerprint,
            self._link,
            settings=self._exchange_settings,
            clock=self.clock,
            refresh=self.refresh,
            on_lost=self._lost,
        )
        presence.start()
        self._presence = presence

    def peers(self) -> tuple[PeerState, ...]:
        """Who was heard, and when; nobody while offline."""
        return () if self._presence is None else self._presence.peers()

    def traffic(self) -> tuple[Traffic, Traffic]:
        """Bytes sent and received since the start."""
        return (Traffic(), Traffic()) if self._presence is None else self._presence.traffic()

    def offers(self) -> tuple[tuple[str, str], ...]:
        """What agents offer whom this one does not trust: pairs of public key and task."""
        listed = {author.key for author in self.trust.authors}
        offered = () if self._presence is None else self._presence.offers()
        return tuple(pair for pair in offered if pair[0] not in listed)

    def _lost(self) -> None:
        self.is_lost = True
        if self._on_lost is not None:
            self._on_lost()

    def close(self) -> None:
        """Leave the network and let go of the store; may be called again."""
        if self._presence is not None:
            self._presence.stop()
            self._presence = None
        self.bank.close()
        self.store.__exit__()

    def refresh(self) -> None:
        """Decide anew which modules are active, if anything that matters has changed."""
        self._repertoire.refresh()

    def confusion(self) -> tuple[tuple[str, ...], tuple[tuple[float, ...], ...]] | None:
        """See :meth:`stolon.sharing.repertoire.Repertoire.confusion`."""
        return self._repertoire.confusion()

    def _changed(self, *, trust: bool = False) -> None:
        if self._presence is not None:
            self._presence.changed(trust=trust)
        self.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
