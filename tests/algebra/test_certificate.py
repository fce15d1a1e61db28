"""The certificate proves every lifted query, and no query that leaks."""

from __future__ import annotations

import random
from collections import Counter
from datetime import datetime
from functools import lru_cache

import duckdb
import pytest

from relann.algebra.asof import Clock, Seeds, as_of
from relann.algebra.certificate import certify
from relann.algebra.nodes import Aggregate, Alias, Column, Join, Map, Node, Query, Scan, Select
from relann.algebra.optimize import optimise
from relann.algebra.sql import content_side, node_to_sql
from relann.algebra.statistics import Statistics
from relann.algebra.terms import Content, column
from relann.errors import QueryError
from relann.schema import Catalog
from tests.algebra.mutants import mutants
from tests.algebra.test_asof import QUERIES, SEEDS, TIMES, day, rounded, shop, shop_until, timed

LEARNED = {
    "features and time since": """
        WITH o AS (SELECT o.cid, avg(relu(features(o, 4) + time_since(o.ts, 4))) AS z
                   FROM orders o GROUP BY o.cid)
        SELECT c.id AS cid, linear(relu(features(c, 4) + linear(coalesce(o.z, 0), 4)), 1) AS logit
        FROM customer c LEFT JOIN o ON o.cid = c.id""",
    "attention": """
        WITH s AS (SELECT o.cid, features(o, 4) AS v, linear(features(o, 4), 1) AS s FROM orders o),
             a AS (SELECT cid, v, softmax(s) OVER (PARTITION BY cid) AS a FROM s)
        SELECT cid, linear(sum(v * a), 1) AS logit FROM a GROUP BY cid""",
    "two hops": """
        WITH p AS (SELECT o.pid, avg(linear(numeric(o.amount), 4)) AS z
                   FROM orders o GROUP BY o.pid)
        SELECT o.cid, sum(linear(p.z, 2) + linear(numeric(i.price), 2)) AS z
        FROM orders o JOIN p ON p.pid = o.pid JOIN product i ON i.pid = o.pid GROUP BY o.cid""",
}
ROLLING, FROZEN = Clock(TIMES.get), Clock(TIMES.get, day(12))
CLOCKS = pytest.mark.parametrize("clock", [ROLLING, FROZEN], ids=["rolling", "frozen"])
shops = lru_cache(shop)


def optimised(node: Node) -> Node:
    catalog = Catalog(shops(0))
    return optimise(node, Statistics(catalog.estimate, catalog.sketch)).node


@CLOCKS
@pytest.mark.parametrize("name", [*QUERIES, *LEARNED])
def test_lifted_queries_are_certified(name: str, clock: Clock) -> None:
    node = timed(shops(0), {**QUERIES, **LEARNED}[name])
    lifted = as_of(node, SEEDS, clock)
    for form in (lifted, optimised(lifted)):
        proof = certify(form, SEEDS, clock)
        assert proof.regime == ("rolling" if clock is ROLLING else "frozen")
        assert "<= seed.tm" in str(proof) or name in (
            "no time at all",
            "left to the database, the anchor only",
        )


def test_printed() -> None:
    lifted = as_of(timed(shops(0), LEARNED["features and time since"]), SEEDS, ROLLING)
    proof = certify(lifted, SEEDS, ROLLING)
    assert str(proof).splitlines() == [
        "leakage certificate (rolling: the database as of each seed's anchor)",
        "  orders.ts   <= seed.tm   via o",
        "  customer    no time column, always visible",
    ]
    assert [p.name for p in proof.paths] == ["o → orders.ts", "customer"]
    assert any("known since" in c and "<=" in c for c in proof.paths[0].because)
    assert "nothing after 2020-01-13" in str(
        certify(as_of(timed(shops(0), "SELECT cid FROM orders"), SEEDS, FROZEN), SEEDS, FROZEN)
    )


# -- mutants ---------------------------------------------------------------------------------------


