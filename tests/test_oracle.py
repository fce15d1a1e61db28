"""The oracle itself, on examples small enough to work out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from relann.algebra.nodes import (
    Aggregate,
    Alias,
    Column,
    Join,
    Map,
    Node,
    Over,
    Reduce,
    Scan,
    Union,
    Window,
    passed,
)
from relann.algebra.terms import (
    Apply,
    Coalesce,
    Constant,
    Content,
    Field,
    Key,
    Learned,
    Lift,
    Linear,
    Lookup,
    Norm,
    Parameter,
    column,
)
from tests.oracle import Fitted, key_values, meaning, parameters_of

TABLES: dict[str, list[dict[str, Any]]] = {
    "edge": [
        {"src": 1, "dst": 1, "rel": "a", "w": 2.0},
        {"src": 2, "dst": 1, "rel": "b", "w": 0.5},
        {"src": 2, "dst": None, "rel": "a", "w": None},
        {"src": None, "dst": None, "rel": "a", "w": 4.0},
    ],
    "node": [{"id": 1, "x": (1.0, 2.0)}, {"id": 2, "x": (3.0, -1.0)}, {"id": 3, "x": None}],
    "nothing": [],
}
EDGE = Scan(
    '"edge"',
    tuple(
        Column(n, type=t)
        for n, t in (("src", "INTEGER"), ("dst", "INTEGER"), ("rel", "VARCHAR"), ("w", "DOUBLE"))
    ),
)
NODE = Scan('"node"', (Column("id", type="INTEGER"), Column("x", type="FLOAT[2]")))
X = Map(NODE, (("id", column("id", "INTEGER")), ("x", Lift(column("x", "FLOAT[2]")))))
W = Parameter("w", (2, 1))
B = Parameter("b", (1,))


def numbers(rows: list[dict[str, Any]], name: str) -> list[Any]:
    """A column as plain numbers."""
    return [None if r[name] is None else [e.item() for e in r[name]] for r in rows]


def learn(**values: list[Any]) -> dict[str, Tensor]:
    """Parameters of float64."""
    return {n: torch.tensor(v, dtype=torch.float64, requires_grad=True) for n, v in values.items()}


def test_a_sum_of_products_over_a_join() -> None:
    """Σ (x·W + b)·w per destination; a NULL weight leaves its row out, NULL keys do not join."""
    joined = Join(Alias(EDGE, "e"), Alias(X, "n"), "inner", Content('"e.src" = "n.id"', "BOOLEAN"))
    scaled = Apply("mul", (Linear(Field("n.x", 2), W, B), Lift(column("e.w", "DOUBLE"))))
    sums = Aggregate(
        Map(joined, (("dst", column("e.dst", "INTEGER")), ("z", scaled))),
        ("dst",),
        (("z", Reduce("sum", "z")), ("n", Reduce("count", "z"))),
    )
    parameters = learn(w=[[1.0], [10.0]], b=[0.5])
    rows = meaning(sums, TABLES, parameters)
    assert [r["dst"] for r in rows] == [1, None]
    assert numbers(rows, "z") == [[(1 + 20 + 0.5) * 2 + (3 - 10 + 0.5) * 0.5], None]
    assert numbers(rows, "n") == [[2.0], [0.0]]
    rows[0]["z"].sum().backward()
    assert parameters["w"].grad is not None
    assert parameters["b"].grad is not None
    assert parameters["w"].grad.flatten().tolist() == [1 * 2 + 3 * 0.5, 2 * 2 - 1 * 0.5]
    assert parameters["b"].grad.tolist() == [2.5]


def test_coalesce_fills_the_missing_side() -> None:
    """A left join without a partner has NULL embeddings."""
    kind = Content('"e.src" = "n.id" AND "n.id" <> 2', "BOOLEAN")
    joined = Join(Alias(EDGE, "e"), Alias(X, "n"), "left", kind)
    filled = Coalesce((Field("n.x", 2), Constant(7.0)))
    rows = meaning(Map(joined, (("z", filled), ("x", Field("n.x", 2)))), TABLES, {})
    assert numbers(rows, "z") == [[1, 2], [7, 7], [7, 7], [7, 7]]
    assert numbers(rows, "x") == [[1, 2], None, None, None]


def scored() -> Node:
    """Edges with their weight as an embedding."""
    outputs = [(c.name, passed(c)) for c in EDGE.columns[:3]]
    return Map(EDGE, (*outputs, ("s", Lift(column("w", "DOUBLE")))))


def test_softmax_is_over_the_rows_of_a_partition() -> None:
    """A NULL score stays NULL and is left out of the others' sum; NULL keys are one partition."""
    rows = meaning(Window(scored(), (("a", Over("softmax", "s", ("dst",))),)), TABLES, {})
    first = math.exp(2) / (math.exp(2) + math.exp(0.5))
    found = numbers(rows, "a")
    assert found[0] == pytest.approx([first])
    assert found[1] == pytest.approx([1 - first])
    assert found[2:] == [None, [1.0]]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("sum", [[6.0], [6.5], [6.0], [6.0]]),
        ("avg", [[3.0], [6.5 / 3], [3.0], [3.0]]),
        ("min", [[2.0], [0.5], [2.0], [2.0]]),
        ("max", [[4.0], [4.0], [4.0], [4.0]]),
        ("count", [[2.0], [3.0], [2.0], [2.0]]),
    ],
)
def test_a_running_window_takes_its_peers_along(how: str, expected: list[list[float]]) -> None:
    """Three rows tie at `a`, `b` comes after them; NULLs are left out but have a value."""
    over = Over(how, "s", (), (("rel", False, False),))
    assert numbers(meaning(Window(scored(), (("z", over),)), TABLES, {}), "z") == expected


