"""Compiled loops: the enumeration of a join's tuples, and values looked up by their codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from relann.compiled import loop

Array = npt.NDArray[Any]

# Columns of `steps`, one row for each variable in the order of enumeration.
FIRST_PART, APART, SEEN, FIRST_BOUND, STEP_FIELDS = 0, 1, 2, 3, 4
# Columns of `parts`, one row for each variable of each atom, the parts of a variable together:
# the part of the same atom above it (−1: none), the nodes of its level where none is above, where
# in `tables` its positions by code are (−1: nowhere).
ABOVE, LOW, HIGH, TABLE, PART_FIELDS = 0, 1, 2, 3, 4
# Columns of `bounds`: the earlier variable, by how much the code is to be above it or, with
# `IS_UPPER`, below it.
OTHER, MARGIN, IS_UPPER, BOUND_FIELDS = 0, 1, 2, 3
# Columns of `state`, one row for each variable.
NEXT, END, BY, UPPER, VALUE, STATE_FIELDS = 0, 1, 2, 3, 4, 5
# Columns of `part_state`, one row for each part.
POSITION, FROM, TO, MARKED, OWED_FOR, OWED, PART_STATE_FIELDS = 0, 1, 2, 3, 4, 5, 6
# Columns of `tests`, one row for each variable of an ending: which earlier ones it must differ
# from, and where in `seen` its codes are.
DIFFERS, WHERE, TEST_FIELDS = 0, 1, 2

_SEARCH = 8  # what a search costs, in steps of marking


@loop
def list_tuples(
    steps: Array,
    parts: Array,
    bounds: Array,
    values: Array,
    children: Array,
    tables: Array,
    seen: Array,
    state: Array,
    part_state: Array,
    endings: Array,
    tests: Array,
    depth: int,
    out: Array,
) -> tuple[int, int]:
    """Go on with the enumeration from `depth`: (tuples written, depth to go on from or −1).

    out[k, i] is the code of variable k in tuple i; it returns when `out` is full or all is found.
    Node g of a trie has the value values[g] and the children children[g] … children[g + 1].
    A variable takes its values from the shortest list of candidates that an atom gives and tests
    each by the other atoms: in a table of positions by code, where the atom's nodes do not change
    with the variable before, so that marking them costs no more than was worked already; by binary
    search else. seen[steps[k, SEEN] + c] has bit j set while variable j has the code c, where
    something must differ from others (SEEN is −1 elsewhere).

    With `endings` the last variable has for values the rows of this table, which are the codes of
    further variables; `out` has those in its place.
    """
    last = steps.shape[0] - 2
    capacity = out.shape[1]
    width = endings.shape[1]
    filled = 0
    enter = False
    one = np.uint64(1)
    while depth >= 0:
        if enter:  # the candidates of the variable
            enter = False
            begin, end = steps[depth, FIRST_PART], steps[depth + 1, FIRST_PART]
            shortest, by = np.int64(1) << 62, begin
            unmarked, instead = np.int64(1) << 62, begin
            for p in range(begin, end):
                above = parts[p, ABOVE]
                if above < 0:
                    low, high = parts[p, LOW], parts[p, HIGH]
                else:
                    position = part_state[above, POSITION]
                    low, high = np.int64(children[position]), np.int64(children[position + 1])
                part_state[p, FROM], part_state[p, TO] = low, high
                if high - low < shortest:
                    shortest, by = high - low, p
                if high - low < unmarked and parts[p, TABLE] < 0:
                    unmarked, instead = high - low, p
            if unmarked <= _SEARCH * shortest:
                by = instead  # what is no table is better run through than searched
            low, high = part_state[by, FROM], part_state[by, TO]
            lower, upper = np.int64(-1), np.int64(1) << 62
            for b in range(steps[depth, FIRST_BOUND], steps[depth + 1, FIRST_BOUND]):
                limit = state[bounds[b, OTHER], VALUE]
                if bounds[b, IS_UPPER]:
                    upper = min(upper, limit - bounds[b, MARGIN])
                else:
                    lower = max(lower, limit + bounds[b, MARGIN])
            if lower > 0:
                stop = high
                while low < stop:
                    middle = (low + stop) >> 1
                    if values[middle] < lower:
                        low = middle + 1
                    else:
                        stop = middle
            state[depth, BY], state[depth, UPPER] = by, upper
            state[depth, NEXT], state[depth, END] = low, high
            for p in range(begin, end):
                table = parts[p, TABLE]
                if p == by or table < 0:
                    continue
                above = parts[p, ABOVE]
                if above < 0:
                    part_state[p, FROM] = -1
                    continue
                position = part_state[above, POSITION]
                if part_state[p, MARKED] != position:
                    size = part_state[p, TO] - part_state[p, FROM]
                    if part_state[p, OWED_FOR] != position:
                        part_state[p, OWED_FOR], part_state[p, OWED] = position, 0
                    part_state[p, OWED] += _SEARCH * shortest
                    if part_state[p, OWED] < size:
                        continue
                    old = part_state[p, MARKED]
                    if old >= 0:
                        for g in range(children[old], children[old + 1]):
                            tables[table + values[g]] = -1
                    for g in range(part_state[p, FROM], part_state[p, TO]):
                        tables[table + values[g]] = g
                    part_state[p, MARKED] = position
                part_state[p, FROM] = -1
        found = False
        begin, end = steps[depth, FIRST_PART], steps[depth + 1, FIRST_PART]
        apart = np.uint64(steps[depth, APART])
        base = steps[depth, SEEN]
        by, upper = state[depth, BY], state[depth, UPPER]
        i, stop = state[depth, NEXT], state[depth, END]
        value = np.int64(-1)
        if depth == last and width:
            while i < stop and filled < capacity:
                row = np.int64(values[i])
                i += 1
                met = np.uint64(0)
                for k in range(width):
                    mask = np.uint64(tests[k, DIFFERS])
                    if mask:
                        met |= seen[tests[k, WHERE] + endings[row, k]] & mask
                if met:
                    continue
                for k in range(depth):
                    out[k, filled] = state[k, VALUE]
                for k in range(width):
                    out[depth + k, filled] = endings[row, k]
                filled += 1
            state[depth, NEXT] = i
            if filled == capacity:
                return filled, depth
            depth -= 1
            if steps[depth, SEEN] >= 0:
                seen[steps[depth, SEEN] + state[depth, VALUE]] &= ~(one << np.uint64(depth))
            continue
        other = begin if by == end - 1 else end - 1
        if depth == last and end - begin == 2 and part_state[other, FROM] == -1:
            table = parts[other, TABLE]
            while i < stop and filled < capacity:
                value = np.int64(values[i])
                if value > upper:
                    i = stop
                    break
                i += 1
                if tables[table + value] < 0:
                    continue
                if apart and seen[base + value] & apart:
                    continue
                for k in range(depth):
                    out[k, filled] = state[k, VALUE]
                out[depth, filled] = value
                filled += 1
            state[depth, NEXT] = i
            if filled == capacity:
                return filled, depth
        else:
            while i < stop:
                value = np.int64(values[i])
                if value > upper:
                    i = stop
                    break
                i += 1
                if apart and seen[base + value] & apart:
                    continue
                found = True
                for p in range(begin, end):
                    if p == by:
                        continue
                    if part_state[p, FROM] == -1:
                        at = np.int64(tables[parts[p, TABLE] + value])
                        if at < 0:
                            found = False
                            break
                    else:
                        low, high = part_state[p, FROM], part_state[p, TO]
                        while low < high:
                            middle = (low + high) >> 1
                            if values[middle] < value:
                                low = middle + 1
                            else:
                                high = middle
                        part_state[p, FROM] = low  # candidates ascend
                        if low == part_state[p, TO] or values[low] != value:
                            found = False
                            break
                        at = low
                    part_state[p, POSITION] = at
                if found:
                    part_state[by, POSITION] = i - 1
                    break
            state[depth, NEXT] = i
        if not found:
            depth -= 1
            if depth >= 0 and steps[depth, SEEN] >= 0:
                seen[steps[depth, SEEN] + state[depth, VALUE]] &= ~(one << np.uint64(depth))
            continue
        state[depth, VALUE] = value
        if depth == last:
            for k in range(depth + 1):
                out[k, filled] = state[k, VALUE]
            filled += 1
            if filled == capacity:
                return filled, depth
            continue
        if base >= 0:
            seen[base + value] |= one << np.uint64(depth)
        depth += 1
        enter = True
    return filled, -1


@loop
def sort_by(codes: Array, order: Array, starts: Array, out: Array) -> None:
    """out = `order`, rows of equal codes as they stand there; `starts` has a 0 for each code."""
    for row in order:
        starts[np.uintp(codes[np.uintp(row)])] += 1
    total = 0
    for code in range(starts.shape[0]):
        count = starts[code]
        starts[code] = total
        total += count
    for row in order:
        of = np.uintp(codes[np.uintp(row)])
        out[np.uintp(starts[of])] = row
        starts[of] += 1


@loop
def look_up(table: Array, codes: Array, out: Array) -> None:
    """out[i] = table[codes[i]]."""
    for i in range(codes.shape[0]):
        out[i] = table[np.uintp(codes[i])]
