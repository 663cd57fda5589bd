"""An adapted layer is the layer with a small one beside it, added to its output."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import conv2d

from stolon.growth.adapters import adapted, new_adapter
from stolon.nets.stages import Stage

X = torch.rand(2, 4, 9, 9, generator=torch.Generator().manual_seed(0))


def stage(layer):
    return Stage(nn.Sequential(layer, nn.ReLU()), nn.Sequential())


def filled(adapter):
    g = torch.Generator().manual_seed(1)
    return {name: torch.randn(value.shape, generator=g) for name, value in adapter.items()}


def tensors(made):
    return {name: value.detach() for name, value in made.named_parameters()}


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 6, 3), nn.Linear(9, 5), nn.Conv2d(4, 6, 1)], ids=str)
def test_an_adapter_begins_as_no_change(layer):
    made = stage(layer)
    adapter = new_adapter(made, 4, 0, "a")
    found = adapted(tensors(made), adapter)
    assert all(torch.equal(found[name], value) for name, value in tensors(made).items())


@pytest.mark.parametrize(
    ("options", "offset"),
    [
        ({"kernel_size": 3, "padding": 1}, 0),
        ({"kernel_size": 3}, 1),
        ({"kernel_size": 5, "padding": 2, "stride": 2}, 0),
        ({"kernel_size": 2, "bias": False}, 1),
        ({"kernel_size": 3, "dilation": 2}, 2),
        ({"kernel_size": 3, "groups": 2, "padding": 1}, 0),
        ({"kernel_size": (1, 3), "padding": (0, 1)}, 0),
    ],
    ids=str,
)
def test_of_a_convolution_it_is_a_1_x_1_convolution_beside_it(options, offset):
    layer = nn.Conv2d(4, 6, **options)
    made = stage(layer)
    adapter = filled(new_adapter(made, 4, 0, "a"))
    assert set(adapter) == {"body.0.weight:middle"} | (
        {"body.0.bias:shift"} if "bias" not in options else set()
    )
    found = functional_call(made, adapted(tensors(made), adapter), (X,))
    plain = layer(X)
    point = adapter["body.0.weight:middle"][..., None, None]
    bias = adapter.get("body.0.bias:shift")
    beside = conv2d(
        X[..., offset:, offset:],
        point,
        bias,
        stride=options.get("stride", 1),
        groups=options.get("groups", 1),
    )
    height, width = plain.shape[2:]
    torch.testing.assert_close(found, (plain + beside[..., :height, :width]).relu())


def test_of_a_fully_connected_layer_it_is_a_bottleneck_beside_it():
    layer = nn.Linear(9, 5)
    made = stage(layer)
    adapter = filled(new_adapter(made, 1, 0, "a"))
    x = X[0, 0]
    beside = (x @ adapter["body.0.weight:down"].T) @ adapter["body.0.weight:up"].T
    found = functional_call(made, adapted(tensors(made), adapter), (x,))
    torch.testing.assert_close(found, (layer(x) + beside + adapter["body.0.bias:shift"]).relu())


def test_a_bottleneck_has_at_most_half_the_layers_numbers():
    made = stage(nn.Linear(40, 30, bias=False))
    for rank, found in ((4, 4), (100, 8)):
        adapter = new_adapter(made, rank, 0, "a")
        assert adapter["body.0.weight:up"].shape == (30, found)
        assert sum(value.numel() for value in adapter.values()) <= 40 * 30 / 2


def test_normalisation_and_blocks_of_several_convolutions_need_no_care():
    made = Stage(
        nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3), nn.ReLU()), nn.Sequential()
    )
    adapter = filled(new_adapter(made, 4, 0, "a"))
    assert set(adapter) == {f"body.{i}.{name}" for i in (0, 2) for name in ("weight:middle", "bias:shift")}
    found = adapted(tensors(made), adapter)
    assert found["body.1.weight"] is not adapter
    assert functional_call(made.eval(), found, (X,)).shape == made(X).shape
    assert torch.equal(found["body.1.weight"], made.body[1].weight)


def test_what_is_drawn_is_a_function_of_the_purpose():
    made = stage(nn.Linear(9, 5))
    one, same, other = (new_adapter(made, 2, 0, name) for name in ("a", "a", "b"))
    assert torch.equal(one["body.0.weight:down"], same["body.0.weight:down"])
    assert not torch.equal(one["body.0.weight:down"], other["body.0.weight:down"])
