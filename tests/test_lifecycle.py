"""Models from CREATE to prediction, through the session, on small data."""

from __future__ import annotations

from pathlib import Path

import pytest

import relann
from relann import DataError, QueryError, Session
from tests.fixtures import papers

SAGE = (
    "CREATE OR REPLACE LAYER sage(x, edges, n) AS "
    "SELECT v.id, relu(linear(v.x, n) + linear(coalesce(a.z, 0), n)) AS x FROM x v LEFT JOIN "
    "(SELECT e.dst AS id, avg(u.x) AS z FROM edges e JOIN x u ON u.id = e.src GROUP BY e.dst) a "
    "USING (id)"
)
MODEL = (
    "CREATE OR REPLACE MODEL m OPTIONS (label = 'label', split = 'split', epochs = 3, lr = 0.05) "
    "AS SELECT p.id, p.label, p.split, linear(h.x, 3) AS logits "
    "FROM paper p JOIN sage(paper, cites, 8) h USING (id)"
)


@pytest.fixture
def con() -> Session:
    """A session on the citation graph, with a layer."""
    session = relann.connect(papers())
    session.sql(SAGE)
    return session


def test_create_predict_evaluate(con: Session) -> None:
    """Predictions are rows of any query; classes come back in the label's type."""
    message = con.sql(MODEL).message
    assert "version 1" in message
    rows = con.sql("SELECT * FROM ml_predict('m') ORDER BY id").df()
    assert list(rows.columns) == ["id", "label", "prediction", "probability", "scores"]
    assert len(rows) == 100
    assert set(rows["prediction"]) <= {0, 1, 2}
    joined = con.sql(
        "SELECT count(*) FROM ml_predict('m', (SELECT id FROM paper WHERE year > 2000)) p "
        "JOIN paper USING (id) WHERE paper.year > 2000"
    ).fetchall()
    assert joined == con.sql("SELECT count(*) FROM paper WHERE year > 2000").fetchall()
    metrics = dict(con.sql("SELECT metric, value FROM ml_evaluate('m', split => 'val')").fetchall())
    assert 0 <= metrics["accuracy"] <= 1
    assert con.sql("SELECT count(*) FROM ml_training_info('m')").fetchall() == [(3,)]
    names = con.sql("SELECT DISTINCT parameter FROM ml_weights('m') ORDER BY 1").fetchall()
    assert ("m.linear_0.weight",) in names
    assert ("m.h.sage_0.linear_1.bias",) in names


def test_predictions_of_some_rows_are_those_of_all(con: Session) -> None:
    """A prediction does not depend on what else is asked."""
    con.sql(MODEL)
    whole = con.sql("SELECT id, probability FROM ml_predict('m') ORDER BY id").fetchall()
    some = con.sql("SELECT id, probability FROM ml_predict('m', (SELECT 7 AS id))").fetchall()
    assert some == [row for row in whole if row[0] == 7]


def test_same_seed_same_bits(con: Session) -> None:
    """Training twice gives equal weights; another seed gives others."""
    weights = "SELECT parameter, position, value FROM ml_weights('{}') ORDER BY ALL"
    con.sql(MODEL)
    con.sql(MODEL)
    con.sql(MODEL.replace("lr = 0.05", "lr = 0.05, seed = 1"))
    first, second, third = (con.sql(weights.format(f"m@{v}")).fetchall() for v in (1, 2, 3))
    assert first == second
    assert first != third


def test_a_failed_replacement_leaves_the_old_model(con: Session) -> None:
    """Whatever fails, before training or in it, the old version answers as before."""
    con.sql(MODEL)
    before = con.sql("SELECT * FROM ml_predict('m') ORDER BY id").fetchall()
    for wrong in (
        MODEL.replace("h.x, 3", "h.y, 3"),
        MODEL.replace("linear(h.x, 3)", "linear(h.x, 2)"),
        MODEL.replace("label = 'label'", "label = 'nothing'"),
        MODEL.replace("lr = 0.05", "lr = 1e38"),
    ):
        with pytest.raises((QueryError, DataError)):
            con.sql(wrong)
        assert con.sql("SELECT * FROM ml_predict('m') ORDER BY id").fetchall() == before
    assert con.sql("SHOW MODELS").df()["version"].to_list() == [1]


