"""What another learner learned is answered as there, or refused before anything changes."""

from dataclasses import replace

import pytest
import torch
from tests.learner_contract import assert_same_state, toy_task
from tests.masks.samples import VARIANTS, author, learned, make, normed
from torch import nn

from stolon.errors import (
    BackboneMismatchError,
    DataError,
    SettingError,
    TaskError,
    TaskExistsError,
    TaskUnfinishedError,
    TaskUnknownError,
)
from stolon.masks.adoption import fingerprint_of, place_of, values_of
from stolon.masks.frozen import FrozenNet, planned
from stolon.masks.memory import Kept, StoredMask

X = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(5))


def give(learner, to, *tasks, **changed):
    """Let ``to`` adopt tasks of a learner; some arguments may be others."""
    for task in tasks or learner.tasks:
        arguments = {
            "task": task,
            "classes": learner.classes(task),
            "knowledge": learner.knowledge(task),
            "network": learner.frozen.identity(),
            "basis": learner.basis_fingerprint if hasattr(learner, "basis") else "",
            **changed,
        }
        to.adopt(
            arguments.pop("task"),
            arguments.pop("classes"),
            arguments.pop("knowledge"),
            arguments.pop("network"),
            **arguments,
        )
    return to


def receiver(variant, **settings):
    """A learner that knows nothing, with the author's basis where that is made of tasks."""
    learner = make(variant, **settings)
    if VARIANTS[variant][0] == "impressions" and learner.config.basis != "random":
        learner.take_basis(author(variant).basis, author(variant).frozen.identity())
    return learner


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_adopted_task_is_answered_as_by_its_author_bit_for_bit(variant, tmp_path):
    mine, theirs = author(variant), give(author(variant), receiver(variant))
    theirs.save(tmp_path)
    for found in (theirs, make(variant).load(tmp_path)):
        assert found.tasks == mine.tasks
        for task in mine.tasks:
            assert torch.equal(found.logits(X, task), mine.logits(X, task))
            assert found.predict(X, task).classes == mine.predict(X, task).classes
        assert found.infer(X) == mine.infer(X)
        assert found.infer(X, per="batch") == mine.infer(X, per="batch")
        assert found.predict(X).classes == mine.predict(X).classes
        assert found.size() == mine.size()


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_was_adopted_can_be_given_on(variant):
    second = give(author(variant), receiver(variant))
    third = give(second, receiver(variant))
    for task in author(variant).tasks:
        assert torch.equal(third.logits(X, task), author(variant).logits(X, task))


@pytest.mark.parametrize("variant", ["supsup", "random", "first-tasks"])
def test_an_adopted_task_is_forgotten_and_adopted_again(variant):
    theirs = give(author(variant), receiver(variant))
    theirs.forget("c")
    assert theirs.tasks == ("a", "b")
    with pytest.raises(TaskUnknownError):
        theirs.logits(X, "c")
    give(author(variant), theirs, "c")
    assert torch.equal(theirs.logits(X, "c"), author(variant).logits(X, "c"))
    for task in theirs.tasks:
        theirs.forget(task)
    give(author(variant), theirs)
    assert torch.equal(theirs.logits(X, "b"), author(variant).logits(X, "b"))


@pytest.mark.parametrize("variant", ["supsup", "normed", "random", "first-tasks", "hybrid"])
def test_own_tasks_are_learned_beside_adopted_ones_as_without_them(variant):
    alone, theirs = learned(variant), give(author(variant), receiver(variant), "c")
    for_both = toy_task("own", 9)
    if variant == "first-tasks":
        alone = receiver(variant)
    before = theirs.logits(X, "c")
    list(alone.learn(for_both))
    list(theirs.learn(for_both))
    assert torch.equal(theirs.logits(X, "own"), alone.logits(X, "own"))
    assert torch.equal(theirs.logits(X, "c"), before)


