"""The small convolutional nets: their sizes, and what they refuse."""

import pytest
import torch
from torch import nn

from stolon import nets
from stolon.errors import SettingError


@pytest.mark.parametrize(
    ("side", "flat", "parameters"), [(32, 1024, 6_503_872), (72, 12544, 6_503_872 + (12544 - 1024) * 2048)]
)
def test_growth_conv_has_the_papers_size_and_five_layers(side, flat, parameters):
    """papers/methods.md 4.1: of 32 x 32 pixels 29, 14, 12, 6, 5 and 2 are left; 12544 inputs are those of 72 x 72."""
    with torch.device("meta"):
        net = nets.make("growth-conv", input_shape=(3, side, side))
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert next(module for module in net if isinstance(module, nn.Linear)).in_features == flat
    staged = nets.split(net, linear=True)
    assert [stage.width for stage in staged] == [64, 128, 256, 2048, 2048]
    assert [len(stage.pool) for stage in staged] == [1, 1, 2, 0, 0]
    assert net(torch.zeros(2, 3, side, side, device="meta")).shape == (2, 2048)


def test_pooling_before_the_activation_as_in_the_authors_code_gives_the_same_numbers():
    net = nets.make("growth-conv", input_shape=(1, 19, 19)).eval()
    x = torch.rand(2, 1, 19, 19)
    order = [0, 2, 1, 3, 5, 4, 6, 8, 7, *range(9, len(net))]
    with torch.no_grad():
        assert torch.equal(net(x), nn.Sequential(*(net[i] for i in order))(x))


@pytest.mark.parametrize("shape", [(3, 18, 40), (3, 40, 18), (32, 32), (0, 32, 32)])
def test_growth_conv_refuses_what_is_too_small_or_no_image(shape):
    with pytest.raises(SettingError, match="19 x 19 pixels or more"):
        nets.make("growth-conv", input_shape=shape)