def test_reductions_of_few_rows() -> None:
    """NULL below one row, below two for the deviation; a count is never NULL; FILTER drops rows."""
    flagged = Map(
        scored(),
        (("dst", column("dst", "INTEGER")), ("s", Field("s", 1)),
         ("a", Content("\"rel\" = 'a'", "BOOLEAN"))),
    )  # fmt: skip
    outputs = tuple((how, Reduce(how, "s")) for how in ("sum", "avg", "min", "count", "stddev"))
    filtered = (("only", Reduce("sum", "s", "a")),)
    rows = meaning(Aggregate(flagged, ("dst",), outputs + filtered), TABLES, {})
    assert [numbers(rows, n) for n in ("sum", "avg", "min", "count", "only")] == [
        [[2.5], [4.0]], [[1.25], [4.0]], [[0.5], [4.0]], [[2.0], [1.0]], [[2.0], [4.0]]
    ]  # fmt: skip
    assert numbers(rows, "stddev")[0] == pytest.approx([1.5 / math.sqrt(2)])
    assert numbers(rows, "stddev")[1] is None
    empty = Map(Scan('"nothing"', EDGE.columns), (("s", Lift(column("w", "DOUBLE"))),))
    (row,) = meaning(Aggregate(empty, (), outputs), TABLES, {})
    assert [row[n] is None for n in ("sum", "avg", "min", "count", "stddev")] == [
        True, True, True, False, True
    ]  # fmt: skip


def test_each_key_has_its_own_set() -> None:
    """`per` picks the set, NULL is a key; an embedding's unseen key is zero."""
    per = Key("site", (column("dst", "INTEGER"),))
    table = Parameter("t", (2,))
    node = Map(
        EDGE,
        (
            ("p", Linear(Lift(column("src", "INTEGER")), Parameter("v", (1, 1)), None, per)),
            ("e", Lookup(table, Key("other", (column("rel", "VARCHAR"),)))),
        ),
    )
    assert key_values(node, TABLES) == {
        "site": {(1,): 2, (None,): 2},
        "other": {("a",): 3, ("b",): 1},
    }
    assert parameters_of(node, {"site": 2, "other": 1}) == {"v": (2, 1, 1), "t": (1, 2)}
    fitted = Fitted({"site": {(1,): 0, (None,): 1}, "other": {("a",): 0}})
    rows = meaning(node, TABLES, learn(v=[[[10.0]], [[100.0]]], t=[[1.0, 2.0]]), fitted)
    assert numbers(rows, "p") == [[10.0], [20.0], [200.0], None]
    assert numbers(rows, "e") == [[1, 2], [0, 0], [1, 2], [1, 2]]


def test_norms_and_unions() -> None:
    """Batch norm over all rows that are not NULL, layer norm within each; unions stack."""
    scale, shift = Parameter("scale", (2,), "ones"), Parameter("shift", (2,), "zeros")
    known = learn(scale=[1.0, 2.0], shift=[0.0, 1.0])
    batch = Map(X, (("z", Norm("batch", Field("x", 2), scale, shift)),))
    layer = Map(X, (("z", Norm("layer", Field("x", 2), scale, shift)),))
    rows = numbers(meaning(Union((batch, layer)), TABLES, known), "z")
    d, e, f = 1 / math.sqrt(1 + 1e-5), 1.5 / math.sqrt(2.25 + 1e-5), 0.5 / math.sqrt(0.25 + 1e-5)
    g = 2 / math.sqrt(4 + 1e-5)
    assert [r if r is None else pytest.approx(r) for r in rows] == [
        [-d, 1 + 2 * e], [d, 1 - 2 * e], None, [-f, 1 + 2 * f], [g, 1 - 2 * g], None
    ]  # fmt: skip


def test_gradients_where_functions_have_corners() -> None:
    """relu, abs and a deviation of 0 have gradient 0 there; ties of a maximum share it."""
    p = Parameter("p", (2,))
    here = Map(EDGE, (("p", Learned(p)),))
    zero = learn(p=[0.0, 0.0])
    corners = Map(EDGE, (("r", Apply("relu", (Learned(p),))), ("a", Apply("abs", (Learned(p),)))))
    for row in meaning(corners, TABLES, zero):
        (row["r"] + row["a"]).sum().backward()
    outputs = (("z", Reduce("max", "p")), ("s", Reduce("stddev", "p")))
    (row,) = meaning(Aggregate(here, (), outputs), TABLES, zero)
    row["s"].sum().backward()
    assert zero["p"].grad is not None
    assert zero["p"].grad.tolist() == [0.0, 0.0]
    row["z"].sum().backward()
    assert zero["p"].grad.tolist() == [1.0, 1.0]
