"""What a user holds: a DuckDB connection on which models are statements."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import duckdb
import pyarrow as pa

from relann.algebra.engines.choice import DEFAULT
from relann.algebra.lexing import Lexed, word
from relann.algebra.parse import explanation, statements
from relann.algebra.statements import (
    Alter,
    ChooseModel,
    CreateLayer,
    CreateModel,
    CreateTask,
    Drop,
    Explain,
    ExportModel,
    ImportModel,
    Passthrough,
    Show,
    Statement,
)
from relann.algebra.table_calls import PREFIX, CallArgument, TableCall, table_function_calls
from relann.declare import declare
from relann.discovery import discover
from relann.draft import Draft, Sql
from relann.duckdb_errors import duckdb_error_text, query_error
from relann.errors import EngineError, QueryError, RelannError, Span
from relann.lifecycle import Lifecycle
from relann.models import library
from relann.models.seeds import made_task
from relann.models.tasks import SPLITS
from relann.overview import overview
from relann.results import Result
from relann.store import Store

Parameters = Sequence[Any] | Mapping[str, Any]
TableFunction = Callable[[TableCall], pa.Table]

_CHANGES = {
    "INSERT": "inserted",
    "UPDATE": "updated",
    "DELETE": "deleted",
    "TRUNCATE": "deleted",
    "MERGE": "merged",
    "COPY": "copied",
    "CREATE": "created with",
}
_Rows = tuple[pa.Table, list[str]]
_LOCKED = re.compile(r"set lock on file|being used by another process")
_VARIABLE = re.compile(r'Python Object "(.*?)" of type .* not suitable for replacement scans')


class Models(Protocol):
    """What a session leaves to the part of relann that trains: the one boundary between them."""

    table_functions: Mapping[str, TableFunction]
    """By name in lower case: a call with its arguments to the rows it stands for. An argument of
    kind `query` is complete SQL that runs on the session's connection now."""

    def create_model(self, statement: CreateModel) -> str:
        """Train the model, keep it in the store and say how it went.

        Nothing may be changed when this raises.
        """

    def choose_model(self, statement: ChooseModel) -> str:
        """Look for a model, keep it in the store and say how it went."""

    def export_model(self, statement: ExportModel) -> str:
        """Write a kept model into a folder and say so."""

    def import_model(self, statement: ImportModel) -> str:
        """Keep the model of a folder and say so; nothing may be changed when this raises."""

    def check_layer(self, statement: CreateLayer) -> None:
        """Raise QueryError if the layer cannot be used; the session keeps it afterwards."""

    def explain(self, statement: Explain) -> str:
        """The lifted query, the optimised query and the plan, as text."""


MakeModels = Callable[[duckdb.DuckDBPyConnection, Store], Models]


def connect(
    database: str | Path | duckdb.DuckDBPyConnection = ":memory:",
    read_only: bool = False,
    models: MakeModels | None = None,
    engine: str = DEFAULT,
    device: str = "cpu",
) -> Session:
    """A session on a database file, on memory, or on a DuckDB connection you have.

    A connection you pass stays yours: closing the session leaves it open. `engine` makes the row
    maps: 'duckdb', 'cudf' (on an NVIDIA GPU) or 'auto', the latter where it can. `device` is where
    models are trained and predict: 'cpu', 'cuda' or 'auto'. `models` is for other kinds of models.

    Raises EngineError if the file cannot be opened, or engine or device cannot be had.
    """
    make = models or partial(Lifecycle, engine=engine, device=device)
    if isinstance(database, duckdb.DuckDBPyConnection):
        if read_only:
            raise EngineError("read_only is for a path; a connection is what it was opened as")
        return Session(database, make, owned=False)
    try:
        connection = duckdb.connect(str(database), read_only=read_only)
        connection.execute("SET enable_progress_bar = false")  # training shows one of its own
    except duckdb.Error as error:
        text = duckdb_error_text(error)
        if _LOCKED.search(text):
            text = (
                "another process has it open. One process at a time writes a file; several may "
                f"read it, each with read_only=True ({text})"
            )
        raise EngineError(f"cannot open database {database}: {text}") from error
    try:
        return Session(connection, make, owned=True)
    except RelannError:
        connection.close()
        raise


