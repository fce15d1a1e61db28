"""Row maps: which input rows made each output row, as integer arrays built once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from relann.algebra.engines.protocol import Engine, Ints
from relann.algebra.nodes import Aggregate, Join, Node, Query
from relann.algebra.plan import (
    Groups,
    Held,
    Partition,
    Plan,
    ProductSum,
    Rows,
    SegmentReduce,
    SparseProduct,
    Stack,
    Step,
    gathers,
)
from relann.algebra.refine import refine
from relann.algebra.terms import Content, Term

PartitionKey = tuple[int, tuple[Content, ...], tuple[Content, ...], tuple[tuple[bool, bool], ...]]


@dataclass(frozen=True)
class Partitions:
    """Which partition each row of a space is in, and for ordered windows where.

    `position` counts from 0 inside the partition, ties broken anyhow; `upto` is how many of the
    partition's rows, in that order, a running window of the row covers (its peers included).
    """

    ids: Ints
    count: int
    position: Ints | None = None
    upto: Ints | None = None


@dataclass
class RowMaps:
    """The data of a plan: everything that depends on rows and not on weights.

    counts       rows of each space
    gathers      (space, via) → for each row the row of the space gathered from, −1: none
    groups       Groups space → for each row of its source the group's row
    partitions   partition_key(step) → Partitions
    columns      (space, content) → its values, an Arrow array in row order
    kept         after `restrict`: for each space the numbers its rows had before
    """

    plan: Plan
    counts: dict[int, int] = field(default_factory=dict)
    gathers: dict[tuple[int, Content], Ints] = field(default_factory=dict)
    groups: dict[int, Ints] = field(default_factory=dict)
    partitions: dict[PartitionKey, Partitions] = field(default_factory=dict)
    columns: dict[tuple[int, Content], pa.Array] = field(default_factory=dict)
    kept: dict[int, Ints] = field(default_factory=dict)

    def restrict(self, rows: Ints) -> RowMaps:
        """The maps of the given output rows (distinct, ascending) and all they need, renumbered.

        Groups keep all their rows and partitions stay whole, so every value the given rows
        have is the one they have in the full maps.
        """
        demand = _demand(self, rows)
        fresh = {s: _renumbering(self.counts[s], d) for s, d in demand.items()}
        out = RowMaps(self.plan)
        for space, kept in demand.items():
            out.counts[space] = len(kept)
            out.kept[space] = self.kept[space][kept] if space in self.kept else kept
        for (space, via), index in self.gathers.items():
            origin = self.plan.gathered[space, via]
            picked = index[demand[space]]
            out.gathers[space, via] = _renumber(picked, fresh[origin])
        for space, ids in self.groups.items():
            source = _groups(self.plan, space).source
            out.groups[space] = _renumber(ids[demand[source]], fresh[space])
        for key, parts in self.partitions.items():
            out.partitions[key] = _restrict_partitions(parts, demand[key[0]])
        for (space, content), values in self.columns.items():
            whole = len(demand[space]) == self.counts[space]
            out.columns[space, content] = values if whole else values.take(pa.array(demand[space]))
        return out

    def nbytes(self) -> int:
        """Bytes held by maps and columns."""
        arrays = [*self.gathers.values(), *self.groups.values()]
        for p in self.partitions.values():
            arrays += [a for a in (p.ids, p.position, p.upto) if a is not None]
        return int(sum(a.nbytes for a in arrays) + sum(c.nbytes for c in self.columns.values()))


def partition_key(step: Step) -> PartitionKey:
    """Under which key `RowMaps.partitions` holds the partitions of a Partition step."""
    operation = step.operation
    assert isinstance(operation, Partition)
    directions = tuple((desc, first) for _, desc, first in operation.over.order)
    return (step.space, operation.partition, operation.order, directions)


def read_contents(step: Step, plan: Plan) -> Iterator[tuple[int, Content]]:
    """(space, content) of the columns whose values a step reads every epoch or at fitting."""
    match step.operation:
        case Term() as term:
            for content in term.contents:
                yield step.space, content
        case SegmentReduce(source, _, Content() as where):
            yield plan.steps[source].space, where
        case SparseProduct(where=Content() as where) | ProductSum(where=Content() as where):
            yield plan.rows_of(step), where


def build(plan: Plan, engine: Engine) -> RowMaps:
    """The row maps of a plan: one pass over its spaces, then the columns its steps read.

    Their own `plan` is the one to run: its steps are where they have the fewest rows (`refine`).
    """
    maps, _ = extended(RowMaps(plan), {}, range(len(plan.spaces)), engine)
    return running(maps, refine(plan, maps.counts))


def extended(
    maps: RowMaps, held: Mapping[int, object], spaces: Collection[int], engine: Engine
) -> tuple[RowMaps, dict[int, object]]:
    """The row maps of the plan as it was lowered with further spaces, and the relation of each.

    `held` are the relations of the spaces that `maps` has. What both are made of stays as it is.
    """
    out = RowMaps(
        maps.plan, dict(maps.counts), dict(maps.gathers), dict(maps.groups), dict(maps.partitions),
        dict(maps.columns),
    )  # fmt: skip
    found = dict(held)
    with engine.sharing(_read_twice(maps.plan, spaces)):
        _number(out, found, spaces, engine)
    _read(out, found, spaces, engine)
    return out, found


def _number(
    maps: RowMaps, held: dict[int, object], spaces: Collection[int], engine: Engine
) -> None:
    """Add the relation of each space."""
    for number in sorted(spaces):
        match maps.plan.spaces[number]:
            case Rows(node, columns, order):
                held[number] = engine.rows(node, columns, order, held)
            case Groups(source, keys, aggregates):
                relation, ids = engine.groups(held[source], keys, dict(aggregates))
                held[number], maps.groups[number] = relation, ids
            case Stack(parts, names, columns_of):
                pairs = [(held[p], c) for p, c in zip(parts, columns_of, strict=True)]
                held[number] = engine.stack(pairs, names)
        maps.counts[number] = held[number].count  # type: ignore[attr-defined]


def _read_twice(plan: Plan, spaces: Collection[int]) -> list[Node]:
    """The content queries worth keeping: they join or group, and several of the spaces read them.

    Of these only the largest, those that are not part of one that is read just as often.
    """
    readers: Counter[Node] = Counter()
    closed: dict[Node, bool] = {}
    order: dict[Node, None] = {}
    for number in sorted(spaces):
        if isinstance(space := plan.spaces[number], Rows):
            for node in space.node.walk():
                order[node] = None
                readers[node] += 1
                closed[node] = not isinstance(node, Held) and all(closed[s] for s in node.sources)
    kept = [n for n in order if readers[n] > 1 and closed[n] and _is_work(n)]
    parents = {s: p for p in order for s in p.sources if readers[p] == readers[s]}
    return [n for n in kept if n not in parents or not closed[parents[n]]]


def _is_work(node: Node) -> bool:
    """Whether a node's rows cost more to find than to keep."""
    match node:
        case Join() | Aggregate():
            return True
        case Query(sql):
            return _WORK.search(sql) is not None
    return any(_is_work(source) for source in node.sources)


