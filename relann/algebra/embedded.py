"""A plain query as a network: embeddings for base tuples, sum-product for its joins and unions."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlglot import exp

from relann.algebra.annotated import annotated
from relann.algebra.functions import Sites, Terms
from relann.algebra.lineage import origins
from relann.algebra.nodes import Join, Map, Node, Output, Scan, passed
from relann.algebra.sql import node_to_sql
from relann.algebra.terms import (
    Learned,
    Linear,
    Parameter,
    Term,
    array_width,
    is_numeric,
    is_time,
    quoted,
)
from relann.errors import SchemaError
from relann.schema import Catalog

PREDICTION = "logit"
_TEXTS = ("VARCHAR", "UUID")

Source = tuple[str, str]
"""A table and one of its columns."""


def classes(node: Node, label: str, catalog: Catalog) -> int:
    """How many values the label of a content query has."""
    sql = f"SELECT {quoted(label)} FROM ({node_to_sql(node)}) WHERE {quoted(label)} IS NOT NULL"
    return catalog.sketch(sql, [label])[1]


def embedded(
    node: Node, catalog: Catalog, name: str, width: int, outputs: int, hidden: tuple[str, ...]
) -> Node:
    """The distinct tuples of a plain query, and `logit`: a linear head on their annotations.

    A base tuple's annotation is `features` of its row, of a width: it depends on what the row
    holds and not on which row it is, so rows that training never saw have one too. Keys, columns
    that joins equate and those `hidden` outputs come from are left out; a table of nothing else
    has one learned vector for all its rows, which starts as ones, as have rows of no table.
    Parameters are named `name.table.…`.
    """
    read = frozenset(o for c in hidden if c in node.names for o in origins(node, c))
    leaves = _Leaves(catalog, name, width, read | _equated(node))
    made = annotated(node, leaves.leaf, leaves.literal, PREDICTION)
    weight = Parameter(f"{name}.{PREDICTION}.weight", (width, outputs))
    bias = Parameter(f"{name}.{PREDICTION}.bias", (outputs,), "zeros")
    contents: tuple[Output, ...] = tuple((c.name, passed(c)) for c in node.columns)
    return Map(made.node, (*contents, (PREDICTION, Linear(made.field, weight, bias))))


def _equated(node: Node) -> frozenset[Source]:
    """The base columns that joins equate with others."""
    found: set[Source] = set()
    for join in node.walk():
        if isinstance(join, Join) and join.on is not None:
            for equal in join.on.expression.find_all(exp.EQ):
                for side in (equal.this, equal.expression):
                    if isinstance(side, exp.Column):
                        of = join.left if side.name in join.left.by_name else join.right
                        found |= origins(of, side.name)
    return frozenset(found)


@dataclass
class _Leaves:
    catalog: Catalog
    name: str
    width: int
    left_out: frozenset[Source]
    sites: Sites = field(default_factory=Sites)

    def leaf(self, scan: Scan) -> tuple[Node, Term]:
        """A table, and the embedding of each of its rows."""
        identity = self.catalog.identity(scan.table)
        table = scan.table.replace('"', "") if identity is None else identity.name
        columns = self._columns(scan)
        if not columns:
            return scan, self._vector(table)
        terms = Terms(
            self.catalog,
            scan.by_name,
            f"{self.name}.{table}",
            "",
            self.sites,
            lambda alias: [(c, c) for c in columns],
        )
        call = exp.Anonymous(
            this="features",
            expressions=[exp.column(table, quoted=True), exp.Literal.number(self.width)],
        )
        return scan, terms.term(call)

    def literal(self) -> Term:
        """The embedding of rows of no table."""
        return self._vector("values")

    def _vector(self, table: str) -> Term:
        return Learned(Parameter(f"{self.name}.{table}.param_0.value", (self.width,), "ones"))

    def _columns(self, scan: Scan) -> list[str]:
        known = self.catalog.table(scan.table)
        if known is None:
            raise SchemaError(f"there is no table {scan.table}")
        return [
            c.name
            for c in scan.columns
            if c.name not in known.keys
            and (scan.table, c.name) not in self.left_out
            and _has_encoding(c.type or "")
        ]


def _has_encoding(kind: str) -> bool:
    """Whether `features` reads columns of a type."""
    read = array_width(kind) is not None or is_numeric(kind) or is_time(kind)
    return read or kind in _TEXTS or kind.startswith("ENUM")
