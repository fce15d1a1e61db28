"""Statements: what is recognised, where it stands, and what is said when it is wrong."""

from __future__ import annotations

import logging

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from relann.algebra.lexing import lex
from relann.algebra.parse import explanation, statements
from relann.algebra.statements import (
    AddForeignKey,
    CreateLayer,
    CreateModel,
    CreateTask,
    Drop,
    DropForeignKey,
    Explain,
    ExportModel,
    ImportModel,
    Passthrough,
    SetFacts,
    Show,
)
from relann.algebra.table_calls import TableCall, table_function_calls
from relann.errors import QueryError, Span

KNOWN = ("ml_predict", "ml_evaluate", "ml_training_info", "ml_weights")


def one(text):
    (statement,) = statements(text)
    return statement


def cut(span: Span) -> str:
    return span.text[span.start : span.end]


def error(text, read=statements) -> tuple[str, str]:
    """The message and the underlined text."""
    with pytest.raises(QueryError) as caught:
        read(text)
    assert caught.value.span is not None and caught.value.span.text == text
    return caught.value.message, cut(caught.value.span)


def calls(text, others=()) -> list[TableCall]:
    return [
        call
        for statement in statements(text)
        if isinstance(statement, Passthrough)
        for call in table_function_calls(statement, KNOWN, others)
    ]


