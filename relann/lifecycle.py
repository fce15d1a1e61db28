"""A model's life in a database: defined, trained, explained, evaluated, asked for predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from relann.algebra.bind import Layer
from relann.algebra.engines.duckdb import DuckDBEngine
from relann.algebra.lineage import key_columns
from relann.algebra.parse import statements
from relann.algebra.rowmaps import RowMaps
from relann.algebra.statements import (
    Body,
    CreateLayer,
    CreateModel,
    Explain,
    ExportModel,
    ImportModel,
    Literal,
)
from relann.algebra.table_calls import CallArgument, TableCall
from relann.algebra.terms import quoted
from relann.deployment import deploy
from relann.discovery import discover
from relann.errors import DataError, QueryError, Span, did_you_mean, listing
from relann.models import library
from relann.models.batches import Part
from relann.models.boosting import Boosted, described, fit_boosted
from relann.models.losses import Head
from relann.models.moments import of_rows, of_task, ranked
from relann.models.options import Options
from relann.models.prediction import candidates, evaluate, predict
from relann.models.program import AsOf, MapCache, Program, check_one_row_each
from relann.models.ranking import ranking_metrics, seed_of
from relann.models.splits import NAMES, Numbers
from relann.models.tasks import Task
from relann.models.training import CURVE, Trained, fit, profiled
from relann.provenance.encoders import Encoders
from relann.provenance.module import QueryModule
from relann.provenance.slices import cut
from relann.schema import Catalog
from relann.store import ModelRecord, Store
from relann.transport import read_folder, schema_hash, write_folder

_HEAD = "(head)"  # under which the store keeps loss and classes, beside the sites of encoders


@dataclass(frozen=True)
class _Known:
    """A kept model, bound to the database as it is now."""

    record: ModelRecord
    program: Program
    trained: Trained | Boosted
    maps: RowMaps


class _Layers:
    """Layers by name: those a model was made with, else those the database has now.

    `used` gathers the definitions asked for, so that a model keeps its own.
    """

    def __init__(self, store: Store, own: Mapping[str, str] | None = None) -> None:
        self._store = store
        self._own = own
        self.used: dict[str, str] = {}

    def __call__(self, name: str) -> Layer | None:
        """The layer of a name, None if there is none."""
        key = name.lower()
        if self._own is not None:
            definition = self._own.get(key)
        elif key.startswith(library.PREFIX):
            definition = library.definition(key)
        else:
            kept = self._store.layer(name)
            definition = None if kept is None else kept.definition
        if definition is None:
            return None
        self.used[key] = definition
        return Layer.parsed(definition)


class Lifecycle:
    """What statements about models do on one connection.

    `table_functions` maps names to what gives their rows.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, store: Store) -> None:
        self._connection = connection
        self._store = store
        self._catalog = Catalog(connection)
        self._engine = DuckDBEngine(connection)
        self._cache = MapCache()
        self.table_functions: Mapping[str, Callable[[TableCall], pa.Table]] = {
            "ml_predict": self._predict,
            "ml_evaluate": self._evaluate,
            "ml_training_info": self._training_info,
            "ml_weights": self._weights,
            "ml_importance": self._importance,
            "ml_to_sql": self._to_sql,
        }

    # -- statements ------------------------------------------------------------------------------

    def create_model(self, statement: CreateModel) -> str:
        """Train a model and keep it; the sentence that says how it went.

        Nothing is kept when anything fails.
        """
        self._store.check_new(statement.name, statement.replace, statement.name_span)
        options, moment = self._moment(_options(statement))
        layers = _Layers(self._store)
        with _at(statement.name_span):
            program = self._program(statement.body, statement.name, options, layers, moment)
            ids = self._ids(program)
            program.check(options, ids)
            trained = self._fitted(program, options, ids)
        kept = [e for e in trained.curve.to_pylist() if e["best"]]
        metrics = {e["metric"]: e["validation"] for e in kept if e["validation"] is not None}
        reads = _described(program, self._catalog)
        record = ModelRecord(
            name=statement.name,
            definition=statement.sql,
            options=options.model_dump(),
            metrics=metrics,
            curve=trained.curve.to_pylist(),
            info={
                "best_epoch": trained.best_epoch,
                "rows": trained.rows,
                "reads": reads,
                "layers": layers.used,
            },
            schema_hash=schema_hash(reads),
            weights=trained.weights,
            state={**trained.state(), _HEAD: trained.head.state()},
        )
        version = self._store.save_model(record)
        told = _summary(trained, metrics) + ("" if moment is None else f", {moment.clock}")
        return f"model `{statement.name}`, version {version}: {told}"

    def export_model(self, statement: ExportModel) -> str:
        """Write a model into a folder, see `relann.transport`; the sentence that says so."""
        record = self._store.model(statement.name, span=statement.name_span)
        name = record.options.get("task")
        task = next((t for t in self._store.tasks() if t.name == name), None)
        write_folder(record, self._folder(statement.folder), task)
        return (
            f"model `{record.name}`, version {record.version}: exported to {statement.folder.value}"
        )

    def import_model(self, statement: ImportModel) -> str:
        """Keep the model of a folder as a new version of a name; the sentence that says so.

        Raises DataError where the folder is none, or the database lacks what the model reads.
        """
        self._store.check_new(statement.name, statement.replace, statement.name_span)
        record = read_folder(self._folder(statement.folder))
        came = f"{record.name}@{record.version}"
        try:
            program = self._compiled(record)
            if record.curve:
                _kept(record, statement.name_span).check(program.plan)
        except KeyError as error:
            raise DataError(f"model `{came}` is incomplete: it lacks {error}") from error
        except (QueryError, DataError) as error:
            raise DataError(
                f"model `{came}` does not fit this database: {error}{self._since(record)}"
            ) from error
        version = self._store.save_model(replace(record, name=statement.name))
        return f"model `{statement.name}`, version {version}: imported, it was `{came}`"

    def check_layer(self, statement: CreateLayer) -> None:
        """Raise QueryError for a layer that can never be used: its body is parsed already."""
        Layer.of(statement)

    def explain(self, statement: Explain) -> str:
        """The lifted query, the optimised query and the plan of a model or of a SELECT.

        ANALYZE builds the row maps, says how many rows there are, and times the steps of an epoch:
        on the training rows of a model that has a label, on all rows of another or of a SELECT.
        """
        options = Options()
        if statement.body is not None:
            program = self._program(statement.body, "query", None, _Layers(self._store))
        else:
            assert statement.name is not None
            record = self._store.model(statement.name, span=statement.name_span)
            program, options = self._bound(record), Options.model_validate(record.options)
        head = ""
        if options.head == "gbdt":
            ids = self._ids(program)
            head = f"\n\n{described(program.plan, options, ids)}"
        if not statement.analyze:
            return program.explain() + head
        maps = self._cache.maps(program, self._engine)
        return program.explain(maps, profiled(maps, options)) + head

    def network(self, name: str) -> tuple[QueryModule, Part]:
        """The network of a model with its weights, and all output rows of now bound to it.

        Raises QueryError for trees, and for a model that is not trained.
        """
        record = self._store.model(name)
        trained = _kept(record, None)
        if isinstance(trained, Boosted):
            raise QueryError("head = 'gbdt' has trees and no network")
        maps = self._cache.maps(self._bound(record), self._engine)
        module = trained.module(maps.plan)
        return module, Part.bind(module, cut(maps, np.arange(maps.counts[maps.plan.output])))

    # -- table functions -------------------------------------------------------------------------

    def _predict(self, call: TableCall) -> pa.Table:
        arguments = call.bound(["model"], ["query", "at"])
        record = self._record(arguments["model"])
        task = record.options.get("task")
        if task is not None and len(arguments) > 1:
            return self._predict_asked(record, task, arguments)
        if "at" in arguments:
            raise QueryError(
                "`at` is for models of a task; this one knows no time", arguments["at"].span
            )
        known = self._known(arguments["model"])
        rows = self._rows_of(known, arguments["query"]) if "query" in arguments else None
        return predict(known.trained, known.maps, rows)

    def _predict_asked(
        self, record: ModelRecord, task: str, arguments: Mapping[str, CallArgument]
    ) -> pa.Table:
        """Predictions for entities at times that need not be the task's."""
        query, at = arguments.get("query"), arguments.get("at")
        given = query or at
        assert given is not None
        with _at(given.span):
            if query is not None and query.query is None:
                raise QueryError("the rows to predict are a table or a sub-query", query.span)
            moment = of_rows(
                self._store.task(task),
                None if query is None else query.query,
                None if at is None else _time(at),
                discover(self._connection),
                self._catalog,
            )
            known = self._known(arguments["model"], moment)
            check_one_row_each(known.program, known.maps, self._catalog)
            return predict(known.trained, known.maps)

    def _evaluate(self, call: TableCall) -> pa.Table:
        arguments = call.bound(["model"], ["split"])
        known = self._known(arguments["model"])
        given = arguments.get("split")
        with _at(call.span if given is None else given.span):
            split = "test" if given is None else given.value
            if split is not None and not isinstance(split, str):
                raise QueryError("`split` is 'train', 'val' or 'test', or NULL for all rows")
            metrics = evaluate(known.trained, known.maps, split)
            task = known.trained.options.task
            if task is None or ranked(self._store.task(task)) is None:
                return metrics
            return pa.concat_tables([metrics, self._ranking(known, self._store.task(task), split)])

    def _ranking(self, known: _Known, task: Task, split: str | None) -> pa.Table:
        """How good the order of each seed's items is; `rows` counts seeds."""
        where = "true" if split is None else f"{quoted(task.split)} = '{NAMES[split]}'"
        seeds = self._connection.sql(
            f"SELECT {quoted(task.entity)}, {quoted(task.time)}, "
            f"len({quoted(task.label)}) AS count FROM {task.seeds} WHERE {where}"
        ).to_arrow_table()
        pairs = candidates(known.trained, known.maps, split)
        key = (task.entity, task.time)
        found = ranking_metrics(
            pa.table(
                {
                    "seed": seed_of(pairs, key),
                    "score": pairs.column("probability"),
                    "right": pairs.column("right"),
                }
            ),
            pa.table({"seed": seed_of(seeds, key), "count": seeds.column("count")}),
            task.top_k,
        )
        return pa.table(
            {
                "metric": pa.array(found, pa.string()),
                "value": pa.array(found.values(), pa.float64()),
                "rows": pa.array([seeds.num_rows] * len(found), pa.int64()),
            }
        )

    def _training_info(self, call: TableCall) -> pa.Table:
        record = self._record(call.bound(["model"])["model"])
        return pa.Table.from_pylist([dict(epoch) for epoch in record.curve], schema=CURVE)

    def _weights(self, call: TableCall) -> pa.Table:
        record = self._record(call.bound(["model"])["model"])
        if record.options.get("head") == "gbdt":
            raise QueryError(
                f"model `{record.name}` has trees and no weights; "
                f"ml_importance('{record.name}') says what they split on",
                call.span,
            )
        names, positions, values = [], [], []
        for name, tensor in record.weights.items():
            names.append(np.full(tensor.numel(), name, dtype=object))
            index = np.indices(tuple(tensor.shape)).reshape(tensor.dim(), -1).T
            positions.extend(index.tolist())
            values.append(tensor.double().flatten().numpy())
        return pa.table(
            {
                "parameter": pa.array(np.concatenate(names) if names else [], pa.string()),
                "position": pa.array(positions, pa.list_(pa.int64())),
                "value": pa.array(np.concatenate(values) if values else [], pa.float64()),
            }
        )

    def _importance(self, call: TableCall) -> pa.Table:
        argument = call.bound(["model"])["model"]
        record = self._record(argument)
        if record.options.get("head") != "gbdt":
            raise QueryError(
                f"model `{record.name}` is a network, and importance is that of features of "
                f"head = 'gbdt'; its weights are ml_weights('{record.name}')",
                call.span,
            )
        trained = _kept(record, argument.span)
        assert isinstance(trained, Boosted)
        return trained.importance()

    def _to_sql(self, call: TableCall) -> pa.Table:
        known = self._known(call.bound(["model"])["model"])
        if known.program.moment is not None:
            raise QueryError(
                "a model of a task has no SQL yet: it is evaluated as of seeds", call.span
            )
        sql = deploy(
            self._connection, self._store, known.record, known.program, known.trained, known.maps
        )
        return pa.table({"sql": [sql]})

    # -- pieces ----------------------------------------------------------------------------------

    def _moment(self, options: Options) -> tuple[Options, AsOf | None]:
        """The options with what the task of a model says, and when it is evaluated."""
        if options.task is None:
            return options, None
        task = self._store.task(options.task, options.span("task"))
        options = options.for_task(task.label, task.split)
        schema = discover(self._connection)
        return options, of_task(task, options.regime or task.regime, schema, self._catalog)

    def _program(
        self,
        body: Body,
        name: str,
        options: Options | None,
        layers: _Layers,
        moment: AsOf | None = None,
    ) -> Program:
        hidden = () if options is None else options.hidden
        text, catalog = body.span.text, self._catalog
        if moment is not None:
            catalog = Catalog(self._connection, moment.schema)
        return Program.compile(body.query, text, catalog, layers, name, hidden, moment)

    def _ids(self, program: Program) -> frozenset[str]:
        """The output columns that say which row it is: keys, and the seed's entity and time."""
        ids = key_columns(program.node, self._catalog)
        if program.moment is None:
            return ids
        return ids | {program.moment.seeds.entity, program.moment.seeds.time}

    def _fitted(self, program: Program, options: Options, ids: frozenset[str]) -> Trained | Boosted:
        """A program trained as its options say; trees that are only defined have no rounds."""
        if options.head == "gbdt" and not options.train:
            return Boosted.defined(options)
        maps = self._cache.maps(program, self._engine)
        check_one_row_each(program, maps, self._catalog)
        return fit(maps, options) if options.head is None else fit_boosted(maps, options, ids)

    def _record(self, argument: CallArgument) -> ModelRecord:
        if not isinstance(argument.value, str):
            raise QueryError("a model's name stands in quotes: 'm' or 'm@2'", argument.span)
        return self._store.model(argument.value, span=argument.span)

    def _compiled(self, record: ModelRecord, asked: AsOf | None = None) -> Program:
        """The program of a kept model on the tables as they are now, for seeds if they are asked.

        Else, where it has a task, for those of the task.
        """
        (statement,) = statements(record.definition)
        assert isinstance(statement, CreateModel)
        layers = _Layers(self._store, record.info["layers"])
        options, moment = self._moment(_options(statement))
        # its parameters are named after the statement's model, whatever it is called now
        return self._program(statement.body, statement.name, options, layers, asked or moment)

    def _bound(self, record: ModelRecord, asked: AsOf | None = None) -> Program:
        """What `_compiled` gives; DataError where the tables are other ones now."""
        try:
            return self._compiled(record, asked)
        except QueryError as error:
            raise DataError(
                f"model `{record.name}` does not fit the database any more: {error}"
                + self._since(record)
            ) from error

    def _since(self, record: ModelRecord) -> str:
        """What has become of the tables that a model reads, as a sentence; empty if nothing."""
        found = []
        for table, columns in record.info["reads"].items():
            now = self._catalog.table(table)
            if now is None:
                found.append(f"there is no table {table}")
                continue
            types = dict(now.columns)
            for name, kind in columns.items():
                if name not in types:
                    found.append(f"{table} has no column `{name}`")
                elif types[name] != kind:
                    found.append(f"`{name}` of {table} is {types[name]} and was {kind}")
        return f"\nSince it was trained: {listing(found, 5)}." if found else ""

    def _folder(self, given: Literal) -> Path:
        """The folder of a statement; DataError where this connection may not touch files."""
        asked = "SELECT current_setting('enable_external_access')"
        ((allowed,),) = self._connection.execute(asked).fetchall()
        if not allowed:
            raise DataError(
                "`enable_external_access` is false on this connection, so no files are read or "
                "written"
            )
        return Path(str(given.value))

    def _known(self, argument: CallArgument, asked: AsOf | None = None) -> _Known:
        record = self._record(argument)
        trained = _kept(record, argument.span)
        program = self._bound(record, asked)
        try:
            trained.check(program.plan)
        except DataError as error:
            raise DataError(
                f"model `{record.name}` does not fit the database any more: {error}"
                + self._since(record)
            ) from error
        return _Known(record, program, trained, self._cache.maps(program, self._engine))

    def _rows_of(self, known: _Known, argument: CallArgument) -> Numbers:
        """Output rows that agree with a query in all columns the query has."""
        plan, maps = known.maps.plan, known.maps
        if argument.query is None:
            raise QueryError("the rows to predict are a table or a sub-query", argument.span)
        columns = {n: maps.columns[plan.output, c] for n, c in plan.contents}
        asked = [name for name, _ in self._catalog.query(argument.query)]
        for name in asked:
            if name not in columns:
                raise QueryError(
                    f"the query has a column `{name}`, which the model's output has not; it has "
                    f"{listing(columns)}." + did_you_mean(name, columns),
                    argument.span,
                )
        numbers = pa.array(np.arange(maps.counts[plan.output]))
        output = pa.table({**{n: columns[n] for n in asked}, "#row": numbers})
        same = " AND ".join(f"o.{quoted(n)} IS NOT DISTINCT FROM q.{quoted(n)}" for n in asked)
        with self._shown("relann output", output):
            found = self._connection.sql(
                'SELECT "#row" FROM "relann output" o '
                f"SEMI JOIN ({argument.query}) q ON {same} ORDER BY 1"
            ).to_arrow_table()
        rows: Numbers = found.column(0).to_numpy()
        return rows

    @contextmanager
    def _shown(self, name: str, table: pa.Table) -> Iterator[None]:
        self._connection.register(name, table)
        try:
            yield
        finally:
            self._connection.unregister(name)


