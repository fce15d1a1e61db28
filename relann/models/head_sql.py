"""The columns of a prediction as SQL: what `Head.columns` makes of scores."""

from __future__ import annotations

from collections.abc import Sequence

from relann.algebra.terms import quoted
from relann.models.losses import Head
from relann.provenance.sql_elements import text_of


def head_to_sql(head: Head, rows: str, scores: Sequence[str], contents: Sequence[str]) -> str:
    """The predictions of `rows`, a SELECT, as a SELECT.

    `scores` are its columns with the numbers of the prediction, all NULL where that is; `contents`
    those that are handed on, but for those with the name of a column of the prediction. A score
    that is NaN ends the query with an error.
    """
    found = _columns(head, scores)
    kept = [quoted(c) for c in contents if c not in found]
    source = _checked(rows, scores, kept)
    if head.loss == "cross_entropy":
        source = _probabilities(head, source, scores)
    made = [f"{sql} AS {quoted(name)}" for name, sql in found.items()]
    return f"SELECT {', '.join([*kept, *made])} FROM {source}"


STRANGE = (
    "a prediction reads what training did not have: a key that has no weights (per =>), "
    "or a number that is not finite"
)


def _checked(rows: str, scores: Sequence[str], kept: Sequence[str]) -> str:
    """The rows, or an error where one of their scores is NaN."""
    checked = [
        f"CASE WHEN isnan({s}) THEN error({text_of(STRANGE)}) ELSE {s} END AS {s}"
        for s in map(quoted, scores)
    ]
    return f"(SELECT {', '.join([*kept, *checked])} FROM ({rows}))"


def _columns(head: Head, scores: Sequence[str]) -> dict[str, str]:
    """By name, over the columns of scores, and of probabilities for cross entropy."""
    first = quoted(scores[0])
    if head.classes is None:
        if head.width > 1:
            listed = ", ".join(map(quoted, scores))
            return {"prediction": f"CASE WHEN {first} IS NOT NULL THEN [{listed}]::FLOAT[] END"}
        kind = "FLOAT" if head.type in (None, "FLOAT", "REAL") else "DOUBLE"
        return {"prediction": f"CAST({first} AS {kind})"}
    text = head.type is None or head.type.startswith(("VARCHAR", "ENUM"))
    written = [_written(value) for value in head.classes.to_pylist()]
    classes = f"[{', '.join(written)}]::{'VARCHAR' if text else head.type}[]"
    if head.loss == "bce":
        likely = f"1 / (1 + exp(-CAST({first} AS DOUBLE)))"
        chosen = f"({classes})[CASE WHEN {likely} >= 0.5 THEN 2 ELSE 1 END]"
        return {
            "prediction": f"CASE WHEN {first} IS NOT NULL THEN {chosen} END",
            "probability": f"CAST({likely} AS FLOAT)",
        }
    shares = quoted(_shares(scores))
    return {
        "prediction": f"({classes})[list_position({shares}, list_max({shares}))]",
        "probability": f"CAST(list_max({shares}) AS FLOAT)",
        "scores": f"CAST({shares} AS FLOAT[])",
    }


def _shares(scores: Sequence[str]) -> str:
    """A name for the list of probabilities that no column has."""
    return f"{scores[0]} probabilities"


def _probabilities(head: Head, source: str, scores: Sequence[str]) -> str:
    """The rows with the softmax of the scores that stand for classes, as a list of DOUBLE."""
    assert head.classes is not None
    used = scores[: len(head.classes)]
    most, total, shares = f"{scores[0]} most", f"{scores[0]} total", _shares(scores)
    powers = [f"{s} power" for s in used]
    largest = f"greatest({', '.join(map(quoted, used))})"
    raised = ", ".join(
        f"exp(CAST({quoted(s)} AS DOUBLE) - {quoted(most)}) AS {quoted(p)}"
        for s, p in zip(used, powers, strict=True)
    )
    divided = ", ".join(f"{quoted(p)} / {quoted(total)}" for p in powers)
    known = f"CASE WHEN {quoted(total)} IS NOT NULL THEN [{divided}] END"
    source = f"(SELECT *, {largest} AS {quoted(most)} FROM {source})"
    source = f"(SELECT *, {raised} FROM {source})"
    source = f"(SELECT *, {' + '.join(map(quoted, powers))} AS {quoted(total)} FROM {source})"
    return f"(SELECT *, {known} AS {quoted(shares)} FROM {source})"


def _written(value: object) -> str:
    return text_of(value) if isinstance(value, str) else str(value).upper()
