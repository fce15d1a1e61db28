"""The base tuples of a query: by which values each row of a table is told from the others."""

from __future__ import annotations

from dataclasses import dataclass, replace

from relann.algebra.nodes import Column, Node, Query, Scan
from relann.algebra.terms import Content, column, quoted
from relann.schema import Catalog

ROW = "rowid"  # DuckDB's own name of a row's number


@dataclass(frozen=True)
class Tuples:
    """The rows of a table, with what names them.

    `table` is one name for one table, however a query writes it. `node` has the table's columns and
    those of `key`: its primary key, else the number of the row, counted from 0.
    """

    table: str
    node: Node
    key: tuple[Content, ...]


def tuples(scan: Scan, catalog: Catalog) -> Tuples:
    """The base tuples of a table, a view or a file."""
    identity = catalog.identity(scan.table)
    table = scan.table.replace('"', "") if identity is None else identity.name
    columns = {c.name.casefold(): c for c in scan.columns}
    if identity is not None and identity.key:
        key = [columns[name.casefold()] for name in identity.key]
        return Tuples(table, scan, tuple(column(c.name, c.type or "") for c in key))
    row = Column(ROW if ROW not in columns else f"{ROW} of {table}", type="BIGINT")
    wide = (*scan.columns, row)
    number = (column(row.name, "BIGINT"),)
    if identity is not None and ROW not in columns:
        return Tuples(table, replace(scan, columns=wide), number)
    sql = f"SELECT *, row_number() OVER () - 1 AS {quoted(row.name)} FROM {scan.table}"
    return Tuples(table, Query(sql, wide, (scan.table,)), number)
