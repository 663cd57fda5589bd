import errno
import os
import pathlib
import random
import threading
from dataclasses import replace

import pytest
from benchmarks import bank_rot
from tests.sharing.samples import ADA, BACKBONE, BEN, EVE, LISTED, ROOT, packed, parts, sealed

from stolon import durable
from stolon.errors import (
    ModuleRefusedError,
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreMissingError,
)
from stolon.sharing import acceptance, bank_files, module
from stolon.sharing.bank import Bank
from stolon.sharing.codes import Code
from stolon.sharing.revocation import revoke, revoke_as_root
from stolon.sharing.trust import Author

LEAVES, LEAVES_2, FLOWERS = packed(), packed(seq=2), packed(BEN, "flowers", kind="mahalanobis", seed=1)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "bank"


@pytest.fixture
def bank(folder):
    with opened(folder) as bank:
        yield bank


def opened(folder, trust=LISTED):
    bank = Bank(folder)
    if bank.trust is None:
        bank.set_trust(sealed(trust, ROOT))
    return bank


def code(call, *arguments, **options):
    with pytest.raises(ModuleRefusedError) as caught:
        call(*arguments, **options)
    return caught.value.code


def files_of(folder, *kinds):
    """Paths of all files of a bank but its lock, relative to it."""
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != "LOCK"}
    return {path for path in found if path.split("/")[0] in kinds} if kinds else found


# Taking in


def test_a_module_is_held_as_soon_as_it_was_added_and_after_reopening(folder):
    with opened(folder) as bank:
        id_ = bank.add(LEAVES)
        assert bank.ids() == {id_}
        digest = bank.digest()
    with Bank(folder) as bank:
        assert (bank.ids(), bank.digest(), bank.trust) == ({id_}, digest, LISTED)
        (stored,) = bank.modules()
        assert (stored.id, stored.manifest.task) == (id_, "leaves")
        assert abs(stored.arrived - (folder / "modules" / f"{id_}.dsse").stat().st_mtime) < 1
        assert bank.file(id_) == LEAVES
        assert stored.bytes == sum(len(part) for part in (parts()[0], *parts()[1].values()))
        assert bank.module(id_).id == id_


def test_the_ids_given_are_a_value_that_later_changes_leave_alone(bank, folder):
    before = bank.ids()
    id_ = bank.add(LEAVES)
    between = bank.ids()
    bank.revoke(revoke_as_root([ROOT], modules=[id_]))
    after = bank.ids()
    bank.add(FLOWERS)
    assert (before, between) == (frozenset(), frozenset({id_}))
    assert id_ not in after
    assert len(after) == 1
    assert all(isinstance(ids, frozenset) for ids in (before, between, after, bank.ids()))


def test_adding_twice_is_adding_once(bank, folder):
    id_ = bank.add(LEAVES)
    before = files_of(folder)
    assert bank.add(LEAVES) == id_
    assert bank.commit(*parts()) == id_
    assert bank.add(acceptance.accept(*parts(), LISTED)) == id_
    assert (bank.ids(), files_of(folder)) == ({id_}, before)


def test_a_fresh_bank_takes_nothing(folder):
    with Bank(folder) as bank:
        assert bank.trust is None
        assert code(bank.add, LEAVES) == Code.UNKNOWN_AUTHOR
        assert bank.ids() == frozenset()


def test_what_is_refused_changes_nothing(bank, folder):
    bank.add(LEAVES)
    before, digest = files_of(folder), bank.digest()
    assert code(bank.add, packed(EVE)) == Code.UNKNOWN_AUTHOR
    assert code(bank.add, LEAVES[:-1]) == Code.MALFORMED
    assert code(bank.add, LEAVES_2, backbone="c" * 64) == Code.OTHER_BACKBONE
    assert code(bank.add, module.join(revoke(ADA, "0" * 64), [])) == Code.WRONG_TYPE
    assert bank.commit(*parts(EVE)).code == Code.UNKNOWN_AUTHOR
    assert bank.commit(parts()[0], {}).code == Code.MISSING_BLOB
    assert code(bank.revoke, revoke(EVE, "0" * 64)) == Code.UNKNOWN_AUTHOR
    assert code(bank.revoke, parts(BEN)[0]) == Code.MISSING_BLOB
    assert (files_of(folder), bank.digest()) == (before, digest)


