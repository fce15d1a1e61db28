"""A model's SQL in PostgreSQL and Spark gives what `ml_predict` gives in DuckDB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import relann
from relann import DataError, QueryError, Session
from tests.elsewhere.comparing import same
from tests.elsewhere.engines import Elsewhere, move, predicted
from tests.fixtures import papers
from tests.models.generators.test_from import TABLES
from tests.test_docs import DEPLOY, blocks

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def graph() -> Iterator[Session]:
    """Papers and their citations, with a GCN, a GraphSAGE, a GAT and trees."""
    with relann.connect(papers()) as con:
        for name, layer in (("gcn", "gcn"), ("sage", "sage"), ("gat", "gat")):
            con.sql(
                f"CREATE MODEL {name} OPTIONS (label = 'label', split = 'split', epochs = 2) AS "
                f"WITH h AS (SELECT id, relu(x) AS x FROM relann.{layer}(paper, cites, 8)), "
                f"g AS (SELECT id, x FROM relann.{layer}(h, cites, 8)) SELECT p.id, p.label, "
                "p.split, mlp(g.x, 4, 3) AS z FROM paper p JOIN g USING (id)"
            )
        con.sql(
            "CREATE MODEL trees OPTIONS (head = 'gbdt', label = 'label', split = 'split', "
            "rounds = 20, min_rows = 5) AS "
            "SELECT id, title, year, open, seen, x, label, split FROM paper"
        )
        yield con


@pytest.mark.parametrize("model", ["gcn", "sage", "gat", "trees"])
def test_the_same_numbers(elsewhere: Elsewhere, graph: Session, model: str) -> None:
    """Of two layers over a graph, and of trees with numbers, categories, times and lists."""
    move(graph, elsewhere, "paper", "cites")
    theirs = graph.sql(f"FROM ml_predict('{model}')").fetchall()
    same(predicted(graph, elsewhere, model), theirs, 1e-4)


def test_unknown_dialects(graph: Session) -> None:
    """The message has those that there are."""
    with pytest.raises(QueryError, match=r"'postgres' or 'spark'\. Did you mean `postgres`"):
        graph.sql("FROM ml_to_sql('gcn', dialect => 'postgresql')")


def test_what_has_no_counterpart_is_refused() -> None:
    """By name, before anything runs elsewhere."""
    with relann.connect(papers()) as con:
        con.sql(
            "CREATE MODEL m OPTIONS (label = 'label', epochs = 1) AS SELECT p.id, p.label, "
            "linear(linear(jaccard(p.title, 'title 1'), 4), 3) AS z FROM paper p"
        )
        with pytest.raises(DataError, match="PostgreSQL has no form for `jaccard"):
            con.sql("FROM ml_to_sql('m', dialect => 'postgres')")


def test_models_of_a_task(elsewhere: Elsewhere) -> None:
    """Of all entities as of one time: a network over the schema, and the SQL of DuckDB itself."""
    at = "TIMESTAMP '2024-01-25'"
    with relann.connect() as con:
        con.sql(TABLES)
        con.sql("CREATE MODEL m OPTIONS (task = 'spend', epochs = 1) AS FROM sage(width => 4)")
        move(con, elsewhere, "customer", "orders")
        theirs = con.sql(f"FROM ml_predict('m', at => {at})").fetchall()
        ((sql,),) = con.sql(f"FROM ml_to_sql('m', at => {at})").fetchall()
        same(con.connection.sql(sql).fetchall(), theirs, 1e-4)
        same(predicted(con, elsewhere, "m", f", at => {at}"), theirs, 1e-4)


def test_a_task_needs_a_time(graph: Session) -> None:
    """And other models have none."""
    with relann.connect() as con:
        con.sql(TABLES)
        con.sql("CREATE MODEL m OPTIONS (task = 'spend', epochs = 1) AS FROM sage(width => 4)")
        with pytest.raises(QueryError, match="SQL needs to know which"):
            con.sql("FROM ml_to_sql('m')")
    with pytest.raises(QueryError, match="this one knows no time"):
        graph.sql("FROM ml_to_sql('gcn', at => TIMESTAMP '2024-01-01')")


def test_the_page(elsewhere: Elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks for each database, on the model it creates."""
    monkeypatch.chdir(tmp_path)
    with relann.connect("shops.duckdb") as con:
        con.sql(blocks(DEPLOY)[0])
        move(con, elsewhere, "shop", "sale")
    (text,) = blocks(DEPLOY, f"python {elsewhere.name}")
    *program, last = text.rstrip().splitlines()
    indent = last[: len(last) - len(last.lstrip())]
    names = dict(elsewhere.names)
    exec("\n".join([*program, f"{indent}found = {last.strip()}"]), names)
    with relann.connect("shops.duckdb") as con:
        theirs = con.sql("SELECT id, probability FROM ml_predict('busy')").fetchall()
    same([tuple(row) for row in names["found"]], theirs, 1e-4)
