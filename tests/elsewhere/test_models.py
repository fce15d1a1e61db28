"""A model's SQL in PostgreSQL and Spark gives what `ml_predict` gives in DuckDB."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

import relann
from relann import DataError, QueryError, Session
from tests.elsewhere.engines import Elsewhere, Row, move, predicted
from tests.fixtures import papers

pytestmark = pytest.mark.usefixtures("one_thread")


def same(mine: Sequence[Row], theirs: Sequence[Row]) -> None:
    """The same rows, numbers up to rounding in single precision."""
    assert len(mine) == len(theirs)
    for a, b in zip(sorted(mine, key=_place), sorted(theirs, key=_place), strict=True):
        assert _close(a, b), (a, b)


def _place(row: Row) -> str:
    return f"{row[0]!s:>20}"


def _close(a: Any, b: Any) -> bool:
    if isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(_close, a, b))
    if isinstance(b, float):
        return a is not None and abs(a - b) <= 1e-4 * max(1.0, abs(b))
    if hasattr(b, "utcoffset") and getattr(a, "tzinfo", None) is not None and b.tzinfo is None:
        a = a.replace(tzinfo=None)
    return bool(a == b)


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
    same(predicted(graph, elsewhere, model), theirs)


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
