import copy
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from stolon import nets
from stolon.errors import SettingError
from stolon.nets.pooling import SameMaxPool2d
from stolon.nets.stages import CONVOLUTIONS, Stage, Staged, split


class Residual(nn.Module):
    """A block of a user's own."""

    def __init__(self, width):
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.last = nn.Conv2d(width, width, 1)

    def forward(self, x):
        return x + self.last(self.inner(x))


class Reversed(nn.Sequential):
    """Not what it looks like: its forward is its own."""

    def forward(self, x):
        for module in reversed(self):
            x = module(x)
        return x


class Classifier(nn.Module):
    """A tail of a user's own."""

    def __init__(self, inputs):
        super().__init__()
        self.linear = nn.Linear(inputs, 3)

    def forward(self, x):
        return self.linear(x.flatten(1))


def flat(module):
    """All modules in the order in which they are called."""
    if type(module).forward is not nn.Sequential.forward:
        return [module]
    return [leaf for child in module for leaf in flat(child)]


def shape(staged):
    names = [([type(m).__name__ for m in s.body], [type(m).__name__ for m in s.pool]) for s in staged]
    return names, [type(m).__name__ for m in staged.tail]


def test_a_nested_net_is_cut_where_its_layers_begin():
    net = nn.Sequential(
        nn.Sequential(nn.Identity(), nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        OrderedNet(
            block=Residual(8),
            more=nn.Sequential(nn.Dropout2d(0.1), SameMaxPool2d(2), nn.Dropout(0.2)),
        ),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.PReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(64, 10),
        nn.ReLU(),
    )
    staged = split(net)
    assert shape(staged) == (
        [
            (["Identity", "Conv2d", "BatchNorm2d", "ReLU"], ["MaxPool2d"]),
            (["Residual", "Dropout2d"], ["SameMaxPool2d", "Dropout"]),
            (["Conv2d", "PReLU"], ["AdaptiveAvgPool2d"]),
        ],
        ["Flatten", "Dropout", "Linear", "ReLU"],
    )
    first, second, third = staged
    assert first.kernels == ("body.1.weight",)
    assert first.others == ("body.1.bias", "body.2.weight", "body.2.bias")
    assert second.kernels == ("body.0.inner.0.weight", "body.0.last.weight")
    assert third.others == ("body.0.bias", "body.1.weight")
    assert [stage.width for stage in staged] == [8, 8, 16]
    assert len(staged) == 3
    assert staged(torch.rand(2, 3, 14, 14)).shape == (2, 10)


def OrderedNet(**modules):  # noqa: N802 - reads like the class it makes
    return nn.Sequential(OrderedDict(modules))


def test_nothing_is_copied_and_nothing_changes():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    before = str(net), {key: value.clone() for key, value in net.state_dict().items()}
    staged = split(net)
    assert {id(p) for p in staged.parameters()} == {id(p) for p in net.parameters()}
    assert str(net) == before[0]
    assert all(torch.equal(value, before[1][key]) for key, value in net.state_dict().items())


def test_kernels_and_others_name_every_parameter_of_a_stage_once():
    for name in ("digits-conv", "mlp-8-8", "resnet18", "stl-conv6"):
        for stage in split(nets.make(name, input_shape=(3, 32, 32))):
            names = [*stage.kernels, *stage.others]
            assert sorted(names) == sorted(dict(stage.named_parameters()))
            assert all(dict(stage.named_parameters())[kernel].ndim >= 2 for kernel in stage.kernels)


def test_a_net_without_convolutions_has_a_stage_per_linear_layer_and_no_tail():
    staged = split(nets.make("lenet-300-100", input_shape=(1, 28, 28)))
    assert shape(staged) == ([(["Flatten", "Linear", "ReLU"], []), (["Linear", "ReLU"], [])], [])
    assert [stage.width for stage in staged] == [300, 100]
    assert [stage.kernels for stage in staged] == [("body.1.weight",), ("body.0.weight",)]


def test_a_blocks_own_linear_layers_stay_with_its_convolution():
    class Squeeze(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.gate = nn.Conv2d(3, 4, 3), nn.Linear(4, 4)

        def forward(self, x):
            y = self.conv(x)
            return y * self.gate(y.mean((2, 3)))[:, :, None, None]

    staged = split(nn.Sequential(Squeeze(), nn.ReLU(), nn.Conv2d(4, 4, 1), Classifier(16)))
    assert [len(stage.kernels) for stage in staged] == [2, 1]
    assert [type(module) for module in staged.tail] == [Classifier]
    assert staged(torch.rand(2, 3, 4, 4)).shape == (2, 3)


def test_what_has_a_state_behind_a_pooling_stays_in_the_body():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.BatchNorm2d(2), nn.ReLU(), nn.AvgPool2d(2))
    assert shape(split(net)) == ([(["Conv2d", "MaxPool2d", "BatchNorm2d", "ReLU"], ["AvgPool2d"])], [])


def test_a_sequential_with_a_forward_of_its_own_stays_whole():
    inner = Reversed(nn.ReLU(), nn.Conv2d(1, 2, 3))
    net = nn.Sequential(inner, nn.Flatten())
    staged = split(net)
    assert shape(staged)[0] == [(["Reversed"], [])]
    x = torch.randn(1, 1, 5, 5)
    assert torch.equal(staged(x), net(x))


def test_stateless_modules_may_occur_twice():
    relu = nn.ReLU()
    net = nn.Sequential(nn.Conv2d(1, 2, 3), relu, nn.Conv2d(2, 2, 3), relu, nn.Flatten())
    x = torch.randn(2, 1, 6, 6)
    assert torch.equal(split(net)(x), net(x))


WIDTHS = st.sampled_from([2, 3])
BETWEEN = st.sampled_from(
    ["norm", "group", "relu", "prelu", "max", "same", "average", "dropout", "identity", "residual"]
)


@st.composite
def stacks(draw):
    """A random net for inputs [B, 3, 9, 9], some of it nested."""
    width, modules = 3, []
    make = {
        "norm": nn.BatchNorm2d,
        "group": lambda width: nn.GroupNorm(1, width),
        "relu": lambda _: nn.ReLU(),
        "prelu": lambda _: nn.PReLU(),
        "max": lambda _: nn.MaxPool2d(2, ceil_mode=True),
        "same": lambda _: SameMaxPool2d(3),
        "average": lambda _: nn.AvgPool2d(2, ceil_mode=True),
        "dropout": lambda _: nn.Dropout(0.5),
        "identity": lambda _: nn.Identity(),
        "residual": Residual,
    }
    for _ in range(draw(st.integers(1, 4))):
        part = [make[kind](width) for kind in draw(st.lists(BETWEEN, max_size=2))]
        outputs = draw(WIDTHS)
        part.append(nn.Conv2d(width, outputs, 3, padding=1))
        width = outputs
        part += [make[kind](width) for kind in draw(st.lists(BETWEEN, max_size=3))]
        modules += [nn.Sequential(*part)] if draw(st.booleans()) else part
    if draw(st.booleans()):
        modules.append(nn.AdaptiveAvgPool2d(2))
        modules.append(nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(4 * width, 5), nn.ReLU()))
    return nn.Sequential(*modules)


