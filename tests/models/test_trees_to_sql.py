"""`ml_to_sql` of boosted trees: DuckDB alone walks them, to the same predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

import relann
from relann import DataError, Session
from tests.models.test_boosting import ROWS, create

LABELS = ("bit", "word", "num")
# NULL, NaN, infinite and new values, of every type; the column n has the name of many things
ROW = (
    "SELECT i AS id, CASE WHEN {r} < .8 THEN {r} * 10 - 5 WHEN {r} < .5 THEN 'nan'::DOUBLE "
    "WHEN {r} < .5 THEN '-inf'::DOUBLE END AS n, "
    "CASE WHEN {r} < .9 THEN 'kind ' || ({r} * {kinds})::INT END AS c, "
    "CASE WHEN {r} < .9 THEN ['a', 'b'][1 + ({r} < .5)::INT]::ENUM('a', 'b', 'z') END AS en, "
    "CASE WHEN {r} < .9 THEN {r} < .5 END AS f, ({r} * 1e19)::HUGEINT AS h, "
    "(i % 17 / 4)::DECIMAL(18, 3) AS e, ({r} * 3)::FLOAT AS single, "
    "CASE WHEN {r} < .9 THEN DATE '2019-12-01' + ({r} * 900)::INT END AS d, "
    "TIMESTAMPTZ '2020-03-29 01:30:00+01' + {r} * 1000 * INTERVAL 7 MINUTE AS stamp, "
    "CASE WHEN {r} < .9 THEN [{r}, CASE WHEN {r} < .7 THEN {r} END]::FLOAT[2] END AS x "
    "FROM range({rows}) t(i)"
)
TRUTH = (
    "SELECT *, (CASE WHEN isfinite(n) THEN n ELSE 1 END * 2 + len(coalesce(c, '')) + "
    "ascii(right(c, 1)) % 5 + coalesce(x[1], 2) * 3 + hour(stamp) % 3 + "
    "coalesce(epoch(d) / 1e9, 1)) AS num, "
    "(num > 14)::INT AS bit, ['low', 'mid', 'high'][1 + (num > 12)::INT + (num > 17)::INT] AS word "
    "FROM ({row})"
)


pytestmark = pytest.mark.usefixtures("one_thread")


def row(rows: int, kinds: int) -> str:
    """Random rows; a text has one of `kinds` values."""
    return TRUTH.format(row=ROW.replace("{r}", "random()").format(rows=rows, kinds=kinds))


def same(con: Session, sql: str, model: str = "m") -> None:
    """The columns, types and rows of `ml_predict`, numbers to 1e-6."""
    mine = con.connection.sql(f"FROM ({sql}) ORDER BY id").to_arrow_table()
    trees = con.sql(f"SELECT * FROM ml_predict('{model}') ORDER BY id").arrow()
    assert mine.schema.names == trees.schema.names
    plain = mine.schema.names.index("en") if "en" in mine.schema.names else -1  # Arrow drops ENUM
    for place, (a, b) in enumerate(zip(mine.schema.types, trees.schema.types, strict=True)):
        assert a == b or place == plain
    for name in ("prediction", "probability", "scores"):
        if name not in mine.schema.names:
            continue
        a, b = (flat(t[name].combine_chunks()) for t in (mine, trees))
        if pa.types.is_floating(a.type):
            np.testing.assert_allclose(a.to_numpy(), b.to_numpy(), rtol=1e-6, atol=1e-6)
        else:
            assert a.equals(b)


def flat(array: pa.Array) -> pa.Array:
    return array.flatten() if pa.types.is_list(array.type) else array


def sql_of(con: Session, model: str = "m") -> str:
    ((sql,),) = con.sql(f"SELECT sql FROM ml_to_sql('{model}')").fetchall()
    return str(sql)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("seed", range(2))
def test_random_rows(seed: int, label: str) -> None:
    """Also rows of after training, whose texts it had not."""
    con = relann.connect()
    con.connection.execute(f"SELECT setseed(0.{seed + 1})").fetchall()
    con.sql(f"CREATE TABLE t AS {row(400, 30)}")
    con.sql(
        f"CREATE MODEL m OPTIONS (head = 'gbdt', label = '{label}', exclude = ['id'], rounds = 12, "
        f"min_rows = 3, leaves = {8 + 20 * seed}) AS "
        f"SELECT id, n, c, en, f, h, e, single, d, stamp, x, {label} FROM t"
    )
    sql = sql_of(con)
    con.sql(f"INSERT INTO t BY NAME SELECT id + 1000 AS id, * EXCLUDE (id) FROM ({row(200, 60)})")
    con.sql(
        "INSERT INTO t (id) VALUES (5000); INSERT INTO t (id, n) VALUES (5001, 'nan'::DOUBLE), "
        "(5002, 'inf'::DOUBLE), (5003, '-inf'::DOUBLE)"
    )
    same(con, sql)
    assert con.connection.sql(f"SELECT prediction FROM ({sql}) WHERE id = 5000").fetchall()


@pytest.mark.parametrize("label", LABELS)
def test_no_missing_values_in_training(label: str) -> None:
    """LightGBM then takes a missing number for 0."""
    con = relann.connect(duckdb.connect())
    con.sql(f"{ROWS}; UPDATE t SET b = 3 WHERE b IS NULL")
    create(con, label)
    sql = sql_of(con)
    con.sql(
        "INSERT INTO t (id, c) VALUES (1000, 'red'), (1001, 'violet'), (1002, NULL); "
        "INSERT INTO t BY NAME SELECT id + 2000 AS id, a - 20 AS a, -b AS b, c FROM t"
    )
    same(con, sql)


def test_trees_without_a_split() -> None:
    """All rows have one prediction then."""
    con = relann.connect(duckdb.connect())
    con.sql(ROWS)
    create(con, "num", ", min_rows = 500")
    same(con, sql_of(con))


def test_real_data(real_data: Callable[[str], Path]) -> None:
    """Positions of Formula 1."""
    folder = real_data("rel-f1/db")
    con = relann.connect()
    con.sql(
        "CREATE MODEL m OPTIONS (head = 'gbdt', label = 'position', exclude = ['id'], rounds = 40) "
        'AS SELECT r."resultId" AS id, r.grid, r.laps, r.date, c.country, d.nationality, d.dob, '
        f"r.\"positionOrder\"::DOUBLE AS position FROM '{folder}/results.parquet' r "
        f"JOIN '{folder}/drivers.parquet' d USING (\"driverId\") "
        f"JOIN '{folder}/races.parquet' a USING (\"raceId\") "
        f"JOIN '{folder}/circuits.parquet' c USING (\"circuitId\")"
    )
    same(con, sql_of(con))


def test_a_view_goes_on_when_the_model_is_replaced(tmp_path: Path) -> None:
    """And another connection, without relann, reads it."""
    with relann.connect(tmp_path / "x.duckdb") as con:
        con.sql(ROWS)
        create(con, "num")
        con.sql(f"CREATE VIEW scores AS {sql_of(con)}")
        before = con.sql("SELECT id, prediction FROM scores ORDER BY id").fetchall()
        create(con, "num", ", leaves = 3")
        con.sql("SELECT * FROM ml_to_sql('m')")
    plain = duckdb.connect(str(tmp_path / "x.duckdb"), read_only=True)
    assert plain.sql("SELECT id, prediction FROM scores ORDER BY id").fetchall() == before
    plain.close()


def test_an_infinite_time_is_an_error() -> None:
    """As it is of `ml_predict`."""
    con = relann.connect(duckdb.connect())
    con.sql(ROWS)
    create(con, "num")
    sql = sql_of(con)
    con.sql("UPDATE t SET d = 'infinity' WHERE id = 3")
    with pytest.raises(DataError, match="infinite"):
        con.sql("SELECT * FROM ml_predict('m')")
    with pytest.raises(duckdb.Error, match="`d` is infinite"):
        con.connection.sql(sql).fetchall()
