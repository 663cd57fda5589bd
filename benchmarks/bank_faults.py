"""Kill whatever changes a bank before every system call, and make every call fail.

    python benchmarks/bank_faults.py

Six things change a bank: a module is added; one is added that pushes another out of its author's quota; one is
revoked; a trust list is replaced; a note is written; a bank is opened that a killed writer left. Each is done in a
process of its own under strace, which is killed (SIGKILL) before its first system call on files, before its
second, ... before its last. Then each of these calls fails instead, once, and from there on always, with ENOSPC,
EDQUOT and EIO (calls that ask for room), EMFILE (those that open), or EIO (the others).

Promise: the bank is as it was or as it was to become, whole; what was said to be done is there, after an error
that was raised nothing is half there; reading needs no repair, and opening for writing leaves no litter; the same
thing done again ends as if nothing had happened. Never another error than StoreFullError (opening may raise any
StoreError). Needs Linux and strace. `--every 3` makes every third call fail only; all are killed before. Writes
benchmarks/results/bank_faults.json.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script finds its sibling as the tests do

from benchmarks import tracing
from benchmarks.mutations import ADA, BEN, LISTED, ROOT, good, retold
from benchmarks.tracing import ASKS_FOR_ROOM, CALLS, DONE, FULL

from stolon import durable
from stolon.errors import ModuleRefusedError, StoreError, StoreFullError
from stolon.sharing.bank import Bank
from stolon.sharing.envelope import TRUST, seal
from stolon.sharing.revocation import revoke
from stolon.sharing.trust import Author, Trust

REFUSED = 7  # the exit status where opening itself raised a StoreError
OPENS = {"openat", "open", "mkdir"}


@dataclass(frozen=True)
class Call:
    """A system call of one operation: the n-th of its name."""

    name: str
    n: int


@dataclass(frozen=True)
class Ended:
    """How an operation under strace ended, and what is in the folder then.

    Attributes:
        status: of the process; the negative number of the signal that killed it.
        state: what a reader finds: ``old``, ``new``, or what else.
        settled: what is found after opening for writing: the same again.
        again: what is found when the operation was done once more.
        litter: files that nobody needs, after opening for writing.
    """

    status: int
    state: str
    settled: str
    again: str
    litter: int


@dataclass(frozen=True)
class Operation:
    """Something that changes a bank.

    Attributes:
        name: what it is called.
        prepare: makes the bank as it is before, in an empty folder.
        do: the change; given an open bank, or the folder where opening is the change.
        opens: whether opening is the change.
    """

    name: str
    prepare: Callable[[Path], None]
    do: Callable[[Bank], object]
    opens: bool = False


def trusted(**quota: int) -> bytes:
    authors = (Author(ADA.public, "Ada", **quota), Author(BEN.public, "Ben"))
    return seal(TRUST, replace(LISTED, authors=authors).to_payload(), ROOT)


def _bank(folder: Path, *files: bytes, **quota: int) -> None:
    with Bank(folder) as bank:
        bank.set_trust(trusted(**quota))
        for file in files:
            bank.add(file)


LEAVES, FLOWERS = good().file, good("mahalanobis", key=BEN, seed=1).file
NEWER = retold(good("gmm", seed=2), "newer")


def _left_by_a_killed_writer(folder: Path) -> None:
    """A module, half of another, a damaged one, a trust list with one copy."""
    _bank(folder, LEAVES, FLOWERS)
    (folder / "modules" / f"{durable.TEMPORARY}1").write_bytes(b"half")
    orphan = folder / "blobs" / "00" / ("0" * 64)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"nobody needs this")
    (folder / "trust" / "1.copy").write_bytes(b"half")


def _dealt(bank: Bank) -> str:
    """The id of the module that Ada taught."""
    return next(one.id for one in bank.modules() if one.manifest.author == ADA.public)


OPERATIONS = (
    Operation("add a module", lambda f: _bank(f, FLOWERS), lambda bank: bank.add(LEAVES)),
    Operation(
        "add one over quota", lambda f: _bank(f, LEAVES, FLOWERS, modules=1), lambda bank: bank.add(newer())
    ),
    Operation(
        "revoke a module",
        lambda f: _bank(f, LEAVES, FLOWERS),
        lambda bank: bank.revoke(revoke(ADA, ADAS_ID)),
    ),
    Operation(
        "replace the trust list",
        lambda f: _bank(f, LEAVES, FLOWERS),
        lambda bank: bank.set_trust(without_ben()),
    ),
    Operation("note a reason", lambda f: _bank(f, LEAVES), lambda bank: bank.hold(ADAS_ID, "overlaps")),
    Operation("open after a kill", _left_by_a_killed_writer, lambda _: None, opens=True),
)


def _id_of(file: bytes) -> str:
    from stolon.sharing import module

    return module.unpack(file, LISTED).id


ADAS_ID = _id_of(LEAVES)


def newer() -> bytes:
    """A module of Ada's that ranks above LEAVES whatever their ids."""
    from benchmarks.mutations import signed

    start = good("gmm", seed=2)
    return signed({**start.document, "task": "newer", "seq": 2}, start.blobs)


