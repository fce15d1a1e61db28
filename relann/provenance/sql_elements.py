"""One element of an embedding as DuckDB SQL: the numbers torch computes, in SQL's own functions.

Arguments are SQL of numbers, most of them used more than once, so hand in columns or literals.
NULL stays NULL throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from relann.provenance.encoders import Period, Standard


def literal(value: float, kind: str) -> str:
    """A number of a type; shortest text that reads back as the same double."""
    if not math.isfinite(value):
        return f"CAST('{value}' AS {kind})"
    return f"CAST({value!r} AS {kind})"


def cast(sql: str, kind: str) -> str:
    """An expression as a number of a type."""
    return f"CAST({sql} AS {kind})"


# erfc(z) = t · e^(−z²) · p(2t − 1) with t = 2 / (2 + z) for z ≥ 0: the polynomial of degree 24
# through erfcx(z) / t at Chebyshev's points. Its error is below 3e-14 of the value.
_ERFC = (
    0.510791352621, 0.3435803422069, 0.139736046278, 0.01822111575346, -0.0107553309455,
    -0.003239592533156, 0.001545306039428, 0.0004186480120822, -0.0003315368033899,
    -1.718552733038e-05, 7.22354050159e-05, -1.707549093541e-05, -1.08471771032e-05,
    8.063970648392e-06, -5.680626777144e-07, -1.829442552536e-06, 1.0159059191e-06,
    9.125976244499e-09, -3.113948855689e-07, 1.545420623594e-07, 2.64604855597e-08,
    -5.346238596189e-08, 1.003869952353e-08, 6.958292477432e-09, -2.478102504264e-09,
)  # fmt: skip


def gelu_place(x: str) -> str:
    """Where |x| / √2 lies for `gelu`, a DOUBLE from −1 to 1: a column of its own."""
    return f"4 / (2 + abs(CAST({x} AS DOUBLE)) * {1 / math.sqrt(2)!r}::DOUBLE) - 1"


def gelu(x: str, place: str, kind: str) -> str:
    """x · Φ(x), Φ the normal distribution's, from x and its `gelu_place`."""
    series = f"{_ERFC[-1]!r}::DOUBLE"
    for coefficient in reversed(_ERFC[:-1]):
        series = f"({series} * {place} + {coefficient!r}::DOUBLE)"
    tail = f"({place} + 1) / 4 * exp(CAST({x} AS DOUBLE) * {x} / -2) * {series}"
    return cast(f"CASE WHEN {x} > 0 THEN {x} ELSE 0 END - abs({x}) * {tail}", kind)


UNARY: dict[str, Callable[[str, str], str]] = {
    "relu": lambda x, kind: f"CASE WHEN {x} < 0 THEN {literal(0.0, kind)} ELSE {x} END",
    "tanh": lambda x, kind: cast(f"tanh({x})", kind),
    "sigmoid": lambda x, kind: cast(f"1 / (1 + exp(-{x}))", kind),
    "elu": lambda x, kind: f"CASE WHEN {x} > 0 THEN {x} ELSE {cast(f'exp({x}) - 1', kind)} END",
    "exp": lambda x, kind: cast(f"exp({x})", kind),
    "log": lambda x, kind: cast(f"ln({x})", kind),
    "sqrt": lambda x, kind: cast(f"sqrt({x})", kind),
    "abs": lambda x, kind: f"abs({x})",
    "neg": lambda x, kind: f"(-{x})",
}
"""Element-wise functions of one number, of (number, type)."""


def unless_strange(sql: str, kind: str) -> str:
    """A number of a key's own, NaN where the key has none.

    NaN goes wherever the number would have gone, and no further: what does not depend on it stays.
    """
    return f"coalesce({sql}, {literal(math.nan, kind)})"


BINARY = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
"""Element-wise operations of two numbers."""


def leaky_relu(x: str, slope: float, kind: str) -> str:
    """x where it is positive, slope · x elsewhere."""
    return f"CASE WHEN {x} > 0 THEN {x} ELSE {x} * {literal(slope, kind)} END"


