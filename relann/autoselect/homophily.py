"""Label homophily: whether entities that meet have labels alike, path by path."""

from __future__ import annotations

from collections.abc import Sequence

from relann.autoselect.ground import Ground, Signal, with_
from relann.autoselect.likeness import CLASS_MEASURES, CLASS_PARTS
from relann.autoselect.paths import Path, paths

MOST_PATHS = 32
"""How many paths are looked at; further ones are named."""

MOST_PAIRS = 2_000_000
"""Rows of a path's join above which only one of every so many pairs is looked at."""

_MEANINGS = {
    "class_insensitive_homophily": "0: neighbours tell nothing of the class, 1: everything",
    "adjusted_homophily": "share of pairs with equal labels, beyond chance (0), at most 1",
    "label_correlation": "Pearson correlation of a label with its neighbour's",
}


def homophily(ground: Ground) -> list[Signal]:
    """Each path's measures, then for each measure the largest and the mean weighted by pairs.

    A pair is a training seed and another entity that it meets, by rows known at the seed's anchor,
    with that entity's latest training label known by then; it counts once, however often the two
    meet. Classes have the class-insensitive homophily of Lim et al. (2021) and the adjusted one of
    Platonov et al. (2023), numbers the Pearson correlation. Where a path's join is too large, pairs
    are taken by a hash of their keys; the note says how many.
    """
    names = _measures(ground)
    if not names:
        return [_none("homophily", "lists of keys have no homophily: the task is a ranking")]
    if ground.entity is None:
        reason = f"task `{ground.task.name}` does not know its entities' table"
        return [_none(name, reason) for name in names]
    found = paths(ground)
    if not found:
        return [_none(name, "no foreign keys connect two entities") for name in names]
    signals, weights = list[Signal](), list[int]()
    for path in found[:MOST_PATHS]:
        buckets = _buckets(ground, path)
        for signal in _of_path(ground, path, names, buckets):
            signals.append(signal)
            weights.append(buckets * (signal.rows or 0))
    summed = [s for name in names for s in _summary(signals, weights, name)]
    if left := found[MOST_PATHS:]:
        shown = ", ".join(path.name for path in left[:5])
        summed = [s.because(f"{len(left)} paths not looked at: {shown} …") for s in summed]
    return [*signals, *summed]


def pairs_sql(ground: Ground, path: Path, buckets: int = 1) -> str:
    """The query of a path's pairs: (u, anchor, y, v, z), z the label of v that is known at the
    anchor.

    One of `buckets` pairs, by a hash of the seed's and of the neighbour's keys.
    """
    return with_(_pair_parts(ground, path, buckets), "SELECT u, anchor, y, v, z FROM labelled")


def _measures(ground: Ground) -> tuple[str, ...]:
    if ground.task.kind == "ranking":
        return ()
    if ground.task.kind == "regression":
        return ("label_correlation",)
    return ("class_insensitive_homophily", "adjusted_homophily")


def _none(name: str, reason: str) -> Signal:
    return Signal(name, None, None, 0, _MEANINGS.get(name, "likeness of neighbours"), reason)


def _meeting_parts(ground: Ground, path: Path) -> list[tuple[str, str]]:
    """`reach`: which rows a seed reaches by its anchor; `other`: who is to be met there."""
    turns = [(path.first, path.second)]
    if path.first is not path.second:
        turns.append((path.second, path.first))
    reach, other = [], []
    for turn, (own, their) in enumerate(turns):
        reach.append(
            f"SELECT DISTINCT {turn} AS turn, s.u, s.anchor, s.y, l.x FROM seed s "
            f"JOIN ({own.sql}) l ON l.e = s.u AND l.since <= s.anchor"
        )
        other.append(
            f"SELECT {turn} AS turn, l.x, l.e AS v, min(l.since) AS since FROM ({their.sql}) l "
            "SEMI JOIN seed s ON s.u = l.e GROUP BY l.x, l.e"
        )
    return [
        ("seed", ground.seed),
        ("reach", " UNION ALL ".join(reach)),
        ("other", " UNION ALL ".join(other)),
    ]


def _pair_parts(ground: Ground, path: Path, buckets: int) -> list[tuple[str, str]]:
    same = f" AND hash(o.v) % {buckets} = hash(r.u, r.anchor) % {buckets}" if buckets > 1 else ""
    return [
        *_meeting_parts(ground, path),
        ("past", ground.past),
        (
            "pair",
            "SELECT DISTINCT r.u, r.anchor, r.y, o.v FROM reach r "
            f"JOIN other o ON o.turn = r.turn AND o.x = r.x{same} "
            "AND o.since <= r.anchor AND o.v <> r.u",
        ),
        (
            "labelled",
            "SELECT p.u, p.anchor, p.y, p.v, k.y AS z FROM pair p "
            f"ASOF JOIN past k ON k.u = p.v AND {ground.known('p.anchor', 'k.known')}",
        ),
    ]


def _buckets(ground: Ground, path: Path) -> int:
    """One of how many pairs is looked at, so that the join stays within MOST_PAIRS rows or so."""
    met = "SELECT turn, x, count(*) AS n FROM other GROUP BY ALL"
    (size,) = ground.one(
        with_(
            _meeting_parts(ground, path),
            f"SELECT sum(o.n) FROM reach r JOIN ({met}) o ON o.turn = r.turn AND o.x = r.x",
        )
    )
    return 1 + int(size or 0) // MOST_PAIRS


def _of_path(ground: Ground, path: Path, names: Sequence[str], buckets: int) -> list[Signal]:
    parts = _pair_parts(ground, path, buckets)
    if names == ("label_correlation",):
        sql = with_(
            parts, "SELECT corr(y, z) AS label_correlation, count(*) AS pairs FROM labelled"
        )
        constant = "labels of these pairs do not vary"
    else:
        sql = with_([*parts, *CLASS_PARTS], CLASS_MEASURES)
        constant = "all labels of these pairs are of one class"
    *values, pairs = ground.one(sql)
    note = f"one of {buckets} pairs, by a hash of their keys" if buckets > 1 else None
    found = []
    for name, value in zip(names, values, strict=True):
        signal = Signal(name, path.name, value, pairs, _MEANINGS[name], note, sql)
        if value is None:
            signal = signal.because(
                constant if pairs else "no two entities meet here with a label known by then"
            )
        found.append(signal)
    return found


def _summary(signals: Sequence[Signal], weights: Sequence[int], name: str) -> list[Signal]:
    """The largest of all paths, and the mean by how many pairs a path has in all."""
    found = [
        (s.value, weight, s)
        for s, weight in zip(signals, weights, strict=True)
        if s.signal == name and s.value is not None
    ]
    if not found:
        return [_none(name, "undefined on every path")]
    largest, _, best = max(found, key=lambda one: one[0])
    pairs = sum(s.rows or 0 for _, _, s in found)
    mean = sum(value * weight for value, weight, _ in found) / sum(w for _, w, _ in found)
    return [
        Signal(f"{name}_max", None, largest, best.rows, "the largest of all paths", best.path),
        Signal(f"{name}_mean", None, mean, pairs, "the mean of all paths, weighted by pairs"),
    ]
