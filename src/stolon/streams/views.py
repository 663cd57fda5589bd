"""Splits that share one set of images in memory: other rows, other labels, other pixels, no copies."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from stolon import randomness
from stolon.errors import DataError
from stolon.streams.noise import Disturbance
from stolon.tasks import Split, to_float

_CHUNK = 4096  # rows hashed at a time


@final
@dataclass(frozen=True)
class PixelMap:
    """A linear map of an image's pixels: each is a weighted sum of K source pixels, by K gathers.

    Attributes:
        source: which pixels of the flattened image, int64 [K, H*W].
        weight: their weights, float [K, H*W]; None copies pixels as they are (K = 1).
    """

    source: Tensor
    weight: Tensor | None = None

    @staticmethod
    def permuted(pixels: int, seed: int, task: int) -> "PixelMap":
        """A random order of the pixels, a function of seed and task: no seed's task is another seed's."""
        return PixelMap(randomness.permutation(pixels, seed, "permuted", task)[None])

    @staticmethod
    def rotated(height: int, width: int, degrees: float) -> "PixelMap":
        """A counter-clockwise rotation about the centre, bilinear; what comes from outside is 0.

        The same as ``affine_grid`` and ``grid_sample`` with ``align_corners=False``, of square pixels.
        """
        angle = math.radians(degrees)
        # Quarter turns must be exact, and cos(90 degrees) is 6e-17.
        cos, sin = round(math.cos(angle), 12), round(math.sin(angle), 12)
        y, x = torch.meshgrid(
            torch.arange(height, dtype=torch.float64) - (height - 1) / 2,
            torch.arange(width, dtype=torch.float64) - (width - 1) / 2,
            indexing="ij",
        )
        from_x = (cos * x - sin * y + (width - 1) / 2).flatten()
        from_y = (sin * x + cos * y + (height - 1) / 2).flatten()
        sources, weights = [], []
        for corner_y in (from_y.floor(), from_y.floor() + 1):
            for corner_x in (from_x.floor(), from_x.floor() + 1):
                weight = (1 - (from_x - corner_x).abs()) * (1 - (from_y - corner_y).abs())
                inside = (corner_x >= 0) & (corner_x < width) & (corner_y >= 0) & (corner_y < height)
                sources.append(torch.where(inside, corner_y * width + corner_x, 0).long())
                weights.append(torch.where(inside, weight, 0.0).float())
        return PixelMap(torch.stack(sources), torch.stack(weights))

    def __call__(self, x: Tensor) -> Tensor:
        """Map images [B, C, H, W]; weighted sums are floats, 0 to 1."""
        if self.weight is None:
            return x.flatten(2).index_select(2, self.source[0]).view(x.shape)
        flat = to_float(x).flatten(2)
        terms = (
            flat.index_select(2, source) * weight
            for source, weight in zip(self.source, self.weight, strict=True)
        )
        total: Tensor = next(terms)
        for term in terms:
            total += term
        return total.view(x.shape)


@final
@dataclass(frozen=True)
class Scale:
    """Standardisation with a set's usual figures, or those of some images, for values from 0 to 1.

    Attributes:
        mean: one per channel.
        std: one per channel.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @staticmethod
    def measured(images: Tensor) -> "Scale":
        """The figures of images, uint8 or floats [N, C, H, W], over all their pixels.

        A deviation is at least 1 / sqrt(pixels), as in TensorFlow's ``per_image_standardization`` and in
        LASEM's code: a channel without contrast stays finite.

        Raises:
            DataError: there are no images.
        """
        if not images.numel():
            raise DataError("expected images to measure mean and deviation of, found none")
        values = to_float(images).double().transpose(0, 1).flatten(1)
        std = values.std(1, correction=0).clamp(min=values.shape[1] ** -0.5)
        return Scale(tuple(values.mean(1).tolist()), tuple(std.tolist()))

    def __call__(self, x: Tensor) -> Tensor:
        """Standardise images [B, C, H, W]; the result is float32."""
        shape = (-1, 1, 1)
        return (to_float(x) - torch.tensor(self.mean).view(shape)) / torch.tensor(self.std).view(shape)


@final
class MappedSplit(Split):
    """Some rows of a set of images, with labels of their own and pixels that are mapped batch by batch.

    Ten permuted tasks hold one copy of the images between them. The digest is that of the same data held
    by :class:`stolon.tasks.TensorSplit`.

    Args:
        images: all images, uint8 or floats [N, C, H, W]; kept, not copied.
        rows: which of them, in order, int64 [M].
        labels: class indices [M].
        pixels: how to map pixels, if at all.
        scale: how to standardise, if at all.
        disturbance: noise and swapped channels, if any; made last.

    Raises:
        DataError: lengths differ, or a row does not exist.
    """

    def __init__(
        self,
        images: Tensor,
        rows: Tensor,
        labels: Tensor,
        *,
        pixels: PixelMap | None = None,
        scale: Scale | None = None,
        disturbance: Disturbance | None = None,
    ) -> None:
        if images.ndim != 4 or rows.ndim != 1 or rows.shape != labels.shape:
            raise DataError(
                f"expected images [N, C, H, W], rows [M] and labels [M], found {list(images.shape)}, "
                f"{list(rows.shape)} and {list(labels.shape)}"
            )
        if len(rows) and not (int(rows.min()) >= 0 and int(rows.max()) < len(images)):
            raise DataError(
                f"expected rows 0 to {len(images) - 1}, found {int(rows.min())} to {int(rows.max())}"
            )
        self._images, self._rows, self._labels = images, rows, labels.long()
        self._pixels, self._scale, self._disturbance = pixels, scale, disturbance

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and labels at these indices: a gather of rows, one of pixels for each source."""
        rows = self._rows[indices]
        x = self._images[rows]
        if self._pixels is not None:
            x = self._pixels(x)
        if self._scale is not None:
            x = self._scale(x)
        if self._disturbance is not None:
            x = self._disturbance(x, rows)
        return x, self._labels[indices]

    @property
    def labels(self) -> Tensor:
        """All labels, int64 [M]."""
        return self._labels

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return tuple(self._images.shape[1:])

    def digest(self) -> str:
        """SHA-256 over types, shapes and bytes of what :meth:`batch` gives."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        nothing, _ = self.batch(torch.arange(0))
        sha = hashlib.sha256(f"{nothing.dtype}{[len(self), *self.shape]}".encode())
        for indices in torch.split(torch.arange(len(self)), _CHUNK):
            sha.update(self.batch(indices)[0].contiguous().view(torch.uint8).numpy().data)
        sha.update(f"{self._labels.dtype}{list(self._labels.shape)}".encode())
        sha.update(self._labels.contiguous().view(torch.uint8).numpy().data)
        return sha.hexdigest()


def relabelled(labels: Tensor, classes: Sequence[int]) -> Tensor:
    """Labels as indices into ``classes``, which must hold them all.

    Example:
        >>> relabelled(torch.tensor([7, 3, 7]), [3, 7])
        tensor([1, 0, 1])
    """
    table = torch.full((max(classes) + 1,), -1)
    table[torch.tensor(classes)] = torch.arange(len(classes))
    return table[labels]
