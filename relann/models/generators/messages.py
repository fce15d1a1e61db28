"""Message passing over the foreign keys of a database, unrolled from the entity as query text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from relann.errors import QueryError
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
from relann.models.generators.values import is_category, is_number
from relann.schema import Catalog, Relation, Schema

RELATIVE_TIME = ("first", "all", "none")


@dataclass(frozen=True)
class PastLabels(Relation):
    """A task's labels of the past: rows of (entity, time, label) that name rows of the entity.

    `classes` says that labels are classes, even where they are whole numbers.
    """

    classes: bool = False

    @property
    def label(self) -> tuple[str, str]:
        """Its one column that is neither the entity nor the time, and its type."""
        others = {self.time, *(f.column for f in self.foreign)}
        (found,) = ((n, kind) for n, kind in self.table.columns if n not in others)
        return found


@dataclass(frozen=True)
class MessageOptions:
    """What message passing is told, whatever its messages are; `of` checks it."""

    width: int
    heads: int
    neighbours: int | None
    relative_time: str
    dropout: float
    norm: bool

    @classmethod
    def of(
        cls,
        *,
        width: int,
        neighbours: int | None,
        relative_time: str,
        dropout: float,
        norm: bool,
        heads: int = 1,
    ) -> MessageOptions:
        """The options; QueryError for one that is not so."""
        if (
            isinstance(dropout, bool)
            or not isinstance(dropout, int | float)
            or not 0 <= dropout < 1
        ):
            raise QueryError(f"`dropout` is a share from 0 to below 1, not {dropout!r}")
        whole("width", width, 1)
        if width % whole("heads", heads, 1):
            near = [n for n in (width - width % heads, width - width % heads + heads) if n]
            raise QueryError(
                f"`heads` cut `width` into equal parts, and {width} is no multiple of {heads}; "
                f"a width of {' or '.join(map(str, near))} is"
            )
        return cls(
            width,
            heads,
            None if neighbours is None else whole("neighbours", neighbours, 1),
            one_of("relative_time", relative_time, RELATIVE_TIME),
            dropout,
            norm,
        )


class MessageWriter(ABC):
    """Writes layers of message passing; a model says how a row after a layer is made.

    `layer(T, l)` is the sub-query of T's rows after l hops: the columns that others join on, and
    `z`, the embedding. Only what reaches the entity is written, each sub-query once.
    """

    def __init__(
        self,
        schema: Schema,
        catalog: Catalog,
        target: Target,
        options: MessageOptions,
        labels: PastLabels | None = None,
    ) -> None:
        self.entity = entity_of(schema, target)
        if labels is not None:
            schema = Schema({**schema.relations, labels.table.name: labels}, schema.current)
        self.schema = schema
        self.catalog = catalog
        self.target = target
        self.options = options
        self.program = Program(schema)
        # columns of sub-queries beside those of tables, which may be named so themselves
        names = Names(c for r in schema.relations.values() for c in self._kept(r))
        self.z, self.v, self.q, self.k = (names.fresh(n) for n in "zvqk")
        self.f, self.e, self.a = (names.fresh(n) for n in "fea")
        self._written: dict[tuple[str, int], str] = {}
        self._complete: dict[tuple[str, str], bool] = {}

    def text(self, layers: int, out: int) -> str:
        """The whole query: (target.name, logit), or (target.name, z) where `out` is 0."""
        top = self.layer(self.entity, whole("layers", layers, 0))
        head = f"linear(e.{self.z}, {out}) AS logit" if whole("out", out, 0) else f"e.{self.z}"
        return self.program.text(
            f"SELECT e.{identifier(self.target.key)} AS {identifier(self.target.name)}, {head}\n"
            f"FROM {top} e"
        )

    def layer(self, relation: Relation, number: int) -> str:
        """The sub-query that holds a table's rows after some layers; written on first use."""
        if self.is_still(relation):
            number = 0
        key = (relation.table.name, number)
        if key not in self._written:
            write = self.hop if number else self._encoding
            self._written[key] = write(relation, number)
        return self._written[key]

    # -- what a model says -----------------------------------------------------------------------

    @abstractmethod
    def hop(self, relation: Relation, number: int) -> str:
        """The sub-query of a table's rows after a layer, from 1 on."""

    def is_still(self, relation: Relation) -> bool:
        """Whether a table's rows receive no messages and are as they are in all layers."""
        return isinstance(relation, PastLabels)

    # -- sub-queries -----------------------------------------------------------------------------

    def _encoding(self, relation: Relation, number: int) -> str:
        kept = self._kept(relation)
        rest = [c for c, _ in relation.table.columns if c not in kept]
        name = bare(relation.table.name)
        comment = f"rows of {name} as vectors" if rest else f"rows of {name}, which hold keys only"
        z = self._row(relation, kept) if rest else f"param({self.options.width})"
        if isinstance(relation, PastLabels):
            name, comment = "past", f"past labels of {bare(self.entity.table.name)} as vectors"
        source = f"FROM {table_sql(relation.table.name)} t"
        body = select([*self.passed(relation, "t"), f"{z} AS {self.z}"], source)
        return self.program.add(f"{name}_{number}", comment, body)

    def _row(self, relation: Relation, kept: Sequence[str]) -> str:
        width = self.options.width
        if isinstance(relation, PastLabels):
            name, kind = relation.label
            label = f"t.{identifier(name)}"
            if relation.classes or is_category(kind):
                return f"category({label}, {width})"
            # a ranking's label is a list: that there was one is what is said
            return f"linear(numeric({label}), {width})" if is_number(kind) else f"param({width})"
        table = self.catalog.table(relation.table.name)
        # features() leaves out what the catalog knows as keys by itself
        left_out = [c for c in kept if table is None or c not in table.keys]
        exclude = ", ".join(identifier(c) for c in left_out)
        return (
            f"features(t, {width}, exclude => [{exclude}])" if left_out else f"features(t, {width})"
        )

    def senders(self, link: Link, number: int) -> tuple[str, str]:
        """The sub-query of a link's children that send, perhaps the latest, and what they are."""
        return self.latest(link, self.layer(link.child, number - 1), number, (self.z,))

    def latest(
        self, link: Link, source: str, number: int, values: Sequence[str]
    ) -> tuple[str, str]:
        """A sub-query of a link's children cut to the `neighbours` latest, and what they are."""
        child, time = link.child, link.child.time
        name, column = self.name_of(child), identifier(link.foreign.column)
        parent = bare(link.parent.table.name)
        which = f"{name} that name a row of {parent} by {link.foreign.column}"
        if isinstance(child, PastLabels):
            which = f"past labels of each row of {parent}"
        if time is None or self.options.neighbours is None:
            return source, which
        order = [f"c.{identifier(time)} DESC"]
        if child.key is not None and child.key != time:
            order.append(f"c.{identifier(child.key)} DESC")
        rank = f"row_number() OVER (PARTITION BY c.{column} ORDER BY {', '.join(order)})"
        passed = dict.fromkeys([*self.passed_by(link), *values])
        made = self.program.add(
            f"latest_{name}_{bare(link.foreign.column)}_{number}",
            f"the latest rows of {name} for each {link.foreign.column}",
            select(
                [f"c.{c}" for c in passed],
                f"FROM {source} c",
                f"QUALIFY {rank} <= {self.options.neighbours}",
            ),
        )
        return made, f"the latest {self.options.neighbours} {which}"

    def attended(self, name: str, pairs: str, key: str, score: str) -> str:
        """The sub-query of the sum of `v` over a key's rows, weighed by the softmax of a score."""
        heads, z, v, a = self.options.heads, self.z, self.v, self.a
        shares = self.program.add(
            f"shares_{name}",
            "their shares" if heads == 1 else f"their shares in each of {heads} heads",
            select(
                [f"r.{key}", f"r.{v}", f"softmax({score}) OVER (PARTITION BY r.{key}) AS {a}"],
                f"FROM {pairs} r",
            ),
        )
        return self.program.add(
            name,
            "their sum by these shares",
            select(
                [f"s.{key}", f"sum(scale(s.{v}, s.{a})) AS {z}"],
                f"FROM {shares} s",
                f"GROUP BY s.{key}",
            ),
        )

    # -- parts -----------------------------------------------------------------------------------

    def passed_by(self, link: Link) -> list[str]:
        """The columns of a link's children that its messages read, besides what they hold."""
        columns = [link.foreign.column, link.child.time]
        return [identifier(c) for c in columns if c is not None]

    def with_time(self, sql: str, sender: Relation, receiver: Relation, alias: str) -> str:
        """What a sender's row holds, with the time since where messages hold it."""
        since = self.since(sender, receiver, alias)
        return sql if since is None else f"{sql} + {since}"

    def since(self, sender: Relation, receiver: Relation, alias: str) -> str | None:
        """The learned time since a sender's row, where messages to the receiver hold it."""
        wanted = self.options.relative_time
        direct = receiver.table.name == self.entity.table.name
        if sender.time is None or wanted == "none" or (wanted == "first" and not direct):
            return None
        return f"time_since({alias}.{identifier(sender.time)}, {self.options.width})"

    def meet(self, link: Link, child: str, parent: str) -> str:
        """The condition that a link's child names its parent."""
        column, references = identifier(link.foreign.column), identifier(link.foreign.references)
        return f"{child}.{column} = {parent}.{references}"

    def passed(self, relation: Relation, alias: str) -> list[str]:
        """The columns of a table that later sub-queries join on."""
        return [f"{alias}.{identifier(c)}" for c in self._kept(relation)]

    def name_of(self, relation: Relation) -> str:
        """A table's name as a plain word."""
        return "past" if isinstance(relation, PastLabels) else bare(relation.table.name)

    def is_complete(self, link: Link) -> bool:
        """Whether each row of a table names a row, with a time, that is known by then."""
        child, parent = link.child, link.parent
        if parent.time is None or child.time is None:
            return False  # LEFT JOIN costs nothing, or no row is known always
        if isinstance(child, PastLabels):
            return False
        key = (child.table.name, link.foreign.column)
        if key not in self._complete:
            sql = (
                f"SELECT count(*) FROM {child.table.name} c LEFT JOIN {parent.table.name} p "
                f"ON {self.meet(link, 'c', 'p')} WHERE p.{identifier(parent.time)} IS NULL "
                f"OR p.{identifier(parent.time)} > c.{identifier(child.time)}"
            )
            self._complete[key] = self.catalog.rows(sql) == [(0,)]
        return self._complete[key]

    def _kept(self, relation: Relation) -> list[str]:
        """Columns that later sub-queries read: keys, what keys refer to, the time."""
        names = [relation.key, *(f.column for f in relation.foreign)]
        names += [link.foreign.references for link in into(self.schema, relation)]
        if relation.table.name == self.entity.table.name:
            names.append(self.target.key)
        names.append(relation.time)
        return list(dict.fromkeys(n for n in names if n is not None))


