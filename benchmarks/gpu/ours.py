"""relann's side: models on a device, row maps by an engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import duckdb
import numpy as np
import pyarrow as pa
import torch

from benchmarks.gpu.graphs import Tables
from benchmarks.gpu.kernels import seconds
from relann.algebra.engines.choice import engine_for
from relann.algebra.layers import Layer
from relann.algebra.nodes import Aggregate, Alias, Column, Join, Node, Scan
from relann.algebra.parse import statements
from relann.algebra.rowmaps import RowMaps, build
from relann.algebra.statements import CreateModel
from relann.algebra.terms import Content, column
from relann.models import library
from relann.models.options import Options
from relann.models.program import Program
from relann.models.training import learning_of
from relann.provenance.encoders import Encoders
from relann.provenance.kernels import operations
from relann.provenance.module import QueryModule
from relann.schema import Catalog


def database(tables: Tables) -> duckdb.DuckDBPyConnection:
    """A fresh database in memory that holds the tables."""
    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false").fetchall()
    for name, table in tables.items():
        connection.register("arrow", table)
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM arrow").fetchall()
        connection.unregister("arrow")
    return connection


def maps_of(program: str, tables: Tables, engine: str) -> RowMaps:
    """The row maps of a model's program, made by an engine."""
    connection = database(tables)
    (statement,) = statements(f"CREATE MODEL m AS {program}")
    assert isinstance(statement, CreateModel)
    body = statement.body
    made = Program.compile(
        body.query, body.span.text, Catalog(connection), _layer, "m", ("label", "split")
    )
    return build(made.plan, engine_for(engine, connection))


def _layer(name: str) -> Layer | None:
    known = name.lower().startswith(library.PREFIX)
    return Layer.parsed(library.definition(name)) if known else None


def epoch_of(
    maps: RowMaps, device: torch.device, precision: Any = "float32"
) -> Callable[[], float]:
    """One training step on row maps; it returns the loss."""
    options = Options(
        label="label", split="split", epochs=1_000_000, device=device.type, precision=precision
    )
    epochs = learning_of(maps, options).epochs()
    return lambda: next(epochs).loss


def apart(maps: RowMaps, device: torch.device) -> float:
    """How far a model on the device is from the one on the CPU: the largest difference of outputs
    and gradients, over the largest size of any.

    On the CPU the operations of other devices are taken instead of the compiled loops.
    """
    found: list[list[torch.Tensor]] = []
    for place, compiled in ((torch.device("cpu"), operations.COMPILED), (device, ())):
        with mock.patch.object(operations, "COMPILED", compiled):
            module = QueryModule(maps.plan, Encoders.fit(maps.plan, maps), device=place).eval()
            ((value, _),) = module(module.bind(maps))
            value.square().mean().backward()
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        found.append([t.detach().cpu().double() for t in (value, *gradients)])
    return max(
        float((a - b).abs().max() / a.abs().max().clamp(min=1e-6))
        for a, b in zip(*found, strict=True)
    )


def _fact(rows: int) -> Tables:
    generator = np.random.default_rng(0)
    keys = max(2, rows // 10)
    big = {"k": generator.integers(0, keys, rows), "v": generator.integers(0, 1000, rows)}
    small = {"k": generator.permutation(keys), "w": generator.integers(0, 5, keys)}
    return {"fact": pa.table(big), "dim": pa.table(small)}


def row_map_times(rows: int, engine: str, device: torch.device) -> dict[str, tuple[float, float]]:
    """Seconds of a join and of group numbers by an engine and by DuckDB, tables held already.

    SystemExit where the two disagree.
    """
    connection = database(_fact(rows))
    whole = {"fact": ("k", "v"), "dim": ("k", "w")}
    scans = {t: Scan(t, tuple(Column(c, type="BIGINT") for c in cs)) for t, cs in whole.items()}
    joined = Join(
        Alias(scans["fact"], "f"), Alias(scans["dim"], "d"), "inner",
        Content('"f.k" = "d.k"', "BOOLEAN"),
    )  # fmt: skip
    counted = Aggregate(joined, ("d.w",), (("n", Content("count(*)", "BIGINT")),))
    times: dict[str, list[float]] = {"join": [], "group ids": []}
    answers = []
    for name in (engine, "duckdb"):
        made = engine_for(name, connection)
        relation = made.rows(counted, counted.names, ["d.w"], {})
        answers.append([a.to_pylist() for a in made.arrays(relation, _columns(counted))])
        with made.sharing([scans["fact"], scans["dim"]], []):
            source = made.rows(scans["fact"], ["k", "v"], [], {})
            made.rows(scans["dim"], ["k", "w"], [], {})
            run = partial(made.rows, joined, ["f.v", "d.w"], [], {})
            repeats = 1 if rows > 10_000_000 else 2
            times["join"].append(seconds(run, device, repeats))
            run = partial(made.groups, source, ["k"], {})
            times["group ids"].append(seconds(run, device, repeats))
    if answers[0] != answers[1]:
        raise SystemExit(f"{engine} and duckdb disagree on a join of {rows:,} rows")
    return {what: (found[0], found[1]) for what, found in times.items()}


def _columns(node: Node) -> list[Content]:
    return [column(c.name, c.type or "") for c in node.columns]
