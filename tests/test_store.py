import json
import subprocess
import sys
from itertools import islice

import pytest
import torch
from tests.learner_contract import assert_same_state, toy_task

from stolon import durable, nets, records
from stolon.errors import (
    BackboneMismatchError,
    SettingError,
    StoreDamagedError,
    StoreExistsError,
    StoreFullError,
    StoreLockedError,
    StoreMissingError,
    StoreVersionError,
    TaskExistsError,
    TaskUnknownError,
)
from stolon.light.config import LightweightConfig
from stolon.nets.backbone import pretrained
from stolon.places import home
from stolon.store import Store

SPEC = "digits-conv?shape=1x8x8"
CONFIG = LightweightConfig(epochs=25, batch_size=8, learning_rate=1e-2)


def backbone(seed=0):
    return pretrained(SPEC, nets.make("digits-conv", input_shape=(1, 8, 8), seed=seed).state_dict())


@pytest.fixture
def folder(tmp_path):
    with Store.create(tmp_path / "store", backbone(), CONFIG) as store:
        list(store.learn(toy_task("first", 1)))
    return tmp_path / "store"


def content(folder):
    return {
        p.relative_to(folder): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "LOCK"
    }


def test_what_was_learned_is_there_when_it_is_opened_again(folder):
    with Store.open(folder) as store:
        assert store.learner.tasks == ("first",)
        x, y = toy_task("first", 1).test.batch(torch.arange(24))
        assert (store.learner.logits(x, "first").argmax(1) == y).float().mean() > 0.8


def test_learning_goes_on_after_a_stop_and_ends_with_the_same_bits(tmp_path):
    with Store.create(tmp_path / "whole", backbone(), CONFIG) as store:
        list(store.learn(toy_task("first", 1)))
        whole = store.learner
    with Store.create(tmp_path / "cut", backbone(), CONFIG) as store:
        list(islice(store.learn(toy_task("first", 1)), 4))
        store.save()
    with Store.open(tmp_path / "cut", write=True) as store:
        assert store.learner.unfinished == "first"
        list(store.learn(toy_task("first", 1)))
        assert_same_state(whole, store.learner)


def test_settings_of_later_tasks_may_differ(folder):
    with Store.open(folder, write=True, biases="all", bias_epochs=2) as store:
        list(store.learn(toy_task("second", 2)))
    with Store.open(folder) as store:
        assert store.learner.tasks == ("first", "second")


def test_facts_are_kept_with_the_tasks(folder):
    with Store.open(folder, write=True) as store:
        store.facts["first"] = {"test_accuracy": 0.5}
        store.save()
    with Store.open(folder, write=True) as store:
        assert store.facts == {"first": {"test_accuracy": 0.5}}
        store.forget("first")
    with Store.open(folder) as store:
        assert store.facts == {}
        assert store.learner.tasks == ()


