"""Boosted trees over a query's columns: what they see, what they say, what they refuse."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import lightgbm
import numpy as np
import pytest
import torch

import relann
from relann import DataError, EngineError, QueryError, Session
from relann.algebra.lineage import key_columns, read_with
from relann.models import boosting
from relann.models.boosting import canonical_order
from relann.schema import Catalog
from tests import golden
from tests.fixtures import bound, papers

ROWS = (
    "CREATE TABLE t AS SELECT i AS id, i % 13 AS a, "
    "CASE WHEN i % 7 = 0 THEN NULL ELSE i % 5 END AS b, "
    "['red', 'green', 'blue'][1 + i % 3] AS c, DATE '2020-01-01' + (i % 31)::INT AS d, "
    "(i % 11 / 4)::DECIMAL(9, 2) AS e, i % 2 = 0 AS f, [i % 3, i % 4]::FLOAT[2] AS x, "
    "(i % 13 > 6)::INT AS bit, ['low', 'mid', 'high'][1 + i % 13 // 5] AS word, "
    "i % 13 * 2.5::DOUBLE + i % 3 AS num, "
    "CASE i % 6 WHEN 0 THEN 'test' WHEN 1 THEN 'val' ELSE 'train' END AS s FROM range(600) r(i)"
)


@pytest.fixture
def con() -> Session:
    """A session on 600 rows with a column of every type and three labels."""
    session = relann.connect(duckdb.connect())
    session.sql(ROWS)
    return session


def create(
    con: Session, label: str, options: str = "", columns: str = "a, b, c, d, e, f, x", of: str = "t"
) -> str:
    """Grow a model `m` for one of the labels; what the session says."""
    return con.sql(
        f"CREATE OR REPLACE MODEL m OPTIONS (head = 'gbdt', label = '{label}', split = 's', "
        f"exclude = ['id'], rounds = 30{options}) AS SELECT id, {columns}, {label}, s FROM {of}"
    ).message


def predicted(con: Session) -> list[tuple[object, ...]]:
    return con.sql("SELECT * EXCLUDE (x) FROM ml_predict('m') ORDER BY id").fetchall()


@pytest.mark.parametrize(
    ("label", "metric", "columns"),
    [
        ("bit", "accuracy", ["prediction", "probability"]),
        ("word", "accuracy", ["prediction", "probability", "scores"]),
        ("num", "r2", ["prediction"]),
    ],
)
def test_two_classes_several_classes_numbers(
    con: Session, label: str, metric: str, columns: list[str]
) -> None:
    """Each kind of label is learned, evaluated and predicted in its own type."""
    assert "kept round" in create(con, label)
    found = con.sql("SELECT * FROM ml_predict('m')").df()
    assert list(found.columns) == ["id", "a", "b", "c", "d", "e", "f", "x", label, *columns]
    assert len(found) == 600
    metrics = dict(con.sql("SELECT metric, value FROM ml_evaluate('m')").fetchall())
    assert metrics[metric] > 0.9
    curve = con.sql("SELECT * FROM ml_training_info('m') ORDER BY epoch").df()
    assert curve["best"].sum() == 1
    assert curve["loss"].iloc[-1] < curve["loss"].iloc[0]
    assert curve["validation_loss"].notna().all()


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_losses_of_numbers(con: Session, loss: str) -> None:
    create(con, "num", f", loss = '{loss}', lr = 0.3")
    metrics = dict(con.sql("SELECT metric, value FROM ml_evaluate('m')").fetchall())
    assert metrics["mae"] < 3
    loss_of = con.sql("SELECT loss, best FROM ml_training_info('m') WHERE best").fetchall()
    assert loss_of[0][0] < 20


def test_the_curve_is_the_loss_of_the_kept_trees(con: Session) -> None:
    """Losses in the curve are those of the predictions, for each kind of label."""
    away = "abs(num - prediction)"
    for label, options, loss in (
        ("bit", "", "-ln(CASE WHEN bit = 1 THEN probability ELSE 1 - probability END)"),
        ("word", "", "-ln(scores[list_position(['high', 'low', 'mid'], word)])"),
        ("num", "", f"{away} ** 2"),
        ("num", ", loss = 'mae'", away),
        ("num", ", loss = 'huber'", f"if({away} < 1, {away} ** 2 / 2, {away} - 0.5)"),
        # the best round is not the last
        ("num", ", lr = 1.0, subsample = 0.3, min_rows = 2", f"{away} ** 2"),
    ):
        create(con, label, options)
        ((told, on_val),) = con.sql(
            "SELECT loss, validation_loss FROM ml_training_info('m') WHERE best"
        ).fetchall()
        for split, value in (("train", told), ("val", on_val)):
            ((found,),) = con.sql(
                f"SELECT avg({loss}) FROM ml_predict('m', (SELECT id FROM t WHERE s = '{split}'))"
            ).fetchall()
            assert found == pytest.approx(value, rel=1e-5)


def test_same_as_lightgbm_itself(con: Session) -> None:
    """The trees are those LightGBM grows on the matrix one would write by hand."""
    create(con, "bit", ", leaves = 7, min_rows = 3, l2 = 0.5, lr = 0.1, seed = 5")
    frame = con.sql(  # categories: blue is the most frequent, green and red are equally so
        "SELECT a, b, CASE c WHEN 'blue' THEN 0 WHEN 'green' THEN 1 ELSE 2 END AS c, "
        "epoch(d) AS d, e::DOUBLE AS e, f::INT AS f, x[1] AS x1, x[2] AS x2, bit, s "
        "FROM t ORDER BY id"
    ).df()
    whole = frame.drop(columns=["bit", "s"]).to_numpy(dtype=np.float64, na_value=np.nan)
    parameters = {
        "objective": "binary", "num_leaves": 7, "min_data_in_leaf": 3, "lambda_l2": 0.5,
        "learning_rate": 0.1, "seed": 5, "verbosity": -1, "deterministic": True,
        "force_row_wise": True, "metric": "auc",
    }  # fmt: skip
    train = (frame["s"] == "train").to_numpy()
    seen, labels = whole[train], frame["bit"].to_numpy()[train]
    order = canonical_order(seen, labels)
    data = lightgbm.Dataset(seen[order], labels[order], categorical_feature=[2])
    best = con.sql("SELECT epoch FROM ml_training_info('m') WHERE best").fetchall()[0][0]
    booster = lightgbm.train(parameters, data, best)
    expected = torch.from_numpy(booster.predict(whole, raw_score=True)).sigmoid().float().tolist()
    found = con.sql("SELECT probability FROM ml_predict('m') ORDER BY id").fetchall()
    assert [p for (p,) in found] == expected


def test_same_bits_in_any_order_on_any_threads(con: Session) -> None:
    """Rows have no order; threads share the work and not the sums. Another seed gives others."""
    options = ", subsample = 0.7, columns = 0.6, min_rows = 5"
    threads = torch.get_num_threads()
    con.sql("CREATE TABLE u AS SELECT * FROM t ORDER BY hash(id)")
    found = []
    try:
        for of, count in (("t", 1), ("t", 2), ("u", 1)):
            torch.set_num_threads(count)
            create(con, "word", options, of=of)
            found.append(predicted(con))
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1] == found[2]
    create(con, "word", f"{options}, seed = 1")
    assert predicted(con) != found[0]


def test_another_process_predicts_the_same(tmp_path: Path) -> None:
    """All that is needed is in the file."""
    path = tmp_path / "x.duckdb"
    with relann.connect(path) as con:
        con.sql(ROWS)
        create(con, "word")
        before = repr(predicted(con))
        gains = repr(con.sql("SELECT * FROM ml_importance('m')").fetchall())
    script = (
        f"import relann; con = relann.connect({str(path)!r}, read_only=True); "
        "print(con.sql(\"SELECT * EXCLUDE (x) FROM ml_predict('m') ORDER BY id\").fetchall()); "
        "print(con.sql(\"SELECT * FROM ml_importance('m')\").fetchall())"
    )
    after = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert after.stdout.splitlines() == [before, gains]


def test_what_is_missing(con: Session) -> None:
    """NULL, NaN and texts that training had not are one: missing. Infinite numbers are ordered."""
    con.sql(
        "CREATE TABLE v AS SELECT i AS id, i % 40 + 0.5::DOUBLE AS a, 'k' || i % 4 AS c, "
        "(i % 40 > 20)::INT + i % 4 AS y, 'train' AS s FROM range(4000) r(i)"
    )
    con.sql("UPDATE v SET a = NULL, y = 9 WHERE id % 40 = 7")
    con.sql("UPDATE v SET c = NULL, y = 20 WHERE id % 4 = 1")
    create(con, "y", columns="a, c", of="v")
    con.sql(
        "INSERT INTO v SELECT 9000 + r, a, c, NULL, NULL FROM (VALUES (0, NULL, 'k0'), "
        "(1, 'nan'::DOUBLE, 'k0'), (2, 39.5::DOUBLE, 'new'), (3, 39.5, NULL), "
        "(4, 'inf'::DOUBLE, 'k0'), (5, 39.5, 'k0'), "
        "(6, '-inf'::DOUBLE, 'k0'), (7, 0.5, 'k0')) w(r, a, c)"
    )
    found = con.sql("SELECT prediction FROM ml_predict('m') WHERE id >= 9000 ORDER BY id")
    (null, nan, new, missing, high, largest, low, least) = (p for (p,) in found.fetchall())
    assert null == nan != largest
    assert new == missing != largest
    assert high == largest != low == least


def test_only_the_most_frequent_texts_are_told_apart(
    con: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boosting, "MOST_CATEGORIES", 2)
    con.sql("UPDATE t SET c = 'blue' WHERE c = 'green' AND id % 2 = 0")
    con.sql("UPDATE t SET c = 'grey' WHERE c = 'green' AND id % 8 <> 1")
    create(con, "num", ", lr = 0.3", columns="c")
    found = dict(con.sql("SELECT DISTINCT c, prediction FROM ml_predict('m')").fetchall())
    assert found["green"] == found["grey"] != found["blue"]


def test_keys_are_no_features() -> None:
    """Declared keys are left out wherever they are handed on, and whatever `exclude` names."""
    con = relann.connect(papers())
    con.sql(
        "CREATE MODEL m OPTIONS (head = 'gbdt', label = 'label', split = 'split', rounds = 3, "
        "exclude = ['seen', 'x']) AS SELECT p.*, v.name, p.id % 7 AS seventh "
        "FROM paper p JOIN venue v ON v.id = p.venue"
    )
    found = con.sql("SELECT feature FROM ml_importance('m') ORDER BY 1").fetchall()
    assert [n for (n,) in found] == ["name", "open", "seventh", "title", "venue", "year"]
    text = con.sql("EXPLAIN ANALYZE MODEL m").message
    assert "left out  id, seen, x, label, split" in text
    assert "name (category)" in text


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("SELECT id, year FROM paper", {"id"}),
        ("SELECT * FROM paper", {"id"}),
        ("SELECT p.id AS who, p.id + 1 AS id FROM paper p JOIN venue v ON v.id = p.venue", {"who"}),
        ("WITH r AS (SELECT p.id AS k, year FROM paper p WHERE year > 1) SELECT * FROM r", {"k"}),
        ("WITH paper AS (SELECT id, year FROM paper LIMIT 9) SELECT * FROM paper LIMIT 3", {"id"}),
        ("WITH r(a, b) AS (SELECT id, year FROM paper) SELECT a, b FROM r LIMIT 3", set()),
        ("SELECT c.src AS id, count(*) AS n FROM cites c GROUP BY c.src", set()),
        ("SELECT id, count(*) AS n FROM paper JOIN cites ON src = id GROUP BY ALL", {"id"}),
        ("SELECT id FROM paper UNION ALL SELECT src FROM cites", {"id"}),
        ("SELECT q.id FROM (SELECT id FROM venue LIMIT 2) q LIMIT 1", {"id"}),
        ("SELECT id, sum(linear(x, 2)) AS z FROM paper p GROUP BY id", {"id"}),
    ],
)
def test_where_keys_are_seen(query: str, keys: set[str]) -> None:
    con = papers()
    assert key_columns(bound(con, query), Catalog(con)) == keys


@pytest.mark.parametrize(
    ("query", "read"),
    [
        ("SELECT id, year, year > 2000 AS y FROM paper", {"year": "year"}),
        ("SELECT p.*, p.year > 2000 AS y FROM paper p LIMIT 9", {"year": "year"}),
        ("SELECT c.w, p.year > 1 AS y FROM paper p JOIN cites c ON c.src = p.id", {}),
        ("SELECT c.src AS a, p.id AS y FROM paper p JOIN cites c ON c.src = p.id", {}),
        ("SELECT avg(w) AS a, count(*) AS n, sum(w) AS y FROM cites GROUP BY src", {"a": "w"}),
        ("SELECT label, label AS y FROM paper", {"label": "label"}),
    ],
)
def test_columns_the_label_comes_from(query: str, read: dict[str, str]) -> None:
    assert read_with(bound(papers(), query), "y") == read


def test_without_validation_rows_the_last_round_is_kept(con: Session) -> None:
    con.sql("UPDATE t SET s = 'train' WHERE s = 'val'")
    assert create(con, "bit").endswith("trained for 30 rounds, kept round 30")
    with pytest.raises(DataError, match=r"`patience` waits .* no validation rows"):
        create(con, "bit", ", patience = 3")


def test_patience_ends_the_rounds(con: Session) -> None:
    """The trees that are kept end with the best round."""
    con.sql("UPDATE t SET num = hash(id) % 100 WHERE s = 'val'")
    create(con, "num", ", patience = 4, lr = 1.0")
    curve = con.sql("SELECT epoch, best FROM ml_training_info('m')").fetchall()
    (best,) = [e for e, b in curve if b]
    assert len(curve) == best + 4 < 30


def test_too_few_rows_for_a_split_give_one_prediction(con: Session) -> None:
    """The base rate, as it is; one round."""
    assert "trained for 1 rounds" in create(con, "bit", ", min_rows = 500")
    rates = {round(p, 6) for (p,) in con.sql("SELECT probability FROM ml_predict('m')").fetchall()}
    ((base,),) = con.sql("SELECT avg(bit) FROM t WHERE s = 'train'").fetchall()
    assert rates == {round(base, 6)}


def test_classes_training_had_not(con: Session) -> None:
    """They count in the metrics and are never predicted."""
    con.sql("UPDATE t SET word = 'other' WHERE s <> 'train' AND id % 5 = 0")
    create(con, "word")
    ((accuracy,),) = con.sql(
        "SELECT value FROM ml_evaluate('m') WHERE metric = 'accuracy'"
    ).fetchall()
    assert 0.7 < accuracy <= 0.8


def test_defined_only(con: Session) -> None:
    assert create(con, "bit", ", train = false").endswith("defined, not trained")
    assert "gbdt" in con.sql("EXPLAIN MODEL m").message
    for call in ("ml_predict('m')", "ml_importance('m')"):
        with pytest.raises(QueryError, match="is defined but not trained"):
            con.sql(f"SELECT * FROM {call}")


def test_a_changed_column_is_named(con: Session) -> None:
    create(con, "bit")
    con.sql("ALTER TABLE t ALTER COLUMN a TYPE VARCHAR")
    with pytest.raises(DataError, match=r"split on `a` as a number, and it is VARCHAR now"):
        con.sql("SELECT * FROM ml_predict('m')")


def test_one_row_and_none(con: Session) -> None:
    """A prediction does not depend on what else is asked."""
    create(con, "num")
    whole = con.sql("SELECT id, prediction FROM ml_predict('m') ORDER BY id").fetchall()
    one = "SELECT id, prediction FROM ml_predict('m', (SELECT {} AS id))"
    assert con.sql(one.format(7)).fetchall() == [whole[7]]
    assert con.sql(one.format(-7)).fetchall() == []


def test_networks_have_no_importance(con: Session) -> None:
    con.sql(
        "CREATE MODEL n OPTIONS (label = 'num', epochs = 1) AS "
        "SELECT id, num, linear(a, 1) AS z FROM t"
    )
    with pytest.raises(QueryError, match=r"is a network.*ml_weights\('n'\)"):
        con.sql("SELECT * FROM ml_importance('n')")
    create(con, "num")
    with pytest.raises(QueryError, match=r"has trees and no weights; ml_importance\('m'\)"):
        con.sql("SELECT * FROM ml_weights('m')")


def test_the_extra_is_named(con: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(boosting, "import_module", missing)
    with pytest.raises(EngineError, match=r"pip install relann\[gbdt\]"):
        create(con, "bit")


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ("bit = 1", "is 1 in all 400 training rows; there is nothing to learn"),
        ("bit = NULL", "every label `bit` of the 400 training rows is NULL"),
        ("s = 'test'", "there are no training rows"),
        ("num = num * 1e200", "LightGBM keeps labels in 32 bits"),
        ("num = 1e12 + num", "LightGBM keeps labels in 32 bits"),
        ("a = NULL, b = NULL", r"every feature \(a, b\) has one value in all 400 training rows"),
    ],
)
def test_data_that_cannot_be_learned_from(con: Session, update: str, message: str) -> None:
    con.sql(f"UPDATE t SET {update}")
    with pytest.raises(DataError, match=message):
        create(con, "num" if "num" in update else "bit", columns="a, b")


@pytest.mark.parametrize("name", [c.name for c in golden.read("boosting.sql")])
def test_errors(con: Session, name: str) -> None:
    """Each mistake gives the message in the file, underlined in the user's text."""

    def render(sql: str) -> str:
        with pytest.raises((QueryError, DataError)) as caught:
            con.sql(sql)
        return str(caught.value)

    golden.check("boosting.sql", name, render)


