"""Flatness, against a loss that can be written down."""

from __future__ import annotations

import pytest

import relann
from relann.autoselect.landscape import FAR, NEAR, landscape
from relann.models.training import Trained

pytestmark = pytest.mark.usefixtures("one_thread")


def trained(slope: float, noise: float):
    """y = slope · x ± noise, learned by one weight."""
    con = relann.connect()
    con.sql(
        f"CREATE TABLE t AS SELECT i, 1.0 + i % 3 AS x, {slope} * (1.0 + i % 3) "
        f"+ CASE WHEN i % 2 = 0 THEN {noise} ELSE -{noise} END AS y, 'train' AS split "
        "FROM range(60) r(i)"
    )
    (statement,) = relann.algebra.parse.statements(
        "CREATE MODEL m OPTIONS (label = 'y', split = 'split', epochs = 400, lr = 0.05, "
        "loss = 'mse') AS SELECT i, y, split, param(1) * x AS p FROM t"
    )
    fitted = con._models.fitted(statement)
    assert isinstance(fitted.trained, Trained)
    return fitted


def test_a_parabola() -> None:
    """The loss along any direction is L + w² m s², m the mean of x²; both directions are ±w."""
    fitted = trained(2.0, 0.5)
    (weight,) = (float(w) for w in fitted.trained.weights.values())
    assert weight == pytest.approx(2.0, abs=1e-3)
    loss, mean = 0.25, (1 + 4 + 9) / 3
    found = landscape(fitted.trained, fitted.maps)
    assert found is not None
    assert found.gradient == pytest.approx(0.0, abs=0.05)
    assert found.curvature == pytest.approx(2 * weight**2 * mean / loss, rel=0.01)
    assert found.barrier == pytest.approx(weight**2 * mean * FAR**2 / loss, rel=0.01)
    assert NEAR < FAR


def test_a_steeper_one_is_less_flat_and_weights_stay() -> None:
    fitted, steeper = trained(2.0, 0.5), trained(8.0, 0.5)
    before = {n: w.clone() for n, w in fitted.trained.weights.items()}
    flat, steep = (landscape(f.trained, f.maps) for f in (fitted, steeper))
    assert flat is not None and steep is not None
    assert steep.barrier > 10 * flat.barrier
    assert flat == landscape(fitted.trained, fitted.maps)
    assert all((before[n] == w).all() for n, w in fitted.trained.weights.items())


def test_a_loss_of_nothing_has_no_landscape() -> None:
    """Relative to a loss of 0 there is nothing to tell."""
    fitted = trained(2.0, 0.0)
    for weight in fitted.trained.weights.values():
        weight.fill_(2.0)
    assert landscape(fitted.trained, fitted.maps) is None
