"""The choice among near-equal finalists: by more than the validation metric that made them so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from relann.autoselect.trials import Trial, ranked
from relann.models.metrics import SMALLER_IS_BETTER

NEAR = 0.02
"""How much worse than the best a validation metric may be, as a share of it, to be near-equal."""

CRITERIA = ("validation", "as_test", "fold", "barrier")
"""What finalists are ranked by: scores, and how flat the loss is (the barrier is to be small)."""


@dataclass(frozen=True)
class Vote:
    """Which finalist is chosen, by its place; each one's mean rank, 1 the best; what was ranked."""

    choice: int
    ranks: tuple[float, ...]
    criteria: tuple[str, ...]


def finalists(trials: Sequence[Trial], most: int) -> list[Trial]:
    """The best by validation and those near-equal to it, the best first, `most` at most."""
    order = ranked(t for t in trials if t.error is None)
    if not order:
        return []
    best = order[0].validation
    assert best is not None
    near = [t for t in order if abs(best - (t.validation or 0.0)) <= NEAR * abs(best)]
    return near[:most]


def vote(trials: Sequence[Trial]) -> Vote:
    """The finalist whose mean rank over all criteria is best, of equal ones the best validated.

    A criterion counts where it is known of all of them: trees have no landscape.
    """
    smaller = trials[0].metric in SMALLER_IS_BETTER
    ranks, used = [], []
    for criterion in CRITERIA:
        values = [getattr(t, criterion) for t in trials]
        if any(value is None for value in values):
            continue
        small = criterion == "barrier" or smaller
        ranks.append(pd.Series(values, dtype=float).rank(ascending=small).tolist())
        used.append(criterion)
    means = [float(sum(r[i] for r in ranks) / len(ranks)) for i in range(len(trials))]
    least = min(means)
    (best, *_) = ranked(t for t, mean in zip(trials, means, strict=True) if mean == least)
    choice = next(i for i, t in enumerate(trials) if t is best)
    return Vote(choice, tuple(means), tuple(used))
