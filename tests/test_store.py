"""The store: what goes in comes out, all or nothing, and damage is told."""

from __future__ import annotations

import datetime
import subprocess
import sys
import textwrap
from decimal import Decimal

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import torch

from relann.errors import DataError, QueryError, Span
from relann.store import ModelRecord, Store


@pytest.fixture
def connection():
    return duckdb.connect()


@pytest.fixture
def store(connection):
    return Store(connection)


def record(name="m", **changes):
    return ModelRecord(name, f"CREATE MODEL {name} AS SELECT 1", **changes)


class TestModels:
    def test_come_back_as_they_went_in(self, store):
        shared = torch.randn(4, 3)
        weights = {
            "b": torch.arange(3),
            "a": shared,
            "tied": shared,
            "view": shared.t(),
            "one": torch.tensor(2.0, dtype=torch.float64),
            "none": torch.zeros(0, 5),
            "learned": torch.nn.Parameter(torch.ones(2)),
        }
        state = {
            "m.category_0": pa.table(
                {
                    "value": ["a", None, "ü"],
                    "seen": pa.array([1, 2, 3], pa.timestamp("us")),
                    "n": pa.array([Decimal("1.5"), None, 2], pa.decimal128(9, 2)),
                }
            ),
            "classes": pa.table({"v": pa.array([], pa.int16())}),
        }
        put = record(
            options={"lr": 0.1, "seed": None, "split": ("a", 1)},
            metrics={"auroc": np.float32(0.5), "loss": float("nan")},
            curve=[{"epoch": 1, "loss": 0.25}, {"epoch": 2, "loss": float("inf")}],
            info={"classes": ["x"]},
            schema_hash="abc",
            weights=weights,
            state=state,
        )
        assert store.save_model(put) == 1
        got = store.model("m")
        assert (got.name, got.version, got.definition) == ("m", 1, put.definition)
        assert got.options == {"lr": 0.1, "seed": None, "split": ["a", 1]}
        assert got.metrics == {"auroc": 0.5, "loss": None}
        assert got.curve == [{"epoch": 1, "loss": 0.25}, {"epoch": 2, "loss": None}]
        assert (got.info, got.schema_hash) == ({"classes": ["x"]}, "abc")
        assert list(got.weights) == sorted(weights)
        for name, tensor in weights.items():
            assert torch.equal(got.weights[name], tensor)
            assert got.weights[name].dtype == tensor.dtype
        assert got.state == state
        now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        assert abs(now - got.created_at) < datetime.timedelta(minutes=1)

    def test_versions(self, store):
        for options in ({"lr": 1}, {"lr": 2}, {"lr": 3}):
            store.save_model(record(options=options))
        assert store.model("m").options == {"lr": 3}
        assert store.model("m@1").options == store.model("m", 1).options == {"lr": 1}
        with pytest.raises(QueryError, match="has no version 4; it has 3, 2, 1"):
            store.model("m@4")

    def test_names_are_the_same_in_any_case(self, store):
        assert [store.save_model(record(n)) for n in ("Größe", "grösse", "GRÖßE")] == [1, 1, 2]
        assert store.model("größe").version == 2
        assert [e.name for e in store.models()] == ["Größe", "grösse"]

    def test_a_name_may_hold_anything(self, store):
        name = "a 'b' \"c\"; DROP -- @x"
        store.save_model(record(name))
        assert store.model(name).name == name

    def test_are_listed(self, store):
        assert store.models() == []
        store.save_model(record("b", weights={"w": torch.zeros(2, 3), "v": torch.zeros(1)}))
        store.save_model(record("a"))
        store.save_model(record("b", metrics={"auroc": 0.5}))
        listed = [(e.name, e.version, e.parameters, e.metrics) for e in store.models()]
        assert listed == [("a", 1, 0, {}), ("b", 2, 0, {"auroc": 0.5})]

    def test_unknown_names(self, store):
        with pytest.raises(QueryError, match="There are no models in this database"):
            store.model("m")
        store.save_model(record("churn"))
        span = Span("ml_predict('chrun')", 11, 18)
        with pytest.raises(
            QueryError, match=r"no model is called `chrun`\. Did you mean `churn`\?"
        ):
            store.model("chrun", span=span)

    def test_an_existing_name(self, store):
        store.check_new("m", replace=False)
        store.save_model(record())
        store.check_new("M", replace=True)
        with pytest.raises(QueryError, match=r"`m` exists already \(version 1\)"):
            store.check_new("M", replace=False)

    def test_dropping_forgets_every_version_and_its_state(self, store, connection):
        for _ in range(2):
            store.save_model(record(state={"s": pa.table({"a": [1]})}))
        store.save_model(record("other", state={"s": pa.table({"a": [1]})}))
        assert store.drop_model("M")
        assert not store.drop_model("m", if_exists=True)
        with pytest.raises(QueryError, match="no model is called `m`"):
            store.drop_model("m")
        assert connection.execute("SELECT name FROM relann.state").fetchall() == [("other",)]
        assert store.save_model(record()) == 1

    def test_dropping_one_version(self, store, connection):
        for options in ({"lr": 1}, {"lr": 2}, {"lr": 3}):
            store.save_model(record(options=options, state={"s": pa.table({"a": [1]})}))
        for name in ("m@1 x", "m@2 x", "m@21 x"):
            connection.execute(f'CREATE TABLE relann."{name}" AS SELECT 1')
        assert store.drop_model("M@2")
        assert [v.version for v in store.versions("m")] == [3, 1]
        state = "SELECT version FROM relann.state ORDER BY 1"
        assert connection.execute(state).fetchall() == [(1,), (3,)]
        tables = "SELECT table_name FROM duckdb_tables() WHERE contains(table_name, '@') ORDER BY 1"
        assert connection.execute(tables).fetchall() == [("m@1 x",), ("m@21 x",)]
        assert not store.drop_model("m@2", if_exists=True)
        with pytest.raises(QueryError, match="`m` has no version 2; it has 3, 1"):
            store.drop_model("m@2")
        with pytest.raises(QueryError, match="no model is called `n`"):
            store.drop_model("n@2")

    def test_without_its_newest_version_a_model_is_what_it_was(self, store):
        for options in ({"lr": 1}, {"lr": 2}):
            store.save_model(record(options=options))
        store.drop_model("m@2")
        assert store.model("m").options == {"lr": 1}
        assert store.save_model(record(options={"lr": 3})) == 2
        store.drop_model("m@1")
        store.drop_model("m@2")
        assert store.models() == []

    def test_what_is_no_json_is_refused_before_anything_is_written(self, store):
        with pytest.raises(TypeError):
            store.save_model(record(info={"a": object()}))
        assert store.models() == []


