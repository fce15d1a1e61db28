"""Task statements: what they make and tell, and what every mistake is answered with."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import pytest

from relann import connect
from relann.algebra.pql_parse import prediction
from relann.errors import DataError, QueryError, Span
from relann.models.tasks import Task
from relann.schema import Catalog, Relation, Schema
from tests import golden
from tests.shops import run_task, shop, shop_schema

DAY = datetime(2020, 1, 1)


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    """Six customers, one order every second day through most of a year."""
    customers = [(n, "DE" if n % 2 else "FR", DAY - timedelta(days=n)) for n in range(6)]
    orders = [
        (n * n % 8, DAY + timedelta(days=2 * n), float(n % 5), "kite" if n % 3 else "ball")
        for n in range(150)
    ]
    return shop(customers, orders)


@pytest.mark.parametrize("name", [c.name for c in golden.read("tasks.sql")])
def test_statements(con: duckdb.DuckDBPyConnection, name: str) -> None:
    """Each gives the message in the file; those that PREDICT, their SQL as well."""

    def render(sql: str) -> str:
        try:
            made, rows = run_task(con, sql)
        except (QueryError, DataError) as error:
            return f"{type(error).__name__}: {error}"
        assert len(rows) == sum(number for _, number in made.task.rows)
        return made.message + (f"\n{made.task.sql}" if "PREDICT" in sql else "")

    golden.check("tasks.sql", name, render)
    temporary = con.execute("SELECT table_name FROM duckdb_tables() WHERE temporary").fetchall()
    assert temporary == []


def test_seeds_are_sorted_and_have_four_columns(con: duckdb.DuckDBPyConnection) -> None:
    text = (
        "CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01', label = 'Y', "
        "entity = 'CUSTOMER_ID') AS "
        "SELECT ts::DATE AS day, total AS Y, customer_id, sku FROM orders"
    )
    made, rows = run_task(con, text)
    assert (made.task.entity, made.task.time, made.task.label) == ("customer_id", "day", "Y")
    assert (made.task.table, made.task.key) == ('"customers"', "customer_id")
    assert made.task.val == datetime(2020, 5, 1) and made.task.split == "split"
    assert rows[:2] == [
        (0, datetime(2020, 1, 1), 0.0, "train"),
        (1, datetime(2020, 1, 3), 1.0, "train"),
    ]
    assert rows == sorted(rows, key=lambda row: row[1])


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("total > 1", "binary"),
        ("(total > 1)::INT", "binary"),
        ("CASE WHEN total > 1 THEN 'yes' ELSE 'no' END", "binary"),
        ("total::INT", "multiclass"),
        ("sku || customer_id", "multiclass"),
        ("order_id", "regression"),
        ("total / 3", "regression"),
        ("total::DECIMAL(9, 2)", "regression"),
        ("[sku]", "ranking"),
    ],
)
def test_kinds(con: duckdb.DuckDBPyConnection, label: str, kind: str) -> None:
    options = "val = '2020-05-01', test = '2020-07-01', table = 'customers'"
    made, _ = run_task(
        con,
        f"CREATE TASK t OPTIONS ({options}, entity = 'customer_id') AS "
        f"SELECT customer_id, ts, {label} AS label FROM orders",
    )
    assert made.task.kind == kind
    assert made.message.startswith(f"task `t`: {kind}")


def test_times_with_zone_are_utc(con: duckdb.DuckDBPyConnection) -> None:
    """Whatever zone the session has."""
    for zone in ("Asia/Tokyo", "America/New_York"):
        con.execute(f"SET TimeZone = '{zone}'").fetchall()
        _, rows = run_task(
            con,
            "CREATE TASK t OPTIONS (entity = 'e', val = '2020-05-01', test = '2020-07-01') AS "
            "SELECT * FROM (VALUES (1, '2020-04-30 23:00:00+00'::TIMESTAMPTZ, 1.0), "
            "(1, '2020-04-30 23:00:00-02', 2.5), (2, '2020-03-08 07:00:00+00', 3)) v(e, t, y)",
        )
        assert [(at, split) for _, at, _, split in rows] == [
            (datetime(2020, 3, 8, 7), "train"),
            (datetime(2020, 4, 30, 23), "train"),
            (datetime(2020, 5, 1, 1), "val"),
        ]


def _told(con: duckdb.DuckDBPyConnection, rows: str, **options: str) -> tuple[str, int]:
    """The message on seeds of customers given as VALUES (e, t, y, s), and how many are kept."""
    given = ", ".join(f"{name} = '{value}'" for name, value in options.items())
    made, kept = run_task(
        con,
        f"CREATE TASK t OPTIONS (entity = 'e', label = 'y', split = 's', {given}) AS "
        f"SELECT e, t::TIMESTAMP AS t, y, s FROM (VALUES {rows}) v(e, t, y, s)",
    )
    return made.message, len(kept)


def test_a_window_that_closes_with_the_data_is_closed(con: duckdb.DuckDBPyConnection) -> None:
    """The last order is of 25 October, midnight."""
    rows = "(1, '2020-01-01', 1.5, 'train'), (2, '2020-01-01', 2.5, 'train'), "
    kept = "(1, '2020-10-15', 1.5, 'val')"
    late = "(1, '2020-10-15 00:00:01', 1.5, 'val')"
    assert "dropped" not in _told(con, rows + kept, horizon="10 days")[0]
    message, number = _told(con, f"{rows}{kept}, {late}", horizon="10 days")
    assert "1 seed dropped: their window of 10 days is not closed" in message and number == 3


def test_a_window_that_closes_where_the_next_split_begins_does_not_leak(
    con: duckdb.DuckDBPyConnection,
) -> None:
    """Without a horizon an anchor at the boundary does."""
    rows = "(1, '2020-01-01', 1.5, 'train'), (2, '{}', 2.5, 'train'), (1, '2020-02-11', 1.5, 'val')"
    assert "leak" not in _told(con, rows.format("2020-02-01"), horizon="10 days")[0]
    assert (
        "1 seed of train whose window reaches past 2020-02-11, where val begins"
        in _told(con, rows.format("2020-02-01 00:00:01"), horizon="10 days")[0]
    )
    assert "leak" not in _told(con, rows.format("2020-02-10"))[0]
    assert "1 seed of train whose anchor lies" in _told(con, rows.format("2020-02-11"))[0]


def test_an_entity_named_by_one_table_only(con: duckdb.DuckDBPyConnection) -> None:
    text = (
        "CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01') AS "
        "SELECT customer_id, sku, ts, total FROM orders"
    )
    with pytest.raises(
        QueryError, match="which column is the entity is not clear: customer_id, sku can be meant"
    ):
        run_task(con, text)
    made, _ = run_task(
        con, text.replace("OPTIONS (", "OPTIONS (table = 'products', label = 'total', ")
    )
    assert (made.task.entity, made.task.key) == ("sku", "sku")
    assert "columns that are not kept: customer_id" in made.message


def test_of_tables_with_one_key_s_name_the_one_that_is_read() -> None:
    con = duckdb.connect()
    for name in ("a", "b"):
        con.execute(f"CREATE TABLE {name} AS SELECT i AS id, i % 3 AS y, "
                    "TIMESTAMP '2020-01-01' + i * INTERVAL 1 DAY AS t FROM range(30) t(i)"
                    ).fetchall()  # fmt: skip
    tables = [Catalog(con).table(f'"{name}"') for name in ("a", "b")]
    schema = Schema({t.name: Relation(t, "id", "t") for t in tables if t is not None})
    text = "CREATE TASK t OPTIONS (val = '2020-01-10', test = '2020-01-20', entity = 'id') AS "
    made, _ = run_task(con, text + "SELECT id, t, y FROM b", schema)
    assert made.task.table == '"b"'
    made, _ = run_task(con, text + "SELECT a.id, b.t, a.y FROM a JOIN b USING (id)", schema)
    assert made.task.table is None and "several tables have `id` as key" in made.message


def test_deep_conditions_are_refused_and_wide_ones_are_not() -> None:
    one = "EXISTS(o.*, 0, 1, day)"
    deep = f"PREDICT {'(' * 99}{one}{')' * 99} FOR EACH c.id"
    with pytest.raises(QueryError, match="nested too deeply"):
        prediction(Span(deep, 0, len(deep)))
    wide = f"PREDICT {' AND '.join([one] * 200)} FOR EACH c.id"
    assert prediction(Span(wide, 0, len(wide)))


# -- in a session --------------------------------------------------------------------------------

SHOP = """
CREATE TABLE customers (customer_id INTEGER PRIMARY KEY, country VARCHAR);
CREATE TABLE orders (order_id INTEGER PRIMARY KEY,
    customer_id INTEGER REFERENCES customers (customer_id), ts TIMESTAMP, total DOUBLE);
