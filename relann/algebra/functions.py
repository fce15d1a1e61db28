"""Learned functions: a resolved SQL expression as content or as a term."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlglot import exp

from relann.algebra.nodes import Column
from relann.algebra.scope import span_of
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
    Term,
    Tokens,
    array_width,
    column,
    head_width,
    is_numeric,
    is_time,
    quoted,
    scaled,
)
from relann.errors import EngineError, QueryError, SchemaError, did_you_mean, listing
from relann.schema import Catalog, TypeFailure

CATEGORIES = 1000
"""How many values `category` and `features` keep apart; rarer ones count as unseen."""

BUCKETS = 1 << 14
"""Rows of the table that the words of `text` hash into."""

ACTIVATIONS = ("relu", "gelu", "tanh", "sigmoid", "leaky_relu", "elu")
INITIALS = ("normal", "glorot", "zeros", "ones")
"""How the numbers of `param` and `embedding` may start."""

EncoderWidth = Callable[[str], int]
"""The width of a pretrained text encoder's vectors; EngineError where there is none of a name."""


def no_encoders(name: str) -> int:
    """Where no pretrained encoders are to be had."""
    raise EngineError(f"there is no text encoder `{name}` here")


_OURS = frozenset(
    [
        "linear",
        "mlp",
        "embedding",
        "param",
        "layer_norm",
        "batch_norm",
        "dropout",
        "features",
        "numeric",
        "category",
        "time_since",
        "text",
        "dot",
        "scale",
        "concat",
        "normalize",
        "softmax",
        "relu",
        "gelu",
        "sigmoid",
        "leaky_relu",
        "elu",
    ]
)
_SHARED_WITH_SQL = frozenset(["tanh", "exp", "ln", "log", "sqrt", "abs", "concat"])
LEARNED_ONLY = _OURS - {"concat"}
"""Functions that exist only in lifted queries."""

_OPERATORS: dict[type[exp.Expr], str] = {
    exp.Add: "add",
    exp.Sub: "sub",
    exp.Mul: "mul",
    exp.Div: "div",
}

_CONSTANT = (
    *_OPERATORS,
    *(exp.Literal, exp.Paren, exp.Neg, exp.Sqrt, exp.Ln, exp.Log, exp.Exp, exp.Pow, exp.Pi),
)


def _is_constant(node: exp.Expr) -> bool:
    return isinstance(node, _CONSTANT) and not (isinstance(node, exp.Literal) and node.is_string)


def function_name(node: exp.Expr) -> str | None:
    """The lower-case name of a function call, None for anything else."""
    if isinstance(node, exp.Anonymous):
        return str(node.name).lower()
    if isinstance(node, exp.Func):
        return str(node.sql_name()).lower()
    return None


def aggregate_calls(node: exp.Expr, catalog: Catalog) -> Iterator[exp.Expr]:
    """Outermost aggregate calls (with their FILTER); the function of a window is none."""
    if isinstance(node, exp.Window):
        function = node.this.this if isinstance(node.this, exp.Filter) else node.this
        inside = [*function.iter_expressions(), *(node.args.get("partition_by") or [])]
        if node.args.get("order") is not None:
            inside.append(node.args["order"])
    elif _is_aggregate(node, catalog):
        yield node
        return
    else:
        inside = list(node.iter_expressions())
    for child in inside:
        yield from aggregate_calls(child, catalog)


def _is_aggregate(node: exp.Expr, catalog: Catalog) -> bool:
    call = node.this if isinstance(node, exp.Filter | exp.WithinGroup) else node
    if isinstance(call, exp.AggFunc):
        return True
    return isinstance(call, exp.Anonymous) and call.name.lower() in catalog.aggregates


def calls_learned(node: exp.Expr) -> bool:
    """Whether a learned function is called anywhere inside, sub-queries included."""
    return any(function_name(n) in LEARNED_ONLY for n in node.walk())


@dataclass
class Sites:
    """Names of parameters by where they stand: `model.cte.linear_0.weight`.

    The same place in the text met again under the same path is the same site.
    """

    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    places: dict[tuple[str, str, str, int], str] = field(default_factory=dict)
    shared: dict[str, tuple[object, ...]] = field(default_factory=dict)

    def name(self, path: str, function: str, text: str, start: int) -> str:
        """The site of a call standing at `start` of `text`."""
        place = (path, function, text, start)
        if place not in self.places:
            number = self.counts.get((path, function), 0)
            self.counts[path, function] = number + 1
            self.places[place] = f"{path}.{function}_{number}"
        return self.places[place]


