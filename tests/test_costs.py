"""What an epoch of each library layer consists of, pinned: products, gathers, sparse sums.

A change that makes a layer do more shows here. `RELANN_UPDATE_GOLDEN=1` rewrites `cases/costs.txt`.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import duckdb
import pytest

from benchmarks.speed.engine import program
from relann.algebra.engines.duckdb import DuckDBEngine
from relann.algebra.plan import Gather, Plan, ProductSum, SegmentReduce, SparseProduct
from relann.algebra.rowmaps import build
from relann.algebra.terms import Linear

FILE = Path(__file__).parent / "cases" / "costs.txt"
LAYERS = {
    "gcn": "relann.gcn(node, edge, 16)",
    "sage": "relann.sage(node, edge, 16)",
    "gat": "relann.gat(node, edge, 16, heads => 4)",
    "gatv2": "relann.gatv2(node, edge, 16, heads => 4)",
    "gin": "relann.gin(node, edge, 16)",
    "pna": "relann.pna(node, edge, 16)",
    "rgcn": "relann.rgcn(node, edge, 16)",
    "hgt": "relann.hgt(node, edge, 8, heads => 2)",
    "hgnn": "relann.hgnn(node, (SELECT src AS node, dst AS hyperedge FROM edge), 16)",
    "path_3": "relann.path_3(node, edge, 8)",
    "cycle_3": "relann.cycle_3(node, edge, 8)",
    "star_3": "relann.star_3(node, edge, 8)",
}
KINDS = {
    "products": Linear,
    "gathers": Gather,
    "sparse products": SparseProduct,
    "sums of products": ProductSum,
    "reductions": SegmentReduce,
}


@pytest.fixture(scope="module")
def graph() -> duckdb.DuckDBPyConnection:
    """A thousand nodes of two types, ten thousand edges of three relations."""
    con = duckdb.connect()
    con.execute(
        "CREATE TABLE node AS SELECT i AS id, ['a', 'b'][1 + i % 2] AS type, "
        "[i % 3, i % 5, i % 7, 1, 0, i % 2, i % 11, 2]::FLOAT[8] AS x FROM range(1000) t(i);"
        "CREATE TABLE edge AS SELECT (i * 7919) % 1000 AS src, (i * 104729 + i // 7) % 1000 AS dst,"
        " i % 3 AS rel FROM range(10000) t(i);"
    )
    return con


def cost(plan: Plan) -> str:
    """How many steps of each kind a plan has."""
    counts = Counter(
        name for s in plan.steps for name, kind in KINDS.items() if isinstance(s.operation, kind)
    )
    return ", ".join(f"{counts[name]} {name}" for name in KINDS)


@pytest.mark.parametrize("name", LAYERS)
def test_costs(graph: duckdb.DuckDBPyConnection, name: str) -> None:
    """An epoch of the layer has the steps the file says."""
    maps = build(program(graph, f"SELECT id, x FROM {LAYERS[name]}").plan, DuckDBEngine(graph))
    known = dict(line.split(": ", 1) for line in FILE.read_text().splitlines())
    if os.environ.get("RELANN_UPDATE_GOLDEN"):
        known[name] = cost(maps.plan)
        FILE.write_text("".join(f"{n}: {known[n]}\n" for n in LAYERS if n in known))
    assert cost(maps.plan) == known[name]
