"""Finds the keys, times and foreign keys of a database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import duckdb

from relann.declarations import SCHEMA, Declarations, declarations
from relann.naming import USUAL, key_rank, reference_strength, says_time, time_rank
from relann.schema import ForeignKey, Relation, Schema, Table, quote

CONTAINED = 0.95
"""The share of a column's values that must be keys of a table to make it a foreign key."""
_MOSTLY = 0.5  # a time that is NULL more often tells of something that befalls some rows later

Place = tuple[str, str]


@dataclass(frozen=True)
class Finding:
    """What was found of one table. `rows` is None where the database cannot read it."""

    relation: Relation
    rows: int | None
    notes: tuple[str, ...] = ()


@dataclass
class _Source:
    """A table or view while it is looked at."""

    place: Place
    name: str
    columns: tuple[tuple[str, str], ...]
    view: bool
    told: Declarations
    unique: list[tuple[str, ...]] = field(default_factory=list)
    compound: list[tuple[str, ...]] = field(default_factory=list)
    primary: str | None = None
    foreign: dict[str, tuple[Place, str]] = field(default_factory=dict)
    rows: int | None = None
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    key: str | None = None
    time: str | None = None
    origins: dict[str, str] = field(default_factory=dict)

    @property
    def table(self) -> str:
        return self.place[1]

    @property
    def types(self) -> dict[str, str]:
        return dict(self.columns)

    def column(self, name: str | None) -> str | None:
        """A column's name as the table has it."""
        fold = name.casefold() if name is not None else None
        return next((c for c, _ in self.columns if c.casefold() == fold), None)


def discover(connection: duckdb.DuckDBPyConnection) -> Schema:
    """The relations of all tables and views of the current database, those of relann left out.

    Each fact is what was declared, else what a constraint says, else inferred from names, types
    and values; `Relation.origins` says which. Inferred is only what is likely: a key is unique and
    never NULL and named like one, a foreign key is named like a table's key and nearly all its
    values are there, a time has the type and name of one and no rival. A table with several
    plausible times gets none: `survey` has a note on it.
    """
    ((database, schema),) = connection.execute(
        "SELECT current_database(), current_schema()"
    ).fetchall()
    relations = {f.relation.table.name: f.relation for f in survey(connection)}
    return Schema(relations, (database, schema))


def survey(connection: duckdb.DuckDBPyConnection) -> list[Finding]:
    """What `discover` finds with what is to be noted, by schema and table.

    Reads each table once, and once more where a column could be a foreign key.
    """
    sources = _sources(connection)
    shared = _shared_names(sources)
    for source in sources:
        _count(connection, source, shared)
        _find_key(source, shared)
        _find_time(source)
    by_place = {_fold(s.place): s for s in sources}
    foreign = {s.place: _find_foreign(connection, s, sources, by_place) for s in sources}
    return [_finding(s, foreign[s.place]) for s in sources]


def family(kind: str) -> str:
    """What a DuckDB type's values compare with: types of one family do."""
    kind = kind.upper()
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION", "BLOB", "JSON")):
        return kind
    if kind.startswith(("VARCHAR", "ENUM")):
        return "text"
    if kind.startswith(("DATE", "TIMESTAMP")):
        return "time"
    if "INT" in kind and not kind.startswith("INTERVAL"):
        return "number"
    return "number" if kind.startswith(("DECIMAL", "DOUBLE", "FLOAT", "BIGNUM")) else kind


def is_time(kind: str) -> bool:
    """Whether a type says when: DATE, TIMESTAMP in any unit, TIMESTAMPTZ."""
    return family(kind) == "time"


def _sources(connection: duckdb.DuckDBPyConnection) -> list[_Source]:
    ours = f"database_name = current_database() AND schema_name <> '{SCHEMA}'"
    columns = connection.execute(
        "SELECT schema_name, table_name, column_name, data_type, schema_name = current_schema() "
        f"FROM duckdb_columns() WHERE NOT internal AND {ours} "
        "ORDER BY schema_name, table_name, column_index"
    ).fetchall()
    views = set(
        connection.execute(
            f"SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal AND {ours}"
        ).fetchall()
    )
    told = declarations(connection)
    by_place: dict[Place, list[tuple[str, str]]] = defaultdict(list)
    here: dict[Place, bool] = {}
    for schema, table, column, kind, current in columns:
        by_place[schema, table].append((column, kind))
        here[schema, table] = current
    sources = [
        _Source(
            (schema, table),
            _quoted(table) if here[schema, table] else f"{_quoted(schema)}.{_quoted(table)}",
            tuple(found),
            (schema, table) in views,
            told.of(schema, table),
        )
        for (schema, table), found in by_place.items()
    ]
    _read_constraints(connection, {s.place: s for s in sources}, ours)
    return sources


