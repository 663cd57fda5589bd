"""Learn-to-Grow: laws, what it searches, chooses, trains, keeps and refuses."""

import pytest
import torch
from tests.growth.making import SHAPE, conv
from tests.learner_contract import LearnerContract, assert_same_state, toy_task
from torch import nn
from torch.nn.functional import cross_entropy

from stolon import learners
from stolon.errors import DataError, SettingError, StoreDamagedError, TaskUnknownError
from stolon.growth.layer_search import Mixture, Search
from stolon.growth.learn_to_grow import LearnToGrowConfig
from stolon.growth.library import ADAPT, NEW, REUSE, Choice, Library
from stolon.growth.structure import Structure, parameters_of
from stolon.tasks import Split, Task

FAST = {"epochs": 2, "learning_rate": 0.1, "batch_size": 8, "architecture_learning_rate": 0.05}
ADAM = {"optimizer": "adam", "learning_rate": 0.02}
TASKS = [toy_task(f"t{i}", i) for i in range(4)]
X = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))
EMPTY = Split.of(torch.zeros(0, *SHAPE), torch.zeros(0, dtype=torch.int64))


def make(net="mlp-16-12", **settings):
    return learners.make("learn-to-grow", net=net, **{**FAST, **settings})


def learned(count=2, net="mlp-16-12", **settings):
    learner = make(net, **settings)
    for task in TASKS[:count]:
        list(learner.learn(task))
    return learner


def answers(learner, name):
    return learner.logits(X, name)


def prefer(monkeypatch, *kinds):
    """The search ends with a choice of these kinds, layer by layer."""

    def choices(self):
        return [
            next(each for each in here if each.kind == kind)
            for here, kind in zip(self.candidates, kinds, strict=True)
        ]

    monkeypatch.setattr(Mixture, "choices", choices)


# Laws


class TestMlp(LearnerContract):
    def make(self):
        return make()


class TestNormedConvolutionsThatAreTuned(LearnerContract):
    def make(self):
        return make(conv(normed=True, seed=1), tune_reused=0.1, epochs=4, search_epochs=2, **ADAM)


@pytest.mark.parametrize(("tune_reused", "stop"), [(0.0, 1), (0.0, 4), (0.5, 2), (0.5, 3), (0.5, 5)])
def test_stopped_at_any_yield_of_both_phases_a_third_task_ends_with_the_same_bits(
    monkeypatch, tmp_path, tune_reused, stop
):
    prefer(monkeypatch, REUSE, ADAPT, NEW, REUSE)

    def new():
        return make(conv(normed=True), epochs=3, tune_reused=tune_reused, **ADAM)

    whole, stopped = new(), new()
    for task in TASKS[:3]:
        epochs = list(whole.learn(task))
    assert [(epoch.phase, epoch.number) for epoch in epochs] == [
        *(("search", i) for i in (1, 2)), *(("train", i) for i in (1, 2, 3))
    ]  # fmt: skip
    for task in TASKS[:2]:
        list(stopped.learn(task))
    steps = stopped.learn(TASKS[2])
    found = [next(steps) for _ in range(stop)]
    stopped.save(tmp_path)
    again = new().load(tmp_path)
    assert torch.equal(answers(again, "t2"), answers(stopped, "t2"))
    found += list(again.learn(TASKS[2]))
    assert_same_state(whole, again)
    assert found == epochs


@pytest.mark.parametrize("net", [conv(normed=True), "mlp-16-12-8"], ids=["conv", "mlp"])
def test_with_reused_layers_frozen_earlier_answers_do_not_change_by_a_bit(monkeypatch, net):
    kinds = (REUSE, ADAPT, NEW, REUSE) if isinstance(net, nn.Module) else (REUSE, ADAPT, REUSE)
    prefer(monkeypatch, *kinds)
    learner = make(net, **ADAM)
    before = {}
    for task in TASKS[:3]:
        list(learner.learn(task))
        before[task.name] = answers(learner, task.name)
        assert all(torch.equal(answers(learner, name), kept) for name, kept in before.items())


def test_tuned_reused_layers_move_those_that_are_adapted_do_not(monkeypatch):
    prefer(monkeypatch, REUSE, ADAPT)
    learner = make(tune_reused=0.5)
    list(learner.learn(TASKS[0]))
    before = {
        name: {key: value.clone() for key, value in node.items()}
        for name, node in learner._library.nodes.items()
    }
    list(learner.learn(TASKS[1]))
    moved = {
        name: any(not torch.equal(value, node[key]) for key, value in learner._library.nodes[name].items())
        for name, node in before.items()
    }
    assert moved == {"1:1": True, "2:1": False}


