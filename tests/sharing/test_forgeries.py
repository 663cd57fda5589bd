"""The short version of benchmarks/forgeries.py: every named forgery, every bit of every envelope, some replays."""

from dataclasses import replace

import pytest
from benchmarks import forgeries as bench
from benchmarks.forged import Forgery, forgeries, good

from stolon.sharing.codes import Refused

NAMED = list(forgeries())


@pytest.mark.parametrize("forgery", NAMED, ids=lambda one: f"{one.name}: {one.variant}")
def test_every_forgery_is_refused_with_its_code(forgery):
    decided = forgery.decide()
    assert isinstance(decided, Refused)
    assert decided.code is forgery.expected


def test_all_that_the_design_names_are_among_them():
    assert {forgery.name for forgery in NAMED} == {
        "unlisted",
        "revoked",
        "author is not the signer",
        "swapped type",
        "swapped blobs",
        "other backbone",
        "duplicate JSON keys",
        "small-order key",
        "malleated S",
        "old trust version",
        "old root",
        "cross-type replay",
    }


@pytest.mark.parametrize("kind", ["item", "file", "word", "trust"])
def test_what_they_are_made_from_is_accepted(kind):
    assert not isinstance(good(kind).decide(), Refused)


def test_every_flipped_bit_of_a_small_envelope_is_refused_by_a_code_that_fits_its_place():
    word = good("word")
    flips = bench.flip_each(
        word.data,
        bench.places(word.data),
        range(8 * len(word.data)),
        lambda data: replace(word, data=data).decide(),
    )
    assert flips.refused == flips.bits > 4000
    assert flips.unexpected == 0, flips.codes


def test_flipped_bits_of_every_kind_are_refused_by_a_code_that_fits_their_place():
    for name, one in bench.flip_all(Forgery.decide, blob_flips=100, step=7).items():
        assert one.refused == one.bits > 10, name
        assert one.unexpected == 0, one.codes


def test_forgeries_and_flips_change_nothing_in_a_bank(tmp_path):
    given, wrong = bench.give_forgeries(tmp_path / "forgeries")
    assert given >= 40
    assert wrong == 0
    flips, same = bench.give_flips(tmp_path / "flips", blob_flips=20, step=61)
    assert same
    assert sum(one.unexpected for one in flips.values()) == 0


def test_replays_change_nothing_in_a_bank(tmp_path):
    for name, one in bench.replay(tmp_path, times=20).items():
        assert one["bank_unchanged"], name
        assert one["otherwise_decided"] == 0, name
