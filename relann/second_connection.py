"""A second connection to a database that sees what the first one sees, for another thread."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

_TEMPORARY = """
SELECT 'temporary tables' FROM duckdb_tables() WHERE temporary
UNION ALL SELECT 'temporary views' FROM duckdb_views() WHERE temporary AND NOT internal
UNION ALL SELECT 'temporary macros' FROM duckdb_functions() WHERE database_name = 'temp'
UNION ALL SELECT 'temporary types' FROM duckdb_types() WHERE database_name = 'temp' AND NOT internal
UNION ALL SELECT 'variables' FROM duckdb_variables()
"""
_TOLD = re.compile("profil|progress")  # what a connection tells of its queries
_SETTINGS = "SELECT name, value FROM duckdb_settings() ORDER BY name"


def seen_by_one_only(connection: duckdb.DuckDBPyConnection) -> str | None:
    """What this connection sees and another would not, in words; None if nothing.

    What an open transaction has written is not looked for.
    """
    found = connection.execute(_TEMPORARY).fetchall()
    return f"the session has {found[0][0]}" if found else None


@contextmanager
def second_connection(
    connection: duckdb.DuckDBPyConnection,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the settings of another, as long as the block runs.

    It sees what is committed. Temporary tables, views, macros and variables of the first it does
    not see. It is not in one transaction: DuckDB would keep every table that is registered or
    dropped in it until its end (1.6 GB for 15 chunks of 50 MB, DuckDB 2.0, 2026-11).
    """
    second = connection.cursor()
    try:
        wanted = dict(connection.execute(_SETTINGS).fetchall())
        for name, value in second.execute(_SETTINGS).fetchall():
            if wanted[name] != value and wanted[name] is not None and not _TOLD.search(name):
                second.execute(f"SET {name} = $1", [wanted[name]]).fetchall()
        yield second
    finally:
        second.close()
