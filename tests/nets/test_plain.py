import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, max_pool2d

from stolon import nets
from stolon.errors import SettingError
from stolon.measure import costs
from stolon.nets.heads import new_head
from stolon.nets.plain import GROUPS, NAMES

SHAPES = {
    "cifar-conv4": (3, 32, 32),
    "office-conv4": (3, 128, 128),
    "stl-conv6": (3, 96, 96),
    "stl-conv6-128": (3, 96, 96),
    "stl-conv9": (3, 96, 96),
    "resnet18-plain": (3, 32, 32),
}


def test_all_of_them_are_listed():
    assert set(SHAPES) == set(NAMES)
    assert set(NAMES) <= set(nets.names())


@pytest.mark.parametrize(
    ("name", "flat", "hidden", "convolutions"),
    [
        # methods.md 1.2: flat size, hidden layers; per convolution k * k * inputs * outputs + outputs, by hand
        ("cifar-conv4", 4096, [64], [896, 9248, 18496, 36928]),
        ("office-conv4", 4096, [256, 64], [23296, 409856, 590080, 590080]),
        ("stl-conv6", 2048, [128, 16], [896, 9248, 18496, 36928, 73856, 147584]),
        ("stl-conv6-128", 2048, [128], [896, 9248, 18496, 36928, 73856, 147584]),
        ("stl-conv9", 2048, [128, 16], [896, *[9248] * 2, 18496, *[36928] * 2, 73856, *[147584] * 2]),
        (
            "resnet18-plain",
            2048,
            [1000],
            # conv 1 alone, then the pairs (2,3) ... (16,17)
            [9472, 73856, 73856, 221440, 295168, 885248, 1180160, 3539968, 4719616],
        ),
    ],
)
def test_sizes_are_the_tables(name, flat, hidden, convolutions):
    net = nets.make(name, input_shape=SHAPES[name])
    staged = nets.split(net).eval()
    assert [sum(p.numel() for p in stage.parameters()) for stage in staged] == convolutions
    kinds = [type(module) for module in staged.tail]
    assert kinds == [nn.Flatten, nn.Dropout, *[nn.Linear, nn.ReLU] * len(hidden)]
    assert staged.tail[1].p == 0.5
    linear = [module for module in staged.tail if isinstance(module, nn.Linear)]
    assert linear[0].in_features == flat
    assert [module.out_features for module in linear] == hidden
    features = staged(torch.rand(2, *SHAPES[name]))
    assert features.shape == (2, hidden[-1])
    kernels = [dict(stage.named_parameters())[stage.kernels[0]].shape[-1] for stage in staged]
    assert kernels == {"office-conv4": [11, 5, 3, 3], "resnet18-plain": [7, *[3] * 8]}.get(
        name, [3] * len(convolutions)
    )


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("cifar-conv4", [32, 16, 16, 8]),
        ("office-conv4", [43, 15, 8, 4]),
        ("stl-conv6", [96, 32, 32, 11, 11, 4]),
        ("stl-conv9", [96, 96, 32, 32, 32, 11, 11, 11, 4]),
        ("resnet18-plain", [16, 16, 16, 8, 8, 4, 4, 2, 2]),
    ],
)
def test_images_shrink_as_in_the_table(name, sides):
    x = torch.rand(1, *SHAPES[name])
    found = []
    for stage in nets.split(nets.make(name, input_shape=SHAPES[name])):
        x = stage(x)
        found.append(x.shape[-1])
    assert found == sides


def test_macs_of_the_first_net_are_those_counted_by_hand():
    net = nets.make("cifar-conv4", input_shape=SHAPES["cifar-conv4"])
    by_hand = 1024 * (27 * 32 + 288 * 32) + 256 * (288 * 64 + 576 * 64) + 4096 * 64
    assert costs.macs(net, (3, 32, 32)).forward == by_hand


def naive_resnet18(parameters, x):
    """The text of methods.md 1.2, convolution by convolution, counted from 1."""
    skips = {3: 2, 5: 4, 9: 8, 13: 12, 17: 16}
    inputs = {}
    for number in range(1, 18):
        inputs[number] = x
        weight, bias = parameters[2 * number - 2], parameters[2 * number - 1]
        x = conv2d(x, weight, bias, padding=3 if number == 1 else 1).clamp(min=0)
        if number in skips:
            x = x + inputs[skips[number]]
        if number in (1, 6, 10, 14):
            x = max_pool2d(x, 2)
    x = x.flatten(1)
    return (x @ parameters[34].T + parameters[35]).clamp(min=0)


