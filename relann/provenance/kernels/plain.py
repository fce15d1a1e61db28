"""The operations in plain torch, for any device or type."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from relann.provenance.kernels.operations import apply
from relann.provenance.kernels.structures import Incidence, Index, Products


def gather(x: Tensor, index: Index) -> Tensor:
    rows = index.on(x.device)
    if not len(x):
        return _nothing(x, len(rows))
    return x.index_select(0, rows.clamp(min=0)).where((rows >= 0)[:, None], 0)


def weighted_sum(x: Tensor, weight: Tensor | None, incidence: Incidence) -> Tensor:
    maps = incidence.on(x.device)
    if x.device.type in _BAGS and len(x) and (weight is None or weight.shape[1] == 1):
        return apply(_Bag, x, weight, incidence)
    rows = x.index_select(0, maps["sources"])
    if weight is not None:
        scale = weight.index_select(0, maps["order"])[:, :, None]
        size = x.shape[1] // weight.shape[1]
        rows = (rows.view(len(rows), weight.shape[1], size) * scale).view(rows.shape)
    return rows.new_zeros(incidence.n_targets, x.shape[1]).index_add(0, maps["targets"], rows)


_BAGS = ("cpu", "cuda")  # where torch sums bags of rows in one pass


def vector_dot(x: Tensor, vector: Tensor, heads: int) -> Tensor:
    return x @ _block(vector, heads)


def _block(vector: Tensor, heads: int) -> Tensor:
    """The matrix that takes a row to its inner products with a vector's slices. [width, heads]"""
    if heads == 1:
        return vector.T
    slices = vector.view(heads, -1, 1)
    return (slices * torch.eye(heads, dtype=vector.dtype, device=vector.device)[:, None]).reshape(
        -1, heads
    )


class _Bag(Function):
    """Σ weight · row over each target's entries, forward and backward, no row materialised."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, incidence: Incidence) -> Tensor:
        ctx.incidence = incidence
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        return _bags(x, weight, incidence)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x, weight), incidence = ctx.saved_tensors, ctx.incidence
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            to_x = _bags(grad, weight, incidence.transposed)
        if x is not None:
            maps = incidence.on(grad.device)
            products = x.index_select(0, maps["sources"]) * grad.index_select(0, maps["targets"])
            to_weight = weight.new_zeros(weight.shape)
            to_weight.index_copy_(0, maps["order"], products.sum(1, keepdim=True))
        return to_x, to_weight, None


def _bags(x: Tensor, weight: Tensor | None, incidence: Incidence) -> Tensor:
    if not incidence.n_entries:
        return x.new_zeros(incidence.n_targets, x.shape[1])
    maps = incidence.on(x.device)
    scale = None if weight is None else weight[:, 0].index_select(0, maps["order"])
    return functional.embedding_bag(
        maps["sources"],
        x.contiguous(),
        maps["offsets"],
        mode="sum",
        per_sample_weights=scale,
        include_last_offset=True,
    )


def product_sum(x: Tensor, products: Products) -> Tensor:
    targets = products.entries.on(x.device)["targets"]
    picks = products.on(x.device)
    product = x.index_select(0, picks[:, 0])
    for p in range(1, picks.shape[1]):
        product = product * x.index_select(0, picks[:, p])
    return product.new_zeros(products.entries.n_targets, x.shape[1]).index_add(0, targets, product)


def extreme(x: Tensor, incidence: Incidence, sign: int) -> Tensor:
    maps = incidence.on(x.device)
    targets = maps["targets"][:, None].expand(-1, x.shape[1])
    with torch.no_grad():
        rows = sign * x.index_select(0, maps["sources"])
        best = rows.new_zeros(incidence.n_targets, x.shape[1])
        best = best.scatter_reduce(0, targets, rows, "amax", include_self=False)
        hit = (rows == best.gather(0, targets)) | rows.isnan()
        position = torch.arange(len(rows), device=x.device)[:, None].where(hit, len(rows))
        first = position.new_full(best.shape, len(rows))
        first = first.scatter_reduce(0, targets, position, "amin")
        found = first < len(rows)
        padded = torch.cat([maps["sources"], maps["sources"].new_zeros(1)])
    return x.gather(0, padded[first]).where(found, 0) if len(x) else _nothing(x, len(best))


def _nothing(x: Tensor, rows: int) -> Tensor:
    """Zeros that depend on x, which has no rows, for autograd."""
    return x.sum(0, keepdim=True).expand(rows, -1)


def softmax(score: Tensor, incidence: Incidence) -> Tensor:
    maps = incidence.on(score.device)
    rows = score.index_select(0, maps["order"])
    targets = maps["targets"][:, None].expand(-1, score.shape[1])
    shape = incidence.n_targets, score.shape[1]
    best = rows.detach().new_zeros(shape)
    best = best.scatter_reduce(0, targets, rows.detach(), "amax", include_self=False)
    raised = (rows - best.gather(0, targets)).exp()
    total = raised.new_zeros(shape).index_add(0, maps["targets"], raised)
    found = raised / total.gather(0, targets)
    return found.new_zeros(score.shape).index_copy(0, maps["order"], found)


def cumsum(x: Tensor, incidence: Incidence) -> Tensor:
    maps = incidence.on(x.device)
    rows = x.index_select(0, maps["order"])
    exact = rows if x.device.type == "mps" else rows.double()
    running = torch.cat([exact.new_zeros(1, x.shape[1]), exact.cumsum(0)])
    starts = maps["offsets"].index_select(0, maps["targets"])
    sums = (running[1:] - running.index_select(0, starts)).to(x.dtype)
    return torch.zeros_like(x).index_copy(0, maps["order"], sums)


def grouped_linear(x: Tensor, weight: Tensor, bias: Tensor | None, sets: Incidence) -> Tensor:
    maps = sets.on(x.device)
    rows = x.index_select(0, maps["order"])
    made = [rows.new_zeros(0, weight.shape[2])]
    made += [rows[begin:end] @ weight[s] for s, begin, end in sets.nonempty]
    out = torch.cat(made)
    if bias is not None:
        out = out + bias.index_select(0, maps["targets"])
    return out.new_zeros(len(x), weight.shape[2]).index_copy(0, maps["order"], out)