class SumWriter(MessageWriter):
    """A layer is relu(norm(W z + what each foreign key sends)), parents sending W_r z."""

    @abstractmethod
    def messages(self, link: Link, number: int) -> str:
        """The sub-query of what a link's children send, one row for each key they name."""

    @abstractmethod
    def received(self, alias: str) -> list[str]:
        """The terms that a row adds of such messages; they are 0 where there are none."""

    def hop(self, relation: Relation, number: int) -> str:
        """A table's rows after a layer: their own, what their children and their parents send."""
        own = self.layer(relation, number - 1)
        terms = [f"linear(t.{self.z}, {self.options.width})"]
        joins = []
        complete = []
        for place, link in enumerate(into(self.schema, relation), start=1):
            name = self.messages(link, number)
            joins.append(f"LEFT JOIN {name} m{place} ON {self.meet(link, f'm{place}', 't')}")
            terms += self.received(f"m{place}")
        for place, link in enumerate(out_of(self.schema, relation), start=1):
            kind = "JOIN" if self.is_complete(link) else "LEFT JOIN"
            complete += [bare(link.parent.table.name)] if kind == "JOIN" else []
            parent = self.layer(link.parent, number - 1)
            joins.append(f"{kind} {parent} p{place} ON {self.meet(link, 't', f'p{place}')}")
            message = self.with_time(f"p{place}.{self.z}", link.parent, relation, f"p{place}")
            message = f"linear({message}, {self.options.width}, bias => false)"
            terms.append(message if kind == "JOIN" else f"coalesce({message}, 0)")
        name = bare(relation.table.name)
        comment = f"{name} after {number} hop{'s' if number > 1 else ''}"
        if complete:
            comment += f"; JOIN, as each row's {' and '.join(complete)} is known when the row is"
        items = [*self.passed(relation, "t"), f"{self._activated(terms)} AS {self.z}"]
        return self.program.add(
            f"{name}_{number}", comment, select(items, f"FROM {own} t", *joins, width=80)
        )

    def _activated(self, terms: Sequence[str]) -> str:
        inner = "\n    + ".join(terms)
        inner = f"layer_norm({inner})" if self.options.norm else inner
        inner = f"relu({inner})"
        return f"dropout({inner}, {self.options.dropout})" if self.options.dropout else inner
