import os

import pytest

from stolon.sharing.bank_files import BankFiles
from stolon.sharing.limits import MAX_BLOB


def test_what_is_not_there_is_nothing(tmp_path):
    files = BankFiles(tmp_path / "none")
    assert files.envelope_ids("modules") == []
    assert files.read(files.envelope_path("modules", "0" * 64)) is None
    assert files.arrived(files.envelope_path("modules", "0" * 64)) == 0
    assert files.read(files.blob_path("0" * 64)) is None
    assert files.blob_sizes() == {}
    assert files.trust_versions() == []
    assert files.notes() == {}
    assert files.has_room(1)
    files.sweep([])
    assert files.remove(tmp_path / "none" / "x")
    assert not files.remove(tmp_path)  # a folder is no file
    files.set_aside(tmp_path / "none" / "x")
    assert not (tmp_path / "none").exists()


def test_a_file_that_is_longer_than_any_is_read_in_part_only(tmp_path):
    (tmp_path / "modules").mkdir()
    files = BankFiles(tmp_path)
    path = files.envelope_path("modules", "0" * 64)
    with path.open("wb") as file:
        os.truncate(file.fileno(), 2**33)
    assert len(files.read(path)) == MAX_BLOB + 1


def test_what_lies_about_in_the_folders_is_not_taken_for_ours(tmp_path):
    for name in ("modules/readme.txt", "trust/readme.dsse", "trust/²", "blobs/file", "quarantine/readme.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "quarantine" / "folder.json").mkdir()
    files = BankFiles(tmp_path)
    assert files.envelope_ids("modules") == []
    assert files.trust_versions() == []
    assert files.blob_sizes() == {}
    assert files.notes() == {}


def test_the_highest_version_is_a_number_not_a_text(tmp_path):
    files = BankFiles(tmp_path)
    for version in (9, 10, 2):
        files.write_trust(version, b"x")
    assert files.trust_versions() == [2, 9, 10]
    assert files.trust(10) == (b"x", b"x")


@pytest.mark.parametrize("there", [None, b"", b"other", b"data!", b"data"])
def test_a_blob_is_written_unless_its_very_bytes_are_there(tmp_path, there):
    files = BankFiles(tmp_path)
    path = files.blob_path("ab" + "0" * 62)
    if there is not None:
        path.parent.mkdir(parents=True)
        path.write_bytes(there)
    assert files.write(path, b"data") is (there != b"data")
    assert path.read_bytes() == b"data"
    assert files.blob_sizes() == {path.name: 4}
