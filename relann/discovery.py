"""Keys, foreign keys and time columns of a database, read from its constraints."""

from __future__ import annotations

import re

import duckdb

from relann.schema import Catalog, ForeignKey, Relation, Schema

_TIME = re.compile(r"(DATE|TIMESTAMP.*)\Z")


def discover(connection: duckdb.DuckDBPyConnection) -> Schema:
    """The schema of a connection's current database: declared keys; the only time of a table."""
    catalog = Catalog(connection)
    rows = connection.execute(
        "SELECT table_name, constraint_type, constraint_column_names, referenced_table, "
        "referenced_column_names FROM duckdb_constraints() "
        "WHERE database_name = current_database() AND schema_name = current_schema()"
    ).fetchall()
    relations = {}
    for name in catalog.names():
        if "." in name:
            continue
        table = catalog.table(_quoted(name))
        if table is None:
            continue
        own = [r for r in rows if r[0] == name]
        keys = [r[2][0] for r in own if r[1] == "PRIMARY KEY" and len(r[2]) == 1]
        foreign = tuple(
            ForeignKey(r[2][0], _quoted(r[3]), r[4][0])
            for r in own
            if r[1] == "FOREIGN KEY" and len(r[2]) == 1
        )
        times = [c for c, t in table.columns if _TIME.match(t)]
        relations[table.name] = Relation(
            table, keys[0] if keys else None, times[0] if len(times) == 1 else None, foreign
        )
    return Schema(relations)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
