"""The parts of the tables that forms of masks do not show."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.masks.test_mixing import assert_mix, assert_project, normal, random_masks

from stolon.masks import tables
from stolon.masks.tables import ByteTables, PatternTables, subset_sums, sums_of_bits

CPU = torch.device("cpu")


@settings(max_examples=30)
@given(st.integers(1, 8), st.integers(0, 99))
def test_sums_of_subsets_and_back(h, seed):
    values, bins = normal(2, h, seed=seed).double(), normal(2, 1 << h, seed=seed + 1).double()
    bits = torch.tensor([[place >> b & 1 for b in range(h)] for place in range(1 << h)]).double()
    torch.testing.assert_close(subset_sums(values), values @ bits.T)
    torch.testing.assert_close(sums_of_bits(bins), bins @ bits)


def test_a_frequent_pattern_has_several_bins_in_turn():
    masks = random_masks(16, 4000, 0.02)  # 72 % of the entries have no mask
    held = PatternTables(lambda i: masks[i], 16, [4000], CPU)
    used = [torch.bincount(codes.long()) for codes in held._codes]
    assert max(int(counts.max()) for counts in used) <= 1.2 * 4000 / tables._SHARE


def test_groups_are_larger_where_masks_are_sparse_or_alike():
    def groups(masks):
        return len(PatternTables(lambda i: masks[i], len(masks), [masks.shape[1]], CPU)._codes)

    alike = random_masks(6, 20_000, 0.5).repeat_interleave(10, 0)
    assert groups(random_masks(60, 20_000, 0.05)) < groups(random_masks(60, 20_000, 0.5))
    assert groups(alike) == 3  # of 24 masks at most


@pytest.mark.parametrize("most", [1, 3, 40])
def test_groups_end_where_16_bits_would_not_name_their_patterns(most, monkeypatch):
    monkeypatch.setattr(tables, "_PATTERNS", most)
    masks, alpha, g = random_masks(30, 900, 0.3), normal(30), normal(900)
    held = PatternTables(lambda i: masks[i], 30, [900], CPU)
    assert max(held._sizes) <= max(most, 2) + tables._SHARE
    assert_mix(held.mix(alpha[None, :, None])[0], masks, alpha)
    assert_project(held.project(g)[:, 0], masks, g)


@pytest.mark.parametrize("kind", [PatternTables, ByteTables])
def test_segments_have_sums_of_their_own(kind):
    lengths, masks = [700, 1, 299], random_masks(20, 1000, 0.2)
    held = kind(lambda i: masks[i], 20, lengths, CPU)
    alpha, g = normal(20, 3), normal(1000)
    mixed, projected = held.mix(alpha[None])[0], held.project(g)
    for k, (part, z, h) in enumerate(
        zip(masks.split(lengths, 1), mixed.split(lengths), g.split(lengths), strict=True)
    ):
        assert_mix(z, part, alpha[:, k])
        assert_project(projected[:, k], part, h)
