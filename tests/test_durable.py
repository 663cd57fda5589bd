import os

import pytest

from stolon import durable
from stolon.errors import StoreFullError


def test_what_was_written_is_there_and_nothing_else(tmp_path):
    path = tmp_path / "a" / "b"
    durable.write(path, b"one")
    durable.write(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["b"]


def test_others_may_read_it_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        durable.write(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_refusal_of_the_disk_leaves_the_old_bytes_and_no_litter(tmp_path, monkeypatch, call):
    path = tmp_path / "a"
    durable.write(path, b"old")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable.os if call == "fsync" else durable.Path, call, refuse)
    with pytest.raises(StoreFullError, match=r"No space left.*free space"):
        durable.write(path, b"new")
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_bytes() == b"old"
