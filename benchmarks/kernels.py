"""How long each kernel takes beside what torch offers: `python -m benchmarks.kernels --help`.

Every repetition runs all candidates of a group one after the other, so that they share whatever
else the machine does; a figure is the median. "both" is forward and backward.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from relann.provenance.kernels.gathering import gather, gathered_dot
from relann.provenance.kernels.products import grouped_linear, linear, weighted_sum
from relann.provenance.kernels.reducing import (
    segment_cumsum,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sum,
)
from relann.provenance.kernels.structures import Incidence, Index

Timed = Callable[[], object]
Group = dict[str, Timed]


@dataclass(frozen=True)
class Sizes:
    """Edges from random nodes to random nodes, sorted by target as an engine hands them over."""

    edges: int
    nodes: int
    width: int
    heads: int
    sets: int
    seed: int


@dataclass(frozen=True)
class Figure:
    """One median, in milliseconds, with its fastest run."""

    group: str
    candidate: str
    median: float
    least: float


class Graph:
    """The random graph of some sizes, as every candidate wants it."""

    def __init__(self, sizes: Sizes) -> None:
        rng = np.random.default_rng(sizes.seed)
        self.sizes = sizes
        self.targets = np.sort(rng.integers(0, sizes.nodes, sizes.edges)).astype(np.int32)
        self.sources = rng.integers(0, sizes.nodes, sizes.edges).astype(np.int32)
        self.sets = rng.integers(0, sizes.sets, sizes.nodes).astype(np.int32)
        nodes = sizes.nodes
        self.incidence = Incidence.build(self.targets, self.sources, nodes, nodes)
        self.groups = Incidence.build(self.targets, None, nodes, sizes.edges)
        self.by_set = Incidence.build(self.sets, None, sizes.sets, nodes)
        self.left = Index.build(self.targets, nodes)
        self.right = Index.build(self.sources, nodes)
        self.long_targets = torch.from_numpy(self.targets).long()
        self.long_sources = torch.from_numpy(self.sources).long()
        torch.manual_seed(sizes.seed)
        self.x = torch.randn(nodes, sizes.width)
        self.weight = torch.rand(sizes.edges)
        self.grad = torch.randn(nodes, sizes.width)
        turned = self.incidence.transposed
        order = torch.from_numpy(turned.picks)
        self.bags = bag(self.incidence, self.weight), bag(turned, self.weight[order])


def bag(incidence: Incidence, weight: Tensor) -> Callable[[Tensor], Tensor]:
    """Gather-scale-sum by embedding_bag, weights in entry order."""
    ids, offsets = torch.from_numpy(incidence.sources), torch.from_numpy(incidence.offsets)

    def run(x: Tensor) -> Tensor:
        return functional.embedding_bag(
            ids, x, offsets, mode="sum", per_sample_weights=weight, include_last_offset=True
        )

    return run


def both(run: Callable[..., Tensor], grad: Tensor, *inputs: Tensor) -> Timed:
    """Forward and backward."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]

    def timed() -> object:
        return torch.autograd.grad(run(*leaves), leaves, grad)

    return timed


# -- groups of candidates --------------------------------------------------------------------------


def bandwidth(graph: Graph) -> Group:
    """Copy of 256 MB."""
    big = torch.randn(1 << 26)
    into = torch.empty_like(big)
    return {"copy of 256 MB": lambda: into.copy_(big)}


def _sums(graph: Graph) -> dict[str, Callable[[Tensor], Tensor]]:
    targets, sources, w = graph.long_targets, graph.long_sources, graph.weight
    offsets = torch.from_numpy(graph.incidence.offsets)
    ids = torch.from_numpy(graph.incidence.sources)
    shape = graph.sizes.nodes, graph.sizes.nodes
    matrix = torch.sparse_csr_tensor(offsets.long(), ids.long(), w, shape)
    column, index = w[:, None], targets[:, None].expand(-1, graph.sizes.width)
    long_offsets = offsets.long()

    def index_add(x: Tensor) -> Tensor:
        return torch.zeros_like(x).index_add(0, targets, x[sources] * column)

    def scatter_reduce(x: Tensor) -> Tensor:
        return torch.zeros_like(x).scatter_reduce(0, index, x[sources] * column, "sum")

    def segment_reduce(x: Tensor) -> Tensor:
        return torch.segment_reduce(x[sources] * column, "sum", offsets=long_offsets, initial=0)

    return {
        "index_add": index_add,
        "scatter_reduce": scatter_reduce,
        "segment_reduce": segment_reduce,
        "torch.sparse CSR": lambda x: matrix @ x,
        "embedding_bag": bag(graph.incidence, w),
        "embedding_bag, transposed backward": lambda x: _bag(graph, x),
        "relann": lambda x: weighted_sum(x, w, graph.incidence),
        "relann, no weight": lambda x: segment_sum(x, graph.incidence),
        "relann, mean": lambda x: segment_mean(x, graph.incidence),
    }


