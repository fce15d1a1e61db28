"""Expressions over one row: content the database computes, terms the network computes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import sqlglot
from sqlglot import exp

from relann.algebra.interning import Interned
from relann.errors import SchemaError

_ARRAY = re.compile(r"^(FLOAT|DOUBLE|REAL)\[(\d+)\]$")
_NUMERIC = re.compile(r"^(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DECIMAL\(.*\)|FLOAT|REAL|DOUBLE)$")
_TIME = re.compile(r"^(DATE|TIMESTAMP.*)$")
_TEXT = re.compile(r"^(VARCHAR|ENUM\b.*)$", re.DOTALL)


def array_width(sql_type: str) -> int | None:
    """The n of `FLOAT[n]` or `DOUBLE[n]`; None for any other type."""
    found = _ARRAY.match(sql_type)
    return int(found.group(2)) if found else None


def is_numeric(sql_type: str) -> bool:
    """Whether values of the type lift to an embedding of width 1 (booleans do, as 0 and 1)."""
    return bool(_NUMERIC.match(sql_type)) or sql_type == "BOOLEAN"


def is_text(sql_type: str) -> bool:
    """Whether the type is text or an enum."""
    return bool(_TEXT.match(sql_type))


def is_time(sql_type: str) -> bool:
    """Whether the type is a date or a timestamp, with or without time zone."""
    return bool(_TIME.match(sql_type))


@lru_cache(maxsize=4096)
def parsed(sql: str) -> exp.Expr:
    """An SQL expression or query as a tree, which is shared: copy it before changing it."""
    return sqlglot.parse_one(sql, dialect="duckdb")


def quoted(name: str) -> str:
    """A name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, eq=False)
class Content(Interned):
    """A scalar expression the database owns, as DuckDB SQL over the columns of one node.

    Columns are written as quoted single names equal to the node's column names. `type` is the
    DuckDB type of the value. Never depends on a parameter.
    """

    sql: str
    type: str

    @property
    def expression(self) -> exp.Expr:
        """The parsed expression; shared, so copy it before changing it."""
        return parsed(self.sql)

    @cached_property
    def columns(self) -> frozenset[str]:
        """Names of the columns read."""
        return frozenset(c.name for c in self.expression.find_all(exp.Column))

    @cached_property
    def field(self) -> str | None:
        """The column's name when the expression is nothing but that column."""
        return self.expression.name if isinstance(self.expression, exp.Column) else None

    @cached_property
    def windowed(self) -> bool:
        """Whether the value depends on other rows through a window function."""
        return self.expression.find(exp.Window) is not None

    def renamed(self, names: dict[str, str]) -> Content:
        """The same expression reading other columns, name by name."""
        return self.substituted({old: quoted(new) for old, new in names.items()})

    def substituted(self, values: dict[str, str]) -> Content:
        """The same expression with columns replaced by SQL expressions."""
        if not self.columns & values.keys():
            return self
        if self.field is not None:
            return Content(values[self.field], self.type)

        def swap(node: exp.Expr) -> exp.Expr:
            if isinstance(node, exp.Column) and node.name in values:
                value = parsed(values[node.name]).copy()
                return value if isinstance(value, exp.Column) else exp.paren(value)
            return node

        changed = self.expression.transform(swap)
        return Content(changed.sql(dialect="duckdb"), self.type)

    def __str__(self) -> str:
        return self.sql.replace('"', "")


def column(name: str, sql_type: str) -> Content:
    """The content expression that is one column."""
    return Content(quoted(name), sql_type)


def conjuncts(predicate: Content) -> list[Content]:
    """The conditions that a predicate is the conjunction of."""
    whole = predicate.expression.unnest()
    if not isinstance(whole, exp.And):
        return [predicate]
    return [Content(p.unnest().sql(dialect="duckdb"), "BOOLEAN") for p in whole.flatten()]


def conjunction(parts: Sequence[Content]) -> Content:
    """The predicate that holds where all of some do; there is at least one."""
    if len(parts) == 1:
        return parts[0]
    return Content(" AND ".join(f"({p.sql})" for p in parts), "BOOLEAN")


@dataclass(frozen=True, eq=False)
class Parameter(Interned):
    """A learned array, named by where it stands in the query.

    `shape` is that of one set; with `per` the array gains a leading axis, one set for each
    distinct value seen in training. `initial` is `glorot`, `normal`, `zeros` or `ones`.
    """

    name: str
    shape: tuple[int, ...]
    initial: str = "glorot"


