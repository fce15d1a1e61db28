"""Size, paths, columns and time of a task and its database, as the training seeds see them."""

from __future__ import annotations

from collections.abc import Sequence

from relann.algebra.terms import quoted
from relann.autoselect.ground import ALWAYS, Ground, Signal, with_
from relann.models.generators.program import Link, bare, into, links
from relann.models.generators.values import Columns
from relann.models.tasks import SPLITS
from relann.schema import Relation

_KINDS = ("number", "category", "time", "text", "other")


def size(ground: Ground) -> list[Signal]:
    """How much there is: seeds, entities, tables, columns, rows."""
    task, relations = ground.task, ground.schema.relations.values()
    counts = dict(task.rows)
    signals = [
        Signal(
            f"seeds_{s}", None, float(counts.get(s, 0)), counts.get(s, 0), f"seeds of {s}", None,
            f"SELECT count(*) FROM {task.seeds} WHERE {quoted(task.split)} = '{s}'",
        )
        for s in SPLITS
    ]  # fmt: skip
    sql = with_([("seed", ground.seed)], "SELECT count(DISTINCT u) AS entities, count(*) FROM seed")
    entities, seeds = ground.one(sql)
    told = "different entities among the training seeds"
    signals.append(Signal("entities", None, float(entities), seeds, told, None, sql))
    if ground.entity is not None:
        sql = f"SELECT count(*) FROM {ground.entity.table.name}"
        (rows,) = ground.one(sql)
        told = "rows of the entities' table"
        signals.append(Signal("entity_rows", None, float(rows), rows, told, None, sql))
    counted = " UNION ALL ".join(f"SELECT count(*) AS n FROM {r.table.name}" for r in relations)
    sql = f"SELECT coalesce(sum(n), 0)::BIGINT FROM ({counted})"
    (rows,) = ground.one(sql)
    columns = sum(len(r.table.columns) for r in relations)
    return [
        *signals,
        Signal("tables", None, float(len(relations)), None, "tables and views of the database"),
        Signal("rows", None, float(rows), rows, "rows of them together", None, sql),
        Signal("columns", None, float(columns), None, "columns of them together"),
        Signal("foreign_keys", None, float(len(links(ground.schema))), None, "foreign keys"),
    ]


def reachable(ground: Ground) -> dict[str, int]:
    """The tables that foreign keys connect with the entity's, in either direction, with the hops.

    Empty where the entity's table is not known.
    """
    if ground.entity is None:
        return {}
    hops = {ground.entity.table.name: 0}
    edges = [(k.child.table.name, k.parent.table.name) for k in links(ground.schema)]
    pending = list(hops)
    while pending:
        here = pending.pop(0)
        for child, parent in edges:
            for there in (parent,) * (child == here) + (child,) * (parent == here):
                if there not in hops:
                    hops[there] = hops[here] + 1
                    pending.append(there)
    return hops


def path_shape(ground: Ground) -> list[Signal]:
    """How many rows of each table that names the entity a seed sees, and how old the latest is."""
    told = "hops to the farthest table that foreign keys connect with the entity"
    if ground.entity is None:
        why = f"task `{ground.task.name}` does not know its entities' table"
        return [Signal("depth", None, None, None, told, why)]
    hops = reachable(ground)
    signals = [
        Signal("depth", None, float(max(hops.values())), None, told),
        Signal(
            "tables_reachable", None, float(len(hops)), None, "tables so connected, with its own"
        ),
    ]
    for link in into(ground.schema, ground.entity):
        if link.foreign.references == ground.task.key:
            signals += _fan_out(ground, link)
    return signals


_FAN_OUT = {
    "fan_out_mean": "rows of the table that a training seed sees, on average",
    "fan_out_median": "their median",
    "fan_out_gini": "their inequality, from 0 (all seeds see as many) to 1 (one sees all)",
    "coverage": "share of training seeds that see any",
    "recency_days": "median days from the latest row to the anchor, of seeds that see any",
}


