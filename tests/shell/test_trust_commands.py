"""``stolon trust show | key | add | revoke`` as a person meets them."""

import json
import os
import stat

import pytest
from benchmarks.forged import make_module
from tests.shell.making import content

from stolon import records
from stolon.errors import (
    KeyFileError,
    ModuleRefusedError,
    SettingError,
    StoreLockedError,
    StoreMissingError,
)
from stolon.records import Record
from stolon.sharing.bank import Bank
from stolon.sharing.codes import Refused
from stolon.sharing.envelope import TRUST, seal
from stolon.sharing.keys import Key, fingerprint
from stolon.sharing.revocation import accept_revocation
from stolon.sharing.trust import Author, Trust
from stolon.shell import trust_commands
from stolon.shell.remote import ADDRESS

ADA, BEN = Key(b"\x02" * 32), Key(b"\x03" * 32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """As much of a store as trust needs: no backbone is ever opened for it."""
    path = tmp_path / "store"
    records.save(Record("backbone", {"name": "toy", "fingerprint": "b0" * 32}), path / "backbone")
    monkeypatch.setenv("STOLON_HOME", str(path))
    monkeypatch.setenv("COLUMNS", "200")
    return path


@pytest.fixture
def own(folder):
    key = Key(b"\x01" * 32)
    key.write(folder / "key")
    return key


@pytest.fixture
def bank(folder, own):
    """The bank of an agent that trusts Ada, with a module of its own and one of hers."""
    with Bank(folder / "bank") as bank:
        bank.set_trust(seal(TRUST, Trust.fresh(own.public).to_payload(), own))
        trust_commands.change(bank, own, {"add": ADA.public, "name": "Ada"})
        bank.add(make_module(own, seed=1))
        bank.add(make_module(ADA, seed=2))
        yield bank


def shown(capsys):
    capsys.readouterr()
    assert trust_commands.show(store=None, json=True) == 0
    return json.loads(capsys.readouterr().out)


def module_of(bank, key):
    (found,) = (stored.id for stored in bank.modules() if stored.manifest.author == key.public)
    return found


# What is printed


def test_a_fresh_store_trusts_only_itself(folder, own, capsys):
    assert shown(capsys) == {
        "key": own.public,
        "fingerprint": fingerprint(own.public),
        "version": 1,
        "roots": [own.public],
        "threshold": 1,
        "authors": [
            {
                "key": own.public,
                "name": "me",
                "fingerprint": fingerprint(own.public),
                "activate": True,
                "modules": 2000,
                "bytes": 2**30,
            }
        ],
        "revoked": {"keys": [], "modules": []},
    }


def test_adding_says_the_fingerprint_and_it_stays_added(folder, own, capsys):
    assert trust_commands.add(store=str(folder), key=f" {ADA.public.upper()}\n", name="Ada") == 0
    assert f"takes modules from Ada, fingerprint {fingerprint(ADA.public)}" in capsys.readouterr().out
    document = shown(capsys)
    assert document["version"] == 2
    assert [(author["name"], author["key"]) for author in document["authors"]] == [
        ("me", own.public),
        ("Ada", ADA.public),
    ]


def test_the_table_shows_names_fingerprints_and_what_was_revoked(folder, own, capsys):
    trust_commands.add(store=None, key=ADA.public, name="Ada (3rd floor)")
    trust_commands.add(store=None, key=BEN.public, name="Ben")
    trust_commands.revoke(store=None, what=BEN.public)
    capsys.readouterr()
    assert trust_commands.show(store=None, json=False) == 0
    out = capsys.readouterr().out
    for words in (
        "me (this agent)",
        fingerprint(own.public),
        "Ada (3rd floor)",
        fingerprint(ADA.public),
        "up to 2,000",
    ):
        assert words in out
    assert f"revoked key: {BEN.public}" in out
    assert "Ben" not in out


def test_the_own_key_is_printed_with_what_others_type(folder, own, capsys):
    assert trust_commands.key(store=None) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == own.public
    assert f"fingerprint {fingerprint(own.public)}" in out
    assert f"stolon trust add {own.public} --name NAME" in out


@pytest.mark.parametrize("command", ["show", "key"])
def test_a_store_from_before_there_were_agents_gets_a_key(folder, capsys, command):
    options = {"json": True} if command == "show" else {}
    assert getattr(trust_commands, command)(store=None, **options) == 0
    own = Key.read(folder / "key")
    assert own.public in capsys.readouterr().out
    assert stat.S_IMODE((folder / "key").stat().st_mode) == 0o600
    assert shown(capsys)["key"] == own.public


def test_showing_changes_nothing(folder, bank, capsys):
    bank.close()
    before = content(folder)
    shown(capsys)
    trust_commands.show(store=None, json=False)
    trust_commands.key(store=None)
    assert content(folder) == before


# What is done


def test_revoking_a_key_takes_its_modules_out_of_use(folder, bank, own, capsys):
    bank.close()
    assert trust_commands.revoke(store=None, what=fingerprint(ADA.public)) == 0
    assert f"revoked the key {fingerprint(ADA.public)}" in capsys.readouterr().out
    assert shown(capsys)["revoked"]["keys"] == [ADA.public]
    with Bank(folder / "bank") as again:
        assert [stored.manifest.author for stored in again.modules()] == [own.public]
        with pytest.raises(ModuleRefusedError, match="revoked-key"):
            again.add(make_module(ADA, seed=3))


def test_a_revoked_key_is_not_added_again(folder, bank, own):
    trust_commands.change(bank, own, {"revoke": ADA.public})
    with pytest.raises(ModuleRefusedError, match=r"revoked-key: .* ask Ada for a new one"):
        trust_commands.change(bank, own, {"add": ADA.public, "name": "Ada"})


def test_an_own_module_is_taken_back_everywhere(bank, own):
    id_ = module_of(bank, own)
    said = trust_commands.change(bank, own, {"revoke": id_})
    assert said == f"took back task 1 ({id_[:12]}); every agent that hears of it drops it"
    assert bank.trust.revoked_modules == frozenset()
    assert [stored.manifest.author for stored in bank.modules()] == [ADA.public]
    heard = [accept_revocation(bank.envelope(one), bank.trust) for one in bank.ids()]
    assert [word.modules for word in heard if not isinstance(word, Refused)] == [{id_}]


def test_anothers_module_is_revoked_here_alone(bank, own):
    id_ = module_of(bank, ADA)
    ids = bank.ids()
    said = trust_commands.change(bank, own, {"revoke": id_[:10].upper()})
    assert said == f"revoked task 2 ({id_[:12]}) by {fingerprint(ADA.public)}; this agent does without it"
    assert bank.trust.revoked_modules == {id_}
    assert bank.ids() == ids - {id_}, "nothing is passed on: no peer that trusts others would take it"


def test_a_revocation_is_not_revoked(bank, own):
    before = bank.ids()
    trust_commands.change(bank, own, {"revoke": module_of(bank, own)})
    (id_,) = bank.ids() - before
    with pytest.raises(SettingError, match="is itself a revocation, and lasts"):
        trust_commands.change(bank, own, {"revoke": id_})


def test_revoking_again_changes_nothing(bank, own):
    trust_commands.change(bank, own, {"revoke": ADA.public})
    version = bank.trust.version
    assert (
        trust_commands.change(bank, own, {"revoke": ADA.public}) == f"{ADA.public[:12]} was revoked already"
    )
    assert bank.trust.version == version


def test_adding_again_changes_the_name_and_keeps_the_quota(bank, own):
    bank.set_trust(seal(TRUST, bank.trust.adding(Author(ADA.public, "Ada", bytes=5000)).to_payload(), own))
    trust_commands.change(bank, own, {"add": ADA.public, "name": "Ada L."})
    assert bank.trust.author(ADA.public) == Author(ADA.public, "Ada L.", bytes=5000)


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"add": "12", "name": "Eve"}, ModuleRefusedError, "bad-trust: .*of the form"),
        ({"add": "00" * 32, "name": "Eve"}, ModuleRefusedError, "weak-key"),
        ({"add": BEN.public, "name": "ada"}, ModuleRefusedError, "two authors have the name 'ada'"),
        ({"add": BEN.public, "name": "<b>"}, ModuleRefusedError, "'<' is not allowed"),
        ({"revoke": "abcdef0123"}, SettingError, "expected a key of the trust list or the id of a module"),
        ({"revoke": ""}, SettingError, "at least 8 characters of it"),
        ({"revoke": ADA.public[:7]}, SettingError, "at least 8 characters of it"),
        ({"revoke": BEN.public}, SettingError, "see stolon trust show, stolon tasks"),
    ],
)
def test_a_mistake_changes_nothing_and_says_what_to_do(bank, own, asked, error, words):
    before, ids = bank.trust, bank.ids()
    with pytest.raises(error, match=words):
        trust_commands.change(bank, own, asked)
    assert bank.trust == before
    assert bank.ids() == ids


