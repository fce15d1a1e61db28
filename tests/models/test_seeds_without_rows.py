"""Seeds for which a query has no row as of their anchor."""

from __future__ import annotations

import relann


def shop() -> relann.Session:
    """Customers known since different days, some of them only after their seeds' anchors."""
    session = relann.connect()
    session.sql(
        "CREATE TABLE customers (cid INTEGER PRIMARY KEY, since TIMESTAMP, kind VARCHAR);"
        "INSERT INTO customers SELECT i, TIMESTAMP '2024-01-01' + to_days(i), 'k' || i % 2 "
        "FROM range(40) t(i);"
        "ALTER TABLE customers SET (time = 'since');"
        "CREATE TASK t OPTIONS (entity = 'cid', time = 'at_time', label = 'y', "
        " table = 'customers', split = 'split', kind = 'binary', regime = 'rolling') AS "
        "SELECT i % 40 AS cid, TIMESTAMP '2024-02-01' AS at_time, i % 2 = 0 AS y, "
        " CASE WHEN i % 5 = 0 THEN 'val' WHEN i % 7 = 0 THEN 'test' ELSE 'train' END AS split "
        "FROM range(40) t(i)"
    )
    return session


def test_they_are_left_out_and_counted() -> None:
    """A customer known from 2 February on has no row on the first."""
    session = shop()
    told = session.sql(
        "CREATE MODEL m OPTIONS (task = 't', epochs = 2) AS "
        "SELECT c.cid, linear(features(c, 4), 1) AS logit FROM customers c"
    ).message
    assert told is not None and "8 seeds left out, whose `cid` the query has no row for" in told
    rows = session.sql("SELECT cid, prediction FROM ml_predict('m') ORDER BY cid").arrow()
    missing = [r["cid"] for r in rows.to_pylist() if r["prediction"] is None]
    assert missing == list(range(32, 40))


def test_of_trees_too() -> None:
    told = (
        shop()
        .sql(
            "CREATE MODEL m OPTIONS (task = 't', head = 'gbdt', rounds = 2) AS "
            "SELECT c.cid, c.kind, length(c.kind) AS n FROM customers c"
        )
        .message
    )
    assert told is not None and "8 seeds left out" in told
