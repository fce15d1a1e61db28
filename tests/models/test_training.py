"""Training, prediction and evaluation on small plans made by hand."""

from __future__ import annotations

import io
import logging
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from rich.console import Console

from relann.algebra.plan import Gather, Plan, SegmentReduce, Stack, Stacked
from relann.algebra.rowmaps import RowMaps
from relann.algebra.terms import (
    Apply,
    Coalesce,
    Content,
    Dropout,
    Encode,
    Key,
    Learned,
    Lift,
    Linear,
    Lookup,
    Norm,
    Parameter,
    column,
)
from relann.errors import DataError, QueryError
from relann.models import progress
from relann.models.options import Options
from relann.models.prediction import evaluate, predict
from relann.models.splits import split_rows
from relann.models.training import fit
from relann.provenance.inputs import Inputs
from relann.provenance.module import QueryModule
from relann.provenance.slices import placed, restricted
from tests.models.test_options import given
from tests.provenance.plans import A, Draft, G, K, X

ID, Y, S = column("id", "INTEGER"), column("y", "DOUBLE"), column("s", "VARCHAR")
ROWS = 60


def options(**values: Any) -> Options:
    return Options.parsed(given(**{"label": "y", "split": "s", **values}))


def splits(count: int = ROWS) -> list[str]:
    return [("train", "train", "train", "val", "test")[i % 5] for i in range(count)]


def linear(draft: Draft, value: int, width: int, name: str = "m.linear_0") -> int:
    weight = Parameter(f"{name}.weight", (draft.steps[value].width, width))
    bias = Parameter(f"{name}.bias", (width,), "zeros")
    space = draft.steps[value].space
    return draft.term(space, Linear(draft.value(value), weight, bias))


def finished(
    draft: Draft, step: int, labels: pa.Array | list, kind: str = "DOUBLE", **more: Any
) -> RowMaps:
    """Row maps with id, label and split beside the prediction."""
    space = draft.steps[step].space
    label = Content('"y"', kind)
    count = draft.maps.counts[space]
    columns = {ID: pa.array(range(count)), label: pa.array(labels), S: pa.array(splits(count))}
    columns.update({c: pa.array(v) for c, v in more.get("columns", {}).items()})
    for content, values in columns.items():
        draft.maps.columns[space, content] = values
    return draft.finished(step, contents=(("id", ID), ("y", label), ("s", S)))


def points(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=ROWS)


def regression(change: dict[int, float | None] | None = None) -> RowMaps:
    """y = 3x − 1 from x."""
    xs = points()
    draft = Draft()
    draft.space(ROWS, x=xs.tolist())
    step = linear(draft, draft.term(0, Lift(X)), 1)
    ys: list[float | None] = (3 * xs - 1).tolist()
    for row, value in (change or {}).items():
        ys[row] = value
    return finished(draft, step, ys)


def graph(labels: str = "VARCHAR") -> RowMaps:
    """Rows whose class is the sign of the sum over their neighbours; with dropout and a norm."""
    rng = np.random.default_rng(1)
    xs, ends = points(), rng.integers(0, ROWS, ROWS * 3)
    draft = Draft()
    draft.space(ROWS, x=xs.tolist(), k=rng.integers(0, 4, ROWS).tolist())
    draft.space(ROWS * 3, a=ends)
    draft.groups(1, np.repeat(np.arange(ROWS), 3), ROWS)
    code = draft.term(0, Encode("numeric", "m.numeric_0", X))
    key = draft.term(0, Lookup(Parameter("m.embedding_0.weight", (4,), "normal"), Key("m.e", (K,))))
    wide = linear(draft, code, 4)
    both = draft.term(0, Apply("add", (draft.value(wide), draft.value(key))))
    thinned = draft.term(0, Dropout(draft.value(both), 0.1, "m.dropout_0"))
    scale, shift = Parameter("m.n.scale", (4,), "ones"), Parameter("m.n.shift", (4,), "zeros")
    normed = draft.term(0, Norm("batch", draft.value(thinned), scale, shift))
    gathered = draft.step(1, 4, Gather(normed, A))
    summed = draft.step(2, 4, SegmentReduce(gathered, "sum"))
    step = linear(draft, summed, 2, "m.linear_1")
    truth = xs[ends].reshape(-1, 3).sum(axis=1) > 0
    return finished(draft, step, ["up" if t else "down" for t in truth], labels)


