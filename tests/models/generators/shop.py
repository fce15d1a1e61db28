"""A small database that is known in time, its schema, and queries evaluated as of seeds."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import duckdb
from sqlglot.dialects import DuckDB

from relann.algebra.asof import Clock, Seeds, as_of
from relann.algebra.bind import bind
from relann.algebra.nodes import Column, Node, Query
from relann.algebra.sql import node_to_sql
from relann.models.generators import PastLabels, Target
from relann.schema import Catalog, ForeignKey, Relation, Schema, Table

CUSTOMER = Target('"customer"', "id", "cid")

_TABLES = """
CREATE TABLE customer (id INTEGER, country VARCHAR, born DATE);
CREATE TABLE product (pid INTEGER, brand VARCHAR, price DOUBLE);
CREATE TABLE event (eid INTEGER, "at" TIMESTAMP, size INTEGER);
CREATE TABLE orders (oid INTEGER, cid INTEGER, pid INTEGER, eid INTEGER, ts TIMESTAMP,
                     amount DOUBLE, status VARCHAR);
CREATE TABLE review (oid INTEGER, stars INTEGER, t TIMESTAMP);
CREATE TABLE seeds (cid INTEGER, tm TIMESTAMP);
"""
_KEYS: dict[str, tuple[str | None, str | None, tuple[ForeignKey, ...]]] = {
    "customer": ("id", None, ()),
    "product": ("pid", None, ()),
    "event": ("eid", "at", ()),
    "orders": (
        "oid",
        "ts",
        (
            ForeignKey("cid", '"customer"', "id"),
            ForeignKey("pid", '"product"', "pid"),
            ForeignKey("eid", '"event"', "eid"),
        ),
    ),
    "review": (None, "t", (ForeignKey("oid", '"orders"', "oid"),)),
}


def day(number: float) -> datetime:
    return datetime(2020, 1, 1) + timedelta(days=number)


def shop(seed: int, complete: bool = False) -> duckdb.DuckDBPyConnection:
    """Customers with orders of products at events; NULLs, dangling keys, customers with nothing.

    `complete`: each order names an event that is known by then.
    """
    draw = random.Random(seed)
    con = duckdb.connect()
    con.execute(_TABLES)

    def put(table: str, *row: Any) -> None:
        con.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)

    def maybe(value: Any) -> Any:
        return None if draw.random() < 0.15 else value

    for i in range(6):
        put("customer", i, draw.choice(["nl", "de"]), datetime(1980 + i, 5, 1).date())
        put("product", i, draw.choice(["x", "y"]), maybe(i * 1.5))
        put("event", i, day(i * 6), draw.randrange(5))
    for i in range(60):
        event = draw.randrange(6)
        time = day(draw.randrange(event * 6, 41)) if complete else day(draw.randrange(40))
        customer = draw.choice([0, 1, 1, 2, 3, None])
        if not complete:
            event, time = draw.choice([*range(6), None, 9]), maybe(time)
        amount, status = maybe(draw.randrange(5) / 2), maybe(draw.choice("aaabbc"))
        put("orders", i, customer, draw.choice([0, 1, 2, None]), event, time, amount, status)
    for _ in range(50):
        order = draw.choice([None, *range(60)])
        put("review", order, draw.randrange(1, 6), maybe(day(draw.randrange(45))))
    for _ in range(12):
        put("seeds", draw.choice([0, 1, 2, 3, 4, 8]), day(draw.randrange(20, 45)))
    return con


def schema(con: duckdb.DuckDBPyConnection) -> Schema:
    relations = {}
    for name, (key, time, foreign) in _KEYS.items():
        columns = tuple((r[0], r[1]) for r in con.execute(f"DESCRIBE {name}").fetchall())
        relations[f'"{name}"'] = Relation(Table(f'"{name}"', columns), key, time, foreign)
    return Schema(relations)


def past(con: duckdb.DuckDBPyConnection, classes: bool = False) -> PastLabels:
    """Labels that customers had on some days, made as a table."""
    con.execute("CREATE TABLE IF NOT EXISTS past_spend (cid INTEGER, tm TIMESTAMP, y INTEGER)")
    con.execute(
        "INSERT INTO past_spend SELECT i % 3, TIMESTAMP '2020-01-01' + to_days(2 * i), i % 4 "
        "FROM range(18) t(i) WHERE NOT EXISTS (FROM past_spend)"
    )
    columns = (("cid", "INTEGER"), ("tm", "TIMESTAMP"), ("y", "INTEGER"))
    table, entity = Table('"past_spend"', columns), ForeignKey("cid", CUSTOMER.table, CUSTOMER.key)
    return PastLabels(table, None, "tm", (entity,), classes=classes)


def timed(con: duckdb.DuckDBPyConnection, sql: str) -> Node:
    dialect = DuckDB()
    (body,) = dialect.parser().parse(dialect.tokenize(sql), sql)
    assert body is not None
    return bind(body, sql, Catalog(con), timed=True)


def opaque(node: Node) -> list[str]:
    """Queries over tables or sub-queries that would be run once for each anchor."""
    return [n.sql for n in node.walk() if isinstance(n, Query) and n.tables + n.inputs]


def lifted(node: Node, described: Schema, entity: str = "cid") -> Node:
    """The query as of the rows of the table `seeds`, (entity, tm)."""
    columns = (Column(entity, type="INTEGER"), Column("tm", type="TIMESTAMP"))
    seeds = Seeds(Query("SELECT * FROM seeds", columns), entity, "tm")
    times = {name: relation.time for name, relation in described.relations.items()}
    return as_of(node, seeds, Clock(times.get))


def rows(con: duckdb.DuckDBPyConnection, sql: str, described: Schema) -> list[dict[str, Any]]:
    """The rows of a query without anything learned, for each seed."""
    found = con.execute(node_to_sql(lifted(timed(con, sql), described)))
    names = [d[0] for d in found.description or []]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