def packed(elements: Sequence[str]) -> str:
    """The elements as one list; that of a NULL embedding holds zeros.

    DuckDB's products refuse lists with NULLs, and where only some rows' lists are NULL, `CASE` puts
    NULLs into these.
    """
    return f"[{', '.join(f'coalesce({e}, 0)' for e in elements)}]"


def where_known(value: str, *elements: str) -> str:
    """The value where none of some elements is NULL."""
    return f"CASE WHEN {' AND '.join(f'{e} IS NOT NULL' for e in elements)} THEN {value} END"


# -- encodings: see `relann.provenance.encoders` ---------------------------------------------------


def numeric(x: str, standard: Standard, kind: str) -> tuple[str, ...]:
    """(standardised value, missing)."""
    mean, std = literal(standard.mean, "DOUBLE"), literal(standard.std, "DOUBLE")
    value = f"(CAST({x} AS DOUBLE) - {mean}) / {std}"
    return _known(x, [value], kind)


def elapsed(x: str, scales: Sequence[float], kind: str) -> tuple[str, ...]:
    """Eight numbers for a duration in seconds."""
    size = f"abs(CAST({x} AS DOUBLE))"
    shares = [f"{size} / ({size} + {s!r}::DOUBLE)" for s in scales]
    logarithm = f"ln(1 + {size} / 86400) / 8"
    return _known(x, [*shares, logarithm, f"CASE WHEN {x} < 0 THEN 1 ELSE 0 END"], kind)


_DAY = 86_400_000_000


def time(x: str, period: Period, kind: str) -> tuple[str, ...]:
    """Ten numbers for an instant, given as microseconds since 1970 in UTC."""
    date = f"make_timestamp({x})"
    clock = f"({_modulo(x, _DAY)} / {_DAY}::DOUBLE)"
    leap = f"(day(last_day(make_date(year({date}), 2, 1))) - 28)"
    cycles = [
        clock,
        f"({_modulo(f'({x} + {3 * _DAY})', 7 * _DAY)} / {7 * _DAY}::DOUBLE)",
        f"((day({date}) - 1 + {clock}) / day(last_day({date})))",
        f"((dayofyear({date}) - 1 + {clock}) / (365 + {leap}))",
    ]
    position = f"(CAST({x} AS DOUBLE) - {period.start}) / {period.length}::DOUBLE"
    waves = [f"{wave}({2 * math.pi!r}::DOUBLE * {c})" for c in cycles for wave in ("sin", "cos")]
    return _known(x, [position, *waves], kind)


def _modulo(x: str, by: int) -> str:
    """Never negative, unlike SQL's remainder."""
    return f"((({x} % {by}) + {by}) % {by})"


def _known(x: str, values: Sequence[str], kind: str) -> tuple[str, ...]:
    """The values, 0 where x is NULL, and whether it is."""
    zero = literal(0.0, kind)
    there = [f"CASE WHEN {x} IS NULL THEN {zero} ELSE {cast(v, kind)} END" for v in values]
    return (*there, f"CASE WHEN {x} IS NULL THEN {literal(1.0, kind)} ELSE {zero} END")


# -- texts -----------------------------------------------------------------------------------------


def word_buckets(texts: str, gaps: str, buckets: int) -> str:
    """(text, bucket) of every word of the distinct texts in column `text` of a relation.

    Words and buckets are those of `relann.provenance.encoders.Words`.
    """
    split = f"regexp_split_to_array(lower(text), '{gaps}')"
    return (
        f"SELECT text, md5_number_lower(word) % {buckets} AS bucket FROM "
        f"(SELECT text, unnest({split}) AS word FROM "
        f"(SELECT DISTINCT text FROM {texts} WHERE text IS NOT NULL)) WHERE word <> ''"
    )


def text_of(value: str) -> str:
    """A text literal."""
    return "'" + value.replace("'", "''") + "'"
