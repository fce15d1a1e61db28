"""The heterogeneous graph transformer over the foreign keys of a database, as query text."""

from __future__ import annotations

from relann.models.generators.messages import MessageOptions, MessageWriter, PastLabels
from relann.models.generators.program import (
    Target,
    bare,
    identifier,
    into,
    out_of,
    select,
)
from relann.schema import Catalog, Relation, Schema


def hgt(
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

    The heterogeneous graph transformer (Hu, Dong, Wang and Sun 2020, equations 3 to 5). A row of a
    table T has a key K_T z, a query Q_T z and a value V_T z. A neighbour sends V z M_r, weighted in
    each head by the softmax, over all neighbours of a row, children and parents, of

        (K z A_r) · q µ_r / sqrt(d)          d the width of a head, r a foreign key in one direction

    and a layer is norm(z + g (O_T gelu(the sum) - z)), where g = sigmoid of a number of the table.
    Weights are each layer's own. The query is timeless: it is to be evaluated as of a task's
    anchors.

    Rows of a table without a key cannot be told apart, which a softmax over their neighbours needs.
    Such a row takes the whole of what each of its parents sends: the softmax is each parent's own.

    Args:
        layers: how many hops messages travel, 0 for the entity's own columns alone.
        width: of all embeddings between.
        heads: equal parts of an embedding that each have shares of their own.
        neighbours: how many children with a time are read for each key, the latest (None: all).
        relative_time: whose keys and values also hold the time since: the neighbours' of the entity
            ('first'), all of tables with a time ('all') or no one's ('none').
        dropout: share of numbers left out of what is received, in training.
        norm: whether layers normalise at their end.
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


class _Writer(MessageWriter):
    def __init__(
        self,
        schema: Schema,
        catalog: Catalog,
        target: Target,
        options: MessageOptions,
        labels: PastLabels | None,
    ) -> None:
        super().__init__(schema, catalog, target, options, labels)
        self._heads: dict[str, str] = {}

    def is_still(self, relation: Relation) -> bool:
        """Past labels, and tables without neighbours."""
        linked = into(self.schema, relation) or out_of(self.schema, relation)
        return super().is_still(relation) or not linked

    def hop(self, relation: Relation, number: int) -> str:
        """A table's rows after a layer: partly themselves, partly what all neighbours send."""
        width, name = self.options.width, bare(relation.table.name)
        own = self.layer(relation, number - 1)
        key = self._key(relation)
        if key is None:
            sum_, joins = self._from_parents(relation, number)
        else:
            received = self._attention(relation, identifier(key), number)
            column = identifier(key)
            sum_, joins = (
                f"coalesce(m.{self.z}, 0)",
                [f"LEFT JOIN {received} m ON m.{column} = t.{column}"],
            )
        new = f"linear(gelu({sum_}), {width})"
        if self.options.dropout:
            new = f"dropout({new}, {self.options.dropout})"
        own_z = f"t.{self.z}"
        z = f"{own_z}\n    + sigmoid(param(1, initial => 'ones')) * ({new} - {own_z})"
        z = f"layer_norm({z})" if self.options.norm else z
        return self.program.add(
            f"{name}_{number}",
            f"{name} after {number} hop{'s' if number > 1 else ''}",
            select([*self.passed(relation, "t"), f"{z} AS {self.z}"], f"FROM {own} t", *joins),
        )

    def _attention(self, relation: Relation, key: str, number: int) -> str:
        """The sub-query of what all neighbours send, one row for each key."""
        name = bare(relation.table.name)
        parts, senders = [], []
        receivers = self._projected(relation, number)
        for link in into(self.schema, relation):
            source = self._projected(link.child, number)
            source, which = self.latest(link, source, number, (self.k, self.v))
            message, score = self._edge(link.child, relation)
            parts.append(
                select(
                    [f"t.{key}", f"{message} AS {self.v}", f"{score} AS {self.e}"],
                    f"FROM {source} s",
                    f"JOIN {receivers} t ON {self.meet(link, 's', 't')}",
                )
            )
            senders.append(which)
        for link in out_of(self.schema, relation):
            source = self._projected(link.parent, number)
            message, score = self._edge(link.parent, relation)
            parts.append(
                select(
                    [f"t.{key}", f"{message} AS {self.v}", f"{score} AS {self.e}"],
                    f"FROM {receivers} t",
                    f"JOIN {source} s ON {self.meet(link, 't', 's')}",
                )
            )
            senders.append(f"{bare(link.parent.table.name)} by {link.foreign.column}")
        pairs = self.program.add(
            f"pairs_{name}_sent_{number}",
            f"what each row of {name} is sent, with a score, by: {'; '.join(senders)}",
            "\nUNION ALL\n".join(parts),
        )
        return self.attended(f"{name}_sent_{number}", pairs, key, f"r.{self.e}")

    def _edge(self, sender: Relation, receiver: Relation) -> tuple[str, str]:
        """What a neighbour `s` sends to a row `t`, and its score in each head."""
        width, heads = self.options.width, self.options.heads
        of = f"{width}, heads => {heads}, bias => false"
        key = self.with_time(f"s.{self.k}", sender, receiver, "s")
        value = self.with_time(f"s.{self.v}", sender, receiver, "s")
        prior = f"param({heads}, initial => 'ones') / sqrt({width // heads})"
        score = f"dot(linear({key}, {of}), t.{self.q}, heads => {heads})\n    * {prior}"
        return f"linear({value}, {of})", score

    def _from_parents(self, relation: Relation, number: int) -> tuple[str, list[str]]:
        """What parents send to rows that cannot be told apart, and the joins it needs."""
        terms, joins = [], []
        for place, link in enumerate(out_of(self.schema, relation), start=1):
            alias = f"p{place}"
            source = self._projected(link.parent, number)
            joins.append(f"LEFT JOIN {source} {alias} ON {self.meet(link, 't', alias)}")
            value = self.with_time(f"{alias}.{self.v}", link.parent, relation, alias)
            of = f"{self.options.width}, heads => {self.options.heads}, bias => false"
            terms.append(f"coalesce(linear({value}, {of}), 0)")
        return " + ".join(terms), joins

    def _projected(self, relation: Relation, number: int) -> str:
        """The sub-query of keys, queries and values of a table's rows before a layer."""
        source, width = self.layer(relation, number - 1), self.options.width
        # a table that is still has the same rows in all layers, but other weights
        made = f"{source} in layer {number}"
        if made not in self._heads:
            items = [f"linear(t.{self.z}, {width}) AS {c}" for c in (self.k, self.q, self.v)]
            name = self.name_of(relation)
            self._heads[made] = self.program.add(
                f"{name}_kqv_{number}",
                f"keys, queries and values of {name}",
                select([*self.passed(relation, "t"), *items], f"FROM {source} t"),
            )
        return self._heads[made]

    def _key(self, relation: Relation) -> str | None:
        """The column that tells a table's rows apart."""
        if relation.table.name == self.entity.table.name:
            return self.target.key
        named = [link.foreign.references for link in into(self.schema, relation)]
        return relation.key or (named[0] if named else None)
