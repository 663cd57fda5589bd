import dataclasses
import json
import os

import pytest
import torch
from tests.growth.making import conv
from tests.growth.searching import CONFIG, NAMES, NET, TASKS
from tests.learner_contract import toy_task

from stolon.errors import (
    DataError,
    SettingError,
    StoreFullError,
    TaskError,
    TaskExistsError,
    TaskUnknownError,
)
from stolon.growth import sequence_run
from stolon.growth.bind_and_grow import BindAndGrow
from stolon.growth.cache import GrowthCache
from stolon.growth.sequence_run import check_tasks, learn_sequence, run_sequence, train_alone
from stolon.growth.sequences import GrowSequence, Outcome, Step
from stolon.tasks import Split, Task

SEARCHED = GrowSequence((Step("three", 0.3), Step("one", 1, "three"), Step("two", 0.5, "three")))


def run(sequence, cache=None, **changed):
    return run_sequence(sequence, TASKS, **{"net": NET, "config": CONFIG, "cache": cache, **changed})


def told(outcome):
    """All of an outcome that has to be the same, as JSON: to the bit."""
    return json.dumps(dataclasses.replace(outcome, learned=(), seconds=0.0).to_json(), sort_keys=True)


def state(learner):
    record = learner.record()
    document = json.dumps(record.document, sort_keys=True)
    return document, {group: dict(tensors) for group, tensors in record.groups.items()}


def assert_same(one, other):
    (document, groups), (document_2, groups_2) = state(one), state(other)
    assert document == document_2
    assert groups.keys() == groups_2.keys()
    for group, tensors in groups.items():
        assert tensors.keys() == groups_2[group].keys()
        assert all(torch.equal(value, groups_2[group][name]) for name, value in tensors.items())


# The value


def test_a_sequence_survives_json():
    values = json.loads(json.dumps(SEARCHED.to_json()))
    assert GrowSequence.of_json(values) == SEARCHED
    assert GrowSequence.of_json([{"task": "a", "delta": 0}]) == GrowSequence.shared(["a"], 0)
    assert SEARCHED.tasks == ("three", "one", "two")


def test_a_sequence_tells_itself_in_a_line():
    assert str(SEARCHED) == "three, one to three (delta 1), two to three (delta 0.5)"
    assert str(GrowSequence.shared(NAMES, 0.25)) == "one, two, three at delta 0.25"


@pytest.mark.parametrize("delta", [-0.1, 1.1, float("nan"), "half", True, None])
def test_a_delta_outside_0_to_1_is_refused(delta):
    with pytest.raises(SettingError, match=r"delta\['b'\]"):
        GrowSequence((Step("a", 0.5), Step("b", delta)))


def test_a_task_that_comes_twice_is_refused():
    with pytest.raises(TaskExistsError, match="each task once, found 'a'"):
        GrowSequence.shared(["a", "b", "a"], 0.5)


@pytest.mark.parametrize("bind", ["c", "b", "nobody"])
def test_binding_to_a_task_that_does_not_come_before_is_refused(bind):
    with pytest.raises(TaskUnknownError, match=f"one of a, found '{bind}'"):
        GrowSequence((Step("a", 0.5), Step("b", 0.5, bind), Step("c", 0.5)))
    with pytest.raises(TaskUnknownError, match="it is the first"):
        GrowSequence((Step("a", 0.5, "b"), Step("b", 0.5)))


def test_no_task_at_all_and_names_that_are_none_are_refused():
    with pytest.raises(SettingError, match="at least one task"):
        GrowSequence(())
    with pytest.raises(SettingError, match="a task's name"):
        GrowSequence.shared([""], 0.5)
    with pytest.raises(SettingError, match="rename the task"):
        GrowSequence((Step("last", 0.5), Step("b", 0.5, "last")))


@pytest.mark.parametrize("values", [None, 3, [3], [{"task": "a"}], {"task": "a"}, [None]])
def test_json_that_is_no_sequence_is_refused(values):
    with pytest.raises(SettingError, match="grow sequence"):
        GrowSequence.of_json(values)


def test_what_a_sequence_leaves_open_is_the_learners_rule():
    config = dataclasses.replace(CONFIG, bind="last", delta=0.9)
    found = SEARCHED.configured(config)
    assert found.bind == {"three": "last", "one": "three", "two": "three"}
    assert found.delta == {"three": 0.3, "one": 1.0, "two": 0.5}
    assert dataclasses.replace(found, bind="last", delta=0.9) == config


