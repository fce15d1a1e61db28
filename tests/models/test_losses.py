"""Losses inferred from labels, their targets, and predictions as columns."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from relann.algebra.terms import column
from relann.errors import DataError, QueryError, Span
from relann.models.losses import Head, infer_head

NONE = pa.array([], pa.null())


def head(kind: str, width: int, values: list, loss: str | None = None, val: list = ()) -> Head:
    arrow = {"VARCHAR": pa.string(), "BOOLEAN": pa.bool_(), "INTEGER": pa.int32()}
    made = arrow.get(kind, pa.float64())
    return infer_head(column("y", kind), width, pa.array(values, made), pa.array(val, made), loss)


@pytest.mark.parametrize(
    ("kind", "width", "values", "loss", "classes"),
    [
        ("VARCHAR", 3, ["b", "a", None, "c"], "cross_entropy", ["a", "b", "c"]),
        ("VARCHAR", 1, ["no", "yes"], "bce", ["no", "yes"]),
        ("INTEGER", 4, [7, 3, 3], "cross_entropy", [3, 7]),
        ("BOOLEAN", 1, [True, False], "bce", [False, True]),
        ("BOOLEAN", 2, [True, False], "cross_entropy", [False, True]),
        ("INTEGER", 1, [0, 1, 1], "bce", [0, 1]),
        ("INTEGER", 1, [0, 1, 2], "mse", None),
        ("DOUBLE", 1, [0.0, 1.0], "mse", None),
        ("DECIMAL(4,2)", 1, [0.5, 1.5], "mse", None),
    ],
)
def test_loss_follows_from_label_and_width(kind, width, values, loss, classes) -> None:
    found = head(kind, width, values)
    assert found.loss == loss
    assert (found.classes and found.classes.to_pylist()) == classes


def test_enums_are_text() -> None:
    labels = pa.array(["x", "y", None]).dictionary_encode()
    found = infer_head(column("y", "ENUM('x', 'y')"), 2, labels, labels)
    assert found.classes.to_pylist() == ["x", "y"]
    assert found.targets(labels, column("y", "VARCHAR")).tolist() == [0, 1, -1]


def test_a_validation_label_beyond_0_and_1_makes_it_a_number() -> None:
    assert head("INTEGER", 1, [0, 1], val=[2]).loss == "mse"


@pytest.mark.parametrize("loss", ["mae", "huber", "bce"])
def test_the_option_decides(loss: str) -> None:
    assert head("DOUBLE", 1, [0.0, 1.0], loss).loss == loss


@pytest.mark.parametrize(
    ("kind", "width", "values", "loss", "error", "message"),
    [
        ("VARCHAR", 2, [None, None], None, DataError, "every label `y` .* is NULL"),
        ("VARCHAR", 2, ["a", "a"], None, DataError, "label `y` is 'a' in all 2 training rows"),
        ("DOUBLE", 1, [2.5, 2.5], None, DataError, "label `y` is 2.5 in all 2 training rows"),
        ("VARCHAR", 2, list("abc"), None, DataError, "3 classes .*a, b, c.* width 2; make it 3"),
        ("VARCHAR", 1, list("abc"), None, DataError, "3 classes .* width 1; make it 3"),
        ("DOUBLE", 2, [1.0, 2.0], None, QueryError, "a number takes a prediction of width 1"),
        ("VARCHAR", 1, ["a", "b"], "mse", QueryError, "mse compares two numbers, but `y` is VARC"),
        ("INTEGER", 2, [1, 2], "mse", QueryError, "mse .* but the prediction has width 2"),
        ("INTEGER", 1, [1, 2], "cross_entropy", QueryError, "each of the 2 classes, this one has"),
        ("INTEGER", 1, [1, 2], "bce", DataError, "bce takes a label that is 0 or 1; .* also 2"),
        ("BOOLEAN", 3, [True, False], "bce", QueryError, "bce takes a prediction of width 1"),
        ("DATE", 1, [1.0, 2.0], None, QueryError, "label `y` is DATE; a label is text, boolean"),
        ("DOUBLE", 1, [1.0, math.inf], None, DataError, "`y` is inf in 1 of 2 rows"),
    ],
)
def test_labels_that_cannot_be_learned(kind, width, values, loss, error, message) -> None:
    with pytest.raises(error, match=message):
        head(kind, width, values, loss)


def test_errors_point_at_the_option() -> None:
    span = Span("loss = mse", 7, 10)
    labels = pa.array(["a", "b"])
    with pytest.raises(QueryError) as caught:
        infer_head(column("y", "VARCHAR"), 1, labels, labels, "mse", span)
    assert caught.value.span == span


def test_targets_number_classes_and_strangers_after_them() -> None:
    found = head("VARCHAR", 3, ["b", "a"])
    labels = pa.array(["a", "b", None, "z", "q", "z"])
    assert found.targets(labels, column("y", "VARCHAR")).tolist() == [0, 1, -1, 2, 3, 2]


SCORES = torch.tensor([[1.0, 2.0, 9.0], [0.0, -1.0, 9.0]], dtype=torch.float64)


def test_cross_entropy_uses_as_many_scores_as_classes() -> None:
    found = head("VARCHAR", 3, ["b", "a"])
    rows = [math.log(math.exp(1) + math.exp(2)) - 2, math.log(1 + math.exp(-1)) - 0]
    value = found.value(SCORES, torch.tensor([1, 0]))
    assert value.item() == pytest.approx(sum(rows) / 2)
    columns = found.columns(SCORES, np.array([True, False]))
    likely = 1 / (1 + math.exp(-1))
    assert columns["prediction"].to_pylist() == ["b", None]
    assert columns["probability"].to_pylist() == [pytest.approx(likely), None]
    assert columns["scores"].to_pylist() == [pytest.approx([1 - likely, likely]), None]
    assert columns["scores"].type == pa.list_(pa.float32())


def test_bce_predicts_the_labels_own_values() -> None:
    scores = torch.tensor([[0.0], [-2.0]])
    for kind, values in [("BOOLEAN", [True, False]), ("INTEGER", [1, 0]), ("VARCHAR", ["y", "n"])]:
        found = head(kind, 1, values)
        columns = found.columns(scores, None)
        assert columns["prediction"].to_pylist() == values
        assert columns["probability"].to_pylist() == pytest.approx([0.5, 1 / (1 + math.exp(2))])
        assert "scores" not in columns
    value = found.value(torch.tensor([[2.0]]), torch.tensor([1]))
    assert value.item() == pytest.approx(math.log(1 + math.exp(-2)))


@pytest.mark.parametrize(("loss", "expected"), [("mse", 5.0), ("mae", 2.0), ("huber", 1.5)])
def test_regression_losses(loss: str, expected: float) -> None:
    found = head("DOUBLE", 1, [1.0, 2.0], loss)
    scores = torch.tensor([[1.0], [5.0]])
    assert found.value(scores, torch.tensor([2.0, 2.0])).item() == expected
    columns = found.columns(scores, np.array([False, True]))
    assert columns["prediction"].to_pylist() == [None, 5]
    assert columns["prediction"].type == pa.float64()


def test_no_rows_no_loss() -> None:
    assert head("DOUBLE", 1, [1.0, 2.0]).value(torch.zeros(0, 1), torch.zeros(0)).item() == 0


def test_without_a_label_the_output_is_the_prediction() -> None:
    wide = Head(None, 2).columns(torch.ones(2, 2), np.array([True, False]))
    assert wide["prediction"].to_pylist() == [[1, 1], None]
    assert Head(None, 1).columns(torch.ones(1, 1), None)["prediction"].to_pylist() == [1]


@pytest.mark.parametrize(
    "made",
    [
        Head(None, 2),
        Head("mse", 1, "DOUBLE"),
        Head("bce", 1, "BOOLEAN", pa.array([False, True])),
        Head("cross_entropy", 3, "VARCHAR", pa.array(["a", "b"])),
    ],
)
def test_heads_survive_arrow(made: Head) -> None:
    again = Head.from_state(made.state())
    assert (again.loss, again.width, again.type) == (made.loss, made.width, made.type)
    assert again.classes == made.classes
