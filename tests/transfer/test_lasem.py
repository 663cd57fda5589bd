"""LASEM: the laws of learners, its settings, and what it believes from task to task."""

import pytest
import torch
from tests.learner_contract import LearnerContract, toy_task
from tests.transfer.making import make, random_task, tiny
from torch import nn

from stolon import learners
from stolon.errors import SettingError
from stolon.tasks import Split, Task
from stolon.transfer import related
from stolon.transfer.configurations import Space
from stolon.transfer.lasem import LasemConfig


class TestLasemKeepsTheContract(LearnerContract):
    @staticmethod
    def make():
        return make("lasem", likelihood="mean-probability")


def learned(*tasks, **settings):
    learner = make("lasem", **{"epochs": 2, **settings})
    epochs = [list(learner.learn(task)) for task in tasks]
    return learner, epochs


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"likelihood": "product"}, "likelihood: expected one of joint"),
        ({"prior": "uniform"}, "prior: expected one of counts"),
        ({"samples": 0}, "samples: expected at least 1"),
        ({"samples": 1.5}, "samples: expected a whole number"),
        ({"e_every": 0}, "e_every"),
        ({"m_steps": 0}, "m_steps"),
        ({"e_precision": "float16"}, "e_precision"),
        ({"fixed_probability": 1.1}, "fixed_probability"),
        ({"fixed_probability": -0.1}, "fixed_probability"),
        ({"transfer": "soft"}, "unknown transfer mechanism 'soft'"),
        ({"transfer": 3}, "transfer: expected a name or a Mechanism, found 3"),
        ({"transfer": nn.Linear}, "transfer: expected a name or a Mechanism"),
        ({"orthogonality": -1}, "orthogonality"),
        ({"parts": 0}, "parts: expected at least 1"),
        ({"rollback": "all"}, "rollback: expected one of unshared, none"),
        ({"decay": -1}, "decay: expected at least 0"),
        ({"decay": float("nan")}, "decay: expected a finite number"),
        ({"epochs": 0}, "epochs"),
        ({"optimizer": "rmsprop-tf2"}, "optimizer"),
        ({"unknown": 1}, "unknown setting 'unknown' of lasem"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings, words):
    with pytest.raises(SettingError, match=words):
        make("lasem", **settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"groups": [[1]]}, "layers 1 to 2 in exactly one group"),
        ({"groups": [1, 2]}, "groups: expected lists"),
        ({"fixed": "top-3"}, "expected 1 to 2 layers"),
        ({"fixed": "1", "groups": [[1, 2]]}, "none of the 2 that are chosen from"),
        ({"parts": 7}, r"at most 4096 configurations, found 2\^14"),
    ],
)
def test_what_does_not_fit_the_net_is_refused_at_the_first_step_and_leaves_no_trace(settings, words):
    learner = make("lasem", **settings)
    with pytest.raises(SettingError, match=words):
        next(learner.learn(random_task()))
    assert learner.unfinished is None
    assert learner.size().parameters == 0


def test_thirteen_layers_want_groups():
    layers = [m for i in range(13) for m in (nn.Conv2d(2 if i else 1, 2, 3, padding=1), nn.ReLU())]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())
    with pytest.raises(SettingError, match=r"2\^13; tie layers into groups"):
        next(learners.make("lasem", net=net).learn(random_task()))
    learner = learners.make("lasem", net=net, epochs=1, groups=[[*range(1, 8)], [*range(8, 14)]])
    list(learner.learn(random_task()))
    assert len(str(learner.configuration("t"))) == 13


@pytest.mark.parametrize("exact", [False, True])
def test_the_notes_of_an_epoch_tell_choice_and_posterior(exact):
    learner, (epochs,) = learned(random_task(), exact=exact, e_every=1)
    known = {str(c) for c in Space.every(2).choices}
    for epoch in epochs:
        assert set(epoch.notes) == {"configuration", "posterior"}
        assert epoch.notes["configuration"] in known
        assert set(epoch.notes["posterior"]) <= known
        assert sum(epoch.notes["posterior"].values()) == pytest.approx(1, abs=0.003)
    assert str(learner.configuration("t")) == epochs[-1].notes["configuration"]


def test_a_fixed_posterior_is_that_of_the_ablation():
    config = LasemConfig(fixed="top-1", fixed_probability=0.7)
    belief = config.belief(Space.every(2), 2, None)
    assert belief.posterior.tolist() == pytest.approx([0.1, 0.7, 0.1, 0.1])
    one = LasemConfig(fixed="all", fixed_probability=0.5, groups=[[1, 2]])
    assert one.belief(Space.every(2, groups=[[1, 2]]), 2, None).posterior.tolist() == [0.5, 0.5]
    _, (epochs,) = learned(random_task(), fixed="top-1", fixed_probability=0.7)
    assert epochs[-1].notes["configuration"] == "01"
    assert epochs[-1].notes["posterior"] == {"11": 0.1, "10": 0.1, "01": 0.7, "00": 0.1}


def test_a_fixed_probability_of_zero_is_refused():
    with pytest.raises(SettingError, match="fixed_probability"):
        LasemConfig(fixed="all", fixed_probability=0.0)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("transfer", ["hard", "tensor-factorization", "deconvolution"])