def outcomes(con: duckdb.DuckDBPyConnection, sql: str, time: datetime, runs: int) -> set[str]:
    """The seed's rows, in several runs: of rows that tie the database takes any."""
    found = [[r for r in con.execute(sql).fetchall() if r[1] == time] for _ in range(runs)]
    return {str(rounded(rows)) for rows in found}


def leaks(node: Node, end: datetime | None, seed: int) -> bool:
    """Whether some seed's rows change when what is after it is taken away."""
    sql = node_to_sql(content_side(node))
    try:
        whole = shops(seed).execute(sql).fetchall()
        for time in {row[1] for row in whole if row[1] is not None}:
            until = shop_until(seed, min(time, end) if end else time)
            seen = [outcomes(con, sql, time, 1) for con in (shops(seed), until)]
            if seen[0] == seen[1]:
                continue
            seen = [outcomes(con, sql, time, 6) for con in (shops(seed), until)]
            if not seen[0] & seen[1]:
                return True
    except duckdb.Error:  # no query the database would run
        pass
    return False


@pytest.mark.parametrize("name", QUERIES)
def test_no_mutant_that_leaks_is_certified(name: str) -> None:
    """A sample of the mutants of each query, drawn anew for each name."""
    count: Counter[str] = Counter()
    lifted = {c: as_of(timed(shops(0), QUERIES[name]), SEEDS, c) for c in (ROLLING, FROZEN)}
    for clock, form in ((ROLLING, lifted[ROLLING]), (FROZEN, optimised(lifted[FROZEN]))):
        tried = [(w, m) for w, m in mutants(form) if m.columns == form.columns]
        for what, mutant in random.Random(name).sample(tried, min(8, len(tried))):
            try:
                certify(mutant, SEEDS, clock)
            except QueryError:
                count["refused"] += 1
                continue
            assert not leaks(mutant, clock.end, 0), what
            count["certified"] += 1
    assert count["refused"] or name in ("no time at all", "left to the database, the anchor only")


def refused(node: Node, clock: Clock, message: str, seeds: Seeds = SEEDS) -> None:
    with pytest.raises(QueryError, match=message):
        certify(node, seeds, clock)


ORDERS = Scan(
    '"orders"',
    (
        Column("oid", type="INTEGER"),
        Column("cid", type="INTEGER"),
        Column("ts", type="TIMESTAMP"),
        Column("amount", type="DOUBLE"),
    ),
)
PLACED = Alias(ORDERS, "o")
SEED = Alias(SEEDS.node, "seed")


def on(sql: str) -> Content:
    return Content(sql, "BOOLEAN")


def kept(joined: Node, *columns: str) -> Node:
    """The seeds' columns, and some others."""
    names = [(n, f"seed.{n}") for n in SEEDS.node.names] + [(c, c) for c in columns]
    return Map(joined, tuple((n, column(c, joined.by_name[c].type or "")) for n, c in names))


SAME, KNOWN = '"seed.cid" = "o.cid"', '"o.ts" <= "seed.tm"'
COUNT = Content("count(*)", "BIGINT")
LATEST = Alias(
    Aggregate(ORDERS, ("cid",), (("n", COUNT), ("ts", Content('max("ts")', "TIMESTAMP")))), "o"
)
NEAREST = Join(SEED, PLACED, "asof", on('"seed.cid" = "o.cid" AND "o.ts" >= "seed.tm"'))
RANK = Content('row_number() OVER (PARTITION BY "cid" ORDER BY "ts" DESC)', "BIGINT")
RANKED = Alias(
    Map(
        ORDERS, (("cid", column("cid", "INTEGER")), ("ts", column("ts", "TIMESTAMP")), ("k", RANK))
    ),
    "o",
)
WHOLE = Query("SELECT count(*) AS n FROM Orders", (Column("n", type="BIGINT"),), ('"orders"',))
LEAST = on(f'{SAME} AND least("o.ts", "seed.tm") <= "seed.tm"')


