"""What bind-and-grow decides, trains, keeps and refuses."""

import pytest
import torch
from tests.growth.making import conv
from tests.growth.test_bind_and_grow_laws import make
from tests.growth.test_similarity import naive
from tests.learner_contract import assert_same_state, toy_task
from torch import nn

from stolon import learners
from stolon.errors import DataError, RecipeChangedError, SettingError, TaskError, TaskUnknownError
from stolon.growth import conflict
from stolon.growth.bind_and_grow import BindAndGrow
from stolon.growth.config import BindAndGrowConfig
from stolon.growth.deciding import measure
from stolon.growth.independent import Independent
from stolon.tasks import Split, Task

TASKS = [toy_task(f"t{i}", i) for i in range(4)]
EMPTY = Split.of(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))


def learned(count=3, net="mlp-16-12-8", **settings):
    learner = make(net, **{"epochs": 2, **settings})
    for task in TASKS[:count]:
        list(learner.learn(task))
    return learner


def answers(learner, task):
    x = next(each for each in TASKS if each.name == task).test.batch(torch.arange(24))[0]
    return learner.logits(x, task)


# Growth


@pytest.mark.parametrize("settings", [{}, {"net": conv(), "parts": 2}, {"bind": "last"}], ids=str)
def test_delta_0_adds_no_layer_and_delta_1_adds_all(settings):
    none = learned(delta=0, **settings)
    assert len(none.joint.nodes) == len(none.joint.structure.units)
    assert none.growth("t2").grown == ()
    every = learned(delta=1, **settings)
    assert every.joint.is_degenerate
    assert every.growth("t2").grown == every.growth("t2").units
    assert every.size().shared == 0


def test_a_step_is_algorithm_1_by_hand():
    """Independent network, conflicts with the networks as they are now, the least norm, the nucleus."""
    learner = make("mlp-16-12-8", epochs=2)
    for task in TASKS[:2]:
        list(learner.learn(task))
    task = TASKS[2]
    steps = learner.learn(task)
    epochs = [next(steps), next(steps)]
    assert [epoch.phase for epoch in epochs] == ["independent"] * 2
    alone = learner._work.independent
    x = task.val.batch(torch.arange(12))[0]

    def rdms(network):
        with torch.no_grad():
            return [a.double() for a in network.activations(x)]

    conflicts = {
        name: [
            naive(a, b, "rsa") for a, b in zip(rdms(alone), rdms(learner.joint.network(name)), strict=True)
        ]
        for name in ("t0", "t1")
    }
    list(steps)
    growth = learner.growth("t2")
    for name, expected in conflicts.items():
        assert growth.conflicts[name] == pytest.approx(expected, abs=1e-9)
        assert growth.scores[name] == pytest.approx(torch.tensor(expected).norm().item(), rel=1e-6)
    assert growth.bound == min(growth.scores, key=growth.scores.get)
    mine = conflicts[growth.bound]
    assert growth.distribution == pytest.approx([value / sum(mine) for value in mine])
    order, mass, expected = sorted(range(3), key=lambda i: -mine[i]), 0.0, []
    while mass < 0.5:
        expected.append(order.pop(0))
        mass += growth.distribution[expected[-1]]
    assert growth.grown == tuple(str(i + 1) for i in sorted(expected))
    assert (growth.delta, growth.inputs, growth.source) == (0.5, 12, "validation")


def test_what_was_decided_is_in_the_notes_and_survives_saving(tmp_path):
    learner = learned(2)
    epochs = list(learner.learn(TASKS[2]))
    growth = learner.growth("t2")
    assert [epoch.phase for epoch in epochs] == ["independent"] * 2 + ["train"] * 2
    assert epochs[-1].notes == growth.to_json()
    assert set(epochs[-1].notes["conflicts"]) == {"t0", "t1"}
    learner.save(tmp_path)
    loaded = make("mlp-16-12-8", epochs=2).load(tmp_path)
    assert [loaded.growth(f"t{i}") for i in range(3)] == [learner.growth(f"t{i}") for i in range(3)]
    assert "binds to t" in str(growth)
    assert str(learner.growth("t0")) == "t0 is the first task: all of its layers are its own."


def test_a_twin_binds_to_its_twin():
    first, other = toy_task("a", 5), toy_task("b", 6)
    twin = Task("c", other.classes, other.train, other.val, other.test)
    learner = make("mlp-16-12-8", epochs=8)
    for task in (first, other, twin):
        list(learner.learn(task))
    assert learner.growth("c").bound == "b"
    assert learner.growth("c").scores["b"] < learner.growth("c").scores["a"]