def _kept(record: ModelRecord, span: Span | None) -> Trained | Boosted:
    """A model as its training left it; QueryError at `span` where it was only defined."""
    if not record.curve:
        raise QueryError(f"model `{record.name}` is defined but not trained", span)
    options = Options.model_validate(record.options)
    state = dict(record.state)
    head = Head.from_state(state.pop(_HEAD))
    curve = pa.Table.from_pylist([dict(e) for e in record.curve], schema=CURVE)
    best, rows = record.info["best_epoch"], record.info["rows"]
    if options.head == "gbdt":
        return Boosted.from_state(state, head, options, curve, best, rows)
    encoders = Encoders.from_state(state)
    return Trained(dict(record.weights), encoders, head, options, curve, best, rows)


def _options(statement: CreateModel) -> Options:
    return Options.parsed({o.name: o for o in statement.options})


def _time(argument: CallArgument) -> datetime:
    """The time that `at` says."""
    value: object = argument.value
    if isinstance(value, str):
        with suppress(ValueError):
            value = datetime.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime) or value.tzinfo is not None:
        raise QueryError(
            "`at` is a time without a time zone, as in TIMESTAMP '2024-01-31'", argument.span
        )
    return value


@contextmanager
def _at(span: Span) -> Iterator[None]:
    """Give errors about a statement as a whole its place."""
    try:
        yield
    except QueryError as error:
        if error.span is not None:
            raise
        raise QueryError(error.message, span) from error


def _summary(trained: Trained | Boosted, metrics: Mapping[str, float]) -> str:
    """How a training went, in a few words."""
    if trained.best_epoch is None:
        return "defined, not trained"
    told = "".join(f", validation {name} {value:.4f}" for name, value in metrics.items())
    turn = "epoch" if trained.options.head is None else "round"
    return f"trained for {len(trained.curve)} {turn}s, kept {turn} {trained.best_epoch}{told}"


def _described(program: Program, catalog: Catalog) -> dict[str, dict[str, str]]:
    """The tables a program reads, with their columns and types."""
    found = {name: catalog.table(name) for name in program.tables}
    return {name: dict(table.columns) for name, table in found.items() if table is not None}
