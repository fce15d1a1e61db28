"""The features that relann's `dfs` and featuretools both define, under relann's names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from relann.models.generators.program import Link, bare, into, out_of
from relann.models.generators.values import Columns, Value
from relann.schema import Relation, Schema, unquoted

OPTIONS = {
    "aggregates": ("count", "sum", "avg", "min", "max", "stddev", "mode", "count_distinct"),
    "windows": (None,),
    "last": (),
    "decay": (),
    "latest_parent": False,
    "within_event": False,
    "categories": 0,
}
"""Arguments of `dfs` that leave out what featuretools has no primitive for."""
_NUMERIC = ("sum", "avg", "min", "max", "stddev")
_CATEGORICAL = ("mode", "count_distinct")


@dataclass(frozen=True)
class Feature:
    """`how` of something of an entity's children, for each entity.

    child, by   the children's table and their foreign key to the entity
    column      of the children, or of the other table; None counts rows
    other, via  a further table and the foreign key between it and the children, if any
    inner       how rows of the other table, which names the children, are aggregated first; None
                where it is the children's parent
    """

    name: str
    how: str
    child: str
    by: str
    column: str | None
    other: str | None = None
    via: str | None = None
    inner: str | None = None


def features(schema: Schema, entity: Relation, columns: Columns, depth: int) -> Iterator[Feature]:
    """Aggregates of the entity's children; with depth 2 of their parents and children as well."""
    for link in into(schema, entity):
        child, by = _name(link.child), link.foreign.column
        name = _path(schema, link, link.child)
        yield Feature(f"{name}_count", "count", child, by, None)
        for value in columns.of(link.child, [link.foreign.references]):
            hows = {"number": _NUMERIC, "category": _CATEGORICAL}.get(value.kind, ())
            for how in hows:
                yield Feature(f"{name}_{how}_{value.name}", how, child, by, value.name)
        if depth > 1:
            yield from _of_parents(schema, link, name, columns)
            yield from _of_children(schema, entity, link, name, columns)


def _of_parents(schema: Schema, link: Link, name: str, columns: Columns) -> Iterator[Feature]:
    for up in out_of(schema, link.child):
        if up.foreign == link.foreign:
            continue
        mark = _path(schema, up, up.parent)
        for value in columns.of(up.parent):
            hows = {"number": ("avg",), "category": _CATEGORICAL}.get(value.kind, ())
            for how in hows:
                yield Feature(
                    f"{name}_{how}_{mark}_{value.name}",
                    how,
                    _name(link.child),
                    link.foreign.column,
                    value.name,
                    _name(up.parent),
                    up.foreign.column,
                )


def _of_children(
    schema: Schema, entity: Relation, link: Link, name: str, columns: Columns
) -> Iterator[Feature]:
    for down in into(schema, link.child):
        if down.child.table.name in (entity.table.name, link.child.table.name):
            continue
        mark = _path(schema, down, down.child)
        made: list[tuple[str, Value | None]] = [("count", None)]
        for value in columns.of(down.child):
            if value.kind == "number":
                made += [(how, value) for how in ("sum", "avg", "max")]
        for inner, value in made:
            what = f"{mark}_count" if value is None else f"{mark}_{inner}_{value.name}"
            yield Feature(
                f"{name}_avg_{what}",
                "avg",
                _name(link.child),
                link.foreign.column,
                None if value is None else value.name,
                _name(down.child),
                down.foreign.column,
                inner,
            )


def _name(relation: Relation) -> str:
    return unquoted(relation.table.name.rpartition(".")[2])


def _path(schema: Schema, link: Link, end: Relation) -> str:
    """How `dfs` names an end of a link."""
    same = [u for u in out_of(schema, link.child) if u.parent.table.name == link.parent.table.name]
    name = bare(end.table.name)
    return name if len(same) < 2 else f"{name}_{bare(link.foreign.column)}"
