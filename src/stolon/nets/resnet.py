"""The standard ResNet-18 as an ``nn.Sequential`` of a stem and eight blocks."""

from itertools import pairwise

from torch import nn

from stolon.errors import SettingError

_SMALL = 64  # pixels; below them the stem of ImageNet would leave nothing to look at
_LEAST = 8


def resnet18(input_shape: tuple[int, ...]) -> nn.Sequential:
    """ResNet-18 (He et al., CVPR 2016) with torchvision's blocks; 512 features, no classifier.

    Images below 64 pixels get a first convolution of 3 x 3 with stride 1 and no pooling behind it, as is usual for
    CIFAR; others the original's 7 x 7 with stride 2 and max-pooling. Weights are drawn by torch's layers.
    As stages: the stem, then the eight blocks.

    Args:
        input_shape: channels, height, width.

    Raises:
        SettingError: these are no images, or images below 8 x 8 pixels.
    """
    from stolon import _torchvision  # noqa: F401 - makes the next import possible beside a CPU build

    from torchvision.models.resnet import BasicBlock  # isort: skip

    if len(input_shape) != 3 or input_shape[0] < 1 or min(input_shape[1:]) < _LEAST:
        raise SettingError(
            f"resnet18: expected images [C, H, W] of {_LEAST} x {_LEAST} pixels or more, "
            f"found {list(input_shape)}; enlarge the images"
        )
    channels = input_shape[0]
    if min(input_shape[1:]) < _SMALL:
        stem: list[nn.Module] = [nn.Conv2d(channels, 64, 3, padding=1, bias=False)]
        pool: list[nn.Module] = []
    else:
        stem = [nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)]
        pool = [nn.MaxPool2d(3, stride=2, padding=1)]
    modules = [*stem, nn.BatchNorm2d(64), nn.ReLU(inplace=True), *pool]
    for inputs, outputs in pairwise((64, 64, 64, 128, 128, 256, 256, 512, 512)):
        modules.append(BasicBlock(inputs, outputs) if inputs == outputs else _halving(inputs, outputs))
    return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _halving(inputs: int, outputs: int) -> nn.Module:
    """A block that halves height and width, with a projection around it."""
    from torchvision.models.resnet import BasicBlock

    around = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs))
    block: nn.Module = BasicBlock(inputs, outputs, stride=2, downsample=around)
    return block
