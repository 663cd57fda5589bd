r"""The module file: one task's knowledge, signed, in one file.

::

    b"stolon module 1\n"
    length of the envelope, 4 bytes, big-endian; the envelope
    length of a blob, 4 bytes, big-endian; the blob        (for each file, in the order of the manifest)

Nothing else: no padding, no further blob. Packing the same knowledge with the same key gives the same bytes.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

from stolon.errors import TaskError
from stolon.sharing import acceptance
from stolon.sharing import blobs as codec
from stolon.sharing import manifest as manifests
from stolon.sharing.codes import Code, Refused
from stolon.sharing.envelope import MODULE, payload_id, seal
from stolon.sharing.keys import Key
from stolon.sharing.limits import MAX_BLOB, MAX_ENVELOPE, MAX_MANIFEST
from stolon.sharing.manifest import File, Manifest
from stolon.sharing.task_module import TaskModule
from stolon.sharing.trust import Trust

__all__ = ["MAGIC", "TaskModule", "join", "pack", "split", "unpack"]

MAGIC: Final = b"stolon module 1\n"
MAX_FILE: Final = len(MAGIC) + 4 + MAX_ENVELOPE + manifests.MAX_FILES * (4 + MAX_BLOB)
"""Largest module file, in bytes."""


def pack(module: TaskModule, key: Key) -> bytes:
    """Sign a module and write it as one file: a pure function of what it knows and the key.

    Args:
        module: its ``author`` and ``id`` are not looked at.
        key: the author's.

    Raises:
        TaskError: a name cannot be shared; says what to rename.
        ModuleRefusedError: nobody would accept it, by this code: it is too large, or its numbers are impossible.
    """
    for name in module.classes:
        manifests.check_name("class", name)
    manifests.check_name("task", module.task)
    data = {role: _encoded(role, module) for role in sorted(module.tensors)}
    manifest = Manifest(
        method=module.method,
        author=key.public,
        task=module.task,
        classes=module.classes,
        backbone_name=module.backbone_name,
        backbone=module.backbone,
        files=tuple(
            File(role, hashlib.sha256(blob).hexdigest(), len(blob), codec.layout(module.tensors[role]))
            for role, blob in data.items()
        ),
        counts=module.counts,
        metrics=module.metrics,
        costs=module.costs,
        settings=module.settings,
        recipe=module.recipe,
        data=module.data,
        seq=module.seq,
        replaces=module.replaces,
    )
    payload = manifest.to_payload()
    if len(payload) > MAX_MANIFEST:
        raise Refused(
            Code.TOO_LARGE,
            f"a manifest has at most {MAX_MANIFEST:,} bytes, this would have {len(payload):,}; use fewer classes, or "
            "shorter names",
        ).to_error()
    envelope = seal(MODULE, payload, key)
    # What we sign is judged as others will judge it: nothing leaves that they would refuse.
    accepted = acceptance.accept(
        envelope, {file.sha256: data[file.role] for file in manifest.files}, Trust.fresh(key.public)
    )
    if isinstance(accepted, Refused):
        raise accepted.to_error()
    assert accepted.id == payload_id(payload)
    return join(envelope, data.values())


def unpack(data: bytes, trust: Trust, *, backbone: str | None = None) -> TaskModule:
    """Read and check a module file.

    Args:
        data: the file's bytes.
        trust: whom to listen to.
        backbone: fingerprint of the only backbone to take; None takes any.

    Raises:
        ModuleRefusedError: says why by a code.
    """
    accepted = read(data, trust, backbone=backbone)
    if isinstance(accepted, Refused):
        raise accepted.to_error()
    assert accepted.module is not None, "nothing is held, so nothing is revoked"
    return accepted.module


def read(
    data: bytes,
    trust: Trust,
    *,
    backbone: str | None = None,
    held: acceptance.Held = acceptance.NOTHING,
) -> acceptance.Accepted | Refused:
    """:func:`stolon.sharing.acceptance.accept` of a module file; the file must be its one form."""
    parts = split(data)
    if isinstance(parts, Refused):
        return parts
    envelope, blobs = parts
    accepted = acceptance.accept(envelope, blobs, trust, backbone=backbone, held=held)
    if isinstance(accepted, Refused):
        return accepted
    if accepted.manifest is None:
        return Refused(Code.WRONG_TYPE, "expected a module, found a revocation")
    if data != join(envelope, [blobs.get(file.sha256, b"") for file in accepted.manifest.files]):
        return Refused(
            Code.MALFORMED, "not a module file: its files come in another order than its manifest's"
        )
    return accepted


def split(data: bytes) -> tuple[bytes, dict[str, bytes]] | Refused:
    """The envelope, and the blobs by digest in the order of the file. Nothing of them is looked into."""
    if len(data) > MAX_FILE:
        return Refused(
            Code.TOO_LARGE, f"a module file has at most {MAX_FILE:,} bytes, this has {len(data):,}"
        )
    if not data.startswith(MAGIC):
        return Refused(Code.MALFORMED, "not a module file: it begins otherwise")
    envelope, place = _part(data, len(MAGIC), MAX_ENVELOPE)
    if envelope is None:
        return Refused(Code.MALFORMED, "not a module file: its envelope is cut off, or larger than any")
    blobs: dict[str, bytes] = {}
    while place < len(data):
        blob, place = _part(data, place, MAX_BLOB)
        if blob is None or len(blobs) == manifests.MAX_FILES:
            return Refused(
                Code.MALFORMED, "not a module file: a blob is cut off, or larger than any, or too many"
            )
        blobs[hashlib.sha256(blob).hexdigest()] = blob
    return envelope, blobs


def join(envelope: bytes, blobs: Iterable[bytes]) -> bytes:
    """The module file of an envelope and the blobs of its manifest, in its order."""
    parts = [MAGIC]
    for part in (envelope, *blobs):
        parts += [len(part).to_bytes(4, "big"), part]
    return b"".join(parts)


def _part(data: bytes, place: int, most: int) -> tuple[bytes | None, int]:
    """What begins at this place, and where it ends; None where it is cut off or too large."""
    start = place + 4
    size = int.from_bytes(data[place:start], "big")
    end = start + size
    if start > len(data) or end > len(data) or size > most:
        return None, end
    return data[start:end], end


def _encoded(role: str, module: TaskModule) -> bytes:
    try:
        codec.size(codec.layout(module.tensors[role]))
    except ValueError as error:
        raise TaskError(f"task {module.task!r} cannot be shared: {role}: {error}") from None
    return codec.encode(module.tensors[role])