@pytest.mark.parametrize("kind", ["inner", "left", "semi", "anti"])
def test_a_join_up_to_the_seed_is_certified(kind: str) -> None:
    certify(kept(Join(SEED, PLACED, kind, on(f"{SAME} AND {KNOWN}"))), SEEDS, ROLLING)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (kept(Join(SEED, PLACED, "left", on(SAME)), "o.amount"), "`o.ts` is left out before"),
        (kept(Join(SEED, PLACED, "anti", on(SAME))), r"o → orders\.ts: the anti join"),
        (kept(Join(SEED, PLACED, "semi", on(SAME))), "the semi join"),
        (
            kept(Join(SEED, PLACED, "inner", on(f'{SAME} AND "seed.tm" <= "o.ts"'))),
            "is left out before",
        ),
        # bounded one way, and full of later rows the other
        (kept(Join(SEED, PLACED, "full", on(f"{SAME} AND {KNOWN}"))), "do not come through"),
        # a selection above an outer join is too late: what is missing was told already
        (
            kept(Select(Join(SEED, PLACED, "left", on(SAME)), on(f'{KNOWN} OR "o.ts" IS NULL'))),
            "o.ts",
        ),
        # a group whose latest row is after the seed is gone: its absence tells of that row
        (kept(Join(SEED, LATEST, "left", on(f"{SAME} AND {KNOWN}")), "o.n"), "GROUP BY cid takes"),
        # so does the nearest row, which a later one would replace
        (kept(Select(NEAREST, on(KNOWN))), "the asof join"),
        (kept(Join(SEED, RANKED, "left", on(f"{SAME} AND {KNOWN}")), "o.k"), "PARTITION BY cid"),
        (kept(Join(SEED, Aggregate(ORDERS, (), (("n", COUNT),))), "n"), "a group of all rows"),
        (kept(Join(SEED, WHOLE), "n"), "asked for all of it at once"),
        (kept(Join(SEED, PLACED, "left", LEAST)), "ts"),  # the earlier of both says nothing
    ],
)
def test_leaks_are_refused(node: Node, message: str) -> None:
    refused(node, ROLLING, message)


def test_the_end_must_be_kept() -> None:
    lifted = as_of(timed(shops(0), QUERIES["group"]), SEEDS, ROLLING)
    refused(lifted, FROZEN, r"after the end of the frozen database, 2020-01-13")
    late = as_of(timed(shops(0), QUERIES["group"]), SEEDS, Clock(TIMES.get, day(13)))
    refused(late, FROZEN, r"only up to 2020-01-14")


def test_labels_are_unreachable() -> None:
    table = Scan('"seeds"', SEEDS.node.columns)
    left = Join(SEED, Alias(table, "s"), "left", on('"s.cid" = "seed.cid"'))
    refused(kept(left, "s.y"), ROLLING, "the model reads `seeds`")
    read = Alias(SEEDS.node, "s")
    left = Join(SEED, read, "left", on('"s.cid" = "seed.cid"'))
    refused(kept(left, "s.y"), ROLLING, r"`s.y` is computed from them: .* own y may only")
    refused(kept(Select(SEED, on('"seed.y" > 3'))), ROLLING, "rows are chosen by them")
    refused(
        kept(Join(SEED, PLACED, "left", on(f'{SAME} AND {KNOWN} AND "seed.y" > 1'))),
        ROLLING,
        "meet",
    )
    own = Seeds(Query("SELECT * FROM seeds", SEEDS.node.columns, ('"seeds"',)), "cid", "tm")
    text = Query("SELECT max(y) AS n FROM SEEDS", (Column("n", type="INTEGER"),), ('"SEEDS"',))
    seed = Alias(own.node, "seed")
    certify(kept(seed), own, ROLLING)
    refused(kept(Join(seed, text), "n"), ROLLING, "the model reads `SEEDS`", own)


def test_the_time_must_be_the_seeds_own() -> None:
    joined = Join(SEED, PLACED, "inner", on(f"{SAME} AND {KNOWN}"))
    names = {"cid": "seed.cid", "tm": "o.ts", "y": "seed.y"}
    node = Map(
        joined, tuple((n, column(c, joined.by_name[c].type or "")) for n, c in names.items())
    )
    refused(node, ROLLING, "the seeds' .* do not come through as they are")
