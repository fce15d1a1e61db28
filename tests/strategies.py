"""Drawn databases, and drawn lifted queries as text over them, always valid.

Every table has the same columns whatever is drawn, so that a query fits every database. Rows have
duplicate keys, NULL keys and weights, keys that meet nothing; tables are often empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import duckdb
from hypothesis import strategies as st

from tests.expressions import expressions

TABLES: dict[str, list[tuple[str, str]]] = {
    "node": [
        ("id", "INTEGER"), ("kind", "VARCHAR"), ("y", "DOUBLE"), ("n", "INTEGER"),
        ("open", "BOOLEAN"), ("seen", "TIMESTAMP"), ("x", "FLOAT[3]"), ("label", "INTEGER"),
    ],
    "edge": [
        ("src", "INTEGER"), ("dst", "INTEGER"), ("rel", "VARCHAR"), ("w", "DOUBLE"),
        ("made", "TIMESTAMP"),
    ],
    "tag": [("node", "INTEGER"), ("label", "VARCHAR"), ("score", "FLOAT"), ("v", "FLOAT[2]")],
    "event": [("node", "INTEGER"), ("t", "TIMESTAMP"), ("amount", "DOUBLE"), ("code", "VARCHAR")],
}  # fmt: skip

KINDS_OF = {
    "INTEGER": "whole", "BIGINT": "whole", "DOUBLE": "double", "FLOAT": "float",
    "VARCHAR": "text", "BOOLEAN": "truth", "TIMESTAMP": "moment",
}  # fmt: skip

_KEY = st.sampled_from([0, 1, 2, 3]) | st.none()
_NUMBER = st.none() | st.sampled_from([0.0, 0.5, -1.5, 2.0, 1.0, 0.25])
_TEXT = st.none() | st.sampled_from(["a", "b", "cd e", ""])
_TIME = st.none() | st.sampled_from([datetime(2020, 1, d, h) for d, h in ((1, 0), (2, 6), (9, 12))])
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "INTEGER": _KEY,
    "DOUBLE": _NUMBER,
    "FLOAT": _NUMBER,
    "VARCHAR": _TEXT,
    "BOOLEAN": st.none() | st.booleans(),
    "TIMESTAMP": _TIME,
}


def _vector(width: int) -> st.SearchStrategy[Any]:
    return st.none() | st.tuples(*[st.sampled_from([0.0, 1.0, -0.5, 0.75])] * width)


@dataclass(frozen=True)
class Database:
    """Rows of each table, in the order of its columns."""

    rows: dict[str, list[tuple[Any, ...]]]

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A fresh DuckDB database that holds them."""
        con = duckdb.connect(config={"threads": 1})
        for table, columns in TABLES.items():
            con.execute(f"CREATE TABLE {table} ({', '.join(f'{n} {t}' for n, t in columns)})")
            marks = ", ".join("?" * len(columns))
            if self.rows[table]:
                con.executemany(f"INSERT INTO {table} VALUES ({marks})", self.rows[table])
        return con


@st.composite
def databases(draw: st.DrawFn, most: int = 6) -> Database:
    """Up to `most` rows in each table."""
    rows = {}
    for table, columns in TABLES.items():
        row = st.tuples(
            *(_vector(int(t[-2])) if t.endswith("]") else _VALUES[t] for _, t in columns)
        )
        drawn = draw(st.lists(row, max_size=most))
        if drawn and draw(st.booleans()):
            drawn = [*drawn, draw(st.sampled_from(drawn))]
        rows[table] = drawn
    return Database(rows)


# -- lifted queries ------------------------------------------------------------------------------

Kind = str | int
"""What a column holds: a kind of content (see `tests.expressions`), or an embedding's width."""


@dataclass(frozen=True)
class Relation:
    """Something that can stand in FROM: its text, and its columns by name."""

    sql: str
    columns: dict[str, Kind]

    def __hash__(self) -> int:
        return hash(self.sql)


