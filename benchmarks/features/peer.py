"""The features of a plan by featuretools, run by the Python of an environment that has it.

    python peer.py FOLDER REPEATS

FOLDER holds `plan.json`, a Parquet file for each table under `tables`, and `seeds.parquet`; the
matrix goes to `matrix.parquet`, seconds of each repeat and peak memory to the output as JSON. It
imports nothing of this project.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import featuretools as ft
import pandas as pd
from featuretools import primitives as p
from featuretools.entityset.relationship import RelationshipPath

PRIMITIVES = {
    "count": p.Count,
    "sum": p.Sum,
    "avg": p.Mean,
    "min": p.Min,
    "max": p.Max,
    "stddev": p.Std,
    "mode": p.Mode,
    "count_distinct": p.NumUnique,
}
TYPES = {"number": "Double", "category": "Categorical", "time": "Datetime"}


def main() -> None:
    """Calculate the matrix as often as asked."""
    warnings.simplefilter("ignore")
    folder, repeats = Path(sys.argv[1]), int(sys.argv[2])
    plan = json.loads((folder / "plan.json").read_text())
    entities = entity_set(folder, plan)
    made = [feature(entities, plan["entity"], f) for f in plan["features"]]
    seeds = pd.read_parquet(folder / "seeds.parquet").rename(columns={"key": "instance_id"})
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        matrix = ft.calculate_feature_matrix(
            made, entities, cutoff_time=seeds[["instance_id", "time"]], cutoff_time_in_index=True
        )
        seconds.append(time.perf_counter() - began)
    for name in matrix.columns:
        if isinstance(matrix[name].dtype, pd.CategoricalDtype):
            numeric = pd.api.types.is_numeric_dtype(matrix[name].cat.categories.dtype)
            matrix[name] = matrix[name].astype("float64" if numeric else object)
    matrix.reset_index().to_parquet(folder / "matrix.parquet")
    status = Path("/proc/self/status").read_text().splitlines()
    peak = int(next(line.split()[1] for line in status if line.startswith("VmHWM"))) / 1024
    print(json.dumps({"seconds": seconds, "mb": peak, "version": ft.__version__}))


def entity_set(folder: Path, plan: dict) -> ft.EntitySet:
    """The tables with their keys, times, types and foreign keys."""
    entities = ft.EntitySet("data")
    for table in plan["tables"]:
        rows = pd.read_parquet(folder / "tables" / f"{table['name']}.parquet")
        types = {column: TYPES[kind] for column, kind in table["columns"].items()}
        entities.add_dataframe(
            rows, table["name"], table["key"], time_index=table["time"], logical_types=types
        )
    for parent, key, child, column in plan["foreign"]:
        entities.add_relationship(parent, key, child, column)
    return entities


def feature(entities: ft.EntitySet, entity: str, asked: dict) -> ft.feature_base.FeatureBase:
    """A feature under the name asked for."""
    child, other, column = asked["child"], asked["other"], asked["column"]
    if other is None:
        base = read(entities, child, column)
    elif asked["inner"] is None:
        path = relationship(entities, other, child, asked["via"])
        base = ft.DirectFeature(read(entities, other, column), child, relationship=path)
    else:
        inner = read(entities, other, column)
        path = relationship(entities, child, other, asked["via"])
        base = aggregated(inner, child, asked["inner"], path)
    path = relationship(entities, entity, child, asked["by"])
    return aggregated(base, entity, asked["how"], path).rename(asked["name"])


def read(entities: ft.EntitySet, table: str, column: str | None) -> ft.IdentityFeature:
    """A column, or the key where rows are counted."""
    rows = entities[table]
    return ft.IdentityFeature(rows.ww[rows.ww.index if column is None else column])


def aggregated(base, parent: str, how: str, path) -> ft.AggregationFeature:
    """An aggregate over the rows that name a row of the parent by one foreign key."""
    route = RelationshipPath([(False, path)])
    return ft.AggregationFeature(base, parent, PRIMITIVES[how], relationship_path=route)


def relationship(entities: ft.EntitySet, parent: str, child: str, column: str):
    """The foreign key between two tables by a column."""
    (found,) = [
        r
        for r in entities.relationships
        if (r._parent_dataframe_name, r._child_dataframe_name) == (parent, child)
        and r._child_column_name == column
    ]
    return found


if __name__ == "__main__":
    main()
