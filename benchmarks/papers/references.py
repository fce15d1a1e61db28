"""The same models in PyTorch Geometric and in torch by hand, trained the way relann trains.

A function reads the tables of a task and the seed of its parameters and returns a `Reference`.
`trained` does one Adam step per epoch on all training rows, looks at the validation rows after it,
and keeps the epoch that is best on them, the last where there are none: what relann does.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa
import torch
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import FastRGCNConv, GCNConv, HGTConv
from torch_geometric.utils import softmax

from benchmarks.speed.data import RELATIONS
from benchmarks.speed.peers import EDGE_TYPES, NODE_TYPES, cycles

Tables = dict[str, pa.Table]
Options = Mapping[str, str]


class Reference(nn.Module):
    """A model of a task: `scores` are those of the rows of a split, `labels` their labels.

    `forward` is given the numbers of the wanted rows in the table that has label and split.
    """

    def __init__(self, target: pa.Table, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        split = np.asarray(target["split"].to_pylist(), dtype=object)
        known = ~np.asarray(target["label"].is_null())
        labels = torch.from_numpy(target["label"].fill_null(-1).to_numpy().copy())
        self.rows = {
            name: torch.from_numpy(np.flatnonzero((split == name) & known))
            for name in ("train", "val", "test")
        }
        self.labels = {name: labels[rows] for name, rows in self.rows.items()}
        self.classes = int(labels.max()) + 1

    def scores(self, split: str) -> Tensor:
        """The scores of the rows of a split."""
        result: Tensor = self(self.rows[split])
        return result


@dataclass(frozen=True)
class Found:
    """What a training came to: the test metrics of the best epoch, and the seconds of each."""

    metrics: dict[str, float]
    seconds: list[float]


def trained(model: Reference, options: Options) -> Found:
    """Train by the options of the query; the test rows are read once, at the end."""
    optimizer = torch.optim.Adam(
        model.parameters(),
        lr=float(options["lr"]),
        weight_decay=float(options["weight_decay"]),
        fused=True,
    )
    chosen = options.get("metric", "loss")
    seconds: list[float] = []
    best: tuple[float, float] | None = None
    state = model.state_dict()
    for _ in range(int(options["epochs"])):
        began = time.perf_counter()
        model.train()
        optimizer.zero_grad(set_to_none=True)
        _loss(model.scores("train"), model.labels["train"]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        model.eval()
        if len(model.rows["val"]):
            with torch.no_grad():
                scores, labels = model.scores("val"), model.labels["val"]
            loss = _loss(scores, labels).item()
            value = (
                -loss if chosen == "loss" else _metrics(scores, labels, [chosen])[chosen],
                -loss,
            )
        seconds.append(time.perf_counter() - began)
        if len(model.rows["val"]) and (best is None or value > best):
            best, state = value, copy.deepcopy(model.state_dict())
    if best is not None:
        model.load_state_dict(state)
    with torch.no_grad():
        return Found(_metrics(model.scores("test"), model.labels["test"]), seconds)


def _loss(scores: Tensor, labels: Tensor) -> Tensor:
    if scores.dim() == 1:
        return functional.binary_cross_entropy_with_logits(scores, labels.float())
    return functional.cross_entropy(scores, labels)


def _metrics(
    scores: Tensor, labels: Tensor, wanted: Iterable[str] = ("accuracy", "f1", "auroc", "ap")
) -> dict[str, float]:
    """Those of the wanted metrics that the scores have: all for two classes, else the accuracy."""
    given = labels.numpy()
    if scores.dim() == 2:
        return {"accuracy": float(accuracy_score(given, scores.argmax(dim=1).numpy()))}
    found = scores.numpy()
    make: dict[str, Callable[[], float]] = {
        "accuracy": lambda: accuracy_score(given, found >= 0),
        "f1": lambda: f1_score(given, found >= 0),
        "auroc": lambda: roc_auc_score(given, found),
        "ap": lambda: average_precision_score(given, found),
    }
    return {name: float(make[name]()) for name in wanted}


class Gcn(Reference):
    """PyG's graph convolution on Cora, features dense as PyG has them."""

    def __init__(self, tables: Tables, seed: int) -> None:
        super().__init__(tables["node"], seed)
        feature = tables["feature"]
        dense = torch.zeros(tables["node"].num_rows, int(_column(feature, "col").max()) + 1)
        dense[_column(feature, "row"), _column(feature, "col")] = _column(feature, "val").float()
        self.x = dense / dense.sum(dim=1, keepdim=True).clamp(min=1)
        self.edges = _edges(tables["edge"])
        self.first = GCNConv(dense.shape[1], 16, cached=True)
        self.second = GCNConv(16, self.classes, cached=True)

    def forward(self, rows: Tensor) -> Tensor:
        middle = self.first(functional.dropout(self.x, 0.5, self.training), self.edges).relu()
        result: Tensor = self.second(functional.dropout(middle, 0.5, self.training), self.edges)
        return result[rows]


