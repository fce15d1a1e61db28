"""Where a content column comes from: the base columns its value is computed from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sqlglot
from sqlglot import exp

from relann.algebra.nodes import (
    Aggregate,
    Alias,
    Anchor,
    Join,
    Map,
    Node,
    Query,
    Scan,
    Select,
    Union,
    Window,
)
from relann.algebra.terms import Content
from relann.schema import Catalog


def tables_read(node: Node) -> tuple[str, ...]:
    """The tables and views a query reads, as quoted SQL, each once."""
    found: dict[str, None] = {}
    for inner in node.walk():
        if isinstance(inner, Scan):
            found[inner.table] = None
        elif isinstance(inner, Query):
            found.update(dict.fromkeys(inner.tables))
    return tuple(found)


def origins(node: Node, name: str) -> frozenset[tuple[str, str]]:
    """(table, column) of every base column the content column `name` is computed from.

    An opaque sub-query counts as a table whose name is its SQL. Embedding columns have none.
    """
    match node:
        case Scan(table):
            return frozenset({(table, name)})
        case Query(sql):
            return frozenset({(sql, name)})
        case Alias(source, alias):
            return origins(source, name[len(alias) + 1 :])
        case Select(source) | Window(source):
            return origins(source, name) if name in source.by_name else frozenset()
        case Map(source, outputs):
            value = dict(outputs)[name]
            return _of_content(source, value) if isinstance(value, Content) else frozenset()
        case Join(left, right):
            return origins(left if name in left.by_name else right, name)
        case Aggregate(source, by, outputs):
            if name in by:
                return origins(source, name)
            made = dict(outputs)[name]
            return _of_content(source, made) if isinstance(made, Content) else frozenset()
        case Union(parts):
            return frozenset(o for part in parts for o in origins(part, name))
        case Anchor():
            return frozenset()
    raise TypeError(f"unknown node {type(node).__name__}")


def _of_content(source: Node, content: Content) -> frozenset[tuple[str, str]]:
    return frozenset(o for c in content.columns for o in origins(source, c))


def key_columns(node: Node, catalog: Catalog) -> frozenset[str]:
    """The content columns that hand a table's declared key on as it is.

    Keys are those of primary, foreign and unique constraints. A value computed from one is no key.
    """
    return frozenset(c.name for c in node.columns if c.type and _is_key(node, c.name, catalog))


def _is_key(node: Node, name: str, catalog: Catalog) -> bool:
    match node:
        case Scan(table):
            found = catalog.table(table)
            return found is not None and name in found.keys
        case Query(sql, _, _, inputs):
            return _Selects(catalog, dict(inputs)).is_key(_parsed(sql), name)
        case Alias(source, alias):
            return _is_key(source, name[len(alias) + 1 :], catalog)
        case Select(source) | Window(source):
            return name in source.by_name and _is_key(source, name, catalog)
        case Map(source, outputs):
            value = dict(outputs)[name]
            field = value.field if isinstance(value, Content) else None
            return field is not None and _is_key(source, field, catalog)
        case Join(left, right):
            return _is_key(left if name in left.by_name else right, name, catalog)
        case Aggregate(source, by):
            return name in by and _is_key(source, name, catalog)
        case Union(parts):
            return any(_is_key(part, name, catalog) for part in parts)
    return False


@dataclass(frozen=True)
class _Selects:
    """Where the columns of the database's own queries come from, by their text alone.

    `inputs` are the lifted sub-queries read by name.
    """

    catalog: Catalog
    inputs: Mapping[str, Node]
    outer: tuple[exp.Select, ...] = ()

    def is_key(self, query: exp.Expr | None, name: str) -> bool:
        """Whether a query hands a key on as its column `name`; False where that is not plain."""
        while isinstance(query, exp.Subquery | exp.Union):
            query = query.this  # a union has the columns of its first part
        if not isinstance(query, exp.Select):
            return False
        inner = _Selects(self.catalog, self.inputs, (*self.outer, query))
        for projection in query.expressions:
            if projection.alias_or_name.casefold() == name.casefold():
                read = projection.unalias()
                return isinstance(read, exp.Column) and inner.reads_key(
                    query, read.table, read.name
                )
        return any(inner.reads_key(query, table, name) for table in _stars(query))

    def reads_key(self, query: exp.Select, table: str, name: str) -> bool:
        """Whether a column that a SELECT reads is a key, by its name and perhaps its table's."""
        joined = [j.this for j in query.args.get("joins") or ()]
        from_ = query.args.get("from_")
        sources = [*([from_.this] if from_ is not None else []), *joined]
        return any(
            self.has_key(source, name)
            for source in sources
            if table.casefold() in ("", source.alias_or_name.casefold())
        )

    def has_key(self, source: exp.Expr, name: str) -> bool:
        """Whether an item of FROM has a key of this name."""
        alias = source.args.get("alias")
        if alias is not None and alias.columns:
            return False
        if not isinstance(source, exp.Table):
            return self.is_key(source, name)
        if not source.db:
            for depth, query in reversed([*enumerate(self.outer)]):
                for number, common in enumerate(query.ctes):
                    if common.alias.casefold() == source.name.casefold():
                        # what a common table reads by its own name is another table
                        seen = query.copy()
                        seen.ctes[number].pop()
                        inner = _Selects(self.catalog, self.inputs, (*self.outer[:depth], seen))
                        named = common.args["alias"].columns
                        return not named and inner.is_key(common.this, name)
            for given, node in self.inputs.items():
                if given.casefold() == source.name.casefold():
                    column = next((n for n in node.names if n.casefold() == name.casefold()), None)
                    return column is not None and _is_key(node, column, self.catalog)
        bare = source.copy()
        bare.set("alias", None)
        bare.set("joins", None)
        table = self.catalog.table(bare.sql(dialect="duckdb"))
        return table is not None and name.casefold() in {k.casefold() for k in table.keys}


