"""Programs over a schema: their text. GraphSAGE: that it binds and runs, what it computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import duckdb
import pytest
import torch
from torch import Tensor

from relann.algebra.engines.duckdb import DuckDBEngine
from relann.algebra.lower import lower
from relann.algebra.optimize import optimise
from relann.algebra.rowmaps import build
from relann.algebra.statistics import Statistics
from relann.errors import DataError, QueryError
from relann.models.generators import Target, dfs, gat, hgt, relgnn, sage
from relann.provenance.encoders import Encoders
from relann.provenance.module import QueryModule
from relann.schema import Catalog, ForeignKey, Relation, Schema, Table
from tests import golden
from tests.models.generators import shop
from tests.models.generators.shop import CUSTOMER

WRITERS: dict[str, Callable[..., str]] = {
    "sage": sage,
    "gat": gat,
    "hgt": hgt,
    "relgnn": relgnn,
    "dfs": dfs,
}


def generated(con: duckdb.DuckDBPyConnection, **options: Any) -> str:
    return sage(shop.schema(con), Catalog(con), CUSTOMER, **{"width": 8, **options})


def module_of(
    con: duckdb.DuckDBPyConnection,
    text: str,
    described: Schema,
    known: list[Encoders] | None = None,
) -> tuple[QueryModule, dict[Any, Tensor]]:
    """A module with weights that depend on their names only, and the logit of each seed.

    `known` holds the encoders to take; where it is empty those fitted here are put there.
    """
    node = optimise(
        shop.lifted(shop.timed(con, text), described),
        Statistics(Catalog(con).estimate, Catalog(con).sketch),
    ).node
    maps = build(lower(node), DuckDBEngine(con))
    known = [] if known is None else known
    if not known:
        known.append(Encoders.fit(maps.plan, maps))
    module = QueryModule(maps.plan, known[0], seed=0, dtype=torch.float64)
    module.eval()
    ((values, valid),) = module(module.bind(maps))
    columns = [maps.columns[maps.plan.output, c].to_pylist() for _, c in maps.plan.contents]
    keys = list(zip(*columns, strict=True))
    there = [True] * len(keys) if valid is None else list(valid)
    found = {k: v.detach() for k, v, t in zip(keys, values, there, strict=True) if t}
    return module, found


def logits(
    con: duckdb.DuckDBPyConnection,
    text: str,
    described: Schema,
    known: list[Encoders] | None = None,
) -> dict[Any, Tensor]:
    """The logit of each seed alone."""
    return module_of(con, text, described, known)[1]


@pytest.mark.parametrize("name", [case.name for case in golden.read("generators.sql")])
def test_text(name: str) -> None:
    """`SELECT 'sage', {options}` stands for a call of that writer on the shop."""
    con = shop.shop(0, complete=True)

    def render(call: str) -> str:
        ((writer, options),) = con.execute(call).fetchall()
        if options.pop("labels", False):
            options["labels"] = shop.past(con)
        return WRITERS[writer](shop.schema(con), Catalog(con), CUSTOMER, **options)

    golden.check("generators.sql", name, render)


def test_without_a_head_it_gives_the_embedding() -> None:
    """The same text but for its last line."""
    con = shop.shop(0, complete=True)
    bare, headed = generated(con, out=0), generated(con)
    assert headed.replace("linear(e.z, 1) AS logit", "e.z") == bare
    found = logits(con, bare, shop.schema(con))
    assert {value.shape for value in found.values()} == {(8,)}


@pytest.mark.parametrize("complete", [True, False], ids=["complete", "with gaps"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"layers": 0},
        {"layers": 1, "out": 3},
        {"layers": 3, "aggregate": ("avg", "sum", "max"), "norm": False},
        {"neighbours": 2, "relative_time": "all", "dropout": 0.5},
        {"aggregate": "max", "relative_time": "none"},
    ],
    ids=str,
)
def test_runs_as_of_each_seed(options: dict[str, Any], complete: bool) -> None:
    con = shop.shop(0, complete)
    text = generated(con, **options)
    assert not shop.opaque(shop.timed(con, text))
    found = logits(con, text, shop.schema(con))
    seeds = con.execute("SELECT DISTINCT cid, tm FROM seeds WHERE cid < 6").fetchall()
    assert set(found) == set(seeds)
    for value in found.values():
        assert value.shape == (options.get("out", 1),) and bool(value.isfinite().all())


def test_parents_that_are_known_are_joined_without_gaps() -> None:
    """JOIN then says what LEFT JOIN would, and rows are computed once and not for each anchor."""
    con = shop.shop(1, complete=True)
    text = generated(con)
    left = text.replace("\n    JOIN event_0", "\n    LEFT JOIN event_0")
    assert left != text
    assert "\n    JOIN " not in generated(shop.shop(1))
    one, other = (logits(con, t, shop.schema(con)) for t in (text, left))
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(value, other[key])


def test_rows_after_the_anchor_say_nothing() -> None:
    """Dated later, they change no prediction; dated earlier, they do."""
    con = shop.shop(2, complete=True)
    con.execute("DELETE FROM seeds; INSERT INTO seeds VALUES (1, TIMESTAMP '2020-01-25')")
    text = generated(con, aggregate="sum")
    known: list[Encoders] = []
    (before,) = logits(con, text, shop.schema(con), known).values()
    con.execute(
        "INSERT INTO orders SELECT * REPLACE (oid + 100 AS oid, TIMESTAMP '2020-01-26' AS ts) "
        "FROM orders WHERE cid = 1 AND ts <= TIMESTAMP '2020-01-25'"
    )
    (later,) = logits(con, text, shop.schema(con), known).values()
    torch.testing.assert_close(before, later)
    con.execute("UPDATE orders SET ts = TIMESTAMP '2020-01-24' WHERE oid >= 100")
    (earlier,) = logits(con, text, shop.schema(con), known).values()
    assert not torch.allclose(before, earlier)


def test_only_the_latest_neighbours_count() -> None:
    """An older row changes nothing where two later ones are read."""
    con = shop.shop(3, complete=True)
    con.execute("DELETE FROM seeds; INSERT INTO seeds VALUES (1, TIMESTAMP '2020-03-01')")
    options = {"layers": 1, "relative_time": "none"}
    limited, every = (generated(con, neighbours=k, **options) for k in (2, None))
    encoders: tuple[list[Encoders], list[Encoders]] = ([], [])

    def both() -> list[Tensor]:
        found = [
            logits(con, text, shop.schema(con), known)
            for text, known in zip((limited, every), encoders, strict=True)
        ]
        return [value for values in found for value in values.values()]

    before = both()
    con.execute(
        "UPDATE orders SET amount = amount + 1 WHERE cid = 1 AND oid NOT IN ("
        "SELECT oid FROM orders WHERE cid = 1 ORDER BY ts DESC, oid DESC LIMIT 2)"
    )
    same = [torch.allclose(a, b) for a, b in zip(before, both(), strict=True)]
    assert same == [True, False]


def test_a_table_that_names_itself() -> None:
    con = duckdb.connect()
    con.execute(
        "CREATE TABLE staff (id INTEGER, boss INTEGER, pay DOUBLE);"
        "INSERT INTO staff VALUES (1, NULL, 3), (2, 1, 2), (3, 1, 1);"
        "CREATE TABLE seeds AS SELECT 1 AS cid, TIMESTAMP '2020-01-01' AS tm"
    )
    name = '"staff"'
    columns = (("id", "INTEGER"), ("boss", "INTEGER"), ("pay", "DOUBLE"))
    staff = Relation(Table(name, columns), "id", None, (ForeignKey("boss", name, "id"),))
    described = Schema({name: staff})
    text = sage(described, Catalog(con), Target(name, "id", "cid"), width=4)
    assert len(logits(con, text, described)) == 1
    features = dfs(described, Catalog(con), Target(name, "id", "cid"))
    ((row,)) = shop.rows(con, features, described)
    assert row["staff_count"] == 2 and row["staff_avg_pay"] == 1.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregate": "mean"}, r"`aggregate` is one of avg, sum, max, not 'mean'"),
        ({"aggregate": "summ"}, r"Did you mean `sum`"),
        ({"aggregate": ()}, r"`aggregate` names at least one aggregate"),
        ({"relative_time": "frist"}, r"`relative_time` is one of first, .* Did you mean `first`"),
        ({"layers": -1}, r"`layers` is a whole number from 0 on, not -1"),
        ({"width": 0}, r"`width` is a whole number from 1 on"),
        ({"neighbours": True}, r"`neighbours` is a whole number from 1 on"),
        ({"dropout": 1}, r"`dropout` is a share from 0 to below 1, not 1"),
        ({"out": 1.5}, r"`out` is a whole number"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        generated(shop.shop(0), **options)


def test_a_schema_of_another_database() -> None:
    described = shop.schema(shop.shop(0))
    with pytest.raises(DataError, match=r"orders"):
        sage(described, Catalog(duckdb.connect()), CUSTOMER)
