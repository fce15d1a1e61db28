"""The selector beside other ways to choose: `python -m benchmarks.selector --table FILE`.

FILE is the published table of 24 tasks (see benchmarks/selector/published.py). Or `--bank`, the
bank that is shipped, `--bank FOLDER` another. Prints Markdown.

Regret is the mean relative loss to the better of the two, bounds are 90 % of bootstraps over
databases. Whatever learns is measured on databases that it has not seen: signals, learner and
intervals are picked anew without each of them.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from benchmarks.selector.published import MODEL_FREE, PROBES, SELECTED, THIRTEEN, published_cases
from relann.autoselect.bank import Bank, cases_of_bank
from relann.autoselect.cases import Cases
from relann.autoselect.evaluation import (
    Answered,
    Chooser,
    always,
    answers,
    by_sign,
    chosen,
    classifier,
    coin,
    judged,
    leave_one_database_out,
    leave_one_task_out,
    validation,
)
from relann.autoselect.selector import COVERAGE

SHIPPED = Path()

# With the sizes that the paper's own evaluation gives them.
CLASSIFIERS: dict[str, Chooser] = {
    "logistic regression": classifier(lambda: LogisticRegression(max_iter=1000)),
    "decision tree": classifier(lambda: DecisionTreeClassifier(max_depth=3, random_state=42)),
    "random forest": classifier(
        lambda: RandomForestClassifier(n_estimators=100, max_depth=5, random_state=42)
    ),
    "boosted trees": classifier(
        lambda: GradientBoostingClassifier(n_estimators=50, max_depth=3, random_state=42)
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.selector",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--table", type=Path, help="the published table")
    what.add_argument("--bank", type=Path, nargs="?", const=SHIPPED, help="a bank's folder")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore", ConvergenceWarning)
    if given.table:
        for selected in SELECTED:
            cases = published_cases(given.table, selected)
            _head(f"published, both sides selected by {selected}", cases)
            groups = {
                "13 signals": cases.with_signals(THIRTEEN),
                "all model-free signals": cases.with_signals(MODEL_FREE),
                "model-free signals, probes": cases.with_signals((*MODEL_FREE, *PROBES)),
            }
            _report(cases, groups, "13 signals")
    else:
        bank = Bank.shipped() if given.bank is SHIPPED else Bank.read(given.bank)
        cases = cases_of_bank(bank)
        _head("bank", cases)
        groups = {"all signals": cases}
        cheap = [name for name in cases.signals if not name.startswith("probe_")]
        if len(cheap) < len(cases.signals):
            groups = {"signals without probes": cases.with_signals(cheap), **groups}
        _report(cases, groups, next(iter(groups)))


def _head(what: str, cases: Cases) -> None:
    better = sum(c.gain > 0 for c in cases)
    print(f"\n### {what[0].upper()}{what[1:]}\n")
    print(
        f"{len(cases)} tasks of {len(cases.databases)} databases; message passing is better on "
        f"{better}.\n"
    )


def _report(cases: Cases, groups: dict[str, Cases], of_classifiers: str) -> None:
    print("| way to choose | right | regret | less always messages |\n|---|---|---|---|")

    def line(name: str, messages: Sequence[float]) -> None:
        found = judged(cases, messages)
        print(
            f"| {name} | {100 * found.accuracy:.0f} % "
            f"| {_percent(found.regret)} ({_percent(found.low)} … {_percent(found.high)}) "
            f"| {_percent(found.beyond, '+')} "
            f"({_percent(found.beyond_low, '+')} … {_percent(found.beyond_high, '+')}) |"
        )

    line("always messages", always("messages")(cases, cases))
    line("always features", always("features")(cases, cases))
    line("a coin", coin(cases, cases))
    validated = validation(cases)
    if validated is not None:
        line("validation, both trained", validated)
    for name, chooser in CLASSIFIERS.items():
        line(f"{name}, {of_classifiers}", leave_one_database_out(groups[of_classifiers], chooser))
    for name, chooser in CLASSIFIERS.items():
        line(
            f"{name}, {of_classifiers}, other tasks of the database seen",
            leave_one_task_out(groups[of_classifiers], chooser),
        )
    told: dict[str, list[Answered]] = {}
    ways: dict[str, Callable[[Answered], float]] = {
        "by the sign of what is expected": by_sign,
        "abstaining, then a coin": lambda a: 0.5,
        "abstaining, then messages": lambda a: 1.0,
    }
    for group, given in groups.items():
        told[group] = answers(given)
        for way, otherwise in ways.items():
            line(f"selector, {group}, {way}", chosen(told[group], otherwise))
        if validated is not None:
            by_name = {c.name: v for c, v in zip(cases, validated, strict=True)}
            line(
                f"selector, {group}, abstaining, then validation",
                chosen(told[group], lambda a, of=by_name: of[a.case.name]),
            )
    print(
        f"\n| selector | abstains | right where it does not | {COVERAGE:.0%} intervals that hold "
        "| median width | learners picked |\n|---|---|---|---|---|---|"
    )
    for group, found in told.items():
        print(f"| {group} | {_abstentions(found)} |")


def _abstentions(found: list[Answered]) -> str:
    spoken = [a for a in found if a.expected.choice is not None]
    right = sum((a.expected.choice == "messages") == (a.case.gain > 0) for a in spoken)
    widths = sorted(a.expected.high - a.expected.low for a in found)
    picked = {a.learner: len({b.case.database for b in found if b.learner == a.learner})
              for a in found}  # fmt: skip
    learners = ", ".join(f"{name} ({count})" for name, count in
                         sorted(picked.items(), key=lambda pair: -pair[1]))  # fmt: skip
    return (
        f"{len(found) - len(spoken)} of {len(found)} | {right} of {len(spoken)} "
        f"| {sum(a.covered for a in found)} of {len(found)} "
        f"| {_percent(widths[len(widths) // 2])} | {learners}"
    )


def _percent(value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f} %"


if __name__ == "__main__":
    main()
