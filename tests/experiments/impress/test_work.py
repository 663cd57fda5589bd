import copy
import dataclasses

import pytest
import torch
from tests.experiments.impress.making import plan
from tests.experiments.impress.records import made as records_made

from stolon.experiments.impress.plans import SPECS, Item, Unit
from stolon.experiments.impress.work import Work
from stolon.masks.coefficients import CoefficientFit
from stolon.masks.fitting import Job, PopupFit
from stolon.masks.mixing import LayeredMasks
from stolon.randomness import number, permutation

DENSITY = 0.4
TEST = 359  # test images of a task


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("units")


def work(folder, kind="heterogeneous", run=1, figure="impress-figure10", **changes):
    return Work(plan(figure, **changes), Unit(run, DENSITY, kind), folder)


@pytest.fixture(scope="module")
def basis(folder):
    return work(folder)


def task(made, place):
    """The task at a place of the order, from a stream of its own: angles are in a random order of 72."""
    found = plan()
    return found.make_stream(1)[found.setting.order(72)[place]]


def naive_scores(x, weights):
    """The outputs of two layers without biases."""
    return torch.relu(x.flatten(1) @ weights[0].T) @ weights[1].T


def test_masks_are_edge_popups_of_the_tasks_in_order(basis):
    """Three at a time here, two and one there: a group's masks are those that each would have alone."""
    setting = plan().setting
    rule = setting.rule(DENSITY)
    for i, mask in enumerate(basis.masks):
        fit = PopupFit(basis.frozen, [Job(task(basis, i), 1)], rule, setting.masks)
        list(fit.run())
        for mine, theirs in zip(mask.masks(basis.frozen.shapes), fit.masks(0), strict=True):
            assert (mine != theirs).float().mean() < 0.01  # rounding may swap two scores
    assert len(basis.masks) == 3


def test_homogeneous_masks_are_all_of_the_first_task_and_differ(folder):
    made = work(folder, "homogeneous")
    jobs = [job for _, group in made.groups() for job in group]
    assert {job.task.name for job in jobs} == {task(made, 0).name}
    assert [job.seed for job in jobs] == [1, number(1, "impression", 1), number(1, "impression", 2)]
    first, second = (mask.masks(made.frozen.shapes)[0] for mask in made.masks[:2])
    assert not torch.equal(first, second)


def test_random_masks_have_the_density_and_need_no_training(folder):
    made = work(folder, "random", figure="impress-figure7")
    assert made.groups() == []
    for mask in made.masks:
        for layer in mask.masks(made.frozen.shapes):
            assert layer.float().mean().item() == pytest.approx(DENSITY, abs=0.01)


def test_kept_masks_are_those_that_were_trained(folder, basis):
    again = work(folder)
    for one, other in zip(basis.masks, again.masks, strict=True):
        for key, value in one.tensors().items():
            assert torch.equal(value, other.tensors()[key])


def test_a_mask_of_a_new_task_does_not_depend_on_how_many_there_are(folder, tmp_path):
    few = work(tmp_path, "supsup", new=1).masks[0]
    many = work(folder, "supsup", new=3).masks[0]
    assert all(torch.equal(few.tensors()[key], value) for key, value in many.tensors().items())


def test_a_task_under_a_mask_is_what_the_formula_says(basis):
    for index, item in ((0, Item("gg", 0, 0)), (2, Item("gg", 0, 2))):
        given, (x, y) = basis.give(item), task(basis, index).test.batch(torch.arange(TEST))
        mask, scale = basis.masks[index].masks(basis.frozen.shapes), DENSITY**-0.5
        weights = [m * w * scale for m, w in zip(mask, basis.frozen.weights, strict=True)]
        right = (naive_scores(x, weights).argmax(1) == y).float().mean().item()
        assert given["accuracy"] == pytest.approx(right, abs=2 / TEST)
        assert given["task"] == task(basis, index).name


