"""How masks are held for weighted sums: what every form does, and the two that need no tables."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final, final

import torch
from torch import Tensor

Plane = Callable[[int], Tensor]
"""Binary mask i, bool [n]."""


class Held(ABC):
    """m masks in some form, over n entries in S segments, each with coefficients of its own."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes held."""

    @abstractmethod
    def mix(self, alphas: Tensor) -> Tensor:
        """Weighted sums [T, n] for coefficients [T, m, S], float32."""

    @abstractmethod
    def project(self, g: Tensor) -> Tensor:
        """The sums of g [n], float32, over each mask, by segment: [m, S]."""

    @abstractmethod
    def row(self, i: int) -> Tensor:
        """Mask i, float32 [n]."""


@final
class Plain(Held):
    """Matrices of numbers, one per layer: [m, n_l], of half precision if they are given so, else float32."""

    def __init__(self, layers: Sequence[Tensor]) -> None:
        halves = (torch.float16, torch.bfloat16)
        # cloned: what the caller does to its tensors later is nothing to us
        self._layers = [
            layer.detach().flatten(1).to(layer.dtype if layer.dtype in halves else torch.float32, copy=True)
            for layer in layers
        ]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(layer.nbytes for layer in self._layers)

    @property
    def is_ternary(self) -> bool:
        """Whether all values are -1, 0 or 1."""
        return all(is_ternary(row) for layer in self._layers for row in layer)

    def mix(self, alphas: Tensor) -> Tensor:
        """See :meth:`Held.mix`."""
        # some entries at a time, which stay in cache: half precision is converted, not computed in
        return torch.cat(
            [
                alphas[:, :, k] @ part.float()
                for k, layer in enumerate(self._layers)
                for part in layer.split(_STRIP, 1)
            ],
            1,
        )

    def project(self, g: Tensor) -> Tensor:
        """See :meth:`Held.project`."""
        parts = g.split([layer.shape[1] for layer in self._layers])
        found = [_products(layer, part) for layer, part in zip(self._layers, parts, strict=True)]
        return torch.stack(found, 1)

    def row(self, i: int) -> Tensor:
        """See :meth:`Held.row`."""
        return torch.cat([layer[i].float() for layer in self._layers])


@final
class Signed(Held):
    """Masks of -1, 0 and 1 as two binary ones each: where it is 1, then where it is -1."""

    def __init__(self, planes: Held) -> None:
        self._planes = planes

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._planes.nbytes

    def mix(self, alphas: Tensor) -> Tensor:
        """See :meth:`Held.mix`."""
        return self._planes.mix(torch.stack([alphas, -alphas], 2).flatten(1, 2))

    def project(self, g: Tensor) -> Tensor:
        """See :meth:`Held.project`."""
        found = self._planes.project(g)
        return found[::2] - found[1::2]

    def row(self, i: int) -> Tensor:
        """See :meth:`Held.row`."""
        return self._planes.row(2 * i) - self._planes.row(2 * i + 1)


_STRIP: Final = 4096  # entries of a matrix that are worked on at a time


def is_ternary(values: Tensor) -> bool:
    """Whether all values are -1, 0 or 1."""
    return bool((values.abs() * (values.abs() - 1) == 0).all())


def _products(matrix: Tensor, g: Tensor) -> Tensor:
    """Matrix times vector in float32."""
    if matrix.dtype == torch.float32:
        return matrix @ g
    strips = zip(matrix.split(_STRIP, 1), g.split(_STRIP), strict=True)
    return torch.stack([strip.float() @ part for strip, part in strips]).sum(0)
