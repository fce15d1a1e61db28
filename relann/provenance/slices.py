"""Row maps as tensors, and those of some output rows; all of it on the device the maps are on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

import pyarrow as pa
import torch
from torch import Tensor

from relann.algebra.engines.protocol import Numbers
from relann.algebra.plan import Groups, Plan, Stack
from relann.algebra.refine import refine
from relann.algebra.rowmaps import Partitions, RowMaps, running
from relann.provenance.arrays import host, mark_rows, places, present, renumbering, shared
from relann.provenance.devices import CPU


@dataclass(frozen=True)
class Slice:
    """Part of row maps, as tensors.

    maps    the rows needed; `maps.kept` are their numbers in the whole
    rows    which rows of the part's output were asked for (None: all); partitions stay whole, so
            there may be others
    stacks  Stack space → for each row its place among all rows of the parts, one part after the
            other; a stack that is not here has exactly its parts' rows
    """

    maps: RowMaps
    rows: Tensor | None = None
    stacks: Mapping[int, Tensor] = field(default_factory=dict)

    def running(self, plan: Plan | None = None) -> Slice:
        """The same with the steps of a plan, by default each where it has the fewest rows.

        A product of all posts may be cheaper than one for each seed, and the other way round for
        the posts of 512 seeds. Predictions do without: there the bits of a row do not depend on
        which others are asked for.
        """
        settled = refine(self.maps.plan, self.maps.counts) if plan is None else plan
        return replace(self, maps=running(self.maps, settled))


def placed(maps: RowMaps, device: torch.device | None = None) -> RowMaps:
    """The same maps as tensors on a device: on the memory they have if they are there already.

    None: where they are.
    """

    def there(numbers: Numbers) -> Tensor:
        found = shared(numbers)
        return found if device is None else found.to(device)

    return replace(
        maps,
        gathers={key: there(rows) for key, rows in maps.gathers.items()},
        groups={space: there(ids) for space, ids in maps.groups.items()},
        partitions={key: _each(parts, there) for key, parts in maps.partitions.items()},
        kept={space: there(rows) for space, rows in maps.kept.items()},
    )


def _each(parts: Partitions, how: Callable[[Tensor], Tensor]) -> Partitions:
    position, upto = (None if a is None else how(a) for a in (parts.position, parts.upto))
    return replace(parts, ids=how(parts.ids), position=position, upto=upto)


def cut(maps: RowMaps, rows: Numbers) -> Slice:
    """The part of whole row maps that the given output rows need (distinct, ascending)."""
    whole = placed(maps)
    wanted = shared(rows).to(_device(whole))
    part = restricted(whole, wanted)
    output = part.kept[maps.plan.output]
    asked = None if len(output) == len(wanted) else torch.searchsorted(output, wanted)
    stacks = {
        number: _places(whole, part, number, space.parts)
        for number, space in enumerate(maps.plan.spaces)
        if isinstance(space, Stack)
        and part.counts[number] != sum(part.counts[p] for p in space.parts)
    }
    return Slice(part, asked, stacks)


def _device(maps: RowMaps) -> torch.device:
    """Where maps are; the CPU if there are none."""
    ids = (parts.ids for parts in maps.partitions.values())
    found = next(chain(maps.gathers.values(), maps.groups.values(), ids), None)
    return CPU if found is None else found.device


def _places(maps: RowMaps, part: RowMaps, stack: int, parts: tuple[int, ...]) -> Tensor:
    """Places of a stack's kept rows among the kept rows of its parts, which others need too."""
    found, begin, before = [], 0, 0
    rows = part.kept[stack]
    for space in parts:
        end = begin + maps.counts[space]
        inside = rows.index_select(0, places((rows >= begin) & (rows < end))) - begin
        found.append(before + torch.searchsorted(part.kept[space], inside))
        begin, before = end, before + part.counts[space]
    return torch.cat(found)


# -- following rows down ---------------------------------------------------------------------------


def restricted(maps: RowMaps, rows: Tensor) -> RowMaps:
    """The maps of the given output rows (distinct, ascending) and all they need, renumbered.

    Groups keep all their rows and partitions stay whole, so every value the given rows have is the
    one they have in the full maps.
    """
    demand = _demand(maps, rows)
    whole = {space for space, kept in demand.items() if len(kept) == maps.counts[space]}
    fresh = {s: renumbering(maps.counts[s], d) for s, d in demand.items() if s not in whole}

    def picked(numbers: Tensor, space: int) -> Tensor:
        return numbers if space in whole else numbers.index_select(0, demand[space])

    def renumbered(numbers: Tensor, space: int) -> Tensor:
        return numbers if space in whole else fresh[space].index_select(0, numbers + 1)

    def columns(values: pa.Array, space: int) -> pa.Array:
        return values if space in whole else values.take(pa.array(host(demand[space])))

    return replace(
        maps,
        counts={space: len(kept) for space, kept in demand.items()},
        gathers={
            (space, via): renumbered(picked(index, space), maps.plan.gathered[space, via])
            for (space, via), index in maps.gathers.items()
        },
        groups={
            space: renumbered(picked(ids, _source(maps, space)), space)
            for space, ids in maps.groups.items()
        },
        partitions={
            key: parts if len(demand[key[0]]) == len(parts.ids) else _kept(parts, demand[key[0]])
            for key, parts in maps.partitions.items()
        },
        columns={
            (space, content): columns(values, space)
            for (space, content), values in maps.columns.items()
        },
        kept=demand,
    )


def _source(maps: RowMaps, space: int) -> int:
    groups = maps.plan.spaces[space]
    assert isinstance(groups, Groups)
    return groups.source


def _demand(maps: RowMaps, rows: Tensor) -> dict[int, Tensor]:
    """For each space the rows needed, ascending; spaces are visited after all that read them."""
    plan, device = maps.plan, rows.device
    # one place more for −1, which stands for none
    wanted = {
        space: torch.zeros(count + 1, dtype=torch.bool, device=device)
        for space, count in maps.counts.items()
    }
    wanted[plan.output][rows] = True
    demand: dict[int, Tensor] = {}
    for space in range(len(plan.spaces) - 1, -1, -1):
        mark, count = wanted[space][:-1], maps.counts[space]
        mine = places(mark)
        for (of, *_), parts in maps.partitions.items():
            if of == space and len(mine) < count:
                mark = present(parts.ids.index_select(0, mine), parts.count)
                mark = mark.index_select(0, parts.ids)
                mine = places(mark)
        demand[space] = mine
        for (of, via), index in maps.gathers.items():
            if of == space:
                picked = index if len(mine) == count else index.index_select(0, mine)
                mark_rows(wanted[plan.gathered[space, via]], picked)
        match plan.spaces[space]:
            case Groups(source):
                if len(mine) == count:
                    wanted[source][:-1] = True  # every row has a group
                else:
                    wanted[source][:-1] |= mark.index_select(0, maps.groups[space])
            case Stack(stacked):
                start = 0
                for part in stacked:
                    stop = start + maps.counts[part]
                    wanted[part][:-1] |= mark[start:stop]
                    start = stop
    return demand


def _kept(parts: Partitions, rows: Tensor) -> Partitions:
    """The partitions of some rows, numbered anew."""
    picked = _each(parts, lambda numbers: numbers.index_select(0, rows))
    met = present(picked.ids, parts.count)
    number = met.cumsum(0) - 1
    return replace(picked, ids=number.index_select(0, picked.ids), count=int(met.sum()))
