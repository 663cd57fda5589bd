import threading
import time

import pytest
from tests.sharing.samples import ADA, BEN, LISTED, ROOT, packed, parts, sealed

from stolon.sharing import upkeep
from stolon.sharing.bank import Bank
from stolon.sharing.revocation import revoke
from stolon.sharing.upkeep import Upkeep


@pytest.fixture
def bank(tmp_path):
    with Bank(tmp_path / "bank") as bank:
        bank.set_trust(sealed(LISTED, ROOT))
        yield bank


def filled(bank):
    return sorted(
        [
            bank.add(packed()),
            bank.add(packed(BEN, "flowers", kind="mahalanobis", seed=1)),
            bank.revoke(revoke(ADA, "0" * 64)),
        ]
    )


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def blob(bank, id_):
    sha = next(file.sha256 for one in bank.modules() if one.id == id_ for file in one.manifest.files)
    return bank.folder / "blobs" / sha[:2] / sha


def test_everything_is_read_in_turn_also_what_came_meanwhile(bank, monkeypatch):
    ids, read = filled(bank), []
    check = bank.check_one
    monkeypatch.setattr(bank, "check_one", lambda id_: read.append(id_) or check(id_))
    kept = Upkeep(bank, pytest.fail)
    for _ in range(4):
        kept.step()
    assert read == [*ids, ids[0]]
    new = bank.add(packed(seq=2))
    for _ in range(4):
        kept.step()
    assert set(read[4:]) == {*ids, new}


def test_reading_is_slow_and_slower_where_there_is_much_to_read(bank, monkeypatch):
    assert Upkeep(bank, pytest.fail).step() == upkeep.PAUSE_S
    id_ = bank.add(packed())
    size = len(parts()[0]) + sum(len(data) for data in parts()[1].values())
    assert bank.check_one(id_) == size
    assert Upkeep(bank, pytest.fail).step() == upkeep.PAUSE_S
    monkeypatch.setattr(upkeep, "RATE", size / 100)
    assert Upkeep(bank, pytest.fail).step() == pytest.approx(100)


@pytest.mark.parametrize("what", ["envelope", "blob"])
def test_damage_that_nobody_asks_for_is_found_told_and_mended_by_fetching_again(bank, caplog, what):
    ids, told = filled(bank), []
    id_ = next(one.id for one in bank.modules() if one.manifest.task == "leaves")
    data = bank.file(id_)  # read just now: what is kept in memory must not stand in for the disk
    flip(blob(bank, id_) if what == "blob" else bank.folder / "modules" / f"{id_}.dsse")
    kept = Upkeep(bank, lambda: told.append(bank.ids()))
    for _ in ids:
        kept.step()
    assert told == [frozenset(ids) - {id_}]
    assert [record.message for record in caplog.records] == ["damage was found on the disk"]
    assert bank.commit(*parts()) == id_
    for _ in ids:
        kept.step()
    assert len(told) == 1
    assert bank.file(id_) == data


def test_it_runs_in_a_thread_until_it_is_stopped_and_survives_what_goes_wrong(bank, monkeypatch, caplog):
    monkeypatch.setattr(upkeep, "PAUSE_S", 0.001)
    filled(bank)
    calls = []

    def check_one(id_):
        calls.append(id_)
        if len(calls) < 3:
            raise OSError("the disk is away")
        return 0

    monkeypatch.setattr(bank, "check_one", check_one)
    kept = Upkeep(bank, pytest.fail)
    kept.start()
    end = time.monotonic() + 10
    while len(calls) < 5 and time.monotonic() < end:
        time.sleep(0.002)
    kept.stop()
    kept.stop()
    found = len(calls)
    assert found >= 5
    assert sum("cannot check" in record.message for record in caplog.records) == 2
    assert "upkeep" not in {thread.name for thread in threading.enumerate()}
    monkeypatch.setattr(upkeep, "PAUSE_S", 1000.0)
    begun = time.monotonic()
    other = Upkeep(bank, pytest.fail)
    other.start()
    other.stop()
    assert time.monotonic() - begun < 5
