"""The models that relann is measured against, in PyTorch Geometric and in torch by hand.

Each function reads the tables of `benchmarks.speed.data`, makes all tensors, and returns a `Peer`
whose `epoch` is one training step. Whatever a model may keep from one step to the next it makes
before: degrees, normalised adjacencies and their transposes, lists of patterns.

Adam is torch's fused one, at a learning rate of 0.01 and without decay. `SEED` seeds the parameters
of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import networkx as nx
import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint as recomputed
from torch_geometric.nn import (
    FastRGCNConv,
    GATConv,
    GCNConv,
    HGTConv,
    RGCNConv,
    SAGEConv,
)

Tables = dict[str, pa.Table]
EdgeType = tuple[str, str, str]

SEED = 3
"""What the parameters of every peer are drawn from."""

RATE = 0.01
"""Adam's learning rate."""

EDGE_TYPES: tuple[EdgeType, ...] = (
    ("author", "author_paper", "paper"),
    ("paper", "paper_author", "author"),
    ("paper", "paper_term", "term"),
    ("term", "term_paper", "paper"),
    ("paper", "paper_conf", "conf"),
    ("conf", "conf_paper", "paper"),
)
"""The edge types of DBLP: the source's type, the name, the target's type."""

NODE_TYPES = ("author", "paper", "term", "conf")
"""The node types of DBLP, in the order of their ids."""

FACTOR_WIDTH = 8
"""Width of the vectors that a pattern of a deep homomorphism network multiplies."""

MIXED_WIDTH = 16
"""Width of a layer's output in a deep homomorphism network."""


@dataclass(frozen=True)
class Peer:
    """A model to train: `epoch` does one step and returns its loss."""

    epoch: Callable[[], float]
    parameters: int


# Graph convolution.


def gcn_pyg_dense(tables: Tables) -> Peer:
    """Kipf and Welling's network on Cora by PyG, with the features as a dense matrix."""
    features = _cora_features(tables).to_dense()
    return _cora_gcn(tables, lambda: functional.dropout(features, 0.5))


def gcn_pyg_sparse(tables: Tables) -> Peer:
    """Kipf and Welling's network on Cora by PyG, with the features as a sparse CSR matrix.

    Dropout drops entries of the sparse matrix, as in the authors' program.
    """
    features = _cora_features(tables).to_sparse_csr()
    pointers, columns = features.crow_indices(), features.col_indices()
    values, shape = features.values(), features.shape

    def dropped() -> Tensor:
        return torch.sparse_csr_tensor(
            pointers, columns, functional.dropout(values, 0.5), shape, check_invariants=False
        )

    return _cora_gcn(tables, dropped)


def gcn_pyg(tables: Tables, hidden: int = 64) -> Peer:
    """Two layers of PyG's graph convolution on a random graph, with its normalisation cached."""
    features, labels, edges = _random_graph(tables)
    classes = _count(labels)
    torch.manual_seed(SEED)
    first = GCNConv(features.shape[1], hidden, cached=True)
    second = GCNConv(hidden, classes, cached=True)

    def loss() -> Tensor:
        middle = first(features, edges).relu()
        return functional.cross_entropy(second(middle, edges), labels)

    return _peer([*first.parameters(), *second.parameters()], loss)


def gcn_csr(tables: Tables, hidden: int = 64) -> Peer:
    """Two layers of graph convolution on a random graph by hand, with a sparse CSR adjacency.

    The adjacency's transpose is made once; torch's own derivative makes it in every step.
    """
    features, labels, edges = _random_graph(tables)
    adjacency = _normalised(edges, len(features))
    forward = adjacency.to_sparse_csr()
    backward = adjacency.t().coalesce().to_sparse_csr()
    first, first_bias, second, second_bias = _gcn_weights(features.shape[1], hidden, _count(labels))

    def loss() -> Tensor:
        middle = _product(forward, backward, features @ first).add(first_bias).relu()
        out = _product(forward, backward, middle @ second).add(second_bias)
        return functional.cross_entropy(out, labels)

    return _peer([first, first_bias, second, second_bias], loss)


