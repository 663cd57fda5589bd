"""Kill `Store.save` before every system call, make every call fail, and fill a real disk.

    python benchmarks/disk_faults.py

1. A store that holds one task saves a second one, in a process of its own under strace. The process is killed
   (SIGKILL) before its first system call on files, before its second, ... before its last. Promise: the
   knowledge is the old record or the new one, whole; it opens, and the next save needs no repair and leaves
   no litter.
2. Each of these calls fails instead, once, and from there on always, with ENOSPC, EIO and EDQUOT (calls that
   ask for room), or EIO (the others). Promise: StoreFullError or a finished save; never another error, never
   an old record after a save that was said to be done.
3. `stolon learn` fills a disk of 4 MB. Promise: exit code 6 in one line, `stolon classify` still answers, and
   when there is room again the same command goes on, to the same bits as on a disk that was never full.

Needs Linux, strace, and for 3 `unshare -rm`; what cannot be had is skipped, with the reason. Writes
benchmarks/results/disk_faults.json.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script finds its sibling as the tests do

from benchmarks import tracing
from benchmarks.tracing import ASKS_FOR_ROOM, CALLS, DONE, FULL

DISK = "4m"


@dataclass(frozen=True)
class Call:
    """A system call of one save: the n-th of its name, and whether a file of the store is renamed before it."""

    name: str
    n: int
    after_rename: bool


@dataclass(frozen=True)
class Ended:
    """How a save under strace ended, and what is in the folder then."""

    status: int
    knowledge: str
    opens: bool
    saves_again: bool
    litter: int


class Bench:
    """A store with one task on disk, and the same with a second task in memory.

    Args:
        root: an empty folder to work in.
    """

    def __init__(self, root: Path) -> None:
        import torch

        from stolon import nets
        from stolon.light.config import LightweightConfig
        from stolon.nets.backbone import pretrained
        from stolon.store import Store
        from stolon.tasks import Split, Task

        torch.set_num_threads(1)
        spec = "digits-conv?shape=1x8x8"
        self._backbone = pretrained(spec, nets.make("digits-conv", input_shape=(1, 8, 8)).state_dict())

        def task(name: str, seed: int) -> Task:
            g = torch.Generator().manual_seed(seed)

            def split(n: int) -> Split:
                y = torch.arange(n) % 2
                return Split.of((torch.rand(n, 1, 8, 8, generator=g) + y.view(-1, 1, 1, 1)) / 2, y)

            return Task(name, ("a", "b"), split(16), split(4), split(4))

        self.root, self._old = root, root / "old"
        with Store.create(self._old, self._backbone, LightweightConfig(epochs=2)) as store:
            list(store.learn(task("first", 1)))
        shutil.copytree(self._old, root / "new")
        self.store = Store.open(root / "new", write=True, backbone=self._backbone)
        list(self.store.learn(task("second", 2)))
        self.states = {self._state(self._old): "old", self._state(root / "new"): "new"}
        assert len(self.states) == 2

    def calls(self) -> list[Call]:
        """The system calls on files of one save, in order, by a trace of it."""
        log = self.root / "trace"
        ended = self._save(f"trace={CALLS}", log)
        assert (ended.status, ended.knowledge, ended.litter) == (DONE, "new", 0), ended
        found, after_rename = [], False
        for name, n, line in tracing.calls(log):
            found.append(Call(name, n, after_rename))
            after_rename |= name.startswith("rename") and "record.json" in line
        return found

    def kill_at(self, call: Call) -> Ended:
        """Save, and be killed before this call."""
        return self._save(tracing.killing(call.name, call.n))

    def fail_at(self, call: Call, error: str, *, always: bool) -> Ended:
        """Save, while this call (and all later ones of its name, where it is ``always``) fails."""
        return self._save(tracing.failing(call.name, call.n, error, always=always))

    def _save(self, expression: str, log: Path | None = None) -> Ended:
        import filelock

        from stolon import records
        from stolon.errors import StoreError, StoreFullError
        from stolon.store import Store

        folder = self.root / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._old, folder)

        def prepared() -> Callable[[], int]:
            self.store.folder = folder
            # A fork loses its parent's locks.
            self.store._lock = filelock.FileLock(folder / "LOCK")
            self.store._lock.acquire(timeout=0)
            return saved

        def saved() -> int:
            try:
                self.store.save()
            except StoreFullError:
                return FULL
            return DONE

        status = tracing.traced(prepared, expression, log)
        try:
            with Store.open(folder, backbone=self._backbone) as opened:
                opens = opened.learner.tasks in (("first",), ("first", "second"))
        except StoreError:
            opens = False
        knowledge = self.states.get(self._state(folder), "torn")
        with Store.open(folder, write=True, backbone=self._backbone) as again:
            again.learner.restore(self.store.learner.record())
            again.save()
        saves_again = self.states.get(self._state(folder)) == "new"
        wanted = {
            entry["sha256"]
            for entry in json.loads((folder / "knowledge" / records.RECORD).read_text())["groups"].values()
        }
        present = [p for p in (folder / "knowledge").rglob("*") if p.is_file() and p.name != records.RECORD]
        litter = sum(path.stem not in wanted for path in present)
        return Ended(status, knowledge, opens, saves_again, litter)

    @staticmethod
    def _state(folder: Path) -> str:
        """What a reader finds, as one word."""
        import hashlib

        from stolon import records
        from stolon.errors import StoreError

        try:
            record = records.load(folder / "knowledge", "store")
        except StoreError as error:
            return f"{type(error).__name__}: {error}"
        sha = hashlib.sha256(json.dumps(dict(record.document), sort_keys=True).encode())
        for group, tensors in sorted(record.groups.items()):
            for name, tensor in sorted(tensors.items()):
                sha.update(f"{group}/{name}".encode() + tensor.numpy().tobytes())
        return sha.hexdigest()


def kills(bench: Bench, calls: Iterable[Call]) -> dict:
    """Kill the save before each of these calls."""
    row = _Row(
        "SIGKILL before a system call of Store.save",
        "old or new record, whole; opens; next save whole, no litter",
    )
    for call in calls:
        ended = bench.kill_at(call)
        row.add(
            call,
            ended,
            is_kept=ended.status == -signal.SIGKILL
            and ended.knowledge in ("old", "new")
            and (ended.knowledge == "new") == call.after_rename
            and _is_well(ended),
        )
    return row.told()


def errors(bench: Bench, calls: Iterable[Call], *, always: bool) -> list[dict]:
    """Make each of these calls fail in each way that fits it."""
    when = "from there on always" if always else "once"
    rows = {
        error: _Row(
            f"{error} at a system call of Store.save, {when}",
            "StoreFullError and the old record (new, where the disk failed after the rename), or a finished save; "
            "opens; next save whole, no litter",
        )
        for error in ("ENOSPC", "EDQUOT", "EIO")
    }
    for call in calls:
        for error, row in rows.items():
            if error != "EIO" and call.name not in ASKS_FOR_ROOM:
                continue
            ended = bench.fail_at(call, error, always=always)
            right = "new" if call.after_rename or ended.status == DONE else "old"
            row.add(
                call,
                ended,
                is_kept=ended.status in (DONE, FULL) and ended.knowledge == right and _is_well(ended),
            )
    return [row.told() for row in rows.values()]


class _Row:
    def __init__(self, fault: str, promise: str) -> None:
        self._fault, self._promise = fault, promise
        self._trials, self._failures = 0, 0
        self._found: Counter[str] = Counter()
        self._examples: list[str] = []

    def add(self, call: Call, ended: Ended, *, is_kept: bool) -> None:
        self._trials += 1
        self._failures += not is_kept
        how = {DONE: "finished", FULL: "StoreFullError", -signal.SIGKILL: "killed"}.get(
            ended.status, "other error"
        )
        self._found[f"{how}, {ended.knowledge} record"] += 1
        if not is_kept and len(self._examples) < 5:
            self._examples.append(f"{call}: {ended}")

    def told(self) -> dict:
        told = {"fault": self._fault, "promise": self._promise, "trials": self._trials}
        told |= {"failures": self._failures, "found": dict(self._found)}
        if self._examples:
            told["examples"] = self._examples
        print(told, flush=True)
        return told


def _is_well(ended: Ended) -> bool:
    return ended.opens and ended.saves_again and ended.litter == 0


# A full disk


def full_disk(images: int = 400) -> list[dict]:
    """Run `stolon learn` on a disk of 4 MB until it is full; a process of its own namespace mounts it."""
    with tempfile.TemporaryDirectory(prefix="stolon-disk-") as root:
        command = ["unshare", "-rm", sys.executable, __file__, "--on-disk", root, "--images", str(images)]
        ended = subprocess.run(command, text=True, capture_output=True, check=False)
        sys.stderr.write(ended.stderr)
        if ended.returncode:
            raise SystemExit(f"the part on a full disk ended with {ended.returncode}")
        rows: list[dict] = json.loads(ended.stdout)
        for row in rows:
            print(row)
        return rows


def on_disk(root: Path, images: int) -> Iterator[dict]:
    """In the namespace: mount, make, fill, ask, free, go on."""
    from safetensors.torch import save_file

    from stolon import nets

    disk = root / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", disk], check=True)
    spec, weights = "digits-conv?shape=3x16x16", root / "weights.safetensors"
    save_file(nets.make("digits-conv", input_shape=(3, 16, 16), seed=0).state_dict(), weights)
    first, second = _folder(root / "first", 40, 1), _folder(root / "second", images, 2)

    for store in (disk / "store", root / "whole"):
        assert _stolon(store, "init", "--backbone", spec, "--weights", weights).returncode == 0
        assert _stolon(store, "learn", first).returncode == 0
    assert _stolon(root / "whole", "learn", second).returncode == 0
    image = first / "dark" / "000.png"
    answer = _stolon(disk / "store", "classify", "--json", image).stdout
    rest = shutil.disk_usage(disk).free
    for free in (0, 20_000, 200_000):  # no room for anything, in the first save, in a later one
        before = _bytes(disk / "store")
        (disk / "filler").write_bytes(b"\0" * ((rest - free) // 4096 * 4096))
        ended = _stolon(disk / "store", "learn", second)
        said = ended.stderr.strip()
        asked = _stolon(disk / "store", "classify", "--json", image)
        kept = {
            "exit code 6": ended.returncode == 6,
            "one line that names the cause": "No space left" in said and "\n" not in said,
            "classify answers as before": asked.stdout == answer,
            "the record is whole": _tasks(disk / "store") in (["first"], ["first", "second"]),
        }
        (disk / "filler").unlink()
        yield _told(
            f"disk of {DISK} with {free:,} bytes free while learning",
            kept,
            said,
            before != _bytes(disk / "store"),
        )
    ended = _stolon(disk / "store", "learn", second)
    same = _comparable(disk / "store") == _comparable(root / "whole")
    kept = {"exit code 0": ended.returncode == 0, "the same bits as on a disk never full": same}
    yield _told("room again: the same command goes on", kept, ended.stderr.strip(), None)


def _told(fault: str, kept: dict[str, bool], said: str, changed: bool | None) -> dict:
    row = {
        "fault": fault,
        "promise": "; ".join(kept),
        "trials": len(kept),
        "failures": sum(not k for k in kept.values()),
    }
    if row["failures"]:
        row["examples"] = [f"{word}: no; it said: {said}" for word, k in kept.items() if not k]
    if changed is not None:
        row["got_further_before_it_was_full"] = changed
    return row


def _stolon(store: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stolon.shell.main", *map(str, arguments)],
        env={**os.environ, "STOLON_HOME": str(store), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def _tasks(store: Path) -> list[str]:
    return [row["task"] for row in json.loads(_stolon(store, "tasks", "--json").stdout)]


def _bytes(store: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(store)): p.read_bytes()
        for p in store.rglob("*")
        if p.is_file() and p.name != "LOCK"
    }


def _comparable(store: Path) -> object:
    """The whole knowledge but how long it took."""
    body = json.loads((store / "knowledge" / "record.json").read_text())
    for facts in body["document"]["facts"].values():
        facts.pop("seconds")
    return body["document"], {name: group["sha256"] for name, group in body["groups"].items()}


def _folder(root: Path, count: int, seed: int) -> Path:
    import numpy as np
    from PIL import Image

    dice = np.random.default_rng(seed)
    for name, colour in (("dark", 60), ("light", 180)):
        (root / name).mkdir(parents=True)
        for index in range(count // 2):
            pixels = np.array((colour, colour, 120 * (seed - 1))) + dice.normal(0, 20, (16, 16, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name / f"{index:03}.png")
    return root


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--on-disk", type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--images", type=int, default=400, help="pictures of the task that fills the disk")
    options = parser.parse_args()
    if options.on_disk is not None:
        print(json.dumps(list(on_disk(options.on_disk, options.images))))
        return
    from benchmarks.results import write

    skipped, rows, begun = {}, [], time.monotonic()
    if tracing.missing():
        skipped["strace"] = tracing.missing()
    else:
        with tempfile.TemporaryDirectory(prefix="stolon-faults-") as root:
            bench = Bench(Path(root))
            calls = bench.calls()
            print(
                f"{len(calls)} system calls on files in one save: {dict(Counter(c.name for c in calls))}",
                flush=True,
            )
            rows.append(kills(bench, calls))
            for always in (False, True):
                rows += errors(bench, calls, always=always)
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        skipped["full disk"] = "unshare -rm is not allowed here"
    else:
        rows += full_disk(options.images)
    write("disk_faults", {"seconds": round(time.monotonic() - begun), "skipped": skipped, "rows": rows})
    failures = sum(row["failures"] for row in rows)
    if failures:
        raise SystemExit(f"{failures} promise(s) broken")


if __name__ == "__main__":
    main()
