"""What a query left to the database reads, and up to which time it reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlglot import exp

from relann.algebra.nodes import Column, Node
from relann.algebra.terms import quoted
from relann.algebra.time_order import Moment, moment

_WITHOUT_DATA = frozenset({"range", "generate_series", "unnest"})
_PLAIN_SELECT = frozenset({"expressions", "from_", "where"})
_PLAIN_TABLE = frozenset({"this", "db", "catalog"})

Now = tuple[str, str]
"""The anchor of a query run once for each, as (relation, column)."""


@dataclass(frozen=True)
class Lateral:
    """`SELECT now AS anchor, q.* FROM asked, LATERAL (body) AS q`."""

    asked: str
    column: str
    anchor: str
    now: Now
    body: exp.Expr


@dataclass(frozen=True)
class Reading:
    """One place where a text reads a table, quoted, or a relation `given` to it by name.

    upto    what of it is read only where it is at or before the anchor
    ends    what of it is read only where it is at or before a fixed time
    reason  why it is not read up to the anchor, where it is not
    opaque  whether it is a function, of which nothing is known
    """

    table: str
    given: bool = False
    upto: tuple[Moment, ...] = ()
    ends: Mapping[Moment, tuple[datetime, ...]] = field(default_factory=dict)
    reason: str = ""
    opaque: bool = False


def lateral(tree: exp.Expr, inputs: Mapping[str, Node]) -> Lateral | None:
    """The parts of a query that is run once for each anchor; None where a text is another one."""
    if not isinstance(tree, exp.Select) or _used(tree) - {"expressions", "from_", "joins"}:
        return None
    asked, joins, values = tree.args["from_"].this, tree.args.get("joins") or [], tree.expressions
    if not isinstance(asked, exp.Table) or asked.name not in inputs or len(joins) != 1:
        return None
    inner = joins[0].this
    if _used(joins[0]) != {"this"} or not isinstance(inner, exp.Lateral) or len(values) != 2:
        return None
    name, rest = values
    if not isinstance(name, exp.Alias) or not isinstance(name.this, exp.Column):
        return None
    now = (asked.alias_or_name, name.this.name)
    is_rest = isinstance(rest, exp.Column) and isinstance(rest.this, exp.Star)
    if name.this.table != now[0] or not is_rest or rest.table != inner.alias:
        return None
    if not isinstance(inner.this, exp.Subquery):
        return None
    return Lateral(asked.name, now[1], name.alias, now, inner.this)


def readings(
    body: exp.Expr, inputs: Mapping[str, Node], now: Now | None = None
) -> Iterator[Reading]:
    """Every place where a text reads a relation that it does not define itself."""
    shadowed = now is not None and _defines(body, now[0])
    names = {name.casefold(): name for name in inputs}
    for table in body.find_all(exp.Table):
        if isinstance(table.this, exp.Func):
            function = table.this.name if isinstance(table.this, exp.Anonymous) else ""
            known = isinstance(table.this, exp.GenerateSeries)
            if not known and function.casefold() not in _WITHOUT_DATA:
                yield Reading(table.this.sql(dialect="duckdb"), opaque=True)
            continue
        if not table.db and of_with(table, body):
            continue
        given = None if table.db else names.get(table.name.casefold())
        columns = None if given is None else inputs[given].by_name
        parts = [p for p in (table.catalog, table.db, table.name) if p]
        name = given or ".".join(map(quoted, parts))
        told = [] if shadowed else list(_conditions(table))
        low = [(_moment(a, table, columns), b) for a, b in told]
        upto = tuple(m for m, b in low if m is not None and now is not None and _is_now(b, now))
        ends: dict[Moment, tuple[datetime, ...]] = {}
        for held, bound in low:
            until = moment(bound, {})
            if held is not None and until is not None and until.at is not None:
                ends[held] = (*ends.get(held, ()), until.at)
        where = "all of it at once" if now is None else "it after the anchor as well"
        yield Reading(name, given is not None, upto, ends, f"the database is asked for {where}")


def of_with(table: exp.Table, text: exp.Expr) -> bool:
    """Whether a name is that of a WITH query of a text that can be seen from where it stands."""
    name = table.name.casefold()
    inside: exp.Expr = table
    path = {id(table)}
    while inside is not text and inside.parent is not None:
        inside = inside.parent
        path.add(id(inside))
        given = inside.args.get("with_")
        if given is None:
            continue
        ctes = given.expressions
        own = next((i for i, c in enumerate(ctes) if id(c) in path), len(ctes))
        seen = ctes[: own + 1] if given.args.get("recursive") else ctes[:own]
        if any(c.alias.casefold() == name for c in seen):
            return True
    return False


def _defines(body: exp.Expr, name: str) -> bool:
    """Whether some relation in a text has a name."""
    tables = (t.alias_or_name for t in body.find_all(exp.Table))
    aliases = (a.name for a in body.find_all(exp.TableAlias))
    return name.casefold() in {n.casefold() for n in (*tables, *aliases)}


def _conditions(table: exp.Table) -> Iterable[tuple[exp.Expr, exp.Expr]]:
    """(low, high) of each low <= high that holds for the rows of a table that go any further."""
    select = table.parent_select
    if select is None or table.parent is not select.args.get("from_"):
        return
    plain = all(isinstance(e, exp.Star | exp.Column) for e in select.expressions)
    if not plain or _used(select) - _PLAIN_SELECT or _used(table) - _PLAIN_TABLE:
        return
    where = select.args.get("where")
    if where is None:
        return
    for part in [where.this] if not isinstance(where.this, exp.And) else where.this.flatten():
        told = part.unnest()
        match told:
            case exp.LTE() | exp.LT():
                yield told.left, told.right
            case exp.GTE() | exp.GT():
                yield told.right, told.left
            case exp.EQ():
                yield told.left, told.right
                yield told.right, told.left


def _moment(
    value: exp.Expr, table: exp.Table, columns: Mapping[str, Column] | None
) -> Moment | None:
    """The value as a moment of a table's rows; its types are known where `columns` are."""
    value = value.unnest()
    inner = value.this.unnest() if type(value) is exp.Cast else value
    if not isinstance(inner, exp.Column) or inner.table not in ("", table.name):
        return None
    if columns is None:
        columns = {inner.name: Column(inner.name, type="unknown")}
    bare = value.copy()
    for column in bare.find_all(exp.Column):
        column.set("table", None)
    return moment(bare, columns)


def _is_now(value: exp.Expr, now: Now) -> bool:
    value = value.unnest()
    return isinstance(value, exp.Column) and (value.table, value.name) == now


def _used(tree: exp.Expr) -> set[str]:
    return {k for k, v in tree.args.items() if v}
