r"""How floats are stored in a module, and read back to the same float32 by everybody.

``"full"``
    float32, bit for bit.
``"half"``
    float16, with one power of two per tensor beside it: dividing by it is exact, and brings the largest value
    near the top of float16's range, so that small variances do not fall out at the bottom.
``"compact"``
    as ``"half"``, but matrices that are named for it as 8-bit integers with one float32 scale per row:

    .. math::
        q_{ij} = \mathrm{round}(x_{ij} / s_i), \qquad s_i = \max_j |x_{ij}| / 127, \qquad
        \hat x_{ij} = s_i q_{ij}

Reading back is one float32 product per number, which IEEE 754 defines to the last bit.
"""

import math
from collections.abc import Collection, Mapping
from typing import Final, Literal, get_args

import torch
from torch import Tensor

from stolon.errors import DataError
from stolon.settings import one_of

Precision = Literal["compact", "half", "full"]

PRECISIONS: Final[tuple[str, ...]] = get_args(Precision)
SCALE: Final = ".scale"
"""Ends the name of what a tensor is multiplied with."""


def store(tensors: Mapping[str, Tensor], precision: str, matrices: Collection[str] = ()) -> dict[str, Tensor]:
    """What is stored of these tensors.

    Args:
        tensors: float32 (or wider) and integers, by name; integers are stored as they are.
        precision: ``"compact"``, ``"half"`` or ``"full"``.
        matrices: which are large matrices [N, D], for ``"compact"``.

    Raises:
        SettingError: an unknown precision.

    Example:
        >>> stored = store({"weight": torch.tensor([[1.0, -2.0]])}, "compact", ["weight"])
        >>> stored["weight"], read(stored)["weight"]
        (tensor([[  64, -127]], dtype=torch.int8), tensor([[ 1.0079, -2.0000]]))
    """
    one_of("precision", precision, PRECISIONS)
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        value = tensor.detach().cpu()
        if not value.is_floating_point():
            found[name] = value
        elif precision == "full":
            found[name] = value.float()
        elif precision == "compact" and name in matrices:
            found[name], found[name + SCALE] = _rows(value.float())
        else:
            found[name], found[name + SCALE] = _halves(value.float())
    return found


def read(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`store`: floats as float32, integers as they are.

    Raises:
        DataError: a scale is missing, left over, or of another shape or size than it can be.
    """
    found, unused = {}, {name for name in stored if name.endswith(SCALE)}
    for name, value in stored.items():
        if name.endswith(SCALE):
            continue
        if value.dtype in {torch.int8, torch.float16}:
            rows = len(value) if value.dtype == torch.int8 and value.ndim == 2 else 1
            scale = _scale(stored, name, rows)
            unused.discard(name + SCALE)
            found[name] = value.float() * (scale[:, None] if value.dtype == torch.int8 else scale)
        else:
            found[name] = value
    if unused:
        raise DataError(f"expected a scale for stored tensors alone, found {', '.join(sorted(unused))}")
    return found


def _rows(value: Tensor) -> tuple[Tensor, Tensor]:
    """Integers [N, D] and scales [N] of a matrix; a row of zeros has scale 0."""
    scale = value.abs().amax(1) / 127 if value.numel() else value.new_zeros(len(value))
    divisor = torch.where(scale > 0, scale, torch.ones_like(scale))
    # clamp: where the scale is denormal, its rounding may push a quotient above 127
    return (value / divisor[:, None]).round().clamp(-127, 127).to(torch.int8), scale


def _halves(value: Tensor) -> tuple[Tensor, Tensor]:
    """Float16 in the shape of the value, and a power of two [1]."""
    largest = float(value.abs().max()) if value.numel() else 0.0
    exponent = math.frexp(largest)[1] - 15 if largest else 0  # the largest is brought between 2^14 and 2^15
    exponent = max(exponent, -126)  # the smallest that float32 holds without becoming denormal
    scale = torch.tensor([math.ldexp(1.0, exponent)])
    return (value / scale).half(), scale


def _scale(stored: Mapping[str, Tensor], name: str, rows: int) -> Tensor:
    scale = stored.get(name + SCALE)
    if scale is None or scale.dtype != torch.float32 or list(scale.shape) != [rows]:
        raise DataError(f"{name}: expected a scale in float32 [{rows}] beside it, found none such")
    if not bool(torch.isfinite(scale).all()) or bool((scale < 0).any()):
        raise DataError(f"{name}: expected scales of at least 0, found others")
    return scale