def tiny_torch(tables: Tables, hidden: int = 16) -> Peer:
    """Two layers of graph convolution on a tiny graph by hand, with a dense adjacency.

    The first layer's product of adjacency and features has no parameters and is made once.
    """
    features, labels, edges = _random_graph(tables)
    adjacency = _normalised(edges, len(features)).to_dense()
    gathered = adjacency @ features
    first, first_bias, second, second_bias = _gcn_weights(features.shape[1], hidden, _count(labels))

    def loss() -> Tensor:
        middle = torch.addmm(first_bias, gathered, first).relu_()
        return functional.cross_entropy(
            torch.addmm(second_bias, adjacency, middle @ second), labels
        )

    return _peer([first, first_bias, second, second_bias], loss)


# GraphSAGE and graph attention.


def sage_pyg(tables: Tables, hidden: int = 64) -> Peer:
    """Two layers of PyG's GraphSAGE with means, over an edge index."""
    return _sage(tables, hidden, _random_graph(tables)[2])


def sage_pyg_sparse(tables: Tables, hidden: int = 64) -> Peer:
    """Two layers of PyG's GraphSAGE with means, over a transposed CSR adjacency."""
    features, _, edges = _random_graph(tables)
    transposed = _sparse(edges.flip(0), torch.ones(edges.shape[1]), len(features))
    return _sage(tables, hidden, transposed.to_sparse_csr())


def gat_pyg(tables: Tables, hidden: int = 16, heads: int = 4) -> Peer:
    """Two layers of PyG's graph attention: heads side by side, then one head."""
    features, labels, edges = _random_graph(tables)
    torch.manual_seed(SEED)
    first = GATConv(features.shape[1], hidden, heads=heads)
    second = GATConv(hidden * heads, _count(labels), heads=1)

    def loss() -> Tensor:
        middle = functional.elu(first(features, edges))
        return functional.cross_entropy(second(middle, edges), labels)

    return _peer([*first.parameters(), *second.parameters()], loss)


# Typed graphs.


def hgt_pyg(
    tables: Tables,
    layers: int,
    pruned: bool,
    sparse: bool = False,
    hidden: int = 64,
    heads: int = 8,
) -> Peer:
    """PyG's heterogeneous graph transformer on DBLP, as PyG's own example has it.

    `pruned` leaves out, per layer, the node and edge types that do not reach the authors. `sparse`
    gives the features of authors and papers as CSR matrices.
    """
    node, edge = tables["node"], tables["edge"]
    kinds = np.asarray(node["type"].to_pylist())
    starts = {kind: int(np.flatnonzero(kinds == kind)[0]) for kind in NODE_TYPES}
    names = np.asarray(edge["rel"].to_pylist())
    ends = _edges(edge)
    edges: dict[EdgeType, Tensor] = {}
    for kind in EDGE_TYPES:
        chosen = ends[:, torch.from_numpy(names == kind[1])]
        edges[kind] = chosen - torch.tensor([[starts[kind[0]]], [starts[kind[2]]]])
    features = {
        "author": _matrix(tables["author_x"], "x"),
        "paper": _matrix(tables["paper_x"], "x"),
        "term": _matrix(tables["term_x"], "x"),
        "conf": torch.ones(int((kinds == "conf").sum()), 1),
    }
    if sparse:
        for kind in ("author", "paper"):
            words = tables[f"{kind}_word"]
            places = torch.stack([_column(words, "id") - starts[kind], _column(words, "col")])
            features[kind] = torch.sparse_coo_tensor(
                places, _column(words, "val"), features[kind].shape, check_invariants=False
            ).to_sparse_csr()
    steps: list[tuple[list[str], list[EdgeType]]] = []
    needed = {"author"}
    for _ in range(layers):
        taken = [kind for kind in EDGE_TYPES if kind[2] in needed or not pruned]
        needed = needed | {kind[0] for kind in taken} | {kind[2] for kind in taken}
        steps.insert(0, ([kind for kind in NODE_TYPES if kind in needed], taken))

    torch.manual_seed(SEED)
    inputs = nn.ModuleDict(
        {kind: nn.Linear(features[kind].shape[1], hidden) for kind in steps[0][0]}
    )
    convolutions = nn.ModuleList([HGTConv(hidden, hidden, step, heads) for step in steps])
    output = nn.Linear(hidden, 4)
    rows, labels = _training(node)
    step_edges = [{kind: edges[kind] for kind in taken} for _, taken in steps]

    def loss() -> Tensor:
        state = {kind: layer(features[kind]).relu() for kind, layer in inputs.items()}
        for convolution, (present, _), chosen in zip(convolutions, steps, step_edges, strict=True):
            state = convolution({kind: state[kind] for kind in present}, chosen)
        return functional.cross_entropy(output(state["author"])[rows], labels)

    return _peer([*inputs.parameters(), *convolutions.parameters(), *output.parameters()], loss)


