"""Declares keys, times and foreign keys of tables, each checked against the rows."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from relann.algebra.statements import AddForeignKey, Alter, DropForeignKey, Named, Option, SetFacts
from relann.declarations import DeclaredColumn, DeclaredForeignKey
from relann.discovery import discover, family, is_time
from relann.errors import QueryError, did_you_mean, listing
from relann.schema import name_parts, quote
from relann.store import Store


@dataclass(frozen=True)
class _Found:
    """A table of the current database, its names as the database has them."""

    schema: str
    table: str
    columns: dict[str, str]

    @property
    def sql(self) -> str:
        return f"{_quoted(self.schema)}.{_quoted(self.table)}"

    def column(self, named: Named) -> str:
        """The column's name as the table has it; QueryError where there is none."""
        for column in self.columns:
            if column.casefold() == named.name.casefold():
                return column
        hint = did_you_mean(named.name, self.columns)
        raise QueryError(
            f"`{self.table}` has no column `{named.name}`; it has {listing(self.columns)}.{hint}",
            named.span,
        )


def declare(connection: duckdb.DuckDBPyConnection, store: Store, statement: Alter) -> str:
    """Do what an ALTER TABLE of ours says, and say what holds now.

    Raises QueryError for an unknown table or column, for a column of the wrong type and for a key
    whose values repeat or are NULL. Values of a foreign key that are no key, and rows without a
    time, are counted in what is returned.
    """
    found = _table(connection, statement.table)
    match statement:
        case SetFacts(options=options):
            said = [_checked(connection, found, option) for option in options]
            store.declare([declared for declared, _ in said])
            return f"`{found.table}`: " + ", ".join(text for _, text in said)
        case AddForeignKey(column=column, references=references, key=key):
            return _add(connection, store, found, column, references, key)
        case DropForeignKey(column=column):
            return _drop(connection, store, found, column)
    raise QueryError("this statement cannot be run", statement.span)


def _checked(
    connection: duckdb.DuckDBPyConnection, found: _Found, option: Option
) -> tuple[DeclaredColumn, str]:
    if option.value is None:
        return DeclaredColumn(found.schema, found.table, option.name, None), f"no {option.name}"
    if not isinstance(option.value, str):
        raise QueryError(f"{option.name} takes the name of a column, or NULL", option.span)
    column = found.column(Named(option.value, option.span))
    declared = DeclaredColumn(found.schema, found.table, option.name, column)
    value, kind = _quoted(column), found.columns[column]
    if option.name == "time":
        if not is_time(kind):
            raise QueryError(
                f"`{column}` is {kind}; a time is a DATE, TIMESTAMP or TIMESTAMPTZ", option.span
            )
        ((missing,),) = connection.execute(
            f"SELECT count(*) - count({value}) FROM {found.sql}"
        ).fetchall()
        unseen = f" ({_rows(missing)} without one, never seen by a task)" if missing else ""
        return declared, f"time `{column}`{unseen}"
    ((missing, repeated),) = connection.execute(
        f"SELECT count(*) - count({value}), count({value}) - count(DISTINCT {value}) "
        f"FROM {found.sql}"
    ).fetchall()
    if faults := _faults(missing, repeated):
        raise QueryError(f"`{column}` is no key of `{found.table}`: {faults}", option.span)
    return declared, f"key `{column}`"


def _add(
    connection: duckdb.DuckDBPyConnection,
    store: Store,
    found: _Found,
    named: Named,
    references: Named,
    key: Named | None,
) -> str:
    column = found.column(named)
    target = _table(connection, references)
    if key is not None:
        to = target.column(key)
    elif (known := discover(connection).find(target.sql)) is None or known.key is None:
        raise QueryError(
            f"no key of `{target.table}` is known; name it: REFERENCES {target.table} (column)",
            references.span,
        )
    else:
        to = known.key
    if (target.sql, to) == (found.sql, column):
        raise QueryError(f"`{column}` cannot refer to itself", named.span)
    kind, to_kind = found.columns[column], target.columns[to]
    if family(kind) != family(to_kind):
        raise QueryError(
            f"`{column}` is {kind} and `{target.table}.{to}` is {to_kind}: they cannot be equal",
            named.span,
        )
    value, to_value = _quoted(column), _quoted(to)
    ((repeated,),) = connection.execute(
        f"SELECT count({to_value}) - count(DISTINCT {to_value}) FROM {target.sql}"
    ).fetchall()
    if repeated:
        raise QueryError(
            f"`{to}` is no key of `{target.table}`: {_faults(0, repeated)}",
            (key or references).span,
        )
    ((missing, dangling),) = connection.execute(
        f"SELECT count(*) - count({value}), count(*) FILTER (WHERE {value} IS NOT NULL AND "
        f"{value} NOT IN (SELECT {to_value} FROM {target.sql} WHERE {to_value} IS NOT NULL)) "
        f"FROM {found.sql}"
    ).fetchall()
    store.declare(
        foreign=[
            DeclaredForeignKey(found.schema, found.table, column, target.schema, target.table, to)
        ]
    )
    counted = [f"{missing:,} NULL"] * bool(missing) + [f"{dangling:,} dangling"] * bool(dangling)
    return f"`{found.table}`.`{column}` refers to `{target.table}`.`{to}`" + (
        f" ({', '.join(counted)})" if counted else ""
    )


def _drop(connection: duckdb.DuckDBPyConnection, store: Store, found: _Found, named: Named) -> str:
    column = found.column(named)
    relation = discover(connection).find(found.sql)
    known = [key.column for key in relation.foreign] if relation else []
    if column not in known:
        has = f"it has {listing(known)}.{did_you_mean(column, known)}" if known else "it has none"
        raise QueryError(f"`{found.table}` has no foreign key `{column}`; {has}", named.span)
    store.declare(foreign=[DeclaredForeignKey(found.schema, found.table, column, None, None, None)])
    return f"`{found.table}`.`{column}` is no foreign key"


def _table(connection: duckdb.DuckDBPyConnection, named: Named) -> _Found:
    """The table or view of a name, in the current database."""
    rows = connection.execute(
        "SELECT current_database(), current_schema(), schema_name, table_name, column_name, "
        "data_type FROM duckdb_columns() WHERE NOT internal "
        "AND database_name = current_database() ORDER BY column_index"
    ).fetchall()
    parts = tuple(part.casefold() for part in name_parts(named.name))
    tables: dict[tuple[str, str], dict[str, str]] = {}
    for database, current, schema, table, column, kind in rows:
        here = {1: [(database, current)], 2: [(database, parts[0]), (parts[0], current)]}
        places = here.get(len(parts), [parts[:-1]])
        if table.casefold() == parts[-1] and (database.casefold(), schema.casefold()) in {
            tuple(p.casefold() for p in place) for place in places
        }:
            tables.setdefault((schema, table), {})[column] = kind
    for (schema, table), columns in tables.items():
        return _Found(schema, table, columns)
    known = sorted({table for _, _, _, table, _, _ in rows})
    hint = did_you_mean(parts[-1], known) or (f" There are {listing(known)}." if known else "")
    plain = ".".join(name_parts(named.name))
    raise QueryError(f"there is no table `{plain}` in this database.{hint}", named.span)


def _faults(missing: int, repeated: int) -> str:
    said = [f"it has {missing:,} NULL"] * bool(missing)
    said += [f"{_rows(repeated)} {'has' if repeated == 1 else 'have'} the value of another"] * bool(
        repeated
    )
    return " and ".join(said)


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number:,} rows"


def _quoted(name: str) -> str:
    return f'"{quote(name)}"'