def test_a_straight_line_is_found() -> None:
    maps = regression()
    trained = fit(maps, options(lr=0.1, epochs=200))
    assert trained.weights["m.linear_0.weight"].item() == pytest.approx(3, abs=1e-3)
    assert trained.weights["m.linear_0.bias"].item() == pytest.approx(-1, abs=1e-3)
    curve = trained.curve.to_pylist()
    assert len(curve) == 200
    assert curve[0]["loss"] > 1 > 1e-4 > curve[-1]["loss"]
    assert {row["metric"] for row in curve} == {"rmse"}
    assert [row["epoch"] for row in curve if row["best"]] == [trained.best_epoch]
    result = evaluate(trained, maps).to_pylist()
    assert {r["metric"]: r["value"] for r in result}["r2"] == pytest.approx(1, abs=1e-4)
    assert {r["rows"] for r in result} == {12}


def test_the_first_loss_is_the_one_worked_out_by_hand() -> None:
    maps = regression()
    trained = fit(maps, options(lr=0.1, epochs=1, optimizer="sgd"))
    train = [i for i, s in enumerate(splits()) if s == "train"]
    xs, ys = points()[train], (3 * points() - 1)[train]
    untrained = fit(maps, options(train=False))
    w = untrained.weights["m.linear_0.weight"].item()
    assert trained.curve["loss"][0].as_py() == pytest.approx(((w * xs - ys) ** 2).mean(), rel=1e-5)
    slope = (2 * (w * xs - ys) * xs).mean()
    assert trained.weights["m.linear_0.weight"].item() == pytest.approx(w - 0.1 * slope, rel=1e-5)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop", "adagrad"])
def test_every_optimizer_learns(optimizer: str) -> None:
    maps = regression()
    rate = 0.5 if optimizer == "adagrad" else 0.05
    trained = fit(maps, options(lr=rate, epochs=60, optimizer=optimizer, clip=5.0))
    loss = trained.curve["loss"].to_pylist()
    assert loss[-1] < loss[0] / 2


def test_weight_decay_and_momentum_and_clip_change_the_result() -> None:
    maps = regression()
    base = {"optimizer": "sgd", "lr": 0.01, "epochs": 5}
    plain = fit(maps, options(**base))
    for more in ({"momentum": 0.9}, {"weight_decay": 0.5}, {"clip": 0.1}, {"loss": "mae"}):
        other = fit(maps, options(**base, **more))
        assert other.weights["m.linear_0.weight"] != plain.weights["m.linear_0.weight"]


def test_classes_through_a_join_and_a_sum_are_learned() -> None:
    maps = graph()
    trained = fit(maps, options(epochs=80, lr=0.05))
    assert trained.head.classes.to_pylist() == ["down", "up"]
    assert max(trained.curve["validation"].to_pylist()) > 0.8
    found = {r["metric"]: r["value"] for r in evaluate(trained, maps).to_pylist()}
    assert found["accuracy"] > 0.7
    table = predict(trained, maps)
    assert table.column_names == ["id", "y", "prediction", "probability", "scores"]
    assert table.num_rows == ROWS
    assert set(table["prediction"].to_pylist()) <= {"up", "down"}
    best = [max(s) for s in table["scores"].to_pylist()]
    assert table["probability"].to_pylist() == pytest.approx(best)


def test_the_same_seed_gives_the_same_bits() -> None:
    maps = graph()
    for more in ({}, {"batch_size": 10}):
        first, second, other = (fit(maps, options(epochs=5, seed=s, **more)) for s in (1, 1, 2))
        assert all(torch.equal(first.weights[n], second.weights[n]) for n in first.weights)
        timeless = [c for c in first.curve.column_names if c != "seconds"]
        assert first.curve.select(timeless) == second.curve.select(timeless)
        assert any(not torch.equal(first.weights[n], other.weights[n]) for n in first.weights)


