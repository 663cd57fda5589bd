import pytest
import torch

from stolon import nets
from stolon.errors import SettingError, UnknownNameError
from stolon.nets.heads import new_head

STAGED = [
    "cifar-conv4",
    "office-conv4",
    "stl-conv6",
    "stl-conv6-128",
    "stl-conv9",
    "resnet18-plain",
    "resnet18",
    "resnet50",
    "gem-resnet18",
    "growth-conv",
]


@pytest.mark.parametrize("name", STAGED)
def test_a_listed_net_can_be_named_built_and_split(name):
    assert name in nets.names()
    assert nets.own(name) == nets.describe(name) == name
    net = nets.build(name, input_shape=(3, 40, 40), seed=0).eval()
    x = torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        assert torch.equal(nets.split(net)(x), net(x))


@pytest.mark.parametrize("name", ["cifar-conv5", "resnet18-", "stl-conv"])
def test_an_unknown_name_is_refused_and_the_known_are_told(name):
    for use in (nets.own, nets.make):
        with pytest.raises(UnknownNameError, match=r"known are: .*cifar-conv4.*resnet18"):
            use(name)


def test_a_module_is_copied_with_its_way_to_draw_weights():
    net = nets.make("cifar-conv4", input_shape=(3, 8, 8))
    mine = nets.build(nets.own(net), input_shape=(3, 8, 8), seed=0)
    assert torch.equal(new_head(mine, (3, 8, 8), 2, 0, "t").bias, torch.full((2,), 0.2))


def test_heads_of_other_nets_are_torchs_own():
    net = nets.make("mlp-16", input_shape=(4,))
    head = new_head(net, (4,), 3, 0, "t")
    assert head.weight.abs().max() <= 1 / 4
    assert not torch.equal(head.bias, torch.full((3,), 0.2))
    assert torch.equal(head.weight, new_head(nets.split(net), (4,), 3, 0, "t").weight)


def test_a_head_for_other_inputs_is_refused():
    with pytest.raises(SettingError, match="does not take inputs"):
        new_head(nets.make("cifar-conv4", input_shape=(3, 8, 8)), (3, 20, 20), 2, 0, "t")
