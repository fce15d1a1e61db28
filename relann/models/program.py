"""A query program: text bound to a database, rewritten, planned, and its row maps."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

from sqlglot import exp

from relann.algebra.annotated import check_plain
from relann.algebra.asof import Clock, Seeds, as_of
from relann.algebra.bind import Layers, bind
from relann.algebra.embedded import classes, embedded
from relann.algebra.engines.protocol import Engine
from relann.algebra.explain import Profile, explain
from relann.algebra.lineage import origins, tables_read
from relann.algebra.lower import lower
from relann.algebra.nodes import Map, Node
from relann.algebra.optimize import Optimised, optimise
from relann.algebra.plan import Plan
from relann.algebra.rowmaps import RowMaps, build
from relann.algebra.statistics import Statistics
from relann.algebra.terms import Pretrained, Term
from relann.errors import QueryError, SchemaError, Span
from relann.models.options import Options
from relann.models.splits import output_column, prediction_step
from relann.provenance.pretrained import width
from relann.schema import Catalog


@dataclass(frozen=True)
class AsOf:
    """For which seeds a query is evaluated, and on which part of the database."""

    seeds: Seeds
    clock: Clock


@dataclass(frozen=True)
class Program:
    """One lifted query from text to plan; reads statistics of the data."""

    node: Node
    statistics: Statistics

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

        With a moment the query is evaluated as of each seed, see `as_of`.
        """
        node = bind(body, text, catalog, layers, name, hidden, width, moment is not None)
        if moment is not None:
            try:
                node = as_of(node, moment.seeds, moment.clock)
            except SchemaError as error:
                raise QueryError(str(error)) from error
        return cls(node, Statistics(catalog.estimate, catalog.sketch))

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
    def plan(self) -> Plan:
        """What the optimised query lowers to."""
        return lower(self.optimised.node)

    @cached_property
    def tables(self) -> tuple[str, ...]:
        """The tables and views read, as quoted SQL."""
        return tables_read(self.node)

    def check(self, options: Options) -> None:
        """Raise QueryError where output and options do not fit, before any row is read."""
        prediction_step(self.plan)
        for name, what in ((options.label, "label"), (options.split, "split")):
            if name is not None:
                output_column(self.plan, name, what, options.span(what))
        if options.label is not None:
            self._check_label_unread(options.label, options.span("label"))
        learned = [s.operation for s in self.plan.steps]
        if options.finetune and not any(isinstance(o, Pretrained) for o in learned):
            raise QueryError(
                "`finetune` trains the encoders of text(…, encoder => …), and the query has none",
                options.span("finetune"),
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
        """The lifted query, the optimised query and the plan; with `maps` the one that runs."""
        if maps is None:
            return explain(self.node, self.optimised, self.plan, self.statistics)
        counts = maps.counts if profile is None else profile.counts
        return explain(self.node, self.optimised, maps.plan, self.statistics, counts, profile)


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

    def maps(self, program: Program, engine: Engine) -> RowMaps:
        """The row maps of a program on the data as it is now."""
        key = (program.plan, engine.data_version(program.tables))
        if key not in self._held:
            self._held[key] = build(program.plan, engine)
            while len(self._held) > self._most:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]
