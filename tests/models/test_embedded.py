"""Learned provenance: a plain query as a network is the sum-product semiring over embeddings."""

from __future__ import annotations

import pytest
import torch

import relann
from relann import QueryError, Session
from relann.algebra.bind import bind
from relann.algebra.engines.duckdb import DuckDBEngine
from relann.algebra.terms import parsed
from relann.provenance.answers import Traced
from relann.provenance.semirings.learned import Learned
from relann.provenance.semirings.semiring import BaseTuples
from relann.schema import Catalog

LEARNED = "OPTIONS (provenance = 'learned', width = 4, label = 'y', epochs = 3)"
BARE = (
    "SELECT n.id, n.y FROM node n JOIN edge a ON a.src = n.id JOIN edge b ON b.src = a.dst "
    "UNION ALL SELECT n.id, n.y FROM node n WHERE n.id IN (SELECT dst FROM edge)"
)


@pytest.fixture
def con() -> Session:
    """Edges between nodes, of which nothing is known but their keys; items with a column."""
    session = relann.connect()
    session.sql(
        "CREATE TABLE node (id INTEGER PRIMARY KEY, y DOUBLE);"
        "INSERT INTO node SELECT i, i % 4 FROM range(30) t(i);"
        "CREATE TABLE edge (src INTEGER, dst INTEGER);"
        "INSERT INTO edge SELECT i % 30, (i * 7) % 30 FROM range(80) t(i);"
        "CREATE TABLE item (id INTEGER PRIMARY KEY, price DOUBLE, kind VARCHAR, tags VARCHAR[], "
        " y VARCHAR);"
        "INSERT INTO item SELECT i, i % 7, 'k' || i % 3, ['t'], 'c' || i % 3 FROM range(60) t(i)"
    )
    return session


def weights(con: Session, name: str) -> torch.Tensor:
    """An array of model m."""
    found = con.sql(
        "SELECT position, value FROM ml_weights('m') "
        f"WHERE parameter = 'm.{name}' ORDER BY position"
    ).fetchall()
    shape = [int(n) + 1 for n in found[-1][0]]
    return torch.tensor([v for _, v in found], dtype=torch.float64).reshape(shape)


def test_predictions_are_those_of_the_semiring(con: Session) -> None:
    """The plan that runs agrees with the query annotated in `Learned`."""
    con.sql(f"CREATE MODEL m {LEARNED} AS {BARE}")
    vectors = {t: weights(con, f"{t}.param_0.value") for t in ("node", "edge")}

    def embed(tuples: BaseTuples) -> torch.Tensor:
        return vectors[tuples.table].expand(tuples.count, -1)

    catalog = Catalog(con.connection)
    node = bind(parsed(BARE).copy(), BARE, catalog, plain=True)
    traced = Traced(catalog)
    maps = traced.maps(node, DuckDBEngine(con.connection))
    made = traced.annotations(maps, Learned(4, embed, torch.float64))
    scores = made @ weights(con, "logit.weight") + weights(con, "logit.bias")
    ids = maps.columns[maps.plan.output, dict(maps.plan.contents)["id"]].to_pylist()
    found = dict(con.sql("SELECT id, prediction FROM ml_predict('m')").fetchall())
    wanted = dict(zip(ids, scores[:, 0].tolist(), strict=True))
    assert found == {k: pytest.approx(v, rel=1e-4, abs=1e-4) for k, v in wanted.items()}


def test_rows_training_never_saw_have_an_annotation(con: Session) -> None:
    """It follows from what they hold: a new row like an old one is predicted alike."""
    con.sql(f"CREATE MODEL m {LEARNED} AS SELECT id, y FROM item")
    con.sql("INSERT INTO item SELECT 1000, price, kind, tags, y FROM item WHERE id = 5")
    found = con.sql("SELECT scores FROM ml_predict('m', (SELECT unnest([5, 1000]) AS id))")
    (old,), (new,) = found.fetchall()
    assert new == old
    assert len(new) == 3
    names = {n for (n,) in con.sql("SELECT DISTINCT parameter FROM ml_weights('m')")}
    assert {n for n in names if ".item." in n} == {
        "m.item.features_0.weight", "m.item.features_0.bias", "m.item.features_0.kind.weight",
    }  # fmt: skip


def test_as_sql(con: Session) -> None:
    """Like any network, checked against torch."""
    con.sql(f"CREATE MODEL m {LEARNED} AS {BARE}")
    ((sql,),) = con.sql("SELECT sql FROM ml_to_sql('m')")
    assert len(con.sql(sql)) == len(con.sql("SELECT * FROM ml_predict('m')"))


def test_more_classes_later_leave_the_model_usable(con: Session) -> None:
    """The head is as wide as it was trained."""
    con.sql(f"CREATE MODEL m {LEARNED} AS SELECT id, y FROM item")
    con.sql("INSERT INTO item VALUES (1000, 1, 'k1', [], 'a class of its own')")
    assert len(con.sql("SELECT * FROM ml_predict('m')").fetchall()) == 61


@pytest.mark.parametrize(
    ("options", "query", "message"),
    [
        ("provenance = 'learnt', label = 'y'", "SELECT id, y FROM node", "Did you mean `learned`"),
        ("provenance = 'learned', task = 't'", "SELECT id, y FROM node", "knows no time"),
        ("provenance = 'learned', head = 'gbdt', label = 'y'", "SELECT id, y FROM node",
         "`provenance` is for networks"),
        ("width = 3, label = 'y'", "SELECT id, y FROM node", "`width` is that of learned"),
        ("provenance = 'learned', label = 'y'", "SELECT id, y, embedding(id, 2) AS e FROM node",
         "the query is plain"),
        ("provenance = 'learned', label = 'y'", "SELECT id, y AS logit, y FROM node",
         "has a column `logit` already"),
        ("provenance = 'learned', label = 'y'",
         "SELECT id, y FROM node LEFT JOIN edge ON src = id", "a LEFT JOIN keeps rows"),
        ("provenance = 'learned', label = 'z'", "SELECT id, y FROM node", "no column `z`"),
    ],
)  # fmt: skip
def test_messages(con: Session, options: str, query: str, message: str) -> None:
    """What does not fit is told."""
    with pytest.raises(QueryError, match=message):
        con.sql(f"CREATE MODEL m OPTIONS ({options}) AS {query}")
