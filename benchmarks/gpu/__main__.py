"""Correctness, then times, on one GPU: `python -m benchmarks.gpu [--device cuda] [--small]`.

First kernels and whole networks on the device are compared with the CPU, and the frame engine with
DuckDB; a difference ends the run with code 1. Then come the bandwidth of the product over groups
beside a copy, structures, epochs beside PyTorch Geometric's on the same device, and row maps beside
DuckDB's.

What cannot run is skipped, with the reason: a package that is not installed, memory, or time. With
torch and numba alone the kernels run. HGT runs on a random graph of DBLP's size, or with `--data
FOLDER`, where FOLDER/hetero/dblp is, on DBLP as well. Nothing is begun that would not end within
`--seconds`, by an estimate for a machine of 16 cores.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

TOLERANCE = 1e-3
"""Of float32 sums in another order, over the largest number."""

Found = dict[str, Any]


class Skip(Exception):
    """Why a part does not run."""


@dataclass
class Report:
    """What was found, line by line, and as data."""

    until: float
    path: Path | None = None
    lines: list[Found] = field(default_factory=list)
    failed: bool = False

    def part(self, what: str, takes: float, run: Callable[[], Found]) -> None:
        """Run one part if it would end in time; what goes wrong in it is a result too."""
        if (left := self.until - time.monotonic()) < takes:
            self.add(what, {"skipped": f"takes about {takes:.0f} s, and {max(left, 0):.0f} remain"})
            return
        try:
            self.add(what, run())
        except Skip as reason:
            self.add(what, {"skipped": str(reason)})
        # whatever it is, the other parts tell something too
        except (Exception, SystemExit) as error:  # noqa: BLE001
            name = type(error).__name__
            told = "; ".join(str(error).splitlines()[:1]) or name
            if isinstance(error, MemoryError) or "OutOfMemory" in name:
                self.add(what, {"skipped": f"memory: {told}"})
                return
            self.failed = True
            place = traceback.extract_tb(error.__traceback__)[-1]
            self.add(what, {"failed": f"{name}: {told} ({Path(place.filename).name}, "
                                      f"line {place.lineno})"})  # fmt: skip

    def add(self, what: str, found: Found) -> None:
        """Print a line and keep it, in the file as well if there is one."""
        self.lines.append({"what": what, **found})
        if self.path is not None:
            self.path.write_text(json.dumps(self.lines, indent=1), encoding="utf-8")
        shown = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}"
                          for k, v in found.items())  # fmt: skip
        print(f"{what:44} {shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--device", default="auto", help="cuda, cpu or auto")
    parser.add_argument("--engine", default="", help="cudf; by default pandas on the cpu")
    parser.add_argument("--data", type=Path, help="the folder that holds hetero/dblp")
    parser.add_argument("--small", action="store_true", help="tiny sizes: whether it runs")
    parser.add_argument("--seconds", type=float, default=540, help="when to be done")
    parser.add_argument("--json", type=Path, help="write what was found there as well")
    given = parser.parse_args()
    report = Report(time.monotonic() + given.seconds, given.json)
    _all(report, given)
    raise SystemExit(1 if report.failed else 0)


def loaded(module: str) -> ModuleType:
    """A module; Skip, naming what is missing, where it cannot be imported."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = error.name or module
        raise Skip(f"{name} is not installed, or of no use here: {error}") from error


