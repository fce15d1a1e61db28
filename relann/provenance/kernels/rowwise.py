"""Passes that make each row from rows read by number."""

from __future__ import annotations

from torch import Tensor

from relann.provenance.kernels import loops
from relann.provenance.kernels.memory import Array, as_array, empty
from relann.provenance.kernels.threads import even_bounds, workers


def rows_at(x: Tensor, index: Array) -> Tensor:
    """x[index], 0 for −1."""
    out = empty(len(index), x.shape[1], x)
    args = (as_array(x), index, as_array(out))
    workers.run(loops.copy_rows, even_bounds(len(index), x.shape[1]), args)
    return out


def dots(x: Tensor, left: Array, y: Tensor, right: Array, place: Array, out: Tensor) -> Tensor:
    """`out` with x[left[r]] · y[right[r]] at row place[r] (r, if `place` has no elements)."""
    args = (as_array(x), left, as_array(y), right, place, as_array(out))
    workers.run(loops.dot_rows, even_bounds(len(left), x.shape[1]), args)
    return out
