"""Models bound to the database as it is now, with what training left of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial

import duckdb
import numpy as np
import pyarrow as pa

from relann.algebra.embedded import PREDICTION
from relann.algebra.engines.choice import DEFAULT, engine_for
from relann.algebra.layers import Layer
from relann.algebra.parse import statements
from relann.algebra.rowmaps import RowMaps
from relann.algebra.statements import Body, CreateModel
from relann.algebra.table_calls import CallArgument
from relann.algebra.terms import quoted
from relann.discovery import discover
from relann.errors import DataError, QueryError, Span, did_you_mean, listing
from relann.models import library
from relann.models.batches import Part
from relann.models.boosting import Boosted
from relann.models.losses import Head
from relann.models.moments import of_task
from relann.models.options import Options
from relann.models.program import AsOf, MapCache, Program
from relann.models.splits import Numbers
from relann.models.training import CURVE, Trained
from relann.provenance.devices import chosen
from relann.provenance.encoders import Encoders
from relann.provenance.module import QueryModule
from relann.provenance.slices import cut
from relann.schema import Catalog
from relann.store import ModelRecord, Store

HEAD = "(head)"
"""Under which the store keeps loss and classes, beside the sites of encoders."""


@dataclass(frozen=True)
class Known:
    """A trained model, bound to the database as it is now."""

    record: ModelRecord
    program: Program
    trained: Trained | Boosted
    build: Callable[[], RowMaps]

    @cached_property
    def maps(self) -> RowMaps:
        """The row maps, built once as long as the tables stay as they are."""
        return self.build()


class KnownLayers:
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


class BoundModels:
    """The models of one connection, what they are bound to, and how."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        store: Store,
        engine: str = DEFAULT,
        device: str = "cpu",
    ) -> None:
        self.connection = connection
        self.store = store
        self.catalog = Catalog(connection)
        self.engine = engine_for(engine, connection)
        self.device = str(chosen(device))
        self._cache = MapCache()

    def layers(self) -> KnownLayers:
        """The layers that the database has now."""
        return KnownLayers(self.store)

    def maps(self, program: Program) -> RowMaps:
        """The row maps of a program, built once as long as its tables stay as they are."""
        maps = self.maps_unless(program, lambda: False)
        assert maps is not None
        return maps

    def maps_unless(self, program: Program, too_large: Callable[[], bool]) -> RowMaps | None:
        """What `maps` gives; None where they are not built yet and are `too_large`."""
        return self._cache.maps(program, self.engine, too_large)

    def held(self, program: Program) -> RowMaps | None:
        """What `maps` gives; None where they are not built yet."""
        return self.maps_unless(program, lambda: True)

    def moment(self, options: Options) -> tuple[Options, AsOf | None]:
        """The options with what the task of a model says, and when it is evaluated."""
        if options.task is None:
            return options, None
        task = self.store.task(options.task, options.span("task"))
        options = options.for_task(task.label, task.split)
        schema = discover(self.connection)
        return options, of_task(task, options.regime or task.regime, schema, self.catalog)

    def training(self, options: Options, moment: AsOf | None) -> AsOf | None:
        """For which seeds a model is trained and validated, and on which part of the database.

        QueryError for validation = 'as_test' where nothing makes test seeds see less.
        """
        if options.validation != "as_test":
            return moment
        assert options.task is not None
        task = self.store.task(options.task)
        if moment is None or moment.clock.end is None or task.val is None:
            raise QueryError(
                "validation = 'as_test' is for tasks of regime frozen that know when validation "
                "begins (`val`); elsewhere validation seeds see as much as test seeds do",
                options.span("validation"),
            )
        return moment.of_splits(task.split, "train", "val").until(task.val)

    def program(
        self,
        body: Body,
        name: str,
        options: Options | None,
        layers: KnownLayers,
        moment: AsOf | None = None,
        outputs: int | None = None,
    ) -> Program:
        """The program of a model's query, or with options None of any other.

        `outputs`, for learned provenance, are how many scores there are: see `Program.plain`.
        """
        hidden = () if options is None else options.hidden
        text, catalog = body.span.text, self.catalog
        if options is not None and options.provenance is not None:
            return Program.plain(body.query, text, catalog, layers, name, options, outputs)
        return Program.compile(body.query, text, catalog, layers, name, hidden, moment)

    def record(self, argument: CallArgument) -> ModelRecord:
        """The kept model that an argument names; QueryError where there is none."""
        if not isinstance(argument.value, str):
            raise QueryError("a model's name stands in quotes: 'm' or 'm@2'", argument.span)
        return self.store.model(argument.value, span=argument.span)

    def compiled(self, record: ModelRecord, asked: AsOf | None = None) -> Program:
        """The program of a kept model on the tables as they are now, for seeds if they are asked.

        Else, where it has a task, for those of the task.
        """
        (statement,) = statements(record.definition)
        assert isinstance(statement, CreateModel)
        layers = KnownLayers(self.store, record.info["layers"])
        options, moment = self.moment(options_of(statement))
        # parameters are named after the statement's model, whatever it is called now
        name = statement.name
        head = record.weights.get(f"{name}.{PREDICTION}.bias")
        outputs = None if head is None else len(head)
        return self.program(statement.body, name, options, layers, asked or moment, outputs)

    def bound(self, record: ModelRecord, asked: AsOf | None = None) -> Program:
        """What `compiled` gives; DataError where the tables are other ones now."""
        try:
            return self.compiled(record, asked)
        except QueryError as error:
            raise DataError(
                f"model `{record.name}` does not fit the database any more: {error}"
                + self.since(record)
            ) from error

    def since(self, record: ModelRecord) -> str:
        """What has become of the tables that a model reads, as a sentence; empty if nothing."""
        found = []
        for table, columns in record.info["reads"].items():
            now = self.catalog.table(table)
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

    def known(self, argument: CallArgument, asked: AsOf | None = None) -> Known:
        """The trained model that an argument names, `asked` as in `bound`."""
        record = self.record(argument)
        trained = trained_of(record, argument.span)
        program = self.bound(record, asked)
        try:
            trained.check(program.plan)
        except DataError as error:
            raise DataError(
                f"model `{record.name}` does not fit the database any more: {error}"
                + self.since(record)
            ) from error
        return Known(record, program, self.placed(trained), partial(self.maps, program))

    def placed(self, trained: Trained | Boosted) -> Trained | Boosted:
        """A model that predicts where the session says."""
        if isinstance(trained, Boosted):
            return trained
        return replace(trained, device=self.device)

    def network(self, name: str) -> tuple[QueryModule, Part]:
        """The network of a model with its weights, and all output rows of now bound to it.

        Raises QueryError for trees, and for a model that is not trained.
        """
        record = self.store.model(name)
        trained = trained_of(record, None)
        if isinstance(trained, Boosted):
            raise QueryError("head = 'gbdt' has trees and no network")
        maps = self.maps(self.bound(record))
        module = replace(trained, device=self.device).module(maps.plan)
        return module, Part.bind(module, cut(maps, np.arange(maps.counts[maps.plan.output])))

    def rows_of(self, known: Known, argument: CallArgument) -> Numbers:
        """Output rows that agree with a query in all columns the query has."""
        plan, maps = known.maps.plan, known.maps
        if argument.query is None:
            raise QueryError("the rows to predict are a table or a sub-query", argument.span)
        columns = {n: maps.columns[plan.output, c] for n, c in plan.contents}
        known_as = {n.casefold(): n for n in columns}
        asked = [name for name, _ in self.catalog.query(argument.query)]
        for name in asked:
            if name.casefold() not in known_as:
                raise QueryError(
                    f"the query has a column `{name}`, which the model's output has not; it has "
                    f"{listing(columns)}." + did_you_mean(name, columns),
                    argument.span,
                )
        numbers = pa.array(np.arange(maps.counts[plan.output]))
        output = pa.table({**{n: columns[known_as[n.casefold()]] for n in asked}, "#row": numbers})
        same = " AND ".join(f"o.{quoted(n)} IS NOT DISTINCT FROM q.{quoted(n)}" for n in asked)
        with self._shown("relann output", output):
            found = self.connection.sql(
                'SELECT "#row" FROM "relann output" o '
                f"SEMI JOIN ({argument.query}) q ON {same} ORDER BY 1"
            ).to_arrow_table()
        rows: Numbers = found.column(0).to_numpy()
        return rows

    @contextmanager
    def _shown(self, name: str, table: pa.Table) -> Iterator[None]:
        self.connection.register(name, table)
        try:
            yield
        finally:
            self.connection.unregister(name)


def trained_of(record: ModelRecord, span: Span | None) -> Trained | Boosted:
    """A model as its training left it; QueryError at `span` where it was only defined."""
    if not record.curve:
        raise QueryError(f"model `{record.name}` is defined but not trained", span)
    options = Options.model_validate(record.options)
    state = dict(record.state)
    head = Head.from_state(state.pop(HEAD))
    curve = pa.Table.from_pylist([dict(e) for e in record.curve], schema=CURVE)
    best, rows = record.info["best_epoch"], record.info["rows"]
    if options.head == "gbdt":
        return Boosted.from_state(state, head, options, curve, best, rows)
    encoders = Encoders.from_state(state)
    return Trained(dict(record.weights), encoders, head, options, curve, best, rows)


def options_of(statement: CreateModel) -> Options:
    """The options of a statement; QueryError for those that are wrong."""
    return Options.parsed({o.name: o for o in statement.options})
