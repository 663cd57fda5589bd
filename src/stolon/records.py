"""A record: a JSON document and named groups of tensors in one folder, replaced as one.

Each group is an immutable safetensors file named by the SHA-256 of its bytes; ``record.json`` names the
groups and is renamed into place last, so that a reader, or a process that starts after a kill, finds the
old record or the new one. A group whose bytes did not change is not written again. Never pickle::

    FOLDER/record.json
    FOLDER/tensors/<sha256>.safetensors
"""

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from stolon import durable
from stolon.errors import StoreDamagedError, StoreError, StoreMissingError, StoreVersionError

FORMAT: Final = 1
"""The version of the layout; a higher one on disk is refused by name."""

RECORD: Final = "record.json"
_BLOB: Final = re.compile(r"[0-9a-f]{64}\.safetensors")

Json = Any  # what json.loads returns: the one place where a type is really unknown


@dataclass(frozen=True)
class Record:
    """What one folder holds.

    Attributes:
        kind: what the record is of, such as ``"learner"``; a reader refuses another kind.
        document: JSON values; floats must be finite.
        groups: tensors by group and name.
    """

    kind: str
    document: Mapping[str, Json]
    groups: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)


def save(record: Record, folder: Path) -> None:
    """Write the record, atomically and durably; then remove what it no longer names.

    Other files in the folder stay as they are.

    Raises:
        StoreFullError: the disk refused; the earlier record is intact.
        StoreError: the folder holds a record of another kind, or a file of that name that is none; it is as it was.
    """
    _check_place(folder, record.kind)
    groups: dict[str, dict[str, Json]] = {}
    for name, tensors in record.groups.items():
        data = safetensors.torch.save(_apart(tensors))
        sha = hashlib.sha256(data).hexdigest()
        path = _blob(folder, sha)
        if not _is_written(path, data):
            durable.write(path, data)
        groups[name] = {"sha256": sha, "bytes": len(data)}
    body = {"format": FORMAT, "kind": record.kind, "document": dict(record.document), "groups": groups}
    durable.write(folder / RECORD, _with_checksum(body))
    _sweep(folder, {entry["sha256"] for entry in groups.values()})


def load(folder: Path, kind: str) -> Record:
    """Read and verify a record.

    Raises:
        StoreMissingError: there is no record in the folder.
        StoreVersionError: it was written by a newer stolon.
        StoreDamagedError: it is of another kind, or its bytes are not those that were written.
    """
    while True:
        body = _read_body(folder, kind)
        try:
            groups = {name: _read_group(folder, name, entry) for name, entry in body["groups"].items()}
        except StoreDamagedError:
            if _read_body(folder, kind) != body:
                continue  # a writer replaced the record between our two looks: read the new one
            raise
        return Record(kind, body["document"], groups)


def document(folder: Path, kind: str) -> Mapping[str, Json]:
    """Read a record's document alone, without its tensors.

    Raises:
        StoreError: as :func:`load`.
    """
    found: Mapping[str, Json] = _read_body(folder, kind)["document"]
    return found


def exists(folder: Path) -> bool:
    """Whether the folder holds a record; says nothing of its health."""
    return (folder / RECORD).is_file()


def _read_body(folder: Path, kind: str) -> dict[str, Json]:
    path = folder / RECORD
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise StoreMissingError(f"expected {path}, found none; is this the right folder?") from None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise StoreDamagedError(f"{path} is damaged: not JSON; restore the folder from a copy") from None
    if not isinstance(body, dict) or not isinstance(body.get("format"), int):
        raise StoreDamagedError(f"{path} is damaged: not a record of stolon; restore it from a copy")
    if body["format"] > FORMAT:
        raise StoreVersionError(
            f"{path} has format {body['format']}, this stolon reads up to {FORMAT}; install a newer stolon"
        )
    if body.pop("sha256", None) != _checksum(body):
        raise StoreDamagedError(f"{path} is damaged: its checksum does not fit; restore it from a copy")
    if body["kind"] != kind:
        raise StoreDamagedError(f"{folder}: expected a record of a {kind}, found of a {body['kind']}")
    return body


def _read_group(folder: Path, name: str, entry: Mapping[str, Json]) -> dict[str, Tensor]:
    path = _blob(folder, entry["sha256"])
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreDamagedError(
            f"{path} ({name}) cannot be read: {error.strerror}; restore it from a copy"
        ) from error
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise StoreDamagedError(f"{path} ({name}) is damaged: not the bytes written; restore it from a copy")
    try:
        return safetensors.torch.load(data)
    except SafetensorError as error:  # unreachable for files that we wrote; kept typed all the same
        raise StoreDamagedError(f"{path} ({name}) is damaged: {error}") from error


def _check_place(folder: Path, kind: str) -> None:
    """Refuse to write over what is something else. What is no JSON at all was a record perhaps, and is damaged."""
    try:
        found = json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError, RecursionError):
        return
    theirs = found.get("kind") if isinstance(found, dict) and isinstance(found.get("format"), int) else None
    if theirs != kind:
        what = "a file that is none of stolon's" if theirs is None else f"a record of a {theirs}"
        raise StoreError(
            f"{folder / RECORD}: expected a record of a {kind} or none, found {what}; choose another folder"
        )


def _blob(folder: Path, sha: str) -> Path:
    return folder / "tensors" / f"{sha}.safetensors"


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors that share no memory, as safetensors wants them: layers may share their weights."""
    seen: set[int] = set()
    found = {}
    for key, value in tensors.items():
        place = value.untyped_storage().data_ptr()
        found[key] = value.clone() if place in seen else value.contiguous()
        seen.add(place)
    return found


def _is_written(path: Path, data: bytes) -> bool:
    """Whether these very bytes lie there; a damaged file is written anew while the good bytes are at hand."""
    try:
        return path.read_bytes() == data
    except OSError:
        return False


def _with_checksum(body: dict[str, Json]) -> bytes:
    return json.dumps({**body, "sha256": _checksum(body)}, indent=1, allow_nan=False).encode()


def _checksum(body: Mapping[str, Json]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _sweep(folder: Path, wanted: set[str]) -> None:
    """Delete tensors that the record no longer names, and what a killed writer left.

    The record is safe by now: what cannot be deleted is litter until the next time, no failure.
    """
    with contextlib.suppress(OSError):
        for path in (folder / "tensors").glob("*"):
            is_ours = _BLOB.fullmatch(path.name) or path.name.startswith(durable.TEMPORARY)
            if is_ours and path.stem not in wanted:
                path.unlink(missing_ok=True)
        for path in folder.glob(f"{durable.TEMPORARY}*"):
            path.unlink(missing_ok=True)


def finite(value: float) -> float | None:
    """The value, or None where JSON has no word for it."""
    return value if math.isfinite(value) else None
