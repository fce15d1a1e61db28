"""relann's side: a program's training epoch, bound to tables in a fresh database."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import duckdb
import torch

from benchmarks.speed.data import Stored, Tables, fill
from relann.algebra.engines.duckdb import DuckDBEngine
from relann.algebra.layers import Layer
from relann.algebra.parse import statements
from relann.algebra.rowmaps import RowMaps, build
from relann.algebra.statements import CreateModel
from relann.models import library
from relann.models.options import Options
from relann.models.program import Program
from relann.models.training import learning_of
from relann.provenance.encoders import Encoders
from relann.provenance.module import QueryModule
from relann.schema import Catalog

OPTIONS = Options(label="label", split="split", epochs=1_000_000, lr=0.01)


@dataclass(frozen=True)
class Prepared:
    """A program whose row maps are built: `epoch` is one training step and returns its loss.

    `seconds` from text to row maps and from there to the end of the first epoch.
    """

    epoch: Callable[[], float]
    maps: RowMaps
    seconds: tuple[float, float]


def database(tables: Tables) -> duckdb.DuckDBPyConnection:
    """A database that holds the tables: their own if they are stored, else one in memory."""
    connection = duckdb.connect(tables.path if isinstance(tables, Stored) else ":memory:")
    connection.execute("SET enable_progress_bar = false")
    if not isinstance(tables, Stored):
        fill(connection, tables)
    return connection


def program(connection: duckdb.DuckDBPyConnection, text: str) -> Program:
    """The program of a SELECT."""
    (statement,) = statements(f"CREATE MODEL m AS {text}")
    assert isinstance(statement, CreateModel)
    body = statement.body
    hidden = ("label", "split")
    return Program.compile(body.query, body.span.text, Catalog(connection), _layer, "m", hidden)


def _layer(name: str) -> Layer | None:
    known = name.lower().startswith(library.PREFIX)
    return Layer.parsed(library.definition(name)) if known else None


def training(tables: Tables, text: str) -> Prepared:
    """A model in training on the tables."""
    return trained_from(database(tables), text)


def trained_from(connection: duckdb.DuckDBPyConnection, text: str) -> Prepared:
    """A model in training on a database, its first epoch done."""
    began = time.perf_counter()
    compiled = program(connection, text)
    maps = build(compiled.plan, DuckDBEngine(connection))
    built = time.perf_counter()
    learning = learning_of(maps, OPTIONS)
    learning.steps(1)
    seconds = built - began, time.perf_counter() - built
    return Prepared(lambda: learning.steps(2), maps, seconds)


def summing(tables: Tables, text: str) -> Prepared:
    """A query without labels: forward, then backward from the sum of its output."""
    connection = database(tables)
    began = time.perf_counter()
    maps = build(program(connection, text).plan, DuckDBEngine(connection))
    built = time.perf_counter()
    module = QueryModule(maps.plan, Encoders.fit(maps.plan, maps))
    batch = module.bind(maps)

    def epoch() -> float:
        module.zero_grad(set_to_none=True)
        total: torch.Tensor = module(batch)[0][0].sum()
        if total.requires_grad:
            total.backward()
        return total.item()

    epoch()
    return Prepared(epoch, maps, (built - began, time.perf_counter() - built))
