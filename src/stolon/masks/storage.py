r"""Masks as bytes: one bit per weight, or coded, whichever is smaller.

A mask of n weights, of which a share p is chosen, carries at most n H(p) bits,

.. math::
    H(p) = -p \log_2 p - (1 - p) \log_2 (1 - p),

which at p = 0.1 is less than half of the n bits that :func:`pack` takes. :func:`smallest` comes close to it with
the standard library alone: it writes the distances between chosen weights, which are geometrically distributed, as
bytes, and DEFLATE's Huffman code of these bytes. Measured on 266,200 random bits (sizes in bytes, and how much more
than n H(p) / 8 that is):

=====================  ==============  ==============  ==============  ==============
p                      0.05            0.1             0.2             0.3
=====================  ==============  ==============  ==============  ==============
n H(p) / 8             9,530           15,606          24,022          29,325
:func:`smallest`       9,628 (1.0 %)   15,764 (1.0 %)  24,295 (1.1 %)  29,645 (1.1 %)
zlib of the bits       12,168 (28 %)   18,696 (20 %)   25,780 (7 %)    29,792 (1.6 %)
lzma of the bits       11,804 (24 %)   16,818 (8 %)    25,092 (4 %)    30,156 (3 %)
constriction (range)   9,540 (0.1 %)   15,616 (0.1 %)  24,032 (0.0 %)  29,336 (0.0 %)
=====================  ==============  ==============  ==============  ==============

An entropy coder from outside would gain 1 %, and is no dependency for that. Layers of a thousand weights are far from
the bound in any form (their Huffman tables weigh as much as they do): store a network's layers as one mask.

Everything read is taken as hostile: lengths follow from the shape that the caller knows, padding is zero, a stream
is used to its end, and memory is bounded by the shape, whatever the bytes say. A flipped bit that makes another
valid mask cannot be told here; that is what the checksums of stores and modules are for.
"""

import math
import zlib
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stolon.errors import DataError, SettingError

MAX_WEIGHTS: Final = 2**31
"""Most weights in one mask."""

_BITS, _ONES, _ZEROS = 0, 1, 2  # the forms: bit-packed, distances between ones, distances between zeros
_ESCAPE: Final = 255  # a byte of this value goes on for so many places without ending there
_STRATEGIES: Final = (zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY)  # the second finds what repeats
_RAW_DEFLATE: Final = -zlib.MAX_WBITS
_LEVEL, _MEMORY = 6, 9  # level 9 takes seconds where nothing repeats; most memory: fewest Huffman tables


def pack(mask: Tensor) -> Tensor:
    """A mask with one bit per weight; a signed one with two.

    Args:
        mask: bool, or a signed one: -1, 0 and 1 of any other type; of any shape.

    Returns:
        uint8 [ceil(n / 8)], the first weight in the highest bit, zeros behind the last; of a signed mask
        [2 ceil(n / 8)]: first where it is not 0, then where it is negative.

    Raises:
        DataError: other values, or no weights at all.

    Example:
        >>> pack(torch.tensor([[True, False], [True, True]]))
        tensor([176], dtype=torch.uint8)
        >>> unpack(pack(torch.tensor([0, -1, 1], dtype=torch.int8)), [3])
        tensor([ 0, -1,  1], dtype=torch.int8)
    """
    return _tensor(_planes(_flat(mask)))


def unpack(packed: Tensor, shape: Sequence[int]) -> Tensor:
    """The mask that :func:`pack` made these bytes of: bool, or int8 if it was signed (not bool).

    Args:
        packed: uint8 [N]; whether the mask is signed follows from N.
        shape: the mask's.

    Raises:
        DataError: the bytes are of another length than this shape's, or none that :func:`pack` makes.
        SettingError: no mask has this shape.
    """
    return _mask(_from_planes(_bytes(packed), _count(shape)), shape)