class TestHeads:
    def test_model(self):
        text = "/* a */ CREATE MODEL m AS\nSELECT linear(p.x, 16) AS z FROM p -- end"
        found = one(text)
        assert isinstance(found, CreateModel)
        assert (found.name, found.replace, found.options) == ("m", False, ())
        assert found.sql == "CREATE MODEL m AS\nSELECT linear(p.x, 16) AS z FROM p"
        assert cut(found.body.span) == "SELECT linear(p.x, 16) AS z FROM p"
        assert cut(found.name_span) == "m"

    def test_words_are_read_in_any_case_and_names_may_be_quoted(self):
        found = one('create or Replace model "a ""b"" c" as (select 1)')
        assert isinstance(found, CreateModel) and found.replace and found.name == 'a "b" c'

    @pytest.mark.parametrize("name", ["model", "options", "layer", "größe", "last"])
    def test_names_that_are_words_elsewhere(self, name):
        assert one(f"CREATE MODEL {name} AS SELECT 1").name == name

    def test_options(self):
        text = (
            "CREATE MODEL m OPTIONS (label = 'it''s', LR = 1e-3, w = -.5, n = 10, big=+3, "
            "train = false, x = NULL, optimizer = adam, split = [1, 'a', [b]], none = [], "
            '"odd key" = $$;$$,) AS SELECT 1'
        )
        options = one(text).options
        assert {o.name: o.value for o in options} == {
            "label": "it's",
            "lr": 1e-3,
            "w": -0.5,
            "n": 10,
            "big": 3,
            "train": False,
            "x": None,
            "optimizer": "adam",
            "split": (1, "a", ("b",)),
            "none": (),
            "odd key": ";",
        }
        assert [type(o.value) for o in options[1:4]] == [float, float, int]
        assert [cut(o.span) for o in options][:4] == ["'it''s'", "1e-3", "-.5", "10"]
        assert [cut(o.name_span) for o in options][:2] == ["label", "LR"]

    def test_layer(self):
        found = one('CREATE LAYER sage(nodes, "the edges", n = 64) AS SELECT linear(x, n) FROM t')
        assert isinstance(found, CreateLayer)
        assert [a.name for a in found.arguments] == ["nodes", "the edges", "n"]
        assert [a.default and a.default.value for a in found.arguments] == [None, None, 64]
        assert one("CREATE LAYER f() AS SELECT 1").arguments == ()

    def test_null_is_a_default_too(self):
        (argument,) = one("CREATE LAYER f(x = NULL) AS SELECT 1").arguments
        assert argument.default is not None and argument.default.value is None

    def test_task(self):
        found = one(
            "CREATE TASK t OPTIONS (entity = 'id') AS PREDICT COUNT(o.*, 0, 90, days) = 0 "
            "FOR EACH c.id"
        )
        assert isinstance(found, CreateTask) and found.body is None and found.predict is not None
        assert cut(found.predict) == "PREDICT COUNT(o.*, 0, 90, days) = 0 FOR EACH c.id"
        found = one("CREATE OR REPLACE TASK t AS SELECT 1")
        assert isinstance(found, CreateTask) and found.body is not None and found.predict is None

    def test_explain(self):
        found = one("EXPLAIN ANALYZE MODEL m@2")
        assert isinstance(found, Explain)
        assert (found.analyze, found.name, found.model) == (True, "m@2", None)
        assert one("EXPLAIN MODEL 'm@2'").name == "m@2"
        assert cut(one("EXPLAIN MODEL AS SELECT 1").model.body.span) == "SELECT 1"
        found = one("EXPLAIN MODEL OPTIONS (task = 't') AS SELECT 1")
        assert [(o.name, o.value) for o in found.model.options] == [("task", "t")]
        assert one("EXPLAIN MODEL options").name == "options"

    def test_export_import_and_versions(self):
        found = one("EXPORT MODEL m@2 TO 'a b'")
        assert isinstance(found, ExportModel)
        assert (found.name, found.folder.value) == ("m@2", "a b")
        for text, replace in (("IMPORT", False), ("import or replace", True)):
            found = one(f"{text} MODEL m FROM 'x';")
            assert isinstance(found, ImportModel)
            assert (found.name, found.folder.value, found.replace) == ("m", "x", replace)
        assert one("SHOW VERSIONS").name is None
        assert (one("SHOW VERSIONS OF m").kind, one("SHOW VERSIONS OF m").name) == ("versions", "m")
        for text in ("EXPORT DATABASE 'x'", "IMPORT DATABASE 'x'"):
            assert isinstance(one(text), Passthrough)

    def test_drop_and_show(self):
        found = one("DROP LAYER IF EXISTS f;")
        assert isinstance(found, Drop)
        assert (found.kind, found.name, found.if_exists) == ("layer", "f", True)
        assert not one("DROP MODEL m").if_exists
        for text in ("DROP MODEL m@2", 'DROP MODEL "m@2"', "DROP MODEL 'm@2'"):
            assert one(text).name == "m@2"
        assert [one(f"SHOW {k}") for k in ("models", "TASKS", "Layers")] == [
            Show(Span(f"SHOW {k}", 0, len(k) + 5), k.lower()) for k in ("models", "TASKS", "Layers")
        ]

    @pytest.mark.parametrize(
        "text",
        [
            "SELECT 'CREATE MODEL m AS SELECT 1'",
            "SELECT 1 /* ; CREATE MODEL m AS */",
            "SELECT $$; DROP MODEL m$$",
            "SELECT $t$;$$ CREATE MODEL$t$",
            "CREATE TABLE model (task INT)",
            "CREATE OR REPLACE VIEW model AS SELECT 1",
            'DROP TABLE "MODEL"',
            '"CREATE" MODEL',
            "EXPLAIN SELECT model FROM task",
            "EXPLAIN ANALYZE SELECT 1",
            "SHOW TABLES",
            "SHOW model",
            "INSERT INTO t VALUES ($1,$2), (?, 'a;b')",
            "SELECT E'it\\'s; x', 'a\\' AS b",
            "CREATE TABEL t (a INT)",
            "CALL f(';')",
            "SELEC 1",
            "model m",
            "SELECT (1",
            "SELECT `a;b`",
        ],
    )
    def test_all_else_is_duckdbs_and_stays_as_it_is(self, text):
        found = one(text)
        assert isinstance(found, Passthrough) and found.sql == text

    def test_several(self):
        text = " SELECT 1 ;; -- a\n; CREATE MODEL m AS SELECT 2; SELECT ';' -- end ;\n"
        first, second, third = statements(text)
        assert (first.sql, second.sql) == (" SELECT 1 ", "CREATE MODEL m AS SELECT 2")
        assert third.sql == " SELECT ';' -- end ;\n"

    def test_there_are_no_templates(self):
        assert [s.sql for s in statements("SELECT {# 1; SELECT {% 2")] == [
            "SELECT {# 1",
            " SELECT {% 2",
        ]

    @pytest.mark.parametrize("text", ["", ";", " \n", "-- a", "/* a; /* b */ */;;"])
    def test_nothing(self, text):
        assert statements(text) == []


