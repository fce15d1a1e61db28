"""The tables that relann and its peers both read, made once and the same for each.

Every function returns Arrow tables by name. `folder` is the folder of all real data sets, with
`planetoid`, `hetero`, `rdf` and `hygnn` in it. Ids of nodes count from 0 without gaps and stand in
order, so that row k of a table of nodes is node k; random graphs have neither loops nor double
edges. What is random depends on `seed` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

Tables = Mapping[str, pa.Table]

SKIPS = (2, 3, 4, 5, 6, 9, 11, 12, 13, 16)
"""The skips of the ten classes of circular skip link graphs, in the order of their labels."""

RING = 41
"""Nodes of a circular skip link graph."""

COPIES = 15
"""Circular skip link graphs of a class."""

RELATIONS = 45
"""Relations of AIFB; the inverse of relation p is p + RELATIONS."""


@dataclass(frozen=True)
class Stored(Mapping[str, pa.Table]):
    """The tables of a database file, each read when it is asked for and not kept."""

    path: Path

    @classmethod
    def of(cls, tables: Tables, path: Path) -> Stored:
        """A new file with these tables."""
        with duckdb.connect(path) as connection:
            fill(connection, tables)
        return cls(path)

    def __getitem__(self, name: str) -> pa.Table:
        with duckdb.connect(self.path) as connection:
            return connection.table(name).to_arrow_table()

    def __iter__(self) -> Iterator[str]:
        with duckdb.connect(self.path) as connection:
            return iter([name for (name,) in connection.execute("SHOW TABLES").fetchall()])

    def __len__(self) -> int:
        return len(list(iter(self)))


def fill(connection: duckdb.DuckDBPyConnection, tables: Tables) -> None:
    """Copy the tables into a database."""
    for name, table in tables.items():
        connection.register("arrow", table)
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM arrow").fetchall()
        connection.unregister("arrow")


def cora(folder: Path) -> Tables:
    """Cora: node(id, label, split), edge(src, dst) both ways, feature(row, col, val), all 1."""
    source = folder / "planetoid" / "cora"
    node = pq.read_table(source / "nodes.parquet")
    feature = pq.read_table(source / "features.parquet")
    return {
        "node": pa.table(
            {"id": node["id"], "label": node["label"], "split": node["split"].cast(pa.string())}
        ),
        "edge": pq.read_table(source / "edges.parquet").select(["src", "dst"]),
        "feature": pa.table(
            _integers(feature, {"row": "row", "col": "col"}, 0) | {"val": feature["val"]}
        ),
    }


def random_graph(nodes: int, edges: int, width: int, classes: int, seed: int) -> Tables:
    """A uniformly random simple directed graph: node(id, x, label) and edge(src, dst).

    Features are standard normal, labels uniformly random.
    """
    if edges > nodes * (nodes - 1):
        raise ValueError(f"{nodes} nodes have no {edges} different edges")
    random = np.random.default_rng(seed)
    features = random.standard_normal((nodes, width), dtype=np.float32)
    labels = random.integers(0, classes, nodes)
    codes = _distinct(random, nodes * (nodes - 1), edges)
    src, other = np.divmod(codes, nodes - 1)
    return {
        "node": pa.table({"id": np.arange(nodes), "x": _vectors(features), "label": labels}),
        "edge": pa.table({"src": src, "dst": other + (other >= src)}),
    }


def tiny(seed: int) -> Tables:
    """A random graph of 100 nodes with 8 features and 3 classes, and 400 edges."""
    return random_graph(100, 400, 8, 3, seed)


def sparse_identifiers(tables: Tables, seed: int) -> Tables:
    """The tables of `random_graph` with distinct random 62-bit numbers for ids."""
    node, edge = tables["node"], tables["edge"]
    identifiers = _distinct(np.random.default_rng(seed), 2**62, node.num_rows)
    return {
        "node": node.set_column(node.column_names.index("id"), "id", pa.array(identifiers)),
        "edge": pa.table(
            {name: identifiers[edge[name].to_numpy()] for name in ("src", "dst")},
        ),
    }


def dblp(folder: Path) -> Tables:
    """DBLP: node(id, type, split, label), a table of features per type, edge(src, dst, rel).

    Ids are unique over all types: first authors, then papers, terms and conferences, which have no
    features. `author_word` and `paper_word`, (id, col, val), are the features of those, sparse.
    """
    source = folder / "hetero" / "dblp"
    target = pq.read_table(source / "target_nodes.parquet").sort_by("id")
    author_word = pq.read_table(source / "a_feat.parquet")
    paper_word = pq.read_table(source / "p_feat.parquet")
    paper_author = pq.read_table(source / "edges_pa.parquet")
    paper_term = pq.read_table(source / "edges_pt.parquet")
    paper_conf = pq.read_table(source / "edges_pc.parquet")
    terms = pq.read_table(source / "t_feat.parquet")
    term_x = np.stack([column.to_numpy() for column in terms.columns], axis=1)
    authors, papers = target.num_rows, _count(paper_conf["src"])
    counts = {
        "author": authors,
        "paper": papers,
        "term": len(term_x),
        "conf": _count(paper_conf["dst"]),
    }
    first: dict[str, int] = {}
    total = 0
    for kind, count in counts.items():
        first[kind] = total
        total += count
    others = total - authors
    edges: list[pa.Table] = []
    for table, kind in ((paper_author, "author"), (paper_term, "term"), (paper_conf, "conf")):
        paper = pc.add(table["src"].cast(pa.int64()), first["paper"])
        other = pc.add(table["dst"].cast(pa.int64()), first[kind])
        names = (f"paper_{kind}", f"{kind}_paper")
        for (src, dst), name in zip(((paper, other), (other, paper)), names, strict=True):
            edges.append(
                pa.table({"src": src, "dst": dst, "rel": pa.array([name] * table.num_rows)})
            )
    return {
        "node": pa.table(
            {
                "id": np.arange(total),
                "type": pa.array(np.repeat(list(counts), list(counts.values())).tolist()),
                "split": pa.array(target["magnn_split"].to_pylist() + [None] * others, pa.string()),
                "label": pa.array(target["label"].to_pylist() + [None] * others, pa.int64()),
            }
        ),
        "author_x": _features(_dense(author_word, authors), first["author"]),
        "paper_x": _features(_dense(paper_word, papers), first["paper"]),
        "term_x": _features(term_x.astype(np.float32), first["term"]),
        "author_word": _words(author_word, first["author"]),
        "paper_word": _words(paper_word, first["paper"]),
        "edge": pa.concat_tables(edges),
    }


def aifb(folder: Path) -> Tables:
    """AIFB: node(id, label, split) and triple(s, p, o) with every triple's inverse beside it.

    Labels are the affiliations in alphabetical order, counted from 0; most nodes have none.
    """
    source = folder / "rdf" / "aifb"
    known = pq.read_table(source / "labels.parquet")
    triples = pq.read_table(source / "triples.parquet")
    nodes = pq.read_metadata(source / "nodes.parquet").num_rows
    affiliations = known["label_affiliation"].to_pylist()
    number = {name: place for place, name in enumerate(sorted(set(affiliations)))}
    labels: list[int | None] = [None] * nodes
    splits: list[str | None] = [None] * nodes
    for node, name, split in zip(
        known["node"].to_pylist(), affiliations, known["split"].to_pylist(), strict=True
    ):
        labels[node], splits[node] = number[name], split
    forward = pa.table(_integers(triples, {"s": "s", "p": "p", "o": "o"}, 0))
    inverse = pa.table(
        {"s": forward["o"], "p": pc.add(forward["p"], RELATIONS), "o": forward["s"]},
    )
    return {
        "node": pa.table(
            {
                "id": np.arange(nodes),
                "label": pa.array(labels, pa.int64()),
                "split": pa.array(splits, pa.string()),
            }
        ),
        "triple": pa.concat_tables([forward, inverse]),
    }


def twosides(folder: Path, kmer: int, seed: int = 0) -> Tables:
    """TWOSIDES: drug(id), substructure(id), member(drug, substructure), pair(a, b, label, split).

    `kmer` is 3 or 9. As many random pairs a < b that do not interact as do; 80 % of all pairs are
    'train', 10 % 'val', 10 % 'test', at random.
    """
    source = folder / "hygnn" / "twosides"
    drugs = pq.read_metadata(source / "drugs.parquet").num_rows
    substructures = pq.read_metadata(source / f"substructures_kmer_{kmer}.parquet").num_rows
    incidence = pq.read_table(source / f"incidence_kmer_{kmer}.parquet")
    pairs = pq.read_table(source / "pairs.parquet")
    members = np.unique(
        incidence["drug"].to_numpy().astype(np.int64) * substructures
        + incidence["substructure"].to_numpy()
    )
    ends = np.stack([pairs["a"].to_numpy(), pairs["b"].to_numpy()]).astype(np.int64)
    positive = np.unique(ends.min(axis=0) * drugs + ends.max(axis=0))
    random = np.random.default_rng(seed)
    low, high = np.triu_indices(drugs, 1)
    negative = random.choice(
        np.setdiff1d(low * drugs + high, positive), len(positive), replace=False
    )
    order = random.permutation(2 * len(positive))
    codes = np.concatenate([positive, negative])[order]
    labels = np.repeat(np.array([1, 0]), len(positive))[order]
    train, val = len(order) * 8 // 10, len(order) // 10
    split = ["train"] * train + ["val"] * val + ["test"] * (len(order) - train - val)
    return {
        "drug": pa.table({"id": np.arange(drugs)}),
        "substructure": pa.table({"id": np.arange(substructures)}),
        "member": pa.table(
            {"drug": members // substructures, "substructure": members % substructures}
        ),
        "pair": pa.table(
            {"a": codes // drugs, "b": codes % drugs, "label": labels, "split": split}
        ),
    }


def csl(seed: int) -> Tables:
    """Circular skip link graphs: graph(id, label, fold), node(id, graph), edge(src, dst) both ways.

    Each copy numbers its nodes in its own random order; each of the 5 folds has 3 copies of every
    class.
    """
    random = np.random.default_rng(seed)
    graphs = len(SKIPS) * COPIES
    ring = np.arange(RING)
    folds: list[NDArray[np.int64]] = []
    sources: list[NDArray[np.int64]] = []
    targets: list[NDArray[np.int64]] = []
    for graph in range(graphs):
        if graph % COPIES == 0:
            folds.append(random.permutation(np.arange(COPIES) % 5))
        name = random.permutation(RING) + graph * RING
        for step in (1, SKIPS[graph // COPIES]):
            here, there = name, name[(ring + step) % RING]
            sources += [here, there]
            targets += [there, here]
    return {
        "graph": pa.table(
            {
                "id": np.arange(graphs),
                "label": np.repeat(np.arange(len(SKIPS)), COPIES),
                "fold": np.concatenate(folds),
            }
        ),
        "node": pa.table(
            {"id": np.arange(graphs * RING), "graph": np.repeat(np.arange(graphs), RING)}
        ),
        "edge": pa.table({"src": np.concatenate(sources), "dst": np.concatenate(targets)}),
    }


def barabasi_albert(nodes: int, m: int, seed: int) -> Tables:
    """A graph of preferential attachment, m edges per new node: edge(src, dst) both ways."""
    graph = nx.barabasi_albert_graph(nodes, m, seed=seed)
    ends = np.array(graph.edges, dtype=np.int64).T
    both = np.concatenate([ends, ends[::-1]], axis=1)
    return {"edge": pa.table({"src": both[0], "dst": both[1]})}


def _distinct(random: np.random.Generator, below: int, count: int) -> NDArray[np.int64]:
    """Different random whole numbers below a bound, in random order."""
    if below <= 4 * count:
        return random.permutation(below)[:count]
    found = np.empty(0, dtype=np.int64)
    while len(found) < count:
        found = np.unique(np.concatenate([found, random.integers(0, below, count - len(found))]))
    return random.permutation(found)


def _vectors(values: NDArray[np.float32]) -> pa.FixedSizeListArray:
    """The rows of a matrix as lists of fixed length, FLOAT[width] to DuckDB."""
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _features(values: NDArray[np.float32], first: int) -> pa.Table:
    """A table (id, x) of the rows of a matrix, whose ids count from `first`."""
    return pa.table({"id": np.arange(first, first + len(values)), "x": _vectors(values)})


def _dense(words: pa.Table, rows: int) -> NDArray[np.float32]:
    """A matrix of the entries (row, col, val)."""
    matrix = np.zeros((rows, _count(words["col"])), dtype=np.float32)
    matrix[words["row"].to_numpy(), words["col"].to_numpy()] = words["val"].to_numpy()
    return matrix


def _words(words: pa.Table, first: int) -> pa.Table:
    """The entries (row, col, val) as (id, col, val), with ids that count from `first`."""
    return pa.table(
        _integers(words, {"id": "row"}, first)
        | _integers(words, {"col": "col"}, 0)
        | {"val": words["val"]}
    )


def _integers(table: pa.Table, columns: dict[str, str], offset: int) -> dict[str, pa.ChunkedArray]:
    """Columns of a table under new names as BIGINT, with `offset` added."""
    return {
        new: pc.add(table[old].cast(pa.int64()), pa.scalar(offset, pa.int64()))
        for new, old in columns.items()
    }


def _count(column: pa.ChunkedArray) -> int:
    """One more than a column's largest number."""
    return int(pc.max(column).as_py()) + 1
