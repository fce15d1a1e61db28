"""Metrics are scikit-learn's, and NULL where it has none."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import accuracy_score, mean_absolute_error, root_mean_squared_error

from relann.models.losses import Head
from relann.models.metrics import is_better, measure, metrics_of

BINARY = Head("bce", 1, "BOOLEAN", pa.array([False, True]))
THREE = Head("cross_entropy", 3, "VARCHAR", pa.array(["a", "b", "c"]))
NUMBER = Head("mse", 1, "DOUBLE")


def both(positive: list[float]) -> np.ndarray:
    p = np.array(positive)
    return np.stack([1 - p, p], axis=1)


def all_of(head: Head, targets: list, found: np.ndarray) -> dict[str, float | None]:
    return {m: measure(m, head, np.array(targets), found) for m in metrics_of(head)}


def test_binary() -> None:
    """By hand: two positives at .8 and .4, two negatives at .5 and .1."""
    assert all_of(BINARY, [1, 1, 0, 0], both([0.8, 0.4, 0.5, 0.1])) == {
        "accuracy": 0.5,
        "auroc": 0.75,
        "ap": pytest.approx((1 + 2 / 3) / 2),
        "f1": 0.5,
        "log_loss": pytest.approx(-sum(map(math.log, (0.8, 0.4, 0.5, 0.9))) / 4),
    }


def test_one_class_only() -> None:
    found = all_of(BINARY, [0, 0], both([0.1, 0.2]))
    assert found["auroc"] is None
    assert found["ap"] is None
    assert found["f1"] is None  # no positive, neither there nor predicted
    assert found["accuracy"] == 1
    assert found["log_loss"] == pytest.approx(-(math.log(0.9) + math.log(0.8)) / 2)
    assert all_of(BINARY, [1, 1], both([0.9, 0.2]))["f1"] == pytest.approx(2 / 3)


def test_several_classes() -> None:
    found = np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.3, 0.4, 0.3], [0.1, 0.1, 0.8]])
    result = all_of(THREE, [0, 1, 2, 2], found)
    assert result["accuracy"] == 0.75
    assert result["f1"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert result["auroc"] == pytest.approx((1 + 1 + 0.875) / 3)
    assert result["ap"] == pytest.approx((1 + 1 + (1 + 2 / 3) / 2) / 3)


def test_classes_that_training_did_not_have() -> None:
    found = np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3]])
    result = all_of(THREE, [0, 3], found)
    assert result["accuracy"] == 0.5
    assert [result[m] for m in ("auroc", "ap", "log_loss")] == [None, None, None]
    assert all_of(THREE, [0, 1], found)["auroc"] is None  # no row of c
    assert all_of(BINARY, [1, 2], both([0.9, 0.1]))["accuracy"] == 0.5


def test_numbers() -> None:
    result = all_of(NUMBER, [1.0, 2.0, 4.0], np.array([[1.0], [3.0], [2.0]]))
    assert result["mae"] == 1
    assert result["rmse"] == pytest.approx(math.sqrt(5 / 3))
    assert result["r2"] == pytest.approx(1 - 5 / (14 / 3))
    assert all_of(NUMBER, [1.0], np.array([[1.0]]))["r2"] is None


@pytest.mark.parametrize("head", [BINARY, THREE, NUMBER])
def test_no_rows(head: Head) -> None:
    found = np.zeros((0, 3 if head is THREE else 2))
    assert set(all_of(head, [], found).values()) == {None}


def test_which_is_better() -> None:
    assert is_better("auroc", 0.8, 0.7)
    assert not is_better("auroc", 0.7, 0.7)
    assert is_better("rmse", 0.7, 0.8)
    assert is_better("loss", 0.7, 0.8)
    assert is_better("auroc", 0.1, None)
    assert not is_better("auroc", None, 0.1)


def test_our_own_lines_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 2, 50), rng.random(50)
    assert measure("accuracy", BINARY, truth, both(found)) == accuracy_score(truth, found >= 0.5)
    real = rng.normal(size=50)
    for name, peer in [("mae", mean_absolute_error), ("rmse", root_mean_squared_error)]:
        assert measure(name, NUMBER, real, found[:, None]) == pytest.approx(peer(real, found))
