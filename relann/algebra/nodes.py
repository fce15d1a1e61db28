"""The lifted algebra: queries whose rows carry embeddings. A node cannot be built wrong."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from relann.algebra.interning import Interned
from relann.algebra.terms import Content, Field, Term, column
from relann.errors import SchemaError, did_you_mean, listing


@dataclass(frozen=True)
class Column:
    """A column of a node: `type` is a DuckDB type for content, None for an embedding of `width`."""

    name: str
    type: str | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        if (self.type is None) == (self.width is None):
            raise SchemaError(f"column {self.name} is either content or an embedding")

    @property
    def learned(self) -> bool:
        """Whether the column is an embedding."""
        return self.width is not None

    def __str__(self) -> str:
        return f"{self.name} {self.type or f'embedding[{self.width}]'}"


def passed(of: Column) -> Content | Term:
    """A column as an output that leaves it as it is."""
    if of.type is not None:
        return column(of.name, of.type)
    assert of.width is not None
    return Field(of.name, of.width)


def fresh_name(hint: str, taken: Container[str]) -> str:
    """`hint 0`, `hint 1`, …: the first that is not taken."""
    number = 0
    while f"{hint} {number}" in taken:
        number += 1
    return f"{hint} {number}"


class Node(Interned):
    """A lifted query; its meaning is a bag of rows with content and embeddings.

    `columns` are its output columns, in order, names distinct.
    """

    columns: tuple[Column, ...]

    @property
    def sources(self) -> tuple[Node, ...]:
        """The nodes it reads, in order."""
        return ()

    def rebuilt(self, sources: tuple[Node, ...]) -> Node:
        """The same operation over other nodes."""
        assert not sources
        return self

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the output columns, in order."""
        return tuple(c.name for c in self.columns)

    @cached_property
    def by_name(self) -> dict[str, Column]:
        """The output columns by name."""
        return {c.name: c for c in self.columns}

    @cached_property
    def learned(self) -> bool:
        """Whether any output column is an embedding."""
        return any(c.learned for c in self.columns)

    def walk(self, until: Container[Node] = ()) -> Iterator[Node]:
        """Every node of the query once, sources before the nodes that read them.

        Below the nodes in `until` it does not look.
        """
        seen: set[Node] = set()
        stack: list[tuple[Node, bool]] = [(self, False)]
        while stack:
            node, done = stack.pop()
            if done:
                yield node
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                below = () if node in until else node.sources
                stack.extend((s, False) for s in reversed(below))

    def transformed(self, change: Callable[[Node], Node | None]) -> Node:
        """Bottom-up rewriting, shared nodes once: `change` gives a replacement or None to keep."""
        done: dict[Node, Node] = {}
        for node in self.walk():
            sources = tuple(done[s] for s in node.sources)
            kept = node if sources == node.sources else node.rebuilt(sources)
            done[node] = change(kept) or kept
        return done[self]


def _require(node: Node, names: frozenset[str] | set[str], what: str) -> None:
    for name in sorted(set(names) - set(node.names)):
        raise SchemaError(
            f"{what} reads `{name}`; columns are {listing(node.names)}."
            + did_you_mean(name, node.names)
        )


def _require_content(node: Node, names: frozenset[str] | set[str], what: str) -> None:
    _require(node, names, what)
    for name in sorted(names):
        if node.by_name[name].learned:
            raise SchemaError(f"{what} cannot depend on `{name}`, which is learned")


