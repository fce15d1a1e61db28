"""What is known of past tasks: their signals, and how much message passing gained on each."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from relann.errors import DataError, listing
from relann.models.metrics import is_better

Numbers = npt.NDArray[np.float64]
Row = Mapping[str, Any]

MESSAGES, FEATURES = "messages", "features"


def relative_gain(messages: float, features: float, smaller_is_better: bool) -> float:
    """How much better message passing is than aggregated features, as a share of the larger metric.

    0.05: one has 95 % of the other. Positive where message passing is better, whichever way the
    metric goes; (messages - features) / max of the two where larger is better. The loss of whoever
    picks the worse one is its size. 0 where both are 0. Raises DataError for negative and
    non-finite metrics, whose ratio says nothing.
    """
    if not (math.isfinite(messages) and math.isfinite(features)) or min(messages, features) < 0:
        raise DataError(
            f"a relative gain is of two finite metrics that are not negative, "
            f"not of {messages} and {features}"
        )
    larger = max(messages, features)
    gain = (messages - features) / larger if larger else 0.0
    return -gain if smaller_is_better else gain


@dataclass(frozen=True)
class Case:
    """One task that was solved in both ways.

    signals    numbers by name; what is unknown is missing, NaN or infinite
    gain       `relative_gain` on test
    validated  `relative_gain` on validation, what one sees who has trained both; None if unknown
    """

    database: str
    task: str
    signals: Mapping[str, float]
    gain: float
    validated: float | None = None

    @property
    def name(self) -> str:
        """Database and task."""
        return f"{self.database}/{self.task}"


@dataclass(frozen=True)
class Cases:
    """Tasks in a fixed order, one row each."""

    rows: tuple[Case, ...]

    @classmethod
    def of(cls, rows: Iterable[Case]) -> Cases:
        """Cases in order of their names. DataError if a task is there twice or has no gain."""
        ordered = tuple(sorted(rows, key=lambda c: (c.database, c.task)))
        for case, following in pairwise(ordered):
            if case.name == following.name:
                raise DataError(f"the task {case.name} is there twice")
        if wrong := [c.name for c in ordered if not math.isfinite(c.gain)]:
            raise DataError(f"no gain is known of {listing(wrong)}")
        return cls(ordered)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Case]:
        return iter(self.rows)

    @property
    def databases(self) -> tuple[str, ...]:
        """Each once, in order."""
        return tuple(dict.fromkeys(c.database for c in self.rows))

    @property
    def gains(self) -> Numbers:
        """One for each row."""
        return np.array([c.gain for c in self.rows])

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of all signals that any row has, sorted."""
        return tuple(sorted({name for c in self.rows for name in c.signals}))

    def matrix(self, names: Sequence[str]) -> Numbers:
        """Rows × these signals; NaN for what is missing or not finite."""
        return matrix([c.signals for c in self.rows], names)

    def without(self, database: str) -> Cases:
        """The rows of other databases."""
        return Cases(tuple(c for c in self.rows if c.database != database))

    def only(self, database: str) -> Cases:
        """The rows of one database."""
        return Cases(tuple(c for c in self.rows if c.database == database))

    def with_signals(self, names: Iterable[str]) -> Cases:
        """The same rows with these signals alone. DataError for one that no row has."""
        kept = tuple(names)
        if unknown := [name for name in kept if name not in self.signals]:
            raise DataError(f"no task has the signal {listing(unknown)}")
        return Cases(
            tuple(
                Case(
                    c.database,
                    c.task,
                    {n: c.signals[n] for n in kept if n in c.signals},
                    c.gain,
                    c.validated,
                )
                for c in self.rows
            )
        )


def matrix(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> Numbers:
    """Rows × signals; NaN for what is missing or not finite."""
    found = np.array([[row.get(n, math.nan) for n in names] for row in rows], dtype=np.float64)
    found = found.reshape(len(rows), len(names))
    return np.where(np.isfinite(found), found, math.nan)


def cases_of_runs(runs: Iterable[Row], signals: Iterable[Row]) -> Cases:
    """Cases of a bank of trained models.

    A run has `database`, `task`, `family` ('messages' or 'features'; others are passed over),
    `metric`, `validation` and `test`. Of each family the run that validated best stands for it.
    Tasks with one family alone are left out, runs without a finite validation and test too. A
    signal has `database`, `task`, `signal`, `path` and `value`, as `ml_signals` gives them; what is
    of a path enters as its mean and largest value over paths, `signal.mean` and `signal.max`.

    Raises DataError for runs of one task with different metrics, for metrics that are negative and
    where no task is left.
    """
    best: dict[tuple[str, str], dict[str, Row]] = defaultdict(dict)
    for run in runs:
        if run["family"] not in (MESSAGES, FEATURES) or not _known(run["validation"], run["test"]):
            continue
        families = best[run["database"], run["task"]]
        for other in families.values():
            if other["metric"] != run["metric"]:
                raise DataError(
                    f"runs of {run['database']}/{run['task']} are measured by "
                    f"{other['metric']} and {run['metric']}"
                )
        standing = families.get(run["family"])
        than = None if standing is None else standing["validation"]
        if is_better(run["metric"], run["validation"], than):
            families[run["family"]] = run
    known = _by_task(signals)
    found = []
    for (database, task), families in best.items():
        if len(families) == 2:
            messages, features = families[MESSAGES], families[FEATURES]
            # A metric of which smaller is better: a smaller value beats a larger one.
            smaller = is_better(messages["metric"], 0.0, 1.0)
            test, validation = (
                relative_gain(messages[part], features[part], smaller)
                for part in ("test", "validation")
            )
            found.append(Case(database, task, known.get((database, task), {}), test, validation))
    if not found:
        raise DataError("no task of the bank was solved both by message passing and by features")
    return Cases.of(found)


def signals_of_rows(signals: Iterable[Row]) -> dict[str, float]:
    """One task's signals by name, as `cases_of_runs` makes them of its rows."""
    found = list(_by_task(signals).values())
    return found[0] if found else {}


def _by_task(signals: Iterable[Row]) -> dict[tuple[str, str], dict[str, float]]:
    whole: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    of_paths: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in signals:
        if not _known(row["value"]):
            continue
        if row["path"] is None or row["path"] != row["path"]:  # data frames say NaN for NULL
            whole[row["database"], row["task"]][row["signal"]] = float(row["value"])
        else:
            of_paths[row["database"], row["task"], row["signal"]].append(float(row["value"]))
    for (database, task, signal), values in of_paths.items():
        whole[database, task][f"{signal}.mean"] = fmean(values)
        whole[database, task][f"{signal}.max"] = max(values)
    return whole


def _known(*values: float | None) -> bool:
    return all(value is not None and math.isfinite(value) for value in values)