class TestAlter:
    def test_key_and_time(self):
        found = one('alter table s."my ""t" set (KEY = \'Order ID\', time = NULL) ;')
        assert isinstance(found, SetFacts)
        assert found.table.name == '"s"."my ""t"'
        assert cut(found.table.span) == 's."my ""t"'
        assert [(o.name, o.value) for o in found.options] == [("key", "Order ID"), ("time", None)]
        assert [o.value for o in one('ALTER TABLE t SET (time = "a b")').options] == ["a b"]

    def test_foreign_keys(self):
        found = one('ALTER TABLE t ADD foreign  /* a */\n key ("a b") REFERENCES s.u (k)')
        assert isinstance(found, AddForeignKey)
        assert (found.table.name, found.column.name, found.key.name) == ('"t"', "a b", "k")
        assert (found.references.name, cut(found.references.span)) == ('"s"."u"', "s.u")
        assert one("ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES u").key is None
        found = one("ALTER TABLE t DROP FOREIGN KEY (a)")
        assert isinstance(found, DropForeignKey)
        assert cut(found.column.span) == "a"

    def test_show_schema(self):
        assert one("show SCHEMA").kind == "schema"

    @pytest.mark.parametrize(
        "text",
        [
            "ALTER TABLE t SET PARTITIONED BY (key)",
            "ALTER TABLE t SET SORTED BY (time)",
            "ALTER TABLE t SET (compression = 'zstd', x = [a, time, b])",
            "ALTER TABLE t ADD COLUMN key INTEGER",
            "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u (k)",
            "ALTER TABLE t ADD PRIMARY KEY (a)",
            "ALTER TABLE t DROP key",
            "ALTER TABLE t RENAME time TO key",
            "ALTER TABLE t ALTER time SET DEFAULT (now())",
            "ALTER TABLE IF EXISTS t SET (key = a)",
            "ALTER VIEW v RENAME TO w",
            "ALTER TABLE",
            "ALTER TABLE t",
            "ALTER TABLE t SET",
            "ALTER TABLE t SET (",
            "SHOW SCHEMAS",
            'SHOW "schema"',
            "SHOW SCHEMA FROM a",
        ],
    )
    def test_all_else_is_duckdbs(self, text):
        found = one(text)
        assert isinstance(found, Passthrough) and found.sql == text


