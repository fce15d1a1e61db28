"""The parts of a generated query: what it predicts for, links between tables, names, its text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import indent

from relann.errors import QueryError, did_you_mean, listing
from relann.schema import ForeignKey, Relation, Schema, unquoted

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_RESERVED = frozenset(
    re.findall(
        r"\w+",
        """
        all analyse analyze and any array as asc asymmetric both case cast check collate
        column constraint create default deferrable desc describe distinct do else end
        except false fetch for foreign from group having in initially intersect into
        lambda lateral leading limit not null offset on only or order pivot pivot_longer
        pivot_wider placing primary qualify references returning select show some
        summarize symmetric table then to trailing true union unique unpivot using
        values variadic when where window with
        """,
    )
)
_PARTS = re.compile(r'"(?:[^"]|"")*"|[^."]+')


@dataclass(frozen=True)
class Target:
    """What a query predicts for: rows of `table` (quoted SQL) told apart by the column `key`.

    `name` is the column under which the query gives the key: the task's entity column.
    """

    table: str
    key: str
    name: str


@dataclass(frozen=True)
class Link:
    """A foreign key with the tables at both of its ends."""

    child: Relation
    foreign: ForeignKey
    parent: Relation


def entity_of(schema: Schema, target: Target) -> Relation:
    """The relation of the entity; QueryError where the table or its key is not there."""
    found = schema.find(target.table)
    if found is None:
        names = [unquoted(n) for n in schema.relations]
        raise QueryError(
            f"there is no table `{unquoted(target.table)}` in the schema; it has {listing(names)}."
            + did_you_mean(unquoted(target.table), names)
        )
    columns = [n for n, _ in found.table.columns]
    if target.key not in columns:
        raise QueryError(
            f"`{unquoted(target.table)}` has no column `{target.key}`; it has {listing(columns)}."
            + did_you_mean(target.key, columns)
        )
    return found


def links(schema: Schema) -> list[Link]:
    """All foreign keys whose table is in the schema, in its order."""
    return [
        Link(child, foreign, parent)
        for child in schema.relations.values()
        for foreign in child.foreign
        if (parent := schema.find(foreign.table)) is not None
    ]


def into(schema: Schema, parent: Relation) -> list[Link]:
    """The foreign keys that name rows of a relation."""
    return [link for link in links(schema) if link.parent.table.name == parent.table.name]


def out_of(schema: Schema, child: Relation) -> list[Link]:
    """The foreign keys of a relation."""
    return [link for link in links(schema) if link.child.table.name == child.table.name]


def identifier(name: str) -> str:
    """A name as SQL, quoted only where it must be."""
    if _PLAIN.match(name) and name.casefold() not in _RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


def table_sql(name: str) -> str:
    """A table's quoted SQL name, perhaps qualified, with quotes only where they must be."""
    return ".".join(identifier(unquoted(part)) for part in _PARTS.findall(name))


def bare(name: str) -> str:
    """The last part of a table's name as a plain word, to make other names of."""
    word = re.sub(r"\W+", "_", unquoted(_PARTS.findall(name)[-1])).strip("_")
    return word if word and not word[0].isdigit() else f"t_{word}"


def literal(value: object) -> str:
    """A value as an SQL literal."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).lower() if isinstance(value, bool) else str(value)


class Names:
    """Names that are each given once, case aside."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {t.casefold() for t in taken}

    def fresh(self, wanted: str) -> str:
        """The name, with a number behind it if it is taken."""
        name, number = wanted, 2
        while name.casefold() in self._taken:
            name, number = f"{wanted}_{number}", number + 1
        self._taken.add(name.casefold())
        return name


class Program:
    """A query made of sub-queries, each with a comment line."""

    def __init__(self, schema: Schema, also: Iterable[str] = ()) -> None:
        tables = (unquoted(_PARTS.findall(n)[-1]) for n in schema.relations)
        self._names = Names([*tables, *also])
        self._parts: list[str] = []

    def add(self, name: str, comment: str, body: str) -> str:
        """Add a sub-query; gives the name it has."""
        fresh = self._names.fresh(name)
        self._parts.append(f"  -- {comment}\n  {fresh} AS (\n{indent(body, '    ')}\n  )")
        return fresh

    def text(self, body: str, head: Sequence[str] = ()) -> str:
        """The whole query under comment lines, ending in a new line."""
        lines = "".join(f"-- {line}\n" for line in head)
        with_ = "WITH\n" + ",\n".join(self._parts) + "\n" if self._parts else ""
        return f"{lines}{with_}{body}\n"


def select(items: Sequence[str], *clauses: str, width: int = 100) -> str:
    """SELECT with its list filled into lines of at most `width`, then the other clauses."""
    lines, line = [], "SELECT"
    for number, item in enumerate(items):
        piece = item + ("," if number + 1 < len(items) else "")
        if "\n" in piece or len(line) + 1 + len(piece) > width:
            lines.append(line)
            line = " "
        line += " " + piece
    return "\n".join([*lines, line, *clauses])


def whole(name: str, value: object, least: int) -> int:
    """An option that is a whole number; QueryError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise QueryError(f"`{name}` is a whole number from {least} on, not {value!r}")
    return value


def one_of(name: str, value: str, known: Sequence[str]) -> str:
    """An option that is one of some words; QueryError otherwise, with the nearest."""
    if value not in known:
        raise QueryError(
            f"`{name}` is one of {listing(known, 20)}, not {value!r}."
            + did_you_mean(str(value), known)
        )
    return value
