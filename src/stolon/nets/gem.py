"""GEM's narrow ResNet-18, as SupSup and ImpressLearn use it on Split CIFAR-100."""

from functools import partial
from itertools import pairwise
from typing import Final

from torch import nn

from stolon.nets.resnet import check_images

_WIDTH: Final = 20
_LEAST: Final = 8  # pixels


def gem_resnet18(input_shape: tuple[int, ...]) -> nn.Sequential:
    """ResNet-18 of base width 20 whose batch normalisation has no parameters; 160 features, no classifier.

    A stem of 3 x 3 with stride 1 and no pooling, two basic blocks (torchvision's) of each of the widths 20, 40, 80
    and 160, a 1 x 1 convolution around each block that halves the image, global average pooling. All 20
    convolutions are without biases: with a linear layer of 5 outputs 1,090,940 weights for three channels. Weights
    are drawn by torch's layers. As stages: the stem, then the eight blocks.

    Args:
        input_shape: channels, height, width.

    Raises:
        SettingError: these are no images, or images below 8 x 8 pixels.

    Source:
        Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017, section 4 and its
        code (model/common.py); Wortsman et al., "Supermasks in Superposition", NeurIPS 2020, and its code
        (models/gemresnet.py), whose normalisation is not affine. The pooling there is of 4 x 4 pixels, the whole
        map for images of 32 x 32; here it is the whole map for all sizes.
    """
    from stolon import _torchvision  # noqa: F401 - makes the next import possible beside a CPU build

    from torchvision.models.resnet import BasicBlock  # isort: skip

    check_images("gem-resnet18", input_shape, _LEAST)
    norm = partial(nn.BatchNorm2d, affine=False)
    modules: list[nn.Module] = [
        nn.Conv2d(input_shape[0], _WIDTH, 3, padding=1, bias=False),
        norm(_WIDTH),
        nn.ReLU(inplace=True),
    ]
    for before, after in pairwise(_WIDTH * factor for factor in (1, 1, 1, 2, 2, 4, 4, 8, 8)):
        if before == after:
            modules.append(BasicBlock(before, after, norm_layer=norm))
        else:
            around = nn.Sequential(nn.Conv2d(before, after, 1, stride=2, bias=False), norm(after))
            modules.append(BasicBlock(before, after, stride=2, downsample=around, norm_layer=norm))
    return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten())