class Hgt(Reference):
    """PyG's heterogeneous graph transformer on DBLP: PyG's own example with dropout.

    The features of authors and papers are sparse, conferences have a constant one.
    """

    def __init__(self, tables: Tables, seed: int, layers: int, dropout: float) -> None:
        node = tables["node"]
        super().__init__(node, seed)
        self.dropout = dropout
        kinds = np.asarray(node["type"].to_pylist())
        counts = {kind: int((kinds == kind).sum()) for kind in NODE_TYPES}
        first = {kind: int(np.flatnonzero(kinds == kind)[0]) for kind in NODE_TYPES}
        names, ends = np.asarray(tables["edge"]["rel"].to_pylist()), _edges(tables["edge"])
        self.edges = {
            kind: ends[:, torch.from_numpy(names == kind[1])]
            - torch.tensor([[first[kind[0]]], [first[kind[2]]]])
            for kind in EDGE_TYPES
        }
        flat = np.concatenate([part.flatten() for part in tables["term_x"]["x"].chunks])
        self.term = torch.from_numpy(flat.reshape(counts["term"], -1))
        self.words: dict[str, Tensor] = {}
        for kind in ("author", "paper"):
            word = tables[f"{kind}_word"]
            places = torch.stack([_column(word, "id") - first[kind], _column(word, "col")])
            size = (counts[kind], int(places[1].max()) + 1)
            values = _column(word, "val").float()
            matrix = torch.sparse_coo_tensor(places, values, size, check_invariants=False)
            self.words[kind] = matrix.coalesce().to_sparse_csr()
        self.one = torch.ones(counts["conf"], 1)
        widths = {kind: matrix.shape[1] for kind, matrix in self.words.items()}
        widths |= {"term": self.term.shape[1], "conf": 1}
        self.inputs = nn.ModuleDict({kind: nn.Linear(width, 64) for kind, width in widths.items()})
        graph = (list(NODE_TYPES), list(EDGE_TYPES))
        self.layers = nn.ModuleList([HGTConv(64, 64, graph, 8) for _ in range(layers)])
        self.output = nn.Linear(64, self.classes)

    def forward(self, rows: Tensor) -> Tensor:
        x = {"term": self.term, "conf": self.one}
        for kind, matrix in self.words.items():
            x[kind] = torch.sparse_csr_tensor(
                matrix.crow_indices(),
                matrix.col_indices(),
                functional.dropout(matrix.values(), 0.8, self.training),
                matrix.shape,
                check_invariants=False,
            )
        state = {kind: layer(x[kind]).relu() for kind, layer in self.inputs.items()}
        for layer in self.layers:
            state = layer(state, self.edges)
        authors = functional.dropout(state["author"], self.dropout, self.training)
        result: Tensor = self.output(authors)
        return result[rows]


class Rgcn(Reference):
    """PyG's relational convolution on AIFB, without features, all relations at once."""

    def __init__(self, tables: Tables, seed: int) -> None:
        super().__init__(tables["node"], seed)
        triple, nodes = tables["triple"], tables["node"].num_rows
        self.relation, order = _column(triple, "p").sort(stable=True)
        self.edges = torch.stack([_column(triple, "s"), _column(triple, "o")])[:, order]
        self.first = FastRGCNConv(nodes, 16, 2 * RELATIONS, is_sorted=True)
        self.second = FastRGCNConv(16, self.classes, 2 * RELATIONS, is_sorted=True)

    def forward(self, rows: Tensor) -> Tensor:
        middle = self.first(None, self.edges, self.relation).relu()
        middle = functional.dropout(middle, 0.5, self.training)
        result: Tensor = self.second(middle, self.edges, self.relation)
        return result[rows]


class Hygnn(Reference):
    """HyGNN on TWOSIDES in torch: substructures attend to drugs, drugs to substructures."""

    def __init__(self, tables: Tables, seed: int) -> None:
        super().__init__(tables["pair"], seed)
        self.drug = _column(tables["member"], "drug")
        self.substructure = _column(tables["member"], "substructure")
        self.pair = torch.stack([_column(tables["pair"], "a"), _column(tables["pair"], "b")])
        self.q = _glorot(tables["drug"].num_rows, 64)
        self.p = _glorot(tables["substructure"].num_rows, 64)
        self.maps = nn.ModuleList([nn.Linear(64, 64, bias=False) for _ in range(4)])
        self.scores_of = nn.ModuleList([nn.Linear(64, 1, bias=False) for _ in range(4)])
        self.decoder = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, rows: Tensor) -> Tensor:
        p = self._attended(0, self.p, self.q, self.substructure, self.drug)
        q = self._attended(2, self.q, p, self.drug, self.substructure)
        left, right = self.pair[:, rows]
        result: Tensor = self.decoder(torch.cat([q[left], q[right]], dim=1))
        return result.squeeze(1)

    def _attended(self, place: int, query: Tensor, value: Tensor, by: Tensor, of: Tensor) -> Tensor:
        """What each row of `query` gathers from its rows of `value`."""
        value = self.maps[place + 1](value)
        asked = self.scores_of[place](self.maps[place](query))[by]
        given = self.scores_of[place + 1](value)[of]
        weight = softmax(functional.leaky_relu(asked + given), by, num_nodes=len(query))
        return value.new_zeros(len(query), 64).index_add(0, by, value[of] * weight).relu()


