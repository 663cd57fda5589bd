"""Blobs: named tensors as safetensors bytes of one form, checked without trusting any reader.

A blob's header follows from the names, types and shapes of its tensors alone. Who has the signed manifest
therefore knows every byte of the header beforehand, and compares instead of parsing: no duplicate names, no
unknown fields, no holes, no overlaps, no metadata, no declared size is ever looked at. The bytes are plain
safetensors, readable by its library; they are written here, so that agents with different versions
of that library still write the same.

Source:
    The format: https://github.com/huggingface/safetensors. What its reader lets through, and why it is not the
    validator: the design's section 2.1.
"""

import functools
import json
import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor

from stolon.sharing.codes import Code, Refused
from stolon.sharing.limits import MAX_BLOB, MAX_BLOB_HEADER, MAX_TENSORS

Layout = Mapping[str, tuple[str, tuple[int, ...]]]
"""Type and shape of each tensor, by name."""

# In the order in which the format's own writer puts them: larger alignments first.
_NUMPY: Final = {"I64": "<i8", "F32": "<f4", "F16": "<f2", "I8": "|i1", "U8": "|u1"}
_NAMES: Final = {
    torch.int64: "I64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.int8: "I8",
    torch.uint8: "U8",
}
_RANK: Final = {name: rank for rank, name in enumerate(_NUMPY)}
DTYPES: Final = tuple(_NUMPY)
"""The types that a tensor may have."""
MAX_DIMENSIONS: Final = 4


def layout(tensors: Mapping[str, Tensor]) -> Layout:
    """Type and shape of each tensor.

    Raises:
        ValueError: a type that blobs do not have.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _NAMES:
            raise ValueError(f"{name}: expected one of {', '.join(DTYPES)}, found {tensor.dtype}")
    return {name: (_NAMES[tensor.dtype], tuple(tensor.shape)) for name, tensor in tensors.items()}


def size(found: Layout) -> int:
    """How many bytes a blob of this layout has; nothing is allocated, whatever the shapes say.

    Raises:
        ValueError: no blob has such a layout: more than :data:`MAX_TENSORS` tensors or none, a type or shape
            that tensors do not have, a header or a blob above its limit.
    """
    if not 1 <= len(found) <= MAX_TENSORS:
        raise ValueError(f"expected 1 to {MAX_TENSORS} tensors, found {len(found)}")
    for name, (dtype, shape) in found.items():
        if dtype not in _NUMPY:
            raise ValueError(f"{name}: expected a type of {', '.join(DTYPES)}, found {dtype[:20]!r}")
        # As if empty dimensions had one: strides are products of them, and must not overflow either.
        if len(shape) > MAX_DIMENSIONS or math.prod(max(1, extent) for extent in shape) > MAX_BLOB:
            raise ValueError(f"{name}: expected at most {MAX_DIMENSIONS} dimensions and {MAX_BLOB:,} numbers")
    header, payload = _header(found)
    if len(header) > MAX_BLOB_HEADER:
        raise ValueError(f"expected a header of at most {MAX_BLOB_HEADER:,} bytes")
    total = 8 + len(header) + payload
    if total > MAX_BLOB:
        raise ValueError(f"expected at most {MAX_BLOB:,} bytes, found tensors of {total:,}")
    return total


def encode(tensors: Mapping[str, Tensor]) -> bytes:
    """The one blob of these tensors; the order of the mapping makes no difference.

    Raises:
        ValueError: a type that blobs do not have.

    Example:
        >>> data = encode({"weight": torch.ones(2, 2)})
        >>> check(data, {"weight": ("F32", (2, 2))})
        {'weight': tensor([[1., 1.],
                [1., 1.]])}
    """
    found = layout(tensors)
    header, _ = _header(found)
    parts = [len(header).to_bytes(8, "little"), header]
    for name in _order(found):
        values = tensors[name].detach().cpu().contiguous().numpy()
        parts.append(values.astype(_NUMPY[found[name][0]], copy=False).tobytes())
    return b"".join(parts)


def check(data: bytes, expected: Layout) -> dict[str, Tensor] | Refused:
    """The tensors of a blob, if it is the one form of exactly these, all finite.

    Args:
        data: the bytes; their hash should have been compared before.
        expected: what the manifest says, past :func:`size`.
    """
    header, payload = _header(expected)
    start = 8 + len(header)
    if data[8:start] != header:
        return Refused(Code.WRONG_TENSORS, f"expected a blob of exactly {', '.join(sorted(expected))}")
    if data[:8] != len(header).to_bytes(8, "little") or len(data) != start + payload:
        return Refused(
            Code.BAD_BLOB,
            f"expected {start + payload:,} bytes with a header of {len(header)}, found {len(data):,}",
        )
    tensors = {}
    for name in _order(expected):
        dtype, shape = expected[name]
        count = math.prod(shape)
        values = np.frombuffer(data, _NUMPY[dtype], count, start)
        if dtype.startswith("F") and not bool(np.isfinite(values).all()):
            return Refused(Code.NOT_FINITE, f"{name}: expected finite numbers, found NaN or infinity")
        tensors[name] = torch.from_numpy(values.astype(values.dtype.newbyteorder("="))).reshape(shape)
        start += _bytes(dtype, shape)
    return {name: tensors[name] for name in sorted(tensors)}


def _order(found: Layout) -> list[str]:
    return sorted(found, key=lambda name: (_RANK[found[name][0]], name))


def _bytes(dtype: str, shape: tuple[int, ...]) -> int:
    return int(_NUMPY[dtype][2]) * math.prod(shape)


def _header(found: Layout) -> tuple[bytes, int]:
    """The header's bytes, and how many bytes come after it."""
    return _header_of(tuple((name, *found[name]) for name in _order(found)))


@functools.lru_cache(
    maxsize=64
)  # the modules of a bank have a few layouts, and each is asked for several times
def _header_of(ordered: tuple[tuple[str, str, tuple[int, ...]], ...]) -> tuple[bytes, int]:
    entries, start = {}, 0
    for name, dtype, shape in ordered:
        end = start + _bytes(dtype, shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8), start
