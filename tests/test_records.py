import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stolon import durable, records
from stolon.errors import StoreDamagedError, StoreError, StoreFullError, StoreMissingError, StoreVersionError
from stolon.records import Record


def example(value=1.0):
    return Record("test", {"a": [1, 2.5, None, "x"]}, {"g": {"t": torch.full((3,), value)}, "empty": {}})


def test_what_was_saved_is_loaded(tmp_path):
    records.save(example(), tmp_path)
    back = records.load(tmp_path, "test")
    assert back.document == example().document
    assert back.groups.keys() == {"g", "empty"}
    assert torch.equal(back.groups["g"]["t"], torch.ones(3))
    assert records.document(tmp_path, "test") == example().document


def test_saving_again_leaves_nothing_old_behind(tmp_path):
    records.save(example(1.0), tmp_path)
    records.save(example(2.0), tmp_path)
    assert len(list((tmp_path / "tensors").iterdir())) == 2
    assert records.load(tmp_path, "test").groups["g"]["t"][0] == 2


def test_an_unchanged_group_is_not_written_again(tmp_path):
    records.save(example(), tmp_path)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "tensors").iterdir()}
    records.save(Record("test", {"other": 1}, example().groups), tmp_path)
    assert before == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "tensors").iterdir()}


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_single_flipped_bit_is_noticed(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("record")
    records.save(example(), folder)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    path = data.draw(st.sampled_from(files))
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(content))
    with pytest.raises(StoreError):
        records.load(folder, "test")


def test_a_newer_format_a_missing_record_and_another_kind_are_told_apart(tmp_path):
    with pytest.raises(StoreMissingError, match="right folder"):
        records.load(tmp_path, "test")
    records.save(example(), tmp_path)
    with pytest.raises(StoreDamagedError, match="expected a record of a cat, found of a test"):
        records.load(tmp_path, "cat")
    body = json.loads((tmp_path / "record.json").read_text())
    body["format"] = records.FORMAT + 1
    (tmp_path / "record.json").write_text(json.dumps(body))
    with pytest.raises(StoreVersionError, match="install a newer stolon"):
        records.load(tmp_path, "test")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b'{"format": "1"}', b"[" * 100_000, b"\xff\xfe"])
def test_what_is_no_record_is_called_damaged(tmp_path, text):
    (tmp_path / "record.json").write_bytes(text)
    with pytest.raises(StoreDamagedError, match="damaged"):
        records.load(tmp_path, "test")


def test_a_missing_tensor_file_is_named(tmp_path):
    records.save(example(), tmp_path)
    for path in (tmp_path / "tensors").iterdir():
        path.unlink()
    with pytest.raises(StoreDamagedError, match="cannot be read"):
        records.load(tmp_path, "test")


def test_a_disk_that_refuses_leaves_what_was_there(tmp_path, monkeypatch):
    records.save(example(1.0), tmp_path)

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", refuse)
    with pytest.raises(StoreFullError, match=r"No space left.*intact"):
        records.save(example(2.0), tmp_path)
    monkeypatch.undo()
    assert records.load(tmp_path, "test").groups["g"]["t"][0] == 1
    assert not list(tmp_path.rglob(f"{durable.TEMPORARY}*"))


def test_leftovers_of_a_killed_writer_are_swept(tmp_path):
    records.save(example(), tmp_path)
    (tmp_path / f"{durable.TEMPORARY}x").write_bytes(b"half")
    (tmp_path / "tensors" / f"{durable.TEMPORARY}y").write_bytes(b"half")
    records.save(example(2.0), tmp_path)
    assert not list(tmp_path.rglob(f"{durable.TEMPORARY}*"))


def test_what_is_somebody_elses_is_left_alone(tmp_path):
    (tmp_path / "tensors").mkdir()
    theirs = [
        tmp_path / "notes.txt",
        tmp_path / "tensors" / "notes.txt",
        tmp_path / "tensors" / "mine.safetensors",
    ]
    for path in theirs:
        path.write_text("precious")
    records.save(example(1.0), tmp_path)
    records.save(example(2.0), tmp_path)
    assert [path.read_text() for path in theirs] == ["precious"] * 3
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(StoreError, match="expected a record of a cat or none, found a record of a test"):
        records.save(Record("cat", {}, {}), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    (tmp_path / "record.json").write_text('{"my": 1}')
    with pytest.raises(StoreError, match="a file that is none of stolon's"):
        records.save(example(), tmp_path)
    assert (tmp_path / "record.json").read_text() == '{"my": 1}'


def test_a_reader_that_meets_a_writer_reads_the_new_record(tmp_path, monkeypatch):
    """The record is replaced between the reader's look at it and its look at the tensors."""
    records.save(example(1.0), tmp_path)
    original, calls = records._read_group, []

    def slow(folder, name, entry):
        if not calls:
            calls.append(name)
            records.save(example(2.0), tmp_path)
        return original(folder, name, entry)

    monkeypatch.setattr(records, "_read_group", slow)
    assert records.load(tmp_path, "test").groups["g"]["t"][0] == 2
