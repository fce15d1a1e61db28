"""Aggregates of rows and window functions over rows, as DuckDB computes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from sqlglot import exp

from relann.algebra.engines.interpreter.casts import cast
from relann.algebra.engines.interpreter.comparing import compare, identity, ordering
from relann.algebra.engines.interpreter.scalar import Row, described, evaluate, truth
from relann.algebra.engines.interpreter.values import DECIMALS, Value
from relann.errors import EngineError

Rows = Sequence[Row]


def aggregated(node: exp.Expr, rows: Rows, keys: Row) -> Value:
    """The value of an expression with aggregates over a group; `keys` are columns outside them."""
    calls = list(_outermost(node))
    return evaluate(node, keys, {id(call): aggregate(call, rows) for call in calls})


def by_row(node: exp.Expr, rows: Rows) -> list[Value]:
    """The value of an expression, perhaps with window functions, on each row."""
    windows = {id(w): windowed(w, rows) for w in node.find_all(exp.Window)}
    return [
        evaluate(node, row, {part: values[i] for part, values in windows.items()})
        for i, row in enumerate(rows)
    ]


def _outermost(node: exp.Expr) -> list[exp.Expr]:
    if _is_aggregate(node.this if isinstance(node, exp.Filter) else node):
        return [node]
    return [call for child in node.iter_expressions() for call in _outermost(child)]


def _is_aggregate(node: exp.Expr) -> bool:
    if isinstance(node, exp.Anonymous):
        return node.name.lower() in _NAMED
    return isinstance(node, exp.AggFunc | exp.IgnoreNulls)


def aggregate(call: exp.Expr, rows: Rows) -> Value:
    """One aggregate call over rows, in their order, with its FILTER and DISTINCT."""
    if isinstance(call, exp.Filter):
        condition = call.expression.this
        kept = [r for r in rows if truth(evaluate(condition, r)) is True]
        return aggregate(call.this, kept)
    if isinstance(call, exp.IgnoreNulls):
        call = call.this
    if isinstance(call, exp.Count) and (call.this is None or isinstance(call.this, exp.Star)):
        return len(rows)
    if isinstance(call, exp.ArgMax | exp.ArgMin):
        return _at_extreme(call, rows)
    function = _FUNCTIONS.get(type(call))
    argument = call.this
    if isinstance(call, exp.Anonymous):
        function = _NAMED.get(call.name.lower())
        argument = call.expressions[0] if len(call.expressions) == 1 else None
    if function is None or argument is None or call.args.get("expression"):
        raise EngineError(f"the reference engine has no aggregate {described(call)}")
    distinct = isinstance(argument, exp.Distinct)
    if isinstance(argument, exp.Distinct):
        if len(argument.expressions) != 1:
            raise EngineError("the reference engine has no DISTINCT over several arguments")
        argument = argument.expressions[0]
    values = [v for v in (evaluate(argument, r) for r in rows) if v is not None]
    return function(list({identity(v): v for v in values}.values()) if distinct else values)


def _at_extreme(call: exp.Expr, rows: Rows) -> Value:
    if call.args.get("count"):
        raise EngineError(f"the reference engine has no {described(call)} of several rows")
    sign = 1 if isinstance(call, exp.ArgMax) else -1
    best = found = None
    for row in rows:
        value, by = evaluate(call.this, row), evaluate(call.expression, row)
        if value is None or by is None:
            continue
        if best is None or sign * compare(by, best) > 0:
            best, found = by, value
    return found


Values = list[Value]


def _sum(values: Values) -> Value:
    if not values:
        return None
    if isinstance(values[0], float | np.float32):
        return _total(values)
    total: Value = 0
    for value in values:
        if not isinstance(value, int | Decimal):
            raise EngineError(f"the reference engine does not sum {type(value).__name__} values")
        total = DECIMALS.add(total, value) if isinstance(value, Decimal) else total + value
    return total


def _total(values: Values) -> float:
    with np.errstate(all="ignore"):
        return float(sum((np.float64(v) for v in values), np.float64(0)))


def _mean(values: Values) -> float | None:
    return float(cast(_sum(values), "DOUBLE") / len(values)) if values else None


def _extreme(sign: int) -> Callable[[Values], Value]:
    def extreme(values: Values) -> Value:
        best = None
        for value in values:
            if best is None or sign * compare(value, best) > 0:
                best = value
        return best

    return extreme


def _spread(sample: bool, root: bool) -> Callable[[Values], float | None]:
    def spread(values: Values) -> float | None:
        count = len(values) - sample
        if count <= 0:
            return None
        numbers = [np.float64(v) for v in values]
        with np.errstate(all="ignore"):
            mean = sum(numbers) / len(numbers)
            variance = sum((x - mean) ** 2 for x in numbers) / count
            return float(np.sqrt(variance) if root else variance)

    return spread


def _median(values: Values) -> Value:
    if not values:
        return None
    inside = sorted(values, key=ordering())
    low, high = inside[(len(inside) - 1) // 2], inside[len(inside) // 2]
    if not isinstance(low, int | float | np.float32):
        raise EngineError(f"the reference engine has no median of {type(low).__name__} values")
    if compare(low, high) == 0:
        return float(low)
    return float(low) + (float(high) - float(low)) / 2


_FUNCTIONS: dict[type[exp.Expr], Callable[[Values], Value]] = {
    exp.Count: len,
    exp.Sum: _sum,
    exp.Avg: _mean,
    exp.Min: _extreme(-1),
    exp.Max: _extreme(1),
    exp.Stddev: _spread(sample=True, root=True),
    exp.StddevSamp: _spread(sample=True, root=True),
    exp.StddevPop: _spread(sample=False, root=True),
    exp.Variance: _spread(sample=True, root=False),
    exp.VariancePop: _spread(sample=False, root=False),
    exp.LogicalAnd: lambda values: all(map(truth, values)) if values else None,
    exp.LogicalOr: lambda values: any(map(truth, values)) if values else None,
    exp.AnyValue: lambda values: values[0] if values else None,
    exp.CountIf: lambda values: sum(map(bool, values)) if values else None,
    exp.Median: _median,
}

_NAMED: dict[str, Callable[[Values], Value]] = {
    "mean": _mean,
    "product": lambda values: math.prod(map(float, values)) if values else None,
}


# -- windows -------------------------------------------------------------------------------------


@dataclass
class _Partition:
    """Rows of one partition in window order; `peers[i]` says which rows tie with row i."""

    rows: list[Row]
    first: list[int]
    last: list[int]


def windowed(window: exp.Expr, rows: Rows) -> list[Value]:
    """A window function's value on each row; rows that tie keep the order they came in."""
    if window.args.get("alias") or window.args.get("first"):
        raise EngineError("the reference engine has no named windows")
    parts: dict[object, list[int]] = {}
    for i, row in enumerate(rows):
        key = tuple(identity(evaluate(e, row)) for e in window.args.get("partition_by") or [])
        parts.setdefault(key, []).append(i)
    out: list[Value] = [None] * len(rows)
    for members in parts.values():
        ordered = _ordered(window, rows, members)
        for i, value in zip(ordered, _over(window, _partition(window, rows, ordered)), strict=True):
            out[i] = value
    return out


