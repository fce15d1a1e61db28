"""What an entity's own past labels tell: autocorrelation, and the baselines made of them alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from relann.algebra.terms import quoted
from relann.autoselect.ground import Ground, Signal, finite, with_
from relann.autoselect.likeness import CLASS_MEASURES, CLASS_PARTS
from relann.models.losses import Head
from relann.models.metrics import measure

LAGS = (1, 2)
BASELINES = ("entity_mean", "last_label", "global_mean")

_TOLD = {
    "entity_mean": "the mean of the entity's labels known by then",
    "last_label": "the entity's latest label known by then",
    "global_mean": "the mean of all training labels known when validation begins",
    "entity_mode": "the entity's most frequent label known by then",
    "global_mode": "the most frequent training label known when validation begins",
}
_RANKING = "labels are lists: the task is a ranking"


def autocorrelation(ground: Ground) -> list[Signal]:
    """Lags 1 and 2: a training seed's label with the entity's latest, or the one before that, known
    at its anchor.

    Pearson's correlation for numbers and for two classes (the larger being 1), the adjusted share
    of equal ones for several.
    """
    kind = ground.task.kind
    meaning = "correlation of a label with the entity's {} known at the anchor"
    if kind == "multiclass":
        meaning = "equality, beyond chance, of a label with the entity's {} known at the anchor"
    signals = []
    for lag in LAGS:
        said = meaning.format("latest" if lag == 1 else "latest but one")
        signal = Signal(f"label_autocorrelation_lag_{lag}", None, None, 0, said)
        if kind == "ranking":
            signals.append(signal.because(_RANKING))
            continue
        sql = _lag_sql(ground, lag)
        value, pairs = ground.one(sql)
        signal = Signal(signal.signal, None, value, pairs, said, None, sql)
        if value is None:
            why = "such labels do not vary" if pairs else "no entity has such labels"
            signal = signal.because(why)
        signals.append(signal)
    return signals


def _lag_sql(ground: Ground, lag: int) -> str:
    parts = [
        ("seed", ground.seed),
        ("past", ground.past),
        ("nth", "SELECT *, row_number() OVER (PARTITION BY u ORDER BY anchor) AS n FROM seed"),
        (
            "latest",
            "SELECT s.u, s.y, k.n FROM seed s "
            f"ASOF JOIN past k ON k.u = s.u AND {ground.known('s.anchor', 'k.known')}",
        ),
        (
            "labelled",
            f"SELECT l.y, k.y AS z FROM latest l JOIN nth k ON k.u = l.u AND k.n = l.n - {lag - 1}",
        ),
    ]
    if ground.task.kind == "multiclass":
        whole = f"SELECT adjusted_homophily AS likeness, pairs FROM ({CLASS_MEASURES})"
        return with_([*parts, *CLASS_PARTS], whole)
    y, z = "y", "z"
    if ground.task.kind == "binary":
        y, z = (f"({c} = (SELECT max(y) FROM seed))::INT" for c in (y, z))
    return with_(parts, f"SELECT corr({y}, {z}) AS correlation, count(*) AS pairs FROM labelled")


def baselines(ground: Ground) -> list[Signal]:
    """Metrics, on the validation split, of predictions made of training labels alone.

    AUROC for two classes, MAE and NMAE (MAE by the standard deviation of the training labels) for
    numbers, accuracy for several classes. An entity without a label known at the anchor gets the
    prediction that all get.
    """
    kind = ground.task.kind
    if kind == "ranking":
        return [Signal("entity_mean", None, None, 0, _TOLD["entity_mean"], _RANKING)]
    if kind == "multiclass":
        return _accuracies(ground)
    sql = _predictions_sql(ground)
    rows = ground.rows(sql)
    table = np.array(rows, dtype=float).reshape(len(rows), 1 + len(BASELINES))
    why = _why_not(rows)
    metrics = ("auroc",) if kind == "binary" else ("mae", "nmae")
    deviation = 1.0
    if kind == "regression":
        deviation, *_ = ground.one(f"SELECT stddev_samp(y) FROM ({ground.seed})")
    found = []
    for name, predicted in zip(BASELINES, table.T[1:], strict=True):
        for metric in metrics:
            said = f"validation {metric.upper()} of {_TOLD[name]}"
            value = None if why else _metric(metric, table[:, 0], predicted, deviation)
            note = why or ("validation has one class only" if value is None else None)
            found.append(Signal(f"{name}_{metric}", None, value, len(rows), said, note, sql))
    return found


def _why_not(rows: Sequence[tuple[object, ...]]) -> str | None:
    if not rows:
        return "there are no labelled validation seeds"
    if rows[0][-1] is None:
        return "no training label is known when validation begins"
    return None


def _metric(
    metric: str,
    labels: npt.NDArray[np.float64],
    predicted: npt.NDArray[np.float64],
    deviation: float | None,
) -> float | None:
    if metric == "auroc":
        head = Head("bce", 1, "BOOLEAN", pa.array([False, True]))
        shares = np.column_stack([1 - predicted, predicted])
        return measure("auroc", head, labels.astype(np.int64), shares)
    error = measure("mae", Head("mae", 1, "DOUBLE"), labels, predicted[:, None])
    if metric == "mae" or error is None:
        return error
    return finite(error / deviation) if deviation else None


def _val_parts(ground: Ground) -> list[tuple[str, str]]:
    task = ground.task
    entity, time, label = (quoted(n) for n in (task.entity, task.time, task.label))
    return [
        ("seed", ground.seed),
        (
            "val",
            f"SELECT {entity} AS u, {time} AS anchor, {ground.number(label)} AS y, "
            f"row_number() OVER (ORDER BY {time}, {entity}, {label}) AS id "
            f"FROM {task.seeds} WHERE {quoted(task.split)} = 'val' AND {label} IS NOT NULL "
            f"AND {time} IS NOT NULL",
        ),
        (
            "early",
            "SELECT y FROM seed WHERE " + ground.known("(SELECT min(anchor) FROM val)", "known"),
        ),
    ]


def _predictions_sql(ground: Ground) -> str:
    """(y, entity_mean, last_label, global_mean) of each validation seed, labels as numbers."""

    def number(y: str) -> str:
        binary = ground.task.kind == "binary"
        return f"({y} = (SELECT max(y) FROM seed))::DOUBLE" if binary else y

    order = "PARTITION BY u ORDER BY anchor"
    parts = [
        *_val_parts(ground),
        (
            "running",
            f"SELECT u, known, {number('y')} AS y, row_number() OVER ({order}) AS n, "
            f"avg({number('y')}) OVER ({order} ROWS UNBOUNDED PRECEDING) AS mean FROM seed",
        ),
        (
            "past",
            "SELECT u, known, arg_max(y, n) AS y, arg_max(mean, n) AS mean FROM running "
            "GROUP BY u, known",
        ),
        ("everyone", f"SELECT avg({number('y')}) AS mean FROM early"),
    ]
    return with_(
        parts,
        f"SELECT {number('v.y')} AS y, coalesce(k.mean, e.mean) AS entity_mean, "
        "coalesce(k.y, e.mean) AS last_label, e.mean AS global_mean "
        "FROM val v LEFT JOIN everyone e ON true "
        f"ASOF LEFT JOIN past k ON k.u = v.u AND {ground.known('v.anchor', 'k.known')} "
        "ORDER BY v.id",
    )


def _accuracies(ground: Ground) -> list[Signal]:
    parts = [
        *_val_parts(ground),
        ("past", ground.past),
        (
            "seen",
            "SELECT v.id, k.y, count(*) AS n FROM val v "
            f"JOIN seed k ON k.u = v.u AND {ground.known('v.anchor', 'k.known')} GROUP BY ALL",
        ),
        (
            "modal",
            "SELECT id, y FROM seen "
            "QUALIFY row_number() OVER (PARTITION BY id ORDER BY n DESC, y) = 1",
        ),
        ("everyone", "SELECT y FROM early GROUP BY y ORDER BY count(*) DESC, y LIMIT 1"),
    ]
    sql = with_(
        parts,
        "SELECT avg((v.y = coalesce(m.y, e.y))::INT) AS entity_mode, "
        "avg((v.y = coalesce(k.y, e.y))::INT) AS last_label, "
        "avg((v.y = e.y)::INT) AS global_mode, count(*) AS rows, count(e.y) AS predicted "
        "FROM val v LEFT JOIN everyone e ON true LEFT JOIN modal m ON m.id = v.id "
        f"ASOF LEFT JOIN past k ON k.u = v.u AND {ground.known('v.anchor', 'k.known')}",
    )
    *values, rows, predicted = ground.one(sql)
    none = "no training label is known when validation begins"
    note = None if predicted else none if rows else "there are no labelled validation seeds"
    return [
        Signal(
            f"{name}_accuracy",
            None,
            value if predicted else None,
            rows,
            f"validation accuracy of {_TOLD[name]}",
            note,
            sql,
        )
        for name, value in zip(("entity_mode", "last_label", "global_mode"), values, strict=True)
    ]
