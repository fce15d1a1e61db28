"""Learned queries over time: each seed's number is that of the database as of its anchor."""

from __future__ import annotations

from datetime import datetime

import duckdb
import numpy as np
import pytest
import torch

from relann.algebra.asof import Clock, as_of
from relann.algebra.engines.duckdb import DuckDBEngine
from relann.algebra.layers import Layer
from relann.algebra.nodes import Anchor, Column, Node, Query
from relann.algebra.rowmaps import RowMaps, build
from relann.algebra.statistics import Statistics
from relann.models import library
from relann.models.program import Program
from relann.provenance.encoders import Encoders
from relann.provenance.module import QueryModule
from relann.schema import Catalog
from tests.algebra.test_asof import SEEDS, TIMES, day, shop, shop_until, timed

QUERIES = {
    "mean of rows": """
        WITH o AS (SELECT cid, avg(relu(features(o, 4))) AS z FROM orders o GROUP BY cid)
        SELECT c.id AS cid, linear(features(c, 4) + linear(coalesce(o.z, 0), 4), 1) AS logit
        FROM customer c LEFT JOIN o ON o.cid = c.id""",
    "time since": """
        WITH o AS (SELECT cid, avg(relu(features(o, 4) + time_since(o.ts, 4))) AS z
                   FROM orders o GROUP BY cid)
        SELECT c.id AS cid, linear(coalesce(o.z, 0), 1) AS logit
        FROM customer c LEFT JOIN o ON o.cid = c.id""",
    "time since the last": """
        WITH o AS (SELECT cid, relu(linear(sum(features(o, 4)), 4) + time_since(max(ts), 4)) AS z
                   FROM orders o GROUP BY cid)
        SELECT c.id AS cid, linear(coalesce(o.z, 0), 1) AS logit
        FROM customer c LEFT JOIN o ON o.cid = c.id""",
    "two hops": """
        WITH p AS (SELECT p.pid, features(p, 4) AS z FROM product p),
             s AS (SELECT o.pid, max(linear(p.z, 4) * o.amount) AS z
                   FROM orders o JOIN p USING (pid) GROUP BY o.pid),
             h AS (SELECT o.cid, sum(relu(linear(s.z, 4) + linear(p.z, 4))) AS z
                   FROM orders o JOIN s USING (pid) JOIN p USING (pid) GROUP BY o.cid)
        SELECT c.id AS cid, linear(coalesce(h.z, 0), 1) AS logit
        FROM customer c LEFT JOIN h ON h.cid = c.id""",
    "attention": """
        WITH m AS (SELECT e.dst, linear(features(c, 4), 4) AS v, features(c, 4) AS k
                   FROM follows e JOIN customer c ON c.id = e.src),
             a AS (SELECT dst, v, softmax(linear(k, 1)) OVER (PARTITION BY dst) AS w FROM m),
             h AS (SELECT dst, sum(v * w) AS z FROM a GROUP BY dst)
        SELECT c.id AS cid, linear(coalesce(h.z, 0), 1) AS logit
        FROM customer c LEFT JOIN h ON h.dst = c.id""",
    "the last two": """
        WITH r AS (SELECT o.cid, o.ts, features(o, 4) AS z FROM orders o
                   QUALIFY row_number() OVER (PARTITION BY o.cid ORDER BY o.ts DESC, o.oid) <= 2),
             o AS (SELECT cid, sum(relu(z)) AS z FROM r GROUP BY cid)
        SELECT c.id AS cid, linear(coalesce(o.z, 0), 1) AS logit
        FROM customer c LEFT JOIN o ON o.cid = c.id""",
    "a layer of the library": """
        WITH h AS (SELECT id, relu(x) AS z FROM relann.sage(
            (SELECT id, features(c, 4) AS x FROM customer c), follows, 4))
        SELECT id AS cid, linear(z, 1) AS logit FROM h""",
    "a running sum": """
        WITH r AS (SELECT o.cid, sum(features(o, 4)) OVER (PARTITION BY o.cid ORDER BY o.ts) AS z
                   FROM orders o),
             o AS (SELECT cid, max(relu(z)) AS z FROM r GROUP BY cid)
        SELECT c.id AS cid, linear(coalesce(o.z, 0), 1) AS logit
        FROM customer c LEFT JOIN o ON o.cid = c.id""",
    "all rows": """
        SELECT c.id AS cid, linear(features(c, 4) * t.z, 1) AS logit
        FROM customer c CROSS JOIN (SELECT count(features(o, 4)) AS z FROM orders o) t""",
}


def library_layer(name: str) -> Layer | None:
    definition = library.definition(name)
    return None if definition is None else Layer.parsed(definition)


def program(con: duckdb.DuckDBPyConnection, node: Node) -> tuple[Program, RowMaps]:
    catalog = Catalog(con)
    made = Program(node, Statistics(catalog.estimate, catalog.sketch))
    return made, build(made.plan, DuckDBEngine(con))


def at(timeless: Node, time: datetime) -> Node:
    """The query where the anchor is one time."""
    now = Query(f"SELECT TIMESTAMP '{time}' AS \"anchor()\"", Anchor().columns)
    return timeless.transformed(lambda node: now if isinstance(node, Anchor) else None)


def scores(module: QueryModule, maps: RowMaps) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        batch = module.bind(maps)
        ((values, _),) = module.forward(batch)
    valid = batch.outputs[0][2]
    return values.numpy(), np.ones(len(values), bool) if valid is None else valid


@pytest.mark.parametrize("end", [None, day(12)], ids=["rolling", "frozen"])
@pytest.mark.parametrize("name", QUERIES)
def test_as_of_each_anchor(name: str, end: datetime | None) -> None:
    con = shop(0)
    node = timed(con, QUERIES[name], library_layer)
    _, maps = program(con, as_of(node, SEEDS, Clock(TIMES.get, end)))
    encoders = Encoders.fit(maps.plan, maps)
    module = QueryModule(maps.plan, encoders, 0).eval()
    values, valid = scores(module, maps)
    output = {n: maps.columns[maps.plan.output, c].to_pylist() for n, c in maps.plan.contents}
    assert len(values) == len(output["cid"]) == 9
    for row, (cid, time) in enumerate(zip(output["cid"], output["tm"], strict=True)):
        cut = shop_until(0, min(time, end) if end else time)
        timeless = timed(cut, QUERIES[name], library_layer)
        _, own = program(cut, at(timeless, time))
        same = QueryModule(own.plan, encoders, 0).eval()
        same.load(module.state())
        expected, known = scores(same, own)
        (place,) = (c for n, c in own.plan.contents if n == "cid")
        keys = own.columns[own.plan.output, place].to_pylist()
        here = [i for i, key in enumerate(keys) if key == cid and known[i]]
        assert len(here) == int(valid[row])
        if here:
            np.testing.assert_allclose(values[row], expected[here[0]], rtol=2e-4, atol=2e-5)


def test_columns_of_the_seeds_are_kept_apart() -> None:
    con = shop(0)
    node = as_of(timed(con, QUERIES["mean of rows"]), SEEDS, Clock(TIMES.get))
    assert [c.name for c in node.columns] == ["cid", "tm", "y", "logit"]
    assert node.by_name["logit"] == Column("logit", width=1)
