"""A plan run in any semiring: × is ⊗, sum is ⊕, a lookup is a base tuple's annotation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from relann.algebra.plan import (
    Gather,
    ProductSum,
    SegmentReduce,
    SparseProduct,
    Stacked,
    Step,
)
from relann.algebra.terms import Apply, Constant, Field, Lookup
from relann.errors import PlanError
from relann.provenance.arrays import host
from relann.provenance.semirings.semiring import Semiring
from relann.provenance.slices import Slice

Values = TypeVar("Values")


def evaluated(
    part: Slice, semiring: Semiring[Any, Values], base: Callable[[Step, Lookup], Values]
) -> Values:
    """The annotation of each output row; the plan is that of an annotated query.

    `base` gives those of a step's base tuples.
    """
    maps = part.maps
    values: list[Values] = []
    for step in maps.plan.steps:
        values.append(_value(part, semiring, base, step, values))
    ((_, number),) = maps.plan.values
    return values[number]


def _value(
    part: Slice,
    semiring: Semiring[Any, Values],
    base: Callable[[Step, Lookup], Values],
    step: Step,
    values: list[Values],
) -> Values:
    maps, plan = part.maps, part.maps.plan
    rows = plan.rows_of(step)

    def summed(of: Values) -> Values:
        return semiring.sums(of, host(maps.groups[step.space]), maps.counts[step.space])

    match step.operation:
        case Lookup() as lookup:
            return base(step, lookup)
        case Constant(1):
            return semiring.ones(maps.counts[step.space])
        case Apply("mul", (Field(left), Field(right))):
            return semiring.products(values[int(left[1:])], values[int(right[1:])])
        case Gather(source, via):
            return semiring.take(values[source], host(maps.gathers[rows, via]))
        case SegmentReduce(source, "sum", None):
            return summed(values[source])
        case SparseProduct(source, via, weight, None):
            product = semiring.take(values[source], host(maps.gathers[rows, via]))
            if weight is not None:
                product = semiring.products(product, values[weight])
            return summed(product)
        case ProductSum(factors, None):
            taken = [semiring.take(values[s], host(maps.gathers[rows, via])) for s, via in factors]
            product = taken[0]
            for factor in taken[1:]:
                product = semiring.products(product, factor)
            return summed(product)
        case Stacked(sources):
            whole = semiring.stacked([values[s] for s in sources])
            places = part.stacks.get(step.space)
            return whole if places is None else semiring.take(whole, host(places))
    raise PlanError(f"no semiring computes {step.operation} of {plan.spaces[step.space]}")