class _TransposedBag(torch.autograd.Function):
    """embedding_bag whose backward is another one, over the transpose with its own weights."""

    @staticmethod
    def forward(ctx, x, forward, backward):  # type: ignore[no-untyped-def]
        ctx.backward = backward
        return forward(x.detach())

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return ctx.backward(grad.contiguous()), None, None


def _bag(graph: Graph, x: Tensor) -> Tensor:
    made: Tensor = _TransposedBag.apply(x, *graph.bags)  # type: ignore[no-untyped-call]
    return made


def sum_forward(graph: Graph) -> Group:
    """Gather, scale, sum over targets."""
    return {name: partial(run, graph.x) for name, run in _sums(graph).items()}


def sum_both(graph: Graph) -> Group:
    """Gather, scale, sum over targets: value and gradient of the rows."""
    return {name: both(run, graph.grad, graph.x) for name, run in _sums(graph).items()}


def weights_both(graph: Graph) -> Group:
    """Gather, scale, sum: value and gradients of rows and weights; one weight, and one per head."""
    targets, sources, heads = graph.long_targets, graph.long_sources, graph.sizes.heads
    many = torch.rand(graph.sizes.edges, heads)

    def index_add(x: Tensor, w: Tensor) -> Tensor:
        rows = x[sources].view(len(w), w.shape[1], -1) * w[:, :, None]
        return torch.zeros_like(x).index_add(0, targets, rows.view(len(w), -1))

    def ours(x: Tensor, w: Tensor) -> Tensor:
        return weighted_sum(x, w, graph.incidence)

    one = graph.weight[:, None]
    return {
        "index_add": both(index_add, graph.grad, graph.x, one),
        "relann": both(ours, graph.grad, graph.x, one),
        f"index_add, {heads} heads": both(index_add, graph.grad, graph.x, many),
        f"relann, {heads} heads": both(ours, graph.grad, graph.x, many),
    }


def weight_gradient(graph: Graph) -> Group:
    """Sampled dense-dense product: the dot of two gathered rows for each edge."""
    x, y, left, right = graph.x, graph.grad, graph.left, graph.right
    return {
        "torch gather": lambda: (x[graph.long_targets] * y[graph.long_sources]).sum(1),
        "relann": lambda: gathered_dot(x, y, left, right),
    }


def dot_both(graph: Graph) -> Group:
    """Attention scores: the dot of two gathered rows for each edge and head."""
    left, right, heads = graph.left, graph.right, graph.sizes.heads
    grad = torch.randn(graph.sizes.edges, heads)

    def gathered(x: Tensor, y: Tensor) -> Tensor:
        product = x[graph.long_targets] * y[graph.long_sources]
        return product.view(len(product), heads, -1).sum(2)

    def ours(x: Tensor, y: Tensor) -> Tensor:
        return gathered_dot(x, y, left, right, heads)

    inputs = graph.x, graph.grad
    return {"torch gather": both(gathered, grad, *inputs), "relann": both(ours, grad, *inputs)}


def softmax_both(graph: Graph) -> Group:
    """Softmax over each target's edges."""
    nodes, groups = graph.sizes.nodes, graph.groups

    def plain(score: Tensor) -> Tensor:
        index = graph.long_targets[:, None].expand_as(score)
        best = score.detach().new_full((nodes, score.shape[1]), -torch.inf)
        best = best.scatter_reduce(0, index, score.detach(), "amax")
        raised = (score - best[graph.long_targets]).exp()
        total = torch.zeros_like(best).index_add(0, graph.long_targets, raised)
        return raised / total[graph.long_targets]

    candidates: Group = {}
    for heads in sorted({1, graph.sizes.heads}):
        score = torch.randn(graph.sizes.edges, heads)
        grad = torch.randn_like(score)
        candidates[f"torch, {heads} heads"] = both(plain, grad, score)
        candidates[f"relann, {heads} heads"] = both(
            lambda s: segment_softmax(s, groups), grad, score
        )
    return candidates


