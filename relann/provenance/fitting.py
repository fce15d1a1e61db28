"""Encoders fitted on rows that come piece by piece, as if they were fitted on all rows at once.

Vocabularies and periods are the same, means and deviations but for rounding (the pairwise update of
Chan, Golub and LeVeque 1983).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from relann.algebra.plan import Plan
from relann.algebra.terms import Content
from relann.provenance.encoders import (
    Encoders,
    Floats,
    Period,
    Standard,
    Vocabulary,
    instants,
    numbers,
    origins,
    sites,
)

Column = Callable[[Content], pa.Array]
"""The values of a content column for the rows that are added."""


class Fitting:
    """Encoders of a plan, to which rows of spaces are added."""

    def __init__(self, plan: Plan, finetune: bool = False) -> None:
        self._keys, self._scalars = sites(plan)
        self._origins = origins(plan, finetune)
        self._vocabularies: dict[str, Vocabulary] = {}
        self._moments: dict[str, Moments] = {}
        self._spans: dict[str, tuple[int, int]] = {}

    @property
    def spaces(self) -> frozenset[int]:
        """Those whose rows tell something."""
        read = {space for places in self._keys.values() for space, _ in places}
        return frozenset(read | {s for places in self._scalars.values() for s, _ in places})

    def contents(self, space: int) -> list[Content]:
        """The columns of a space that are read."""
        found = [c for places in self._keys.values() for s, parts in places if s == space
                 for c in parts]  # fmt: skip
        found += [c for places in self._scalars.values() for s, c in places if s == space]
        return list(dict.fromkeys(found))

    def add(self, space: int, column: Column) -> None:
        """Further rows of a space; errors as `Encoders.fit` has them."""
        for site, places in self._keys.items():
            for of, parts in places:
                if of == space:
                    own = Vocabulary.fit([[column(p) for p in parts]])
                    known = self._vocabularies.get(site)
                    self._vocabularies[site] = own if known is None else known.merged(own)
        for (encoding, site), scalars in self._scalars.items():
            for of, content in scalars:
                if of == space and encoding == "numeric":
                    values = Moments.of(numbers(column(content), content))
                    known_moments = self._moments.get(site, Moments())
                    self._moments[site] = known_moments.merged(values)
                elif of == space:
                    self._add_instants(site, column(content), content)

    def _add_instants(self, site: str, array: pa.Array, content: Content) -> None:
        times = instants(array, content)
        known = times[~np.isnat(times)].astype(np.int64)
        if len(known):
            low, high = int(known.min()), int(known.max())
            first, last = self._spans.get(site, (low, high))
            self._spans[site] = (min(first, low), max(last, high))

    def encoders(self) -> Encoders:
        """What all rows that were added come to."""
        out = Encoders(pretrained=dict(self._origins))
        for site, places in self._keys.items():
            limits = [m for m in places.values() if m is not None]
            most = max(limits) if len(limits) == len(places) else None
            out.vocabularies[site] = self._vocabularies[site].first(most)
        for encoding, site in self._scalars:
            if encoding == "numeric":
                out.standards[site] = self._moments.get(site, Moments()).standard()
            else:
                ends = self._spans.get(site)
                instants_of = [] if ends is None else [np.array(ends, dtype="M8[us]")]
                out.periods[site] = Period.fit([*instants_of, np.array([], dtype="M8[us]")])
        return out


@dataclass(frozen=True)
class Moments:
    """Count, mean and summed squared deviation of finite numbers.

    Mean and deviations are in units of the `largest` magnitude, so that large numbers' squares stay
    finite.
    """

    count: int = 0
    largest: float = 1.0
    low: float = np.inf
    high: float = -np.inf
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: Floats) -> Moments:
        """Of the finite ones of some values."""
        known = values[np.isfinite(values)]
        if not len(known):
            return cls()
        largest = float(np.abs(known).max()) or 1.0
        scaled = known / largest
        mean = float(scaled.mean())
        squares = float(((scaled - mean) ** 2).sum())
        return cls(len(known), largest, float(known.min()), float(known.max()), mean, squares)

    def merged(self, other: Moments) -> Moments:
        """Of both together."""
        if not self.count or not other.count:
            return self if self.count else other
        largest = max(self.largest, other.largest)
        one, two = self._in(largest), other._in(largest)
        count = self.count + other.count
        apart = two[0] - one[0]
        mean = one[0] + apart * other.count / count
        squares = one[1] + two[1] + apart**2 * self.count * other.count / count
        low, high = min(self.low, other.low), max(self.high, other.high)
        return Moments(count, largest, low, high, mean, squares)

    def _in(self, unit: float) -> tuple[float, float]:
        ratio = self.largest / unit
        return self.mean * ratio, self.squares * ratio**2

    def standard(self) -> Standard:
        """As `Standard.fit` has it: 0 and 1 without numbers, a constant's deviation is 1."""
        if not self.count:
            return Standard(0.0, 1.0)
        if self.low == self.high:
            return Standard(self.low, 1.0)
        std = float(np.sqrt(self.squares / self.count))
        return Standard(self.mean * self.largest, std * self.largest if std > 1e-12 else 1.0)