BASE = {
    table: Relation(
        table,
        {n: int(t[-2]) if t.endswith("]") else KINDS_OF[t] for n, t in columns},
    )
    for table, columns in TABLES.items()
}

_WIDTHS = (1, 2, 3)
_UNARY = (
    *("relu({})", "gelu({})", "tanh({})", "sigmoid({})", "leaky_relu({})", "elu({})"),
    *("exp(tanh({}))", "ln(abs({}) + 1)", "log(abs({}) + 1)", "sqrt(abs({}) + 0.5)", "abs({})"),
    *("(- {})", "dropout({}, 0.5)", "({} * 0.5)", "(1 - {})", "({} / 2)", "leaky_relu({}, 0.3)"),
)
_BINARY = ("({} + {})", "({} - {})", "({} * {})", "({} / (abs({}) + 1))")
_REDUCTIONS = ("sum", "avg", "min", "max", "count", "stddev")
_PREDICATE_KINDS = ("whole", "double", "text", "truth", "moment")


@dataclass(frozen=True)
class Scope:
    """What expressions of one SELECT may read: references by their text."""

    columns: dict[str, Kind]
    fitted: bool = True

    def content(self, *kinds: str) -> list[str]:
        """References of content of one of the kinds, of any kind if none is given."""
        return [
            c for c, k in self.columns.items() if isinstance(k, str) and (k in kinds or not kinds)
        ]

    def embeddings(self, width: int | None = None) -> list[str]:
        """References of embeddings, of one width if given."""
        return [c for c, k in self.columns.items() if isinstance(k, int) and width in (k, None)]


