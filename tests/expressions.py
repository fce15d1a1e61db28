"""Drawn content expressions: SQL text over columns of known kinds, always of one type each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

KINDS = ("whole", "double", "float", "decimal", "text", "truth", "moment", "day")

LITERALS: dict[str, tuple[str, ...]] = {
    "whole": ("0", "1", "2", "-3", "7", "100"),
    "double": ("0.5::DOUBLE", "-1.25::DOUBLE", "2e0", "0::DOUBLE", "'nan'::DOUBLE", "1e3"),
    "float": ("0.5::FLOAT", "0.1::FLOAT", "3::FLOAT"),
    "decimal": ("0.5", "-1.25", "2.50", "10.0"),
    "text": ("'a'", "'b'", "''", "'A'", "'ab%'", "'zé'"),
    "truth": ("TRUE", "FALSE"),
    "moment": ("TIMESTAMP '2020-01-31 12:30:15.5'", "TIMESTAMP '2021-03-01 00:00:00'"),
    "day": ("DATE '2020-02-29'", "DATE '2019-12-30'"),
}

_CASTS = {
    "whole": "INTEGER", "double": "DOUBLE", "float": "FLOAT", "decimal": "DECIMAL(12,3)",
    "text": "VARCHAR", "truth": "BOOLEAN", "moment": "TIMESTAMP", "day": "DATE",
}  # fmt: skip

_NUMBERS = ("whole", "double", "float", "decimal")
_PARTS = ("year", "month", "day", "dow", "isodow", "doy", "week", "quarter", "hour", "minute")

# {kind} stands for a drawn expression of that kind, {same} for one of the kind asked for
_FORMS: dict[str, tuple[str, ...]] = {
    "whole": (
        "({whole} + {whole})", "({whole} - {whole})", "({whole} * {whole})", "(- {whole})",
        "({whole} // NULLIF({whole}, 0))", "({whole} % 3)", "abs({whole})", "length({text})",
        "sign({double})", "round({whole}, -1)", "CAST({truth} AS INTEGER)",
        "TRY_CAST({text} AS INTEGER)", "date_part('{part}', {moment})",
        "extract({part} FROM {day})", "({day} - {day})", "date_diff('day', {day}, {day})",
        "date_diff('month', {moment}, {moment})", "date_diff('hour', {moment}, {day})",
        "year({day})", "greatest({whole}, {whole})", "CAST({double} > 0 AS INTEGER)",
        "round(least(greatest({double}, -9), 9))::INTEGER",
    ),
    "double": (
        "({double} + {double})", "({double} - {whole})", "({double} * {double})",
        "({whole} / {whole})", "({double} / {double})", "({decimal} / {whole})", "(- {double})",
        "abs({double})", "round({double}, 1)", "round({double})", "floor({double})",
        "ceil({double})", "trunc({double})", "floor({whole})", "sqrt({double})", "ln({double})",
        "log({double})", "exp({double})", "power({double}, 2)", "({double} % 2.5)",
        "CAST({decimal} AS DOUBLE)", "CAST({float} AS DOUBLE)", "epoch({moment})",
        "({double} // 2)", "({float} + {double})", "CAST({truth} AS DOUBLE)",
        "({decimal} + {double})", "epoch({moment} - {moment})", "log(2, {double})",
        "sin({double})",
    ),
    "float": (
        "({float} + {float})", "({float} * {whole})", "({float} - {decimal})",
        "({float} / {whole})", "abs({float})", "(- {float})", "round({float}, 1)",
        "CAST({whole} AS FLOAT)", "floor({float})",
    ),
    "decimal": (
        "({decimal} + {decimal})", "({decimal} * 2)", "({decimal} - {whole})", "abs({decimal})",
        "round({decimal}, 1)", "floor({decimal})", "({decimal} % 3)", "(- {decimal})",
        "CAST({whole} AS DECIMAL(12,3))",
    ),
    "text": (
        "({text} || {text})", "lower({text})", "upper({text})",
        "concat({text}, {whole}, {truth})", "CAST({whole} AS VARCHAR)",
        "CAST({truth} AS VARCHAR)", "CAST({day} AS VARCHAR)", "CAST({moment} AS VARCHAR)",
        "substr({text}, 2, 2)", "substring({text}, -2)", "replace({text}, 'a', 'xy')",
        "({text} || {whole})", "trim({text})", "CAST({decimal} AS VARCHAR)",
        "greatest({text}, {text})", "CAST({double} AS VARCHAR)",
    ),
    "truth": (
        "({number} {order} {number})", "({text} {order} {text})", "({moment} {order} {day})",
        "({day} {order} {day})", "({truth} AND {truth})", "({truth} OR {truth})",
        "(NOT {truth})", "({any} IS NULL)", "({any} IS NOT NULL)",
        "({double} IS DISTINCT FROM {double})", "({text} IS NOT DISTINCT FROM {text})",
        "({whole} IN ({whole}, {whole}, NULL))", "({text} NOT IN ({text}, 'b'))",
        "({double} BETWEEN {whole} AND {double})", "({text} NOT BETWEEN 'a' AND {text})",
        "({text} LIKE 'a%')", "({text} NOT LIKE '_b%')", "({text} ILIKE {text})",
        "([{text}, {text}] = [{text}, {text}])", "({truth} IS TRUE)",
        "([{whole}, {whole}] < [{whole}, {whole}])", "({truth} = {truth})", "isnan({double})",
        "({truth} IS NOT FALSE)", "({moment} - {moment} > INTERVAL 20 DAY)",
        "starts_with({text}, 'a')", "({moment} >= '2020-06-01')",
        "(({whole}, {text}) = ({whole}, {text}))",
    ),
    "moment": (
        "({moment} + INTERVAL 1 MONTH)", "({moment} - INTERVAL '36' HOUR)",
        "({day} + INTERVAL 2 DAY)", "date_trunc('{trunc}', {moment})",
        "CAST({day} AS TIMESTAMP)", "greatest({moment}, {moment})",
        "({moment} + INTERVAL ({small}) DAY)", "({moment} - INTERVAL 1 YEAR)",
    ),
    "day": ("({day} + 31)", "({day} - 1)", "CAST({moment} AS DATE)", "least({day}, {day})"),
}  # fmt: skip
_ANY_KIND = (
    "CASE WHEN {truth} THEN {same} ELSE {same} END", "CASE WHEN {truth} THEN {same} END",
    "coalesce({same}, {same})", "NULLIF({same}, {same})",
    "CASE {whole} WHEN {whole} THEN {same} END", "if({truth}, {same}, {same})",
)  # fmt: skip
_TRUNCATIONS = ("year", "quarter", "month", "week", "day", "hour", "minute")


@st.composite
def expressions(
    draw: st.DrawFn, kind: str, columns: Mapping[str, str], depth: int = 2, literals: bool = True
) -> str:
    """An expression of a kind; `columns` are references as they stand in the text, with kinds."""
    own = [c for c, k in columns.items() if k == kind]
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        choices = own + (list(LITERALS[kind]) if literals or not own else [])
        if own and draw(st.integers(0, 3)):
            return draw(st.sampled_from(own))
        chosen = draw(st.sampled_from(choices))
        return f"CAST({chosen} AS {_CASTS[kind]})" if kind == "decimal" else chosen
    form = draw(st.sampled_from(_FORMS[kind] * 2 + _ANY_KIND))
    if kind == "decimal":  # a branch of a wider scale would give its value that scale
        form = form.replace("{same}", "CAST({decimal} AS DECIMAL(12,3))")

    def part(wanted: str) -> str:
        return draw(expressions(wanted, columns, depth - 1, literals))

    out = form
    while "{" in out:
        before, _, rest = out.partition("{")
        slot, _, after = rest.partition("}")
        fixed: dict[str, Any] = {
            "part": _PARTS, "trunc": _TRUNCATIONS, "order": ("=", "<>", "<", "<=", ">", ">="),
            "small": ("0", "1", "-40", "400"),
        }  # fmt: skip
        if slot in fixed:
            made = draw(st.sampled_from(fixed[slot]))
        else:
            wider = {"number": _NUMBERS, "any": KINDS, "same": (kind,)}.get(slot, (slot,))
            made = part(draw(st.sampled_from(wider)))
        out = before + made + after
    return out
