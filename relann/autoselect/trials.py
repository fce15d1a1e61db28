"""A trial: one point of the space trained on a task, and what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from relann.autoselect.landscape import Landscape, landscape
from relann.autoselect.space import Point
from relann.errors import RelannError
from relann.models.fitted import Fitted, Trainer
from relann.models.learning import Watch, unwatched
from relann.models.metrics import SMALLER_IS_BETTER
from relann.models.prediction import evaluate
from relann.models.tasks import Task
from relann.models.training import Trained
from relann.version import VERSION

FOLD = 0.75
"""The training seeds until this quantile of their anchors train a fold, the others judge it."""

METRICS = {"binary": "auroc", "regression": "mae", "multiclass": "accuracy"}
"""What trials of a kind of task are judged by."""


@dataclass(frozen=True)
class Trial:
    """One row of a bank.

    database, task     of which there may be many in a bank
    kind               of the task; `metric` is what all scores are
    regime             what the task's model may see
    family             'messages' or 'features'
    template, knobs    the point, its knobs as JSON; `point` is their hash
    program            the statement, to run again
    seed               of the training
    validation         the metric on the validation split, as CREATE MODEL sees it
    as_test            the same where the database ends as it does for test seeds: where validation
                       begins if the regime is frozen; else NULL
    fold               the metric on the latest quarter of the training seeds of the same model
                       trained on those before
    gradient, curvature, barrier   see Landscape; NULL for trees
    test               the metric on the test split
    epochs             or rounds, until the best
    seconds            from text to trained model, without measuring it
    mb                 the most memory the process held while it trained; None where unknown
    seeds              training seeds
    versions           of what it ran on
    made               when
    error              why there is no score, else NULL
    """

    database: str
    task: str
    kind: str
    metric: str
    regime: str
    family: str
    template: str
    point: str
    knobs: str
    program: str
    seed: int
    validation: float | None = None
    as_test: float | None = None
    fold: float | None = None
    gradient: float | None = None
    curvature: float | None = None
    barrier: float | None = None
    test: float | None = None
    epochs: int | None = None
    seconds: float | None = None
    mb: float | None = None
    seeds: int | None = None
    versions: str = ""
    made: str = ""
    error: str | None = None


_ARROW = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
COLUMNS = pa.schema([(f.name, _ARROW[str(f.type).split(" ")[0]]) for f in fields(Trial)])


def as_table(trials: Iterable[Trial]) -> pa.Table:
    """Trials as rows, see Trial."""
    return pa.Table.from_pylist([asdict(t) for t in trials], schema=COLUMNS)


def of_table(table: pa.Table) -> list[Trial]:
    """The trials that `as_table` gave."""
    return [Trial(**row) for row in table.to_pylist()]


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Those of one task that have a validation metric, the best first, equal ones as they were."""
    known = [(t.validation, t) for t in trials if t.validation is not None]
    larger = not known or known[0][1].metric not in SMALLER_IS_BETTER
    return [t for _, t in sorted(known, key=lambda pair: pair[0], reverse=larger)]


def planned(database: str, task: Task, point: Point, seed: int) -> Trial:
    """A trial that has not run."""
    return Trial(
        database=database,
        task=task.name,
        kind=task.kind,
        metric=METRICS[task.kind],
        regime=task.regime,
        family=point.family,
        template=point.template,
        point=point.hash,
        knobs=json.dumps(dict(point.knobs)),
        program=point.statement("m", task.name, seed),
        seed=seed,
        seeds=dict(task.rows).get("train"),
        versions=_versions(),
    )


def run(
    trial: Trial,
    point: Point,
    task: Task,
    train: Trainer,
    watch: Watch = unwatched,
    name: str = "m",
) -> tuple[Trial, Fitted | None]:
    """A trial with its validation score, and what was trained; without it if there was an error.

    `name` is the model's.
    """
    forget_peak()
    begun = time.perf_counter()
    try:
        fitted = train(point.parsed(name, task.name, trial.seed), watch)
    except RelannError as error:
        return replace(trial, made=_now(), error=f"{type(error).__name__}: {error}"), None
    done = replace(
        trial,
        validation=score(fitted, "val"),
        epochs=fitted.trained.best_epoch,
        seconds=time.perf_counter() - begun,
        mb=peak_mb(),
        made=_now(),
    )
    return done, fitted


def examined(trial: Trial, fitted: Fitted, task: Task) -> Trial:
    """A trial with what else tells how good it will be, apart from test labels."""
    shape = seen_from_here(fitted)
    around = {} if shape is None else asdict(shape)
    return replace(trial, as_test=as_test(fitted, task), fold=fold(fitted, task), **around)


def score(fitted: Fitted, split: str) -> float | None:
    """The deciding metric on a split's seeds; None where it is undefined."""
    trained = fitted.trained
    maps = fitted.whole if split == "test" else fitted.maps
    found = evaluate(trained, maps, split, fitted.options.batch_size)
    return _of_metric(found, fitted)


def as_test(fitted: Fitted, task: Task) -> float | None:
    """The metric on validation seeds that see as little as test seeds do.

    In the frozen regime test seeds do not see rows since the first of them, so validation seeds do
    not see rows since validation began. None in other regimes, where that time is not known, and
    where the model is validated so already.
    """
    if not task.validates_fresh or fitted.options.validation == "as_test":
        return None
    assert task.val is not None
    maps = fitted.until(task.val, "val")
    found = evaluate(fitted.trained, maps, "val", fitted.options.batch_size)
    return _of_metric(found, fitted)


def fold(fitted: Fitted, task: Task) -> float | None:
    """The metric on the latest training seeds of the model trained on the earlier ones.

    None where all are of one time, or nothing can be learned.
    """
    splits, anchors = fitted.column(task.split), fitted.column(task.time)
    of_train = pc.equal(splits, "train")
    times = np.sort(anchors.filter(of_train).cast(pa.int64()).to_numpy())
    if not len(times):
        return None
    border = times[int(FOLD * (len(times) - 1))]
    early = pc.less_equal(anchors.cast(pa.int64()), pa.scalar(border))
    moved = pc.if_else(of_train, pc.if_else(early, "train", "val"), pa.scalar(None, pa.string()))
    try:
        trained, maps = fitted.on_splits(moved)
        found = evaluate(trained, maps, "val", fitted.options.batch_size)
    except RelannError:  # one class only, or no seed beyond the border
        return None
    return _of_metric(found, fitted)


def seen_from_here(fitted: Fitted) -> Landscape | None:
    """The loss around the weights; None for trees."""
    if not isinstance(fitted.trained, Trained):
        return None
    return landscape(fitted.trained, fitted.maps)


def _of_metric(found: pa.Table, fitted: Fitted) -> float | None:
    values = {row["metric"]: row["value"] for row in found.to_pylist()}
    value: float | None = values[deciding(fitted)]
    return value


def deciding(fitted: Fitted) -> str:
    """The metric that judges a trained model."""
    head = fitted.trained.head
    if not head.classifies:
        return "mae"
    return "auroc" if head.loss == "bce" else "accuracy"


def forget_peak() -> None:
    """Begin to measure the process's peak of memory anew, where the kernel can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float | None:
    """The most memory the process held since `forget_peak`, in MB; None where it is not told."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def _versions() -> str:
    others = ", ".join(f"{name} {version(name)}" for name in ("torch", "duckdb", "lightgbm"))
    return f"relann {VERSION}, {others}"


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
