"""PREDICT: every aggregate and edge by hand, all of it against a definition in plain Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relann.algebra.intervals import Interval
from relann.algebra.lexing import lex
from relann.algebra.pql_parse import prediction
from relann.errors import Span
from relann.models.predict_to_sql import Compiled, compile_predict
from relann.models.tasks import TaskOptions
from relann.schema import Catalog, ForeignKey, Relation, Schema
from tests.shops import Order, run_task, shop, shop_schema

DAY = datetime(2020, 1, 1)
EARLY = datetime(2019, 1, 1)


def day(number: float) -> datetime:
    return DAY + timedelta(days=number)


def compiled(con: duckdb.DuckDBPyConnection, text: str, **options: str) -> Compiled:
    assert lex(text)
    predict = prediction(Span(text, 0, len(text)))
    return compile_predict(predict, shop_schema(con), con, TaskOptions(**options))


def labels(con: duckdb.DuckDBPyConnection, target: str, anchor: datetime, **more: str) -> Any:
    """The label of each customer at one anchor, 20 days before `test`."""
    options = {"val": str(anchor), "test": str(anchor + timedelta(days=20)), "every": "20 days"}
    where = more.get("where", "")
    made = compiled(con, f"PREDICT {target} FOR EACH customers.customer_id {where}", **options)
    rows = con.execute(made.sql).fetchall()
    return {entity: label for entity, at, label, _ in rows if at == anchor}


ONE = (1, "DE", EARLY)
TWO = (2, "FR", EARLY)
FILL: list[Order] = [(None, day(0), 0.0, "ball"), (None, day(90), 0.0, "ball")]
"""So that the data reaches far enough for all windows here."""


@pytest.mark.parametrize(
    ("target", "first", "second"),
    [
        ("COUNT(orders.*, 0, 10, days)", 4, 0),
        ("COUNT(orders.total, 0, 10, days)", 3, 0),
        ("COUNT_DISTINCT(orders.total, 0, 10, days)", 2, 0),
        ("COUNT_DISTINCT(orders.sku, 0, 10, days)", 2, 0),
        ("SUM(orders.total, 0, 10, days)", 9.0, 0.0),
        ("AVG(orders.total, 0, 10, days)", 3.0, None),
        ("MIN(orders.total, 0, 10, days)", 2.0, None),
        ("MAX(orders.total, 0, 10, days)", 5.0, None),
        ("FIRST(orders.total, 0, 10, days)", 2.0, None),
        ("LAST(orders.total, 0, 10, days)", 5.0, None),
        ("FIRST(orders.sku, 0, 10, days)", "kite", None),
        ("LAST(orders.sku, 0, 10, days)", "ball", None),
        ("EXISTS(orders.*, 0, 10, days)", True, False),
        ("LIST_DISTINCT(orders.sku, 0, 10, days) RANK TOP 2", ["ball", "kite"], None),
        ("NOT EXISTS(orders.*, 0, 10, days)", False, True),
        ("COUNT(orders.*, 0, 10, days) = 0", False, True),
        ("AVG(orders.total, 0, 10, days) > 2", True, None),
        ("SUM(orders.total, 0, 10, days, WHERE orders.sku = 'kite')", 4.0, 0.0),
        ("COUNT(orders.* , 0, 10, days WHERE NOT (orders.total <= 2 OR orders.total IS NULL))",
         1, 0),
        ("COUNT(orders.*, 0, 1, WEEK) >= 1 AND COUNT(orders.*, 7, 10, days) >= 1", True, False),
        ("COUNT(orders.*, 0, 240, Hours)", 4, 0),
    ],
)  # fmt: skip
def test_each_aggregate(target: str, first: object, second: object) -> None:
    """The rows at 32, 33 (no total), 35 and 39; the second customer has none."""
    orders: list[Order] = [
        (1, day(32), 2.0, "kite"),
        (1, day(33), None, "ball"),
        (1, day(35), 2.0, "kite"),
        (1, day(39), 5.0, "ball"),
        (1, day(29), 100.0, "ball"),
        (1, day(41), 100.0, "ball"),
        *FILL,
    ]
    found = labels(shop([ONE, TWO], orders), target, day(30))
    assert found == {1: first, 2: second}


def test_windows_are_open_at_the_start_and_closed_at_the_end() -> None:
    tick = timedelta(microseconds=1)
    moments = {
        "at the anchor": (day(30), 0),
        "just after": (day(30) + tick, 1),
        "at the end": (day(40), 1),
        "past the end": (day(40) + tick, 0),
    }
    for name, (moment, number) in moments.items():
        con = shop([ONE], [(1, moment, 1.0, "ball"), *FILL])
        assert labels(con, "COUNT(orders.*, 0, 10, days)", day(30)) == {1: number}, name
    for moment, number in ((day(20), 0), (day(20) + tick, 1), (day(30), 1), (day(30) + tick, 0)):
        con = shop([ONE], [(1, moment, 1.0, "ball"), *FILL])
        where = f"WHERE COUNT(orders.*, -10, 0, days) = {number}"
        assert labels(con, "COUNT(orders.*, 0, 10, days)", day(30), where=where)


def test_days_are_midnights_and_times_with_zone_are_utc() -> None:
    """The clocks of New York, where the session is, change on 8 March 2020."""
    before = [(1, date(2020, 3, 8), 1.0, "ball"), (1, date(2020, 3, 9), 1.0, "ball")]
    fill = [(None, date(2020, 1, 1), 0.0, "ball"), (None, date(2020, 5, 1), 0.0, "ball")]
    con = shop([ONE], [*before, *fill], "DATE")  # type: ignore[list-item]
    assert labels(con, "COUNT(orders.*, 0, 1, day)", datetime(2020, 3, 8)) == {1: 1}
    assert labels(con, "COUNT(orders.*, 0, 1, day)", datetime(2020, 3, 7, 12)) == {1: 1}
    con = shop([ONE], FILL, "TIMESTAMPTZ")
    for hour in ("2020-03-08 00:00:00+00", "2020-03-08 12:00:00+00", "2020-03-09 00:00:00+00"):
        con.execute(f"INSERT INTO orders SELECT 9 + count(*), 1, 1, '{hour}', 1, 'ball' "
                    "FROM orders").fetchall()  # fmt: skip
    assert labels(con, "COUNT(orders.*, 0, 1, day)", datetime(2020, 3, 8)) == {1: 2}
    assert labels(con, "COUNT(orders.*, 0, 24, hours)", datetime(2020, 3, 7)) == {1: 1}


def test_entities_are_there_from_their_own_time_on() -> None:
    customers = [(1, "DE", day(30)), (2, "DE", day(31)), (3, "DE", None), (4, "FR", EARLY)]
    found = labels(shop(customers, FILL), "COUNT(orders.*, 0, 10, days)", day(30))
    assert found == {1: 0, 4: 0}
    where = "WHERE customers.country IN ('DE', 'x')"
    con = shop(customers, FILL)
    assert labels(con, "COUNT(orders.*, 0, 10, days)", day(30), where=where) == {1: 0}


def test_months_are_counted_from_the_boundary() -> None:
    """31 March less one month and less two: no day is lost on the way."""
    con = shop([ONE], [(1, datetime(2019, 12, 5), 1.0, "ball"), (1, day(400), 1.0, "ball")])
    options = {"val": "2020-03-31", "test": "2020-05-31"}
    made = compiled(
        con, "PREDICT COUNT(orders.*, 0, 1, month) FOR EACH customers.customer_id", **options
    )
    times = sorted({at for _, at, _, split in con.execute(made.sql).fetchall() if split != "test"})
    assert times == [datetime(2019, 12, 31), datetime(2020, 1, 31), datetime(2020, 2, 29),
                     datetime(2020, 3, 31), datetime(2020, 4, 30)]  # fmt: skip


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),
    st.integers(-50, 50),
    st.sampled_from(["months", "years", "weeks", "hours"]),
)
@settings(max_examples=50)
def test_intervals_are_those_of_duckdb_and_pandas(time: datetime, number: int, unit: str) -> None:
    time = time.replace(microsecond=0)
    found = Interval(number, unit).after(time)
    assert found == (pd.Timestamp(time) + pd.DateOffset(**{unit: number})).to_pydatetime()
    sql = f"SELECT TIMESTAMP '{time}' + {number} * {Interval(1, unit).sql}"
    assert duckdb.connect().execute(sql).fetchall() == [(found,)]


def test_shares_of_anchors_without_timestamps() -> None:
    """The windows of ten days that are closed at day 90: from 0, 10, … 80."""
    con = shop([ONE, TWO], [(1, day(n), 1.0, "ball") for n in range(5, 90, 10)] + FILL)
    made = compiled(con, "PREDICT COUNT(orders.*, 0, 10, days) FOR EACH customers.customer_id")
    splits: dict[str, set[datetime]] = {}
    for _, at, _, split in con.execute(made.sql).fetchall():
        splits.setdefault(split, set()).add(at)
    assert splits == {
        "train": {day(n) for n in range(0, 60, 10)},
        "val": {day(60)},
        "test": {day(70), day(80)},
    }
    assert made.val in splits["val"] and made.test in splits["test"]
    assert "chosen by share" in made.notes[0]


def test_windows_longer_than_the_step_stay_inside_their_split() -> None:
    con = shop([ONE], FILL)
    made = compiled(
        con,
        "PREDICT COUNT(orders.*, 0, 20, days) FOR EACH customers.customer_id",
        every="5 days",
    )
    assert "left out" in made.notes[1]
    for _, at, _, split in con.execute(made.sql).fetchall():
        ends = {"train": made.val, "val": made.test, "test": day(90)}[split]
        assert at + timedelta(days=20) <= ends


def test_a_table_called_like_a_part_of_the_query() -> None:
    con = shop([ONE], [(1, day(35), 1.0, "ball"), *FILL])
    con.execute("ALTER TABLE orders RENAME TO anchors").fetchall()
    table = Catalog(con).table('"anchors"')
    assert table is not None
    orders = Relation(table, "order_id", "ts", (ForeignKey("customer_id", '"customers"',
                                                           "customer_id"),))  # fmt: skip
    others = {n: Catalog(con).table(n) for n in ('"customers"',)}
    customers = others['"customers"']
    assert customers is not None
    schema = Schema({'"anchors"': orders, '"customers"': Relation(customers, "customer_id")})
    text = "PREDICT COUNT(anchors.*, 0, 10, days) FOR EACH customers.customer_id"
    made = compile_predict(prediction(Span(text, 0, len(text))), schema, con, TaskOptions())
    assert con.execute(made.sql).fetchall()


# -- against a definition in plain Python --------------------------------------------------------


PLAIN: dict[str, Callable[[list[float]], object]] = {
    "COUNT": len,
    "COUNT_DISTINCT": lambda v: len(set(v)),
    "SUM": sum,
    "AVG": lambda v: sum(v) / len(v) if v else None,
    "MIN": lambda v: min(v, default=None),
    "MAX": lambda v: max(v, default=None),
    "FIRST": lambda v: v[0] if v else None,
    "LAST": lambda v: v[-1] if v else None,
    "EXISTS": bool,
}


def window(orders: Sequence[Order], who: int, low: datetime, high: datetime) -> list[float]:
    """Totals of a customer's orders in (low, high], in order of time, then of order number."""
    rows = [(ts, n, x) for n, (c, ts, x, _) in enumerate(orders) if c == who and low < ts <= high]
    return [x for _, _, x in sorted(rows, key=lambda r: r[:2]) if x is not None]