# What comes of it


def test_with_delta_0_there_are_the_first_tasks_nodes_only():
    learner = learn_sequence(GrowSequence.shared(NAMES, 0), TASKS, net=NET, config=CONFIG)
    assert all(learner.joint.nodes_of(name) == learner.joint.nodes_of("one") for name in NAMES)
    assert {node.task for node in learner.joint.nodes.values()} == {"one"}


def test_with_delta_1_nothing_is_shared():
    outcome = run(GrowSequence.shared(NAMES, 1))
    assert outcome.parameters == outcome.parameters_apart
    assert run(GrowSequence.shared(NAMES, 0)).parameters < outcome.parameters


def test_tasks_are_learned_in_the_sequences_order_and_bound_as_it_says():
    learner = learn_sequence(SEARCHED, TASKS, net=NET, config=CONFIG)
    assert learner.tasks == ("three", "one", "two")
    assert learner.joint.bindings() == {"three": None, "one": "three", "two": "three"}
    assert [learner.growth(name).delta for name in learner.tasks] == [None, 1.0, 0.5]


def test_the_outcome_is_what_the_learner_gives_by_itself():
    outcome = run(SEARCHED, seed=4)
    learner = BindAndGrow(NET, SEARCHED.configured(CONFIG))
    for task in (TASKS[2], TASKS[0], TASKS[1]):
        list(learner.learn(task, seed=4))
    for task in TASKS:
        x, y = task.val.batch(torch.arange(len(task.val)))
        right = int((learner.logits(x, task.name).argmax(1) == y).sum())
        assert outcome.val[task.name] == right / len(task.val)
    assert outcome.parameters == learner.joint.parameters()
    assert outcome.growths == tuple(learner.growth(name) for name in learner.tasks)
    for growth in outcome.growths:
        assert growth.independent_accuracy == outcome.alone_val[growth.task]


def test_gains_are_as_they_are_defined():
    accuracies = {"a": 0.8, "b": 0.9}
    outcome = Outcome(
        sequence=GrowSequence.shared(["a", "b"], 0.5),
        val=accuracies,
        test={"a": 0.5, "b": None},
        alone_val={"a": 0.6, "b": 1.0},
        alone_test={"a": 0.6, "b": None},
        inputs={"a": 10, "b": 10},
        parameters=1,
        parameters_apart=2,
        bytes=4,
        growths=(),
    )
    assert outcome.gain == pytest.approx((0.2 - 0.1) / 2)
    # The error of b alone is 0: half an input of ten stands for it. Lower is better.
    assert outcome.error_change == pytest.approx((0.2 - 0.4) / 0.4 + (0.1 - 0) / 0.05)
    assert outcome.test_gain is None
    whole = dataclasses.replace(outcome, test=accuracies, alone_test={"a": 0.7, "b": 0.7})
    assert whole.test_gain == pytest.approx(0.15)


def test_an_outcome_survives_json():
    outcome = run(SEARCHED)
    assert Outcome.of_json(json.loads(json.dumps(outcome.to_json()))) == outcome


def test_tasks_that_are_not_there_or_have_no_validation_data_are_refused():
    with pytest.raises(TaskUnknownError, match="one of the tasks one, two, three, found 'four'"):
        run(GrowSequence.shared(["one", "four"], 0.5))
    one = TASKS[0]
    bare = Task(
        "bare", one.classes, one.train, Split.of(torch.zeros(0, 1, 8, 8), torch.zeros(0).long()), one.test
    )
    with pytest.raises(DataError, match="validation data"):
        run_sequence(GrowSequence.shared(["bare"], 0), [bare], net=NET, config=CONFIG)
    with pytest.raises(DataError, match="validation data"):
        check_tasks([one, bare], net=NET, config=CONFIG)