def smallest(mask: Tensor) -> Tensor:
    """A mask in the smallest form there is, which :func:`restore` reads.

    Args:
        mask: as for :func:`pack`.

    Returns:
        uint8 [N]: a byte that names the form, then what :func:`pack` makes, or DEFLATE's code of distances; behind
        the latter, of a signed mask, a bit for each weight that is not 0: whether it is negative.

    Raises:
        DataError: as for :func:`pack`.

    Example:
        >>> mask = torch.zeros(1000, dtype=torch.bool)
        >>> mask[::20] = True
        >>> len(pack(mask)), len(smallest(mask)), torch.equal(restore(smallest(mask), [1000]), mask)
        (125, 7, True)
    """
    values = _flat(mask)
    signs = np.packbits(values[values != 0] < 0).tobytes() if values.dtype == np.int8 else b""
    signed = int(values.dtype == np.int8)
    forms = [bytes([_form(_BITS, signed)]) + _planes(values).tobytes()]
    kind, rare = (
        (_ONES, values != 0) if 2 * np.count_nonzero(values) <= len(values) else (_ZEROS, values == 0)
    )
    distances = _distances(rare)
    forms += [bytes([_form(kind, signed)]) + _deflate(distances, way) + signs for way in _STRATEGIES]
    return _tensor(np.frombuffer(min(forms, key=len), np.uint8))


def restore(stored: Tensor, shape: Sequence[int]) -> Tensor:
    """The mask that :func:`smallest` made these bytes of: bool, or int8 if it was signed (not bool).

    Args:
        stored: uint8 [N].
        shape: the mask's; memory is bounded by it.

    Raises:
        DataError: the bytes are damaged, cut off, too long, or of a mask of another shape.
        SettingError: no mask has this shape.
    """
    count = _count(shape)
    data = _bytes(stored)
    kind, signed = divmod(int(data[0]), 2) if len(data) else (-1, 0)
    if kind not in (_BITS, _ONES, _ZEROS):
        raise DataError(
            f"expected a stored mask, which begins with a byte from 0 to 5, found {bytes(data[:1])!r}; get it again"
        )
    body = data[1:]
    if kind == _BITS:
        if len(body) != (1 + signed) * _plane(count):
            raise _wrong_length(len(body), (1 + signed) * _plane(count), count)
        return _mask(_from_planes(body, count), shape)
    distances, rest = _inflate(body.tobytes(), count)
    chosen = _places(distances, count)
    if kind == _ZEROS:
        chosen = ~chosen
    if not signed:
        if rest:
            raise DataError(f"expected the end of a stored mask, found {len(rest):,} bytes behind it")
        return _mask(chosen, shape)
    values = chosen.astype(np.int8)
    values[chosen] -= 2 * _bits(np.frombuffer(rest, np.uint8), int(chosen.sum())).astype(np.int8)
    return _mask(values, shape)


def entropy_bits(density: float) -> float:
    """Bits per weight that a mask of this density carries at most: H(density).

    Args:
        density: the share of weights that are chosen, 0 to 1.

    Raises:
        SettingError: it is out of its range.

    Example:
        >>> entropy_bits(0.5), round(entropy_bits(0.1), 3), entropy_bits(0)
        (1.0, 0.469, 0.0)
    """
    if not 0 <= density <= 1:
        raise SettingError(f"density: expected a share from 0 to 1, found {density!r}")
    return sum(-share * math.log2(share) for share in (density, 1 - density) if share > 0)


def _form(kind: int, signed: int) -> int:
    return 2 * kind + signed


def _flat(mask: Tensor) -> NDArray[np.bool_] | NDArray[np.int8]:
    """The weights' values in order, bool or int8."""
    _count(mask.shape, DataError)
    values = mask.detach().cpu().flatten()
    if values.dtype == torch.bool:
        return values.numpy()
    if values.is_complex() or not bool(((values == 0) | (values.abs() == 1)).all()):
        raise DataError(
            f"expected a mask as bool, or a signed one of -1, 0 and 1, found other values ({mask.dtype}); "
            "real-valued masks are stored as they are"
        )
    return values.to(torch.int8).numpy()


def _count(shape: Sequence[int], error: type[DataError] | type[SettingError] = SettingError) -> int:
    count = math.prod(shape)
    if any(extent < 1 for extent in shape) or count > MAX_WEIGHTS:
        raise error(f"expected a mask's shape, of 1 to {MAX_WEIGHTS:,} weights, found {list(shape)}")
    return count