def test_training_leaves_the_global_generators_alone() -> None:
    maps = graph()
    torch.manual_seed(3)
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first = fit(maps, options(epochs=3))
    after = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]
    torch.manual_seed(4)
    second = fit(maps, options(epochs=3))
    assert all(torch.equal(first.weights[n], second.weights[n]) for n in first.weights)


def test_a_batch_of_all_rows_is_the_whole() -> None:
    maps = graph()
    whole = fit(maps, options(epochs=3))
    once = fit(maps, options(epochs=3, batch_size=1000))
    assert all(torch.equal(whole.weights[n], once.weights[n]) for n in whole.weights)


def test_batches_take_every_training_row_once() -> None:
    """One step of plain gradient descent on batches of one, by hand."""
    maps = regression()
    trained = fit(maps, options(epochs=1, batch_size=1, optimizer="sgd", lr=0.1, seed=5))
    start = fit(maps, options(train=False, seed=5))
    w, b = (start.weights[f"m.linear_0.{n}"].item() for n in ("weight", "bias"))
    train = [i for i, s in enumerate(splits()) if s == "train"]
    for i in np.random.default_rng(5).permutation(len(train)):
        x = points()[train[i]]
        apart = w * x + b - (3 * x - 1)
        w, b = w - 0.1 * 2 * apart * x, b - 0.1 * 2 * apart
    assert trained.weights["m.linear_0.weight"].item() == pytest.approx(w, rel=1e-4)
    assert trained.weights["m.linear_0.bias"].item() == pytest.approx(b, rel=1e-4)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_predictions_do_not_depend_on_the_batch_size(size: int) -> None:
    maps = graph()
    trained = fit(maps, options(epochs=3))
    whole = predict(trained, maps)
    parts = predict(trained, maps, batch_size=size)
    assert parts["prediction"] == whole["prediction"]
    assert parts["probability"].to_pylist() == pytest.approx(whole["probability"].to_pylist())
    some = predict(trained, maps, np.array([3, 8, 50]), batch_size=size)
    assert some["id"].to_pylist() == [3, 8, 50]
    assert some["probability"].to_pylist() == pytest.approx(
        [whole["probability"][i].as_py() for i in (3, 8, 50)]
    )
    one = evaluate(trained, maps, "val", batch_size=size)["value"].to_pylist()
    assert one == pytest.approx(evaluate(trained, maps, "val")["value"].to_pylist())


def test_content_is_encoded_once_for_all_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    original = Inputs.read.__func__
    monkeypatch.setattr(
        Inputs, "read", classmethod(lambda cls, *a: read.append(a) or original(cls, *a))
    )
    maps = graph()
    fit(maps, options(epochs=3, batch_size=10))
    assert len(read) == 1


def test_row_maps_are_bound_once_over_many_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = []
    original = QueryModule.bind
    monkeypatch.setattr(
        QueryModule, "bind", lambda self, *a, **k: bound.append(a) or original(self, *a, **k)
    )
    maps = graph()
    fit(maps, options(epochs=20))
    assert len(bound) == 2  # training and validation


def test_encoders_see_only_what_training_rows_reach() -> None:
    """A key and an extreme number that only a test row has."""
    xs = [1.0, 2.0, 3.0, 4.0, 1e6] * 2
    ks = [1, 1, 2, 2, 99] * 2
    draft = Draft()
    draft.space(10, x=xs, k=ks)
    code = draft.term(0, Encode("numeric", "m.n", X))
    key = draft.term(0, Lookup(Parameter("m.e.weight", (2,), "normal"), Key("m.e", (K,))))
    step = linear(draft, draft.term(0, Apply("add", (draft.value(code), draft.value(key)))), 1)
    maps = finished(draft, step, xs)
    trained = fit(maps, options(epochs=1))
    assert trained.encoders.standards["m.n"].mean == 2
    assert trained.encoders.vocabularies["m.e"].table["p0"].to_pylist() == [1, 2]


