"""A query lifted over time gives what the query itself gives on the database as of each anchor."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from functools import lru_cache

import duckdb
import pytest
from sqlglot.dialects import DuckDB

from relann.algebra.asof import Clock, Seeds, as_of
from relann.algebra.bind import bind
from relann.algebra.layers import Layers
from relann.algebra.nodes import Aggregate, Column, Node, Query
from relann.algebra.sql import node_to_sql
from relann.errors import QueryError, SchemaError
from relann.schema import Catalog

TIMES = {'"orders"': "ts", '"product"': "added", '"follows"': "t"}
TIMES |= {f'"main".{table}': time for table, time in TIMES.items()}
SEEDS = Seeds(
    Query(
        "SELECT * FROM seeds",
        (
            Column("cid", type="INTEGER"),
            Column("tm", type="TIMESTAMP"),
            Column("y", type="INTEGER"),
        ),
    ),
    "cid",
    "tm",
)
VIEW = "CREATE VIEW big AS SELECT cid, pid, amount, ts FROM orders WHERE amount > .2"


def day(number: int) -> datetime:
    return datetime(2020, 1, 1) + timedelta(days=number)


def shop(seed: int) -> duckdb.DuckDBPyConnection:
    """Customers without a time, three tables with one; NULL keys and times, equal times."""
    draw = random.Random(seed)
    con = duckdb.connect()
    con.execute(
        "CREATE TABLE customer (id INTEGER, country VARCHAR);"
        "CREATE TABLE orders (oid INTEGER, cid INTEGER, pid INTEGER, ts TIMESTAMP, amount DOUBLE);"
        "CREATE TABLE product (pid INTEGER, added DATE, price DOUBLE);"
        "CREATE TABLE follows (src INTEGER, dst INTEGER, t TIMESTAMP);"
        "CREATE TABLE seeds (cid INTEGER, tm TIMESTAMP, y INTEGER);" + VIEW
    )
    for i in range(6):
        con.execute("INSERT INTO customer VALUES (?, ?)", [i, "ab"[i % 2]])
        con.execute(
            "INSERT INTO product VALUES (?, ?, ?)", [i, day(draw.randrange(15)).date(), i * 1.5]
        )
    for i in range(40):
        keys = [i, draw.choice([0, 1, 2, 3, None, 9]), draw.randrange(6)]
        time = None if draw.random() < 0.1 else day(draw.randrange(20))
        con.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", [*keys, time, draw.random()])
    for _ in range(25):
        edge = [draw.randrange(6), draw.randrange(6), day(draw.randrange(20))]
        con.execute("INSERT INTO follows VALUES (?, ?, ?)", edge)
    for i in range(9):
        seed_row = [draw.choice([0, 1, 2, 3, 4, 7]), day(draw.randrange(22)), i]
        con.execute("INSERT INTO seeds VALUES (?, ?, ?)", seed_row)
    return con


def timed(con: duckdb.DuckDBPyConnection, sql: str, layers: Layers = lambda name: None) -> Node:
    dialect = DuckDB()
    (body,) = dialect.parser().parse(dialect.tokenize(sql), sql)
    assert body is not None
    return bind(body, sql, Catalog(con), layers, timed=True)


@lru_cache
def shop_until(seed: int, known: datetime) -> duckdb.DuckDBPyConnection:
    """The shop as it was known then."""
    con = shop(seed)
    for table, time in TIMES.items():
        con.execute(f"DELETE FROM {table} WHERE {time} IS NULL OR {time} > TIMESTAMP '{known}'")
    return con


def by_hand(seed: int, sql: str, end: datetime | None) -> list[tuple]:
    """The query's rows for each seed, run on a database cut at the seed's time."""
    out: list[tuple] = []
    for cid, time, y in shop(seed).execute("SELECT * FROM seeds").fetchall():
        cut = shop_until(seed, min(time, end) if end else time)
        now = sql.replace("anchor()", f"TIMESTAMP '{time}'")
        names = [row[0] for row in cut.execute(f"DESCRIBE {now}").fetchall()]
        found = cut.execute(f"SELECT * EXCLUDE (cid) FROM ({now}) WHERE cid = {cid}").fetchall()
        out += [(cid, time, y, *row) for row in found or [(None,) * (len(names) - 1)]]
    return out


def rounded(rows: list[tuple]) -> list[tuple]:
    return sorted(
        (tuple(round(v, 9) if isinstance(v, float) else v for v in row) for row in rows), key=str
    )


QUERIES = {
    "no time at all": "SELECT id AS cid, country, 1 AS one FROM customer",
    "group": "SELECT cid, count(*) AS n, sum(amount) AS s FROM orders GROUP BY cid",
    "outer join of a group": """
        SELECT c.id AS cid, coalesce(o.n, 0) AS n
        FROM customer c LEFT JOIN (SELECT cid, count(*) AS n FROM orders GROUP BY cid) o
        ON o.cid = c.id""",
    "anchor in filter and above the group": """
        SELECT c.id AS cid, o.n, epoch(anchor() - o.last) AS since
        FROM customer c LEFT JOIN (
            SELECT cid, max(ts) AS last, count(*) FILTER (ts > anchor() - INTERVAL 5 DAY) AS n
            FROM orders GROUP BY cid) o ON o.cid = c.id""",
    "anchor beside a group": """
        SELECT cid, epoch(anchor() - max(ts)) AS since, count(*) AS n FROM orders GROUP BY cid""",
    "two hops": """
        WITH p AS (SELECT pid, avg(amount) AS a, count(*) AS n FROM orders GROUP BY pid)
        SELECT o.cid, avg(p.a * i.price) AS z, sum(p.n) AS n
        FROM orders o JOIN p USING (pid) JOIN product i ON i.pid = o.pid GROUP BY o.cid""",
    "the last two": """
        SELECT cid, amount, oid FROM orders
        QUALIFY row_number() OVER (PARTITION BY cid ORDER BY ts DESC, oid) <= 2""",
    "group of the last three": """
        WITH r AS (SELECT cid, amount,
                          row_number() OVER (PARTITION BY cid ORDER BY ts DESC, oid) AS k
                   FROM orders)
        SELECT cid, sum(amount) AS s FROM r WHERE k <= 3 GROUP BY cid""",
    "a path of two edges": """
        SELECT c.id AS cid, count(*) AS n FROM customer c JOIN follows e ON e.src = c.id
        JOIN follows f ON f.src = e.dst GROUP BY c.id""",
    "semi join": "SELECT c.id AS cid, 1 AS one FROM customer c SEMI JOIN orders o ON o.cid = c.id",
    "anti join": "SELECT c.id AS cid, 1 AS one FROM customer c ANTI JOIN orders o ON o.cid = c.id",
    "in": "SELECT id AS cid, 1 AS one FROM customer WHERE id IN (SELECT cid FROM orders)",
    "one group without keys": """
        SELECT c.id AS cid, t.m, t.a
        FROM customer c CROSS JOIN (SELECT count(*) AS m, avg(amount) AS a FROM orders) t""",
    "a group of groups": """
        SELECT c.id AS cid, t.m FROM customer c,
        (SELECT max(n) AS m FROM (SELECT cid, count(*) AS n FROM orders GROUP BY cid)) t""",
    "a view": """
        SELECT c.id AS cid, v.n FROM customer c LEFT JOIN (
            SELECT cid, count(*) AS n, sum(price) AS s FROM big JOIN product USING (pid)
            GROUP BY cid) v ON v.cid = c.id""",
    "union": """
        SELECT cid, count(*) AS n FROM (
            SELECT cid, ts FROM orders UNION ALL SELECT src AS cid, t AS ts FROM follows
            UNION ALL SELECT id, NULL FROM customer) GROUP BY cid""",
    "union of groups": """
        SELECT cid, sum(n) AS n FROM (
            SELECT cid, count(*) AS n FROM orders GROUP BY cid
            UNION ALL SELECT src AS cid, 1 AS n FROM follows) GROUP BY cid""",
    "left to the database": """
        SELECT c.id AS cid, x.n FROM customer c JOIN (
            SELECT cid, count(*) AS n FROM orders WHERE amount > (SELECT avg(amount) FROM orders)
            GROUP BY cid ORDER BY n DESC, cid LIMIT 2) x ON x.cid = c.id""",
    "left to the database, reading groups and the anchor": """
        WITH g AS (SELECT cid, count(*) AS n, max(ts) AS last FROM orders GROUP BY cid)
        SELECT c.id AS cid, x.n, x.d FROM customer c JOIN (
            SELECT cid, n, epoch(anchor() - last) AS d FROM g ORDER BY n DESC, cid LIMIT 3) x
        ON x.cid = c.id""",
    "left to the database, the anchor only": """
        SELECT c.id AS cid, x.yr FROM customer c CROSS JOIN (
            SELECT year(anchor()) AS yr ORDER BY 1 LIMIT 1) x""",
    "left to the database, named by schema": """
        SELECT c.id AS cid, x.n FROM customer c JOIN (
            SELECT o.cid, count(*) AS n FROM main.orders o JOIN main.big ON big.cid = o.cid
            GROUP BY o.cid ORDER BY n DESC, o.cid LIMIT 3) x ON x.cid = c.id""",
    "left to the database, a WITH query named like the table": """
        SELECT c.id AS cid, x.n FROM customer c JOIN (
            WITH orders AS (SELECT * FROM orders WHERE amount > .1)
            SELECT cid, count(*) AS n FROM orders WHERE amount > (SELECT avg(amount) FROM orders)
            GROUP BY cid ORDER BY n DESC, cid LIMIT 2) x ON x.cid = c.id""",
    "as of another time": """
        SELECT o.cid, q.k, q.a FROM (SELECT cid, max(ts) AS last FROM orders GROUP BY cid) o
        ASOF JOIN (SELECT dst AS cid, t, src AS k, src * 1.0 AS a FROM follows
                   QUALIFY row_number() OVER (PARTITION BY dst, t ORDER BY src) = 1) q
        ON q.cid = o.cid AND o.last >= q.t""",
    "full join": """
        SELECT coalesce(a.cid, b.cid) AS cid, a.n, b.m
        FROM (SELECT cid, count(*) AS n FROM orders GROUP BY cid) a
        FULL JOIN (SELECT src AS cid, count(*) AS m FROM follows GROUP BY src) b
        ON a.cid = b.cid""",
    "two layers": """
        WITH h1 AS (SELECT dst AS id, count(*) AS n FROM follows GROUP BY dst),
             h2 AS (SELECT e.dst AS id, sum(h1.n) AS n FROM follows e JOIN h1 ON h1.id = e.src
                    GROUP BY e.dst)
        SELECT c.id AS cid, h1.n, h2.n AS m FROM customer c
        LEFT JOIN h1 ON h1.id = c.id LEFT JOIN h2 ON h2.id = c.id""",
    "distinct": "SELECT DISTINCT cid, pid FROM orders",
    "an anchored second hop": """
        SELECT o.cid, sum(d.n) AS n FROM orders o LEFT JOIN (
            SELECT src, count(*) AS n FROM follows WHERE t > anchor() - INTERVAL 7 DAY
            GROUP BY src) d ON d.src = o.pid GROUP BY o.cid""",
    "a running sum": """
        SELECT cid, sum(r) AS r FROM (
            SELECT cid, sum(amount) OVER (PARTITION BY pid ORDER BY ts, oid) AS r FROM orders)
        GROUP BY cid""",
    "rank among others": """
        SELECT cid, avg(r) AS r, count(*) AS n FROM (
            SELECT cid, percent_rank() OVER (PARTITION BY pid ORDER BY amount) AS r FROM orders)
        GROUP BY cid""",
    "rank among all": """
        SELECT cid, sum(r) AS r FROM (SELECT cid, rank() OVER (ORDER BY amount) AS r FROM orders)
        GROUP BY cid""",
    "having": "SELECT cid, count(*) AS n FROM orders GROUP BY cid HAVING count(*) > 2",
}


@pytest.mark.parametrize("end", [None, day(12)], ids=["rolling", "frozen"])
@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("seed", [0, 1])
def test_as_of_each_anchor(name: str, end: datetime | None, seed: int) -> None:
    con = shop(seed)
    sql = QUERIES[name]
    lifted = as_of(timed(con, sql), SEEDS, Clock(TIMES.get, end))
    found = con.execute(node_to_sql(lifted)).fetchall()
    assert rounded(found) == rounded(by_hand(seed, sql, end))


def test_what_is_left_to_the_database() -> None:
    """Only queries the algebra cannot say are run once for each anchor."""
    con = shop(0)
    opaque = {
        name
        for name, sql in QUERIES.items()
        if any(isinstance(n, Query) and n.tables + n.inputs for n in timed(con, sql).walk())
    }
    assert opaque == {n for n in QUERIES if n.startswith("left to the database")}


def test_groups_are_computed_once_for_each_version() -> None:
    """Anchors between two orders of a customer see the same group."""
    con = shop(0)
    con.execute("DELETE FROM seeds")
    con.execute(
        "INSERT INTO seeds SELECT 1, TIMESTAMP '2020-01-25' + to_hours(i), i FROM range(99) t(i)"
    )
    lifted = as_of(timed(con, QUERIES["group"]), SEEDS, Clock(TIMES.get))
    groups = [n for n in lifted.walk() if "n" in n.names and "y" not in n.names]
    counts = [len(con.execute(node_to_sql(n)).fetchall()) for n in groups]
    assert min(counts) == 1
    assert len(con.execute(node_to_sql(lifted)).fetchall()) == 99


def test_a_chain_of_left_joins_asks_once() -> None:
    """What the first relation is asked for is what the second is: the left side's keys."""
    con = shop(0)
    sql = """
        WITH g AS (SELECT cid, count(*) AS n, max(anchor()) AS now FROM orders GROUP BY cid)
        SELECT c.id AS cid, a.n, b.n AS m FROM customer c
        LEFT JOIN g a ON a.cid = c.id LEFT JOIN g b ON b.cid = c.id"""
    lifted = as_of(timed(con, sql), SEEDS, Clock(TIMES.get))
    groups = [n for n in lifted.walk() if isinstance(n, Aggregate) and n.outputs]
    assert len(groups) == 1


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT id FROM customer", r"no content column of that name; it has id"),
        ("SELECT cid, count(*) AS n FROM read_csv('x.csv') GROUP BY cid", r"no table of the data"),
        ("SELECT cid, count(*) AS n FROM 'x.parquet' GROUP BY cid", r"no table `x.parquet`"),
        ("SELECT cid FROM relann.labels", r"labels are there"),
    ],
)
def test_refused(sql: str, message: str) -> None:
    con = shop(0)
    con.execute("CREATE SCHEMA relann; CREATE TABLE relann.labels (cid INTEGER)")
    with pytest.raises((QueryError, SchemaError), match=message):
        as_of(timed(con, sql), SEEDS, Clock(TIMES.get))


def test_anchor_needs_a_task() -> None:
    con = shop(0)
    dialect = DuckDB()
    sql = "SELECT cid, relu(numeric(epoch(anchor() - ts))) AS z FROM orders"
    (body,) = dialect.parser().parse(dialect.tokenize(sql), sql)
    assert body is not None
    with pytest.raises(QueryError, match=r"there is no task here"):
        bind(body, sql, Catalog(con))
