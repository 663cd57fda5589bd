import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own usage
from torch import nn

from stolon import nets
from stolon.errors import SettingError
from stolon.nets.heads import new_head


def weights(net):
    return sum(p.numel() for p in net.parameters())


def test_with_five_outputs_it_has_the_papers_weights():
    # papers/methods.md 2.2: 20 convolutions and a linear layer of 5 outputs, no biases
    net = nets.make("gem-resnet18", input_shape=(3, 32, 32))
    kernels = [module.weight for module in net.modules() if isinstance(module, nn.Conv2d)]
    head = nn.Linear(160, 5, bias=False)
    assert len(kernels) == 20
    assert sum(kernel.numel() for kernel in kernels) + weights(head) == 1_090_940
    assert sum(kernel.numel() for kernel in kernels) == weights(net)  # nothing but kernels is a parameter


def test_its_normalisation_has_statistics_and_no_parameters():
    net = nets.make("gem-resnet18", input_shape=(3, 32, 32))
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 20
    assert not any(norm.affine for norm in norms)
    assert all(norm.running_mean is not None for norm in norms)
    assert sum(norm.num_features for norm in norms) == 1500


def test_it_computes_what_the_released_code_writes_down():
    """The twin: GEM's model/common.py in functions, with the net's own tensors in their order."""
    net = nets.make("gem-resnet18", input_shape=(3, 32, 32), seed=1).eval()
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    tensors = net.state_dict()

    def norm(x, name):
        return F.batch_norm(x, tensors[f"{name}.running_mean"], tensors[f"{name}.running_var"])

    def conv(x, name, stride=1):
        kernel = tensors[f"{name}.weight"]
        return F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)

    x = torch.rand(2, 3, 32, 32, generator=generator)
    y = F.relu(norm(conv(x, "0"), "1"))
    sides = []
    for number in range(8):
        name, stride = str(3 + number), 2 if number in (2, 4, 6) else 1
        inner = F.relu(norm(conv(y, f"{name}.conv1", stride), f"{name}.bn1"))
        inner = norm(conv(inner, f"{name}.conv2"), f"{name}.bn2")
        y = F.relu(
            inner + (y if stride == 1 else norm(conv(y, f"{name}.downsample.0", 2), f"{name}.downsample.1"))
        )
        sides.append((y.shape[1], y.shape[2]))
    assert sides == [(20, 32)] * 2 + [(40, 16)] * 2 + [(80, 8)] * 2 + [(160, 4)] * 2
    with torch.no_grad():
        assert torch.allclose(net(x), F.avg_pool2d(y, 4).flatten(1), atol=1e-6)


def test_its_stages_are_the_stem_and_eight_blocks():
    staged = nets.split(nets.make("gem-resnet18", input_shape=(3, 32, 32)))
    assert [stage.width for stage in staged] == [20, 20, 20, 40, 40, 80, 80, 160, 160]
    assert [len(stage.kernels) for stage in staged] == [1, 2, 2, 3, 2, 3, 2, 3, 2]
    assert not any(stage.others for stage in staged)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 31), (3, 64, 64)])
def test_images_of_other_sizes_give_the_same_features(shape):
    net = nets.make("gem-resnet18", input_shape=shape)
    assert new_head(net, shape, 5, 0, "t").in_features == 160


@pytest.mark.parametrize("shape", [(3, 7, 32), (784,), (0, 32, 32)])
def test_what_is_too_small_or_no_image_is_refused(shape):
    with pytest.raises(SettingError, match="gem-resnet18: expected images"):
        nets.make("gem-resnet18", input_shape=shape)