def test_the_best_epoch_is_kept_and_patience_stops() -> None:
    """Noise as labels: validation gets worse while training gets better."""
    rng = np.random.default_rng(0)
    draft = Draft()
    draft.space(ROWS, x=points().tolist(), k=list(range(ROWS)))
    table = Parameter("m.e.weight", (1,), "normal")
    key = draft.term(0, Lookup(table, Key("m.e", (K,))))
    step = draft.term(0, Apply("add", (draft.value(key), draft.value(draft.term(0, Lift(X))))))
    wild = linear(draft, step, 1)
    maps = finished(draft, wild, rng.normal(size=ROWS).tolist())
    trained = fit(maps, options(epochs=300, lr=0.1, patience=7))
    curve = trained.curve.to_pylist()
    assert len(curve) == trained.best_epoch + 7 < 300
    best = min(curve, key=lambda e: e["validation"])
    assert best["epoch"] == trained.best_epoch
    found = evaluate(trained, maps, "val").to_pylist()
    rmse = {r["metric"]: r["value"] for r in found}["rmse"]
    assert rmse == pytest.approx(best["validation"], rel=1e-5)  # the weights of that epoch


@pytest.mark.parametrize("metric", ["loss", "mae", "r2"])
def test_the_metric_decides_which_epoch_is_best(metric: str) -> None:
    maps = regression()
    trained = fit(maps, options(epochs=10, metric=metric, lr=0.5))
    values = trained.curve["validation"].to_pylist()
    best = max(values) if metric == "r2" else min(values)
    assert values.index(best) + 1 == trained.best_epoch


def test_validation_runs_as_prediction_does_and_training_does_not() -> None:
    """Dropout draws in every epoch, also after the first validation, and never in validation."""
    maps = graph()
    trained = fit(maps, options(epochs=4, lr=1e-12, metric="log_loss"))
    losses = trained.curve["loss"].to_pylist()
    assert len(set(losses)) == 4
    assert all(abs(a - b) > 1e-6 for a, b in pairwise(losses))
    found = evaluate(trained, maps, "val").to_pylist()
    best = trained.curve["validation"][trained.best_epoch - 1].as_py()
    assert {r["metric"]: r["value"] for r in found}["log_loss"] == pytest.approx(best, rel=1e-6)


def test_between_equal_metrics_less_loss_is_better() -> None:
    draft = Draft()
    xs = np.where(np.arange(ROWS) % 2 == 0, 1.0, -1.0)
    draft.space(ROWS, x=xs.tolist())
    step = linear(draft, draft.term(0, Lift(X)), 2)
    maps = finished(draft, step, ["a" if x > 0 else "b" for x in xs], "VARCHAR")
    trained = fit(maps, options(epochs=30, lr=0.1))
    assert trained.curve["validation"].to_pylist()[-5:] == [1.0] * 5
    assert trained.best_epoch == 30


def test_without_validation_rows_the_last_epoch_is_kept() -> None:
    maps = regression()
    rows = [s if s != "val" else None for s in splits()]
    maps.columns[0, S] = pa.array(rows)
    trained = fit(maps, options(epochs=4))
    assert trained.best_epoch == 4
    assert trained.curve["validation"].to_pylist() == [None] * 4
    with pytest.raises(DataError, match=r"`patience` waits .* no validation rows"):
        fit(maps, options(patience=2))


def test_a_prediction_over_windows_and_stacks_learns_from_the_rows_asked_for() -> None:
    """Partitions stay whole and stacks share their parts, so slices hold more rows than asked."""
    draft = Draft()
    draft.space(20, x=points()[:20].tolist())
    draft.space(10, x=points()[20:30].tolist(), a=np.arange(10))
    value = draft.term(0, Lift(X))
    gathered = draft.step(1, 1, Gather(value, A))
    both = draft.space(30, Stack((0, 1), ("g",), ((G,), (G,))))
    stacked = draft.step(both, 1, Stacked((value, gathered)))
    step = draft.partition(both, linear(draft, stacked, 1), "sum", np.repeat(np.arange(6), 5))
    maps = finished(draft, step, np.arange(30.0).tolist())
    whole = fit(maps, options(epochs=3))
    scores = predict(whole, maps)["prediction"].to_pylist()
    for size in (4, 30):
        parts = predict(whole, maps, batch_size=size)["prediction"]
        assert parts.to_pylist() == pytest.approx(scores)
    rows = np.array([2, 21])
    some = predict(whole, maps, rows)
    assert some["id"].to_pylist() == [2, 21]
    assert some["prediction"].to_pylist() == pytest.approx([scores[2], scores[21]])
    rmse = evaluate(whole, maps, "val")["value"][1].as_py()
    val = [i for i, s in enumerate(splits(30)) if s == "val"]
    assert rmse == pytest.approx(math.sqrt(np.mean([(scores[i] - i) ** 2 for i in val])), rel=1e-5)
    assert fit(maps, options(epochs=3, batch_size=5)).best_epoch