def rgcn_pyg_fast(tables: Tables, num_bases: int | None = None, hidden: int = 16) -> Peer:
    """PyG's relational convolution without features on AIFB, all relations at once."""
    return _rgcn(tables, FastRGCNConv, num_bases, hidden)


def rgcn_pyg(tables: Tables, num_bases: int | None = None, hidden: int = 16) -> Peer:
    """PyG's relational convolution without features on AIFB, one relation after the other."""
    return _rgcn(tables, RGCNConv, num_bases, hidden)


# Hypergraphs and patterns.


def hygnn_torch(tables: Tables, width: int = 64, split_decoder: bool = False) -> Peer:
    """HyGNN on TWOSIDES: substructures attend to drugs, drugs to substructures, pairs are judged.

    `split_decoder` multiplies drugs, not pairs, with the decoder's first matrix: the same function
    at less expense.
    """
    drugs, substructures = tables["drug"].num_rows, tables["substructure"].num_rows
    drug = _column(tables["member"], "drug")
    substructure = _column(tables["member"], "substructure")
    pair = tables["pair"]
    rows = torch.tensor([split == "train" for split in pair["split"].to_pylist()])
    left, right = _column(pair, "a")[rows], _column(pair, "b")[rows]
    target = _column(pair, "label")[rows].float()

    torch.manual_seed(SEED)
    p = _glorot(substructures, width)
    q = _glorot(drugs, width)
    w1, w2, w3, w4 = (_glorot(width, width) for _ in range(4))
    a1, a2 = (_glorot(2 * width, 1) for _ in range(2))
    hidden, out = nn.Linear(2 * width, 64), nn.Linear(64, 1)

    def attended(query: Tensor, value: Tensor, by: Tensor, of: Tensor, score: Tensor) -> Tensor:
        # score = a · concat(query, value), whose halves are multiplied before the rows are paired.
        count = len(query)
        asked = (query @ score[:width]).squeeze(1).index_select(0, by)
        given = (value @ score[width:]).squeeze(1).index_select(0, of)
        weight = _softmax(functional.leaky_relu(asked + given), by, count)
        messages = value.index_select(0, of) * weight.unsqueeze(1)
        return value.new_zeros(count, width).index_add_(0, by, messages).relu()

    def loss() -> Tensor:
        substructure_state = attended(p @ w1, q @ w2, substructure, drug, a1)
        drug_state = attended(q @ w3, substructure_state @ w4, drug, substructure, a2)
        if split_decoder:
            one = functional.linear(drug_state, hidden.weight[:, :width], hidden.bias)
            other = functional.linear(drug_state, hidden.weight[:, width:])
            middle = one.index_select(0, left) + other.index_select(0, right)
        else:
            both = (drug_state.index_select(0, left), drug_state.index_select(0, right))
            middle = hidden(torch.cat(both, dim=1))
        return functional.binary_cross_entropy_with_logits(out(middle.relu()).squeeze(1), target)

    return _peer([p, q, w1, w2, w3, w4, a1, a2, *hidden.parameters(), *out.parameters()], loss)


