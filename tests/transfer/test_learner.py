"""What all methods of selective transfer have in common: laws with every mechanism, roll-back, tasks of all kinds."""

from itertools import islice

import pytest
import torch
from tests.learner_contract import assert_same_state, toy_task
from tests.transfer.making import MECHANISMS, METHODS, make, method, normed, random_task, tiny

from stolon.errors import DataError, RecipeChangedError, SettingError, StoreDamagedError
from stolon.transfer.configurations import Configuration
from stolon.transfer.learner import rolled_back
from stolon.transfer.mechanisms.base import Mechanism


def shared_of(learner):
    return {name: value.clone() for name, value in learner.record().groups["shared"].items()}


def layer_of(name):
    return int(name.split("/")[1])


@pytest.mark.parametrize("transfer", MECHANISMS)
@pytest.mark.parametrize("which", ["static", "lasem", "exact", "brute-force", "darts"])
@pytest.mark.parametrize("rollback", ["unshared", "none"])
def test_shared_tensors_of_layers_that_a_task_does_not_share(which, transfer, rollback):
    learner = method(which, transfer=transfer, rollback=rollback)
    list(learner.learn(toy_task("first", 1)))
    before = shared_of(learner)
    list(learner.learn(toy_task("second", 2)))
    after, row = shared_of(learner), learner.configuration("second").shared
    for name, value in after.items():
        is_same = torch.equal(value, before[name])
        if any(row[layer_of(name)]):
            assert not is_same, f"{name} is shared, and was not trained"
        elif rollback == "unshared":
            assert is_same, f"{name} is not shared, and was changed"
        elif which in ("exact", "darts"):
            assert not is_same, f"{name} was trained, and went back"


def test_the_first_task_goes_back_to_what_was_drawn():
    learner = method("exact", fixed="none", fixed_probability=0.4)
    task = toy_task("first", 1)
    list(learner.learn(task))
    fresh = learner._network.begin_shared(0)[0]["body.0.weight/weight"]
    assert torch.equal(shared_of(learner)["shared/0/body.0.weight/weight"], fresh)


@pytest.mark.parametrize("transfer", MECHANISMS)
def test_layers_in_parts_go_back_part_by_part_where_parts_are_channels(transfer):
    learner = method("exact", transfer=transfer, parts=2, fixed="10|00", fixed_probability=0.4)
    list(learner.learn(toy_task("first", 1)))
    before = shared_of(learner)
    list(learner.learn(toy_task("second", 2)))
    for name, value in shared_of(learner).items():
        if layer_of(name) == 1:
            assert torch.equal(value, before[name])
        elif transfer == "hard":
            shared, own = value.tensor_split(2)
            shared_before, own_before = before[name].tensor_split(2)
            assert torch.equal(own, own_before)
            assert not torch.equal(shared, shared_before)
        else:
            assert not torch.equal(value, before[name])


def test_rolled_back_by_hand():
    now, before = [{"w": torch.ones(4)} for _ in range(3)], [{"w": torch.zeros(4)} for _ in range(3)]
    configuration = Configuration.from_text("11|10|00")
    found = rolled_back(now, before, configuration, by_channel=True)
    assert [layer["w"].tolist() for layer in found] == [[1] * 4, [1, 1, 0, 0], [0] * 4]
    found = rolled_back(now, before, configuration, by_channel=False)
    assert [layer["w"].tolist() for layer in found] == [[1] * 4, [1] * 4, [0] * 4]


@pytest.mark.parametrize("net", [tiny, normed], ids=["plain", "normed"])
@pytest.mark.parametrize("transfer", MECHANISMS)
def test_earlier_answers_stay_bit_for_bit_where_nothing_of_theirs_was_trained(transfer, net):
    first, second = toy_task("first", 1), toy_task("second", 2)
    x = first.test.batch(torch.arange(24))[0]
    settings = {"transfer": transfer, "net": net, "fixed_probability": 0.7}
    for theirs, ours in (("none", "all"), ("all", "none"), ("1", "2")):
        learner = method("exact", fixed=theirs, **settings)
        list(learner.learn(first))
        before = learner.logits(x, "first")
        other = method("exact", fixed=ours, **settings).restore(learner.record())
        list(other.learn(second))
        assert torch.equal(other.logits(x, "first"), before)
    # and where a shared layer was trained they do change
    learner = method("exact", fixed="all", **settings)
    list(learner.learn(first))
    before = learner.logits(x, "first")
    list(learner.learn(second))
    assert not torch.equal(learner.logits(x, "first"), before)


@pytest.mark.parametrize("which", METHODS)
def test_forgetting_the_unfinished_task_gives_the_shared_tensors_back(which, tmp_path):
    learner = method(which)
    first, second = toy_task("first", 1), toy_task("second", 2)
    list(learner.learn(first))
    record = learner.record()
    x = first.test.batch(torch.arange(24))[0]
    before, answers = shared_of(learner), learner.logits(x, "first")
    for is_loaded in (False, True):
        list(islice(learner.learn(second), 2))
        assert any(not torch.equal(value, before[name]) for name, value in shared_of(learner).items())
        if is_loaded:
            learner.save(tmp_path)
            learner = method(which).load(tmp_path)
        learner.forget("second")
        assert all(torch.equal(value, before[name]) for name, value in shared_of(learner).items())
        assert torch.equal(learner.logits(x, "first"), answers)
        assert dict(learner.record().document) == dict(record.document)