# -- predictions -----------------------------------------------------------------------------------


def test_null_predictions_are_null() -> None:
    maps = regression()
    trained = fit(maps, options(epochs=1))
    draft = Draft()
    draft.space(2, x=[None, 1.0])
    step = linear(draft, draft.term(0, Lift(X)), 1)
    new = finished(draft, step, [1.0, 2.0])
    values = predict(trained, new)["prediction"].to_pylist()
    assert values[0] is None
    assert values[1] is not None


def test_a_model_predicts_without_label_and_split() -> None:
    maps = regression()
    trained = fit(maps, options(epochs=1))
    plan = Plan(maps.plan.spaces, maps.plan.steps, 0, (("id", ID),), maps.plan.values)
    bare = replace(maps, plan=plan)
    assert predict(trained, bare).column_names == ["id", "prediction"]
    with pytest.raises(QueryError, match="the output has no column `y` for the label"):
        evaluate(trained, bare)


def test_an_empty_output_predicts_nothing() -> None:
    maps = graph()
    trained = fit(maps, options(epochs=1))
    none = restricted(placed(maps), torch.empty(0, dtype=torch.int64))
    for size in (None, 5):
        table = predict(trained, none, batch_size=size)
        assert table.num_rows == 0
        assert table["prediction"].type == pa.string()


def test_evaluation_of_what_is_not_there() -> None:
    maps = regression()
    trained = fit(maps, options(epochs=1))
    with pytest.raises(QueryError, match=r"no split is called 'tset'.* Did you mean `test`"):
        evaluate(trained, maps, "tset")
    assert evaluate(trained, maps, None)["rows"][0].as_py() == ROWS
    valid = evaluate(trained, maps, "validation")
    assert valid == evaluate(trained, maps, "val")
    maps.columns[0, S] = pa.array(["train"] * ROWS)
    with pytest.raises(DataError, match="no labelled test rows"):
        evaluate(trained, maps)


def test_an_untrained_model_has_start_values_and_encoders() -> None:
    maps = graph()
    untrained = fit(maps, options(train=False))
    assert untrained.best_epoch is None
    assert untrained.curve.num_rows == 0
    start = QueryModule(maps.plan, untrained.encoders, 0).state()
    assert all(torch.equal(start[n], t) for n, t in untrained.weights.items())
    bare = fit(maps, Options(train=False))
    assert predict(bare, maps)["prediction"].type == pa.list_(pa.float32())
    with pytest.raises(QueryError, match="this model has no label"):
        evaluate(bare, maps)


# -- mistakes --------------------------------------------------------------------------------------


def error_of(maps: RowMaps, **values: Any) -> Exception:
    with pytest.raises((QueryError, DataError)) as caught:
        fit(maps, options(**values))
    return caught.value


def test_columns_that_are_not_there_are_named_with_what_is() -> None:
    error = error_of(regression(), label="yy")
    assert "the output has no column `yy` for the label; its content columns are id, y, s" in str(
        error
    )
    assert "Did you mean `y`?" in str(error)
    assert error.span is not None
    assert "for the split" in str(error_of(regression(), split="spilt"))
    assert "label `v0` is learned" in str(error_of(regression(), label="v0"))
    error = error_of(regression(), split="id")
    assert "split column `id` is INTEGER; it must be text" in str(error)
    with pytest.raises(QueryError, match="a model needs a label to train"):
        fit(regression(), Options())