class TestBodies:
    def test_positions_are_those_of_the_whole_text(self):
        text = "SELECT 'ü🙂';\nCREATE MODEL m AS SELECT linear(p.x, 16) AS z FROM paper p"
        body = statements(text)[1].body
        for name in body.query.find_all(exp.Identifier, exp.Anonymous):
            assert text[name.meta["start"] : name.meta["end"] + 1] == name.name
        assert {n.name for n in body.query.find_all(exp.Anonymous)} == {"linear"}

    def test_comments_and_dollar_quotes_do_not_move_positions(self):
        text = "CREATE MODEL m AS /* a */ SELECT $q$b$q$ AS s, -- c\n foo FROM t"
        body = one(text).body.query
        literal, column = body.find(exp.Literal), body.find(exp.Column)
        assert literal.name == "b"
        assert text[column.this.meta["start"] : column.this.meta["end"] + 1] == "foo"

    def test_learned_functions_are_ordinary_calls(self):
        names = (
            "linear", "mlp", "embedding", "param", "layer_norm", "batch_norm", "dropout",
            "features", "numeric", "category", "time_since", "text", "relu", "gelu", "sigmoid",
            "leaky_relu", "elu", "dot", "scale", "softmax",
        )  # fmt: skip
        for name in names:
            body = one(
                f"CREATE MODEL m AS SELECT {name}(t.x, 4, per => [a.b, c], bias => false) AS z, "
                f"CAST(y AS numeric(10, 2)), y::numeric FROM t"
            ).body.query
            (call,) = body.find_all(exp.Anonymous)
            assert call.name == name and len(call.expressions) == 4

    @pytest.mark.parametrize(
        "body",
        [
            "SELECT relu(sum(linear(p.x, 16) * c.w)) AS z FROM cites c JOIN paper p "
            "ON p.id = c.src GROUP BY ALL",
            "SELECT *, softmax(s) OVER (PARTITION BY dst, i) AS a FROM score",
            "SELECT sum(relu(x)) FILTER (WHERE y > 1) AS z FROM sage(sage(paper, cites, 64), "
            "cites, n => 64)",
            "FROM t SELECT x QUALIFY row_number() OVER (PARTITION BY a ORDER BY d DESC) <= 32",
            "SELECT x FROM 'a.parquet' UNION ALL SELECT coalesce(x, 0) FROM t LEFT JOIN u "
            "USING (i)",
            "(SELECT x::FLOAT[4] AS x FROM t ASOF JOIN u ON a >= b)",
            "WITH RECURSIVE a AS (SELECT 1) SELECT linear(x, 2) || y FROM a",
        ],
    )
    def test_sql_of_every_kind(self, body):
        assert one(f"CREATE MODEL m AS {body}").body.query.sql("duckdb")

    def test_sqlglot_does_not_warn(self, caplog):
        with caplog.at_level(logging.DEBUG):
            one("EXPLAIN MODEL AS SELECT 1")
            one("CALL f(1)")
        assert not caplog.records


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "message", "underlined"),
        [
            ("CREATE MODEL", "expected the model's name", ""),
            ("CREATE MODEL AS SELECT 1", "expected the model's name", "AS"),
            ("CREATE MODEL OPTIONS (a = 1) AS SELECT 1", "expected the model's name", "OPTIONS"),
            ("CREATE MODEL 'm' AS SELECT 1", "without quotes", "'m'"),
            ("CREATE MODEL a.b AS SELECT 1", "has one part", "."),
            ("CREATE MODEL m@2 AS SELECT 1", "leave `@` out", "@"),
            ('CREATE MODEL "a@1" AS SELECT 1', "has no `@`", '"a@1"'),
            ('CREATE MODEL "" AS SELECT 1', "not blank", '""'),
            ("CREATE MODEL IF NOT EXISTS m AS SELECT 1", "CREATE OR REPLACE MODEL", "IF"),
            ("CREATE MODEL m", "expected OPTIONS (…) or AS before the model's query", ""),
            ("CREATE MODEL m SELECT 1", "expected OPTIONS (…) or AS", "SELECT"),
            ("CREATE MODEL m OPTION (a = 1) AS SELECT 1", "Did you mean `OPTIONS`?", "OPTION"),
            ("CREATE MODEL m OPTIONS (a = 1) SELECT 1", "expected AS before", "SELECT"),
            ("CREATE MODEL m (a) AS SELECT 1", "expected OPTIONS (…) or AS", "("),
            ("CREATE MODEL m AS", "the model's query is missing after AS", ""),
            ("CREATE MODEL m AS; SELECT 1", "the model's query is missing after AS", ""),
            ("CREATE MODEL m AS INSERT INTO t VALUES (1)", "must be a SELECT", "INSERT"),
            ("CREATE MODEL m AS VALUES (1)", "must be a SELECT", "VALUES"),
            ("CREATE MODEL m AS SELCT 1", "Did you mean `SELECT`?", "SELCT"),
            ("CREATE MODEL m OPTIONS (a = 1, A = 2) AS SELECT 1", "`a` is given twice", "A"),
            ("CREATE MODEL m OPTIONS (a => 1) AS SELECT 1", "written with `=`", "=>"),
            ("CREATE MODEL m OPTIONS (a 1) AS SELECT 1", "expected `=`", "1"),
            ("CREATE MODEL m OPTIONS (a = 1 b = 2) AS SELECT 1", "expected `,` or `)`", "b"),
            ("CREATE MODEL m OPTIONS (a = 1 + 2) AS SELECT 1", "expected `,` or `)`", "+"),
            ("CREATE MODEL m OPTIONS (a =) AS SELECT 1", "option `a` takes a string", ")"),
            ("CREATE MODEL m OPTIONS (a = (1)) AS SELECT 1", "option `a` takes a string", "("),
            ("CREATE MODEL m OPTIONS (a = [1 2]) AS SELECT 1", "`]` in a list", "2"),
            ("CREATE MODEL m OPTIONS (a = -x) AS SELECT 1", "expected a number", "x"),
            ("CREATE MODEL m OPTIONS (a = 1e999) AS SELECT 1", "too large", "1e999"),
            ("CREATE MODEL m OPTIONS ('a' = 1) AS SELECT 1", "option's name", "'a'"),
            ("CREATE MODEL m OPTIONS (1 = 1) AS SELECT 1", "option's name", "1"),
            ("CREATE MODEL m OPTIONS a = 1 AS SELECT 1", "`(` after OPTIONS", "a"),
            ("CREATE MODEL m OPTIONS (a = 1 AS SELECT 1", "`(` is never closed", "("),
            ("CREATE MODEL m AS SELECT (1, [2)", "`)` cannot close `[`", ")"),
            ("CREATE MODEL m AS SELECT 1)", "`)` closes nothing", ")"),
            ("CREATE MODEL m AS SELECT 'a", "the string that starts here does not end", "'"),
            ('SELECT 1; SELECT "a', "the quoted name that starts here does not end", '"'),
            ("SELECT /* a /* b */", "the comment that starts here does not end", "/*"),
            ("SELECT $a$ b $$", "the string opened by `$a$` does not end", "$a$"),
            ("CREATE MODEL m AS SELECT a FORM t", "Did you mean `FROM`?", "FORM"),
            ("CREATE MODEL m AS SELECT a FROM t GRUOP BY a", "Did you mean `GROUP`?", "GRUOP"),
            ("CREATE MODEL m AS SELECT a,, b FROM t", "syntax error", ","),
            ("CREATE MODEL m AS SELECT a FROM t WHERE", "syntax error", "WHERE"),
            ("CREATE MODEL m AS SELECT a FROM t ORDER", 'near "ORDER"', "ORDER"),
            ("CREATE MODEL m AS SELECT tanh(a, 2) FROM t", "2 are given, at most 1", ")"),
            ("CREATE LAYER f AS SELECT 1", "the layer's arguments", "AS"),
            ("CREATE LAYER f(a, A) AS SELECT 1", "`A` is there twice", "A"),
            ("CREATE LAYER f(a = 1, b) AS SELECT 1", "`b` needs a default", "b"),
            ("CREATE LAYER f(a => 1) AS SELECT 1", "written with `=`", "=>"),
            ("CREATE LAYER f(a b) AS SELECT 1", "`,` or `)` after an argument", "b"),
            ("CREATE LAYER f(a) OPTIONS (b = 1) AS SELECT 1", "expected AS", "OPTIONS"),
            ("CREATE TASK t AS", "the task's query is missing", ""),
            ("EXPLAIN MODEL", "expected the model's name", ""),
            ("EXPLAIN MODEL m AS SELECT 1", "EXPLAIN MODEL AS SELECT", "AS"),
            ("EXPLAIN MODEL m@x", "version number", "x"),
            (
                "EXPLAIN CREATE MODEL m AS SELECT 1",
                "EXPLAIN MODEL [OPTIONS",
                "EXPLAIN CREATE MODEL",
            ),
            ("DROP MODEL", "expected the model's name", ""),
            ("DROP MODEL a, b", "takes one name", ","),
            ("DROP MODEL m@x", "version number", "x"),
            ("DROP TASK t@2", "all versions of a task share one name", "@"),
            ("SHOW MODELS LIKE 'a'", "takes nothing more", "LIKE"),
            ("EXPORT MODEL m", "expected TO and a folder in quotes", ""),
            ("EXPORT MODEL m INTO 'x'", "expected TO and a folder", "INTO"),
            ("EXPORT MODEL m TO x", "expected a folder in quotes", "x"),
            ("EXPORT MODEL m TO ' '", "expected a folder in quotes", "' '"),
            ("EXPORT MODEL m TO 'x' y", "one model and one folder", "y"),
            ("EXPORT MODLE m TO 'x'", "Did you mean `MODEL`?", "MODLE"),
            ("EXPORT LAYER f TO 'x'", "Did you mean `MODEL`?", "LAYER"),
            ("IMPORT MODEL m@2 FROM 'x'", "leave `@` out", "@"),
            ("IMPORT MODEL m TO 'x'", "expected FROM and a folder", "TO"),
            ("IMPORT OR REPLACE MODEL m FROM", "expected a folder in quotes", ""),
            ("IMPROT MODEL m FROM 'x'", "Did you mean `IMPORT`?", "IMPROT"),
            ("SHOW VERSIONS FOR m", "expected OF and a model's name", "FOR"),
            ("SHOW VERSIONS OF m n", "takes one name", "n"),
            ("CREAT MODEL m AS SELECT 1", "Did you mean `CREATE`?", "CREAT"),
            ("CRAETE OR REPLACE LAYER f() AS SELECT 1", "Did you mean `CREATE`?", "CRAETE"),
            ("CREATE MODLE m AS SELECT 1", "Did you mean `MODEL`?", "MODLE"),
            ("CREATE OR REPLACE LAYR f() AS SELECT 1", "Did you mean `LAYER`?", "LAYR"),
            ("CREATE TEMP MODEL m AS SELECT 1", "cannot be temporary", "TEMP"),
            ("DORP MODEL m", "Did you mean `DROP`?", "DORP"),
            ("ALTER TABLE t SET (tiem = a)", "Did you mean `time`?", "tiem"),
            ("ALTER TABLE t SET (pkey = a)", "Did you mean `key`?", "pkey"),
            ("ALTER TABLE t SET (key = a, x = b)", "key and time, not `x`", "x"),
            ("ALTER TABLE t SET (key = a, key = b)", "given twice", "key"),
            ("ALTER TABLE t SET ('key' = a)", "without quotes", "'key'"),
            ("ALTER TABLE t SET (key => a)", "written with `=`", "=>"),
            ("ALTER TABLE t SET (key = a", "never closed", "("),
            ("ALTER TABLE t SET (key = a) x", "takes nothing more", "x"),
            ("ALTER TABLE t ADD FOREIGN KEY a REFERENCES u", "the column of the foreign key", "a"),
            ("ALTER TABLE t ADD FOREIGN KEY (a, b) REFERENCES u", "has one column", ","),
            ("ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES", "expected the table", ""),
            ("ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES u (b) c", "end here", "c"),
            ("ALTER TABLE t DROP FOREIGN KEY (a) CASCADE", "takes one column", "CASCADE"),
            ("SHWO MODELS", "Did you mean `SHOW`?", "SHWO"),
        ],
    )
    def test_is_said_at_its_place(self, text, message, underlined):
        said, where = error(text)
        assert message in said
        assert where == underlined

    def test_line_and_column_of_a_later_statement(self):
        with pytest.raises(QueryError, match=r"^line 3, column 12: "):
            statements("SELECT 1;\nCREATE MODEL m AS SELECT\n a + b FROM, t")

    def test_nothing_runs_too_deep(self):
        deep = "(" * 3000 + "1" + ")" * 3000
        said, _ = error(f"CREATE MODEL m AS SELECT {deep}")
        assert "depth" in said
        lists = "[" * 3000 + "]" * 3000
        assert "nested too deeply" in error(f"CREATE MODEL m OPTIONS (a = {lists}) AS SELECT 1")[0]

    def test_half_a_surrogate_pair(self):
        said, where = error("SELECT '\ud800'")
        assert (said, where) == ("this is not a character", "\ud800")


