"""Brings the tables of a data set into a database, with what is known of their keys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import duckdb

from relann.declarations import DeclaredColumn, DeclaredForeignKey
from relann.discovery import discover
from relann.duckdb_errors import duckdb_error_text
from relann.errors import DataError, EngineError, did_you_mean, listing
from relann.manifest import FILE, Manifest, ManifestTable, read_manifest
from relann.schema import name_parts, quote
from relann.session import Session, connect

_READERS = {
    ".parquet": "read_parquet({})", ".csv": "read_csv({})", ".csv.gz": "read_csv({})",
    ".tsv": "read_csv({})",
}  # fmt: skip
_SERVER = re.compile(r"(postgres(?:ql)?|mysql)(?:://|:)")
_DATABASES = {".duckdb": "duckdb", ".db": "", ".ddb": "duckdb", ".sqlite": "sqlite",
              ".sqlite3": "sqlite"}  # fmt: skip
_RELBENCH_NAME = re.compile(r"[\w.-]+(?:/[\w.-]+)*")


def load(source: str | Path, into: Session | duckdb.DuckDBPyConnection | None = None) -> Session:
    """A session in whose current schema the tables of a data set are, all of them or none.

    `source` is a RelBench folder (manifest.yaml, db/*.parquet), whose keys, times and foreign keys
    are declared with origin 'manifest'; a folder of Parquet and CSV files, a table each; a DuckDB
    or SQLite file or a PostgreSQL address (`postgres://…`), whose tables are copied and, from
    DuckDB, what is known of their keys is declared; or the name of a RelBench data set, which the
    package relbench finds (`pip install 'relann[relbench]'`) and downloads once. What is neither
    given nor declared is inferred; SHOW SCHEMA shows it. `into` is a new database in memory by
    default. Types and the order of rows are kept.

    Raises DataError for what cannot be read, for a manifest that does not fit its tables and for a
    table that is there already; EngineError where a package, an extension or the network is
    missing.
    """
    session = (
        into if isinstance(into, Session) else connect(into if into is not None else ":memory:")
    )
    try:
        _load(source, session)
    except BaseException:
        if into is None:
            session.close()
        raise
    return session


def _load(source: str | Path, session: Session) -> None:
    path, text = Path(source).expanduser(), str(source)
    if path.is_dir():
        if (path / FILE).is_file():
            _load_manifest(read_manifest(path), session)
        else:
            _load_files(path, session)
    elif path.is_file() and path.suffix.lower() in _DATABASES:
        _load_database(str(path), _DATABASES[path.suffix.lower()], path.stem, session)
    elif server := _SERVER.match(text):
        _load_database(text, server[1].replace("postgresql", "postgres"), "the server", session)
    elif path.is_file():
        raise DataError(
            f"{source} is neither a folder nor a database ({listing(_DATABASES)}); load the folder "
            "of a Parquet or CSV file, or read the file itself in any query"
        )
    elif isinstance(source, str) and _RELBENCH_NAME.fullmatch(source):
        _load_manifest(read_manifest(_relbench_folder(source)), session)
    else:
        raise DataError(f"there is no folder or file {source}")


def _load_manifest(manifest: Manifest, session: Session) -> None:
    names = [table.name for table in manifest.tables]
    refuse_present(session.connection, names, manifest.name)
    with session.store.transaction():
        for table in manifest.tables:
            _create(session.connection, table.name, "read_parquet({})", manifest.file(table.name))
        ((schema,),) = session.connection.execute("SELECT current_schema()").fetchall()
        columns: list[DeclaredColumn] = []
        foreign: list[DeclaredForeignKey] = []
        for table in manifest.tables:
            _check(session.connection, manifest, table)
            for fact, column in (("key", table.key), ("time", table.time)):
                columns.append(DeclaredColumn(schema, table.name, fact, column, "manifest"))
            keys = {t.name: t.key for t in manifest.tables}
            foreign += [
                DeclaredForeignKey(schema, table.name, c, schema, to, keys[to], "manifest")
                for c, to in table.foreign.items()
            ]
            # the manifest has all of them: what it does not list is none
            foreign += [
                DeclaredForeignKey(schema, table.name, c, None, None, None, "manifest")
                for c in _columns(session.connection, table.name)
                if c not in table.foreign
            ]
        session.store.declare(columns, foreign)


def _check(connection: duckdb.DuckDBPyConnection, manifest: Manifest, table: ManifestTable) -> None:
    """Raise DataError where a manifest does not fit the table that was read."""
    columns = _columns(connection, table.name)
    for column in filter(None, [table.key, table.time, *table.foreign]):
        if column not in columns:
            raise DataError(
                f"the manifest of {manifest.name} names `{table.name}.{column}`, which is no "
                f"column.{did_you_mean(column, columns)}"
            )
    keys = {t.name: t.key for t in manifest.tables}
    for column, to in table.foreign.items():
        if keys.get(to) is None:
            lacks = "has no key" if to in keys else "is no table"
            raise DataError(
                f"the manifest of {manifest.name} lets `{table.name}.{column}` refer to `{to}`, "
                f"which {lacks}.{did_you_mean(to, keys)}"
            )
    if table.key is not None:
        key = f'"{quote(table.key)}"'
        ((extra,),) = connection.execute(
            f'SELECT count(*) - count(DISTINCT {key}) FROM "{quote(table.name)}"'
        ).fetchall()
        if extra:
            raise DataError(
                f"`{table.key}` is the key of `{table.name}` in the manifest of {manifest.name}, "
                f"but {extra:,} of its values repeat or are NULL"
            )


def _load_files(folder: Path, session: Session) -> None:
    files: dict[str, tuple[str, Path]] = {}
    for file in sorted(folder.iterdir()):
        for suffix, reader in _READERS.items():
            if file.is_file() and file.name.lower().endswith(suffix):
                name = file.name[: -len(suffix)]
                if name.casefold() in {n.casefold() for n in files}:
                    raise DataError(f"{folder} has two files for the table `{name}`")
                files[name] = (reader, file)
    if not files:
        raise DataError(f"{folder} has neither {FILE} nor a file that ends in {listing(_READERS)}")
    refuse_present(session.connection, list(files), str(folder))
    with session.store.transaction():
        for name, (reader, file) in files.items():
            _create(session.connection, name, reader, file)


def _load_database(address: str, kind: str, what: str, session: Session) -> None:
    connection, alias = session.connection, "relann_loading"
    options = f"(READ_ONLY{f', TYPE {kind}' if kind else ''})"
    try:
        connection.execute(f"ATTACH '{_escaped(address)}' AS {alias} {options}")
    except (duckdb.IOException, duckdb.HTTPException, duckdb.CatalogException) as error:
        if "extension" in str(error).lower():
            raise EngineError(
                f"DuckDB reads {kind or 'this'} databases with an extension that is not here and "
                f"could not be installed: {duckdb_error_text(error)}"
            ) from error
        raise DataError(f"cannot open {what}: {duckdb_error_text(error)}") from error
    except duckdb.Error as error:
        raise DataError(f"cannot open {what}: {duckdb_error_text(error)}") from error
    try:
        _copy(session, alias, what)
    finally:
        connection.execute(f"DETACH {alias}")


def _copy(session: Session, alias: str, what: str) -> None:
    """Tables of an attached database's main schema, and what is known but not inferred of them."""
    connection = session.connection
    ((database, schema),) = connection.execute(
        "SELECT current_database(), current_schema()"
    ).fetchall()
    connection.execute(f"USE {alias}")
    try:
        found = discover(connection)
    finally:
        connection.execute(f'USE "{quote(database)}"."{quote(schema)}"')
    tables = {name_parts(n)[0]: r for n, r in found.relations.items() if len(name_parts(n)) == 1}
    if not tables:
        raise DataError(f"{what} has no tables")
    refuse_present(connection, list(tables), what)
    columns: list[DeclaredColumn] = []
    foreign: list[DeclaredForeignKey] = []
    for name, relation in tables.items():
        origins = {fact: o for fact, o in relation.origins if o != "inferred"}
        for fact, column in (("key", relation.key), ("time", relation.time)):
            if fact in origins:
                columns.append(DeclaredColumn(schema, name, fact, column))
        for key in relation.foreign:
            to = name_parts(key.table)
            if key.column in origins and len(to) == 1:
                foreign.append(
                    DeclaredForeignKey(schema, name, key.column, schema, to[0], key.references)
                )
    with session.store.transaction():
        for name in tables:
            _run(connection, f'CREATE TABLE "{quote(name)}" AS FROM {alias}."{quote(name)}"', name)
        session.store.declare(columns, foreign)


def _relbench_folder(name: str) -> Path:
    try:
        relbench = import_module("relbench")
    except ModuleNotFoundError as error:
        raise EngineError(
            f"there is no folder or file {name}, and RelBench's data sets come with the package "
            "relbench, which is not installed: pip install 'relann[relbench]'"
        ) from error
    try:
        return Path(relbench.load_dataset(name).dataset_dir)
    except (OSError, ValueError) as error:
        raise EngineError(
            f"relbench cannot get the data set {name}; is the name right, and is there a network? "
            f"It says: {error}"
        ) from error


def refuse_present(connection: duckdb.DuckDBPyConnection, names: Sequence[str], what: str) -> None:
    """Raise DataError if tables of these names are there; `what` was to be loaded."""
    here = "(database_name = current_database() AND schema_name = current_schema() OR temporary)"
    found = connection.execute(
        f"SELECT table_name FROM duckdb_tables() WHERE {here} "
        f"UNION ALL SELECT view_name FROM duckdb_views() WHERE NOT internal AND {here}"
    ).fetchall()
    present = {str(name).casefold() for (name,) in found}
    if taken := [name for name in names if name.casefold() in present]:
        raise DataError(
            f"the database already has {listing(taken)}; load {what} into an empty database or "
            "schema"
        )


def _create(connection: duckdb.DuckDBPyConnection, name: str, reader: str, file: Path) -> None:
    source = reader.format(f"'{_escaped(str(file))}'")
    _run(connection, f'CREATE TABLE "{quote(name)}" AS FROM {source}', str(file))


def _run(connection: duckdb.DuckDBPyConnection, sql: str, what: str) -> None:
    try:
        connection.execute(sql).fetchall()
    except duckdb.Error as error:
        raise DataError(f"{what} cannot be read: {duckdb_error_text(error)}") from error


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    return [row[0] for row in connection.execute(f'DESCRIBE FROM "{quote(table)}"').fetchall()]


def _escaped(text: str) -> str:
    return text.replace("'", "''")
