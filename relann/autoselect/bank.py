"""The bank: what trials of many programs on many tasks gave, and what signals said before."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from relann.autoselect.cases import Cases, cases_of_runs
from relann.autoselect.ground import Signal
from relann.autoselect.trials import COLUMNS as TRIALS
from relann.autoselect.trials import Trial, as_table, of_table, ranked
from relann.errors import DataError, QueryError, did_you_mean, listing

SIGNALS = pa.schema(
    [
        ("database", pa.string()),
        ("task", pa.string()),
        ("signal", pa.string()),
        ("path", pa.string()),
        ("value", pa.float64()),
        ("rows", pa.int64()),
    ]
)

_TRIALS, _SIGNALS = "trials.parquet", "signals.parquet"


@dataclass(frozen=True)
class Bank:
    """Trials, and the signals of their tasks (SIGNALS has their columns)."""

    trials: tuple[Trial, ...]
    signals: pa.Table

    @classmethod
    def shipped(cls) -> Bank:
        """The bank that comes with relann; docs/autoselect.md says how it was built."""
        with as_file(files("relann.autoselect") / "bank_of_trials") as folder:
            return cls.read(folder)

    @classmethod
    def read(cls, folder: Path) -> Bank:
        """The bank in a folder; DataError where there is none."""
        tables = []
        for name, schema in ((_TRIALS, TRIALS), (_SIGNALS, SIGNALS)):
            try:
                table = parquet.read_table(folder / name)
            except FileNotFoundError as error:
                raise DataError(f"{folder} has no {name}: it holds no bank") from error
            except pa.ArrowInvalid as error:
                raise DataError(f"{folder / name} is no Parquet file: {error}") from error
            if missing := [n for n in schema.names if n not in table.column_names]:
                raise DataError(f"{folder / name} lacks the column `{missing[0]}`")
            tables.append(table.select(schema.names).cast(schema))
        return cls(tuple(of_table(tables[0])), tables[1])

    def write(self, folder: Path) -> None:
        """Keep the bank in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        parquet.write_table(as_table(self.trials), folder / _TRIALS, compression="zstd")
        parquet.write_table(self.signals, folder / _SIGNALS, compression="zstd")

    def joined(self, other: Bank) -> Bank:
        """Both; of one trial, or of one task's signals, in both the other's count."""
        trials = {key(t): t for t in (*self.trials, *other.trials)}
        ours, theirs = self.signals.to_pylist(), other.signals.to_pylist()
        anew = {(s["database"], s["task"]) for s in theirs}
        kept = [s for s in ours if (s["database"], s["task"]) not in anew]
        table = pa.Table.from_pylist([*kept, *theirs], schema=SIGNALS)
        return Bank(tuple(trials.values()), table)

    def without(self, database: str) -> Bank:
        """The rest; QueryError for a database it has not."""
        known = sorted({name for name, _ in self.tasks})
        if database not in known:
            raise QueryError(
                f"the bank has no database `{database}`; it has {listing(known, 20)}."
                + did_you_mean(database, known)
            )
        kept = [s for s in self.signals.to_pylist() if s["database"] != database]
        return Bank(
            tuple(t for t in self.trials if t.database != database),
            pa.Table.from_pylist(kept, schema=SIGNALS),
        )

    @property
    def tasks(self) -> list[tuple[str, str]]:
        """(database, task), in order."""
        return sorted({(t.database, t.task) for t in self.trials})


def key(trial: Trial) -> tuple[str, str, str, int]:
    """What makes two trials the same."""
    return trial.database, trial.task, trial.point, trial.seed


def signal_rows(database: str, task: str, found: Sequence[Signal]) -> list[dict[str, object]]:
    """A task's signals as rows of SIGNALS."""
    return [
        {"database": database, "task": task, "signal": s.signal, "path": s.path,
         "value": s.value, "rows": s.rows}
        for s in found
    ]  # fmt: skip


def cases_of_bank(bank: Bank) -> Cases:
    """What the selector learns from: of each task the best validated trial of each family."""
    rows = [vars(t) for t in bank.trials if t.error is None]
    return cases_of_runs(rows, bank.signals.to_pylist())


def summary(bank: Bank) -> list[list[str]]:
    """A line for each task: database, task, metric, trials, failed ones, and of each family the
    test metric of the trial that validated best."""
    lines = []
    for database, task in bank.tasks:
        trials = [t for t in bank.trials if (t.database, t.task) == (database, task)]
        told = []
        for family in ("messages", "features"):
            best = next(iter(ranked(t for t in trials if t.family == family)), None)
            told.append("–" if best is None or best.test is None else f"{best.test:.4f}")
        failed = sum(t.error is not None for t in trials)
        lines.append([database, task, trials[0].metric, str(len(trials)), str(failed), *told])
    return lines


class Journal:
    """Rows on disk, one a line as JSON, that outlive the process that was killed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> Iterator[dict[str, object]]:
        """All whole rows; a last one that was cut off is passed over."""
        if not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue

    def add(self, rows: Iterable[dict[str, object]]) -> None:
        """Append rows and see to it that they are on disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        cut_off = self.path.exists() and not self.path.read_bytes().endswith(b"\n")
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" if cut_off else "")
            for row in rows:
                file.write(json.dumps(row) + "\n")
