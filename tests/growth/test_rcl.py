"""RCL: laws, columns that leave earlier answers alone, the controller's gradient, trials, and refusals."""

import dataclasses

import pytest
import torch
from tests.learner_contract import SHAPE, LearnerContract, assert_same_state, toy_task
from torch import nn
from torch.nn import functional

from stolon import learners
from stolon.errors import DataError, SettingError, TaskUnknownError
from stolon.growth import validation
from stolon.growth.columns import Child, Generation, Seen, activations, units
from stolon.growth.controller import Controller, policy_loss, value_loss
from stolon.growth.hidden import hidden_layers, hidden_widths
from stolon.growth.rcl import RclConfig
from stolon.growth.rcl_trials import reward
from stolon.randomness import generator
from stolon.tasks import Split, Task

FAST = {
    "epochs": 3, "batch_size": 8, "learning_rate": 0.02, "trials": 4, "max_units": 5, "controller_width": 8,
}  # fmt: skip
TASKS = [toy_task(f"t{i}", i) for i in range(4)]
ONE_LAYER = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())
IMAGES = nn.Sequential(
    nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    nn.Sequential(nn.Conv2d(4, 6, 2, stride=2), nn.ReLU()),
    nn.Sequential(nn.Flatten(), nn.Linear(24, 8), nn.ReLU()),
)
LAYERS = hidden_layers("mlp-12-8", SHAPE)
X = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))
EMPTY = Split.of(torch.zeros(0, *SHAPE), torch.zeros(0, dtype=torch.int64))


def child(old, new, net="mlp-12-8", shape=SHAPE, **about):
    layers = hidden_layers(net, shape)
    return Child(layers, shape, old, new, **{"classes": 3, "seed": 0, "purpose": ("new",), **about})


def make(net="mlp-12-8", **settings):
    return learners.make("rcl", net=net, **{**FAST, **settings})


def learned(count=2, net="mlp-12-8", **settings):
    learner = make(net, **settings)
    for task in TASKS[:count]:
        list(learner.learn(task))
    return learner


class TestRcl(LearnerContract):
    def make(self):
        return make(epochs=10, trials=3)


class TestRclOnOneHiddenLayerWithoutMemory(LearnerContract):
    def make(self):
        return make(ONE_LAYER, epochs=10, memory=1, trials=2)


class TestRclOnConvolutions(LearnerContract):
    def make(self):
        return make(IMAGES, epochs=10, trials=2)


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_stopped_after_any_trial_a_third_task_ends_with_the_same_bits(tmp_path, stop):
    whole, stopped = make(), make()
    for task in TASKS[:3]:
        epochs = list(whole.learn(task))
    assert [(epoch.phase, epoch.number, epoch.total) for epoch in epochs] == [
        ("trial", i, 4) for i in (1, 2, 3, 4)
    ]
    for task in TASKS[:2]:
        list(stopped.learn(task))
    steps = stopped.learn(TASKS[2])
    found = [next(steps) for _ in range(stop)]
    stopped.save(tmp_path)
    again = make(controller_width=3).load(
        tmp_path
    )  # as it was saved, whatever the loading learner's settings
    assert torch.equal(again.logits(X, "t2"), stopped.logits(X, "t2"))
    again = make().load(tmp_path)
    found += list(again.learn(TASKS[2]))
    assert_same_state(whole, again)
    assert found == epochs


# Columns


def test_earlier_answers_do_not_change_by_a_bit():
    learner, before = make(), {}
    for task in TASKS:
        list(learner.learn(task))
        before[task.name] = learner.logits(X, task.name)
        assert all(torch.equal(learner.logits(X, name), kept) for name, kept in before.items())
    assert sum(learner.growth("t3").units) + sum(learner.growth("t2").units) > 0


def block(generations, layer, inputs):
    """Naive twin: one whole matrix of a layer, with zeros where nothing is read."""
    rows = [each.weights[layer] for each in generations]
    width = inputs if layer == 0 else sum(len(each.biases[layer - 1]) for each in generations)
    made = torch.zeros(sum(len(each) for each in rows), width)
    start = 0
    for each in rows:
        made[start : start + len(each), : each.shape[1]] = each
        start += len(each)
    return made, torch.cat([each.biases[layer] for each in generations])


