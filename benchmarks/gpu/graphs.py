"""Graphs as tables, random ones and DBLP, and the programs that run on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from benchmarks.speed import programs

Tables = dict[str, pa.Table]

CLASSES = 7
TYPES = {"author": 4057, "paper": 14328, "term": 7723, "conf": 20}
"""Node types of DBLP and their sizes."""
LINKS = {
    "author_paper": ("author", "paper", 19645), "paper_author": ("paper", "author", 19645),
    "paper_term": ("paper", "term", 85810), "term_paper": ("term", "paper", 85810),
    "paper_conf": ("paper", "conf", 14328), "conf_paper": ("conf", "paper", 14328),
}  # fmt: skip
"""Edge types of DBLP: from, to, how many."""

_LAYERS = """
WITH h AS (SELECT id, relu(x) AS x FROM relann.{layer}((SELECT id, x FROM node), edge, 64{heads})),
     o AS (SELECT id, x FROM relann.{layer}(h, edge, 7))
SELECT n.id, n.label, 'train' AS split, o.x AS logits FROM node n JOIN o ON o.id = n.id
"""
PROGRAMS = {
    "GCN": _LAYERS.format(layer="gcn", heads=""),
    "GraphSAGE": _LAYERS.format(layer="sage", heads=""),
    "GAT": _LAYERS.format(layer="gat", heads=", heads => 4"),
    "R-GCN": _LAYERS.format(layer="rgcn", heads=""),
    "HGT": """
WITH h0 AS (SELECT id, type, relu(linear(x, 64, per => type)) AS x FROM node),
     h1 AS (SELECT id, type, x FROM relann.hgt(h0, edge, 64)),
     h2 AS (SELECT id, type, x FROM relann.hgt(h1, edge, 64))
SELECT n.id, n.label, 'train' AS split, linear(h.x, 7) AS logits
FROM node n JOIN h2 h ON h.id = n.id WHERE n.type = 'author'
""",
}

DBLP = programs.HGT_2
"""HGT on the real DBLP; `PROGRAMS["HGT"]` is for `typed_graph`."""


@dataclass(frozen=True)
class Size:
    """A random graph: nodes, edges, width of the features, relations of edges."""

    nodes: int
    edges: int
    width: int = 64
    relations: int = 0


def graph(size: Size, seed: int = 0) -> Tables:
    """Uniformly random edges without loops; standard normal features, random labels."""
    random = np.random.default_rng(seed)
    src = random.integers(0, size.nodes, size.edges)
    dst = (src + 1 + random.integers(0, size.nodes - 1, size.edges)) % size.nodes
    edge = {"src": src, "dst": dst}
    if size.relations:
        edge["rel"] = random.integers(0, size.relations, size.edges)
    return {"node": _nodes(random, size.nodes, size.width), "edge": pa.table(edge)}


def typed_graph(share: float = 1.0, width: int = 64, seed: int = 0) -> Tables:
    """A random graph with the node and edge types of DBLP, and a share of their numbers."""
    random = np.random.default_rng(seed)
    sizes = {kind: max(2, int(n * share)) for kind, n in TYPES.items()}
    ends = np.cumsum([0, *sizes.values()])
    starts = dict(zip(sizes, ends.tolist(), strict=False))
    parts = []
    for name, (a, b, count) in LINKS.items():
        many = max(2, int(count * share))
        src = starts[a] + random.integers(0, sizes[a], many)
        dst = starts[b] + random.integers(0, sizes[b], many)
        parts.append(pa.table({"src": src, "dst": dst, "rel": [name] * many}))
    node = _nodes(random, int(ends[-1]), width)
    kinds = [kind for kind, count in sizes.items() for _ in range(count)]
    return {"node": node.append_column("type", pa.array(kinds)), "edge": pa.concat_tables(parts)}


def _nodes(random: np.random.Generator, nodes: int, width: int) -> pa.Table:
    features = random.standard_normal((nodes, width), dtype=np.float32)
    x = pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1)), width)
    labels = random.integers(0, CLASSES, nodes)
    return pa.table({"id": np.arange(nodes), "x": x, "label": labels})
