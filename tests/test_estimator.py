"""`relann.Model`: fit, predict, score, save, load, on databases and on data frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

import relann
from relann import DataError, Model, QueryError
from tests.test_docs import DOCS, blocks

ITEMS = pd.DataFrame(
    {
        "id": range(60),
        "kind": ["a", "b", None] * 20,
        "size": [i % 7 + 0.5 for i in range(60)],
        "big": [i % 7 > 3 for i in range(60)],
    }
)
SALES = pd.DataFrame({"item": [i % 60 for i in range(300)], "amount": range(300)})
ALONE = "SELECT id, linear(features(t, 8), 1) AS y, big FROM t"
JOINED = (
    "WITH s AS (SELECT item, avg(numeric(amount)) AS x FROM sale GROUP BY item) "
    "SELECT t.id, t.big, linear(features(t, 8) + linear(coalesce(s.x, 0), 8), 1) AS y "
    "FROM t LEFT JOIN s ON s.item = t.id"
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def fitted() -> Model:
    """A model of two tables, fitted on frames."""
    return Model(JOINED, label="big", epochs=3).fit({"t": ITEMS, "sale": SALES})


def test_frames() -> None:
    """A frame stands for its table; alone, for the only one."""
    model = Model(ALONE, label="big", epochs=20)
    found = model.fit({"t": ITEMS}).predict()
    assert list(found.columns) == ["id", "big", "prediction", "probability"]
    assert len(found) == 60
    assert 0.5 < model.score(ITEMS) <= 1
    assert 0 <= model.score() <= 1
    assert set(model.metrics) == {"auroc"}
    again = Model(ALONE, label="big", epochs=20).fit(pa.Table.from_pandas(ITEMS)).predict()
    pd.testing.assert_frame_equal(found, again)


def test_frames_to_predict_for(fitted: Model) -> None:
    """Tables that are not handed in stay; the label may be missing, other columns may not."""
    whole = fitted.predict().sort_values("id")  # rows have no order of their own
    some = fitted.predict({"t": ITEMS.iloc[:5].drop(columns="big")}).sort_values("id")
    assert some["big"].isna().all()
    np.testing.assert_allclose(some["probability"], whole["probability"][:5], rtol=1e-5)
    changed = fitted.predict({"sale": SALES.assign(amount=0)}).sort_values("id")
    assert not np.allclose(changed["probability"], whole["probability"])
    with pytest.raises(DataError, match=r"`t` lacks `size`, which .* it has id, kind, big"):
        fitted.predict({"t": ITEMS.drop(columns="size")})
    with pytest.raises(DataError, match=r"frame for `t` cannot be a table.*'many'"):
        fitted.predict({"t": ITEMS.assign(size="many")})
    with pytest.raises(
        DataError, match="alone stands for one table, and the query reads `t`, `sale`"
    ):
        fitted.predict(ITEMS)


def test_a_database_is_only_read(tmp_path: Path) -> None:
    """Also one that is open for reading only."""
    with relann.connect(tmp_path / "x.duckdb") as con:
        con.sql(
            "CREATE TABLE t AS SELECT i AS id, i % 7 AS size, i % 7 > 3 AS big FROM range(60) r(i)"
        )
        con.sql("CREATE LAYER wide(t, n) AS SELECT id, linear(numeric(size), n) AS x FROM t")
    text = "SELECT t.id, t.big, linear(w.x, 1) AS y FROM t JOIN wide(t, 4) w USING (id)"
    with relann.connect(tmp_path / "x.duckdb", read_only=True) as con:
        model = Model(text, label="big", epochs=3).fit(con)
        found = model.predict()
        pd.testing.assert_frame_equal(found, model.predict(con.connection))
        assert not con.sql("SHOW MODELS").fetchall()


@pytest.mark.parametrize("head", ["network", "gbdt"])
def test_saved_and_loaded(tmp_path: Path, head: str) -> None:
    """The same bits, from frames, and in a database that imports the folder."""
    if head == "gbdt":
        model = Model("SELECT id, kind, size, big FROM t", label="big", head="gbdt", rounds=5)
    else:
        model = Model(ALONE, label="big", epochs=2)
    before = model.fit(ITEMS).predict()
    model.save(tmp_path / "m")
    loaded = Model.load(tmp_path / "m")
    pd.testing.assert_frame_equal(loaded.predict(ITEMS), before)
    with pytest.raises(DataError, match="no data of its own; it reads"):
        loaded.predict()
    with pytest.raises(DataError, match="no data frame for"):
        loaded.predict({"other": ITEMS})
    with relann.connect() as con:
        con.connection.register("frame", ITEMS)
        con.sql(f"CREATE TABLE t AS FROM frame; IMPORT MODEL new FROM '{tmp_path}/m'")
        pd.testing.assert_frame_equal(con.sql("SELECT * FROM ml_predict('new')").df(), before)
        pd.testing.assert_frame_equal(loaded.predict(con), before)


def test_to_torch(fitted: Model) -> None:
    """The module computes what `predict` says, and can be trained on."""
    module = fitted.to_torch()
    scores = module()
    expected = module.rows["probability"].to_numpy()
    pd.testing.assert_frame_equal(module.rows, fitted.predict())
    np.testing.assert_allclose(torch.sigmoid(scores[:, 0]).detach(), expected, rtol=1e-5)
    scores.sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    trees = Model("SELECT size, big FROM t", label="big", head="gbdt", rounds=3).fit(ITEMS)
    with pytest.raises(QueryError, match="trees and no network"):
        trees.to_torch()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Model("SELEC 1"), "line 1, column 1"),
        (lambda: Model("SELECT 1 AS a; DROP TABLE t"), "one query"),
        (lambda: Model(ALONE, label=object()), "option `label` is a object"),
        (lambda: Model(ALONE, lable="big").fit(ITEMS), r"no option `lable`.*Did you mean `label`"),
        (lambda: Model(ALONE).predict(), "not fitted yet"),
        (
            lambda: Model("SELECT id, big,\n linear(t.sise, 1) AS y FROM t", label="big").fit(
                ITEMS
            ),
            r"line 2, column 11: `t` has no column `sise`(.|\n)*\n     linear\(t.sise",
        ),
    ],
)
def test_errors(make: Callable[[], object], message: str) -> None:
    """At their place in the query that was given."""
    with pytest.raises(QueryError, match=message):
        make()


def test_a_failed_fit_leaves_the_model(fitted: Model) -> None:
    """As it was."""
    before = fitted.predict()
    with pytest.raises(QueryError):
        fitted.fit({"t": ITEMS.drop(columns="size"), "sale": SALES.drop(columns="amount")})
    pd.testing.assert_frame_equal(fitted.predict(), before)


def test_a_model_of_a_task(tmp_path: Path) -> None:
    """The task is the database's, also where a saved model is loaded."""
    con = duckdb.connect()
    with relann.connect(con) as session:
        session.sql(
            "CREATE TABLE c (id INTEGER PRIMARY KEY, size DOUBLE); "
            "CREATE TABLE o (id INTEGER PRIMARY KEY, c INTEGER REFERENCES c, ts TIMESTAMP); "
            "INSERT INTO c SELECT i, i % 5 FROM range(30) t(i); "
            "INSERT INTO o SELECT i, i * 7 % 30, TIMESTAMP '2020-01-01' + i * INTERVAL 9 HOUR "
            "FROM range(400) t(i); ALTER TABLE o SET (time = 'ts'); "
            "CREATE TASK busy OPTIONS (val = '2020-04-01', test = '2020-05-01') AS "
            "PREDICT COUNT(o.*, 0, 10, days) FOR EACH c.id"
        )
        model = Model("SELECT id, linear(numeric(size), 1) AS y FROM c", task="busy", epochs=2)
        found = model.fit(session).predict()
        model.save(tmp_path / "m")
        pd.testing.assert_frame_equal(Model.load(tmp_path / "m").predict(session), found)
        session.sql(f"IMPORT MODEL m FROM '{tmp_path}/m'; DROP TASK busy")
        with pytest.raises(
            DataError, match=r"does not fit this database: .*no task is called `busy`"
        ):
            session.sql(f"IMPORT MODEL k FROM '{tmp_path}/m'")


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its program runs."""
    monkeypatch.chdir(tmp_path)
    (program,) = blocks(DOCS / "python.md", "python")
    names: dict[str, object] = {}
    exec(program, names)
    assert isinstance(names["scores"], torch.Tensor)
    assert names["scores"].shape == (60, 1)
