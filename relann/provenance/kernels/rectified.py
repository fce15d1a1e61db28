"""Products of rectified rows, relu(x) @ weight + bias, several of the same rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from relann.errors import PlanError
from relann.provenance.kernels.operations import compiled
from relann.provenance.kernels.products import linear

_BLOCK = 1 << 18  # numbers of a block of rows: its gradients stay in the cache


def rectified_linear(
    x: Float[Tensor, "rows inputs"],
    weights: Sequence[Float[Tensor, "inputs outputs"]],
    biases: Sequence[Float[Tensor, " outputs"] | None],
    spent: bool = False,
) -> list[Tensor]:
    """relu(x) @ weight + bias for each weight. Gradients to all.

    Of what is as large as x the backward pass makes nothing: x's gradient is written over relu(x),
    so it can be taken once only. `spent`: nobody reads x afterwards, so relu(x) is written over it,
    unless it is a leaf. Other devices run plain torch operations.
    """
    if not compiled(x):
        rectified = torch.relu(x)
        return [linear(rectified, w, b) for w, b in zip(weights, biases, strict=True)]
    made: tuple[Tensor, ...] = _RectifiedLinear.apply(  # type: ignore[no-untyped-call]
        x, spent and not (x.is_leaf and x.requires_grad), len(weights), *weights, *biases
    )
    return list(made)


class _RectifiedLinear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, spent: bool, count: int, *arrays: Tensor | None) -> Any:
        rectified = x.relu_() if spent else torch.relu(x)
        weights, biases = arrays[:count], arrays[count:]
        ctx.rectified = rectified.detach()
        ctx.save_for_backward(*weights)
        return tuple(
            linear(rectified, w, b) for w, b in zip(weights, biases, strict=True) if w is not None
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weights, count = ctx.rectified, ctx.saved_tensors, len(grads)
        if x is None:
            raise PlanError("the gradient of rectified rows is taken a second time")
        wanted = ctx.needs_input_grad[3:]
        to_weights = [
            (g.T @ x).T if want else None for g, want in zip(grads, wanted[:count], strict=True)
        ]
        to_biases = [
            g.sum(0) if want else None for g, want in zip(grads, wanted[count:], strict=True)
        ]
        if ctx.needs_input_grad[0]:
            _return(x, grads, weights)
            ctx.rectified = None
        return x if ctx.needs_input_grad[0] else None, None, None, *to_weights, *to_biases


def _return(x: Tensor, grads: Sequence[Tensor], weights: Sequence[Tensor]) -> None:
    """Put Σ grad @ weightᵀ where x is positive, 0 elsewhere."""
    rows = max(1, _BLOCK // max(1, x.shape[1]))
    made = x.new_empty((min(rows, len(x)), x.shape[1]))
    for begin in range(0, len(x), rows):
        block = x[begin : begin + rows]
        out = made[: len(block)]
        for number, (grad, weight) in enumerate(zip(grads, weights, strict=True)):
            out.addmm_(grad[begin : begin + rows], weight.T, beta=0 if number == 0 else 1)
        torch.ops.aten.threshold_backward.grad_input(out, block, 0, grad_input=block)