def _read_constraints(
    connection: duckdb.DuckDBPyConnection, sources: Mapping[Place, _Source], ours: str
) -> None:
    found = connection.execute(
        "SELECT schema_name, table_name, constraint_type, constraint_column_names, "
        f"referenced_table, referenced_column_names FROM duckdb_constraints() WHERE {ours}"
    ).fetchall()
    for schema, table, kind, columns, to, to_columns in found:
        source = sources[schema, table]
        if kind == "FOREIGN KEY" and len(columns) == 1:
            source.foreign[columns[0]] = ((schema, to), to_columns[0])
        elif kind == "FOREIGN KEY":
            named = ", ".join(columns)
            source.notes.append(f"foreign key ({named}) has several columns and is not used")
        elif kind == "PRIMARY KEY" and len(columns) == 1:
            source.primary = columns[0]
        elif kind == "PRIMARY KEY":
            source.compound.append(tuple(columns))
        elif kind == "UNIQUE" and len(columns) == 1:
            source.unique.append(tuple(columns))


def _shared_names(sources: Sequence[_Source]) -> set[str]:
    """Names of columns, lower case, that several tables have."""
    seen: dict[str, int] = defaultdict(int)
    for source in sources:
        if not source.view:
            for column, _ in source.columns:
                seen[column.casefold()] += 1
    return {column for column, number in seen.items() if number > 1}


def _key_candidates(source: _Source, shared: set[str]) -> list[str]:
    """Columns that could be the key by name and type, the likeliest first.

    The first column may also be one that other tables name alike (`carrier`), any other is named
    `id` or after its table.
    """
    ranked = []
    for index, (column, kind) in enumerate(source.columns):
        if not _identifies(kind):
            continue
        rank = key_rank(column, source.table)
        if index == 0 and rank is None and column.casefold() in shared:
            rank = 3
        if (column,) in source.unique or (rank is not None and (rank < 2 or index == 0)):
            ranked.append((3 if rank is None else rank, index, column))
    return [column for _, _, column in sorted(ranked)]


def _identifies(kind: str) -> bool:
    return family(kind) in ("text", "UUID") or (
        family(kind) == "number" and not kind.upper().startswith(("DOUBLE", "FLOAT"))
    )


def _count(connection: duckdb.DuckDBPyConnection, source: _Source, shared: set[str]) -> None:
    """Count the rows, and in columns that may be keys or times the values."""
    keys = [] if source.compound or source.primary else _key_candidates(source, shared)
    times = [c for c, kind in source.columns if is_time(kind)]
    terms = ["count(*)"]
    for column in keys:
        terms += [f"count({_quoted(column)})", f"count(DISTINCT {_quoted(column)})"]
    terms += [f"count({_quoted(column)})" for column in times]
    try:
        ((source.rows, *values),) = connection.execute(
            f"SELECT {', '.join(terms)} FROM {source.name}"
        ).fetchall()
    except duckdb.Error:
        source.notes.append("the view cannot be read" if source.view else "cannot be read")
        return
    for index, column in enumerate(keys):
        source.counts[column] = (values[2 * index], values[2 * index + 1])
    for column, number in zip(times, values[2 * len(keys) :], strict=True):
        source.counts[column] = (number, -1)


def _find_key(source: _Source, shared: set[str]) -> None:
    if (found := _told(source, "key")) is not None:
        source.key, source.origins["key"] = found
    elif source.primary:
        source.key, source.origins["key"] = source.primary, "constraint"
    elif source.compound:
        named = ", ".join(source.compound[0])
        source.notes.append(f"primary key ({named}) has several columns: no key")
    else:
        for column in _key_candidates(source, shared):
            present, distinct = source.counts.get(column, (0, 0))
            if source.rows and present == distinct == source.rows:
                origin = "constraint" if (column,) in source.unique else "inferred"
                source.key, source.origins["key"] = column, origin
                return


def _told(source: _Source, fact: str) -> tuple[str | None, str] | None:
    """What is declared, if it still applies: a column or None for none, and its origin."""
    for told in source.told.columns:
        if told.fact == fact:
            if told.column is None:
                return None, told.origin
            if column := source.column(told.column):
                return column, told.origin
            source.notes.append(f"declared {fact} `{told.column}` is no column any more")
    return None


def _find_time(source: _Source) -> None:
    if (found := _told(source, "time")) is not None:
        source.time, source.origins["time"] = found
        return
    times = [c for c, kind in source.columns if is_time(kind)]
    ranked: dict[int, list[str]] = defaultdict(list)
    left: list[str] = []
    for column in times:
        rank = time_rank(column, source.table)
        present = source.counts.get(column, (0, 0))[0]
        enough = not source.rows or present >= source.rows * (_MOSTLY if rank != 0 else 0)
        if rank is None or not enough or (source.rows and not present):
            left.append(column)
        else:
            ranked[rank].append(column)
    best = ranked[min(ranked)] if ranked else []
    # one column of a usual name outranks others; of other names there may be only one
    if len(best) == 1 and (min(ranked) < USUAL or len(times) - len(left) == 1):
        source.time, source.origins["time"] = best[0], "inferred"
    elif best:
        source.notes.append(f"time is ambiguous: {_listed(best)}; declare one, or time = NULL")
    elif left:
        source.notes.append(
            f"{_listed(left)} not taken for the time: planned, personal, of later changes "
            "or mostly NULL"
        )
    elif texts := [c for c, k in source.columns if family(k) == "text" and says_time(c)]:
        source.notes.append(f"{_listed(texts)} is text: a time must be a DATE or TIMESTAMP")


