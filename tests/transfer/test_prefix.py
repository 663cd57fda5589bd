"""Many configurations together give what one forward pass per configuration gives (the naive twin in making.py)."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.transfer.making import MECHANISMS, naive_features, normed, random_task, set_up, tiny
from torch import nn

from stolon import nets
from stolon.nets.plain import GROUPS
from stolon.transfer import prefix
from stolon.transfer.configurations import Configuration, Space
from stolon.transfer.prefix import Plan


class Block(nn.Module):
    """A residual block whose activation is in place, even on its input."""

    def __init__(self, width):
        super().__init__()
        self.act = nn.LeakyReLU(0.5, inplace=True)
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        y = self.act(x)
        return y + self.conv(y)


def three():
    """Three layers: strided and dilated, with in-place and other activations and pooling."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.GELU(), nn.AvgPool2d(2, stride=1),
        nn.Conv2d(6, 5, 3, padding=2, dilation=2), nn.LeakyReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


STRANGE = {
    "one layer": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten()), (1, 8, 8)),
    "three layers": (three, (1, 8, 8)),
    "fully connected": (lambda: nets.make("mlp-8-6-5", input_shape=(1, 3, 3)), (1, 3, 3)),
    "conv1d": (
        lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(4, 6, 1), nn.Flatten()),
        (2, 12),
    ),
    "conv3d": (
        lambda: nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.Conv3d(2, 4, 1), nn.Flatten()),
        (1, 4, 4, 4),
    ),
    "transposed": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 3, 3), nn.ReLU(), nn.Flatten()),
        (1, 5, 5),
    ),
    "grouped": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.Flatten()),
        (2, 8, 8),
    ),
    "leading pooling": (
        lambda: nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1),
                              nn.Flatten()),
        (1, 8, 8),
    ),
    "reflected padding": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect"), nn.Tanh(), nn.Conv2d(4, 4, 3, padding="same"),
            nn.Flatten(),
        ),
        (1, 6, 6),
    ),
    "across channels": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.Softmax(1), nn.Conv2d(4, 6, 1), nn.GLU(1), nn.Conv2d(3, 4, 1),
            nn.PReLU(4), nn.Flatten(),
        ),
        (1, 6, 6),
    ),
    "layer norm": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 4, 3),
                              nn.LayerNorm([4, 2, 2]), nn.ReLU(), nn.Flatten()),
        (1, 6, 6),
    ),
    "blocks": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nets.plain.PlainPair(4, 4), nets.plain.PlainPair(4, 8),
                              nn.Flatten()),
        (1, 8, 8),
    ),
    "batch norm": (normed, (1, 8, 8)),
    "batch norm without statistics": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU(),
                              nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, affine=False, track_running_stats=False),
                              nn.Flatten()),
        (1, 8, 8),
    ),
}  # fmt: skip


def together(lesson, choices, x):
    """Features by configuration [K, B, ...], the fast way."""
    plan = Plan(choices)
    wanted = [{variant for variant, _ in level.variants} for level in plan.levels]
    made = lesson.network.compose(lesson.shared, lesson.parts, wanted)
    nodes = lesson.network.features(made, plan, x)
    return plan.in_order(nodes.unflatten(0, (-1, len(x))))


def one_by_one(transfer, lesson, choices, x):
    return torch.stack([naive_features(transfer, lesson, choice, x.clone()) for choice in choices])


def check(transfer, lesson, choices, n=3, tolerance=1e-5):
    x = torch.randn(n, *lesson.task.shape, generator=torch.Generator().manual_seed(5))
    for stage in lesson.network.stages:
        stage.train()
    found, expected = together(lesson, choices, x), one_by_one(transfer, lesson, choices, x)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def lesson_of(name, transfer="hard", parts=1):
    net, shape = STRANGE[name]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return set_up(transfer, net, random_task(shape=shape), parts)


@pytest.mark.parametrize("transfer", MECHANISMS)
@pytest.mark.parametrize("name", ["one layer", "three layers", "grouped", "leading pooling", "blocks"])
def test_all_configurations_at_once_with_every_mechanism(transfer, name):
    lesson = lesson_of(name, transfer)
    check(transfer, lesson, Space.every(lesson.network.depth).choices)


STRANGERS = [name for name in STRANGE if not name.startswith("batch norm")]


@pytest.mark.parametrize("name", STRANGERS)
@pytest.mark.parametrize("transfer", ["hard", "tensor-factorization"])
def test_all_configurations_at_once_of_any_net(name, transfer):
    lesson = lesson_of(name, transfer)
    check(transfer, lesson, Space.every(lesson.network.depth).choices)


@pytest.mark.parametrize("transfer", MECHANISMS)
@pytest.mark.parametrize("groups", [[[1, 2], [3]], [[1, 3], [2]], [[3, 2, 1]]])
def test_groups_adjacent_or_not(transfer, groups):
    lesson = lesson_of("three layers", transfer)
    check(transfer, lesson, Space.every(3, groups=groups).choices)


