"""The joint network: routes, sharing by reference, growth by copying, and the questions it answers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.growth.making import SHAPE, begin, conv, joint
from torch import nn

from stolon.errors import SettingError, StoreDamagedError, TaskError, TaskExistsError, TaskUnknownError
from stolon.growth.graph import INPUT, Edge
from stolon.growth.joint import HEAD, JointNetwork
from stolon.growth.structure import Structure, Unit, parameters_of, statistics_of

X = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))
HEAD_SIZE = 4 * 3 + 3


def bound(made, task, to, grown=(), classes=3, seed=0, **options):
    units = [made.structure.units[i] for i in grown]
    made.bind(task, to, units, made.structure.head(classes, seed, task), **options)


def answers(made, task):
    with torch.no_grad():
        return made.network(task).eval()(X)


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("net", [conv(), conv(normed=True), "mlp-8-6-4"], ids=["conv", "normed", "mlp"])
def test_a_tasks_network_computes_what_the_net_computes(net, parts):
    structure = Structure(net, SHAPE, parts)
    made = JointNetwork(structure)
    staged = structure.fresh(3, "a")
    head = structure.head(3, 3, "a")
    made.found("a", structure.divide(parameters_of(staged)), statistics_of(staged), head)
    with torch.no_grad():
        assert torch.equal(answers(made, "a"), head(staged.eval()(X)))


@pytest.mark.parametrize("parts", [1, 2])
def test_activations_are_those_behind_the_activation_function_and_before_the_pooling(parts):
    made = joint(conv(), parts)
    staged = made.structure.fresh(0, "a").eval()
    flat = [module for stage in staged for module in (*stage.body, *stage.pool)]
    expected, x = [], X
    with torch.no_grad():
        for module in flat:
            x = module(x)
            if isinstance(module, nn.ReLU):
                expected.append(x.clone())
        found = made.network("a").activations(X)
    whole = [part.movedim(1, -1).flatten(1) for each in expected for part in each.tensor_split(parts, 1)]
    assert [a.shape for a in found] == [a.shape for a in whole]
    for one, other in zip(found, whole, strict=True):
        torch.testing.assert_close(one, other)


def test_a_bound_task_shares_every_node_and_answers_alike_but_for_its_head():
    made = joint()
    bound(made, "b", "a")
    assert made.nodes_of("b") == made.nodes_of("a") == ("1:1", "2:1", "3:1")
    assert made.tasks_of("2:1") == ("a", "b")
    one, other = made.network("a").activations(X), made.network("b").activations(X)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(answers(made, "a"), answers(made, "b"))


@pytest.mark.parametrize("parts", [1, 2])
def test_copies_are_equal_at_first_and_then_a_tasks_own(parts):
    made = joint(parts=parts)
    bound(made, "b", "a", grown=[1])
    before = answers(made, "a")
    assert all(
        torch.equal(a, b)
        for a, b in zip(made.network("a").activations(X), made.network("b").activations(X), strict=True)
    )
    unit = made.structure.units[1]
    copy, origin = made.routes["b"].nodes[unit], made.routes["a"].nodes[unit]
    assert made.nodes[copy].copy_of == origin
    assert made.nodes[copy].task == "b"
    with torch.no_grad():
        made.nodes[copy].tensors[
            "body.0.weight" if parts == 1 else next(iter(made.nodes[copy].tensors))
        ].add_(1)
    assert torch.equal(answers(made, "a"), before)


def test_what_is_shared_changes_for_all_that_share_it():
    made = joint()
    bound(made, "b", "a", grown=[1, 2])
    bound(made, "c", "b", grown=[2])
    before = {task: answers(made, task) for task in made.tasks}
    with torch.no_grad():
        made.nodes["2:2"].tensors["body.0.bias"].add_(1)
    changed = [task for task in made.tasks if not torch.equal(answers(made, task), before[task])]
    assert changed == ["b", "c"]


def test_copies_can_be_of_another_task_than_the_one_that_is_bound_to():
    made = joint()
    begin(made, "b", seed=1)
    bound(made, "c", "b", grown=[0], source="a")
    assert made.nodes_of("c") == ("1:3", "2:2", "3:2")
    assert made.nodes["1:3"].copy_of == "1:1"
    assert made.bindings() == {"a": None, "b": None, "c": "b"}


def test_sizes_count_shared_nodes_once():
    made = joint()
    layers = [64 * 8 + 8, 8 * 6 + 6, 6 * 4 + 4]
    alone = sum(layers) + HEAD_SIZE
    assert made.parameters() == made.parameters_apart() == alone
    assert made.is_degenerate
    bound(made, "b", "a", grown=[1])
    assert made.parameters() == alone + layers[1] + HEAD_SIZE
    assert made.parameters_apart() == 2 * alone
    assert not made.is_degenerate
    size = made.size()
    assert size.shared == layers[0] + layers[2]
    assert size.per_task == {"a": layers[1] + HEAD_SIZE, "b": layers[1] + HEAD_SIZE}
    assert size.parameters == made.parameters()


def test_statistics_are_a_tasks_own_even_where_its_nodes_are_shared():
    made = joint(conv(normed=True))
    bound(made, "b", "a")
    before = answers(made, "a")
    network = made.network("b").train()
    network(3 * torch.rand(16, *SHAPE))
    assert torch.equal(answers(made, "a"), before)
    mine, other = made.routes["b"].statistics[0], made.routes["a"].statistics[0]
    assert int(mine["body.1.num_batches_tracked"]) == 1
    assert not torch.equal(mine["body.1.running_mean"], other["body.1.running_mean"])
    assert made.size().per_task["a"] == 2 * 8 + 1 + 2 * 16 + 1 + 8 * 3 + 3


def test_edges_tell_which_tasks_run_along_them():
    made = joint()
    bound(made, "b", "a", grown=[1])
    assert made.edges() == (
        Edge(INPUT, "1:1", ("a", "b")),
        Edge("1:1", "2:1", ("a",)),
        Edge("2:1", "3:1", ("a",)),
        Edge("3:1", "head:a", ("a",)),
        Edge("1:1", "2:2", ("b",)),
        Edge("2:2", "3:1", ("b",)),
        Edge("3:1", "head:b", ("b",)),
    )


def test_edges_between_layers_in_parts_run_from_every_part_to_every_part():
    made = joint(parts=2)
    pairs = {(edge.source, edge.target) for edge in made.edges()}
    assert {("1.1:1", "2.1:1"), ("1.1:1", "2.2:1"), ("1.2:1", "2.1:1"), ("1.2:1", "2.2:1")} <= pairs
    assert {(INPUT, "1.1:1"), (INPUT, "1.2:1"), ("3.1:1", "head:a"), ("3.2:1", "head:a")} <= pairs


def test_forgetting_drops_the_nodes_that_nobody_else_uses():
    made = joint()
    bound(made, "b", "a", grown=[1])
    bound(made, "c", "b", grown=[2])
    before = {task: answers(made, task) for task in ("a", "c")}
    made.forget("b")
    assert set(made.nodes) == {"1:1", "2:1", "3:1", "2:2", "3:2"}
    assert all(torch.equal(answers(made, task), before[task]) for task in ("a", "c"))
    made.forget("a")
    assert set(made.nodes) == {"1:1", "2:2", "3:2"}
    assert torch.equal(answers(made, "c"), before["c"])
    bound(made, "d", "c", grown=[0, 1, 2])  # names of what is there are not taken again
    assert made.nodes_of("d") == ("1:2", "2:3", "3:3")


def test_one_head_for_all_is_shared_and_refuses_other_classes():
    made = joint(head="shared")
    bound(made, "b", "a")
    assert made.head("a") is made.head("b")
    assert torch.equal(answers(made, "a"), answers(made, "b"))
    assert made.shared_parts_of("b") == ("1:1", "2:1", "3:1", HEAD)
    assert made.size().per_task == {"a": 0, "b": 0}
    before = made.state()[0]
    for add in (lambda: bound(made, "c", "a", classes=2), lambda: begin(made, "c", classes=2)):
        with pytest.raises(TaskError, match=r"expected 3 classes, as the shared head has, found 2"):
            add()
    assert made.state()[0] == before
    made.forget("a")
    assert made.size().per_task == {"b": made.parameters()}
    made.forget("b")
    begin(made, "c", classes=2)


def test_a_given_route_must_name_nodes_that_there_are():
    made = joint()
    begin(made, "b", seed=1)
    units = made.structure.units
    head = made.structure.head(3, 0, "c")
    made.route("c", dict(zip(units, ("1:2", "2:1", "3:2"), strict=True)), head, bound="a")
    with torch.no_grad():
        expected = made.network("b").activations(X)[0]
        assert torch.equal(made.network("c").activations(X)[0], expected)
    before = made.state()[0]
    for names, found in (
        (("1:1", "2:7", "3:1"), "'2:7', which is missing"),
        (("1:1", "3:1", "3:1"), "'3:1', which is of layer 3"),
        (("1:1",), "none"),
    ):
        with pytest.raises(TaskError, match=f"a node of layer 2 on its route, found {found}"):
            made.route("d", dict(zip(units, names, strict=False)), head)
    beyond = {**made.routes["a"].nodes, Unit(9, 0): "9:9"}
    with pytest.raises(TaskError, match="expected layers of the joint network, 1, 2, 3, found 10"):
        made.route("d", beyond, head)
    assert made.state()[0] == before


def test_refusals_change_nothing():
    made = joint()
    before = made.state()[0]
    with pytest.raises(TaskUnknownError, match=r"no route for task 'x'.*there are: a"):
        bound(made, "b", "x")
    with pytest.raises(TaskExistsError, match="'a' has a route"):
        bound(made, "a", "a")
    with pytest.raises(TaskError, match="expected layers of the joint network, 1, 2, 3, found 10"):
        made.bind("b", "a", [Unit(9, 0)], made.structure.head(3, 0, "b"))
    for add in (
        lambda: made.bind("b", "a", [], nn.Linear(99, 3)),
        lambda: made.route("b", made.routes["a"].nodes, nn.Linear(99, 3)),
    ):
        with pytest.raises(
            TaskError, match="expected a head of 4 features, which the last layer gives, found one of 99"
        ):
            add()
    with pytest.raises(TaskUnknownError):
        made.nodes_of("x")
    with pytest.raises(TaskUnknownError):
        made.forget("x")
    with pytest.raises(TaskError, match=r"found '9:9'; there are 1:1"):
        made.tasks_of("9:9")
    assert made.state()[0] == before


@pytest.mark.parametrize(("parts", "head"), [(1, "own"), (2, "shared")])
def test_a_state_is_everything(parts, head):
    made = joint(conv(normed=True), parts=parts, head=head)
    bound(made, "b", "a", grown=[1, 2])
    document, groups = made.state()
    again = JointNetwork.of_state(made.structure, head, document, groups)
    assert again.state()[0] == document
    assert again.tasks == made.tasks
    assert again.edges() == made.edges()
    for task in made.tasks:
        assert torch.equal(answers(again, task), answers(made, task))
    with torch.no_grad():
        for node in again.nodes.values():
            for tensor in node.tensors.values():
                tensor.zero_()
    assert answers(made, "a").any()


def test_a_saved_route_to_a_missing_node_is_damage():
    made = joint()
    document, groups = made.state()
    document["routes"]["a"]["nodes"][1] = "2:9"
    with pytest.raises(StoreDamagedError, match="found '2:9', which is missing"):
        JointNetwork.of_state(made.structure, "own", document, groups)


def test_put_back_gives_the_numbers_from_before():
    made = joint()
    bound(made, "b", "a", grown=[1])
    before = {
        name: {k: v.clone() for k, v in made.parts_of("b")[name].items()}
        for name in made.shared_parts_of("b")
    }
    assert set(before) == {"1:1", "3:1"}
    expected = answers(made, "a")
    with torch.no_grad():
        made.nodes["1:1"].tensors["body.1.weight"].add_(1)
    made.put_back("b", before)
    assert torch.equal(answers(made, "a"), expected)


def test_units_are_named_as_people_count():
    structure = Structure("mlp-8-6-4", SHAPE, 2)
    assert structure.depth == 3
    assert [structure.label(unit) for unit in structure.units] == ["1.1", "1.2", "2.1", "2.2", "3.1", "3.2"]
    assert Structure("mlp-8", SHAPE).label(Unit(0, 0)) == "1"


@given(
    steps=st.lists(st.tuples(st.integers(0, 9), st.sets(st.integers(0, 2))), min_size=1, max_size=5),
    forgotten=st.sets(st.integers(0, 5), max_size=3),
)
@settings(max_examples=20, deadline=None)
def test_whatever_is_grown_and_forgotten_the_sums_hold_and_answers_stay(steps, forgotten):
    made = joint()
    for i, (to, grown) in enumerate(steps):
        bound(made, f"t{i}", made.tasks[to % len(made.tasks)], grown=sorted(grown))
    before = {task: answers(made, task) for task in made.tasks}
    for i in forgotten:
        if i < len(made.tasks) - 1:
            made.forget(made.tasks[i])
    size = made.size()
    assert made.parameters() == size.parameters == size.shared + sum(size.per_task.values())
    assert made.parameters() <= made.parameters_apart()
    assert all(made.tasks_of(name) for name in made.nodes)
    assert {name for task in made.tasks for name in made.nodes_of(task)} == set(made.nodes)
    assert all(torch.equal(answers(made, task), before[task]) for task in made.tasks)


def test_transposed_convolutions_are_not_divided():
    net = nn.Sequential(nn.ConvTranspose2d(1, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 81, 4))
    with pytest.raises(SettingError, match="parts: expected 1 with transposed convolutions"):
        Structure(net, SHAPE, 2)
    assert answers(joint(net), "a").shape == (5, 3)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.GLU(), nn.Linear(3, 4)),
        nn.Sequential(
            nn.Conv2d(1, 12, 3), nn.PixelShuffle(2), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 144, 4)
        ),
    ],
    ids=["glu", "shuffle"],
)
def test_layers_whose_activations_have_other_channels_are_not_divided(net):
    with pytest.raises(
        SettingError, match=r"parts: expected 1, since layer 1 makes 3 channels of its (6|12)"
    ):
        Structure(net, SHAPE, 2)
    assert answers(joint(net), "a").shape == (5, 3)


class InPlace(nn.Module):
    """A block that works on what it is given."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.conv(x.mul_(0))


@pytest.mark.parametrize("parts", [1, 2])
def test_what_follows_a_stage_in_place_does_not_change_what_was_found_there(parts):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sigmoid(), InPlace(), nn.Flatten(), nn.ReLU(inplace=True))
    found = joint(net, parts).network("a").activations(X)
    assert all(bool((a > 0).all()) for a in found[:parts])


def test_lone_numbers_belong_to_the_first_part():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.scale = nn.Conv2d(1, 4, 3), nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return self.scale * self.conv(x)

    made = joint(nn.Sequential(Scaled(), nn.Flatten(), nn.Linear(144, 4)), parts=2)
    assert ["body.0.scale" in made.nodes[name].tensors for name in made.nodes_of("a")] == [True, *[False] * 3]
    assert made.parameters() == 4 * 9 + 4 + 1 + 144 * 4 + 4 + HEAD_SIZE
    assert answers(made, "a").shape == (5, 3)
    assert made.has_shared_head is False