class TestLayers:
    def test_are_kept_replaced_and_dropped(self, store):
        assert store.layer("f") is None
        store.save_layer("f", "CREATE LAYER f() AS SELECT 1")
        with pytest.raises(QueryError, match="`f` exists already"):
            store.save_layer("F", "x")
        store.save_layer("F", "CREATE LAYER F() AS SELECT 2", replace=True)
        assert store.layer("f").definition == "CREATE LAYER F() AS SELECT 2"
        store.save_layer("sage", "x")
        assert [v.name for v in store.layers()] == ["F", "sage"]
        with pytest.raises(QueryError, match="Did you mean `sage`"):
            store.drop_layer("sgae")
        assert store.drop_layer("f") and not store.drop_layer("f", if_exists=True)


class TestTheDatabase:
    def test_is_not_cluttered_and_not_touched_by_reading(self, store, connection):
        assert store.models() == [] and store.layers() == [] and store.layer("f") is None
        store.drop_model("m", if_exists=True)
        schemas = "SELECT count(*) FROM duckdb_schemas() WHERE schema_name = 'relann'"
        assert connection.execute(schemas).fetchone() == (0,)
        store.save_model(record())
        assert connection.execute("SHOW TABLES").fetchall() == []

    def test_keeps_models_in_its_file(self, tmp_path):
        with duckdb.connect(str(tmp_path / "a.duckdb")) as connection:
            Store(connection).save_model(record(weights={"w": torch.ones(3)}))
        with duckdb.connect(str(tmp_path / "a.duckdb"), read_only=True) as connection:
            store = Store(connection)
            assert store.model("m").weights["w"].tolist() == [1, 1, 1]
            assert len(store.models()) == 1
            for write in (
                lambda: store.check_new("n", replace=False),
                lambda: store.save_model(record()),
                lambda: store.save_layer("f", "x"),
                lambda: store.drop_model("m"),
            ):
                with pytest.raises(DataError, match="`a` is open read-only"):
                    write()

    def test_is_the_current_one(self, store, connection, tmp_path):
        connection.execute(f'ATTACH \'{tmp_path}/b.duckdb\' AS "b c"; USE "b c"')
        store.save_model(record())
        connection.execute("USE memory")
        assert store.models() == []
        connection.execute('USE "b c"')
        assert len(store.models()) == 1

    def test_of_a_newer_format_is_refused(self, store, connection):
        store.save_model(record())
        connection.execute("UPDATE relann.format SET version = 2")
        for use in (store.models, lambda: store.model("m"), lambda: store.save_model(record())):
            with pytest.raises(DataError, match="kept in format 2"):
                use()


