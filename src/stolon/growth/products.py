r"""Inner products of all pairs of inputs' activations, at every layer of a network, in bounded memory.

Every measure of similarity here needs of a layer's activations :math:`X` [N, F] no more than the products
:math:`X X^\top` [N, N] (of rows with or without their means), and N is at most some hundreds where F is some tens of
thousands. So activations are never kept: where those of all inputs fit into the memory allowed they are computed once;
else a block of inputs is held while every later block is computed again beside it.

Products are of 64-bit floats, of slices of the features one after the other: as exact as the textbook's form, which
keeps several copies of all activations in 64 bits.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stolon.errors import DataError

Activations = Callable[[Tensor], Sequence[Tensor]]
"""Gives the activations [B, F] of inputs [B, ...] at each unit of a network."""

Array = npt.NDArray[np.floating]
SLICE = 2048
"""Features that are turned into 64-bit floats at once."""
AT_ONCE = 125
"""Inputs that a network computes at once."""


def products(
    activations: Activations, x: Tensor, *, centred: bool = True, memory: int = 512 * 2**20
) -> list[Tensor]:
    """For each unit the inner products [N, N] of its activations, float64, symmetric.

    Args:
        activations: computes a block of inputs.
        x: inputs [N, ...].
        centred: each input's activations less their mean over the unit's features. Those of an input whose
            activations are all equal are zeros, exactly.
        memory: bytes that activations may take at once; never less than two inputs' are held. What the network itself
            needs to compute a block comes on top.

    Raises:
        DataError: there are no inputs.
    """
    size = _block_size(activations, x, memory)
    blocks = [x[start : start + size] for start in range(0, len(x), size)]
    found: list[Tensor] = []
    for i, block in enumerate(blocks):
        held = _held(activations, block)
        found = found or [torch.zeros(len(x), len(x), dtype=torch.float64) for _ in held]
        for j in range(i, len(blocks)):
            others = held if i == j else _held(activations, blocks[j])
            for total, one, other in zip(found, held, others, strict=True):
                corner = total[i * size : (i + 1) * size, j * size : (j + 1) * size]
                _add_products(corner, one, other, centred=centred)
    for total in found:
        total.copy_(total.triu() + total.triu(1).T)
    return found


def _add_products(total: Tensor, one: Tensor, other: Tensor, *, centred: bool) -> None:
    """Add the products of two blocks, or of one with itself.

    Rows are shifted by their first number, and the rest of their mean is taken off the products: one pass, no loss of
    digits where the mean is far from 0, and a row of equal numbers becomes zeros, exactly.

    All in numpy: its product knows that X X^T is symmetric and computes half of it, and threads of torch in between
    would wait for numpy's, and these for torch's (1.7 times as long on two cores).
    """
    rows = [a.detach().numpy() for a in ((one,) if one is other else (one, other))]
    sums = [np.zeros(len(a)) for a in rows]
    added = total.numpy()
    for start in range(0, one.shape[1], SLICE):
        slices = [_slice(a, start, centred=centred) for a in rows]
        added += slices[0] @ slices[-1].T
        if centred:
            sums = [so_far + values.sum(1) for so_far, values in zip(sums, slices, strict=True)]
    if centred:
        added -= np.outer(sums[0], sums[-1]) / one.shape[1]


def _slice(a: Array, start: int, *, centred: bool) -> Array:
    found: Array = a[:, start : start + SLICE].astype(np.float64)
    if centred:
        found -= a[:, :1]
    return found


def _held(activations: Activations, x: Tensor) -> Sequence[Tensor]:
    """The activations of inputs, computed by some at a time: their maps between layers stay in the cache."""
    if len(x) <= AT_ONCE:
        return activations(x)
    held: list[Tensor] = []
    for start in range(0, len(x), AT_ONCE):
        some = activations(x[start : start + AT_ONCE])
        held = held or [a.new_empty(len(x), a.shape[1]) for a in some]
        for place, a in zip(held, some, strict=True):
            place[start : start + AT_ONCE] = a
    return held


def _block_size(activations: Activations, x: Tensor, memory: int) -> int:
    """How many inputs make a block: all, where their activations fit, else so many that two blocks do."""
    if not len(x):
        raise DataError("expected inputs to compare activations on, found none")
    each = sum(a.nbytes for a in activations(x[:1]))
    return len(x) if len(x) * each <= memory else max(1, memory // (2 * each))
