"""Keys, times and foreign keys that were declared, as the database keeps them.

    relann.keys          (schema_name, table_name, fact, column_name, origin, created_at)
    relann.foreign_keys  (schema_name, table_name, column_name, to_schema, to_table, to_column,
                          origin, created_at)

`fact` is 'key' or 'time'. A NULL column_name says that the table has none, a NULL to_table that the
column is no foreign key: both overrule constraints and inference. Tables are kept by name, so what
is declared of a table outlives its being dropped and made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

SCHEMA = "relann"
TABLES = {
    "keys": """
        schema_name VARCHAR NOT NULL, table_name VARCHAR NOT NULL, fact VARCHAR NOT NULL,
        column_name VARCHAR, origin VARCHAR NOT NULL, created_at TIMESTAMP NOT NULL""",
    "foreign_keys": """
        schema_name VARCHAR NOT NULL, table_name VARCHAR NOT NULL, column_name VARCHAR NOT NULL,
        to_schema VARCHAR, to_table VARCHAR, to_column VARCHAR, origin VARCHAR NOT NULL,
        created_at TIMESTAMP NOT NULL""",
}


@dataclass(frozen=True)
class DeclaredColumn:
    """The `fact` ('key' or 'time') of a table is `column`; None: the table has none."""

    schema: str
    table: str
    fact: str
    column: str | None
    origin: str = "declared"


@dataclass(frozen=True)
class DeclaredForeignKey:
    """`column` refers to `to_column` of `to_table`; None for all three: it refers to nothing."""

    schema: str
    table: str
    column: str
    to_schema: str | None
    to_table: str | None
    to_column: str | None
    origin: str = "declared"


@dataclass(frozen=True)
class Declarations:
    """All that is declared in a database."""

    columns: Sequence[DeclaredColumn] = ()
    foreign: Sequence[DeclaredForeignKey] = ()

    def of(self, schema: str, table: str) -> Declarations:
        """What is declared of one table, whose names are in any case."""
        wanted = (schema.casefold(), table.casefold())
        return Declarations(
            [d for d in self.columns if (d.schema.casefold(), d.table.casefold()) == wanted],
            [d for d in self.foreign if (d.schema.casefold(), d.table.casefold()) == wanted],
        )


def declarations(connection: duckdb.DuckDBPyConnection) -> Declarations:
    """What is declared in the connection's current database; nothing where nothing ever was."""
    found = connection.execute(
        "SELECT current_database(), table_name FROM duckdb_tables() "
        "WHERE database_name = current_database() AND schema_name = ?",
        [SCHEMA],
    ).fetchall()
    if not set(TABLES) <= {table for _, table in found}:
        return Declarations()
    database = '"' + str(found[0][0]).replace('"', '""') + '"'
    columns = connection.execute(
        "SELECT schema_name, table_name, fact, column_name, origin "
        f"FROM {database}.{SCHEMA}.keys ORDER BY ALL"
    ).fetchall()
    foreign = connection.execute(
        "SELECT schema_name, table_name, column_name, to_schema, to_table, to_column, origin "
        f"FROM {database}.{SCHEMA}.foreign_keys ORDER BY ALL"
    ).fetchall()
    return Declarations(
        [DeclaredColumn(*row) for row in columns], [DeclaredForeignKey(*row) for row in foreign]
    )