INSERT INTO customers SELECT i, ['DE', 'FR'][1 + i % 2] FROM range(6) t(i);
INSERT INTO orders SELECT i, i * i % 5, TIMESTAMP '2020-01-01' + i * INTERVAL 2 DAY, i % 5
    FROM range(150) t(i);
"""
CHURN = "TASK churn AS PREDICT COUNT(orders.*, 0, 30, days) = 0 FOR EACH customers.customer_id"


def test_tasks_are_kept_shown_replaced_and_dropped(tmp_path) -> None:
    file = tmp_path / "relann.duckdb"  # a database called like our schema
    with connect(file) as session:
        session.sql(SHOP)
        assert repr(session.sql(f"CREATE {CHURN}")).startswith("task `churn`: binary, `label` of ")
        with pytest.raises(QueryError, match="`churn` exists already; write CREATE OR REPLACE"):
            session.sql("CREATE TASK Churn AS PREDICT EXISTS(orders.*, 0, 9, days) FOR EACH c.id")
    with connect(file) as session:
        task = session.store.task("CHURN")
        assert task.name == "churn" and task.kind == "binary" and task.horizon == "30 days"
        assert task.definition == f"CREATE {CHURN}"
        assert isinstance(task.val, datetime) and task.val < task.test
        seeds = session.sql(f"SELECT * FROM {task.seeds}")
        assert seeds.columns == ["customer_id", "anchor", "label", "split"]
        assert seeds.types[1] == "TIMESTAMP"
        assert len(seeds) == sum(number for _, number in task.rows)
        assert session.sql(f"SELECT count(*) FROM ({task.sql})").fetchall() == [(len(seeds),)]
        (row,) = session.sql("SHOW TASKS")
        assert row[:6] == ("churn", "binary", "customer_id", "label", "30 days", "frozen")
        assert row[6:] == tuple(number for _, number in task.rows)
        session.sql(f"CREATE OR REPLACE {CHURN.replace('churn', 'Churn').replace('30', '60')}")
        assert [t.horizon for t in session.store.tasks()] == ["60 days"]
        with pytest.raises(QueryError, match=r"no task is called `chrun`. Did you mean `Churn`\?"):
            session.sql("DROP TASK chrun")
        assert repr(session.sql("DROP TASK IF EXISTS chrun")) == "task `chrun` was not there"
        assert repr(session.sql("DROP TASK churn")) == "task `churn` is dropped"
        assert session.store.tasks() == [] and len(session.sql("SHOW TASKS")) == 0
        with pytest.raises(QueryError, match="There are no tasks in this database"):
            session.store.task("churn")
        left = session.sql("SELECT table_name FROM duckdb_tables() WHERE table_name LIKE 'seeds%'")
        assert len(left) == 0
    with connect(file, read_only=True) as session, pytest.raises(DataError, match="read-only"):
        session.sql(f"CREATE {CHURN}")


def test_a_task_that_fails_leaves_the_old_one() -> None:
    with connect() as session:
        session.sql(SHOP)
        session.sql(f"CREATE {CHURN}")
        before = session.store.task("churn")
        rows = session.sql(f"SELECT * FROM {before.seeds}").fetchall()
        with pytest.raises(DataError, match="no seeds"):
            session.sql(
                "CREATE OR REPLACE TASK churn OPTIONS (val = '2020-02-01', test = '2020-03-01') AS "
                "SELECT customer_id, ts, total FROM orders WHERE false"
            )
        assert session.store.task("churn") == before
        assert session.sql(f"SELECT * FROM {before.seeds}").fetchall() == rows


def test_tasks_belong_to_an_open_transaction() -> None:
    with connect() as session:
        session.sql(SHOP)
        session.sql(f"BEGIN; CREATE {CHURN}")
        assert [t.name for t in session.store.tasks()] == ["churn"]
        session.sql("ROLLBACK")
        assert session.store.tasks() == []
        session.sql(f"BEGIN; CREATE {CHURN}; CREATE OR REPLACE {CHURN}; COMMIT")
        assert [t.name for t in session.store.tasks()] == ["churn"]


def test_errors_of_the_select_are_at_their_place() -> None:
    with connect() as session:
        session.sql(SHOP)
        with pytest.raises(QueryError) as caught:
            session.sql("SELECT 1; CREATE TASK t AS SELECT customer_id, tz FROM orders")
        span = caught.value.span
        assert span is not None and span.text[span.start : span.end] == "tz"
        with pytest.raises(QueryError, match=r"Did you mean `days`\?"):
            session.sql(
                "CREATE TABLE early (a INT); CREATE TASK t AS "
                "PREDICT COUNT(orders.*, 0, 3, dayz) FOR EACH customers.customer_id"
            )
        with pytest.raises(QueryError, match="does not exist"):
            session.sql("FROM early")


def test_a_missing_table_is_none_of_our_variables() -> None:
    with connect() as session:
        session.sql(SHOP)
        for name in ("task", "statement", "schema", "made", "options", "text"):
            with pytest.raises(QueryError, match=f"Table with name {name} does not exist"):
                session.sql(f"CREATE TASK t AS SELECT * FROM {name}")


def test_info_goes_through_json_and_back() -> None:
    task = Task("t", "e", None, None, "a", "y", "s", "ranking", val=DAY, rows=(("train", 3),))
    assert Task.from_info("t", "", "", task.info()) == task
    assert date.fromisoformat(task.info()["val"][:10]) == DAY.date()


def test_the_schema_of_the_tests_is_one() -> None:
    assert set(shop_schema(shop([], [])).relations) == {
        '"products"', '"customers"', '"orders"', '"lines"', '"marks"',
    }  # fmt: skip


_EVERY_DAY = (
    "CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01', entity = 'customer_id', "
    "table = 'customers', {sample}) AS SELECT customer_id, ts, {label} AS y FROM orders"
)


@pytest.mark.parametrize("label", ["total", "total > 1", "[sku]"])
def test_a_sample_is_the_same_seeds_every_time(con: duckdb.DuckDBPyConnection, label: str) -> None:
    """Of as many seeds as are asked for in each split; a larger sample holds the smaller."""

    def sampled(sample: str) -> tuple[str, list[tuple[Any, ...]]]:
        made, rows = run_task(con, _EVERY_DAY.format(sample=sample, label=label))
        assert len(rows) == sum(number for _, number in made.task.rows)
        return made.message, rows

    (_, all_seeds), (told, some) = sampled("sample = 1000"), sampled("sample = [20, 10, 200]")
    assert "1000" not in sampled("sample = 1000")[0]
    assert (told, some) == sampled("sample = [20, 10, 200]")
    count = {split: sum(row[3] == split for row in all_seeds) for split in ("train", "val", "test")}
    assert (
        f"note: 20 of {count['train']} training, 10 of {count['val']} validation seeds, by a hash"
        in told
    )
    assert [sum(row[3] == s for row in some) for s in count] == [20, 10, count["test"]]
    fewer = sampled("sample = 5")[1]
    assert [sum(row[3] == s for row in fewer) for s in count] == [5, 5, 5]
    assert all(row in some for row in fewer) and all(row in all_seeds for row in some)


def test_a_sample_of_a_predict_is_spread_over_its_anchors(con: duckdb.DuckDBPyConnection) -> None:
    made, rows = run_task(
        con,
        "CREATE TASK t OPTIONS (val = '2020-05-01', test = '2020-07-01', every = '5 days', "
        "sample = 25) AS PREDICT COUNT(orders.*, 0, 20, days) = 0 FOR EACH customers.customer_id",
    )
    assert dict(made.task.rows) == {"train": 25, "val": 25, "test": 25}
    assert len({at for _, at, _, split in rows if split == "train"}) > 10


@pytest.mark.parametrize(
    ("given", "shown"),
    [("0", "0"), ("[1, 2]", "[1, 2]"), ("'all'", "'all'"), ("[1, 2, 0]", "[1, 2, 0]"),
     ("1.5", "1.5"), ("true", "True")],
)  # fmt: skip
def test_a_sample_is_whole_numbers(con: duckdb.DuckDBPyConnection, given: str, shown: str) -> None:
    with pytest.raises(QueryError, match="`sample` takes a whole number, 1 or more, or three") as e:
        run_task(con, _EVERY_DAY.format(sample=f"sample = {given}", label="total"))
    assert f"not {shown}\n" in str(e.value) and "^" in str(e.value)
