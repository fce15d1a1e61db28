"""UNION ALL: parts of one shape, stacked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from sqlglot import exp

from relann.algebra.nodes import Map, Node, Union, passed
from relann.algebra.scope import located, span_of
from relann.algebra.terms import Content, Lift, Term, column, quoted
from relann.errors import DataError, QueryError, listing
from relann.schema import Catalog


def stacked(parts: Sequence[Node], ast: exp.Union, text: str, catalog: Catalog) -> Union:
    """The parts of a union stacked, with the names of the first and the types SQL gives the whole.

    Raises QueryError where they differ in their number of columns, or an embedding would have to
    become content.
    """
    first = parts[0]
    for part in parts[1:]:
        if len(part.columns) != len(first.columns):
            raise QueryError(
                f"UNION ALL stacks {len(first.columns)} columns ({listing(first.names)}) and "
                f"{len(part.columns)} ({listing(part.names)}); they must agree",
                span_of(ast.expression, text),
            )
    first = _of_common_types(parts, catalog)
    aligned = [_aligned(part, first, ast, text) for part in parts]
    with located(ast, text):
        return Union(tuple(aligned))


def with_distinct_names(side: exp.Expr, first: Node) -> exp.Expr:
    """A later part of a union: its columns count by place, repeated names get the first part's."""
    names = [e.alias_or_name.casefold() for e in side.expressions]
    plain = isinstance(side, exp.Select) and len(names) == len(first.names) and "*" not in names
    if not plain or len(set(names)) == len(names):
        return side
    named = side.copy()
    columns = [
        exp.alias_(e.unalias(), name, quoted=True, copy=False)
        for e, name in zip(named.expressions, first.names, strict=True)
    ]
    named.set("expressions", columns)
    return named


def _of_common_types(parts: Sequence[Node], catalog: Catalog) -> Node:
    """The first part of a union, its content of the types that SQL gives the whole."""
    first, outputs = parts[0], list[tuple[str, Content | Term]]()
    for column_of, others in zip(
        first.columns, zip(*(p.columns for p in parts), strict=True), strict=True
    ):
        types = list(dict.fromkeys(c.type for c in others if c.type is not None))
        value = passed(column_of)
        if column_of.type is not None and len(types) > 1:
            stacked = " UNION ALL ".join(f"SELECT NULL::{t} AS c" for t in types)
            with suppress(DataError):  # types without a common one fail when cast
                ((_, common),) = catalog.query(stacked)
                value = Content(f"CAST({quoted(column_of.name)} AS {common})", common)
        outputs.append((column_of.name, value))
    kept = tuple((c.name, passed(c)) for c in first.columns)
    return first if tuple(outputs) == kept else Map(first, tuple(outputs))


def _aligned(part: Node, first: Node, ast: exp.Expr, text: str) -> Node:
    """The part with the column names of `first`; content is cast to its types."""
    if part.columns == first.columns:
        return part
    outputs: list[tuple[str, Content | Term]] = []
    for mine, theirs in zip(part.columns, first.columns, strict=True):
        value = passed(mine)
        if mine.type is not None and theirs.width is not None and theirs.width:
            with located(ast.expression, text):
                value = Lift(column(mine.name, mine.type))
        elif mine.type is not None and mine.type != theirs.type:
            assert theirs.type is not None
            value = Content(f"CAST({quoted(mine.name)} AS {theirs.type})", theirs.type)
        outputs.append((theirs.name, value))
    return Map(part, tuple(outputs))
