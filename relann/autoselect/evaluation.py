"""Ways to choose, measured on databases they have not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from relann.autoselect.cases import Case, Cases, Numbers
from relann.autoselect.selector import Expected, Selector
from relann.autoselect.space import Family

DRAWS = 10_000

Chooser = Callable[[Cases, Cases], list[float]]
"""From cases to learn from and cases to choose for, of which signals alone may be read, to the
probability of message passing for each of the latter."""


@dataclass(frozen=True)
class Judged:
    """How a way to choose did.

    accuracy, regret   means over tasks; regret is the relative loss to the better of the two
    low, high          bounds of the regret: 90 % of bootstraps over databases
    beyond             mean regret less that of always choosing message passing; bounds likewise
    """

    accuracy: float
    regret: float
    low: float
    high: float
    beyond: float
    beyond_low: float
    beyond_high: float


def judged(cases: Cases, messages: Sequence[float], draws: int = DRAWS) -> Judged:
    """How good it is to choose message passing with these probabilities, one for each case.

    The same cases and probabilities give the same; bounds say how much the choice of databases
    matters, tasks of one database being alike. A gain of 0 makes either choice right.
    """
    gains, chance = cases.gains, np.asarray(messages, dtype=np.float64)
    right = np.where(gains > 0, chance, np.where(gains < 0, 1 - chance, 1.0))
    lost = (1 - right) * np.abs(gains)
    always = np.where(gains < 0, -gains, 0.0)
    names = cases.databases
    place = np.array([names.index(c.database) for c in cases])
    drawn = np.random.default_rng(0).integers(0, len(names), (draws, len(names)))
    weights = np.stack([(drawn == i).sum(1) for i in range(len(names))], axis=1)[:, place]
    low, high = _bounds(weights, lost)
    beyond_low, beyond_high = _bounds(weights, lost - always)
    return Judged(
        float(right.mean()), float(lost.mean()), low, high,
        float((lost - always).mean()), beyond_low, beyond_high,
    )  # fmt: skip


def _bounds(weights: Numbers, values: Numbers) -> tuple[float, float]:
    means = (weights * values).sum(1) / weights.sum(1)
    low, high = np.quantile(means, [0.05, 0.95])
    return float(low), float(high)


# -- leaving out ---------------------------------------------------------------------------------


def leave_one_database_out(cases: Cases, chooser: Chooser) -> list[float]:
    """The probability of message passing for each case, from cases of other databases."""
    return _left_out(cases, [cases.only(d).rows for d in cases.databases], chooser)


def leave_one_task_out(cases: Cases, chooser: Chooser) -> list[float]:
    """The same from all other cases, tasks of the same database among them."""
    return _left_out(cases, [(c,) for c in cases], chooser)


def _left_out(cases: Cases, folds: Iterable[tuple[Case, ...]], chooser: Chooser) -> list[float]:
    found: dict[str, float] = {}
    for fold in folds:
        names = {c.name for c in fold}
        others = Cases(tuple(c for c in cases if c.name not in names))
        found.update(zip([c.name for c in fold], chooser(others, Cases(fold)), strict=True))
    return [found[c.name] for c in cases]


# -- ways to choose ------------------------------------------------------------------------------


def always(family: Family) -> Chooser:
    """One and the same."""
    return lambda _, asked: [float(family == "messages")] * len(asked)


def coin(_: Cases, asked: Cases) -> list[float]:
    """Either, with equal chance."""
    return [0.5] * len(asked)


def validation(cases: Cases) -> list[float] | None:
    """What validated better after training both; None where that is not known of every case."""
    gains = [c.validated for c in cases if c.validated is not None]
    return list(np.heaviside(gains, 0.5)) if len(gains) == len(cases) else None


def classifier(make: Callable[[], ClassifierMixin]) -> Chooser:
    """The class 'gain above 0' by a classifier on standardised signals, medians for missing ones.

    Where all cases are of one class it is that class.
    """

    def choose(known: Cases, asked: Cases) -> list[float]:
        names, classes = known.signals, known.gains > 0
        if len(set(classes)) == 1:
            return [float(classes[0])] * len(asked)
        fill = SimpleImputer(strategy="median", keep_empty_features=True)
        model = make_pipeline(fill, StandardScaler(), make())
        model.fit(known.matrix(names), classes)
        return [float(found) for found in model.predict(asked.matrix(names))]

    return choose


# -- the selector --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answered:
    """What a selector that had not seen the case's database says of it."""

    case: Case
    expected: Expected
    learner: str

    @property
    def covered(self) -> bool:
        """Whether the interval holds the gain."""
        return self.expected.low <= self.case.gain <= self.expected.high


def answers(cases: Cases, fit: Callable[[Cases], Selector] = Selector.fit) -> list[Answered]:
    """What the selector says of each case when its database is left out altogether."""
    found: dict[str, Answered] = {}
    for database in cases.databases:
        selector = fit(cases.without(database))
        for case in cases.only(database):
            found[case.name] = Answered(case, selector.predict(case.signals), selector.learner.name)
    return [found[c.name] for c in cases]


def chosen(answered: Sequence[Answered], otherwise: Callable[[Answered], float]) -> list[float]:
    """The probability of message passing where abstentions do something else."""
    return [
        otherwise(a) if a.expected.choice is None else float(a.expected.choice == "messages")
        for a in answered
    ]


def by_sign(answered: Answered) -> float:
    """The sign of the expected gain, however wide the interval."""
    return float(answered.expected.gain > 0)
