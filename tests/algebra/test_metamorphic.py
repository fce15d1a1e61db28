"""What happens after the anchor, or at no known time, changes no seed's result."""

from __future__ import annotations

import random
from datetime import datetime

import duckdb
import pytest

from relann.algebra.asof import Clock, as_of
from relann.algebra.sql import node_to_sql
from tests.algebra.test_asof import QUERIES, SEEDS, TIMES, day, rounded, shop, timed


def rows(con: duckdb.DuckDBPyConnection, sql: str, until: datetime) -> list[tuple]:
    return rounded([r for r in con.execute(sql).fetchall() if r[1] is not None and r[1] <= until])


def delete(con: duckdb.DuckDBPyConnection, draw: random.Random, after: str) -> None:
    for table, time in TIMES.items():
        con.execute(f"DELETE FROM {table} WHERE {time} {after} AND random() < .6")


def change(con: duckdb.DuckDBPyConnection, draw: random.Random, after: str) -> None:
    con.execute(
        f"UPDATE orders SET cid = {draw.randrange(5)}, amount = amount * 3 WHERE ts {after};"
        f"UPDATE product SET price = -price WHERE added {after};"
        f"UPDATE follows SET src = {draw.randrange(6)} WHERE t {after};"
    )


def move_further(con: duckdb.DuckDBPyConnection, draw: random.Random, after: str) -> None:
    for table, time in TIMES.items():
        con.execute(f"UPDATE {table} SET {time} = {time} + INTERVAL 9 DAY WHERE {time} {after}")


def forget(con: duckdb.DuckDBPyConnection, draw: random.Random, after: str) -> None:
    for table, time in TIMES.items():
        con.execute(f"UPDATE {table} SET {time} = NULL WHERE {time} {after} AND random() < .5")


def insert(con: duckdb.DuckDBPyConnection, draw: random.Random, after: str) -> None:
    bound = after.removeprefix("> ")
    for k in range(12):
        time = (
            "NULL" if draw.random() < 0.3 else f"{bound} + INTERVAL {draw.randrange(1, 300)} HOUR"
        )
        later = "NULL" if time == "NULL" else f"({bound} + INTERVAL {draw.randrange(24, 99)} HOUR)"
        con.execute(
            f"INSERT INTO orders SELECT {100 + k}, {draw.randrange(6)}, {draw.randrange(6)}, "
            f"{time}, {draw.random()};"
            f"INSERT INTO follows SELECT {draw.randrange(6)}, {draw.randrange(6)}, {time};"
            f"INSERT INTO product SELECT {draw.randrange(6)}, {later}::DATE, 7.5;"
        )


CHANGES = (delete, change, move_further, forget, insert)


@pytest.mark.parametrize("end", [None, day(12)], ids=["rolling", "frozen"])
@pytest.mark.parametrize("name", QUERIES)
def test_the_future_changes_nothing(name: str, end: datetime | None) -> None:
    draw = random.Random(f"{name}{end}")
    seed = draw.randrange(4)
    con = shop(seed)
    con.execute("SET threads = 1; SELECT setseed(.3)").fetchall()
    sql = node_to_sql(as_of(timed(con, QUERIES[name]), SEEDS, Clock(TIMES.get, end)))
    times = [t for (t,) in con.execute("SELECT tm FROM seeds ORDER BY tm").fetchall()]
    until = times[len(times) // 2]
    cut = min(until, end) if end else until
    whole = rows(con, sql, until)
    assert whole
    for alter in CHANGES:
        con.execute("BEGIN")
        alter(con, draw, f"> TIMESTAMP '{cut}'")
        assert rows(con, sql, until) == whole, alter.__name__
        con.execute("ROLLBACK")


def test_the_past_does() -> None:
    """The same changes before the anchor are seen, so that the test above can fail."""
    con = shop(0)
    sql = node_to_sql(as_of(timed(con, QUERIES["group"]), SEEDS, Clock(TIMES.get)))
    whole = rows(con, sql, day(30))
    change(con, random.Random(0), f"> TIMESTAMP '{day(1)}'")
    assert rows(con, sql, day(30)) != whole