HOURS = st.integers(0, 90 * 4).map(lambda n: DAY + timedelta(hours=6 * n))
ORDERS = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 3, 99, None]),
        HOURS,
        st.one_of(st.none(), st.integers(0, 4).map(float)),
        st.just("ball"),
    ),
    max_size=60,
)


@given(
    ORDERS,
    st.sampled_from(list(PLAIN)),
    st.tuples(st.integers(0, 6), st.integers(1, 8)),
    st.tuples(st.integers(1, 20), st.integers(0, 12)),
    st.sampled_from(["6 hours", "5 days", "12 days"]),
    st.sampled_from(["", "> 1", "= 0"]),
    st.booleans(),
)
@settings(max_examples=60)
def test_seeds_equal_their_definition(
    orders: list[Order],
    function: str,
    target: tuple[int, int],
    history: tuple[int, int],
    every: str,
    compare: str,
    filtered: bool,
) -> None:
    """Every anchor, entity and label, with and without a choice by history."""
    number, unit = every.split()
    step = timedelta(**{unit: int(number)})
    low, high = timedelta(days=target[0]), timedelta(days=sum(target))
    orders = [*orders, *FILL]
    signup = {1: EARLY, 2: day(20), 3: day(31.25)}
    compare = "" if function == "EXISTS" else compare
    where, back, ago = "", timedelta(days=history[0] + history[1]), timedelta(days=history[1])
    if filtered:
        where = (
            f"WHERE COUNT(orders.*, {-history[0] - history[1]}, {-history[1]}, days) > 0 "
            "AND customers.country <> 'FR'"
        )
    text = (
        f"PREDICT {function}(orders.total, {target[0]}, {sum(target)}, days) {compare} "
        f"FOR EACH customers.customer_id {where}"
    )
    con = shop([(c, "FR" if c == 3 else "DE", t) for c, t in signup.items()], orders)
    val, test, last = day(40), day(60), day(90)
    made = compiled(con, text, val=str(val), test=str(test), every=every)

    anchors: dict[datetime, str] = {}
    for begin, end, split in ((val, test, "val"), (test, last, "test")):
        a = begin
        while a + high <= end:
            anchors[a] = split
            a += step
    a = val - step
    while a >= DAY:
        if a + high <= val:
            anchors[a] = "train"
        a -= step
    wanted = {}
    for a, split in anchors.items():
        for who, since in signup.items():
            past = [ts for c, ts, _, _ in orders if c == who and a - back < ts <= a - ago]
            if since > a or (filtered and (who == 3 or not past)):
                continue
            label: Any = PLAIN[function](window(orders, who, a + low, a + high))
            if compare and label is not None:
                label = label > 1 if compare == "> 1" else label == 0
            wanted[who, a] = (label, split)
    found = con.execute(made.sql).fetchall()
    assert len(found) == len(wanted)
    for who, at, label, split in found:
        assert wanted[who, at] == (pytest.approx(label), split)


