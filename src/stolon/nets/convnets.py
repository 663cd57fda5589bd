"""Small convolutional nets."""

from torch import nn

from stolon.errors import SettingError


def digits_conv(input_shape: tuple[int, ...]) -> nn.Sequential:
    """Three convolutions for images of 8 x 8 pixels and up; 128 features.

    Small enough to be trained in seconds on one core: the backbone of ``stolon demo``.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < 8:
        raise SettingError(f"expected images [C, H, W] of 8 x 8 pixels or more, found {input_shape}")
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(input_shape[0], 32, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(64, 128, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(512, 128), nn.ReLU()),
    )
