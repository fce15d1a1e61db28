"""A plain query's answer with the provenance of each tuple, in a semiring of choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from sqlglot import exp

from relann.algebra.annotated import annotated, check_plain
from relann.algebra.bind import bind
from relann.algebra.engines.protocol import Engine
from relann.algebra.layers import Layers
from relann.algebra.lower import lower
from relann.algebra.nodes import Node, Scan
from relann.algebra.plan import Step
from relann.algebra.rowmaps import RowMaps, build
from relann.algebra.terms import (
    Constant,
    Content,
    Key,
    Lookup,
    Parameter,
    Term,
    is_numeric,
    quoted,
)
from relann.algebra.tuples import tuples
from relann.errors import DataError, QueryError, SchemaError, did_you_mean, listing
from relann.provenance.semirings.arrays import ArraySemiring
from relann.provenance.semirings.boolean import Boolean
from relann.provenance.semirings.counting import Counting
from relann.provenance.semirings.evaluation import Values, evaluated
from relann.provenance.semirings.how import How
from relann.provenance.semirings.semiring import BaseTuples, Semiring
from relann.provenance.semirings.tropical import Tropical
from relann.provenance.slices import cut
from relann.schema import Catalog

COLUMN = "provenance"
SEMIRINGS: Mapping[str, ArraySemiring[Any] | How] = {
    s.name: s for s in (Boolean(), Counting(), Tropical(), How())
}
"""The semirings whose annotations fit a column of a table."""

WEIGHED = (Counting.name, Tropical.name)


@dataclass
class Traced:
    """A plain query whose rows are known, ready to be annotated in any semiring.

    `weight` names a column that holds the annotations of the tuples of tables that have it.
    """

    catalog: Catalog
    weight: str | None = None
    weighed: dict[str, bool] = field(default_factory=dict)
    seen: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def maps(self, node: Node, engine: Engine) -> RowMaps:
        """The row maps of the annotated form of a node that `bind(…, plain=True)` made.

        SchemaError where it has none.
        """
        made = annotated(node, self._leaf, lambda: Constant(1.0), COLUMN)
        if self.weight is not None and not any(self.weighed.values()):
            columns = [c for names in self.seen.values() for c in names]
            raise SchemaError(
                f"no table of the query has a column `{self.weight}` for the weight."
                + did_you_mean(self.weight, columns)
            )
        return build(lower(made.node), engine)

    def _leaf(self, scan: Scan) -> tuple[Node, Term]:
        of = tuples(scan, self.catalog)
        parts = of.key
        self.seen[of.table] = scan.names
        weight = None if self.weight is None else self._weight(scan)
        if weight is not None:
            parts = (*parts, weight)
        self.weighed[of.table] = weight is not None
        return of.node, Lookup(Parameter(of.table, (1,)), Key(of.table, parts))

    def _weight(self, scan: Scan) -> Content | None:
        for column in scan.columns:
            if self.weight is not None and column.name.casefold() == self.weight.casefold():
                if not is_numeric(column.type or ""):
                    raise SchemaError(f"the weight `{column.name}` is {column.type}, not a number")
                return Content(f"CAST({quoted(column.name)} AS DOUBLE)", "DOUBLE")
        return None

    def annotations(self, maps: RowMaps, semiring: Semiring[Any, Values]) -> Values:
        """The annotation of each tuple of the answer, in the order of the maps' output rows."""
        part = cut(maps, np.arange(maps.counts[maps.plan.output]))  # without what no tuple needs

        def base(step: Step, lookup: Lookup) -> Values:
            columns = [part.maps.columns[step.space, key] for key in lookup.key.parts]
            table, weights = lookup.key.site, None
            if self.weighed[table]:
                weights = columns.pop().to_numpy(zero_copy_only=False)
            elif self.weight is not None:
                return semiring.ones(part.maps.counts[step.space])
            if weights is not None and bool(np.isnan(weights).any()):
                raise DataError(f"a weight of `{table}` is NULL or no number; give each row one")
            count = part.maps.counts[step.space]
            return semiring.base(BaseTuples(table, count, tuple(columns), weights))

        return evaluated(part, semiring, base)


def provenance(
    query: exp.Expr,
    text: str,
    catalog: Catalog,
    engine: Engine,
    layers: Layers,
    semiring: str,
    weight: str | None = None,
) -> pa.Table:
    """The distinct tuples of a plain query's answer, with a column `provenance`.

    boolean  BOOLEAN: true
    counting BIGINT: in how many ways the tuple is derived, each base tuple counting `weight` times
    tropical DOUBLE: the cost of its cheapest derivation, a base tuple costing `weight`, else 1
    how      VARCHAR: the polynomial of its derivations, `2·cites#7·papers#3 + papers#1²`

    Base tuples are named by table and primary key, else by row number. With a weight, tuples of
    tables without that column are annotated 1. Rows of no table (VALUES, range) are 1 as well.
    Raises QueryError for what has no meaning in a semiring, DataError for weights that are none.
    """
    if semiring not in SEMIRINGS:
        known = [*SEMIRINGS, "learned"]
        raise QueryError(
            "'learned' annotations are trained: CREATE MODEL … OPTIONS (provenance = 'learned')"
            if semiring == "learned"
            else f"no semiring is called '{semiring}'; there are {listing(SEMIRINGS)}."
            + did_you_mean(semiring, known)
        )
    if weight is not None and semiring not in WEIGHED:
        raise QueryError(f"a weight is for {' and '.join(WEIGHED)}, not for {semiring}")
    check_plain(query, text)
    node = bind(query, text, catalog, layers, plain=True)
    traced, chosen = Traced(catalog, weight), SEMIRINGS[semiring]
    try:
        maps = traced.maps(node, engine)
    except SchemaError as error:
        raise QueryError(str(error)) from error
    found = {n: maps.columns[maps.plan.output, c] for n, c in maps.plan.contents}
    found[COLUMN] = chosen.arrow(traced.annotations(maps, chosen))
    return pa.table(found)
