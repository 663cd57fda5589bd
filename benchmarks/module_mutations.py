"""Give a bank 100,000 broken modules, and every reader of messages 100,000 broken messages.

    python benchmarks/module_mutations.py [--count 100000] [--seed 0]

Modules of three kinds of anchor in three precisions are broken in six ways (mutations.py): any bytes changed;
the file's frame; the envelope; and, rightly signed by a listed author, manifests, blobs and numbers that cannot be.
Each is added to a real bank that holds one good module. Envelopes, trust lists and revocations are broken byte by byte;
so are the messages of the exchange, which an engine with that bank also hears, is asked and gets as replies.

Promise: none is accepted, each refusal has a code (nothing else is raised), none takes 50 ms, the bank's digest
and files stay as they are, and memory grows by less than 50 MB. A message without a signature may be well-formed
after a change: then it must be in its one form, and changes nothing either.

Time is processor time of this thread; an input that took longer than 20 ms is tried twice more and its fastest
time counts, for other work on the machine is not ours to judge. Writes benchmarks/results/module_mutations.json.
"""

import argparse
import contextlib
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script finds its sibling as the tests do

from benchmarks import mutations
from benchmarks.mutations import ADA, BACKBONE, BEN, LISTED, ROOT, any_bytes, good

from stolon.errors import ModuleRefusedError
from stolon.sharing import module
from stolon.sharing.acceptance import accept
from stolon.sharing.bank import Bank
from stolon.sharing.codes import Code, Refused
from stolon.sharing.envelope import TRUST, seal
from stolon.sharing.exchange import messages
from stolon.sharing.exchange.engine import Exchange
from stolon.sharing.exchange.ports import Ask, Commit, ExchangeSettings
from stolon.sharing.holdings import BankHoldings
from stolon.sharing.limits import CHUNK, MAX_BLOB, MAX_MESSAGE
from stolon.sharing.revocation import revoke
from stolon.sharing.trust import Author

KINDS = ("gmm", "mahalanobis", "mahalanobis-images")
PRECISIONS = ("compact", "half", "full")
RETRY_MS, MOST_MS, MOST_MB = 20, 50, 50


def dice(what: str) -> random.Random:
    """Randomness that the words decide."""
    return random.Random(what)  # noqa: S311 - no secret


class Row:
    """What happened to inputs of one kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.trials = self.accepted = self.untyped = 0
        self.slowest = self.seconds = 0.0
        self.codes: Counter[str] = Counter()
        self.examples: list[str] = []

    def take(self, data: bytes, give: Callable[[bytes], str]) -> None:
        """Give the input away and note the word that comes back: a code's, ``accepted`` or ``well-formed``."""
        self.trials += 1
        begun = time.thread_time()
        try:
            word = give(data)
        except Exception as error:  # noqa: BLE001 - what is raised is what is looked for
            word = f"raised {type(error).__name__}"
            self.untyped += 1
            self._remember(data, repr(error))
        took = time.thread_time() - begun
        self.seconds += took
        if took * 1000 > RETRY_MS:
            took = min(took, *(_timed(give, data) for _ in range(2)))
        self.slowest = max(self.slowest, took)
        if word == "accepted":
            self.accepted += 1
            self._remember(data, word)
        self.codes[word] += 1

    def _remember(self, data: bytes, what: str) -> None:
        if len(self.examples) < 5:
            self.examples.append(f"{what}: {data[:4000].hex()}")

    def told(self) -> dict:
        """For the results file."""
        row = {"kind": self.kind, "trials": self.trials, "accepted": self.accepted, "untyped": self.untyped}
        row |= {"slowest_ms": round(1000 * self.slowest, 2)}
        row |= {"mean_ms": round(1000 * self.seconds / max(1, self.trials), 3), "codes": dict(self.codes)}
        return row | ({"examples": self.examples} if self.examples else {})


def _timed(give: Callable[[bytes], str], data: bytes) -> float:
    begun = time.thread_time()
    with contextlib.suppress(Exception):
        give(data)
    return time.thread_time() - begun


