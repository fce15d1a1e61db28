"""A small shop whose tasks can be worked out by hand, and running a task statement on it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import duckdb

from relann.algebra.parse import statements
from relann.algebra.statements import CreateTask
from relann.models.seeds import Made, made_task
from relann.schema import Catalog, ForeignKey, Relation, Schema

Order = tuple[int | None, datetime, float | None, str]

YEARS_OF_ORDERS = """
CREATE TABLE customers (customer_id INTEGER PRIMARY KEY, country VARCHAR);
CREATE TABLE products (sku INTEGER PRIMARY KEY, price DOUBLE);
CREATE TABLE orders (order_id INTEGER PRIMARY KEY,
    customer_id INTEGER REFERENCES customers (customer_id),
    sku INTEGER REFERENCES products (sku), ordered_at TIMESTAMP, total DOUBLE);
INSERT INTO customers SELECT i, ['DE', 'FR', 'IT'][1 + i % 3] FROM range(30) t(i);
INSERT INTO products SELECT i, 1 + i FROM range(12) t(i);
INSERT INTO orders SELECT i, (i * i + i // 40) * (1 + i % 3) % 30, i * 7 % 12,
    TIMESTAMP '2022-01-01' + i * INTERVAL 13 HOUR, i % 17 FROM range(1500) t(i);
"""
"""30 customers and their 1,500 orders from 2022 on, one every 13 hours."""

_TABLES = """
CREATE TABLE products (sku VARCHAR PRIMARY KEY, price DOUBLE);
CREATE TABLE customers (customer_id INTEGER PRIMARY KEY, country VARCHAR, signup TIMESTAMP);
CREATE TABLE orders (order_id INTEGER PRIMARY KEY, customer_id INTEGER, referrer INTEGER,
    ts {time}, total DOUBLE, sku VARCHAR);
CREATE TABLE lines (line_id INTEGER PRIMARY KEY, order_id INTEGER, shipped TIMESTAMP);
CREATE TABLE marks (mark_id INTEGER PRIMARY KEY, customer_id INTEGER, stars INTEGER);
INSERT INTO products VALUES ('ball', 3), ('kite', 9);
INSERT INTO lines VALUES (1, 1, TIMESTAMP '2020-01-05');
"""


def shop(
    customers: Sequence[tuple[int | None, str, datetime | None]],
    orders: Sequence[Order],
    time: str = "TIMESTAMP",
) -> duckdb.DuckDBPyConnection:
    """Customers (id, country, signup) and their orders (customer, ts, total, sku)."""
    con = duckdb.connect()
    con.execute("SET TimeZone = 'America/New_York'").fetchall()
    con.execute(_TABLES.format(time=time)).fetchall()
    for row in customers:
        con.execute("INSERT INTO customers VALUES (?, ?, ?)", list(row)).fetchall()
    for number, (customer, ts, total, sku) in enumerate(orders):
        given = [number, customer, customer, ts, total, sku]
        con.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?)", given).fetchall()
    return con


def shop_schema(con: duckdb.DuckDBPyConnection) -> Schema:
    """Its keys, foreign keys and times, stated and not found out."""
    catalog = Catalog(con)

    def relation(name: str, key: str, time: str | None, **foreign: tuple[str, str]) -> Relation:
        table = catalog.table(f'"{name}"')
        assert table is not None
        keys = tuple(ForeignKey(c, f'"{t}"', k) for c, (t, k) in foreign.items())
        return Relation(table, key, time, keys)

    customer = ("customers", "customer_id")
    found = [
        relation("products", "sku", None),
        relation("customers", "customer_id", "signup"),
        relation("orders", "order_id", "ts", customer_id=customer, sku=("products", "sku")),
        relation("lines", "line_id", "shipped", order_id=("orders", "order_id")),
        relation("marks", "mark_id", None, customer_id=customer),
    ]
    return Schema({r.table.name: r for r in found})


def run_task(
    con: duckdb.DuckDBPyConnection, text: str, schema: Schema | None = None
) -> tuple[Made, list[tuple[Any, ...]]]:
    """What a CREATE TASK makes, and the rows of its seeds."""
    (statement,) = statements(text)
    assert isinstance(statement, CreateTask)
    with made_task(con, statement, schema or shop_schema(con)) as made:
        return made, con.execute(made.rows).fetchall()
