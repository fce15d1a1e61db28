"""What a task says about time, as the algebra asks for it: seeds, clock, labels of the past."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from relann.algebra.asof import TIMESTAMP, Clock, Seeds
from relann.algebra.nodes import Column, Node, Query, Scan
from relann.algebra.terms import quoted
from relann.errors import DataError, QueryError, did_you_mean, listing
from relann.models.program import AsOf
from relann.models.tasks import Regime, Task
from relann.schema import Catalog, Schema

KNOWN = "closed"
"""The column of a task's past labels that says when they were known."""


def of_task(task: Task, regime: Regime, schema: Schema, catalog: Catalog) -> AsOf:
    """The task's own seeds, on the part of the database its regime lets them see."""
    found = catalog.table(task.seeds)
    if found is None:
        raise DataError(f"the seeds of task `{task.name}` are gone; create the task again")
    seeds = Scan(task.seeds, tuple(Column(n, type=t) for n, t in found.columns))
    end = cut(task, catalog) if regime == "frozen" else None
    item = ranked(task)
    moment = Seeds(seeds, task.entity, task.time, item, None if item is None else task.label)
    return AsOf(moment, clock(task, schema, end), schema, _relations(task, catalog))


def of_rows(
    task: Task, rows: str | None, at: datetime | None, schema: Schema, catalog: Catalog
) -> AsOf:
    """Entities asked for, each at its time or all at one, on all the database knows by then.

    `rows` is a SELECT with the entity and, where `at` does not say it, the time; without it all
    entities are asked for.
    """
    entity, time = quoted(task.entity), quoted(task.time)
    if rows is None:
        if task.table is None or task.key is None:
            raise QueryError(
                f"task `{task.name}` does not know its entities' table; give the rows to predict: "
                f"ml_predict('…', (SELECT … AS {task.entity}), at => …)"
            )
        rows = f"SELECT {quoted(task.key)} AS {entity} FROM {task.table}"
    asked = dict(catalog.query(rows))
    for wanted in [task.entity, *([] if at is not None else [task.time])]:
        if wanted not in asked:
            also = " or say at => TIMESTAMP '…'" if wanted == task.time else ""
            raise QueryError(
                f"the rows to predict need a column `{wanted}`{also}; they have {listing(asked)}."
                + did_you_mean(wanted, asked)
            )
    moment = time if at is None else f"TIMESTAMP '{at}'"
    sql = f"SELECT DISTINCT {entity}, CAST({moment} AS TIMESTAMP) AS {time} FROM ({rows})"
    columns = (Column(task.entity, type=asked[task.entity]), Column(task.time, type=TIMESTAMP))
    seeds = Seeds(Query(sql, columns), task.entity, task.time, ranked(task))
    return AsOf(seeds, clock(task, schema, None), schema, _relations(task, catalog))


def ranked(task: Task) -> str | None:
    """The column of items that a query for a ranking must have; None for other tasks."""
    if task.kind != "ranking":
        return None
    return "item" if task.item is None else task.item


def clock(task: Task, schema: Schema, end: datetime | None) -> Clock:
    """Since when rows are known: by the schema's time columns, past labels by their windows."""
    past = None if task.horizon is None else _past(task)

    def time_of(table: str) -> str | None:
        if table == past:
            return KNOWN
        if table == task.seeds:  # which no model may read
            return None
        relation = schema.find(table)
        if relation is None:
            raise QueryError(
                f"it is not known whether the rows of {table} have a time; a model of a task reads "
                "tables of the current database only"
            )
        return relation.time

    return Clock(time_of, end)


def cut(task: Task, catalog: Catalog) -> datetime | None:
    """Where a frozen database ends: the test timestamp, else the first anchor of the test split."""
    if task.test is not None:
        return task.test
    sql = f"SELECT min({quoted(task.time)}) FROM {task.seeds} WHERE {quoted(task.split)} = 'test'"
    first: datetime | None = catalog.value(sql)
    return first


def past_labels(task: Task, catalog: Catalog) -> Scan:
    """The task's labels as a timed table: each is known when its window has closed.

    Columns are the entity, the anchor, the label and `closed`. Labels of the test split are left
    out. QueryError if the task does not say how long its windows are.
    """
    if task.horizon is None:
        raise QueryError(
            f"task `{task.name}` does not say when its labels are known, so they cannot be read: "
            "OPTIONS (horizon = '30 days') when creating it"
        )
    table = _past(task)
    return Scan(table, tuple(Column(n, type=t) for n, t in catalog.query(f"SELECT * FROM {table}")))


def _relations(task: Task, catalog: Catalog) -> dict[str, Callable[[], Node]]:
    return {task.name: lambda: past_labels(task, catalog)}


def _past(task: Task) -> str:
    entity, time, label = (quoted(n) for n in (task.entity, task.time, task.label))
    return (
        f"(SELECT {entity}, {time}, {label}, {time} + INTERVAL '{task.horizon}' AS {KNOWN} "
        f"FROM {task.seeds} WHERE {quoted(task.split)} <> 'test')"
    )
