"""Other databases to run a model's SQL on, started for the tests: PostgreSQL and Spark."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import pytest

from relann import Session
from relann.dialects.known import DIALECTS

Row = tuple[Any, ...]


class Elsewhere(Protocol):
    """A database that is not DuckDB; `names` are those that the page's programs use."""

    name: str
    names: dict[str, Any]

    def run(self, sql: str) -> None:
        """Run a statement."""

    def rows(self, sql: str) -> list[Row]:
        """The rows of a query."""


def move(con: Session, to: Elsewhere, *tables: str) -> None:
    """Copy tables, under their names, in place of those there are."""
    for table in tables:
        rows = con.connection.sql(f"FROM {table}").to_arrow_table()
        for statement in DIALECTS[to.name].table(table, rows):
            to.run(statement)


def predicted(con: Session, to: Elsewhere, model: str, more: str = "") -> list[Row]:
    """A model's predictions there: the statements run in order, the rows of the last."""
    call = f"ml_to_sql('{model}', dialect => '{to.name}'{more})"
    steps = con.sql(f"FROM {call} ORDER BY step").fetchall()
    for _, kind, sql in steps[:-1]:
        assert kind != "query"
        to.run(sql)
    assert steps[-1][1] == "query"
    return to.rows(steps[-1][2])


class Postgres:
    """A connection to a server of its own."""

    name = "postgres"

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.names = {"server": connection.info.dsn}

    def run(self, sql: str) -> None:
        self._connection.execute(sql)

    def rows(self, sql: str) -> list[Row]:
        return list(self._connection.execute(sql).fetchall())


class Spark:
    """A local session."""

    name = "spark"

    def __init__(self, session: Any) -> None:
        self._session = session
        self.names = {"spark": session}

    def run(self, sql: str) -> None:
        self._session.sql(sql)

    def rows(self, sql: str) -> list[Row]:
        found = self._session.sql(sql).toArrow()
        return [tuple(row) for row in zip(*(c.to_pylist() for c in found.columns), strict=True)]


@contextmanager
def postgres(_: Path) -> Iterator[Postgres]:
    """See `_server`; not in pytest's folder, which is closed to other users."""
    with tempfile.TemporaryDirectory(prefix="relann-") as folder, _server(Path(folder)) as server:
        yield server


@contextmanager
def _server(folder: Path) -> Iterator[Postgres]:
    """A server of its own, that only this process' user reaches; skips where there is none."""
    psycopg = pytest.importorskip("psycopg", reason="needs psycopg: relann's extra [postgres]")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    named = shutil.which("pg_ctl") or (str(found[-1]) if found else None)
    if named is None:
        pytest.skip("needs PostgreSQL's server: apt-get install postgresql")
    programs = Path(named).parent
    # the server refuses to be root's
    become: dict[str, Any] = {}
    if os.geteuid() == 0:
        become = {"user": "postgres", "group": "postgres", "extra_groups": [], "cwd": "/"}
        shutil.chown(folder, "postgres", "postgres")
    data = folder / "data"

    def call(*words: object) -> None:
        done = subprocess.run(
            [str(w) for w in words], capture_output=True, text=True, check=False, **become
        )
        assert done.returncode == 0, done.stdout + done.stderr

    call(programs / "initdb", "-D", data, "-U", "relann", "-A", "trust", "-E", "UTF8", "--locale=C")
    settings = f"-k {folder} -c listen_addresses='' -c fsync=off"
    log = folder / "log"
    call(programs / "pg_ctl", "-D", data, "-o", settings, "-l", log, "-w", "start")
    try:
        with psycopg.connect(
            host=str(folder), user="relann", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute("SET client_min_messages = warning")
            yield Postgres(connection)
    finally:
        call(programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


@contextmanager
def spark(folder: Path) -> Iterator[Spark]:
    """A session on one thread; skips where there is no pyspark or no Java."""
    sql = pytest.importorskip("pyspark.sql", reason="needs pyspark: relann's extra [spark]")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("needs Java: apt-get install default-jre-headless")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    session = (
        sql.SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.sql.warehouse.dir", str(folder / "warehouse"))
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.log.level", "ERROR")
        # to compile code takes longer than to run it on so few rows
        .config("spark.sql.codegen.wholeStage", "false")
        .config("spark.sql.codegen.factoryMode", "NO_CODEGEN")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )
    try:
        yield Spark(session)
    finally:
        with suppress(Exception):
            session.stop()