@dataclass
class Terms:
    """Builds content and terms from expressions whose columns are flat names.

    columns   what may be read, by flat name
    path      dotted name of the enclosing model, sub-queries and layers
    expand    gives the columns that `features(alias)` stands for: (name, flat name)
    anchor    SQL of the anchor time, None outside a task
    encoder_width  how wide the vectors of a pretrained text encoder are
    """

    catalog: Catalog
    columns: Mapping[str, Column]
    path: str
    text: str
    sites: Sites
    expand: Callable[[str], list[tuple[str, str]] | None] = lambda alias: None
    anchor: str | None = None
    encoder_width: EncoderWidth = no_encoders

    def build(self, node: exp.Expr) -> Content | Term:
        """Content if the database can compute it, otherwise a term."""
        return self.term(node) if self.is_learned(node) else self.content(node, windows=True)

    def is_learned(self, node: exp.Expr) -> bool:
        """Whether a learned function is called or an embedding column read."""
        return calls_learned(node) or any(
            c.name in self.columns and self.columns[c.name].learned
            for c in node.find_all(exp.Column)
        )

    def content(
        self, node: exp.Expr, what: str = "this", aggregates: bool = False, windows: bool = False
    ) -> Content:
        """A content expression; QueryError where it depends on something learned.

        `what` names the place in messages; `aggregates` and `windows` say what may stand there.
        """
        node = node.unnest()
        if not aggregates:
            for call in aggregate_calls(node, self.catalog):
                raise self.error(call, f"{what} cannot hold an aggregate")
        if not windows and (window := node.find(exp.Window)) is not None:
            raise self.error(window, f"{what} cannot hold a window; QUALIFY and SELECT can")
        for inner in node.walk():
            if isinstance(inner, exp.Subquery | exp.Exists | exp.Select):
                raise self.error(
                    inner,
                    "a sub-query cannot stand inside an expression of a lifted query; "
                    "join it instead (JOIN, SEMI JOIN or ANTI JOIN)",
                )
            learned = isinstance(inner, exp.Column) and self.columns[inner.name].learned
            if learned or function_name(inner) in LEARNED_ONLY:
                name = inner.name if learned else f"{function_name(inner)}(…)"
                made = " " in name  # a column of the binder's: `aggregate 0`, `window 1`
                name = f"an {name.split()[0]} of embeddings" if made else f"`{name}`"
                raise self.error(
                    inner,
                    f"{what} depends on {name}, which is learned. Rows, groups and orders are "
                    "found once, before any weight is known, so they may use content columns only",
                )
        if isinstance(node, exp.Column):
            found = self.columns[node.name]
            assert found.type is not None
            return column(found.name, found.type)
        sql = node.sql(dialect="duckdb")
        if self._compares_alike(node):
            return Content(sql, "BOOLEAN")
        try:
            (sql_type,) = self.catalog.types(self._read(node), [sql])
        except TypeFailure as failure:
            raise self.error(node, f"{failure.message}") from failure
        return Content(sql, sql_type)

    def _compares_alike(self, node: exp.Expr) -> bool:
        """Whether it is a conjunction of comparisons of columns of one type: no need to ask."""
        node = node.unnest()
        if isinstance(node, exp.And):
            return self._compares_alike(node.this) and self._compares_alike(node.expression)
        if not isinstance(node, exp.EQ | exp.NEQ | exp.LT | exp.LTE | exp.GT | exp.GTE):
            return False
        sides = node.this.unnest(), node.expression.unnest()
        types = [self.columns[s.name].type for s in sides if isinstance(s, exp.Column)]
        return len(types) == 2 and types[0] == types[1]

    def _read(self, node: exp.Expr) -> dict[str, str]:
        read = {c.name: self.columns[c.name].type for c in node.find_all(exp.Column)}
        return {n: t for n, t in read.items() if t is not None}

    def term(self, node: exp.Expr) -> Term:
        """An embedding; content in it is lifted."""
        with self.located(node):
            return self._term(node)

    def _term(self, node: exp.Expr) -> Term:
        if isinstance(node, exp.Paren):
            return self.term(node.this)
        if isinstance(node, exp.Literal) and not node.is_string:
            return Constant(float(node.this))
        if isinstance(node, exp.Column) and self.columns[node.name].learned:
            found = self.columns[node.name]
            assert found.width is not None
            return Field(found.name, found.width)
        if not self.is_learned(node):
            content = self.content(node, windows=True)
            if is_numeric(content.type) and all(map(_is_constant, node.walk())):
                return Constant(self.catalog.number(content.sql))
            return Lift(content)
        if isinstance(node, exp.Neg):
            return Apply("neg", (self.term(node.this),))
        if type(node) in _OPERATORS:
            return Apply(_OPERATORS[type(node)], (self.term(node.this), self.term(node.expression)))
        if isinstance(node, exp.DPipe):
            return Concat((self.term(node.this), self.term(node.expression)))
        if isinstance(node, exp.Coalesce):
            return Coalesce(tuple(self.term(n) for n in [node.this, *node.expressions]))
        name = function_name(node)
        if isinstance(node, exp.Case):
            raise self.error(
                node,
                "CASE does not choose among embeddings; multiply by a condition, as in "
                "`x * (year > 2000)::INTEGER`, filter an aggregate, or stack cases with UNION ALL",
            )
        if name is None or (name not in _OURS and name not in _SHARED_WITH_SQL):
            what = f"function {name}()" if name else f"operator `{type(node).__name__.upper()}`"
            known = sorted(_OURS | _SHARED_WITH_SQL | {"coalesce"})
            hint = did_you_mean(name, known) if name else ""
            hint = hint or f" There are {listing(known, 40)}."
            raise self.error(node, f"{what} is not defined on embeddings.{hint}")
        return _Call(self, node, name).term()

    def error(self, node: exp.Expr, message: str) -> QueryError:
        """The error for a piece of the text."""
        return QueryError(message, span_of(node, self.text))

    @contextmanager
    def located(self, node: exp.Expr) -> Iterator[None]:
        """Say where in the text a node or term refused to be built."""
        try:
            yield
        except SchemaError as error:
            raise self.error(node, str(error)) from error


