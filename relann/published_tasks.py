"""RelBench's own tables of seeds as tasks of a session."""

from __future__ import annotations

from collections.abc import Sequence

from relann.errors import DataError
from relann.manifest import RelBenchTask
from relann.schema import quote
from relann.session import Session

_KINDS = {
    "binary_classification": "binary",
    "multiclass_classification": "multiclass",
    "regression": "regression",
}


def create_published_task(
    session: Session,
    task: RelBenchTask,
    name: str,
    regime: str = "frozen",
    seeds: str = "SELECT * FROM seeds",
    sample: Sequence[int] = (),
) -> str:
    """What CREATE TASK tells of the task's own seeds, now kept as `name`.

    `seeds` is a query that chooses among them, rows of the folder's tables with a column `split`;
    `sample` how many of training, validation and test at most. Raises DataError for a task without
    tables of seeds or of a kind that has no single entity, and whatever CREATE TASK does.
    """
    kind = _KINDS.get(task.task_type)
    if kind is None or task.entity_table is None or task.entity_col is None:
        raise DataError(
            f"the published task {task.name} is a {task.task_type.replace('_', ' ')}; what can be "
            "created is a classification or a regression of one entity"
        )
    parts = []
    for split, path in (("train", task.train), ("val", task.val), ("test", task.test)):
        if path is None:
            raise DataError(f"the folder of the published task {task.name} has no {split}.parquet")
        parts.append(f"SELECT *, '{split}' AS split FROM read_parquet('{_text(str(path))}')")
    options = {
        "entity": task.entity_col,
        "time": task.time_col,
        "label": task.target_col,
        "table": task.entity_table,
        "split": "split",
        "val": task.val_timestamp,
        "test": task.test_timestamp,
        "kind": kind,
        "horizon": task.timedelta,
        "regime": regime,
    }
    given = [f"{option} = '{_text(value)}'" for option, value in options.items() if value]
    if sample:
        given.append(f"sample = [{', '.join(map(str, sample))}]")
    told = session.sql(
        f'CREATE TASK "{quote(name)}" OPTIONS ({", ".join(given)}) AS '
        f"WITH seeds AS ({' UNION ALL '.join(parts)}) {seeds}"
    )
    return str(told.message)


def _text(value: str) -> str:
    return value.replace("'", "''")
