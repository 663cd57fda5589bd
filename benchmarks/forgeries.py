"""Forge and replay everything that agents sign: modules, revocations, trust lists.

    python benchmarks/forgeries.py

1. Every bit of a module's envelope, of a revocation's and of a trust list's is flipped, one at a time; so is
   every bit of a module file's frame, and 5,000 bits of its blobs. Promise: each is refused, by a code that
   fits the place of the bit.
2. The forgeries that the design names, from an unlisted author to a signature replayed for another type, some
   in several ways. Promise: each is refused with its own code.
3. All of these are given to a bank on disk, and then every valid message 1,000 times. Promise: the same
   codes, and not a byte of the bank changes.

Writes benchmarks/results/forgeries.json.
"""

import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script finds its sibling as the tests do

from benchmarks.forged import (
    ADA,
    BACKBONE,
    BEN,
    FIRST,
    IDENTITY,
    OLD_ROOT,
    ROOT,
    TRUSTED,
    Forgery,
    forgeries,
    good,
    handed,
    make_module,
    one_signature,
    opened,
    parts,
)

from stolon.sharing import module
from stolon.sharing.bank import Bank
from stolon.sharing.codes import Code, Refused
from stolon.sharing.envelope import TRUST, payload_id, seal
from stolon.sharing.revocation import revoke
from stolon.sharing.trust import Trust

REPLAYS = 1000
BLOB_FLIPS = 5000

Judge = Callable[[bytes], object]


@dataclass(frozen=True)
class Flips:
    """What became of flipping every bit of something.

    Attributes:
        bits: how many were flipped.
        refused: how many of them were refused.
        unexpected: how many were refused by a code that does not fit the place, or were not.
        codes: how often each code came, by place.
    """

    bits: int
    refused: int
    unexpected: int
    codes: dict[str, dict[str, int]]


# 1. Flips


def places(envelope: bytes) -> list[str]:
    """Which part of a canonical envelope of one signature each byte belongs to."""
    found = ["form"] * len(envelope)
    value = json.loads(envelope)
    texts = {
        "payload": value["payload"],
        "type": value["payloadType"],
        "key": value["signatures"][0]["keyid"],
        "signature": value["signatures"][0]["sig"],
    }
    for place, text in texts.items():
        start = envelope.index(b'"' + text.encode() + b'"') + 1
        found[start : start + len(text)] = [place] * len(text)
    return found


