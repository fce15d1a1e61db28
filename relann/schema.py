"""What a database holds: tables, columns, types and keys, as the binder asks for them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import duckdb

from relann.declarations import declarations
from relann.duckdb_errors import duckdb_error_text
from relann.errors import DataError

_PART = re.compile(r'"(?:[^"]|"")*"|[^".]+')
_COUNTED = 1_000_000
"""Rows up to which distinct values are counted one by one."""


@dataclass(frozen=True)
class Table:
    """A table, view or file. `name` is quoted SQL; `columns` maps names to DuckDB types.

    `keys` are the columns of declared primary and foreign keys.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    keys: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ForeignKey:
    """`column` of a table names rows of `table` by their column `references`.

    `table` is quoted SQL, as `Table.name` is.
    """

    column: str
    table: str
    references: str


@dataclass(frozen=True)
class Relation:
    """What is known of a table beyond its columns.

    key      the column that tells its rows apart, None where there is none
    time     the column that says since when a row is known, None for rows that always are
    foreign  its foreign keys
    origins  where each fact comes from: `key`, `time` or a foreign key's column → 'constraint',
             'declared', 'manifest' or 'inferred'
    """

    table: Table
    key: str | None = None
    time: str | None = None
    foreign: tuple[ForeignKey, ...] = ()
    origins: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Schema:
    """The relations of a database by name (quoted SQL, as `Table.name` is).

    `current` is the database and schema that a name without them stands in.
    """

    relations: Mapping[str, Relation]
    current: tuple[str, ...] = ()

    def find(self, name: str) -> Relation | None:
        """The relation of a name, quoted or plain, qualified or not, in any case; None for none."""
        ways = {self._place(name_parts(name)), self._place((name,))}
        for known, relation in self.relations.items():
            if self._place(name_parts(known)) in ways:
                return relation
        return None

    def _place(self, parts: tuple[str, ...]) -> tuple[str, ...]:
        """A name in full, case aside."""
        missing = self.current[: max(0, len(self.current) - len(parts) + 1)]
        return tuple(part.casefold() for part in (*missing, *parts))


@dataclass(frozen=True)
class Stored:
    """Where the database keeps a table, or a view and then the statement that created it."""

    schema: str
    view: str | None


@dataclass(frozen=True)
class Identity:
    """A stored table's own name, qualified outside the current schema, and its primary key."""

    name: str
    key: tuple[str, ...]


class TypeFailure(Exception):
    """DuckDB refused an expression; `index` says which of those asked for."""

    def __init__(self, index: int, message: str) -> None:
        self.index = index
        self.message = message
        super().__init__(message)


