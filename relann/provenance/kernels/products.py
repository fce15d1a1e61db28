"""Rows times weights or matrices, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from relann.errors import PlanError
from relann.provenance.kernels import loops, plain
from relann.provenance.kernels.memory import Array, as_array, empty, no_elements, zeros
from relann.provenance.kernels.operations import alike, apply, compiled, expect
from relann.provenance.kernels.rowwise import dots, rows_at
from relann.provenance.kernels.simd import LANES
from relann.provenance.kernels.structures import Cuts, Incidence, Padding, Products
from relann.provenance.kernels.threads import even_bounds, workers

_MANY = 8192  # numbers of a product from which compiled loops are worth their call


def weighted_sum(
    x: Float[Tensor, "sources width"],
    weight: Float[Tensor, "inputs heads"] | Float[Tensor, " inputs"] | None,
    incidence: Incidence,
) -> Float[Tensor, "targets width"]:
    """Σ_e weight[e] · x[sources[e]] over each target's entries; an empty target is 0.

    `weight` is in input order (that of the arrays the incidence was built from): one number for
    each pair, or one for each of `heads` equal slices of the width (as many as columns: a vector
    weight). Gradients to x and weight; a weight's costs nothing if it needs none.
    """
    expect("x", x, incidence.n_sources)
    if weight is not None:
        weight = weight[:, None] if weight.ndim == 1 else weight
        expect("weight", weight, incidence.n_inputs)
        if weight.shape[1] < 1 or x.shape[1] % weight.shape[1]:
            raise PlanError(f"{weight.shape[1]} weights do not divide a width of {x.shape[1]}")
        x, weight = alike(x, weight, "weight")
    if not compiled(x):
        return plain.weighted_sum(x, weight, incidence)
    return apply(_WeightedSum, x, weight, incidence)


def vector_dot(
    x: Float[Tensor, "rows width"], vector: Float[Tensor, "1 width"], heads: int = 1
) -> Float[Tensor, "rows heads"]:
    """x[r] · vector over each of `heads` equal slices of the width. Gradients to both."""
    if vector.shape != (1, x.shape[1]) or heads < 1 or x.shape[1] % heads:
        shapes = f"{tuple(x.shape)} and {tuple(vector.shape)}"
        raise PlanError(f"shapes {shapes} have no inner products over {heads} equal heads")
    x, vector = alike(x, vector, "the vector")
    if not compiled(x):
        return plain.vector_dot(x, vector, heads)
    return apply(_VectorDot, x, vector, heads)


def linear(
    x: Float[Tensor, "rows inputs"],
    weight: Float[Tensor, "inputs outputs"],
    bias: Float[Tensor, " outputs"] | None = None,
) -> Float[Tensor, "rows outputs"]:
    """x · weight + bias. Gradients to all.

    torch's product, but for few outputs, where that is slow (`benchmarks/kernels`, narrow-both).
    """
    rows, outputs = len(x), weight.shape[1]
    if compiled(x) and outputs <= LANES and rows * outputs >= _MANY:
        return apply(_NarrowLinear, x, weight, bias)
    return x @ weight if bias is None else torch.addmm(bias, x, weight)


def grouped_linear(
    x: Float[Tensor, "rows inputs"],
    weight: Float[Tensor, "sets inputs outputs"],
    sets: Incidence,
    bias: Float[Tensor, "sets outputs"] | None = None,
) -> Float[Tensor, "rows outputs"]:
    """x[r] @ weight[s] + bias[s], s the set of row r: one product for each set that has rows.

    `sets` groups the rows by set: `Incidence.build(set_of_row, None, n_sets, n_rows)`. A row of no
    set gives 0. Gradient to x, weight and bias; a set without rows gets 0.
    """
    expect("x", x, sets.n_inputs)
    if weight.ndim != 3 or weight.shape[:2] != (sets.n_targets, x.shape[1]):
        raise PlanError(
            f"weight has shape {tuple(weight.shape)}, not [{sets.n_targets}, {x.shape[1]}, outputs]"
        )
    if bias is not None and bias.shape != (sets.n_targets, weight.shape[2]):
        raise PlanError(
            f"bias has shape {tuple(bias.shape)}, not [{sets.n_targets}, {weight.shape[2]}]"
        )
    if not compiled(x):
        return plain.grouped_linear(x, weight, bias, sets)
    if sets.padding is not None:
        return apply(_PaddedLinear, x, weight, bias, sets, sets.padding)
    return apply(_GroupedLinear, x, weight, bias, sets)


def product_sum(
    xs: Sequence[Float[Tensor, "sources width"]], products: Products
) -> Float[Tensor, "targets width"]:
    """Σ_e Π_p xs[p][its source] over each target's entries; an empty target is 0.

    All factors have one width. Gradients to all of them.
    """
    for x, begin, end in zip(
        xs, products.first, [*products.first[1:], products.n_rows], strict=True
    ):
        expect("a factor", x, end - begin)
        if x.shape[1] != xs[0].shape[1]:
            raise PlanError(f"factors have widths {[f.shape[1] for f in xs]}, not one")
    x = torch.cat(list(xs))
    if not compiled(x):
        return plain.product_sum(x, products)
    return apply(_ProductSum, x, products)


def summed(x: Tensor, weight: Tensor | None, pick: Array, incidence: Incidence) -> Tensor:
    """Σ_e weight[pick[e]] · x[sources[e]] for each target; `pick` of no elements: weight[e]."""
    weights = np.empty((0, 1), as_array(x).dtype) if weight is None else as_array(weight)
    loop = loops.sum_entries if weights.shape[1] == 1 else loops.sum_entries_by_head
    return _by_target(loop, x, incidence, (incidence.sources, weights, pick))


def _by_target(
    loop: Callable[..., None],
    x: Tensor,
    incidence: Incidence,
    entries: Sequence[Array],
    further: Sequence[Array] = (),
    own: bool = False,
) -> Tensor:
    """What a loop makes of each target's entries, heavy targets in parts; one row per target.

    `own`: the loop is told which target a part is of. `further` arrays come after its result.
    """
    cuts, width = incidence.cuts, x.shape[1]
    offsets = incidence.offsets
    rows = of = no_elements(offsets)
    parts = 0
    if cuts is not None:
        offsets, of, rows, parts = cuts.offsets, cuts.targets, cuts.rows, len(cuts.partial)
    out = empty(incidence.n_targets + parts, width, x)
    told = (of, rows) if own else (rows,)
    args = (as_array(x), offsets, *entries, *told, as_array(out), *further)
    workers.run(loop, incidence.chunks(width, cut=cuts is not None), args)
    return out if cuts is None else _folded(out, incidence, cuts)


def _folded(out: Tensor, incidence: Incidence, cuts: Cuts) -> Tensor:
    """The targets' rows, those of heavy targets summed from their parts."""
    array, none = as_array(out), no_elements(incidence.offsets)
    one = np.empty((0, 1), array.dtype)
    loops.sum_entries(
        array, cuts.folds, cuts.partial, one, none, cuts.heavy, array, 0, len(cuts.heavy)
    )
    return out[: incidence.n_targets]


