"""Who trains a model together: which rows are whose, and what comes of everybody's results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from relann.models.splits import Numbers

T = TypeVar("T")


class Team:
    """One process alone, which the others extend.

    Every process of a team calls the same methods in the same order.

    rank  the process's number, from 0; number 0 leads
    size  how many processes there are
    """

    rank = 0
    size = 1

    def share(self, rows: Numbers) -> Numbers:
        """The rows that this process computes, as they follow each other; perhaps none."""
        begin, end = (len(rows) * r // self.size for r in (self.rank, self.rank + 1))
        return rows[begin:end]

    def use(self, device: torch.device) -> None:
        """Raise EngineError where the team cannot train on a device."""

    def agree(self, what: str, digest: Callable[[], bytes]) -> None:
        """Raise DataError unless `digest` is the same for all, telling `what` they differ in."""

    def combine(
        self, learned: Sequence[Tensor], loss: float, count: int, device: torch.device
    ) -> tuple[float, int]:
        """Make the gradients those of all rows of the step, and tell its mean loss and row count.

        `loss` is the mean over the `count` rows of this process, whose gradients `learned` have.
        """
        return loss, count

    def gathered(self, values: Tensor) -> Tensor:
        """The rows of all processes' tensors, in the order of their shares."""
        return values

    def leading(self, value: T) -> T:
        """What the leading process has computed."""
        return value


ALONE = Team()
