r"""Gaussian noise that belongs to an image: the same bits whenever, and in whatever batch, it is asked for.

The noise of pixel :math:`p` of image :math:`i` is :math:`\Phi^{-1}` of a hash of (key, i, p): nothing is
drawn in order, so nothing depends on an order, and nothing is stored beyond one table. The hash is 32 bits
wide (splitmix64 over images, then the finaliser "lowbias32" over pixels) and serves two pixels, 16 bits
each; so a value is one of 65,536 quantiles, within 4.3 deviations. That is enough for pixels of 8 bits.

Only integer arithmetic, one look-up and one sum make a value: vectorised exponentials and logarithms round
differently at the end of a batch, these cannot.

Source: the finaliser is by C. Wellons, "Prospecting for hash functions", 2018; splitmix64 by Steele, Lea and
Flood, OOPSLA 2014.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stolon.errors import DataError
from stolon.tasks import to_float

_ROWS = 16  # images hashed at a time: what is in work stays in the cache


@final
@dataclass(frozen=True)
class Disturbance:
    """What LASEM does to the images of a task of STL-10: noise, a clip, channels in another order.

    An image of values from 0 to 1 becomes ``clip(image - 0.5 + noise, -0.5, 0.5)`` with its channels
    reordered, float32.

    Attributes:
        mean: of the noise, as a share of the range of pixels.
        std: its deviation, likewise; 0 adds the mean alone.
        channels: which channel each channel becomes; those of LASEM are three.
        key: decides the noise; an integer of up to 64 bits.
    """

    mean: float
    std: float
    channels: tuple[int, ...]
    key: int

    def __call__(self, x: Tensor, rows: Tensor) -> Tensor:
        """Disturb images.

        Args:
            x: images, uint8 or floats from 0 to 1 [B, C, H, W].
            rows: which image each is, int64 [B]; its noise is a function of this and the key.

        Raises:
            DataError: the channels are not those that are reordered.
        """
        if sorted(self.channels) != list(range(x.shape[1])):
            raise DataError(f"expected images of {len(self.channels)} channels, found {list(x.shape)}")
        y = to_float(x) - 0.5
        if self.std:
            noise = gaussian(rows, x[0].numel() if len(x) else 0, self.key, mean=self.mean, std=self.std)
            y = (y + noise.view(y.shape)).clamp_(-0.5, 0.5)
        elif self.mean:
            y = (y + self.mean).clamp_(-0.5, 0.5)
        if self.channels == tuple(range(len(self.channels))):
            return y
        return y[:, list(self.channels)]


def gaussian(rows: Tensor, pixels: int, key: int, *, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Gaussian noise of images, float32 [B, pixels]: each value a function of key, row and pixel alone.

    Args:
        rows: which images, int64 [B].
        pixels: how many values each has; a longer noise begins like a shorter one.
        key: an integer of up to 64 bits.
        mean: of the values.
        std: their deviation.

    Example:
        >>> both = gaussian(torch.tensor([3, 8]), 5, key=1)
        >>> torch.equal(gaussian(torch.tensor([8]), 5, key=1)[0], both[1])
        True
    """
    table = np.float32(mean) + np.float32(std) * _quantiles()
    words = _hash64(np.arange((pixels + 1) // 2, dtype=np.uint64), key ^ _OTHER)
    images = _hash64(rows.numpy().astype(np.uint64), key)
    made = np.empty((len(images), pixels), np.float32)
    for start in range(0, len(images), _ROWS):
        halves = _hash32(images[start : start + _ROWS, None] + words).view("<u2")
        made[start : start + _ROWS] = table[halves[:, :pixels]]
    return torch.from_numpy(made)


_OTHER = 0xA5A5_A5A5_5A5A_5A5A  # so that pixel 7 and image 7 of one key are hashed differently


@lru_cache(maxsize=1)
def _quantiles() -> NDArray[np.float32]:
    """Standard normal quantiles at the middles of 65,536 equal shares."""
    shares = (torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16
    quantiles: NDArray[np.float32] = torch.special.ndtri(shares).float().numpy()
    return quantiles


def _hash64(numbers: NDArray[np.uint64], key: int) -> NDArray[np.uint32]:
    """Splitmix64 of numbers under a key, the upper half; both are mixed, so near keys are unlike."""
    state = np.array([key & (2**64 - 1)], dtype=np.uint64)
    mixed = _splitmix(numbers * np.uint64(0x9E3779B97F4A7C15) + _splitmix(state))
    upper: NDArray[np.uint32] = (mixed >> np.uint64(32)).astype("<u4")
    return upper


def _splitmix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _hash32(h: NDArray[Any]) -> NDArray[Any]:
    """The finaliser lowbias32, in place."""
    shifted = h >> np.uint32(16)
    h ^= shifted
    h *= np.uint32(0x7FEB352D)
    np.right_shift(h, np.uint32(15), out=shifted)
    h ^= shifted
    h *= np.uint32(0x846CA68B)
    np.right_shift(h, np.uint32(16), out=shifted)
    h ^= shifted
    return h
