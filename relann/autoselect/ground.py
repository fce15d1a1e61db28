"""What every signal stands on: the task's training labels, when each is known, and the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from math import isfinite
from typing import Any

import duckdb

from relann.algebra.intervals import Interval
from relann.algebra.terms import quoted
from relann.models.tasks import Task
from relann.schema import Catalog, Relation, Schema

ALWAYS = "TIMESTAMP '-infinity'"
"""Since when a row of a table without a time is known."""


@dataclass(frozen=True)
class Signal:
    """One number that says something of a task.

    path     what part of the database or the training period it is of; None for all of it
    value    None where it is undefined, and then `note` says why
    rows     how many pairs, seeds or rows it rests on; None where it rests on the schema alone
    meaning  what the number says, in a few words
    note     what is to be known of this value: sampled, undefined, left out
    sql      the query that gives it; None where it is none
    """

    signal: str
    path: str | None
    value: float | None
    rows: int | None
    meaning: str
    note: str | None = None
    sql: str | None = None

    def because(self, note: str) -> Signal:
        """The same with a note, behind the one there is."""
        return replace(self, note=note if self.note is None else f"{self.note}; {note}")


@dataclass(frozen=True)
class Ground:
    """A task on a database."""

    connection: duckdb.DuckDBPyConnection
    task: Task
    schema: Schema

    @cached_property
    def catalog(self) -> Catalog:
        """The database, with the schema's keys."""
        return Catalog(self.connection, self.schema)

    @cached_property
    def entity(self) -> Relation | None:
        """The table of the entities; None where the task or the database does not know it."""
        task = self.task
        if task.table is None or task.key is None:
            return None
        return self.schema.find(task.table)

    @property
    def seed(self) -> str:
        """SELECT of the training seeds: (u, anchor, y, known), one for each entity and anchor.

        Without the NULL ones; of two labels of one entity and anchor the larger counts. `known` is
        when the label is: at the end of its window, and without a horizon at its anchor.
        """
        task = self.task
        entity, time, label = (quoted(n) for n in (task.entity, task.time, task.label))
        known = time if task.horizon is None else f"{time} + {_interval(task.horizon)}"
        return (
            f"SELECT {entity} AS u, {time} AS anchor, max({self.number(label)}) AS y, "
            f"{known} AS known FROM {task.seeds} WHERE {quoted(task.split)} = 'train' "
            f"AND {label} IS NOT NULL AND {entity} IS NOT NULL AND {time} IS NOT NULL GROUP BY ALL"
        )

    def known(self, anchor: str, known: str) -> str:
        """The condition that a label may be used at an anchor, as ASOF JOIN takes it.

        A window that ends at an anchor is history there. Without a horizon it is not known how
        long windows are, and only labels of earlier anchors are used.
        """
        return f"{anchor} {'>' if self.task.horizon is None else '>='} {known}"

    @property
    def past(self) -> str:
        """SELECT, from `seed`, of the latest label by entity and time known: (u, known, n, y).

        `n` numbers the entity's labels by their anchors.
        """
        numbered = "SELECT *, row_number() OVER (PARTITION BY u ORDER BY anchor) AS n FROM seed"
        labels = f"SELECT u, known, max(n) AS n, arg_max(y, anchor) AS y FROM ({numbered})"
        return f"{labels} GROUP BY u, known"

    def number(self, label: str) -> str:
        """A label as signals reckon with it: numbers in float64, classes as they are."""
        return f"{label}::DOUBLE" if self.task.kind == "regression" else label

    @cached_property
    def last(self) -> datetime | None:
        """The latest training anchor, until which the shape of the data is looked at."""
        ((last,),) = self.rows(f"SELECT max(anchor) FROM ({self.seed})")
        found: datetime | None = last
        return found

    def time(self, relation: Relation, alias: str) -> str | None:
        """Since when a row is known, as a TIMESTAMP without zone (UTC); None where it always is."""
        if relation.time is None:
            return None
        sql = f"{alias}.{quoted(relation.time)}"
        kind = dict(relation.table.columns)[relation.time]
        return f"timezone('UTC', {sql})" if "ZONE" in kind.upper() else f"{sql}::TIMESTAMP"

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return self.connection.execute(sql).fetchall()

    def one(self, sql: str) -> tuple[Any, ...]:
        """The one row of a query, NaN and infinities as None."""
        (row,) = self.rows(sql)
        return tuple(finite(value) for value in row)


def finite(value: Any) -> Any:
    """A value as it is, NaN and infinities as None."""
    return None if isinstance(value, float) and not isfinite(value) else value


def with_(parts: Sequence[tuple[str, str]], body: str) -> str:
    """A query of named sub-queries, one a line."""
    named = ",\n".join(f"  {name} AS ({sql})" for name, sql in parts)
    return f"WITH\n{named}\n{body}"


def _interval(text: str) -> str:
    return Interval.parsed(text, "`horizon`").sql