@pytest.mark.parametrize(
    ("bind", "expected"), [("first", "t0"), ("last", "t2"), ("t1", "t1"), ({"t3": "t1", "*": "last"}, "t1")]
)
def test_whom_to_bind_to_can_be_said(bind, expected):
    bind = {"t1": "first", "t2": "first", "t3": bind} if isinstance(bind, str) else bind
    growth = learned(4, bind=bind).growth("t3")
    assert growth.bound == expected
    assert set(growth.scores) == {"t0", "t1", "t2"}  # told all the same


def test_random_growth_needs_no_independent_network_and_is_a_function_of_the_seed():
    learner = learned(2, bind="random", grow="random")
    epochs = list(learner.learn(TASKS[2]))
    assert [epoch.phase for epoch in epochs] == ["train"] * 2
    growth = learner.growth("t2")
    assert (growth.binding, growth.delta, growth.scores, growth.distribution) == ("random", None, {}, ())
    grown = conflict.random_units(3, 0, "t2")
    assert growth.grown == tuple(str(i + 1) for i in grown)
    drawn = [learned(3, bind="random", grow="random", draw=draw).growth("t2") for draw in range(5)]
    assert len({(growth.bound, growth.grown) for growth in drawn}) > 1


def test_delta_can_be_said_per_task():
    learner = learned(3, delta={"t1": 0.0, "*": 1.0})
    assert learner.growth("t1").grown == ()
    assert learner.growth("t2").grown == ("1", "2", "3")
    assert BindAndGrowConfig(delta={"a": 0.2}).delta_of("b") == 0.5


@pytest.mark.parametrize("measure", ["rsa", "cka", "rsa-pearson"])
def test_other_measures_by_name(measure):
    growth = learned(2, similarity=measure).growth("t1")
    assert len(growth.conflicts["t0"]) == 3


def test_memory_changes_no_decision():
    one, other = (learned(3, net=conv(), memory=memory).growth("t2") for memory in (2**29, 2000))
    assert one.grown == other.grown
    assert one.scores == pytest.approx(other.scores, abs=1e-9)


def test_parts_of_layers_grow_by_themselves():
    learner = learned(3, net=conv(), parts=2, delta=0.3)
    growth = learner.growth("t2")
    assert growth.units == ("1.1", "1.2", "2.1", "2.2", "3.1", "3.2", "4.1", "4.2")
    assert 0 < len(growth.grown) < 8
    assert len(growth.conflicts["t0"]) == 8


# Training


@pytest.mark.parametrize("net", ["mlp-16-12-8", conv(normed=True)], ids=["mlp", "normed"])
@pytest.mark.parametrize("delta", [0.0, 0.5])
def test_frozen_bound_layers_change_no_earlier_answer_by_a_bit(net, delta):
    learner = learned(1, net, bound_rate=0, delta=delta)
    before = {"t0": answers(learner, "t0")}
    for task in TASKS[1:3]:
        list(learner.learn(task))
        assert all(torch.equal(answers(learner, name), value) for name, value in before.items())
        before[task.name] = answers(learner, task.name)


def test_a_frozen_shared_head_changes_no_earlier_answer_either():
    learner = learned(1, bound_rate=0, head="shared")
    before = answers(learner, "t0")
    list(learner.learn(TASKS[1]))
    assert torch.equal(answers(learner, "t0"), before)


def test_bound_layers_are_trained_at_a_tenth_of_the_rate():
    """One step of plain SGD: what is shared moves by a tenth of what a copy of it moves by."""
    task = toy_task("t1", 1)
    moved = []
    for bound_rate in (0.1, 1.0):
        learner = make("mlp-16-12-8", epochs=1, batch_size=48, momentum=0.0, delta=0.4, bound_rate=bound_rate)
        list(learner.learn(TASKS[0]))
        before = {name: node.tensors for name, node in learner.joint.nodes.items()}
        before = {name: {k: v.clone() for k, v in tensors.items()} for name, tensors in before.items()}
        list(learner.learn(task))
        growth, change = learner.growth("t1"), {}
        for unit, name in learner.joint.routes["t1"].nodes.items():
            node = learner.joint.nodes[name]
            for key, value in node.tensors.items():
                change[unit.stage, key] = (value - before[node.copy_of or name][key]).detach()
        moved.append(change)
    assert 0 < len(growth.grown) < 3
    for (stage, key), value in moved[0].items():
        scale = 1.0 if str(stage + 1) in growth.grown else 0.1
        torch.testing.assert_close(value, scale * moved[1][stage, key], rtol=1e-3, atol=1e-7)
        assert value.any()


