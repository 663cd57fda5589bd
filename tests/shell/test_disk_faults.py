"""The short version of benchmarks/disk_faults.py: every kill, and every third failure, of one save."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "disk_faults.py"


@pytest.fixture(scope="module")
def faults():
    spec = importlib.util.spec_from_file_location("disk_faults", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["disk_faults"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["disk_faults"]


@pytest.fixture(scope="module")
def bench(faults, tmp_path_factory):
    if faults.missing():
        pytest.skip(faults.missing())
    bench = faults.Bench(tmp_path_factory.mktemp("bench"))
    try:
        return bench, bench.calls()
    except faults.CannotTraceError as error:
        pytest.skip(str(error))


def test_killed_before_any_system_call_of_a_save_the_store_is_old_or_new_and_needs_no_repair(faults, bench):
    bench, calls = bench
    assert len(calls) > 20
    row = faults.kills(bench, calls)
    assert (row["trials"], row["failures"]) == (len(calls), 0), row
    assert set(row["found"]) == {"killed, old record", "killed, new record"}


@pytest.mark.parametrize("always", [False, True], ids=["once", "always"])
def test_whatever_the_disk_refuses_the_error_is_typed_and_the_record_whole(faults, bench, always):
    bench, calls = bench
    for row in faults.errors(bench, calls[always::4], always=always):
        assert row["failures"] == 0, row
