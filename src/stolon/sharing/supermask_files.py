"""The files of a module of a mask or of coefficients: what its settings tell of them, their shapes, their reading.

The network's shapes are in the module's settings, so that every tensor's shape is known, or bounded, before it is
read, and reading takes no more memory than the limits here allow, whatever the bytes say.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

import torch
from torch import Tensor

from stolon.errors import DataError, TaskError
from stolon.masks.adoption import values_of
from stolon.masks.frozen import Identity
from stolon.masks.impressions import Impressions
from stolon.masks.memory import Kept, StoredMask
from stolon.masks.popup import VALUES
from stolon.masks.storage import pack, restore, smallest
from stolon.masks.supsup import SupSup
from stolon.sharing import blobs
from stolon.sharing.strict_json import Json, JsonError, fields, text, whole

SUPSUP: Final = SupSup.name
IMPRESSIONS: Final = Impressions.name

PART: Final = 2**20
"""Weights whose mask is one tensor. Reading one takes some 30 bytes for each at most, whatever its bytes say."""
MAX_WEIGHTS: Final = 2**25
"""Weights of a network; ResNet-50 has 2^24.6."""
MAX_LAYERS: Final = 256
MAX_INPUT: Final = 2**19
"""Numbers in one input, such as 3 x 418 x 418."""
MAX_OUTPUTS: Final = 2**14
MAX_MASKS: Final = 4096
"""Masks in a basis."""
MAX_STATISTICS: Final = 2**20
"""Numbers in all statistics of a network ..."""
MAX_NAMED: Final = 1024
"""... and names of such."""

_HEX: Final = re.compile("[0-9a-f]{64}")
_VALUES: Final = re.compile("|".join(VALUES))
_VALUES_OR_NONE: Final = re.compile("|".join(("", *VALUES)))
_NAME: Final = re.compile(r"[A-Za-z0-9_.]{1,128}")
_KIND: Final = re.compile("F32|I64")
_KINDS: Final = {torch.float32: "F32", torch.int64: "I64"}
_ROLES: Final = {"F32": "floats", "I64": "integers"}

Statistic = tuple[str, str, tuple[int, ...]]
"""Name, type and shape of one of normalisation's."""


# Settings


@final
@dataclass(frozen=True)
class Told:
    """What a module's settings tell of its files.

    Attributes:
        input: the shape of one input.
        layers: of each layer's weights.
        outputs: of the last layer.
        statistics: normalisation's, sorted by name.
        values: of the mask, or of the last layer's own; "" where there is none.
        place: of the mask, in a basis; -1: in none.
        basis: fingerprint; "" of a mask.
        masks: in the basis; 0 of a mask.
    """

    input: tuple[int, ...]
    layers: tuple[tuple[int, ...], ...]
    outputs: int
    statistics: tuple[Statistic, ...]
    values: str
    place: int = -1
    basis: str = ""
    masks: int = 0

    @cached_property
    def weights(self) -> int:
        """How many there are in all layers."""
        return sum(map(math.prod, self.layers))

    @cached_property
    def lengths(self) -> dict[str, int]:
        """How many numbers of each type there are in statistics."""
        found: dict[str, int] = {}
        for _, kind, shape in self.statistics:
            found[kind] = found.get(kind, 0) + math.prod(shape)
        return found

    def network(self, fingerprint: str) -> Identity:
        """Which network the module is of."""
        return Identity(fingerprint, self.input, self.outputs, self.layers)

    def settings(self) -> dict[str, Json]:
        """The inverse of :func:`told`."""
        own = {"basis": self.basis, "masks": self.masks} if self.masks else {"place": self.place}
        return {
            "network": {
                "input": list(self.input),
                "layers": [list(shape) for shape in self.layers],
                "outputs": self.outputs,
            },
            "statistics": [[name, kind, list(shape)] for name, kind, shape in self.statistics],
            "values": self.values,
            **own,
        }