def test_better_than_the_base_rate_on_real_data(real_data: Callable[[str], Path]) -> None:
    """Formula 1: which drivers do not finish, from the year before, on official splits."""
    folder = real_data("rel-f1")
    con = relann.connect(duckdb.connect())
    task = " UNION ALL ".join(
        f"SELECT *, '{split}' AS s FROM '{folder}/tasks/driver-dnf/{split}.parquet'"
        for split in ("train", "val", "test")
    )
    con.sql(
        "CREATE MODEL dnf OPTIONS (head = 'gbdt', label = 'did_not_finish', split = 's', "
        "exclude = ['driverId', 'date'], lr = 0.02, min_rows = 50, leaves = 8) AS "
        f"WITH seed AS ({task}) SELECT t.driverId, t.date, t.did_not_finish, t.s, "
        "count(r.grid) AS races, avg(r.grid) AS grid, avg(r.points) AS points, "
        "avg(r.laps) AS laps, avg((r.statusId <> 1)::INT) AS away, "
        "date_diff('day', max(r.date), any_value(t.date)) AS since "
        f"FROM seed t LEFT JOIN '{folder}/db/results.parquet' r ON r.driverId = t.driverId "
        "AND r.date <= t.date AND r.date > t.date - INTERVAL 1 YEAR GROUP BY ALL"
    )
    metrics = dict(con.sql("SELECT metric, value FROM ml_evaluate('dnf')").fetchall())
    assert metrics["auroc"] > 0.68
    top = con.sql("SELECT feature, gain FROM ml_importance('dnf') LIMIT 1").fetchall()
    assert top[0][1] > 0


