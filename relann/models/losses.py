"""What a prediction is of: which loss its label asks for, which classes it tells apart."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from torch.nn import functional

from relann.algebra.terms import Content, is_numeric, is_text
from relann.errors import DataError, QueryError, Span, listing
from relann.models.splits import decoded
from relann.provenance.encoders import numbers

Targets = npt.NDArray[np.int64] | npt.NDArray[np.float64]

_INTEGER = re.compile(r"^U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?$")

REGRESSION = ("mse", "mae", "huber")


@dataclass(frozen=True)
class Head:
    """The loss of a prediction of `width` numbers; None where there is no label.

    `classes` are the label's values, ascending: for `cross_entropy` one for each score (scores
    beyond them are not used), for `bce` two, of which the second is the positive one.
    """

    loss: str | None
    width: int
    type: str | None = None
    classes: pa.Array | None = None

    @property
    def classifies(self) -> bool:
        """Whether predictions are one of several classes."""
        return self.classes is not None

    def targets(self, labels: pa.Array, content: Content) -> Targets:
        """The labels as the loss takes them: class numbers (NULL: −1) or numbers (NULL: NaN).

        Values that are none of the classes get numbers from len(classes) on.
        """
        if self.classes is None:
            return numbers(labels, content)
        values = decoded(labels).cast(self.classes.type)
        known = pc.index_in(values, value_set=self.classes)
        strange = pc.unique(values.filter(pc.and_(known.is_null(), values.is_valid())))
        further = pc.index_in(values, value_set=strange) if len(strange) else known
        further = pc.add(further.cast(pa.int64()), len(self.classes))
        numbered = pc.coalesce(known.cast(pa.int64()), further).fill_null(-1)
        found: npt.NDArray[np.int64] = numbered.to_numpy(zero_copy_only=False)
        return found

    def used(self, scores: Tensor) -> Tensor:
        """The scores that stand for something. Shape (rows, classes) or (rows, 1)."""
        if self.loss != "cross_entropy" or self.classes is None:
            return scores
        return scores[:, : len(self.classes)]

    def value(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The mean loss over rows with known labels; 0 without rows."""
        scores = self.used(scores)
        if not len(targets):
            return scores.sum() * 0
        match self.loss:
            case "cross_entropy":
                return functional.cross_entropy(scores, targets)
            case "bce":
                truth = targets.to(scores.dtype)
                return functional.binary_cross_entropy_with_logits(scores[:, 0], truth)
            case "mse":
                return functional.mse_loss(scores[:, 0], targets.to(scores.dtype))
            case "mae":
                return functional.l1_loss(scores[:, 0], targets.to(scores.dtype))
            case "huber":
                return functional.huber_loss(scores[:, 0], targets.to(scores.dtype))
        raise QueryError("without a label there is no loss")

    def probabilities(self, scores: Tensor) -> npt.NDArray[np.float64]:
        """For each row and class its probability in float64; scores themselves without classes."""
        wide = self.used(scores.detach()).double()
        if self.loss == "cross_entropy":
            wide = torch.softmax(wide, dim=1)
        elif self.loss == "bce":
            positive = torch.sigmoid(wide)
            wide = torch.cat([1 - positive, positive], dim=1)
        found: npt.NDArray[np.float64] = wide.cpu().numpy()
        return found

    def columns(self, scores: Tensor, valid: npt.NDArray[np.bool_] | None) -> dict[str, pa.Array]:
        """The prediction as columns; NULL where not `valid`.

        `prediction` has the label's type for classes, FLOAT for a FLOAT label, else DOUBLE.
        `probability` is that of the positive class for two classes and one score, otherwise that of
        the predicted class; `scores` are then the probabilities of all classes, in their order.
        Without a label `prediction` is the output itself, a FLOAT or a list of them.
        """
        mask = None if valid is None else ~valid
        found = self.probabilities(scores)
        if self.classes is None:
            if self.width > 1:
                return {"prediction": _lists(found, mask)}
            kind = pa.float32() if self.type in (None, "FLOAT", "REAL") else pa.float64()
            return {"prediction": pa.array(found[:, 0].astype(kind.to_pandas_dtype()), mask=mask)}
        best = (found[:, 1] >= 0.5).astype(int) if self.loss == "bce" else found.argmax(axis=1)
        chosen = self.classes.take(pa.array(best, pa.int64(), mask=mask))
        likely = found[:, 1] if self.loss == "bce" else found.max(axis=1)
        out = {
            "prediction": chosen,
            "probability": pa.array(likely.astype(np.float32), mask=mask),
        }
        if self.loss == "cross_entropy":
            out["scores"] = _lists(found, mask)
        return out

    def state(self) -> pa.Table:
        """One row: loss, width, label type and the list of classes."""
        kind = pa.null() if self.classes is None else self.classes.type
        classes = None if self.classes is None else self.classes.to_pylist()
        return pa.table(
            {
                "loss": pa.array([self.loss], pa.string()),
                "width": pa.array([self.width], pa.int32()),
                "type": pa.array([self.type], pa.string()),
                "classes": pa.array([classes], pa.list_(kind)),
            }
        )

    @classmethod
    def from_state(cls, table: pa.Table) -> Head:
        """The head that gave a `state`."""
        (row,) = table.select(["loss", "width", "type"]).to_pylist()
        lists = table["classes"].combine_chunks()
        classes = None if lists.null_count else lists.flatten()
        return cls(row["loss"], row["width"], row["type"], classes)


