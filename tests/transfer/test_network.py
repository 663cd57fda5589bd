"""Structure and parameters: what tasks share, what is a task's own, and how they make a network."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.transfer.making import MECHANISMS, naive_features, normed, random_task, set_up, tiny
from torch import nn

from stolon import nets
from stolon.errors import SettingError
from stolon.nets.stages import split
from stolon.transfer.configurations import Configuration, Space
from stolon.transfer.mechanisms import Hard, find
from stolon.transfer.mechanisms.base import Mechanism
from stolon.transfer.network import Network, by_parts, copied_parts, flat, unflat

PAPERS = {
    "cifar-conv4": ((3, 32, 32), [(3, 3, 32), (3, 32, 32), (3, 32, 64), (3, 64, 64)], (4096, 64)),
    "office-conv4": (
        (3, 128, 128),
        [(11, 3, 64), (5, 64, 256), (3, 256, 256), (3, 256, 256)],
        (4096, 256, 64),
    ),
    "stl-conv6": (
        (3, 96, 96),
        [(3, 3, 32), (3, 32, 32), (3, 32, 64), (3, 64, 64), (3, 64, 128), (3, 128, 128)],
        (2048, 128, 16),
    ),
    "stl-conv9": (
        (3, 96, 96),
        [(3, 3, 32), *[(3, 32, 32)] * 2, (3, 32, 64), *[(3, 64, 64)] * 2, (3, 64, 128), *[(3, 128, 128)] * 2],
        (2048, 128, 16),
    ),
}
DECONVOLUTION = {  # (h, c_kb), c_ts of each layer: papers/methods.md 1.5
    "cifar-conv4": [(2, 16, 24), (2, 24, 48), (2, 32, 64), (2, 36, 72)],
    "office-conv4": [(6, 24, 48), (3, 64, 128), (2, 64, 128), (2, 64, 128)],
    "stl-conv6": [(2, 12, 24), (2, 24, 48), (2, 32, 64), (2, 48, 96), (2, 64, 128), (2, 96, 192)],
    "stl-conv9": [
        (2, 12, 24), (2, 24, 48), (2, 24, 48), (2, 32, 64), (2, 48, 96), (2, 48, 96), (2, 64, 128), (2, 96, 192),
        (2, 96, 192),
    ],
}  # fmt: skip


def count(layers):
    return [sum(value.numel() for value in layer.values()) for layer in layers]


@pytest.mark.parametrize("transfer", MECHANISMS)
@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_nets_have_the_papers_numbers_of_parameters(name, transfer):
    shape, kernels, tail = PAPERS[name]
    network = Network(name, shape, find(transfer))
    shared, parts = network.begin_shared(0), network.begin_task("t", 10, 0)
    assert network.depth == len(kernels)
    assert count(parts.own) == [k * k * i * o + o for k, i, o in kernels]
    if transfer == "hard":
        assert count(shared) == count(parts.own)
        assert count(parts.factors) == [0] * len(kernels)
    elif transfer == "tensor-factorization":
        assert count(shared) == [k * k * i * o for k, i, o in kernels]
        assert count(parts.factors) == [o * o + i * i + 2 * k * k + o for k, i, o in kernels]
    else:
        sizes = DECONVOLUTION[name]
        assert count(shared) == [h * h * c_kb for h, c_kb, _ in sizes]
        pairs = zip(kernels, sizes, strict=True)
        assert count(parts.factors) == [
            9 * c_kb * c_ts + c_ts + c_ts * i * o + o for (_, i, o), (_, c_kb, c_ts) in pairs
        ]
    widths = [*tail, 10]
    assert sum(p.numel() for p in parts.tail.parameters()) == sum(a * b + b for a, b in pairwise(widths))


def test_plain_weights_and_biases_begin_as_the_papers_draw_them():
    network = Network("cifar-conv4", (3, 32, 32), Hard)
    parts = network.begin_task("t", 10, 0)
    for layer in (*network.begin_shared(0), *parts.own):
        assert float(layer.get("body.0.weight", layer.get("body.0.weight/weight")).abs().max()) <= 0.1
        assert torch.equal(layer["body.0.bias"], torch.full_like(layer["body.0.bias"], 0.2))
    for part in parts.tail:
        if isinstance(part, nn.Linear):
            assert float(part.weight.detach().abs().max()) <= 0.1
            assert bool((part.bias == 0.2).all())


@pytest.mark.parametrize("transfer", MECHANISMS)
def test_beginnings_are_a_function_of_seed_and_task(transfer):
    network = Network("digits-conv", (1, 8, 8), find(transfer))

    def same(a, b):
        return all(torch.equal(value, b[name]) for name, value in a.items())

    tensors = network.begin_task("a", 3, 0).tensors()
    assert same(tensors, network.begin_task("a", 3, 0).tensors())
    for task, seed in (("b", 0), ("a", 1)):
        other = network.begin_task(task, 3, seed).tensors()
        for name, value in tensors.items():
            assert not torch.equal(value, other[name]), name
    shared = flat("shared", network.begin_shared(0))
    assert same(shared, flat("shared", network.begin_shared(0)))
    assert not any(torch.equal(v, flat("shared", network.begin_shared(1))[k]) for k, v in shared.items())


def test_own_and_shared_layers_of_a_named_net_begin_apart():
    network = Network("digits-conv", (1, 8, 8), Hard)
    shared, own = network.begin_shared(0), network.begin_task("t", 3, 0).own
    assert not torch.equal(shared[0]["body.0.weight/weight"], own[0]["body.0.weight"])


@pytest.mark.parametrize("transfer", MECHANISMS)
@pytest.mark.parametrize("text", ["11", "10", "01", "00"])
def test_a_task_is_answered_by_its_configurations_network(transfer, text):
    lesson, configuration = set_up(transfer), Configuration.from_text(text)
    x = torch.randn(5, 1, 8, 8)
    lesson.parts.tail.eval()
    with torch.no_grad():
        expected = lesson.parts.tail(naive_features(transfer, lesson, configuration, x))
        kept = lesson.network.keep(lesson.parts, configuration)
        found = lesson.network.answer(lesson.shared, kept, configuration, x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_what_a_configuration_does_not_need_is_not_kept():
    lesson = set_up("deconvolution", parts=2)
    kept = lesson.network.keep(lesson.parts, Configuration.from_text("11|00"))
    assert [bool(layer) for layer in kept.own] == [False, True]
    assert [bool(layer) for layer in kept.factors] == [True, False]
    both = lesson.network.keep(lesson.parts, Configuration.from_text("10|01"))
    assert all(both.own)
    assert all(both.factors)


def test_only_what_is_wanted_is_composed():
    lesson = set_up("deconvolution")
    made = lesson.network.compose(lesson.shared, lesson.parts, [{(True,)}, {(False,), (True,)}])
    assert [set(layer) for layer in made] == [{(True,)}, {(True,), (False,)}]
    nothing = lesson.network.keep(lesson.parts, Configuration.from_text("00"))
    made = lesson.network.compose([{}, {}], nothing, [{(False,)}, {(False,)}])
    assert made[0][False,] is nothing.own[0]


@given(st.integers(1, 4), st.integers(1, 9), st.data())
def test_parts_are_rows_of_one_or_the_other(parts, rows, data):
    variant = tuple(data.draw(st.lists(st.booleans(), min_size=parts, max_size=parts)))
    found = by_parts(variant, torch.ones(rows, 2), torch.zeros(rows, 2))[:, 0].tolist()
    bounds = [i for i, piece in enumerate(torch.arange(rows).tensor_split(parts)) for _ in piece]
    assert found == [float(variant[i]) for i in bounds]


def test_a_layer_in_parts_gives_the_shared_layers_first_channels_and_its_own_last():
    lesson = set_up("hard", parts=2)
    variant = (True, False)
    made = lesson.network.compose(lesson.shared, lesson.parts, [{variant, (True,) * 2, (False,) * 2}] * 2)
    x = torch.randn(2, 1, 8, 8)
    mixed, shared, own = (
        nn.functional.conv2d(x, layer["body.0.weight"], layer["body.0.bias"])
        for layer in (made[0][variant], made[0][True, True], made[0][False, False])
    )
    torch.testing.assert_close(mixed[:, :3], shared[:, :3])
    torch.testing.assert_close(mixed[:, 3:], own[:, 3:])


def test_a_transposed_convolution_in_parts_is_refused():
    """Its rows are input channels."""
    net = nn.Sequential(nn.ConvTranspose2d(2, 4, 3), nn.Flatten())
    assert Network(net, (2, 3, 3), find("hard")).depth == 1
    with pytest.raises(SettingError, match="parts: expected 1 with transposed"):
        Network(net, (2, 3, 3), find("hard"), parts=2)


def test_tensors_by_one_name_each_and_back():
    lesson = set_up("tensor-factorization")
    names = flat("own", lesson.parts.own)
    assert "own/1/body.0.weight" in names
    back = unflat("own", {**names, **flat("other", lesson.shared)}, 2)
    assert [sorted(layer) for layer in back] == [sorted(layer) for layer in lesson.parts.own]
    assert all(
        torch.equal(value, lesson.parts.own[i][name]) for i in range(2) for name, value in back[i].items()
    )
    back[0]["body.0.weight"].zero_()
    assert bool(lesson.parts.own[0]["body.0.weight"].any())


def test_a_copy_of_a_tasks_parts_is_its_own():
    lesson = set_up("deconvolution")
    copy = copied_parts(lesson.parts)
    before = {name: value.clone() for name, value in copy.tensors().items()}
    with torch.no_grad():
        for leaf in lesson.parts.leaves():
            leaf.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in copy.tensors().items())


def test_a_tail_comes_back_from_its_tensors():
    lesson = set_up("hard", "cifar-conv4", random_task(shape=(3, 8, 8), classes=7))
    tail = lesson.network.tail(lesson.parts.tail.state_dict())
    x = torch.randn(2, 64, 2, 2)
    assert torch.equal(tail.eval()(x), lesson.parts.tail.eval()(x))


@pytest.mark.parametrize(
    ("net", "shape", "transfer", "words"),
    [
        (nn.Linear(2, 2), (2,), "hard", "expected an nn.Sequential"),
        ("mlp-4", (3,), "deconvolution", "odd size"),
        (nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten()), (1, 4, 4), "deconvolution", "odd size"),
        (nn.Sequential(nn.Flatten(), nn.ReLU()), (1, 4, 4), "hard", "a layer to transfer"),
    ],
)
def test_nets_that_cannot_be_transferred_are_refused(net, shape, transfer, words):
    with pytest.raises(SettingError, match=words):
        Network(net, shape, find(transfer))


def test_the_giver_of_a_net_keeps_it_unchanged():
    net = tiny()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    network = Network(net, (1, 8, 8), Hard)
    network.begin_shared(0)[0]["body.0.weight/weight"].zero_()
    network.begin_task("t", 3, 0).own[0]["body.0.weight"].zero_()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())
    assert len(split(net)) == 2


@pytest.mark.parametrize("transfer", ["tensor-factorization", "deconvolution"])
def test_gains_of_normalisation_begin_at_one(transfer):
    network = Network(normed(), (1, 8, 8), find(transfer))
    for layer in network.begin_task("t", 3, 0).factors:
        assert torch.equal(layer["body.1.weight"], torch.ones_like(layer["body.1.weight"]))


def test_a_factor_that_begins_as_the_nets_own_weight_is_not_that_weight():
    class Added(Mechanism):
        name = "added"

        def shared(self, index, initial, generator):
            return {"weight": initial}

        def factors(self, index, initial, generator):
            return {"delta": initial}

        def kernel(self, index, shared, factors):
            return shared["weight"] + factors["delta"]

    parts = Network(tiny(), (1, 8, 8), Added).begin_task("t", 3, 0)
    places = [leaf.data_ptr() for leaf in parts.leaves()]
    assert len(set(places)) == len(places)


def test_every_configuration_of_a_standard_resnet_can_be_composed():
    lesson = set_up(
        "hard", lambda: nets.make("resnet18", input_shape=(3, 8, 8)), random_task(shape=(3, 8, 8))
    )
    groups = [[1, 2, 3], [4, 5], [6, 7], [8, 9]]
    space = Space.every(lesson.network.depth, groups=groups)
    assert len(space) == 16
    x = torch.randn(2, 3, 8, 8)
    scores = [
        lesson.network.answer(lesson.shared, lesson.parts, c, x) for c in (space.choices[0], space.choices[5])
    ]
    assert all(bool(torch.isfinite(found).all()) for found in scores)
    assert not torch.allclose(*scores)


def test_of_a_given_module_shared_and_own_parts_begin_nearly_alike():
    """Alike to the bit they would get the same gradients, and stay alike for ever."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten())
    network = Network(net, (1, 8, 8), find("hard"))
    shared, own = network.begin_shared(0)[0], network.begin_task("t", 2, 0).own[0]
    given = dict(net.named_parameters())
    assert torch.equal(own["body.0.weight"], given["0.weight"])
    off = (shared["body.0.weight/weight"] / given["0.weight"] - 1).abs()
    assert 0 < float(off.detach().mean()) < 0.02
    assert torch.equal(shared["body.0.bias"], network.begin_shared(0)[0]["body.0.bias"])
