"""Flip single bits anywhere in a bank's files, and see what becomes of it.

    python benchmarks/bank_rot.py [--flips 1000] [--seed 0]

A bank holds what a peer holds: modules of three kinds, an old version, a revocation, and the trust list twice. One bit
of one file is flipped; every file and every place in it are as likely as its size (each file at least ten times).
Then the bank is opened, everything is read, and what is missing is taken from the peer as the exchange would.

Promise: what is passed on or used is what was written, or nothing; the flip is noticed; afterwards the bank is
equal to the peer's, and the file has its old bytes. Writes benchmarks/results/bank_rot.json.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script finds its sibling as the tests do

from benchmarks.mutations import BEN, LISTED, ROOT, good, retold, signed

from stolon.errors import StoreError
from stolon.sharing.bank import Bank
from stolon.sharing.codes import Refused
from stolon.sharing.envelope import TRUST, seal
from stolon.sharing.revocation import revoke


def peers(folder: Path) -> Bank:
    """A bank with a little of everything, open."""
    bank = Bank(folder)
    bank.set_trust(seal(TRUST, LISTED.to_payload(), ROOT))
    pictures = good("mahalanobis-images", "half", seed=2)
    for file in (good().file, good("mahalanobis", key=BEN, seed=1).file, retold(pictures, "pictures")):
        bank.add(file)
    newer = good("gmm", "full", seed=3)
    bank.add(signed({**newer.document, "seq": 2}, newer.blobs))
    bank.revoke(revoke(BEN, "0" * 64))
    return bank


def fetch(bank: Bank, peer: Bank) -> None:
    """What the exchange does: take everything from a peer that is not held."""
    for id_ in sorted(peer.ids() - bank.ids()):
        envelope = peer.envelope(id_)
        wanted = bank.judge(envelope)
        if not isinstance(wanted, Refused):
            bank.commit(envelope, {sha: peer.blob(sha) for sha, _ in wanted.blobs})


def rotted(folder: Path, peer: Bank, path: Path, bit: int) -> dict[str, bool]:
    """Flip one bit of a file of a bank that is equal to the peer's; which promises were kept."""
    good_bytes = path.read_bytes()
    data = bytearray(good_bytes)
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    ids, wrong = peer.ids(), False
    with Bank(folder) as bank:
        noticed = bank.ids() != ids or path.read_bytes() == good_bytes
        for id_ in ids:
            envelope = bank.envelope(id_)
            wrong |= envelope not in (None, peer.envelope(id_))
        for stored in peer.modules():
            try:
                wrong |= bank.file(stored.id) != peer.file(stored.id)
            except StoreError:
                noticed = True
        bank.check()
        noticed |= bank.ids() != ids
        fetch(bank, peer)
        equal = bank.digest() == peer.digest() and bank.check() == ()
        equal &= all(bank.file(one.id) == peer.file(one.id) for one in peer.modules())
    with Bank(folder, write=False) as bank:
        equal &= bank.digest() == peer.digest()
    return {
        "nothing wrong was used": not wrong,
        "noticed": noticed,
        "equal afterwards": equal,
        "the old bytes": path.read_bytes() == good_bytes,
    }


def trials(root: Path, flips: int, seed: int) -> Iterator[tuple[str, dict[str, bool]]]:
    """So many flips, as the kind of the file and what was kept."""
    rng = random.Random(f"rot {seed}")  # noqa: S311 - no secret
    folder = root / "bank"
    with peers(root / "peer") as peer:
        with Bank(folder) as bank:
            bank.set_trust(seal(TRUST, LISTED.to_payload(), ROOT))
            fetch(bank, peer)
            assert bank.digest() == peer.digest()
        files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "LOCK")
        least = min(10, flips // len(files))
        chosen = files * least
        weights = [path.stat().st_size for path in files]
        chosen += rng.choices(files, weights, k=flips - len(chosen))
        for path in chosen:
            bit = rng.randrange(8 * path.stat().st_size)
            yield path.relative_to(folder).parts[0], rotted(folder, peer, path, bit)


def main() -> None:
    from benchmarks.results import write

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begun, kinds, broken = time.monotonic(), Counter(), Counter()
    with tempfile.TemporaryDirectory(prefix="stolon-rot-") as root:
        for kind, kept in trials(Path(root), options.flips, options.seed):
            kinds[kind] += 1
            broken += Counter(promise for promise, was_kept in kept.items() if not was_kept)
    found = {"seed": options.seed, "flips": options.flips, "of": dict(kinds), "broken": dict(broken)}
    found["seconds"] = round(time.monotonic() - begun)
    print(found)
    write("bank_rot", found)
    if broken:
        raise SystemExit("a promise is broken")


if __name__ == "__main__":
    main()
