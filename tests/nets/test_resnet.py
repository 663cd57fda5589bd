import pytest
import torch
from torch import nn

from stolon import nets
from stolon.errors import SettingError


def test_it_is_torchvisions_from_64_pixels_on():
    import stolon._torchvision  # noqa: F401 - makes the next import possible beside a CPU build

    import torchvision  # isort: skip

    theirs = torchvision.models.resnet18(weights=None)
    theirs.fc = nn.Identity()
    ours = nets.make("resnet18", input_shape=(3, 64, 64))
    values = list(theirs.state_dict().values())
    assert [v.shape for v in ours.state_dict().values()] == [v.shape for v in values]
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(ours.eval()(x), theirs.eval()(x), atol=1e-6)


def test_small_images_get_a_small_first_convolution():
    net = nets.make("resnet18", input_shape=(1, 32, 32)).eval()
    assert net[0].kernel_size == (3, 3)
    assert net[0].in_channels == 1
    assert not any(isinstance(module, nn.MaxPool2d) for module in net)
    x = torch.rand(1, 1, 32, 32)
    staged = nets.split(net)
    sides = []
    with torch.no_grad():
        for stage in staged:
            x = stage(x)
            sides.append(x.shape[-1])
    # the global pooling stays with the last stage
    assert sides == [32, 32, 32, 16, 16, 8, 8, 4, 1]


def test_its_stages_are_the_stem_and_eight_blocks():
    staged = nets.split(nets.make("resnet18", input_shape=(3, 64, 64)))
    assert [stage.width for stage in staged] == [64, 64, 64, 128, 128, 256, 256, 512, 512]
    assert [len(stage.kernels) for stage in staged] == [1, 2, 2, 3, 2, 3, 2, 3, 2]
    stem, halving = staged.layers[0], staged.layers[3]
    assert stem.kernels == ("body.0.weight",)
    assert stem.others == ("body.1.weight", "body.1.bias")
    assert len(stem.pool) == 1
    assert halving.kernels == (
        "body.0.conv1.weight",
        "body.0.conv2.weight",
        "body.0.downsample.0.weight",
    )
    assert [type(module) for module in staged.tail] == [nn.Flatten]


def test_its_weights_are_a_function_of_the_seed():
    first, again, other = (
        nets.make("resnet18", input_shape=(3, 8, 8), seed=seed).state_dict()["8.conv2.weight"]
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("shape", [(3, 7, 32), (784,), (0, 32, 32)])
def test_what_is_too_small_or_no_image_is_refused(shape):
    with pytest.raises(SettingError, match="resnet18: expected images"):
        nets.make("resnet18", input_shape=shape)
