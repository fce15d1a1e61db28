"""Content queries as DuckDB SQL: the one place where nodes become text a database runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from relann.algebra.nodes import (
    Aggregate,
    Alias,
    Join,
    Map,
    Node,
    Query,
    Scan,
    Select,
    Union,
    Window,
)
from relann.algebra.plan import Held
from relann.algebra.terms import Content, quoted
from relann.errors import PlanError

_JOINS = {
    "inner": "JOIN",
    "left": "LEFT JOIN",
    "full": "FULL JOIN",
    "semi": "SEMI JOIN",
    "anti": "ANTI JOIN",
    "asof": "ASOF JOIN",
    "asof_left": "ASOF LEFT JOIN",
}


def content_side(node: Node) -> Node:
    """The query with everything learned left out: the same rows, content columns only."""

    done: dict[Node, Node] = {}
    for inner in node.walk():
        match inner:
            case Map(source, outputs):
                kept = tuple((n, v) for n, v in outputs if isinstance(v, Content))
                done[inner] = Map(done[source], kept)
            case Aggregate(source, by, outputs):
                counted = tuple((n, v) for n, v in outputs if isinstance(v, Content))
                done[inner] = Aggregate(done[source], by, counted)
            case Window(source, _):
                done[inner] = done[source]
            case _:
                done[inner] = inner.rebuilt(tuple(done[s] for s in inner.sources))
    return done[node]


def _nothing_held(held: Held) -> str:
    raise PlanError(f"space {held.space} is not materialised here")


def node_to_sql(
    node: Node,
    held_to_sql: Callable[[Held], str] = _nothing_held,
    known: Mapping[Node, str] | None = None,
    materialised: bool = False,
    prefix: str = "s",
) -> str:
    """A content-only node as one SELECT; nodes read twice become common table expressions.

    `held_to_sql` names the relation that holds the rows of an earlier space, `known` the relations
    that hold the rows of nodes. Names of common tables begin with `prefix`, and `materialised` says
    that the database is to work out each of them once.
    """
    names = dict(known or {})
    read = list(node.walk(names))
    uses = Counter(source for n in read if n not in names for source in n.sources)
    shared: list[str] = []
    how = "MATERIALIZED " if materialised else ""

    def source(of: Node) -> str:
        return names[of] if of in names else f"({body(of)})"

    def body(of: Node) -> str:
        match of:
            case Held():
                return f"SELECT {_columns(of)} FROM {held_to_sql(of)}"
            case Scan(table):
                return f"SELECT {_columns(of)} FROM {table}"
            case Query(sql, _, _, inputs):
                if not inputs:
                    return f"SELECT {_columns(of)} FROM ({sql})"
                # two levels, so that a name given to one input may mean a table in another
                below = ", ".join(
                    f'"relann input {i}" AS (SELECT {_columns(given)} FROM {source(given)})'
                    for i, (_, given) in enumerate(inputs)
                )
                names_of = ", ".join(
                    f'{quoted(name)} AS (SELECT * FROM "relann input {i}")'
                    for i, (name, _) in enumerate(inputs)
                )
                whole = f"WITH {names_of} SELECT * FROM ({sql})"
                return f"WITH {below} SELECT {_columns(of)} FROM ({whole})"
            case Alias(inner, _):
                pairs = zip(inner.names, of.names, strict=True)
                renamed = ", ".join(f"{quoted(old)} AS {quoted(new)}" for old, new in pairs)
                return f"SELECT {renamed or '1 AS one'} FROM {source(inner)}"
            case Select(inner, predicate):
                return f"SELECT * FROM {source(inner)} WHERE {predicate.sql}"
            case Map(inner, outputs):
                return f"SELECT {_outputs(outputs)} FROM {source(inner)}"
            case Join(left, right, "inner", None):
                return f"SELECT * FROM {source(left)} CROSS JOIN {source(right)}"
            case Join(left, right, kind, Content() as on):
                return f"SELECT * FROM {source(left)} {_JOINS[kind]} {source(right)} ON {on.sql}"
            case Aggregate(inner, (_, *_) as by, outputs) if len(outputs) > _WIDE:
                return _aggregate_by_parts(source(inner), by, outputs)
            case Aggregate(inner, by, outputs):
                keys = [quoted(k) for k in by]
                select = ", ".join([*keys, *([_outputs(outputs)] if outputs else [])])
                if not keys:  # one row, also of none
                    return f"SELECT {select or 'count(*) AS one'} FROM {source(inner)}"
                return f"SELECT {select} FROM {source(inner)} GROUP BY {', '.join(keys)}"
            case Union(parts):
                return " UNION ALL ".join(f"SELECT {_columns(p)} FROM {source(p)}" for p in parts)
        raise PlanError(f"{type(of).__name__} has no meaning in SQL")

    if node in names:
        return f"SELECT {_columns(node)} FROM {names[node]}"
    for inner in read:
        if uses[inner] > 1 and inner not in names and not isinstance(inner, Scan | Held):
            text = body(inner)
            names[inner] = quoted(f"{prefix}{len(names)}")
            shared.append(f"{names[inner]} AS {how}({text})")
    between = "\n" if materialised else " "
    whole = body(node)
    if not shared:
        return whole
    if whole.startswith("WITH "):
        whole = f"SELECT * FROM ({whole})"
    return f"WITH {f',{between}'.join(shared)}{between}{whole}"


_WIDE = 32
"""How many aggregates a group has at once. The time of DuckDB's hash table grows with the square
of its width: 640 aggregates over 600,000 rows in 12,800 groups take 25.6 s together, 1.8 s 32 by 32
and 2.7 s 64 by 64 (DuckDB 2.0.0, 2 cores, 2026-11-21)."""


def _aggregate_by_parts(
    rows: str, by: tuple[str, ...], outputs: tuple[tuple[str, object], ...]
) -> str:
    """A group-by of many aggregates as several of a few, joined by the keys."""
    keys = ", ".join(quoted(k) for k in by)
    parts, joins = [], ""
    for number, first in enumerate(range(0, len(outputs), _WIDE)):
        some = _outputs(outputs[first : first + _WIDE])
        parts.append(f'"part {number}" AS (SELECT {keys}, {some} FROM "rows" GROUP BY {keys})')
        if number:
            same = " AND ".join(
                f'"part 0".{quoted(k)} IS NOT DISTINCT FROM "part {number}".{quoted(k)}' for k in by
            )
            joins += f' JOIN "part {number}" ON {same}'
    names = [f'"part 0".{quoted(k)}' for k in by] + [quoted(n) for n, _ in outputs]
    with_ = f'"rows" AS MATERIALIZED (SELECT * FROM {rows}), {", ".join(parts)}'
    return f'WITH {with_} SELECT {", ".join(names)} FROM "part 0"{joins}'


def _columns(node: Node) -> str:
    return ", ".join(quoted(n) for n in node.names) or "1 AS one"


def _outputs(outputs: tuple[tuple[str, object], ...]) -> str:
    parts = []
    for name, value in outputs:
        if not isinstance(value, Content):
            raise PlanError(f"`{name}` is learned; the database computes content only")
        parts.append(f"{value.sql} AS {quoted(name)}")
    return ", ".join(parts) or "1 AS one"
