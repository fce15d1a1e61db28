"""What a lifted query means: obvious loops over rows, every embedding a vector of float64.

Straight from the definitions of the nodes and terms, with nothing of `relann.provenance`; content
is the reference engine's. Gradients are autograd's through the same loops.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import torch
from torch import Tensor

from relann.algebra.engines.interpreter.comparing import identity, ordering
from relann.algebra.engines.interpreter.scalar import truth
from relann.algebra.engines.reference import (
    DatabaseTables,
    GivenTables,
    Leaves,
    Row,
    grouped,
    reduced,
    rows_of,
    values,
)
from relann.algebra.nodes import Aggregate, Map, Node, Over, Reduce, Window
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
)

Vector = Tensor | None
"""One row's embedding, `width` numbers; None is NULL."""

Vocabulary = Mapping[tuple[Any, ...], int]
"""Row of a parameter for each value of a key (see `key_values`); values not in it are unseen."""

EPSILON = 1e-5
"""Added to variances by both norms."""


@dataclass
class Fitted:
    """What is known from training rows, from outside.

    vocabularies  site → Vocabulary
    encoders      site of an Encode → its vector for one content value, NULL included
    bucket        row of a Tokens table for a word
    texts         name of a pretrained encoder → its vector for a text that is not blank
    """

    vocabularies: Mapping[str, Vocabulary] = field(default_factory=dict)
    encoders: Mapping[str, Callable[[Any], Sequence[float]]] = field(default_factory=dict)
    bucket: Callable[[str], int] = lambda word: 0
    texts: Mapping[str, Callable[[str], Sequence[float]]] = field(default_factory=dict)


def meaning(
    node: Node,
    tables: Mapping[str, Sequence[Row]] | duckdb.DuckDBPyConnection,
    parameters: Mapping[str, Tensor],
    fitted: Fitted | None = None,
) -> list[Row]:
    """The rows of a lifted query: content as the reference engine's values, embeddings as vectors.

    `parameters` are float64 arrays by name; those of `per` and embeddings have a leading axis, one
    entry for each value of the vocabulary. Dropout is that of evaluation, batch norm that of
    training over all rows.
    """
    return _Oracle(_leaves(tables), parameters, fitted or Fitted()).rows(node)


def key_values(
    node: Node, tables: Mapping[str, Sequence[Row]] | duckdb.DuckDBPyConnection
) -> dict[str, dict[tuple[Any, ...], int]]:
    """For each site of a vocabulary the key values its rows hold, and how often each."""
    oracle = _Keys(_leaves(tables))
    oracle.rows(node)
    return oracle.seen


