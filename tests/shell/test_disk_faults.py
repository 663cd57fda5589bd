"""The short version of benchmarks/disk_faults.py: every kill, and every third failure, of one save."""

import pytest
from benchmarks import disk_faults
from benchmarks.tracing import CannotTraceError, missing


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    if missing():
        pytest.skip(missing())
    bench = disk_faults.Bench(tmp_path_factory.mktemp("bench"))
    try:
        return bench, bench.calls()
    except CannotTraceError as error:
        pytest.skip(str(error))


def test_killed_before_any_system_call_of_a_save_the_store_is_old_or_new_and_needs_no_repair(bench):
    bench, calls = bench
    assert len(calls) > 20
    row = disk_faults.kills(bench, calls)
    assert (row["trials"], row["failures"]) == (len(calls), 0), row
    assert set(row["found"]) == {"killed, old record", "killed, new record"}


@pytest.mark.parametrize("always", [False, True], ids=["once", "always"])
def test_whatever_the_disk_refuses_the_error_is_typed_and_the_record_whole(bench, always):
    bench, calls = bench
    for row in disk_faults.errors(bench, calls[always::4], always=always):
        assert row["failures"] == 0, row
