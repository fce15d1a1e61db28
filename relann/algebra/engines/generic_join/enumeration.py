"""Generic Join: the tuples of a conjunctive query, one variable after the other.

Ngo, Ré and Rudra, Skew strikes back (SIGMOD Record 2014), algorithm 2; tries as in Leapfrog
Triejoin (Veldhuizen, ICDT 2014). The time is that of the largest output a query of this form has on
relations of this size (Atserias, Grohe and Marx 2008), and nothing is held but tries and output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from relann.algebra.engines.generic_join import loops
from relann.algebra.engines.generic_join.domains import Codes
from relann.algebra.engines.generic_join.tries import Trie, sorted_rows, trie, trie_of_sorted
from relann.algebra.multiway import TURNED, Comparison

_BLOCK = 1 << 18  # codes in a block of tuples
_CHUNKS = 32  # chunks of the first variable's values for each thread, as some have more to do
_ENDINGS = 1 << 20  # codes of endings that a thread holds
_SERIAL = 1 << 12  # tuples of all relations below which one thread does it

Ints = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Atom:
    """A relation of the query: its variables, ascending, and its trie with a level for each."""

    variables: tuple[int, ...]
    trie: Trie


@dataclass(frozen=True, eq=False)
class Tuples:
    """Tuples of codes in blocks: codes[k, i] is variable k's in tuple i of a block.

    Codes of 16 bits if all fit.
    """

    blocks: tuple[Ints, ...]

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

    def codes(self, variable: int) -> Ints:
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
    seen = _seen_bases(sizes, groups, comparisons)
    whole = _laid_out(atoms, sizes, groups, comparisons, seen)
    parted = _parted(atoms, sizes, groups, comparisons, seen)
    kind = np.uint16 if max(sizes) <= 1 << 16 else np.int32
    firsts = whole.firsts()
    serial = threads == 1 or len(whole.values) < _SERIAL
    chunks = min(len(firsts), 1 if serial else threads * _CHUNKS)
    cuts = [len(firsts) * i // chunks for i in range(chunks + 1)]
    found: list[list[Ints]] = [[] for _ in range(chunks)]
    turns = iter(range(chunks))  # next() is atomic

    def work() -> None:
        enumeration = _Enumeration(whole, parted, kind)
        for chunk in turns:
            found[chunk] = enumeration.among(firsts[cuts[chunk] : cuts[chunk + 1]])

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
    tests: Ints

    @property
    def first(self) -> int:
        """The part whose values the first variable runs through."""
        begin, end = self.steps[:2, loops.FIRST_PART]
        sizes = self.parts[begin:end, loops.HIGH] - self.parts[begin:end, loops.LOW]
        sizes[sizes == 0] = np.iinfo(np.int64).max  # endings, that are not yet there
        return int(begin + np.argmin(sizes))

    def firsts(self) -> Codes:
        """These values."""
        return self.values[self.parts[self.first, loops.LOW] : self.parts[self.first, loops.HIGH]]


@dataclass(frozen=True, eq=False)
class _Parted:
    """A query as two that share few variables (a hypertree decomposition of two bags).

    The tuples of `inner` are the endings of those of `outer`, where what must differ from variables
    between is left aside; `order` are its columns: those shared, then those of the endings.
    """

    inner: _Query
    outer: _Query
    order: tuple[int, ...]
    sizes: tuple[int, ...]
    shared: int


class _Listing:
    """The enumeration of one query by one thread, in tables of its own."""

    def __init__(self, query: _Query, kind: type[np.integer[Any]], room: int = 0) -> None:
        variables, width = len(query.steps) - 1, len(query.tests)
        self._query, self._first, self._firsts = query, query.first, query.firsts()
        self._parts, self._tables = query.parts.copy(), query.tables.copy()
        self._values, self._children = query.values, query.children
        if room:
            more = np.zeros(room, dtype=np.int32)
            self._values = np.concatenate([query.values, more])
            self._children = np.concatenate([query.children, more])
        self._seen = np.zeros(query.seen, dtype=np.uint64)
        self._state = np.zeros((variables, loops.STATE_FIELDS), dtype=np.int64)
        self._part_state = np.full((len(query.parts), loops.PART_STATE_FIELDS), -1, dtype=np.int64)
        self._endings = np.empty((0, width), dtype=np.int32)
        self._placed: Codes = np.empty(0, dtype=np.int32)
        self._columns = variables + max(width - 1, 0)
        self._capacity, self._kind = max(_BLOCK // self._columns, 1), kind
        self._block = np.empty((self._columns, self._capacity), dtype=np.int32)

    def among(self, firsts: Codes, most: float = math.inf) -> list[Ints] | None:
        """The tuples whose first value is one of a stretch of some; None if more than `most`."""
        query, state = self._query, self._state
        low = query.parts[self._first, loops.LOW]
        state[0, loops.BY], state[0, loops.UPPER] = self._first, 1 << 62
        state[0, loops.NEXT] = low + np.searchsorted(self._firsts, firsts[0])
        state[0, loops.END] = low + np.searchsorted(self._firsts, firsts[-1], side="right")
        blocks: list[Ints] = []
        depth = total = 0
        while depth >= 0:
            filled, depth = loops.list_tuples(
                query.steps, self._parts, query.bounds, self._values, self._children, self._tables,
                self._seen, state, self._part_state, self._endings, query.tests, depth, self._block,
            )  # fmt: skip
            total += filled
            if total > most:
                self._seen[:] = 0
                return None
            if filled:
                blocks.append(self._block[:, :filled].astype(self._kind))
        return blocks

    def place(self, trie: Trie, endings: Codes) -> None:
        """Take endings, and the trie of what they come after, in place of those before."""
        root, key = self._root_and_key()
        table = self._parts[key, loops.TABLE]
        old = self._part_state[key, loops.MARKED]
        if table >= 0 and old >= 0:
            marked = self._values[self._children[old] : self._children[old + 1]]
            self._tables[table + marked] = -1
        self._part_state[key, [loops.MARKED, loops.OWED_FOR]] = -1
        start = len(self._query.values)
        values, children, _ = _joined([trie], start)
        self._values[start : start + len(values)] = values
        self._children[start : start + len(values)] = children
        table = self._parts[root, loops.TABLE]
        self._tables[table + self._placed] = -1
        self._placed = trie.values[0]
        high = start + len(self._placed)
        self._tables[table + self._placed] = np.arange(start, high, dtype=np.int32)
        self._parts[root, loops.LOW], self._parts[root, loops.HIGH] = start, high
        self._endings = endings

    def _root_and_key(self) -> tuple[int, int]:
        """The parts of the endings' atom at its first and last but one variable."""
        key = int(self._parts[-1, loops.ABOVE])
        root = key
        while self._parts[root, loops.ABOVE] >= 0:
            root = int(self._parts[root, loops.ABOVE])
        return root, key


