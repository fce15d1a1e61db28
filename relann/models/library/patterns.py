"""Homomorphism patterns as layers: a cycle, a path or a star as joins, one network per position.

Deep homomorphism networks: Maehara and NT 2024 (NeurIPS), equation 4. For a pattern P with root r,

    x'_v = Σ_{π: P → G, π(r) = v} Π_{p in P} MLP_p(x_{π(p)}),

the sum over all homomorphisms, or with the suffix `_distinct` over those that keep positions apart
(subgraph isomorphisms). `cycle_2` are the edges there and back; `path_k` and `star_k` have k edges.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

EXAMPLES = ("cycle_3", "cycle_3_distinct", "path_2", "star_3")
"""Some of the names `definition` knows."""

LONGEST = 16

_NAME = re.compile(r"(cycle|path|star)_(\d+)(_distinct)?")


def definition(name: str) -> str | None:
    """The statement that creates `cycle_k`, `path_k` or `star_k`; None for any other name."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    shape, size = found.group(1), int(found.group(2))
    if not (2 if shape == "cycle" else 1) <= size <= LONGEST:
        return None
    match shape:
        case "cycle":
            edges = [(i, (i + 1) % size) for i in range(size)]
        case "path":
            edges = [(i, i + 1) for i in range(size)]
        case _:
            edges = [(0, i + 1) for i in range(size)]
    return pattern(name, edges, bool(found.group(3)))


def pattern(name: str, edges: Sequence[tuple[int, int]], distinct: bool = False) -> str:
    """The statement that creates the layer of a pattern graph, rooted at position 0.

    `edges` are pairs of positions, each but the first sharing a position with one before it. The
    layer takes node(id, x), edge(src, dst) and the width n of every position's network.
    """
    place: dict[int, str] = {}  # where the node of a position stands
    joins = []
    for number, (a, b) in enumerate(edges):
        alias = f"e{number}"
        ends = {a: f"{alias}.src", b: f"{alias}.dst"}
        on = [f"{end} = {place[p]}" for p, end in ends.items() if p in place]
        if number and not on:
            raise ValueError(f"edge {a} → {b} of the pattern is not joined to those before it")
        joins.append(
            f"FROM edge {alias}" if not number else f"JOIN edge {alias} ON {' AND '.join(on)}"
        )
        for p, end in ends.items():
            place.setdefault(p, end)
    positions = sorted(place)
    product = " * ".join(f"mlp(v{p}.x, n, n)" for p in positions)
    nodes = "\n".join(f"JOIN node v{p} ON v{p}.id = {place[p]}" for p in positions)
    where = ""
    if distinct:
        apart = [
            f"{place[p]} <> {place[q]}" for i, p in enumerate(positions) for q in positions[i + 1 :]
        ]
        where = f"\nWHERE {' AND '.join(apart)}"
    body = "\n".join(joins)
    return (
        f"CREATE LAYER {name}(node(id, x), edge(src, dst), n) AS\n"
        f"WITH found AS (SELECT {place[0]} AS id, sum({product}) AS x\n{body}\n{nodes}{where}\n"
        f"GROUP BY {place[0]})\n"
        "SELECT v.id, coalesce(found.x, 0) AS x FROM node v LEFT JOIN found ON found.id = v.id"
    )
