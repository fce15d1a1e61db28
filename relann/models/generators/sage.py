"""GraphSAGE over the foreign keys of a database, as query text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relann.errors import QueryError
from relann.models.generators.program import (
    Link,
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
from relann.schema import Catalog, Relation, Schema

AGGREGATES = ("avg", "sum", "max")
RELATIVE_TIME = ("first", "all", "none")


def sage(
    schema: Schema,
    catalog: Catalog,
    target: Target,
    *,
    layers: int = 2,
    width: int = 64,
    aggregate: str | Sequence[str] = "avg",
    neighbours: int | None = None,
    relative_time: str = "first",
    dropout: float = 0.0,
    norm: bool = True,
    out: int = 1,
) -> str:
    """The text of a query that gives (target.name, logit) for each row of the entity's table.

    GraphSAGE (Hamilton, Ying and Leskovec 2017, algorithm 1) over typed tables: a layer is
    relu(norm(W z + the sum of W_r message_r over the foreign keys r at the table, both ways)), its
    weights its own for each table, key, direction and layer. A row's children send the aggregate
    over them, 0 where there are none, its parents their row. Only what reaches the entity is
    computed. The query is timeless: it is to be evaluated as of a task's anchors.

    Where each row of a table names a parent that is known when the row is, which is looked up in
    the data, the parent is joined with JOIN, so that layers are computed once for each row and not
    once for each anchor; elsewhere with LEFT JOIN, and a missing parent sends 0.

    Args:
        layers: how many hops messages travel, 0 for the entity's own columns alone.
        width: of all embeddings between.
        aggregate: avg, sum or max over children; of several each has a matrix of its own.
        neighbours: how many children with a time are read for each key, the latest (None: all).
        relative_time: whose messages also hold the time since: the neighbours' of the entity
            ('first'), all of tables with a time ('all') or no one's ('none').
        dropout: share of numbers left out after each layer in training.
        norm: whether layers normalise before relu.
        out: width of the logit; 0 for the embedding itself, as `z`, without a head.

    Raises QueryError for options that are not so, or a target that is not in the schema, and
    DataError where the database has no such tables.
    """
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise QueryError(f"`dropout` is a share from 0 to below 1, not {dropout!r}")
    kinds = (aggregate,) if isinstance(aggregate, str) else tuple(aggregate)
    if not kinds or len(set(kinds)) < len(kinds):
        raise QueryError(f"`aggregate` names at least one aggregate, each once, not {aggregate!r}")
    for kind in kinds:
        one_of("aggregate", kind, AGGREGATES)
    options = _Options(
        width=whole("width", width, 1),
        aggregates=kinds,
        neighbours=None if neighbours is None else whole("neighbours", neighbours, 1),
        relative_time=one_of("relative_time", relative_time, RELATIVE_TIME),
        dropout=dropout,
        norm=norm,
    )
    entity = entity_of(schema, target)
    writer = _Writer(schema, catalog, target, entity, options)
    top = writer.layer(entity, whole("layers", layers, 0))
    head = f"linear(e.z, {out}) AS logit" if whole("out", out, 0) else "e.z"
    return writer.program.text(
        f"SELECT e.{identifier(target.key)} AS {identifier(target.name)}, {head}\nFROM {top} e"
    )


@dataclass(frozen=True)
class _Options:
    width: int
    aggregates: tuple[str, ...]
    neighbours: int | None
    relative_time: str
    dropout: float
    norm: bool


class _Writer:
    def __init__(
        self,
        schema: Schema,
        catalog: Catalog,
        target: Target,
        entity: Relation,
        options: _Options,
    ) -> None:
        self.schema = schema
        self.catalog = catalog
        self.target = target
        self.entity = entity
        self.options = options
        self.program = Program(schema)
        self.written: dict[tuple[str, int], str] = {}
        self.complete: dict[tuple[str, str], bool] = {}

    def layer(self, relation: Relation, number: int) -> str:
        """The sub-query that holds a table's rows after some layers; written on first use."""
        key = (relation.table.name, number)
        if key not in self.written:
            write = self._hop if number else self._encoding
            self.written[key] = write(relation, number)
        return self.written[key]

    # -- sub-queries -----------------------------------------------------------------------------

    def _encoding(self, relation: Relation, number: int) -> str:
        width = self.options.width
        kept = self._kept(relation)
        rest = [c for c, _ in relation.table.columns if c not in kept]
        table = self.catalog.table(relation.table.name)
        # features() leaves out what the catalog knows as keys by itself
        left_out = [c for c in kept if table is None or c not in table.keys]
        exclude = ", ".join(identifier(c) for c in left_out)
        z = f"features(t, {width}, exclude => [{exclude}]) AS z" if left_out else ""
        z = z or f"features(t, {width}) AS z"
        if not rest:
            z = f"param({width}) AS z"
        name = bare(relation.table.name)
        return self.program.add(
            f"{name}_{number}",
            f"rows of {name} as vectors" if rest else f"rows of {name}, which hold keys only",
            select([*self._passed(relation, "t"), z], f"FROM {table_sql(relation.table.name)} t"),
        )

    def _hop(self, relation: Relation, number: int) -> str:
        width = self.options.width
        own = self.layer(relation, number - 1)
        terms = [f"linear(t.z, {width})"]
        joins = []
        complete = []
        for place, link in enumerate(into(self.schema, relation), start=1):
            name = self._messages(link, number)
            joins.append(f"LEFT JOIN {name} m{place} ON {self._meet(link, f'm{place}', 't')}")
            for column in self._columns():
                message = f"linear(m{place}.{column}, {width}, bias => false)"
                terms.append(f"coalesce({message}, 0)")
        for place, link in enumerate(out_of(self.schema, relation), start=1):
            kind = "JOIN" if self._is_complete(link) else "LEFT JOIN"
            complete += [bare(link.parent.table.name)] if kind == "JOIN" else []
            parent = self.layer(link.parent, number - 1)
            joins.append(f"{kind} {parent} p{place} ON {self._meet(link, 't', f'p{place}')}")
            message = f"p{place}.z"
            if since := self._since(link.parent, relation, f"p{place}"):
                message += f" + {since}"
            message = f"linear({message}, {width}, bias => false)"
            terms.append(message if kind == "JOIN" else f"coalesce({message}, 0)")
        name = bare(relation.table.name)
        comment = f"{name} after {number} hop{'s' if number > 1 else ''}"
        if complete:
            comment += f"; JOIN, as each row's {' and '.join(complete)} is known when the row is"
        items = [*self._passed(relation, "t"), f"{self._activated(terms)} AS z"]
        return self.program.add(
            f"{name}_{number}", comment, select(items, f"FROM {own} t", *joins, width=80)
        )

    def _activated(self, terms: Sequence[str]) -> str:
        inner = "\n    + ".join(terms)
        inner = f"layer_norm({inner})" if self.options.norm else inner
        inner = f"relu({inner})"
        return f"dropout({inner}, {self.options.dropout})" if self.options.dropout else inner

    def _messages(self, link: Link, number: int) -> str:
        """The aggregate of a link's children for each key they name."""
        source = self.layer(link.child, number - 1)
        child, parent = bare(link.child.table.name), bare(link.parent.table.name)
        column = identifier(link.foreign.column)
        timed = link.child.time is not None
        which = f"{child} that name a row of {parent} by {link.foreign.column}"
        if timed and self.options.neighbours is not None:
            source = self._latest(link, source, number)
            which = f"the latest {self.options.neighbours} {which}"
        items = [f"c.{column}"]
        for how, name in zip(self.options.aggregates, self._columns(), strict=True):
            items.append(f"{self._reduced(how, link)} AS {name}")
        return self.program.add(
            f"{child}_by_{bare(link.foreign.column)}_{number}",
            f"{' and '.join(self.options.aggregates)} of {which}",
            select(items, f"FROM {source} c", f"GROUP BY c.{column}"),
        )

    def _reduced(self, how: str, link: Link) -> str:
        since = self._since(link.child, link.parent, "c")
        if since is None:
            return f"{how}(c.z)"
        if how == "max":
            return f"max(c.z + {since})"
        return f"{how}(c.z) + {how}({since})"

    def _latest(self, link: Link, source: str, number: int) -> str:
        child, time = link.child, link.child.time
        assert time is not None
        column = identifier(link.foreign.column)
        order = [f"c.{identifier(time)} DESC"]
        if child.key is not None and child.key != time:
            order.append(f"c.{identifier(child.key)} DESC")
        rank = f"row_number() OVER (PARTITION BY c.{column} ORDER BY {', '.join(order)})"
        passed = dict.fromkeys([column, identifier(time)])
        return self.program.add(
            f"latest_{bare(child.table.name)}_{bare(link.foreign.column)}_{number}",
            f"the latest rows of {bare(child.table.name)} for each {link.foreign.column}",
            select(
                [*(f"c.{c}" for c in passed), "c.z"],
                f"FROM {source} c",
                f"QUALIFY {rank} <= {self.options.neighbours}",
            ),
        )

    # -- parts -----------------------------------------------------------------------------------

    def _columns(self) -> tuple[str, ...]:
        several = len(self.options.aggregates) > 1
        return tuple(f"z_{a}" for a in self.options.aggregates) if several else ("z",)

    def _kept(self, relation: Relation) -> list[str]:
        """Columns that later sub-queries read: keys, what keys refer to, the time."""
        names = [relation.key, *(f.column for f in relation.foreign)]
        names += [link.foreign.references for link in into(self.schema, relation)]
        if relation.table.name == self.entity.table.name:
            names.append(self.target.key)
        names.append(relation.time)
        return list(dict.fromkeys(n for n in names if n is not None))

    def _passed(self, relation: Relation, alias: str) -> list[str]:
        return [f"{alias}.{identifier(c)}" for c in self._kept(relation)]

    def _meet(self, link: Link, child: str, parent: str) -> str:
        column, references = identifier(link.foreign.column), identifier(link.foreign.references)
        return f"{child}.{column} = {parent}.{references}"

    def _since(self, sender: Relation, receiver: Relation, alias: str) -> str | None:
        """The learned time since a sender's row, where messages to the receiver hold it."""
        wanted = self.options.relative_time
        direct = receiver.table.name == self.entity.table.name
        if sender.time is None or wanted == "none" or (wanted == "first" and not direct):
            return None
        return f"time_since({alias}.{identifier(sender.time)}, {self.options.width})"

    def _is_complete(self, link: Link) -> bool:
        """Whether each row of a table names a row, with a time, that is known by then."""
        child, parent = link.child, link.parent
        if parent.time is None or child.time is None:
            return False  # LEFT JOIN costs nothing, or no row is known always
        key = (child.table.name, link.foreign.column)
        if key not in self.complete:
            sql = (
                f"SELECT count(*) FROM {child.table.name} c LEFT JOIN {parent.table.name} p "
                f"ON {self._meet(link, 'c', 'p')} WHERE p.{identifier(parent.time)} IS NULL "
                f"OR p.{identifier(parent.time)} > c.{identifier(child.time)}"
            )
            self.complete[key] = self.catalog.rows(sql) == [(0,)]
        return self.complete[key]
