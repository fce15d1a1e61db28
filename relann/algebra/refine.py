"""Steps of a plan rewritten: fused, and moved once it is known how many rows there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from relann.algebra.plan import (
    Gather,
    Operation,
    Plan,
    ProductSum,
    SegmentReduce,
    SparseProduct,
    Stacked,
    Step,
    argument,
    arguments,
)
from relann.algebra.rules.linear import MOVE
from relann.algebra.terms import (
    Apply,
    Concat,
    Constant,
    Content,
    Dot,
    Dropout,
    Field,
    LeakyRelu,
    Learned,
    Linear,
    Norm,
    Normalize,
    Scale,
    Term,
)


def refine(plan: Plan, counts: Mapping[int, int]) -> Plan:
    """The plan with every step where it runs on the fewest rows; `counts` are the spaces' rows.

    Spaces stay as they are; values keep their meaning.
    """
    moving = _Moving(plan, counts, _uses(plan.steps, [v for _, v in plan.values]))
    for number, step in enumerate(plan.steps):
        moving.take(number, step)
    outputs = [moving.places[v] for _, v in plan.values]
    steps, outputs = drop_unread(moving.steps, outputs)
    steps, outputs = fuse_gather_scale_sum(steps, outputs)
    steps, outputs = drop_unread(steps, outputs)
    named = tuple((n, v) for (n, _), v in zip(plan.values, outputs, strict=True))
    return replace(plan, steps=tuple(steps), values=named)


_STRICT = (Apply, Concat, Dot, LeakyRelu, Linear, Normalize, Norm, Scale)
"""Terms of nothing but other terms, NULL where one of them is."""


@dataclass
class _Moving:
    """f(gather(x)) = gather(f(x)): a step runs before a gather or after it, on fewer rows.

    uses     how often the value of each step of the plan is read
    places   for each step of the plan the step that holds its value now
    readers  how often the value of each step is read that is there now
    constants  of steps that are there now, whether their values stay the same all epochs
    """

    plan: Plan
    counts: Mapping[int, int]
    uses: Counter[int]
    readers: Counter[int] = field(default_factory=Counter)
    steps: list[Step] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    known: dict[Step, int] = field(default_factory=dict)
    constants: dict[int, bool] = field(default_factory=dict)

    def take(self, number: int, step: Step) -> None:
        """The next step of the plan, below or above its gather where that is cheaper."""
        operation = renumbered(step.operation, dict(enumerate(self.places)))
        match operation:
            case Gather(source, via):
                made = self._gathered(step.space, source, via)
            case Term() if (below := self._below(step, operation)) is not None:
                made = below
            case _:
                made = self._add(replace(step, operation=operation))
        self.places.append(made)
        self.readers[made] += self.uses[number]

    def _add(self, step: Step) -> int:
        if step not in self.known:
            self.known[step] = len(self.steps)
            self.steps.append(step)
        return self.known[step]

    def _gathered(self, space: int, source: int, via: Content) -> int:
        """The gather of a value; of a term that only it reads, the term of what is gathered."""
        of = self.steps[source]
        term = of.operation
        if isinstance(term, _STRICT) and self.readers[source] == 1 and not term.sees_other_rows:
            inputs = arguments(term)
            alone = [k for k in inputs if _is_one_row(self.steps[k].operation)]
            others = {*inputs} - {*alone}
            moved = sum(self.steps[k].width for k in others)
            if all(self._once(k) for k in others):
                moved = 0  # rows gathered once are no work of an epoch
            if not term.contents and others and self._cheaper_above(of, term, space, moved):
                fresh = {
                    k: self._add(replace(self.steps[k], space=space))
                    if k in alone
                    else self._gathered(space, k, via)
                    for k in inputs
                }
                return self._add(Step(space, of.width, renumbered(term, fresh)))
        return self._add(Step(space, of.width, Gather(source, via)))

    def _once(self, number: int) -> bool:
        """Whether a value depends on no parameter and no chance, and nothing else reads it."""
        return self.readers[number] == 1 and self._constant(number)

    def _constant(self, number: int) -> bool:
        if number not in self.constants:
            operation = self.steps[number].operation
            learned = isinstance(operation, Term) and bool(operation.parameters)
            self.constants[number] = not (learned or isinstance(operation, Dropout)) and all(
                self._constant(k) for k in arguments(operation)
            )
        return self.constants[number]

    def _cheaper_above(self, of: Step, term: Term, space: int, moved: int) -> bool:
        here, there = self.counts[space], self.counts[of.space]
        work = _work(term)
        return here * (work + MOVE * moved) < there * work + MOVE * here * term.width

    def _below(self, step: Step, term: Term) -> int | None:
        """The gather of the term over the rows that all its arguments are gathered from.

        Terms that only it reads go with it: a wide one may stay where the whole does not.
        """
        found = _Gathered()
        if not self._reach(term, found) or len(found.over) != 1:
            return None
        ((space, via),) = found.over
        here, there = self.counts[step.space], self.counts[space]
        moved = sum(self.steps[k].width for k in found.gathers if not self._once(k))
        if there * found.work + MOVE * here * term.width >= here * (found.work + MOVE * moved):
            return None
        below = self._lowered(Step(space, step.width, term))
        return self._add(Step(step.space, step.width, Gather(below, via)))

    def _reach(self, term: Term, found: _Gathered) -> bool:
        """Whether a term is one of gathers alone, through terms that nothing else reads."""
        if not isinstance(term, _STRICT) or term.contents or term.sees_other_rows:
            return False
        found.work += _work(term)
        for k in {*arguments(term)}:
            inner = self.steps[k].operation
            if isinstance(inner, Gather):
                found.gathers.add(k)
                found.over.add((self.steps[inner.source].space, inner.via))
            elif not _is_one_row(inner):
                if not isinstance(inner, Term) or self.readers[k] != 1:
                    return False
                if not self._reach(inner, found):
                    return False
        return True

    def _lowered(self, step: Step) -> int:
        """A term that `_reach` has found, in another space."""
        assert isinstance(step.operation, Term)
        fresh: dict[int, int] = {}
        for k in arguments(step.operation):
            of = self.steps[k]
            if isinstance(of.operation, Gather):
                fresh[k] = of.operation.source
            elif _is_one_row(of.operation):
                fresh[k] = self._add(replace(of, space=step.space))
            else:
                fresh[k] = self._lowered(replace(of, space=step.space))
        return self._add(replace(step, operation=renumbered(step.operation, fresh)))


@dataclass
class _Gathered:
    """What a term is of: the steps that are gathers, over what, and a row's work on the way."""

    gathers: set[int] = field(default_factory=set)
    over: set[tuple[int, Content]] = field(default_factory=set)
    work: int = 0


