"""Row maps of some output rows, with what it takes to line them up again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from relann.algebra.engines.protocol import Ints
from relann.algebra.plan import Stack
from relann.algebra.rowmaps import RowMaps


@dataclass(frozen=True)
class Slice:
    """Part of row maps.

    maps    the rows needed; `maps.kept` are their numbers in the whole
    rows    which rows of the part's output were asked for (None: all); partitions stay whole, so
            there may be others
    stacks  Stack space → for each row its place among all rows of the parts, one part after the
            other; a stack that is not here has exactly its parts' rows
    """

    maps: RowMaps
    rows: Ints | None = None
    stacks: Mapping[int, Ints] = field(default_factory=dict)


def cut(maps: RowMaps, rows: Ints) -> Slice:
    """The part of whole row maps that the given output rows need (distinct, ascending)."""
    part = replace(maps, kept={}).restrict(rows)
    output = part.kept[maps.plan.output]
    asked = None if len(output) == len(rows) else np.searchsorted(output, rows)
    stacks = {
        number: _places(maps, part, number, space.parts)
        for number, space in enumerate(maps.plan.spaces)
        if isinstance(space, Stack)
        and part.counts[number] != sum(part.counts[p] for p in space.parts)
    }
    return Slice(part, asked, stacks)


def _places(maps: RowMaps, part: RowMaps, stack: int, parts: tuple[int, ...]) -> Ints:
    """Places of a stack's kept rows among the kept rows of its parts, which others need too."""
    found, begin, before = [], 0, 0
    rows = part.kept[stack]
    for space in parts:
        inside = rows[(rows >= begin) & (rows < begin + maps.counts[space])] - begin
        found.append(before + np.searchsorted(part.kept[space], inside))
        begin += maps.counts[space]
        before += part.counts[space]
    return np.concatenate(found)
