"""What both kinds of anchor need: checks of tensors, the transform of features, sizes in bytes."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from stolon.errors import DataError

TRANSFORMS: Final = ("none", "l2", "sqrt-l2")
"""Known transforms of features; see :func:`transform`."""


def transform(features: Tensor, name: str) -> Tensor:
    r"""Bring backbone features [N, D] to the space in which anchors live, as float32 or float64.

    ``"none"`` leaves them, ``"l2"`` divides each row by its length, ``"sqrt-l2"`` takes
    :math:`\operatorname{sign}(x)\sqrt{|x|}` first. A row of zeros stays zeros.

    Example:
        >>> transform(torch.tensor([[3.0, 4.0]]), "l2")
        tensor([[0.6000, 0.8000]])

    Raises:
        DataError: not a matrix of finite floats.
    """
    check_matrix("features", features)
    x = features if features.dtype == torch.float64 else features.float()
    if name == "sqrt-l2":
        x = x.sign() * x.abs().sqrt()
    return x if name == "none" else torch.nn.functional.normalize(x, dim=1)


def check_matrix(what: str, x: Tensor, rows: int | None = None, columns: int | None = None) -> None:
    """Refuse what is not a finite floating-point matrix of this many rows and columns.

    Raises:
        DataError: says which tensor, what was expected and what was found.
    """
    expected = [rows if rows is not None else "N", columns if columns is not None else "D"]
    fits = x.ndim == 2 and (rows is None or len(x) == rows) and (columns is None or x.shape[1] == columns)
    if not fits or not x.is_floating_point():
        raise DataError(f"{what}: expected floats {expected}, found {x.dtype} {list(x.shape)}")
    if not bool(torch.isfinite(x).all()):
        raise DataError(f"{what}: expected finite numbers, found NaN or infinity")


def check_index(what: str, index: Tensor, length: int, below: int) -> None:
    """Refuse what is not an int64 vector of ``length`` values from 0 to ``below - 1``.

    Raises:
        DataError: says which tensor, what was expected and what was found.
    """
    if index.dtype != torch.int64 or list(index.shape) != [length]:
        raise DataError(f"{what}: expected int64 [{length}], found {index.dtype} {list(index.shape)}")
    if length and not 0 <= int(index.min()) <= int(index.max()) < below:
        raise DataError(
            f"{what}: expected values 0 to {below - 1}, found {int(index.min())} to {int(index.max())}"
        )


def check_unit(what: str, x: Tensor) -> None:
    """Refuse rows longer than 1: averages of rows of length 1 cannot be (half precision gives or takes).

    Raises:
        DataError: a row is longer; the anchor was made with another transform, or to deceive.
    """
    longest = float(torch.linalg.vector_norm(x.double(), dim=1).max()) if len(x) else 0.0
    if longest > 1.01:
        raise DataError(
            f"{what}: expected rows no longer than 1 (features divided by their length), found "
            f"{longest:.3g}; was the anchor made with another transform?"
        )


def take(anchor: str, tensors: Mapping[str, Tensor], names: tuple[str, ...]) -> list[Tensor]:
    """The named tensors in order.

    Raises:
        DataError: other names than these.
    """
    if set(tensors) != set(names):
        raise DataError(f"{anchor}: expected tensors {', '.join(names)}, found {', '.join(sorted(tensors))}")
    return [tensors[name] for name in names]


def size(tensors: Mapping[str, Tensor], *, half: bool = False) -> int:
    """Bytes of an anchor's tensors; ``half`` counts floats as two bytes each.

    Example:
        >>> size({"means": torch.zeros(3, 4)}), size({"means": torch.zeros(3, 4)}, half=True)
        (48, 24)
    """
    return sum(
        value.numel() * (2 if half and value.is_floating_point() else value.element_size())
        for value in tensors.values()
    )