@dataclass(frozen=True, eq=False)
class Key(Interned):
    """A content value turned into a row number of a vocabulary fitted on training rows.

    `site` names the vocabulary. `parts` are the expressions of a compound key. At most `most`
    values are kept, the most frequent first (None: all).
    """

    site: str
    parts: tuple[Content, ...]
    most: int | None = None

    def __str__(self) -> str:
        inner = ", ".join(map(str, self.parts))
        return inner if len(self.parts) == 1 else f"[{inner}]"


class Term(Interned):
    """An expression that makes an embedding: one vector of `width` floats for each row."""

    width: int

    @property
    def children(self) -> tuple[Term, ...]:
        """The terms it is made of, in order."""
        return ()

    @property
    def contents(self) -> tuple[Content, ...]:
        """The content expressions it reads directly."""
        return ()

    def rebuilt(self, children: tuple[Term, ...]) -> Term:
        """The same operation over other terms."""
        assert not children
        return self

    def with_contents(self, change: Callable[[Content], Content]) -> Term:
        """The same operation with each directly read content expression changed."""
        return self

    def walk(self) -> Iterator[Term]:
        """This term and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()

    @cached_property
    def fields(self) -> frozenset[str]:
        """Names of the embedding columns read."""
        return frozenset(t.name for t in self.walk() if isinstance(t, Field))

    @cached_property
    def columns(self) -> frozenset[str]:
        """Names of all columns read, embedding and content."""
        read = {c for t in self.walk() for e in t.contents for c in e.columns}
        return self.fields | read

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The learned arrays, each once, in the order they stand."""
        found: dict[Parameter, None] = {}
        for term in self.walk():
            for value in vars(term).values():
                if isinstance(value, Parameter):
                    found[value] = None
        return tuple(found)

    @cached_property
    def sees_other_rows(self) -> bool:
        """Whether a row's value depends on which other rows there are: batch norm, windows."""
        return any(
            (isinstance(t, Norm) and t.kind == "batch") or any(c.windowed for c in t.contents)
            for t in self.walk()
        )

    def transformed(self, change: Callable[[Term], Term | None]) -> Term:
        """Bottom-up rewriting: `change` gives a replacement or None to keep the term."""
        children = tuple(c.transformed(change) for c in self.children)
        kept = self if children == self.children else self.rebuilt(children)
        return change(kept) or kept

    def substituted(self, values: dict[str, Term], contents: dict[str, str]) -> Term:
        """The same term with columns replaced: embedding columns by terms, content by SQL."""

        def change(term: Term) -> Term | None:
            if isinstance(term, Field) and term.name in values:
                return values[term.name]
            return term.with_contents(lambda c: c.substituted(contents))

        return self.transformed(change)


class OfOneTerm(Term):
    """A term of one `argument`, of the argument's width."""

    argument: Term

    @property
    def width(self) -> int:  # type: ignore[override]
        return self.argument.width

    @property
    def children(self) -> tuple[Term, ...]:
        return (self.argument,)

    def rebuilt(self, children: tuple[Term, ...]) -> Term:
        changed: Term = replace(self, argument=children[0])  # type: ignore[type-var]
        return changed


class OfOneContent(Term):
    """A term of one `content` expression."""

    content: Content

    @property
    def contents(self) -> tuple[Content, ...]:
        return (self.content,)

    def with_contents(self, change: Callable[[Content], Content]) -> Term:
        changed: Term = replace(self, content=change(self.content))  # type: ignore[type-var]
        return changed


@dataclass(frozen=True, eq=False)
class Field(Term):
    """An embedding column of the node's input."""

    name: str
    width: int

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class Lift(Term):
    """A content value as a vector: a number has width 1, `FLOAT[n]` width n. NULL stays NULL."""

    content: Content

    def __post_init__(self) -> None:
        kind = self.content.type
        if array_width(kind) is None and not is_numeric(kind):
            wrap = "time_since() or features()" if is_time(kind) else "category()"
            right = f"wrap it in {wrap}"
            if kind.endswith("[]"):
                right = f"say how long its lists are, `{self.content}::{kind[:-2]}[n]`"
            raise SchemaError(f"`{self.content}` is {kind}, not a number; {right}")

    @property
    def width(self) -> int:  # type: ignore[override]
        return array_width(self.content.type) or 1

    @property
    def contents(self) -> tuple[Content, ...]:
        return (self.content,)

    def with_contents(self, change: Callable[[Content], Content]) -> Term:
        return Lift(change(self.content))

    def __str__(self) -> str:
        return str(self.content)


