import json
import os
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stolon.errors import SettingError, StoreFullError, StoreMissingError, StoreVersionError
from stolon.experiments.results import Record, Results

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
datas = st.dictionaries(st.text(), json_values, max_size=3)


def epoch(number, data=None, experiment="e"):
    return Record("epoch", experiment, "l", "s", 0, data or {}, ("t", "train", number))


@given(st.lists(datas, max_size=4))
@settings(max_examples=30, deadline=None)
def test_what_is_written_is_read(tmp_path_factory, found):
    results = Results(tmp_path_factory.mktemp("r") / "deep" / "results.jsonl")
    records = tuple(epoch(i, data) for i, data in enumerate(found))
    for record in records:
        results.append(record)
    if records:
        assert results.read() == records


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_torn_anywhere_only_the_last_line_is_lost_and_later_ones_are_read(tmp_path_factory, data):
    results = Results(tmp_path_factory.mktemp("r") / "results.jsonl")
    for i in range(3):
        results.append(epoch(i, {"text": 'ä\n"}{'}))
    whole = results.path.read_bytes()
    last = whole[:-1].rindex(b"\n") + 1
    cut = data.draw(st.integers(last, len(whole) - 1))
    results.path.write_bytes(whole[:cut])
    survivors = (0, 1) if cut < len(whole) - 1 else (0, 1, 2)  # all but its newline is all of it
    results.append(epoch(3))
    results.append(epoch(4))
    assert tuple(record.where[2] for record in results.read()) == (*survivors, 3, 4)


def test_of_records_with_one_key_the_first_counts(tmp_path):
    results = Results(tmp_path / "results.jsonl")
    results.append(epoch(1, {"loss": 1}))
    results.append(epoch(1, {"loss": 2}))
    assert [record.data for record in results.read()] == [{"loss": 1}]


def test_of_failures_the_last_counts(tmp_path):
    results = Results(tmp_path / "results.jsonl")
    for message in ("first", "second"):
        results.append(Record("failed", "e", "l", "s", 0, {"message": message}))
    assert [record.data["message"] for record in results.read()] == ["second"]


def test_garbage_between_records_harms_none(tmp_path):
    results = Results(tmp_path / "results.jsonl")
    results.append(epoch(1))
    with results.path.open("ab") as file:
        file.write(
            b'\0\0\0\n[]\n3\n{"format": 1}\n\xff\xfe\n{"format": 1, "kind": "other", "where": []}\n'
            + b"[" * 100_000
            + b"\n"
        )
    results.append(epoch(2))
    assert [record.where[2] for record in results.read()] == [1, 2]


def test_following_goes_on_where_it_was(tmp_path):
    results = Results(tmp_path / "results.jsonl")
    assert list(results.follow()) == []
    offset = 0
    for i in range(3):
        results.append(epoch(i))
        ((record, offset),) = results.follow(offset)
        assert record == epoch(i)
    with results.path.open("ab") as file:
        file.write(b'{"unfinished": ')
    assert list(results.follow(offset)) == []


def test_what_is_no_json_is_refused_and_nothing_is_written(tmp_path):
    results = Results(tmp_path / "results.jsonl")
    for bad in (float("nan"), object()):
        with pytest.raises(SettingError, match="JSON"):
            results.append(epoch(1, {"loss": bad}))
    assert not results.path.exists()


def test_no_results_are_told_as_such(tmp_path):
    with pytest.raises(StoreMissingError, match="expected results at"):
        Results(tmp_path / "none.jsonl").read()


def test_results_of_a_newer_stolon_are_refused_by_name(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps({"format": 2, "kind": "new"}) + "\n")
    with pytest.raises(StoreVersionError, match="format 2"):
        Results(path).read()


def test_a_disk_that_refuses_half_way_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    results = Results(tmp_path / "results.jsonl")
    results.append(epoch(1))
    before = results.path.read_bytes()
    real, calls = os.write, []

    def full(descriptor, data):
        if len(data) < 100:
            return real(descriptor, data)
        calls.append(1)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[:50])

    monkeypatch.setattr("stolon.experiments.results.os.write", full)
    with pytest.raises(StoreFullError, match="No space left"):
        results.append(epoch(2, {"much": "x" * 500}))
    assert results.path.read_bytes() == before


def _write_many(path, writer):
    results = Results(path)
    for i in range(25):
        results.append(Record("epoch", "e", str(writer), "s", 0, {"padding": "x" * 5000}, ("t", "train", i)))


def test_several_writers_append_at_once(tmp_path):
    """Each append takes the file's lock, whether writers are threads, as here, or processes."""
    path = tmp_path / "results.jsonl"
    threads = [Thread(target=_write_many, args=(path, i)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Results(path).read()) == 100