def _fan_out(ground: Ground, link: Link) -> list[Signal]:
    time, column = ground.time(link.child, "c"), f"c.{quoted(link.foreign.column)}"
    where = f"{column} IS NOT NULL" + ("" if time is None else f" AND {time} IS NOT NULL")
    parts = [
        ("seed", ground.seed),
        (
            "lines",
            f"SELECT {column} AS e, {time or ALWAYS} AS since, count(*) AS n "
            f"FROM {link.child.table.name} c WHERE {where} GROUP BY ALL",
        ),
        (
            "running",
            "SELECT e, since, sum(n) OVER (PARTITION BY e ORDER BY since) AS n FROM lines",
        ),
        (
            "seen",
            "SELECT coalesce(r.n, 0) AS n, s.anchor - nullif(r.since, "
            f"{ALWAYS}) AS age FROM seed s "
            "ASOF LEFT JOIN running r ON r.e = s.u AND s.anchor >= r.since",
        ),
        (
            "ranked",
            "SELECT *, row_number() OVER (ORDER BY n) AS i, count(*) OVER () AS m FROM seen",
        ),
    ]
    sql = with_(
        parts,
        "SELECT avg(n) AS fan_out_mean, median(n)::DOUBLE AS fan_out_median, "
        "sum((2 * i - m - 1) * n) / (any_value(m) * sum(n)) AS fan_out_gini, "
        "avg((n > 0)::INT) AS coverage, median(epoch(age)) / 86400 AS recency_days, "
        "count(*) AS seeds FROM ranked",
    )
    *values, seeds = ground.one(sql)
    same = [
        k for k in into(ground.schema, link.parent) if k.child.table.name == link.child.table.name
    ]
    by = f"({link.foreign.column})" if len(same) > 1 else ""
    path = f"{bare(link.parent.table.name)} ← {bare(link.child.table.name)}{by}"
    found = []
    for (name, told), value in zip(_FAN_OUT.items(), values, strict=True):
        note = None
        if value is None:
            timeless = time is None and name == "recency_days"
            note = "the table has no time" if timeless else "no training seed sees any row"
        found.append(Signal(name, path, value, seeds, told, note, sql))
    return found


def feature_shape(ground: Ground) -> list[Signal]:
    """Columns that are no keys, of all tables that the entity reaches, in rows until the last
    training anchor.
    """
    relations = [r for r in ground.schema.relations.values() if r.table.name in reachable(ground)]
    if not relations:
        why = f"task `{ground.task.name}` does not know its entities' table"
        return [Signal("columns_number", None, None, None, "columns that are numbers", why)]
    columns = Columns(ground.schema, ground.catalog, 1, ground.last)
    kinds = {r.table.name: _kinds(ground, r, columns) for r in relations}
    of = [kind for found in kinds.values() for kind in found.values()]
    signals = [
        Signal(f"columns_{k}", None, float(of.count(k)), None, f"columns that are {_SAID[k]}")
        for k in _KINDS
    ]
    missing, cells = [], []
    for relation in relations:
        found = kinds[relation.table.name]
        source = _until(ground, relation)
        if found:
            known = " + ".join(f"count({quoted(c)})" for c in found)
            missing.append(f"SELECT {len(found)} * count(*) AS cells, {known} AS known {source}")
        cells += [
            f"SELECT count(DISTINCT {quoted(c)}) AS n {source}"
            for c, kind in found.items()
            if kind == "category"
        ]
    told = "share of these columns' values that are NULL"
    signals.append(
        _one(ground, "missing_share", told, missing, "1 - sum(known) / sum(cells)", "sum(cells)")
    )
    told = "different values of a category, on average"
    signals.append(_one(ground, "category_cardinality", told, cells, "avg(n)", "count(*)"))
    return signals


_SAID = {
    "number": "numbers or booleans",
    "category": "categories: texts and codes whose values repeat",
    "time": "times, beside the one that says since when a row is known",
    "text": "texts whose values are mostly there once",
    "other": "of other types",
}


def _one(
    ground: Ground, name: str, told: str, parts: Sequence[str], value: str, rows: str
) -> Signal:
    if not parts:
        return Signal(name, None, None, 0, told, "there are no such columns")
    sql = f"SELECT {value} AS value, ({rows})::BIGINT AS rows FROM ({' UNION ALL '.join(parts)})"
    found, number = ground.one(sql)
    note = "there are no rows" if found is None else None
    return Signal(name, None, found, number, told, note, sql)


