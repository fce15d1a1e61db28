"""Composite message passing over the foreign keys of a database (RelGNN), as query text."""

from __future__ import annotations

from relann.models.generators.messages import MessageOptions, PastLabels, SumWriter
from relann.models.generators.program import (
    Link,
    Target,
    bare,
    identifier,
    into,
    out_of,
    select,
)
from relann.schema import Catalog, Relation, Schema


def relgnn(
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

    RelGNN (Chen, Kanatsoulis and Leskovec 2025, equations 2 and 3): a row with several foreign keys
    is a hyperedge, and what it sends to one of its parents is fused of its own row and of its other
    parents' rows, f = W z + the sum of W_k z_k, so that these reach the parent in one hop. A layer
    is relu(norm(W z + the sum of O Σ α V f over the foreign keys that name the row)), where α, in
    each head, is the softmax over the row's children of (Q z) · (K f) / sqrt(d), d being the width
    of a head; 0 where there are none. Its parents send W_r z besides.

    Rows that no other rows name, and that are not the entity's, receive nothing where they have
    several foreign keys: they are what their columns say in all layers, as all that their parents
    hold is fused when it is sent. The query is timeless: it is to be evaluated as of a task's
    anchors.

    Args:
        layers: how often a row hears from its children and through them from their other parents;
            0 for the entity's own columns alone.
        width: of all embeddings between.
        heads: equal parts of an embedding that each have shares of their own.
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
    def is_still(self, relation: Relation) -> bool:
        """Past labels, and rows with several foreign keys that nothing names."""
        is_bridge = len(out_of(self.schema, relation)) > 1 and not into(self.schema, relation)
        is_entity = relation.table.name == self.entity.table.name
        return super().is_still(relation) or (is_bridge and not is_entity)

    def passed_by(self, link: Link) -> list[str]:
        """Also what names the other parents."""
        others = [identifier(u.foreign.column) for u in out_of(self.schema, link.child)]
        return [*super().passed_by(link), *others]

    def messages(self, link: Link, number: int) -> str:
        """The children of each row, fused with their other parents and weighed by attention."""
        source, which = self.senders(link, number)
        options, schema = self.options, self.schema
        column, width = identifier(link.foreign.column), options.width
        name = f"{self.name_of(link.child)}_by_{bare(link.foreign.column)}_{number}"
        terms = [self.with_time(f"linear(c.{self.z}, {width})", link.child, link.parent, "c")]
        joins, fused = [], []
        others = [u for u in out_of(schema, link.child) if u.foreign != link.foreign]
        for place, up in enumerate(others, start=1):
            kind = "JOIN" if self.is_complete(up) else "LEFT JOIN"
            parent = self.layer(up.parent, number - 1)
            joins.append(f"{kind} {parent} p{place} ON {self.meet(up, 'c', f'p{place}')}")
            message = f"linear(p{place}.{self.z}, {width}, bias => false)"
            terms.append(message if kind == "JOIN" else f"coalesce({message}, 0)")
            fused.append(bare(up.parent.table.name))
        comment = which + (f", fused with their {' and '.join(fused)}" if fused else "")
        pairs = self.program.add(
            f"pairs_{name}",
            comment,
            select(
                [f"c.{column}", "\n    + ".join(terms) + f" AS {self.f}"],
                f"FROM {source} c",
                *joins,
            ),
        )
        receiver = self.layer(link.parent, number - 1)
        keyed = self.program.add(
            f"keyed_{name}",
            "their keys and values beside the query of the row they name",
            select(
                [
                    f"f.{column}",
                    f"linear(f.{self.f}, {width}) AS {self.k}",
                    f"linear(f.{self.f}, {width}) AS {self.v}",
                    f"linear(t.{self.z}, {width}) AS {self.q}",
                ],
                f"FROM {pairs} f",
                f"JOIN {receiver} t ON {self.meet(link, 'f', 't')}",
            ),
        )
        product = f"dot(r.{self.q}, r.{self.k}, heads => {options.heads})"
        score = f"{product} / sqrt({width // options.heads})"
        return self.attended(name, keyed, column, score)

    def received(self, alias: str) -> list[str]:
        """What is received times a matrix of its own."""
        return [f"coalesce(linear({alias}.{self.z}, {self.options.width}, bias => false), 0)"]
