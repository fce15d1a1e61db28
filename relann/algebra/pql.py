"""What a PREDICT statement says: aggregates over windows of time, and conditions on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from relann.algebra.intervals import Interval
from relann.errors import Span

Constant = str | int | float | bool


@dataclass(frozen=True)
class Value:
    """A constant: text, a number, true or false."""

    value: Constant
    span: Span


@dataclass(frozen=True)
class Column:
    """`table.column`; `column` is None for `table.*`."""

    table: str
    column: str | None
    table_span: Span
    span: Span


@dataclass(frozen=True)
class Comparison:
    """`column op value`, `column [NOT] IN (value, …)`, `column IS [NOT] NULL`.

    `operator` is `=`, `<>`, `<`, `<=`, `>`, `>=`, `IN`, `NOT IN`, `IS NULL` or `IS NOT NULL`.
    """

    column: Column
    operator: str
    values: tuple[Value, ...]
    span: Span


@dataclass(frozen=True)
class Windowed:
    """An aggregate of the rows in (anchor + start, anchor + end] that belong to an entity.

    `function` is upper case. `where` keeps only some rows; `via` names the foreign key where the
    table has several.
    """

    function: str
    column: Column
    start: Interval
    end: Interval
    where: Condition | None
    via: Column | None
    span: Span
    window_span: Span


@dataclass(frozen=True)
class Compared:
    """`aggregate op value`."""

    aggregate: Windowed
    operator: str
    value: Value
    span: Span


@dataclass(frozen=True)
class Not:
    """True where its part is false."""

    part: Condition


@dataclass(frozen=True)
class All:
    """`a AND b AND …`"""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Some:
    """`a OR b OR …`"""

    parts: tuple[Condition, ...]


Condition = Comparison | Compared | Windowed | Not | All | Some
"""A `Windowed` is a condition where its function is EXISTS."""


@dataclass(frozen=True)
class Predict:
    """PREDICT target [RANK TOP k] FOR EACH entity [WHERE where].

    The target is one `Windowed` of any function, or a condition.
    """

    target: Condition
    top_k: int | None
    entity: Column
    where: Condition | None
    span: Span


def aggregates(condition: Condition | None) -> Iterator[Windowed]:
    """The aggregates over windows in a condition, from left to right."""
    match condition:
        case Windowed():
            yield condition
        case Compared(aggregate):
            yield aggregate
        case Not(part):
            yield from aggregates(part)
        case All(parts) | Some(parts):
            for part in parts:
                yield from aggregates(part)
