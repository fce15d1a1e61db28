"""Hash tables of whole numbers and counting sorts, as compiled loops shared by threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from relann.compiled import loop

Array = npt.NDArray[Any]

_FIBONACCI = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ over the golden ratio: spreads neighbours apart
_AHEAD = np.uintp(16)  # entries between a prefetch and its use
_LEAST = 1 << 10
_SHORT = 48  # entries up to which a group is sorted by insertion


_untyped: Any = cgutils


def _fetching(typing: Any, array: Any, row: Any) -> Any:
    """Ask for the memory at the start of a row of a matrix ahead of its use."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        made = context.make_array(signature.args[0])(context, builder, args[0])
        strides = _untyped.unpack_tuple(builder, made.strides)
        byte = ir.IntType(8)
        start = builder.bitcast(made.data, byte.as_pointer())
        place = builder.gep(start, [builder.mul(args[1], strides[0])])
        kind = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), *[ir.IntType(32)] * 3])
        known = _untyped.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(known, [place, *(ir.Constant(ir.IntType(32), k) for k in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


_fetch: Any = intrinsic(_fetching)


class Keys:
    """Distinct 64-bit whole numbers, numbered 0, 1, … as they are entered.

    Open addressing in a table of (key, number + 1), at most half full; number 0: nothing there.
    """

    def __init__(self, expected: int = 0) -> None:
        self.count = 0
        self._make(max(_LEAST, 1 << (2 * expected).bit_length()))

    def _make(self, size: int) -> None:
        self._slots = np.empty((size, 2), dtype=np.int64)  # on huge pages; zeros would not be
        self._slots.fill(0)
        self._values = np.empty(size // 2, dtype=np.int64)
        self._shift: Any = np.uint64(64 - (size.bit_length() - 1))

    @property
    def values(self) -> Array:
        """The numbers entered, in the order of their own numbers."""
        return self._values[: self.count]

    def find(self, values: Array, out: Array, threads: Threads) -> None:
        """out[i] = the number of values[i]; −1: not there."""
        threads.run(_find, threads.even(len(values)), (values, self._slots, self._shift, out))

    def enter(self, values: Array, out: Array) -> None:
        """Enter the values whose `out` is −1, and set it to their numbers, in 32 bits."""
        at = 0
        while True:
            at, self.count = _enter(
                values, self._slots, self._shift, self._values, self.count, out, at
            )
            if at == len(values):
                return
            known = self.values
            self._make(2 * len(self._slots))
            fresh = np.full(len(known), -1, dtype=np.int32)
            _enter(known, self._slots, self._shift, self._values, 0, fresh, 0)


class Threads:
    """So many threads that share a loop's chunks, for as long as a `with` block runs."""

    def __init__(self, count: int) -> None:
        self.count = max(1, count)
        self._pool = ThreadPoolExecutor(self.count - 1) if self.count > 1 else None

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def even(self, size: int) -> list[int]:
        """Bounds of equal chunks of so many entries, one for each thread."""
        return [size * p // self.count for p in range(self.count + 1)]

    def run(self, loop: Callable[..., None], bounds: Sequence[int], args: Sequence[Any]) -> None:
        """loop(*args, bounds[i], bounds[i+1]) for every i, each in a thread."""
        parts = [(lo, hi) for lo, hi in pairwise(bounds) if lo < hi]
        helping = [
            self._pool.submit(loop, *args, lo, hi) for lo, hi in parts[1:] if self._pool is not None
        ]
        if parts:
            loop(*args, *parts[0])
        for future in helping:
            future.result()


def grouped(codes: Array, values: Array, order: Array, threads: Threads) -> tuple[Array, Array]:
    """(offsets, values by group): group g has the values whose code is order[g], ascending.

    Every code stands in `order` once.
    """
    edges = threads.even(len(codes))
    kind = np.int32 if len(codes) < 2**31 else np.int64
    counts = np.zeros((threads.count, len(order)), dtype=kind)
    parts, bounds = list(range(threads.count + 1)), np.array(edges)
    threads.run(_count, parts, (codes, bounds, counts))
    offsets = np.empty(len(order) + 1, dtype=np.int64)
    _start(counts, order, offsets)
    out = np.empty_like(values)
    threads.run(_place, parts, (codes, bounds, counts, values, out))
    cuts = [int(g) for g in np.searchsorted(offsets, edges)]
    threads.run(_sort, [*cuts[:-1], len(order)], (offsets, out))
    return offsets, out


# Each works on entries (parts, groups) lo..hi.


@loop
def _find(values: Array, slots: Array, shift: int, out: Array, lo: int, hi: int) -> None:
    """out[i] = the number under which values[i] is in the table, −1: under none."""
    last = np.uint64(slots.shape[0] - 1)
    for i in range(np.uintp(lo), np.uintp(hi)):
        if i + _AHEAD < np.uintp(hi):
            _fetch(slots, np.intp((np.uint64(values[i + _AHEAD]) * _FIBONACCI) >> shift))
        value = values[i]
        at = (np.uint64(value) * _FIBONACCI) >> shift
        while slots[at, 1] != 0 and slots[at, 0] != value:
            at = (at + np.uint64(1)) & last
        out[i] = slots[at, 1] - 1


@loop
def _enter(
    values: Array, slots: Array, shift: int, known: Array, count: int, out: Array, begin: int
) -> tuple[int, int]:
    """Enter values from `begin` on whose `out` is −1; how far, and how many there are then.

    It stops early where the table is half full.
    """
    last = np.uint64(slots.shape[0] - 1)
    for i in range(begin, len(values)):
        if out[i] >= 0:
            continue
        value = values[i]
        at = (np.uint64(value) * _FIBONACCI) >> shift
        while slots[at, 1] != 0 and slots[at, 0] != value:
            at = (at + np.uint64(1)) & last
        if slots[at, 1] == 0:
            if count == len(known):
                return i, count
            known[count] = value
            count += 1
            slots[at, 0], slots[at, 1] = value, count
        out[i] = slots[at, 1] - 1
    return len(values), count


@loop
def _count(codes: Array, bounds: Array, counts: Array, lo: int, hi: int) -> None:
    """counts[p, c] = how often code c occurs in part p."""
    for p in range(lo, hi):
        for e in range(bounds[p], bounds[p + 1]):
            counts[p, np.uintp(codes[e])] += 1


@loop
def _start(counts: Array, order: Array, offsets: Array) -> None:
    """offsets = where each group starts; counts[p, c] = where part p's entries of code c do."""
    start = 0
    for g in range(len(order)):
        offsets[g] = start
        code = np.uintp(order[g])
        for p in range(counts.shape[0]):
            count = counts[p, code]
            counts[p, code] = start
            start += count
    offsets[len(order)] = start


@loop
def _place(
    codes: Array, bounds: Array, starts: Array, values: Array, out: Array, lo: int, hi: int
) -> None:
    """Put each value where its code's next belongs."""
    for p in range(lo, hi):
        for e in range(bounds[p], bounds[p + 1]):
            code = np.uintp(codes[e])
            out[np.uintp(starts[p, code])] = values[e]
            starts[p, code] += 1


@loop
def _sort(offsets: Array, out: Array, lo: int, hi: int) -> None:
    """Sort the values of each group."""
    for g in range(lo, hi):
        begin, end = offsets[g], offsets[g + 1]
        if end - begin > _SHORT:
            out[begin:end].sort()
            continue
        for i in range(begin + 1, end):
            value, j = out[i], i
            while j > begin and out[j - 1] > value:
                out[j] = out[j - 1]
                j -= 1
            out[j] = value
