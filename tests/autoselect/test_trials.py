"""What is measured of a trial, against doing it by hand."""

from __future__ import annotations

import pytest

import relann
from relann.autoselect.space import Point
from relann.autoselect.trials import (
    as_table,
    as_test,
    examined,
    fold,
    of_table,
    planned,
    run,
    score,
)
from relann.errors import QueryError
from relann.models.fitted import Fitted
from relann.session import Session
from tests.autoselect.trials import SHOP

pytestmark = pytest.mark.usefixtures("one_thread")

TREES = Point(
    "features", "dfs",
    "SELECT c.customer_id, count(o.order_id) AS orders, sum(o.total) AS total, "
    "max(o.ordered_at) AS latest FROM customers c LEFT JOIN orders o USING (customer_id) "
    "GROUP BY c.customer_id",
    {"head": "gbdt", "rounds": 20, "min_rows": 5}, {"a": 1},
)  # fmt: skip


def trained(con: Session, task: str = "churn") -> Fitted:
    statement = TREES.parsed("m", task)
    return con._models.fitted(statement)


def test_as_test_is_what_validation_seeds_see_of_a_database_that_ends_before_them() -> None:
    """By hand: rows since validation began are deleted, and the kept model asked again."""
    with relann.connect() as con:
        con.sql(SHOP)
        fitted, task = trained(con), con.store.task("churn")
        found = as_test(fitted, task)
        fresh = score(fitted, "val")
        con._models.keep(fitted)
        con.sql("DELETE FROM orders WHERE ordered_at > TIMESTAMP '2023-01-01'")
        (by_hand,) = con.sql(
            "SELECT value FROM ml_evaluate('m', split => 'val') WHERE metric = 'auroc'"
        ).fetchall()[0]
        assert found == pytest.approx(by_hand, abs=1e-12)
        assert found != fresh


def test_a_fold_learns_from_earlier_training_seeds() -> None:
    """By hand: a task whose splits are cut one earlier gives the same model and metric."""
    with relann.connect() as con:
        con.sql(SHOP)
        fitted, task = trained(con), con.store.task("churn")
        moved = con.sql(
            f"SELECT quantile_disc(anchor, 0.75) FROM {task.seeds} WHERE split = 'train'"
        ).fetchall()[0][0]
        con.sql(
            "CREATE TASK earlier OPTIONS (entity = 'customer_id', time = 'anchor', "
            "label = 'label', table = 'customers', split = 'part', horizon = '30 days', "
            "regime = 'rolling') AS "
            f"SELECT customer_id, anchor, label, CASE WHEN split <> 'train' THEN 'test' "
            f"WHEN anchor <= TIMESTAMP '{moved}' THEN 'train' ELSE 'val' END AS part "
            f"FROM {task.seeds}"
        )
        assert fold(fitted, task) == score(trained(con, "earlier"), "val")


def test_test_labels_change_nothing() -> None:
    """Trial and examination are blind to them."""
    found = []
    for change in ("", "UPDATE {seeds} SET label = NOT label WHERE split = 'test'"):
        with relann.connect() as con:
            con.sql(SHOP)
            task = con.store.task("churn")
            if change:
                con.sql(change.format(seeds=task.seeds))
            trial, fitted = run(planned("d", task, TREES, 0), TREES, task, con._models.fitted)
            assert fitted is not None
            trial = examined(trial, fitted, task)
            found.append((trial.validation, trial.as_test, trial.fold, trial.test))
    assert found[0] == found[1] and found[0][-1] is None


def test_rows_and_back() -> None:
    with relann.connect() as con:
        con.sql(SHOP)
        task = con.store.task("churn")
        trial, _ = run(planned("d", task, TREES, 0), TREES, task, con._models.fitted)
        assert of_table(as_table([trial])) == [trial]
        assert trial.seconds and trial.seconds > 0 and trial.error is None


def test_an_error_is_kept_with_its_trial() -> None:
    wrong = Point("features", "dfs", "SELECT x FROM nowhere", {"head": "gbdt"}, {})
    with relann.connect() as con:
        con.sql(SHOP)
        task = con.store.task("churn")
        trial, fitted = run(planned("d", task, wrong, 0), wrong, task, con._models.fitted)
        assert fitted is None and trial.validation is None
        assert trial.error is not None and "nowhere" in trial.error


def test_a_model_may_be_validated_as_it_will_be_tested() -> None:
    """By hand, as above; it is trained and kept with that, and predicts test seeds as any other."""
    with relann.connect() as con:
        con.sql(SHOP)
        told = con.sql(
            "CREATE MODEL m OPTIONS (task = 'churn', head = 'gbdt', rounds = 20, min_rows = 5, "
            f"validation = 'as_test') AS {TREES.body}"
        ).message
        assert "frozen" in told and "seeds left out" not in told
        (known,) = con.store.model("m").metrics.values()
        assert len(con.sql("FROM ml_evaluate('m', split => 'test')").fetchall())
        con.sql("DELETE FROM orders WHERE ordered_at > TIMESTAMP '2023-01-01'")
        (by_hand,) = con.sql(
            "SELECT value FROM ml_evaluate('m', split => 'val') WHERE metric = 'auroc'"
        ).fetchall()[0]
        assert known == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ("task = 'churn', regime = 'rolling', validation = 'as_test'", "is for tasks of regime"),
        ("label = 'total', validation = 'as_test'", "there is no task"),
        ("task = 'churn', validation = 'later'", "`validation` is one of fresh, as_test"),
    ],
)
def test_validation_as_test_where_it_means_nothing(options: str, what: str) -> None:
    with relann.connect() as con:
        con.sql(SHOP)
        with pytest.raises(QueryError, match=what):
            con.sql(f"CREATE MODEL m OPTIONS ({options}) AS {TREES.body}")