def test_tasks_that_no_sequence_fits_are_refused_together():
    check_tasks(TASKS, net=NET, config=CONFIG)
    two = toy_task("two", classes=2)
    check_tasks([TASKS[0], two], net=NET, config=CONFIG)
    shared = dataclasses.replace(CONFIG, head="shared")
    with pytest.raises(
        TaskError, match=r"task 'two': expected 3 classes, as task 'one' has, found 2; use head='own'"
    ):
        check_tasks([TASKS[0], two], net=NET, config=shared)
    with pytest.raises(
        DataError, match=r"task 'small': expected inputs \(1, 8, 8\), as task 'one' has, found"
    ):
        check_tasks([TASKS[0], toy_task("small", shape=(1, 4, 4))], net=NET, config=CONFIG)
    with pytest.raises(SettingError, match="parts"):
        check_tasks(TASKS, net=NET, config=dataclasses.replace(CONFIG, parts=9))


# With a cache


SEQUENCES = [GrowSequence.shared(NAMES, delta) for delta in (0.0, 0.35, 0.75, 1.0)]
BOUND = GrowSequence((Step("one", 0.0), Step("two", 0.6), Step("three", 0.6, "one")))


def test_cached_and_uncached_trials_end_with_the_same_bits(tmp_path):
    cache = GrowthCache(tmp_path)
    for sequence in (*SEQUENCES, SEARCHED, BOUND):
        assert told(run(sequence, cache)) == told(run(sequence))
    for sequence in (*SEQUENCES, SEARCHED, BOUND):  # and again, when all is kept
        found = run(sequence, cache)
        assert found.learned == ()
        assert told(found) == told(run(sequence))


def test_learners_that_go_on_from_a_kept_beginning_end_with_the_same_bits(tmp_path):
    cache = GrowthCache(tmp_path)
    for sequence in (*SEQUENCES, BOUND):
        made = learn_sequence(sequence, TASKS, net=NET, config=CONFIG, cache=cache)
        assert_same(made, learn_sequence(sequence, TASKS, net=NET, config=CONFIG))


@pytest.mark.parametrize(
    "changed",
    [
        {"grow": "random", "bind": "random"},
        {"as_released": True},
        {"bound_rate": 0.0},
        {"parts": 2},
        {"head": "shared"},
        {"bind": "first"},
    ],
    ids=str,
)
def test_that_holds_for_every_way_of_growing(tmp_path, changed):
    cache = GrowthCache(tmp_path)
    config = dataclasses.replace(CONFIG, **changed)
    net = conv(normed=True)
    for delta in (0.3, 0.6, 0.65):
        sequence = GrowSequence.shared(NAMES[:2], delta)
        kept = run(sequence, cache, config=config, net=net)
        assert told(kept) == told(run(sequence, config=config, net=net))


def test_deltas_that_lead_to_the_same_nuclei_share_their_learning(tmp_path):
    cache = GrowthCache(tmp_path)
    first = run(GrowSequence.shared(NAMES, 0.3), cache)
    masses = first.growths[1].distribution
    assert first.learned == NAMES
    near = 0.3 + min(1e-6, abs(max(masses) - 0.3) / 2)  # the same nucleus, another delta
    second = run(GrowSequence.shared(NAMES, near), cache)
    assert second.learned == ()
    assert [growth.grown for growth in second.growths] == [growth.grown for growth in first.growths]
    assert [growth.delta for growth in second.growths] == [None, near, near]
    assert second.val == first.val


def test_only_what_comes_after_the_common_beginning_is_learned(tmp_path):
    cache = GrowthCache(tmp_path)
    run(GrowSequence((Step("one", 0.0), Step("two", 0.0), Step("three", 0.0))), cache)
    found = run(GrowSequence((Step("one", 0.5), Step("two", 0.0), Step("three", 1.0))), cache)
    assert found.learned == ("three",)
    assert run(GrowSequence((Step("two", 0.0), Step("one", 0.0))), cache).learned == ("two", "one")


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"net": "mlp-8-9"},
        {"config": dataclasses.replace(CONFIG, learning_rate=0.2)},
        {"config": dataclasses.replace(CONFIG, bound_rate=0.2)},
        {"config": dataclasses.replace(CONFIG, similarity="cka")},
    ],
    ids=str,
)
def test_nothing_is_taken_from_other_nets_settings_or_seeds(tmp_path, changed):
    cache, sequence = GrowthCache(tmp_path), GrowSequence.shared(NAMES, 0.4)
    run(sequence, cache)
    found = run(sequence, cache, **changed)
    assert found.learned == NAMES
    assert told(found) == told(run(sequence, **changed))