def test_labels_that_teach_nothing() -> None:
    empty = regression(dict.fromkeys(range(ROWS)))
    assert "every label `y` of the 36 training rows is NULL" in str(error_of(empty))
    same = regression(dict.fromkeys(range(ROWS), 7.0))
    assert "label `y` is 7.0 in all 36 training rows" in str(error_of(same))
    bad = regression({0: math.inf})
    assert "`y` is inf in 1 of 36 rows" in str(error_of(bad))


def test_rows_without_label_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    maps = regression({0: None, 3: None})
    with caplog.at_level(logging.INFO, "relann"):
        trained = fit(maps, options(epochs=1))
    assert trained.rows == {"train": 35, "val": 11, "test": 12}
    assert "1 of 36 train rows have no label and are not used" in caplog.text
    assert "35 train, 11 val, 12 test, of 60 rows" in caplog.text


def test_no_training_rows() -> None:
    maps = regression()
    maps.columns[0, S] = pa.array(["Train", "test", None] * 20)
    assert "`s` is 'train' in none of 60 rows" in str(error_of(maps))


def test_more_classes_than_scores() -> None:
    draft = Draft()
    draft.space(ROWS, x=points().tolist())
    step = linear(draft, draft.term(0, Lift(X)), 2)
    maps = finished(draft, step, [f"c{i % 4}" for i in range(ROWS)], "VARCHAR")
    assert "4 classes in the training rows" in str(error_of(maps))
    assert error_of(maps, loss="mse").span is not None


def test_null_predictions_for_labelled_rows() -> None:
    draft = Draft()
    draft.space(ROWS, x=[None, *points()[1:].tolist()])
    step = linear(draft, draft.term(0, Lift(X)), 1)
    maps = finished(draft, step, points().tolist())
    assert "NULL in 1 of 36 labelled training rows" in str(error_of(maps))
    assert "coalesce" in str(error_of(maps, batch_size=7))
    draft = Draft()
    draft.space(ROWS, x=[None if i % 5 == 3 else 1.0 * i for i in range(ROWS)])
    maps = finished(draft, linear(draft, draft.term(0, Lift(X)), 1), points().tolist())
    assert "NULL in 12 of 12 labelled validation rows" in str(error_of(maps))


def test_inputs_that_are_not_finite_are_named() -> None:
    draft = Draft()
    draft.space(ROWS, x=[math.nan, *points()[1:].tolist()])
    maps = finished(draft, linear(draft, draft.term(0, Lift(X)), 1), points().tolist())
    assert "`x` is nan in 1 of 36 rows" in str(error_of(maps))


def test_one_learned_column_is_the_prediction() -> None:
    maps = regression()
    two = Plan(maps.plan.spaces, maps.plan.steps, 0, maps.plan.contents, (("a", 0), ("b", 1)))
    with pytest.raises(QueryError, match=r"2 learned columns \(a, b\); exactly one"):
        fit(replace(maps, plan=two), options())
    none = Plan(maps.plan.spaces, maps.plan.steps, 0, maps.plan.contents, ())
    with pytest.raises(QueryError, match=r"no learned column.*id, y, s are content"):
        fit(replace(maps, plan=none), options())


def test_nothing_to_train() -> None:
    draft = Draft()
    draft.space(ROWS, x=points().tolist())
    maps = finished(draft, draft.term(0, Lift(X)), points().tolist())
    assert "no parameters" in str(error_of(maps))
    draft = Draft()
    draft.space(ROWS, x=points().tolist())
    x = draft.value(draft.term(0, Lift(X)))
    spare = draft.value(draft.term(0, Learned(Parameter("m.p", (1,)))))
    maps = finished(draft, draft.term(0, Coalesce((x, spare))), points().tolist())
    assert "depends on no parameter" in str(error_of(maps))


def test_metrics_of_another_kind() -> None:
    error = error_of(regression(), metric="accuracy")
    assert "`accuracy` is no metric of a model whose loss is mse; there are loss, mae" in str(error)
    assert error.span is not None


def test_a_loss_that_is_not_finite_at_once_names_the_operation() -> None:
    draft = Draft()
    draft.space(ROWS, x=points().tolist())
    x = draft.value(draft.term(0, Lift(X)))
    step = linear(draft, draft.term(0, Apply("log", (x,))), 1)
    maps = finished(draft, step, points().tolist())
    error = str(error_of(maps))
    assert "the loss is nan in epoch 1" in error
    assert "`log(x)` gives a number that is not finite" in error


