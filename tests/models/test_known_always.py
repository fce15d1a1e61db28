"""Which tables without a time are within reach of an entity's table."""

from __future__ import annotations

from relann.models.known_always import known_always, reached
from relann.schema import ForeignKey, Relation, Schema, Table


def relation(name: str, time: str | None = None, **foreign: str) -> Relation:
    keys = tuple(ForeignKey(c, f'"{t}"', "id") for c, t in foreign.items())
    return Relation(Table(f'"{name}"', (("id", "INTEGER"),)), "id", time, keys)


def schema(*relations: Relation) -> Schema:
    return Schema({r.table.name: r for r in relations})


SHOP = schema(
    relation("customer", boss="customer"),
    relation("order", "at", c="customer", s="shop"),
    relation("shop", town="town"),
    relation("town"),
    relation("island"),
)


def test_foreign_keys_are_followed_in_both_directions() -> None:
    found = [r.table.name for r in reached(SHOP, '"customer"')]
    assert found == ['"customer"', '"order"', '"shop"', '"town"']
    assert [r.table.name for r in reached(SHOP, "island")] == ['"island"']
    assert reached(SHOP, "nowhere") == []


def test_the_sentence() -> None:
    def number(sql: str) -> int:
        return 1 if '"town"' in sql else 1200

    assert known_always(SHOP, '"customer"', number) == [
        "3 tables have no time column and are always visible: customer (1,200 rows), "
        "shop (1,200 rows), town (1 row)"
    ]
    timed = schema(relation("customer", "since"), relation("order", "at", c="customer"))
    assert known_always(timed, '"customer"', number) == []
    one = schema(relation("customer"), relation("order", "at", c="customer"))
    assert known_always(one, '"order"', number) == [
        "1 table has no time column and is always visible: customer (1,200 rows)"
    ]


def test_many_tables_are_cut_off_and_not_counted() -> None:
    many = schema(*(relation(f"t{i}", t="t0") for i in range(12)))
    asked = []
    (told,) = known_always(many, '"t0"', lambda sql: asked.append(sql) or 2)
    assert told.endswith("t7 (2 rows), … (12 in all)") and len(asked) == 8
