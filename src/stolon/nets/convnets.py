"""Small convolutional nets."""

from itertools import pairwise

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


def growth_conv(input_shape: tuple[int, ...]) -> nn.Sequential:
    """The convolutional net of Learn to Bind and Grow: three convolutions, two fully connected layers; 2048 features.

    No padding, normalisation or dropout; weights drawn by torch's layers. The paper says no more than this; kernels
    and widths are those of the authors' code (papers/methods.md 4.1), which pools before the ReLU: the same numbers.
    For images of 32 x 32 pixels 6,503,872 parameters.

    Args:
        input_shape: channels, height, width; the first fully connected layer takes 1024 numbers of an image of
            32 x 32 pixels, and 12544 of one of 72 x 72.

    Raises:
        SettingError: these are no images, or images below 19 x 19 pixels.
    """
    least = 19  # pixels; of fewer nothing is left after the third pooling
    if len(input_shape) != 3 or input_shape[0] < 1 or min(input_shape[1:]) < least:
        raise SettingError(
            f"growth-conv: expected images [C, H, W] of {least} x {least} pixels or more, found "
            f"{list(input_shape)}; enlarge the images"
        )
    channels, height, width = input_shape
    modules: list[nn.Module] = []
    for (inputs, outputs), kernel in zip(pairwise((channels, 64, 128, 256)), (4, 3, 2), strict=True):
        modules += [nn.Conv2d(inputs, outputs, kernel), nn.ReLU(), nn.MaxPool2d(2)]
        height, width = (height - kernel + 1) // 2, (width - kernel + 1) // 2
    modules.append(nn.Flatten())
    for inputs, outputs in pairwise((256 * height * width, 2048, 2048)):
        modules += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*modules)