def test_weights_that_grow_without_bounds_name_lr() -> None:
    error = str(error_of(regression(), lr=1e6, optimizer="sgd", epochs=50))
    assert "in epoch" in error
    assert "Take a smaller `lr` (it is 1e+06)" in error


def test_a_last_step_that_spoils_the_weights_is_noticed() -> None:
    maps = regression()
    maps.columns[0, S] = pa.array(["train"] * ROWS)
    error = str(error_of(maps, lr=1e38, optimizer="sgd", epochs=1, momentum=0.5))
    assert "not finite" in error


# -- splits ----------------------------------------------------------------------------------------


def test_without_a_split_column_rows_are_split_by_content(caplog: pytest.LogCaptureFixture) -> None:
    def by_id(ids: list[int], seed: int = 0) -> dict[int, str]:
        draft = Draft()
        draft.space(len(ids), x=[0.0] * len(ids))
        maps = finished(draft, draft.term(0, Lift(X)), [1.0] * len(ids))
        maps.columns[0, ID] = pa.array(ids)
        plan = replace(maps.plan, contents=maps.plan.contents[:2])
        found = split_rows(replace(maps, plan=plan), None, "y", seed)
        return {ids[r]: name for name, rows in found.items() for r in rows}

    whole = by_id(list(range(5000)))
    assert len(whole) == 5000  # every row is in one split
    share = {n: sum(v == n for v in whole.values()) / 5000 for n in ("train", "val", "test")}
    assert share == {
        "train": pytest.approx(0.8, abs=0.02),
        "val": pytest.approx(0.1, abs=0.02),
        "test": pytest.approx(0.1, abs=0.02),
    }
    some = by_id([4000, 7, 12])  # other rows, another order: the same splits
    assert some == {i: whole[i] for i in some}
    assert by_id(list(range(5000)), seed=1) != whole
    maps = regression()
    with caplog.at_level(logging.INFO, "relann"):
        trained = fit(maps, Options(label="y", epochs=1))
    assert "split 80/10/10 by a hash" in caplog.text
    assert sum(trained.rows.values()) == ROWS


def test_the_label_does_not_decide_the_split() -> None:
    maps, other = regression(), regression(dict.fromkeys(range(ROWS), 2.0))
    first, second = split_rows(maps, None, "y", 0), split_rows(other, None, "y", 0)
    assert all((first[n] == second[n]).all() for n in first)
    bare = Plan(maps.plan.spaces, maps.plan.steps, 0, maps.plan.contents[1:2], maps.plan.values)
    with pytest.raises(QueryError, match="select a key as well"):
        split_rows(replace(maps, plan=bare), None, "y", 0)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_has_three_names(name: str) -> None:
    maps = regression()
    values = [name if s == "val" else s for s in splits()]
    maps.columns[0, S] = pa.array(values).dictionary_encode()
    assert fit(maps, options(epochs=1)).rows["val"] == 12


# -- the progress line -----------------------------------------------------------------------------


def test_progress_is_shown_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    maps = regression()
    fit(maps, options(epochs=2))
    assert capfd.readouterr() == ("", "")
    screen = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda stderr: Console(file=screen, force_terminal=True, width=120)
    )
    fit(maps, options(epochs=2))
    assert "epoch 2  loss" in screen.getvalue()
    assert "validation rmse" in screen.getvalue()
    assert capfd.readouterr() == ("", "")


def test_trained_weights_must_fit_the_plan() -> None:
    maps = regression()
    trained = fit(maps, options(epochs=1))
    with pytest.raises(DataError, match=r"`m\.embedding_0\.weight` follows keys that were never"):
        predict(trained, graph())
    draft = Draft()
    draft.space(1, x=[1.0])
    other = finished(draft, linear(draft, draft.term(0, Lift(X)), 2), [1.0])
    with pytest.raises(DataError, match=r"`m\.linear_0\.weight` has shape \(1, 1\) in the weights"):
        predict(trained, other)
