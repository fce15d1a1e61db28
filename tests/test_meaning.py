"""What runs is what a query means: values and gradients against the oracle, in float64.

Drawn queries and databases go from text to nodes; the oracle's answer on those nodes is compared
with the real path on every engine, before rewriting and after rewriting under row estimates that
make rewrites fire whether they pay or not.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import torch
from hypothesis import Phase, given, settings
from torch import Tensor

from relann.algebra import rowmaps
from relann.algebra.engines.interpreter.casts import to_arrow
from relann.algebra.engines.interpreter.comparing import identity
from relann.algebra.lower import lower
from relann.algebra.marking import marked
from relann.algebra.nodes import Map, Node
from relann.algebra.optimize import optimise
from relann.algebra.statistics import Statistics
from relann.algebra.terms import Dropout, Encode, Norm, Pretrained, Term
from relann.provenance.encoders import Encoders
from relann.provenance.module import QueryModule
from relann.provenance.pretrained import load
from relann.provenance.texts import VECTORS
from relann.provenance.words import Words
from relann.schema import Catalog
from tests.algebra.test_engines import ENGINES
from tests.fixtures import bound
from tests.oracle import Fitted, key_values, meaning, parameters_of
from tests.strategies import Database, databases, lifted_queries, rewritable_queries

Entry = tuple[str, Any]
"""A parameter's name, and the key value of its set (None: the only one)."""


@dataclass
class Answer:
    """Rows with their embeddings (None: NULL), and the gradient of `loss` for each parameter set.

    Gradients that are zero everywhere are left out.
    """

    rows: list[tuple[tuple[str, ...], tuple[tuple[float, ...] | None, ...]]]
    gradients: dict[Entry, np.ndarray]


def number(*parts: object) -> float:
    """A number in −1 … 1 that depends on the parts only."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**63 - 1


def weights(entry: Entry, shape: tuple[int, ...]) -> Tensor:
    """Start values of one set of a parameter: the same wherever it is asked for."""
    flat = [number(entry, i) for i in range(math.prod(shape))]
    return torch.tensor(flat, dtype=torch.float64).reshape(shape)


def loss(rows: list[tuple[tuple[str, ...], list[Tensor | None]]]) -> Tensor:
    """A function of all outputs that treats no two rows or elements alike unless they are."""
    total = torch.zeros((), dtype=torch.float64)
    for content, vectors in rows:
        for column, x in enumerate(vectors):
            if x is not None:
                scale = [number(content, column, i) for i in range(len(x))]
                total = total + (torch.tensor(scale, dtype=torch.float64) * torch.tanh(x)).sum()
    return total


def plain(value: Any) -> str:
    """A content value as text, the same whichever Python type it came in."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(plain, value))}]"
    try:
        return repr(round(float(value), 9) + 0.0)
    except TypeError:
        return str(value)


def oracle_answer(node: Node, con: duckdb.DuckDBPyConnection, encoders: Encoders) -> Answer:
    """What the oracle says, parameters being `weights`."""
    seen = {site: sorted(v, key=repr) for site, v in key_values(node, con).items()}
    parameters: dict[str, Tensor] = {}
    entries: dict[str, list[Entry]] = {}
    sites = sites_of(node)
    for name, shape in parameters_of(node, {s: len(v) for s, v in seen.items()}).items():
        if sites[name] is None:
            entries[name] = [(name, None)]
            parameters[name] = weights((name, None), shape)
        else:
            entries[name] = [(name, key) for key in seen[sites[name]]]
            sets = [weights(e, shape[1:]) for e in entries[name]]
            empty = torch.zeros(shape, dtype=torch.float64)
            parameters[name] = torch.stack(sets) if sets else empty
        parameters[name].requires_grad_()
    fitted = Fitted(
        {site: {key: i for i, key in enumerate(keys)} for site, keys in seen.items()},
        encoding(node, encoders),
        lambda word: int(Words.of(pa.array([word]), 1 << 14).bucket[0]),
        pretrained(node),
    )
    rows = meaning(node, con, parameters, fitted)
    found = []
    for row in rows:
        content = tuple(plain(row[c.name]) for c in node.columns if not c.learned)
        found.append((content, [row[c.name] for c in node.columns if c.learned]))
    gradients: dict[Entry, np.ndarray] = {}
    total = loss(found)
    if total.requires_grad:
        total.backward()
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            alone = sites[name] is None
            add(gradients, entries[name], parameter.grad[None] if alone else parameter.grad)
    return Answer([(c, tuple(map(listed, v))) for c, v in found], gradients)


