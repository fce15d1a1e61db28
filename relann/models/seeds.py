"""The seeds of a task: made by its SELECT, checked, counted and described."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import duckdb

from relann.algebra.intervals import Interval, shown
from relann.algebra.pql_parse import prediction
from relann.algebra.statements import Body, CreateTask
from relann.algebra.terms import quoted
from relann.duckdb_errors import duckdb_error_text
from relann.errors import DataError, QueryError, Span
from relann.models.known_always import known_always
from relann.models.predict_to_sql import compile_predict, time_sql
from relann.models.splits import NAMES
from relann.models.task_columns import (
    is_list,
    is_number,
    is_text,
    stated,
)
from relann.models.tasks import SPLITS, Kind, Task, TaskOptions
from relann.schema import Catalog, Schema, unquoted

FEW_CLASSES = 10
"""Whole numbers of more values than these are a regression, unless `kind` says otherwise."""
MOST_CLASSES = 1000
_SEEDS = 'temp."relann new seeds"'
_CLASSES_SHOWN = 3
_NAMED = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Made:
    """A task, the SELECT that gives its seeds as long as the block lasts, and what to tell."""

    task: Task
    rows: str
    message: str


@contextmanager
def made_task(
    connection: duckdb.DuckDBPyConnection, statement: CreateTask, schema: Schema
) -> Iterator[Made]:
    """The task of a statement, its seeds in a temporary table.

    Seeds that cannot be used are dropped and counted: no entity, anchor or label, no split, a
    window that the data does not cover to its end. Raises QueryError for what is wrong with the
    statement, DataError for seeds that make no task.
    """
    predict = statement.predict is not None
    options = TaskOptions.parsed({o.name: o for o in statement.options}, predict)
    if statement.predict is not None:
        task, labels, notes = _compiled(connection, statement, statement.predict, schema, options)
    else:
        assert statement.body is not None
        task, labels, notes = _selected(connection, statement, statement.body, schema, options)
    making = _Making(connection, task, labels, schema, options, statement.name_span)
    try:
        making.materialise(predict, task.sql, statement)
        yield making.finished(predict, notes)
    finally:
        with suppress(duckdb.Error):  # the transaction may be aborted, and the table with it
            connection.execute(f"DROP TABLE IF EXISTS {_SEEDS}").fetchall()


@dataclass(frozen=True)
class _Labels:
    """The columns of the SELECT, with what is known of the labels before they are seen."""

    types: dict[str, str]
    kind: Kind | None
    split: str | None  # the SELECT's own column


def _compiled(
    connection: duckdb.DuckDBPyConnection,
    statement: CreateTask,
    predict: Span,
    schema: Schema,
    options: TaskOptions,
) -> tuple[Task, _Labels, list[str]]:
    made = compile_predict(prediction(predict), schema, connection, options)
    task = Task(
        name=statement.name,
        entity=made.entity,
        table=made.table,
        key=made.key,
        time=made.time,
        label=made.label,
        split=made.split,
        kind=made.kind or "regression",
        horizon=str(made.horizon),
        val=made.val,
        test=made.test,
        regime=options.regime,
        top_k=made.top_k,
        item=made.item,
        item_table=made.item_table,
        definition=statement.sql,
        sql=made.sql,
    )
    try:
        types = dict(Catalog(connection).query(made.sql))
    except DataError as error:
        raise QueryError(f"the database refused this: {error}", predict) from error
    return task, _Labels(types, made.kind, made.split), list(made.notes)


def _selected(
    connection: duckdb.DuckDBPyConnection,
    statement: CreateTask,
    body: Body,
    schema: Schema,
    options: TaskOptions,
) -> tuple[Task, _Labels, list[str]]:
    sql = body.span.text[body.span.start : body.span.end]
    try:
        types = dict(Catalog(connection).query(sql))
    except DataError as error:
        raise QueryError(str(error), body.span) from error
    columns = stated(types, body, schema, options, statement.name_span)
    horizon = options.interval("horizon")
    task = Task(
        name=statement.name,
        entity=columns.entity,
        table=columns.table,
        key=columns.key,
        time=columns.time,
        label=columns.label,
        split=columns.split or "split",
        kind=options.kind or "regression",
        horizon=None if horizon is None else str(horizon),
        val=options.timestamp("val"),
        test=options.timestamp("test"),
        regime=options.regime,
        top_k=options.top_k,
        item=columns.item,
        item_table=columns.item_table,
        definition=statement.sql,
        sql=sql,
    )
    return task, _Labels(types, None, columns.split), list(columns.notes)


class _Making:
    """Works on the temporary table of seeds: columns entity, time, label, split."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        task: Task,
        labels: _Labels,
        schema: Schema,
        options: TaskOptions,
        span: Span,
    ) -> None:
        self._connection = connection
        self._task = task
        self._labels = labels
        self._schema = schema
        self._options = options
        self._span = span
        self._type = labels.types[task.label]

    def materialise(self, predict: bool, sql: str, statement: CreateTask) -> None:
        """Run the SELECT."""
        task = self._task
        time = time_sql(quoted(task.time), self._labels.types[task.time])
        if self._labels.split is None:
            split = (
                f"CASE WHEN {time} < TIMESTAMP '{task.val}' THEN 'train' "
                f"WHEN {time} < TIMESTAMP '{task.test}' THEN 'val' ELSE 'test' END"
            )
        else:
            named = " ".join(f"WHEN '{written}' THEN '{name}'" for written, name in NAMES.items())
            split = f"CASE {quoted(self._labels.split)}::VARCHAR {named} END"
        text = (
            f"CREATE OR REPLACE TEMP TABLE {_SEEDS} AS SELECT "
            f"{quoted(task.entity)} AS entity, "
            f"({time})::TIMESTAMP AS time, {quoted(task.label)} AS label, {split} AS split "
            f"FROM (\n{sql}\n)"
        )
        try:
            _run(self._connection, text)
        except duckdb.Error as error:
            body = statement.predict if statement.body is None else statement.body.span
            raise QueryError(duckdb_error_text(error), body) from error

    def finished(self, predict: bool, notes: list[str]) -> Made:
        """The task with its kind and sizes, and the report."""
        total = self._number(f"SELECT count(*) FROM {_SEEDS}")
        if not total:
            raise DataError(f"task `{self._task.name}` has no seeds: its query gives no rows")
        warnings = self._dropped(predict)
        if not predict:
            warnings += self._censored()
        kind = self._kind()
        self._task = replace(self._task, kind=kind)
        notes = [*notes, *self._sampled()]
        if self._task.table is not None:
            notes += known_always(self._schema, self._task.table, self._number)
        sizes = dict(self._rows(f"SELECT split, count(*) FROM {_SEEDS} GROUP BY 1"))
        rows = tuple((split, int(sizes.get(split, 0))) for split in SPLITS)
        self._check_training(dict(rows)["train"], kind)
        warnings += self._warnings(rows, predict)
        self._task = replace(self._task, rows=rows)
        return Made(self._task, self._ordered(), self._message(notes, warnings))

    # -- seeds that cannot be used ---------------------------------------------------------------

    def _dropped(self, predict: bool) -> list[str]:
        """Drop what is incomplete; sentences that say how much."""
        known = "label IS NULL"
        if self._type in ("FLOAT", "DOUBLE"):
            known += " OR NOT isfinite(label)"
        if is_list(self._type):
            known += " OR len(label) = 0"
        why = (
            "nothing in their window to take the label from"
            if predict
            else "no label (NULL, not finite or empty)"
        )
        out = []
        for condition, reason in (
            ("entity IS NULL", "no entity (NULL)"),
            ("time IS NULL OR NOT isfinite(time)", "no time (NULL or infinite)"),
            (known, why),
            ("split IS NULL", "a split that is none of train, val and test"),
        ):
            if number := self._delete(condition):
                out.append(f"{_seeds(number)} dropped: {reason}")
        if not self._number(f"SELECT count(*) FROM {_SEEDS}"):
            raise DataError(
                f"task `{self._task.name}` has no seeds that can be used: {'; '.join(out)}"
            )
        return out

    def _censored(self) -> list[str]:
        """Drop seeds whose window goes on after the data's end."""
        last = self._data_end()
        if last is None:
            return []
        ((first, latest, total),) = self._rows(
            f"SELECT min(time), max(time), count(*) FROM {_SEEDS}"
        )
        if first > last:
            raise DataError(
                f"every anchor lies after the data: the first is {shown(first)}, and the last "
                f"timestamp of the data is {shown(last)}"
            )
        if self._task.horizon is None:
            return []
        horizon = Interval.parsed(self._task.horizon, "`horizon`")
        number = self._delete(f"time + {horizon.sql} > TIMESTAMP '{last}'")
        if number == total:
            raise DataError(
                f"no window ever closes: the anchors go from {shown(first)} to {shown(latest)}, a "
                f"window lasts {horizon}, and the data ends at {shown(last)}"
            )
        if not number:
            return []
        return [
            f"{_seeds(number)} dropped: their window of {horizon} is not closed when the data ends "
            f"({shown(last)})"
        ]

    def _data_end(self) -> datetime | None:
        """The last timestamp of all tables that have a time; None where none has."""
        found: list[datetime] = []
        for relation in self._schema.relations.values():
            if relation.time is None:
                continue
            kind = dict(relation.table.columns)[relation.time]
            time = time_sql(quoted(relation.time), kind)
            ((last,),) = self._rows(
                f"SELECT max(x)::TIMESTAMP FROM (SELECT {time} AS x FROM {relation.table.name}) "
                "WHERE isfinite(x)"
            )
            found += [] if last is None else [last]
        return max(found, default=None)

    def _sampled(self) -> list[str]:
        """Keep as many seeds of each split as `sample` says; a sentence that tells how many.

        Chosen by a hash of entity and time that no version of the database changes, so the same
        seeds stay whatever else is asked; two of one entity and time are told apart by their label.
        """
        said = []
        for split, most in self._options.limits().items():
            of_split = f"split = '{split}'"
            there = self._number(f"SELECT count(*) FROM {_SEEDS} WHERE {of_split}")
            if there <= most:
                continue
            self._delete(
                f"rowid IN (SELECT rowid FROM {_SEEDS} WHERE {of_split} "
                "ORDER BY md5(entity::VARCHAR || ' ' || time::VARCHAR), entity, time, label, rowid "
                f"OFFSET {most})"
            )
            said.append(f"{most:,} of {there:,} {_NAMED[split]}")
        return [f"{', '.join(said)} seeds, by a hash of entity and time"] if said else []

    # -- what the labels are ---------------------------------------------------------------------

    def _kind(self) -> Kind:
        """What the label is: as stated if it fits, else by type and number of values."""
        given, kind = self._options.kind, self._labels.kind
        span = self._options.span("kind") or self._span
        asked = self._options.top_k is not None or self._options.item_table is not None
        if is_list(self._type):
            if given not in (None, "ranking"):
                raise QueryError(
                    f"the label is {self._type}, a list, so the task is a ranking", span
                )
            return "ranking"
        if given == "ranking" or asked:
            where = self._options.span("top_k") or self._options.span("item_table")
            raise QueryError(
                f"a ranking has lists as labels; `{self._task.label}` is {self._type}",
                span if given else where,
            )
        if not (is_number(self._type) or is_text(self._type) or self._type == "BOOLEAN"):
            raise QueryError(
                f"the label `{self._task.label}` is {self._type}; labels are booleans, numbers, "
                "text or lists of keys",
                self._options.span("label") or self._span,
            )
        values = self._number(f"SELECT count(DISTINCT label) FROM {_SEEDS}")
        numeric, whole = is_number(self._type), "INT" in self._type
        if given == "regression" and not numeric:
            raise QueryError(
                f"a regression needs numbers; `{self._task.label}` is {self._type}", span
            )
        if given == "binary" and values > 2:
            raise QueryError(f"`{self._task.label}` has {values:,} values, not two", span)
        if given is not None:
            return given
        if kind is not None:
            return kind
        if self._type == "BOOLEAN" or values == 2:
            return "binary"
        if (whole and values <= FEW_CLASSES) or (not numeric and values <= MOST_CLASSES):
            return "multiclass"
        if numeric:
            return "regression"
        raise QueryError(
            f"`{self._task.label}` is text with {values:,} different values; if these are classes, "
            "say OPTIONS (kind = 'multiclass')",
            self._options.span("label") or self._span,
        )

    def _check_training(self, rows: int, kind: Kind) -> None:
        name = self._task.name
        if not rows:
            ((first, last),) = self._rows(f"SELECT min(time), max(time) FROM {_SEEDS}")
            raise DataError(
                f"task `{name}` has no training seeds; its anchors go from {shown(first)} to "
                f"{shown(last)}" + (f", `val` is {shown(self._task.val)}" if self._task.val else "")
            )
        if kind == "ranking":
            return
        found = self._rows(f"SELECT DISTINCT label FROM {_SEEDS} WHERE split = 'train' LIMIT 2")
        if len(found) == 1:
            raise DataError(
                f"all {rows:,} training labels of task `{name}` are {_value(found[0][0])}, so "
                "there is nothing to learn"
            )

    # -- what is odd -----------------------------------------------------------------------------

    def _warnings(self, rows: Sequence[tuple[str, int]], predict: bool) -> list[str]:
        out = [f"there are no {split} seeds" for split, number in rows if not number]
        task = self._task
        if task.table is not None and task.key is not None:
            ((seeds, entities),) = self._rows(
                f"SELECT count(*), count(DISTINCT entity) FROM {_SEEDS} ANTI JOIN "
                f"(SELECT {quoted(task.key)} AS known FROM {task.table}) ON entity = known"
            )
            if seeds:
                out.append(
                    f"{_seeds(seeds)} ({entities:,} {task.entity}) not found in "
                    f"`{unquoted(task.table)}`"
                )
        twice = self._number(f"SELECT count(*) - count(DISTINCT (entity, time)) FROM {_SEEDS}")
        if twice:
            out.append(f"{_seeds(twice)} of an entity and anchor that are there before")
        return out + ([] if predict else self._leaks())

    def _leaks(self) -> list[str]:
        """Seeds whose labels tell what happens after the next split has begun."""
        task, out = self._task, []
        after = "" if task.horizon is None else (
            f" + {Interval.parsed(task.horizon, '`horizon`').sql}"
        )  # fmt: skip
        begins = dict(self._rows(f"SELECT split, min(time) FROM {_SEEDS} GROUP BY 1"))
        for split, onward, given in (("train", "val", task.val), ("val", "test", task.test)):
            boundary = given or begins.get(onward)
            if boundary is None:
                continue
            compare = ">" if after else ">="
            number = self._number(
                f"SELECT count(*) FROM {_SEEDS} WHERE split = '{split}' "
                f"AND time{after} {compare} TIMESTAMP '{boundary}'"
            )
            if number:
                what = "window reaches" if after else "anchor lies at or"
                out.append(
                    f"{_seeds(number)} of {split} whose {what} past {shown(boundary)}, where "
                    f"{onward} begins: their labels leak"
                )
        if not after:
            out.append(
                "without a horizon, windows that cross split boundaries or the data's end are not "
                "seen; OPTIONS (horizon = '30 days') says how long a window lasts"
            )
        return out

    # -- what is told ----------------------------------------------------------------------------

    def _message(self, notes: Sequence[str], warnings: Sequence[str]) -> str:
        task = self._task
        whom = "" if task.table is None else f" of `{unquoted(task.table)}`"
        total = sum(number for _, number in task.rows)
        ranked = ""
        if task.kind == "ranking":
            ranked = f", top {task.top_k}" if task.top_k else ""
            ranked += f" of `{unquoted(task.item_table)}`" if task.item_table else ""
        cut = "where test begins" if task.regime == "frozen" else "at each anchor"
        head = (
            f"task `{task.name}`: {task.kind}{ranked}, `{task.label}` of {_seeds(total)} "
            f"by `{task.entity}`{whom} and `{task.time}`\n"
            f"  horizon {task.horizon or 'unknown'}, regime {task.regime} (data cut {cut})"
        )
        lines = [head]
        for split, number in task.rows:
            if number:
                ((first, last),) = self._rows(
                    f"SELECT min(time), max(time) FROM {_SEEDS} WHERE split = '{split}'"
                )
                lines.append(
                    f"  {split:5} {number:>9,}  {shown(first)} … {shown(last)}  "
                    f"{self._balance(split, number)}"
                )
        lines += [f"  note: {note}" for note in notes]
        lines += [f"  warning: {warning}" for warning in warnings]
        return "\n".join(lines)

    def _balance(self, split: str, number: int) -> str:
        """Shares of classes, or mean and deviation."""
        where = f"FROM {_SEEDS} WHERE split = '{split}'"
        if self._task.kind == "regression":
            ((mean, deviation),) = self._rows(
                f"SELECT avg(label::DOUBLE), coalesce(stddev_samp(label::DOUBLE), 0) {where}"
            )
            return f"mean {mean:.4g}, sd {deviation:.4g}"
        if self._task.kind == "ranking":
            return f"{float(self._number(f'SELECT avg(len(label)) {where}')):.3g} items each"
        if self._task.kind == "binary":
            ((positive,),) = self._rows(f"SELECT max(label) FROM {_SEEDS}")
            share = self._number(f"SELECT avg((label = (SELECT max(label) FROM {_SEEDS}))::INT) "
                                 f"{where}")  # fmt: skip
            return f"{100 * share:.1f} % {_value(positive)}"
        classes = self._rows(f"SELECT label, count(*) {where} GROUP BY 1 ORDER BY 2 DESC, 1")
        most = [f"{100 * n / number:.1f} % {_value(v)}" for v, n in classes[:_CLASSES_SHOWN]]
        more = len(classes) - len(most)
        return ", ".join(most) + (f", {more} more classes" if more else "")

    def _ordered(self) -> str:
        """The seeds under their own names, the same order every time."""
        task = self._task
        own = (task.entity, task.time, task.label, task.split)
        columns = zip(("entity", "time", "label", "split"), own, strict=True)
        named = ", ".join(f"{inner} AS {quoted(outer)}" for inner, outer in columns)
        return f"SELECT {named} FROM {_SEEDS} AS s ORDER BY s.time, s.entity, s.label"

    # -- the table -------------------------------------------------------------------------------

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql).fetchall()

    def _number(self, sql: str) -> Any:
        ((number,),) = self._rows(sql)
        return number

    def _delete(self, condition: str) -> int:
        return int(self._number(f"DELETE FROM {_SEEDS} WHERE {condition}"))


def _run(_connection: duckdb.DuckDBPyConnection, _text: str) -> None:
    """Run a query of the user's: DuckDB takes missing tables for variables that are seen here."""
    _connection.execute(_text).fetchall()


def _seeds(number: int) -> str:
    return f"{number:,} seed{'s' * (number != 1)}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}'" if isinstance(value, str) else str(value)