_WORK = re.compile(r"\b(JOIN|GROUP BY|DISTINCT|OVER|UNION|RECURSIVE)\b")


def running(maps: RowMaps, plan: Plan) -> RowMaps:
    """The maps of a refined plan, without what it does not read."""
    vias = {(plan.rows_of(step), via) for step in plan.steps for _, via in gathers(step)}
    kept = {key: rows for key, rows in maps.gathers.items() if key in vias}
    return replace(maps, plan=plan, gathers=kept)


def _read(
    maps: RowMaps, held: Mapping[int, object], spaces: Collection[int], engine: Engine
) -> None:
    """Fetch every array the steps and the output need of some spaces, one call for each space."""
    plan = maps.plan
    vias: dict[int, dict[Content, None]] = {}
    reads: dict[int, dict[Content, None]] = {}
    for step in plan.steps:
        for space, content in read_contents(step, plan):
            reads.setdefault(space, {})[content] = None
        for _, via in gathers(step):
            vias.setdefault(plan.rows_of(step), {})[via] = None
        if isinstance(step.operation, Partition) and step.space in spaces:
            key = partition_key(step)
            maps.partitions[key] = _partitions(step, engine, held[step.space])
    for _, content in plan.contents:
        reads.setdefault(plan.output, {})[content] = None
    for space in sorted({*vias, *reads} & set(spaces)):
        wanted = list(vias.get(space, {})) + list(reads.get(space, {}))
        values = engine.arrays(held[space], wanted)
        for content, array in zip(wanted, values, strict=True):
            if content in vias.get(space, {}):
                maps.gathers[space, content] = _row_numbers(array)
            else:
                maps.columns[space, content] = array


