"""The databases of the bank, public data with tasks on them, opened from a folder of data."""

from __future__ import annotations

from pathlib import Path

from relann.datasets import nycflights13
from relann.errors import DataError, did_you_mean, listing
from relann.loading import load
from relann.manifest import FILE, relbench_tasks
from relann.published_tasks import create_published_task
from relann.session import Session, connect

SAMPLE = (3000, 1500, 3000)
"""At most so many training, validation and test seeds of a published task; the others say theirs
in their statements."""

_STATEMENTS = Path(__file__).parent / "autoselect" / "databases"
_PACKAGED = "nycflights13"
_PUBLISHED = {
    "rel-f1": ("driver-dnf", "driver-top3", "driver-position"),
    "rel-stack-travel": ("user-engagement", "user-badge", "post-votes"),
}


def names() -> list[str]:
    """The databases of the bank, in order of their names."""
    return sorted(file.stem for file in _STATEMENTS.glob("*.sql"))


def statements(name: str) -> str:
    """What is run on a database's tables: cleaning, declarations, tasks. DataError if unknown."""
    if name not in names():
        raise DataError(
            f"the bank has no database `{name}`; it has {listing(names(), 30)}."
            + did_you_mean(name, names())
        )
    return (_STATEMENTS / f"{name}.sql").read_text("utf-8")


def opened(name: str, root: Path) -> Session:
    """A session on a new database in memory: the tables of `root`/`name`, cleaned, and its tasks.

    Published tasks (RelBench's, on its own regime `frozen`) come from the folder and are named with
    `_` for `-`; all others are made by `statements(name)`, regime `rolling`. nycflights13 comes
    from the package of that name. The same data give the same seeds. Raises DataError where there
    is no such database or its data are missing.
    """
    text, folder = statements(name), Path(root) / name
    if name != _PACKAGED and not folder.is_dir():
        raise DataError(f"the bank's database `{name}` needs the folder {folder}, which is missing")
    session = connect() if name == _PACKAGED else load(folder)
    try:
        if name == _PACKAGED:
            nycflights13(session.connection)
        session.sql(text)
        _publish(session, name, folder)
    except BaseException:
        session.close()
        raise
    return session


def _publish(session: Session, name: str, folder: Path) -> None:
    wanted = _PUBLISHED.get(name, ())
    there = {t.name: t for t in relbench_tasks(folder)} if wanted else {}
    for task in wanted:
        if task not in there:
            raise DataError(f"the folder {folder} has no tasks/{task}/{FILE}")
        create_published_task(session, there[task], task.replace("-", "_"), sample=SAMPLE)
