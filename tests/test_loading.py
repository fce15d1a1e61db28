"""Loading data sets: tables as they were, keys as their manifest has them, all or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest
import yaml

from relann import DataError, EngineError, Session, connect, datasets
from relann.discovery import discover
from tests.test_discovery import facts, inferred, relation

MANIFEST = """
name: shop
val_timestamp: '2020-01-01'
test_timestamp: 2020-06-01
tables:
  users: {pkey: uid, time_col: null, fkeys: {}}
  orders: {pkey: null, time_col: at, fkeys: {who: users}}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A RelBench folder whose keys no name suggests, with a task."""
    folder = tmp_path / "it's a shop"
    (folder / "db").mkdir(parents=True)
    (folder / "manifest.yaml").write_text(MANIFEST)
    write(folder / "db" / "users.parquet", "SELECT i::SMALLINT AS uid, i AS id FROM range(5) t(i)")
    query = "SELECT i AS id, i % 5 AS who, i AS user_id, TIMESTAMP_NS '2020-01-01' AS \"at\" "
    write(folder / "db" / "orders.parquet", query + "FROM range(3) t(i)")
    task = folder / "tasks" / "churn"
    task.mkdir(parents=True)
    (task / "manifest.yaml").write_text(
        "{name: churn, kind: forecast, task_type: binary_classification, entity_table: users,"
        " remove_columns: [[users, id]]}"
    )
    write(task / "train.parquet", "SELECT 1 AS uid")
    (folder / "tasks" / "without").mkdir()
    return folder


def write(file: Path, query: str) -> None:
    path = str(file).replace("'", "''")
    with duckdb.connect() as con:
        con.execute(f"COPY ({query}) TO '{path}'").fetchall()


@pytest.mark.parametrize("name", ["rel-f1", "rel-stack-travel"])
def test_relbench_folders_as_their_manifests_have_them(
    real_data: Callable[[str], Path], name: str
) -> None:
    folder = real_data(name)
    manifest = yaml.safe_load((folder / "manifest.yaml").read_text())["tables"]
    with datasets.load(folder) as session:
        schema = discover(session.connection)
        wanted = {
            table: (
                spec["pkey"],
                spec["time_col"],
                {c: f'"{to}".{manifest[to]["pkey"]}' for c, to in spec["fkeys"].items()},
            )
            for table, spec in manifest.items()
        }
        assert {n.strip('"'): facts(r) for n, r in schema.relations.items()} == wanted
        assert {o for r in schema.relations.values() for _, o in r.origins} == {"manifest"}
        for table, spec in manifest.items():  # RelBench's keys are 0 to n-1, in this order
            rows = session.sql(f'SELECT "{spec["pkey"]}" FROM "{table}"').arrow().column(0)
            assert rows.to_pylist() == list(range(len(rows)))
    # and inference alone finds the same
    guessed = inferred(folder / "db")
    assert {n.strip('"'): facts(r) for n, r in guessed.relations.items()} == wanted


def test_relbench_tasks(real_data: Callable[[str], Path]) -> None:
    tasks = {t.name: t for t in datasets.relbench_tasks(real_data("rel-f1"))}
    assert set(tasks) == {"driver-dnf", "driver-position", "driver-top3"}
    dnf = tasks["driver-dnf"]
    assert (dnf.entity_table, dnf.entity_col, dnf.time_col) == ("drivers", "driverId", "date")
    assert (dnf.timedelta, dnf.num_eval_timestamps) == ("30 days", 40)
    assert (dnf.val_timestamp, dnf.test_timestamp) == ("2005-01-01", "2010-01-01")
    assert dnf.sql is not None and "{timedelta}" in dnf.sql
    assert dnf.train is not None and dnf.train.is_file()


def test_a_manifest_overrules_names(shop: Path) -> None:
    with datasets.load(shop) as session:
        schema = discover(session.connection)
        assert facts(relation(schema, "users")) == ("uid", None, {})
        orders = relation(schema, "orders")
        assert facts(orders) == (None, "at", {"who": '"users".uid'})
        assert dict(orders.origins) == dict.fromkeys(["key", "time", "who"], "manifest")
        assert dict(relation(schema, "users").table.columns)["uid"] == "SMALLINT"


def test_what_a_task_lacks_is_none(shop: Path) -> None:
    (task,) = datasets.relbench_tasks(shop)
    assert (task.name, task.sql, task.val, task.eval_k) == ("churn", None, None, None)
    assert task.test_timestamp == "2020-06-01"
    assert task.remove_columns == (("users", "id"),)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("pkey: uid", "pkey: uidd", "names `users.uidd`, which is no column. Did you mean `uid`"),
        ("time_col: at", "time_col: it", "names `orders.it`"),
        ("who: users", "who: user", "to `user`, which is no table. Did you mean `users`"),
        ("who: users", "who: orders", "to `orders`, which has no key"),
        ("pkey: null", "pkey: time", "names `orders.time`"),
        ("pkey: null", "pkey: at", "2 of its values repeat or are NULL"),
        ("  users:", "  visitors:", "no db/visitors.parquet"),
        ("tables:", "table:", "lists no tables"),
        ("name: shop", "name: [", "is not YAML"),
    ],
)
def test_a_manifest_that_does_not_fit_loads_nothing(
    shop: Path, old: str, new: str, message: str
) -> None:
    (shop / "manifest.yaml").write_text(MANIFEST.replace(old, new))
    with connect() as session:
        with pytest.raises(DataError, match=message.replace(".", r"\.")):
            datasets.load(shop, session)
        assert session.sql("SHOW TABLES").fetchall() == []


def test_damaged_tables_load_nothing(shop: Path) -> None:
    (shop / "db" / "orders.parquet").write_text("no parquet")
    with connect() as session:
        with pytest.raises(DataError, match=r"orders\.parquet cannot be read"):
            datasets.load(shop, session)
        assert session.sql("SHOW TABLES").fetchall() == []


def test_a_table_that_is_there_is_kept(shop: Path) -> None:
    with connect() as session:
        session.sql("CREATE TABLE Users (x INTEGER)")
        with pytest.raises(DataError, match="already has users"):
            datasets.load(shop, session)


def test_into_a_session_a_connection_or_a_schema(shop: Path) -> None:
    with duckdb.connect() as con, connect() as session:
        assert datasets.load(shop, session) is session
        loaded = datasets.load(shop, con)
        assert isinstance(loaded, Session) and loaded.connection is con
        session.sql("CREATE SCHEMA again; USE again")
        datasets.load(shop, session)
        schema = discover(session.connection)
        assert facts(relation(schema, "orders"))[2] == {"who": '"users".uid'}
        assert facts(relation(schema, "main.orders"))[2] == {"who": '"main"."users".uid'}


def test_a_folder_of_files(tmp_path: Path) -> None:
    write(tmp_path / "users.parquet", "SELECT i AS id FROM range(5) t(i)")
    (tmp_path / "my orders.CSV").write_text("order_id,user_id\n1,4\n2,\n")
    (tmp_path / "notes.txt").write_text("nothing")
    with datasets.load(tmp_path) as session:
        schema = discover(session.connection)
        assert set(schema.relations) == {'"users"', '"my orders"'}
        assert facts(relation(schema, "my orders"))[2] == {"user_id": '"users".id'}
    (tmp_path / "Users.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match="two files for the table"):
        datasets.load(tmp_path)


def test_a_duckdb_file_with_its_keys(tmp_path: Path) -> None:
    with connect(tmp_path / "a.duckdb") as session:
        session.sql(
            "CREATE TABLE u (x INTEGER PRIMARY KEY); INSERT INTO u VALUES (2), (1);"
            "CREATE TABLE v (y INTEGER REFERENCES u (x), made_at DATE, id INTEGER);"
            "ALTER TABLE v SET (time = NULL)"
        )
    with datasets.load(tmp_path / "a.duckdb") as session:
        schema = discover(session.connection)
        assert facts(relation(schema, "u")) == ("x", None, {})
        assert facts(relation(schema, "v")) == (None, None, {"y": '"u".x'})
        assert session.sql("FROM u").fetchall() == [(2,), (1,)]
        assert session.sql("SELECT database_name FROM duckdb_databases() WHERE NOT internal") and (
            len(session.sql("SELECT 1 FROM duckdb_databases() WHERE NOT internal")) == 1
        )


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("a.db", b"junk" * 999, DataError, "cannot open a: .*not a valid DuckDB database"),
        ("a.txt", b"", DataError, "neither a folder nor a database"),
        ("", b"", DataError, "has neither manifest.yaml nor a file"),
        ("a b", None, DataError, "there is no folder or file"),
    ],
)
def test_what_cannot_be_loaded(
    tmp_path: Path, name: str, content: bytes | None, error: type[Exception], message: str
) -> None:
    if name and content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        datasets.load(tmp_path / name)


def test_a_relbench_name(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(load_dataset=lambda name: SimpleNamespace(dataset_dir=shop))
    monkeypatch.setitem(sys.modules, "relbench", found)
    with datasets.load("rel-shop") as session:
        assert relation(discover(session.connection), "users").key == "uid"


def test_a_relbench_name_without_the_package_or_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "relbench", None)
    with pytest.raises(EngineError, match=r"pip install 'relann\[relbench\]'"):
        datasets.load("rel-shop")

    def refuse(name: str) -> None:
        raise OSError("no route")

    monkeypatch.setitem(sys.modules, "relbench", SimpleNamespace(load_dataset=refuse))
    with pytest.raises(EngineError, match=r"cannot get the data set rel-shop.*no route"):
        datasets.load("rel-shop")


def test_an_extension_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(config_free := duckdb.connect()) as session:
        session.sql("SET autoinstall_known_extensions = false")
        session.sql("SET autoload_known_extensions = false")
        with pytest.raises(EngineError, match="with an extension that is not here"):
            datasets.load("postgres://localhost/x", session)
    config_free.close()