def test_the_mean_of_scores_is_that_of_tasks_learned_here():
    alone, theirs = make("supsup", transfer=True), make("supsup", transfer=True)
    give(author("supsup"), theirs, "c")
    for learner in (alone, theirs):
        for task in (toy_task("u", 7), toy_task("v", 8)):
            list(learner.learn(task))
    for one, other in zip(alone._mean_scores, theirs._mean_scores, strict=True):
        assert torch.equal(one, other)


def test_the_recipe_says_where_it_came_from():
    origin = {"module": "1" * 64, "data": "2" * 64}
    theirs = give(author("supsup"), make("supsup"), "b", task="theirs", origin=origin)
    assert theirs.recipe("theirs") == {
        "task": "theirs",
        "classes": list(author("supsup").classes("b")),
        "data": "2" * 64,
        "adopted": origin,
    }
    assert give(author("supsup"), theirs, "a").recipe("a")["adopted"] == {}


def test_nobody_can_change_it_any_more():
    own = author("random").knowledge("a")
    alpha = own.alpha.clone()
    theirs = give(author("random"), make("random"), "a", knowledge=replace(own, alpha=alpha))
    before = theirs.logits(X, "a")
    alpha.zero_()
    theirs._ready = None
    assert torch.equal(theirs.logits(X, "a"), before)
    layers = tuple(layer.clone() for layer in MASK.layers)
    theirs = give(author("supsup"), make("supsup"), "a", knowledge=replace(MASK, layers=layers))
    layers[0].zero_()
    assert torch.equal(theirs.logits(X, "a"), author("supsup").logits(X, "a"))


def test_a_learner_without_settled_outputs_takes_its_authors():
    assert author("open").frozen.outputs == 3
    theirs = give(author("open"), make("open"), "b")
    assert theirs.frozen.outputs == 3


# Refusals


def first(own, layer):
    return replace(own, layers=(layer, *own.layers[1:]))


MASK, REAL = author("supsup").knowledge("a"), author("real").knowledge("a")
NORMED, SUM = author("normed").knowledge("a"), author("random").knowledge("a")
HYBRID = author("hybrid").knowledge("a")
NETWORK = author("supsup").frozen.identity()
MANY = tuple(map(str, range(9)))
NAN = torch.full((2, 5), torch.nan).half()
VAR, MEAN = "0.1.running_var", "0.1.running_mean"

REFUSED = [
    ("supsup", {"task": "a"}, TaskExistsError, "known already"),
    ("supsup", {"task": ""}, TaskError, "name"),
    ("supsup", {"classes": ()}, TaskError, "distinct"),
    ("supsup", {"classes": ("x", "x")}, TaskError, "distinct"),
    ("supsup", {"classes": ("x", "")}, TaskError, "name"),
    ("supsup", {"classes": MANY}, DataError, "at most 8 classes"),
    ("supsup", {"network": replace(NETWORK, fingerprint="0" * 64)}, BackboneMismatchError, "000000"),
    ("supsup", {"knowledge": SUM}, DataError, "impressions learner"),
    ("supsup", {"knowledge": NORMED}, DataError, "uint8|statistics|bytes"),
    ("supsup", {"knowledge": replace(MASK, layers=MASK.layers[:1])}, DataError, "of 2 layers"),
    ("supsup", {"knowledge": replace(MASK, scales=MASK.scales[:1])}, DataError, "2 finite scales"),
    ("supsup", {"knowledge": replace(MASK, scales=MASK.scales.double())}, DataError, "float32"),
    ("supsup", {"knowledge": replace(MASK, scales=MASK.scales / 0)}, DataError, "finite scales"),
    ("supsup", {"knowledge": replace(MASK, statistics={"x": torch.zeros(1)})}, DataError, "statistics"),
    ("supsup", {"knowledge": first(MASK, MASK.layers[0][1:])}, DataError, "bytes"),
    ("supsup", {"knowledge": first(MASK, MASK.layers[0].int())}, DataError, "int32"),
    ("supsup", {"knowledge": first(REAL, REAL.layers[0][1:])}, DataError, "float16"),
    ("supsup", {"knowledge": first(REAL, REAL.layers[0].float())}, DataError, "float32"),
    ("supsup", {"knowledge": first(REAL, REAL.layers[0] / 0)}, DataError, "float16"),
    ("supsup", {"knowledge": replace(MASK, scales=MASK.scales * 1e30)}, DataError, "finite numbers"),
    ("normed", {"knowledge": replace(NORMED, statistics={})}, DataError, "statistics"),
    ("normed", {"knowledge": replace(NORMED, statistics={**NORMED.statistics, VAR: torch.ones(5)})}, DataError,
     "statistics"),
    ("normed", {"knowledge": replace(NORMED, statistics={**NORMED.statistics, MEAN: torch.ones(4) / 0})}, DataError,
     "finite numbers"),
    ("normed", {"knowledge": replace(NORMED, statistics={**NORMED.statistics, VAR: -torch.ones(4)})}, DataError,
     "answers"),
    ("random", {"basis": "0" * 64}, DataError, "this learner's basis"),
    ("random", {"basis": ""}, DataError, "this learner's basis"),
    ("random", {"knowledge": replace(SUM, mask=0)}, DataError, "place"),
    ("random", {"knowledge": replace(SUM, alpha=SUM.alpha[:, 1:])}, DataError, r"\[2, 5\]"),
    ("random", {"knowledge": replace(SUM, alpha=SUM.alpha.float())}, DataError, "float16"),
    ("random", {"knowledge": replace(SUM, alpha=NAN)}, DataError, "finite"),
    ("random", {"knowledge": MASK}, DataError, "mask of this learner's basis"),
    ("hybrid", {"knowledge": replace(HYBRID, last=replace(HYBRID.last, layers=()))}, DataError, "of 1 layers"),
    ("hybrid", {"knowledge": replace(HYBRID, statistics={})}, DataError, "statistics"),
    ("hybrid", {"knowledge": replace(HYBRID, statistics={**HYBRID.statistics, VAR: -torch.ones(4)})}, DataError,
     "answers"),
]  # fmt: skip


