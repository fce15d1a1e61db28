"""A layer of the library run on a small graph, beside the same weights for another implementation.

A `Graph` is in positions (nodes 0, 1, …), `Data` a database of it. A `Network` gives a query's rows
and the gradients of a loss; `Weights` are the same weights as leaf tensors, for a reference to
compute rows and gradients of its own.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

import relann
from relann.algebra import rowmaps
from relann.algebra.engines.duckdb import DuckDBEngine
from relann.algebra.layers import Layer
from relann.algebra.lower import lower
from relann.algebra.parse import statements
from relann.algebra.rowmaps import RowMaps
from relann.algebra.statements import CreateModel
from relann.models import library
from relann.models.program import Program
from relann.provenance.encoders import Encoders
from relann.provenance.module import QueryModule
from relann.provenance.parameters import arrays
from relann.schema import Catalog

Id = int | str
Row = tuple[Any, ...]

TYPES = ("a", "b", "c", "d")
"""Types of nodes; no edge leads to a `d`."""

RELATIONS = ("knows", "likes", "owns")
"""Types of edges."""

NOTHING = torch.zeros((), dtype=torch.float64)

_COLUMNS = {"node": "id, type", "hyperedge": "id", "bridge": "id, source, target"}


@dataclass(frozen=True)
class Graph:
    """A typed graph with hyperedges, pairs, labels, seeds and a bridge table, all in positions.

    ids      of the nodes
    edges    (source, target, relation)
    members  (node, hyperedge)
    bridge   (hyperedge or None, node or None)
    x, raw   of each relation that has embeddings: 32-bit numbers and others, one row each
    """

    ids: tuple[Id, ...]
    types: tuple[str, ...]
    edges: tuple[tuple[int, int, str], ...]
    members: tuple[tuple[int, int], ...]
    pairs: tuple[tuple[int, int], ...]
    known: tuple[tuple[int, str], ...]
    seeds: tuple[int, ...]
    bridge: tuple[tuple[int | None, int | None], ...]
    hyperedges: int
    x: Mapping[str, Tensor]
    raw: Mapping[str, Tensor]

    @property
    def size(self) -> int:
        """How many nodes there are."""
        return len(self.ids)

    @property
    def edge_index(self) -> Tensor:
        """Sources and targets, as PyTorch Geometric has them."""
        return torch.tensor([e[:2] for e in self.edges], dtype=torch.int64).reshape(-1, 2).T

    @property
    def member_index(self) -> Tensor:
        """Nodes and the hyperedges they are in."""
        return torch.tensor(self.members, dtype=torch.int64).reshape(-1, 2).T


class Data:
    """A database of a graph, nodes under other ids, rows shuffled where a seed says so."""

    def __init__(
        self, graph: Graph, names: Mapping[Id, Id] | None = None, shuffle: int | None = None
    ) -> None:
        self.graph = graph
        self.connection = relann.connect().connection
        self.catalog = Catalog(self.connection)
        self.back = {new: old for old, new in (names or {}).items()}
        self._random = None if shuffle is None else np.random.default_rng(shuffle)
        ids = [(names or {}).get(i, i) for i in graph.ids]
        self._fill(graph, ids, "VARCHAR" if isinstance(ids[0], str) else "BIGINT")

    def row(self, values: Sequence[Any]) -> Row:
        """Content under the graph's own ids."""
        return tuple(self.back.get(v, v) for v in values)

    def _fill(self, g: Graph, ids: Sequence[Id], key: str) -> None:
        src, dst, rel = ([e[k] for e in g.edges] for k in range(3))
        source, target = ([b[k] for b in g.bridge] for k in range(2))
        nodes = {"id": ids, "type": g.types}
        bridge = {"source": source, "target": [None if t is None else ids[t] for t in target]}
        self._create("node", f"id {key}, type VARCHAR", nodes, embedded=True)
        self._create("hyperedge", "id BIGINT", {"id": range(g.hyperedges)}, embedded=True)
        self._create(
            "bridge",
            f"id BIGINT, source BIGINT, target {key}",
            {"id": range(len(source)), **bridge},
            embedded=True,
        )
        edges = {"src": [ids[i] for i in src], "dst": [ids[i] for i in dst], "rel": rel}
        self._create("edge", f"src {key}, dst {key}, rel VARCHAR", edges)
        members = {"node": [ids[i] for i, _ in g.members], "hyperedge": [h for _, h in g.members]}
        self._create("member", f"node {key}, hyperedge BIGINT", members)
        pairs = {"a": [ids[a] for a, _ in g.pairs], "b": [ids[b] for _, b in g.pairs]}
        self._create("pair", f"a {key}, b {key}", pairs)
        known = {"id": [ids[i] for i, _ in g.known], "label": [label for _, label in g.known]}
        self._create("known", f"id {key}, label VARCHAR", known)
        self._create("seed", f"id {key}", {"id": [ids[i] for i in g.seeds]})

    def _create(
        self, name: str, types: str, columns: Mapping[str, Sequence[Any]], embedded: bool = False
    ) -> None:
        if embedded:
            x, raw = self.graph.x[name], self.graph.raw[name]
            types = f"{types}, x FLOAT[{x.shape[1]}], raw DOUBLE[{raw.shape[1]}]"
            columns = {**columns, "x": x.tolist(), "raw": raw.tolist()}
        whole = pa.table({c: pa.array(list(v)) for c, v in columns.items()})
        if self._random is not None:
            whole = whole.take(pa.array(self._random.permutation(len(whole))))
        self.connection.execute(f"CREATE TABLE {name} ({types})")
        self.connection.register("given", whole)
        self.connection.execute(f"INSERT INTO {name} SELECT * FROM given")
        self.connection.unregister("given")


