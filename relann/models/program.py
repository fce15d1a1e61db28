"""A query program: text bound to a database, rewritten, planned, and its row maps."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

import pyarrow as pa
from sqlglot import exp

from relann.algebra.annotated import check_plain
from relann.algebra.asof import Clock, Seeds, as_of
from relann.algebra.bind import Generator, bind
from relann.algebra.certificate import Certificate, certify
from relann.algebra.embedded import classes, embedded
from relann.algebra.engines.protocol import Engine
from relann.algebra.explain import Profile, explain
from relann.algebra.layers import Layers
from relann.algebra.lineage import origins, read_with, tables_read
from relann.algebra.lower import lower
from relann.algebra.nodes import Map, Node, Select
from relann.algebra.optimize import Optimised, optimise
from relann.algebra.plan import Plan
from relann.algebra.rowmaps import RowMaps, build
from relann.algebra.sql import node_to_sql
from relann.algebra.statistics import Statistics
from relann.algebra.terms import Content, Pretrained, Term, quoted
from relann.errors import DataError, QueryError, SchemaError, Span
from relann.models.boosting import features_of
from relann.models.options import Options
from relann.models.splits import output_column, prediction_step
from relann.provenance.pretrained import width
from relann.schema import Catalog, Schema


@dataclass(frozen=True)
class AsOf:
    """For which seeds a query is evaluated, and on which part of the database.

    `schema` says which columns are keys, `relations` are further names the query may read, such as
    the task's labels of the past, `programs` functions that write a query for it.
    """

    seeds: Seeds
    clock: Clock
    schema: Schema
    relations: Mapping[str, Callable[[], Node]] = field(default_factory=dict)
    programs: Mapping[str, Generator] = field(default_factory=dict)

    def of_splits(self, column: str, *splits: str) -> AsOf:
        """For the seeds of some splits only."""
        named = ", ".join(f"'{split}'" for split in splits)
        chosen = Select(self.seeds.node, Content(f"{quoted(column)} IN ({named})", "BOOLEAN"))
        return replace(self, seeds=replace(self.seeds, node=chosen))

    def until(self, end: datetime) -> AsOf:
        """On a database that ends at a time."""
        return replace(self, clock=replace(self.clock, end=end))


@dataclass(frozen=True)
class Program:
    """One lifted query from text to plan; reads statistics of the data."""

    node: Node
    statistics: Statistics
    moment: AsOf | None = None

    @classmethod
    def compile(
        cls,
        body: exp.Expr,
        text: str,
        catalog: Catalog,
        layers: Layers,
        name: str = "query",
        hidden: tuple[str, ...] = (),
        moment: AsOf | None = None,
    ) -> Program:
        """The program of a parsed SELECT; arguments as `bind` has them.

        With a moment the query is evaluated as of each seed, see `as_of`, and the keys of its
        schema count.
        """
        if moment is None:
            node = bind(body, text, catalog, layers, name, hidden, width)
        else:
            catalog = catalog.knowing(moment.schema)
            further = (moment.relations, moment.programs)
            node = bind(body, text, catalog, layers, name, (), width, True, *further)
            try:
                node = as_of(node, moment.seeds, moment.clock)
            except SchemaError as error:
                raise QueryError(str(error)) from error
        return cls(node, Statistics(catalog.estimate, catalog.sketch), moment)

    @classmethod
    def plain(
        cls,
        body: exp.Expr,
        text: str,
        catalog: Catalog,
        layers: Layers,
        name: str,
        options: Options,
        outputs: int | None = None,
    ) -> Program:
        """The program of a plain SELECT, its tuples annotated by embeddings: see `embedded`.

        The head has `outputs` scores, by default one for each class the label's type and the loss
        ask for: texts of more than two values and `cross_entropy` take as many as there are values.
        """
        check_plain(body, text)
        node = bind(body, text, catalog, layers, name, plain=True)
        try:
            if outputs is None:
                outputs = _scores(node, options, catalog)
            made = embedded(node, catalog, name, options.width, outputs, options.hidden)
        except SchemaError as error:
            raise QueryError(str(error), options.span("provenance")) from error
        return cls(made, Statistics(catalog.estimate, catalog.sketch))

    @cached_property
    def optimised(self) -> Optimised:
        """The query after all rewrites."""
        return optimise(self.node, self.statistics)

    @cached_property
    def certificate(self) -> Certificate | None:
        """The proof that no seed sees a row after its anchor; None where there is no time.

        Of the query as it runs. QueryError where there is none, or where labels are reached.
        """
        if self.moment is None:
            return None
        return certify(self.optimised.node, self.moment.seeds, self.moment.clock)

    @cached_property
    def plan(self) -> Plan:
        """What the optimised query lowers to, once it is proven not to look ahead."""
        _ = self.certificate
        return lower(self.optimised.node)

    @cached_property
    def tables(self) -> tuple[str, ...]:
        """The tables and views read, as quoted SQL."""
        return tables_read(self.node)

    def check(self, options: Options, ids: Collection[str] = frozenset()) -> None:
        """Raise QueryError where output and options do not fit, before any row is read.

        `ids` are output columns that identify rows, which trees leave out.
        """
        if options.head is None:
            prediction_step(self.plan)
        for name, what in ((options.label, "label"), (options.split, "split")):
            if name is not None:
                output_column(self.plan, name, what, options.span(what))
        if options.head == "gbdt":
            self._check_features(options, ids)
        elif options.label is not None and self.moment is None:
            self._check_label_unread(options.label, options.span("label"))
        learned = [s.operation for s in self.plan.steps]
        if options.finetune and not any(isinstance(o, Pretrained) for o in learned):
            raise QueryError(
                "`finetune` trains the encoders of text(…, encoder => …), and the query has none",
                options.span("finetune"),
            )

    def _check_features(self, options: Options, ids: Collection[str]) -> None:
        """There must be columns to learn from, none of them computed from the label's own.

        Labels of a task come with its seeds, and the certificate has proven that nothing reads
        them; rows of the entity's table, whose key both read, are no such thing.
        """
        features = features_of(self.plan, options, ids)
        if options.label is None or self.moment is not None:
            return
        for name, read in read_with(self.node, options.label).items():
            if name in features:
                raise QueryError(
                    f"the feature `{name}` reads `{read}`, which the label `{options.label}` comes "
                    f"from; leave it out with exclude = ['{name}'], or compute the label in a "
                    "sub-query if that is meant",
                    options.span("label"),
                )

    def _check_label_unread(self, label: str, span: Span | None) -> None:
        """The outermost SELECT must not compute the prediction from the label's own columns."""
        if not isinstance(self.node, Map):
            return
        told = origins(self.node, label)
        for _, value in self.node.outputs:
            if isinstance(value, Term):
                for name in sorted(value.columns - value.fields):
                    if told & origins(self.node.source, name):
                        raise QueryError(
                            f"the prediction reads `{name}`, which the label `{label}` comes from",
                            span,
                        )

    def explain(self, maps: RowMaps | None = None, profile: Profile | None = None) -> str:
        """The lifted query, the optimised query and the plan; with `maps` the one that runs.

        The leakage certificate as well, where there is time.
        """
        if maps is None:
            told = explain(self.node, self.optimised, self.plan, self.statistics)
        else:
            runs = maps if profile is None else profile
            told = explain(
                self.node, self.optimised, runs.plan, self.statistics, runs.counts, profile
            )
        return told if self.certificate is None else f"{told}\n\n{self.certificate}"


