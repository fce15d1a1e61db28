"""Gathers, products and reductions over row maps: what every epoch runs, forward and backward.

Every public function is pure: tensors and an `Incidence` or `Index` in, a tensor out, gradients by
autograd (once; a second derivative raises). float32 and float64 on the CPU run compiled loops over
both cores; any other device or type runs plain torch operations. `_compiled` decides, alone.

On the CPU the same input gives the same bits, whatever the number of threads: each target row is
summed by one thread, entry after entry, and a target of many entries is cut at fixed places.

The compiled part is numba with a few LLVM vector instructions written out (`Lanes`), because its
automatic vectoriser leaves rows of 16 columns scalar: E = 5M, n = 500k, width 16, float32,
gather-scale-sum 29 ms automatic, 16 ms so; width 64: 66 and 56 ms; FBGEMM's `embedding_bag` 17 and
76 ms (two cores, torch 2.13, numba 0.68, November 2026). Chunks of targets go to threads of our
own rather than numba's: its OpenMP layer would start a second pool beside torch's, its other layer
aborts when two threads enter it, and parallel compilation takes five times as long.
"""

from __future__ import annotations

import os
import threading
import weakref
from bisect import bisect_left
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from relann.errors import PlanError

Array = npt.NDArray[Any]
IntArray = npt.NDArray[np.integer[Any]] | Tensor
F = TypeVar("F", bound=Callable[..., Any])

# -- vector instructions for the compiled loops ----------------------------------------------------

LANES = 16
AHEAD = np.uintp(16)  # entries between a prefetch and its use; unsigned, as entry numbers are
_I1, _I8, _I32 = ir.IntType(1), ir.IntType(8), ir.IntType(32)
_untyped: Any = cgutils


class Lanes(types.Type):
    """Sixteen numbers of one type, held in registers."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


class Mask(types.Type):
    """Sixteen truth values: the columns of a block that exist."""

    def __init__(self) -> None:
        super().__init__(name="Mask")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        element = {
            types.float32: ir.FloatType(),
            types.float64: ir.DoubleType(),
            types.int32: ir.IntType(32),
            types.int64: ir.IntType(64),
        }[kind.dtype]
        super().__init__(manager, kind, ir.VectorType(element, LANES))  # type: ignore[no-untyped-call]


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Mask) -> None:
        super().__init__(manager, kind, ir.VectorType(_I1, LANES))  # type: ignore[no-untyped-call]


_MASK = Mask()


def _instruction(define: Callable[..., Any]) -> Any:
    """A function of compiled code that is these LLVM instructions."""
    return intrinsic(define)


def _loop(function: F) -> F:
    """A function compiled at its first call for each argument type, and kept on disk."""
    compiled: Any = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    return cast(F, compiled)


def _suffix(vector: Any) -> str:
    letter = "i" if isinstance(vector.element, ir.IntType) else "f"
    double = isinstance(vector.element, ir.DoubleType) or getattr(vector.element, "width", 0) == 64
    return f"v{LANES}{letter}{64 if double else 32}"


def _pointer(context: Any, builder: Any, kind: Any, array: Any, row: Any, column: Any) -> Any:
    made, point = context.make_array(kind)(context, builder, array), _untyped.get_item_pointer
    return point(context, builder, kind, made, [row, column])


def _call(builder: Any, name: str, result: Any, args: Sequence[Any]) -> Any:
    kind = ir.FunctionType(result, [a.type for a in args])
    return builder.call(_untyped.get_or_insert_function(builder.module, kind, name), args)


def _spread(builder: Any, value: Any) -> Any:
    undefined = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    one = builder.insert_element(undefined, value, _I32(0))
    zeros = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
    return builder.shuffle_vector(one, undefined, zeros)


@_instruction
def _prefetch(typing: Any, array: Any, row: Any, column: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], *args)
        place = builder.bitcast(place, _I8.as_pointer())
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), [place, _I32(0), _I32(3), _I32(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), generate


@_instruction
def _splat(typing: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _spread(builder, args[0])

    return Lanes(value)(value), generate


@_instruction
def _first(typing: Any, count: Any) -> Any:
    """Mask of the first `count` lanes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lane = ir.Constant(ir.VectorType(_I32, LANES), list(range(LANES)))
        return builder.icmp_signed("<", lane, _spread(builder, args[0]))

    return _MASK(types.int32), generate


@_instruction
def _load(typing: Any, array: Any, row: Any, column: Any) -> Any:
    """Sixteen neighbours from array[row, column] on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = context.get_value_type(signature.return_type)
        place = _pointer(context, builder, signature.args[0], *args)
        loaded = builder.load(builder.bitcast(place, kind.as_pointer()))
        loaded.align = 4
        return loaded

    return Lanes(array.dtype)(array, types.intp, types.intp), generate


@_instruction
def _load_some(typing: Any, array: Any, row: Any, column: Any, mask: Any) -> Any:
    """Like `_load` where the mask holds; 0, and no access, elsewhere."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = context.get_value_type(signature.return_type)
        place = _pointer(context, builder, signature.args[0], *args[:3])
        place = builder.bitcast(place, kind.as_pointer())
        zero = ir.Constant(kind, [0] * LANES)
        name = f"llvm.masked.load.{_suffix(kind)}.p0"
        return _call(builder, name, kind, [place, _I32(4), args[3], zero])

    return Lanes(array.dtype)(array, types.intp, types.intp, mask), generate


@_instruction
def _store(typing: Any, array: Any, row: Any, column: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], *args[:3])
        stored = builder.store(args[3], builder.bitcast(place, args[3].type.as_pointer()))
        stored.align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, value), generate


@_instruction
def _store_some(typing: Any, array: Any, row: Any, column: Any, value: Any, mask: Any) -> Any:
    """Like `_store` where the mask holds; nothing elsewhere."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], *args[:3])
        place = builder.bitcast(place, args[3].type.as_pointer())
        name = f"llvm.masked.store.{_suffix(args[3].type)}.p0"
        _call(builder, name, ir.VoidType(), [args[3], place, _I32(4), args[4]])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, value, mask), generate


@_instruction
def _fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a · b + c."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        return _call(builder, f"llvm.fma.{_suffix(kind)}", kind, args)

    return a(a, b, c), generate


def _arithmetic(name: str) -> Any:
    def define(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, name)(*args)

        return a(a, b), generate

    return _instruction(define)


_plus, _times = _arithmetic("fadd"), _arithmetic("fmul")


@_instruction
def _exceeds(typing: Any, value: Any, best: Any) -> Any:
    """Mask of the lanes where value > best or value is NaN."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        more = builder.fcmp_ordered(">", args[0], args[1])
        return builder.or_(more, builder.fcmp_unordered("uno", args[0], args[0]))

    return _MASK(value, best), generate


