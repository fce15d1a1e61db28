"""Row maps of some seeds at a time, upon those that are the same for all seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from relann.algebra.engines.protocol import Engine
from relann.algebra.lower import space_sources
from relann.algebra.nodes import Node, Query, Scan
from relann.algebra.plan import Plan, Rows, Space
from relann.algebra.rowmaps import RowMaps, extended

CHUNK = 'temp."relann chunk"'
"""The table whose rows are the seeds of the maps that are built next."""


@dataclass(frozen=True)
class Seeded:
    """A plan as it was lowered, whose seeds are the rows that the table CHUNK has when it is built.

    fixed    the maps of the spaces that read no seeds, `held` their relations
    varying  the other spaces
    """

    plan: Plan
    fixed: RowMaps
    held: Mapping[int, object]
    varying: frozenset[int]

    @classmethod
    def of(cls, plan: Plan, seeds: Node, engine: Engine) -> Seeded:
        """The plan of a query as of some `seeds`, a query over one table or sub-query."""
        (leaf,) = (node for node in seeds.walk() if not node.sources)
        varying: set[int] = set()
        spaces: list[Space] = []
        for number, space in enumerate(plan.spaces):
            moved = _moved(space, leaf)
            spaces.append(moved)
            if moved is not space or not varying.isdisjoint(space_sources(space)):
                varying.add(number)
        made = replace(plan, spaces=tuple(spaces))
        same = [n for n in range(len(spaces)) if n not in varying]
        maps, held = extended(RowMaps(made), {}, same, engine)
        return cls(made, maps, held, frozenset(varying))

    def build(self, engine: Engine) -> tuple[RowMaps, dict[int, object]]:
        """The maps of all spaces for the seeds that are in the table CHUNK, and their relations."""
        return extended(self.fixed, self.held, self.varying, engine)


def _moved(space: Space, leaf: Node) -> Space:
    """The space with its seeds from CHUNK; itself where it reads none."""
    if not isinstance(space, Rows):
        return space

    def change(node: Node) -> Node | None:
        match node, leaf:
            case (Scan(table, columns), Scan(seeds)) if table == seeds:
                return Scan(CHUNK, columns)
            case (Query(sql, columns), Query(seeds)) if sql == seeds:
                return Scan(CHUNK, columns)
        return None

    node = space.node.transformed(change)
    return space if node is space.node else replace(space, node=node)


def bytes_of(maps: RowMaps) -> dict[int, int]:
    """Bytes that maps and columns hold for each space."""
    found = dict.fromkeys(maps.counts, 0)
    for (space, _), rows in maps.gathers.items():
        found[space] += rows.nbytes
    for space, ids in maps.groups.items():
        found[space] += ids.nbytes
    for key, parts in maps.partitions.items():
        arrays = (parts.ids, parts.position, parts.upto)
        found[key[0]] += sum(a.nbytes for a in arrays if a is not None)
    for (space, _), values in maps.columns.items():
        found[space] += values.nbytes
    return found
