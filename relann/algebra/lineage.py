"""Where a content column comes from: the base columns its value is computed from."""

from __future__ import annotations

from relann.algebra.nodes import (
    Aggregate,
    Alias,
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
    raise TypeError(f"unknown node {type(node).__name__}")


def _of_content(source: Node, content: Content) -> frozenset[tuple[str, str]]:
    return frozenset(o for c in content.columns for o in origins(source, c))
