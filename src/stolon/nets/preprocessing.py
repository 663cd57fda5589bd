"""How images become what a frozen backbone was trained on."""

from dataclasses import asdict, dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from stolon.errors import DataError
from stolon.settings import at_least


@final
@dataclass(frozen=True)
class Preprocessing:
    """Channels, size and scale of a backbone's inputs.

    Attributes:
        channels: 3 turns grey images into three equal channels; 1 averages colours.
        size: height and width in pixels; 0 leaves images as large as they are.
        mean: subtracted per channel, in units of the image range 0 to 1.
        std: what is then divided by.
    """

    channels: int = 3
    size: int = 0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        at_least("channels", self.channels, 1)
        at_least("size", self.size, 0)

    def __call__(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W], uint8 or floats between 0 and 1, as floats [B, channels, size, size].

        Raises:
            DataError: the inputs are no such images.
        """
        if x.ndim != 4:
            raise DataError(f"expected images [B, C, H, W], found {list(x.shape)}")
        x = self._checked_floats(x)
        if x.shape[1] != self.channels:
            if self.channels != 1 and x.shape[1] != 1:
                raise DataError(f"expected images of 1 or {self.channels} channels, found {x.shape[1]}")
            x = x.mean(1, keepdim=True).expand(-1, self.channels, -1, -1)
        if self.size and x.shape[2:] != (self.size, self.size):
            x = interpolate(x, (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 1)
        return (x - _column(self.mean)) / _column(self.std)

    def describe(self) -> dict[str, Any]:
        """The values as JSON: what the fingerprint is made over."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @staticmethod
    def _checked_floats(x: Tensor) -> Tensor:
        if x.dtype == torch.uint8:
            return x.float() / 255
        # Normalised floats would pass through silently and ruin every feature.
        if x.numel() and (float(x.min()) < -1e-6 or float(x.max()) > 1 + 1e-6):
            raise DataError(
                f"expected images as uint8 or as floats between 0 and 1, found {float(x.min()):.3g} to "
                f"{float(x.max()):.3g}; leave normalisation to the backbone (streams: normalize=False)"
            )
        return x.float()


def _column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).view(1, -1, 1, 1)
