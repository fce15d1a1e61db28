"""Layers: sub-queries with arguments, as CREATE LAYER states them and calls fill them in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from sqlglot import exp

from relann.algebra.nodes import Map, Node, passed
from relann.algebra.parse import statements
from relann.algebra.scope import span_of
from relann.algebra.statements import CreateLayer
from relann.errors import QueryError, Span, did_you_mean, listing


@dataclass(frozen=True)
class Parameter:
    """What a layer takes: a scalar, `default` where one is given, or a relation.

    `columns` are those a relation must have, None where that is not said.
    """

    name: str
    default: exp.Expr | None = None
    columns: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return self.name if self.columns is None else f"{self.name}({', '.join(self.columns)})"


@dataclass(frozen=True)
class Layer:
    """A reusable sub-query: what it takes, the parsed body, its text."""

    name: str
    arguments: tuple[Parameter, ...]
    body: exp.Expr
    text: str

    @classmethod
    def of(cls, statement: CreateLayer) -> Layer:
        """The layer a statement creates."""
        arguments = tuple(
            Parameter(
                a.name, None if a.default is None else exp.convert(a.default.value), a.columns
            )
            for a in statement.arguments
        )
        return cls(statement.name, arguments, statement.body.query, statement.body.span.text)

    @classmethod
    @lru_cache(maxsize=256)
    def parsed(cls, definition: str) -> Layer:
        """The layer that a text of one CREATE LAYER statement creates; not to be changed."""
        (statement,) = statements(definition)
        assert isinstance(statement, CreateLayer)
        return cls.of(statement)

    @property
    def signature(self) -> str:
        """How it is called."""
        return f"{self.name}({', '.join(map(str, self.arguments))})"

    def arguments_of(self, call: exp.Expr, where: Span | None) -> dict[str, exp.Expr]:
        """What a call gives for each argument, by place or by name, or else its default.

        Raises QueryError for one too many, one missing and one that there is not.
        """
        names = [a.name for a in self.arguments]
        given, signature = list(call.expressions), self.signature
        values: dict[str, exp.Expr] = {}
        for position, value in enumerate(given):
            if isinstance(value, exp.Kwarg):
                match = [n for n in names if n.casefold() == value.this.name.casefold()]
                if not match:
                    raise QueryError(
                        f"{signature} has no argument `{value.this.name}`."
                        + did_you_mean(value.this.name, names),
                        where,
                    )
                values[match[0]] = value.expression
            elif position >= len(names):
                raise QueryError(
                    f"{signature} takes {len(names)} arguments, not {len(given)}", where
                )
            else:
                values[names[position]] = value
        for argument in self.arguments:
            if argument.name not in values:
                if argument.default is None:
                    raise QueryError(f"{signature} needs its argument `{argument.name}`", where)
                values[argument.name] = argument.default
        return values

    def relation(self, name: str, node: Node, value: exp.Expr, text: str) -> Node:
        """A relation given for an argument, with the columns that it takes and no others.

        `value` is what the call says. Raises QueryError where a column is missing.
        """
        (wanted,) = (a.columns for a in self.arguments if a.name == name)
        if wanted is None:
            return node
        found = {c.name.casefold(): c for c in node.columns}
        if missing := [w for w in wanted if w.casefold() not in found]:
            given = value.sql(dialect="duckdb")
            example = ", ".join(f"… AS {w}" if w in missing else w for w in wanted)
            raise QueryError(
                f"layer `{self.name}` takes `{name}` with columns {listing(wanted)}; this has no "
                f"{listing(missing)}, it has {listing(node.names)}. Rename what it has: "
                f"(SELECT {example} FROM {given if isinstance(value, exp.Column) else '…'})",
                span_of(value, text),
            )
        outputs = tuple((w, passed(found[w.casefold()])) for w in wanted)
        return Map(node, outputs)

    def with_scalars(self, scalars: Mapping[str, exp.Expr]) -> exp.Expr:
        """The body with scalar arguments put in, by folded names; positions stay its own."""

        def put(node: exp.Expr) -> exp.Expr:
            if isinstance(node, exp.Column) and not node.table and node.name.casefold() in scalars:
                value = scalars[node.name.casefold()].copy()
                start_end = {k: v for k, v in node.this.meta.items() if k in ("start", "end")}
                value.meta.update(start_end)
                return value
            return node

        return self.body.transform(put)


Layers = Callable[[str], Layer | None]
"""Finds a layer by (qualified) name; may raise SchemaError to say which names there are."""