def test_learning_a_task_leaves_nothing_wanting_gradients():
    learner = learned(2)
    tensors = [t for node in learner.joint.nodes.values() for t in node.tensors.values()]
    tensors += [t for task in learner.tasks for t in learner.joint.head(task).parameters()]
    assert not any(t.requires_grad or t.grad is not None for t in tensors)


# Independent networks


def test_a_kept_independent_network_gives_the_same_bits_in_fewer_steps():
    kept = {}
    whole = learned(3)
    first = BindAndGrow("mlp-16-12-8", whole.config, independents=kept)
    for task in TASKS[:3]:
        list(first.learn(task))
    assert_same_state(whole, first)
    assert len(kept) == 3
    again = BindAndGrow("mlp-16-12-8", whole.config, independents=kept)
    epochs = [epoch for task in TASKS[:3] for epoch in again.learn(task)]
    assert_same_state(whole, again)
    assert [epoch.phase for epoch in epochs] == ["train"] + ["independent", "train", "train"] * 2
    assert epochs[0].notes == epochs[1].notes == {"reused": True}


def test_independent_networks_are_kept_for_every_setting_of_growth_and_for_no_other():
    def keys(net="mlp-16-12-8", seed=0, task=TASKS[0], **settings):
        kept = {}
        config = BindAndGrowConfig(epochs=1, batch_size=48, **settings)
        learner = BindAndGrow(net, config, independents=kept)
        list(learner.learn(task, seed=seed))
        return set(kept)

    def later(**settings):
        kept = {}
        learner = BindAndGrow(
            "mlp-16-12-8", BindAndGrowConfig(epochs=1, batch_size=48, **settings), independents=kept
        )
        for task in TASKS[:2]:
            list(learner.learn(task))
        return set(kept)

    base = keys()
    assert later() == later(
        as_released=True
    )  # without convolutions the released code's networks are whole too
    for settings in (
        {"delta": 0.9},
        {"bound_rate": 0},
        {"parts": 2},
        {"similarity": "cka"},
        {"bind": "last"},
    ):
        assert keys(**settings) == base
    others = [keys(learning_rate=0.2), keys(seed=1), keys(net="mlp-16-12-9"), keys(task=TASKS[1])]
    others += [keys(net=net) for net in (conv(), conv(seed=1))]  # two modules of one structure, drawn apart
    assert len(set.union(base, *others)) == 7


def test_stopped_after_a_kept_network_was_taken_it_goes_on_without_the_others(tmp_path):
    whole, kept = learned(2), {}
    other = BindAndGrow("mlp-16-12-8", whole.config, independents=kept)
    for task in TASKS[:2]:
        list(other.learn(task))
    taker = BindAndGrow("mlp-16-12-8", whole.config, independents=kept)
    list(taker.learn(TASKS[0]))
    next(iter(taker.learn(TASKS[1])))
    taker.save(tmp_path)
    again = make("mlp-16-12-8", epochs=2).load(tmp_path)
    list(again.learn(TASKS[1]))
    assert_same_state(whole, again)


# The authors' code: papers/methods.md 4.3, row by row


def test_as_released_scores_are_similarities_and_the_least_similar_binds():
    learner = make("mlp-16-12-8", epochs=2, as_released=True)
    for task in TASKS[:2]:
        list(learner.learn(task))
    steps, task = learner.learn(TASKS[2]), TASKS[2]
    for _ in range(2):
        next(steps)
    alone, joint = learner._work.independent, learner.joint
    x = conflict.inputs_as_released(task.train, 500, 0, "t2")[0]
    labels = torch.zeros(len(x), dtype=torch.int64)
    paper = measure(
        joint, alone, Task("t2", task.classes, task.train, Split.of(x, labels), EMPTY), 0, BindAndGrowConfig()
    )
    list(steps)
    growth = learner.growth("t2")
    for name in ("t0", "t1"):
        assert growth.conflicts[name] == pytest.approx([1 - value for value in paper.conflicts[name]])
        norm = sum(value**2 for value in growth.conflicts[name]) ** 0.5
        assert growth.scores[name] == round(norm / 2, 3)
    assert growth.bound == min(growth.scores, key=growth.scores.get)
    similar = growth.conflicts[growth.bound]
    assert growth.distribution == tuple(round(value / sum(similar), 3) for value in similar)
    assert str(similar.index(max(similar)) + 1) in growth.grown  # the most similar layer grows first
    assert (growth.inputs, growth.source) == (48, "training")


