"""Reductions over the rows of each target, whole or running."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from relann.provenance.kernels import loops, plain
from relann.provenance.kernels.memory import as_array, empty, zeros
from relann.provenance.kernels.operations import apply, compiled, expect
from relann.provenance.kernels.products import summed, weighted_sum
from relann.provenance.kernels.simd import LANES
from relann.provenance.kernels.structures import Incidence
from relann.provenance.kernels.threads import even_bounds, workers


def segment_sum(
    x: Float[Tensor, "sources width"], incidence: Incidence
) -> Float[Tensor, "targets width"]:
    """Sum of each target's source rows; an empty target is 0."""
    return weighted_sum(x, None, incidence)


def segment_mean(
    x: Float[Tensor, "sources width"], incidence: Incidence
) -> Float[Tensor, "targets width"]:
    """Mean of each target's source rows; an empty target is 0."""
    expect("x", x, incidence.n_sources)
    if not compiled(x):
        return plain.weighted_sum(x, None, incidence) * incidence.shares(x)
    return apply(_Mean, x, incidence)


def segment_max(
    x: Float[Tensor, "sources width"], incidence: Incidence
) -> Float[Tensor, "targets width"]:
    """Greatest of each target's source rows, column by column; an empty target is 0, NaN wins.

    Gradient: to the first entry that is greatest.
    """
    return _extreme(x, incidence, 1)


def segment_min(
    x: Float[Tensor, "sources width"], incidence: Incidence
) -> Float[Tensor, "targets width"]:
    """Least of each target's source rows, column by column; an empty target is 0, NaN wins.

    Gradient: to the first entry that is least.
    """
    return _extreme(x, incidence, -1)


def segment_softmax(
    score: Float[Tensor, "inputs heads"], incidence: Incidence
) -> Float[Tensor, "inputs heads"]:
    """exp(score) / Σ exp(score) over each target's entries, column by column, in input order.

    Shifted by the target's greatest score, so large scores do not overflow. 0 for an input pair
    that belongs to no target. The incidence's sources play no part.
    """
    expect("score", score, incidence.n_inputs)
    if not compiled(score):
        return plain.softmax(score, incidence)
    return apply(_Softmax, score, incidence)


def segment_cumsum(
    x: Float[Tensor, "inputs width"], incidence: Incidence
) -> Float[Tensor, "inputs width"]:
    """Running sum, the row itself included, inside each target, in entry order; in input order.

    0 for an input pair that belongs to no target. The incidence's sources play no part.
    """
    expect("x", x, incidence.n_inputs)
    if not compiled(x):
        return plain.cumsum(x, incidence)
    return apply(_Cumsum, x, incidence, False)


def _extreme(x: Tensor, incidence: Incidence, sign: int) -> Tensor:
    expect("x", x, incidence.n_sources)
    if not compiled(x):
        return plain.extreme(x, incidence, sign)
    return apply(_Extreme, x, incidence, sign)


class _Mean(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, incidence: Incidence) -> Tensor:
        ctx.incidence = incidence
        return summed(x, None, incidence.picks, incidence).mul_(incidence.shares(x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        turned = ctx.incidence.transposed
        share = ctx.incidence.shares(grad)
        return summed(grad, share, turned.sources, turned), None


class _Extreme(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, incidence: Incidence, sign: int) -> Tensor:
        width, values, offsets = x.shape[1], as_array(x), incidence.offsets
        ctx.incidence = incidence
        wanted = incidence.n_targets if ctx.needs_input_grad[0] else 0
        ctx.chosen = np.empty((wanted, width), dtype=offsets.dtype)
        out = empty(incidence.n_targets, width, x)
        turn = np.array([sign], dtype=values.dtype)
        args = (values, offsets, incidence.sources, turn, as_array(out), ctx.chosen)
        workers.run(loops.extreme_entries, incidence.chunks(width), args)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        incidence, (targets, width) = ctx.incidence, grad.shape
        out = zeros(incidence.n_sources, width, grad)
        bounds = even_bounds(
            -(-width // LANES), targets * LANES
        )  # columns apart: no two threads meet
        columns = sorted({min(b * LANES, width) for b in bounds})
        if len(columns) > 1:
            args = (as_array(grad), ctx.chosen, as_array(out), 0, targets)
            workers.run(loops.return_extremes, columns, args)
        return out, None, None


class _Softmax(Function):
    @staticmethod
    def forward(ctx: Any, score: Tensor, incidence: Incidence) -> Tensor:
        rows, width = score.shape
        out = empty(rows, width, score)
        if not incidence.whole:
            out.fill_(-torch.inf)
        where, bounds = (incidence.offsets, incidence.picks), incidence.chunks(width)
        workers.run(loops.shift_by_maximum, bounds, (as_array(score), *where, as_array(out)))
        out.exp_()
        workers.run(loops.divide_by_sum, bounds, (as_array(out), *where))
        ctx.incidence = incidence
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (y,), incidence = ctx.saved_tensors, ctx.incidence
        out = (empty if incidence.whole else zeros)(len(y), y.shape[1], y)
        args = (as_array(grad), as_array(y), incidence.offsets, incidence.picks, as_array(out))
        workers.run(loops.return_softmax, incidence.chunks(y.shape[1]), args)
        return out, None


class _Cumsum(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, incidence: Incidence, backwards: bool) -> Tensor:
        ctx.incidence, ctx.backwards = incidence, backwards
        out = (empty if incidence.whole else zeros)(len(x), x.shape[1], x)
        args = (as_array(x), incidence.offsets, incidence.picks, backwards, as_array(out))
        workers.run(loops.run_sums, incidence.chunks(x.shape[1]), args)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        turned = not ctx.backwards
        return apply(_Cumsum, grad, ctx.incidence, turned), None, None
