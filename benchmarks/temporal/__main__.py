"""One epoch of a schema-wide GraphSAGE over time: `python -m benchmarks.temporal DATA`.

DATA is the folder of the data sets `rel-f1` and `rel-stack-travel`. relann runs `FROM sage()` with
two layers of width 128 over all rows known at each seed's anchor, with Adam, once with all training
seeds in one step and once in batches of 512. PyTorch Geometric gets, ready, the subgraphs that a
temporal neighbour sampler with RelBench's defaults would give it (fan-out 128 and 64, 512 seeds, a
tree for each seed; `samples.py`), and is timed on encoders, two layers of `HeteroConv` and
`SAGEConv`, loss, backward pass and Adam only: drawing and reading the subgraphs costs it nothing.
"trimmed" leaves out what the seeds do not need in each layer, which RelBench's model does not.

Each side has a process of its own, whose peak memory is shown, and the same threads. An epoch of
relann is the median of `--repeats` after one that is not counted; one of PyTorch Geometric is the
median step of each of `--batches` random batches, after one step, times as many batches as there
are. Seeds whose entity is not known yet at their anchor are left out on both sides.

With `--memory-limit SIZE …`, what row maps in chunks of seeds cost and save: CREATE MODEL in
batches of 512 without a limit and with each of these, in processes of their own. Validation seeds
are looked at in every epoch; "more" is the peak memory beyond that of the loaded tables. Beside the
first row of a task stands what its row maps and encoded columns take: as told beforehand from
samples of seeds, and as counted.

With `--whole`, from the text to the tested model on rel-f1 driver-dnf, in this process's child.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from benchmarks.memory import peak_mb
from benchmarks.relbench import Prepared
from benchmarks.temporal.peer import Network
from benchmarks.temporal.samples import Sampler
from relann.algebra.engines.duckdb import DuckDBEngine
from relann.algebra.seeded import bytes_of
from relann.models.chunks import SeedMaps
from relann.models.training import learning_of
from relann.provenance.inputs import encoded_bytes
from relann.store import Store

TASKS = (
    "rel-f1/driver-dnf",
    "rel-f1/driver-top3",
    "rel-f1/driver-position",
    "rel-stack-travel/user-engagement",
)
TEXT = "FROM sage(layers => 2, width => 128)"
WIDTH, LAYERS, FANOUT, SIZE = 128, 2, (128, 64), 512
QUIET = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
WHO = {
    "all": "relann, all seeds in a step",
    "batches": "relann, batches of 512",
    "pyg": "PyG",
    "trimmed": "PyG, trimmed",
}


@dataclass(frozen=True)
class Measured:
    """Seconds of an epoch, training seeds, peak MB, and what is to be said of it."""

    seconds: float
    seeds: int
    mb: float
    note: str


def main() -> None:
    """Print a Markdown table, a row for each task and side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--repeats", type=int, default=5, help="epochs of relann")
    parser.add_argument("--batches", type=int, default=6, help="batches of PyTorch Geometric")
    parser.add_argument("--whole", action="store_true", help="text to tested model, nothing else")
    parser.add_argument("--memory-limit", nargs="+", metavar="SIZE", help="row maps in chunks")
    parser.add_argument("--limit", help=argparse.SUPPRESS)
    sides = [*WHO, "sample", "whole", "limited"]
    parser.add_argument("--side", choices=sides, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side is not None:
        print(json.dumps(_SIDES[given.side](given)))
        return
    print(
        f"{date.today()}, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads\n"
    )
    if given.whole:
        print(_child(given, "whole", TASKS[0], None))
        return
    if given.memory_limit:
        _print_limited(given)
        return
    print("| task | who | s per epoch | seeds/s | PyG / relann | peak MB | |")
    print("|---|---|---|---|---|---|---|")
    for task in given.only:
        with tempfile.TemporaryDirectory() as folder:
            _child(given, "sample", task, folder)
            found = {who: Measured(**_child(given, who, task, folder)) for who in WHO}
        print("\n".join(_rows(task, found)), flush=True)


def _print_limited(given: argparse.Namespace) -> None:
    """A row for each task and memory limit."""
    columns = ("task", "`memory_limit`", "chunks", "s per epoch", "first", "before it", "peak MB",
               "more")  # fmt: skip
    print(f"| {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|---|---|")
    for task in given.only:
        for size in ("1 TB", *given.memory_limit):
            m = _child(given, "limited", task, None, size)
            first = f"{task}, {m['seeds']:,} seeds" if size == "1 TB" else ""
            if size == "1 TB":
                first += f", {m['told_mb']:,.0f} MB told, {m['counted_mb']:,.0f} MB counted"
            print(
                f"| {first} | {'none' if size == '1 TB' else size} | {m['chunks']} "
                f"| {m['seconds']:.2f} | {m['first']:.2f} | {m['before']:.1f} | {m['mb']:,.0f} "
                f"| {m['mb'] - m['loaded_mb']:,.0f} |",
                flush=True,
            )


def _child(
    given: argparse.Namespace, side: str, task: str, folder: str | None, limit: str = ""
) -> dict:
    """What one side of a task prints, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.temporal", str(given.data), "--side", side]
    command += ["--only", task, "--repeats", str(given.repeats), "--batches", str(given.batches)]
    command += [] if folder is None else ["--folder", folder]
    command += ["--limit", limit] if limit else []
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **QUIET}
    )
    return json.loads(done.stdout.splitlines()[-1])


def _rows(task: str, found: dict[str, Measured]) -> list[str]:
    least = min(found["all"].seconds, found["batches"].seconds)
    lines = []
    for number, (who, m) in enumerate(found.items()):
        ratio = ""
        if who in ("pyg", "trimmed"):
            ours = (found[side].seconds for side in ("all", "batches"))
            ratio = " and ".join(f"{m.seconds / s:.1f}" for s in ours)
        first = f"{task}, {m.seeds:,} seeds" if number == 0 else ""
        bold = f"**{m.seconds:.2f}**" if m.seconds == least else f"{m.seconds:.2f}"
        lines.append(
            f"| {first} | {WHO[who]} | {bold} | {m.seeds / m.seconds:,.0f} | {ratio} "
            f"| {m.mb:,.0f} | {m.note} |"
        )
    return lines


def _prepared(given: argparse.Namespace) -> Prepared:
    (task,) = given.only
    data, _, name = task.partition("/")
    return Prepared.of(given.data / data, name)


def _ours(given: argparse.Namespace, size: int | None) -> dict[str, object]:
    """relann's epochs; the validation seeds are not looked at."""
    began = time.perf_counter()
    prepared = _prepared(given)
    loaded = time.perf_counter()
    program = prepared.program(TEXT)
    maps = prepared.maps(program)
    built = time.perf_counter()
    learning = learning_of(maps, prepared.options(size))
    learning.val = None
    epochs = learning.epochs()
    first = next(epochs).seconds
    seconds = statistics.median(next(epochs).seconds for _ in range(given.repeats))
    note = (
        f"tables {loaded - began:.1f} s, text to row maps {built - loaded:.1f} s, "
        f"first epoch {first:.1f} s"
    )
    return {"seconds": seconds, "seeds": learning.train.count, "mb": peak_mb(), "note": note}


def _sampled(given: argparse.Namespace) -> dict[str, object]:
    """Write the subgraphs of some random batches, and what a network for them is made of."""
    prepared = _prepared(given)
    task = prepared.task
    sampler = Sampler(prepared.connection, prepared.schema, FANOUT)
    seeds = prepared.connection.sql(
        f'SELECT e.rowid AS row, s."{task.time}"::TIMESTAMP AS anchor, '
        f's."{task.label}"::DOUBLE AS label FROM {task.seeds} s '
        f'JOIN {task.table} e ON e."{task.key}" = s."{task.entity}" '
        f"WHERE s.\"{task.split}\" = 'train' ORDER BY anchor, row"
    ).to_arrow_table()
    order = np.random.default_rng(0).permutation(len(seeds))
    count = math.ceil(len(seeds) / SIZE)
    entity = str(prepared.files.entity_table)
    for number in range(min(given.batches, count)):
        batch = seeds.take(order[number * SIZE : (number + 1) * SIZE])
        torch.save(sampler.sample(entity, batch), given.folder / f"{number}.pt")
    about = {
        "rows": {n: r for n, r in sampler.rows.items()},
        "edges": sampler.edges,
        "batches": count,
        "seeds": len(seeds),
        "binary": task.kind == "binary",
    }
    torch.save(about, given.folder / "about.pt")
    return {}


def _theirs(given: argparse.Namespace, trimmed: bool) -> dict[str, object]:
    """PyTorch Geometric's steps on the subgraphs that are there."""
    about = torch.load(given.folder / "about.pt", weights_only=False)
    torch.manual_seed(0)
    network = Network(about["rows"], about["edges"], LAYERS, WIDTH, trimmed)
    del about["rows"]
    optimizer = torch.optim.Adam(network.parameters(), lr=0.005, fused=True)
    loss_of = binary_cross_entropy_with_logits if about["binary"] else mse_loss
    steps, seeds, nodes = [], 0, 0
    numbers = range(min(given.batches, about["batches"]))
    for number in numbers:
        graph = torch.load(given.folder / f"{number}.pt", weights_only=False)
        taken = []
        for _ in range(4 if number == 0 else 3):
            began = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            loss_of(network(graph), graph.labels).backward()
            optimizer.step()
            taken.append(time.perf_counter() - began)
        steps.append(statistics.median(taken[-3:]))
        seeds += len(graph.labels)
        nodes += sum(counts[-1] for counts in graph.nodes.values())
    seconds = sum(steps) / seeds * about["seeds"]
    note = (
        f"{len(steps)} of {about['batches']} batches, {nodes / seeds:,.0f} nodes a seed, "
        f"{1000 * statistics.median(steps):,.0f} ms a step"
    )
    return {"seconds": seconds, "seeds": about["seeds"], "mb": peak_mb(), "note": note}


def _whole(given: argparse.Namespace) -> dict[str, object]:
    """From the text to the tested model: CREATE MODEL, then its metrics on the test seeds."""
    prepared = _prepared(given)
    began = time.perf_counter()
    options = "task = 't', seed = 0, epochs = 20, batch_size = 512, lr = 0.005, patience = 5"
    told = prepared.session.sql(f"CREATE MODEL m OPTIONS ({options}) AS {TEXT}")
    trained = time.perf_counter()
    metrics = prepared.session.sql("SELECT metric, value FROM ml_evaluate('m')").fetchall()
    tested = time.perf_counter()
    return {
        "told": str(told),
        "train_seconds": round(trained - began, 1),
        "test_seconds": round(tested - trained, 1),
        "metrics": dict(metrics),
        "mb": round(peak_mb()),
    }


def _limited(given: argparse.Namespace) -> dict[str, object]:
    """CREATE MODEL with a memory limit: its epochs, and memory beyond that of the loaded tables."""
    prepared = _prepared(given)
    session = prepared.session
    loaded = peak_mb()
    began = time.perf_counter()
    options = (
        f"task = 't', seed = 0, epochs = {given.repeats + 1}, batch_size = {SIZE}, lr = 0.005, "
        f"memory_limit = '{given.limit}'"
    )
    told = str(session.sql(f"CREATE MODEL m OPTIONS ({options}) AS {TEXT}"))
    took = time.perf_counter() - began
    curve = session.sql("SELECT seconds FROM ml_training_info('m') ORDER BY epoch").fetchall()
    first, *others = (seconds for (seconds,) in curve)
    rows = Store(session.connection).model("m").info["rows"]
    cut = re.search(r"built in (.*? chunks of [\d,]+) seeds", told)
    peak = peak_mb()
    told_mb, counted_mb = _sizes(prepared) if cut is None else (0.0, 0.0)
    return {
        "told_mb": told_mb,
        "counted_mb": counted_mb,
        "seconds": statistics.median(others),
        "first": first,
        "before": took - first - sum(others),
        "chunks": "whole" if cut is None else cut[1],
        "seeds": rows["train"],
        "mb": peak,
        "loaded_mb": loaded,
    }


def _sizes(prepared: Prepared) -> tuple[float, float]:
    """MB of row maps and encoded columns: told from samples, and counted."""
    program = prepared.program(TEXT)
    connection = prepared.connection
    samples = SeedMaps(program, DuckDBEngine(connection), connection)
    samples.close()
    maps, each = prepared.maps(program), encoded_bytes(program.plan)
    counted = sum(n + each[space] * maps.counts[space] for space, n in bytes_of(maps).items())
    return samples.sizes.whole / 1e6, counted / 1e6


_SIDES = {
    "limited": _limited,
    "all": lambda given: _ours(given, None),
    "batches": lambda given: _ours(given, SIZE),
    "pyg": lambda given: _theirs(given, False),
    "trimmed": lambda given: _theirs(given, True),
    "sample": _sampled,
    "whole": _whole,
}


if __name__ == "__main__":
    main()