def test_as_released_copies_are_of_the_first_tasks_layers():
    learner = learned(3, as_released=True, delta=0.5, bind={"t1": "t0", "t2": "t1"})
    for name in learner.joint.nodes_of("t2"):
        node = learner.joint.nodes[name]
        if node.task == "t2":
            assert node.copy_of.endswith(":1")
    first = learned(2, as_released=True, delta=1, bind="last")
    assert set(first.joint.nodes_of("t1")).isdisjoint(first.joint.nodes_of("t0"))


def test_as_released_bound_layers_are_trained_at_the_full_rate_or_frozen():
    assert BindAndGrowConfig(as_released=True).bound_scale() == 1
    assert BindAndGrowConfig(as_released=True, bound_rate=0).bound_scale() == 0
    assert BindAndGrowConfig().bound_scale() == 0.1


def test_as_released_independent_networks_lack_the_activations_behind_fully_connected_layers():
    learner = learned(1, net=conv(), as_released=True)
    structure = learner.joint.structure
    bare = Independent(structure, "t", 3, 0, is_bare=True).eval()
    whole = Independent(structure, "t", 3, 0).eval()
    x = torch.rand(6, 1, 8, 8)
    with torch.no_grad():
        flat = bare.staged.layers[1](bare.staged.layers[0](x))
        one, two = (bare.staged.layers[i].body[0] for i in (2, 3))
        assert torch.equal(bare(x), bare.head(two(one(flat))))
        assert torch.equal(whole(x), whole.head(two(one(flat).relu()).relu()))
        found = bare.activations(x)
        # compared behind the activation all the same
        torch.testing.assert_close(found[2], one(flat).relu())
        torch.testing.assert_close(found[3], two(one(flat)).relu())
        torch.testing.assert_close(found[0], bare.staged.layers[0].body(x).movedim(1, -1).flatten(1))
        mlp = Independent(learned(1).joint.structure, "t", 3, 0, is_bare=True)
        assert mlp._ends == [3, 2, 2]  # flatten, weights, activation; weights, activation


# Forgetting


def test_forgetting_an_unfinished_task_gives_back_what_it_shared():
    learner = learned(2, delta=0)
    before = {task: answers(learner, task) for task in learner.tasks}
    steps = learner.learn(TASKS[2])
    for _ in range(3):
        next(steps)
    assert not torch.equal(answers(learner, "t0"), before["t0"])
    learner.forget("t2")
    assert all(torch.equal(answers(learner, task), value) for task, value in before.items())
    assert set(learner.joint.nodes) == {"1:1", "2:1", "3:1"}


def test_forgetting_an_unfinished_task_that_was_loaded_gives_back_what_it_shared(tmp_path):
    learner = learned(2, delta=0)
    before = answers(learner, "t0")
    steps = learner.learn(TASKS[2])
    for _ in range(3):
        next(steps)
    learner.save(tmp_path)
    loaded = make("mlp-16-12-8", epochs=2, delta=0).load(tmp_path)
    loaded.forget("t2")
    assert torch.equal(answers(loaded, "t0"), before)


def test_forgetting_the_task_that_others_were_bound_to_leaves_their_answers():
    learner = learned(3, delta=0.4)
    before = {task: answers(learner, task) for task in ("t1", "t2")}
    learner.forget("t0")
    assert all(torch.equal(answers(learner, task), value) for task, value in before.items())
    list(learner.learn(TASKS[3]))
    assert learner.growth("t3").bound in ("t1", "t2")


def test_forgetting_a_sharer_while_a_task_is_under_way_does_not_confuse_the_training(tmp_path):
    def half():
        learner = learned(2, delta=0, bind="t0")
        steps = learner.learn(TASKS[2])
        for _ in range(3):
            next(steps)
        for task in ("t0", "t1"):
            learner.forget(task)
        return learner

    one, other = half(), half()
    other.save(tmp_path)
    other = make("mlp-16-12-8", epochs=2, delta=0, bind="t0").load(tmp_path)
    for learner in (one, other):
        list(learner.learn(TASKS[2]))
    assert_same_state(one, other)


def test_all_forgotten_a_net_by_name_takes_another_shape():
    learner = learned(2)
    for task in ("t0", "t1"):
        learner.forget(task)
    assert learner.size().parameters == 0
    list(learner.learn(toy_task("small", 1, shape=(1, 6, 6))))
    assert learner.tasks == ("small",)


