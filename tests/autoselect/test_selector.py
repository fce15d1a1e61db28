"""The selector on cases where the answer is known, and what its evaluation says of it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.selector.__main__ import main
from benchmarks.selector.published import THIRTEEN, published_cases
from relann.autoselect.bank import SIGNALS, Bank
from relann.autoselect.cases import Case, Cases, cases_of_runs, relative_gain
from relann.autoselect.evaluation import (
    Answered,
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
from relann.autoselect.learners import LEARNERS, Learner, Ranks
from relann.autoselect.selector import Expected, Selector
from relann.errors import DataError
from tests.autoselect.trials import trial

FEW = tuple(x for x in LEARNERS if x.name == "mean" or x.name.startswith("ridge"))
"""The quick ones."""


def simulated(decides: float, noise: float, seed: int = 0, databases: int = 8) -> Cases:
    """Four tasks a database; the gain is `decides` times the signal s, and noise."""
    draw = np.random.default_rng(seed)
    rows = []
    for number in range(4 * databases):
        signals = {name: float(draw.normal()) for name in ("s", "a", "b", "c", "d")}
        gain = decides * signals["s"] + noise * draw.normal()
        if number % 5 == 0:
            signals["a"] = math.nan
        rows.append(Case(f"d{number % databases}", f"t{number:02}", signals, float(gain)))
    return Cases.of(rows)


def few(cases: Cases) -> Selector:
    return Selector.fit(cases, learners=FEW)


# -- gains and cases -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "features", "smaller", "gain"),
    [(0.8, 0.6, False, 0.25), (0.6, 0.8, False, -0.25), (3.0, 4.0, True, 0.25),
     (4.0, 3.0, True, -0.25), (0.0, 0.0, True, 0.0), (0.0, 2.0, False, -1.0)],
)  # fmt: skip
def test_a_gain_is_a_share_of_the_larger_metric(
    messages: float, features: float, smaller: bool, gain: float
) -> None:
    assert relative_gain(messages, features, smaller) == pytest.approx(gain)


@pytest.mark.parametrize("wrong", [-0.1, math.nan, math.inf])
def test_a_gain_of_metrics_that_have_none(wrong: float) -> None:
    with pytest.raises(DataError, match="two finite metrics that are not negative"):
        relative_gain(wrong, 0.5, False)


def _run(task: str, family: str, validation: float, test: float, metric: str) -> dict:
    return {"database": "d", "task": task, "family": family, "metric": metric,
            "validation": validation, "test": test, "seconds": 1.0}  # fmt: skip


def test_the_run_that_validated_best_stands_for_its_family() -> None:
    runs = [
        _run("rises", "messages", 0.7, 0.5, "auroc"),
        _run("rises", "messages", 0.8, 0.6, "auroc"),
        _run("rises", "features", 0.4, 0.8, "auroc"),
        _run("rises", "features", math.nan, 0.9, "auroc"),
        _run("falls", "messages", 2.0, 4.0, "mae"),
        _run("falls", "messages", 3.0, 1.0, "mae"),
        _run("falls", "features", 4.0, 3.0, "mae"),
        _run("falls", "both", 0.1, 0.1, "mae"),
        _run("alone", "features", 0.1, 0.1, "mae"),
    ]
    signals = [
        {"database": "d", "task": "rises", "signal": "rows", "path": None, "value": 7},
        {"database": "d", "task": "rises", "signal": "fan_out", "path": "a", "value": 1.0},
        {"database": "d", "task": "rises", "signal": "fan_out", "path": "b", "value": 3.0},
        {"database": "d", "task": "rises", "signal": "drift", "path": None, "value": None},
    ]
    falls, rises = cases_of_runs(runs, signals)
    assert (falls.name, falls.gain, falls.validated) == ("d/falls", -0.25, 0.5)
    assert (rises.name, rises.gain, rises.validated) == ("d/rises", pytest.approx(-0.25), 0.5)
    assert falls.signals == {}
    assert rises.signals == {"rows": 7.0, "fan_out.mean": 2.0, "fan_out.max": 3.0}


def test_a_bank_that_makes_no_cases() -> None:
    one = _run("t", "messages", 0.5, 0.5, "auroc")
    with pytest.raises(DataError, match="both by message passing and by features"):
        cases_of_runs([one], [])
    with pytest.raises(DataError, match="d/t are measured by auroc and ap"):
        cases_of_runs([one, _run("t", "features", 0.5, 0.5, "ap")], [])


def test_cases_that_are_none() -> None:
    case = Case("d", "t", {"s": 1.0}, 0.1)
    with pytest.raises(DataError, match="d/t is there twice"):
        Cases.of([case, case])
    with pytest.raises(DataError, match="no gain is known of d/t"):
        Cases.of([Case("d", "t", {}, math.nan)])
    with pytest.raises(DataError, match="no task has the signal x"):
        Cases.of([case]).with_signals(["s", "x"])


# -- learners ------------------------------------------------------------------------------------


def test_ranks_are_among_the_tasks_seen() -> None:
    x = np.array([[1.0, 5.0, math.nan], [2.0, 5.0, math.nan], [2.0, 5.0, 1.0], [9.0, 5.0, 3.0]])
    ranks = Ranks.of(x)
    assert ranks.columns == (0, 2)  # one value alone is no signal
    asked = np.array([[0.0, 1.0, 0.0], [2.0, 1.0, math.nan], [99.0, 1.0, 3.0]])
    assert ranks(asked).tolist() == [[-1.0, -1.0], [0.0, 0.0], [1.0, 0.5]]
    assert Ranks.of(x[:3]).columns == (0,)  # mostly missing


@pytest.mark.parametrize("learner", LEARNERS, ids=lambda x: x.name)
def test_every_learner_does_with_little(learner: Learner) -> None:
    """One task, no signals, signals that say nothing: the mean of the gains at the least."""
    for x in (np.zeros((1, 0)), np.zeros((1, 3)), np.full((1, 2), math.nan)):
        assert learner.fit(x, np.array([0.2]))(x) == pytest.approx([0.2])
    x, gains = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([-0.2, -0.1, 0.1, 0.2])
    found = learner.fit(x, gains)(x)
    assert np.isfinite(found).all() and found[3] >= found[0]


# -- the selector --------------------------------------------------------------------------------


def test_a_signal_that_decides_is_found() -> None:
    """On databases that were left out, without being told which signal it is."""
    cases = simulated(decides=0.1, noise=0.01)
    found = answers(cases, few)
    assert all(a.learner != "mean" for a in found)
    spoken = [a for a in found if a.expected.choice is not None]
    assert len(spoken) >= 0.4 * len(cases)
    assert all((a.expected.choice == "messages") == (a.case.gain > 0) for a in spoken)
    lost = judged(cases, chosen(found, by_sign)).regret
    assert lost < 0.1 * judged(cases, coin(cases, cases)).regret
    selector = few(cases)
    clear = {"s": 2.5, "a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0}
    assert selector.choice(clear) == "messages"
    assert selector.choice(clear | {"s": -2.5}) == "features"
    assert selector.choice(clear | {"s": 0.0}) is None
    said = selector.reasons(clear)
    assert said[0].startswith(
        "message passing should be better: expected gain of message passing +"
    )
    assert "80% interval" in said[0] and said[1].startswith(
        f"learner: {selector.learner.name}; of "
    )
    assert said[2].startswith("moved by s = 2.5: +")
    assert said[-1].startswith("nearest tasks: d") and said[-1].count("%") == 3


def test_the_same_cases_give_the_same_selector() -> None:
    cases = simulated(decides=0.1, noise=0.1)
    one, other = (Selector.fit(cases) for _ in range(2))
    assert one.learner == other.learner and one.picked == other.picked
    for case in cases.rows[:5]:
        assert one.predict(case.signals) == other.predict(case.signals)


def test_noise_is_abstained_from() -> None:
    abstained = [
        a.expected.choice is None
        for seed in range(3)
        for a in answers(simulated(0.0, 0.1, seed), lambda c: Selector.fit(c, learners=FEW[:5]))
    ]
    assert np.mean(abstained) > 0.95


def test_gains_that_are_all_alike_need_no_signal() -> None:
    rows = [Case(f"d{i % 4}", f"t{i}", {"s": float(i)}, 0.1 + 0.001 * (i % 3)) for i in range(16)]
    selector = few(Cases.of(rows))
    assert selector.choice({}) == selector.choice({"s": 3.0, "unheard": 1.0}) == "messages"
    assert selector.predict({}).gain == pytest.approx(0.101, abs=0.002)


@pytest.mark.parametrize("coverage", [0.5, 0.8])
@pytest.mark.parametrize("decides", [0.0, 0.1])
def test_intervals_hold_as_often_as_they_say(coverage: float, decides: float) -> None:
    """On databases that were left out, over several simulated banks."""
    covered = [
        a.covered
        for seed in range(6)
        for a in answers(
            simulated(decides, 0.1, seed), lambda c: Selector.fit(c, coverage, learners=FEW[:3])
        )
    ]
    assert coverage - 0.08 < np.mean(covered) < coverage + 0.12


def test_too_few_tasks_for_a_coverage_give_no_bounds() -> None:
    cases = Cases.of(Case(f"d{i}", "t", {"s": float(i)}, 0.1) for i in range(3))
    expected = Selector.fit(cases, 0.9).predict({"s": 1.0})
    assert (expected.low, expected.high, expected.choice) == (-math.inf, math.inf, None)


def test_two_databases_are_too_few() -> None:
    cases = Cases.of(Case("ab"[i % 2], f"t{i}", {"s": float(i)}, 0.1) for i in range(9))
    with pytest.raises(DataError, match="it needs 3 or more; the tasks are of 2"):
        Selector.fit(cases)


@pytest.mark.parametrize("coverage", [0.0, 1.0, 80.0, math.nan])
def test_a_coverage_is_a_share(coverage: float) -> None:
    with pytest.raises(DataError, match=r"between 0 and 1, such as 0\.8, not "):
        Selector.fit(simulated(0.1, 0.1), coverage)


@pytest.mark.parametrize(
    ("low", "high", "choice"),
    [(0.01, 0.2, "messages"), (-0.2, -0.01, "features"), (-0.1, 0.1, None), (0.0, 0.1, None)],
)
def test_an_interval_that_straddles_zero_chooses_nothing(
    low: float, high: float, choice: str | None
) -> None:
    assert Expected(0.0, low, high).choice == choice


# -- its evaluation ------------------------------------------------------------------------------

KNOWN = Cases.of(
    [Case("a", "1", {"s": 1.0}, 0.2, 0.1), Case("a", "2", {"s": 1.0}, 0.1, -0.1),
     Case("b", "3", {"s": 0.0}, -0.3, -0.2), Case("c", "4", {"s": 0.0}, 0.0, 0.0)]
)  # fmt: skip


@pytest.mark.parametrize(
    ("messages", "accuracy", "regret"),
    [
        (always("messages")(KNOWN, KNOWN), 0.75, 0.3 / 4),
        (always("features")(KNOWN, KNOWN), 0.5, 0.3 / 4),
        (coin(KNOWN, KNOWN), 0.625, 0.3 / 4),
        (validation(KNOWN), 0.75, 0.1 / 4),
        ([1.0, 1.0, 0.0, 0.5], 1.0, 0.0),
    ],
)
def test_accuracy_and_regret(messages: list[float], accuracy: float, regret: float) -> None:
    found = judged(KNOWN, messages)
    assert found.accuracy == pytest.approx(accuracy) and found.regret == pytest.approx(regret)
    assert found.low - 1e-12 <= found.regret <= found.high + 1e-12
    assert found.beyond == pytest.approx(regret - 0.3 / 4)
    assert found == judged(KNOWN, messages)


def test_abstentions_do_what_one_says() -> None:
    told = [Answered(c, Expected(c.gain, c.gain - 0.15, c.gain + 0.15), "mean") for c in KNOWN]
    assert chosen(told, lambda a: 0.5) == [1.0, 0.5, 0.0, 0.5]
    assert chosen(told, by_sign) == [1.0, 1.0, 0.0, 0.0]
    assert all(a.covered for a in told)


def test_what_validation_says_needs_every_task() -> None:
    assert validation(Cases.of([*KNOWN, Case("z", "5", {}, 0.1)])) is None


def test_nothing_is_learned_from_what_is_left_out() -> None:
    seen: list[tuple[set[str], set[str]]] = []

    def spy(known: Cases, asked: Cases) -> list[float]:
        seen.append(({c.name for c in known}, {c.name for c in asked}))
        return [1.0] * len(asked)

    leave_one_database_out(KNOWN, spy)
    assert seen == [({"b/3", "c/4"}, {"a/1", "a/2"}), ({"a/1", "a/2", "c/4"}, {"b/3"}),
                    ({"a/1", "a/2", "b/3"}, {"c/4"})]  # fmt: skip
    seen.clear()
    leave_one_task_out(KNOWN, spy)
    assert [len(known) for known, _ in seen] == [3, 3, 3, 3]
    fitted: list[tuple[str, ...]] = []

    def fit(cases: Cases) -> Selector:
        fitted.append(cases.databases)
        return few(cases)

    cases = simulated(0.1, 0.1, databases=4)
    answers(cases, fit)
    assert fitted == [tuple(d for d in cases.databases if d != left) for left in cases.databases]


def test_a_classifier_of_one_class_gives_it() -> None:
    known = Cases.of(Case("a", f"t{i}", {"s": float(i)}, 0.1) for i in range(3))

    def none() -> None:
        raise AssertionError("nothing is there to be classified")

    assert classifier(none)(known, KNOWN) == [1.0] * 4


@pytest.mark.parametrize(
    ("selected", "regret", "better"), [("val", 0.024, 15), ("test", 0.009, 19)]
)
def test_the_published_table(
    selected: str, regret: float, better: int, real_data: Callable[[str], Path]
) -> None:
    """Always message passing loses what the published columns of advantages say."""
    file = real_data("leaderboard/task_feature_summary.csv")
    cases = published_cases(file, selected)
    assert (len(cases), len(cases.databases)) == (24, 9)
    assert sum(c.gain > 0 for c in cases) == better
    assert judged(cases, always("messages")(cases, cases)).regret == pytest.approx(regret, abs=5e-4)
    assert cases.with_signals(THIRTEEN).matrix(THIRTEEN).shape == (24, 13)
    columns = file.read_text("utf-8").splitlines()
    place = columns[0].split(",").index(f"rdl_advantage_selected_by_{selected}")
    said = {"/".join(row.split(",")[:2]): float(row.split(",")[place]) for row in columns[1:]}
    assert all(abs(c.gain - said[c.name]) < 0.02 for c in cases)  # of metrics that are rounded


def test_the_page_s_example_says_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "autoselect.md").read_text("utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("message passing should be better") and len(said) >= 4
    asked = re.findall(r"selector\.choice\((.*)\)\s+# ('messages'|None)", code)
    assert len(asked) == 2
    for signals, answer in asked:
        assert repr(names["selector"].choice(eval(signals))) == answer


def test_the_command_on_a_bank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder with trials and signals, NULL paths and failed trials included."""
    trials, signals = [], []
    for number in range(12):
        of = {"database": f"d{number % 4}", "task": f"t{number}"}
        for family, metric in (("messages", 0.6 + number / 100), ("features", 0.7)):
            trials.append(
                trial(**of, family=family, point=family, validation=metric - 0.01, test=metric)
            )
        trials.append(trial(**of, point="failed", error="no"))
        for signal, path in (
            ("rows", None),
            ("fan_out_mean", "a.b"),
            ("probe_messages_auroc", None),
        ):
            signals.append({**of, "signal": signal, "path": path, "value": number / 7, "rows": 1})
    Bank(tuple(trials), pa.Table.from_pylist(signals, schema=SIGNALS)).write(tmp_path)
    main(["--bank", str(tmp_path)])
    told = capsys.readouterr().out
    assert "12 tasks of 4 databases; message passing is better on 1." in told
    assert "| validation, both trained | 100 % | 0.0 % (0.0 % … 0.0 %) |" in told
    assert "| always features | 92 % |" in told
    for group in ("all signals", "signals without probes"):
        assert f"| selector, {group}, abstaining, then validation | 100 % |" in told
    with pytest.raises(DataError, match="holds no bank"):
        main(["--bank", str(tmp_path / "none")])
