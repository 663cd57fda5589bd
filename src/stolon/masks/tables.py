r"""Sums of many binary masks by look-up: a table of partial sums for each group of masks.

:math:`z_j = \sum_i \alpha_i M_{ij}` for m masks over n entries takes m n multiplications. But the K masks of a group
show at most :math:`2^K` *patterns* (their K bits at an entry), so the group's part of z is one look-up per entry in a
table of the patterns' sums: m n / K look-ups in total ("the method of four Russians", Arlazarov et al. 1970).
Backwards, :math:`\sum_j M_{ij} g_j`, the same in reverse: g is added into one bin per pattern, and bins become the
masks' sums.

Where layers have coefficients of their own, a layer is a *segment* of the entries, and a pattern is one of a segment.

An entry's look-up takes 0.6 to 0.9 ns forwards and 0.7 to 1.4 backwards (one core of an AMD EPYC, 250 masks of 266,200
entries), the more the larger the tables; a chain of additions to one bin is three times as slow. Tried on the same
patterns, and slower: sparse products of MKL and scipy, embedding bags, gather, take, bincount, index_add, and numpy's
take and add.at. Masks as bytes in torch's quantised embedding bags take 3.5 ms each way at any density, where tables
take 3.0 (density 0.05) to 5.4 (0.5): no gain up to a density of 0.1, about a fifth of a training step at 0.3,
for ten times the memory and operators that are not documented.
"""

from collections.abc import Sequence
from typing import Final, final

import torch
from torch import Tensor

from stolon.masks.held import Held, Plane