def told(method: str, settings: Json) -> Told:
    """Read the settings of a module of this method.

    Raises:
        JsonError: they are none, or of another method.
    """
    if method not in (SUPSUP, IMPRESSIONS):
        raise JsonError(f"expected the method {SUPSUP} or {IMPRESSIONS}, found {method!r}")
    is_mask = method == SUPSUP
    found = fields(
        settings, "network", "statistics", "values", *(["place"] if is_mask else ["basis", "masks"])
    )
    network = fields(found["network"], "input", "layers", "outputs")
    statistics = tuple(_statistic(entry) for entry in _list(found["statistics"], 0, MAX_NAMED))
    names = [name for name, _, _ in statistics]
    if names != sorted(set(names)):
        raise JsonError("expected statistics sorted by name, none twice")
    return Told(
        input=_shape(network["input"], 1, 4),
        layers=tuple(_shape(entry, 2, 5) for entry in _list(network["layers"], 2, MAX_LAYERS)),
        outputs=whole(network["outputs"], 1, MAX_OUTPUTS),
        statistics=statistics,
        values=text(found["values"], _VALUES if is_mask else _VALUES_OR_NONE),
        place=whole(found["place"], -1, MAX_MASKS - 1) if is_mask else -1,
        basis="" if is_mask else text(found["basis"], _HEX),
        masks=0 if is_mask else whole(found["masks"], 1, MAX_MASKS),
    )


def named(task: str, statistics: Mapping[str, Tensor]) -> tuple[Statistic, ...]:
    """Names, types and shapes of a task's statistics, sorted by name.

    Raises:
        TaskError: a name or type that modules do not have.
    """
    for name, value in statistics.items():
        if value.dtype not in _KINDS or not _NAME.fullmatch(name):
            raise TaskError(
                f"task {task!r} cannot be shared: expected statistics under plain names in float32 or int64, found "
                f"{name!r} in {value.dtype}"
            )
    return tuple((name, _KINDS[each.dtype], tuple(each.shape)) for name, each in sorted(statistics.items()))


def _statistic(value: Json) -> Statistic:
    name, kind, shape = _list(value, 3, 3)
    return text(name, _NAME), text(kind, _KIND), _shape(shape, 0, 4)


def _shape(value: Json, least: int, most: int) -> tuple[int, ...]:
    return tuple(whole(extent, 1, MAX_WEIGHTS) for extent in _list(value, least, most))


def _list(value: Json, least: int, most: int) -> list[Json]:
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise JsonError(f"expected a list of {least} to {most}, found {str(value)[:80]!r}")
    return value


# Shapes


def check_layouts(about: Told, files: Mapping[str, blobs.Layout]) -> None:
    """Compare names, types and shapes of all tensors with what the settings tell.

    Raises:
        DataError: something is missing, left over, or of another type or shape.
    """
    expected = {"coefficients"} if about.masks else {"mask"}
    expected |= {"last"} if about.masks and about.values else set()
    expected |= {"statistics"} if about.statistics else set()
    if set(files) != expected:
        raise DataError(f"expected the files {', '.join(sorted(expected))}, found {', '.join(sorted(files))}")
    if not about.masks:
        _check_mask(files["mask"], about.layers, about.values)
    else:
        _expect(files["coefficients"], {"alpha": ("F16", (len(about.layers), about.masks))})
        if about.values:
            _check_mask(files["last"], about.layers[-1:], about.values)
    if about.statistics:
        lengths = {_ROLES[kind]: (kind, (length,)) for kind, length in about.lengths.items()}
        _expect(files["statistics"], lengths)