def max_both(graph: Graph) -> Group:
    """Greatest of each target's gathered rows."""
    sources = graph.long_sources
    index = graph.long_targets[:, None].expand(-1, graph.sizes.width)
    offsets = torch.from_numpy(graph.incidence.offsets).long()

    def scatter(x: Tensor) -> Tensor:
        return torch.zeros_like(x).scatter_reduce(0, index, x[sources], "amax", include_self=False)

    def segment(x: Tensor) -> Tensor:
        return torch.segment_reduce(x[sources], "max", offsets=offsets, initial=0)

    return {
        "scatter_reduce": both(scatter, graph.grad, graph.x),
        "segment_reduce": both(segment, graph.grad, graph.x),
        "relann": both(lambda x: segment_max(x, graph.incidence), graph.grad, graph.x),
    }


def gather_both(graph: Graph) -> Group:
    """Rows of nodes for edges."""
    grad = torch.randn(graph.sizes.edges, graph.sizes.width)
    right, sources = graph.right, graph.long_sources
    return {
        "index_select": both(lambda x: x.index_select(0, sources), grad, graph.x),
        "embedding": both(lambda x: functional.embedding(sources, x), grad, graph.x),
        "relann": both(lambda x: gather(x, right), grad, graph.x),
    }


def group_by_both(graph: Graph) -> Group:
    """Sum of rows that lie in groups already; and their running sum."""
    rows = torch.randn(graph.sizes.edges, graph.sizes.width)
    offsets = torch.from_numpy(graph.groups.offsets).long()
    targets, groups = graph.long_targets, graph.groups

    def index_add(x: Tensor) -> Tensor:
        return x.new_zeros(graph.grad.shape).index_add(0, targets, x)

    def segment(x: Tensor) -> Tensor:
        return torch.segment_reduce(x, "sum", offsets=offsets, initial=0)

    return {
        "index_add": both(index_add, graph.grad, rows),
        "segment_reduce": both(segment, graph.grad, rows),
        "relann": both(lambda x: segment_sum(x, groups), graph.grad, rows),
        "torch.cumsum, one group": both(lambda x: x.cumsum(0), rows, rows),
        "relann, running sum": both(lambda x: segment_cumsum(x, groups), rows, rows),
    }


