"""Task signals: what a task and its database tell before any model is trained."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from relann.algebra.engines.protocol import Engine
from relann.autoselect.ground import Ground, Signal
from relann.autoselect.history import autocorrelation, baselines
from relann.autoselect.homophily import homophily
from relann.autoselect.probes import probe
from relann.autoselect.shape import feature_shape, path_shape, size, time_shape
from relann.models.tasks import Task
from relann.schema import Schema

COLUMNS = pa.schema(
    [
        ("signal", pa.string()),
        ("path", pa.string()),
        ("value", pa.float64()),
        ("rows", pa.int64()),
        ("meaning", pa.string()),
        ("note", pa.string()),
        ("sql", pa.string()),
    ]
)


def signals(
    connection: duckdb.DuckDBPyConnection,
    engine: Engine,
    task: Task,
    schema: Schema,
    probes: bool = True,
) -> list[Signal]:
    """All signals of a task, the cheapest first.

    The same data give the same signals, but for the seconds of the probes and the last digits of
    sums that run in parallel.

    Only training labels are read, each at anchors at which it is known; validation labels by the
    baselines and the probes alone, to measure them; test labels never. What is undefined has no
    value, and a note says why. Nothing is written.
    """
    ground = Ground(connection, task, schema)
    found = [
        *size(ground),
        *path_shape(ground),
        *feature_shape(ground),
        *time_shape(ground),
        *autocorrelation(ground),
        *baselines(ground),
        *homophily(ground),
    ]
    return [*found, *probe(ground, engine)] if probes else found


def as_table(found: Sequence[Signal]) -> pa.Table:
    """Signals as rows, see COLUMNS."""
    return pa.Table.from_pylist([vars(s) for s in found], schema=COLUMNS)