def test_a_half_learned_task_that_is_forgotten_leaves_what_it_tuned_as_it_was(monkeypatch, tmp_path):
    prefer(monkeypatch, REUSE, REUSE)
    learner = learned(1, tune_reused=0.5)
    before = answers(learner, "t0")
    steps = learner.learn(TASKS[1])
    for _ in range(2):
        next(steps)
    assert not torch.equal(answers(learner, "t0"), before)
    learner.save(tmp_path)
    for each in (learner, make(tune_reused=0.5).load(tmp_path)):
        each.forget("t1")
        assert torch.equal(answers(each, "t0"), before)
        assert_same_state(each, learned(1, tune_reused=0.5))


# The search


def searched(net="mlp-16-12", tasks=2, **settings):
    """A learner's library, and a mixture for another task."""
    learner = learned(tasks, net, **settings)
    return learner._library, Mixture(learner._library, "new", 3, 4, seed=5)


def test_candidates_are_reuse_and_adapt_of_every_earlier_node_and_new(monkeypatch):
    prefer(monkeypatch, NEW, REUSE)
    _, mixture = searched()
    assert [[str(each).strip() for each in here] for here in mixture.candidates] == [
        ["reuse 1:1", "reuse 1:2", "adapt 1:1", "adapt 1:2", "new"],
        ["reuse 2:1", "adapt 2:1", "new"],
    ]


@pytest.mark.parametrize("kinds", [(REUSE,) * 4, (ADAPT,) * 4, (NEW,) * 4, (ADAPT, REUSE, NEW, ADAPT)])
def test_a_mixture_with_one_hot_weights_is_the_discrete_network(kinds):
    """Naive twin: the chosen layers, called one after the other."""
    library, mixture = searched(conv(normed=True), 1, **ADAM)
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in mixture.weights():  # adapters that do something
            value.add_(0.1 * torch.randn(value.shape, generator=g))
        for logits, here, kind in zip(mixture.logits, mixture.candidates, kinds, strict=True):
            logits.copy_(torch.tensor([0.0 if each.kind == kind else -1e4 for each in here]))
    choices = mixture.choices()
    assert tuple(choice.kind for choice in choices) == kinds
    own = list(zip(mixture._own, choices, strict=True))
    library.add(
        "new",
        [None if choice.kind == NEW else choice for choice in choices],
        [here[Choice(NEW, "")] for here in mixture._own],
        [here[choice] if choice.kind == ADAPT else {} for here, choice in own],
        mixture.head,
    )
    with torch.no_grad():
        assert torch.equal(mixture.eval()(X), library.network("new").eval()(X))


def test_a_mixture_is_the_papers_sum_layer_by_layer():
    library, mixture = searched("mlp-16-12", 1)
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in (*mixture.weights(), *mixture.logits):
            value.add_(0.3 * torch.randn(value.shape, generator=g))
        x = X.flatten(1)
        for layer, inside in ((0, "body.1"), (1, "body.0")):
            node, own = library.nodes[f"{layer + 1}:1"], mixture._own[layer]
            adapter, new = own[Choice(ADAPT, f"{layer + 1}:1")], own[Choice(NEW, "")]
            plain = x @ node[f"{inside}.weight"].T + node[f"{inside}.bias"]
            beside = (x @ adapter[f"{inside}.weight:down"].T) @ adapter[f"{inside}.weight:up"].T
            ways = [
                plain,
                plain + beside + adapter[f"{inside}.bias:shift"],
                x @ new[f"{inside}.weight"].T + new[f"{inside}.bias"],
            ]
            alpha = mixture.logits[layer].exp() / mixture.logits[layer].exp().sum()
            x = sum(a * way.relu() for a, way in zip(alpha, ways, strict=True))
        torch.testing.assert_close(mixture(X), mixture.head(x))


