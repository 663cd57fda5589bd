"""The short version of benchmarks/bank_faults.py: some of the kills and failures of what changes a bank."""

import pytest
from benchmarks import bank_faults
from benchmarks.tracing import CannotTraceError, missing


@pytest.fixture(scope="module", params=bank_faults.OPERATIONS, ids=lambda operation: operation.name)
def bench(request, tmp_path_factory):
    if missing():
        pytest.skip(missing())
    bench = bank_faults.Bench(tmp_path_factory.mktemp("bench"), request.param)
    try:
        return bench, bench.calls()
    except CannotTraceError as error:
        pytest.skip(str(error))


def some(calls, count, start=0):
    """About so many of the calls, evenly spread, the last among them."""
    step = max(1, len(calls) // count)
    return calls[::-1][start::step][::-1]


def test_killed_before_a_system_call_the_bank_is_old_or_new_and_needs_no_repair(bench):
    bench, calls = bench
    assert len(calls) > 10
    row = bank_faults.kills(bench, some(calls, 4))
    assert (row["trials"] >= 4, row["failures"]) == (True, 0), row


def test_whatever_the_disk_refuses_the_error_is_typed_and_nothing_is_half_there(bench):
    bench, calls = bench
    for row in bank_faults.errors(bench, some(calls, 2, start=1), always=len(calls) % 2 == 0):
        assert row["failures"] == 0, row