def _bytes(packed: Tensor) -> NDArray[np.uint8]:
    if packed.dtype != torch.uint8 or packed.ndim != 1:
        raise DataError(f"expected a mask's bytes, uint8 [N], found {packed.dtype} {list(packed.shape)}")
    found: NDArray[np.uint8] = packed.detach().cpu().numpy()
    return found


def _tensor(data: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(data.copy())  # what comes from bytes is not writable


def _mask(values: NDArray[np.bool_] | NDArray[np.int8], shape: Sequence[int]) -> Tensor:
    return torch.from_numpy(values).reshape(tuple(shape))


def _plane(count: int) -> int:
    """Bytes that so many bits take."""
    return -(-count // 8)


def _planes(values: NDArray[np.bool_] | NDArray[np.int8]) -> NDArray[np.uint8]:
    if values.dtype == np.bool_:
        return np.packbits(values)
    return np.concatenate([np.packbits(values != 0), np.packbits(values < 0)])


def _from_planes(data: NDArray[np.uint8], count: int) -> NDArray[np.bool_] | NDArray[np.int8]:
    plane = _plane(count)
    if len(data) not in (plane, 2 * plane):
        raise _wrong_length(len(data), plane, count)
    chosen = _bits(data[:plane], count)
    if len(data) == plane:
        return chosen
    negative = _bits(data[plane:], count)
    if bool((negative & ~chosen).any()):
        raise DataError("expected signs of chosen weights alone, found others; get the mask again")
    return chosen.astype(np.int8) - 2 * negative.astype(np.int8)


def _bits(data: NDArray[np.uint8], count: int) -> NDArray[np.bool_]:
    """So many bits, behind which there must be zeros up to a whole byte, and no more."""
    if len(data) != _plane(count):
        raise _wrong_length(len(data), _plane(count), count)
    bits = np.unpackbits(data)
    if bool(bits[count:].any()):
        raise DataError(f"expected zeros behind the last of {count:,} bits, found ones; get the mask again")
    return bits[:count].astype(np.bool_)


def _wrong_length(found: int, expected: int, count: int) -> DataError:
    return DataError(
        f"expected {expected:,} bytes of a mask of {count:,} weights, found {found:,}; get it again, or give "
        "its shape"
    )


def _distances(places: NDArray[np.bool_]) -> bytes:
    """How many places lie before each true one since the last, in bytes; what is above 254 in several."""
    gaps = np.diff(np.flatnonzero(places), prepend=-1) - 1
    escapes, last = np.divmod(gaps, _ESCAPE)
    written = np.full(int(escapes.sum()) + len(gaps), _ESCAPE, np.uint8)
    written[np.cumsum(escapes + 1) - 1] = last
    return written.tobytes()


def _places(distances: bytes, count: int) -> NDArray[np.bool_]:
    """The inverse of :func:`_distances`."""
    read = np.frombuffer(distances, np.uint8)
    ends = read != _ESCAPE
    if len(read) and not ends[-1]:
        raise DataError("expected distances between chosen weights, found an unfinished one; get it again")
    places = np.cumsum(read + ends, dtype=np.int64)[ends] - 1
    if len(places) and places[-1] >= count:
        raise DataError(
            f"expected a mask of {count:,} weights, found one chosen at {places[-1]:,}; get it again, or give "
            "its shape"
        )
    chosen = np.zeros(count, np.bool_)
    chosen[places] = True
    return chosen


def _deflate(data: bytes, strategy: int) -> bytes:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW_DEFLATE, _MEMORY, strategy)
    return packer.compress(data) + packer.flush()


def _inflate(data: bytes, most: int) -> tuple[bytes, bytes]:
    """At most so many bytes, and what comes behind the stream."""
    unpacker = zlib.decompressobj(_RAW_DEFLATE)
    try:
        found = unpacker.decompress(data, most + 1)
    except zlib.error as error:
        raise DataError(f"expected a stored mask, found damaged bytes ({error}); get it again") from error
    if len(found) > most:
        raise DataError(f"expected a mask of {most:,} weights, found more; get it again, or give its shape")
    if not unpacker.eof:
        raise DataError(f"expected a whole mask of {most:,} weights, found one cut off; get it again")
    return found, unpacker.unused_data
