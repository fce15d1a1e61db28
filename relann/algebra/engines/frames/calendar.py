"""Dates and times as whole numbers: parts, truncation, months. Proleptic Gregorian, as in SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from relann.algebra.engines.frames.library import Array, Refused
from relann.algebra.engines.frames.vectors import DAY
from relann.algebra.engines.interpreter.values import Interval, interval_of


def civil(days: Array) -> tuple[Array, Array, Array]:
    """Year, month and day of days since 1970 (Hinnant, chrono-compatible date algorithms)."""
    z = days + 719_468
    era = z // 146_097
    doe = z - era * 146_097
    yoe = (doe - doe // 1460 + doe // 36_524 - doe // 146_096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    shifted = (5 * doy + 2) // 153
    day = doy - (153 * shifted + 2) // 5 + 1
    month = (shifted + 2) % 12 + 1
    return yoe + era * 400 + (month <= 2), month, day


def days_from_civil(year: Array, month: Array, day: Array) -> Array:
    """Days since 1970 of a date; the inverse of `civil`."""
    y = year - (month <= 2)
    era = y // 400
    yoe = y - era * 400
    doy = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + yoe * 365 + yoe // 4 - yoe // 100 + doy - 719_468


def _isodow(days: Array) -> Array:
    return (days + 3) % 7 + 1


def _iso_week(days: Array) -> Array:
    thursday = days - _isodow(days) + 4
    return (thursday - days_from_civil(civil(thursday)[0], 1, 1)) // 7 + 1


_OF_DAYS: dict[str, Callable[[Array], Array]] = {
    "year": lambda d: civil(d)[0],
    "quarter": lambda d: (civil(d)[1] + 2) // 3,
    "month": lambda d: civil(d)[1],
    "week": _iso_week,
    "day": lambda d: civil(d)[2],
    "dow": lambda d: _isodow(d) % 7,
    "isodow": _isodow,
    "doy": lambda d: d - days_from_civil(civil(d)[0], 1, 1) + 1,
}
_OF_TIME: dict[str, tuple[int, int]] = {
    "hour": (3_600_000_000, 24),
    "minute": (60_000_000, 60),
    "second": (1_000_000, 60),
}
_ALIASES = {"weekday": "dow", "dayofweek": "dow", "dayofyear": "doy", "dayofmonth": "day"}
PARTS = frozenset([*_OF_DAYS, *_OF_TIME, *_ALIASES, "epoch"])


def part(name: str, micros: Array) -> Array:
    """extract(name FROM …) of microseconds since 1970; a DOUBLE for `epoch`, else whole."""
    key = _ALIASES.get(name.lower(), name.lower())
    if key == "epoch":
        return micros / 1e6
    if key in _OF_DAYS:
        return _OF_DAYS[key](micros // DAY)
    if key in _OF_TIME:
        unit, most = _OF_TIME[key]
        return micros // unit % most
    raise Refused(f"the date part {name}")


def truncated(unit: str, micros: Array) -> Array:
    """date_trunc: the start of the unit a time is in, in microseconds; weeks start on Monday."""
    name, days = unit.lower(), micros // DAY
    if name in ("hour", "minute", "second", "millisecond", "microsecond"):
        size = interval_of(1, name).micros
        return micros // size * size
    if name == "day":
        return days * DAY
    if name == "week":
        return (days - _isodow(days) + 1) * DAY
    year, month, _ = civil(days)
    if name == "year":
        return days_from_civil(year, 1, 1) * DAY
    if name == "quarter":
        month = (month - 1) // 3 * 3 + 1
    elif name != "month":
        raise Refused(f"date_trunc to {unit}")
    return days_from_civil(year, month, 1) * DAY


def boundaries(unit: str, start: Array, stop: Array) -> Array:
    """date_diff: how many starts of a unit lie between two times."""
    name = unit.lower()
    if name in ("year", "quarter", "month"):
        (a, b, _), (c, d, _) = (
            civil(truncated(name, start) // DAY),
            civil(truncated(name, stop) // DAY),
        )
        return ((c - a) * 12 + d - b) // {"year": 12, "quarter": 3, "month": 1}[name]
    if name == "week":
        passed = stop // DAY - start // DAY
        return abs(passed) // 7 * _sign(passed)
    one = interval_of(1, name)
    return (truncated(name, stop) - truncated(name, start)) // (one.days * DAY + one.micros)


def _sign(numbers: Array) -> Array:
    return (numbers > 0) * 1 - (numbers < 0) * 1


def moved(arrays: Any, micros: Array, by: Interval) -> Array:
    """Times moved by an interval; the day is cut to the month's length."""
    if by.months:
        days = micros // DAY
        year, month, day = civil(days)
        months = year * 12 + month - 1 + by.months
        year, month = months // 12, months % 12 + 1
        following = days_from_civil(year + month // 12, month % 12 + 1, 1)
        length = following - days_from_civil(year, month, 1)
        moved_days = days_from_civil(year, month, arrays.minimum(day, length))
        micros = moved_days * DAY + micros % DAY
    return micros + by.days * DAY + by.micros