class Drawn:
    """Draws the pieces of one query; names are counted up."""

    def __init__(self, draw: st.DrawFn, fitted: bool) -> None:
        self.draw = draw
        self.fitted = fitted
        self.count = 0

    def pick(self, options: Sequence[Any]) -> Any:
        """One of the options."""
        return self.draw(st.sampled_from(list(options)))

    def chance(self, of: int) -> bool:
        """True once in about `of` times."""
        return bool(self.draw(st.integers(1, of)) == of)

    def name(self, prefix: str) -> str:
        """A name not used before in this query."""
        self.count += 1
        return f"{prefix}{self.count}"

    # content

    def predicate(self, scope: Scope, depth: int = 1) -> str:
        """A condition on content."""
        known = {c: str(k) for c, k in scope.columns.items() if k in _PREDICATE_KINDS}
        drawn: str = self.draw(expressions("truth", known, depth))
        return drawn

    def content(self, kind: str, scope: Scope) -> str:
        """A content expression of a kind, finite if it is a number."""
        own = scope.content(kind)
        simple = {
            "whole": ("({} + 1)", "({} % 2)", "coalesce({}, 7)"),
            "double": ("({} * 0.5)", "coalesce({}, 1)", "abs({})"),
            "text": ("coalesce({}, 'none')", "upper({})"),
            "truth": ("coalesce({}, TRUE)", "(NOT {})"),
            "moment": ("({} + INTERVAL 1 DAY)", "date_trunc('day', {})"),
        }[kind]
        if not own or self.chance(8):
            return str(self.pick(_CONSTANTS[kind]))
        chosen = str(self.pick(own))
        return str(self.pick(simple)).format(chosen) if self.chance(4) else chosen

    def key(self, scope: Scope) -> str:
        """A content expression to group, partition or embed by."""
        return self.content(self.pick(("whole", "text", "whole", "truth")), scope)

    # terms

    def per(self, scope: Scope, of: int = 5) -> str:
        """A `per =>` argument, sometimes."""
        if not self.chance(of):
            return ""
        if self.chance(3):
            return f", per => [{self.key(scope)}, {self.key(scope)}]"
        return f", per => {self.key(scope)}"

    def term(self, width: int, scope: Scope, depth: int) -> str:
        """A term of a width."""
        if depth == 0:
            return self.leaf(width, scope)
        made = getattr(self, f"_{self.pick(_TERMS)}")(width, scope, depth - 1)
        return str(made) if made else self.leaf(width, scope)

    def any_term(self, scope: Scope, depth: int) -> tuple[str, int]:
        """A term of some width."""
        width = self.pick(_WIDTHS)
        return self.term(width, scope, depth), width

    def leaf(self, width: int, scope: Scope) -> str:
        """A term that is a column, or makes one of a column."""
        options = list(scope.embeddings(width)) * 3
        if width == 1:
            options += [self.content(k, scope) for k in ("double", "whole")]
        options += [f"embedding({self.key(scope)}, {width})", f"param({width}{self.per(scope)})"]
        wide = scope.embeddings() + scope.content("double", "float")
        if wide:
            options += [f"linear({self.pick(wide)}, {width})"] * 3
        chosen = str(self.pick(options))
        return f"param({width}) * {chosen}" if chosen[0].isdigit() else chosen

    def _column(self, width: int, scope: Scope, depth: int) -> str:
        return self.leaf(width, scope)

    def _linear(self, width: int, scope: Scope, depth: int) -> str:
        argument, inside = self.any_term(scope, depth)
        per = self.per(scope)
        bias = self.pick(["", "", ", bias => false"])
        share = f", share => 'l{inside}{width}'" if not per and not bias and self.chance(5) else ""
        if width == 2 and not share and self.chance(2):
            known = _calls_learned(argument)  # of content alone `concat` is SQL's
            wide = f"concat({argument if known else f'relu({argument})'}, {argument})"
            return f"linear({wide}, 2, heads => 2{bias}{per})"
        return f"linear({argument}, {width}{bias}{per}{share})"

    def _mlp(self, width: int, scope: Scope, depth: int) -> str:
        argument, inside = self.any_term(scope, depth)
        activation = self.pick(["", ", activation => 'tanh'"])
        share = f", share => 'm{inside}{width}'" if self.chance(6) else self.per(scope, 8)
        return f"mlp({argument}, 2, {width}{activation}{share})"

    def _unary(self, width: int, scope: Scope, depth: int) -> str:
        return str(self.pick(_UNARY)).format(self.term(width, scope, depth))

    def _binary(self, width: int, scope: Scope, depth: int) -> str:
        sides = [self.term(width, scope, depth), self.term(self.pick((1, width)), scope, depth)]
        if self.chance(2):
            sides.reverse()
        form = self.pick(_BINARY[:3] if self.chance(4) is False else _BINARY)
        return str(form).format(*sides)

    def _scaled(self, width: int, scope: Scope, depth: int) -> str:
        number = self.content(self.pick(("double", "double", "whole", "truth")), scope)
        return f"(relu({self.term(width, scope, depth)}) * {number})"

    def _concat(self, width: int, scope: Scope, depth: int) -> str:
        if width == 1:
            return ""
        left = self.draw(st.integers(1, width - 1))
        parts = [self.term(left, scope, depth), self.term(width - left, scope, depth)]
        if not _calls_learned("".join(parts)):  # of content alone `||` is SQL's
            parts[0] = f"relu({parts[0]})"
        return f"concat({', '.join(parts)})" if self.chance(2) else f"({' || '.join(parts)})"

    def _scale(self, width: int, scope: Scope, depth: int) -> str:
        argument, factors = self.term(width, scope, depth), self.term(1, scope, depth)
        if width == 2 and self.chance(2):
            wide = f"concat(relu({argument}), {argument})"
            return f"linear(scale({wide}, concat(param(1), {factors})), 2)"
        return f"scale({argument} * param(1), {factors})"

    def _dot(self, width: int, scope: Scope, depth: int) -> str:
        if width == 2:
            sides = [f"linear({self.term(2, scope, depth)}, 4)" for _ in range(2)]
            return f"dot({', '.join(sides)}, heads => 2)"
        if width > 1:
            return ""
        inside = self.pick(_WIDTHS)
        return f"dot({self.term(inside, scope, depth)}, {self.term(inside, scope, depth)})"

    def _normalize(self, width: int, scope: Scope, depth: int) -> str:
        return f"normalize({self.term(width, scope, depth)} + 0.125)"

    def _norm(self, width: int, scope: Scope, depth: int) -> str:
        return f"{self.pick(('layer', 'batch'))}_norm({self.term(width, scope, depth)})"

    def _coalesce(self, width: int, scope: Scope, depth: int) -> str:
        last = self.pick(("0", "1", self.term(width, scope, 0)))
        return f"coalesce({self.term(width, scope, depth)}, {last})"

    def _lookup(self, width: int, scope: Scope, depth: int) -> str:
        if self.chance(3):
            return f"embedding([{self.key(scope)}, {self.key(scope)}], {width})"
        if self.chance(3) and scope.content("whole"):
            return f"embedding({self.pick(scope.content('whole'))}, {width}, share => 'e{width}')"
        return f"embedding({self.key(scope)}, {width})"

    def _encoded(self, width: int, scope: Scope, depth: int) -> str:
        if not self.fitted:
            return ""
        options = [f"category({self.content('text', scope)}, {width})"]
        options.append(f"text({self.content('text', scope)}, {width})")
        if width == 2:
            options.append(f"numeric({self.content('double', scope)})")
        then = self.content("moment", scope)
        options.append(f"time_since({then}, {width}, at => TIMESTAMP '2020-02-01')")
        aliases = sorted({c.partition(".")[0] for c in scope.content("text")})
        if aliases:
            options.append(f"features({self.pick(aliases)}, {width})")
        return str(self.pick(options))

    # relations

    def item(self, env: list[Relation], depth: int) -> tuple[str, str, dict[str, Kind]]:
        """(text with alias, alias, columns) of one item of FROM."""
        alias = self.name("r")
        if depth and self.chance(5):
            width = self.pick(_WIDTHS)
            inner = self.select(["whole", "text", "moment", width], env, depth - 1)
            return f"({inner.sql}) AS {alias}", alias, inner.columns
        relation = self.pick(env)
        return f"{relation.sql} AS {alias}", alias, relation.columns

    def source(self, env: list[Relation], depth: int) -> tuple[str, Scope]:
        """FROM with joins, and what may be read above it."""
        text, alias, columns = self.item(env, depth)
        scope = {f"{alias}.{c}": k for c, k in columns.items()}
        text = f"FROM {text}"
        for _ in range(self.pick((0, 1, 1, 1, 2))):
            right, alias, columns = self.item(env, depth)
            mine = {f"{alias}.{c}": k for c, k in columns.items()}
            kind = self.pick(("JOIN", "JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "FULL JOIN",
                              "SEMI JOIN", "ANTI JOIN", "RIGHT JOIN"))  # fmt: skip
            on = self.condition(Scope(scope), Scope(mine))
            text += f" {kind} {right} ON {on}"
            if kind not in ("SEMI JOIN", "ANTI JOIN"):
                scope = {**scope, **mine}
        if self.chance(8) and (times := Scope(scope).content("moment")):
            keys = Scope(scope).content("whole")
            alias = self.name("r")
            text += (
                f" ASOF {self.pick(('JOIN', 'LEFT JOIN'))} (SELECT e.node, e.t, sum(linear("
                f"e.amount, 2)) AS s FROM event AS e GROUP BY ALL) AS {alias} "
                f"ON {self.pick(keys)} = {alias}.node AND {self.pick(times)} >= {alias}.t"
                if keys
                else ""
            )
            if keys:
                scope = {**scope, f"{alias}.node": "whole", f"{alias}.s": 2}
        return text, Scope(scope, self.fitted)

    def condition(self, left: Scope, right: Scope) -> str:
        """A join condition: an equality of keys, sometimes more."""
        kind = "whole"
        if not left.content(kind) or not right.content(kind):
            kind = "text" if left.content("text") and right.content("text") else ""
        if not kind:
            return "TRUE"
        equal = f"{self.pick(left.content(kind))} = {self.pick(right.content(kind))}"
        if self.chance(5):
            both = Scope({**left.columns, **right.columns})
            equal += f" AND {self.predicate(both)}"
        return equal

    # queries

    def select(self, spec: Sequence[Kind], env: list[Relation], depth: int) -> Relation:
        """A SELECT whose columns hold what `spec` lists: c1, c2, … content, z1, … embeddings."""
        names = [f"{'z' if isinstance(k, int) else 'c'}{i}" for i, k in enumerate(spec)]
        text, scope = self.source(env, depth)
        where = f" WHERE {self.predicate(scope)}" if self.chance(4) else ""
        if self.chance(2):
            items, tail = self.grouped(spec, scope, depth)
        else:
            items, tail = self.row_by_row(spec, scope, depth)
        listed = ", ".join(f"{e} AS {n}" for e, n in zip(items, names, strict=True))
        return Relation(f"SELECT {listed} {text}{where}{tail}", dict(zip(names, spec, strict=True)))

    def row_by_row(self, spec: Sequence[Kind], scope: Scope, depth: int) -> tuple[list[str], str]:
        """Select items of a SELECT without groups; windows, perhaps QUALIFY."""
        items = []
        for kind in spec:
            if isinstance(kind, str):
                items.append(self.content(kind, scope))
            elif self.chance(3):
                items.append(self.window(kind, scope, depth))
            else:
                made = self.term(kind, scope, depth + 1)
                known = made in scope.embeddings() or _calls_learned(made)
                items.append(made if known else f"{made} * param({kind})")
        qualify = ""
        if self.chance(6):
            function = self.pick(("rank()", "count(*)", "dense_rank()"))
            over = f"PARTITION BY {self.key(scope)} ORDER BY {self.key(scope)}"
            qualify = f" QUALIFY {function} OVER ({over}) <= {self.pick((1, 2, 3))}"
        return items, qualify

    def window(self, width: int, scope: Scope, depth: int) -> str:
        """A learned window, alone or inside a term."""
        by = f"PARTITION BY {self.key(scope)}" if self.chance(6) is False else ""
        if self.chance(2):
            score = self.term(width, scope, depth)
            return f"softmax({score}) OVER ({by})" + self.pick(("", f" * {self.leaf(1, scope)}"))
        how = self.pick(("sum", "avg", "min", "max", "count"))
        direction = self.pick(("", " DESC", " NULLS FIRST", " DESC NULLS LAST"))
        order = f" ORDER BY {self.key(scope)}{direction}" if self.chance(2) else ""
        inner = self.term(width, scope, depth)
        made = f"{how}({inner}) OVER ({(by + order).strip()})"
        return f"linear({made}, {width})" if how == "count" and width > 1 else made

    def grouped(self, spec: Sequence[Kind], scope: Scope, depth: int) -> tuple[list[str], str]:
        """Select items of a SELECT with groups: content is a key or an aggregate."""
        items: list[str] = []
        keys: list[str] = []
        for kind in spec:
            if isinstance(kind, int):
                items.append(self.reduction(kind, scope, depth))
            elif self.chance(3):
                items.append(self.aggregate(kind, scope))
            else:
                key = self.content(kind, scope)
                literal = not any(c in key for c in scope.columns)
                items.append(key)
                if not literal:
                    keys.append(key)
        form = self.pick(("plain", "position", "all"))
        having = ""
        if self.chance(5):
            having = f" HAVING {self.pick(('count(*) > 1', 'count(*) <= 2'))}"
        if not keys:
            return items, having if not any("." in i and i in keys for i in items) else ""
        if form == "position":
            places = [str(i + 1) for i, item in enumerate(items) if item in keys]
            return items, f" GROUP BY {', '.join(dict.fromkeys(places))}{having}"
        by = "ALL" if form == "all" else ", ".join(dict.fromkeys(keys))
        return items, f" GROUP BY {by}{having}"

    def aggregate(self, kind: str, scope: Scope) -> str:
        """A content aggregate of a kind."""
        inner = self.content(kind, scope)
        options = [f"max({inner})", f"min({inner})"]
        if kind == "whole":
            options += ["count(*)", f"count({self.key(scope)})", f"count(DISTINCT {inner})"]
        if kind == "double":
            options += [f"sum({inner})", f"avg({inner})"]
        chosen = str(self.pick(options))
        return f"{chosen} FILTER (WHERE {self.predicate(scope)})" if self.chance(5) else chosen

    def reduction(self, width: int, scope: Scope, depth: int) -> str:
        """A term over reductions."""
        how = self.pick(_REDUCTIONS)
        argument = self.term(width, scope, depth)
        if how == "stddev":
            argument = f"({argument} + {self.content('double', scope)})"
        made = f"{how}({argument})"
        if not _calls_learned(argument):
            made = f"{how}({argument} * param({width}))"
        if self.chance(4):
            made += f" FILTER (WHERE {self.predicate(scope)})"
        if how == "count":
            return f"linear({made}, {width})"
        return str(
            self.pick(("{}", "relu({})", f"linear({{}}, {width})", "coalesce({}, 0)", "({} + {})"))
        ).replace("{}", made)


