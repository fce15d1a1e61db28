"""The same models by PyTorch Geometric, on any device."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
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


def _plain(name: str, tables: Tables, device: torch.device) -> Epoch:
    node, edge = tables["node"], tables["edge"]
    width = node.schema.field("x").type.list_size
    flat = node["x"].combine_chunks().flatten().to_numpy()
    x = torch.from_numpy(np.array(flat).reshape(-1, width)).to(device)
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
    node, edge = tables["node"], tables["edge"]
    kinds, names = np.asarray(node["type"].to_pylist()), np.asarray(edge["rel"].to_pylist())
    width = node.schema.field("x").type.list_size
    x = np.array(node["x"].combine_chunks().flatten().to_numpy()).reshape(-1, width)
    starts = {kind: int(np.flatnonzero(kinds == kind)[0]) for kind in TYPES}
    given = {kind: torch.from_numpy(x[kinds == kind]).to(device) for kind in TYPES}
    edges = {}
    for name, (a, b, _) in LINKS.items():
        ends = [edge[c].to_numpy()[names == name] - starts[k] for c, k in (("src", a), ("dst", b))]
        edges[a, name, b] = torch.from_numpy(np.stack(ends)).to(device)
    inputs = nn.ModuleDict({kind: nn.Linear(width, WIDTH) for kind in TYPES}).to(device)
    metadata = (list(TYPES), list(edges))
    layers = nn.ModuleList([HGTConv(WIDTH, WIDTH, metadata, 8) for _ in range(2)]).to(device)
    output = nn.Linear(WIDTH, CLASSES).to(device)
    labels = _numbers(node["label"], device)[torch.from_numpy(kinds == "author").to(device)]

    def loss() -> Tensor:
        state = {kind: layer(given[kind]).relu() for kind, layer in inputs.items()}
        for layer in layers:
            state = layer(state, edges)
        return functional.cross_entropy(output(state["author"]), labels)

    return _training([*inputs.parameters(), *layers.parameters(), *output.parameters()], loss)


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
