"""What is kept of a task: the bits of its mask, or its coefficients, and normalisation's means and variances.

A mask is stored in one bit a weight (signed ones in two, real-valued ones in half precision) and unpacked where it is
asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

from stolon.errors import TaskError
from stolon.masks.frozen import FrozenNet
from stolon.masks.storage import pack, unpack

LARGEST: Final = torch.finfo(torch.float16).max
"""The largest number that half precision, in which values and coefficients are kept, can hold."""


@final
@dataclass(frozen=True)
class StoredMask:
    """One mask, packed.

    Attributes:
        layers: each layer's mask: bits of a binary one, two planes of bits of a signed one (uint8), or float16.
        scales: what each layer's kept weights are multiplied by, float32 [d].
        statistics: normalisation's, by name.
    """

    layers: tuple[Tensor, ...]
    scales: Tensor
    statistics: Mapping[str, Tensor]

    @staticmethod
    def of(
        masks: Sequence[Tensor], scales: Sequence[float], statistics: Mapping[str, Tensor]
    ) -> "StoredMask":
        """Pack a mask: bool, int8 of -1, 0 and 1, or float32.

        Raises:
            TaskError: half precision cannot hold its values: a training has blown up.
        """
        packed = tuple(mask.half() if mask.is_floating_point() else pack(mask) for mask in masks)
        if not all(bool(layer.isfinite().all()) for layer in packed if layer.is_floating_point()):
            raise TaskError(
                f"expected values of a mask that half precision can hold, at most {LARGEST:,.0f}, found others; lower "
                "the learning rate"
            )
        return StoredMask(packed, torch.tensor(scales), dict(statistics))

    def masks(self, shapes: Sequence[torch.Size]) -> list[Tensor]:
        """Each layer's mask: bool, int8, or float32."""
        return [
            layer.float() if layer.is_floating_point() else unpack(layer, shape)
            for layer, shape in zip(self.layers, shapes, strict=True)
        ]

    def weights(self, frozen: FrozenNet) -> list[Tensor]:
        """The weights that the task uses."""
        found = []
        for mask, weight, scale in zip(
            self.masks(frozen.shapes), frozen.weights, self.scales.tolist(), strict=True
        ):
            kept = torch.where(mask, weight, 0.0) if mask.dtype == torch.bool else mask * weight
            found.append(kept if scale == 1 else kept * scale)
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Everything by name, for saving and counting."""
        layers = {f"mask.{i}": layer for i, layer in enumerate(self.layers)}
        return {**layers, "scales": self.scales, **{f"statistics.{k}": v for k, v in self.statistics.items()}}

    def alone(self) -> dict[str, Tensor]:
        """The same without statistics."""
        return {name: value for name, value in self.tensors().items() if not name.startswith("statistics.")}

    def last_weight(self, frozen: FrozenNet) -> Tensor:
        """The last layer's weight, under a mask of that layer alone."""
        (mask,) = self.masks(frozen.shapes[-1:])
        found: Tensor = mask * frozen.weights[-1] * float(self.scales[0])
        return found

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> "StoredMask":
        """Take back what :meth:`tensors` gave."""
        count = sum(name.startswith("mask.") for name in tensors)
        start = "statistics."
        return StoredMask(
            tuple(tensors[f"mask.{i}"] for i in range(count)),
            tensors["scales"],
            {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)},
        )


@final
@dataclass(frozen=True)
class Kept:
    """What is kept of a task.

    Attributes:
        mask: of a task that the basis was made of: the position of its own; else -1.
        alpha: coefficients float16 [d, m] of any other.
        statistics: normalisation's.
        last: the last layer's own mask, of hybrid ones.
    """

    mask: int
    alpha: Tensor
    statistics: Mapping[str, Tensor]
    last: StoredMask | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Everything by name, for saving and counting."""
        found = {f"statistics.{name}": value for name, value in self.statistics.items()}
        if self.mask < 0:
            found["alpha"] = self.alpha
        if self.last is not None:
            found |= {f"last.{name}": value for name, value in self.last.tensors().items()}
        return found

    @staticmethod
    def from_tensors(mask: int, tensors: Mapping[str, Tensor]) -> "Kept":
        """Take back what :meth:`tensors` gave."""
        last = below("last.", tensors)
        return Kept(
            mask,
            tensors.get("alpha", torch.zeros(0)),
            below("statistics.", tensors),
            StoredMask.from_tensors(last) if last else None,
        )


def below(start: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors whose names begin so, without that beginning."""
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
