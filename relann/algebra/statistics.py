"""How many rows a lifted query has, as the database estimates it."""

from __future__ import annotations

from collections.abc import Callable

from relann.algebra.nodes import Aggregate, Map, Node, Window
from relann.algebra.sql import node_to_sql
from relann.algebra.terms import Content


def content_side(node: Node) -> Node:
    """The query with everything learned left out: the same rows, content columns only."""

    done: dict[Node, Node] = {}
    for inner in node.walk():
        match inner:
            case Map(source, outputs):
                kept = tuple((n, v) for n, v in outputs if isinstance(v, Content))
                done[inner] = Map(done[source], kept)
            case Aggregate(source, by, outputs):
                counted = tuple((n, v) for n, v in outputs if isinstance(v, Content))
                done[inner] = Aggregate(done[source], by, counted)
            case Window(source, _):
                done[inner] = done[source]
            case _:
                done[inner] = inner.rebuilt(tuple(done[s] for s in inner.sources))
    return done[node]


class Statistics:
    """Row counts of content queries; `estimate` asks the database about an SQL query."""

    def __init__(self, estimate: Callable[[str], int]) -> None:
        self._estimate = estimate
        self._rows: dict[Node, int] = {}

    def rows(self, node: Node) -> int:
        """Estimated rows of a query, at least 1."""
        if node not in self._rows:
            sql = node_to_sql(content_side(node), _nothing_held)
            self._rows[node] = max(1, self._estimate(sql))
        return self._rows[node]


def _nothing_held(node: object) -> str:
    raise AssertionError("statistics are asked before anything is materialised")
