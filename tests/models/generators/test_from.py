"""FROM sage() and FROM dfs() in a session that knows the tables' keys."""

from __future__ import annotations

import pytest

import relann

TABLES = """
CREATE TABLE customer (id INTEGER PRIMARY KEY, country VARCHAR);
CREATE TABLE orders (oid INTEGER PRIMARY KEY, cid INTEGER REFERENCES customer (id),
    ts TIMESTAMP, amount DOUBLE);
INSERT INTO customer SELECT i, ['DE', 'FR', 'IT'][1 + i % 3] FROM range(30) t(i);
INSERT INTO orders SELECT i, i % 30, TIMESTAMP '2024-01-01' + INTERVAL (i) HOUR, i % 7
FROM range(900) t(i);
CREATE TASK spend OPTIONS (entity = 'cid', time = 'tm', label = 'y', split = 'split',
    table = 'customer', kind = 'regression') AS
SELECT i AS cid, TIMESTAMP '2024-01-20' + INTERVAL (d) DAY AS tm, (i + d) % 7 AS y,
    ['train', 'train', 'val', 'test'][1 + d] AS split FROM range(30) t(i), range(4) s(d)
"""


@pytest.mark.parametrize(
    ("program", "options"),
    [("sage(width => 4)", "epochs = 1"), ("dfs(max_depth => 1)", "head = 'gbdt', rounds = 2")],
)
def test_a_program_leaves_out_keys_that_are_known_to_be_keys(program: str, options: str) -> None:
    """Its text excludes keys, which `features` does not read here; that was an error once."""
    with relann.connect() as con:
        con.sql(TABLES)
        con.sql(f"CREATE MODEL m OPTIONS (task = 'spend', {options}) AS FROM {program}")
        assert len(con.sql("FROM ml_predict('m')").fetchall()) == 120


def test_a_program_reads_the_past_labels_of_its_task() -> None:
    """They go by the task's name, which is known to the program's text as to the query's own."""
    with relann.connect() as con:
        con.sql(TABLES.replace("kind = 'regression'", "kind = 'regression', horizon = '1 day'"))
        con.sql(
            "CREATE MODEL m OPTIONS (task = 'spend', head = 'gbdt', rounds = 2, min_rows = 5) AS "
            "FROM dfs(max_depth => 1, labels => true)"
        )
        features = {name for name, *_ in con.sql("FROM ml_importance('m')").fetchall()}
        assert "past_avg_y" in features


def test_a_network_reads_the_columns_of_a_program() -> None:
    """Wide groups, relative to the anchor, under a network."""
    with relann.connect() as con:
        con.sql(TABLES)
        con.sql(
            "CREATE MODEL m OPTIONS (task = 'spend', epochs = 1) AS "
            "SELECT d.cid, linear(relu(features(d, 4, exclude => [cid])), 1) AS logit "
            "FROM dfs() d"
        )
        assert len(con.sql("FROM ml_predict('m')").fetchall()) == 120


def test_features_may_read_the_entity_s_key() -> None:
    """The label of a seed without an entity is NULL, which is no reason to refuse the key."""
    with relann.connect() as con:
        con.sql(TABLES)
        con.sql(
            "ALTER TABLE customer ADD COLUMN parent INTEGER; UPDATE customer SET parent = id // 2"
        )
        con.sql("ALTER TABLE customer ADD FOREIGN KEY (parent) REFERENCES customer (id)")
        con.sql(
            "CREATE MODEL m OPTIONS (task = 'spend', head = 'gbdt', rounds = 2, min_rows = 5) AS "
            "SELECT c.id AS cid, max(d.id) AS latest, count(d.id) AS children "
            "FROM customer c LEFT JOIN customer d ON d.parent = c.id GROUP BY c.id"
        )