def test_only_a_revocation_revokes(bank):
    id_ = bank.add(LEAVES)
    bank.revoke(revoke(ADA, id_))
    assert code(bank.revoke, parts()[0]) == Code.WRONG_TYPE  # accepted as one that was taken back


def test_the_bank_judges_as_acceptance_does(bank):
    wanted = bank.judge(parts()[0], BACKBONE)
    assert (wanted.id, dict(wanted.blobs).keys()) == (bank.add(LEAVES), parts()[1].keys())
    assert bank.judge(parts()[0], "c" * 64).code == Code.OTHER_BACKBONE


def test_the_newest_version_is_current_and_versions_tells_all(bank):
    old, new, other = bank.add(LEAVES), bank.add(LEAVES_2), bank.add(FLOWERS)
    assert {stored.id for stored in bank.modules()} == {new, other}
    assert [stored.id for stored in bank.versions(ADA.public, "leaves")] == [old, new]
    assert bank.ids() == {old, new, other}


def test_blobs_are_shared_by_the_modules_that_have_them_in_common(bank, folder):
    old = bank.add(LEAVES)
    before = files_of(folder, "blobs")
    new = bank.add(LEAVES_2)
    assert files_of(folder, "blobs") == before
    bank.revoke(revoke(ADA, old))
    assert files_of(folder, "blobs") == before
    assert bank.module(new).seq == 2
    bank.revoke(revoke(ADA, new))
    assert files_of(folder, "blobs") == set()


# Quotas


def listed(**quota):
    return replace(LISTED, version=2, authors=(Author(ADA.public, "Ada", **quota), *LISTED.authors[1:]))


def test_over_quota_the_newest_stay_and_the_rest_leave_the_disk(bank, folder):
    bank.set_trust(sealed(listed(modules=2), ROOT))
    first, second, third = (packed(task=f"t{seq}", seq=seq, seed=seq) for seq in (1, 2, 3))
    ids = [bank.add(data) for data in (first, second)]
    ids.append(bank.add(third))
    assert bank.ids() == set(ids[1:])
    assert files_of(folder, "modules") == {f"modules/{id_}.dsse" for id_ in ids[1:]}
    assert len(files_of(folder, "blobs")) == 4
    assert code(bank.add, first) == Code.OVER_QUOTA
    assert bank.judge(module.split(first)[0]).code == Code.OVER_QUOTA
    digest = bank.digest()
    bank.refresh()
    assert bank.digest() == digest


def test_a_lower_quota_is_kept_at_once(bank, folder):
    ids = [bank.add(packed(task=f"t{seq}", seq=seq, seed=seq)) for seq in (1, 2, 3)]
    bank.set_trust(sealed(listed(modules=1), ROOT))
    assert bank.ids() == {ids[2]}
    assert len(files_of(folder, "modules")) == 1
    assert len(files_of(folder, "blobs")) == 2


def test_the_order_of_arrival_makes_no_difference(tmp_path):
    files = [packed(task=f"t{seq % 3}", seq=seq, seed=seq) for seq in range(1, 8)]
    digests = set()
    for number in range(3):
        random.Random(number).shuffle(files)
        with opened(tmp_path / str(number)) as bank:
            bank.set_trust(sealed(listed(modules=4), ROOT))
            for data in files * 2:
                parts = module.split(data)
                bank.commit(*parts)
            digests.add(bank.digest())
    assert len(digests) == 1


# Revoking