def read_with(node: Node, name: str) -> dict[str, str]:
    """Output columns that read a column which the output `name` is computed from as well.

    By output column the name of what both read. Seen are the expressions of the outermost SELECT;
    of a query that the database does not run as it is, also where these come from.
    """
    if not isinstance(node, Query):
        told = origins(node, name)
        others = {n: told & origins(node, n) for n in node.names if n != name}
        return {n: min(both)[1] for n, both in others.items() if both}
    query = _parsed(node.sql)
    while isinstance(query, exp.Subquery | exp.Union):
        query = query.this
    if not isinstance(query, exp.Select):
        return {}
    written = {p.alias_or_name.casefold(): p for p in query.expressions}
    if name.casefold() not in written:
        return {}
    told_by = _columns(written[name.casefold()])
    found: dict[str, str] = {}
    for column in node.columns:
        if column.name == name:
            continue
        mine = written.get(column.name.casefold())
        reads = (
            _columns(mine)
            if mine is not None
            else {(table.casefold(), column.name.casefold()) for table in _stars(query)}
        )
        for table, read in sorted(reads):
            if any(read == r and (table == t or not table or not t) for t, r in told_by):
                found[column.name] = read
    return found


def _columns(expression: exp.Expr) -> set[tuple[str, str]]:
    """(table or nothing, column) of what an expression reads, in lower case."""
    return {
        (c.table.casefold(), c.name.casefold())
        for c in expression.find_all(exp.Column)
        if not isinstance(c.this, exp.Star)
    }


def _stars(query: exp.Select) -> Iterator[str]:
    """The tables of `table.*` in a select list, nothing for `*`."""
    for projection in query.expressions:
        if isinstance(projection, exp.Star):
            yield ""
        elif isinstance(projection, exp.Column) and isinstance(projection.this, exp.Star):
            yield projection.table


def _parsed(sql: str) -> exp.Expr | None:
    try:
        return sqlglot.parse_one(sql, dialect="duckdb")
    except sqlglot.errors.ParseError:
        return None  # what only the database understands