def test_logits_step_on_held_data_with_the_price_of_size_and_weights_on_training_data():
    """One epoch of one batch, by hand: Adam's first step has the gradient's sign and the learning rate's size."""
    _, mixture = searched("mlp-16-12", 1)
    _, twin = searched("mlp-16-12", 1)
    config = LearnToGrowConfig(learning_rate=0.1, batch_size=64)
    search = Search(mixture, config, TASKS[1], 0, epochs=1, rate=0.01, beta=2.0)
    list(search.run())
    x, y = TASKS[1].val.batch(torch.arange(12))
    sizes = torch.tensor(twin.added[0]), torch.tensor(twin.added[1])
    whole = 64 * 16 + 16 + 16 * 12 + 12
    assert [size.tolist() for size in sizes] == [[0, 4 * 80 + 16, 1040], [0, 3 * 28 + 12, 204]]
    price = sum((logits.softmax(0) * size).sum() for logits, size in zip(twin.logits, sizes, strict=True))
    loss = cross_entropy(twin(x), y) + 2.0 * price / whole
    for found, gradient in zip(mixture.logits, torch.autograd.grad(loss, twin.logits), strict=True):
        torch.testing.assert_close(found.detach(), -0.01 * gradient.sign(), atol=1e-4, rtol=0)
    with torch.no_grad():
        for mine, theirs in zip(twin.logits, mixture.logits, strict=True):
            mine.copy_(theirs)
    x, y = TASKS[1].train.batch(torch.arange(48))
    gradients = torch.autograd.grad(cross_entropy(twin(x), y), twin.weights())
    for found, value, gradient in zip(mixture.weights(), twin.weights(), gradients, strict=True):
        torch.testing.assert_close(found, value - 0.1 * gradient)


def test_a_search_trains_nothing_of_earlier_tasks(monkeypatch):
    learner = learned(1, conv(normed=True), **ADAM)
    before = answers(learner, "t0")
    next(learner.learn(TASKS[1]))
    assert torch.equal(answers(learner, "t0"), before)
    assert not any(value.requires_grad for node in learner._library.nodes.values() for value in node.values())


def test_where_size_is_dear_everything_is_reused():
    dear = learned(2, beta=1000.0)
    assert [str(choice) for choice in dear.choices("t1")] == ["reuse 1:1", "reuse 2:1"]
    assert dear.size().per_task["t1"] == 12 * 3 + 3


def test_layers_that_pass_nothing_on_are_not_reused():
    learner = learned(1, beta=0.0, search_epochs=8)
    with torch.no_grad():
        for node in learner._library.nodes.values():
            for value in node.values():
                value.fill_(-1.0)
    list(learner.learn(TASKS[1]))
    assert all(choice.kind != REUSE for choice in learner.choices("t1"))


def test_without_validation_data_a_tenth_of_the_training_data_is_held_out_while_searching():
    learner = learned(1)
    bare = Task("bare", TASKS[1].classes, TASKS[1].train, EMPTY, EMPTY)
    epochs = list(learner.learn(bare))
    search = Search(
        Mixture(learner._library, "x", 3, 4, 0), learner.config, bare, 0, epochs=1, rate=0.1, beta=0
    )
    parts = search._parts
    assert (len(parts.indices), len(parts.train), parts.source) == (4, 44, "training")
    assert sorted([*parts.indices.tolist(), *parts.train.tolist()]) == list(range(48))
    assert [epoch.notes.get("held") for epoch in epochs] == ["training", None, None]


# What is kept


def test_choices_and_logits_of_each_layer_are_told_and_survive_saving(tmp_path):
    learner = learned(1)
    epochs = list(learner.learn(TASKS[1]))
    search, train = epochs[0].notes, epochs[-1].notes
    assert train["choices"] == [str(choice) for choice in learner.choices("t1")]
    assert [list(layer) for layer in search["logits"]] == [
        ["reuse 1:1", "adapt 1:1", "new"],
        ["reuse 2:1", "adapt 2:1", "new"],
    ]
    for choice, layer in zip(search["choices"], search["logits"], strict=True):
        assert layer[choice] == max(layer.values())
    assert train["logits"] == search["logits"]
    learner.save(tmp_path)
    loaded = make().load(tmp_path)
    assert loaded.choices("t1") == learner.choices("t1")
    assert loaded.choices("t0") == (Choice(NEW, "1:1"), Choice(NEW, "2:1"))


def test_shared_layers_count_once_and_what_is_added_is_the_tasks_own(monkeypatch):
    prefer(monkeypatch, REUSE, ADAPT)
    learner = make()
    notes = [list(learner.learn(task))[-1].notes for task in TASKS[:3]]
    size, head = learner.size(), 12 * 3 + 3
    adapter = 3 * (16 + 12) + 12  # rank 3: half the layer's size at most
    assert size.shared == 64 * 16 + 16 + 16 * 12 + 12
    assert dict(size.per_task) == {"t0": head, "t1": head + adapter, "t2": head + adapter}
    assert [note["parameters_added"] for note in notes] == [
        size.shared + head,
        head + adapter,
        head + adapter,
    ]


