"""Gathers, groups, partitions and stacks bound to row maps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relann.algebra.plan import (
    Gather,
    Groups,
    Partition,
    ProductSum,
    SegmentReduce,
    SparseProduct,
    Stacked,
    Step,
)
from relann.algebra.rowmaps import Partitions, partition_key
from relann.algebra.terms import Apply, Content, Field, Lookup
from relann.errors import PlanError
from relann.provenance.arrays import shared
from relann.provenance.bound import Bound, Run, Surroundings, Values
from relann.provenance.kernels.gathering import gather
from relann.provenance.kernels.products import product_sum, weighted_sum
from relann.provenance.kernels.reducing import (
    segment_cumsum,
    segment_max,
    segment_mean,
    segment_min,
    segment_softmax,
    segment_sum,
)
from relann.provenance.kernels.structures import Incidence, Index, Products
from relann.provenance.masks import Mask, of_both, picked, seen

_REDUCE = {"sum": segment_sum, "avg": segment_mean, "min": segment_min, "max": segment_max}


def bind_gather(around: Surroundings, step: Step, operation: Gather) -> Bound:
    """Rows picked by number; a row of no number is NULL."""
    source = operation.source
    of = around.bound[source]
    rows = around.rows(step.space, operation.via)
    valid = around.masks.shared(picked(of.valid, rows))
    if of.single:
        return Bound(lambda values: seen(values[source]), valid, single=True)
    index = around.gathered(step.space, operation.via, source)
    zeroed = of.valid is None or of.zeroed
    return Bound(lambda values: gather(seen(values[source]), index), valid, zeroed=zeroed)


def bind_stacked(around: Surroundings, step: Step, operation: Stacked) -> Bound:
    """The values of the parts, one after the other."""
    sources = operation.sources
    wide = [around.wide(s) for s in sources]
    parts = [around.bound[s] for s in sources]
    valid = None
    if any(p.valid is not None for p in parts):
        counts = [around.count(s) for s in sources]
        masks = [
            torch.ones(n, dtype=torch.bool, device=around.device) if p.valid is None else p.valid
            for p, n in zip(parts, counts, strict=True)
        ]
        valid = torch.cat(masks)
        if step.space in around.stacks:
            valid = valid.index_select(0, around.stacks[step.space])
    places = around.stacks.get(step.space)
    if places is None:
        if sum(around.count(s) for s in sources) != around.maps.counts[step.space]:
            raise PlanError(f"space {step.space} does not have the rows of its parts; see `cut`")
        return Bound(lambda values: torch.cat([w(values) for w in wide]), valid)
    index = Index.build(places, sum(around.count(s) for s in sources))
    return Bound(lambda values: gather(torch.cat([w(values) for w in wide]), index), valid)


# -- groups ----------------------------------------------------------------------------------------


def _kept(numbers: Tensor, mask: Mask | None) -> Tensor:
    """Row numbers, −1 where the mask does not hold."""
    return numbers if mask is None else torch.where(mask, numbers, -1)


def _grouped_space(around: Surroundings, step: Step) -> int:
    space = around.plan.spaces[step.space]
    if not isinstance(space, Groups):
        raise PlanError(f"a step reduces groups, and space {step.space} has none")
    return space.source


def bind_reduce(around: Surroundings, step: Step, operation: SegmentReduce) -> Bound:
    """A reduction over each group's rows that are not NULL and pass the filter."""
    source, how = operation.source, operation.how
    of, inner = around.bound[source], _grouped_space(around, step)
    where = None if operation.where is None else around.inputs.filters[inner, operation.where]
    mask = around.masks.shared(of_both([of.valid, where]))
    rows, groups = around.maps.counts[inner], around.maps.counts[step.space]
    ids, lone = around.groups(step.space), None
    if how in _REDUCE and (lone := around.lone_gather(source)) is not None:
        incidence = _picking(around, step, lone.source, lone.via, mask)  # no gathered row is made
    else:
        incidence = around.incidence(
            ("groups", step.space, id(mask)),
            lambda: Incidence.build(_kept(ids, mask), None, groups, rows),
        )
    counts = shared(incidence.counts)
    if how == "count":
        return _fixed(around, counts)
    valid = around.masks.shared(counts > (1 if how == "stddev" else 0))
    if how == "sum" and (summed := _table_sum(around, step, source, mask)) is not None:
        return replace(summed, valid=valid, zeroed=True)
    zeroed = how in ("sum", "avg")
    if lone is not None:
        x, picked_reduce = around.wide(lone.source), _REDUCE[how]
        return Bound(
            lambda values: picked_reduce(x(values), incidence),
            valid,
            reads=(lone.source,),
            zeroed=zeroed,
        )
    if how == "stddev":
        return Bound(_deviation(around, source, incidence), valid)
    if not of.single:
        reduce = _REDUCE[how]
        return Bound(lambda values: reduce(seen(values[source]), incidence), valid, zeroed=zeroed)
    if how == "sum":
        many = _column(around, counts)
        return Bound(lambda values: many * seen(values[source]), valid)
    # the one row is every group's mean, least and greatest
    return Bound(lambda values: seen(values[source]), valid, single=True)