def drawn(seed: int, width: int) -> Graph:
    """A random graph with every odd thing a graph can have.

    Nodes 0 … 15 have random edges. 16 has one neighbour, 17 one neighbour three times, 18 only
    itself, 22 and 23 only outgoing edges; 20 and 21 are isolated. 6 … 10 have cycles of 2 to 5
    edges. There are parallel edges, of one relation and of two, and loops, one of them twice.
    Hyperedge 5 has one node, 6 none.
    """
    rng = np.random.default_rng(seed)
    size, core, hyperedges = 24, 16, 7

    def pick(count: int, below: int = core) -> list[int]:
        return [int(i) for i in rng.integers(below, size=count)]

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(rng.normal(size=shape))

    ends = zip(pick(34, 20), pick(34), pick(34, 3), strict=True)
    edges = [(s, t, RELATIONS[k]) for s, t, k in ends]
    edges += [edges[i] for i in pick(5, 34)]
    edges += [(s, t, RELATIONS[(RELATIONS.index(r) + 1) % 3]) for s, t, r in edges[:2]]
    edges += [*[(1, 1, "knows")] * 2, (2, 2, "likes"), (18, 18, "owns")]
    edges += [(s, t, "likes") for s, t in ((6, 7), (7, 6), (7, 8), (8, 6), (8, 9), (9, 6))]
    edges += [(9, 10, "owns"), (10, 6, "owns")]
    edges += [(3, 16, "likes"), *[(4, 17, "knows")] * 3, (22, 0, "owns"), (23, 5, "likes")]
    types = [TYPES[k] for k in pick(core, 3)] + list("aaadbddd")
    members = [*zip(pick(18), pick(18, 5), strict=True), (16, 5), (16, 0)]
    members += [members[i] for i in pick(3, 18)]
    pairs = [*zip(pick(9, size), pick(9, size), strict=True), (3, 3), (20, 1), (20, 1)]
    known = [(i, f"label {i % 3}") for i in range(0, 13, 2)] + [(20, "of an isolated node")]
    bridge: list[tuple[int | None, int | None]] = [*zip(pick(16, 6), pick(16, 12), strict=True)]
    bridge += [(None, 2), (None, 13), (3, None), bridge[0]]
    rows = {"node": size, "hyperedge": hyperedges, "bridge": len(bridge)}
    return Graph(
        tuple(int(i) for i in rng.choice(200, size=size, replace=False) - 50),
        tuple(types),
        tuple(edges),
        tuple(members),
        tuple(pairs),
        tuple(known),
        (2, 5, 20),
        tuple(bridge),
        hyperedges,
        {
            n: torch.from_numpy(rng.normal(size=(k, width))).float().double()
            for n, k in rows.items()
        },
        {n: torch.from_numpy(rng.normal(size=(k, 3))) for n, k in rows.items()},
    )


def bare(width: int) -> Graph:
    """Nodes and hyperedges that nothing joins."""
    whole = drawn(0, width)
    tables = {n: (t[:0] if n == "bridge" else t) for n, t in whole.x.items()}
    raw = {n: (t[:0] if n == "bridge" else t) for n, t in whole.raw.items()}
    return Graph(whole.ids, whole.types, (), (), (), (), (), (), whole.hyperedges, tables, raw)


def relation(name: str, given: str, width: int) -> str:
    """A relation with an embedding x: as a column, a linear map of one, or learned for each row."""
    learned = {"linear": f"linear(raw, {width})", "embedding": f"embedding(id, {width})"}
    if given == "column":
        return name
    return f"(SELECT {_COLUMNS[name]}, {learned[given]} AS x FROM {name})"


def layers(name: str) -> Layer | None:
    """The library's layers."""
    return Layer.parsed(library.definition(name)) if name.startswith(library.PREFIX) else None