def test_forgetting_drops_what_no_other_task_uses(monkeypatch):
    prefer(monkeypatch, NEW, REUSE)
    learner = learned(2)
    kept = answers(learner, "t1")
    learner.forget("t0")
    assert set(learner._library.nodes) == {"1:2", "2:1"}
    assert torch.equal(answers(learner, "t1"), kept)
    learner.forget("t1")
    assert learner.size().parameters == 0
    list(learner.learn(toy_task("other", 1, shape=(1, 5, 5))))  # no shape to keep to


@pytest.mark.parametrize("goes", [("t0",), ("t0", "t1"), ("t2",)], ids=str)
@pytest.mark.parametrize("stop", [1, 2])
def test_earlier_tasks_can_be_forgotten_while_one_is_under_way(monkeypatch, tmp_path, goes, stop):
    prefer(monkeypatch, REUSE, NEW)
    learner = learned(2)
    steps = learner.learn(TASKS[2])
    for _ in range(stop):  # in the search, in the training
        next(steps)
    for name in goes:
        learner.forget(name)
    learner.save(tmp_path)
    loaded = make().load(tmp_path)
    for each in (learner, loaded):
        list(each.learn(TASKS[2]))
        kept = [name for name in ("t0", "t1") if name not in goes]
        assert each.tasks == (*kept, "t2")
        assert each._library.nodes.keys() == {
            choice.node for name in each.tasks for choice in each.choices(name)
        }
    assert_same_state(learner, loaded)


def test_training_begins_anew_from_what_was_chosen_as_it_was_drawn(monkeypatch):
    prefer(monkeypatch, REUSE, NEW)
    learner = learned(1)
    drawn = parameters_of(Structure("mlp-16-12", SHAPE).fresh(0, NEW, "t1"))
    seen, add = {}, Library.add

    def noted(self, *arguments):
        add(self, *arguments)
        seen.update({key: value.detach().clone() for key, value in self.nodes["2:2"].items()})

    monkeypatch.setattr(Library, "add", noted)
    list(learner.learn(TASKS[1]))
    assert seen.keys() == drawn[1].keys()
    assert all(torch.equal(value, drawn[1][key]) for key, value in seen.items())


# Refusals


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("search_epochs", 0),
        ("architecture_learning_rate", 0),
        ("beta", -0.1),
        ("rank", 0),
        ("tune_reused", 1.5),
    ],
)
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(SettingError, match=setting):
        make(**{setting: value})


def test_a_net_without_stages_is_refused():
    with pytest.raises(SettingError, match=r"nn\.Sequential"):
        make(nn.Linear(3, 2))


def test_inputs_of_another_shape_are_refused_and_nothing_changes():
    learner = learned(1)
    before = learner.record()
    with pytest.raises(DataError, match="resize"):
        list(learner.learn(toy_task("big", 1, shape=(1, 9, 9))))
    assert learner.record().document == before.document


def test_a_later_task_with_nothing_to_choose_on_is_refused_and_nothing_changes():
    one = Split.of(torch.zeros(1, *SHAPE), torch.zeros(1, dtype=torch.int64))
    learner = learned(1)
    before = learner.record()
    with pytest.raises(DataError, match="hold some out"):
        list(learner.learn(Task("one", ("a",), one, EMPTY, EMPTY)))
    assert learner.record().document == before.document


def test_choices_are_unknown_while_they_are_searched():
    learner = learned(1)
    next(learner.learn(TASKS[1]))
    with pytest.raises(TaskUnknownError, match="under way"):
        learner.choices("t1")
    with pytest.raises(TaskUnknownError, match="nope"):
        learner.choices("nope")
    with pytest.raises(TaskUnknownError, match="plans for: t0"):
        learner._library.plan("t1")


def test_a_plan_that_names_a_missing_node_is_a_damaged_state():
    learner = learned(1)
    document, groups = learner._library.state()
    document["plans"]["t0"][0] = ["reuse", "1:7"]
    with pytest.raises(StoreDamagedError, match="1:7"):
        Library.of_state(learner._library.structure, document, groups)


def test_a_search_that_blows_up_is_a_typed_error():
    learner = learned(1)
    learner.config = LearnToGrowConfig(**{**FAST, "learning_rate": 1e30})
    with pytest.raises(ValueError, match="stays finite"):
        list(learner.learn(TASKS[1]))
