"""Dates, times and intervals: their parts, and counting in calendar units."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime, timedelta

from relann.algebra.engines.interpreter.casts import cast
from relann.algebra.engines.interpreter.values import Interval, Value, interval_of
from relann.errors import EngineError

_DATE_PARTS: dict[str, Callable[[datetime], int | float]] = {
    "year": lambda t: t.year,
    "quarter": lambda t: (t.month + 2) // 3,
    "month": lambda t: t.month,
    "week": lambda t: t.isocalendar().week,
    "day": lambda t: t.day,
    "dow": lambda t: t.isoweekday() % 7,
    "isodow": lambda t: t.isoweekday(),
    "doy": lambda t: t.timetuple().tm_yday,
    "isoyear": lambda t: t.isocalendar().year,
    "yearweek": lambda t: t.isocalendar().year * 100 + t.isocalendar().week,
    "decade": lambda t: t.year // 10,
    "century": lambda t: (t.year + 99) // 100,
    "hour": lambda t: t.hour,
    "minute": lambda t: t.minute,
    "second": lambda t: t.second,
    "millisecond": lambda t: t.second * 1000 + t.microsecond // 1000,
    "microsecond": lambda t: t.second * 1_000_000 + t.microsecond,
    "epoch": lambda t: (t - datetime(1970, 1, 1)) / timedelta(seconds=1),
}
_INTERVAL_PARTS: dict[str, Callable[[Interval], int | float]] = {
    "year": lambda i: int(i.months / 12),
    "month": lambda i: int(math.fmod(i.months, 12)),
    "day": lambda i: i.days,
    "hour": lambda i: int(i.micros / 3_600_000_000),
    "minute": lambda i: int(math.fmod(i.micros / 60_000_000, 60)),
    "second": lambda i: int(math.fmod(i.micros / 1_000_000, 60)),
    "epoch": lambda i: i.seconds,
}
_PART_ALIASES = {"weekday": "dow", "dayofweek": "dow", "dayofyear": "doy", "dayofmonth": "day"}
PART_NAMES = (frozenset(_DATE_PARTS) | frozenset(_PART_ALIASES)) - {"millisecond", "microsecond"}


def part_of(name: str, value: Value) -> int | float:
    """extract(name FROM value) of a date, timestamp or interval."""
    key = _PART_ALIASES.get(name.lower(), name.lower())
    if isinstance(value, Interval) and key in _INTERVAL_PARTS:
        return _INTERVAL_PARTS[key](value)
    if isinstance(value, date) and key in _DATE_PARTS:
        return _DATE_PARTS[key](cast(value, "TIMESTAMP"))
    raise EngineError(f"the reference engine has no part {name} of {type(value).__name__} values")


_STARTS = {"year": 1, "quarter": 1, "month": 1, "week": 0, "day": 0}


def truncated(unit: str, value: Value) -> datetime:
    """date_trunc: the start of the unit the time is in; weeks start on Monday."""
    name = unit.lower()
    time: datetime = cast(value, "TIMESTAMP")
    if name in ("hour", "minute", "second", "millisecond", "microsecond"):
        whole = time - datetime(1970, 1, 1)
        size = timedelta(microseconds=interval_of(1, name).micros)
        return datetime(1970, 1, 1) + whole // size * size
    if name not in _STARTS:
        raise EngineError(f"the reference engine has no date_trunc to {unit}")
    month = {"year": 1, "quarter": (time.month - 1) // 3 * 3 + 1}.get(name, time.month)
    start = datetime(time.year, month, 1 if _STARTS[name] else time.day)
    return start - timedelta(days=start.weekday()) if name == "week" else start


def boundaries(unit: str, start: Value, stop: Value) -> int:
    """date_diff: starts of a unit between two times; of weeks, how many have passed by days."""
    name = unit.lower()
    if name == "week":
        return int((truncated("day", stop) - truncated("day", start)) / timedelta(days=7))
    a, b = truncated(name, start), truncated(name, stop)
    if name in ("year", "quarter", "month"):
        months = (b.year - a.year) * 12 + b.month - a.month
        return months // {"year": 12, "quarter": 3, "month": 1}[name]
    one = interval_of(1, name)
    return (b - a) // timedelta(days=one.days, microseconds=one.micros)
