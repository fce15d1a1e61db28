"""Renamings and projections folded into one, so that other rules see what matters."""

from __future__ import annotations

from relann.algebra.nodes import Aggregate, Alias, Join, Map, Node, Select, Union, Window, passed
from relann.algebra.statistics import Statistics
from relann.algebra.terms import Apply, Constant, Content, Term


def fold_alias_into_map(node: Node, _: Statistics) -> Node | None:
    """ρ_a(π_f(q)) = π_{a.f}(q)."""
    match node:
        case Alias(Map(source, outputs), name):
            return Map(source, tuple((f"{name}.{n}", v) for n, v in outputs))
    return None


def turn_alias_into_map(node: Node, _: Statistics) -> Node | None:
    """ρ_a(q) = π_{a.c ← c}(q) above groups, windows, unions, selections and joins."""
    match node:
        case Alias(Aggregate() | Window() | Union() | Select() | Join() as source, name):
            outputs = tuple((f"{name}.{c.name}", passed(c)) for c in source.columns)
            return Map(source, outputs)
    return None


def merge_maps(node: Node, _: Statistics) -> Node | None:
    """π_f(π_g(q)) = π_{f∘g}(q), unless a window of f would see other rows than before."""
    match node:
        case Map(Map(source, inner), outer):
            below = dict(inner)
            contents = {n: v.sql for n, v in below.items() if isinstance(v, Content)}
            terms = {n: v for n, v in below.items() if isinstance(v, Term)}
            if any(isinstance(v, Content) and v.windowed for v in below.values()):
                return None
            outputs: list[tuple[str, Content | Term]] = []
            for name, value in outer:
                if isinstance(value, Content):
                    outputs.append((name, value.substituted(contents)))
                else:
                    outputs.append((name, value.substituted(terms, contents)))
            return Map(source, tuple(outputs))
    return None


def drop_identity_map(node: Node, _: Statistics) -> Node | None:
    """π_c(q) = q when c are q's own columns in their order."""
    match node:
        case Map(source, outputs) if tuple(n for n, _ in outputs) == source.names:
            if all(_is_column(v, n) for n, v in outputs):
                return source
    return None


def _is_column(value: Content | Term, name: str) -> bool:
    return (value.field if isinstance(value, Content) else getattr(value, "name", None)) == name


def turn_division_into_product(node: Node, _: Statistics) -> Node | None:
    """x / s = x · (1 / s) for one number s for each row, so that rules about products match."""
    if not isinstance(node, Map):
        return None

    def change(term: Term) -> Term | None:
        match term:
            case Apply("div", (x, s)) if s.width == 1 and x.width > 1:
                return Apply("mul", (x, Apply("div", (Constant(1.0), s))))
        return None

    return node.with_terms(change)


RULES = (
    fold_alias_into_map,
    turn_alias_into_map,
    merge_maps,
    drop_identity_map,
    turn_division_into_product,
)
