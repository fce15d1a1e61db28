"""The same models by PyTorch Geometric, on any device."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import GATConv, GCNConv, HGTConv, RGCNConv, SAGEConv

from benchmarks.gpu.graphs import CLASSES, LINKS, TYPES, Tables

Epoch = Callable[[], float]
WIDTH = 64


def epoch_of(name: str, tables: Tables, device: torch.device) -> Epoch:
    """One training step of a model on tables; it returns the loss."""
    torch.manual_seed(0)
    return _hgt(tables, device) if name == "HGT" else _plain(name, tables, device)


def hgt_dblp(tables: Tables, device: torch.device) -> Epoch:
    """HGT on the real DBLP, of two layers, as PyG's own example has it: dense features of authors,
    papers and terms, a 1 for each conference; the loss is that of the training authors."""
    torch.manual_seed(0)
    node = tables["node"]
    kinds = np.asarray(node["type"].to_pylist())
    given = {kind: _matrix(tables[f"{kind}_x"]) for kind in ("author", "paper", "term")}
    given["conf"] = torch.ones(int((kinds == "conf").sum()), 1)
    split, labels = (node[c].filter(kinds == "author") for c in ("split", "label"))
    rows = torch.from_numpy(np.flatnonzero(np.asarray(split.to_pylist()) == "train")).to(device)
    return _transformer(tables, kinds, given, rows, _numbers(labels, device)[rows], device)


def _plain(name: str, tables: Tables, device: torch.device) -> Epoch:
    node, edge = tables["node"], tables["edge"]
    x = _matrix(node).to(device)
    width = x.shape[1]
    labels = _numbers(node["label"], device)
    edges = torch.stack([_numbers(edge["src"], device), _numbers(edge["dst"], device)])
    further: tuple[Tensor, ...] = ()
    match name:
        case "GCN":
            layers = [GCNConv(width, WIDTH, cached=True), GCNConv(WIDTH, CLASSES, cached=True)]
        case "GraphSAGE":
            layers = [SAGEConv(width, WIDTH), SAGEConv(WIDTH, CLASSES)]
        case "GAT":
            layers = [GATConv(width, WIDTH // 4, heads=4), GATConv(WIDTH, CLASSES)]
        case _:
            further = (_numbers(edge["rel"], device),)
            count = int(further[0].max()) + 1
            layers = [RGCNConv(width, WIDTH, count), RGCNConv(WIDTH, CLASSES, count)]
    first, second = (layer.to(device) for layer in layers)

    def loss() -> Tensor:
        middle = first(x, edges, *further).relu()
        return functional.cross_entropy(second(middle, edges, *further), labels)

    return _training([*first.parameters(), *second.parameters()], loss)


def _hgt(tables: Tables, device: torch.device) -> Epoch:
    node = tables["node"]
    kinds, x = np.asarray(node["type"].to_pylist()), _matrix(node)
    given = {kind: x[torch.from_numpy(kinds == kind)] for kind in TYPES}
    rows = torch.arange(len(given["author"]), device=device)
    labels = _numbers(node["label"], device)[torch.from_numpy(kinds == "author").to(device)]
    return _transformer(tables, kinds, given, rows, labels, device)


def _transformer(
    tables: Tables,
    kinds: np.ndarray,
    given: dict[str, Tensor],
    rows: Tensor,
    labels: Tensor,
    device: torch.device,
) -> Epoch:
    """Features of each type of node in, the loss of some rows of the authors out."""
    edge = tables["edge"]
    names = np.asarray(edge["rel"].to_pylist())
    starts = {kind: int(np.flatnonzero(kinds == kind)[0]) for kind in TYPES}
    given = {kind: x.to(device) for kind, x in given.items()}
    edges = {}
    for name, (a, b, _) in LINKS.items():
        ends = [edge[c].to_numpy()[names == name] - starts[k] for c, k in (("src", a), ("dst", b))]
        edges[a, name, b] = torch.from_numpy(np.stack(ends)).to(device)
    inputs = nn.ModuleDict({k: nn.Linear(x.shape[1], WIDTH) for k, x in given.items()}).to(device)
    metadata = (list(given), list(edges))
    layers = nn.ModuleList([HGTConv(WIDTH, WIDTH, metadata, 8) for _ in range(2)]).to(device)
    output = nn.Linear(WIDTH, CLASSES).to(device)

    def loss() -> Tensor:
        state = {kind: layer(given[kind]).relu() for kind, layer in inputs.items()}
        for layer in layers:
            state = layer(state, edges)
        return functional.cross_entropy(output(state["author"])[rows], labels)

    return _training([*inputs.parameters(), *layers.parameters(), *output.parameters()], loss)


def _matrix(table: pa.Table) -> Tensor:
    """The vectors `x` of a table."""
    flat = table["x"].combine_chunks().flatten().to_numpy()
    return torch.from_numpy(np.array(flat)).view(table.num_rows, -1)


def _numbers(column: object, device: torch.device) -> Tensor:
    return torch.tensor(np.asarray(column)).to(device)


def _training(parameters: Iterable[Tensor], loss: Callable[[], Tensor]) -> Epoch:
    optimizer = torch.optim.Adam(list(parameters), lr=0.01, fused=True)

    def epoch() -> float:
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        optimizer.step()
        return value.item()

    return epoch
