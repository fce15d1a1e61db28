"""The session: DuckDB's statements untouched, ours dispatched, results in every form."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import os
import signal
import threading
import time
import uuid

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relann import DataError, EngineError, QueryError, RelannError, Result, connect
from relann.draft import Draft
from relann.duckdb_errors import duckdb_error_range, duckdb_error_text
from relann.errors import Span
from relann.models.library import definition
from relann.store import ModelRecord


class EchoModels:
    """Stands in for training: keeps what it is asked to create, predicts 0.5 for every row."""

    def __init__(self, connection, store):
        self.connection = connection
        self.store = store
        self.calls = []
        self.table_functions = {"ml_predict": self.predict, "ml_evaluate": self.evaluate}

    def create_model(self, statement):
        self.store.check_new(statement.name, statement.replace, statement.name_span)
        options = {o.name: o.value for o in statement.options}
        if options.get("fail"):
            raise DataError("no training rows")
        version = self.store.save_model(ModelRecord(statement.name, statement.sql, options))
        return f"version {version}"

    def check_layer(self, statement):
        if statement.name == "bad":
            raise QueryError("this layer is bad", statement.name_span)

    def explain(self, statement):
        with contextlib.suppress(duckdb.Error):
            self.connection.execute("DESCRIBE SELECT * FROM nowhere")
        return f"plan of {statement.name or statement.model.body.query.sql('duckdb')}"

    def predict(self, call):
        given = call.bound(["model"], ["query", "at"])
        self.calls.append({name: a.value for name, a in given.items() if a.kind != "query"})
        rows = given["query"].query if "query" in given else "SELECT 1 AS id"
        return self.connection.sql(f"SELECT *, 0.5 AS p FROM ({rows})").to_arrow_table()

    def evaluate(self, call):
        given = call.bound(["model"], ["split"])
        if given["model"].value == "missing":
            raise QueryError("no model is called `missing`")
        if given["model"].value == "broken":
            self.connection.execute("SELECT * FROM vanished")
        return pa.table({"metric": ["auroc"], "value": [0.75]})


@pytest.fixture
def con():
    with connect(models=EchoModels) as session:
        session.sql("CREATE TABLE t AS SELECT range AS id, 'r' || range AS name FROM range(3)")
        yield session


def refused(session, text, params=None):
    """The message and the underlined text of the QueryError that a text gives."""
    with pytest.raises(QueryError) as caught:
        session.sql(text, params)
    span = caught.value.span
    return caught.value.message, span and span.text[span.start : span.end]


class TestDuckDB:
    def test_rows(self, con):
        result = con.sql("SELECT * FROM t ORDER BY id")
        assert result.fetchall() == [(0, "r0"), (1, "r1"), (2, "r2")]
        assert (result.columns, result.types) == (["id", "name"], ["BIGINT", "VARCHAR"])

    def test_all_that_duckdb_reads_is_read(self, con, tmp_path):
        con.sql(f"COPY t TO '{tmp_path}/t.parquet'")
        con.sql(f"ATTACH '{tmp_path}/other.duckdb' AS other")
        con.sql(
            "CREATE TABLE other.u AS SELECT 7 AS id; CREATE VIEW v AS SELECT id + 1 AS id FROM t"
        )
        assert con.sql(f"SELECT count(*) FROM '{tmp_path}/t.parquet'").fetchall() == [(3,)]
        assert con.sql("SELECT max(v.id) + max(u.id) FROM v, other.u u").fetchall() == [(10,)]

    def test_statements_without_rows(self, con):
        for text, message in [
            ("INSERT INTO t VALUES (7, 'a')", "inserted 1 row"),
            ("UPDATE t SET name = 'b'", "updated 4 rows"),
            ("DELETE FROM t", "deleted 4 rows"),
            ("CREATE TABLE u AS SELECT * FROM range(1200)", "created with 1,200 rows"),
            ("CREATE TABLE w (a INT)", "create: done"),
            ("SET threads = 2", "set: done"),
            ("BEGIN", "begin: done"),
            ("ROLLBACK", "rollback: done"),
        ]:
            result = con.sql(text)
            assert (repr(result), result.columns, len(result)) == (message, [], 0)
        assert con.sql("INSERT INTO t VALUES (7, 'a') RETURNING id").fetchall() == [(7,)]
        assert con.sql('SELECT 1 AS "Count"').fetchall() == [(1,)]
        assert con.sql('DELETE FROM t RETURNING id AS "Count"').fetchall() == [(7,)]

    def test_the_last_rows_are_given(self, con):
        assert con.sql("SELECT 1; SELECT 2 AS a; SET threads = 2").fetchall() == [(2,)]
        assert repr(con.sql("CREATE TABLE a (b INT); DROP TABLE a")) == "drop: done"
        assert repr(con.sql(" -- nothing")) == ""

    def test_each_gives_every_result_as_it_comes(self, con):
        results = con.each("CREATE TABLE a (b INT); SELECT count(*) FROM a; SELECT 2")
        assert repr(next(results)) == "create: done"
        assert [r.fetchall() for r in results] == [[(0,)], [(2,)]]

    def test_parameters(self, con):
        assert con.sql("SELECT ?::INT + $2", [1, 2]).fetchall() == [(3,)]
        assert con.sql("SELECT $a + $a", {"a": 4}).fetchall() == [(8,)]
        assert con.sql("CREATE TABLE a (b INT); INSERT INTO a VALUES (?)", [1]).message
        assert "Values were not provided" in refused(con, "SELECT ?")[0]
        said, where = refused(con, "CREATE MODEL m AS SELECT 1", [1])
        assert (said, where) == ("this statement takes no parameters", "CREATE MODEL m AS SELECT 1")

    def test_one_connection(self, con):
        con.connection.execute("CREATE TEMP TABLE mine AS SELECT 5 AS a")
        assert con.sql("FROM mine").fetchall() == [(5,)]

    @pytest.mark.parametrize(
        ("text", "message", "underlined"),
        [
            ("SELECT\n  nme FROM t", 'Referenced column "nme" not found', "nme"),
            ("SELECT 1;\n -- a\n\nSELECT * FROM nowhere", "nowhere does not exist", "nowhere"),
            ("SELECT 'ü日本', foo FROM t", '"foo" not found', "foo"),
            ("SELECT 'x'::INT", "Could not convert", "::INT"),
            ("SELEC 1", "syntax error", "SELEC"),
            ("SELECT * FROM session", "session does not exist", "session"),
            ("SELECT * FROM _text", "_text does not exist", "_text"),
            ("COMMIT", "no transaction is active", "COMMIT"),
        ],
    )
    def test_its_errors_are_underlined_in_the_users_text(self, con, text, message, underlined):
        said, where = refused(con, text)
        assert message in said and "LINE" not in said
        assert where == underlined

    def test_its_exception_is_the_cause(self, con):
        with pytest.raises(QueryError) as caught:
            con.sql("SELECT nme FROM t")
        assert isinstance(caught.value.__cause__, duckdb.BinderException)

    def test_a_failed_transaction_waits_for_its_rollback(self, con):
        con.sql("BEGIN; INSERT INTO t VALUES (9, 'x')")
        refused(con, "SELECT nme FROM t")
        assert "aborted" in refused(con, "SELECT 1")[0]
        con.sql("ROLLBACK")
        assert len(con.sql("FROM t")) == 3

    def test_a_mistake_of_ours_does_not_end_the_users_transaction(self, con):
        con.sql("BEGIN; INSERT INTO t VALUES (9, 'x')")
        refused(con, "INSERT INTO t VALUES (10, 'y'); CREATE MODEL m")
        con.sql("COMMIT")
        assert len(con.sql("FROM t")) == 4

    def test_questions_of_ours_do_not_end_the_users_transaction(self, con):
        con.sql("BEGIN; INSERT INTO t VALUES (9, 'x')")
        con.sql("EXPLAIN MODEL AS SELECT 1")
        assert con.explain("m") == "plan of m"
        con.sql("COMMIT")
        assert len(con.sql("FROM t")) == 4
        con.sql("BEGIN")
        refused(con, "SELECT * FROM nowhere")  # and DuckDB's own rule is back
        assert "aborted" in refused(con, "SELECT 1")[0]
        assert "aborted" in refused(con, "EXPLAIN MODEL m")[0]

    def test_an_interrupt_stops_the_statement_and_keeps_the_session(self, con):
        def press():
            time.sleep(1)
            os.kill(os.getpid(), signal.SIGINT)

        old = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            threading.Thread(target=press).start()
            with pytest.raises(KeyboardInterrupt):
                con.sql("SELECT count(*) FROM range(100000000000) a, range(9999) b WHERE a < b")
        finally:
            signal.signal(signal.SIGINT, old)
        assert con.sql("SELECT 1").fetchall() == [(1,)]

    def test_other_threads_may_ask(self, con):
        found = []
        asking = threading.Thread(target=lambda: found.append(con.sql("SELECT 1").fetchall()))
        asking.start()
        asking.join()
        assert found == [[(1,)]]


class TestConnect:
    def test_file(self, tmp_path):
        with connect(tmp_path / "a.duckdb") as con:
            con.sql("CREATE TABLE t AS SELECT 1 AS a")
        with connect(str(tmp_path / "a.duckdb"), read_only=True) as con:
            assert con.sql("FROM t").fetchall() == [(1,)]
            assert "read-only" in refused(con, "DROP TABLE t")[0]
        assert "closed" in refused(con, "SELECT 1")[0]

    def test_a_connection_stays_its_owners(self):
        own = duckdb.connect()
        with connect(own) as con:
            con.sql("CREATE TABLE t AS SELECT 1 AS a")
        assert own.execute("FROM t").fetchall() == [(1,)]

    def test_what_cannot_be_opened(self, tmp_path):
        (tmp_path / "text").write_text("not a database, only some text in a file" * 99)
        for path in (tmp_path / "none" / "a.duckdb", tmp_path / "text", tmp_path):
            with pytest.raises(EngineError, match="cannot open database"):
                connect(path)
        with pytest.raises(EngineError, match="read_only"):
            connect(duckdb.connect(), read_only=True)


class TestOurs:
    def test_models(self, con):
        assert repr(con.sql("CREATE MODEL m OPTIONS (lr = 0.1) AS SELECT 1")) == "version 1"
        assert repr(con.sql("CREATE OR REPLACE MODEL M AS SELECT 2")) == "version 2"
        shown = con.sql("SHOW MODELS")
        assert [row[:2] for row in shown.fetchall()] == [("m", 2)]
        assert repr(con.sql("EXPLAIN MODEL m")) == "plan of m"
        assert repr(con.sql("DROP MODEL M")) == "model `M` is dropped"
        assert repr(con.sql("DROP MODEL IF EXISTS m")) == "model `m` was not there"
        assert len(con.sql("SHOW MODELS")) == 0

    def test_an_existing_name_is_refused_before_training(self, con):
        con.sql("CREATE MODEL m AS SELECT 1")
        text = "CREATE MODEL m OPTIONS (fail = true) AS SELECT 1"
        said, where = refused(con, text)
        assert "exists already (version 1); CREATE OR REPLACE" in said and where == "m"

    def test_a_failed_replacement_leaves_the_old_model(self, con):
        con.sql("CREATE MODEL m AS SELECT 1")
        with pytest.raises(DataError, match="no training rows"):
            con.sql("CREATE OR REPLACE MODEL m OPTIONS (fail = true) AS SELECT 1")
        assert con.store.model("m").version == 1

    def test_layers(self, con):
        text = "CREATE LAYER f(x, n = 4) AS SELECT linear(v, n) FROM x"
        con.sql(text)
        own, *published = con.sql("SHOW LAYERS").fetchall()
        assert own[:2] == ("f", text) and own[2] is not None
        assert [(n, d) for n, d, _ in published] == [(n, definition(n)) for n, _, _ in published]
        assert {"relann.gcn", "relann.decode_dot", "relann.cycle_3"} <= {n for n, *_ in published}
        assert {created for *_, created in published} == {None}
        assert "exists already" in refused(con, text)[0]
        con.sql("CREATE OR REPLACE LAYER f(y) AS SELECT 1; DROP LAYER f")
        assert refused(con, "DROP LAYER f") == ("no layer is called `f`.", "f")
        assert refused(con, "CREATE LAYER bad() AS SELECT 1") == ("this layer is bad", "bad")
        assert con.store.layer("bad") is None

    def test_explain(self, con):
        assert con.explain("m@2") == "plan of m@2"
        assert con.explain("SELECT linear(x, 2) FROM t") == "plan of SELECT LINEAR(x, 2) FROM t"
        assert con.explain("CREATE MODEL a AS SELECT 1; CREATE MODEL b AS SELECT 2") == (
            "plan of SELECT 1\n\nplan of SELECT 2"
        )
        assert repr(con.sql("EXPLAIN MODEL AS SELECT 3")) == "plan of SELECT 3"

    def test_all_statements_are_read_before_the_first_runs(self, con):
        refused(con, "CREATE TABLE early (a INT); CREATE MODEL m AS SELECT a FORM t")
        assert "does not exist" in refused(con, "FROM early")[0]

    def test_writes_belong_to_an_open_transaction(self, con):
        con.sql("BEGIN; CREATE MODEL m AS SELECT 1; CREATE LAYER f() AS SELECT 1")
        assert con.store.model("m").version == 1
        con.sql("ROLLBACK")
        assert con.store.models() == [] and con.store.layers() == []
        con.sql("BEGIN; CREATE MODEL m AS SELECT 1; COMMIT")
        assert con.store.model("m").version == 1


class TestTableFunctions:
    def test_stand_for_rows(self, con):
        text = "SELECT id, p FROM ml_predict('m', (SELECT id FROM t WHERE id > 0)) ORDER BY id"
        assert [(i, float(p)) for i, p in con.sql(text)] == [(1, 0.5), (2, 0.5)]

    def test_keep_their_name_and_take_another(self, con):
        text = (
            "SELECT ml_predict.id, e.value FROM ml_predict(m) JOIN ml_evaluate(m) e ON true "
            "JOIN ml_evaluate(m, split => 'test') AS f USING (metric)"
        )
        assert con.sql(text).fetchall() == [(1, 0.75)]

    def test_see_the_tables_of_the_query_around(self, con):
        text = """
            WITH a AS (SELECT id FROM t WHERE id > 0),
                 b AS (SELECT id, p FROM ml_predict(m, a))
            SELECT x.id, x.p_1 FROM (
                WITH a AS (SELECT id + 10 AS id FROM a)
                SELECT id, p AS p_1
                FROM ml_predict(m, (SELECT a.id FROM a JOIN b ON a.id = b.id + 10))
            ) x ORDER BY x.id"""
        assert [i for i, _ in con.sql(text)] == [11, 12]

    def test_inside_each_other(self, con):
        text = "SELECT count(*) FROM ml_predict(m, (SELECT id FROM ml_predict(m, t)))"
        assert con.sql(text).fetchall() == [(3,)]

    def test_values_are_computed(self, con):
        con.sql("FROM ml_predict(m, at => TIMESTAMP '2020-01-01' + INTERVAL 1 DAY)")
        assert con._models.calls == [{"model": "m", "at": datetime.datetime(2020, 1, 2)}]

    def test_anywhere_a_table_is(self, con):
        con.sql("CREATE TABLE kept AS SELECT * FROM ml_predict(m, t)")
        con.sql("INSERT INTO kept SELECT * FROM ml_predict(m, t)")
        assert con.sql("SELECT count(*) FROM kept").fetchall() == [(6,)]
        con.sql("DELETE FROM kept USING ml_predict(m) q WHERE kept.id = q.id")
        assert con.sql("SELECT count(*) FROM kept").fetchall() == [(4,)]

    def test_in_a_transaction(self, con):
        con.sql("BEGIN; INSERT INTO t VALUES (3, 'a'); CREATE TABLE k AS FROM ml_predict(m, t)")
        assert len(con.sql("FROM k")) == 4
        refused(con, "SELECT nope FROM ml_predict(m)")
        con.sql("ROLLBACK")
        assert len(con.sql("FROM ml_predict(m, t)")) == 3

    def test_leave_nothing_behind(self, con):
        con.sql("FROM ml_predict(m)")
        refused(con, "SELECT nope FROM ml_predict(m)")
        assert con.sql("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall() == []

    @pytest.mark.parametrize(
        ("text", "message", "underlined"),
        [
            ("SELECT a,\n nope FROM ml_predict(m) q(a)", '"nope" not found', "nope"),
            ("SELECT 1 FROM ml_predict(m) WHERE nope", '"nope" not found', "nope"),
            ("FROM ml_predict(m, (SELECT nope FROM t))", '"nope" not found', "nope"),
            ("WITH a AS (SELECT 1 AS b) FROM ml_predict(m, (SELECT nope FROM a))", "nope", "nope"),
            ("FROM ml_predict(m, at => 1 + nope)", '"nope" was not found', "nope"),
            ("FROM ml_evaluate(missing)", "no model is called", "ml_evaluate(missing)"),
            ("FROM ml_evaluate(broken)", "vanished does not exist", "ml_evaluate(broken)"),
            ("FROM ml_evaluate(m, splt => 1)", "Did you mean `split`?", "1"),
            ("FROM ml_evalute(m)", "Did you mean `ml_evaluate`?", "ml_evalute"),
            ("CREATE VIEW v AS FROM ml_predict(m)", "CREATE TABLE … AS", "ml_predict"),
        ],
    )
    def test_mistakes_are_underlined(self, con, text, message, underlined):
        said, where = refused(con, text)
        assert message in said
        assert where == underlined

    def test_a_macro_of_that_prefix_is_the_users(self, con):
        con.sql("CREATE MACRO ml_mine(a) AS TABLE SELECT a AS b")
        assert con.sql("SELECT b FROM ml_mine(4)").fetchall() == [(4,)]


class TestResults:
    @pytest.fixture
    def rows(self):
        with connect() as con:
            yield con.sql

    def test_fetching(self, rows):
        result = rows("SELECT * FROM range(3) t(a)")
        assert result.fetchone() == (0,)
        assert result.fetchall() == [(0,), (1,), (2,)]
        assert [result.fetchone() for _ in range(3)] == [(1,), (2,), None]
        assert len(result) == 3 and list(result) == result.fetchall()
        empty = rows("SELECT 1 AS a WHERE false")
        assert (len(empty), bool(empty), empty.fetchall(), empty.fetchone()) == (0, True, [], None)

    def test_python_values(self, rows):
        (row,) = rows(
            "SELECT sum(2), 1.50::DECIMAL(4, 2), [1, NULL], map {'a': 1}, {'b': 2}, "
            "DATE '2020-01-02', "
            "'a'::BLOB, '00000000-0000-0000-0000-000000000001'::UUID, 'x'::ENUM ('x'), NULL, "
            "TIMESTAMPTZ '2020-01-01 00:00:00+00'"
        )
        assert row[:-1] == (
            2,
            decimal.Decimal("1.50"),
            [1, None],
            {"a": 1},
            {"b": 2},
            datetime.date(2020, 1, 2),
            b"a",
            uuid.UUID(int=1),
            "x",
            None,
        )
        assert isinstance(row[0], int)
        assert row[-1] == datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)

    def test_frame(self, rows):
        frame = rows(
            "SELECT sum(2) AS h, 1.5::DECIMAL(3, 1) AS d, DATE '2020-01-02' AS t, 2::INT AS i, "
            "1e30::HUGEINT AS big, map {'a': 1} AS m"
        ).df()
        kinds = [frame[c].dtype.kind for c in ("h", "d", "t", "i", "big")]
        assert kinds == ["i", "f", "M", "i", "f"]
        assert frame["m"][0] == {"a": 1}

    def test_arrow(self, rows):
        table = rows("SELECT 1 AS a, [1, 2]::FLOAT[2] AS v").arrow()
        assert table.schema.types == [pa.int32(), pa.list_(pa.float32(), 2)]

    def test_tensors(self, rows):
        tensors = rows(
            "SELECT a, a > 0 AS b, a / 2 AS c, [a, NULL]::FLOAT[2] AS v, sum(a) OVER () AS h, "
            "a::DECIMAL(4, 1) AS d, NULL::FLOAT AS n, a::UTINYINT AS u FROM range(3) t(a)"
        ).torch()
        assert tensors["a"].tolist() == [0, 1, 2] and tensors["a"].dtype == torch.int64
        assert tensors["b"].tolist() == [False, True, True] and tensors["b"].dtype == torch.bool
        assert tensors["c"].tolist() == [0, 0.5, 1]
        assert tensors["v"].shape == (3, 2) and tensors["v"].dtype == torch.float32
        assert tensors["v"][:, 0].tolist() == [0, 1, 2] and bool(tensors["v"][:, 1].isnan().all())
        assert tensors["h"].tolist() == [3, 3, 3] and tensors["d"].dtype == torch.float64
        assert bool(tensors["n"].isnan().all()) and tensors["u"].dtype == torch.uint8
        tensors["a"][0] = 5  # a copy, and so writable

    def test_tensors_of_missing_vectors_and_of_no_rows(self, rows):
        vectors = rows("SELECT [1, 2]::FLOAT[2] AS v UNION ALL SELECT NULL ORDER BY v").torch()["v"]
        assert vectors[0].tolist() == [1, 2] and bool(vectors[1].isnan().all())
        empty = rows("SELECT 1 AS a, [1, 2]::FLOAT[2] AS v WHERE false").torch()
        assert empty["a"].shape == (0,) and empty["v"].shape == (0, 2)

    def test_tensors_of_arrow_tables_from_elsewhere(self):
        values, missing = pa.array([1.0, 2, 3, 4, 5, 6]), pa.array([False, False, True])
        vectors = pa.FixedSizeListArray.from_arrays(values, 2, mask=missing)
        tensor = Result(pa.table({"v": vectors}).slice(1)).torch()["v"]
        assert tensor[0].tolist() == [3, 4] and bool(tensor[1].isnan().all())

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("SELECT 'a' AS s", "column `s` is VARCHAR, not numbers"),
            ("SELECT DATE '2020-01-01' AS d", "column `d` is DATE"),
            ("SELECT [1, 2] AS l", r"column `l` is INTEGER\[\]"),
            ("SELECT NULL::INT AS i", r"column `i` \(INTEGER\) holds 1 NULL"),
            ("SELECT NULL::BOOLEAN AS b", "column `b` .* coalesce"),
            ("SELECT 1 AS a, 2 AS a", "two columns are named `a`"),
        ],
    )
    def test_no_tensors(self, rows, text, message):
        with pytest.raises(DataError, match=message):
            rows(text).torch()

    def test_shown(self, rows, monkeypatch):
        monkeypatch.setenv("COLUMNS", "80")
        shown = repr(rows("SELECT 1 AS a, 'ü' AS \"[b]\", NULL AS c, 0.1::FLOAT AS f, true AS t"))
        assert shown.splitlines() == [
            "╭─────────┬─────────┬──────┬───────┬─────────╮",
            "│       a │ [b]     │ c    │     f │ t       │",
            "│ integer │ varchar │ null │ float │ boolean │",
            "├─────────┼─────────┼──────┼───────┼─────────┤",
            "│       1 │ ü       │ NULL │   0.1 │ true    │",
            "╰─────────┴─────────┴──────┴───────┴─────────╯",
            "1 row, 5 columns",
        ]

    @pytest.mark.parametrize("width", [20, 40, 80, 200])
    def test_shown_within_the_width(self, rows, monkeypatch, width):
        monkeypatch.setenv("COLUMNS", str(width))
        columns = ", ".join(f"repeat('日x', {i}) AS c{i}" for i in range(30))
        lines = repr(rows(f"SELECT {columns} FROM range(2000)")).splitlines()
        assert len(lines) == 26
        assert lines[-1].startswith("2,000 rows (20 shown")
        assert all(len(line) <= width for line in lines[:-1]) and "c0" in lines[1]
        assert "c29" in lines[1] or width == 20

    def test_shown_in_notebooks(self, rows):
        page = rows("SELECT '<b>' AS \"<i>\"")._repr_html_()
        assert "&lt;b&gt;" in page and "<i>" not in page and "1 row, 1 column" in page
        assert rows("SET threads = 2")._repr_html_() == "<pre>set: done</pre>"


class TestPlacesOfErrors:
    @pytest.mark.parametrize(
        "text",
        [
            "SELECT foo",
            "SELECT 'é', foo",
            "SELECT '日本語', foo",
            "SELECT '🙂', foo",
            "SELECT\t'a',\tfoo",
            "SELECT 1,\r\n\tfoo",
            "SELECT 1,\r foo",
            "SELECT\n\n\u00a0foo -- x",
            f"SELECT '{'a' * 99}', foo, '{'b' * 99}'",
            f"SELECT '{'日' * 99}', foo",
            f"SELECT foo, '{'é' * 99}'",
            "SELECT '...', foo",
        ],
    )
    def test_found_again(self, text):
        with pytest.raises(duckdb.BinderException) as caught:
            duckdb.connect().execute(text)
        start, end = duckdb_error_range(caught.value, text)
        assert text[start:end] == "foo"
        assert duckdb_error_text(caught.value).startswith('Referenced column "foo"')

    @given(st.text("aé日🙂\t\n ',_", max_size=60), st.text("bé日\t ", max_size=60))
    def test_in_any_text(self, before, after):
        text = "SELECT '" + before.replace("'", "''") + "', foo, '" + after + "'"
        with pytest.raises(duckdb.Error) as caught:
            duckdb.connect().execute(text)
        found = duckdb_error_range(caught.value, text)
        assert found is None or text[slice(*found)] == "foo"

    def test_no_place(self):
        assert duckdb_error_range(duckdb.Error("IO Error: disk"), "SELECT 1") is None
        assert duckdb_error_range(duckdb.Error("X Error: a\n\nLINE 9: b\n        ^"), "a") is None
        assert duckdb_error_text(duckdb.Error("IO Error: disk Error: full")) == "disk Error: full"


class TestDraft:
    @given(st.text(max_size=30), st.data())
    def test_every_other_character_stays(self, text, data):
        draft, expected, shift = Draft(text), text, 0
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6, unique=True)))
        for start, end in zip(cuts[::2], cuts[1::2], strict=False):
            draft.replace(Span(text, start, end), "<new>")
            expected = expected[: start + shift] + "<new>" + expected[end + shift :]
            shift += len("<new>") - (end - start)
        sql = draft.sql(Span(text, 0, len(text)))
        assert str(sql) == expected
        for at, character in enumerate(expected):
            span = sql.span(at, at + 1)
            own = text[span.start : span.end]
            assert own == character or "<new>" in expected[max(0, at - 4) : at + 5]

    def test_a_replacement_takes_in_those_inside_it(self):
        draft = Draft("f(g(x))")
        draft.replace(Span("f(g(x))", 2, 6), "1")
        assert str(draft.sql(Span("f(g(x))", 0, 7))) == "f(1)"
        draft.replace(Span("f(g(x))", 0, 7), "2")
        assert str(draft.sql(Span("f(g(x))", 0, 7))) == "2"


@given(st.text(max_size=30))
def test_any_text_gives_a_result_or_an_error_of_ours(text):
    with connect(models=EchoModels) as con:
        try:
            assert isinstance(con.sql(text), Result)
        except RelannError as error:
            assert str(error)


def test_numbers_are_shown_as_they_are_stored():
    table = pa.table({"f": pa.array([0.1], pa.float32()), "d": [1 / 3], "n": np.array([10**12])})
    assert all(text in repr(Result(table)) for text in ("0.1 ", "0.3333333333333333", str(10**12)))
