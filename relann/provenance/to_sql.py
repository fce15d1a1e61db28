"""A lifted query with fixed weights as a content query: n number columns for each embedding.

What SQL does with a NULL is what an embedding that is NULL means, so each element is a column of
its own: sums leave NULLs out, products are NULL where a factor is, outer joins fill in NULLs. Only
products with a matrix put the elements together, into a list that DuckDB multiplies with another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from relann.algebra.nodes import (
    Aggregate,
    Alias,
    Column,
    Join,
    Map,
    Node,
    Output,
    Over,
    Query,
    Reduce,
    Select,
    Union,
    Window,
    passed,
)
from relann.algebra.rules.columns import drop_unused_columns
from relann.algebra.sql import node_to_sql
from relann.algebra.terms import (
    Apply,
    Coalesce,
    Concat,
    Constant,
    Content,
    Dot,
    Dropout,
    Encode,
    Field,
    Key,
    LeakyRelu,
    Learned,
    Lift,
    Linear,
    Lookup,
    Norm,
    Normalize,
    Parameter,
    Pretrained,
    Scale,
    Term,
    Tokens,
    array_width,
    column,
    quoted,
)
from relann.errors import DataError, PlanError
from relann.provenance import sql_elements as element
from relann.provenance.encoders import GAPS, SCALES, Encoders
from relann.provenance.norms import EPSILON
from relann.provenance.parameters import running
from relann.provenance.sql_tables import Array, Kept

Elements = tuple[str, ...]
"""SQL of each element of a term, over the columns of one node."""


@dataclass(frozen=True)
class Expanded:
    """A lifted query as one SELECT of DuckDB's.

    `tables` are those it reads beside the user's, by what `named` is asked for;
    `embeddings` says which columns hold the elements of an embedding column.
    """

    sql: str
    tables: Mapping[str, pa.Table]
    embeddings: Mapping[str, Sequence[str]]


def query_to_sql(
    node: Node,
    arrays: Mapping[str, Array],
    encoders: Encoders,
    named: Callable[[str], str],
    kind: str = "FLOAT",
) -> Expanded:
    """A lifted query with its weights as SQL.

    An embedding column of width n is n columns of type `kind`, all NULL where the embedding is.
    Dropout is off, batch norm takes its running averages. `arrays` are parameters and running
    averages by name; `named` gives tables their names as SQL.

    What depends on a key that `per` has no set for is NaN. Raises DataError for pretrained text
    encoders, which SQL does not have.
    """
    node = drop_unused_columns(node)
    kept = Kept(arrays, encoders, named, kind)
    expansion = _Expansion(node, kept)
    sql = node_to_sql(drop_unused_columns(expansion.whole()), materialised=True, prefix="layer ")
    embeddings = {c.name: expansion.elements(c) for c in node.columns if c.learned}
    return Expanded(sql, kept.tables, embeddings)


class _Names:
    """Names that no column of a query has, the same for the same thing.

    What two parts of a query compute alike then is one node, and is computed once.
    """

    def __init__(self, node: Node) -> None:
        self.mark = "·"
        while any(self.mark in n for inner in node.walk() for n in inner.names):
            self.mark += "·"
        self._known: dict[Hashable, str] = {}

    def of(self, what: Hashable) -> str:
        """The name of a thing."""
        return self._known.setdefault(what, f"{self.mark}{len(self._known) + 1}")

    def each(self, how_many: int, *what: Hashable) -> list[str]:
        """Names of the elements of a thing."""
        return [self.of((*what, i)) for i in range(how_many)]


class _Expansion:
    """Turns the nodes of a query, one by one, into nodes without terms."""

    def __init__(self, node: Node, kept: Kept) -> None:
        self._node = node
        self._kept = kept
        self._names = _Names(node)
        maps = [n for n in node.walk() if isinstance(n, Map)]
        terms = [t for n in maps for _, v in n.outputs if isinstance(v, Term) for t in v.walk()]
        self._keyed = any(getattr(t, "per", None) is not None for t in terms)

    def whole(self) -> Node:
        """The query without terms."""
        done: dict[Node, Node] = {}
        for node in self._node.walk():
            done[node] = self._expanded(node, [done[s] for s in node.sources])
        return done[self._node]

    def elements(self, of: Column) -> list[str]:
        """The names of the columns that hold the elements of an embedding column."""
        assert of.width is not None
        return [f"{of.name}{self._names.mark}{i + 1}" for i in range(of.width)]

    def _columns(self, node: Node) -> tuple[Column, ...]:
        """The columns of a node's expansion."""
        return tuple(
            plain
            for c in node.columns
            for plain in (
                [c]
                if not c.learned
                else [Column(n, type=self._kept.kind) for n in self.elements(c)]
            )
        )

    def _expanded(self, node: Node, sources: Sequence[Node]) -> Node:
        match node:
            case Query(_, _, _, inputs) if inputs:
                pairs = zip(node.sources, sources, strict=True)
                return node.rebuilt(tuple(_only(new, old.columns) for old, new in pairs))
            case Map(source, outputs):
                return self._map(source, sources[0], outputs)
            case Aggregate(source, by, outputs):
                found = [o for n, v in outputs for o in self._reduced(source, n, v)]
                return Aggregate(sources[0], by, tuple(found))
            case Window(source):
                return self._window(node, source, sources[0])
            case Union():
                return Union(tuple(_only(s, self._columns(node)) for s in sources))
            case Alias() | Select() | Join():
                return node.rebuilt(tuple(sources))
        if node.sources:
            raise PlanError(f"{type(node).__name__} has no expansion")
        return node

    def _map(self, old: Node, new: Node, outputs: Sequence[Output]) -> Node:
        terms = [v for _, v in outputs if isinstance(v, Term)]
        fields = {c.name: tuple(map(quoted, self.elements(c))) for c in old.columns if c.learned}
        stages = _Stages(new, fields, self._kept, self._names, _uses(terms))
        found: list[Output] = []
        for name, value in outputs:
            if isinstance(value, Content):
                found.append((name, value))
                continue
            names = self.elements(Column(name, width=value.width))
            elements = stages.value(value)
            kind = self._kept.kind
            found += [(n, Content(e, kind)) for n, e in zip(names, elements, strict=True)]
        return Map(stages.source, tuple(found))

    def _reduced(
        self, source: Node, name: str, value: Content | Reduce
    ) -> Iterator[tuple[str, Content]]:
        if isinstance(value, Content):
            yield name, value
            return
        of = source.by_name[value.column]
        kept = "" if value.where is None else f" FILTER (WHERE {quoted(value.where)})"
        elements = self.elements(of)[: 1 if value.how == "count" else None]
        names = self.elements(Column(name, width=len(elements)))
        for out, each in zip(names, elements, strict=True):
            reduced = f"{_FUNCTIONS[value.how]}({quoted(each)}){kept}"
            if value.how == "min":
                reduced = self._least(reduced, f"max({quoted(each)}){kept}")
            yield out, self._number(reduced)

    def _least(self, least: str, most: str) -> str:
        """A minimum that is NaN where a number is: NaN is DuckDB's largest number."""
        if not self._keyed:
            return least
        return f"CASE WHEN isnan({most}) THEN {most} ELSE {least} END"

    def _number(self, sql: str) -> Content:
        return Content(element.cast(sql, self._kept.kind), self._kept.kind)

    # -- windows -----------------------------------------------------------------------------------

    def _window(self, node: Window, old: Node, new: Node) -> Node:
        for name, over in node.outputs:
            inputs = self.elements(old.by_name[over.column])
            if over.how == "count":
                inputs = inputs[:1]
            outputs = self.elements(Column(name, width=len(inputs)))
            if over.order:
                new = self._running(new, over, inputs, outputs)
            elif over.how == "softmax":
                new = self._softmax(new, over, inputs, outputs)
            else:
                kept = list(new.columns)
                new = self._partitioned(new, over.how, over, inputs, outputs)
                new = _only(new, [*kept, *(new.by_name[o] for o in outputs)])
        return _only(new, self._columns(node))

    def _running(
        self, source: Node, over: Over, inputs: Sequence[str], outputs: Sequence[str]
    ) -> Node:
        keys = ", ".join(map(quoted, over.partition))
        order = ", ".join(
            f"{quoted(c)} {'DESC' if desc else 'ASC'} NULLS {'FIRST' if first else 'LAST'}"
            for c, desc, first in over.order
        )
        rows = (f"PARTITION BY {keys} " if keys else "") + f"ORDER BY {order}"
        function = _FUNCTIONS[over.how]
        found = [f"{function}({quoted(i)}) OVER ({rows})" for i in inputs]
        if over.how == "min":
            most = [f"max({quoted(i)}) OVER ({rows})" for i in inputs]
            found = [self._least(f, m) for f, m in zip(found, most, strict=True)]
        made = [self._number(f) for f in found]
        return _with(source, dict(zip(outputs, made, strict=True)))

    def _partitioned(
        self, source: Node, how: str, over: Over, inputs: Sequence[str], outputs: Sequence[str]
    ) -> Node:
        """Grouped and joined back: a third of the time that DuckDB's own window takes.

        (500 000 rows of 64 + 1 columns in 100 000 partitions, 2 cores, 2026-11: 1.8 s and 2.9 s for
        a softmax.)
        """
        keys = self._names.each(len(over.partition), "key", how, over)
        found = [f"{_FUNCTIONS[how]}({quoted(i)})" for i in inputs]
        if how == "min":
            found = [
                self._least(f, f"max({quoted(i)})") for f, i in zip(found, inputs, strict=True)
            ]
        made = [self._number(f) for f in found]
        groups: Node = Aggregate(source, over.partition, tuple(zip(outputs, made, strict=True)))
        if not keys:
            return Join(source, groups)
        renamed = dict(zip(over.partition, keys, strict=True))
        groups = Map(
            groups,
            tuple((renamed.get(c.name, c.name), passed(c)) for c in groups.columns),
        )
        same = " AND ".join(
            f"{quoted(p)} IS NOT DISTINCT FROM {quoted(k)}" for p, k in renamed.items()
        )
        return Join(source, groups, "inner", Content(same, "BOOLEAN"))

    def _softmax(
        self, source: Node, over: Over, inputs: Sequence[str], outputs: Sequence[str]
    ) -> Node:
        most, shares, sums = (
            self._names.each(len(inputs), part, over) for part in ("most", "power", "sum")
        )
        kept = [c for c in source.columns]
        found = self._partitioned(source, "max", over, inputs, most)
        powers = {
            e: self._number(f"exp({quoted(i)} - {quoted(m)})")
            for e, i, m in zip(shares, inputs, most, strict=True)
        }
        found = Map(found, (*((c.name, passed(c)) for c in kept), *powers.items()))
        found = self._partitioned(found, "sum", over, shares, sums)
        divided = {
            o: self._number(f"{quoted(e)} / {quoted(s)}")
            for o, e, s in zip(outputs, shares, sums, strict=True)
        }
        return Map(found, (*((c.name, passed(c)) for c in kept), *divided.items()))