def test_a_second_writer_is_refused_and_a_reader_is_not(folder):
    before = content(folder)
    with Store.open(folder, write=True):
        code = (
            "import sys; from pathlib import Path; from stolon.store import Store\n"
            "from stolon.errors import StoreLockedError\n"
            "try: Store.open(Path(sys.argv[1]), write=True)\n"
            "except StoreLockedError as error: print(error)\n"
        )
        out = subprocess.run(
            [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
        )
        assert "another process is writing" in out.stdout
        with Store.open(folder) as reader:
            assert reader.learner.tasks == ("first",)
    assert content(folder) == before
    with Store.open(folder, write=True):
        pass


def test_a_store_opened_for_reading_cannot_be_changed(folder):
    before = content(folder)
    with Store.open(folder) as store:
        with pytest.raises(StoreLockedError, match="opened for reading"):
            store.forget("first")
        with pytest.raises(StoreLockedError, match="opened for reading"):
            list(store.learn(toy_task("second", 2)))
    assert content(folder) == before


def test_an_unknown_setting_is_refused(folder):
    with pytest.raises(SettingError, match="unknown setting 'speed'"):
        Store.open(folder, speed=3)


def test_a_damaged_file_is_written_anew_while_the_good_bytes_are_at_hand(folder):
    with Store.open(folder, write=True) as store:
        blob = max((folder / "knowledge" / "tensors").iterdir(), key=lambda p: p.stat().st_size)
        data = bytearray(blob.read_bytes())
        data[-1] ^= 1
        blob.write_bytes(bytes(data))
        store.save()
    with Store.open(folder) as store:
        assert store.learner.tasks == ("first",)


def test_a_refused_opening_lets_go_of_the_lock(folder):
    with pytest.raises(BackboneMismatchError):
        Store.open(folder, write=True, backbone=backbone(seed=5))
    with Store.open(folder, write=True):
        pass


@pytest.mark.parametrize("refuse", ["missing", "exists", "other backbone", "other backbone again"])
def test_refusals_name_the_remedy_and_change_nothing(folder, refuse, tmp_path):
    before = content(folder)
    if refuse == "missing":
        with pytest.raises(StoreMissingError, match="stolon init"):
            Store.open(tmp_path / "nowhere")
    if refuse == "exists":
        with pytest.raises(StoreExistsError, match="store already"):
            Store.create(folder, backbone())
    if refuse == "other backbone":
        with pytest.raises(BackboneMismatchError, match="another folder"):
            Store.create(folder, backbone(seed=5))
    if refuse == "other backbone again":
        with pytest.raises(BackboneMismatchError, match="it was made with"):
            Store.open(folder, backbone=backbone(seed=5))
    assert content(folder) == before


def test_a_known_or_unknown_task_is_refused_and_changes_nothing(folder):
    before = content(folder)
    with Store.open(folder, write=True) as store:
        with pytest.raises(TaskExistsError):
            store.learn(toy_task("first", 2))
        with pytest.raises(TaskUnknownError):
            store.forget("nothing")
    assert content(folder) == before


@pytest.mark.parametrize("part", ["backbone", "knowledge"])
def test_a_damaged_or_newer_part_is_refused_by_name(folder, part):
    record = folder / part / records.RECORD
    good = record.read_bytes()
    body = json.loads(good)
    body["format"] = records.FORMAT + 1
    record.write_text(json.dumps(body))
    with pytest.raises(StoreVersionError, match="newer"):
        Store.open(folder)
    record.write_bytes(good.replace(b'"kind"', b'"kinD"', 1))
    with pytest.raises(StoreDamagedError, match="damaged"):
        Store.open(folder)
    record.write_bytes(good)
    blob = max((folder / part / "tensors").iterdir(), key=lambda p: p.stat().st_size)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 64
    blob.write_bytes(bytes(data))
    with pytest.raises(StoreDamagedError, match="not the bytes"):
        Store.open(folder)


def test_a_full_disk_loses_nothing_and_learning_goes_on_when_there_is_room(folder, monkeypatch):
    before = content(folder)
    with Store.open(folder, write=True) as store:
        with monkeypatch.context() as patch:
            patch.setattr(
                durable.os, "fsync", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
            )
            with pytest.raises(StoreFullError, match="No space left"):
                list(store.learn(toy_task("second", 2)))
        assert content(folder) == before
        list(store.learn(toy_task("second", 2)))
    with Store.open(folder) as store:
        assert store.learner.tasks == ("first", "second")


def test_a_store_half_made_can_be_made_again(tmp_path, monkeypatch):
    """Killed between its two records: there is no backbone yet, so it is no store yet."""
    with Store.create(tmp_path, backbone(), CONFIG):
        pass
    (tmp_path / "backbone" / records.RECORD).unlink()
    with pytest.raises(StoreMissingError):
        Store.open(tmp_path)
    with Store.create(tmp_path, backbone(), CONFIG) as store:
        assert store.learner.tasks == ()


def test_home_is_named_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("STOLON_HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.delenv("STOLON_HOME")
    assert home().name == "stolon"