# Refusals


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"delta": 1.1}, "delta: expected 0 to 1, found 1.1"),
        ({"delta": -0.1}, "delta: expected 0 to 1"),
        ({"delta": float("nan")}, "delta: expected a finite number"),
        ({"delta": {"a": 0.5, "b": 2}}, r"delta\['b'\]: expected 0 to 1, found 2"),
        ({"bind": ""}, "bind: expected one of least-conflict"),
        ({"bind": {"a": 3}}, r"bind\['a'\]: expected one of"),
        ({"grow": "all"}, "grow: expected one of nucleus, random"),
        ({"similarity": "euclid"}, "unknown similarity 'euclid'"),
        ({"samples": 3}, "samples: expected at least 4"),
        ({"parts": 0}, "parts: expected at least 1"),
        ({"head": "none"}, "head: expected one of own, shared"),
        ({"bound_rate": 1.5}, "bound_rate: expected 0 to 1"),
        ({"memory": 0}, "memory: expected at least 1"),
        ({"as_released": True, "similarity": "cka"}, "as_released: expected similarity='rsa'"),
        ({"alpha": 1}, "unknown setting 'alpha'"),
    ],
)
def test_settings_out_of_their_range_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        make(**settings)


def refused(learner, task, error, message):
    before, document = learner.record(), dict(learner.record().document)
    with pytest.raises(error, match=message):
        list(learner.learn(task))
    after = learner.record()
    assert dict(after.document) == document
    assert after.groups.keys() == before.groups.keys()


def test_tasks_that_do_not_fit_are_refused_and_nothing_changes():
    learner = learned(2, head="shared")
    other = toy_task("other", 1, shape=(1, 10, 10))
    refused(
        learner, other, DataError, r"expected inputs \(1, 8, 8\) as in earlier tasks, found \(1, 10, 10\)"
    )
    refused(
        learner,
        toy_task("two", 1, classes=2),
        TaskError,
        "expected 3 classes, as the shared head has, found 2",
    )
    tiny = Split.of(torch.rand(3, 1, 8, 8), torch.arange(3))
    refused(learner, Task("tiny", ("a", "b", "c"), tiny, EMPTY, EMPTY), DataError, "at least 4 inputs")
    released = learned(2, as_released=True)  # which looks at training data only
    held = Task("held", ("a", "b", "c"), tiny, TASKS[0].val, EMPTY)
    refused(released, held, DataError, "at least 4 inputs to compare networks on, found 3")
    bound = learned(2, bind={"*": "first", "t9": "nobody"})
    refused(
        bound,
        toy_task("t9", 1),
        TaskUnknownError,
        r"expected to bind to a learned task, one of t0, t1, .*'nobody'",
    )
    deep = make("growth-conv")
    refused(deep, TASKS[0], SettingError, "19 x 19 pixels or more")
    fixed = make(nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU()))
    refused(fixed, other, SettingError, "does not take inputs")
    divided = make("mlp-8-4", parts=5)
    refused(divided, TASKS[0], SettingError, "at most the 4 output channels of layer 2, found 5")


def test_a_net_without_stages_is_refused_at_once():
    with pytest.raises(SettingError, match="a layer to transfer"):
        make(nn.Sequential(nn.ReLU()))


def test_a_state_of_other_parts_or_heads_is_refused(tmp_path):
    learned(1).save(tmp_path)
    for settings in ({"parts": 2}, {"head": "shared"}):
        with pytest.raises(RecipeChangedError, match=r"this learner has (2|'shared')"):
            make("mlp-16-12-8", **settings).load(tmp_path)


def test_questions_about_what_is_not_there_are_refused():
    learner = make("mlp-16-12-8", epochs=2)
    with pytest.raises(TaskUnknownError, match="no task was learned yet"):
        _ = learner.joint
    list(learner.learn(TASKS[0]))
    with pytest.raises(TaskUnknownError, match="unknown task 'x'"):
        learner.growth("x")
    next(iter(learner.learn(TASKS[1])))
    with pytest.raises(TaskUnknownError, match="not bound yet"):
        learner.growth("t1")


def test_it_is_a_learner_by_name():
    assert "bind-and-grow" in learners.names()
    config = make().config
    defaults = BindAndGrowConfig()
    assert (defaults.epochs, defaults.batch_size, defaults.learning_rate) == (5, 64, 0.01)
    assert (defaults.optimizer, defaults.momentum, defaults.delta) == ("sgd", 0.9, 0.5)
    assert config.delta == 0.5
