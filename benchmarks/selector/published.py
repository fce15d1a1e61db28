"""The published table of 24 tasks solved by relational deep learning and by aggregated features.

Chen et al. 2026, <https://arxiv.org/abs/2602.22552>: `task_feature_summary.csv` of the paper's
repository. Their thirteen model-free features are those of its feature group `Guess`.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

from relann.autoselect.cases import Case, Cases, relative_gain
from relann.errors import DataError

THIRTEEN = (
    *(f"h_adjs_corr_{name}" for name in ("mean", "max", "min", "mode", "weighted_mean")),
    "lag1_autocorr_corr",
    "lag2_autocorr_corr",
    "log_total_rows",
    "variance_same_class_ratio",
    "mean_same_class_ratio_ignore",
    "adjusted_mean_same_class_ratio",
    "sparsity_ratio",
    "mean_past_task_nodes",
)
MODEL_FREE = (
    *THIRTEEN,
    *(f"h_edges_corr_{name}" for name in ("mean", "max", "min", "weighted_mean")),
    "lag3_autocorr_corr",
    "is_regression",
    *(f"{of}_{name}_val" for of in ("global", "entity") for name in ("mean", "median")),
    "majority_val",
)
PROBES = (
    *(f"tabpfn_{hops}hop" for hops in (1, 2)),
    *(f"rfr_random{net}_{n}" for net in ("sage", "nbfnet") for n in (1, 2, 3)),
)

SELECTED = ("val", "test")
"""By what each side's best configuration was selected before both were compared on test."""


def published_cases(file: Path, selected: str) -> Cases:
    """The table's cases; it has no validation metrics. DataError where it is another table."""
    with file.open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    try:
        return Cases.of(_case(row, selected) for row in rows)
    except KeyError as error:
        raise DataError(f"{file} lacks the column {error}") from error


def _case(row: dict[str, str], selected: str) -> Case:
    smaller = row["task_type"] == "regression"
    sides = [float(row[f"{side}_test_metric_selected_by_{selected}"]) for side in ("rdl", "dfs")]
    numbers = {
        name: float(value)
        for name, value in row.items()
        if value and name not in ("dataset_name", "task_name", "task_type") and "metric" not in name
    }
    numbers["log_total_rows"] = math.log1p(numbers["train_rows"] + numbers["val_rows"])
    numbers["is_regression"] = float(smaller)
    signals = {n: numbers[n] for n in (*MODEL_FREE, *PROBES) if n in numbers}
    gain = relative_gain(sides[0], sides[1], smaller)
    return Case(row["dataset_name"], row["task_name"], signals, gain)