@pytest.mark.parametrize(("variant", "changed", "error", "message"), REFUSED)
def test_what_does_not_fit_is_refused_and_changes_nothing(variant, changed, error, message):
    for empty in (True, False):
        learner, same = make(variant), make(variant)
        if not empty:
            give(author(variant), learner, "a")
            give(author(variant), same, "a")
        elif changed.get("task") == "a":
            continue
        with pytest.raises(error, match=message):
            give(author(variant), learner, "b", **changed)
        assert_same_state(learner, same)
        if not empty:
            assert torch.equal(learner.logits(X, "a"), same.logits(X, "a"))


@pytest.mark.parametrize(
    ("variant", "settings"),
    [
        ("supsup", {"backbone_seed": 1}),
        ("supsup", {"outputs": 9}),
        ("random", {"backbone_seed": 1}),
    ],
)
def test_tasks_of_another_network_are_refused(variant, settings):
    learner = make(variant, **settings)
    with pytest.raises(BackboneMismatchError, match="make the learner with"):
        give(author(variant), learner)
    assert_same_state(learner, make(variant, **settings))
    list(learner.learn(toy_task("own", 4)))
    with pytest.raises(BackboneMismatchError, match="make the learner with"):
        give(author(variant), learner)
    assert learner.tasks == ("own",)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"input_shape": (3, 8, 8)}, "layers"),
        ({"input_shape": (2**40,)}, "layers"),
        ({"outputs": 2**40, "shapes": ((16, 64), (2**40, 16))}, "8 outputs"),
    ],
)
def test_a_network_of_other_layers_is_not_even_made(changed, message):
    """Its weights would take terabytes."""
    network = replace(NETWORK, **changed)
    with pytest.raises(BackboneMismatchError, match=message):
        give(author("supsup"), make("supsup"), "a", network=network)


def test_an_impossible_network_is_refused():
    with pytest.raises(BackboneMismatchError, match="expected knowledge of this net"):
        give(author("normed"), make("normed"), "a", network=replace(NETWORK, input_shape=(1, 2, 2)))


