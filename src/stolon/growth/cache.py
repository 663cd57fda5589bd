"""A folder of work that trials of a search share: trained networks, states of learners, decisions, outcomes.

Entries are named by digests of everything that they depend on, so that what is found is what would have been made. Each
is a safetensors file and a JSON file that names its SHA-256, written under temporary names and renamed: several
processes may read and write at once, and what a kill, a power cut or a bad disk left half done counts as not there.
That is also why nothing is forced onto the disk: what is lost is made again.
"""

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Final, final

import safetensors.torch
from torch import Tensor

from stolon import durable
from stolon.errors import StoreFullError
from stolon.growth.structure import canonical
from stolon.records import Json, Record
from stolon.settings import whole

MOST_BYTES: Final = 4 * 2**30
_ABANDONED_S: Final = 3600.0  # a temporary file of that age has lost its writer


@final
class GrowthCache:
    """The folder.

    Args:
        folder: made when something is kept.
        most_bytes: that tensors in it may take, >= 0; of more the least recently used are dropped, states before
            independent networks. With 0 none are kept. Decisions and outcomes, a few kB of JSON each, stay.

    Attributes:
        independents: trained independent networks, for :class:`~stolon.growth.bind_and_grow.BindAndGrow`.

    Raises:
        SettingError: ``most_bytes`` is no whole number, or negative.
    """

    def __init__(self, folder: str | Path, most_bytes: int = MOST_BYTES) -> None:
        whole("most_bytes", most_bytes, 0)
        self._folder, self._most = Path(folder), most_bytes
        self.independents = Independents(self)

    # States

    def state(self, key: str) -> Record | None:
        """A learner's state that was kept; None where it is not there any more."""
        found = self.tensors("states", key)
        if found is None:
            return None
        document, tensors = found
        groups = {
            group: {name: tensors[f"{i}:{name}"] for name in names}
            for i, (group, names) in enumerate(document["groups"])
        }
        return Record("learner", document["learner"], groups)

    def keep_state(self, key: str, record: Record) -> None:
        """Keep a learner's state.

        Raises:
            StoreFullError: the disk refused.
        """
        groups = list(record.groups.items())
        document = {
            "learner": dict(record.document),
            "groups": [[group, list(tensors)] for group, tensors in groups],
        }
        flat = {
            f"{i}:{name}": value for i, (_, tensors) in enumerate(groups) for name, value in tensors.items()
        }
        self.keep_tensors("states", key, document, flat)

    # Decisions and outcomes

    def note(self, key: str) -> Json:
        """A JSON value that was kept; None where it is not there."""
        try:
            return json.loads((self._folder / "notes" / f"{key}.json").read_bytes())
        except (OSError, ValueError):
            return None

    def keep_note(self, key: str, value: Json) -> None:
        """Keep a JSON value.

        Raises:
            StoreFullError: the disk refused.
        """
        data = json.dumps(value, allow_nan=False).encode()
        _write(self._folder / "notes" / f"{key}.json", data)

    # Tensors

    def tensors(self, kind: str, key: str) -> tuple[Json, dict[str, Tensor]] | None:
        """A document and tensors that were kept, of a kind; None where they are not there, or damaged."""
        path = self._folder / kind / f"{key}.json"
        try:
            entry = json.loads(path.read_bytes())
            data = path.with_suffix(".safetensors").read_bytes()
            if hashlib.sha256(data).hexdigest() != entry["sha256"]:
                return None
            os.utime(path)  # so that what is used stays
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return entry["document"], safetensors.torch.load(data)

    def keep_tensors(self, kind: str, key: str, document: Json, tensors: Mapping[str, Tensor]) -> None:
        """Keep a document and tensors, and drop what there is no room for any more.

        Raises:
            StoreFullError: the disk refused.
        """
        if sum(value.nbytes for value in tensors.values()) > self._most:
            return
        # Copies: layers may share memory, which safetensors refuses, or have strides that it does not keep.
        data = safetensors.torch.save({name: canonical(value) for name, value in tensors.items()})
        entry = {"sha256": hashlib.sha256(data).hexdigest(), "document": document}
        path = self._folder / kind / f"{key}.json"
        _write(path.with_suffix(".safetensors"), data)
        _write(path, json.dumps(entry, allow_nan=False).encode())
        self._trim()

    def drop_tensors(self, kind: str, key: str) -> None:
        """Drop what was kept, if it is there."""
        path = self._folder / kind / f"{key}.json"
        path.unlink(missing_ok=True)  # first: without it the other does not count
        path.with_suffix(".safetensors").unlink(missing_ok=True)

    def keys(self, kind: str) -> list[str]:
        """What is kept of a kind, in order of name."""
        return sorted(path.stem for path in (self._folder / kind).glob("*.json"))

    def bytes(self) -> int:
        """What the kept tensors take on disk."""
        return sum(size for _, _, _, size in self._entries())

    def _trim(self) -> None:
        entries = sorted(self._entries())
        total = sum(size for _, _, _, size in entries)
        for is_independent, _, path, size in entries:
            if total <= self._most:
                break
            self.drop_tensors("independents" if is_independent else "states", path.stem)
            total -= size
        self._sweep()

    def _entries(self) -> Iterator[tuple[bool, float, Path, int]]:
        """Of each: whether it is an independent network, when it was used last, where and how large it is."""
        for kind in ("states", "independents"):
            for path in (self._folder / kind).glob("*.safetensors"):
                with contextlib.suppress(OSError):  # another process has dropped it
                    document = path.with_suffix(".json")
                    used = (document if document.exists() else path).stat().st_mtime
                    yield kind == "independents", used, path, path.stat().st_size

    def _sweep(self) -> None:
        """Delete what killed writers left."""
        for path in self._folder.glob(f"*/{durable.TEMPORARY}*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()


def _write(path: Path, data: bytes) -> None:
    """Put bytes at a path, wholly or not at all."""
    temporary = path.parent / f"{durable.TEMPORARY}{uuid.uuid4().hex}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StoreFullError(
            f"cannot write {len(data):,} bytes to {path}: {error.strerror or error}; free space or check "
            "permissions, then try again"
        ) from error


@final
class Independents(MutableMapping[str, Mapping[str, Tensor]]):
    """Trained independent networks on disk, by :func:`stolon.growth.independent.key`.

    Args:
        cache: whose folder and bound they share. What there is no room for is not kept, without complaint.
    """

    def __init__(self, cache: GrowthCache) -> None:
        self._cache = cache

    def __getitem__(self, key: str) -> Mapping[str, Tensor]:
        found = self._cache.tensors("independents", key)
        if found is None:
            raise KeyError(key)
        return found[1]

    def __setitem__(self, key: str, value: Mapping[str, Tensor]) -> None:
        self._cache.keep_tensors("independents", key, None, value)

    def __delitem__(self, key: str) -> None:
        if key not in self._cache.keys("independents"):
            raise KeyError(key)
        self._cache.drop_tensors("independents", key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._cache.keys("independents"))

    def __len__(self) -> int:
        return len(self._cache.keys("independents"))
