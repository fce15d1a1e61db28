"""Models, layers and tasks kept in the DuckDB database they belong to, in the schema `relann`.

    relann.format  (version)                           how the other tables are laid out
    relann.models  (name, version, definition, options, metrics, curve, info, schema_hash,
                    parameters, relann_version, created_at, weights, weights_sha256)
    relann.state   (name, version, site, data, sha256)  fitted vocabularies and statistics
    relann.layers  (name, definition, relann_version, created_at)
    relann.tasks   (name, definition, info, relann_version, created_at)
    relann."seeds of …"                                 the seeds of each task, under its name
    relann.keys, relann.foreign_keys                   what is declared, see relann.declarations
    relann."m@1 …"  what the SQL of version 1 of model m reads, see `relann.deployment`

`weights` is a safetensors file, each `data` an Arrow IPC stream, both as bytes: typed, without code
and readable by other programs. Options, metrics, curve and info are JSON.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.ipc
from torch import Tensor

from relann.algebra.terms import quoted
from relann.declarations import SCHEMA, TABLES, DeclaredColumn, DeclaredForeignKey
from relann.duckdb_errors import duckdb_error_text
from relann.errors import DataError, QueryError, Span, did_you_mean, listing
from relann.models.tasks import Task
from relann.provenance.parameters import from_bytes, to_bytes
from relann.version import VERSION

FORMAT = 1
_TABLES = {
    "format": "version INTEGER NOT NULL",
    "models": """
        name VARCHAR NOT NULL, version INTEGER NOT NULL, definition VARCHAR NOT NULL,
        options JSON NOT NULL, metrics JSON NOT NULL, curve JSON NOT NULL, info JSON NOT NULL,
        schema_hash VARCHAR NOT NULL, parameters BIGINT NOT NULL, relann_version VARCHAR NOT NULL,
        created_at TIMESTAMP NOT NULL, weights BLOB NOT NULL, weights_sha256 VARCHAR NOT NULL,
        PRIMARY KEY (name, version)""",
    "state": """
        name VARCHAR NOT NULL, version INTEGER NOT NULL, site VARCHAR NOT NULL,
        data BLOB NOT NULL, sha256 VARCHAR NOT NULL, PRIMARY KEY (name, version, site)""",
    "layers": """
        name VARCHAR PRIMARY KEY, definition VARCHAR NOT NULL, relann_version VARCHAR NOT NULL,
        created_at TIMESTAMP NOT NULL""",
    "tasks": """
        name VARCHAR PRIMARY KEY, definition VARCHAR NOT NULL, info JSON NOT NULL,
        relann_version VARCHAR NOT NULL, created_at TIMESTAMP NOT NULL""",
    "trials": """
        task VARCHAR NOT NULL, data VARCHAR NOT NULL, trial JSON NOT NULL,
        relann_version VARCHAR NOT NULL, created_at TIMESTAMP NOT NULL""",
    **TABLES,
}


@dataclass(frozen=True)
class ModelRecord:
    """A model as it is kept.

    `definition` is the statement that created it, `state` the Arrow table fitted at each site,
    `curve` one mapping per epoch, `info` whatever else is to be kept, as JSON. The store sets
    `version`, `created_at` (UTC) and `relann_version`; it gives weights back on the CPU, by name.
    """

    name: str
    definition: str
    options: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    curve: Sequence[Mapping[str, Any]] = ()
    info: Mapping[str, Any] = field(default_factory=dict)
    schema_hash: str = ""
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    state: Mapping[str, pa.Table] = field(default_factory=dict)
    version: int = 0
    created_at: datetime | None = None
    relann_version: str = VERSION


@dataclass(frozen=True)
class ModelEntry:
    """A line of the list of models: one version of one."""

    name: str
    version: int
    created_at: datetime
    parameters: int
    options: Mapping[str, Any]
    metrics: Mapping[str, Any]
    relann_version: str = VERSION


@dataclass(frozen=True)
class LayerRecord:
    """A layer as it is kept; `definition` is the statement that created it."""

    name: str
    definition: str
    created_at: datetime


class Store:
    """Models, layers and tasks of a connection's current database. Names are the same in any case.

    Writes are all or nothing, and part of the user's transaction when one is open. Raises DataError
    where the database refuses, and QueryError (at `span`, if given) for a name that is or is not
    there.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def check_new(self, name: str, replace: bool, span: Span | None = None) -> None:
        """Raise unless a model of this name may be created; ask before training it."""
        self._check_writable()
        if not replace and (newest := self._newest(name)):
            raise QueryError(
                f"model `{newest[0]}` exists already (version {newest[1]}); "
                "CREATE OR REPLACE MODEL, or IMPORT OR REPLACE MODEL, adds a version",
                span,
            )

    def save_model(self, record: ModelRecord) -> int:
        """Keep a model as the next version of its name, and return that version."""
        weights = to_bytes(record.weights)
        state = {site: table_to_bytes(table) for site, table in record.state.items()}
        texts = [_json(v) for v in (record.options, record.metrics, record.curve, record.info)]
        parameters = sum(t.numel() for t in record.weights.values())
        with self._transaction():
            newest = self._newest(record.name)
            name, version = (newest[0], newest[1] + 1) if newest else (record.name, 1)
            values = [name, version, record.definition, *texts, record.schema_hash, parameters]
            written = [VERSION, _now(), weights, sha256(weights).hexdigest()]
            self._run(
                f"INSERT INTO {self._table('models')} VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
                [*values, *written],
            )
            for site, data in state.items():
                self._run(
                    f"INSERT INTO {self._table('state')} VALUES (?,?,?,?,?)",
                    [name, version, site, data, sha256(data).hexdigest()],
                )
        return version

    def model(self, name: str, version: int | None = None, span: Span | None = None) -> ModelRecord:
        """A kept model, the newest version unless one is given (also as `name@version`).

        Raises QueryError for an unknown name or version, DataError for damaged contents.
        """
        name, version = _name_and_version(name, version)
        found = []
        if newest := self._newest(name):
            version = newest[1] if version is None else version
            found = self._run(
                "SELECT name, version, definition, options, metrics, curve, info, schema_hash, "
                "created_at, relann_version, weights, weights_sha256 "
                f"FROM {self._table('models')} WHERE name = ? AND version = ?",
                [newest[0], version],
            )
        if not found:
            raise self._unknown(name, version, span)
        (row,) = found
        what = f"model `{row[0]}` (version {row[1]})"
        _check_digest(row[10], row[11], f"the weights of {what}")
        try:
            weights = dict(sorted(from_bytes(row[10]).items()))
        except DataError as error:
            raise DataError(f"the weights of {what} are damaged: {error}") from error
        options, metrics, curve, info = (json.loads(text) for text in row[3:7])
        return ModelRecord(
            name=row[0],
            definition=row[2],
            options=options,
            metrics=metrics,
            curve=curve,
            info=info,
            schema_hash=row[7],
            weights=weights,
            state=self._state(row[0], row[1], what),
            version=row[1],
            created_at=row[8],
            relann_version=row[9],
        )

    def models(self) -> list[ModelEntry]:
        """The newest version of each model, by name."""
        if not self._exists("models"):
            return []
        rows = self._run(
            "SELECT name, version, created_at, parameters, options, metrics, relann_version "
            f"FROM {self._table('models')} "
            "QUALIFY row_number() OVER (PARTITION BY name ORDER BY version DESC) = 1 ORDER BY name"
        )
        return [_entry(*row) for row in rows]

    def versions(self, name: str | None = None, span: Span | None = None) -> list[ModelEntry]:
        """All versions of a model, or of each, by name from the newest to the oldest.

        QueryError where no model is called so.
        """
        newest = None if name is None else self._newest(name)
        if name is not None and newest is None:
            raise self._unknown(name, None, span)
        if not self._exists("models"):
            return []
        rows = self._run(
            "SELECT name, version, created_at, parameters, options, metrics, relann_version "
            f"FROM {self._table('models')} WHERE $1 IS NULL OR name = $1 "
            "ORDER BY name, version DESC",
            [None if newest is None else newest[0]],
        )
        return [_entry(*row) for row in rows]

    def drop_model(self, name: str, if_exists: bool = False, span: Span | None = None) -> bool:
        """Forget all versions of a model, or with `name@version` that one, and tables of theirs.

        False if there was none and `if_exists` allows that. Without its newest version a model is
        what it was before, and the next version takes that number again.
        """
        base, version = _name_and_version(name, None)
        found = [v for v in self._versions(base) if version in (None, v)]
        if not found:
            if if_exists:
                return False
            raise self._unknown(base, version, span)
        kept = self._newest(base)
        assert kept is not None
        with self._transaction():
            for number in found:
                for table in ("state", "models"):
                    self._run(
                        f"DELETE FROM {self._table(table)} WHERE name = ? AND version = ?",
                        [kept[0], number],
                    )
                for table in self._tables_of(kept[0], number):
                    self._run(f"DROP TABLE {table}")
        return True

    def table_of(self, record: ModelRecord, what: str) -> str:
        """The name, as SQL, of a table that belongs to a model: `keeping` makes it.

        It names version and contents, so that no view over another model ever reads it.
        """
        held = to_bytes(record.weights)
        if not record.weights:  # of trees
            held = b"".join(map(table_to_bytes, record.state.values()))
        digest = sha256(held).hexdigest()[:8]
        name = quoted(f"{record.name}@{record.version} {digest} {what}")
        database = self._database()
        # a database of the schema's name would make the schema's name mean two things
        same = database.strip('"').lower() == SCHEMA
        return f"{database}.{SCHEMA}.{name}" if same else f"{SCHEMA}.{name}"

    @contextmanager
    def keeping(self, tables: Mapping[str, pa.Table]) -> Iterator[None]:
        """Tables by name, as SQL, kept beside the models unless the block raises."""
        with self._transaction():
            for name, table in tables.items():
                with self._shown(table) as shown:
                    self._run(f"CREATE OR REPLACE TABLE {name} AS FROM {shown}")
            yield

    @contextmanager
    def _shown(self, table: pa.Table) -> Iterator[str]:
        name = "relann kept"
        self._connection.register(name, table)
        try:
            yield quoted(name)
        finally:
            self._connection.unregister(name)

    def _tables_of(self, model: str, version: int) -> list[str]:
        """The tables that belong to a version of a model, as SQL."""
        found = self._run(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database() "
            "AND schema_name = ? AND starts_with(table_name, ?)",
            [SCHEMA, f"{model}@{version} "],
        )
        return [self._table(quoted(name)) for (name,) in found]

    def save_layer(
        self, name: str, definition: str, replace: bool = False, span: Span | None = None
    ) -> None:
        """Keep a layer, in place of the one of this name if `replace` allows that."""
        if (old := self.layer(name)) and not replace:
            message = f"layer `{old.name}` exists already; write CREATE OR REPLACE LAYER"
            raise QueryError(message, span)
        with self._transaction():
            if old:
                self._run(f"DELETE FROM {self._table('layers')} WHERE name = ?", [old.name])
            self._run(
                f"INSERT INTO {self._table('layers')} VALUES (?,?,?,?)",
                [name, definition, VERSION, _now()],
            )

    def layer(self, name: str) -> LayerRecord | None:
        """A kept layer, None if there is none of this name."""
        return next((v for v in self.layers() if v.name.lower() == name.lower()), None)

    def layers(self) -> list[LayerRecord]:
        """All layers, by name."""
        if not self._exists("layers"):
            return []
        rows = self._run(
            f"SELECT name, definition, created_at FROM {self._table('layers')} ORDER BY name"
        )
        return [LayerRecord(*row) for row in rows]

    def drop_layer(self, name: str, if_exists: bool = False, span: Span | None = None) -> bool:
        """Forget a layer; False if there was none and `if_exists` allows that."""
        layer = self.layer(name)
        if layer is None:
            if if_exists:
                return False
            known = [v.name for v in self.layers()]
            raise QueryError(f"no layer is called `{name}`.{did_you_mean(name, known)}", span)
        with self._transaction():
            self._run(f"DELETE FROM {self._table('layers')} WHERE name = ?", [layer.name])
        return True

    def check_new_task(self, name: str, replace: bool, span: Span | None = None) -> None:
        """Raise unless a task of this name may be created; ask before making its seeds."""
        self._check_writable()
        if not replace and (old := self._task_named(name)):
            message = f"task `{old.name}` exists already; write CREATE OR REPLACE TASK"
            raise QueryError(message, span)

    def save_task(
        self, task: Task, seeds: str, replace: bool = False, span: Span | None = None
    ) -> Task:
        """Keep a task and the rows of `seeds`, a SELECT, in place of the one of its name.

        The answer knows where its seeds are.
        """
        self.check_new_task(task.name, replace, span)
        with self._transaction():
            if old := self._task_named(task.name):
                self._forget_task(old)
            self._run(f"CREATE TABLE {self._seeds(task.name)} AS {seeds}")
            self._run(
                f"INSERT INTO {self._table('tasks')} VALUES (?,?,?,?,?)",
                [task.name, task.definition, _json(task.info()), VERSION, _now()],
            )
        return dataclasses.replace(task, seeds=self._seeds(task.name))

    def task(self, name: str, span: Span | None = None) -> Task:
        """A kept task; QueryError if there is none of this name."""
        if task := self._task_named(name):
            return task
        known = [v.name for v in self.tasks()]
        hint = did_you_mean(name, known) if known else " There are no tasks in this database."
        raise QueryError(f"no task is called `{name}`.{hint}", span)

    def tasks(self) -> list[Task]:
        """All tasks, by name."""
        if not self._exists("tasks"):
            return []
        rows = self._run(f"SELECT name, definition, info FROM {self._table('tasks')} ORDER BY name")
        return [Task.from_info(n, d, self._seeds(n), json.loads(info)) for n, d, info in rows]

    def drop_task(self, name: str, if_exists: bool = False, span: Span | None = None) -> bool:
        """Forget a task and its seeds; False if there was none and `if_exists` allows that."""
        if if_exists and not self._task_named(name):
            return False
        task = self.task(name, span)
        with self._transaction():
            self._forget_task(task)
        return True

    def _forget_task(self, task: Task) -> None:
        self._run(f"DROP TABLE IF EXISTS {task.seeds}")
        for table, column in (("tasks", "name"), ("trials", "task")):
            self._run(f"DELETE FROM {self._table(table)} WHERE {column} = ?", [task.name])

    def add_trial(self, task: str, data: str, trial: Mapping[str, Any]) -> None:
        """Keep a trial of a task; `data` says of which state of the data it is."""
        with self._transaction():
            self._run(
                f"INSERT INTO {self._table('trials')} VALUES (?,?,?,?,?)",
                [task, data, _json(trial), VERSION, _now()],
            )

    def trials(self, task: str, data: str) -> list[dict[str, Any]]:
        """The trials of a task on one state of the data, the first one first."""
        if not self._exists("trials"):
            return []
        rows = self._run(
            f"SELECT trial FROM {self._table('trials')} WHERE task = ? AND data = ? "
            "ORDER BY created_at, rowid",
            [task, data],
        )
        return [json.loads(trial) for (trial,) in rows]

    @property
    def writable(self) -> bool:
        """Whether anything can be kept."""
        try:
            self._check_writable()
        except DataError:
            return False
        return True

    def _task_named(self, name: str) -> Task | None:
        return next((v for v in self.tasks() if v.name.lower() == name.lower()), None)

    def _seeds(self, name: str) -> str:
        return self._table(quoted(f"seeds of {name}"))

    def declare(
        self, columns: Sequence[DeclaredColumn] = (), foreign: Sequence[DeclaredForeignKey] = ()
    ) -> None:
        """Keep facts of tables, in place of what was declared of the same table or column.

        Names are kept as given, so they should be the database's own; nothing is checked.
        """
        with self._transaction():
            keys, foreign_keys = self._table("keys"), self._table("foreign_keys")
            for one in columns:
                place = [one.schema, one.table, one.fact]
                self._run(
                    f"DELETE FROM {keys} WHERE (schema_name, table_name, fact) = (?, ?, ?)", place
                )
                values = [*place, one.column, one.origin, _now()]
                self._run(f"INSERT INTO {keys} VALUES (?,?,?,?,?,?)", values)
            for link in foreign:
                place = [link.schema, link.table, link.column]
                self._run(
                    f"DELETE FROM {foreign_keys} "
                    "WHERE (schema_name, table_name, column_name) = (?, ?, ?)",
                    place,
                )
                to = [link.to_schema, link.to_table, link.to_column]
                values = [*place, *to, link.origin, _now()]
                self._run(f"INSERT INTO {foreign_keys} VALUES (?,?,?,?,?,?,?,?)", values)

    def transaction(self) -> AbstractContextManager[None]:
        """All that is done in the block, or nothing; joins a transaction that is open."""
        return self._transaction()

    def _newest(self, name: str) -> tuple[str, int] | None:
        """The name as it is kept and its newest version."""
        if not self._exists("models"):
            return None
        found = self._run(
            f"SELECT name, version FROM {self._table('models')} WHERE lower(name) = lower(?) "
            "ORDER BY version DESC LIMIT 1",
            [name],
        )
        return found[0] if found else None

    def _versions(self, name: str) -> list[int]:
        """The versions of a model, the newest first."""
        if not self._exists("models"):
            return []
        found = self._run(
            f"SELECT version FROM {self._table('models')} WHERE lower(name) = lower(?) "
            "ORDER BY version DESC",
            [name],
        )
        return [version for (version,) in found]

    def _state(self, name: str, version: int, what: str) -> dict[str, pa.Table]:
        rows = self._run(
            f"SELECT site, data, sha256 FROM {self._table('state')} "
            "WHERE name = ? AND version = ? ORDER BY site",
            [name, version],
        )
        state = {}
        for site, data, digest in rows:
            _check_digest(data, digest, f"the state `{site}` of {what}")
            state[site] = table_from_bytes(data, f"the state `{site}` of {what}")
        return state

    def _unknown(self, name: str, version: int | None, span: Span | None) -> QueryError:
        newest = self._newest(name)
        if newest and version is not None:
            there = listing(map(str, self._versions(name)))
            return QueryError(f"model `{newest[0]}` has no version {version}; it has {there}", span)
        known = [entry.name for entry in self.models()]
        hint = did_you_mean(name, known) if known else " There are no models in this database."
        return QueryError(f"no model is called `{name}`.{hint}", span)

    def _table(self, name: str) -> str:
        return f"{self._database()}.{SCHEMA}.{name}"

    def _database(self) -> str:
        ((found,),) = self._run("SELECT current_database()")
        return quoted(found)

    def _exists(self, table: str) -> bool:
        """Whether a table of ours is there; raises DataError if it has another layout."""
        found = self._run(
            "SELECT table_name FROM duckdb_tables() "
            "WHERE database_name = current_database() AND schema_name = ?",
            [SCHEMA],
        )
        names = {name for (name,) in found}
        if "format" in names:
            ((kept,),) = self._run(f"SELECT max(version) FROM {self._table('format')}")
            if kept != FORMAT:
                raise DataError(
                    f"the models in this database are kept in format {kept}, and relann "
                    f"{VERSION} reads format {FORMAT}; use the relann version that wrote them"
                )
        return table in names

    def _check_writable(self) -> None:
        found = self._run(
            "SELECT database_name FROM duckdb_databases() "
            "WHERE database_name = current_database() AND readonly"
        )
        if found:
            raise DataError(
                f"database `{found[0][0]}` is open read-only, so nothing can be kept in it; "
                "connect without read_only"
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All that is written in the block, or nothing; joins a transaction that is open."""
        self._check_writable()
        joined = self.in_transaction()
        if not joined:
            self._run("BEGIN")
        try:
            self._create_tables()
            yield
            if not joined:
                self._run("COMMIT")
        except BaseException:
            if not joined:
                with suppress(duckdb.Error):  # a commit that failed has rolled back already
                    self._connection.rollback()
            raise

    def in_transaction(self) -> bool:
        """Whether a transaction is open: then, and only then, two statements share its number."""
        ask = "SELECT txid_current()"
        return self._run(ask) == self._run(ask)

    def _create_tables(self) -> None:
        if all(self._exists(table) for table in _TABLES):
            return
        self._run(f"CREATE SCHEMA IF NOT EXISTS {self._database()}.{SCHEMA}")
        fresh = not self._exists("format")
        for table, columns in _TABLES.items():
            self._run(f"CREATE TABLE IF NOT EXISTS {self._table(table)} ({columns})")
        if fresh:
            self._run(f"INSERT INTO {self._table('format')} VALUES ({FORMAT})")

    def _run(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement, all of them: what is left unread keeps the connection busy."""
        try:
            return self._connection.execute(sql, list(values)).fetchall()
        except duckdb.Error as error:
            message = f"the store of models cannot be used: {duckdb_error_text(error)}"
            raise DataError(message) from error


def _entry(
    name: str, version: int, created: datetime, size: int, options: str, metrics: str, by: str
) -> ModelEntry:
    return ModelEntry(name, version, created, size, json.loads(options), json.loads(metrics), by)


def _name_and_version(name: str, version: int | None) -> tuple[str, int | None]:
    base, mark, number = name.rpartition("@")
    return (
        (base, int(number)) if mark and version is None and number.isdecimal() else (name, version)
    )


def _check_digest(data: bytes, digest: str, what: str) -> None:
    if sha256(data).hexdigest() != digest:
        raise DataError(f"{what} do not match their checksum: the database file is damaged")


def table_to_bytes(table: pa.Table) -> bytes:
    """A table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def table_from_bytes(data: bytes, what: str) -> pa.Table:
    """The table of an Arrow IPC stream; DataError, naming `what`, where it is not one."""
    try:
        return pa.ipc.open_stream(data).read_all()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{what} is damaged: {error}") from error


def _json(value: Any) -> str:
    """JSON text; numbers that JSON does not have (NaN, infinities) become null."""
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    match value:
        case np.generic():
            return _finite(value.item())
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
    return value


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