def test_while_a_task_is_being_learned_none_is_adopted():
    learner = make("supsup")
    next(learner.learn(toy_task("own", 4)))
    with pytest.raises(TaskUnfinishedError, match="'own' is under way"):
        give(author("supsup"), learner, "a")
    with pytest.raises(TaskUnfinishedError, match="'own' is under way"):
        give(author("supsup"), learner, "a", task="own")
    with pytest.raises(TaskUnknownError, match="finish it first"):
        learner.knowledge("own")
    list(learner.learn(toy_task("own", 4)))
    alone = make("supsup")
    list(alone.learn(toy_task("own", 4)))
    assert_same_state(learner, alone)


def test_coefficients_of_a_basis_that_is_not_whole_here_are_refused():
    """Masks that came later would not fit the coefficients any more."""
    learner = make("first-tasks", impressions=3)
    list(learner.learn(toy_task("a", 1)))
    list(learner.learn(toy_task("b", 2, classes=2)))
    assert learner.basis_fingerprint == author("first-tasks").basis_fingerprint
    with pytest.raises(DataError, match="basis of 3 masks"):
        give(author("first-tasks"), learner, "c")


def test_a_basis_made_of_the_same_tasks_is_the_same_basis():
    learner = make("first-tasks")
    for task in (toy_task("a", 1), toy_task("b", 2, classes=2)):
        list(learner.learn(task))
    give(author("first-tasks"), learner, "c")
    assert torch.equal(learner.logits(X, "c"), author("first-tasks").logits(X, "c"))


# Somebody else's basis


def test_a_taken_basis_is_kept_whatever_is_refused_or_forgotten(tmp_path):
    learner = receiver("first-tasks")
    before = learner.basis_fingerprint
    assert learner.is_whole
    assert before == author("first-tasks").basis_fingerprint
    with pytest.raises(DataError, match="at most 8 classes"):
        list(learner.learn(toy_task("many", 3, classes=9)))
    assert learner.basis_fingerprint == before
    learner.save(tmp_path)
    loaded = make("first-tasks").load(tmp_path)
    assert_same_state(loaded, learner)
    for each in (learner, loaded):
        list(each.learn(toy_task("own", 4)))
        assert each.coefficients("own").shape == (3, 2)
        each.forget("own")
        assert each.basis_fingerprint == before
    assert torch.equal(
        give(author("first-tasks"), loaded, "c").logits(X, "c"), author("first-tasks").logits(X, "c")
    )


def test_a_basis_can_be_taken_again_or_replaced_while_nothing_was_learned():
    learner, mine = receiver("first-tasks"), author("first-tasks")
    learner.take_basis(mine.basis[::-1], mine.frozen.identity())
    assert learner.basis_fingerprint != mine.basis_fingerprint
    learner.take_basis(mine.basis, mine.frozen.identity())
    give(mine, learner)
    learner.take_basis(mine.basis, mine.frozen.identity())  # the same one: nothing changes
    assert torch.equal(learner.logits(X, "c"), mine.logits(X, "c"))
    with pytest.raises(TaskError, match="without tasks"):
        learner.take_basis(mine.basis[::-1], mine.frozen.identity())
    assert torch.equal(learner.logits(X, "c"), mine.logits(X, "c"))


@pytest.mark.parametrize(
    ("settings", "masks", "error", "message"),
    [
        ({}, lambda masks: [], DataError, "found none"),
        ({}, lambda masks: masks[:1], DataError, "impressions=1"),
        ({"impressions": 3}, lambda masks: masks, DataError, "impressions=2"),
        ({}, lambda masks: [masks[0], MASK], DataError, "of 3 layers"),
        ({"values": "signed"}, lambda masks: masks, DataError, "expected signed values"),
        ({"density": 0.4, "scaled": True}, lambda masks: masks, DataError, "scales"),
        ({"scaled": True}, lambda masks: masks, DataError, "scales"),
        ({"backbone_seed": 1}, lambda masks: masks, BackboneMismatchError, "make the learner with"),
        ({"outputs": 9}, lambda masks: masks, BackboneMismatchError, "9 outputs"),
    ],
)
def test_a_basis_that_does_not_fit_is_refused(settings, masks, error, message):
    learner, mine = make("first-tasks", **settings), author("first-tasks")
    with pytest.raises(error, match=message):
        learner.take_basis(masks(list(mine.basis)), mine.frozen.identity())
    assert_same_state(learner, make("first-tasks", **settings))
    with pytest.raises(SettingError, match="none yet"):
        learner.basis_fingerprint  # noqa: B018 - asking is the test