# -- against RelBench ----------------------------------------------------------------------------


def _f1(folder: Path) -> tuple[duckdb.DuckDBPyConnection, Schema]:
    """Drivers and their results, as RelBench's manifest has them."""
    con = duckdb.connect()
    for name in ("drivers", "results", "qualifying"):
        file = folder / "db" / f"{name}.parquet"
        con.execute(f"CREATE VIEW {name} AS FROM read_parquet('{file}')").fetchall()
    drivers, results, qualifying = (
        Catalog(con).table(f'"{n}"') for n in ("drivers", "results", "qualifying")
    )
    assert drivers is not None and results is not None and qualifying is not None
    key = ForeignKey("driverId", '"drivers"', "driverId")
    relations = {
        '"drivers"': Relation(drivers, "driverId"),
        '"results"': Relation(results, "resultId", "date", (key,)),
        '"qualifying"': Relation(qualifying, "qualifyId", "date", (key,)),
    }
    return con, Schema(relations)


F1 = "start = '1950-05-13', val = '2005-01-01', test = '2010-01-01', time = 'date'"


@pytest.mark.parametrize(
    ("task", "target", "label"),
    [
        ("driver-position", "AVG(results.positionOrder, 0, 60, days)", "position"),
        ("driver-dnf", "MAX(results.statusId, 0, 30, days) > 1", "did_not_finish"),
        ("driver-top3", "MIN(qualifying.position, 0, 30, days) <= 3", "qualifying"),
    ],
)
def test_relbench_s_own_seeds(
    real_data: Callable[[str], Path], task: str, target: str, label: str
) -> None:
    """All seeds and labels at RelBench's anchors are ours; none of ours at them are missing there.

    A driver is in RelBench's tables if there is a result in the window, and a result then is newer
    than a year ago too: its filter by activity keeps every seed.
    """
    folder = real_data("rel-f1")
    con, schema = _f1(folder)
    text = f"CREATE TASK t OPTIONS ({F1}, label = '{label}') AS PREDICT {target} "
    _, rows = run_task(con, text + "FOR EACH drivers.driverId", schema)
    ours = {(who, at): float(value) for who, at, value, _ in rows}
    splits = {(who, at): split for who, at, _, split in rows}
    official = {}
    for split in ("train", "val", "test"):
        file = folder / "tasks" / task / f"{split}.parquet"
        found = con.execute(
            f"SELECT driverId, date::TIMESTAMP, {label} FROM read_parquet('{file}')"
        ).fetchall()
        for who, at, value in found:
            official[who, at] = float(value)
            assert splits[who, at] == split
    times = {at for _, at in official}
    assert official == pytest.approx({k: v for k, v in ours.items() if k[1] in times})


def test_history_filter_on_real_data(real_data: Callable[[str], Path]) -> None:
    """WHERE with a window before the anchor keeps the seeds of drivers that raced in the year."""
    con, schema = _f1(real_data("rel-f1"))
    text = (
        f"CREATE TASK t OPTIONS ({F1}) AS PREDICT AVG(results.positionOrder, 0, 60, days) "
        "FOR EACH drivers.driverId"
    )
    _, every = run_task(con, text, schema)
    _, active = run_task(con, text + " WHERE COUNT(results.*, -1, 0, year) > 0", schema)
    raced = con.execute("SELECT driverId, date::TIMESTAMP FROM results").fetchall()
    times: dict[int, list[datetime]] = {}
    for who, at in raced:
        times.setdefault(who, []).append(at)
    wanted = [
        row
        for row in every
        if any(
            Interval(1, "years").after(row[1], -1) < at <= row[1] for at in times.get(row[0], ())
        )
    ]
    assert 0 < len(wanted) < len(every)
    assert active == wanted
