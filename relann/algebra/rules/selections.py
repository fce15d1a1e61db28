"""Selections moved down, so that fewer rows are composed and computed."""

from __future__ import annotations

from relann.algebra.nodes import Aggregate, Join, Map, Node, Select, Union, Window
from relann.algebra.statistics import Statistics
from relann.algebra.terms import Content, Term, conjunction, conjuncts


def push_selection_below_map(node: Node, _: Statistics) -> Node | None:
    """σ_p(π_f(q)) = π_f(σ_{p∘f}(q)), when neither p nor f looks at other rows.

    A window does, and so does batch normalisation.
    """
    match node:
        case Select(Map(source, outputs), predicate):
            below = {n: v for n, v in outputs if isinstance(v, Content)}
            if predicate.windowed or any(v.windowed for v in below.values()):
                return None
            if any(isinstance(v, Term) and v.sees_other_rows for _, v in outputs):
                return None
            moved = predicate.substituted({n: v.sql for n, v in below.items()})
            return Map(Select(source, moved), outputs)
    return None


def push_selection_below_aggregate(node: Node, _: Statistics) -> Node | None:
    """σ_p(γ_k(q)) = γ_k(σ_p(q)), when p reads only keys and there is at least one key."""
    match node:
        case Select(Aggregate(source, by, outputs), predicate):
            if by and predicate.columns <= set(by) and not predicate.windowed:
                return Aggregate(Select(source, predicate), by, outputs)
    return None


def push_selection_below_window(node: Node, _: Statistics) -> Node | None:
    """σ_p(ω_k(q)) = ω_k(σ_p(q)), when p reads only partition columns of every window."""
    match node:
        case Select(Window(source, outputs), predicate) if not predicate.windowed:
            if all(predicate.columns <= set(over.partition) for _, over in outputs):
                return Window(Select(source, predicate), outputs)
    return None


def push_selection_below_union(node: Node, _: Statistics) -> Node | None:
    """σ_p(a ⊎ b) = σ_p(a) ⊎ σ_p(b)."""
    match node:
        case Select(Union(parts), predicate) if not predicate.windowed:
            return Union(tuple(Select(p, predicate) for p in parts))
    return None


def push_selection_below_join(node: Node, _: Statistics) -> Node | None:
    """σ_{p ∧ q}(a ⋈ b) = σ_q(σ_p(a) ⋈ b), when p reads a only; for b of an inner join as well.

    The database does so by itself; but what two queries share must be seen to be found once.
    """
    match node:
        case Select(Join(left, right, "inner" | "left" | "semi" | "anti" as kind, on), predicate):
            if predicate.windowed:
                return None
            above: list[Content] = []
            sides: tuple[list[Content], list[Content]] = ([], [])
            for part in conjuncts(predicate):
                if part.columns and part.columns <= set(left.names):
                    sides[0].append(part)
                elif part.columns and part.columns <= set(right.names) and kind == "inner":
                    sides[1].append(part)
                else:
                    above.append(part)
            if not any(sides):
                return None
            a, b = (
                Select(side, conjunction(parts)) if parts else side
                for side, parts in zip((left, right), sides, strict=True)
            )
            joined = Join(a, b, kind, on)
            return Select(joined, conjunction(above)) if above else joined
    return None


RULES = (
    push_selection_below_map,
    push_selection_below_aggregate,
    push_selection_below_window,
    push_selection_below_union,
    push_selection_below_join,
)
