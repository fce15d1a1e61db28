"""Aggregates of groups and window functions, by sorting and counting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
from sqlglot import exp

from relann.algebra.engines.frames.expressions import Expressions
from relann.algebra.engines.frames.keys import (
    Grouping,
    SortKey,
    group_numbers,
    ranks,
    sorted_rows,
)
from relann.algebra.engines.frames.library import Array, Library, Refused, rows
from relann.algebra.engines.frames.operands import folded
from relann.algebra.engines.frames.vectors import Vector, constant, nothing, taken
from relann.algebra.engines.interpreter import scalar

LARGE = 2.0**62


def by_row(library: Library, columns: Mapping[str, Vector], count: int, node: exp.Expr) -> Vector:
    """An expression's value on each row, perhaps with window functions."""
    plain = Expressions(library, columns, count)
    windows = {id(w): windowed(plain, w) for w in node.find_all(exp.Window)}
    return Expressions(library, columns, count, windows).value(node)


def aggregated(of: Expressions, grouping: Grouping, keys: Expressions, node: exp.Expr) -> Vector:
    """An expression with aggregates for each group; `keys` has the columns outside them."""
    known = {id(call): aggregate(of, grouping, call) for call in _outermost(node)}
    return Expressions(of.library, keys.columns, grouping.count, known).value(node)


def _outermost(node: exp.Expr) -> list[exp.Expr]:
    inner = node.this if isinstance(node, exp.Filter) else node
    if isinstance(inner, exp.AggFunc | exp.IgnoreNulls):
        return [node]
    if isinstance(inner, exp.Anonymous) and inner.name.lower() in ("product", "mean"):
        raise Refused(scalar.described(inner))
    return [call for child in node.iter_expressions() for call in _outermost(child)]


class _Rows:
    """The rows that an aggregate sees: their numbers in order, their groups, their values."""

    def __init__(self, grouping: Grouping, vector: Vector | None, kept: Array) -> None:
        self.library = grouping.library
        self.count = grouping.count
        self.numbers = self.library.arrays.nonzero(kept)[0]
        self.groups = Grouping(self.library, grouping.ids[self.numbers], grouping.count)
        self.of = None if vector is None else taken(self.library, vector, self.numbers)

    @property
    def vector(self) -> Vector:
        """The values, none of them NULL."""
        assert self.of is not None
        return replace(self.of, valid=None)

    @cached_property
    def rank(self) -> Array:
        """The values' ranks."""
        return ranks(self.library, [self.vector], [len(self.numbers)])[0]


def aggregate(of: Expressions, grouping: Grouping, call: exp.Expr) -> Vector:
    """One aggregate call for each group, with its FILTER and DISTINCT."""
    library, arrays = of.library, of.arrays
    kept = arrays.ones(of.count, dtype=bool)
    if isinstance(call, exp.Filter):
        kept, call = of.truth(call.expression.this), call.this
    if isinstance(call, exp.Count) and (call.this is None or isinstance(call.this, exp.Star)):
        return _number(_Rows(grouping, None, kept).groups.sizes)
    if isinstance(call, exp.ArgMax | exp.ArgMin):
        return _at_extreme(of, grouping, call, kept)
    function, argument = _FUNCTIONS.get(type(call)), call.this
    if function is None or argument is None or call.args.get("expression"):
        raise Refused(f"the aggregate {scalar.described(call)}")
    distinct = isinstance(argument, exp.Distinct)
    if distinct:
        if len(argument.expressions) != 1:
            raise Refused("DISTINCT over several arguments")
        argument = argument.expressions[0]
    if isinstance(argument, exp.Order):
        raise Refused("an aggregate with ORDER BY")
    vector = of.value(argument)
    if vector.kind == "null":
        return function(_Rows(grouping, constant(library, 0, of.count), kept & False))
    if vector.kind == "other":
        raise Refused(f"{scalar.described(call)} of {vector.type}")
    if vector.valid is not None:
        kept = kept & vector.valid
    if distinct:
        kept = kept & _first_of_each(of, grouping, vector, kept)
    return function(_Rows(grouping, vector, kept))


