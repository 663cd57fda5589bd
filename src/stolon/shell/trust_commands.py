"""``stolon trust show | key | add | revoke``: whom this agent takes modules from.

Where an agent runs on the store it is told; otherwise the bank is opened here. Either way :func:`change`
decides and does it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.table import Column, Table

from stolon.errors import SettingError, StoreMissingError
from stolon.shell import exit_codes
from stolon.shell.output import print_json
from stolon.shell.remote import running
from stolon.shell.terminal import console as make_console

if TYPE_CHECKING:
    from stolon.sharing.bank import Bank
    from stolon.sharing.keys import Key
    from stolon.sharing.manifest import Manifest
    from stolon.sharing.trust import Trust

SHORTEST: Final = 8
"""Characters that a key or an id may be abbreviated to: those of a fingerprint."""

Row = dict[str, Any]


def show(*, store: str | None, json: bool) -> int:
    """List whom this agent takes modules from, and what was revoked; whole keys are in the JSON."""
    from stolon.sharing.identity import trust_of

    folder = _place(store)
    remote = running(folder)
    if remote is not None:
        shown = remote.get("/trust")
    else:
        with _opened(folder, write=False) as (bank, own):
            shown = rows(trust_of(bank, own), own.public)
    if json:
        print_json(shown)
        return exit_codes.OK
    table = Table("name", Column("fingerprint", no_wrap=True), "answered from", "modules", "MB")
    for author in shown["authors"]:
        table.add_row(
            f"{author['name']} (this agent)" if author["key"] == shown["key"] else author["name"],
            author["fingerprint"],
            "yes" if author["activate"] else "no",
            f"up to {author['modules']:,}",
            f"up to {author['bytes'] / 1e6:,.0f}",
        )
    console = make_console()
    console.print(table)
    for kind in ("keys", "modules"):
        for entry in shown["revoked"][kind]:
            console.print(f"revoked {kind[:-1]}: {entry}", soft_wrap=True, highlight=False)
    return exit_codes.OK


def key(*, store: str | None) -> int:
    """Print this agent's own key, for others to add."""
    folder = _place(store)
    with _opened(folder, write=False) as (_, own):
        _say(f"{own.public}\nfingerprint {_fingerprint(own.public)}; others take your modules after")
        _say(f"  stolon trust add {own.public} --name NAME")
    return exit_codes.OK


def add(*, store: str | None, key: str, name: str) -> int:
    """Take modules from another agent, or change what it is called here."""
    _carry_out(_place(store), {"add": key.strip().lower(), "name": name})
    _say(f"takes modules from {name}, fingerprint {_fingerprint(key.strip().lower())}")
    _say("ask its owner for the fingerprint there: it must be the same")
    return exit_codes.OK


def revoke(*, store: str | None, what: str) -> int:
    """Take no more from a key and use none of its modules; or do without one module."""
    _say(_carry_out(_place(store), {"revoke": what}))
    return exit_codes.OK


# What is decided and done, without printing


def rows(trust: "Trust", own: str) -> Row:
    """The trust list as JSON values.

    Args:
        trust: the list.
        own: this agent's public key.
    """
    return {
        "key": own,
        "fingerprint": _fingerprint(own),
        "version": trust.version,
        "roots": list(trust.roots),
        "threshold": trust.threshold,
        "authors": [{**vars(author), "fingerprint": _fingerprint(author.key)} for author in trust.authors],
        "revoked": {"keys": sorted(trust.revoked_keys), "modules": sorted(trust.revoked_modules)},
    }