class _Enumeration:
    """One thread's share of an enumeration."""

    def __init__(self, whole: _Query, parted: _Parted | None, kind: type[np.integer[Any]]) -> None:
        self._whole: _Listing | None = None
        self._query, self._parted, self._kind = whole, parted, kind
        if parted is not None:
            self._most = _ENDINGS // len(parted.order)
            levels = parted.shared + 1
            self._inner = _Listing(parted.inner, np.int32)
            self._outer = _Listing(parted.outer, kind, levels * (self._most + 1))

    def among(self, firsts: Codes) -> list[Ints]:
        """The tuples whose first value is among some."""
        if self._parted is None:
            return self._plainly(firsts)
        found = self._inner.among(firsts, self._most)
        if found is None:
            if len(firsts) == 1:
                return self._plainly(firsts)
            middle = len(firsts) // 2
            return self.among(firsts[:middle]) + self.among(firsts[middle:])
        if not found:
            return []
        shared = self._parted.shared
        tuples = np.concatenate(found, axis=1)
        columns = sorted_rows([tuples[k] for k in self._parted.order], self._parted.sizes)
        rows = np.arange(len(columns[0]), dtype=np.int32)
        endings = np.stack(columns[shared:], axis=1)
        self._outer.place(trie_of_sorted([*columns[:shared], rows]), endings)
        return self._outer.among(firsts) or []

    def _plainly(self, firsts: Codes) -> list[Ints]:
        if self._whole is None:
            self._whole = _Listing(self._query, self._kind)
        return self._whole.among(firsts) or []


def _laid_out(
    atoms: Sequence[Atom],
    sizes: Sequence[int],
    groups: Sequence[int],
    comparisons: Sequence[Comparison],
    seen: Mapping[int, int],
    tests: Sequence[tuple[int, int]] = (),
) -> _Query:
    """The query as arrays. With `tests` the last atom's trie is that of endings, still to come."""
    known = atoms[:-1] if tests else atoms
    values, children, starts = _joined({id(atom.trie): atom.trie for atom in known}.values())
    steps = np.zeros((len(sizes) + 1, loops.STEP_FIELDS), dtype=np.int64)
    parts: list[tuple[int, int, int, int]] = []
    bounds: list[tuple[int, int, int]] = []
    tables: list[Codes] = []
    table_size = 0
    roots: dict[int, int] = {}  # the table of a trie's first level
    above: dict[int, tuple[int, int]] = {}  # an atom's last part so far, and its variable
    for variable in range(len(sizes)):
        steps[variable, loops.FIRST_PART] = len(parts)
        steps[variable, loops.FIRST_BOUND] = len(bounds)
        steps[variable, loops.SEEN] = seen.get(groups[variable], -1)
        here = [(n, a) for n, a in enumerate(atoms) if variable in a.variables]
        for number, atom in here:
            low = starts.get(id(atom.trie), 0)
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
        max((base + sizes[groups.index(g)] for g, base in seen.items() if g in groups), default=0),
        np.array(tests, dtype=np.int64).reshape(-1, loops.TEST_FIELDS),
    )


