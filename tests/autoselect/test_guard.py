"""The choice among finalists."""

from __future__ import annotations

from dataclasses import replace

from relann.autoselect.guard import finalists, vote
from tests.autoselect.trials import trial


def test_near_equal_are_finalists() -> None:
    trials = [trial(validation=v) for v in (0.70, 0.80, 0.79, 0.60, 0.785)]
    assert [t.validation for t in finalists(trials, 3)] == [0.80, 0.79, 0.785]
    assert [t.validation for t in finalists(trials, 1)] == [0.80]


def test_smaller_errors_are_better() -> None:
    trials = [trial(validation=v, metric="mae") for v in (3.0, 2.0, 2.02)]
    assert [t.validation for t in finalists(trials, 3)] == [2.0, 2.02]


def test_failed_and_stopped_trials_are_none() -> None:
    assert finalists([trial(error="x"), trial(validation=0.9, error="stopped early")], 3) == []


def test_a_vote_is_a_mean_rank() -> None:
    """Ranks by hand: validation 1 2 3, as_test 3 1 2, fold 3 1 2, so the second wins."""
    scores = [(0.80, 0.60, 0.60), (0.79, 0.75, 0.75), (0.785, 0.70, 0.70)]
    found = vote([trial(validation=v, as_test=a, fold=f) for v, a, f in scores])
    assert found.choice == 1
    assert found.ranks == (7 / 3, 4 / 3, 7 / 3)
    assert found.criteria == ("validation", "as_test", "fold")


def test_flatness_counts_where_all_have_it() -> None:
    """The flatter of two equal networks wins; against trees nothing is known of it."""
    sharp, flat = (trial(validation=0.8, barrier=b) for b in (2.0, 0.1))
    assert vote([sharp, flat]).choice == 1
    assert "barrier" in vote([sharp, flat]).criteria
    assert vote([sharp, flat, trial(validation=0.8)]).criteria == ("validation",)


def test_ties_go_to_validation() -> None:
    one, other = trial(validation=0.79, fold=0.8), trial(validation=0.80, fold=0.7)
    assert vote([one, other]).choice == 1
    errors = [replace(t, metric="mae") for t in (one, other)]
    assert vote(errors).choice == 0
