"""Changing the type of a value, into text and into Arrow too, as DuckDB does."""

from __future__ import annotations

import decimal
import math
import re
from datetime import date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa

from relann.algebra.engines.interpreter.values import DAY, DECIMALS, Interval, Value, interval_of
from relann.errors import DataError, EngineError

_BITS = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64, "HUGEINT": 128}
_RANGES = {
    **{name: (-(2 ** (bits - 1)), 2 ** (bits - 1)) for name, bits in _BITS.items()},
    **{f"U{name}": (0, 2**bits) for name, bits in _BITS.items()},
}
_ALIASES = {
    "INT": "INTEGER", "REAL": "FLOAT", "TEXT": "VARCHAR", "BOOL": "BOOLEAN", "STRING": "VARCHAR",
    "DATETIME": "TIMESTAMP", "BYTEA": "BLOB", "TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE",
}  # fmt: skip
_TRUE, _FALSE = ("true", "t", "1", "yes", "y"), ("false", "f", "0", "no", "n")
_STAMP = re.compile(
    r"^\s*(\d{1,4})-(\d{1,2})-(\d{1,2})"
    r"(?:[ T](\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,6}))?)?)?\s*$"
)


def base_type(sql_type: str) -> tuple[str, tuple[int, ...]]:
    """A type's standard name and its numbers: `DECIMAL(5, 2)` is ("DECIMAL", (5, 2)).

    `T[]` and `T[n]` are ("[]", …); their element type is all before the last bracket.
    """
    text = sql_type.strip()
    if text.endswith("]"):
        return "[]", ()
    name, _, rest = text.partition("(")
    name = name.strip().upper()
    numbers = tuple(int(n) for n in rest.rstrip(")").split(",") if n.strip().isdigit())
    return _ALIASES.get(name, name), numbers


