"""Deep feature synthesis over the foreign keys of a database, as query text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from relann.errors import listing
from relann.models.generators.features import (
    AGGREGATES,
    Duration,
    Feature,
    Options,
    features_of,
)
from relann.models.generators.program import (
    Link,
    Names,
    Program,
    Target,
    bare,
    entity_of,
    identifier,
    into,
    one_of,
    out_of,
    select,
    table_sql,
    whole,
)
from relann.models.generators.values import Columns, Value, read_from
from relann.schema import Catalog, Relation, Schema

_SHOWN_LEFT_OUT = 60


def dfs(
    schema: Schema,
    catalog: Catalog,
    target: Target,
    *,
    max_depth: int = 2,
    aggregates: Sequence[str] = AGGREGATES,
    windows: Sequence[str | None] = ("30 days", "180 days", "1 year", None),
    last: Sequence[int] = (1, 3, 5, 10),
    decay: Sequence[str] = ("1 year",),
    latest_parent: bool = True,
    within_event: bool = True,
    categories: int = 10,
    labels: Relation | None = None,
    max_columns: int = 2000,
    before: datetime | None = None,
) -> str:
    """The text of a query that gives target.name and features for each row of the entity's table.

    Deep feature synthesis (Kanter and Veeramachaneni, DSAA 2015): aggregates along the paths of
    foreign keys, in plain SQL without learned functions, each path one GROUP BY. The query is
    timeless: it is to be evaluated as of a task's anchors, and windows end there.

    Features are the entity's own columns and its parents'; aggregates over its children, with what
    their parents, events and own children say of them; of each parent's children; of the children
    of the parent that the entity's latest row names. Numbers are DOUBLE, counts BIGINT and 0
    without rows, other aggregates of no rows NULL; times are ages in days.

    Args:
        max_depth: 1 for columns of the entity's children and parents alone, 2 for two hops.
        aggregates: which of count, sum, avg, min, max, stddev (of the sample), mode (the smallest
            of equally frequent), count_distinct, last, first, trend (slope of a line, per day) and
            time_since_last.
        windows: durations before the anchor; None is all that is known.
        last: numbers of latest rows.
        decay: durations d of means whose weights are exp(-age / d).
        latest_parent: whether to follow the latest row's parents.
        within_event: whether numbers of a row that belongs to a row with a time, as a result to a
            race, are also ranked among those of the same one, from 0 to 1, and set against their
            mean.
        categories: how many of a category's most frequent values are counted each. A text whose
            values are mostly there once is no category and left out. Whole numbers whose names end
            in Id are categories.
        labels: past labels as a relation with the entity's key as its one foreign key; the task's
            clock must know since when each row is known.
        max_columns: how many features at most; those behind are left out and named in a comment.
        before: the time until which rows count when frequent values are looked up (None: all).

    Raises QueryError for options that are not so, or a target that is not in the schema, and
    DataError where the database has no such tables.
    """
    for aggregate in aggregates:
        one_of("aggregates", aggregate, AGGREGATES)
    options = Options(
        aggregates=frozenset(aggregates),
        windows=tuple(
            dict.fromkeys(None if w is None else Duration.of("windows", w) for w in windows)
        ),
        last=tuple(sorted({whole("last", k, 1) for k in last})),
        decay=tuple(dict.fromkeys(Duration.of("decay", d) for d in decay)),
        depth=one_of("max_depth", str(max_depth), ("1", "2")) == "2",
        within_event=within_event,
    )
    entity = entity_of(schema, target)
    columns = Columns(schema, catalog, whole("categories", categories, 0), before)
    writer = _Writer(schema, entity, target, options, columns, whole("max_columns", max_columns, 1))
    writer.own()
    for link in into(schema, entity):
        writer.children(link)
    if labels is not None:
        writer.labels(labels)
    if options.depth:
        for link in out_of(schema, entity):
            writer.parent_history(link)
        if latest_parent:
            writer.latest_parents()
    return writer.text()


@dataclass(frozen=True)
class _Part:
    """A sub-query that is written only if a feature is made of it."""

    name: str
    comment: str
    body: str


class _Writer:
    def __init__(
        self,
        schema: Schema,
        entity: Relation,
        target: Target,
        options: Options,
        columns: Columns,
        room: int,
    ) -> None:
        self.schema = schema
        self.entity = entity
        self.target = target
        self.options = options
        self.columns = columns
        self.room = room
        self.program = Program(schema)
        self.names = Names([target.name])
        self.items: list[str] = []
        self.joins: list[str] = []
        self.histories: list[tuple[int, str]] = []
        self.left_out: list[str] = []

    def text(self) -> str:
        """The whole query."""
        head = []
        if self.left_out:
            shown = listing(self.left_out, _SHOWN_LEFT_OUT)
            head.append(f"left out, {len(self.left_out)} beyond max_columns: {shown}")
        key = f"e.{identifier(self.target.key)} AS {identifier(self.target.name)}"
        source = f"FROM {table_sql(self.entity.table.name)} e"
        # the widest last: what comes before is carried through every join behind it
        wide = [join for _, join in sorted(self.histories, key=lambda history: history[0])]
        return self.program.text(select([key, *self.items], source, *self.joins, *wide), head)

    def kept(self, features: Sequence[Feature]) -> list[Feature]:
        """The features there is room for, under names of their own."""
        fresh = [(self.names.fresh(name), sql) for name, sql in features]
        self.left_out += [name for name, _ in fresh[self.room :]]
        kept = fresh[: self.room]
        self.room -= len(kept)
        return kept

    # -- the entity and what it names ------------------------------------------------------------

    def own(self) -> None:
        """The entity's own columns, its parents' and theirs."""
        self._columns(self.entity, "e", "", 0)

    def _columns(self, relation: Relation, alias: str, prefix: str, hops: int) -> None:
        features = []
        if relation.time is not None:
            features.append((f"{prefix}age", self._age(relation, alias, relation.time)))
        also = self.target.key if not hops else None
        for value in self.columns.of(relation, [also]):
            if value.kind == "time":
                age = self._age(relation, alias, value.name)
                features.append((f"{prefix}{value.name}_age", age))
            else:
                features.append((f"{prefix}{value.name}", read_from(value, alias)))
        self.items += [f"{sql} AS {identifier(n)}" for n, sql in self.kept(features)]
        if hops < 1 + self.options.depth:
            for number, link in enumerate(out_of(self.schema, relation), start=1):
                other = f"{alias}{number}" if hops else f"p{number}"
                self.joins.append(_left_join(table_sql(link.parent.table.name), other, link, alias))
                inner = f"{prefix}{self.path(link, link.parent)}_"
                self._columns(link.parent, other, inner, hops + 1)

    def _age(self, relation: Relation, alias: str, column: str) -> str:
        return f"epoch(anchor() - {_timestamp(relation, alias, column)}) / 86400"

    def path(self, link: Link, end: Relation) -> str:
        """The name of one end of a link, with its column where another link has the same ends."""
        name = bare(end.table.name)
        same = [
            other
            for other in out_of(self.schema, link.child)
            if other.parent.table.name == link.parent.table.name
        ]
        return name if len(same) < 2 else f"{name}_{bare(link.foreign.column)}"

    # -- histories -------------------------------------------------------------------------------

    def children(self, link: Link) -> None:
        """Aggregates over the entity's children."""
        name = self.path(link, link.child)
        self._history(link, name, "e", self.target.key, full=True)

    def labels(self, past: Relation) -> None:
        """Past labels of the entity."""
        (foreign,) = past.foreign
        link = Link(past, foreign, self.entity)
        self._history(link, "past", "e", self.target.key, full=False)

    def parent_history(self, link: Link) -> None:
        """Aggregates over the children of a parent of the entity."""
        name = self.path(link, link.parent)
        for other in into(self.schema, link.parent):
            self._history(
                other,
                f"{name}_{self.path(other, other.child)}",
                "e",
                link.foreign.column,
                full=False,
            )

    def latest_parents(self) -> None:
        """Aggregates over the children of parents that the entity's latest rows name."""
        followed: set[str] = {self.entity.table.name}
        for link in into(self.schema, self.entity):
            if link.child.time is None:
                continue
            for up in out_of(self.schema, link.child):
                parent = up.parent.table.name
                if parent in followed or up.parent.time is not None:
                    continue
                followed.add(parent)
                self._latest(link, up)

    def _latest(self, link: Link, up: Link) -> None:
        column, named = identifier(link.foreign.column), identifier(up.foreign.column)
        child, parent = bare(link.child.table.name), bare(up.parent.table.name)
        histories = into(self.schema, up.parent)
        part = _Part(
            f"latest_{parent}",
            f"the {parent} row that the latest row of {child} names, for each {column}",
            select(
                [f"c.{column}", f"c.{named}"],
                f"FROM {table_sql(link.child.table.name)} c",
                f"WHERE c.{named} IS NOT NULL",
                f"QUALIFY {_rank(link, 'c', 'DESC')} = 1",
            ),
        )
        before = len(self.histories)
        alias = f"latest{len(self.joins)}"
        for other in histories:
            name = f"latest_{parent}_{self.path(other, other.child)}"
            self._history(other, name, alias, up.foreign.column, full=False)
        if len(self.histories) > before:
            made = self.program.add(part.name, part.comment, part.body)
            own = f"{alias}.{column} = e.{identifier(self.target.key)}"
            self.joins.append(f"LEFT JOIN {made} {alias} ON {own}")

    def _history(self, link: Link, name: str, to: str, column: str, full: bool) -> None:
        """Aggregates over the children of a link, joined where they refer to `to`.`column`."""
        rows = _Rows(self, link, name, full)
        present = f"r.{identifier(link.foreign.column)}"
        made = features_of(rows.values, name, present, self.options, rows.timed, full)
        features = self.kept(made)
        if not features:
            return
        for part in rows.parts:
            self.program.add(part.name, part.comment, part.body)
        key = identifier(link.foreign.references)
        child, parent = bare(link.child.table.name), bare(link.parent.table.name)
        history = self.program.add(
            f"{name}_history",
            f"{child} of each row of {parent}, by {link.foreign.column}",
            select(
                [f"o.{key}", *(f"{sql} AS {identifier(n)}" for n, sql in features)],
                f"FROM {table_sql(link.parent.table.name)} o",
                f"LEFT JOIN {rows.name} r ON r.{identifier(link.foreign.column)} = o.{key}",
                f"GROUP BY o.{key}",
            ),
        )
        alias = f"h{len(self.histories) + 1}"
        on = f"{alias}.{key} = {to}.{identifier(column)}"
        self.histories.append((len(features), f"LEFT JOIN {history} {alias} ON {on}"))
        self.items.append(f"{alias}.* EXCLUDE ({key})")


