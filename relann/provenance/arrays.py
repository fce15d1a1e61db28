"""Arrays as tensors on whichever device they are, and the few operations on them that differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def shared(array: Any) -> Tensor:
    """An array that has `__dlpack__` as a tensor on the same memory, on its device.

    Numpy's also where it is read-only; nobody may write to the tensor then.
    """
    if isinstance(array, Tensor):
        return array
    if isinstance(array, np.ndarray):
        array = np.ascontiguousarray(array)
    made: Tensor = torch.from_dlpack(array)  # type: ignore[attr-defined]
    return made


def host(tensor: Tensor) -> npt.NDArray[Any]:
    """A tensor as numpy's array: its own memory on the CPU, else a copy."""
    return tensor.detach().cpu().numpy()


def places(mask: Tensor) -> Tensor:
    """Where a mask holds, ascending. int64

    On the CPU by numpy, which takes a tenth of torch's time (1.5M rows, one of two cores of an
    AMD EPYC, November 2026).
    """
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero()[:, 0]


def mark_rows(mask: Tensor, numbers: Tensor) -> None:
    """Set the mask where the numbers say; −1 is its last place.

    On the CPU by numpy, which takes half of torch's time (10M numbers of 1M rows, two cores of an
    AMD EPYC, November 2026).
    """
    if mask.device.type == "cpu":
        mask.numpy()[numbers.numpy()] = True
    else:
        mask[numbers] = True


def present(numbers: Tensor, count: int) -> Tensor:
    """Which of so many numbers occur."""
    mark = torch.zeros(count, dtype=torch.bool, device=numbers.device)
    mark_rows(mark, numbers)
    return mark


def renumbering(count: int, kept: Tensor) -> Tensor:
    """For −1 and each row before, in that order, the row's number among those kept, −1: none."""
    kind = torch.int32 if count < 2**31 else torch.int64
    fresh = torch.full((count + 1,), -1, dtype=kind, device=kept.device)
    fresh[kept + 1] = torch.arange(len(kept), dtype=kind, device=kept.device)
    return fresh