def parameters_of(node: Node, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Shapes of all parameters of a query by name; `sizes` are the vocabularies' sizes by site."""
    shapes: dict[str, tuple[int, ...]] = {}
    for inner in node.walk():
        for _, value in inner.outputs if isinstance(inner, Map) else ():
            for term in value.walk() if isinstance(value, Term) else ():
                key = term.key if isinstance(term, Lookup) else getattr(term, "per", None)
                lead = () if key is None else (sizes[key.site],)
                for p in (v for v in vars(term).values() if isinstance(v, Parameter)):
                    assert shapes.setdefault(p.name, lead + p.shape) == lead + p.shape
    return shapes


def _leaves(tables: Mapping[str, Sequence[Row]] | duckdb.DuckDBPyConnection) -> Leaves:
    given = isinstance(tables, Mapping)
    return GivenTables(tables) if given else DatabaseTables(tables)


def key_of(key: Key, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """The key's value on each row: one entry for each part, None for NULL."""
    parts = [values(part, rows) for part in key.parts]
    return [tuple(identity(p[i]) for p in parts) for i in range(len(rows))]


class _Oracle:
    def __init__(self, leaves: Leaves, parameters: Mapping[str, Tensor], fitted: Fitted) -> None:
        self.leaves = leaves
        self.parameters = parameters
        self.fitted = fitted

    def rows(self, node: Node) -> list[Row]:
        """The rows of a query, shared sub-queries once."""
        done: dict[Node, list[Row]] = {}
        for inner in node.walk():
            sources = [done[s] for s in inner.sources]
            match inner:
                case Map():
                    done[inner] = self.map(inner, sources[0])
                case Aggregate():
                    done[inner] = self.aggregate(inner, sources[0])
                case Window():
                    done[inner] = self.window(inner, sources[0])
                case _:
                    done[inner] = rows_of(inner, sources, self.leaves)
        return done[node]

    def map(self, node: Map, rows: list[Row]) -> list[Row]:
        """Each expression row by row."""
        known: dict[Term, list[Vector]] = {}
        columns = {
            name: values(v, rows) if isinstance(v, Content) else self.term(v, rows, known)
            for name, v in node.outputs
        }
        return [{name: column[i] for name, column in columns.items()} for i in range(len(rows))]

    def aggregate(self, node: Aggregate, rows: list[Row]) -> list[Row]:
        """One row for each group."""
        out = []
        for keys, members in grouped(rows, node.by):
            row = dict(keys)
            for name, value in node.outputs:
                if isinstance(value, Content):
                    row[name] = reduced(value, members, node.source.names)
                else:
                    row[name] = reduce(value, members)
            out.append(row)
        return out

    def window(self, node: Window, rows: list[Row]) -> list[Row]:
        """The same rows, each with the reductions over its partition."""
        out = [dict(row) for row in rows]
        for name, over in node.outputs:
            for i, row in enumerate(rows):
                part = [r for r in rows if _same_keys(r, row, over.partition)]
                out[i][name] = window_value(over, row, part)
        return out

    def term(self, term: Term, rows: list[Row], known: dict[Term, list[Vector]]) -> list[Vector]:
        """The term's vector on each row."""
        if term not in known:
            arguments = [self.term(c, rows, known) for c in term.children]
            known[term] = self.operation(term, arguments, rows)
        return known[term]

    def operation(self, term: Term, arguments: list[list[Vector]], rows: list[Row]) -> list[Vector]:
        """One operation on the vectors of its arguments."""
        match term:
            case Field(name):
                return [row[name] for row in rows]
            case Lift(content):
                return [lifted(v) for v in values(content, rows)]
            case Constant(value):
                return [vector([value])] * len(rows)
            case Apply(operation):
                return strict(ELEMENTWISE[operation], arguments)
            case Linear(_, weight, bias, per, heads, part):
                weights = self.sets(weight, per, rows)
                if part is not None:
                    weights = [w[part[0] : part[1]] for w in weights]
                biases = self.sets(bias, per, rows) if bias is not None else None
                return [
                    None if x is None else by_head(x, w, heads) + (biases[i] if biases else 0)
                    for i, (x, w) in enumerate(zip(arguments[0], weights, strict=True))
                ]
            case Learned(parameter, per):
                return list(self.sets(parameter, per, rows))
            case Lookup(table, key):
                return list(self.sets(table, key, rows))
            case Encode(_, site, content):
                encode = self.fitted.encoders[site]
                return [vector(encode(v)) for v in values(content, rows)]
            case Tokens(table, content):
                return [self.tokens(self.parameters[table.name], v) for v in values(content, rows)]
            case Pretrained(encoder, _, weight, bias, content):
                w, b = self.parameters[weight.name], self.parameters[bias.name]
                encode = self.fitted.texts[encoder]
                texts = values(content, rows)
                return [vector(encode(t)) @ w + b if t and t.strip() else b for t in texts]
            case Dot(_, _, heads):
                return strict(
                    lambda a, b: torch.cat([sum_of(s) for s in slices(a * b, heads)]), arguments
                )
            case Scale():
                return strict(
                    lambda x, f: torch.cat([s * f[i] for i, s in enumerate(slices(x, len(f)))]),
                    arguments,
                )
            case LeakyRelu(_, slope):
                return strict(_where_positive(lambda e: e, lambda e: e * slope), arguments)
            case Concat():
                return strict(lambda *parts: torch.cat(parts), arguments)
            case Coalesce():
                return [first(vectors, term.width) for vectors in zip(*arguments, strict=True)]
            case Normalize():
                return strict(normalized, arguments)
            case Dropout():
                return arguments[0]
            case Norm(kind, _, scale, shift):
                a, b = self.parameters[scale.name], self.parameters[shift.name]
                if kind == "layer":
                    return strict(lambda x: standardised(x, list(x)) * a + b, arguments)
                seen = [x for x in arguments[0] if x is not None]
                return strict(lambda x: standardised(x, seen) * a + b, arguments)
        raise AssertionError(f"the oracle does not know {type(term).__name__}")

    def sets(self, parameter: Parameter, per: Key | None, rows: list[Row]) -> list[Tensor]:
        """The parameter for each row: one for all, or the set of the row's key; unseen: zeros."""
        array = self.parameters[parameter.name]
        if per is None:
            return [array] * len(rows)
        vocabulary = self.fitted.vocabularies[per.site]
        zeros = torch.zeros(parameter.shape, dtype=torch.float64)
        return [array[vocabulary[k]] if k in vocabulary else zeros for k in key_of(per, rows)]

    def tokens(self, table: Tensor, text: str | None) -> Tensor:
        """The mean of the words' rows."""
        words = re.findall(r"[^\W_]+", (text or "").lower())
        if not words:
            return torch.zeros(table.shape[1], dtype=torch.float64)
        total = table[self.fitted.bucket(words[0])]
        for word in words[1:]:
            total = total + table[self.fitted.bucket(word)]
        return total / len(words)


class _Keys(_Oracle):
    """Notes key values instead of computing embeddings."""

    def __init__(self, leaves: Leaves) -> None:
        super().__init__(leaves, {}, Fitted())
        self.seen: dict[str, dict[tuple[Any, ...], int]] = {}

    def operation(self, term: Term, arguments: list[list[Vector]], rows: list[Row]) -> list[Vector]:
        """NULL everywhere."""
        key = term.key if isinstance(term, Lookup) else getattr(term, "per", None)
        if key is not None:
            counts = self.seen.setdefault(key.site, {})
            for value in key_of(key, rows):
                counts[value] = counts.get(value, 0) + 1
        return [None] * len(rows)


# -- vectors -------------------------------------------------------------------------------------


def vector(numbers: Sequence[float]) -> Tensor:
    """The numbers as float64."""
    return torch.tensor([float(n) for n in numbers], dtype=torch.float64)


def lifted(value: Any) -> Vector:
    """A number as a vector of width 1, a list as one of its width."""
    if value is None:
        return None
    return vector(value if isinstance(value, tuple) else [value])


def strict(function: Callable[..., Tensor], arguments: list[list[Vector]]) -> list[Vector]:
    """The function row by row, NULL where any argument is."""
    return [
        None if any(v is None for v in vectors) else function(*vectors)
        for vectors in zip(*arguments, strict=True)
    ]


def slices(x: Tensor, count: int) -> list[Tensor]:
    """The vector cut into so many equal slices."""
    size = len(x) // count
    return [x[i * size : (i + 1) * size] for i in range(count)]


def by_head(x: Tensor, weight: Tensor, heads: int) -> Tensor:
    """x·W; with heads each slice of x times its own matrix."""
    if heads == 1:
        return x @ weight
    return torch.cat([s @ weight[i] for i, s in enumerate(slices(x, heads))])


def sum_of(x: Tensor) -> Tensor:
    """All elements added, width 1."""
    total = x[0:1]
    for i in range(1, len(x)):
        total = total + x[i : i + 1]
    return total


def first(vectors: Sequence[Vector], width: int) -> Vector:
    """The first that is not NULL, a single number repeated to the width."""
    for x in vectors:
        if x is not None:
            return x.expand(width)
    return None


def normalized(x: Tensor) -> Tensor:
    """x / max(‖x‖₂, 1e-12); the norm of zero has gradient 0."""
    square = sum_of(x * x)
    if square.item() <= 1e-24:
        return x / 1e-12
    return x / torch.sqrt(square)


def standardised(x: Tensor, seen: list[Tensor]) -> Tensor:
    """(x − mean) / √(variance + ε), mean and variance those of what was seen (not the sample's)."""
    mean = seen[0]
    for y in seen[1:]:
        mean = mean + y
    mean = mean / len(seen)
    variance = (seen[0] - mean) ** 2
    for y in seen[1:]:
        variance = variance + (y - mean) ** 2
    return (x - mean) / torch.sqrt(variance / len(seen) + EPSILON)


def _gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def _where_positive(
    positive: Callable[[Tensor], Tensor], otherwise: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    def chosen(x: Tensor) -> Tensor:
        return torch.stack([positive(e) if e.item() > 0 else otherwise(e) for e in x])

    return chosen


ELEMENTWISE: dict[str, Callable[..., Tensor]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda x: -x,
    "relu": _where_positive(lambda e: e, lambda e: e * 0),
    "elu": _where_positive(lambda e: e, lambda e: torch.exp(e) - 1),
    "abs": lambda x: x * torch.sign(x.detach()),
    "gelu": _gelu,
    "tanh": torch.tanh,
    "sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
}


# -- reductions ----------------------------------------------------------------------------------


def reduce(by: Reduce, rows: Sequence[Row]) -> Vector:
    """The reduction over the group's rows, NULLs and rows not `where` left out."""
    kept = [row for row in rows if by.where is None or truth(row[by.where]) is True]
    return REDUCTIONS[by.how]([row[by.column] for row in kept if row[by.column] is not None])


def window_value(over: Over, row: Row, partition: Sequence[Row]) -> Vector:
    """The row's value of a window over its partition."""
    if over.how == "softmax":
        if row[over.column] is None:
            return None
        scores = [r[over.column] for r in partition if r[over.column] is not None]
        total = torch.exp(scores[0] - row[over.column])
        for score in scores[1:]:
            total = total + torch.exp(score - row[over.column])
        return 1 / total
    covered = [r for r in partition if _at_or_before(r, row, over)]
    return REDUCTIONS[over.how]([r[over.column] for r in covered if r[over.column] is not None])


def _same_keys(a: Row, b: Row, keys: Sequence[str]) -> bool:
    return all(identity(a[k]) == identity(b[k]) for k in keys)


def _at_or_before(a: Row, b: Row, over: Over) -> bool:
    """Whether row a is before row b in the window's order, or ties with it."""
    for column, descending, nulls_first in over.order:
        key = ordering(descending, nulls_first)
        if key(a[column]) != key(b[column]):
            return bool(key(a[column]) < key(b[column]))
    return True


def _total(xs: list[Tensor]) -> Vector:
    if not xs:
        return None
    total = xs[0]
    for x in xs[1:]:
        total = total + x
    return total


def _mean(xs: list[Tensor]) -> Vector:
    total = _total(xs)
    return None if total is None else total / len(xs)


def _deviation(xs: list[Tensor]) -> Vector:
    """The sample's standard deviation; where it is 0 its gradient is 0."""
    if len(xs) < 2:
        return None
    mean = _mean(xs)
    squares = _total([(x - mean) ** 2 for x in xs])
    assert squares is not None
    return torch.stack([torch.sqrt(s) if s.item() > 0 else s * 0 for s in squares / (len(xs) - 1)])


def _extreme(pick: Callable[[list[float]], float]) -> Callable[[list[Tensor]], Vector]:
    """Element by element; elements that tie share the gradient equally."""

    def extreme(xs: list[Tensor]) -> Vector:
        if not xs:
            return None
        out = []
        for elements in zip(*xs, strict=True):
            best = pick([e.item() for e in elements])
            ties = [e for e in elements if e.item() == best]
            out.append(sum(ties[1:], ties[0]) / len(ties))
        return torch.stack(out)

    return extreme


REDUCTIONS: dict[str, Callable[[list[Tensor]], Vector]] = {
    "sum": _total,
    "avg": _mean,
    "min": _extreme(min),
    "max": _extreme(max),
    "count": lambda xs: vector([len(xs)]),
    "stddev": _deviation,
}
