"""Rows read by number, as they are or dotted with others."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from relann.errors import PlanError
from relann.provenance.kernels import plain
from relann.provenance.kernels.memory import empty, no_elements
from relann.provenance.kernels.operations import alike, apply, compiled, expect
from relann.provenance.kernels.products import summed
from relann.provenance.kernels.rowwise import dots, rows_at
from relann.provenance.kernels.structures import Index


def gather(x: Float[Tensor, "sources width"], index: Index) -> Float[Tensor, "rows width"]:
    """Row index[r] of x for every r; 0, without gradient, where index[r] is −1.

    The identity index gives x itself. Gradient: each source the sum of the rows that read it.
    """
    expect("x", x, index.n_sources)
    if index.identity:
        return x
    if not compiled(x):
        return plain.gather(x, index)
    return apply(_Gather, x, index)


def gathered_dot(
    x: Float[Tensor, "left width"],
    y: Float[Tensor, "right width"],
    left: Index,
    right: Index,
    heads: int = 1,
) -> Float[Tensor, "rows heads"]:
    """x[left[r]] · y[right[r]] for every r, over each of `heads` equal slices of the width.

    0, without gradient, where either is −1. Neither gather is materialised.
    """
    expect("x", x, left.n_sources)
    expect("y", y, right.n_sources)
    if len(left) != len(right):
        raise PlanError(f"the indices have {len(left)} and {len(right)} rows")
    if x.shape[1] != y.shape[1] or heads < 1 or x.shape[1] % heads:
        raise PlanError(f"widths {x.shape[1]} and {y.shape[1]} cannot be {heads} equal heads")
    x, y = alike(x, y, "y")
    if not compiled(x):
        product = plain.gather(x, left) * plain.gather(y, right)
        return product.view(len(left), heads, x.shape[1] // heads).sum(2)
    return apply(_Dot, x, y, left, right, heads)


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Index) -> Tensor:
        ctx.index = index
        return rows_at(x, index.rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        readers = ctx.index.transposed
        return summed(grad, None, readers.picks, readers), None


class _Dot(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, left: Index, right: Index, heads: int) -> Tensor:
        ctx.ends = left, right
        wants_x, wants_y = ctx.needs_input_grad[:2]
        ctx.save_for_backward(x if wants_y else None, y if wants_x else None)
        return dots(x, left.rows, y, right.rows, no_elements(left.rows), empty(len(left), heads, x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x, y), (left, right) = ctx.saved_tensors, ctx.ends
        pairs = left.paired(right)
        to_x = to_y = None
        if y is not None:
            to_x = summed(y, grad, pairs.picks, pairs)
        if x is not None:
            turned = pairs.transposed
            to_y = summed(x, grad, turned.picks, turned)
        return to_x, to_y, None, None, None
