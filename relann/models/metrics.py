"""How good predictions are: scikit-learn's definitions, None where they are undefined.

Accuracy, MAE and RMSE are one line each and written here: they run every epoch, and scikit-learn
takes 2 ms to check its arguments.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    log_loss,
    r2_score,
    roc_auc_score,
)

from relann.models.losses import Head, Targets

CLASSES = ("accuracy", "auroc", "ap", "f1", "log_loss")
NUMBERS = ("mae", "rmse", "r2")
SMALLER_IS_BETTER = frozenset(("loss", "log_loss", "mae", "rmse"))


def metrics_of(head: Head) -> tuple[str, ...]:
    """Names of the metrics a prediction has."""
    return CLASSES if head.classifies else NUMBERS


def default_metric(head: Head) -> str:
    """The metric that picks the best epoch unless an option says otherwise."""
    if head.loss == "cross_entropy":
        return "accuracy"
    if head.loss == "bce":
        return "auroc"
    return "rmse" if head.loss == "mse" else "mae"


def is_better(metric: str, value: float | None, than: float | None) -> bool:
    """Whether a value beats another; anything beats an undefined one."""
    if value is None or than is None:
        return value is not None
    return value < than if metric in SMALLER_IS_BETTER else value > than


def measure(
    metric: str, head: Head, targets: Targets, found: npt.NDArray[np.float64]
) -> float | None:
    """One metric over rows with known labels; `found` are `Head.probabilities`.

    With two classes `auroc`, `ap` and `f1` are those of the second; with more, the mean over
    classes, each against the rest. None where scikit-learn has no value: no rows; for auroc, ap and
    log_loss a label that is none of the model's classes; for auroc and ap a class without rows.
    """
    if not len(targets):
        return None
    if not head.classifies:
        return _of_numbers(metric, targets, found[:, 0])
    assert head.classes is not None
    count = len(head.classes)
    if metric in ("accuracy", "f1"):
        chosen = found.argmax(axis=1)
        if head.loss == "bce":
            chosen = (found[:, 1] >= 0.5).astype(np.int64)
        if metric == "accuracy":
            return float((targets == chosen).mean())
        if count == 2 and targets.max() < 2:
            return _defined(f1_score(targets, chosen, average="binary", zero_division=np.nan))
        return _defined(f1_score(targets, chosen, average="macro", zero_division=np.nan))
    if targets.max() >= count:
        return None
    if metric == "log_loss":
        return _defined(log_loss(targets, found, labels=np.arange(count)))
    if len(np.unique(targets)) < count:
        return None
    if metric == "auroc":
        scores = found[:, 1] if count == 2 else found
        return _defined(roc_auc_score(targets, scores, multi_class="ovr"))
    if count == 2:
        return _defined(average_precision_score(targets, found[:, 1]))
    one_hot = targets[:, None] == np.arange(count)
    return _defined(average_precision_score(one_hot, found, average="macro"))


def _of_numbers(metric: str, targets: Targets, found: npt.NDArray[np.float64]) -> float | None:
    if metric == "mae":
        return float(np.abs(targets - found).mean())
    if metric == "rmse":
        return math.sqrt(np.square(targets - found).mean())
    return _defined(r2_score(targets, found)) if len(targets) > 1 else None


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
