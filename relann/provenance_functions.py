"""The table functions about where rows and predictions come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
from sqlglot import exp

from relann.algebra.bodies import body
from relann.algebra.lexing import lex
from relann.algebra.lineage import tables_read
from relann.algebra.lower import lower
from relann.algebra.marking import marked
from relann.algebra.rowmaps import build
from relann.algebra.table_calls import CallArgument, TableCall
from relann.algebra.terms import quoted
from relann.bound_models import BoundModels
from relann.errors import QueryError, Span, placed
from relann.models.boosting import Boosted
from relann.models.lineage import lineage
from relann.provenance.answers import SEMIRINGS, provenance


class ProvenanceFunctions:
    """`by_name` gives of each function what makes its rows."""

    def __init__(self, models: BoundModels) -> None:
        self._models = models
        self.by_name: Mapping[str, Callable[[TableCall], pa.Table]] = {
            "ml_provenance": self._provenance,
            "ml_lineage": self._lineage,
        }

    def _provenance(self, call: TableCall) -> pa.Table:
        given = call.bound(["semiring", "query"], ["weight"])
        semiring, query, weight = (given.get(n) for n in ("semiring", "query", "weight"))
        assert semiring is not None
        assert query is not None
        if not isinstance(semiring.value, str) or semiring.kind != "value":
            names = ", ".join(f"'{n}'" for n in SEMIRINGS)
            raise QueryError(f"the semiring is one of {names}, in quotes", semiring.span)
        if weight is not None and not isinstance(weight.value, str):
            raise QueryError("the weight is a column's name: weight => 'column'", weight.span)
        with placed(query.span if semiring.value in SEMIRINGS else semiring.span):
            return provenance(
                *_parsed(query),
                self._models.catalog,
                self._models.engine,
                self._models.layers(),
                semiring.value,
                None if weight is None else str(weight.value),
            )

    def _lineage(self, call: TableCall) -> pa.Table:
        named = [a for a in call.arguments if a.name not in (None, "model", "query")]
        others = tuple(a for a in call.arguments if a not in named)
        arguments = replace(call, arguments=others).bound(["model"], ["query"])
        asked = arguments.get("query") or _row_of(named, call)
        if named and asked.span in [a.span for a in others]:
            raise QueryError("the rows are a query or `column => value`, not both", call.span)
        known = self._models.known(arguments["model"])
        if isinstance(known.trained, Boosted):
            raise QueryError(
                "trees have no gradients, which lineage follows; "
                f"ml_importance('{known.record.name}') says what they split on",
                call.span,
            )
        moment = known.program.moment
        seeds = () if moment is None else tables_read(moment.seeds.node)  # asked for, not used
        with placed(call.span):
            node = marked(known.program.node, self._models.catalog, seeds)
            traced = build(lower(node), self._models.engine)
        rows = self._models.rows_of(replace(known, build=lambda: traced), asked)
        return lineage(known.trained.module(traced.plan), known.trained.head, traced, rows)


def _row_of(named: Sequence[CallArgument], call: TableCall) -> CallArgument:
    """`column => value, …` as a query for the rows that hold these values."""
    if not named:
        raise QueryError(
            "say which predictions: ml_lineage('m', (SELECT key …)) or ml_lineage('m', key => 3)",
            call.span,
        )
    for argument in named:
        if argument.kind not in ("value", "expression"):
            raise QueryError(f"`{argument.name}` takes a value", argument.span)
    wanted = ", ".join(f"{a.sql} AS {quoted(a.name or '')}" for a in named)
    whole = Span(call.span.text, named[0].span.start, named[-1].span.end)
    return CallArgument(None, "query", None, f"SELECT {wanted}", whole)


def _parsed(argument: CallArgument) -> tuple[exp.Expr, str]:
    """A query given as an argument, and the text its positions are offsets into."""
    sql, span = argument.query, argument.span
    if sql is None:
        raise QueryError("the query stands in parentheses: (SELECT …)", span)
    if sql != span.text[span.start : span.end]:
        lexed = lex(sql)
        return body(lexed, lexed.tokens, "the query").query, sql
    lexed = lex(span.text)
    inside = [t for t in lexed.tokens if span.start <= t.start and t.end < span.end]
    return body(lexed, inside, "the query").query, span.text