def _first_of_each(of: Expressions, grouping: Grouping, vector: Vector, kept: Array) -> Array:
    rank = ranks(of.library, [vector], [of.count])[0]
    keys = [(grouping.ids, None), (rank, None), (kept.astype(np.int64), None)]
    _, first = group_numbers(of.library, keys, of.count)
    mask = of.arrays.zeros(of.count, dtype=bool)
    mask[first] = True
    return mask


def _number(counts: Array) -> Vector:
    return Vector("whole", counts.astype(np.int64), None, "BIGINT")


def _where_any(values: Array, kind: str, sql_type: str, counts: Array, least: int = 1) -> Vector:
    return Vector(kind, values, counts >= least, sql_type)


def _sum(seen: _Rows) -> Vector:
    if seen.vector.kind == "whole":
        return _where_any(_whole_sums(seen), "whole", "HUGEINT", seen.groups.sizes)
    if seen.vector.kind == "truth":
        raise Refused("a sum of BOOLEAN")
    return _where_any(_real_sums(seen), "real", "DOUBLE", seen.groups.sizes)


def _whole_sums(seen: _Rows) -> Array:
    arrays, values, groups = seen.library.arrays, seen.vector.values, seen.groups
    sizes = arrays.abs(values).astype(np.float64)
    if len(values) and not float(sizes.sum()) < LARGE:
        raise Refused("a sum of whole numbers out of range")
    running = arrays.concatenate(
        [arrays.zeros(1, dtype=np.int64), arrays.cumsum(values[groups.ordered()])]
    )
    return running[groups.starts[1:]] - running[groups.starts[:-1]]


def _real_sums(seen: _Rows, values: Array | None = None) -> Array:
    if seen.vector.kind != "real" or seen.vector.type == "DECIMAL":
        raise Refused(f"a sum of {seen.vector.type}")
    values = seen.vector.values if values is None else values
    with np.errstate(all="ignore"):
        return seen.library.arrays.bincount(
            seen.groups.ids, weights=values.astype(np.float64), minlength=seen.count
        )


def _mean(seen: _Rows) -> Vector:
    arrays, sizes = seen.library.arrays, seen.groups.sizes
    whole = seen.vector.kind == "whole"
    sums = _whole_sums(seen).astype(np.float64) if whole else _real_sums(seen)
    with np.errstate(all="ignore"):
        values = sums / arrays.maximum(sizes, 1)
    return _where_any(values, "real", "DOUBLE", sizes)


def _extreme(largest: bool) -> Callable[[_Rows], Vector]:
    def extreme(seen: _Rows) -> Vector:
        return _picked(seen, seen.groups.ordered([SortKey(seen.rank, None, largest)]))

    return extreme


def _picked(seen: _Rows, order: Array) -> Vector:
    """The value of each group's first row in an order of all rows by group."""
    arrays, sizes = seen.library.arrays, seen.groups.sizes
    starts = seen.groups.starts[:-1]
    if not len(order):
        return nothing(seen.library, seen.vector.kind, seen.vector.type, seen.count)
    first = order[arrays.minimum(starts, len(order) - 1)]
    first = arrays.where(sizes > 0, first, -1)
    return taken(seen.library, seen.vector, first, missing=True)


def _any(seen: _Rows) -> Vector:
    return _picked(seen, seen.groups.ordered())


def _at_extreme(of: Expressions, grouping: Grouping, call: exp.Expr, kept: Array) -> Vector:
    if call.args.get("count"):
        raise Refused(f"{scalar.described(call)} of several rows")
    value, by = of.value(call.this), of.value(call.expression)
    for vector in (value, by):
        if vector.kind in ("null", "other"):
            raise Refused(f"{scalar.described(call)} of {vector.type}")
        if vector.valid is not None:
            kept = kept & vector.valid
    seen = _Rows(grouping, value, kept)
    rank = ranks(of.library, [by], [of.count])[0][seen.numbers]
    key = SortKey(rank, None, isinstance(call, exp.ArgMax))
    return _picked(seen, seen.groups.ordered([key]))