def test_the_grown_network_is_one_mlp_with_zeros_where_old_units_do_not_read_new_ones():
    learner = learned(4)
    generations, x = learner._generations, X.flatten(1)
    for layer in range(2):
        weight, bias = block(generations, layer, 64)
        x = (x @ weight.T + bias).relu()
    own = learner._own["t3"]
    torch.testing.assert_close(learner.logits(X, "t3"), x @ own.head["weight"].T + own.head["bias"])


def test_grown_convolutions_are_one_net_with_zeros_where_old_units_do_not_read_new_ones():
    learner = learned(4, IMAGES)
    generations = learner._generations
    counts = [units(generations[: i + 1], 3) for i in range(4)]
    assert counts[-1] > counts[0]
    places = {1: 1, 2: 4}  # of a channel, as the layer before leaves it
    whole = []
    for layer in range(3):
        count, before = counts[-1][layer], 1 if layer == 0 else counts[-1][layer - 1] * places.get(layer, 1)
        shape = (count, before, *((3, 3), (2, 2), ())[layer])
        weight, bias, start = torch.zeros(shape), torch.cat([each.biases[layer] for each in generations]), 0
        for each in generations:
            part = each.weights[layer]
            weight[start : start + len(part), : part.shape[1]] = part
            start += len(part)
        whole.append((weight, bias))
    x = functional.max_pool2d(functional.conv2d(X, *whole[0], padding=1).relu(), 2)
    x = functional.conv2d(x, *whole[1], stride=2).relu()
    x = functional.linear(x.flatten(1), *whole[2]).relu()
    own = learner._own["t3"]
    torch.testing.assert_close(
        learner.logits(X, "t3"), functional.linear(x, own.head["weight"], own.head["bias"])
    )


@pytest.mark.parametrize("net", ["mlp-12-8", IMAGES], ids=["linear", "convolutions"])
def test_with_new_columns_of_zeros_the_grown_network_is_the_old_one(net):
    learner = learned(1, net)
    layers, old = hidden_layers(net, SHAPE), units(learner._generations, len(hidden_widths(net)))
    made, head = child(old, (3,) * len(old), net), learner._own["t0"].head
    with torch.no_grad():
        for value in made.parameters():
            value.zero_()
        made.head_weight[:, :8], made.head_bias[:] = head["weight"], head["bias"]
    seen = torch.cat(activations(learner._generations, X, layers), 1)
    torch.testing.assert_close(made(seen), learner.logits(X, "t0"))


@pytest.mark.parametrize(
    ("net", "new"), [("mlp-12-8", (3, 0)), (IMAGES, (2, 0, 1)), (IMAGES, (0, 3, 0))], ids=str
)
def test_a_child_computes_what_its_columns_compute_once_they_are_the_networks(net, new):
    learner, layers = learned(2, net), hidden_layers(net, SHAPE)
    made = child(units(learner._generations, len(layers)), new, net)
    seen = torch.cat(activations(learner._generations, X, layers), 1)
    features = activations([*learner._generations, made.generation()], X, layers)[-1]
    found = features @ made.head()["weight"].T + made.head()["bias"]
    torch.testing.assert_close(made(seen), found)


def test_columns_are_drawn_as_told():
    made = child((0, 0), (50, 40), "mlp-50-40", (400,))
    for value in (*made.weights, made.head_weight):
        assert value.abs().max() <= 0.02
    assert made.weights[0].std().item() == pytest.approx(
        0.01 * 0.8796, rel=0.02
    )  # of a normal cut at two sigma
    assert all(bool((value == 0.1).all()) for value in (*made.biases, made.head_bias))
    large = child((0, 0, 0), (500, 6, 8), IMAGES)
    assert large.weights[0].std().item() == pytest.approx((2 / 9) ** 0.5 * 0.8796, rel=0.05)
    assert large.head_weight.abs().max() <= 0.02


def test_the_first_task_of_a_convolutional_net_has_its_parameters():
    learner = learned(1, IMAGES)
    expected = sum(value.numel() for value in IMAGES.parameters()) + 3 * 8 + 3
    assert learner.size().parameters == expected
    assert hidden_widths("growth-conv") == (64, 128, 256, 2048, 2048)
    made = [layer.makes for layer in hidden_layers("growth-conv", (3, 32, 32))]
    assert made == [(14, 14), (6, 6), (2, 2), (), ()]


