import json
import os
import subprocess
import sys
from concurrent.futures import BrokenExecutor, Future
from pathlib import Path

import pytest

from stolon.errors import SettingError
from stolon.experiments.on_ray import RayExecutor

ray = pytest.importorskip("ray", reason="the extra is not installed: pip install 'stolon[ray]'")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What one process found; see use_ray.py."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.experiments.use_ray", str(tmp_path_factory.mktemp("ray"))],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout.splitlines()[-1])


def test_calls_run_in_other_processes_and_give_and_raise_what_they_do(found):
    assert found["is_another_process"]
    assert found["map"] == [1, 2, 0]
    assert found["raised"].startswith("ZeroDivisionError")


def test_a_worker_that_dies_is_a_broken_executor_and_others_go_on(found):
    assert found["killed"].startswith("BrokenExecutor: Ray could not finish a call")
    assert found["after"] == 1


def hand_on(error):
    """What a call's future raises where Ray's raises this."""
    executor, done, future = object.__new__(RayExecutor), Future(), Future()
    executor._ray, executor._waiting = ray, {}
    done.set_exception(error)
    executor._hand_on(done, future)
    return future.exception()


def test_what_befalls_a_worker_is_no_fault_of_the_call():
    for error in (
        ray.exceptions.WorkerCrashedError(),
        ray.exceptions.OutOfMemoryError("no memory"),
        ray.exceptions.NodeDiedError("gone"),
    ):
        assert isinstance(hand_on(error), BrokenExecutor)
    assert isinstance(hand_on(ray.exceptions.RayTaskError("f", "...", KeyError("x"))), KeyError)


def test_masks_are_those_of_one_process_to_the_bit(found):
    here, there = found["masks"]
    assert here == there


def test_a_search_finds_the_same(found):
    assert found["search"]
    assert found["done"] == 3


def test_a_second_cluster_in_one_process_is_refused(found):
    assert found["second"].startswith("SettingError: ray: this process is part of a cluster already")


def test_without_workers_it_is_refused():
    with pytest.raises(SettingError, match="workers"):
        RayExecutor(0)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "10.0.0.1", "127.0.0.1:99999"])
def test_an_address_that_nobody_listens_at_is_refused_at_once(address):
    with pytest.raises(SettingError, match="ray: expected"):
        RayExecutor(1, address)


def test_where_it_is_not_installed_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingError, match=r"pip install 'stolon\[ray\]'"):
        RayExecutor(1)
