"""Generic Join: the tuples of a conjunctive query, one variable after the other.

Ngo, Ré and Rudra, Skew strikes back (SIGMOD Record 2014), algorithm 2; tries as in Leapfrog
Triejoin (Veldhuizen, ICDT 2014). The time is that of the largest output a query of this form has on
relations of this size (Atserias, Grohe and Marx 2008), and nothing is held but tries and output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from relann.algebra.engines.generic_join import loops
from relann.algebra.engines.generic_join.domains import Codes
from relann.algebra.engines.generic_join.tries import Trie
from relann.algebra.multiway import Comparison

_BLOCK = 1 << 18  # codes in a block of tuples
_CHUNKS = 32  # chunks of the first variable's values for each thread, as some have more to do
_ENDINGS = 1 << 20  # codes of endings that a thread keeps
_SERIAL = 1 << 12  # tuples of all relations below which one thread does it

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Atom:
    """A relation of the query: its variables, ascending, and its trie with a level for each."""

    variables: tuple[int, ...]
    trie: Trie


@dataclass(frozen=True, eq=False)
class Tuples:
    """Tuples of codes in blocks: codes[k, i] is variable k's in tuple i of a block."""

    blocks: tuple[Codes, ...]

    @property
    def count(self) -> int:
        """How many tuples there are."""
        return sum(block.shape[1] for block in self.blocks)

    def looked_up(self, table: npt.NDArray[Any], variable: int) -> npt.NDArray[Any]:
        """table[code] for the variable's code in every tuple; numbers of four or eight bytes."""
        out = np.empty(self.count, dtype=table.dtype)
        bits = np.uint32 if table.dtype.itemsize == 4 else np.uint64
        source, target = np.ascontiguousarray(table).view(bits), out.view(bits)
        done = 0
        for block in self.blocks:
            size = block.shape[1]
            loops.look_up(source, block[variable], target[done : done + size])
            done += size
        return out

    def codes(self, variable: int) -> Codes:
        """The variable's code in every tuple."""
        if not self.blocks:
            return np.empty(0, dtype=np.int32)
        return np.concatenate([block[variable] for block in self.blocks])


