from dataclasses import replace

import pytest
import torch

from stolon.experiments import skill_scale
from stolon.experiments.skill_scale import Geometry, Tasks, Traffic, grow

D = 24


@pytest.fixture(scope="module")
def geometry():
    return Geometry.measured(D, seed=0)


@pytest.mark.parametrize("rank", [2.0, 12.0, 19.0])
def test_a_spectrum_has_the_rank_that_was_measured(rank):
    values = skill_scale._spectrum(D, rank)
    assert float(values.sum()) == pytest.approx(1)
    assert float(values.sum() ** 2 / values.square().sum()) == pytest.approx(rank, rel=1e-3)


def test_scatter_has_the_traces_that_were_measured(geometry):
    for root, trace in ((geometry.task, 0.161), (geometry.component, 0.170), (geometry.inputs, 0.341)):
        assert float(root.square().sum()) == pytest.approx(trace, rel=1e-4)
    assert float(geometry.middle.norm()) == pytest.approx(0.59, rel=1e-4)


def test_anchors_and_inputs_are_possible_and_repeatable(geometry):
    tasks = Tasks(7, geometry, "crowded", seed=3)
    anchors = dict(tasks.anchors())
    assert sorted(anchors) == [f"task {t:05d}" for t in range(7)]
    for anchor in anchors.values():
        anchor.check(unit=True)
    x, owner = tasks.inputs(14)
    assert owner.bincount().tolist() == [2] * 7
    torch.testing.assert_close(x.norm(dim=1), torch.ones(14))
    again = Tasks(7, geometry, "crowded", seed=3)
    assert torch.equal(again.inputs(14)[0], x)
    assert torch.equal(dict(again.anchors())["task 00003"].means, anchors["task 00003"].means)
    assert not torch.equal(Tasks(7, geometry, "crowded", seed=4).inputs(14)[0], x)


def test_probes_are_no_inputs_that_are_asked_about(geometry):
    tasks = Tasks(5, geometry, "spread", seed=0)
    probes = torch.cat([anchor.probes for _, anchor in tasks.anchors()])
    x, _ = tasks.inputs(20)
    assert float(torch.cdist(x, probes).min()) > 1e-3


def test_crowded_worlds_have_six_families_however_many_tasks(geometry):
    few, many = (Tasks(48, geometry, kind, seed=0)._middles for kind in ("crowded", "spread"))
    torch.testing.assert_close(few[0].expand(7, -1), few[0:42:6], atol=0.3, rtol=0)
    assert float((few[0] - few[6]).norm()) < float((many[0] - many[6]).norm())


def test_growth_tells_both_mappers(geometry, monkeypatch):
    found = grow(30, geometry, "spread", inputs=256)
    assert found.equal >= 0.995
    assert found.flat_build_s is not None
    assert found.flat_bytes == 3 * 4 * 30 * 25 * (D + 1)
    assert 0 < found.s <= found.slow_s
    assert found.peak_bytes > found.bytes > 4 * 30 * 25 * D
    monkeypatch.setattr(skill_scale, "FLAT_MOST", 10)
    by_formula = grow(30, geometry, "spread", inputs=256)
    assert by_formula.flat_build_s is None
    assert (by_formula.accuracy, by_formula.equal) == (found.accuracy, found.equal)


def test_traffic_is_every_module_once_but_ones_own():
    made = Traffic(agents=10, tasks=100, module_bytes=1000, overhead_bytes=50)
    assert made.received == pytest.approx(90 * 1050)
    assert made.total == pytest.approx(10 * made.received)
    assert made.worth_macs == pytest.approx(1000 * made.received)
    assert replace(made, agents=1).received == 0