def _order(window: exp.Expr) -> list[exp.Expr]:
    order = window.args.get("order")
    return list(order.expressions) if order is not None else []


def _ordered(window: exp.Expr, rows: Rows, members: list[int]) -> list[int]:
    ordered = list(members)
    for item in reversed(_order(window)):
        key = ordering(bool(item.args.get("desc")), bool(item.args.get("nulls_first")))
        values = {i: key(evaluate(item.this, rows[i])) for i in ordered}
        ordered.sort(key=values.__getitem__)
    return ordered


def _partition(window: exp.Expr, rows: Rows, ordered: list[int]) -> _Partition:
    keys = [
        tuple(identity(evaluate(item.this, rows[i])) for item in _order(window)) for i in ordered
    ]
    first = [i if i == 0 or keys[i] != keys[i - 1] else -1 for i in range(len(keys))]
    for i, start in enumerate(first):
        first[i] = first[i - 1] if start < 0 else start
    last = [max(j for j in range(len(keys)) if first[j] == start) for start in first]
    return _Partition([rows[i] for i in ordered], first, last)


def _over(window: exp.Expr, part: _Partition) -> list[Value]:
    call, count = window.this, range(len(part.rows))
    match call:
        case exp.RowNumber():
            return [i + 1 for i in count]
        case exp.Rank():
            return [part.first[i] + 1 for i in count]
        case exp.DenseRank():
            return [len(set(part.first[: i + 1])) for i in count]
        case exp.Lag():
            return [_neighbour(call, part, i, -1) for i in count]
        case exp.Lead():
            return [_neighbour(call, part, i, 1) for i in count]
    frames = [part.rows[slice(*_frame(window, part, i))] for i in count]
    if isinstance(call, exp.FirstValue | exp.LastValue):
        end = 0 if isinstance(call, exp.FirstValue) else -1
        return [evaluate(call.this, f[end]) if f else None for f in frames]
    return [aggregate(call, frame) for frame in frames]


def _neighbour(call: exp.Expr, part: _Partition, i: int, sign: int) -> Value:
    row = part.rows[i]
    offset, default = call.args.get("offset"), call.args.get("default")
    there = i + sign * (evaluate(offset, row) if offset is not None else 1)
    if 0 <= there < len(part.rows):
        return evaluate(call.this, part.rows[there])
    return evaluate(default, row) if default is not None else None


def _frame(window: exp.Expr, part: _Partition, i: int) -> tuple[int, int]:
    """Where row i's frame begins and ends: [begin, end) in the partition."""
    spec = window.args.get("spec")
    if spec is None:
        return 0, part.last[i] + 1  # without ORDER BY all rows are peers
    kind = str(spec.args.get("kind"))
    if kind not in ("ROWS", "RANGE") or spec.args.get("exclude"):
        raise EngineError(f"the reference engine has no frame `{spec.sql(dialect='duckdb')}`")
    begin = _edge(spec.args, "start", kind, part, i)
    end = _edge(spec.args, "end", kind, part, i) + 1
    return max(begin, 0), max(end, max(begin, 0))


def _edge(spec: Mapping[str, Value], which: str, kind: str, part: _Partition, i: int) -> int:
    edge: Value = spec.get(which) or "CURRENT ROW"
    side = spec.get(f"{which}_side")
    if edge == "UNBOUNDED":
        return 0 if side == "PRECEDING" else len(part.rows) - 1
    if edge == "CURRENT ROW":
        if kind == "ROWS":
            return i
        return part.first[i] if which == "start" else part.last[i]
    if kind == "RANGE":
        raise EngineError("the reference engine has no RANGE frame by distance")
    distance = int(evaluate(edge, part.rows[i]))
    return i - distance if side == "PRECEDING" else i + distance