def sites_of(node: Node) -> dict[str, str | None]:
    """For each parameter the vocabulary its leading axis follows."""
    found: dict[str, str | None] = {}
    for term in terms_of(node):
        key = getattr(term, "per", None) or getattr(term, "key", None)
        mine = {v.name for v in vars(term).values() if hasattr(v, "initial")}
        found.update(dict.fromkeys(mine, key.site if key is not None else None))
    return found


def terms_of(node: Node) -> list[Term]:
    """Every term of a query."""
    outputs = [v for n in node.walk() if isinstance(n, Map) for _, v in n.outputs]
    return [t for v in outputs if isinstance(v, Term) for t in v.walk()]


def encoding(node: Node, encoders: Encoders) -> dict[str, Callable[[Any], list[float]]]:
    """Each Encode site's vector for one value, by the encoders of the real path."""

    def of(term: Encode) -> Callable[[Any], list[float]]:
        kind = term.content.type
        return lambda value: [float(x) for x in encoders.encoded(term, to_arrow([value], kind))[0]]

    return {t.site: of(t) for t in terms_of(node) if isinstance(t, Encode)}


def pretrained(node: Node) -> dict[str, Callable[[str], list[float]]]:
    """Each text encoder's vector for one text, by the vectors of the real path."""

    def of(name: str) -> Callable[[str], list[float]]:
        return lambda text: [float(x) for x in VECTORS.of(load(name), [text])[0]]

    return {t.encoder: of(t.encoder) for t in terms_of(node) if isinstance(t, Pretrained)}


def listed(x: Tensor | None) -> tuple[float, ...] | None:
    """The numbers of a vector."""
    return None if x is None else tuple(float(e) for e in x.detach())


def add(gradients: dict[Entry, np.ndarray], entries: list[Entry], found: Tensor) -> None:
    """Note the gradient of each set, unless it is zero."""
    for entry, gradient in zip(entries, found, strict=True):
        if bool((gradient != 0).any()):
            gradients[entry] = gradient.numpy()


def real_answer(node: Node, engine: Any, encoders: Encoders | None, training: bool) -> Answer:
    """What the plan of a query gives on an engine, parameters being `weights`."""
    maps = rowmaps.build(lower(node), engine)
    plan = maps.plan
    fitted = Encoders.fit(plan, maps)
    if encoders is not None:  # statistics are of the query as it is written
        fitted.standards = encoders.standards
        fitted.periods = encoders.periods
    module = QueryModule(plan, fitted, dtype=torch.float64)
    module.train(training)
    sites = sites_of(node)
    state = module.state()
    entries: dict[str, list[Entry]] = {}
    for name in state:
        if name in sites and sites[name] is None:
            entries[name] = [(name, None)]
            state[name] = weights((name, None), tuple(state[name].shape))
        elif name in sites:
            table = fitted.vocabularies[sites[name] or ""].table
            columns = [c.to_pylist() for c in table.columns[:-1]]
            keys = [tuple(identity(v) for v in key) for key in zip(*columns, strict=True)]
            entries[name] = [(name, key) for key in keys]
            shape = tuple(state[name].shape[1:])
            sets = [weights(e, shape) for e in entries[name]]
            state[name] = torch.stack(sets) if sets else state[name]
    module.load(state)
    values = module(module.bind(maps))
    contents = [maps.columns[plan.output, c].to_pylist() for _, c in plan.contents]
    found: list[tuple[tuple[str, ...], list[Tensor | None]]] = []
    for i in range(maps.counts[plan.output]):
        content = tuple(plain(c[i]) for c in contents)
        vectors = [x[i] if valid is None or valid[i] else None for x, valid in values]
        found.append((content, vectors))
    gradients: dict[Entry, np.ndarray] = {}
    total = loss(found)
    if total.requires_grad:
        total.backward()
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            alone = sites[name] is None
            add(gradients, entries[name], parameter.grad[None] if alone else parameter.grad)
    return Answer([(c, tuple(map(listed, v))) for c, v in found], gradients)


