"""Cyclic joins as tables: leaves read, encoded, enumerated, the rest looked up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from relann.algebra.engines.generic_join.domains import NOWHERE, Codes, Domain
from relann.algebra.engines.generic_join.enumeration import Atom, Tuples, enumerated, together
from relann.algebra.engines.generic_join.tries import Trie, trie
from relann.algebra.engines.protocol import one_array
from relann.algebra.multiway import Comparison, Leaf, Pattern, Source
from relann.algebra.terms import Content

Read = Callable[[Leaf, Sequence[Content], Sequence[Content]], pa.Table]
"""The rows of a leaf: given expressions, of which some are not to be NULL, one chunk for each.

The order is the same for the same data.
"""

_TableKey = tuple[Leaf, tuple[Content, ...], tuple[Content, ...]]
_ColumnKey = tuple[_TableKey, int]
_DomainKey = frozenset[_ColumnKey]
_LookupKey = tuple[_ColumnKey, _DomainKey]
_TrieKey = tuple[
    _TableKey,
    tuple[tuple[tuple[int, ...], _DomainKey], ...],
    tuple[frozenset[_LookupKey], ...],
]
_CoreKey = tuple[
    tuple[tuple[tuple[int, ...], _TrieKey], ...], tuple[int, ...], tuple[Comparison, ...]
]


@dataclass(frozen=True, eq=False)
class _Lookup:
    """A leaf that has at most one row for each code of a variable: row[code], −1 for none."""

    variable: int
    row: Codes
    key: _LookupKey


@dataclass(frozen=True, eq=False)
class _Relation:
    """A leaf of the core: variables with the columns that hold them, and the rows where they do."""

    leaf: int
    columns: dict[int, tuple[int, ...]]
    codes: list[Codes]
    rows: npt.NDArray[np.int32] | None
    wanted: bool


@dataclass(frozen=True, eq=False)
class _Core:
    """An enumeration, and if it is `kept` for others the columns looked up by it.

    Two layers often number the same rows alike: their row maps are then the same arrays.
    """

    tuples: Tuples
    kept: bool
    columns: list[tuple[int, pa.Array, pa.Array]] = field(default_factory=list)

    def looked_up(self, variable: int, values: pa.Array) -> pa.Array:
        """The value of a variable's code in every tuple."""
        for of, known, column in list(self.columns):
            if of == variable and known.type == values.type and known.equals(values):
                return column
        kind = values.type
        numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if numeric and kind.bit_width in (32, 64) and not values.null_count:
            column = pa.array(self.tuples.looked_up(values.to_numpy(), variable), kind)
        else:
            column = values.take(pa.array(self.tuples.codes(variable)))
        if self.kept:
            self.columns.append((variable, values, column))
        return column


@dataclass
class GenericJoins:
    """Runs cyclic joins; tables, codes and tries are kept for those that follow.

    `readers` says how often the enumeration that a pattern asks for will be asked for: it is kept
    that long.
    """

    read: Read
    threads: int
    readers: Counter[object] = field(default_factory=Counter)
    _tables: dict[_TableKey, pa.Table] = field(default_factory=dict)
    _domains: dict[_DomainKey, Domain] = field(default_factory=dict)
    _codes: dict[tuple[_ColumnKey, _DomainKey], Codes] = field(default_factory=dict)
    _tries: dict[_TrieKey, tuple[Trie, bool]] = field(default_factory=dict)
    _cores: dict[_CoreKey, _Core] = field(default_factory=dict)
    enumerations: int = 0

    def rows(self, pattern: Pattern, names: Sequence[str]) -> pa.Table:
        """The columns of a pattern under names, rows in the order of its variables."""
        encoded = _Encoded(self, pattern)
        core = self._core(pattern, encoded)
        columns: list[pa.Array | None] = [None] * len(names)

        def fill(turns: Iterable[int]) -> None:
            for k in turns:
                columns[k] = core.looked_up(*encoded.values(pattern.columns[k]))

        count = core.tuples.count
        turns = iter(range(len(names)))  # next() is atomic
        together([lambda: fill(turns)] * (1 if count < _SERIAL else self.threads))
        if not names:
            return pa.table({"one": pa.array(np.ones(count, dtype=np.int32))})
        return pa.table(dict(zip(names, columns, strict=True)))

    def _core(self, pattern: Pattern, encoded: _Encoded) -> _Core:
        atoms, key = encoded.atoms()
        whose = core(pattern)
        self.readers[whose] -= 1
        again = self.readers[whose] > 0
        found = self._cores.get(key) if again else self._cores.pop(key, None)
        if found is None:
            self.enumerations += 1
            tuples = enumerated(
                atoms, encoded.sizes, encoded.groups, pattern.comparisons, self.threads
            )
            found = _Core(tuples, again)
            if again:
                self._cores[key] = found
        return found

    def table(self, key: _TableKey) -> pa.Table:
        """The rows of a leaf."""
        if key not in self._tables:
            leaf, contents, present = key
            self._tables[key] = self.read(leaf, contents, present)
        return self._tables[key]

    def column(self, key: _ColumnKey) -> pa.Array:
        """A column of a leaf."""
        table, number = key
        return one_array(self.table(table).column(number))

    def domain(self, key: _DomainKey) -> Domain:
        """The domain of some columns."""
        if key not in self._domains:
            self._domains[key] = Domain.of([self.column(c) for c in key])
        return self._domains[key]

    def codes(self, column: _ColumnKey, domain: _DomainKey) -> Codes:
        """A column's codes in a domain."""
        if (column, domain) not in self._codes:
            self._codes[column, domain] = self.domain(domain).codes(self.column(column))
        return self._codes[column, domain]

    def trie(self, key: _TrieKey, make: Callable[[], tuple[Trie, bool]]) -> tuple[Trie, bool]:
        """A trie, and whether its last level are row numbers."""
        if key not in self._tries:
            self._tries[key] = make()
        return self._tries[key]


