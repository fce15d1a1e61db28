"""The memory of tensors, as compiled loops read or write it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]

_HUGE = 1 << 22  # bytes from which numpy asks for huge pages


def empty(rows: int, width: int, like: Tensor) -> Tensor:
    """An uninitialised tensor, aligned to cache lines, on huge pages if large.

    Touching 128 MB of fresh memory takes 24 ms from torch's allocator and 9 ms so (two cores,
    transparent huge pages on request, November 2026).
    """
    size = rows * width * like.element_size()
    if size < _HUGE:
        return torch.empty((rows, width), dtype=like.dtype)
    memory = np.empty(size + 64, dtype=np.uint8)
    start = -memory.ctypes.data % 64
    return torch.from_numpy(memory[start : start + size]).view(like.dtype).view(rows, width)


def zeros(rows: int, width: int, like: Tensor) -> Tensor:
    return empty(rows, width, like).zero_()


def as_array(x: Tensor) -> Array:
    """The tensor's memory as a contiguous numpy array."""
    return x.detach().contiguous().numpy()


def no_elements(like: Array) -> Array:
    """What a loop takes as: no such array."""
    return np.empty(0, dtype=like.dtype)