@_instruction
def _choose(typing: Any, mask: Any, value: Any, other: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(*args)

    return value(mask, value, other), generate


@_instruction
def _total(typing: Any, value: Any) -> Any:
    """Sum of the lanes, halves folded onto each other: the same order on every machine."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector, half = args[0], LANES // 2
        while half:
            picks = [(i + half) % LANES for i in range(LANES)]
            fold = ir.Constant(ir.VectorType(_I32, LANES), picks)
            vector = builder.fadd(vector, builder.shuffle_vector(vector, vector, fold))
            half //= 2
        return builder.extract_element(vector, _I32(0))

    return value.dtype(value), generate


# -- compiled loops --------------------------------------------------------------------------------
#
# Each works on targets (or rows) lo..hi. `offsets` and `sources` are an incidence's; an array of no
# elements means: none. Indices are made unsigned to spare numba's test for negative ones.


@_loop
def _sum_entries(
    x: Array,
    offsets: Array,
    sources: Array,
    weight: Array,
    pick: Array,
    rows: Array,
    out: Array,
    lo: int,
    hi: int,
) -> None:
    """out[rows[t]] = Σ_e weight[pick[e], 0] · x[sources[e]]."""
    width = x.shape[1]
    weighted, picked, placed = weight.shape[0] > 0, pick.shape[0] > 0, rows.shape[0] > 0
    last = np.uintp(offsets[hi])
    zero, one = _splat(x.dtype.type(0)), _splat(x.dtype.type(1))
    for t in range(np.uintp(lo), np.uintp(hi)):
        begin, end = np.uintp(offsets[t]), np.uintp(offsets[t + np.uintp(1)])
        row = np.uintp(rows[t]) if placed else t
        c = 0
        while c + 4 * LANES <= width:
            a0, a1, a2, a3 = zero, zero, zero, zero
            for e in range(begin, end):
                s = np.uintp(sources[e])
                if e + AHEAD < last:
                    later = np.uintp(sources[e + AHEAD])
                    for k in range(4):
                        _prefetch(x, later, c + k * LANES)
                    if picked:
                        _prefetch(weight, np.uintp(pick[e + AHEAD]), 0)
                w = one
                if weighted:
                    w = _splat(weight[np.uintp(pick[e]) if picked else e, 0])
                a0 = _fma(w, _load(x, s, c), a0)
                a1 = _fma(w, _load(x, s, c + LANES), a1)
                a2 = _fma(w, _load(x, s, c + 2 * LANES), a2)
                a3 = _fma(w, _load(x, s, c + 3 * LANES), a3)
            _store(out, row, c, a0)
            _store(out, row, c + LANES, a1)
            _store(out, row, c + 2 * LANES, a2)
            _store(out, row, c + 3 * LANES, a3)
            c += 4 * LANES
        while c < width:
            mask = _first(np.int32(width - c))
            a0 = zero
            for e in range(begin, end):
                if e + AHEAD < last:
                    _prefetch(x, np.uintp(sources[e + AHEAD]), c)
                    if picked:
                        _prefetch(weight, np.uintp(pick[e + AHEAD]), 0)
                w = one
                if weighted:
                    w = _splat(weight[np.uintp(pick[e]) if picked else e, 0])
                a0 = _fma(w, _load_some(x, np.uintp(sources[e]), c, mask), a0)
            _store_some(out, row, c, a0, mask)
            c += LANES


@_loop
def _sum_entries_by_head(
    x: Array,
    offsets: Array,
    sources: Array,
    weight: Array,
    pick: Array,
    rows: Array,
    out: Array,
    lo: int,
    hi: int,
) -> None:
    """out[rows[t], c] = Σ_e weight[pick[e], c's head] · x[sources[e], c]; heads share width."""
    width, heads = x.shape[1], weight.shape[1]
    size = width // heads
    picked, placed = pick.shape[0] > 0, rows.shape[0] > 0
    last = np.uintp(offsets[hi])
    zero = _splat(x.dtype.type(0))
    for t in range(np.uintp(lo), np.uintp(hi)):
        begin, end = np.uintp(offsets[t]), np.uintp(offsets[t + np.uintp(1)])
        row = np.uintp(rows[t]) if placed else t
        c = 0
        while c < width:
            head = c // size
            stop = width if size == 1 else (head + 1) * size
            mask = _first(np.int32(stop - c))
            total = zero
            for e in range(begin, end):
                k = np.uintp(pick[e]) if picked else e
                if e + AHEAD < last:
                    _prefetch(x, np.uintp(sources[e + AHEAD]), c)
                    _prefetch(weight, np.uintp(pick[e + AHEAD]) if picked else e + AHEAD, head)
                w = _load_some(weight, k, c, mask) if size == 1 else _splat(weight[k, head])
                total = _fma(w, _load_some(x, np.uintp(sources[e]), c, mask), total)
            _store_some(out, row, c, total, mask)
            c = min(c + LANES, stop)


@_loop
def _dot_rows(
    x: Array, left: Array, y: Array, right: Array, place: Array, out: Array, lo: int, hi: int
) -> None:
    """out[place[r], head] = x[left[r]] · y[right[r]] over the head's columns; 0 where one is −1."""
    heads = out.shape[1]
    size = x.shape[1] // heads
    placed = place.shape[0] > 0
    zero = _splat(x.dtype.type(0))
    for r in range(np.uintp(lo), np.uintp(hi)):
        into = np.uintp(place[r]) if placed else r
        if left[r] < 0 or right[r] < 0:
            for h in range(heads):
                out[into, h] = 0
            continue
        i, j = np.uintp(left[r]), np.uintp(right[r])
        later = r + AHEAD
        if later < np.uintp(hi) and left[later] >= 0 and right[later] >= 0:
            for c in range(0, x.shape[1], LANES):
                _prefetch(x, np.uintp(left[later]), c)
                _prefetch(y, np.uintp(right[later]), c)
        if size == 1:
            for c in range(0, heads, LANES):
                mask = _first(np.int32(heads - c))
                product = _times(_load_some(x, i, c, mask), _load_some(y, j, c, mask))
                _store_some(out, into, c, product, mask)
            continue
        for h in range(heads):
            c, stop = h * size, (h + 1) * size
            a0, a1 = zero, zero
            while c + 2 * LANES <= stop:
                a0 = _fma(_load(x, i, c), _load(y, j, c), a0)
                a1 = _fma(_load(x, i, c + LANES), _load(y, j, c + LANES), a1)
                c += 2 * LANES
            while c < stop:
                mask = _first(np.int32(stop - c))
                a0 = _fma(_load_some(x, i, c, mask), _load_some(y, j, c, mask), a0)
                c += LANES
            out[into, h] = _total(_plus(a0, a1))


@_loop
def _copy_rows(x: Array, index: Array, out: Array, lo: int, hi: int) -> None:
    """out[r] = x[index[r]]; 0 where index[r] is −1."""
    width = x.shape[1]
    for r in range(np.uintp(lo), np.uintp(hi)):
        later = r + AHEAD
        if later < np.uintp(hi) and index[later] >= 0:
            for c in range(0, width, LANES):
                _prefetch(x, np.uintp(index[later]), c)
        if index[r] < 0:
            for c in range(width):
                out[r, c] = 0
            continue
        s = np.uintp(index[r])
        c = 0
        while c + LANES <= width:
            _store(out, r, c, _load(x, s, c))
            c += LANES
        if c < width:
            mask = _first(np.int32(width - c))
            _store_some(out, r, c, _load_some(x, s, c, mask), mask)


@_loop
def _extreme_entries(
    x: Array,
    offsets: Array,
    sources: Array,
    sign: Array,
    out: Array,
    chosen: Array,
    lo: int,
    hi: int,
) -> None:
    """out[t] = greatest sign · x[sources[e]], times sign; chosen[t] = the first such source.

    An empty target is 0 and chooses −1. NaN wins. `chosen` may have no rows.
    """
    width = x.shape[1]
    wanted = chosen.shape[0] > 0
    last = np.uintp(offsets[hi])
    turn = _splat(sign[0])
    for t in range(np.uintp(lo), np.uintp(hi)):
        begin, end = np.uintp(offsets[t]), np.uintp(offsets[t + np.uintp(1)])
        for c in range(0, width, LANES):
            mask = _first(np.int32(width - c))
            best, source = _splat(x.dtype.type(0)), _splat(sources.dtype.type(-1))
            if begin < end:
                best = _times(turn, _load_some(x, np.uintp(sources[begin]), c, mask))
                source = _splat(sources[begin])
            for e in range(begin + np.uintp(1), end):
                if e + AHEAD < last:
                    _prefetch(x, np.uintp(sources[e + AHEAD]), c)
                value = _times(turn, _load_some(x, np.uintp(sources[e]), c, mask))
                more = _exceeds(value, best)
                best = _choose(more, value, best)
                source = _choose(more, _splat(sources[e]), source)
            _store_some(out, t, c, _times(turn, best), mask)
            if wanted:
                _store_some(chosen, t, c, source, mask)


@_loop
def _return_extremes(
    grad: Array, chosen: Array, out: Array, begin: int, end: int, lo: int, hi: int
) -> None:
    """out[chosen[t, c], c] += grad[t, c] for the targets begin..end, columns lo..hi."""
    for t in range(np.uintp(begin), np.uintp(end)):
        for c in range(np.uintp(lo), np.uintp(hi)):
            if chosen[t, c] >= 0:
                out[np.uintp(chosen[t, c]), c] += grad[t, c]


# Softmax goes column by column: scores are narrow, and lanes across one column would stay empty.


@_loop
def _shift_by_maximum(
    score: Array, offsets: Array, order: Array, out: Array, lo: int, hi: int
) -> None:
    """out = score − the greatest score of its target, column by column."""
    ordered = order.shape[0] > 0
    for t in range(np.uintp(lo), np.uintp(hi)):
        begin, end = np.uintp(offsets[t]), np.uintp(offsets[t + np.uintp(1)])
        for c in range(np.uintp(score.shape[1])):
            best = score.dtype.type(-np.inf)
            for e in range(begin, end):
                value = score[np.uintp(order[e]) if ordered else e, c]
                if value > best or value != value:
                    best = value
            for e in range(begin, end):
                k = np.uintp(order[e]) if ordered else e
                out[k, c] = score[k, c] - best


@_loop
def _divide_by_sum(out: Array, offsets: Array, order: Array, lo: int, hi: int) -> None:
    """out /= the sum of its target, in place; summed RUN by RUN so that long ones stay exact."""
    ordered = order.shape[0] > 0
    zero, one = out.dtype.type(0), out.dtype.type(1)
    for t in range(np.uintp(lo), np.uintp(hi)):
        begin, end = np.uintp(offsets[t]), np.uintp(offsets[t + np.uintp(1)])
        for c in range(np.uintp(out.shape[1])):
            total = zero
            for run in range(begin, end, np.uintp(RUN)):
                part = zero
                for e in range(run, min(run + np.uintp(RUN), end)):
                    part += out[np.uintp(order[e]) if ordered else e, c]
                total += part
            share = one / total
            for e in range(begin, end):
                out[np.uintp(order[e]) if ordered else e, c] *= share


@_loop
def _return_softmax(
    grad: Array, y: Array, offsets: Array, order: Array, out: Array, lo: int, hi: int
) -> None:
    """out = y · (grad − Σ grad · y), the sum over the target."""
    ordered = order.shape[0] > 0
    zero = y.dtype.type(0)
    for t in range(np.uintp(lo), np.uintp(hi)):
        begin, end = np.uintp(offsets[t]), np.uintp(offsets[t + np.uintp(1)])
        for c in range(np.uintp(y.shape[1])):
            total = zero
            for run in range(begin, end, np.uintp(RUN)):
                part = zero
                for e in range(run, min(run + np.uintp(RUN), end)):
                    k = np.uintp(order[e]) if ordered else e
                    part += grad[k, c] * y[k, c]
                total += part
            for e in range(begin, end):
                k = np.uintp(order[e]) if ordered else e
                out[k, c] = y[k, c] * (grad[k, c] - total)


@_loop
def _run_sums(
    x: Array, offsets: Array, order: Array, backwards: bool, out: Array, lo: int, hi: int
) -> None:
    """out = running sum of x inside each target, in entry order or against it."""
    width = x.shape[1]
    ordered = order.shape[0] > 0
    zero = _splat(x.dtype.type(0))
    for t in range(np.uintp(lo), np.uintp(hi)):
        begin, end = np.uintp(offsets[t]), np.uintp(offsets[t + np.uintp(1)])
        for c in range(0, width, LANES):
            mask = _first(np.int32(width - c))
            total, part = zero, zero
            for step in range(end - begin):
                e = end - np.uintp(1) - step if backwards else begin + step
                k = np.uintp(order[e]) if ordered else e
                part = _plus(part, _load_some(x, k, c, mask))
                _store_some(out, k, c, _plus(total, part), mask)
                if (step + np.uintp(1)) % np.uintp(RUN) == 0:
                    total, part = _plus(total, part), zero


@_loop
def _count_keys(keys: Array, edges: Array, counts: Array, lo: int, hi: int) -> None:
    """counts[p, k] += how often key k occurs in part p; −1 is no key."""
    for p in range(lo, hi):
        for e in range(edges[p], edges[p + 1]):
            if keys[e] >= 0:
                counts[p, np.uintp(keys[e])] += 1


@_loop
def _start_keys(counts: Array, offsets: Array) -> None:
    """offsets = where each key's entries start; counts[p, k] = where part p's start."""
    start = 0
    for k in range(counts.shape[1]):
        offsets[k] = start
        for p in range(counts.shape[0]):
            count = counts[p, k]
            counts[p, k] = start
            start += count
    offsets[counts.shape[1]] = start


@_loop
def _place_keys(
    keys: Array,
    edges: Array,
    starts: Array,
    values: Array,
    labels: Array,
    sources: Array,
    order: Array,
    lo: int,
    hi: int,
) -> None:
    """Put each entry's value and label where its key's next entry belongs."""
    valued, labelled = values.shape[0] > 0, labels.shape[0] > 0
    for p in range(lo, hi):
        for e in range(edges[p], edges[p + 1]):
            if keys[e] >= 0:
                key = np.uintp(keys[e])
                at = np.uintp(starts[p, key])
                starts[p, key] += 1
                sources[at] = values[e] if valued else e
                order[at] = labels[e] if labelled else e


RUN = 1024  # entries summed one after the other before a fresh partial sum starts

# -- threads and memory ----------------------------------------------------------------------------

SERIAL = 1 << 16  # numbers below which a loop runs in the calling thread
PADDED = 64  # rows of the largest set up to which sets of unequal size become one batch
_HUGE = 1 << 22  # bytes from which numpy asks for huge pages


class _Workers:
    """Threads that help the calling one; as many in all as torch uses."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._size = 0

    def forget(self) -> None:
        """Start afresh, as a forked child must: threads do not survive a fork."""
        self._lock, self._pool, self._size = threading.Lock(), None, 0

    def run(self, loop: Callable[..., None], bounds: Sequence[int], args: Sequence[Any]) -> None:
        """loop(*args, bounds[i], bounds[i+1]) for every i; whoever is free takes the next."""
        if len(bounds) == 2:
            loop(*args, bounds[0], bounds[1])
            return
        turns = iter(range(len(bounds) - 1))  # next() is atomic

        def work() -> None:
            for i in turns:
                loop(*args, bounds[i], bounds[i + 1])

        helpers = min(torch.get_num_threads(), len(bounds) - 1) - 1
        helping = [self._helpers(helpers).submit(work) for _ in range(helpers)]
        try:
            work()
        finally:
            for future in helping:
                if not future.cancel():
                    future.result()

    def _helpers(self, count: int) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None or self._size < count:
                self._size = count
                self._pool = ThreadPoolExecutor(count, "relann-kernel")
            return self._pool


_workers = _Workers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_workers.forget)


def _chunks(size: int) -> int:
    """Into how many chunks to cut work on `size` numbers: four for each thread, or one."""
    threads = torch.get_num_threads()
    return 1 if threads == 1 or size < SERIAL else 4 * threads


def _even(rows: int, width: int) -> list[int]:
    """Bounds of chunks of equally many rows."""
    chunks = _chunks(rows * width)
    return [rows * i // chunks for i in range(chunks + 1)]


def _empty(rows: int, width: int, like: Tensor) -> Tensor:
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


def _zeros(rows: int, width: int, like: Tensor) -> Tensor:
    return _empty(rows, width, like).zero_()


def _array(x: Tensor) -> Array:
    """The tensor's memory as a contiguous numpy array."""
    return x.detach().contiguous().numpy()


# -- row maps --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Incidence:
    """Which source rows meet in each target row, grouped by target (CSR).

    Entry e of target t, offsets[t] ≤ e < offsets[t+1], stands for source row sources[e] and for
    the input pair order[e]; `order` is None if the input already came sorted and whole. Arrays are
    int32 where sizes allow and must not be written to.
    """

    offsets: Array
    sources: Array
    order: Array | None
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
            missing = values < 0
            if missing.any():
                keys = np.where(missing, kind(-1), keys)
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
    def counts(self) -> Array:
        """Entries of each target, [targets]."""
        return np.diff(self.offsets)

    @cached_property
    def targets(self) -> Array:
        """Target row of each entry, [entries]."""
        return np.repeat(np.arange(self.n_targets, dtype=self.offsets.dtype), self.counts)

    @cached_property
    def transposed(self) -> Incidence:
        """The same entries grouped by source: what the backward pass walks."""
        made = _grouped(self.sources, self.targets, self.order, self.n_sources)
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
            kept.update(owner=weakref.ref(owner), key=key, weight=_rows(weight, self.order))
        arranged: Tensor = kept["weight"]
        return arranged, _none(self.offsets)

    @cached_property
    def inverse(self) -> Array:
        """Entry of each input pair, −1 if it is none, [inputs]."""
        found = np.full(self.n_inputs, -1, dtype=self.offsets.dtype)
        found[self.picks if self.order is not None else slice(None)] = np.arange(self.n_entries)
        return found

    @property
    def picks(self) -> Array:
        """`order`, or no elements."""
        return _none(self.offsets) if self.order is None else self.order

    @cached_property
    def inverse_counts(self) -> Array:
        """1 / entries of each target, 0 for an empty one, [targets, 1], float64."""
        counts = self.counts.astype(np.float64)
        return np.divide(1.0, counts, out=np.zeros_like(counts), where=counts > 0)[:, None]

    @cached_property
    def _bounds(self) -> dict[tuple[int, bool], list[int]]:
        return {}

    def chunks(self, width: int, cut: bool = False) -> list[int]:
        """Bounds of chunks of targets (of `cuts` if asked) that hold about equally many entries."""
        chunks = _chunks((self.n_entries + self.n_targets) * width)
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
        return Cuts(offsets, rows, heavy, folds, partial)

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
        """The arrays as int64 tensors on a device: targets, sources, order (all, if None)."""
        if device not in self._tensors:
            order = np.arange(self.n_entries) if self.order is None else self.order
            arrays = {"targets": self.targets, "sources": self.sources, "order": order}
            self._tensors[device] = {
                name: torch.from_numpy(a.astype(np.int64)).to(device) for name, a in arrays.items()
            }
        return self._tensors[device]


@dataclass(frozen=True)
class Cuts:
    """Targets of many entries in parts: for accuracy, and so that threads share them.

    Part p holds the entries offsets[p]..offsets[p+1] and is summed into row rows[p]: its target,
    or a row after all targets. `heavy` targets then sum their parts, `partial[folds[h]..]`.
    """

    offsets: Array
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
        rows = x.contiguous() if self.plain else _rows(x, self.gathered)
        return rows.view(self.targets, self.most, x.shape[1])

    def rows(self, batch: Tensor) -> Tensor:
        """The rows of a batch, 0 for a row of no target."""
        rows = batch.reshape(self.targets * self.most, batch.shape[2])
        return rows if self.plain else _rows(rows, self.returned)


@dataclass(frozen=True, eq=False)
class Index:
    """Which source row each row reads; −1: none. Its transpose, for gradients, is made once."""

    rows: Array
    n_sources: int
    identity: bool

    @classmethod
    def build(cls, rows: IntArray, n_sources: int) -> Index:
        """The index with these numbers. Raises PlanError if one is out of range."""
        checked = _checked(rows, n_sources, _index_type(len(rows), n_sources))
        identity = len(checked) == n_sources and bool(
            (checked == np.arange(n_sources, dtype=checked.dtype)).all()
        )
        return cls(checked, n_sources, identity)

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
            self._tensors[device] = torch.from_numpy(self.rows.astype(np.int64)).to(device)
        return self._tensors[device]


def _none(like: Array) -> Array:
    return np.empty(0, dtype=like.dtype)


def _index_type(*sizes: int) -> type[np.int32] | type[np.int64]:
    return np.int32 if max(sizes) < 2**31 - 64 else np.int64


def _checked(numbers: IntArray, limit: int, kind: type[np.int32] | type[np.int64]) -> Array:
    """Row numbers as a writable contiguous array of the type, each in −1..limit−1."""
    array = numbers.numpy(force=True) if isinstance(numbers, Tensor) else np.asarray(numbers)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and len(array)):
        raise PlanError(f"row numbers are {array.ndim}-dimensional {array.dtype}")
    if len(array) and (array.min() < -1 or array.max() >= limit):
        raise PlanError(f"row numbers {array.min()}…{array.max()} are not within -1…{limit - 1}")
    return np.require(array, kind, ["C", "W", "A"])


def _grouped(
    keys: Array, values: Array | None, labels: Array | None, n_keys: int
) -> tuple[Array, Array, Array | None]:
    """(offsets, sources, order) of a stable counting sort by key; entries of key −1 are left out.

    sources = values (None: positions) and order = labels (None: positions) of the entries; order
    is None where that would be all positions as they are.
    """
    kind, none = keys.dtype, _none(keys)
    threads = max(1, min(torch.get_num_threads(), len(keys) // (4 * n_keys + SERIAL)))
    edges = np.array([len(keys) * p // threads for p in range(threads + 1)])
    parts = list(range(threads + 1))
    counts = np.zeros((threads, n_keys), dtype=kind)
    offsets = np.empty(n_keys + 1, dtype=kind)
    _workers.run(_count_keys, parts, (keys, edges, counts))
    _start_keys(counts, offsets)
    entries = int(offsets[-1])
    if entries == len(keys) and bool((keys[1:] >= keys[:-1]).all()):
        return offsets, np.arange(entries, dtype=kind) if values is None else values, labels
    sources, order = np.empty(entries, dtype=kind), np.empty(entries, dtype=kind)
    given = tuple(none if a is None else a for a in (values, labels))
    _workers.run(_place_keys, parts, (keys, edges, counts, *given, sources, order))
    return offsets, sources, order


# -- CPU: raw forward computations -----------------------------------------------------------------


def _sum(x: Tensor, weight: Tensor | None, pick: Array, incidence: Incidence) -> Tensor:
    """Σ_e weight[pick[e]] · x[sources[e]] for each target; `pick` of no elements: weight[e]."""
    width = x.shape[1]
    values = _array(x)
    none = _none(incidence.offsets)
    weights = np.empty((0, 1), values.dtype) if weight is None else _array(weight)
    loop = _sum_entries if weights.shape[1] == 1 else _sum_entries_by_head
    cuts, targets = incidence.cuts, incidence.n_targets
    if cuts is None:
        out = _empty(targets, width, x)
        args = (values, incidence.offsets, incidence.sources, weights, pick, none, _array(out))
        _workers.run(loop, incidence.chunks(width), args)
        return out
    out = _empty(targets + len(cuts.partial), width, x)
    array = _array(out)
    args = (values, cuts.offsets, incidence.sources, weights, pick, cuts.rows, array)
    _workers.run(loop, incidence.chunks(width, cut=True), args)
    one = np.empty((0, 1), values.dtype)
    _sum_entries(array, cuts.folds, cuts.partial, one, none, cuts.heavy, array, 0, len(cuts.heavy))
    return out[:targets]


def _weighted(x: Tensor, weight: Tensor | None, incidence: Incidence) -> Tensor:
    """Σ_e weight · x[sources[e]] for each target, the weight in input order."""
    if weight is None:
        return _sum(x, None, incidence.picks, incidence)
    return _sum(x, *incidence.arranged(weight), incidence)


def _dots(x: Tensor, left: Array, y: Tensor, right: Array, place: Array, out: Tensor) -> Tensor:
    args = (_array(x), left, _array(y), right, place, _array(out))
    _workers.run(_dot_rows, _even(len(left), x.shape[1]), args)
    return out


def _rows(x: Tensor, index: Array) -> Tensor:
    """x[index], 0 for −1."""
    out = _empty(len(index), x.shape[1], x)
    _workers.run(_copy_rows, _even(len(index), x.shape[1]), (_array(x), index, _array(out)))
    return out


# -- CPU: operations with gradients ----------------------------------------------------------------


def _apply(operation: type[Function], *args: Any) -> Tensor:
    made: Tensor = operation.apply(*args)  # type: ignore[no-untyped-call]
    return made


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Index) -> Tensor:
        ctx.index = index
        return _rows(x, index.rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        readers = ctx.index.transposed
        return _sum(grad, None, readers.picks, readers), None


class _WeightedSum(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, incidence: Incidence) -> Tensor:
        ctx.incidence = incidence
        wants_x, wants_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if wants_weight else None, weight if wants_x else None)
        ctx.heads = 0 if weight is None else weight.shape[1]
        return _weighted(x, weight, incidence)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x, weight), incidence = ctx.saved_tensors, ctx.incidence
        wants_x, wants_weight, _ = ctx.needs_input_grad
        to_x = to_weight = None
        if wants_x:
            to_x = _weighted(grad, weight, incidence.transposed)
        if wants_weight:
            made = _empty if incidence.whole else _zeros
            out = made(incidence.n_inputs, ctx.heads, grad)
            ends = incidence.targets, x, incidence.sources
            to_weight = _dots(grad, *ends, incidence.picks, out)
        return to_x, to_weight, None


class _Mean(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, incidence: Incidence) -> Tensor:
        ctx.incidence = incidence
        share = torch.from_numpy(incidence.inverse_counts).to(x.dtype)
        return _sum(x, None, incidence.picks, incidence).mul_(share)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        turned = ctx.incidence.transposed
        share = torch.from_numpy(ctx.incidence.inverse_counts).to(grad.dtype)
        return _sum(grad, share, turned.sources, turned), None


class _Extreme(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, incidence: Incidence, sign: int) -> Tensor:
        width, values, offsets = x.shape[1], _array(x), incidence.offsets
        ctx.incidence = incidence
        wanted = incidence.n_targets if ctx.needs_input_grad[0] else 0
        ctx.chosen = np.empty((wanted, width), dtype=offsets.dtype)
        out = _empty(incidence.n_targets, width, x)
        turn = np.array([sign], dtype=values.dtype)
        args = (values, offsets, incidence.sources, turn, _array(out), ctx.chosen)
        _workers.run(_extreme_entries, incidence.chunks(width), args)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        incidence, (targets, width) = ctx.incidence, grad.shape
        out = _zeros(incidence.n_sources, width, grad)
        bounds = _even(-(-width // LANES), targets * LANES)  # columns apart: no two threads meet
        columns = sorted({min(b * LANES, width) for b in bounds})
        if len(columns) > 1:
            args = (_array(grad), ctx.chosen, _array(out), 0, targets)
            _workers.run(_return_extremes, columns, args)
        return out, None, None


class _Softmax(Function):
    @staticmethod
    def forward(ctx: Any, score: Tensor, incidence: Incidence) -> Tensor:
        rows, width = score.shape
        out = _empty(rows, width, score)
        if not incidence.whole:
            out.fill_(-torch.inf)
        where, bounds = (incidence.offsets, incidence.picks), incidence.chunks(width)
        _workers.run(_shift_by_maximum, bounds, (_array(score), *where, _array(out)))
        out.exp_()
        _workers.run(_divide_by_sum, bounds, (_array(out), *where))
        ctx.incidence = incidence
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (y,), incidence = ctx.saved_tensors, ctx.incidence
        out = (_empty if incidence.whole else _zeros)(len(y), y.shape[1], y)
        args = (_array(grad), _array(y), incidence.offsets, incidence.picks, _array(out))
        _workers.run(_return_softmax, incidence.chunks(y.shape[1]), args)
        return out, None


class _Cumsum(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, incidence: Incidence, backwards: bool) -> Tensor:
        ctx.incidence, ctx.backwards = incidence, backwards
        out = (_empty if incidence.whole else _zeros)(len(x), x.shape[1], x)
        args = (_array(x), incidence.offsets, incidence.picks, backwards, _array(out))
        _workers.run(_run_sums, incidence.chunks(x.shape[1]), args)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        turned = not ctx.backwards
        return _apply(_Cumsum, grad, ctx.incidence, turned), None, None


class _Dot(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, left: Index, right: Index, heads: int) -> Tensor:
        ctx.ends = left, right
        wants_x, wants_y = ctx.needs_input_grad[:2]
        ctx.save_for_backward(x if wants_y else None, y if wants_x else None)
        return _dots(x, left.rows, y, right.rows, _none(left.rows), _empty(len(left), heads, x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x, y), (left, right) = ctx.saved_tensors, ctx.ends
        pairs = left.paired(right)
        to_x = to_y = None
        if y is not None:
            to_x = _sum(y, grad, pairs.picks, pairs)
        if x is not None:
            turned = pairs.transposed
            to_y = _sum(x, grad, turned.picks, turned)
        return to_x, to_y, None, None, None


class _GroupedLinear(Function):
    """One product for each set, on contiguous slices."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, sets: Incidence
    ) -> Tensor:
        sorted_x = x if sets.order is None else _rows(x, sets.order)
        ctx.sets = sets
        wants_x, wants_weight = ctx.needs_input_grad[:2]
        ctx.save_for_backward(sorted_x if wants_weight else None, weight if wants_x else None)
        out = _empty(sets.n_entries, weight.shape[2], x)
        for s, begin, end in _nonempty(sets):
            if bias is None:
                torch.mm(sorted_x[begin:end], weight[s], out=out[begin:end])
            else:
                torch.addmm(bias[s], sorted_x[begin:end], weight[s], out=out[begin:end])
        return out if sets.order is None else _rows(out, sets.inverse)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x, weight), sets = ctx.saved_tensors, ctx.sets
        sorted_grad = grad.contiguous() if sets.order is None else _rows(grad, sets.order)
        to_x = to_weight = to_bias = None
        if weight is not None:
            to_x = _empty(sets.n_entries, weight.shape[1], grad)
            for s, begin, end in _nonempty(sets):
                torch.mm(sorted_grad[begin:end], weight[s].t(), out=to_x[begin:end])
            if sets.order is not None:
                to_x = _rows(to_x, sets.inverse)
        if x is not None:
            to_weight = grad.new_zeros(sets.n_targets, x.shape[1], grad.shape[1])
            for s, begin, end in _nonempty(sets):
                torch.mm(x[begin:end].t(), sorted_grad[begin:end], out=to_weight[s])
        if ctx.needs_input_grad[2]:
            to_bias = _sum(grad, None, sets.picks, sets)
        return to_x, to_weight, to_bias, None


class _PaddedLinear(Function):
    """One batched product, every set padded to the largest: for many small ones."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, sets: Incidence, padding: Padding
    ) -> Tensor:
        batch = padding.batch(x)
        ctx.sets, ctx.padding = sets, padding
        wants_x, wants_weight = ctx.needs_input_grad[:2]
        ctx.save_for_backward(batch if wants_weight else None, weight if wants_x else None)
        out = batch.bmm(weight) if bias is None else torch.baddbmm(bias[:, None], batch, weight)
        return padding.rows(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x, weight), padding = ctx.saved_tensors, ctx.padding
        batch = padding.batch(grad)
        to_x = None if weight is None else padding.rows(batch.bmm(weight.mT))
        to_weight = None if x is None else x.mT.bmm(batch)
        to_bias = batch.sum(1) if ctx.needs_input_grad[2] else None
        return to_x, to_weight, to_bias, None, None


def _nonempty(sets: Incidence) -> list[tuple[int, int, int]]:
    """(set, first entry, last entry + 1) of the sets that have entries."""
    bounds = sets.offsets.tolist()
    return [(s, a, b) for s, (a, b) in enumerate(pairwise(bounds)) if a < b]


# -- other devices: plain torch operations ---------------------------------------------------------


def _nothing(x: Tensor, rows: int) -> Tensor:
    """Zeros that depend on x, which has no rows, for autograd."""
    return x.sum(0, keepdim=True).expand(rows, -1)


def _plain_gather(x: Tensor, index: Index) -> Tensor:
    rows = index.on(x.device)
    if not len(x):
        return _nothing(x, len(rows))
    return x.index_select(0, rows.clamp(min=0)).where((rows >= 0)[:, None], 0)


def _plain_sum(x: Tensor, weight: Tensor | None, incidence: Incidence) -> Tensor:
    maps = incidence.on(x.device)
    rows = x.index_select(0, maps["sources"])
    if weight is not None:
        scale = weight.index_select(0, maps["order"])[:, :, None]
        size = x.shape[1] // weight.shape[1]
        rows = (rows.view(len(rows), weight.shape[1], size) * scale).view(rows.shape)
    return x.new_zeros(incidence.n_targets, x.shape[1]).index_add(0, maps["targets"], rows)


def _plain_extreme(x: Tensor, incidence: Incidence, sign: int) -> Tensor:
    maps = incidence.on(x.device)
    targets = maps["targets"][:, None].expand(-1, x.shape[1])
    with torch.no_grad():
        rows = sign * x.index_select(0, maps["sources"])
        best = rows.new_zeros(incidence.n_targets, x.shape[1])
        best = best.scatter_reduce(0, targets, rows, "amax", include_self=False)
        hit = (rows == best.gather(0, targets)) | rows.isnan()
        position = torch.arange(len(rows), device=x.device)[:, None].where(hit, len(rows))
        first = position.new_full(best.shape, len(rows))
        first = first.scatter_reduce(0, targets, position, "amin")
        found = first < len(rows)
        padded = torch.cat([maps["sources"], maps["sources"].new_zeros(1)])
    return x.gather(0, padded[first]).where(found, 0) if len(x) else _nothing(x, len(best))


def _plain_softmax(score: Tensor, incidence: Incidence) -> Tensor:
    maps = incidence.on(score.device)
    rows = score.index_select(0, maps["order"])
    targets = maps["targets"][:, None].expand(-1, score.shape[1])
    shape = incidence.n_targets, score.shape[1]
    best = rows.detach().new_zeros(shape)
    best = best.scatter_reduce(0, targets, rows.detach(), "amax", include_self=False)
    raised = (rows - best.gather(0, targets)).exp()
    total = raised.new_zeros(shape).index_add(0, maps["targets"], raised)
    return torch.zeros_like(score).index_copy(0, maps["order"], raised / total.gather(0, targets))


def _plain_cumsum(x: Tensor, incidence: Incidence) -> Tensor:
    maps = incidence.on(x.device)
    rows = x.index_select(0, maps["order"])
    exact = rows if x.device.type == "mps" else rows.double()
    running = torch.cat([exact.new_zeros(1, x.shape[1]), exact.cumsum(0)])
    starts = torch.from_numpy(incidence.offsets.astype(np.int64)).to(x.device)[maps["targets"]]
    sums = (running[1:] - running.index_select(0, starts)).to(x.dtype)
    return torch.zeros_like(x).index_copy(0, maps["order"], sums)


def _plain_grouped_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, sets: Incidence
) -> Tensor:
    maps = sets.on(x.device)
    rows = x.index_select(0, maps["order"])
    made = [rows.new_zeros(0, weight.shape[2])]
    made += [rows[begin:end] @ weight[s] for s, begin, end in _nonempty(sets)]
    out = torch.cat(made)
    if bias is not None:
        out = out + bias.index_select(0, maps["targets"])
    return x.new_zeros(len(x), weight.shape[2]).index_copy(0, maps["order"], out)


# -- public operations -----------------------------------------------------------------------------


def _compiled(x: Tensor) -> bool:
    """Whether x is for the compiled loops: the one place where devices part."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


def _expect(what: str, x: Tensor, rows: int) -> None:
    if x.ndim != 2 or len(x) != rows:
        raise PlanError(f"{what} has shape {tuple(x.shape)}, not [{rows}, width]")


def gather(x: Float[Tensor, "sources width"], index: Index) -> Float[Tensor, "rows width"]:
    """Row index[r] of x for every r; 0, without gradient, where index[r] is −1.

    The identity index gives x itself. Gradient: each source the sum of the rows that read it.
    """
    _expect("x", x, index.n_sources)
    if index.identity:
        return x
    if not _compiled(x):
        return _plain_gather(x, index)
    return _apply(_Gather, x, index)


def segment_sum(
    x: Float[Tensor, "sources width"], incidence: Incidence
) -> Float[Tensor, "targets width"]:
    """Sum of each target's source rows; an empty target is 0."""
    return weighted_sum(x, None, incidence)


def weighted_sum(
    x: Float[Tensor, "sources width"],
    weight: Float[Tensor, "inputs heads"] | Float[Tensor, " inputs"] | None,
    incidence: Incidence,
) -> Float[Tensor, "targets width"]:
    """Σ_e weight[e] · x[sources[e]] over each target's entries; an empty target is 0.

    `weight` is in input order (that of the arrays the incidence was built from): one number for
    each pair, or one for each of `heads` equal slices of the width (as many as columns: a vector
    weight). Gradients to x and weight; a weight's costs nothing if it needs none.
    """
    _expect("x", x, incidence.n_sources)
    if weight is not None:
        weight = weight[:, None] if weight.ndim == 1 else weight
        _expect("weight", weight, incidence.n_inputs)
        if weight.shape[1] < 1 or x.shape[1] % weight.shape[1]:
            raise PlanError(f"{weight.shape[1]} weights do not divide a width of {x.shape[1]}")
        if weight.dtype != x.dtype:
            raise PlanError(f"weight is {weight.dtype}, x is {x.dtype}")
    if not _compiled(x):
        return _plain_sum(x, weight, incidence)
    return _apply(_WeightedSum, x, weight, incidence)


def segment_mean(
    x: Float[Tensor, "sources width"], incidence: Incidence
) -> Float[Tensor, "targets width"]:
    """Mean of each target's source rows; an empty target is 0."""
    _expect("x", x, incidence.n_sources)
    if not _compiled(x):
        share = torch.from_numpy(incidence.inverse_counts).to(x.dtype).to(x.device)
        return _plain_sum(x, None, incidence) * share
    return _apply(_Mean, x, incidence)


def segment_max(
    x: Float[Tensor, "sources width"], incidence: Incidence
) -> Float[Tensor, "targets width"]:
    """Greatest of each target's source rows, column by column; an empty target is 0, NaN wins.

    Gradient: to the first entry that is greatest.
    """
    return _extreme(x, incidence, 1)


def segment_min(
    x: Float[Tensor, "sources width"], incidence: Incidence
) -> Float[Tensor, "targets width"]:
    """Least of each target's source rows, column by column; an empty target is 0, NaN wins.

    Gradient: to the first entry that is least.
    """
    return _extreme(x, incidence, -1)


def _extreme(x: Tensor, incidence: Incidence, sign: int) -> Tensor:
    _expect("x", x, incidence.n_sources)
    if not _compiled(x):
        return _plain_extreme(x, incidence, sign)
    return _apply(_Extreme, x, incidence, sign)


def segment_softmax(
    score: Float[Tensor, "inputs heads"], incidence: Incidence
) -> Float[Tensor, "inputs heads"]:
    """exp(score) / Σ exp(score) over each target's entries, column by column, in input order.

    Shifted by the target's greatest score, so large scores do not overflow. 0 for an input pair
    that belongs to no target. The incidence's sources play no part.
    """
    _expect("score", score, incidence.n_inputs)
    if not _compiled(score):
        return _plain_softmax(score, incidence)
    return _apply(_Softmax, score, incidence)


def segment_cumsum(
    x: Float[Tensor, "inputs width"], incidence: Incidence
) -> Float[Tensor, "inputs width"]:
    """Running sum, the row itself included, inside each target, in entry order; in input order.

    0 for an input pair that belongs to no target. The incidence's sources play no part.
    """
    _expect("x", x, incidence.n_inputs)
    if not _compiled(x):
        return _plain_cumsum(x, incidence)
    return _apply(_Cumsum, x, incidence, False)


def gathered_dot(
    x: Float[Tensor, "left width"],
    y: Float[Tensor, "right width"],
    left: Index,
    right: Index,
    heads: int = 1,
) -> Float[Tensor, "rows heads"]:
    """x[left[r]] · y[right[r]] for every r, over each of `heads` equal slices of the width.

    0, without gradient, where either is −1. Neither gather is materialised.
    """
    _expect("x", x, left.n_sources)
    _expect("y", y, right.n_sources)
    if len(left) != len(right):
        raise PlanError(f"the indices have {len(left)} and {len(right)} rows")
    if x.shape[1] != y.shape[1] or heads < 1 or x.shape[1] % heads:
        raise PlanError(f"widths {x.shape[1]} and {y.shape[1]} cannot be {heads} equal heads")
    if x.dtype != y.dtype:
        raise PlanError(f"x is {x.dtype}, y is {y.dtype}")
    if not _compiled(x):
        product = _plain_gather(x, left) * _plain_gather(y, right)
        return product.view(len(left), heads, x.shape[1] // heads).sum(2)
    return _apply(_Dot, x, y, left, right, heads)


def grouped_linear(
    x: Float[Tensor, "rows inputs"],
    weight: Float[Tensor, "sets inputs outputs"],
    sets: Incidence,
    bias: Float[Tensor, "sets outputs"] | None = None,
) -> Float[Tensor, "rows outputs"]:
    """x[r] @ weight[s] + bias[s], s the set of row r: one product for each set that has rows.

    `sets` groups the rows by set: `Incidence.build(set_of_row, None, n_sets, n_rows)`. A row of no
    set gives 0. Gradient to x, weight and bias; a set without rows gets 0.
    """
    _expect("x", x, sets.n_inputs)
    if weight.ndim != 3 or weight.shape[:2] != (sets.n_targets, x.shape[1]):
        raise PlanError(
            f"weight has shape {tuple(weight.shape)}, not [{sets.n_targets}, {x.shape[1]}, outputs]"
        )
    if bias is not None and bias.shape != (sets.n_targets, weight.shape[2]):
        raise PlanError(
            f"bias has shape {tuple(bias.shape)}, not [{sets.n_targets}, {weight.shape[2]}]"
        )
    if not _compiled(x):
        return _plain_grouped_linear(x, weight, bias, sets)
    if sets.padding is not None:
        return _apply(_PaddedLinear, x, weight, bias, sets, sets.padding)
    return _apply(_GroupedLinear, x, weight, bias, sets)