def test_wrong_masks_are_those_of_the_basis_on_new_tasks(basis):
    given = basis.give(Item("wrong", 0, 1))
    x, y = task(basis, 4).test.batch(torch.arange(TEST))
    each = []
    for mask in basis.masks:
        scores = naive_scores(x, mask.weights(basis.frozen))
        each.append((scores.argmax(1) == y).float().mean().item())
    assert given["each"] == pytest.approx(each, abs=2 / TEST)
    assert given["accuracy"] == pytest.approx(sum(each) / 3, abs=2 / TEST)


def learned(basis, place, size, **options):
    """Coefficients of a task, from the parts that the paper names."""
    setting = plan().setting
    layers = [
        torch.stack(layer)
        for layer in zip(*(m.masks(basis.frozen.shapes) for m in basis.masks[:size]), strict=True)
    ]
    rule = setting.rule(DENSITY)
    scales = [rule.scale(shape) for shape in basis.frozen.shapes]
    fit = CoefficientFit(
        basis.frozen,
        LayeredMasks.of(layers, "plain"),
        scales,
        task(basis, place),
        seed=1,
        training=setting.alphas,
        **options,
    )
    list(fit.run())
    return fit, layers


def summed(basis, fit, layers):
    """W * sum_i alpha_i M_i for each layer, in half precision's coefficients."""
    alpha = fit.alpha.detach().half().float()
    return [
        sum(a * m.float() for a, m in zip(row, layer, strict=True)) * w * DENSITY**-0.5
        for row, layer, w in zip(alpha, layers, basis.frozen.weights, strict=True)
    ]


@pytest.mark.parametrize("size", [1, 3])
def test_a_new_task_is_the_sum_that_the_paper_says(basis, size):
    fit, layers = learned(basis, 3, size)
    x, y = task(basis, 3).test.batch(torch.arange(TEST))
    right = (naive_scores(x, summed(basis, fit, layers)).argmax(1) == y).float().mean().item()
    assert basis.give(Item("new", size, 0))["accuracy"] == pytest.approx(right, abs=3 / TEST)


def test_a_hybrid_task_has_a_last_layer_of_its_own(basis):
    rule = plan().setting.rule(DENSITY)
    fit, layers = learned(basis, 3, 3, hybrid=rule)
    weights = summed(basis, fit, layers)
    weights[-1] = rule.mask(fit.scores) * basis.frozen.weights[-1] * DENSITY**-0.5
    x, y = task(basis, 3).test.batch(torch.arange(TEST))
    right = (naive_scores(x, weights).argmax(1) == y).float().mean().item()
    assert basis.give(Item("hybrid", 3, 0))["accuracy"] == pytest.approx(right, abs=3 / TEST)


def test_a_task_of_the_basis_is_learned_without_its_mask_named(basis):
    fit, layers = learned(basis, 2, 3)
    given = basis.give(Item("basis-gn", 3, 2))
    x, y = task(basis, 2).test.batch(torch.arange(TEST))
    right = (naive_scores(x, summed(basis, fit, layers)).argmax(1) == y).float().mean().item()
    assert given["accuracy"] == pytest.approx(right, abs=3 / TEST)
    alpha = fit.alpha.detach().abs()
    assert given["own_share"] == pytest.approx((alpha[:, 2] / alpha.sum(1)).mean().item(), abs=1e-2)
    assert 0 <= given["own_largest"] <= 1


def naive_slopes(x, weights):
    """The entropy's derivative by each task's share of the mixture, at equal shares."""
    share = torch.full((len(weights),), 1 / len(weights), requires_grad=True)
    mixed = [sum(b * w for b, w in zip(share, layer, strict=True)) for layer in zip(*weights, strict=True)]
    logs = naive_scores(x, mixed).log_softmax(1)
    (found,) = torch.autograd.grad(-(logs.exp() * logs).sum(1).mean(), share)
    return found


