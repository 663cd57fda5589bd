"""SupSup obeys the laws of learners, forgets nothing, and finds tasks."""

import pytest
import torch
from tests.learner_contract import LearnerContract, assert_same_state, toy_task
from torch import nn

from stolon import learners
from stolon.errors import DataError, RecipeChangedError, SettingError, StoreDamagedError, TaskError
from stolon.masks.inference import SEARCHES, TaskSearch
from stolon.masks.supsup import SupSup, SupSupConfig
from stolon.tasks import Split, Task

FAST = {"epochs": 6, "batch_size": 8, "learning_rate": 0.02, "optimizer": "adam", "density": 0.3}


def make(net="mlp-128", **settings) -> SupSup:
    learner = learners.make("supsup", net=net, **{"outputs": 8, **FAST, **settings})
    assert isinstance(learner, SupSup)
    return learner


def normed() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.AvgPool2d(3), nn.Flatten()
        )


def learned(learner, *tasks, seed=0):
    for task in tasks:
        list(learner.learn(task, seed=seed))
    return learner


SURE = {"outputs": 100, "objective": "superfluous", "rule": "nonnegative", "epochs": 12}


class TestPlain(LearnerContract):
    infers = True
    make = staticmethod(lambda: make("mlp-256", **SURE))


class TestNormalised(LearnerContract):
    infers = True
    make = staticmethod(lambda: make(normed(), **{**SURE, "per": "batch", "objective": "entropy"}))


class TestTransfer(LearnerContract):
    infers = True
    make = staticmethod(lambda: make(transfer=True, rule="nonnegative"))


@pytest.mark.parametrize("net", ["mlp-128", normed])
def test_no_answer_changes_by_a_bit_when_more_is_learned(net):
    learner = make(net if isinstance(net, str) else net())
    tasks = [toy_task(str(i), i) for i in range(4)]
    x = tasks[0].test.batch(torch.arange(24))[0]
    learned(learner, tasks[0])
    before = learner.logits(x, "0")
    learned(learner, *tasks[1:])
    assert torch.equal(learner.logits(x, "0"), before)


@pytest.mark.parametrize("per", ["sample", "batch"])
@pytest.mark.parametrize("search", SEARCHES)
def test_tasks_are_found(per, search):
    learner = make("mlp-256-256", outputs=100, epochs=20, rule="nonnegative", learning_rate=0.005)
    tasks = [toy_task(str(i), i) for i in range(4)]
    learned(learner, *tasks)
    right = []
    for task in tasks:
        x, _ = task.test.batch(torch.arange(24))
        right += [name == task.name for name in learner.infer(x, search=search, per=per)]
    assert sum(right) / len(right) >= 0.6  # chance: 0.25
    x, _ = tasks[1].test.batch(torch.arange(24))
    assert len(set(learner.infer(x, per="batch"))) == 1


@pytest.mark.parametrize("objective", ["entropy", "superfluous"])
def test_asked_each_the_surest_task_wins(objective):
    learner = learned(make(normed(), outputs=9), *(toy_task(str(i), i) for i in range(3)))
    candidates, x = learner._candidates(), torch.rand(6, 1, 8, 8)
    search = TaskSearch(candidates, 3, objective)
    shares = torch.stack(
        [learner.frozen(x, candidates.weights(i), candidates.statistics(i), training=False) for i in range(3)]
    ).softmax(2)
    unsure = -(shares * shares.log()).sum(2) if objective == "entropy" else shares[:, :, 3:].sum(2)
    torch.testing.assert_close(search.objectives(x), unsure.T)
    assert torch.equal(search.find(x, "each", "sample"), unsure.argmin(0))
    assert search.find(x, "each", "batch").tolist() == [int(unsure.mean(1).argmin())] * 6


