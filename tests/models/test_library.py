"""Layers of the library against PyTorch Geometric, and against formulas where it has none.

Values and the gradients of every weight, in float64. The input's gradient is that of a `linear` or
an `embedding` that makes x. Where the two differ on purpose, the reference's docstring says how.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

import relann
from relann import QueryError
from relann.errors import SchemaError
from relann.models import library
from relann.models.library import patterns
from tests.models.parity import (
    RELATIONS,
    TYPES,
    Answer,
    Data,
    Graph,
    Id,
    Row,
    Weights,
    bare,
    drawn,
    expected,
    network,
    relation,
)

with warnings.catch_warnings():  # torch_geometric 2.8.1 compiles two classes when imported
    warnings.filterwarnings("ignore", "`torch.jit.script` is", DeprecationWarning)
    import torch_geometric.nn as pyg


def run(conv: nn.Module, weights: dict[str, Tensor], *inputs: object) -> Tensor:
    """A module's output with other weights, all of them."""
    whole = {**dict(conv.double().named_buffers()), **weights}
    found: Tensor = functional_call(conv, whole, inputs, strict=True)
    return found


def dense(w: Weights, name: str, x: Tensor) -> Tensor:
    """x·W + b."""
    return x @ w[f"{name}.weight"] + w[f"{name}.bias"]


def mlp(w: Weights, name: str, x: Tensor) -> Tensor:
    """Two linear layers with relu between them."""
    hidden = torch.relu(x @ w[f"{name}.0.weight"] + w[f"{name}.0.bias"])
    return hidden @ w[f"{name}.1.weight"] + w[f"{name}.1.bias"]


def linear(prefix: str, weight: Tensor, bias: Tensor | None = None) -> dict[str, Tensor]:
    """Weights of a torch `Linear`."""
    found = {f"{prefix}.weight": weight.T}
    return found if bias is None else {**found, f"{prefix}.bias": bias}


def softmax_within(scores: Tensor, groups: Sequence[int]) -> Tensor:
    """Softmax of each column over the rows of one group."""
    same = torch.tensor([[a == b for b in groups] for a in groups])
    if not len(groups):
        return scores
    every = scores.unsqueeze(0).expand(len(groups), *scores.shape)
    return scores.exp() / torch.where(same.unsqueeze(-1), every, -math.inf).exp().sum(1)


def summed(rows: Tensor, groups: Sequence[int], count: int) -> Tensor:
    """The rows of each group added up."""
    index = torch.tensor(groups, dtype=torch.int64)
    return rows.new_zeros(count, rows.shape[1]).index_add(0, index, rows)


# -- graphs ----------------------------------------------------------------------------------------


def gcn(w: Weights, g: Graph) -> Tensor:
    conv = pyg.GCNConv(w.x().shape[1], 8)
    weights = {**linear("lin", w["linear_0.weight"]), "bias": w["param_0.value"]}
    return run(conv, weights, w.x(), g.edge_index)


def gat(w: Weights, g: Graph, heads: int) -> Tensor:
    conv = pyg.GATConv(w.x().shape[1], 8 // heads, heads)
    weights = {
        **linear("lin", w["lin.linear_0.weight"]),
        "att_src": w["h.param_0.value"].view(1, heads, -1),
        "att_dst": w["h.param_1.value"].view(1, heads, -1),
        "bias": w["param_0.value"],
    }
    return run(conv, weights, w.x(), g.edge_index)


def gatv2(w: Weights, g: Graph, heads: int) -> Tensor:
    conv = pyg.GATv2Conv(w.x().shape[1], 8 // heads, heads)
    weights = {
        **linear("lin_l", w["h.linear_0.weight"], w["h.linear_0.bias"]),
        **linear("lin_r", w["h.linear_1.weight"], w["h.linear_1.bias"]),
        "att": w["e.param_0.value"].view(1, heads, -1),
        "bias": w["param_0.value"],
    }
    return run(conv, weights, w.x(), g.edge_index)


def sage(w: Weights, g: Graph, aggregate: str) -> Tensor:
    """PyTorch Geometric has the one bias beside the neighbours' weight."""
    conv = pyg.SAGEConv(w.x().shape[1], 8, aggr=aggregate)
    neighbours = "linear_1.weight" if aggregate == "max" else "near.linear_0.weight"
    weights = {
        **linear("lin_l", w[neighbours], w["linear_0.bias"]),
        **linear("lin_r", w["linear_0.weight"]),
    }
    return run(conv, weights, w.x(), g.edge_index)


def gin(w: Weights, g: Graph) -> Tensor:
    inner = nn.Sequential(nn.Linear(w.x().shape[1], 8), nn.ReLU(), nn.Linear(8, 8))
    weights = {
        "eps": w["param_0.value"],
        **linear("nn.0", w["mlp_0.0.weight"], w["mlp_0.0.bias"]),
        **linear("nn.2", w["mlp_0.1.weight"], w["mlp_0.1.bias"]),
    }
    return run(pyg.GINConv(inner, train_eps=True), weights, w.x(), g.edge_index)


def pna(w: Weights, g: Graph) -> Tensor:
    """PyTorch Geometric keeps δ in 32 bits, so it is put in; without any edge it has 0 / 0.

    It takes variances up to 1e-5 for 0, where the paper adds a small ε. So messages go in 1000
    times as large and what reads the aggregates divides by that: only equal messages deviate by 0.
    """
    x, width, large = w.x(), w.x().shape[1], 1000.0
    if not g.edges:  # every node aggregates 0
        empty = x.new_zeros(len(x), 12 * width)
        return dense(w, "linear_1", dense(w, "linear_0", torch.cat([x, empty], 1)))
    degree = torch.bincount(g.edge_index[1], minlength=g.size)
    conv = pyg.PNAConv(
        width,
        width,
        ["mean", "min", "max", "std"],
        ["identity", "amplification", "attenuation"],
        torch.bincount(degree),
    )
    mean = torch.log(degree.double() + 1).mean().reshape(1)
    torch.testing.assert_close(conv.aggr_module.avg_deg_log, mean.float())
    own, aggregated = w["linear_0.weight"].split([width, 12 * width])
    weights = {
        "aggr_module.avg_deg_log": mean,
        **linear("pre_nns.0.0", large * w["h.linear_0.weight"], large * w["h.linear_0.bias"]),
        **linear("post_nns.0.0", torch.cat([own, aggregated / large]), w["linear_0.bias"]),
        **linear("lin", w["linear_1.weight"], w["linear_1.bias"]),
    }
    return run(conv, weights, x, g.edge_index)


# -- relations and types ---------------------------------------------------------------------------

NAMED = (*RELATIONS, "never")


def relations(g: Graph) -> Tensor:
    """The number of each edge's relation."""
    return torch.tensor([NAMED.index(e[2]) for e in g.edges], dtype=torch.int64)


def rgcn(w: Weights, g: Graph, conv: Callable[..., nn.Module]) -> Tensor:
    x = w.x()
    shape = (x.shape[1], 8)
    weights = {
        "weight": w.stacked("near.linear_0.weight", [(r,) for r in NAMED], shape),
        "root": w["linear_0.weight"],
        "bias": w["linear_0.bias"],
    }
    return run(conv(*shape, len(NAMED)), weights, x, g.edge_index, relations(g))


def rgcn_basis(w: Weights, g: Graph, bases: int) -> Tensor:
    x = w.x()
    shape = (x.shape[1], 8)
    pairs = [(r, b) for r in NAMED for b in range(bases)]
    weights = {
        "weight": w.stacked("near.linear_0.weight", [(b,) for b in range(bases)], shape),
        "comp": w.stacked("near.param_0.value", pairs, (1,)).view(len(NAMED), bases),
        "root": w["linear_0.weight"],
        "bias": w["linear_0.bias"],
    }
    conv = pyg.RGCNConv(*shape, len(NAMED), num_bases=bases)
    return run(conv, weights, x, g.edge_index, relations(g))


def rgcn_featureless(w: Weights, g: Graph) -> Tensor:
    keys = [(r, i) for r in NAMED for i in g.ids]
    weights = {
        "weight": w.stacked("near.embedding_0.weight", keys, (8,)).view(len(NAMED), g.size, 8),
        "root": w.stacked("embedding_0.weight", [(i,) for i in g.ids], (8,)),
        "bias": w["param_0.value"],
    }
    conv = pyg.RGCNConv(g.size, 8, len(NAMED))
    return run(conv, weights, None, g.edge_index, relations(g))


def hgt(w: Weights, g: Graph, heads: int) -> Tensor:
    """PyTorch Geometric's edge types are whole (source, relation, target); relations share here.

    Its metadata has two things the data has not: a type of node without nodes and types of edges
    without edges, among them those into the types that no edge leads to, for which it gives nothing
    otherwise.
    """
    x, types = w.x(), (*TYPES, "empty")
    width = x.shape[1]
    inner = width // heads
    rows = {t: [i for i, own in enumerate(g.types) if own == t] for t in types}
    place = {i: k for members in rows.values() for k, i in enumerate(members)}
    met = {(g.types[s], r, g.types[t]): [] for s, t, r in g.edges}
    for s, t, r in g.edges:
        met[g.types[s], r, g.types[t]].append((place[s], place[t]))
    for t in types:
        met.setdefault(("a", "never", t), [])
    edges = {k: torch.tensor(v, dtype=torch.int64).reshape(-1, 2).T for k, v in met.items()}

    def typed(name: str, *shape: int) -> dict[str, Tensor]:
        found = w.stacked(name, [(t,) for t in types], shape)
        return dict(zip(types, found, strict=True))

    def related(name: str) -> Tensor:
        found = w.stacked(name, [(r,) for _, r, _ in met], (heads, inner, inner))
        return found.transpose(0, 1).reshape(-1, inner, inner)  # by head, then by type of edge

    def joint(suffix: str, *shape: int) -> dict[str, Tensor]:
        parts = [typed(f"kqv.linear_{k}.{suffix}", *shape) for k in range(3)]
        return {t: torch.cat([p[t] for p in parts], -1) for t in types}

    weight, bias = joint("weight", width, width), joint("bias", width)
    out, out_bias = typed("o.linear_0.weight", width, width), typed("o.linear_0.bias", width)
    priors = w.stacked("e.param_0.value", list(met), (heads,))
    weights = {"k_rel.weight": related("e.linear_1.weight")}
    weights["v_rel.weight"] = related("e.linear_0.weight")
    for t, skip in typed("o.param_0.value", 1).items():
        weights[f"skip.{t}"] = skip
        weights |= linear(f"kqv_lin.lins.{t}", weight[t], bias[t])
        weights |= linear(f"out_lin.lins.{t}", out[t], out_bias[t])
    for edge, prior in zip(met, priors, strict=True):
        weights["p_rel." + "__".join(edge)] = prior.view(1, heads)
    conv = pyg.HGTConv(width, width, (list(types), list(met)), heads)
    found = run(conv, weights, {t: x[rows[t]] for t in types}, edges)
    assert set(found) == set(types)
    return torch.stack([found[t][place[i]] for i, t in enumerate(g.types)])


# -- hypergraphs, pairs, marks, bridges ------------------------------------------------------------


def hgnn(w: Weights, g: Graph) -> Tensor:
    conv = pyg.HypergraphConv(w.x().shape[1], 8, use_attention=False)
    weights = {**linear("lin", w["e.linear_0.weight"]), "bias": w["param_0.value"]}
    return run(conv, weights, w.x(), g.member_index, None, None, g.hyperedges)


def hygnn(w: Weights, g: Graph) -> Tensor:
    """p' = relu(Y W₂ q), q' = relu(Z W₄ p'), the scores' vector in two halves."""
    nodes, hyperedges = g.member_index

    def attended(part: str, to: Tensor, start: str, values: Tensor) -> Tensor:
        """A hidden vector for each target: `values` weighed by softmax over its members."""
        (target, source), size = (
            ((nodes, hyperedges), g.size) if part == "p" else ((hyperedges, nodes), g.hyperedges)
        )
        query = to @ w[f"{part if part == 'p' else 'qw'}.subquery_0.linear_0.weight"]
        key = values @ w[f"{start}.subquery_0.linear_0.weight"]
        halves = ("p", "q") if part == "p" else ("qw", "pw")
        score = (query @ w[f"{halves[0]}.param_0.value"])[target]
        score = score + (key @ w[f"{halves[1]}.param_0.value"])[source]
        share = softmax_within(functional.leaky_relu(score)[:, None], target.tolist())
        return torch.relu(summed(share * key[source], target.tolist(), size))

    p = attended("p", w.x("node"), "q", w.x("hyperedge"))
    return attended("q", w.x("hyperedge"), "pw", p)


def decode_mlp(w: Weights, g: Graph) -> Tensor:
    a, b = torch.tensor(g.pairs, dtype=torch.int64).reshape(-1, 2).T
    return mlp(w, "mlp_0", torch.cat([w.x()[a], w.x()[b]], 1))


def decode_dot(w: Weights, g: Graph) -> Tensor:
    a, b = torch.tensor(g.pairs, dtype=torch.int64).reshape(-1, 2).T
    return (w.x()[a] * w.x()[b]).sum(1, keepdim=True)


def label_trick(w: Weights, g: Graph) -> Tensor:
    """x_i + the mean over edges j → i from another node of the vector of j's known label."""
    x, known, vectors = w.x(), dict(g.known), w.sets("near.embedding_0.weight")
    rows = []
    for i in range(g.size):
        near = [vectors[(known[s],)] for s, t, _ in g.edges if t == i and s != i and s in known]
        rows.append(x[i] + torch.stack(near).mean(0) if near else x[i])
    return torch.stack(rows)


def mark(w: Weights, g: Graph) -> Tensor:
    marked = torch.tensor([[i in g.seeds] for i in range(g.size)])
    return w.x() + marked * w["m.param_0.value"]


def plain_mlp(w: Weights, g: Graph, hidden: int) -> Tensor:
    assert w["mlp_0.0.weight"].shape[1] == hidden
    return mlp(w, "mlp_0", w.x())


def relgnn(w: Weights, g: Graph, heads: int) -> Tensor:
    """Each target attends to its bridge rows, each fused with the source row it names, if any."""
    target = w.x("node", "target")
    source = w.x("hyperedge", "source") @ w["f.linear_1.weight"]
    bridge = dense(w, "f.linear_0", w.x("bridge"))
    rows = [k for k, (_, t) in enumerate(g.bridge) if t is not None]
    to = [t for _, t in g.bridge if t is not None]
    fused = torch.stack(
        [bridge[k] if (s := g.bridge[k][0]) is None else bridge[k] + source[s] for k in rows]
        or [target.new_zeros(8)]
    )[: len(rows)]
    query = dense(w, "e.linear_1", target)[to].view(-1, heads, 8 // heads)
    key = dense(w, "e.linear_2", fused).view(-1, heads, 8 // heads)
    value = dense(w, "e.linear_0", fused).view(-1, heads, 8 // heads)
    share = softmax_within((query * key).sum(-1) / math.sqrt(8 / heads), to)
    attended = summed((share[..., None] * value).reshape(-1, 8), to, g.size)
    return dense(w, "linear_0", target) + attended @ w["linear_1.weight"]


# -- patterns --------------------------------------------------------------------------------------


def homomorphisms(shape: str, size: int, g: Graph, distinct: bool) -> Iterator[tuple[int, ...]]:
    """All images of a pattern's positions, once for each choice of parallel edges."""
    match shape:
        case "cycle":
            pattern = [(i, (i + 1) % size) for i in range(size)]
        case "path":
            pattern = [(i, i + 1) for i in range(size)]
        case _:
            pattern = [(0, i) for i in range(1, size + 1)]
    positions = 1 + max(max(e) for e in pattern)
    parallel = torch.zeros(g.size, g.size, dtype=torch.int64)
    for s, t, _ in g.edges:
        parallel[s, t] += 1
    count = parallel.tolist()

    def extended(images: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(images) == positions:
            if not distinct or all(a != b for a, b in combinations(images, 2)):
                choices = math.prod(count[images[a]][images[b]] for a, b in pattern)
                yield from [images] * choices
            return
        p = len(images)
        for node in range(g.size):
            longer = (*images, node)
            ready = [(a, b) for a, b in pattern if max(a, b) == p]
            if all(count[longer[a]][longer[b]] for a, b in ready):
                yield from extended(longer)

    return extended(())


def pattern(w: Weights, g: Graph, name: str) -> Tensor:
    """x'_v = Σ_π Π_p MLP_p(x_π(p)) over homomorphisms π that take position 0 to v.

    In a graph with parallel edges a homomorphism says where edges go, too.
    """
    shape, size, *distinct = name.split("_")
    found = list(homomorphisms(shape, int(size), g, bool(distinct)))
    if not found:
        return w.x().new_zeros(g.size, 4)
    images = torch.tensor(found)
    product = torch.ones(len(images), 4, dtype=torch.float64)
    for p in range(images.shape[1]):
        product = product * mlp(w, f"found.mlp_{p}", w.x())[images[:, p]]
    return summed(product, images[:, 0].tolist(), g.size)


# -- every layer -----------------------------------------------------------------------------------


def nodes(g: Graph) -> list[Row]:
    return [(i,) for i in g.ids]


def hyperedges(g: Graph) -> list[Row]:
    return [(h,) for h in range(g.hyperedges)]


def pairs(g: Graph) -> list[Row]:
    return [(g.ids[a], g.ids[b]) for a, b in g.pairs]


@dataclass(frozen=True)
class Case:
    """A call of a layer and what it should give: a row for each of `keys`, in their order.

    In `arguments`, relations in braces stand for some x of the given width.
    """

    layer: str
    arguments: str
    reference: Callable[[Weights, Graph], Tensor]
    width: int = 5
    keys: Callable[[Graph], list[Row]] = nodes
    columns: str = "id, x"
    note: str = ""

    def query(self, given: str) -> str:
        """The call as a whole query."""
        names = ("node", "hyperedge", "bridge")
        relations = {n: relation(n, given, self.width) for n in names}
        call = f"relann.{self.layer}({self.arguments.format(**relations)})"
        return f"SELECT {self.columns} FROM {call} AS o"

    def __str__(self) -> str:
        return f"{self.layer} {self.note}".strip().replace(" ", "-")


PATTERNS = [
    *(f"cycle_{k}{suffix}" for k in (2, 3, 4, 5) for suffix in ("", "_distinct")),
    *("path_1", "path_2", "path_2_distinct", "path_3", "path_3_distinct"),
    *("star_1", "star_3", "star_3_distinct"),
]

EDGE = "{node}, edge, 8"
SCORE = {"keys": pairs, "columns": "a, b, score"}
RELGNN = "target => {node}, bridge => {bridge}, source => {hyperedge}, n => 8"

CASES = [
    Case("gcn", EDGE, gcn),
    Case("gat", EDGE, partial(gat, heads=1)),
    Case("gat", EDGE + ", heads => 4", partial(gat, heads=4), note="4 heads"),
    Case("gatv2", EDGE, partial(gatv2, heads=1)),
    Case("gatv2", EDGE + ", heads => 4", partial(gatv2, heads=4), note="4 heads"),
    Case("sage", EDGE, partial(sage, aggregate="mean")),
    Case("sage_max", EDGE, partial(sage, aggregate="max")),
    Case("sage_sum", EDGE, partial(sage, aggregate="sum")),
    Case("gin", EDGE, gin),
    Case("pna", EDGE, pna, width=8),
    Case("rgcn", EDGE, partial(rgcn, conv=pyg.RGCNConv)),
    Case("rgcn", EDGE, partial(rgcn, conv=pyg.FastRGCNConv), note="fast"),
    Case("rgcn_basis", EDGE + ", bases => 2", partial(rgcn_basis, bases=2), note="2 bases"),
    Case("rgcn_basis", EDGE, partial(rgcn_basis, bases=30)),
    Case("rgcn_featureless", "node, edge, 8", rgcn_featureless),
    Case("hgt", EDGE + ", heads => 1", partial(hgt, heads=1), width=8, note="1 head"),
    Case("hgt", EDGE + ", heads => 4", partial(hgt, heads=4), width=8, note="4 heads"),
    Case("hgt", EDGE, partial(hgt, heads=8), width=8),
    Case("hgnn", "{node}, member, 8", hgnn),
    Case("hygnn", "{hyperedge}, {node}, member, 8", hygnn, keys=hyperedges),
    Case("decode_mlp", "{node}, pair, 8", decode_mlp, **SCORE),
    Case("decode_dot", "{node}, pair", decode_dot, **SCORE),
    Case("label_trick", "{node}, edge, known, 8", label_trick, width=8),
    Case("mark", "{node}, seed, 8", mark, width=8),
    Case("mlp", "{node}, 8", partial(plain_mlp, hidden=64)),
    Case("mlp", "{node}, 8, hidden => 6", partial(plain_mlp, hidden=6), note="6 hidden"),
    Case("relgnn", RELGNN, partial(relgnn, heads=1)),
    Case("relgnn", RELGNN + ", heads => 4", partial(relgnn, heads=4), note="4 heads"),
    *(Case(name, "{node}, edge, 4", partial(pattern, name=name)) for name in PATTERNS),
]

ELSEWHERE = {"negative_pairs"}
"""Layers that learn nothing and have a test of their own."""

every_case = pytest.mark.parametrize("case", CASES, ids=str)


def test_every_layer_is_tested() -> None:
    """A new layer needs a case above."""
    tested = {c.layer for c in CASES} | ELSEWHERE
    assert {*library.definitions(), *patterns.EXAMPLES} <= tested
    assert tested <= {*library.definitions(), *PATTERNS}


def close(mine: Tensor, wanted: Tensor, what: str) -> None:
    """Equal up to rounding in float64."""
    assert mine.shape == wanted.shape, f"{what}: {tuple(mine.shape)}, not {tuple(wanted.shape)}"
    size = max(1.0, float(wanted.abs().max())) if wanted.numel() else 1.0
    torch.testing.assert_close(
        mine, wanted, rtol=1e-8, atol=1e-9 * size, msg=lambda told: f"{what}: {told}"
    )


@cache
def data(number: int | None, width: int) -> Data:
    """One database for all layers, without edges where there is no number."""
    return Data(bare(width) if number is None else drawn(number, width))


@every_case
@pytest.mark.parametrize(
    ("number", "given", "rewritten"),
    [
        pytest.param(0, "column", True, id="column"),
        pytest.param(1, "linear", True, id="linear"),
        pytest.param(1, "linear", False, id="linear as written"),
        pytest.param(2, "embedding", True, id="embedding"),
        pytest.param(None, "linear", True, id="no edges"),
    ],
)
def test_values_and_gradients(case: Case, number: int | None, given: str, rewritten: bool) -> None:
    """Of all rows that come out and all weights; rows that do not come out would be 0."""
    source = data(number, case.width)
    g, net = source.graph, network(source, case.query(given), rewritten)
    mine = net.answer()
    weights = net.weights(case.layer, given)
    values, keys = case.reference(weights, g), case.keys(g)
    assert len(values) == len(keys)
    out = [i for i, key in enumerate(keys) if key in set(mine.keys)]
    left_out = [i for i in range(len(keys)) if i not in set(out)]
    assert not values[left_out].any()
    assert values.any() or not g.edges, "the graph has what the layer looks for"
    wanted = expected([keys[i] for i in out], values[out], weights)
    assert mine.keys == wanted.keys
    close(mine.values, wanted.values, "values")
    assert mine.gradients.keys() == wanted.gradients.keys()
    for name, gradient in wanted.gradients.items():
        close(mine.gradients[name], gradient, f"gradient of {name}")


@every_case
def test_every_row_comes_out(case: Case) -> None:
    """A sum over no neighbours, members or homomorphisms is 0, not a row less."""
    source = data(0, case.width)
    mine = network(source, case.query("linear")).answer()
    assert mine.keys == sorted(case.keys(source.graph))


@every_case
def test_rows_that_meet_nothing_do_not_count(case: Case) -> None:
    """Edges, members and marks of nodes that are not there, of NULL too, change nothing."""
    source = Data(drawn(3, case.width))
    source.connection.execute(
        "INSERT INTO edge SELECT src, 999, rel FROM edge; INSERT INTO edge SELECT 999, dst, rel "
        "FROM edge; INSERT INTO edge SELECT NULL, dst, rel FROM edge; INSERT INTO member VALUES "
        "(999, 0), (NULL, 1), (0, 999), (0, NULL); INSERT INTO seed SELECT * FROM seed; "
        "INSERT INTO known SELECT 999, label FROM known; INSERT INTO seed VALUES (999), (NULL)"
    )
    mine = network(source, case.query("embedding")).answer()
    wanted = unchanged(case)
    assert mine.keys == wanted.keys
    close(mine.values, wanted.values, "the values")


@cache
def unchanged(case: Case) -> Answer:
    return network(data(3, case.width), case.query("embedding")).answer()


@cache
def renamed(kind: Callable[[int], Id], width: int) -> Data:
    g = drawn(3, width)
    fresh = 1000 + np.random.default_rng(5).permutation(g.size)
    return Data(g, dict(zip(g.ids, (kind(int(k)) for k in fresh), strict=True)), shuffle=6)


@every_case
@pytest.mark.parametrize("kind", [int, str])
def test_order_and_names_of_rows_do_not_matter(case: Case, kind: Callable[[int], Id]) -> None:
    """Rows shuffled and nodes renamed, to other numbers and to text: the same for each node."""
    mine = network(renamed(kind, case.width), case.query("embedding")).answer()
    wanted = unchanged(case)
    assert mine.keys == wanted.keys
    torch.testing.assert_close(mine.values, wanted.values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["gcn", "sage"])
def test_layers_of_layers(name: str) -> None:
    """Two calls have weights of their own."""
    g = data(0, 5).graph
    inner = f"(SELECT id, relu(x) AS x FROM relann.{name}(node, edge, 8))"
    net = network(data(0, 5), f"SELECT id, x FROM relann.{name}({inner}, edge, 8) AS o")
    mine, state = net.answer(), net.module.state()
    x = g.x["node"]
    paths = sorted({n.split(f"{name}_0.")[0] for n in state}, key=len, reverse=True)
    assert len(paths) == 2
    for number, path in enumerate(paths):
        leaves = {n.replace(path, "m.o."): t for n, t in state.items() if f"{path}{name}_0" in n}
        layer_graph = Graph(**{**vars(g), "x": {**g.x, "node": x}})
        weights = Weights(layer_graph, name, "column", leaves, {})
        x = gcn(weights, g) if name == "gcn" else sage(weights, g, "mean")
        x = torch.relu(x) if number == 0 else x
    assert mine.keys == sorted(nodes(g))
    order = sorted(range(g.size), key=lambda i: g.ids[i])
    close(mine.values, x[order], "values")


# -- negative pairs --------------------------------------------------------------------------------


def drawn_pairs(source: Data, arguments: str) -> list[tuple[int, int]]:
    net = network(source, f"SELECT a, b FROM relann.negative_pairs({arguments})")
    plan = net.module.plan
    columns = [net.maps.columns[plan.output, c].to_pylist() for _, c in plan.contents]
    return sorted(zip(*columns, strict=True))


def test_negative_pairs_are_as_many_and_new() -> None:
    """Of two nodes, in neither order a pair, each once; the same whatever the order of rows."""
    g = data(0, 5).graph
    found = drawn_pairs(data(0, 5), "node, pair")
    assert len(found) == len(set(found)) == len(g.pairs)
    given = {frozenset(p) for p in pairs(g)}
    for a, b in found:
        assert a != b
        assert {a, b} <= set(g.ids)
        assert frozenset((a, b)) not in given
    assert drawn_pairs(Data(g, shuffle=1), "node, pair") == found
    assert drawn_pairs(data(0, 5), "node, pair, seed => 0") == found
    assert drawn_pairs(data(0, 5), "node, pair, seed => 1") != found
    assert drawn_pairs(data(None, 5), "node, pair") == []


# -- mistakes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "missing"),
    [
        ("gcn(node, (SELECT src FROM edge), 8)", "`edge` with columns src, dst.* has no dst"),
        ("gat(node, (SELECT rel FROM edge), 8)", "`edge` with columns src, dst.* no src, dst"),
        ("sage((SELECT id FROM node), edge, 8)", "`node` with columns id, x.* has no x"),
        ("hgt((SELECT id, x FROM node), edge, 8)", "`node` with columns id, type, x.* has no type"),
        ("rgcn(node, (SELECT src, dst FROM edge), 8)", "`edge` with .*src, rel, dst.* has no rel"),
        ("hgnn(node, (SELECT node FROM member), 8)", "`member` with .* has no hyperedge"),
        ("hygnn((SELECT x FROM hyperedge), node, member, 8)", "`hyperedge` with .* has no id"),
        ("decode_dot(node, (SELECT a AS c, b FROM pair))", "`pair` with columns a, b.* has no a"),
        ("cycle_3(node, (SELECT dst FROM edge), 4)", "`edge` with columns src, dst.* has no src"),
        ("mlp((SELECT id, linear(raw, 4) AS z FROM node), 8)", "`node` .* has no x, it has id, z"),
    ],
)
def test_missing_columns_are_named(call: str, missing: str) -> None:
    """What the layer wants of the relation, and what it lacks."""
    layer = call.partition("(")[0]
    session = relann.connect(data(0, 8).connection)
    with pytest.raises(QueryError, match=f"layer `{layer}` takes {missing}"):
        session.sql(f"EXPLAIN MODEL AS SELECT * FROM relann.{call}")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("gcnn", "relann.gcn"),
        ("sage_mean", "relann.sage_max"),
        ("rgcn_bases", "relann.rgcn_basis"),
        ("cycel_3", "relann.cycle_3"),
        ("cycle_1", "relann.cycle_3"),
        ("zzzzzz", "There are .*relann.gat, .*relann.star_3"),
    ],
)
def test_unknown_layers_suggest_the_nearest(name: str, nearest: str) -> None:
    session = relann.connect(data(0, 8).connection)
    message = f"no layer `relann.{name}`.*{nearest}"
    with pytest.raises(QueryError, match=message):
        session.sql(f"EXPLAIN MODEL AS SELECT * FROM relann.{name}(node, edge, 8)")
    with pytest.raises(SchemaError, match=message):
        library.definition(f"relann.{name}")


def test_patterns_have_bounds_and_hang_together() -> None:
    """The shortest and the longest of each shape; a pattern in two pieces is refused."""
    for name in ("cycle_2", "path_1", "star_1", f"cycle_{patterns.LONGEST}"):
        assert patterns.definition(name) is not None
    longer = patterns.LONGEST + 1
    for name in ("cycle_1", "cycle_0", "path_0", f"star_{longer}", "cycle_3_x", "wheel_3"):
        assert patterns.definition(name) is None
    with pytest.raises(ValueError, match=re.escape("edge 2 → 3 of the pattern is not joined")):
        patterns.pattern("two", [(0, 1), (2, 3)])


def test_predicting_all_rows_needs_only_what_they_need() -> None:
    """A relation whose edges reach no output has no weights, and nobody asks for them."""
    with relann.connect() as con:
        con.sql(
            "CREATE TABLE node AS SELECT i AS id, [i % 3, 1]::FLOAT[2] AS x FROM range(20) t(i);"
            "CREATE TABLE paper AS SELECT i AS id, i * 0.1 AS y FROM range(10) t(i);"
            "CREATE TABLE edge AS SELECT i % 20 AS src, (i * 7) % 20 AS dst, "
            "CASE WHEN (i * 7) % 20 < 10 THEN 'to paper' ELSE 'to author' END AS rel "
            "FROM range(60) t(i);"
            "CREATE MODEL m OPTIONS (label = 'y', epochs = 2) AS SELECT p.id, p.y, o.x "
            "FROM paper p JOIN relann.rgcn(node, edge, 1) o ON o.id = p.id"
        )
        assert con.sql("SELECT count(prediction) FROM ml_predict('m')").fetchall() == [(10,)]
