"""Subgraphs as of seeds, as PyTorch Geometric's temporal neighbour sampler would give them.

Each seed has a tree of its own (`disjoint`), whose rows are all known at the seed's anchor: of each
row reached, the latest neighbours along every foreign key, in both directions, as many as the
hop's fan-out. A row met twice in one tree is one node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from relann.algebra.functions import CATEGORIES
from relann.algebra.terms import column
from relann.models.generators.program import into, out_of, table_sql
from relann.provenance.encoders import Period, Standard, Vocabulary, elapsed, instants, numbers
from relann.schema import Relation, Schema
from relann.schema import unquoted as plain

Ints = npt.NDArray[np.int64]
Edge = tuple[str, str, str]
"""Sender's table, foreign key's column and direction, receiver's table."""


@dataclass(frozen=True)
class Rows:
    """All rows of a table in order, as numbers: vectors, codes of categories, instants."""

    vectors: Tensor
    codes: Tensor
    sizes: tuple[int, ...]
    times: npt.NDArray[np.datetime64] | None


@dataclass(frozen=True)
class Subgraph:
    """What the seeds of a batch read; nodes and edges of each kind in the order of their hops.

    x       table → (vectors, codes of categories) of its nodes
    ages    table with a time → how long before the seed's anchor, as eight numbers
    edges   kind → (sender, receiver) nodes. Shape (2, edges)
    nodes   table → how many nodes there are up to each hop
    upto    kind → how many edges there are up to each hop
    """

    entity: str
    x: dict[str, tuple[Tensor, Tensor]]
    ages: dict[str, Tensor]
    edges: dict[Edge, Tensor]
    nodes: dict[str, list[int]]
    upto: dict[Edge, list[int]]
    labels: Tensor


@dataclass
class _Found:
    """Rows and edges met so far; a node is seed × rows of its table + row."""

    nodes: dict[str, Ints] = field(default_factory=dict)
    counts: dict[str, list[int]] = field(default_factory=dict)
    edges: dict[Edge, list[tuple[Ints, Ints]]] = field(default_factory=dict)