class Patterns(Reference):
    """A deep homomorphism network of one layer in torch, over patterns that are listed before.

    `maps` has the rows of nodes, root first, of each pattern. What a split does not need is not
    computed. `readout` makes an embedding of each node, then one of each graph, as the query does.
    """

    def __init__(
        self, tables: Tables, seed: int, maps: Mapping[int, Tensor], deep: bool = False
    ) -> None:
        super().__init__(tables["graph"], seed)
        owner = _column(tables["node"], "graph")
        self.parts: dict[str, tuple[Tensor, list[Tensor]]] = {}
        for name, rows in self.rows.items():
            graph = torch.full((int(owner.max()) + 1,), -1)
            graph[rows] = torch.arange(len(rows))
            kept = graph[owner] >= 0
            place = kept.cumsum(0) - 1
            listed = [
                place[rows_of[kept[rows_of[:, 0]]]].t().contiguous() for rows_of in maps.values()
            ]
            self.parts[name] = (graph[owner[kept]], listed)
        self.factors = nn.ModuleList(
            nn.ModuleList([_perceptron(1, 8, 8) for _ in range(rows_of.shape[1])])
            for rows_of in maps.values()
        )
        self.mix = nn.ModuleList([nn.Linear(8, 16) for _ in maps])
        self.norm = nn.BatchNorm1d(16)
        self.node = _perceptron(16, 64, 64) if deep else nn.ReLU()
        self.graph = _perceptron(64, 64, self.classes) if deep else nn.Linear(16, self.classes)

    def scores(self, split: str) -> Tensor:
        owner, listed = self.parts[split]
        nodes, one = len(owner), torch.ones(len(owner), 1)
        total = torch.zeros(nodes, 16)
        for factors, mix, columns in zip(self.factors, self.mix, listed, strict=True):
            values = [factor(one) for factor in cast(nn.ModuleList, factors)]
            product = values[1].index_select(0, columns[1])
            for value, column in zip(values[2:], columns[2:], strict=True):
                product = product * value.index_select(0, column)
            summed = torch.zeros(nodes, 8).index_add(0, columns[0], product)
            total = total + mix(values[0] * summed)
        return _pooled(self.node(self.norm(total)), owner, self.graph)


class Convolutions(Reference):
    """Two of PyG's graph convolutions over graphs whose nodes are all alike, and their mean."""

    def __init__(self, tables: Tables, seed: int) -> None:
        super().__init__(tables["graph"], seed)
        self.owner = _column(tables["node"], "graph")
        self.edges = _edges(tables["edge"])
        self.first, self.second = GCNConv(1, 16, cached=True), GCNConv(16, 16, cached=True)
        self.output = nn.Linear(16, self.classes)

    def forward(self, rows: Tensor) -> Tensor:
        middle = self.first(torch.ones(len(self.owner), 1), self.edges).relu()
        return _pooled(self.second(middle, self.edges).relu(), self.owner, self.output)[rows]


def cycles_reference(longest: int, deep: bool = False) -> Callable[[Tables, int], Reference]:
    """Deep homomorphism networks of cycles; the cycles are listed once for all seeds."""
    known: list[dict[int, Tensor]] = []

    def make(tables: Tables, seed: int) -> Reference:
        if not known:
            known.append(cycles(tables["edge"], longest))
        return Patterns(tables, seed, known[0], deep)

    return make


def cliques_reference(tables: Tables, seed: int) -> Reference:
    """A deep homomorphism network of cliques of 4 nodes."""
    edges = tables["edge"].to_pandas()
    step = edges.rename(columns={"src": "a", "dst": "b"})
    found = step.merge(edges.rename(columns={"src": "b", "dst": "c"}))
    found = found.merge(edges.rename(columns={"src": "a", "dst": "c"}))
    found = found.merge(edges.rename(columns={"src": "a", "dst": "d"}))
    found = found.merge(edges.rename(columns={"src": "b", "dst": "d"}))
    found = found.merge(edges.rename(columns={"src": "c", "dst": "d"}))
    rows = torch.from_numpy(found[["a", "b", "c", "d"]].to_numpy().copy())
    return Patterns(tables, seed, {4: rows}, deep=True)


def _pooled(x: Tensor, owner: Tensor, readout: nn.Module) -> Tensor:
    """A readout of the mean over the nodes of each graph."""
    graphs = int(owner.max()) + 1
    total = x.new_zeros(graphs, x.shape[1]).index_add(0, owner, x)
    result: Tensor = readout(total / torch.bincount(owner, minlength=graphs).unsqueeze(1))
    return result


def _perceptron(width: int, hidden: int, out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out))


def _glorot(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(rows, columns)))


def _edges(edge: pa.Table) -> Tensor:
    """The edge index: sources, then targets."""
    return torch.stack([_column(edge, "src"), _column(edge, "dst")])


def _column(table: pa.Table, name: str) -> Tensor:
    """A column of numbers."""
    return torch.from_numpy(table[name].to_numpy().copy())