def test_an_abandoned_first_task_leaves_nothing():
    learner = method("lasem")
    next(learner.learn(toy_task("first", 1)))
    learner.forget("first")
    assert learner.size().parameters == 0
    list(learner.learn(toy_task("other", 2, shape=(1, 9, 9))))
    assert learner.tasks == ("other",)


def test_tasks_of_another_shape_are_refused_and_leave_no_trace():
    learner = method("lasem")
    list(learner.learn(toy_task("first", 1)))
    before = learner.record()
    with pytest.raises(
        DataError, match=r"expected inputs \(1, 8, 8\) as in earlier tasks, found \(1, 9, 9\)"
    ):
        next(learner.learn(toy_task("second", 2, shape=(1, 9, 9))))
    assert dict(learner.record().document) == dict(before.document)
    with pytest.raises(DataError, match="expected inputs"):
        learner.logits(torch.zeros(2, 1, 9, 9), "first")


@pytest.mark.parametrize("settings", [{"transfer": "deconvolution"}, {"transfer": "tensor-factorization"}])
def test_a_state_of_another_mechanism_is_refused_and_changes_nothing(settings, tmp_path):
    learner = method("static")
    list(learner.learn(toy_task("first", 1)))
    learner.save(tmp_path)
    other = method("static", **settings)
    list(other.learn(toy_task("mine", 2)))
    before = other.record()
    with pytest.raises(RecipeChangedError, match="hard"):
        other.load(tmp_path)
    assert other.tasks == ("mine",)
    assert dict(other.record().document) == dict(before.document)


def test_a_state_of_another_method_is_refused(tmp_path):
    learner = method("static")
    list(learner.learn(toy_task("first", 1)))
    learner.save(tmp_path)
    with pytest.raises(RecipeChangedError, match="static"):
        method("lasem").load(tmp_path)


@pytest.mark.parametrize("lost", ["shared", "task:first", "wins"])
def test_a_state_that_lacks_something_is_refused_and_changes_nothing(lost):
    learner, other = method("lasem"), method("lasem")
    list(learner.learn(toy_task("first", 1)))
    list(other.learn(toy_task("mine", 2)))
    record = learner.record()
    record.groups.pop(lost)
    x = torch.rand(2, 1, 8, 8)
    before = other.logits(x, "mine")
    with pytest.raises(StoreDamagedError, match="lacks"):
        other.restore(record)
    assert torch.equal(other.logits(x, "mine"), before)


def test_what_is_told_of_a_task_under_way_is_told_after_a_load_too(tmp_path):
    learner, task = method("lasem"), toy_task("first", 1)
    next(learner.learn(task))
    learner.save(tmp_path)
    loaded = method("lasem").load(tmp_path)
    assert loaded.configuration("first") == learner.configuration("first")
    x = task.test.batch(torch.arange(5))[0]
    assert torch.equal(loaded.logits(x, "first"), learner.logits(x, "first"))
    loaded.save(tmp_path)  # and may be saved again before it goes on
    again = method("lasem").load(tmp_path)
    list(again.learn(task))
    list(learner.learn(task))
    assert_same_state(learner, again)


# A mechanism of one's own


class Scaled(Mechanism):
    """All tasks share a weight, and each scales its output channels."""

    name = "scaled"

    def shared(self, index, initial, generator):
        return {"weight": initial}

    def factors(self, index, initial, generator):
        return {"scale": torch.ones(len(initial))}

    def kernel(self, index, shared, factors):
        return shared["weight"] * factors["scale"].view(-1, *[1] * (shared["weight"].ndim - 1))


@pytest.mark.parametrize("which", METHODS)
def test_a_mechanism_of_ones_own_works_with_every_method(which, tmp_path):
    first, second = toy_task("first", 1), toy_task("second", 2)
    learner = method(which, transfer=Scaled)
    assert learner.settings()["transfer"] == "scaled"
    list(learner.learn(first))
    next(learner.learn(second))
    learner.save(tmp_path)
    loaded = method(which, transfer=Scaled).load(tmp_path)
    list(loaded.learn(second))
    list(learner.learn(second))
    assert_same_state(learner, loaded)


class Nameless(Scaled):
    name = None


@pytest.mark.parametrize("kind", [Mechanism, Nameless, type("Half", (Mechanism,), {"name": "half"})])
def test_a_mechanism_that_lacks_something_is_refused_at_once(kind):
    with pytest.raises(SettingError, match="transfer"):
        make("static", transfer=kind)


def test_no_gradients_are_kept_of_what_was_learned():
    learner = method("exact")
    list(learner.learn(random_task()))
    assert all(p.grad is None for kept in learner._kept.values() for p in kept.parts.tail.parameters())
