"""How many rows a lifted query has, as the database estimates it, and how many distinct keys."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from relann.algebra.keys import Keys
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
from relann.algebra.rules.columns import drop_unused_columns
from relann.algebra.sql import content_side, node_to_sql
from relann.algebra.terms import Content

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
        self._counts: dict[Node, int] = {}
        self._asked: dict[Node, int] = {}
        self._shares: dict[tuple[Node, tuple[str, ...]], float | None] = {}
        self._keys = Keys(self._is_counted_key)

    def rows(self, node: Node) -> int:
        """Estimated rows of a query, at least 1."""
        if node not in self._counts:
            self._counts[node] = self._count(node)
        return self._counts[node]

    def _count(self, node: Node) -> int:
        match node:
            case Alias(source) | Map(source) | Window(source):
                return self.rows(source)
            case Union(parts):
                return sum(map(self.rows, parts))
            # where each row meets at most one other, no need to ask about the whole tree of joins
            case Join(left, _, "asof" | "asof_left"):
                return self.rows(left)
            case Join(left, right, "inner" | "left" as kind, Content() as on):
                most = [self.rows(left)] if self._keys.meets_one(right, on) else []
                if kind == "inner" and self._keys.meets_one(left, on):
                    most.append(self.rows(right))
                if most:
                    return min(most)
            case Aggregate(source, by) if self._keys.holds(source, by):
                return self.rows(source)
            case Aggregate(source, by):  # no more groups than rows, whatever the database expects
                return min(self._estimated(node), self.rows(source)) if by else 1
        return self._estimated(node)

    def _estimated(self, node: Node) -> int:
        side = drop_unused_columns(Map(content_side(node), ()))
        if side not in self._asked:
            self._asked[side] = max(1, self._estimate(node_to_sql(side)))
        return self._asked[side]

    def distinct_share(self, node: Node, columns: Sequence[str]) -> float:
        """Distinct values of some columns together, as a share of the rows; 1 for a key.

        Tables and opaque queries are counted, joins never run for it: where only that could tell,
        every row counts as distinct.
        """
        share = self._known_share(node, columns)
        return 1.0 if share is None else share

    def _known_share(self, node: Node, columns: Sequence[str]) -> float | None:
        key = (node, tuple(sorted(set(columns))))
        if key not in self._shares:
            self._shares[key] = self._share(*key)
        return self._shares[key]

    def _share(self, node: Node, columns: tuple[str, ...]) -> float | None:
        match node:
            case Scan() | Query():
                return self._counted_share(node, columns)
            case _ if self._keys.holds(node, columns):
                return 1.0
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
                if set(columns) <= set(left.names) and self._keys.meets_one(right, on):
                    return self._known_share(left, columns)
        return None

    def _counted_share(self, node: Scan | Query, columns: tuple[str, ...]) -> float | None:
        if self._sketch is None or not columns or node.sources:
            return None
        if len(node.columns) > len(columns):  # counted once, whatever else is read
            kept = tuple(c for c in node.columns if c.name in columns)
            return self._known_share(replace(node, columns=kept), columns)
        rows, distinct = self._sketch(node_to_sql(node), columns)
        return min(1.0, distinct / rows) if rows else 1.0

    def _is_counted_key(self, node: Node, columns: Collection[str]) -> bool:
        share = self._known_share(node, sorted(columns))
        return share is not None and share > _KEY