def _spread(sample: bool, root: bool) -> Callable[[_Rows], Vector]:
    def spread(seen: _Rows) -> Vector:
        arrays, sizes = seen.library.arrays, seen.groups.sizes
        if seen.vector.kind == "whole":
            real = replace(
                seen.vector,
                kind="real",
                values=seen.vector.values.astype(np.float64),
                type="DOUBLE",
            )
            seen.of = real
        center = _real_sums(seen) / arrays.maximum(sizes, 1)
        with np.errstate(all="ignore"):
            apart = seen.vector.values.astype(np.float64) - center[seen.groups.ids]
            found = _real_sums(seen, apart * apart) / arrays.maximum(sizes - sample, 1)
            values = arrays.sqrt(found) if root else found
        return _where_any(values, "real", "DOUBLE", sizes, 1 + sample)

    return spread


def _every(wanted: bool) -> Callable[[_Rows], Vector]:
    """bool_and (no false one) and bool_or (a true one)."""

    def every(seen: _Rows) -> Vector:
        if seen.vector.kind != "truth":
            raise Refused(f"bool_and or bool_or of {seen.vector.type}")
        hits = seen.vector.values if not wanted else ~seen.vector.values
        found = seen.library.arrays.bincount(
            seen.groups.ids, weights=hits.astype(np.float64), minlength=seen.count
        )
        values = found == 0 if wanted else found > 0
        return _where_any(values, "truth", "BOOLEAN", seen.groups.sizes)

    return every


_FUNCTIONS: dict[type[exp.Expr], Callable[[_Rows], Vector]] = {
    exp.Count: lambda seen: _number(seen.groups.sizes),
    exp.Sum: _sum,
    exp.Avg: _mean,
    exp.Min: _extreme(largest=False),
    exp.Max: _extreme(largest=True),
    exp.Stddev: _spread(sample=True, root=True),
    exp.StddevSamp: _spread(sample=True, root=True),
    exp.StddevPop: _spread(sample=False, root=True),
    exp.Variance: _spread(sample=True, root=False),
    exp.VariancePop: _spread(sample=False, root=False),
    exp.LogicalAnd: _every(True),
    exp.LogicalOr: _every(False),
    exp.AnyValue: _any,
}


# -- windows -------------------------------------------------------------------------------------


class _Window:
    """Rows in the order of a window: by partition, inside it by keys, ties as they come."""

    def __init__(self, of: Expressions, window: exp.Expr) -> None:
        library = of.library
        self.of = of
        self.parts = Grouping(library, *_partitions(of, window))
        order = window.args.get("order")
        self.keys = [_sort_key(of, item) for item in order.expressions] if order else []
        by = [SortKey(self.parts.ids, None), *self.keys]
        self.order = sorted_rows(library, by, of.count)
        self.position = rows(library, of.count) - self.parts.starts[self.parts.ids[self.order]]

    @cached_property
    def peers(self) -> tuple[Array, Array]:
        """For each place the first and the last place of the rows that tie with it."""
        library, arrays = self.of.library, self.of.arrays
        if not self.of.count:
            return rows(library, 0), rows(library, 0)
        begins = self.position == 0
        for key in self.keys:
            rank = key.rank[self.order]
            if key.valid is not None:
                known = key.valid[self.order]
                rank = arrays.where(known, rank, 0)
                begins[1:] |= known[1:] != known[:-1]
            begins[1:] |= rank[1:] != rank[:-1]
        number = arrays.cumsum(begins.astype(np.int64)) - 1
        starts = arrays.nonzero(begins)[0]
        ends = arrays.concatenate([starts[1:], arrays.full(1, self.of.count, dtype=np.int64)]) - 1
        return starts[number], ends[number]

    def placed(self, values: Array) -> Array:
        """From places to rows."""
        out = self.of.arrays.empty(self.of.count, dtype=values.dtype)
        out[self.order] = values
        return out


def _partitions(of: Expressions, window: exp.Expr) -> tuple[Array, int]:
    keys = []
    for node in window.args.get("partition_by") or []:
        vector = of.value(node)
        if vector.kind != "null":
            keys.append((ranks(of.library, [vector], [of.count])[0], vector.valid))
    ids, first = group_numbers(of.library, keys, of.count)
    return ids, len(first)


def _sort_key(of: Expressions, item: exp.Expr) -> SortKey:
    vector = of.value(item.this)
    rank = ranks(of.library, [vector], [of.count])[0]
    first = bool(item.args.get("nulls_first"))
    return SortKey(rank, vector.valid, bool(item.args.get("desc")), first)


