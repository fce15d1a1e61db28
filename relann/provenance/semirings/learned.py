"""(Rⁿ, +, ×) element by element: provenance that can be learned, as embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from relann.algebra.engines.protocol import Ints
from relann.provenance.semirings.semiring import BaseTuples, Semiring


class Learned(Semiring[Tensor, Tensor]):
    """Sum-product over embeddings of a width: each element is a circuit of its own.

    `embed` gives the embeddings of base tuples, [rows, width]. Gradients flow through all of it.
    This is what `OPTIONS (provenance = 'learned')` trains, there run as a plan.
    """

    name = "learned"

    def __init__(
        self,
        width: int,
        embed: Callable[[BaseTuples], Tensor],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.width = width
        self.embed = embed
        self.zero = torch.zeros(width, dtype=dtype)
        self.one = torch.ones(width, dtype=dtype)

    def plus(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def times(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b

    def base(self, tuples: BaseTuples) -> Tensor:
        return self.embed(tuples)

    def ones(self, count: int) -> Tensor:
        return self.one.expand(count, -1)

    def take(self, values: Tensor, rows: Ints) -> Tensor:
        return values[_indices(rows)]

    def products(self, left: Tensor, right: Tensor) -> Tensor:
        return left * right

    def sums(self, values: Tensor, groups: Ints, count: int) -> Tensor:
        total = values.new_zeros(count, self.width)
        return total.index_add(0, _indices(groups), values)

    def stacked(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts))


def _indices(rows: Ints) -> Tensor:
    return torch.from_numpy(np.array(rows, dtype=np.int64))  # a copy: the engine's is read-only