def test_what_its_author_took_back_leaves_the_view_and_the_disk_but_its_id_stays(bank, folder):
    old, new = bank.add(LEAVES), bank.add(packed(seq=2, seed=2))
    word = bank.revoke(revoke(ADA, new))
    assert bank.modules() == ()  # and the version that it replaced does not come back
    assert bank.ids() == {old, new, word}
    assert files_of(folder, "modules") == {f"modules/{id_}.dsse" for id_ in (old, new)}
    assert len(files_of(folder, "blobs")) == 2
    assert code(bank.add, packed(seq=2, seed=2)) == Code.REVOKED
    assert [stored.id for stored in bank.versions(ADA.public, "leaves")] == [old, new]
    with pytest.raises(StoreMissingError, match="revoked"):
        bank.module(new)
    assert bank.envelope(new) is not None
    digest = bank.digest()
    bank.refresh()
    assert (bank.digest(), bank.damaged()) == (digest, {})


def test_revocation_and_module_may_come_in_either_order(tmp_path):
    with opened(tmp_path / "a") as first, opened(tmp_path / "b") as second:
        id_ = first.add(LEAVES)
        word = revoke(ADA, id_)
        first.revoke(word)
        second.revoke(word)
        assert second.judge(parts()[0]).blobs == ()
        assert second.commit(parts()[0], {}) == id_
        assert first.digest() == second.digest()
        assert files_of(tmp_path / "b", "blobs") == set()


def test_what_a_root_revoked_leaves_the_bank(bank, folder):
    id_, other = bank.add(LEAVES), bank.add(FLOWERS)
    word = bank.revoke(revoke_as_root([ROOT], modules=[id_]))
    assert bank.ids() == {other, word}
    assert files_of(folder, "modules") == {f"modules/{other}.dsse"}
    assert code(bank.add, LEAVES) == Code.REVOKED
    bank.revoke(revoke_as_root([ROOT], keys=[BEN.public]))
    assert files_of(folder, "modules", "blobs") == set()
    assert code(bank.add, FLOWERS) == Code.REVOKED_KEY


def test_a_new_trust_list_decides_at_once_and_forgets_nothing(bank, folder):
    id_, other = bank.add(LEAVES), bank.add(FLOWERS)
    word = bank.revoke(revoke(ADA, "0" * 64))
    before = files_of(folder, "modules", "blobs", "revocations")
    bank.set_trust(sealed(replace(LISTED, version=2, authors=LISTED.authors[1:]), ROOT))
    assert bank.ids() == {other}
    assert files_of(folder, "modules", "blobs", "revocations") == before
    bank.refresh()
    assert bank.ids() == {other}
    bank.set_trust(sealed(replace(LISTED, version=3), ROOT))
    assert bank.ids() == {id_, other, word}
    assert bank.module(id_).task == "leaves"
    gone = replace(LISTED, version=4, authors=LISTED.authors[1:], revoked_keys=frozenset({ADA.public}))
    bank.set_trust(sealed(gone, ROOT))
    assert (bank.ids(), len(files_of(folder, "modules"))) == ({other}, 1)


def test_a_trust_list_that_is_refused_changes_nothing(bank, folder):
    before = files_of(folder)
    assert code(bank.set_trust, sealed(replace(LISTED, version=2), BEN)) == Code.BAD_TRUST
    assert code(bank.set_trust, b"") == Code.MALFORMED
    bank.set_trust(sealed(replace(LISTED, version=2), ROOT))
    assert code(bank.set_trust, sealed(LISTED, ROOT)) == Code.OLD_TRUST
    assert bank.trust.version == 2
    assert files_of(folder) == before | {"trust/2.dsse", "trust/2.copy"}


# Notes


def test_notes_say_why_a_module_is_not_answered_from(bank, folder):
    bank.hold("1" * 64, "overlaps leaves")
    bank.hold("2" * 64, "x" * 9999)
    assert bank.held_back() == {"1" * 64: "overlaps leaves", "2" * 64: "x" * 500}
    (folder / "quarantine" / f"{'3' * 64}.json").write_bytes(b"{")
    (folder / "quarantine" / f"{'4' * 64}.json").write_bytes(b"[1]")
    (folder / "quarantine" / f"{'5' * 64}.json").write_bytes(b"{}")
    (folder / "quarantine" / "readme.txt").write_bytes(b"{}")
    bank.release("2" * 64)
    bank.release("2" * 64)
    assert bank.held_back() == {"1" * 64: "overlaps leaves"}


