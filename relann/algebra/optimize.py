"""All rewrites, in order: what fired, and that nothing but the cost changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from relann.algebra.nodes import Node
from relann.algebra.rules import aggregation, linear, selections, structure
from relann.algebra.rules.columns import drop_unused_columns
from relann.algebra.statistics import Statistics
from relann.errors import PlanError

Rule = Callable[[Node, Statistics], Node | None]

ORDER: tuple[tuple[Rule, ...], ...] = (
    (*structure.RULES, *selections.RULES),  # first: the other rules look for Map over Join
    # before products move: what it takes apart must still be in one place
    (*aggregation.RULES, *structure.RULES),
    # products move once selections stand where they stay; up first, since a product that went down
    # to one side of a join cannot be seen from the sum above it any more
    (linear.pull_linear_above_sum, *structure.RULES),
    (linear.split_linear_of_concat, linear.push_term_below_join, *structure.RULES),
)
"""Groups of rules, each applied until nothing changes, one group after the other."""

_MOST = 2000  # changes before we say that rules do not settle


@dataclass
class Optimised:
    """A rewritten query and how often each rule fired, in the order of first firing."""

    node: Node
    fired: Counter[str] = field(default_factory=Counter)


def optimise(node: Node, statistics: Statistics) -> Optimised:
    """The cheapest form the rules find; same columns, same meaning."""
    out = Optimised(drop_unused_columns(node))
    for rules in ORDER:
        _settle(out, rules, statistics)
        out.node = drop_unused_columns(out.node)
    if out.node.columns != node.columns:
        raise PlanError(f"rewriting changed the columns: {out.node.columns} from {node.columns}")
    return out


def _settle(out: Optimised, rules: tuple[Rule, ...], statistics: Statistics) -> None:
    history: list[str] = []
    settled: set[Node] = set()  # no rule changes these: they are met again in every round
    while True:
        before = out.node

        def change(node: Node) -> Node | None:
            if node in settled:
                return None
            current, changed = node, False
            progress = True
            while progress:
                progress = False
                for rule in rules:
                    fresh = rule(current, statistics)
                    if fresh is None or fresh is current:
                        continue
                    if fresh.columns != current.columns:
                        raise PlanError(f"{rule.__name__} changed the columns of {current}")
                    out.fired[rule.__name__] += 1
                    history.append(rule.__name__)
                    if len(history) > _MOST:
                        raise PlanError(f"rules do not settle; the last were {history[-10:]}")
                    current, changed, progress = fresh, True, True
                    break
            settled.add(current)
            return current if changed else None

        out.node = out.node.transformed(change)
        if out.node is before:
            return