def _picking(
    around: Surroundings, step: Step, source: int, via: Content, mask: Mask | None
) -> Incidence:
    """Which rows of a step's value meet in each group, picked by a column of the rows grouped."""
    inner, sources = _grouped_space(around, step), around.count(source)
    ids, rows = around.groups(step.space), around.rows(inner, via)
    groups = around.maps.counts[step.space]
    return around.incidence(
        ("picking", step.space, via, sources, id(mask)),
        lambda: Incidence.build(_kept(ids, mask), rows, groups, sources),
    )


def _table_sum(around: Surroundings, step: Step, source: int, mask: Mask | None) -> Bound | None:
    """Σ weight · table[key] over each group's rows: no row of the table's width for each of them.

    Fires on a sum of an embedding, or of one times a number for each row; None otherwise.
    """
    inner, steps = _grouped_space(around, step), around.plan.steps
    weight: int | None = None
    match steps[source].operation:
        case Lookup() as lookup:
            pass
        case Apply("mul", (Field() as left, Field() as right)):
            numbers = [int(f.name[1:]) for f in (left, right)]
            tables = [k for k in numbers if isinstance(steps[k].operation, Lookup)]
            if not tables:
                return None
            weight = numbers[1] if numbers[0] == tables[0] else numbers[0]
            operation = steps[tables[0]].operation
            if not isinstance(operation, Lookup) or steps[weight].width != 1:
                return None
            lookup = operation
        case _:
            return None
    vectors, rows = around.array(lookup.table), around.inputs.keys[inner, lookup.key]
    ids, groups = around.groups(step.space), around.maps.counts[step.space]
    incidence = around.incidence(
        ("table", step.space, lookup.key, id(mask)),
        lambda: Incidence.build(_kept(ids, mask), rows, groups, vectors.shape[0]),
    )
    if weight is None:
        return Bound(lambda values: weighted_sum(vectors, None, incidence), learned=True, reads=())
    scale = around.wide(weight)
    return Bound(
        lambda values: weighted_sum(vectors, scale(values), incidence),
        learned=True,
        reads=(weight,),
    )


def _column(around: Surroundings, numbers: Tensor) -> Tensor:
    return numbers.to(around.inputs.dtype)[:, None]


def _fixed(around: Surroundings, numbers: Tensor) -> Bound:
    """A value of width 1 that data alone decides; never NULL."""
    column = _column(around, numbers)
    return Bound(lambda values: column, constant=True, reads=())


def _deviation(around: Surroundings, source: int, incidence: Incidence) -> Run:
    """The sample's standard deviation of each group; 0, without gradient, where all are equal."""
    index = Index.build(_targets(incidence), incidence.n_targets)
    degrees = (shared(incidence.counts) - 1).clamp(min=1)
    share = _column(around, 1 / degrees.double())
    wide = around.wide(source)

    def run(values: Values) -> Tensor:
        x = wide(values)
        apart = x - gather(segment_mean(x, incidence), index)
        variance = segment_sum(apart.square(), incidence) * share
        varied = variance > 0
        return torch.where(varied, torch.where(varied, variance, 1.0).sqrt(), 0.0)

    return run


def _targets(incidence: Incidence) -> Tensor:
    """The target of each input row, −1 for a row of none."""
    sources, targets = shared(incidence.sources), shared(incidence.targets)
    found = targets.new_full((incidence.n_inputs,), -1)
    found[sources] = targets
    return found


def bind_product(around: Surroundings, step: Step, operation: SparseProduct) -> Bound:
    """Σ weight · source[via] over each group's rows, none of them materialised."""
    source, weight = operation.source, operation.weight
    inner = _grouped_space(around, step)
    of = around.bound[source]
    scale = None if weight is None else around.bound[weight]
    rows = around.rows(inner, operation.via)
    where = None if operation.where is None else around.inputs.filters[inner, operation.where]
    scaled = None if scale is None else scale.valid
    mask = around.masks.shared(of_both([picked(of.valid, rows), scaled, where]))
    incidence = _picking(around, step, source, operation.via, mask)
    valid = around.masks.shared(shared(incidence.counts) > 0)
    x = around.wide(source)
    if weight is None:
        return Bound(lambda values: weighted_sum(x(values), None, incidence), valid, zeroed=True)
    if around.bound[weight].single:
        return Bound(
            lambda values: weighted_sum(x(values), None, incidence) * seen(values[weight]), valid
        )
    return Bound(
        lambda values: weighted_sum(x(values), seen(values[weight]), incidence), valid, zeroed=True
    )


def bind_product_sum(around: Surroundings, step: Step, operation: ProductSum) -> Bound:
    """Σ Π source[via] over each group's rows, none of them materialised."""
    inner = _grouped_space(around, step)
    where = None if operation.where is None else around.inputs.filters[inner, operation.where]
    sources = [source for source, _ in operation.factors]
    rows = [around.rows(inner, via) for _, via in operation.factors]
    valid = [
        picked(around.bound[s].valid, numbers) for s, numbers in zip(sources, rows, strict=True)
    ]
    mask = of_both([*valid, where])
    ids, groups = around.groups(step.space), around.maps.counts[step.space]
    products = Products.build(_kept(ids, mask), rows, groups, [around.count(s) for s in sources])
    wide = [around.wide(s) for s in sources]
    known = around.masks.shared(shared(products.entries.counts) > 0)
    return Bound(
        lambda values: product_sum([w(values) for w in wide], products), known, zeroed=True
    )


