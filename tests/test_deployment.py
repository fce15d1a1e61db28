"""`ml_to_sql`: a model that DuckDB alone runs, equal to torch's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

import relann
from relann import DataError, QueryError, Session
from relann.errors import PlanError
from relann.provenance import sql_elements
from tests.fixtures import papers
from tests.test_docs import PAGES, blocks

ROWS = (
    "CREATE TABLE item AS SELECT i AS id, ['a', 'b', 'c'][1 + i % 3] AS kind, "
    "CASE WHEN i % 7 > 0 THEN i / 10 END AS size, "
    "CASE WHEN i % 5 > 0 THEN DATE '2019-11-30' + i::INTEGER END AS day, "
    "TIMESTAMPTZ '2020-02-28 22:30:00+01' + i * INTERVAL 7 HOUR AS stamp, i % 2 = 0 AS open, "
    "CASE WHEN i % 4 > 0 THEN 'Word' || i % 6 || ', ÄRGER und ' || i % 2 END AS said, "
    "[sin(i), cos(i), i / 50]::FLOAT[3] AS x, i % 3 AS three, i * 0.5::DOUBLE AS y, "
    "['train', 'train', 'val'][1 + i // 3 % 3] AS part FROM range(60) t(i); "
)
BODY = (
    "linear(gelu(features(i, 8) + text(i.said, 8) + time_since(i.stamp, 8, at => "
    "TIMESTAMP '2020-03-01') + layer_norm(linear(i.x, 8, per => i.kind)) "
    "+ batch_norm(embedding(i.kind, 8))), {n}) AS z FROM item i"
)
HEADS = {
    "three": 3,
    "['x', 'y', 'z'][1 + i.id % 3]": 3,
    "open": 1,
    "y": 1,
    "CASE WHEN i.open THEN 'yes' ELSE 'it''s no' END": 1,
    "i.y::FLOAT": 1,
}


def created(con: Session, label: str = "three", body: str = BODY) -> str:
    """Train the model `m`; its SQL."""
    text = body.format(n=HEADS[label])
    con.sql(
        "CREATE OR REPLACE MODEL m OPTIONS (label = 'target', split = 'part', epochs = 2) AS "
        f"SELECT i.id, {label} AS target, i.part, {text}"
    )
    ((sql,),) = con.sql("SELECT sql FROM ml_to_sql('m')").fetchall()
    return str(sql)


def same(con: Session, sql: str, model: str = "m") -> None:
    """The same columns, types and rows as `ml_predict` has, numbers up to rounding."""
    mine = con.connection.sql(f"FROM ({sql}) ORDER BY ALL").to_arrow_table()
    torch = con.sql(f"SELECT * FROM ml_predict('{model}') ORDER BY ALL").arrow()
    assert mine.schema.names == torch.schema.names
    assert mine.schema.types == torch.schema.types
    for name in torch.schema.names:
        for a, b in zip(mine[name].to_pylist(), torch[name].to_pylist(), strict=True):
            close = isinstance(b, float | list)
            assert (a == pytest.approx(b, rel=1e-4, abs=1e-5)) if close else (a == b), name


@pytest.fixture
def con() -> Session:
    """A session on rows of every type."""
    session = relann.connect()
    session.sql(ROWS)
    return session


@pytest.mark.parametrize("label", HEADS)
def test_every_head(con: Session, label: str) -> None:
    """Classes, numbers and yes or no come out as they do of `ml_predict`."""
    same(con, created(con, label))


def test_rows_inserted_afterwards(con: Session) -> None:
    """Also with words, texts and categories that training did not have, and with NULLs."""
    sql = created(con)
    con.sql(
        "INSERT INTO item SELECT id + 100, kind, size * 2, day + 900, stamp, NULL, "
        "'new ' || said, x, three, y, part FROM item WHERE id < 20; "
        "INSERT INTO item (id, kind) VALUES (200, 'a'); "
        "INSERT INTO item SELECT 201, 'a', * EXCLUDE (id, kind) FROM item WHERE id = 7"
    )
    same(con, sql)


def test_a_view_without_relann(con: Session, tmp_path: Path) -> None:
    """In a process that can import neither relann nor torch."""
    path = tmp_path / "x.duckdb"
    with relann.connect(path) as file:
        file.sql(ROWS)
        file.sql(f"CREATE VIEW scores AS {created(file)}")
        wanted = file.sql("SELECT id, probability FROM ml_predict('m') ORDER BY id").fetchall()
    program = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('relann', 'torch'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import duckdb\n"
        f"con = duckdb.connect({str(path)!r})\n"
        "print(con.sql('SELECT id, probability FROM scores ORDER BY id').fetchall())\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    found = eval(run.stdout)
    assert [row[0] for row in found] == [row[0] for row in wanted]
    assert [row[1] for row in found] == pytest.approx([row[1] for row in wanted], rel=1e-4)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_library(page: Path) -> None:
    """Every model of every page about a layer."""
    with relann.connect() as con:
        for block in blocks(page):
            con.sql(block)
        models = [row[0] for row in con.sql("SHOW MODELS").fetchall()]
        assert models
        for model in models:
            ((sql,),) = con.sql(f"SELECT sql FROM ml_to_sql('{model}')").fetchall()
            same(con, sql, model)


def test_graphs() -> None:
    """Two layers over a graph with NULL weights and several edges between two nodes."""
    with relann.connect(papers()) as con:
        con.sql(
            "CREATE MODEL m OPTIONS (label = 'label', split = 'split', epochs = 2) AS "
            "WITH h AS (SELECT id, elu(x) AS x FROM relann.gat(paper, cites, 8, heads => 2)), "
            "g AS (SELECT id, x FROM relann.sage(h, cites, 8)) "
            "SELECT p.id, p.label, p.split, mlp(g.x, 8, 3) AS z FROM paper p JOIN g USING (id)"
        )
        ((sql,),) = con.sql("SELECT sql FROM ml_to_sql('m')").fetchall()
        same(con, sql)


def test_a_key_without_weights_is_an_error_where_it_matters(con: Session) -> None:
    """`per` has one set for each key of the training rows; other rows may hold what they like."""
    con.sql("CREATE TABLE link AS SELECT id % 20 AS a, id AS b, kind FROM item")
    body = (
        "min(linear(i.x, 3, per => k.kind) * param(3, per => k.kind)) AS z "
        "FROM item i JOIN link k ON k.a = i.id GROUP BY ALL"
    )
    sql = created(con, body=body)
    con.sql("INSERT INTO link VALUES (999, 1, 'new')")
    same(con, sql)
    con.sql("INSERT INTO link VALUES (1, 1, 'new')")
    with pytest.raises(DataError, match="none for new"):
        con.sql("SELECT * FROM ml_predict('m')")
    with pytest.raises(duckdb.Error, match="what training did not have"):
        con.connection.sql(sql).fetchall()
    others = con.connection.sql(f"SELECT count(prediction) FROM ({sql}) WHERE id <> 1").fetchall()
    assert others == [(19,)]


def test_tables_go_with_the_model(con: Session) -> None:
    """And the view fails with DuckDB's own words."""
    con.sql(f"CREATE VIEW scores AS {created(con)}")
    con.sql("CREATE TABLE other AS FROM item; DROP MODEL m")
    tables = con.sql("SELECT table_name FROM duckdb_tables() WHERE contains(table_name, '@')")
    assert not tables.fetchall()
    with pytest.raises(QueryError, match="weights does not exist"):
        con.sql("FROM scores")


def test_a_database_called_relann(tmp_path: Path) -> None:
    """The schema's name alone would mean two things."""
    with relann.connect(tmp_path / "relann.duckdb") as con:
        con.sql(ROWS)
        same(con, created(con))


def test_nothing_can_be_kept_in_a_database_open_for_reading(tmp_path: Path) -> None:
    """Weights are tables."""
    path = tmp_path / "x.duckdb"
    with relann.connect(path) as con:
        con.sql(ROWS)
        created(con)
    with (
        relann.connect(path, read_only=True) as con,
        pytest.raises(DataError, match="open read-only"),
    ):
        con.sql("SELECT * FROM ml_to_sql('m')")


def test_a_difference_is_an_error(con: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves no tables."""
    monkeypatch.setitem(sql_elements.BINARY, "add", "-")
    with pytest.raises(PlanError, match="differs from torch"):
        created(con)
    tables = con.sql("SELECT table_name FROM duckdb_tables() WHERE contains(table_name, '@')")
    assert not tables.fetchall()