def check(mine: Answer, wanted: Answer, where: str) -> None:
    """The same bag of rows and the same gradients, up to rounding."""

    def key(row: tuple[tuple[str, ...], tuple[tuple[float, ...] | None, ...]]) -> Any:
        vectors = [None if v is None else [round(x, 6) + 0.0 for x in v] for v in row[1]]
        return repr((row[0], vectors))

    rows, others = sorted(mine.rows, key=key), sorted(wanted.rows, key=key)
    assert len(rows) == len(others), f"{where}: {len(rows)} rows, the oracle has {len(others)}"
    for row, other in zip(rows, others, strict=True):
        assert row[0] == other[0], f"{where}: {row}, the oracle has {other}"
        for x, y in zip(row[1], other[1], strict=True):
            close = x is None if y is None or x is None else np.allclose(x, y, 1e-8, 1e-8)
            assert close and (x is None) == (y is None), f"{where}: {row}, the oracle has {other}"
    size = max((float(np.abs(g).max()) for g in wanted.gradients.values()), default=1.0)
    for entry in {**mine.gradients, **wanted.gradients}:
        g, h = mine.gradients.get(entry), wanted.gradients.get(entry)
        a, b = (np.zeros(1) if v is None else v for v in (g, h))
        near = np.allclose(a, b, 1e-6, 1e-8 * max(1.0, size))
        assert near, f"{where}: gradient of {entry} is {g}, the oracle says {h}"


def fanciful(estimates: Mapping[str, int] | None = None) -> Statistics:
    """Row counts that have nothing to do with the data: any rewrite may seem to pay."""
    return Statistics(
        lambda sql: int(10 ** (3 + 3 * number("rows", sql))),
        lambda sql, columns: (100, int(50 + 50 * number("distinct", sql))),
    )


def check_everywhere(database: Database, sql: str) -> None:
    """Every engine, before and after rewriting."""
    con = database.connect()
    node = bound(con, sql)
    kinds = {(type(t), getattr(t, "kind", "")) for t in terms_of(node)}
    training = (Norm, "batch") in kinds
    if training and (Dropout, "") in kinds:
        return  # the oracle trains batch norm and evaluates dropout; the module does one of both
    maps = rowmaps.build(lower(node), ENGINES["duckdb"](con))
    plan = maps.plan
    encoders = Encoders.fit(plan, maps)
    wanted = oracle_answer(node, con, encoders)
    for name, make in ENGINES.items():
        check(real_answer(node, make(con), encoders, training), wanted, name)
    duck = ENGINES["duckdb"](con)
    seen: set[Node] = {node}
    for label, statistics in (
        ("as estimated", Statistics(lambda sql: 3)),
        ("rewritten", fanciful()),
        (
            "rows explode",
            Statistics(lambda sql: 10 ** (1 + sql.count("JOIN")), lambda sql, columns: (10, 1)),
        ),
        ("rows collapse", Statistics(lambda sql: 10 ** (6 - min(5, sql.count("SELECT"))))),
    ):
        optimised = optimise(node, statistics)
        if optimised.node not in seen:
            seen.add(optimised.node)
            where = f"{label}, after {', '.join(optimised.fired)}"
            check(real_answer(optimised.node, duck, encoders, training), wanted, where)


BOUNDED = (Phase.explicit, Phase.generate)
"""Without shrinking, which takes minutes here: a failure shows its query and rows as drawn."""


@settings(max_examples=100, phases=BOUNDED)
@given(databases(), lifted_queries())
def test_drawn_queries_run_as_they_mean(database: Database, sql: str) -> None:
    """Any query the language has."""
    check_everywhere(database, sql)


@settings(max_examples=60, phases=BOUNDED)
@given(databases(), lifted_queries())
def test_marking_keeps_the_meaning(database: Database, sql: str) -> None:
    """Naming the tuples behind each row changes neither values nor gradients."""
    con = database.connect()
    node, duck = bound(con, sql), ENGINES["duckdb"](con)
    wanted = real_answer(node, duck, None, training=False)
    check(real_answer(marked(node, Catalog(con)), duck, None, training=False), wanted, "marked")


@settings(max_examples=150, phases=BOUNDED)
@given(databases(), rewritable_queries())
def test_rewrites_keep_the_meaning(database: Database, sql: str) -> None:
    """Queries shaped like the left side of a rewrite, or nearly."""
    check_everywhere(database, sql)
