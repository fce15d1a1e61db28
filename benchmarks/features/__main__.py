"""DFS features with cutoff times, relann's and featuretools': `python -m benchmarks.features DATA`.

DATA is the folder of the data sets `rel-f1` and `rel-stack-travel`. Both sides compute count, sum,
mean, minimum, maximum and standard deviation of numbers and mode and number of distinct values of
categories over the rows that name an entity (depth 1), besides of what these rows' parents and
children say (depth 2), for training seeds of the task, each as of its anchor. relann's time is from
the schema to Arrow columns: writing the query, binding, proving and planning it, running it in
DuckDB; featuretools' is `calculate_feature_matrix` on an entity set that is there. featuretools
gets exactly the features that both have; relann computes all of its query.

Seeds: all training seeds of the task, on both sides; with `--anchors` those of so many anchors,
spread evenly. featuretools works through one anchor after the other, so its time is by anchors,
relann's by rows. featuretools runs in an environment of its own, made in a temporary folder by pip,
or by the Python that `--peer` names.

Features are compared with a tolerance of 1e-6, relative and absolute. Missing values: where there
are no rows relann's sum is NULL as in SQL and featuretools' is 0, hence a missing sum counts as 0,
and a missing number of distinct values too; all other missing values must be missing in both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.features.shared import OPTIONS, Feature, features
from benchmarks.relbench import Prepared
from relann.models.generators import Target, dfs
from relann.models.generators.program import entity_of, links, table_sql
from relann.models.generators.values import Columns, read_from
from relann.schema import Catalog, Relation, Schema, unquoted

TASKS = ("rel-f1/driver-dnf", "rel-stack-travel/user-engagement")
PEER = ("featuretools==1.31.0", "pandas==2.3.3", "numpy<2.3", "pyarrow")
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Ours:
    """Features by name as pandas columns, with the seeds' `key` and `time`; seconds of each run."""

    matrix: pd.DataFrame
    seconds: list[float]


def main() -> None:
    """Print a Markdown table, a row for each task and depth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--anchors", type=int, help="how many; all by default")
    parser.add_argument("--repeats", type=int, default=5, help="of relann; 3 of the other if quick")
    parser.add_argument("--peer", type=Path, help="a Python that has featuretools")
    given = parser.parse_args()
    print(f"{date.today()}, load {os.getloadavg()[0]:.1f}\n")
    print(
        "| task | depth | seeds, anchors | features of both | relann, s | featuretools, s | ratio "
        "| equal | seeds/s of each |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        peer = given.peer or _environment(Path(folder) / "peer")
        for task in given.only:
            for depth in (1, 2):
                print(_row(given, task, depth, peer, Path(folder)), flush=True)


def _environment(folder: Path) -> Path:
    """The Python of a new environment with featuretools."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *PEER], check=True, stderr=subprocess.DEVNULL)
    return python