def enumerated(
    atoms: Sequence[Atom],
    sizes: Sequence[int],
    groups: Sequence[int],
    comparisons: Sequence[Comparison],
    threads: int,
) -> Tuples:
    """The tuples that are in every atom and meet the comparisons, in lexicographic order.

    Variable k has codes below sizes[k]; variables that are compared are in one of the `groups`, and
    their codes are of one domain. Each variable is in an atom. The number of threads changes
    nothing but the time.
    """
    if any(not len(atom.trie.values[0]) for atom in atoms):
        return Tuples(())
    query = _laid_out(atoms, sizes, groups, comparisons)
    first = query.first()
    low, high = query.parts[first, loops.LOW], query.parts[first, loops.HIGH]
    serial = threads == 1 or len(query.values) < _SERIAL
    chunks = int(min(high - low, 1 if serial else threads * _CHUNKS))
    cuts = [int(low + (high - low) * i // chunks) for i in range(chunks + 1)]
    found: list[list[Codes]] = [[] for _ in range(chunks)]
    turns = iter(range(chunks))  # next() is atomic

    def work() -> None:
        enumeration = _Enumeration(query, first)
        for chunk in turns:
            found[chunk] = enumeration.between(cuts[chunk], cuts[chunk + 1])

    together([work] * (1 if serial else threads))
    return Tuples(tuple(block for blocks in found for block in blocks))


def together(tasks: Iterable[Callable[[], None]]) -> None:
    """Run tasks side by side, the first in this thread."""
    first, *others = tasks
    if not others:
        first()
        return
    with ThreadPoolExecutor(len(others), "relann-join") as pool:
        running = [pool.submit(task) for task in others]
        first()
        for future in running:
            future.result()


@dataclass(frozen=True)
class _Ending:
    """Tuples from variable `first` on: `key`, one of `keys` codes, and those up to `fixed` decide.

    What must differ is left aside.
    """

    first: int
    key: int
    fixed: int
    keys: int


@dataclass(frozen=True, eq=False)
class _Query:
    """What `loops.list_tuples` reads; see there."""

    steps: Ints
    parts: Ints
    bounds: Ints
    values: Codes
    children: Codes
    tables: Codes
    seen: int
    ending: _Ending | None

    def first(self) -> int:
        """The part whose values the first variable runs through."""
        ends = self.steps[:2, loops.FIRST_PART]
        return min(
            range(ends[0], ends[1]),
            key=lambda p: self.parts[p, loops.HIGH] - self.parts[p, loops.LOW],
        )


class _Enumeration:
    """One thread's share of an enumeration, with tables of its own."""

    def __init__(self, query: _Query, first: int) -> None:
        variables = len(query.steps) - 1
        self._query, self._first, self._variables = query, first, variables
        self._tables = query.tables.copy()
        self._seen = np.zeros(query.seen, dtype=np.uint64)
        self._state = np.zeros((variables, loops.STATE_FIELDS), dtype=np.int64)
        self._part_state = np.full((len(query.parts), loops.PART_STATE_FIELDS), -1, dtype=np.int64)
        self._cached = np.zeros(loops.CACHED_FIELDS, dtype=np.int64)
        ending = query.ending or _Ending(len(query.steps), 0, -2, 0)
        self._cached[[loops.ENDING, loops.KEY, loops.FIXED]] = (
            ending.first,
            ending.key,
            ending.fixed,
        )
        self._cached[loops.EPOCH] = 1
        self._endings = np.zeros((ending.keys, loops.ENDING_FIELDS), dtype=np.int64)
        self._ending_codes = np.empty(_ENDINGS if ending.keys else 0, dtype=np.int32)
        self._capacity = max(_BLOCK // variables, 1)
        self._block = np.empty((variables, self._capacity), dtype=np.int32)

    def between(self, low: int, high: int) -> list[Codes]:
        """The tuples whose first value is at one of some positions, in blocks."""
        query, state = self._query, self._state
        state[0, loops.BY], state[0, loops.UPPER] = self._first, 1 << 62
        state[0, loops.NEXT], state[0, loops.END] = low, high
        blocks: list[Codes] = []
        depth = 0
        while depth >= 0:
            filled, depth = loops.list_tuples(
                query.steps, query.parts, query.bounds, query.values, query.children,
                self._tables, self._seen, state, self._part_state, self._cached, self._endings,
                self._ending_codes, depth, self._block,
            )  # fmt: skip
            if filled == self._capacity:
                blocks.append(self._block)
                self._block = np.empty((self._variables, self._capacity), dtype=np.int32)
            elif filled:
                blocks.append(self._block[:, :filled].copy())
        return blocks


def _laid_out(
    atoms: Sequence[Atom],
    sizes: Sequence[int],
    groups: Sequence[int],
    comparisons: Sequence[Comparison],
) -> _Query:
    """The query as arrays."""
    values, children, starts = _joined({id(atom.trie): atom.trie for atom in atoms}.values())
    steps = np.zeros((len(sizes) + 1, loops.STEP_FIELDS), dtype=np.int64)
    parts: list[tuple[int, int, int, int]] = []
    bounds: list[tuple[int, int, int]] = []
    tables: list[Codes] = []
    table_size = 0
    roots: dict[int, int] = {}  # the table of a trie's first level
    above: dict[int, tuple[int, int]] = {}  # an atom's last part so far, and its variable
    seen = _seen_bases(sizes, groups, comparisons)
    ending = _ending(atoms, sizes, comparisons)
    for variable in range(len(sizes)):
        steps[variable, loops.FIRST_PART] = len(parts)
        steps[variable, loops.FIRST_BOUND] = len(bounds)
        steps[variable, loops.SEEN] = seen.get(groups[variable], -1)
        here = [(n, a) for n, a in enumerate(atoms) if variable in a.variables]
        for number, atom in here:
            low = starts[id(atom.trie)]
            high = low + len(atom.trie.values[0])
            table = -1
            if number in above:
                part, of = above[number]
                if of < variable - 1 and len(here) > 1:
                    table = table_size
                    tables.append(np.full(sizes[variable], -1, dtype=np.int32))
                    table_size += sizes[variable]
            else:
                part = -1
                if id(atom.trie) not in roots:
                    positions = np.full(sizes[variable], -1, dtype=np.int32)
                    positions[atom.trie.values[0]] = np.arange(low, high, dtype=np.int32)
                    roots[id(atom.trie)] = table_size
                    tables.append(positions)
                    table_size += sizes[variable]
                table = roots[id(atom.trie)]
            above[number] = len(parts), variable
            parts.append((part, low, high, table))
        for c in comparisons:
            if c.right != variable:
                continue
            if c.sign == "<>":
                steps[variable, loops.APART] |= 1 << c.left
                outside = ending and c.right >= ending.first > c.left > ending.fixed
                if not outside or (ending and c.left == ending.key):
                    steps[variable, loops.APART_INSIDE] |= 1 << c.left
            else:
                bounds.append((c.left, int(c.sign in ("<", ">")), int(c.sign in (">", ">="))))
    steps[-1, loops.FIRST_PART], steps[-1, loops.FIRST_BOUND] = len(parts), len(bounds)
    return _Query(
        steps,
        np.array(parts, dtype=np.int64),
        np.array(bounds, dtype=np.int64).reshape(-1, loops.BOUND_FIELDS),
        values,
        children,
        np.concatenate(tables),
        sum(sizes[groups.index(group)] for group in seen),
        ending,
    )


def _ending(
    atoms: Sequence[Atom], sizes: Sequence[int], comparisons: Sequence[Comparison]
) -> _Ending | None:
    """The endings worth keeping: as many variables as there are others between what decides them.

    None where each would be asked for once, or is a single value.
    """
    best, most = None, 0
    for first in range(2, len(sizes) - 1):
        near = {v for a in atoms if a.variables[-1] >= first for v in a.variables if v < first}
        near |= {c.left for c in comparisons if c.sign != "<>" and c.right >= first > c.left}
        if not near:
            continue
        key = max(near)
        fixed = max(near - {key}, default=-1)
        gain = min(len(sizes) - first, first - fixed - 2)
        if gain and gain >= most:
            best, most = _Ending(first, key, fixed, sizes[key]), gain
    return best


def _seen_bases(
    sizes: Sequence[int], groups: Sequence[int], comparisons: Sequence[Comparison]
) -> dict[int, int]:
    """Where in `seen` the codes of each group start in which variables must differ."""
    bases: dict[int, int] = {}
    total = 0
    for c in comparisons:
        if c.sign == "<>" and groups[c.left] not in bases:
            bases[groups[c.left]] = total
            total += sizes[c.left]
    return bases


def _joined(tries: Iterable[Trie]) -> tuple[Codes, Codes, dict[int, int]]:
    """Values and children of all tries, nodes numbered through, and where each trie starts.

    Each level ends with a node that is none, so that every node has one after it.
    """
    values: list[Codes] = []
    children: list[Codes] = []
    starts: dict[int, int] = {}
    total = 0
    end = np.full(1, np.iinfo(np.int32).max, dtype=np.int32)
    for trie in tries:
        starts[id(trie)] = total
        for level, of in enumerate(trie.values):
            values += [of, end]
            total += len(of) + 1
            if level < len(trie.children):
                children.append(trie.children[level] + np.int32(total))
            else:
                children.append(np.zeros(len(of) + 1, dtype=np.int32))
    return np.concatenate(values), np.concatenate(children), starts
