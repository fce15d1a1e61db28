"""Which spaces are cyclic joins that can be enumerated, on a database as it is."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

import duckdb

from relann.algebra.keys import Keys
from relann.algebra.multiway import Pattern, cyclic_pattern
from relann.algebra.nodes import Node, Scan
from relann.algebra.plan import Rows
from relann.schema import unquoted


class Patterns:
    """Reads spaces as cyclic joins; asks the database once, so it must not outlive a change of it.

    Texts are left to the database where some text may compare otherwise than byte by byte.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._known: dict[Rows, Pattern | None] = {}

    def of(self, space: Rows) -> Pattern | None:
        """A space as a cyclic join, None if it is none or the database has to run it."""
        if space not in self._known:
            self._known[space] = self._found(space)
        return self._known[space]

    def _found(self, space: Rows) -> Pattern | None:
        pattern = cyclic_pattern(space.node, space.columns, space.order, self._unique)
        if pattern is None:
            return None
        texts = any(variable.kind == "VARCHAR" for variable in pattern.variables)
        return None if texts and self._collates else pattern

    def _unique(self, node: Node, column: str) -> bool:
        return Keys(self._constrained).holds(node, [column])

    def _constrained(self, node: Node, columns: Collection[str]) -> bool:
        """Whether a table has a constraint that one of some columns is unique."""
        if not isinstance(node, Scan):
            return False
        table = unquoted(node.table.rpartition(".")[2])
        return any((table, column) in self._constraints for column in columns)

    @cached_property
    def _constraints(self) -> frozenset[tuple[str, str]]:
        """(table, column) of the columns that are unique by themselves."""
        found = self._connection.execute(
            "SELECT table_name, constraint_column_names[1] FROM duckdb_constraints() WHERE "
            "constraint_type IN ('PRIMARY KEY', 'UNIQUE') AND len(constraint_column_names) = 1"
        ).fetchall()
        return frozenset((table, column) for table, column in found)

    @cached_property
    def _collates(self) -> bool:
        ((found,),) = self._connection.execute(
            "SELECT current_setting('default_collation') <> '' OR EXISTS ("
            "SELECT 1 FROM duckdb_tables() WHERE contains(lower(sql), 'collate') UNION ALL "
            "SELECT 1 FROM duckdb_views() WHERE contains(lower(sql), 'collate'))"
        ).fetchall()
        return bool(found)
