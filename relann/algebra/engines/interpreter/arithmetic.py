"""Operators and functions of non-NULL numbers, times and texts, as DuckDB computes them."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal

import numpy as np

from relann.algebra.engines.interpreter.casts import cast, round_half_away, text_of
from relann.algebra.engines.interpreter.comparing import aligned
from relann.algebra.engines.interpreter.values import DECIMALS, Interval, Value, elapsed
from relann.errors import DataError, EngineError

Number = int | float | Decimal | np.float32


def _numeric(a: Value, b: Value, what: str) -> tuple[Value, Value]:
    for x in (a, b):
        if isinstance(x, bool) or not isinstance(x, Number):
            raise EngineError(f"{what} does not take {type(x).__name__} values")
    return aligned(a, b)


def _float(function: Callable[..., Value], *arguments: float | np.float32) -> Value:
    """A function of floats of one type, by IEEE's rules: no error, inf and NaN as they come."""
    single = isinstance(arguments[0], np.float32)
    with np.errstate(all="ignore"):
        found = function(*(a if single else np.float64(a) for a in arguments))
    return np.float32(found) if single else float(found)


def _arithmetic(
    a: Value, b: Value, exact: Callable[..., Value], inexact: Callable[..., Value], what: str
) -> Value:
    a, b = _numeric(a, b, what)
    if isinstance(a, Decimal):
        return exact(DECIMALS, a, b)
    return inexact(a, b) if isinstance(a, int) else _float(inexact, a, b)


def add(a: Value, b: Value) -> Value:
    """Sum of numbers, or a date or time moved by days or an interval."""
    if isinstance(b, date) and not isinstance(a, date):
        a, b = b, a
    if isinstance(a, Interval) and isinstance(b, Interval):
        return a.plus(b)
    if isinstance(a, date) and isinstance(b, Interval):
        return b.after(cast(a, "TIMESTAMP"))
    if isinstance(a, date) and isinstance(b, int) and not isinstance(a, datetime):
        return a + timedelta(days=b)
    return _arithmetic(a, b, type(DECIMALS).add, operator.add, "+")


def subtract(a: Value, b: Value) -> Value:
    """Difference of numbers, of dates (in days), of timestamps (an interval)."""
    if isinstance(b, Interval):
        return add(a, b.scaled(-1))
    if isinstance(a, date) and isinstance(b, date):
        if isinstance(a, datetime) or isinstance(b, datetime):
            return elapsed(cast(a, "TIMESTAMP"), cast(b, "TIMESTAMP"))
        return (a - b).days
    if isinstance(a, date) and isinstance(b, int):
        return add(a, -b)
    return _arithmetic(a, b, type(DECIMALS).subtract, operator.sub, "-")


def multiply(a: Value, b: Value) -> Value:
    """Product of numbers, or an interval taken a whole number of times."""
    if isinstance(b, Interval):
        a, b = b, a
    if isinstance(a, Interval) and isinstance(b, int):
        return a.scaled(b)
    return _arithmetic(a, b, type(DECIMALS).multiply, operator.mul, "*")


def divide(a: Value, b: Value) -> Value:
    """Quotient in floating point, of whole numbers too; division by zero is inf or NaN."""
    a, b = _numeric(a, b, "/")
    if not isinstance(a, np.float32):
        a, b = float(a), float(b)
    return _float(operator.truediv, a, b)


def divide_whole(a: Value, b: Value) -> Value:
    """`//`: whole numbers towards zero, others as `/` (as DuckDB 2.0 has it)."""
    a, b = _numeric(a, b, "//")
    if b == 0:
        raise DataError(f"division by zero in {text_of(a)} // {text_of(b)}")
    if not isinstance(a, int):
        return divide(a, b)
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def remainder(a: Value, b: Value) -> Value:
    """`%`: of the sign of `a`."""
    a, b = _numeric(a, b, "%")
    if isinstance(a, float | np.float32):
        return _float(np.fmod, a, b)
    if b == 0:
        raise DataError(f"division by zero in {text_of(a)} % {text_of(b)}")
    return DECIMALS.remainder(a, b) if isinstance(a, Decimal) else a - b * divide_whole(a, b)


def negate(a: Value) -> Value:
    """−a."""
    if isinstance(a, Interval):
        return a.scaled(-1)
    _numeric(a, a, "-")
    return -a


def real(function: Callable[..., Value]) -> Callable[..., Value]:
    """A function of DOUBLEs."""
    return lambda *arguments: _float(function, *(cast(a, "DOUBLE") for a in arguments))


def logarithm(a: Value, b: Value | None = None) -> Value:
    """log(x) to base 10, log(base, x)."""
    if b is None:
        return real(np.log10)(a)
    return divide(real(np.log10)(b), real(np.log10)(a))


def round_to(x: Value, digits: int = 0) -> Value:
    """Rounded to digits after the point (before it, if negative), halves away from zero."""
    if isinstance(x, Decimal):
        scale = -int(x.as_tuple().exponent)
        return x if digits >= scale else _shorten(x, digits)
    if isinstance(x, int):
        return x if digits >= 0 else int(_shorten(Decimal(x), digits))
    moved = float(x) * 10.0**digits if digits >= 0 else float(x) / 10.0**-digits
    if not math.isfinite(moved):
        return x
    nearest = round_half_away(moved)
    return type(x)(nearest / 10.0**digits if digits >= 0 else nearest * 10.0**-digits)


def _shorten(x: Decimal, digits: int) -> Decimal:
    return x.quantize(Decimal(1).scaleb(-digits), context=DECIMALS)


def cut_by(whole: Callable[[Value], int]) -> Callable[[Value], Value]:
    """floor, ceil or trunc; a whole number becomes DOUBLE."""

    def cut(x: Value) -> Value:
        if isinstance(x, Decimal):
            return Decimal(whole(x))
        if isinstance(x, int):
            return float(x)
        return type(x)(whole(x)) if math.isfinite(x) else x

    return cut


def sign(x: Value) -> int:
    """−1, 0 or 1; NaN gives 0."""
    return 0 if x != x else int(x > 0) - int(x < 0)


# -- text ----------------------------------------------------------------------------------------


def joined(a: Value, b: Value) -> Value:
    """`||`: lists end to end, anything else as text."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return a + b
    return text_of(a) + text_of(b)


def like(text: str, pattern: str, fold: bool = False, escape: str = "") -> bool:
    """LIKE: `%` any characters, `_` one; `fold` for ILIKE."""
    parts, characters = [], iter(pattern)
    for c in characters:
        if c == escape:
            parts.append(re.escape(next(characters, "")))
        else:
            parts.append({"%": ".*", "_": "."}.get(c, re.escape(c)))
    flags = re.DOTALL | (re.IGNORECASE if fold else 0)
    return re.fullmatch("".join(parts), text, flags) is not None


def substring(text: str, start: int, length: int | None = None) -> str:
    """`length` characters from the `start`th, counted from 1, from the end if negative."""
    begin = start - 1 if start > 0 else start + (len(text) if start < 0 else -1)
    stop = len(text) if length is None else begin + length
    return text[max(begin, 0) : max(stop, 0)]