class TestExplanation:
    def test_name(self):
        (found,) = explanation(" m@2 ;")
        assert (found.name, found.model, found.analyze) == ("m@2", None, False)
        assert explanation("my_model", analyze=True)[0].analyze

    def test_query(self):
        (found,) = explanation("WITH a AS (SELECT 1) SELECT linear(x, 2) FROM a")
        assert found.name is None and found.model is not None

    def test_models_of_a_text(self):
        text = "CREATE TABLE t (a INT); CREATE MODEL m AS SELECT 1; EXPLAIN ANALYZE MODEL k;"
        first, second = explanation(text)
        assert first.model is not None and cut(first.model.body.span) == "SELECT 1"
        assert (second.name, second.analyze) == ("k", True)

    def test_nothing_to_explain(self):
        assert error("DROP TABLE t", explanation)[0] == "there is no model here to explain"
        with pytest.raises(QueryError, match="nothing to explain"):
            explanation("-- a")


class TestTableCalls:
    def test_arguments(self):
        text = (
            "SELECT * FROM ml_predict('m', (SELECT ')' AS a), s.t, at => TIMESTAMP '2020-01-01', "
            "n => -1.5, l => [1, 'b'], q => NULL, d => current_date) p"
        )
        (call,) = calls(text)
        assert [(a.name, a.kind, a.value, a.sql) for a in call.arguments] == [
            (None, "value", "m", "'m'"),
            (None, "query", None, "SELECT ')' AS a"),
            (None, "name", "s.t", "s.t"),
            ("at", "expression", None, "TIMESTAMP '2020-01-01'"),
            ("n", "value", -1.5, "-1.5"),
            ("l", "value", (1, "b"), "[1, 'b']"),
            ("q", "value", None, "NULL"),
            ("d", "expression", None, "current_date"),
        ]
        assert all(cut(a.span) == a.sql for a in call.arguments)
        assert cut(call.span) == text[len("SELECT * FROM ") : -2]
        assert call.aliased

    def test_a_name_stands_for_its_rows(self):
        (call,) = calls('FROM ml_predict(m, "a b")')
        assert [a.value for a in call.arguments] == ["m", "a b"]
        assert call.arguments[1].query == 'SELECT * FROM "a b"'
        assert not call.aliased

    @pytest.mark.parametrize(
        "text",
        [
            "FROM ml_weights(m)",
            "SELECT * FROM t, ml_weights(m)",
            "SELECT * FROM t JOIN u ON t.a = u.a, ml_weights(m)",
            "SELECT * FROM t LEFT JOIN ml_weights(m) AS w ON true",
            "SELECT * FROM (ml_weights(m) JOIN t USING (a))",
            "SELECT 1 WHERE EXISTS (FROM ml_weights(m))",
            "SELECT (SELECT max(a) FROM ml_weights(m)) FROM t",
            "CREATE OR REPLACE TABLE view AS SELECT * FROM ML_Weights(m)",
            "INSERT INTO t SELECT * FROM ml_weights(m)",
            "WITH a AS (SELECT * FROM ml_weights(m)) FROM a",
            "COPY (FROM ml_weights(m)) TO 'a.csv'",
            "DELETE FROM t USING ml_weights(m) w WHERE t.a = w.a",
            "SELECT * FROM t, LATERAL (SELECT * FROM ml_weights(m))",
            "SELECT 1 UNION ALL SELECT * FROM ml_weights(m)",
            "SELECT * FROM t GROUP BY ALL HAVING a IN (FROM ml_weights(m))",
            "FROM w: ml_weights(m)",
            'SELECT * FROM "ml_weights"(m)',
        ],
    )
    def test_wherever_a_table_stands(self, text):
        assert [c.name for c in calls(text)] == ["ml_weights"]

    @pytest.mark.parametrize(
        "text",
        [
            "SELECT 'FROM ml_weights(m)' -- FROM ml_weights(m)",
            "CREATE TABLE ml_weights (a INT)",
            "INSERT INTO ml_weights(a) VALUES (1)",
            "CREATE INDEX i ON ml_weights(a)",
            "SELECT * FROM ml_weights",
            "SELECT a IS NOT DISTINCT FROM ml_other(1)",
            "SELECT ml_other(1)",
            "SELECT * FROM main.ml_weights(1)",
            "WITH ml_weights(a) AS (SELECT 1) SELECT * FROM ml_weights",
        ],
    )
    def test_nowhere_else(self, text):
        assert calls(text) == []

    def test_duckdbs_own_functions_are_left_alone(self):
        assert calls("SELECT * FROM ml_mine(1)", others=["ml_mine"]) == []

    @pytest.mark.parametrize(
        ("text", "aliased"),
        [
            ("FROM ml_weights(m) w", True),
            ("FROM ml_weights(m) AS w", True),
            ("FROM w: ml_weights(m)", True),
            ("FROM ml_weights(m) JOIN t ON true", False),
            ("FROM ml_weights(m) LEFT JOIN t ON true", False),
            ("FROM ml_weights(m) ASOF JOIN t ON true", False),
            ("FROM ml_weights(m) WHERE a", False),
            ("FROM ml_weights(m), t", False),
            ("FROM ml_weights(m) UNION FROM t", False),
            ("FROM ml_weights(m);", False),
        ],
    )
    def test_aliases(self, text, aliased):
        assert [c.aliased for c in calls(text)] == [aliased]

    def test_inner_before_outer_with_the_tables_in_scope(self):
        text = (
            "WITH a AS (SELECT 1), b(x) AS MATERIALIZED (FROM ml_weights(m)) SELECT * FROM ("
            "WITH RECURSIVE c AS (SELECT 2) FROM ml_predict(m, (FROM ml_predict(k, (FROM c)))))"
        )
        found = calls(text)
        assert [c.name for c in found] == ["ml_weights", "ml_predict", "ml_predict"]
        assert found[1].span.start > found[2].span.start
        seen = [[[cut(i) for i in s.items] for s in call.scopes] for call in found]
        a, b = "a AS (SELECT 1)", "b(x) AS MATERIALIZED (FROM ml_weights(m))"
        assert seen == [[[a]], [[a, b], ["c AS (SELECT 2)"]], [[a, b], ["c AS (SELECT 2)"]]]
        assert [s.recursive for s in found[1].scopes] == [False, True]

    @pytest.mark.parametrize(
        ("text", "message", "underlined"),
        [
            ("FROM ml_predic('m')", "Did you mean `ml_predict`?", "ml_predic"),
            ("FROM ml_other('m')", "there are ml_evaluate, ml_predict", "ml_other"),
            ("SELECT ml_predict('m')", "is a table: write SELECT … FROM", "ml_predict"),
            ("CREATE VIEW v AS FROM ml_predict('m')", "CREATE TABLE … AS", "ml_predict"),
            ("CREATE TEMP MACRO f() AS TABLE FROM ml_predict('m')", "CREATE MACRO", "ml_predict"),
            ("PREPARE q AS FROM ml_predict('m')", "PREPARE keeps", "ml_predict"),
            ("FROM ml_predict('m'", "`(` is never closed", "("),
            ("FROM ml_predict('m', , 3)", "an argument is missing", "'m', , 3"),
            ("FROM ml_predict('m', at => )", "`at` has no value", "at"),
            ("FROM ml_predict('m', at = 3)", "named with `=>`", "="),
            ("FROM ml_predict(at => 3, 'm')", "come first", "'m'"),
            ("FROM ml_predict('m', SELECT 1)", "stands in parentheses", "SELECT 1"),
            ("FROM ml_predict('m', at => $a)", "a parameter cannot stand", "$a"),
            ("FROM ml_predict(?)", "a parameter cannot stand", "?"),
        ],
    )
    def test_mistakes(self, text, message, underlined):
        said, where = error(text, calls)
        assert message in said
        assert where == underlined

    def test_binding(self):
        (call,) = calls("FROM ml_predict(m, at => 1, query => (SELECT 1))")
        assert list(call.bound(["model"], ["query", "at"])) == ["model", "at", "query"]

    @pytest.mark.parametrize(
        ("text", "message", "underlined"),
        [
            ("FROM ml_predict()", "needs its argument `model`", "ml_predict()"),
            ("FROM ml_predict(m, 1, 2)", "model, at and nothing more", "2"),
            ("FROM ml_predict(m, att => 1)", "Did you mean `at`?", "1"),
            ("FROM ml_predict(m, model => 1)", "`model` is given twice", "1"),
        ],
    )
    def test_binding_mistakes(self, text, message, underlined):
        (call,) = calls(text)
        said, where = error(text, lambda _: call.bound(["model"], ["at"]))
        assert message in said
        assert where == underlined


