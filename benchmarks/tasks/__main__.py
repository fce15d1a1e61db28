"""Train query programs on a RelBench task; RelBench's own evaluator says how good they are.

    python -m benchmarks.tasks rel-f1/driver-dnf --data FOLDER --program sage dfs file.sql \\
        [--seeds 5] [--regime frozen rolling] [--options "epochs = 10"] [--submit out/]

FOLDER is a data set as RelBench lays it out (manifest.yaml, db, tasks). A program is `sage`, `gat`,
`hgt`, `relgnn` or `dfs`, the schema-wide programs with their defaults, or a file with the query of
a model; options are those of CREATE MODEL, the same for all tasks unless given. Each program and
regime has a process of its own, whose peak memory is shown; within it the seeds run one after the
other. A model is chosen, and where it stops is chosen, on validation seeds; test labels are read
once, by RelBench's evaluator, when a model is ready. `time` is from the query's text to the
finished model, `epoch` (of a network) one pass over the training seeds and one look at the
validation seeds.

Regimes: `frozen` cuts the database at the test timestamp, as RelBench's library does; `rolling`
lets every test seed see all rows until its own anchor, as some published systems do.

The interval is a bootstrap over the test anchors: seeds of one anchor are drawn together.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from relbench import load_dataset
from relbench.submit import write_prediction_table

from benchmarks.memory import peak_mb
from benchmarks.relbench import create_task
from relann import datasets
from relann.datasets import RelBenchTask
from relann.session import Session

REGIMES = ("frozen", "rolling")
_NETWORK = "epochs = 20, batch_size = 512, lr = 0.005, patience = 5"
DEFAULTS = {
    "sage": _NETWORK,
    "gat": _NETWORK,
    "hgt": _NETWORK,
    "relgnn": _NETWORK,
    # few leaves and columns at a time: better on driver-dnf's validation seeds and on two folds by
    # time of its training seeds than the defaults of trees (.816, .853, .862; .814, .840, .854)
    "dfs": "head = 'gbdt', leaves = 8, min_rows = 50, columns = 0.1, l2 = 1.0",
}
DRAWS = 1000  # of the bootstrap


@dataclass(frozen=True)
class Run:
    """One seed of a program: what it reached and what it took."""

    val: float
    test: float
    low: float
    high: float
    seconds: float
    epoch: float | None


@dataclass(frozen=True)
class Row:
    """All seeds of a program in one regime."""

    program: str
    regime: str
    metric: str
    runs: list[Run]
    mb: float


def main() -> None:
    """Print a Markdown table, one row for each program and regime."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", help="data set and task, as in rel-f1/driver-dnf")
    parser.add_argument("--data", type=Path, required=True, help="the data set's folder")
    parser.add_argument("--program", nargs="+", default=["sage", "dfs"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--regime", nargs="+", choices=REGIMES, default=list(REGIMES))
    parser.add_argument("--options", default=None, help="of CREATE MODEL, for all programs")
    parser.add_argument("--submit", type=Path, help="where to write the first seed's predictions")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(asdict(measured(given))))
        return
    print("| program | regime | validation | test | 95 % of test | time | epoch | memory |")
    print("|---|---|---|---|---|---|---|---|")
    for program in given.program:
        for regime in given.regime:
            print(told(in_process(given, program, regime)), flush=True)


def in_process(given: argparse.Namespace, program: str, regime: str) -> Row:
    """The row of one program and regime, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.tasks", given.task, "--one"]
    command += ["--data", str(given.data), "--program", program, "--regime", regime]
    command += ["--seeds", str(given.seeds)]
    if given.options is not None:
        command += ["--options", given.options]
    if given.submit is not None:
        command += ["--submit", str(given.submit)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    found = json.loads(done.stdout.splitlines()[-1])
    return Row(**{**found, "runs": [Run(**run) for run in found["runs"]]})


def measured(given: argparse.Namespace) -> Row:
    """The row of one program and regime, in this process."""
    (program,), (regime,) = given.program, given.regime
    (task,) = [t for t in datasets.relbench_tasks(given.data) if t.name == name_of(given.task)]
    judge = load_dataset(str(given.data)).load_task(task.name)
    session = datasets.load(given.data)
    create_task(session, task, regime)
    runs, metric = [], ""
    for seed in range(given.seeds):
        begin = time.perf_counter()
        session.sql(model(task, program, seed, given.options))
        seconds = time.perf_counter() - begin
        found = session.sql(
            f'SELECT "{task.entity_col}", "{task.time_col}", {predicted(task)} AS prediction '
            "FROM ml_predict('m')"
        ).df()
        val = judge.get_table("val")
        scores = judge.evaluate(matched(found, val.df, task), val)
        metric = next(iter(scores))
        asked = judge.get_table("test").df  # without labels
        predictions = matched(found, asked, task)
        test = judge.evaluate(predictions)[metric]
        low, high = interval(judge, predictions, task, metric)
        runs.append(Run(scores[metric], test, low, high, seconds, epoch_seconds(session)))
        if given.submit is not None and seed == 0:
            given.submit.mkdir(parents=True, exist_ok=True)
            path = given.submit / f"{given.task.replace('/', '__')}.csv"
            write_prediction_table(judge, predictions, path)
    return Row(program, regime, metric, runs, peak_mb())


def model(task: RelBenchTask, program: str, seed: int, options: str | None) -> str:
    """The statement that trains a program; numbers are learned by the metric they are judged by."""
    body = f"FROM {program}()" if program in DEFAULTS else Path(program).read_text()
    chosen = options or DEFAULTS.get(program, "")
    loss = "loss = 'mae'" if task.task_type == "regression" else ""
    listed = ", ".join(o for o in ("task = 't'", f"seed = {seed}", loss, chosen) if o)
    return f"CREATE OR REPLACE MODEL m OPTIONS ({listed}) AS {body}"


def predicted(task: RelBenchTask) -> str:
    """The column that RelBench wants: a probability, or the number itself."""
    return "probability" if task.task_type == "binary_classification" else "prediction"


def matched(found: pd.DataFrame, asked: pd.DataFrame, task: RelBenchTask) -> Any:
    """The predictions in the order of a task's table.

    A seed whose entity is not known at its anchor has none; it gets the mean of the others.
    """
    keys = [task.entity_col, task.time_col]
    rows = asked[keys].assign(**{task.time_col: asked[task.time_col].astype("datetime64[us]")})
    found = found.assign(**{task.time_col: found[task.time_col].astype("datetime64[us]")})
    merged = rows.merge(found, on=keys, how="left", validate="many_to_one")
    predictions = merged["prediction"].astype(float)
    return predictions.fillna(predictions.mean()).to_numpy()


def interval(judge: Any, predictions: Any, task: RelBenchTask, metric: str) -> tuple[float, float]:
    """The middle 95 % of the metric when the test anchors are drawn with replacement."""
    table = judge.get_table("test", mask_input_cols=False).df
    places = [np.flatnonzero(table[task.time_col] == t) for t in table[task.time_col].unique()]
    target = table[task.target_col].to_numpy()
    (function,) = [m for m in judge.metrics if m.__name__ == metric]
    draw = np.random.default_rng(0)
    found = []
    for _ in range(DRAWS):
        rows = np.concatenate([places[i] for i in draw.integers(0, len(places), len(places))])
        if metric != "roc_auc" or 0 < target[rows].mean() < 1:
            found.append(function(target[rows], predictions[rows]))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def epoch_seconds(session: Session) -> float | None:
    """The median time of an epoch of the newest model, None where it has none."""
    rows = session.sql("SELECT seconds FROM ml_training_info('m')").arrow().column(0).to_pylist()
    known = [s for s in rows if s is not None]
    return statistics.median(known) if known else None


def name_of(task: str) -> str:
    """The task's own name."""
    return task.rpartition("/")[2]


def told(row: Row) -> str:
    """A row of the table; means ± standard deviations over the seeds."""

    def over(values: list[float]) -> str:
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        return f"{statistics.mean(values):.4f} ± {spread:.4f}"

    runs = row.runs
    epochs = [r.epoch for r in runs if r.epoch is not None]
    cells = [
        row.program,
        row.regime,
        f"{row.metric} {over([r.val for r in runs])}",
        over([r.test for r in runs]),
        f"{statistics.mean(r.low for r in runs):.3f} – {statistics.mean(r.high for r in runs):.3f}",
        f"{statistics.median(r.seconds for r in runs):.1f} s",
        f"{statistics.median(epochs):.2f} s" if epochs else "–",
        f"{row.mb:,.0f} MB",
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
