"""Generated features are those computed row by row in Python, on the database as of each seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from relann.errors import QueryError
from relann.models.generators import Target, dfs
from relann.schema import Catalog, ForeignKey, Relation, Schema, Table
from tests.models.generators import by_hand, shop
from tests.models.generators.shop import CUSTOMER

OPTIONS: dict[str, Any] = {
    "windows": ("5 days", "2 weeks", "1 month", None),
    "last": (1, 3),
    "decay": ("1 week",),
    "categories": 2,
}


def generated(con: duckdb.DuckDBPyConnection, **options: Any) -> str:
    return dfs(shop.schema(con), Catalog(con), CUSTOMER, **{**OPTIONS, **options})


@pytest.mark.parametrize("seed", range(4))
def test_values(seed: int) -> None:
    """Every column of every seed; customers without orders and unknown ones included."""
    con = shop.shop(seed)
    frequent = con.execute(
        "SELECT status FROM orders WHERE status IS NOT NULL GROUP BY status "
        "ORDER BY count(*) DESC, status LIMIT 2"
    ).fetchall()
    is_ = {"status": [s for (s,) in frequent]}
    found = shop.rows(con, generated(con), shop.schema(con))
    assert len(found) == 12
    for row in found:
        expected = by_hand.features(con, row["cid"], row["tm"], is_)
        assert set(row) == set(expected)
        for name, value in expected.items():
            assert row[name] == (
                pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value
            ), (name, row["cid"], row["tm"])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_depth": 1},
        {"within_event": False, "latest_parent": False},
        {"windows": (None,), "last": (), "decay": (), "aggregates": ("count", "avg")},
        {"aggregates": ("last", "mode"), "max_columns": 3},
    ],
    ids=lambda options: " ".join(options) or "all",
)
def test_nothing_is_left_to_the_database(options: dict[str, Any]) -> None:
    con = shop.shop(0)
    node = shop.timed(con, generated(con, **options))
    assert not shop.opaque(node)
    assert not node.learned


def test_fewer_columns_are_the_first_ones() -> None:
    con = shop.shop(1)
    most = shop.timed(con, generated(con)).names
    few = generated(con, max_columns=20)
    assert shop.timed(con, few).names == most[:21]
    left_out, _ = few.split("\n", 1)
    assert left_out.startswith(f"-- left out, {len(most) - 21} beyond max_columns: {most[21]}, ")


def test_depth_1_is_what_children_say_themselves() -> None:
    con = shop.shop(0)
    names = shop.timed(con, generated(con, max_depth=1, within_event=False)).names
    assert "orders_avg_amount_5d" in names
    assert not [n for n in names if "product" in n or "review" in n or "rank" in n]


def test_past_labels() -> None:
    """Labels are rows of their own time."""
    con = shop.shop(0)
    con.execute("CREATE TABLE known (entity INTEGER, time TIMESTAMP, label DOUBLE)")
    con.execute(
        "INSERT INTO known SELECT i % 3, TIMESTAMP '2020-01-01' + to_days(i), i FROM range(9) t(i)"
    )
    described = shop.schema(con)
    columns = (("entity", "INTEGER"), ("time", "TIMESTAMP"), ("label", "DOUBLE"))
    entity = ForeignKey("entity", CUSTOMER.table, CUSTOMER.key)
    known = Relation(Table('"known"', columns), None, "time", (entity,))
    text = generated(con, labels=known)
    described = Schema({**described.relations, '"known"': known})
    assert not shop.opaque(shop.timed(con, text))
    for row in shop.rows(con, text, described):
        mine = [i for i in range(9) if i % 3 == row["cid"]]
        assert row["past_last_label"] == (mine[-1] if mine else None)
        if row["cid"] in range(6):
            assert row["past_count"] == len(mine)


def test_frequent_values_of_the_training_period() -> None:
    """Later rows say nothing of which values are counted."""
    con = shop.shop(0)
    con.execute("INSERT INTO orders SELECT 1000 + i, 1, 1, 1, TIMESTAMP '2030-01-01', 1, 'late' "
                "FROM range(99) t(i)")  # fmt: skip
    assert "status_is_late" in generated(con)
    assert "status_is_late" not in generated(con, before=shop.day(40))


def test_text_said_once_is_no_category() -> None:
    con = shop.shop(0)
    con.execute("UPDATE customer SET country = 'land ' || id")
    assert "country" not in generated(con)


def test_names_that_need_quotes() -> None:
    """Keywords, blanks, quotes and names taken twice."""
    con = duckdb.connect()
    con.execute('CREATE TABLE "order" ("select" INTEGER, "a b" DOUBLE)')
    con.execute(
        'CREATE TABLE "the ""items" ("group" INTEGER, "when" DATE, kind VARCHAR, k INTEGER)'
    )
    con.execute(
        "INSERT INTO \"the \"\"items\" SELECT 1, DATE '2020-01-01', 'it''s', 2 FROM range(4)"
    )
    con.execute('INSERT INTO "order" VALUES (1, 2)')
    con.execute("CREATE TABLE seeds AS SELECT 1 AS id, TIMESTAMP '2020-02-01' AS tm")
    items, order = '"the ""items"', '"order"'
    described = Schema(
        {
            order: Relation(Table(order, (("select", "INTEGER"), ("a b", "DOUBLE"))), "select"),
            items: Relation(
                Table(
                    items,
                    (("group", "INTEGER"), ("when", "DATE"), ("kind", "VARCHAR"), ("k", "INTEGER")),
                ),
                None,
                "when",
                (ForeignKey("group", order, "select"),),
            ),
        }
    )
    text = dfs(described, Catalog(con), Target(order, "select", "id"), last=(3,))
    node = shop.timed(con, text)
    assert not shop.opaque(node)
    (row,) = con.execute(shop.node_to_sql(shop.lifted(node, described, "id"))).fetchall()
    found = dict(zip(["id", "tm", *node.names[1:]], row, strict=True))
    assert found["a b"] == 2
    assert found["the_items_kind_is_it_s_last3"] == 3
    assert found["the_items_avg_k_2"] == 2 and found["the_items_count_1y"] == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregates": ("average",)}, r"`aggregates` is one of count, .* Did you mean"),
        ({"windows": ("90",)}, r"`windows` holds durations such as '90 days' .* not '90'"),
        ({"decay": (None,)}, r"`decay` holds durations .* not None"),
        ({"last": (0,)}, r"`last` is a whole number from 1 on, not 0"),
        ({"max_depth": 3}, r"`max_depth` is one of 1, 2, not '3'"),
        ({"max_columns": 0}, r"`max_columns` is a whole number from 1 on"),
        ({"categories": -1}, r"`categories` is a whole number from 0 on"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        generated(shop.shop(0), **options)


def test_a_target_that_is_not_there() -> None:
    con = shop.shop(0)
    with pytest.raises(QueryError, match=r"no table `custmer` .* Did you mean `customer`"):
        dfs(shop.schema(con), Catalog(con), Target('"custmer"', "id", "cid"))
    with pytest.raises(QueryError, match=r"`customer` has no column `cid`; it has id"):
        dfs(shop.schema(con), Catalog(con), Target('"customer"', "cid", "cid"))


def test_real_data(real_data: Callable[[str], Path]) -> None:
    """Drivers of rel-f1 at 300 seeds: rows as many as seeds, counts as counted by hand."""
    folder = real_data("rel-f1")
    con = duckdb.connect()
    fkeys = {
        "results": ("resultId", "date", {"raceId": "races", "driverId": "drivers",
                                         "constructorId": "constructors"}),
        "races": ("raceId", "date", {"circuitId": "circuits"}),
        "circuits": ("circuitId", None, {}),
        "drivers": ("driverId", None, {}),
        "constructors": ("constructorId", None, {}),
        "qualifying": ("qualifyId", "date", {"raceId": "races", "driverId": "drivers",
                                             "constructorId": "constructors"}),
    }  # fmt: skip
    relations = {}
    for name, (key, time, names) in fkeys.items():
        con.execute(f"CREATE TABLE {name} AS FROM '{folder}/db/{name}.parquet'")
        columns = tuple((r[0], r[1]) for r in con.execute(f"DESCRIBE {name}").fetchall())
        foreign = tuple(ForeignKey(c, f'"{t}"', fkeys[t][0]) for c, t in names.items())
        relations[f'"{name}"'] = Relation(Table(f'"{name}"', columns), key, time, foreign)
    described = Schema(relations)
    con.execute(
        "CREATE TABLE seeds AS SELECT driverId::INTEGER AS cid, date::TIMESTAMP AS tm FROM "
        f"'{folder}/tasks/driver-dnf/train.parquet' ORDER BY hash(driverId, date) LIMIT 300"
    )
    target = Target('"drivers"', "driverId", "cid")
    text = dfs(
        described, Catalog(con), target, windows=("1 year", None), last=(3,), max_columns=400
    )
    found = {(r["cid"], r["tm"]): r for r in shop.rows(con, text, described)}
    counted = con.execute(
        "SELECT s.cid, s.tm, count(r.date), avg(r.points), count(r.date) FILTER (r.statusId = 1) "
        "FROM seeds s LEFT JOIN results r ON r.driverId = s.cid AND r.date <= s.tm "
        "AND r.date > s.tm - INTERVAL 1 YEAR GROUP BY ALL"
    ).fetchall()
    assert len(found) == len(counted) == 300
    for driver, time, rows, points, finished in counted:
        row = found[driver, time]
        assert row["results_count_1y"] == rows
        assert row["results_avg_points_1y"] == (None if points is None else pytest.approx(points))
        assert row["results_statusId_is_1_1y"] == finished