_CONSTANTS = {
    "whole": ("7", "5"),
    "double": ("0.5::DOUBLE", "1::DOUBLE", "-2::DOUBLE"),
    "text": ("'a'", "'zz'"),
    "truth": ("TRUE", "FALSE"),
    "moment": ("TIMESTAMP '2020-01-03'",),
}
_LEARNED = (
    *(
        "scale(",
        "leaky_relu(",
        "linear(",
        "mlp(",
        "embedding(",
        "param(",
        "norm(",
        "features(",
        "numeric(",
        "category(",
    ),
    *("text(", "time_since(", "dropout(", "dot(", "normalize(", "relu(", "gelu(", "sigmoid("),
    *("elu(", "softmax("),
)


def _calls_learned(text: str) -> bool:
    """Whether a function is called that exists in lifted queries only."""
    return any(function in text for function in _LEARNED)


_TERMS = (
    *("column", "linear", "linear", "mlp", "unary", "unary", "binary", "binary", "scaled"),
    *("concat", "dot", "scale", "normalize", "norm", "coalesce", "lookup", "encoded"),
)


@st.composite
def lifted_queries(draw: st.DrawFn, fitted: bool = True, depth: int = 1) -> str:
    """The text of a lifted query: CTEs, sub-queries, joins, unions, groups, windows, every term.

    Without `fitted` it holds nothing that needs statistics or words of training rows
    (`numeric`, `category`, `time_since`, `text`, `features`).
    """
    made = Drawn(draw, fitted)
    env = list(BASE.values())
    ctes = []
    for _ in range(draw(st.integers(0, 2))):
        name = made.name("q")
        if made.chance(4):
            relation = Relation(
                "SELECT src, dst, count(*) AS n, sum(w) AS w FROM edge GROUP BY src, dst",
                {"src": "whole", "dst": "whole", "n": "whole", "w": "double"},
            )
        else:
            spec: list[Kind] = ["whole", made.pick(_PREDICATE_KINDS), made.pick(_WIDTHS)]
            relation = _stacked(made, spec, env, depth)
        ctes.append(f"{name} AS ({relation.sql})")
        env += [replace(relation, sql=name)] * 2
    spec = [made.pick(("whole", "text")), made.pick(_WIDTHS)]
    if made.chance(3):
        spec.append(made.pick((*_WIDTHS, "double")))
    body = _stacked(made, spec, env, depth).sql
    return f"WITH {', '.join(ctes)} {body}" if ctes else body