@dataclass(frozen=True, eq=False)
class Constant(Term):
    """The same number in every row. Width 1."""

    value: float
    width: int = 1

    def __str__(self) -> str:
        return f"{self.value:g}"


ELEMENTWISE: dict[str, int] = {
    **dict.fromkeys(("add", "sub", "mul", "div"), 2),
    **dict.fromkeys(("relu", "gelu", "tanh", "sigmoid", "elu"), 1),
    **dict.fromkeys(("exp", "log", "sqrt", "abs", "neg"), 1),
}
"""Element-wise operations and how many terms each takes."""

_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/"}


@dataclass(frozen=True, eq=False)
class Apply(Term):
    """An element-wise operation; width 1 meets width n by repetition. NULL if any argument is."""

    operation: str
    arguments: tuple[Term, ...]

    def __post_init__(self) -> None:
        if ELEMENTWISE.get(self.operation) != len(self.arguments):
            raise SchemaError(f"{self.operation} does not take {len(self.arguments)} arguments")
        wide = {a.width for a in self.arguments} - {1}
        if len(wide) > 1:
            raise SchemaError(f"widths {' and '.join(map(str, sorted(wide)))} do not fit together")

    @property
    def width(self) -> int:  # type: ignore[override]
        return max(a.width for a in self.arguments)

    @property
    def children(self) -> tuple[Term, ...]:
        return self.arguments

    def rebuilt(self, children: tuple[Term, ...]) -> Term:
        return Apply(self.operation, children)

    def __str__(self) -> str:
        if self.operation in _INFIX:
            return f"({self.arguments[0]} {_INFIX[self.operation]} {self.arguments[1]})"
        return f"{self.operation}({self.arguments[0]})"


@dataclass(frozen=True, eq=False)
class LeakyRelu(OfOneTerm):
    """x where it is positive, `slope` · x elsewhere (Maas et al. 2013)."""

    argument: Term
    slope: float = 0.01

    def __str__(self) -> str:
        return f"leaky_relu({self.argument}{'' if self.slope == 0.01 else f', {self.slope:g}'})"


def head_width(width: int, heads: int, what: str) -> int:
    """The width of each of `heads` equal slices; SchemaError where they do not come out even."""
    if width % heads:
        raise SchemaError(f"{what} has width {width}, which {heads} heads cannot share equally")
    return width // heads


@dataclass(frozen=True, eq=False)
class Linear(Term):
    """x·W + b, `weight` of shape (x.width, n). `per` picks the row's own set of W and b.

    With several heads, x and the result are cut into as many equal slices, each with its own
    product: W is block-diagonal, `weight` of shape (heads, x.width / heads, n / heads).

    `rows`, (first, end), are those of the weight that x is multiplied with (None: all), where a
    rewrite has cut a product into parts; then there is one head and no `per`.
    """

    argument: Term
    weight: Parameter
    bias: Parameter | None = None
    per: Key | None = None
    heads: int = 1
    rows: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        taken = self.weight.shape[-2] * self.heads
        if self.rows is not None:
            taken = self.rows[1] - self.rows[0]
        if taken != self.argument.width:
            raise SchemaError(
                f"`{self.weight.name}` takes width {taken}, "
                f"its argument has width {self.argument.width}"
            )

    @property
    def width(self) -> int:  # type: ignore[override]
        return self.weight.shape[-1] * self.heads

    @property
    def work(self) -> int:
        """Multiply-adds for each row."""
        return self.argument.width * self.width // self.heads

    @property
    def children(self) -> tuple[Term, ...]:
        return (self.argument,)

    @property
    def contents(self) -> tuple[Content, ...]:
        return self.per.parts if self.per else ()

    def rebuilt(self, children: tuple[Term, ...]) -> Term:
        return replace(self, argument=children[0])

    def with_contents(self, change: Callable[[Content], Content]) -> Term:
        return replace(self, per=_rekeyed(self.per, change))

    def __str__(self) -> str:
        per = f", per => {self.per}" if self.per else ""
        bias = "" if self.bias else ", bias => false"
        heads = "" if self.heads == 1 else f", heads => {self.heads}"
        rows = "" if self.rows is None else f", rows {self.rows[0]} to {self.rows[1]}"
        return f"linear({self.argument}, {self.width}{heads}{per}{bias}{rows})"