def without_ben() -> bytes:
    trust = Trust(2, LISTED.roots, 1, LISTED.authors[:1], revoked_keys=frozenset({BEN.public}))
    return seal(TRUST, trust.to_payload(), ROOT)


class Bench:
    """One operation, ready to be done again and again.

    Args:
        root: an empty folder to work in.
        operation: what is done.
    """

    def __init__(self, root: Path, operation: Operation) -> None:
        self.operation, self._root, self._old = operation, root, root / "old"
        operation.prepare(self._old)
        shutil.copytree(self._old, root / "new")
        self._done(root / "new")
        self.states = {self._state(root / "new"): "new"}
        self.states[self._state(self._old)] = "new" if operation.opens else "old"
        assert operation.opens or len(self.states) == 2, operation.name

    def calls(self) -> list[Call]:
        """The system calls on files of the operation, in order, by a trace of it."""
        log = self._root / "trace"
        ended = self._run(f"trace={CALLS}", log)
        assert (ended.status, ended.state, ended.litter) == (DONE, "new", 0), ended
        return [Call(name, n) for name, n, _ in tracing.calls(log)]

    def kill_at(self, call: Call) -> Ended:
        """Do it, and be killed before this call."""
        return self._run(tracing.killing(call.name, call.n))

    def fail_at(self, call: Call, error: str, *, always: bool) -> Ended:
        """Do it, while this call (and all later ones of its name, where it is ``always``) fails."""
        return self._run(tracing.failing(call.name, call.n, error, always=always))

    def _run(self, expression: str, log: Path | None = None) -> Ended:
        folder = self._root / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._old, folder)

        def prepared() -> Callable[[], int]:
            bank = None if self.operation.opens else Bank(folder)
            return lambda: done(bank)

        def done(bank: Bank | None) -> int:
            try:
                self.operation.do(bank or Bank(folder))
            except StoreFullError:
                return FULL
            except StoreError:
                return REFUSED
            return DONE

        return self._looked_at(folder, tracing.traced(prepared, expression, log))

    def _looked_at(self, folder: Path, status: int) -> Ended:
        state = self._state(folder)
        with Bank(folder) as bank:
            damaged = bank.check()
        settled = "damaged" if damaged else self._state(folder)
        litter = self._litter(folder)
        self._done(folder)
        words = [self.states.get(one, one) for one in (state, settled, self._state(folder))]
        return Ended(status, *words, litter)

    def _done(self, folder: Path) -> None:
        with Bank(folder) as bank:
            try:
                self.operation.do(bank)
            except ModuleRefusedError as error:
                if error.code != "old-trust":  # it is in place already
                    raise

    @staticmethod
    def _state(folder: Path) -> str:
        """What a reader finds, as one text."""
        try:
            with Bank(folder, write=False) as bank:
                version = None if bank.trust is None else bank.trust.version
                files = {one.id: hash(bank.file(one.id)) for one in bank.modules()}
                return repr((sorted(bank.ids()), files, version, bank.held_back(), bank.damaged()))
        except StoreError as error:
            return f"{type(error).__name__}: {error}"

    @staticmethod
    def _litter(folder: Path) -> int:
        """Unfinished files, and blobs that no module names."""
        with Bank(folder, write=False) as bank:
            named = {file.sha256 for one in bank.modules() for file in one.manifest.files}
        files = [path for path in folder.rglob("*") if path.is_file()]
        unfinished = sum(path.name.startswith(durable.TEMPORARY) for path in files)
        return unfinished + sum(
            path.parent.parent.name == "blobs" and path.name not in named for path in files
        )


