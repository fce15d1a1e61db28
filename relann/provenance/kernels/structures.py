"""Row maps as the loops walk them, with their transposes.

A structure is where the row numbers it is built from are: on the CPU numpy arrays, made and walked
by compiled loops, on other devices int64 tensors, made and read by torch's own operations.
"""

from __future__ import annotations

import weakref
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from relann.errors import PlanError
from relann.provenance.kernels import loops
from relann.provenance.kernels.loops import RUN
from relann.provenance.kernels.memory import Array, no_elements
from relann.provenance.kernels.rowwise import rows_at
from relann.provenance.kernels.threads import SERIAL, chunk_count, workers

IntArray = npt.NDArray[np.integer[Any]] | Tensor
Numbers = Any
"""Numpy's array on the CPU, a tensor elsewhere."""

PADDED = 64  # rows of the largest set up to which sets of unequal size become one batch


@dataclass(frozen=True, eq=False)
class Incidence:
    """Which source rows meet in each target row, grouped by target (CSR).

    Entry e of target t, offsets[t] ≤ e < offsets[t+1], stands for source row sources[e] and for
    the input pair order[e]; `order` is None if the input already came sorted and whole. Arrays must
    not be written to; on the CPU they are int32 where sizes allow.
    """

    offsets: Numbers
    sources: Numbers
    order: Numbers | None
    n_sources: int
    n_targets: int
    n_inputs: int

    @classmethod
    def build(
        cls, targets: IntArray, sources: IntArray | None, n_targets: int, n_sources: int
    ) -> Incidence:
        """The incidence of pairs (targets[i], sources[i]), in any order; `sources` None: (·, i).

        Pairs with −1 on either side belong to no target; they keep their place among the inputs.
        Within a target, entries keep the order of the input. Raises PlanError for numbers out of
        range or arrays of different lengths.
        """
        n_inputs = len(targets)
        if n_sources != n_inputs and sources is None:
            raise PlanError(f"{n_inputs} rows cannot be the {n_sources} sources")
        if sources is not None and len(sources) != n_inputs:
            raise PlanError(f"{n_inputs} targets but {len(sources)} sources")
        kind = _index_type(n_inputs, n_targets, n_sources)
        keys = _checked(targets, n_targets, kind)
        values = None
        if sources is not None:
            values = _checked(sources, n_sources, kind)
            keys = _left_out(keys, values < 0)
        offsets, placed, order = _grouped(keys, values, None, n_targets)
        return cls(offsets, placed, order, n_sources, n_targets, n_inputs)

    @property
    def n_entries(self) -> int:
        """How many pairs have both a target and a source."""
        return len(self.sources)

    @property
    def whole(self) -> bool:
        """Whether every input pair is an entry."""
        return len(self.sources) == self.n_inputs

    @cached_property
    def counts(self) -> Numbers:
        """Entries of each target, [targets]."""
        return self.offsets[1:] - self.offsets[:-1]

    @cached_property
    def targets(self) -> Numbers:
        """Target row of each entry, [entries]."""
        return self._targets()

    def _targets(self) -> Numbers:
        if isinstance(self.counts, Tensor):
            every = torch.arange(self.n_targets, device=self.counts.device)
            return every.repeat_interleave(self.counts, output_size=self.n_entries)
        return np.repeat(np.arange(self.n_targets, dtype=self.offsets.dtype), self.counts)

    @cached_property
    def nonempty(self) -> list[tuple[int, int, int]]:
        """(target, first entry, last entry + 1) of the targets that have entries."""
        bounds = self.offsets.tolist()
        return [(t, a, b) for t, (a, b) in enumerate(pairwise(bounds)) if a < b]

    @cached_property
    def transposed(self) -> Incidence:
        """The same entries grouped by source: what the backward pass walks."""
        targets = self.__dict__.get("targets")  # not kept for this alone
        if targets is None:
            targets = self._targets()
        made = _grouped(self.sources, targets, self.order, self.n_sources)
        offsets, sources, order = made
        if order is not None and self.whole and bool((order[1:] > order[:-1]).all()):
            order = None
        turned = Incidence(offsets, sources, order, self.n_targets, self.n_sources, self.n_inputs)
        turned.__dict__["transposed"] = self
        return turned

    @cached_property
    def _arranged(self) -> dict[str, Any]:
        return {}

    def arranged(self, weight: Tensor) -> tuple[Tensor, Array]:
        """(weight, pick) such that entry e weighs weight[pick[e]], or weight[e] if `pick` is empty.

        A weight that needs no gradient is put in entry order, once while it stays the same
        tensor at the same version: it mostly is a column of the data. Reading weights through
        `order` takes a third of a product's time (E = 2M, width 64, one core, November 2026).
        """
        if self.order is None or weight.requires_grad or weight.is_inference():
            return weight, self.picks
        owner = weight if weight._base is None else weight._base
        key = weight._version, weight.data_ptr(), weight.shape, weight.stride(), weight.dtype
        kept = self._arranged
        if not kept or kept["owner"]() is not owner or kept["key"] != key:
            kept.update(owner=weakref.ref(owner), key=key, weight=rows_at(weight, self.order))
        arranged: Tensor = kept["weight"]
        return arranged, no_elements(self.offsets)

    @cached_property
    def inverse(self) -> Array:
        """Entry of each input pair, −1 if it is none, [inputs]."""
        found = np.full(self.n_inputs, -1, dtype=self.offsets.dtype)
        found[self.picks if self.order is not None else slice(None)] = np.arange(self.n_entries)
        return found

    @property
    def picks(self) -> Array:
        """`order`, or no elements."""
        return no_elements(self.offsets) if self.order is None else self.order

    @cached_property
    def _shares(self) -> dict[tuple[torch.device, torch.dtype], Tensor]:
        return {}

    def shares(self, like: Tensor) -> Tensor:
        """1 / entries of each target, 0 for an empty one, [targets, 1]; device and type of `like`.

        Divided in float64, whatever the type.
        """
        place = like.device, like.dtype
        if place not in self._shares:
            counts = torch.as_tensor(self.counts).double()
            share = torch.where(counts > 0, 1 / counts, 0.0)[:, None]
            self._shares[place] = share.to(like.dtype).to(like.device)
        return self._shares[place]

    @cached_property
    def _bounds(self) -> dict[tuple[int, bool], list[int]]:
        return {}

    def chunks(self, width: int, cut: bool = False) -> list[int]:
        """Bounds of chunks of targets (of `cuts` if asked) that hold about equally many entries."""
        chunks = chunk_count((self.n_entries + self.n_targets) * width)
        offsets = self.cuts.offsets if cut and self.cuts is not None else self.offsets
        if chunks == 1:
            return [0, len(offsets) - 1]
        if (chunks, cut) not in self._bounds:
            targets = range(len(offsets))
            work = int(offsets[-1]) + len(offsets) - 1
            self._bounds[chunks, cut] = [
                bisect_left(targets, work * i // chunks, key=lambda t: int(offsets[t]) + t)
                for i in range(chunks + 1)
            ]
        return self._bounds[chunks, cut]

    @cached_property
    def cuts(self) -> Cuts | None:
        """How to sum targets of more than RUN entries in parts; None if there are none."""
        if self.n_entries <= RUN or int(self.counts.max()) <= RUN:
            return None
        kind = self.offsets.dtype
        parts = np.maximum(1, -(-self.counts // RUN))
        targets = np.repeat(np.arange(self.n_targets), parts)
        first = np.cumsum(parts) - parts
        within = np.arange(len(targets)) - first[targets]
        offsets = np.append(self.offsets[targets] + within * RUN, self.offsets[-1]).astype(kind)
        split = parts[targets] > 1
        extra = int(split.sum())
        rows = np.where(split, self.n_targets + np.cumsum(split) - 1, targets).astype(kind)
        heavy = np.flatnonzero(parts > 1).astype(kind)
        folds = np.append(0, np.cumsum(parts[heavy])).astype(kind)
        partial = np.arange(self.n_targets, self.n_targets + extra, dtype=kind)
        return Cuts(offsets, targets.astype(kind), rows, heavy, folds, partial)

    @cached_property
    def padding(self) -> Padding | None:
        """How to pad targets to the largest; None if that is far more rows, or they are long."""
        most, kind = int(self.counts.max(initial=0)), self.offsets.dtype
        size = self.n_targets * most
        if most == 0 or most > PADDED or size > 2 * self.n_entries or size >= 2**31:
            return None
        within = np.arange(self.n_entries, dtype=kind) - self.offsets[self.targets]
        place = (self.targets * kind.type(most) + within).astype(kind)
        rows = np.arange(self.n_entries, dtype=kind) if self.order is None else self.order
        gathered, returned = np.full(size, -1, dtype=kind), np.full(self.n_inputs, -1, dtype=kind)
        gathered[place], returned[rows] = rows, place
        plain = self.order is None and size == self.n_inputs
        return Padding(self.n_targets, most, gathered, returned, plain)

    @cached_property
    def _tensors(self) -> dict[torch.device, dict[str, Tensor]]:
        return {}

    def on(self, device: torch.device) -> dict[str, Tensor]:
        """As int64 tensors on a device: targets, sources, offsets, order (all rows, if None)."""
        if device not in self._tensors:
            arrays = {"targets": self.targets, "sources": self.sources, "offsets": self.offsets}
            made = {name: _tensor(array, device) for name, array in arrays.items()}
            made["order"] = (
                torch.arange(self.n_entries, device=device)
                if self.order is None
                else _tensor(self.order, device)
            )
            self._tensors[device] = made
        return self._tensors[device]


@dataclass(frozen=True)
class Cuts:
    """Targets of many entries in parts: for accuracy, and so that threads share them.

    Part p of target targets[p] holds the entries offsets[p]..offsets[p+1] and is summed into row
    rows[p]: its target, or a row after all targets. `heavy` targets then sum their parts,
    `partial[folds[h]..]`.
    """

    offsets: Array
    targets: Array
    rows: Array
    heavy: Array
    folds: Array
    partial: Array


@dataclass(frozen=True)
class Padding:
    """Rows as a batch of one equally long slice for each target, and back.

    Place p of the batch holds row gathered[p] (−1: padding); row r lies at place returned[r]
    (−1: in no slice). `plain`: the rows are such a batch already.
    """

    targets: int
    most: int
    gathered: Array
    returned: Array
    plain: bool

    def batch(self, x: Tensor) -> Tensor:
        """The rows as [targets, most, width], 0 where padded."""
        rows = x.contiguous() if self.plain else rows_at(x, self.gathered)
        return rows.view(self.targets, self.most, x.shape[1])

    def rows(self, batch: Tensor) -> Tensor:
        """The rows of a batch, 0 for a row of no target."""
        rows = batch.reshape(self.targets * self.most, batch.shape[2])
        return rows if self.plain else rows_at(rows, self.returned)


@dataclass(frozen=True, eq=False)
class Index:
    """Which source row each row reads; −1: none. Its transpose, for gradients, is made once."""

    rows: Numbers
    n_sources: int
    identity: bool

    @classmethod
    def build(cls, rows: IntArray, n_sources: int) -> Index:
        """The index with these numbers. Raises PlanError if one is out of range."""
        checked = _checked(rows, n_sources, _index_type(len(rows), n_sources))
        return cls(checked, n_sources, len(checked) == n_sources and _are_places(checked))

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def transposed(self) -> Incidence:
        """The rows that read each source."""
        return Incidence.build(self.rows, None, self.n_sources, len(self.rows))

    @cached_property
    def _pairs(self) -> weakref.WeakKeyDictionary[Index, Incidence]:
        return weakref.WeakKeyDictionary()

    def paired(self, other: Index) -> Incidence:
        """Row r as a pair (target: what this index reads, source: what the other does)."""
        if other not in self._pairs:
            made = Incidence.build(self.rows, other.rows, self.n_sources, other.n_sources)
            self._pairs[other] = made
        return self._pairs[other]

    @cached_property
    def _tensors(self) -> dict[torch.device, Tensor]:
        return {}

    def on(self, device: torch.device) -> Tensor:
        """The numbers as an int64 tensor on a device."""
        if device not in self._tensors:
            self._tensors[device] = _tensor(self.rows, device)
        return self._tensors[device]


@dataclass(frozen=True, eq=False)
class Products:
    """Which source rows each entry multiplies, the entries grouped by target.

    The sources of all factors stand one after the other, that of factor p from row first[p] on;
    entry e, in the order of `entries`, multiplies rows picks[e, :].
    """

    entries: Incidence
    picks: Numbers
    first: tuple[int, ...]
    n_rows: int

    @classmethod
    def build(
        cls, targets: IntArray, rows: Sequence[IntArray], n_targets: int, n_sources: Sequence[int]
    ) -> Products:
        """The products of rows[p][i] over p, for target targets[i]; −1 anywhere: no entry."""
        sizes = np.cumsum([0, *n_sources])
        kind = _index_type(len(targets), n_targets, int(sizes[-1]))
        keys = _checked(targets, n_targets, kind)
        checked = [_checked(r, n, kind) for r, n in zip(rows, n_sources, strict=True)]
        for numbers in checked:
            keys = _left_out(keys, numbers < 0)
        entries = Incidence.build(keys, None, n_targets, len(keys))
        first = tuple(map(int, sizes[:-1]))
        columns = [
            (numbers if entries.order is None else numbers[entries.order]) + begin
            for numbers, begin in zip(checked, first, strict=True)
        ]
        elsewhere = isinstance(keys, Tensor)
        picks = torch.stack(columns, 1) if elsewhere else np.stack(columns, 1)
        return cls(entries, picks, first, int(sizes[-1]))

    @cached_property
    def readers(self) -> Incidence:
        """The places, e · factors + p, that read each source row."""
        return Incidence.build(self.picks.reshape(-1), None, self.n_rows, self.picks.size)

    @cached_property
    def _tensors(self) -> dict[torch.device, Tensor]:
        return {}

    def on(self, device: torch.device) -> Tensor:
        """`picks` as an int64 tensor on a device."""
        if device not in self._tensors:
            self._tensors[device] = _tensor(self.picks, device)
        return self._tensors[device]


def _index_type(*sizes: int) -> type[np.int32] | type[np.int64]:
    return np.int32 if max(sizes) < 2**31 - 64 else np.int64


def _checked(numbers: IntArray, limit: int, kind: type[np.int32] | type[np.int64]) -> Numbers:
    """Row numbers where they are, each in −1..limit−1.

    On the CPU a contiguous array of the type, on the same memory if it is one; elsewhere int64.
    """
    array: Numbers = numbers
    if not isinstance(numbers, Tensor):
        array = np.asarray(numbers)
    elif numbers.device.type == "cpu":
        array = numbers.numpy(force=True)
    elsewhere = isinstance(array, Tensor)
    whole = array.dtype in _WHOLE if elsewhere else array.dtype.kind in "iu"
    if array.ndim != 1 or (not whole and len(array)):
        raise PlanError(f"row numbers are {array.ndim}-dimensional {array.dtype}")
    if len(array) and (array.min() < -1 or array.max() >= limit):
        raise PlanError(f"row numbers {array.min()}…{array.max()} are not within -1…{limit - 1}")
    return array.long() if elsewhere else np.require(array, kind, ["C", "W", "A"])


_WHOLE = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)


def _left_out(keys: Numbers, missing: Numbers) -> Numbers:
    """The keys, −1 where something is missing."""
    if isinstance(keys, Tensor):
        return keys.masked_fill(missing, -1)
    return np.where(missing, keys.dtype.type(-1), keys) if missing.any() else keys


def _are_places(numbers: Numbers) -> bool:
    """Whether they are 0, 1, 2, …"""
    if isinstance(numbers, Tensor):
        return torch.equal(numbers, torch.arange(len(numbers), device=numbers.device))
    return bool((numbers == np.arange(len(numbers), dtype=numbers.dtype)).all())


def _tensor(numbers: Numbers, device: torch.device) -> Tensor:
    if isinstance(numbers, Tensor):
        return numbers.to(device)
    return torch.from_numpy(numbers.astype(np.int64)).to(device)


def _grouped(
    keys: Numbers, values: Numbers | None, labels: Numbers | None, n_keys: int
) -> tuple[Numbers, Numbers, Numbers | None]:
    """(offsets, sources, order) of a stable sort by key; entries of key −1 are left out.

    sources = values (None: positions) and order = labels (None: positions) of the entries; order
    is None where that would be all positions as they are.
    """
    if isinstance(keys, Tensor):
        return _sorted(keys, values, labels, n_keys)
    return _counted(keys, values, labels, n_keys)


def _sorted(
    keys: Tensor, values: Tensor | None, labels: Tensor | None, n_keys: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """`_grouped` by torch's operations."""
    ascending, place = keys.sort(stable=True)
    bounds = torch.arange(n_keys + 1, device=keys.device)
    offsets = torch.searchsorted(ascending, bounds)
    missing = int(offsets[0])  # those of −1 come first
    offsets, place = offsets - missing, place[missing:]
    if not missing and _are_places(place):
        return offsets, place if values is None else values, labels
    pick = [place if a is None else a.index_select(0, place) for a in (values, labels)]
    return offsets, pick[0], pick[1]


def _counted(
    keys: Array, values: Array | None, labels: Array | None, n_keys: int
) -> tuple[Array, Array, Array | None]:
    """`_grouped` by counting, in compiled loops."""
    kind, none = keys.dtype, no_elements(keys)
    threads = max(1, min(torch.get_num_threads(), len(keys) // (4 * n_keys + SERIAL)))
    edges = np.array([len(keys) * p // threads for p in range(threads + 1)])
    parts = list(range(threads + 1))
    counts = np.zeros((threads, n_keys), dtype=kind)
    offsets = np.empty(n_keys + 1, dtype=kind)
    workers.run(loops.count_keys, parts, (keys, edges, counts))
    loops.start_keys(counts, offsets)
    entries = int(offsets[-1])
    if entries == len(keys) and bool((keys[1:] >= keys[:-1]).all()):
        return offsets, np.arange(entries, dtype=kind) if values is None else values, labels
    sources, order = np.empty(entries, dtype=kind), np.empty(entries, dtype=kind)
    given = tuple(none if a is None else a for a in (values, labels))
    workers.run(loops.place_keys, parts, (keys, edges, counts, *given, sources, order))
    return offsets, sources, order
