"""Tries of relations: the distinct prefixes of sorted tuples, level by level in CSR form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relann.algebra.engines.generic_join.domains import Codes
from relann.algebra.engines.generic_join.loops import sort_by


@dataclass(frozen=True, eq=False)
class Trie:
    """A relation's tuples as a tree.

    Level i holds in `values[i]` the values of its nodes, siblings ascending; the children of node k
    of level i are the nodes `children[i][k]` up to `children[i][k + 1]` of the next level.
    """

    values: tuple[Codes, ...]
    children: tuple[Codes, ...]

    def columns(self) -> list[Codes]:
        """The tuples in order, a column for each level."""
        columns = [self.values[-1]]
        times = np.ones(len(columns[0]), dtype=np.int32)
        for values, children in zip(self.values[-2::-1], self.children[::-1], strict=True):
            ends = np.append(0, np.cumsum(times))[children]
            times = np.diff(ends)
            columns.append(np.repeat(values, times))
        return columns[::-1]


def trie(columns: Sequence[Codes], sizes: Sequence[int], numbers: Codes | None = None) -> Trie:
    """The trie of the distinct rows of columns of codes, each below its size.

    With `numbers`, ascending, one for each row, it is that of all rows, these as a last level.
    """
    if numbers is not None:
        columns = [*columns, numbers]
        sizes = [*sizes, int(numbers[-1]) + 1 if len(numbers) else 0]
    return trie_of_sorted(sorted_rows(columns, sizes))


def trie_of_sorted(columns: Sequence[Codes]) -> Trie:
    """The trie of the distinct rows of columns that are sorted, the first most significant."""
    new = np.zeros(len(columns[0]), dtype=bool)
    new[:1] = True
    values, children = [], []
    before = None
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
        starts = np.flatnonzero(new)
        values.append(column[starts])
        if before is not None:
            rank = np.cumsum(new, dtype=np.int32)
            children.append(np.append(rank[before] - 1, len(starts)).astype(np.int32))
        before = starts
    return Trie(tuple(values), tuple(children))


def sorted_rows(columns: Sequence[Codes], sizes: Sequence[int]) -> list[Codes]:
    """The rows in ascending order, the first column most significant."""
    order: Codes = np.arange(len(columns[0]), dtype=np.int32)
    for column, size in zip(reversed(columns), reversed(sizes), strict=True):
        if size > _SPARSE * len(order):
            order = order[np.argsort(column[order], kind="stable")]
            continue
        into = np.empty_like(order)
        sort_by(column, order, np.zeros(size, dtype=np.int32), into)
        order = into
    return [column[order] for column in columns]


_SPARSE = 16  # codes for each row, above which they are compared rather than counted
