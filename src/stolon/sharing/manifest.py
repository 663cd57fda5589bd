"""The manifest: what a module says about itself, as JSON of a closed schema; what an author signs.

There is no clock in it and nothing random: packing the same knowledge twice gives the same bytes, and so
the same id. Every field is checked in form and range here; whether the numbers can be what the method
learns is the method's own question (:mod:`stolon.sharing.lightweight`).
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Never, final

from stolon.errors import TaskError
from stolon.sharing import blobs, strict_json
from stolon.sharing.codes import Code, Refused
from stolon.sharing.limits import MAX_BLOB, MAX_CLASSES, MAX_MANIFEST, MAX_NAME
from stolon.sharing.strict_json import Json

SCHEMA: Final = 1
"""The version of the schema; another is refused by name."""
MAX_FILES: Final = 4
MAX_FIGURES: Final = 32
MAX_REPLACES: Final = 16
MAX_COUNT: Final = 2**53
"""Largest whole number of samples or versions; JSON readers elsewhere have no others."""
DEPTH: Final = 8

_FIELDS: Final = {
    "author",
    "backbone",
    "classes",
    "costs",
    "counts",
    "data",
    "files",
    "method",
    "metrics",
    "recipe",
    "replaces",
    "schema",
    "seq",
    "settings",
    "task",
}
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_WORD: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_MARKS: Final = frozenset(" -_.'()+&,#")
_PLAIN: Final = re.compile(r"(?! )[A-Za-z0-9 \-_.'()+&,#]{1,64}(?<! )")


@final
@dataclass(frozen=True)
class File:
    """One blob of a module.

    Attributes:
        role: what it is, such as ``"head"``; no two of a module alike.
        sha256: of its bytes.
        bytes: how many; what its tensors need, to the byte.
        tensors: type and shape of each, by name.
    """

    role: str
    sha256: str
    bytes: int
    tensors: blobs.Layout


@final
@dataclass(frozen=True)
class Manifest:
    """What is signed.

    Attributes:
        method: how to read the files, such as ``"lightweight"``.
        author: public key of who signs.
        task: the task's name.
        classes: class names; label i means ``classes[i]``.
        backbone_name: what it was learned on, for people.
        backbone: fingerprint of it.
        files: the blobs, in the order of their roles.
        counts: training samples of each class; empty where the author does not tell.
        metrics: what the author measured, such as ``test_accuracy``.
        costs: what the author spent, such as ``seconds``.
        settings: the method's own: how the knowledge was stored and must be read.
        recipe: SHA-256 of everything that the result depends on; "" where it is not known.
        data: SHA-256 of the training data; "" where it is not known.
        seq: version of the task by this author, from 1.
        replaces: ids of modules of the same author that this one supersedes.
        schema: :data:`SCHEMA`.
    """

    method: str
    author: str
    task: str
    classes: tuple[str, ...]
    backbone_name: str
    backbone: str
    files: tuple[File, ...]
    counts: tuple[int, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Json] = field(default_factory=dict)
    recipe: str = ""
    data: str = ""
    seq: int = 1
    replaces: tuple[str, ...] = ()
    schema: int = SCHEMA

    @property
    def total_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.bytes for file in self.files)

    def to_payload(self) -> bytes:
        """The one way of writing it."""
        return strict_json.dumps(
            {
                "schema": self.schema,
                "method": self.method,
                "author": self.author,
                "task": self.task,
                "classes": list(self.classes),
                "backbone": {"name": self.backbone_name, "fingerprint": self.backbone},
                "files": [_written(file) for file in self.files],
                "counts": list(self.counts),
                "metrics": {key: float(value) for key, value in self.metrics.items()},
                "costs": {key: float(value) for key, value in self.costs.items()},
                "settings": dict(self.settings),
                "recipe": self.recipe,
                "data": self.data,
                "seq": self.seq,
                "replaces": list(self.replaces),
            }
        )


def parse(payload: bytes) -> Manifest | Refused:
    """Read what was signed; the signature must have been verified before."""
    if len(payload) > MAX_MANIFEST:
        return Refused(
            Code.TOO_LARGE, f"a manifest has at most {MAX_MANIFEST:,} bytes, this has {len(payload):,}"
        )
    try:
        document = strict_json.loads(payload, most=MAX_MANIFEST, depth=DEPTH, canonical=True)
        if isinstance(document, dict) and not strict_json.is_integer(document.get("schema"), SCHEMA):
            return Refused(
                Code.UNSUPPORTED,
                f"this stolon reads manifests of schema {SCHEMA}, found {document.get('schema')!r:.40}",
            )
        return _read(document)
    except ValueError as error:
        return Refused(Code.BAD_MANIFEST, f"not a manifest: {error}")


def check_name(kind: str, name: str) -> None:
    """Refuse a name that others could not show safely: names of tasks and classes go to every agent's page.

    Letters of any script, their marks, digits, spaces and ``-_.'()+&,#`` may be in a name; it has 1 to 64
    characters, begins and ends without a space, and is in Unicode's composed form (NFC).

    Raises:
        TaskError: the name is refused; says what to rename.

    Example:
        >>> check_name("class", "Färberdistel (wild)")
        >>> check_name("class", "<script>")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        stolon.errors.TaskError: the class name '<script>' cannot be shared: '<' is not allowed; rename it, ...
    """
    if isinstance(name, str) and _PLAIN.fullmatch(name):
        return  # most names; the rest is looked at one character after the other
    remedy = (
        f"rename it, using letters, digits, spaces and -_.'()+&,# alone, 1 to {MAX_NAME} characters, with "
        "no space at either end"
    )
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME:
        raise TaskError(
            f"the {kind} name {str(name)[:80]!r} cannot be shared: {len(str(name))} characters; {remedy}"
        )
    for character in name:
        if not _is_allowed(character):
            raise TaskError(
                f"the {kind} name {name!r} cannot be shared: {character!r} is not allowed; {remedy}"
            )
    if name != name.strip() or unicodedata.category(name[0]).startswith("M"):
        raise TaskError(f"the {kind} name {name!r} cannot be shared: it begins or ends badly; {remedy}")
    if not unicodedata.is_normalized("NFC", name):
        raise TaskError(
            f"the {kind} name {name!r} cannot be shared: accents are not composed (NFC); {remedy}, accents "
            "typed as one character"
        )


def _is_allowed(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LM" or category == "Nd" or character in _MARKS


def _written(file: File) -> dict[str, Json]:
    tensors = {name: [dtype, list(shape)] for name, (dtype, shape) in file.tensors.items()}
    return {"role": file.role, "sha256": file.sha256, "bytes": file.bytes, "tensors": tensors}


def _read(document: Json) -> Manifest:
    """Raises ValueError."""
    found = _object("manifest", document, _FIELDS)
    backbone = _object("backbone", found["backbone"], {"name", "fingerprint"})
    classes = _list("classes", found["classes"], 1, MAX_CLASSES)
    for name in classes:
        check_name("class", name)
    check_name("task", found["task"])
    if len(set(classes)) < len(classes):
        _refuse("a class comes twice")
    counts = [_whole("counts", count, 0) for count in _list("counts", found["counts"], 0, MAX_CLASSES)]
    if counts and len(counts) != len(classes):
        _refuse(f"counts: expected one for each of {len(classes)} classes, found {len(counts)}")
    files = tuple(_file(entry) for entry in _list("files", found["files"], 1, MAX_FILES))
    roles, digests = [file.role for file in files], {file.sha256 for file in files}
    if roles != sorted(set(roles)) or len(digests) < len(files):
        _refuse("files: expected them in the order of their roles, none twice")
    replaces = [_hex("replaces", one) for one in _list("replaces", found["replaces"], 0, MAX_REPLACES)]
    if replaces != sorted(set(replaces)):
        _refuse("replaces: expected sorted ids, none twice")
    if not isinstance(found["settings"], dict):
        _refuse("settings: expected an object")
    return Manifest(
        method=_word("method", found["method"]),
        author=_hex("author", found["author"]),
        task=found["task"],
        classes=tuple(classes),
        backbone_name=_label("backbone", backbone["name"]),
        backbone=_hex("backbone", backbone["fingerprint"]),
        files=files,
        counts=tuple(counts),
        metrics=_figures("metrics", found["metrics"]),
        costs=_figures("costs", found["costs"]),
        settings=found["settings"],
        recipe=_hex("recipe", found["recipe"], or_empty=True),
        data=_hex("data", found["data"], or_empty=True),
        seq=_whole("seq", found["seq"], 1),
        replaces=tuple(replaces),
    )


def _file(value: Json) -> File:
    found = _object("file", value, {"role", "sha256", "bytes", "tensors"})
    if not isinstance(found["tensors"], dict):
        _refuse("tensors: expected an object")
    tensors = {_word("tensor", name): _tensor(entry) for name, entry in found["tensors"].items()}
    needed, size = blobs.size(tensors), _whole("bytes", found["bytes"], 1)
    if size != needed:
        _refuse(f"bytes: these tensors take {needed:,} bytes, found {size:,}")
    return File(_word("role", found["role"]), _hex("sha256", found["sha256"]), size, tensors)


def _tensor(value: Json) -> tuple[str, tuple[int, ...]]:
    dtype, shape = _list("tensor", value, 2, 2)
    if not isinstance(dtype, str):
        _refuse("tensor: expected the name of a type")
    extents = _list("shape", shape, 0, blobs.MAX_DIMENSIONS)
    return dtype, tuple(_whole("shape", extent, 0, MAX_BLOB) for extent in extents)


def _figures(what: str, value: Json) -> dict[str, float]:
    if not isinstance(value, dict) or len(value) > MAX_FIGURES:
        _refuse(f"{what}: expected an object of at most {MAX_FIGURES} figures")
    for key, figure in value.items():
        _word(what, key)
        if not isinstance(figure, float):
            _refuse(f"{what}: expected numbers with a decimal point, found {figure!r:.40}")
    return dict(value)


def _object(what: str, value: Json, names: set[str]) -> dict[str, Json]:
    if not isinstance(value, dict) or set(value) != names:
        _refuse(f"{what}: expected an object of exactly {', '.join(sorted(names))}")
    return dict(value)


def _list(what: str, value: Json, least: int, most: int) -> list[Json]:
    if not isinstance(value, list) or not least <= len(value) <= most:
        _refuse(f"{what}: expected a list of {least} to {most}")
    return list(value)


def _hex(what: str, value: Json, *, or_empty: bool = False) -> str:
    if not isinstance(value, str) or not (_HEX.fullmatch(value) or (or_empty and not value)):
        _refuse(f"{what}: expected 64 lower-case hexadecimal characters")
    return str(value)


def _word(what: str, value: Json) -> str:
    if not isinstance(value, str) or _WORD.fullmatch(value) is None:
        _refuse(f"{what}: expected a short word in lower-case ASCII, found {value!r:.40}")
    return str(value)


def _label(what: str, value: Json) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 256 or not value.isprintable():
        _refuse(f"{what}: expected a name of 1 to 256 printable characters")
    return str(value)


def _whole(what: str, value: Json, least: int, most: int = MAX_COUNT) -> int:
    if type(value) is not int or not least <= value <= most:  # type(): True is an int to isinstance
        _refuse(f"{what}: expected a whole number from {least} to {most:,}, found {value!r:.40}")
    return int(value)


def _refuse(detail: str) -> Never:
    raise ValueError(detail)
