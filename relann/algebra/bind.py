"""Text to lifted algebra: names resolved, widths and types checked, errors underlined."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from sqlglot import exp

from relann.algebra.content_queries import columns_of, content_query, table_sql
from relann.algebra.environment import Environment
from relann.algebra.functions import (
    EncoderWidth,
    Sites,
    calls_learned,
    function_name,
    no_encoders,
)
from relann.algebra.laterals import of_with
from relann.algebra.layers import Layer, Layers
from relann.algebra.lineage import origins
from relann.algebra.nodes import (
    Aggregate,
    Anchor,
    Column,
    Map,
    Node,
    Query,
    Scan,
    Union,
    fresh_name,
    passed,
)
from relann.algebra.scope import located, span_of
from relann.algebra.select import SelectBinder
from relann.algebra.statements import Value
from relann.algebra.terms import Content, Lift, Term, array_width, column, parsed, quoted
from relann.algebra.unions import stacked, with_distinct_names
from relann.errors import DataError, QueryError, SchemaError, Span, did_you_mean, listing
from relann.schema import Catalog

_ARITHMETIC = (
    *(exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Neg, exp.DPipe, exp.Concat, exp.Coalesce),
    *(exp.Sum, exp.Avg, exp.Min, exp.Max, exp.Stddev, exp.StddevSamp),
    *(exp.Abs, exp.Exp, exp.Ln, exp.Log, exp.Sqrt, exp.Tanh),
)
_DEEPEST = 50  # nested layer calls
PROGRAMS = ("sage", "gat", "hgt", "relgnn", "dfs")
"""Functions in FROM that write a query for a task."""
WITHOUT_DATA = ("range", "generate_series", "unnest", "repeat")
"""Table functions that make their rows themselves."""


Generator = Callable[[Mapping[str, Value]], str]
"""Writes a query from the arguments given by name, literals; may raise QueryError."""


def bind(
    body: exp.Expr,
    text: str,
    catalog: Catalog,
    layers: Layers = lambda name: None,
    name: str = "query",
    hidden: tuple[str, ...] = (),
    encoder_width: EncoderWidth = no_encoders,
    timed: bool = False,
    relations: Mapping[str, Callable[[], Node]] | None = None,
    programs: Mapping[str, Generator] | None = None,
    plain: bool = False,
) -> Node:
    """The lifted query a parsed SELECT means.

    Args:
        body: the parsed statement; positions in its `meta` are offsets into `text`.
        layers: finds a layer by (qualified) name.
        name: first part of every parameter's name.
        hidden: output columns (label, split) whose base columns `features` leaves out.
        encoder_width: how wide the vectors of a pretrained text encoder are.
        timed: the query is to be evaluated as of anchors, so it must be seen through: sub-queries
            without parameters become nodes as well, and sources without a known time are refused.
        relations: what further names in FROM mean; a maker may raise QueryError.
        programs: functions in FROM that write a query themselves.
        plain: the query has nothing learned and is to be seen through: all of it becomes nodes,
            views too, UNION removes duplicates, and `FLOAT[n]` columns stay content.

    Raises QueryError for everything that is wrong with the text.
    """

    def bound(hidden: frozenset[tuple[str, str]]) -> tuple[Node, bool]:
        env = Environment()
        for known, make in (relations or {}).items():
            env.define(known, make)
        binder = _Binder(catalog, layers, hidden, encoder_width, timed, env, programs or {}, plain)
        return binder.query(body, env, name, text), binder.asked

    node, asked = bound(frozenset())
    if hidden and asked:
        columns = [c for c in hidden if c in node.by_name and not node.by_name[c].learned]
        read = frozenset(o for c in columns for o in origins(node, c))
        if read:
            node, _ = bound(read)
    return node


class _Binder:
    def __init__(
        self,
        catalog: Catalog,
        layers: Layers,
        hidden: frozenset[tuple[str, str]],
        encoder_width: EncoderWidth,
        timed: bool,
        known: Environment,
        programs: Mapping[str, Generator],
        plain: bool,
    ) -> None:
        self.catalog = catalog
        self.layers = layers
        self.hidden = hidden
        self.encoder_width = encoder_width
        self.timed = timed
        self.known = known
        self.programs = programs
        self.plain = plain
        self.sites = Sites()
        self.depth = 0
        self.asked = False  # whether it matters what is hidden

    def hides(self, read: frozenset[tuple[str, str]]) -> bool:
        """See `Queries.hides`."""
        self.asked = True
        return not self.hidden.isdisjoint(read)

    # -- queries ---------------------------------------------------------------------------------

    def query(self, ast: exp.Expr, env: Environment, path: str, text: str) -> Node:
        """Any query expression: SELECT, UNION ALL, WITH, parentheses."""
        if isinstance(ast, exp.Subquery) and not ast.alias:
            return self.query(ast.this, env, path, text)
        if self.plain:
            return self._nodes(ast, env, path, text)
        if not self._lifted(ast, env) and not self._has_array_arithmetic(ast, env):
            if self.timed:
                with suppress(QueryError):  # what nodes cannot say is left to the database
                    return self._nodes(ast, env, path, text)
                return self._query_to_bound(ast, env, text)
            return content_query(ast, env, text, self.catalog)
        return self._nodes(ast, env, path, text)

    def _nodes(self, ast: exp.Expr, env: Environment, path: str, text: str) -> Node:
        with_ = ast.args.get("with_")
        if with_ is not None:
            env = self._with(with_, env, path, text)
        if isinstance(ast, exp.Union):
            return self._union(ast, env, path, text)
        if isinstance(ast, exp.Select):
            return SelectBinder(self, ast, env, path, text).node()
        raise QueryError(
            f"{type(ast).__name__.upper()} cannot combine learned relations; use UNION ALL",
            span_of(ast, text),
        )

    def _with(self, with_: exp.With, env: Environment, path: str, text: str) -> Environment:
        inner = Environment(env)
        for cte in with_.expressions:
            outer = Environment(inner.parent, dict(inner.makers), inner.made, dict(inner.shown))
            inner.define(cte.alias, self._cte(cte, with_, outer, f"{path}.{cte.alias}", text))
        for cte in with_.expressions:
            inner.find(cte.alias)  # mistakes in a sub-query nobody reads are mistakes too
        return inner

    def _cte(
        self, cte: exp.CTE, with_: exp.With, env: Environment, path: str, text: str
    ) -> Callable[[], Node]:
        def make() -> Node:
            if with_.args.get("recursive") and _reads(cte.this, cte.alias):
                if self._lifted(cte.this, env):
                    raise QueryError(
                        "a recursive query cannot hold learned functions", span_of(cte, text)
                    )
                whole = exp.select("*").from_(quoted(cte.alias))
                whole.set("with_", exp.With(expressions=[cte.copy()], recursive=True))
                node = content_query(whole, env, text, self.catalog)
            else:
                node = self.query(cte.this, env, path, text)
            names = [c.name for c in cte.args["alias"].args.get("columns") or []]
            return _renamed(node, names, span_of(cte, text)) if names else node

        return make

    def _lifted(self, ast: exp.Expr, env: Environment) -> bool:
        """Whether anything learned is called or read inside."""
        if calls_learned(ast):
            return True
        local = {c.alias.casefold() for w in ast.find_all(exp.With) for c in w.expressions}
        for table in ast.find_all(exp.Table):
            if _in_library(table) or self._layer_of(table) is not None:
                return True
            if isinstance(table.this, exp.Func) and function_name(table.this) in PROGRAMS:
                return True
            if not table.db and table.name.casefold() not in local:
                node = env.find(table.name)
                if node is not None and node.learned:
                    return True
        return False

    def _has_array_arithmetic(self, ast: exp.Expr, env: Environment) -> bool:
        """Whether a `FLOAT[n]` column is added, scaled or summed: SQL has no such arithmetic.

        (DuckDB's `+` would append one list to the other.)
        """
        operands = {
            side.name.casefold()
            for node in ast.find_all(*_ARITHMETIC)
            for side in node.iter_expressions()
            if isinstance(side, exp.Column)
        }
        return bool(operands) and bool(operands & self._array_columns(ast, env))

    def _array_columns(self, ast: exp.Expr, env: Environment) -> set[str]:
        """Names of the `FLOAT[n]` columns of all tables read inside."""
        arrays: set[str] = set()
        for table in ast.find_all(exp.Table):
            known = env.find(table.name) if not table.db else None
            if known is not None:
                columns = [(c.name, c.type or "") for c in known.columns]
            else:
                found = self.catalog.table(table_sql(table))
                columns = list(found.columns) if found else []
            arrays.update(name.casefold() for name, t in columns if array_width(t))
        return arrays

    def _query_to_bound(self, ast: exp.Expr, env: Environment, text: str) -> Node:
        """A query left to the database; all it reads are inputs, which can be cut at an anchor."""
        body = ast.copy()
        needed: dict[str, Node] = {}
        read = [t for t in body.find_all(exp.Table) if t.db or not of_with(t, body)]
        for table in read:
            if isinstance(table.this, exp.Func):
                if function_name(table.this) not in WITHOUT_DATA:
                    raise self._unbounded(table, text)
                continue
            bare = exp.Table(**{k: table.args.get(k) for k in ("this", "db", "catalog")}).copy()
            node = self._table(bare, env, table.name, text)[1]
            name = table.name
            if needed.get(name, node) is not node:
                name = fresh_name(name, needed)
            needed[name] = node
            if table.db or name != table.name:
                if not table.alias:
                    table.set("alias", exp.TableAlias(this=table.this))
                table.set("this", exp.to_identifier(name, quoted=True))
                table.set("db", None)
                table.set("catalog", None)
        asks = any(function_name(n) == "anchor" for n in body.walk())
        made = columns_of(body.transform(_at_no_time), needed, env, text, self.catalog)
        if asks:
            needed[fresh_name("anchor", needed)] = Anchor()
        return Query(body.sql(dialect="duckdb", comments=False), made, (), tuple(needed.items()))

    def _union(self, ast: exp.Union, env: Environment, path: str, text: str) -> Node:
        distinct = bool(ast.args.get("distinct"))
        if distinct and not self.plain:
            raise QueryError(
                "UNION removes duplicates, and embeddings have no equality; use UNION ALL",
                span_of(ast, text),
            )
        parts: list[Node] = []
        for number, side in enumerate((ast.this, ast.expression)):
            named = side if number == 0 else with_distinct_names(side, parts[0])
            part = self.query(named, env, f"{path}.part_{number}", text)
            parts.extend(part.parts if isinstance(part, Union) and number == 0 else [part])
        union = stacked(parts, ast, text, self.catalog)
        if not distinct:
            return union
        with located(ast, text):
            return Aggregate(union, union.names)

    # -- relations in FROM -----------------------------------------------------------------------

    def relation(self, item: exp.Expr, env: Environment, path: str, text: str) -> tuple[str, Node]:
        """(alias, node) of one item of FROM; `FLOAT[n]` columns become embeddings."""
        alias = item.alias_or_name
        if isinstance(item, exp.Subquery):
            alias = item.alias or f"subquery_{item.this.meta.get('start', 0)}"
            node = self.query(item.this, env, f"{path}.{alias}", text)
        elif isinstance(item, exp.Table):
            alias, node = self._table(item, env, path, text)
        elif isinstance(item, exp.Values | exp.Unnest) and _columns_read(item) == 0:
            body = item.copy()
            body.set("alias", None)
            inner = f"SELECT * FROM {body.sql(dialect='duckdb')}"
            node = self._from_sql(inner, item, text)
        else:
            raise QueryError(
                f"{type(item).__name__.upper()} is not understood in the FROM clause of a lifted "
                "query; put it into a sub-query without learned functions",
                span_of(item, text),
            )
        names = [c.name for c in item.args["alias"].columns] if item.args.get("alias") else []
        if names:
            node = _renamed(node, names, span_of(item, text))
        return alias, node if self.plain else _with_arrays_lifted(node)

    def _table(self, item: exp.Table, env: Environment, path: str, text: str) -> tuple[str, Node]:
        function = function_name(item.this) if isinstance(item.this, exp.Func) else None
        if function is not None:
            with located(item.this, text):
                layer = self._layer_of(item)
            alias = item.alias or function
            if layer is not None:
                return alias, self._call_layer(layer, item.this, env, f"{path}.{alias}", text)
            if function in self.programs:
                return alias, self._call_program(function, item.this, path, text)
            if function in PROGRAMS:
                raise QueryError(
                    f"{function}() writes a program for a task, and there is none here: "
                    "OPTIONS (task = …)",
                    span_of(item.this, text),
                )
            if _in_library(item):
                raise QueryError(f"there is no layer `relann.{function}`", span_of(item.this, text))
            if self.timed and function not in WITHOUT_DATA:
                raise self._unbounded(item, text)
            bare = item.copy()
            bare.set("alias", None)
            return alias, self._from_sql(f"SELECT * FROM {bare.sql(dialect='duckdb')}", item, text)
        known = None if item.db else env.find(item.name)
        if known is not None:
            return item.alias or item.name, known
        name = table_sql(item)
        table = self.catalog.table(name)
        if table is None:
            names = [*env.names(), *self.catalog.names()]
            raise QueryError(
                f"there is no table `{_plain(name)}`."
                + (did_you_mean(item.name, names) or f" There are {listing(names)}."),
                span_of(item.this, text),
            )
        if (self.timed or self.plain) and (view := self._view(item, path, text)) is not None:
            return item.alias or item.name, view
        return item.alias or item.name, Scan(
            name, tuple(Column(n, type=t) for n, t in table.columns)
        )

    def _view(self, item: exp.Table, path: str, text: str) -> Node | None:
        """What a view stands for, None for a table; what is neither is refused in timed queries."""
        stored = self.catalog.stored(table_sql(item))
        if stored is None and self.plain:
            return None
        if stored is None:
            raise self._unbounded(item, text)
        if stored.schema == "relann" and self.timed:
            raise QueryError(
                "a model cannot read what relann keeps in the database: labels are there",
                span_of(item, text),
            )
        if stored.view is None:
            return None
        created = parsed(stored.view)
        node = self.query(created.expression, Environment(), path, stored.view)
        names = [c.name for c in created.this.expressions]
        return _renamed(node, names, span_of(item, text)) if names else node

    def _unbounded(self, item: exp.Table, text: str) -> QueryError:
        return QueryError(
            f"it is not known since when the rows of `{_plain(table_sql(item))}` are known, as it "
            "is no table of the database: CREATE TABLE t AS FROM it, and if its rows have a time "
            "say so with ALTER TABLE t SET (time = …)",
            span_of(item, text),
        )

    def _from_sql(self, sql: str, item: exp.Expr, text: str) -> Node:
        try:
            columns = self.catalog.query(sql)
        except DataError as error:
            raise QueryError(str(error), span_of(item, text)) from error
        return Query(sql, tuple(Column(n, type=t) for n, t in columns))

    def _call_program(self, name: str, call: exp.Expr, path: str, text: str) -> Node:
        where = span_of(call, text)
        arguments: dict[str, Value] = {}
        for given in call.expressions:
            if not isinstance(given, exp.Kwarg):
                raise QueryError(
                    f"{name}() takes its arguments by name, as in {name}(width => 64)", where
                )
            arguments[given.this.name.lower()] = _literal(given.expression, text)
        try:
            written = self.programs[name](arguments)
        except QueryError as error:
            raise QueryError(error.message, where) from error
        # which reads what the task's names mean, but nothing that the query around it defines
        return self.query(parsed(written), Environment(self.known), path, written)

    # -- layers ----------------------------------------------------------------------------------

    def _layer_of(self, table: exp.Table) -> Layer | None:
        if not isinstance(table.this, exp.Func):
            return None
        function = function_name(table.this) or ""
        return self.layers(f"{table.db}.{function}" if table.db else function)

    def _call_layer(
        self, layer: Layer, call: exp.Expr, env: Environment, path: str, text: str
    ) -> Node:
        where = span_of(call, text)
        values = layer.arguments_of(call, where)
        inner = Environment()
        scalars: dict[str, exp.Expr] = {}
        tables = list(layer.body.find_all(exp.Table))
        read = {t.name.casefold() for t in tables if not t.db}
        passed_on = {
            c.name.casefold()
            for t in tables
            if isinstance(t.this, exp.Func)
            for c in t.this.find_all(exp.Column)
        }
        relations = {a.name for a in layer.arguments if a.columns is not None}
        for name, value in values.items():
            literal = isinstance(value, exp.Literal | exp.Boolean | exp.Neg | exp.Null | exp.Array)
            key = name.casefold()
            if name in relations or key in read or (key in passed_on and not literal):
                inner.define(name, self._layer_relation(layer, name, value, env, path, text))
            elif literal:
                scalars[key] = value
            else:
                raise QueryError(
                    f"argument `{name}` of layer `{layer.name}` is a scalar; it takes a number, "
                    f"text or boolean, not `{value.sql(dialect='duckdb')}`",
                    span_of(value, text) or where,
                )
        self.depth += 1
        if self.depth > _DEEPEST:
            raise QueryError(f"layer `{layer.name}` calls itself without end", where)
        try:
            number = self.sites.name(path, layer.name, text, where.start if where else -1)
            return self.query(layer.with_scalars(scalars), inner, number, layer.text)
        except QueryError as error:
            if error.span is not None and error.span.text == layer.text and layer.text != text:
                note = f"in layer `{layer.name}`: {error.message}"
                raise QueryError(f"{note}\n{error.span.underlined()}\ncalled at", where) from error
            raise
        finally:
            self.depth -= 1

    def _layer_relation(
        self, layer: Layer, name: str, value: exp.Expr, env: Environment, path: str, text: str
    ) -> Callable[[], Node]:
        def make() -> Node:
            return layer.relation(name, given(), value, text)

        def given() -> Node:
            if isinstance(value, exp.Column):
                parts = [p.copy() for p in value.parts]
                table = exp.Table(
                    this=parts[-1],
                    db=parts[-2] if len(parts) > 1 else None,
                    catalog=parts[-3] if len(parts) > 2 else None,
                )
                return self._table(table, env, path, text)[1]
            if isinstance(value, exp.Subquery | exp.Select | exp.Union):
                return self.query(value, env, f"{path}.{name}", text)
            function = value.expression if isinstance(value, exp.Dot) else value
            if isinstance(function, exp.Func):
                db = exp.to_identifier(value.this.name) if isinstance(value, exp.Dot) else None
                return self._table(exp.Table(this=function.copy(), db=db), env, path, text)[1]
            raise QueryError(
                f"argument `{name}` of layer `{layer.name}` is a relation: a table, a sub-query or "
                f"another layer, not `{value.sql(dialect='duckdb')}`",
                span_of(value, text),
            )

        return make


def _at_no_time(node: exp.Expr) -> exp.Expr:
    """A query's `anchor()` as a value of its type, to ask the database for columns and types."""
    if function_name(node) == "anchor":
        return exp.cast(exp.null(), "TIMESTAMP")
    return node


def _renamed(node: Node, names: list[str], where: Span | None) -> Node:
    if len(names) > len(node.columns):
        raise QueryError(f"{len(names)} column names for {len(node.columns)} columns", where)
    full = names + list(node.names[len(names) :])
    try:
        return Map(node, tuple((n, passed(c)) for n, c in zip(full, node.columns, strict=True)))
    except SchemaError as error:
        raise QueryError(str(error), where) from error


def _with_arrays_lifted(node: Node) -> Node:
    """`FLOAT[n]` content as embedding columns of width n."""
    if not any(c.type is not None and array_width(c.type) for c in node.columns):
        return node
    outputs: list[tuple[str, Content | Term]] = []
    for c in node.columns:
        array = c.type is not None and array_width(c.type)
        outputs.append((c.name, Lift(column(c.name, c.type)) if array and c.type else passed(c)))
    return Map(node, tuple(outputs))


def _literal(node: exp.Expr, text: str) -> Value:
    """The value of a literal, a tuple for a list."""
    match node:
        case exp.Array() | exp.Tuple():
            return tuple(_literal(e, text) for e in node.expressions)
        case exp.Null():
            return None
        case exp.Boolean() | exp.Literal() | exp.Neg():
            value = node.to_py()
            return value if isinstance(value, str | int) else float(value)
    raise QueryError(
        f"`{node.sql(dialect='duckdb')}` is no number, text, truth value, NULL or list of these",
        span_of(node, text),
    )


def _in_library(table: exp.Table) -> bool:
    return isinstance(table.this, exp.Func) and table.db == "relann"


def _reads(ast: exp.Expr, name: str) -> bool:
    return any(t.name.casefold() == name.casefold() for t in ast.find_all(exp.Table))


def _columns_read(ast: exp.Expr) -> int:
    return sum(1 for _ in ast.find_all(exp.Column))


def _plain(name: str) -> str:
    return name.replace('"', "")