@pytest.mark.parametrize("transfer", MECHANISMS)
@pytest.mark.parametrize("parts", [2, 3])
def test_parts_of_layers(transfer, parts):
    lesson = set_up(transfer, tiny, parts=parts)
    check(transfer, lesson, Space.every(2, parts=parts).choices)


@pytest.mark.parametrize("name", ["grouped", "fully connected", "blocks", "conv1d"])
def test_parts_of_layers_of_other_nets(name):
    lesson = lesson_of(name, parts=2)
    check("hard", lesson, Space.every(lesson.network.depth, parts=2).choices)


def test_more_parts_than_channels_leave_some_parts_empty():
    lesson = set_up("hard", tiny, parts=3)
    lesson_small = set_up("hard", lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), parts=3)
    assert lesson.network.depth == 2
    check("hard", lesson_small, Space.every(1, parts=3).choices)


@settings(max_examples=40)
@given(
    st.sampled_from(MECHANISMS),
    st.sets(st.integers(0, 63), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
)
def test_any_configurations_in_any_order(transfer, which, random):
    space = Space.every(3, parts=2)
    choices = [space.choices[i] for i in which]
    random.shuffle(choices)
    check(transfer, lesson_of("three layers", transfer, parts=2), choices)


PAPERS = {
    "cifar-conv4": ((3, 32, 32), None),
    "office-conv4": ((3, 64, 64), None),
    "stl-conv6": ((3, 48, 48), None),
    "stl-conv9": ((3, 32, 32), GROUPS["stl-conv9"][3]),
    "resnet18-plain": ((3, 16, 16), GROUPS["resnet18-plain"][4]),
}


def beginning():
    """The papers' ResNet-18 up to where it is too wide for kernels by explicit sums, as wide as it is: three stages."""
    return nn.Sequential(*list(nets.make("resnet18-plain", input_shape=(3, 16, 16)))[:5], nn.Flatten())


WHOLE = [
    *((name, "hard") for name in PAPERS),
    *(
        (name, transfer)
        for name in ("cifar-conv4", "stl-conv9")
        for transfer in MECHANISMS
        if transfer != "hard"
    ),
    *((beginning, transfer) for transfer in MECHANISMS),
]


@pytest.mark.parametrize(("net", "transfer"), WHOLE)
def test_the_papers_nets_whole_and_in_their_groups(net, transfer):
    """In double precision, so that nothing but the order of sums can differ."""
    shape, groups = PAPERS.get(net, ((3, 8, 8), None))
    lesson = set_up(transfer, net, random_task(shape=shape), dtype=torch.float64)
    choices = Space.every(lesson.network.depth, groups=groups).choices
    chosen = [choices[i] for i in (0, len(choices) // 3, len(choices) // 2, len(choices) - 1)]
    with torch.no_grad():
        x = torch.randn(2, *shape, dtype=torch.float64)
        found, expected = together(lesson, chosen, x), one_by_one(transfer, lesson, chosen, x)
    largest = float(expected.abs().max())
    assert largest > 0
    torch.testing.assert_close(found / largest, expected / largest, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("transfer", MECHANISMS)
@pytest.mark.parametrize("name", ["three layers", "blocks"])
def test_gradients_are_those_of_one_by_one(transfer, name):
    lesson = lesson_of(name, transfer)
    choices = Space.every(lesson.network.depth).choices
    x = torch.randn(3, *lesson.task.shape, generator=torch.Generator().manual_seed(5))
    layers = (*lesson.shared, *lesson.parts.own, *lesson.parts.factors)
    leaves = [tensor.requires_grad_() for layer in layers for tensor in layer.values()]
    weight = torch.randn(together(lesson, choices, x).shape, generator=torch.Generator().manual_seed(6))
    fast = torch.autograd.grad((together(lesson, choices, x) * weight).sum(), leaves)
    slow = torch.autograd.grad((one_by_one(transfer, lesson, choices, x) * weight).sum(), leaves)
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()) + 1e-7)


NORMED = [name for name in STRANGE if name not in STRANGERS]


@pytest.mark.parametrize("name", NORMED)
def test_batch_normalisation_takes_each_configurations_own_batch(name):
    lesson = lesson_of(name)
    check("hard", lesson, Space.every(2).choices, n=6)


@pytest.mark.parametrize("name", NORMED)
def test_batch_normalisation_in_evaluation_is_that_of_one_by_one(name):
    lesson = lesson_of(name)
    x = torch.randn(6, 1, 8, 8)
    for stage in lesson.network.stages:
        stage.eval()
    choices = Space.every(2).choices
    torch.testing.assert_close(
        together(lesson, choices, x), one_by_one("hard", lesson, choices, x), rtol=1e-5, atol=1e-5
    )


def test_a_block_that_works_in_place_on_its_input():
    net = lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), Block(4), nn.Flatten())  # noqa: E731
    lesson = set_up("hard", net)
    check("hard", lesson, Space.every(2).choices)


