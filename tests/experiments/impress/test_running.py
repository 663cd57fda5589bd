import os
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest
import torch
from tests.experiments.impress.making import plan, results

from stolon.errors import (
    DataError,
    RecipeChangedError,
    StoreDamagedError,
    StoreLockedError,
    TrialsFailedError,
)
from stolon.experiments.impress.running import missing, recorded, results_of, run
from stolon.experiments.impress.work import Work


def records(folder):
    return results_of(Path(folder)).read()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Figure 2 with one run, from beginning to end in this process: its folder and events."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, list(run(plan(runs=1), folder, command="a command"))


def test_every_item_is_recorded_once_and_units_begin_and_end(whole):
    folder, events = whole
    found, wanted = records(folder), plan(runs=1)
    assert recorded(found) == {
        (unit.label, unit.run, item.where) for unit in wanted.units() for item in wanted.items(unit.kind)
    }
    kinds = [event.record.kind for event in events]
    assert kinds.count("trial") == kinds.count("done") == len(wanted.units()) == events[-1].done
    assert [e.record.data["masks"] for e in events if e.record.kind == "epoch"][:2] == [2, 3]
    assert found[0].data["command"] == "a command"
    assert events[0].record.versions["torch"] == torch.__version__
    assert all(0 <= record.data["accuracy"] <= 1 for record in found if record.kind == "task")


def test_what_is_done_is_not_done_again(whole):
    folder, _ = whole
    before = (folder / "results.jsonl").read_bytes()
    assert list(run(plan(runs=1), folder)) == []
    assert (folder / "results.jsonl").read_bytes() == before


@pytest.mark.parametrize("stop", [1, 4, 9, 23, 40])
def test_a_run_that_was_stopped_goes_on_to_the_same_numbers(whole, tmp_path, stop):
    folder, _ = whole
    going = run(plan(runs=1), tmp_path)
    for _ in range(stop):
        next(going)
    going.close()
    rest = list(run(plan(runs=1), tmp_path))
    assert results(records(tmp_path)) == results(records(folder))
    assert 0 < sum(event.record.kind == "task" for event in rest) < len(results(records(folder))) + 1


def test_a_run_that_is_killed_at_any_moment_goes_on_to_the_same_numbers(whole, tmp_path):
    folder, _ = whole
    script = Path(__file__).with_name("kill_me.py")
    ended = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "4"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "killed" in ended.stdout
    assert results(records(tmp_path)) == results(records(folder))


def test_masks_that_are_kept_are_not_trained_again(whole, tmp_path, monkeypatch):
    folder, _ = whole
    kept = sorted(path.name for path in (folder / "units" / "heterogeneous-0.2-0").iterdir())
    assert kept == ["coefficients-001", "coefficients-003", "masks-000.safetensors", "masks-002.safetensors"]

    def refuse(*given, **options):
        raise AssertionError

    monkeypatch.setattr("stolon.experiments.impress.work.train_masks", refuse)
    again = Work(plan(runs=1), plan(runs=1).units()[0], folder)
    assert len(again.masks) == 3


def test_another_figure_in_the_same_folder_takes_what_is_there(whole):
    folder, _ = whole
    seven = plan("impress-figure7", runs=1)
    there = recorded(records(folder))
    left = {unit.kind: missing(seven, unit, there) for unit in seven.units()}
    assert {kind: {item.what for item in items} for kind, items in left.items()} == {
        "random": {"new", "found-in-batch", "found-alone"},
        "homogeneous": {"wrong"},
        "supsup": set(),
    }


def test_processes_give_the_same_numbers(whole, tmp_path):
    folder, _ = whole
    events = list(run(plan(runs=1, workers=2), tmp_path))
    assert results(records(tmp_path)) == results(records(folder))
    assert events[-1].done == events[-1].of == 6


def test_closing_stops_the_processes(tmp_path):
    going = run(plan(workers=2), tmp_path)
    next(going)
    going.close()
    time.sleep(0.3)
    size = (tmp_path / "results.jsonl").stat().st_size
    time.sleep(1.0)
    assert (tmp_path / "results.jsonl").stat().st_size == size
    with filelock.FileLock(tmp_path / "LOCK", timeout=0):
        pass


def test_other_settings_in_the_same_folder_are_refused(whole):
    folder, _ = whole
    with pytest.raises(RecipeChangedError, match=r"begun with net = 'mlp-12', found 'mlp-13'; use what"):
        next(run(plan(runs=1, net="mlp-13"), folder))
    with pytest.raises(RecipeChangedError, match="another folder"):
        next(run(plan(runs=1, sizes=(1, 2, 3)), folder))


def test_a_folder_in_use_is_refused(tmp_path):
    with filelock.FileLock(tmp_path / "LOCK"), pytest.raises(StoreLockedError, match="another process"):
        next(run(plan(), tmp_path))


def test_a_unit_that_fails_is_told_and_the_others_are_done(tmp_path, monkeypatch):
    give = Work.give

    def fail(self, item):
        if self._unit.kind == "homogeneous":
            raise DataError("no good")
        return give(self, item)

    monkeypatch.setattr(Work, "give", fail)
    wanted = plan(runs=1, densities=(0.4,))
    events = []
    with pytest.raises(
        TrialsFailedError, match=r"1 of 3 unit\(s\) failed(.|\n)*homogeneous 0.4, run 0: DataError: no good"
    ):
        events += run(wanted, tmp_path)
    assert sum(record.kind == "done" for record in records(tmp_path)) == 2
    monkeypatch.undo()
    assert list(run(wanted, tmp_path))[-1].done == 3


def test_a_process_that_dies_is_told(tmp_path, monkeypatch):
    """Its own process would end this one: the pool's worker is made to."""
    wanted = plan(runs=1, densities=(0.4,), workers=1, net="mlp-12")
    monkeypatch.setattr("stolon.experiments.impress.running._work", _die)
    with pytest.raises(TrialsFailedError, match="a process was killed; out of memory"):
        list(run(wanted, tmp_path))


def _die(*given):
    os.kill(os.getpid(), 9)


def test_damaged_masks_are_told(tmp_path):
    wanted = plan(runs=1, densities=(0.4,))
    going = run(wanted, tmp_path)
    for _ in range(3):
        next(going)
    going.close()
    path = tmp_path / "units" / "heterogeneous-0.4-0" / "masks-000.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(TrialsFailedError, match=r"masks-000.safetensors is damaged.*delete it"):
        list(run(wanted, tmp_path))
    with pytest.raises(StoreDamagedError):
        Work(wanted, wanted.units()[0], tmp_path).masks  # noqa: B018 - asked for
    path.unlink()
    assert list(run(wanted, tmp_path))
