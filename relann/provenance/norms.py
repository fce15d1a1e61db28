"""Batch normalisation with rows left out."""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-5
MOMENTUM = 0.1


def batch_norm(
    x: Tensor,
    rows: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    mean: Tensor,
    variance: Tensor,
    steps: Tensor,
    training: bool,
) -> Tensor:
    """(x − μ) / √(σ² + 1e-5) · scale + shift, element by element. Shape of x: (rows, width).

    In training μ and σ² are those of the given `rows` of x (None: all), and the running `mean` and
    `variance` move towards them: the plain average of the first ten steps, then by a tenth each
    step (the variance as the sample's, where there are two rows). Otherwise μ and σ² are the
    running ones. Ioffe and Szegedy 2015, algorithms 1 and 2.
    """
    if training:
        known = x if rows is None else x.index_select(0, rows)
        if len(known):
            center = known.mean(0)
            spread = (known - center).square().mean(0)
            _follow(known, center, spread, mean, variance, steps)
            return (x - center) * torch.rsqrt(spread + EPSILON) * scale + shift
    return (x - mean) * torch.rsqrt(variance + EPSILON) * scale + shift


def _follow(
    known: Tensor, center: Tensor, spread: Tensor, mean: Tensor, variance: Tensor, steps: Tensor
) -> None:
    with torch.no_grad():
        count = len(known)
        # a tensor: a number would wait for the device
        share = (1 / (steps + 1).to(mean.dtype)).clamp(min=MOMENTUM)
        mean.lerp_(center.detach(), share)
        variance.lerp_(spread.detach() * (count / max(count - 1, 1)), share)
        steps += 1
