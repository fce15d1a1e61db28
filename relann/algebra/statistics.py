"""How many rows a lifted query has, as the database estimates it, and how many distinct keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlglot import exp

from relann.algebra.nodes import (
    Aggregate,
    Alias,
    Join,
    Map,
    Node,
    Query,
    Scan,
    Select,
    Union,
    Window,
)
from relann.algebra.sql import content_side, node_to_sql
from relann.algebra.terms import Content, conjuncts

Sketch = Callable[[str, Sequence[str]], tuple[int, int]]
"""The rows of an SQL query, and about how many distinct values some columns of it have together."""


_KEY = 0.95
"""The share of distinct values from which columns count as a key: sketches err by some percent."""


class Statistics:
    """Row counts of content queries.

    `estimate` asks the database's optimiser about an SQL query, which reads no rows; `sketch` runs
    the query and counts. Without a sketch every row counts as distinct.
    """

    def __init__(
        self,
        estimate: Callable[[str], int],
        sketch: Sketch | None = None,
    ) -> None:
        self._estimate = estimate
        self._sketch = sketch
        self._rows: dict[Node, int] = {}
        self._shares: dict[tuple[Node, tuple[str, ...]], float | None] = {}

    def rows(self, node: Node) -> int:
        """Estimated rows of a query, at least 1."""
        match node:
            case Alias(source) | Map(source) | Window(source):
                return self.rows(source)
            case Union(parts):
                return sum(map(self.rows, parts))
            case Join(left, right, "inner" | "left" as kind, Content() as on):
                # each row meets at most one other: no need to ask about the whole tree of joins
                most = [self.rows(left)] if self._is_key(right, on) else []
                if kind == "inner" and self._is_key(left, on):
                    most.append(self.rows(right))
                if most:
                    return min(most)
            case Aggregate(source, by):  # no more groups than rows, whatever the database expects
                return min(self._estimated(node), self.rows(source)) if by else 1
        return self._estimated(node)

    def _estimated(self, node: Node) -> int:
        if node not in self._rows:
            sql = node_to_sql(content_side(node))
            self._rows[node] = max(1, self._estimate(sql))
        return self._rows[node]

    def distinct_share(self, node: Node, columns: Sequence[str]) -> float:
        """Distinct values of some columns together, as a share of the rows; 1 for a key.

        Tables and opaque queries are counted, joins never run for it: where only that could tell,
        every row counts as distinct.
        """
        share = self._known_share(node, columns)
        return 1.0 if share is None else share

    def _known_share(self, node: Node, columns: Sequence[str]) -> float | None:
        key = (node, tuple(sorted(columns)))
        if key not in self._shares:
            self._shares[key] = self._share(*key)
        return self._shares[key]

    def _share(self, node: Node, columns: tuple[str, ...]) -> float | None:
        match node:
            case Aggregate(_, by) if set(by) <= set(columns):
                return 1.0
            case Scan() | Query(_, _, _, ()) if len(node.columns) > len(set(columns)) > 0:
                # counted once, whatever else is read
                kept = tuple(c for c in node.columns if c.name in columns)
                return self._known_share(replace(node, columns=kept), columns)
            case Scan() | Query(_, _, _, ()) if self._sketch is not None and columns:
                rows, distinct = self._sketch(node_to_sql(node), columns)
                return min(1.0, distinct / rows) if rows else 1.0
            case Alias(source, name):
                return self._known_share(source, [c[len(name) + 1 :] for c in columns])
            case Map(source, outputs):
                made = dict(outputs)
                fields = [v.field if isinstance(v := made[c], Content) else None for c in columns]
                if None not in fields:
                    return self._known_share(source, [f for f in fields if f is not None])
            case Select(source) | Window(source) if set(columns) <= set(source.names):
                return self._known_share(source, columns)
            case Join(left, right, "inner" | "left", Content() as on):
                if set(columns) <= set(left.names) and self._is_key(right, on):
                    return self._known_share(left, columns)
        return None

    def _is_key(self, node: Node, on: Content) -> bool:
        """Whether at most one row of a relation meets a row of another under a condition."""
        if self._sketch is None:
            return False
        columns = _equated(node, on)
        share = self._known_share(node, columns)
        return share is not None and share > _KEY


def _equated(node: Node, on: Content) -> list[str]:
    """The columns of a relation that a condition says are equal to something of another's."""
    found = []
    for part in conjuncts(on):
        equal = part.expression.unnest()
        if isinstance(equal, exp.EQ):
            sides = (equal.this.unnest(), equal.expression.unnest())
            for one, other in (sides, sides[::-1]):
                elsewhere = all(c.name not in node.by_name for c in other.find_all(exp.Column))
                if isinstance(one, exp.Column) and one.name in node.by_name and elsewhere:
                    found.append(one.name)
    return found
