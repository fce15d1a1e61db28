"""Two-hop paths: how two entities meet at a row, through the foreign keys of a schema."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from relann.algebra.terms import quoted
from relann.autoselect.ground import ALWAYS, Ground
from relann.models.generators.program import Link, bare, into, links, out_of
from relann.schema import Relation


@dataclass(frozen=True)
class Side:
    """One way from an entity to the rows it may meet others at.

    `sql` gives (e, x, since): the entity, the row's key, and since when this is known. `there` and
    `back` are how the way reads from the entity and to it; `row` says that the row itself names the
    entity, and so a single one.
    """

    sql: str
    there: str
    back: str
    row: bool = False


@dataclass(frozen=True)
class Path:
    """Two sides that meet at the rows of one table; often the same side twice."""

    name: str
    first: Side
    second: Side


def paths(ground: Ground) -> list[Path]:
    """All two-hop paths from the entity to the entity, those of one side twice first.

    The row at which two entities meet is one that both name (a parent), one that children of both
    name (the race of two results), one that names one of them while a child of the other names it
    (a post and its comment), or one that names both. Tables without a key meet nobody, but for rows
    that name both.
    """
    entity = ground.entity
    if entity is None:
        return []
    same, mixed = [], []
    for sides in _sides(ground, entity).values():
        for number, side in enumerate(sides):
            if not side.row:
                same.append(_path(side, side))
            mixed += [_path(side, other) for other in sides[number + 1 :]]
    return [*same, *mixed, *_without_key(ground, entity)]


def _path(first: Side, second: Side) -> Path:
    name = first.there + second.back
    return Path(name.replace(")(", ", "), first, second)  # of one row that names both


def _sides(ground: Ground, entity: Relation) -> Mapping[tuple[str, str], list[Side]]:
    """The sides by the table and column of the row they lead to."""
    schema, name, key = ground.schema, bare(entity.table.name), ground.task.key
    found: dict[tuple[str, str], list[Side]] = defaultdict(list)
    for up in out_of(schema, entity):
        place = (up.parent.table.name, up.foreign.references)
        source = f"{name}{_by(ground, up)}"
        found[place].append(
            Side(
                _joined(ground, up, quoted(key or "")),
                f"{source} → {bare(up.parent.table.name)}",
                f" ← {source}",
            )
        )
    for down in _naming(ground, entity):
        child, column = down.child, quoted(down.foreign.column)
        middle = bare(child.table.name)
        if child.key is not None:
            found[child.table.name, child.key].append(
                Side(
                    _read(ground, child, column, f"c.{quoted(child.key)}"),
                    f"{name} ← {middle}{_by(ground, down)}",
                    f"{_by(ground, down)} → {name}",
                    row=True,
                )
            )
        for up in out_of(schema, child):
            if up.foreign.column == down.foreign.column:
                continue
            place = (up.parent.table.name, up.foreign.references)
            source = f"{middle}{_by(ground, down, up)}"
            found[place].append(
                Side(
                    _joined(ground, up, column),
                    f"{name} ← {source} → {bare(up.parent.table.name)}",
                    f" ← {source} → {name}",
                )
            )
    return found


def _without_key(ground: Ground, entity: Relation) -> list[Path]:
    """Rows that name two entities and have no key: what they name tells them apart."""
    found, name = [], bare(entity.table.name)
    naming = [link for link in _naming(ground, entity) if link.child.key is None]
    for number, one in enumerate(naming):
        for other in naming[number + 1 :]:
            if other.child.table.name != one.child.table.name:
                continue
            a, b = (quoted(link.foreign.column) for link in (one, other))
            x = f"{{'a': c.{a}, 'b': c.{b}}}"
            sides = (Side(_read(ground, one.child, c, x), "", "", row=True) for c in (a, b))
            middle = f"{bare(one.child.table.name)}{_by(ground, one, other)}"
            found.append(Path(f"{name} ← {middle} → {name}", *sides))
    return found


def _naming(ground: Ground, entity: Relation) -> list[Link]:
    return [k for k in into(ground.schema, entity) if k.foreign.references == ground.task.key]


def _joined(ground: Ground, up: Link, entity: str) -> str:
    """Rows of a child with the parent they name, if it is there and when both are known."""
    times = [ground.time(up.child, "c"), ground.time(up.parent, "p")]
    known = [time for time in times if time is not None]
    since = f"greatest({', '.join(known)})" if len(known) > 1 else (known or [ALWAYS])[0]
    column, references = quoted(up.foreign.column), quoted(up.foreign.references)
    where = " AND ".join(f"{v} IS NOT NULL" for v in (f"c.{entity}", *known))
    return (
        f"SELECT c.{entity} AS e, c.{column} AS x, {since} AS since FROM {up.child.table.name} c "
        f"JOIN {up.parent.table.name} p ON p.{references} = c.{column} WHERE {where}"
    )


def _read(ground: Ground, child: Relation, entity: str, x: str) -> str:
    """Rows of a table that name an entity."""
    time = ground.time(child, "c")
    where = f"c.{entity} IS NOT NULL" + ("" if time is None else f" AND {time} IS NOT NULL")
    return (
        f"SELECT c.{entity} AS e, {x} AS x, {time or ALWAYS} AS since "
        f"FROM {child.table.name} c WHERE {where}"
    )


def _by(ground: Ground, *given: Link) -> str:
    """The columns of links that are not the only ones between their tables."""

    def ends(link: Link) -> tuple[str, str]:
        return link.child.table.name, link.parent.table.name

    count = [ends(link) for link in links(ground.schema)]
    named = [link.foreign.column for link in given if count.count(ends(link)) > 1]
    return f"({', '.join(named)})" if named else ""
