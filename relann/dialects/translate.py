"""DuckDB's SQL in another database's words: what differs in meaning is rewritten, or refused.

sqlglot writes the text; a dialect's rules see to it that numbers stay the same (division, NULLs,
NaN, the first index of a list). A function that no rule knows is an error: to guess that it means
the same elsewhere is how numbers begin to differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import sqlglot
from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import SqlglotError, UnsupportedError

from relann.errors import DataError

Rule = Callable[[Any], exp.Expr]
"""From a node of DuckDB's syntax tree, whose children are done, to what stands in its place."""


@dataclass(frozen=True)
class Dialect:
    """How one database says what DuckDB says.

    name        as `dialect =>` has it, and as sqlglot knows it
    title       as messages have it
    plain       functions, by their class, that mean the same and that sqlglot writes
    rules       what else there is, by class
    calls       functions that sqlglot has no class for, by name in lower case
    setup       statements that come first, as (kind, SQL)
    finish      what is done to the whole tree in the end
    table       a table as statements, from its name as SQL and its rows
    identifier  a name as the database has it
    forest      a function of a list of numbers, from its name and the sum of its trees as nested
                CASEs; None: trees are a table that list functions walk down
    layer       a table that keeps what a SELECT gives, from its name; None: MATERIALIZED does that
    """

    name: str
    title: str
    plain: frozenset[type[exp.Expr]]
    rules: Mapping[type[exp.Expr], Rule]
    calls: Mapping[str, Rule]
    setup: Sequence[tuple[str, str]]
    finish: Callable[[exp.Expr], exp.Expr]
    table: Callable[[str, pa.Table], list[str]]
    identifier: Callable[[str], str]
    forest: Callable[[str, str], str] | None = None
    layer: Callable[[str, str], list[str]] | None = None


@dataclass(frozen=True)
class Translation:
    """A query in the dialect's words; `layers` are tables that it reads, (name, SELECT) in order.

    There are layers only where the dialect has no MATERIALIZED: it would compute what a layer reads
    once for each path to it, and paths double from layer to layer.
    """

    query: str
    layers: Sequence[tuple[str, str]] = ()


def translate(
    sql: str, to: Dialect, tables: Mapping[str, str] | None = None, layer: str = "layer"
) -> Translation:
    """A SELECT of DuckDB's as one of the dialect's.

    `tables` are those, by name, that have another name there, as SQL; functions as well. `layer`
    begins the names of tables of layers. Raises DataError that names what the dialect has no words
    for.
    """
    try:
        root = exp.Paren(this=sqlglot.parse_one(sql, read=_AsWritten))
    except SqlglotError as error:
        raise DataError(f"the SQL has a form that sqlglot does not read: {error}") from error
    layers = [] if to.layer is None else _layers(root, layer)
    _rename(root, {**(tables or {}), **{old: new for old, new, _ in layers}}, to)
    for _, _, body in layers:
        _rename(body, {**(tables or {}), **{old: new for old, new, _ in layers}}, to)
    found = [(name, _text(body, to, tables or {})) for _, name, body in layers]
    return Translation(_text(root, to, tables or {}), found)


def _layers(root: exp.Expr, prefix: str) -> list[tuple[str, str, exp.Paren]]:
    """(name, new name, body) of the layers, which are taken out of the query."""
    found: list[tuple[str, str, exp.Paren]] = []
    for with_ in list(root.find_all(exp.With)):
        for cte in list(with_.expressions):
            if _LAYER.fullmatch(cte.alias):
                name = f"{prefix}_{len(found) + 1}"
                found.append((cte.alias, name, exp.Paren(this=cte.this.copy())))
                cte.pop()
        if not with_.expressions:
            with_.pop()
    return found


_LAYER = re.compile(r"layer \d+")


def _text(root: exp.Paren, to: Dialect, tables: Mapping[str, str]) -> str:
    for number, join in enumerate(root.find_all(exp.Join)):
        join.meta["number"] = number
    # children stand behind their parents
    for node in reversed(list(root.dfs())):
        if node is root:
            continue
        new = _rewritten(node, to, tables)
        if new is not node:
            node.replace(new)
    whole = to.finish(root.this)
    try:
        return whole.sql(
            dialect=to.name,
            unsupported_level=sqlglot.ErrorLevel.RAISE,
            normalize_functions=False,
        )
    except UnsupportedError as error:
        raise DataError(f"{to.title} lacks a part of this model's SQL: {error}") from error


class _AsWritten(DuckDB):
    """DuckDB's SQL with places in lists as they are written: from 1, whatever they are made of."""

    INDEX_OFFSET = 0


def _rename(root: exp.Expr, tables: Mapping[str, str], to: Dialect) -> None:
    for table in list(root.find_all(exp.Table)):
        if not isinstance(table.this, exp.Identifier):
            raise refused(table.this, to.title)
        if table.name in tables and not table.db:
            new = exp.to_table(tables[table.name], dialect=to.name)
            if table.alias:
                new.set("alias", table.args["alias"])
            table.replace(new)


