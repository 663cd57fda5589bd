"""The short version of benchmarks/module_mutations.py: a few thousand broken modules and messages."""

import random

import pytest
from benchmarks import module_mutations, mutations

from stolon.sharing import module


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    return module_mutations.run(tmp_path_factory.mktemp("mutations") / "bank", 1500, seed=3)


def test_what_is_broken_below_is_good_before():
    for kind in module_mutations.KINDS:
        for precision in module_mutations.PRECISIONS:
            start = mutations.good(kind, precision)
            assert module.unpack(start.file, mutations.LISTED, backbone=mutations.BACKBONE).task == "leaves"
            assert module.unpack(mutations.retold(start, "again"), mutations.LISTED).task == "again"


def test_none_is_accepted_none_raises_and_each_refusal_has_a_code(ended):
    rows, _ = ended
    assert sum(row["trials"] for row in rows) > 3000
    for row in rows:
        assert (row["accepted"], row["untyped"]) == (0, 0), row


def test_the_bank_is_as_it_was(ended):
    _, unchanged = ended
    assert unchanged


def test_none_takes_long(ended):
    rows, _ = ended
    assert max(row["slowest_ms"] for row in rows) < module_mutations.MOST_MS


def test_every_way_of_breaking_reaches_the_checks_that_it_is_meant_for(ended):
    codes = {row["kind"]: set(row["codes"]) for row in ended[0]}
    assert {"malformed", "bad-signature"} <= codes["module: bytes"]
    assert {"malformed", "missing-blob"} <= codes["module: frame"]
    assert {"bad-signature", "unknown-author", "author-mismatch", "wrong-type"} <= codes["module: envelope"]
    assert {"bad-manifest", "unsupported", "bad-knowledge"} <= codes["module: signed manifest"]
    assert {"bad-blob", "wrong-tensors", "wrong-hash", "bad-manifest"} <= codes["module: signed blob"]
    assert {"bad-knowledge", "not-finite"} <= codes["module: signed numbers"]
    assert {"no commit"} <= codes["engine: reply"]


def test_changing_bytes_always_changes_them():
    rng = random.Random(0)
    for start in (b"", b"a", b"abc"):
        assert all(mutations.any_bytes(rng, start, b"x") not in (start, b"x") for _ in range(200))