class Sampler:
    """Samples from the tables of a database, all of whose relations are tables."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, schema: Schema, fanout: Sequence[int]
    ) -> None:
        self.connection = connection
        self.schema = schema
        self.fanout = fanout
        self.tables = {plain(n.rpartition(".")[2]): r for n, r in schema.relations.items()}
        self.rows = {name: self._read(relation) for name, relation in self.tables.items()}
        self.edges = [edge for name in self.tables for edge, _ in self._neighbours(name, 1)]

    def _read(self, relation: Relation) -> Rows:
        """A table's columns but keys and time, encoded as relann's `features` does."""
        left_out = {relation.key, relation.time, *(f.column for f in relation.foreign)}
        whole = self.connection.sql(
            f"SELECT * FROM {table_sql(relation.table.name)} ORDER BY rowid"
        ).to_arrow_table()
        vectors: list[npt.NDArray[np.float64]] = [np.zeros((len(whole), 0))]
        codes: list[npt.NDArray[np.int32]] = []
        sizes: list[int] = []
        for name, kind in relation.table.columns:
            values = whole[name].combine_chunks()
            if name in left_out:
                continue
            if kind == "VARCHAR":
                vocabulary = Vocabulary.fit([[values]], CATEGORIES)
                codes.append(vocabulary.rows([values]) + 1)
                sizes.append(vocabulary.size + 1)
            elif kind.startswith("TIMESTAMP"):
                found = instants(values, column(name, kind))
                vectors.append(Period.fit([found]).encode(found))
            else:
                number = numbers(values, column(name, kind))
                vectors.append(Standard.fit([number]).encode(number))
        times = None
        if relation.time is not None:
            kind = dict(relation.table.columns)[relation.time]
            times = instants(whole[relation.time], column(relation.time, kind))
        stacked = np.stack(codes, 1) if codes else np.zeros((len(whole), 0), np.int32)
        return Rows(
            torch.from_numpy(np.concatenate(vectors, 1).astype(np.float32)),
            torch.from_numpy(stacked.astype(np.int64)),
            tuple(sizes),
            times,
        )

    def sample(self, entity: str, seeds: pa.Table) -> Subgraph:
        """The subgraph of a table of seeds with columns row (of the entity), anchor, label."""
        anchors = instants(seeds["anchor"], column("anchor", "TIMESTAMP"))
        number = np.arange(len(seeds))
        found = _Found()
        found.nodes = {name: np.empty(0, np.int64) for name in self.tables}
        found.counts = {name: [0] for name in self.tables}
        start = number * len(self.rows[entity].vectors) + seeds["row"].to_numpy()
        found.nodes[entity] = start
        found.counts[entity] = [len(start)]
        fresh = {entity: start}
        for most in self.fanout:
            fresh = self._hop(fresh, anchors, most, found)
        return self._subgraph(entity, anchors, seeds["label"].to_numpy(), found)

    def _hop(
        self, fresh: dict[str, Ints], anchors: npt.NDArray[np.datetime64], most: int, found: _Found
    ) -> dict[str, Ints]:
        """The neighbours of the newest nodes; those among them that are new."""
        met: dict[str, list[Ints]] = {name: [] for name in self.tables}
        none = np.empty(0, np.int64)
        hop: dict[Edge, tuple[Ints, Ints]] = {edge: (none, none) for edge in self.edges}
        for name, nodes in fresh.items():
            seed, row = np.divmod(nodes, len(self.rows[name].vectors))
            asked = pa.table({"seed": seed, "row": row, "anchor": anchors[seed]})
            self.connection.register("asked", asked)
            for edge, sql in self._neighbours(name, most):
                got = self.connection.sql(sql).to_arrow_table()
                at, to, of = (got[c].to_numpy() for c in ("seed", "receiver", "sender"))
                senders = at * len(self.rows[edge[0]].vectors) + of
                receivers = at * len(self.rows[name].vectors) + to
                hop[edge] = (senders, receivers)
                met[edge[0]].append(senders)
            self.connection.unregister("asked")
        for edge, ends in hop.items():
            found.edges.setdefault(edge, []).append(ends)
        new = {}
        for name, parts in met.items():
            nodes = np.unique(np.concatenate([none, *parts]))
            nodes = nodes[~np.isin(nodes, found.nodes[name])]
            found.nodes[name] = np.concatenate([found.nodes[name], nodes])
            found.counts[name].append(len(found.nodes[name]))
            if len(nodes):
                new[name] = nodes
        return new

    def _neighbours(self, name: str, most: int) -> list[tuple[Edge, str]]:
        """For each foreign key at a table the SELECT of the nodes' neighbours along it."""
        relation = self.tables[name]
        found = []
        for link in into(self.schema, relation):
            other = plain(link.child.table.name.rpartition(".")[2])
            on = f'n."{link.foreign.column}" = o."{link.foreign.references}"'
            edge = (other, link.foreign.column, name)
            found.append((edge, self._select(relation, link.child, on, most)))
        for link in out_of(self.schema, relation):
            other = plain(link.parent.table.name.rpartition(".")[2])
            on = f'n."{link.foreign.references}" = o."{link.foreign.column}"'
            edge = (other, f"rev_{link.foreign.column}", name)
            found.append((edge, self._select(relation, link.parent, on, most)))
        return found

    def _select(self, relation: Relation, other: Relation, on: str, most: int) -> str:
        known = "" if other.time is None else f'WHERE n."{other.time}"::TIMESTAMP <= a.anchor'
        order = "n.rowid" if other.time is None else f'n."{other.time}" DESC, n.rowid DESC'
        return (
            "SELECT a.seed, a.row AS receiver, n.rowid AS sender FROM asked a "
            f"JOIN {table_sql(relation.table.name)} o ON o.rowid = a.row "
            f"JOIN {table_sql(other.table.name)} n ON {on} {known} "
            f"QUALIFY row_number() OVER (PARTITION BY a.seed, a.row ORDER BY {order}) <= {most}"
        )

    def _subgraph(
        self,
        entity: str,
        anchors: npt.NDArray[np.datetime64],
        labels: npt.NDArray[np.float64],
        found: _Found,
    ) -> Subgraph:
        x, ages, place = {}, {}, {}
        for name, nodes in found.nodes.items():
            rows = self.rows[name]
            seed, row = np.divmod(nodes, len(rows.vectors))
            index = torch.from_numpy(row)
            x[name] = (rows.vectors[index], rows.codes[index])
            if rows.times is not None:
                age = (anchors[seed] - rows.times[row]) / np.timedelta64(1, "s")
                ages[name] = torch.from_numpy(elapsed(age).astype(np.float32))
            order = np.argsort(nodes)
            place[name] = (nodes[order], order)
        edges, upto = {}, {}
        for edge, parts in found.edges.items():
            ends = []
            for side, name in ((0, edge[0]), (1, edge[2])):
                whole = np.concatenate([p[side] for p in parts])
                sorted_nodes, order = place[name]
                ends.append(order[np.searchsorted(sorted_nodes, whole)])
            edges[edge] = torch.from_numpy(np.stack(ends))
            upto[edge] = np.cumsum([len(p[0]) for p in parts]).tolist()
        label = torch.from_numpy(labels.astype(np.float32))
        return Subgraph(entity, x, ages, edges, found.counts, upto, label)