PARTS = 8
"""Tables that a product's gradient is added up in before they are added to one."""


class _ProductSum(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, products: Products) -> Tensor:
        ctx.products = products
        ctx.save_for_backward(x)
        return _by_target(loops.sum_products, x, products.entries, (products.picks,))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x,), products = ctx.saved_tensors, ctx.products
        entries, (rows, width) = products.entries, x.shape
        ends = as_array(grad), as_array(x), entries.targets, products.picks
        # Tables of their own spare the loops a search for who reads a row, as long as tables are
        # small beside the work.
        if 4 * PARTS * rows <= products.picks.size:
            bounds = np.array([entries.n_entries * k // PARTS for k in range(PARTS + 1)])
            tables = x.new_zeros(PARTS, rows, width)
            workers.run(
                loops.return_products, list(range(PARTS + 1)), (*ends, bounds, tables.numpy())
            )
            return tables.sum(0), None
        readers = products.readers
        out = empty(rows, width, x)
        args = (*ends, readers.offsets, readers.sources, as_array(out))
        workers.run(loops.return_products_by_row, readers.chunks(width), args)
        return out, None


def _weighted(x: Tensor, weight: Tensor | None, incidence: Incidence) -> Tensor:
    """Σ_e weight · x[sources[e]] for each target, the weight in input order."""
    if weight is None:
        return summed(x, None, incidence.picks, incidence)
    return summed(x, *incidence.arranged(weight), incidence)


class _WeightedSum(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, incidence: Incidence) -> Tensor:
        ctx.incidence = incidence
        wants_x, wants_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if wants_weight else None, weight if wants_x else None)
        ctx.heads = 0 if weight is None else weight.shape[1]
        return _weighted(x, weight, incidence)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x, weight), incidence = ctx.saved_tensors, ctx.incidence
        wants_x, wants_weight, _ = ctx.needs_input_grad
        if not wants_weight:
            return _weighted(grad, weight, incidence.transposed), None, None
        made = empty if incidence.whole else zeros
        to_weight = made(incidence.n_inputs, ctx.heads, grad)
        if not wants_x:
            ends = incidence.targets, x, incidence.sources
            return None, dots(grad, *ends, incidence.picks, to_weight), None
        turned = incidence.transposed
        entries = turned.sources, as_array(weight), turned.picks, as_array(x)
        further = (as_array(to_weight),)
        to_x = _by_target(loops.return_entries, grad, turned, entries, further, own=True)
        return to_x, to_weight, None