def linear_both(graph: Graph) -> Group:
    """Each node times the matrix of its set; the sets come in no order."""
    sizes, by_set = graph.sizes, graph.by_set
    weight = torch.randn(sizes.sets, sizes.width, sizes.width)
    sets = torch.from_numpy(graph.sets)

    def masked(x: Tensor, w: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for s in range(sizes.sets):
            rows = sets == s
            out[rows] = x[rows] @ w[s]
        return out

    return {
        "torch, one set's rows after the other": both(masked, graph.grad, graph.x, weight),
        "relann": both(lambda x, w: grouped_linear(x, w, by_set), graph.grad, graph.x, weight),
    }


def narrow_both(graph: Graph) -> Group:
    """A row's vector times a weight of 7 outputs, the gradient of the weight by rows or columns."""
    weight, grad = torch.randn(graph.sizes.width, 7), torch.randn(graph.sizes.nodes, 7)
    return {
        "torch": both(torch.matmul, grad, graph.x, weight),
        "relann": both(linear, grad, graph.x, weight),
    }


def building(graph: Graph) -> Group:
    """The row maps: edges sorted by target, then grouped by source; and edges in no order."""
    targets, sources, nodes = graph.targets, graph.sources, graph.sizes.nodes
    shuffled = np.random.default_rng(0).permutation(targets)
    return {
        "torch.sort of the sources": lambda: graph.long_sources.sort(stable=True),
        "numpy argsort of the sources": lambda: np.argsort(sources, kind="stable"),
        "relann, sorted": lambda: Incidence.build(targets, sources, nodes, nodes),
        "relann, sorted, and its transpose": lambda: (
            Incidence.build(targets, sources, nodes, nodes).transposed
        ),
        "relann, unsorted": lambda: Incidence.build(shuffled, sources, nodes, nodes),
        "relann, index": lambda: Index.build(sources, nodes),
    }


def tiny(graph: Graph) -> Group:
    """One hundred calls on 100 rows of width 16, value and gradient: a median is 100 calls'."""
    small = Graph(Sizes(300, 100, 16, 4, 4, 0))
    weight = torch.randn(4, 16, 16)
    sets = torch.from_numpy(small.sets).long()
    score = torch.randn(300, 1)
    pairs: dict[str, tuple[Callable[..., Tensor], Tensor, tuple[Tensor, ...]]] = {
        f"sum, {name}": (run, small.grad, (small.x,))
        for name, run in _sums(small).items()
        if name in ("index_add", "torch.sparse CSR", "relann")
    }
    pairs |= {
        "gather, index_select": (
            lambda x: x.index_select(0, small.long_sources),
            small.x[small.long_sources],
            (small.x,),
        ),
        "gather, relann": (
            lambda x: gather(x, small.right),
            small.x[small.long_sources],
            (small.x,),
        ),
        "softmax, relann": (lambda s: segment_softmax(s, small.groups), score, (score,)),
        "max, relann": (lambda x: segment_max(x, small.incidence), small.grad, (small.x,)),
        "linear, bmm": (
            lambda x, w: torch.bmm(x[:, None], w[sets])[:, 0],
            small.grad,
            (small.x, weight),
        ),
        "linear, relann": (
            lambda x, w: grouped_linear(x, w, small.by_set),
            small.grad,
            (small.x, weight),
        ),
    }

    def hundred(once: Timed) -> Timed:
        def timed() -> object:
            for _ in range(100):
                once()
            return None

        return timed

    return {name: hundred(both(run, grad, *xs)) for name, (run, grad, xs) in pairs.items()}


GROUPS: dict[str, Callable[[Graph], Group]] = {
    "bandwidth": bandwidth,
    "sum-forward": sum_forward,
    "sum-both": sum_both,
    "weights-both": weights_both,
    "weight-gradient": weight_gradient,
    "dot-both": dot_both,
    "softmax-both": softmax_both,
    "max-both": max_both,
    "gather-both": gather_both,
    "group-by-both": group_by_both,
    "linear-both": linear_both,
    "narrow-both": narrow_both,
    "building": building,
    "tiny": tiny,
}


# -- running and reporting -------------------------------------------------------------------------


def measure(graph: Graph, names: list[str], repeats: int, most: float) -> Iterator[Figure]:
    """Medians group by group. What takes over `most` seconds runs only twice, once to warm up."""
    for group in names:
        runs: dict[str, list[float]] = {}
        candidates = GROUPS[group](graph)
        slow: dict[str, float] = {}
        for name, run in candidates.items():
            started = time.perf_counter()
            run()  # compiles, builds transposes
            slow[name] = time.perf_counter() - started
        for _ in range(repeats):
            for name, run in candidates.items():
                if slow[name] > most and name in runs:
                    continue
                gc.collect()
                started = time.perf_counter()
                run()
                runs.setdefault(name, []).append(time.perf_counter() - started)
        for name, seconds in runs.items():
            yield Figure(group, name, 1e3 * statistics.median(seconds), 1e3 * min(seconds))


def surroundings() -> dict[str, str]:
    """What a figure depends on besides the code."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "load before": ", ".join(f"{v:.1f}" for v in os.getloadavg()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numba": version("numba"),
        "numpy": np.__version__,
        "system": platform.platform(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    named = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): value.strip() for key, value in named.items()}
    return f"{named.get('model name', '?')}, model {named.get('model', '?')}"


def moved(sizes: Sizes) -> int:
    """Bytes a gather-scale-sum reads and writes: a row, its number and weight for each edge."""
    return sizes.edges * (4 * sizes.width + 8) + 4 * sizes.nodes * (sizes.width + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edges", type=int, default=5_000_000)
    parser.add_argument("--nodes", type=int, default=500_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--sets", type=int, default=90)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument(
        "--most", type=float, default=60, help="run what takes more seconds only once"
    )
    parser.add_argument("--json", type=Path, help="write the figures here too")
    given = parser.parse_args()
    sizes = Sizes(given.edges, given.nodes, given.width, given.heads, given.sets, given.seed)
    around = surroundings()
    print(", ".join(f"{key} {value}" for key, value in around.items()))
    print(", ".join(f"{key} {value}" for key, value in asdict(sizes).items()))
    print(f"medians of {given.repeats} interleaved runs, milliseconds, float32\n")
    figures = []
    group = ""
    for figure in measure(Graph(sizes), given.only, given.repeats, given.most):
        if figure.group != group:
            group = figure.group
            about = (GROUPS[group].__doc__ or "").splitlines()[0]
            print(f"\n{group}: {about}")
        print(f"  {figure.candidate:38s} {figure.median:10.2f}   least {figure.least:10.2f}")
        if group == "bandwidth":
            print(f"  {2 * (1 << 28) / figure.median / 1e6:38.1f} GB/s read and written")
        if group == "sum-forward":
            print(f"  {moved(sizes) / figure.median / 1e6:38.1f} GB/s")
        figures.append(figure)
    if given.json:
        report = {
            "surroundings": around,
            "sizes": asdict(sizes),
            "repeats": given.repeats,
            "figures": [asdict(f) for f in figures],
        }
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