# Damage


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_a_damaged_blob_is_set_aside_and_fetched_again(bank, folder, tmp_path):
    id_ = bank.add(LEAVES)
    sha = next(iter(parts()[1]))
    flip(folder / "blobs" / sha[:2] / sha, 999)
    assert id_ in bank.ids()
    assert bank.blob(sha) is None
    assert bank.ids() == frozenset()
    assert bank.modules() == ()
    assert "not the one that was written" in bank.damaged()[id_]
    assert (folder / "damaged" / sha).exists()
    bank.refresh()
    assert "missing" in bank.damaged()[id_]
    with pytest.raises(StoreMissingError, match="missing"):
        bank.module(id_)
    assert bank.commit(*parts()) == id_
    assert (bank.ids(), bank.damaged()) == ({id_}, {})
    assert bank.file(id_) == LEAVES


def test_a_module_with_a_damaged_blob_is_not_used(bank, folder):
    id_ = bank.add(LEAVES)
    for sha in parts()[1]:
        flip(folder / "blobs" / sha[:2] / sha, 5)
    with pytest.raises(StoreDamagedError, match="fetched again"):
        bank.module(id_)
    with pytest.raises(StoreMissingError, match="is not there"):
        bank.module(id_)
    bank.add(LEAVES)
    assert bank.module(id_).id == id_


def test_a_damaged_envelope_is_set_aside_and_fetched_again(bank, folder):
    id_ = bank.add(LEAVES)
    flip(folder / "modules" / f"{id_}.dsse", 3000)
    with pytest.raises(StoreDamagedError):
        bank.file(id_)
    assert bank.envelope(id_) is None
    assert bank.ids() == frozenset()
    assert (folder / "damaged" / f"{id_}.dsse").exists()
    assert bank.add(LEAVES) == id_
    assert bank.file(id_) == LEAVES


@pytest.mark.parametrize("kind", ["modules", "revocations"])
def test_a_damaged_envelope_is_noticed_when_opening(folder, kind):
    with opened(folder) as bank:
        ids = {"modules": bank.add(LEAVES), "revocations": bank.revoke(revoke(BEN, "0" * 64))}
    flip(folder / kind / f"{ids[kind]}.dsse", 3000 if kind == "modules" else 400)
    with Bank(folder, write=False) as bank:
        assert bank.ids() == set(ids.values()) - {ids[kind]}
        assert not (folder / "damaged").exists()
    with Bank(folder) as bank:
        assert bank.ids() == set(ids.values()) - {ids[kind]}
        assert (folder / "damaged" / f"{ids[kind]}.dsse").exists()


def test_a_damaged_revocation_is_noticed_before_it_is_passed_on(bank, folder):
    word = bank.revoke(revoke(ADA, "0" * 64))
    flip(folder / "revocations" / f"{word}.dsse", 100)
    assert bank.envelope(word) is None
    assert bank.ids() == frozenset()
    assert bank.revoke(revoke(ADA, "0" * 64)) == word
    assert bank.ids() == {word}


def test_an_envelope_under_a_wrong_name_is_set_aside(folder):
    with opened(folder) as bank:
        id_ = bank.add(LEAVES)
        word = bank.revoke(revoke(BEN, "0" * 64))
    (folder / "modules" / f"{id_}.dsse").rename(folder / "modules" / f"{'1' * 64}.dsse")
    (folder / "revocations" / f"{word}.dsse").rename(folder / "modules" / f"{word}.dsse")
    with Bank(folder) as bank:
        assert bank.ids() == frozenset()