_CONVERTED = frozenset(
    [
        *(*_RANGES, "DOUBLE", "FLOAT", "DECIMAL", "NUMERIC", "BOOLEAN", "VARCHAR", "DATE"),
        *("INTERVAL", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"),
    ]
)


def convertible(sql_type: str) -> bool:
    """Whether `cast` has a rule for the type."""
    name, _ = base_type(sql_type)
    return name in _CONVERTED if name != "[]" else convertible(_element(sql_type))


def _element(sql_type: str) -> str:
    return sql_type.strip().rpartition("[")[0]


def cast(value: Value, sql_type: str) -> Value:
    """The value as a DuckDB type; NULL stays NULL, a type without a rule here leaves it as it is.

    DataError where DuckDB refuses the conversion: a number out of range, text that is none.
    """
    if value is None:
        return None
    name, numbers = base_type(sql_type)
    if name == "[]":
        return tuple(cast(v, _element(sql_type)) for v in value)
    if name in _RANGES:
        return _whole(value, name)
    if name in ("DOUBLE", "FLOAT"):
        return _real(value, name)
    if name in ("DECIMAL", "NUMERIC"):
        return _decimal(value, *(numbers or (18, 3)))
    if name == "BOOLEAN":
        return _boolean(value)
    if name == "VARCHAR":
        return text_of(value)
    if name == "DATE":
        return _moment(value, "DATE").date()
    if name == "INTERVAL":
        return _interval(value)
    return _moment(value, "TIMESTAMP") if name in _CONVERTED else value


def _refused(value: Value, name: str) -> DataError:
    return DataError(f"could not convert {text_of(value)!r} to {name}")


def _whole(value: Value, name: str) -> int:
    if isinstance(value, str):
        try:
            value = Decimal(value.strip())
        except decimal.InvalidOperation:
            raise _refused(value, name) from None
    if isinstance(value, float | np.float32):
        if not math.isfinite(value):
            raise _refused(value, name)
        value = round(float(value))  # to even, unlike decimals
    if isinstance(value, Decimal):
        value = int(value.quantize(Decimal(1), context=DECIMALS))
    if not isinstance(value, int):
        raise _refused(value, name)
    low, high = _RANGES[name]
    if not low <= value < high:
        raise _refused(value, name)
    return int(value)


def _real(value: Value, name: str) -> float | np.float32:
    if not isinstance(value, str | bool | int | float | np.float32 | Decimal):
        raise _refused(value, name)
    try:
        number = float(value.strip().lower() if isinstance(value, str) else value)
    except ValueError:
        raise _refused(value, name) from None
    if name == "DOUBLE":
        return number
    with np.errstate(over="ignore"):
        narrow = np.float32(number)
    if math.isinf(narrow) and not math.isinf(number):
        raise _refused(value, name)
    return narrow


def _decimal(value: Value, digits: int, scale: int = 0) -> Decimal:
    try:
        if isinstance(value, float | np.float32):
            number = Decimal(round_half_away(float(value) * 10**scale)).scaleb(-scale, DECIMALS)
        else:
            number = Decimal(value.strip() if isinstance(value, str) else value)
        number = number.quantize(Decimal(1).scaleb(-scale), context=DECIMALS)
    except (decimal.InvalidOperation, OverflowError, TypeError, ValueError):
        raise _refused(value, f"DECIMAL({digits},{scale})") from None
    if abs(number) >= Decimal(10) ** (digits - scale):
        raise _refused(value, f"DECIMAL({digits},{scale})")
    return number


def _boolean(value: Value) -> bool:
    if isinstance(value, str):
        if value.lower() in _TRUE:
            return True
        if value.lower() in _FALSE:
            return False
        raise _refused(value, "BOOLEAN")
    if isinstance(value, bool | int | float | np.float32 | Decimal):
        return bool(value != 0)
    raise _refused(value, "BOOLEAN")


def text_of(value: Value) -> str:
    """A value as text, as CAST(… AS VARCHAR) writes it."""
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case Decimal():
            return format(value, "f")
        case datetime():
            whole = value.strftime("%Y-%m-%d %H:%M:%S")
            return whole + (f".{value.microsecond:06d}".rstrip("0") if value.microsecond else "")
        case date():
            return value.isoformat()
        case tuple():
            return f"[{', '.join(map(text_of, value))}]"
        case str() | int() | float():
            return str(value)
    if isinstance(value, np.float32):
        return str(value)
    raise EngineError(f"the reference engine does not write {type(value).__name__} values as text")


def _moment(value: Value, name: str) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    found = _STAMP.match(value) if isinstance(value, str) else None
    if found is None:
        raise _refused(value, name)
    *parts, fraction = found.groups()
    try:
        year, month, day, hour, minute, second = (int(p or 0) for p in parts)
        micros = int((fraction or "0").ljust(6, "0"))
        return datetime(year, month, day, hour, minute, second, micros)
    except ValueError:
        raise _refused(value, name) from None


def _interval(value: Value) -> Interval:
    if isinstance(value, Interval):
        return value
    if isinstance(value, timedelta):
        return Interval(0, value.days, value // timedelta(microseconds=1) - value.days * DAY)
    if isinstance(value, pa.MonthDayNano):
        return Interval(value.months, value.days, value.nanoseconds // 1000)
    words = value.split() if isinstance(value, str) else []
    if not words or len(words) % 2:
        raise _refused(value, "INTERVAL")
    total = Interval()
    for amount, unit in zip(words[::2], words[1::2], strict=True):
        total = total.plus(interval_of(_whole(amount, "BIGINT"), unit))
    return total


def round_half_away(x: float) -> float:
    """The nearest whole number, halves away from zero, as C's `round`."""
    if not math.isfinite(x):
        return x
    whole = math.floor(abs(x))
    return math.copysign(whole + (abs(x) - whole >= 0.5), x)


_ARROW: dict[str, pa.DataType] = {
    "BOOLEAN": pa.bool_(), "VARCHAR": pa.string(), "DOUBLE": pa.float64(), "FLOAT": pa.float32(),
    "DATE": pa.date32(), "TIMESTAMP": pa.timestamp("us"), "TIMESTAMP_NS": pa.timestamp("ns"),
    "TIMESTAMP_MS": pa.timestamp("ms"), "TIMESTAMP_S": pa.timestamp("s"), "TIME": pa.time64("us"),
    "BLOB": pa.binary(), "UUID": pa.string(), "INTERVAL": pa.month_day_nano_interval(),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", tz="UTC"),
    "TINYINT": pa.int8(), "SMALLINT": pa.int16(), "INTEGER": pa.int32(), "BIGINT": pa.int64(),
    "UTINYINT": pa.uint8(), "USMALLINT": pa.uint16(), "UINTEGER": pa.uint32(),
    "UBIGINT": pa.uint64(), "HUGEINT": pa.decimal128(38, 0), "UHUGEINT": pa.decimal128(38, 0),
    '"NULL"': pa.null(), "NULL": pa.null(), "ENUM": pa.string(),
}  # fmt: skip


def arrow_type(sql_type: str) -> pa.DataType:
    """The Arrow type DuckDB hands a column of this type over as (text for an ENUM)."""
    name, numbers = base_type(sql_type)
    if name == "[]":
        element, _, size = sql_type.strip().rpartition("[")
        inner = arrow_type(element)
        return pa.list_(inner, int(size[:-1])) if size[:-1] else pa.list_(inner)
    if name in ("DECIMAL", "NUMERIC"):
        return pa.decimal128(*(numbers or (18, 3)))
    if name not in _ARROW:
        raise EngineError(f"the reference engine has no column type {sql_type}")
    return _ARROW[name]


def to_arrow(values: list[Value], sql_type: str) -> pa.Array:
    """The values as an Arrow array of the type DuckDB would give."""
    kind = arrow_type(sql_type)
    if pa.types.is_decimal(kind):
        values = [None if v is None else Decimal(v) for v in values]
    if pa.types.is_interval(kind):
        values = [
            None if v is None else pa.MonthDayNano([v.months, v.days, v.micros * 1000])
            for v in values
        ]
    return pa.array(values, type=kind)
