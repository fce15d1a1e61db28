"""Graph attention over the foreign keys of a database, as query text."""

from __future__ import annotations

from relann.models.generators.messages import MessageOptions, PastLabels, SumWriter
from relann.models.generators.program import Link, Target, bare, identifier, select
from relann.schema import Catalog, Schema


def gat(
    schema: Schema,
    catalog: Catalog,
    target: Target,
    *,
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    neighbours: int | None = None,
    relative_time: str = "first",
    dropout: float = 0.0,
    norm: bool = True,
    out: int = 1,
    labels: PastLabels | None = None,
) -> str:
    """The text of a query that gives (target.name, logit) for each row of the entity's table.

    Graph attention over typed tables, with the scores of GATv2 (Brody, Alon and Yahav 2022,
    equation 7): a layer is relu(norm(W z + the sum over the foreign keys r at the table, both ways,
    of what r sends)). A row's children send the mean of W_r z weighted, in each head, by the
    softmax over them of a · leaky_relu(W_r z + V_r z of the row itself); 0 where there are none.
    Its parents send W_r z. Weights are each table's, key's, direction's and layer's own. The query
    is timeless: it is to be evaluated as of a task's anchors.

    Args:
        layers: how many hops messages travel, 0 for the entity's own columns alone.
        width: of all embeddings between.
        heads: equal parts of an embedding that each have shares of their own.
        neighbours: how many children with a time are read for each key, the latest (None: all).
        relative_time: whose messages, and so whose scores, also hold the time since: the
            neighbours' of the entity ('first'), all of tables with a time ('all') or no one's
            ('none').
        dropout: share of numbers left out after each layer in training.
        norm: whether layers normalise before relu.
        out: width of the logit; 0 for the embedding itself, as `z`, without a head.
        labels: past labels, as one more table whose rows name the entity's; the task's clock must
            know since when each is known.

    Raises QueryError for options that are not so, or a target that is not in the schema, and
    DataError where the database has no such tables.
    """
    options = MessageOptions.of(
        width=width,
        heads=heads,
        neighbours=neighbours,
        relative_time=relative_time,
        dropout=dropout,
        norm=norm,
    )
    return _Writer(schema, catalog, target, options, labels).text(layers, out)


class _Writer(SumWriter):
    def messages(self, link: Link, number: int) -> str:
        """The children of each row, weighed by attention."""
        source, which = self.senders(link, number)
        width, heads = self.options.width, self.options.heads
        column = identifier(link.foreign.column)
        name = f"{self.name_of(link.child)}_by_{bare(link.foreign.column)}_{number}"
        sent = f"linear(c.{self.z}, {width}, bias => false)"
        sent = self.with_time(sent, link.child, link.parent, "c")
        receiver = self.layer(link.parent, number - 1)
        pairs = self.program.add(
            f"pairs_{name}",
            which,
            select(
                [f"c.{column}", f"{sent} AS {self.v}", f"linear(t.{self.z}, {width}) AS {self.q}"],
                f"FROM {source} c",
                f"JOIN {receiver} t ON {self.meet(link, 'c', 't')}",
            ),
        )
        return self.attended(
            name,
            pairs,
            column,
            f"dot(leaky_relu(r.{self.v} + r.{self.q}, 0.2), param({width}), heads => {heads})",
        )

    def received(self, alias: str) -> list[str]:
        """Messages as they are: they have been multiplied."""
        return [f"coalesce({alias}.{self.z}, 0)"]