def cycles(edges: pa.Table, longest: int) -> dict[int, Tensor]:
    """The rooted directed simple cycles of every length from 2, as rows of nodes, root first.

    `edges` has both directions of every edge; a row of length 2 is an edge. A cycle of length
    k > 2 gives 2k rows: every root, both ways round. Rows are sorted by their roots.
    """
    ends = np.stack([edges["src"].to_numpy(), edges["dst"].to_numpy()], axis=1)
    graph = nx.Graph()
    graph.add_edges_from(ends.tolist())
    found: dict[int, list[list[int]]] = {length: [] for length in range(3, longest + 1)}
    for cycle in nx.simple_cycles(graph, length_bound=longest):
        if len(cycle) > 2:
            found[len(cycle)].append(cycle)
    maps = {2: ends}
    for length, listed in found.items():
        once = np.array(listed, dtype=np.int64).reshape(-1, length)
        ways = (once, once[:, ::-1])
        maps[length] = np.concatenate(
            [np.roll(way, shift, axis=1) for way in ways for shift in range(length)]
        )
    return {
        length: torch.from_numpy(rows[np.argsort(rows[:, 0], kind="stable")])
        for length, rows in maps.items()
    }


def dhn_torch(
    tables: Tables,
    longest: int,
    maps: dict[int, Tensor] | None = None,
    checkpoint: bool = False,
) -> Peer:
    """A deep homomorphism network of cycles up to a length on circular skip link graphs.

    Trains on folds 0 to 3, and holds no other graphs. `maps` is what `cycles` lists for all edges,
    where it is known already. `checkpoint` recomputes each pattern's products in the backward pass
    instead of storing them.
    """
    graph_of = _column(tables["node"], "graph")
    chosen = _column(tables["graph"], "fold") < 4
    kept = chosen[graph_of]
    place = kept.cumsum(0) - 1
    nodes, graphs = int(kept.sum()), int(chosen.sum())
    graph = (chosen.cumsum(0) - 1)[graph_of[kept]]
    labels = _column(tables["graph"], "label")[chosen]
    known = cycles(tables["edge"], longest) if maps is None else maps
    columns = {
        length: list(place[known[length][kept[known[length][:, 0]]]].t().contiguous())
        for length in range(2, longest + 1)
    }

    torch.manual_seed(SEED)
    widths = (1, MIXED_WIDTH)
    factors = [
        {length: _positions(length, width, FACTOR_WIDTH) for length in columns} for width in widths
    ]
    mixers = [nn.Linear(FACTOR_WIDTH * len(columns), MIXED_WIDTH) for _ in widths]
    output = nn.Linear(MIXED_WIDTH, 10)
    constant = torch.ones(nodes, 1)

    def pattern(
        state: Tensor, weight: Tensor, bias: Tensor, then: Tensor, plus: Tensor, *column: Tensor
    ) -> Tensor:
        # The root's factor is the same for all rows of a root, so it is multiplied after the sum.
        middle = torch.baddbmm(bias, state.expand(len(weight), -1, -1), weight).relu()
        factor = torch.baddbmm(plus, middle, then)
        product = factor[1].index_select(0, column[1])
        for position in range(2, len(column)):
            product = product * factor[position].index_select(0, column[position])
        summed = torch.zeros(nodes, FACTOR_WIDTH).index_add_(0, column[0], product)
        return factor[0] * summed

    def layer(state: Tensor, weights: dict[int, tuple[Tensor, ...]]) -> Tensor:
        patterns: list[Tensor] = []
        for length, column in columns.items():
            arguments = (state, *weights[length], *column)
            patterns.append(
                recomputed(pattern, *arguments, use_reentrant=False)
                if checkpoint
                else pattern(*arguments)
            )
        return torch.cat(patterns, dim=1)

    def loss() -> Tensor:
        state = constant
        for weights, mixer in zip(factors, mixers, strict=True):
            state = mixer(layer(state, weights)).relu()
        pooled = torch.zeros(graphs, MIXED_WIDTH).index_add_(0, graph, state)
        return functional.cross_entropy(output(pooled), labels)

    parameters = [part for weights in factors for pair in weights.values() for part in pair]
    for mixer in (*mixers, output):
        parameters += mixer.parameters()
    return _peer(parameters, loss)


