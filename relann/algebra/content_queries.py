"""Queries that the database runs as they are: their columns, and its complaints at their place."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sqlglot import exp

from relann.algebra.environment import Environment
from relann.algebra.laterals import of_with
from relann.algebra.nodes import Column, Map, Node, Query, Scan, passed
from relann.algebra.scope import span_of
from relann.algebra.terms import Content, Term, quoted
from relann.errors import DataError, QueryError, Span, did_you_mean
from relann.schema import Catalog


def content_query(ast: exp.Expr, env: Environment, text: str, catalog: Catalog) -> Node:
    """A query the database runs as it is, given the sub-queries that it reads by name.

    Raises QueryError for what the database says is wrong with it.
    """
    needed: dict[str, Node] = {}
    tables: dict[str, None] = {}
    for table in ast.find_all(exp.Table):
        if not table.db and of_with(table, ast):
            continue
        known = None if table.db else env.find(table.name)
        if known is not None:
            needed[table.name] = known
        else:
            tables[table_sql(table)] = None
    sql = ast.sql(dialect="duckdb", comments=False)
    made = columns_of(ast, needed, env, text, catalog)
    return _projection(ast, made, needed, catalog) or Query(
        sql, made, tuple(tables), tuple(needed.items())
    )


def columns_of(
    ast: exp.Expr, needed: Mapping[str, Node], env: Environment, text: str, catalog: Catalog
) -> tuple[Column, ...]:
    """What the database says of a query's columns; its complaints at their place."""
    given = ", ".join(
        f"{quoted(n)} AS (SELECT {_nulls(node)} WHERE false)" for n, node in needed.items()
    )
    sql = ast.sql(dialect="duckdb", comments=False)
    try:
        columns = catalog.query(f"{f'WITH {given} ' if given else ''}SELECT * FROM ({sql})")
    except DataError as error:
        raise QueryError(*_blame(str(error), ast, text, catalog, env)) from error
    return tuple(Column(n, type=t) for n, t in columns)


def table_sql(table: exp.Table) -> str:
    """A table, or a call of a table function, as SQL names it."""
    if isinstance(table.this, exp.Func):
        bare = table.copy()
        bare.set("alias", None)
        return bare.sql(dialect="duckdb")
    parts = [p for p in (table.catalog, table.db, table.name) if p]
    return ".".join(quoted(p) for p in parts)


def _nulls(node: Node) -> str:
    """The content columns of a query as NULLs of their types."""
    contents = [f"NULL::{c.type} AS {quoted(c.name)}" for c in node.columns if c.type is not None]
    return ", ".join(contents) or "1 AS one"


def _projection(
    ast: exp.Expr, made: tuple[Column, ...], needed: Mapping[str, Node], catalog: Catalog
) -> Node | None:
    """`SELECT column [AS name], … FROM table` as a Map, which keeps the table's order and merges.

    None for any other query.
    """
    plain = {"kind", "expressions", "from_", "hint", "distinct", "operation_modifiers"}
    if not isinstance(ast, exp.Select) or any(v for k, v in ast.args.items() if k not in plain):
        return None
    from_ = ast.args.get("from_")
    table = from_.this if from_ is not None else None
    if ast.args.get("distinct") or not isinstance(table, exp.Table) or table.args.get("joins"):
        return None
    if any(v for k, v in table.args.items() if k not in ("this", "db", "catalog", "alias")):
        return None
    if isinstance(table.this, exp.Func):
        return None
    if table.name in needed:
        source: Node = needed[table.name]
    else:
        name = table_sql(table)
        found = catalog.table(name)
        if found is None:
            return None
        source = Scan(name, tuple(Column(n, type=t) for n, t in found.columns))
    known = {c.name.casefold(): c for c in source.columns if c.type is not None}
    outputs: list[tuple[str, Content | Term]] = []
    for expression, column_made in zip(ast.expressions, made, strict=False):
        read = expression.unalias()
        if not isinstance(read, exp.Column) or isinstance(read.this, exp.Star):
            return None
        if read.table.casefold() not in ("", table.alias_or_name.casefold()) or read.db:
            return None
        column_read = known.get(read.name.casefold())
        if column_read is None or column_read.type != column_made.type:
            return None
        outputs.append((column_made.name, passed(column_read)))
    return Map(source, tuple(outputs)) if len(outputs) == len(made) else None


_QUOTED = re.compile(r"[\"'`]([^\"'`]+)[\"'`]|(?:name|function) (\w+)")


def _blame(
    message: str, ast: exp.Expr, text: str, catalog: Catalog, env: Environment
) -> tuple[str, Span | None]:
    """DuckDB's complaint with the place in the user's text it is most likely about."""
    first = message.splitlines()[0]
    for found in _QUOTED.finditer(first):
        word = (found.group(1) or found.group(2)).split(".")[-1].casefold()
        for node in ast.walk():
            name = node.name if isinstance(node, exp.Identifier | exp.Anonymous) else None
            if name is not None and name.casefold() == word and "start" in node.meta:
                known = [*env.names(), *catalog.names()]
                table = isinstance(node.parent, exp.Table)
                hint = did_you_mean(name, known) if table and "Did you mean" not in first else ""
                return first + hint, span_of(node, text)
    return first, span_of(ast, text)
