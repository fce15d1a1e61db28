"""The entry of every operation: shapes checked, a path chosen, autograd told."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from relann.errors import PlanError

COMPILED = (torch.float32, torch.float64)  # types of number that compiled loops know


def compiled(x: Tensor) -> bool:
    """Whether x is for the compiled loops: the one place where devices part.

    The loops give the same bits for the same input, whatever the number of threads: each target is
    summed by one thread, entry after entry, and a target of many entries is cut at fixed places.
    Other devices or types run plain torch operations.
    """
    kind = x.device.type
    return kind == "cpu" and x.dtype in COMPILED and not torch.is_autocast_enabled(kind)


def alike(x: Tensor, y: Tensor, what: str) -> tuple[Tensor, Tensor]:
    """Both in one type of number: the wider in mixed precision, else PlanError if they differ."""
    if x.dtype == y.dtype:
        return x, y
    if not torch.is_autocast_enabled(x.device.type):
        raise PlanError(f"{what} is {y.dtype}, x is {x.dtype}")
    wide = torch.promote_types(x.dtype, y.dtype)
    return x.to(wide), y.to(wide)


def expect(what: str, x: Tensor, rows: int) -> None:
    if x.ndim != 2 or len(x) != rows:
        raise PlanError(f"{what} has shape {tuple(x.shape)}, not [{rows}, width]")


def apply(operation: type[Function], *args: Any) -> Tensor:
    """The operation's value, differentiable once: a second derivative raises."""
    made: Tensor = operation.apply(*args)  # type: ignore[no-untyped-call]
    return made
