import math

import pytest
from tests.experiments.impress.making import plan
from tests.experiments.impress.records import made, value

from stolon import measure
from stolon.experiments.impress.measured import Measured


def test_values_are_means_over_tasks_by_run_and_density():
    wanted = plan()
    found = Measured(wanted, made(wanted))
    one, three = found.sums("heterogeneous")
    assert (one.label, three.label, three.size) == ("1", "3", 3)
    for density in (0.2, 0.4):
        expected = {
            run: sum(value("heterogeneous", density, run, item) for item in three.items) / 2 for run in (0, 1)
        }
        assert found.at(three, density) == pytest.approx(expected)
    pooled = found.pooled(three)
    assert pooled == pytest.approx(
        {run: (found.at(three, 0.2)[run] + found.at(three, 0.4)[run]) / 2 for run in (0, 1)}
    )
    assert sorted(found.points(three)) == pytest.approx(
        sorted([*found.at(three, 0.2).values(), *found.at(three, 0.4).values()])
    )
    assert measure.interval(pooled.values()).mean == pytest.approx(0.5 + 0.06 + 0.03 + 0.006 + 0.00065)


def test_a_mean_that_lacks_a_task_is_left_out():
    wanted = plan()
    lacks = made(wanted, lambda unit, item: unit.run == 1 and unit.density == 0.4 and item.task == 1)
    found = Measured(wanted, lacks)
    column = found.sums("heterogeneous")[0]
    assert set(found.at(column, 0.4)) == {0}
    assert set(found.at(column, 0.2)) == {0, 1}
    assert set(found.pooled(column)) == {0}
    assert len(found.points(column)) == 3
    done, of = found.done()
    assert done == sum(record.kind == "task" for record in lacks) < of


def test_columns_are_named_as_in_the_papers_figures():
    assert [c.label for c in Measured(plan(), []).sums("homogeneous")] == ["1^", "3^"]
    ten = Measured(plan("impress-figure10"), [])
    assert [c.label for c in ten.sums("homogeneous", hybrid=True)] == ["1h^", "3h^"]
    assert ten.wrong().kind == "heterogeneous"
    seven = Measured(plan("impress-figure7"), [])
    assert seven.wrong().kind == "homogeneous"
    assert [c.label for c in seven.sums("random")] == ["1r", "3r"]
    assert Measured(plan("impress-figure6"), []).wrong() is None
    assert seven.pooled(seven.own()) == {}
    assert not seven.facts


def test_tasks_of_the_basis_are_the_first_of_each_size():
    found = Measured(plan("impress-figure6"), made(plan("impress-figure6")))
    one, three = found.basis("gg", "GG", "words")
    assert [item.task for item in one.items] == [0]
    assert [item.task for item in three.items] == [0, 1, 2]
    assert {item.size for item in three.items} == {0}
    (_, inferred) = found.basis("gn-alone", "", "", "found", among=True)
    assert {item.among for item in inferred.items} == {3}
    assert len(found.pooled(inferred)) == 2


def test_every_inference_is_found():
    wanted = plan("impress-figure3", many=(3, 5))
    found = Measured(wanted, made(wanted))
    assert found.inferences() == [
        ("heterogeneous", 1, 2), ("heterogeneous", 3, 2), ("heterogeneous", 3, 5),
        ("homogeneous", 1, 2), ("homogeneous", 3, 2), ("supsup", 0, 2),
    ]  # fmt: skip
    column = found.inferred("heterogeneous", 3, 5, "found-alone", "accuracy")
    assert all(math.isfinite(each) for each in found.pooled(column).values())
    assert found.inferred("supsup", 0, 2, "found-alone").label == "SupSup"