def test_activations_are_the_same_kept_or_computed_when_asked_for():
    learner = learned(2)
    indices = torch.arange(1, 40, 3)
    rows = torch.tensor([5, 0, 2])
    kept, made = (
        Seen(TASKS[1].train, indices, learner._generations, LAYERS, memory) for memory in (10**9, 1)
    )
    assert (kept._kept is None, made._kept is None) == (False, True)
    for one, other in zip(kept.batch(rows), made.batch(rows), strict=True):
        torch.testing.assert_close(one, other)
    x, y = TASKS[1].train.batch(indices[rows])
    assert torch.equal(kept.batch(rows)[0][:, :64], x.flatten(1))
    assert torch.equal(kept.labels[rows], y)
    assert kept.digest() == TASKS[1].train.digest()


def test_a_task_can_be_given_no_units_at_all(monkeypatch):
    monkeypatch.setattr(Controller, "sample", lambda self, g: (0, 0))
    learner = learned(3)
    assert learner.growth("t2").units == (0, 0)
    assert dict(learner.size().per_task) == {"t0": 8 * 3 + 3, "t1": 8 * 3 + 3, "t2": 8 * 3 + 3}


# The controller


def controller(**changes):
    settings = {"actions": 4, "layers": 2, "width": 5, "rates": (0.01, 0.02), "seed": 0, "task": "a"}
    return Controller([1.0, 1.5], **{**settings, **changes})


def test_the_policys_gradient_is_advantage_times_the_gradient_of_the_log_probability():
    """By hand for the softmax's bias: of -(R - V) sum_l log p_l(a_l) it is (R - V) sum_l (p_l - onehot(a_l))."""
    made = controller()
    chosen, worth = (2, 0), 0.9
    with torch.no_grad():
        made.critic.weight.fill_(0.1)
        made.critic.bias.fill_(0.3)
    value = made.critic(made.state)[0]
    assert value.item() == pytest.approx(0.3 + 0.1 * 1.0 + 0.1 * 1.5)
    advantage = worth - value.item()
    probabilities = made.policy.log_probabilities(made.state, chosen).exp().detach()
    policy_loss(made.policy.log_probability(made.state, chosen), worth, value).backward()
    expected = advantage * (probabilities - torch.eye(4)[list(chosen)]).sum(0)
    torch.testing.assert_close(made.policy.out.bias.grad, expected)
    assert made.critic.bias.grad is None  # the baseline is a number to the policy
    value_loss(worth, value).backward()
    torch.testing.assert_close(made.critic.bias.grad, torch.tensor([-2 * advantage]))
    torch.testing.assert_close(made.critic.weight.grad, -2 * advantage * made.state[None])


def test_the_log_probability_is_that_of_what_is_sampled_step_by_step():
    """Naive twin: the LSTM stepped by hand, with its own action as the next input."""
    made = controller()
    g, twin = generator(0, "a"), generator(0, "a")
    hidden, before, total, expected = None, torch.zeros(4), 0.0, []
    for width in made.state:
        out, hidden = made.policy.lstm(torch.cat([before, width[None]])[None], hidden)
        probabilities = made.policy.out(out[0]).softmax(0)
        action = int(torch.multinomial(probabilities, 1, generator=twin))
        total = total + probabilities[action].log()
        expected.append(action)
        before = torch.eye(4)[action]
    chosen = made.sample(g)
    assert chosen == tuple(expected)
    torch.testing.assert_close(made.policy.log_probability(made.state, chosen), total)


def test_the_first_reward_is_what_is_expected_and_the_critic_follows_later_ones():
    made = controller(rates=(0.01, 0.05))
    assert made.learn((1, 1), 0.7) == 0
    assert made.learn((1, 1), 0.9) == pytest.approx(0.2)
    for _ in range(100):
        advantage = made.learn((1, 1), 0.9)
    assert abs(advantage) < 0.05