@pytest.mark.parametrize("program", ["dfs(max_depth => 1)", "dfs(max_depth => 2)"])
def test_the_key_of_a_task_s_entity_is_not_its_label(program: str) -> None:
    """Rows of the entity's own table are features, the latest of them told by their key."""
    with relann.connect() as session:
        session.sql(
            "CREATE TABLE riders (rider INTEGER PRIMARY KEY);"
            "CREATE TABLE rides (ride INTEGER PRIMARY KEY, "
            "rider INTEGER REFERENCES riders (rider), began TIMESTAMP, km DOUBLE);"
            "INSERT INTO riders FROM range(25);"
            "INSERT INTO rides SELECT i, i * i % 25, TIMESTAMP '2020-01-01' + i * INTERVAL 1 DAY, "
            "i % 7 FROM range(300) t(i);"
            "CREATE TASK far OPTIONS (entity = 'ride', time = 'began', label = 'far', "
            "table = 'rides', val = '2020-08-01', test = '2020-09-15', regime = 'rolling') AS "
            "SELECT ride, began, km > 3 AS far FROM rides"
        )
        text = f"CREATE MODEL m OPTIONS (task = 'far', head = 'gbdt', rounds = 3) AS FROM {program}"
        assert "validation auroc" in session.sql(text).message
