"""Small databases and the path from text to nodes, shared by tests."""

from __future__ import annotations

import duckdb
from sqlglot.dialects import DuckDB

from relann.algebra.bind import bind
from relann.algebra.layers import Layer, Layers, Parameter
from relann.algebra.nodes import Node
from relann.provenance.pretrained import width
from relann.schema import Catalog


def papers() -> duckdb.DuckDBPyConnection:
    """A citation graph: 100 papers of 5 venues, 1000 citations of 3 kinds, NULLs and duplicates."""
    con = duckdb.connect()
    con.execute(
        "CREATE TABLE venue (id INTEGER PRIMARY KEY, name VARCHAR, x FLOAT[8]);"
        "INSERT INTO venue SELECT i, 'venue ' || i, [i, 1, 2, 3, 4, 5, 6, 7] FROM range(5) t(i);"
        "CREATE TABLE paper (id INTEGER PRIMARY KEY, title VARCHAR, year INTEGER, venue INTEGER, "
        " open BOOLEAN, seen TIMESTAMP, x FLOAT[32], label INTEGER, split VARCHAR);"
        "INSERT INTO paper SELECT i, 'title ' || (i % 7), 1990 + i % 30, i % 5, i % 2 = 0, "
        " TIMESTAMP '2020-01-01' + INTERVAL (i) HOUR, "
        " list_transform(range(32), lambda k: ((i * 7 + k * 3) % 11) / 11.0)::FLOAT[32], "
        " i % 3, CASE i % 4 WHEN 0 THEN 'test' WHEN 1 THEN 'val' ELSE 'train' END "
        " FROM range(100) t(i);"
        "CREATE TABLE cites (src INTEGER, dst INTEGER, kind VARCHAR, w DOUBLE);"
        "INSERT INTO cites SELECT (i * 17) % 100, (i * 31 + i // 100) % 90, "
        " ['cites', 'extends', 'refutes'][1 + i % 3], "
        " CASE WHEN i % 50 = 0 THEN NULL ELSE (i % 10) / 10.0 END FROM range(1000) t(i);"
    )
    return con


def bound(
    con: duckdb.DuckDBPyConnection,
    text: str,
    layers: Layers = lambda name: None,
    hidden: tuple[str, ...] = (),
    name: str = "m",
) -> Node:
    """The lifted query of a SELECT."""
    dialect = DuckDB()
    (body,) = dialect.parser().parse(dialect.tokenize(text), text)
    assert body is not None
    return bind(body, text, Catalog(con), layers, name, hidden, width)


def layer(name: str, arguments: list[str], text: str) -> Layer:
    """A layer without defaults."""
    dialect = DuckDB()
    (body,) = dialect.parser().parse(dialect.tokenize(text), text)
    assert body is not None
    return Layer(name, tuple(Parameter(a) for a in arguments), body, text)
