"""How fast modules of 60 kB are accepted and stored durably, and how fast a bank of 10,000 opens.

    python benchmarks/bank_ingest.py [--folder FOLDER]

Ten listed authors; every module is another one (no blob in common), signed, of about 60 kB: a Gaussian anchor and
a head of 12 classes x 1,280 features in the compact form. *Stored* is `Bank.commit`: signature, manifest,
hashes, header rules, exact tensors, finite numbers, the method's own check, then all files written and synced.
*Opened* is `Bank(folder)` in a new process: every envelope read and verified, every blob's size compared. One
thread. The modules are made beforehand and not timed.

Where other work shares the machine, the kernel says how long this thread was ready to run and had to wait for a
processor (/proc/self/schedstat); ``own_core`` figures leave that time out: what a core of its own would have done,
with the disk as busy as it was. Writes benchmarks/results/bank_ingest.json.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from results import write

from stolon.light.anchoring import Anchoring
from stolon.light.answering import TaskKnowledge
from stolon.sharing import lightweight, module
from stolon.sharing.bank import Bank
from stolon.sharing.envelope import TRUST, seal
from stolon.sharing.keys import Key
from stolon.sharing.task_module import TaskModule
from stolon.sharing.trust import Author, Trust

AUTHORS = [Key(bytes([number + 1]) * 32) for number in range(10)]
BACKBONE = "b" * 64
CLASSES, WIDTH = 12, 1280


def trust() -> bytes:
    quota = 8 * 2**30 // len(AUTHORS)
    authors = tuple(
        Author(key.public, f"author {i}", bytes=min(2**30, quota)) for i, key in enumerate(AUTHORS)
    )
    root = AUTHORS[0]
    return seal(TRUST, Trust(1, (root.public,), 1, authors).to_payload(), root)


def template() -> tuple[TaskModule, TaskKnowledge, Anchoring]:
    g = torch.Generator().manual_seed(0)
    anchoring = Anchoring("gmm", {})
    features = torch.rand(280, WIDTH, generator=g)
    anchor = anchoring.fit(features, torch.arange(280) % CLASSES, features[:0], 0, lambda i: i)
    own = TaskKnowledge(
        torch.randn(CLASSES, WIDTH, generator=g), torch.zeros(CLASSES), torch.zeros(0), anchor
    )
    names = tuple(f"class number {label}" for label in range(CLASSES))
    return TaskModule("lightweight", "t", names, {}, "timm:mobilenetv2_100", BACKBONE), own, anchoring


def modules(count: int):
    """Files of different modules, as (envelope, blobs)."""
    about, own, anchoring = template()
    for number in range(count):
        other = torch.full((CLASSES,), number / 1e4)
        means = own.anchor.means * (1 - 1e-3 * number / count)
        knowledge = own._replace(bias=other, anchor=own.anchor._replace(means=means))
        task = replace(about, task=f"task {number // len(AUTHORS)}")
        made = lightweight.of_knowledge(knowledge, task, anchoring, "compact")
        yield module.split(module.pack(made, AUTHORS[number % len(AUTHORS)]))


def waited() -> float:
    """Seconds that this thread was ready to run and waited for a processor; 0 where the kernel does not say."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def ingest(folder: Path, count: int) -> dict:
    """Commit so many modules; the time of all commits together, and of the slowest."""
    each, total = [], 0
    with Bank(folder) as bank:
        bank.set_trust(trust())
        for envelope, blobs in modules(count):
            begun, busy, queued = time.perf_counter(), time.process_time(), waited()
            id_ = bank.commit(envelope, blobs, BACKBONE)
            each.append((time.perf_counter() - begun, time.process_time() - busy, waited() - queued))
            assert isinstance(id_, str), id_
            total += len(envelope) + sum(map(len, blobs.values()))
        assert len(bank.ids()) == count
    wall, busy, queued = (sum(column) for column in zip(*each, strict=True))
    tenth = max(1, count // 10)
    return {
        "modules": count,
        "bytes_each": round(total / count),
        "per_second": round(count / wall, 1),
        "per_second_own_core": round(count / (wall - queued), 1),
        "own_core_first_tenth": round(tenth / sum(wall - wait for wall, _, wait in each[:tenth]), 1),
        "own_core_last_tenth": round(tenth / sum(wall - wait for wall, _, wait in each[-tenth:]), 1),
        "processor_ms_each": round(1000 * busy / count, 2),
        "waited_for_processor_ms_each": round(1000 * queued / count, 2),
        "waited_for_disk_ms_each": round(1000 * (wall - busy - queued) / count, 2),
    }


def opening(folder: Path) -> dict:
    """In a process of its own: the time of `Bank(folder)`, without imports."""
    ended = subprocess.run(
        [sys.executable, __file__, "--open", str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(ended.stdout)


def memory() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def opened(folder: Path) -> None:
    before = memory()
    begun, busy, queued = time.perf_counter(), time.process_time(), waited()
    with Bank(folder) as bank:
        seconds, busy = time.perf_counter() - begun, time.process_time() - busy
        queued = waited() - queued
        after = memory()
        begun = time.perf_counter()
        current = len(bank.modules())
        print(
            json.dumps(
                {
                    "modules": len(bank.ids()),
                    "seconds": round(seconds, 2),
                    "own_core_s": round(seconds - queued, 2),
                    "processor_s": round(busy, 2),
                    "grown_mb": round((after - before) / 1e6, 1),
                    "listing_s": round(time.perf_counter() - begun, 3),
                    "current": current,
                }
            )
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where banks are made; by default a temporary one"
    )
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--open", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.open is not None:
        opened(options.open)
        return
    root = Path(tempfile.mkdtemp(prefix="stolon-bank-", dir=options.folder))
    try:
        stored = ingest(root / "bank", options.count)
        print(stored, flush=True)
        found = [opening(root / "bank") for _ in range(3)]
        print(found)
        write("bank_ingest", {"commit": stored, "open": found, "disk": str(root.parent)})
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