@final
class PatternTables(Held):
    """The fast form: groups of as many masks as pay, only patterns that occur, 16 bits per entry and group.

    A group grows as long as its look-ups per mask become fewer: one for each entry, and two for each pattern that
    occurs, since a pattern's sum is looked up in tables of the two halves of the group. So the sparser the masks are,
    or the more alike, the larger are the groups: about 14 masks at a density of one half, 24 at one tenth. Held are 2
    bytes for each group and entry, and 16 for each pattern.

    Frequent patterns come first, so that they share cache lines, and have several bins in turn: additions to one bin
    wait for each other.

    Args:
        plane: the masks.
        count: m, >= 1.
        lengths: of the segments, each >= 1; n in total.
        device: where the masks are.
    """

    def __init__(self, plane: Plane, count: int, lengths: Sequence[int], device: torch.device) -> None:
        self._count, self._segments = count, len(lengths)
        segment = torch.repeat_interleave(torch.tensor(lengths, device=device))
        groups = list[_Group]()
        while (first := sum(group.size for group in groups)) < count:
            groups.append(_group(plane, first, min(_GROUP, count - first), segment, len(lengths)))
        self._codes = [group.codes for group in groups]
        self._sizes = [len(group.patterns) for group in groups]
        self._firsts = [sum(group.size for group in groups[:i]) for i in range(len(groups))]
        self._half = max((group.size + 1) // 2 for group in groups)
        self._halves = torch.cat(
            [
                group.halves((2 * i * len(lengths)) << self._half, len(lengths), self._half)
                for i, group in enumerate(groups)
            ],
            1,
        )
        members = torch.full((len(groups), 2, self._half), count, device=device)  # m: a coefficient of zero
        for group, first, rows in zip(groups, self._firsts, members, strict=True):
            found = torch.arange(first, first + group.size, device=device)
            for row, part in zip(rows, found.tensor_split([(group.size + 1) // 2]), strict=True):
                row[: len(part)] = part
        self._members = members.flatten(0, 1)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(held.nbytes for held in (*self._codes, self._halves, self._members))

    def mix(self, alphas: Tensor) -> Tensor:
        """See :meth:`Held.mix`."""
        tables = [self._tables(alpha).split(self._sizes) for alpha in alphas]
        mixed = alphas.new_zeros(len(alphas), len(self._codes[0]))
        index = mixed.new_empty(mixed.shape[1], dtype=torch.int32)
        found = mixed.new_empty(mixed.shape[1])
        for group, codes in enumerate(self._codes):
            index.copy_(codes)
            for row, table in zip(mixed, tables, strict=True):
                row.add_(torch.index_select(table[group], 0, index, out=found))
        return mixed

    def project(self, g: Tensor) -> Tensor:
        """See :meth:`Held.project`."""
        bins = g.new_zeros(sum(self._sizes))
        index = torch.empty_like(g, dtype=torch.int64)
        for part, codes in zip(bins.split(self._sizes), self._codes, strict=True):
            part.scatter_add_(0, index.copy_(codes), g)
        halves = g.new_zeros(self._members.shape[0] * self._segments << self._half)
        for half in self._halves:
            halves.scatter_add_(0, half, bins)
        sums = sums_of_bits(halves.view(-1, self._segments, 1 << self._half)).transpose(1, 2)
        found = g.new_zeros(self._count + 1, self._segments)
        found[self._members] = sums  # what has no mask ends in the last row
        return found[:-1]

    def row(self, i: int) -> Tensor:
        """See :meth:`Held.row`."""
        group = max(k for k, first in enumerate(self._firsts) if first <= i)
        (where,) = torch.nonzero(self._members.flatten() == i).flatten().tolist()
        side, bit = where // self._half % 2, where % self._half
        patterns = self._halves[side].split(self._sizes)[group]
        found: Tensor = (patterns >> bit & 1).float()
        return found.index_select(0, self._codes[group].int())

    def _tables(self, alpha: Tensor) -> Tensor:
        """The sums of all groups' patterns for coefficients [m, S]."""
        padded = torch.cat([alpha, alpha.new_zeros(1, self._segments)])
        halves = subset_sums(padded[self._members].transpose(1, 2)).flatten()
        first, second = (halves.index_select(0, half) for half in self._halves)
        return first.add_(second)


_GROUP: Final = 24  # masks at most: tables of half groups stay in the first caches
_PATTERNS: Final = 65000  # that occur in a group, at most: 16 bits name them and their further bins
_PATIENCE: Final = 2  # masks that a group may grow without gain
_SHARE: Final = 16  # about one entry in so many at most has the same bin
_ODD, _PRIME = 40503, 65521  # a multiplicative hash


@final
class _Group:
    """Some masks next to each other.

    Args:
        size: K, how many.
        ids: which pattern each entry shows, int64 [n].
        patterns: the K bits of each, the first mask's lowest, int64 [D].
        owners: the segment that each is of, int64 [D].
    """

    def __init__(self, size: int, ids: Tensor, patterns: Tensor, owners: Tensor) -> None:
        n = len(ids)
        counts = torch.bincount(ids, minlength=len(patterns))
        # equally frequent ones in no order: in theirs, runs of them have the same half, and wait for each other
        order = (patterns * _ODD % _PRIME).argsort()
        order = order[counts[order].argsort(descending=True, stable=True)]
        bins = (counts[order] * _SHARE + n - 1) // n
        starts = torch.empty_like(order)
        starts[order] = bins.cumsum(0) - bins
        turns = torch.empty_like(order)
        turns[order] = bins
        turn = torch.arange(n, device=ids.device) % turns[ids]
        self.size = size
        self.codes = (starts[ids] + turn).to(torch.uint16)
        self.patterns = patterns[order].repeat_interleave(bins)
        self.owners = owners[order].repeat_interleave(bins)

    def halves(self, start: int, segments: int, half: int) -> Tensor:
        """Where the sums of each pattern's two halves are, [2, D], in tables [2, S, 2^half] that start at ``start``."""
        middle = (self.size + 1) // 2
        first = start + (self.owners << half) + (self.patterns & ((1 << middle) - 1))
        second = start + ((self.owners + segments) << half) + (self.patterns >> middle)
        return torch.stack([first, second])


def _group(plane: Plane, first: int, most: int, segment: Tensor, segments: int) -> _Group:
    """The group of masks from ``first`` on whose look-ups per mask are fewest."""
    ids = segment
    patterns, owners = torch.zeros_like(ids[:1]).expand(segments), torch.arange(segments, device=ids.device)
    best, least = (0, ids, patterns, owners), float("inf")
    for size in range(1, most + 1):
        joined = 2 * ids + plane(first + size - 1)
        occurs = torch.bincount(joined, minlength=2 * len(patterns)) > 0
        kept = occurs.nonzero().flatten()
        if len(kept) > _PATTERNS and size > 1:
            break
        ids = (occurs.cumsum(0) - 1)[joined]
        patterns, owners = patterns[kept >> 1] | (kept & 1) << (size - 1), owners[kept >> 1]
        cost = (len(ids) + 2 * len(patterns)) / size
        if cost < least:
            best, least = (size, ids, patterns, owners), cost
        elif size > best[0] + _PATIENCE:
            break
    return _Group(*best)


@final
class ByteTables(Held):
    """The small form: one bit per entry and mask, eight masks to a byte, and a table of all 256 patterns.

    Args:
        plane: the masks.
        count: m, >= 1.
        lengths: of the segments, each >= 1; n in total.
        device: where the masks are.
    """

    def __init__(self, plane: Plane, count: int, lengths: Sequence[int], device: torch.device) -> None:
        self._count, self._lengths = count, list(lengths)
        self._codes = torch.zeros(-(-count // 8), sum(lengths), dtype=torch.uint8, device=device)
        for i in range(count):
            self._codes[i // 8] |= plane(i).byte() << i % 8

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._codes.nbytes

    def mix(self, alphas: Tensor) -> Tensor:
        """See :meth:`Held.mix`."""
        padded = alphas.new_zeros(len(alphas), 8 * len(self._codes), len(self._lengths))
        padded[:, : self._count] = alphas
        tables = subset_sums(padded.unflatten(1, (-1, 8)).transpose(2, 3))  # [T, groups, S, 256]
        mixed = alphas.new_zeros(len(alphas), self._codes.shape[1])
        index = mixed.new_empty(mixed.shape[1], dtype=torch.int32)
        found = mixed.new_empty(mixed.shape[1])
        for group, codes in enumerate(self._codes):
            index.copy_(codes)
            for row, table in zip(mixed, tables[:, group], strict=True):
                for part, where, sums in zip(
                    found.split(self._lengths), index.split(self._lengths), table, strict=True
                ):
                    torch.index_select(sums, 0, where, out=part)
                row.add_(found)
        return mixed

    def project(self, g: Tensor) -> Tensor:
        """See :meth:`Held.project`."""
        bins = g.new_zeros(len(self._codes), len(self._lengths), 256)
        index = torch.empty_like(g, dtype=torch.int64)
        parts, places = g.split(self._lengths), index.split(self._lengths)
        for codes, rows in zip(self._codes, bins, strict=True):
            index.copy_(codes)
            for row, where, part in zip(rows, places, parts, strict=True):
                row.scatter_add_(0, where, part)
        return sums_of_bits(bins).transpose(1, 2).flatten(0, 1)[: self._count]

    def row(self, i: int) -> Tensor:
        """See :meth:`Held.row`."""
        return (self._codes[i // 8] >> i % 8 & 1).float()


def subset_sums(values: Tensor) -> Tensor:
    """The sum of each subset of the last axis, [..., h] to [..., 2^h]; bit b of a place says that b is in its subset.

    Additions only, so that a subset of one has exactly its value, whatever precision products are set to.

    Example:
        >>> subset_sums(torch.tensor([1.0, 10.0]))
        tensor([ 0.,  1., 10., 11.])
    """
    table = values.new_zeros(*values.shape[:-1], 1 << values.shape[-1])
    for b in range(values.shape[-1]):
        size = 1 << b
        torch.add(table[..., :size], values[..., b : b + 1], out=table[..., size : 2 * size])
    return table


def sums_of_bits(bins: Tensor) -> Tensor:
    """For each bit the sum of the places that have it, [..., 2^h] to [..., h]: :func:`subset_sums` backwards.

    Example:
        >>> sums_of_bits(torch.tensor([5.0, 1.0, 10.0, 100.0]))
        tensor([101., 110.])
    """
    found = list[Tensor]()
    while (size := bins.shape[-1] // 2) > 0:
        lower, upper = bins.split(size, -1)
        found.append(upper.sum(-1))
        bins = lower + upper
    return torch.stack(found[::-1], -1)
