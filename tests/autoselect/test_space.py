"""The space: points are SQL that parses, drawn the same way every time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from relann.algebra.parse import statements
from relann.autoselect.space import TEMPLATES, Template, design, written
from relann.models.options import Options
from relann.models.tasks import Task

TASK = Task(
    "churn", "customer id", "customers", "id", "at", "y", "split", "binary", horizon="30 days"
)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
def test_points_are_statements(template: Template) -> None:
    """Every value of every knob is SQL, and the options are options."""
    own = template.for_task(TASK)
    for knob in own.knobs:
        for value in knob.values:
            point = own.point({knob.name: value})
            (statement,) = statements(point.statement("m", "churn"))
            Options.parsed({o.name: o for o in statement.options})
            if knob.place == "argument":
                assert f"{knob.name} => {written(value)}" in point.body
            assert "{" not in point.body


def test_the_default_comes_first_and_draws_repeat() -> None:
    points = list(design(TEMPLATES, {"dfs": 4, "sage": 3}))
    assert [p.template for p in points] == ["dfs"] * 4 + ["dfs_mlp"] + ["sage"] * 3 + [
        "gat", "relgnn", "hgt",
    ]  # fmt: skip
    assert points[0] == TEMPLATES[0].default()
    assert points == list(design(TEMPLATES, {"dfs": 4, "sage": 3}))
    assert len({p.hash for p in points}) == len(points)


def test_another_template_changes_no_draws() -> None:
    alone = [p for p in design(TEMPLATES[2:3], {"sage": 5})]
    assert [p for p in design(TEMPLATES, {"sage": 5, "dfs": 2}) if p.template == "sage"] == alone


def test_what_a_task_changes() -> None:
    """No past labels where it is not known when they are; regression learns what judges it."""
    dfs = TEMPLATES[0]
    point = dfs.for_task(replace(TASK, horizon=None)).point({"labels": True})
    assert point.knobs["labels"] is False
    assert "loss" not in dfs.for_task(TASK).default().options
    assert dfs.for_task(replace(TASK, kind="regression")).default().options["loss"] == "mae"


def test_names_that_need_quotes() -> None:
    (mlp,) = [t for t in TEMPLATES if t.name == "dfs_mlp"]
    assert 'exclude => ["customer id"]' in mlp.for_task(TASK).default().body


def test_hashes_tell_knobs_apart_and_nothing_else() -> None:
    sage = TEMPLATES[2]
    drawn = sage.drawn(np.random.default_rng(1))
    other = sage.for_task(replace(TASK, kind="regression")).point(drawn.knobs)
    assert drawn.hash == other.hash != sage.default().hash
