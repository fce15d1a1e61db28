"""Correctness, then times, on one GPU: `python -m benchmarks.gpu [--device cuda] [--small]`.

First the network on the device is compared with the CPU, and the frame engine with DuckDB; a
difference ends the run with code 1. Then come the bandwidth of the product over groups beside a
copy, epochs beside PyTorch Geometric's on the same device, and row maps beside DuckDB's. What is
missing is skipped with the reason, and so is what would begin after `--seconds`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

NEEDED = ("torch", "numpy", "pyarrow", "duckdb", "sqlglot", "numba", "pandas", "pydantic")
TOLERANCE = 1e-3
"""Of float32 sums in another order, over the largest number."""


@dataclass
class Report:
    """What was found, line by line, and as data."""

    until: float
    lines: list[dict[str, Any]] = field(default_factory=list)
    failed: bool = False

    def part(self, what: str, run: Callable[[], dict[str, Any]]) -> None:
        """Run one part, unless time is over; an error is a result too."""
        if time.monotonic() > self.until:
            self.add(what, {"skipped": "the time is over"})
            return
        try:
            self.add(what, run())
        except (RuntimeError, MemoryError, SystemExit, ValueError) as error:  # memory, mostly
            self.failed |= isinstance(error, SystemExit)
            self.add(what, {"failed": f"{type(error).__name__}: {str(error).splitlines()[0]}"})

    def add(self, what: str, found: dict[str, Any]) -> None:
        """Print a line and keep it."""
        self.lines.append({"what": what, **found})
        shown = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}"
                          for k, v in found.items())  # fmt: skip
        print(f"{what:44} {shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--device", default="auto", help="cuda, cpu or auto")
    parser.add_argument("--engine", default="", help="cudf; by default pandas on the cpu")
    parser.add_argument("--small", action="store_true", help="tiny sizes: whether it runs")
    parser.add_argument("--seconds", type=float, default=540, help="begin nothing later")
    parser.add_argument("--json", type=Path, help="write what was found there as well")
    given = parser.parse_args()
    report = Report(time.monotonic() + given.seconds)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        report.add("relann", {"skipped": f"not installed: {', '.join(missing)}"})
        raise SystemExit(1)
    _all(report, given)
    if given.json is not None:
        given.json.write_text(json.dumps(report.lines, indent=1), encoding="utf-8")
    raise SystemExit(1 if report.failed else 0)


def _all(report: Report, given: argparse.Namespace) -> None:
    import torch

    from benchmarks.gpu import ours
    from benchmarks.gpu.graphs import PROGRAMS, Size, graph, typed_graph
    from relann.algebra.engines import choice
    from relann.provenance import devices

    device = devices.chosen(given.device)
    engine = given.engine or ("cudf" if device.type == "cuda" else "pandas")
    lacks = choice.missing(engine)
    small = given.small
    report.add(
        "machine",
        {
            "date": date.today().isoformat(),
            "device": torch.cuda.get_device_name() if device.type == "cuda" else _processor(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "engine": engine if lacks is None else f"{engine}: {lacks}",
        },
    )

    def tables(name: str, tiny: bool) -> Any:
        if name == "HGT":
            return typed_graph(0.02 if tiny else 1.0)
        relations = 8 if name == "R-GCN" else 0
        return graph(Size(300, 1500, 16, relations) if tiny else SIZES[name])

    def check(name: str) -> dict[str, Any]:
        maps = ours.maps_of(name, tables(name, True), "duckdb" if lacks else engine)
        found = ours.apart(maps, device)
        if not found < TOLERANCE:
            raise SystemExit(f"{found:.2g} apart from the CPU")
        return {"apart from the CPU": found}

    def pace(name: str) -> dict[str, Any]:
        given_tables = tables(name, small)
        maps = ours.maps_of(name, given_tables, "duckdb")
        repeats = 3 if small else 10
        mine = ours.seconds(ours.epoch_of(maps, device), device, repeats)
        half = ours.seconds(ours.epoch_of(maps, device, "bfloat16"), device, repeats)
        out: dict[str, Any] = {"relann ms": 1000 * mine, "bfloat16 ms": 1000 * half}
        if importlib.util.find_spec("torch_geometric") is None:
            return out | {"PyG": "skipped: not installed"}
        from benchmarks.gpu import peers

        theirs = ours.seconds(peers.epoch_of(name, given_tables, device), device, repeats)
        return out | {"PyG ms": 1000 * theirs, "share of PyG": mine / theirs}

    def bandwidth() -> dict[str, Any]:
        copy, kernel = ours.bandwidths(2_000 if small else 1_000_000, 10, 64, device)
        return {"copy GB/s": copy, "sum GB/s": kernel, "share": kernel / copy}

    def row_maps(rows: int) -> dict[str, Any]:
        if lacks is not None:
            return {"skipped": lacks}
        found = ours.row_map_times(rows, engine, device)
        return {
            f"{what} {by}": value
            for what, (mine, theirs) in found.items()
            for by, value in (("s", mine), ("DuckDB s", theirs), ("times DuckDB", theirs / mine))
        }

    SIZES = {
        "GCN": Size(100_000, 1_000_000, 128),
        "GraphSAGE": Size(1_000_000, 10_000_000),
        "GAT": Size(100_000, 1_000_000),
        "R-GCN": Size(100_000, 1_000_000, 64, 8),
        "GraphSAGE, 10M nodes, 100M edges": Size(10_000_000, 100_000_000),
    }
    for name in PROGRAMS:
        report.part(f"{name}: values and gradients", lambda name=name: check(name))
    report.part("weighted sum over groups, width 64", bandwidth)
    for name in PROGRAMS:
        report.part(f"{name}: an epoch", lambda name=name: pace(name))
    for rows in (20_000,) if small else (10_000_000, 100_000_000):
        report.part(f"row maps of {rows:,} rows", lambda rows=rows: row_maps(rows))
    if device.type == "cuda" and not small:
        large = "GraphSAGE, 10M nodes, 100M edges"
        PROGRAMS[large] = PROGRAMS["GraphSAGE"]
        report.part(f"{large}: an epoch", lambda: _large(ours, graph(SIZES[large]), device))


def _large(ours: Any, tables: Any, device: Any) -> dict[str, Any]:
    """relann alone, as PyG writes all gathered rows: 26 GB for each layer and direction."""
    maps = ours.maps_of("GraphSAGE", tables, "duckdb")
    return {"relann ms": 1000 * ours.seconds(ours.epoch_of(maps, device), device, 3)}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
