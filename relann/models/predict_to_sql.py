"""A PREDICT statement as the SELECT that makes its seeds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

from relann.algebra.intervals import Interval
from relann.algebra.pql import (
    All,
    Column,
    Compared,
    Comparison,
    Condition,
    Not,
    Predict,
    Some,
    Value,
    Windowed,
    aggregates,
)
from relann.algebra.terms import quoted
from relann.errors import DataError, PlanError, QueryError, did_you_mean, listing
from relann.models.anchors import Anchors, Placing
from relann.models.task_columns import is_number, is_text, is_time
from relann.models.tasks import Kind, TaskOptions
from relann.schema import ForeignKey, Relation, Schema, unquoted

_LONGEST_PATH = 4
_INTEGER = re.compile(r"U?(TINY|SMALL|BIG)?INT(EGER)?\Z")
_EMPTY = {"COUNT": "0", "COUNT_DISTINCT": "0", "SUM": "0", "EXISTS": "false"}
_COUNTS: tuple[str, ...] = ("COUNT", "COUNT_DISTINCT", "SUM", "AVG")


@dataclass(frozen=True)
class Compiled:
    """The SELECT of a PREDICT statement, its columns, and what else the statement says.

    `kind` is None where only the labels can tell; `notes` are sentences for the user.
    """

    sql: str
    entity: str
    table: str
    key: str
    time: str
    label: str
    split: str
    kind: Kind | None
    horizon: Interval
    val: datetime
    test: datetime
    top_k: int | None
    item: str | None
    item_table: str | None
    notes: tuple[str, ...]


def compile_predict(
    predict: Predict,
    schema: Schema,
    connection: duckdb.DuckDBPyConnection,
    options: TaskOptions,
) -> Compiled:
    """The SELECT, with names looked up and anchors placed where the data lets windows close.

    An anchor's window lies inside its split: what straddles `val` or `test` is no anchor. Raises
    QueryError for names, types and windows that do not fit, DataError if no window closes.
    """
    return _Compiler(predict, schema, connection, options).compiled()


class _Compiler:
    def __init__(
        self,
        predict: Predict,
        schema: Schema,
        connection: duckdb.DuckDBPyConnection,
        options: TaskOptions,
    ) -> None:
        self._predict = predict
        self._schema = schema
        self._connection = connection
        self._options = options
        self._windows: dict[str, tuple[str, str]] = {}  # their SQL → name and comment
        self._notes: list[str] = []
        self._anchors_name = self._free("anchors")
        self._entity = self._relation(predict.entity)
        self._key = self._column(self._entity, predict.entity)
        key = self._entity.key
        if key is not None and key.casefold() != self._key.casefold():
            raise QueryError(
                f"entities of `{_shown(self._entity)}` are told apart by `{key}`, not by "
                f"`{self._key}`; write FOR EACH {predict.entity.table}.{key}",
                predict.entity.span,
            )

    def compiled(self) -> Compiled:
        predict, options = self._predict, self._options
        targets = list(aggregates(predict.target))
        if inside := next(_comparisons(predict.target), None):
            raise QueryError(
                "what is predicted lies in a window of time; a column of the entity belongs in "
                "WHERE, after FOR EACH",
                inside.span,
            )
        for target in targets:
            if target.start.count < 0:
                raise QueryError(
                    "what is predicted lies after the anchor, so its window starts at 0 or later; "
                    "history belongs in WHERE, after FOR EACH",
                    target.window_span,
                )
        label = self._target(predict.target)
        where = None if predict.where is None else self._condition(predict.where)
        ahead = [w for w in aggregates(predict.where) if w.end.count > 0]
        if ahead:
            self._notes.append(
                "WHERE looks past the anchor: that a seed is there tells what happens later, and "
                "no such choice can be made when predictions are wanted"
            )
        names = (self._key, options.time or "anchor", options.label or "label", "split")
        if len({n.casefold() for n in names}) < len(names):
            raise QueryError(
                f"the seeds would have two columns of one name: {listing(names)}; name them by "
                "OPTIONS (time = …, label = …)",
                options.span("label") or options.span("time") or predict.entity.span,
            )
        longest = _longest([t.end for t in targets])
        covered = [self._span(w) for w in [*targets, *ahead]]
        placed = Placing(
            [w.end for w in [*targets, *ahead]],
            covered,
            options.interval("every") or longest,
            options.timestamp("start") or min(first for first, _ in covered[: len(targets)]),
            options,
            targets[0].window_span,
        ).placed()
        item = self._item(predict.target)
        return Compiled(
            sql=self._select(names, label, where, placed.parts),
            entity=names[0],
            table=self._entity.table.name,
            key=self._key,
            time=names[1],
            label=names[2],
            split=names[3],
            kind=_kind(predict.target),
            horizon=longest,
            val=placed.val,
            test=placed.test,
            top_k=predict.top_k,
            item=None if item is None else item.references,
            item_table=None if item is None else item.table,
            notes=(*self._notes, *placed.notes),
        )

    def _select(
        self, names: Sequence[str], label: str, where: str | None, anchors: Sequence[Anchors]
    ) -> str:
        """The whole statement, in lines a person can read."""
        parts = "\n    UNION ALL ".join(a.sql() for a in anchors)
        ctes = [f"{self._anchors_name} AS (\n    {parts}\n)"]
        joins = []
        for sql, (name, comment) in self._windows.items():
            ctes.append(f"{name} AS (  -- {comment}\n{sql}\n)")
            joins.append(f"LEFT JOIN {name} ON {name}.entity = e.{quoted(self._key)} "
                         f"AND {name}.anchor = a.anchor")  # fmt: skip
        table = self._entity.table.name
        since = None if self._entity.time is None else _time("e", self._entity)
        joins.insert(0, f"JOIN {table} AS e ON {since} <= a.anchor" if since
                     else f"CROSS JOIN {table} AS e")  # fmt: skip
        columns = [f"e.{quoted(self._key)}", "a.anchor", label, "a.split"]
        columns_shown = ", ".join(
            f"{c} AS {quoted(n)}" for c, n in zip(columns, names, strict=True)
        )
        known = f"e.{quoted(self._key)} IS NOT NULL"
        return "\n".join(
            [
                "WITH " + ",\n".join(ctes),
                f"SELECT {columns_shown}",
                f"FROM {self._anchors_name} AS a",
                *joins,
                f"WHERE {known}" + (f"\n  AND {where}" if where else ""),
            ]
        )

    # -- names -----------------------------------------------------------------------------------

    def _free(self, name: str) -> str:
        """The name with so many underscores that it hides no table."""
        while self._schema.find(name) is not None:
            name += "_"
        return name

    def _relation(self, column: Column) -> Relation:
        found = self._schema.find(column.table)
        if found is None:
            known = [unquoted(n) for n in self._schema.relations]
            raise QueryError(
                f"there is no table `{column.table}`; there are {listing(known) or 'none'}."
                + did_you_mean(column.table, known),
                column.table_span,
            )
        return found

    def _column(self, relation: Relation, column: Column) -> str:
        """The column's name as the table has it."""
        names = [name for name, _ in relation.table.columns]
        assert column.column is not None
        for name in names:
            if name.casefold() == column.column.casefold():
                return name
        raise QueryError(
            f"`{_shown(relation)}` has no column `{column.column}`; it has {listing(names)}."
            + did_you_mean(column.column, names),
            column.span,
        )

    def _foreign(self, relation: Relation, window: Windowed) -> ForeignKey:
        """The foreign key by which rows of a window belong to an entity."""
        to_entity = [f for f in relation.foreign if self._is_entity(f)]
        table, entity = _shown(relation), _shown(self._entity)
        if window.via is not None:
            if self._relation(window.via) is not relation:
                raise QueryError(
                    f"VIA names a column of `{table}`, whose rows are aggregated", window.via.span
                )
            name = self._column(relation, window.via)
            found = [f for f in to_entity if f.column == name]
            if not found:
                raise QueryError(
                    f"`{name}` is no foreign key to `{entity}`; "
                    f"there are {listing(f.column for f in to_entity) or 'none'}",
                    window.via.span,
                )
            return found[0]
        if len(to_entity) == 1:
            return to_entity[0]
        if to_entity:
            raise QueryError(
                f"`{table}` has {len(to_entity)} foreign keys to `{entity}`: "
                f"{listing(f.column for f in to_entity)}; say which after the unit, as in "
                f"VIA {window.column.table}.{to_entity[0].column}",
                window.column.span,
            )
        if relation is self._entity:
            raise QueryError(
                f"the rows of `{table}` are the entities themselves; aggregate a table that has a "
                "foreign key to it",
                window.column.span,
            )
        paths = list(self._paths(relation, ()))
        hint = (
            f"it reaches it by {listing(paths, 4)}, and only direct foreign keys can be "
            "aggregated here: write the task as a SELECT with these joins"
            if paths
            else f"tables that have are {listing(self._related()) or 'none'}"
        )
        raise QueryError(f"`{table}` has no foreign key to `{entity}`; {hint}", window.column.span)

    def _is_entity(self, foreign: ForeignKey) -> bool:
        return (
            self._schema.find(foreign.table) is self._entity
            and foreign.references.casefold() == self._key.casefold()
        )

    def _related(self) -> list[str]:
        found = self._schema.relations.values()
        return [_shown(r) for r in found if any(self._is_entity(f) for f in r.foreign)]

    def _paths(self, relation: Relation, before: tuple[Relation, ...]) -> Iterator[str]:
        """Chains of foreign keys from a table to the entity."""
        for foreign in relation.foreign:
            step = f"{_shown(relation)}.{foreign.column}"
            if self._is_entity(foreign):
                yield step
                continue
            onward = self._schema.find(foreign.table)
            if onward is None or onward in (*before, relation) or len(before) >= _LONGEST_PATH:
                continue
            for rest in self._paths(onward, (*before, relation)):
                yield f"{step} → {rest}"

    # -- expressions -----------------------------------------------------------------------------

    def _target(self, target: Condition) -> str:
        if isinstance(target, Windowed):
            return self._value(target)
        return self._condition(target)

    def _condition(self, condition: Condition) -> str:
        match condition:
            case Windowed():
                return self._value(condition)
            case Compared(aggregate, operator, value):
                left = self._value(aggregate)
                return f"{left} {operator} {_constant(value, self._type(aggregate), aggregate)}"
            case Comparison(column):
                if self._relation(column) is not self._entity:
                    raise QueryError(
                        f"only columns of `{_shown(self._entity)}` can be compared here; rows of "
                        f"`{column.table}` are aggregated over a window",
                        column.span,
                    )
                return self._compared("e", self._entity, condition)
        return _joined(condition, self._condition)

    def _rows_condition(self, relation: Relation, condition: Condition) -> str:
        """A condition on single rows of a window's table."""
        if isinstance(condition, Comparison):
            if self._relation(condition.column) is not relation:
                raise QueryError(
                    f"the rows of a window are chosen by columns of `{_shown(relation)}` only",
                    condition.column.span,
                )
            return self._compared("t", relation, condition)
        return _joined(condition, lambda part: self._rows_condition(relation, part))

    def _compared(self, alias: str, relation: Relation, comparison: Comparison) -> str:
        name = self._column(relation, comparison.column)
        left = f"{alias}.{quoted(name)}"
        kind = dict(relation.table.columns)[name]
        values = [_constant(v, kind, comparison.column) for v in comparison.values]
        if comparison.operator in ("IN", "NOT IN"):
            return f"{left} {comparison.operator} ({', '.join(values)})"
        return " ".join([left, comparison.operator, *values])

    def _type(self, window: Windowed) -> str:
        if window.function in _COUNTS:
            return "DOUBLE"
        relation = self._relation(window.column)
        return dict(relation.table.columns)[self._column(relation, window.column)]

    def _value(self, window: Windowed) -> str:
        """The aggregate as a value of the main query; its own query is kept beside."""
        relation = self._relation(window.column)
        if relation.time is None:
            raise QueryError(
                f"no time column of `{_shown(relation)}` is known, so it has no windows; its "
                f"columns are {listing(n for n, _ in relation.table.columns)}",
                window.column.table_span,
            )
        foreign = self._foreign(relation, window)
        time = _time("t", relation)
        value = self._aggregate(relation, window, time)
        rows = [f"t.{quoted(foreign.column)} IS NOT NULL"]
        if window.where is not None:
            rows.append(self._rows_condition(relation, window.where))
        if window.function == "LIST_DISTINCT":
            item = self._listed(relation, window)
            rows.append(
                f"t.{quoted(item.column)} IN (SELECT {quoted(item.references)} FROM {item.table})"
            )
        sql = (
            f"    SELECT t.{quoted(foreign.column)} AS entity, a.anchor, {value} AS value\n"
            f"    FROM {self._anchors_name} AS a JOIN {relation.table.name} AS t\n"
            f"      ON {time} > {_shifted(window.start)} AND {time} <= {_shifted(window.end)}\n"
            f"    WHERE {' AND '.join(rows)}\n"
            f"    GROUP BY ALL"
        )
        text = window.span.text[window.span.start : window.span.end]
        name, _ = self._windows.setdefault(
            sql, (self._free(f"w{len(self._windows) + 1}"), " ".join(text.split()))
        )
        empty = _EMPTY.get(window.function)
        return f"{name}.value" if empty is None else f"coalesce({name}.value, {empty})"

    def _aggregate(self, relation: Relation, window: Windowed, time: str) -> str:
        function = window.function
        if window.column.column is None:
            return "count(*)" if function == "COUNT" else "true"
        name = self._column(relation, window.column)
        kind = dict(relation.table.columns)[name]
        column = f"t.{quoted(name)}"
        if function in ("SUM", "AVG") and not is_number(kind):
            raise QueryError(
                f"{function}() takes a column of numbers; `{name}` is {kind}", window.column.span
            )
        order = ", ".join([time, *([f"t.{quoted(relation.key)}"] if relation.key else []), column])
        return {
            "COUNT": f"count({column})",
            "EXISTS": f"count({column}) > 0",
            "COUNT_DISTINCT": f"count(DISTINCT {column})",
            "SUM": f"sum({column})::{'BIGINT' if _INTEGER.match(kind) else 'DOUBLE'}",
            "AVG": f"avg({column})",
            "MIN": f"min({column})",
            "MAX": f"max({column})",
            "FIRST": f"first({column} ORDER BY {order}) FILTER (WHERE {column} IS NOT NULL)",
            "LAST": f"last({column} ORDER BY {order}) FILTER (WHERE {column} IS NOT NULL)",
            "LIST_DISTINCT": f"list(DISTINCT {column} ORDER BY {column})",
        }[function]

    def _listed(self, relation: Relation, window: Windowed) -> ForeignKey:
        """The foreign key whose values are listed."""
        name = self._column(relation, window.column)
        for foreign in relation.foreign:
            if foreign.column == name:
                return foreign
        raise QueryError(
            f"LIST_DISTINCT() lists keys of another table; `{name}` is no foreign key. "
            f"Those of `{_shown(relation)}` are "
            f"{listing(f.column for f in relation.foreign) or 'none'}",
            window.column.span,
        )

    def _item(self, target: Condition) -> ForeignKey | None:
        if isinstance(target, Windowed) and target.function == "LIST_DISTINCT":
            return self._listed(self._relation(target.column), target)
        return None

    # -- times -----------------------------------------------------------------------------------

    def _span(self, window: Windowed) -> tuple[datetime, datetime]:
        """First and last timestamp of the table a window is taken of."""
        relation = self._relation(window.column)
        time = _time("t", relation)
        ((first, last),) = self._connection.execute(
            f"SELECT min(x)::TIMESTAMP, max(x)::TIMESTAMP FROM "
            f"(SELECT {time} AS x FROM {relation.table.name} AS t) WHERE isfinite(x)"
        ).fetchall()
        if first is None:
            raise DataError(f"`{_shown(relation)}` has no rows with a time, so nothing to predict")
        return first, last


