"""The schema of a database as rows: what SHOW SCHEMA shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from relann.discovery import Finding, survey
from relann.schema import Relation, name_parts, quote

Fact = tuple[str, str, str | None, str | None, str | None]

COLUMNS = ("table", "fact", "column", "origin", "detail")


def overview(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """The facts of all tables and views, one a row, all columns VARCHAR.

    `fact` is 'table' (with its number of rows), 'key', 'time' (with its first and last day, in the
    session's time zone, and how many rows lack one), 'foreign key' (with what it refers to, how
    many of its values are NULL and how many dangle: are no key there) or 'note', for what deserves
    a look. `origin` says where a fact comes from; 'key' and 'time' of a table declared to have none
    have a NULL column.
    """
    findings = survey(connection)
    mixed = _mixed(findings)
    facts = [fact for finding in findings for fact in _facts(connection, finding, mixed)]
    arrays = [pa.array([fact[i] for fact in facts], pa.string()) for i in range(len(COLUMNS))]
    return pa.Table.from_arrays(arrays, names=list(COLUMNS))


def _facts(connection: duckdb.DuckDBPyConnection, finding: Finding, mixed: str) -> Iterator[Fact]:
    relation = finding.relation
    table, origins = _plain(relation.table.name), dict(relation.origins)
    rows = finding.rows
    yield table, "table", None, None, None if rows is None else _many(rows, "row")
    if rows is None:
        for note in finding.notes:
            yield table, "note", None, None, note
        return
    duplicates, untimed, first, last, *counts = _measure(connection, relation)
    if "key" in origins:
        said = f"{_many(duplicates, 'row')} repeat it or lack it" if duplicates else None
        yield table, "key", relation.key, origins["key"], said
    if "time" in origins:
        span = f"{first} to {last}" if first is not None else None
        unseen = f"{_many(untimed, 'row')} without one, never seen by a task" if untimed else None
        detail = "; ".join(filter(None, [span, unseen])) or None
        yield table, "time", relation.time, origins["time"], detail
    for index, key in enumerate(relation.foreign):
        missing, dangling = counts[2 * index : 2 * index + 2]
        about = [f"{_plain(key.table)}.{key.references}"]
        about += [f"{missing:,} NULL"] * bool(missing) + [f"{dangling:,} dangling"] * bool(dangling)
        yield table, "foreign key", key.column, origins[key.column], ", ".join(about)
    for note in [*finding.notes, *([mixed] if mixed and relation.time else [])]:
        yield table, "note", None, None, note


def _measure(connection: duckdb.DuckDBPyConnection, relation: Relation) -> Sequence[Any]:
    """How many more rows than keys; rows without a time; its span; NULL and dangling per key."""
    terms = ["0 * count(*)"]  # one row also where nothing is known of the table
    if relation.key is not None:
        terms = [f"count(*) - count(DISTINCT {_quoted(relation.key)})"]
    if relation.time is None:
        terms += ["0", "NULL", "NULL"]
    else:
        time = _quoted(relation.time)
        terms += [f"count(*) - count({time})", f"min({time})::DATE", f"max({time})::DATE"]
    for key in relation.foreign:
        value, to = _quoted(key.column), _quoted(key.references)
        keys = f"SELECT {to} FROM {key.table} WHERE {to} IS NOT NULL"
        terms += [
            f"count(*) - count({value})",
            f"count({value}) - count(*) FILTER (WHERE {value} IN ({keys}))",
        ]
    (row,) = connection.execute(f"SELECT {', '.join(terms)} FROM {relation.table.name}").fetchall()
    return tuple(row)


def _mixed(findings: Sequence[Finding]) -> str:
    """A note for a database whose times are of types that compare through the session's clock."""
    kinds = set()
    for finding in findings:
        if finding.relation.time is not None:
            kinds.add(dict(finding.relation.table.columns)[finding.relation.time])
    zoned = {kind for kind in kinds if kind.endswith("WITH TIME ZONE")}
    if not zoned or zoned == kinds:
        return ""
    return f"the times of tables are {', '.join(sorted(kinds))}: compared in the session's zone"


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}" + "s" * (number != 1)


def _plain(name: str) -> str:
    return ".".join(name_parts(name))


def _quoted(name: str) -> str:
    return f'"{quote(name)}"'
