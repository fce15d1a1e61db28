"""Learners that predict a gain from a task's signals, made for two dozen tasks.

All see signals as ranks among the tasks they were fitted on, from -1 to 1 and 0 where one is
missing: two dozen tasks tell no more of a heavy-tailed number than its order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from sklearn.ensemble import RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor

from relann.autoselect.cases import Numbers

MOST_MISSING = 0.5
"""A signal that is missing in more than this share of the tasks is left out."""


class Regressor(Protocol):
    """As scikit-learn's."""

    def fit(self, x: Numbers, y: Numbers) -> object: ...

    def predict(self, x: Numbers) -> Numbers: ...


@dataclass(frozen=True)
class Learner:
    """A way to learn, its strength fixed.

    name     what it is and how strong
    make     a regressor of so many signals, unfitted; None predicts the mean
    signals  how many signals it sees: those whose ranks correlate most with the gain
    """

    name: str
    make: Callable[[int], Regressor] | None
    signals: int = 0

    def fit(self, x: Numbers, gains: Numbers) -> Fitted:
        """Fitted to rows of signals, NaN where missing; at least one row."""
        ranks = Ranks.of(x)
        mean = float(gains.mean())
        if self.make is None or not len(ranks.columns):
            return Fitted(ranks, np.zeros(0, np.int64), mean, None)
        seen = ranks(x)
        chosen = _most_correlated(seen, gains, self.signals)
        regressor = self.make(len(chosen))
        regressor.fit(seen[:, chosen], gains - mean)
        return Fitted(ranks, chosen, mean, regressor)


@dataclass(frozen=True)
class Ranks:
    """Signals to ranks among the tasks seen: the share below less the share above.

    `columns` are the signals that are used, `values` the sorted values seen of each.
    """

    columns: tuple[int, ...]
    values: tuple[Numbers, ...]

    @classmethod
    def of(cls, x: Numbers) -> Ranks:
        """Of rows × signals. Signals with one value alone or mostly missing are not used."""
        columns, values = [], []
        for column in range(x.shape[1]):
            seen = x[:, column][~np.isnan(x[:, column])]
            if len(seen) >= (1 - MOST_MISSING) * len(x) and len(np.unique(seen)) > 1:
                columns.append(column)
                values.append(np.sort(seen))
        return cls(tuple(columns), tuple(values))

    def __call__(self, x: Numbers) -> Numbers:
        """Rows × used signals, each from -1 to 1."""
        out = np.zeros((len(x), len(self.columns)))
        for place, (column, seen) in enumerate(zip(self.columns, self.values, strict=True)):
            given = x[:, column]
            below = np.searchsorted(seen, given, side="left")
            above = len(seen) - np.searchsorted(seen, given, side="right")
            out[:, place] = np.where(np.isnan(given), 0.0, (below - above) / len(seen))
        return out


@dataclass(frozen=True)
class Fitted:
    """A learner that has learned.

    ranks      of the signals it was given
    chosen     places, among `ranks.columns`, of those it sees
    mean       the mean gain, to which a regressor adds
    regressor  None where the mean is all
    """

    ranks: Ranks
    chosen: np.ndarray[tuple[int], np.dtype[np.int64]]
    mean: float
    regressor: Regressor | None

    def seen(self, x: Numbers) -> Numbers:
        """Rows × signals it sees, as ranks."""
        return self.ranks(x)[:, self.chosen]

    def of_ranks(self, seen: Numbers) -> Numbers:
        """A gain for each row of `seen`."""
        if self.regressor is None:
            return np.full(len(seen), self.mean)
        return self.mean + np.asarray(self.regressor.predict(seen), dtype=np.float64)

    def __call__(self, x: Numbers) -> Numbers:
        """A gain for each row of signals."""
        return self.of_ranks(self.seen(x))


def _most_correlated(
    seen: Numbers, gains: Numbers, number: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The places of so many signals, by Spearman's correlation; of equal ones the first."""
    order = gains.argsort(kind="stable").argsort(kind="stable").astype(np.float64)
    left, right = seen - seen.mean(0), order - order.mean()
    scale = np.sqrt((left**2).sum(0) * (right**2).sum())
    size = np.divide(np.abs(left.T @ right), scale, out=np.zeros(seen.shape[1]), where=scale > 0)
    return np.sort(np.argsort(-size, kind="stable")[:number])


def _ridge(penalty: float) -> Callable[[int], Regressor]:
    return lambda signals: Ridge(alpha=penalty)


def _nearest(tasks: int) -> Callable[[int], Regressor]:
    return lambda signals: _Nearest(tasks)


def _process(noise: float) -> Callable[[int], Regressor]:
    # The scale is in units of the ranks' typical distance, which grows with the root of how many.
    return lambda signals: GaussianProcessRegressor(
        RBF(float(np.sqrt(signals))), alpha=noise, optimizer=None, normalize_y=True
    )


def _forest(signals: int) -> Regressor:
    made: Regressor = RandomForestRegressor(
        60, max_depth=2, min_samples_leaf=3, max_features=0.5, random_state=0, n_jobs=1
    )
    return made


class _Nearest:
    """The mean of the nearest tasks, or of all where there are not as many."""

    def __init__(self, tasks: int) -> None:
        self._tasks = tasks

    def fit(self, x: Numbers, y: Numbers) -> object:
        self._model = KNeighborsRegressor(min(self._tasks, len(x))).fit(x, y)
        return self

    def predict(self, x: Numbers) -> Numbers:
        return np.asarray(self._model.predict(x), dtype=np.float64)


LEARNERS: tuple[Learner, ...] = (
    Learner("mean", None),
    *(
        Learner(f"ridge of {signals} signals, penalty {penalty:g}", _ridge(penalty), signals)
        for signals in (1, 3, 8)
        for penalty in (30.0, 10.0, 3.0)
    ),
    *(
        Learner(f"{tasks} nearest tasks in {signals} signals", _nearest(tasks), signals)
        for signals in (3, 8)
        for tasks in (7, 5)
    ),
    *(
        Learner(f"gaussian process of {signals} signals, noise {noise:g}", _process(noise), signals)
        for signals in (3, 8)
        for noise in (3.0, 1.0)
    ),
    Learner("forest of 8 signals", _forest, 8),
)
"""From the simplest on, and each kind from the strongest regularisation on."""