def _check_mask(found: blobs.Layout, layers: Sequence[tuple[int, ...]], values: str) -> None:
    entries = sum(map(math.prod, layers))
    expected: dict[str, tuple[str, tuple[int, ...]]] = {"scales": ("F32", (len(layers),))}
    if values == "real":
        _expect(found, expected | {"mask": ("F16", (entries,))})
        return
    for i, length in enumerate(_parts(entries)):
        kind, shape = found.get(f"mask.{i}", ("nothing", ()))
        most = 1 + (2 if values == "signed" else 1) * -(-length // 8)  # as bits, behind the form's name
        if kind != "U8" or len(shape) != 1 or not 1 <= shape[0] <= most:
            raise DataError(f"mask.{i}: expected U8 [{most}] or less, found {kind} {list(shape)}")
        expected[f"mask.{i}"] = kind, shape
    _expect(found, expected)


def _expect(found: blobs.Layout, expected: blobs.Layout) -> None:
    if dict(found) != dict(expected):
        raise DataError(f"expected the tensors {dict(expected)}, found {dict(found)}")


def _parts(entries: int) -> list[int]:
    """How many weights each part has."""
    return [min(PART, entries - start) for start in range(0, entries, PART)]


# Reading and writing


def write(about: Told, own: StoredMask | Kept) -> dict[str, dict[str, Tensor]]:
    """The tensors of each file, by role."""
    shapes = [torch.Size(shape) for shape in about.layers]
    found = {}
    for _, kind, _ in about.statistics:
        parts = [own.statistics[name].flatten() for name, of, _ in about.statistics if of == kind]
        found[_ROLES[kind]] = torch.cat(parts)
    files = {"statistics": found} if found else {}
    if isinstance(own, StoredMask):
        return {**files, "mask": _stored(own, shapes)}
    last = {} if own.last is None else {"last": _stored(own.last, shapes[-1:])}
    return {**files, **last, "coefficients": {"alpha": own.alpha}}


def read(about: Told, files: Mapping[str, Mapping[str, Tensor]]) -> StoredMask | Kept:
    """The inverse of :func:`write`, of files that passed :func:`check_layouts`: the same bits for everybody.

    Raises:
        DataError: bytes that are no mask.
    """
    statistics, rest = {}, dict(files.get("statistics", {}))
    for name, kind, shape in about.statistics:
        flat, length = rest[_ROLES[kind]], math.prod(shape)
        statistics[name], rest[_ROLES[kind]] = flat[:length].reshape(shape), flat[length:]
    if not about.masks:
        mask = _restored(files["mask"], about.layers, about.values)
        return StoredMask(mask.layers, mask.scales, statistics)
    last = _restored(files["last"], about.layers[-1:], about.values) if about.values else None
    return Kept(-1, files["coefficients"]["alpha"], statistics, last)


def _stored(mask: StoredMask, shapes: Sequence[torch.Size]) -> dict[str, Tensor]:
    scales = {"scales": mask.scales}
    if values_of(mask, shapes) == "real":
        return {"mask": torch.cat([layer.flatten() for layer in mask.layers]), **scales}
    flat = torch.cat([layer.flatten() for layer in mask.masks(shapes)])
    return {**{f"mask.{i}": smallest(part) for i, part in enumerate(flat.split(PART))}, **scales}


def _restored(tensors: Mapping[str, Tensor], layers: Sequence[tuple[int, ...]], values: str) -> StoredMask:
    entries = [math.prod(shape) for shape in layers]
    if values == "real":
        parts = tensors["mask"].split(entries)
        found = [part.reshape(shape) for part, shape in zip(parts, layers, strict=True)]
        return StoredMask(tuple(found), tensors["scales"], {})
    kind, chosen = torch.int8 if values == "signed" else torch.bool, []
    for i, length in enumerate(_parts(sum(entries))):
        chosen.append(restore(tensors[f"mask.{i}"], [length]))
        if chosen[-1].dtype != kind:
            raise DataError(f"mask.{i}: expected a {values} mask, found another")
    layered = torch.cat(chosen).split(entries)
    return StoredMask(tuple(pack(part) for part in layered), tensors["scales"], {})
