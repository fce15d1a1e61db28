"""The annotated form of a plain query: each tuple with its provenance, ⊗ for joins, ⊕ for choices.

Green, Karvounarakis, Tannen: Provenance semirings, PODS 2007. The annotation is an embedding column
of an ordinary lifted query, × for ⊗ and sum for ⊕, so that one plan serves numbers of any semiring.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlglot import exp

from relann.algebra.bind import WITHOUT_DATA
from relann.algebra.functions import calls_learned, function_name
from relann.algebra.nodes import (
    Aggregate,
    Alias,
    Column,
    Join,
    Map,
    Node,
    Output,
    Query,
    Reduce,
    Scan,
    Select,
    Union,
    fresh_name,
    passed,
)
from relann.algebra.scope import span_of
from relann.algebra.terms import Apply, Field, Term, parsed
from relann.errors import QueryError, SchemaError

Leaf = Callable[[Scan], tuple[Node, Term]]
"""The rows of a table, with what else they need, and the annotation of each."""

_REASONS: dict[type[exp.Expr], str] = {
    exp.Limit: "LIMIT keeps rows by their place, and which rows stand first is no derivation",
    exp.Fetch: "FETCH keeps rows by their place, and which rows stand first is no derivation",
    exp.Offset: "OFFSET drops rows by their place, and which rows stand first is no derivation",
    exp.TableSample: "a sample keeps rows by chance, and chance is no derivation",
    exp.Window: "a window looks at other rows than those its row is derived from",
    exp.AggFunc: "an aggregate computes a value from all rows of a group, whose annotations only "
    "⊕ combines: group by keys alone, or put the aggregate around the annotated query",
    exp.Except: "EXCEPT removes rows, and a semiring has no difference",
    exp.Intersect: "INTERSECT is not annotated: write it as a join on all columns, or with IN",
    exp.Exists: "EXISTS is not annotated: write it as IN or SEMI JOIN",
    exp.Explode: "unnest() in the select list makes rows from one: UNNEST in FROM of a table",
    exp.Order: "rows of an annotated relation have no order: put ORDER BY outside",
}


def check_plain(query: exp.Expr, text: str) -> None:
    """Raise QueryError, at its place, for what has no meaning in a semiring, and why."""
    for node in query.walk():
        reason = _REASONS.get(type(node)) or _reason(node)
        if reason is not None:
            raise QueryError(reason, span_of(node, text) or span_of(query, text))


def _reason(node: exp.Expr) -> str | None:
    match node:
        case exp.AggFunc():
            return _REASONS[exp.AggFunc]
        case exp.Not() if node.find(exp.Subquery, exp.Select):
            return "NOT IN asks that rows are missing, and what is missing has no annotation"
        case exp.With() if node.args.get("recursive"):
            return "a recursive query may derive a row in infinitely many ways"
        case exp.Distinct() if node.args.get("on") is not None:
            return "DISTINCT ON keeps rows by their place; DISTINCT has a meaning"
        case exp.Join():
            return _reason_of_join(node)
        case exp.Func() if calls_learned(node):
            return "the query is plain: its annotations are what is learned, or computed"
    return None


def _reason_of_join(join: exp.Join) -> str | None:
    side, kind, method = join.side.upper(), join.kind.upper(), join.method.upper()
    if side in ("LEFT", "RIGHT", "FULL") and kind not in ("SEMI", "ANTI"):
        return (
            f"a {side} JOIN keeps rows because others are missing, and what is missing has no "
            "annotation: JOIN, or UNION ALL of two queries, has"
        )
    if kind == "ANTI":
        return "an ANTI JOIN asks that rows are missing, and what is missing has no annotation"
    if method in ("ASOF", "POSITIONAL"):
        return f"{method} JOIN picks rows by how others stand to them, which no annotation says"
    return None


@dataclass(frozen=True)
class Annotated:
    """A query with one more column, an embedding: the annotation of each row.

    A tuple's annotation is the sum over the rows that hold it.
    """

    node: Node
    column: str

    @property
    def field(self) -> Field:
        """The annotation as a term."""
        width = self.node.by_name[self.column].width
        assert width is not None
        return Field(self.column, width)


def annotated(node: Node, leaf: Leaf, literal: Callable[[], Term], name: str) -> Annotated:
    """The tuples of a plain query, each once, beside their annotations in column `name`.

    `leaf` annotates tables, `literal` rows of no table. Raises SchemaError for what has no meaning
    in a semiring: joins that keep rows without partner, aggregates, windows, opaque queries.
    """
    made = _Annotating(leaf, literal).of(node)
    if name in node.names:
        raise SchemaError(
            f"the query has a column `{name}` already, which is where its annotations go; "
            "give it another name with AS"
        )
    total = Aggregate(made.node, node.names, ((name, Reduce("sum", made.column)),))
    return Annotated(total, name)


class _Annotating:
    def __init__(self, leaf: Leaf, literal: Callable[[], Term]) -> None:
        self.leaf = leaf
        self.literal = literal

    def of(self, root: Node) -> Annotated:
        """The annotated form of each node once, sources first."""
        done: dict[Node, Annotated] = {}
        for node in root.walk():
            done[node] = self._one(node, [done[s] for s in node.sources])
        return done[root]

    def _one(self, node: Node, sources: list[Annotated]) -> Annotated:
        match node:
            case Scan():
                rows, term = self.leaf(node)
                return _with(rows, node.columns, term)
            case Query(sql, columns, tables, inputs):
                if tables or inputs or not _is_literal(sql):
                    raise SchemaError(
                        f"the rows of `{sql}` are not seen through; keep them as a table first: "
                        "CREATE TABLE t AS …"
                    )
                return _with(node, columns, self.literal())
            case Alias(_, alias):
                (of,) = sources
                return Annotated(Alias(of.node, alias), f"{alias}.{of.column}")
            case Select(_, predicate):
                (of,) = sources
                return Annotated(Select(of.node, predicate), of.column)
            case Map(_, outputs):
                return self._map(outputs, *sources)
            case Join():
                return self._join(node, *sources)
            case Aggregate(_, by, outputs):
                (of,) = sources
                if outputs:
                    raise SchemaError(_REASONS[exp.AggFunc])
                if not by:
                    raise SchemaError("GROUP BY without keys makes a row of nothing; name a key")
                total = Aggregate(of.node, by, ((of.column, Reduce("sum", of.column)),))
                return Annotated(total, of.column)
            case Union(parts):
                return _union(parts, sources)
        raise SchemaError(f"{type(node).__name__.upper()} has no meaning in a semiring")

    def _map(self, outputs: tuple[Output, ...], of: Annotated) -> Annotated:
        for name, value in outputs:
            if isinstance(value, Term):
                raise SchemaError(
                    f"`{name}` computes with vectors or learns; an annotated query is plain SQL"
                )
            if value.windowed:
                raise SchemaError(_REASONS[exp.Window])
        name = fresh_name("annotation", [n for n, _ in outputs])
        return Annotated(Map(of.node, (*outputs, (name, of.field))), name)

    def _join(self, node: Join, left: Annotated, right: Annotated) -> Annotated:
        if node.kind not in ("inner", "semi"):
            kind = node.kind.replace("asof_left", "asof").upper()
            raise SchemaError(f"a {kind} JOIN has no meaning in a semiring")
        other = right
        if right.column in left.node.by_name or right.column in node.right.names:
            other = _renamed(right, fresh_name("annotation", [*left.node.names, *right.node.names]))
        joined = Join(left.node, other.node, "inner", node.on)
        name = fresh_name("annotation", joined.names)
        product = Apply("mul", (left.field, other.field))
        return _with(joined, node.columns, product, name)


def _with(
    node: Node, columns: tuple[Column, ...], term: Term, name: str | None = None
) -> Annotated:
    kept = tuple((c.name, passed(c)) for c in columns)
    name = name or fresh_name("annotation", [c.name for c in columns])
    return Annotated(Map(node, (*kept, (name, term))), name)


def _renamed(of: Annotated, name: str) -> Annotated:
    outputs = tuple((name if c.name == of.column else c.name, passed(c)) for c in of.node.columns)
    return Annotated(Map(of.node, outputs), name)


def _union(parts: tuple[Node, ...], sources: list[Annotated]) -> Annotated:
    name = fresh_name("annotation", parts[0].names)
    aligned = [
        _with(of.node, part.columns, of.field, name).node
        for part, of in zip(parts, sources, strict=True)
    ]
    return Annotated(Union(tuple(aligned)), name)


def _is_literal(sql: str) -> bool:
    """Whether a query makes its rows itself: VALUES, range(…), a SELECT without FROM."""
    calls = [t.this for t in parsed(sql).find_all(exp.Table)]
    return all(isinstance(c, exp.Func) and function_name(c) in WITHOUT_DATA for c in calls)
