"""Row counts by which rewrites are chosen."""

from __future__ import annotations

import pytest

from relann.algebra.nodes import Aggregate, Join, Node
from relann.algebra.statistics import Statistics
from relann.schema import Catalog
from tests.fixtures import bound, papers

ASKED = 123_456_789


def rows(sql: str, kind: type[Node]) -> int:
    """Rows of the first node of a kind where the database expects ASKED of all but tables."""
    con = papers()
    catalog = Catalog(con)

    def estimate(asked: str) -> int:
        return ASKED if "JOIN" in asked or "GROUP" in asked else catalog.estimate(asked)

    found = next(n for n in bound(con, sql).walk() if isinstance(n, kind))
    return Statistics(estimate, catalog.sketch).rows(found)


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        ("p.id = c.src", 1000),
        ("(c.src + 1) = p.id", 1000),
        ("p.id = c.src AND p.year > 1990", 1000),
        ("p.id <= c.src", ASKED),
        ("p.id >= c.src AND p.year = c.dst", ASKED),
        ("p.id = p.year AND c.src < c.dst", ASKED),
    ],
)
def test_only_equal_keys_join_at_most_one_row(on: str, expected: int) -> None:
    """A key that is compared with <= meets many rows, as the rows until an anchor do."""
    sql = f"SELECT c.src, linear(p.year, 2) AS z FROM cites c JOIN paper p ON {on}"
    assert rows(sql, Join) == expected


def test_no_more_groups_than_rows() -> None:
    assert rows("SELECT c.src, avg(linear(c.w, 2)) AS z FROM cites c GROUP BY ALL", Aggregate) == (
        1000
    )
    assert rows("SELECT avg(linear(c.w, 2)) AS z FROM cites c", Aggregate) == 1