def test_nothing_is_taken_from_other_data(tmp_path):
    cache, sequence = GrowthCache(tmp_path), GrowSequence.shared(NAMES, 0.4)
    run(sequence, cache)
    others = [TASKS[0], toy_task("two", 7), TASKS[2]]
    found = run_sequence(sequence, others, net=NET, config=CONFIG, cache=cache)
    assert found.learned == ("two", "three")
    assert told(found) == told(run_sequence(sequence, others, net=NET, config=CONFIG))


def test_independent_networks_are_trained_once(tmp_path, monkeypatch):
    cache = GrowthCache(tmp_path)
    for i, task in enumerate(TASKS):
        alone = train_alone(task, net=NET, config=CONFIG, seed=0, cache=cache, is_first=i == 0)
        assert alone.val == run(GrowSequence.shared(NAMES, 0.5)).alone_val[task.name]
    trained = []
    monkeypatch.setattr(
        sequence_run, "Fit", lambda *a: trained.append(a)
    )  # of an independent network outside the learner
    for sequence in SEQUENCES:
        run(sequence, cache)
    assert len(cache.independents) == len(TASKS)
    assert trained == []


def test_with_no_room_at_all_the_results_are_the_same(tmp_path):
    cache = GrowthCache(tmp_path, most_bytes=0)
    for sequence in SEQUENCES[1:3]:
        assert told(run(sequence, cache)) == told(run(sequence))
    assert cache.bytes() == 0
    assert len(cache.independents) == 0


def test_the_least_recently_used_states_go_first_and_independent_networks_last(tmp_path):
    roomy = GrowthCache(tmp_path)
    for sequence in SEQUENCES:
        run(sequence, roomy)
    keys, state = roomy.keys("states"), roomy.state(roomy.keys("states")[0])
    for i, key in enumerate(keys):
        os.utime(tmp_path / "states" / f"{key}.json", (i, i))
    small = GrowthCache(tmp_path, most_bytes=roomy.bytes())
    assert small.state(keys[0]) is not None  # used: it is no longer the oldest
    small.keep_state("new", state)
    assert small.bytes() <= roomy.bytes()
    assert {"new", keys[0]} <= set(small.keys("states"))
    assert keys[1] not in small.keys("states")
    least = sum(path.stat().st_size for path in tmp_path.glob("independents/*.safetensors"))
    tiny = GrowthCache(tmp_path, most_bytes=least + 10)
    tiny.keep_state("another", state)
    assert tiny.keys("states") == []
    assert len(tiny.independents) == len(TASKS)
    assert told(run(SEQUENCES[1], tiny)) == told(run(SEQUENCES[1]))


def test_damaged_and_torn_entries_count_as_not_there(tmp_path):
    cache, sequence = GrowthCache(tmp_path), SEQUENCES[1]
    expected = told(run(sequence, cache))
    for path in tmp_path.glob("*/*"):
        data = path.read_bytes()
        path.write_bytes(
            data[: len(data) // 2] if path.suffix == ".json" else data[:-1] + bytes([data[-1] ^ 1])
        )
    assert told(run(sequence, cache)) == expected
    assert told(run(sequence, cache)) == expected


def test_a_flipped_bit_of_a_network_is_noticed(tmp_path):
    cache = GrowthCache(tmp_path)
    run(SEQUENCES[1], cache)
    for path in tmp_path.glob("*/*.safetensors"):
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert told(run(SEQUENCES[2], cache)) == told(run(SEQUENCES[2]))


def test_independents_are_a_mapping(tmp_path):
    kept = GrowthCache(tmp_path).independents
    kept["a"] = {"weight": torch.arange(3.0)}
    assert list(kept) == ["a"]
    assert torch.equal(kept["a"]["weight"], torch.arange(3.0))
    del kept["a"]
    assert "a" not in kept
    for use in (kept.__getitem__, kept.__delitem__):
        with pytest.raises(KeyError):
            use("a")


def test_a_disk_that_refuses_is_told(tmp_path):
    (tmp_path / "notes").write_text("a file in the way")
    with pytest.raises(StoreFullError, match="free space or check permissions"):
        run(SEQUENCES[0], GrowthCache(tmp_path))
    with pytest.raises(SettingError, match="most_bytes"):
        GrowthCache(tmp_path, most_bytes=-1)
