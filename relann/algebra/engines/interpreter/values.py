"""SQL values as Python values.


NULL is None. Whole numbers are `int`, DECIMAL is `Decimal`, DOUBLE is `float`, FLOAT is
`numpy.float32`, so that arithmetic on it rounds as it does there. Lists and rows are tuples.
"""

from __future__ import annotations

import decimal
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from relann.errors import EngineError

Value = Any

DAY = 24 * 60 * 60 * 1_000_000
"""Microseconds of a day."""

DECIMALS = decimal.Context(prec=76, rounding=decimal.ROUND_HALF_UP)
"""Decimal arithmetic wide enough for the product of any two DECIMAL(38, s)."""


@dataclass(frozen=True)
class Interval:
    """A span of time: months have no fixed length, days and microseconds do."""

    months: int = 0
    days: int = 0
    micros: int = 0

    @property
    def size(self) -> int:
        """Microseconds, a month counted as 30 days: what comparisons go by."""
        return (self.months * 30 + self.days) * DAY + self.micros

    @property
    def seconds(self) -> float:
        """Seconds, a year counted as 365.25 days, a month beyond it as 30: DuckDB's `epoch`."""
        years, months = _split(self.months, 12)
        return (years * 365.25 + months * 30 + self.days) * 86400 + self.micros / 1e6

    def scaled(self, by: int) -> Interval:
        """The interval taken `by` times."""
        return Interval(self.months * by, self.days * by, self.micros * by)

    def plus(self, other: Interval) -> Interval:
        """Both intervals together, part by part."""
        return Interval(
            self.months + other.months, self.days + other.days, self.micros + other.micros
        )

    def after(self, start: datetime) -> datetime:
        """The time that long after `start`; the day is cut to the month's length."""
        year, month = divmod(start.year * 12 + start.month - 1 + self.months, 12)
        length = (date(year + (month + 1) // 12, (month + 1) % 12 + 1, 1) - timedelta(days=1)).day
        moved = start.replace(year=year, month=month + 1, day=min(start.day, length))
        return moved + timedelta(days=self.days, microseconds=self.micros)


def elapsed(later: datetime, earlier: datetime) -> Interval:
    """The time between two timestamps in days and microseconds, both of one sign."""
    micros = (later - earlier) // timedelta(microseconds=1)
    days, rest = _split(micros, DAY)
    return Interval(0, days, rest)


def _split(amount: int, unit: int) -> tuple[int, int]:
    """Whole units and the rest, both of the amount's sign."""
    whole, rest = divmod(abs(amount), unit)
    return (whole, rest) if amount >= 0 else (-whole, -rest)


_UNITS = {
    "year": Interval(months=12), "quarter": Interval(months=3), "month": Interval(months=1),
    "week": Interval(days=7), "day": Interval(days=1), "hour": Interval(micros=3_600_000_000),
    "minute": Interval(micros=60_000_000), "second": Interval(micros=1_000_000),
    "millisecond": Interval(micros=1000), "microsecond": Interval(micros=1),
}  # fmt: skip


def interval_of(amount: int, unit: str) -> Interval:
    """`amount` units, singular or plural."""
    name = unit.lower()
    found = _UNITS.get(name) or _UNITS.get(name.rstrip("s"))
    if found is None:
        raise EngineError(f"the reference engine has no interval unit {unit}")
    return found.scaled(amount)
