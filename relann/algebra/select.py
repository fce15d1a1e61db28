"""One SELECT that holds something learned, clause by clause."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from sqlglot import exp

from relann.algebra.functions import (
    EncoderWidth,
    Sites,
    Terms,
    aggregate_calls,
    function_name,
)
from relann.algebra.lineage import origins
from relann.algebra.nodes import (
    REDUCTIONS,
    WINDOWS,
    Aggregate,
    Alias,
    Anchor,
    Column,
    Join,
    Map,
    Node,
    Over,
    Query,
    Reduce,
    Select,
    Window,
    fresh_name,
    passed,
)
from relann.algebra.scope import Scope, flat_column, located, span_of
from relann.algebra.terms import Content, Term, column, quoted
from relann.errors import QueryError, Span, did_you_mean, listing
from relann.schema import Catalog

(_ANCHOR,) = Anchor().names

Item = tuple[str, exp.Expr, Span | None]
"""One output of the select list: its name, its flat expression, where it stands."""

_REDUCERS: dict[type[exp.Expr], str] = {
    exp.Sum: "sum",
    exp.Avg: "avg",
    exp.Min: "min",
    exp.Max: "max",
    exp.Count: "count",
    exp.Stddev: "stddev",
    exp.StddevSamp: "stddev",
}


class Queries(Protocol):
    """What a SELECT asks of the binder of whole queries."""

    catalog: Catalog
    sites: Sites
    encoder_width: EncoderWidth
    timed: bool

    def query(self, ast: exp.Expr, env: Any, path: str, text: str) -> Node:
        """Any sub-query."""

    def relation(self, item: exp.Expr, env: Any, path: str, text: str) -> tuple[str, Node]:
        """(alias, node) of one item of FROM."""

    def hides(self, read: frozenset[tuple[str, str]]) -> bool:
        """Whether columns of tables, some of which a value is of, are the label or the split."""


class SelectBinder:
    """Turns one SELECT into nodes; `node` is the result."""

    def __init__(self, binder: Queries, ast: exp.Select, env: Any, path: str, text: str) -> None:
        self.binder = binder
        self.ast = ast
        self.env = env
        self.path = path
        self.text = text
        self.current: Node = Query("SELECT 1 AS one", (Column("one", type="INTEGER"),))
        self.scope = Scope(text)
        self.equated: set[str] = set()

    def node(self) -> Node:
        """The whole SELECT, clause by clause in SQL's order of evaluation."""
        self._refuse_order()
        self._from()
        self._where()
        items = self._items()
        having = self._clause("having")
        qualify = self._clause("qualify")
        if self._groups(items, having, qualify):
            items, having, qualify = self._grouped(items, having, qualify)
            if having is not None:
                self._select(having, "HAVING")
        items = [(n, self._windowed(e), s) for n, e, s in items]
        if qualify is not None:
            items = self._qualified(items, qualify)
        return self._project(items)

    def _error(self, node: exp.Expr, message: str) -> QueryError:
        return QueryError(message, span_of(node, self.text))

    def _refuse_order(self) -> None:
        for clause in ("order", "limit", "offset", "sample"):
            node = self.ast.args.get(clause)
            if node is not None:
                raise self._error(
                    node,
                    f"{clause.upper()} has no meaning in a lifted query, whose rows have no order; "
                    "keep the first rows of each group with QUALIFY row_number() OVER (…) <= k, or "
                    "order a sub-query without learned functions",
                )
        distinct = self.ast.args.get("distinct")
        if distinct is not None and distinct.args.get("on") is not None:
            raise self._error(
                distinct,
                "DISTINCT ON keeps the first row by an order, and a lifted query has none; keep it "
                "with QUALIFY row_number() OVER (…) = 1",
            )
        for clause in ("laterals", "pivots", "windows", "connect", "match"):
            if self.ast.args.get(clause):
                raise self._error(
                    self.ast, f"{clause.upper()} cannot stand in a SELECT with learned functions"
                )

    @property
    def _terms(self) -> Terms:
        return Terms(
            self.binder.catalog,
            self.current.by_name,
            self.path,
            self.text,
            self.binder.sites,
            self._feature_columns,
            anchor=quoted(_ANCHOR) if _ANCHOR in self.current.by_name else None,
            encoder_width=self.binder.encoder_width,
        )

    # FROM, WHERE

    def _from(self) -> None:
        from_ = self.ast.args.get("from_")
        if from_ is None:
            return
        alias, node = self.binder.relation(from_.this, self.env, self.path, self.text)
        self.current = self._add(alias, node, from_.this)
        if self.binder.timed and self._reads_anchor():
            self.current = Join(self.current, Anchor())
        for join in self.ast.args.get("joins") or []:
            self._join(join)

    def _reads_anchor(self) -> bool:
        """Whether this SELECT, sub-queries apart, reads the time a prediction is made at."""
        inner = (exp.Select, exp.Subquery, exp.Union, exp.With)
        nodes = self.ast.walk(prune=lambda n: n is not self.ast and isinstance(n, inner))
        return any(function_name(n) in ("anchor", "time_since") for n in nodes)

    def _add(self, alias: str, node: Node, item: exp.Expr) -> Node:
        named = Alias(node, alias)
        self.scope.add(alias, named.columns, span_of(item, self.text))
        return named

    def _join(self, join: exp.Join) -> None:
        kind = self._join_kind(join)
        alias, node = self.binder.relation(join.this, self.env, self.path, self.text)
        before = dict(self.scope.relations)
        left = self.current
        right = self._add(alias, node, join.this)
        conditions: list[exp.Expr] = []
        using = [i.name for i in join.args.get("using") or []]
        if join.method == "NATURAL":
            shared = {n for r in before.values() for n in r}
            using = [c.name for c in node.columns if c.name.casefold() in shared]
        for name in using:
            conditions.append(self._using(name, alias, before, kind, join))
        on = join.args.get("on")
        both = {**left.by_name, **right.by_name}
        if on is not None:
            conditions.append(self._resolved(on))
        predicate = None
        if conditions:
            self._note_equated(conditions)
            terms = Terms(self.binder.catalog, both, self.path, self.text, self.binder.sites)
            predicate = terms.content(exp.and_(*conditions, copy=True), "a join condition")
        with located(join, self.text):
            if kind == "right":
                self.current = Join(right, left, "left", predicate)
            else:
                self.current = Join(left, right, kind, predicate)
        if kind in ("semi", "anti"):
            del self.scope.relations[alias.casefold()]

    def _join_kind(self, join: exp.Join) -> str:
        side, kind, method = join.side.lower(), join.kind.lower(), join.method.lower()
        if method == "asof":
            return "asof_left" if side == "left" else "asof"
        if method not in ("", "natural"):
            raise self._error(join, f"{method.upper()} JOIN is not understood in a lifted query")
        if kind in ("semi", "anti"):
            return kind
        if kind not in ("", "inner", "outer", "cross"):
            raise self._error(join, f"{kind.upper()} JOIN is not understood in a lifted query")
        has_condition = join.args.get("on") is not None or join.args.get("using")
        if side and not has_condition and method != "natural":
            raise self._error(join, f"a {side.upper()} JOIN needs ON or USING")
        return side or "inner"

    def _using(
        self,
        name: str,
        alias: str,
        before: Mapping[str, Mapping[str, str]],
        kind: str,
        join: exp.Join,
    ) -> exp.Expr:
        key = name.casefold()
        right = self.scope.relations[alias.casefold()].get(key)
        merged = self.scope.merged.get(key)
        lefts = [r[key] for r in before.values() if key in r]
        if right is None or not lefts:
            side = f"`{alias}`" if right is None else "the left side"
            raise self._error(join, f"USING ({name}): {side} has no column `{name}`")
        left = merged.copy() if merged is not None else flat_column(lefts[0], join)
        if merged is None and len(lefts) > 1:
            raise self._error(join, f"USING ({name}): `{name}` is ambiguous on the left side")
        made = flat_column(right, join)
        shown: exp.Expr = left
        if kind == "full":
            shown = exp.Coalesce(this=left.copy(), expressions=[made.copy()])
        elif kind == "right":
            shown = made
        self.scope.merged[key] = shown.copy()
        return exp.EQ(this=left, expression=made.copy())

    def _note_equated(self, conditions: list[exp.Expr]) -> None:
        for condition in conditions:
            for equal in condition.find_all(exp.EQ):
                for side in (equal.this, equal.expression):
                    if isinstance(side, exp.Column):
                        self.equated.add(side.name)

    def _where(self) -> None:
        where = self.ast.args.get("where")
        if where is None:
            return
        rest: list[exp.Expr] = []
        for part in where.this.flatten() if isinstance(where.this, exp.And) else [where.this]:
            part = part.unnest()
            if isinstance(part, exp.In) and part.args.get("query") is not None:
                self._semi_join(part)
            else:
                rest.append(part)
        if rest:
            self._select(self._resolved(exp.and_(*rest, copy=True)), "WHERE")

    def _semi_join(self, test: exp.In) -> None:
        """`x IN (SELECT y …)` as x ⋉ y."""
        query = test.args["query"]
        body = query.this if isinstance(query, exp.Subquery) else query
        alias = f"in_{body.meta.get('start', len(self.scope.relations))}"
        node = self.binder.query(body, self.env, f"{self.path}.{alias}", self.text)
        if len(node.columns) != 1 or node.learned:
            raise self._error(test, "IN takes a sub-query of one content column")
        right = Alias(node, alias)
        tested = self._resolved(test.this)
        both = {**self.current.by_name, **right.by_name}
        terms = Terms(self.binder.catalog, both, self.path, self.text, self.binder.sites)
        equal = exp.EQ(this=tested, expression=flat_column(right.names[0], test))
        self.current = Join(self.current, right, "semi", terms.content(equal, "IN"))

    def _select(self, condition: exp.Expr, clause: str) -> None:
        predicate = self._terms.content(condition, f"{clause}")
        with located(condition, self.text):
            self.current = Select(self.current, predicate)

    # names

    def _clause(self, name: str) -> exp.Expr | None:
        clause = self.ast.args.get(name)
        return None if clause is None else self._resolved(clause.this)

    def _resolved(self, node: exp.Expr) -> exp.Expr:
        """A copy with every name made flat."""
        return self._flatten(node.copy())

    def _flatten(self, node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Subquery | exp.Select | exp.Exists):
            raise self._error(
                node,
                "a sub-query cannot stand inside an expression of a lifted query; join it instead "
                "(JOIN, SEMI JOIN, ANTI JOIN, or IN at the top of WHERE)",
            )
        if isinstance(node, exp.Column) and not isinstance(node.this, exp.Star):
            return self.scope.resolve(node)
        if function_name(node) == "anchor" and not node.expressions:
            return self._anchor(node)
        skip = None
        if self._reads_row(node):
            skip = node.expressions[0]
            excluded = [k for k in node.expressions if isinstance(k, exp.Kwarg)]
            names = {id(k) for k in excluded if k.this.name.lower() == "exclude"}
        else:
            names = set()
        for child in list(node.iter_expressions()):
            if child is skip or id(child) in names:
                continue
            fresh = self._flatten(child)
            if fresh is not child:
                child.replace(fresh)
        return node

    def _anchor(self, node: exp.Expr) -> exp.Expr:
        if _ANCHOR not in self.current.by_name:
            raise self._error(
                node,
                "anchor() is the time a prediction is made at, and there is no task here: "
                "OPTIONS (task = …)",
            )
        return flat_column(_ANCHOR, node)

    def _reads_row(self, node: exp.Expr) -> bool:
        """Whether a call's first argument is a relation: that of features(), of text() if it is."""
        if function_name(node) == "text" and node.expressions:
            first = node.expressions[0]
            return isinstance(first, exp.Column) and self.scope.means_relation(first)
        return function_name(node) == "features" and bool(node.expressions)

    def _items(self) -> list[Item]:
        """The select list: (output name, flat expression, where it stands)."""
        items: list[Item] = []
        for node in self.ast.expressions:
            where = span_of(node, self.text)
            if isinstance(node, exp.Star) or (
                isinstance(node, exp.Column) and isinstance(node.this, exp.Star)
            ):
                items += [(n, e, where) for n, e in self._star(node)]
                continue
            if isinstance(node, exp.Columns):
                raise self._error(node, "COLUMNS(…) is not understood next to learned functions")
            name = node.alias_or_name or function_name(node.unnest()) or node.sql("duckdb")
            inner = node.this if isinstance(node, exp.Alias) else node
            resolved = self._resolved(inner)
            items.append((name, resolved, where))
            if isinstance(node, exp.Alias):
                self.scope.aliases[name.casefold()] = exp.paren(resolved.copy(), copy=False)
        seen: dict[str, int] = {}
        distinct: list[Item] = []
        explicit = [n.alias_or_name.casefold() for n in self.ast.expressions]
        for name, expression, where in items:
            key = name.casefold()
            if key in seen:
                if explicit.count(key) > 1:
                    raise QueryError(
                        f"two columns are named `{name}`; give one another name with AS", where
                    )
                seen[key] += 1
                name = f"{name}_{seen[key] - 1}"
            else:
                seen[key] = 1
            distinct.append((name, expression, where))
        return distinct

    def _star(self, node: exp.Expr) -> list[tuple[str, exp.Expr]]:
        star = node.this if isinstance(node, exp.Column) else node
        alias = node.table if isinstance(node, exp.Column) else None
        if alias is not None and not self.scope.has_relation(alias):
            raise self._error(
                node,
                f"there is no relation `{alias}` here; there are "
                f"{listing(self.scope.shown.values())}."
                + did_you_mean(alias, self.scope.shown.values()),
            )
        columns = self.scope.star(alias)
        names = {n.casefold() for n, _ in columns}
        dropped = {c.name.casefold() for c in star.args.get("except_") or []}
        if unknown := dropped - names:
            raise self._error(
                node,
                f"EXCLUDE names `{min(unknown)}`, which is not there."
                + did_you_mean(min(unknown), names),
            )
        replaced = {r.alias.casefold(): r.this for r in star.args.get("replace") or []}
        renamed = {r.this.name.casefold(): r.alias for r in star.args.get("rename") or []}
        out = []
        for name, expression in columns:
            key = name.casefold()
            if key in dropped:
                continue
            value = self._resolved(replaced[key]) if key in replaced else expression
            out.append((renamed.get(key, name), value))
        return out

    def _feature_columns(self, alias: str) -> list[tuple[str, str]] | None:
        """What features(alias) and text(alias) read: all but keys, join columns, label, split."""
        relation = self.scope.relations.get(alias.casefold())
        if relation is None:
            return None
        prefix = len(self.scope.shown[alias.casefold()]) + 1
        out = []
        for flat in relation.values():
            if flat in self.equated or flat not in self.current.by_name:
                continue
            if not self.current.by_name[flat].learned:
                read = origins(self.current, flat)
                if self.binder.hides(read) or self._is_key(read):
                    continue
            out.append((flat[prefix:], flat))
        return out

    def _is_key(self, read: frozenset[tuple[str, str]]) -> bool:
        if len(read) != 1:
            return False
        ((table, name),) = read
        found = self.binder.catalog.table(table) if not table.startswith("SELECT") else None
        return found is not None and name in found.keys

    # GROUP BY

    def _groups(
        self,
        items: list[Item],
        having: exp.Expr | None,
        qualify: exp.Expr | None,
    ) -> bool:
        expressions = [e for _, e, _ in items] + [e for e in (having, qualify) if e is not None]
        return (
            self.ast.args.get("group") is not None
            or having is not None
            or any(True for e in expressions for _ in self._aggregates(e))
        )

    def _aggregates(self, node: exp.Expr) -> Iterator[exp.Expr]:
        return aggregate_calls(node, self.binder.catalog)

    def _grouped(
        self,
        items: list[Item],
        having: exp.Expr | None,
        qualify: exp.Expr | None,
    ) -> tuple[
        list[Item],
        exp.Expr | None,
        exp.Expr | None,
    ]:
        keys = self._group_keys(items)
        if keys and _ANCHOR in self.current.by_name:
            keys.append(flat_column(_ANCHOR, self.ast))  # the same in every row
        before = self._terms
        pre: dict[str, Content | Term] = {}
        by: list[str] = []
        for number, key in enumerate(keys):
            content = before.content(key, "a group key")
            name = content.field or f"key {number}"
            if name not in pre:
                pre[name] = content
                by.append(name)
        outputs: dict[str, Content | Reduce] = {}
        expressions = [e for _, e, _ in items] + [e for e in (having, qualify) if e is not None]
        calls = [call for e in expressions for call in self._aggregates(e)]
        named: dict[exp.Expr, str] = {}
        for call in calls:
            if call not in named:
                named[call] = f"aggregate {len(named)}"
                outputs[named[call]] = self._reduction(call, pre, before)
        with located(self.ast, self.text):
            self.current = Aggregate(
                Map(self.current, tuple(pre.items())), tuple(by), tuple(outputs.items())
            )
        swap = {**dict(zip(keys, by, strict=False)), **named} if len(keys) == len(by) else named
        if len(keys) != len(by):
            for key in keys:
                content = before.content(key)
                swap[key] = content.field or next(n for n, v in pre.items() if v is content)

        def regroup(node: exp.Expr | None) -> exp.Expr | None:
            return None if node is None else self._regrouped(node, swap)

        fresh = [(n, self._regrouped(e, swap), s) for n, e, s in items]
        return fresh, regroup(having), regroup(qualify)

    def _group_keys(self, items: list[Item]) -> list[exp.Expr]:
        group = self.ast.args.get("group")
        if group is None:
            return []
        for clause in ("grouping_sets", "cube", "rollup"):
            if group.args.get(clause):
                raise self._error(group, f"{clause.upper()} is not understood in a lifted query")
        for node in group.expressions:
            if isinstance(node, exp.Rollup | exp.Cube | exp.GroupingSets):
                raise self._error(
                    node, "groups of several grains are not understood in a lifted query"
                )
        if group.args.get("all"):
            return [e.unnest() for _, e, _ in items if not any(True for _ in self._aggregates(e))]
        keys: list[exp.Expr] = []
        for node in group.expressions:
            if isinstance(node, exp.Literal) and not node.is_string:
                position = int(node.this) if node.this.isdigit() else 0
                if not 1 <= position <= len(items):
                    raise self._error(node, f"GROUP BY {node.this}: there are {len(items)} columns")
                keys.append(items[position - 1][1].unnest())
            else:
                keys.append(self._resolved(node).unnest())
        for key in keys:
            self.equated.update(c.name for c in [key] if isinstance(c, exp.Column))
        return keys

    def _reduction(
        self, call: exp.Expr, pre: dict[str, Content | Term], terms: Terms
    ) -> Content | Reduce:
        """An aggregate call; what it reads is added to the columns below the group."""
        if not terms.is_learned(call):
            content = terms.content(call, "an aggregate", aggregates=True)
            for name in sorted(content.columns):
                found = terms.columns[name]
                assert found.type is not None
                pre[name] = column(name, found.type)
            return content
        inner = call.this if isinstance(call, exp.Filter) else call
        how = _REDUCERS.get(type(inner))
        if how is None or isinstance(inner.this, exp.Distinct | exp.Star):
            name = function_name(inner) or inner.sql("duckdb")
            what = "DISTINCT" if isinstance(inner.this, exp.Distinct) else f"{name}()"
            raise self._error(
                call,
                f"{what} cannot reduce embeddings; the aggregates are {listing(REDUCTIONS)}",
            )
        where = None
        if isinstance(call, exp.Filter):
            condition = terms.content(call.expression.this, "FILTER")
            where = _added(pre, condition, "filter")
        return Reduce(how, _added(pre, terms.term(inner.this), "argument"), where)

    def _regrouped(self, node: exp.Expr, swap: Mapping[exp.Expr, str]) -> exp.Expr:
        """The expression above the group: keys and aggregates are columns now."""
        bare = node.unnest()
        if bare in swap and not isinstance(bare, exp.Literal):  # a constant is not its key
            return flat_column(swap[bare], node)
        if isinstance(node, exp.Column):
            raise self._error(
                node,
                f"`{node.name}` is neither a group key nor inside an aggregate; add it to "
                f"GROUP BY, or take any_value({node.name})",
            )
        if self._reads_row(node):
            raise self._error(
                node,
                f"{function_name(node)}() stands above GROUP BY; write it inside an aggregate",
            )
        fresh = node.copy() if node.parent is None else node
        for child in list(fresh.iter_expressions()):
            changed = self._regrouped(child, swap)
            if changed is not child:
                child.replace(changed)
        return fresh

    # windows, QUALIFY, select list

    def _windowed(self, node: exp.Expr) -> exp.Expr:
        """Learned windows become columns of a Window node; content windows stay."""
        if isinstance(node, exp.Window) and self._terms.is_learned(node):
            return flat_column(self._window(node), node)
        for child in list(node.iter_expressions()):
            changed = self._windowed(child)
            if changed is not child:
                child.replace(changed)
        return node

    def _window(self, window: exp.Window) -> str:
        function = window.this
        name = function_name(function) or ""
        how = "softmax" if name == "softmax" else _REDUCERS.get(type(function))
        if how not in WINDOWS:
            raise self._error(
                window,
                f"{name or function.sql('duckdb')}() is not a window over embeddings; "
                f"there are {listing(WINDOWS)}",
            )
        if window.args.get("spec") is not None:
            raise self._error(
                window,
                "a frame (ROWS or RANGE …) is not understood on embeddings; leave it out: "
                "with ORDER BY the window runs from the partition's start to the row",
            )
        if isinstance(function, exp.Anonymous) and len(function.expressions) != 1:
            raise self._error(function, "softmax() takes one score")
        argument = function.expressions[0] if how == "softmax" else function.this
        terms = self._terms
        extra: dict[str, Content | Term] = {n: passed(c) for n, c in self.current.by_name.items()}
        score = _added(extra, terms.term(argument), "argument")
        keys = [
            _added(extra, terms.content(p, "PARTITION BY"), "partition")
            for p in window.args.get("partition_by") or []
        ]
        order = []
        for item in window.args["order"].expressions if window.args.get("order") else []:
            key = _added(extra, terms.content(item.this, "ORDER BY"), "order")
            order.append((key, bool(item.args.get("desc")), bool(item.args.get("nulls_first"))))
        made = fresh_name("window", extra)
        with located(window, self.text):
            over = Over(how, score, tuple(keys), tuple(order))
            self.current = Window(Map(self.current, tuple(extra.items())), ((made, over),))
        return made

    def _qualified(self, items: list[Item], qualify: exp.Expr) -> list[Item]:
        """QUALIFY: content windows are computed before rows are dropped."""
        terms = self._terms
        extra: dict[str, Content | Term] = {n: passed(c) for n, c in self.current.by_name.items()}
        flag = _added(extra, terms.content(qualify, "QUALIFY", windows=True), "qualify")

        def early(node: exp.Expr) -> exp.Expr:
            if isinstance(node, exp.Window):
                return flat_column(_added(extra, terms.content(node, windows=True), "window"), node)
            return node

        items = [(n, e.transform(early), s) for n, e, s in items]
        mapped = Map(self.current, tuple(extra.items()))
        self.current = Select(mapped, column(flag, "BOOLEAN"))
        return items

    def _project(self, items: list[Item]) -> Node:
        terms = self._terms
        outputs: list[tuple[str, Content | Term]] = []
        for name, expression, where in items:
            try:
                outputs.append((name, terms.build(expression)))
            except QueryError as error:
                raise QueryError(error.message, error.span or where) from error
        with located(self.ast, self.text):
            node: Node = Map(self.current, tuple(outputs))
        if self.ast.args.get("distinct"):
            if node.learned:
                raise self._error(
                    self.ast, "DISTINCT cannot compare embeddings; GROUP BY the content instead"
                )
            node = Aggregate(node, node.names)
        return node


def _added(outputs: dict[str, Content | Term], value: Content | Term, hint: str) -> str:
    """The name under which a value stands among outputs, added if it is new."""
    for name, known in outputs.items():
        if known is value:
            return name
    name = fresh_name(hint, outputs)
    outputs[name] = value
    return name
