"""Joins as pairs of row numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlglot import exp

from relann.algebra.engines.frames.expressions import Expressions
from relann.algebra.engines.frames.keys import SortKey, group_numbers, ranks, sorted_rows
from relann.algebra.engines.frames.library import Array, Library, Refused, rows
from relann.algebra.engines.frames.vectors import Vector, both, stacked, taken
from relann.algebra.nodes import Join
from relann.algebra.terms import Content

MOST_PAIRS = 50_000_000
"""Pairs up to which a join without an equality is made and filtered."""


@dataclass(frozen=True)
class Side:
    """One side of a join: its columns and how many rows it has."""

    columns: Mapping[str, Vector]
    count: int


Pairs = tuple[Array, Array]


def joined(library: Library, node: Join, left: Side, right: Side) -> Pairs:
    """Row numbers of both sides, −1 for none; of the left side alone for semi and anti joins."""
    if node.kind in ("asof", "asof_left"):
        return _nearest(library, node, left, right)
    arrays = library.arrays
    condition = _Condition.of(node.on, left, right)
    pairs = _equal_pairs(library, condition, left, right)
    pairs = _filtered(library, condition.rest, left, right, pairs)
    if node.kind == "inner":
        return pairs
    met = arrays.zeros(left.count, dtype=bool)
    met[pairs[0]] = True
    if node.kind in ("semi", "anti"):
        kept = arrays.nonzero(met if node.kind == "semi" else ~met)[0]
        return kept, kept
    alone = arrays.nonzero(~met)[0]
    parts = [pairs, (alone, arrays.full(len(alone), -1, dtype=alone.dtype))]
    if node.kind == "full":
        seen = arrays.zeros(right.count, dtype=bool)
        seen[pairs[1]] = True
        others = arrays.nonzero(~seen)[0]
        parts.append((arrays.full(len(others), -1, dtype=others.dtype), others))
    l, r = (arrays.concatenate([p[i] for p in parts]) for i in (0, 1))  # noqa: E741
    return l, r


@dataclass(frozen=True)
class _Condition:
    """A condition as equalities between the sides, inequalities between them, and the rest."""

    equal: tuple[tuple[exp.Expr, exp.Expr], ...]
    unequal: tuple[tuple[str, exp.Expr, exp.Expr], ...]
    rest: tuple[exp.Expr, ...]

    @classmethod
    def of(cls, on: Content | None, left: Side, right: Side) -> _Condition:
        equal: list[tuple[exp.Expr, exp.Expr]] = []
        unequal: list[tuple[str, exp.Expr, exp.Expr]] = []
        rest: list[exp.Expr] = []
        whole = None if on is None else on.expression.unnest()
        parts = list(whole.flatten()) if isinstance(whole, exp.And) else [whole]
        for given in parts:
            if given is None:
                continue
            part = given.unnest()
            sides = _sides(part, left, right) if isinstance(part, exp.Binary) else None
            if sides is None:
                rest.append(part)
                continue
            a, b, turned = sides
            how = _COMPARISONS.get(type(part))
            if isinstance(part, exp.EQ):
                equal.append((a, b))
            elif how is not None:
                unequal.append((_TURNED[how] if turned else how, a, b))
                rest.append(part)
            else:
                rest.append(part)
        return cls(tuple(equal), tuple(unequal), tuple(rest))


_COMPARISONS: dict[type[exp.Expr], str] = {exp.GT: ">", exp.GTE: ">=", exp.LT: "<", exp.LTE: "<="}
_TURNED = {">": "<", ">=": "<=", "<": ">", "<=": ">="}


def _sides(part: exp.Expr, left: Side, right: Side) -> tuple[exp.Expr, exp.Expr, bool] | None:
    """The left side's expression, the right side's, and whether they stand the other way round."""
    read = [{c.name for c in side.find_all(exp.Column)} for side in (part.this, part.expression)]
    if not all(read):
        return None
    if read[0] <= set(left.columns) and read[1] <= set(right.columns):
        return part.this, part.expression, False
    if read[0] <= set(right.columns) and read[1] <= set(left.columns):
        return part.expression, part.this, True
    return None


def _equal_pairs(library: Library, on: _Condition, left: Side, right: Side) -> Pairs:
    """Pairs for which all equalities hold, in the order of left rows, then of right rows."""
    arrays = library.arrays
    if not on.equal:
        if left.count * right.count > MOST_PAIRS:
            raise Refused(f"a join of {left.count:,} × {right.count:,} rows without an equality")
        each = rows(library, left.count * right.count)
        return each // max(1, right.count), each % max(1, right.count)
    sides = _match_keys(library, on, left, right)
    names = [f"k{i}" for i in range(len(on.equal))]
    frames = []
    for name, (keys, kept) in zip(("l", "r"), sides, strict=True):
        columns = {n: k[kept] for n, k in zip(names, keys, strict=True)}
        frames.append(library.frame({**columns, name: kept}))
    found = frames[0].merge(frames[1], on=names, how="inner")
    l, r = library.array(found["l"]), library.array(found["r"])  # noqa: E741
    order = arrays.lexsort(arrays.stack([r, l]))
    return l[order], r[order]


def _match_keys(
    library: Library, on: _Condition, left: Side, right: Side
) -> list[tuple[list[Array], Array]]:
    """For each side the ranks of its keys and the rows in which none is NULL."""
    arrays = library.arrays
    ranked: list[list[Array]] = [[], []]
    valid: list[Array | None] = [None, None]
    for pair in on.equal:
        values = [
            Expressions(library, side.columns, side.count).value(node)
            for side, node in zip((left, right), pair, strict=True)
        ]
        values = _comparable(library, values, (left.count, right.count))
        found = ranks(library, values, [left.count, right.count])
        for i in (0, 1):
            ranked[i].append(found[i])
            valid[i] = both(valid[i], values[i].valid)
    out = []
    for i, side in enumerate((left, right)):
        mask = valid[i]
        kept = rows(library, side.count) if mask is None else arrays.nonzero(mask)[0]
        out.append((ranked[i], kept))
    return out


def _comparable(library: Library, values: list[Vector], counts: tuple[int, int]) -> list[Vector]:
    """Columns of both sides as ones of one kind."""
    a, b = values
    if a.kind != b.kind:
        made = Expressions(library, {}, 0)
        if {a.kind, b.kind} == {"whole", "real"}:
            return [made.converted(v, "DOUBLE") for v in values]
        if {a.kind, b.kind} == {"day", "moment"}:
            return [made.converted(v, "TIMESTAMP") for v in values]
        raise Refused(f"{a.type} and {b.type} as keys of a join")
    if a.kind == "real" and a.type != b.type:
        raise Refused(f"{a.type} and {b.type} as keys of a join")
    return values


def _filtered(
    library: Library, rest: tuple[exp.Expr, ...], left: Side, right: Side, pairs: Pairs
) -> Pairs:
    if not rest:
        return pairs
    l, r = pairs  # noqa: E741
    read = {c.name for part in rest for c in part.find_all(exp.Column)}
    columns = {n: taken(library, v, l) for n, v in left.columns.items() if n in read}
    columns |= {n: taken(library, v, r) for n, v in right.columns.items() if n in read}
    of = Expressions(library, columns, len(l))
    kept = None
    for part in rest:
        kept = both(kept, of.truth(part))
    return l[kept], r[kept]


def _nearest(library: Library, node: Join, left: Side, right: Side) -> Pairs:
    """As-of: the right row nearest by the one inequality, of those with equal keys."""
    arrays = library.arrays
    on = _Condition.of(node.on, left, right)
    if len(on.unequal) != 1 or len(on.rest) != 1:
        raise Refused("an as-of join with further conditions")
    how, a, b = on.unequal[0]
    times = [
        Expressions(library, side.columns, side.count).value(n)
        for side, n in ((left, a), (right, b))
    ]
    times = _comparable(library, times, (left.count, right.count))
    (ranked, kept) = zip(*_match_keys(library, on, left, right), strict=True)
    ranks_of = ranks(library, times, [left.count, right.count])
    rows_of = []
    for rows_kept, time in zip(kept, times, strict=True):
        rows_of.append(rows_kept if time.valid is None else rows_kept[time.valid[rows_kept]])
    counts = [len(rows_of[0]), len(rows_of[1])]
    keys = [
        (arrays.concatenate([ranked[i][k][rows_of[i]] for i in (0, 1)]), None)
        for k in range(len(on.equal))
    ]
    ids, _ = group_numbers(library, keys, sum(counts))
    time = arrays.concatenate([ranks_of[i][rows_of[i]] for i in (0, 1)])
    is_right = rows(library, sum(counts)) >= counts[0]
    # at equal times a right row counts where the inequality allows equality
    later, strict = how in ("<", "<="), how in ("<", ">")
    tie = is_right if strict else ~is_right
    # of equal right rows the first one shall be the last before a left row
    place = -rows(library, sum(counts))
    by = [
        SortKey(ids, None), SortKey(time, None, later), SortKey(tie.astype(int), None),
        SortKey(place, None),
    ]  # fmt: skip
    order = sorted_rows(library, by, sum(counts))
    places = arrays.nonzero(is_right[order])[0]
    at = arrays.nonzero(~is_right[order])[0]
    before = arrays.searchsorted(places, at) - 1
    partner = arrays.full(left.count, -1, dtype=ids.dtype)
    if len(places):
        candidate = order[places[arrays.maximum(before, 0)]]
        mine = order[at]
        fits = (before >= 0) & (ids[candidate] == ids[mine])
        partner[rows_of[0][mine]] = arrays.where(fits, rows_of[1][candidate - counts[0]], -1)
    l = rows(library, left.count)  # noqa: E741
    if node.kind == "asof":
        found = partner >= 0
        return l[found], partner[found]
    return l, partner


def union(library: Library, parts: list[Side]) -> dict[str, Vector]:
    """Rows of several sides with the same columns, one after the other."""
    counts = [p.count for p in parts]
    return {
        name: stacked(library, [p.columns[name] for p in parts], counts)
        for name in parts[0].columns
    }