def _parted(
    atoms: Sequence[Atom],
    sizes: Sequence[int],
    groups: Sequence[int],
    comparisons: Sequence[Comparison],
    seen: Mapping[int, int],
) -> _Parted | None:
    """A query in two parts, if there are endings that many tuples have in common."""
    cut = _cut(atoms, len(sizes), comparisons)
    if cut is None:
        return None
    first, near = cut
    ending = range(first, len(sizes))
    inside = [a for a in atoms if a.variables[-1] >= first]
    outside = [a for a in atoms if a.variables[-1] < first]
    order = _connected(inside, near, ending)
    number = {v: k for k, v in enumerate(order)}
    within = [
        _renumbered(c, number)
        for c in comparisons
        if c.right >= first and c.left in number and c.right in number
    ]
    turned: dict[tuple[int, tuple[int, ...]], Trie] = {}
    inner = _laid_out(
        [_reordered(a, number, sizes, turned) for a in inside],
        [sizes[v] for v in order],
        [groups[v] for v in order],
        within,
        seen,
    )
    tests = []
    for v in ending:
        differs = [c.left for c in comparisons if c.right == v and c.left not in number]
        tests.append((sum(1 << left for left in differs), seen.get(groups[v], 0)))
    empty = Trie(tuple(np.empty(0, dtype=np.int32) for _ in range(len(near) + 1)), ())
    outer = _laid_out(
        [*outside, Atom((*near, first), empty)],
        [*sizes[:first], 0],
        [*groups[:first], -1],
        [c for c in comparisons if c.right < first],
        seen,
        tests,
    )
    columns = (*near, *ending)
    return _Parted(
        inner,
        outer,
        tuple(number[v] for v in columns),
        tuple(sizes[v] for v in columns),
        len(near),
    )


def _cut(
    atoms: Sequence[Atom], variables: int, comparisons: Sequence[Comparison]
) -> tuple[int, tuple[int, ...]] | None:
    """Where endings begin, and the variables before that decide them, the first among these.

    The cut is where endings are as long as what is between the variables that decide them: so many
    tuples share an ending.
    """
    best, most = None, 0
    for first in range(2, variables - 1):
        near = {v for a in atoms if a.variables[-1] >= first for v in a.variables if v < first}
        compared = {c.left for c in comparisons if c.sign != "<>" and c.right >= first > c.left}
        begun = any(a.variables[0] == 0 and a.variables[-1] < first for a in atoms)
        if not (begun and 0 in near and len(near) > 1 and compared <= near):
            continue
        fixed = sorted(near)[-2]
        gain = min(variables - first, first - fixed - 2)
        if gain > 0 and gain >= most:
            best, most = (first, tuple(sorted(near))), gain
    return best


def _connected(atoms: Sequence[Atom], near: Sequence[int], ending: Iterable[int]) -> list[int]:
    """The variables of the endings from the first ones that decide them on, the key among them."""
    order = list(near[:-1])
    left = [*ending, near[-1]]

    def touches(variable: int) -> int:
        near_by = [a.variables for a in atoms if variable in a.variables]
        return sum(not set(order).isdisjoint(variables) for variables in near_by)

    while left:
        best = max(left, key=touches)
        order.append(best)
        left.remove(best)
    return order


def _renumbered(comparison: Comparison, number: Mapping[int, int]) -> Comparison:
    i, j = number[comparison.left], number[comparison.right]
    return Comparison(i, comparison.sign, j) if i < j else Comparison(j, TURNED[comparison.sign], i)


def _reordered(
    atom: Atom,
    number: Mapping[int, int],
    sizes: Sequence[int],
    known: dict[tuple[int, tuple[int, ...]], Trie],
) -> Atom:
    """The atom with its variables renumbered, and a trie in their order, perhaps a known one."""
    order = sorted(range(len(atom.variables)), key=lambda k: number[atom.variables[k]])
    variables = tuple(number[atom.variables[k]] for k in order)
    if order == list(range(len(order))):
        return Atom(variables, atom.trie)
    key = id(atom.trie), tuple(order)
    if key not in known:
        columns = atom.trie.columns()
        bounds = [sizes[atom.variables[k]] for k in order]
        known[key] = trie([columns[k] for k in order], bounds)
    return Atom(variables, known[key])


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


def _joined(tries: Iterable[Trie], start: int = 0) -> tuple[Codes, Codes, dict[int, int]]:
    """Values and children of all tries, nodes numbered from `start`, and where each trie starts.

    Each level ends with a node that is none, so that every node has one after it.
    """
    values: list[Codes] = []
    children: list[Codes] = []
    starts: dict[int, int] = {}
    total = start
    end = np.full(1, np.iinfo(np.int32).max, dtype=np.int32)
    for of_atom in tries:
        starts[id(of_atom)] = total
        for level, of in enumerate(of_atom.values):
            values += [of, end]
            total += len(of) + 1
            if level < len(of_atom.children):
                children.append(of_atom.children[level] + np.int32(total))
            else:
                children.append(np.zeros(len(of) + 1, dtype=np.int32))
    return np.concatenate(values), np.concatenate(children), starts