class Session:
    """Runs statements: ours here, all others in DuckDB, on one connection."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, models: MakeModels, owned: bool
    ) -> None:
        self._connection = connection
        self._owned = owned
        self._shown = count()
        self._store = Store(connection)
        self._models = models(connection, self._store)

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection itself, for everything DuckDB's own interface offers."""
        return self._connection

    @property
    def store(self) -> Store:
        """The models and layers kept in the database."""
        return self._store

    def sql(self, text: str, params: Parameters | None = None) -> Result:
        """Run one or several statements; the result of the last one that has rows, else the last.

        `params` are values for the last statement's `?`, `$1` or `$name`. Our statements are all
        read before the first one runs. Raises QueryError for what is wrong with the text, DuckDB's
        complaints included (`__cause__` is DuckDB's exception), and DataError for the data.
        """
        last = Result()
        for result in self.each(text, params):
            if result.columns or not last.columns:
                last = result
        return last

    def each(self, text: str, params: Parameters | None = None) -> Iterator[Result]:
        """Run the statements of a text one by one, giving each one's result as it is there."""
        todo = statements(text)
        for number, statement in enumerate(todo, start=1):
            yield self.run(statement, params if number == len(todo) else None)

    def explain(self, text: str, analyze: bool = False) -> str:
        """What a model does: text is a query, a CREATE MODEL statement or a stored model's name."""
        found = explanation(text, analyze)
        with self._asking(None):
            return "\n\n".join(self._models.explain(e) for e in found)

    def close(self) -> None:
        """Close the connection, unless it was passed to `connect`."""
        if self._owned:
            self._connection.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run(self, statement: Statement, params: Parameters | None = None) -> Result:
        """Run one statement of a text that `relann.algebra.parse.statements` has read."""
        if isinstance(statement, Passthrough):
            return self._passthrough(statement, params)
        if params:
            raise QueryError("this statement takes no parameters", statement.span)
        match statement:
            case CreateModel():
                with self._asking(statement.name_span):
                    return Result(message=self._models.create_model(statement))
            case ChooseModel():
                with self._asking(statement.name_span):
                    return Result(message=self._models.choose_model(statement))
            case CreateLayer(_, name, name_span, or_replace):
                with self._asking(name_span):
                    self._models.check_layer(statement)
                self._store.save_layer(name, statement.sql, or_replace, name_span)
                return Result(message=f"layer `{name}` is kept")
            case ExportModel():
                with self._asking(statement.name_span):
                    return Result(message=self._models.export_model(statement))
            case ImportModel():
                with self._asking(statement.name_span):
                    return Result(message=self._models.import_model(statement))
            case Explain():
                with self._asking(statement.span):
                    return Result(message=self._models.explain(statement))
            case CreateTask():
                return self._create_task(statement)
            case Drop():
                return self._drop(statement)
            case Show(_, "tasks"):
                return self._show_tasks()
            case Alter():
                with self._asking(statement.span):
                    return Result(message=declare(self._connection, self._store, statement))
            case Show(_, "schema"):
                with self._asking(statement.span):
                    return Result(overview(self._connection), ["VARCHAR"] * 5, rows_shown=1_000)
            case Show():
                return self._show(statement)
        raise QueryError("this statement cannot be run", statement.span)

    def _create_task(self, statement: CreateTask) -> Result:
        """Make the seeds and keep them; nothing is changed when this raises."""
        self._store.check_new_task(statement.name, statement.replace, statement.name_span)
        if statement.body is not None:  # errors at their place in the text
            self._execute(Draft(statement.span.text).sql(statement.body.span).wrapped(
                ["DESCRIBE "], ""))  # fmt: skip
        with (
            self._asking(statement.name_span),
            made_task(self._connection, statement, discover(self._connection)) as made,
        ):
            self._store.save_task(made.task, made.rows, statement.replace, statement.name_span)
            return Result(message=made.message)

    def _show_tasks(self) -> Result:
        tasks = self._store.tasks()
        columns = {
            "name": [t.name for t in tasks],
            "kind": [t.kind for t in tasks],
            "entity": [t.entity for t in tasks],
            "label": [t.label for t in tasks],
            "horizon": [t.horizon for t in tasks],
            "regime": [t.regime for t in tasks],
            **{split: [dict(t.rows)[split] for t in tasks] for split in SPLITS},
        }
        kinds = [pa.string()] * 6 + [pa.int64()] * len(SPLITS)
        arrays = [pa.array(v, t) for v, t in zip(columns.values(), kinds, strict=True)]
        types = ["VARCHAR"] * 6 + ["BIGINT"] * len(SPLITS)
        return Result(pa.Table.from_arrays(arrays, names=list(columns)), types)

    def _drop(self, statement: Drop) -> Result:
        drop = {
            "model": self._store.drop_model,
            "layer": self._store.drop_layer,
            "task": self._store.drop_task,
        }[statement.kind]
        dropped = drop(statement.name, statement.if_exists, statement.name_span)
        done = "is dropped" if dropped else "was not there"
        return Result(message=f"{statement.kind} `{statement.name}` {done}")

    def _show(self, statement: Show) -> Result:
        if statement.kind == "layers":
            layers = self._store.layers()
            published = library.names()
            columns: dict[str, list[Any]] = {
                "name": [*(v.name for v in layers), *published],
                "definition": [
                    *(v.definition for v in layers),
                    *(library.definition(n) for n in published),
                ],
                "created_at": [*(v.created_at for v in layers), *(None for _ in published)],
            }
            kinds = [pa.string(), pa.string(), pa.timestamp("us")]
            names = ["VARCHAR", "VARCHAR", "TIMESTAMP"]
        else:
            every = statement.kind == "versions"
            store = self._store
            entries = (
                store.versions(statement.name, statement.name_span) if every else store.models()
            )
            columns = {
                "name": [v.name for v in entries],
                "version": [v.version for v in entries],
                "created_at": [v.created_at for v in entries],
                "parameters": [v.parameters for v in entries],
                "metrics": [_listed(v.metrics) for v in entries],
            }
            kinds = [pa.string(), pa.int32(), pa.timestamp("us"), pa.int64(), pa.string()]
            names = ["VARCHAR", "INTEGER", "TIMESTAMP", "BIGINT", "VARCHAR"]
            if every:
                columns["relann_version"] = [v.relann_version for v in entries]
                kinds, names = [*kinds, pa.string()], [*names, "VARCHAR"]
        arrays = [pa.array(v, t) for v, t in zip(columns.values(), kinds, strict=True)]
        return Result(pa.Table.from_arrays(arrays, names=list(columns)), names)

    def _passthrough(self, statement: Passthrough, params: Parameters | None) -> Result:
        draft = Draft(statement.span.text)
        with ExitStack() as stack:
            for call in self._calls(statement):
                table = self._table(call, draft)
                name = stack.enter_context(self._showing(call.name, table))
                draft.replace(call.span, name if call.aliased else f"{name} AS {call.name}")
            head = Lexed(draft.text, statement.tokens).span(statement.tokens[0])
            # without blanks and comments ahead, which DuckDB miscounts in the places of errors
            sql = draft.sql(replace(statement.span, start=head.start))
            table, types = self._execute(sql, params, head)
        return _result(statement, table, types)

    def _calls(self, statement: Passthrough) -> list[TableCall]:
        if PREFIX not in statement.sql.lower():
            return []
        found, _ = self._execute(
            Sql.plain(
                "SELECT DISTINCT function_name FROM duckdb_functions() "
                f"WHERE starts_with(lower(function_name), '{PREFIX}')"
            )
        )
        others = found.column(0).to_pylist()
        return table_function_calls(statement, self._models.table_functions, others)

    def _table(self, call: TableCall, draft: Draft) -> pa.Table:
        """The rows that a table function stands for."""
        arguments = tuple(self._argument(call, argument, draft) for argument in call.arguments)
        with self._asking(call.span):
            return self._models.table_functions[call.name](replace(call, arguments=arguments))

    def _argument(self, call: TableCall, argument: CallArgument, draft: Draft) -> CallArgument:
        """The argument with its value computed, or its query made to stand by itself."""
        if argument.kind == "expression":
            sql = draft.sql(argument.span).wrapped(["SELECT "], "")
            table, _ = self._execute(sql)
            return replace(argument, kind="value", value=table.column(0)[0].as_py())
        if argument.query is None:
            return argument
        sql = draft.sql(argument.span)
        named = argument.kind == "name"
        if named:
            sql = sql.wrapped(["SELECT * FROM "], "")
        for scope in reversed(call.scopes):
            head: list[Sql | str] = ["WITH RECURSIVE " if scope.recursive else "WITH "]
            for number, item in enumerate(scope.items):
                head += [", "] * (number > 0) + [draft.sql(item)]
            sql = sql.wrapped([*head, " SELECT * FROM ("], ")")
        if not named:
            self._execute(sql.wrapped(["DESCRIBE "], ""))  # errors at their place in the text
        return replace(argument, sql=f"({sql})" if named else str(sql))

    @contextmanager
    def _asking(self, span: Span | None) -> Iterator[None]:
        """Let models ask DuckDB what it knows, without harm.

        A name DuckDB does not know would end the user's open transaction: here it does not. Errors
        without a place get `span`, and no exception of DuckDB's comes through.
        """
        policy = "current_transaction_invalidation_policy"
        try:
            ((kept,),) = self._connection.execute(f"SELECT current_setting('{policy}')").fetchall()
            self._connection.execute(f"SET {policy} = 'SYNTACTIC_ERRORS_DO_NOT_INVALIDATE'")
            try:
                yield
            finally:
                with suppress(duckdb.Error):  # it ended all the same, for another reason
                    self._connection.execute(f"SET {policy} = '{kept}'")
        except QueryError as error:
            if error.span is not None:
                raise
            raise QueryError(error.message, span) from error
        except duckdb.Error as error:
            raise QueryError(duckdb_error_text(error), span) from error

    @contextmanager
    def _showing(self, name: str, table: pa.Table) -> Iterator[str]:
        """Let SQL see rows under a reserved name, given as a quoted identifier, in the block."""
        reserved = f"relann {name} {next(self._shown)}"
        self._connection.register(reserved, table)
        try:
            yield f'"{reserved}"'
        finally:
            with suppress(duckdb.Error):  # gone already when the user's transaction was aborted
                self._connection.unregister(reserved)

    def _execute(
        self, sql: Sql, params: Parameters | None = None, head: Span | None = None
    ) -> _Rows:
        """Rows and types of one statement; DuckDB's errors at their place in the user's text.

        `head` is underlined where DuckDB names no place.
        """
        text = str(sql)
        try:
            return self._interruptible(lambda: _rows(self._connection, text, params))
        except duckdb.Error as error:
            if found := _VARIABLE.search(str(error)):
                message = f"Table with name {found[1]} does not exist!"
                raise QueryError(message, sql.word(found[1])) from error
            raise query_error(error, text, sql.span, head) from error

    def _interruptible(self, run: Callable[[], _Rows]) -> _Rows:
        """What `run` returns, with Ctrl-C stopping it.

        The main thread is the one that gets Ctrl-C and must be free to see it, so another works.
        """
        if threading.current_thread() is not threading.main_thread():
            return run()
        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(run)
            try:
                return working.result()
            except KeyboardInterrupt:
                while not working.done():
                    self._connection.interrupt()
                    wait([working], timeout=0.1)
                raise