def _rewritten(node: exp.Expr, to: Dialect, tables: Mapping[str, str]) -> exp.Expr:
    if isinstance(node, exp.Identifier):
        node.set("this", to.identifier(node.name))
        node.set("quoted", True)
        return node
    if isinstance(node, exp.Anonymous):
        if node.name in tables:
            return call(tables[node.name], *node.expressions)
        rule = to.calls.get(node.name.lower())
        if rule is None:
            raise refused(node, to.title)
        return rule(node)
    rule = to.rules.get(type(node))
    if rule is not None:
        return rule(node)
    if isinstance(node, exp.Func) and type(node) not in to.plain | PLAIN:
        raise refused(node, to.title)
    return node


PLAIN: frozenset[type[exp.Expr]] = frozenset(
    {
        *(exp.And, exp.Or, exp.Case, exp.If, exp.Cast, exp.Coalesce, exp.Nullif, exp.Exists),
        *(exp.Sum, exp.Avg, exp.Min, exp.Max, exp.Count, exp.StddevSamp, exp.Stddev),
        *(exp.Abs, exp.Sign, exp.Sin, exp.Cos, exp.Tanh, exp.Floor, exp.Ceil, exp.Pow),
        *(exp.Greatest, exp.Least, exp.Array, exp.RegrSlope),
        *(exp.RowNumber, exp.Rank, exp.DenseRank, exp.PercentRank, exp.Lag, exp.Lead),
        *(exp.Lower, exp.Upper, exp.DateFromParts),
    }
)
"""Functions that mean the same in every dialect there is."""


def refused(node: exp.Expr, title: str) -> DataError:
    """That the dialect has no words for something."""
    shown = node.sql(dialect="duckdb", normalize_functions="lower")
    shown = shown if len(shown) <= 60 else shown[:57] + "…"
    name = node.name if isinstance(node, exp.Anonymous) else node.key
    return DataError(
        f"{title} has no form for `{shown}`: `{name.lower()}` has no counterpart that gives "
        "the same values"
    )


def call(name: str, *arguments: exp.Expr | None) -> exp.Anonymous:
    """A function by its name."""
    return exp.Anonymous(this=name, expressions=[a for a in arguments if a is not None])


PARTS = frozenset({"YEAR", "QUARTER", "MONTH", "DAY", "HOUR", "MINUTE", "DOY"})
"""Parts of a time that every dialect counts alike; a week's days, for one, begin at 0 or 1."""


def part_of(node: exp.Extract, title: str) -> exp.Expr:
    """A part of a time, where it is one that means the same."""
    if node.name.upper() not in PARTS:
        raise refused(node, title)
    return node


def is_number(node: exp.Expr) -> bool:
    """Whether it is a literal of a number other than 0, also one that is cast."""
    while isinstance(node, exp.Cast | exp.Paren | exp.Neg):
        node = node.this
    return isinstance(node, exp.Literal) and not node.is_string and float(node.name) != 0


def is_literal(node: exp.Expr) -> bool:
    """Whether it is a literal."""
    while isinstance(node, exp.Paren | exp.Neg):
        node = node.this
    return isinstance(node, exp.Literal | exp.Null | exp.Boolean)


def grouped_by_all(select: exp.Select) -> exp.Select:
    """GROUP BY ALL as what it stands for: the outputs without an aggregate."""
    group = select.args.get("group")
    if group is not None and group.args.get("all"):
        keys = [
            e.unalias().copy() for e in select.expressions if not e.find(exp.AggFunc, exp.Window)
        ]
        select.set("group", exp.Group(expressions=keys) if keys else None)
    return select


_SIDES: dict[type[exp.Expr], bool] = {exp.GTE: True, exp.GT: True, exp.LTE: False, exp.LT: False}
"""Inequalities of ASOF JOIN: whether what stands on the right is the smaller one."""


def asof_as_ranked(select: exp.Select, numbered: exp.Expr) -> exp.Select:
    """SELECT * FROM a ASOF JOIN b as a join of which each row of a keeps the nearest row of b.

    `numbered` gives rows numbers of their own. Each ASOF JOIN adds two columns, which no name of a
    query's means. Joins that stand among others are left to the caller to refuse.
    """
    joins = select.args.get("joins") or []
    if len(joins) != 1 or joins[0].method != "ASOF" or not select.is_star:
        return select
    (join,) = joins
    nearest = next((t for t in join.args["on"].flatten() if type(t) in _SIDES), None)
    if type(join.args["on"]) in _SIDES:
        nearest = join.args["on"]
    if nearest is None:
        return select
    # one of both sides is the same in all rows of a group, so both may be in the order
    falling = _SIDES[type(nearest)]
    number = join.meta["number"]
    row, nth = (exp.to_identifier(f"asof {n} {number}", quoted=True) for n in ("row", "nth"))
    order = exp.Order(
        expressions=[
            exp.Ordered(this=nearest.expression.copy(), desc=falling),
            exp.Ordered(this=nearest.this.copy(), desc=not falling),
        ]
    )
    rank = exp.Window(this=exp.RowNumber(), partition_by=[exp.column(row.copy())], order=order)
    counted = exp.select("*", exp.alias_(numbered, row)).from_(select.args["from_"].this)
    plain = exp.Join(this=join.this, side=join.side, on=join.args["on"])
    joined = exp.select("*", exp.alias_(rank, nth.copy())).from_(counted.subquery())
    joined.set("joins", [plain])
    first = exp.EQ(this=exp.column(nth.copy()), expression=exp.Literal.number(1))
    return exp.select("*").from_(joined.subquery()).where(first)