_WORDS = """
    CREATE MODEL TASK LAYER OPTIONS ( ) [ ] { } {{+ {# %} AS SELECT FROM WITH PREDICT EXPLAIN
    ANALYZE DROP SHOW MODELS m a.b @ 2 = => , ; 'a' ' " "b" $$ $a$ $1 ? -- /* */ .5 1e9 E'\\' \\ `
    : :: ml_predict( ml_x( JOIN USING ON NULL - é 🙂 VALUES PIVOT numeric( CASE END OVER * < >
    TABLE VIEW RECURSIVE / #1
"""
_OTHERS = ["OR REPLACE", "IF EXISTS", "INSERT INTO", "\n", "\t", "\r", "\x00", "\u00a0"]
PIECES = st.sampled_from(_WORDS.split() + _OTHERS)
TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(PIECES, max_size=25).map(" ".join),
    st.lists(PIECES, max_size=25).map("".join),
)


def check_place(text, found):
    assert found is None or (found.text == text and 0 <= found.start <= found.end <= len(text))


@given(TEXTS)
def test_any_text_is_statements_or_an_error_at_a_place(text):
    try:
        found = statements(text)
    except QueryError as error:
        check_place(text, error.span)
        assert error.span is not None and str(error)
        return
    end = 0
    for statement in found:
        between = text[end : statement.span.start]
        assert all(t.text == ";" for t in lex(between).tokens)
        end = statement.span.end
        assert statement.sql == text[statement.span.start : end]
        if isinstance(statement, Passthrough):
            assert all(statement.span.start <= t.start <= t.end < end for t in statement.tokens)
    assert all(t.text == ";" for t in lex(text[end:]).tokens)