def test_a_blob_of_another_size_is_noticed_when_opening(folder):
    with opened(folder) as bank:
        id_ = bank.add(LEAVES)
    sha = next(iter(parts()[1]))
    (folder / "blobs" / sha[:2] / sha).write_bytes(b"short")
    with Bank(folder) as bank:
        assert bank.ids() == frozenset()
        assert bank.add(LEAVES) == id_


def test_a_revoked_modules_damage_does_not_matter(bank, folder):
    id_ = bank.add(LEAVES)
    bank.revoke(revoke(ADA, id_))
    bank.refresh()
    assert id_ in bank.ids()


def test_one_copy_of_the_trust_list_mends_the_other_and_none_is_an_error(folder):
    with opened(folder):
        pass
    for end in ("dsse", "copy"):
        flip(folder / "trust" / f"1.{end}", 77)
        with Bank(folder, write=False) as bank:
            assert bank.trust == LISTED
        with Bank(folder) as bank:
            assert bank.trust == LISTED
    assert (folder / "trust" / "1.dsse").read_bytes() == (folder / "trust" / "1.copy").read_bytes()
    (folder / "trust" / "1.copy").unlink()
    with Bank(folder):
        assert (folder / "trust" / "1.copy").exists()
    for end in ("dsse", "copy"):
        flip(folder / "trust" / f"1.{end}", 77)
    for _ in range(2):  # and the lock was let go of
        with pytest.raises(StoreDamagedError, match="both copies"):
            Bank(folder)


def test_a_trust_list_whose_copy_the_disk_refused_is_in_use_and_copied_later(bank, folder, monkeypatch):
    real = durable.write
    monkeypatch.setattr(durable, "write", lambda p, d: full() if p.suffix == ".copy" else real(p, d))
    bank.set_trust(sealed(replace(LISTED, version=2), ROOT))
    assert bank.trust.version == 2
    bank.refresh()
    assert not (folder / "trust" / "2.copy").exists()
    monkeypatch.undo()
    bank.refresh()
    assert (folder / "trust" / "2.copy").exists()


def test_an_older_list_is_not_taken_for_a_damaged_newer_one(folder):
    with opened(folder) as bank:
        bank.set_trust(sealed(replace(LISTED, version=2), ROOT))
    for end in ("dsse", "copy"):
        (folder / "trust" / f"2.{end}").write_bytes((folder / "trust" / "1.dsse").read_bytes())
    with pytest.raises(StoreDamagedError):
        Bank(folder)


def test_checking_finds_all_damage_at_once(bank, folder):
    ids = [bank.add(LEAVES), bank.add(FLOWERS), bank.revoke(revoke(ADA, "0" * 64))]
    assert bank.check() == ()
    sha = next(iter(module.split(FLOWERS)[1]))
    flip(folder / "blobs" / sha[:2] / sha, 4)
    flip(folder / "revocations" / f"{ids[2]}.dsse", 4)
    assert bank.check() == tuple(sorted(ids[1:]))


def test_every_flipped_bit_is_noticed_before_use_and_repaired_from_a_peer(tmp_path):
    # The short version of benchmarks/bank_rot.py.
    kinds = set()
    for kind, kept in bank_rot.trials(tmp_path, 44, seed=1):
        kinds.add(kind)
        assert all(kept.values()), (kind, kept)
    assert kinds == {"modules", "blobs", "revocations", "trust"}


# The disk


def full(*_):
    raise StoreFullError("cannot write: No space left on device")


def test_where_the_disk_refuses_nothing_was_changed(bank, folder, monkeypatch):
    bank.add(FLOWERS)
    before, digest = files_of(folder), bank.digest()
    real, calls = durable.write, []
    for n in range(3):
        calls.clear()

        def failing(path, data, n=n):
            calls.append(path)
            return full() if len(calls) > n else real(path, data)

        monkeypatch.setattr(durable, "write", failing)
        with pytest.raises(StoreFullError):
            bank.add(LEAVES)
        assert (files_of(folder), bank.digest()) == (before, digest)
        calls.clear()
        assert bank.commit(*parts()).code == Code.DISK_FULL
        assert (files_of(folder), bank.digest()) == (before, digest)
    monkeypatch.undo()
    assert bank.add(LEAVES) in bank.ids()