def _row_numbers(array: pa.Array) -> Ints:
    if array.null_count:
        array = array.fill_null(-1)
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _partitions(step: Step, engine: Engine, relation: object) -> Partitions:
    operation = step.operation
    assert isinstance(operation, Partition)
    keys = [c.sql for c in operation.partition]
    names = [f"p{i}" for i in range(len(keys))]
    keyed = engine.stack([(relation, operation.partition)], names)
    groups, ids = engine.groups(keyed, names, {})
    if not operation.order:
        return Partitions(ids, groups.count)
    order = ", ".join(
        f"{c.sql} {'DESC' if desc else 'ASC'} NULLS {'FIRST' if first else 'LAST'}"
        for c, (_, desc, first) in zip(operation.order, operation.over.order, strict=True)
    )
    over = (f"PARTITION BY {', '.join(keys)} " if keys else "") + f"ORDER BY {order}"
    position, upto = engine.arrays(
        relation,
        [
            Content(f"row_number() OVER ({over}) - 1", "BIGINT"),
            Content(f"count(*) OVER ({over})", "BIGINT"),
        ],
    )
    return Partitions(ids, groups.count, _row_numbers(position), _row_numbers(upto))


def _groups(plan: Plan, space: int) -> Groups:
    groups = plan.spaces[space]
    assert isinstance(groups, Groups)
    return groups


def _demand(maps: RowMaps, rows: Ints) -> dict[int, Ints]:
    """For each space the rows needed, ascending; spaces are visited after all that read them."""
    plan = maps.plan
    wanted: dict[int, list[Ints]] = {plan.output: [rows]}
    demand: dict[int, Ints] = {}
    for space in range(len(plan.spaces) - 1, -1, -1):
        mine = _merged(wanted.get(space, []), maps.counts[space])
        for key, split in maps.partitions.items():
            if key[0] == space and len(mine) < maps.counts[space]:
                mine = np.flatnonzero(_mark(split.ids[mine], split.count)[split.ids])
        demand[space] = mine
        for (of, via), index in maps.gathers.items():
            if of == space:
                picked = index[mine]
                origin = plan.gathered[space, via]
                wanted.setdefault(origin, []).append(picked[picked >= 0])
        match plan.spaces[space]:
            case Groups(source):
                chosen = _mark(mine, maps.counts[space])
                wanted.setdefault(source, []).append(np.flatnonzero(chosen[maps.groups[space]]))
            case Stack(parts):
                start = 0
                for part in parts:
                    stop = start + maps.counts[part]
                    inside = mine[(mine >= start) & (mine < stop)] - start
                    wanted.setdefault(part, []).append(inside)
                    start = stop
    return demand


def _mark(rows: Ints, count: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros(count, dtype=bool)
    mask[rows] = True
    return mask


def _merged(parts: list[Ints], count: int) -> Ints:
    if not parts:
        return np.empty(0, dtype=np.int64)
    mask = np.zeros(count, dtype=bool)
    for part in parts:
        mask[part] = True
    return np.flatnonzero(mask)


def _renumbering(count: int, kept: Ints) -> Ints:
    fresh: Ints = np.full(count + 1, -1, dtype=np.int32 if count < 2**31 else np.int64)
    fresh[kept] = np.arange(len(kept))
    return fresh  # the last entry stands for −1: no row


def _renumber(index: Ints, fresh: Ints) -> Ints:
    return fresh[index]


def _restrict_partitions(parts: Partitions, kept: Ints) -> Partitions:
    if len(kept) == len(parts.ids):
        return parts
    values, ids = np.unique(parts.ids[kept], return_inverse=True)
    pick = [None if a is None else a[kept] for a in (parts.position, parts.upto)]
    return Partitions(ids, len(values), *pick)