@pytest.mark.parametrize("what", ["gn-in-batch", "gn-alone"])
def test_the_task_of_inputs_is_the_one_whose_share_lowers_the_entropy_most(basis, what):
    weights = [mask.weights(basis.frozen) for mask in basis.masks]
    for index in range(3):
        given = basis.give(Item(what, 3, index, 3))
        own = task(basis, index)
        found, right = [], []
        for order in range(2 if what == "gn-in-batch" else 1):
            rows = permutation(TEST, 1, "impress", "test", own.name, order)[
                : 128 if what == "gn-in-batch" else 64
            ]
            x, y = own.test.batch(rows)
            groups = [x] if what == "gn-in-batch" else x.split(1)
            named = torch.cat([naive_slopes(group, weights).argmin().expand(len(group)) for group in groups])
            labels = naive_scores(x, weights[index]).argmax(1)
            found.append(named == index)
            right.append((named == index) & (labels == y))
        assert given["found"] == pytest.approx(torch.cat(found).float().mean().item(), abs=0.02)
        assert given["accuracy"] == pytest.approx(torch.cat(right).float().mean().item(), abs=0.02)


def test_new_tasks_are_inferred_among_sums_or_among_masks(folder, basis):
    sums = [basis.give(Item("found-in-batch", 3, i, 2)) for i in range(2)]
    fits = [learned(basis, 3 + i, 3) for i in range(2)]
    weights = [summed(basis, *fit) for fit in fits]
    for index, given in enumerate(sums):
        own = task(basis, 3 + index)
        named = [
            naive_slopes(
                own.test.batch(permutation(TEST, 1, "impress", "test", own.name, i)[:128])[0], weights
            )
            for i in range(2)
        ]
        assert given["found"] == sum(int(slopes.argmin()) == index for slopes in named) / 2
    own_masks = work(folder, "supsup")
    assert 0 <= own_masks.give(Item("found-alone", 0, 1, 2))["accuracy"] <= 1


def test_a_mask_of_ones_own_is_measured_and_weighed(folder):
    made = work(folder, "supsup")
    given = made.give(Item("own", 0, 0))
    assert given["mask_bytes"] == -(-64 * 12 // 8) + -(-12 * 10 // 8)
    assert 0 < given["coded_bytes"] < given["mask_bytes"] + 20
    x, y = task(made, 3).test.batch(torch.arange(TEST))
    right = (naive_scores(x, made.masks[0].weights(made.frozen)).argmax(1) == y).float().mean().item()
    assert given["accuracy"] == pytest.approx(right, abs=2 / TEST)


def test_items_do_not_depend_on_the_order_in_which_they_are_done(tmp_path):
    items = [Item("new", 3, 1), Item("found-alone", 3, 0, 2), Item("basis-gn", 1, 0), Item("new", 1, 0)]
    one = work(tmp_path / "a")
    first = {item: one.give(item) for item in items}
    other = work(tmp_path / "b")
    assert {item: other.give(item) for item in reversed(items)} == first


def test_tasks_keep_their_data_and_lose_only_validation(basis):
    mine, theirs = basis._new_task(0), task(basis, 3)
    assert (mine.name, len(mine.val)) == (theirs.name, 0)
    assert dataclasses.replace(copy.copy(theirs), val=mine.val).digest() == mine.digest()
    assert mine.test.digest() == theirs.test.digest()
    assert basis.facts() == {"weights": [768, 120], "statistics_bytes": 0, "classes": 10}


@pytest.mark.parametrize("figure", list(SPECS))
def test_records_that_tests_make_by_hand_have_nothing_that_units_do_not_give(folder, figure):
    wanted = plan(figure, runs=1, densities=(DENSITY,))
    by_hand = {record.where: record.data for record in records_made(wanted) if record.kind == "task"}
    compared = set()
    for unit in wanted.units():
        mine = Work(wanted, unit, folder)
        for item in wanted.items(unit.kind):
            if item.what not in compared:
                compared.add(item.what)
                assert by_hand[item.where].keys() <= {*mine.give(item), "seconds"}, item
    assert compared == {item.what for unit in wanted.units() for item in wanted.items(unit.kind)}