@given(stacks())
@settings(max_examples=60)
def test_any_stack_computes_the_same_bit_for_bit_as_stages(net):
    net.eval()
    staged = split(net)
    x = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        assert torch.equal(staged(x), net(x))
    parts = [part for stage in staged for part in (*stage.body, *stage.pool)]
    assert [id(m) for m in (*parts, *staged.tail)] == [id(m) for m in flat(net)]
    for stage in staged:
        layers = [
            module for module in stage.body if any(isinstance(m, CONVOLUTIONS) for m in module.modules())
        ]
        assert len(layers) == 1  # one layer each, at its head but in the first stage
        assert stage is staged.layers[0] or layers[0] is stage.body[0]
        assert not stage.pool.state_dict()
        assert len(stage.pool) == 0 or "Pool" in type(stage.pool[0]).__name__


def test_in_training_it_updates_the_very_statistics():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten())
    twin = copy.deepcopy(net)
    x = torch.randn(4, 1, 5, 5)
    assert torch.equal(split(net).train()(x), twin.train()(x))
    assert torch.equal(net[1].running_mean, twin[1].running_mean)


def test_it_can_be_copied_and_its_copy_is_its_own():
    staged = split(nets.make("cifar-conv4", input_shape=(3, 8, 8)))
    twin = copy.deepcopy(staged)
    assert isinstance(twin, Staged)
    assert not {id(p) for p in staged.parameters()} & {id(p) for p in twin.parameters()}
    assert twin.initialise is staged.initialise is not None