_SERIAL = 1 << 14  # rows below which one thread looks up


def core(pattern: Pattern) -> object:
    """What patterns share whose enumerations may be the same: all but leaves of one variable."""
    number: dict[int, int] = {}
    for leaf in range(len(pattern.leaves)):
        if len(pattern.variables_of(leaf)) > 1:
            number[leaf] = len(number)
    return (
        tuple(pattern.leaves[leaf] for leaf in number),
        tuple(
            tuple((number[leaf], c) for leaf, c in v.columns if leaf in number)
            for v in pattern.variables
        ),
        pattern.comparisons,
    )


class _Encoded:
    """A pattern over codes: which leaves are atoms, which are looked up."""

    def __init__(self, joins: GenericJoins, pattern: Pattern) -> None:
        self._joins, self._pattern = joins, pattern
        self._places = {s: k for k, v in enumerate(pattern.variables) for s in v.columns}
        self._columns: list[dict[Content, int]] = []
        self._tables: list[_TableKey] = []
        self._held = [pattern.variables_of(leaf) for leaf in range(len(pattern.leaves))]
        for number, of in enumerate(pattern.leaves):
            self._read(number, of)
        self.groups = _groups(pattern)
        self._domains = self._domains_of()
        self.sizes = [joins.domain(d).size for d in self._domains]
        self._lookups: dict[int, _Lookup] = {}
        for leaf in range(len(pattern.leaves)):
            self._try_lookup(leaf)
        self._row_variable: dict[int, int] = {}

    def _read(self, number: int, leaf: Leaf) -> None:
        held = self._held[number]
        present = [
            c for k, of in held.items() if not self._pattern.variables[k].nullable for c in of
        ]
        rest = [
            c for of, c in self._pattern.columns if of == number and (of, c) not in self._places
        ]
        # in one order, so that what two leaves read alike is read once
        contents = sorted({*(c for of in held.values() for c in of), *rest}, key=lambda c: c.sql)
        self._columns.append({c: k for k, c in enumerate(contents)})
        present = sorted(set(present), key=lambda c: c.sql)
        self._tables.append((leaf, tuple(contents), tuple(present)))

    def _column(self, leaf: int, content: Content) -> _ColumnKey:
        return self._tables[leaf], self._columns[leaf][content]

    def _domains_of(self) -> list[_DomainKey]:
        """The domain of each variable: that of its group, made of the columns of its core."""
        of: dict[int, set[_ColumnKey]] = {}
        for group, variable in zip(self.groups, self._pattern.variables, strict=True):
            inner = [s for s in variable.columns if len(self._held[s[0]]) > 1]
            keys = [self._column(*s) for s in inner or variable.columns]
            of.setdefault(group, set()).update(keys)
        return [frozenset(of[group]) for group in self.groups]

    def _try_lookup(self, leaf: int) -> None:
        """Take a leaf out of the core if it is one of a single variable, with distinct values."""
        held = self._held[leaf]
        if len(held) != 1:
            return
        ((variable, contents),) = held.items()
        alone = not any(
            len(self._held[of]) > 1 for of, _ in self._pattern.variables[variable].columns
        )
        if len(contents) > 1 or alone:
            return
        key = self._column(leaf, contents[0])
        codes = self._joins.codes(key, self._domains[variable])
        rows = np.flatnonzero(codes != NOWHERE).astype(np.int32)
        row = np.full(self.sizes[variable], -1, dtype=np.int32)
        row[codes[rows]] = rows
        if np.count_nonzero(row >= 0) == len(rows):
            self._lookups[leaf] = _Lookup(variable, row, (key, self._domains[variable]))

    def atoms(self) -> tuple[list[Atom], _CoreKey]:
        """The core's atoms, the row variables of some among their variables, and what they are."""
        filters = self._filters()
        atoms, keys = [], []
        for leaf, held in enumerate(self._held):
            if leaf in self._lookups:
                continue
            key = (
                self._tables[leaf],
                tuple(
                    (tuple(self._columns[leaf][c] for c in of), self._domains[k])
                    for k, of in held.items()
                ),
                tuple(frozenset(look.key for look in filters.get(k, ())) for k in held),
            )
            made, numbered = self._joins.trie(key, lambda: self._trie(leaf, filters))  # noqa: B023
            variables = tuple(held)
            if numbered:
                self._row_variable[leaf] = len(self.sizes)
                variables += (len(self.sizes),)
                self.sizes.append(self._joins.table(self._tables[leaf]).num_rows)
                self.groups.append(len(self.groups))
            atoms.append(Atom(variables, made))
            keys.append((variables, key))
        return atoms, (tuple(keys), tuple(self.groups), self._pattern.comparisons)

    def _filters(self) -> dict[int, list[_Lookup]]:
        """The lookups that lose rows, by variable: no atom has all its values found there."""
        found: dict[int, list[_Lookup]] = {}
        for look in self._lookups.values():
            columns = [
                self._joins.codes(self._column(leaf, c), self._domains[look.variable])
                for leaf, c in self._pattern.variables[look.variable].columns
                if leaf not in self._lookups
            ]
            distinct = {id(c): c for c in columns}.values()
            if not any((look.row[c] >= 0).all() for c in distinct):
                found.setdefault(look.variable, []).append(look)
        return found

    def _trie(self, leaf: int, filters: dict[int, list[_Lookup]]) -> tuple[Trie, bool]:
        held = self._held[leaf]
        count = self._joins.table(self._tables[leaf]).num_rows
        kept = np.ones(count, dtype=bool)
        columns: list[Codes] = []
        for variable, contents in held.items():
            first, *others = (
                self._joins.codes(self._column(leaf, c), self._domains[variable]) for c in contents
            )
            kept &= first != NOWHERE
            for other in others:
                kept &= first == other
            for look in filters.get(variable, ()):
                kept &= look.row[first] >= 0
            columns.append(first)
        if not kept.all():
            columns = [c[kept] for c in columns]
        sizes = [self.sizes[k] for k in held]
        within = {c for of in held.values() for c in of}
        if columns and set(self._columns[leaf]) <= within:
            made = trie(columns, sizes)
            if len(made.values[-1]) == len(columns[0]):
                return made, False
        return trie(columns, sizes, np.flatnonzero(kept).astype(np.int32)), True

    def values(self, source: Source) -> tuple[int, pa.Array]:
        """A column of the result: the variable it is looked up by, and its value for each code."""
        leaf, content = source
        if source in self._places:
            variable = self._places[source]
            to = self._joins.column(self._column(leaf, content)).type
            values = self._joins.domain(self._domains[variable]).decoded(to)
            nullable = self._pattern.variables[variable].nullable
            return variable, values if nullable else _filled(values)
        column = self._joins.column(self._column(leaf, content))
        look = self._lookups.get(leaf)
        if look is None:
            return self._row_variable[leaf], column
        rows = pa.array(look.row, mask=look.row < 0) if column.null_count else look.row.clip(0)
        return look.variable, column.take(
            pa.array(rows) if len(column) else pa.array([], pa.int32())
        )


def _filled(values: pa.Array) -> pa.Array:
    """The same with any value where it is NULL, of codes that no tuple has."""
    if not values.null_count or not pa.types.is_primitive(values.type):
        return values
    return values.fill_null(pa.scalar(0).cast(values.type))


def _groups(pattern: Pattern) -> list[int]:
    """The group of each variable: those compared with each other are in one."""
    groups = list(range(len(pattern.variables)))
    for c in pattern.comparisons:
        one, other = groups[c.left], groups[c.right]
        groups = [one if g == other else g for g in groups]
    return groups