def triangles_scipy(tables: Tables) -> Callable[[], int]:
    """Counts the rows a → b → c with a → c, by scipy: six per triangle of a symmetric graph."""
    adjacency = _adjacency(tables["edge"])

    def count() -> int:
        return int((adjacency @ adjacency).multiply(adjacency).sum())

    return count


def triangles_scipy_nodes(tables: Tables) -> Callable[[], NDArray[np.int64]]:
    """Counts the rows a → b → c with a → c for every node a, by scipy."""
    adjacency = _adjacency(tables["edge"])

    def count() -> NDArray[np.int64]:
        return np.asarray((adjacency @ adjacency).multiply(adjacency).sum(axis=1)).reshape(-1)

    return count


def tree_materialised(tables: Tables, width: int) -> Callable[[], float]:
    """Σ x_b · x_c · x_d over the paths a → b → c → d, per a, with all paths listed beforehand.

    Forward, then backward with respect to x, the first `width` features; returns the sum over all
    nodes and features, whose derivative is taken. Only for small graphs.
    """
    edge = tables["edge"].to_pandas()
    paths = (
        edge.rename(columns={"src": "a", "dst": "b"})
        .merge(edge.rename(columns={"src": "b", "dst": "c"}), on="b")
        .merge(edge.rename(columns={"src": "c", "dst": "d"}), on="c")
    )
    a, b, c, d = (torch.from_numpy(paths[name].to_numpy().copy()) for name in "abcd")
    x = _matrix(tables["node"], "x")[:, :width].contiguous().requires_grad_()

    def step() -> float:
        x.grad = None
        product = x.index_select(0, b) * x.index_select(0, c) * x.index_select(0, d)
        total = torch.zeros(x.shape).index_add_(0, a, product).sum()
        total.backward()
        return total.item()

    return step


def tree_factorised(tables: Tables, width: int) -> Callable[[], float]:
    """What `tree_materialised` computes, as three products with the sparse adjacency."""
    x = _matrix(tables["node"], "x")[:, :width].contiguous().requires_grad_()
    edges = _edges(tables["edge"])
    adjacency = _sparse(edges, torch.ones(edges.shape[1]), len(x))
    forward = adjacency.to_sparse_csr()
    backward = adjacency.t().coalesce().to_sparse_csr()

    def step() -> float:
        x.grad = None
        inner = x * _product(forward, backward, x)
        total = _product(forward, backward, x * _product(forward, backward, inner)).sum()
        total.backward()
        return total.item()

    return step


# From tables to a step.


def text_to_epoch_pandas(tables: Tables) -> Callable[[], float]:
    """From tables with sparse ids to one step of one layer of means, tensors and model included."""
    node, edge = tables["node"], tables["edge"]

    def step() -> float:
        identifiers, dense = torch.unique(_column(node, "id"), return_inverse=True)
        number = pd.DataFrame({"id": node["id"].to_numpy(), "place": dense.numpy()})
        pairs = edge.to_pandas()
        pairs = pairs.merge(number.rename(columns={"id": "src", "place": "source"}), on="src")
        pairs = pairs.merge(number.rename(columns={"id": "dst", "place": "target"}), on="dst")
        source = torch.from_numpy(pairs["source"].to_numpy().copy())
        target = torch.from_numpy(pairs["target"].to_numpy().copy())
        nodes = len(identifiers)
        x = _matrix(node, "x")
        features = torch.empty_like(x).index_copy_(0, dense, x)
        labels = torch.empty_like(dense).index_copy_(0, dense, _column(node, "label"))
        degrees = torch.bincount(target, minlength=nodes).clamp_(min=1).unsqueeze(1)
        torch.manual_seed(SEED)
        model = nn.Linear(features.shape[1], _count(labels))

        def loss() -> Tensor:
            total = torch.zeros_like(features)
            total.index_add_(0, target, features.index_select(0, source))
            return functional.cross_entropy(model(total / degrees), labels)

        return _peer(model.parameters(), loss).epoch()

    return step


# What several share.