def test_new_rows_are_predicted_without_training(con: Session) -> None:
    """The model is bound to the data as it is now."""
    con.sql(MODEL)
    con.sql(
        "INSERT INTO paper SELECT 1000, title, year, venue, open, seen, x, NULL, NULL FROM paper "
        "WHERE id = 3; INSERT INTO cites SELECT src, 1000, kind, w FROM cites WHERE dst = 3"
    )
    found = con.sql("SELECT id, prediction, probability FROM ml_predict('m') WHERE id IN (3, 1000)")
    (_, *old), (_, *new) = sorted(found.fetchall())
    assert new[0] == old[0]
    assert new[1] == pytest.approx(old[1], rel=1e-5)


def test_a_model_outlives_its_layers(con: Session) -> None:
    """A model keeps the layers it was made with."""
    con.sql(MODEL)
    before = con.sql("SELECT * FROM ml_predict('m') ORDER BY id").fetchall()
    con.sql(SAGE.replace("relu(", "tanh("))
    assert con.sql("SELECT * FROM ml_predict('m') ORDER BY id").fetchall() == before
    con.sql("DROP LAYER sage")
    assert con.sql("SELECT * FROM ml_predict('m') ORDER BY id").fetchall() == before


def test_models_live_in_the_file(tmp_path: Path) -> None:
    """Another session on the file predicts the same, bit for bit."""
    path = tmp_path / "x.duckdb"
    query = "SELECT * FROM ml_predict('t') ORDER BY id"
    with relann.connect(path) as con:
        con.sql(
            "CREATE TABLE t AS SELECT i AS id, i % 5 AS a, (i % 5) * 2.5::DOUBLE AS y "
            "FROM range(50) r(i)"
        )
        con.sql(
            "CREATE MODEL t OPTIONS (label = 'y', epochs = 5) AS "
            "SELECT id, y, linear(numeric(a), 1) AS z FROM t"
        )
        before = con.sql(query).fetchall()
    with relann.connect(path, read_only=True) as con:
        assert con.sql(query).fetchall() == before