FITTING = {
    "payload": {Code.BAD_SIGNATURE, Code.MALFORMED},
    "type": {Code.WRONG_TYPE, Code.UNSUPPORTED, Code.MALFORMED},
    "signature": {Code.BAD_SIGNATURE, Code.MALFORMED},
    "form": {Code.MALFORMED},
    # Who signs a module or a revocation is looked up; who signs a trust list is verified first.
    "key": {Code.UNKNOWN_AUTHOR, Code.BAD_SIGNATURE, Code.WEAK_KEY, Code.MALFORMED},
    "frame": {Code.MALFORMED, Code.TOO_LARGE},
    # In a file blobs are known by their hashes: a changed one is another, which the manifest does not list.
    "blob": {Code.MALFORMED},
}


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flip_each(data: bytes, where: list[str], bits: Iterable[int], decide: Judge) -> Flips:
    """Flip one bit after the other."""
    codes: dict[str, Counter[str]] = {}
    count = refused = unexpected = 0
    for bit in bits:
        decided, place = decide(flipped(data, bit)), where[bit // 8]
        count += 1
        code = decided.code if isinstance(decided, Refused) else None
        refused += code is not None
        unexpected += code not in FITTING[place]
        codes.setdefault(place, Counter())[str(code)] += 1
    return Flips(count, refused, unexpected, {place: dict(found) for place, found in sorted(codes.items())})


def flip_all(
    judge: Callable[[Forgery], object], blob_flips: int = BLOB_FLIPS, step: int = 1
) -> dict[str, Flips]:
    """Every bit (or every ``step``-th) of an envelope of each type; frame and blobs of a file."""
    found = {}
    for kind, name in (("item", "module"), ("word", "revocation"), ("trust", "trust list")):
        original = replace(good(kind), data=one_signature(good(kind).data))
        assert not isinstance(judge(original), Refused), f"the {name} is not good before anything is flipped"
        found[f"{name}: envelope"] = flip_each(
            original.data,
            places(original.data),
            range(0, 8 * len(original.data), step),
            lambda data, original=original: judge(replace(original, data=data)),
        )
    original = good("file")
    assert not isinstance(judge(original), Refused)
    where = frame_of(original.data)
    bits = {
        place: [bit for bit in range(8 * len(where)) if where[bit // 8] == place]
        for place in ("frame", "blob")
    }
    some = random.Random(0).sample(bits["blob"], min(blob_flips, len(bits["blob"])))  # noqa: S311 - a sample
    for name, chosen in (("frame", bits["frame"][::step]), ("blobs", sorted(some))):
        found[f"module file: {name}"] = flip_each(
            original.data, where, chosen, lambda data: judge(replace(original, data=data))
        )
    return found


def frame_of(file: bytes) -> list[str]:
    """Which part of a module file each byte belongs to: its frame, its envelope, or a blob."""
    envelope, blobs = parts(file)
    found = ["frame"] * (len(module.MAGIC) + 4) + ["envelope"] * len(envelope)
    for blob in blobs.values():
        found += ["frame"] * 4 + ["blob"] * len(blob)
    assert len(found) == len(file)
    return found


# 3. A bank


def make_bank(folder: Path, trust: Trust = TRUSTED) -> Bank:
    """A bank that has seen two trust lists, two modules of Ada's of which she took one back, and one of Ben's."""
    bank = Bank(folder)
    bank.set_trust(seal(TRUST, FIRST.to_payload(), OLD_ROOT))
    bank.set_trust(good("trust").data)
    bank.set_trust(one_signature(good("trust").data))
    for key, seed in ((ADA, 0), (ADA, 1), (BEN, 2)):
        bank.add(make_module(key, seed), BACKBONE)
    bank.revoke(good("word").data)
    bank.revoke(revoke(ADA, payload_id(opened(good("item", 1).data).payload)))
    if trust != TRUSTED:
        bank.set_trust(seal(TRUST, trust.to_payload(), ROOT))
    return bank


def state(bank: Bank) -> tuple[str, dict[str, bytes]]:
    """The bank's digest, and every byte of it but the lock's."""
    files = (path for path in bank.folder.rglob("*") if path.is_file() and path.name != "LOCK")
    return bank.digest(), {str(path.relative_to(bank.folder)): path.read_bytes() for path in files}


def is_expected(forgery: Forgery, decided: object) -> bool:
    """Whether it was refused with its own code."""
    return isinstance(decided, Refused) and decided.code is forgery.expected


def give_forgeries(folder: Path) -> tuple[int, int]:
    """All forgeries to banks; how many were given, and how many were wrongly decided or changed something."""
    count = wrong = 0
    by_trust: dict[Trust, list[Forgery]] = {}
    for forgery in forgeries():
        if forgery.trust.author(IDENTITY) is None:  # no bank takes on such a list
            by_trust.setdefault(forgery.trust, []).append(forgery)
    for number, (trust, forged) in enumerate(by_trust.items()):
        with make_bank(folder / str(number), trust) as bank:
            before = state(bank)
            for forgery in forged:
                expected = replace(forgery, expected=forgery.in_bank or forgery.expected)
                count += 1
                wrong += not is_expected(expected, forgery.give(bank)) or state(bank) != before
    return count, wrong


def give_flips(folder: Path, blob_flips: int = BLOB_FLIPS, step: int = 1) -> tuple[dict[str, Flips], bool]:
    """All flips to a bank; what became of them, and whether the bank is as it was."""
    with make_bank(folder) as bank:
        before = state(bank)
        return flip_all(lambda forgery: forgery.give(bank), blob_flips, step), state(bank) == before


def replay(folder: Path, times: int = REPLAYS) -> dict[str, dict[str, object]]:
    """Every valid message again and again; how often each was given, and whether the bank is as it was.

    What is in the bank is taken again, as nothing new; what was valid once is refused now.
    """
    second = TRUSTED.revoking(BEN.public)
    latest, first = seal(TRUST, second.to_payload(), ROOT), seal(TRUST, FIRST.to_payload(), OLD_ROOT)
    messages = {
        "module": (good("item"), None),
        "module file": (good("file"), None),
        "module that its author took back": (good("item", 1), None),
        "module of a key that was revoked": (handed("item", *parts(make_module(BEN, 2))), Code.REVOKED_KEY),
        "revocation": (good("word"), None),
        "trust list": (handed("trust", latest), None),
        "trust list of the version before": (good("trust"), Code.OLD_TRUST),
        "first trust list": (handed("trust", first), Code.BAD_TRUST),
    }
    found: dict[str, dict[str, object]] = {}
    with make_bank(folder, second) as bank:
        for name, (message, code) in messages.items():
            before, surprises = state(bank), 0
            for _ in range(times):
                decided = message.give(bank)
                surprises += (decided.code if isinstance(decided, Refused) else None) is not code
            found[name] = {
                "replays": times,
                "decision": "taken, as nothing new" if code is None else str(code),
                "otherwise_decided": surprises,
                "bank_unchanged": state(bank) == before,
            }
    return found


def main() -> int:
    """Run all three parts; 1 where anything was accepted, or refused for another reason than its own."""
    from results import write

    torch.set_num_threads(1)
    begun = time.perf_counter()
    named = [(forgery, forgery.decide()) for forgery in forgeries()]
    flips = flip_all(Forgery.decide)
    with tempfile.TemporaryDirectory() as folder:
        given, wrong = give_forgeries(Path(folder) / "forgeries")
        in_bank, same = give_flips(Path(folder) / "flips")
        replays = replay(Path(folder) / "replays")
    figures = {
        "seconds": round(time.perf_counter() - begun, 1),
        "named_forgeries": {
            "kinds": len({forgery.name for forgery, _ in named}),
            "trials": len(named),
            "failures": sum(not is_expected(forgery, decided) for forgery, decided in named),
            "given_to_a_bank": given,
            "bank_failures": wrong,
            "codes": {
                f"{forgery.name}: {forgery.variant}": str(getattr(decided, "code", "accepted"))
                for forgery, decided in named
            },
        },
        "flipped_bits": {
            "trials": sum(one.bits for one in flips.values()),
            "accepted": sum(one.bits - one.refused for one in flips.values()),
            "refused_by_a_code_that_does_not_fit": sum(one.unexpected for one in flips.values()),
            "by_message": {name: asdict(one) for name, one in flips.items()},
            "given_to_a_bank": sum(one.bits for one in in_bank.values()),
            "bank_failures": sum(one.unexpected for one in in_bank.values()) + (not same),
        },
        "replays": replays,
    }  # fmt: skip
    write("forgeries", figures)
    print(json.dumps({key: figures[key] for key in ("seconds", "replays")}, indent=1))
    failures = (
        figures["named_forgeries"]["failures"] + wrong + figures["flipped_bits"]["refused_by_a_code_that_does_not_fit"]
        + figures["flipped_bits"]["bank_failures"]
        + sum(bool(one["otherwise_decided"]) or not one["bank_unchanged"] for one in replays.values())
    )  # fmt: skip
    print(f"{failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
