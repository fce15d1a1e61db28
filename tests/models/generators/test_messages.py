"""gat, hgt and relgnn over a schema: that they run, what they compute, what they must not see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import duckdb
import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, leaky_relu

from relann.errors import QueryError
from relann.models.generators import Target, gat, hgt, relgnn, sage
from relann.provenance.encoders import Encoders
from relann.schema import Catalog, ForeignKey, Relation, Schema, Table
from tests.models.generators import shop
from tests.models.generators.shop import CUSTOMER
from tests.models.generators.test_sage import logits, module_of

WRITERS = {"gat": gat, "hgt": hgt, "relgnn": relgnn}
ALL: dict[str, Callable[..., str]] = {"sage": sage, **WRITERS}
Weights = dict[str, Tensor]


def generated(con: duckdb.DuckDBPyConnection, name: str, **options: Any) -> str:
    return ALL[name](shop.schema(con), Catalog(con), CUSTOMER, **{"width": 8, **options})


def with_past(con: duckdb.DuckDBPyConnection) -> Schema:
    """The schema that also says when past labels are known."""
    past = shop.past(con)
    return Schema({**shop.schema(con).relations, past.table.name: past})


@pytest.mark.parametrize("complete", [True, False], ids=["complete", "with gaps"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"layers": 0},
        {"layers": 1, "heads": 1, "norm": False, "out": 3},
        {"layers": 1, "neighbours": 2, "relative_time": "all", "dropout": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", WRITERS)
def test_runs_as_of_each_seed(name: str, options: dict[str, Any], complete: bool) -> None:
    con = shop.shop(0, complete)
    text = generated(con, name, **options)
    assert not shop.opaque(shop.timed(con, text))
    found = logits(con, text, shop.schema(con))
    seeds = con.execute("SELECT DISTINCT cid, tm FROM seeds WHERE cid < 6").fetchall()
    assert set(found) == set(seeds)
    for value in found.values():
        assert value.shape == (options.get("out", 1),) and bool(value.isfinite().all())


@pytest.mark.parametrize("table", ["orders", "past_spend"])
@pytest.mark.parametrize("name", ALL)
def test_rows_after_the_anchor_say_nothing(name: str, table: str) -> None:
    """Dated later, they change no prediction; dated earlier, they do. Past labels are rows too."""
    con = shop.shop(2, complete=True)
    con.execute("DELETE FROM seeds; INSERT INTO seeds VALUES (1, TIMESTAMP '2020-01-25')")
    past = shop.past(con)
    text = generated(con, name, labels=past)
    known: list[Encoders] = []
    (before,) = logits(con, text, with_past(con), known).values()
    column, time = ("oid + 100 AS oid, amount + 1 AS amount", "ts")
    if table == "past_spend":
        column, time = "y + 1 AS y", "tm"
    con.execute(
        f"INSERT INTO {table} SELECT * REPLACE ({column}, TIMESTAMP '2020-01-26' AS {time}) "
        f"FROM {table} WHERE cid = 1 AND {time} <= TIMESTAMP '2020-01-25'"
    )
    (later,) = logits(con, text, with_past(con), known).values()
    torch.testing.assert_close(before, later)
    con.execute(
        f"UPDATE {table} SET {time} = TIMESTAMP '2020-01-24' "
        f"WHERE {time} = TIMESTAMP '2020-01-26' AND cid = 1"
    )
    (earlier,) = logits(con, text, with_past(con), known).values()
    assert not torch.allclose(before, earlier)


@pytest.mark.parametrize("name", WRITERS)
def test_children_said_twice_change_nothing(name: str) -> None:
    """Attention is a mean with shares."""
    con = shop.shop(3, complete=True)
    con.execute("DELETE FROM seeds; INSERT INTO seeds VALUES (1, TIMESTAMP '2020-03-01')")
    text, known = generated(con, name, layers=1), list[Encoders]()
    (before,) = logits(con, text, shop.schema(con), known).values()
    con.execute("INSERT INTO orders SELECT * REPLACE (oid + 100 AS oid) FROM orders")
    (after,) = logits(con, text, shop.schema(con), known).values()
    torch.testing.assert_close(before, after)


# -- by hand -------------------------------------------------------------------------------------

OWNER = Target('"owner"', "id", "cid")


def owners() -> tuple[duckdb.DuckDBPyConnection, Schema]:
    """Owners of a kind, with items that have a kind too."""
    con = duckdb.connect()
    con.execute("""
        CREATE TABLE kind (kid INTEGER, w DOUBLE);
        CREATE TABLE owner (id INTEGER, kid INTEGER, x DOUBLE);
        CREATE TABLE item (iid INTEGER, oid INTEGER, kid INTEGER, y DOUBLE);
        INSERT INTO kind VALUES (0, 3), (1, -1);
        INSERT INTO owner VALUES (0, 1, 1), (1, NULL, 4), (2, 0, 2);
        INSERT INTO item VALUES (0, 0, 0, 1), (1, 0, 1, 2), (2, 0, NULL, 4), (3, 1, 0, -3);
        CREATE TABLE seeds AS SELECT id AS cid, TIMESTAMP '2020-01-01' AS tm FROM owner
    """)
    kind = ForeignKey("kid", '"kind"', "kid")
    keys: dict[str, tuple[str, tuple[ForeignKey, ...]]] = {
        "kind": ("kid", ()),
        "owner": ("id", (kind,)),
        "item": ("iid", (ForeignKey("oid", '"owner"', "id"), kind)),
    }
    relations = {}
    for name, (key, foreign) in keys.items():
        columns = tuple((r[0], r[1]) for r in con.execute(f"DESCRIBE {name}").fetchall())
        relations[f'"{name}"'] = Relation(Table(f'"{name}"', columns), key, None, foreign)
    return con, Schema(relations)


class ByHand:
    """The owners' embeddings after one layer, row by row, from a program's own weights."""

    def __init__(self, weights: Weights, z: dict[str, dict[int, Tensor]], heads: int) -> None:
        self.weights = {k.removeprefix("query."): v.double() for k, v in weights.items()}
        self.z = z
        self.heads = heads
        self.kind_of_owner, self.kind_of_item = {0: 1, 2: 0}, {0: 0, 1: 1, 3: 0}
        self.items = {0: [0, 1, 2], 1: [3], 2: []}

    def linear(self, name: str, x: Tensor) -> Tensor:
        out = x @ self.weights[f"{name}.weight"]
        bias = self.weights.get(f"{name}.bias")
        return out if bias is None else out + bias

    def in_heads(self, name: str, x: Tensor) -> Tensor:
        parts = x.reshape(self.heads, 1, -1) @ self.weights[f"{name}.weight"]
        return parts.reshape(-1)

    def dots(self, x: Tensor, y: Tensor) -> Tensor:
        return (x * y).reshape(self.heads, -1).sum(1)

    def attended(self, scores: list[Tensor], values: list[Tensor]) -> Tensor:
        if not scores:
            return torch.zeros(4, dtype=torch.float64)
        shares = torch.stack(scores).softmax(0)
        parts = torch.stack(values).reshape(len(values), self.heads, -1)
        return (parts * shares[:, :, None]).sum(0).reshape(-1)

    def gat(self, owner: int) -> Tensor:
        z = self.z["owner"][owner]
        query = self.linear("pairs_item_by_oid_1.linear_1", z)
        sent = [
            self.linear("pairs_item_by_oid_1.linear_0", self.z["item"][i])
            for i in self.items[owner]
        ]
        a = self.weights["shares_item_by_oid_1.param_0.value"]
        scores = [self.dots(leaky_relu(v + query, 0.2), a) for v in sent]
        out = self.linear("owner_1.linear_0", z) + self.attended(scores, sent)
        if owner in self.kind_of_owner:
            kind = self.z["kind"][self.kind_of_owner[owner]]
            out = out + self.linear("owner_1.linear_1", kind)
        return out.relu()

    def relgnn(self, owner: int) -> Tensor:
        z = self.z["owner"][owner]
        query = self.linear("keyed_item_by_oid_1.linear_2", z)
        fused = []
        for item in self.items[owner]:
            f = self.linear("pairs_item_by_oid_1.linear_0", self.z["item"][item])
            if item in self.kind_of_item:
                kind = self.z["kind"][self.kind_of_item[item]]
                f = f + self.linear("pairs_item_by_oid_1.linear_1", kind)
            fused.append(f)
        keys = [self.linear("keyed_item_by_oid_1.linear_0", f) for f in fused]
        values = [self.linear("keyed_item_by_oid_1.linear_1", f) for f in fused]
        scores = [self.dots(query, k) / 2**0.5 for k in keys]
        received = self.attended(scores, values)
        out = self.linear("owner_1.linear_0", z) + self.linear("owner_1.linear_1", received)
        if owner in self.kind_of_owner:
            kind = self.z["kind"][self.kind_of_owner[owner]]
            out = out + self.linear("owner_1.linear_2", kind)
        return out.relu()

    def hgt(self, owner: int) -> Tensor:
        z = self.z["owner"][owner]
        query = self.linear("owner_kqv_1.linear_1", z)
        senders = [("item", i, "pairs_owner_sent_1.part_0") for i in self.items[owner]]
        if owner in self.kind_of_owner:
            senders.append(("kind", self.kind_of_owner[owner], "pairs_owner_sent_1.part_1"))
        scores, values = [], []
        for table, row, edge in senders:
            key = self.linear(f"{table}_kqv_1.linear_0", self.z[table][row])
            value = self.linear(f"{table}_kqv_1.linear_2", self.z[table][row])
            values.append(self.in_heads(f"{edge}.linear_0", value))
            key = self.in_heads(f"{edge}.linear_1", key)
            prior = self.weights[f"{edge}.param_0.value"]
            scores.append(self.dots(key, query) * prior / 2**0.5)
        new = self.linear("owner_1.linear_0", gelu(self.attended(scores, values)))
        gate = self.weights["owner_1.param_0.value"].sigmoid()
        return gate * new + (1 - gate) * z


@pytest.mark.parametrize("name", WRITERS)
def test_by_hand(name: str) -> None:
    """The equations of docs/generators.md on a few rows: shares, missing parents, no children."""
    con, described = owners()
    options = {"layers": 1, "width": 4, "heads": 2, "norm": False, "out": 0}
    text = ALL[name](described, Catalog(con), OWNER, **options)
    module, found = module_of(con, text, described)
    head = text.rpartition("SELECT e.id AS cid, e.z")[0]
    rows = {"owner": "t.id AS cid, t.id AS row", "item": "t.oid AS cid, t.iid AS row"}
    rows["kind"] = "c.id AS cid, t.kid AS row"
    z: dict[str, dict[int, Tensor]] = {}
    for table, columns in rows.items():
        source = f"{table}_0 t" + (" CROSS JOIN owner c" if table == "kind" else "")
        embedded = logits(con, f"{head}SELECT {columns}, t.z FROM {source}", described)
        z[table] = {row: value for (_, _, row), value in embedded.items()}
    by_hand = ByHand(module.state(), z, heads=2)
    assert len(found) == 3
    for (owner, _), value in found.items():
        torch.testing.assert_close(value, getattr(by_hand, name)(owner))


def test_rows_without_a_key_take_what_each_parent_sends() -> None:
    """They cannot be told apart, so hgt has no softmax over their parents; the page says so."""
    con = shop.shop(0)
    text = generated(con, "hgt", layers=3)
    assert "pairs_review" not in text and "review_1 AS" in text
    assert logits(con, text, shop.schema(con))


@pytest.mark.parametrize("name", ALL)
def test_columns_named_like_ours_and_rows_that_name_rows(name: str) -> None:
    """Keys called z, v, k and a; friends of friends."""
    con = duckdb.connect()
    con.execute(
        "CREATE TABLE person (z INTEGER, k INTEGER, q DOUBLE);"
        "CREATE TABLE friend (v INTEGER, a INTEGER);"
        "INSERT INTO person VALUES (1, NULL, 3), (2, 1, 2), (3, 1, 1);"
        "INSERT INTO friend VALUES (1, 2), (2, 3), (2, 1);"
        "CREATE TABLE seeds AS SELECT 1 AS cid, TIMESTAMP '2020-01-01' AS tm"
    )
    person = Table('"person"', (("z", "INTEGER"), ("k", "INTEGER"), ("q", "DOUBLE")))
    friend = Table('"friend"', (("v", "INTEGER"), ("a", "INTEGER")))
    to = [ForeignKey(c, person.name, "z") for c in "kva"]
    described = Schema(
        {
            person.name: Relation(person, "z", None, (to[0],)),
            friend.name: Relation(friend, None, None, (to[1], to[2])),
        }
    )
    text = ALL[name](described, Catalog(con), Target(person.name, "z", "cid"), width=4)
    assert len(logits(con, text, described)) == 1


def test_past_labels_are_numbers_or_categories() -> None:
    con = shop.shop(0)
    assert "linear(numeric(t.y), 8) AS z" in generated(con, "gat", labels=shop.past(con))
    assert "category(t.y, 8) AS z" in generated(con, "gat", labels=shop.past(con, classes=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, r"8 is no multiple of 3; a width of 6 or 9 is"),
        ({"heads": 16}, r"8 is no multiple of 16; a width of 16 is"),
        ({"heads": 0}, r"`heads` is a whole number from 1 on, not 0"),
        ({"width": 0}, r"`width` is a whole number from 1 on"),
        ({"relative_time": "frist"}, r"Did you mean `first`"),
        ({"dropout": True}, r"`dropout` is a share from 0 to below 1"),
        ({"layers": -1}, r"`layers` is a whole number from 0 on"),
    ],
)
@pytest.mark.parametrize("name", WRITERS)
def test_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        generated(shop.shop(0), name, **options)
