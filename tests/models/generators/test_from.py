"""FROM sage() and the other programs in a session that knows the tables' keys."""

from __future__ import annotations

import pytest

import relann
from relann.errors import QueryError

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
    [
        ("sage(width => 4)", "epochs = 1"),
        ("gat(width => 4)", "epochs = 1"),
        ("hgt(width => 4)", "epochs = 1"),
        ("relgnn(width => 4)", "epochs = 1"),
        ("dfs(max_depth => 1)", "head = 'gbdt', rounds = 2"),
    ],
)
def test_a_program_leaves_out_keys_that_are_known_to_be_keys(program: str, options: str) -> None:
    """Its text excludes keys, which `features` does not read here; that was an error once."""
    with relann.connect() as con:
        con.sql(TABLES)
        con.sql(f"CREATE MODEL m OPTIONS (task = 'spend', {options}) AS FROM {program}")
        assert len(con.sql("FROM ml_predict('m')").fetchall()) == 120


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


PAST = """
CREATE TASK often OPTIONS (entity = 'cid', time = 'tm', label = 'y', split = 'split',
    table = 'customer', kind = '{kind}', horizon = '1 day') AS
SELECT i AS cid, TIMESTAMP '2024-01-10' + INTERVAL (d) DAY AS tm, (i + d) % {classes} AS y,
    CASE WHEN d < 15 THEN 'train' WHEN d < 18 THEN 'val' ELSE 'test' END AS split
FROM range(30) t(i), range(20) s(d)
"""


MESSAGES = "layers => 1, width => 4, neighbours => 2"


@pytest.mark.parametrize("kind", ["regression", "multiclass"])
@pytest.mark.parametrize(
    ("program", "options"),
    [
        (f"sage({MESSAGES}", "epochs = 1, batch_size = 64"),
        (f"gat({MESSAGES}", "epochs = 1, batch_size = 64"),
        (f"hgt({MESSAGES}", "epochs = 1, batch_size = 64"),
        (f"relgnn({MESSAGES}", "epochs = 1, batch_size = 64"),
        ("dfs(max_depth => 1, last => [1]", "head = 'gbdt', rounds = 2"),
    ],
)
def test_past_labels_are_learned_from(program: str, options: str, kind: str) -> None:
    """They are found under the task's name, which was an error once, and are certified."""
    with relann.connect() as con:
        con.sql(TABLES)
        con.sql(PAST.format(kind=kind, classes=2 if kind == "regression" else 3))
        con.sql(
            f"CREATE MODEL m OPTIONS (task = 'often', {options}) AS FROM {program}, labels => true)"
        )
        assert len(con.sql("FROM ml_predict('m')").fetchall()) == 600


def test_past_labels_need_a_horizon() -> None:
    with relann.connect() as con:
        con.sql(TABLES)
        with pytest.raises(QueryError, match=r"does not say when its labels are known"):
            con.sql("CREATE MODEL m OPTIONS (task = 'spend') AS FROM gat(labels => true)")


def test_heads_that_do_not_fit() -> None:
    """The error underlines the call."""
    with relann.connect() as con:
        con.sql(TABLES)
        with pytest.raises(QueryError, match=r"(?s)`heads` cut `width`.*gat\(width => 10\)"):
            con.sql("CREATE MODEL m OPTIONS (task = 'spend') AS FROM gat(width => 10)")
