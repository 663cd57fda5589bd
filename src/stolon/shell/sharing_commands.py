"""``stolon export | import | inspect | peers``: modules in and out by hand, and who is there."""

from pathlib import Path

from rich.table import Table

from stolon import durable
from stolon.errors import DataError, DataMissingError, ModuleRefusedError
from stolon.shell import exit_codes
from stolon.shell.client import Row, connect
from stolon.shell.output import print_json
from stolon.shell.store_commands import place
from stolon.shell.terminal import console as make_console

SUFFIX = ".stolon"


def export(*, store: str | None, task: str, out: str | None, precision: str | None) -> int:
    """Write a task's module to a file."""
    with connect(place(store), write=True) as client:
        data = client.export(task, precision)
    path = Path(f"{task}{SUFFIX}" if out is None else out)
    durable.write(path, data)
    make_console().print(f"wrote {path}, {len(data):,} bytes", soft_wrap=True, markup=False, highlight=False)
    return exit_codes.OK


def import_(*, store: str | None, files: list[str]) -> int:
    """Take in module files; each is checked as if a stranger had sent it."""
    console = make_console()
    contents = [(path, _read(Path(path))) for path in files]
    with connect(place(store), write=True) as client:
        for path, data in contents:
            id_ = client.receive(data)
            row = next((row for row in client.tasks()[0] if row["id"] == id_), None)
            console.print(f"{path}: {_taken(row)}", soft_wrap=True, markup=False, highlight=False)
    return exit_codes.OK


def inspect(*, file: str, store: str | None, json: bool) -> int:
    """Say what a module file holds and whether its signature and files fit; nothing is taken in."""
    from stolon.places import home
    from stolon.sharing import inspection
    from stolon.sharing.bank import Bank
    from stolon.sharing.identity import BANK
    from stolon.sharing.trust import Trust

    trust: Trust | None = None
    if store is not None or (home() / BANK).is_dir():
        trust = Bank(place(store) / BANK, write=False).trust
    found = inspection.inspect(_read(Path(file)), trust)
    if json:
        print_json(found)
        return exit_codes.OK
    table = Table("", "", show_header=False)
    for key, value in inspection.lines(found):
        table.add_row(key, value)
    make_console().print(table)
    return exit_codes.OK


def peers(*, store: str | None, json: bool) -> int:
    """List the agents that were seen, and when each was last heard."""
    with connect(place(store), write=False) as client:
        rows = client.peers()
    if json:
        print_json(rows)
        return exit_codes.OK
    table = Table("peer", "name", "linked", "last heard", "in step", "holds", "taken from it", "ignored")
    for row in rows:
        table.add_row(
            row["fingerprint"],
            row["name"] or "not on the trust list",
            "yes" if row["linked"] else "no",
            "never" if row["heard_s"] is None else f"{row['heard_s']:.0f} s ago",
            {None: "", True: "yes", False: "no"}[row["in_step"]],
            "" if row["holds"] is None else str(row["holds"]),
            str(row["pulled"]),
            "" if row["ignored_s"] is None else f"for {row['ignored_s']:.0f} s more",
        )
    make_console().print(table if rows else "no peer was seen yet")
    return exit_codes.OK


def _taken(row: Row | None) -> str:
    if row is None:
        return "taken in; a newer version of the same task is in use"
    words = f"{row['task']}, {len(row['classes'])} classes, taught by {row['taught_by']}"
    return f"{words}: active" if row["active"] else f"{words}: held back, {row['reason']}"


def _read(path: Path) -> bytes:
    from stolon.sharing.module import MAX_FILE

    try:
        if not path.is_file():
            raise DataMissingError(f"expected a module file at {path}, found none")
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if len(data) > MAX_FILE:
        raise ModuleRefusedError("too-large", f"{path}: a module file has at most {MAX_FILE:,} bytes")
    return data