class Bench:
    """A bank that holds one good module and one revocation.

    Args:
        folder: an empty folder for it.
    """

    def __init__(self, folder: Path) -> None:
        self.starts = [good(kind, precision) for kind in KINDS for precision in PRECISIONS]
        self.bank = Bank(folder)
        self.trust = seal(TRUST, LISTED.to_payload(), ROOT)
        self.bank.set_trust(self.trust)
        self.bank.add(good("mahalanobis", seed=1).file)
        self.word = revoke(ADA, "0" * 64)
        self.bank.revoke(self.word)
        self.newer = seal(TRUST, LISTED.adding(Author(mutations.EVE.public, "Eve")).to_payload(), ROOT)
        self.before = self.state()

    def state(self) -> tuple[str, frozenset[tuple[str, bytes]]]:
        """The digest, and every file."""
        files = {(str(p), p.read_bytes()) for p in self.bank.folder.rglob("*") if p.is_file()}
        return self.bank.digest(), frozenset(files)

    # What is broken is given to these

    def add(self, data: bytes) -> str:
        """A module file."""
        try:
            self.bank.add(data, BACKBONE)
        except ModuleRefusedError as error:
            return Code(error.code)
        return "accepted"

    def judge(self, data: bytes) -> str:
        """An envelope."""
        judged = self.bank.judge(data, BACKBONE)
        return judged.code if isinstance(judged, Refused) else "accepted"

    def set_trust(self, data: bytes) -> str:
        """A trust list."""
        try:
            self.bank.set_trust(data)
        except ModuleRefusedError as error:
            return Code(error.code)
        return "accepted"

    def revoke(self, data: bytes) -> str:
        """A revocation."""
        try:
            self.bank.revoke(data)
        except ModuleRefusedError as error:
            return Code(error.code)
        return "accepted"

    # Inputs

    def modules(self, kind: str, rng: random.Random) -> bytes:
        """A broken module file."""
        return mutations.MAKERS[kind](rng, rng.choice(self.starts))

    def envelopes(self, rng: random.Random) -> bytes:
        """A broken envelope."""
        start = rng.choice(self.starts)
        return any_bytes(rng, start.envelope, rng.choice((self.trust, self.word)))


def run(folder: Path, count: int, seed: int) -> tuple[list[dict], bool]:
    """All rows, and whether the bank is as it was."""
    with_bank = Bench(folder)
    rows = []
    for row in _rows(with_bank, count, seed):
        rows.append(row.told())
        print({key: value for key, value in rows[-1].items() if key != "examples"}, flush=True)
    unchanged = with_bank.state() == with_bank.before
    with_bank.bank.close()
    return rows, unchanged


def _rows(bench: Bench, count: int, seed: int) -> Iterator[Row]:
    shares = {"bytes": 0.35, "frame": 0.1, "envelope": 0.1, "signed manifest": 0.2, "signed blob": 0.1}
    for kind in mutations.MAKERS:
        row, rng = Row(f"module: {kind}"), dice(f"{seed} {kind}")
        for _ in range(round(count * shares.get(kind, 0.15))):
            row.take(bench.modules(kind, rng), bench.add)
        yield row
    tenth = count // 10
    row, rng = Row("envelope: bytes"), dice(f"{seed} envelope")
    for _ in range(tenth):
        row.take(bench.envelopes(rng), bench.judge)
    yield row
    for kind, start, give in (
        ("trust list: bytes", bench.newer, bench.set_trust),
        ("revocation: bytes", bench.word, bench.revoke),
    ):
        row, rng = Row(kind), dice(f"{seed} {kind}")
        for _ in range(tenth):
            row.take(any_bytes(rng, start, bench.starts[0].envelope), give)
        yield row
    yield from _message_rows(bench, count, seed)


# The exchange's messages


def samples(bench: Bench) -> dict[str, list[bytes]]:
    """Good messages of every kind."""
    start = bench.starts[0]
    ids = tuple(sorted(bench.bank.ids()))
    envelope, blobs = module.split(start.file)
    spoken = {
        "hint": [messages.Hint(ADA.public, bytes(32), 7)],
        "request": [
            messages.Compare(bytes(32), bytes(32)),
            messages.ListIds((0, 5, 255)),
            messages.GetEnvelope(ids[0]),
            messages.GetBlob(next(iter(blobs)), 0, CHUNK),
            messages.GetBlob(next(iter(blobs)), MAX_BLOB, 0),
        ],
        "reply": [
            messages.Same(),
            messages.Known(),
            messages.Absent(),
            messages.Ids(bytes(32), ids),
            messages.Buckets(bytes(32), 9, tuple(bytes([i]) * 16 for i in range(256))),
            messages.EnvelopeIs(envelope),
            messages.Piece(next(iter(blobs.values()))),
        ],
    }
    return {kind: [one.to_bytes() for one in found] for kind, found in spoken.items()}