def _stacked(made: Drawn, spec: list[Kind], env: list[Relation], depth: int) -> Relation:
    first = made.select(spec, env, depth)
    if not made.chance(6):
        return first
    second = made.select(spec, env, depth)
    return replace(first, sql=f"{first.sql} UNION ALL {second.sql}")


# -- queries shaped like the left side of a rewrite ----------------------------------------------


@st.composite
def rewritable_queries(draw: st.DrawFn) -> str:
    """A query that some rewrite matches, or nearly: each shape with its parts drawn."""
    made = Drawn(draw, fitted=False)
    n = made.pick(_WIDTHS)
    join = made.pick(("JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"))
    scope = Scope({"e.src": "whole", "e.dst": "whole", "e.rel": "text", "e.w": "double",
                   "p.id": "whole", "p.kind": "text", "p.y": "double", "p.open": "truth",
                   "p.x": 3, "p.z": 2}, False)  # fmt: skip
    p = "(SELECT id, kind, y, open, x, embedding(id, 2) AS z FROM node)"
    graph = f"FROM edge AS e {join} {p} AS p ON p.id = e.src"
    how = made.pick(("sum", "avg", "sum", "avg", "max", "count", "stddev"))
    argument = made.pick(("p.x", "p.z", "relu(linear(p.x, 3))", "concat(p.x, p.z)", "p.y * p.z",
                          "coalesce(p.x, 0)", "p.x * e.w"))  # fmt: skip
    bias = made.pick(("", ", bias => false"))
    linear = f"linear({argument}, {n}{bias}{made.per(scope, 4)})"
    scale = made.pick(("", " * e.w", " * p.y", " / 2", " * param(1)", " * linear(p.y, 1)"))
    where = f" WHERE {made.predicate(scope)}" if made.chance(3) else ""
    keep = f" FILTER (WHERE {made.predicate(scope)})" if made.chance(3) else ""
    by = made.pick(("e.dst", "e.dst, e.rel", "p.kind", "e.dst % 2"))
    key = by.split(",")[0]
    sums = f"SELECT {key} AS k, {how}({linear}{scale}){keep} AS z {graph}{where} GROUP BY {by}"
    shape = made.pick(sorted(_SHAPES))
    if shape == "sum of linear":
        return sums
    if shape == "linear of sum":
        return sums.replace(
            f"{how}({linear}{scale}){keep}", f"relu(linear(sum({argument}){keep}, {n}))"
        )
    if shape == "above":
        over = Scope({"k": "text" if key == "p.kind" else "whole"})
        return str(_SHAPES[shape]).format(sums, predicate=made.predicate(over))
    return str(_SHAPES[shape]).format(
        n=n,
        m=made.pick(_WIDTHS),
        bias=bias,
        join=join,
        how=how,
        where=where,
        linear=linear,
        graph=graph,
        f=made.pick(("linear({}, 2)", "mlp({}, 2, 2)", "relu(linear({}, 2))")).format("x.x"),
        g=made.pick(("linear({}, 2)", "{}", "mlp({}, 2, 2)")).format("y.z"),
        default=made.pick(("0", "1", f"param({n})")),
        on_h=made.predicate(Scope({"h.id": "whole", "h.kind": "text"})),
        on_e=made.predicate(Scope({"e.rel": "text", "e.w": "double"})),
        norm=made.pick(("batch_norm", "layer_norm", "normalize", "tanh")),
    )


