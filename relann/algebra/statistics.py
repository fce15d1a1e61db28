"""How many rows a lifted query has, as the database estimates it."""

from __future__ import annotations

from collections.abc import Callable

from relann.algebra.nodes import Node
from relann.algebra.sql import content_side, node_to_sql


class Statistics:
    """Row counts of content queries; `estimate` asks the database about an SQL query."""

    def __init__(self, estimate: Callable[[str], int]) -> None:
        self._estimate = estimate
        self._rows: dict[Node, int] = {}

    def rows(self, node: Node) -> int:
        """Estimated rows of a query, at least 1."""
        if node not in self._rows:
            sql = node_to_sql(content_side(node))
            self._rows[node] = max(1, self._estimate(sql))
        return self._rows[node]
