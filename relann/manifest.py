"""RelBench's folders: what their manifests say of tables and tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import yaml

from relann.errors import DataError

FILE = "manifest.yaml"


@dataclass(frozen=True)
class ManifestTable:
    """A table's key, time and foreign keys (column → table), each None or empty for none."""

    name: str
    key: str | None
    time: str | None
    foreign: Mapping[str, str]


@dataclass(frozen=True)
class Manifest:
    """A RelBench data set: its tables, and until when rows may be seen for validating and testing.

    Timestamps are text, as the manifest has them.
    """

    name: str
    folder: Path
    val_timestamp: str | None
    test_timestamp: str | None
    tables: tuple[ManifestTable, ...]

    def file(self, table: str) -> Path:
        """Where a table's rows are."""
        return self.folder / "db" / f"{table}.parquet"


@dataclass(frozen=True)
class RelBenchTask:
    """A task of a RelBench data set, as its manifest has it; what a manifest lacks is None.

    `kind` is 'forecast', 'autocomplete' or 'external'; `task_type` says what is predicted.
    `sql` makes the labels from a relation `timestamps(timestamp)` and the tables, `{timedelta}`
    standing for the window's length. Entity columns are those of the label tables `train`, `val`
    and `test`, Parquet files that may be missing. A recommendation has a source and a destination
    instead of an entity. `remove_columns` are (table, column) pairs that a model may not see.
    """

    name: str
    kind: str
    task_type: str
    entity_table: str | None
    entity_col: str | None
    target_col: str | None
    time_col: str | None
    timedelta: str | None
    sql: str | None
    train: Path | None
    val: Path | None
    test: Path | None
    val_timestamp: str | None
    test_timestamp: str | None
    num_eval_timestamps: int = 1
    src_entity_table: str | None = None
    src_entity_col: str | None = None
    dst_entity_table: str | None = None
    dst_entity_col: str | None = None
    eval_k: int | None = None
    remove_columns: tuple[tuple[str, str], ...] = ()


def read_manifest(folder: str | Path) -> Manifest:
    """What a RelBench folder holds.

    Raises DataError where there is no manifest, where it is no manifest of a data set, and where it
    names a table that has no file.
    """
    folder = Path(folder)
    content = _read(folder / FILE)
    tables = content.get("tables")
    if not isinstance(tables, Mapping):
        raise DataError(f"{folder / FILE} is no manifest of a data set: it lists no tables")
    found = []
    for name, spec in tables.items():
        spec = spec or {}
        foreign = {str(column): str(to) for column, to in (spec.get("fkeys") or {}).items()}
        found.append(ManifestTable(str(name), spec.get("pkey"), spec.get("time_col"), foreign))
    manifest = Manifest(
        str(content.get("name", folder.name)),
        folder,
        _text(content.get("val_timestamp")),
        _text(content.get("test_timestamp")),
        tuple(found),
    )
    for table in manifest.tables:
        if not manifest.file(table.name).is_file():
            raise DataError(
                f"the manifest of {folder} lists `{table.name}`, but {FILE}'s folder "
                f"has no db/{table.name}.parquet"
            )
    return manifest


def relbench_tasks(folder: str | Path) -> list[RelBenchTask]:
    """The tasks of a RelBench folder, by name; folders of tasks without a manifest are left out.

    Raises DataError for a folder without a manifest and for a task whose manifest lacks its name,
    kind or type.
    """
    manifest = read_manifest(folder)
    files = sorted((manifest.folder / "tasks").glob(f"*/{FILE}"))
    return [_task(file, manifest) for file in files]


def _task(file: Path, manifest: Manifest) -> RelBenchTask:
    content = _read(file)
    if missing := [key for key in ("name", "kind", "task_type") if not content.get(key)]:
        raise DataError(f"{file} is no manifest of a task: it lacks {', '.join(missing)}")

    def text(key: str) -> str | None:
        return _text(content.get(key))

    def labels(part: str) -> Path | None:
        path = file.parent / f"{part}.parquet"
        return path if path.is_file() else None

    return RelBenchTask(
        name=str(content["name"]),
        kind=str(content["kind"]),
        task_type=str(content["task_type"]),
        entity_table=text("entity_table"),
        entity_col=text("entity_col"),
        target_col=text("target_col"),
        time_col=text("time_col"),
        timedelta=text("timedelta"),
        sql=text("sql"),
        train=labels("train"),
        val=labels("val"),
        test=labels("test"),
        val_timestamp=manifest.val_timestamp,
        test_timestamp=manifest.test_timestamp,
        num_eval_timestamps=int(content.get("num_eval_timestamps") or 1),
        src_entity_table=text("src_entity_table"),
        src_entity_col=text("src_entity_col"),
        dst_entity_table=text("dst_entity_table"),
        dst_entity_col=text("dst_entity_col"),
        eval_k=content.get("eval_k"),
        remove_columns=tuple((str(t), str(c)) for t, c in content.get("remove_columns") or ()),
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise DataError(f"{file} is no manifest: it holds no mapping")
    return content


def _text(value: object) -> str | None:
    """YAML reads an unquoted date as one; all else is text already."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    return None if value is None else str(value)
