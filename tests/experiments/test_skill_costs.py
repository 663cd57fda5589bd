import dataclasses

import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture
from torch import nn

from stolon import measure
from stolon.experiments import skill_costs
from stolon.experiments.skill_costs import PAPER, Accounting, Lesson
from stolon.light.anchoring import Anchoring
from stolon.light.anchors import fit_gaussian
from stolon.light.config import LightweightConfig
from stolon.light.task_run import TaskRun
from stolon.measure.costs import flop_counter
from stolon.nets.backbone import Backbone
from stolon.nets.preprocessing import Preprocessing
from stolon.tasks import Split, Task


def backbone(features="vector"):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6, bias=False), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if features == "vector" else []
    return Backbone(nn.Sequential(*layers), Preprocessing(channels=3, size=8), "toy")


def task(train=70, val=9):
    g = torch.Generator().manual_seed(0)
    make = lambda n: Split.of(torch.rand(n, 3, 10, 10, generator=g), torch.arange(n) % 3)  # noqa: E731
    return Task("toy", ("a", "b", "c"), make(train), make(val), make(5))


def lesson_of(given, epochs, clustering=0):
    return Lesson(
        given.name, 0, len(given.train), len(given.val), len(given.classes), epochs, clustering, 0.0
    )


# A teacher's MACs: the naive twin counts while it learns


@pytest.mark.parametrize("features", ["vector", "map"])
@pytest.mark.parametrize("biases", ["none", "all", "pointwise"])
@pytest.mark.parametrize("val", [9, 0])
def test_what_is_counted_is_what_learning_computes(features, biases, val):
    config = LightweightConfig(epochs=4, bias_epochs=2, biases=biases, batch_size=32)
    given, epochs = task(val=val), {}
    with flop_counter() as counter:
        for epoch in TaskRun(backbone(features), config, given, 0, {}).run():
            epochs[epoch.phase] = epoch.number
    epochs.pop("features")
    cost = skill_costs.teacher(backbone(features), given.shape, lesson_of(given, epochs), config)
    assert cost.macs == counter.get_total_flops() // 2


def test_clustering_is_part_of_teaching():
    config, given = LightweightConfig(), task()
    with_it, without = (
        skill_costs.teacher(backbone(), given.shape, lesson_of(given, {"head": 3}, clustering), config)
        for clustering in (1000, 0)
    )
    assert with_it.macs == without.macs + 1000


def test_clustering_is_counted_by_its_iterations():
    x = torch.rand(50, 4, generator=torch.Generator().manual_seed(0)).numpy()
    with skill_costs.counted_clustering() as found:
        mixture = GaussianMixture(3, covariance_type="diag", random_state=0).fit(x)
    kmeans, em = found
    assert em == 50 * 4 * 3 * 4 * (mixture.n_iter_ + 1)
    assert kmeans >= 50 * 4 * 3 * (1 + 2)


def test_nothing_is_counted_any_more_afterwards():
    before = KMeans.fit, GaussianMixture.fit
    with pytest.raises(ZeroDivisionError), skill_costs.counted_clustering():
        raise ZeroDivisionError
    assert (KMeans.fit, GaussianMixture.fit) == before


def test_a_student_pays_for_the_products_and_the_factorisation():
    anchoring = Anchoring("gmm", {})
    anchors = {f"task {i}": fit_gaussian(torch.rand(60, 7) + i) for i in range(3)}
    found = skill_costs.student(anchoring, anchors, lambda x: x)
    parts = sum(len(a.means) for a in anchors.values())
    assert found >= 7**3 + 2 * parts * 7 * 7  # scatter and whitening
    assert found == skill_costs.student(anchoring, anchors, lambda x: x)


# The definition


def accounting(**changes):
    given = {
        "agents": 4,
        "single_macs": 4e9,
        "slowest_macs": 2e9,
        "received_bytes": 1e5,
        "student_macs": 1e8,
    }
    return Accounting(**{**given, **changes})


def test_efficiency_is_single_over_parallel_over_n():
    costs = accounting()
    assert costs.teacher_macs == 1e9
    assert costs.total_macs == pytest.approx(1e9 + 1000 * 1e5 + 1e8)
    assert costs.efficiency == pytest.approx(4e9 / 1.2e9 / 4)
    assert costs.efficiency_of_slowest == pytest.approx(4e9 / 2.2e9 / 4)


def test_one_agent_is_as_fast_as_one_agent():
    assert accounting().speed_up(1, all_bytes=1e9) == 1.0


def test_speed_up_is_n_without_bytes_and_students():
    costs = accounting(student_macs=0)
    assert [costs.speed_up(n, 0) for n in (2, 7)] == pytest.approx([2, 7])


def test_the_measured_population_is_a_point_of_its_curve():
    all_bytes = 1e5 * 4 / 3
    costs = accounting()
    assert costs.speed_up(4, all_bytes) == pytest.approx(4 * costs.efficiency)


def test_more_agents_are_never_slower_in_sum_here_but_less_efficient():
    costs = accounting()
    found = [costs.speed_up(n, 1e5) for n in range(1, 20)]
    assert found == sorted(found)
    assert all(found[n - 1] < n for n in range(2, 20))


def test_the_papers_bytes_by_the_papers_definition():
    # methods.md part 3.5: not what its efficiency column says
    found = {row.name: row.accounting.efficiency for row in PAPER}
    assert found["Mahalanobis, no biases"] == pytest.approx(0.962, abs=5e-4)
    assert found["Gaussian, no biases"] == pytest.approx(0.9995, abs=5e-5)
    assert min(value for name, value in found.items() if ", biases" in name) > 0.999
    printed = {row.name: row.printed for row in PAPER}
    assert printed["Mahalanobis, no biases"] - found["Mahalanobis, no biases"] > 0.03


def test_three_printed_rows_divide_the_bytes_by_the_single_agents_total():
    for row in PAPER:
        wrong = row.single_macs / (row.single_macs + measure.ALPHA * row.received_bytes)
        fits = 1 - row.printed == pytest.approx(1 - wrong, rel=0.02)
        assert fits == (not row.name.startswith("Mahalanobis"))


def test_a_lesson_survives_json():
    given = lesson_of(task(), {"head": 3})
    assert Lesson(**dataclasses.asdict(given)) == given