def _all(report: Report, given: argparse.Namespace) -> None:
    try:
        torch, kernels = loaded("torch"), loaded("benchmarks.gpu.kernels")
    except Skip as reason:
        report.add("everything", {"skipped": str(reason)})
        return
    devices = loaded("relann.provenance.devices")
    device = devices.chosen(given.device)
    report.add(
        "machine",
        {
            "date": date.today().isoformat(),
            "device": torch.cuda.get_device_name() if device.type == "cuda" else _processor(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
        },
    )
    _kernels(report, given.small, device, kernels)
    try:
        ours, graphs = loaded("benchmarks.gpu.ours"), loaded("benchmarks.gpu.graphs")
    except Skip as reason:
        report.add("networks and row maps", {"skipped": str(reason)})
        return
    Networks(report, given, device, kernels, ours, graphs).run()


def checked(found: float) -> Found:
    """How far apart two sides are; SystemExit if that is not rounding."""
    if not found < TOLERANCE:
        raise SystemExit(f"{found:.2g} apart from the CPU")
    return {"apart from the CPU": found}


def _kernels(report: Report, small: bool, device: Any, kernels: Any) -> None:
    """What needs no database."""
    rows, pairs = (500, 3_000) if small else (20_000, 200_000)
    for name, run in kernels.KERNELS.items():
        report.part(
            f"kernel {name}", 5, lambda run=run: checked(kernels.apart(run, rows, pairs, device))
        )

    def handed_over() -> Found:
        loaded("cupy")
        if device.type != "cuda":
            raise Skip("CuPy needs a GPU")
        return kernels.handed_over(1_000_000)

    report.part("CuPy's arrays as tensors", 5, handed_over)
    many = 2_000 if small else 1_000_000
    report.part(
        "weighted sum over groups, width 64", 20, lambda: kernels.bandwidths(many, 10, 64, device)
    )
    report.part("structure and transpose", 20, lambda: kernels.building(many, 10, device))


@dataclass
class Networks:
    """The parts that bring tables and queries."""

    report: Report
    given: argparse.Namespace
    device: Any
    kernels: Any
    ours: Any
    graphs: Any

    def run(self) -> None:
        """Checks before times, short parts before long ones."""
        part, small, graphs = self.report.part, self.given.small, self.graphs
        choice = loaded("relann.algebra.engines.choice")
        self.engine = self.given.engine or ("cudf" if self.device.type == "cuda" else "pandas")
        self.lacks = choice.missing(self.engine)
        maker = "duckdb" if self.lacks else self.engine
        self.report.add("row maps by", {"engine": maker, **self._why()})
        for name in graphs.PROGRAMS:
            part(f"{name}: values and gradients", 10, lambda name=name: self._check(name, maker))
        for name in graphs.PROGRAMS:
            takes = 40 if name == "GraphSAGE" else 15
            part(f"{self._on(name)}: an epoch", takes, lambda name=name: self._pace(name))
        part("HGT on DBLP, real: an epoch", 30, self._dblp)
        sizes = ((20_000, 5),) if small else ((10_000_000, 40), (100_000_000, 150))
        for rows, takes in sizes:
            part(f"row maps of {rows:,} rows", takes, lambda rows=rows: self._row_maps(rows))
        if self.device.type == "cuda" and not small:
            part("GraphSAGE, 10M nodes, 100M edges: an epoch", 200, self._large)

    def _why(self) -> Found:
        return {f"{self.engine} skipped": self.lacks} if self.lacks else {}

    def _on(self, name: str) -> str:
        return f"{name} on a random graph of DBLP's size" if name == "HGT" else name

    def _tables(self, name: str, tiny: bool) -> Any:
        if name == "HGT":
            return self.graphs.typed_graph(0.02 if tiny else 1.0)
        relations = 8 if name == "R-GCN" else 0
        size = self.graphs.Size
        if tiny:
            return self.graphs.graph(size(300, 1500, 16, relations))
        return self.graphs.graph(
            {
                "GCN": size(100_000, 1_000_000, 128),
                "GraphSAGE": size(1_000_000, 10_000_000),
                "GAT": size(100_000, 1_000_000),
                "R-GCN": size(100_000, 1_000_000, 64, 8),
            }[name]
        )

    def _check(self, name: str, maker: str) -> Found:
        maps = self.ours.maps_of(self.graphs.PROGRAMS[name], self._tables(name, True), maker)
        return checked(self.ours.apart(maps, self.device))

    def _pace(self, name: str) -> Found:
        tables = self._tables(name, self.given.small)
        return self._paces(
            self.graphs.PROGRAMS[name],
            tables,
            lambda peers: peers.epoch_of(name, tables, self.device),
        )

    def _dblp(self) -> Found:
        if self.given.data is None:
            raise Skip("no --data FOLDER")
        if not (folder := self.given.data / "hetero" / "dblp").is_dir():
            raise Skip(f"there is no {folder}")
        tables = loaded("benchmarks.speed.data").dblp(self.given.data)
        return self._paces(
            self.graphs.DBLP, tables, lambda peers: peers.hgt_dblp(tables, self.device)
        )

    def _paces(self, program: str, tables: Any, theirs: Callable[[Any], Any]) -> Found:
        """Milliseconds of an epoch on the same row maps and by PyG."""
        maps = self.ours.maps_of(program, tables, "duckdb")
        repeats = 3 if self.given.small else 10
        mine = self._seconds(self.ours.epoch_of(maps, self.device), repeats)
        half = self._seconds(self.ours.epoch_of(maps, self.device, "bfloat16"), repeats)
        out: Found = {"relann ms": 1000 * mine, "bfloat16 ms": 1000 * half}
        try:
            other = self._seconds(theirs(loaded("benchmarks.gpu.peers")), repeats)
        except Skip as reason:
            return out | {"PyG": f"skipped: {reason}"}
        # ours is a result all the same
        except Exception as error:  # noqa: BLE001
            told = "; ".join(str(error).splitlines()[:1])
            return out | {"PyG": f"failed: {type(error).__name__}: {told}"}
        return out | {"PyG ms": 1000 * other, "share of PyG": mine / other}

    def _seconds(self, run: Callable[[], object], repeats: int) -> float:
        found: float = self.kernels.seconds(run, self.device, repeats)
        return found

    def _row_maps(self, rows: int) -> Found:
        if self.lacks is not None:
            raise Skip(self.lacks)
        found = self.ours.row_map_times(rows, self.engine, self.device)
        return {
            f"{what} {by}": value
            for what, (mine, theirs) in found.items()
            for by, value in (("s", mine), ("DuckDB s", theirs), ("times DuckDB", theirs / mine))
        }

    def _large(self) -> Found:
        """relann alone, as PyG writes all gathered rows: 26 GB for each layer and direction."""
        tables = self.graphs.graph(self.graphs.Size(10_000_000, 100_000_000))
        maps = self.ours.maps_of(self.graphs.PROGRAMS["GraphSAGE"], tables, "duckdb")
        return {"relann ms": 1000 * self._seconds(self.ours.epoch_of(maps, self.device), 3)}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