def _work(term: Term) -> int:
    """Multiply-adds of a row, moving its result included."""
    return MOVE * term.width + (term.work if isinstance(term, Linear) else 0)


def _is_one_row(operation: Operation) -> bool:
    """Whether a value is one row that stands for all, whatever the space."""
    return isinstance(operation, Constant) or (
        isinstance(operation, Learned) and operation.per is None
    )


def _uses(steps: Sequence[Step], outputs: Sequence[int]) -> Counter[int]:
    """How often the value of each step is read."""
    return Counter(k for s in steps for k in arguments(s.operation)) + Counter(outputs)


def fuse_gather_scale_sum(steps: list[Step], outputs: list[int]) -> tuple[list[Step], list[int]]:
    """Σ_{r in group} w_r · x[via_r] = (A·x)_group, A sparse: no row of width w for each pair.

    Fires on a sum over a gather, over a gather times one number for each row or for each head of
    a row, or over a product of gathers, when nothing else reads the wide values in between.
    """
    uses = _uses(steps, outputs)
    fused: list[Step] = []
    for step in steps:
        match step.operation:
            case SegmentReduce(source, "sum", where) if uses[source] == 1:
                product = _as_product(steps, source, where, uses)
                fused.append(step if product is None else replace(step, operation=product))
            case _:
                fused.append(step)
    return fused, outputs


def _as_product(
    steps: list[Step], source: int, where: Content | None, uses: Counter[int]
) -> SparseProduct | ProductSum | None:
    operation = steps[source].operation
    if isinstance(operation, Gather):
        return SparseProduct(operation.source, operation.via, None, where)
    factors = _factors(steps, source, uses)
    if factors is not None and len({steps[k].width for k, _ in factors}) == 1:
        return ProductSum(factors, where)
    match operation:
        case Apply("mul", (Field() as left, Field() as right)):
            first, second = (int(f.name[1:]) for f in (left, right))
            pairs = [p for p in ((first, second), (second, first)) if steps[p[1]].width == 1]
        case Scale(Field() as wide_field, Field() as scale_field):
            pairs = [(int(wide_field.name[1:]), int(scale_field.name[1:]))]
        case _:
            return None
    for wide, scale in pairs:
        gather = steps[wide].operation
        if isinstance(gather, Gather) and uses[wide] == 1:
            return SparseProduct(gather.source, gather.via, scale, where)
    return None


def _factors(
    steps: list[Step], source: int, uses: Counter[int]
) -> tuple[tuple[int, Content], ...] | None:
    """The gathers that a value read once is the product of; None if it is of anything else."""
    if uses[source] != 1:
        return None
    match steps[source].operation:
        case Gather(inner, via):
            return ((inner, via),)
        case Apply("mul", (Field() as left, Field() as right)):
            parts = [_factors(steps, int(f.name[1:]), uses) for f in (left, right)]
            if parts[0] is not None and parts[1] is not None:
                return parts[0] + parts[1]
    return None


def drop_unread(steps: list[Step], outputs: list[int]) -> tuple[list[Step], list[int]]:
    """The steps the outputs need, renumbered."""
    needed: set[int] = set()
    stack = list(outputs)
    while stack:
        number = stack.pop()
        if number not in needed:
            needed.add(number)
            stack.extend(arguments(steps[number].operation))
    order = sorted(needed)
    fresh = {old: new for new, old in enumerate(order)}
    kept = [replace(steps[o], operation=renumbered(steps[o].operation, fresh)) for o in order]
    return kept, [fresh[o] for o in outputs]


def renumbered(operation: Operation, fresh: Mapping[int, int]) -> Operation:
    """The operation reading other steps, number by number."""
    match operation:
        case Term():
            values: dict[str, Term] = {
                t.name: Field(argument(fresh[int(t.name[1:])]), t.width)
                for t in operation.walk()
                if isinstance(t, Field)
            }
            return operation.substituted(values, {})
        case Stacked(sources):
            return Stacked(tuple(fresh[s] for s in sources))
        case SparseProduct(source, _, weight):
            scale = None if weight is None else fresh[weight]
            return replace(operation, source=fresh[source], weight=scale)
        case ProductSum(factors):
            return replace(operation, factors=tuple((fresh[s], via) for s, via in factors))
        case _:
            return replace(operation, source=fresh[operation.source])
