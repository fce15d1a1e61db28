"""Predictions of a trained model, and how good they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from relann.algebra.rowmaps import RowMaps
from relann.algebra.terms import Content
from relann.errors import DataError, QueryError, did_you_mean
from relann.models.batches import Part, Sliced, check_predicted
from relann.models.boosting import Boosted
from relann.models.metrics import measure, metrics_of
from relann.models.splits import (
    NAMES,
    Numbers,
    decoded,
    labelled,
    output_column,
    prediction_step,
    split_rows,
)
from relann.models.training import Trained
from relann.provenance.devices import memory
from relann.provenance.inputs import Known
from relann.provenance.slices import cut


def predict(
    trained: Trained | Boosted,
    maps: RowMaps,
    rows: Numbers | None = None,
    batch_size: int | None = None,
) -> pa.Table:
    """The output's content columns (but split and a task's label) and the prediction, row for row.

    `rows` are the output rows asked for (distinct, ascending; None: all); only what they need is
    computed, `batch_size` of them at a time, all at once without it.

    The prediction is `prediction` and, for classes, `probability` and `scores`: `Head.columns` says
    more. A content column of one of these names is left out.
    """
    if isinstance(trained, Trained):
        prediction_step(maps.plan)
    scores, valid = _scores(trained, maps, rows, batch_size)
    found = trained.head.columns(scores, valid)
    options = trained.options
    left_out = {options.split, *found, *([] if options.task is None else [options.label])}
    columns = {
        name: maps.columns[maps.plan.output, content]
        for name, content in maps.plan.contents
        if name not in left_out
    }
    if rows is not None:
        columns = {name: values.take(pa.array(rows)) for name, values in columns.items()}
    return pa.table({**columns, **found})


def evaluate(
    trained: Trained | Boosted,
    maps: RowMaps,
    split: str | None = "test",
    batch_size: int | None = None,
) -> pa.Table:
    """(metric, value, rows): the metrics over the labelled rows of a split, all of them for None.

    `value` is NULL where a metric is undefined, such as AUROC with one class only.
    """
    return metrics_over(trained, [judged(trained, maps, split, batch_size)], split)


@dataclass(frozen=True)
class Judged:
    """Predictions of labelled rows beside the truth: labels and numbers."""

    labels: pa.Array
    label: Content
    scores: Tensor


def judged(
    trained: Trained | Boosted,
    maps: RowMaps,
    split: str | None = "test",
    batch_size: int | None = None,
) -> Judged | None:
    """The predictions of the labelled rows of a split, all of them for None; None without rows."""
    options = trained.options
    if options.label is None:
        raise QueryError("this model has no label, so there is nothing to compare predictions with")
    label = output_column(maps.plan, options.label, "label", options.span("label"))
    labels = maps.columns[maps.plan.output, label]
    rows = labelled(labels, _rows(trained, maps, split))
    if not len(rows):
        return None
    scores, valid = _scores(trained, maps, rows, batch_size)
    check_predicted(valid, split or "data")
    return Judged(labels.take(pa.array(rows)), label, scores)


def metrics_over(
    trained: Trained | Boosted, parts: Sequence[Judged | None], split: str | None
) -> pa.Table:
    """What `evaluate` gives, of the rows of all parts together."""
    head, known = trained.head, [p for p in parts if p is not None]
    if not known:
        raise DataError(f"there are no labelled {split or 'data'} rows to evaluate on")
    labels = [decoded(p.labels) for p in known]
    targets = head.targets(pa.concat_arrays(labels), known[0].label)
    found = head.probabilities(torch.cat([p.scores for p in known]))
    metrics = metrics_of(head)
    return pa.table(
        {
            "metric": pa.array(metrics, pa.string()),
            "value": pa.array([measure(m, head, targets, found) for m in metrics], pa.float64()),
            "rows": pa.array([len(targets)] * len(metrics), pa.int64()),
        }
    )


def candidates(trained: Trained | Boosted, maps: RowMaps, split: str | None) -> pa.Table:
    """The predictions of a split's rows, with what is true of them in the column `right`."""
    rows = _rows(trained, maps, split)
    assert trained.options.label is not None
    label = dict(maps.plan.contents)[trained.options.label]
    right = maps.columns[maps.plan.output, label].take(pa.array(rows))
    return predict(trained, maps, rows).append_column("right", right)


def _rows(trained: Trained | Boosted, maps: RowMaps, split: str | None) -> Numbers:
    options = trained.options
    assert options.label is not None
    if split is None:
        return np.arange(maps.counts[maps.plan.output])
    if split not in NAMES:
        raise QueryError(
            f"no split is called '{split}'; there are train, val and test."
            + did_you_mean(split, NAMES)
        )
    span = options.span("split")
    found = split_rows(maps, options.split, options.label, options.seed, span)
    return found[NAMES[split]]


def _scores(
    trained: Trained | Boosted,
    maps: RowMaps,
    rows: Numbers | None,
    batch_size: int | None,
) -> tuple[Tensor, Known | None]:
    """The prediction's numbers for output rows, and which are not NULL (None: all)."""
    if isinstance(trained, Boosted):
        return trained.scores(maps, rows), None
    module = trained.module(maps.plan)
    # cut even where all rows are asked for: what no output needs may hold keys training had not
    chosen = np.arange(maps.counts[maps.plan.output]) if rows is None else rows
    remedy = "Predict some rows at a time, ml_predict('m', (SELECT …)), or on the cpu"
    with memory(module.device, "prediction", remedy), torch.no_grad():
        if batch_size is None:
            part = Part.bind(module, cut(maps, chosen))
            return part.scores(module).cpu(), part.valid
        source = Sliced(module, maps)
        starts = range(0, max(1, len(chosen)), batch_size)
        scores, masks = [], []
        for begin in starts:
            part = source.part(chosen[begin : begin + batch_size])
            found = part.scores(module).cpu()
            scores.append(found)
            masks.append(np.ones(len(found), dtype=bool) if part.valid is None else part.valid)
    return torch.cat(scores), np.concatenate(masks)