class _Product(torch.autograd.Function):
    """A sparse matrix times a dense one, with the sparse one's transpose given."""

    @staticmethod
    def forward(  # type: ignore[override]
        context: torch.autograd.function.FunctionCtx,
        matrix: Tensor,
        transposed: Tensor,
        dense: Tensor,
    ) -> Tensor:
        context.transposed = transposed  # type: ignore[attr-defined]
        return matrix @ dense

    @staticmethod
    def backward(  # type: ignore[override]
        context: torch.autograd.function.FunctionCtx, gradient: Tensor
    ) -> tuple[None, None, Tensor]:
        return None, None, context.transposed @ gradient  # type: ignore[attr-defined]


def _product(matrix: Tensor, transposed: Tensor, dense: Tensor) -> Tensor:
    """A sparse matrix times a dense one, with the sparse one's transpose given."""
    result: Tensor = _Product.apply(matrix, transposed, dense)
    return result


def _peer(parameters: Iterable[Tensor], loss: Callable[[], Tensor]) -> Peer:
    """The peer that lowers a loss in some parameters."""
    weights = list(parameters)
    optimizer = torch.optim.Adam(weights, lr=RATE, fused=True)

    def epoch() -> float:
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        optimizer.step()
        return value.item()

    return Peer(epoch, sum(weight.numel() for weight in weights))


def _cora_gcn(tables: Tables, features: Callable[[], Tensor]) -> Peer:
    """Two layers of PyG's graph convolution on Cora, over features that already are dropped."""
    node = tables["node"]
    edges = _edges(tables["edge"])
    rows, labels = _training(node)
    width = _count(_column(tables["feature"], "col"))
    torch.manual_seed(SEED)
    first = GCNConv(width, 16, cached=True)
    second = GCNConv(16, _count(_column(node, "label")), cached=True)

    def loss() -> Tensor:
        middle = functional.dropout(first(features(), edges).relu(), 0.5)
        return functional.cross_entropy(second(middle, edges)[rows], labels)

    return _peer([*first.parameters(), *second.parameters()], loss)


def _cora_features(tables: Tables) -> Tensor:
    """The features of Cora as a sparse matrix whose rows sum to 1."""
    feature = tables["feature"]
    row, column, value = (_column(feature, name) for name in ("row", "col", "val"))
    nodes = tables["node"].num_rows
    sums = torch.zeros(nodes).index_add_(0, row, value).clamp_(min=1)
    shape = (nodes, _count(column))
    return torch.sparse_coo_tensor(
        torch.stack([row, column]), value / sums[row], shape, check_invariants=False
    ).coalesce()


def _sage(tables: Tables, hidden: int, edges: Tensor) -> Peer:
    """Two layers of PyG's GraphSAGE with means, over edges in any form PyG takes."""
    features, labels, _ = _random_graph(tables)
    torch.manual_seed(SEED)
    first = SAGEConv(features.shape[1], hidden)
    second = SAGEConv(hidden, _count(labels))

    def loss() -> Tensor:
        middle = first(features, edges).relu()
        return functional.cross_entropy(second(middle, edges), labels)

    return _peer([*first.parameters(), *second.parameters()], loss)


def _rgcn(tables: Tables, convolution: type[RGCNConv], num_bases: int | None, hidden: int) -> Peer:
    """Two layers of one of PyG's relational convolutions, from s to o of each triple."""
    triple, node = tables["triple"], tables["node"]
    relation = _column(triple, "p")
    relation, order = relation.sort(stable=True)
    edges = torch.stack([_column(triple, "s"), _column(triple, "o")])[:, order]
    rows, labels = _training(node)
    relations, classes = _count(relation), _count(_column(node, "label"))
    torch.manual_seed(SEED)
    first = convolution(node.num_rows, hidden, relations, num_bases=num_bases, is_sorted=True)
    second = convolution(hidden, classes, relations, num_bases=num_bases, is_sorted=True)

    def loss() -> Tensor:
        middle = first(None, edges, relation).relu()
        return functional.cross_entropy(second(middle, edges, relation)[rows], labels)

    return _peer([*first.parameters(), *second.parameters()], loss)