def test_no_agent_revokes_itself(bank, own):
    with pytest.raises(ModuleRefusedError, match="is a root of this list"):
        trust_commands.change(bank, own, {"revoke": own.public})


def test_an_abbreviation_of_two_is_refused(bank, own, monkeypatch):
    monkeypatch.setattr(trust_commands, "SHORTEST", 0)
    with pytest.raises(SettingError, match=r"begins \d+ keys or ids: .*; give more"):
        trust_commands.change(bank, own, {"revoke": ""})


def test_an_agent_that_is_no_root_of_its_list_does_not_change_it(folder, own):
    theirs = Trust.fresh(ADA.public, "Ada")
    with Bank(folder / "bank") as bank:
        bank.set_trust(seal(TRUST, theirs.to_payload(), ADA))
        with pytest.raises(ModuleRefusedError, match="bad-trust: not signed by 1 of the roots"):
            trust_commands.change(bank, own, {"add": BEN.public, "name": "Ben"})
        assert bank.trust == theirs


# Reaching the store


@pytest.mark.parametrize(
    "call", [lambda: trust_commands.show(store=None, json=True), lambda: trust_commands.key(store=None)]
)
def test_where_there_is_no_store_none_is_made(tmp_path, monkeypatch, call):
    monkeypatch.setenv("STOLON_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(StoreMissingError, match=r"no store at .*nowhere; make one with `stolon init`"):
        call()
    assert list(tmp_path.iterdir()) == []


def test_a_bank_that_another_process_writes_to_is_not_changed(folder, bank):
    with pytest.raises(StoreLockedError):
        trust_commands.add(store=None, key=BEN.public, name="Ben")


def test_a_damaged_key_is_named(folder):
    (folder / "key").write_text("")
    (folder / "key").chmod(0o600)
    with pytest.raises(KeyFileError, match="holds no key"):
        trust_commands.key(store=None)


class Agent:
    """Stands for the agent that runs on a store."""

    def __init__(self, trust, own):
        self.trust, self.own, self.told = trust, own, []

    def get(self, path):
        assert path == "/trust"
        return json.loads(json.dumps(trust_commands.rows(self.trust, self.own)))

    def post(self, path, body):
        self.told.append((path, body))
        return {"said": "the agent did it"}


def test_a_running_agent_is_asked_and_told(folder, own, monkeypatch, capsys):
    trust = Trust.fresh(own.public).adding(Author(ADA.public, "Ada")).revoking("12" * 32)
    there = Agent(trust, own.public)
    monkeypatch.setattr(trust_commands, "running", lambda _: there)
    assert shown(capsys) == trust_commands.rows(trust, own.public)
    trust_commands.add(store=None, key=BEN.public, name="Ben")
    assert fingerprint(BEN.public) in capsys.readouterr().out
    trust_commands.revoke(store=None, what="12-34")
    assert "the agent did it" in capsys.readouterr().out
    assert there.told == [
        ("/trust", {"add": BEN.public, "name": "Ben"}),
        ("/trust", {"revoke": "12-34"}),
    ]
    assert not (folder / "bank").exists()


def test_what_a_killed_agent_left_is_passed_over(folder, own, capsys):
    process = os.fork()
    if process == 0:
        os._exit(0)
    os.waitpid(process, 0)
    (folder / ADDRESS).write_text(json.dumps({"pid": process, "port": 1, "token": "x"}))
    trust_commands.add(store=None, key=ADA.public, name="Ada")
    assert [author["name"] for author in shown(capsys)["authors"]] == ["me", "Ada"]


def test_the_command_does_it(run, empty):
    own = run("trust", "key").out.splitlines()[0]
    assert run("trust", "add", ADA.public, "--name", "Ada").code == 0
    assert [one["key"] for one in json.loads(run("trust", "show", "--json").out)["authors"]] == [
        own,
        ADA.public,
    ]
    assert fingerprint(ADA.public) in run("trust", "show").out
    assert run("trust", "revoke", fingerprint(ADA.public)).code == 0
    ended = run("trust", "add", ADA.public, "--name", "Ada")
    assert ended.code != 0
    assert "revoked-key" in ended.err
    assert json.loads(run("trust", "show", "--json").out)["revoked"]["keys"] == [ADA.public]
