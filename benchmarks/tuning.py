"""Does more tuning help, and does the guard: what a search of n trials would have chosen.

    python -m benchmarks.tuning [--bank FOLDER] [--regime frozen] \
        [--orders 200] [--chart tuning.png]

No model is trained. Of each task of a bank the trials are put in random orders; of the first n the
one that validates best is chosen, or the one the guard votes for among those that are near-equal by
validation (relann.autoselect.guard). What is lost is (best test metric of all trials of the task -
the chosen one's) / best, on average over orders. Intervals: tasks drawn again by database, 1,000
times, 95 %.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import numpy.typing as npt

from relann.autoselect.bank import Bank
from relann.autoselect.guard import finalists, vote
from relann.autoselect.trials import Trial
from relann.models.metrics import SMALLER_IS_BETTER

Choose = Callable[[Sequence[Trial]], Trial]
Numbers = npt.NDArray[np.float64]

FINALISTS = 3
DRAWS = 1000


def by_validation(trials: Sequence[Trial]) -> Trial:
    """The one that validates best."""
    return finalists(trials, 1)[0]


def guarded(trials: Sequence[Trial]) -> Trial:
    """The finalist that the guard votes for."""
    near = finalists(trials, FINALISTS)
    return near[vote(near).choice]


def by_fold(trials: Sequence[Trial]) -> Trial:
    """The one with the best mean rank by validation and an earlier fold, of all trials."""
    known = [t for t in trials if t.fold is not None]
    if not known:
        return by_validation(trials)
    sign = 1 if trials[0].metric in SMALLER_IS_BETTER else -1
    ranks = sum(
        np.argsort(np.argsort([sign * getattr(t, part) for t in known]))
        for part in ("validation", "fold")
    )
    return known[int(np.argmin(ranks))]


def by_as_test(trials: Sequence[Trial]) -> Trial:
    """The best on validation with the database cut as for test, where that is another thing."""
    known = [replace(t, validation=t.as_test) for t in trials if t.as_test is not None]
    if not known:
        return by_validation(trials)
    return by_validation(known)


CHOICES: dict[str, Choose] = {
    "best validation": by_validation,
    "guard": guarded,
    "as_test, of all": by_as_test,
    "validation and fold, of all": by_fold,
}


def lost(trials: Sequence[Trial], choose: Choose, orders: int, seed: int) -> Numbers:
    """Mean loss of the choice among the first n trials, for n from 1 to all."""
    smaller = trials[0].metric in SMALLER_IS_BETTER
    tests = [t.test or 0.0 for t in trials]
    best = min(tests) if smaller else max(tests)
    source = np.random.default_rng(seed)
    found = np.zeros((orders, len(trials)))
    for number in range(orders):
        order = [trials[i] for i in source.permutation(len(trials))]
        for count in range(1, len(trials) + 1):
            test = choose(order[:count]).test or 0.0
            found[number, count - 1] = abs(best - test) / (abs(best) or 1.0)
    return found.mean(axis=0)


def interval(values: Numbers, databases: Sequence[str]) -> tuple[float, float]:
    """95 % of the mean when databases are drawn again."""
    groups = [np.flatnonzero(np.array(databases) == d) for d in sorted(set(databases))]
    source = np.random.default_rng(0)
    means = []
    for _ in range(DRAWS):
        drawn = source.integers(0, len(groups), len(groups))
        means.append(values[np.concatenate([groups[i] for i in drawn])].mean())
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Print what each way to choose loses after n trials, and where more trials lose more."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bank", type=Path, help="a folder; the bank that is shipped")
    parser.add_argument("--regime", choices=("frozen", "rolling"), help="tasks of one only")
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--chart", type=Path)
    given = parser.parse_args()
    bank = Bank.shipped() if given.bank is None else Bank.read(given.bank)
    tasks: dict[tuple[str, str], list[Trial]] = defaultdict(list)
    for trial in bank.trials:
        if given.regime not in (None, trial.regime):
            continue
        if trial.error is None and trial.validation is not None and trial.test is not None:
            tasks[trial.database, trial.task].append(trial)
    fewest = min(map(len, tasks.values()))
    names = sorted(tasks)
    databases = [database for database, _ in names]
    curves = {
        name: np.array([lost(tasks[t], choose, given.orders, 0)[:fewest] for t in names])
        for name, choose in CHOICES.items()
    }
    print(f"{len(names)} tasks of {len(set(databases))} databases, {fewest} trials each or more\n")
    shown = sorted({1, 2, 3, 4, 6, 8, 10, fewest})
    shown = [n for n in shown if n <= fewest]
    print("| loss after n trials | " + " | ".join(map(str, shown)) + " |")
    print("|---" * (len(shown) + 1) + "|")
    for name, curve in curves.items():
        cells = []
        for n in shown:
            low, high = interval(curve[:, n - 1], databases)
            cells.append(f"{curve[:, n - 1].mean():.1%} ({low:.1%} – {high:.1%})")
        print(f"| {name} | " + " | ".join(cells) + " |")
    print()
    for name, curve in curves.items():
        worse = [i for i in range(len(names)) if curve[i, -1] > curve[i, :-1].min() + 1e-12]
        told = ", ".join(
            f"{names[i][1]} ({curve[i, :-1].min():.1%} after {curve[i, :-1].argmin() + 1}, "
            f"{curve[i, -1]:.1%} after {fewest})"
            for i in sorted(worse, key=lambda i: curve[i, :-1].min() - curve[i, -1])[:6]
        )
        print(f"{name}: {len(worse)} of {len(names)} tasks lose more after all trials: {told}")
    if given.chart is not None:
        draw(curves, given.chart)


def draw(curves: dict[str, Numbers], path: Path) -> None:
    """The mean curves as a picture."""
    figure = import_module("matplotlib.figure").Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot(range(1, curve.shape[1] + 1), 100 * curve.mean(axis=0), marker="o", label=name)
    axes.set_xlabel("trials")
    axes.set_ylabel("lost to the best trial on test, %")
    axes.legend()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