def _kinds(ground: Ground, relation: Relation, columns: Columns) -> dict[str, str]:
    """What each column that is no key, nor the table's time, is."""
    found = {value.name: value.kind for value in columns.of(relation)}
    keys = {relation.key, relation.time, *(f.column for f in relation.foreign)}
    keys |= {link.foreign.references for link in into(ground.schema, relation)}
    for name, kind in relation.table.columns:
        if name not in keys and name not in found:
            found[name] = "text" if kind.startswith("VARCHAR") else "other"
    return found


def _until(ground: Ground, relation: Relation) -> str:
    time = ground.time(relation, "c")
    bound = (
        "" if time is None or ground.last is None else f" WHERE {time} <= TIMESTAMP '{ground.last}'"
    )
    return f"FROM {relation.table.name} c{bound}"


_THIRDS = "the training period's thirds"


def time_shape(ground: Ground) -> list[Signal]:
    """The training anchors, and how labels change over their period."""
    sql = with_(
        [
            ("seed", ground.seed),
            ("anchors", "SELECT DISTINCT anchor FROM seed"),
            (
                "gaps",
                "SELECT anchor, epoch(anchor - lag(anchor) OVER (ORDER BY anchor)) / 86400 AS gap "
                "FROM anchors",
            ),
        ],
        "SELECT epoch(max(anchor) - min(anchor)) / 86400 AS span_days, count(*) AS anchors, "
        "median(gap) AS anchor_gap_days FROM gaps",
    )
    span, anchors, gap = ground.one(sql)
    only = "there is one anchor" if gap is None else None
    told = "days from the first training anchor to the last"
    return [
        Signal("span_days", None, span, anchors, told, None, sql),
        Signal("anchors", None, float(anchors), anchors, "different training anchors", None, sql),
        Signal("anchor_gap_days", None, gap, anchors, "median days between them", only, sql),
        *_drift(ground),
    ]


def _drift(ground: Ground) -> list[Signal]:
    kind = ground.task.kind
    told = "the last third's mean label less the first's, in standard deviations"
    if kind == "multiclass":
        told = "share of labels that would have to change to make the last third like the first"
    drift = Signal("label_drift", None, None, 0, told)
    if kind == "ranking":
        return [drift.because("labels are lists: the task is a ranking")]
    parts = [
        ("seed", ground.seed),
        ("ends", "SELECT epoch(min(anchor)) AS a, epoch(max(anchor)) AS b FROM seed"),
        (
            "thirds",
            "SELECT y, least(2, floor(3 * (epoch(anchor) - a) / (b - a)))::INT AS third "
            "FROM seed, ends",
        ),
    ]
    if kind == "multiclass":
        shares = (
            "SELECT y, count(*) FILTER (third = 0) / sum(count(*) FILTER (third = 0)) OVER () AS a,"
            " count(*) FILTER (third = 2) / sum(count(*) FILTER (third = 2)) OVER () AS b, "
            "count(*) FILTER (third <> 1) AS n FROM thirds GROUP BY y"
        )
        sql = with_(
            parts, f"SELECT sum(abs(a - b)) / 2 AS drift, sum(n)::BIGINT AS seeds FROM ({shares})"
        )
        value, seeds = ground.one(sql)
        note = None if value is not None else "the first or last third has no seeds"
        return [Signal("label_drift", _THIRDS, value, seeds, told, note, sql)]
    y = "(y = (SELECT max(y) FROM seed))::INT" if kind == "binary" else "y"
    means = ", ".join(
        f"avg({y}) FILTER (third = {i}) AS mean_{i + 1}, "
        f"count(*) FILTER (third = {i}) AS seeds_{i + 1}"
        for i in range(3)
    )
    sql = with_(parts, f"SELECT {means}, stddev_samp({y}) AS deviation FROM thirds")
    *found, deviation = ground.one(sql)
    values, counts = found[::2], found[1::2]
    none = "there is one anchor" if not any(counts) else "no seeds lie there"
    signals = [
        Signal(f"label_mean_{i}", _THIRDS, mean, seeds, f"mean label of third {i}",
               none if mean is None else None, sql)
        for i, (mean, seeds) in enumerate(zip(values, counts, strict=True), start=1)
    ]  # fmt: skip
    if values[0] is None or values[2] is None:
        return [*signals, drift.because(none)]
    if not deviation:
        return [*signals, drift.because("labels do not vary")]
    value = (values[2] - values[0]) / deviation
    return [*signals, Signal("label_drift", _THIRDS, value, counts[0] + counts[2], told, None, sql)]
