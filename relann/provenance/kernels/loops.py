"""Compiled loops over row maps in CSR form."""

from __future__ import annotations

import numpy as np

from relann.compiled import loop
from relann.provenance.kernels.memory import Array
from relann.provenance.kernels.simd import (
    LANES,
    choose,
    exceeds,
    first_lanes,
    fma,
    lane_sum,
    load,
    load_some,
    plus,
    prefetch,
    splat,
    store,
    store_some,
    times,
)

RUN = 1024  # entries summed one after the other before a fresh partial sum starts
_AHEAD = np.uintp(16)  # entries between a prefetch and its use; unsigned, as entry numbers are


# Each works on targets (or rows) lo..hi. `offsets` and `sources` are an incidence's; an array of no
# elements means: none. Indices are made unsigned to spare numba's test for negative ones.


@loop
def sum_entries(
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
    zero, one = splat(x.dtype.type(0)), splat(x.dtype.type(1))
    for t in range(np.uintp(lo), np.uintp(hi)):
        begin, end = np.uintp(offsets[t]), np.uintp(offsets[t + np.uintp(1)])
        row = np.uintp(rows[t]) if placed else t
        c = 0
        while c + 4 * LANES <= width:
            a0, a1, a2, a3 = zero, zero, zero, zero
            for e in range(begin, end):
                s = np.uintp(sources[e])
                if e + _AHEAD < last:
                    later = np.uintp(sources[e + _AHEAD])
                    for k in range(4):
                        prefetch(x, later, c + k * LANES)
                    if picked:
                        prefetch(weight, np.uintp(pick[e + _AHEAD]), 0)
                w = one
                if weighted:
                    w = splat(weight[np.uintp(pick[e]) if picked else e, 0])
                a0 = fma(w, load(x, s, c), a0)
                a1 = fma(w, load(x, s, c + LANES), a1)
                a2 = fma(w, load(x, s, c + 2 * LANES), a2)
                a3 = fma(w, load(x, s, c + 3 * LANES), a3)
            store(out, row, c, a0)
            store(out, row, c + LANES, a1)
            store(out, row, c + 2 * LANES, a2)
            store(out, row, c + 3 * LANES, a3)
            c += 4 * LANES
        while c < width:
            mask = first_lanes(np.int32(width - c))
            a0 = zero
            for e in range(begin, end):
                if e + _AHEAD < last:
                    prefetch(x, np.uintp(sources[e + _AHEAD]), c)
                    if picked:
                        prefetch(weight, np.uintp(pick[e + _AHEAD]), 0)
                w = one
                if weighted:
                    w = splat(weight[np.uintp(pick[e]) if picked else e, 0])
                a0 = fma(w, load_some(x, np.uintp(sources[e]), c, mask), a0)
            store_some(out, row, c, a0, mask)
            c += LANES


@loop
def sum_entries_by_head(
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
    """out[rows[t], c] = Σ_e weight[pick[e], c's head] · x[sources[e], c]; heads share width.

    `sum_entries` is the case of one head, or none, on its own: one loop for all takes 1.2 to 1.5
    times as long at widths of 1 and 16 (E = 600k sorted, one core, November 2026).
    """
    width, heads = x.shape[1], weight.shape[1]
    size = width // heads
    picked, placed = pick.shape[0] > 0, rows.shape[0] > 0
    last = np.uintp(offsets[hi])
    zero = splat(x.dtype.type(0))
    for t in range(np.uintp(lo), np.uintp(hi)):
        begin, end = np.uintp(offsets[t]), np.uintp(offsets[t + np.uintp(1)])
        row = np.uintp(rows[t]) if placed else t
        c = 0
        while c < width:
            head = c // size
            stop = width if size == 1 else (head + 1) * size
            mask = first_lanes(np.int32(stop - c))
            total = zero
            for e in range(begin, end):
                k = np.uintp(pick[e]) if picked else e
                if e + _AHEAD < last:
                    prefetch(x, np.uintp(sources[e + _AHEAD]), c)
                    prefetch(weight, np.uintp(pick[e + _AHEAD]) if picked else e + _AHEAD, head)
                w = load_some(weight, k, c, mask) if size == 1 else splat(weight[k, head])
                total = fma(w, load_some(x, np.uintp(sources[e]), c, mask), total)
            store_some(out, row, c, total, mask)
            c = min(c + LANES, stop)


@loop
def dot_rows(
    x: Array, left: Array, y: Array, right: Array, place: Array, out: Array, lo: int, hi: int
) -> None:
    """out[place[r], head] = x[left[r]] · y[right[r]] over the head's columns; 0 where one is −1."""
    heads = out.shape[1]
    size = x.shape[1] // heads
    placed = place.shape[0] > 0
    zero = splat(x.dtype.type(0))
    for r in range(np.uintp(lo), np.uintp(hi)):
        into = np.uintp(place[r]) if placed else r
        if left[r] < 0 or right[r] < 0:
            for h in range(heads):
                out[into, h] = 0
            continue
        i, j = np.uintp(left[r]), np.uintp(right[r])
        later = r + _AHEAD
        if later < np.uintp(hi) and left[later] >= 0 and right[later] >= 0:
            for c in range(0, x.shape[1], LANES):
                prefetch(x, np.uintp(left[later]), c)
                prefetch(y, np.uintp(right[later]), c)
        if size == 1:
            for c in range(0, heads, LANES):
                mask = first_lanes(np.int32(heads - c))
                product = times(load_some(x, i, c, mask), load_some(y, j, c, mask))
                store_some(out, into, c, product, mask)
            continue
        for h in range(heads):
            c, stop = h * size, (h + 1) * size
            a0, a1 = zero, zero
            while c + 2 * LANES <= stop:
                a0 = fma(load(x, i, c), load(y, j, c), a0)
                a1 = fma(load(x, i, c + LANES), load(y, j, c + LANES), a1)
                c += 2 * LANES
            while c < stop:
                mask = first_lanes(np.int32(stop - c))
                a0 = fma(load_some(x, i, c, mask), load_some(y, j, c, mask), a0)
                c += LANES
            out[into, h] = lane_sum(plus(a0, a1))


@loop
def return_entries(
    grad: Array,
    offsets: Array,
    sources: Array,
    weight: Array,
    pick: Array,
    x: Array,
    of: Array,
    rows: Array,
    to_x: Array,
    to_weight: Array,
    lo: int,
    hi: int,
) -> None:
    """Both gradients of a weighted sum, its entries grouped by what they read.

    to_x[rows[t]] = Σ_e weight[pick[e]] · grad[sources[e]] and, head by head, to_weight[pick[e]] =
    x[of[t]] · grad[sources[e]]: each row of `grad` is fetched once for both.
    """
    width, heads = x.shape[1], weight.shape[1]
    size = width // heads
    picked, placed = pick.shape[0] > 0, rows.shape[0] > 0
    last = np.uintp(offsets[hi])
    zero = splat(x.dtype.type(0))
    for t in range(np.uintp(lo), np.uintp(hi)):
        begin, end = np.uintp(offsets[t]), np.uintp(offsets[t + np.uintp(1)])
        row = np.uintp(rows[t]) if placed else t
        mine = np.uintp(of[t]) if placed else t
        c = 0
        while c < width:
            head = c // size
            stop = width if size == 1 else (head + 1) * size
            fresh = c == head * size
            mask = first_lanes(np.int32(stop - c))
            total, held = zero, load_some(x, mine, c, mask)
            for e in range(begin, end):
                k = np.uintp(pick[e]) if picked else e
                if e + _AHEAD < last:
                    prefetch(grad, np.uintp(sources[e + _AHEAD]), c)
                    ahead = np.uintp(pick[e + _AHEAD]) if picked else e + _AHEAD
                    prefetch(weight, ahead, head)
                    prefetch(to_weight, ahead, head)
                g = load_some(grad, np.uintp(sources[e]), c, mask)
                if size == 1:
                    total = fma(load_some(weight, k, c, mask), g, total)
                    store_some(to_weight, k, c, times(g, held), mask)
                else:
                    total = fma(splat(weight[k, head]), g, total)
                    dot = lane_sum(times(g, held))
                    to_weight[k, head] = dot if fresh else to_weight[k, head] + dot
            store_some(to_x, row, c, total, mask)
            c = min(c + LANES, stop)


@loop
def dot_vector(x: Array, vector: Array, out: Array, lo: int, hi: int) -> None:
    """out[r, head] = x[r] · vector[0] over the head's columns."""
    heads = out.shape[1]
    size = x.shape[1] // heads
    zero = splat(x.dtype.type(0))
    for r in range(np.uintp(lo), np.uintp(hi)):
        for h in range(heads):
            c, stop, total = h * size, (h + 1) * size, zero
            while c < stop:
                mask = first_lanes(np.int32(stop - c))
                total = fma(load_some(x, r, c, mask), load_some(vector, 0, c, mask), total)
                c += LANES
            out[r, h] = lane_sum(total)


@loop
def return_dot_vector(
    grad: Array, x: Array, vector: Array, to_x: Array, to_vector: Array, lo: int, hi: int
) -> None:
    """to_x[r] = grad[r, head] · vector[0]; to_vector[k] = Σ grad[r, head] · x[r], r of run k.

    Runs lo..hi, of RUN rows each. Either has no rows if it is not wanted.
    """
    rows, heads = grad.shape
    width = vector.shape[1]
    size = width // heads
    wants_x, wants_vector = to_x.shape[0] > 0, to_vector.shape[0] > 0
    for k in range(np.uintp(lo), np.uintp(hi)):
        for r in range(k * np.uintp(RUN), min((k + np.uintp(1)) * np.uintp(RUN), np.uintp(rows))):
            for h in range(heads):
                g = splat(grad[r, h])
                c, stop = h * size, (h + 1) * size
                while c < stop:
                    mask = first_lanes(np.int32(stop - c))
                    if wants_x:
                        store_some(to_x, r, c, times(g, load_some(vector, 0, c, mask)), mask)
                    if wants_vector:
                        sofar = load_some(to_vector, k, c, mask)
                        store_some(to_vector, k, c, fma(g, load_some(x, r, c, mask), sofar), mask)
                    c += LANES


# Products with at most LANES outputs, four rows at a time: they share the weight's loads, and none
# waits for its own last sum.


@loop
def times_narrow(x: Array, weight: Array, bias: Array, out: Array, lo: int, hi: int) -> None:
    """out[r] = x[r] · weight + bias[0], for at most LANES outputs."""
    inputs, outputs = weight.shape
    mask = first_lanes(np.int32(outputs))
    start = load_some(bias, 0, 0, mask) if bias.shape[0] > 0 else splat(x.dtype.type(0))
    r, rows = np.uintp(lo), np.uintp(hi)
    while r + np.uintp(4) <= rows:
        a0, a1, a2, a3 = start, start, start, start
        for i in range(np.uintp(inputs)):
            w = load_some(weight, i, 0, mask)
            a0 = fma(splat(x[r, i]), w, a0)
            a1 = fma(splat(x[r + np.uintp(1), i]), w, a1)
            a2 = fma(splat(x[r + np.uintp(2), i]), w, a2)
            a3 = fma(splat(x[r + np.uintp(3), i]), w, a3)
        store_some(out, r, 0, a0, mask)
        store_some(out, r + np.uintp(1), 0, a1, mask)
        store_some(out, r + np.uintp(2), 0, a2, mask)
        store_some(out, r + np.uintp(3), 0, a3, mask)
        r += np.uintp(4)
    while r < rows:
        total = start
        for i in range(np.uintp(inputs)):
            total = fma(splat(x[r, i]), load_some(weight, i, 0, mask), total)
        store_some(out, r, 0, total, mask)
        r += np.uintp(1)


@loop
def return_narrow_rows(grad: Array, turned: Array, out: Array, lo: int, hi: int) -> None:
    """out[r] = grad[r] · turned, `turned` being the weight's transpose."""
    outputs, inputs = turned.shape
    zero = splat(grad.dtype.type(0))
    for c in range(0, inputs, LANES):
        mask = first_lanes(np.int32(inputs - c))
        r, rows = np.uintp(lo), np.uintp(hi)
        while r + np.uintp(4) <= rows:
            a0, a1, a2, a3 = zero, zero, zero, zero
            for o in range(np.uintp(outputs)):
                w = load_some(turned, o, c, mask)
                a0 = fma(splat(grad[r, o]), w, a0)
                a1 = fma(splat(grad[r + np.uintp(1), o]), w, a1)
                a2 = fma(splat(grad[r + np.uintp(2), o]), w, a2)
                a3 = fma(splat(grad[r + np.uintp(3), o]), w, a3)
            store_some(out, r, c, a0, mask)
            store_some(out, r + np.uintp(1), c, a1, mask)
            store_some(out, r + np.uintp(2), c, a2, mask)
            store_some(out, r + np.uintp(3), c, a3, mask)
            r += np.uintp(4)
        while r < rows:
            total = zero
            for o in range(np.uintp(outputs)):
                total = fma(splat(grad[r, o]), load_some(turned, o, c, mask), total)
            store_some(out, r, c, total, mask)
            r += np.uintp(1)


@loop
def return_narrow_weight(grad: Array, x: Array, out: Array, lo: int, hi: int) -> None:
    """out[k, o, i] = Σ grad[r, o] · x[r, i], r of run k; the last row of out[k] is Σ grad[r].

    Runs lo..hi, of RUN rows each; `out` starts as zeros, its rows filled up to whole LANES.
    """
    rows, inputs, outputs = np.uintp(x.shape[0]), x.shape[1], grad.shape[1]
    some, four = first_lanes(np.int32(outputs)), np.uintp(4)
    for k in range(np.uintp(lo), np.uintp(hi)):
        table = out[k]
        begin, end = k * np.uintp(RUN), min((k + np.uintp(1)) * np.uintp(RUN), rows)
        whole = begin + (end - begin) // four * four
        total = splat(x.dtype.type(0))
        for r in range(begin, end):
            total = plus(total, load_some(grad, r, 0, some))
        store_some(table, np.uintp(outputs), 0, total, some)
        for c in range(0, inputs, LANES):
            mask = first_lanes(np.int32(inputs - c))
            for r in range(begin, whole, four):
                r1, r2, r3 = r + np.uintp(1), r + np.uintp(2), r + np.uintp(3)
                x0, x1 = load_some(x, r, c, mask), load_some(x, r1, c, mask)
                x2, x3 = load_some(x, r2, c, mask), load_some(x, r3, c, mask)
                for o in range(np.uintp(outputs)):
                    sofar = fma(splat(grad[r, o]), x0, load(table, o, c))
                    sofar = fma(splat(grad[r1, o]), x1, sofar)
                    sofar = fma(splat(grad[r2, o]), x2, sofar)
                    store(table, o, c, fma(splat(grad[r3, o]), x3, sofar))
            for r in range(whole, end):
                x0 = load_some(x, r, c, mask)
                for o in range(np.uintp(outputs)):
                    store(table, o, c, fma(splat(grad[r, o]), x0, load(table, o, c)))


@loop
def copy_rows(x: Array, index: Array, out: Array, lo: int, hi: int) -> None:
    """out[r] = x[index[r]]; 0 where index[r] is −1."""
    width = x.shape[1]
    for r in range(np.uintp(lo), np.uintp(hi)):
        later = r + _AHEAD
        if later < np.uintp(hi) and index[later] >= 0:
            for c in range(0, width, LANES):
                prefetch(x, np.uintp(index[later]), c)
        if index[r] < 0:
            for c in range(width):
                out[r, c] = 0
            continue
        s = np.uintp(index[r])
        c = 0
        while c + LANES <= width:
            store(out, r, c, load(x, s, c))
            c += LANES
        if c < width:
            mask = first_lanes(np.int32(width - c))
            store_some(out, r, c, load_some(x, s, c, mask), mask)


@loop
def extreme_entries(
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
    turn = splat(sign[0])
    for t in range(np.uintp(lo), np.uintp(hi)):
        begin, end = np.uintp(offsets[t]), np.uintp(offsets[t + np.uintp(1)])
        for c in range(0, width, LANES):
            mask = first_lanes(np.int32(width - c))
            best, source = splat(x.dtype.type(0)), splat(sources.dtype.type(-1))
            if begin < end:
                best = times(turn, load_some(x, np.uintp(sources[begin]), c, mask))
                source = splat(sources[begin])
            for e in range(begin + np.uintp(1), end):
                if e + _AHEAD < last:
                    prefetch(x, np.uintp(sources[e + _AHEAD]), c)
                value = times(turn, load_some(x, np.uintp(sources[e]), c, mask))
                more = exceeds(value, best)
                best = choose(more, value, best)
                source = choose(more, splat(sources[e]), source)
            store_some(out, t, c, times(turn, best), mask)
            if wanted:
                store_some(chosen, t, c, source, mask)


@loop
def return_extremes(
    grad: Array, chosen: Array, out: Array, begin: int, end: int, lo: int, hi: int
) -> None:
    """out[chosen[t, c], c] += grad[t, c] for the targets begin..end, columns lo..hi."""
    for t in range(np.uintp(begin), np.uintp(end)):
        for c in range(np.uintp(lo), np.uintp(hi)):
            if chosen[t, c] >= 0:
                out[np.uintp(chosen[t, c]), c] += grad[t, c]


# Softmax goes column by column: scores are narrow, and lanes across one column would stay empty.


@loop
def shift_by_maximum(
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


@loop
def divide_by_sum(out: Array, offsets: Array, order: Array, lo: int, hi: int) -> None:
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


@loop
def return_softmax(
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


@loop
def run_sums(
    x: Array, offsets: Array, order: Array, backwards: bool, out: Array, lo: int, hi: int
) -> None:
    """out = running sum of x inside each target, in entry order or against it."""
    width = x.shape[1]
    ordered = order.shape[0] > 0
    zero = splat(x.dtype.type(0))
    for t in range(np.uintp(lo), np.uintp(hi)):
        begin, end = np.uintp(offsets[t]), np.uintp(offsets[t + np.uintp(1)])
        for c in range(0, width, LANES):
            mask = first_lanes(np.int32(width - c))
            total, part = zero, zero
            for step in range(end - begin):
                e = end - np.uintp(1) - step if backwards else begin + step
                k = np.uintp(order[e]) if ordered else e
                part = plus(part, load_some(x, k, c, mask))
                store_some(out, k, c, plus(total, part), mask)
                if (step + np.uintp(1)) % np.uintp(RUN) == 0:
                    total, part = plus(total, part), zero


@loop
def count_keys(keys: Array, edges: Array, counts: Array, lo: int, hi: int) -> None:
    """counts[p, k] += how often key k occurs in part p; −1 is no key."""
    for p in range(lo, hi):
        for e in range(edges[p], edges[p + 1]):
            if keys[e] >= 0:
                counts[p, np.uintp(keys[e])] += 1


@loop
def start_keys(counts: Array, offsets: Array) -> None:
    """offsets = where each key's entries start; counts[p, k] = where part p's start."""
    start = 0
    for k in range(counts.shape[1]):
        offsets[k] = start
        for p in range(counts.shape[0]):
            count = counts[p, k]
            counts[p, k] = start
            start += count
    offsets[counts.shape[1]] = start


@loop
def place_keys(
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


@loop
def sum_products(
    x: Array, offsets: Array, picks: Array, rows: Array, out: Array, lo: int, hi: int
) -> None:
    """out[rows[t]] = Σ_e Π_p x[picks[e, p]] over the entries e of target t."""
    width, factors, placed = x.shape[1], picks.shape[1], rows.shape[0] > 0
    zero = splat(x.dtype.type(0))
    for t in range(np.uintp(lo), np.uintp(hi)):
        begin, end = np.uintp(offsets[t]), np.uintp(offsets[t + np.uintp(1)])
        row = np.uintp(rows[t]) if placed else t
        for c in range(0, width, LANES):
            mask = first_lanes(np.int32(width - c))
            total = zero
            for e in range(begin, end):
                product = load_some(x, np.uintp(picks[e, 0]), c, mask)
                for p in range(1, factors):
                    product = times(product, load_some(x, np.uintp(picks[e, p]), c, mask))
                total = plus(total, product)
            store_some(out, row, c, total, mask)


@loop
def return_products(
    grad: Array, x: Array, targets: Array, picks: Array, bounds: Array, out: Array, lo: int, hi: int
) -> None:
    """out[part, picks[e, p]] += grad[targets[e]] · Π_{q ≠ p} x[picks[e, q]], part by part.

    Part k holds entries bounds[k]..bounds[k+1] and adds into a table of its own.
    """
    width, factors = x.shape[1], picks.shape[1]
    before = np.empty((factors + 1, LANES), dtype=x.dtype)
    every = first_lanes(np.int32(LANES))
    for part in range(lo, hi):
        table = out[part]
        for e in range(np.uintp(bounds[part]), np.uintp(bounds[part + 1])):
            t = np.uintp(targets[e])
            for c in range(0, width, LANES):
                mask = first_lanes(np.int32(width - c))
                product = load_some(grad, t, c, mask)
                for p in range(factors):
                    store_some(before, np.uintp(p), 0, product, every)
                    product = times(product, load_some(x, np.uintp(picks[e, p]), c, mask))
                after = splat(x.dtype.type(1))
                for p in range(factors - 1, -1, -1):
                    row = np.uintp(picks[e, p])
                    rest = times(load_some(before, np.uintp(p), 0, every), after)
                    store_some(table, row, c, plus(load_some(table, row, c, mask), rest), mask)
                    after = times(after, load_some(x, row, c, mask))


@loop
def return_products_by_row(
    grad: Array,
    x: Array,
    targets: Array,
    picks: Array,
    offsets: Array,
    places: Array,
    out: Array,
    lo: int,
    hi: int,
) -> None:
    """out[r] = Σ grad[targets[e]] · Π_{q ≠ p} x[picks[e, q]], r's places being e · factors + p."""
    width, factors = x.shape[1], picks.shape[1]
    zero = splat(x.dtype.type(0))
    for r in range(np.uintp(lo), np.uintp(hi)):
        begin, end = np.uintp(offsets[r]), np.uintp(offsets[r + np.uintp(1)])
        for c in range(0, width, LANES):
            mask = first_lanes(np.int32(width - c))
            total = zero
            for i in range(begin, end):
                e, p = np.uintp(places[i] // factors), places[i] % factors
                product = load_some(grad, np.uintp(targets[e]), c, mask)
                for q in range(factors):
                    if q != p:
                        product = times(product, load_some(x, np.uintp(picks[e, q]), c, mask))
                total = plus(total, product)
            store_some(out, r, c, total, mask)