class Catalog:
    """The schema of one DuckDB connection, read when asked; sees what the connection sees.

    With a `schema`, its keys count as keys too, the inferred ones as well.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, schema: Schema | None = None) -> None:
        self._connection = connection
        self._schema = schema

    def knowing(self, schema: Schema) -> Catalog:
        """The same catalog with the keys of a schema."""
        return Catalog(self._connection, schema)

    def table(self, name: str) -> Table | None:
        """The table of this name (quoted SQL, perhaps qualified), None when there is none."""
        try:
            columns = self.query(f"SELECT * FROM {name}")
        except DataError:
            return None
        return Table(name, columns, self._keys(name))

    def stored(self, name: str) -> Stored | None:
        """Where a table or view of this name (quoted SQL) is kept; None for a file and the like."""
        *qualified, last = name_parts(name)
        rows = self._connection.execute(
            "SELECT schema_name, sql FROM ("
            " SELECT schema_name, table_name AS name, NULL AS sql FROM duckdb_tables() "
            " UNION ALL SELECT schema_name, view_name, sql FROM duckdb_views()) "
            "WHERE lower(name) = lower($last) "
            "AND coalesce(lower(schema_name) = lower($schema), true) "
            "ORDER BY schema_name = current_schema() DESC LIMIT 1",
            {"last": last, "schema": qualified[-1] if qualified else None},
        ).fetchall()
        return Stored(*rows[0]) if rows else None

    def identity(self, name: str) -> Identity | None:
        """What tells the rows of a stored table (quoted SQL) apart; None for views and files."""
        *qualified, last = name_parts(name)
        found = self._connection.execute(
            "SELECT t.table_name, t.schema_name, t.database_name, "
            "t.database_name = current_database() AS near, "
            "near AND t.schema_name = current_schema() AS here, "
            "coalesce(c.constraint_column_names, []) "
            "FROM duckdb_tables() AS t LEFT JOIN duckdb_constraints() AS c "
            "ON c.table_oid = t.table_oid AND c.database_oid = t.database_oid "
            "AND c.constraint_type = 'PRIMARY KEY' "
            "WHERE lower(t.table_name) = lower($last) AND list_has_all("
            "[lower(t.database_name), lower(t.schema_name)], "
            "list_transform($qualified, lambda part: lower(part))) "
            "ORDER BY here DESC LIMIT 1",
            {"last": last, "qualified": qualified},
        ).fetchall()
        if not found:
            return None
        table, schema, database, near, here, key = found[0]
        parts = [table] if here else [schema, table] if near else [database, schema, table]
        return Identity(".".join(parts), tuple(key))

    def names(self) -> list[str]:
        """Names of all tables and views, qualified where they stand outside the current schema."""
        rows = self._connection.execute(
            "SELECT CASE WHEN database_name = current_database() "
            "AND schema_name = current_schema() THEN name "
            "ELSE concat_ws('.', database_name, schema_name, name) END FROM ("
            " SELECT database_name, schema_name, table_name AS name FROM duckdb_tables() "
            " UNION ALL SELECT database_name, schema_name, view_name FROM duckdb_views() "
            " WHERE NOT internal) ORDER BY 1"
        ).fetchall()
        return [name for (name,) in rows]

    @cached_property
    def aggregates(self) -> frozenset[str]:
        """Lower-case names of the database's aggregate functions."""
        rows = self._connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() "
            "WHERE function_type = 'aggregate'"
        ).fetchall()
        return frozenset(name.lower() for (name,) in rows)

    def query(self, sql: str) -> tuple[tuple[str, str], ...]:
        """Names and types of a SELECT's columns; DataError with DuckDB's words if it refuses."""
        try:
            described = self._connection.execute(f"DESCRIBE {sql}").fetchall()
        except duckdb.Error as error:
            raise DataError(duckdb_message(error)) from error
        return tuple((row[0], row[1]) for row in described)

    def value(self, sql: str) -> Any:
        """The one value of a SELECT."""
        ((value,),) = self.rows(sql)
        return value

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a SELECT; DataError with DuckDB's words if it refuses."""
        try:
            return self._connection.execute(sql).fetchall()
        except duckdb.Error as error:
            raise DataError(duckdb_message(error)) from error

    def number(self, sql: str) -> float:
        """The value of a constant numeric expression."""
        return float(self.value(f"SELECT ({sql})::DOUBLE"))

    def estimate(self, sql: str) -> int:
        """How many rows the database expects a SELECT to give; reads statistics, not rows."""
        try:
            found = self._connection.execute(f"EXPLAIN (FORMAT json) {sql}").fetchall()
        except duckdb.Error as error:
            raise DataError(f"the database refused the query: {duckdb_message(error)}") from error
        pending = json.loads(found[0][1])
        while pending:
            operator = pending.pop(0)
            if rows := operator.get("extra_info", {}).get("Estimated Cardinality"):
                return int(rows)
            pending = operator.get("children", []) + pending
        return 1

    def sketch(self, sql: str, columns: Sequence[str]) -> tuple[int, int]:
        """The rows of a SELECT and how many distinct values columns of it have together.

        Exact up to a million rows, an estimate that errs by a few percent beyond.
        """
        together = ", ".join(f'"{quote(c)}"' for c in columns)
        ((rows,),) = self._connection.execute(f"SELECT count(*) FROM ({sql})").fetchall()
        count = "count(DISTINCT {})" if rows <= _COUNTED else "approx_count_distinct({})"
        counted = count.format(f"hash({together})")
        ((distinct,),) = self._connection.execute(f"SELECT {counted} FROM ({sql})").fetchall()
        return int(rows), int(distinct)

    def types(self, columns: Mapping[str, str], expressions: Sequence[str]) -> list[str]:
        """The types of SQL expressions over columns of given types; aggregates are allowed.

        Raises TypeFailure for the first expression that DuckDB refuses.
        """
        try:
            return self._types(columns, expressions)
        except duckdb.Error:
            for index, expression in enumerate(expressions):
                try:
                    self._types(columns, [expression])
                except duckdb.Error as error:
                    raise TypeFailure(index, duckdb_message(error)) from error
            raise

    def _types(self, columns: Mapping[str, str], expressions: Sequence[str]) -> list[str]:
        if not expressions:
            return []
        given = ", ".join(f'NULL::{t} AS "{quote(n)}"' for n, t in columns.items()) or "NULL AS n"
        wanted = ", ".join(f"({e})" for e in expressions)
        found = self._connection.execute(f"DESCRIBE SELECT {wanted} FROM (SELECT {given})")
        return [row[1] for row in found.fetchall()]

    def _keys(self, name: str) -> frozenset[str]:
        """Columns of keys and foreign keys, of constraints and declarations; these overrule."""
        parts = name_parts(name)
        found = self._connection.execute(
            "SELECT constraint_column_names FROM duckdb_constraints() "
            "WHERE table_name = ? AND constraint_type IN ('PRIMARY KEY', 'FOREIGN KEY', 'UNIQUE')",
            [parts[-1]],
        ).fetchall()
        keys = {column for (columns,) in found for column in columns}
        ((database, schema),) = self._connection.execute(
            "SELECT current_database(), current_schema()"
        ).fetchall()
        if len(parts) == 2 or (len(parts) == 3 and parts[0].casefold() == database.casefold()):
            schema = parts[-2]
        told = declarations(self._connection).of(schema, parts[-1])
        for link in told.foreign:
            keys = keys - {link.column} if link.to_table is None else keys | {link.column}
        keys |= {d.column for d in told.columns if d.fact == "key" and d.column is not None}
        known = None if self._schema is None else self._schema.find(name)
        if known is not None:
            keys |= {link.column for link in known.foreign}
            keys |= set() if known.key is None else {known.key}
        return frozenset(keys)


def quote(name: str) -> str:
    """A name with its double quotes doubled, to stand inside double quotes."""
    return name.replace('"', '""')


def name_parts(name: str) -> tuple[str, ...]:
    """The plain names that a qualified one is made of.

    >>> name_parts('shop."order items"'), name_parts("orders")
    (('shop', 'order items'), ('orders',))
    """
    return tuple(unquoted(part) for part in _PART.findall(name))


def unquoted(name: str) -> str:
    """A quoted SQL identifier as a plain name."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def duckdb_message(error: duckdb.Error) -> str:
    """DuckDB's own words in one line, without its list of overloads."""
    return " ".join(duckdb_error_text(error).split("\tCandidate functions")[0].split())