def _row(given: argparse.Namespace, task: str, depth: int, peer: Path, folder: Path) -> str:
    data, _, name = task.partition("/")
    whole = Prepared.of(given.data / data, name, "split = 'train'")
    if given.anchors is None:
        some = whole
    else:
        times = ", ".join(f"'{a}'" for a in _spread(whole, given.anchors))
        condition = f"split = 'train' AND {whole.files.time_col} IN ({times})"
        some = Prepared.of(given.data / data, name, condition)
    ours = _ours(some, depth, given.repeats)
    shared, seconds = _theirs(some, depth, ours, peer, folder)
    matrix = pd.read_parquet(folder / "matrix.parquet")
    equal, told = _compared(ours.matrix, matrix, shared)
    mine, other = statistics.median(ours.seconds), statistics.median(seconds)
    rows, anchors = len(ours.matrix), ours.matrix["time"].nunique()
    cells = [
        task,
        str(depth),
        f"{rows:,}, {anchors}",
        f"{len(shared)} of {ours.matrix.shape[1] - 2}",
        f"{mine:.2f}",
        f"{other:.1f}" + ("" if len(seconds) > 1 else " (once)"),
        f"{other / mine:.0f}",
        f"{equal} of {len(shared)}" + told,
        f"{rows / mine:,.0f} and {rows / other:,.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _spread(prepared: Prepared, count: int) -> Sequence[str]:
    """Some of the anchors, at even distances, the last among them."""
    task = prepared.task
    rows = prepared.connection.sql(
        f'SELECT DISTINCT "{task.time}"::TIMESTAMP FROM {task.seeds} ORDER BY 1'
    ).fetchall()
    places = np.linspace(0, len(rows) - 1, count + 1).round().astype(int)[1:]
    return [str(rows[place][0]) for place in places]


def _target(prepared: Prepared) -> Target:
    task = prepared.task
    assert task.table is not None and task.key is not None
    return Target(task.table, task.key, task.entity)


def _schema(prepared: Prepared) -> Schema:
    """The schema without foreign keys of a table to itself, which featuretools has not."""
    known = prepared.schema
    relations = {
        name: Relation(
            r.table, r.key, r.time, tuple(f for f in r.foreign if known.find(f.table) is not r)
        )
        for name, r in known.relations.items()
    }
    return Schema(relations, known.current)


def _ours(prepared: Prepared, depth: int, repeats: int) -> Ours:
    """relann's features, from the schema to columns; once more than counted."""
    task, seconds = prepared.task, []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        catalog = Catalog(prepared.connection)
        text = dfs(_schema(prepared), catalog, _target(prepared), max_depth=depth, **OPTIONS)
        maps = prepared.maps(prepared.program(text))
        seconds.append(time.perf_counter() - began)
    plan = maps.plan
    found = {name: maps.columns[plan.output, content] for name, content in plan.contents}
    table = pa.table({n: v for n, v in found.items() if n not in (task.label, task.split)})
    matrix = table.to_pandas().rename(columns={task.entity: "key", task.time: "time"})
    return Ours(matrix, seconds[1:])


def _theirs(
    prepared: Prepared, depth: int, ours: Ours, peer: Path, folder: Path
) -> tuple[list[Feature], list[float]]:
    """The features of both, and featuretools' seconds; its matrix is in the folder."""
    schema, connection, task = _schema(prepared), prepared.connection, prepared.task
    entity = entity_of(schema, _target(prepared))
    columns = Columns(schema, Catalog(connection), 0, None)
    shared = [f for f in features(schema, entity, columns, depth) if f.name in ours.matrix.columns]
    (folder / "tables").mkdir(exist_ok=True)
    tables = []
    for relation in schema.relations.values():
        name = unquoted(relation.table.name.rpartition(".")[2])
        values = [v for v in columns.of(relation) if v.kind != "time"]
        items = [] if relation.key is None else [f't."{relation.key}"']
        # featuretools wants keys of one integer type, hence no NULL: -1 names no row
        items += [f'coalesce(t."{f.column}", -1) AS "{f.column}"' for f in relation.foreign]
        items += [f't."{relation.time}"::TIMESTAMP AS "{relation.time}"'] if relation.time else []
        items += [f'{read_from(v, "t")} AS "{v.name}"' for v in values]
        until = (
            f"WHERE t.\"{relation.time}\" <= TIMESTAMP '{prepared.end}'" if relation.time else ""
        )
        rows = connection.sql(
            f"SELECT {', '.join(items)} FROM {table_sql(relation.table.name)} t {until}"
        ).to_arrow_table()
        pq.write_table(rows, folder / "tables" / f"{name}.parquet")
        kinds = {v.name: v.kind for v in values}
        kinds |= {relation.time: "time"} if relation.time else {}
        tables.append({"name": name, "key": relation.key, "time": relation.time, "columns": kinds})
    foreign = [
        (
            unquoted(link.parent.table.name.rpartition(".")[2]),
            link.foreign.references,
            unquoted(link.child.table.name.rpartition(".")[2]),
            link.foreign.column,
        )
        for link in links(schema)
    ]
    plan = {
        "entity": unquoted(entity.table.name.rpartition(".")[2]),
        "tables": tables,
        "foreign": foreign,
        "features": [asdict(f) for f in shared],
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    seeds = connection.sql(
        f'SELECT "{task.entity}" AS key, "{task.time}"::TIMESTAMP AS time FROM {task.seeds}'
    ).to_arrow_table()
    pq.write_table(seeds, folder / "seeds.parquet")
    command = [str(peer), str(Path(__file__).with_name("peer.py")), str(folder)]
    done = subprocess.run([*command, "1"], stdout=subprocess.PIPE, text=True, check=True)
    seconds = json.loads(done.stdout.splitlines()[-1])["seconds"]
    if seconds[0] < 20:
        done = subprocess.run([*command, "3"], stdout=subprocess.PIPE, text=True, check=True)
        seconds = json.loads(done.stdout.splitlines()[-1])["seconds"]
    return shared, seconds


def _compared(
    ours: pd.DataFrame, theirs: pd.DataFrame, shared: Sequence[Feature]
) -> tuple[int, str]:
    """How many features are equal, and the names of those that are not."""
    theirs = theirs.rename(columns={theirs.columns[0]: "key"})
    for side in (ours, theirs):
        side["time"] = side["time"].astype("datetime64[us]")
    both = ours.merge(theirs, on=["key", "time"], suffixes=("", "|other"), validate="one_to_one")
    if len(both) != len(ours):
        raise SystemExit(f"{len(both)} of {len(ours)} seeds are in both matrices")
    different = []
    for feature in shared:
        a, b = both[feature.name], both[f"{feature.name}|other"]
        if feature.how in ("sum", "count_distinct"):
            a, b = a.fillna(0), b.fillna(0)
        if feature.how == "mode" and not pd.api.types.is_numeric_dtype(a.dropna()):
            same = (a.isna() & b.isna()) | (a.astype(str) == b.astype(str))
        else:
            one, other = a.astype(float).to_numpy(), b.astype(float).to_numpy()
            same = np.isclose(one, other, TOLERANCE, TOLERANCE, equal_nan=True)
        if not same.all():
            different.append(f"{feature.name} ({int((~same).sum())} rows)")
    told = f"; not: {', '.join(different[:6])}" if different else ""
    return len(shared) - len(different), told


if __name__ == "__main__":
    main()