SHARED = nn.Conv2d(2, 2, 1)
TIED = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
TIED[2].weight = TIED[0].weight


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (nn.Conv2d(1, 2, 3), "expected an nn.Sequential, .* found Conv2d"),
        (Reversed(nn.Conv2d(1, 2, 3)), "expected an nn.Sequential, .* found Reversed"),
        (nn.Sequential(), "a layer to transfer, found nothing"),
        (nn.Sequential(nn.Flatten(), nn.ReLU()), "a layer to transfer, found Flatten, ReLU"),
        (nn.Sequential(SHARED, nn.ReLU(), SHARED), "once, found '0.weight' again as '2.weight'"),
        (TIED, "once, found '0.weight' again as '2.weight'"),
        (
            nn.Sequential(
                nn.Conv2d(1, 2, 3),
                nn.Sequential(nn.Flatten(), nn.Unflatten(1, (2, 3, 3))),
                nn.Conv2d(2, 2, 3),
            ),
            "found '2' after '1.0'",
        ),
        (nn.Sequential(nn.Linear(4, 4), nn.Conv1d(1, 1, 1)), "found '1' after '0'"),
        (nn.Sequential(weight_norm(nn.Conv2d(1, 2, 3))), "found a parametrised one"),
        (nn.Sequential(nn.LazyConv2d(2, 3)), "found LazyConv2d without any"),
    ],
)
def test_what_cannot_be_split_is_refused_and_left_as_it_was(net, words):
    before = str(net)
    with pytest.raises(SettingError, match=words):
        split(net)
    assert str(net) == before


def test_a_stage_of_ones_own_keeps_the_laws():
    with pytest.raises(SettingError, match="pool: expected modules without parameters"):
        Stage(nn.Sequential(nn.Conv2d(1, 2, 3)), nn.Sequential(nn.BatchNorm2d(2, affine=False)))
    with pytest.raises(SettingError, match=r"body: expected a convolution or nn\.Linear"):
        Stage(nn.Sequential(nn.ReLU()), nn.Sequential())


# Fully connected layers as stages


def test_fully_connected_layers_can_be_stages_too():
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Conv2d(8, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(16 * 16, 10),
        nn.ReLU(),
        nn.Linear(10, 4),
    )
    staged = split(net, linear=True)
    assert shape(staged) == (
        [
            (["Conv2d", "ReLU"], ["MaxPool2d"]),
            (["Conv2d", "BatchNorm2d", "ReLU"], ["Flatten", "Dropout"]),
            (["Linear", "ReLU"], []),
            (["Linear"], []),
        ],
        [],
    )
    assert [stage.width for stage in staged] == [8, 16, 10, 4]
    x = torch.rand(2, 3, 14, 14)
    assert torch.equal(staged.eval()(x), net.eval()(x))
    assert len(split(net)) == 2  # not unless it is asked for


@pytest.mark.parametrize(
    "name", ["digits-conv", "mlp-8-8", "resnet18", "stl-conv6", "growth-conv", "resnet18-plain"]
)
def test_with_fully_connected_stages_there_is_no_tail_and_nothing_else_changes(name):
    net = nets.make(name, input_shape=(3, 36, 36)).eval()
    staged = split(net, linear=True)
    assert len(staged.tail) == 0
    linear = sum(isinstance(module, nn.Linear) for module in net.modules())
    assert len(staged) == (linear if name == "mlp-8-8" else len(split(net)) + linear)
    assert {id(p) for p in staged.parameters()} == {id(p) for p in net.parameters()}
    x = torch.rand(2, 3, 36, 36)
    with torch.no_grad():
        assert torch.equal(staged(x), net(x))


def test_a_flatten_in_front_belongs_to_the_first_stage():
    staged = split(nets.make("lenet-300-100"), linear=True)
    assert shape(staged) == ([(["Flatten", "Linear", "ReLU"], []), (["Linear", "ReLU"], [])], [])