def change(bank: "Bank", own: "Key", asked: Mapping[str, str]) -> str:
    """Carry out ``{"add": key, "name": name}`` or ``{"revoke": key or module id}``.

    An own module is taken back by a revocation, which reaches every agent. Anything else is this agent's
    own opinion, and goes into its trust list alone.

    Args:
        bank: open for writing.
        own: this agent's key.
        asked: what to do.

    Returns:
        What was done, for people.

    Raises:
        ModuleRefusedError: the change breaks a rule of trust lists, or this agent is no root of its list.
        SettingError: there is no such key or module.
        StoreFullError: the disk refused; nothing was changed.
    """
    from stolon.sharing.identity import set_trust, trust_of
    from stolon.sharing.revocation import revoke as revocation_of
    from stolon.sharing.trust import Author

    trust = trust_of(bank, own)
    if "add" in asked:
        key, name = asked["add"], asked["name"]
        old = trust.author(key) or Author(key, name)
        set_trust(bank, own, trust.adding(Author(key, name, old.activate, old.modules, old.bytes)))
        return f"takes modules from {name}, fingerprint {_fingerprint(key)}"
    keys, gone = [author.key for author in trust.authors], trust.revoked_keys | trust.revoked_modules
    what = _found(asked["revoke"], [*keys, *trust.roots, *gone, *bank.ids()])
    if what in gone:
        return f"{what[:12]} was revoked already"
    module = _module(bank, what)
    if module is None:
        set_trust(bank, own, trust.revoking(what))
        return f"revoked the key {_fingerprint(what)}; none of its modules is used any more"
    if module.author == own.public:
        bank.revoke(revocation_of(own, what))
        return f"took back {module.task} ({what[:12]}); every agent that hears of it drops it"
    set_trust(bank, own, trust.revoking(what))
    return f"revoked {module.task} ({what[:12]}) by {_fingerprint(module.author)}; this agent does without it"


def _module(bank: "Bank", id_: str) -> "Manifest | None":
    """What the module of this id says of itself; None where it is no module's.

    Raises:
        SettingError: it is a revocation's.
    """
    from stolon.sharing import manifest
    from stolon.sharing.codes import Refused
    from stolon.sharing.envelope import MODULE, Envelope, open_envelope

    data = bank.envelope(id_)
    opened = None if data is None else open_envelope(data)
    if not isinstance(opened, Envelope):
        return None
    found = manifest.parse(opened.payload) if opened.type == MODULE else None
    if found is None or isinstance(found, Refused):
        raise SettingError(f"{id_} is itself a revocation, and lasts; give a key or a module's id")
    return found


def _found(what: str, known: list[str]) -> str:
    """The one key or id that is meant."""
    wanted = what.strip().lower()
    if len(wanted) == SHORTEST + 1 and wanted[4] == "-":  # a fingerprint
        wanted = wanted.replace("-", "")
    found = {one for one in known if one.startswith(wanted)}
    if len(wanted) < SHORTEST or not found:
        raise SettingError(
            f"expected a key of the trust list or the id of a module in the bank, at least {SHORTEST} characters of "
            f"it, found {what[:80]!r}; see stolon trust show, stolon tasks"
        )
    if len(found) > 1:
        raise SettingError(f"{what!r} begins {len(found)} keys or ids: {', '.join(sorted(found))}; give more")
    return found.pop()


# Reaching the store


def _carry_out(folder: Path, asked: Mapping[str, str]) -> str:
    remote = running(folder)
    if remote is not None:
        return str(remote.post("/trust", dict(asked)).get("said", "done"))
    with _opened(folder, write=True) as (bank, own):
        return change(bank, own, asked)


@contextmanager
def _opened(folder: Path, *, write: bool) -> Iterator[tuple["Bank", "Key"]]:
    """The bank and the agent's key; a store from before there were agents gets one."""
    from stolon import records
    from stolon.sharing import identity

    if not records.exists(folder / "backbone"):
        raise StoreMissingError(f"no store at {folder}; make one with `stolon init`, or set STOLON_HOME")
    own, bank = identity.opened(folder, write=write or not (folder / identity.KEY).exists())
    with bank:
        yield bank, own


def _place(store: str | None) -> Path:
    from stolon.shell.store_commands import place

    return place(store)


def _fingerprint(key: str) -> str:
    from stolon.sharing.keys import fingerprint

    return fingerprint(key)


def _say(words: str) -> None:
    make_console().print(words, soft_wrap=True, highlight=False)
