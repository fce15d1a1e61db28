"""What a task says about time, as the algebra asks for it: seeds, clock, labels of the past."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from inspect import Parameter, signature

from relann.algebra.asof import TIMESTAMP, Clock, Seeds
from relann.algebra.nodes import Column, Query, Scan
from relann.algebra.statements import Value
from relann.algebra.terms import quoted
from relann.errors import DataError, QueryError, did_you_mean, listing
from relann.models.generators import PastLabels, Target, dfs, gat, hgt, relgnn, sage
from relann.models.program import AsOf
from relann.models.tasks import Regime, Task
from relann.schema import Catalog, ForeignKey, Schema, Table

KNOWN = "closed"
"""The column of a task's past labels that says when they were known."""


def of_task(task: Task, regime: Regime, schema: Schema, catalog: Catalog) -> AsOf:
    """The task's own seeds, on the part of the database its regime lets them see."""
    found = catalog.table(task.seeds)
    if found is None:
        raise DataError(f"the seeds of task `{task.name}` are gone; create the task again")
    seeds = Scan(task.seeds, tuple(Column(n, type=t) for n, t in found.columns))
    end = cut(task, catalog) if regime == "frozen" else None
    moment = Seeds(seeds, task.entity, task.time, ranked(task), task.label)
    return _moment(task, moment, end, schema, catalog)


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
    return _moment(task, seeds, None, schema, catalog)


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


def _moment(
    task: Task, seeds: Seeds, end: datetime | None, schema: Schema, catalog: Catalog
) -> AsOf:
    taken = catalog.stored(quoted(task.name)) is not None  # then the name means the table
    relations = {} if taken else {task.name: lambda: past_labels(task, catalog)}
    knowing = catalog.knowing(schema)
    programs = {name: _Written(task, schema, knowing, name) for name in _WRITERS}
    return AsOf(seeds, clock(task, schema, end), schema, relations, programs)


_WRITERS: dict[str, Callable[..., str]] = {
    "sage": sage,
    "gat": gat,
    "hgt": hgt,
    "relgnn": relgnn,
    "dfs": dfs,
}


@dataclass(frozen=True)
class _Written:
    """A schema-wide program for a task, with the arguments a query gives it."""

    task: Task
    schema: Schema
    catalog: Catalog
    name: str

    def __call__(self, arguments: Mapping[str, Value]) -> str:
        """The text; QueryError for arguments it does not take."""
        task, write = self.task, _WRITERS[self.name]
        if task.table is None or task.key is None:
            raise QueryError(
                f"task `{task.name}` does not know its entities' table, which {self.name}() starts "
                "from: OPTIONS (table = …) when creating it"
            )
        given: dict[str, object] = dict(arguments)
        parameters = signature(write).parameters.values()
        known = [p.name for p in parameters if p.kind is Parameter.KEYWORD_ONLY]
        for argument in given:
            if argument not in known:
                raise QueryError(
                    f"{self.name}() has no argument `{argument} =>`; it takes {listing(known)}."
                    + did_you_mean(argument, known)
                )
        if "labels" in known:
            given["labels"] = self._labels() if given.get("labels") else None
        if "before" in known:
            given.setdefault("before", task.val)
        target = Target(task.table, task.key, task.entity)
        return write(self.schema, self.catalog, target, **given)

    def _labels(self) -> PastLabels:
        task = self.task
        assert task.table is not None and task.key is not None
        rows = past_labels(task, self.catalog)
        columns = tuple((c.name, c.type or "") for c in rows.columns if c.name != KNOWN)
        entity = ForeignKey(task.entity, task.table, task.key)
        table = Table(quoted(task.name), columns)
        classes = task.kind in ("binary", "multiclass")
        return PastLabels(table, None, task.time, (entity,), classes=classes)


def _past(task: Task) -> str:
    entity, time, label = (quoted(n) for n in (task.entity, task.time, task.label))
    return (
        f"(SELECT {entity}, {time}, {label}, {time} + INTERVAL '{task.horizon}' AS {KNOWN} "
        f"FROM {task.seeds} WHERE {quoted(task.split)} <> 'test')"
    )
