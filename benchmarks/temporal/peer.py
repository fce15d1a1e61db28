"""GraphSAGE over the tables of a database in PyTorch Geometric, as RelBench trains it.

Linear encoders of each table's rows, a relative time added to rows that have one, `HeteroConv` of
`SAGEConv`s, a normalisation and relu after each layer, one linear output of the seeds' nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch_geometric.nn import HeteroConv, LayerNorm, SAGEConv

from benchmarks.temporal.samples import Edge, Rows, Subgraph


class Encoder(nn.Module):
    """A table's rows as vectors: a product for numbers, an embedding for each category."""

    def __init__(self, rows: Rows, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(rows.vectors.shape[1], width) if rows.vectors.shape[1] else None
        self.tables = nn.ModuleList(nn.Embedding(size, width) for size in rows.sizes)
        self.constant = nn.Parameter(torch.zeros(width))

    def forward(self, vectors: Tensor, codes: Tensor) -> Tensor:
        """Shape (rows, width)."""
        if self.linear is None and not self.tables:
            return self.constant.expand(len(vectors), -1)
        parts = [] if self.linear is None else [self.linear(vectors)]
        parts += [table(codes[:, place]) for place, table in enumerate(self.tables)]
        return torch.stack(parts).sum(0) if len(parts) > 2 else sum(parts[1:], parts[0])


class Network(nn.Module):
    """The logit of each seed.

    `trimmed` computes in each layer only the nodes and edges that the seeds still need, which
    RelBench's own model does not.
    """

    def __init__(
        self,
        rows: Mapping[str, Rows],
        edges: Sequence[Edge],
        layers: int,
        width: int,
        trimmed: bool,
    ) -> None:
        super().__init__()
        self.trimmed = trimmed
        self.encoders = nn.ModuleDict({n: Encoder(r, width) for n, r in rows.items()})
        timed = [n for n, r in rows.items() if r.times is not None]
        self.since = nn.ModuleDict({n: nn.Linear(8, width) for n in timed})
        self.layers = nn.ModuleList(
            HeteroConv({e: SAGEConv((width, width), width, aggr="mean") for e in edges}, aggr="sum")
            for _ in range(layers)
        )
        self.norms = nn.ModuleList(
            nn.ModuleDict({n: LayerNorm(width, mode="node") for n in rows}) for _ in range(layers)
        )
        self.head = nn.Linear(width, 1)

    def forward(self, graph: Subgraph) -> Tensor:
        """Shape (seeds,)."""
        x = {name: self.encoders[name](*columns) for name, columns in graph.x.items()}
        for name, age in graph.ages.items():
            x[name] = x[name] + self.since[name](age)
        for number, (layer, norms) in enumerate(zip(self.layers, self.norms, strict=True)):
            left = len(self.layers) - number
            out = self._trimmed(layer, x, graph, left) if self.trimmed else layer(x, graph.edges)
            x = {name: norms[name](value).relu() for name, value in out.items()}
        return self.head(x[graph.entity][: len(graph.labels)]).squeeze(-1)

    def _trimmed(
        self, layer: HeteroConv, x: dict[str, Tensor], graph: Subgraph, left: int
    ) -> dict[str, Tensor]:
        """What HeteroConv gives of the nodes that `left` − 1 further layers read."""
        out: dict[str, Tensor] = {}
        for edge, ends in graph.edges.items():
            count = graph.upto[edge][left - 1]
            rows = graph.nodes[edge[2]][left - 1]
            if not rows:
                continue
            receivers = x[edge[2]][:rows]
            made = layer.convs[edge]((x[edge[0]], receivers), ends[:, :count])
            out[edge[2]] = out[edge[2]] + made if edge[2] in out else made
        return out