def test_it_learns_what_is_rewarded():
    made = controller(actions=6, width=16, rates=(0.02, 0.02))
    for i in range(150):
        chosen = made.sample(generator(0, "trial", i))
        made.learn(chosen, 1 - 0.1 * sum(chosen))
    late = [sum(made.sample(generator(1, "late", i))) for i in range(40)]
    early = [sum(controller(actions=6, width=16).sample(generator(1, "late", i))) for i in range(40)]
    assert sum(late) < 0.5 * sum(early)


# Trials


def test_the_reward_is_accuracy_less_a_price_for_every_unit_and_the_best_child_is_kept():
    assert reward(0.9, 30, 1e-4) == pytest.approx(0.897)
    learner = learned(1, price=0.01)
    epochs = list(learner.learn(TASKS[1]))
    grown = learner.growth("t1")
    assert len(grown.trials) == 4
    for epoch, trial in zip(epochs, grown.trials, strict=True):
        assert trial.reward == pytest.approx(trial.accuracy - 0.01 * sum(trial.units))
        assert epoch.val_accuracy == trial.accuracy
        assert (epoch.notes["units"], epoch.notes["reward"]) == (list(trial.units), trial.reward)
    best = max(grown.trials, key=lambda trial: trial.reward)
    assert grown.units == best.units
    assert epochs[-1].notes["best"] == {**best.to_json(), "trial": grown.trials.index(best) + 1}
    x, y = TASKS[1].val.batch(torch.arange(12))
    assert (learner.logits(x, "t1").argmax(1) == y).float().mean().item() == pytest.approx(best.accuracy)


def test_trials_differ_and_another_seed_tries_others():
    found = [
        tuple(trial.units for trial in learner.growth("t1").trials) for learner in (learned(2), learned(2))
    ]
    assert found[0] == found[1]
    assert len(set(found[0])) > 1
    other = learned(1)
    list(other.learn(TASKS[1], seed=9))
    assert tuple(trial.units for trial in other.growth("t1").trials) != found[0]


def test_the_first_task_has_the_nets_own_widths_and_growth_survives_saving(tmp_path):
    learner = learned(2)
    assert learner.growth("t0").units == (12, 8)
    assert learner.growth("t0").trials == ()
    learner.save(tmp_path)
    loaded = make().load(tmp_path)
    assert [loaded.growth(name) for name in ("t0", "t1")] == [learner.growth(name) for name in ("t0", "t1")]


def test_without_validation_data_a_tenth_of_the_training_data_is_held_out():
    learner = learned(1)
    bare = Task("bare", TASKS[1].classes, TASKS[1].train, EMPTY, EMPTY)
    epochs = list(learner.learn(bare))
    assert {epoch.notes["held"] for epoch in epochs} == {"training"}
    parts = validation.divide(bare, 0)
    assert all(
        epoch.val_accuracy * len(parts.indices) == pytest.approx(round(epoch.val_accuracy * 4))
        for epoch in epochs
    )
    assert sorted([*parts.indices.tolist(), *parts.train.tolist()]) == list(range(48))


# What is kept


def test_columns_that_later_tasks_read_are_shared_and_outlive_their_task():
    learner = learned(3)
    size, kept = learner.size(), learner.logits(X, "t2")
    first, second = (learner._generations[i].tensors().values() for i in (0, 1))
    assert size.shared == sum(value.numel() for value in (*first, *second))
    learner.forget("t0")
    learner.forget("t1")
    assert torch.equal(learner.logits(X, "t2"), kept)
    assert len(learner._generations) == 3
    learner.forget("t2")
    assert learner.size().parameters == 0
    list(learner.learn(TASKS[1]))
    assert learner.growth("t1").units == (12, 8)  # a first task again


def test_what_was_added_is_gone_with_the_last_task_that_reads_it():
    learner, other = learned(2), learned(1)
    learner.forget("t1")
    assert_same_state(learner, other)


@pytest.mark.parametrize("goes", [("t1",), ("t0", "t1"), ("t2",)], ids=str)
def test_earlier_tasks_can_be_forgotten_while_one_is_under_way(tmp_path, goes):
    whole, learner = learned(3), learned(2)
    steps = learner.learn(TASKS[2])
    next(steps)
    for name in goes:
        learner.forget(name)
    learner.save(tmp_path)
    for each in (learner, make().load(tmp_path)):
        list(each.learn(TASKS[2]))
        assert each.tasks == tuple(name for name in ("t0", "t1", "t2") if name not in goes or name == "t2")
        assert torch.equal(each.logits(X, "t2"), whole.logits(X, "t2"))


