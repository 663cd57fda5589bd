"""The store: one folder with everything that a person's agent has learned.

::

    STORE/LOCK                 one writer at a time
    STORE/backbone/            the frozen backbone: name, fingerprint, weights
    STORE/knowledge/           the lightweight learner and what was measured of its tasks, one record

Both records are replaced atomically and durably (:mod:`stolon.records`), so a killed or unplugged process
leaves the store as it was after its last save. Copying the folder is the backup.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Self, final

import filelock

from stolon import durable, records
from stolon.errors import (
    BackboneMismatchError,
    SettingError,
    StoreDamagedError,
    StoreExistsError,
    StoreLockedError,
    StoreMissingError,
)
from stolon.learner import Epoch
from stolon.light.config import LightweightConfig
from stolon.light.lightweight import Lightweight
from stolon.nets.backbone import Backbone, pretrained
from stolon.records import Json, Record
from stolon.tasks import Task

_ELSEWHERE = ", or use another folder (STOLON_HOME)"

SAVE_SHARE = 0.05
"""At most this share of the time goes into saving: an interval is 20 times what the last save took ..."""
SAVE_WITHIN_S = 60.0
"""... but never longer than this."""


@final
class Store:
    """A lightweight learner that lives in a folder.

    Open it with :meth:`create` or :meth:`open`, and use it as a context manager: the lock is let go at the end.

    Attributes:
        folder: where it is.
        learner: what was learned.
        facts: what was measured of each task, as JSON values.
    """

    def __init__(self, folder: Path, learner: Lightweight, lock: filelock.BaseFileLock | None) -> None:
        self.folder = folder
        self.learner = learner
        self.facts: dict[str, Json] = {}
        self._lock = lock

    @classmethod
    def create(cls, folder: Path, backbone: Backbone, config: LightweightConfig | None = None) -> Self:
        """Make a store, open for writing.

        Raises:
            StoreExistsError: there is one already, made with this backbone.
            BackboneMismatchError: there is one already, made with another.
            StoreFullError: the disk refused.
        """
        lock = durable.lock(folder, _ELSEWHERE)
        try:
            _refuse_existing(folder, backbone)
            store = cls(folder, Lightweight(backbone, config or LightweightConfig()), lock)
            store.save()  # first, so that a store with a backbone is always a whole one
            document = {"name": backbone.name, "fingerprint": backbone.fingerprint}
            weights = {"weights": backbone.module.state_dict()}
            records.save(Record("backbone", document, weights), folder / "backbone")
        except BaseException:
            lock.release()
            raise
        return store

    @classmethod
    def open(
        cls, folder: Path, *, write: bool = False, backbone: Backbone | None = None, **changes: Json
    ) -> Self:
        """Open a store.

        Args:
            folder: where it is.
            write: take the lock; needed for learning and forgetting.
            backbone: what the store must have been made with; None rebuilds it from the store.
            changes: settings of :class:`~stolon.light.config.LightweightConfig` for what is learned from now on.

        Raises:
            StoreMissingError: there is none.
            StoreLockedError: another process is writing to it.
            StoreDamagedError: its bytes are not those that were written.
            StoreVersionError: it was written by a newer stolon.
            BackboneMismatchError: it was made with another backbone.
        """
        if not records.exists(folder / "backbone"):
            raise StoreMissingError(f"no store at {folder}; make one with `stolon init`, or set STOLON_HOME")
        lock = durable.lock(folder, _ELSEWHERE) if write else None
        try:
            backbone = _open_backbone(folder, backbone)
            saved = records.load(folder / "knowledge", "store")
            config = _config(saved.document["learner"], changes)
            learner = Lightweight(backbone, config).restore(
                replace(saved, kind="learner", document=saved.document["learner"])
            )
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        store = cls(folder, learner, lock)
        store.facts = dict(saved.document["facts"])
        return store

    def configure(self, **changes: Json) -> None:
        """Change settings of learning for what is learned from now on.

        Raises:
            SettingError: a setting is unknown or out of its range.
            RecipeChangedError: anchors would no longer go with those that are there.
        """
        self._require_writable()
        record = self.learner.record()
        config = _config(record.document, changes)
        self.learner = Lightweight(self.learner.backbone, config).restore(record)

    def learn(self, task: Task, *, seed: int = 0) -> Iterator[Epoch]:
        """Learn a task, saving on the way and at the end; asked again after a kill, it goes on.

        Raises:
            TaskError: the task is known, or another one is under way.
            RecipeChangedError: it is under way with other data, settings or platform.
            StoreFullError: the disk refused; what was saved before is intact.
        """
        self._require_writable()
        epochs = self.learner.learn(task, seed=seed)
        return self._saving(epochs)

    def save(self) -> None:
        """Write everything; after a power cut, either all of it or all that was there before is found.

        Raises:
            StoreFullError: the disk refused; what was saved before is intact.
            StoreLockedError: this store was opened for reading, or is closed.
        """
        if self._lock is None or not self._lock.is_locked:
            raise StoreLockedError(
                f"{self.folder} was opened for reading; open it with write=True to change it"
            )
        record = self.learner.record()
        document = {"learner": record.document, "facts": self.facts}
        records.save(replace(record, kind="store", document=document), self.folder / "knowledge")

    def forget(self, task: str) -> None:
        """Drop a task and save.

        Raises:
            TaskUnknownError: no such task.
        """
        self._require_writable()
        self.learner.forget(task)
        self.facts.pop(task, None)
        self.save()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()

    def _require_writable(self) -> None:
        if self._lock is None or not self._lock.is_locked:
            raise StoreLockedError(
                f"{self.folder} was opened for reading; open it with write=True to change it"
            )

    def _saving(self, epochs: Iterator[Epoch]) -> Iterator[Epoch]:
        saved, took = time.monotonic(), 0.0
        for epoch in epochs:
            if time.monotonic() - saved >= min(took / SAVE_SHARE, SAVE_WITHIN_S):
                begun = time.monotonic()
                self.save()
                saved = time.monotonic()
                took = saved - begun
            yield epoch
        self.save()


def _refuse_existing(folder: Path, backbone: Backbone) -> None:
    if not records.exists(folder / "backbone"):
        return
    old = records.document(folder / "backbone", "backbone")
    if old["fingerprint"] != backbone.fingerprint:
        raise BackboneMismatchError(
            f"{folder} was made with {old['name']} ({old['fingerprint'][:12]}), not with {backbone.name} "
            f"({backbone.fingerprint[:12]}); use another folder (STOLON_HOME)"
        )
    raise StoreExistsError(f"{folder} is a store already; use it, or another folder (STOLON_HOME)")


def _open_backbone(folder: Path, given: Backbone | None) -> Backbone:
    if given is None:
        saved = records.load(folder / "backbone", "backbone")
        given = pretrained(saved.document["name"], saved.groups["weights"])
        if given.fingerprint != saved.document["fingerprint"]:
            raise StoreDamagedError(
                f"{folder}: the backbone {given.name} no longer gives its fingerprint; was timm changed?"
            )
        return given
    fingerprint = records.document(folder / "backbone", "backbone")["fingerprint"]
    if given.fingerprint != fingerprint:
        raise BackboneMismatchError(
            f"{folder} was made with the backbone {fingerprint[:12]}, not with {given.fingerprint[:12]} "
            f"({given.name}); give the one it was made with"
        )
    return given


def _config(document: Mapping[str, Json], changes: Mapping[str, Json]) -> LightweightConfig:
    """The saved settings, with changes."""
    known = [field.name for field in fields(LightweightConfig)]
    for key in changes:
        if key not in known:
            raise SettingError(f"unknown setting {key!r} of a store; known are: {', '.join(known)}")
    saved = {key: value for key, value in document["settings"].items() if key != "net"}
    return LightweightConfig(**{**saved, **changes})