def _rows(_connection: duckdb.DuckDBPyConnection, _text: str, _values: Parameters | None) -> _Rows:
    """Run one statement. DuckDB takes a missing table for a Python variable of its caller, so the
    names here are no tables' names."""
    _done = _connection.execute(_text) if _values is None else _connection.execute(_text, _values)
    if _done is None or not _done.description:
        return pa.table({}), []
    _types = [str(_column[1]) for _column in _done.description]
    with warnings.catch_warnings():
        # `execute` copies rows once more than `sql`, about a quarter of the time for 2M rows of
        # three columns (2 cores, 2026-11), but only its errors say where in the text they are
        warnings.simplefilter("ignore", UserWarning)
        return _done.to_arrow_table(), _types


def _result(statement: Passthrough, table: pa.Table, types: list[str]) -> Result:
    """Rows as they are; what DuckDB counts or confirms as a message."""
    words = [word(token) for token in statement.tokens]
    names = table.column_names
    if names == ["Count"] and words[0] in _CHANGES and "RETURNING" not in words:
        if table.num_rows == 0:
            return Result(message=f"{words[0].lower()}: done")
        number = table.column(0)[0].as_py()
        rows = "1 row" if number == 1 else f"{number:,} rows"
        return Result(message=f"{_CHANGES[words[0]]} {rows}")
    if not names or (names == ["Success"] and table.num_rows == 0):
        return Result(message=f"{words[0].lower()}: done")
    return Result(table, types)


def _listed(values: Mapping[str, Any]) -> str:
    """`name 0.5, other 1`, numbers short."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )
