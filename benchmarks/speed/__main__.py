"""Time per epoch and peak memory of relann and its peers: `python -m benchmarks.speed DATA`.

DATA is the folder of the real data sets (`planetoid`, `hetero`, `rdf`, `hygnn`). Contenders of a
workload run in one process, an epoch of each in turn; printed are medians, the least, and
relann's share of each peer. Peak memory is that of a fresh process for each contender, which is
given the tables in a DuckDB file: relann keeps its connection to it, with what DuckDB caches, its
peers read the tables as Arrow and close it. Both sides use torch's threads as they come.
`--scaling FOLDER` draws the time of an epoch and peak memory over edges and widths.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import ticker

from benchmarks.memory import peak_mb
from benchmarks.speed import data, engine, peers, programs
from benchmarks.speed.data import Stored, Tables

warnings.filterwarnings("ignore", "Sparse CSR", UserWarning)
warnings.filterwarnings("ignore", "`torch.jit.script` is", DeprecationWarning)

Epoch = Callable[[], object]
Make = Callable[[Tables], Epoch]


@dataclass(frozen=True)
class Workload:
    """Tables from the data folder, and who works on them; the first contender is relann.

    `once` are contenders that are run once only, for they take long.
    """

    what: str
    tables: Callable[[Path], Tables]
    contenders: dict[str, Make]
    repeats: int = 7
    once: tuple[str, ...] = ()


def _ours(text: str) -> Make:
    return lambda tables: engine.training(tables, text).epoch


def _theirs(make: Callable[..., peers.Peer], **options: object) -> Make:
    return lambda tables: make(tables, **options).epoch


def _random(nodes: int, edges: int, width: int) -> Callable[[Path], Tables]:
    return lambda _: data.random_graph(nodes, edges, width, 7, 0)


def _triangles(tables: Tables) -> Epoch:
    def run() -> float:
        return engine.summing(tables, programs.TRIANGLES).epoch()

    expected = int(peers.triangles_scipy(tables)())
    found = round(run())
    if found != expected:
        raise SystemExit(f"relann counts {found} triangles, scipy {expected}")
    return run


def _text(tables: Tables) -> Epoch:
    connection = engine.database(tables)
    return lambda: engine.trained_from(connection, programs.MEANS)


def _patterns(longest: int) -> Make:
    def make(tables: Tables) -> Epoch:
        connection = engine.database(tables)
        text = programs.dhn(longest)
        return lambda: engine.build(
            engine.program(connection, text).plan, engine.DuckDBEngine(connection)
        )

    return make


WORKLOADS = {
    "gcn-cora": Workload(
        "GCN on Cora",
        data.cora,
        {
            "relann": _ours(programs.GCN_CORA),
            "PyG, dense x": _theirs(peers.gcn_pyg_dense),
            "PyG, sparse x": _theirs(peers.gcn_pyg_sparse),
        },
        repeats=101,
    ),
    "gcn": Workload(
        "GCN, 100k nodes, 1M edges, 128 → 64 → 7",
        _random(100_000, 1_000_000, 128),
        {
            "relann": _ours(programs.GCN),
            "PyG, cached": _theirs(peers.gcn_pyg),
            "torch.sparse CSR": _theirs(peers.gcn_csr),
        },
    ),
    "sage": Workload(
        "GraphSAGE, 1M nodes, 10M edges, 64 → 64 → 7",
        _random(1_000_000, 10_000_000, 64),
        {
            "relann": _ours(programs.SAGE),
            "PyG, edge_index": _theirs(peers.sage_pyg),
            "PyG, sparse": _theirs(peers.sage_pyg_sparse),
        },
        repeats=5,
        once=("PyG, edge_index",),
    ),
    "hgt-1": Workload(
        "HGT, 1 layer, DBLP",
        data.dblp,
        {
            "relann": _ours(programs.HGT_1),
            "PyG, all types": _theirs(peers.hgt_pyg, layers=1, pruned=False, sparse=True),
            "PyG, pruned": _theirs(peers.hgt_pyg, layers=1, pruned=True, sparse=True),
        },
    ),
    "hgt-2": Workload(
        "HGT, 2 layers, DBLP",
        data.dblp,
        {
            "relann": _ours(programs.HGT_2),
            "PyG, all types": _theirs(peers.hgt_pyg, layers=2, pruned=False, sparse=True),
            "PyG, pruned": _theirs(peers.hgt_pyg, layers=2, pruned=True, sparse=True),
        },
    ),
    "gat": Workload(
        "GAT, 100k nodes, 1M edges, 64 → 4 × 16 → 7",
        _random(100_000, 1_000_000, 64),
        {"relann": _ours(programs.GAT), "PyG": _theirs(peers.gat_pyg)},
        repeats=5,
    ),
    "rgcn": Workload(
        "R-GCN on AIFB",
        data.aifb,
        {
            "relann": _ours(programs.RGCN),
            "PyG FastRGCNConv": _theirs(peers.rgcn_pyg_fast),
            "PyG RGCNConv": _theirs(peers.rgcn_pyg),
        },
    ),
    "hygnn": Workload(
        "HyGNN on TWOSIDES, 3-mers",
        lambda folder: data.twosides(folder, 3),
        {
            "relann": _ours(programs.HYGNN),
            "torch": _theirs(peers.hygnn_torch),
            "torch, decoder split": _theirs(peers.hygnn_torch, split_decoder=True),
        },
    ),
    "dhn-4": Workload(
        "DHN, cycles to C4, CSL",
        lambda _: data.csl(0),
        {"relann": _ours(programs.dhn(4)), "torch": _theirs(peers.dhn_torch, longest=4)},
    ),
    "dhn-10": Workload(
        "DHN, cycles to C10, CSL",
        lambda _: data.csl(0),
        {"relann": _ours(programs.dhn(10)), "torch": _theirs(peers.dhn_torch, longest=10)},
        repeats=5,
        once=("torch",),
    ),
    "patterns": Workload(
        "listing the cycles to C10 of CSL, both layers' row maps",
        lambda _: data.csl(0),
        {
            "relann": _patterns(10),
            "networkx": lambda tables: lambda: peers.cycles(tables["edge"], 10),
        },
        repeats=5,
        once=("networkx",),
    ),
    "triangles": Workload(
        "triangles, Barabási–Albert, 800k directed edges, row maps and sum",
        lambda _: data.barabasi_albert(100_000, 4, 0),
        {"relann": _triangles, "scipy": peers.triangles_scipy_nodes},
        repeats=5,
    ),
    "tree": Workload(
        "paths of 3 hops, 20k nodes, 200k edges, width 16",
        _random(20_000, 200_000, 16),
        {
            "relann": lambda tables: engine.summing(tables, programs.TREE).epoch,
            "join materialised": partial(peers.tree_materialised, width=16),
        },
        repeats=5,
        once=("join materialised",),
    ),
    "tree-1M": Workload(
        "paths of 3 hops, 100k nodes, 1M edges, width 16",
        _random(100_000, 1_000_000, 16),
        {
            "relann": lambda tables: engine.summing(tables, programs.TREE).epoch,
            "three sparse products": partial(peers.tree_factorised, width=16),
        },
    ),
    "text": Workload(
        "text to first epoch, 1M nodes, 10M edges, 62-bit keys, width 16",
        lambda _: data.sparse_identifiers(data.random_graph(1_000_000, 10_000_000, 16, 7, 0), 1),
        {"relann": _text, "pandas merge, torch.unique": peers.text_to_epoch_pandas},
        repeats=1,
    ),
    "tiny": Workload(
        "GCN, 100 rows",
        lambda _: data.tiny(0),
        {"relann": _ours(programs.TINY), "torch": _theirs(peers.tiny_torch)},
        repeats=501,
    ),
}


def times(workload: Workload, folder: Path) -> dict[str, list[float]]:
    """Milliseconds of every repeat of every contender, taken in turn."""
    tables = workload.tables(folder)
    running = {name: make(tables) for name, make in workload.contenders.items()}
    found: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(2 if workload.repeats > 1 else 0):
        for name, epoch in running.items():
            if name not in workload.once:
                epoch()
    for repeat in range(workload.repeats):
        for name, epoch in running.items():
            if repeat and name in workload.once:
                continue
            began = time.perf_counter()
            epoch()
            found[name].append(1000 * (time.perf_counter() - began))
    return found


def peaks(name: str, folder: Path) -> dict[str, float]:
    """Peak resident MB of each contender, by `memory`."""
    workload = workload_of(name)
    with TemporaryDirectory() as place:
        file = Stored.of(workload.tables(folder), Path(place) / "tables.duckdb").path
        return {contender: memory(name, contender, file) for contender in workload.contenders}


def memory(name: str, contender: str, file: Path) -> float:
    """Peak resident MB of a fresh process that does three epochs of one contender."""
    command = [sys.executable, "-m", "benchmarks.speed", str(file), "--memory", name, contender]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return float("nan")
    return float(done.stdout.split()[-1])


def _memory_here(name: str, contender: str, file: Path) -> None:
    workload = workload_of(name)
    epoch = workload.contenders[contender](Stored(file))
    for _ in range(1 if contender in workload.once else 3):
        epoch()
    print(peak_mb())


def row(workload: Workload, found: dict[str, list[float]], held: dict[str, float]) -> list[str]:
    """The lines of a workload in the Markdown table."""
    ours = statistics.median(found["relann"])
    lines = []
    for number, (name, taken) in enumerate(found.items()):
        middle = statistics.median(taken)
        peak = f"{held[name]:.0f}" if name in held else ""
        ratio = "" if name == "relann" else f"{ours / middle:.2f}"
        what = workload.what if number == 0 else ""
        lines.append(f"| {what} | {name} | {middle:.2f} | {min(taken):.2f} | {ratio} | {peak} |")
    return lines


SCALED: dict[str, Make] = {
    "relann": _ours(programs.GCN),
    "PyG": _theirs(peers.gcn_pyg),
    "torch.sparse": _theirs(peers.gcn_csr),
}
_BY = "x"  # stands between the nodes, edges and width of a scaled workload's name


def workload_of(name: str) -> Workload:
    """A workload of the table, or the two-layer GCN on a random graph that a point's name says."""
    if name in WORKLOADS:
        return WORKLOADS[name]
    nodes, edges, width = map(int, name.split(_BY))
    return Workload(name, _random(nodes, edges, width), SCALED, repeats=3)


def scaling(folder: Path) -> None:
    """An epoch's time and a process' peak memory over edges and over widths, as PNG and JSON."""
    edges = [10**4, 10**5, 10**6, 10**7]
    widths = [16, 32, 64, 128, 256]
    points = {
        "edges": {e: (max(100, e // 10), e, 64) for e in edges},
        "width": {w: (100_000, 1_000_000, w) for w in widths},
    }
    results: dict[str, dict[str, dict[str, list[float]]]] = {}
    for over, sizes in points.items():
        took: dict[str, list[float]] = {n: [] for n in SCALED}
        most: dict[str, list[float]] = {n: [] for n in SCALED}
        for size in sizes.values():
            name = _BY.join(map(str, size))
            for contender, taken in times(workload_of(name), folder).items():
                took[contender].append(statistics.median(taken))
            for contender, peak in peaks(name, folder).items():
                most[contender].append(peak)
        results[over] = {"ms": took, "peak MB": most}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scaling.json").write_text(json.dumps(results, indent=1))
    drawn({over: list(sizes) for over, sizes in points.items()}, results, folder / "scaling.png")


def drawn(
    points: Mapping[str, Sequence[int]],
    results: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
    file: Path,
) -> None:
    """Draw the time of an epoch and peak memory over sizes."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 8), constrained_layout=True)
    for column, (over, found) in enumerate(results.items()):
        labels = {"ms": "ms per epoch", "peak MB": "peak MB of the process"}
        for axis, (what, label) in zip(axes[:, column], labels.items(), strict=True):
            for contender, values in found[what].items():
                axis.plot(points[over], values, marker="o", label=contender)
            axis.set(xscale="log", xlabel=over, ylabel=label)
            axis.set_xticks(points[over], [f"{size:,}" for size in points[over]])
            if what == "ms":
                axis.set_yscale("log")
                axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            else:
                axis.set_ylim(bottom=0)
            axis.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,g}"))
            axis.minorticks_off()
            axis.legend()
    figure.savefig(file, dpi=110)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="benchmarks.speed", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--no-memory", action="store_true", help="do not measure peak memory")
    parser.add_argument("--scaling", type=Path, metavar="FOLDER", help="draw the scaling plots")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory:
        _memory_here(*given.memory, given.folder)
        return
    if given.scaling:
        scaling(given.scaling)
        return
    print(
        f"{date.today()}, torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"numpy {np.__version__}\n"
    )
    print("| work | who | ms, median | least | relann / it | peak MB |")
    print("|---|---|---|---|---|---|")
    for name in given.only:
        workload = WORKLOADS[name]
        found = times(workload, given.folder)
        held = {} if given.no_memory else peaks(name, given.folder)
        print("\n".join(row(workload, found, held)), flush=True)


if __name__ == "__main__":
    main()