def _message_rows(bench: Bench, count: int, seed: int) -> Iterator[Row]:
    spoken = samples(bench)
    everything = [data for found in spoken.values() for data in found]
    readers = {"hint": messages.read_hint, "request": messages.read_request, "reply": messages.read_reply}
    engine = Exchange(
        ROOT.public, BankHoldings(bench.bank, BACKBONE), dice(f"{seed} engine"), ExchangeSettings()
    )
    engine.linked(ADA.public, 0.0)
    for kind, read in readers.items():
        row, rng = Row(f"message: {kind}"), dice(f"{seed} {kind}")
        for _ in range(count // 5):
            data = any_bytes(rng, rng.choice(spoken[kind]), rng.choice(everything))
            row.take(data, lambda data, read=read: _read(read, data))
        yield row
    for kind, give in (
        ("hint", lambda data: _hear(engine, data)),
        ("request", lambda data: _ask(engine, data)),
    ):
        row, rng = Row(f"engine: {kind}"), dice(f"{seed} engine {kind}")
        for _ in range(count // 10):
            row.take(any_bytes(rng, rng.choice(spoken[kind]), rng.choice(everything)), give)
        yield row
    yield _reply_row(bench, everything, count // 5, seed)


def _read(read: Callable[[bytes], object], data: bytes) -> str:
    found = read(data)
    if isinstance(found, Refused):
        return found.code
    return "well-formed" if found.to_bytes() == data else "accepted"  # the latter: in two forms


def _hear(engine: Exchange, data: bytes) -> str:
    engine.heard(ADA.public, data, 1.0)
    return "heard"


def _ask(engine: Exchange, data: bytes) -> str:
    return "answered" if len(engine.asked(ADA.public, data)) <= MAX_MESSAGE else "accepted"


class Liar:
    """An engine, and a peer that answers it rightly, or with something broken.

    What the engine wants to commit is judged but not stored: a module that the peer really holds is *genuine*,
    another one would be *accepted*.

    Args:
        bench: whose bank the engine stands before.
        folder: an empty one for the peer's bank, which holds all the good modules.
        rng: of the engine.
    """

    def __init__(self, bench: Bench, folder: Path, rng: random.Random) -> None:
        self._bench, self._rng, self._now = bench, rng, 0.0
        self._bank = Bank(folder)
        self._bank.set_trust(bench.trust)
        for number, start in enumerate(bench.starts):
            self._bank.add(mutations.retold(start, f"task {number}"))
        self._bank.revoke(revoke(BEN, "1" * 64))
        self._peer = self._engine(BEN.public, self._bank)
        self._restart()

    def _engine(self, me: str, bank: Bank) -> Exchange:
        return Exchange(me, BankHoldings(bank, BACKBONE), self._rng, ExchangeSettings(strikes=10**9))

    def _restart(self) -> None:
        self._engine_here = self._engine(ROOT.public, self._bench.bank)
        self._asks = [a for a in self._engine_here.linked(BEN.public, self._now) if isinstance(a, Ask)]
        self._left = self._rng.randint(5, 200)

    def question(self) -> bytes:
        """The right answer to what the engine asks next."""
        while not self._asks:
            if self._left <= 0:
                self._restart()
            self._left -= 1
            self._now += 1.0
            self._step(self._engine_here.tick(self._now))
        return self._peer.asked(ROOT.public, self._asks[0].payload)

    def give(self, data: bytes) -> str:
        """Answer it with this; says what came of it."""
        ask = self._asks[0]
        return self._step(self._engine_here.answered(ask.ticket, data, self._now))

    def next(self) -> None:
        """The question was answered."""
        self._asks.pop(0)

    def close(self) -> None:
        """Let go of the peer's bank."""
        self._bank.close()

    def _step(self, actions: list) -> str:
        word = "no commit"
        self._asks += [action for action in actions if isinstance(action, Ask)]
        for action in actions:
            if isinstance(action, Commit):
                judged = accept(action.envelope, action.blobs, LISTED, backbone=BACKBONE)
                refused = judged if isinstance(judged, Refused) else None
                word = f"refused: {refused.code}" if refused else "genuine"
                if refused is None and judged.id not in self._bank.ids():
                    word = "accepted"
                self._engine_here.committed(action.id, Refused(Code.DISK_FULL, "not stored here"), self._now)
        return word


def _reply_row(bench: Bench, everything: list[bytes], count: int, seed: int) -> Row:
    """Answers to what an engine asks, one in three broken."""
    row, rng = Row("engine: reply"), dice(f"{seed} engine reply")
    with tempfile.TemporaryDirectory(prefix="stolon-liar-") as root:
        liar = Liar(bench, Path(root) / "bank", rng)
        while row.trials < count:
            right = liar.question()
            if rng.random() < 2 / 3:
                liar.give(right)
            else:
                row.take(any_bytes(rng, right, rng.choice(everything)), liar.give)
            liar.next()
        liar.close()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    from benchmarks.results import write

    with tempfile.TemporaryDirectory(prefix="stolon-mutations-") as root:
        run(Path(root) / "warm", 1000, options.seed + 1)  # imports and caches are not the inputs' doing
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = time.monotonic()
        rows, unchanged = run(Path(root) / "bank", options.count, options.seed)
        seconds = time.monotonic() - begun
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    found = {
        "seed": options.seed,
        "trials": sum(row["trials"] for row in rows),
        "modules": sum(row["trials"] for row in rows if row["kind"].startswith("module")),
        "accepted": sum(row["accepted"] for row in rows),
        "untyped": sum(row["untyped"] for row in rows),
        "slowest_ms": max(row["slowest_ms"] for row in rows),
        "bank_unchanged": unchanged,
        "memory_grown_mb": round(grown, 1),
        "seconds": round(seconds),
    }
    print(found)
    write("module_mutations", {**found, "rows": rows})
    broken = found["accepted"] or found["untyped"] or not unchanged
    if broken or found["slowest_ms"] >= MOST_MS or grown >= MOST_MB:
        raise SystemExit("a promise is broken")


if __name__ == "__main__":
    main()
