"""Rankings: candidates are rows of a query, the task's lists say which are right."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest

import relann
from relann.errors import QueryError
from relann.models.ranking import ranking_metrics


def pairs(*rows: tuple[str, float, bool]) -> pa.Table:
    return pa.Table.from_pylist(
        [{"seed": s, "score": score, "right": right} for s, score, right in rows],
        schema=pa.schema([("seed", pa.string()), ("score", pa.float64()), ("right", pa.bool_())]),
    )


def rights(**counts: int) -> pa.Table:
    return pa.table({"seed": list(counts), "count": list(counts.values())})


def test_by_hand() -> None:
    rows = pairs(
        *[("a", 0.9, True), ("a", 0.8, False), ("a", 0.7, True), ("a", 0.1, True)],
        *[("b", 0.3, True), ("b", 0.4, False)],
        ("d", 0.5, False),
    )
    found = ranking_metrics(rows, rights(a=3, b=2, c=1, d=0), 3)
    # a: hits at 1 and 3 of 3 right; b: a hit at 2 of 2 right; c: no candidate; d has nothing right
    assert found["map"] == pytest.approx(((1 + 2 / 3) / 3 + (1 / 2) / 2 + 0) / 3)
    assert found["precision"] == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)
    assert found["recall"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert found["hits"] == pytest.approx(2 / 3)


def test_all_items_count_without_top_k() -> None:
    found = ranking_metrics(pairs(("a", 0.1, True), ("a", 0.2, False)), rights(a=1), None)
    assert found == {"map": 0.5, "precision": 0.5, "recall": 1.0, "hits": 1.0}


def test_nothing_right_is_undefined() -> None:
    found = ranking_metrics(pairs(("a", 0.1, False)), rights(a=0), 3)
    assert all(math.isnan(v) for v in found.values())


def shop() -> relann.Session:
    """Customers buy the product whose number is theirs, modulo 4, again and again."""
    session = relann.connect()
    session.sql(
        "CREATE TABLE customers (cid INTEGER PRIMARY KEY, kind VARCHAR);"
        "INSERT INTO customers SELECT i, 'k' || i % 4 FROM range(40) t(i);"
        "CREATE TABLE products (pid INTEGER PRIMARY KEY, kind VARCHAR);"
        "INSERT INTO products SELECT i, 'k' || i % 4 FROM range(8) t(i);"
        "CREATE TABLE orders (oid INTEGER PRIMARY KEY, cid INTEGER REFERENCES customers (cid), "
        " pid INTEGER REFERENCES products (pid), ts TIMESTAMP);"
        "INSERT INTO orders SELECT i, i % 40, i % 40 % 4 + 4 * (i // 40 % 2), "
        " TIMESTAMP '2024-01-01' + to_hours(6 * i) FROM range(1200) t(i);"
        "CREATE TASK next OPTIONS (val = '2024-08-01', test = '2024-09-01') AS "
        "PREDICT LIST_DISTINCT(orders.pid, 0, 15, days) RANK TOP 2 FOR EACH customers.cid"
    )
    return session


MODEL = """
CREATE MODEL m OPTIONS (task = 'next', epochs = 60, lr = 0.05) AS
SELECT c.cid, p.pid, dot(category(c.kind, 4), category(p.kind, 4)) AS score
FROM customers c CROSS JOIN products p"""


def test_ranks_what_is_bought() -> None:
    session = shop()
    session.sql(MODEL)
    found = dict(session.sql("SELECT metric, value FROM ml_evaluate('m')").arrow().to_pydict())
    metrics = dict(zip(found["metric"], found["value"], strict=True))
    assert metrics["map"] > 0.7
    assert metrics["hits"] > 0.9
    asked = session.sql(
        "SELECT cid, pid FROM ml_predict('m', (SELECT 5 AS cid), at => '2024-06-01') "
        "QUALIFY row_number() OVER (ORDER BY probability DESC) <= 2"
    ).arrow()
    assert set(asked.column("pid").to_pylist()) == {1, 5}


def test_a_query_without_items_is_refused() -> None:
    with pytest.raises(QueryError, match=r"the task ranks each `pid`, and the query has no"):
        shop().sql(
            "CREATE MODEL m OPTIONS (task = 'next') AS "
            "SELECT c.cid, linear(category(c.kind, 4), 1) AS score FROM customers c"
        )


def test_a_task_named_like_a_table_leaves_the_table_alone() -> None:
    session = shop()
    session.sql(
        "CREATE TASK orders OPTIONS (val = '2024-08-01', test = '2024-09-01') AS "
        "PREDICT SUM(orders.pid, 0, 15, days) > 5 FOR EACH customers.cid;"
        "CREATE MODEL m OPTIONS (task = 'orders', epochs = 2) AS "
        "WITH o AS (SELECT o.cid, sum(features(o, 4)) AS z FROM orders o GROUP BY o.cid) "
        "SELECT c.cid, linear(coalesce(o.z, 0), 1) AS logit FROM customers c "
        "LEFT JOIN o USING (cid)"
    )
    assert len(session.sql("SELECT * FROM ml_predict('m')"))