def _distinct(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    names = [c.name for c in columns]
    for name in names:
        if names.count(name) > 1:
            raise SchemaError(f"two columns are named `{name}`")
    return columns


@dataclass(frozen=True, eq=False)
class Scan(Node):
    """The rows of a table. All columns are content.

    `table` is what FROM says: the name as quoted SQL, or a SELECT in parentheses.
    """

    table: str
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        _distinct(self.columns)
        if any(c.learned for c in self.columns):
            raise SchemaError("a table holds content only")


@dataclass(frozen=True, eq=False)
class Query(Node):
    """A sub-query without parameters, left to the database as it is written.

    `sql` is a complete SELECT in DuckDB's dialect; `tables` are the tables and views it reads, and
    `inputs` other queries that it reads by name, their content columns only.
    """

    sql: str
    columns: tuple[Column, ...]
    tables: tuple[str, ...] = ()
    inputs: tuple[tuple[str, Node], ...] = ()

    def __post_init__(self) -> None:
        _distinct(self.columns)

    @property
    def sources(self) -> tuple[Node, ...]:
        return tuple(node for _, node in self.inputs)

    def rebuilt(self, sources: tuple[Node, ...]) -> Node:
        names = [name for name, _ in self.inputs]
        return replace(self, inputs=tuple(zip(names, sources, strict=True)))


@dataclass(frozen=True, eq=False)
class Anchor(Node):
    """The time a prediction is made at: one row, one column. `relann.algebra.asof` replaces it."""

    columns: tuple[Column, ...] = (Column("anchor()", type="TIMESTAMP"),)


@dataclass(frozen=True, eq=False)
class Alias(Node):
    """ρ: the same rows, every column renamed to `name.column`."""

    source: Node
    name: str

    @property
    def sources(self) -> tuple[Node, ...]:
        return (self.source,)

    def rebuilt(self, sources: tuple[Node, ...]) -> Node:
        return Alias(sources[0], self.name)

    @cached_property
    def columns(self) -> tuple[Column, ...]:  # type: ignore[override]
        return tuple(replace(c, name=f"{self.name}.{c.name}") for c in self.source.columns)


@dataclass(frozen=True, eq=False)
class Select(Node):
    """σ: the rows where `predicate` is true (neither false nor NULL)."""

    source: Node
    predicate: Content

    def __post_init__(self) -> None:
        _require_content(self.source, self.predicate.columns, "a predicate")

    @property
    def sources(self) -> tuple[Node, ...]:
        return (self.source,)

    def rebuilt(self, sources: tuple[Node, ...]) -> Node:
        return Select(sources[0], self.predicate)

    @property
    def columns(self) -> tuple[Column, ...]:  # type: ignore[override]
        return self.source.columns


Output = tuple[str, Content | Term]


@dataclass(frozen=True, eq=False)
class Map(Node):
    """π: one expression for each output column, row by row (content may use window functions)."""

    source: Node
    outputs: tuple[Output, ...]

    def __post_init__(self) -> None:
        for name, value in self.outputs:
            if isinstance(value, Content):
                _require_content(self.source, value.columns, f"`{name}`")
                continue
            _require(self.source, value.columns, f"`{name}`")
            _require_content(self.source, value.columns - value.fields, f"`{name}`")
            for term in value.walk():
                if isinstance(term, Field) and self.source.by_name[term.name].width != term.width:
                    raise SchemaError(f"`{term.name}` does not have width {term.width}")
        _distinct(self.columns)

    @property
    def sources(self) -> tuple[Node, ...]:
        return (self.source,)

    def rebuilt(self, sources: tuple[Node, ...]) -> Node:
        return Map(sources[0], self.outputs)

    @cached_property
    def columns(self) -> tuple[Column, ...]:  # type: ignore[override]
        return tuple(
            Column(n, type=v.type) if isinstance(v, Content) else Column(n, width=v.width)
            for n, v in self.outputs
        )

    def with_terms(self, change: Callable[[Term], Term | None]) -> Map | None:
        """The same with every term transformed (see `Term.transformed`); None if none changes."""
        outputs = tuple(
            (n, v.transformed(change) if isinstance(v, Term) else v) for n, v in self.outputs
        )
        return Map(self.source, outputs) if outputs != self.outputs else None


JOINS = ("inner", "left", "full", "semi", "anti", "asof", "asof_left")


@dataclass(frozen=True, eq=False)
class Join(Node):
    """⋈: pairs of rows for which `on` is true; None pairs everything.

    `left` and `full` keep rows without a partner, whose missing side is NULL, embeddings too.
    `semi` and `anti` keep left rows with and without a partner and only the left columns. `asof`
    pairs a left row with the nearest right row by the one inequality in `on`.
    """

    left: Node
    right: Node
    kind: str = "inner"
    on: Content | None = None

    def __post_init__(self) -> None:
        if self.kind not in JOINS:
            raise SchemaError(f"no join is called {self.kind}; joins are {listing(JOINS)}")
        both = self.left.columns + self.right.columns
        _distinct(both)
        if self.on is not None:
            for side in (self.left, self.right):
                _require_content(side, self.on.columns & set(side.names), "a join condition")
            if missing := self.on.columns - {c.name for c in both}:
                raise SchemaError(f"a join condition reads unknown columns {listing(missing)}")
        elif self.kind != "inner":
            raise SchemaError(f"a {self.kind} join needs a condition")

    @property
    def sources(self) -> tuple[Node, ...]:
        return (self.left, self.right)

    def rebuilt(self, sources: tuple[Node, ...]) -> Node:
        return Join(sources[0], sources[1], self.kind, self.on)

    @cached_property
    def columns(self) -> tuple[Column, ...]:  # type: ignore[override]
        if self.kind in ("semi", "anti"):
            return self.left.columns
        return self.left.columns + self.right.columns


REDUCTIONS = ("sum", "avg", "min", "max", "count", "stddev")


@dataclass(frozen=True)
class Reduce:
    """A reduction of an embedding column over a group, NULL rows left out, element by element.

    `where` names a boolean column of the source; rows for which it is not true are left out too.
    A group with no rows left gives NULL (`count`: 0); `stddev` is the sample's, NULL below two.
    """

    how: str
    column: str
    where: str | None = None

    def __post_init__(self) -> None:
        if self.how not in REDUCTIONS:
            raise SchemaError(f"no reduction is called {self.how}; there are {listing(REDUCTIONS)}")

    def __str__(self) -> str:
        where = f" FILTER (WHERE {self.where})" if self.where else ""
        return f"{self.how}({self.column}){where}"


@dataclass(frozen=True, eq=False)
class Aggregate(Node):
    """γ: one row for each distinct value of `by` (NULLs are equal), or one row when `by` is empty.

    Output columns are `by`, then `outputs`: a Content is an SQL aggregate over the group's content,
    a Reduce a reduction of an embedding column.
    """

    source: Node
    by: tuple[str, ...]
    outputs: tuple[tuple[str, Content | Reduce], ...] = ()

    def __post_init__(self) -> None:
        _require_content(self.source, set(self.by), "a group key")
        for name, value in self.outputs:
            if isinstance(value, Content):
                _require_content(self.source, value.columns, f"`{name}`")
            else:
                _require(self.source, {value.column}, f"`{name}`")
                if not self.source.by_name[value.column].learned:
                    raise SchemaError(
                        f"`{value}` reduces an embedding, `{value.column}` is content"
                    )
                if value.where is not None:
                    _require_content(self.source, {value.where}, f"`{name}`")
        _distinct(self.columns)

    @property
    def sources(self) -> tuple[Node, ...]:
        return (self.source,)

    def rebuilt(self, sources: tuple[Node, ...]) -> Node:
        return Aggregate(sources[0], self.by, self.outputs)

    @cached_property
    def columns(self) -> tuple[Column, ...]:  # type: ignore[override]
        keys = tuple(self.source.by_name[k] for k in self.by)
        return keys + tuple(
            Column(n, type=v.type)
            if isinstance(v, Content)
            else Column(n, width=1 if v.how == "count" else self.source.by_name[v.column].width)
            for n, v in self.outputs
        )


WINDOWS = ("softmax", "sum", "avg", "min", "max", "count")


@dataclass(frozen=True)
class Over:
    """A reduction of an embedding column over the row's partition, NULL rows left out.

    Without `order` every row gets the whole partition's value; with `order` (column, descending,
    nulls first) the rows up to its own, peers included. `softmax` takes no order:
    exp(x) / Σ exp(x) over the partition, element by element; a NULL row stays NULL.
    """

    how: str
    column: str
    partition: tuple[str, ...] = ()
    order: tuple[tuple[str, bool, bool], ...] = ()

    def __post_init__(self) -> None:
        if self.how not in WINDOWS:
            raise SchemaError(f"no window is called {self.how}; there are {listing(WINDOWS)}")
        if self.how == "softmax" and self.order:
            raise SchemaError("softmax takes no ORDER BY")

    def __str__(self) -> str:
        clauses = [f"PARTITION BY {', '.join(self.partition)}"] if self.partition else []
        if self.order:
            keys = ", ".join(c + (" DESC" if desc else "") for c, desc, _ in self.order)
            clauses.append(f"ORDER BY {keys}")
        return f"{self.how}({self.column}) OVER ({' '.join(clauses)})"


@dataclass(frozen=True, eq=False)
class Window(Node):
    """The same rows with further embedding columns, each reduced over the row's partition."""

    source: Node
    outputs: tuple[tuple[str, Over], ...]

    def __post_init__(self) -> None:
        for name, over in self.outputs:
            _require(self.source, {over.column}, f"`{name}`")
            if not self.source.by_name[over.column].learned:
                raise SchemaError(f"`{over}` reduces an embedding, `{over.column}` is content")
            keys = {*over.partition, *(c for c, _, _ in over.order)}
            _require_content(self.source, keys, "a window's partition or order")
        _distinct(self.columns)

    @property
    def sources(self) -> tuple[Node, ...]:
        return (self.source,)

    def rebuilt(self, sources: tuple[Node, ...]) -> Node:
        return Window(sources[0], self.outputs)

    @cached_property
    def columns(self) -> tuple[Column, ...]:  # type: ignore[override]
        return self.source.columns + tuple(
            Column(n, width=1 if o.how == "count" else self.source.by_name[o.column].width)
            for n, o in self.outputs
        )


@dataclass(frozen=True, eq=False)
class Union(Node):
    """⊎: the rows of all parts stacked. Columns agree in number, names, types and widths."""

    parts: tuple[Node, ...]

    def __post_init__(self) -> None:
        first = self.parts[0]
        for part in self.parts[1:]:
            if part.columns != first.columns:
                raise SchemaError(
                    f"UNION ALL stacks ({listing(map(str, first.columns))}) and "
                    f"({listing(map(str, part.columns))}); they must agree"
                )

    @property
    def sources(self) -> tuple[Node, ...]:
        return self.parts

    def rebuilt(self, sources: tuple[Node, ...]) -> Node:
        return Union(sources)

    @property
    def columns(self) -> tuple[Column, ...]:  # type: ignore[override]
        return self.parts[0].columns