def windowed(of: Expressions, window: exp.Expr) -> Vector:
    """A window function's value on each row; rows that tie keep the order they came in."""
    if window.args.get("alias") or window.args.get("first") or window.args.get("spec"):
        raise Refused("a window with a name or a frame")
    ordered, call = _Window(of, window), window.this
    match call:
        case exp.RowNumber():
            return _number(ordered.placed(ordered.position + 1))
        case exp.Rank():
            first = ordered.peers[0]
            starts = ordered.parts.starts[ordered.parts.ids[ordered.order]]
            return _number(ordered.placed(first - starts + 1))
        case exp.DenseRank():
            first = ordered.peers[0]
            fresh = (first == rows(of.library, of.count)).astype(np.int64)
            total = of.arrays.cumsum(fresh)
            starts = ordered.parts.starts[ordered.parts.ids[ordered.order]]
            return _number(ordered.placed(total - total[starts] + 1))
        case exp.Lag():
            return _neighbour(ordered, call, -1)
        case exp.Lead():
            return _neighbour(ordered, call, 1)
        case exp.FirstValue():
            starts = ordered.parts.starts[ordered.parts.ids]
            return taken(of.library, of.value(call.this), ordered.order[starts])
    if not ordered.keys:
        whole = aggregate(of, ordered.parts, call)
        return taken(of.library, whole, ordered.parts.ids)
    return _running(ordered, call)


def _neighbour(ordered: _Window, call: exp.Expr, sign: int) -> Vector:
    offset = call.args.get("offset")
    by = 1 if offset is None else folded(offset)
    if call.args.get("default") is not None or not isinstance(by, int):
        raise Refused("lag or lead with a default or an offset that is not constant")
    of, arrays = ordered.of, ordered.of.arrays
    sizes = ordered.parts.sizes[ordered.parts.ids[ordered.order]]
    there = ordered.position + sign * by
    inside = (there >= 0) & (there < sizes)
    places = arrays.where(inside, rows(of.library, of.count) + sign * by, 0)
    index = arrays.where(inside, ordered.order[places], -1) if of.count else places
    return taken(of.library, of.value(call.this), ordered.placed(index), missing=True)


def _running(ordered: _Window, call: exp.Expr) -> Vector:
    """count, sum and avg of whole numbers up to the row's last peer."""
    of, arrays = ordered.of, ordered.of.arrays
    kept = arrays.ones(of.count, dtype=bool)
    if isinstance(call, exp.Filter):
        kept, call = of.truth(call.expression.this), call.this
    star = isinstance(call, exp.Count) and (call.this is None or isinstance(call.this, exp.Star))
    if not isinstance(call, exp.Count | exp.Sum | exp.Avg) or isinstance(call.this, exp.Distinct):
        raise Refused(f"a running {scalar.described(call)}")
    values = kept.astype(np.int64)
    if not star:
        vector = of.value(call.this)
        if vector.valid is not None:
            kept = kept & vector.valid
        if not isinstance(call, exp.Count):
            if vector.kind != "whole":
                raise Refused(f"a running {scalar.described(call)} of {vector.type}")
            values = arrays.where(kept, vector.values, 0)
    if not float(arrays.abs(values).astype(np.float64).sum()) < LARGE:
        raise Refused("a sum of whole numbers out of range")
    counts = _up_to_peers(ordered, kept.astype(np.int64))
    if isinstance(call, exp.Count):
        return _number(counts)
    sums = _up_to_peers(ordered, values)
    if isinstance(call, exp.Sum):
        return _where_any(sums, "whole", "HUGEINT", counts)
    return _where_any(sums / arrays.maximum(counts, 1), "real", "DOUBLE", counts)


def _up_to_peers(ordered: _Window, values: Array) -> Array:
    arrays = ordered.of.arrays
    running = arrays.concatenate(
        [arrays.zeros(1, dtype=np.int64), arrays.cumsum(values[ordered.order])]
    )
    starts = ordered.parts.starts[ordered.parts.ids[ordered.order]]
    return ordered.placed(running[ordered.peers[1] + 1] - running[starts])