@dataclass
class Weights:
    """Parameters as leaves of their own, by their names inside the layer.

    `keys` has, for each parameter that follows a key, the key values of its sets.
    """

    graph: Graph
    layer: str
    given: str
    leaves: dict[str, Tensor]
    keys: dict[str, list[Row]]

    def __getitem__(self, name: str) -> Tensor:
        return self.leaves[f"m.o.{self.layer}_0.{name}"]

    def sets(self, name: str) -> dict[Row, Tensor]:
        """The sets of a parameter by key."""
        return self._sets(f"m.o.{self.layer}_0.{name}")

    def _sets(self, name: str) -> dict[Row, Tensor]:
        if name not in self.leaves:
            return {}
        return dict(zip(self.keys[name], self.leaves[name], strict=True))

    def stacked(self, name: str, keys: Sequence[Row], shape: tuple[int, ...]) -> Tensor:
        """The sets of some keys in order, zeros for keys that no row has."""
        found = self.sets(name)
        sets = [found[k].reshape(shape) if k in found else NOTHING.expand(shape) for k in keys]
        return torch.stack(sets)

    def x(self, name: str = "node", argument: str | None = None) -> Tensor:
        """What `relation` gives, `argument` being the name the layer has for it."""
        path = f"m.o.{argument or name}"
        if self.given == "column":
            return self.graph.x[name]
        if self.given == "linear":
            weight, bias = (self.leaves[f"{path}.linear_0.{p}"] for p in ("weight", "bias"))
            return self.graph.raw[name] @ weight + bias
        sets = self._sets(f"{path}.embedding_0.weight")
        ids = self.graph.ids if name == "node" else range(len(self.graph.x[name]))
        width = self.graph.x[name].shape[1]
        return torch.stack([sets.get((i,), NOTHING.expand(width)) for i in ids])


@dataclass
class Answer:
    """Rows of a query sorted by their content columns, with the gradient of each parameter."""

    keys: list[Row]
    values: Tensor
    gradients: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Network:
    """A compiled layer on data, with weights that depend on their names and keys only."""

    data: Data
    module: QueryModule
    maps: RowMaps
    keys: dict[str, list[Row]]

    def answer(self) -> Answer:
        """What comes out, under the graph's own ids, and the gradients of a loss."""
        ((values, valid),) = self.module(self.module.bind(self.maps))
        assert valid is None or bool(np.all(valid)), "no embedding is NULL"
        plan = self.module.plan
        contents = [self.maps.columns[plan.output, c].to_pylist() for _, c in plan.contents]
        keys = [self.data.row(r) for r in zip(*contents, strict=True)]
        return _answer(keys, values, dict(self.module.named_parameters()))

    def weights(self, layer: str, given: str) -> Weights:
        """The same weights for a reference to use."""
        leaves = {n: t.requires_grad_() for n, t in self.module.state().items()}
        return Weights(self.data.graph, layer, given, leaves, self.keys)


def expected(keys: Sequence[Row], values: Tensor, weights: Weights) -> Answer:
    """The reference's rows, with the gradients of a loss."""
    return _answer(keys, values, weights.leaves)


def _answer(keys: Sequence[Row], values: Tensor, parameters: Mapping[str, Tensor]) -> Answer:
    order = sorted(range(len(keys)), key=lambda i: keys[i])
    values = values[torch.tensor(order, dtype=torch.int64)]
    factors = torch.from_numpy(np.random.default_rng(7).normal(size=tuple(values.shape)))
    loss = (factors * torch.tanh(values)).sum()
    found: Sequence[Tensor | None] = [None] * len(parameters)
    if loss.requires_grad:  # it has rows, and they depend on weights
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    gradients = {
        name: torch.zeros_like(p) if g is None else g
        for (name, p), g in zip(parameters.items(), found, strict=True)
    }
    return Answer([keys[i] for i in order], values.detach(), gradients)


def network(data: Data, query: str, rewritten: bool = True) -> Network:
    """A query over library layers from text to a module in float64, rewritten or as it stands."""
    (statement,) = statements(f"CREATE MODEL m AS {query}")
    assert isinstance(statement, CreateModel)
    body = statement.body
    program = Program.compile(body.query, body.span.text, data.catalog, layers, "m")
    plan = program.plan if rewritten else lower(program.node)
    maps = rowmaps.build(plan, DuckDBEngine(data.connection))
    plan = maps.plan
    encoders = Encoders.fit(plan, maps)
    module = QueryModule(plan, encoders, seed=0, dtype=torch.float64)
    keys: dict[str, list[Row]] = {}
    for array in arrays(plan):
        if array.site is not None:
            table = encoders.vocabularies[array.site].table
            rows = zip(*(c.to_pylist() for c in table.columns[:-1]), strict=True)
            keys[array.parameter.name] = [data.row(r) for r in rows]
    state = module.state()
    for name, value in state.items():
        if name in keys:
            for i, key in enumerate(keys[name]):
                value[i] = _random(f"{name} {key}", tuple(value.shape[1:]))
        else:
            state[name] = _random(name, tuple(value.shape))
    module.load(state)
    return Network(data, module, maps, keys)


def _random(name: str, shape: tuple[int, ...]) -> Tensor:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return torch.from_numpy(0.5 * rng.normal(size=shape))
