"""Rewrites before and after, as golden text; also where a rule must not fire."""

from __future__ import annotations

import pytest

from relann.algebra.engines.duckdb import DuckDBEngine
from relann.algebra.explain import node_to_text, plan_to_text
from relann.algebra.lower import lower
from relann.algebra.optimize import optimise
from relann.algebra.rowmaps import build
from relann.algebra.statistics import Statistics
from relann.schema import Catalog
from tests import golden
from tests.fixtures import bound, papers


def _render(sql: str) -> str:
    con = papers()
    catalog = Catalog(con)
    statistics = Statistics(catalog.estimate, catalog.sketch)
    optimised = optimise(bound(con, sql), statistics)
    fired = ", ".join(f"{n} ×{k}" for n, k in optimised.fired.items()) or "none"
    return "\n".join(
        [
            f"fired: {fired}",
            node_to_text(optimised.node, None, 0),
            plan_to_text(lower(optimised.node)),
        ]
    )


@pytest.mark.parametrize("name", [c.name for c in golden.read("rules.sql")])
def test_rewrites(name: str) -> None:
    """Each query optimises to the plan in the file."""
    golden.check("rules.sql", name, _render)


def test_running_window_over_gathered_rows() -> None:
    """Positions in a partition follow the rows, also when these hold another space's numbers.

    Found by the property tests: the window's row number and a gather's had one name.
    """
    con = papers()
    node = bound(
        con,
        "SELECT c.dst, sum(linear(embedding(p.id, 2), 1)) OVER (PARTITION BY c.dst ORDER BY c.src) "
        "AS z FROM cites c JOIN paper p ON p.id = c.src",
    )
    plan = lower(optimise(node, Statistics(Catalog(con).estimate, Catalog(con).sketch)).node)
    maps = build(plan, DuckDBEngine(con))
    (parts,) = maps.partitions.values()
    assert maps.gathers
    assert parts.position is not None
    for partition in range(parts.count):
        inside = parts.position[parts.ids == partition]
        assert sorted(inside) == list(range(len(inside)))