def check_one_row_each(program: Program, maps: RowMaps, catalog: Catalog) -> None:
    """DataError where a query gives a seed, or a seed's item, several rows: which one counts?"""
    if program.moment is None:
        return
    node = program.moment.seeds.node
    check_one_row(
        program.moment.seeds,
        maps,
        lambda: catalog.value(f"SELECT count(*) FROM ({node_to_sql(node)})"),
    )


def check_one_row(seeds: Seeds, maps: RowMaps, count: Callable[[], int]) -> None:
    """DataError where there is not one row for each seed, `count` of them, or each seed's item."""
    plan = maps.plan
    found = maps.counts[plan.output]
    if seeds.item is None:
        asked = count()
        key = seeds.entity
    else:
        contents = dict(plan.contents)
        names = (seeds.entity, seeds.time, seeds.item)
        pairs = pa.table({n: maps.columns[plan.output, contents[n]] for n in names})
        asked = pairs.group_by(list(names)).aggregate([]).num_rows
        key = f"{seeds.entity}` and `{seeds.item}"
    if found != asked:
        raise DataError(
            f"the query gives {found:,} rows for {asked:,} seeds; it must have one row for each "
            f"`{key}`: GROUP BY it, or join what it is the key of"
        )


def _scores(node: Node, options: Options, catalog: Catalog) -> int:
    """How many numbers a prediction of the label takes."""
    label = None if options.label is None else node.by_name.get(options.label)
    if label is None:
        return 1
    named = (label.type or "").startswith(("VARCHAR", "ENUM"))
    if options.loss == "cross_entropy":
        return max(2, classes(node, label.name, catalog))
    found = classes(node, label.name, catalog) if named and options.loss is None else 1
    return found if found > 2 else 1


class MapCache:
    """Row maps by plan and data version: built once, as long as no table they read changes."""

    def __init__(self, most: int = 4) -> None:
        self._most = most
        self._held: OrderedDict[tuple[Plan, str], RowMaps] = OrderedDict()

    def maps(
        self,
        program: Program,
        engine: Engine,
        unless: Callable[[], bool] = lambda: False,
    ) -> RowMaps | None:
        """The row maps of a program on the data as it is now.

        None where they are not there yet and are not to be built, as `unless` says.
        """
        key = (program.plan, engine.data_version(program.tables))
        if key not in self._held:
            if unless():
                return None
            self._held[key] = build(program.plan, engine)
            while len(self._held) > self._most:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]