def test_inputs_are_not_changed_by_a_net_that_begins_in_place():
    net = lambda: nn.Sequential(nn.LeakyReLU(0.5, inplace=True), nn.Conv2d(1, 4, 3), nn.Flatten())  # noqa: E731
    lesson = set_up("hard", net)
    x = torch.randn(2, 1, 8, 8)
    before = x.clone()
    together(lesson, Space.every(1).choices, x)
    assert torch.equal(x, before)


def test_a_plan_of_all_configurations_doubles_from_layer_to_layer():
    plan = Plan(Space.every(4).choices)
    assert [level.nodes for level in plan.levels] == [2, 4, 8, 16]
    assert all(level.fed is None for level in plan.levels)
    assert len(plan) == 16
    assert sorted(plan.rows.tolist()) == list(range(16))


def test_a_plan_of_groups_computes_common_prefixes_once():
    plan = Plan(Space.every(4, groups=[[1, 2], [3, 4]]).choices)
    assert [level.nodes for level in plan.levels] == [2, 2, 4, 4]
    assert [level.fed is None for level in plan.levels] == [True, False, True, False]
    one = Plan([Configuration.from_text("0110")])
    assert [[variant for variant, _ in level.variants] for level in one.levels] == [
        [(False,)], [(True,)], [(True,)], [(False,)]
    ]  # fmt: skip


@given(st.sets(st.integers(0, 15), min_size=1))
def test_a_plan_computes_each_prefix_once_and_no_other(which):
    choices = [Space.every(4).choices[i] for i in which]
    plan = Plan(choices)
    for layer, level in enumerate(plan.levels):
        prefixes = {choice.shared[: layer + 1] for choice in choices}
        assert level.nodes == len(prefixes)


def test_every_node_is_run_through_its_own_variant():
    """A plan followed by hand: each node knows which prefix it is."""
    choices = [Space.every(3, parts=2).choices[i] for i in (5, 63, 0, 17, 40, 6)]
    plan, nodes = Plan(choices), [()]
    for level in plan.levels:
        each = [variant for variant, count in level.variants for _ in range(count)]
        fed = [*range(len(nodes))] * len(level.variants) if level.fed is None else level.fed.tolist()
        nodes = [(*nodes[i], variant) for i, variant in zip(fed, each, strict=True)]
    assert [nodes[i] for i in plan.rows.tolist()] == [choice.shared for choice in choices]
    values = torch.arange(len(nodes))
    assert plan.in_order(values).tolist() == plan.rows.tolist()


@pytest.mark.parametrize("transfer", MECHANISMS)
@settings(max_examples=8, deadline=None)
@given(st.data())
def test_samples_that_go_their_own_ways_give_what_each_gives_alone(transfer, data):
    lesson = set_up(transfer, parts=2)
    x = torch.randn(5, 1, 8, 8)
    choices = Space.every(2, parts=2).choices
    # some samples twice, in any order
    inputs = data.draw(st.permutations([*range(5), *data.draw(st.lists(st.integers(0, 4), max_size=4))]))
    drawn = [choices[data.draw(st.integers(0, 15))] for _ in inputs]
    plan = Plan(drawn, inputs)
    made = lesson.network.compose(
        lesson.shared, lesson.parts, [{v for v, _ in level.variants} for level in plan.levels]
    )
    found = plan.in_order(lesson.network.features(made, plan, x))
    for row, i, choice in zip(found, inputs, drawn, strict=True):
        alone = naive_features(transfer, lesson, choice, x[i : i + 1])
        torch.testing.assert_close(row[None], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", STRANGERS)
def test_of_any_dimensions(name):
    lesson = lesson_of(name)
    x = torch.randn(3, *lesson.task.shape)
    every = Space.every(lesson.network.depth).choices
    drawn = [every[0], every[-1], every[len(every) // 2]]
    apart = Plan(drawn, [2, 0, 1])
    made = lesson.network.compose(
        lesson.shared, lesson.parts, [{v for v, _ in level.variants} for level in apart.levels]
    )
    found = apart.in_order(lesson.network.features(made, apart, x))
    for row, i, choice in zip(found, [2, 0, 1], drawn, strict=True):
        expected = together(lesson, [choice], x[i : i + 1])[0, 0]
        torch.testing.assert_close(row, expected, rtol=1e-5, atol=1e-5)


def test_each_sample_is_computed_once_in_every_layer():
    choices = Space.every(4).choices
    plan = Plan([choices[i % 16] for i in range(40)], range(40))
    assert [level.nodes for level in plan.levels] == [40] * 4


def test_a_stage_takes_others_parameters_and_keeps_its_own():
    for name in STRANGERS:
        lesson = lesson_of(name)
        x = torch.randn(2, *lesson.task.shape)
        for own, stage in zip(lesson.parts.own, lesson.network.stages, strict=True):
            alone, before = copy.deepcopy(stage), copy.deepcopy(stage.state_dict())
            alone.load_state_dict(own)
            torch.testing.assert_close(prefix.body(stage, own, x), alone.body(x), rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(prefix.apply(stage, own, x), alone(x), rtol=1e-5, atol=1e-6)
            assert all(torch.equal(value, before[key]) for key, value in stage.state_dict().items())
            x = prefix.apply(stage, own, x)