@pytest.mark.parametrize("objective", ["entropy", "superfluous"])
@pytest.mark.parametrize("net", ["mlp-128", normed])
def test_the_slopes_of_samples_are_those_of_batches_of_one(net, objective):
    """Forward mode against reverse mode, and against the objective's change when a task's share grows a little."""
    learner = make(net if isinstance(net, str) else net(), outputs=9)
    learned(learner, *(toy_task(str(i), i) for i in range(3)))
    candidates = learner._candidates()
    search = TaskSearch(candidates, 3, objective)
    x = torch.rand(4, 1, 8, 8)
    found = search.sample_gradients(x)
    single = torch.stack([search.batch_gradient(each[None], range(3), own=False) for each in x])
    torch.testing.assert_close(found, single, rtol=1e-4, atol=1e-6)
    frozen, statistics = learner.frozen, candidates.mean_statistics(range(3))
    given = {name: v.double() if v.is_floating_point() else v for name, v in statistics.items()}
    weights = [torch.stack(layer).double() for layer in zip(*map(candidates.weights, range(3)), strict=True)]

    def outputs(shares):
        mixed = [torch.tensordot(shares, layer, 1) for layer in weights]
        return frozen(x.double(), mixed, given, training=False)

    even = torch.full((3,), 1 / 3, dtype=torch.float64)
    naive = torch.zeros(4, 3, dtype=torch.float64)
    for task in range(3):
        step = 1e-5 * torch.eye(3, dtype=torch.float64)[task]
        up, down = outputs(even + step), outputs(even - step)
        if objective == "entropy":
            naive[:, task] = (entropy(up) - entropy(down)) / 2e-5
        else:  # log-sum-exp, moved by the outputs that no task uses
            shares = outputs(even).softmax(1)[:, 3:]
            naive[:, task] = (shares * (up - down)[:, 3:]).sum(1) / 2e-5
    torch.testing.assert_close(found.double(), naive, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_a_binary_search_halves_the_tasks_by_their_slopes(per):
    """Against itself in a line a step, on tasks of which it finds others than one look does."""
    learner = learned(make(normed(), epochs=1, outputs=9), *(toy_task(str(i), i) for i in range(7)))
    search = TaskSearch(learner._candidates(), 3)
    x = torch.rand(24, 1, 8, 8)

    def halved(x):
        tasks = list(range(7))
        while len(tasks) > 1:
            slopes = search.batch_gradient(x, tasks, own=per == "batch").tolist()
            kept = sorted(range(len(tasks)), key=slopes.__getitem__)[: -(-len(tasks) // 2)]
            tasks = sorted(tasks[i] for i in kept)
        return tasks[0]

    if per == "batch":
        expected = [halved(x)] * len(x)
    else:
        expected = [halved(each[None]) for each in x]
        assert expected != search.find(x, "one-shot", per).tolist()
    assert search.find(x, "binary", per).tolist() == expected


def test_one_input_is_a_batch_too():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU())
    learner = learned(make(net), *(toy_task(str(i), i) for i in range(2)))
    x = torch.rand(1, 1, 8, 8)
    for search in SEARCHES:
        assert set(learner.infer(x, per="batch", search=search)) <= {"0", "1"}
    with pytest.raises(DataError, match="finite"):
        learner.infer(x * torch.nan)
    with pytest.raises(DataError, match="finite"):
        learner.predict(x * torch.nan, "0")


@pytest.mark.parametrize("settings", [{"outputs": None}, {"transfer": True}])
def test_what_is_loaded_in_the_middle_of_a_task_outlives_the_others(tmp_path, settings):
    whole = learned(make(**settings), toy_task("a", 1), toy_task("b", 2))
    learner = learned(make(**settings), toy_task("a", 1))
    next(learner.learn(toy_task("b", 2)))
    learner.save(tmp_path / "saved")
    again = make(**settings).load(tmp_path / "saved")
    again.forget("a")
    list(again.learn(toy_task("b", 2)))
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(again.logits(x, "b"), whole.logits(x, "b"))


def test_values_that_half_precision_cannot_hold_are_no_knowledge():
    learner = make(values="real", optimizer="sgd", learning_rate=1e9, epochs=1, batch_size=1000)
    with pytest.raises(TaskError, match="half precision can hold, at most 65,504"):
        list(learner.learn(toy_task("a", 1)))
    assert learner.tasks == ()


def entropy(scores):
    logs = scores.log_softmax(1)
    return -(logs.exp() * logs).sum(1)


def test_a_samples_task_does_not_depend_on_its_neighbours():
    learner = learned(make(normed(), outputs=20), *(toy_task(str(i), i) for i in range(3)))
    x = torch.cat([toy_task(str(i), i).test.batch(torch.arange(4))[0] for i in range(3)])
    together = learner.infer(x)
    assert together == tuple(learner.infer(each[None])[0] for each in x)


@pytest.mark.parametrize("values", ["signed", "real"])
def test_other_values_of_masks_are_kept_as_they_are_used(values, tmp_path):
    task = toy_task("t", 1)
    learner = learned(make(values=values), task)
    kept = learner.mask("t").masks(learner.frozen.shapes)
    for layer, shape in zip(kept, learner.frozen.shapes, strict=True):
        assert int((layer != 0).sum()) == learner.config.mask_rule().keep(shape)
        if values == "signed":
            assert set(layer.flatten().tolist()) == {-1, 0, 1}
    x, y = task.test.batch(torch.arange(24))
    assert (learner.logits(x, "t").argmax(1) == y).float().mean() > 0.9
    learner.save(tmp_path / "s")
    again = make(values=values).load(tmp_path / "s")
    assert torch.equal(again.logits(x, "t"), learner.logits(x, "t"))


@pytest.mark.parametrize("scaled", [True, False])
def test_the_last_epochs_answers_are_the_learned_tasks(scaled):
    """What is trained is what is kept: mask, scale and all."""
    task = toy_task("t", 1)
    learner = make(scaled=scaled)
    x, _ = task.test.batch(torch.arange(24))
    for _ in learner.learn(task):
        under_way = learner.logits(x, "t")
    torch.testing.assert_close(learner.logits(x, "t"), under_way)
    reference = learner.frozen(x, learner.mask("t").weights(learner.frozen), {}, training=False)
    assert float((reference[:, :3] - under_way).abs().max()) < 1e-4


def test_the_network_can_be_drawn_otherwise():
    one, other = (
        learned(make(initialisation=kind), toy_task("t", 1)) for kind in ("signed-constant", "kaiming-normal")
    )
    assert len(one.frozen.weights[0].abs().unique()) == 1
    assert len(other.frozen.weights[0].abs().unique()) > 100


def test_nothing_random_in_a_search_with_dropout():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.5))
    learner = learned(make(net), *(toy_task(str(i), i) for i in range(3)))
    x = torch.rand(9, 1, 8, 8)
    search = TaskSearch(learner._candidates(), 3)
    torch.manual_seed(1)
    first = search.batch_gradient(x, range(3))
    assert torch.equal(search.batch_gradient(x, range(3)), first)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)


