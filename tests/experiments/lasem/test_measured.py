import pytest
from tests.experiments.lasem.records import trial, two_tasks

from stolon.experiments.by_seed import number, percent, points
from stolon.experiments.lasem.measured import Measured
from stolon.experiments.lasem.methods import Wanted
from stolon.experiments.lasem.plans import plans


@pytest.fixture(scope="module")
def plan():
    (found,) = plans(Wanted("lasem-table3", transfers=("hard",)))
    return found


def test_values_are_by_seed_of_finished_trials_only(plan):
    method = plan.find(kind="static")[0]
    records = [
        *trial(method.label, 0, [([0.5], 0.6), ([0.25, 0.7], 0.8)], seconds=4.0),
        *trial(method.label, 1, [([0.5], 0.6)], done=False),
    ]
    found = Measured(plan, records)
    assert found.peak(method) == {0: pytest.approx(0.7)}
    assert found.final(method) == {0: pytest.approx(0.475)}
    assert found.kept(method) == {0: pytest.approx(0.5)}
    assert found.kept_of_peak(method) == {0: pytest.approx(0.25 / 0.6)}
    assert found.seconds(method) == {0: pytest.approx(4.0)}


def test_what_has_not_begun_has_no_values(plan):
    found = Measured(plan, [])
    assert found.peak(plan.methods[0]) == {}
    assert found.best(plan.methods) is None
    assert found.span(plan.methods) is None
    assert percent({}) == points({}) == number({}) == "–"


def test_the_best_is_that_of_the_highest_mean(plan):
    low, high, _ = plan.methods
    records = [
        *(r for seed in (0, 1) for r in two_tasks(low.label, seed, (0.9 - 0.5 * seed, 0.9 - 0.5 * seed))),
        *(r for seed in (0, 1) for r in two_tasks(high.label, seed, (0.7, 0.7))),
    ]
    found = Measured(plan, records)
    assert found.best(plan.methods) == high
    assert found.span(plan.methods) == (pytest.approx(0.65), pytest.approx(0.7))


def test_the_base_of_times_is_one(plan):
    first, brute, _ = plan.methods
    records = [
        *two_tasks(first.label, 0, (0.5, 0.5), seconds=2.0),
        *two_tasks(brute.label, 0, (0.5, 0.5), seconds=11.0),
    ]
    found = Measured(plan, records)
    assert found.time(first, first) == "1"
    assert found.time(brute, first) == "5.50"