def test_masks_with_ones_behind_their_last_weight_are_no_basis():
    """A layer of 36 weights has four bits to spare."""
    learner, mine = make("hybrid"), author("hybrid")
    layer = mine.basis[2].layers[0].clone()
    layer[-1] |= 1
    with pytest.raises(DataError, match="expected zeros behind"):
        learner.take_basis([*mine.basis[:2], first(mine.basis[2], layer)], mine.frozen.identity())
    assert learner.basis == ()


def test_no_basis_is_taken_while_a_task_is_being_learned():
    learner, mine = make("first-tasks"), author("first-tasks")
    next(learner.learn(toy_task("own", 4)))
    with pytest.raises(TaskError, match="without tasks"):
        learner.take_basis(mine.basis, mine.frozen.identity())
    assert learner.basis == ()


# The parts


def test_a_fingerprint_is_that_of_masks_their_order_and_their_scales():
    mine = author("first-tasks")
    rule, (one, other) = mine.config.mask_rule(), mine.basis
    found = {
        fingerprint_of(masks, mine.frozen, replace(rule, **changed))
        for masks in ([one, other], [other, one], [one], [one, one])
        for changed in ({}, {"scaled": True}, {"values": "signed"})
    }
    assert len(found) == 12
    again = fingerprint_of([one, replace(other, statistics={"x": torch.ones(1)})], mine.frozen, rule)
    assert again == mine.basis_fingerprint  # sums have statistics of their own
    assert len(again) == 64


def test_a_mask_is_found_in_a_basis_by_its_bits_and_scales():
    one, other = author("first-tasks").basis
    assert [place_of(mask, [one, other]) for mask in (one, other)] == [0, 1]
    assert place_of(replace(one, scales=one.scales * 2), [one, other]) == -1
    assert place_of(MASK, [MASK]) == 0


@pytest.mark.parametrize("values", ["binary", "signed", "real"])
def test_what_a_masks_values_are_follows_from_its_bytes(values):
    for shape in (torch.Size([1, 1]), torch.Size([3, 7])):
        kind = {"binary": torch.bool, "signed": torch.int8, "real": torch.float32}[values]
        mask = StoredMask.of([torch.ones(shape).to(kind)], [1.0], {})
        assert values_of(mask, [shape]) == values


def test_the_full_fingerprint_of_a_network_is_given():
    frozen = FrozenNet("mlp-8", (4,), 2)
    assert len(frozen.fingerprint()) == 64
    assert frozen.identity().shapes == ((8, 4), (2, 8))


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        ("mlp-8-6", (4,)),
        ("lenet-300-100", (1, 28, 28)),
        ("digits-conv", (1, 8, 8)),
        ("resnet18", (3, 32, 32)),
        (normed(), (1, 8, 8)),
    ],
)
def test_a_network_is_planned_as_it_is_made(net, shape):
    state = net.state_dict() if isinstance(net, nn.Module) else {}
    before = {name: value.clone() for name, value in state.items()}
    torch.manual_seed(3)
    assert planned(net, shape, 7) == FrozenNet(net, shape, 7).identity().shapes
    after = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(2))
    assert all(torch.equal(value, before[name]) for name, value in state.items())


def test_a_plan_of_terabytes_takes_nothing():
    assert planned("mlp-1024", (2**30,), 2**30) == ((1024, 2**30), (2**30, 1024))
    with pytest.raises(SettingError, match="cannot be made"):
        planned("digits-conv", (8,), 2)


def test_coefficients_are_kept_with_their_place():
    assert isinstance(author("random").knowledge("a"), Kept)
    assert isinstance(author("first-tasks").knowledge("b"), StoredMask)
    with pytest.raises(TaskUnknownError):
        author("random").knowledge("z")
