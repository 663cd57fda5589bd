import pytest
import torch
from torch import nn

from stolon import nets
from stolon.errors import SettingError


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_it_is_torchvisions_from_64_pixels_on(name):
    import stolon._torchvision  # noqa: F401 - makes the next import possible beside a CPU build

    import torchvision  # isort: skip

    theirs = getattr(torchvision.models, name)(weights=None)
    theirs.fc = nn.Identity()
    ours = nets.make(name, input_shape=(3, 64, 64))
    values = list(theirs.state_dict().values())
    assert [v.shape for v in ours.state_dict().values()] == [v.shape for v in values]
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        features = ours.eval()(x)
        assert torch.allclose(features, theirs.eval()(x), atol=1e-6)
    assert features.shape == (1, 512 if name == "resnet18" else 2048)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # the global pooling stays with the last stage
        ("resnet18", [32, 32, 32, 16, 16, 8, 8, 4, 1]),
        ("resnet50", [32, *[32] * 3, *[16] * 4, *[8] * 6, 4, 4, 1]),
    ],
)
def test_small_images_get_a_small_first_convolution(name, expected):
    net = nets.make(name, input_shape=(1, 32, 32)).eval()
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
    assert sides == expected


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


def test_resnet50_has_53_convolutions_without_biases_in_a_stem_and_sixteen_blocks():
    net = nets.make("resnet50", input_shape=(3, 64, 64))
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 53
    assert all(module.bias is None for module in convolutions)
    # He et al., table 1, and torchvision's 25,557,032 without its linear layer and normalisation
    assert sum(module.weight.numel() for module in convolutions) == 23_454_912
    staged = nets.split(net)
    assert [stage.width for stage in staged] == [64, *[256] * 3, *[512] * 4, *[1024] * 6, *[2048] * 3]
    assert [type(module) for module in staged.tail] == [nn.Flatten]


def test_its_weights_are_a_function_of_the_seed():
    first, again, other = (
        nets.make("resnet18", input_shape=(3, 8, 8), seed=seed).state_dict()["8.conv2.weight"]
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("shape", [(3, 7, 32), (784,), (0, 32, 32)])
def test_what_is_too_small_or_no_image_is_refused(name, shape):
    with pytest.raises(SettingError, match=f"{name}: expected images"):
        nets.make(name, input_shape=shape)
