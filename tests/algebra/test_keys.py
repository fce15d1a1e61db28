"""What is said to identify rows does, whatever the data."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings

from relann.algebra.keys import Keys
from relann.algebra.nodes import Join, Node
from relann.algebra.sql import content_side, node_to_sql
from relann.algebra.terms import Content, quoted
from tests.fixtures import bound, papers
from tests.strategies import Database, databases, lifted_queries

GROUPS = "(SELECT c.dst AS id, c.w AS w, sum(linear(c.w, 1)) AS z FROM cites c GROUP BY c.dst, c.w)"


def query(sql: str) -> Node:
    """A query over the papers."""
    return bound(papers(), sql)


@pytest.mark.parametrize(
    ("sql", "key"),
    [
        (f"SELECT g.id, g.w, g.z FROM {GROUPS} g", ["id", "w"]),
        (f"SELECT g.id, g.w, g.z FROM {GROUPS} g WHERE g.w > 1", ["id", "w"]),
        (f"SELECT g.id, h.w, g.z FROM {GROUPS} g JOIN {GROUPS} h USING (id, w)", ["id", "w"]),
        # the other side's columns stand for their equals
        (f"SELECT h.id, g.w, g.z FROM {GROUPS} g JOIN {GROUPS} h ON h.id = g.id AND h.w = g.w",
         ["id", "w"]),
        (f"SELECT g.id, g.w, g.z FROM {GROUPS} g LEFT JOIN {GROUPS} h ON h.id = g.id AND h.w = g.w",
         ["id", "w"]),
        (f"SELECT g.id, g.w, g.z FROM {GROUPS} g SEMI JOIN cites c ON c.dst = g.id", ["id", "w"]),
        (f"SELECT g.id, g.w, g.z FROM {GROUPS} g ASOF JOIN cites c ON c.dst = g.id AND g.w >= c.w",
         ["id", "w"]),
    ],
)  # fmt: skip
def test_groups_are_known_by_their_keys(sql: str, key: list[str]) -> None:
    node, keys = query(sql), Keys()
    assert keys.holds(node, key)
    assert keys.holds(node, [*key, "z"])
    for column in key:
        assert not keys.holds(node, [column])


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT p.id, linear(p.year, 1) AS z FROM paper p",  # only the data could tell
        f"SELECT g.id, g.w, g.z FROM {GROUPS} g JOIN cites c ON c.dst = g.id",
        f"SELECT h.id, h.w, g.z FROM {GROUPS} g LEFT JOIN {GROUPS} h ON h.id = g.id AND h.w = g.w",
        f"SELECT g.id, g.w, g.z FROM {GROUPS} g JOIN {GROUPS} h ON h.id = g.id",
        f"SELECT g.id, g.w + 1 AS w, g.z FROM {GROUPS} g",
    ],
)
def test_nothing_is_said_of_other_columns(sql: str) -> None:
    node = query(sql)
    assert not Keys().holds(node, node.names)


def test_a_table_has_the_keys_that_are_counted() -> None:
    node = query(
        "SELECT p.id, linear(p.year, 1) AS z, c.src FROM cites c LEFT JOIN paper p ON p.id = c.src"
    )
    keys = Keys(lambda _, columns: "id" in columns)
    join = next(n for n in node.walk() if isinstance(n, Join))
    assert isinstance(join.on, Content)
    assert keys.meets_one(join.right, join.on)
    assert not keys.meets_one(join.left, join.on)


@settings(max_examples=150, deadline=None)
@given(databases(), lifted_queries())
def test_no_two_rows_agree_in_a_key(database: Database, sql: str) -> None:
    """Of drawn queries on drawn databases, every part, every one or two columns."""
    con = database.connect()
    keys = Keys()
    for node in content_side(bound(con, sql)).walk():
        for columns in [*combinations(node.names, 1), *combinations(node.names, 2)]:
            if keys.holds(node, columns):
                listed = ", ".join(map(quoted, columns))
                found = con.execute(
                    f"SELECT count(*), count(DISTINCT ({listed},)) FROM ({node_to_sql(node)})"
                ).fetchall()
                assert found[0][0] == found[0][1], (columns, node)
