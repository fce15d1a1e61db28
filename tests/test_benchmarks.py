"""What benchmarks hand to other libraries is what it says."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import relann
from benchmarks.gpu import ours
from benchmarks.gpu.graphs import PROGRAMS, Size, graph, typed_graph
from benchmarks.speed import data
from benchmarks.speed.engine import database
from benchmarks.temporal.samples import Sampler
from relann.discovery import discover

TABLES = """
CREATE TABLE customer (id INTEGER PRIMARY KEY, country VARCHAR);
CREATE TABLE item (sku INTEGER PRIMARY KEY, price DOUBLE);
CREATE TABLE orders (oid INTEGER PRIMARY KEY, cid INTEGER REFERENCES customer (id),
    sku INTEGER REFERENCES item (sku), ts TIMESTAMP, amount DOUBLE);
INSERT INTO customer SELECT i, 'DE' FROM range(3) t(i);
INSERT INTO item SELECT i, i FROM range(2) t(i);
INSERT INTO orders SELECT i, i % 3, i % 2, TIMESTAMP '2024-01-01' + INTERVAL (i) DAY, i
FROM range(30) t(i);
ALTER TABLE orders SET (time = ts)
"""


def test_subgraphs_hold_the_latest_rows_known_at_each_anchor() -> None:
    """Two seeds of customer 1: at day 9 orders 1, 4, 7 are known; at day 20 the latest 4 count."""
    with relann.connect() as con:
        con.sql(TABLES)
        sampler = Sampler(con.connection, discover(con.connection), (4, 2))
        anchors = [datetime(2024, 1, 10), datetime(2024, 1, 21)]
        seeds = pa.table({"row": [1, 1], "anchor": anchors, "label": [0.0, 1.0]})
        graph = sampler.sample("customer", seeds)
    senders, receivers = graph.edges["orders", "cid", "customer"][
        :, : graph.upto["orders", "cid", "customer"][0]
    ].numpy()
    amounts = amounts_of(graph.x["orders"][0].numpy(), sampler)
    met = [sorted(amounts[senders[receivers == seed]]) for seed in (0, 1)]
    assert met == [[1, 4, 7], [10, 13, 16, 19]]
    # each seed has nodes of its own: 2 customers; of each seed both items
    assert graph.nodes["customer"][-1] == 2
    assert graph.nodes["item"] == [0, 0, 4]
    # of an item no orders are read: it is two hops away already
    assert not graph.edges["orders", "sku", "item"].shape[1]
    assert graph.edges["item", "rev_sku", "orders"].shape[1] == 7
    assert bool((graph.ages["orders"][:, 6] == 0).all())  # none lies in the future


def amounts_of(vectors: np.ndarray, sampler: Sampler) -> np.ndarray:
    """The amounts 0 … 29 again from their standardised values."""
    known = sampler.rows["orders"].vectors.numpy()[:, 0]
    return np.abs(vectors[:, :1] - known).argmin(axis=1)


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_models_of_the_gpu_benchmark_run_on_other_devices_operations(name: str) -> None:
    """On the CPU: on row maps by pandas, against the compiled loops."""
    tables = typed_graph(0.005) if name == "HGT" else graph(Size(40, 150, 8, 3))
    maps = ours.maps_of(PROGRAMS[name], tables, "pandas")
    assert ours.apart(maps, torch.device("cpu")) < 1e-4
    assert ours.epoch_of(maps, torch.device("cpu"))() > 0


LACKING = """
import importlib.abc, runpy, sys

class Lacking(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("duckdb", "sqlglot", "cudf", "cupy"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Lacking())
sys.argv = ["benchmarks.gpu", "--device", "cpu", "--small"]
runpy.run_module("benchmarks.gpu", run_name="__main__")
"""


def test_the_gpu_benchmark_runs_what_it_can_without_a_database() -> None:
    """Kernels; the rest is skipped and says what is missing."""
    done = subprocess.run(
        [sys.executable, "-c", LACKING], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = dict(
        line.split(maxsplit=2)[1:] for line in done.stdout.splitlines() if "kernel" in line
    )
    assert {"gather", "softmax", "greatest"} <= lines.keys()
    assert all("apart from the CPU" in told for told in lines.values())
    assert "networks and row maps" in done.stdout
    assert "skipped duckdb is not installed" in done.stdout
    assert "skipped cupy is not installed" in done.stdout


def test_row_maps_of_the_gpu_benchmark_agree() -> None:
    """Times of both engines for both; it raises where they differ."""
    times = ours.row_map_times(2_000, "pandas", torch.device("cpu"))
    assert set(times) == {"join", "group ids"}
    assert all(second > 0 for pair in times.values() for second in pair)


def test_stored_tables_are_those_that_were_stored(tmp_path: Path) -> None:
    """Row for row; relann's connection is to their file, and open beside no other."""
    tables = data.tiny(0)
    stored = data.Stored.of(tables, tmp_path / "tables.duckdb")
    assert sorted(stored) == sorted(tables) and len(stored) == len(tables)
    for name, table in tables.items():
        assert stored[name].to_pylist() == table.to_pylist()
    with database(stored) as connection:
        assert connection.execute("SELECT count(*) FROM edge").fetchall() == [(400,)]
