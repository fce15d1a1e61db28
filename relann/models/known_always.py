"""Tables without a time column: their rows are taken to have been known always."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from relann.errors import listing
from relann.schema import Relation, Schema, unquoted

_SHOWN = 8


def reached(schema: Schema, table: str) -> list[Relation]:
    """A table and those that foreign keys lead to from it, in either direction, the nearest first.

    Empty for a table that the schema does not know.
    """
    start = schema.find(table)
    found: dict[str, Relation] = {} if start is None else {start.table.name: start}
    queue = list(found.values())
    while queue:
        here = queue.pop(0)
        referenced = [schema.relations.get(f.table) for f in here.foreign]
        referring = [
            r
            for r in schema.relations.values()
            if any(f.table == here.table.name for f in r.foreign)
        ]
        for relation in [*referenced, *referring]:
            if relation is not None and relation.table.name not in found:
                found[relation.table.name] = relation
                queue.append(relation)
    return list(found.values())


def known_always(schema: Schema, table: str, number: Callable[[str], Any]) -> list[str]:
    """A sentence on the tables reached from a table that have no time column; none if all have.

    `number` gives the one number of a SELECT, here how many rows a table has.
    """
    timeless = [r.table.name for r in reached(schema, table) if r.time is None]
    if not timeless:
        return []
    told = []
    for name in timeless[:_SHOWN]:
        rows = number(f"SELECT count(*) FROM {name}")
        told.append(f"{unquoted(name)} ({rows:,} row{'s' * (rows != 1)})")
    told += timeless[_SHOWN:]
    which = "1 table has" if len(timeless) == 1 else f"{len(timeless)} tables have"
    always = "is" if len(timeless) == 1 else "are"
    return [f"{which} no time column and {always} always visible: {listing(told, _SHOWN)}"]