def test_where_repairing_fails_what_is_known_stays_known(bank, folder, monkeypatch):
    id_ = bank.add(LEAVES)
    sha = next(iter(parts()[1]))
    flip(folder / "blobs" / sha[:2] / sha, 4)
    bank.blob(sha)
    monkeypatch.setattr(durable, "write", full)
    with pytest.raises(StoreFullError):
        bank.add(LEAVES)
    assert (folder / "modules" / f"{id_}.dsse").exists()


def test_what_another_module_needs_stays_where_the_disk_refuses(bank, folder, monkeypatch):
    bank.add(LEAVES)
    sha = next(iter(parts()[1]))
    flip(folder / "blobs" / sha[:2] / sha, 4)
    real = durable.write
    monkeypatch.setattr(durable, "write", lambda p, d: full() if "modules" in str(p) else real(p, d))
    with pytest.raises(StoreFullError):
        bank.add(LEAVES_2)  # of the same blobs, whose damage it mends
    assert bank.blob(sha) == parts()[1][sha]


def test_where_the_disk_refuses_after_the_rename_the_module_is_whole_or_gone(bank, folder, monkeypatch):
    real = durable.sync_folder

    def failing(path):
        if path.name == "modules":
            raise OSError(5, "Input/output error")
        real(path)

    monkeypatch.setattr(durable, "sync_folder", failing)
    (folder / "modules").mkdir(exist_ok=True)
    with pytest.raises(StoreFullError):
        bank.add(LEAVES)
    assert files_of(folder, "modules", "blobs") == set()
    monkeypatch.setattr(bank_files.BankFiles, "remove", lambda *_: False)  # this disk refuses that as well
    with pytest.raises(StoreFullError):
        bank.add(LEAVES)
    monkeypatch.undo()
    bank.refresh()
    (stored,) = bank.modules()
    assert bank.file(stored.id) == LEAVES


def test_peers_may_not_use_up_the_reserve_but_the_owner_may(bank, monkeypatch):
    usage = bank_files.shutil.disk_usage(bank.folder)
    room = len(parts()[0]) + sum(map(len, parts()[1].values()))
    for total, reserve in ((2**40, bank_files.RESERVE), (100_000, 5_000)):
        for spare, expected in ((room, True), (room - 1, False)):
            monkeypatch.setattr(
                bank_files.shutil,
                "disk_usage",
                lambda _, t=total, f=reserve + spare: usage._replace(total=t, free=f),
            )
            assert bank._files.has_room(room) is expected
    assert bank.commit(*parts()).code == Code.DISK_FULL
    assert bank.ids() == frozenset()
    assert bank.add(LEAVES) in bank.ids()


def test_what_a_killed_writer_left_is_swept_away(folder):
    with opened(folder) as bank:
        id_ = bank.add(LEAVES)
    (folder / "modules" / f"{durable.TEMPORARY}1").write_bytes(b"half")
    (folder / "blobs" / "ab").mkdir(exist_ok=True)
    (folder / "blobs" / "ab" / ("ab" * 32)).write_bytes(b"an orphan")
    (folder / "blobs" / "ab" / f"{durable.TEMPORARY}2").write_bytes(b"half")
    (folder / f"{durable.TEMPORARY}3").write_bytes(b"half")
    before = files_of(folder)
    with Bank(folder, write=False):
        assert files_of(folder) == before
    with Bank(folder) as bank:
        assert bank.ids() == {id_}
        assert len(files_of(folder)) == len(before) - 4
        assert bank.file(id_) == LEAVES


# One writer, many readers


def test_there_is_one_writer_at_a_time_and_any_thread_may_close_it(folder):
    bank = opened(folder)
    with pytest.raises(StoreLockedError, match="another process"):
        Bank(folder)
    thread = threading.Thread(target=bank.close)
    assert bank.is_writable
    thread.start()
    thread.join()
    assert not bank.is_writable
    bank.close()
    with Bank(folder) as again:
        seen = []
        thread = threading.Thread(target=lambda: seen.append(again.is_writable))
        thread.start()
        thread.join()
        assert seen == [True]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot"):
        Bank(tmp_path / "file" / "bank")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="cannot"):
        Bank(tmp_path / "bank")


