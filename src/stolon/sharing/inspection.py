"""What a module file says of itself, and whether it is true: for people, before they take it in."""

from collections.abc import Iterator
from typing import Any

from stolon.sharing import acceptance, envelope, manifest, module
from stolon.sharing.codes import Code, Refused
from stolon.sharing.keys import fingerprint
from stolon.sharing.trust import Author, Trust


def inspect(data: bytes, trust: Trust | None = None) -> dict[str, Any]:
    """Open a module file without taking it in.

    The file is checked as if its author were trusted, on the backbone that it names; ``"listed"`` then says
    whether a given trust list has the author.

    Args:
        data: the file's bytes.
        trust: a store's list, if one was named.

    Raises:
        ModuleRefusedError: nobody would take it; says why by a code.
    """
    parts = module.split(data)
    if isinstance(parts, Refused):
        raise parts.to_error()
    sealed, blobs = parts
    opened = envelope.open_envelope(sealed)
    if isinstance(opened, Refused):
        raise opened.to_error()
    author = opened.signers[0]
    said = manifest.parse(opened.payload) if envelope.verify(opened, author) else None
    backbone = said.backbone if isinstance(said, manifest.Manifest) else None
    accepted = acceptance.accept(sealed, blobs, Trust.fresh(author), backbone=backbone)
    if isinstance(accepted, Refused):
        raise accepted.to_error()
    found = accepted.manifest
    if found is None:
        raise Refused(Code.WRONG_TYPE, "expected a module, found a revocation").to_error()
    return {
        "id": accepted.id,
        "task": found.task,
        "classes": list(found.classes),
        "author": author,
        "fingerprint": fingerprint(author),
        "listed": None if trust is None else _listed(trust.author(author)),
        "method": found.method,
        "backbone": {"name": found.backbone_name, "fingerprint": found.backbone},
        "version": found.seq,
        "replaces": list(found.replaces),
        "bytes": len(data),
        "files": [
            {
                "role": file.role,
                "bytes": file.bytes,
                "sha256": file.sha256,
                "tensors": {name: [kind, list(shape)] for name, (kind, shape) in file.tensors.items()},
            }
            for file in found.files
        ],
        "counts": list(found.counts),
        "metrics": dict(found.metrics),
        "costs": dict(found.costs),
        "settings": dict(found.settings),
        "recipe": found.recipe,
        "data": found.data,
    }


def lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What :func:`inspect` found, as pairs of words for a table."""
    yield "task", f"{found['task']}, version {found['version']}"
    yield f"{len(found['classes'])} classes", ", ".join(found["classes"])
    listed = {None: "", True: ", on the trust list", False: ", not on the trust list"}[found["listed"]]
    yield "author", f"{found['fingerprint']}{listed}\n{found['author']}"
    yield "signature", "fits; every file is the one that was signed"
    yield "backbone", f"{found['backbone']['name']} ({found['backbone']['fingerprint'][:12]})"
    for key in ("metrics", "costs", "settings"):
        if found[key]:
            yield key, ", ".join(f"{name} {_number(value)}" for name, value in found[key].items())
    for file in found["files"]:
        tensors = ", ".join(f"{name} {kind} {shape}" for name, (kind, shape) in file["tensors"].items())
        yield f"file {file['role']}", f"{file['bytes']:,} bytes: {tensors}"
    yield "size", f"{found['bytes']:,} bytes in all"
    yield "id", found["id"]


def _listed(author: Author | None) -> bool:
    return author is not None


def _number(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return f"{value:g}" if isinstance(value, float) else str(value)
