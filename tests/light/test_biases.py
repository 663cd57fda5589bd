import pytest
import torch
from torch import nn

from stolon.errors import BackboneError
from stolon.light.biases import BiasSites
from stolon.nets.backbone import Backbone, timm_model


def small():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(),
        nn.Flatten(), nn.Linear(4 * 4 * 4, 6),
    )  # fmt: skip
    return Backbone(net, None, "small")


def test_there_is_one_per_output_channel_of_every_layer():
    assert BiasSites(small().module).total == 4 + 4 + 6
    assert BiasSites(small().module, "pointwise").total == 4 + 6


def test_zero_biases_reproduce_the_backbone_bit_for_bit():
    backbone, x = small(), torch.rand(3, 1, 8, 8)
    sites = BiasSites(backbone.module)
    assert torch.equal(backbone.features(x, sites.parameters(sites.zeros())), backbone.features(x))


def test_a_bias_is_added_to_its_channel_and_to_no_other():
    """Equation 1 by hand: y = Conv(x) + b + B, before what follows."""
    conv = nn.Conv2d(2, 3, 3)
    backbone = Backbone(conv, None, "conv")
    sites = BiasSites(conv)
    x = torch.rand(2, 2, 5, 5)
    bias = torch.tensor([0.0, 0.7, 0.0])
    seen = torch.func.functional_call(conv, sites.parameters(bias), (x,)) - conv(x)
    assert torch.allclose(seen[:, 1], torch.tensor(0.7), atol=1e-6)
    assert torch.equal(seen[:, [0, 2]], torch.zeros_like(seen[:, [0, 2]]))
    assert torch.allclose(
        backbone.features(x, sites.parameters(bias)),
        (conv(x) + bias.view(1, 3, 1, 1)).mean((2, 3)),
        atol=1e-6,
    )


def test_gradients_reach_every_bias_and_no_weight():
    backbone = small()
    sites = BiasSites(backbone.module)
    biases = sites.zeros().requires_grad_()
    backbone.features(torch.rand(8, 1, 8, 8), sites.parameters(biases)).square().sum().backward()
    assert biases.grad is not None
    assert (biases.grad != 0).sum() >= 10
    assert all(p.grad is None for p in backbone.module.parameters())


def test_the_backbone_is_as_it_was_afterwards():
    backbone, x = small(), torch.rand(3, 1, 8, 8)
    before = backbone.features(x)
    sites = BiasSites(backbone.module)
    backbone.features(x, sites.parameters(torch.ones(sites.total)))
    assert torch.equal(before, backbone.features(x))
    assert backbone.module[0].bias is None


def test_a_module_without_such_layers_is_refused():
    with pytest.raises(BackboneError, match="found none"):
        BiasSites(nn.ReLU())


def test_the_count_of_the_papers_backbone():
    """methods.md 3.2: 50,312 biases after every convolution of timm's xception."""
    module = timm_model("timm:legacy_xception", pretrained=False, options={})
    assert BiasSites(module).total == 50_312
