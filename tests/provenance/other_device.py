"""A device that is none: tensors that compute on the CPU, say they are elsewhere, and tell.

What a GPU would refuse raises here: an operation on tensors of two devices, numpy reading a tensor.
What a GPU would wait for, or copy, is written down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

ELSEWHERE = torch.device("meta")
"""A device that every torch has and nothing here is on."""

_WAITS = {  # their answer, or its size, depends on numbers
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten._unique2.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.bincount.default,
}


class There(Tensor):
    """A tensor elsewhere; `inner` are its numbers."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> There:
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=ELSEWHERE,
        )

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    def tolist(self) -> list[Any]:
        return self.cpu().tolist()

    def __repr__(self) -> str:
        return f"There({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of a `Watch`")


@dataclass
class Told:
    """What went over: arrays that came and went as (type, size); operations that were waited for.

    An array without elements is nothing to copy.
    """

    came: list[tuple[torch.dtype, int]] = field(default_factory=list)
    went: list[tuple[torch.dtype, int]] = field(default_factory=list)
    waited: list[str] = field(default_factory=list)

    def forget(self) -> None:
        """Begin anew."""
        for found in (self.came, self.went, self.waited):
            found.clear()


class Watch(TorchDispatchMode):
    """While it is on, tensors can be elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.told = Told()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [a for a in tree_flatten((args, kwargs))[0] if isinstance(a, Tensor)]
        there = [t for t in tensors if isinstance(t, There)]
        here = [t for t in tensors if not isinstance(t, There)]
        to = kwargs.get("device")
        out = to == ELSEWHERE if to is not None else bool(there)
        if func is torch.ops.aten._to_copy.default and to is not None:
            (source,) = tensors
            crossed = (source.dtype, source.numel())
            if there and not out:
                self.told.went += [crossed] if source.numel() else []
            elif not there and out:
                self.told.came += [crossed] if source.numel() else []
        elif there and any(t.ndim for t in here):
            raise AssertionError(f"{func} of tensors on two devices")
        if there and func in _WAITS:
            self.told.waited.append(str(func))
        if to is not None:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        found = func(*_inner(args), **_inner(kwargs))
        if not out:
            return found
        made = tree_map(lambda t: There(t) if isinstance(t, Tensor) else t, found)
        return return_and_correct_aliasing(func, args, kwargs, made) if there else made


def _inner(given: Any) -> Any:
    return tree_map(lambda t: t.inner if isinstance(t, There) else t, given)


def here(tensor: Tensor) -> Tensor:
    """The numbers of a tensor, wherever it is."""
    tensor = tensor.detach()
    return tensor.inner if isinstance(tensor, There) else tensor