def test_row_maps_are_built_once_per_data_version(
    con: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training, predicting and evaluating share the maps; a changed row makes new ones."""
    built: list[object] = []
    real = relann.models.program.build

    def counted(plan: object, engine: object) -> object:
        built.append(plan)
        return real(plan, engine)  # type: ignore[arg-type]

    monkeypatch.setattr("relann.models.program.build", counted)
    con.sql(MODEL)
    con.sql("SELECT * FROM ml_predict('m'); SELECT * FROM ml_evaluate('m')")
    assert len(built) == 1
    con.sql("UPDATE cites SET w = w + 1 WHERE src = 17; SELECT * FROM ml_predict('m')")
    assert len(built) == 2


def test_views_parquet_and_attached_databases(con: Session, tmp_path: Path) -> None:
    """Whatever DuckDB reads as a table, a model does."""
    con.sql(
        f"CREATE VIEW recent AS SELECT * FROM paper WHERE year > 2000; "
        f"COPY paper TO '{tmp_path}/p.parquet'; ATTACH '{tmp_path}/o.duckdb' AS other; "
        "CREATE TABLE other.cites AS SELECT * FROM cites"
    )
    options = "OPTIONS (label = 'label', split = 'split', epochs = 1)"
    for number, body in enumerate(
        (
            "SELECT p.id, p.label, p.split, linear(p.x, 3) AS z FROM recent p",
            "SELECT p.id, p.label, p.split, linear(p.x::FLOAT[32], 3) AS z "  # Parquet has lists
            f"FROM '{tmp_path}/p.parquet' p",
            "SELECT p.id, p.label, p.split, sum(linear(c.w, 3)) AS z "
            "FROM paper p JOIN other.cites c ON c.dst = p.id GROUP BY ALL",
        )
    ):
        con.sql(f"CREATE MODEL m{number} {options} AS {body}")
        assert con.sql(f"SELECT count(*) > 0 FROM ml_predict('m{number}')").fetchall() == [(True,)]


def test_explain(con: Session) -> None:
    """EXPLAIN shows the three stages; ANALYZE the actual rows."""
    con.sql(MODEL)
    text = con.sql("EXPLAIN MODEL m").message
    assert all(head in text for head in ("Lifted query", "Optimised query", "rules that", "Plan"))
    assert "100 rows" in con.sql("EXPLAIN ANALYZE MODEL m").message
    assert "linear(x, 3)" in con.sql("EXPLAIN MODEL AS SELECT linear(x, 3) AS z FROM paper").message


def test_explain_as_it_would_be_trained() -> None:
    """A query that is not trained yet is explained with its options: as of a task's anchors."""
    con = relann.connect()
    con.sql("""
        CREATE TABLE customer AS SELECT range AS id FROM range(20);
        ALTER TABLE customer SET (key = 'id', time = NULL);
        CREATE TABLE purchase AS
        SELECT range AS id, range % 20 AS customer, (range * 7) % 13 AS price,
               TIMESTAMP '2024-01-01' + range * INTERVAL 6 HOURS AS at
        FROM range(600);
        ALTER TABLE purchase SET (key = 'id', time = 'at');
        ALTER TABLE purchase ADD FOREIGN KEY (customer) REFERENCES customer (id);
        CREATE TASK dear OPTIONS (every = '7 days') AS
        PREDICT MAX(purchase.price, 0, 4, days) > 10 FOR EACH customer.id;
    """)
    options = "OPTIONS (task = 'dear', epochs = 1)"
    query = "FROM sage(layers => 1, width => 4)"
    text = con.sql(f"EXPLAIN ANALYZE MODEL {options} AS {query}").message
    assert "leakage certificate" in text and "an epoch took" in text
    made = f"CREATE MODEL m {options} AS {query}"
    explained = con.explain(made)
    con.sql(made)
    assert "leakage certificate" in explained and con.explain("m") == explained


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("epochs = 3", "epoch = 3"), "no option `epoch`.*Did you mean `epochs`"),
        (("'label', split", "'lable', split"), "no column `lable` for the label"),
        (("split = 'split'", "split = 'year'"), "no column `year` for the split"),
        (("linear(h.x, 3) AS logits", "h.x AS a, linear(h.x, 3) AS b"), "2 learned columns"),
        (("linear(h.x, 3) AS logits", "1 AS logits"), "no learned column"),
        (("linear(h.x, 3)", "linear(p.label, 3)"), "reads `p.label`, which the label"),
        (("linear(h.x, 3)", "linear(h.x, 2)"), "3 classes"),
        (("USING (id)", "USING (id) WHERE p.split = 'test'"), "no training rows"),
        (("p.label, p", "p.label * 0 AS label, p"), "in all .* training rows"),
        (("p.label, p", "NULL::INT AS label, p"), "is NULL"),
        (("linear(h.x, 3)", "linear(h.x, 3) / 0"), "not finite|NULL"),
        (("MODEL m", "MODEL m2"), ""),
    ],
)
def test_errors(con: Session, change: tuple[str, str], message: str) -> None:
    """What is wrong is said before or while training, never as a bare traceback."""
    text = MODEL.replace(*change)
    if not message:
        con.sql(text)
        return
    with pytest.raises((QueryError, DataError), match=message):
        con.sql(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT * FROM ml_predict('n')", "no model is called `n`"),
        ("SELECT * FROM ml_predict('m@7')", "has no version 7"),
        ("SELECT * FROM ml_predict('m', (SELECT 1 AS k))", "has a column `k`"),
        ("SELECT * FROM ml_evaluate('m', split => 'tset')", "Did you mean `test`"),
        ("SELECT * FROM ml_predikt('m')", "Did you mean `ml_predict`"),
        ("CREATE MODEL m AS SELECT linear(x, 1) AS z FROM paper", "exists already"),
    ],
)
def test_wrong_questions(con: Session, text: str, message: str) -> None:
    """Table functions name what is missing and what is near."""
    con.sql(MODEL)
    with pytest.raises(QueryError, match=message):
        con.sql(text)


def test_a_changed_table_is_named(con: Session) -> None:
    """A model whose column is gone says so instead of predicting."""
    con.sql(MODEL)
    con.sql("ALTER TABLE paper DROP COLUMN x")
    with pytest.raises(
        DataError, match=r"model `m` does not fit .* does not have a column named \"x\""
    ):
        con.sql("SELECT * FROM ml_predict('m')")


def test_asking_for_a_row_of_a_window_gives_that_row(con: Session) -> None:
    """Partitions stay whole below, but only what was asked for comes out."""
    con.sql(
        "CREATE MODEL w OPTIONS (label = 'label', split = 'split', epochs = 1) AS "
        "SELECT id, label, split, avg(linear(x, 3)) OVER (PARTITION BY venue) AS z FROM paper"
    )
    whole = con.sql("SELECT id, probability FROM ml_predict('w') ORDER BY id").fetchall()
    some = con.sql("SELECT id, probability FROM ml_predict('w', (SELECT 7 AS id))").fetchall()
    assert [i for i, _ in some] == [7]
    assert some[0][1] == pytest.approx(whole[7][1])