def infer_head(
    label: Content,
    width: int,
    train: pa.Array,
    val: pa.Array,
    loss: str | None = None,
    span: Span | None = None,
) -> Head:
    """The head for a label column and a prediction of `width` numbers.

    Text, booleans or whole numbers with a prediction wider than 1: cross entropy. Booleans, two
    texts, or whole numbers that are only ever 0 and 1, with width 1: binary cross entropy. Other
    numbers with width 1: squared error. `loss` overrides, as far as the label allows. Classes are
    those among the training rows.

    Raises QueryError where loss, label and width do not fit, DataError where the labels are NULL,
    constant, or of more classes than the prediction has scores.
    """
    train, val = decoded(train).drop_null(), decoded(val).drop_null()
    if not len(train):
        raise DataError(f"every label `{label}` among the training rows is NULL")
    whole, text = bool(_INTEGER.match(label.type)), is_text(label.type)
    if not (text or is_numeric(label.type)):
        raise QueryError(
            f"label `{label}` is {label.type}; a label is text, boolean or a number", span
        )
    chosen = loss or _natural(label.type, width, train, val)
    classes = pc.unique(train)
    classes = classes.take(pc.sort_indices(classes))
    if len(classes) < 2:
        raise DataError(
            f"label `{label}` is {classes[0].as_py()!r} in all {len(train)} training rows; "
            "there is nothing to learn"
        )
    if chosen in REGRESSION:
        if text or width != 1:
            what = f"`{label}` is {label.type}" if text else f"the prediction has width {width}"
            raise QueryError(f"{chosen} compares two numbers, but {what}", span)
        numbers(train, label)
        return Head(chosen, 1, label.type)
    if chosen == "bce":
        _check_binary(label, width, classes, span)
        return Head("bce", 1, label.type, classes)
    if not (text or whole or label.type == "BOOLEAN"):
        raise QueryError(
            f"`{label}` is {label.type}, and classes are text, boolean or whole numbers; a number "
            f"takes a prediction of width 1, this one has width {width}",
            span,
        )
    if width == 1:
        raise QueryError(
            f"cross_entropy takes a prediction with one number for each of the {len(classes)} "
            "classes, this one has width 1",
            span,
        )
    if len(classes) > width:
        raise DataError(
            f"label `{label}` has {len(classes)} classes in the training rows "
            f"({listing(map(str, classes.to_pylist()), 8)}), "
            f"but the prediction has width {width}; make it {len(classes)}"
        )
    return Head("cross_entropy", width, label.type, classes)


def _natural(sql_type: str, width: int, train: pa.Array, val: pa.Array) -> str:
    if width > 1:
        return "cross_entropy"
    if sql_type == "BOOLEAN" or is_text(sql_type):
        return "bce"
    if _INTEGER.match(sql_type):
        met = set(pc.unique(train).to_pylist()) | set(pc.unique(val).to_pylist())
        if met <= {0, 1}:
            return "bce"
    return "mse"


def _check_binary(label: Content, width: int, classes: pa.Array, span: Span | None) -> None:
    if width != 1:
        raise QueryError(f"bce takes a prediction of width 1, this one has width {width}", span)
    values = classes.to_pylist()
    if is_numeric(label.type) and not set(values) <= {0, 1}:
        raise DataError(
            f"bce takes a label that is 0 or 1; `{label}` is also "
            f"{listing([str(v) for v in values if v not in (0, 1)], 5)}"
        )
    if len(values) > 2:
        raise DataError(
            f"label `{label}` has {len(values)} classes ({listing(map(str, values), 8)}), "
            f"but the prediction has width 1; make it {len(values)}"
        )


def _lists(values: npt.NDArray[np.float64], mask: npt.NDArray[np.bool_] | None) -> pa.Array:
    rows, width = values.shape
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * width, pa.int32())
    flat = pa.array(values.astype(np.float32).reshape(-1))
    nulls = None if mask is None else pa.array(mask)
    return pa.ListArray.from_arrays(offsets, flat, mask=nulls)
