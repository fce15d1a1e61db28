"""Labelled rows bound to a network: all at once, or in slices of the same row maps."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from relann.algebra.plan import Plan
from relann.algebra.rowmaps import RowMaps
from relann.errors import DataError
from relann.models.ahead import Ahead
from relann.models.splits import Numbers
from relann.models.team import ALONE
from relann.provenance.arrays import host
from relann.provenance.inputs import Inputs, Known
from relann.provenance.module import Batch, QueryModule
from relann.provenance.slices import Slice, cut, placed


@dataclass(frozen=True)
class Part:
    """Some output rows, ready to be computed.

    rows   which rows of the batch's output they are (None: all)
    valid  which of them have a prediction that is not NULL (None: all)
    """

    batch: Batch
    rows: Tensor | None
    valid: Known | None

    @classmethod
    def bind(cls, module: QueryModule, part: Slice, inputs: Inputs | None = None) -> Part:
        """A slice of row maps, bound; `inputs` are those of the slice, if there already."""
        batch = module.bind(part.maps, inputs, part.stacks)
        valid = batch.outputs[0][2]
        if part.rows is None:
            return cls(batch, None, valid)
        known = None if valid is None else valid[host(part.rows)]
        return cls(batch, part.rows.to(module.device), known)

    def scores(self, module: QueryModule) -> Tensor:
        """The prediction of each of the rows. Shape (rows, width)."""
        ((scores, _),) = module.forward(self.batch)
        return self.asked(scores)

    def asked(self, scores: Tensor) -> Tensor:
        """Of the batch's output those rows that were asked for."""
        return scores if self.rows is None else scores.index_select(0, self.rows)


class Sliced:
    """Row maps to be cut again and again: copied to the model's device once, encoded once."""

    def __init__(self, module: QueryModule, maps: RowMaps, inputs: Inputs | None = None) -> None:
        self.module = module
        self.maps = maps
        self._bare = placed(replace(maps, columns={}, kept={}), module.device)
        self._inputs = inputs
        self._plan: Plan | None = None

    @cached_property
    def inputs(self) -> Inputs:
        """The encoded content of all rows."""
        return self.module.inputs(self.maps) if self._inputs is None else self._inputs

    def part(self, rows: Numbers) -> Part:
        """The part of some output rows (distinct, ascending); the first settles the plan of all."""
        found = cut(self._bare, rows).running(self._plan)
        self._plan = found.maps.plan
        return Part.bind(self.module, found, self.inputs.take(found.maps.kept))


Parts = Generator[tuple[Part, Tensor], None, None]
"""Parts with their targets; closed, it leaves no thread behind."""


class Labelled(Protocol):
    """The labelled rows of a split, in parts that can be computed, each row with its target."""

    @property
    def count(self) -> int:
        """How many rows there are."""

    @property
    def targets(self) -> Tensor:
        """Of all rows, as `ordered` has them."""

    def shuffled(self, source: np.random.Generator) -> Parts:
        """Every row once, in parts drawn at random."""

    def ordered(self) -> Iterable[tuple[Part, Tensor]]:
        """Every row once, in the same order every time."""


class Batches:
    """The labelled rows of a split, each with its target.

    `whole` is the part of them all, if cut already. Of each slice this process has its `share`.
    """

    def __init__(
        self,
        source: Sliced,
        rows: Numbers,
        targets: Tensor,
        size: int | None,
        name: str,
        whole: Slice | None = None,
        share: Callable[[Numbers], Numbers] = ALONE.share,
    ) -> None:
        self._source: Sliced | None = source  # until all rows are bound at once
        self.rows = rows
        self.targets = targets
        self.size = size if size is not None and size < len(rows) else None
        self.name = name
        self._slice = whole
        self._share = share

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    @cached_property
    def _whole(self) -> list[tuple[Part, Tensor]]:
        chosen = self._share(np.arange(len(self.rows)))
        found = self._slice if len(chosen) == len(self.rows) else None
        self._slice = None
        assert self._source is not None
        source, self._source = self._source, None
        found = found or cut(source.maps, self.rows[chosen])
        part = Part.bind(source.module, found.running())
        return [(self._checked(part), self._targets(chosen))]

    @cached_property
    def _fixed(self) -> list[tuple[Part, Tensor]]:
        assert self.size is not None
        order = np.arange(len(self.rows))
        starts = range(0, len(order), self.size)
        return [self._part(order[begin : begin + self.size]) for begin in starts]

    def shuffled(self, source: np.random.Generator) -> Parts:
        """Every row once, in slices drawn at random, the next one cut while one is used."""
        if self.size is None:
            yield from self._whole
            return
        order = source.permutation(len(self.rows))
        starts = range(0, len(order), self.size)
        slices = (self._share(np.sort(order[begin : begin + self.size])) for begin in starts)
        with Ahead(slices, self._part, interrupt=_nothing) as ahead:
            for _ in starts:
                yield ahead.take()[1]

    def ordered(self) -> list[tuple[Part, Tensor]]:
        """Every row once, in order; bound once."""
        return self._whole if self.size is None else self._fixed

    def _part(self, chosen: Numbers) -> tuple[Part, Tensor]:
        assert self._source is not None
        part = self._source.part(self.rows[chosen])
        return self._checked(part), self._targets(chosen)

    def _targets(self, chosen: Numbers) -> Tensor:
        return self.targets[torch.from_numpy(chosen).to(self.targets.device)]

    def _checked(self, part: Part) -> Part:
        check_predicted(part.valid, self.name)
        return part


def _nothing() -> None:
    """What stops the cutting of a slice: it is short."""


def check_predicted(valid: Known | None, split: str) -> None:
    """DataError where a labelled row has no prediction to compare with."""
    if valid is not None and (missing := int((~valid).sum())):
        raise DataError(
            f"the prediction is NULL in {missing} of {len(valid)} labelled {split} rows; give what "
            "is missing a value with coalesce(…, 0), or leave such rows out"
        )
