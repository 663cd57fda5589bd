import pytest

from stolon.errors import KeyFileError, ModuleRefusedError
from stolon.sharing import identity
from stolon.sharing.bank import Bank
from stolon.sharing.keys import Key
from stolon.sharing.trust import Author, Trust


def test_a_store_gets_a_key_and_a_bank_that_trusts_it_alone_and_keeps_both(tmp_path):
    key, bank = identity.opened(tmp_path, write=True)
    with bank:
        assert bank.trust == Trust.fresh(key.public)
        identity.set_trust(bank, key, bank.trust.adding(Author(Key.generate().public, "Ada")))
    again, bank = identity.opened(tmp_path, write=True)
    with bank:
        assert again.public == key.public == Key.read(tmp_path / identity.KEY).public
        assert [author.name for author in bank.trust.authors] == ["me", "Ada"]


def test_reading_makes_nothing_and_trusts_the_key_for_the_time_being(tmp_path):
    key, bank = identity.opened(tmp_path, write=False)
    with bank:
        assert identity.trust_of(bank, key) == Trust.fresh(key.public)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_damaged_key_leaves_the_bank_to_others(tmp_path):
    (tmp_path / identity.KEY).write_text("")
    (tmp_path / identity.KEY).chmod(0o600)
    with pytest.raises(KeyFileError):
        identity.opened(tmp_path, write=True)
    with Bank(tmp_path / identity.BANK):
        pass


def test_a_list_that_the_key_is_no_root_of_is_refused(tmp_path):
    _, bank = identity.opened(tmp_path, write=True)
    with bank, pytest.raises(ModuleRefusedError):
        identity.set_trust(bank, Key.generate(), bank.trust.adding(Author(Key.generate().public, "Ada")))
