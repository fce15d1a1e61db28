"""Chooses between message passing and aggregated features, or says that it cannot tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from relann.autoselect.cases import Case, Cases, Numbers, matrix
from relann.autoselect.learners import LEARNERS, Fitted, Learner
from relann.autoselect.space import Family
from relann.errors import DataError

COVERAGE = 0.8
FEWEST_DATABASES = 3
_REASONS = 3


@dataclass(frozen=True)
class Expected:
    """A gain as `relative_gain` has it, with an interval that holds it as often as was asked."""

    gain: float
    low: float
    high: float

    @property
    def choice(self) -> Family | None:
        """What the whole interval says; None where it straddles zero."""
        if self.low > 0:
            return "messages"
        return "features" if self.high < 0 else None


@dataclass(frozen=True)
class Selector:
    """What past tasks say of a new one.

    cases     what it has learned from
    names     the signals it was given
    learner   the learner that was picked, and why in `picked`
    fitted    on all cases
    left_out  fitted without each database in turn, and `residuals` what each was off on it
    coverage  how often an interval is to hold the gain of a task of a new database
    """

    cases: Cases
    names: tuple[str, ...]
    learner: Learner
    picked: str
    fitted: Fitted
    left_out: tuple[Fitted, ...]
    residuals: tuple[Numbers, ...]
    coverage: float

    @classmethod
    def fit(
        cls,
        cases: Cases,
        coverage: float = COVERAGE,
        learners: Sequence[Learner] = LEARNERS,
    ) -> Selector:
        """A selector of these cases. The same cases give the same.

        Every learner is measured on databases it has not seen, one left out after the other. Those
        whose regret is within a standard error (of the difference, over databases) of the least are
        taken for equal; the smallest mean error of them wins, of equal ones the first. Raises
        DataError for fewer than three databases, whose errors say nothing of a fourth, and for a
        coverage that is not between 0 and 1.
        """
        if not 0 < coverage < 1:
            raise DataError(f"a coverage is a share between 0 and 1, such as 0.8, not {coverage}")
        if len(cases.databases) < FEWEST_DATABASES:
            raise DataError(
                f"a selector is judged on databases it has not seen, so it needs "
                f"{FEWEST_DATABASES} or more; the tasks are of {len(cases.databases)}"
            )
        names = cases.signals
        gains, x = cases.gains, cases.matrix(names)
        databases = np.array([c.database for c in cases])
        folds = [databases == database for database in cases.databases]
        trials = [[learner.fit(x[~f], gains[~f]) for f in folds] for learner in learners]
        guesses = np.empty((len(learners), len(cases)))
        for number, trial in enumerate(trials):
            for fold, fitted in zip(folds, trial, strict=True):
                guesses[number, fold] = fitted(x[fold])
        best, picked = _pick(learners, guesses, gains, folds)
        return cls(
            cases, names, learners[best], picked, learners[best].fit(x, gains),
            tuple(trials[best]),
            tuple(np.abs(gains[f] - guesses[best, f]) for f in folds), coverage,
        )  # fmt: skip

    def predict(self, signals: Mapping[str, float]) -> Expected:
        """The gain to expect; signals that are missing or unknown to the cases count as average.

        The interval is the jackknife+ over databases (Barber et al. 2021, CV+): each past task
        votes with what the learner that did not see its database says here, give and take what that
        learner was off there. Infinite where there are too few tasks for the coverage.
        """
        row = matrix([signals], self.names)
        lows, highs = [], []
        for fitted, residuals in zip(self.left_out, self.residuals, strict=True):
            (middle,) = fitted(row)
            lows.append(middle - residuals)
            highs.append(middle + residuals)
        low, high = np.sort(np.concatenate(lows)), np.sort(np.concatenate(highs))
        place = math.ceil(self.coverage * (len(high) + 1))
        fits = place <= len(high)
        (gain,) = self.fitted(row)
        return Expected(
            float(gain),
            float(low[len(low) - place]) if fits else -math.inf,
            float(high[place - 1]) if fits else math.inf,
        )

    def choice(self, signals: Mapping[str, float]) -> Family | None:
        """What is surely better as far as intervals go; None: try both."""
        return self.predict(signals).choice

    def likeness(self, signals: Mapping[str, float]) -> list[tuple[Case, float]]:
        """How alike each past task is, above 0 and at most 1, by the signals the learner looks at.

        exp(-d² / the median of d²), d the distance of the signals' ranks; 1 for all where the
        learner looks at none.
        """
        seen = self.fitted.seen(matrix([signals], self.names))
        past = self.fitted.seen(self.cases.matrix(self.names))
        squares = np.square(past - seen).sum(1)
        middle = float(np.median(squares)) or 1.0
        return list(zip(self.cases, np.exp(-squares / middle).tolist(), strict=True))

    def reasons(self, signals: Mapping[str, float]) -> list[str]:
        """Sentences: what is expected and why, the signals that move it most, the nearest tasks."""
        expected, row = self.predict(signals), matrix([signals], self.names)
        said = [_sentence(expected, self.coverage), f"learner: {self.learner.name}; {self.picked}"]
        seen = self.fitted.seen(row)
        if not seen.shape[1]:
            return [
                *said,
                f"no signal moves it: past tasks gained {self.fitted.mean:+.1%} on average",
            ]
        whole = float(self.fitted.of_ranks(seen)[0])
        moved = []
        for place, chosen in enumerate(self.fitted.chosen):
            name = self.names[self.fitted.ranks.columns[chosen]]
            average = seen.copy()
            average[0, place] = 0.0
            by = whole - float(self.fitted.of_ranks(average)[0])
            moved.append((abs(by), f"{name} = {_shown(signals.get(name))}: {by:+.1%}"))
        moved.sort(key=lambda pair: -pair[0])
        past = self.fitted.seen(self.cases.matrix(self.names))
        order = np.argsort(np.square(past - seen).sum(1), kind="stable")[:_REASONS]
        near = [self.cases.rows[i] for i in order]
        return [
            *said,
            *(f"moved by {text}" for by, text in moved[:_REASONS] if by > 0),
            "nearest tasks: " + ", ".join(f"{c.name} ({c.gain:+.1%})" for c in near),
        ]


def regret(guesses: Numbers, gains: Numbers) -> Numbers:
    """What is lost by following the sign of each guess; of a guess of 0 half of it."""
    wrong = np.where(guesses == 0, 0.5, (guesses > 0) != (gains > 0))
    return np.asarray(wrong * np.abs(gains), dtype=np.float64)


def _pick(
    learners: Sequence[Learner], guesses: Numbers, gains: Numbers, folds: Sequence[Numbers]
) -> tuple[int, str]:
    """Which learner, and a half sentence that says why."""
    lost = np.array([[regret(g[f], gains[f]).mean() for f in folds] for g in guesses])
    off = np.array([[np.abs(g[f] - gains[f]).mean() for f in folds] for g in guesses])
    least = int(lost.mean(1).argmin())
    more = lost - lost[least]
    error = more.std(1, ddof=1) / np.sqrt(len(folds))
    equal = np.flatnonzero(more.mean(1) <= error + 1e-12)
    best = int(equal[off.mean(1)[equal].argmin()])
    return best, (
        f"of {len(learners)} learners {len(equal)} lose as little on databases they had not seen "
        f"({lost[best].mean():.1%}), and of these it is off least ({off[best].mean():.1%} on "
        "average)"
    )


def _sentence(expected: Expected, coverage: float) -> str:
    interval = f"{coverage:.0%} interval {expected.low:+.1%} to {expected.high:+.1%}"
    what = {
        "messages": "message passing should be better",
        "features": "aggregated features should be better",
        None: "cannot tell which is better, so try both",
    }[expected.choice]
    return f"{what}: expected gain of message passing {expected.gain:+.1%}, {interval}"


def _shown(value: float | None) -> str:
    return "unknown" if value is None or not math.isfinite(value) else f"{value:.4g}"