_FUNCTIONS = {
    **{how: how for how in ("sum", "avg", "min", "max", "count")},
    "stddev": "stddev_samp",
}


def _with(source: Node, more: Mapping[str, Content]) -> Map:
    """The rows of a node with further columns."""
    return Map(source, (*((c.name, passed(c)) for c in source.columns), *more.items()))


def _only(node: Node, columns: Sequence[Column]) -> Node:
    """Some columns of a node, in order."""
    if node.columns == tuple(columns):
        return node
    return Map(node, tuple((c.name, passed(c)) for c in columns))


def _uses(terms: Sequence[Term]) -> Counter[Term]:
    """How many terms read each term of some."""
    known = {t: None for term in terms for t in term.walk()}
    read = Counter(c for t in known for c in t.children)
    return read + Counter(terms)


# -- terms -----------------------------------------------------------------------------------------


class _Stages:
    """The terms of one Map worked out over a node that gains columns, stage by stage.

    `source` has the columns of the Map's source and all that was computed so far; values are SQL
    over them. What is read more than once is a column.
    """

    def __init__(
        self,
        source: Node,
        fields: Mapping[str, Elements],
        kept: Kept,
        names: _Names,
        uses: Counter[Term],
    ) -> None:
        self.source = source
        self._fields = fields
        self._kept = kept
        self._kind = kept.kind
        self._names = names
        self._uses = uses
        self._known: dict[Term, Elements] = {}

    def value(self, term: Term) -> Elements:
        """Each element of a term."""
        if term not in self._known:
            elements = self._made(term)
            assert len(elements) == term.width, f"{term} has {len(elements)} elements"
            self._known[term] = self._hold(elements) if self._uses[term] > 1 else elements
        return self._known[term]

    def held(self, term: Term) -> Elements:
        """Each element of a term as a column or a literal, to be used any number of times."""
        self._known[term] = self._hold(self.value(term))
        return self._known[term]

    def _hold(self, elements: Sequence[str], kind: str | None = None) -> Elements:
        """The elements as columns; those that are some already stay."""
        plain = {c for c in map(quoted, self.source.names)}
        fresh = {e: None for e in elements if e not in plain and not _is_literal(e)}
        if not fresh:
            return tuple(elements)
        named = {e: self._names.of(e) for e in fresh}
        there = self.source.by_name
        made = {n: Content(e, kind or self._kind) for e, n in named.items() if n not in there}
        if made:
            self.source = _with(self.source, made)
        return tuple(quoted(named[e]) if e in named else e for e in elements)

    def _column(self, content: Content) -> str:
        """A content expression as a column."""
        return self._hold([content.sql], content.type)[0]

    def _beside(self, query: Query) -> None:
        """Put the one row of a query beside every row, unless it is there."""
        if query.names[0] in self.source.by_name:
            return
        if not isinstance(self.source, Map):  # so that DuckDB does not reorder joins around it
            self.source = _with(self.source, {})
        self.source = Join(self.source, query)

    def _made(self, term: Term) -> Elements:
        kind = self._kind
        match term:
            case Field(name):
                return self._fields[name]
            case Lift(content):
                return self._lifted(content)
            case Constant(value):
                return (element.literal(value, kind),)
            case Apply():
                return self._applied(term)
            case LeakyRelu(x, slope):
                return tuple(element.leaky_relu(e, slope, kind) for e in self.held(x))
            case Linear():
                return self._linear(term)
            case Learned(parameter, None):
                return self._vector(parameter)
            case Learned(parameter, Key() as key):
                found = self._by_key(parameter, term.width, key)
                return tuple(element.unless_strange(e, kind) for e in found)
            case Lookup(table, key):
                zero = element.literal(0.0, kind)
                found = self._by_key(table, term.width, key)
                return tuple(f"coalesce({e}, {zero})" for e in found)
            case Encode(encoding, site, content):
                return self._encoded(encoding, site, content)
            case Tokens():
                return self._tokens(term)
            case Pretrained(encoder):
                raise DataError(
                    f"`{term}` reads texts with the pretrained encoder `{encoder}`, which SQL does "
                    "not have; text(…) without `encoder` has an SQL form"
                )
            case Dot():
                return self._dot(term)
            case Scale(x, factors):
                each = term.width // factors.width
                scales = self.held(factors)
                return tuple(f"({e} * {scales[i // each]})" for i, e in enumerate(self.value(x)))
            case Concat(parts):
                return tuple(e for p in parts for e in self.value(p))
            case Coalesce(parts):
                choices = [_wide(self.held(p), term.width) for p in parts]
                return tuple(f"coalesce({', '.join(e)})" for e in zip(*choices, strict=True))
            case Normalize(x):
                return self._normalized(x)
            case Dropout(x):
                return self.value(x)
            case Norm("layer"):
                return self._layer_norm(term)
            case Norm():
                return self._batch_norm(term)
        raise PlanError(f"{type(term).__name__} has no form in SQL")

    def _lifted(self, content: Content) -> Elements:
        width = array_width(content.type)
        if width is None:
            return (element.cast(content.sql, self._kind),)
        vector = self._column(content)
        return tuple(element.cast(e, self._kind) for e in _numbers(vector, width))

    def _applied(self, term: Apply) -> Elements:
        if term.operation == "gelu":
            x = self.held(term.arguments[0])
            places = self._hold([element.gelu_place(e) for e in x], "DOUBLE")
            return tuple(element.gelu(e, p, self._kind) for e, p in zip(x, places, strict=True))
        if len(term.arguments) == 1:
            unary = element.UNARY[term.operation]
            return tuple(unary(e, self._kind) for e in self.held(term.arguments[0]))
        sides = []
        for side in term.arguments:
            repeated = side.width == 1 < term.width
            sides.append(_wide((self.held if repeated else self.value)(side), term.width))
        sign = element.BINARY[term.operation]
        # the first side may have been computed before the other made stages: columns stay
        return tuple(f"({a} {sign} {b})" for a, b in zip(*sides, strict=True))

    # -- parameters --------------------------------------------------------------------------------

    def _vector(self, parameter: Parameter) -> Elements:
        return self._array(parameter.name, parameter.shape[-1])

    def _array(self, name: str, width: int) -> Elements:
        columns = self._names.each(width, name)
        self._beside(self._kept.vector(name, width, columns))
        return tuple(map(quoted, columns))

    def _met(self, key: Key, query: Query, parts: Sequence[str]) -> None:
        """Join the rows of a query whose parts are the row's key, at most one for each."""
        if query.names[0] in self.source.by_name:
            return
        mine = [self._column(p) for p in key.parts]
        same = " AND ".join(
            f"{m} IS NOT DISTINCT FROM {quoted(p)}" for m, p in zip(mine, parts, strict=True)
        )
        if not isinstance(self.source, Map):
            self.source = _with(self.source, {})
        self.source = Join(self.source, query, "left", Content(same, "BOOLEAN"))

    def _by_key(self, parameter: Parameter, width: int, key: Key) -> Elements:
        """The row's own vector, NULL where its key has none."""
        *parts, vector = self._names.each(len(key.parts) + 1, parameter.name, key)
        self._met(key, self._kept.by_key(parameter.name, width, key, parts, vector), parts)
        return _numbers(quoted(vector), width)

    def _linear(self, term: Linear) -> Elements:
        heads = term.heads
        x = self.held(term.argument)
        inner, outer = len(x) // heads, term.width // heads
        slices = [x[h * inner : (h + 1) * inner] for h in range(heads)]
        packs = self._hold([element.packed(s) for s in slices], f"{self._kind}[]")
        number = None if term.per is None else self._number(term.per)
        columns = self._names.each(term.width, term.weight.name, term.rows)
        keyed = number is not None
        self._beside(self._kept.matrix(term.weight.name, heads, keyed, term.rows, columns))
        weights = [quoted(c) for c in columns]
        if number is not None:
            weights = [f"array_extract({w}, {number})" for w in weights]
        products = [f"list_dot_product({packs[i // outer]}, {w})" for i, w in enumerate(weights)]
        if term.bias is not None:
            if term.per is None:
                bias = self._vector(term.bias)
            else:
                bias = self._by_key(term.bias, term.width, term.per)
            products = [f"{p} + {b}" for p, b in zip(products, bias, strict=True)]
        if keyed:
            products = [element.unless_strange(p, self._kind) for p in products]
        return self._hold([element.where_known(p, x[0]) for p in products])

    def _number(self, key: Key) -> str:
        """The column of the number of the row's key, NULL where it has none."""
        *parts, number = self._names.each(len(key.parts) + 1, "number", key)
        self._met(key, self._kept.numbered(key, parts, number), parts)
        return quoted(number)

    # -- encoders ----------------------------------------------------------------------------------

    def _encoded(self, encoding: str, site: str, content: Content) -> Elements:
        encoders = self._kept.encoders
        if encoding == "time":
            instant = (
                content.sql if "TIME ZONE" in content.type else f"CAST({content.sql} AS TIMESTAMP)"
            )
            micros = self._hold([f"epoch_us({instant})"], "BIGINT")[0]
            return element.time(micros, encoders.periods[site], self._kind)
        value = self._column(content)
        if content.type == "BOOLEAN":
            value = self._hold([f"CAST({value} AS INTEGER)"], "INTEGER")[0]
        if encoding == "numeric":
            return element.numeric(value, encoders.standards[site], self._kind)
        return element.elapsed(value, SCALES, self._kind)

    def _tokens(self, term: Tokens) -> Elements:
        """The words of each distinct text, their vectors' mean, joined back to the rows."""
        text = self._column(term.content)
        name = text[1:-1].replace('""', '"')
        texts = Map(self.source, (("text", column(name, "VARCHAR")),))
        said, *columns = self._names.each(term.width + 1, "words", term)
        means = ", ".join(
            f"{element.cast(f'avg(numbers[{i + 1}])', self._kind)} AS {quoted(c)}"
            for i, c in enumerate(columns)
        )
        buckets = term.table.shape[0]
        sql = (
            f"SELECT text AS {quoted(said)}, {means} FROM "
            f"({element.word_buckets('texts', GAPS, buckets)}) AS words "
            f"JOIN ({self._kept.buckets(term.table.name, term.width)}) AS w "
            "ON w.key = words.bucket + 1 GROUP BY text"
        )
        found = (Column(said, type="VARCHAR"), *(Column(c, type=self._kind) for c in columns))
        query = Query(sql, found, (), (("texts", texts),))
        same = Content(f"{text} = {quoted(said)}", "BOOLEAN")
        self.source = Join(self.source, query, "left", same)
        zero = element.literal(0.0, self._kind)
        return tuple(f"coalesce({quoted(c)}, {zero})" for c in columns)

    # -- products and norms ------------------------------------------------------------------------

    def _dot(self, term: Dot) -> Elements:
        left, right = self.held(term.left), self.held(term.right)
        size = len(left) // term.heads
        out = []
        for h in range(term.heads):
            pair = [side[h * size : (h + 1) * size] for side in (left, right)]
            if size <= 8:
                out.append(f"({' + '.join(f'{a} * {b}' for a, b in zip(*pair, strict=True))})")
            else:
                packs = self._hold([element.packed(p) for p in pair], f"{self._kind}[]")
                product = f"list_dot_product({packs[0]}, {packs[1]})"
                out.append(element.where_known(product, pair[0][0], pair[1][0]))
        return tuple(out)

    def _square(self, elements: Elements) -> str:
        """The sum of the squares of the elements; 0 where they are NULL."""
        pack = self._hold([element.packed(elements)], f"{self._kind}[]")[0]
        return f"list_dot_product({pack}, {pack})"

    def _normalized(self, x: Term) -> Elements:
        elements = self.held(x)
        size = f"greatest(sqrt({self._square(elements)}), 1e-12)"
        norm = self._hold([element.cast(size, self._kind)])[0]
        return tuple(f"({e} / {norm})" for e in elements)

    def _layer_norm(self, term: Norm) -> Elements:
        x = self.held(term.argument)
        pack = self._hold([element.packed(x)], f"{self._kind}[]")[0]
        mean = self._hold([element.cast(f"list_avg({pack})", self._kind)])[0]
        apart = self._hold([f"{e} - {mean}" for e in x])
        spread = f"1 / sqrt({self._square(apart)} / {len(x)} + {EPSILON!r})"
        factor = self._hold([element.cast(spread, self._kind)])[0]
        return self._rescaled(term, tuple(f"{e} * {factor}" for e in apart))

    def _batch_norm(self, term: Norm) -> Elements:
        x = self.held(term.argument)
        mean, variance, _ = running(term)
        means, spreads = self._array(mean, len(x)), self._array(variance, len(x))
        factors = [element.cast(f"1 / sqrt({s} + {EPSILON!r})", self._kind) for s in spreads]
        standard = [f"({e} - {m}) * {f}" for e, m, f in zip(x, means, factors, strict=True)]
        return self._rescaled(term, tuple(standard))

    def _rescaled(self, term: Norm, x: Elements) -> Elements:
        scale, shift = self._vector(term.scale), self._vector(term.shift)
        return tuple(f"({e} * {a} + {b})" for e, a, b in zip(x, scale, shift, strict=True))


def _is_literal(sql: str) -> bool:
    return sql.startswith("CAST(") and sql[5:6] in "-0123456789"


def _numbers(vector: str, width: int) -> Elements:
    return tuple(f"array_extract({vector}, {i + 1})" for i in range(width))


def _wide(elements: Elements, width: int) -> Elements:
    """Width 1 repeated to a width."""
    return elements * width if len(elements) == 1 else elements