class _NarrowLinear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x if any(ctx.needs_input_grad[1:]) else None, weight)
        out = empty(len(x), weight.shape[1], x)
        start = out.new_empty(0, 1) if bias is None else bias[None]
        args = as_array(x), as_array(weight), as_array(start), as_array(out)
        workers.run(loops.times_narrow, even_bounds(*x.shape), args)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        wants_x, _, wants_bias = ctx.needs_input_grad
        (inputs, outputs), rows, given = weight.shape, len(grad), as_array(grad)
        to_x = to_weight = to_bias = None
        if wants_x:
            to_x = empty(rows, inputs, grad)
            args = given, as_array(weight.T), as_array(to_x)
            workers.run(loops.return_narrow_rows, even_bounds(rows, inputs), args)
        if x is not None:
            runs = -(-rows // loops.RUN)
            tables = grad.new_zeros(runs, outputs + 1, -(-inputs // LANES) * LANES)
            bounds = even_bounds(runs, loops.RUN * inputs)
            args = given, as_array(x), as_array(tables)
            workers.run(loops.return_narrow_weight, bounds, args)
            whole = tables.sum(0)
            to_weight = whole[:outputs, :inputs].T
            to_bias = whole[outputs, :outputs] if wants_bias else None
        return to_x, to_weight, to_bias


class _VectorDot(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, vector: Tensor, heads: int) -> Tensor:
        wants_x, wants_vector, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if wants_vector else None, vector)
        ctx.wants_x = wants_x
        out = empty(len(x), heads, x)
        args = as_array(x), as_array(vector), as_array(out)
        workers.run(loops.dot_vector, even_bounds(*x.shape), args)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, vector = ctx.saved_tensors
        rows, width = len(grad), vector.shape[1]
        runs = -(-rows // loops.RUN)
        to_x = empty(rows if ctx.wants_x else 0, width, grad)
        to_vector = grad.new_zeros(0 if x is None else runs, width)
        read = as_array(grad), as_array(vector if x is None else x), as_array(vector)
        args = (*read, as_array(to_x), as_array(to_vector))
        workers.run(loops.return_dot_vector, even_bounds(runs, loops.RUN * width), args)
        return (
            to_x if ctx.wants_x else None,
            None if x is None else to_vector.sum(0, keepdim=True),
            None,
        )


class _GroupedLinear(Function):
    """One product for each set, on contiguous slices."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, sets: Incidence
    ) -> Tensor:
        sorted_x = x if sets.order is None else rows_at(x, sets.order)
        ctx.sets = sets
        wants_x, wants_weight = ctx.needs_input_grad[:2]
        ctx.save_for_backward(sorted_x if wants_weight else None, weight if wants_x else None)
        out = empty(sets.n_entries, weight.shape[2], x)
        for s, begin, end in sets.nonempty:
            if bias is None:
                torch.mm(sorted_x[begin:end], weight[s], out=out[begin:end])
            else:
                torch.addmm(bias[s], sorted_x[begin:end], weight[s], out=out[begin:end])
        return out if sets.order is None else rows_at(out, sets.inverse)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x, weight), sets = ctx.saved_tensors, ctx.sets
        sorted_grad = grad.contiguous() if sets.order is None else rows_at(grad, sets.order)
        to_x = to_weight = to_bias = None
        if weight is not None:
            to_x = empty(sets.n_entries, weight.shape[1], grad)
            for s, begin, end in sets.nonempty:
                torch.mm(sorted_grad[begin:end], weight[s].t(), out=to_x[begin:end])
            if sets.order is not None:
                to_x = rows_at(to_x, sets.inverse)
        if x is not None:
            to_weight = grad.new_zeros(sets.n_targets, x.shape[1], grad.shape[1])
            for s, begin, end in sets.nonempty:
                torch.mm(x[begin:end].t(), sorted_grad[begin:end], out=to_weight[s])
        if ctx.needs_input_grad[2]:
            to_bias = summed(grad, None, sets.picks, sets)
        return to_x, to_weight, to_bias, None


class _PaddedLinear(Function):
    """One batched product, every set padded to the largest: for many small ones."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, sets: Incidence, padding: Padding
    ) -> Tensor:
        batch = padding.batch(x)
        ctx.sets, ctx.padding = sets, padding
        wants_x, wants_weight = ctx.needs_input_grad[:2]
        ctx.save_for_backward(batch if wants_weight else None, weight if wants_x else None)
        out = batch.bmm(weight) if bias is None else torch.baddbmm(bias[:, None], batch, weight)
        return padding.rows(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x, weight), padding = ctx.saved_tensors, ctx.padding
        batch = padding.batch(grad)
        to_x = None if weight is None else padding.rows(batch.bmm(weight.mT))
        to_weight = None if x is None else x.mT.bmm(batch)
        to_bias = batch.sum(1) if ctx.needs_input_grad[2] else None
        return to_x, to_weight, to_bias, None, None