def test_the_plain_resnet_is_the_text_of_the_method_sheet():
    net = nets.make("resnet18-plain", input_shape=(3, 16, 16)).eval().double()
    parameters = [p.detach() for p in net.parameters()]
    assert len(parameters) == 36
    widths = [p.shape[0] for p in parameters if p.ndim == 4]
    assert widths == [64] * 5 + [128] * 4 + [256] * 4 + [512] * 4
    x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(net(x), naive_resnet18(parameters, x), rtol=1e-9)


def test_groups_are_partitions_of_the_stages_and_the_papers_counts_of_convolutions():
    counts = {
        4: [5, 4, 4, 4],
        5: [5, 4, 4, 2, 2],
        6: [5, 4, 2, 2, 2, 2],
        7: [5, 2, 2, 2, 2, 2, 2],
        8: [3, 2, 2, 2, 2, 2, 2, 2],
    }
    per_stage = [1] + [2] * 8
    groups = GROUPS["resnet18-plain"]
    assert {n: [sum(per_stage[s - 1] for s in group) for group in groups[n]] for n in groups} == counts
    for name, partitions in GROUPS.items():
        stages = len(nets.split(nets.make(name, input_shape=(3, 32, 32))))
        for n, partition in partitions.items():
            assert len(partition) == n
            assert [stage for group in partition for stage in group] == list(range(1, stages + 1))


def test_weights_are_the_papers_truncated_normal_and_biases_are_a_fifth():
    net = nets.make("cifar-conv4", input_shape=(3, 32, 32))
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            assert torch.equal(parameter, torch.full_like(parameter, 0.2))
        else:
            assert parameter.abs().max() <= 0.1
            # sigma 0.05 cut at 2 sigma has a standard deviation of 0.8796 * 0.05
            assert float(parameter.detach().std()) == pytest.approx(0.04398, rel=0.06)


def test_heads_are_drawn_as_the_net_is_and_others_as_ever():
    net = nets.make("cifar-conv4", input_shape=(3, 8, 8))
    head = new_head(net, (3, 8, 8), 10, 0, "t")
    assert torch.equal(head.bias, torch.full((10,), 0.2))
    assert head.weight.abs().max() <= 0.1  # torch's own go to 1 / sqrt(64)
    assert torch.equal(head.weight, new_head(nets.split(net), (3, 8, 8), 10, 0, "t").weight)
    assert not torch.equal(head.weight, new_head(net, (3, 8, 8), 10, 1, "t").weight)


@pytest.mark.parametrize("name", ["cifar-conv4", "stl-conv9"])
def test_weights_are_a_function_of_seed_and_name(name):
    first, again, other = (
        nets.make(name, input_shape=(3, 32, 32), seed=seed).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])
    assert not torch.equal(
        first["0.weight"], nets.make("stl-conv6", input_shape=(3, 32, 32)).state_dict()["0.weight"]
    )


def test_nothing_is_drawn_from_the_global_generator():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    net = nets.make("cifar-conv4", input_shape=(3, 8, 8))
    new_head(net, (3, 8, 8), 10, 0, "t")
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("cifar-conv4", (1, 28, 28)),
        ("cifar-conv4", (3, 4, 4)),
        ("office-conv4", (3, 50, 70)),
        ("stl-conv6", (3, 32, 32)),
        ("resnet18-plain", (1, 17, 19)),
    ],
)
def test_other_sizes_work_too(name, shape):
    net = nets.make(name, input_shape=shape).eval()
    assert net(torch.rand(2, *shape)).ndim == 2


@pytest.mark.parametrize(
    ("name", "shape", "least"),
    [
        ("cifar-conv4", (3, 3, 32), 4),
        ("office-conv4", (3, 35, 35), 36),
        ("stl-conv6", (3, 26, 26), 27),
        ("stl-conv9", (3, 96), 27),
        ("resnet18-plain", (3, 15, 15), 16),
        ("resnet18-plain", (0, 32, 32), 16),
        ("cifar-conv4", (784,), 4),
    ],
)
def test_what_is_too_small_or_no_image_is_refused(name, shape, least):
    with pytest.raises(SettingError, match=f"{name}: expected images .* of {least} x {least}"):
        nets.make(name, input_shape=shape)