def kills(bench: Bench, calls: Iterable[Call]) -> dict:
    """Kill the operation before each of these calls."""
    row = _Row(bench.operation, "SIGKILL before a system call")
    for call in calls:
        ended = bench.kill_at(call)
        row.add(call, ended, is_kept=ended.status == -signal.SIGKILL and _is_whole(ended))
    return row.told()


def errors(bench: Bench, calls: Iterable[Call], *, always: bool) -> list[dict]:
    """Make each of these calls fail in each way that fits it."""
    when = "from there on always" if always else "once"
    rows = {
        error: _Row(bench.operation, f"{error} at a system call, {when}")
        for error in ("ENOSPC", "EDQUOT", "EIO", "EMFILE")
    }
    statuses = {DONE, FULL, REFUSED} if bench.operation.opens else {DONE, FULL}
    for call in calls:
        for error, row in rows.items():
            fits = call.name in (OPENS if error == "EMFILE" else ASKS_FOR_ROOM) or error == "EIO"
            if not fits:
                continue
            ended = bench.fail_at(call, error, always=always)
            honest = ended.status != DONE or ended.state == "new"
            row.add(call, ended, is_kept=ended.status in statuses and honest and _is_whole(ended))
    return [row.told() for row in rows.values() if row.trials]


def _is_whole(ended: Ended) -> bool:
    return (
        ended.state in ("old", "new")
        and ended.settled == ended.state
        and ended.again == "new"
        and ended.litter == 0
    )


class _Row:
    def __init__(self, operation: Operation, fault: str) -> None:
        self.operation, self.fault = operation.name, fault
        self.trials, self.failures = 0, 0
        self._found: Counter[str] = Counter()
        self._examples: list[str] = []

    def add(self, call: Call, ended: Ended, *, is_kept: bool) -> None:
        """Count one trial."""
        self.trials += 1
        self.failures += not is_kept
        words = {DONE: "finished", FULL: "StoreFullError", REFUSED: "StoreError", -signal.SIGKILL: "killed"}
        self._found[f"{words.get(ended.status, 'other error')}, {ended.state} bank"[:80]] += 1
        if not is_kept and len(self._examples) < 5:
            self._examples.append(f"{call}: {ended}"[:600])

    def told(self) -> dict:
        """For the results file."""
        told = {"operation": self.operation, "fault": self.fault, "trials": self.trials}
        told |= {"failures": self.failures, "found": dict(self._found)}
        if self._examples:
            told["examples"] = self._examples
        print(json.dumps(told), flush=True)
        return told


def main() -> None:
    from benchmarks.results import write

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1, help="make every so-manieth call fail")
    options = parser.parse_args()
    if tracing.missing():
        raise SystemExit(tracing.missing())
    rows, counts, begun = [], {}, time.monotonic()
    for operation in OPERATIONS:
        with tempfile.TemporaryDirectory(prefix="stolon-bank-faults-") as root:
            bench = Bench(Path(root), operation)
            calls = bench.calls()
            counts[operation.name] = len(calls)
            rows.append(kills(bench, calls))
            for always in (False, True):
                rows += errors(bench, calls[always :: options.every], always=always)
    found = {
        "seconds": round(time.monotonic() - begun),
        "system_calls": counts,
        "every": options.every,
        "trials": sum(row["trials"] for row in rows),
        "failures": sum(row["failures"] for row in rows),
    }
    print(found)
    write("bank_faults", {**found, "rows": rows})
    if found["failures"]:
        raise SystemExit(f"{found['failures']} promise(s) broken")


if __name__ == "__main__":
    main()