class TestTransactions:
    def test_the_users_holds_what_is_written(self, store, connection):
        connection.begin()
        store.save_model(record())
        store.save_layer("f", "x")
        assert store.model("m").version == 1
        connection.rollback()
        assert store.models() == [] and store.layers() == []
        connection.begin()
        store.save_model(record())
        connection.commit()
        assert len(store.models()) == 1

    def test_drop_and_create_in_one(self, store, connection):
        store.save_model(record(state={"s": pa.table({"a": [1]})}))
        connection.begin()
        store.drop_model("m")
        assert store.save_model(record(state={"s": pa.table({"a": [2]})})) == 1
        connection.commit()
        assert store.model("m").state["s"].to_pydict() == {"a": [2]}

    def test_a_failure_undoes_all_of_a_save(self, store, connection):
        store.save_model(record())
        broken = Store(Failing(connection, 'INSERT INTO "memory".relann.state'))
        with pytest.raises(DataError, match="cannot be used: out of disk"):
            broken.save_model(record(state={"s": pa.table({"a": [1]})}))
        assert [e.version for e in store.models()] == [1]
        assert store.save_model(record()) == 2

    def test_a_failed_commit_is_told(self, connection, store):
        broken = Store(Failing(connection, "COMMIT"))
        with pytest.raises(DataError, match="out of disk"):
            broken.save_model(record())
        assert store.models() == []

    def test_an_aborted_one_says_so(self, store, connection):
        connection.begin()
        with pytest.raises(duckdb.Error):
            connection.execute("SELECT * FROM nowhere")
        with pytest.raises(DataError, match="transaction is aborted"):
            store.models()

    def test_two_at_once(self, tmp_path):
        first = duckdb.connect(str(tmp_path / "a.duckdb"))
        second = first.cursor()
        Store(first).save_model(record())
        first.begin()
        assert Store(first).save_model(record()) == 2
        assert Store(second).save_model(record()) == 2
        with pytest.raises(duckdb.Error):
            first.commit()
        assert [e.version for e in Store(second).models()] == [2]

    def test_a_process_killed_in_a_save_leaves_the_old_model(self, tmp_path):
        program = f"""
            import os, signal, duckdb, pyarrow as pa, torch
            from relann.store import ModelRecord, Store

            def kill(sql):
                if sql.startswith("INSERT") and ".state " in sql:
                    os.kill(os.getpid(), signal.SIGKILL)

            class Watched(Store):
                def _run(self, sql, values=()):
                    kill(sql)
                    return super()._run(sql, values)

            connection = duckdb.connect({str(tmp_path / "a.duckdb")!r})
            weights = {{"w": torch.ones(1000, 1000)}}
            Store(connection).save_model(ModelRecord("m", "old", weights=weights))
            new = ModelRecord("m", "new", weights=weights, state={{"s": pa.table({{"a": [1]}})}})
            Watched(connection).save_model(new)
        """
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
        assert done.returncode == -9
        with duckdb.connect(str(tmp_path / "a.duckdb")) as connection:
            kept = Store(connection).model("m")
            assert (kept.version, kept.definition) == (1, "old")
            assert Store(connection).save_model(record()) == 2


class Failing:
    """A connection that fails at one statement."""

    def __init__(self, connection, at):
        self.connection = connection
        self.at = at

    def execute(self, sql, values=None):
        if sql.startswith(self.at):
            raise duckdb.IOException("IO Error: out of disk")
        return self.connection.execute(sql, values)

    def rollback(self):
        self.connection.rollback()


class TestDamage:
    @pytest.fixture
    def kept(self, store, connection):
        weights = {"w": torch.ones(8)}
        store.save_model(record(weights=weights, state={"s": pa.table({"a": [1, 2]})}))
        return connection

    @pytest.mark.parametrize(
        "blob", ["weights[:20]", "''::BLOB", "'foreign'::BLOB", "weights || '\\x00'::BLOB"]
    )
    def test_weights(self, store, kept, blob):
        kept.execute(f"UPDATE relann.models SET weights = {blob}")
        with pytest.raises(DataError, match=r"the weights of model `m` \(version 1\) do not match"):
            store.model("m")

    def test_foreign_weights_with_their_own_checksum(self, store, kept):
        kept.execute(
            "UPDATE relann.models SET weights = 'foreign', weights_sha256 = sha256('foreign')"
        )
        with pytest.raises(DataError, match=r"the weights of model `m` .* are damaged"):
            store.model("m")

    @pytest.mark.parametrize("blob", ["data[:9]", "''::BLOB"])
    def test_state(self, store, kept, blob):
        kept.execute(f"UPDATE relann.state SET data = {blob}")
        with pytest.raises(DataError, match="the state `s` of model `m`"):
            store.model("m")

    def test_foreign_state_with_its_own_checksum(self, store, kept):
        kept.execute("UPDATE relann.state SET data = 'foreign', sha256 = sha256('foreign')")
        with pytest.raises(DataError, match=r"the state `s` of model `m` .* is damaged"):
            store.model("m")