def test_a_reader_changes_nothing_and_says_so(folder):
    with opened(folder) as bank:
        id_ = bank.add(LEAVES)
    with Bank(folder, write=False) as bank:
        assert not bank.is_writable
        calls = {
            bank.add: (LEAVES_2,),
            bank.commit: parts(),
            bank.revoke: (revoke(ADA, id_),),
            bank.set_trust: (sealed(LISTED, ROOT),),
            bank.hold: (id_, "why"),
            bank.release: (id_,),
        }
        for call, arguments in calls.items():
            with pytest.raises(StoreLockedError, match="write=True"):
                call(*arguments)
        assert bank.module(id_).id == id_


def test_a_reader_of_nothing_finds_nothing(tmp_path):
    with Bank(tmp_path / "none", write=False) as bank:
        assert (bank.ids(), bank.modules(), bank.trust, bank.held_back()) == (frozenset(), (), None, {})
    assert not (tmp_path / "none").exists()


def test_a_reader_sees_what_a_writer_did_when_it_looks_again(folder):
    with opened(folder) as writer, Bank(folder, write=False) as reader:
        id_ = writer.add(LEAVES)
        assert reader.ids() == frozenset()
        reader.refresh()
        assert reader.file(id_) == LEAVES
        writer.revoke(revoke(ADA, id_))
        reader._last_blob = ("", b"")
        with pytest.raises(StoreMissingError, match="revoked"):
            reader.module(id_)
        other = writer.add(FLOWERS)
        reader.refresh()
        writer.revoke(revoke_as_root([ROOT], modules=[other]))
        assert reader.envelope(other) is None
        reader.refresh()
        assert reader.ids() == writer.ids()


def test_a_reader_says_when_what_it_reads_is_damaged(folder):
    with opened(folder) as bank:
        id_ = bank.add(LEAVES)
    sha = next(iter(parts()[1]))
    flip(folder / "blobs" / sha[:2] / sha, 4)
    with Bank(folder, write=False) as bank:
        with pytest.raises(StoreDamagedError):
            bank.module(id_)
        assert (folder / "blobs" / sha[:2] / sha).exists()


def test_a_quota_that_shrank_shows_to_a_reader_too(folder):
    with opened(folder) as bank:
        bank.add(LEAVES)
        newest = bank.add(packed(task="t", seq=5))
        (folder / "trust" / "2.dsse").write_bytes(sealed(listed(modules=1), ROOT))
        with Bank(folder, write=False) as reader:
            assert reader.ids() == {newest}
            assert len(files_of(folder, "modules")) == 2


def test_an_envelope_that_vanishes_while_the_folder_is_read_is_not_there(folder, monkeypatch):
    with opened(folder) as bank:
        bank.add(LEAVES)
    monkeypatch.setattr(bank_files.BankFiles, "read", lambda *_: None)
    with Bank(folder, write=False) as bank:
        assert bank.ids() == frozenset()


# What cannot be read for a moment


def refusing(monkeypatch, number, *parts):
    """Opening a file or folder with one of these in its path fails with this error."""
    error = OSError(number, os.strerror(number))
    real_open, real_list = pathlib.Path.open, pathlib.Path.iterdir

    def refuse(path):
        if any(part in str(path) for part in parts):
            raise error

    def failing_open(path, mode="r", *rest, **more):
        if "r" in mode:
            refuse(path)
        return real_open(path, mode, *rest, **more)

    def failing_list(path):
        refuse(path)
        return real_list(path)

    monkeypatch.setattr(pathlib.Path, "open", failing_open)
    monkeypatch.setattr(pathlib.Path, "iterdir", failing_list)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_an_envelope_that_cannot_be_read_while_opening_costs_nothing(folder, monkeypatch, number):
    with opened(folder) as bank:
        id_, other = bank.add(LEAVES), bank.add(FLOWERS)
    before = files_of(folder)
    refusing(monkeypatch, number, id_)
    with Bank(folder) as bank:
        assert bank.ids() == {other}
        assert files_of(folder) == before
        assert bank.commit(*parts()) == id_  # a peer gives it again
    monkeypatch.undo()
    assert files_of(folder) == before
    with Bank(folder) as bank:
        assert bank.file(id_) == LEAVES