def test_masks_take_one_bit_a_weight():
    learner = learned(make(), toy_task("t", 1))
    weights = sum(learner.frozen.entries)
    assert learner.size().bytes_per_task["t"] <= weights / 8 + 2 + 4 * 2
    assert learner.size().shared == weights


def test_transfer_begins_with_the_mean_of_earlier_scores():
    tasks = [toy_task(str(i), i) for i in range(3)]
    learner = make(transfer=True)
    ends = []
    for task in tasks[:2]:
        for _ in learner.learn(task):
            scores = [layer[0].detach().clone() for layer in learner._fit.scores]
        ends.append(scores)
    steps = learner.learn(tasks[2])
    next(steps)
    mean = [(a + b) / 2 for a, b in zip(*ends, strict=True)]
    for start, expected in zip(learner._mean_scores, mean, strict=True):
        torch.testing.assert_close(start, expected)
    assert learner._fit.jobs[0].start is learner._mean_scores


def test_what_was_forgotten_weighs_no_more_in_the_mean_than_the_rest():
    learner, ends = make(transfer=True), []
    for i in range(3):
        for _ in learner.learn(toy_task(str(i), i)):
            scores = [layer[0].detach().clone() for layer in learner._fit.scores]
        ends.append(scores)
        if i == 1:
            learner.forget("0")
            again = make(transfer=True).restore(learner.record())
            learner = again
    for found, each in zip(learner._mean_scores, zip(*ends, strict=True), strict=True):
        torch.testing.assert_close(found, sum(each) / 3)


def test_the_network_is_the_same_whatever_seed_a_task_is_learned_with():
    one, other = learned(make(), toy_task("t", 1), seed=1), learned(make(), toy_task("t", 1), seed=2)
    assert one.frozen.fingerprint() == other.frozen.fingerprint()
    assert make_fingerprint(backbone_seed=1) != one.frozen.fingerprint()
    assert_different_masks(one, other)