@dataclass(frozen=True, eq=False)
class Learned(Term):
    """A parameter itself, the same vector in every row, or the row's own with `per`."""

    parameter: Parameter
    per: Key | None = None

    @property
    def width(self) -> int:  # type: ignore[override]
        return self.parameter.shape[0]

    @property
    def contents(self) -> tuple[Content, ...]:
        return self.per.parts if self.per else ()

    def with_contents(self, change: Callable[[Content], Content]) -> Term:
        return replace(self, per=_rekeyed(self.per, change))

    def __str__(self) -> str:
        return f"param({self.width}{f', per => {self.per}' if self.per else ''})"


@dataclass(frozen=True, eq=False)
class Lookup(Term):
    """One learned row for each distinct key: an embedding.

    NULL is a key of its own. A key not seen in training is the zero vector, and never trained.
    """

    table: Parameter
    key: Key

    @property
    def width(self) -> int:  # type: ignore[override]
        return self.table.shape[0]

    @property
    def contents(self) -> tuple[Content, ...]:
        return self.key.parts

    def with_contents(self, change: Callable[[Content], Content]) -> Term:
        changed = _rekeyed(self.key, change)
        assert changed is not None
        return replace(self, key=changed)

    def __str__(self) -> str:
        return f"embedding({self.key}, {self.width})"


ENCODINGS = {"numeric": 2, "time": 10, "elapsed": 8}
"""Fixed encodings of one content value and their widths (see `relann.provenance.encoders`)."""


@dataclass(frozen=True, eq=False)
class Encode(OfOneContent):
    """A content value as a fixed vector, by statistics of the training rows. Never NULL.

    `numeric`: (standardised value, missing indicator). `time`: position in the training span,
    cycles of the day, week and year, missing indicator. `elapsed`: a duration in seconds,
    log-scaled.
    """

    encoding: str
    site: str
    content: Content

    @property
    def width(self) -> int:  # type: ignore[override]
        return ENCODINGS[self.encoding]

    def __str__(self) -> str:
        return f"{self.encoding}({self.content})"


@dataclass(frozen=True, eq=False)
class Tokens(OfOneContent):
    """The mean of the learned vectors of a text's words; words hash into the rows of `table`.

    Words are runs of letters and digits, lower-cased. NULL and the empty text are the zero vector.
    """

    table: Parameter
    content: Content

    @property
    def width(self) -> int:  # type: ignore[override]
        return self.table.shape[1]

    def __str__(self) -> str:
        return f"text({self.content}, {self.width})"


@dataclass(frozen=True, eq=False)
class Pretrained(OfOneContent):
    """x·W + b, x a text's vector by the pretrained encoder of a name. Never NULL.

    `site` is the call's, whose own copy of the encoder is trained where encoders are trained. NULL
    and blank texts have the zero vector, so their value is b.
    """

    encoder: str
    site: str
    weight: Parameter
    bias: Parameter
    content: Content

    @property
    def width(self) -> int:  # type: ignore[override]
        return self.weight.shape[1]

    def __str__(self) -> str:
        return f"text({self.content}, {self.width}, encoder => '{self.encoder}')"


@dataclass(frozen=True, eq=False)
class Dot(Term):
    """Inner product of two terms of equal width, one for each of `heads` equal slices of both."""

    left: Term
    right: Term
    heads: int = 1

    def __post_init__(self) -> None:
        if self.left.width != self.right.width:
            raise SchemaError(
                f"dot takes equal widths, these are {self.left.width} and {self.right.width}"
            )
        head_width(self.left.width, self.heads, "an argument of dot")

    @property
    def width(self) -> int:  # type: ignore[override]
        return self.heads

    @property
    def children(self) -> tuple[Term, ...]:
        return (self.left, self.right)

    def rebuilt(self, children: tuple[Term, ...]) -> Term:
        return Dot(children[0], children[1], self.heads)

    def __str__(self) -> str:
        heads = "" if self.heads == 1 else f", heads => {self.heads}"
        return f"dot({self.left}, {self.right}{heads})"