def test_a_generation_is_what_it_was_saved_as():
    generation = child((0, 0), (2, 3), "mlp-2-3", (6,)).generation()
    again = Generation.of(generation.tensors(), 2)
    assert all(
        torch.equal(a, b)
        for a, b in zip((*again[0], *again[1]), (*generation[0], *generation[1]), strict=True)
    )


# Refusals


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("trials", 0),
        ("max_units", 0),
        ("price", -1e-4),
        ("controller_width", 0),
        ("controller_layers", 1.5),
        ("controller_learning_rate", 0),
        ("critic_learning_rate", -1),
        ("memory", 0),
    ],
)
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(SettingError, match=setting):
        make(**{setting: value})


def test_the_constants_are_those_that_are_known():
    config = RclConfig()
    assert dataclasses.asdict(config) | {"momentum": 0, "memory": 0} == {
        "epochs": 15, "batch_size": 32, "learning_rate": 1e-3, "optimizer": "adam", "momentum": 0, "weight_decay": 1e-4,
        "trials": 50, "max_units": 29, "price": 1e-4, "controller_width": 100, "controller_layers": 2,
        "controller_learning_rate": 5e-3, "critic_learning_rate": 5e-3, "memory": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "net",
    [
        "gem-resnet18",
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten()),
        nn.Sequential(nn.Conv2d(2, 2, 3, groups=2), nn.ReLU(), nn.Flatten()),
        nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Conv2d(1, 2, 3), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 4)),
        nn.Sequential(nn.Flatten()),
        nn.Linear(64, 4),
    ],
    ids=["a name", "normalisation", "groups", "order", "no activation", "no layer", "no sequence"],
)
def test_nets_whose_layers_cannot_be_given_units_are_refused(net):
    with pytest.raises(SettingError, match="net: expected"):
        make(net)


def test_a_module_that_stands_in_several_places_counts_in_each():
    relu, pool = nn.ReLU(), nn.MaxPool2d(2)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), relu, pool, nn.Conv2d(2, 3, 2), relu, pool, nn.Flatten())
    assert [layer.makes for layer in hidden_layers(net, SHAPE)] == [(3, 3), (1, 1)]


def test_widths_of_names_and_modules():
    assert hidden_widths("mlp-312-128") == (312, 128)
    assert hidden_widths("lenet-300-100") == (300, 100)
    assert hidden_widths(nn.Sequential(nn.Sequential(nn.Linear(3, 7), nn.ReLU()))) == (7,)


def test_inputs_of_another_shape_are_refused_and_nothing_changes():
    learner = learned(1)
    before = learner.record()
    with pytest.raises(DataError, match="resize"):
        list(learner.learn(toy_task("big", 1, shape=(1, 9, 9))))
    assert learner.record().document == before.document
    module = nn.Sequential(nn.Flatten(), nn.Linear(5, 4), nn.ReLU())
    with pytest.raises(DataError, match="task 't0': expected inputs of 5 numbers, found 64"):
        list(make(module).learn(TASKS[0]))
    for shape, words in (((2, 8, 8), "1 channels"), ((1, 1, 1), "enlarge"), ((1, 12, 12), "24 features")):
        with pytest.raises(DataError, match=words):
            list(make(IMAGES).learn(toy_task("other", 1, shape=shape)))


def test_a_later_task_with_nothing_to_choose_on_is_refused_and_nothing_changes():
    one = Split.of(torch.zeros(1, *SHAPE), torch.zeros(1, dtype=torch.int64))
    learner = learned(1)
    before = learner.record()
    with pytest.raises(DataError, match="hold some out"):
        list(learner.learn(Task("one", ("a",), one, EMPTY, EMPTY)))
    assert learner.record().document == before.document


def test_growth_is_unknown_while_it_is_tried():
    learner = learned(1)
    next(learner.learn(TASKS[1]))
    with pytest.raises(TaskUnknownError, match="under way"):
        learner.growth("t1")
    with pytest.raises(TaskUnknownError, match="nope"):
        learner.growth("nope")