# -- partitions ------------------------------------------------------------------------------------


def bind_partition(around: Surroundings, step: Step, operation: Partition) -> Bound:
    """A reduction over each row's partition, or over its rows up to this one."""
    parts = around.maps.partitions[partition_key(step)]
    how = operation.over.how
    if operation.over.order:
        return _running(around, step, operation.source, how, _Order.of(parts))
    source = operation.source
    of, wide = around.bound[source], around.wide(source)
    rows = around.maps.counts[step.space]
    incidence = around.incidence(
        ("partition", partition_key(step), id(of.valid)),
        lambda: Incidence.build(_kept(parts.ids, of.valid), None, parts.count, rows),
    )
    if how == "softmax":
        return Bound(lambda values: segment_softmax(wide(values), incidence), of.valid)
    if how == "count":
        return _fixed(around, shared(incidence.counts).index_select(0, parts.ids))
    reduce, index = _REDUCE[how], Index.build(parts.ids, parts.count)
    valid = around.masks.shared((shared(incidence.counts) > 0).index_select(0, parts.ids))
    return Bound(lambda values: gather(reduce(wide(values), incidence), index), valid)


@dataclass(frozen=True)
class _Order:
    """The rows of a space sorted by partition, then by position.

    row[s]    which row stands at place s
    part[s]   its partition
    begin[s]  place of the partition's first row
    last[r]   place of the last row that row r's window covers
    """

    row: Tensor
    part: Tensor
    begin: Tensor
    last: Tensor

    @classmethod
    def of(cls, parts: Partitions) -> _Order:
        """From positions and windows within partitions."""
        if parts.position is None or parts.upto is None:
            raise PlanError("a running window needs the rows' order")
        sizes = torch.bincount(parts.ids, minlength=parts.count)
        begin = (sizes.cumsum(0) - sizes).index_select(0, parts.ids)
        place = begin + parts.position
        row = _inverse(place)
        ids = parts.ids.index_select(0, row)
        return cls(row, ids, begin.index_select(0, row), begin + parts.upto - 1)


def _inverse(places: Tensor) -> Tensor:
    """Which row each place has, of a place for each row."""
    found = torch.empty_like(places)
    found[places] = torch.arange(len(places), dtype=found.dtype, device=found.device)
    return found


def _running(around: Surroundings, step: Step, source: int, how: str, order: _Order) -> Bound:
    """A reduction over the rows of the partition up to the row's last peer."""
    of, wide = around.bound[source], around.wide(source)
    rows = len(order.row)
    if of.valid is None:
        known = torch.ones(rows, dtype=torch.bool, device=around.device)
    else:
        known = of.valid.index_select(0, order.row)
    upto = known.cumsum(0)  # known rows up to each place, it included
    first = torch.empty_like(order.begin)
    first[order.row] = order.begin
    before = torch.cat([upto.new_zeros(1), upto])
    counts = before.index_select(0, order.last + 1) - before.index_select(0, first)
    if how == "count":
        return _fixed(around, counts)
    valid = around.masks.shared(counts > 0)
    sort = Index.build(_kept(order.row, known), rows)
    pick = Index.build(order.last, rows)
    if how in ("min", "max"):
        within = torch.arange(rows, device=around.device) - order.begin
        longest = int(within.max()) + 1 if rows else 0
        sign, begin = (1 if how == "max" else -1), order.begin

        def run(values: Values) -> Tensor:
            x = gather(wide(values), sort)
            found = _leaders(sign * x.detach(), begin, known, longest)
            return gather(x.gather(0, found), pick)
    else:
        parts = int(order.part.max()) + 1 if rows else 0
        incidence = Incidence.build(order.part, None, parts, rows)
        share = _column(around, 1 / counts.clamp(min=1).double()) if how == "avg" else None

        def run(values: Values) -> Tensor:
            sums = gather(segment_cumsum(gather(wide(values), sort), incidence), pick)
            return sums if share is None else sums * share

    return Bound(run, valid)


def _leaders(x: Tensor, begin: Tensor, known: Tensor, longest: int) -> Tensor:
    """For each row and column the place of the greatest known value from `begin` on.

    Of equal ones the first. Doubles the reach of every row until all reach their beginning: as many
    passes as the `longest` partition's length has binary digits.
    """
    values = torch.where(known[:, None], x, -torch.inf)
    place = torch.arange(len(x), device=x.device)
    best = place[:, None].expand(x.shape).clone()
    reach = 1
    while reach < longest:
        inside = (place - reach >= begin)[reach:, None]
        earlier, later = best[:-reach], best[reach:]
        better = values.gather(0, earlier) >= values.gather(0, later)
        found = torch.where(inside & better, earlier, later)
        best = torch.cat([best[:reach], found])
        reach *= 2
    return best
