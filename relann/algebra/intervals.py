"""Lengths of time as people write them: `30 days`, `1 month`."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import datetime, timedelta

from relann.errors import QueryError, Span, did_you_mean, listing

UNITS = ("seconds", "minutes", "hours", "days", "weeks", "months", "years")
_FIXED = {
    "seconds": timedelta(seconds=1),
    "minutes": timedelta(minutes=1),
    "hours": timedelta(hours=1),
    "days": timedelta(days=1),
    "weeks": timedelta(weeks=1),
}


@dataclass(frozen=True)
class Interval:
    """`count` of a unit of UNITS; months and years are calendar ones, all others have one length.

    A day is 24 hours: times have no zone here.
    """

    count: int
    unit: str

    @classmethod
    def parsed(cls, text: str, what: str, span: Span | None = None) -> Interval:
        """The interval of a text like `30 days`; QueryError for any other and for none above 0."""
        number, _, unit = " ".join(text.split()).partition(" ")
        if not number.isdecimal() or not unit:
            raise QueryError(f"{what} is a number and a unit, as '30 days', not '{text}'", span)
        interval = cls(int(number), unit_named(unit, span))
        if not interval.count:
            raise QueryError(f"{what} must be longer than nothing", span)
        return interval

    @property
    def sql(self) -> str:
        """As DuckDB writes it."""
        return f"INTERVAL {self.count} {self.unit[:-1].upper()}"

    def __str__(self) -> str:
        return f"{self.count} {self.unit if abs(self.count) != 1 else self.unit[:-1]}"

    def after(self, time: datetime, times: int = 1) -> datetime:
        """The time `times` intervals later; 31 January and a month is the last of February.

        Raises OverflowError where a datetime cannot say it.
        """
        count = self.count * times
        if self.unit in _FIXED:
            return time + _FIXED[self.unit] * count
        months = time.year * 12 + time.month - 1 + count * (12 if self.unit == "years" else 1)
        year, month = divmod(months, 12)
        if not 1 <= year <= 9999:
            raise OverflowError(f"year {year}")
        day = min(time.day, calendar.monthrange(year, month + 1)[1])
        return time.replace(year=year, month=month + 1, day=day)


def unit_named(name: str, span: Span | None = None) -> str:
    """The unit of a name in any case, in singular or plural; QueryError for any other."""
    lower = name.lower()
    for unit in UNITS:
        if lower in (unit, unit[:-1]):
            return unit
    raise QueryError(
        f"`{name}` is no unit of time; there are {listing(UNITS)}." + did_you_mean(lower, UNITS),
        span,
    )


def shown(time: datetime) -> str:
    """A time for people: a midnight is its day."""
    return str(time).removesuffix(" 00:00:00")
