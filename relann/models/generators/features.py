"""Which features are made of the rows of one path, and how: aggregates with conditions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from relann.errors import QueryError, listing
from relann.models.generators.values import Value

AGGREGATES = (
    *("count", "sum", "avg", "min", "max", "stddev", "mode", "count_distinct"),
    *("last", "first", "trend", "time_since_last"),
)
_NUMERIC = ("sum", "avg", "min", "max", "stddev")
_DAYS = {"hour": 1 / 24, "day": 1, "week": 7, "month": 30, "year": 365}
_DURATION = re.compile(r"\s*([1-9]\d*)\s*(hour|day|week|month|year)s?\s*\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Duration:
    """A stretch of time: `90 days` is INTERVAL 90 DAY, 90.0 days, in names 90d."""

    number: int
    unit: str

    @classmethod
    def of(cls, option: str, text: str) -> Duration:
        """What a text like '90 days' or '1 year' says; QueryError for another."""
        found = _DURATION.match(text) if isinstance(text, str) else None
        if found is None:
            raise QueryError(
                f"`{option}` holds durations such as '90 days' or '1 year', in {listing(_DAYS)}s, "
                f"not {text!r}"
            )
        return cls(int(found[1]), found[2].lower())

    @property
    def interval(self) -> str:
        """As SQL."""
        return f"INTERVAL {self.number} {self.unit.upper()}"

    @property
    def days(self) -> float:
        """In days, a month as 30 and a year as 365."""
        return self.number * _DAYS[self.unit]

    @property
    def short(self) -> str:
        """For names; months are mo."""
        return f"{self.number}{'mo' if self.unit == 'month' else self.unit[0]}"


Feature = tuple[str, str]
"""Its name, its expression."""


@dataclass(frozen=True)
class Options:
    """What is to be made; `depth` says whether paths have two hops."""

    aggregates: frozenset[str]
    windows: tuple[Duration | None, ...]
    last: tuple[int, ...]
    decay: tuple[Duration, ...]
    depth: bool
    within_event: bool

    @property
    def one(self) -> str | None:
        """The aggregate for what is not a row's own: the mean where it is wanted."""
        wanted = [a for a in ("avg", *_NUMERIC) if a in self.aggregates]
        return wanted[0] if wanted else None


@dataclass(frozen=True)
class _Slice:
    """Some of a key's rows: what is behind a feature's name and the condition on rows `r`."""

    mark: str
    condition: str | None

    def filtered(self, call: str, *also: str) -> str:
        """The aggregate call over these rows only."""
        conditions = [*also, *([self.condition] if self.condition else [])]
        return f"{call} FILTER ({' AND '.join(conditions)})" if conditions else call


def features_of(
    values: Sequence[Value], name: str, present: str, options: Options, timed: bool, full: bool
) -> list[Feature]:
    """What is made of a link's rows `r`, the plainest first."""
    spans = [_Slice("", None)]
    latest = []
    if timed:
        spans = [
            _Slice("", None) if w is None else _Slice(f"_{w.short}", f"r.in_{w.short}")
            for w in options.windows
        ]
        latest = [_Slice(f"_last{k}", f"r.k <= {k}") for k in options.last]
    features = _of_rows(name, present, options, spans, timed)
    for value in sorted(values, key=lambda v: v.derived):
        if value.kind == "number":
            features += _of_number(value, name, options, spans, latest, timed, full)
        else:
            features += _of_category(value, name, options, spans, latest, timed, full)
    return features


def _of_rows(
    name: str, present: str, options: Options, spans: Sequence[_Slice], timed: bool
) -> list[Feature]:
    features = []
    if "count" in options.aggregates:
        for span in spans:
            call = "count(*)" if span.condition else f"count({present})"
            features.append((f"{name}_count{span.mark}", span.filtered(call)))
        if timed:
            for d in options.decay:
                features.append((f"{name}_count_decay{d.short}", f"sum(r.w_{d.short})"))
    if timed and "time_since_last" in options.aggregates:
        gap = "(max(r.age) - min(r.age)) / nullif(count(r.age) - 1, 0)"
        features.append((f"{name}_days_since_last", "min(r.age)"))
        features.append((f"{name}_days_between", gap))
    if timed and "first" in options.aggregates:
        features.append((f"{name}_days_since_first", "max(r.age)"))
    return features


def _of_number(
    value: Value,
    name: str,
    options: Options,
    spans: Sequence[_Slice],
    latest: Sequence[_Slice],
    timed: bool,
    full: bool,
) -> list[Feature]:
    x, wanted = value.sql, options.aggregates
    whole_story = full and not value.derived
    hows = [h for h in _NUMERIC if h in wanted] if whole_story else [options.one]
    features: list[Feature] = []
    if timed and "last" in wanted:
        features.append((f"{name}_last_{value.name}", f"max({x}) FILTER (r.k = 1)"))
    for span in [*spans, *latest]:
        few = span in latest
        if few and span.mark == "_last1" and "last" in wanted:
            continue
        for how in hows:
            if how is not None and not (few and how == "sum" and "avg" in wanted):
                call = span.filtered(f"{how}({x})")
                features.append((f"{name}_{how}_{value.name}{span.mark}", call))
        if timed and whole_story and "trend" in wanted and span.mark != "_last1":
            slope = span.filtered(f"regr_slope({x}, -r.age)")
            made = f"nullif({slope}, 'nan'::DOUBLE)"
            features.append((f"{name}_trend_{value.name}{span.mark}", made))
    if timed:
        for d in options.decay:
            w = f"r.w_{d.short}"
            mean = f"sum({x} * {w}) / nullif(sum({w}) FILTER ({x} IS NOT NULL), 0)"
            features.append((f"{name}_avg_{value.name}_decay{d.short}", mean))
    if timed and whole_story and "first" in wanted:
        features.append((f"{name}_first_{value.name}", f"max({x}) FILTER (r.first_k = 1)"))
    return features


def _of_category(
    value: Value,
    name: str,
    options: Options,
    spans: Sequence[_Slice],
    latest: Sequence[_Slice],
    timed: bool,
    full: bool,
) -> list[Feature]:
    x, wanted = value.sql, options.aggregates
    features: list[Feature] = []
    if timed and "last" in wanted:
        features.append((f"{name}_last_{value.name}", f"max({x}) FILTER (r.k = 1)"))
    if "mode" in wanted:
        features.append((f"{name}_mode_{value.name}", f"mode({x} ORDER BY {x})"))
    if "count_distinct" in wanted:
        features.append((f"{name}_count_distinct_{value.name}", f"count(DISTINCT {x})"))
    if "count" in wanted and not value.derived:
        for span in [*spans, *(latest if full else [])]:
            if span.mark == "_last1" and "last" in wanted:
                continue
            for one in value.frequent:
                call = span.filtered("count(*)", f"{x} = {one}")
                slug = re.sub(r"\W+", "_", one.replace("-", "m")).strip("_")[:24]
                features.append((f"{name}_{value.name}_is_{slug}{span.mark}", call))
    if timed and full and not value.derived and "first" in wanted:
        features.append((f"{name}_first_{value.name}", f"max({x}) FILTER (r.first_k = 1)"))
    return features
