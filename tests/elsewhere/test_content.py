"""Features and row maps: content queries give the same rows in PostgreSQL and Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pytest

import relann
from relann import DataError
from relann.algebra.engines.duckdb import ArrowRelation, DuckDBEngine
from relann.algebra.nodes import Node
from relann.algebra.plan import Held, row_column
from relann.algebra.sql import node_to_sql
from relann.algebra.terms import quoted
from relann.dialects.known import DIALECTS
from relann.dialects.translate import translate
from tests.elsewhere.comparing import same
from tests.elsewhere.engines import Elsewhere, Row, move
from tests.fixtures import papers
from tests.models.generators import shop
from tests.models.generators.test_dfs import generated


def carried(to: Elsewhere, sql: str, names: Mapping[str, str] | None = None) -> list[Row]:
    """The rows of DuckDB's SQL there; some tables have other names."""
    dialect = DIALECTS[to.name]
    for _, statement in dialect.setup:
        to.run(statement)
    found = translate(sql, dialect, names)
    assert not found.layers
    return to.rows(found.query)


def test_features_as_of_seeds(elsewhere: Elsewhere) -> None:
    """All that dfs() writes, lifted to times: windows, ASOF JOIN, filters, modes and trends."""
    con = shop.shop(1)
    node = shop.lifted(shop.timed(con, generated(con)), shop.schema(con))
    sql = node_to_sql(node)
    assert "ASOF" in sql and "percent_rank" in sql.lower()
    tables = [name for (name,) in con.execute("SHOW TABLES").fetchall()]
    move(relann.connect(con), elsewhere, *tables)
    theirs = con.execute(sql).fetchall()
    assert len(theirs[0]) > 100
    same(carried(elsewhere, sql), theirs, 1e-9, keys=2)


@pytest.mark.parametrize("layer", ["gcn", "sage"])
def test_row_maps(elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch, layer: str) -> None:
    """The queries that DuckDB runs for the maps of two layers: which rows meet, and how often."""
    to = DIALECTS[elsewhere.name]
    rows, compared = DuckDBEngine.rows, []

    def noted(
        self: DuckDBEngine,
        node: Node,
        columns: Sequence[str],
        order: Sequence[str],
        held: Mapping[int, ArrowRelation],
    ) -> ArrowRelation:
        found = rows(self, node, columns, order, held)
        spaces = {n.space for n in node.walk() if isinstance(n, Held)}
        for space in spaces:
            numbers = pa.array(np.arange(held[space].count, dtype=np.int32))
            table = held[space].table.append_column(row_column(space), numbers)
            for statement in to.table(f"space_{space}", table):
                elsewhere.run(statement)
        names = {f"relann space {s}": f"space_{s}" for s in spaces}
        shown = ", ".join(map(quoted, columns)) or "1 AS one"
        sql = f"SELECT {shown} FROM ({node_to_sql(node, lambda h: quoted(_name(h)))})"
        theirs = [tuple(row.values()) for row in found.table.to_pylist()]
        same(carried(elsewhere, sql, names), theirs, 0, keys=len(columns))
        compared.append(len(theirs))
        return found

    with relann.connect(papers()) as con:
        move(con, elsewhere, "paper", "cites")
        monkeypatch.setattr(DuckDBEngine, "rows", noted)
        con.sql(
            "CREATE MODEL m OPTIONS (label = 'label', epochs = 1) AS "
            f"WITH h AS (SELECT id, x FROM relann.{layer}(paper, cites, 4)) "
            f"SELECT p.id, p.label, linear(g.x, 3) AS z FROM paper p "
            f"JOIN relann.{layer}(h, cites, 4) g USING (id)"
        )
    assert sum(compared) >= 900


def _name(held: Held) -> str:
    return f"relann space {held.space}"


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize(
    ("sql", "term"),
    [
        ("SELECT hash(a) FROM t", "hash"),
        ("SELECT * FROM range(3)", "range"),
        ("SELECT a FROM t ASOF JOIN u ON t.a >= u.b", "ASOF JOIN"),
        ("SELECT list_zip(a, b) FROM t", "list_zip"),
        ("SELECT extract('dow' FROM a) FROM t", "extract"),
    ],
)
def test_what_has_no_counterpart(name: str, sql: str, term: str) -> None:
    """The error names it and the dialect."""
    with pytest.raises(DataError, match=f"{DIALECTS[name].title}.*{term}"):
        translate(sql, DIALECTS[name])


def test_names_in_postgres() -> None:
    """In lower case as without quotes, and short enough to stay apart."""
    long = "a" * 80
    sql = f'SELECT "Ab" AS {long}1, ab AS {long}2 FROM "Some"'
    found = translate(sql, DIALECTS["postgres"]).query
    assert '"ab" AS "aaa' in found and 'FROM "some"' in found
    names = {word for word in found.replace('"', " ").split() if word.startswith("aaa")}
    assert len(names) == 2 and all(len(n) <= 63 for n in names)