def test_a_posterior_of_one_configuration_alone_trains_as_the_static_learner(transfer, exact):
    first, second = toy_task("first", 1), toy_task("second", 2)
    common = {"transfer": transfer, "epochs": 2, "optimizer": "rmsprop-tf", "learning_rate": 1e-3}
    lasem = make("lasem", fixed="top-1", exact=exact, **common)
    static = make("static", configuration="top-1", **common)
    for task in (first, second):
        a, b = list(lasem.learn(task)), list(static.learn(task))
        assert [epoch.loss for epoch in a] == pytest.approx([epoch.loss for epoch in b], rel=1e-5)
    mine, theirs = lasem.record().groups, static.record().groups
    for group in ("shared", "task:first", "task:second"):
        assert mine[group].keys() == theirs[group].keys()
        for name, value in mine[group].items():
            torch.testing.assert_close(value, theirs[group][name], rtol=1e-4, atol=1e-6)


def wins_of(learner, task):
    return learner.record().groups["wins"][task]


def test_the_prior_of_history_counts_all_tasks_so_far():
    tasks = [toy_task(str(i), i) for i in range(3)]
    learner, _ = learned(*tasks[:2], prior="history", e_every=1)
    total = wins_of(learner, "0") + wins_of(learner, "1")
    assert float(total.sum()) == 2 * 2 * 6  # every mini-batch of both epochs of both tasks
    steps = learner.learn(tasks[2])
    next(steps)
    assert torch.equal(learner.record().groups["fit"]["strategy.before"], total)
    learner.forget("1")
    assert set(learner.record().groups["wins"]) == {"0"}


def test_the_prior_of_related_tasks_weighs_them_by_similarity():
    first, second = toy_task("0", 0), toy_task("1", 1)
    learner, _ = learned(first, prior="related", e_every=1)
    shared, kept = learner._shared, learner._kept["0"]
    now = related.profile(learner._network, shared, kept.parts, kept.configuration, second.train)
    weight = related.similarity(learner.record().groups["profiles"]["0"], now)
    assert 0 <= weight <= 1
    next(learner.learn(second))
    found = learner.record().groups["fit"]["strategy.before"]
    torch.testing.assert_close(found, weight * wins_of(learner, "0"))
    learner.forget("1")
    again = Task("again", first.classes, first.train, first.val, first.test)
    next(learner.learn(again))
    # the very same data through the very same network: all its counts
    torch.testing.assert_close(learner.record().groups["fit"]["strategy.before"], wins_of(learner, "0"))


@pytest.mark.parametrize("prior", ["counts", "running-mean"])
def test_other_priors_begin_every_task_anew(prior):
    learner, _ = learned(toy_task("0", 0), prior=prior)
    next(learner.learn(toy_task("1", 1)))
    assert not bool(learner.record().groups["fit"]["strategy.before"].any())


def test_with_grouped_layers_the_choice_is_one_of_the_groups():
    learner, (epochs,) = learned(random_task(), groups=[[1, 2]])
    assert str(learner.configuration("t")) in ("11", "00")
    assert set(epochs[0].notes["posterior"]) <= {"11", "00"}


def test_layers_in_parts_are_chosen_and_kept():
    learner, _ = learned(
        toy_task("0", 0), toy_task("1", 1), parts=2, exact=True, likelihood="mean-probability"
    )
    assert all(len(row) == 2 for row in learner.configuration("1").shared)


def test_a_net_of_one_convolution_in_parts_is_saved_and_loaded(tmp_path):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten())
    learner = make("lasem", lambda: net, parts=2, epochs=1)
    task = random_task()
    list(learner.learn(task))
    learner.save(tmp_path)
    loaded = make("lasem", lambda: net, parts=2, epochs=1).load(tmp_path)
    assert loaded.configuration("t") == learner.configuration("t")
    x = task.test.batch(torch.arange(8))[0]
    assert torch.equal(loaded.logits(x, "t"), learner.logits(x, "t"))


def test_reduced_precision_of_the_e_step_alone():
    task = toy_task("0", 0)
    half, _ = learned(task, e_precision="bfloat16", epochs=4)
    x = task.test.batch(torch.arange(24))[0]
    assert half.logits(x, "0").dtype == torch.float32
    assert all(
        value.dtype in (torch.float32, torch.float64) for value in half.record().groups["shared"].values()
    )


def test_a_task_of_one_class_teaches_nothing_and_breaks_nothing():
    x = torch.rand(12, 1, 8, 8)
    split = Split.of(x, torch.zeros(12, dtype=torch.int64))
    learner, (epochs,) = learned(Task("one", ("a",), split, split, split))
    assert [epoch.loss for epoch in epochs] == [0, 0]
    assert learner.predict(x, "one").classes == ("a",) * 12
    # all are equally likely: the first of all
    assert str(learner.configuration("one")) == "11"


def test_the_same_net_for_all_is_not_changed_by_learning():
    net = tiny()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    list(learners.make("lasem", net=net, epochs=1).learn(random_task()))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
