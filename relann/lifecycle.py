"""A model's life in a database: defined, trained, kept, explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa

from relann.algebra.engines.choice import DEFAULT
from relann.algebra.engines.protocol import Engine
from relann.algebra.layers import Layer
from relann.algebra.lineage import key_columns
from relann.algebra.rowmaps import RowMaps
from relann.algebra.statements import (
    ChooseModel,
    CreateLayer,
    CreateModel,
    Explain,
    ExportModel,
    ImportModel,
    Literal,
)
from relann.algebra.table_calls import TableCall
from relann.autoselect.search import Found
from relann.autoselect.settings import Settings
from relann.bound_models import HEAD, BoundModels, options_of, trained_of
from relann.chunking import in_one_chunk, maps_or_trained
from relann.errors import DataError, QueryError, Span, placed
from relann.model_search import as_table, report, searched, settings_of
from relann.models.batches import Part
from relann.models.boosting import Boosted, described
from relann.models.fitted import Fitted, trained_on
from relann.models.learning import Watch, unwatched
from relann.models.options import Options
from relann.models.program import AsOf, Program, check_one_row_each
from relann.models.team import ALONE, Team
from relann.models.training import Trained, profiled
from relann.provenance.module import QueryModule
from relann.provenance_functions import ProvenanceFunctions
from relann.schema import Catalog
from relann.store import ModelRecord, Store
from relann.table_functions import TableFunctions
from relann.transport import read_folder, schema_hash, write_folder


class Lifecycle:
    """What statements about models do on one connection.

    `table_functions` maps names to what gives their rows.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        store: Store,
        engine: str = DEFAULT,
        device: str = "cpu",
    ) -> None:
        self._models = BoundModels(connection, store, engine, device)
        self.table_functions: Mapping[str, Callable[[TableCall], pa.Table]] = {
            **TableFunctions(self._models).by_name,
            **ProvenanceFunctions(self._models).by_name,
            "ml_autoselect": self._autoselect,
        }

    @property
    def engine(self) -> Engine:
        """What runs the relational part."""
        return self._models.engine

    def create_model(self, statement: CreateModel) -> str:
        """Train a model and keep it; the sentence that says how it went.

        Nothing is kept when anything fails.
        """
        self._models.store.check_new(statement.name, statement.replace, statement.name_span)
        return self.keep(self.fitted(statement, in_chunks=True))

    def choose_model(self, statement: ChooseModel) -> str:
        """Look for a model of a task and keep the one found; the sentences that say how it went.

        Of a search that fails or is interrupted the trials are kept, and the next one goes on.
        """
        self._models.store.check_new(statement.name, statement.replace, statement.name_span)
        given = {o.name: o for o in statement.options}
        settings = Settings.parsed(given, statement.name_span)
        found = searched(self._models, self.fitted, settings, statement.name, statement.name_span)
        return f"{self.keep(found.fitted)}\n{report(found)}"

    def search(self, settings: Settings, name: str, where: Span | None = None) -> Found:
        """What a search for a task's model finds, the model called `name`; its trials are kept."""
        return searched(self._models, self.fitted, settings, name, where)

    def _autoselect(self, call: TableCall) -> pa.Table:
        return as_table(self.search(settings_of(call), "m", call.span))

    def program(self, statement: CreateModel, task: str) -> Program:
        """The program of a statement's query for a task, whatever its options say."""
        models = self._models
        options, moment = models.moment(Options(task=task))
        return models.program(statement.body, statement.name, options, models.layers(), moment)

    def fitted(
        self,
        statement: CreateModel,
        watch: Watch = unwatched,
        team: Team = ALONE,
        in_chunks: bool = False,
    ) -> Fitted:
        """A model that is trained and not kept, by all processes of a team.

        `watch` is told each epoch or round and may end the training there. Row maps that do not fit
        in memory are built `in_chunks`, of which the outcome's `maps` know nothing.
        """
        options, moment = self._models.moment(options_of(statement))
        layers = self._models.layers()

        def compiled(at: AsOf | None) -> Program:
            return self._models.program(statement.body, statement.name, options, layers, at)

        chunks = ""
        with placed(statement.name_span):
            program = compiled(self._models.training(options, moment))
            ids = self._ids(program)
            program.check(options, ids)
            if options.head == "gbdt" and not options.train:
                trained: Trained | Boosted = Boosted.defined(options)
            else:
                own = options.head is not None or options.device is not None
                placed_on = options if own else options.on(self._models.device)
                found: RowMaps | Trained
                if in_chunks:
                    found, chunks = maps_or_trained(self._models, program, placed_on, watch)
                else:
                    found = self._models.maps(program)
                if isinstance(found, Trained):
                    trained = found
                else:
                    check_one_row_each(program, found, self._models.catalog)
                    trained = trained_on(found, placed_on, ids, watch, team)
        return Fitted(
            statement, options, program, moment, ids, layers.used, trained, compiled,
            self._models.maps, chunks,
        )  # fmt: skip

    def keep(self, made: Fitted) -> str:
        """Keep a trained model; the sentence that says how it went."""
        statement, trained, options = made.statement, made.trained, made.options
        kept = [e for e in trained.curve.to_pylist() if e["best"]]
        metrics = {e["metric"]: e["validation"] for e in kept if e["validation"] is not None}
        reads = _described(made.program, self._models.catalog)
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
                "layers": made.layers,
                "chunks": made.chunks,
            },
            schema_hash=schema_hash(reads),
            weights=trained.weights,
            state={**trained.state(), HEAD: trained.head.state()},
        )
        version = self._models.store.save_model(record)
        told = _summary(trained, metrics)
        if made.moment is not None:
            told += f", {made.moment.clock}{self._without_rows(options, trained)}"
        if made.chunks:
            told += f"; {made.chunks}"
        return f"model `{statement.name}`, version {version}: {told}"

    def export_model(self, statement: ExportModel) -> str:
        """Write a model into a folder, see `relann.transport`; the sentence that says so."""
        store = self._models.store
        record = store.model(statement.name, span=statement.name_span)
        name = record.options.get("task")
        task = next((t for t in store.tasks() if t.name == name), None)
        write_folder(record, self._folder(statement.folder), task)
        return (
            f"model `{record.name}`, version {record.version}: exported to {statement.folder.value}"
        )

    def import_model(self, statement: ImportModel) -> str:
        """Keep the model of a folder as a new version of a name; the sentence that says so.

        Raises DataError where the folder is none, or the database lacks what the model reads.
        """
        models = self._models
        models.store.check_new(statement.name, statement.replace, statement.name_span)
        record = read_folder(self._folder(statement.folder))
        came = f"{record.name}@{record.version}"
        try:
            program = models.compiled(record)
            if record.curve:
                trained_of(record, statement.name_span).check(program.plan)
        except KeyError as error:
            raise DataError(f"model `{came}` is incomplete: it lacks {error}") from error
        except (QueryError, DataError) as error:
            raise DataError(
                f"model `{came}` does not fit this database: {error}{models.since(record)}"
            ) from error
        version = models.store.save_model(replace(record, name=statement.name))
        return f"model `{statement.name}`, version {version}: imported, it was `{came}`"

    def network(self, name: str) -> tuple[QueryModule, Part]:
        """The network of a model, see `BoundModels.network`."""
        return self._models.network(name)

    def _folder(self, given: Literal) -> Path:
        """The folder of a statement; DataError where this connection may not touch files."""
        allowed = self._models.catalog.value("SELECT current_setting('enable_external_access')")
        if not allowed:
            raise DataError(
                "`enable_external_access` is false on this connection, so no files are read or "
                "written"
            )
        return Path(str(given.value))

    def check_layer(self, statement: CreateLayer) -> None:
        """Raise QueryError for a layer that can never be used: its body is parsed already."""
        Layer.of(statement)

    def explain(self, statement: Explain) -> str:
        """The lifted query, the optimised query and the plan of a model or of a SELECT.

        ANALYZE builds the row maps, says how many rows there are, and times the steps of an epoch:
        on the training rows of a model that has a label, on all rows of another or of a SELECT.
        """
        chunks = ""
        if (made := statement.model) is not None:
            options, moment = self._models.moment(options_of(made))
            at = self._models.training(options, moment)
            program = self._models.program(made.body, made.name, options, self._models.layers(), at)
        else:
            assert statement.name is not None
            record = self._models.store.model(statement.name, span=statement.name_span)
            program, options = self._models.bound(record), Options.model_validate(record.options)
            if told := record.info.get("chunks"):
                chunks = f"\n\nChunks\n  {told}"
        head = ""
        if options.head == "gbdt":
            ids = self._ids(program)
            head = f"\n\n{described(program.plan, options, ids)}"
        if not statement.analyze:
            return program.explain() + self._remarks(program) + head + chunks

        def analysed(maps: RowMaps) -> str:
            found = profiled(maps, options.on(self._models.device))
            return program.explain(maps, found) + self._remarks(program) + head

        if statement.name is not None:
            found = in_one_chunk(self._models, program, options, analysed)
            if found is not None:
                return f"{found[0]}\n\nChunks\n  {found[1]}"
        return analysed(self._models.maps(program))

    def _remarks(self, program: Program) -> str:
        """What the engine and the device have to say; nothing of the usual ones."""
        lines = self._models.engine.remarks(program.plan)
        if self._models.device != "cpu":
            lines = [*lines, f"numbers on {self._models.device}"]
        return "".join(["\n\nEngine", *(f"\n  {line}" for line in lines)]) if lines else ""

    def _ids(self, program: Program) -> frozenset[str]:
        """The output columns that say which row it is: keys, and the seed's entity and time."""
        ids = key_columns(program.node, self._models.catalog)
        if program.moment is None:
            return ids
        return ids | {program.moment.seeds.entity, program.moment.seeds.time}

    def _without_rows(self, options: Options, trained: Trained | Boosted) -> str:
        """How many of a task's seeds the query has no row for, so that they were left out."""
        assert options.task is not None
        task = self._models.store.task(options.task)
        seen = [n for n in trained.rows if n != "test" or options.validation != "as_test"]
        missing = sum(n for split, n in task.rows if split in seen) - sum(trained.rows.values())
        if task.kind == "ranking" or missing <= 0:
            return ""
        return (
            f"; {missing:,} seeds left out, whose `{task.entity}` the query has no row for as of "
            "their anchor"
        )


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
