"""GraphSAGE over the foreign keys of a database, as query text."""

from __future__ import annotations

from collections.abc import Sequence

from relann.errors import QueryError
from relann.models.generators.messages import MessageOptions, PastLabels, SumWriter
from relann.models.generators.program import Link, Target, bare, identifier, one_of, select
from relann.schema import Catalog, Schema

AGGREGATES = ("avg", "sum", "max")


def sage(
    schema: Schema,
    catalog: Catalog,
    target: Target,
    *,
    layers: int = 2,
    width: int = 64,
    aggregate: str | Sequence[str] = "avg",
    neighbours: int | None = None,
    relative_time: str = "first",
    dropout: float = 0.0,
    norm: bool = True,
    out: int = 1,
    labels: PastLabels | None = None,
) -> str:
    """The text of a query that gives (target.name, logit) for each row of the entity's table.

    GraphSAGE (Hamilton, Ying and Leskovec 2017, algorithm 1) over typed tables: a layer is
    relu(norm(W z + the sum of W_r message_r over the foreign keys r at the table, both ways)), its
    weights its own for each table, key, direction and layer. A row's children send the aggregate
    over them, 0 where there are none, its parents their row. Only what reaches the entity is
    computed. The query is timeless: it is to be evaluated as of a task's anchors.

    Where each row of a table names a parent that is known when the row is, which is looked up in
    the data, the parent is joined with JOIN, so that layers are computed once for each row and not
    once for each anchor; elsewhere with LEFT JOIN, and a missing parent sends 0.

    Args:
        layers: how many hops messages travel, 0 for the entity's own columns alone.
        width: of all embeddings between.
        aggregate: avg, sum or max over children; of several each has a matrix of its own.
        neighbours: how many children with a time are read for each key, the latest (None: all).
        relative_time: whose messages also hold the time since: the neighbours' of the entity
            ('first'), all of tables with a time ('all') or no one's ('none').
        dropout: share of numbers left out after each layer in training.
        norm: whether layers normalise before relu.
        out: width of the logit; 0 for the embedding itself, as `z`, without a head.
        labels: past labels, as one more table whose rows name the entity's; the task's clock must
            know since when each is known.

    Raises QueryError for options that are not so, or a target that is not in the schema, and
    DataError where the database has no such tables.
    """
    kinds = (aggregate,) if isinstance(aggregate, str) else tuple(aggregate)
    if not kinds or len(set(kinds)) < len(kinds):
        raise QueryError(f"`aggregate` names at least one aggregate, each once, not {aggregate!r}")
    for kind in kinds:
        one_of("aggregate", kind, AGGREGATES)
    options = MessageOptions.of(
        width=width,
        neighbours=neighbours,
        relative_time=relative_time,
        dropout=dropout,
        norm=norm,
    )
    return _Writer(schema, catalog, target, options, labels, kinds).text(layers, out)


class _Writer(SumWriter):
    def __init__(
        self,
        schema: Schema,
        catalog: Catalog,
        target: Target,
        options: MessageOptions,
        labels: PastLabels | None,
        aggregates: tuple[str, ...],
    ) -> None:
        super().__init__(schema, catalog, target, options, labels)
        self.aggregates = aggregates

    def messages(self, link: Link, number: int) -> str:
        """The aggregates of a link's children for each key they name."""
        source, which = self.senders(link, number)
        column = identifier(link.foreign.column)
        items = [f"c.{column}"]
        for how, name in zip(self.aggregates, self._columns(), strict=True):
            items.append(f"{self._reduced(how, link)} AS {name}")
        return self.program.add(
            f"{self.name_of(link.child)}_by_{bare(link.foreign.column)}_{number}",
            f"{' and '.join(self.aggregates)} of {which}",
            select(items, f"FROM {source} c", f"GROUP BY c.{column}"),
        )

    def received(self, alias: str) -> list[str]:
        """Each aggregate times a matrix of its own."""
        width = self.options.width
        products = (f"linear({alias}.{c}, {width}, bias => false)" for c in self._columns())
        return [f"coalesce({product}, 0)" for product in products]

    def _reduced(self, how: str, link: Link) -> str:
        since = self.since(link.child, link.parent, "c")
        if since is None:
            return f"{how}(c.{self.z})"
        if how == "max":
            return f"max(c.{self.z} + {since})"
        return f"{how}(c.{self.z}) + {how}({since})"

    def _columns(self) -> tuple[str, ...]:
        several = len(self.aggregates) > 1
        return tuple(f"{self.z}_{a}" for a in self.aggregates) if several else (self.z,)