def make_fingerprint(**settings):
    return learned(make(**settings), toy_task("t", 1)).frozen.fingerprint()


def assert_different_masks(one, other):
    assert any(
        not torch.equal(a, b) for a, b in zip(one.mask("t").layers, other.mask("t").layers, strict=True)
    )


def test_more_classes_than_outputs_are_refused_and_nothing_changes():
    learner = learned(make(outputs=3), toy_task("t", 1))
    with pytest.raises(DataError, match="at most 3 classes"):
        list(learner.learn(toy_task("many", 2, classes=5)))
    assert learner.tasks == ("t",)
    assert learner.unfinished is None


def test_other_inputs_are_refused():
    learner = learned(make(), toy_task("t", 1))
    with pytest.raises(DataError, match="expected inputs"):
        list(learner.learn(toy_task("u", 2, shape=(1, 9, 9))))
    assert learner.tasks == ("t",)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"density": 0}, "density"),
        ({"density": 1.5}, "density"),
        ({"density": float("nan")}, "density"),
        ({"rule": "best"}, "rule"),
        ({"densities": "best"}, "densities"),
        ({"values": "complex"}, "values"),
        ({"values": "real", "magnitude": False}, "magnitude"),
        ({"outputs": 0}, "outputs"),
        ({"backbone_seed": -1}, "backbone_seed"),
        ({"transfer": "no"}, "transfer: expected True or False"),
        ({"initialisation": "ones"}, "initialisation"),
        ({"search": "guess"}, "search"),
        ({"per": "task"}, "per"),
        ({"objective": "superfluous", "outputs": None}, "outputs"),
        ({"schedule": "step"}, "schedule"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        make(**settings)


def test_the_superfluous_objective_needs_superfluous_outputs():
    learner = learned(make(outputs=3), toy_task("t", 1), toy_task("u", 2))
    with pytest.raises(SettingError, match="more outputs than the 3"):
        learner.infer(torch.zeros(1, 1, 8, 8), objective="superfluous")
    sure = learned(make(outputs=3, objective="superfluous"), toy_task("t", 1, classes=2))
    with pytest.raises(SettingError, match="task 'u': expected fewer classes than the 3 outputs"):
        list(sure.learn(toy_task("u", 2)))
    assert sure.tasks == ("t",)


def test_another_networks_weights_are_refused(tmp_path):
    learner = learned(make(), toy_task("t", 1))
    learner.save(tmp_path / "s")
    with pytest.raises(RecipeChangedError):
        make("mlp-64").load(tmp_path / "s")
    record = learner.record()
    groups = dict(record.groups)
    groups["frozen"] = {name: value[:1] for name, value in groups["frozen"].items()}
    fresh = make()
    with pytest.raises(StoreDamagedError):
        fresh.restore(type(record)(record.kind, record.document, groups))
    assert fresh.tasks == ()


def test_forgetting_all_forgets_the_shape(tmp_path):
    learner = learned(make(), toy_task("t", 1))
    learner.forget("t")
    learned(learner, toy_task("u", 2, shape=(1, 6, 6)))
    assert learner.tasks == ("u",)


def test_an_unlabelled_validation_part_is_no_hindrance(tmp_path):
    task = toy_task("t", 1)
    bare = Task(
        "t",
        task.classes,
        task.train,
        Split.of(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64)),
        task.test,
    )
    assert [e.val_accuracy for e in make(epochs=2).learn(bare)] == [None, None]


def test_saved_in_the_middle_and_gone_on_with_it_ends_the_same(tmp_path):
    task = toy_task("t", 1)
    whole, first = learned(make(normed()), task), make(normed())
    steps = first.learn(task)
    next(steps), next(steps)
    first.save(tmp_path / "s")
    x, _ = task.test.batch(torch.arange(24))
    again = make(normed()).load(tmp_path / "s")
    assert torch.equal(again.logits(x, "t"), first.logits(x, "t"))
    list(again.learn(task))
    assert_same_state(again, whole)


def test_the_config_has_the_settings_of_the_paper_for_mnist_by_name():
    config = SupSupConfig(rule="nonnegative", learning_rate=1e-4, scaled=False, outputs=100)
    assert config.optimizer == "rmsprop"
    assert config.mask_rule().scale((300, 784)) == 1