def _find_foreign(
    connection: duckdb.DuckDBPyConnection,
    source: _Source,
    sources: Sequence[_Source],
    by_place: Mapping[Place, _Source],
) -> list[ForeignKey]:
    """The foreign keys, in the order of columns; their origins are noted in the source."""
    found: dict[str, ForeignKey] = {}
    settled: set[str] = set()
    for told in source.told.foreign:
        column = source.column(told.column)
        if column is None:
            source.notes.append(f"declared foreign key `{told.column}` is no column any more")
            continue
        if told.to_table is None or told.to_schema is None:
            settled.add(column)
            continue
        target = by_place.get(_fold((told.to_schema, told.to_table)))
        key = target.column(told.to_column) if target else None
        if target is None or key is None:
            source.notes.append(
                f"declared foreign key `{column}` names `{told.to_table}.{told.to_column}`, "
                "which is gone"
            )
            continue
        found[column] = ForeignKey(column, target.name, key)
        source.origins[column] = told.origin
    for column, (place, key) in source.foreign.items():
        if column not in found and column not in settled:
            found[column] = ForeignKey(column, by_place[_fold(place)].name, key)
            source.origins[column] = "constraint"
    open_ = [c for c, _ in source.columns if c not in found and c not in settled]
    plausible = {c: t for c in open_ if (t := _targets(source, c, sources))}
    for column, target in _contained(connection, source, plausible).items():
        found[column] = ForeignKey(column, target.name, target.key or "")
        source.origins[column] = "inferred"
    return [found[column] for column, _ in source.columns if column in found]


def _targets(source: _Source, column: str, sources: Sequence[_Source]) -> list[_Source]:
    """The tables whose key a column's name suggests most: one, or several that are alike in it."""
    ranked: dict[tuple[int, ...], list[_Source]] = defaultdict(list)
    kind = source.types[column]
    for target in sources:
        if (
            target.key is None
            or target.rows is None
            or family(target.types[target.key]) != family(kind)
        ):
            continue
        own = target is source
        if not _identifies(target.types[target.key]) or (own and column == target.key):
            continue
        strength = reference_strength(column, target.table, target.key, own)
        if strength is None:
            continue
        rank = key_rank(column, source.table)
        if column == source.key and (strength[0] < 4 or rank in (0, 1)):
            continue  # its own key, though another table may share it
        same = target.place[0] == source.place[0]
        ranked[strength[0], not target.view, same, strength[1]].append(target)
    return ranked[max(ranked)] if ranked else []


def _contained(
    connection: duckdb.DuckDBPyConnection,
    source: _Source,
    plausible: Mapping[str, list[_Source]],
) -> dict[str, _Source]:
    """For each column the table that has its values, where there is just one."""
    pairs = [(column, target) for column, targets in plausible.items() for target in targets]
    if not pairs or not source.rows:
        return {}
    terms = []
    for column, target in pairs:
        value = _quoted(column)
        keys = f"SELECT {_quoted(target.key or '')} FROM {target.name}"
        terms += [f"count({value})", f"count(*) FILTER (WHERE {value} IN ({keys}))"]
    ((*counts,),) = connection.execute(f"SELECT {', '.join(terms)} FROM {source.name}").fetchall()
    fitting: dict[str, list[_Source]] = defaultdict(list)
    for index, (column, target) in enumerate(pairs):
        present, inside = counts[2 * index], counts[2 * index + 1]
        if present and inside >= present * CONTAINED:
            fitting[column].append(target)
        elif present and inside >= present * _MOSTLY and _named_after(source, column, target):
            source.notes.append(
                f"`{column}` is named like a key of {target.name}, which has "
                f"{inside / present:.0%} of its values: declare it if it is a foreign key"
            )
    for column, targets in fitting.items():
        if len(targets) > 1:
            source.notes.append(
                f"`{column}` may refer to {_listed([t.name for t in targets])}: declare which"
            )
    return {column: targets[0] for column, targets in fitting.items() if len(targets) == 1}


def _named_after(source: _Source, column: str, target: _Source) -> bool:
    strength = reference_strength(column, target.table, target.key or "", target is source)
    return strength is not None and strength[0] != 3


def _finding(source: _Source, foreign: Sequence[ForeignKey]) -> Finding:
    keys = frozenset({*([source.key] if source.key else []), *(f.column for f in foreign)})
    relation = Relation(
        Table(source.name, source.columns, keys),
        source.key,
        source.time,
        tuple(foreign),
        tuple(source.origins.items()),
    )
    return Finding(relation, source.rows, tuple(source.notes))


def _fold(place: Place) -> Place:
    return place[0].casefold(), place[1].casefold()


def _quoted(name: str) -> str:
    return f'"{quote(name)}"'


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{n}`" for n in names)