def _longest(intervals: Sequence[Interval]) -> Interval:
    origin = datetime(2001, 1, 1)
    return max(intervals, key=lambda i: i.after(origin))


def _kind(target: Condition) -> Kind | None:
    if not isinstance(target, Windowed) or target.function == "EXISTS":
        return "binary"
    if target.function == "LIST_DISTINCT":
        return "ranking"
    return "regression" if target.function in _COUNTS else None


def _comparisons(condition: Condition) -> Iterator[Comparison]:
    match condition:
        case Comparison():
            yield condition
        case Not(part):
            yield from _comparisons(part)
        case All(parts) | Some(parts):
            for part in parts:
                yield from _comparisons(part)


def _joined(condition: Condition, sql: Callable[[Condition], str]) -> str:
    match condition:
        case Not(part):
            return f"NOT ({sql(part)})"
        case All(parts):
            return "(" + " AND ".join(sql(p) for p in parts) + ")"
        case Some(parts):
            return "(" + " OR ".join(sql(p) for p in parts) + ")"
    raise PlanError(f"{type(condition).__name__} is not a condition here")


def _constant(value: Value, kind: str, what: Column | Windowed) -> str:
    """A constant as SQL; QueryError if it cannot be compared with a column of a type."""
    given, wanted = value.value, None
    if is_number(kind):
        wanted = None if isinstance(given, int | float) and not isinstance(given, bool) else (
            "a number"
        )  # fmt: skip
    elif kind == "BOOLEAN":
        wanted = None if isinstance(given, bool) else "true or false"
    elif is_text(kind):
        wanted = None if isinstance(given, str) else "text in quotes"
    elif is_time(kind):
        wanted = None if _says_time(given) else "a time such as '2005-01-01'"
    if wanted:
        name = f"{what.function}(…)" if isinstance(what, Windowed) else f"{what.column}"
        of = "" if isinstance(what, Windowed) else f", which is {kind},"
        raise QueryError(f"`{name}`{of} is compared with {wanted}", value.span)
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, str):
        return "'" + given.replace("'", "''") + "'"
    return repr(given)


def _says_time(given: object) -> bool:
    try:
        return isinstance(given, str) and bool(datetime.fromisoformat(given))
    except ValueError:
        return False


def _time(alias: str, relation: Relation) -> str:
    """A relation's time as a timestamp without zone: UTC where it has one."""
    assert relation.time is not None
    return time_sql(f"{alias}.{quoted(relation.time)}", dict(relation.table.columns)[relation.time])


def time_sql(column: str, kind: str) -> str:
    """A column of times in SQL as what compares with a TIMESTAMP; times with zone in UTC."""
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"({column} AT TIME ZONE 'UTC')"
    return column if kind in ("DATE", "TIMESTAMP") else f"{column}::TIMESTAMP"


def _shifted(interval: Interval) -> str:
    if not interval.count:
        return "a.anchor"
    sign = "-" if interval.count < 0 else "+"
    return f"a.anchor {sign} {Interval(abs(interval.count), interval.unit).sql}"


def _shown(relation: Relation) -> str:
    return unquoted(relation.table.name)