class _Call:
    """One call of a learned function: its arguments checked, its parameters named."""

    def __init__(self, terms: Terms, node: exp.Expr, name: str) -> None:
        self.terms = terms
        self.node = node
        self.name = name
        given = [a for a in _arguments(node) if a is not None]
        self.positional = [a for a in given if not isinstance(a, exp.Kwarg)]
        self.named = {a.this.name.lower(): a.expression for a in given if isinstance(a, exp.Kwarg)}
        self._site: str | None = None

    def term(self) -> Term:
        """The term the call stands for."""
        made = getattr(self, f"_{self.name}", None)
        term: Term = made() if made else self._elementwise()
        return term

    def _allow(self, least: int, most: int | None, *named: str) -> None:
        count = len(self.positional)
        if count < least or (most is not None and count > most):
            wanted = f"{least}" if least == most else f"{least} to {most}" if most else f"{least}+"
            raise self._error(f"{self.name}() takes {wanted} arguments, not {count}")
        for key, value in self.named.items():
            if key not in named:
                offer = f"it takes {listing(named)}" if named else "it takes none"
                raise QueryError(
                    f"{self.name}() has no argument `{key} =>`; {offer}."
                    + did_you_mean(key, named),
                    span_of(value, self.terms.text) or span_of(self.node, self.terms.text),
                )

    def _error(self, message: str, node: exp.Expr | None = None) -> QueryError:
        return self.terms.error(node if node is not None else self.node, message)

    def _width(self, node: exp.Expr, what: str = "a width") -> int:
        value = _whole(node)
        if value is not None and value > 0:
            return value
        raise self._error(
            f"{self.name}() takes {what} here, a whole number above 0, not "
            f"`{node.sql(dialect='duckdb')}`".replace('"', ""),
            node,
        )

    def _flag(self, key: str, default: bool) -> bool:
        node = self.named.get(key)
        if node is None:
            return default
        if isinstance(node, exp.Boolean):
            return bool(node.this)
        raise self._error(f"`{key} =>` takes true or false", node)

    def _activation(self, default: str) -> str:
        node = self.named.get("activation")
        if node is None:
            return default
        if isinstance(node, exp.Literal) and node.this in ACTIVATIONS:
            return str(node.this)
        raise self._error(f"`activation =>` takes one of {listing(ACTIVATIONS)}", node)

    @property
    def site(self) -> str:
        """The call's place, or the name it shares."""
        if self._site is None:
            share = self.named.get("share")
            if share is None:
                start = int(self.node.meta.get("start", -1))
                if start < 0:
                    where = span_of(self.node, self.terms.text)
                    start = where.start if where else -1
                self._site = self.terms.sites.name(
                    self.terms.path, self.name, self.terms.text, start
                )
            elif isinstance(share, exp.Literal) and share.is_string and share.this:
                self._site = f"{self.terms.path.split('.')[0]}.{share.this}"
            else:
                raise self._error("`share =>` takes a name in quotes", share)
        return self._site

    def _parameter(self, suffix: str, shape: tuple[int, ...], initial: str) -> Parameter:
        name = f"{self.site}.{suffix}"
        if "share" in self.named:
            known = self.terms.sites.shared.setdefault(name, (shape, "per" in self.named))
            if known != (shape, "per" in self.named):
                raise self._error(
                    f"`{self.named['share'].this}` is shared with a call of another shape: "
                    f"{known[0]} there, {shape} here"
                )
        return Parameter(name, shape, initial)

    def _key(self, node: exp.Expr, most: int | None = None) -> Key:
        parts = node.expressions if isinstance(node, exp.Array | exp.Tuple) else [node]
        contents = tuple(self.terms.content(p, f"the key of {self.name}()") for p in parts)
        return Key(self.site, contents, most)

    def _per(self) -> Key | None:
        node = self.named.get("per")
        return None if node is None else self._key(node)

    def _elementwise(self) -> Term:
        self._allow(1, 1)
        argument = self.terms.term(self.positional[0])
        if self.name == "ln":
            return Apply("log", (argument,))
        if self.name == "log":  # as in SQL, the logarithm to base 10
            scale = Constant(1 / math.log(10))
            return Apply("mul", (Apply("log", (argument,)), scale))
        return Apply(self.name, (argument,))

    def _leaky_relu(self) -> Term:
        self._allow(1, 2)
        argument = self.terms.term(self.positional[0])
        if len(self.positional) == 1:
            return LeakyRelu(argument)
        return LeakyRelu(argument, self._number(self.positional[1], "the slope of leaky_relu()"))

    def _number(self, node: exp.Expr, what: str) -> float:
        if isinstance(node, exp.Literal) and not node.is_string:
            return float(node.this)
        raise self._error(f"{what} is a number", node)

    def _heads(self) -> int:
        node = self.named.get("heads")
        return 1 if node is None else self._width(node, "how many heads")

    def _linear(self) -> Term:
        self._allow(2, 2, "bias", "heads", "per", "share")
        argument = self.terms.term(self.positional[0])
        width = self._width(self.positional[1])
        return self._layer("", argument, width, self._per(), self._heads())

    def _layer(
        self, prefix: str, argument: Term, width: int, per: Key | None, heads: int = 1
    ) -> Term:
        shape: tuple[int, ...] = (argument.width, width)
        if heads > 1:
            inner = head_width(argument.width, heads, "the argument of linear")
            shape = (heads, inner, head_width(width, heads, "the result of linear"))
        weight = self._parameter(f"{prefix}weight", shape, "glorot")
        biased = self._flag("bias", True)
        bias = self._parameter(f"{prefix}bias", (width,), "zeros") if biased else None
        return Linear(argument, weight, bias, per, heads)

    def _mlp(self) -> Term:
        self._allow(2, None, "activation", "bias", "per", "share")
        term, per = self.terms.term(self.positional[0]), self._per()
        activation = self._activation("relu")
        for i, node in enumerate(self.positional[1:]):
            if i:
                term = LeakyRelu(term) if activation == "leaky_relu" else Apply(activation, (term,))
            term = self._layer(f"{i}.", term, self._width(node), per)
        return term

    def _embedding(self, most: int | None = None) -> Term:
        self._allow(2, 2, "share", "initial")
        width = self._width(self.positional[1])
        key = self._key(self.positional[0], most)
        return Lookup(self._parameter("weight", (width,), self._initial()), key)

    def _category(self) -> Term:
        return self._embedding(CATEGORIES)

    def _param(self) -> Term:
        self._allow(1, 1, "per", "share", "initial")
        width, per = self._width(self.positional[0]), self._per()
        return Learned(self._parameter("value", (width,), self._initial()), per)

    def _initial(self) -> str:
        node = self.named.get("initial")
        if node is None:
            return "normal"
        if isinstance(node, exp.Literal) and node.this in INITIALS:
            return str(node.this)
        raise self._error(f"`initial =>` takes one of {listing(INITIALS)}", node)

    def _layer_norm(self) -> Term:
        return self._norm("layer")

    def _batch_norm(self) -> Term:
        return self._norm("batch")

    def _norm(self, kind: str) -> Term:
        self._allow(1, 1, "share")
        argument = self.terms.term(self.positional[0])
        scale = self._parameter("scale", (argument.width,), "ones")
        return Norm(kind, argument, scale, self._parameter("shift", (argument.width,), "zeros"))

    def _dropout(self) -> Term:
        self._allow(2, 2)
        node = self.positional[1]
        if not (isinstance(node, exp.Literal) and not node.is_string):
            raise self._error("dropout() takes a probability in [0, 1)", node)
        return Dropout(self.terms.term(self.positional[0]), float(node.this), self.site)

    def _dot(self) -> Term:
        self._allow(2, 2, "heads")
        left, right = (self.terms.term(node) for node in self.positional)
        return Dot(left, right, self._heads())

    def _scale(self) -> Term:
        self._allow(2, 2)
        argument, factors = (self.terms.term(node) for node in self.positional)
        return scaled(argument, factors)

    def _concat(self) -> Term:
        self._allow(1, None)
        return Concat(tuple(self.terms.term(n) for n in self.positional))

    def _normalize(self) -> Term:
        self._allow(1, 1)
        return Normalize(self.terms.term(self.positional[0]))

    def _numeric(self) -> Term:
        self._allow(1, 1)
        content = self.terms.content(self.positional[0], "numeric()")
        if not is_numeric(content.type):
            raise self._error(f"numeric() takes a number, `{content}` is {content.type}")
        return Encode("numeric", self.site, content)

    def _text(self) -> Term:
        alias = self._relation()
        self._allow(2, 2, "encoder", "share", *(() if alias is None else ("exclude",)))
        if alias is not None:
            content = self._row_text(alias)
        else:
            content = self.terms.content(self.positional[0], "text()")
        if content.type != "VARCHAR":
            raise self._error(f"text() takes VARCHAR, `{content}` is {content.type}")
        width = self._width(self.positional[1])
        if "encoder" in self.named:
            return self._pretrained(content, width, self.named["encoder"])
        return Tokens(self._parameter("weight", (BUCKETS, width), "normal"), content)

    def _relation(self) -> str | None:
        """The relation whose rows the first argument means, None where it is an expression."""
        first = self.positional[0] if self.positional else None
        if not isinstance(first, exp.Column) or first.table or first.name in self.terms.columns:
            return None
        return str(first.name)

    def _row_text(self, alias: str) -> Content:
        """`column: value; …` of a row's columns, vectors and NULLs left out."""
        columns = self.terms.expand(alias)
        assert columns is not None  # else the name would have been that of a column
        pairs = []
        for name, flat in self._without_excluded(alias, columns):
            kind = self.terms.columns[flat].type
            if kind is not None and array_width(kind) is None:
                label = exp.Literal.string(f"{name}: ").sql(dialect="duckdb")
                pairs.append(f"{label} || CAST({quoted(flat)} AS TEXT)")
        if not pairs:
            raise self._error(f"`{alias}` has no columns beside keys, so text() has nothing to say")
        return Content(f"CONCAT_WS('; ', {', '.join(pairs)})", "VARCHAR")

    def _pretrained(self, content: Content, width: int, node: exp.Expr) -> Term:
        if not (isinstance(node, exp.Literal) and node.is_string and node.this):
            raise self._error(
                "`encoder =>` takes the name or the folder of a text encoder in quotes"
            )
        encoder = str(node.this)
        try:
            taken = self.terms.encoder_width(encoder)
        except EngineError as error:
            raise self._error(str(error)) from error
        if "share" in self.named:
            known = self.terms.sites.shared.setdefault(f"{self.site}.encoder", (encoder,))
            if known != (encoder,):
                raise self._error(
                    f"`{self.named['share'].this}` is shared with a call of another encoder: "
                    f"`{known[0]}` there, `{encoder}` here"
                )
        weight = self._parameter("weight", (taken, width), "glorot")
        return Pretrained(
            encoder, self.site, weight, self._parameter("bias", (width,), "zeros"), content
        )

    def _time_since(self) -> Term:
        self._allow(2, 2, "at", "share")
        then = self.terms.content(self.positional[0], "time_since()")
        if not is_time(then.type):
            raise self._error(f"time_since() takes a date or timestamp, `{then}` is {then.type}")
        if "at" in self.named:
            now = self.terms.content(self.named["at"], "time_since()").sql
        elif self.terms.anchor is not None:
            now = self.terms.anchor
        else:
            raise self._error(
                "time_since() counts from a task's anchor, and there is no task here; "
                "say from when with `at => …`"
            )
        elapsed = Content(f"epoch({now}) - epoch({then.sql})", "DOUBLE")
        width = self._width(self.positional[1])
        return self._layer("", Encode("elapsed", self.site, elapsed), width, None)

    def _softmax(self) -> Term:
        raise self._error(
            "softmax is a window over rows: write softmax(score) OVER (PARTITION BY key)"
        )

    def _features(self) -> Term:
        self._allow(2, 2, "exclude", "share")
        alias, width = self.positional[0], self._width(self.positional[1])
        if not (isinstance(alias, exp.Column) and not alias.table):
            raise self._error("features() takes a relation's alias first", alias)
        columns = self.terms.expand(alias.name)
        if columns is None:
            raise self._error(f"there is no relation `{alias.name}` here", alias)
        columns = self._without_excluded(alias.name, columns)
        fixed: list[Term] = []
        summands: list[Term] = []
        for name, flat in columns:
            found = self.terms.columns[flat]
            site = f"{self.site}.{name}"
            if found.width is not None:
                fixed.append(Field(flat, found.width))
                continue
            assert found.type is not None
            content = column(flat, found.type)
            if array_width(found.type):
                fixed.append(Lift(content))
            elif is_numeric(found.type):
                fixed.append(Encode("numeric", site, content))
            elif is_time(found.type):
                fixed.append(Encode("time", site, content))
            elif found.type in ("VARCHAR", "UUID") or found.type.startswith("ENUM"):
                table = self._parameter(f"{name}.weight", (width,), "normal")
                summands.append(Lookup(table, Key(site, (content,), CATEGORIES)))
            else:
                raise self._error(
                    f"features() has no encoding for `{flat}` of type {found.type}; leave it out "
                    f"with `exclude => [{name}]`"
                )
        if fixed:
            whole = fixed[0] if len(fixed) == 1 else Concat(tuple(fixed))
            summands.insert(0, self._layer("", whole, width, None))
        if not summands:
            raise self._error(
                f"`{alias.name}` has no columns beside keys, so features() has nothing to encode"
            )
        total = summands[0]
        for part in summands[1:]:
            total = Apply("add", (total, part))
        return total

    def _without_excluded(
        self, alias: str, columns: list[tuple[str, str]]
    ) -> list[tuple[str, str]]:
        """The columns less those that `exclude` names; keys may be named, and are not read anyway.

        So a text that leaves a key out means the same whether it is known to be one or not.
        """
        node = self.named.get("exclude")
        if node is None:
            return columns
        parts = node.expressions if isinstance(node, exp.Array | exp.Tuple) else [node]
        out = {str(p.name).casefold(): p for p in parts}
        known = {name.casefold() for name, _ in columns}
        there = {flat.casefold() for flat in self.terms.columns}
        for name, part in out.items():
            if name not in known and f"{alias}.{name}".casefold() not in there:
                raise self._error(
                    f"{self.name}() does not read `{part.name}`; it reads "
                    f"{listing(n for n, _ in columns)}." + did_you_mean(name, known),
                    part,
                )
        return [(name, flat) for name, flat in columns if name.casefold() not in out]


def _whole(node: exp.Expr) -> int | None:
    """A whole number, written as such or as sums and products of such; None for anything else."""
    match node:
        case exp.Paren():
            return _whole(node.this)
        case exp.Literal() if not node.is_string and str(node.this).isdigit():
            return int(node.this)
        case exp.Add() | exp.Sub() | exp.Mul() | exp.IntDiv():
            a, b = _whole(node.this), _whole(node.expression)
            if a is None or b is None or (b == 0 and isinstance(node, exp.IntDiv)):
                return None
            return _WHOLE[type(node)](a, b)
    return None


_WHOLE: dict[type[exp.Expr], Callable[[int, int], int]] = {
    exp.Add: operator.add,
    exp.Sub: operator.sub,
    exp.Mul: operator.mul,
    exp.IntDiv: operator.floordiv,
}


def _arguments(node: exp.Expr) -> Sequence[exp.Expr]:
    if isinstance(node, exp.Anonymous):
        return list(node.expressions)
    values: list[exp.Expr] = []
    for value in node.args.values():
        if isinstance(value, exp.Expr):
            values.append(value)
        elif isinstance(value, list):
            values.extend(v for v in value if isinstance(v, exp.Expr))
    return values
