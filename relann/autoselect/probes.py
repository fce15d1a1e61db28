"""Two cheap models, so that a task itself says what it rewards: features, or message passing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from sklearn.linear_model import Ridge

from relann.algebra.engines.protocol import Engine
from relann.algebra.lineage import key_columns
from relann.algebra.nodes import Column, Query
from relann.algebra.parse import statements
from relann.algebra.rowmaps import RowMaps, build
from relann.algebra.statements import CreateModel
from relann.algebra.terms import quoted
from relann.autoselect.ground import Ground, Signal
from relann.errors import DataError, EngineError, QueryError, SchemaError
from relann.models.batches import Part
from relann.models.boosting import fit_boosted
from relann.models.generators.dfs import dfs
from relann.models.generators.program import Target
from relann.models.generators.sage import sage
from relann.models.losses import Head, Targets
from relann.models.metrics import is_better, measure
from relann.models.moments import of_task
from relann.models.options import Options
from relann.models.prediction import evaluate
from relann.models.program import Program, check_one_row_each
from relann.models.splits import Numbers, labelled, split_rows
from relann.provenance.encoders import Encoders
from relann.provenance.module import QueryModule
from relann.provenance.slices import cut

TRAIN_SEEDS, VAL_SEEDS = 10_000, 5_000
"""How many seeds a probe takes at most, by a hash of their keys: the same ones every time."""

ROUNDS, PATIENCE = 100, 15
WIDTH = 64
STRENGTHS = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
"""Penalties of the closed-form head; the last fifth of the training period picks one."""

_METRICS = {"binary": "auroc", "regression": "mae", "multiclass": "accuracy"}
_FEATURES = "boosted trees on aggregates of the entity's rows (depth 1)"
_MESSAGES = "ridge regression on two hops of message passing with random weights"

Floats = npt.NDArray[np.float64]


def probe(ground: Ground, engine: Engine) -> list[Signal]:
    """Validation metrics of both: AUROC, MAE or accuracy, and the seconds each took.

    They learn from training seeds before the last fifth of the training period's, which picks the
    number of trees and the penalty; validation labels only measure. The notes say what was sampled.
    A probe that cannot run has no value, and its note says why. The seconds alone differ between
    runs.
    """
    return [
        *_timed(ground, "probe_features", _FEATURES, lambda g: _features(g, engine)),
        *_timed(ground, "probe_messages", _MESSAGES, lambda g: _messages(g, engine)),
    ]


def _timed(
    ground: Ground, name: str, what: str, run: Callable[[Ground], tuple[float | None, int]]
) -> list[Signal]:
    metric = _METRICS.get(ground.task.kind, "metric")
    signal = Signal(
        f"{name}_{metric}", None, None, 0, f"validation {metric.upper()} of {what}",
        sql=seeds_sql(ground),
    )  # fmt: skip
    if ground.task.kind == "ranking":
        return [replace(signal, note="probes are not for rankings", sql=None)]
    if ground.entity is None:
        why = f"task `{ground.task.name}` does not know its entities' table"
        return [replace(signal, note=why)]
    counts = dict(ground.task.rows)
    if not counts.get("val"):
        return [replace(signal, note="there are no validation seeds")]
    if counts.get("train", 0) > TRAIN_SEEDS or counts["val"] > VAL_SEEDS:
        signal = signal.because(
            f"on at most {TRAIN_SEEDS:,} training and {VAL_SEEDS:,} validation seeds, by a hash"
        )
    begun = time.perf_counter()
    try:
        value, rows = run(ground)
    except (DataError, EngineError, QueryError, SchemaError) as error:
        return [signal.because(f"not run: {getattr(error, 'message', error)}")]
    seconds = time.perf_counter() - begun
    if value is None:
        signal = signal.because("validation has one class only")
    told = f"seconds that {name} took"
    return [
        replace(signal, value=value, rows=rows),
        Signal(f"{name}_seconds", None, seconds, rows, told),
    ]


def seeds_sql(ground: Ground) -> str:
    """The seeds of the probes under the task's names, splits moved by one.

    'train' is the first four fifths of the training seeds by time, 'val' the last, and 'test' the
    validation split. Labels are booleans (whether it is the larger), numbers or texts.
    """
    task = ground.task
    names = (task.entity, task.time, task.label, task.split)
    entity, at, label, split = (quoted(name) for name in names)
    as_learned = {
        "binary": f"{label} = (SELECT max({label}) FROM {task.seeds} WHERE {split} = 'train')",
        "multiclass": f"{label}::VARCHAR",
    }.get(task.kind, f"{label}::DOUBLE")
    order = f"hash({entity}, {at}), {entity}, {at}, {label}"
    sampled = (
        f"SELECT * FROM {task.seeds} WHERE {split} IN ('train', 'val') AND {label} IS NOT NULL "
        f"QUALIFY row_number() OVER (PARTITION BY {split} ORDER BY {order}) <= "
        f"CASE {split} WHEN 'train' THEN {TRAIN_SEEDS} ELSE {VAL_SEEDS} END"
    )
    late = f"(SELECT quantile_disc({at}, 0.8) FROM {task.seeds} WHERE {split} = 'train')"
    moved = f"CASE WHEN {split} = 'val' THEN 'test' WHEN {at} > {late} THEN 'val' ELSE 'train' END"
    return (
        f"SELECT {entity}, {at}, {as_learned} AS {label}, {moved} AS {split} FROM ({sampled}) "
        f"ORDER BY {at}, {entity}"
    )


def _features(ground: Ground, engine: Engine) -> tuple[float | None, int]:
    """Boosted trees on features of depth 1."""
    task = ground.task
    text = dfs(
        ground.schema,
        ground.catalog,
        _target(ground),
        max_depth=1,
        aggregates=("count", "avg", "max", "last", "time_since_last", "mode"),
        windows=("1 year", None),
        last=(),
        decay=(),
        within_event=False,
        before=ground.last,
    )
    program, maps = _program(ground, engine, text)
    metric = _METRICS[task.kind]
    options = Options.model_validate(
        {
            "head": "gbdt",
            "label": task.label,
            "split": task.split,
            "rounds": ROUNDS,
            "leaves": 15,
            "lr": 0.1,
            "metric": metric,
            # nothing to wait for where all training seeds are of one time
            "patience": PATIENCE
            if len(split_rows(maps, task.split, task.label, 0)["val"])
            else None,
        }
    )
    ids = key_columns(program.node, ground.catalog) | {task.entity, task.time}
    trained = fit_boosted(maps, options, ids)
    for found in evaluate(trained, maps, "test").to_pylist():
        if found["metric"] == metric:
            return found["value"], found["rows"]
    raise AssertionError(metric)


def _messages(ground: Ground, engine: Engine) -> tuple[float | None, int]:
    """Ridge regression on what a network with its start values makes of the seeds."""
    text = sage(
        ground.schema,
        ground.catalog,
        _target(ground),
        layers=2,
        width=WIDTH,
        neighbours=32,
        out=0,
    )
    _, maps = _program(ground, engine, text)
    task = ground.task
    labels = maps.columns[maps.plan.output, dict(maps.plan.contents)[task.label]]
    found_rows = split_rows(maps, task.split, task.label, 0)
    # seeds whose entity is not known at the anchor have no label
    rows = {name: labelled(labels, chosen) for name, chosen in found_rows.items()}
    seen = {name: cut(maps, chosen) for name, chosen in rows.items()}
    encoders = Encoders.fit(maps.plan, seen["train"].maps)
    module = QueryModule(maps.plan, encoders).eval()
    embedded: dict[str, Floats] = {}
    with torch.no_grad():
        for name in rows:
            part = Part.bind(module, seen[name])
            embedded[name] = part.scores(module).double().numpy()
    return _ridge(ground, maps, rows, embedded)


def _ridge(
    ground: Ground, maps: RowMaps, rows: dict[str, Numbers], embedded: dict[str, Floats]
) -> tuple[float | None, int]:
    """The metric on the rows of 'test'; 'val' picks the penalty."""
    task, metric = ground.task, _METRICS[ground.task.kind]
    content = dict(maps.plan.contents)[task.label]
    labels = maps.columns[maps.plan.output, content]
    classes = None
    if task.kind != "regression":
        classes = pa.array(sorted(set(labels.take(pa.array(rows["train"])).to_pylist())))
    losses = {"binary": "bce", "regression": "mse", "multiclass": "cross_entropy"}
    head = Head(losses[task.kind], 1, content.type, classes)
    targets = {n: head.targets(labels.take(pa.array(r)), content) for n, r in rows.items()}
    inputs = _standardised(embedded)
    best: tuple[float | None, float] | None = None
    for strength in STRENGTHS if len(rows["val"]) else STRENGTHS[1:2]:
        found = _scores(head, inputs["train"], targets["train"], strength, inputs)
        value = measure(metric, head, targets["val"], found["val"])
        if best is None or is_better(metric, value, best[0]):
            best = value, strength
            measured = measure(metric, head, targets["test"], found["test"])
    return measured, len(rows["test"])


def _standardised(embedded: dict[str, Floats]) -> dict[str, Floats]:
    """Mean 0 and deviation 1 in 'train', others kept to its range.

    A line fitted on some years would else be followed far beyond them.
    """
    train = embedded["train"]
    if not len(train):
        raise DataError("no training entity is known at its anchor")
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    low, high = train.min(axis=0), train.max(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    return {name: (np.clip(values, low, high) - mean) / scale for name, values in embedded.items()}


def _scores(
    head: Head, inputs: Floats, targets: Targets, strength: float, asked: dict[str, Floats]
) -> dict[str, Floats]:
    """For each row a number, or one for each class, the highest for the likeliest."""
    wanted: npt.NDArray[np.float64] = np.asarray(targets, dtype=np.float64)
    if head.classes is not None:
        wanted = np.eye(len(head.classes))[np.asarray(targets, dtype=np.int64)]
    else:
        wanted = wanted[:, None]
    model = Ridge(alpha=strength).fit(inputs, wanted)
    return {name: model.predict(values).reshape(len(values), -1) for name, values in asked.items()}


def _target(ground: Ground) -> Target:
    task = ground.task
    assert task.table is not None and task.key is not None
    return Target(task.table, task.key, task.entity)


def _program(ground: Ground, engine: Engine, text: str) -> tuple[Program, RowMaps]:
    """A query's program and row maps for the seeds of the probes."""
    task = ground.task
    moment = of_task(task, task.regime, ground.schema, ground.catalog)
    sql = seeds_sql(ground)
    columns = tuple(Column(n, type=t) for n, t in ground.catalog.query(sql))
    seeds = replace(moment.seeds, node=Query(sql, columns, (task.seeds,)))
    (statement,) = statements(f"CREATE MODEL probe AS {text}")
    assert isinstance(statement, CreateModel)
    body = statement.body
    program = Program.compile(
        body.query,
        body.span.text,
        ground.catalog,
        lambda name: None,
        "probe",
        (task.label, task.split),
        # past labels are not read, and a task may be called like a table
        replace(moment, seeds=seeds, relations={}),
    )
    maps = build(program.plan, engine)
    check_one_row_each(program, maps, ground.catalog)
    return program, maps