@pytest.mark.parametrize("place", ["bank/modules", "bank/trust", "bank/revocations"])
def test_a_folder_that_cannot_be_listed_is_an_error_and_not_an_empty_bank(folder, monkeypatch, place):
    with opened(folder) as bank:
        id_ = bank.add(LEAVES)
        before = files_of(folder)
        refusing(monkeypatch, errno.EIO, place)
        with pytest.raises(StoreError, match="cannot read"):
            bank.refresh()
        assert bank.ids() == {id_}
    with pytest.raises(StoreError):
        Bank(folder)
    monkeypatch.undo()
    assert files_of(folder) == before
    with Bank(folder) as bank:
        assert bank.file(id_) == LEAVES


def test_blobs_that_cannot_be_listed_are_missing_until_they_can(folder, monkeypatch):
    with opened(folder) as bank:
        id_ = bank.add(LEAVES)
    before = files_of(folder)
    refusing(monkeypatch, errno.EIO, "bank/blobs")
    with Bank(folder) as bank:
        assert bank.ids() == frozenset()
    monkeypatch.undo()
    assert files_of(folder) == before
    with Bank(folder) as bank:
        assert bank.file(id_) == LEAVES


def test_without_descriptors_nothing_is_lost_and_with_a_bad_disk_it_is_fetched_again(
    bank, folder, monkeypatch
):
    id_ = bank.add(LEAVES)
    before = files_of(folder)
    refusing(monkeypatch, errno.EMFILE, "bank/blobs", "bank/modules")
    assert bank.envelope(id_) is None
    with pytest.raises(StoreError, match="try again"):
        bank.module(id_)
    with pytest.raises(StoreError, match="try again"):
        bank.file(id_)
    assert bank.ids() == {id_}
    monkeypatch.undo()
    refusing(monkeypatch, errno.EMFILE, "bank/modules")
    with pytest.raises(StoreError, match="try again"):
        bank.file(id_)
    monkeypatch.undo()
    assert bank.file(id_) == LEAVES
    bank._last_blob = ("", b"")
    refusing(monkeypatch, errno.EIO, "bank/blobs")
    with pytest.raises(StoreDamagedError, match="fetched again"):
        bank.module(id_)
    monkeypatch.undo()
    assert (bank.ids(), files_of(folder)) == (frozenset(), before)
    assert bank.commit(*parts()) == id_
    assert bank.ids() == {id_}
    refusing(monkeypatch, errno.EIO, "bank/modules")
    assert bank.envelope(id_) is None
    assert "cannot be read" in bank.damaged()[id_]


def test_threads_may_add_and_read_at_once(bank):
    files = [packed(task=f"t{i}", seed=i) for i in range(12)]
    errors = []

    def work(part):
        try:
            for data in part:
                id_ = bank.add(data)
                assert bank.file(id_) == data
                bank.digest()
                bank.modules()
        except Exception as error:  # noqa: BLE001 - shown below, in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(files[i::3],)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(bank.modules()) == 12


def test_what_is_not_held_is_not_given(bank, folder):
    id_ = bank.add(LEAVES)
    assert bank.envelope("0" * 64) is None
    assert bank.blob("0" * 64) is None
    assert bank.envelope("../../" + id_) is None
    with pytest.raises(StoreMissingError, match="never there"):
        bank.module("0" * 64)
    sha = next(iter(parts()[1]))
    assert bank.blob(sha) == bank.blob(sha) == parts()[1][sha]