class _Rows:
    """The sub-query of a link's children: each row with all that is aggregated.

    name    of the sub-query
    values  its columns
    timed   whether it has age (days before the anchor), k (1 the latest row of its key), first_k,
            in_… for each window and w_… for each decay
    parts   the sub-queries it is made of, itself last
    """

    def __init__(self, writer: _Writer, link: Link, name: str, full: bool) -> None:
        self.link = link
        self.writer = writer
        self.timed = link.child.time is not None
        self.name = f"{name}_rows"
        self.values: list[Value] = []
        self.parts: list[_Part] = []
        self._items = [f"c.{identifier(link.foreign.column)}"]
        self._joins: list[str] = []
        self._names = Names([link.foreign.column, "age", "k", "first_k"])
        self._time()
        self._own()
        if full:
            self._events(name)
            if writer.options.depth:
                self._parents()
                self._grandchildren(name)
        child = bare(link.child.table.name)
        self._write(self.name, f"rows of {child}" + (", with their age" if self.timed else ""))

    def _write(self, name: str, comment: str) -> None:
        source = f"FROM {table_sql(self.link.child.table.name)} c"
        self.parts.append(_Part(name, comment, select(self._items, source, *self._joins)))

    def _time(self) -> None:
        child = self.link.child
        if child.time is None:
            return
        options, time = self.writer.options, _timestamp(child, "c", child.time)
        age = f"epoch(anchor() - {time}) / 86400"
        self._items.append(f"{age} AS age")
        for window in options.windows:
            if window is not None:
                sql = f"{time} > anchor() - {window.interval}"
                self._items.append(f"{sql} AS {self._names.fresh(f'in_{window.short}')}")
        for decay in options.decay:
            name = self._names.fresh(f"w_{decay.short}")
            self._items.append(f"exp(-{age} / {decay.days:g}) AS {name}")
        self._items.append(f"{_rank(self.link, 'c', 'DESC')} AS k")
        if "first" in options.aggregates:
            self._items.append(f"{_rank(self.link, 'c', 'ASC')} AS first_k")

    def _add(self, name: str, sql: str, value: Value, derived: bool) -> None:
        fresh = self._names.fresh(name)
        self._items.append(f"{sql} AS {identifier(fresh)}")
        self.values.append(
            replace(value, name=fresh, sql=f"r.{identifier(fresh)}", derived=derived)
        )

    def _columns(self, relation: Relation, alias: str, prefix: str, derived: bool) -> None:
        """A row's numbers and categories; a time as the days from it to the row's."""
        child = self.link.child
        until = "anchor()" if child.time is None else _timestamp(child, "c", child.time)
        also = [link.foreign.references for link in [self.link] if relation is child]
        for value in self.writer.columns.of(relation, also):
            if value.kind == "time":
                since = _timestamp(relation, alias, value.name)
                sql = f"epoch({until} - {since}) / 86400"
                number = replace(value, kind="number")
                self._add(f"{prefix}{value.name}_days", sql, number, True)
            else:
                self._add(f"{prefix}{value.name}", read_from(value, alias), value, derived)

    def _own(self) -> None:
        self._columns(self.link.child, "c", "", False)

    def _parents(self) -> None:
        for number, up in enumerate(out_of(self.writer.schema, self.link.child), start=1):
            if up.foreign == self.link.foreign:
                continue
            alias = f"p{number}"
            self._joins.append(_left_join(table_sql(up.parent.table.name), alias, up, "c"))
            self._columns(up.parent, alias, f"{self.writer.path(up, up.parent)}_", True)

    def _events(self, name: str) -> None:
        """Numbers among those of the rows that belong to the same parent with a time."""
        child = self.link.child
        numbers = [v for v in self.writer.columns.of(child) if v.kind == "number"]
        if not self.writer.options.within_event or child.key is None or not numbers:
            return
        key = identifier(child.key)
        events = [u for u in out_of(self.writer.schema, child) if u.parent.time is not None]
        for number, event in enumerate(events, start=1):
            if event.foreign == self.link.foreign:
                continue
            by, alias = identifier(event.foreign.column), f"v{number}"
            mark = "" if len(events) == 1 else f"_{bare(event.foreign.column)}"
            made = f"{name}_within_{bare(event.foreign.column)}"
            items = [f"c.{key}", f"c.{by}"]
            for value in numbers:
                read = read_from(value, "c")
                part = f"PARTITION BY c.{by}"
                rank = f"percent_rank() OVER ({part}, {read} IS NULL ORDER BY {read})"
                rank = f"CASE WHEN {read} IS NOT NULL THEN {rank} END"
                for what, sql in (("rank", rank), ("diff", f"{read} - avg({read}) OVER ({part})")):
                    column = identifier(f"{value.name}_{what}")
                    items.append(f"{sql} AS {column}")
                    self._add(f"{value.name}_{what}{mark}", f"{alias}.{column}", value, True)
            where = bare(event.parent.table.name)
            comment = f"{bare(child.table.name)} among those of the same row of {where}"
            source = f"FROM {table_sql(child.table.name)} c"
            self.parts.append(_Part(made, comment, select(items, source)))
            on = f"{alias}.{key} = c.{key} AND {alias}.{by} = c.{by}"
            self._joins.append(f"LEFT JOIN {made} {alias} ON {on}")

    def _grandchildren(self, name: str) -> None:
        """Counts and sums over the children of each row."""
        writer = self.writer
        for number, down in enumerate(into(writer.schema, self.link.child), start=1):
            if down.child.table.name in (writer.entity.table.name, self.link.child.table.name):
                continue
            alias, by = f"g{number}", identifier(down.foreign.column)
            what = writer.path(down, down.child)
            items = [f"g.{by}", "count(*) AS n"]
            count = Value("n", "n", "number")
            self._add(f"{what}_count", f"coalesce({alias}.n, 0)::DOUBLE", count, True)
            for value in writer.columns.of(down.child):
                if value.kind != "number":
                    continue
                for how in ("sum", "avg", "max"):
                    if how in writer.options.aggregates:
                        column = identifier(f"{how}_{value.name}")
                        items.append(f"{how}({read_from(value, 'g')}) AS {column}")
                        full = f"{what}_{how}_{value.name}"
                        self._add(full, f"{alias}.{column}", value, True)
            made = f"{name}_{what}"
            child, own = bare(down.child.table.name), bare(self.link.child.table.name)
            source = f"FROM {table_sql(down.child.table.name)} g"
            body = select(items, source, f"GROUP BY g.{by}")
            self.parts.append(_Part(made, f"{child} of each row of {own}", body))
            on = f"{alias}.{by} = c.{identifier(down.foreign.references)}"
            self._joins.append(f"LEFT JOIN {made} {alias} ON {on}")


def _left_join(table: str, alias: str, link: Link, child: str) -> str:
    column, references = identifier(link.foreign.column), identifier(link.foreign.references)
    return f"LEFT JOIN {table} {alias} ON {alias}.{references} = {child}.{column}"


def _timestamp(relation: Relation, alias: str, column: str) -> str:
    """A column as a TIMESTAMP."""
    sql = f"{alias}.{identifier(column)}"
    return sql if dict(relation.table.columns)[column] == "TIMESTAMP" else f"{sql}::TIMESTAMP"


def _rank(link: Link, alias: str, direction: str) -> str:
    """A row's place among those of its key by time; equal times by key or by the whole row."""
    child = link.child
    assert child.time is not None
    ties = [child.key] if child.key is not None else [n for n, _ in child.table.columns]
    columns = dict.fromkeys([child.time, *(t for t in ties if t != link.foreign.column)])
    order = ", ".join(f"{alias}.{identifier(c)} {direction}" for c in columns)
    key = f"{alias}.{identifier(link.foreign.column)}"
    return f"row_number() OVER (PARTITION BY {key} ORDER BY {order})"
