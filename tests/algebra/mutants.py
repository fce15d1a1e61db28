"""Lifted queries broken systematically where they speak of time."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlglot import exp

from relann.algebra.nodes import Aggregate, Join, Map, Node, Query, Select, Window, passed
from relann.algebra.terms import Content, Term, column, parsed
from relann.errors import SchemaError

ALWAYS = Content("TIMESTAMP '0001-01-01 00:00:00'", "TIMESTAMP")
_FLIPPED = {exp.LTE: exp.GTE, exp.GTE: exp.LTE, exp.EQ: exp.LTE}
_KINDS = {"left": ("inner",), "anti": ("semi",), "asof": ("inner", "left"), "inner": ("left",)}


def mutants(root: Node) -> Iterator[tuple[str, Node]]:
    """(what was broken, the query with one node replaced)."""
    for number, node in enumerate(root.walk()):
        for what, broken in _broken(node):
            try:
                yield f"{what} in node {number}", root.transformed(_replacing(node, broken))
            except (SchemaError, KeyError):
                continue  # no query at all


def _replacing(old: Node, new: Node):
    """Bottom-up, what stands below the old node is unchanged, so it is found by identity."""
    return lambda node: new if node is old else None


def _broken(node: Node) -> Iterator[tuple[str, Node]]:
    try:
        match node:
            case Join():
                yield from _joins(node)
            case Select(source, predicate):
                if _timely(predicate, source):
                    yield "dropped selection", source
                for what, changed in _predicates(predicate, source):
                    yield what, Select(source, changed or Content("true", "BOOLEAN"))
            case Aggregate(source, by, outputs):
                for key in by:
                    if _is_time(node, key):
                        rest = tuple(k for k in by if k != key)
                        kept = Content(f'max("{key}")', "TIMESTAMP")
                        made = Aggregate(source, rest, (*outputs, (key, kept)))
                        back = tuple((c.name, passed(c)) for c in node.columns)
                        yield f"dropped {key} from GROUP BY", Map(made, back)
            case Window(source, outputs):
                for number, (name, over) in enumerate(outputs):
                    for key in over.partition:
                        if _is_time(node, key):
                            kept_keys = tuple(k for k in over.partition if k != key)
                            changed = type(over)(over.how, over.column, kept_keys, over.order)
                            fresh = (*outputs[:number], (name, changed), *outputs[number + 1 :])
                            yield f"dropped {key} from PARTITION BY", Window(source, fresh)
            case Map():
                yield from _maps(node)
            case Query(sql):
                for what, text in _texts(sql):
                    yield what, Query(text, node.columns, node.tables, node.inputs)
    except SchemaError:
        return


def _joins(node: Join) -> Iterator[tuple[str, Node]]:
    both = Join(node.left, node.right)
    if node.on is not None:
        for what, changed in _predicates(node.on, both):
            kind = "left" if node.kind == "asof_left" else node.kind
            kind = "inner" if kind == "asof" else kind
            on = changed or (None if kind == "inner" else Content("true", "BOOLEAN"))
            yield f"{what} of {node.kind} join", Join(node.left, node.right, kind, on)
        for kind in _KINDS.get(node.kind, ()):
            yield f"{kind} for {node.kind} join", Join(node.left, node.right, kind, node.on)


def _maps(node: Map) -> Iterator[tuple[str, Node]]:
    times = [c.name for c in node.source.columns if _is_time(node.source, c.name)]
    for number, (name, value) in enumerate(node.outputs):

        def other(fresh: Content | Term, at: int = number, of: str = name) -> Node:
            return Map(node.source, (*node.outputs[:at], (of, fresh), *node.outputs[at + 1 :]))

        if isinstance(value, Content) and value.type == "TIMESTAMP":
            yield f"{name} is always", other(ALWAYS)
            for found in times:
                if found != value.field:
                    yield f"{name} is {found}", other(column(found, "TIMESTAMP"))
            if "GREATEST" in value.sql.upper():
                yield (
                    "least",
                    other(Content(value.sql.lower().replace("greatest", "least"), "TIMESTAMP")),
                )
        if isinstance(value, Content) and value.windowed:
            tree = value.expression.copy()
            for window in tree.find_all(exp.Window):
                keys = window.args["partition_by"]
                kept = [k for k in keys if not _is_time(node.source, k.name)]
                window.set("partition_by", kept)
            changed = Content(tree.sql(dialect="duckdb"), value.type)
            if changed is not value:
                yield f"dropped times from PARTITION BY of {name}", other(changed)


def _predicates(predicate: Content, source: Node) -> Iterator[tuple[str, Content | None]]:
    """The predicate without each conjunct about times, with it turned around, with a later end."""
    parts = list(_conjuncts(predicate.expression))
    for number, part in enumerate(parts):
        if not _timely(Content(part.sql(dialect="duckdb"), "BOOLEAN"), source):
            continue
        text = part.sql(dialect="duckdb")
        rest = [p for i, p in enumerate(parts) if i != number]
        yield f"dropped {text}", _all(rest)
        if type(part) in _FLIPPED:
            turned = _FLIPPED[type(part)](this=part.this.copy(), expression=part.expression.copy())
            yield f"turned {text}", _all([*rest, turned])
        later = re.sub(r"'20\d\d-", "'2031-", text)
        if later != text:
            yield (
                f"later end in {text}",
                Content(
                    " AND ".join(
                        f"({p})" for p in [*(r.sql(dialect="duckdb") for r in rest), later]
                    ),
                    "BOOLEAN",
                ),
            )


def _texts(sql: str) -> Iterator[tuple[str, str]]:
    """A text without each condition on the anchor, and with it turned around."""
    conditions = [
        c
        for c in parsed(sql).find_all(exp.LTE, exp.EQ)
        if '"anchors asked for".' in c.sql("duckdb")
    ]
    for number, condition in enumerate(conditions):
        for what, fresh in (
            ("dropped", exp.true()),
            (
                "turned",
                _FLIPPED[type(condition)](this=condition.this, expression=condition.expression),
            ),
        ):
            tree = parsed(sql).copy()
            found = [
                c
                for c in tree.find_all(exp.LTE, exp.EQ)
                if '"anchors asked for".' in c.sql("duckdb")
            ]
            found[number].replace(fresh.copy())
            yield f"{what} {condition.sql('duckdb')}", tree.sql("duckdb")


def _all(parts: list[exp.Expr]) -> Content | None:
    text = " AND ".join(f"({p.sql(dialect='duckdb')})" for p in parts)
    return Content(text, "BOOLEAN") if parts else None


def _conjuncts(predicate: exp.Expr) -> Iterator[exp.Expr]:
    predicate = predicate.unnest()
    if isinstance(predicate, exp.And):
        yield from _conjuncts(predicate.left)
        yield from _conjuncts(predicate.right)
    else:
        yield predicate


def _timely(predicate: Content, source: Node) -> bool:
    return any(_is_time(source, name) for name in predicate.columns)


def _is_time(node: Node, name: str) -> bool:
    return node.by_name[name].type in ("TIMESTAMP", "DATE")
