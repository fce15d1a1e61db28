"""Builds a bank: trains the points of a design on all tasks of the bank's databases."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import torch

from relann.autoselect.bank import SIGNALS, Bank, Journal, key, signal_rows
from relann.autoselect.signals import signals
from relann.autoselect.space import TEMPLATES, design
from relann.autoselect.trials import Trial, examined, planned, run, score
from relann.bank_databases import names, opened
from relann.discovery import discover
from relann.errors import QueryError, RelannError, did_you_mean, listing
from relann.lifecycle import Lifecycle
from relann.models.learning import Epoch

log = logging.getLogger("relann")

EACH: Mapping[str, int] = {"dfs": 4, "dfs_mlp": 2, "sage": 2, "gat": 2, "relgnn": 2, "hgt": 1}
"""How many points of each template a bank tries, its default among them."""

LIMIT = 120.0
"""Seconds after which a training ends with what it has."""


def build(
    data: Path, out: Path, databases: Sequence[str] = (), jobs: int = 1, each: int | None = None
) -> Bank:
    """The bank of some databases (none: all), from data sets in a folder; kept in `out` as well.

    Trials run in `jobs` processes, one database at a time in each, and each is kept when it is
    done: what is in `out` already does not run again. `each` bounds how many points of each
    template are tried. Raises QueryError for an unknown database, DataError where data are missing.
    """
    chosen = list(databases) or names()
    for name in chosen:
        if name not in names():
            raise QueryError(
                f"the bank has no database `{name}`; it has {listing(names(), 20)}."
                + did_you_mean(name, names())
            )
    out.mkdir(parents=True, exist_ok=True)
    waiting = list(chosen)
    running: dict[str, subprocess.Popen[bytes]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            name = waiting.pop(0)
            command = [sys.executable, "-m", "relann.bank_build", str(data), str(out), name]
            command += [] if each is None else [str(each)]
            running[name] = subprocess.Popen(command)
        for name, process in list(running.items()):
            if process.poll() is not None:
                del running[name]
                if process.returncode:
                    log.warning("%s ended with code %d", name, process.returncode)
        time.sleep(0.2)
    return gathered(out)


def gathered(out: Path) -> Bank:
    """The bank of the journals in a folder, kept there as Parquet too."""
    trials: list[Trial] = []
    found: list[dict[str, object]] = []
    for path in sorted(out.glob("*.trials.jsonl")):
        trials += [Trial(**row) for row in Journal(path).rows()]  # type: ignore[arg-type]
    for path in sorted(out.glob("*.signals.jsonl")):
        found += Journal(path).rows()
    latest = {key(t): t for t in trials}
    ordered = sorted(latest.values(), key=lambda t: (t.database, t.task, t.template, t.point))
    said = {(s["database"], s["task"], s["signal"], s["path"]): s for s in found}
    bank = Bank(tuple(ordered), pa.Table.from_pylist(list(said.values()), schema=SIGNALS))
    bank.write(out)
    return bank


def of_database(data: Path, out: Path, name: str, each: int | None = None) -> None:
    """Run what is missing of one database, point by point over its tasks."""
    torch.set_num_threads(1)  # trials run side by side
    session = opened(name, data)
    session.connection.execute("SET threads = 1")
    lifecycle = Lifecycle(session.connection, session.store)
    schema = discover(session.connection)
    tasks = session.store.tasks()
    said = Journal(out / f"{name}.signals.jsonl")
    known = {row["task"] for row in said.rows()}
    for task in tasks:
        if task.name not in known:
            found = signals(session.connection, lifecycle.engine, task, schema)
            said.add(signal_rows(name, task.name, found))
            log.warning("%s/%s: %d signals", name, task.name, len(found))
    journal = Journal(out / f"{name}.trials.jsonl")
    done = {key(Trial(**row)) for row in journal.rows()}  # type: ignore[arg-type]
    counts = {n: min(c, each or c) for n, c in EACH.items()}
    for point in design(TEMPLATES, counts):
        (template,) = [t for t in TEMPLATES if t.name == point.template]
        for task in tasks:
            own = template.for_task(task).point(point.knobs)
            trial = planned(name, task, own, 0)
            if key(trial) in done:
                continue
            began = time.perf_counter()

            def late(epoch: Epoch, began: float = began) -> bool:
                return time.perf_counter() - began > LIMIT

            trial, fitted = run(trial, own, task, lifecycle.fitted, late)
            if fitted is not None:
                try:
                    trial = replace(examined(trial, fitted, task), test=score(fitted, "test"))
                except RelannError as error:
                    trial = replace(trial, error=f"{type(error).__name__}: {error}")
            journal.add([asdict(trial)])
            done.add(key(trial))
            log.warning(
                "%s/%s %s: validation %s, test %s, %.0f s%s",
                name, task.name, own.template, trial.validation, trial.test,
                time.perf_counter() - began, "" if trial.error is None else f", {trial.error}",
            )  # fmt: skip


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    source, target, database, *most = sys.argv[1:]
    of_database(Path(source), Path(target), database, *map(int, most))