@given(TEXTS)
def test_any_text_has_table_calls_or_an_error_at_a_place(text):
    try:
        found = calls("SELECT * FROM ml_predict(" + text)
    except QueryError as error:
        assert error.span is not None and str(error)
        return
    for call in found:
        assert call.span.text[call.span.start :].lower().startswith((call.name, f'"{call.name}"'))


@given(TEXTS)
def test_any_text_is_explained_or_an_error(text):
    try:
        assert explanation(text)
    except QueryError as error:
        check_place(text, error.span)


_WHOLE = """SELECT 1|;|; |-- ';\n|/* ; /* ' */ */|SELECT ';'|SELECT "a;"|SELECT $$;$$|FROM t|
SELECT $a$;$a$|SELECT $1|SELECT E'\\';'|SELECT 'it''s;'|SELECT [1]|SELECT {'a': 1}|SELECT `;`|
SELECT a$b|SELECT 1 -- x\r|SELECT '\\'|SELECT $1+$2"""
DUCKDB = st.lists(st.sampled_from(_WHOLE.split("|")), max_size=8).map("".join)


@given(DUCKDB)
def test_statements_end_where_duckdb_ends_them(text):
    try:
        expected = len(duckdb.extract_statements(text))
    except duckdb.Error:
        return
    assert len(statements(text)) == expected