def _random_graph(tables: Tables) -> tuple[Tensor, Tensor, Tensor]:
    """Features, labels and edge index of a random graph."""
    node = tables["node"]
    return _matrix(node, "x"), _column(node, "label"), _edges(tables["edge"])


def _training(node: pa.Table) -> tuple[Tensor, Tensor]:
    """The numbers of the training rows among those of their kind, and their labels."""
    split = np.asarray(node["split"].to_pylist(), dtype=object)
    rows = torch.from_numpy(np.flatnonzero(split == "train"))
    return rows, _column(node, "label")[rows]


def _normalised(edges: Tensor, nodes: int) -> Tensor:
    """The transposed adjacency with loops over the roots of both in-degrees, as a COO matrix."""
    ends = torch.cat([edges, torch.arange(nodes).expand(2, -1)], dim=1)
    scale = torch.bincount(ends[1], minlength=nodes).float().rsqrt_()
    return _sparse(ends.flip(0), scale[ends[0]] * scale[ends[1]], nodes)


def _sparse(places: Tensor, values: Tensor, nodes: int) -> Tensor:
    """A square sparse COO matrix."""
    return torch.sparse_coo_tensor(
        places, values, (nodes, nodes), check_invariants=False
    ).coalesce()


def _adjacency(edge: pa.Table) -> scipy.sparse.csr_array:
    """The adjacency of a graph whose nodes all have edges, from sources to targets."""
    src, dst = edge["src"].to_numpy(), edge["dst"].to_numpy()
    nodes = int(max(src.max(), dst.max())) + 1
    ones = np.ones(len(src), dtype=np.int64)
    return scipy.sparse.coo_array((ones, (src, dst)), shape=(nodes, nodes)).tocsr()


def _softmax(score: Tensor, group: Tensor, groups: int) -> Tensor:
    """The softmax of scores within each group."""
    greatest = score.new_full((groups,), -torch.inf)
    greatest.scatter_reduce_(0, group, score.detach(), "amax")
    raised = (score - greatest.index_select(0, group)).exp()
    total = score.new_zeros(groups).index_add_(0, group, raised)
    return raised / total.index_select(0, group)


def _gcn_weights(width: int, hidden: int, classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights and biases of two layers of graph convolution, as PyG starts them."""
    torch.manual_seed(SEED)
    return (
        _glorot(width, hidden),
        torch.zeros(hidden, requires_grad=True),
        _glorot(hidden, classes),
        torch.zeros(classes, requires_grad=True),
    )


def _glorot(rows: int, columns: int) -> Tensor:
    """A matrix of parameters, uniform between ±√(6 / (rows + columns))."""
    return nn.init.xavier_uniform_(torch.empty(rows, columns)).requires_grad_()


def _positions(length: int, width: int, out: int) -> tuple[Tensor, ...]:
    """Weights and biases of a perceptron of two layers per position, as `nn.Linear` starts them."""
    made = []
    for inner in (width, out):
        bound = inner**-0.5
        made.append(torch.empty(length, inner, out).uniform_(-bound, bound).requires_grad_())
        made.append(torch.empty(length, 1, out).uniform_(-bound, bound).requires_grad_())
    return tuple(made)


def _edges(edge: pa.Table) -> Tensor:
    """The edge index: sources, then targets."""
    return torch.stack([_column(edge, "src"), _column(edge, "dst")])


def _column(table: pa.Table, name: str) -> Tensor:
    """A column of numbers; -1 where there is none."""
    column = table[name]
    if column.null_count:
        column = column.fill_null(-1)
    return torch.from_numpy(column.to_numpy().copy())


def _matrix(table: pa.Table, name: str) -> Tensor:
    """A column of lists of fixed length, a row each."""
    flat = np.concatenate([chunk.flatten().to_numpy() for chunk in table[name].chunks])
    return torch.from_numpy(flat.reshape(table.num_rows, -1))


def _count(numbers: Tensor) -> int:
    """One more than the largest number."""
    return int(numbers.max()) + 1