@dataclass(frozen=True, eq=False)
class Scale(Term):
    """A vector cut into as many equal slices as `factors` is wide, each times its own factor."""

    argument: Term
    factors: Term

    def __post_init__(self) -> None:
        head_width(self.argument.width, self.factors.width, "the vector that scale multiplies")

    @property
    def width(self) -> int:  # type: ignore[override]
        return self.argument.width

    @property
    def children(self) -> tuple[Term, ...]:
        return (self.argument, self.factors)

    def rebuilt(self, children: tuple[Term, ...]) -> Term:
        return scaled(children[0], children[1])

    def __str__(self) -> str:
        return f"scale({self.argument}, {self.factors})"


def scaled(argument: Term, factors: Term) -> Term:
    """`Scale`, as the plain product it is for one factor or as many as elements."""
    if factors.width in (1, argument.width):
        return Apply("mul", (argument, factors))
    return Scale(argument, factors)


@dataclass(frozen=True, eq=False)
class Concat(Term):
    """Vectors end to end. NULL if any is."""

    arguments: tuple[Term, ...]

    @property
    def width(self) -> int:  # type: ignore[override]
        return sum(a.width for a in self.arguments)

    @property
    def children(self) -> tuple[Term, ...]:
        return self.arguments

    def rebuilt(self, children: tuple[Term, ...]) -> Term:
        return Concat(children)

    def __str__(self) -> str:
        return f"concat({', '.join(map(str, self.arguments))})"


@dataclass(frozen=True, eq=False)
class Coalesce(Term):
    """The first term that is not NULL; width 1 repeats to the widest."""

    arguments: tuple[Term, ...]

    def __post_init__(self) -> None:
        wide = {a.width for a in self.arguments} - {1}
        if len(wide) > 1:
            raise SchemaError(f"widths {' and '.join(map(str, sorted(wide)))} do not fit together")

    @property
    def width(self) -> int:  # type: ignore[override]
        return max(a.width for a in self.arguments)

    @property
    def children(self) -> tuple[Term, ...]:
        return self.arguments

    def rebuilt(self, children: tuple[Term, ...]) -> Term:
        return Coalesce(children)

    def __str__(self) -> str:
        return f"coalesce({', '.join(map(str, self.arguments))})"


@dataclass(frozen=True, eq=False)
class Normalize(OfOneTerm):
    """x / max(‖x‖₂, 1e-12), row by row."""

    argument: Term

    def __str__(self) -> str:
        return f"normalize({self.argument})"


@dataclass(frozen=True, eq=False)
class Dropout(OfOneTerm):
    """In training each element is zeroed with probability `p`, the rest scaled by 1 / (1 − p)."""

    argument: Term
    p: float
    site: str

    def __post_init__(self) -> None:
        if not 0 <= self.p < 1:
            raise SchemaError(f"dropout takes a probability in [0, 1), not {self.p:g}")

    def __str__(self) -> str:
        return f"dropout({self.argument}, {self.p:g})"


@dataclass(frozen=True, eq=False)
class Norm(OfOneTerm):
    """Standardised and rescaled by learned `scale` and `shift`.

    `layer`: over each row's own elements (Ba et al. 2016). `batch`: over the rows of a training
    step, over running averages afterwards (Ioffe and Szegedy 2015).
    """

    kind: str
    argument: Term
    scale: Parameter
    shift: Parameter

    def __str__(self) -> str:
        return f"{self.kind}_norm({self.argument})"


@dataclass(frozen=True)
class Use:
    """One place of a query that uses tuples of a table.

    `path` are the aliases that lead there from the outermost query, `depth` how many groups lie
    between. `keys` names the tuple of each row, all NULL where an outer join found none.
    """

    table: str
    path: tuple[str, ...]
    depth: int
    keys: tuple[Content, ...]


@dataclass(frozen=True, eq=False)
class Marked(OfOneTerm):
    """The argument itself, each row of which the tuples of `uses` have a part in.

    `counted`: what a row's value does to the prediction is those tuples' contribution.
    """

    argument: Term
    uses: tuple[Use, ...]
    counted: bool = True

    @property
    def contents(self) -> tuple[Content, ...]:
        return tuple(key for use in self.uses for key in use.keys)

    def with_contents(self, change: Callable[[Content], Content]) -> Term:
        changed = [replace(u, keys=tuple(change(k) for k in u.keys)) for u in self.uses]
        return replace(self, uses=tuple(changed))

    def __str__(self) -> str:
        return f"marked({self.argument})"


def _rekeyed(key: Key | None, change: Callable[[Content], Content]) -> Key | None:
    if key is None:
        return None
    return Key(key.site, tuple(change(p) for p in key.parts), key.most)
