"""Names in a query: which column a name means, and where the text says so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlglot import exp

from relann.algebra.nodes import Column
from relann.errors import QueryError, SchemaError, Span, did_you_mean, listing


def span_of(node: exp.Expr, text: str) -> Span | None:
    """Where an expression stands: from its first to its last word that has a position."""
    starts, ends = [], []
    for inner in node.walk():
        if "start" in inner.meta:
            starts.append(inner.meta["start"])
            ends.append(inner.meta["end"] + 1)
    return Span(text, min(starts), max(ends)) if starts else None


def flat_column(name: str, like: exp.Expr | None = None) -> exp.Column:
    """A column by its flat name, standing where `like` stands."""
    made = exp.Column(this=exp.Identifier(this=name, quoted=True))
    if like is not None:
        start = [n for n in like.walk() if "start" in n.meta]
        if start:
            first = min(start, key=lambda n: int(n.meta["start"]))
            made.this.meta.update(first.meta)
            made.this.meta["end"] = max(n.meta["end"] for n in start)
    return made


@dataclass
class Scope:
    """The relations of one FROM clause, columns by flat name (`alias.column`).

    `merged` maps a name joined by USING to the expression that stands for it unqualified. `aliases`
    holds the select list's own names with their resolved expressions.
    """

    text: str
    relations: dict[str, dict[str, str]] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)
    merged: dict[str, exp.Expr] = field(default_factory=dict)
    aliases: dict[str, exp.Expr] = field(default_factory=dict)

    def add(self, alias: str, columns: Iterable[Column], at: Span | None) -> None:
        """Make a relation known; its columns carry flat names already."""
        key = alias.casefold()
        if key in self.relations:
            raise QueryError(f"two relations are called `{alias}`; give one another alias", at)
        prefix = len(alias) + 1
        self.relations[key] = {c.name[prefix:].casefold(): c.name for c in columns}
        self.shown[key] = alias

    def has_relation(self, name: str) -> bool:
        """Whether a relation of the FROM clause goes by this name."""
        return name.casefold() in self.relations

    def means_relation(self, column: exp.Column) -> bool:
        """Whether a name is that of a relation, and of no column."""
        key = column.name.casefold()
        columns = {*self.merged, *self.aliases, *(c for r in self.relations.values() for c in r)}
        return not column.table and key in self.relations and key not in columns

    def resolve(self, column: exp.Column) -> exp.Expr:
        """The flat column, merged column or select-list expression a name means."""
        name, table = column.name, column.table
        if not table:
            return self._unqualified(column, name)
        relation = self.relations.get(table.casefold())
        if relation is None:
            return self._struct_field(column, table, name)
        flat = relation.get(name.casefold())
        if flat is None:
            has = [f[len(table) + 1 :] for f in relation.values()]
            raise QueryError(
                f"`{table}` has no column `{name}`; it has {listing(has)}."
                + did_you_mean(name, has),
                span_of(column.this, self.text),
            )
        return flat_column(flat, column)

    def _unqualified(self, column: exp.Column, name: str) -> exp.Expr:
        key = name.casefold()
        if key in self.merged:
            return self.merged[key].copy()
        found = [r[key] for r in self.relations.values() if key in r]
        if len(found) > 1:
            raise QueryError(
                f"`{name}` is ambiguous; it could be {' or '.join(f'`{f}`' for f in found)}",
                span_of(column, self.text),
            )
        if found:
            return flat_column(found[0], column)
        if key in self.aliases:
            return self.aliases[key].copy()
        if key in self.relations:
            raise QueryError(
                f"`{name}` is a relation, not a column; write `{name}.column`, or "
                f"`features({name}, n)` for all its columns",
                span_of(column, self.text),
            )
        known = {n for r in self.relations for n in self._names(r)} | set(self.aliases)
        raise QueryError(
            f"there is no column `{name}` here; there are {listing(sorted(known))}."
            + did_you_mean(name, known),
            span_of(column, self.text),
        )

    def _names(self, key: str) -> list[str]:
        return [flat[len(self.shown[key]) + 1 :] for flat in self.relations[key].values()]

    def _struct_field(self, column: exp.Column, table: str, name: str) -> exp.Expr:
        holders = [r[table.casefold()] for r in self.relations.values() if table.casefold() in r]
        if len(holders) == 1:
            return exp.Dot(this=flat_column(holders[0], column), expression=column.this.copy())
        raise QueryError(
            f"there is no relation `{table}` here; there are {listing(self.shown.values())}."
            + did_you_mean(table, self.shown.values()),
            span_of(column.args["table"], self.text),
        )

    def star(self, alias: str | None) -> list[tuple[str, exp.Expr]]:
        """(output name, expression) of `*` or `alias.*`; a USING column stands once, first."""
        out: list[tuple[str, exp.Expr]] = []
        if alias is None:
            out += [(name, e.copy()) for name, e in self.merged.items()]
        for key, relation in self.relations.items():
            if alias is None or key == alias.casefold():
                prefix = len(self.shown[key]) + 1
                out += [
                    (flat[prefix:], flat_column(flat))
                    for short, flat in relation.items()
                    if alias is not None or short not in self.merged
                ]
        return out


@contextmanager
def located(node: exp.Expr, text: str) -> Iterator[None]:
    """Give a SchemaError its place in the text."""
    try:
        yield
    except QueryError:
        raise
    except SchemaError as error:
        raise QueryError(str(error), span_of(node, text)) from error
