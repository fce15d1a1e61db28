"""Strongly regular graphs of the same parameters, which few networks tell apart."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pyarrow as pa

Tables = dict[str, pa.Table]

COPIES = 10
"""Copies of a graph."""

FOLDS = 5


def strongly_regular(seed: int) -> Tables:
    """graph(id, label, fold), node(id, graph), edge(src, dst) both ways: 10 copies of 6 graphs.

    The rook's graph and Shrikhande's are both strongly regular (16, 6, 2, 2); the line graph of K₈
    and the three of Chang are all (28, 12, 6, 4). Among those of the same parameters a network that
    counts trees, or cycles of up to 7 nodes, sees no difference, so that it is right for at most
    one class of each family: a third of the graphs. Each copy numbers its nodes in its own order.
    """
    random = np.random.default_rng(seed)
    labels: list[int] = []
    folds, owners, sources, targets = [], [], [], []
    first = 0
    for label, graph in enumerate(_graphs()):
        nodes = graph.number_of_nodes()
        ends = np.array(nx.convert_node_labels_to_integers(graph).edges, dtype=np.int64).T
        folds.append(random.permutation(np.arange(COPIES) % FOLDS))
        for _ in range(COPIES):
            named = first + random.permutation(nodes)[ends]
            sources += [named[0], named[1]]
            targets += [named[1], named[0]]
            owners.append(np.full(nodes, len(labels)))
            labels.append(label)
            first += nodes
    return {
        "graph": pa.table(
            {"id": np.arange(len(labels)), "label": labels, "fold": np.concatenate(folds)}
        ),
        "node": pa.table({"id": np.arange(first), "graph": np.concatenate(owners)}),
        "edge": pa.table({"src": np.concatenate(sources), "dst": np.concatenate(targets)}),
    }


def _graphs() -> list[nx.Graph]:
    """The rook's graph, Shrikhande's, the line graph of K₈, Chang's three."""
    rook = nx.line_graph(nx.complete_bipartite_graph(4, 4))
    steps = ((0, 1), (1, 0), (1, 1))
    shrikhande = nx.Graph(
        ((a, b), ((a + x) % 4, (b + y) % 4)) for a in range(4) for b in range(4) for x, y in steps
    )
    triangular = nx.Graph()
    pairs = [frozenset(pair) for pair in itertools.combinations(range(8), 2)]
    triangular.add_edges_from((a, b) for a, b in itertools.combinations(pairs, 2) if a & b)
    matching = nx.Graph([(0, 4), (1, 5), (2, 6), (3, 7)])
    ring = nx.cycle_graph(8)
    rings = nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(5))
    switched = [_switched(triangular, graph) for graph in (matching, ring, rings)]
    return [rook, shrikhande, triangular, *switched]


def _switched(graph: nx.Graph, by: nx.Graph) -> nx.Graph:
    """Seidel's switching of the line graph of K₈ by the edges of a graph on the same 8 nodes."""
    inside = {frozenset(edge) for edge in by.edges}
    result = nx.Graph()
    for a, b in itertools.combinations(graph, 2):
        if graph.has_edge(a, b) != ((a in inside) != (b in inside)):
            result.add_edge(a, b)
    return result
