"""Queries and plans as text a person can read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

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
from relann.algebra.optimize import Optimised
from relann.algebra.plan import (
    Gather,
    Groups,
    Held,
    Partition,
    Plan,
    ProductSum,
    Rows,
    SegmentReduce,
    SparseProduct,
    Stack,
    Stacked,
    Step,
)
from relann.algebra.statistics import Statistics
from relann.algebra.terms import Content, Field, Linear, Lookup, Term

_SYMBOLS = {
    "inner": "⋈",
    "left": "⟕",
    "full": "⟗",
    "semi": "⋉",
    "anti": "▷",
    "asof": "⋈ asof",
    "asof_left": "⟕ asof",
}


@dataclass(frozen=True)
class StepCost:
    """What a step takes in an epoch: milliseconds, bytes of its value, learned numbers it reads."""

    forward: float
    backward: float
    bytes: int
    parameters: int


@dataclass(frozen=True)
class Profile:
    """What an epoch takes: each step that runs in it, the whole, and of that loss and optimiser.

    `plan` is the one that runs, of a batch perhaps; `counts` are the rows of each space that it
    runs on, `once` the steps that depend on no weight.
    """

    plan: Plan
    counts: Mapping[int, int]
    once: frozenset[int]
    steps: Mapping[int, StepCost]
    epoch: float
    rest: float


def explain(
    lifted: Node,
    optimised: Optimised,
    plan: Plan,
    statistics: Statistics,
    rows: Mapping[int, int] | None = None,
    profile: Profile | None = None,
) -> str:
    """The lifted query, the optimised query with the rules that fired, and the plan.

    `rows` are the actual rows of the plan's spaces and `profile` what an epoch takes, where known.
    """
    fired = ", ".join(f"{n} ×{k}" for n, k in optimised.fired.items()) or "none"
    return "\n".join(
        [
            "Lifted query",
            node_to_text(lifted, None),
            "",
            "Optimised query",
            f"  rules that fired: {fired}",
            node_to_text(optimised.node, statistics),
            "",
            "Plan",
            plan_to_text(plan, rows, profile),
        ]
    )


def node_to_text(node: Node, statistics: Statistics | None, indent: int = 2) -> str:
    """A query as a tree, sources below; a part that is read twice is shown once."""
    uses = Counter(source for n in node.walk() for source in n.sources)
    shared: dict[Node, int] = {}
    lines: list[str] = []

    def show(of: Node, depth: int) -> None:
        pad = " " * indent + "  " * depth
        if of in shared:
            lines.append(f"{pad}↑ shared {shared[of]}")
            return
        mark = ""
        if uses[of] > 1 and of.sources:
            shared[of] = len(shared) + 1
            mark = f"  [shared {shared[of]}]"
        rows = f"  ~{statistics.rows(of):,} rows" if statistics is not None else ""
        head, *rest = _head(of)
        lines.append(f"{pad}{head}{rows}{mark}")
        lines.extend(f"{pad}    {line}" for line in rest)
        for source in of.sources:
            show(source, depth + 1)

    show(node, 0)
    return "\n".join(lines)


def _head(node: Node) -> list[str]:
    match node:
        case Scan(table):
            return [f"Scan {_plain(table)} ({', '.join(node.names)})"]
        case Query(sql):
            return [f"Query {_short(sql)}"]
        case Held(space, _):
            return [f"rows of space {space}"]
        case Alias(_, name):
            return [f"ρ Alias {name}"]
        case Select(_, predicate):
            return [f"σ Select {predicate}"]
        case Map(_, outputs):
            carried = [n for n, v in outputs if _is_carried(v)]
            made = [f"{n} = {v}{_width(v)}" for n, v in outputs if not _is_carried(v)]
            head = "π Map" + (f" ({', '.join(carried)})" if carried else "")
            return [head, *made]
        case Join(_, _, kind, on):
            return [f"{_SYMBOLS[kind]} Join {on if on is not None else 'everything'}"]
        case Aggregate(_, by, outputs):
            head = f"γ Aggregate by {', '.join(by)}" if by else "γ Aggregate all"
            return [head, *(f"{n} = {v}" for n, v in outputs)]
        case Window(_, outputs):
            return ["ω Window", *(f"{n} = {v}" for n, v in outputs)]
        case Union():
            return ["⊎ Union all"]
    return [type(node).__name__]


def _is_carried(value: Content | Term) -> bool:
    return isinstance(value, Field) or (isinstance(value, Content) and value.field is not None)


def _width(value: Content | Term) -> str:
    return f"  [{value.width}]" if isinstance(value, Term) else ""


def plan_to_text(
    plan: Plan, rows: Mapping[int, int] | None = None, profile: Profile | None = None
) -> str:
    """Spaces, steps and result of a plan, one line each; what was measured before each step."""
    lines = ["  rows, numbered once"]
    for number, space in enumerate(plan.spaces):
        count = f"  {_counted(plan, number, rows)}" if rows is not None else ""
        lines.append(f"    #{number}  {_space(space)}{count}")
    if profile is None:
        lines.append("  numbers, every epoch")
    else:
        lines.append("  numbers, every epoch: milliseconds forward and backward, share, size")
    for number, step in enumerate(plan.steps):
        cost = "" if profile is None else _cost(profile, number)
        lines.append(
            f"    %{number:<3} #{step.space:<2} [{step.width}]  {cost}{step_to_text(step)}"
        )
    outputs = [str(n) for n, _ in plan.contents] + [f"{n} = %{v}" for n, v in plan.values]
    lines.append(f"  result  #{plan.output}: {', '.join(outputs)}")
    if profile is not None:
        steps = sum(c.forward + c.backward for c in profile.steps.values())
        lines.append(
            f"  an epoch took {profile.epoch:.2f} ms; its steps, timed one by one, {steps:.2f} ms, "
            f"loss and optimiser {profile.rest:.2f} ms"
        )
    return "\n".join(lines)


def _counted(plan: Plan, number: int, rows: Mapping[int, int]) -> str:
    """The rows of a space, and how many rows of its source each stands for or comes from."""
    count = rows[number]
    text = f"{count:,} rows"
    match plan.spaces[number]:
        case Groups(source) if count:
            return f"{text}, of {rows[source] / count:.1f} each"
        case Rows(node):
            held = {n.space for n in node.walk() if isinstance(n, Held) and rows[n.space]}
            fans = [f"×{count / rows[space]:.1f} of #{space}" for space in sorted(held)]
            return ", ".join([text, *fans])
    return text


def _cost(profile: Profile, number: int) -> str:
    cost = profile.steps.get(number)
    if cost is None:
        return f"{'once' if number in profile.once else 'in the step that reads it':>35}  "
    share = (cost.forward + cost.backward) / max(profile.epoch, 1e-9)
    learned = f"({cost.parameters:,} learned) " if cost.parameters else ""
    size = _bytes(cost.bytes)
    return f"{cost.forward:8.2f} {cost.backward:8.2f} {share:7.1%} {size:>9}  {learned}"


def _bytes(count: int) -> str:
    if count < 10_000:
        return f"{count} B"
    return f"{count / 1e3:.0f} KB" if count < 10_000_000 else f"{count / 1e6:.0f} MB"


def _space(space: Rows | Groups | Stack) -> str:
    match space:
        case Rows(node, columns, order):
            source = node.source if isinstance(node, Map) else node
            by = f", sorted by {', '.join(order)}" if order else ""
            return f"Rows of {_inline(source)} → {', '.join(columns) or 'no columns'}{by}"
        case Groups(source, keys, aggregates):
            more = "".join(f", {n} = {c}" for n, c in aggregates)
            return f"Groups of #{source} by {', '.join(keys) or 'nothing'}{more}"
        case Stack(parts):
            return "Stack of " + ", ".join(f"#{p}" for p in parts)


def _inline(node: Node) -> str:
    """A content query in one line."""
    match node:
        case Scan(table):
            return _plain(table)
        case Query(sql):
            return f"({_short(sql)})"
        case Held(space, _):
            return f"#{space}"
        case Alias(source, name):
            inner = _inline(source)
            return inner if inner == name else f"{inner} {name}"
        case Map(source, outputs) if all(_is_carried(v) for _, v in outputs):
            return _inline(source)
        case Map(source, outputs):
            made = ", ".join(f"{n} = {v}" for n, v in outputs if not _is_carried(v))
            return f"π[{made}]({_inline(source)})"
        case Select(source, predicate):
            return f"σ[{predicate}]({_inline(source)})"
        case Join(left, right, kind, on):
            condition = f" [{on}]" if on is not None else ""
            return f"({_inline(left)} {_SYMBOLS[kind]} {_inline(right)}{condition})"
        case Aggregate(source, by, _):
            return f"γ[{', '.join(by)}]({_inline(source)})"
        case Union(parts):
            return "(" + " ⊎ ".join(_inline(p) for p in parts) + ")"
    return type(node).__name__


def step_to_text(step: Step) -> str:
    """What one step computes."""
    match step.operation:
        case Gather(source, via):
            return f"Gather %{source} by {via}"
        case SegmentReduce(source, how, where):
            return f"SegmentReduce {how} %{source}{f' where {where}' if where else ''}"
        case SparseProduct(source, via, weight, where):
            scale = f"%{weight} · " if weight is not None else ""
            return f"SparseProduct Σ {scale}%{source} by {via}{f' where {where}' if where else ''}"
        case ProductSum(factors, where):
            product = " · ".join(f"%{source} by {via}" for source, via in factors)
            return f"ProductSum Σ {product}{f' where {where}' if where else ''}"
        case Partition(source, over, partition, _):
            keys = ", ".join(map(str, partition)) or "everything"
            ordered = " running" if over.order else ""
            return f"Partition{ordered} {over.how} %{source} over {keys}"
        case Stacked(sources):
            return "Stack " + ", ".join(f"%{s}" for s in sources)
        case Linear() as linear:
            return f"MatMul {linear}  {linear.weight.name}"
        case Lookup() as lookup:
            return f"Lookup {lookup}  {lookup.table.name}"
    return f"{type(step.operation).__name__} {step.operation}"


def _plain(table: str) -> str:
    return table.replace('"', "")


def _short(sql: str, most: int = 100) -> str:
    text = " ".join(sql.split())
    return text if len(text) <= most else text[: most - 1] + "…"
