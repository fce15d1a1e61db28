"""How long a trained model's SQL takes beside torch: `python -m benchmarks.to_sql --help`.

Each program is asked for the scores of all its rows: by DuckDB running the SQL of `ml_to_sql`, by
`ml_predict` in a new session, which builds row maps, and in a session that has them; and torch's
forward pass is timed alone, everything bound. All have the same threads; a figure is the fastest of
the repetitions.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

import relann
from benchmarks.speed.programs import GAT, GCN, SAGE
from relann.algebra import rowmaps
from relann.algebra.engines.duckdb import DuckDBEngine
from relann.algebra.layers import Layer
from relann.algebra.parse import explanation
from relann.models import library
from relann.models.options import Options
from relann.models.program import Program
from relann.models.training import fit
from relann.schema import Catalog

MLP = """
SELECT n.id, n.label, 'train' AS split, mlp(n.x, 64, 64, 7) AS logits FROM node n
"""
PROGRAMS = {"mlp": MLP, "gcn": GCN, "sage": SAGE, "gat": GAT}


@dataclass(frozen=True)
class Figure:
    """Milliseconds of each way, and the length of the SQL."""

    program: str
    sql: float
    predict: float
    again: float
    forward: float
    characters: int


def main() -> None:
    """A line for each program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--edges", type=int, default=500_000)
    parser.add_argument("--width", type=int, default=64, help="of the nodes' own vectors")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--memory", default=None, help="DuckDB's memory_limit, such as 1GB")
    parser.add_argument("--json", action="store_true", help="a JSON object on each line")
    parser.add_argument("programs", nargs="*", help=f"of {', '.join(PROGRAMS)}; all by default")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for name in given.programs or PROGRAMS:
        figure = measured(name, given)
        if given.json:
            print(json.dumps(vars(figure)), flush=True)
            continue
        ways = ("predict", "again", "forward")
        told = ", ".join(f"{w} {vars(figure)[w]:.0f} ms" for w in ways)
        share = ", ".join(f"{figure.sql / vars(figure)[w]:.1f}" for w in ways)
        print(f"{name}: sql {figure.sql:.0f} ms; {told}; sql takes {share} times as long")


def measured(name: str, given: argparse.Namespace) -> Figure:
    """One program on random rows."""
    with relann.connect() as con:
        con.sql(f"SET threads = {given.threads}; SELECT setseed(0.5)")
        numbers = ", ".join(["random()"] * given.width)
        con.sql(
            f"CREATE TABLE node AS SELECT i AS id, i % 7 AS label, "
            f"[{numbers}]::FLOAT[{given.width}] AS x FROM range({given.nodes}) t(i);"
            f"CREATE TABLE edge AS SELECT (random() * {given.nodes - 1})::BIGINT AS src, "
            f"(random() * {given.nodes - 1})::BIGINT AS dst FROM range({given.edges})"
        )
        options = "label = 'label', split = 'split', epochs = 1"
        con.sql(f"CREATE MODEL m OPTIONS ({options}) AS {PROGRAMS[name]}")
        ((sql,),) = con.sql("SELECT sql FROM ml_to_sql('m')").fetchall()
        con.sql(f"CREATE VIEW scores AS {sql}")
        if given.memory:
            con.sql(f"SET memory_limit = '{given.memory}'")
        read = "SELECT count(*), avg(list_sum(scores)), avg(probability) FROM {}"
        predicted = read.format("ml_predict('m')")
        known = con.connection
        return Figure(
            name,
            fastest(lambda: known.execute(read.format("scores")).fetchall(), given.repeat),
            fastest(lambda: relann.connect(known).sql(predicted), given.repeat),
            fastest(lambda: con.sql(predicted), given.repeat),
            forward(con, PROGRAMS[name], given.repeat),
            len(sql),
        )


def forward(con: relann.Session, text: str, repeat: int) -> float:
    """Torch's forward pass alone."""
    (query,) = explanation(text)
    assert query.body is not None
    program = Program.compile(
        query.body.query, query.body.span.text, Catalog(con.connection), _library
    )
    maps = rowmaps.build(program.plan, DuckDBEngine(con.connection))
    module = fit(maps, Options(label="label", split="split", train=False)).module(maps.plan)
    batch = module.bind(maps)
    with torch.no_grad():
        return fastest(lambda: module.forward(batch), repeat)


def _library(name: str) -> Layer | None:
    return Layer.parsed(library.definition(name)) if name.startswith(library.PREFIX) else None


def fastest(run: Callable[[], object], repeat: int) -> float:
    """Milliseconds of the fastest of some runs."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


if __name__ == "__main__":
    main()
