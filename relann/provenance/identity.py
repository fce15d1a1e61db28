"""Which row is which, across row maps of other seeds: the same row has the same number in all."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from relann.algebra.engines.protocol import Engine, Ints, whole_numbers
from relann.algebra.plan import Groups, Plan, Rows, Stack
from relann.algebra.terms import Content, column
from relann.provenance.encoders import hashes, mixed

Numbers = npt.NDArray[np.uint64]
_ROW_NUMBER = re.compile(r"#(\d+)")


class Identities:
    """64 bits for each row of the spaces that depend on seeds: a hash of what the row is.

    That is its columns, where a row number stands for the row it names. Rows that are equal in all
    of them are not told apart.
    """

    def __init__(
        self, plan: Plan, engine: Engine, held: Mapping[int, object], varying: Collection[int]
    ) -> None:
        self._plan = plan
        self._engine = engine
        self._held = held
        self._varying = varying
        self._known: dict[int, Numbers] = {}

    def of(self, space: int) -> Numbers:
        """Of all rows of a space."""
        if space not in self._known:
            self._known[space] = self._of(space)
        return self._known[space]

    def _of(self, number: int) -> Numbers:
        match self._plan.spaces[number]:
            case Rows(_, columns):
                names = columns
            case Groups(_, keys):
                names = keys
            case Stack(parts):
                return np.concatenate([mixed(self.of(p) ^ np.uint64(p)) for p in parts])
        total = np.full(self._held[number].count, number, dtype=np.uint64)  # type: ignore[attr-defined]
        contents: list[Content] = [column(name, "") for name in names]
        arrays = self._engine.arrays(self._held[number], contents) if names else []
        for name, array in zip(names, arrays, strict=True):
            total = mixed(total ^ self._bits(name, array))
        return total

    def _bits(self, name: str, array: pa.Array) -> Numbers:
        found = _ROW_NUMBER.fullmatch(name)
        if found is None or int(found[1]) not in self._varying:
            return hashes(array)
        of = np.append(self.of(int(found[1])), np.uint64(0))  # the last stands for no row
        found_of: Numbers = of[whole_numbers(array)]
        return found_of


class Fresh:
    """Tells rows that were not there before; remembers eight bytes of each."""

    def __init__(self) -> None:
        self._seen: dict[int, Numbers] = {}

    def rows(self, space: int, rows: Ints, ids: Numbers) -> Ints:
        """Of some rows of a space those whose identity no earlier call had."""
        own = ids[rows]
        known = self._seen.get(space, np.empty(0, dtype=np.uint64))
        at = np.minimum(np.searchsorted(known, own), max(len(known) - 1, 0))
        fresh = np.ones(len(own), dtype=bool) if not len(known) else known[at] != own
        self._seen[space] = np.union1d(known, own[fresh])
        kept: Ints = rows[fresh]
        return kept