_NODE = "(SELECT id, kind, x, embedding(id, 2) AS z FROM node)"
_H = (
    "WITH h AS (SELECT e.dst AS id, max(e.rel) AS kind, {how}(linear(p.x, {n})) AS z "
    "FROM edge AS e JOIN node AS p ON p.id = e.src GROUP BY e.dst) "
)
_SHAPES = {
    "sum of linear": "",
    "linear of sum": "",
    "above": "SELECT k, z FROM ({}) AS q WHERE {predicate}",
    "rows": "SELECT e.dst AS k, {linear} AS z {graph}{where}",
    "left join": _H
    + "SELECT p.id AS k, linear(coalesce(h.z, {default}), {m}{bias}) + linear(p.x, {m}) AS z "
    "FROM node AS p LEFT JOIN h ON h.id = p.id",
    "left join, no default": _H
    + "SELECT p.id AS k, relu(linear(h.z, {m}{bias})) AS z FROM node AS p {join} h ON h.id = p.id",
    "path": "SELECT a.dst AS k, sum({f} * {g}) AS z FROM edge AS a JOIN edge AS b ON b.dst = a.src "
    f"JOIN {_NODE} AS x ON x.id = a.src JOIN {_NODE} AS y ON y.id = b.src GROUP BY a.dst",
    "star": "SELECT x.id AS k, sum({f} * {g} * b.w) AS z FROM "
    f"{_NODE} AS x JOIN edge AS a ON a.dst = x.id JOIN edge AS b ON b.dst = x.id "
    f"JOIN {_NODE} AS y ON y.id = b.src GROUP BY x.id",
    "triangle": "SELECT a.src AS k, sum(linear(x.x, 2) * {g}) AS z FROM edge AS a "
    "JOIN edge AS b ON b.src = a.dst JOIN edge AS c ON c.src = b.dst AND c.dst = a.src "
    f"JOIN {_NODE} AS x ON x.id = a.src JOIN {_NODE} AS y ON y.id = b.src GROUP BY a.src",
    "filter above join": _H
    + "SELECT e.dst AS k, sum(h.z * e.w) AS z FROM edge AS e {join} h ON h.id = e.src "
    "WHERE {on_h} AND {on_e} GROUP BY e.dst",
    "filter above rows": "SELECT q.k, relu(q.z) AS z FROM (SELECT p.id AS k, p.kind AS kind, "
    "{norm}(linear(p.x, {n})) AS z FROM node AS p) AS q WHERE q.kind = 'a'",
    "filter above window": "SELECT k, z FROM (SELECT e.dst AS k, e.rel AS rel, softmax(linear("
    "p.x, {n})) OVER (PARTITION BY e.dst) AS z FROM edge AS e JOIN node AS p ON p.id = e.src) "
    "AS q WHERE q.k = 1 OR q.rel = 'a'",
    "filter above union": "SELECT k, tanh(z) AS z FROM (SELECT id AS k, linear(x, {n}) AS z FROM "
    "node UNION ALL SELECT node AS k, linear(v, {n}) AS z FROM tag) AS q WHERE q.k > 0",
    "attention": "WITH s AS (SELECT e.dst, e.rel, linear(p.x, {n}) AS v, "
    "dot(linear(p.x, 2), linear(q.x, 2, per => e.rel)) / sqrt(2) AS a "
    "FROM edge AS e JOIN node AS p ON p.id = e.src {join} node AS q ON q.id = e.dst), "
    "w AS (SELECT *, softmax(a) OVER (PARTITION BY dst) AS b FROM s) "
    "SELECT dst AS k, sum(v * b) AS z FROM w GROUP BY dst",
    "attention of two heads": "WITH s AS (SELECT e.dst, linear(p.x, 4) AS v, "
    "dot(linear(p.x, 4, heads => 1), linear(q.x, 4, per => e.rel), heads => 2) AS a "
    "FROM edge AS e JOIN node AS p ON p.id = e.src {join} node AS q ON q.id = e.dst), "
    "w AS (SELECT *, softmax(leaky_relu(a, 0.2)) OVER (PARTITION BY dst) AS b FROM s) "
    "SELECT dst AS k, sum(scale(v, b)) AS z FROM w GROUP BY dst",
    "two layers": _H + "SELECT e.dst AS k, {how}(linear(relu(h.z), {m}{bias}) * e.w) AS z "
    "FROM edge AS e {join} h ON h.id = e.src GROUP BY e.dst",
    "twice": _H + "SELECT a.id AS k, a.z - coalesce(b.z, {default}) AS z "
    "FROM h AS a {join} h AS b ON b.id = a.id",
}
