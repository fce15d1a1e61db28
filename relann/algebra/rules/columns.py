"""Columns nobody reads are not computed, and joins for them not made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from relann.algebra.keys import Keys
from relann.algebra.nodes import (
    Aggregate,
    Alias,
    Join,
    Map,
    Node,
    Query,
    Reduce,
    Scan,
    Select,
    Union,
    Window,
    passed,
)
from relann.algebra.terms import Content


def drop_unused_columns(root: Node) -> Node:
    """π_A(q) reads only A: every node keeps the columns some node above it reads.

    π_A(q ⟕ r) = π_A(q), where A is of q and each row of q meets at most one of r.
    """
    keys = Keys()
    order = list(root.walk())
    needed: dict[Node, set[str]] = {n: set() for n in order}
    needed[root] = set(root.names)
    for node in reversed(order):
        for source, names in _read(node, needed[node], keys):
            needed[source] |= names
    done: dict[Node, Node] = {}
    for node in order:
        done[node] = _narrowed(node, needed[node], keys, done)
    return done[root]


def _read(node: Node, needed: set[str], keys: Keys) -> list[tuple[Node, set[str]]]:
    """What each source must provide for the needed columns of a node."""
    match node:
        case Alias(source, name):
            return [(source, {n[len(name) + 1 :] for n in needed})]
        case Select(source, predicate):
            return [(source, needed | predicate.columns)]
        case Map(source, outputs):
            return [(source, {c for n, v in outputs if n in needed for c in v.columns})]
        case Join(left) if _is_idle(node, needed, keys):
            return [(left, set(needed))]
        case Join(left, right, _, on):
            read = needed | (on.columns if on is not None else set())
            return [(left, read & set(left.names)), (right, read & set(right.names))]
        case Aggregate(source, by, outputs):
            read = set(by)
            for name, value in outputs:
                if name in needed:
                    read |= value.columns if isinstance(value, Content) else _reduced(value)
            return [(source, read)]
        case Window(source, outputs):
            read = needed & set(source.names)
            for name, over in outputs:
                if name in needed:
                    read |= {over.column, *over.partition, *(c for c, _, _ in over.order)}
            return [(source, read)]
        case Query():
            return [(s, {c.name for c in s.columns if not c.learned}) for s in node.sources]
    return [(source, set(needed)) for source in node.sources]


def _is_idle(join: Join, needed: set[str], keys: Keys) -> bool:
    """Whether a join neither adds nor drops rows, and nothing it adds is read."""
    if join.kind != "left" or join.on is None or not needed <= set(join.left.names):
        return False
    return keys.meets_one(join.right, join.on)


def _reduced(reduce: Reduce) -> set[str]:
    return {reduce.column} | ({reduce.where} if reduce.where else set())


def _narrowed(node: Node, needed: set[str], keys: Keys, done: Mapping[Node, Node]) -> Node:
    match node:
        case Scan() | Query():
            fewer = replace(node, columns=tuple(c for c in node.columns if c.name in needed))
            return fewer.rebuilt(tuple(done[s] for s in node.sources))
        case Map(source, outputs):
            return Map(done[source], tuple((n, v) for n, v in outputs if n in needed))
        case Aggregate(source, by, outputs):
            return Aggregate(done[source], by, tuple((n, v) for n, v in outputs if n in needed))
        case Window(source, outputs):
            kept = tuple((n, o) for n, o in outputs if n in needed)
            return Window(done[source], kept) if kept else done[source]
        case Union(parts):
            return Union(tuple(_only(done[p], node, needed) for p in parts))
        case Join(left) if _is_idle(node, needed, keys):
            return done[left]
    return node.rebuilt(tuple(done[s] for s in node.sources))


def _only(part: Node, union: Union, needed: set[str]) -> Node:
    wanted = tuple(c for c in union.columns if c.name in needed)
    if part.columns == wanted:
        return part
    return Map(part, tuple((c.name, passed(c)) for c in wanted))
