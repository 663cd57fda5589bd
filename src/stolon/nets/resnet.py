"""The standard ResNet-18 and ResNet-50 as an ``nn.Sequential`` of a stem and its blocks."""

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

    modules = _stem("resnet18", input_shape)
    for inputs, outputs in pairwise((64, 64, 64, 128, 128, 256, 256, 512, 512)):
        if inputs == outputs:
            modules.append(BasicBlock(inputs, outputs))
        else:
            modules.append(BasicBlock(inputs, outputs, stride=2, downsample=_around(inputs, outputs, 2)))
    return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def resnet50(input_shape: tuple[int, ...]) -> nn.Sequential:
    """ResNet-50 (He et al., CVPR 2016) with torchvision's blocks; 2048 features, no classifier.

    53 convolutions without biases. As in torchvision, and in SupSup's code, a block halves the image in its 3 x 3
    convolution, where the paper does so in the 1 x 1 before it. Small images, and the weights, as for
    :func:`resnet18`. As stages: the stem, then the sixteen blocks.

    Args:
        input_shape: channels, height, width.

    Raises:
        SettingError: these are no images, or images below 8 x 8 pixels.
    """
    from stolon import _torchvision  # noqa: F401 - makes the next import possible beside a CPU build

    from torchvision.models.resnet import Bottleneck  # isort: skip

    modules = _stem("resnet50", input_shape)
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        outputs = width * Bottleneck.expansion
        stride = 1 if width == 64 else 2
        modules.append(Bottleneck(inputs, width, stride, _around(inputs, outputs, stride)))
        modules += [Bottleneck(outputs, width) for _ in range(1, blocks)]
        inputs = outputs
    return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def check_images(name: str, input_shape: tuple[int, ...], least: int) -> None:
    """Refuse inputs that are no images, or images that are too small.

    Raises:
        SettingError: they are.
    """
    if len(input_shape) != 3 or input_shape[0] < 1 or min(input_shape[1:]) < least:
        raise SettingError(
            f"{name}: expected images [C, H, W] of {least} x {least} pixels or more, "
            f"found {list(input_shape)}; enlarge the images"
        )


def _stem(name: str, input_shape: tuple[int, ...]) -> list[nn.Module]:
    """What comes before the blocks: 64 channels."""
    check_images(name, input_shape, _LEAST)
    channels = input_shape[0]
    if min(input_shape[1:]) < _SMALL:
        first, pool = nn.Conv2d(channels, 64, 3, padding=1, bias=False), []
    else:
        first = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        pool = [nn.MaxPool2d(3, stride=2, padding=1)]
    return [first, nn.BatchNorm2d(64), nn.ReLU(inplace=True), *pool]


def _around(inputs: int, outputs: int, stride: int) -> nn.Module:
    """The projection around a block that changes width, height or channels."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
