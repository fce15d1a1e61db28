"""Row maps: which input rows made each output row, as integer arrays built once.

The arrays are the engine's and lie where it works. This module moves none and computes with none,
but keeps equal ones of numpy once: what cuts and binds them, `relann.provenance`, reads them there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from relann.algebra.engines.protocol import Engine, Numbers
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

K = TypeVar("K")
PartitionKey = tuple[int, tuple[Content, ...], tuple[Content, ...], tuple[tuple[bool, bool], ...]]


@dataclass(frozen=True)
class Partitions:
    """Which partition each row of a space is in, and for ordered windows where.

    `position` counts from 0 inside the partition, ties broken anyhow; `upto` is how many of the
    partition's rows, in that order, a running window of the row covers (its peers included).
    """

    ids: Numbers
    count: int
    position: Numbers | None = None
    upto: Numbers | None = None


@dataclass
class RowMaps:
    """The data of a plan: everything that depends on rows and not on weights.

    counts       rows of each space
    gathers      (space, via) → for each row the row of the space gathered from, −1: none
    groups       Groups space → for each row of its source the group's row
    partitions   partition_key(step) → Partitions
    columns      (space, content) → its values, an Arrow array in row order
    kept         of a part: for each space the numbers its rows had in the whole
    """

    plan: Plan
    counts: dict[int, int] = field(default_factory=dict)
    gathers: dict[tuple[int, Content], Numbers] = field(default_factory=dict)
    groups: dict[int, Numbers] = field(default_factory=dict)
    partitions: dict[PartitionKey, Partitions] = field(default_factory=dict)
    columns: dict[tuple[int, Content], pa.Array] = field(default_factory=dict)
    kept: dict[int, Numbers] = field(default_factory=dict)

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
    asked = [s for n in sorted(spaces) if isinstance(s := maps.plan.spaces[n], Rows)]
    with engine.sharing(_read_twice(maps.plan, spaces), asked):
        _number(out, found, spaces, engine)
    _read(out, found, spaces, engine)
    _share(out.gathers)
    _share(out.groups)
    return out, found


def _share(arrays: dict[K, Numbers]) -> None:
    """Keep equal large arrays once: layers over the same edges have the same row numbers."""
    kept: list[np.ndarray[Any, Any]] = []
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray) or len(array) < _LARGE:
            continue
        for other in kept:
            if array.dtype == other.dtype and _are_equal(array, other):
                arrays[key] = other
                break
        else:
            kept.append(array)


def _are_equal(one: np.ndarray[Any, Any], two: np.ndarray[Any, Any]) -> bool:
    """Whether arrays hold the same; mostly they differ at once."""
    return all(np.array_equal(one[part], two[part]) for part in (slice(_FIRST), slice(None)))


_LARGE = 1 << 18  # rows from which on arrays are compared
_FIRST = 1 << 10


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
    """Fetch every array the steps and the output need of some spaces, two calls for each space."""
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
        numbers, values = list(vias.get(space, {})), list(reads.get(space, {}))
        found = zip(numbers, engine.numbers(held[space], numbers), strict=True)
        maps.gathers.update({(space, via): rows for via, rows in found})
        columns = zip(values, engine.arrays(held[space], values), strict=True)
        maps.columns.update({(space, content): array for content, array in columns})


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
    position, upto = engine.numbers(
        relation,
        [
            Content(f"row_number() OVER ({over}) - 1", "BIGINT"),
            Content(f"count(*) OVER ({over})", "BIGINT"),
        ],
    )
    return Partitions(ids, groups.count, position, upto)
